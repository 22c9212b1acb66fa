/* test_trigger.c -- when a run starts by itself: each reason alone, at its edge, and what holds all
 * of them back.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/train/trigger.h"

/* A settled model: nothing is due. */
static const struct trigger_signals calm = {.examples = 10000,
                                            .examples_new = 100,
                                            .labels = 77,
                                            .error = 0.08,
                                            .error_reference = 0.08,
                                            .error_sigma = 0.01,
                                            .hours_since_run = 30};

static enum trigger due(const struct trigger_signals *s)
{
    return trigger_due(s, &trigger_settings_default);
}

static void test_calm(void **state)
{
    (void)state;
    assert_int_equal(due(&calm), TRIGGER_NONE);
}

static void test_new_examples(void **state)
{
    struct trigger_signals s = calm;

    (void)state;
    s.examples_new = 499; /* 5 % of 10,000 */
    assert_int_equal(due(&s), TRIGGER_NONE);
    assert_int_equal(trigger_new_missing(&s, &trigger_settings_default), 1);
    s.examples_new = 500;
    assert_int_equal(due(&s), TRIGGER_NEW);
    assert_int_equal(trigger_new_missing(&s, &trigger_settings_default), 0);
    s.examples = 300; /* the first run */
    s.hours_since_run = INFINITY;
    s.examples_new = 199;
    assert_int_equal(due(&s), TRIGGER_NONE);
    s.examples_new = 200;
    assert_int_equal(due(&s), TRIGGER_NEW);
    s.examples = 4001; /* 200.05: 201 */
    assert_int_equal(trigger_new_missing(&s, &trigger_settings_default), 1);
}

static void test_drift(void **state)
{
    struct trigger_signals s = calm;

    (void)state;
    s.drift = true;
    assert_int_equal(due(&s), TRIGGER_DRIFT);
    s.drift_new_labels = true; /* new labels explain it */
    assert_int_equal(due(&s), TRIGGER_NONE);
    s.drift_new_labels = false;
    s.examples_new = 49; /* nothing to learn it from yet */
    assert_int_equal(due(&s), TRIGGER_NONE);
    s.examples_new = 50;
    assert_int_equal(due(&s), TRIGGER_DRIFT);
}

static void test_error(void **state)
{
    struct trigger_signals s = calm;

    (void)state;
    s.error = 0.1099;
    assert_int_equal(due(&s), TRIGGER_NONE);
    s.error = 0.1101;
    assert_int_equal(due(&s), TRIGGER_ERROR);
    s.error_sigma = 0; /* not known */
    assert_int_equal(due(&s), TRIGGER_NONE);
    s.error_sigma = NAN;
    assert_int_equal(due(&s), TRIGGER_NONE);
    s.error_sigma = 0.01;
    s.error_reference = NAN;
    assert_int_equal(due(&s), TRIGGER_NONE);
    s.error_reference = 0.08;
    s.error = NAN;
    assert_int_equal(due(&s), TRIGGER_NONE);
}

static void test_schedule(void **state)
{
    struct trigger_settings t = trigger_settings_default;
    struct trigger_signals s = calm;

    (void)state;
    s.in_window = true;
    assert_int_equal(trigger_due(&s, &t), TRIGGER_NONE); /* there is no schedule */
    t.schedule_hours = 24;
    assert_int_equal(trigger_due(&s, &t), TRIGGER_SCHEDULE);
    s.hours_since_run = 23.9;
    assert_int_equal(trigger_due(&s, &t), TRIGGER_NONE);
    s.hours_since_run = INFINITY;
    assert_int_equal(trigger_due(&s, &t), TRIGGER_SCHEDULE);
    s.in_window = false;
    assert_int_equal(trigger_due(&s, &t), TRIGGER_NONE);
    s.in_window = true;
    s.examples_new = 0; /* it would be the run before once more */
    t.again_min = 0;
    assert_int_equal(trigger_due(&s, &t), TRIGGER_NONE);
}

/* All at once: the strongest reason; and what stops even that. */
static void test_order_and_brakes(void **state)
{
    struct trigger_settings t = trigger_settings_default;
    struct trigger_signals s = calm;

    (void)state;
    t.schedule_hours = 1;
    s.in_window = s.drift = s.asked = true;
    s.examples_new = 5000;
    s.error = 1;
    assert_int_equal(trigger_due(&s, &t), TRIGGER_OPERATOR);
    s.asked = false;
    assert_int_equal(trigger_due(&s, &t), TRIGGER_DRIFT);
    s.drift = false;
    assert_int_equal(trigger_due(&s, &t), TRIGGER_ERROR);
    s.error = 0;
    assert_int_equal(trigger_due(&s, &t), TRIGGER_NEW);
    s.drift = true;
    s.labels = 1;
    assert_int_equal(trigger_due(&s, &t), TRIGGER_NONE);
    s.labels = 2;
    t.enabled = false;
    assert_int_equal(trigger_due(&s, &t), TRIGGER_NONE);
    s.asked = true;
    s.examples_new = 0;
    assert_int_equal(trigger_due(&s, &t), TRIGGER_OPERATOR);
    s.running = true;
    assert_int_equal(trigger_due(&s, &t), TRIGGER_NONE);
}

static void test_names(void **state)
{
    (void)state;
    for (int i = TRIGGER_NONE; i <= TRIGGER_SCHEDULE; i++)
        for (int k = TRIGGER_NONE; k < i; k++)
            assert_string_not_equal(trigger_name((enum trigger)i), trigger_name((enum trigger)k));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calm),     cmocka_unit_test(test_new_examples),
        cmocka_unit_test(test_drift),    cmocka_unit_test(test_error),
        cmocka_unit_test(test_schedule), cmocka_unit_test(test_order_and_brakes),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
