/* store_runs.h -- runs, the encoders they made, and which one is live. Part of store.h, which
 * brings it along.
 *
 * A run is a row from the moment it is asked for: queued, running, then ended as accepted, refused,
 * failed or cancelled. It holds names and numbers, never a text: settings, progress and verdict are
 * opaque here. A model has at most one run that has not ended.
 *
 * An encoder is a row that is never taken away, so that its number names it for ever; its files are
 * the folder encoders/<number>/. Number 0 is the base, whose files are the daemon's own.
 * "candidate" becomes "live", "held" (was live, can be again), "refused" or "removed". Weights come
 * from texts: files of the last two, and of models that are gone, are swept away
 * (store_encoder_sweep).
 *
 * Row before file, otherwise than with heads: the row is "candidate" until its folder is whole, and
 * only live and held promise one.
 */
#ifndef LEARND_STORE_RUNS_H
#define LEARND_STORE_RUNS_H

#include "store/store.h"

enum {
    STORE_REASON_BYTES_MAX = 400, /* in words; longer ones are cut by the caller */
    STORE_RUN_METRICS_MAX = 1024, /* rows of one run; then the most crowded one goes */
    STORE_PATH_BYTES = 4096,
};

/* ---- runs ------------------------------------------------------------------------------------ */

struct store_run {
    int64_t id, model;
    const char *strategy; /* texts: borrowed for the callback, never NULL but verdict */
    const char *settings; /* opaque */
    uint64_t seed;
    int64_t from_seq;  /* the journal up to here; 0 before it starts */
    int64_t since_seq; /* later events are new to it */
    int64_t parent;    /* encoder it starts from, or is compared with */
    int64_t encoder;   /* what it made; -1: nothing yet */
    const char *state; /* "queued", "running", "accepted", "refused", "failed", "cancelled" */
    const char *phase; /* "waiting", "planning", .. "done"; opaque */
    int64_t step, steps;
    bool cancel;          /* asked to stop */
    const char *progress; /* opaque; "" */
    const char *verdict;  /* opaque; NULL: none */
    const char *reason;   /* why it ended so; "" */
    const char *who;      /* asked for it: a key's name, or a trigger's */
    int64_t created_us, started_us, ended_us, updated_us; /* 0: not yet */
};
typedef int store_run_fn(void *ud, const struct store_run *row);

struct store_run_new {
    int64_t model;
    const char *strategy, *settings, *who;
    uint64_t seed;
    int64_t parent, since_seq, now_us;
};
/* -EEXIST: the model has a run that has not ended; *ret_id is that one. -ENOENT: no such model. */
int store_run_add(struct store *store, const struct store_run_new *run, int64_t *ret_id);

/* What changes. Begin with STORE_RUN_UPDATE_INIT, which keeps everything. */
struct store_run_update {
    const char *state, *phase, *progress, *verdict, *reason;   /* NULL: kept */
    int64_t from_seq, since_seq, parent, encoder, step, steps; /* STORE_KEEP: kept */
    int64_t now_us;
};
#define STORE_KEEP INT64_MIN
#define STORE_RUN_UPDATE_INIT                                                                      \
    {                                                                                              \
        .from_seq = STORE_KEEP, .since_seq = STORE_KEEP, .parent = STORE_KEEP,                     \
        .encoder = STORE_KEEP, .step = STORE_KEEP, .steps = STORE_KEEP                             \
    }
/* The first state "running" sets started, the first ended state ended. -ENOENT. -EALREADY: it has
 * ended, and the state of an ended run stays. */
int store_run_update(struct store *store, int64_t run, const struct store_run_update *update);
/* A queued run is cancelled, a running one is asked to stop; again changes nothing. -ENOENT.
 * -EALREADY: it has ended. */
int store_run_cancel(struct store *store, int64_t run, int64_t now_us);
/* -ENOENT. */
int store_run_get(struct store *store, int64_t run, store_run_fn *fn, void *ud);
/* Newest first. model 0: all. states: words with spaces between, NULL all. before: cursor, ids less
 * than this; 0: the newest. limit 0: all. */
struct store_run_filter {
    int64_t model, before;
    const char *states;
    uint32_t limit;
};
int store_run_scan(struct store *store, const struct store_run_filter *filter, store_run_fn *fn,
                   void *ud);
/* What to do next: the oldest running one (to take up again), else the oldest queued. -ENOENT. */
int store_run_next(struct store *store, store_run_fn *fn, void *ud);

/* Takes away runs that ended before a moment, with their curves; but a model's last one and last
 * accepted one, and those whose encoder is live or held. Their ids are never given again. */
int store_run_forget(struct store *store, int64_t before_us, uint64_t *ret_runs,
                     uint64_t *ret_metrics);

