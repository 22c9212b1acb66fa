/* test_http.c -- bytes to requests, however they are cut. Every input here is fed whole, byte by
 * byte, and in every cut in two; the transcript of what came out must be the same each time.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/http.h"

static const struct http_limits limits = {
    .target_bytes_max = 64, .headers_bytes_max = 256, .headers_max = 8};

enum { BODY_MAX = 100, LOG_BYTES = 8192, WHOLE = 0 };

/* What came out, as text. */
struct log {
    char text[LOG_BYTES];
    size_t len;
    bool over; /* the connection would be closed now */
};

static void note(struct log *l, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(l->text + l->len, sizeof l->text - l->len, format, args);
    va_end(args);
    assert_true(n >= 0 && (size_t)n < sizeof l->text - l->len);
    l->len += (size_t)n;
}

static void note_header(struct log *l, const char *name, const char *value)
{
    if (value != NULL)
        note(l, " %s=[%s]", name, value);
}

static void note_request(struct log *l, const struct http_request *r)
{
    note(l, "%s %s?%s", r->method, r->path, r->query);
    note_header(l, "host", r->host);
    note_header(l, "type", r->content_type);
    note_header(l, "auth", r->authorization);
    note_header(l, "key", r->idempotency_key);
    note_header(l, "origin", r->origin);
    note_header(l, "accept", r->accept_encoding);
    note_header(l, "match", r->if_none_match);
    note(l, "%s%s%s", r->keep_alive ? "" : " close", r->expect_continue ? " expect" : "",
         r->has_body ? " body" : "");
}

static int stream(void *ud, const char *bytes, size_t len)
{
    struct log *l = ud;

    if (memchr(bytes, '!', len) != NULL)
        return -1;
    note(l, "%.*s", (int)len, bytes);
    return 0;
}

/* Feeds one piece to its end, as a connection does. */
static void feed(struct http_parser *p, struct log *l, const char *bytes, size_t len)
{
    while (!l->over) {
        size_t used = 12345678;
        enum http_event e = http_feed(p, bytes, len, &used);
        const struct http_request *r = http_request(p);

        assert_true(used <= len);
        bytes += used;
        len -= used;
        if (e == HTTP_MORE) {
            assert_int_equal(len, 0);
            return;
        }
        if (e == HTTP_HEADERS) {
            assert_true(http_busy(p));
            note_request(l, r);
            if (strcmp(r->path, "/stream") == 0) {
                note(l, " <");
                http_stream(p, stream, l);
            } else if (!http_collect(p, BODY_MAX)) {
                note(l, " announced too large");
                l->over = true;
            }
        } else if (e == HTTP_COMPLETE) {
            if (r->body_bytes > 0)
                note(l, " \"%.*s\"", (int)r->body_bytes, r->body);
            note(l, "\n");
            l->over = !r->keep_alive;
            http_next(p);
            assert_false(http_busy(p));
        } else {
            struct http_problem problem = http_problem(p);

            assert_int_equal(e, HTTP_ERROR);
            assert_true(problem.status >= 400 && problem.detail != NULL);
            note(l, " -> %d %s", problem.status, problem.code);
            l->over = true;
            assert_int_equal(http_feed(p, bytes, len, &used), HTTP_ERROR); /* and stays so */
            assert_int_equal(used, 0);
        }
    }
}

/* Cut at `cut` (0: whole), or into bytes (SIZE_MAX). Each piece is a block of its own, so that ASan
 * sees a byte too far. */
static struct log run(const char *input, size_t len, size_t cut)
{
    struct http_parser *p;
    struct log l = {.len = 0};
    size_t at = 0;

    assert_int_equal(http_open(&limits, &p), 0);
    while (at < len) {
        size_t piece = cut == SIZE_MAX ? 1 : at == 0 && cut != WHOLE ? cut : len - at;
        char *copy = malloc(piece);

        assert_non_null(copy);
        memcpy(copy, input + at, piece);
        feed(p, &l, copy, piece);
        free(copy);
        at += piece;
    }
    if (!l.over)
        note(&l, "%s", http_busy(p) ? " waiting" : "idle");
    http_close(p);
    return l;
}

