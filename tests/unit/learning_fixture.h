/* learning_fixture.h -- the learning half of a daemon without its sockets: tiny encoder, lanes,
 * store, keeper and, if wanted, the learner; and a way to ask what is live. One world at a time a
 * thread.
 */
#ifndef LEARND_LEARNING_FIXTURE_H
#define LEARND_LEARNING_FIXTURE_H

#include <semaphore.h>

#include "daemon/learn/learned.h"
#include "daemon/learn/learner.h"
#include "daemon/serve/lane.h"
#include "tests/unit/store_fixture.h"

enum { WORLD_LANES = 2, WORLD_LABELS = 3, WORLD_DIM_MAX = 64 };

struct world {
    char folder[FOLDER_BYTES];
    struct encoders *encoders;
    struct held_encoder *base;
    struct batcher *batcher;
    struct lane *lanes[WORLD_LANES];
    struct live *live;
    struct store *writer, *reader;
    struct keeper *keeper;
    struct learner *learner; /* NULL: not wanted */
    struct learner_parts parts;
    int64_t model;
};

/* On a folder that is there; a new one gets the model "m" with the labels of world_label(0..2). */
void world_open(struct world *w, const char *folder, bool learner);
void world_close(struct world *w);
const char *world_label(uint32_t i);
/* The i-th of an endless row of texts of a label, made of the tiny vocabulary's words. */
void world_text(uint32_t label, uint32_t i, char ret_text[64]);

/* The world's model as the learner holds it, for tests that take its place. 0 or -errno, then
 * *ret_learned is NULL. */
int world_learn(struct world *w, struct learned **ret_learned);
/* The same, and it must succeed. */
struct learned *world_learned(struct world *w);

/* Through the keeper; waits until it is durable, or applied. What done() was told. */
int world_put(struct world *w, const struct store_feedback *feedback, bool applied,
              struct store_receipt *ret_receipt);
/* Label, applied. */
struct store_receipt world_teach(struct world *w, uint32_t label, const char *text);
struct store_receipt world_delete(struct world *w, const char *text);

/* Asks the live snapshot through the lanes: probabilities in the order of world_label. Returns the
 * snapshot's seq. */
int64_t world_ask(struct world *w, const char *text, double ret_probabilities[WORLD_LABELS],
                  struct head_answer *ret_answer);

#endif
