/* measure_fixture.h -- made rows for the tests of kernels/measure. Everything follows from a
 * seed. */
#ifndef LEARND_MEASURE_FIXTURE_H
#define LEARND_MEASURE_FIXTURE_H

#include "kernels/measure/drift.h"
#include "kernels/measure/evaluation.h"

enum {
    HISTORY_ROWS = 3000,
    HISTORY_LABELS = 12,
    FIXTURE_LABELS = 40, /* of a drift */
    FIXTURE_DIM = 24,
};

struct history {
    struct evaluation_row rows[HISTORY_ROWS];
    char names[HISTORY_ROWS][8];
    uint32_t len;
};

uint64_t fixture_draw(uint64_t *state);  /* SplitMix64 */
double fixture_uniform(uint64_t *state); /* [0, 1) */
double fixture_normal(uint64_t *state);

/* Labels come in one after the other, so that the beginning is full of unknown ones. */
void fixture_history(struct history *h, uint64_t seed);
/* Of the first len rows. */
struct evaluation *fixture_evaluation(const struct history *h, uint32_t len);
struct evaluation_report *fixture_report(const struct evaluation *e);
/* Default settings, FIXTURE_LABELS labels. */
struct drift *fixture_drift(uint32_t dim);

#endif
