/* conn.c -- see conn.h.
 *
 * The walk of a connection: bytes -> http_feed -> (headers) route, checks, what to do with the body
 * -> (complete) handler -> answer -> one uv_write -> the next request. While an exchange is under
 * way further bytes are kept, at most LIMIT_HELD_BYTES of them; beyond that the socket is not read.
 * Reading goes on otherwise, because that is how a client that leaves is noticed.
 */
#include "daemon/front/conn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/front/access_log.h"
#include "daemon/front/admit.h"
#include "daemon/metrics.h"

enum { HEAD_BYTES = ADMIT_LINES_BYTES + 256, FRESH_US = 2000000 };

struct answer {
    uv_write_t write;
    struct conn *conn;
    char *body; /* owned, from api_buffer; NULL: none, or static */
    int64_t written_us;
    char head[HEAD_BYTES];
};

static void parse(struct conn *c, const char *bytes, size_t len);
static void tell_gone(struct conn *c);

/* ---- reading --------------------------------------------------------------------------------- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct conn *c = handle->data;

    (void)suggested;
    *buf = uv_buf_init(c->loop->input, sizeof c->loop->input);
}

static void stop_reading(struct conn *c)
{
    if (c->reading)
        uv_read_stop(&c->io.stream);
    c->reading = false;
}

/* Keeps bytes for later. What does not fit cannot come: reading stops as soon as something is kept.
 */
static bool hold(struct conn *c, const char *bytes, size_t len)
{
    char *bigger;

    if (len == 0)
        return true;
    bigger = realloc(c->held, c->held_len + len);
    if (bigger == NULL)
        return false;
    memcpy(bigger + c->held_len, bytes, len);
    c->held = bigger;
    c->held_len += len;
    if (c->held_len >= LIMIT_HELD_BYTES)
        stop_reading(c);
    return true;
}

/* Bytes behind a request whose answer has no end: they would wait for ever. The answer said that
 * the connection closes, so they are not looked at; the end tells the client that its next request
 * has not been taken. */
static void end_flow(struct conn *c)
{
    tell_gone(c);
    exchange_flow_end(&c->x);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf)
{
    struct conn *c = stream->data;

    if (len == 0)
        return;
    if (len == UV_EOF && !c->x.active && c->writing > 0) {
        stop_reading(c); /* it only waits for the rest of its answers */
        c->close_after = true;
        return;
    }
    if (len < 0) {
        conn_close(c);
        return;
    }
    if (c->x.flowing) {
        end_flow(c);
        return;
    }
    if (c->x.streaming) {
        c->trickle += (uint32_t)len;
        if (c->trickle >= LIMIT_TRICKLE_BYTES) {
            c->trickle = 0;
            c->since_us = clock_us();
        }
    }
    if (c->x.active && !c->x.streaming) {
        if (!hold(c, buf->base, (size_t)len))
            conn_close(c);
        return;
    }
    parse(c, buf->base, (size_t)len);
}

static void start_reading(struct conn *c)
{
    if (!c->reading && !c->closing && uv_read_start(&c->io.stream, on_alloc, on_read) == 0)
        c->reading = true;
}

/* ---- a request ------------------------------------------------------------------------------- */

static uint64_t draw(struct loop *l)
{
    uint64_t a = l->random[0], b = l->random[1]; /* xorshift128+ */

    l->random[0] = b;
    a ^= a << 23;
    l->random[1] = a ^ b ^ a >> 17 ^ b >> 26;
    return l->random[1] + b;
}

/* A ULID: 48 bits of time in ms, 80 of chance, Crockford's base 32. */
static void make_id(struct conn *c)
{
    static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    uint64_t ms = (uint64_t)clock_unix_us() / 1000, high = draw(c->loop), low = draw(c->loop);

    for (int i = 9; i >= 0; i--, ms >>= 5)
        c->x.request_id[i] = digits[ms & 31];
    for (int i = 17; i >= 10; i--, high >>= 5)
        c->x.request_id[i] = digits[high & 31];
    for (int i = 25; i >= 18; i--, low >>= 5)
        c->x.request_id[i] = digits[low & 31];
    c->x.request_id[26] = '\0';
}

