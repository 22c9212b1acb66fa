/* trainer_keep.c -- what the store is told of a run, through the keeper, and what it says back. */
#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/events.h"
#include "daemon/learn/trainer_run.h"

/* ---- waiting for a change -------------------------------------------------------------------- */

struct waiting {
    struct change change; /* first */
    struct change *inner;
    sem_t ready;
    int rc;
};

static int wait_write(struct change *change, struct store *store)
{
    struct waiting *w = (struct waiting *)change;
    int rc = w->inner->write != NULL ? w->inner->write(w->inner, store) : 0;

    change->model = w->inner->model;
    return rc;
}

static int wait_apply(struct change *change, struct learner *learner)
{
    struct waiting *w = (struct waiting *)change;

    return w->inner->apply(w->inner, learner);
}

static void wait_done(struct change *change, int rc)
{
    struct waiting *w = (struct waiting *)change;

    w->rc = rc;
    sem_post(&w->ready);
}

int trainer_keep(struct trainer *t, struct change *inner)
{
    struct waiting w = {.change = {.write = wait_write,
                                   .apply = inner->apply != NULL ? wait_apply : NULL,
                                   .done = wait_done,
                                   .after_commit = inner->after_commit,
                                   .grows = inner->grows,
                                   .model = inner->model},
                        .inner = inner};
    int rc;

    sem_init(&w.ready, 0, 0);
    rc = keeper_post(t->parts.learner.keeper, &w.change);
    if (rc == 0) {
        while (sem_wait(&w.ready) != 0)
            continue;
        rc = w.rc;
    }
    sem_destroy(&w.ready);
    return rc;
}

/* ---- the run's row --------------------------------------------------------------------------- */

/* For the metrics page. */
static void set_now(const struct run *run, bool running, uint64_t step, uint64_t steps)
{
    const struct trainer_progress *p = &run->progress;
    struct trainer *t = run->trainer;
    struct trainer_now now = {.step = step,
                              .steps = steps,
                              .loss = p->loss,
                              .lr = p->lr,
                              .grad_norm = p->grad_norm,
                              .examples_per_s = p->examples_per_s,
                              .eta_s = p->eta_s};

    now.run = running ? run->id : 0;
    memcpy(now.model, run->model_name, sizeof now.model);
    pthread_mutex_lock(&t->now_lock);
    t->now = now;
    pthread_mutex_unlock(&t->now_lock);
}

static void tell_bus(const struct run *run, const char *state, const char *phase, uint64_t step,
                     uint64_t steps)
{
    struct events_run e = {.model = run->model_name,
                           .run = run->id,
                           .strategy = run->strategy,
                           .state = state,
                           .phase = phase,
                           .step = (int64_t)step,
                           .steps = (int64_t)steps,
                           .loss = run->progress.loss,
                           .eta_s = run->progress.eta_s};

    set_now(run, strcmp(state, "running") == 0, step, steps);
    events_run(run->trainer->parts.learner.bus, &e);
}

struct row_change {
    struct change change; /* first */
    int64_t run;
    struct store_run_update update;
    char *progress, *verdict; /* owned */
    char reason[RUN_WHY_BYTES];
};

static int row_write(struct change *change, struct store *store)
{
    struct row_change *c = (struct row_change *)change;

    return store_run_update(store, c->run, &c->update);
}

static void row_done(struct change *change, int rc)
{
    struct row_change *c = (struct row_change *)change;

    (void)rc; /* of progress alone: the next second tells more */
    free(c->progress);
    free(c->verdict);
    free(c);
}

static struct row_change *row_new(const struct run *run)
{
    static const struct store_run_update keep = STORE_RUN_UPDATE_INIT;
    struct row_change *c = calloc(1, sizeof *c);

    if (c == NULL)
        return NULL;
    c->change = (struct change){.write = row_write, .done = row_done};
    c->run = run->id;
    c->update = keep;
    c->update.now_us = clock_unix_us();
    c->progress = run->trainer->parts.progress_write(&run->progress);
    c->update.progress = c->progress;
    if (run->steps > 0) {
        c->update.step = (int64_t)run->steps_done;
        c->update.steps = (int64_t)run->steps;
    }
    return c;
}

static int row_keep(struct run *run, struct row_change *c)
{
    int rc = c != NULL ? trainer_keep(run->trainer, &c->change) : -ENOMEM;

    if (c != NULL)
        row_done(&c->change, rc);
    return rc;
}

int run_keep_state(struct run *run, const char *state, const char *phase)
{
    struct row_change *c = row_new(run);

    run->phase = phase;
    run->phase_us = clock_us();
    if (c != NULL) {
        c->update.state = state;
        c->update.phase = phase;
        c->update.reason = run->why;
        if (run->old != NULL)
            c->update.from_seq = run->material != NULL ? run->material->seq : run->old->applied;
        if (run->start != NULL)
            c->update.parent = run->start->number;
        if (run->encoder >= 0)
            c->update.encoder = run->encoder;
    }
    tell_bus(run, state, phase, 0, 0);
    return row_keep(run, c);
}

