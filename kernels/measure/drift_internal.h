/* drift_internal.h -- the state behind drift.h, shared by its files. Private. */
#ifndef LEARND_DRIFT_INTERNAL_H
#define LEARND_DRIFT_INTERNAL_H

#include "kernels/measure/detectors.h"
#include "kernels/measure/drift.h"

enum { DRIFT_RECENT = 4096 }; /* corrections kept one by one, to say whose errors rose */

struct drift_label {
    uint64_t rows, wrong;            /* corrections, ever */
    int64_t first;                   /* mark of its first; rows 0: none */
    uint32_t since_rows, since_wrong;/* scratch of moved_errors */
};

struct recent {
    int64_t mark;
    uint32_t label;
    bool wrong;
};

struct drift {
    struct drift_settings settings;
    struct adwin adwin;
    struct page_hinkley ph;
    struct mix taught, asked;
    struct shift shift; /* dim 0: not used */
    uint32_t labels_len, labels_max;
    struct drift_label *labels;                 /* (labels_max), as the next two */
    struct mix_label *taught_mix, *asked_mix;
    uint64_t recent_rows; /* row i at i mod DRIFT_RECENT */
    struct recent recent[DRIFT_RECENT];
    int64_t taught_mark, asked_mark; /* last ones, INT64_MIN before */
    struct drift_report report;      /* without what drift_read adds */
};

/* Fills in which labels' errors rose since e->since, and whether new labels alone did it. e's
 * since, rows and rates are set. */
void moved_errors(struct drift *d, struct drift_event *e);
/* Which shares moved between the past and the full window: of the labels seen before, or (news) of
 * the new ones. */
void moved_shares(const struct drift *d, bool asked, bool news, struct drift_event *e);

#endif
