/* versions.c -- encoders as rows, and which one serves a model since when. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/store_internal.h"

/* Runs a statement on one number. */
static int run_on(struct store *s, enum store_statement which, int64_t number)
{
    sqlite3_stmt *q = store_statement(s, which);

    sqlite3_bind_int64(q, 1, number);
    return store_run(s, q);
}

/* ---- encoders -------------------------------------------------------------------------------- */

int store_encoder_base(struct store *s, uint8_t ret_sha256[STORE_HASH_BYTES])
{
    sqlite3_stmt *q = store_statement(s, STORE_ENCODER_BASE);
    int rc = store_step(s, q);

    if (rc == 1 && sqlite3_column_bytes(q, 0) == STORE_HASH_BYTES)
        memcpy(ret_sha256, sqlite3_column_blob(q, 0), STORE_HASH_BYTES);
    else if (rc >= 0)
        rc = -ENOENT;
    sqlite3_reset(q);
    return rc < 0 ? rc : 0;
}

int store_encoder_claim(struct store *s, const uint8_t sha256[STORE_HASH_BYTES], int64_t now_us,
                        int64_t *ret_encoder)
{
    sqlite3_stmt *q = store_statement(s, STORE_ENCODER_BASE);
    int rc = store_step(s, q);

    if (rc == 1 && (sqlite3_column_bytes(q, 0) != STORE_HASH_BYTES ||
                    memcmp(sqlite3_column_blob(q, 0), sha256, STORE_HASH_BYTES) != 0)) {
        snprintf(s->why, sizeof s->why, "the state folder was taught with another encoder");
        rc = -EUCLEAN;
    }
    sqlite3_reset(q);
    if (rc == 0) {
        q = store_statement(s, STORE_ENCODER_CLAIM);
        sqlite3_bind_blob(q, 1, sha256, STORE_HASH_BYTES, SQLITE_STATIC);
        sqlite3_bind_int64(q, 2, now_us);
        rc = store_run(s, q);
    }
    if (rc < 0)
        return rc;
    *ret_encoder = 0;
    return 0;
}

/* Has the model these weights already? 1 with the number, 0 or -errno. */
static int find(struct store *s, const struct store_encoder *e, int64_t *ret_id)
{
    sqlite3_stmt *q = store_statement(s, STORE_ENCODER_FIND);
    int rc;

    sqlite3_bind_int64(q, 1, e->model);
    sqlite3_bind_blob(q, 2, e->sha256, STORE_HASH_BYTES, SQLITE_STATIC);
    sqlite3_bind_int64(q, 3, e->run);
    rc = store_step(s, q);
    if (rc == 1)
        *ret_id = sqlite3_column_int64(q, 0);
    sqlite3_reset(q);
    return rc;
}

int store_encoder_add(struct store *s, const struct store_encoder *e, int64_t *ret_id)
{
    sqlite3_stmt *q;
    int rc = find(s, e, ret_id);

    if (rc != 0)
        return rc == 1 ? -EEXIST : rc;
    q = store_statement(s, STORE_ENCODER_ADD);
    sqlite3_bind_int64(q, 1, e->model);
    sqlite3_bind_int64(q, 2, e->parent);
    sqlite3_bind_int64(q, 3, e->run);
    sqlite3_bind_text(q, 4, e->origin, -1, SQLITE_STATIC);
    sqlite3_bind_int64(q, 5, e->dim);
    sqlite3_bind_blob(q, 6, e->sha256, STORE_HASH_BYTES, SQLITE_STATIC);
    sqlite3_bind_int64(q, 7, e->created_us);
    rc = store_run(s, q);
    if (rc == 0)
        *ret_id = sqlite3_last_insert_rowid(s->db);
    return rc;
}

static int set_state(struct store *s, int64_t encoder, const char *state)
{
    sqlite3_stmt *q = store_statement(s, STORE_ENCODER_STATE);
    int rc;

    sqlite3_bind_int64(q, 1, encoder);
    sqlite3_bind_text(q, 2, state, -1, SQLITE_STATIC);
    rc = store_run(s, q);
    return rc == 0 && sqlite3_changes(s->db) == 0 ? -ENOENT : rc;
}

int store_encoder_state(struct store *s, int64_t encoder, const char *state)
{
    sqlite3_stmt *q = store_statement(s, STORE_ENCODER_USED);
    int rc;

    sqlite3_bind_int64(q, 1, encoder);
    rc = encoder == 0 ? 1 : store_step(s, q);
    sqlite3_reset(q);
    if (rc != 0)
        return rc == 1 ? -EBUSY : rc;
    rc = set_state(s, encoder, state);
    return rc == 0 && strcmp(state, "removed") == 0 ? run_on(s, STORE_ENCODER_HEADS, encoder) : rc;
}

/* Shows one row of ENCODER_GET or ENCODER_SCAN to fn. */
static int show(sqlite3_stmt *q, store_encoder_fn *fn, void *ud)
{
    struct store_encoder row = {.id = sqlite3_column_int64(q, 0),
                                .model = sqlite3_column_int64(q, 1),
                                .parent = sqlite3_column_int64(q, 2),
                                .run = sqlite3_column_int64(q, 3),
                                .origin = (const char *)sqlite3_column_text(q, 4),
                                .state = (const char *)sqlite3_column_text(q, 5),
                                .dim = (uint32_t)sqlite3_column_int64(q, 6),
                                .created_us = sqlite3_column_int64(q, 8)};
    const void *sha256 = sqlite3_column_blob(q, 7);

    if (row.origin == NULL || row.state == NULL || sha256 == NULL)
        return -ENOMEM;
    if (sqlite3_column_bytes(q, 7) == STORE_HASH_BYTES)
        memcpy(row.sha256, sha256, STORE_HASH_BYTES);
    return fn(ud, &row);
}

