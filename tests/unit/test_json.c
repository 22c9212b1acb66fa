/* test_json.c -- reading and writing JSON: limits, hostile bytes, numbers that read back, every
 * allocation failing.
 *
 * What must hold: a refusal never quotes the input; what is written is always UTF-8 and JSON,
 * whatever the bytes; every float reads back as itself; no failed allocation is taken for bad
 * syntax or leaks (ASan looks).
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/json.h"
#include "tests/unit/fault_alloc.h"

static struct json_value *read_or_fail(const char *text)
{
    struct json_value *root = NULL;
    struct json_problem problem = {"", ""};

    if (json_parse(text, strlen(text), NULL, &root, &problem) != 0)
        fail_msg("%s: %s (%s)", text, problem.code, problem.detail);
    return root;
}

static void test_reads_paths(void **state)
{
    (void)state;
    struct json_value *root = read_or_fail("{\"results\":[{\"label\":\"a.b\",\"score\":0.5,\"n\":7,"
                                           "\"ok\":true,\"none\":null}],\"x.y\":1}");
    size_t bytes = 0;

    assert_string_equal(json_text(json_get(root, "results[0].label"), &bytes), "a.b");
    assert_int_equal(bytes, 3);
    assert_true(json_number(json_get(root, "results[0].score"), 0) == 0.5);
    assert_true(json_number(json_get(root, "results[0].n"), 0) == 7.0);
    assert_int_equal(json_int(json_get(root, "results[0].n"), 0), 7);
    assert_int_equal(json_int(json_get(root, "results[0].score"), -1), -1);
    assert_true(json_bool(json_get(root, "results[0].ok"), false));
    assert_int_equal(json_kind(json_get(root, "results[0].none")), JSON_KIND_NULL);
    assert_int_equal(json_kind(json_get(root, "results[1].label")), JSON_KIND_NONE);
    assert_null(json_get(root, "results[x]"));
    assert_null(json_get(root, "results[99999999999999999999]"));
    assert_null(json_get(root, "nothing.at.all"));
    assert_int_equal(json_int(json_member(root, "x.y"), 0), 1);
    assert_int_equal(json_len(json_get(root, "results")), 1);
    assert_int_equal(json_len(NULL), 0);
    assert_null(json_text(NULL, NULL));
    assert_ptr_equal(json_get(root, ""), root);
    json_free(root);
}

static void test_refuses(void **state)
{
    static const struct {
        const char *text, *code;
    } ROWS[] = {
        {"", "malformed_json"},
        {"secret", "malformed_json"},
        {"{\"secret\":1,}", "malformed_json"},
        {"{\"secret\":NaN}", "malformed_json"},
        {"{\"secret\":Infinity}", "malformed_json"},
        {"{\"secret\":-Infinity}", "malformed_json"},
        {"{\"secret\":1} secret", "malformed_json"},
        {"{\"secret\":1", "malformed_json"},
        {"[\"secret\\ud800\"]", "malformed_json"},
        {"[\"secret\x01\"]", "malformed_json"},
        {"{\"a\\u0000secret\":1}", "malformed_json"},
        {"['secret']", "malformed_json"},
        {"\xef\xbb\xbf{}", "malformed_json"},
        {"[\"secret\xff\"]", "invalid_utf8"},
        {"[\"secret\xc0\xaf\"]", "invalid_utf8"},
        {"[\"secret\xed\xa0\x80\"]", "invalid_utf8"},
        {"{\"secret\":1,\"secret\":2}", "duplicate_field"},
        {"[1e999]", "out_of_range"},
        {"[123456789012345678901234567890]", "out_of_range"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        struct json_problem problem = {"", ""};
        struct json_value *root = (struct json_value *)&problem;

        assert_int_equal(json_parse(ROWS[i].text, strlen(ROWS[i].text), NULL, &root, &problem),
                         -EINVAL);
        assert_ptr_equal(root, &problem);
        if (strcmp(problem.code, ROWS[i].code) != 0)
            fail_msg("row %zu: %s, not %s", i, problem.code, ROWS[i].code);
        assert_null(strstr(problem.detail, "secret"));
        assert_true(problem.detail[0] != '\0');
    }
}

static void test_limits(void **state)
{
    const struct json_limits limits = {
        .bytes_max = 1000, .depth_max = 3, .containers_max = 10, .commas_max = 20};
    struct json_value *root = NULL;
    struct json_problem problem;
    char deep[2000];

    (void)state;
    assert_int_equal(json_parse("[[[]]]", 6, &limits, &root, &problem), 0);
    json_free(root);
    assert_int_equal(json_parse("[[[[]]]]", 8, &limits, &root, &problem), -E2BIG);
    assert_string_equal(problem.code, "too_deep");
    /* Brackets and commas in a text do not count, an escaped quote does not end it. */
    const char *quoted = "[\"\\\"[[[[[[[[[[[[,,,,,,,,,,,,,,,,,,,,,,,,,\"]";
    assert_int_equal(json_parse(quoted, strlen(quoted), &limits, &root, &problem), 0);
    json_free(root);
    const char *wide = "[[],[],[],[],[],[],[],[],[],[]]";
    assert_int_equal(json_parse(wide, strlen(wide), &limits, &root, &problem), -E2BIG);
    assert_string_equal(problem.code, "too_many_values");
    const char *many = "[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]";
    assert_int_equal(json_parse(many, strlen(many), &limits, &root, &problem), -E2BIG);
    memset(deep, ' ', sizeof deep);
    assert_int_equal(json_parse(deep, sizeof deep, &limits, &root, NULL), -E2BIG);
    memset(deep, '[', sizeof deep);
    assert_int_equal(json_parse(deep, sizeof deep, NULL, &root, &problem), -E2BIG);
    assert_string_equal(problem.code, "too_deep");
}

