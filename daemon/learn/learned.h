/* learned.h -- one model as the learner holds it: the head's state, its labels, how far into the
 * journal it is.
 *
 * Private to daemon/learn. Only the learner's thread (or the thread that opens it, before) touches
 * one.
 */
#ifndef LEARND_LEARNED_H
#define LEARND_LEARNED_H

#include "daemon/learn/learner.h"

enum {
    LEARNED_ROUND_EVENTS = 2048, /* events read in one round */
    LEARNED_FIT_INLINE =
        300, /* up to so many examples a fit costs a few ms and is done before publishing */
    LEARNED_SCORED_MAX = 4096,   /* corrections of one stretch that are scored before they count */
    LEARNED_AUDIT_INLINE = 2000, /* up to so many examples an audit at the start costs a moment */
};

struct judge;
struct figures_table;
struct rival;

enum learned_role {
    LEARNED_LIVE,   /* publishes, judges every correction */
    LEARNED_SHADOW, /* the one before, on probation of the live one: learns and predicts, unseen */
    LEARNED_CANDIDATE, /* of the trainer: only learns */
};

struct learned {
    enum learned_role role;
    int64_t model;
    char name[LIVE_NAME_BYTES];
    struct learner_settings settings;
    bool multi;                   /* its kind: targets are sets; nothing to audit */
    struct held_encoder *encoder; /* one reference; of vectors: the base, unused */
    struct head *head;
    struct live_labels *labels; /* by column, as published */
    int64_t labels_seq;         /* seq up to which they are told */
    int64_t *label_ids;         /* (label_ids_len) ascending: label id of each column */
    uint32_t label_ids_len;     /* labels->len, or ahead of it in a round */
    int64_t applied;            /* seq that the head has reached */
    uint64_t unsaved;           /* changes since the last image */
    int64_t changed_us;         /* monotonic, of the last change */
    struct judge *judge;        /* a shadow has none */
    bool noting;                /* rounds note their outcomes */
    struct rival *rival;        /* the pair before, while this one is on probation (succession.h) */
    struct snapshot *frozen;    /* LEARNED_SHADOW: what it would answer with; else NULL */
    struct head_audit *audit;   /* under way, or NULL */
    int64_t audit_seq;          /* what the audit under way, or the last one, looked at */
    struct live_review *review; /* of the last audit, or NULL */
    bool fitted, audited;       /* as published, on exactly this set */
    bool asked;                 /* questions were counted since the last image */
    bool figures_stale;         /* what /metrics shows is older than the counts */
    int64_t figures_us;         /* monotonic, when it was set */
    /* A round failed after it had changed the head, which now holds more than `applied` says:
     * nothing is published or saved before the round has been repeated. */
    bool ahead;
};

/* Was a correction foreseen by the version before it? */
struct learned_outcome {
    int64_t seq;
    bool right;
};

/* What one round did. */
struct learned_round {
    uint64_t events, examples, embedded;
    bool more;
    bool fitted;   /* the pool */
    bool finished; /* an audit */
    uint64_t suspects;
    int64_t apply_us, publish_us, fit_us;
    struct learned_outcome
        *outcomes; /* (outcomes_len) ascending by seq, or NULL: learned_round_done */
    uint32_t outcomes_len;
};

/* Loads the newest image of the model with this encoder, or starts empty. Takes a reference to the
 * encoder of its own. 0 or -errno. */
int learned_open(const struct learner_parts *parts, const struct store_model *row,
                 struct held_encoder *encoder, enum learned_role role,
                 struct learned **ret_learned);
void learned_close(struct learned *learned);
/* The column of a label of the store; UINT32_MAX: not read yet. */
uint32_t learned_column(const struct learned *learned, int64_t label);

/* Reads the next events, applies them, publishes. Nothing to read: 0 and *ret_round all zero. On
 * failure the last published snapshot keeps serving and the same events are read again next time.
 * *ret_round is to be done with after a success. */
int learned_catch_up(struct learned *learned, const struct learner_parts *parts,
                     struct learned_round *ret_round);
/* Fits the pool on the present set if it is stale, and publishes. */
int learned_settle(struct learned *learned, const struct learner_parts *parts,
                   struct learned_round *ret_round);
/* One step of an audit, opened if none is under way. The last one distrusts or trusts, fits and
 * publishes what it found; round->finished says so. */
int learned_audit(struct learned *learned, const struct learner_parts *parts,
                  struct learned_round *ret_round);
void learned_round_done(struct learned_round *round);
/* LEARNED_LIVE: makes the present state the model's live snapshot. LEARNED_SHADOW: keeps it as
 * frozen. LEARNED_CANDIDATE: 0. */
int learned_publish(struct learned *learned, const struct learner_parts *parts);
/* Sets the model's row of what /metrics shows. 0, -ENOMEM. */
int learned_figures(struct learned *learned, struct figures_table *table);
/* The present state as a snapshot, one reference. 0, -ENOMEM. */
int learned_freeze(struct learned *learned, struct snapshot **ret_snapshot);
/* The live one and another take each other's roles; the judge goes along where it can (embeddings
 * of one length), else the new one begins anew. Publishes `to`. On failure nothing has changed. */
int learned_swap(struct learned *from, struct learned *to, const struct learner_parts *parts);
/* Writes the head's image and has the keeper name it. */
int learned_save(struct learned *learned, const struct learner_parts *parts);

#endif
