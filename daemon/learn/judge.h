/* judge.h -- how good one model is: every correction is scored by the live version before it is
 * learned (kernels/measure/evaluation.h), and detectors watch those scores for drift.
 *
 * What is scored: the first event "label" on a text that the head does not hold. A second vote on a
 * known text says nothing about the model. A round is scored as a whole by the version that was
 * live before it, so in an import (LEARNED_ROUND_EVENTS) the later half is judged without the
 * first.
 *
 * Threads: the learner's. It never fails a round: what cannot be counted is not counted.
 */
#ifndef LEARND_JUDGE_H
#define LEARND_JUDGE_H

#include "daemon/learn/touched.h"
#include "kernels/measure/drift.h"
#include "kernels/measure/evaluation.h"

struct judge;

/* An event "label" of a stretch of the journal. */
struct judge_event {
    int64_t seq;
    uint8_t example[STORE_ID_BYTES];
    uint32_t column; /* that its label means now */
    char annotator[STORE_NAME_BYTES_MAX + 1];
};

struct judge_events {
    uint32_t len, max;
    struct judge_event *rows; /* owned, ascending by seq */
};

/* 0, -ENOMEM. dim: of embeddings; seed: the model's. */
int judge_open(uint32_t dim, uint64_t seed, struct judge **ret_judge);
void judge_close(struct judge *judge);

/* Scores the events against what the learned answers with before the round: the live snapshot, or a
 * shadow's own. judge NULL: nothing is counted, no more than outcomes is noted; of a candidate
 * nothing. */
void judge_score(struct judge *judge, const struct learned *learned,
                 const struct learner_parts *parts, const struct touched *touched,
                 const struct judge_events *events, struct learned_round *round);

/* 0, -ENOMEM. The caller frees *ret_report. */
int judge_report(const struct judge *judge, struct evaluation_report **ret_report,
                 struct drift_report *ret_drift);
/* The same of the last fit's examples, each scored without itself. 0, -ENOMEM. */
int judge_loo_report(const struct head *head, struct evaluation_report **ret_report);

/* Forgets a person's name; what it counted stays, as somebody's. */
void judge_forget(struct judge *judge, const char *annotator);

/* An image of both parts, kept beside the head's. */
size_t judge_image_bytes(const struct judge *judge);
void judge_image_write(const struct judge *judge, void *image);
/* 0, -EINVAL, -ENOMEM. */
int judge_image_read(uint32_t dim, uint64_t seed, const void *image, size_t image_bytes,
                     struct judge **ret_judge);

#endif