static void test_writes(void **state)
{
    struct api_buffer b = API_BUFFER_INIT;

    (void)state;
    json_open_object(&b);
    json_write_key(&b, "list");
    json_open_array(&b);
    json_open_array(&b);
    json_close_array(&b);
    json_open_object(&b);
    json_close_object(&b);
    json_write_null(&b);
    json_write_bool(&b, true);
    json_write_bool(&b, false);
    json_write_int(&b, INT64_MIN);
    json_write_number(&b, 0.1);
    json_write_number(&b, NAN);
    json_write_float(&b, -INFINITY);
    json_write_string(&b, NULL);
    json_write_text(&b, "", 0);
    json_write_text(&b, "a\"\\\n\x01\x0b\0/", 8);
    json_write_raw(&b, "[1]", 3);
    json_close_array(&b);
    json_write_key(&b, "k\"{");
    json_write_string(&b, "{[:");
    json_write_key(&b, "z");
    json_write_int(&b, 1);
    json_close_object(&b);
    api_buffer_add(&b, "", 1);
    assert_string_equal(
        b.bytes, "{\"list\":[[],{},null,true,false,-9223372036854775808,0.1,null,null,null,"
                 "\"\",\"a\\\"\\\\\\n\\u0001\\u000b\\u0000/\",[1]],\"k\\\"{\":\"{[:\",\"z\":1}");
    api_buffer_done(&b);
}

/* Any bytes: what is written reads back, is valid UTF-8, and differs only where the bytes were not.
 */
