/* http.h -- bytes to HTTP/1.1 requests, and the heads of answers. Pure: no socket, no clock.
 *
 * Feed bytes as they come; the parser stops at each event and says how many bytes it used:
 *
 *     HTTP_MORE      all used, nothing finished
 *     HTTP_HEADERS   request line and headers are known; the caller says what to do with the body
 *                    (http_collect or http_stream) and feeds on
 *     HTTP_COMPLETE  a whole request; the caller answers it, calls http_next and feeds on what is
 *                    left
 *     HTTP_ERROR     not HTTP, or beyond a limit: http_problem() says what to answer before closing
 *
 * An event may still be due when every byte is used (a request without a body): feed on until
 * HTTP_MORE, be it with nothing.
 * Strings of a request are NUL-terminated and live until http_next. Strict: no lenient mode of
 * llhttp is on, so shapes that smuggle requests (two lengths, length and chunks, what is no chunk)
 * are errors.
 */
#ifndef LEARND_HTTP_H
#define LEARND_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_limits {
    size_t target_bytes_max;  /* path and query */
    size_t headers_bytes_max; /* names and values together */
    uint32_t headers_max;
};

struct http_request {
    const char *method; /* "GET" */
    const char *path;   /* as sent, without query */
    const char *query;  /* behind '?', "" without */
    const char *host, *content_type, *authorization, *idempotency_key, *origin, *last_event_id,
        *accept_encoding, *if_none_match; /* or NULL */
    const char *forwarded_for;            /* or NULL; of several, the last line */
    const char *traceparent, *tracestate; /* or NULL; "" if it came twice */
    bool takes_chunks;                    /* HTTP/1.1: an answer may come in chunks */
    bool keep_alive;                      /* the client wants the connection kept */
    bool expect_continue;                 /* waits for "100 Continue" before its body */
    bool has_body;                        /* a length above 0, or chunks */
    const char *body;                     /* (body_bytes), with http_collect, when complete */
    size_t body_bytes;
};

struct http_problem {
    int status;
    const char *code, *detail; /* static */
};

enum http_event { HTTP_MORE, HTTP_HEADERS, HTTP_COMPLETE, HTTP_ERROR };

struct http_parser;

int http_open(const struct http_limits *limits, struct http_parser **ret_parser);
void http_close(struct http_parser *parser);

enum http_event http_feed(struct http_parser *parser, const char *bytes, size_t bytes_len,
                          size_t *ret_used);
/* Valid from HTTP_HEADERS to http_next. */
const struct http_request *http_request(const struct http_parser *parser);
/* After HTTP_ERROR. */
struct http_problem http_problem(const struct http_parser *parser);
/* Has a request begun that is not finished? For time limits. */
bool http_busy(const struct http_parser *parser);

/* After HTTP_HEADERS: keep the body, up to body_bytes_max. False: it is announced to be larger
 * (413). */
bool http_collect(struct http_parser *parser, size_t body_bytes_max);
/* After HTTP_HEADERS: hand the body on as it comes, inside http_feed. A sink that returns non-zero
 * ends in HTTP_ERROR. */
typedef int http_sink(void *ud, const char *bytes, size_t bytes_len);
void http_stream(struct http_parser *parser, http_sink *sink, void *ud);
/* After HTTP_COMPLETE: forget it. */
void http_next(struct http_parser *parser);

/* The head of an answer into head[head_bytes]; returns its length, or 0 if it does not fit.
 * content_type NULL: no body. extra: NULL, or whole header lines ending in \r\n. */
size_t http_write_head(char *head, size_t head_bytes, int status, const char *content_type,
                       size_t body_bytes, bool keep_alive, const char *extra);
/* The same of an answer whose end is not known, after which the connection closes: in chunks, or
 * for HTTP/1.0 as it comes. */
size_t http_write_stream_head(char *head, size_t head_bytes, const char *content_type, bool chunks,
                              const char *extra);
const char *http_reason(int status);
/* Does an Accept-Encoding allow this coding? NULL, or a coding it does not name: no. */
bool http_accepts(const char *accept_encoding, const char *coding);

/* Decodes %XX in place of len bytes; '+' to space if plus. Returns the new length, or -EINVAL (bad
 * escape, NUL). */
int http_percent_decode(char *text, size_t len, bool plus, size_t *ret_len);
/* Finds a parameter and decodes it into out (out_bytes > 0, with the NUL). 0, -ENOENT, or with out
 * undefined -EINVAL, -ENOSPC. */
int http_query(const char *query, const char *name, char *out, size_t out_bytes);

#endif
