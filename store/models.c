/* models.c -- models and labels. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "store/store_internal.h"

int store_model_add(struct store *s, const char *name, const char *kind, const char *settings,
                    int64_t now_us, int64_t *ret_id)
{
    sqlite3_stmt *q = store_statement(s, STORE_MODEL_ADD);
    struct store_live live = {.t_us = now_us, .run = -1, .reason = "created"};
    int rc;

    sqlite3_bind_text(q, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_text(q, 2, kind, -1, SQLITE_STATIC);
    sqlite3_bind_text(q, 3, settings, -1, SQLITE_STATIC);
    sqlite3_bind_int64(q, 4, now_us);
    rc = store_run(s, q);
    if (rc == -EIO && sqlite3_extended_errcode(s->db) == SQLITE_CONSTRAINT_UNIQUE)
        return -EEXIST;
    if (rc != 0)
        return rc;
    live.model = sqlite3_last_insert_rowid(s->db);
    rc = store_live_add(s, &live);
    if (rc == 0)
        *ret_id = live.model;
    return rc;
}

/* The files of a model's heads. They are removed first: a row without its file is passed over when
 * it is read. */
static int remove_files(struct store *s, int64_t model)
{
    sqlite3_stmt *q = store_statement(s, STORE_SNAPSHOT_OF_MODEL);
    char path[4096];
    int rc;

    sqlite3_bind_int64(q, 1, model);
    while ((rc = store_step(s, q)) == 1) {
        snprintf(path, sizeof path, "%s/heads/%lld-%lld-%lld.head", s->folder, (long long)model,
                 (long long)sqlite3_column_int64(q, 0), (long long)sqlite3_column_int64(q, 1));
        unlink(path);
    }
    sqlite3_reset(q);
    return rc;
}

/* Encoders that only it has used go with it. */
static int leave_encoders(struct store *s)
{
    int rc = store_run(s, store_statement(s, STORE_ENCODER_ORPHANS));

    return rc == 0 ? store_run(s, store_statement(s, STORE_ENCODER_HOLD)) : rc;
}

int store_model_remove(struct store *s, int64_t model)
{
    sqlite3_stmt *q;
    int rc = remove_files(s, model);

    if (rc != 0)
        return rc;
    q = store_statement(s, STORE_MODEL_REMOVE);
    sqlite3_bind_int64(q, 1, model);
    rc = store_run(s, q);
    if (rc == 0 && sqlite3_changes(s->db) == 0)
        rc = -ENOENT;
    return rc == 0 ? leave_encoders(s) : rc;
}

int store_model_settings(struct store *s, int64_t model, const char *settings)
{
    sqlite3_stmt *q = store_statement(s, STORE_MODEL_SETTINGS);
    int rc;

    sqlite3_bind_int64(q, 1, model);
    sqlite3_bind_text(q, 2, settings, -1, SQLITE_STATIC);
    rc = store_run(s, q);
    return rc != 0 ? rc : sqlite3_changes(s->db) > 0 ? 0 : -ENOENT;
}

int store_model_scan(struct store *s, store_model_fn *fn, void *ud)
{
    sqlite3_stmt *q = store_statement(s, STORE_MODEL_SCAN);
    int rc;

    while ((rc = store_step(s, q)) == 1) {
        struct store_model row = {.id = sqlite3_column_int64(q, 0),
                                  .settings = (char *)(uintptr_t)sqlite3_column_text(q, 3),
                                  .created_us = sqlite3_column_int64(q, 4),
                                  .seq = sqlite3_column_int64(q, 5),
                                  .examples = sqlite3_column_int64(q, 6),
                                  .labels = sqlite3_column_int64(q, 7),
                                  .encoder = sqlite3_column_int64(q, 8),
                                  .live_us = sqlite3_column_int64(q, 9)};

        store_copy_name(row.name, sqlite3_column_text(q, 1));
        snprintf(row.kind, sizeof row.kind, "%s", (const char *)sqlite3_column_text(q, 2));
        rc = fn(ud, &row);
        if (rc != 0)
            break;
    }
    sqlite3_reset(q);
    return rc;
}

/* ---- labels ---------------------------------------------------------------------------------- */