static void test_writes_hostile_bytes(void **state)
{
    static const struct {
        const char *bytes, *text;
    } ROWS[] = {
        {"\xff", "\xef\xbf\xbd"},
        {"a\xc3", "a\xef\xbf\xbd"},
        {"\xc3\xa4", "\xc3\xa4"},
        {"\xc0\x80", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xe0\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xed\x9f\xbf", "\xed\x9f\xbf"},
        {"\xf0\x9f\x99\x82", "\xf0\x9f\x99\x82"},
        {"\xf0\x9f\x99", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"},
        {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xf5x", "\xef\xbf\xbdx"},
    };
    uint32_t seed = 12345;

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        struct api_buffer b = API_BUFFER_INIT;
        struct json_value *root;
        json_write_string(&b, ROWS[i].bytes);
        assert_int_equal(json_parse(b.bytes, b.len, NULL, &root, NULL), 0);
        assert_string_equal(json_text(root, NULL), ROWS[i].text);
        assert_int_equal(json_is_utf8(ROWS[i].bytes, strlen(ROWS[i].bytes)),
                         strcmp(ROWS[i].bytes, ROWS[i].text) == 0);
        json_free(root);
        api_buffer_done(&b);
    }
    assert_true(json_is_utf8("", 0));
    assert_true(json_is_utf8("a\0b", 3));
    assert_false(json_is_utf8("\xc3\xa4", 1));
    assert_int_equal(json_utf8_sequence("\xe4\xb8\xad", 3), 3);
    assert_int_equal(json_utf8_sequence("\xe4\xb8\xad", 2), 0);
    assert_int_equal(json_utf8_sequence("", 0), 0);
    for (int round = 0; round < 2000; round++) {
        struct api_buffer b = API_BUFFER_INIT;
        struct json_value *root;
        char bytes[40];
        for (size_t i = 0; i < sizeof bytes; i++) {
            seed = seed * 1664525 + 1013904223;
            bytes[i] = (char)(seed >> 24);
        }
        json_open_object(&b);
        json_write_key(&b, "k");
        json_write_text(&b, bytes, sizeof bytes);
        json_close_object(&b);
        assert_int_equal(json_parse(b.bytes, b.len, NULL, &root, NULL), 0);
        size_t len = 0;
        const char *text = json_text(json_get(root, "k"), &len);
        assert_int_equal(json_is_utf8(bytes, sizeof bytes),
                         len == sizeof bytes && memcmp(text, bytes, len) == 0);
        json_free(root);
        api_buffer_done(&b);
    }
}

static void check_float(float number)
{
    struct api_buffer b = API_BUFFER_INIT;

    json_write_float(&b, number);
    api_buffer_add(&b, "", 1);
    if (strtof(b.bytes, NULL) != number)
        fail_msg("%.9g became %s", (double)number, b.bytes);
    if (b.len > 24)
        fail_msg("%.9g is long: %s", (double)number, b.bytes);
    struct json_value *root;
    assert_int_equal(json_parse(b.bytes, b.len - 1, NULL, &root, NULL), 0);
    json_free(root);
    api_buffer_done(&b);
}

static void test_floats_read_back(void **state)
{
    static const float ROWS[] = {0.0f,      -0.0f,       1.0f,       0.1f,   0.5f,   1e-4f,
                                 9.9e-5f,   999999.9f,   1e6f,       1e-38f, 1e-45f, 3.4e38f,
                                 123456.7f, 0.99999994f, 1.0000001f, 0.001f, 100.0f, -0.04f};
    uint32_t seed = 1;

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++)
        check_float(ROWS[i]);
    for (int round = 0; round < 200000; round++) {
        float number;
        seed = seed * 1664525 + 1013904223;
        uint32_t bits = seed ^ seed >> 15;
        memcpy(&number, &bits, sizeof number);
        if (isfinite(number))
            check_float(number);
        check_float((float)((double)seed / 4294967296.0 * 2.0 - 1.0));
    }
}

static void test_float_spelling(void **state)
{
    static const struct {
        float number;
        const char *text;
    } ROWS[] = {{0.94f, "0.94"},   {1.0f, "1"},           {0.0f, "0"},         {-0.25f, "-0.25"},
                {0.001f, "0.001"}, {123456.0f, "123456"}, {0.0001f, "0.0001"}, {10.5f, "10.5"}};

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        struct api_buffer b = API_BUFFER_INIT;
        json_write_float(&b, ROWS[i].number);
        api_buffer_add(&b, "", 1);
        assert_string_equal(b.bytes, ROWS[i].text);
        api_buffer_done(&b);
    }
}

