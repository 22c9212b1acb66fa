/* trail.c -- see trail.h. */
#include "daemon/front/trail.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/front/admit.h"

/* What a row points to, in one block with it. */
struct written {
    struct store_act act; /* first */
    char object[STORE_ACT_BYTES_MAX + 1];
    char request[REQUEST_ID_CHARS];
    char address[ADMIT_ADDRESS_BYTES];
};

static void name_object(const struct exchange *x, const char *more, char *object, size_t bytes)
{
    const char *pattern = x->route->pattern;
    size_t len = 0;

    object[0] = '\0';
    for (uint32_t i = 0; (pattern = strstr(pattern, "{}")) != NULL && len < bytes; pattern += 2)
        len += (size_t)snprintf(object + len, bytes - len, "%s%s", len > 0 ? "/" : "",
                                exchange_param(x, i++));
    if (more != NULL && len < bytes)
        snprintf(object + len, bytes - len, "%s%s", len > 0 ? "/" : "", more);
}

int trail_post(struct exchange *x, struct change *change, const char *action, const char *more)
{
    struct server *server = exchange_server(x);
    struct written *w = malloc(sizeof *w);
    int rc;

    if (w == NULL)
        return -ENOMEM;
    w->act = (struct store_act){.t_us = clock_unix_us(),
                                .key = x->who.key,
                                .peer = x->conn->peer,
                                .action = action,
                                .object = w->object,
                                .request = w->request,
                                .address = w->address,
                                .name = ""};
    name_object(x, more, w->object, sizeof w->object);
    memcpy(w->request, x->request_id, sizeof w->request);
    admit_address(x, w->address);
    change->act = &w->act;
    rc = keeper_post(server->keeper, change);
    if (rc != 0) {
        change->act = NULL;
        free(w);
    }
    return rc;
}

void trail_nothing(struct change *change)
{
    if (change->act != NULL)
        change->act->action = NULL;
}

/* ---- use of keys ----------------------------------------------------------------------------- */

struct using
{
    struct change change; /* first */
    struct access *access;
    uint32_t len;
    struct access_use rows[LIMIT_KEYS];
};

static int write_use(struct change *change, struct store *store)
{
    const struct using *u = (struct using *)change;
    int rc = 0;

    for (uint32_t i = 0; i < u->len && rc == 0; i++)
        rc = store_key_used(store, u->rows[i].key, u->rows[i].used_us, u->rows[i].requests,
                            u->rows[i].corrections);
    return rc;
}

static void use_written(struct change *change, int rc)
{
    struct using *u = (struct using *)change;

    if (rc != 0)
        access_give_use(u->access, u->rows, u->len);
    free(u);
}

void trail_use(struct server *server, int64_t now_us, bool force)
{
    struct using *u;

    if (!force && now_us - server->use_written_us < (int64_t)LIMIT_KEY_USE_S * 1000000)
        return;
    server->use_written_us = now_us;
    u = malloc(sizeof *u);
    if (u == NULL)
        return; /* the next time */
    u->change = (struct change){.write = write_use, .done = use_written};
    u->access = server->access;
    u->len = access_take_use(server->access, u->rows);
    if (u->len == 0)
        free(u);
    else if (keeper_post(server->keeper, &u->change) != 0)
        use_written(&u->change, -EAGAIN);
}