struct store_run_metric {
    int64_t step;
    double loss, grad_norm, lr; /* what is not finite comes back as NaN */
    int64_t t_us;
};
typedef int store_run_metric_fn(void *ud, const struct store_run_metric *row);
/* A step that is there is replaced: a run taken up again repeats some. */
int store_run_metric_put(struct store *store, int64_t run, const struct store_run_metric *metric);
/* By step. */
int store_run_metric_scan(struct store *store, int64_t run, store_run_metric_fn *fn, void *ud);

/* encoders/run-<run>.ckpt: where a run was, whole or not at all (temp, fsync, rename, fsync
 * folder), with its own hash. File acts: any thread, no connection. */
struct store_piece {
    const void *bytes;
    size_t len;
};
int store_run_image_write(const char *folder, int64_t run, const struct store_piece *pieces,
                          uint32_t pieces_len, char *why, size_t why_bytes);
/* malloc'd, the caller frees. -ENOENT: none. -EUCLEAN: damaged. -ENOMEM. */
int store_run_image_read(const char *folder, int64_t run, void **ret_image,
                         size_t *ret_image_bytes);
/* 0, also when there is none. */
int store_run_image_remove(const char *folder, int64_t run);

/* ---- encoders -------------------------------------------------------------------------------- */

struct store_encoder {
    int64_t id;
    int64_t model;      /* it was made for; 0: the base. It may be gone */
    int64_t parent;     /* -1: the base */
    int64_t run;        /* -1: none */
    const char *origin; /* "base", a strategy, "import"; borrowed for the callback */
    const char *state;  /* "base", "candidate", "live", "held", "refused", "removed" */
    uint32_t dim;       /* 0: not known (the base) */
    uint8_t sha256[STORE_HASH_BYTES]; /* of model.safetensors */
    int64_t created_us;
};
typedef int store_encoder_fn(void *ud, const struct store_encoder *row);

/* A candidate of this model; id and state are ignored. -EEXIST with *ret_id: these weights are the
 * base, a version that the model holds, or what this very run (taken up again) has added before. */
int store_encoder_add(struct store *store, const struct store_encoder *encoder, int64_t *ret_id);
/* "refused" or "removed", which takes the rows of its heads along; live and held come from
 * store_live_set. A run that ends without being accepted leaves its candidate refused by itself.
 * -ENOENT. -EBUSY: it is the base, or a model is served by it. */
int store_encoder_state(struct store *store, int64_t encoder, const char *state);
/* -ENOENT. */
int store_encoder_get(struct store *store, int64_t encoder, store_encoder_fn *fn, void *ud);
/* The base, what was made for this model, and what it once borrowed from another; by number. */
int store_encoder_scan(struct store *store, int64_t model, store_encoder_fn *fn, void *ud);
/* Removes what no row promises from encoders/: files of refused, removed and forgotten versions,
 * and of runs that have ended. Outside a transaction, after the act that made it waste; the
 * writer's opening does it too. 0 or -errno of the first that is still there. */
int store_encoder_sweep(struct store *store);

/* All of the bytes, however many calls that takes. 0 or -errno. */
int store_file_write_all(int fd, const void *bytes, size_t len);

/* File acts: any thread, no connection. */
int store_encoder_folder(const char *folder, int64_t encoder, char ret_path[STORE_PATH_BYTES]);
/* A new empty folder to write a version's files into. */
int store_encoder_begin(const char *folder, char *why, size_t why_bytes,
                        char ret_tmp[STORE_PATH_BYTES]);
/* Makes it the folder of a version: fsync of every file and folder in it, rename, fsync of
 * encoders/. A folder that is there already gives way. On failure it stays what it was, and tmp is
 * still the caller's. */
int store_encoder_install(const char *folder, const char *tmp, int64_t encoder, char *why,
                          size_t why_bytes);
/* Takes away a folder of store_encoder_begin that was not installed. */
int store_encoder_abandon(const char *tmp);
/* Takes away a version's folder and the images of its heads. 0, also when there are none. */
int store_encoder_remove_files(const char *folder, int64_t encoder);

/* ---- what is live ---------------------------------------------------------------------------- */

struct store_live {
    int64_t model, t_us, seq; /* the model's last event then */
    int64_t encoder, run;     /* run -1: none */
    char reason[16];          /* "created", "run", "import", "rollback", "probation" */
};
typedef int store_live_fn(void *ud, const struct store_live *row);

/* From now on the model is served by this encoder: the model's row, a line in the log, and the
 * state of both encoders, in the caller's transaction. -ENOENT: no such model or encoder. -ESTALE:
 * its files are gone (refused, removed). */
int store_live_set(struct store *store, int64_t model, int64_t encoder, int64_t run,
                   const char *reason, int64_t now_us);
/* What was live at a moment, and the last event by then: the version encoder.seq. -ENOENT: before
 * the model was. */
int store_live_at(struct store *store, int64_t model, int64_t t_us, int64_t *ret_encoder,
                  int64_t *ret_seq);
/* Every change, the newest first. */
int store_live_scan(struct store *store, int64_t model, store_live_fn *fn, void *ud);

#endif
