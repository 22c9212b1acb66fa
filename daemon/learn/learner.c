/* learner.c -- see learner.h. The thread: its box, its rounds, what it does when nothing comes.
 *
 * Idle work has an order of urgency: events first (a correction counts at once), then the questions
 * that have come since ASKED_US (a few milliseconds of arithmetic), then fitting a
 * model that has been quiet for SETTLE_US, then the steps of its audit from AUDIT_US on, then
 * saving one that has been quiet for SAVE_US. Under a steady stream of corrections nothing but the
 * corrections runs, until fit_is_cheap() or SAVE_EVENTS says otherwise. An audit works on a copy,
 * so it goes on where it was when corrections come between its steps.
 */
#include "daemon/learn/learner.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/events.h"
#include "daemon/learn/judge.h"
#include "daemon/learn/succession.h"
#include "daemon/log.h"
#include "daemon/metrics.h"

enum {
    SETTLE_US = 150000,
    AUDIT_US = 500000,
    SAVE_US = 3000000,
    SAVE_EVENTS = 8192,
    RETRY_US = 1000000,   /* after a failed round */
    ASKED_US = 250000,    /* questions are gathered for so long, so that a wake is worth it */
    FIGURES_US = 1000000, /* between two settings of what /metrics shows of a model */
};

struct learner {
    pthread_t thread;
    struct learner_parts parts;
    char *folder;
    bool stopped; /* the thread has been joined */
    struct mailbox box;
    struct msg hint, asked_hint;
    atomic_bool hinted, asked_hinted;
    int64_t asked_us; /* monotonic, when they are looked at; 0: there are none */
    struct figures_table *figures;
    struct change *waiting; /* for their seq to be live, in order of arrival */
    struct learned **models;
    uint32_t models_len;
    int64_t retry_us; /* monotonic; no round before, after a failure. 0: none failed */
    atomic_ullong events, examples, publishes, fits, audits, failures, embedded, behind;
    atomic_llong apply_us_last, publish_us_last, fit_us_last;
    atomic_llong hinted_us; /* monotonic, of the hint in the box */
    atomic_llong since_us;  /* of the first hint that is not worked off; 0: all are */
};

static struct learned **slot_of(struct learner *l, int64_t model)
{
    for (uint32_t i = 0; i < l->models_len; i++)
        if (l->models[i]->model == model)
            return &l->models[i];
    return NULL;
}

static struct learned *find(struct learner *l, int64_t model)
{
    struct learned **slot = slot_of(l, model);

    return slot != NULL ? *slot : NULL;
}

static void count(struct learner *l, const struct learned_round *r)
{
    atomic_fetch_add(&l->events, r->events);
    atomic_fetch_add(&l->examples, r->examples);
    atomic_fetch_add(&l->embedded, r->embedded);
    if (r->events > 0 || r->fitted || r->finished)
        atomic_fetch_add(&l->publishes, 1);
    if (r->finished)
        atomic_fetch_add(&l->audits, 1);
    if (r->events > 0) {
        atomic_store(&l->apply_us_last, r->apply_us);
        atomic_store(&l->publish_us_last, r->publish_us);
        metrics_observe(METRICS_SPAN_APPLY, r->apply_us);
        metrics_observe(METRICS_SPAN_PUBLISH, r->publish_us);
    }
    if (r->fitted) {
        atomic_fetch_add(&l->fits, 1);
        atomic_store(&l->fit_us_last, r->fit_us);
    }
}

/* ---- waiting changes ------------------------------------------------------------------------- */

static void wait_for(struct learner *l, struct change *c)
{
    struct change **at = &l->waiting;

    while (*at != NULL)
        at = (struct change **)&(*at)->msg.next;
    c->msg.next = NULL;
    *at = c;
}

/* Answers the waiting changes of a model (0: of all) that are applied, or every one of them with an
 * error. */
static void wake(struct learner *l, int64_t model, int error)
{
    struct change **at = &l->waiting;

    while (*at != NULL) {
        struct change *c = *at;
        struct learned *m = find(l, c->model);

        if ((model != 0 && c->model != model) || (error == 0 && m != NULL && m->applied < c->seq)) {
            at = (struct change **)&c->msg.next;
            continue;
        }
        *at = (struct change *)c->msg.next;
        c->done(c, error != 0 ? error : m != NULL ? 0 : -ENOENT);
    }
}

