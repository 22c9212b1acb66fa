/* figures.h -- the few numbers of each model that /metrics shows, in a place of their own, so that
 * a page never waits for the learner, who counts them.
 *
 * The learner sets a model's row when its counts have changed, once a second at most (learner.c);
 * whoever asks gets copies under a short lock. One row a model: nothing here grows with labels,
 * annotators or traffic.
 */
#ifndef LEARND_FIGURES_H
#define LEARND_FIGURES_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/serve/live.h"
#include "kernels/measure/drift.h"

/* NAN: not counted, or nothing to count from. */
struct figures {
    int64_t model;
    char name[LIVE_NAME_BYTES];
    uint64_t examples, suspects;
    /* Corrections, scored before they were learned; kind multi: accuracy is the exact match. */
    uint64_t rows;
    double accuracy_fading, accuracy_window, macro_f1, micro_f1, hamming_loss, ece, brier, novel;
    /* Stored examples, each without itself. */
    double loo_accuracy, loo_macro_f1, loo_ece, loo_brier;
    /* The sample of the questions: rates of the last 500. */
    uint64_t asked;
    double asked_novel, asked_abstained;
    uint64_t alarms[DRIFT_KINDS];
    int64_t error_alarm_seq; /* of the last one of the error that new labels do not explain; 0 */
};

struct figures_table;

/* 0, -ENOMEM. */
int figures_open(struct figures_table **ret_table);
void figures_close(struct figures_table *table);
/* Sets the row of figures->model. 0, -ENOMEM: it stays as it was. The learner's thread. */
int figures_set(struct figures_table *table, const struct figures *figures);
void figures_remove(struct figures_table *table, int64_t model);
/* Up to max rows, by model; returns how many. Any thread. */
uint32_t figures_read(struct figures_table *table, uint32_t max, struct figures *ret_rows);

#endif
