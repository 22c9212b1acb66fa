/* http.c -- see http.h. The home of llhttp. Headers we know are copied as they come into one buffer
 * per request, at most headers_bytes_max long; others are counted and dropped. Between requests a
 * parser holds no buffer: most connections of a busy daemon are idle, and 12 KiB each is what ten
 * thousand of them would cost.
 */
#include "proto/http.h"

#include <errno.h>
#include <llhttp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proto/http_lines.h"

enum { NAME_BYTES_MAX = 32, BODY_STEP = 16384 };

enum stage { STAGE_READING, STAGE_HEADERS, STAGE_BODY, STAGE_DONE };

struct http_parser {
    llhttp_t llhttp;
    struct http_limits limits;
    struct http_request request;
    struct http_problem problem;
    enum stage stage;
    bool begun;
    struct http_lines lines;
    char *text; /* target, then values, each NUL-terminated */
    size_t text_len, text_max;
    size_t headers_bytes;
    uint32_t headers;
    char name[NAME_BYTES_MAX];
    size_t name_len;
    size_t value_at; /* where the present value starts in text */
    bool in_value;
    char *body;
    size_t body_len, body_room, body_max;
    http_sink *sink;
    void *sink_ud;
};

static struct http_parser *self(llhttp_t *l)
{
    return l->data;
}

/* Notes why parsing ends; llhttp passes the code through. */
static int refuse(struct http_parser *p, int status, const char *code, const char *detail)
{
    p->problem = (struct http_problem){status, code, detail};
    return HPE_USER;
}

static int text_add(struct http_parser *p, const char *at, size_t len)
{
    if (p->text_len + len + 2 > p->text_max)
        return -ENOSPC;
    memcpy(p->text + p->text_len, at, len);
    p->text_len += len;
    return 0;
}

static int on_begin(llhttp_t *l)
{
    struct http_parser *p = self(l);

    p->begun = true;
    if (p->text == NULL)
        p->text = malloc(p->text_max);
    return p->text != NULL ? 0 : refuse(p, 503, "out_of_memory", "no memory for the headers");
}

static int on_url(llhttp_t *l, const char *at, size_t len)
{
    struct http_parser *p = self(l);

    if (p->text_len + len > p->limits.target_bytes_max || text_add(p, at, len) != 0)
        return refuse(p, 414, "uri_too_long", "the request target is too long");
    return 0;
}

static int on_url_complete(llhttp_t *l)
{
    struct http_parser *p = self(l);
    char *query;

    p->text[p->text_len++] = '\0';
    query = strchr(p->text, '?');
    if (query != NULL)
        *query++ = '\0';
    p->request.path = p->text;
    p->request.query = query != NULL ? query : "";
    return 0;
}

static int count(struct http_parser *p, size_t len)
{
    p->headers_bytes += len;
    if (p->headers_bytes > p->limits.headers_bytes_max)
        return refuse(p, 431, "headers_too_large", "the headers are too large");
    return 0;
}

static int on_field(llhttp_t *l, const char *at, size_t len)
{
    struct http_parser *p = self(l);
    size_t room = sizeof p->name - 1 - p->name_len;

    memcpy(p->name + p->name_len, at, len < room ? len : room);
    p->name_len += len < room ? len : room;
    return count(p, len);
}

/* The slot of a header we keep, by name. What comes behind a body has none: the request has been
 * judged by then. */
static const char **slot_of(struct http_parser *p)
{
    static const struct {
        const char *name;
        size_t offset;
    } known[] = {
        {"host", offsetof(struct http_request, host)},
        {"content-type", offsetof(struct http_request, content_type)},
        {"authorization", offsetof(struct http_request, authorization)},
        {"idempotency-key", offsetof(struct http_request, idempotency_key)},
        {"origin", offsetof(struct http_request, origin)},
        {"last-event-id", offsetof(struct http_request, last_event_id)},
        {"x-forwarded-for", offsetof(struct http_request, forwarded_for)},
        {"accept-encoding", offsetof(struct http_request, accept_encoding)},
        {"if-none-match", offsetof(struct http_request, if_none_match)},
        {"traceparent", offsetof(struct http_request, traceparent)},
        {"tracestate", offsetof(struct http_request, tracestate)},
    };

    for (size_t i = 0; i < sizeof known / sizeof *known && p->stage == STAGE_READING; i++)
        if (strcasecmp(p->name, known[i].name) == 0)
            return (const char **)((char *)&p->request + known[i].offset);
    return NULL;
}

static bool is_list(const struct http_request *r, const char **slot)
{
    return slot == (const char **)&r->accept_encoding || slot == (const char **)&r->if_none_match;
}

