/* test_serve_rate.c -- a full bucket at first, one share back at a time, names apart, bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "daemon/serve/rate.h"

enum { SECOND = 1000000 };

static void test_a_minute(void **state)
{
    struct rate *rate;
    int64_t now = 1234567, wait;

    (void)state;
    assert_int_equal(rate_open(64, &rate), 0);
    for (int i = 0; i < 6; i++)
        assert_int_equal(rate_take(rate, 1, "a", 6, now), 0);
    for (int i = 0; i < 3; i++) { /* what is refused does not count */
        wait = rate_take(rate, 1, "a", 6, now);
        assert_int_equal(wait, 10 * SECOND);
    }
    assert_true(rate_take(rate, 1, "a", 6, now + wait - 1) > 0);
    assert_int_equal(rate_take(rate, 1, "a", 6, now + wait), 0);
    assert_true(rate_take(rate, 1, "a", 6, now + wait) > 0);
    now += 10 * 60 * SECOND; /* full again, and no fuller than that */
    for (int i = 0; i < 6; i++)
        assert_int_equal(rate_take(rate, 1, "a", 6, now), 0);
    assert_true(rate_take(rate, 1, "a", 6, now) > 0);
    rate_close(rate);
}

static void test_names_and_models_are_apart(void **state)
{
    struct rate *rate;

    (void)state;
    assert_int_equal(rate_open(64, &rate), 0);
    assert_int_equal(rate_take(rate, 1, "a", 1, 5), 0);
    assert_true(rate_take(rate, 1, "a", 1, 5) > 0);
    assert_int_equal(rate_take(rate, 1, "b", 1, 5), 0);
    assert_int_equal(rate_take(rate, 1, "", 1, 5), 0);
    assert_int_equal(rate_take(rate, 2, "a", 1, 5), 0);
    assert_true(rate_take(rate, 1, "", 1, 5) > 0);
    /* A larger limit lets pass what the smaller one did not. */
    assert_int_equal(rate_take(rate, 1, "a", 1000000, 6 + 60), 0);
    rate_close(rate);
}

static void test_many_names(void **state)
{
    struct rate *rate;
    char name[16];

    (void)state;
    assert_int_equal(rate_open(64, &rate), 0);
    for (int i = 0; i < 100000; i++) { /* each is new: none has to wait */
        snprintf(name, sizeof name, "n%d", i);
        assert_int_equal(rate_take(rate, 1, name, 1, i), 0);
        assert_true(rate_take(rate, 1, name, 1, i) > 0);
    }
    rate_close(rate);
    rate_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_minute),
        cmocka_unit_test(test_names_and_models_are_apart),
        cmocka_unit_test(test_many_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
