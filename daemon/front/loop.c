/* loop.c -- see loop.h: binding, the answers box, draining.
 *
 * Every loop binds every TCP address itself (SO_REUSEPORT: the kernel spreads connections); a unix
 * socket belongs to the first loop. With port 0 the first loop takes any port and the others the
 * same one. Sockets that were inherited are one for all loops: each watches a copy of the
 * descriptor, and who comes first takes the connection.
 */
#include "daemon/front/loop.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/front/conn.h"
#include "daemon/front/trail.h"
#include "daemon/front/watch.h"
#include "daemon/log.h"
#include "daemon/notify.h"

enum { BACKLOG = 511, TICK_MS = 1000, DRAIN_TICK_MS = 20 };

struct loops {
    uint32_t len;
    atomic_uint connections;
    struct loop *loops[LIMIT_LOOPS];
    char unix_paths[SETTINGS_LISTEN_MAX][SETTINGS_PATH_BYTES];
    uint32_t unix_len;
};

/* front_post needs the loop of a reference: the one table of the process. Set before the first
 * thread starts. */
static struct loops *all;

/* ---- answers from other threads -------------------------------------------------------------- */

void front_post(struct front_message *m)
{
    struct loop *l = all->loops[m->ref.loop];
    bool closed;

    pthread_mutex_lock(&l->lock);
    closed = l->closed;
    m->next = NULL;
    *l->last = m;
    l->last = &m->next;
    if (!closed)
        uv_async_send(&l->wake);
    pthread_mutex_unlock(&l->lock);
}

static void take_messages(struct loop *l)
{
    struct front_message *list;

    pthread_mutex_lock(&l->lock);
    list = l->first;
    l->first = NULL;
    l->last = &l->first;
    pthread_mutex_unlock(&l->lock);
    while (list != NULL) {
        struct front_message *m = list;
        struct conn *c = l->slots[m->ref.slot];
        bool here = c != NULL && c->x.active && c->x.generation == m->ref.generation &&
                    l->generations[m->ref.slot] == m->ref.generation;

        list = m->next;
        m->arrive(m, here ? &c->x : NULL);
    }
}

/* At the first tick of draining, not when it begins: who had come before is accepted by then. */
static void stop_listening(struct loop *l)
{
    for (uint32_t i = 0; i < l->listeners_len; i++)
        uv_close(&l->listeners[i].io.handle, NULL);
    l->listeners_len = 0;
}

static void on_tick(uv_timer_t *timer)
{
    struct loop *l = timer->data;
    int64_t now = clock_us();

    if (l->draining)
        stop_listening(l);
    for (uint32_t i = 0; i < l->slots_len; i++) {
        struct conn *c = l->slots[i];

        if (c == NULL)
            continue;
        if (!l->draining)
            conn_tick(c, now);
        else if (now >= l->drain_until_us)
            conn_close(c);
        else
            conn_drain(c);
    }
    if (!l->draining)
        watch_tick(l, now);
    if (!l->draining && l->index == 0)
        trail_use(l->server, now, false);
    if (l->draining && atomic_load(&l->connections) == 0) {
        uv_close((uv_handle_t *)&l->tick, NULL);
        uv_close((uv_handle_t *)&l->wake, NULL);
        uv_close((uv_handle_t *)&l->prepare, NULL);
    }
}

static void start_draining(struct loop *l)
{
    l->draining = true;
    l->drain_until_us = clock_us() + (int64_t)LIMIT_DRAIN_S * 1000000;
    watch_stop(l);
    uv_timer_start(&l->tick, on_tick, 0, DRAIN_TICK_MS);
}

static void on_wake(uv_async_t *async)
{
    struct loop *l = async->data;

    atomic_fetch_add(&l->beats, 1);
    take_messages(l);
    if (atomic_load(&l->told))
        watch_pump(l);
    if (atomic_load(&l->stop) && !l->draining)
        start_draining(l);
}

static void before_sleep(uv_prepare_t *prepare)
{
    struct loop *l = prepare->data;

    l->round(l->server);
}

static void on_connection(uv_stream_t *stream, int status)
{
    if (status == 0)
        conn_accept(stream->data);
}

static void *run(void *arg)
{
    struct loop *l = arg;

    pthread_setname_np(pthread_self(), "loop");
    uv_run(&l->uv, UV_RUN_DEFAULT);
    return NULL;
}

/* ---- binding --------------------------------------------------------------------------------- */

static bool is_loopback(const struct sockaddr_storage *a)
{
    if (a->ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24 == 127;
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)a)->sin6_addr);
}

/* May this address be listened on? keyed: nobody comes in without a key. */
static int check_reach(const struct sockaddr_storage *address, bool keyed, const char *text,
                       char *why, size_t why_bytes)
{
    if (keyed || is_loopback(address))
        return 0;
    snprintf(why, why_bytes,
             "listen %.100s: without keys the daemon listens on the loopback only; create one "
             "there (learnctl keys create), or name an admin-key-file",
             text);
    return -EACCES;
}

