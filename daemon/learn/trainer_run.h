/* trainer_run.h -- one run, as the trainer's files hand it on from phase to phase.
 *
 * Private to daemon/learn (trainer*.c). Threads: the trainer's.
 */
#ifndef LEARND_TRAINER_RUN_H
#define LEARND_TRAINER_RUN_H

#include <pthread.h>

#include "daemon/learn/material.h"
#include "daemon/learn/stepper.h"
#include "daemon/learn/trainer.h"
#include "daemon/learn/yielding.h"
#include "daemon/serve/recent.h"
#include "kernels/train/plan.h"

enum { RUN_WHY_BYTES = STORE_REASON_BYTES_MAX };

struct trainer {
    struct trainer_parts parts;
    pthread_t thread;
    struct mailbox box;
    struct msg hint;
    atomic_bool hinted; /* something is to be looked at, */
    atomic_bool posted; /* and the box says so */
    atomic_bool stopping;
    struct stepper *stepper;
    int64_t retained_us;   /* when what is too old was cleared away last; 0: not yet */
    int64_t looked_us;     /* when the triggers were looked at last */
    atomic_bool automatic; /* trainer_parts's, as the last schedule says, */
    atomic_bool look;      /* which is new: look at once */
    atomic_int window_from, window_to;
    _Atomic double every_hours;
    atomic_llong yield_p99_us; /* as it was set last */
    atomic_bool running;
    atomic_ullong runs, accepted, refused, failed, cancelled, steps, examples, rollbacks, forced;
    atomic_ullong yields, yield_us;
    atomic_ullong reasons[GATE_REASONS];
    pthread_mutex_t now_lock;
    struct trainer_now now; /* run 0: none is under way */
};

struct event_file;

struct run {
    struct trainer *trainer;
    int64_t id, model;
    char model_name[LIVE_NAME_BYTES];
    char strategy[16];
    struct trainer_settings settings;
    uint64_t seed;
    int64_t since_seq;
    int64_t encoder;     /* what it made; -1: nothing yet */
    struct learned *old; /* the live pair's twin, at the run's position or later */
    struct learned *new; /* the candidate's */
    struct held_encoder *start;
    char start_folder[STORE_PATH_BYTES];
    struct material *material;
    uint32_t *rows; /* of the plan's rows: the material's */
    struct plan *plan;
    struct train *train;
    struct snapshot *teacher; /* replay: what the live pair says */
    struct trainer_progress progress;
    struct yielding yielding;
    int64_t yield_us; /* spent in it */
    const char *phase;
    int64_t phase_us, told_us, kept_us; /* monotonic: phase began; row written; checkpoint */
    uint64_t phase_first;               /* step at which this life of the phase began */
    uint64_t steps_done, steps;         /* of training; what the row says in the end */
    struct gate_verdict verdict;
    double margin;            /* that it was judged by */
    char why[RUN_WHY_BYTES];  /* of its end */
    struct event_file *board; /* trainer_board.c; NULL: none yet */
    bool board_off;           /* it failed */
};

/* How a phase ends: 0; -ECANCELED: somebody asked; -ESHUTDOWN: the daemon stops, and the run goes
 * on after the next start; another -errno: failed, run->why says it. */

/* trainer_keep.c: what the store is told. All wait until it is durable, but progress. */
int run_keep_state(struct run *run, const char *state, const char *phase);
void run_keep_progress(struct run *run, const char *phase, uint64_t step, uint64_t steps);
void run_keep_metric(struct run *run, uint64_t step, const struct train_report *report);
int run_keep_encoder(struct run *run, const struct store_encoder *encoder);
int run_keep_verdict(struct run *run, const char *state);
/* The pair is live: the store first, then the learner. */
int run_keep_swap(struct run *run);
/* Asked to stop? 0, -ECANCELED, -ESHUTDOWN. Also lets models follow the store. */
int run_checked(struct run *run);
/* Posts a change and waits for it. */
int trainer_keep(struct trainer *trainer, struct change *change);

/* trainer_plan.c */
int run_plan(struct run *run);
/* 0, or -errno, which is logged: a restart would then begin the run anew. */
int run_checkpoint(struct run *run);
/* trainer_steps.c */
int run_train(struct run *run);
/* trainer_yield.c. Waits while requests are slow: 0; no longer than that: -EAGAIN; or until
 * somebody wants something of the trainer: -EINTR. Any of the trainer's threads, one at a time. */
int run_yield(struct run *run, int64_t us_max);
/* trainer_build.c */
int run_write(struct run *run);
int run_import(struct run *run);
int run_rebuild(struct run *run);
/* A twin of a model with an encoder, caught up, fitted and audited. run NULL: cannot be cancelled.
 */
int trainer_twin(struct trainer *trainer, struct run *run, int64_t model,
                 struct held_encoder *encoder, struct learned **ret_learned);
/* trainer_gate.c */
int run_gate(struct run *run);

/* trainer_board.c: a step, the gate's figures; nothing where no folder is named */
void run_board_step(struct run *run, uint64_t step, const struct train_report *report);
void run_board_gate(struct run *run);

/* trainer.c: models whose live encoder is not the store's get it. */
int trainer_follow(struct trainer *trainer);

#endif
