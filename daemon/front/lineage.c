/* lineage.c -- how a model came to be what it is: its versions and encoders, and the way back.
 *
 * A version is encoder.seq. The journal makes versions by events, the log of what was live by
 * swaps; the list is both, newest first. A place in it is a number: seq * PLACES for the event,
 * and above that the swaps after it in their order, so that a page ends anywhere.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/front/errand.h"

enum { PLACES = 4096 };

struct lineage {
    struct errand errand; /* first */
    struct store *store;  /* while filling */
    /* the log of what was live, newest first, with the place of each */
    struct store_live *log;
    int64_t *places;
    uint32_t log_len, log_max, log_at; /* log_at: the first not yet shown */
    uint32_t limit, rows;
    int64_t before, last; /* places: cursor in, cursor out */
    bool has_at;
    int64_t at_us;
    struct api_version version;
    int64_t encoder;
};

/* ---- the log --------------------------------------------------------------------------------- */

static int keep_live(void *ud, const struct store_live *row)
{
    struct lineage *l = ud;

    if (l->log_len == l->log_max) {
        uint32_t max = l->log_max * 2 + 16;
        struct store_live *log = realloc(l->log, max * sizeof *log);
        int64_t *places;

        if (log == NULL)
            return -ENOMEM;
        l->log = log;
        places = realloc(l->places, max * sizeof *places);
        if (places == NULL)
            return -ENOMEM;
        l->places = places;
        l->log_max = max;
    }
    l->log[l->log_len++] = *row;
    return 0;
}

static int read_log(struct lineage *l, struct store *store)
{
    int rc = store_live_scan(store, l->errand.model, keep_live, l);

    for (uint32_t i = l->log_len; rc == 0 && i-- > 0;) {
        bool same = i + 1 < l->log_len && l->log[i + 1].seq == l->log[i].seq;

        l->places[i] = same ? l->places[i + 1] + 1 : l->log[i].seq * PLACES + 1;
    }
    return rc;
}

static void forget_log(const struct lineage *l)
{
    free(l->log);
    free(l->places);
}

/* Which encoder served when an event was written: that of the last swap before it. */
static int64_t encoder_at(const struct lineage *l, int64_t seq)
{
    for (uint32_t i = 0; i < l->log_len; i++)
        if (l->log[i].seq < seq)
            return l->log[i].encoder;
    return l->log_len > 0 ? l->log[l->log_len - 1].encoder : 0;
}

/* Of the rows that name the live version, which was live before if somebody went back to it, the
 * newest is. */
static const char *state_of(const struct lineage *l, struct api_version version, int64_t place)
{
    const struct store_live *newest = l->log_len > 0 ? &l->log[0] : NULL;

    if (newest != NULL && newest->encoder == version.encoder && newest->seq == version.seq &&
        place < l->places[0])
        return "past";
    return version.encoder == l->errand.live_encoder && version.seq == l->errand.live_seq ? "live"
                                                                                          : "past";
}

static void show_swap(struct lineage *l, uint32_t i)
{
    const struct store_live *row = &l->log[i];
    const bool created = strcmp(row->reason, "created") == 0;
    struct api_version_row version = {.version = {row->encoder, row->seq},
                                      .op = created ? NULL : "swap",
                                      .run = row->run,
                                      .reason = row->reason,
                                      .created_us = row->t_us};

    version.state = state_of(l, version.version, l->places[i]);
    api_write_version(&l->errand.body, &version);
    l->last = l->places[i];
    l->rows++;
}

static void show_event(struct lineage *l, const struct store_event *row)
{
    struct api_version_row version = {.version = {encoder_at(l, row->seq), row->seq},
                                      .op = row->op,
                                      .example = row->has_example ? row->example : NULL,
                                      .label = row->label,
                                      .annotator = row->annotator,
                                      .run = -1,
                                      .created_us = row->created_us};

    version.state = state_of(l, version.version, row->seq * PLACES);
    api_write_version(&l->errand.body, &version);
    l->last = row->seq * PLACES;
    l->rows++;
}

/* ---- the list -------------------------------------------------------------------------------- */

enum { FULL = 1 }; /* a scan's answer when the page is */

/* Swaps that come before this place in the list. */
static int show_swaps(struct lineage *l, int64_t above)
{
    while (l->log_at < l->log_len && l->places[l->log_at] > above) {
        if (l->rows == l->limit)
            return FULL;
        if (l->places[l->log_at] < l->before)
            show_swap(l, l->log_at);
        l->log_at++;
    }
    return l->rows == l->limit ? FULL : 0;
}

static int on_event(void *ud, const struct store_event *row)
{
    struct lineage *l = ud;
    int rc = show_swaps(l, row->seq * PLACES);

    if (rc == 0)
        show_event(l, row);
    return rc;
}

/* verdict: what the gate said of its run. */
static int show_with_run(struct lineage *l, const struct store_encoder *row, const char *verdict)
{
    const struct api_encoder_row encoder = {.encoder = row->id,
                                            .parent = row->parent,
                                            .run = row->run,
                                            .origin = row->origin,
                                            .state = row->state,
                                            .live = row->id == l->errand.live_encoder,
                                            .dim = row->dim,
                                            .sha256 = row->sha256,
                                            .verdict = verdict,
                                            .created_us = row->created_us};

    api_write_encoder(&l->errand.body, &encoder);
    return 0;
}