static void gives_bytes(const char *input, size_t len, const char *wanted)
{
    for (size_t cut = WHOLE; cut <= len; cut++) {
        struct log l = run(input, len, cut < len ? cut : SIZE_MAX);

        if (strcmp(l.text, wanted) != 0)
            fail_msg("%s\ncut at %zu gave: %s\nwanted: %s", input, cut, l.text, wanted);
    }
}

static void gives(const char *input, const char *wanted)
{
    gives_bytes(input, strlen(input), wanted);
}

#define HOST "Host: h\r\n"

/* ---- requests -------------------------------------------------------------------------------- */

static void test_requests(void **state)
{
    (void)state;
    gives("GET / HTTP/1.1\r\n" HOST "\r\n", "GET /? host=[h]\nidle");
    gives("GET /a/b?c=d&e HTTP/1.1\r\nhOsT: \t h:1 \r\n\r\n", "GET /a/b?c=d&e host=[h:1]\nidle");
    gives("HEAD /x?? HTTP/1.1\r\n" HOST "\r\n", "HEAD /x?? host=[h]\nidle");
    gives("\r\n\r\nGET / HTTP/1.1\r\n" HOST "\r\n", "GET /? host=[h]\nidle"); /* RFC 9112 2.2 */
    gives("POST /v1/feedback HTTP/1.1\r\n" HOST
          "Content-Type: application/json; charset=utf-8\r\nAuthorization: Bearer abc\r\n"
          "Idempotency-Key: k 1\r\nOrigin: http://x\r\nX-Other: dropped\r\n"
          "Content-Length: 5\r\n\r\nhello",
          "POST /v1/feedback? host=[h] type=[application/json; charset=utf-8] auth=[Bearer abc] "
          "key=[k 1] origin=[http://x] body \"hello\"\nidle");
    gives("POST / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", "POST /? host=[h]\nidle");
    gives("PATCH / HTTP/1.1\r\nHost:\r\nOrigin: \r\n\r\n", "PATCH /? host=[] origin=[]\nidle");
    gives("GET / HTTP/1.1\r\n" HOST, " waiting");
    gives("", "idle");
}

static void test_a_body_is_bytes(void **state)
{
    static const char input[] = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\na\0b";
    struct http_parser *p;
    size_t used;

    (void)state;
    assert_int_equal(http_open(&limits, &p), 0);
    assert_int_equal(http_feed(p, input, sizeof input - 1, &used), HTTP_HEADERS);
    assert_true(http_collect(p, 3));
    assert_int_equal(http_feed(p, input + used, sizeof input - 1 - used, &used), HTTP_COMPLETE);
    assert_int_equal(http_request(p)->body_bytes, 3);
    assert_memory_equal(http_request(p)->body, "a\0b", 3);
    http_close(p);
    http_close(NULL);
}

static void test_keep_alive(void **state)
{
    (void)state;
    gives("GET /1 HTTP/1.1\r\n" HOST "\r\nPOST /2 HTTP/1.1\r\n" HOST
          "Content-Length: 2\r\n\r\nabGET /3 HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n",
          "GET /1? host=[h]\nPOST /2? host=[h] body \"ab\"\nGET /3? host=[h] close\n");
    gives("GET /1 HTTP/1.0\r\n\r\n", "GET /1? close\n");
    gives("GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n",
          "GET /1?\nGET /2? close\n");
    /* What stands behind the last request is nobody's. */
    gives("GET / HTTP/1.1\r\n" HOST "Connection: close\r\n\r\nGET /2 HTTP/1.1\r\n\r\n",
          "GET /? host=[h] close\n");
    /* Nothing of one request is left for the next. */
    gives("POST /1 HTTP/1.1\r\n" HOST
          "Authorization: x\r\nContent-Type: t\r\nExpect: 100-continue\r\n"
          "Content-Length: 1\r\n\r\naGET /2 HTTP/1.1\r\n" HOST "\r\n",
          "POST /1? host=[h] type=[t] auth=[x] expect body \"a\"\nGET /2? host=[h]\nidle");
}

