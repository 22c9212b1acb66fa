/* trainer.c -- see trainer.h. The thread: what waits in the store, phase after phase, and models
 * that are to follow the store.
 */
#include "daemon/learn/trainer.h"

#include <errno.h>
#include <malloc.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "daemon/clock.h"
#include "daemon/events.h"
#include "daemon/learn/event_file.h"
#include "daemon/learn/trainer_due.h"
#include "daemon/learn/trainer_run.h"
#include "daemon/log.h"

enum { NICE = 10 };

/* ---- one run --------------------------------------------------------------------------------- */

static void run_done(struct run *run)
{
    learned_close(run->old);
    learned_close(run->new);
    encoders_put(run->start);
    train_close(run->train);
    plan_close(run->plan);
    material_free(run->material);
    free(run->rows);
    live_put(run->teacher);
    event_file_close(run->board);
    encoders_sweep(run->trainer->parts.learner.encoders);
    (void)malloc_trim(0); /* the small ones of a run are many, and another may be a day away */
}

struct naming {
    struct run *run;
    int64_t encoder;
    bool found, vectors;
};

static int name_model(void *ud, const struct store_model *row)
{
    struct naming *n = ud;
    struct learner_settings settings;

    if (row->id != n->run->model)
        return 0;
    n->found = true;
    n->encoder = row->encoder;
    snprintf(n->run->model_name, sizeof n->run->model_name, "%s", row->name);
    if (n->run->trainer->parts.learner.settings_read(row->settings, &settings) == 0)
        n->vectors = settings.dim > 0;
    return 0;
}

/* The live pair's twin. */
static int open_old(struct run *run)
{
    struct trainer *t = run->trainer;
    struct naming n = {.run = run};
    struct held_encoder *held = NULL;
    int rc = store_begin(t->parts.learner.store);

    if (rc == 0) {
        rc = store_model_scan(t->parts.learner.store, name_model, &n);
        store_rollback(t->parts.learner.store);
    }
    if (rc == 0 && !n.found)
        rc = -ENOENT;
    if (rc != 0 || n.vectors) {
        snprintf(run->why, sizeof run->why, "%s",
                 n.vectors ? "the model takes vectors: it has no encoder" : "the model is gone");
        return rc != 0 ? rc : -EINVAL;
    }
    rc = encoders_get(t->parts.learner.encoders, n.encoder, run->why, sizeof run->why, &held);
    if (rc == 0)
        rc = trainer_twin(t, run, run->model, held, &run->old);
    encoders_put(held);
    if (rc != 0 && run->why[0] == '\0')
        snprintf(run->why, sizeof run->why, "the live head cannot be rebuilt: %s", strerror(-rc));
    return rc;
}

/* From the examples, or the folder, to an encoder with a number. */
static int make_encoder(struct run *run)
{
    int rc;

    if (run->encoder >= 0) /* an earlier life of the run came so far */
        return 0;
    if (strcmp(run->strategy, "head") == 0) {
        run->encoder = run->old->encoder->number;
        return 0;
    }
    if (strcmp(run->strategy, "import") == 0) {
        rc = run_keep_state(run, "running", "writing");
        return rc == 0 ? run_import(run) : rc;
    }
    rc = run_plan(run);
    if (rc == 0)
        rc = run_keep_state(run, "running", "training");
    if (rc == 0)
        rc = run_train(run);
    if (rc == 0)
        rc = run_keep_state(run, "running", "writing");
    if (rc == 0)
        rc = run_write(run);
    train_close(run->train); /* its memory is wanted elsewhere */
    run->train = NULL;
    return rc;
}

