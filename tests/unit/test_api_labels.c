/* test_api_labels.c -- the bodies of PATCH, merge and split of a label: what is read, what is
 * refused and where, what the contract promises.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/api.h"
#include "proto/json.h"
#include "proto/openapi.h"
#include "tests/unit/body_fixture.h"
#include "tests/unit/fault_alloc.h"

#define ID "000102030405060708090a0b0c0d0e0f"
#define ID2 "F00102030405060708090A0B0C0D0E0F"

static int try_patch(const char *body, size_t bytes, struct api_problem *problem)
{
    struct api_label_patch *request = NULL;
    int rc = api_parse_label_patch(body, bytes, &request, problem);

    assert_true((rc == 0) == (request != NULL));
    api_label_patch_free(request);
    return rc;
}

static int try_merge(const char *body, size_t bytes, struct api_problem *problem)
{
    struct api_label_merge *request = NULL;
    int rc = api_parse_label_merge(body, bytes, &request, problem);

    assert_true((rc == 0) == (request != NULL));
    api_label_merge_free(request);
    return rc;
}

static int try_split(const char *body, size_t bytes, struct api_problem *problem)
{
    struct api_label_split *request = NULL;
    int rc = api_parse_label_split(body, bytes, &request, problem);

    assert_true((rc == 0) == (request != NULL));
    api_label_split_free(request);
    return rc;
}

static void test_bad(void **state)
{
    static const struct {
        body_fn *try;
        struct bad_body bad;
    } rows[] = {
        {try_patch, {"", 400, "malformed_json", ""}},
        {try_patch, {"[]", 422, "wrong_type", ""}},
        {try_patch, {"{}", 422, "missing_field", ""}},
        {try_patch, {"{\"label\":null}", 422, "wrong_type", "label"}},
        {try_patch, {"{\"label\":\"\"}", 422, "invalid_name", "label"}},
        {try_patch, {"{\"label\":\"a\\nb\"}", 422, "invalid_name", "label"}},
        {try_patch, {"{\"status\":\"merged\"}", 422, "invalid_value", "status"}},
        {try_patch, {"{\"status\":null}", 422, "wrong_type", "status"}},
        {try_patch, {"{\"status\":true}", 422, "wrong_type", "status"}},
        {try_patch, {"{\"score_min\":1.01}", 422, "out_of_range", "score_min"}},
        {try_patch, {"{\"score_min\":-0.01}", 422, "out_of_range", "score_min"}},
        {try_patch, {"{\"score_min\":\"0.5\"}", 422, "wrong_type", "score_min"}},
        {try_patch, {"{\"score_min\":0.5,\"into\":\"x\"}", 422, "unknown_field", "into"}},
        {try_patch, {"{\"payload\":{\"a\":1,\"a\":2}}", 400, "duplicate_field", ""}},
        {try_merge, {"{}", 422, "missing_field", "into"}},
        {try_merge, {"{\"into\":[\"a\"]}", 422, "wrong_type", "into"}},
        {try_merge, {"{\"into\":\"\"}", 422, "invalid_name", "into"}},
        {try_merge, {"{\"into\":\"a\",\"label\":\"b\"}", 422, "unknown_field", "label"}},
        {try_split, {"{\"examples\":[\"" ID "\"]}", 422, "missing_field", "label"}},
        {try_split, {"{\"label\":\"x\"}", 422, "missing_field", "examples"}},
        {try_split, {"{\"label\":\"x\",\"examples\":\"" ID "\"}", 422, "wrong_type", "examples"}},
        {try_split, {"{\"label\":\"x\",\"examples\":[]}", 422, "out_of_range", "examples"}},
        {try_split, {"{\"label\":\"x\",\"examples\":[7]}", 422, "wrong_type", "examples[0]"}},
        {try_split,
         {"{\"label\":\"x\",\"examples\":[\"" ID "\",\"0f\"]}", 422, "invalid_id", "examples[1]"}},
        {try_split,
         {"{\"label\":\"x\",\"examples\":[\"" ID "\",\"" ID2 "\",\"" ID "\"]}", 422,
          "invalid_value", "examples"}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        body_bad(rows[i].try, &rows[i].bad);
}

static struct api_label_patch *patch_of(const char *body)
{
    struct api_label_patch *patch = NULL;
    struct api_problem problem = {0, "none", "", ""};

    if (api_parse_label_patch(body, strlen(body), &patch, &problem) != 0)
        fail_msg("%s: %s at %s", body, problem.code, problem.field);
    return patch;
}

static void test_patch(void **state)
{
    struct api_label_patch *p =
        patch_of("{\"payload\" : { \"b\" : [1.50, \"\\u00e9\", null ] , \"a\":{}},"
                 "\"status\":\"active\",\"score_min\":0,\"label\":\"a/b\"}");

    (void)state;
    assert_string_equal(p->label, "a/b");
    assert_true(p->has_status && p->active && p->has_score_min && p->score_min == 0);
    assert_true(p->has_payload); /* compact, in its own order */
    assert_string_equal(p->payload, "{\"b\":[1.5,\"\xc3\xa9\",null],\"a\":{}}");
    api_label_patch_free(p);

    p = patch_of("{\"score_min\":null,\"payload\":null,\"status\":\"retired\"}");
    assert_true(p->label == NULL && p->has_status && !p->active);
    assert_true(p->has_score_min && p->score_min < 0);
    assert_true(p->has_payload && p->payload == NULL);
    api_label_patch_free(p);

    p = patch_of("{\"payload\":false}");
    assert_true(!p->has_status && !p->has_score_min && p->label == NULL);
    assert_string_equal(p->payload, "false");
    api_label_patch_free(p);
    api_label_patch_free(NULL);
}