static void test_chunks(void **state)
{
    static const char head[] =
        "POST /stream HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n";
    char input[512];

    (void)state;
    gives("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
          "5\r\nhello\r\n1;ext=1\r\n,\r\n00A\r\n0123456789\r\n0\r\n\r\n",
          "POST /? host=[h] body \"hello,0123456789\"\nidle");
    gives("POST / HTTP/1.1\r\n" HOST
          "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nTrail: er\r\n\r\n"
          "GET / HTTP/1.1\r\n" HOST "\r\n",
          "POST /? host=[h] body \"a\"\nGET /? host=[h]\nidle");
    gives("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
          "POST /? host=[h] body\nidle");
    snprintf(input, sizeof input, "%s3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", head);
    gives(input, "POST /stream? host=[h] body <abcde\nidle");
    snprintf(input, sizeof input, "%s1\r\n!\r\n0\r\n\r\n", head); /* the sink says no */
    gives(input, "POST /stream? host=[h] body < -> 400 stream_refused");
    gives("POST /stream HTTP/1.1\r\n" HOST "Content-Length: 4\r\n\r\nabcd",
          "POST /stream? host=[h] body <abcd\nidle");
}

static void test_expect(void **state)
{
    (void)state;
    gives("POST / HTTP/1.1\r\n" HOST "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\na",
          "POST /? host=[h] expect body \"a\"\nidle");
    gives("POST / HTTP/1.1\r\n" HOST "Expect: 200-ok\r\n\r\n", " -> 417 expectation_failed");
    gives("POST / HTTP/1.1\r\n" HOST "Expect:\r\n\r\n", " -> 417 expectation_failed");
    /* Expect means nothing in HTTP/1.0 (RFC 9110 10.1.1). */
    gives("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na",
          "POST /? close body \"a\"\n");
}

/* An offer to change the protocol is passed over (RFC 9110 7.8). */
static void test_upgrade(void **state)
{
    (void)state;
    gives("POST / HTTP/1.1\r\n" HOST "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
          "HTTP2-Settings: AAMAAABk\r\nContent-Length: 2\r\n\r\nabGET / HTTP/1.1\r\n" HOST "\r\n",
          "POST /? host=[h] body \"ab\"\nGET /? host=[h]\nidle");
    gives("GET / HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
          "GET /? host=[h]\nidle");
    gives("CONNECT h:443 HTTP/1.1\r\n" HOST "\r\n", " -> 400 upgrade_not_supported");
    gives("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", " -> 400 malformed_http");
}

/* ---- limits ---------------------------------------------------------------------------------- */

static void test_target_limit(void **state)
{
    char input[256], wanted[256], path[65];

    (void)state;
    memset(path, 'a', 64);
    path[0] = '/';
    path[64] = '\0';
    snprintf(input, sizeof input, "GET %s HTTP/1.1\r\n" HOST "\r\n", path);
    snprintf(wanted, sizeof wanted, "GET %s? host=[h]\nidle", path);
    gives(input, wanted);
    snprintf(input, sizeof input, "GET %sa HTTP/1.1\r\n" HOST "\r\n", path);
    gives(input, " -> 414 uri_too_long");
    path[32] = '?';
    snprintf(input, sizeof input, "GET %sa HTTP/1.1\r\n" HOST "\r\n", path);
    gives(input, " -> 414 uri_too_long");
}

