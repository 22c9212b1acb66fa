/* tuning.c -- runs: asked for, listed, looked at, cancelled.
 *
 * A POST only writes the run's row and hints the trainer, which takes it from there; whatever can
 * be known to be impossible is refused here, before it waits in a queue.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/events.h"
#include "daemon/front/access.h"
#include "daemon/front/errand.h"

struct tuning {
    struct errand errand; /* first */
    struct api_run_settings settings;
    int64_t run;
    char who[STORE_NAME_BYTES_MAX + 1];      /* the key that asks for it */
    char state[16], phase[16], strategy[16]; /* as written, for the event */
    bool whole;                              /* with its metrics */
    /* a list */
    struct store_run_filter filter;
    char states[96];
    uint32_t rows;
    int64_t last;
    /* one run */
    struct api_run_metric *metrics;
    uint32_t metrics_len;
};

/* ---- a row ----------------------------------------------------------------------------------- */

static int show_run(void *ud, const struct store_run *row)
{
    struct tuning *t = ud;
    struct errand *e = &t->errand;
    struct snapshot *s = live_get_by_id(e->server->live, row->model);
    const struct api_run run = {.run = row->id,
                                .model = s != NULL ? s->model_name : "",
                                .strategy = row->strategy,
                                .state = row->state,
                                .phase = row->phase,
                                .who = row->who,
                                .seed = row->seed,
                                .step = row->step,
                                .steps = row->steps,
                                .cancel = row->cancel,
                                .from_seq = row->from_seq,
                                .since_seq = row->since_seq,
                                .parent = row->parent,
                                .encoder = row->encoder,
                                .settings = row->settings,
                                .progress = row->progress,
                                .verdict = row->verdict,
                                .reason = row->reason,
                                .created_us = row->created_us,
                                .started_us = row->started_us,
                                .ended_us = row->ended_us,
                                .updated_us = row->updated_us};

    api_write_run(&e->body, &run, t->whole ? t->metrics : NULL, t->metrics_len);
    snprintf(t->state, sizeof t->state, "%s", row->state);
    snprintf(t->phase, sizeof t->phase, "%s", row->phase);
    snprintf(t->strategy, sizeof t->strategy, "%s", row->strategy);
    if (s != NULL)
        memcpy(e->model_name, s->model_name, sizeof e->model_name);
    live_put(s);
    t->last = row->id;
    t->rows++;
    return 0;
}

static int unknown_run(struct errand *e)
{
    return api_problem_set(&e->problem, 404, "unknown_run", "", "there is no such run");
}

/* On the keeper's thread: those who watch, and the trainer. */
static void tell(struct errand *e)
{
    const struct tuning *t = (struct tuning *)e;

    events_run(e->server->bus, &(struct events_run){.run = t->run,
                                                    .model = e->model_name,
                                                    .strategy = t->strategy,
                                                    .state = t->state,
                                                    .phase = t->phase,
                                                    .loss = NAN,
                                                    .eta_s = NAN});
    handlers_hint(e->server);
}

/* ---- asking for one -------------------------------------------------------------------------- */

struct counting {
    int64_t model;
    int64_t examples, encoder, since_seq;
    uint32_t labels; /* with an example */
    bool multi;
};

static int count_model(void *ud, const struct store_model *row)
{
    struct counting *c = ud;

    if (row->id == c->model) {
        c->examples = row->examples;
        c->encoder = row->encoder;
        c->multi = strcmp(row->kind, "multi") == 0;
    }
    return 0;
}

static int count_label(void *ud, const struct store_label *row)
{
    ((struct counting *)ud)->labels += strcmp(row->status, "active") == 0 && row->examples > 0;
    return 0;
}

/* What a run that was accepted has seen is not new. */
static int find_since(void *ud, const struct store_run *row)
{
    ((struct counting *)ud)->since_seq = row->from_seq;
    return 0;
}

static int count(struct store *store, int64_t model, struct counting *c)
{
    const struct store_run_filter accepted = {.model = model, .states = "accepted", .limit = 1};
    int rc;

    *c = (struct counting){.model = model};
    rc = store_model_scan(store, count_model, c);
    if (rc == 0)
        rc = store_label_scan(store, model, 0, 0, count_label, c);
    return rc == 0 ? store_run_scan(store, &accepted, find_since, c) : rc;
}