int store_label_named(struct store *s, int64_t model, const char *name, int64_t *ret_id)
{
    sqlite3_stmt *q = store_statement(s, STORE_LABEL_NAMED);
    int rc;

    sqlite3_bind_int64(q, 1, model);
    sqlite3_bind_text(q, 2, name, -1, SQLITE_STATIC);
    rc = store_step(s, q);
    if (rc == 1)
        *ret_id = sqlite3_column_int64(q, 0);
    sqlite3_reset(q);
    return rc == 1 ? 0 : rc == 0 ? -ENOENT : rc;
}

/* Follows merges from *id to where they end; they have no cycles, for a merged label is merged no
 * more. */
static int follow(struct store *s, int64_t *id, bool *ret_retired)
{
    for (;;) {
        sqlite3_stmt *q = store_statement(s, STORE_LABEL_STATE);
        int64_t into = 0;
        int rc;

        sqlite3_bind_int64(q, 1, *id);
        rc = store_step(s, q);
        if (rc == 1) {
            *ret_retired = sqlite3_column_int(q, 0) != 0;
            into = sqlite3_column_int64(q, 1);
        }
        sqlite3_reset(q);
        if (rc != 1 || into == 0)
            return rc == 1 ? 0 : rc == 0 ? -ENOENT : rc;
        *id = into;
    }
}

int store_label_resolve(struct store *s, int64_t model, const char *name, int64_t *ret_id,
                        bool *ret_retired)
{
    int64_t id;
    int rc = store_label_named(s, model, name, &id);

    if (rc == 0)
        rc = follow(s, &id, ret_retired);
    if (rc == 0)
        *ret_id = id;
    return rc;
}

int store_label_find(struct store *s, int64_t model, const char *name, int64_t *ret_id)
{
    bool retired;

    return store_label_resolve(s, model, name, ret_id, &retired);
}

int store_label_final(struct store *s, int64_t label, int64_t *ret_id)
{
    bool retired;
    int rc = follow(s, &label, &retired);

    if (rc == 0)
        *ret_id = label;
    return rc;
}

int store_label_add(struct store *s, int64_t model, const char *name, int64_t now_us,
                    int64_t *ret_id, int64_t *ret_seq)
{
    struct store_event_row event = {.model = model,
                                    .op = "label_add",
                                    .annotator = "",
                                    .source = "",
                                    .request_encoder = -1,
                                    .now_us = now_us};
    sqlite3_stmt *q;
    int rc = store_label_find(s, model, name, ret_id);

    if (rc == 0)
        return -EEXIST;
    if (rc != -ENOENT)
        return rc;
    q = store_statement(s, STORE_LABEL_ADD);
    sqlite3_bind_int64(q, 1, model);
    sqlite3_bind_text(q, 2, name, -1, SQLITE_STATIC);
    sqlite3_bind_int64(q, 3, now_us);
    rc = store_run(s, q);
    if (rc == -EIO && (sqlite3_extended_errcode(s->db) & 0xff) == SQLITE_CONSTRAINT)
        return -ENOENT; /* no such model */
    if (rc != 0)
        return rc;
    *ret_id = event.label = sqlite3_last_insert_rowid(s->db);
    rc = store_event_add(s, &event, ret_seq);
    if (rc != 0)
        return rc;
    q = store_statement(s, STORE_LABEL_SEQ);
    sqlite3_bind_int64(q, 1, *ret_id);
    sqlite3_bind_int64(q, 2, *ret_seq);
    rc = store_run(s, q);
    if (rc != 0)
        return rc;
    q = store_statement(s, STORE_LABEL_EVENT);
    sqlite3_bind_int64(q, 1, *ret_seq);
    sqlite3_bind_text(q, 3, name, -1, SQLITE_STATIC);
    return store_run(s, q);
}

int store_label_name(struct store *s, int64_t label, char ret_name[STORE_NAME_BYTES_MAX + 1])
{
    sqlite3_stmt *q = store_statement(s, STORE_LABEL_NAME);
    int rc;

    sqlite3_bind_int64(q, 1, label);
    rc = store_step(s, q);
    if (rc == 1)
        store_copy_name(ret_name, sqlite3_column_text(q, 0));
    sqlite3_reset(q);
    return rc == 1 ? 0 : rc == 0 ? -ENOENT : rc;
}

