/* test_measure_drift.c -- drift.h and the single detectors: by hand, against sums over the whole
 * window, on made streams, and under damage. Streams follow from printed seeds; what they show by
 * chance is bounded far from what was measured.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/measure/detectors.h"
#include "kernels/measure/drift_internal.h"
#include "kernels/measure/tails.h"
#include "tests/unit/measure_fixture.h"

static void near_by(double a, double b, double relative)
{
    if (!(fabs(a - b) <= relative * fabs(b)))
        fail_msg("%.17g is not %.17g", a, b);
}

/* ---- tails ----------------------------------------------------------------------------------- */

/* From scipy.stats 1.x: chi2.sf, f.sf. */
static void test_tails(void **state)
{
    (void)state;
    near_by(tail_chi_square(3.84, 1), 0.05004352124870519, 1e-10);
    near_by(tail_chi_square(100, 20), 1.2596084591660847e-12, 1e-10);
    near_by(tail_chi_square(400, 99), 8.372893780664211e-38, 1e-9);
    near_by(tail_chi_square(5, 10), 0.8911780189141513, 1e-10);
    near_by(tail_f(1, 5, 10), 0.46511942653780036, 1e-10);
    near_by(tail_f(3, 128, 1920), 4.089471627936934e-24, 1e-6);
    near_by(tail_f(1.5, 128, 1920), 0.0003752322226272924, 1e-8);
    near_by(tail_f(50, 2, 30), 2.803293281617644e-10, 1e-9);
    near_by(tail_f(0.2, 10, 4), 0.9821673525377229, 1e-10);
    near_by(tail_chi_square(0, 4), 1, 0);
    near_by(tail_f(0, 4, 4), 1, 0);
    assert_true(tail_chi_square(1e6, 2) == 0 && tail_f(1e300, 5, 2000) < 1e-300);
}

/* ---- ADWIN ----------------------------------------------------------------------------------- */

/* m = 1/(1/100 + 1/400) = 80, p = .2, d' = .01/ln 500. */
static void test_adwin_epsilon(void **state)
{
    double term = log(2 * log(500) / 0.01);

    (void)state;
    near_by(adwin_epsilon(0.01, 100, 400, 100), sqrt(2.0 / 80 * 0.16 * term) + 2.0 / 240 * term,
            1e-12);
}

/* Every bucket holds exactly the rows that its order and place say, whatever was cut. */
static void check_histogram(const struct adwin *a, const uint8_t *wrong, uint64_t rows)
{
    uint64_t at = rows - a->rows, sum = 0;

    for (uint32_t o = a->orders_len; o-- > 0;) {
        assert_true(a->len[o] <= ADWIN_BUCKETS);
        for (uint32_t i = 0; i < a->len[o]; i++) {
            uint64_t expected = 0;

            assert_int_equal(a->buckets[o][i].first, (int64_t)at);
            for (uint64_t k = 0; k < 1ull << o; k++)
                expected += wrong[at++];
            assert_int_equal(a->buckets[o][i].wrong, expected);
            sum += expected;
        }
    }
    assert_int_equal(at, rows);
    assert_int_equal(sum, a->wrong);
}

/* Does any border of the window, even one between two rows, differ far more than a cut needs? */
static bool overdue(const struct adwin *a, double delta, const uint8_t *wrong, uint64_t rows)
{
    uint64_t from = rows - a->rows, old = 0;

    for (uint64_t n0 = 1; n0 < a->rows; n0++) {
        double mean0, mean1;

        old += wrong[from + n0 - 1];
        mean0 = (double)old / (double)n0;
        mean1 = (double)(a->wrong - old) / (double)(a->rows - n0);
        if (fabs(mean0 - mean1) > 1.6 * adwin_epsilon(delta, n0, a->rows - n0, a->wrong))
            return true;
    }
    return false;
}

