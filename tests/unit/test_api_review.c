/* test_api_review.c -- the query parameters of /review and /next: what is taken, and every way to
 * be refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/api.h"

static void check_refused(int rc, const struct api_problem *problem, const char *code,
                          const char *field)
{
    assert_int_equal(rc, -EINVAL);
    assert_int_equal(problem->status, 422);
    assert_string_equal(problem->code, code);
    assert_string_equal(problem->field, field);
}

static void test_kinds(void **state)
{
    static const char *const good[] = {"likely_wrong", "contradicting", "duplicate", "influence"};
    static const char *const bad[] = {"", "likely", "likely_wrongs", "Duplicate", "all"};
    enum api_review_kind kind = API_INFLUENCE;
    struct api_problem problem;

    (void)state;
    for (int i = 0; i < API_REVIEW_KINDS; i++) {
        assert_int_equal(api_review_kind_parse(good[i], strlen(good[i]), &kind, &problem), 0);
        assert_int_equal(kind, i);
    }
    assert_int_equal(api_review_kind_parse(NULL, 0, &kind, &problem), 0);
    assert_int_equal(kind, API_REVIEW_KINDS);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        check_refused(api_review_kind_parse(bad[i], strlen(bad[i]), &kind, &problem), &problem,
                      "invalid_value", "kind");
    assert_int_equal(kind, API_REVIEW_KINDS);
}

static void test_seeds(void **state)
{
    static const struct {
        const char *text;
        uint64_t seed;
    } good[] = {{"0", 0}, {"17", 17}, {"9007199254740991", 9007199254740991u}};
    static const char *const bad[] = {"",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "1.",
                                      "x",
                                      "0x1",
                                      "1e3",
                                      "9007199254740992",
                                      "99999999999999999999999"};
    struct api_problem problem;
    uint64_t seed = 1;

    (void)state;
    assert_int_equal(api_seed_parse(NULL, 0, &seed, &problem), 0);
    assert_true(seed == 0);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(api_seed_parse(good[i].text, strlen(good[i].text), &seed, &problem), 0);
        assert_true(seed == good[i].seed);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        check_refused(api_seed_parse(bad[i], strlen(bad[i]), &seed, &problem), &problem,
                      "out_of_range", "seed");
}

static void test_shares(void **state)
{
    static const struct {
        const char *text;
        double share;
    } good[] = {{"0", 0}, {"1", 1}, {"0.25", 0.25}, {"1.0", 1}, {"1e-1", 0.1}, {"2.5E-01", 0.25}};
    static const char *const bad[] = {"",     "-0.1", "1.01", ".5",  "1e", "1e+1", "1e400", "1-1",
                                      "0..1", "nan",  "inf",  "0x0", " 0", "0.5 ", "half"};
    struct api_problem problem;
    double share = 5;

    (void)state;
    assert_int_equal(api_share_parse(NULL, 0, &share, &problem), 0);
    assert_true(share == 0.2);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(api_share_parse(good[i].text, strlen(good[i].text), &share, &problem), 0);
        assert_true(share == good[i].share);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        check_refused(api_share_parse(bad[i], strlen(bad[i]), &share, &problem), &problem,
                      "out_of_range", "random_share");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_shares),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
