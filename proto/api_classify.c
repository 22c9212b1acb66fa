/* api_classify.c -- classify and embed: the table of fields in, the answer out.
 *
 * Scores and similarities leave as floats, which they are; times are rounded to the microsecond.
 */
#include "proto/api_classify.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "proto/api_read.h"

struct classify_target {
    const char *model;
    struct api_inputs inputs;
    uint32_t top_k, deadline_ms;
    double threshold;
    struct api_names labels;
    enum api_truncate truncate;
    bool explain, store;
    struct api_version version;
};

enum { CLASSIFY_THRESHOLD = 3, CLASSIFY_VERSION = 7 }; /* rows */

static const struct api_field CLASSIFY_FIELDS[] = {
    {"model", api_read_model, offsetof(struct classify_target, model), 0, 0},
    {"inputs", api_read_inputs, offsetof(struct classify_target, inputs), 0, 0},
    {"top_k", api_read_uint, offsetof(struct classify_target, top_k), 1, API_TOP_K_MAX},
    {"threshold", api_read_number, offsetof(struct classify_target, threshold), 0, 1},
    {"labels", api_read_labels, offsetof(struct classify_target, labels), 0, 0},
    {"truncate", api_read_truncate, offsetof(struct classify_target, truncate), 0, 0},
    {"explain", api_read_bool, offsetof(struct classify_target, explain), 0, 0},
    {"version", api_read_version, offsetof(struct classify_target, version), 0, 0},
    {"deadline_ms", api_read_uint, offsetof(struct classify_target, deadline_ms), 1, 600000},
    {"store", api_read_bool, offsetof(struct classify_target, store), 0, 0},
};

enum { CLASSIFY_FIELDS_LEN = sizeof CLASSIFY_FIELDS / sizeof CLASSIFY_FIELDS[0] };

static int read_classify(struct api_reader *reader, const char *body, size_t body_bytes)
{
    struct classify_target target = {.model = "default", .store = true};
    struct api_classify *ask = reader->request;
    const struct json_value *root;
    uint32_t seen;

    int rc = api_read_body(reader, body, body_bytes, &root);
    if (rc == 0)
        rc = api_read_object(reader, root, CLASSIFY_FIELDS, CLASSIFY_FIELDS_LEN, &target, &seen);
    if (rc < 0)
        return rc;
    if (!target.inputs.inputs)
        return api_refuse_field(reader, "inputs", "missing_field", "inputs is required");

    ask->model = target.model;
    ask->inputs = target.inputs.inputs;
    ask->inputs_len = target.inputs.len;
    ask->inputs_objects = target.inputs.objects;
    ask->inputs_alone = target.inputs.alone;
    ask->top_k = target.top_k;
    ask->has_threshold = seen >> CLASSIFY_THRESHOLD & 1;
    ask->threshold = target.threshold;
    ask->labels = target.labels.names;
    ask->labels_len = target.labels.len;
    ask->truncate = target.truncate;
    ask->explain = target.explain;
    ask->has_version = seen >> CLASSIFY_VERSION & 1;
    ask->version = target.version;
    ask->deadline_ms = target.deadline_ms;
    ask->store = target.store;
    return 0;
}

int api_parse_classify(const char *body, size_t body_bytes, struct api_classify **ret_classify,
                       struct api_problem *problem)
{
    struct api_reader reader;
    void *request = NULL;

    int rc = api_reader_open(&reader, problem, sizeof **ret_classify, "too_many_inputs", "inputs");
    if (rc < 0)
        return rc;
    rc = api_reader_close(&reader, read_classify(&reader, body, body_bytes), &request);
    if (rc == 0)
        *ret_classify = request;
    return rc;
}

void api_classify_free(struct api_classify *classify)
{
    api_request_free(classify);
}

void api_classify_field(const struct api_classify *classify, uint32_t index, char ret_field[96])
{
    struct api_inputs inputs = {classify->inputs, classify->inputs_len, classify->inputs_objects,
                                classify->inputs_alone};

    api_inputs_field(&inputs, index, ret_field);
}

static void begin(struct api_buffer *buffer, const char *model, struct api_version version,
                  const char *list)
{
    char text[API_VERSION_CHARS];

    api_version_format(version, text);
    json_open_object(buffer);
    json_write_key(buffer, "model");
    json_write_string(buffer, model);
    json_write_key(buffer, "version");
    json_write_string(buffer, text);
    json_write_key(buffer, list);
    json_open_array(buffer);
}

void api_classify_begin(struct api_buffer *buffer, const char *model, struct api_version version)
{
    begin(buffer, model, version, "results");
}

static void write_because(struct api_buffer *buffer, const struct api_result *result)
{
    char id[API_ID_CHARS];

    json_write_key(buffer, "because");
    json_open_array(buffer);
    for (uint32_t i = 0; i < result->because_len; i++) {
        const struct api_because *near = &result->because[i];
        api_id_format(near->example, id);
        json_open_object(buffer);
        json_write_key(buffer, "example");
        json_write_string(buffer, id);
        json_write_key(buffer, "text");
        json_write_text(buffer, near->text, near->text_bytes);
        json_write_key(buffer, "label");
        json_write_string(buffer, near->label);
        json_write_key(buffer, "similarity");
        json_write_float(buffer, (float)near->similarity);
        json_close_object(buffer);
    }
    json_close_array(buffer);
}

static void write_votes(struct api_buffer *buffer, const float *votes)
{
    static const char *const NAMES[API_VOTES] = {"ridge", "lda", "count", "prototype", "nearest"};

    json_write_key(buffer, "votes");
    json_open_object(buffer);
    for (int i = 0; i < API_VOTES; i++) {
        json_write_key(buffer, NAMES[i]);
        json_write_float(buffer, votes[i]);
    }
    json_close_object(buffer);
}

