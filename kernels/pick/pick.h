/* pick.h -- which of many texts a person should label next.
 *
 * Part of the list is drawn evenly from all candidates, whatever they scored: only on such texts
 * may one measure how good the model is. The rest are taken greedily for what a label would teach:
 *
 *     worth = max(doubt, strangeness), at least PICK_WORTH_MIN
 *     next  = the candidate with the largest worth * distance to what is on the list already
 *
 * where strangeness is novelty squashed so that the model's threshold is one half, and distance is
 * 1 - cosine. So two texts that are nearly the same are never proposed for their worth together.
 *
 * Pure: the same candidates, settings and seed give the same picks. Any thread.
 */
#ifndef LEARND_PICK_H
#define LEARND_PICK_H

#include <stdint.h>

#define PICK_WORTH_MIN 0.01 /* so that among the certain and familiar distance still decides */
#define PICK_NEAR 0.02      /* distance below which two texts are nearly the same */

enum pick_why { PICK_RANDOM, PICK_UNCERTAIN, PICK_NOVEL, PICK_DIVERSE };

struct pick_settings {
    uint32_t dim;
    uint32_t limit;      /* picks wanted */
    double random_share; /* 0 .. 1 of limit; the part of one that is left is drawn too */
    double novelty_max;  /* the model's threshold; INFINITY: it has none, nothing is strange */
    uint64_t seed;
};

struct pick {
    uint32_t candidate;
    enum pick_why why; /* PICK_DIVERSE: worth alone would not have brought it on the list */
};

/* embeddings (N,dim) fp16 of unit length; doubt (N) 0 .. 1, novelty (N). ret_picks (limit): greedy
 * picks in their order with random ones strewn in evenly. *ret_len is less than limit when
 * candidates run out, or all that is left is near to what is listed. 0, -ENOMEM. */
int pick_next(const uint16_t *embeddings, const float *doubt, const float *novelty, uint32_t N,
              const struct pick_settings *settings, struct pick *ret_picks, uint32_t *ret_len);

#endif