static int on_value(llhttp_t *l, const char *at, size_t len)
{
    struct http_parser *p = self(l);

    if (!p->in_value) {
        p->in_value = true;
        p->value_at = p->text_len;
        p->name[p->name_len] = '\0';
    }
    if ((slot_of(p) != NULL || strcasecmp(p->name, "expect") == 0 ||
         strcasecmp(p->name, "transfer-encoding") == 0) &&
        text_add(p, at, len) != 0)
        return refuse(p, 431, "headers_too_large", "the headers are too large");
    return count(p, len);
}

/* A tracing header that comes again never costs the request (W3C Trace Context 3.2): of two
 * traceparents neither counts, two tracestates are one list. True: it was one. */
static bool trace_again(struct http_parser *p, const char **slot)
{
    const char *first = *slot, *again = p->text + (p->in_value ? p->value_at : p->text_len - 1);
    size_t at = p->text_len;

    if (slot == &p->request.traceparent)
        *slot = "";
    if (slot != &p->request.tracestate)
        return slot == &p->request.traceparent;
    if (text_add(p, first, strlen(first)) == 0 && text_add(p, ",", 1) == 0 &&
        text_add(p, again, strlen(again) + 1) == 0)
        *slot = p->text + at;
    else
        p->text_len = at;
    return true;
}

static int on_value_complete(llhttp_t *l)
{
    struct http_parser *p = self(l);
    const char **slot;

    p->name[p->name_len] = '\0';
    if (p->name_len == 0) /* llhttp lets it through before version 9 */
        return refuse(p, 400, "malformed_http", "a header has no name");
    slot = slot_of(p);
    while (p->in_value && p->text_len > p->value_at && strchr(" \t", p->text[p->text_len - 1]))
        p->text_len--; /* what stands behind a value is not part of it (RFC 9110 5.5) */
    p->text[p->text_len++] = '\0';
    if (slot != NULL && *slot != NULL && is_list(&p->request, slot))
        slot = NULL; /* of a list that comes in several lines the first is enough for us */
    if (slot == &p->request.forwarded_for)
        *slot = NULL; /* the nearest proxy wrote the last line */
    if (slot != NULL && *slot != NULL && !trace_again(p, slot))
        return refuse(p, 400, "duplicate_header", "a header that must be single came twice");
    else if (slot != NULL && *slot == NULL)
        *slot = p->text + (p->in_value ? p->value_at : p->text_len - 1);
    if (strcasecmp(p->name, "expect") == 0 && p->stage == STAGE_READING &&
        llhttp_get_http_minor(l) >= 1) {
        if (!p->in_value || strcasecmp(p->text + p->value_at, "100-continue") != 0)
            return refuse(p, 417, "expectation_failed", "only Expect: 100-continue is known");
        p->request.expect_continue = true;
    }
    if (strcasecmp(p->name, "transfer-encoding") == 0 && p->stage == STAGE_READING &&
        (!p->in_value || strcasecmp(p->text + p->value_at, "chunked") != 0))
        return refuse(p, 501, "coding_not_known", "the only Transfer-Encoding is chunked");
    p->name_len = 0;
    p->in_value = false;
    if (++p->headers > p->limits.headers_max || p->text_len + 2 > p->text_max)
        return refuse(p, 431, "headers_too_large", "there are too many headers");
    return 0;
}

static int on_headers(llhttp_t *l)
{
    struct http_parser *p = self(l);

    p->request.method = llhttp_method_name(llhttp_get_method(l));
    p->request.takes_chunks = llhttp_get_http_minor(l) >= 1;
    p->request.keep_alive = llhttp_should_keep_alive(l) != 0;
    p->request.has_body = (l->flags & F_CHUNKED) != 0 || l->content_length > 0;
    if (llhttp_get_http_major(l) != 1)
        return refuse(p, 505, "version_not_supported", "only HTTP/1.0 and HTTP/1.1 are spoken");
    if ((l->flags & F_CHUNKED) != 0 && llhttp_get_http_minor(l) == 0)
        return refuse(p, 400, "malformed_http", "HTTP/1.0 has no chunks");
    if (p->request.host == NULL && llhttp_get_http_minor(l) >= 1)
        return refuse(p, 400, "missing_host", "HTTP/1.1 asks for a Host header");
    if (l->method == HTTP_CONNECT)
        return refuse(p, 400, "upgrade_not_supported", "this is no proxy");
    l->upgrade = 0; /* an offer (Java's client makes one with every request); HTTP/1.1 goes on */
    p->stage = STAGE_HEADERS;
    return HPE_PAUSED;
}