/* The largest payload, and one byte more. */
static void test_payload_bytes(void **state)
{
    struct api_problem problem = {0, "none", "", ""};
    char body[API_PAYLOAD_BYTES_MAX + 64];
    struct api_label_patch *p;

    (void)state;
    for (int more = 0; more < 2; more++) {
        int len = API_PAYLOAD_BYTES_MAX - 2 + more; /* without its quotes */
        int bytes = snprintf(body, sizeof body, "{\"payload\":  \"%0*d\"}", len, 7);

        if (more) {
            assert_int_equal(try_patch(body, (size_t)bytes, &problem), -EINVAL);
            assert_string_equal(problem.code, "out_of_range");
            assert_string_equal(problem.field, "payload");
        } else {
            p = patch_of(body);
            assert_int_equal(strlen(p->payload), API_PAYLOAD_BYTES_MAX);
            api_label_patch_free(p);
        }
    }
}

static void test_split_and_merge(void **state)
{
    static const char body[] = "{\"label\":\"new\",\"examples\":[\"" ID2 "\",\"" ID "\"]}";
    struct api_label_split *split = NULL;
    struct api_label_merge *merge = NULL;
    struct api_problem problem;

    (void)state;
    assert_int_equal(api_parse_label_split(body, sizeof body - 1, &split, &problem), 0);
    assert_string_equal(split->label, "new");
    assert_int_equal(split->examples_len, 2); /* in their order */
    assert_int_equal(split->examples[0][0], 0xf0);
    assert_int_equal(split->examples[1][15], 0x0f);
    api_label_split_free(split);
    assert_int_equal(api_parse_label_merge("{\"into\":\"a b\"}", 14, &merge, &problem), 0);
    assert_string_equal(merge->into, "a b");
    api_label_merge_free(merge);
}

static void test_split_of_too_many(void **state)
{
    struct api_buffer b = API_BUFFER_INIT;
    struct api_problem problem = {0, "none", "", ""};

    (void)state;
    for (int more = 0; more < 2; more++) {
        api_buffer_reset(&b);
        api_buffer_add_string(&b, "{\"label\":\"x\",\"examples\":[");
        for (int i = 0; i < API_ITEMS_MAX + more; i++) {
            char id[64];

            snprintf(id, sizeof id, "%s\"%032x\"", i > 0 ? "," : "", i);
            api_buffer_add_string(&b, id);
        }
        api_buffer_add_string(&b, "]}");
        assert_int_equal(try_split(b.bytes, b.len, &problem), more ? -EINVAL : 0);
    }
    assert_string_equal(problem.code, "too_many_items");
    assert_string_equal(problem.field, "examples");
    api_buffer_done(&b);
}

/* ---- the contract -------------------------------------------------------------------------------
 */

static void test_contract_is_kept(void **state)
{
    static const struct {
        body_fn *try;
        const char *schema;
    } rows[] = {{try_patch, "LabelPatch"}, {try_merge, "LabelMerge"}, {try_split, "LabelSplit"}};
    size_t bytes;
    const char *text = openapi_json(&bytes);
    struct json_value *doc = NULL;

    (void)state;
    assert_int_equal(json_parse(text, bytes, NULL, &doc, NULL), 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct json_value *examples;
        char path[100];

        body_known(rows[i].try, rows[i].schema);
        snprintf(path, sizeof path, "components.schemas.%s.examples", rows[i].schema);
        examples = json_get(doc, path);
        assert_true(json_len(examples) > 0);
        for (size_t e = 0; e < json_len(examples); e++) {
            struct api_buffer b = API_BUFFER_INIT;
            struct api_problem problem;

            json_write_value(&b, json_at(examples, e));
            assert_int_equal(rows[i].try(b.bytes, b.len, &problem), 0);
            api_buffer_done(&b);
        }
    }
    json_free(doc);
}

static void test_every_allocation_fails(void **state)
{
    static const struct {
        body_fn *try;
        const char *body;
    } rows[] = {
        {try_patch, "{\"label\":\"x\",\"payload\":{\"a\":[1,2]},\"score_min\":0.5}"},
        {try_merge, "{\"into\":\"x\"}"},
        {try_split, "{\"label\":\"x\",\"examples\":[\"" ID "\",\"" ID2 "\"]}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        body_without_memory(rows[i].try, rows[i].body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_patch),
        cmocka_unit_test(test_payload_bytes),
        cmocka_unit_test(test_split_and_merge),
        cmocka_unit_test(test_split_of_too_many),
        cmocka_unit_test(test_contract_is_kept),
        cmocka_unit_test(test_every_allocation_fails),
    };

    fault_alloc_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