/* ---- rounds ---------------------------------------------------------------------------------- */

/* One round of one model. True: there may be more. */
static bool catch_up(struct learner *l, struct learned **slot)
{
    struct learned *m = *slot;
    struct learned_round r = {0};
    int rc = learned_catch_up(m, &l->parts, &r);

    if (rc != 0) {
        atomic_fetch_add(&l->failures, 1);
        log_error("learner", "event", "round_failed", "model", m->name, "error", strerror(-rc),
                  NULL);
        events_warning(l->parts.bus, m->name, "round_failed", strerror(-rc));
        l->retry_us = clock_us() + RETRY_US;
        wake(l, m->model, rc);
        return false;
    }
    count(l, &r);
    m->figures_stale |= r.events > 0;
    if (r.events > 0) {
        if (l->since_us != 0)
            metrics_observe(METRICS_SPAN_LEARN, clock_us() - l->since_us);
        wake(l, m->model, 0);
        succession_round(slot, &r, &l->parts);
    }
    learned_round_done(&r);
    return r.more;
}

static bool catch_up_all(struct learner *l)
{
    bool more = false;

    l->retry_us = 0;
    for (uint32_t i = 0; i < l->models_len; i++)
        more |= catch_up(l, &l->models[i]);
    atomic_store(&l->behind, more);
    if (!more && l->retry_us == 0)
        atomic_store(&l->since_us, 0);
    return more;
}

static void save(struct learner *l, struct learned *m)
{
    if (learned_save(m, &l->parts) != 0)
        atomic_fetch_add(&l->failures, 1);
    m->changed_us = clock_us(); /* a failed save is not tried again before SAVE_US */
}

/* Does the step that is due for a model now. False: none is; then *wait_us is when one will be, or
 * -1. */
static bool step(struct learner *l, struct learned *m, int64_t now, int64_t *wait_us)
{
    int64_t quiet = now - m->changed_us;
    struct learned_round r = {0};
    int rc;

    *wait_us = -1;
    if (m->ahead) /* until the failed round has been repeated */
        return false;
    if (m->unsaved >= SAVE_EVENTS ||
        (m->fitted && m->audited && m->unsaved > 0 && quiet >= SAVE_US)) {
        save(l, m);
        return true;
    }
    if (!m->fitted && quiet >= SETTLE_US) {
        rc = learned_settle(m, &l->parts, &r);
    } else if (m->fitted && !m->audited && quiet >= AUDIT_US) {
        rc = learned_audit(m, &l->parts, &r);
    } else if (m->fitted && m->audited && m->rival != NULL && !m->rival->shadow->fitted &&
               quiet >= SETTLE_US) { /* so that a probation compares like with like */
        rc = learned_settle(m->rival->shadow, &l->parts, &r);
        m->rival->shadow->fitted = true; /* also when it failed: it is not tried again at once */
    } else {
        int64_t due = !m->fitted ? SETTLE_US : !m->audited ? AUDIT_US : SAVE_US;

        if (!m->fitted || !m->audited || m->unsaved > 0)
            *wait_us = due - quiet;
        return false;
    }
    if (rc == 0) {
        count(l, &r);
        m->figures_stale |= r.fitted || r.finished;
    } else {
        atomic_fetch_add(&l->failures, 1);
        events_warning(l->parts.bus, m->name, "settle_failed", strerror(-rc));
        m->changed_us = clock_us(); /* not tried again at once */
    }
    return true;
}

static void watch_questions(struct learner *l)
{
    const struct asked_row *rows;
    uint32_t len;

    l->asked_us = 0;
    atomic_store(&l->asked_hinted, false);
    len = asked_take(l->parts.asked, &rows);
    for (uint32_t i = 0; i < len; i++) {
        struct learned *m = find(l, rows[i].model);

        if (m == NULL || m->ahead || rows[i].encoder != m->encoder->number ||
            rows[i].dim != head_settings(m->head)->dim)
            continue;
        judge_ask(m->judge, m, &l->parts, &rows[i]);
        m->asked = m->figures_stale = true;
    }
    asked_done(l->parts.asked);
}