static int parse_address(const char *text, struct sockaddr_storage *ret_address, char *why,
                         size_t why_bytes)
{
    char host[64];
    const char *colon = strrchr(text, ':');
    size_t len = colon != NULL ? (size_t)(colon - text) : 0;
    char *end = NULL;
    unsigned long port = colon != NULL ? strtoul(colon + 1, &end, 10) : 0;

    memset(ret_address, 0, sizeof *ret_address);
    if (colon == NULL || len == 0 || len >= sizeof host || end == colon + 1 || *end != '\0' ||
        port > 65535) {
        snprintf(why, why_bytes, "listen %.100s: expected ADDR:PORT or unix:PATH", text);
        return -EINVAL;
    }
    memcpy(host, text, len);
    host[len] = '\0';
    if (host[0] == '[' && host[len - 1] == ']') {
        host[len - 1] = '\0';
        memmove(host, host + 1, len - 1);
    }
    if (uv_ip4_addr(strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, (int)port,
                    (struct sockaddr_in *)ret_address) != 0 &&
        uv_ip6_addr(host, (int)port, (struct sockaddr_in6 *)ret_address) != 0) {
        snprintf(why, why_bytes, "listen %.100s: not an IP address", text);
        return -EINVAL;
    }
    return 0;
}

static int bind_tcp(struct loop *l, struct sockaddr_storage *address, const char *text, char *why,
                    size_t why_bytes)
{
    struct listener *listener = &l->listeners[l->listeners_len];
    socklen_t len =
        address->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    int rc = 0;

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        (l->index > 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) != 0) ||
        bind(fd, (struct sockaddr *)address, len) != 0) {
        rc = -errno;
    } else if (l->index == 0) {
        /* The first loop binds alone, so that a port in use by another process is seen; then it
         * lets the others in. */
        socklen_t have = sizeof *address;

        if (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) != 0 ||
            getsockname(fd, (struct sockaddr *)address, &have) != 0)
            rc = -errno;
    }
    if (rc == 0) {
        uv_tcp_init(&l->uv, &listener->io.tcp);
        listener->io.handle.data = listener;
        listener->loop = l;
        l->listeners_len++;
        rc = uv_tcp_open(&listener->io.tcp, fd);
        if (rc == 0)
            rc = uv_listen(&listener->io.stream, BACKLOG, on_connection);
    } else if (fd >= 0) {
        close(fd);
    }
    if (rc != 0)
        snprintf(why, why_bytes, "listen %.100s: %s%s", text, strerror(-rc),
                 rc == -EADDRINUSE ? "; another program has this port" : "");
    return rc;
}

/* A socket file that nobody answers on is left from a crash and is replaced. */
static int clear_unix(const char *path, char *why, size_t why_bytes)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd, rc;

    if (strlen(path) >= sizeof address.sun_path) {
        snprintf(why, why_bytes, "listen unix:%.100s: the path is too long", path);
        return -EINVAL;
    }
    memcpy(address.sun_path, path, strlen(path));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    rc = fd < 0 ? -errno : connect(fd, (struct sockaddr *)&address, sizeof address);
    if (fd >= 0)
        close(fd);
    if (rc == 0) {
        snprintf(why, why_bytes, "listen unix:%.100s: another program answers there", path);
        return -EADDRINUSE;
    }
    if (errno == ECONNREFUSED)
        unlink(path);
    return 0;
}

static int bind_unix(struct loops *loops, struct loop *l, const char *path, char *why,
                     size_t why_bytes)
{
    struct listener *listener = &l->listeners[l->listeners_len];
    mode_t mask;
    int rc = clear_unix(path, why, why_bytes);

    if (rc != 0)
        return rc;
    uv_pipe_init(&l->uv, &listener->io.pipe, 0);
    listener->io.handle.data = listener;
    listener->loop = l;
    listener->local = true;
    l->listeners_len++;
    mask = umask(0117); /* its user and group, from its first moment */
    rc = uv_pipe_bind(&listener->io.pipe, path);
    umask(mask);
    if (rc == 0)
        rc = uv_listen(&listener->io.stream, BACKLOG, on_connection);
    if (rc != 0) {
        snprintf(why, why_bytes, "listen unix:%.100s: %s", path, strerror(-rc));
        return rc;
    }
    snprintf(loops->unix_paths[loops->unix_len++], SETTINGS_PATH_BYTES, "%s", path);
    log_info("front", "event", "listening", "address", path, NULL);
    return 0;
}