struct verdict {
    struct lineage *lineage;
    const struct store_encoder *row;
};

static int with_verdict(void *ud, const struct store_run *run)
{
    const struct verdict *v = ud;

    return show_with_run(v->lineage, v->row, run->verdict);
}

static int show_encoder(void *ud, const struct store_encoder *row)
{
    struct lineage *l = ud;
    struct verdict v = {l, row};
    int rc = -ENOENT;

    if (l->encoder >= 0 && row->id != l->encoder)
        return 0;
    if (row->run >= 0)
        rc = store_run_get(l->store, row->run, with_verdict, &v);
    return rc == -ENOENT ? show_with_run(l, row, NULL) : rc;
}

/* The encoders (l->encoder: one of them), and the end of the answer. */
static int end_list(struct lineage *l, const char *cursor)
{
    int rc;

    api_versions_encoders(&l->errand.body);
    rc = store_encoder_scan(l->store, l->errand.model, show_encoder, l);
    api_versions_end(&l->errand.body, cursor);
    return rc;
}

static int list(struct lineage *l)
{
    struct api_cursor next = {'v', l->errand.model, 0};
    char text[API_CURSOR_CHARS];
    /* The first event that may be shown; with swaps above it the cursor lies between the two. */
    int64_t before = l->before / PLACES + (l->before % PLACES != 0);
    int rc;

    l->encoder = -1;
    api_versions_begin(&l->errand.body);
    rc = store_event_scan_back(l->store, l->errand.model, before, 0, on_event, l);
    if (rc == 0)
        rc = show_swaps(l, -1);
    if (rc < 0)
        return rc;
    next.after = l->last;
    api_cursor_format(&next, text);
    return end_list(l, rc == FULL ? text : NULL);
}

/* What was live at a moment, as a list of one. */
static int list_at(struct lineage *l)
{
    struct errand *e = &l->errand;
    struct api_version_row row = {.run = -1};
    struct store_event event;
    int rc = store_live_at(l->store, e->model, l->at_us, &row.version.encoder, &row.version.seq);

    if (rc == -ENOENT)
        return api_problem_set(&e->problem, 404, "unknown_version", "at",
                               "the model was not there yet");
    if (rc == 0)
        rc = store_event_get(l->store, e->model, row.version.seq, &event);
    if (rc == 0) {
        row.op = event.op;
        row.example = event.has_example ? event.example : NULL;
        row.label = event.label;
        row.annotator = event.annotator;
        row.created_us = event.created_us;
    } else if (rc != -ENOENT) {
        return rc;
    }
    for (uint32_t i = 0; i < l->log_len; i++) { /* a swap after the event made it */
        if (l->log[i].t_us > l->at_us)
            continue;
        if (l->log[i].t_us >= row.created_us) {
            row.op = strcmp(l->log[i].reason, "created") == 0 ? NULL : "swap";
            row.example = NULL;
            row.label = row.annotator = NULL;
            row.run = l->log[i].run;
            row.reason = l->log[i].reason;
            row.created_us = l->log[i].t_us;
        }
        break;
    }
    row.state = state_of(l, row.version, INT64_MAX);
    l->encoder = row.version.encoder;
    api_versions_begin(&e->body);
    api_write_version(&e->body, &row);
    return end_list(l, NULL);
}

static int act_list(struct errand *e, struct store *store)
{
    struct lineage *l = (struct lineage *)e;
    int rc = read_log(l, store);

    l->store = store;
    if (rc == 0)
        rc = l->has_at ? list_at(l) : list(l);
    forget_log(l);
    return rc;
}

/* Reads ?at, ?limit and ?cursor. False after an answer; the errand is freed then. */
static bool read_page(struct lineage *l, struct exchange *x)
{
    char limit[32], cursor[64], at[64];
    const char *limit_text, *cursor_text, *at_text;
    struct api_cursor from = {.list = 'v', .model = l->errand.model};
    struct api_problem *problem = &l->errand.problem;
    int rc;

    if (exchange_query(x, "limit", limit, sizeof limit, &limit_text) != 0 ||
        exchange_query(x, "cursor", cursor, sizeof cursor, &cursor_text) != 0 ||
        exchange_query(x, "at", at, sizeof at, &at_text) != 0) {
        errand_free(&l->errand);
        return false;
    }
    rc = api_limit_parse(limit_text, limit_text != NULL ? strlen(limit_text) : 0, &l->limit,
                         problem);
    if (rc == 0)
        rc = api_cursor_parse(cursor_text, cursor_text != NULL ? strlen(cursor_text) : 0, INT64_MAX,
                              &from, problem);
    if (rc == 0 && at_text != NULL)
        rc = api_time_parse("at", at_text, strlen(at_text), &l->at_us, problem);
    if (rc == 0 && at_text != NULL && cursor_text != NULL)
        rc = api_problem_set(problem, 422, "conflicting_fields", "cursor",
                             "at asks for one version; it has no pages");
    if (rc != 0) {
        errand_refuse(&l->errand, x);
        return false;
    }
    l->before = from.after;
    l->has_at = at_text != NULL;
    return true;
}

