/* test_traceparent.c -- W3C traceparent and tracestate, by the recommendation's own rules. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/traceparent.h"

#define ID "0af7651916cd43dd8448eb211c80319c"
#define PARENT "b7ad6b7169203331"

static void test_good(void **state)
{
    static const struct {
        const char *text;
        bool sampled;
    } good[] = {
        {"00-" ID "-" PARENT "-01", true},
        {"00-" ID "-" PARENT "-00", false},
        {"00-" ID "-" PARENT "-03", true}, /* flags that are not defined yet */
        {"00-" ID "-" PARENT "-fe", false},
        {"01-" ID "-" PARENT "-01", true}, /* later versions are read as 00 */
        {"cc-" ID "-" PARENT "-01-what-the-future-holds", true},
        {"fe-" ID "-" PARENT "-01-", true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct trace t;
        char text[TRACE_PARENT_BYTES];

        assert_int_equal(trace_parse(good[i].text, &t), 0);
        assert_string_equal(t.id, ID);
        assert_string_equal(t.parent, PARENT);
        assert_string_equal(t.span, "");
        assert_int_equal(t.sampled, good[i].sampled);
        trace_span(0xabc, t.span);
        trace_write(&t, text);
        assert_string_equal(text, t.sampled ? "00-" ID "-0000000000000abc-01"
                                            : "00-" ID "-0000000000000abc-00");
    }
}

static void test_bad(void **state)
{
    static const char *const bad[] = {
        "",
        "00",
        "00-" ID "-" PARENT "-",
        "00-" ID "-" PARENT "-1",
        "00-" ID "-" PARENT "-01-", /* 00 ends there */
        "00-" ID "-" PARENT "-01.",
        "00-" ID "-" PARENT "-011",
        "01-" ID "-" PARENT "-01x", /* and a later one goes on behind a '-' */
        "ff-" ID "-" PARENT "-01",  /* no version */
        "0x-" ID "-" PARENT "-01",
        "0-" ID "-" PARENT "-01",
        "000-" ID "-" PARENT "-01",
        "00-" ID "-" PARENT "-0g",
        "00-" ID "-" PARENT "-0A",
        "00-0AF7651916CD43DD8448EB211C80319C-" PARENT "-01", /* capitals */
        "00-" ID "-B7AD6B7169203331-01",
        "00-00000000000000000000000000000000-" PARENT "-01",
        "00-" ID "-0000000000000000-01",
        "00-0af7651916cd43dd8448eb211c80319-" PARENT "-01",
        "00-0af7651916cd43dd8448eb211c80319cc-" PARENT "-01",
        "00-" ID "-b7ad6b716920333-01",
        "00-" ID "-b7ad6b71692033311-01",
        "00_" ID "_" PARENT "_01",
        " 00-" ID "-" PARENT "-01",
        "00-" ID "-" PARENT "-01 ",
        "00-" ID "." PARENT "-01",
    };
    struct trace t = {.id = "untouched"};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(trace_parse(bad[i], &t), -EINVAL);
    assert_string_equal(t.id, "untouched");
}

static void test_span(void **state)
{
    char span[17];

    (void)state;
    trace_span(0, span);
    assert_string_not_equal(span, "0000000000000000");
    trace_span(UINT64_MAX, span);
    assert_string_equal(span, "ffffffffffffffff");
}

static void test_state(void **state)
{
    char longest[TRACE_STATE_BYTES_MAX + 2];

    (void)state;
    memset(longest, 'a', sizeof longest);
    longest[TRACE_STATE_BYTES_MAX + 1] = '\0';
    assert_false(trace_state_sound(longest));
    longest[TRACE_STATE_BYTES_MAX] = '\0';
    assert_true(trace_state_sound(longest));
    assert_true(trace_state_sound("congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"));
    assert_false(trace_state_sound(""));
    assert_false(trace_state_sound("a=\x80"));
    assert_false(trace_state_sound("a=b\tc=d"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_span),
        cmocka_unit_test(test_state),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
