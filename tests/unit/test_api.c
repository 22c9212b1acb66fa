/* test_api.c -- the small words: problems, ids, versions, cursors, query parameters, times, names,
 * and the contract.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "proto/api.h"
#include "proto/json.h"
#include "proto/openapi.h"

static void *no_memory(size_t bytes)
{
    (void)bytes;
    return NULL;
}

/* As printf, whatever the length, behind what is there; without memory nothing is half there. */
static void test_formats(void **state)
{
    struct api_buffer b = API_BUFFER_INIT;

    (void)state;
    api_buffer_addf(&b, "%s %d%%, ", "one", 50);
    api_buffer_addf(&b, "%2000d", 7);
    api_buffer_addf(&b, "%s", "");
    assert_int_equal(b.rc, 0);
    assert_int_equal(b.len, 9 + 2000);
    assert_memory_equal(b.bytes, "one 50%, ", 9);
    assert_int_equal(b.bytes[b.len - 1], '7');
    api_alloc_set(no_memory, free);
    api_buffer_addf(&b, "%100000d", 7);
    api_alloc_set(malloc, free);
    assert_int_equal(b.rc, -ENOMEM);
    assert_int_equal(b.len, 9 + 2000);
    api_buffer_done(&b);
}

static void test_problem(void **state)
{
    struct api_buffer b = API_BUFFER_INIT;
    struct api_problem problem;
    char longer[400];

    (void)state;
    assert_int_equal(api_problem_set(&problem, 422, "out_of_range", "top_k", "at most %d", 1000),
                     -EINVAL);
    api_write_problem(&b, &problem, "01J9");
    api_buffer_add(&b, "", 1);
    assert_string_equal(
        b.bytes, "{\"type\":\"about:blank\",\"title\":\"Unprocessable Content\",\"status\":422,"
                 "\"code\":\"out_of_range\",\"detail\":\"at most 1000\",\"field\":\"top_k\","
                 "\"request_id\":\"01J9\"}");
    api_buffer_reset(&b);

    /* What does not fit is cut between characters. */
    for (size_t i = 0; i + 2 < sizeof longer; i += 2)
        memcpy(longer + i, "\xc3\xa4", 3);
    longer[0] = 'x';
    longer[1] = 'y';
    api_problem_set(&problem, 400, NULL, longer, "%s", longer);
    assert_true(strlen(problem.field) <= 95 && strlen(problem.field) >= 94);
    assert_int_equal(strlen(problem.field) % 2, 0);
    api_write_problem(&b, &problem, NULL);
    api_buffer_add(&b, "", 1);
    assert_null(strstr(b.bytes, "\xef\xbf\xbd"));
    assert_non_null(strstr(b.bytes, "\"code\":\"error\""));
    assert_string_equal(api_status_title(404), "Not Found");
    assert_string_equal(api_status_title(299), "Error");
    api_buffer_done(&b);
}

static void test_ids(void **state)
{
    uint8_t id[API_ID_BYTES], again[API_ID_BYTES];
    char text[API_ID_CHARS];

    (void)state;
    for (size_t i = 0; i < sizeof id; i++)
        id[i] = (uint8_t)(i * 17);
    api_id_format(id, text);
    assert_string_equal(text, "00112233445566778899aabbccddeeff");
    assert_int_equal(api_id_parse(text, 32, again), 0);
    assert_memory_equal(id, again, sizeof id);
    assert_int_equal(api_id_parse("00112233445566778899AABBCCDDEEFF", 32, again), 0);
    assert_memory_equal(id, again, sizeof id);
    assert_int_equal(api_id_parse(text, 31, again), -EINVAL);
    assert_int_equal(api_id_parse("00112233445566778899aabbccddeefg", 32, again), -EINVAL);
    assert_int_equal(api_id_parse("", 0, again), -EINVAL);
}

static void test_versions(void **state)
{
    static const char *const BAD[] = {"",
                                      ".",
                                      "1",
                                      "1.",
                                      ".1",
                                      "1.2.3",
                                      "01.2",
                                      "1.02",
                                      "-1.2",
                                      "+1.2",
                                      "1.a",
                                      " 1.2",
                                      "1.99999999999999999999"};
    struct api_version version = {7, 7};
    char text[API_VERSION_CHARS];

    (void)state;
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        assert_int_equal(api_version_parse(BAD[i], strlen(BAD[i]), &version), -EINVAL);
        assert_int_equal(version.encoder, 7);
    }
    assert_int_equal(api_version_parse("2.1850", 6, &version), 0);
    assert_int_equal(version.encoder, 2);
    assert_int_equal(version.seq, 1850);
    api_version_format(version, text);
    assert_string_equal(text, "2.1850");
    version = (struct api_version){INT64_MAX, INT64_MAX};
    api_version_format(version, text);
    assert_int_equal(api_version_parse(text, strlen(text), &version), 0);
    assert_true(version.seq == INT64_MAX && version.encoder == INT64_MAX);
    assert_int_equal(api_version_parse("0.0", 3, &version), 0);
}