/* A run that trains needs something to tell apart. Set of labels: one will do. */
static int check_examples(struct errand *e, const struct counting *c)
{
    if (c->examples < API_RUN_EXAMPLES_MIN)
        return api_problem_set(&e->problem, 422, "too_few_examples", "",
                               "a run needs %d examples with a label: %d more",
                               API_RUN_EXAMPLES_MIN, API_RUN_EXAMPLES_MIN - (int)c->examples);
    if (c->labels < (c->multi ? 1 : 2))
        return api_problem_set(&e->problem, 422, "one_label", "",
                               "a run needs examples of at least two labels");
    return 0;
}

static int act_add(struct errand *e, struct store *store)
{
    struct tuning *t = (struct tuning *)e;
    const enum api_strategy strategy = t->settings.strategy;
    struct api_buffer text = API_BUFFER_INIT;
    struct counting c;
    int rc = count(store, e->model, &c);

    if (rc == 0 && strategy != API_HEAD && strategy != API_IMPORT)
        rc = check_examples(e, &c);
    if (rc != 0)
        return rc;
    api_write_run_settings(&text, &t->settings);
    api_buffer_add(&text, "", 1);
    rc = text.rc != 0
             ? text.rc
             : store_run_add(store,
                             &(struct store_run_new){.model = e->model,
                                                     .strategy = api_strategy_name(strategy),
                                                     .settings = text.bytes,
                                                     .who = t->who[0] != '\0' ? t->who : "operator",
                                                     .seed = t->settings.seed,
                                                     .parent = c.encoder,
                                                     .since_seq = c.since_seq,
                                                     .now_us = e->now_us},
                             &t->run);
    api_buffer_done(&text);
    if (rc == -EEXIST)
        return api_problem_set(&e->problem, 409, "run_exists", "",
                               "run %lld of this model has not ended", (long long)t->run);
    if (rc == 0)
        rc = store_run_get(store, t->run, show_run, t);
    snprintf(e->extra, sizeof e->extra, "Location: /v1/runs/%lld\r\n", (long long)t->run);
    return rc;
}

static struct tuning *adding(struct exchange *x)
{
    struct tuning *t = errand_new(x, sizeof *t, exchange_param(x, 0), act_add);

    if (t == NULL)
        return NULL;
    t->errand.status = 202;
    t->errand.told = tell;
    access_name(t->errand.server->access, exchange_who(x), t->who);
    if (!t->errand.vectors)
        return t;
    api_problem_set(&t->errand.problem, 422, "no_encoder", "",
                    "a model of encoder none has nothing to train");
    errand_refuse(&t->errand, x);
    return NULL;
}

static void add(struct tuning *t, struct exchange *x)
{
    t->errand.change.grows = true;
    errand_write(&t->errand, x);
}

void handle_run_add(struct exchange *x)
{
    const struct http_request *r = exchange_request(x);
    struct tuning *t = adding(x);

    if (t == NULL)
        return;
    t->errand.action = "run_start";
    if (api_parse_run(r->body, r->body_bytes, &t->settings, &t->errand.problem) != 0)
        errand_refuse(&t->errand, x);
    else
        add(t, x);
}

/* Is there a folder that looks like an encoder? Whether it is one, the run finds out. */
static int check_folder(const char *folder, struct api_problem *problem)
{
    static const char *const names[] = {"model.safetensors", "config.json"};
    char path[API_FOLDER_BYTES_MAX + 32];
    struct stat st;

    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
            return api_problem_set(problem, 422, "not_an_encoder", "folder",
                                   "the server finds no %s in this folder", names[i]);
    }
    return 0;
}

void handle_encoder_import(struct exchange *x)
{
    const struct http_request *r = exchange_request(x);
    struct tuning *t = adding(x);

    if (t == NULL)
        return;
    t->errand.action = "encoder_import";
    if (api_parse_import(r->body, r->body_bytes, &t->settings, &t->errand.problem) != 0 ||
        check_folder(t->settings.folder, &t->errand.problem) != 0)
        errand_refuse(&t->errand, x);
    else
        add(t, x);
}

/* ---- looking --------------------------------------------------------------------------------- */

static int act_list(struct errand *e, struct store *store)
{
    struct tuning *t = (struct tuning *)e;
    struct api_cursor next = {'r', t->filter.model, 0};
    char text[API_CURSOR_CHARS];
    int rc;

    api_list_begin(&e->body, "runs");
    rc = store_run_scan(store, &t->filter, show_run, t);
    next.after = t->last;
    api_cursor_format(&next, text);
    api_list_end(&e->body, t->rows >= t->filter.limit ? text : NULL);
    return rc;
}

