/* store_read.h -- reading the journal and its fold. Part of store.h, which brings it along. */
#ifndef LEARND_STORE_READ_H
#define LEARND_STORE_READ_H

#include "store/store.h"

struct store_event {
    int64_t seq;
    char op[16]; /* "label", "reject", "withdraw", "delete", or "label_.." of a label itself */
    uint8_t example[STORE_ID_BYTES];
    bool has_example;
    char label[STORE_NAME_BYTES_MAX + 1]; /* its present name; "" if none */
    char annotator[STORE_NAME_BYTES_MAX + 1];
    int64_t created_us;
};
typedef int store_event_fn(void *ud, const struct store_event *row);

/* Last seq of the whole journal; 0 without events. */
int store_seq(struct store *store, int64_t *ret_seq);
/* Events of a model, ascending from after (exclusive), or descending from before (exclusive; 0: the
 * end). limit 0: all. */
int store_event_scan(struct store *store, int64_t model, int64_t after, uint32_t limit,
                     store_event_fn *fn, void *ud);
int store_event_scan_back(struct store *store, int64_t model, int64_t before, uint32_t limit,
                          store_event_fn *fn, void *ud);
/* One event of a model. -ENOENT. */
int store_event_get(struct store *store, int64_t model, int64_t seq, struct store_event *ret_event);

struct store_vote {
    int64_t label;
    double value; /* share of the target; shares of one example sum to 1, but in kind multi */
};

struct store_example {
    uint8_t id[STORE_ID_BYTES];
    int64_t model;
    const char *text; /* borrowed for the callback; empty: it is a vector, or deleted */
    size_t text_bytes;
    const char *pair; /* NULL: none */
    size_t pair_bytes;
    const char *status; /* "active" has a target (kind multi: perhaps empty); "withdrawn",
                           "rejected", "retired" have none */
    const struct store_vote *target; /* (target_len), by label id */
    uint32_t target_len;
    double weight;             /* mean weight of the votes that stand */
    uint32_t annotators;       /* that have a standing vote */
    const uint16_t *embedding; /* fp16 of `encoder`, or NULL: not cached */
    size_t embedding_bytes;
    const uint16_t *vector; /* fp16, what was taught; NULL: a text */
    size_t vector_bytes;
    int64_t first_seq, last_seq, created_us;
};
typedef int store_example_fn(void *ud, const struct store_example *row);

struct store_example_filter {
    const char *label; /* name or alias, or NULL; of a retired one: the examples it would have */
    const char *annotator; /* or NULL */
    const char *status;    /* or NULL */
    const char *q;         /* substring of the text, or NULL */
    int64_t after;         /* cursor: first_seq greater than this */
    uint32_t limit;
};

/* By first_seq; encoder: whose cached embedding to attach (-1: none). */
int store_example_scan(struct store *store, int64_t model,
                       const struct store_example_filter *filter, int64_t encoder,
                       store_example_fn *fn, void *ud);
/* One example of any model. -ENOENT. */
int store_example_get(struct store *store, const uint8_t id[STORE_ID_BYTES], int64_t encoder,
                      store_example_fn *fn, void *ud);
/* Distinct examples touched by events of a model (those of labels too) with after < seq <= upto, as
 * the journal sees them now; a deleted one comes with status "deleted", no text and no target. What
 * the learner reads. */
int store_example_changed(struct store *store, int64_t model, int64_t after, int64_t upto,
                          int64_t encoder, store_example_fn *fn, void *ud);

/* Cache of embeddings: fp16, of one encoder. Unknown example: nothing is written, 0. */
int store_embedding_put(struct store *store, const uint8_t example[STORE_ID_BYTES], int64_t encoder,
                        const uint16_t *embedding, size_t embedding_bytes);
/* Texts with a target that have no embedding of this encoder, by first_seq from after (exclusive);
 * at most limit (0: all). */
int store_embedding_missing(struct store *store, int64_t model, int64_t encoder, int64_t after,
                            uint32_t limit, store_example_fn *fn, void *ud);
/* Takes up to limit embeddings of an encoder away; *ret_more: there may be others. */
int store_embedding_drop(struct store *store, int64_t encoder, uint32_t limit, bool *ret_more);

/* ---- who says what (votes.c) ---------------------------------------------------------------- */

struct store_standing {
    char label[STORE_NAME_BYTES_MAX + 1];
    char annotator[STORE_NAME_BYTES_MAX + 1]; /* "" if not given */
    bool against;
    double weight;
};
typedef int store_vote_fn(void *ud, const struct store_standing *row);
/* Standing votes of an example by label, those for it first, then by annotator. Unknown: none. */
int store_vote_scan(struct store *store, const uint8_t example[STORE_ID_BYTES], store_vote_fn *fn,
                    void *ud);

/* The words of annotators as they stand, for carrying them elsewhere: by annotator, votes for
 * labels, then (kind multi) that there is a word at all, then votes against. May be called from a
 * callback.
 */
struct store_word {
    const char *annotator; /* borrowed, as label */
    const char *label;     /* NULL: there is a word, with this weight */
    bool against;
    double weight;
    int64_t created_us; /* 0: not known */
};
typedef int store_word_fn(void *ud, const struct store_word *word);
int store_word_scan(struct store *store, const uint8_t example[STORE_ID_BYTES], store_word_fn *fn,
                    void *ud);

/* Active examples whose target has more than one label, with the share of the largest. Any order.
 */
typedef int store_contradiction_fn(void *ud, const uint8_t example[STORE_ID_BYTES],
                                   double share_max);
int store_contradiction_scan(struct store *store, int64_t model, store_contradiction_fn *fn,
                             void *ud);

/* Annotators with more than share_max of the weight of all votes for a label. Any order. */
struct store_influence {
    int64_t label;
    char annotator[STORE_NAME_BYTES_MAX + 1];
    double share;
    int64_t examples; /* on which the annotator says so */
};
typedef int store_influence_fn(void *ud, const struct store_influence *row);
int store_influence_scan(struct store *store, int64_t model, double share_max,
                         store_influence_fn *fn, void *ud);

/* Is this example there, with a target? */
int store_example_taught(struct store *store, const uint8_t id[STORE_ID_BYTES], bool *ret_taught);

#endif
