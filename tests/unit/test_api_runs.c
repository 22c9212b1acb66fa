/* Runs and encoders on the wire: what is read, what is refused, what is written. */
#include <errno.h>
#include <math.h>
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
#include "tests/unit/body_fixture.h"
#include "tests/unit/contract_fixture.h"
#include "tests/unit/fault_alloc.h"

typedef int parse_fn(const char *, size_t, struct api_run_settings *, struct api_problem *);

static struct api_run_settings good(parse_fn *parse, const char *body)
{
    struct api_run_settings s;
    struct api_problem problem;

    if (parse(body, strlen(body), &s, &problem) != 0)
        fail_msg("%s: %s %s %s", body, problem.code, problem.field, problem.detail);
    return s;
}

static void bad(parse_fn *parse, const char *body, int status, const char *code, const char *field)
{
    struct api_run_settings s;
    struct api_problem problem;

    assert_int_equal(parse(body, strlen(body), &s, &problem), -EINVAL);
    if (strcmp(problem.code, code) != 0 || strcmp(problem.field, field) != 0)
        fail_msg("%s: %s %s", body, problem.code, problem.field);
    assert_int_equal(problem.status, status);
}

static void test_defaults(void **state)
{
    struct api_run_settings s = good(api_parse_run, "{}");

    (void)state;
    assert_int_equal(s.strategy, API_JOINT);
    assert_true(s.epochs == 4 && s.lr == 1e-4 && s.head_lr == 1e-3 && s.dropout == 0.1);
    assert_true(s.batch == 32 && s.seed == 1 && s.steps_max == 0 && s.minutes_max == 0);
    assert_true(s.margin < 0 && !s.force && !s.lora && s.examples_max == 0);
    assert_true(s.alpha == 0 && s.distill == 0 && s.feature == 0);
    s = good(api_parse_run, "{\"strategy\":\"replay\"}");
    assert_true(s.lr == 5e-5 && s.alpha == 1 && s.distill == 0.5 && s.temperature == 2 &&
                s.feature == 0.1);
    s = good(api_parse_run, "{\"lora\":{}}");
    assert_true(s.lora && s.lora_rank == 8 && s.lora_alpha == 16 && s.lr == 5e-4);
    assert_int_equal(s.lora_targets, API_LORA_ALL);
    s = good(api_parse_run, "{\"lora\":null}");
    assert_false(s.lora);
}

static void test_every_field(void **state)
{
    struct api_run_settings s =
        good(api_parse_run,
             "{\"strategy\":\"replay\",\"epochs\":0.5,\"steps_max\":7,\"minutes_max\":1.5,"
             "\"batch\":8,\"lr\":0.001,\"head_lr\":0.01,\"dropout\":0,\"seed\":9007199254740991,"
             "\"lora\":{\"rank\":4,\"alpha\":2,\"targets\":\"qv\"},\"alpha\":0,\"distill\":3,"
             "\"temperature\":0.5,\"feature\":0,\"examples_max\":100,\"margin\":0,\"force\":true}");

    (void)state;
    assert_int_equal(s.strategy, API_REPLAY);
    assert_true(s.epochs == 0.5 && s.steps_max == 7 && s.minutes_max == 1.5 && s.batch == 8);
    assert_true(s.lr == 0.001 && s.head_lr == 0.01 && s.dropout == 0);
    assert_true(s.seed == 9007199254740991u && s.examples_max == 100);
    assert_true(s.lora && s.lora_rank == 4 && s.lora_alpha == 2);
    assert_int_equal(s.lora_targets, API_LORA_QV);
    assert_true(s.alpha == 0 && s.distill == 3 && s.temperature == 0.5 && s.feature == 0);
    assert_true(s.margin == 0 && s.force);
}