static void begin_exchange(struct conn *c)
{
    const struct http_request *r = http_request(c->parser);

    c->x.generation = ++c->loop->generations[c->slot];
    c->x.active = true;
    c->x.streaming = c->x.flowing = false;
    c->x.head_only = r->method != NULL && strcmp(r->method, "HEAD") == 0;
    c->x.keep_alive = r->keep_alive && !c->loop->draining && !atomic_load(&c->loop->leaving);
    c->x.started_us = clock_us();
    c->x.gone = NULL;
    c->x.user = NULL;
    c->x.route = NULL;
    c->x.refused = false;
    c->trickle = 0;
    c->x.cors = NULL;
    c->x.who = (struct access_who){STORE_KEY_NONE, ROLE_NONE};
    make_id(c);
    c->x.trace = (struct trace){.id = ""};
    if (r->traceparent != NULL && trace_parse(r->traceparent, &c->x.trace) == 0)
        trace_span(draw(c->loop), c->x.trace.span);
}

static void tell_gone(struct conn *c)
{
    void (*gone)(void *) = c->x.gone;

    c->x.gone = NULL;
    if (gone != NULL)
        gone(c->x.gone_ud);
}

/* Answers with a problem and closes: what follows on the connection cannot be trusted or is not
 * wanted. */
static void refuse(struct conn *c, int status, const char *code, const char *detail)
{
    struct api_problem problem;

    api_problem_set(&problem, status, code, "", "%s", detail);
    if (!c->x.active)
        begin_exchange(c);
    tell_gone(c); /* a stream that breaks off ends for its handler as if the client had left */
    c->x.keep_alive = false;
    exchange_problem(&c->x, &problem);
}

static bool media_is(const char *type, const char *wanted)
{
    size_t len = strlen(wanted);

    return type != NULL && strncasecmp(type, wanted, len) == 0 &&
           (type[len] == '\0' || type[len] == ';' || type[len] == ' ');
}

static int sink(void *ud, const char *bytes, size_t len)
{
    struct conn *c = ud;

    return c->x.active ? c->x.route->stream->on_chunk(&c->x, bytes, len) : -ECANCELED;
}

static void send_continue(struct conn *c)
{
    static char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    uv_buf_t buf = uv_buf_init(text, sizeof text - 1);

    uv_try_write(&c->io.stream, &buf, 1);
}

static void reply_problem(struct exchange *x, const struct api_problem *problem, const char *lines);

/* goes_on: the request is through, and the next one may come. */
static void answer_refusal(struct conn *c, bool goes_on)
{
    struct api_problem problem;
    char lines[128];

    c->x.active = true;
    c->x.refused = false;
    c->x.keep_alive = c->x.keep_alive && goes_on;
    admit_problem(&c->x.refusal, &problem, lines, sizeof lines);
    reply_problem(&c->x, &problem, lines);
}

/* Headers are known: find the route, decide about the body. False: answered, the connection ends.
 */