static void test_doubles_read_back(void **state)
{
    static const double ROWS[] = {0.1, 1.0 / 3, 1e300, 5e-324, 0.15, 1e-6, 123456789.125};

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        struct api_buffer b = API_BUFFER_INIT;
        json_write_number(&b, ROWS[i]);
        api_buffer_add(&b, "", 1);
        assert_true(strtod(b.bytes, NULL) == ROWS[i]);
        api_buffer_done(&b);
    }
}

static void test_value_round_trip(void **state)
{
    static const char TEXT[] = "{\"b\":[1,2.5,\"x\\n\",null,true,{\"a\":{}}],\"a\":\"\\u0000\"}";
    struct json_value *root = read_or_fail(TEXT);
    struct api_buffer b = API_BUFFER_INIT;

    (void)state;
    json_write_value(&b, root);
    api_buffer_add(&b, "", 1);
    assert_string_equal(b.bytes, TEXT);
    json_free(root);
    api_buffer_done(&b);
}

static void test_every_allocation_fails(void **state)
{
    static const char TEXT[] = "{\"inputs\":[{\"text\":\"a longer text than any small buffer of "
                               "the reader holds: 0123456789\","
                               "\"n\":1.25e3,\"i\":123456}],\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":"
                               "5,\"f\":6,\"g\":7,\"h\":8}";
    int64_t held = fault_alloc_held();
    struct json_value *root;
    struct json_problem problem;
    uint64_t n;
    int rc;

    (void)state;
    for (n = 1;; n++) {
        root = NULL;
        fault_alloc_arm(n, false);
        rc = json_parse(TEXT, sizeof TEXT - 1, NULL, &root, &problem);
        if (!fault_alloc_disarm())
            break;
        assert_int_equal(rc, -ENOMEM);
        assert_null(root);
        assert_int_equal(fault_alloc_held(), held);
    }
    assert_int_equal(rc, 0);
    json_free(root);
    assert_true(n > 20);
}

static void test_buffer(void **state)
{
    struct api_buffer b = API_BUFFER_INIT;
    size_t bytes = 0;

    (void)state;
    for (int i = 0; i < 10000; i++)
        api_buffer_add_string(&b, "0123456789");
    assert_int_equal(b.rc, 0);
    assert_int_equal(b.len, 100000);
    fault_alloc_arm(1, false);
    api_buffer_reserve(&b, 1 << 20);
    assert_true(fault_alloc_disarm());
    assert_int_equal(b.rc, -ENOMEM);
    assert_int_equal(b.len, 100000);
    api_buffer_add_string(&b, "x");
    assert_int_equal(b.len, 100000);
    assert_null(api_buffer_take(&b, &bytes));
    api_buffer_reset(&b);
    api_buffer_add_string(&b, "x");
    assert_int_equal(b.rc, 0);
    api_buffer_reserve(&b, SIZE_MAX - 10);
    assert_int_equal(b.rc, -ENOMEM);
    api_buffer_reset(&b);
    api_buffer_add_string(&b, "y");
    char *mine = api_buffer_take(&b, &bytes);
    assert_int_equal(bytes, 1);
    assert_int_equal(mine[0], 'y');
    api_free(mine);
    api_buffer_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_paths),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_writes),
        cmocka_unit_test(test_writes_hostile_bytes),
        cmocka_unit_test(test_floats_read_back),
        cmocka_unit_test(test_float_spelling),
        cmocka_unit_test(test_doubles_read_back),
        cmocka_unit_test(test_value_round_trip),
        cmocka_unit_test(test_every_allocation_fails),
        cmocka_unit_test(test_buffer),
    };

    fault_alloc_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
