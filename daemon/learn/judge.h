/* judge.h -- how good one model is: every correction is scored by the live version before it is
 * learned (kernels/measure/evaluation.h; of kind multi evaluation_sets.h), and detectors watch
 * those scores, and a sample of the questions, for drift (kernels/measure/drift.h).
 *
 * What is scored: the first event "label" on a text that the head does not hold. A second vote on a
 * known text says nothing about the model. A round is scored as a whole by the version that was
 * live before it, so in an import (LEARNED_ROUND_EVENTS) the later half is judged without the
 * first. Of kind multi the truth is the example's set as the round leaves it.
 *
 * Threads: the learner's. It never fails a round: what cannot be counted is not counted.
 */
#ifndef LEARND_JUDGE_H
#define LEARND_JUDGE_H

#include "daemon/learn/figures.h"
#include "daemon/learn/touched.h"
#include "daemon/serve/asked.h"
#include "kernels/measure/drift.h"
#include "kernels/measure/evaluation.h"
#include "kernels/measure/evaluation_sets.h"

struct judge;

struct judge_settings {
    uint32_t dim;  /* of embeddings */
    uint64_t seed; /* the model's */
    bool multi;    /* its kind */
};

/* An event "label" of a stretch of the journal. */
struct judge_event {
    int64_t seq;
    uint8_t example[STORE_ID_BYTES];
    uint32_t column; /* that its label means now; not used of kind multi */
    char annotator[STORE_NAME_BYTES_MAX + 1];
};

struct judge_events {
    uint32_t len, max;
    struct judge_event *rows; /* owned, ascending by seq */
};

/* 0, -ENOMEM. */
int judge_open(const struct judge_settings *settings, struct judge **ret_judge);
void judge_close(struct judge *judge);

/* Scores the events against what the learned answers with before the round: the live snapshot, or a
 * shadow's own. judge NULL: nothing is counted, no more than outcomes is noted; of a candidate
 * nothing. */
void judge_score(struct judge *judge, const struct learned *learned,
                 const struct learner_parts *parts, const struct touched *touched,
                 const struct judge_events *events, struct learned_round *round);

/* Watches a question. */
void judge_ask(struct judge *judge, const struct learned *learned,
               const struct learner_parts *parts, const struct asked_row *row);

/* From now on questions come with embeddings of another encoder. */
void judge_encoder_changed(struct judge *judge);

/* 0, -ENOMEM. The caller frees *ret_report and *ret_sets, which is NULL of kind single. */
int judge_report(const struct judge *judge, struct evaluation_report **ret_report,
                 struct evaluation_sets_report **ret_sets, struct drift_report *ret_drift);
/* The few of /metrics; accuracy and F1 of what is stored come from the last fit's examples. 0,
 * -ENOMEM. */
int judge_figures(const struct judge *judge, const struct head *head, struct figures *figures);
/* The same of the last fit's examples, each scored without itself. 0, -ENOMEM. */
int judge_loo_report(const struct head *head, struct evaluation_report **ret_report);

/* Forgets a person's name; what it counted stays, as somebody's. */
void judge_forget(struct judge *judge, const char *annotator);

/* Its parts as images, kept beside the head's. */
enum { JUDGE_EVALUATION, JUDGE_DRIFT, JUDGE_SETS, JUDGE_PARTS };
size_t judge_image_bytes(const struct judge *judge, int part); /* 0: it has no such part */
void judge_image_write(const struct judge *judge, int part, void *image);
/* 0, -EINVAL, -ENOMEM. */
int judge_image_read(const struct judge_settings *settings, const void *const images[JUDGE_PARTS],
                     const size_t bytes[JUDGE_PARTS], struct judge **ret_judge);

#endif