void handle_versions(struct exchange *x)
{
    struct lineage *l = errand_new(x, sizeof *l, exchange_param(x, 0), act_list);

    if (l != NULL && read_page(l, x))
        errand_read(&l->errand, x);
}

/* ---- one version ----------------------------------------------------------------------------- */

/* It was live if its encoder was, between its event and the next. */
static int show_version(struct lineage *l, const struct store_event *event)
{
    const struct api_version *v = &l->version;

    for (uint32_t i = 0; i < l->log_len; i++) {
        if (l->log[i].encoder == v->encoder && l->log[i].seq == v->seq) {
            show_swap(l, i);
            return 0;
        }
    }
    if (event == NULL || encoder_at(l, v->seq) != v->encoder)
        return api_problem_set(&l->errand.problem, 404, "unknown_version", "version",
                               "the model never had this version");
    show_event(l, event);
    return 0;
}

static int act_version(struct errand *e, struct store *store)
{
    struct lineage *l = (struct lineage *)e;
    struct store_event event;
    int rc = read_log(l, store);

    if (rc == 0) {
        rc = store_event_get(store, e->model, l->version.seq, &event);
        if (rc == 0 || rc == -ENOENT)
            rc = show_version(l, rc == 0 ? &event : NULL);
    }
    forget_log(l);
    return rc;
}

void handle_version(struct exchange *x)
{
    const char *text = exchange_param(x, 1);
    struct api_problem problem;
    struct api_version version;
    struct lineage *l;

    if (api_version_parse(text, strlen(text), &version) != 0) {
        api_problem_set(&problem, 422, "invalid_version", "version",
                        "a version is ENCODER.SEQ, as in 0.1842");
        exchange_problem(x, &problem);
        return;
    }
    l = errand_new(x, sizeof *l, exchange_param(x, 0), act_version);
    if (l == NULL)
        return;
    l->version = version;
    errand_read(&l->errand, x);
}

/* ---- going back ------------------------------------------------------------------------------ */

static int find_held(void *ud, const struct store_encoder *row)
{
    const struct lineage *l = ud;

    return row->id == l->encoder &&
           (strcmp(row->state, "base") == 0 || strcmp(row->state, "live") == 0 ||
            strcmp(row->state, "held") == 0);
}

struct present {
    int64_t model, encoder, seq;
};

static int find_present(void *ud, const struct store_model *row)
{
    struct present *p = ud;

    if (row->id == p->model) {
        p->encoder = row->encoder;
        p->seq = row->seq;
    }
    return 0;
}

static int is_swapping(void *ud, const struct store_run *row)
{
    (void)ud;
    return strcmp(row->phase, "swapping") == 0;
}

static int act_rollback(struct errand *e, struct store *store)
{
    const struct store_run_filter running = {.model = e->model, .states = "running"};
    struct lineage *l = (struct lineage *)e;
    struct present p = {e->model, 0, 0};
    int rc = store_encoder_scan(store, e->model, find_held, l);

    if (rc == 0)
        return api_problem_set(&e->problem, 404, "version_not_held", "",
                               "the model does not hold this encoder (any more)");
    if (rc > 0)
        rc = store_run_scan(store, &running, is_swapping, NULL);
    if (rc > 0)
        return api_problem_set(&e->problem, 409, "run_swapping", "",
                               "a run is putting its encoder in place; try again in a moment");
    if (rc == 0)
        rc = store_model_scan(store, find_present, &p);
    if (rc == 0 && p.encoder != l->encoder)
        rc = store_live_set(store, e->model, l->encoder, -1, "rollback", e->now_us);
    else
        errand_nothing(e);
    if (rc == 0) {
        const bool live = p.encoder == l->encoder && e->live_encoder == l->encoder;

        e->status = live ? 200 : 202;
        api_write_rollback(&e->body, &(struct api_rollback){.model = e->model_name,
                                                            .version = {l->encoder, p.seq},
                                                            .live = live});
    }
    return rc;
}

static void follow(struct errand *e)
{
    handlers_hint(e->server);
}

void handle_rollback(struct exchange *x)
{
    const struct http_request *r = exchange_request(x);
    struct lineage *l = errand_new(x, sizeof *l, exchange_param(x, 0), act_rollback);

    if (l == NULL)
        return;
    l->errand.told = follow;
    l->errand.action = "rollback";
    if (l->errand.vectors)
        api_problem_set(&l->errand.problem, 422, "no_encoder", "",
                        "a model of encoder none has no other to go back to");
    if (l->errand.vectors ||
        api_parse_rollback(r->body, r->body_bytes, &l->encoder, &l->errand.problem) != 0) {
        errand_refuse(&l->errand, x);
        return;
    }
    snprintf(l->errand.object, sizeof l->errand.object, "encoder %lld", (long long)l->encoder);
    errand_write(&l->errand, x);
}
