/* api_labels.c -- see api_labels.h. */
#include "proto/api_labels.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "proto/api_read.h"

/* One object through its table: what the four bodies have in common. */
static int parse(const char *body, size_t body_bytes, const struct api_field *fields,
                 size_t fields_len, size_t request_bytes,
                 int (*check)(struct api_reader *reader, uint32_t seen), void **ret_request,
                 struct api_problem *problem)
{
    const struct json_value *root;
    struct api_reader reader;
    uint32_t seen;

    int rc = api_reader_open(&reader, problem, request_bytes, NULL, NULL);
    if (rc < 0)
        return rc;
    rc = api_read_body(&reader, body, body_bytes, &root);
    if (rc == 0)
        rc = api_read_object(&reader, root, fields, fields_len, reader.request, &seen);
    if (rc == 0)
        rc = check(&reader, seen);
    return api_reader_close(&reader, rc, ret_request);
}

/* ---- add ---- */

static const struct api_field ADD_FIELDS[] = {
    {"label", api_read_label, offsetof(struct api_label_add, label), 0, 0}};

static int check_add(struct api_reader *reader, uint32_t seen)
{
    return seen ? 0 : api_refuse_field(reader, "label", "missing_field", "label is required");
}

int api_parse_label_add(const char *body, size_t body_bytes, struct api_label_add **ret_add,
                        struct api_problem *problem)
{
    void *request = NULL;

    int rc = parse(body, body_bytes, ADD_FIELDS, 1, sizeof **ret_add, check_add, &request, problem);
    if (rc == 0)
        *ret_add = request;
    return rc;
}

void api_label_add_free(struct api_label_add *add)
{
    api_request_free(add);
}

/* ---- patch ---- */

static int read_status(struct api_reader *reader, const struct json_value *value,
                       const struct api_field *field, void *target)
{
    static const char *const WORDS[] = {"active", "retired", NULL};
    struct api_label_patch *patch = target;
    int index = 0;

    (void)field;
    int rc = api_read_word(reader, value, WORDS, &index);
    if (rc == 0)
        patch->active = index == 0;
    return rc;
}

static int read_score_min(struct api_reader *reader, const struct json_value *value,
                          const struct api_field *field, void *target)
{
    struct api_label_patch *patch = target;

    patch->score_min = -1;
    return json_kind(value) == JSON_KIND_NULL ? 0 : api_read_number(reader, value, field, target);
}

static int read_payload(struct api_reader *reader, const struct json_value *value,
                        const struct api_field *field, void *target)
{
    struct api_label_patch *patch = target;
    struct api_buffer text = API_BUFFER_INIT;
    int rc = 0;

    (void)field;
    if (json_kind(value) == JSON_KIND_NULL)
        return 0;
    json_write_value(&text, value);
    if (text.rc < 0) {
        rc = api_refuse_memory(reader->problem);
    } else if (text.len > API_PAYLOAD_BYTES_MAX) {
        rc = api_refuse(reader, "out_of_range", "must take at most %d bytes as compact JSON",
                        API_PAYLOAD_BYTES_MAX);
    } else {
        char *kept = api_take(reader, text.len + 1);
        rc = kept ? 0 : -ENOMEM;
        if (kept)
            memcpy(kept, text.bytes, text.len);
        patch->payload = kept;
    }
    api_buffer_done(&text);
    return rc;
}

enum { PATCH_STATUS = 1, PATCH_SCORE_MIN, PATCH_PAYLOAD }; /* rows */

static const struct api_field PATCH_FIELDS[] = {
    {"label", api_read_label, offsetof(struct api_label_patch, label), 0, 0},
    {"status", read_status, 0, 0, 0},
    {"score_min", read_score_min, offsetof(struct api_label_patch, score_min), 0, 1},
    {"payload", read_payload, 0, 0, 0},
};

static int check_patch(struct api_reader *reader, uint32_t seen)
{
    struct api_label_patch *patch = reader->request;

    if (!seen)
        return api_refuse(reader, "missing_field",
                          "one of label, status, score_min and payload is required");
    patch->has_status = seen >> PATCH_STATUS & 1;
    patch->has_score_min = seen >> PATCH_SCORE_MIN & 1;
    patch->has_payload = seen >> PATCH_PAYLOAD & 1;
    return 0;
}

int api_parse_label_patch(const char *body, size_t body_bytes, struct api_label_patch **ret_patch,
                          struct api_problem *problem)
{
    void *request = NULL;

    int rc = parse(body, body_bytes, PATCH_FIELDS, 4, sizeof **ret_patch, check_patch, &request,
                   problem);
    if (rc == 0)
        *ret_patch = request;
    return rc;
}

void api_label_patch_free(struct api_label_patch *patch)
{
    api_request_free(patch);
}

/* ---- merge ---- */

static const struct api_field MERGE_FIELDS[] = {
    {"into", api_read_label, offsetof(struct api_label_merge, into), 0, 0}};