static void test_adwin_against_history(void **state)
{
    static const double rates[] = {0.3, 0.05, 0.6, 0.2};
    enum { ROWS = 8000 };
    uint8_t *wrong = malloc(ROWS);
    struct adwin *a = calloc(1, sizeof *a);
    struct adwin_cut cut;

    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        uint64_t s = seed;
        uint32_t cuts = 0;

        memset(a, 0, sizeof *a);
        for (uint64_t i = 0; i < ROWS; i++) {
            wrong[i] = fixture_uniform(&s) < rates[i / 2000];
            if (adwin_add(a, 0.002, wrong[i], (int64_t)i, &cut)) {
                cuts++;
                assert_int_equal(cut.since, (int64_t)(i + 1 - a->rows));
                assert_int_equal(cut.rows_since, a->rows);
                assert_int_equal(cut.wrong_since, a->wrong);
                assert_true(llabs(cut.since - 2000 * (int64_t)(i / 2000)) < 300);
            }
            if (i % 97 == 0)
                check_histogram(a, wrong, i + 1);
            if (i % 1999 == 1998)
                assert_false(overdue(a, 0.002, wrong, i + 1));
        }
        print_message("seed %lu: %u cuts for 3 changes\n", (unsigned long)seed, cuts);
        assert_true(cuts >= 3 && cuts <= 9);
    }
    free(a);
    free(wrong);
}

/* The last order is full: the oldest bucket goes, nothing is written past the end. */
static void test_adwin_full(void **state)
{
    struct adwin *a = calloc(1, sizeof *a);
    struct adwin_cut cut;
    uint64_t rows = 0;

    (void)state;
    a->orders_len = ADWIN_ORDERS;
    for (uint32_t o = 0; o < ADWIN_ORDERS; o++) {
        a->len[o] = ADWIN_BUCKETS;
        rows += (uint64_t)ADWIN_BUCKETS << o;
    }
    a->rows = rows;
    for (int i = 0; i < 100; i++) {
        assert_false(adwin_add(a, 0.002, false, i, &cut));
        assert_true(a->len[ADWIN_ORDERS - 1] <= ADWIN_BUCKETS);
    }
    assert_int_equal(a->rows, rows + 100 - (1ull << (ADWIN_ORDERS - 1)));
    free(a);
}

/* ---- Page-Hinkley ---------------------------------------------------------------------------- */

/* The sum is m_t - min m, computed here the long way. */
static void test_page_hinkley(void **state)
{
    struct page_hinkley ph = {0};
    double m = 0, least = 0;
    uint64_t seed = 3, wrong = 0;

    (void)state;
    for (uint64_t i = 0; i < 3000; i++) {
        bool x = fixture_uniform(&seed) < (i < 2000 ? 0.1 : 0.3);
        bool fired = page_hinkley_add(&ph, 0.15, 60, x, (int64_t)i);
        double p;

        wrong += x;
        p = ((double)wrong + 1) / ((double)i + 3);
        if (i >= PH_ROWS_MIN) {
            m += (x - p) / sqrt(p * (1 - p)) - 0.15;
            least = fmin(least, m);
        }
        assert_true(fabs(ph.sum - (m - least)) < 1e-6);
        assert_int_equal(fired, m - least > 60);
        if (fired) {
            print_message("fired at row %lu, since %ld\n", (unsigned long)i, (long)ph.since);
            assert_true(i > 2000 && llabs(ph.since - 2000) < 100);
            assert_int_equal(ph.rows_before, (uint64_t)ph.since);
            return;
        }
    }
    fail_msg("a step from .1 to .3 was not seen in 1,000 rows");
}

/* ---- labels ---------------------------------------------------------------------------------- */

