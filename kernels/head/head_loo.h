/* head_loo.h -- leave-one-out of any examples: what the head would say of a stored text had it
 * never seen it. Part of head.h, which brings it along; the closed forms stand in scores.c.
 *
 * In everything that follows from the set (ridge, LDA, prototypes, neighbours) this equals teaching
 * all the other examples and asking, to rounding. The fitted numbers (pool, calibration,
 * thresholds, novelty's scale) are those of the last head_fit, and so is the count score: it would
 * give the label away.
 */
#ifndef LEARND_HEAD_LOO_H
#define LEARND_HEAD_LOO_H

#include "kernels/head/head.h"

enum head_loo_state {
    HEAD_LOO_SCORED,
    HEAD_LOO_ABSENT, /* the head has no such example */
    HEAD_LOO_LAST, /* HEAD_SINGLE: the only example of its label, which then cannot be predicted */
    HEAD_LOO_SOFT, /* HEAD_SINGLE: its target is shared out, there is no one label to hit */
};

/* Only `state` means something unless it is HEAD_LOO_SCORED. */
struct head_loo_item {
    enum head_loo_state state;
    uint32_t label, predicted; /* HEAD_MULTI: the strongest target (UINT32_MAX: it has none) and the
                                  most probable label */
    bool right; /* predicted == label; HEAD_MULTI: the chosen set is the target set */
    /* Of the label and of the guess, and the sum of squares over all labels. HEAD_MULTI: of the
     * target set and the chosen set, and over all sets, as if labels were independent. */
    double p_label, p_predicted, p_squares;
    /* Novelty of the example, and what it would be were its label unknown: from the best ridge
     * score of other labels, and the nearest examples that share no label with it. NAN: no novelty
     * fitted, or nothing of other labels. */
    double novelty_known, novelty_unknown;
    /* HEAD_MULTI: labels of the target set, of the chosen set, of both. A label of which this is
     * the last example is in neither. */
    uint32_t wanted, chosen, hits;
};

/* One item an id, in the caller's order. 0, -ENOMEM, -EDOM; -EAGAIN: the state is behind its
 * examples after a failed change, head_fit mends it. Memory: 10 MB at M = 1024 and 150 labels. */
int head_loo(const struct head *head, const struct head_id *ids, uint32_t len,
             struct head_loo_item *ret_items);

/* HEAD_MULTI: the same with each decision, (len,L): HEAD_LOO_WANTED and HEAD_LOO_CHOSEN. Zeros
 * where nothing was scored. -EINVAL: the head is HEAD_SINGLE. */
enum { HEAD_LOO_WANTED = 1, HEAD_LOO_CHOSEN = 2 };
int head_loo_sets(const struct head *head, const struct head_id *ids, uint32_t len,
                  struct head_loo_item *ret_items, uint8_t *ret_decisions);

#endif
