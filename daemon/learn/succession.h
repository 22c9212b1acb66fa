/* succession.h -- one pair of encoder and head takes over from another, and is watched for a while.
 *
 * A model has one live pair. When a run's candidate takes over, the pair before it stays beside it
 * on probation (kernels/measure/probation.h): it goes on learning, unseen, and both are scored on
 * every correction before either learns it. If the new one is found worse, the old one is live
 * again in the same round, and the store is told why. Whoever goes back by hand ends a probation.
 *
 * Private to daemon/learn. Threads: the learner's.
 */
#ifndef LEARND_SUCCESSION_H
#define LEARND_SUCCESSION_H

#include "daemon/learn/learned.h"
#include "kernels/measure/probation.h"

/* The pair before the live one. */
struct rival {
    struct learned *shadow;
    struct probation probation;
    int64_t run;                   /* that made the live one */
    uint32_t live_len, shadow_len; /* outcomes that the other side has not told yet */
    struct learned_outcome *live, *past;
};

/* NULL is fine. */
void rival_close(struct rival *rival);

/* The candidate, which has caught up with the journal or nearly so, becomes *slot and is published;
 * it is the slot's on success. run: what made it; then the pair before is watched beside it. -1: no
 * probation, and the pair before is closed. On failure the old pair is live as before. 0, -ENOMEM,
 * a fault of the store. */
int succession_adopt(struct learned **slot, struct learned *candidate, int64_t run,
                     const struct learner_parts *parts);
/* A probation is taken up again after a restart: shadow is the slot's on success. */
int succession_watch(struct learned **slot, struct learned *shadow, int64_t run);
/* The pair on probation's other side becomes live if it is of this encoder. 0; -ENOENT: it is not
 * at hand. */
int succession_back(struct learned **slot, int64_t encoder, const struct learner_parts *parts);
/* After a round of *slot: lets the shadow learn the same, and decides. */
void succession_round(struct learned **slot, const struct learned_round *round,
                      const struct learner_parts *parts);

#endif
