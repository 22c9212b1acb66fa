/* api_feedback.c -- corrections: an item's table of fields, the rules between them, its canonical
 * bytes, the answer.
 *
 * In a batch each item is read with a problem of its own, so a bad one stays in its place and says
 * why; only exhaustion and malformed JSON end the whole. What stands beside "items" is read first,
 * wherever it was written, since it is the default of every item.
 */
#include "proto/api_feedback.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "proto/api_read.h"

struct item_target {
    const char *model, *request_id, *label, *annotator, *source, *idempotency_key;
    struct api_text text, pair;
    struct api_vector vector;
    bool has_example, create_labels, wait_applied;
    uint8_t example[API_ID_BYTES];
    enum api_action action;
    struct api_names labels;
    double weight;
    const struct json_value *items;
};

static const char *const ACTIONS[] = {"label", "reject", "confirm", "withdraw", NULL};

static int read_action(struct api_reader *reader, const struct json_value *value,
                       const struct api_field *field, void *target)
{
    struct item_target *item = target;
    int index = 0;

    (void)field;
    int rc = api_read_word(reader, value, ACTIONS, &index);
    if (rc == 0)
        item->action = (enum api_action)index;
    return rc;
}

static int read_wait(struct api_reader *reader, const struct json_value *value,
                     const struct api_field *field, void *target)
{
    static const char *const WORDS[] = {"durable", "applied", NULL};
    struct item_target *item = target;
    int index = 0;

    (void)field;
    int rc = api_read_word(reader, value, WORDS, &index);
    if (rc == 0)
        item->wait_applied = index == 1;
    return rc;
}

static int read_example(struct api_reader *reader, const struct json_value *value,
                        const struct api_field *field, void *target)
{
    struct item_target *item = target;
    struct api_text text = {NULL, 0};

    (void)field;
    int rc = api_take_text(reader, value, &text);
    if (rc < 0)
        return rc;
    if (api_id_parse(text.bytes, text.len, item->example) < 0)
        return api_refuse(reader, "invalid_id", "must be the 32 hex digits of an example");
    item->has_example = true;
    return 0;
}

static int read_weight(struct api_reader *reader, const struct json_value *value,
                       const struct api_field *field, void *target)
{
    struct item_target *item = target;
    enum json_kind kind = json_kind(value);

    (void)field;
    if (kind != JSON_KIND_INT && kind != JSON_KIND_REAL)
        return api_refuse(reader, "wrong_type", "must be a number");
    double weight = json_number(value, 0.0);
    if (!(weight > 0.0 && weight <= 100.0))
        return api_refuse(reader, "out_of_range", "must be above 0 and at most 100");
    item->weight = weight;
    return 0;
}

/* `wait` is last: an item of a batch has all rows but that one. */
static const struct api_field ITEM_FIELDS[] = {
    {"model", api_read_model, offsetof(struct item_target, model), 0, 0},
    {"request_id", api_read_request_id, offsetof(struct item_target, request_id), 0, 0},
    {"text", api_read_text, offsetof(struct item_target, text), 0, 0},
    {"text_pair", api_read_text, offsetof(struct item_target, pair), 0, 0},
    {"vector", api_read_vector, offsetof(struct item_target, vector), 0, 0},
    {"example", read_example, 0, 0, 0},
    {"action", read_action, 0, 0, 0},
    {"label", api_read_label, offsetof(struct item_target, label), 0, 0},
    {"labels", api_read_label_set, offsetof(struct item_target, labels), 0, 0},
    {"annotator", api_read_optional_name, offsetof(struct item_target, annotator), 0, 0},
    {"weight", read_weight, 0, 0, 0},
    {"source", api_read_optional_name, offsetof(struct item_target, source), 0, 0},
    {"idempotency_key", api_read_label, offsetof(struct item_target, idempotency_key), 0, 0},
    {"create_labels", api_read_bool, offsetof(struct item_target, create_labels), 0, 0},
    {"wait", read_wait, 0, 0, 0},
};

enum { ITEM_FIELDS_LEN = sizeof ITEM_FIELDS / sizeof ITEM_FIELDS[0] };

