/* test_gate.c -- the gate's arithmetic against sums written out, and each way to be refused: alone,
 * and with the case beside it that passes.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/measure/gate.h"
#include "kernels/measure/significance.h"
#include "tests/unit/fault_alloc.h"
#include "tests/unit/measure_fixture.h"

enum { MANY = 4000 };

static void near(double have, double want, double tolerance)
{
    if (!(fabs(have - want) <= tolerance))
        fail_msg("%.15g, not %.15g", have, want);
}

/* ---- significance ---------------------------------------------------------------------------- */

/* P(X >= k) of n even chances, term by term. */
static double binomial_tail(uint32_t k, uint32_t n)
{
    double sum = 0;

    for (uint32_t i = n + 1; i-- > k;)
        sum += exp(lgamma(n + 1.0) - lgamma(i + 1.0) - lgamma(n - i + 1.0) - n * M_LN2);
    return sum;
}

static void test_mcnemar(void **state)
{
    (void)state;
    near(significance_mcnemar(10, 2), 2 * 79.0 / 4096, 1e-14); /* 66 + 12 + 1 of 2^12 */
    near(significance_mcnemar_worse(10, 2), 79.0 / 4096, 1e-14);
    near(significance_mcnemar_worse(2, 10), 4083.0 / 4096, 1e-12);
    near(significance_mcnemar_worse(5, 0), 1.0 / 32, 1e-15);
    assert_true(significance_mcnemar(0, 0) == 1 && significance_mcnemar_worse(0, 0) == 1);
    assert_true(significance_mcnemar(7, 7) == 1);
    for (uint32_t n = 1; n <= 60; n++)
        for (uint32_t k = 0; k <= n; k++) {
            double one = binomial_tail(k, n);
            double two = fmin(1, 2 * binomial_tail(k > n - k ? k : n - k, n));

            near(significance_mcnemar_worse(k, n - k) / one, 1, 1e-9);
            near(significance_mcnemar(k, n - k) / two, 1, 1e-9);
        }
    near(significance_mcnemar_worse(5200, 4800) / binomial_tail(5200, 10000), 1, 1e-6);
}

static void test_holm(void **state)
{
    double p[] = {0.01, 0.04, 0.03, 0.005, 0.9}, adjusted[5];
    double want[] = {0.04, 0.09, 0.09, 0.025, 0.9};

    (void)state;
    assert_int_equal(significance_holm(p, 5, adjusted), 0);
    for (int i = 0; i < 5; i++)
        near(adjusted[i], want[i], 1e-15);
    assert_int_equal(significance_holm(p + 4, 1, adjusted), 0);
    assert_true(adjusted[0] == 0.9);
    assert_int_equal(significance_holm(p, 0, adjusted), 0);
    fault_alloc_arm(1, false);
    assert_int_equal(significance_holm(p, 5, adjusted), -ENOMEM);
    fault_alloc_disarm();
}

static void test_difference(void **state)
{
    (void)state;
    near(significance_difference(1000, 30, 10), -0.02, 1e-15);
    near(significance_lower(1000, 30, 10), (-20 - 1.96 * sqrt(40 - 0.4)) / 1000, 1e-6);
    near(significance_lower(1000, 20, 20), -1.96 * sqrt(40) / 1000, 1e-6);
    near(significance_visible(1000, 20, 20), 0.0177, 1e-4); /* as LEARNING.md says */
    assert_true(significance_lower(50, 0, 0) == 0);
    near(significance_lower(10, 10, 0), -1, 1e-15); /* no spread at all */
}

/* ---- the gate -------------------------------------------------------------------------------- */

static struct gate_item items[MANY];

/* n texts of four labels; the first `lost` were right, the next `won` are; of the others every
 * tenth is wrong in both. */