/* The verdict is in: swap, or leave everything as it is. */
static int conclude(struct run *run)
{
    bool same = run->encoder == run->old->encoder->number && strcmp(run->strategy, "head") != 0;
    char numbers[160];

    for (int i = 0; i < GATE_REASONS; i++)
        atomic_fetch_add(&run->trainer->reasons[i], run->verdict.reasons >> i & 1);
    snprintf(numbers, sizeof numbers, "%.4f -> %.4f of %llu, won %llu, lost %llu",
             run->verdict.accuracy_old, run->verdict.accuracy_new,
             (unsigned long long)run->verdict.items, (unsigned long long)run->verdict.won,
             (unsigned long long)run->verdict.lost);
    if (same)
        snprintf(run->why, sizeof run->why, "the weights are those of the live encoder");
    if (same || (!run->verdict.accepted && !run->settings.force)) {
        log_info("trainer", "event", "refused", "model", run->model_name, "why", run->why,
                 "held_out", numbers, NULL);
        atomic_fetch_add(&run->trainer->refused, 1);
        return run_keep_verdict(run, "refused");
    }
    if (!run->verdict.accepted) {
        char why[RUN_WHY_BYTES];

        atomic_fetch_add(&run->trainer->forced, 1);
        snprintf(why, sizeof why, "forced against: %.300s", run->why);
        memcpy(run->why, why, sizeof why);
    }
    log_info("trainer", "event", "accepted", "model", run->model_name, "held_out", numbers, "why",
             run->why, NULL);
    return run_keep_swap(run);
}

static int phases(struct run *run)
{
    int rc = run_keep_state(run, "running", "planning");

    if (rc == 0)
        rc = open_old(run);
    if (rc == 0)
        rc = make_encoder(run);
    if (rc == 0)
        rc = run_keep_state(run, "running", "rebuilding");
    if (rc == 0)
        rc = run_rebuild(run);
    if (rc == 0)
        rc = run_keep_state(run, "running", "gating");
    if (rc == 0)
        rc = run_gate(run);
    if (rc == 0)
        run_board_gate(run);
    return rc == 0 ? conclude(run) : rc;
}

/* False: the store could not be told, and still says that the run is to be done. */
static bool end(struct run *run, int rc)
{
    struct trainer *t = run->trainer;
    bool told = true;
    char id[24];

    if (rc == -ESHUTDOWN) {
        log_info("trainer", "event", "interrupted", "model", run->model_name, "phase", run->phase,
                 NULL);
        return false; /* the row says running: it goes on after the next start */
    }
    if (rc == 0) {
        atomic_fetch_add(&t->accepted, run->new == NULL);
    } else if (rc != -EALREADY) { /* cancelled between the queue and here: its row says so */
        bool cancelled = rc == -ECANCELED;

        if (run->why[0] == '\0')
            snprintf(run->why, sizeof run->why, "%s", strerror(-rc));
        atomic_fetch_add(cancelled ? &t->cancelled : &t->failed, 1);
        snprintf(id, sizeof id, "%lld", (long long)run->id);
        log_warn("trainer", "event", cancelled ? "cancelled" : "failed", "model", run->model_name,
                 "run", id, "phase", run->phase, "why", run->why, NULL);
        if (!cancelled)
            events_warning(t->parts.learner.bus, run->model_name, "run_failed", run->why);
        rc = run_keep_state(run, cancelled ? "cancelled" : "failed", "done");
        told = rc == 0 || rc == -ENOENT || rc == -EALREADY;
    }
    (void)store_run_image_remove(t->parts.learner.folder, run->id);
    trainer_sweep(t, run->model);
    return told;
}

static int take_run(void *ud, const struct store_run *row)
{
    struct run *run = ud;
    struct snapshot *s = live_get_by_id(run->trainer->parts.learner.live, row->model);

    if (s != NULL)
        memcpy(run->model_name, s->model_name, sizeof run->model_name);
    live_put(s);
    run->id = row->id;
    run->model = row->model;
    run->seed = row->seed;
    run->since_seq = row->since_seq;
    run->encoder = row->encoder;
    snprintf(run->strategy, sizeof run->strategy, "%s", row->strategy);
    if (run->trainer->parts.settings_read(row->settings, &run->settings) != 0)
        snprintf(run->why, sizeof run->why, "the run's settings cannot be read");
    return 0;
}