static void test_header_limits(void **state)
{
    char input[1024], value[300], wanted[512];

    (void)state;
    memset(value, 'v', sizeof value);
    value[256 - 5 - 6] = '\0'; /* Host, h and Origin are counted too: 256 in all */
    snprintf(input, sizeof input, "GET / HTTP/1.1\r\n" HOST "Origin: %s\r\n\r\n", value);
    snprintf(wanted, sizeof wanted, "GET /? host=[h] origin=[%s]\nidle", value);
    gives(input, wanted);
    value[256 - 5 - 6] = 'v';
    value[256 - 5 - 6 + 1] = '\0';
    snprintf(input, sizeof input, "GET / HTTP/1.1\r\n" HOST "Origin: %s\r\n\r\n", value);
    gives(input, " -> 431 headers_too_large");
    snprintf(input, sizeof input, "GET / HTTP/1.1\r\n" HOST "Dropped: %s\r\n\r\n", value);
    gives(input, " -> 431 headers_too_large"); /* also of those we drop */
    memset(value, 'v', 252);
    value[251] = '\0';
    snprintf(input, sizeof input, "GET / HTTP/1.1\r\n" HOST "%s: x\r\n\r\n", value);
    gives(input, " -> 431 headers_too_large");
    gives("GET / HTTP/1.1\r\n" HOST "a:\r\nb:\r\nc:\r\nd:\r\ne:\r\nf:\r\ng:\r\n\r\n",
          "GET /? host=[h]\nidle");
    gives("GET / HTTP/1.1\r\n" HOST "a:\r\nb:\r\nc:\r\nd:\r\ne:\r\nf:\r\ng:\r\nh:\r\n\r\n",
          " -> 431 headers_too_large");
    /* Trailers are headers, and count. */
    gives("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n"
          "a:\r\nb:\r\nc:\r\nd:\r\ne:\r\nf:\r\ng:\r\nh:\r\n\r\n",
          "POST /? host=[h] body -> 431 headers_too_large");
}

static void test_body_limits(void **state)
{
    char input[1024], wanted[512], body[BODY_MAX + 2];

    (void)state;
    memset(body, 'b', sizeof body);
    body[BODY_MAX] = '\0';
    snprintf(input, sizeof input, "POST / HTTP/1.1\r\n" HOST "Content-Length: %d\r\n\r\n%s",
             BODY_MAX, body);
    snprintf(wanted, sizeof wanted, "POST /? host=[h] body \"%s\"\nidle", body);
    gives(input, wanted);
    snprintf(input, sizeof input, "POST / HTTP/1.1\r\n" HOST "Content-Length: %d\r\n\r\n%sb",
             BODY_MAX + 1, body);
    gives(input, "POST /? host=[h] body announced too large");
    gives("POST / HTTP/1.1\r\n" HOST "Content-Length: 18446744073709551615\r\n\r\n",
          "POST /? host=[h] body announced too large");
    gives("POST / HTTP/1.1\r\n" HOST "Content-Length: 18446744073709551616\r\n\r\n",
          " -> 400 malformed_http");
    /* Chunks announce nothing: the limit is met on the way. */
    snprintf(input, sizeof input,
             "POST / HTTP/1.1\r\n" HOST
             "Transfer-Encoding: chunked\r\n\r\n64\r\n%s\r\n1\r\nb\r\n0\r\n\r\n",
             body);
    gives(input, "POST /? host=[h] body -> 413 body_too_large");
    gives("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
          "POST /? host=[h] body -> 400 malformed_http");
}

/* One large body does not hold its memory, and the parser goes on well after it. */
static void test_large_bodies(void **state)
{
    struct http_parser *p;
    enum { LEN = 200000 };
    char *body = malloc(LEN);
    size_t used;

    (void)state;
    assert_non_null(body);
    for (int i = 0; i < LEN; i++)
        body[i] = (char)('a' + i % 26);
    assert_int_equal(http_open(&limits, &p), 0);
    for (int round = 0; round < 3; round++) {
        static const char head[] = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n";

        assert_int_equal(http_feed(p, head, sizeof head - 1, &used), HTTP_HEADERS);
        assert_true(http_collect(p, LEN));
        if (used < sizeof head - 1)
            assert_int_equal(http_feed(p, head + used, sizeof head - 1 - used, &used), HTTP_MORE);
        for (size_t at = 0; at < LEN;) {
            size_t piece = LEN - at < 7777 ? LEN - at : 7777;
            enum http_event e = http_feed(p, body + at, piece, &used);

            at += piece;
            assert_int_equal(e, at == LEN ? HTTP_COMPLETE : HTTP_MORE);
        }
        assert_int_equal(http_request(p)->body_bytes, LEN);
        assert_memory_equal(http_request(p)->body, body, LEN);
        http_next(p);
    }
    http_close(p);
    free(body);
}

