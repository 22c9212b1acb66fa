/* test_api_answers.c -- what leaves: each answer byte for byte once, and against the contract
 * whatever the values.
 *
 * The second half reads every answer back and walks it along its schema in openapi.json: required
 * fields are there, kinds fit, no field is missing from the contract. That is a small part of JSON
 * Schema, enough for the schemas of answers.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/api.h"
#include "tests/unit/contract_fixture.h"
#include "tests/unit/fault_alloc.h"

static const uint8_t ID[API_ID_BYTES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#define ID_TEXT "000102030405060708090a0b0c0d0e0f"
#define EPOCH "1970-01-01T00:00:00.000000Z"

static void check_bytes(struct api_buffer *b, const char *expected)
{
    assert_int_equal(b->rc, 0);
    api_buffer_add(b, "", 1);
    assert_string_equal(b->bytes, expected);
    api_buffer_done(b);
}

static void write_classify(struct api_buffer *b)
{
    const struct api_scored labels[] = {{"card_arrival", 0.94, 0}, {"lost_card", 0.04, 0}};
    const float votes[2 * API_VOTES] = {1.5f, -2, 0.25f, 3, 4, 0, 1, 2, 3, 4.5f};
    const struct api_because because[] = {{{0}, "a\"b", 3, "card_arrival", 0.91}};
    const struct api_result results[] = {
        {.id = "0",
         .request_id = "01J9",
         .label = "card_arrival",
         .score = 0.94,
         .novelty = 0.03,
         .payload = "[null,\"p\"]",
         .labels = labels,
         .labels_len = 2,
         .votes = votes,
         .tokens = 7,
         .explained = true,
         .because = because,
         .because_len = 1},
        {.id = "1",
         .request_id = NULL,
         .label = NULL,
         .score = NAN,
         .novelty = INFINITY,
         .abstain = true,
         .tokens = 3,
         .truncated = true},
    };
    const struct api_timing timing = {0.1, 0.02, 1.3001, 0.05, 1.6};

    api_classify_begin(b, "intents", (struct api_version){2, 1850});
    api_classify_result(b, &results[0]);
    api_classify_result(b, &results[1]);
    api_classify_end(b, &timing);
}

static void test_classify(void **state)
{
    struct api_buffer b = API_BUFFER_INIT;

    (void)state;
    write_classify(&b);
    check_bytes(
        &b, "{\"model\":\"intents\",\"version\":\"2.1850\",\"results\":["
            "{\"id\":\"0\",\"request_id\":\"01J9\",\"label\":\"card_arrival\",\"score\":0.94,"
            "\"abstain\":false,\"novelty\":0.03,\"novel\":false,\"payload\":[null,\"p\"],"
            "\"labels\":[{\"label\":\"card_arrival\","
            "\"score\":0.94,\"votes\":{\"ridge\":1.5,\"lda\":-2,\"count\":0.25,\"prototype\":3,"
            "\"nearest\":4}},{\"label\":\"lost_card\",\"score\":0.04,\"votes\":{\"ridge\":0,"
            "\"lda\":1,\"count\":2,\"prototype\":3,\"nearest\":4.5}}],\"tokens\":7,"
            "\"truncated\":false,\"because\":[{\"example\":\"00000000000000000000000000000000\","
            "\"text\":\"a\\\"b\",\"label\":\"card_arrival\",\"similarity\":0.91}]},"
            "{\"id\":\"1\",\"request_id\":null,\"label\":null,\"score\":null,\"abstain\":true,"
            "\"novelty\":null,\"novel\":false,\"labels\":[],\"tokens\":3,\"truncated\":true}],"
            "\"timing_ms\":{\"queue\":0.1,\"tokenize\":0.02,\"encode\":1.3,\"head\":0.05,"
            "\"total\":1.6}}");
}

static void write_embed(struct api_buffer *b)
{
    const float vectors[2][3] = {{0.5f, -0.25f, 0.1f}, {0.0f, 1.0f, 1e-7f}};
    const uint32_t tokens[] = {7, 9};

    api_embed_begin(b, "default", (struct api_version){0, 0});
    api_embed_vector(b, vectors[0], 3);
    api_embed_vector(b, vectors[1], 3);
    api_embed_end(b, tokens, 2);
}

static void test_embed(void **state)
{
    struct api_buffer b = API_BUFFER_INIT;

    (void)state;
    write_embed(&b);
    check_bytes(&b, "{\"model\":\"default\",\"version\":\"0.0\",\"embeddings\":[[0.5,-0.25,0.1],"
                    "[0,1,1e-07]],\"tokens\":[7,9]}");
}

static void write_feedback(struct api_buffer *b)
{
    const struct api_feedback_counts counts = {2, 1, true};
    const struct api_version version = {0, 1851};
    struct api_accepted accepted = {.seq = 1851};
    struct api_problem problem;

    memcpy(accepted.example, ID, sizeof ID);
    api_problem_set(&problem, 422, "missing_field", "label", "a label is required here");
    api_feedback_begin(b);
    api_feedback_accepted(b, &accepted);
    accepted.duplicate = accepted.label_created = true;
    api_feedback_accepted(b, &accepted);
    api_feedback_middle(b);
    api_feedback_rejected(b, 4, &problem);
    problem.field[0] = '\0';
    api_feedback_rejected(b, 5, &problem);
    api_feedback_end(b, &version, &counts);
}

static void test_feedback(void **state)
{
    struct api_buffer b = API_BUFFER_INIT;

    (void)state;
    write_feedback(&b);
    check_bytes(&b,
                "{\"accepted\":[{\"example\":\"" ID_TEXT "\",\"seq\":1851,\"duplicate\":false},"
                "{\"example\":\"" ID_TEXT "\",\"seq\":1851,\"duplicate\":true,"
                "\"label_created\":true}],\"rejected\":[{\"index\":4,\"code\":\"missing_field\","
                "\"field\":\"label\",\"detail\":\"a label is required here\"},{\"index\":5,"
                "\"code\":\"missing_field\",\"detail\":\"a label is required here\"}],"
                "\"version\":\"0.1851\",\"accepted_count\":2,\"rejected_count\":1,"
                "\"truncated\":true}");
    api_feedback_begin(&b);
    api_feedback_middle(&b);
    api_feedback_end(&b, NULL, NULL);
    check_bytes(&b, "{\"accepted\":[],\"rejected\":[],\"version\":null}");
}

static void write_model(struct api_buffer *b)
{
    struct api_model model = {"intents", "single", {0, 9}, true, 0, 3, 2, {0}};

    api_settings_default(&model.settings);
    api_write_model(b, &model);
}

static void write_example(struct api_buffer *b)
{
    const struct api_scored labels[] = {{"x", 0.25, 0}, {"y", 0.75, 0}};
    struct api_example example = {.model = "m",
                                  .text = "t",
                                  .text_bytes = 1,
                                  .pair = "p",
                                  .pair_bytes = 1,
                                  .labels = labels,
                                  .labels_len = 2,
                                  .annotators = 2,
                                  .weight = 1.5,
                                  .status = "active",
                                  .first_seq = 3,
                                  .last_seq = 4};

    memcpy(example.example, ID, sizeof ID);
    api_write_example(b, &example);
}

static void write_label(struct api_buffer *b)
{
    const struct api_label_row row = {.label = "x",
                                      .status = "merged",
                                      .examples = 42,
                                      .has_score_min = true,
                                      .score_min = 0.5,
                                      .payload = "{\"a\":[1]}",
                                      .into = "y"};

    api_label_begin(b, &row);
    api_label_alias(b, "w");
    api_label_end(b);
}

static void write_version(struct api_buffer *b)
{
    const struct api_version_row row = {{2, 9}, "live", "label", ID, "x", "", -1, NULL, 0};

    api_write_version(b, &row);
}

static void test_rows(void **state)
{
    const struct api_version_row empty = {{0, 0}, "past", NULL, NULL, NULL, NULL, 0, "created", 0};
    const struct api_example bare = {.model = "m", .status = "withdrawn"};
    struct api_buffer b = API_BUFFER_INIT;

    (void)state;
    write_model(&b);
    check_bytes(&b, "{\"name\":\"intents\",\"kind\":\"single\",\"encoder\":\"default\","
                    "\"version\":\"0.9\",\"settled\":true,\"examples\":3,\"labels\":2,\"settings\":"
                    "{\"features\":1024,"
                    "\"seed\":1,\"ridge_lambda\":0.15,\"score_min\":0,\"rejection_budget\":0.05,"
                    "\"annotator_rate_max\":0,\"annotator_influence_max\":1},"
                    "\"created\":\"" EPOCH "\"}");
    write_example(&b);
    check_bytes(&b,
                "{\"example\":\"" ID_TEXT "\",\"model\":\"m\",\"text\":\"t\",\"text_pair\":\"p\","
                "\"label\":\"y\",\"labels\":[{\"label\":\"x\",\"share\":0.25},{\"label\":\"y\","
                "\"share\":0.75}],\"annotators\":2,\"weight\":1.5,\"status\":\"active\","
                "\"first_seq\":3,\"last_seq\":4,\"created\":\"" EPOCH "\"}");
    api_write_example(&b, &bare);
    check_bytes(&b, "{\"example\":\"00000000000000000000000000000000\",\"model\":\"m\",\"text\":"
                    "null,\"vector\":true,"
                    "\"label\":null,\"labels\":[],\"annotators\":0,\"weight\":0,"
                    "\"status\":\"withdrawn\",\"first_seq\":0,\"last_seq\":0,\"created\":\"" EPOCH
                    "\"}");
    write_version(&b);
    check_bytes(&b,
                "{\"version\":\"2.9\",\"encoder\":2,\"seq\":9,\"state\":\"live\",\"op\":\"label\","
                "\"example\":\"" ID_TEXT "\",\"label\":\"x\",\"annotator\":null,"
                "\"run\":null,\"reason\":null,"
                "\"created\":\"" EPOCH "\"}");
    api_write_version(&b, &empty);
    check_bytes(&b, "{\"version\":\"0.0\",\"encoder\":0,\"seq\":0,\"state\":\"past\",\"op\":null,"
                    "\"example\":null,\"label\":null,\"annotator\":null,\"run\":0,"
                    "\"reason\":\"created\",\"created\":\"" EPOCH "\"}");
}

#define LABEL_ROW                                                                                  \
    "{\"label\":\"x\",\"examples\":42,\"status\":\"merged\",\"into\":\"y\","                       \
    "\"score_min\":0.5,"                                                                           \
    "\"payload\":{\"a\":[1]},\"created\":\"" EPOCH "\",\"aliases\":[\"w\"]}"

static void write_labels(struct api_buffer *b)
{
    api_list_begin(b, "labels");
    write_label(b);
    write_label(b);
    api_list_end(b, "abc");
}

static void write_models(struct api_buffer *b)
{
    api_list_begin(b, "models");
    write_model(b);
    api_list_end(b, NULL);
}

static void write_examples(struct api_buffer *b)
{
    api_list_begin(b, "examples");
    write_example(b);
    api_list_end(b, NULL);
}

static void write_versions(struct api_buffer *b)
{
    const struct api_encoder_row encoder = {.encoder = 2,
                                            .parent = 0,
                                            .run = -1,
                                            .origin = "joint",
                                            .state = "live",
                                            .sha256 = (const uint8_t[32]){1}};

    api_versions_begin(b);
    write_version(b);
    api_versions_encoders(b);
    api_write_encoder(b, &encoder);
    api_versions_end(b, NULL);
}

static void test_lists(void **state)
{
    struct api_buffer b = API_BUFFER_INIT;

    (void)state;
    write_labels(&b);
    check_bytes(&b, "{\"labels\":[" LABEL_ROW "," LABEL_ROW "],\"next_cursor\":\"abc\"}");
    api_list_begin(&b, "models");
    api_list_end(&b, NULL);
    check_bytes(&b, "{\"models\":[],\"next_cursor\":null}");
}

static void write_request(struct api_buffer *b)
{
    const struct api_request request = {"01J9", "m", {0, 1}, "", 0.5, 0, true};

    api_write_request(b, &request);
}

static void write_health(struct api_buffer *b)
{
    api_health_begin(b, "unready");
    api_health_check(b, "encoder", true, NULL);
    api_health_check(b, "journal", false, "the disk is full");
    api_health_end(b);
}

static void write_info(struct api_buffer *b)
{
    const struct api_info info = {.version = "0.1.0",
                                  .encoder = "all-MiniLM-L6-v2",
                                  .dim = 384,
                                  .layers = 6,
                                  .tokens_max = 256,
                                  .parameters = 22713216,
                                  .backend = "cpu",
                                  .device = "cpu",
                                  .device_why = "there is none",
                                  .precision = "bf16",
                                  .lanes = 2,
                                  .loops = 1,
                                  .models = 1,
                                  .body_bytes_max = 1 << 20,
                                  .feedback_bytes_max = 8 << 20};

    api_write_info(b, &info);
}

static void write_problem(struct api_buffer *b)
{
    struct api_problem problem;

    api_problem_set(&problem, 503, "queue_full", "", "too many requests are waiting");
    api_write_problem(b, &problem, "01J9");
}

/* ---- what events tell ---- */

