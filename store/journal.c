/* journal.c -- events: appending and reading. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/store_internal.h"

int store_event_add(struct store *s, const struct store_event_row *row, int64_t *ret_seq)
{
    sqlite3_stmt *q = store_statement(s, STORE_EVENT_ADD);
    int64_t seq;
    int rc;

    sqlite3_bind_int64(q, 1, row->model);
    sqlite3_bind_text(q, 2, row->op, -1, SQLITE_STATIC);
    if (row->example != NULL)
        sqlite3_bind_blob(q, 3, row->example, STORE_ID_BYTES, SQLITE_STATIC);
    if (row->label != 0)
        sqlite3_bind_int64(q, 4, row->label);
    sqlite3_bind_double(q, 5, row->weight);
    sqlite3_bind_text(q, 6, row->annotator, -1, SQLITE_STATIC);
    sqlite3_bind_text(q, 7, row->source, -1, SQLITE_STATIC);
    sqlite3_bind_int64(q, 8, row->request_encoder);
    sqlite3_bind_int64(q, 9, row->request_seq);
    sqlite3_bind_int64(q, 10, row->now_us);
    rc = store_run(s, q);
    if (rc != 0)
        return rc;
    seq = sqlite3_last_insert_rowid(s->db);
    q = store_statement(s, STORE_MODEL_SEQ);
    sqlite3_bind_int64(q, 1, row->model);
    sqlite3_bind_int64(q, 2, seq);
    rc = store_run(s, q);
    if (rc == 0)
        *ret_seq = seq;
    return rc;
}

int store_seq(struct store *s, int64_t *ret_seq)
{
    sqlite3_stmt *q = store_statement(s, STORE_EVENT_LAST);
    int rc = store_step(s, q);

    if (rc == 1)
        *ret_seq = sqlite3_column_int64(q, 0);
    sqlite3_reset(q);
    return rc < 0 ? rc : 0;
}

static void read_event(sqlite3_stmt *q, struct store_event *row)
{
    *row = (struct store_event){.seq = sqlite3_column_int64(q, 0),
                                .created_us = sqlite3_column_int64(q, 5)};
    snprintf(row->op, sizeof row->op, "%s", (const char *)sqlite3_column_text(q, 1));
    if (sqlite3_column_bytes(q, 2) == STORE_ID_BYTES) {
        memcpy(row->example, sqlite3_column_blob(q, 2), STORE_ID_BYTES);
        row->has_example = true;
    }
    store_copy_name(row->label, sqlite3_column_text(q, 3));
    store_copy_name(row->annotator, sqlite3_column_text(q, 4));
}

static int scan(struct store *s, enum store_statement which, int64_t model, int64_t from,
                uint32_t limit, store_event_fn *fn, void *ud)
{
    sqlite3_stmt *q = store_statement(s, which);
    int rc;

    sqlite3_bind_int64(q, 1, model);
    sqlite3_bind_int64(q, 2, from);
    sqlite3_bind_int64(q, 3, limit > 0 ? (int64_t)limit : -1);
    while ((rc = store_step(s, q)) == 1) {
        struct store_event row;

        read_event(q, &row);
        rc = fn(ud, &row);
        if (rc != 0)
            break;
    }
    sqlite3_reset(q);
    return rc;
}

int store_event_scan(struct store *s, int64_t model, int64_t after, uint32_t limit,
                     store_event_fn *fn, void *ud)
{
    return scan(s, STORE_EVENT_SCAN, model, after, limit, fn, ud);
}

int store_event_scan_back(struct store *s, int64_t model, int64_t before, uint32_t limit,
                          store_event_fn *fn, void *ud)
{
    return scan(s, STORE_EVENT_SCAN_BACK, model, before > 0 ? before : INT64_MAX, limit, fn, ud);
}

struct getting {
    struct store_event *event;
    int64_t seq;
    bool found;
};

static int get_one(void *ud, const struct store_event *row)
{
    struct getting *g = ud;

    if (row->seq == g->seq) {
        *g->event = *row;
        g->found = true;
    }
    return 0;
}

int store_event_get(struct store *s, int64_t model, int64_t seq, struct store_event *ret_event)
{
    struct getting g = {ret_event, seq, false};
    int rc = store_event_scan(s, model, seq - 1, 1, get_one, &g);

    return rc != 0 ? rc : g.found ? 0 : -ENOENT;
}
