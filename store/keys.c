/* keys.c -- see store_keys.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/store_internal.h"

static void read_key(sqlite3_stmt *q, struct store_key *key)
{
    const void *hash = sqlite3_column_blob(q, 10);

    *key = (struct store_key){.id = sqlite3_column_int64(q, 0),
                              .rate_per_s = sqlite3_column_double(q, 3),
                              .created_us = sqlite3_column_int64(q, 4),
                              .expires_us = sqlite3_column_int64(q, 5),
                              .revoked_us = sqlite3_column_int64(q, 6),
                              .used_us = sqlite3_column_int64(q, 7),
                              .requests = sqlite3_column_int64(q, 8),
                              .corrections = sqlite3_column_int64(q, 9)};
    store_copy_name(key->name, sqlite3_column_text(q, 1));
    snprintf(key->role, sizeof key->role, "%s", (const char *)sqlite3_column_text(q, 2));
    if (hash != NULL && sqlite3_column_bytes(q, 10) == STORE_HASH_BYTES)
        memcpy(key->sha256, hash, STORE_HASH_BYTES);
}

int store_key_add(struct store *s, const struct store_key *key, int64_t *ret_id)
{
    sqlite3_stmt *q = store_statement(s, STORE_API_KEY_ADD);
    int rc;

    sqlite3_bind_blob(q, 1, key->sha256, STORE_HASH_BYTES, SQLITE_STATIC);
    sqlite3_bind_text(q, 2, key->name, -1, SQLITE_STATIC);
    sqlite3_bind_text(q, 3, key->role, -1, SQLITE_STATIC);
    sqlite3_bind_double(q, 4, key->rate_per_s);
    sqlite3_bind_int64(q, 5, key->created_us);
    sqlite3_bind_int64(q, 6, key->expires_us);
    rc = store_run(s, q);
    if (rc == -EIO && sqlite3_extended_errcode(s->db) == SQLITE_CONSTRAINT_UNIQUE)
        return -EEXIST;
    if (rc == 0)
        *ret_id = sqlite3_last_insert_rowid(s->db);
    return rc;
}

int store_key_get(struct store *s, int64_t id, struct store_key *ret_key)
{
    sqlite3_stmt *q = store_statement(s, STORE_API_KEY_GET);
    int rc;

    sqlite3_bind_int64(q, 1, id);
    rc = store_step(s, q);
    if (rc == 1)
        read_key(q, ret_key);
    sqlite3_reset(q);
    return rc < 0 ? rc : rc == 1 ? 0 : -ENOENT;
}

int store_key_revoke(struct store *s, int64_t id, int64_t now_us)
{
    sqlite3_stmt *q = store_statement(s, STORE_API_KEY_REVOKE);
    struct store_key key;
    int rc;

    sqlite3_bind_int64(q, 1, id);
    sqlite3_bind_int64(q, 2, now_us);
    rc = store_run(s, q);
    if (rc != 0 || sqlite3_changes(s->db) > 0)
        return rc;
    rc = store_key_get(s, id, &key);
    return rc == 0 ? -EALREADY : rc;
}

int store_key_scan(struct store *s, int64_t after, bool standing, uint32_t limit, store_key_fn *fn,
                   void *ud)
{
    sqlite3_stmt *q = store_statement(s, STORE_API_KEY_SCAN);
    int rc, stop = 0;

    sqlite3_bind_int64(q, 1, after);
    sqlite3_bind_int(q, 2, standing);
    sqlite3_bind_int64(q, 3, limit > 0 ? (int64_t)limit : -1);
    while (stop == 0 && (rc = store_step(s, q)) == 1) {
        struct store_key key;

        read_key(q, &key);
        stop = fn(ud, &key);
    }
    sqlite3_reset(q);
    return stop != 0 ? stop : rc;
}

int store_key_count(struct store *s, uint32_t *ret_keys, uint32_t *ret_admins)
{
    sqlite3_stmt *q = store_statement(s, STORE_API_KEY_COUNT);
    int rc = store_step(s, q);

    if (rc == 1) {
        *ret_keys = (uint32_t)sqlite3_column_int64(q, 0);
        *ret_admins = (uint32_t)sqlite3_column_int64(q, 1);
    }
    sqlite3_reset(q);
    return rc < 0 ? rc : 0;
}

int store_key_used(struct store *s, int64_t id, int64_t used_us, uint64_t requests,
                   uint64_t corrections)
{
    sqlite3_stmt *q = store_statement(s, STORE_API_KEY_USED);

    sqlite3_bind_int64(q, 1, id);
    sqlite3_bind_int64(q, 2, used_us);
    sqlite3_bind_int64(q, 3, (int64_t)requests);
    sqlite3_bind_int64(q, 4, (int64_t)corrections);
    return store_run(s, q);
}

/* ---- the trail ------------------------------------------------------------------------------- */

/* The bytes of a text that fit, cut between characters. */
static int cut(const char *text)
{
    size_t len = strlen(text);

    if (len > STORE_ACT_BYTES_MAX)
        for (len = STORE_ACT_BYTES_MAX; len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80;)
            len--;
    return (int)len;
}

int store_act_add(struct store *s, const struct store_act *act)
{
    sqlite3_stmt *q = store_statement(s, STORE_ACT_ADD);

    sqlite3_bind_int64(q, 1, act->t_us);
    sqlite3_bind_int64(q, 2, act->key);
    sqlite3_bind_int64(q, 3, act->peer);
    sqlite3_bind_text(q, 4, act->action, -1, SQLITE_STATIC);
    sqlite3_bind_text(q, 5, act->object, cut(act->object), SQLITE_STATIC);
    sqlite3_bind_text(q, 6, act->request, -1, SQLITE_STATIC);
    sqlite3_bind_text(q, 7, act->address, -1, SQLITE_STATIC);
    return store_run(s, q);
}

static const char *text_of(sqlite3_stmt *q, int column)
{
    const unsigned char *text = sqlite3_column_text(q, column);

    return text != NULL ? (const char *)text : "";
}

int store_act_scan(struct store *s, const struct store_act_filter *filter, store_act_fn *fn,
                   void *ud)
{
    sqlite3_stmt *q = store_statement(s, STORE_ACT_SCAN);
    int rc, stop = 0;

    sqlite3_bind_int64(q, 1, filter->before_number);
    sqlite3_bind_int64(q, 2, filter->before_us);
    if (filter->key != NULL)
        sqlite3_bind_int64(q, 3, *filter->key);
    if (filter->action != NULL)
        sqlite3_bind_text(q, 4, filter->action, -1, SQLITE_STATIC);
    sqlite3_bind_int64(q, 5, filter->limit);
    while (stop == 0 && (rc = store_step(s, q)) == 1) {
        const struct store_act act = {.number = sqlite3_column_int64(q, 0),
                                      .t_us = sqlite3_column_int64(q, 1),
                                      .key = sqlite3_column_int64(q, 2),
                                      .peer = sqlite3_column_int64(q, 3),
                                      .action = text_of(q, 4),
                                      .object = text_of(q, 5),
                                      .request = text_of(q, 6),
                                      .address = text_of(q, 7),
                                      .name = text_of(q, 8)};

        stop = fn(ud, &act);
    }
    sqlite3_reset(q);
    return stop != 0 ? stop : rc;
}