static const struct api_field BATCH_FIELDS[] = {
    {"items", api_read_keep, offsetof(struct item_target, items), 0, 0},
    {"model", api_read_model, offsetof(struct item_target, model), 0, 0},
    {"annotator", api_read_optional_name, offsetof(struct item_target, annotator), 0, 0},
    {"source", api_read_optional_name, offsetof(struct item_target, source), 0, 0},
    {"wait", read_wait, 0, 0, 0},
};

enum { BATCH_FIELDS_LEN = sizeof BATCH_FIELDS / sizeof BATCH_FIELDS[0] };

static const struct item_target ITEM_DEFAULTS = {
    .model = "default", .annotator = "", .source = "", .create_labels = true, .weight = 1.0};

/* The rules between fields. */
static int check_item(struct api_reader *reader, const struct item_target *item)
{
    int named = (item->request_id != NULL) + (item->text.bytes != NULL) +
                (item->vector.values != NULL) + item->has_example;
    bool labelled = item->label || item->labels.names;

    if (item->label && item->labels.names)
        return api_refuse_field(reader, "labels", "conflicting_fields",
                                "label and labels exclude each other");
    if (named > 1)
        return api_refuse_field(reader,
                                item->has_example     ? "example"
                                : item->vector.values ? "vector"
                                                      : "text",
                                "conflicting_fields",
                                "request_id, text, vector and example exclude each other");
    if (item->pair.bytes && !item->text.bytes)
        return api_refuse_field(reader, "text_pair", "conflicting_fields",
                                "text_pair needs text beside it");
    if (item->action == API_WITHDRAW) {
        if (labelled)
            return api_refuse_field(reader, item->label ? "label" : "labels", "conflicting_fields",
                                    "withdraw takes no label");
        if (!item->has_example)
            return api_refuse_field(reader, "example", "missing_field",
                                    "withdraw needs the example that an earlier feedback answered");
        return 0;
    }
    if (named == 0)
        return api_refuse_field(reader, "text", "missing_field",
                                "one of request_id, text, vector and example is required");
    if (item->action == API_REJECT && item->labels.names && item->labels.len == 0)
        return api_refuse_field(reader, "labels", "out_of_range", "rejecting needs a label");
    if (!labelled && (item->action == API_LABEL || item->text.bytes || item->vector.values))
        return api_refuse_field(reader, "label", "missing_field", "a label is required here");
    return 0;
}