void run_keep_progress(struct run *run, const char *phase, uint64_t step, uint64_t steps)
{
    struct row_change *c = row_new(run);

    run->told_us = clock_us();
    tell_bus(run, "running", phase, step, steps);
    if (c == NULL)
        return;
    c->update.phase = phase;
    c->update.step = (int64_t)step;
    c->update.steps = (int64_t)steps;
    if (keeper_post(run->trainer->parts.learner.keeper, &c->change) != 0)
        row_done(&c->change, 0);
}

struct metric_change {
    struct change change; /* first */
    int64_t run;
    struct store_run_metric metric;
};

static int metric_write(struct change *change, struct store *store)
{
    struct metric_change *c = (struct metric_change *)change;

    return store_run_metric_put(store, c->run, &c->metric);
}

static void metric_done(struct change *change, int rc)
{
    (void)rc; /* a point of a curve */
    free(change);
}

void run_keep_metric(struct run *run, uint64_t step, const struct train_report *report)
{
    struct metric_change *c = calloc(1, sizeof *c);

    if (c == NULL)
        return;
    c->change = (struct change){.write = metric_write, .done = metric_done};
    c->run = run->id;
    c->metric = (struct store_run_metric){.step = (int64_t)step,
                                          .loss = report->loss,
                                          .grad_norm = report->grad_norm,
                                          .lr = report->lr,
                                          .t_us = clock_unix_us()};
    if (keeper_post(run->trainer->parts.learner.keeper, &c->change) != 0)
        free(c);
}

/* ---- the encoder, the verdict, the swap ------------------------------------------------------ */

struct encoder_change {
    struct change change; /* first */
    const struct store_encoder *encoder;
    int64_t id;
};

static int encoder_write(struct change *change, struct store *store)
{
    struct encoder_change *c = (struct encoder_change *)change;
    int rc = store_encoder_add(store, c->encoder, &c->id);

    return rc == -EEXIST ? 0 : rc; /* the same weights have a number already */
}

int run_keep_encoder(struct run *run, const struct store_encoder *encoder)
{
    struct encoder_change c = {.change = {.write = encoder_write}, .encoder = encoder};
    int rc = trainer_keep(run->trainer, &c.change);

    if (rc == 0)
        run->encoder = c.id;
    return rc;
}

static void add_verdict(struct run *run, struct row_change *c)
{
    c->verdict = run->trainer->parts.verdict_write(&run->verdict, run->margin,
                                                   run->settings.force && !run->verdict.accepted,
                                                   run->new->labels);
    c->update.verdict = c->verdict;
}

int run_keep_verdict(struct run *run, const char *state)
{
    struct row_change *c = row_new(run);

    if (c != NULL) {
        add_verdict(run, c);
        c->update.state = state;
        c->update.phase = "done";
        c->update.reason = run->why;
    }
    tell_bus(run, state, "done", 0, 0);
    return row_keep(run, c);
}

struct swap_change {
    struct change change; /* first */
    struct run *run;
    struct row_change *row;
    int64_t now_us;
};

static int swap_write(struct change *change, struct store *store)
{
    struct swap_change *c = (struct swap_change *)change;
    const struct run *run = c->run;
    bool import = strcmp(run->strategy, "import") == 0;
    int rc = store_live_set(store, run->model, run->new->encoder->number, run->id,
                            import ? "import" : "run", c->now_us);

    return rc == 0 ? store_run_update(store, run->id, &c->row->update) : rc;
}

static int swap_apply(struct change *change, struct learner *learner)
{
    struct swap_change *c = (struct swap_change *)change;

    return learner_adopt(learner, c->run->new, c->run->id);
}

int run_keep_swap(struct run *run)
{
    struct swap_change c = {
        .change = {.write = swap_write, .apply = swap_apply, .model = run->model},
        .run = run,
        .row = row_new(run),
        .now_us = clock_unix_us()};
    int rc;

    if (c.row == NULL)
        return -ENOMEM;
    add_verdict(run, c.row);
    c.row->update.state = "accepted";
    c.row->update.phase = "done";
    c.row->update.reason = run->why;
    rc = trainer_keep(run->trainer, &c.change);
    row_done(&c.row->change, rc);
    if (rc == 0) {
        run->new = NULL; /* the learner's */
        tell_bus(run, "accepted", "done", 0, 0);
    }
    return rc;
}

/* ---- asked to stop? -------------------------------------------------------------------------- */

static int read_cancel(void *ud, const struct store_run *row)
{
    *(bool *)ud = row->cancel || strcmp(row->state, "running") != 0;
    return 0;
}

int run_checked(struct run *run)
{
    struct trainer *t = run->trainer;
    bool cancel = false;
    int rc;

    if (atomic_load(&t->stopping))
        return -ESHUTDOWN;
    if (!atomic_exchange(&t->hinted, false))
        return 0;
    rc = store_begin(t->parts.learner.store);
    if (rc == 0) {
        rc = store_run_get(t->parts.learner.store, run->id, read_cancel, &cancel);
        store_rollback(t->parts.learner.store);
    }
    if (rc == -ENOENT || cancel) { /* with its model, or by itself */
        snprintf(run->why, sizeof run->why, rc == -ENOENT ? "the model was removed" : "asked to");
        return -ECANCELED;
    }
    (void)trainer_follow(t);
    return 0;
}