/* Shortens a wait, negative: for ever, to what is left of one that ends at `due`. */
static int64_t sooner(int64_t wait, int64_t due, int64_t now)
{
    int64_t left = due > now ? due - now : 0;

    return wait < 0 || left < wait ? left : wait;
}

/* Does what is due. Returns how long the box may be waited for: -1, for ever. */
static int64_t idle_work(struct learner *l)
{
    int64_t now = clock_us(), wait = -1;

    if (l->retry_us != 0)
        wait = sooner(wait, l->retry_us, now);
    if (l->asked_us != 0 && now >= l->asked_us)
        watch_questions(l);
    else if (l->asked_us != 0)
        wait = sooner(wait, l->asked_us, now);
    for (uint32_t i = 0; i < l->models_len; i++) {
        struct learned *m = l->models[i];
        int64_t due;

        if (m->figures_stale && now >= m->figures_us + FIGURES_US)
            (void)learned_figures(m, l->figures);
        else if (m->figures_stale)
            wait = sooner(wait, m->figures_us + FIGURES_US, now);
        if (step(l, m, now, &due))
            return 0; /* look at the box before the next one */
        if (due >= 0 && (wait < 0 || due < wait))
            wait = due;
    }
    return wait;
}

/* True: there may be events. */
static bool receive(struct learner *l, struct msg *list)
{
    bool events = false;

    while (list != NULL) {
        struct msg *m = list;
        struct change *c = (struct change *)m;

        list = m->next;
        if (m == &l->asked_hint) {
            l->asked_us = clock_us() + ASKED_US;
            continue;
        }
        events = true;
        if (m == &l->hint) {
            if (l->since_us == 0)
                atomic_store(&l->since_us, atomic_load(&l->hinted_us));
            atomic_store(&l->hinted, false);
            continue;
        }
        c->rc = c->apply != NULL ? c->apply(c, l) : 0;
        if (c->rc != 0 || !c->wait_applied || c->seq == 0)
            c->done(c, c->rc);
        else
            wait_for(l, c);
    }
    return events;
}

static void *run(void *arg)
{
    struct learner *l = arg;
    bool more = false;

    for (;;) {
        int64_t wait = more ? 0 : idle_work(l);
        struct msg *list = mailbox_wait(&l->box, wait);

        if (list == NULL && mailbox_closed(&l->box))
            break;
        if (receive(l, list) || more || (l->retry_us != 0 && clock_us() >= l->retry_us)) {
            wake(l, 0, 0);
            more = catch_up_all(l);
        }
    }
    wake(l, 0, -ESHUTDOWN);
    for (uint32_t i = 0; i < l->models_len; i++)
        if ((l->models[i]->unsaved > 0 || l->models[i]->asked) && !l->models[i]->ahead)
            save(l, l->models[i]);
    return NULL;
}

/* ---- models ---------------------------------------------------------------------------------- */

/* The one the store names; if its files are damaged or gone, the base: the model serves, and the
 * trainer will find it behind its store. */
static struct held_encoder *encoder_of(struct learner *l, const struct store_model *row)
{
    struct held_encoder *encoder;
    char why[256];

    if (encoders_get(l->parts.encoders, row->encoder, why, sizeof why, &encoder) == 0)
        return encoder;
    log_error("learner", "event", "encoder_missing", "model", row->name, "why", why, NULL);
    events_warning(l->parts.bus, row->name, "encoder_missing", why);
    return encoders_base(l->parts.encoders);
}

static int add(struct learner *l, const struct store_model *row)
{
    struct learned **bigger = realloc(l->models, (l->models_len + 1) * sizeof *bigger);
    struct held_encoder *encoder = encoder_of(l, row);
    struct learned *m;
    int rc;

    rc = bigger != NULL ? learned_open(&l->parts, row, encoder, LEARNED_LIVE, &m) : -ENOMEM;
    encoders_put(encoder);
    if (bigger != NULL)
        l->models = bigger;
    if (rc != 0)
        return rc;
    l->models[l->models_len++] = m;
    return 0;
}

struct picking {
    struct learner *learner;
    int64_t model; /* 0: all */
    bool settings_only, found;
};

static int pick(void *ud, const struct store_model *row)
{
    struct picking *p = ud;

    if (p->model != 0 && row->id != p->model)
        return 0;
    p->found = true;
    if (p->settings_only)
        return p->learner->parts.settings_read(row->settings, &find(p->learner, row->id)->settings);
    return add(p->learner, row);
}