/* socket: what an inherited one is called; NULL. */
static void log_listening(const struct sockaddr_storage *a, const char *socket)
{
    char host[64] = "", text[96];
    int port;

    if (a->ss_family == AF_INET) {
        uv_ip4_name((const struct sockaddr_in *)a, host, sizeof host);
        port = ntohs(((const struct sockaddr_in *)a)->sin_port);
    } else {
        uv_ip6_name((const struct sockaddr_in6 *)a, host, sizeof host);
        port = ntohs(((const struct sockaddr_in6 *)a)->sin6_port);
    }
    snprintf(text, sizeof text, a->ss_family == AF_INET ? "http://%s:%d" : "http://[%s]:%d", host,
             port);
    log_info("front", "event", "listening", "address", text, socket != NULL ? "socket" : NULL,
             socket, NULL);
}

static int bind_all(struct loops *loops, const char *text, char *why, size_t why_bytes)
{
    struct sockaddr_storage address;
    int rc;

    if (strncmp(text, "unix:", 5) == 0)
        return bind_unix(loops, loops->loops[0], text + 5, why, why_bytes);
    rc = parse_address(text, &address, why, why_bytes);
    if (rc == 0)
        rc = check_reach(&address, access_keyed(loops->loops[0]->access), text, why, why_bytes);
    for (uint32_t i = 0; i < loops->len && rc == 0; i++)
        rc = bind_tcp(loops->loops[i], &address, text, why, why_bytes);
    if (rc == 0)
        log_listening(&address, NULL);
    return rc;
}

/* ---- inherited sockets ----------------------------------------------------------------------- */

static int adopt(struct loop *l, int fd, const struct sockaddr_storage *address)
{
    struct listener *listener = &l->listeners[l->listeners_len];
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0), rc;

    if (own < 0)
        return -errno;
    listener->loop = l;
    listener->local = address->ss_family == AF_UNIX;
    rc = listener->local ? uv_pipe_init(&l->uv, &listener->io.pipe, 0)
                         : uv_tcp_init(&l->uv, &listener->io.tcp);
    listener->io.handle.data = listener;
    l->listeners_len++;
    if (rc == 0)
        rc = listener->local ? uv_pipe_open(&listener->io.pipe, own)
                             : uv_tcp_open(&listener->io.tcp, own);
    return rc == 0 ? uv_listen(&listener->io.stream, BACKLOG, on_connection) : rc;
}

static int adopt_all(struct loops *loops, int fd, char *why, size_t why_bytes)
{
    struct sockaddr_storage address = {0};
    const struct sockaddr_un *local = (const struct sockaddr_un *)&address;
    socklen_t len = sizeof address;
    char text[32], name[NOTIFY_NAME_BYTES];
    int rc = getsockname(fd, (struct sockaddr *)&address, &len) == 0 ? 0 : -errno;

    snprintf(text, sizeof text, "descriptor %d", fd);
    notify_socket_name(fd - NOTIFY_FIRST_FD, name);
    if (rc == 0 && address.ss_family != AF_UNIX)
        rc = check_reach(&address, access_keyed(loops->loops[0]->access), text, why, why_bytes);
    if (rc == -EACCES)
        return rc;
    for (uint32_t i = 0; i < loops->len && rc == 0; i++)
        rc = adopt(loops->loops[i], fd, &address);
    close(fd);
    if (rc != 0)
        snprintf(why, why_bytes, "listen on inherited %s: %s", text, strerror(-rc));
    else if (address.ss_family != AF_UNIX)
        log_listening(&address, name);
    else /* (of the abstract name space: without the zero byte) */
        log_info("front", "event", "listening", "address",
                 local->sun_path + (local->sun_path[0] == '\0'), "socket", name, NULL);
    return rc;
}

/* ---- life ------------------------------------------------------------------------------------ */

static void loop_free(struct loop *l)
{
    free(l->slots);
    free(l->generations);
    free(l->free_slots);
    free(l);
}

static int loop_init(struct loops *loops, uint32_t connections, const struct route *routes,
                     size_t routes_len, struct bus *bus, struct access *access,
                     void (*round)(void *server), void *server)
{
    struct loop *l = calloc(1, sizeof *l);

    if (l == NULL)
        return -ENOMEM;
    l->index = loops->len;
    l->last = &l->first;
    l->routes = routes;
    l->routes_len = routes_len;
    l->access = access;
    l->round = round;
    l->server = server;
    l->slots_len = connections;
    l->connections_all = &loops->connections;
    l->slots = calloc(connections, sizeof *l->slots);
    l->generations = calloc(connections, sizeof *l->generations);
    l->free_slots = calloc(connections, sizeof *l->free_slots);
    for (uint32_t i = connections; l->free_slots != NULL && i-- > 0;)
        l->free_slots[l->free_len++] = i;
    if (l->slots == NULL || l->generations == NULL || l->free_slots == NULL ||
        getrandom(l->random, sizeof l->random, 0) != sizeof l->random ||
        uv_loop_init(&l->uv) != 0) {
        loop_free(l);
        return -ENOMEM;
    }
    pthread_mutex_init(&l->lock, NULL);
    uv_async_init(&l->uv, &l->wake, on_wake);
    uv_timer_init(&l->uv, &l->tick);
    uv_prepare_init(&l->uv, &l->prepare);
    l->wake.data = l->tick.data = l->prepare.data = l;
    uv_timer_start(&l->tick, on_tick, TICK_MS, TICK_MS);
    uv_prepare_start(&l->prepare, before_sleep);
    loops->loops[loops->len++] = l;
    return watch_open(l, bus);
}

