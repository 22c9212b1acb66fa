/* trainer_due.c -- see trainer_due.h. */
#include "daemon/learn/trainer_due.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/clock.h"
#include "daemon/learn/figures.h"
#include "daemon/log.h"
#include "kernels/measure/probation.h"
#include "kernels/train/trigger.h"

/* ---- which models there are ------------------------------------------------------------------ */

struct model_row {
    int64_t model, encoder;
    uint64_t examples, labels;
    char name[LIVE_NAME_BYTES];
};

struct listing {
    const struct trainer *trainer;
    struct model_row *rows; /* (len), owned */
    uint32_t len;
};

static int list_model(void *ud, const struct store_model *row)
{
    struct listing *l = ud;
    struct learner_settings settings;
    struct model_row *bigger;

    if (l->trainer->parts.learner.settings_read(row->settings, &settings) != 0 || settings.dim > 0)
        return 0; /* vectors: nothing to tune */
    bigger = realloc(l->rows, (l->len + 1) * sizeof *bigger);
    if (bigger == NULL)
        return -ENOMEM;
    l->rows = bigger;
    l->rows[l->len] = (struct model_row){.model = row->id,
                                         .encoder = row->encoder,
                                         .examples = (uint64_t)row->examples,
                                         .labels = (uint64_t)row->labels};
    snprintf(l->rows[l->len++].name, LIVE_NAME_BYTES, "%s", row->name);
    return 0;
}

/* ---- triggers -------------------------------------------------------------------------------- */

enum {
    MODELS_MAX = 256,
    WINDOW = 500,          /* corrections that accuracy_window is of */
    ERROR_ROWS_MIN = 1500, /* fewer: the reference is not settled */
};

struct last_run {
    int64_t from_seq, ended_us, parent;
    bool found;
};

static int read_last(void *ud, const struct store_run *row)
{
    struct last_run *l = ud;

    if (row->from_seq == 0) /* it never began: as if it had not been */
        return 0;
    *l = (struct last_run){row->from_seq, row->ended_us, row->parent, true};
    return 1;
}

static int count_label(void *ud, const struct store_event *row)
{
    *(uint64_t *)ud += strcmp(row->op, "label") == 0;
    return 0;
}

/* The hour of the day, local time, within [from, to)? A window may go past midnight. */
static bool in_window(const struct trainer *t)
{
    int from = atomic_load(&t->window_from), to = atomic_load(&t->window_to);
    time_t now = (time_t)(clock_unix_us() / 1000000);
    struct tm local;
    int minute;

    if (from == to)
        return true;
    if (localtime_r(&now, &local) == NULL)
        return false;
    minute = local.tm_hour * 60 + local.tm_min;
    if (from < to)
        return minute >= from && minute < to;
    return minute >= from || minute < to;
}

/* What the model's own count says of its error: alarms since the last run began, and whether the
 * last 500 corrections went worse than the last 1,000 or so. */
static void add_figures(const struct trainer *t, int64_t model, int64_t since_seq,
                        struct trigger_signals *s)
{
    struct figures *rows;
    uint32_t len;

    rows = calloc(MODELS_MAX, sizeof *rows);
    len = rows != NULL ? learner_figures(t->parts.to, MODELS_MAX, rows) : 0;
    for (uint32_t i = 0; i < len; i++) {
        if (rows[i].model != model)
            continue;
        s->drift = rows[i].error_alarm_seq > since_seq;
        if (rows[i].rows >= ERROR_ROWS_MIN) {
            s->error = 1 - rows[i].accuracy_window;
            s->error_reference = 1 - rows[i].accuracy_fading;
            s->error_sigma = sqrt(s->error_reference * (1 - s->error_reference) / WINDOW);
        }
    }
    free(rows);
}

static int read_signals(struct trainer *t, const struct model_row *m,
                        struct trigger_signals *ret_signals, struct last_run *ret_last)
{
    struct store *store = t->parts.learner.store;
    const struct store_run_filter filter = {.model = m->model};
    struct trigger_signals s = {.examples = m->examples,
                                .labels = (uint32_t)m->labels,
                                .error = NAN,
                                .error_reference = NAN,
                                .error_sigma = NAN,
                                .hours_since_run = INFINITY,
                                .in_window = in_window(t)};
    struct last_run last = {.parent = 0};
    int rc = store_begin(store);

    if (rc != 0)
        return rc;
    rc = store_run_scan(store, &filter, read_last, &last);
    rc = rc == 1 ? 0 : rc;
    if (rc == 0)
        rc = store_event_scan(store, m->model, last.from_seq, 0, count_label, &s.examples_new);
    store_rollback(store);
    if (s.examples_new > s.examples)
        s.examples_new = s.examples; /* events; a text may have had several */
    if (last.found && last.ended_us > 0)
        s.hours_since_run = (double)(clock_unix_us() - last.ended_us) / 3.6e9;
    add_figures(t, m->model, last.from_seq, &s);
    *ret_signals = s;
    *ret_last = last;
    return rc;
}

