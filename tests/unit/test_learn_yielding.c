/* test_learn_yielding.c -- how long requests took of late, and whether a run may go on: with time
 * and latencies as arguments.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/learn/yielding.h"
#include "daemon/serve/recent.h"

#define MS INT64_C(1000)
#define SECOND INT64_C(1000000)

/* ---- recent ---------------------------------------------------------------------------------- */

static struct recent *recent_new(void)
{
    struct recent *r;

    assert_int_equal(recent_open(&r), 0);
    return r;
}

static void test_no_request_has_no_p99(void **state)
{
    struct recent *r = recent_new();

    (void)state;
    assert_int_equal(recent_p99_us(r, 0), -1);
    assert_int_equal(recent_p99_us(r, 1000 * SECOND), -1);
    recent_close(r);
    recent_close(NULL);
}

/* Of any duration: never less than it was, and an eighth more at most. */
static void test_durations_are_rounded_up_by_an_eighth(void **state)
{
    (void)state;
    for (int64_t us = 0; us < 3600 * SECOND; us += 1 + us / 13) {
        struct recent *r = recent_new();
        int64_t got;

        recent_note(r, us, 5 * SECOND);
        got = recent_p99_us(r, 5 * SECOND);
        assert_true(got >= us && got <= us + us / 8);
        recent_close(r);
    }
}

static void test_one_of_a_hundred_may_be_slow(void **state)
{
    struct recent *r = recent_new();

    (void)state;
    for (int i = 0; i < 99; i++)
        recent_note(r, 2 * MS, 5 * SECOND);
    recent_note(r, 900 * MS, 5 * SECOND);
    assert_true(recent_p99_us(r, 5 * SECOND) < 3 * MS);
    recent_note(r, 900 * MS, 5 * SECOND);
    assert_true(recent_p99_us(r, 5 * SECOND) >= 900 * MS);
    recent_close(r);
}

static void test_what_is_old_does_not_count(void **state)
{
    struct recent *r = recent_new();

    (void)state;
    recent_note(r, 900 * MS, 10 * SECOND);
    recent_note(r, 2 * MS, 11 * SECOND);
    assert_true(recent_p99_us(r, 11 * SECOND) >= 900 * MS);
    assert_true(recent_p99_us(r, 10 * SECOND + RECENT_US) < 3 * MS);
    assert_int_equal(recent_p99_us(r, 11 * SECOND + RECENT_US), -1);
    recent_note(r, 4 * MS, 10 * SECOND + 100 * RECENT_US); /* its slice was another time's */
    assert_true(recent_p99_us(r, 10 * SECOND + 100 * RECENT_US) < 5 * MS);
    recent_close(r);
}

/* ---- yielding -------------------------------------------------------------------------------- */

static void test_no_budget_never_pauses(void **state)
{
    struct yielding y = {.budget_us = 0};

    (void)state;
    assert_true(yielding_may_go(&y, 1000 * SECOND, 0));
    assert_int_equal(y.yields, 0);
    y.budget_us = 1;
    assert_false(yielding_may_go(&y, 1000 * SECOND, 0));
    y.budget_us = 0; /* the operator has taken it back */
    assert_true(yielding_may_go(&y, 1000 * SECOND, 1));
    assert_false(y.paused);
}

/* A walk: time, the p99 of then, and whether a piece may be taken. */
struct moment {
    int64_t at_ms, p99_us;
    bool may_go;
    uint64_t yields;
};

static void walk(const struct moment *m, size_t len)
{
    struct yielding y = {.budget_us = 10 * MS};

    for (size_t i = 0; i < len; i++) {
        if (yielding_may_go(&y, m[i].p99_us, m[i].at_ms * MS) != m[i].may_go)
            fail_msg("moment %zu", i);
        assert_int_equal(y.yields, m[i].yields);
    }
}

static void test_between_the_two_marks_it_stays_as_it_is(void **state)
{
    static const struct moment m[] = {
        {0, -1, true, 0},     {1, 9999, true, 0},  {2, 10000, true, 0},   {3, 10001, false, 1},
        {4, 9000, false, 1},  {5, 7501, false, 1}, {6, 7500, true, 1},    {7, 9000, true, 1},
        {8, 20000, false, 2}, {9, -1, true, 2},    {10, 20000, false, 3}, {11, 0, true, 3},
    };

    (void)state;
    walk(m, sizeof m / sizeof *m);
}

/* Where pausing does not help, one piece now and then. */
static void test_a_budget_that_cannot_be_met_does_not_stop_a_run(void **state)
{
    const int64_t patience = YIELDING_PATIENCE_US / MS;
    const struct moment m[] = {
        {0, 50000, false, 1},
        {patience - 1, 50000, false, 1},
        {patience, 50000, true, 1},
        {patience + 1, 50000, false, 1},
        {2 * patience - 1, 50000, false, 1},
        {2 * patience, 50000, true, 1},
        {2 * patience + 1, 50000, false, 1},
        {2 * patience + 2, 7000, true, 1},
        {2 * patience + 3, 50000, false, 2},
        {3 * patience + 2, 50000, false, 2},
        {3 * patience + 3, 50000, true, 2},
    };

    (void)state;
    walk(m, sizeof m / sizeof *m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_request_has_no_p99),
        cmocka_unit_test(test_durations_are_rounded_up_by_an_eighth),
        cmocka_unit_test(test_one_of_a_hundred_may_be_slow),
        cmocka_unit_test(test_what_is_old_does_not_count),
        cmocka_unit_test(test_no_budget_never_pauses),
        cmocka_unit_test(test_between_the_two_marks_it_stays_as_it_is),
        cmocka_unit_test(test_a_budget_that_cannot_be_met_does_not_stop_a_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