static int pick_models(struct learner *l, int64_t model, bool settings_only)
{
    struct picking p = {l, model, settings_only, false};
    int rc = store_begin(l->parts.store);

    if (rc != 0)
        return rc;
    rc = store_model_scan(l->parts.store, pick, &p);
    store_rollback(l->parts.store);
    return rc != 0 ? rc : model != 0 && !p.found ? -ENOENT : 0;
}

int learner_model_add(struct learner *l, int64_t model)
{
    int rc = pick_models(l, model, false);

    return rc != 0 ? rc : learned_publish(find(l, model), &l->parts);
}

int learner_model_settings(struct learner *l, int64_t model)
{
    int rc = find(l, model) != NULL ? pick_models(l, model, true) : -ENOENT;

    return rc != 0 ? rc : learned_publish(find(l, model), &l->parts);
}

int learner_model_remove(struct learner *l, int64_t model)
{
    for (uint32_t i = 0; i < l->models_len; i++) {
        if (l->models[i]->model != model)
            continue;
        learned_close(l->models[i]);
        l->models[i] = l->models[--l->models_len];
        figures_remove(l->figures, model);
        break;
    }
    live_remove(l->parts.live, model);
    wake(l, model, -ENOENT);
    return 0;
}

int learner_follow(struct learner *l, int64_t model, int64_t encoder)
{
    struct learned **slot = slot_of(l, model);

    return slot != NULL ? succession_back(slot, encoder, &l->parts) : -ENOENT;
}

int learner_adopt(struct learner *l, struct learned *candidate, int64_t run)
{
    struct learned **slot = slot_of(l, candidate->model);

    return slot != NULL ? succession_adopt(slot, candidate, run, &l->parts) : -ENOENT;
}

int learner_watch(struct learner *l, struct learned *shadow, int64_t run)
{
    struct learned **slot = slot_of(l, shadow->model);

    return slot != NULL ? succession_watch(slot, shadow, run) : -ENOENT;
}

int learner_report(struct learner *l, int64_t model, struct learner_report *ret_report)
{
    struct learned *m = find(l, model);
    struct learner_report r = {0};
    int rc;

    if (m == NULL)
        return -ENOENT;
    rc = judge_report(m->judge, &r.prequential, &r.sets, &r.drift);
    if (rc == 0)
        rc = judge_loo_report(m->head, &r.leave_one_out);
    if (rc != 0) {
        learner_report_done(&r);
        return rc;
    }
    memcpy(r.model, m->name, sizeof r.model);
    r.encoder_number = m->encoder->number;
    r.seq = m->applied;
    r.settled = m->fitted && m->audited;
    r.examples = head_examples_len(m->head);
    r.fit_stale = head_fit_stale(m->head);
    (void)head_fit_rows(m->head, &r.fit_examples);
    memcpy(r.coefficients, head_coefficients(m->head), sizeof r.coefficients);
    r.labels = live_labels_get(m->labels);
    r.review = live_review_get(m->review);
    *ret_report = r;
    return 0;
}

void learner_forget_annotator(struct learner *l, int64_t model, const char *annotator)
{
    for (uint32_t i = 0; i < l->models_len; i++) {
        if (model != 0 && l->models[i]->model != model)
            continue;
        judge_forget(l->models[i]->judge, annotator);
        l->models[i]->unsaved++; /* its image may hold the name */
    }
}

void learner_report_done(struct learner_report *r)
{
    if (r->prequential != NULL)
        evaluation_report_free(r->prequential);
    if (r->leave_one_out != NULL)
        evaluation_report_free(r->leave_one_out);
    evaluation_sets_report_free(r->sets);
    live_labels_put(r->labels);
    live_review_put(r->review);
    *r = (struct learner_report){0};
}

/* ---- life ------------------------------------------------------------------------------------ */