/* Past 600/400, window 250/250: X2 = 500 * 1000 * .01 .. by the textbook sum over four cells. */
static void test_mix_by_hand(void **state)
{
    struct mix_label labels[3] = {{600, 250, true}, {400, 250, true}, {0, 0, false}};
    struct mix m = {.past = 1000, .window = 500};
    double table[2][2] = {{600, 250}, {400, 250}}, sums[2] = {850, 650}, sides[2] = {1000, 500};
    double x2 = 0;
    struct mix_result r = mix_look(&m, labels, 3, 0.01);

    (void)state;
    for (int c = 0; c < 2; c++)
        for (int k = 0; k < 2; k++) {
            double expected = sums[c] * sides[k] / 1500;

            x2 += (table[c][k] - expected) * (table[c][k] - expected) / expected;
        }
    assert_true(r.tested && r.moved && r.new_rows == 0);
    near_by(r.chance, tail_chi_square(x2, 1), 1e-9);
    /* 100 of the window are new: 150/250 of 400 against 600/400 is the past upside down */
    labels[0].window = 150;
    labels[2].window = 100;
    r = mix_look(&m, labels, 3, 0.01);
    assert_int_equal(r.new_rows, 100);
    assert_int_equal(r.rows_since, 400);
    assert_true(r.moved);
    /* 240/160 of 400: exactly the past */
    labels[0].window = 240;
    labels[1].window = 160;
    r = mix_look(&m, labels, 3, 0.01);
    near_by(r.chance, 1, 1e-9);
    assert_false(r.moved);
    m.past = MIX_WINDOW - 1;
    assert_false(mix_look(&m, labels, 3, 0.01).tested);
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* One teaching stream: errors, labels. Returns the events of a kind; the last one is kept. */
struct stream_case {
    double wrong_before, wrong_after;
    uint32_t swapped; /* label whose every row is wrong after the change; FIXTURE_LABELS: none */
    uint32_t fresh;   /* label that appears with the change, wrong half of the time; FIXTURE_LABELS:
                         none */
    double fresh_share;
};

static uint32_t teach(struct drift *d, const struct stream_case *c, uint64_t seed,
                      enum drift_kind kind, struct drift_event *ret_last)
{
    uint32_t fired = 0;

    for (int64_t i = 0; i < 6000; i++) {
        struct drift_event events[DRIFT_EVENTS_MAX];
        bool after = i >= 3000, fresh = after && fixture_uniform(&seed) < c->fresh_share;
        uint32_t label =
                     fresh ? c->fresh : (uint32_t)(fixture_uniform(&seed) * (FIXTURE_LABELS - 1)),
                 len;
        double wrong = fresh ? 0.9 : after ? c->wrong_after : c->wrong_before;

        if (after && label == c->swapped)
            wrong = 1;
        assert_int_equal(
            drift_teach(d, 100 + i, label, fixture_uniform(&seed) < wrong, events, &len), 0);
        assert_true(len <= DRIFT_EVENTS_MAX);
        for (uint32_t k = 0; k < len; k++) {
            assert_int_equal(events[k].at, 100 + i);
            assert_true(events[k].since <= events[k].at);
            if (events[k].kind == kind && fired++ == 0)
                *ret_last = events[k];
        }
    }
    return fired;
}

static void test_error_rises(void **state)
{
    static const struct stream_case step = {0.1, 0.3, FIXTURE_LABELS, FIXTURE_LABELS, 0};
    static const enum drift_kind kinds[] = {DRIFT_ERROR_ADWIN, DRIFT_ERROR_PH};

    (void)state;
    for (int k = 0; k < 2; k++)
        for (uint64_t seed = 1; seed <= 5; seed++) {
            struct drift *d = fixture_drift(0);
            struct drift_report r;
            struct drift_event e;

            assert_true(teach(d, &step, seed, kinds[k], &e) >= 1);
            assert_true(e.at > 3100 && e.at < 3600 && llabs(e.since - 3100) < 150);
            assert_true(e.from > 0.07 && e.from < 0.14 && e.to > 0.2 && e.to < 0.6);
            assert_true(!e.new_labels && e.moved_len == DRIFT_MOVED_MAX);
            drift_read(d, &r);
            assert_true(r.kinds[kinds[k]].rows == 6000 && r.kinds[kinds[k]].fired >= 1);
            assert_int_equal(r.kinds[DRIFT_TAUGHT_NEW].fired, 0);
            drift_close(d);
        }
}

/* A label that goes wrong is named first. */
static void test_error_names_label(void **state)
{
    static const struct stream_case swap = {0.02, 0.02, 7, FIXTURE_LABELS, 0};
    struct drift *d = fixture_drift(0);
    struct drift_event e;

    (void)state;
    assert_true(teach(d, &swap, 4, DRIFT_ERROR_ADWIN, &e) >= 1);
    print_message("since %ld at %ld: label %u from %.3f to %.3f\n", (long)e.since, (long)e.at,
                  e.moved[0].label, e.moved[0].from, e.moved[0].to);
    assert_true(e.moved_len >= 1 && e.moved[0].label == 7);
    assert_true(e.moved[0].from < 0.1 && e.moved[0].to > 0.9 && !e.new_labels);
    drift_close(d);
}

/* A burst of a new label raises the error: said so, and told as news, and not as a shift of the old
 * shares. */
static void test_new_label_told_apart(void **state)
{
    static const struct stream_case burst = {0.1, 0.1, FIXTURE_LABELS, FIXTURE_LABELS - 1, 0.3};

    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct drift *d = fixture_drift(0);
        struct drift_report r;
        struct drift_event e, news;

        assert_true(teach(d, &burst, seed, DRIFT_ERROR_ADWIN, &e) >= 1);
        assert_true(e.new_labels);
        assert_int_equal(e.moved[0].label, FIXTURE_LABELS - 1);
        assert_true(isnan(e.moved[0].from));
        drift_read(d, &r);
        assert_int_equal(r.kinds[DRIFT_TAUGHT_NEW].fired, 1);
        assert_int_equal(r.kinds[DRIFT_ERROR_ADWIN].fired_new_labels, 1);
        news = r.kinds[DRIFT_TAUGHT_NEW].last;
        assert_true(news.moved_len == 1 && news.moved[0].label == FIXTURE_LABELS - 1);
        assert_true(news.since >= 3100 && news.since < 3130 && news.from == 0);
        assert_true(news.to > 0.2 && news.to < 0.4);
        drift_close(d);
    }
}

