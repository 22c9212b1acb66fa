/* api_manage.c -- models and their settings, examples, versions, and what the daemon says
 * about itself.
 *
 * Settings have one table for all three ways they come in: when a model is created, when it is
 * patched, and from the text that the store kept.
 */
#include "proto/api_manage.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "proto/api_read.h"

/* ---- settings -------------------------------------------------------------------------------- */

static const double SEED_MAX =
    9007199254740991.0; /* 2^53 - 1: what every JSON reader keeps exactly */

static const struct api_field SETTINGS_FIELDS[] = {
    {"features", api_read_uint, offsetof(struct api_settings, features), 64, 8192},
    {"seed", api_read_uint64, offsetof(struct api_settings, seed), 0, SEED_MAX},
    {"ridge_lambda", api_read_number, offsetof(struct api_settings, ridge_lambda), 1e-6, 1e3},
    {"score_min", api_read_number, offsetof(struct api_settings, score_min), 0, 1},
    {"rejection_budget", api_read_number, offsetof(struct api_settings, rejection_budget), 0, 0.5},
    {"annotator_rate_max", api_read_uint, offsetof(struct api_settings, annotator_rate_max), 0,
     1e6},
    {"annotator_influence_max", api_read_number,
     offsetof(struct api_settings, annotator_influence_max), 0, 1},
    {"dim", api_read_uint, offsetof(struct api_settings, dim), API_DIM_MIN, API_DIM_MAX},
};

/* `dim` is last: only what the store kept has it here. */
enum { SETTINGS_FIELDS_LEN = sizeof SETTINGS_FIELDS / sizeof SETTINGS_FIELDS[0] };

void api_settings_default(struct api_settings *ret_settings)
{
    *ret_settings = (struct api_settings){
        .features = 1024,
        .seed = 1,
        .ridge_lambda = 0.15,
        .score_min = 0.0,
        .rejection_budget = 0.05,
        .annotator_influence_max = 1,
    };
}

static int read_settings(struct api_reader *reader, const struct json_value *value,
                         const struct api_field *field, void *target)
{
    return api_read_object(reader, value, SETTINGS_FIELDS, SETTINGS_FIELDS_LEN - 1,
                           (char *)target + field->offset, NULL);
}

int api_settings_parse(const char *text, size_t text_bytes, struct api_settings *ret_settings)
{
    struct api_settings settings;
    struct api_problem problem;
    struct api_reader reader;
    const struct json_value *root;
    void *request = NULL;

    api_settings_default(&settings);
    int rc = api_reader_open(&reader, &problem, 1, NULL, NULL);
    if (rc < 0)
        return rc;
    rc = api_read_body(&reader, text, text_bytes, &root);
    if (rc == 0)
        rc = api_read_object(&reader, root, SETTINGS_FIELDS, SETTINGS_FIELDS_LEN, &settings, NULL);
    rc = api_reader_close(&reader, rc, &request);
    if (rc == 0)
        *ret_settings = settings;
    api_request_free(request);
    return rc;
}

static void write_settings(struct api_buffer *buffer, const struct api_settings *settings)
{
    json_write_key(buffer, "features");
    json_write_int(buffer, settings->features);
    json_write_key(buffer, "seed");
    json_write_int(buffer, (int64_t)settings->seed);
    json_write_key(buffer, "ridge_lambda");
    json_write_number(buffer, settings->ridge_lambda);
    json_write_key(buffer, "score_min");
    json_write_number(buffer, settings->score_min);
    json_write_key(buffer, "rejection_budget");
    json_write_number(buffer, settings->rejection_budget);
    json_write_key(buffer, "annotator_rate_max");
    json_write_int(buffer, settings->annotator_rate_max);
    json_write_key(buffer, "annotator_influence_max");
    json_write_number(buffer, settings->annotator_influence_max);
}

void api_write_settings(struct api_buffer *buffer, const struct api_settings *settings)
{
    json_open_object(buffer);
    write_settings(buffer, settings);
    if (settings->dim > 0) {
        json_write_key(buffer, "dim");
        json_write_int(buffer, settings->dim);
    }
    json_close_object(buffer);
}

/* ---- models ---------------------------------------------------------------------------------- */

static int read_model_name(struct api_reader *reader, const struct json_value *value,
                           const struct api_field *field, void *target)
{
    struct api_model_create *create = target;
    struct api_text text = {NULL, 0};

    (void)field;
    int rc = api_take_text(reader, value, &text);
    if (rc < 0)
        return rc;
    if (!api_model_name_valid(text.bytes, text.len))
        return api_refuse(reader, "invalid_name",
                          "must be 1 to %d of A-Z a-z 0-9 . _ - and begin with a letter or digit",
                          API_NAME_BYTES_MAX);
    create->name = text.bytes;
    return 0;
}

