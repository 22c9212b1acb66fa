/* api_classify.h -- asking: POST /v1/classify and /v1/embed. See api.h for the rules of parsing and
 * writing.
 *
 * Answers are written as they come: begin, one call a text, end. Nothing is held back, so a lane's
 * results can be written straight out of its arrays.
 */
#ifndef LEARND_API_CLASSIFY_H
#define LEARND_API_CLASSIFY_H

#include "proto/api.h"

enum api_truncate { API_TRUNCATE_RIGHT, API_TRUNCATE_LEFT, API_TRUNCATE_NEVER };

struct api_input {
    const char *text; /* (text_bytes) never empty; may hold NUL; NULL: a vector */
    size_t text_bytes;
    const char *pair; /* NULL: none */
    size_t pair_bytes;
    const float *vector; /* (vector_len) of unit length; NULL: a text */
    uint32_t vector_len;
    const char *id; /* as given, or the place in the list: "0", "1" .. */
};

struct api_classify {
    const char *model; /* "default" if not given */
    const struct api_input *inputs;
    uint32_t inputs_len; /* 1 .. API_INPUTS_MAX */
    bool inputs_objects; /* a list of objects */
    bool inputs_alone;   /* one text, not a list */
    uint32_t top_k;      /* 0: not given */
    bool has_threshold;
    double threshold;          /* 0 .. 1 */
    const char *const *labels; /* (labels_len) choose among; no name twice */
    uint32_t labels_len;       /* 0: all */
    enum api_truncate truncate;
    bool explain;
    bool has_version;
    struct api_version version;
    uint32_t deadline_ms; /* 0: none */
    bool store;           /* true if not given */
};

int api_parse_classify(const char *body, size_t body_bytes, struct api_classify **ret_classify,
                       struct api_problem *problem);
void api_classify_free(struct api_classify *classify); /* NULL is fine */
/* The path of one input for a problem of the daemon's own (text_too_long): "inputs[3].text" as it
 * was written. */
void api_classify_field(const struct api_classify *classify, uint32_t index, char ret_field[96]);

struct api_scored {
    const char *label;
    double score;
    double threshold; /* above 0: written */
};

enum { API_VOTES = 5 }; /* ridge, LDA, count, prototype, nearest */

struct api_because {
    uint8_t example[API_ID_BYTES];
    const char *text; /* NULL: null */
    size_t text_bytes;
    const char *label; /* NULL: null, an example of none */
    double similarity;
};

struct api_result {
    const char *id;
    const char *request_id;
    const char *label; /* NULL: null, a model without labels, or (kind multi) none of them */
    double score, novelty;
    bool abstain;
    bool novel;                      /* unlike anything taught: one reason to abstain */
    const char *payload;             /* of the label, JSON text; NULL: not written */
    const struct api_scored *labels; /* (labels_len) best first */
    uint32_t labels_len;
    const float *votes; /* (labels_len,API_VOTES) what each score gives a label; NULL: not asked */
    uint32_t tokens;
    bool truncated;
    bool explained;                    /* write `because`, even if empty */
    const struct api_because *because; /* (because_len) */
    uint32_t because_len;
};

struct api_timing {
    double queue_ms, tokenize_ms, encode_ms, head_ms, total_ms; /* written to the microsecond */
};

void api_classify_begin(struct api_buffer *buffer, const char *model, struct api_version version);
void api_classify_result(struct api_buffer *buffer, const struct api_result *result);
void api_classify_end(struct api_buffer *buffer, const struct api_timing *timing);

struct api_embed {
    const char *model;
    const struct api_input *inputs;
    uint32_t inputs_len;
    bool inputs_objects, inputs_alone;
    enum api_truncate truncate;
};

int api_parse_embed(const char *body, size_t body_bytes, struct api_embed **ret_embed,
                    struct api_problem *problem);
void api_embed_free(struct api_embed *embed); /* NULL is fine */
void api_embed_field(const struct api_embed *embed, uint32_t index, char ret_field[96]);

void api_embed_begin(struct api_buffer *buffer, const char *model, struct api_version version);
void api_embed_vector(struct api_buffer *buffer, const float *vector, uint32_t dim); /* (dim) */
/* tokens (tokens_len): of each input, as many as vectors were written. */
void api_embed_end(struct api_buffer *buffer, const uint32_t *tokens, uint32_t tokens_len);

#endif
