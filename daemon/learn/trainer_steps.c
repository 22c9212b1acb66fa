/* trainer_steps.c -- the steps of a run, one after the other, until its plan or its time is out.
 *
 * A step is arithmetic on the stepper's thread. Between two of them the trainer looks whether it is
 * asked to stop, gives way to requests, tells how it is getting on (once a second) and keeps a
 * checkpoint (once a minute, and when the daemon stops).
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/learn/embed.h"
#include "daemon/learn/trainer_run.h"

enum { TELL_US = 1000000, CHECKPOINT_US = 60000000, METRICS = 400, PACE_STEPS = 25 };

/* How many cores a step uses: one, or all that it may. All are quicker only while nobody else wants
 * them: a team at idle priority that has lost one core to others waits for it at every barrier (60
 * examples/s, where one core does 200). So it is tried now and then, and what was quicker of late
 * is used; results do not depend on it. */
struct pace {
    double rate[2]; /* tokens a second by one core, by all; 0: not tried yet */
    uint32_t steps;
    int now; /* which one */
};

struct step {
    struct run *run;
    struct train_example *batch;
    uint32_t len;
    struct train_report report;
};

struct teaching_rows {
    float *embeddings, *probabilities; /* (batch,C) fp32, (batch,L) */
    float *all;                        /* (batch, labels of the head) */
    struct head_answer *answers;
    void *scratch;
    struct work_item *items;
};

/* Between the pieces of a step, on the stepper's thread. */
static int give_way(void *ud)
{
    return run_yield(ud, INT64_MAX);
}

static int do_step(void *ud)
{
    struct step *s = ud;

    return train_step(s->run->train, s->batch, s->len, &s->report);
}

static uint32_t pace_threads(struct pace *p, uint32_t threads_max)
{
    int better = p->rate[1] >= p->rate[0];

    if (p->rate[0] == 0 || p->rate[1] == 0)
        p->now = p->rate[1] == 0;
    else
        p->now = ++p->steps % PACE_STEPS == 0 ? !better : better;
    return p->now ? threads_max : 1;
}

static void pace_took(struct pace *p, uint32_t tokens, int64_t us)
{
    double rate = (double)tokens / ((double)us + 1), *old = &p->rate[p->now];

    *old = *old == 0 ? rate : 0.7 * *old + 0.3 * rate;
}

/* ---- what the live pair says of old examples ------------------------------------------------- */

static void teacher_done(struct teaching_rows *t)
{
    free(t->embeddings);
    free(t->probabilities);
    free(t->all);
    free(t->answers);
    free(t->scratch);
    free(t->items);
}

static int teacher_open(const struct run *run, uint32_t batch, struct teaching_rows *t)
{
    uint32_t labels;
    size_t scratch;

    *t = (struct teaching_rows){0};
    if (run->teacher == NULL)
        return 0;
    labels = head_view_labels_len(run->teacher->view);
    scratch = (head_view_scratch_bytes(run->teacher->view, batch) + 63) / 64 * 64;
    t->embeddings = malloc((size_t)batch * run->start->dim * sizeof *t->embeddings);
    t->probabilities = malloc((size_t)batch * run->material->labels_len * sizeof *t->probabilities);
    t->all = malloc(((size_t)batch * labels + 1) * sizeof *t->all);
    t->answers = malloc(batch * sizeof *t->answers);
    t->scratch = aligned_alloc(64, scratch > 0 ? scratch : 64);
    t->items = malloc(batch * sizeof *t->items);
    return t->embeddings != NULL && t->probabilities != NULL && t->all != NULL &&
                   t->answers != NULL && t->scratch != NULL && t->items != NULL
               ? 0
               : -ENOMEM;
}

/* Fills teacher and embedding of the old examples, which stand at `which`. */
static int ask_teacher(struct run *run, struct teaching_rows *t, struct train_example *batch,
                       const uint32_t *which, uint32_t len)
{
    const struct material *m = run->material;
    uint32_t dim = run->start->dim, labels = head_view_labels_len(run->teacher->view);
    int rc;

    for (uint32_t i = 0; i < len; i++)
        t->items[i] = (struct work_item){.ids = batch[which[i]].ids,
                                         .types = batch[which[i]].types,
                                         .len = batch[which[i]].len,
                                         .embedding = t->embeddings + (size_t)i * dim};
    rc = embed_texts(run->trainer->parts.learner.batcher, run->start, t->items, len);
    if (rc == 0 && len > 0)
        rc = head_view_score(run->teacher->view, t->embeddings, len, NULL, t->scratch, t->answers,
                             t->all, NULL);
    for (uint32_t i = 0; i < len && rc == 0; i++) {
        float *row = t->probabilities + (size_t)i * m->labels_len;

        for (uint32_t l = 0; l < m->labels_len; l++)
            row[l] = t->all[(size_t)i * labels + m->columns[l]];
        batch[which[i]].teacher = row;
        batch[which[i]].teacher_len = m->labels_len;
        batch[which[i]].embedding = t->embeddings + (size_t)i * dim;
    }
    return rc;
}

/* ---- steps ----------------------------------------------------------------------------------- */

static int fill_batch(struct run *run, uint64_t step, uint32_t *rows, struct teaching_rows *t,
                      struct step *ret_step)
{
    uint32_t old[1024], old_len = 0, len;
    int rc = plan_batch(run->plan, step, rows, &len);

    if (rc != 0)
        return rc;
    for (uint32_t i = 0; i < len; i++) {
        uint32_t row = run->rows[rows[i]];

        ret_step->batch[i] = material_example(run->material, row);
        ret_step->batch[i].old =
            run->teacher != NULL && run->material->rows[row].seq <= run->since_seq;
        if (ret_step->batch[i].old && old_len < sizeof old / sizeof *old)
            old[old_len++] = i;
    }
    ret_step->len = len;
    return run->teacher != NULL ? ask_teacher(run, t, ret_step->batch, old, old_len) : 0;
}

