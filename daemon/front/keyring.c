/* keyring.c -- keys and the trail, as admins see them, and who one is.
 *
 * A key is 256 random bits, shown in the one answer that makes it. What must hold of all keys is
 * checked by the keeper inside its transaction: the first one is an admin that never expires, and
 * the last such is not revoked, so that nobody is locked out, and nothing is open again that was
 * closed. An admin-key-file lifts both.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "daemon/front/access.h"
#include "daemon/front/errand.h"

enum { SECRET_BYTES = 32, SECRET_CHARS = 3 + 2 * SECRET_BYTES + 1 };

struct keyring {
    struct errand errand; /* first */
    struct store_key key; /* to add, or the one that asks */
    char secret[SECRET_CHARS];
    struct access_who who; /* of /v1/me */
    /* lists */
    uint32_t limit, rows;
    int64_t after, last;
    struct store_act_filter filter;
    int64_t of_key;
    char action[64];
};

/* As it is, with what it was used for and is not written down yet. */
static struct api_key shown(const struct keyring *k, const struct store_key *row)
{
    const struct access_use use = access_use(k->errand.server->access, row->id);

    return (struct api_key){.id = row->id,
                            .name = row->name,
                            .role = api_role_of(row->role),
                            .rate_per_s = row->rate_per_s,
                            .created_us = row->created_us,
                            .expires_us = row->expires_us,
                            .revoked_us = row->revoked_us,
                            .used_us = use.used_us != 0 ? use.used_us : row->used_us,
                            .now_us = k->errand.now_us,
                            .requests = row->requests + (int64_t)use.requests,
                            .corrections = row->corrections + (int64_t)use.corrections};
}

/* ---- creating -------------------------------------------------------------------------------- */

static int draw_secret(struct keyring *k)
{
    uint8_t bytes[SECRET_BYTES];

    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
        return -EIO;
    memcpy(k->secret, "lk_", 3);
    for (int i = 0; i < SECRET_BYTES; i++)
        snprintf(k->secret + 3 + 2 * i, 3, "%02x", bytes[i]);
    explicit_bzero(bytes, sizeof bytes);
    store_sha256(k->secret, strlen(k->secret), k->key.sha256);
    return 0;
}

static int act_create(struct errand *e, struct store *store)
{
    struct keyring *k = (struct keyring *)e;
    struct access *access = e->server->access;
    uint32_t keys = 0, admins = 0;
    struct api_key row;
    int rc = store_key_count(store, &keys, &admins);

    if (rc != 0)
        return rc;
    if (admins == 0 && !access_has_file(access) &&
        (strcmp(k->key.role, "admin") != 0 || k->key.expires_us != 0))
        return api_problem_set(&e->problem, 422, "first_key",
                               k->key.expires_us != 0 ? "expires_at" : "role",
                               "the first key must be an admin's that never expires: from then on "
                               "nothing is open without a key");
    if (keys >= LIMIT_KEYS)
        return api_problem_set(&e->problem, 409, "too_many_keys", "",
                               "%d keys stand already; revoke some", LIMIT_KEYS);
    rc = store_key_add(store, &k->key, &k->key.id);
    if (rc == -EEXIST)
        return api_problem_set(&e->problem, 409, "key_exists", "name",
                               "a key of this name stands; revoke it first");
    if (rc == 0) {
        row = shown(k, &k->key);
        row.secret = k->secret;
        api_write_key(&e->body, &row);
    }
    return rc;
}

/* Before the answer goes: whoever reads it can use the key. */
static void created(struct errand *e)
{
    const struct keyring *k = (struct keyring *)e;

    access_put(e->server->access, &k->key);
}