/* Reads ?state, ?limit and ?cursor. False after an answer; the errand is freed then. */
static bool read_page(struct tuning *t, struct exchange *x)
{
    char state[128], limit[32], cursor[64];
    const char *state_text, *limit_text, *cursor_text;
    struct api_cursor at = {.list = 'r', .model = t->filter.model};
    struct api_problem *problem = &t->errand.problem;

    if (exchange_query(x, "state", state, sizeof state, &state_text) != 0 ||
        exchange_query(x, "limit", limit, sizeof limit, &limit_text) != 0 ||
        exchange_query(x, "cursor", cursor, sizeof cursor, &cursor_text) != 0) {
        errand_free(&t->errand);
        return false;
    }
    if (api_run_states_parse(state_text, state_text != NULL ? strlen(state_text) : 0, t->states,
                             problem) != 0 ||
        api_limit_parse(limit_text, limit_text != NULL ? strlen(limit_text) : 0, &t->filter.limit,
                        problem) != 0 ||
        api_cursor_parse(cursor_text, cursor_text != NULL ? strlen(cursor_text) : 0, 0, &at,
                         problem) != 0) {
        errand_refuse(&t->errand, x);
        return false;
    }
    t->filter.states = t->states[0] != '\0' ? t->states : NULL;
    t->filter.before = at.after;
    return true;
}

void handle_runs(struct exchange *x)
{
    char name[LIVE_NAME_BYTES];
    const char *model;
    struct snapshot *s = NULL;
    struct tuning *t;

    if (exchange_query(x, "model", name, sizeof name, &model) != 0)
        return;
    if (model != NULL) {
        s = handlers_model(x, model, "model");
        if (s == NULL)
            return;
    }
    t = errand_new(x, sizeof *t, NULL, act_list);
    if (t != NULL) {
        t->filter.model = s != NULL ? s->model : 0;
        if (read_page(t, x))
            errand_read(&t->errand, x);
    }
    live_put(s);
}

static int keep_metric(void *ud, const struct store_run_metric *row)
{
    struct tuning *t = ud;

    if (t->metrics_len > STORE_RUN_METRICS_MAX)
        return 0;
    t->metrics[t->metrics_len++] = (struct api_run_metric){.step = row->step,
                                                           .loss = row->loss,
                                                           .grad_norm = row->grad_norm,
                                                           .lr = row->lr,
                                                           .time_us = row->t_us};
    return 0;
}

static int act_get(struct errand *e, struct store *store)
{
    struct tuning *t = (struct tuning *)e;
    int rc;

    t->whole = true;
    t->metrics = calloc(STORE_RUN_METRICS_MAX + 1, sizeof *t->metrics);
    if (t->metrics == NULL)
        return -ENOMEM;
    rc = store_run_metric_scan(store, t->run, keep_metric, t);
    if (rc == 0)
        rc = store_run_get(store, t->run, show_run, t);
    free(t->metrics);
    t->metrics = NULL;
    return rc == -ENOENT ? unknown_run(e) : rc;
}

/* An errand about the run of the path, or NULL after an answer. */
static struct tuning *about_run(struct exchange *x, int (*act)(struct errand *, struct store *))
{
    const char *id = exchange_param(x, 0);
    struct api_problem problem;
    struct tuning *t;
    int64_t run;

    if (api_run_id_parse(id, strlen(id), &run) != 0) {
        api_problem_set(&problem, 422, "invalid_id", "id", "a run's id is a whole number from 1");
        exchange_problem(x, &problem);
        return NULL;
    }
    t = errand_new(x, sizeof *t, NULL, act);
    if (t != NULL)
        t->run = run;
    return t;
}

void handle_run(struct exchange *x)
{
    struct tuning *t = about_run(x, act_get);

    if (t != NULL)
        errand_read(&t->errand, x);
}

/* ---- cancelling ------------------------------------------------------------------------------ */

/* 202 with the run while it is still under way, 204 once it has ended, however often. */
static int act_cancel(struct errand *e, struct store *store)
{
    struct tuning *t = (struct tuning *)e;
    int rc = store_run_cancel(store, t->run, e->now_us);

    if (rc == 0)
        e->told = tell;
    else if (rc == -EALREADY)
        errand_nothing(e);
    if (rc == -ENOENT)
        return unknown_run(e);
    if (rc != 0 && rc != -EALREADY)
        return rc;
    rc = store_run_get(store, t->run, show_run, t);
    if (rc == 0 && strcmp(t->state, "running") != 0) {
        e->status = 204;
        api_buffer_done(&e->body);
        e->body = (struct api_buffer)API_BUFFER_INIT;
    }
    return rc;
}

void handle_run_cancel(struct exchange *x)
{
    struct tuning *t = about_run(x, act_cancel);

    if (t == NULL)
        return;
    t->errand.status = 202;
    t->errand.action = "run_cancel";
    errand_write(&t->errand, x);
}