/* No alarm: stationary, and a model that is learning; the rise after it is found all the same. */
static void test_quiet(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct drift *d = fixture_drift(0);
        struct drift_report r;
        uint64_t s = seed * 77;

        for (int64_t i = 0; i < 10000; i++) {
            struct drift_event events[DRIFT_EVENTS_MAX];
            double wrong = 0.1 + 0.8 * exp(-(double)i / 500);
            uint32_t len,
                label = (uint32_t)(fixture_uniform(&s) * fixture_uniform(&s) * FIXTURE_LABELS);

            assert_int_equal(drift_teach(d, i, label, fixture_uniform(&s) < wrong, events, &len),
                             0);
            assert_int_equal(drift_ask(d, i, NULL, label, events, &len), 0);
        }
        drift_read(d, &r);
        for (int k = 0; k < DRIFT_KINDS; k++)
            if (r.kinds[k].fired > 0 && k != DRIFT_TAUGHT_NEW)
                fail_msg("seed %lu: %s fired", (unsigned long)seed, drift_kind_name(k));
        assert_true(r.error_falls > 0);
        drift_close(d);
    }
}

static void test_mix_moves(void **state)
{
    struct drift *d = fixture_drift(0);
    struct drift_report r;
    uint64_t seed = 8;

    (void)state;
    for (int64_t i = 0; i < 4000; i++) {
        struct drift_event events[DRIFT_EVENTS_MAX];
        uint32_t label = i >= 3000 && fixture_uniform(&seed) < 0.15
                             ? 5
                             : (uint32_t)(fixture_uniform(&seed) * FIXTURE_LABELS);
        uint32_t len;

        assert_int_equal(drift_teach(d, i, label, false, events, &len), 0);
        assert_int_equal(drift_ask(d, 10 * i, NULL, label, events, &len), 0);
    }
    drift_read(d, &r);
    for (int k = DRIFT_TAUGHT_MIX; k <= DRIFT_ASKED_MIX; k += DRIFT_ASKED_MIX - DRIFT_TAUGHT_MIX) {
        const struct drift_event *e = &r.kinds[k].last;

        assert_int_equal(r.kinds[k].fired, 1);
        assert_int_equal(e->since, k == DRIFT_TAUGHT_MIX ? 3000 : 30000);
        assert_int_equal(e->at, k == DRIFT_TAUGHT_MIX ? 3499 : 34990);
        assert_int_equal(e->moved[0].label, 5);
        assert_true(e->from < 0.05 && e->to > 0.1 && e->chance < 1e-6);
        assert_int_equal(r.kinds[k].window,
                         1000); /* the past began anew with the window that moved */
    }
    drift_close(d);
}

