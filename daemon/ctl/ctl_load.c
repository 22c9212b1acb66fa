/* ctl_load.c -- see ctl_load.h.
 *
 * A connection is idle, busy or down. One that breaks is down until the next tick (a tenth of a
 * second), so that a daemon that is away is not called in a tight loop.
 */
#include "daemon/ctl/ctl_load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/clock.h"

enum { ANSWER_BYTES = 65536, EVENTS = 64, TICK_US = 100000, DRAIN_US_MAX = 5000000 };

enum client_state { DOWN, IDLE, BUSY };

struct client {
    int fd; /* -1: DOWN */
    enum client_state state;
    size_t request; /* under way */
    size_t sent, got;
    int64_t due_us;
    char *answer; /* (ANSWER_BYTES + 1) */
};

struct load {
    const struct ctl_load_settings *s;
    struct ctl_verdict *verdict;
    struct ctl_load_figures *figures;
    struct client *clients; /* (connections) */
    uint32_t *idle;         /* (connections) a ring: each has its turn */
    uint32_t idle_at, idle_len, busy;
    int epoll, timer; /* timer: of the open loop, else -1 */
    size_t next;
    uint64_t begun, due; /* due: of the open loop */
    double every_us;
    int64_t started_us, count_from_us, tick_us;
    bool over; /* nothing more is begun */
};

/* ---- addresses ------------------------------------------------------------------------------- */

static bool is_loopback(const struct sockaddr *to)
{
    if (to->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)to)->sin_addr.s_addr) >> 24 == 127;
    return to->sa_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)to)->sin6_addr);
}

static int resolve_unix(const char *path, struct ctl_load_address *a, char *why, size_t why_bytes)
{
    struct sockaddr_un *to = (struct sockaddr_un *)&a->to;

    if (*path == '\0' || strlen(path) >= sizeof to->sun_path) {
        snprintf(why, why_bytes, "that is no path of a socket");
        return -EINVAL;
    }
    to->sun_family = AF_UNIX;
    memcpy(to->sun_path, path, strlen(path) + 1);
    a->to_bytes = sizeof *to;
    a->loopback = true;
    snprintf(a->host, sizeof a->host, "localhost");
    return 0;
}

/* HOST, HOST:PORT, [V6], [V6]:PORT */
static int split(char *host, char **ret_name, const char **ret_port)
{
    char *end;

    *ret_port = "80";
    *ret_name = host;
    if (*host == '[') {
        *ret_name = host + 1;
        end = strchr(host, ']');
        if (end == NULL || (end[1] != ':' && end[1] != '\0'))
            return -EINVAL;
        if (end[1] == ':')
            *ret_port = end + 2;
        *end = '\0';
        return 0;
    }
    end = strrchr(host, ':');
    if (end != NULL) {
        *ret_port = end + 1;
        *end = '\0';
    }
    return 0;
}

int ctl_load_resolve(const char *url, struct ctl_load_address *ret, char *why, size_t why_bytes)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL, *one;
    char host[NI_MAXHOST], *name;
    const char *port;
    size_t len;

    *ret = (struct ctl_load_address){.to_bytes = 0};
    if (strncmp(url, "unix:", 5) == 0)
        return resolve_unix(url + 5, ret, why, why_bytes);
    if (strncasecmp(url, "http://", 7) != 0) {
        snprintf(why, why_bytes, "bench speaks plain HTTP: http://HOST:PORT or unix:PATH");
        return -EINVAL;
    }
    len = strcspn(url + 7, "/");
    if (len == 0 || len >= sizeof host || strspn(url + 7 + len, "/") != strlen(url + 7 + len)) {
        snprintf(why, why_bytes, "bench needs http://HOST:PORT and nothing behind it");
        return -EINVAL;
    }
    snprintf(host, sizeof host, "%.*s", (int)len, url + 7);
    snprintf(ret->host, sizeof ret->host, "%s", host);
    if (split(host, &name, &port) != 0 || getaddrinfo(name, port, &hints, &found) != 0) {
        snprintf(why, why_bytes, "there is no such host: %.100s", ret->host);
        return -EINVAL;
    }
    for (one = found; one->ai_family != AF_INET && one->ai_next != NULL;)
        one = one->ai_next; /* IPv4 where there is one: it is where learnd listens by default */
    one = one->ai_family == AF_INET ? one : found;
    memcpy(&ret->to, one->ai_addr, one->ai_addrlen);
    ret->to_bytes = one->ai_addrlen;
    ret->loopback = is_loopback(one->ai_addr);
    freeaddrinfo(found);
    return 0;
}