static void write_swap(struct api_buffer *b)
{
    api_write_event_swap(
        b, &(struct api_event_swap){
               .model = "m", .version = {2, 1850}, .settled = true, .examples = 12, .labels = 3});
}

static void write_label_event(struct api_buffer *b)
{
    api_write_event_label(b, &(struct api_event_label){"m", "renamed", "new \"name\"", "old", 0});
}

static void write_model_event(struct api_buffer *b)
{
    api_write_event_model(b, &(struct api_event_model){"m", "removed", 0});
}

static void write_drift(struct api_buffer *b)
{
    api_write_event_drift(b, &(struct api_event_drift){.model = "m",
                                                       .detector = "mmd",
                                                       .measure = "features",
                                                       .before = NAN,
                                                       .after = 0.25,
                                                       .statistic = 0.5,
                                                       .threshold = 0.125});
}

static void write_warning(struct api_buffer *b)
{
    api_write_event_warning(b, &(struct api_event_warning){NULL, "disk", "line\nend", 0});
}

static void write_reset(struct api_buffer *b)
{
    api_write_event_reset(b, &(struct api_event_reset){"restarted", 0});
}

#define ABOUT_M "{\"time\":\"" EPOCH "\",\"model\":\"m\","
#define ABOUT_ALL "{\"time\":\"" EPOCH "\",\"model\":null,"

