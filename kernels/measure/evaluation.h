/* evaluation.h -- how good a model is, counted: every correction is scored against what the model
 * said before it learned it.
 *
 * Two accumulators give the same report:
 *   struct evaluation        prequential (test, then train; Gama, Sebastiao, Rodrigues 2013): rows
 *          in order of their seq,
 *                            kept with the head as an image. Knows fading and windowed accuracy,
 *                            annotators, forgetting.
 *   struct evaluation_batch  any set of scored rows, as leave-one-out gives them; no order, nothing
 *          kept.
 * A label "known" means: it had an example when the row was scored. Never-seen labels cannot be
 * predicted, so every accuracy stands with them (`all`: what users met) and without them (`known`:
 * what the model answers for).
 *
 * Sums of probabilities are integers of 2^-32, so a report does not depend on the order of rows
 * (fading, windows, best and, past CONFUSION_PAIRS_MAX pairs, the confusions apart). Rows: up to
 * 2^26 safely within them. Memory: 230 KB, and 112 bytes a label. Never: a clock, a thread, a log,
 * a file. One owner at a time.
 */
#ifndef LEARND_EVALUATION_H
#define LEARND_EVALUATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/measure/evaluation_report.h"

enum {
    EVALUATION_LABELS_MAX = 1 << 16,
    EVALUATION_ROWS_MAX = 1 << 26, /* more are refused: -EOVERFLOW */
};

/* What counts as much as this part of the row before: memory of 1,000 rows, and of 50 of one
 * label. */
#define EVALUATION_FADE 0.999
#define EVALUATION_LABEL_FADE 0.98
/* A label's fading recall counts as its best only with this much weight behind it (11 rows); less
 * is luck. */
#define EVALUATION_BEST_WEIGHT 10.0
/* -ln p of the true label is cut here: p of a never-seen label is 0, and fp32 probabilities end
 * near this. */
#define EVALUATION_P_MIN 1e-7

struct evaluation;
struct evaluation_batch;

/* One taught example, as the model saw it before learning it. */
struct evaluation_row {
    int64_t seq;           /* of its event. The batch ignores it */
    uint32_t truth;        /* column of the taught label */
    uint32_t predicted;    /* column of the best guess; EVALUATION_NONE: no label had an example */
    uint32_t labels_known; /* labels that had an example */
    double p_predicted;    /* probabilities, 0..1: of the guess (0 with EVALUATION_NONE), */
    double p_truth;        /* of the taught label (0 if it was not known), */
    double p_squares;      /* and sum of p^2 over all labels, for the Brier score */
    bool known;            /* the taught label had an example */
    bool novel, abstained;
    const char *annotator; /* under EVALUATION_NAME_BYTES; NULL or "": nobody named. Borrowed */
};

/* 0, -ENOMEM. */
int evaluation_open(struct evaluation **ret_evaluation);
void evaluation_close(struct evaluation *evaluation);

/* New columns behind the old ones; never fewer. 0, -ENOMEM, -E2BIG (above
 * EVALUATION_LABELS_MAX). */
int evaluation_labels_grow(struct evaluation *evaluation, uint32_t labels_len);

/* Counts one row. -EALREADY: not later than the last row counted, nothing changes; so a stretch of
 * the journal that is read again is not counted again. -EINVAL: a column that is not there, a
 * probability outside 0..1, a right guess of an unknown label, a name too long; -EOVERFLOW. Never
 * partly done. */
int evaluation_score(struct evaluation *evaluation, const struct evaluation_row *row);
/* Seq of the last row counted; INT64_MIN before the first. */
int64_t evaluation_seq(const struct evaluation *evaluation);

/* Counts one answered question, of which nobody has taught the label (yet): for the rates of
 * novelty and abstention. */
void evaluation_ask(struct evaluation *evaluation, bool novel, bool abstained);

/* Forgets a person's name: what it counted moves to the others. */
void evaluation_annotator_erase(struct evaluation *evaluation, const char *annotator);

/* One allocation, frozen, for the caller to free; it may cross threads. pairs_max: at most so many
 * confusions. 0, -ENOMEM. */
int evaluation_read(const struct evaluation *evaluation, uint32_t pairs_max,
                    struct evaluation_report **ret_report);

/* The portable image: little endian, versioned. */
size_t evaluation_image_bytes(const struct evaluation *evaluation);
void evaluation_image_write(const struct evaluation *evaluation, void *image);
/* 0, -EINVAL (not an image, another version, counts that contradict each other), -ENOMEM. */
int evaluation_image_read(const void *image, size_t image_bytes,
                          struct evaluation **ret_evaluation);

/* ---- any set of rows ------------------------------------------------------------------------- */

/* 0, -ENOMEM, -E2BIG. */
int evaluation_batch_open(uint32_t labels_len, struct evaluation_batch **ret_batch);
void evaluation_batch_close(struct evaluation_batch *batch);
/* As evaluation_score, without seq and annotator. 0, -EINVAL, -EOVERFLOW. */
int evaluation_batch_add(struct evaluation_batch *batch, const struct evaluation_row *row);
int evaluation_batch_read(const struct evaluation_batch *batch, uint32_t pairs_max,
                          struct evaluation_report **ret_report);

#endif
