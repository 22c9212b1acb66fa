/* replay.h -- the journal once more, event by event, into whatever tables vote and opinion are.
 * Private to store/.
 */
#ifndef LEARND_REPLAY_H
#define LEARND_REPLAY_H

#include "store/store.h"

/* What an event of the journal does to the votes of an example that is there, and nothing else. */
struct store_replay {
    int64_t number, seq;
    enum store_op op;
    const char *annotator;
    double weight;
    bool multi;
    int64_t *labels; /* (labels_len) */
    uint32_t labels_len;
};
int store_votes_replay(struct store *store, const struct store_replay *replay);
/* label_life.c: the votes on one label of the examples that an event touched become votes on
 * another. */
int store_votes_move(struct store *store, int64_t seq, int64_t from, int64_t to);

#endif
