/* test_ctl_load.c -- what `learnctl bench` counts by: the histogram of times, the verdict on an
 * answer, and where an address leads.
 *
 * What must hold: a percentile is never below the true one and at most 1.6 % above it, over the
 * whole range; a wrong answer of any kind is told from a good one; the same version and text must
 * be answered the same, and only then; another machine is never taken for this one.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/ctl/ctl_histogram.h"
#include "daemon/ctl/ctl_load.h"
#include "daemon/ctl/ctl_verdict.h"

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static void test_percentiles(void **state)
{
    enum { N = 20000 };
    static const double shares[] = {0, 0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 1};
    static struct ctl_histogram h;
    static int64_t values[N];
    uint64_t seed = 7;

    (void)state;
    for (int i = 0; i < N; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        values[i] = (int64_t)(seed >> 20 >> (seed >> 59)); /* of every size up to a day */
        if (values[i] > (int64_t)1 << 35)
            values[i] >>= 10;
        ctl_histogram_add(&h, values[i]);
    }
    qsort(values, N, sizeof *values, by_size);
    assert_int_equal(h.len, N);
    assert_int_equal(h.max_us, values[N - 1]);
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        double rank = shares[i] * N;
        int64_t at = values[rank <= 1 ? 0 : (int)(rank + 0.999999) - 1];
        int64_t got = (int64_t)ctl_histogram_at(&h, shares[i]);

        assert_true(got >= at);
        assert_true((double)got <= (double)at * (1 + 1.0 / 64) + 1);
    }
}

static void test_histogram_ends(void **state)
{
    static struct ctl_histogram h, small;

    (void)state;
    assert_int_equal(ctl_histogram_at(&h, 0.5), 0);
    assert_true(ctl_histogram_mean(&h) == 0);
    ctl_histogram_add(&h, -5);
    ctl_histogram_add(&h, INT64_MAX);
    assert_int_equal(ctl_histogram_at(&h, 0.5), 0);
    assert_int_equal(ctl_histogram_at(&h, 1), h.max_us);
    assert_true(h.max_us > (uint64_t)20 * 3600 * 1000000);
    for (int i = 0; i < 128; i++) /* exact */
        ctl_histogram_add(&small, i);
    for (int i = 1; i <= 128; i++)
        assert_int_equal(ctl_histogram_at(&small, i / 128.0), i - 1);
    assert_true(ctl_histogram_mean(&small) == 63.5);
}

static bool take(struct ctl_verdict *v, size_t text, long status, const char *body)
{
    struct ctl_verdict_answer answer;

    return ctl_verdict_take(v, text, status, body, strlen(body), &answer);
}

#define ANSWER(version, label, score)                                                              \
    "{\"version\":\"" version "\",\"results\":[{\"request_id\":\"r\",\"label\":" label             \
    ",\"score\":" score ",\"abstain\":true}]}"

static void test_answers(void **state)
{
    static const char *const wrong[] = {
        "",
        "<html>",
        "[]",
        "{}",
        "{\"version\":\"0.1\",\"results\":[]}",
        "{\"version\":\"0.1\",\"results\":[{\"label\":\"a\",\"score\":0.5}]}",
        "{\"results\":[{\"request_id\":\"r\",\"label\":\"a\",\"score\":0.5}]}",
        ANSWER("0.1", "\"a\"", "1.5"),
        ANSWER("0.1", "\"a\"", "-0.1"),
        ANSWER("0.1", "\"a\"", "\"high\""),
        ANSWER("0.1", "7", "0.5"),
        ANSWER("0,1", "\"a\"", "0.5"),
    };
    struct ctl_verdict v;

    (void)state;
    assert_int_equal(ctl_verdict_open(&v, 2, ""), 0);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_false(take(&v, 0, 200, wrong[i]));
        assert_int_equal(v.invalid, i + 1);
    }
    assert_string_equal(v.example, "text 1: no JSON");
    assert_true(take(&v, 0, 200, ANSWER("0.1", "\"a\"", "0.5")));
    assert_true(take(&v, 0, 200, ANSWER("0.0", "null", "null")));
    assert_int_equal(v.refused + v.differ + v.differ_unsettled, 0);
    ctl_verdict_close(&v);
}