/* ---- what is refused ------------------------------------------------------------------------- */

/* Shapes that two servers in a row could read differently. */
static void test_smuggling(void **state)
{
    static const char *const heads[] = {
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "Content-Length: 3\r\nContent-Length: 3\r\n",
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Content-Length: 3, 3\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: -3\r\n",
        "Content-Length: 0x3\r\n",
        "Content-Length: 3 3\r\n",
        "Content-Length:\r\n",
        "Content-Length : 3\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding:\x0b"
        "chunked\r\n",
        "X: y\rZ: z\r\n",
        "X\x01: y\r\n",
        "X: y\x01\r\n",
        ": y\r\n",
        "no colon\r\n",
        "Host: other\r\n",
        "Authorization: a\r\nauthorization: b\r\n",
        "Idempotency-Key: a\r\nIdempotency-Key: a\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        char input[512];
        struct log l;
        size_t len;

        snprintf(input, sizeof input, "POST / HTTP/1.1\r\n" HOST "%s\r\n3\r\nabc\r\n0\r\n\r\n",
                 heads[i]);
        len = strlen(input);
        l = run(input, len, WHOLE);
        if ((strstr(l.text, " -> 400 ") == NULL && strstr(l.text, " -> 501 ") == NULL) ||
            strchr(l.text, '\n') != NULL)
            fail_msg("%s gave %s", heads[i], l.text);
        gives_bytes(input, len, l.text);
    }
}

/* A folded header is refused (RFC 9112 5.2), whatever it folds in. */
static void test_folding(void **state)
{
    (void)state;
    gives("POST / HTTP/1.1\r\n" HOST
          "X: y\r\n Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
          " -> 400 malformed_http");
    gives("POST / HTTP/1.1\r\n" HOST "Content-Type: a\r\n\tContent-Length: 3\r\n\r\nabc",
          " -> 400 malformed_http");
    gives("GET / HTTP/1.1\r\n" HOST "X: y\r\n \r\n\r\n", " -> 400 malformed_http");
    gives("POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\n 3\r\n\r\nabc",
          " -> 400 malformed_http");
}

/* Bare line ends: llhttp takes some of them before version 9 (RFC 9112 2.2 lets it); http_lines.c
 * does not. */
static void test_bare_line_ends(void **state)
{
    static const char *const inputs[] = {
        "GET / HTTP/1.1\nHost: h\n\n",
        "GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\n\r\na",
        "GET / HTTP/1.1\nHost: h\r\n\r\n",
        "\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /  HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX Y: z\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX\x80: z\r\n\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
        struct log l = run(inputs[i], strlen(inputs[i]), WHOLE);

        if (strncmp(l.text, " -> 400 ", 8) != 0)
            fail_msg("%s gave %s", inputs[i], l.text);
        gives(inputs[i], l.text);
    }
}

/* What stands behind a body came after the request was judged: it changes nothing. */
static void test_trailers(void **state)
{
    (void)state;
    gives("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
          "Content-Type: b\r\nExpect: c\r\nOrigin: d\r\n\r\n",
          "POST /? host=[h] body \"a\"\nidle");
    gives("POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
          " -> 400 malformed_http");
    gives("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
          " -> 501 coding_not_known");
}