static void test_events(void **state)
{
    struct api_buffer b = API_BUFFER_INIT;

    (void)state;
    write_swap(&b);
    check_bytes(&b, ABOUT_M "\"version\":\"2.1850\",\"settled\":true,\"examples\":12,"
                            "\"labels\":3}");
    write_label_event(&b);
    check_bytes(&b, ABOUT_M "\"action\":\"renamed\",\"label\":\"new \\\"name\\\"\","
                            "\"from\":\"old\"}");
    write_model_event(&b);
    check_bytes(&b, ABOUT_M "\"action\":\"removed\"}");
    write_drift(&b);
    check_bytes(&b, ABOUT_M "\"detector\":\"mmd\",\"measure\":\"features\",\"label\":null,"
                            "\"before\":null,\"after\":0.25,\"statistic\":0.5,"
                            "\"threshold\":0.125,\"since\":null}");
    write_warning(&b);
    check_bytes(&b, ABOUT_ALL "\"code\":\"disk\",\"detail\":\"line\\nend\"}");
    write_reset(&b);
    check_bytes(&b, ABOUT_ALL "\"reason\":\"restarted\"}");
    api_write_event_retry(&b, 2000);
    api_write_event_mark(&b, "b-0");
    api_write_event(&b, "b-1", "swap", "{}", 2);
    check_bytes(&b, "retry: 2000\n:\nid: b-0\n\nid: b-1\nevent: swap\ndata: {}\n\n");
}

