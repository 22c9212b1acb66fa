/* fuzz_api.c -- any bytes through every parser of proto, and what was read written again.
 *
 * The first byte picks the parser, the rest is the body. Beside what the sanitizers see, it holds:
 * a refusal has a status, a code and UTF-8 in its field; a request read keeps its bounds; the
 * canonical form of an item is JSON and reads back; a document that was read is written to the same
 * document.
 *
 * Seeds: tests/fuzz/corpus/api, made by hand from the tables of test_api_requests.c.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/api.h"
#include "proto/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool truth)
{
    if (!truth)
        abort();
}

/* What a problem says must leave as valid JSON without a replacement. */
static void check_problem(int rc, const struct api_problem *problem)
{
    struct api_buffer b = API_BUFFER_INIT;
    struct json_value *root;

    if (rc == 0)
        return;
    must(problem->status >= 400 && problem->status < 600 && problem->code && problem->detail[0]);
    must(strlen(problem->field) < sizeof problem->field);
    api_write_problem(&b, problem, "fuzz");
    must(json_parse(b.bytes, b.len, NULL, &root, NULL) == 0);
    must(strcmp(json_text(json_member(root, "code"), NULL), problem->code) == 0);
    json_free(root);
    api_buffer_done(&b);
}

/* Of unit length, as near as fp16 can tell. */
static void check_vector(const float *vector, uint32_t len)
{
    double sum = 0;

    for (uint32_t i = 0; i < len; i++)
        sum += (double)vector[i] * vector[i];
    must(len == 0 || (len >= API_DIM_MIN && len <= API_DIM_MAX && fabs(sum - 1) < 2e-3));
}

static void try_erase(const char *body, size_t bytes)
{
    struct api_problem problem = {0, NULL, "", ""};
    struct api_erase *erase = NULL;

    check_problem(api_parse_erase(body, bytes, &erase, &problem), &problem);
    must(!erase || (erase->text != NULL) != (erase->annotator != NULL));
    must(!erase || !erase->pair || erase->text);
    api_erase_free(erase);
}

static void try_classify(const char *body, size_t bytes)
{
    struct api_problem problem = {0, NULL, "", ""};
    struct api_classify *ask = NULL;

    check_problem(api_parse_classify(body, bytes, &ask, &problem), &problem);
    if (ask) {
        must(ask->inputs_len >= 1 && ask->inputs_len <= API_INPUTS_MAX);
        for (uint32_t i = 0; i < ask->inputs_len; i++) {
            char field[96];
            must((ask->inputs[i].text_bytes > 0) != (ask->inputs[i].vector_len > 0));
            must(ask->inputs[i].id[0] != '\0');
            check_vector(ask->inputs[i].vector, ask->inputs[i].vector_len);
            api_classify_field(ask, i, field);
        }
        must(ask->threshold >= 0.0 && ask->threshold <= 1.0 && ask->top_k <= API_TOP_K_MAX);
    }
    api_classify_free(ask);
}

static void try_embed(const char *body, size_t bytes)
{
    struct api_problem problem = {0, NULL, "", ""};
    struct api_embed *ask = NULL;

    check_problem(api_parse_embed(body, bytes, &ask, &problem), &problem);
    must(!ask || (ask->inputs_len >= 1 && ask->inputs_len <= API_INPUTS_MAX));
    api_embed_free(ask);
}

static void check_item(const struct api_feedback_item *item)
{
    struct api_feedback *again = NULL;
    struct api_problem problem;

    must(strlen(item->model) >= 1 && strlen(item->model) <= API_NAME_BYTES_MAX);
    if (item->problem) {
        check_problem(-1, item->problem);
        return;
    }
    must((item->request_id != NULL) + (item->text != NULL) + (item->vector != NULL) +
             item->has_example ==
         1);
    check_vector(item->vector, item->vector_len);
    must(item->weight > 0.0 && item->weight <= 100.0);
    must(item->action != API_LABEL || item->label || item->labels);
    /* The canonical form means the same: it is its own canonical form. */
    must(api_parse_feedback_line(item->canonical, item->canonical_bytes, &again, &problem) == 0);
    must(again->items[0].canonical_bytes == item->canonical_bytes);
    must(memcmp(again->items[0].canonical, item->canonical, item->canonical_bytes) == 0);
    api_feedback_free(again);
}

static void try_feedback(const char *body, size_t bytes, bool line)
{
    struct api_problem problem = {0, NULL, "", ""};
    struct api_feedback *teach = NULL;

    int rc = line ? api_parse_feedback_line(body, bytes, &teach, &problem)
                  : api_parse_feedback(body, bytes, &teach, &problem);
    check_problem(rc, &problem);
    if (teach) {
        must(teach->items_len >= 1 && teach->items_len <= API_ITEMS_MAX);
        for (uint32_t i = 0; i < teach->items_len; i++) {
            must(teach->batch || !teach->items[i].problem);
            check_item(&teach->items[i]);
        }
    }
    api_feedback_free(teach);
}

