/* measure_fixture.c -- see measure_fixture.h. */
#include "tests/unit/measure_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

uint64_t fixture_draw(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
}

double fixture_uniform(uint64_t *state)
{
    return (double)(fixture_draw(state) >> 11) / 9007199254740992.0;
}

double fixture_normal(uint64_t *state)
{
    double u = 1 - fixture_uniform(state);

    return sqrt(-2 * log(u)) * cos(2 * M_PI * fixture_uniform(state));
}

void fixture_history(struct history *h, uint64_t seed)
{
    bool seen[HISTORY_LABELS] = {false};
    uint32_t known = 0;

    h->len = HISTORY_ROWS;
    for (uint32_t i = 0; i < HISTORY_ROWS; i++) {
        struct evaluation_row *r = &h->rows[i];
        uint32_t open = 1 + i / 100 < HISTORY_LABELS ? 1 + i / 100 : HISTORY_LABELS;

        *r = (struct evaluation_row){
            .seq = 10 + 3 * (int64_t)i, .labels_known = known, .predicted = EVALUATION_NONE};
        r->truth = (uint32_t)(fixture_draw(&seed) % open);
        r->known = seen[r->truth];
        r->novel = fixture_uniform(&seed) < 0.05;
        r->abstained = fixture_uniform(&seed) < 0.1;
        snprintf(h->names[i], sizeof h->names[i], "a%u", (unsigned)(fixture_draw(&seed) % 5));
        r->annotator = fixture_draw(&seed) % 4 == 0 ? NULL : h->names[i];
        if (known > 0) {
            r->predicted = (uint32_t)(fixture_draw(&seed) % HISTORY_LABELS);
            if (r->known && fixture_uniform(&seed) < 0.7)
                r->predicted = r->truth;
            while (!seen[r->predicted])
                r->predicted = (r->predicted + 1) % HISTORY_LABELS;
            r->p_predicted = 0.3 + 0.7 * fixture_uniform(&seed);
            r->p_truth = r->predicted == r->truth ? r->p_predicted
                         : r->known               ? (1 - r->p_predicted) * fixture_uniform(&seed)
                                                  : 0;
            r->p_squares = r->p_predicted * r->p_predicted +
                           (r->predicted == r->truth ? 0 : r->p_truth * r->p_truth);
        }
        if (!seen[r->truth]) {
            seen[r->truth] = true;
            known++;
        }
    }
}

struct evaluation *fixture_evaluation(const struct history *h, uint32_t len)
{
    struct evaluation *e;

    assert_int_equal(evaluation_open(&e), 0);
    assert_int_equal(evaluation_labels_grow(e, HISTORY_LABELS), 0);
    for (uint32_t i = 0; i < len; i++)
        assert_int_equal(evaluation_score(e, &h->rows[i]), 0);
    return e;
}

struct evaluation_report *fixture_report(const struct evaluation *e)
{
    struct evaluation_report *r;

    assert_int_equal(evaluation_read(e, 1000, &r), 0);
    return r;
}

struct drift *fixture_drift(uint32_t dim)
{
    struct drift_settings settings = drift_settings_default;
    struct drift *d;

    settings.dim = dim;
    settings.seed = 11;
    assert_int_equal(drift_open(&settings, &d), 0);
    assert_int_equal(drift_labels_grow(d, FIXTURE_LABELS), 0);
    return d;
}
