/* POST /v1/erase: what is read, what is refused, what is written. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/api.h"
#include "tests/unit/body_fixture.h"

static struct api_erase *good(const char *body)
{
    struct api_erase *erase = NULL;
    struct api_problem problem;

    if (api_parse_erase(body, strlen(body), &erase, &problem) != 0)
        fail_msg("%s: %s %s", body, problem.code, problem.field);
    return erase;
}

static int try_erase(const char *body, size_t bytes, struct api_problem *problem)
{
    struct api_erase *erase = NULL;
    int rc = api_parse_erase(body, bytes, &erase, problem);

    assert_true((rc == 0) == (erase != NULL));
    api_erase_free(erase);
    return rc;
}

static void bad(const char *body, int status, const char *code, const char *field)
{
    body_bad(try_erase, &(struct bad_body){body, status, code, field});
}

static void test_what_is_read(void **state)
{
    struct api_erase *e = good("{\"text\":\"a\\u0000b\",\"text_pair\":\"c\",\"model\":\"m\"}");

    (void)state;
    assert_int_equal(e->text_bytes, 3);
    assert_memory_equal(e->text, "a\0b", 3);
    assert_int_equal(e->pair_bytes, 1);
    assert_string_equal(e->model, "m");
    assert_null(e->annotator);
    api_erase_free(e);
    e = good("{\"annotator\":\"a17\"}");
    assert_string_equal(e->annotator, "a17");
    assert_null(e->text);
    assert_null(e->pair);
    assert_null(e->model);
    api_erase_free(e);
    api_erase_free(NULL);
}

static void test_what_is_refused(void **state)
{
    (void)state;
    bad("{}", 422, "missing_field", "text");
    bad("{\"model\":\"m\"}", 422, "missing_field", "text");
    bad("{\"text\":\"\"}", 422, "empty_text", "text");
    bad("{\"text\":null}", 422, "wrong_type", "text");
    bad("{\"text_pair\":\"a\"}", 422, "conflicting_fields", "text_pair");
    bad("{\"annotator\":\"a\",\"text_pair\":\"a\"}", 422, "conflicting_fields", "text_pair");
    bad("{\"annotator\":\"a\",\"text\":\"a\"}", 422, "conflicting_fields", "annotator");
    bad("{\"annotator\":\"\"}", 422, "invalid_name", "annotator");
    bad("{\"annotator\":\"a\\u0007\"}", 422, "invalid_name", "annotator");
    bad("{\"text\":\"a\",\"example\":\"b\"}", 422, "unknown_field", "example");
    bad("[]", 422, "wrong_type", "");
    bad("{\"text\":\"a\",\"text\":\"b\"}", 400, "duplicate_field", "");
    bad("", 400, "malformed_json", "");
}

static void test_what_is_written(void **state)
{
    struct api_buffer buffer = API_BUFFER_INIT;
    static const char expected[] = "{\"erased\":{\"examples\":1,\"votes\":2,\"requests\":3}}";

    (void)state;
    api_write_erased(&buffer, &(struct api_erased){1, 2, 3});
    assert_int_equal(buffer.rc, 0);
    assert_int_equal(buffer.len, sizeof expected - 1);
    assert_memory_equal(buffer.bytes, expected, buffer.len);
    api_buffer_done(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_read),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_what_is_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
