/* watch.c -- see watch.h: GET /v1/events, server-sent events with Last-Event-ID.
 *
 * A stream is a cursor on the bus and a socket. It is written to while less than
 * LIMIT_EVENT_UNSENT_BYTES wait in it; the rest stays on the bus, so a stream costs that much
 * memory and no more, however far it is behind, and a client that resumes from far back is served
 * at its own speed. The bus overwrites its oldest events: a stream that is overtaken while bytes
 * wait in it has a slow reader and is dropped; one that had taken all that was written has not
 * (events came faster than this loop runs), and is told with a reset what it would be told when it
 * came back. A reader that takes nothing for LIMIT_WRITE_S is dropped too.
 *
 * Every piece ends on an id that the client resumes from, heartbeats included: a filter may keep a
 * client without events for longer than the bus holds any.
 */
#include "daemon/front/watch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/front/handlers.h"
#include "daemon/log.h"
#include "daemon/metrics.h"

_Static_assert((int)LIMIT_LOOPS <= (int)BUS_WAKERS_MAX, "every loop can be woken");

struct watch {
    struct watch *next, **back; /* of the loop */
    struct loop *loop;
    struct exchange *x;
    uint64_t cursor;
    uint32_t types;
    char model[LIVE_NAME_BYTES]; /* "": any */
    int64_t sent_us;             /* monotonic, of the last piece */
    int64_t moved_us;            /* when the client last took something, or had nothing to take */
    size_t unsent;               /* as the last tick saw it */
};

/* ---- from the bus ---------------------------------------------------------------------------- */

/* Any thread. Harmless when nobody watches; a loop that has ended is not woken. */
static void wake(void *ud)
{
    struct loop *l = ud;

    if (atomic_load(&l->watches_len) == 0 || atomic_exchange(&l->told, true))
        return;
    pthread_mutex_lock(&l->lock);
    if (!l->closed)
        uv_async_send(&l->wake);
    pthread_mutex_unlock(&l->lock);
}

static void on_due(uv_timer_t *timer)
{
    watch_pump(timer->data);
}

int watch_open(struct loop *l, struct bus *bus)
{
    l->bus = bus;
    uv_timer_init(&l->uv, &l->due);
    l->due.data = l;
    return bus_subscribe(bus, wake, l);
}

/* The next time that a merged event comes out of the bus by itself. */
static void set_due(struct loop *l)
{
    int64_t due_us = bus_due(l->bus), wait_us = due_us - clock_us();

    if (due_us >= 0 && l->watches != NULL)
        uv_timer_start(&l->due, on_due, wait_us > 0 ? (uint64_t)wait_us / 1000 + 1 : 0, 0);
}

/* ---- a stream -------------------------------------------------------------------------------- */

static void watch_free(struct watch *w)
{
    *w->back = w->next;
    if (w->next != NULL)
        w->next->back = w->back;
    atomic_fetch_sub(&w->loop->watches_len, 1);
    free(w);
}

static void on_gone(void *ud)
{
    watch_free(ud);
}

/* Frees w. */
static void drop(struct watch *w, enum metrics_counter counter, const char *reason)
{
    metrics_add(counter, 1);
    log_warn("events", "event", "reader_dropped", "reason", reason, "request_id",
             exchange_request_id(w->x), "trace_id", exchange_trace_id(w->x), NULL);
    exchange_flow_drop(w->x);
}

/* Frees w on failure. */
static bool write_piece(struct watch *w, struct api_buffer *piece)
{
    if (piece->len > 0)
        w->sent_us = clock_us();
    if (exchange_flow_write(w->x, piece) == 0)
        return true;
    drop(w, METRICS_WATCHERS_FAILED, "no_memory");
    return false;
}

static void add_mark(const struct watch *w, struct api_buffer *piece)
{
    char id[BUS_ID_BYTES];

    bus_id_format(w->loop->bus, w->cursor, id);
    api_write_event_mark(piece, id);
}

static void add_event(const struct watch *w, struct api_buffer *piece,
                      const struct bus_event *event)
{
    char id[BUS_ID_BYTES];

    bus_id_format(w->loop->bus, event->n, id);
    api_write_event(piece, id, api_event_name(event->type), event->data, event->data_bytes);
}

/* What follows is all that is held. */
static void add_reset(struct watch *w, struct api_buffer *piece, const char *reason)
{
    struct api_buffer data = API_BUFFER_INIT;
    struct api_event_reset reset = {reason, clock_unix_us()};
    char id[BUS_ID_BYTES];

    w->cursor = bus_oldest(w->loop->bus);
    bus_id_format(w->loop->bus, w->cursor, id);
    api_write_event_reset(&data, &reset);
    api_write_event(piece, id, "reset", data.bytes, data.len);
    if (data.rc != 0)
        piece->rc = data.rc;
    api_buffer_done(&data);
}

/* Writes what there is room for. May free w. */
static void pump(struct watch *w)
{
    struct api_buffer piece = API_BUFFER_INIT;
    size_t unsent = exchange_flow_unsent(w->x);
    const char *model = w->model[0] != '\0' ? w->model : NULL;
    struct bus_event event;
    int rc = 1;

    if (unsent > 0 && bus_overtaken(w->loop->bus, w->cursor)) {
        drop(w, METRICS_WATCHERS_SLOW, "slow");
        return;
    }
    while (rc != 0 && unsent + piece.len < LIMIT_EVENT_UNSENT_BYTES && piece.rc == 0) {
        rc = bus_next(w->loop->bus, w->types, model, clock_us(), &w->cursor, &event);
        if (rc > 0)
            add_event(w, &piece, &event);
        else if (rc < 0)
            add_reset(w, &piece, "overtaken");
    }
    write_piece(w, &piece);
}