static struct gate_input made(uint32_t n, uint32_t lost, uint32_t won)
{
    for (uint32_t i = 0; i < n; i++) {
        bool both = i >= lost + won && i % 10 != 0;
        struct gate_side side = {both, NAN, NAN, NAN, NAN};

        items[i] = (struct gate_item){i % 4, side, side};
        items[i].old.right |= i < lost;
        items[i].new.right |= i >= lost &&i < lost + won;
    }
    return (struct gate_input){.items = items, .items_len = n};
}

static struct gate_verdict judged(const struct gate_input *in, bool first_run)
{
    struct gate_settings settings;
    struct gate_verdict v;

    gate_settings_default(&settings);
    settings.margin = first_run ? 0 : 0.005;
    assert_int_equal(gate_judge(in, &settings, &v), 0);
    assert_int_equal(v.accepted, v.reasons == 0);
    return v;
}

/* A gain too small for right and wrong to show, and better probabilities. */
static void test_better_probabilities(void **state)
{
    struct gate_input in = made(400, 4, 8);
    struct gate_verdict v;

    (void)state;
    assert_int_equal(judged(&in, true).reasons, GATE_ACCURACY);
    for (uint32_t i = 0; i < 400; i++) {
        items[i].old.brier = items[i].old.right ? 0.10 + (i % 7) * 0.01 : 1.2;
        items[i].new.brier = items[i].new.right ? 0.08 + (i % 5) * 0.01 : 1.2;
    }
    v = judged(&in, true);
    assert_true(v.accepted);
    assert_true(v.brier_lower > 0 && v.brier_lower < v.brier_old - v.brier_new);
    for (uint32_t i = 0; i < 400; i++) { /* the same the other way round */
        double old = items[i].old.brier;

        items[i].old.brier = items[i].new.brier;
        items[i].new.brier = old;
    }
    v = judged(&in, true);
    assert_int_equal(v.reasons, GATE_ACCURACY);
    assert_true(v.brier_lower < 0);
    in = made(400, 8, 4); /* probabilities do not pay for answers that are wrong more often */
    for (uint32_t i = 0; i < 400; i++) {
        items[i].old.brier = 0.3;
        items[i].new.brier = 0.1;
    }
    assert_int_equal(judged(&in, true).reasons, GATE_ACCURACY);
    items[0].old.brier = NAN; /* out of both */
    near(judged(&in, true).brier_old, 0.3, 1e-6);
}

static void test_accuracy(void **state)
{
    struct gate_input in = made(1000, 12, 40);
    struct gate_verdict v = judged(&in, true);

    (void)state;
    assert_true(v.accepted);
    assert_true(v.items == 1000 && v.lost == 12 && v.won == 40);
    near(v.difference, 0.028, 1e-15);
    near(v.accuracy_new - v.accuracy_old, 0.028, 1e-15);
    near(v.lower, significance_lower(1000, 12, 40), 0);
    near(v.p, significance_mcnemar(12, 40), 0);
    assert_true(isnan(v.ece_old) && isnan(v.ece_new) && isnan(v.auroc_old) && isnan(v.auroc_new));
    assert_true(isnan(v.latency_ratio));
    assert_int_equal(v.labels_tested, 4);
    in = made(1000, 30, 22); /* poisoned */
    v = judged(&in, false);
    assert_int_equal(v.reasons, GATE_ACCURACY);
    in = made(1000, 0, 0); /* nothing changed: good enough, but not for a first run */
    assert_true(judged(&in, false).accepted);
    assert_int_equal(judged(&in, true).reasons, GATE_ACCURACY);
    in = made(4000, 4, 4); /* bound -.0014 */
    assert_true(judged(&in, false).accepted);
    assert_int_equal(judged(&in, true).reasons, GATE_ACCURACY);
    in = made(1000, 4, 4); /* bound -.0055 */
    assert_int_equal(judged(&in, false).reasons, GATE_ACCURACY);
}