static void test_cursors(void **state)
{
    static const int64_t AFTER[] = {0, 1, -1, 1851, INT64_MAX, INT64_MIN};
    struct api_problem problem;
    char text[API_CURSOR_CHARS];

    (void)state;
    for (size_t i = 0; i < sizeof AFTER / sizeof AFTER[0]; i++) {
        struct api_cursor sent = {'e', 3, AFTER[i]}, got = {'e', 3, 99};
        api_cursor_format(&sent, text);
        assert_int_equal(api_cursor_parse(text, strlen(text), 0, &got, &problem), 0);
        assert_true(got.after == AFTER[i]);

        struct api_cursor other_list = {'l', 3, 99}, other_model = {'e', 4, 99};
        assert_int_equal(api_cursor_parse(text, strlen(text), 0, &other_list, &problem), -EINVAL);
        assert_string_equal(problem.code, "invalid_cursor");
        assert_string_equal(problem.field, "cursor");
        assert_int_equal(problem.status, 422);
        assert_int_equal(other_list.after, 99);
        assert_int_equal(api_cursor_parse(text, strlen(text), 0, &other_model, &problem), -EINVAL);
        text[5] = text[5] == '0' ? '1' : '0';
        assert_int_equal(api_cursor_parse(text, strlen(text), 0, &got, &problem), -EINVAL);
    }
    struct api_cursor none = {'e', 3, 99};
    assert_int_equal(api_cursor_parse(NULL, 0, 12, &none, &problem), 0);
    assert_int_equal(none.after, 12);
    assert_int_equal(api_cursor_parse("17", 2, 0, &none, &problem), -EINVAL);
    assert_int_equal(api_cursor_parse("00000000000000000000000000000000", 32, 0, &none, &problem),
                     -EINVAL);
}

static void test_parameters(void **state)
{
    struct api_problem problem;
    uint32_t limit = 0;
    bool flag = false;

    (void)state;
    assert_int_equal(api_limit_parse(NULL, 0, &limit, &problem), 0);
    assert_int_equal(limit, API_LIMIT_DEFAULT);
    assert_int_equal(api_limit_parse("1000", 4, &limit, &problem), 0);
    assert_int_equal(limit, 1000);
    static const char *const BAD[] = {"", "0", "1001", "-1", "ten", "1.5", "99999999999999999999"};
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        assert_int_equal(api_limit_parse(BAD[i], strlen(BAD[i]), &limit, &problem), -EINVAL);
        assert_string_equal(problem.code, "out_of_range");
        assert_string_equal(problem.field, "limit");
    }
    assert_int_equal(api_flag_parse("x", NULL, 0, true, &flag, &problem), 0);
    assert_true(flag);
    assert_int_equal(api_flag_parse("x", "false", 5, true, &flag, &problem), 0);
    assert_false(flag);
    assert_int_equal(api_flag_parse("x", "", 0, false, &flag, &problem), 0);
    assert_true(flag);
    assert_int_equal(api_flag_parse("x", "maybe", 5, false, &flag, &problem), -EINVAL);
    assert_string_equal(problem.field, "x");
    assert_int_equal(api_wait_parse("applied", 7, &flag, &problem), 0);
    assert_true(flag);
    assert_int_equal(api_wait_parse(NULL, 0, &flag, &problem), 0);
    assert_false(flag);
    assert_int_equal(api_wait_parse("none", 4, &flag, &problem), -EINVAL);
    assert_string_equal(problem.code, "invalid_value");
}

static void check_time(int64_t us, const char *expected)
{
    char text[API_TIME_CHARS];

    api_time_format(us, text);
    assert_string_equal(text, expected);
}

