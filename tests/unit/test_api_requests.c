/* test_api_requests.c -- every field of every request: what is right arrives as sent, what is wrong
 * gives its status, code and field, and no detail ever holds what was sent ("SECRET" below).
 *
 * The contract and the parsers are held together: each field that a closed schema of openapi.json
 * names is accepted here.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/api.h"
#include "proto/json.h"
#include "tests/unit/body_fixture.h"
#include "tests/unit/fault_alloc.h"

#define ID "00112233445566778899aabbccddeeff"
#define NAME_129                                                                                   \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"                            \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

/* One face for all parsers: rc, and the request freed. */
static int try_classify(const char *body, size_t bytes, struct api_problem *problem)
{
    struct api_classify *request = NULL;
    int rc = api_parse_classify(body, bytes, &request, problem);
    assert_true((rc == 0) == (request != NULL));
    api_classify_free(request);
    return rc;
}

static int try_embed(const char *body, size_t bytes, struct api_problem *problem)
{
    struct api_embed *request = NULL;
    int rc = api_parse_embed(body, bytes, &request, problem);
    assert_true((rc == 0) == (request != NULL));
    api_embed_free(request);
    return rc;
}

static int try_feedback(const char *body, size_t bytes, struct api_problem *problem)
{
    struct api_feedback *request = NULL;
    int rc = api_parse_feedback(body, bytes, &request, problem);
    assert_true((rc == 0) == (request != NULL));
    api_feedback_free(request);
    return rc;
}

static int try_line(const char *body, size_t bytes, struct api_problem *problem)
{
    struct api_feedback *request = NULL;
    int rc = api_parse_feedback_line(body, bytes, &request, problem);
    assert_true((rc == 0) == (request != NULL));
    api_feedback_free(request);
    return rc;
}

static int try_create(const char *body, size_t bytes, struct api_problem *problem)
{
    struct api_model_create *request = NULL;
    int rc = api_parse_model_create(body, bytes, &request, problem);
    assert_true((rc == 0) == (request != NULL));
    api_model_create_free(request);
    return rc;
}

static int try_patch(const char *body, size_t bytes, struct api_problem *problem)
{
    struct api_settings settings, before;
    api_settings_default(&settings);
    before = settings;
    int rc = api_parse_model_patch(body, bytes, &settings, problem);
    if (rc < 0)
        assert_memory_equal(&settings, &before, sizeof settings);
    return rc;
}

static int try_label(const char *body, size_t bytes, struct api_problem *problem)
{
    struct api_label_add *request = NULL;
    int rc = api_parse_label_add(body, bytes, &request, problem);
    assert_true((rc == 0) == (request != NULL));
    api_label_add_free(request);
    return rc;
}

static void check_bad(body_fn *try, const struct bad_body *rows, size_t rows_len)
{
    for (size_t i = 0; i < rows_len; i++)
        body_bad(try, &rows[i]);
}

#define CHECK_BAD(try, rows) check_bad(try, rows, sizeof(rows) / sizeof((rows)[0]))

static void test_any_body(void **state)
{
    static const struct bad_body ROWS[] = {
        {"", 400, "malformed_json", ""},
        {"SECRET", 400, "malformed_json", ""},
        {"{\"SECRET\":", 400, "malformed_json", ""},
        {"{} SECRET", 400, "malformed_json", ""},
        {"{\"weight\":NaN}", 400, "malformed_json", ""},
        {"{\"SECRET\":\"\xff\"}", 400, "invalid_utf8", ""},
        {"{\"label\":\"SECRET\",\"label\":\"b\"}", 400, "duplicate_field", ""},
        {"[[[[[[[[[[[[[[[[[[[[", 400, "too_deep", ""},
        {"{\"weight\":1e999}", 422, "out_of_range", ""},
        {"[]", 422, "wrong_type", ""},
        {"\"SECRET\"", 422, "wrong_type", ""},
        {"null", 422, "wrong_type", ""},
        {"{\"nosuch\":\"SECRET\"}", 422, "unknown_field", "nosuch"},
    };
    static body_fn *const ALL[] = {try_classify, try_embed, try_feedback, try_line,
                                   try_create,   try_patch, try_label};

    (void)state;
    for (size_t i = 0; i < sizeof ALL / sizeof ALL[0]; i++)
        CHECK_BAD(ALL[i], ROWS);
}

