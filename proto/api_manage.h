/* api_manage.h -- models, settings, examples, versions, and what the daemon says about
 * itself. See api.h.
 *
 * Each api_write_X writes one object; inside a list (api_list_begin) the same call writes one row.
 */
#ifndef LEARND_API_MANAGE_H
#define LEARND_API_MANAGE_H

#include "proto/api.h"

/* ---- settings: what a person may change of a model; the store keeps them as the text
 * api_write_settings writes ---- */

struct api_settings {
    uint32_t features; /* M, 64 .. 8192; 1024. Fixed when the model is created */
    uint64_t seed; /* of the random features, 0 .. 2^53 - 1; 1. Fixed when the model is created */
    double ridge_lambda; /* 1e-6 .. 1e3; 0.15. Fixed when the model is created */
    double score_min;    /* abstain below this score; 0 .. 1; 0 */
    uint32_t dim; /* of the vectors of a model without encoder; 0: texts. Fixed when created */
    double rejection_budget; /* share of in-scope texts that novelty may reject, 0 .. 0.5; 0.05 */
    uint32_t annotator_rate_max; /* items of one annotator in a minute, 0 .. 1e6; 0: any number */
    double annotator_influence_max; /* of a label's votes, 0 .. 1; above it /review says so; 1 */
};

void api_settings_default(struct api_settings *ret_settings);
/* What the store kept. Absent fields have their defaults. 0, -EINVAL (damaged or of a newer
 * program), -ENOMEM. */
int api_settings_parse(const char *text, size_t text_bytes, struct api_settings *ret_settings);
void api_write_settings(struct api_buffer *buffer, const struct api_settings *settings);

struct api_model_create {
    const char *name; /* valid by api_model_name_valid */
    const char *kind; /* "single", "multi" */
    bool vectors;     /* encoder none: settings.dim is set; only kind single */
    const char *from; /* another model, whose encoder it begins with; NULL: none */
    struct api_settings settings;
};
/* {"name","kind"?,"encoder"?,"dim"?,"from"?,"settings"?}; encoder "default", or "none" with dim,
 * which is kept in settings. */
int api_parse_model_create(const char *body, size_t body_bytes,
                           struct api_model_create **ret_create, struct api_problem *problem);
void api_model_create_free(struct api_model_create *create); /* NULL is fine */

/* {"settings":{..}} on top of what the model has: *settings is changed only on success. 422
 * immutable_field when features, seed or ridge_lambda would change (the same value again is fine).
 */
int api_parse_model_patch(const char *body, size_t body_bytes, struct api_settings *settings,
                          struct api_problem *problem);

struct api_model {
    const char *name, *kind;
    struct api_version version; /* live */
    bool settled;               /* its coefficients were fitted on exactly its examples */
    int64_t created_us;         /* Unix time */
    int64_t examples, labels;   /* with a target; active */
    struct api_settings settings;
};
void api_write_model(struct api_buffer *buffer, const struct api_model *model);

/* ---- examples, versions ---------------------------------------------------------------------- */

struct api_example {
    uint8_t example[API_ID_BYTES];
    const char *model;
    const char *text; /* NULL: null, a vector */
    size_t text_bytes;
    const uint16_t *vector; /* (vector_len) fp16: written as numbers. NULL with text NULL: true */
    uint32_t vector_len;
    const char *pair; /* NULL: not written */
    size_t pair_bytes;
    const struct api_scored
        *labels;         /* (labels_len) share of the target, any order; `label` is the largest's */
    uint32_t labels_len; /* 0: label null */
    uint32_t annotators;
    double weight;
    const char *status;
    int64_t first_seq, last_seq, created_us;
};
void api_write_example(struct api_buffer *buffer, const struct api_example *example);

struct api_version_row {
    struct api_version version;
    const char *state; /* "live", "past" */
    const char *op;    /* of the event that made it: "label", "reject" ..; "swap": another encoder;
                          NULL: null, the empty model */
    const uint8_t *example;        /* (API_ID_BYTES) NULL: null */
    const char *label, *annotator; /* NULL or "": null */
    int64_t run;                   /* of a swap, negative: null */
    const char *reason;            /* of a swap, NULL: null */
    int64_t created_us;
};
void api_write_version(struct api_buffer *buffer, const struct api_version_row *version);

/* ---- about the daemon ------------------------------------------------------------------------ */

struct api_info {
    const char *version;        /* of the program */
    const char *encoder;        /* name of its folder */
    const char *encoder_sha256; /* hex; NULL: null */
    int64_t encoder_number;
    uint32_t dim, layers, tokens_max;
    uint64_t parameters;
    const char *backend, *device, *precision;
    const char *device_why;                         /* NULL: the one asked for is used */
    bool device_degraded;                           /* it failed, or was asked for in vain */
    uint64_t device_bytes_used, device_bytes_total; /* 0: not counted */
    uint32_t lanes, loops;
    int64_t started_us;
    uint32_t models;
    int64_t seq; /* last event of the journal */
    size_t body_bytes_max, feedback_bytes_max;
};
void api_write_info(struct api_buffer *buffer, const struct api_info *info);

/* What answered a request that is still remembered. Its text is never shown, only that it is held.
 */
struct api_request {
    const char *request_id, *model;
    struct api_version version;
    const char *label; /* NULL or "": null */
    double score;
    int64_t created_us;
    bool text_held;
};
void api_write_request(struct api_buffer *buffer, const struct api_request *request);

/* GET /health/live and /health/ready:
 * {"status":"ready"|"degraded"|"unready","checks":[{"name","ok","detail"}]}. begin, checks, end. */
void api_health_begin(struct api_buffer *buffer, const char *status);
void api_health_check(struct api_buffer *buffer, const char *name, bool ok, const char *detail);
void api_health_end(struct api_buffer *buffer);

#endif
