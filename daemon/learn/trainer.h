/* trainer.h -- the slow path: fine-tunes an encoder on the journal in the background and puts it in
 * place of the live one, if it is shown not to be worse.
 *
 *   queued run -> planning: the journal's position is frozen, what it holds is read and split
 *   -> training: steps of kernels/train on an idle-priority thread (stepper.h), a checkpoint now
 *      and then, so that a restart goes on and ends in the same bits
 *   -> writing: encoders/<number>/, whole or not at all
 *   -> rebuilding: every example is embedded anew (learning work of the lanes) and learned by an
 *      exact head
 *   -> gating: old and new pair on the held-out texts (kernels/measure/gate.h)
 *   -> accepted: the store names the new encoder, the learner publishes the pair and watches it
 *      (succession.h). Refused: nothing changes but the run's row, which says why.
 *
 * One run at a time in a daemon. The queue is the store's table of runs; a hint only says "look".
 * Between two steps it also follows the store where an operator has gone back to another encoder,
 * and it starts runs by itself when a model is due (kernels/train/trigger.h).
 *
 * Every way a run can end is a state in its row with a reason; the live pair serves throughout.
 *
 * A run trains on the daemon's device, or on the CPU where that cannot take it; and it gives way to
 * requests (yielding.h) between steps and between the pieces of one.
 *
 * Threads: one of its own (nice 10) and the stepper's. hint from any.
 */
#ifndef LEARND_TRAINER_H
#define LEARND_TRAINER_H

#include "daemon/learn/learner.h"
#include "kernels/measure/gate.h"
#include "kernels/train/train.h"

struct trainer;

/* A run's settings, as its row's text says. */
struct trainer_settings {
    double epochs;
    uint64_t steps_max;    /* 0: as many as the epochs have */
    double minutes_max;    /* 0: no end; past it the run goes on with what it has */
    uint64_t examples_max; /* 0: all */
    uint32_t batch;
    struct train_settings train; /* but labels_len, steps, seed, threads, kind, fp32 */
    double margin;               /* of the gate; negative: its default */
    bool force;                  /* swap whatever the gate says; it is written down */
    char folder[1024];           /* import: what to import; "" else */
};

/* How a run is getting on. */
struct trainer_progress {
    double loss, lr, grad_norm; /* of late; NAN before the first step */
    double examples_per_s;      /* of late, NAN */
    double eta_s; /* to the end of this phase, by its speed so far; NAN: not known yet */
    uint64_t examples, held_out;
    uint32_t labels;
    bool resumed;
    uint64_t yields; /* pauses for the sake of requests, */
    double yield_s;  /* and how long they were in all */
    const char *device;
};

struct trainer_parts {
    struct learner_parts learner; /* store: a reader connection of the trainer's own */
    struct learner *to;           /* who adopts */
    struct device *device;        /* NULL: the CPU */
    struct recent *recent;        /* NULL: nobody is given way to */
    bool on_cpu;                  /* the device has no room for a run */
    uint32_t tokens_max;          /* of one piece; 0: as many as usual */
    int64_t yield_p99_us;         /* 0: never */
    const char *base;             /* folder of encoder 0 */
    const uint8_t *base_sha256;   /* as it was at the start */
    uint32_t threads;             /* cores of a step */
    bool fp32;
    bool automatic;  /* runs start by themselves, with settings_text, */
    int64_t look_us; /* looked for what is due so often */
    const char *settings_text;
    const char *tensorboard;    /* folder; NULL or "": runs are not written there */
    int window_from, window_to; /* but for drift only in these minutes of the day; equal: any */
    double every_hours;         /* a run on schedule; 0: none */
    uint32_t encoders_kept;     /* of a model, beside the live one; at least 1 */
    int64_t retention_days;     /* runs that ended before are forgotten; 0: never */
    int (*settings_read)(const char *text, struct trainer_settings *ret_settings);
    /* Texts for the run's row: malloc'd; NULL: no memory. */
    char *(*progress_write)(const struct trainer_progress *progress);
    char *(*verdict_write)(const struct gate_verdict *verdict, double margin, bool forced,
                           const struct live_labels *labels);
};

/* parts are copied, what they point to is borrowed. 0, -ENOMEM, -EAGAIN. */
int trainer_open(const struct trainer_parts *parts, struct trainer **ret_trainer);
/* When runs start by themselves from now on (as in the parts). Any thread. */
void trainer_schedule(struct trainer *trainer, bool automatic, int window_from, int window_to,
                      double every_hours);
/* The budget of requests that runs give way to from now on; 0: none. Any thread. */
void trainer_yield_to(struct trainer *trainer, int64_t p99_us);
/* Runs have been added or are to be cancelled, or a model is to follow its store. NULL is fine. */
void trainer_hint(struct trainer *trainer);
/* Ends the thread within a step; a run under way keeps a checkpoint and goes on after the next
 * start. Before the learner stops. NULL is fine. */
void trainer_close(struct trainer *trainer);

struct trainer_counts {
    uint64_t runs, accepted, refused, failed, cancelled, steps, examples, rollbacks;
    uint64_t forced;                /* of the accepted: against the gate */
    uint64_t reasons[GATE_REASONS]; /* what spoke against, by bit of enum gate_reason */
    uint64_t yields, yield_us;
    bool running;
};
struct trainer_counts trainer_counts(const struct trainer *trainer);

/* The run under way, as it was told of last: once a second and at every change of phase. */
struct trainer_now {
    int64_t run;
    char model[LIVE_NAME_BYTES];
    uint64_t step, steps;
    double loss, lr, grad_norm, examples_per_s, eta_s; /* NAN: not known */
};
/* False: none is. Any thread. */
bool trainer_now(struct trainer *trainer, struct trainer_now *ret_now);

#endif