void handle_key_create(struct exchange *x)
{
    const struct http_request *r = exchange_request(x);
    struct api_key_create *create;
    struct api_problem problem;
    struct keyring *k;

    if (api_parse_key_create(r->body, r->body_bytes, &create, &problem) != 0) {
        exchange_problem(x, &problem);
        return;
    }
    k = errand_new(x, sizeof *k, NULL, act_create);
    if (k != NULL) {
        k->errand.status = 201;
        k->errand.told = created;
        k->errand.action = "key_create";
        k->key.rate_per_s = create->rate_per_s;
        k->key.created_us = k->errand.now_us;
        k->key.expires_us = create->expires_us;
        snprintf(k->key.name, sizeof k->key.name, "%s", create->name);
        snprintf(k->key.role, sizeof k->key.role, "%s", api_role_name(create->role));
        snprintf(k->errand.object, sizeof k->errand.object, "%s", create->name);
        if (create->expires_us != 0 && create->expires_us <= k->errand.now_us) {
            api_problem_set(&k->errand.problem, 422, "out_of_range", "expires_at",
                            "must lie in the future");
            errand_refuse(&k->errand, x);
        } else if (draw_secret(k) != 0) {
            exchange_failed(x, -EIO);
            errand_free(&k->errand);
        } else {
            errand_write(&k->errand, x);
        }
    }
    api_key_create_free(create);
}

/* ---- revoking -------------------------------------------------------------------------------- */

static int unknown_key(struct errand *e)
{
    return api_problem_set(&e->problem, 404, "unknown_key", "", "there is no such key");
}

static int act_revoke(struct errand *e, struct store *store)
{
    struct keyring *k = (struct keyring *)e;
    uint32_t keys = 0, admins = 0;
    struct store_key key;
    int rc = store_key_get(store, k->key.id, &key);

    if (rc == 0)
        rc = store_key_count(store, &keys, &admins);
    if (rc != 0)
        return rc == -ENOENT ? unknown_key(e) : rc;
    if (key.revoked_us == 0 && strcmp(key.role, "admin") == 0 && key.expires_us == 0 &&
        admins == 1 && !access_has_file(e->server->access))
        return api_problem_set(&e->problem, 409, "last_admin_key", "",
                               "it is the last admin key that never expires; create another one "
                               "first");
    rc = store_key_revoke(store, k->key.id, e->now_us);
    if (rc == -EALREADY) { /* twice is once */
        errand_nothing(e);
        return 0;
    }
    return rc;
}

static void revoked(struct errand *e)
{
    access_drop(e->server->access, ((struct keyring *)e)->key.id);
}

void handle_key_revoke(struct exchange *x)
{
    const char *id = exchange_param(x, 0);
    struct api_problem problem;
    struct keyring *k;
    int64_t key;

    if (api_run_id_parse(id, strlen(id), &key) != 0) {
        api_problem_set(&problem, 422, "invalid_id", "id", "a key's id is a whole number from 1");
        exchange_problem(x, &problem);
        return;
    }
    k = errand_new(x, sizeof *k, NULL, act_revoke);
    if (k == NULL)
        return;
    k->key.id = key;
    k->errand.status = 204;
    k->errand.told = revoked;
    k->errand.action = "key_revoke";
    errand_write(&k->errand, x);
}

/* ---- lists ----------------------------------------------------------------------------------- */

static void end_list(struct keyring *k, char list)
{
    const struct api_cursor next = {list, 0, k->last};
    char text[API_CURSOR_CHARS];

    api_cursor_format(&next, text);
    api_list_end(&k->errand.body, k->rows >= k->limit ? text : NULL);
}

/* Reads ?limit and ?cursor. False after an answer; the errand is freed then. */
static bool read_page(struct keyring *k, struct exchange *x, char list)
{
    struct api_cursor at = {.list = list};
    const char *limit_text, *cursor_text;
    char limit[32], cursor[64];

    if (exchange_query(x, "limit", limit, sizeof limit, &limit_text) != 0 ||
        exchange_query(x, "cursor", cursor, sizeof cursor, &cursor_text) != 0) {
        errand_free(&k->errand);
        return false;
    }
    if (api_limit_parse(limit_text, limit_text != NULL ? strlen(limit_text) : 0, &k->limit,
                        &k->errand.problem) != 0 ||
        api_cursor_parse(cursor_text, cursor_text != NULL ? strlen(cursor_text) : 0, 0, &at,
                         &k->errand.problem) != 0) {
        errand_refuse(&k->errand, x);
        return false;
    }
    k->after = at.after;
    return true;
}