static void write_pair(struct api_buffer *buffer, const char *key, const char *string)
{
    if (string) {
        json_write_key(buffer, key);
        json_write_string(buffer, string);
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A set has no order: by name. */
static void write_names(struct api_buffer *buffer, const struct api_names *names)
{
    const char **sorted = api_alloc((names->len + 1) * sizeof *sorted);

    if (!sorted) {
        buffer->rc = -ENOMEM;
        return;
    }
    memcpy(sorted, names->names, names->len * sizeof *sorted);
    qsort(sorted, names->len, sizeof *sorted, by_name);
    json_open_array(buffer);
    for (uint32_t i = 0; i < names->len; i++)
        json_write_string(buffer, sorted[i]);
    json_close_array(buffer);
    api_free(sorted);
}

static void write_canonical(struct api_buffer *buffer, const struct item_target *item)
{
    char id[API_ID_CHARS];

    json_open_object(buffer);
    write_pair(buffer, "model", item->model);
    write_pair(buffer, "action", ACTIONS[item->action]);
    write_pair(buffer, "request_id", item->request_id);
    if (item->text.bytes) {
        json_write_key(buffer, "text");
        json_write_text(buffer, item->text.bytes, item->text.len);
    }
    if (item->pair.bytes) {
        json_write_key(buffer, "text_pair");
        json_write_text(buffer, item->pair.bytes, item->pair.len);
    }
    if (item->vector.values) {
        json_write_key(buffer, "vector");
        json_open_array(buffer);
        for (uint32_t i = 0; i < item->vector.len; i++)
            json_write_float(buffer, item->vector.values[i]);
        json_close_array(buffer);
    }
    if (item->has_example) {
        api_id_format(item->example, id);
        write_pair(buffer, "example", id);
    }
    write_pair(buffer, "label", item->label);
    if (item->labels.names) {
        json_write_key(buffer, "labels");
        write_names(buffer, &item->labels);
    }
    write_pair(buffer, "annotator", item->annotator);
    json_write_key(buffer, "weight");
    json_write_number(buffer, item->weight);
    write_pair(buffer, "source", item->source);
    json_write_key(buffer, "create_labels");
    json_write_bool(buffer, item->create_labels);
    json_close_object(buffer);
}

static int fill_item(struct api_reader *reader, struct api_buffer *scratch,
                     const struct item_target *from, struct api_feedback_item *item)
{
    api_buffer_reset(scratch);
    write_canonical(scratch, from);
    char *canonical = scratch->rc < 0 ? NULL : api_take(reader, scratch->len);
    if (!canonical)
        return api_refuse_memory(reader->problem);
    memcpy(canonical, scratch->bytes, scratch->len);

    item->action = from->action;
    item->request_id = from->request_id;
    item->text = from->text.bytes;
    item->text_bytes = from->text.len;
    item->pair = from->pair.bytes;
    item->pair_bytes = from->pair.len;
    item->vector = from->vector.values;
    item->vector_len = from->vector.len;
    item->has_example = from->has_example;
    memcpy(item->example, from->example, sizeof item->example);
    item->label = from->label;
    item->labels = from->labels.names;
    item->labels_len = from->labels.len;
    item->annotator = from->annotator;
    item->source = from->source;
    item->weight = from->weight;
    item->create_labels = from->create_labels;
    item->idempotency_key = from->idempotency_key;
    item->canonical = canonical;
    item->canonical_bytes = scratch->len;
    return 0;
}

/* Reads one item over *defaults. The rc and the problem say how it went. */
static int read_item(struct api_reader *reader, struct api_buffer *scratch,
                     const struct json_value *value, size_t fields_len,
                     struct item_target *defaults, struct api_feedback_item *item)
{
    int rc = api_read_object(reader, value, ITEM_FIELDS, fields_len, defaults, NULL);

    item->model = defaults->model;
    if (rc == 0)
        rc = check_item(reader, defaults);
    return rc == 0 ? fill_item(reader, scratch, defaults, item) : rc;
}

static int read_items(struct api_reader *reader, struct api_buffer *scratch,
                      const struct item_target *defaults, struct api_feedback *feedback)
{
    struct api_problem *whole = reader->problem, problem;
    size_t len = json_len(defaults->items);

    if (json_kind(defaults->items) != JSON_KIND_ARRAY)
        return api_refuse_field(reader, "items", "wrong_type", "must be a list");
    if (len == 0)
        return api_refuse_field(reader, "items", "out_of_range", "must hold at least one item");
    if (len > API_ITEMS_MAX)
        return api_refuse_field(reader, "items", "too_many_items", "must hold at most %d items",
                                API_ITEMS_MAX);

    struct api_feedback_item *items = api_take(reader, len * sizeof *items);
    int rc = items ? 0 : -ENOMEM;
    for (size_t i = 0; rc == 0 && i < len; i++) {
        struct item_target target = *defaults;
        items[i].index = (uint32_t)i;
        reader->problem = &problem;
        rc = read_item(reader, scratch, json_at(defaults->items, i), ITEM_FIELDS_LEN - 1, &target,
                       &items[i]);
        reader->problem = whole;
        reader->path[0] = '\0';
        if (rc != -EINVAL)
            continue;
        struct api_problem *kept = api_take(reader, sizeof *kept);
        rc = kept ? 0 : -ENOMEM;
        if (kept)
            *kept = problem;
        items[i].problem = kept;
    }
    if (rc < 0)
        return api_refuse_memory(whole);
    feedback->items = items;
    feedback->items_len = (uint32_t)len;
    feedback->batch = true;
    feedback->wait_applied = defaults->wait_applied;
    return 0;
}

static int read_feedback(struct api_reader *reader, struct api_buffer *scratch, const char *body,
                         size_t body_bytes, bool batch_allowed)
{
    struct api_feedback *feedback = reader->request;
    struct item_target target = ITEM_DEFAULTS;
    const struct json_value *root;

    int rc = api_read_body(reader, body, body_bytes, &root);
    if (rc < 0)
        return rc;
    if (batch_allowed && json_member(root, "items")) {
        rc = api_read_object(reader, root, BATCH_FIELDS, BATCH_FIELDS_LEN, &target, NULL);
        return rc < 0 ? rc : read_items(reader, scratch, &target, feedback);
    }

    struct api_feedback_item *item = api_take(reader, sizeof *item);
    if (!item)
        return -ENOMEM;
    rc = read_item(reader, scratch, root, ITEM_FIELDS_LEN, &target, item);
    feedback->items = item;
    feedback->items_len = 1;
    feedback->wait_applied = target.wait_applied;
    return rc;
}

static int parse(const char *body, size_t body_bytes, bool batch_allowed,
                 struct api_feedback **ret_feedback, struct api_problem *problem)
{
    struct api_buffer scratch = API_BUFFER_INIT;
    struct api_reader reader;
    void *request = NULL;

    int rc = api_reader_open(&reader, problem, sizeof **ret_feedback, "too_many_items", "items");
    if (rc < 0)
        return rc;
    rc = read_feedback(&reader, &scratch, body, body_bytes, batch_allowed);
    api_buffer_done(&scratch);
    rc = api_reader_close(&reader, rc, &request);
    if (rc == 0)
        *ret_feedback = request;
    return rc;
}

int api_parse_feedback(const char *body, size_t body_bytes, struct api_feedback **ret_feedback,
                       struct api_problem *problem)
{
    return parse(body, body_bytes, true, ret_feedback, problem);
}

int api_parse_feedback_line(const char *line, size_t line_bytes, struct api_feedback **ret_feedback,
                            struct api_problem *problem)
{
    return parse(line, line_bytes, false, ret_feedback, problem);
}

void api_feedback_free(struct api_feedback *feedback)
{
    api_request_free(feedback);
}

int api_wait_parse(const char *text, size_t text_bytes, bool *ret_applied,
                   struct api_problem *problem)
{
    bool applied = text && text_bytes == 7 && memcmp(text, "applied", 7) == 0;

    if (text && !applied && (text_bytes != 7 || memcmp(text, "durable", 7) != 0))
        return api_problem_set(problem, 422, "invalid_value", "wait",
                               "must be one of: durable, applied");
    *ret_applied = applied;
    return 0;
}

/* ---- the answer ------------------------------------------------------------------------------ */

void api_feedback_begin(struct api_buffer *buffer)
{
    json_open_object(buffer);
    json_write_key(buffer, "accepted");
    json_open_array(buffer);
}

void api_feedback_accepted(struct api_buffer *buffer, const struct api_accepted *accepted)
{
    char id[API_ID_CHARS];

    api_id_format(accepted->example, id);
    json_open_object(buffer);
    write_pair(buffer, "example", id);
    json_write_key(buffer, "seq");
    json_write_int(buffer, accepted->seq);
    json_write_key(buffer, "duplicate");
    json_write_bool(buffer, accepted->duplicate);
    if (accepted->label_created) {
        json_write_key(buffer, "label_created");
        json_write_bool(buffer, true);
    }
    json_close_object(buffer);
}

void api_feedback_middle(struct api_buffer *buffer)
{
    json_close_array(buffer);
    json_write_key(buffer, "rejected");
    json_open_array(buffer);
}

void api_feedback_rejected(struct api_buffer *buffer, uint64_t index,
                           const struct api_problem *problem)
{
    json_open_object(buffer);
    json_write_key(buffer, "index");
    json_write_int(buffer, (int64_t)index);
    write_pair(buffer, "code", problem->code ? problem->code : "error");
    if (problem->field[0])
        write_pair(buffer, "field", problem->field);
    write_pair(buffer, "detail", problem->detail);
    json_close_object(buffer);
}

void api_feedback_end(struct api_buffer *buffer, const struct api_version *version,
                      const struct api_feedback_counts *counts)
{
    char text[API_VERSION_CHARS];

    json_close_array(buffer);
    if (version)
        api_version_format(*version, text);
    json_write_key(buffer, "version");
    json_write_string(buffer, version ? text : NULL);
    if (counts) {
        json_write_key(buffer, "accepted_count");
        json_write_int(buffer, (int64_t)counts->accepted);
        json_write_key(buffer, "rejected_count");
        json_write_int(buffer, (int64_t)counts->rejected);
        json_write_key(buffer, "truncated");
        json_write_bool(buffer, counts->truncated);
    }
    json_close_object(buffer);
}
