/* exchange.h -- one request under way, as a handler sees it.
 *
 * A handler runs on the loop's thread. It answers now (exchange_reply, exchange_problem), or keeps
 * the reference, hands work to another thread and answers when a front_message comes back. A
 * connection carries one exchange at a time, in a slot of its loop; across threads it is named by
 * {loop, slot, generation}, never by pointer: the client may have gone, and then the message
 * arrives with NULL.
 */
#ifndef LEARND_EXCHANGE_H
#define LEARND_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/api.h"
#include "proto/http.h"

struct exchange;
struct access_who;

struct exchange_ref {
    uint32_t loop, slot;
    uint64_t generation;
};

/* What another thread sends back. Embedded in what the handler allocated; arrive() runs once on the
 * loop's thread and owns it. */
struct front_message {
    struct front_message *next;
    struct exchange_ref ref;
    void (*arrive)(struct front_message *message, struct exchange *exchange_or_null);
};

/* Any thread. Never refused: at most one message an exchange is on its way. */
void front_post(struct front_message *message);

struct exchange_ref exchange_ref(const struct exchange *x);
void *exchange_server(const struct exchange *x); /* what loops_open was given */
const struct http_request *exchange_request(const struct exchange *x);
const char *exchange_request_id(const struct exchange *x); /* 26 characters, ULID */
const struct access_who *exchange_who(const struct exchange *x);
const char *exchange_trace_id(const struct exchange *x); /* 32 hex digits, or NULL: no trace */
int64_t exchange_started_us(const struct exchange *x);   /* monotonic, of the last byte */
/* The decoded text of the i-th {} of the route's pattern. */
const char *exchange_param(const struct exchange *x, uint32_t i);
/* A decoded query parameter; NULL: not given. -> 0, or -EINVAL after answering 422 itself. */
int exchange_query(struct exchange *x, const char *name, char *out, size_t out_bytes,
                   const char **ret_value);

/* Runs once if the client leaves before the answer, on the loop's thread: to take queued work back.
 */
void exchange_on_gone(struct exchange *x, void (*gone)(void *ud), void *ud);

/* Answers. body: from api_buffer, emptied. An exchange is answered once; it must not be used after.
 */
void exchange_reply(struct exchange *x, int status, const char *content_type,
                    struct api_buffer *body, const char *extra_headers);
void exchange_json(struct exchange *x, int status, struct api_buffer *body);
/* bytes: static. extra_headers: NULL, or whole lines ending in \r\n, together 640 bytes at most;
 * Cache-Control among them stands for the usual one. */
void exchange_static(struct exchange *x, int status, const char *content_type, const char *bytes,
                     size_t len, const char *extra_headers);
void exchange_problem(struct exchange *x, const struct api_problem *problem);
/* The usual problems of the machine itself, by -errno of a queue, the store or the kernels. */
void exchange_failed(struct exchange *x, int rc);

/* An answer without end (status 200): its head now, then pieces as they come. The connection closes
 * behind it, so that a request sent behind this one ends it too. For HEAD the head is all: the
 * exchange is over and *ret_open false. `gone` of exchange_on_gone runs once when it ends by
 * anything but exchange_flow_end; `taken` (may be NULL) after the client took a piece. 0 or -errno,
 * then it is not answered yet. */
int exchange_flow_begin(struct exchange *x, const char *content_type, const char *extra_headers,
                        void (*taken)(void *ud), bool *ret_open);
/* piece: emptied. 0 or -errno: the stream has a hole now and should be dropped. */
int exchange_flow_write(struct exchange *x, struct api_buffer *piece);
/* Written and not taken by the client's socket. */
size_t exchange_flow_unsent(const struct exchange *x);
/* Ends it as it should be; it must not be used after. What cannot be sent at once is not waited
 * for. */
void exchange_flow_end(struct exchange *x);
/* Closes at once: runs `gone`. */
void exchange_flow_drop(struct exchange *x);

/* Streaming bodies: stop and go on reading. Only between on_begin and the answer. */
void exchange_pause(struct exchange *x);
void exchange_resume(struct exchange *x);
void *exchange_user(const struct exchange *x);
void exchange_set_user(struct exchange *x, void *user);

#endif