static void test_what_is_impossible(void **state)
{
    static const struct {
        const char *body, *code, *field;
    } rows[] = {
        {"{\"strategy\":\"best\"}", "invalid_value", "strategy"},
        {"{\"strategy\":\"import\"}", "invalid_value", "strategy"},
        {"{\"strategy\":1}", "wrong_type", "strategy"},
        {"{\"epochs\":0}", "out_of_range", "epochs"},
        {"{\"epochs\":101}", "out_of_range", "epochs"},
        {"{\"epochs\":\"4\"}", "wrong_type", "epochs"},
        {"{\"steps_max\":-1}", "out_of_range", "steps_max"},
        {"{\"steps_max\":1.5}", "wrong_type", "steps_max"},
        {"{\"minutes_max\":10081}", "out_of_range", "minutes_max"},
        {"{\"batch\":0}", "out_of_range", "batch"},
        {"{\"batch\":1025}", "out_of_range", "batch"},
        {"{\"lr\":0}", "out_of_range", "lr"},
        {"{\"lr\":1}", "out_of_range", "lr"},
        {"{\"head_lr\":2}", "out_of_range", "head_lr"},
        {"{\"dropout\":1}", "out_of_range", "dropout"},
        {"{\"seed\":-1}", "out_of_range", "seed"},
        {"{\"lora\":true}", "wrong_type", "lora"},
        {"{\"lora\":{\"rank\":0}}", "out_of_range", "lora.rank"},
        {"{\"lora\":{\"alpha\":0}}", "out_of_range", "lora.alpha"},
        {"{\"lora\":{\"targets\":\"k\"}}", "invalid_value", "lora.targets"},
        {"{\"lora\":{\"r\":8}}", "unknown_field", "lora.r"},
        {"{\"strategy\":\"replay\",\"alpha\":-1}", "out_of_range", "alpha"},
        {"{\"strategy\":\"replay\",\"temperature\":0}", "out_of_range", "temperature"},
        {"{\"alpha\":1}", "conflicting_fields", "alpha"},
        {"{\"strategy\":\"naive\",\"distill\":1}", "conflicting_fields", "distill"},
        {"{\"strategy\":\"head\",\"epochs\":1}", "conflicting_fields", "epochs"},
        {"{\"strategy\":\"head\",\"lora\":null}", "conflicting_fields", "lora"},
        {"{\"examples_max\":-1}", "out_of_range", "examples_max"},
        {"{\"margin\":2}", "out_of_range", "margin"},
        {"{\"force\":1}", "wrong_type", "force"},
        {"{\"folder\":\"/a\"}", "unknown_field", "folder"},
        {"{\"shuffle_labels\":true}", "unknown_field", "shuffle_labels"},
        {"[]", "wrong_type", ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        bad(api_parse_run, rows[i].body, 422, rows[i].code, rows[i].field);
    bad(api_parse_run, "", 400, "malformed_json", "");
}

static void test_import(void **state)
{
    struct api_run_settings s =
        good(api_parse_import, "{\"folder\":\"/srv/e\",\"margin\":0.01,\"force\":true}");
    char body[1100];

    (void)state;
    assert_int_equal(s.strategy, API_IMPORT);
    assert_string_equal(s.folder, "/srv/e");
    assert_true(s.margin == 0.01 && s.force);
    assert_true(good(api_parse_import, "{\"folder\":\"/srv/e\"}").margin < 0);
    bad(api_parse_import, "{}", 422, "missing_field", "folder");
    bad(api_parse_import, "{\"folder\":\"\"}", 422, "empty_text", "folder");
    bad(api_parse_import, "{\"folder\":\"e\"}", 422, "invalid_value", "folder");
    bad(api_parse_import, "{\"folder\":\"/a\\u0000b\"}", 422, "invalid_value", "folder");
    bad(api_parse_import, "{\"folder\":\"/a\",\"epochs\":1}", 422, "unknown_field", "epochs");
    snprintf(body, sizeof body, "{\"folder\":\"/%01023d\"}", 0);
    bad(api_parse_import, body, 422, "invalid_value", "folder");
    snprintf(body, sizeof body, "{\"folder\":\"/%01022d\"}", 0);
    assert_int_equal(strlen(good(api_parse_import, body).folder), 1023);
}

/* What the store keeps says everything again. */
static void test_kept_settings(void **state)
{
    static const char *const bodies[] = {
        "{}",
        "{\"strategy\":\"replay\",\"lora\":{\"rank\":3,\"targets\":\"qv\"},\"distill\":0.25}",
        "{\"strategy\":\"head\",\"margin\":0.125}",
        "{\"strategy\":\"naive\",\"lr\":0.003,\"force\":true,\"minutes_max\":2}",
    };

    (void)state;
    for (int i = 0; i < 5; i++) {
        struct api_run_settings s = i < 4 ? good(api_parse_run, bodies[i])
                                          : good(api_parse_import, "{\"folder\":\"/a\\\"b\"}");
        struct api_run_settings again;
        struct api_buffer first = API_BUFFER_INIT, second = API_BUFFER_INIT;

        api_write_run_settings(&first, &s);
        assert_int_equal(first.rc, 0);
        assert_int_equal(api_run_settings_parse(first.bytes, first.len, &again), 0);
        api_write_run_settings(&second, &again);
        assert_int_equal(first.len, second.len);
        assert_memory_equal(first.bytes, second.bytes, first.len);
        assert_int_equal(again.strategy, s.strategy);
        assert_true(again.lr == s.lr && again.margin == s.margin && again.lora == s.lora);
        assert_string_equal(again.folder, s.folder);
        api_buffer_done(&first);
        api_buffer_done(&second);
    }
    assert_int_equal(api_run_settings_parse("{\"new\":1}", 9, &(struct api_run_settings){0}),
                     -EINVAL);
}

static struct json_value *parsed(struct api_buffer *buffer)
{
    struct json_value *root = NULL;

    assert_int_equal(buffer->rc, 0);
    assert_int_equal(json_parse(buffer->bytes, buffer->len, NULL, &root, NULL), 0);
    api_buffer_done(buffer);
    return root;
}

static void test_a_run_is_written(void **state)
{
    struct api_run run = {.run = 7,
                          .model = "m",
                          .strategy = "joint",
                          .state = "queued",
                          .phase = "waiting",
                          .who = "operator",
                          .seed = 1,
                          .since_seq = 5,
                          .encoder = -1,
                          .settings = "{\"epochs\":4}",
                          .progress = "",
                          .reason = "",
                          .created_us = 1000000};
    struct api_run_metric metrics[1000];
    struct api_buffer buffer = API_BUFFER_INIT;
    const struct json_value *list;
    struct json_value *root;

    (void)state;
    api_write_run(&buffer, &run, NULL, 0);
    root = parsed(&buffer);
    assert_int_equal(json_int(json_member(root, "run"), 0), 7);
    assert_int_equal(json_int(json_get(root, "settings.epochs"), 0), 4);
    assert_int_equal(json_kind(json_member(root, "progress")), JSON_KIND_NULL);
    assert_int_equal(json_kind(json_member(root, "verdict")), JSON_KIND_NULL);
    assert_int_equal(json_kind(json_member(root, "from_seq")), JSON_KIND_NULL);
    assert_int_equal(json_kind(json_member(root, "encoder")), JSON_KIND_NULL);
    assert_int_equal(json_kind(json_member(root, "reason")), JSON_KIND_NULL);
    assert_int_equal(json_kind(json_member(root, "started")), JSON_KIND_NULL);
    assert_string_equal(json_text(json_member(root, "created"), NULL),
                        "1970-01-01T00:00:01.000000Z");
    assert_null(json_member(root, "metrics"));
    json_free(root);

    for (int i = 0; i < 1000; i++)
        metrics[i] = (struct api_run_metric){.step = i + 1, .loss = i == 0 ? NAN : 1, .time_us = 1};
    run.encoder = 0;
    run.verdict = "{\"accepted\":true}";
    api_write_run(&buffer, &run, metrics, 1000);
    root = parsed(&buffer);
    list = json_member(root, "metrics");
    assert_int_equal(json_len(list), API_RUN_METRICS);
    assert_int_equal(json_int(json_get(list, "[0].step"), 0), 1);
    assert_int_equal(json_kind(json_get(list, "[0].loss")), JSON_KIND_NULL);
    assert_int_equal(json_int(json_get(list, "[199].step"), 0), 1000);
    assert_true(json_bool(json_get(root, "verdict.accepted"), false));
    assert_int_equal(json_int(json_member(root, "encoder"), -1), 0);
    json_free(root);
    api_write_run(&buffer, &run, metrics, 1);
    root = parsed(&buffer);
    assert_int_equal(json_len(json_member(root, "metrics")), 1);
    json_free(root);
    api_write_run(&buffer, &run, metrics, 0);
    root = parsed(&buffer);
    assert_int_equal(json_len(json_member(root, "metrics")), 0);
    json_free(root);
}

static void test_progress_and_verdict(void **state)
{
    static const char *const reasons[] = {"accuracy", "recall"};
    const struct api_run_loss loss = {"a \"b\"", 30, 9, 1, 0.01, 0.02};
    const struct api_run_verdict v = {.reasons = reasons,
                                      .reasons_len = 2,
                                      .items = 400,
                                      .accuracy_old = 0.9,
                                      .accuracy_new = 0.8,
                                      .latency_ratio = NAN,
                                      .losses = &loss,
                                      .losses_len = 1};
    const struct api_run_progress p = {.loss = 0.5, .eta_s = NAN, .examples = 9, .resumed = true};
    struct api_buffer buffer = API_BUFFER_INIT;
    struct json_value *root;

    (void)state;
    api_write_run_verdict(&buffer, &v);
    root = parsed(&buffer);
    assert_false(json_bool(json_member(root, "accepted"), true));
    assert_string_equal(json_text(json_get(root, "reasons[1]"), NULL), "recall");
    assert_string_equal(json_text(json_get(root, "losses[0].label"), NULL), "a \"b\"");
    assert_int_equal(json_int(json_get(root, "losses[0].lost"), 0), 9);
    assert_int_equal(json_kind(json_member(root, "latency_ratio")), JSON_KIND_NULL);
    json_free(root);
    api_write_run_progress(&buffer, &p);
    root = parsed(&buffer);
    assert_true(json_number(json_member(root, "loss"), 0) == 0.5);
    assert_int_equal(json_kind(json_member(root, "eta_s")), JSON_KIND_NULL);
    assert_true(json_bool(json_member(root, "resumed"), false));
    json_free(root);
}

static void test_encoders(void **state)
{
    const uint8_t sha256[32] = {0xab, 1};
    struct api_encoder_row row = {.encoder = 2,
                                  .parent = 0,
                                  .run = 7,
                                  .origin = "joint",
                                  .state = "live",
                                  .live = true,
                                  .dim = 384,
                                  .sha256 = sha256,
                                  .verdict = "{\"accepted\":true,\"items\":400,\"p\":1}",
                                  .created_us = 1};
    struct api_buffer buffer = API_BUFFER_INIT;
    struct json_value *root;

    (void)state;
    api_versions_begin(&buffer);
    api_versions_encoders(&buffer);
    api_write_encoder(&buffer, &row);
    row.verdict = "not json";
    row.parent = row.run = -1;
    row.dim = 0;
    api_write_encoder(&buffer, &row);
    api_versions_end(&buffer, "next");
    root = parsed(&buffer);
    assert_int_equal(json_len(json_member(root, "versions")), 0);
    assert_string_equal(json_text(json_member(root, "next_cursor"), NULL), "next");
    assert_int_equal(json_int(json_get(root, "encoders[0].parent"), -1), 0);
    assert_int_equal(json_int(json_get(root, "encoders[0].gate.items"), 0), 400);
    assert_int_equal(json_kind(json_get(root, "encoders[0].gate.lower")), JSON_KIND_NULL);
    assert_null(json_get(root, "encoders[0].gate.p"));
    assert_memory_equal(json_text(json_get(root, "encoders[0].sha256"), NULL), "ab01000", 7);
    assert_int_equal(json_kind(json_get(root, "encoders[1].parent")), JSON_KIND_NULL);
    assert_int_equal(json_kind(json_get(root, "encoders[1].run")), JSON_KIND_NULL);
    assert_int_equal(json_kind(json_get(root, "encoders[1].dim")), JSON_KIND_NULL);
    assert_int_equal(json_kind(json_get(root, "encoders[1].gate")), JSON_KIND_NULL);
    json_free(root);
}

static void bad_rollback(const char *body, const char *code, const char *field)
{
    struct api_problem problem;
    int64_t encoder = -7;

    assert_int_equal(api_parse_rollback(body, strlen(body), &encoder, &problem), -EINVAL);
    assert_int_equal(encoder, -7);
    assert_string_equal(problem.code, code);
    assert_string_equal(problem.field, field);
}

static void test_rollback(void **state)
{
    struct api_buffer buffer = API_BUFFER_INIT;
    struct api_problem problem;
    int64_t encoder = -1;
    static const char expected[] =
        "{\"model\":\"m\",\"version\":\"2.9\",\"encoder\":2,\"live\":false}";

    (void)state;
    assert_int_equal(api_parse_rollback("{\"version\":\"3.1842\"}", 20, &encoder, &problem), 0);
    assert_int_equal(encoder, 3);
    assert_int_equal(api_parse_rollback("{\"encoder\":0}", 13, &encoder, &problem), 0);
    assert_int_equal(encoder, 0);
    bad_rollback("{}", "missing_field", "version");
    bad_rollback("{\"version\":\"3.1\",\"encoder\":3}", "conflicting_fields", "encoder");
    bad_rollback("{\"version\":\"3\"}", "invalid_version", "version");
    bad_rollback("{\"encoder\":-1}", "out_of_range", "encoder");
    bad_rollback("{\"to\":1}", "unknown_field", "to");
    api_write_rollback(&buffer, &(struct api_rollback){"m", {2, 9}, false});
    assert_int_equal(buffer.len, sizeof expected - 1);
    assert_memory_equal(buffer.bytes, expected, buffer.len);
    api_buffer_done(&buffer);
}

static void test_queries(void **state)
{
    static const char *const bad_states[] = {
        "", ",", "queued,", "best", "x", "queued refused", "queued,,running"};
    static const char *const bad_ids[] = {"", "0", "01", "-1", "1a", "1234567890123456"};
    struct api_problem problem;
    int64_t number = -1;
    char states[96];

    (void)state;
    assert_int_equal(api_run_states_parse(NULL, 0, states, &problem), 0);
    assert_string_equal(states, "");
    assert_int_equal(api_run_states_parse("queued,failed", 13, states, &problem), 0);
    assert_string_equal(states, "queued failed ");
    for (size_t i = 0; i < sizeof bad_states / sizeof *bad_states; i++) {
        assert_int_equal(
            api_run_states_parse(bad_states[i], strlen(bad_states[i]), states, &problem), -EINVAL);
        assert_string_equal(problem.field, "state");
    }
    assert_int_equal(api_run_id_parse("123", 3, &number), 0);
    assert_int_equal(number, 123);
    for (size_t i = 0; i < sizeof bad_ids / sizeof *bad_ids; i++)
        assert_int_equal(api_run_id_parse(bad_ids[i], strlen(bad_ids[i]), &number), -EINVAL);
    assert_int_equal(api_number_parse("n", NULL, 0, 1, 9, 5, &number, &problem), 0);
    assert_int_equal(number, 5);
    assert_int_equal(api_number_parse("n", "9", 1, 1, 9, 5, &number, &problem), 0);
    assert_int_equal(number, 9);
    assert_int_equal(api_number_parse("n", "10", 2, 1, 9, 5, &number, &problem), -EINVAL);
    assert_int_equal(api_number_parse("n", "", 0, 1, 9, 5, &number, &problem), -EINVAL);
    assert_int_equal(api_number_parse("n", "1x", 2, 1, 9, 5, &number, &problem), -EINVAL);
    assert_int_equal(api_number_parse("n", "99999999999999999999", 20, 1, 9, 5, &number, &problem),
                     -EINVAL);
}

static void test_times(void **state)
{
    static const struct {
        const char *text;
        int64_t us;
    } rows[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"2026-11-24T02:54:35.123456Z", 1795488875123456},
        {"2026-11-24T03:54:35.123456789+01:00", 1795488875123456},
        {"2026-11-24t02:54:35.1z", 1795488875100000},
        {"2000-02-29T12:00:00-12:30", 951870600000000},
        {"1969-12-31T23:59:59Z", -1000000},
    };
    static const char *const wrong[] = {
        "",
        "2026-11-24",
        "2026-11-24T02:54:35",
        "2026-11-24 02:54:35Z",
        "2026-13-24T02:54:35Z",
        "2026-02-29T02:54:35Z",
        "1900-02-29T02:54:35Z",
        "2026-11-24T24:00:00Z",
        "2026-11-24T02:60:35Z",
        "2026-11-24T02:54:35.Z",
        "2026-11-24T02:54:35Zz",
        "2026-11-24T02:54:35+1:00",
        "2026-11-24T02:54:35+24:00",
        "2O26-11-24T02:54:35Z",
    };
    struct api_problem problem;
    int64_t us;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(api_time_parse("at", rows[i].text, strlen(rows[i].text), &us, &problem),
                         0);
        assert_int_equal(us, rows[i].us);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (api_time_parse("at", wrong[i], strlen(wrong[i]), &us, &problem) != -EINVAL)
            fail_msg("%s is taken", wrong[i]);
        assert_string_equal(problem.field, "at");
    }
    for (int64_t t = 0; t < 4000000000; t += 86399 * 7) { /* what is written is read */
        char text[API_TIME_CHARS];

        api_time_format(t * 1000000 + 7, text);
        assert_int_equal(api_time_parse("at", text, strlen(text), &us, &problem), 0);
        assert_int_equal(us, t * 1000000 + 7);
    }
}

