/* live.h -- what answers questions now: one frozen snapshot a model, swapped under traffic.
 *
 * A snapshot is {encoder, head view, labels with their names, thresholds and payloads, version}:
 * all that an answer needs, so that a request uses one version from first to last. live_get and
 * live_publish take a short mutex; the last live_put frees. (An atomic pointer and an atomic count
 * are not enough: the count can reach zero between the load and the increment.)
 *
 * Threads: any. Nothing is freed, computed or waited for under the lock.
 */
#ifndef LEARND_LIVE_H
#define LEARND_LIVE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/serve/encoders.h"
#include "kernels/head/head.h"

enum { LIVE_NAME_BYTES = 129 };

struct live_alias {
    char name[LIVE_NAME_BYTES];
    uint32_t column;
};

/* What an answer with this label takes along. */
struct live_label {
    double score_min; /* abstain below; negative: as the model does */
    char *payload;    /* JSON text; NULL: none */
};

/* Labels by column; frozen once sealed, shared by the snapshots between two label events. */
struct live_labels {
    atomic_uint refs;
    uint32_t len;
    char (*names)[LIVE_NAME_BYTES]; /* (len) */
    struct live_label *rules;       /* (len) */
    struct live_alias *index;       /* (index_len) every name that is understood, sorted */
    uint32_t index_len;
};

/* What the last audit of a model found; frozen, shared by the snapshots until the next. */
struct live_review {
    atomic_uint refs;
    int64_t seq; /* the version that was audited */
    uint32_t examined;
    bool distrusted; /* the suspects count less */
    uint32_t suspects_len, twins_len;
    struct head_suspect *suspects; /* the most doubtful first; labels are columns */
    struct head_twin *twins;
};

struct snapshot {
    atomic_uint refs;
    int64_t model;
    char model_name[LIVE_NAME_BYTES];
    struct held_encoder *encoder; /* one reference; of vectors: the base, unused */
    struct head_view *view;       /* owned */
    struct live_labels *labels;   /* one reference */
    struct live_review *review;   /* one reference, or NULL: not audited yet */
    double score_min;             /* abstain below */
    uint32_t rate_max;            /* items of one annotator in a minute; 0: any number */
    double influence_max;         /* share of a label's votes; more is listed for review */
    uint32_t dim;                 /* of what the view scores */
    bool vectors;                 /* asked and taught with vectors: no encoder */
    int64_t seq;                  /* the version is encoder->number and this */
    bool settled;                 /* fitted and audited on exactly this set of examples */
    int64_t published_us;         /* Unix time */
};

/* Below this score an answer with the column's label is not to be trusted. */
static inline double live_score_min(const struct snapshot *snapshot, uint32_t column)
{
    const struct live_label *rules = &snapshot->labels->rules[column];

    return rules->score_min >= 0 ? rules->score_min : snapshot->score_min;
}

struct live;

/* models_max: table size. 0, -ENOMEM. */
int live_open(uint32_t models_max, struct live **ret_live);
void live_close(struct live *live);

/* A reference to the model's present snapshot, or NULL: no such model. */
struct snapshot *live_get(struct live *live, const char *model_name);
struct snapshot *live_get_by_id(struct live *live, int64_t model);
struct snapshot *live_hold(struct snapshot *snapshot); /* one more reference */
/* NULL is fine. */
void live_put(struct snapshot *snapshot);

/* Takes ownership of the snapshot (one reference) and makes it the model's present one. -ENOSPC: a
 * new model and the table is full; then the caller still owns it. */
int live_publish(struct live *live, struct snapshot *snapshot);
void live_remove(struct live *live, int64_t model);
/* Publishes so far. */
uint64_t live_swaps(struct live *live);

/* One reference; names empty, no rules. NULL: no memory. Fill in names, rules, aliases; then seal.
 */
struct live_labels *live_labels_new(uint32_t len);
/* A name is understood as this column's label. 0 or -ENOMEM. */
int live_labels_alias(struct live_labels *labels, const char *name, uint32_t column);
void live_labels_seal(struct live_labels *labels);
/* The column that a name or an alias means; UINT32_MAX: none. */
uint32_t live_labels_find(const struct live_labels *labels, const char *name);
struct live_labels *live_labels_get(struct live_labels *labels);
void live_labels_put(struct live_labels *labels);

/* One reference; copies. NULL: no memory. */
struct live_review *live_review_new(const struct head_suspect *suspects, uint32_t suspects_len,
                                    const struct head_twin *twins, uint32_t twins_len);
struct live_review *live_review_get(struct live_review *review); /* NULL is fine */
void live_review_put(struct live_review *review);                /* NULL is fine */

#endif