struct queue_change {
    struct change change; /* first */
    struct store_run_new run;
};

static int queue_write(struct change *change, struct store *store)
{
    struct queue_change *c = (struct queue_change *)change;
    int64_t id;

    return store_run_add(store, &c->run, &id);
}

static bool start_if_due(struct trainer *t, const struct model_row *m)
{
    struct trigger_settings settings = trigger_settings_default;
    struct queue_change c = {.change = {.write = queue_write, .grows = true, .model = m->model}};
    struct trigger_signals signals;
    struct last_run last;
    enum trigger why;

    if (read_signals(t, m, &signals, &last) != 0)
        return false;
    settings.enabled = true;
    settings.schedule_hours = atomic_load(&t->every_hours);
    why = trigger_due(&signals, &settings);
    if (why == TRIGGER_NONE || (why != TRIGGER_DRIFT && !signals.in_window))
        return false;
    c.run = (struct store_run_new){.model = m->model,
                                   .strategy = "joint",
                                   .settings = t->parts.settings_text,
                                   .who = trigger_name(why),
                                   .seed = (uint64_t)last.from_seq + 1,
                                   .parent = m->encoder,
                                   .since_seq = last.from_seq,
                                   .now_us = clock_unix_us()};
    if (trainer_keep(t, &c.change) != 0)
        return false;
    log_info("trainer", "event", "due", "model", m->name, "trigger", trigger_name(why), NULL);
    return true;
}

static int list_models(struct trainer *t, struct listing *l)
{
    int rc = store_begin(t->parts.learner.store);

    if (rc != 0)
        return rc;
    rc = store_model_scan(t->parts.learner.store, list_model, l);
    store_rollback(t->parts.learner.store);
    return rc;
}

bool trainer_look(struct trainer *t)
{
    struct listing l = {.trainer = t};
    bool started = false;

    if (list_models(t, &l) == 0)
        for (uint32_t i = 0; i < l.len && !started; i++)
            started = start_if_due(t, &l.rows[i]);
    free(l.rows);
    return started;
}

/* ---- probations ------------------------------------------------------------------------------ */

struct succession {
    struct store_live now, before;
    uint32_t len;
};

static int read_succession(void *ud, const struct store_live *row)
{
    struct succession *s = ud;

    if (s->len++ == 0)
        s->now = *row;
    else
        s->before = *row;
    return s->len == 2;
}

struct watch_change {
    struct change change; /* first */
    struct learned *shadow;
    int64_t run;
};

static int watch_apply(struct change *change, struct learner *learner)
{
    struct watch_change *c = (struct watch_change *)change;

    return learner_watch(learner, c->shadow, c->run);
}

static int count_event(void *ud, const struct store_event *row)
{
    (void)row;
    ++*(uint64_t *)ud;
    return 0;
}

/* A restart begins a probation anew, so it ends by the number of events: there are at least as many
 * as corrections that were scored. */
static void watch_model(struct trainer *t, const struct model_row *m)
{
    struct store *store = t->parts.learner.store;
    struct watch_change c = {.change = {.apply = watch_apply, .model = m->model}};
    struct succession s = {.len = 0};
    struct held_encoder *held = NULL;
    uint64_t events = 0;
    char why[256];
    int rc = store_begin(store);

    if (rc != 0)
        return;
    rc = store_live_scan(store, m->model, read_succession, &s);
    if (rc == 1 && s.now.run >= 0)
        rc = store_event_scan(store, m->model, s.now.seq, 0, count_event, &events);
    store_rollback(store);
    if (rc != 0 || s.len < 2 || s.now.encoder != m->encoder || s.now.run < 0 ||
        (strcmp(s.now.reason, "run") != 0 && strcmp(s.now.reason, "import") != 0) ||
        events >= probation_settings_default.items_max)
        return;
    rc = encoders_get(t->parts.learner.encoders, s.before.encoder, why, sizeof why, &held);
    if (rc == 0)
        rc = trainer_twin(t, NULL, m->model, held, &c.shadow);
    encoders_put(held);
    c.run = s.now.run;
    if (rc == 0)
        rc = trainer_keep(t, &c.change);
    if (rc != 0)
        learned_close(c.shadow);
    else
        log_info("trainer", "event", "probation_goes_on", "model", m->name, NULL);
}

void trainer_watch(struct trainer *t)
{
    struct listing l = {.trainer = t};

    if (list_models(t, &l) == 0)
        for (uint32_t i = 0; i < l.len; i++)
            if (l.rows[i].encoder != 0 && !atomic_load(&t->stopping))
                watch_model(t, &l.rows[i]);
    free(l.rows);
}