static int read_kind(struct api_reader *reader, const struct json_value *value,
                     const struct api_field *field, void *target)
{
    static const char *const KINDS[] = {"single", "multi", "tokens", NULL};
    struct api_model_create *create = target;
    int index = 0;

    (void)field;
    int rc = api_read_word(reader, value, KINDS, &index);
    if (rc == 0 && index > 1)
        return api_refuse(reader, "kind_unsupported", "kind tokens is not built yet");
    if (rc == 0)
        create->kind = KINDS[index];
    return rc;
}

static int read_encoder(struct api_reader *reader, const struct json_value *value,
                        const struct api_field *field, void *target)
{
    static const char *const ENCODERS[] = {"default", "none", NULL};
    struct api_model_create *create = target;
    int index = 0;

    (void)field;
    int rc = api_read_word(reader, value, ENCODERS, &index);
    if (rc == 0)
        create->vectors = index == 1;
    return rc;
}

static const struct api_field CREATE_FIELDS[] = {
    {"name", read_model_name, 0, 0, 0},
    {"kind", read_kind, 0, 0, 0},
    {"encoder", read_encoder, 0, 0, 0},
    {"settings", read_settings, offsetof(struct api_model_create, settings), 0, 0},
    {"dim", api_read_uint, offsetof(struct api_model_create, settings.dim), API_DIM_MIN,
     API_DIM_MAX},
    {"from", api_read_model, offsetof(struct api_model_create, from), 0, 0},
};

static int read_create(struct api_reader *reader, const char *body, size_t body_bytes)
{
    struct api_model_create *create = reader->request;
    const struct json_value *root;

    create->kind = "single";
    api_settings_default(&create->settings);
    int rc = api_read_body(reader, body, body_bytes, &root);
    if (rc == 0)
        rc = api_read_object(reader, root, CREATE_FIELDS, 6, create, NULL);
    if (rc == 0 && !create->name)
        rc = api_refuse_field(reader, "name", "missing_field", "name is required");
    if (rc == 0 && create->vectors && create->settings.dim == 0)
        rc = api_refuse_field(reader, "dim", "missing_field", "encoder none needs dim");
    if (rc == 0 && !create->vectors && create->settings.dim > 0)
        rc = api_refuse_field(reader, "dim", "conflicting_fields",
                              "dim is for encoder none; an encoder has its own");
    if (rc == 0 && create->vectors && create->from)
        rc = api_refuse_field(reader, "from", "conflicting_fields",
                              "a model of encoder none begins with no other's");
    if (rc == 0 && create->vectors && strcmp(create->kind, "single") != 0)
        rc = api_refuse_field(reader, "kind", "kind_unsupported",
                              "a model of encoder none can only be of kind single");
    return rc;
}

int api_parse_model_create(const char *body, size_t body_bytes,
                           struct api_model_create **ret_create, struct api_problem *problem)
{
    struct api_reader reader;
    void *request = NULL;

    int rc = api_reader_open(&reader, problem, sizeof **ret_create, NULL, NULL);
    if (rc < 0)
        return rc;
    rc = api_reader_close(&reader, read_create(&reader, body, body_bytes), &request);
    if (rc == 0)
        *ret_create = request;
    return rc;
}

void api_model_create_free(struct api_model_create *create)
{
    api_request_free(create);
}

static const struct api_field PATCH_FIELDS[] = {{"settings", read_settings, 0, 0, 0}};

static int read_patch(struct api_reader *reader, const char *body, size_t body_bytes,
                      const struct api_settings *old)
{
    struct api_settings *now = reader->request;
    const struct json_value *root;
    const char *fixed = NULL;
    uint32_t seen;

    *now = *old;
    int rc = api_read_body(reader, body, body_bytes, &root);
    if (rc == 0)
        rc = api_read_object(reader, root, PATCH_FIELDS, 1, now, &seen);
    if (rc < 0)
        return rc;
    if (!seen)
        return api_refuse_field(reader, "settings", "missing_field", "settings is required");
    if (now->features != old->features)
        fixed = "settings.features";
    else if (now->seed != old->seed)
        fixed = "settings.seed";
    else if (now->ridge_lambda != old->ridge_lambda)
        fixed = "settings.ridge_lambda";
    if (fixed)
        return api_refuse_field(reader, fixed, "immutable_field",
                                "is fixed when the model is created");
    return 0;
}