static void test_classify_bad(void **state)
{
    static const struct bad_body ROWS[] = {
        {"{}", 422, "missing_field", "inputs"},
        {"{\"inputs\":3}", 422, "wrong_type", "inputs"},
        {"{\"inputs\":null}", 422, "wrong_type", "inputs"},
        {"{\"inputs\":{\"text\":\"SECRET\"}}", 422, "wrong_type", "inputs"},
        {"{\"inputs\":[]}", 422, "out_of_range", "inputs"},
        {"{\"inputs\":\"\"}", 422, "empty_text", "inputs"},
        {"{\"inputs\":[\"SECRET\",\"\"]}", 422, "empty_text", "inputs[1]"},
        {"{\"inputs\":[\"SECRET\",7]}", 422, "wrong_type", "inputs[1]"},
        {"{\"inputs\":[\"SECRET\",{\"text\":\"a\"}]}", 422, "wrong_type", "inputs[1]"},
        {"{\"inputs\":[{\"text\":\"a\"},\"SECRET\"]}", 422, "wrong_type", "inputs[1]"},
        {"{\"inputs\":[{\"text\":\"a\"},{\"text\":\"\"}]}", 422, "empty_text", "inputs[1].text"},
        {"{\"inputs\":[{\"text\":1}]}", 422, "wrong_type", "inputs[0].text"},
        {"{\"inputs\":[{}]}", 422, "missing_field", "inputs[0].text"},
        {"{\"inputs\":[{\"text\":\"a\",\"text_pair\":\"\"}]}", 422, "empty_text",
         "inputs[0].text_pair"},
        {"{\"inputs\":[{\"text\":\"a\",\"text_pair\":[]}]}", 422, "wrong_type",
         "inputs[0].text_pair"},
        {"{\"inputs\":[{\"text\":\"a\",\"id\":\"\"}]}", 422, "invalid_name", "inputs[0].id"},
        {"{\"inputs\":[{\"text\":\"a\",\"id\":1}]}", 422, "wrong_type", "inputs[0].id"},
        {"{\"inputs\":[{\"text\":\"a\",\"x\":\"SECRET\"}]}", 422, "unknown_field", "inputs[0].x"},
        {"{\"inputs\":\"a\",\"model\":7}", 422, "wrong_type", "model"},
        {"{\"inputs\":\"a\",\"model\":\"\"}", 422, "invalid_name", "model"},
        {"{\"inputs\":\"a\",\"model\":\"a\\u0000\"}", 422, "invalid_name", "model"},
        {"{\"inputs\":\"a\",\"model\":\"" NAME_129 "\"}", 422, "invalid_name", "model"},
        {"{\"inputs\":\"a\",\"top_k\":0}", 422, "out_of_range", "top_k"},
        {"{\"inputs\":\"a\",\"top_k\":1001}", 422, "out_of_range", "top_k"},
        {"{\"inputs\":\"a\",\"top_k\":-1}", 422, "out_of_range", "top_k"},
        {"{\"inputs\":\"a\",\"top_k\":4294967297}", 422, "out_of_range", "top_k"},
        {"{\"inputs\":\"a\",\"top_k\":1.5}", 422, "wrong_type", "top_k"},
        {"{\"inputs\":\"a\",\"top_k\":\"3\"}", 422, "wrong_type", "top_k"},
        {"{\"inputs\":\"a\",\"threshold\":1.01}", 422, "out_of_range", "threshold"},
        {"{\"inputs\":\"a\",\"threshold\":-0.01}", 422, "out_of_range", "threshold"},
        {"{\"inputs\":\"a\",\"threshold\":true}", 422, "wrong_type", "threshold"},
        {"{\"inputs\":\"a\",\"labels\":\"x\"}", 422, "wrong_type", "labels"},
        {"{\"inputs\":\"a\",\"labels\":[]}", 422, "out_of_range", "labels"},
        {"{\"inputs\":\"a\",\"labels\":[\"x\",3]}", 422, "wrong_type", "labels[1]"},
        {"{\"inputs\":\"a\",\"labels\":[\"x\",\"\"]}", 422, "invalid_name", "labels[1]"},
        {"{\"inputs\":\"a\",\"labels\":[\"SECRET\",\"y\",\"SECRET\"]}", 422, "invalid_value",
         "labels"},
        {"{\"inputs\":\"a\",\"truncate\":\"SECRET\"}", 422, "invalid_value", "truncate"},
        {"{\"inputs\":\"a\",\"truncate\":true}", 422, "wrong_type", "truncate"},
        {"{\"inputs\":\"a\",\"explain\":1}", 422, "wrong_type", "explain"},
        {"{\"inputs\":\"a\",\"version\":\"SECRET\"}", 422, "invalid_version", "version"},
        {"{\"inputs\":\"a\",\"version\":2.5}", 422, "wrong_type", "version"},
        {"{\"inputs\":\"a\",\"deadline_ms\":0}", 422, "out_of_range", "deadline_ms"},
        {"{\"inputs\":\"a\",\"deadline_ms\":600001}", 422, "out_of_range", "deadline_ms"},
        {"{\"inputs\":\"a\",\"store\":\"no\"}", 422, "wrong_type", "store"},
    };
    static const struct bad_body EMBED[] = {
        {"{}", 422, "missing_field", "inputs"},
        {"{\"inputs\":[\"\"]}", 422, "empty_text", "inputs[0]"},
        {"{\"inputs\":\"a\",\"model\":7}", 422, "wrong_type", "model"},
        {"{\"inputs\":\"a\",\"top_k\":1}", 422, "unknown_field", "top_k"},
        {"{\"inputs\":\"a\",\"truncate\":\"up\"}", 422, "invalid_value", "truncate"},
    };

    (void)state;
    CHECK_BAD(try_classify, ROWS);
    CHECK_BAD(try_embed, EMBED);
}