/* Which step, and which texts were in it: by id, the texts themselves never leave the store. */
static int step_failed(struct run *run, uint64_t step, const struct step *s, int rc)
{
    size_t at = (size_t)snprintf(run->why, sizeof run->why, "step %llu: %s; examples",
                                 (unsigned long long)step,
                                 rc == -EDOM     ? "the loss or a gradient is not finite"
                                 : rc == -ENOMEM ? "out of memory, also for a batch in pieces"
                                 : rc == -EIO    ? "an operation of the device failed"
                                 : rc == -ENODEV ? "the device is lost"
                                                 : strerror(-rc));

    for (uint32_t i = 0; i < s->len && at + 20 < sizeof run->why; i++) {
        uint64_t key = s->batch[i].key;

        at += (size_t)snprintf(run->why + at, sizeof run->why - at, " ");
        for (int b = 0; b < 4; b++, key >>= 8) /* the first bytes, as the API writes ids */
            at += (size_t)snprintf(run->why + at, sizeof run->why - at, "%02x",
                                   (unsigned)(key & 255));
    }
    return rc;
}

static void tell(struct run *run, uint64_t step, uint64_t steps, const struct train_report *report,
                 uint64_t examples)
{
    double took = (double)(clock_us() - run->phase_us) / 1e6;
    struct trainer_progress *p = &run->progress;

    p->loss = isfinite(p->loss) ? 0.9 * p->loss + 0.1 * report->loss : report->loss;
    p->lr = report->lr;
    p->grad_norm = report->grad_norm;
    p->examples_per_s = (double)examples / took;
    p->eta_s = took / (double)(step - run->phase_first) * (double)(steps - step);
    if (step % (steps / METRICS + 1) == 0 || step == steps)
        run_keep_metric(run, step, report);
    if (clock_us() - run->told_us < TELL_US && step < steps)
        return;
    run_keep_progress(run, "training", step, steps);
}

static bool time_is_out(const struct run *run)
{
    return run->settings.minutes_max > 0 &&
           (double)(clock_us() - run->phase_us) > run->settings.minutes_max * 6e7;
}

static int paced_step(struct run *run, struct pace *pace, struct step *s)
{
    int64_t started = clock_us(), waited = run->yield_us;
    int rc;

    train_threads(run->train, pace_threads(pace, run->trainer->parts.threads));
    rc = stepper_run(run->trainer->stepper, do_step, s);
    if (rc == 0)
        pace_took(pace, s->report.tokens, clock_us() - started - (run->yield_us - waited));
    return rc;
}

/* -EINTR, -EAGAIN: it waited, and is to be taken again. */
static int next_step(struct run *run, uint64_t step, uint32_t *rows, struct teaching_rows *t,
                     struct pace *pace, struct step *s)
{
    int rc = run_yield(run, TELL_US);

    if (rc == 0)
        rc = fill_batch(run, step, rows, t, s);
    if (rc == 0)
        rc = paced_step(run, pace, s);
    if (rc == 0 || rc == -EINTR || rc == -EAGAIN)
        return rc;
    if (rc == -EIO || rc == -ENODEV)
        device_training_failed(run->trainer->parts.device, rc);
    return step_failed(run, step, s, rc);
}

static int steps(struct run *run, uint64_t steps_len, uint32_t *rows, struct teaching_rows *t,
                 struct step *s)
{
    struct pace pace = {.now = 1};
    uint64_t examples = 0;
    int rc = 0;

    run->phase_first = train_steps_done(run->train);
    run->phase_us = run->kept_us = clock_us();
    train_between(run->train, give_way, run);
    for (uint64_t step = run->phase_first; step < steps_len;) {
        rc = run_checked(run);
        if (rc == -ESHUTDOWN)
            (void)run_checkpoint(run);
        if (rc != 0 || time_is_out(run))
            break;
        rc = next_step(run, step, rows, t, &pace, s);
        if (rc == -EAGAIN)
            run_keep_progress(run, "training", step, steps_len);
        if (rc == -EINTR || rc == -EAGAIN)
            continue;
        if (rc != 0)
            break;
        examples += s->len;
        atomic_fetch_add(&run->trainer->steps, 1);
        atomic_fetch_add(&run->trainer->examples, s->len);
        run->steps_done = ++step;
        tell(run, step, steps_len, &s->report, examples);
        run_board_step(run, step, &s->report);
        if (clock_us() - run->kept_us > CHECKPOINT_US) {
            (void)run_checkpoint(run);
            run->kept_us = clock_us();
        }
    }
    return rc;
}

int run_train(struct run *run)
{
    struct plan_summary plan;
    struct step s = {.run = run};
    struct teaching_rows t;
    uint32_t *rows;
    int rc;

    plan_read(run->plan, &plan);
    rows = malloc((plan.batch_max + 1) * sizeof *rows);
    s.batch = calloc(plan.batch_max + 1, sizeof *s.batch);
    rc = teacher_open(run, plan.batch_max, &t);
    run->progress.loss = NAN;
    run->steps = plan.steps;
    run->steps_done = train_steps_done(run->train);
    if (rows == NULL || s.batch == NULL || rc != 0) {
        rc = -ENOMEM;
        snprintf(run->why, sizeof run->why, "out of memory");
    } else {
        rc = steps(run, plan.steps, rows, &t, &s);
    }
    teacher_done(&t);
    free(s.batch);
    free(rows);
    return rc;
}