/* True: there was one, and there may be another. */
static bool do_next(struct trainer *t)
{
    struct run run = {.trainer = t,
                      .phase = "planning",
                      .progress = {.loss = NAN,
                                   .lr = NAN,
                                   .grad_norm = NAN,
                                   .examples_per_s = NAN,
                                   .eta_s = NAN,
                                   .device = device_backend(t->parts.device)->name}};
    int rc = store_begin(t->parts.learner.store);
    bool ended;

    if (rc == 0) {
        rc = store_run_next(t->parts.learner.store, take_run, &run);
        store_rollback(t->parts.learner.store);
    }
    if (rc != 0)
        return false;
    atomic_store(&t->running, true);
    atomic_fetch_add(&t->runs, 1);
    rc = run.why[0] == '\0' ? phases(&run) : -EINVAL;
    ended = end(&run, rc);
    run_done(&run);
    atomic_store(&t->running, false);
    return ended; /* else it is tried again after a while: a full disk is emptied */
}

/* ---- following the store --------------------------------------------------------------------- */

struct follow_change {
    struct change change; /* first */
    int64_t model, encoder;
    struct learned *candidate;
};

static int still_wanted(void *ud, const struct store_model *row)
{
    const struct follow_change *c = ud;

    return row->id == c->model && row->encoder == c->encoder;
}

/* A probation that went back meanwhile has told the store so, before this in the keeper's box. */
static int follow_write(struct change *change, struct store *store)
{
    int rc = store_model_scan(store, still_wanted, change);

    return rc == 1 ? 0 : rc == 0 ? -ESTALE : rc;
}

static int follow_apply(struct change *change, struct learner *learner)
{
    return learner_adopt(learner, ((struct follow_change *)change)->candidate, -1);
}

static int at_hand_apply(struct change *change, struct learner *learner)
{
    const struct follow_change *c = (struct follow_change *)change;

    return learner_follow(learner, c->model, c->encoder);
}

static int follow(struct trainer *t, int64_t model, int64_t encoder)
{
    struct follow_change at_hand = {.change = {.write = follow_write, .apply = at_hand_apply},
                                    .model = model,
                                    .encoder = encoder};
    struct follow_change c = {.change = {.write = follow_write, .apply = follow_apply},
                              .model = model,
                              .encoder = encoder};
    struct held_encoder *held = NULL;
    char why[256] = "";
    int rc = trainer_keep(t, &at_hand.change);

    if (rc != -ENOENT) {
        atomic_fetch_add(&t->rollbacks, rc == 0);
        return rc == -ESTALE ? 0 : rc;
    }
    rc = encoders_get(t->parts.learner.encoders, encoder, why, sizeof why, &held);
    if (rc == 0)
        rc = trainer_twin(t, NULL, model, held, &c.candidate);
    encoders_put(held);
    if (rc == 0)
        rc = trainer_keep(t, &c.change);
    if (rc != 0)
        learned_close(c.candidate);
    if (rc == -ESTALE)
        return 0;
    if (rc != 0) {
        log_error("trainer", "event", "cannot_follow", "why", why[0] != '\0' ? why : strerror(-rc),
                  NULL);
        events_warning(t->parts.learner.bus, NULL, "rollback_failed",
                       why[0] != '\0' ? why : strerror(-rc));
        return rc;
    }
    atomic_fetch_add(&t->rollbacks, 1);
    return 0;
}

struct behind {
    struct trainer *trainer;
    int64_t model, encoder; /* the first one found; 0: none */
};

static int find_behind(void *ud, const struct store_model *row)
{
    struct behind *b = ud;
    struct snapshot *s = live_get_by_id(b->trainer->parts.learner.live, row->id);
    bool differs = s != NULL && !s->vectors && s->encoder->number != row->encoder;

    live_put(s);
    if (!differs)
        return 0;
    b->model = row->id;
    b->encoder = row->encoder;
    return 1;
}