static void test_event_types(void **state)
{
    static const char *const bad[] = {
        "",    ",",          "swap,", ",swap", "swap,,label",       "swaps",
        "swa", "swap label", "SWAP",  "reset", "swap,label,nothing"};
    struct api_problem problem;
    uint32_t types = 77;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(api_event_types_parse(bad[i], strlen(bad[i]), &types, &problem), -EINVAL);
        assert_int_equal(problem.status, 422);
        assert_string_equal(problem.code, "invalid_value");
        assert_string_equal(problem.field, "types");
        assert_int_equal(types, 77);
    }
    assert_int_equal(api_event_types_parse(NULL, 0, &types, &problem), 0);
    assert_int_equal(types, API_EVENT_TYPES_ALL);
    assert_int_equal(api_event_types_parse("warning,swap,warning", 20, &types, &problem), 0);
    assert_int_equal(types, 1u << API_EVENT_WARNING | 1u << API_EVENT_SWAP);
    for (int i = 0; i < API_EVENTS_LEN; i++) {
        const char *name = api_event_name((enum api_event)i);

        assert_int_equal(api_event_types_parse(name, strlen(name), &types, &problem), 0);
        assert_int_equal(types, 1u << i);
    }
}

static void test_about(void **state)
{
    struct api_buffer b = API_BUFFER_INIT;

    (void)state;
    write_request(&b);
    check_bytes(&b, "{\"request_id\":\"01J9\",\"model\":\"m\",\"version\":\"0.1\",\"label\":null,"
                    "\"score\":0.5,\"created\":\"" EPOCH "\",\"text_held\":true}");
    write_health(&b);
    check_bytes(&b, "{\"status\":\"unready\",\"checks\":[{\"name\":\"encoder\",\"ok\":true,"
                    "\"detail\":null},{\"name\":\"journal\",\"ok\":false,"
                    "\"detail\":\"the disk is full\"}]}");
}