static void test_too_few(void **state)
{
    struct gate_input in = made(29, 0, 0);
    struct gate_settings settings;
    struct gate_verdict v = judged(&in, false);

    (void)state;
    assert_int_equal(v.reasons, GATE_TOO_FEW);
    gate_settings_default(&settings);
    settings.margin = 0.005;
    settings.accept_few = true;
    assert_int_equal(gate_judge(&in, &settings, &v), 0);
    assert_true(v.accepted && v.reasons == GATE_TOO_FEW);
    in = made(29, 3, 0); /* few, and worse */
    assert_int_equal(gate_judge(&in, &settings, &v), 0);
    assert_true(!v.accepted && v.reasons == (GATE_TOO_FEW | GATE_ACCURACY));
    in = made(30, 0, 0);
    assert_true(judged(&in, false).accepted);
    in = made(0, 0, 0);
    v = judged(&in, false);
    assert_int_equal(v.reasons, GATE_TOO_FEW | GATE_ACCURACY);
    assert_true(isnan(v.accuracy_old) && isnan(v.lower) && v.p == 1);
    settings.items_min = 0;
    assert_int_equal(gate_judge(&in, &settings, &v), 0);
    assert_false(v.accepted);
}

/* `lost` of `n` texts of a label, beside many that were won elsewhere. */
static void add_label(struct gate_input *in, uint32_t label, uint32_t n, uint32_t lost)
{
    for (uint32_t i = 0; i < n; i++) {
        struct gate_item *item = &items[in->items_len++];

        *item =
            (struct gate_item){label, {true, NAN, NAN, NAN, NAN}, {i >= lost, NAN, NAN, NAN, NAN}};
    }
}

static void test_recalls(void **state)
{
    struct gate_input in = made(1000, 0, 80);
    struct gate_verdict v;

    (void)state;
    add_label(&in, 77, 25, 12);
    add_label(&in, 78, 19, 19); /* too few of it */
    add_label(&in, 79, 20, 5);  /* p 1/32, not among six labels */
    v = judged(&in, false);
    assert_int_equal(v.reasons, GATE_RECALL);
    assert_int_equal(v.labels_tested, 6);
    assert_int_equal(v.losses_len, 1);
    assert_int_equal(v.losses[0].label, 77);
    assert_true(v.losses[0].items == 25 && v.losses[0].lost == 12 && v.losses[0].won == 0);
    near(v.losses[0].p, 1.0 / 4096, 1e-15);
    near(v.losses[0].p_adjusted, 6.0 / 4096, 1e-15);
    in = made(1000, 0, 80);
    add_label(&in, 79, 20, 5);
    assert_true(judged(&in, false).accepted);
    for (uint32_t i = 0; i < 1000; i++) /* the same label alone is a loss */
        items[i].label = 1000 + i;
    assert_int_equal(judged(&in, false).reasons, GATE_RECALL);
}

static void test_many_losses(void **state)
{
    struct gate_input in = made(1000, 0, 900);
    struct gate_verdict v;

    (void)state;
    for (uint32_t label = 0; label < 40; label++)
        add_label(&in, 100 + label, 25, label % 2 ? 16 : 20);
    v = judged(&in, false);
    assert_int_equal(v.losses_len, 40);
    for (uint32_t i = 0; i < GATE_LOSSES_MAX; i++) {
        assert_int_equal(v.losses[i].lost, i < 20 ? 20 : 16);
        assert_int_equal(v.losses[i].label, i < 20 ? 100 + 2 * i : 101 + 2 * (i - 20));
    }
}

/* Of every five texts three at p_sure, nine of ten of them right; two at .55, half of them right.
 */
static struct gate_verdict sure(uint32_t n, double p_sure)
{
    struct gate_input in = made(n, 0, 0);

    for (uint32_t i = 0; i < n; i++) {
        bool high = i % 5 < 3, right = high ? i / 5 % 10 > 0 : i / 5 % 2 > 0;

        items[i] = (struct gate_item){0,
                                      {right, high ? 0.9 : 0.55, NAN, NAN, NAN},
                                      {right, high ? p_sure : 0.55, NAN, NAN, NAN}};
    }
    return judged(&in, false);
}

