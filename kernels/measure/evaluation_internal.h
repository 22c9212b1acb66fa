/* evaluation_internal.h -- the counts behind evaluation.h, shared by its files. Private.
 *
 * struct tallies is what both accumulators have: sums that do not care for order. [2]: rows of
 * unknown and of known labels.
 */
#ifndef LEARND_EVALUATION_INTERNAL_H
#define LEARND_EVALUATION_INTERNAL_H

#include "kernels/measure/confusion.h"
#include "kernels/measure/evaluation.h"

#define FIXED_ONE 4294967296.0 /* 2^32 */

struct label_tally {
    uint64_t taught[2], right, predicted[2];
};

struct bin_tally {
    uint64_t rows, right, p; /* p: 2^-32 */
};

struct part_tally {
    uint64_t rows, right, brier, nll; /* the last two: 2^-32 */
    struct bin_tally bins[EVALUATION_BINS];
    struct bin_tally scores[EVALUATION_CURVE];
};

struct tallies {
    struct part_tally parts[2];
    uint64_t unanswered, chance; /* chance: 2^-32 */
    uint32_t labels_len, labels_max;
    struct label_tally *labels;
    struct confusion confusion;
};

/* The order-dependent part of a sequence of rows. */
enum { FLAG_RIGHT = 1, FLAG_NOVEL = 2, FLAG_ABSTAINED = 4 };

struct stream {
    uint64_t rows, right, novel, abstained;
    double fade, fade_weight;         /* sums of EVALUATION_FADE^age over right rows, over rows */
    uint8_t flags[EVALUATION_WINDOW]; /* row i at i mod EVALUATION_WINDOW */
};

void stream_add(struct stream *s, bool right, bool novel, bool abstained);
/* Share of the last EVALUATION_WINDOW rows that have the flag. */
double stream_window(const struct stream *s, uint8_t flag);
struct evaluation_rates stream_rates(const struct stream *s);
void stream_pack(const struct stream *s, struct pack *p);
void stream_unpack(struct stream *s, struct unpack *u);

struct label_course {
    double fade, fade_weight; /* EVALUATION_LABEL_FADE, known rows */
    double best, best_weight; /* best_weight 0: none yet */
    int64_t best_seq, first_seq, last_seq;
    uint32_t best_labels_known;
};

struct annotator_tally {
    char name[EVALUATION_NAME_BYTES];
    uint64_t rows, known, agreed;
    double fade, fade_weight; /* EVALUATION_FADE, own rows */
    int64_t last_seq;
};

struct evaluation {
    struct tallies tallies;
    struct label_course *courses; /* (tallies.labels_max) */
    struct stream all, known, asked;
    int64_t first_seq, last_seq;
    uint32_t labels_known, annotators_len;
    struct annotator_tally others, unnamed;
    struct annotator_tally annotators[EVALUATION_ANNOTATORS_MAX]; /* in order of arrival */
};

struct evaluation_batch {
    struct tallies tallies;
};

int tallies_grow(struct tallies *t, uint32_t labels_len);
/* 0, -EINVAL, -EOVERFLOW: whether the row may be added. */
int tallies_check(const struct tallies *t, const struct evaluation_row *row);
void tallies_add(struct tallies *t, const struct evaluation_row *row);
void tallies_pack(const struct tallies *t, struct pack *p);
/* Into empty tallies of labels_len labels; u fails where the counts contradict each other. */
void tallies_unpack(struct tallies *t, struct unpack *u);

uint64_t tallies_rows(const struct tallies *t);

#endif