static struct api_classify *classify_or_fail(const char *body)
{
    struct api_classify *ask = NULL;
    struct api_problem problem;

    if (api_parse_classify(body, strlen(body), &ask, &problem) < 0)
        fail_msg("%s: %s at %s", body, problem.code, problem.field);
    return ask;
}

static void test_classify_good(void **state)
{
    char field[96];

    (void)state;
    struct api_classify *ask = classify_or_fail("{\"inputs\":\"where is my card?\"}");
    assert_string_equal(ask->model, "default");
    assert_int_equal(ask->inputs_len, 1);
    assert_memory_equal(ask->inputs[0].text, "where is my card?", ask->inputs[0].text_bytes);
    assert_string_equal(ask->inputs[0].id, "0");
    assert_null(ask->inputs[0].pair);
    assert_true(ask->store && !ask->explain && !ask->has_threshold && !ask->has_version);
    assert_int_equal(ask->truncate, API_TRUNCATE_RIGHT);
    assert_int_equal(ask->top_k + ask->deadline_ms + ask->labels_len, 0);
    api_classify_field(ask, 0, field);
    assert_string_equal(field, "inputs");
    api_classify_free(ask);

    ask = classify_or_fail("{\"inputs\":[\"a\",\"b\\u0000c\"],\"model\":\"m\",\"top_k\":3,"
                           "\"threshold\":0,\"labels\":[\"x\",\"\xc3\xa4\"],\"truncate\":\"never\","
                           "\"explain\":true,\"version\":\"2.1842\",\"deadline_ms\":200,"
                           "\"store\":false}");
    assert_string_equal(ask->model, "m");
    assert_int_equal(ask->inputs[1].text_bytes, 3);
    assert_memory_equal(ask->inputs[1].text, "b\0c", 3);
    assert_string_equal(ask->inputs[1].id, "1");
    assert_int_equal(ask->top_k, 3);
    assert_true(ask->has_threshold && ask->threshold == 0.0);
    assert_int_equal(ask->labels_len, 2);
    assert_string_equal(ask->labels[1], "\xc3\xa4");
    assert_int_equal(ask->truncate, API_TRUNCATE_NEVER);
    assert_true(ask->explain && !ask->store && ask->has_version);
    assert_int_equal(ask->version.encoder, 2);
    assert_int_equal(ask->version.seq, 1842);
    assert_int_equal(ask->deadline_ms, 200);
    api_classify_field(ask, 1, field);
    assert_string_equal(field, "inputs[1]");
    api_classify_free(ask);

    ask = classify_or_fail("{\"inputs\":[{\"text\":\"a\",\"text_pair\":\"b\",\"id\":\"x\"},"
                           "{\"text\":\"c\"}]}");
    assert_string_equal(ask->inputs[0].id, "x");
    assert_string_equal(ask->inputs[1].id, "1");
    assert_memory_equal(ask->inputs[0].pair, "b", ask->inputs[0].pair_bytes);
    assert_null(ask->inputs[1].pair);
    api_classify_field(ask, 1, field);
    assert_string_equal(field, "inputs[1].text");
    api_classify_free(ask);
    api_classify_free(NULL);
}

/* n times the same element in a list: {"<key>":[e,e,..]<rest>} */
static char *repeated(const char *key, const char *element, size_t n, const char *rest)
{
    struct api_buffer b = API_BUFFER_INIT;
    size_t bytes;

    json_open_object(&b);
    json_write_key(&b, key);
    json_open_array(&b);
    for (size_t i = 0; i < n; i++)
        json_write_raw(&b, element, strlen(element));
    json_close_array(&b);
    api_buffer_add(&b, rest, strlen(rest) + 1);
    return api_buffer_take(&b, &bytes);
}

static void check_count(body_fn *try, const char *key, const char *element, size_t n,
                        const char *rest, const char *code, const char *field)
{
    char *body = repeated(key, element, n, rest);
    struct api_problem problem = {0, "none", "", ""};
    int rc = try(body, strlen(body), &problem);

    assert_int_equal(rc, code ? -EINVAL : 0);
    if (code) {
        assert_string_equal(problem.code, code);
        assert_string_equal(problem.field, field);
        assert_int_equal(problem.status, 422);
    }
    api_free(body);
}