static int on_key(void *ud, const struct store_key *row)
{
    struct keyring *k = ud;
    const struct api_key key = shown(k, row);

    api_write_key(&k->errand.body, &key);
    k->last = row->id;
    k->rows++;
    return 0;
}

static int act_keys(struct errand *e, struct store *store)
{
    struct keyring *k = (struct keyring *)e;
    int rc;

    api_list_begin(&e->body, "keys");
    rc = store_key_scan(store, k->after, false, k->limit, on_key, k);
    end_list(k, 'k');
    return rc;
}

void handle_keys(struct exchange *x)
{
    struct keyring *k = errand_new(x, sizeof *k, NULL, act_keys);

    if (k != NULL && read_page(k, x, 'k'))
        errand_read(&k->errand, x);
}

/* ---- who am I -------------------------------------------------------------------------------- */

static int act_me(struct errand *e, struct store *store)
{
    struct keyring *k = (struct keyring *)e;
    int rc = k->who.key > 0 ? store_key_get(store, k->who.key, &k->key) : 0;
    struct api_key key = shown(k, &k->key);

    key.role = (enum api_role)k->who.role; /* also of a key that is no row */
    if (rc == 0)
        api_write_me(&e->body, key.role, k->who.key != STORE_KEY_NONE ? &key : NULL,
                     LEARND_VERSION);
    return rc;
}

void handle_me(struct exchange *x)
{
    struct keyring *k = errand_new(x, sizeof *k, NULL, act_me);

    if (k == NULL)
        return;
    k->who = *exchange_who(x);
    access_name(k->errand.server->access, &k->who, k->key.name);
    errand_read(&k->errand, x);
}

/* ---- the trail ------------------------------------------------------------------------------- */

static int on_act(void *ud, const struct store_act *row)
{
    struct keyring *k = ud;

    api_write_act(&k->errand.body,
                  &(struct api_act){.act = row->number,
                                    .time_us = row->t_us,
                                    .key = row->key,
                                    .who = row->key > 0                 ? row->name
                                           : row->key == STORE_KEY_FILE ? "admin-key-file"
                                                                        : "local",
                                    .peer = row->peer,
                                    .address = row->address,
                                    .action = row->action,
                                    .object = row->object,
                                    .request_id = row->request});
    k->last = row->number;
    k->rows++;
    return 0;
}

static int act_audit(struct errand *e, struct store *store)
{
    struct keyring *k = (struct keyring *)e;
    int rc;

    k->filter.before_number = k->after;
    k->filter.limit = k->limit;
    api_list_begin(&e->body, "audit");
    rc = store_act_scan(store, &k->filter, on_act, k);
    end_list(k, 'a');
    return rc;
}

/* Reads ?before, ?key and ?action. False after an answer; the errand is freed then. */
static bool read_filter(struct keyring *k, struct exchange *x)
{
    const char *before_text, *key_text, *action_text;
    char before[64], key[32];

    if (exchange_query(x, "before", before, sizeof before, &before_text) != 0 ||
        exchange_query(x, "key", key, sizeof key, &key_text) != 0 ||
        exchange_query(x, "action", k->action, sizeof k->action, &action_text) != 0) {
        errand_free(&k->errand);
        return false;
    }
    if ((before_text != NULL && api_time_parse("before", before_text, strlen(before_text),
                                               &k->filter.before_us, &k->errand.problem) != 0) ||
        api_number_parse("key", key_text, key_text != NULL ? strlen(key_text) : 0, 0, INT32_MAX, 0,
                         &k->of_key, &k->errand.problem) != 0) {
        errand_refuse(&k->errand, x);
        return false;
    }
    k->filter.key = key_text != NULL ? &k->of_key : NULL;
    k->filter.action = action_text;
    return true;
}

void handle_audit(struct exchange *x)
{
    struct keyring *k = errand_new(x, sizeof *k, NULL, act_audit);

    if (k != NULL && read_filter(k, x) && read_page(k, x, 'a'))
        errand_read(&k->errand, x);
}