/* Shows one row of LABEL_GET, LABEL_SCAN or LABEL_COLUMNS to fn. */
static int show_label(sqlite3_stmt *q, store_label_fn *fn, void *ud)
{
    const unsigned char *name = sqlite3_column_text(q, 1), *status = sqlite3_column_text(q, 2);
    struct store_label row = {.id = sqlite3_column_int64(q, 0),
                              .into = sqlite3_column_int64(q, 3),
                              .seq = sqlite3_column_int64(q, 4),
                              .score_min = -1,
                              .payload = (const char *)sqlite3_column_text(q, 6),
                              .created_us = sqlite3_column_int64(q, 7),
                              .examples = sqlite3_column_int64(q, 8)};

    if (name == NULL || status == NULL ||
        (row.payload == NULL && sqlite3_column_type(q, 6) != SQLITE_NULL))
        return -ENOMEM;
    store_copy_name(row.name, name);
    snprintf(row.status, sizeof row.status, "%s", (const char *)status);
    if (sqlite3_column_type(q, 5) != SQLITE_NULL)
        row.score_min = sqlite3_column_double(q, 5);
    return fn(ud, &row);
}

int store_label_get(struct store *s, int64_t label, store_label_fn *fn, void *ud)
{
    sqlite3_stmt *q = store_statement(s, STORE_LABEL_GET);
    int rc;

    sqlite3_bind_int64(q, 1, label);
    rc = store_step(s, q);
    rc = rc == 1 ? show_label(q, fn, ud) : rc == 0 ? -ENOENT : rc;
    sqlite3_reset(q);
    return rc;
}

static int scan_labels(struct store *s, enum store_statement which, int64_t model, int64_t after,
                       uint32_t limit, store_label_fn *fn, void *ud)
{
    sqlite3_stmt *q = store_statement(s, which);
    int rc;

    sqlite3_bind_int64(q, 1, model);
    sqlite3_bind_int64(q, 2, after);
    sqlite3_bind_int64(q, 3, limit > 0 ? (int64_t)limit : -1);
    while ((rc = store_step(s, q)) == 1) {
        rc = show_label(q, fn, ud);
        if (rc != 0)
            break;
    }
    sqlite3_reset(q);
    return rc;
}

int store_label_scan(struct store *s, int64_t model, int64_t after, uint32_t limit,
                     store_label_fn *fn, void *ud)
{
    return scan_labels(s, STORE_LABEL_SCAN, model, after, limit, fn, ud);
}

int store_label_columns(struct store *s, int64_t model, int64_t after, store_label_fn *fn, void *ud)
{
    return scan_labels(s, STORE_LABEL_COLUMNS, model, after, 0, fn, ud);
}

int store_label_seq(struct store *s, int64_t model, int64_t *ret_seq)
{
    sqlite3_stmt *q = store_statement(s, STORE_LABEL_SEQ_MAX);
    int rc;

    sqlite3_bind_int64(q, 1, model);
    rc = store_step(s, q);
    if (rc == 1)
        *ret_seq = sqlite3_column_int64(q, 0);
    sqlite3_reset(q);
    return rc < 0 ? rc : 0;
}

int store_alias_scan(struct store *s, int64_t model, store_alias_fn *fn, void *ud)
{
    sqlite3_stmt *q = store_statement(s, STORE_ALIAS_SCAN);
    int rc;

    sqlite3_bind_int64(q, 1, model);
    while ((rc = store_step(s, q)) == 1) {
        const char *name = (const char *)sqlite3_column_text(q, 0);

        rc = name != NULL ? fn(ud, name, sqlite3_column_int64(q, 1)) : -ENOMEM;
        if (rc != 0)
            break;
    }
    sqlite3_reset(q);
    return rc;
}

int store_alias_of(struct store *s, int64_t label, store_alias_fn *fn, void *ud)
{
    sqlite3_stmt *q = store_statement(s, STORE_ALIAS_OF);
    int rc;

    sqlite3_bind_int64(q, 1, label);
    while ((rc = store_step(s, q)) == 1) {
        const char *name = (const char *)sqlite3_column_text(q, 0);

        rc = name != NULL ? fn(ud, name, label) : -ENOMEM;
        if (rc != 0)
            break;
    }
    sqlite3_reset(q);
    return rc;
}