static void test_times(void **state)
{
    char text[API_TIME_CHARS], expected[64];
    uint64_t seed = 1;

    (void)state;
    check_time(0, "1970-01-01T00:00:00.000000Z");
    check_time(-1, "1969-12-31T23:59:59.999999Z");
    check_time(INT64_C(951782400000000), "2000-02-29T00:00:00.000000Z");
    check_time(INT64_MIN, "0000-01-01T00:00:00.000000Z");
    check_time(INT64_MAX, "9999-12-31T23:59:59.999999Z");
    for (int round = 0; round < 100000; round++) { /* against the C library, over 10,000 years */
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        int64_t second = (int64_t)(seed >> 16) % INT64_C(315569520000) - INT64_C(62167219200);
        time_t t = (time_t)second;
        struct tm tm;
        gmtime_r(&t, &tm);
        snprintf(expected, sizeof expected, "%04d-%02d-%02dT%02d:%02d:%02d.000007Z",
                 tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
        api_time_format(second * 1000000 + 7, text);
        if (tm.tm_year + 1900 <= 9999)
            assert_string_equal(text, expected);
    }
}

static void test_names(void **state)
{
    char longest[129];

    (void)state;
    memset(longest, 'a', sizeof longest);
    assert_true(api_model_name_valid("default", 7));
    assert_true(api_model_name_valid("9.a_b-c", 7));
    assert_true(api_model_name_valid(longest, 128));
    assert_false(api_model_name_valid(longest, 129));
    assert_false(api_model_name_valid("", 0));
    assert_false(api_model_name_valid(".a", 2));
    assert_false(api_model_name_valid("a/b", 3));
    assert_false(api_model_name_valid("a\0b", 3));
    assert_false(api_model_name_valid("\xc3\xa4", 2));
    assert_true(api_name_valid("wo ist \xc3\xa4?", 10));
    assert_true(api_name_valid(longest, 128));
    assert_false(api_name_valid(longest, 129));
    assert_false(api_name_valid("", 0));
    assert_false(api_name_valid("a\nb", 3));
    assert_false(api_name_valid("a\x7f", 2));
    assert_false(api_name_valid("a\0b", 3));
}

static int count_reference(const struct json_value *doc, const struct json_value *value);

struct references {
    const struct json_value *doc;
    int count;
};

static int visit(void *ud, const char *key, const struct json_value *value)
{
    struct references *seen = ud;
    const char *text = json_text(value, NULL);

    if (strcmp(key, "$ref") == 0 && text) {
        char path[200];
        assert_memory_equal(text, "#/", 2);
        snprintf(path, sizeof path, "%s", text + 2);
        for (char *c = path; *c; c++)
            *c = *c == '/' ? '.' : *c;
        if (!json_get(seen->doc, path))
            fail_msg("%s points nowhere", text);
        seen->count++;
    }
    seen->count += count_reference(seen->doc, value);
    return 0;
}

static int count_reference(const struct json_value *doc, const struct json_value *value)
{
    struct references seen = {doc, 0};

    json_each(value, visit, &seen);
    for (size_t i = 0; json_kind(value) == JSON_KIND_ARRAY && i < json_len(value); i++)
        seen.count += count_reference(doc, json_at(value, i));
    return seen.count;
}

static void test_contract(void **state)
{
    static const char *const PATHS[][2] = {
        {"/v1/classify", "post"},
        {"/v1/embed", "post"},
        {"/v1/feedback", "post"},
        {"/v1/models", "get"},
        {"/v1/models", "post"},
        {"/v1/models/{model}", "get"},
        {"/v1/models/{model}", "patch"},
        {"/v1/models/{model}", "delete"},
        {"/v1/models/{model}/labels", "get"},
        {"/v1/models/{model}/labels", "post"},
        {"/v1/models/{model}/examples", "get"},
        {"/v1/examples/{id}", "get"},
        {"/v1/examples/{id}", "delete"},
        {"/v1/models/{model}/versions", "get"},
        {"/v1/models/{model}/versions/{version}", "get"},
        {"/v1/info", "get"},
        {"/v1/requests/{id}", "get"},
        {"/health/live", "get"},
        {"/health/ready", "get"},
        {"/metrics", "get"},
        {"/openapi.json", "get"},
    };
    size_t bytes = 0;
    const char *text = openapi_json(&bytes);
    struct json_value *doc = NULL;

    (void)state;
    assert_int_equal(strlen(text), bytes);
    assert_int_equal(json_parse(text, bytes, NULL, &doc, NULL), 0);
    assert_string_equal(json_text(json_member(doc, "openapi"), NULL), "3.1.0");
    for (size_t i = 0; i < sizeof PATHS / sizeof PATHS[0]; i++) {
        const struct json_value *path = json_member(json_get(doc, "paths"), PATHS[i][0]);
        if (!json_get(json_member(path, PATHS[i][1]), "responses.default"))
            fail_msg("no %s %s", PATHS[i][1], PATHS[i][0]);
    }
    assert_true(count_reference(doc, doc) > 100);
    json_free(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats),  cmocka_unit_test(test_problem),
        cmocka_unit_test(test_ids),      cmocka_unit_test(test_versions),
        cmocka_unit_test(test_cursors),  cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_times),    cmocka_unit_test(test_names),
        cmocka_unit_test(test_contract),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
