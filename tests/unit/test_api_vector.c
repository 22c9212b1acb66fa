/* Vectors in requests: brought to unit length, refused with the place that is wrong, written from
 * fp16. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proto/api.h"
#include "proto/json.h"

static struct api_feedback *item(const char *vector)
{
    struct api_feedback *feedback = NULL;
    struct api_problem problem;
    char body[512];
    int len = snprintf(body, sizeof body, "{\"label\":\"x\",\"vector\":%s}", vector);

    if (api_parse_feedback(body, (size_t)len, &feedback, &problem) != 0)
        fail_msg("%s: %s %s", vector, problem.code, problem.field);
    return feedback;
}

static void bad(const char *vector, const char *code, const char *field)
{
    struct api_classify *classify = NULL;
    struct api_problem problem;
    char body[512];
    int len =
        snprintf(body, sizeof body, "{\"inputs\":[{\"vector\":[1,2]},{\"vector\":%s}]}", vector);

    assert_int_equal(api_parse_classify(body, (size_t)len, &classify, &problem), -EINVAL);
    assert_int_equal(problem.status, 422);
    assert_string_equal(problem.code, code);
    assert_string_equal(problem.field, field);
}

static void test_unit_length(void **state)
{
    static const char *const same[] = {"[3,-4]",           "[30,-40]",       "[3e200,-4e200]",
                                       "[3e-200,-4e-200]", "[0.003,-0.004]", "[0.3,-0.4]"};

    (void)state;
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        struct api_feedback *f = item(same[i]);

        assert_int_equal(f->items[0].vector_len, 2);
        assert_null(f->items[0].text);
        assert_true(fabsf(f->items[0].vector[0] - 0.6f) < 1e-6f);
        assert_true(fabsf(f->items[0].vector[1] + 0.8f) < 1e-6f);
        api_feedback_free(f);
    }
}

/* 0.6 and 0.8 as fp16 has them are not quite of unit length: they are not moved again. */
static void test_rounded_numbers_stay(void **state)
{
    struct api_feedback *f = item("[0.60009765625,0.7998046875]");

    (void)state;
    assert_true(f->items[0].vector[0] == 0.60009765625f);
    assert_true(f->items[0].vector[1] == 0.7998046875f);
    api_feedback_free(f);
}

static void test_canonical(void **state)
{
    struct api_feedback *one = item("[3,4]"), *same = item("[ 3.0, 4e0 ]"), *other = item("[4,3]");

    (void)state;
    assert_int_equal(one->items[0].canonical_bytes, same->items[0].canonical_bytes);
    assert_memory_equal(one->items[0].canonical, same->items[0].canonical,
                        one->items[0].canonical_bytes);
    assert_true(one->items[0].canonical_bytes != other->items[0].canonical_bytes ||
                memcmp(one->items[0].canonical, other->items[0].canonical,
                       one->items[0].canonical_bytes) != 0);
    api_feedback_free(one);
    api_feedback_free(same);
    api_feedback_free(other);
}

static void test_refusals(void **state)
{
    (void)state;
    bad("[0,0]", "invalid_vector", "inputs[1].vector");
    bad("[-0.0,0]", "invalid_vector", "inputs[1].vector");
    bad("[1]", "wrong_dim", "inputs[1].vector");
    bad("[]", "wrong_dim", "inputs[1].vector");
    bad("[1,null]", "wrong_type", "inputs[1].vector[1]");
    bad("[[1],2]", "wrong_type", "inputs[1].vector[0]");
    bad("{}", "wrong_type", "inputs[1].vector");
    bad("1", "wrong_type", "inputs[1].vector");
    bad("[1,2],\"text\":\"a\"", "conflicting_fields", "inputs[1].vector");
}

static void test_written(void **state)
{
    static const uint16_t halves[] = {0x3c00, 0xb800, 0x0001, 0x83ff, 0x3555, 0x0400};
    static const double numbers[] = {1, -0.5, 0x1p-24, -0x3ffp-24, 0x555p-12, 0x1p-14};
    struct api_example example = {
        .model = "m", .status = "active", .vector = halves, .vector_len = 6};
    struct api_buffer b = API_BUFFER_INIT;
    struct json_value *root;

    (void)state;
    api_write_example(&b, &example);
    assert_int_equal(b.rc, 0);
    assert_int_equal(json_parse(b.bytes, b.len, NULL, &root, NULL), 0);
    assert_int_equal(json_kind(json_get(root, "text")), JSON_KIND_NULL);
    assert_int_equal(json_len(json_get(root, "vector")), 6);
    for (size_t i = 0; i < 6; i++)
        assert_true((float)json_number(json_at(json_get(root, "vector"), i), 9) ==
                    (float)numbers[i]);
    json_free(root);
    api_buffer_done(&b);
}

static void test_settings_keep_the_dimension(void **state)
{
    struct api_settings settings, back;
    struct api_buffer b = API_BUFFER_INIT;

    (void)state;
    api_settings_default(&settings);
    assert_int_equal(settings.dim, 0);
    settings.dim = 4096;
    api_write_settings(&b, &settings);
    assert_int_equal(api_settings_parse(b.bytes, b.len, &back), 0);
    assert_int_equal(back.dim, 4096);
    api_buffer_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unit_length), cmocka_unit_test(test_rounded_numbers_stay),
        cmocka_unit_test(test_canonical),   cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_written),     cmocka_unit_test(test_settings_keep_the_dimension),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