static void test_calibration(void **state)
{
    struct gate_verdict v = sure(4000, 0.9);
    struct gate_input in = {.items = items, .items_len = 4000};

    (void)state;
    near(v.ece_old, 0.4 * 0.05, 1e-8);
    near(v.ece_new, 0.4 * 0.05, 1e-8);
    near(v.ece_error, 0, 1e-8);
    assert_true(v.accepted);
    v = sure(4000, 0.916); /* + .6 * .016: within a point */
    near(v.ece_new, 0.4 * 0.05 + 0.6 * 0.016, 1e-8);
    assert_true(v.accepted);
    v = sure(4000, 0.94);
    near(v.ece_new, 0.4 * 0.05 + 0.6 * 0.04, 1e-8);
    /* A right text gains .06 + .1, a wrong one .94 + .9: the old bin errs, by rounding, to the
     * other side. */
    near(v.ece_error, sqrt((0.6 * (0.9 * 0.16 * 0.16 + 0.1 * 1.84 * 1.84) - 0.024 * 0.024) / 4000),
         1e-4);
    assert_int_equal(v.reasons, GATE_CALIBRATION);
    assert_true(sure(400, 0.94).accepted); /* of so few it may be chance */
    assert_int_equal(sure(400, 0.99).reasons, GATE_CALIBRATION);
    (void)sure(4000, 0.92);
    for (uint32_t i = 0; i < 4000; i++) /* out of both */
        items[i].old.p_predicted = i % 5 < 3 ? NAN : 0.55;
    v = judged(&in, false);
    near(v.ece_new, 0.05, 1e-8);
    items[3].new.p_predicted = 1.0000001; /* rounding, in the last bin */
    (void)judged(&in, false);
}

/* How often equally calibrated pairs of 1,000 texts are refused for it, and overconfident ones. */
static void test_calibration_is_more_than_noise(void **state)
{
    uint32_t refused[2] = {0};
    uint64_t seed = 13;

    (void)state;
    for (int run = 0; run < 400; run++) {
        struct gate_input in = made(1000, 0, 0);

        for (uint32_t i = 0; i < 1000; i++) {
            double p = 1 - 0.5 * pow(fixture_uniform(&seed), 3), u = fixture_uniform(&seed);
            double q = fmax(0.02, fmin(1, p + 0.04 * fixture_normal(&seed)));
            bool other = fixture_uniform(&seed) < 0.04;

            items[i].old = (struct gate_side){u < p, p, NAN, NAN, NAN};
            items[i].new = (struct gate_side){other ? fixture_uniform(&seed) < p : u < p,
                                              run % 2 ? fmin(1, q + 0.08) : q, NAN, NAN, NAN};
        }
        refused[run % 2] += (judged(&in, false).reasons & GATE_CALIBRATION) != 0;
    }
    print_message("refused for calibration: %.1f %% of equals, %.1f %% of overconfident ones\n",
                  refused[0] / 2.0, refused[1] / 2.0);
    assert_in_range(refused[0], 0, 12);
    assert_in_range(refused[1], 150, 200);
}

static double auroc_brute(uint32_t n, bool new)
{
    double sum = 0;
    uint32_t used = 0;

    for (uint32_t i = 0; i < n; i++) {
        if (isnan(items[i].old.novelty_known) || isnan(items[i].new.novelty_unknown))
            continue;
        used++;
        for (uint32_t j = 0; j < n; j++) {
            const struct gate_side *a = new ? &items[i].new : &items[i].old;
            const struct gate_side *b = new ? &items[j].new : &items[j].old;

            if (isnan(items[j].old.novelty_known) || isnan(items[j].new.novelty_unknown))
                continue;
            sum += a->novelty_known < b->novelty_unknown    ? 1
                   : a->novelty_known == b->novelty_unknown ? 0.5
                                                            : 0;
        }
    }
    return sum / used / used;
}