static void write_review(struct api_buffer *b)
{
    const struct api_review review = {"m", true, {0, 9}, 100, 8, true, false};
    const struct api_review_vote votes[] = {
        {"x", "a", false}, {"x", "", false}, {"x", "b", true}, {"y", "c", true}};
    struct api_review_item item = {.kind = API_DUPLICATE,
                                   .text = "t",
                                   .text_bytes = 1,
                                   .pair = "p",
                                   .pair_bytes = 1,
                                   .label = "x",
                                   .other = "y",
                                   .margin = NAN,
                                   .annotators = 2,
                                   .votes = votes,
                                   .votes_len = 4,
                                   .twin = {.text = "T", .text_bytes = 1}};
    const struct api_review_item influence = {
        .kind = API_INFLUENCE, .label = "x", .annotator = "", .share = 0.75, .examples = 3};

    memcpy(item.example, ID, sizeof ID);
    memcpy(item.twin.example, ID, sizeof ID);
    api_review_begin(b, &review);
    api_review_item(b, &item);
    item.kind = API_LIKELY_WRONG;
    item.pair = NULL;
    item.other = NULL;
    item.margin = 0.5;
    item.votes_len = 0;
    api_review_item(b, &item);
    api_review_item(b, &influence);
    api_review_end(b, "abc");
}

static void write_unaudited(struct api_buffer *b)
{
    const struct api_review review = {.model = "m"};

    api_review_begin(b, &review);
    api_review_end(b, NULL);
}

static void test_review(void **state)
{
    struct api_buffer b = API_BUFFER_INIT;

    (void)state;
    write_review(&b);
    check_bytes(&b, "{\"model\":\"m\",\"version\":\"0.9\",\"examined\":100,\"suspects\":8,"
                    "\"distrusted\":true,\"distrusted_share\":0.08,\"settled\":false,\"items\":["
                    "{\"kind\":\"duplicate\",\"example\":\"" ID_TEXT "\",\"text\":\"t\","
                    "\"text_pair\":\"p\",\"label\":\"x\",\"other\":\"y\",\"margin\":null,"
                    "\"annotators\":2,\"votes\":[{\"label\":\"x\",\"for\":[\"a\",null],"
                    "\"against\":[\"b\"]},{\"label\":\"y\",\"for\":[],\"against\":[\"c\"]}],"
                    "\"twin\":{\"example\":\"" ID_TEXT "\",\"text\":\"T\"},"
                    "\"created\":\"" EPOCH "\"},"
                    "{\"kind\":\"likely_wrong\",\"example\":\"" ID_TEXT "\",\"text\":\"t\","
                    "\"label\":\"x\",\"other\":null,\"margin\":0.5,\"annotators\":2,\"votes\":[],"
                    "\"created\":\"" EPOCH "\"},"
                    "{\"kind\":\"influence\",\"label\":\"x\",\"annotator\":null,\"share\":0.75,"
                    "\"examples\":3}],\"next_cursor\":\"abc\"}");
    write_unaudited(&b);
    check_bytes(&b, "{\"model\":\"m\",\"version\":null,\"examined\":0,\"suspects\":0,"
                    "\"distrusted\":false,\"distrusted_share\":0,\"settled\":false,\"items\":[],"
                    "\"next_cursor\":null}");
}