static void try_labels(const char *body, size_t bytes)
{
    struct api_problem problem = {0, NULL, "", ""};
    struct api_label_patch *patch = NULL;
    struct api_label_merge *merge = NULL;
    struct api_label_split *split = NULL;

    check_problem(api_parse_label_patch(body, bytes, &patch, &problem), &problem);
    if (patch && patch->payload) {
        struct json_value *root;
        must(strlen(patch->payload) <= API_PAYLOAD_BYTES_MAX);
        must(json_parse(patch->payload, strlen(patch->payload), NULL, &root, NULL) == 0);
        json_free(root);
    }
    must(!patch || patch->score_min <= 1.0);
    api_label_patch_free(patch);
    check_problem(api_parse_label_merge(body, bytes, &merge, &problem), &problem);
    must(!merge || api_name_valid(merge->into, strlen(merge->into)));
    api_label_merge_free(merge);
    check_problem(api_parse_label_split(body, bytes, &split, &problem), &problem);
    must(!split || (split->examples_len > 0 && split->examples_len <= API_ITEMS_MAX));
    api_label_split_free(split);
}

static void try_manage(const char *body, size_t bytes)
{
    struct api_problem problem = {0, NULL, "", ""};
    struct api_model_create *create = NULL;
    struct api_label_add *add = NULL;
    struct api_settings settings;

    check_problem(api_parse_model_create(body, bytes, &create, &problem), &problem);
    must(!create || api_model_name_valid(create->name, strlen(create->name)));
    api_model_create_free(create);
    check_problem(api_parse_label_add(body, bytes, &add, &problem), &problem);
    must(!add || api_name_valid(add->label, strlen(add->label)));
    api_label_add_free(add);
    api_settings_default(&settings);
    check_problem(api_parse_model_patch(body, bytes, &settings, &problem), &problem);
    must(settings.features == 1024 && settings.score_min >= 0.0 && settings.score_min <= 1.0);
    (void)api_settings_parse(body, bytes, &settings);
}

static void try_json(const char *body, size_t bytes)
{
    struct api_buffer once = API_BUFFER_INIT, twice = API_BUFFER_INIT;
    struct json_value *root, *again;

    if (json_parse(body, bytes, NULL, &root, NULL) < 0)
        return;
    json_write_value(&once, root);
    must(json_parse(once.bytes, once.len, NULL, &again, NULL) == 0);
    json_write_value(&twice, again);
    must(once.len == twice.len && memcmp(once.bytes, twice.bytes, once.len) == 0);
    json_free(root);
    json_free(again);
    api_buffer_done(&once);
    api_buffer_done(&twice);
}

static void try_words(const char *body, size_t bytes)
{
    struct api_cursor cursor = {'e', 1, 0};
    struct api_problem problem = {0, NULL, "", ""};
    struct api_version version;
    char text[API_VERSION_CHARS];
    uint8_t id[API_ID_BYTES];
    uint32_t limit;
    bool flag;

    if (api_version_parse(body, bytes, &version) == 0) {
        api_version_format(version, text);
        must(strlen(text) == bytes && memcmp(text, body, bytes) == 0);
    }
    (void)api_id_parse(body, bytes, id);
    check_problem(api_cursor_parse(body, bytes, 0, &cursor, &problem), &problem);
    check_problem(api_limit_parse(body, bytes, &limit, &problem), &problem);
    check_problem(api_flag_parse("flag", body, bytes, false, &flag, &problem), &problem);
    check_problem(api_wait_parse(body, bytes, &flag, &problem), &problem);
}

static void try_write(const char *body, size_t bytes)
{
    struct api_buffer b = API_BUFFER_INIT;
    struct json_value *root;

    json_open_array(&b);
    json_write_text(&b, body, bytes);
    for (size_t i = 0; i + sizeof(float) <= bytes && i < 64; i += sizeof(float)) {
        float number;
        memcpy(&number, body + i, sizeof number);
        json_write_float(&b, number);
    }
    json_close_array(&b);
    must(json_parse(b.bytes, b.len, NULL, &root, NULL) == 0);
    json_free(root);
    api_buffer_done(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    /* A copy of its own, so that a read past the end is seen. */
    char *body = malloc(size > 1 ? size - 1 : 1);
    if (!body)
        return 0;
    memcpy(body, data + 1, size - 1);
    switch (data[0]) {
    case 'c':
        try_classify(body, size - 1);
        break;
    case 'e':
        try_embed(body, size - 1);
        break;
    case 'r':
        try_erase(body, size - 1);
        break;
    case 'f':
        try_feedback(body, size - 1, false);
        break;
    case 'l':
        try_feedback(body, size - 1, true);
        break;
    case 'm':
        try_manage(body, size - 1);
        try_labels(body, size - 1);
        break;
    case 'w':
        try_words(body, size - 1);
        break;
    case 't':
        try_write(body, size - 1);
        break;
    default:
        try_json(body, size - 1);
        break;
    }
    free(body);
    return 0;
}