/* ---- features -------------------------------------------------------------------------------- */

/* Against T2 computed the long way: covariance, its inverse by Gauss-Jordan, in FIXTURE_DIM
 * dimensions (no projection). */
static double long_way(float (*x)[FIXTURE_DIM], uint32_t m, uint32_t n)
{
    static double c[FIXTURE_DIM][2 * FIXTURE_DIM];
    double mean[FIXTURE_DIM] = {0}, d[FIXTURE_DIM] = {0}, t2 = 0;

    for (uint32_t r = 0; r < m; r++)
        for (int i = 0; i < FIXTURE_DIM; i++)
            mean[i] += x[r][i] / (double)m;
    memset(c, 0, sizeof c);
    for (uint32_t r = 0; r < m; r++)
        for (int i = 0; i < FIXTURE_DIM; i++)
            for (int k = 0; k < FIXTURE_DIM; k++)
                c[i][k] += (x[r][i] - mean[i]) * (x[r][k] - mean[k]) / (m - 1.0);
    for (uint32_t r = m; r < m + n; r++)
        for (int i = 0; i < FIXTURE_DIM; i++)
            d[i] += (x[r][i] - mean[i]) / n;
    for (int i = 0; i < FIXTURE_DIM; i++)
        c[i][FIXTURE_DIM + i] = 1;
    for (int i = 0; i < FIXTURE_DIM; i++) {
        double pivot = c[i][i];

        for (int k = 0; k < 2 * FIXTURE_DIM; k++)
            c[i][k] /= pivot;
        for (int r = 0; r < FIXTURE_DIM; r++) {
            double by = c[r][i];

            for (int k = 0; r != i && k < 2 * FIXTURE_DIM; k++)
                c[r][k] -= by * c[i][k];
        }
    }
    for (int i = 0; i < FIXTURE_DIM; i++)
        for (int k = 0; k < FIXTURE_DIM; k++)
            t2 += d[i] * c[i][FIXTURE_DIM + k] * d[k];
    t2 /= 1.0 / m + 1.0 / n;
    return tail_f(t2 * (m - FIXTURE_DIM) / (FIXTURE_DIM * (m - 1.0)), FIXTURE_DIM, m - FIXTURE_DIM);
}

static void test_features_long_way(void **state)
{
    enum { ROWS = SHIFT_REFERENCE + SHIFT_WINDOW };
    float(*x)[FIXTURE_DIM] = malloc(ROWS * sizeof *x);
    struct shift s;
    struct shift_result r = {0};
    uint64_t seed = 6;

    (void)state;
    assert_int_equal(shift_init(&s, FIXTURE_DIM, 1), 0);
    for (uint32_t row = 0; row < ROWS; row++) {
        double common = fixture_normal(&seed);

        for (int i = 0; i < FIXTURE_DIM; i++)
            x[row][i] = (float)(common + (1 + i) * fixture_normal(&seed) +
                                (row >= SHIFT_REFERENCE && i == 0 ? 0.15 : 0));
        assert_int_equal(shift_add(&s, 1e-6, x[row], row, &r), 0);
        assert_int_equal(r.tested, row == ROWS - 1);
    }
    near_by(r.chance, long_way(x, SHIFT_REFERENCE, SHIFT_WINDOW),
            1e-3); /* the millionth on the diagonal */
    print_message("chance %.4g\n", r.chance);
    assert_true(r.chance > 1e-12 && r.chance < 0.9);
    shift_done(&s);
    free(x);
}