static void test_novelty(void **state)
{
    struct gate_input in = made(300, 0, 0);
    uint64_t seed = 3;
    struct gate_verdict v;

    (void)state;
    for (uint32_t i = 0; i < 300; i++) /* in steps of .25, so that many tie */
        for (int new = 0; new < 2; new ++) {
            struct gate_side *s = new ? &items[i].new : &items[i].old;

            s->novelty_known = round(4 * fixture_normal(&seed)) / 4;
            s->novelty_unknown = round(4 * (fixture_normal(&seed) + 2)) / 4;
        }
    items[5].old.novelty_known = items[9].new.novelty_unknown = NAN;
    v = judged(&in, false);
    assert_int_equal(v.auroc_items, 298);
    near(v.auroc_old, auroc_brute(300, false), 1e-12);
    near(v.auroc_new, auroc_brute(300, true), 1e-12);
    assert_in_range((int)(100 * v.auroc_old), 85, 97);
    for (uint32_t i = 0; i < 300; i++) {
        items[i].new = items[i].old;
        items[i].new.novelty_known += i % 10 == 0 ? 4 : 0;
    }
    v = judged(&in, false);
    assert_int_equal(v.reasons, GATE_NOVELTY);
    for (uint32_t i = 0; i < 300; i++) /* the other way it is a gain */
        items[i].new.novelty_known -= i % 10 == 0 ? 8 : 0;
    assert_true(judged(&in, false).accepted);
    for (uint32_t i = GATE_AUROC_MIN - 1; i < 300; i++)
        items[i].old.novelty_unknown = NAN;
    v = judged(&in, false);
    assert_true(v.accepted && isnan(v.auroc_old) && isnan(v.auroc_new));
}

static void test_latency(void **state)
{
    struct gate_input in = made(100, 0, 0);
    struct gate_verdict v;

    (void)state;
    in.old_latency = 0.010;
    in.new_latency = 0.0109;
    v = judged(&in, false);
    near(v.latency_ratio, 1.09, 1e-12);
    assert_true(v.accepted);
    in.new_latency = 0.0111;
    assert_int_equal(judged(&in, false).reasons, GATE_LATENCY);
    in.old_latency = 0;
    assert_true(judged(&in, false).accepted);
}

/* Sets: the items' labels are not read, the decisions' are. */
static void test_decisions(void **state)
{
    struct gate_input in = made(500, 0, 20);
    struct gate_decision decisions[60];
    struct gate_verdict v;

    (void)state;
    for (uint32_t i = 0; i < 60; i++)
        decisions[i] = (struct gate_decision){7 + i % 2, true, i % 2 == 0 || i >= 26};
    in.decisions = decisions;
    in.decisions_len = 60;
    v = judged(&in, false);
    assert_int_equal(v.reasons, GATE_RECALL);
    assert_int_equal(v.labels_tested, 2);
    assert_int_equal(v.losses_len, 1);
    assert_true(v.losses[0].label == 8 && v.losses[0].lost == 13 && v.losses[0].items == 30);
    in.decisions_len = 0; /* texts without labels: nothing to recall */
    assert_true(judged(&in, false).accepted);
}

/* Real-looking rows of a model that is better or worse by `gain`, 4 % discordant. */
static struct gate_input simulated(uint32_t n, double gain, uint64_t *seed)
{
    for (uint32_t i = 0; i < n; i++) {
        double u = fixture_uniform(seed), p = 0.5 + 0.5 * fixture_uniform(seed);
        bool old = u < 0.9, new = u < 0.02 - gain / 2 ? false : u > 0.98 - gain / 2 ? true : old;

        items[i] =
            (struct gate_item){(uint32_t)(10 * fixture_uniform(seed)),
                               {old, p, fixture_normal(seed), fixture_normal(seed) + 3, NAN},
                               {new, p, fixture_normal(seed), fixture_normal(seed) + 3, NAN}};
    }
    return (struct gate_input){.items = items, .items_len = n};
}

