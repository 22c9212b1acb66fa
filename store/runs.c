/* runs.c -- runs: what was asked for, how far it is, how it ended. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "store/store_internal.h"

/* A unique or foreign key stood in the way. */
static bool is_constraint(const struct store *s, int rc)
{
    return rc == -EIO && (sqlite3_extended_errcode(s->db) & 0xff) == SQLITE_CONSTRAINT;
}

/* The one number that a statement finds. 1, 0 or -errno. */
static int number_of(struct store *s, enum store_statement which, int64_t key, int64_t *ret_number)
{
    sqlite3_stmt *q = store_statement(s, which);
    int rc;

    sqlite3_bind_int64(q, 1, key);
    rc = store_step(s, q);
    if (rc == 1)
        *ret_number = sqlite3_column_int64(q, 0);
    sqlite3_reset(q);
    return rc;
}

int store_run_add(struct store *s, const struct store_run_new *run, int64_t *ret_id)
{
    sqlite3_stmt *q;
    int rc = number_of(s, STORE_RUN_OF_MODEL, run->model, ret_id);

    if (rc != 0)
        return rc == 1 ? -EEXIST : rc;
    q = store_statement(s, STORE_RUN_ADD);
    sqlite3_bind_int64(q, 1, run->model);
    sqlite3_bind_text(q, 2, run->strategy, -1, SQLITE_STATIC);
    sqlite3_bind_text(q, 3, run->settings, -1, SQLITE_STATIC);
    sqlite3_bind_int64(q, 4, (int64_t)run->seed);
    sqlite3_bind_int64(q, 5, run->since_seq);
    sqlite3_bind_int64(q, 6, run->parent);
    sqlite3_bind_text(q, 7, run->who, -1, SQLITE_STATIC);
    sqlite3_bind_int64(q, 8, run->now_us);
    rc = store_run(s, q);
    if (is_constraint(s, rc))
        return -ENOENT;
    if (rc == 0)
        *ret_id = sqlite3_last_insert_rowid(s->db);
    return rc;
}

static void bind_kept(sqlite3_stmt *q, int at, int64_t value)
{
    if (value != STORE_KEEP)
        sqlite3_bind_int64(q, at, value);
}

static void bind_text(sqlite3_stmt *q, int at, const char *text)
{
    if (text != NULL)
        sqlite3_bind_text(q, at, text, -1, SQLITE_STATIC);
}

/* After a statement that looked for a run that has not ended and changed no row. */
static int missed(struct store *s, int64_t run)
{
    sqlite3_stmt *q = store_statement(s, STORE_RUN_GET);
    int rc;

    sqlite3_bind_int64(q, 1, run);
    rc = store_step(s, q);
    sqlite3_reset(q);
    return rc < 0 ? rc : rc == 1 ? -EALREADY : -ENOENT;
}

int store_run_update(struct store *s, int64_t run, const struct store_run_update *u)
{
    sqlite3_stmt *q = store_statement(s, STORE_RUN_UPDATE);
    int rc;

    sqlite3_bind_int64(q, 1, run);
    bind_text(q, 2, u->state);
    bind_text(q, 3, u->phase);
    bind_text(q, 4, u->progress);
    bind_text(q, 5, u->verdict);
    bind_text(q, 6, u->reason);
    bind_kept(q, 7, u->from_seq);
    bind_kept(q, 8, u->since_seq);
    bind_kept(q, 9, u->parent);
    bind_kept(q, 10, u->encoder);
    bind_kept(q, 11, u->step);
    bind_kept(q, 12, u->steps);
    sqlite3_bind_int64(q, 13, u->now_us);
    rc = store_run(s, q);
    if (rc == 0 && sqlite3_changes(s->db) == 0)
        return missed(s, run);
    if (rc != 0 || u->state == NULL || strcmp(u->state, "queued") == 0 ||
        strcmp(u->state, "running") == 0 || strcmp(u->state, "accepted") == 0)
        return rc;
    q = store_statement(s, STORE_ENCODER_REFUSE);
    sqlite3_bind_int64(q, 1, run);
    return store_run(s, q);
}

int store_run_cancel(struct store *s, int64_t run, int64_t now_us)
{
    sqlite3_stmt *q = store_statement(s, STORE_RUN_CANCEL);
    int rc;

    sqlite3_bind_int64(q, 1, run);
    sqlite3_bind_int64(q, 2, now_us);
    rc = store_run(s, q);
    return rc == 0 && sqlite3_changes(s->db) == 0 ? missed(s, run) : rc;
}