/* ---- against the contract -------------------------------------------------------------------- */

static void write_run(struct api_buffer *b)
{
    const struct api_run run = {.run = 7,
                                .model = "m",
                                .strategy = "joint",
                                .state = "queued",
                                .phase = "waiting",
                                .who = "operator",
                                .encoder = 2,
                                .settings = "{}",
                                .reason = "",
                                .created_us = 1,
                                .updated_us = 1};
    const struct api_run_metric metric = {.step = 1, .loss = 0.5, .time_us = 1};

    api_write_run(b, &run, b->len == 0 ? &metric : NULL, 1);
}

static void write_runs(struct api_buffer *b)
{
    api_list_begin(b, "runs");
    write_run(b);
    api_list_end(b, NULL);
}

static void write_verdict(struct api_buffer *b)
{
    static const char *const reasons[] = {"recall"};
    const struct api_run_loss loss = {"x", 30, 9, 1, 0.01, 0.02};

    api_write_run_verdict(
        b, &(struct api_run_verdict){
               .reasons = reasons, .reasons_len = 1, .losses = &loss, .losses_len = 1});
}

static void write_progress(struct api_buffer *b)
{
    api_write_run_progress(b, &(struct api_run_progress){.loss = 0.5});
}

static void write_rollback(struct api_buffer *b)
{
    api_write_rollback(b, &(struct api_rollback){"m", {2, 9}, true});
}