static bool take_headers(struct conn *c)
{
    const struct http_request *r = http_request(c->parser);
    const struct route *route;
    struct refusal refusal;
    bool stream;

    begin_exchange(c);
    if (!admit_origin(c, r, &refusal)) {
        refuse(c, refusal.status, refusal.code, refusal.detail);
        return false;
    }
    router_find(c->loop->routes, c->loop->routes_len, r->method, r->path, &c->x.match);
    route = c->x.route = c->x.match.route;
    c->x.refused = route != NULL && !admit_role(c, r, route->role, &c->x.refusal);
    stream =
        route != NULL && route->stream != NULL && media_is(r->content_type, "application/x-ndjson");
    if (c->x.refused &&
        (stream || r->expect_continue || !http_collect(c->parser, LIMIT_REFUSED_BYTES))) {
        answer_refusal(c, false);
        return false;
    }
    if (route == NULL && !http_collect(c->parser, LIMIT_BODY_BYTES)) {
        refuse(c, 413, "body_too_large", "the body is larger than this path takes");
        return false;
    }
    if (route == NULL || c->x.refused) { /* so that the connection can go on; then it is answered */
        c->x.active = false;
        return true;
    }
    if (r->has_body && route->body_bytes_max > 0 && !stream &&
        !media_is(r->content_type, "application/json")) {
        refuse(c, 415, "unsupported_media_type",
               route->stream != NULL ? "send application/json or application/x-ndjson"
                                     : "send application/json");
        return false;
    }
    if (stream) {
        c->x.streaming = true;
        http_stream(c->parser, sink, c);
        route->stream->on_begin(&c->x);
    } else {
        c->x.active = false;
        if (!http_collect(c->parser, route->body_bytes_max)) {
            refuse(c, 413, "body_too_large", "the body is larger than this path takes");
            return false;
        }
    }
    if (r->expect_continue && r->has_body && !c->closing && !c->close_after)
        send_continue(c);
    return !c->closing;
}

static void no_route(struct conn *c)
{
    struct api_problem problem;
    struct api_buffer body = API_BUFFER_INIT;
    char extra[512], preflight[384];

    if (!c->x.match.path_known) {
        api_problem_set(&problem, 404, "not_found", "", "there is nothing at this path");
        exchange_problem(&c->x, &problem);
        return;
    }
    admit_preflight(&c->x, c->x.match.allow, preflight, sizeof preflight);
    snprintf(extra, sizeof extra, "Allow: %s\r\n%s", c->x.match.allow, preflight);
    if (strcmp(http_request(c->parser)->method, "OPTIONS") == 0) {
        exchange_reply(&c->x, 204, NULL, &body, extra);
        return;
    }
    api_problem_set(&problem, 405, "method_not_allowed", "", "this path answers %s",
                    c->x.match.allow);
    api_write_problem(&body, &problem, c->x.request_id);
    metrics_refusal(problem.code);
    exchange_reply(&c->x, 405, "application/problem+json", &body, extra);
}

static void complete(struct conn *c)
{
    c->since_us = clock_us();
    if (c->x.streaming) {
        c->x.streaming = false;
        c->x.route->stream->on_end(&c->x);
        return;
    }
    metrics_observe(METRICS_SPAN_RECEIVE, c->since_us - c->begun_us);
    c->x.active = true;
    c->x.started_us = c->since_us;
    if (c->x.route == NULL)
        no_route(c);
    else if (c->x.refused)
        answer_refusal(c, true);
    else
        c->x.route->handler(&c->x);
}

/* Feeds bytes until they are used up or an exchange is under way; keeps the rest. */
static void parse(struct conn *c, const char *bytes, size_t len)
{
    c->parsing = true;
    while (!c->closing && !c->close_after && (!c->x.active || c->x.streaming)) {
        size_t used = 0;
        bool busy = http_busy(c->parser);
        enum http_event event = http_feed(c->parser, bytes, len, &used);

        bytes += used;
        len -= used;
        if (!busy && http_busy(c->parser))
            c->since_us = c->begun_us = clock_us();
        if (event == HTTP_MORE)
            break;
        if (event == HTTP_HEADERS && !take_headers(c))
            break;
        if (event == HTTP_COMPLETE)
            complete(c);
        if (event == HTTP_ERROR) {
            struct http_problem p = http_problem(c->parser);

            if (c->x.refused && !c->x.active) /* that is what it needs to know */
                answer_refusal(c, false);
            else if (!c->closing && !c->close_after)
                refuse(c, p.status, p.code, p.detail);
            break;
        }
    }
    c->parsing = false;
    if (c->closing || c->close_after)
        return;
    if (c->x.flowing && len > 0)
        end_flow(c);
    else if (!hold(c, bytes, len))
        conn_close(c);
}

