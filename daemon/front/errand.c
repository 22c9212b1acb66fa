/* errand.c -- see errand.h. */
#include "daemon/front/errand.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/front/trail.h"

void errand_free(struct errand *e)
{
    api_buffer_done(&e->body);
    free(e);
}

static void arrive(struct front_message *message, struct exchange *x)
{
    struct errand *e = (struct errand *)message;

    if (x != NULL && e->rc == -EINVAL)
        exchange_problem(x, &e->problem);
    else if (x != NULL && e->rc != 0)
        exchange_failed(x, e->rc);
    else if (x != NULL)
        exchange_reply(x, e->status, e->status == 204 ? NULL : e->type, &e->body, e->extra);
    errand_free(e);
}

static struct errand *of_change(struct change *change)
{
    return (struct errand *)((char *)change - offsetof(struct errand, change));
}

static int write_change(struct change *change, struct store *store)
{
    return of_change(change)->act(of_change(change), store);
}

static void committed(struct change *change)
{
    struct errand *e = of_change(change);

    if (e->told != NULL)
        e->told(e);
}

static void written(struct change *change, int rc)
{
    of_change(change)->rc = rc;
    front_post(&of_change(change)->message);
}

static struct errand *of_query(struct query *query)
{
    return (struct errand *)((char *)query - offsetof(struct errand, query));
}

static int read_query(struct query *query, struct store *store)
{
    return of_query(query)->act(of_query(query), store);
}

static void read_done(struct query *query, int rc)
{
    of_query(query)->rc = rc;
    front_post(&of_query(query)->message);
}

void *errand_new(struct exchange *x, size_t bytes, const char *model,
                 int (*act)(struct errand *, struct store *))
{
    struct snapshot *s = model != NULL ? handlers_model(x, model, "") : NULL;
    struct errand *e;

    if (model != NULL && s == NULL)
        return NULL;
    e = calloc(1, bytes);
    if (e == NULL) {
        live_put(s);
        exchange_failed(x, -ENOMEM);
        return NULL;
    }
    e->message.ref = exchange_ref(x);
    e->message.arrive = arrive;
    e->change = (struct change){.write = write_change, .committed = committed, .done = written};
    e->query = (struct query){.read = read_query, .done = read_done};
    e->server = exchange_server(x);
    e->now_us = clock_unix_us();
    e->act = act;
    e->status = 200;
    e->type = "application/json";
    if (s != NULL) {
        e->model = s->model;
        memcpy(e->model_name, s->model_name, sizeof e->model_name);
        e->vectors = s->vectors;
        e->live_encoder = s->encoder->number;
        e->live_seq = s->seq;
    }
    live_put(s);
    return e;
}

static void posted(struct errand *e, struct exchange *x, int rc)
{
    if (rc == 0)
        return;
    exchange_failed(x, rc);
    errand_free(e);
}

void errand_write(struct errand *e, struct exchange *x)
{
    const char *more = e->object[0] != '\0' ? e->object : NULL;

    posted(e, x,
           e->action != NULL ? trail_post(x, &e->change, e->action, more)
                             : keeper_post(e->server->keeper, &e->change));
}

void errand_nothing(struct errand *e)
{
    trail_nothing(&e->change);
}

void errand_read(struct errand *e, struct exchange *x)
{
    posted(e, x, reader_post(e->server->reader, &e->query));
}

void errand_refuse(struct errand *e, struct exchange *x)
{
    exchange_problem(x, &e->problem);
    errand_free(e);
}