static int on_body(llhttp_t *l, const char *at, size_t len)
{
    struct http_parser *p = self(l);

    if (p->sink != NULL)
        return p->sink(p->sink_ud, at, len) == 0
                   ? 0
                   : refuse(p, 400, "stream_refused", "the stream was refused");
    if (len > p->body_max - p->body_len)
        return refuse(p, 413, "body_too_large", "the body is larger than this path takes");
    if (p->body_len + len > p->body_room) {
        size_t room = p->body_len + len + BODY_STEP + p->body_room / 2;
        char *bigger = realloc(p->body, room);

        if (bigger == NULL)
            return refuse(p, 503, "out_of_memory", "no memory for the body");
        p->body = bigger;
        p->body_room = room;
    }
    memcpy(p->body + p->body_len, at, len);
    p->body_len += len;
    return 0;
}

static int on_complete(llhttp_t *l)
{
    struct http_parser *p = self(l);

    p->request.body = p->body;
    p->request.body_bytes = p->body_len;
    p->stage = STAGE_DONE;
    return HPE_PAUSED;
}

static const llhttp_settings_t *settings(void)
{
    static const llhttp_settings_t table = {
        .on_message_begin = on_begin,
        .on_url = on_url,
        .on_url_complete = on_url_complete,
        .on_header_field = on_field,
        .on_header_value = on_value,
        .on_header_value_complete = on_value_complete,
        .on_headers_complete = on_headers,
        .on_body = on_body,
        .on_message_complete = on_complete,
    };

    return &table;
}

int http_open(const struct http_limits *limits, struct http_parser **ret_parser)
{
    struct http_parser *p = calloc(1, sizeof *p);

    if (p == NULL)
        return -ENOMEM;
    p->limits = *limits;
    p->text_max = limits->target_bytes_max + limits->headers_bytes_max + limits->headers_max + 8;
    llhttp_init(&p->llhttp, HTTP_REQUEST, settings());
    p->llhttp.data = p;
    *ret_parser = p;
    return 0;
}

void http_close(struct http_parser *p)
{
    if (p == NULL)
        return;
    free(p->text);
    free(p->body);
    free(p);
}

/* Of the bytes that llhttp has taken from a head. False: they are not what a head should be. */
static bool check_lines(struct http_parser *p, const char *bytes, size_t len, bool ended)
{
    const char *wrong = http_lines_check(&p->lines, bytes, len);

    if (wrong == NULL && ended && !http_lines_ended(&p->lines))
        wrong = "a line does not end in CR LF";
    if (wrong != NULL)
        p->problem = (struct http_problem){400, "malformed_http", wrong};
    return wrong == NULL;
}

enum http_event http_feed(struct http_parser *p, const char *bytes, size_t bytes_len,
                          size_t *ret_used)
{
    llhttp_errno_t e;
    bool head = p->stage == STAGE_READING;

    if (p->problem.status != 0 || p->stage == STAGE_DONE) {
        *ret_used = 0;
        return p->problem.status != 0 ? HTTP_ERROR : HTTP_COMPLETE;
    }
    if (p->stage == STAGE_HEADERS)
        p->stage = STAGE_BODY;
    e = llhttp_execute(&p->llhttp, bytes, bytes_len);
    *ret_used = e == HPE_OK ? bytes_len : (size_t)(llhttp_get_error_pos(&p->llhttp) - bytes);
    if (head && (e == HPE_OK || e == HPE_PAUSED) &&
        !check_lines(p, bytes, *ret_used, e == HPE_PAUSED))
        return HTTP_ERROR;
    if (e == HPE_OK)
        return HTTP_MORE;
    if (e == HPE_PAUSED) {
        llhttp_resume(&p->llhttp);
        return p->stage == STAGE_DONE ? HTTP_COMPLETE : HTTP_HEADERS;
    }
    if (p->problem.status == 0)
        p->problem = e == HPE_INVALID_VERSION
                         ? (struct http_problem){505, "version_not_supported",
                                                 "only HTTP/1.0 and HTTP/1.1 are spoken"}
                         : (struct http_problem){400, "malformed_http", llhttp_errno_name(e)};
    return HTTP_ERROR;
}

const struct http_request *http_request(const struct http_parser *p)
{
    return &p->request;
}

struct http_problem http_problem(const struct http_parser *p)
{
    return p->problem;
}

bool http_busy(const struct http_parser *p)
{
    return p->begun;
}

bool http_collect(struct http_parser *p, size_t body_bytes_max)
{
    p->sink = NULL;
    p->body_max = body_bytes_max;
    return (p->llhttp.flags & F_CHUNKED) != 0 || p->llhttp.content_length <= body_bytes_max;
}