/* ---- connections ----------------------------------------------------------------------------- */

static void watch(const struct load *l, struct client *c, uint32_t events, int how)
{
    struct epoll_event e = {.events = events, .data.u32 = (uint32_t)(c - l->clients)};

    epoll_ctl(l->epoll, how, c->fd, &e);
}

static void set_idle(struct load *l, struct client *c)
{
    uint32_t connections = l->s->connections;

    c->state = IDLE;
    l->idle[(l->idle_at + l->idle_len++) % connections] = (uint32_t)(c - l->clients);
}

/* Blocks while it connects: on a loopback that is no time, and elsewhere it is not counted. */
static int connect_client(struct load *l, struct client *c)
{
    const struct ctl_load_address *a = l->s->address;
    struct timeval limit = {.tv_sec = 2};
    int one = 1, rc, fd = socket(a->to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    rc = connect(fd, (const struct sockaddr *)&a->to, a->to_bytes) == 0 ? 0 : -errno;
    if (rc == 0)
        rc = fcntl(fd, F_SETFL, O_NONBLOCK) == 0 ? 0 : -errno;
    if (rc != 0) {
        close(fd);
        return rc;
    }
    if (a->to.ss_family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->fd = fd;
    watch(l, c, EPOLLIN, EPOLL_CTL_ADD);
    set_idle(l, c);
    return 0;
}

/* Out of the ring, wherever it stands in it. */
static void leave_idle(struct load *l, const struct client *c)
{
    uint32_t n = l->s->connections, me = (uint32_t)(c - l->clients), kept = 0;

    for (uint32_t i = 0; i < l->idle_len; i++) {
        uint32_t one = l->idle[(l->idle_at + i) % n];

        if (one != me)
            l->idle[(l->idle_at + kept++) % n] = one;
    }
    l->idle_len = kept;
}

static void drop(struct load *l, struct client *c, const char *word)
{
    if (c->state == BUSY) {
        l->busy--;
        ctl_verdict_none(l->verdict, word);
    } else if (c->state == IDLE) {
        leave_idle(l, c);
    }
    close(c->fd);
    c->fd = -1;
    c->state = DOWN;
}

/* ---- questions ------------------------------------------------------------------------------- */

static void send_more(struct load *l, struct client *c)
{
    const struct api_buffer *r = &l->s->requests[c->request];
    ssize_t n = send(c->fd, r->bytes + c->sent, r->len - c->sent, MSG_NOSIGNAL);

    if (n < 0 && errno != EAGAIN) {
        drop(l, c, "broken_off");
        return;
    }
    c->sent += n > 0 ? (size_t)n : 0;
    watch(l, c, c->sent < r->len ? EPOLLIN | EPOLLOUT : EPOLLIN, EPOLL_CTL_MOD);
}

static void begin(struct load *l, int64_t due_us)
{
    struct client *c = &l->clients[l->idle[l->idle_at]];
    const struct api_buffer *r = &l->s->requests[l->next];
    ssize_t n;

    l->idle_at = (l->idle_at + 1) % l->s->connections;
    l->idle_len--;
    l->begun++;
    l->busy++;
    c->state = BUSY;
    c->request = l->next;
    l->next = (l->next + 1) % l->s->requests_len;
    c->sent = c->got = 0;
    c->due_us = due_us;
    n = send(c->fd, r->bytes, r->len, MSG_NOSIGNAL);
    if (n == (ssize_t)r->len)
        c->sent = r->len;
    else if (n < 0 && errno != EAGAIN)
        drop(l, c, "broken_off");
    else
        send_more(l, c);
}

static int64_t due_at(const struct load *l, uint64_t number)
{
    return l->started_us + (int64_t)((double)number * l->every_us);
}

/* Begins what may begin. */
static void begin_all(struct load *l)
{
    uint64_t max = l->s->requests_max;

    while (!l->over && l->idle_len > 0 && (max == 0 || l->begun < max)) {
        if (l->timer >= 0 && l->begun >= l->due)
            return;
        begin(l, l->timer >= 0 ? due_at(l, l->begun + 1) : clock_us());
    }
}

/* ---- answers --------------------------------------------------------------------------------- */

/* 1: whole. 0: not yet. -EPROTO: no answer of HTTP with a length. */
static int parse_head(const struct client *c, long *ret_status, const char **ret_body,
                      size_t *ret_len, bool *ret_close)
{
    const char *body = strstr(c->answer, "\r\n\r\n"), *length, *how;
    size_t head;

    if (body == NULL)
        return c->got < ANSWER_BYTES ? 0 : -EPROTO;
    body += 4;
    head = (size_t)(body - c->answer);
    length = strcasestr(c->answer, "\r\ncontent-length:");
    if (strncmp(c->answer, "HTTP/1.", 7) != 0 || length == NULL || length >= body)
        return -EPROTO;
    *ret_len = strtoul(length + 17, NULL, 10);
    if (*ret_len > ANSWER_BYTES - head || c->got > head + *ret_len)
        return -EPROTO;
    how = strcasestr(c->answer, "\r\nconnection: close");
    *ret_close = how != NULL && how < body;
    *ret_status = strtol(c->answer + 9, NULL, 10);
    *ret_body = body;
    return c->got == head + *ret_len;
}

static void count(struct load *l, const struct client *c, const struct ctl_verdict_answer *answer)
{
    int64_t us = clock_us() - c->due_us;

    if (c->due_us < l->count_from_us)
        return;
    ctl_histogram_add(&l->figures->times, us);
    l->figures->answers++;
    if (l->s->dump != NULL)
        fprintf(l->s->dump, "%lld,%.3f,%zu,%s,%.9g\n", (long long)c->due_us, (double)us * 1e-3,
                c->request, answer->version, answer->score);
}

static void finish(struct load *l, struct client *c, long status, const char *body, size_t len,
                   bool close_it)
{
    struct ctl_verdict_answer answer;

    l->figures->any++;
    l->busy--;
    if (ctl_verdict_take(l->verdict, c->request, status, body, len, &answer))
        count(l, c, &answer);
    set_idle(l, c);
    if (close_it) {
        drop(l, c, "");
        if (!l->over)
            connect_client(l, c);
    }
    begin_all(l);
}

static void receive(struct load *l, struct client *c)
{
    ssize_t n = recv(c->fd, c->answer + c->got, ANSWER_BYTES - c->got, 0);
    const char *body = NULL;
    bool close_it = false;
    size_t len = 0;
    long status = 0;
    int rc;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 || c->state != BUSY) { /* an idle one that the server closes is no error */
        drop(l, c, "broken_off");
        return;
    }
    c->got += (size_t)n;
    c->answer[c->got] = '\0';
    rc = parse_head(c, &status, &body, &len, &close_it);
    if (rc == 1)
        finish(l, c, status, body, len, close_it);
    else if (rc < 0)
        drop(l, c, "not_http");
}

/* ---- the run --------------------------------------------------------------------------------- */

static void tick(struct load *l, int64_t now)
{
    for (uint32_t i = 0; i < l->s->connections; i++) {
        struct client *c = &l->clients[i];

        if (c->state == BUSY && now - c->due_us > (int64_t)(l->s->timeout_s * 1e6))
            drop(l, c, "timeout");
        if (c->state == DOWN && !l->over && connect_client(l, c) != 0)
            break; /* the others fare the same */
    }
    begin_all(l);
    l->tick_us = now + TICK_US;
    if (l->s->tick != NULL)
        l->s->tick(l->s->ud, (double)(now - l->started_us) * 1e-6, l->figures->any);
}

static int start_timer(struct load *l)
{
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = UINT32_MAX};
    long ns = (long)(1e9 / l->s->rate);
    struct itimerspec every;

    ns =
        ns < 50000 ? 50000 : ns; /* at most twenty thousand a second; each begins all that is due */
    every =
        (struct itimerspec){{ns / 1000000000, ns % 1000000000}, {ns / 1000000000, ns % 1000000000}};
    l->every_us = 1e6 / l->s->rate;
    l->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (l->timer < 0 || timerfd_settime(l->timer, 0, &every, NULL) != 0 ||
        epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->timer, &e) != 0)
        return -errno;
    return 0;
}