static void test_counts(void **state)
{
    const char *item = "{\"text\":\"a\",\"label\":\"b\"}";

    (void)state;
    check_count(try_classify, "inputs", "\"a\"", 256, "}", NULL, NULL);
    check_count(try_classify, "inputs", "{\"text\":\"a\"}", 256, "}", NULL, NULL);
    check_count(try_classify, "inputs", "\"a\"", 257, "}", "too_many_inputs", "inputs");
    check_count(try_classify, "inputs", "\"a\"", 100000, "}", "too_many_inputs", "inputs");
    check_count(try_embed, "inputs", "{\"text\":\"a\"}", 100000, "}", "too_many_inputs", "inputs");
    check_count(try_classify, "labels", "\"a\"", 1001, ",\"inputs\":\"a\"}", "out_of_range",
                "labels");
    check_count(try_feedback, "items", item, 1000, "}", NULL, NULL);
    check_count(try_feedback, "items", item, 1001, "}", "too_many_items", "items");
    check_count(try_feedback, "items", item, 100000, "}", "too_many_items", "items");
    check_count(try_feedback, "items", "7", 1000, "}", NULL, NULL); /* bad ones, one by one */
}

static void test_feedback_bad(void **state)
{
    static const struct bad_body ROWS[] = {
        {"{}", 422, "missing_field", "text"},
        {"{\"text\":\"SECRET\"}", 422, "missing_field", "label"},
        {"{\"label\":\"SECRET\"}", 422, "missing_field", "text"},
        {"{\"text\":\"\",\"label\":\"a\"}", 422, "empty_text", "text"},
        {"{\"text\":7,\"label\":\"a\"}", 422, "wrong_type", "text"},
        {"{\"text\":\"a\",\"text_pair\":\"\",\"label\":\"a\"}", 422, "empty_text", "text_pair"},
        {"{\"request_id\":\"r\",\"text_pair\":\"SECRET\",\"label\":\"a\"}", 422,
         "conflicting_fields", "text_pair"},
        {"{\"text\":\"a\",\"request_id\":\"r\",\"label\":\"a\"}", 422, "conflicting_fields",
         "text"},
        {"{\"text\":\"a\",\"example\":\"" ID "\",\"label\":\"a\"}", 422, "conflicting_fields",
         "example"},
        {"{\"request_id\":\"\",\"label\":\"a\"}", 422, "invalid_id", "request_id"},
        {"{\"request_id\":\"a\\nb\",\"label\":\"a\"}", 422, "invalid_id", "request_id"},
        {"{\"request_id\":\"" NAME_129 "\",\"label\":\"a\"}", 422, "invalid_id", "request_id"},
        {"{\"request_id\":1,\"label\":\"a\"}", 422, "wrong_type", "request_id"},
        {"{\"example\":\"SECRET\",\"label\":\"a\"}", 422, "invalid_id", "example"},
        {"{\"example\":1,\"label\":\"a\"}", 422, "wrong_type", "example"},
        {"{\"text\":\"a\",\"label\":\"\"}", 422, "invalid_name", "label"},
        {"{\"text\":\"a\",\"label\":\"a\\u0000SECRET\"}", 422, "invalid_name", "label"},
        {"{\"text\":\"a\",\"label\":\"" NAME_129 "\"}", 422, "invalid_name", "label"},
        {"{\"text\":\"a\",\"label\":null}", 422, "wrong_type", "label"},
        {"{\"text\":\"a\",\"label\":\"a\",\"labels\":[\"b\"]}", 422, "conflicting_fields",
         "labels"},
        {"{\"text\":\"a\",\"action\":\"reject\",\"labels\":[]}", 422, "out_of_range", "labels"},
        {"{\"text\":\"a\",\"label\":\"a\",\"action\":\"SECRET\"}", 422, "invalid_value", "action"},
        {"{\"text\":\"a\",\"action\":\"reject\"}", 422, "missing_field", "label"},
        {"{\"text\":\"a\",\"action\":\"confirm\"}", 422, "missing_field", "label"},
        {"{\"example\":\"" ID "\",\"action\":\"label\"}", 422, "missing_field", "label"},
        {"{\"action\":\"withdraw\"}", 422, "missing_field", "example"},
        {"{\"action\":\"withdraw\",\"text\":\"SECRET\"}", 422, "missing_field", "example"},
        {"{\"action\":\"withdraw\",\"example\":\"" ID "\",\"label\":\"SECRET\"}", 422,
         "conflicting_fields", "label"},
        {"{\"text\":\"a\",\"label\":\"a\",\"annotator\":7}", 422, "wrong_type", "annotator"},
        {"{\"text\":\"a\",\"label\":\"a\",\"annotator\":\"" NAME_129 "\"}", 422, "invalid_name",
         "annotator"},
        {"{\"text\":\"a\",\"label\":\"a\",\"source\":\"a\\u001b\"}", 422, "invalid_name", "source"},
        {"{\"text\":\"a\",\"label\":\"a\",\"weight\":0}", 422, "out_of_range", "weight"},
        {"{\"text\":\"a\",\"label\":\"a\",\"weight\":-1}", 422, "out_of_range", "weight"},
        {"{\"text\":\"a\",\"label\":\"a\",\"weight\":100.1}", 422, "out_of_range", "weight"},
        {"{\"text\":\"a\",\"label\":\"a\",\"weight\":\"1\"}", 422, "wrong_type", "weight"},
        {"{\"text\":\"a\",\"label\":\"a\",\"idempotency_key\":\"\"}", 422, "invalid_name",
         "idempotency_key"},
        {"{\"text\":\"a\",\"label\":\"a\",\"create_labels\":0}", 422, "wrong_type",
         "create_labels"},
        {"{\"text\":\"a\",\"label\":\"a\",\"wait\":\"none\"}", 422, "invalid_value", "wait"},
        {"{\"text\":\"a\",\"label\":\"a\",\"model\":\"\"}", 422, "invalid_name", "model"},
        {"{\"text\":\"a\",\"label\":\"a\",\"nosuch\":1}", 422, "unknown_field", "nosuch"},
    };

    (void)state;
    CHECK_BAD(try_feedback, ROWS);
    CHECK_BAD(try_line, ROWS);
}