int trainer_follow(struct trainer *t)
{
    for (;;) {
        struct behind b = {.trainer = t};
        int rc = store_begin(t->parts.learner.store);

        if (rc != 0)
            return rc;
        rc = store_model_scan(t->parts.learner.store, find_behind, &b);
        store_rollback(t->parts.learner.store);
        if (rc != 1)
            return rc;
        rc = follow(t, b.model, b.encoder);
        if (rc != 0)
            return rc;
    }
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void *work(void *arg)
{
    struct trainer *t = arg;

    pthread_setname_np(pthread_self(), "trainer");
    (void)setpriority(PRIO_PROCESS, 0, NICE); /* on Linux: of this thread */
    trainer_watch(t);
    while (!atomic_load(&t->stopping)) {
        atomic_store(&t->hinted, false);
        (void)trainer_follow(t);
        if (do_next(t))
            continue;
        if (atomic_load(&t->automatic) &&
            (atomic_exchange(&t->look, false) || clock_us() - t->looked_us >= t->parts.look_us)) {
            t->looked_us = clock_us();
            if (trainer_look(t))
                continue;
        }
        trainer_retain(t);
        if (mailbox_wait(&t->box, t->parts.look_us) != NULL) {
            atomic_store(&t->posted, false);
            trainer_sweep(t, 0); /* a model may have been removed */
        } else if (mailbox_closed(&t->box)) {
            break;
        }
    }
    return NULL;
}

void trainer_yield_to(struct trainer *t, int64_t p99_us)
{
    atomic_store(&t->yield_p99_us, p99_us);
}

void trainer_hint(struct trainer *t)
{
    if (t == NULL)
        return;
    atomic_store(&t->hinted, true);
    if (!atomic_exchange(&t->posted, true))
        (void)mailbox_post(&t->box, &t->hint);
}

void trainer_schedule(struct trainer *t, bool automatic, int window_from, int window_to,
                      double every_hours)
{
    atomic_store(&t->automatic, automatic);
    atomic_store(&t->window_from, window_from);
    atomic_store(&t->window_to, window_to);
    atomic_store(&t->every_hours, every_hours);
    atomic_store(&t->look, true);
    trainer_hint(t);
}

int trainer_open(const struct trainer_parts *parts, struct trainer **ret_trainer)
{
    struct trainer *t = calloc(1, sizeof *t);
    int rc;

    if (t == NULL)
        return -ENOMEM;
    t->parts = *parts;
    trainer_yield_to(t, parts->yield_p99_us);
    pthread_mutex_init(&t->now_lock, NULL);
    rc = mailbox_init(&t->box, UINT32_MAX); /* it holds one hint at most */
    if (rc != 0) {
        free(t);
        return rc;
    }
    trainer_schedule(t, parts->automatic, parts->window_from, parts->window_to, parts->every_hours);
    rc = stepper_open(&t->stepper);
    if (rc == 0)
        rc = -pthread_create(&t->thread, NULL, work, t);
    if (rc != 0) {
        stepper_close(t->stepper);
        (void)mailbox_take(&t->box);
        mailbox_done(&t->box);
        free(t);
        return rc;
    }
    *ret_trainer = t;
    return 0;
}

void trainer_close(struct trainer *t)
{
    if (t == NULL)
        return;
    atomic_store(&t->stopping, true);
    mailbox_close(&t->box);
    pthread_join(t->thread, NULL);
    stepper_close(t->stepper);
    (void)mailbox_take(&t->box); /* a hint that nobody has looked at */
    mailbox_done(&t->box);
    pthread_mutex_destroy(&t->now_lock);
    free(t);
}

struct trainer_counts trainer_counts(const struct trainer *t)
{
    struct trainer_counts c = {.runs = atomic_load(&t->runs),
                               .accepted = atomic_load(&t->accepted),
                               .refused = atomic_load(&t->refused),
                               .failed = atomic_load(&t->failed),
                               .cancelled = atomic_load(&t->cancelled),
                               .steps = atomic_load(&t->steps),
                               .examples = atomic_load(&t->examples),
                               .rollbacks = atomic_load(&t->rollbacks),
                               .forced = atomic_load(&t->forced),
                               .yields = atomic_load(&t->yields),
                               .yield_us = atomic_load(&t->yield_us),
                               .running = atomic_load(&t->running)};

    for (int i = 0; i < GATE_REASONS; i++)
        c.reasons[i] = atomic_load(&t->reasons[i]);
    return c;
}

bool trainer_now(struct trainer *t, struct trainer_now *ret_now)
{
    struct trainer_now now;

    pthread_mutex_lock(&t->now_lock);
    now = t->now;
    pthread_mutex_unlock(&t->now_lock);
    if (now.run == 0)
        return false;
    *ret_now = now;
    return true;
}