static int load_all(struct learner *l, char *why, size_t why_bytes)
{
    int rc = pick_models(l, 0, false);

    if (rc != 0) {
        snprintf(why, why_bytes, "the models cannot be loaded: %s (%s)", strerror(-rc),
                 store_why(l->parts.store));
        return rc;
    }
    for (uint32_t i = 0; i < l->models_len; i++) {
        struct learned_round r = {.more = true};

        while (rc == 0 && r.more) {
            rc = learned_catch_up(l->models[i], &l->parts, &r);
            count(l, &r);
        }
        if (rc == 0)
            rc = learned_settle(l->models[i], &l->parts, &r);
        /* Trust is as it was before the stop: a large model has it in its image, a small one finds
         * it again. */
        while (rc == 0 && !l->models[i]->audited &&
               head_examples_len(l->models[i]->head) <= LEARNED_AUDIT_INLINE)
            rc = learned_audit(l->models[i], &l->parts, &r);
        if (rc != 0) {
            snprintf(why, why_bytes, "model %s cannot be rebuilt from the journal: %s (%s)",
                     l->models[i]->name, strerror(-rc), store_why(l->parts.store));
            return rc;
        }
        (void)learned_figures(l->models[i], l->figures);
    }
    return 0;
}

static void learner_free(struct learner *l)
{
    for (uint32_t i = 0; i < l->models_len; i++)
        learned_close(l->models[i]);
    free(l->models);
    figures_close(l->figures);
    mailbox_done(&l->box);
    free(l->folder);
    free(l);
}

int learner_open(const struct learner_parts *parts, char *why, size_t why_bytes,
                 struct learner **ret_learner)
{
    struct learner *l = calloc(1, sizeof *l);
    int rc;

    snprintf(why, why_bytes, "out of memory");
    if (l == NULL)
        return -ENOMEM;
    rc = mailbox_init(&l->box, UINT32_MAX); /* bounded by the changes that exist: never refused */
    if (rc != 0) {
        free(l);
        return rc;
    }
    l->parts = *parts;
    l->folder = strdup(parts->folder);
    l->parts.folder = l->folder;
    rc = l->folder != NULL ? figures_open(&l->figures) : -ENOMEM;
    if (rc == 0)
        rc = load_all(l, why, why_bytes);
    if (rc == 0) {
        rc = -pthread_create(&l->thread, NULL, run, l);
        if (rc != 0)
            snprintf(why, why_bytes, "no thread: %s", strerror(-rc));
    }
    if (rc != 0) {
        learner_free(l);
        return rc;
    }
    *ret_learner = l;
    return 0;
}

int learner_post(struct learner *l, struct change *change)
{
    return mailbox_post(&l->box, &change->msg);
}

void learner_hint(struct learner *l)
{
    if (atomic_exchange(&l->hinted, true))
        return;
    atomic_store(&l->hinted_us, clock_us());
    if (mailbox_post(&l->box, &l->hint) != 0)
        atomic_store(&l->hinted, false);
}

void learner_asked(struct learner *l)
{
    if (!atomic_exchange(&l->asked_hinted, true) && mailbox_post(&l->box, &l->asked_hint) != 0)
        atomic_store(&l->asked_hinted, false);
}

void learner_stop(struct learner *l)
{
    if (l->stopped)
        return;
    mailbox_close(&l->box);
    pthread_join(l->thread, NULL);
    l->stopped = true;
}

void learner_close(struct learner *l)
{
    if (l == NULL)
        return;
    learner_stop(l);
    learner_free(l);
}

uint32_t learner_figures(const struct learner *l, uint32_t max, struct figures *ret_rows)
{
    return figures_read(l->figures, max, ret_rows);
}

/* What is being worked off, else what waits in the box. */
static int64_t lag_us(const struct learner *l)
{
    int64_t since = atomic_load(&l->since_us);

    if (since == 0 && atomic_load(&l->hinted))
        since = atomic_load(&l->hinted_us);
    return since != 0 ? clock_us() - since : 0;
}

struct learner_counts learner_counts(const struct learner *l)
{
    return (struct learner_counts){
        .events = atomic_load(&l->events),
        .examples = atomic_load(&l->examples),
        .publishes = atomic_load(&l->publishes),
        .fits = atomic_load(&l->fits),
        .audits = atomic_load(&l->audits),
        .failures = atomic_load(&l->failures),
        .embedded = atomic_load(&l->embedded),
        .apply_us_last = atomic_load(&l->apply_us_last),
        .publish_us_last = atomic_load(&l->publish_us_last),
        .fit_us_last = atomic_load(&l->fit_us_last),
        .behind = atomic_load(&l->behind),
        .lag_us = lag_us(l),
    };
}