/* ---- answering ------------------------------------------------------------------------------- */

void conn_written(struct conn *c, int status)
{
    c->writing--;
    if (status < 0 || (c->close_after && c->writing == 0))
        conn_close(c);
}

static void on_written(uv_write_t *write, int status)
{
    struct answer *a = (struct answer *)write;
    struct conn *c = a->conn;

    if (status == 0)
        metrics_observe(METRICS_SPAN_WRITE, clock_us() - a->written_us);
    api_free(a->body);
    free(a);
    conn_written(c, status);
}

/* The exchange is over: the connection goes on with what it holds, or closes. */
void conn_answered(struct conn *c)
{
    char *held;
    size_t len;

    c->x.active = false;
    c->x.gone = NULL;
    c->x.streaming = false;
    c->since_us = clock_us();
    if (!c->x.keep_alive) {
        c->close_after = true;
        return;
    }
    http_next(c->parser);
    if (c->parsing)
        return;
    held = c->held;
    len = c->held_len;
    c->held = NULL;
    c->held_len = 0;
    start_reading(c);
    if (len > 0)
        parse(c, held, len);
    free(held);
}

static void send_answer(struct exchange *x, int status, const char *type, char *body,
                        const char *bytes, size_t len, const char *extra)
{
    struct conn *c = x->conn;
    struct answer *a = calloc(1, sizeof *a);
    uv_buf_t bufs[2];
    char lines[ADMIT_LINES_BYTES];
    size_t head;

    if (x->streaming) /* answered before its body was through: the rest is not wanted */
        x->keep_alive = false;
    admit_lines(x, extra, lines);
    head = a != NULL
               ? http_write_head(a->head, sizeof a->head, status, type, len, x->keep_alive, lines)
               : 0;
    metrics_answer(route_class(x->route), status, clock_us() - x->started_us);
    access_log_answer(x, status, len);
    if (head == 0 || c->closing) {
        free(a);
        api_free(body);
        x->active = false;
        conn_close(c);
        return;
    }
    a->conn = c;
    a->body = body;
    a->written_us = clock_us();
    bufs[0] = uv_buf_init(a->head, (unsigned)head);
    bufs[1] = uv_buf_init((char *)(uintptr_t)bytes, (unsigned)len);
    c->writing++;
    if (uv_write(&a->write, &c->io.stream, bufs, x->head_only || len == 0 ? 1 : 2, on_written) !=
        0) {
        c->writing--;
        api_free(body);
        free(a);
        x->active = false;
        conn_close(c);
        return;
    }
    conn_answered(c);
}

void exchange_reply(struct exchange *x, int status, const char *content_type,
                    struct api_buffer *body, const char *extra_headers)
{
    size_t len = 0;
    char *bytes;

    if (body->rc != 0) {
        struct api_problem problem;

        api_buffer_done(body);
        api_problem_set(&problem, 503, "out_of_memory", "", "no memory for the answer");
        exchange_problem(x, &problem);
        return;
    }
    bytes = api_buffer_take(body, &len);
    send_answer(x, status, content_type, bytes, bytes, len, extra_headers);
}

void exchange_json(struct exchange *x, int status, struct api_buffer *body)
{
    exchange_reply(x, status, "application/json", body, NULL);
}

void exchange_static(struct exchange *x, int status, const char *content_type, const char *bytes,
                     size_t len, const char *extra_headers)
{
    send_answer(x, status, content_type, NULL, bytes, len, extra_headers);
}