void http_stream(struct http_parser *p, http_sink *sink, void *ud)
{
    p->sink = sink;
    p->sink_ud = ud;
}

void http_next(struct http_parser *p)
{
    p->request = (struct http_request){0};
    p->stage = STAGE_READING;
    p->begun = false;
    p->text_len = p->headers_bytes = p->name_len = p->body_len = 0;
    p->headers = 0;
    p->in_value = false;
    p->lines = (struct http_lines){HTTP_LINE_BEFORE, false, false};
    p->sink = NULL;
    free(p->text);
    free(p->body);
    p->text = p->body = NULL;
    p->body_room = 0;
}

/* ---- answers --------------------------------------------------------------------------------- */

const char *http_reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } known[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {421, "Misdirected Request"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {507, "Insufficient Storage"},
    };

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].status == status)
            return known[i].reason;
    return "Unknown";
}

size_t http_write_head(char *head, size_t head_bytes, int status, const char *content_type,
                       size_t body_bytes, bool keep_alive, const char *extra)
{
    int len =
        snprintf(head, head_bytes, "HTTP/1.1 %d %s\r\n%s%s%s", status, http_reason(status),
                 content_type != NULL ? "Content-Type: " : "",
                 content_type != NULL ? content_type : "", content_type != NULL ? "\r\n" : "");

    if (status != 204 && status != 304 && len > 0 && (size_t)len < head_bytes)
        len +=
            snprintf(head + len, head_bytes - (size_t)len, "Content-Length: %zu\r\n", body_bytes);
    if (len > 0 && (size_t)len < head_bytes)
        len += snprintf(head + len, head_bytes - (size_t)len, "%s%s\r\n",
                        keep_alive ? "" : "Connection: close\r\n", extra != NULL ? extra : "");
    return len > 0 && (size_t)len < head_bytes ? (size_t)len : 0;
}

size_t http_write_stream_head(char *head, size_t head_bytes, const char *content_type, bool chunks,
                              const char *extra)
{
    int len = snprintf(
        head, head_bytes, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\n%sConnection: close\r\n%s\r\n",
        content_type, chunks ? "Transfer-Encoding: chunked\r\n" : "", extra != NULL ? extra : "");

    return len > 0 && (size_t)len < head_bytes ? (size_t)len : 0;
}

/* ---- targets --------------------------------------------------------------------------------- */

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Decodes into room bytes; `to` may be `from`. 0, -EINVAL, -ENOSPC. */
static int decode(const char *from, size_t len, bool plus, char *to, size_t room, size_t *ret_len)
{
    size_t at = 0;

    for (size_t i = 0; i < len; i++) {
        char c = from[i];

        if (c == '%') {
            int high = i + 2 < len ? hex(from[i + 1]) : -1;
            int low = high >= 0 ? hex(from[i + 2]) : -1;

            if (low < 0)
                return -EINVAL;
            c = (char)(high * 16 + low);
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        if (c == '\0')
            return -EINVAL;
        if (at == room)
            return -ENOSPC;
        to[at++] = c;
    }
    *ret_len = at;
    return 0;
}

int http_percent_decode(char *text, size_t len, bool plus, size_t *ret_len)
{
    return decode(text, len, plus, text, len, ret_len);
}

int http_query(const char *query, const char *name, char *out, size_t out_bytes)
{
    size_t name_len = strlen(name);

    while (*query != '\0') {
        size_t len = strcspn(query, "&");

        if (len >= name_len && memcmp(query, name, name_len) == 0 &&
            (len == name_len || query[name_len] == '=')) {
            size_t from = len == name_len ? len : name_len + 1, value = 0;
            int rc = decode(query + from, len - from, true, out, out_bytes - 1, &value);

            if (rc == 0)
                out[value] = '\0';
            return rc;
        }
        query += len;
        query += *query == '&';
    }
    return -ENOENT;
}

bool http_accepts(const char *accept_encoding, const char *coding)
{
    size_t len = strlen(coding);

    for (const char *at = accept_encoding; at != NULL && *at != '\0';) {
        size_t item = strcspn(at, ",");
        const char *weight = memchr(at, ';', item);

        if (strncasecmp(at, coding, len) == 0 && strspn(at + len, " \t,;") > 0)
            return weight == NULL || strcspn(weight, "123456789") < item - (size_t)(weight - at);
        if (strcasecmp(at, coding) == 0)
            return true;
        at += item;
        at += strspn(at, ", \t");
    }
    return false;
}
