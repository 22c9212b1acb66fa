/* learner.h -- the fast path: turns the journal into heads and publishes them.
 *
 * The queue carries hints, the store carries truth: the learner is told "there are events" and
 * reads them itself, so a lost hint costs time, never data. It owns the fp64 state of every model's
 * head. Per round: read what events touched -> embed the texts that have no cached embedding (as
 * learning work of the lanes) -> head_apply -> head_publish -> live_publish -> wake those who asked
 * wait=applied.
 *
 * A round ends on a seq whose examples no later event has touched, so that a published version is
 * exactly the journal up to its seq. The pool's coefficients are fitted again at once while that is
 * cheap, else when a model has been quiet for a moment; a little later the stored labels are
 * audited (kernels/head/audit.c). Until both are done its snapshots say settled = false.
 *
 * When nothing else is to do it watches a sample of the questions for drift (daemon/serve/asked.h).
 *
 * Threads: one of its own. post, hint, asked from any.
 */
#ifndef LEARND_LEARNER_H
#define LEARND_LEARNER_H

#include "daemon/learn/figures.h"
#include "daemon/learn/keeper.h"
#include "daemon/serve/batcher.h"
#include "daemon/serve/live.h"
#include "kernels/measure/drift.h"
#include "kernels/measure/evaluation.h"
#include "kernels/measure/evaluation_sets.h"

struct learner;

/* How the learner understands a model's settings text (JSON is not its business). */
struct learner_settings {
    uint32_t features;
    uint64_t seed;
    double lambda, budget, score_min;
    uint32_t annotator_rate_max; /* as of the snapshot, which carries them */
    double annotator_influence_max;
    uint32_t dim; /* of vectors; 0: texts, by the encoder */
};

struct learner_parts {
    const char *folder;    /* of the state */
    struct store *store;   /* a reader connection, the learner's until learner_close */
    struct keeper *keeper; /* for embeddings and snapshot rows */
    struct batcher *batcher;
    struct live *live;
    struct bus *bus;     /* for swaps and warnings, or NULL */
    struct asked *asked; /* questions to watch, or NULL; the learner is its reader */
    struct encoders *encoders;
    int (*settings_read)(const char *text, struct learner_settings *ret_settings);
};

/* Loads every model's head (snapshot, then the tail of the journal), publishes it, then starts the
 * thread. Blocks until all models are live: lanes must run. parts are copied, what they point to is
 * borrowed. 0 or -errno; `why` says what. */
int learner_open(const struct learner_parts *parts, char *why, size_t why_bytes,
                 struct learner **ret_learner);
/* A change that wants apply or wait_applied. 0, -ESHUTDOWN. */
int learner_post(struct learner *learner, struct change *change);
/* There are new events. */
void learner_hint(struct learner *learner);
/* There are questions to watch. */
void learner_asked(struct learner *learner);
/* Writes what is unsaved as snapshots, ends the thread. Waiting changes are answered -ESHUTDOWN,
 * and so is every later post: the keeper may still know the learner; it is closed between the two.
 */
void learner_stop(struct learner *learner);
/* After learner_stop (which it calls if need be) and keeper_close. NULL is fine. */
void learner_close(struct learner *learner);

/* For changes' apply(), on the learner's thread. 0 or -errno. */
int learner_model_add(struct learner *learner, int64_t model);
int learner_model_remove(struct learner *learner, int64_t model);
int learner_model_settings(struct learner *learner, int64_t model);

/* The store says that another encoder is to answer for a model. If that pair is at hand (the model
 * is on probation) it is live at once: 0. -ENOENT: it is not, and the trainer is to build it and
 * hand it over by learner_adopt. */
int learner_follow(struct learner *learner, int64_t model, int64_t encoder);
/* A candidate of the trainer's takes over (succession.h): the learner's on success. run: what made
 * it; -1: none, and no probation. 0 or -errno; then the old pair is live as before. */
struct learned;
int learner_adopt(struct learner *learner, struct learned *candidate, int64_t run);
/* A probation goes on after a restart: shadow is the pair before, the learner's on success. */
int learner_watch(struct learner *learner, struct learned *shadow, int64_t run);

/* A person's name leaves what a model (0: every one) has counted. On the learner's thread. */
void learner_forget_annotator(struct learner *learner, int64_t model, const char *annotator);

/* How good a model is, by its own count. A copy: owned by who asked. */
struct learner_report {
    char model[LIVE_NAME_BYTES];
    int64_t encoder_number, seq;
    bool settled;
    uint64_t examples, fit_stale;
    uint32_t fit_examples;
    double coefficients[HEAD_SCORES];
    struct evaluation_report *prequential, *leave_one_out;
    struct evaluation_sets_report *sets; /* of kind multi the prequential one; else NULL */
    struct drift_report drift;
    struct live_labels *labels; /* one reference: the names of the columns */
    struct live_review *review; /* one reference, or NULL */
};
/* For a change's apply(), on the learner's thread. 0, -ENOENT, -ENOMEM. */
int learner_report(struct learner *learner, int64_t model, struct learner_report *ret_report);
void learner_report_done(struct learner_report *report);

struct learner_counts {
    uint64_t events, examples, publishes, fits, audits, failures, embedded;
    int64_t apply_us_last, publish_us_last, fit_us_last;
    uint64_t behind; /* rounds that found more to do; 0: caught up */
    int64_t lag_us; /* for how long the oldest correction on disk has not been published; 0: none */
};
struct learner_counts learner_counts(const struct learner *learner);
/* What /metrics shows of each model, up to max, without asking the learner's thread. */
uint32_t learner_figures(const struct learner *learner, uint32_t max, struct figures *ret_rows);

#endif