void api_classify_result(struct api_buffer *buffer, const struct api_result *result)
{
    json_open_object(buffer);
    json_write_key(buffer, "id");
    json_write_string(buffer, result->id);
    json_write_key(buffer, "request_id");
    json_write_string(buffer, result->request_id);
    json_write_key(buffer, "label");
    json_write_string(buffer, result->label);
    json_write_key(buffer, "score");
    json_write_float(buffer, (float)result->score);
    json_write_key(buffer, "abstain");
    json_write_bool(buffer, result->abstain);
    json_write_key(buffer, "novelty");
    json_write_float(buffer, (float)result->novelty);
    json_write_key(buffer, "novel");
    json_write_bool(buffer, result->novel);
    if (result->payload) {
        json_write_key(buffer, "payload");
        json_write_raw(buffer, result->payload, strlen(result->payload));
    }
    json_write_key(buffer, "labels");
    json_open_array(buffer);
    for (uint32_t i = 0; i < result->labels_len; i++) {
        json_open_object(buffer);
        json_write_key(buffer, "label");
        json_write_string(buffer, result->labels[i].label);
        json_write_key(buffer, "score");
        json_write_float(buffer, (float)result->labels[i].score);
        if (result->labels[i].threshold > 0) {
            json_write_key(buffer, "threshold");
            json_write_float(buffer, (float)result->labels[i].threshold);
        }
        if (result->votes)
            write_votes(buffer, result->votes + (size_t)i * API_VOTES);
        json_close_object(buffer);
    }
    json_close_array(buffer);
    json_write_key(buffer, "tokens");
    json_write_int(buffer, result->tokens);
    json_write_key(buffer, "truncated");
    json_write_bool(buffer, result->truncated);
    if (result->explained)
        write_because(buffer, result);
    json_close_object(buffer);
}

static void write_ms(struct api_buffer *buffer, const char *name, double ms)
{
    json_write_key(buffer, name);
    json_write_number(buffer, round(ms * 1000.0) / 1000.0);
}

void api_classify_end(struct api_buffer *buffer, const struct api_timing *timing)
{
    json_close_array(buffer);
    json_write_key(buffer, "timing_ms");
    json_open_object(buffer);
    write_ms(buffer, "queue", timing->queue_ms);
    write_ms(buffer, "tokenize", timing->tokenize_ms);
    write_ms(buffer, "encode", timing->encode_ms);
    write_ms(buffer, "head", timing->head_ms);
    write_ms(buffer, "total", timing->total_ms);
    json_close_object(buffer);
    json_close_object(buffer);
}

/* ---- embed ----------------------------------------------------------------------------------- */

static const struct api_field EMBED_FIELDS[] = {
    {"model", api_read_model, offsetof(struct classify_target, model), 0, 0},
    {"inputs", api_read_inputs, offsetof(struct classify_target, inputs), 0, 0},
    {"truncate", api_read_truncate, offsetof(struct classify_target, truncate), 0, 0},
};

static int read_embed(struct api_reader *reader, const char *body, size_t body_bytes)
{
    struct classify_target target = {.model = "default"};
    struct api_embed *ask = reader->request;
    const struct json_value *root;

    int rc = api_read_body(reader, body, body_bytes, &root);
    if (rc == 0)
        rc = api_read_object(reader, root, EMBED_FIELDS, 3, &target, NULL);
    if (rc < 0)
        return rc;
    if (!target.inputs.inputs)
        return api_refuse_field(reader, "inputs", "missing_field", "inputs is required");

    *ask = (struct api_embed){
        .model = target.model,
        .inputs = target.inputs.inputs,
        .inputs_len = target.inputs.len,
        .inputs_objects = target.inputs.objects,
        .inputs_alone = target.inputs.alone,
        .truncate = target.truncate,
    };
    return 0;
}

int api_parse_embed(const char *body, size_t body_bytes, struct api_embed **ret_embed,
                    struct api_problem *problem)
{
    struct api_reader reader;
    void *request = NULL;

    int rc = api_reader_open(&reader, problem, sizeof **ret_embed, "too_many_inputs", "inputs");
    if (rc < 0)
        return rc;
    rc = api_reader_close(&reader, read_embed(&reader, body, body_bytes), &request);
    if (rc == 0)
        *ret_embed = request;
    return rc;
}

void api_embed_free(struct api_embed *embed)
{
    api_request_free(embed);
}

void api_embed_field(const struct api_embed *embed, uint32_t index, char ret_field[96])
{
    struct api_inputs inputs = {embed->inputs, embed->inputs_len, embed->inputs_objects,
                                embed->inputs_alone};

    api_inputs_field(&inputs, index, ret_field);
}

void api_embed_begin(struct api_buffer *buffer, const char *model, struct api_version version)
{
    begin(buffer, model, version, "embeddings");
}

void api_embed_vector(struct api_buffer *buffer, const float *vector, uint32_t dim)
{
    api_buffer_reserve(buffer, (size_t)dim * 13 + 3);
    json_open_array(buffer);
    for (uint32_t i = 0; i < dim; i++)
        json_write_float(buffer, vector[i]);
    json_close_array(buffer);
}

void api_embed_end(struct api_buffer *buffer, const uint32_t *tokens, uint32_t tokens_len)
{
    json_close_array(buffer);
    json_write_key(buffer, "tokens");
    json_open_array(buffer);
    for (uint32_t i = 0; i < tokens_len; i++)
        json_write_int(buffer, tokens[i]);
    json_close_array(buffer);
    json_close_object(buffer);
}