int api_parse_model_patch(const char *body, size_t body_bytes, struct api_settings *settings,
                          struct api_problem *problem)
{
    struct api_reader reader;
    void *request = NULL;

    int rc = api_reader_open(&reader, problem, sizeof *settings, NULL, NULL);
    if (rc < 0)
        return rc;
    rc = api_reader_close(&reader, read_patch(&reader, body, body_bytes, settings), &request);
    if (rc == 0)
        memcpy(settings, request, sizeof *settings);
    api_request_free(request);
    return rc;
}

/* ---- writing --------------------------------------------------------------------------------- */

static void write_pair(struct api_buffer *buffer, const char *key, const char *string)
{
    json_write_key(buffer, key);
    json_write_string(buffer, string);
}

/* Empty stands for none. */
static void write_optional(struct api_buffer *buffer, const char *key, const char *string)
{
    write_pair(buffer, key, string && string[0] ? string : NULL);
}

static void write_count(struct api_buffer *buffer, const char *key, int64_t count)
{
    json_write_key(buffer, key);
    json_write_int(buffer, count);
}

static void write_time(struct api_buffer *buffer, const char *key, int64_t unix_us)
{
    char text[API_TIME_CHARS];

    api_time_format(unix_us, text);
    write_pair(buffer, key, text);
}

static void write_version(struct api_buffer *buffer, struct api_version version)
{
    char text[API_VERSION_CHARS];

    api_version_format(version, text);
    write_pair(buffer, "version", text);
}

void api_write_model(struct api_buffer *buffer, const struct api_model *model)
{
    json_open_object(buffer);
    write_pair(buffer, "name", model->name);
    write_pair(buffer, "kind", model->kind);
    write_pair(buffer, "encoder", model->settings.dim > 0 ? "none" : "default");
    if (model->settings.dim > 0)
        write_count(buffer, "dim", model->settings.dim);
    write_version(buffer, model->version);
    json_write_key(buffer, "settled");
    json_write_bool(buffer, model->settled);
    write_count(buffer, "examples", model->examples);
    write_count(buffer, "labels", model->labels);
    json_write_key(buffer, "settings");
    json_open_object(buffer);
    write_settings(buffer, &model->settings);
    json_close_object(buffer);
    write_time(buffer, "created", model->created_us);
    json_close_object(buffer);
}

/* IEEE fp16; what is stored is finite. */
static float half_to_float(uint16_t half)
{
    int exponent = half >> 10 & 31;
    float size = exponent > 0 ? ldexpf((float)(1024 + (half & 1023)), exponent - 25)
                              : ldexpf((float)(half & 1023), -24);

    return half >> 15 ? -size : size;
}

static void write_target(struct api_buffer *buffer, const struct api_example *example)
{
    const struct api_scored *best = NULL;

    for (uint32_t i = 0; i < example->labels_len; i++) {
        if (!best || example->labels[i].score > best->score)
            best = &example->labels[i];
    }
    write_pair(buffer, "label", best ? best->label : NULL);
    json_write_key(buffer, "labels");
    json_open_array(buffer);
    for (uint32_t i = 0; i < example->labels_len; i++) {
        json_open_object(buffer);
        write_pair(buffer, "label", example->labels[i].label);
        json_write_key(buffer, "share");
        json_write_number(buffer, example->labels[i].score);
        json_close_object(buffer);
    }
    json_close_array(buffer);
}

static void write_vector(struct api_buffer *buffer, const struct api_example *example)
{
    json_write_key(buffer, "vector");
    if (!example->vector) {
        json_write_bool(buffer, true);
        return;
    }
    json_open_array(buffer);
    for (uint32_t i = 0; i < example->vector_len; i++)
        json_write_float(buffer, half_to_float(example->vector[i]));
    json_close_array(buffer);
}

void api_write_example(struct api_buffer *buffer, const struct api_example *example)
{
    char id[API_ID_CHARS];

    api_id_format(example->example, id);
    json_open_object(buffer);
    write_pair(buffer, "example", id);
    write_pair(buffer, "model", example->model);
    json_write_key(buffer, "text");
    json_write_text(buffer, example->text, example->text_bytes);
    if (!example->text)
        write_vector(buffer, example);
    if (example->pair) {
        json_write_key(buffer, "text_pair");
        json_write_text(buffer, example->pair, example->pair_bytes);
    }
    write_target(buffer, example);
    write_count(buffer, "annotators", example->annotators);
    json_write_key(buffer, "weight");
    json_write_number(buffer, example->weight);
    write_pair(buffer, "status", example->status);
    write_count(buffer, "first_seq", example->first_seq);
    write_count(buffer, "last_seq", example->last_seq);
    write_time(buffer, "created", example->created_us);
    json_close_object(buffer);
}