int store_encoder_get(struct store *s, int64_t encoder, store_encoder_fn *fn, void *ud)
{
    sqlite3_stmt *q = store_statement(s, STORE_ENCODER_GET);
    int rc;

    sqlite3_bind_int64(q, 1, encoder);
    rc = store_step(s, q);
    rc = rc == 1 ? show(q, fn, ud) : rc == 0 ? -ENOENT : rc;
    sqlite3_reset(q);
    return rc;
}

int store_encoder_scan(struct store *s, int64_t model, store_encoder_fn *fn, void *ud)
{
    sqlite3_stmt *q = store_statement(s, STORE_ENCODER_SCAN);
    int rc;

    sqlite3_bind_int64(q, 1, model);
    while ((rc = store_step(s, q)) == 1) {
        rc = show(q, fn, ud);
        if (rc != 0)
            break;
    }
    sqlite3_reset(q);
    return rc;
}

/* ---- what is live ---------------------------------------------------------------------------- */

int store_live_add(struct store *s, const struct store_live *row)
{
    sqlite3_stmt *q = store_statement(s, STORE_LIVE_ADD);

    sqlite3_bind_int64(q, 1, row->model);
    sqlite3_bind_int64(q, 2, row->t_us);
    sqlite3_bind_int64(q, 3, row->seq);
    sqlite3_bind_int64(q, 4, row->encoder);
    sqlite3_bind_int64(q, 5, row->run);
    sqlite3_bind_text(q, 6, row->reason, -1, SQLITE_STATIC);
    return store_run(s, q);
}

static int is_held(void *ud, const struct store_encoder *row)
{
    (void)ud;
    return strcmp(row->state, "refused") == 0 || strcmp(row->state, "removed") == 0 ? -ESTALE : 0;
}

static int last_seq(struct store *s, int64_t model, int64_t *ret_seq)
{
    sqlite3_stmt *q = store_statement(s, STORE_LIVE_MODEL);
    int rc;

    sqlite3_bind_int64(q, 1, model);
    rc = store_step(s, q);
    if (rc == 1)
        *ret_seq = sqlite3_column_int64(q, 0);
    sqlite3_reset(q);
    return rc == 1 ? 0 : rc == 0 ? -ENOENT : rc;
}

int store_live_set(struct store *s, int64_t model, int64_t encoder, int64_t run, const char *reason,
                   int64_t now_us)
{
    struct store_live row = {.model = model, .t_us = now_us, .encoder = encoder, .run = run};
    sqlite3_stmt *q;
    int rc = last_seq(s, model, &row.seq);

    if (rc == 0 && encoder != 0)
        rc = store_encoder_get(s, encoder, is_held, NULL);
    if (rc != 0)
        return rc;
    snprintf(row.reason, sizeof row.reason, "%s", reason);
    q = store_statement(s, STORE_LIVE_SET);
    sqlite3_bind_int64(q, 1, model);
    sqlite3_bind_int64(q, 2, encoder);
    sqlite3_bind_int64(q, 3, now_us);
    rc = store_run(s, q);
    if (rc == 0 && strcmp(reason, "created") == 0) /* it never had another */
        rc = run_on(s, STORE_LIVE_FORGET, model);
    if (rc == 0)
        rc = store_live_add(s, &row);
    if (rc == 0 && encoder != 0)
        rc = set_state(s, encoder, "live");
    return rc == 0 ? store_run(s, store_statement(s, STORE_ENCODER_HOLD)) : rc;
}

int store_live_at(struct store *s, int64_t model, int64_t t_us, int64_t *ret_encoder,
                  int64_t *ret_seq)
{
    sqlite3_stmt *q = store_statement(s, STORE_LIVE_AT);
    int64_t encoder = 0, seq = 0;
    int rc;

    sqlite3_bind_int64(q, 1, model);
    sqlite3_bind_int64(q, 2, t_us);
    rc = store_step(s, q);
    if (rc == 1)
        encoder = sqlite3_column_int64(q, 0);
    sqlite3_reset(q);
    if (rc != 1)
        return rc == 0 ? -ENOENT : rc;
    q = store_statement(s, STORE_LIVE_AT_SEQ);
    sqlite3_bind_int64(q, 1, model);
    sqlite3_bind_int64(q, 2, t_us);
    rc = store_step(s, q);
    if (rc == 1)
        seq = sqlite3_column_int64(q, 0);
    sqlite3_reset(q);
    if (rc < 0)
        return rc;
    *ret_encoder = encoder;
    *ret_seq = seq;
    return 0;
}

int store_live_scan(struct store *s, int64_t model, store_live_fn *fn, void *ud)
{
    sqlite3_stmt *q = store_statement(s, STORE_LIVE_SCAN);
    int rc;

    sqlite3_bind_int64(q, 1, model);
    while ((rc = store_step(s, q)) == 1) {
        struct store_live row = {.model = model,
                                 .t_us = sqlite3_column_int64(q, 0),
                                 .seq = sqlite3_column_int64(q, 1),
                                 .encoder = sqlite3_column_int64(q, 2),
                                 .run = sqlite3_column_int64(q, 3)};
        const char *reason = (const char *)sqlite3_column_text(q, 4);

        if (reason != NULL)
            snprintf(row.reason, sizeof row.reason, "%s", reason);
        rc = reason != NULL ? fn(ud, &row) : -ENOMEM;
        if (rc != 0)
            break;
    }
    sqlite3_reset(q);
    return rc;
}