static void reply_problem(struct exchange *x, const struct api_problem *problem, const char *lines)
{
    struct api_buffer body = API_BUFFER_INIT;

    metrics_refusal(problem->code);
    api_write_problem(&body, problem, x->request_id);
    if (body.rc != 0) { /* not even that: an empty answer still has the status */
        api_buffer_done(&body);
        send_answer(x, problem->status, NULL, NULL, NULL, 0, lines);
        return;
    }
    exchange_reply(x, problem->status, "application/problem+json", &body, lines);
}

void exchange_problem(struct exchange *x, const struct api_problem *problem)
{
    reply_problem(x, problem,
                  problem->status == 503 || problem->status == 429 ? "Retry-After: 1\r\n" : NULL);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void on_closed(uv_handle_t *handle)
{
    struct conn *c = handle->data;
    struct loop *l = c->loop;

    l->slots[c->slot] = NULL;
    l->free_slots[l->free_len++] = c->slot;
    atomic_fetch_sub(&l->connections, 1);
    atomic_fetch_sub(l->connections_all, 1);
    http_close(c->parser);
    free(c->held);
    free(c);
}

void conn_close(struct conn *c)
{
    if (c->closing)
        return;
    c->closing = true;
    c->reading = false;
    if (c->x.active) {
        c->x.active = false;
        c->loop->generations[c->slot]++; /* messages on their way find nobody */
        metrics_add(METRICS_CLIENTS_GONE, !c->x.flowing);
        c->x.flowing = false;
        tell_gone(c);
    }
    uv_close(&c->io.handle, on_closed);
}

void conn_tick(struct conn *c, int64_t now_us)
{
    int64_t seconds = (now_us - c->since_us) / 1000000;

    if (c->x.flowing && !c->closing && !admit_still(c))
        end_flow(c);
    else if (c->x.active && c->x.streaming && !c->closing && !admit_still(c))
        refuse(c, 401, "unauthorized", "the key was revoked, or has expired");
    if (c->closing || c->x.flowing) /* a stream minds its own time */
        return;
    if (c->writing > 0) {
        if (seconds >= LIMIT_WRITE_S) {
            metrics_add(METRICS_TIMEOUTS, 1);
            conn_close(c);
        }
    } else if (c->x.active && (!c->x.streaming || !c->reading)) {
        return; /* ours to finish */
    } else if (http_busy(c->parser)) {
        if (seconds >= LIMIT_REQUEST_S) {
            metrics_add(METRICS_TIMEOUTS, 1);
            refuse(c, 408, "request_timeout", "the request took too long to arrive");
        }
    } else if (seconds >= LIMIT_IDLE_S) {
        metrics_add(METRICS_IDLE_CLOSED, 1);
        conn_close(c);
    }
}

/* Has it come just now? Then its first request is on the way, and nobody would send it again. */
static bool fresh(const struct conn *c)
{
    return c->x.started_us == 0 && clock_us() - c->since_us < FRESH_US;
}

void conn_drain(struct conn *c)
{
    c->x.keep_alive = false;
    if (fresh(c))
        return;
    if (!c->closing && !c->x.active && c->writing == 0 && !http_busy(c->parser))
        conn_close(c);
    else if (!c->x.active && c->writing > 0)
        c->close_after = true;
}

static void on_refused(uv_handle_t *handle)
{
    free(handle);
}

/* Accepts and closes: the limit is reached, or there is no memory for more. */
static void turn_away(struct listener *listener)
{
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } *io = calloc(1, sizeof *io);

    metrics_add(METRICS_CONNECTIONS_REFUSED, 1);
    metrics_turned_away(503);
    metrics_refusal("too_many_connections");
    if (io == NULL)
        return;
    if (listener->local)
        uv_pipe_init(&listener->loop->uv, &io->pipe, 0);
    else
        uv_tcp_init(&listener->loop->uv, &io->tcp);
    if (uv_accept(&listener->io.stream, &io->stream) == 0) {
        static char body[] =
            "{\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,"
            "\"code\":\"too_many_connections\",\"detail\":\"as many connections are open as may "
            "be\"}";
        char head[256];
        size_t len = http_write_head(head, sizeof head, 503, "application/problem+json",
                                     sizeof body - 1, false,
                                     "Retry-After: 1\r\nCache-Control: no-store\r\n"
                                     "X-Content-Type-Options: nosniff\r\n");
        uv_buf_t bufs[2] = {uv_buf_init(head, (unsigned)len), uv_buf_init(body, sizeof body - 1)};

        uv_try_write(&io->stream, bufs, 2);
    }
    uv_close(&io->handle, on_refused);
}

