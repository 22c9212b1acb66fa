/* conn.h -- one connection: bytes in, exchanges, bytes out. Private to daemon/front; everything
 * here runs on the loop's own thread.
 */
#ifndef LEARND_CONN_H
#define LEARND_CONN_H

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "daemon/front/access.h"
#include "daemon/front/router.h"
#include "daemon/limits.h"
#include "daemon/settings.h"
#include "proto/traceparent.h"

enum { REQUEST_ID_CHARS = 27 };

struct loop;

/* Why a request may not in. */
struct refusal {
    int status;
    const char *code, *detail; /* static */
    int64_t wait_us;           /* of 429 */
};

/* The request under way on a connection. */
struct exchange {
    struct conn *conn;
    uint64_t generation; /* counts exchanges of the slot */
    bool active;         /* a handler has it and has not answered */
    bool streaming;
    bool flowing, in_chunks; /* its answer has begun and has no end yet */
    bool head_only, keep_alive;
    bool refused; /* may not in: its body is read, if it is small, and then it is told so */
    struct refusal refusal;
    struct access_who who;
    const char *cors; /* the origin that may read the answer; NULL: no other */
    char request_id[REQUEST_ID_CHARS];
    struct trace trace; /* id "": the request belongs to none */
    int64_t started_us;
    const struct route *route;
    struct route_match match;
    void (*gone)(void *ud);
    void (*taken)(void *ud); /* with flowing */
    void *gone_ud;           /* of both */
    void *user;
};

struct conn {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } io;
    struct loop *loop;
    uint32_t slot;
    struct http_parser *parser;
    struct exchange x;
    bool local; /* a unix socket: no Host or Origin to check */
    uint8_t address[PEERS_ADDRESS_BYTES];
    int64_t peer; /* uid behind a unix socket; -1: unknown */
    bool reading, closing;
    bool parsing;     /* inside conn_parse: an answer given now must not parse on */
    uint32_t writing; /* answers not yet taken by the client */
    bool close_after; /* when they are */
    int64_t since_us; /* since when it is in its present state, for time limits */
    uint32_t trickle; /* bytes of a stream that has not earned more time yet */
    int64_t begun_us; /* when the request under way sent its first byte */
    char *held;       /* bytes behind the request under way */
    size_t held_len;
};

struct listener {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } io;
    struct loop *loop;
    bool local;
};

struct loop {
    pthread_t thread;
    uint32_t index;
    uv_loop_t uv;
    uv_async_t wake;
    uv_timer_t tick;
    uv_prepare_t prepare;
    void (*round)(void *server); /* loop.h */
    struct listener listeners[SETTINGS_LISTEN_MAX];
    uint32_t listeners_len;
    uint32_t slots_len; /* as many as the whole daemon may have: the kernel spreads as it likes */
    struct conn **slots;
    uint64_t *generations;
    uint32_t *free_slots, free_len;
    atomic_uint connections;
    atomic_uint *connections_all; /* of every loop, together at most slots_len */
    pthread_mutex_t lock;         /* of the answers box */
    struct front_message *first, **last;
    bool closed;
    atomic_ullong beats; /* wakes answered, for the watchdog */
    atomic_bool leaving; /* a client is told to come by another connection next time */
    atomic_bool stop;    /* drain and end */
    bool draining;
    int64_t drain_until_us;
    uint64_t random[2];    /* of request ids */
    struct watch *watches; /* watch.h */
    atomic_uint watches_len;
    atomic_bool told; /* the bus has, and the loop has not looked yet */
    uv_timer_t due;
    struct bus *bus;
    struct access *access;
    char input[65536];
    const struct route *routes;
    size_t routes_len;
    atomic_int log_requests; /* enum log_requests */
    void *server;
};

/* Takes a connection from a listener. */
void conn_accept(struct listener *listener);
void conn_close(struct conn *conn);
/* For what writes: a write has ended, and the exchange under way is answered. */
void conn_written(struct conn *conn, int status);
void conn_answered(struct conn *conn);
/* Once a second: time limits. */
void conn_tick(struct conn *conn, int64_t now_us);
/* The loop is stopping: an idle connection goes now, a busy one after its answer. */
void conn_drain(struct conn *conn);

#endif
