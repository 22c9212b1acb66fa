/* plan.h -- which rows a run trains on, step by step, before it starts.
 *
 * A plan is a function of the SET of rows, the settings and the seed: the order in which rows are
 * given does not matter. Every batch can be asked for by its step alone, so a run that resumes
 * needs no state of the plan's. Randomness is counter-based, keyed by the seed.
 *
 *   joint   epochs over everything. Past examples_max a sample without replacement: every label the
 *           same number of rows, or all it has; of a label's the newer ones more likely.
 *   replay  half of each batch from epochs over the new rows, half old ones drawn with a chance in
 *           proportion to 1/sqrt(rows of their label). Without old rows: new ones alone.
 *   naive   epochs over the new rows alone.
 *   head    no steps.
 *
 * Held-out rows (plan_held_out) are never in a batch: a plan leaves them out by itself.
 *
 * Within an epoch every row comes once. Its batches differ by at most one row, and hold short and
 * long texts in like shares, so that steps cost about the same (packed batches need no sorting by
 * length).
 *
 * Frozen after plan_open; any thread may ask.
 */
#ifndef LEARND_PLAN_H
#define LEARND_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PLAN_STEPS_MAX = 1 << 30 };

struct plan;

enum plan_strategy { PLAN_JOINT, PLAN_REPLAY, PLAN_NAIVE, PLAN_HEAD };
const char *plan_strategy_name(enum plan_strategy strategy); /* "joint", .. */

struct plan_row {
    uint64_t hi, lo; /* the example's id, as struct head_id; no id twice */
    uint32_t label;  /* the strongest; any number */
    uint32_t len;    /* tokens */
    int64_t seq;     /* of the event that taught it last */
    bool old;        /* from before the last run. Read by replay and naive */
};

struct plan_settings {
    enum plan_strategy strategy;
    uint32_t batch;        /* rows of a step, at least 1 (replay: 2); 32 */
    uint32_t epochs;       /* at least 1; 4 */
    uint64_t steps_min;    /* more epochs where they have fewer steps; 300 */
    uint64_t steps_max;    /* fewer, to the step; 0: no limit. Wins over steps_min */
    uint64_t examples_max; /* rows that epochs go over; 0: no limit */
    uint64_t seed;
};
/* The values above, joint, seed 0. */
extern const struct plan_settings plan_settings_default;

/* Is a text kept out of encoder training? One in ten, by the first eight bytes of the SHA-256 over
 * the text (the id's hi, most significant first) modulo 10: the same for every model that holds it,
 * and for ever. */
bool plan_held_out(uint64_t hi);

/* Copies what it needs. 0; -EINVAL: settings out of range, an id twice; -ENODATA: no row to train
 * on (not for PLAN_HEAD); -ENOMEM. */
int plan_open(const struct plan_row *rows, uint32_t len, const struct plan_settings *settings,
              struct plan **ret_plan);
void plan_close(struct plan *plan); /* NULL is fine */

struct plan_summary {
    uint64_t steps, steps_per_epoch;
    uint32_t batch_max;                  /* rows of the largest batch */
    uint32_t rows_len;                   /* that epochs go over, */
    uint32_t old_len;                    /* and (replay) that old ones are drawn from */
    uint32_t held_out_len, left_out_len; /* held out; past the budget */
    uint32_t labels_len;                 /* different ones among both */
    uint64_t tokens;                     /* of one epoch's rows */
    uint64_t digest; /* of everything that batches follow from: for checkpoints */
};
void plan_read(const struct plan *plan, struct plan_summary *ret_summary);

/* The rows of a step as indices into plan_open's rows, none twice; rows (batch_max). -ERANGE: the
 * run has no such step. */
int plan_batch(const struct plan *plan, uint64_t step, uint32_t *rows, uint32_t *ret_len);

#endif