static void test_chunks_that_are_none(void **state)
{
    static const char *const bodies[] = {
        "x\r\na\r\n0\r\n\r\n",
        "-1\r\n\r\n",
        " 1\r\na\r\n0\r\n\r\n",
        "1 \r\na\r\n0\r\n\r\n",
        "\r\n",
        "1\na\n0\n\n",
        "1\r\nab\r\n0\r\n\r\n",
        "0x1\r\na\r\n0\r\n\r\n",
        "1\r\na0\r\n\r\n",
        "1\r\na\n0\r\n\r\n",
        "1;\x01\r\na\r\n0\r\n\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        char input[512];
        struct log l;

        snprintf(input, sizeof input,
                 "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n%s", bodies[i]);
        l = run(input, strlen(input), WHOLE);
        if (strstr(l.text, " -> 400 malformed_http") == NULL)
            fail_msg("%s gave %s", bodies[i], l.text);
        gives(input, l.text);
    }
}

static void test_not_http(void **state)
{
    static const char nul[] = "GET / HTTP/1.1\r\nHost: h\0x\r\n\r\n";
    static const char tls[] = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

    (void)state;
    gives("hello\r\n", " -> 400 malformed_http");
    gives("get / HTTP/1.1\r\n" HOST "\r\n", " -> 400 malformed_http");
    gives("GET / HTTP/1.1 \r\n" HOST "\r\n", " -> 505 version_not_supported");
    gives("GET / HTTX/1.1\r\n" HOST "\r\n", " -> 400 malformed_http");
    gives("GET / HTTP/2.0\r\n" HOST "\r\n", " -> 505 version_not_supported");
    gives("GET / HTTP/1.1\r\n\r\n", " -> 400 missing_host");
    gives("GET /\x7f HTTP/1.1\r\n" HOST "\r\n", " -> 400 malformed_http");
    gives("GET\t/ HTTP/1.1\r\n" HOST "\r\n", " -> 400 malformed_http");
    gives_bytes(nul, sizeof nul - 1, " -> 400 malformed_http");
    gives_bytes(tls, sizeof tls - 1, " -> 400 malformed_http");
}

/* ---- heads of answers, targets --------------------------------------------------------------- */

static void test_write_head(void **state)
{
    char head[256];
    size_t len;

    (void)state;
    len = http_write_head(head, sizeof head, 200, "application/json", 12, true, NULL);
    assert_int_equal(len, strlen(head));
    assert_string_equal(head, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                              "Content-Length: 12\r\n\r\n");
    http_write_head(head, sizeof head, 405, NULL, 0, false, "Allow: GET, HEAD\r\n");
    assert_string_equal(head, "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n"
                              "Connection: close\r\nAllow: GET, HEAD\r\n\r\n");
    http_write_head(head, sizeof head, 304, NULL, 0, true, "ETag: \"a\"\r\n");
    assert_string_equal(head, "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n");
    http_write_head(head, sizeof head, 204, NULL, 0, true, NULL);
    assert_string_equal(head, "HTTP/1.1 204 No Content\r\n\r\n"); /* RFC 9110 8.6: no length */
    len = http_write_head(head, sizeof head, 200, "t", 1, true, NULL);
    for (size_t room = 0; room <= len; room++) {
        char *small = malloc(room + 1);

        assert_non_null(small);
        assert_int_equal(http_write_head(small, room, 200, "t", 1, true, NULL), 0);
        free(small);
    }
    assert_int_equal(http_write_head(head, len + 1, 200, "t", 1, true, NULL), len);
    assert_string_equal(http_reason(422), "Unprocessable Content");
    assert_string_equal(http_reason(299), "Unknown");
}

static void decodes(const char *text, bool plus, const char *wanted)
{
    char buffer[64];
    size_t len = strlen(text), got = 99;

    memcpy(buffer, text, len);
    if (wanted == NULL) {
        assert_int_not_equal(http_percent_decode(buffer, len, plus, &got), 0);
        assert_int_equal(got, 99);
        return;
    }
    assert_int_equal(http_percent_decode(buffer, len, plus, &got), 0);
    assert_int_equal(got, strlen(wanted));
    assert_memory_equal(buffer, wanted, got);
}

