/* api_review.h -- what annotators look at: GET /v1/models/{m}/review and /next. See api.h.
 *
 * Both are written as they come: begin, one call a row, end.
 */
#ifndef LEARND_API_REVIEW_H
#define LEARND_API_REVIEW_H

#include "proto/api.h"

enum api_review_kind {
    API_LIKELY_WRONG,  /* the rest of what was taught prefers another label */
    API_CONTRADICTING, /* annotators do not agree */
    API_DUPLICATE,     /* one embedding, two labels */
    API_INFLUENCE,     /* one annotator has too much of a label's weight */
    API_REVIEW_KINDS,
};

/* The query parameter `kind`; text NULL: API_REVIEW_KINDS, all of them. 0 or -EINVAL
 * (invalid_value). */
int api_review_kind_parse(const char *text, size_t text_bytes, enum api_review_kind *ret_kind,
                          struct api_problem *problem);

struct api_review {
    const char *model;
    bool audited;               /* else version is null and the counts are 0 */
    struct api_version version; /* that was audited */
    uint32_t examined, suspects;
    bool distrusted; /* the suspects count less now */
    bool settled;    /* the audit is of exactly the live examples */
};

struct api_review_vote {
    const char *label, *annotator; /* annotator "": null */
    bool against;
};

struct api_review_item {
    enum api_review_kind kind;
    uint8_t example[API_ID_BYTES];
    const char *text;
    size_t text_bytes;
    const char *pair; /* NULL: not written */
    size_t pair_bytes;
    const char *label, *other; /* as taught; as it might be instead. other NULL: null */
    double margin;             /* NAN: null */
    uint32_t annotators;
    const struct api_review_vote *votes; /* (votes_len) those of a label together */
    uint32_t votes_len;
    int64_t created_us;
    struct { /* of a duplicate */
        uint8_t example[API_ID_BYTES];
        const char *text;
        size_t text_bytes;
        const char *pair; /* NULL: not written */
        size_t pair_bytes;
    } twin;
    /* of influence, which has no example: only these, kind and label are written */
    const char *annotator;
    double share;
    int64_t examples;
};

void api_review_begin(struct api_buffer *buffer, const struct api_review *review);
void api_review_item(struct api_buffer *buffer, const struct api_review_item *item);
void api_review_end(struct api_buffer *buffer, const char *next_cursor); /* NULL: null */

/* The query parameters of /next. Text NULL: seed 0, random_share 0.2. 0 or -EINVAL (out_of_range).
 */
int api_seed_parse(const char *text, size_t text_bytes, uint64_t *ret_seed,
                   struct api_problem *problem);
int api_share_parse(const char *text, size_t text_bytes, double *ret_share,
                    struct api_problem *problem);

struct api_next {
    const char *model;
    struct api_version version; /* live */
    uint32_t candidates;        /* recent texts that are not taught, each once */
    double random_share;
    uint64_t seed;
};

struct api_next_item {
    const char *request_id;
    const char *text;
    size_t text_bytes;
    const char *pair; /* NULL: not written */
    size_t pair_bytes;
    const char *label; /* guessed; "": null */
    double score, novelty;
    const char *why; /* "random", "uncertain", "novel", "diverse" */
    int64_t created_us;
};

void api_next_begin(struct api_buffer *buffer, const struct api_next *next);
void api_next_item(struct api_buffer *buffer, const struct api_next_item *item);
void api_next_end(struct api_buffer *buffer);

#endif