static void on_timer(struct load *l)
{
    uint64_t ticks;

    if (read(l->timer, &ticks, sizeof ticks) != sizeof ticks)
        return;
    l->due = (uint64_t)((double)(clock_us() - l->started_us) / l->every_us);
    begin_all(l);
}

static void turn(struct load *l)
{
    struct epoll_event events[EVENTS];
    int64_t now = clock_us();
    int n = epoll_wait(l->epoll, events, EVENTS,
                       l->tick_us > now ? (int)((l->tick_us - now) / 1000) + 1 : 0);

    for (int i = 0; i < n; i++) {
        struct client *c =
            events[i].data.u32 == UINT32_MAX ? NULL : l->clients + events[i].data.u32;

        if (c == NULL)
            on_timer(l);
        else if (c->state == BUSY && (events[i].events & EPOLLOUT) != 0)
            send_more(l, c);
        else if (c->state != DOWN)
            receive(l, c);
    }
    if (clock_us() >= l->tick_us)
        tick(l, clock_us());
}

static bool all_done(const struct load *l)
{
    return l->s->requests_max > 0 && l->begun >= l->s->requests_max && l->busy == 0;
}

/* What was due and has no answer: with the time it has waited so far. */
static void count_unfinished(struct load *l, int64_t end)
{
    uint64_t max = l->s->requests_max;
    uint64_t due = max > 0 && l->due > max ? max : l->due;

    for (uint32_t i = 0; i < l->s->connections; i++) {
        if (l->clients[i].state != BUSY)
            continue;
        l->figures->unfinished++;
        ctl_histogram_add(&l->figures->times, clock_us() - l->clients[i].due_us);
    }
    for (uint64_t n = l->begun; l->timer >= 0 && n < due; n++) {
        l->figures->unfinished++;
        ctl_histogram_add(&l->figures->times, end - due_at(l, n + 1));
    }
}