static int check_merge(struct api_reader *reader, uint32_t seen)
{
    return seen ? 0 : api_refuse_field(reader, "into", "missing_field", "into is required");
}

int api_parse_label_merge(const char *body, size_t body_bytes, struct api_label_merge **ret_merge,
                          struct api_problem *problem)
{
    void *request = NULL;

    int rc = parse(body, body_bytes, MERGE_FIELDS, 1, sizeof **ret_merge, check_merge, &request,
                   problem);
    if (rc == 0)
        *ret_merge = request;
    return rc;
}

void api_label_merge_free(struct api_label_merge *merge)
{
    api_request_free(merge);
}

/* ---- split ---- */

static int compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, API_ID_BYTES);
}

static int check_distinct(struct api_reader *reader, const uint8_t (*ids)[API_ID_BYTES], size_t len)
{
    uint8_t(*sorted)[API_ID_BYTES] = api_take(reader, len * sizeof *sorted);

    if (!sorted)
        return -ENOMEM;
    memcpy(sorted, ids, len * sizeof *sorted);
    qsort(sorted, len, sizeof *sorted, compare_ids);
    for (size_t i = 1; i < len; i++) {
        if (compare_ids(sorted[i - 1], sorted[i]) == 0)
            return api_refuse(reader, "invalid_value", "an example is written twice");
    }
    return 0;
}

static int read_examples(struct api_reader *reader, const struct json_value *value,
                         const struct api_field *field, void *target)
{
    struct api_label_split *split = target;
    size_t len = json_len(value);

    (void)field;
    if (json_kind(value) != JSON_KIND_ARRAY)
        return api_refuse(reader, "wrong_type", "must be a list of examples");
    if (len == 0)
        return api_refuse(reader, "out_of_range", "must hold at least one example");
    if (len > API_ITEMS_MAX)
        return api_refuse(reader, "too_many_items", "must hold at most %d examples", API_ITEMS_MAX);

    uint8_t(*ids)[API_ID_BYTES] = api_take(reader, len * sizeof *ids);
    if (!ids)
        return -ENOMEM;
    for (size_t i = 0; i < len; i++) {
        size_t back = api_path_index(reader, i);
        struct api_text text = {NULL, 0};
        int rc = api_take_text(reader, json_at(value, i), &text);
        if (rc == 0 && api_id_parse(text.bytes, text.len, ids[i]) < 0)
            rc = api_refuse(reader, "invalid_id", "an example's id has 32 hex digits");
        if (rc < 0)
            return rc;
        api_path_back(reader, back);
    }
    split->examples = (const uint8_t(*)[API_ID_BYTES])ids;
    split->examples_len = (uint32_t)len;
    return check_distinct(reader, split->examples, len);
}

static const struct api_field SPLIT_FIELDS[] = {
    {"label", api_read_label, offsetof(struct api_label_split, label), 0, 0},
    {"examples", read_examples, 0, 0, 0},
};

static int check_split(struct api_reader *reader, uint32_t seen)
{
    if (!(seen & 1))
        return api_refuse_field(reader, "label", "missing_field", "label is required");
    return seen & 2 ? 0
                    : api_refuse_field(reader, "examples", "missing_field", "examples is required");
}

int api_parse_label_split(const char *body, size_t body_bytes, struct api_label_split **ret_split,
                          struct api_problem *problem)
{
    void *request = NULL;

    int rc = parse(body, body_bytes, SPLIT_FIELDS, 2, sizeof **ret_split, check_split, &request,
                   problem);
    if (rc == 0)
        *ret_split = request;
    return rc;
}

void api_label_split_free(struct api_label_split *split)
{
    api_request_free(split);
}

/* ---- writing ---- */

void api_label_begin(struct api_buffer *buffer, const struct api_label_row *label)
{
    char created[API_TIME_CHARS];

    api_time_format(label->created_us, created);
    json_open_object(buffer);
    json_write_key(buffer, "label");
    json_write_string(buffer, label->label);
    json_write_key(buffer, "examples");
    json_write_int(buffer, label->examples);
    json_write_key(buffer, "status");
    json_write_string(buffer, label->status);
    json_write_key(buffer, "into");
    json_write_string(buffer, label->into);
    json_write_key(buffer, "score_min");
    if (label->has_score_min)
        json_write_number(buffer, label->score_min);
    else
        json_write_null(buffer);
    json_write_key(buffer, "payload");
    if (label->payload)
        json_write_raw(buffer, label->payload, strlen(label->payload));
    else
        json_write_null(buffer);
    json_write_key(buffer, "created");
    json_write_string(buffer, created);
    json_write_key(buffer, "aliases");
    json_open_array(buffer);
}

void api_label_alias(struct api_buffer *buffer, const char *name)
{
    json_write_string(buffer, name);
}

void api_label_end(struct api_buffer *buffer)
{
    json_close_array(buffer);
    json_close_object(buffer);
}

void api_write_label(struct api_buffer *buffer, const struct api_label_row *label)
{
    api_label_begin(buffer, label);
    api_label_end(buffer);
}