static void test_accepts(void **state)
{
    static const char *const yes[] = {
        "gzip",
        "GZip",
        "gzip, deflate, br, zstd",
        "br,gzip",
        "br , gzip ;q=0.5",
        "gzip;q=0.001",
        "gzip;q=1.0, identity; q=0",
    };
    static const char *const no[] = {
        "", "br", "xgzip", "gzipx", "gzip;q=0", "gzip; q=0.000, br", "br;q=1", ", ,", "identity",
    };

    (void)state;
    assert_false(http_accepts(NULL, "gzip"));
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
        if (!http_accepts(yes[i], "gzip"))
            fail_msg("%s", yes[i]);
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        if (http_accepts(no[i], "gzip"))
            fail_msg("%s", no[i]);
}

/* A list may come in several lines (RFC 9110 5.3), and then the first is enough. */
static void test_lists_of_headers(void **state)
{
    static const char input[] = "GET / HTTP/1.1\r\n" HOST "Accept-Encoding: br\r\n"
                                "If-None-Match: \"a\", W/\"b\"\r\nAccept-Encoding: gzip\r\n"
                                "If-None-Match: \"c\"\r\n\r\n";
    struct log l = run(input, sizeof input - 1, WHOLE);

    (void)state;
    assert_non_null(strstr(l.text, "accept=[br] match=[\"a\", W/\"b\"]\n"));
}

static void test_percent_decode(void **state)
{
    (void)state;
    decodes("", false, "");
    decodes("a+b", false, "a+b");
    decodes("a+b%2B", true, "a b+");
    decodes("%41%2f%2F%c3%A9", false, "A//\xc3\xa9");
    decodes("%25%32%35", false, "%25"); /* once */
    decodes("%", false, NULL);
    decodes("%4", false, NULL);
    decodes("a%4g", false, NULL);
    decodes("%g4", false, NULL);
    decodes("%00", false, NULL);
    decodes("% 4", false, NULL);
}

static void test_query(void **state)
{
    char out[8] = "same";

    (void)state;
    assert_int_equal(http_query("", "a", out, sizeof out), -ENOENT);
    assert_int_equal(http_query("ab=1&xa=2", "a", out, sizeof out), -ENOENT);
    assert_string_equal(out, "same");
    assert_int_equal(http_query("ab=1&a=2&a=3", "a", out, sizeof out), 0);
    assert_string_equal(out, "2"); /* the first */
    assert_int_equal(http_query("b&a&c", "a", out, sizeof out), 0);
    assert_string_equal(out, "");
    assert_int_equal(http_query("a=x%26+y=z", "a", out, sizeof out), 0);
    assert_string_equal(out, "x& y=z");
    assert_int_equal(http_query("a=1234567", "a", out, sizeof out), 0);
    assert_int_equal(http_query("a=12345678", "a", out, sizeof out), -ENOSPC);
    assert_int_equal(http_query("a=%zz", "a", out, sizeof out), -EINVAL);
    assert_int_equal(http_query("&&a=1&", "a", out, sizeof out), 0);
    assert_string_equal(out, "1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_a_body_is_bytes),
        cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_expect),
        cmocka_unit_test(test_upgrade),
        cmocka_unit_test(test_target_limit),
        cmocka_unit_test(test_header_limits),
        cmocka_unit_test(test_body_limits),
        cmocka_unit_test(test_large_bodies),
        cmocka_unit_test(test_smuggling),
        cmocka_unit_test(test_folding),
        cmocka_unit_test(test_trailers),
        cmocka_unit_test(test_bare_line_ends),
        cmocka_unit_test(test_chunks_that_are_none),
        cmocka_unit_test(test_not_http),
        cmocka_unit_test(test_write_head),
        cmocka_unit_test(test_percent_decode),
        cmocka_unit_test(test_query),
        cmocka_unit_test(test_accepts),
        cmocka_unit_test(test_lists_of_headers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