static void write_files(struct api_buffer *b)
{
    api_files_begin(b, 2);
    api_write_file(b, "config.json", 9, (const uint8_t[32]){1});
    api_files_end(b);
}

static void write_run_event(struct api_buffer *b)
{
    api_write_event_run(
        b,
        &(struct api_event_run){
            .run = 7, .model = "m", .strategy = "joint", .state = "running", .phase = "training"});
}

static void test_answers_keep_the_contract(void **state)
{
    (void)state;
    contract_check("RunWhole", write_run);
    contract_check("Runs", write_runs);
    contract_check("RunVerdict", write_verdict);
    contract_check("RunProgress", write_progress);
    contract_check("Rollback", write_rollback);
    contract_check("EncoderFiles", write_files);
    contract_check("EventRun", write_run_event);
}

static int try_run(const char *body, size_t bytes, struct api_problem *problem)
{
    struct api_run_settings s;

    return api_parse_run(body, bytes, &s, problem);
}

static void test_without_memory(void **state)
{
    (void)state;
    body_without_memory(try_run, "{\"strategy\":\"replay\",\"lora\":{\"rank\":4}}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_every_field),
        cmocka_unit_test(test_what_is_impossible),
        cmocka_unit_test(test_import),
        cmocka_unit_test(test_kept_settings),
        cmocka_unit_test(test_a_run_is_written),
        cmocka_unit_test(test_progress_and_verdict),
        cmocka_unit_test(test_encoders),
        cmocka_unit_test(test_rollback),
        cmocka_unit_test(test_queries),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_answers_keep_the_contract),
        cmocka_unit_test(test_without_memory),
    };

    fault_alloc_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