static void test_batch_and_line_bad(void **state)
{
    static const struct bad_body BATCH[] = {
        {"{\"items\":{}}", 422, "wrong_type", "items"},
        {"{\"items\":null}", 422, "wrong_type", "items"},
        {"{\"items\":[]}", 422, "out_of_range", "items"},
        {"{\"items\":[{}],\"text\":\"SECRET\"}", 422, "unknown_field", "text"},
        {"{\"items\":[{}],\"wait\":\"SECRET\"}", 422, "invalid_value", "wait"},
        {"{\"items\":[{}],\"annotator\":3}", 422, "wrong_type", "annotator"},
        {"{\"items\":[{}],\"weight\":3}", 422, "unknown_field", "weight"},
    };
    static const struct bad_body LINE[] = {
        {"{\"items\":[{}]}", 422, "unknown_field", "items"},
        {"{\"text\":\"a\",\"label\":\"a\"}\n{}", 400, "malformed_json", ""},
    };

    (void)state;
    CHECK_BAD(try_feedback, BATCH);
    CHECK_BAD(try_line, LINE);
}

static struct api_feedback *feedback_or_fail(const char *body)
{
    struct api_feedback *teach = NULL;
    struct api_problem problem;

    if (api_parse_feedback(body, strlen(body), &teach, &problem) < 0)
        fail_msg("%s: %s at %s", body, problem.code, problem.field);
    return teach;
}

static void test_feedback_good(void **state)
{
    (void)state;
    struct api_feedback *teach = feedback_or_fail(
        "{\"model\":\"m\",\"text\":\"t\",\"text_pair\":\"p\",\"label\":\"l\",\"annotator\":\"a\","
        "\"weight\":2,\"source\":\"s\",\"idempotency_key\":\"k\",\"create_labels\":false,"
        "\"wait\":\"applied\",\"action\":\"label\"}");
    const struct api_feedback_item *item = &teach->items[0];
    assert_true(!teach->batch && teach->wait_applied && teach->items_len == 1 && !item->problem);
    assert_string_equal(item->model, "m");
    assert_memory_equal(item->text, "t", item->text_bytes);
    assert_memory_equal(item->pair, "p", item->pair_bytes);
    assert_string_equal(item->label, "l");
    assert_string_equal(item->annotator, "a");
    assert_string_equal(item->source, "s");
    assert_string_equal(item->idempotency_key, "k");
    assert_true(item->weight == 2.0 && !item->create_labels && !item->has_example);
    assert_int_equal(item->action, API_LABEL);
    assert_null(item->request_id);
    api_feedback_free(teach);

    teach = feedback_or_fail("{\"request_id\":\"01J9\",\"action\":\"reject\"}");
    item = &teach->items[0];
    assert_int_equal(item->action, API_REJECT);
    assert_string_equal(item->model, "default");
    assert_string_equal(item->annotator, "");
    assert_true(item->weight == 1.0 && item->create_labels && !teach->wait_applied);
    assert_null(item->label);
    assert_null(item->idempotency_key);
    api_feedback_free(teach);

    teach = feedback_or_fail("{\"example\":\"" ID "\",\"action\":\"withdraw\"}");
    assert_true(teach->items[0].has_example && teach->items[0].example[15] == 0xff);
    api_feedback_free(teach);
    teach = feedback_or_fail("{\"example\":\"" ID "\",\"action\":\"confirm\"}");
    api_feedback_free(teach);
    teach = feedback_or_fail("{\"text\":\"t\",\"labels\":[\"a\",\"b\"],\"wait\":\"durable\"}");
    assert_int_equal(teach->items[0].labels_len, 2);
    assert_null(teach->items[0].label);
    api_feedback_free(teach);
    teach = feedback_or_fail("{\"text\":\"t\",\"labels\":[]}");
    assert_true(teach->items[0].labels != NULL && teach->items[0].labels_len == 0);
    api_feedback_free(teach);
}

