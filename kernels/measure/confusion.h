/* confusion.h -- which label was taken for which, in fixed memory: exact up to CONFUSION_PAIRS_MAX
 * different pairs, then the Space-Saving summary of Metwally, Agrawal, El Abbadi (ICDT 2005).
 * Private to kernels/measure.
 *
 * A full table gives the place of its rarest pair (the first of equals, in table order) to a new
 * one, which starts at that pair's count and remembers it as its `error`. So a pair's true count
 * lies in [rows - error, rows], and a pair that makes up more than 1/CONFUSION_PAIRS_MAX of all
 * confusions is in the table. The table is a function of the sequence of pairs; as a set of counts,
 * while nothing was evicted, of the set.
 */
#ifndef LEARND_CONFUSION_H
#define LEARND_CONFUSION_H

#include "kernels/measure/packing.h"

enum {
    CONFUSION_PAIRS_MAX = 4096, /* 96 KB */
    CONFUSION_SLOTS = 2 * CONFUSION_PAIRS_MAX,
};

struct confusion_pair {
    uint32_t truth, predicted; /* columns, different */
    uint64_t rows, error;
};

struct confusion {
    uint32_t len;
    struct confusion_pair pairs[CONFUSION_PAIRS_MAX];
    uint16_t slots[CONFUSION_SLOTS]; /* open addressing, linear: 1 + place in pairs, 0 empty */
};

/* truth != predicted. `c` starts as all zero bytes. */
void confusion_add(struct confusion *c, uint32_t truth, uint32_t predicted);
void confusion_pack(const struct confusion *c, struct pack *p);
/* Into an empty table. *ret_rows: sum of all counts. */
void confusion_unpack(struct confusion *c, struct unpack *u, uint32_t labels_len,
                      uint64_t *ret_rows);

#endif
