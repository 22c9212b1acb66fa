/* fuzz_http.c -- hostile bytes into the HTTP parser, cut into pieces that the first bytes choose.
 *
 * Byte 0: the size of the pieces (0: whole). Byte 1: 's' streams bodies, anything else collects
 * them. The rest is what a client sends. Fed in pieces and fed whole must give the same requests
 * and the same end; every string of a request ends, lies inside the limits, and every refusal is a
 * status with words.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/http.h"
#include "proto/traceparent.h"

enum { TARGET_MAX = 128, HEADERS_BYTES_MAX = 512, HEADERS_MAX = 12, BODY_MAX = 1000 };

/* What came out: a running hash over everything, and its length. */
struct seen {
    uint64_t hash;
    uint64_t events;
    int status; /* of the refusal; 0: none */
};

static void must(int holds)
{
    if (!holds)
        abort();
}

static void add(struct seen *s, const void *bytes, size_t len)
{
    const uint8_t *b = bytes;

    for (size_t i = 0; i < len; i++)
        s->hash = (s->hash ^ b[i]) * 1099511628211u;
}

static void add_text(struct seen *s, const char *text, size_t max)
{
    if (text == NULL) {
        add(s, "\1", 1);
        return;
    }
    must(strlen(text) <= max);
    add(s, text, strlen(text) + 1);
}

static int stream(void *ud, const char *bytes, size_t len)
{
    add(ud, bytes, len);
    return memchr(bytes, '!', len) != NULL ? -1 : 0;
}

/* What is read as a trace is written as one, and read as the same. */
static void take_trace(const struct http_request *r)
{
    struct trace t, again;
    char text[TRACE_PARENT_BYTES];

    if (trace_parse(r->traceparent, &t) == 0) {
        trace_span(1, t.span);
        trace_write(&t, text);
        must(strlen(text) == TRACE_PARENT_BYTES - 1 && trace_parse(text, &again) == 0);
        must(strcmp(again.id, t.id) == 0 && again.sampled == t.sampled);
        must(strlen(t.id) == 32 && strlen(t.parent) == 16 && strcmp(again.parent, t.span) == 0);
    }
    if (r->tracestate != NULL && trace_state_sound(r->tracestate))
        must(strlen(r->tracestate) <= TRACE_STATE_BYTES_MAX);
}

static void add_request(struct seen *s, const struct http_request *r)
{
    char value[32];

    must(r->method[0] >= 'A' && r->method[0] <= 'Z');
    add_text(s, r->method, 16);
    add_text(s, r->path, TARGET_MAX);
    add_text(s, r->query, TARGET_MAX);
    add_text(s, r->host, HEADERS_BYTES_MAX);
    add_text(s, r->content_type, HEADERS_BYTES_MAX);
    add_text(s, r->authorization, HEADERS_BYTES_MAX);
    add_text(s, r->idempotency_key, HEADERS_BYTES_MAX);
    add_text(s, r->origin, HEADERS_BYTES_MAX);
    add_text(s, r->traceparent, HEADERS_BYTES_MAX);
    add_text(s, r->tracestate, TARGET_MAX + HEADERS_BYTES_MAX); /* several make one */
    if (r->traceparent != NULL)
        take_trace(r);
    add(s, &r->keep_alive, sizeof r->keep_alive);
    add(s, &r->expect_continue, sizeof r->expect_continue);
    if (http_query(r->query, "a", value, sizeof value) == 0)
        must(strlen(value) < sizeof value);
}

/* False: the connection ends here. */
static int take(struct http_parser *p, struct seen *s, enum http_event e, int streaming)
{
    const struct http_request *r = http_request(p);
    int keep;

    s->events++;
    if (e == HTTP_ERROR) {
        struct http_problem problem = http_problem(p);

        must(problem.status >= 400 && problem.status < 600 && problem.code && problem.detail);
        must(strcmp(http_reason(problem.status), "Unknown") != 0);
        s->status = problem.status;
        return 0;
    }
    if (e == HTTP_HEADERS) {
        add_request(s, r);
        if (streaming)
            http_stream(p, stream, s);
        else if (!http_collect(p, BODY_MAX))
            return 0;
        return 1;
    }
    must(e == HTTP_COMPLETE && r->body_bytes <= BODY_MAX);
    add(s, r->body, r->body_bytes);
    keep = r->keep_alive;
    http_next(p);
    must(!http_busy(p));
    return keep;
}

static struct seen run(const uint8_t *data, size_t size, size_t piece, int streaming)
{
    static const struct http_limits limits = {TARGET_MAX, HEADERS_BYTES_MAX, HEADERS_MAX};
    struct seen s = {.hash = 14695981039346656037u};
    struct http_parser *p;
    int going = 1;

    must(http_open(&limits, &p) == 0);
    for (size_t at = 0; at < size && going;) {
        size_t len = size - at < piece ? size - at : piece, used;
        /* A copy of its own, so that a read past the end is seen. */
        char *copy = malloc(len);
        size_t from = 0;

        must(copy != NULL);
        memcpy(copy, data + at, len);
        while (going) {
            enum http_event e = http_feed(p, copy + from, len - from, &used);

            must(used <= len - from);
            from += used;
            if (e == HTTP_MORE)
                break;
            going = take(p, &s, e, streaming);
        }
        must(!going || from == len);
        free(copy);
        at += len;
    }
    http_close(p);
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct seen whole, pieces;

    if (size < 3)
        return 0;
    whole = run(data + 2, size - 2, size, data[1] == 's');
    pieces = run(data + 2, size - 2, data[0] > 0 ? data[0] : 1, data[1] == 's');
    /* What is both too long and malformed is refused as the one or the other. */
    must(whole.events == pieces.events && (whole.status == 0) == (pieces.status == 0));
    /* A stream's sink may see a refused body in other pieces; all else is the same. */
    must(whole.hash == pieces.hash || (data[1] == 's' && whole.status != 0));
    return 0;
}
