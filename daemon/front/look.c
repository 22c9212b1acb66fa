/* look.c -- see look.h. */
#include "daemon/front/look.h"

#include <errno.h>
#include <stdlib.h>

static struct look *of_query(struct query *query)
{
    return (struct look *)((char *)query - offsetof(struct look, query));
}

static int read_query(struct query *query, struct store *store)
{
    struct look *look = of_query(query);

    return look->fill(look, store);
}

static void read_done(struct query *query, int rc)
{
    struct look *look = of_query(query);

    look->rc = rc;
    front_post(&look->message);
}

void look_close(struct look *look)
{
    if (look->done != NULL)
        look->done(look);
    live_put(look->snapshot);
    api_buffer_done(&look->body);
    free(look);
}

static void arrive(struct front_message *message, struct exchange *x)
{
    struct look *look = (struct look *)message;

    if (x != NULL && look->rc != 0)
        exchange_failed(x, look->rc);
    else if (x != NULL)
        exchange_json(x, 200, &look->body);
    look_close(look);
}

void *look_open(struct exchange *x, size_t bytes, int (*fill)(struct look *, struct store *),
                void (*done)(struct look *))
{
    struct snapshot *s = handlers_model(x, exchange_param(x, 0), "");
    struct look *look = s != NULL ? calloc(1, bytes) : NULL;

    if (look == NULL) {
        if (s != NULL)
            exchange_failed(x, -ENOMEM);
        live_put(s);
        return NULL;
    }
    look->message.ref = exchange_ref(x);
    look->message.arrive = arrive;
    look->query = (struct query){.read = read_query, .done = read_done};
    look->server = exchange_server(x);
    look->snapshot = s;
    look->fill = fill;
    look->done = done;
    return look;
}

void look_post(struct look *look, struct exchange *x)
{
    int rc = reader_post(look->server->reader, &look->query);

    if (rc == 0)
        return;
    exchange_failed(x, rc);
    look_close(look);
}