static void test_order_does_not_matter(void **state)
{
    uint64_t seed = 11;
    struct gate_input in = simulated(1500, -0.02, &seed);
    struct gate_verdict a = judged(&in, false), b;

    (void)state;
    for (uint32_t i = 1499; i > 0; i--) {
        uint32_t j = (uint32_t)(fixture_uniform(&seed) * (i + 1));
        struct gate_item item = items[i];

        items[i] = items[j];
        items[j] = item;
    }
    b = judged(&in, false);
    assert_true(a.reasons == b.reasons && a.lost == b.lost && a.won == b.won);
    assert_true(a.ece_old == b.ece_old && a.ece_new == b.ece_new && a.ece_error == b.ece_error);
    assert_true(a.auroc_old == b.auroc_old && a.auroc_new == b.auroc_new && a.lower == b.lower);
    assert_int_equal(a.losses_len, b.losses_len);
}

/* How often accuracy lets through, of 500 pairs: a loss of a point (2.5 % at most, by the
 * interval); a gain of two. */
static void test_what_passes(void **state)
{
    uint32_t worse = 0, better = 0;
    uint64_t seed = 5;

    (void)state;
    for (int i = 0; i < 500; i++) {
        struct gate_input in = simulated(1000, -0.01, &seed);

        worse += !(judged(&in, false).reasons & GATE_ACCURACY);
        in = simulated(1000, 0.02, &seed);
        better += !(judged(&in, false).reasons & GATE_ACCURACY);
    }
    assert_in_range(worse, 0, 12);
    assert_in_range(better, 450, 500);
}

static void test_bad_input(void **state)
{
    struct gate_settings settings;
    struct gate_input in = made(100, 0, 0);
    struct gate_verdict v = {.items = 4711};

    (void)state;
    gate_settings_default(&settings);
    settings.margin = 0.005;
    items[3].old.p_predicted = 1.1;
    assert_int_equal(gate_judge(&in, &settings, &v), -EINVAL);
    items[3].old.p_predicted = 1;
    items[3].new.p_predicted = -0.1;
    assert_int_equal(gate_judge(&in, &settings, &v), -EINVAL);
    items[3].new.p_predicted = 0;
    in.new_latency = NAN;
    assert_int_equal(gate_judge(&in, &settings, &v), -EINVAL);
    in.new_latency = 0;
    for (uint64_t n = 1;; n++) {
        int rc;

        fault_alloc_arm(n, false);
        rc = gate_judge(&in, &settings, &v);
        if (!fault_alloc_disarm()) {
            assert_int_equal(rc, 0);
            assert_true(n > 4);
            break;
        }
        assert_int_equal(rc, -ENOMEM);
        assert_int_equal(v.items, 4711);
    }
    assert_int_equal(v.items, 100);
}

static void test_names(void **state)
{
    (void)state;
    for (int i = 0; i < GATE_REASONS; i++)
        for (int k = 0; k < i; k++)
            assert_string_not_equal(gate_reason_name((enum gate_reason)(1 << i)),
                                    gate_reason_name((enum gate_reason)(1 << k)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mcnemar),
        cmocka_unit_test(test_holm),
        cmocka_unit_test(test_difference),
        cmocka_unit_test(test_accuracy),
        cmocka_unit_test(test_better_probabilities),
        cmocka_unit_test(test_too_few),
        cmocka_unit_test(test_recalls),
        cmocka_unit_test(test_many_losses),
        cmocka_unit_test(test_calibration),
        cmocka_unit_test(test_novelty),
        cmocka_unit_test(test_latency),
        cmocka_unit_test(test_decisions),
        cmocka_unit_test(test_order_does_not_matter),
        cmocka_unit_test(test_what_passes),
        cmocka_unit_test(test_bad_input),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_calibration_is_more_than_noise),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