static void test_bad_items_stand_alone(void **state)
{
    static const struct {
        const char *code, *field;
    } ROWS[] = {
        {NULL, NULL},
        {"wrong_type", ""},
        {"missing_field", "label"},
        {"unknown_field", "wait"},
        {NULL, NULL},
        {"out_of_range", "weight"},
        {"invalid_name", "labels[1]"},
        {NULL, NULL},
    };

    (void)state;
    struct api_feedback *teach = feedback_or_fail(
        "{\"items\":[{\"text\":\"a\",\"label\":\"x\"},7,{\"text\":\"b\"},"
        "{\"text\":\"b\",\"label\":\"x\",\"wait\":\"applied\"},"
        "{\"text\":\"c\",\"label\":\"x\",\"model\":\"n\",\"annotator\":\"me\"},"
        "{\"text\":\"c\",\"label\":\"x\",\"weight\":0},{\"text\":\"c\",\"labels\":[\"a\",\"\"]},"
        "{\"text\":\"d\",\"label\":\"y\"}],"
        "\"model\":\"m\",\"annotator\":\"us\",\"source\":\"s\",\"wait\":\"applied\"}");
    assert_true(teach->batch && teach->wait_applied);
    assert_int_equal(teach->items_len, sizeof ROWS / sizeof ROWS[0]);
    for (uint32_t i = 0; i < teach->items_len; i++) {
        const struct api_feedback_item *item = &teach->items[i];
        assert_int_equal(item->index, i);
        assert_true((item->problem != NULL) == (ROWS[i].code != NULL));
        if (item->problem) {
            assert_string_equal(item->problem->code, ROWS[i].code);
            assert_string_equal(item->problem->field, ROWS[i].field);
            assert_int_equal(item->problem->status, 422);
            continue;
        }
        assert_string_equal(item->source, "s");
        assert_string_equal(item->model, i == 4 ? "n" : "m");
        assert_string_equal(item->annotator, i == 4 ? "me" : "us");
    }
    api_feedback_free(teach);
}

/* rows mean the same as the first up to same_len, and something else from there. */
static void test_canonical(void **state)
{
    static const char *const ROWS[] = {
        "{\"text\":\"\xc3\xa4\",\"label\":\"x\"}",
        "{ \"label\" : \"x\", \"text\" : \"\\u00e4\" }",
        "{\"text\":\"\xc3\xa4\",\"label\":\"x\",\"model\":\"default\",\"action\":\"label\"}",
        "{\"text\":\"\xc3\xa4\",\"label\":\"x\",\"weight\":1.0,\"create_labels\":true}",
        "{\"text\":\"\xc3\xa4\",\"label\":\"x\",\"wait\":\"applied\",\"idempotency_key\":\"k\"}",
        "{\"text\":\"\xc3\xa4\",\"label\":\"x\",\"annotator\":\"\",\"source\":\"\"}",
        "{\"items\":[{\"text\":\"\xc3\xa4\",\"label\":\"x\"}],\"wait\":\"durable\"}",
        "{\"text\":\"\xc3\xa4\",\"label\":\"y\"}",
        "{\"text\":\"a\",\"label\":\"x\"}",
        "{\"text\":\"\xc3\xa4\",\"text_pair\":\"p\",\"label\":\"x\"}",
        "{\"text\":\"\xc3\xa4\",\"label\":\"x\",\"model\":\"m\"}",
        "{\"text\":\"\xc3\xa4\",\"label\":\"x\",\"weight\":2}",
        "{\"text\":\"\xc3\xa4\",\"label\":\"x\",\"annotator\":\"a\"}",
        "{\"text\":\"\xc3\xa4\",\"label\":\"x\",\"source\":\"a\"}",
        "{\"text\":\"\xc3\xa4\",\"label\":\"x\",\"action\":\"reject\"}",
        "{\"text\":\"\xc3\xa4\",\"label\":\"x\",\"create_labels\":false}",
        "{\"text\":\"\xc3\xa4\",\"labels\":[\"x\"]}",
        "{\"request_id\":\"\xc3\xa4\",\"label\":\"x\"}",
        "{\"example\":\"" ID "\",\"label\":\"x\"}",
    };
    enum { SAME_LEN = 7, LEN = sizeof ROWS / sizeof ROWS[0] };
    struct api_feedback *all[LEN];

    (void)state;
    for (size_t i = 0; i < LEN; i++)
        all[i] = feedback_or_fail(ROWS[i]);
    for (size_t i = 0; i < LEN; i++) {
        for (size_t j = 0; j < i; j++) {
            const struct api_feedback_item *a = &all[i]->items[0], *b = &all[j]->items[0];
            bool same = a->canonical_bytes == b->canonical_bytes &&
                        memcmp(a->canonical, b->canonical, a->canonical_bytes) == 0;
            if (same != (i < SAME_LEN))
                fail_msg("%s\n%s", ROWS[i], ROWS[j]);
        }
    }
    for (size_t i = 0; i < LEN; i++)
        api_feedback_free(all[i]);
}