static void test_sameness(void **state)
{
    struct ctl_verdict v;

    (void)state;
    assert_int_equal(ctl_verdict_open(&v, 2, "0.7"), 0);
    assert_true(take(&v, 0, 200, ANSWER("0.7", "\"a\"", "0.5")));
    assert_true(take(&v, 0, 200, ANSWER("0.7", "\"a\"", "0.5")));
    assert_true(take(&v, 1, 200, ANSWER("0.7", "\"a\"", "0.6"))); /* another text */
    assert_true(take(&v, 0, 200, ANSWER("0.8", "\"b\"", "0.6"))); /* another version */
    assert_int_equal(v.differ + v.differ_unsettled, 0);
    take(&v, 0, 200, ANSWER("0.8", "\"b\"", "0.61"));
    assert_int_equal(v.differ, 0);
    assert_int_equal(v.differ_unsettled, 1);
    take(&v, 0, 200, ANSWER("0.7", "\"a\"", "0.50001"));
    take(&v, 1, 200, ANSWER("0.7", "\"b\"", "0.6"));
    assert_int_equal(v.differ, 2);
    assert_string_equal(v.example, "text 1: two answers of one version");
    ctl_verdict_close(&v);
}

static void test_errors(void **state)
{
    struct ctl_verdict v;
    char body[64];

    (void)state;
    assert_int_equal(ctl_verdict_open(&v, 1, ""), 0);
    for (int i = 0; i < 3; i++)
        assert_false(take(&v, 0, 503, "{\"code\":\"queue_full\"}"));
    assert_false(take(&v, 0, 504, "{}"));
    ctl_verdict_none(&v, "timeout");
    assert_int_equal(v.errors_len, 3);
    assert_int_equal(v.errors[0].count, 3);
    assert_string_equal(v.errors[0].code, "queue_full");
    assert_int_equal(v.errors[1].status, 504);
    assert_int_equal(v.errors[2].status, 0);
    for (int i = 0; i < 100; i++) { /* the last place takes what has none */
        snprintf(body, sizeof body, "{\"code\":\"c%d\"}", i);
        take(&v, 0, 500, body);
    }
    assert_int_equal(v.errors_len, CTL_ERRORS_MAX);
    assert_int_equal(v.refused, 105);
    ctl_verdict_close(&v);
}

static void test_addresses(void **state)
{
    static const char *const good[] = {"http://127.0.0.1:8080", "http://127.9.9.9:1/",
                                       "HTTP://127.0.0.1",      "http://[::1]:80",
                                       "http://[::1]",          "unix:/tmp/x"};
    static const char *const bad[] = {
        "https://127.0.0.1", "http://",       "http://[::1",        "http://[::1]x", "unix:",
        "127.0.0.1:80",      "http://h/path", "http://1.2.3.4:port"};
    struct ctl_load_address address;
    char why[192];

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(ctl_load_resolve(good[i], &address, why, sizeof why), 0);
        assert_true(address.loopback);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(ctl_load_resolve(bad[i], &address, why, sizeof why), -EINVAL);
    assert_int_equal(ctl_load_resolve("http://10.0.0.1:80", &address, why, sizeof why), 0);
    assert_false(address.loopback);
    assert_int_equal(ctl_load_resolve("http://[2001:db8::1]:80", &address, why, sizeof why), 0);
    assert_false(address.loopback);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_percentiles), cmocka_unit_test(test_histogram_ends),
        cmocka_unit_test(test_answers),     cmocka_unit_test(test_sameness),
        cmocka_unit_test(test_errors),      cmocka_unit_test(test_addresses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
