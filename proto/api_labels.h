/* api_labels.h -- labels: adding, changing, merging, splitting, and their rows. See api.h.
 *
 * A payload is any JSON value of API_PAYLOAD_BYTES_MAX bytes at most, written compactly. It is read
 * into that text, kept as it, and written from it: nothing between here and the answer looks
 * inside.
 */
#ifndef LEARND_API_LABELS_H
#define LEARND_API_LABELS_H

#include "proto/api.h"

enum { API_PAYLOAD_BYTES_MAX = 4096 };

struct api_label_add {
    const char *label;
};
int api_parse_label_add(const char *body, size_t body_bytes, struct api_label_add **ret_add,
                        struct api_problem *problem);
void api_label_add_free(struct api_label_add *add); /* NULL is fine */

/* {"label"?,"status"?,"score_min"?,"payload"?}, at least one. null takes score_min or payload away.
 */
struct api_label_patch {
    const char *label; /* the new name; NULL: not given */
    bool has_status, active;
    bool has_score_min;
    double score_min; /* 0 .. 1; negative: null */
    bool has_payload;
    const char *payload; /* JSON text; NULL: null */
};
int api_parse_label_patch(const char *body, size_t body_bytes, struct api_label_patch **ret_patch,
                          struct api_problem *problem);
void api_label_patch_free(struct api_label_patch *patch); /* NULL is fine */

/* {"into"} */
struct api_label_merge {
    const char *into;
};
int api_parse_label_merge(const char *body, size_t body_bytes, struct api_label_merge **ret_merge,
                          struct api_problem *problem);
void api_label_merge_free(struct api_label_merge *merge); /* NULL is fine */

/* {"label","examples"}: 1 .. API_ITEMS_MAX ids, none twice. */
struct api_label_split {
    const char *label;
    const uint8_t (*examples)[API_ID_BYTES]; /* (examples_len) in the order written */
    uint32_t examples_len;
};
int api_parse_label_split(const char *body, size_t body_bytes, struct api_label_split **ret_split,
                          struct api_problem *problem);
void api_label_split_free(struct api_label_split *split); /* NULL is fine */

struct api_label_row {
    const char *label, *status;
    int64_t examples, created_us;
    bool has_score_min;
    double score_min;
    const char *payload; /* JSON text; NULL: null */
    const char *into;    /* of a merged one; NULL: null */
};
/* begin, its aliases, end. */
void api_label_begin(struct api_buffer *buffer, const struct api_label_row *label);
void api_label_alias(struct api_buffer *buffer, const char *name);
void api_label_end(struct api_buffer *buffer);
/* One without aliases. */
void api_write_label(struct api_buffer *buffer, const struct api_label_row *label);

#endif