static void test_manage_bad(void **state)
{
    static const struct bad_body CREATE[] = {
        {"{}", 422, "missing_field", "name"},
        {"{\"name\":7}", 422, "wrong_type", "name"},
        {"{\"name\":\"\"}", 422, "invalid_name", "name"},
        {"{\"name\":\"SECRET/x\"}", 422, "invalid_name", "name"},
        {"{\"name\":\"-a\"}", 422, "invalid_name", "name"},
        {"{\"name\":\"" NAME_129 "\"}", 422, "invalid_name", "name"},
        {"{\"name\":\"m\",\"kind\":\"tokens\"}", 422, "kind_unsupported", "kind"},
        {"{\"name\":\"m\",\"kind\":\"SECRET\"}", 422, "invalid_value", "kind"},
        {"{\"name\":\"m\",\"kind\":1}", 422, "wrong_type", "kind"},
        {"{\"name\":\"m\",\"encoder\":\"SECRET\"}", 422, "invalid_value", "encoder"},
        {"{\"name\":\"m\",\"settings\":[]}", 422, "wrong_type", "settings"},
        {"{\"name\":\"m\",\"settings\":{\"x\":1}}", 422, "unknown_field", "settings.x"},
        {"{\"name\":\"m\",\"settings\":{\"features\":63}}", 422, "out_of_range",
         "settings.features"},
        {"{\"name\":\"m\",\"settings\":{\"features\":8193}}", 422, "out_of_range",
         "settings.features"},
        {"{\"name\":\"m\",\"settings\":{\"features\":1024.5}}", 422, "wrong_type",
         "settings.features"},
        {"{\"name\":\"m\",\"settings\":{\"seed\":-1}}", 422, "out_of_range", "settings.seed"},
        {"{\"name\":\"m\",\"settings\":{\"seed\":9007199254740992}}", 422, "out_of_range",
         "settings.seed"},
        {"{\"name\":\"m\",\"settings\":{\"ridge_lambda\":0}}", 422, "out_of_range",
         "settings.ridge_lambda"},
        {"{\"name\":\"m\",\"settings\":{\"ridge_lambda\":1001}}", 422, "out_of_range",
         "settings.ridge_lambda"},
        {"{\"name\":\"m\",\"settings\":{\"score_min\":1.1}}", 422, "out_of_range",
         "settings.score_min"},
        {"{\"name\":\"m\",\"settings\":{\"rejection_budget\":0.51}}", 422, "out_of_range",
         "settings.rejection_budget"},
        {"{\"name\":\"m\",\"settings\":{\"annotator_rate_max\":-1}}", 422, "out_of_range",
         "settings.annotator_rate_max"},
        {"{\"name\":\"m\",\"settings\":{\"annotator_rate_max\":0.5}}", 422, "wrong_type",
         "settings.annotator_rate_max"},
        {"{\"name\":\"m\",\"settings\":{\"annotator_influence_max\":1.1}}", 422, "out_of_range",
         "settings.annotator_influence_max"},
        {"{\"name\":\"m\",\"settings\":{\"annotator_influence_max\":true}}", 422, "wrong_type",
         "settings.annotator_influence_max"},
        {"{\"name\":\"m\",\"settings\":{\"rejection_budget\":\"5%\"}}", 422, "wrong_type",
         "settings.rejection_budget"},
    };
    static const struct bad_body PATCH[] = {
        {"{}", 422, "missing_field", "settings"},
        {"{\"settings\":7}", 422, "wrong_type", "settings"},
        {"{\"name\":\"n\"}", 422, "unknown_field", "name"},
        {"{\"settings\":{\"features\":2048}}", 422, "immutable_field", "settings.features"},
        {"{\"settings\":{\"seed\":2}}", 422, "immutable_field", "settings.seed"},
        {"{\"settings\":{\"ridge_lambda\":1}}", 422, "immutable_field", "settings.ridge_lambda"},
        {"{\"settings\":{\"score_min\":0.5,\"features\":2048}}", 422, "immutable_field",
         "settings.features"},
        {"{\"settings\":{\"score_min\":-1}}", 422, "out_of_range", "settings.score_min"},
    };
    static const struct bad_body LABEL[] = {
        {"{}", 422, "missing_field", "label"},
        {"{\"label\":1}", 422, "wrong_type", "label"},
        {"{\"label\":\"\"}", 422, "invalid_name", "label"},
        {"{\"label\":\"SECRET\\t\"}", 422, "invalid_name", "label"},
        {"{\"label\":\"a\",\"x\":1}", 422, "unknown_field", "x"},
    };

    (void)state;
    CHECK_BAD(try_create, CREATE);
    CHECK_BAD(try_patch, PATCH);
    CHECK_BAD(try_label, LABEL);
}