static void run(struct load *l)
{
    int64_t limit = (int64_t)(l->s->seconds * 1e6), end, drain;

    l->started_us = clock_us();
    l->tick_us = l->started_us + TICK_US;
    l->count_from_us = l->started_us + (l->timer < 0 ? (int64_t)(l->s->warm_up_s * 1e6) : 0);
    begin_all(l);
    while (!*l->s->stop && !all_done(l) && (limit == 0 || clock_us() < l->started_us + limit))
        turn(l);
    end = clock_us();
    l->figures->counted_s = (double)(end - l->count_from_us) * 1e-6;
    l->over = true;
    drain = (int64_t)(l->s->timeout_s * 1e6);
    drain = end + (drain < DRAIN_US_MAX ? drain : DRAIN_US_MAX);
    while (l->busy > 0 && clock_us() < drain)
        turn(l);
    count_unfinished(l, end);
}

static int open_load(struct load *l)
{
    uint32_t n = l->s->connections;
    int rc = 0;

    l->clients = calloc(n, sizeof *l->clients);
    l->idle = calloc(n, sizeof *l->idle);
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (l->clients == NULL || l->idle == NULL || l->epoll < 0)
        return -ENOMEM;
    for (uint32_t i = 0; i < n; i++) {
        l->clients[i].fd = -1;
        l->clients[i].answer = malloc(ANSWER_BYTES + 1);
        if (l->clients[i].answer == NULL)
            return -ENOMEM;
    }
    for (uint32_t i = 0; i < n && rc == 0; i++)
        rc = connect_client(l, &l->clients[i]);
    return rc == 0 && l->s->rate > 0 ? start_timer(l) : rc;
}

static void close_load(struct load *l)
{
    for (uint32_t i = 0; l->clients != NULL && i < l->s->connections; i++) {
        if (l->clients[i].state != DOWN)
            close(l->clients[i].fd);
        free(l->clients[i].answer);
    }
    free(l->clients);
    free(l->idle);
    if (l->timer >= 0)
        close(l->timer);
    if (l->epoll >= 0)
        close(l->epoll);
}

int ctl_load_run(const struct ctl_load_settings *settings, struct ctl_verdict *verdict,
                 struct ctl_load_figures *ret_figures)
{
    struct load l = {
        .s = settings, .verdict = verdict, .figures = ret_figures, .epoll = -1, .timer = -1};
    int rc;

    memset(ret_figures, 0, sizeof *ret_figures);
    rc = open_load(&l);
    if (rc == 0)
        run(&l);
    close_load(&l);
    return rc;
}
