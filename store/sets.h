/* sets.h -- what models of kind multi keep beside votes. Private to store/; see feedback.c for what
 * it means.
 */
#ifndef LEARND_SETS_H
#define LEARND_SETS_H

#include "store/store_internal.h"

struct store_opinions {
    uint32_t len;
    double weight; /* of all of them */
};
int store_opinions_read(struct store *store, int64_t number, struct store_opinions *ret_opinions);
int store_opinion_put(struct store *store, int64_t number, const char *annotator, double weight);
/* annotator "": everybody's. Sets *any if there was one, else leaves it. */
int store_opinion_drop(struct store *store, int64_t number, const char *annotator, bool *any);
/* Turns scores, which target holds, into the target of a set. */
void store_fold_set(struct store_fold *fold, const struct store_opinions *opinions);
/* Remembers the labels of a set beside target[best]; forgets the earlier ones. */
int store_also_put(struct store *store, int64_t number, const struct store_fold *fold,
                   uint32_t best);

#endif