static void test_manage_good(void **state)
{
    struct api_model_create *create = NULL;
    struct api_label_add *add = NULL;
    struct api_problem problem;
    struct api_settings settings, again;
    struct api_buffer b = API_BUFFER_INIT;
    const char *body = "{\"name\":\"m\",\"kind\":\"single\",\"encoder\":\"default\",\"settings\":"
                       "{\"features\":2048,\"seed\":9007199254740991,\"ridge_lambda\":0.3}}";

    (void)state;
    assert_int_equal(api_parse_model_create(body, strlen(body), &create, &problem), 0);
    assert_string_equal(create->name, "m");
    assert_string_equal(create->kind, "single");
    assert_int_equal(create->settings.features, 2048);
    assert_true(create->settings.seed == 9007199254740991u);
    assert_true(create->settings.rejection_budget == 0.05);

    api_write_settings(&b, &create->settings);
    assert_int_equal(api_settings_parse(b.bytes, b.len, &again), 0);
    assert_int_equal(again.features, 2048);
    assert_true(again.seed == create->settings.seed && again.ridge_lambda == 0.3);
    api_model_create_free(create);
    api_buffer_done(&b);

    assert_int_equal(api_settings_parse("{}", 2, &settings), 0);
    api_settings_default(&again);
    assert_true(settings.features == again.features && settings.seed == again.seed &&
                settings.ridge_lambda == again.ridge_lambda);
    assert_int_equal(api_settings_parse("{\"from_the_future\":1}", 21, &settings), -EINVAL);
    assert_int_equal(api_settings_parse("", 0, &settings), -EINVAL);

    body = "{\"settings\":{\"score_min\":0.4,\"rejection_budget\":0.1,\"features\":1024}}";
    assert_int_equal(api_parse_model_patch(body, strlen(body), &settings, &problem), 0);
    assert_true(settings.score_min == 0.4 && settings.rejection_budget == 0.1);

    assert_int_equal(api_parse_label_add("{\"label\":\"lost card\"}", 21, &add, &problem), 0);
    assert_string_equal(add->label, "lost card");
    api_label_add_free(add);
}

static void test_contract_is_kept(void **state)
{
    (void)state;
    body_known(try_classify, "ClassifyRequest");
    body_known(try_embed, "EmbedRequest");
    body_known(try_feedback, "FeedbackOne");
    body_known(try_line, "FeedbackOne");
    body_known(try_create, "ModelCreate");
    body_known(try_label, "LabelAdd");
}

static void test_every_allocation_fails(void **state)
{
    static const struct {
        body_fn *try;
        const char *body;
    } ROWS[] = {
        {try_classify, "{\"inputs\":[{\"text\":\"a\",\"id\":\"b\"},{\"text\":\"c\"}],"
                       "\"labels\":[\"x\",\"y\"],\"version\":\"1.2\"}"},
        {try_embed, "{\"inputs\":[\"a\",\"b\"]}"},
        {try_feedback, "{\"items\":[{\"text\":\"a\",\"label\":\"x\"},{\"text\":\"\"},7],"
                       "\"annotator\":\"z\"}"},
        {try_line, "{\"text\":\"a\",\"label\":\"x\"}"},
        {try_create, "{\"name\":\"m\",\"settings\":{\"seed\":7}}"},
        {try_patch, "{\"settings\":{\"score_min\":0.5}}"},
        {try_label, "{\"label\":\"x\"}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++)
        body_without_memory(ROWS[i].try, ROWS[i].body);
}

/* Bodies cut short and with a byte changed: a refusal or a request, never anything else. ASan and
 * UBSan look on. */
static void test_damaged_bodies(void **state)
{
    static const char BODY[] =
        "{\"items\":[{\"text\":\"\xc3\xa4\\u00e4\",\"label\":\"x\",\"weight\":1.5e0},{\"request_"
        "id\":"
        "\"r\",\"action\":\"reject\"},{\"example\":\"" ID "\",\"action\":\"withdraw\"}],"
        "\"inputs\":[{\"text\":\"a\"}],\"settings\":{\"seed\":1},\"wait\":\"applied\"}";
    static body_fn *const ALL[] = {try_classify, try_feedback, try_line, try_create, try_patch};
    char body[sizeof BODY];
    uint32_t seed = 99;

    (void)state;
    for (size_t len = 0; len < sizeof BODY; len++) {
        for (int round = 0; round < 8; round++) {
            struct api_problem problem;
            memcpy(body, BODY, sizeof BODY);
            seed = seed * 1664525 + 1013904223;
            if (round > 0)
                body[(seed >> 8) % (sizeof BODY - 1)] = (char)(seed >> 24);
            size_t bytes = round < 4 ? len : sizeof BODY - 1;
            for (size_t i = 0; i < sizeof ALL / sizeof ALL[0]; i++) {
                problem.status = 0;
                int rc = ALL[i](body, bytes, &problem);
                assert_true(rc == 0 || (rc == -EINVAL && problem.status >= 400));
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_body),
        cmocka_unit_test(test_classify_bad),
        cmocka_unit_test(test_classify_good),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_feedback_bad),
        cmocka_unit_test(test_batch_and_line_bad),
        cmocka_unit_test(test_feedback_good),
        cmocka_unit_test(test_bad_items_stand_alone),
        cmocka_unit_test(test_canonical),
        cmocka_unit_test(test_manage_bad),
        cmocka_unit_test(test_manage_good),
        cmocka_unit_test(test_contract_is_kept),
        cmocka_unit_test(test_every_allocation_fails),
        cmocka_unit_test(test_damaged_bodies),
    };

    fault_alloc_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