static void write_next(struct api_buffer *b)
{
    const struct api_next next = {"m", {0, 9}, 7, 0.2, 5};
    struct api_next_item item = {.request_id = "01J9",
                                 .text = "t",
                                 .text_bytes = 1,
                                 .pair = "p",
                                 .pair_bytes = 1,
                                 .label = "x",
                                 .score = 0.5,
                                 .novelty = -1.5,
                                 .why = "random"};

    api_next_begin(b, &next);
    api_next_item(b, &item);
    item.label = "";
    item.pair = NULL;
    api_next_item(b, &item);
    api_next_end(b);
}

static void test_next(void **state)
{
    struct api_buffer b = API_BUFFER_INIT;

    (void)state;
    write_next(&b);
    check_bytes(&b, "{\"model\":\"m\",\"version\":\"0.9\",\"candidates\":7,\"random_share\":0.2,"
                    "\"seed\":5,\"items\":[{\"request_id\":\"01J9\",\"text\":\"t\","
                    "\"text_pair\":\"p\",\"label\":\"x\",\"score\":0.5,\"novelty\":-1.5,"
                    "\"why\":\"random\",\"created\":\"" EPOCH "\"},{\"request_id\":\"01J9\","
                    "\"text\":\"t\",\"label\":null,\"score\":0.5,\"novelty\":-1.5,"
                    "\"why\":\"random\",\"created\":\"" EPOCH "\"}]}");
}

/* ---- against the contract -------------------------------------------------------------------- */

static void test_answers_keep_the_contract(void **state)
{
    static const struct {
        const char *schema;
        void (*write)(struct api_buffer *b);
    } ROWS[] = {
        {"ClassifyAnswer", write_classify}, {"EmbedAnswer", write_embed},
        {"FeedbackAnswer", write_feedback}, {"Model", write_model},
        {"Models", write_models},           {"Label", write_label},
        {"Labels", write_labels},           {"Example", write_example},
        {"Examples", write_examples},       {"VersionRow", write_version},
        {"Versions", write_versions},       {"Info", write_info},
        {"Request", write_request},         {"Health", write_health},
        {"Problem", write_problem},         {"EventSwap", write_swap},
        {"EventLabel", write_label_event},  {"EventModel", write_model_event},
        {"EventDrift", write_drift},        {"EventWarning", write_warning},
        {"EventReset", write_reset},        {"Review", write_review},
        {"Review", write_unaudited},        {"Next", write_next},
    };

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++)
        contract_check(ROWS[i].schema, ROWS[i].write);
}

static void test_no_memory_sticks(void **state)
{
    int64_t held = fault_alloc_held();

    (void)state;
    for (uint64_t n = 1; n < 3; n++) {
        struct api_buffer b = API_BUFFER_INIT;

        fault_alloc_arm(n, false);
        for (int i = 0; i < 3; i++)
            write_classify(&b);
        write_embed(&b);
        write_example(&b);
        assert_true(fault_alloc_disarm());
        assert_int_equal(b.rc, -ENOMEM);
        api_buffer_done(&b);
    }
    assert_int_equal(fault_alloc_held(), held);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classify),
        cmocka_unit_test(test_embed),
        cmocka_unit_test(test_feedback),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_about),
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_event_types),
        cmocka_unit_test(test_review),
        cmocka_unit_test(test_next),
        cmocka_unit_test(test_answers_keep_the_contract),
        cmocka_unit_test(test_no_memory_sticks),
    };

    fault_alloc_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