/* Shows one row of RUN_GET, RUN_SCAN or RUN_NEXT to fn. */
static int show(sqlite3_stmt *q, store_run_fn *fn, void *ud)
{
    struct store_run row = {.id = sqlite3_column_int64(q, 0),
                            .model = sqlite3_column_int64(q, 1),
                            .strategy = (const char *)sqlite3_column_text(q, 2),
                            .settings = (const char *)sqlite3_column_text(q, 3),
                            .seed = (uint64_t)sqlite3_column_int64(q, 4),
                            .from_seq = sqlite3_column_int64(q, 5),
                            .since_seq = sqlite3_column_int64(q, 6),
                            .parent = sqlite3_column_int64(q, 7),
                            .encoder = sqlite3_column_int64(q, 8),
                            .state = (const char *)sqlite3_column_text(q, 9),
                            .phase = (const char *)sqlite3_column_text(q, 10),
                            .step = sqlite3_column_int64(q, 11),
                            .steps = sqlite3_column_int64(q, 12),
                            .cancel = sqlite3_column_int(q, 13) != 0,
                            .progress = (const char *)sqlite3_column_text(q, 14),
                            .verdict = (const char *)sqlite3_column_text(q, 15),
                            .reason = (const char *)sqlite3_column_text(q, 16),
                            .who = (const char *)sqlite3_column_text(q, 17),
                            .created_us = sqlite3_column_int64(q, 18),
                            .started_us = sqlite3_column_int64(q, 19),
                            .ended_us = sqlite3_column_int64(q, 20),
                            .updated_us = sqlite3_column_int64(q, 21)};

    if (row.strategy == NULL || row.settings == NULL || row.state == NULL || row.phase == NULL ||
        row.progress == NULL || row.reason == NULL || row.who == NULL ||
        (row.verdict == NULL && sqlite3_column_type(q, 15) != SQLITE_NULL))
        return -ENOMEM;
    return fn(ud, &row);
}

static int show_one(struct store *s, sqlite3_stmt *q, store_run_fn *fn, void *ud)
{
    int rc = store_step(s, q);

    rc = rc == 1 ? show(q, fn, ud) : rc == 0 ? -ENOENT : rc;
    sqlite3_reset(q);
    return rc;
}

int store_run_get(struct store *s, int64_t run, store_run_fn *fn, void *ud)
{
    sqlite3_stmt *q = store_statement(s, STORE_RUN_GET);

    sqlite3_bind_int64(q, 1, run);
    return show_one(s, q, fn, ud);
}

int store_run_next(struct store *s, store_run_fn *fn, void *ud)
{
    return show_one(s, store_statement(s, STORE_RUN_NEXT), fn, ud);
}

int store_run_scan(struct store *s, const struct store_run_filter *filter, store_run_fn *fn,
                   void *ud)
{
    sqlite3_stmt *q = store_statement(s, STORE_RUN_SCAN);
    int rc;

    sqlite3_bind_int64(q, 1, filter->model);
    bind_text(q, 2, filter->states);
    sqlite3_bind_int64(q, 3, filter->before);
    sqlite3_bind_int64(q, 4, filter->limit > 0 ? (int64_t)filter->limit : -1);
    while ((rc = store_step(s, q)) == 1) {
        rc = show(q, fn, ud);
        if (rc != 0)
            break;
    }
    sqlite3_reset(q);
    return rc;
}

/* ---- metrics --------------------------------------------------------------------------------- */

static void bind_finite(sqlite3_stmt *q, int at, double value)
{
    if (isfinite(value))
        sqlite3_bind_double(q, at, value);
}

static double finite_of(sqlite3_stmt *q, int at)
{
    return sqlite3_column_type(q, at) == SQLITE_NULL ? (double)NAN : sqlite3_column_double(q, at);
}

int store_run_forget(struct store *s, int64_t before_us, uint64_t *ret_runs, uint64_t *ret_metrics)
{
    static const enum store_statement which[] = {STORE_RUN_FORGET_METRICS, STORE_RUN_FORGET};
    uint64_t gone[2] = {0};
    int rc = 0;

    for (int i = 0; i < 2 && rc == 0; i++) {
        sqlite3_stmt *q = store_statement(s, which[i]);

        sqlite3_bind_int64(q, 1, before_us);
        rc = store_run(s, q);
        gone[i] = rc == 0 ? (uint64_t)sqlite3_changes(s->db) : 0;
    }
    if (rc == 0) {
        *ret_metrics = gone[0];
        *ret_runs = gone[1];
    }
    return rc;
}

int store_run_metric_put(struct store *s, int64_t run, const struct store_run_metric *m)
{
    sqlite3_stmt *q = store_statement(s, STORE_METRIC_PUT);
    int64_t len = 0;
    int rc;

    sqlite3_bind_int64(q, 1, run);
    sqlite3_bind_int64(q, 2, m->step);
    bind_finite(q, 3, m->loss);
    bind_finite(q, 4, m->grad_norm);
    bind_finite(q, 5, m->lr);
    sqlite3_bind_int64(q, 6, m->t_us);
    rc = store_run(s, q);
    if (is_constraint(s, rc))
        return -ENOENT;
    if (rc == 0)
        rc = number_of(s, STORE_METRIC_COUNT, run, &len);
    if (rc < 0 || len <= STORE_RUN_METRICS_MAX)
        return rc < 0 ? rc : 0;
    q = store_statement(s, STORE_METRIC_THIN);
    sqlite3_bind_int64(q, 1, run);
    return store_run(s, q);
}

int store_run_metric_scan(struct store *s, int64_t run, store_run_metric_fn *fn, void *ud)
{
    sqlite3_stmt *q = store_statement(s, STORE_METRIC_SCAN);
    int rc;

    sqlite3_bind_int64(q, 1, run);
    while ((rc = store_step(s, q)) == 1) {
        struct store_run_metric row = {.step = sqlite3_column_int64(q, 0),
                                       .loss = finite_of(q, 1),
                                       .grad_norm = finite_of(q, 2),
                                       .lr = finite_of(q, 3),
                                       .t_us = sqlite3_column_int64(q, 4)};

        rc = fn(ud, &row);
        if (rc != 0)
            break;
    }
    sqlite3_reset(q);
    return rc;
}
