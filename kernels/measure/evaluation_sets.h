/* evaluation_sets.h -- how good a model of kind multi is, counted: each row is a set of labels that
 * was taught against the set that was guessed, either perhaps empty. The counterpart of
 * evaluation.h, whose measures are of one label against another.
 *
 * Right means: the same set. Besides that every label is a decision of its own: micro-F1 weighs
 * decisions alike, macro-F1 labels (Tsoumakas, Vlahavas 2007). Sums do not depend on the order of
 * rows, fading and windows do. Memory: 1.4 KB, and 40 bytes a label. Never: a clock, a thread, a
 * log, a file. One owner at a time.
 */
#ifndef LEARND_EVALUATION_SETS_H
#define LEARND_EVALUATION_SETS_H

#include "kernels/measure/evaluation.h"

struct evaluation_sets;

struct evaluation_sets_row {
    int64_t seq;             /* of its event, above the last one's */
    const uint32_t *truth;   /* (truth_len) columns, none twice */
    const uint32_t *guessed; /* (guessed_len) likewise */
    uint32_t truth_len, guessed_len;
    uint32_t labels_known; /* labels that had an example */
    bool known;            /* all of truth had one */
    bool novel, abstained;
};

/* 0, -ENOMEM. */
int evaluation_sets_open(struct evaluation_sets **ret_sets);
void evaluation_sets_close(struct evaluation_sets *sets);
/* New columns behind the old ones; never fewer. 0, -ENOMEM, -E2BIG. */
int evaluation_sets_grow(struct evaluation_sets *sets, uint32_t labels_len);
/* Counts one row. -EALREADY: not later than the last one; -EINVAL: a column that is not there, or
 * is there twice; -EOVERFLOW. Never partly done. */
int evaluation_sets_score(struct evaluation_sets *sets, const struct evaluation_sets_row *row);

struct evaluation_sets_label {
    uint64_t taught, guessed, right;
    double precision, recall, f1;
};

/* Shares are 0..1, NAN where nothing was counted. */
struct evaluation_sets_report {
    uint64_t rows, rows_known;
    double exact_match, exact_match_low, exact_match_high; /* 95 % Wilson interval */
    double exact_match_fading, exact_match_window, exact_match_known;
    double micro_precision, micro_recall, micro_f1;
    double macro_f1;     /* of the labels that were taught or guessed */
    double hamming_loss; /* wrong decisions of all, a decision for each label known at the row */
    struct evaluation_rates rates;
    uint32_t labels_len;
    struct evaluation_sets_label *labels; /* by column */
};
/* One allocation, frozen, for the caller to free. 0, -ENOMEM. */
int evaluation_sets_read(const struct evaluation_sets *sets,
                         struct evaluation_sets_report **ret_report);
void evaluation_sets_report_free(struct evaluation_sets_report *report);

/* The portable image: little endian, versioned. */
size_t evaluation_sets_image_bytes(const struct evaluation_sets *sets);
void evaluation_sets_image_write(const struct evaluation_sets *sets, void *image);
/* 0, -EINVAL (not an image, counts that contradict each other), -ENOMEM. */
int evaluation_sets_image_read(const void *image, size_t image_bytes,
                               struct evaluation_sets **ret_sets);

#endif
