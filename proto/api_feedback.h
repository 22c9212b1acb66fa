/* api_feedback.h -- teaching: POST /v1/feedback as one object, as {"items":[..]}, or as lines of
 * ndjson.
 *
 * One bad item never sinks its neighbours: an item that is well-formed JSON but wrong carries its
 * own problem, whose field is relative to the item ("label", not "items[4].label": the index is
 * said beside it). A body that holds one item alone (one object, one line) is refused as a whole
 * instead, so then every item is good.
 *
 * What is checked here is what can be seen in the bytes. Whether the model, request or example
 * exists, and which label a request was answered with, is the daemon's to find out.
 */
#ifndef LEARND_API_FEEDBACK_H
#define LEARND_API_FEEDBACK_H

#include "proto/api.h"

enum api_action { API_LABEL, API_REJECT, API_CONFIRM, API_WITHDRAW };

/* Exactly one of request_id, text, vector, example is set in a good item.
 *
 *   LABEL: label or labels is set; with any of the three.
 *
 *   REJECT, CONFIRM: label or labels is set (REJECT: not to none), or NULL with request_id (what
 * was answered) or example (what it is labelled).
 *
 *   WITHDRAW: example; label NULL. */
struct api_feedback_item {
    const struct api_problem *problem; /* NULL: good. Else only index and model are of use */
    uint32_t index;                    /* place in items */
    const char *model;                 /* "default" if not given */
    enum api_action action;            /* LABEL if not given */
    const char *request_id;            /* NULL: not given */
    const char *text;                  /* (text_bytes) NULL: not given; never empty; may hold NUL */
    size_t text_bytes;
    const char *pair; /* NULL: none; only with text */
    size_t pair_bytes;
    const float *vector; /* (vector_len) of unit length; NULL: not given */
    uint32_t vector_len;
    bool has_example;
    uint8_t example[API_ID_BYTES];
    const char *label;         /* NULL: not given */
    const char *const *labels; /* (labels_len) none twice, perhaps none; NULL: not given */
    uint32_t labels_len;
    const char *annotator;       /* "" if not given */
    const char *source;          /* "" if not given */
    double weight;               /* 0 < weight <= 100; 1 if not given */
    bool create_labels;          /* true if not given */
    const char *idempotency_key; /* NULL: not given */
    /* What the item means, in one spelling whatever the order of fields, spaces, escapes or
     * defaults; without wait and idempotency_key. Hash this to tell a repeat from a clash. */
    const char *canonical;
    size_t canonical_bytes;
};

struct api_feedback {
    const struct api_feedback_item *items; /* (items_len) */
    uint32_t items_len;                    /* 1 .. API_ITEMS_MAX; 1 for a single object or line */
    bool batch;                            /* sent as {"items":[..]} */
    bool wait_applied;                     /* "wait":"applied" */
};

/* One object or {"items":[..]}; beside items: model, annotator, source, wait, for all of them. More
 * than API_ITEMS_MAX: 422 too_many_items for the whole body. */
int api_parse_feedback(const char *body, size_t body_bytes, struct api_feedback **ret_feedback,
                       struct api_problem *problem);
/* One line of ndjson, with or without its line end: one object, never items. */
int api_parse_feedback_line(const char *line, size_t line_bytes, struct api_feedback **ret_feedback,
                            struct api_problem *problem);
void api_feedback_free(struct api_feedback *feedback); /* NULL is fine */
/* The query parameter or field `wait`: NULL or "durable" false, "applied" true, else 422
 * invalid_value. */
int api_wait_parse(const char *text, size_t text_bytes, bool *ret_applied,
                   struct api_problem *problem);

struct api_accepted {
    uint8_t example[API_ID_BYTES];
    int64_t seq;
    bool duplicate;
    bool label_created; /* written only if true */
};

/* The answer: begin, the accepted ones in order, middle, the rejected ones, end. Of an accepted one
 * {"example","seq","duplicate"}, of a rejected one {"index","code","field","detail"}. */
void api_feedback_begin(struct api_buffer *buffer);
void api_feedback_accepted(struct api_buffer *buffer, const struct api_accepted *accepted);
void api_feedback_middle(struct api_buffer *buffer);
void api_feedback_rejected(struct api_buffer *buffer, uint64_t index,
                           const struct api_problem *problem);

/* For ndjson, whose lists are cut at API_ITEMS_MAX: how many there really were. */
struct api_feedback_counts {
    uint64_t accepted, rejected;
    bool truncated; /* the lists were cut */
};
/* version: of the last model touched, after this; NULL: null (several models, or none). counts
 * NULL: not written. */
void api_feedback_end(struct api_buffer *buffer, const struct api_version *version,
                      const struct api_feedback_counts *counts);

#endif
