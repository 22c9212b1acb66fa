/* example_rows.c -- reading the fold of the journal, and the cache of embeddings. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/store_internal.h"

/* Shows one row of EXAMPLE_GET or EXAMPLE_SCAN to fn. */
static int show(struct store *s, sqlite3_stmt *q, store_example_fn *fn, void *ud)
{
    struct store_fold fold;
    struct store_example row = {.model = sqlite3_column_int64(q, 2),
                                .weight = sqlite3_column_double(q, 6),
                                .annotators = (uint32_t)sqlite3_column_int64(q, 7),
                                .first_seq = sqlite3_column_int64(q, 8),
                                .last_seq = sqlite3_column_int64(q, 9),
                                .created_us = sqlite3_column_int64(q, 10)};
    int rc = store_fold_read(s, sqlite3_column_int64(q, 0), &fold);

    if (rc != 0)
        return rc;
    memcpy(row.id, sqlite3_column_blob(q, 1), STORE_ID_BYTES);
    row.text = (const char *)sqlite3_column_text(q, 3);
    row.text_bytes = (size_t)sqlite3_column_bytes(q, 3);
    row.pair = (const char *)sqlite3_column_text(q, 4);
    row.pair_bytes = (size_t)sqlite3_column_bytes(q, 4);
    row.status = (const char *)sqlite3_column_text(q, 5);
    row.target = fold.target;
    row.target_len = fold.target_len;
    row.embedding = sqlite3_column_blob(q, 11);
    row.embedding_bytes = (size_t)sqlite3_column_bytes(q, 11);
    row.vector = sqlite3_column_blob(q, 12);
    row.vector_bytes = (size_t)sqlite3_column_bytes(q, 12);
    rc = row.text != NULL && row.status != NULL ? fn(ud, &row) : -ENOMEM;
    store_fold_done(&fold);
    return rc;
}

int store_example_get(struct store *s, const uint8_t id[STORE_ID_BYTES], int64_t encoder,
                      store_example_fn *fn, void *ud)
{
    sqlite3_stmt *q = store_statement(s, STORE_EXAMPLE_GET);
    int rc;

    sqlite3_bind_blob(q, 1, id, STORE_ID_BYTES, SQLITE_STATIC);
    sqlite3_bind_int64(q, 2, encoder);
    rc = store_step(s, q);
    rc = rc == 1 ? show(s, q, fn, ud) : rc == 0 ? -ENOENT : rc;
    sqlite3_reset(q);
    return rc;
}

static void bind_or_null(sqlite3_stmt *q, int at, const char *text)
{
    if (text != NULL)
        sqlite3_bind_text(q, at, text, -1, SQLITE_STATIC);
}

int store_example_scan(struct store *s, int64_t model, const struct store_example_filter *filter,
                       int64_t encoder, store_example_fn *fn, void *ud)
{
    int64_t label = 0;
    sqlite3_stmt *q;
    int rc = 0;

    if (filter->label != NULL)
        rc = store_label_find(s, model, filter->label, &label);
    if (rc != 0)
        return rc == -ENOENT ? 0 : rc; /* a label that is not there has no examples */
    q = store_statement(s, STORE_EXAMPLE_SCAN);
    sqlite3_bind_int64(q, 1, model);
    sqlite3_bind_int64(q, 2, encoder);
    sqlite3_bind_int64(q, 3, filter->after);
    if (filter->label != NULL)
        sqlite3_bind_int64(q, 4, label);
    bind_or_null(q, 5, filter->annotator);
    bind_or_null(q, 6, filter->status);
    bind_or_null(q, 7, filter->q);
    sqlite3_bind_int64(q, 8, filter->limit > 0 ? (int64_t)filter->limit : -1);
    while ((rc = store_step(s, q)) == 1) {
        rc = show(s, q, fn, ud);
        if (rc != 0)
            break;
    }
    sqlite3_reset(q);
    return rc;
}

/* ---- what a stretch of the journal touched --------------------------------------------------- */

static int show_deleted(struct store *s, int64_t model, const uint8_t id[STORE_ID_BYTES],
                        store_example_fn *fn, void *ud)
{
    struct store_example row = {.model = model, .text = "", .status = "deleted"};
    sqlite3_stmt *q = store_statement(s, STORE_EVENT_LAST_OF);
    int rc;

    sqlite3_bind_blob(q, 1, id, STORE_ID_BYTES, SQLITE_STATIC);
    rc = store_step(s, q);
    if (rc == 1)
        row.last_seq = sqlite3_column_int64(q, 0);
    sqlite3_reset(q);
    memcpy(row.id, id, STORE_ID_BYTES);
    return rc < 0 ? rc : fn(ud, &row);
}

int store_example_changed(struct store *s, int64_t model, int64_t after, int64_t upto,
                          int64_t encoder, store_example_fn *fn, void *ud)
{
    sqlite3_stmt *q = store_statement(s, STORE_EVENT_TOUCHED);
    int rc;

    sqlite3_bind_int64(q, 1, model);
    sqlite3_bind_int64(q, 2, after);
    sqlite3_bind_int64(q, 3, upto);
    while ((rc = store_step(s, q)) == 1) {
        uint8_t id[STORE_ID_BYTES];

        memcpy(id, sqlite3_column_blob(q, 0), STORE_ID_BYTES);
        rc = store_example_get(s, id, encoder, fn, ud);
        if (rc == -ENOENT)
            rc = show_deleted(s, model, id, fn, ud);
        if (rc != 0)
            break;
    }
    sqlite3_reset(q);
    return rc;
}

int store_embedding_put(struct store *s, const uint8_t example[STORE_ID_BYTES], int64_t encoder,
                        const uint16_t *embedding, size_t embedding_bytes)
{
    sqlite3_stmt *q = store_statement(s, STORE_EMBEDDING_PUT);

    sqlite3_bind_blob(q, 1, example, STORE_ID_BYTES, SQLITE_STATIC);
    sqlite3_bind_int64(q, 2, encoder);
    sqlite3_bind_blob64(q, 3, embedding, embedding_bytes, SQLITE_STATIC);
    return store_run(s, q);
}

int store_embedding_missing(struct store *s, int64_t model, int64_t encoder, int64_t after,
                            uint32_t limit, store_example_fn *fn, void *ud)
{
    sqlite3_stmt *q = store_statement(s, STORE_EMBEDDING_MISSING);
    int rc;

    sqlite3_bind_int64(q, 1, model);
    sqlite3_bind_int64(q, 2, encoder);
    sqlite3_bind_int64(q, 3, after);
    sqlite3_bind_int64(q, 4, limit > 0 ? (int64_t)limit : -1);
    while ((rc = store_step(s, q)) == 1) {
        rc = show(s, q, fn, ud);
        if (rc != 0)
            break;
    }
    sqlite3_reset(q);
    return rc;
}

int store_embedding_drop(struct store *s, int64_t encoder, uint32_t limit, bool *ret_more)
{
    sqlite3_stmt *q = store_statement(s, STORE_EMBEDDING_DROP);
    int rc;

    sqlite3_bind_int64(q, 1, encoder);
    sqlite3_bind_int64(q, 2, limit);
    rc = store_run(s, q);
    if (rc == 0)
        *ret_more = sqlite3_changes(s->db) == (int)limit;
    return rc;
}