void conn_accept(struct listener *listener)
{
    static const struct http_limits limits = {LIMIT_TARGET_BYTES, LIMIT_HEADERS_BYTES,
                                              LIMIT_HEADERS};
    struct loop *l = listener->loop;
    struct conn *c = NULL;

    if (atomic_fetch_add(l->connections_all, 1) < l->slots_len)
        c = calloc(1, sizeof *c);
    if (c == NULL || http_open(&limits, &c->parser) != 0) {
        atomic_fetch_sub(l->connections_all, 1);
        free(c);
        turn_away(listener);
        return;
    }
    c->loop = l;
    c->local = listener->local;
    c->slot = l->free_slots[--l->free_len];
    c->since_us = clock_us();
    c->x.conn = c;
    c->x.generation = l->generations[c->slot];
    l->slots[c->slot] = c;
    atomic_fetch_add(&l->connections, 1);
    metrics_add(METRICS_CONNECTIONS, 1);
    if (listener->local)
        uv_pipe_init(&l->uv, &c->io.pipe, 0);
    else
        uv_tcp_init(&l->uv, &c->io.tcp);
    c->io.handle.data = c;
    if (uv_accept(&listener->io.stream, &c->io.stream) != 0) {
        conn_close(c);
        return;
    }
    admit_peer(c);
    if (!listener->local)
        uv_tcp_nodelay(&c->io.tcp, 1);
    start_reading(c);
}

/* ---- what handlers see ----------------------------------------------------------------------- */

struct exchange_ref exchange_ref(const struct exchange *x)
{
    return (struct exchange_ref){x->conn->loop->index, x->conn->slot, x->generation};
}

void *exchange_server(const struct exchange *x)
{
    return x->conn->loop->server;
}

const struct http_request *exchange_request(const struct exchange *x)
{
    return http_request(x->conn->parser);
}

const char *exchange_request_id(const struct exchange *x)
{
    return x->request_id;
}

const struct access_who *exchange_who(const struct exchange *x)
{
    return &x->who;
}

const char *exchange_trace_id(const struct exchange *x)
{
    return *x->trace.id != '\0' ? x->trace.id : NULL;
}

int64_t exchange_started_us(const struct exchange *x)
{
    return x->started_us;
}

const char *exchange_param(const struct exchange *x, uint32_t i)
{
    return x->match.params[i];
}

int exchange_query(struct exchange *x, const char *name, char *out, size_t out_bytes,
                   const char **ret_value)
{
    struct api_problem problem;
    int rc = http_query(http_request(x->conn->parser)->query, name, out, out_bytes);

    *ret_value = rc == 0 ? out : NULL;
    if (rc == 0 || rc == -ENOENT)
        return 0;
    api_problem_set(&problem, 422, "invalid_value", name, "the query parameter cannot be read");
    exchange_problem(x, &problem);
    return -EINVAL;
}

void exchange_on_gone(struct exchange *x, void (*gone)(void *ud), void *ud)
{
    x->gone = gone;
    x->gone_ud = ud;
}

void exchange_pause(struct exchange *x)
{
    stop_reading(x->conn);
}

void exchange_resume(struct exchange *x)
{
    x->conn->since_us = clock_us();
    start_reading(x->conn);
}

void *exchange_user(const struct exchange *x)
{
    return x->user;
}

void exchange_set_user(struct exchange *x, void *user)
{
    x->user = user;
}