/* Half of the coordinates shift a little after row `change`; the row of the first alarm, or 0. */
static int64_t features(uint32_t dim, double by, int64_t change, int64_t rows, uint64_t seed,
                        struct drift_event *ret_event)
{
    struct drift *d = fixture_drift(dim);
    float x[300];
    int64_t fired = 0;

    for (int64_t i = 0; i < rows && fired == 0; i++) {
        struct drift_event events[DRIFT_EVENTS_MAX];
        uint32_t len;

        for (uint32_t k = 0; k < dim; k++)
            x[k] = (float)(fixture_normal(&seed) / 16 + (i >= change && k % 2 == 0 ? by / 16 : 0));
        assert_int_equal(drift_ask(d, i, x, DRIFT_NONE, events, &len), 0);
        if (len > 0) {
            assert_int_equal(events[0].kind, DRIFT_ASKED_FEATURES);
            *ret_event = events[0];
            fired = i;
        }
    }
    drift_close(d);
    return fired;
}

static void test_features_shift(void **state)
{
    struct drift_event e;

    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        assert_int_equal(features(FIXTURE_DIM, 0.3, 4096, 6000, seed, &e), 4096 + SHIFT_WINDOW - 1);
        assert_int_equal(e.since, 4096);
        assert_true(e.chance < 1e-6 && e.to > 0.03 && e.to < 0.1); /* .3/16 sqrt(12) = .065 */
        assert_int_equal(features(300, 0.3, 4096, 6000, seed, &e), 4096 + SHIFT_WINDOW - 1);
        assert_int_equal(features(FIXTURE_DIM, 0, 0, 10000, seed, &e), 0);
        assert_int_equal(features(300, 0, 0, 6000, seed, &e), 0);
    }
}

/* Embeddings of another encoder are no news, where it is said that they come: what is normal is
 * found out anew, and a change after that is seen. */
static void test_features_anew(void **state)
{
    struct drift *d = fixture_drift(FIXTURE_DIM);
    struct drift_event events[DRIFT_EVENTS_MAX];
    int64_t changes[] = {3000, 3000 + SHIFT_REFERENCE + 2 * SHIFT_WINDOW}, fired = 0;
    float x[FIXTURE_DIM];
    uint64_t seed = 3;
    uint32_t len;

    (void)state;
    for (int64_t i = 0; i < changes[1] + SHIFT_WINDOW && fired == 0; i++) {
        for (int k = 0; k < FIXTURE_DIM; k++)
            x[k] = (float)(fixture_normal(&seed) / 16 + (i >= changes[0]) - (i >= changes[1]));
        if (i == changes[0])
            drift_features_anew(d);
        assert_int_equal(drift_asked_mark(d), i > 0 ? i - 1 : INT64_MIN);
        assert_int_equal(drift_ask(d, i, x, DRIFT_NONE, events, &len), 0);
        fired = len > 0 ? i : 0;
    }
    assert_int_equal(fired, changes[1] + SHIFT_WINDOW - 1);
    drift_close(d);
}

/* What one window cannot show, four can. */
static void test_features_slow(void **state)
{
    struct drift_event e = {0};
    int64_t fired = features(FIXTURE_DIM, 0.065, 4096, 20000, 2, &e);

    (void)state;
    print_message("fired at row %ld over %lu rows\n", (long)fired, (unsigned long)e.rows_since);
    assert_true(fired > 4096 && e.rows_since == SHIFT_LONG * SHIFT_WINDOW);
}