void api_write_version(struct api_buffer *buffer, const struct api_version_row *version)
{
    char id[API_ID_CHARS];

    json_open_object(buffer);
    write_version(buffer, version->version);
    write_count(buffer, "encoder", version->version.encoder);
    write_count(buffer, "seq", version->version.seq);
    write_pair(buffer, "state", version->state);
    write_optional(buffer, "op", version->op);
    if (version->example)
        api_id_format(version->example, id);
    write_pair(buffer, "example", version->example ? id : NULL);
    write_optional(buffer, "label", version->label);
    write_optional(buffer, "annotator", version->annotator);
    json_write_key(buffer, "run");
    if (version->run >= 0)
        json_write_int(buffer, version->run);
    else
        json_write_null(buffer);
    write_optional(buffer, "reason", version->reason);
    write_time(buffer, "created", version->created_us);
    json_close_object(buffer);
}

static void write_limits(struct api_buffer *buffer, const struct api_info *info)
{
    json_write_key(buffer, "limits");
    json_open_object(buffer);
    write_count(buffer, "inputs", API_INPUTS_MAX);
    write_count(buffer, "items", API_ITEMS_MAX);
    write_count(buffer, "body_bytes", (int64_t)info->body_bytes_max);
    write_count(buffer, "feedback_bytes", (int64_t)info->feedback_bytes_max);
    write_count(buffer, "list_rows", API_LIMIT_MAX);
    write_count(buffer, "name_bytes", API_NAME_BYTES_MAX);
    json_close_object(buffer);
}

static void write_device(struct api_buffer *buffer, const struct api_info *info)
{
    json_write_key(buffer, "device_state");
    json_open_object(buffer);
    json_write_key(buffer, "degraded");
    json_write_bool(buffer, info->device_degraded);
    write_optional(buffer, "why", info->device_why);
    write_count(buffer, "memory_used_bytes", (int64_t)info->device_bytes_used);
    write_count(buffer, "memory_total_bytes", (int64_t)info->device_bytes_total);
    json_close_object(buffer);
}

void api_write_info(struct api_buffer *buffer, const struct api_info *info)
{
    json_open_object(buffer);
    write_pair(buffer, "name", "learnd");
    write_pair(buffer, "version", info->version);
    json_write_key(buffer, "encoder");
    json_open_object(buffer);
    write_pair(buffer, "name", info->encoder);
    write_count(buffer, "number", info->encoder_number);
    write_optional(buffer, "sha256", info->encoder_sha256);
    write_count(buffer, "dim", info->dim);
    write_count(buffer, "layers", info->layers);
    write_count(buffer, "parameters", (int64_t)info->parameters);
    write_count(buffer, "tokens_max", info->tokens_max);
    json_close_object(buffer);
    write_pair(buffer, "backend", info->backend);
    write_pair(buffer, "device", info->device);
    write_device(buffer, info);
    write_pair(buffer, "precision", info->precision);
    write_count(buffer, "lanes", info->lanes);
    write_count(buffer, "loops", info->loops);
    write_count(buffer, "models", info->models);
    write_count(buffer, "seq", info->seq);
    write_limits(buffer, info);
    write_time(buffer, "started", info->started_us);
    json_close_object(buffer);
}

void api_write_request(struct api_buffer *buffer, const struct api_request *request)
{
    json_open_object(buffer);
    write_pair(buffer, "request_id", request->request_id);
    write_pair(buffer, "model", request->model);
    write_version(buffer, request->version);
    write_optional(buffer, "label", request->label);
    json_write_key(buffer, "score");
    json_write_float(buffer, (float)request->score);
    write_time(buffer, "created", request->created_us);
    json_write_key(buffer, "text_held");
    json_write_bool(buffer, request->text_held);
    json_close_object(buffer);
}

void api_health_begin(struct api_buffer *buffer, const char *status)
{
    json_open_object(buffer);
    write_pair(buffer, "status", status);
    json_write_key(buffer, "checks");
    json_open_array(buffer);
}

void api_health_check(struct api_buffer *buffer, const char *name, bool ok, const char *detail)
{
    json_open_object(buffer);
    write_pair(buffer, "name", name);
    json_write_key(buffer, "ok");
    json_write_bool(buffer, ok);
    write_optional(buffer, "detail", detail);
    json_close_object(buffer);
}

void api_health_end(struct api_buffer *buffer)
{
    json_close_array(buffer);
    json_close_object(buffer);
}