int loops_check(const struct settings *settings, bool keyed, char *why, size_t why_bytes)
{
    int rc = 0;

    for (uint32_t i = 0; i < settings->listen_len && rc == 0; i++) {
        const char *text = settings->listen[i];
        struct sockaddr_storage address;
        struct sockaddr_un local;

        if (strncmp(text, "unix:", 5) != 0) {
            rc = parse_address(text, &address, why, why_bytes);
            if (rc == 0)
                rc = check_reach(&address, keyed, text, why, why_bytes);
        } else if (strlen(text + 5) >= sizeof local.sun_path) {
            snprintf(why, why_bytes, "listen %.100s: the path is too long", text);
            rc = -EINVAL;
        }
    }
    return rc;
}

int loops_open(const struct settings *settings, uint32_t inherited, uint32_t len,
               const struct route *routes, size_t routes_len, struct bus *bus,
               struct access *access, void (*round)(void *server), void *server, char *why,
               size_t why_bytes, struct loops **ret_loops)
{
    struct loops *loops = calloc(1, sizeof *loops);
    int rc = loops != NULL ? 0 : -ENOMEM;

    snprintf(why, why_bytes, "no memory for the event loops");
    all = loops;
    for (uint32_t i = 0; i < len && rc == 0; i++)
        rc =
            loop_init(loops, settings->connections, routes, routes_len, bus, access, round, server);
    for (uint32_t i = 0; i < inherited && rc == 0; i++)
        rc = adopt_all(loops, NOTIFY_FIRST_FD + (int)i, why, why_bytes);
    for (uint32_t i = 0; inherited == 0 && i < settings->listen_len && rc == 0; i++)
        rc = bind_all(loops, settings->listen[i], why, why_bytes);
    for (uint32_t i = 0; i < loops->len && rc == 0; i++)
        atomic_store(&loops->loops[i]->log_requests, (int)settings->log_requests);
    if (rc == 0)
        *ret_loops = loops; /* before the threads: a handler may look there */
    for (uint32_t i = 0; i < len && rc == 0; i++)
        rc = -pthread_create(&loops->loops[i]->thread, NULL, run, loops->loops[i]);
    return rc; /* if not 0 the process ends */
}

void loops_leave(struct loops *loops)
{
    for (uint32_t i = 0; i < loops->len; i++)
        atomic_store(&loops->loops[i]->leaving, true);
}

void loops_log_requests(struct loops *loops, enum log_requests which)
{
    for (uint32_t i = 0; i < loops->len; i++)
        atomic_store(&loops->loops[i]->log_requests, (int)which);
}

void loops_poke(struct loops *loops, uint32_t index)
{
    uv_async_send(&loops->loops[index]->wake);
}

uint64_t loops_beats(const struct loops *loops, uint32_t index)
{
    return atomic_load(&loops->loops[index]->beats);
}

void loops_drain(struct loops *loops)
{
    for (uint32_t i = 0; i < loops->len; i++) {
        atomic_store(&loops->loops[i]->stop, true);
        uv_async_send(&loops->loops[i]->wake);
    }
    for (uint32_t i = 0; i < loops->len; i++) {
        struct loop *l = loops->loops[i];

        pthread_join(l->thread, NULL);
        pthread_mutex_lock(&l->lock);
        l->closed = true; /* whoever still posts finds no loop to wake */
        pthread_mutex_unlock(&l->lock);
    }
    for (uint32_t i = 0; i < loops->unix_len; i++)
        unlink(loops->unix_paths[i]);
}

void loops_close(struct loops *loops)
{
    for (uint32_t i = 0; i < loops->len; i++) {
        struct loop *l = loops->loops[i];

        take_messages(l); /* of clients that were cut off: each frees itself */
        uv_loop_close(&l->uv);
        pthread_mutex_destroy(&l->lock);
        loop_free(l);
    }
    all = NULL;
    free(loops);
}

uint32_t loops_connections(const struct loops *loops)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < loops->len; i++)
        n += atomic_load(&loops->loops[i]->connections);
    return n;
}

uint32_t loops_streams(const struct loops *loops)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < loops->len; i++)
        n += atomic_load(&loops->loops[i]->watches_len);
    return n;
}