static void on_taken(void *ud)
{
    pump(ud);
}

void watch_pump(struct loop *l)
{
    struct watch *next;

    atomic_store(&l->told, false); /* first: what is posted from here on wakes again */
    for (struct watch *w = l->watches; w != NULL; w = next) {
        next = w->next;
        pump(w);
    }
    set_due(l);
}

void watch_tick(struct loop *l, int64_t now_us)
{
    struct watch *next;

    for (struct watch *w = l->watches; w != NULL; w = next) {
        size_t unsent = exchange_flow_unsent(w->x);
        struct api_buffer piece = API_BUFFER_INIT;

        next = w->next;
        if (unsent == 0 || unsent != w->unsent)
            w->moved_us = now_us;
        w->unsent = unsent;
        if (now_us - w->moved_us >= (int64_t)LIMIT_WRITE_S * 1000000) {
            drop(w, METRICS_WATCHERS_STALLED, "stalled");
        } else if (unsent == 0 && now_us - w->sent_us >= (int64_t)LIMIT_HEARTBEAT_S * 1000000) {
            add_mark(w, &piece);
            write_piece(w, &piece);
        }
    }
}

void watch_stop(struct loop *l)
{
    watch_pump(l);
    while (l->watches != NULL) {
        struct exchange *x = l->watches->x;

        exchange_on_gone(x, NULL, NULL);
        watch_free(l->watches);
        exchange_flow_end(x);
    }
    uv_close((uv_handle_t *)&l->due, NULL);
}

/* ---- the request ----------------------------------------------------------------------------- */

/* Which events are wanted. False: answered. */
static bool read_filter(struct exchange *x, struct watch *w)
{
    struct snapshot *s;
    struct api_problem problem;
    const char *types, *model;
    char text[256], name[LIVE_NAME_BYTES];

    if (exchange_query(x, "types", text, sizeof text, &types) != 0 ||
        exchange_query(x, "model", name, sizeof name, &model) != 0)
        return false;
    if (api_event_types_parse(types, types != NULL ? strlen(types) : 0, &w->types, &problem) != 0) {
        exchange_problem(x, &problem);
        return false;
    }
    if (model == NULL)
        return true;
    s = handlers_model(x, model, "model");
    if (s == NULL)
        return false;
    live_put(s);
    snprintf(w->model, sizeof w->model, "%s", model);
    return true;
}

/* Where the stream begins: behind the id that was given, by the header or, for those who cannot set
 * one, the query. Without one, with what comes from now on. *ret_reset: why it cannot go on there;
 * NULL: it can. False: answered. */
static bool read_place(struct exchange *x, struct watch *w, const char **ret_reset)
{
    struct server *server = exchange_server(x);
    const char *id = exchange_request(x)->last_event_id, *asked;
    char text[BUS_ID_BYTES];
    int rc = 0;

    if (exchange_query(x, "last_event_id", text, sizeof text, &asked) != 0)
        return false;
    if (id == NULL || *id == '\0')
        id = asked;
    w->cursor = bus_newest(server->bus);
    if (id != NULL && *id != '\0')
        rc = bus_id_parse(server->bus, id, &w->cursor);
    *ret_reset = rc == 0         ? NULL
                 : rc == -ENOENT ? "restarted"
                 : rc == -ESTALE ? "overtaken"
                                 : "unknown_id";
    return true;
}

/* Before the cursor is taken: what is posted behind it then wakes the loop. */
static void join(struct exchange *x, struct watch *w)
{
    struct loop *l = x->conn->loop;

    w->loop = l;
    w->x = x;
    w->next = l->watches;
    w->back = &l->watches;
    if (w->next != NULL)
        w->next->back = &w->next;
    l->watches = w;
    atomic_fetch_add(&l->watches_len, 1);
    w->sent_us = w->moved_us = clock_us();
}

/* Opens the stream that w says. Takes w. */
static void begin(struct exchange *x, struct watch *w)
{
    static const char extra[] = "Cache-Control: no-cache\r\n";
    struct api_buffer piece = API_BUFFER_INIT;
    const char *reset;
    bool open = false;
    int rc;

    join(x, w);
    if (!read_place(x, w, &reset)) {
        watch_free(w);
        return;
    }
    rc = exchange_flow_begin(x, "text/event-stream", extra, on_taken, &open);
    if (rc != 0 || !open) {
        watch_free(w);
        if (rc != 0)
            exchange_failed(x, rc);
        return;
    }
    exchange_on_gone(x, on_gone, w);
    api_write_event_retry(&piece, LIMIT_EVENT_RETRY_MS);
    if (reset != NULL)
        add_reset(w, &piece, reset);
    else
        add_mark(w, &piece);
    if (write_piece(w, &piece)) {
        pump(w);
        set_due(x->conn->loop);
    }
}

void handle_events(struct exchange *x)
{
    struct loop *l = x->conn->loop;
    struct watch *w = calloc(1, sizeof *w);
    struct api_problem problem;

    if (w == NULL || l->draining) {
        exchange_failed(x, w == NULL ? -ENOMEM : -ESHUTDOWN);
        free(w);
    } else if (!read_filter(x, w)) {
        free(w);
    } else if (atomic_load(&l->watches_len) >= LIMIT_EVENT_STREAMS) {
        metrics_add(METRICS_WATCHERS_REFUSED, 1);
        api_problem_set(&problem, 503, "too_many_streams", "", "%d event streams are open already",
                        LIMIT_EVENT_STREAMS);
        exchange_problem(x, &problem);
        free(w);
    } else {
        begin(x, w);
    }
}