/* All alike, so that nothing varies: no division by nothing, and a change is a change. */
static void test_features_constant(void **state)
{
    struct drift *d = fixture_drift(FIXTURE_DIM);
    struct drift_event events[DRIFT_EVENTS_MAX];
    float x[FIXTURE_DIM] = {1};
    uint32_t len, fired = 0;

    (void)state;
    for (int64_t i = 0; i < 6000; i++) {
        assert_int_equal(drift_ask(d, i, x, DRIFT_NONE, events, &len), 0);
        assert_int_equal(len, 0);
    }
    x[3] = 0.5f;
    for (int64_t i = 6000; i < 8000; i++) {
        assert_int_equal(drift_ask(d, i, x, DRIFT_NONE, events, &len), 0);
        fired += len;
    }
    assert_int_equal(fired, 1);
    drift_close(d);
}

/* ---- refusals -------------------------------------------------------------------------------- */

static void test_refusals(void **state)
{
    struct drift_settings bad[6];
    struct drift_event events[DRIFT_EVENTS_MAX];
    struct drift *d = NULL;
    float x[FIXTURE_DIM] = {0};
    uint32_t len = 9;
    struct drift_report r;

    (void)state;
    for (int i = 0; i < 6; i++)
        bad[i] = drift_settings_default;
    bad[0].dim = DRIFT_DIM_MAX + 1;
    bad[1].error_level = 0;
    bad[2].ph_slack = NAN;
    bad[3].ph_limit = -1;
    bad[4].mix_level = 1;
    bad[5].features_level = INFINITY;
    for (int i = 0; i < 6; i++)
        assert_int_equal(drift_open(&bad[i], &d), -EINVAL);
    assert_null(d);
    d = fixture_drift(FIXTURE_DIM);
    assert_int_equal(drift_teach(d, 5, 0, true, events, &len), 0);
    assert_int_equal(drift_teach(d, 5, 0, true, events, &len), -EALREADY);
    assert_int_equal(drift_teach(d, 6, FIXTURE_LABELS, true, events, &len), -EINVAL);
    assert_int_equal(drift_ask(d, 5, x, FIXTURE_LABELS, events, &len), -EINVAL);
    assert_int_equal(drift_ask(d, 5, x, 0, events, &len), 0);
    assert_int_equal(drift_ask(d, 4, x, 0, events, &len), -EINVAL);
    x[FIXTURE_DIM - 1] = NAN;
    assert_int_equal(drift_ask(d, 6, x, 0, events, &len), -EINVAL);
    drift_read(d, &r);
    assert_int_equal(r.kinds[DRIFT_ERROR_ADWIN].rows, 1);
    assert_int_equal(r.kinds[DRIFT_ASKED_FEATURES].rows, 1);
    assert_int_equal(r.kinds[DRIFT_ASKED_MIX].rows, 1);
    assert_int_equal(drift_labels_grow(d, DRIFT_LABELS_MAX + 1), -E2BIG);
    drift_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tails),
        cmocka_unit_test(test_adwin_epsilon),
        cmocka_unit_test(test_adwin_against_history),
        cmocka_unit_test(test_adwin_full),
        cmocka_unit_test(test_page_hinkley),
        cmocka_unit_test(test_mix_by_hand),
        cmocka_unit_test(test_error_rises),
        cmocka_unit_test(test_error_names_label),
        cmocka_unit_test(test_new_label_told_apart),
        cmocka_unit_test(test_quiet),
        cmocka_unit_test(test_mix_moves),
        cmocka_unit_test(test_features_long_way),
        cmocka_unit_test(test_features_shift),
        cmocka_unit_test(test_features_slow),
        cmocka_unit_test(test_features_anew),
        cmocka_unit_test(test_features_constant),
        cmocka_unit_test(test_refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
