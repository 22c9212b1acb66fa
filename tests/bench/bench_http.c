/* bench_http.c -- a closed loop of clients against a running learnd, on plain epoll sockets in one
 * thread.
 *
 * Each connection sends one text, waits for its answer, checks it (status 200, a complete body by
 * Content-Length, a label field) and sends the next: keep-alive, no pipelining. The first tenth of
 * the time warms up and is not counted. Any answer that is not as it should be ends the run with
 * exit 1, so a fast wrong answer is no result.
 *
 * With --rate it is an open loop instead: a request is due every 1/R seconds and takes a free
 * connection; where none is free it waits, and its time counts from when it was due.
 *
 * Usage: bench_http PORT [--texts FILE.jsonl] [--connections N] [--seconds S] [--model NAME]
 * [--rate R] [--dump FILE] [--csv] Prints requests/s, p50 and p99 in ms; with --csv
 * `connections,requests_s,p50_ms,p99_ms,max_ms,requests`. SIGTERM ends it early, with its figures.
 * --dump: a line for each answer, `started_us,ms,text,version,score`, by CLOCK_MONOTONIC; the
 * texts are numbered in an order of their own, the same in every run.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "proto/json.h"
#include "tests/bench/corpus.h"

enum { CONNECTIONS_MAX = 1024, ANSWER_BYTES = 16384, EVENTS = 64, SAMPLES_MAX = 1 << 20 };

struct request {
    char *bytes;
    size_t len;
};

struct client {
    int fd;
    uint32_t request; /* under way */
    size_t sent, got;
    int64_t started_us;
    char answer[ANSWER_BYTES + 1];
};

struct load {
    struct request *requests;
    uint32_t requests_len, next;
    int epoll;
    int64_t count_from_us;
    double *ms; /* (SAMPLES_MAX) */
    uint32_t samples;
    int timer; /* with a rate: ticks when a request is due; else -1 */
    double every_us;
    uint64_t due, begun;  /* requests so far */
    struct client **idle; /* (connections) a ring: each has its turn, before the server closes it */
    uint32_t connections, idle_at, idle_len;
    FILE *dump;
};

static volatile sig_atomic_t stopped;

static void stop(int number)
{
    (void)number;
    stopped = 1;
}

static void make_requests(struct load *load, const struct corpus *c, const char *model)
{
    load->requests = calloc(c->len, sizeof *load->requests);
    load->requests_len = c->len;
    if (load->requests == NULL)
        err(1, "requests");
    for (uint32_t i = 0; i < c->len; i++) {
        struct api_buffer body = API_BUFFER_INIT;
        struct request *r = &load->requests[i];
        int head;

        json_open_object(&body);
        json_write_key(&body, "model");
        json_write_string(&body, model);
        json_write_key(&body, "inputs");
        json_write_string(&body, c->texts[i]);
        json_close_object(&body);
        r->bytes = malloc(body.len + 256);
        if (body.rc != 0 || r->bytes == NULL)
            err(1, "requests");
        head = snprintf(r->bytes, 256,
                        "POST /v1/classify HTTP/1.1\r\nHost: localhost\r\n"
                        "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                        body.len);
        memcpy(r->bytes + head, body.bytes, body.len);
        r->len = (size_t)head + body.len;
        api_buffer_done(&body);
    }
}

static void watch(struct load *load, struct client *c, uint32_t events, int how)
{
    struct epoll_event e = {.events = events, .data.ptr = c};

    if (epoll_ctl(load->epoll, how, c->fd, &e) != 0)
        err(1, "epoll_ctl");
}

/* Sends what is left of the request; the rest goes when the socket has room. */
static void send_more(struct load *load, struct client *c)
{
    const struct request *r = &load->requests[c->request];
    ssize_t n = send(c->fd, r->bytes + c->sent, r->len - c->sent, MSG_NOSIGNAL);

    if (n < 0 && errno != EAGAIN)
        err(1, "send");
    c->sent += n > 0 ? (size_t)n : 0;
    watch(load, c, c->sent < r->len ? EPOLLIN | EPOLLOUT : EPOLLIN, EPOLL_CTL_MOD);
}

static void send_next(struct load *load, struct client *c, int64_t due_us)
{
    const struct request *r;
    ssize_t n;

    c->request = load->next;
    load->next = (load->next + 1) % load->requests_len;
    c->sent = c->got = 0;
    c->started_us = due_us;
    r = &load->requests[c->request];
    n = send(c->fd, r->bytes, r->len, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN)
        err(1, "send");
    c->sent = n > 0 ? (size_t)n : 0;
    if (c->sent < r->len)
        watch(load, c, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
}

/* Begins what is due, as far as connections are free. */
static void send_due(struct load *load)
{
    while (load->begun < load->due && load->idle_len > 0) {
        int64_t due_us = load->count_from_us + (int64_t)((double)++load->begun * load->every_us);

        send_next(load, load->idle[load->idle_at], due_us);
        load->idle_at = (load->idle_at + 1) % load->connections;
        load->idle_len--;
    }
}

/* What follows a member's name in an answer's body, up to a comma or a quote. */
static int member(const char *body, const char *name, const char **ret_value)
{
    const char *at = strstr(body, name);

    if (at == NULL)
        errx(1, "an answer without %s: %.300s", name, body);
    *ret_value = at + strlen(name);
    return (int)strcspn(*ret_value, ",\"}");
}

static void keep(struct load *load, const struct client *c, int64_t now)
{
    double ms = (double)(now - c->started_us) * 1e-3;
    const char *body = strstr(c->answer, "\r\n\r\n"), *version, *score;
    int version_len, score_len;

    if (c->started_us < load->count_from_us || load->samples == SAMPLES_MAX)
        return;
    load->ms[load->samples++] = ms;
    if (load->dump == NULL)
        return;
    version_len = member(body, "\"version\":\"", &version);
    score_len = member(body, "\"score\":", &score);
    fprintf(load->dump, "%lld,%.3f,%u,%.*s,%.*s\n", (long long)c->started_us, ms, c->request,
            version_len, version, score_len, score);
}

/* True when the answer is whole. Ends the process if it is not a good one. */
static bool complete(const struct client *c)
{
    const char *body = strstr(c->answer, "\r\n\r\n");
    const char *length = strcasestr(c->answer, "\r\ncontent-length:");
    size_t head, want;

    if (body == NULL)
        return false;
    body += 4;
    head = (size_t)(body - c->answer);
    if (strncmp(c->answer, "HTTP/1.1 200 ", 13) != 0 || length == NULL || length > body)
        errx(1, "not the answer asked for: %.300s", c->answer);
    want = strtoul(length + 17, NULL, 10);
    if (c->got < head + want)
        return false;
    if (c->got > head + want || strstr(body, "\"label\":") == NULL)
        errx(1, "an answer without a label, or bytes behind it: %.300s", body);
    return true;
}

static void receive(struct load *load, struct client *c)
{
    ssize_t n = recv(c->fd, c->answer + c->got, ANSWER_BYTES - c->got, 0);

    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0)
        errx(1, "the server closed a connection: %s", n < 0 ? strerror(errno) : "end of file");
    c->got += (size_t)n;
    c->answer[c->got] = '\0';
    if (!complete(c)) {
        if (c->got == ANSWER_BYTES)
            errx(1, "an answer of more than %d bytes", ANSWER_BYTES);
        return;
    }
    keep(load, c, clock_us());
    if (load->timer < 0) {
        send_next(load, c, clock_us());
        return;
    }
    load->idle[(load->idle_at + load->idle_len++) % load->connections] = c;
    send_due(load);
}

static void open_client(struct load *load, struct client *c, int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int one = 1;

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to) != 0)
        err(1, "connect to 127.0.0.1:%d", port);
    if (setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0)
        err(1, "TCP_NODELAY");
    watch(load, c, EPOLLIN, EPOLL_CTL_ADD);
}

/* A timer of the open loop, counted from its start. */
static void start_timer(struct load *load, double rate)
{
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    long ns = (long)(1e9 / rate);
    struct itimerspec every = {{ns / 1000000000, ns % 1000000000},
                               {ns / 1000000000, ns % 1000000000}};

    load->every_us = (double)ns * 1e-3;
    load->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (load->timer < 0 || timerfd_settime(load->timer, 0, &every, NULL) != 0 ||
        epoll_ctl(load->epoll, EPOLL_CTL_ADD, load->timer, &e) != 0)
        err(1, "timer");
}

static void tick(struct load *load)
{
    uint64_t ticks;

    if (read(load->timer, &ticks, sizeof ticks) == sizeof ticks)
        load->due += ticks;
    send_due(load);
}

/* Seconds that were counted: in the closed loop not the first tenth, which warms up. */
static double run(struct load *load, struct client *clients, int len, double seconds, double rate)
{
    int64_t started = clock_us(), end = started + (int64_t)(seconds * 1e6), now;
    struct epoll_event events[EVENTS];

    load->count_from_us = rate > 0 ? started : started + (int64_t)(seconds * 1e5);
    for (int i = 0; i < len; i++) {
        if (rate > 0)
            load->idle[load->idle_len++] = &clients[i];
        else
            send_next(load, &clients[i], clock_us());
    }
    if (rate > 0)
        start_timer(load, rate);
    while ((now = clock_us()) < end && !stopped) {
        int n = epoll_wait(load->epoll, events, EVENTS, 100);

        if (n < 0 && errno != EINTR)
            err(1, "epoll_wait");
        for (int i = 0; i < n; i++) {
            struct client *c = events[i].data.ptr;

            if (c == NULL)
                tick(load);
            else if (events[i].events & EPOLLOUT)
                send_more(load, c);
            else
                receive(load, c);
        }
    }
    return (double)(now - load->count_from_us) * 1e-6;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"texts", required_argument, NULL, 't'},   {"connections", required_argument, NULL, 'n'},
        {"seconds", required_argument, NULL, 's'}, {"model", required_argument, NULL, 'm'},
        {"rate", required_argument, NULL, 'r'},    {"dump", required_argument, NULL, 'd'},
        {"csv", no_argument, NULL, 'c'},           {NULL, 0, NULL, 0}};
    const char *texts = NULL, *model = "default", *dump = NULL;
    struct load load = {.epoll = epoll_create1(EPOLL_CLOEXEC), .timer = -1};
    struct client *clients;
    struct corpus corpus;
    double seconds = 5, rate = 0, took, p50;
    int connections = 64, port, option;
    bool csv = false;

    while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        if (option == 't')
            texts = optarg;
        else if (option == 'n')
            connections = (int)strtol(optarg, NULL, 10);
        else if (option == 's')
            seconds = strtod(optarg, NULL);
        else if (option == 'm')
            model = optarg;
        else if (option == 'r')
            rate = strtod(optarg, NULL);
        else if (option == 'd')
            dump = optarg;
        else if (option == 'c')
            csv = true;
    }
    port = optind + 1 == argc ? (int)strtol(argv[optind], NULL, 10) : 0;
    if (port < 1 || port > 65535 || connections < 1 || connections > CONNECTIONS_MAX ||
        seconds <= 0 || rate < 0)
        errx(2, "usage: bench_http PORT [--texts FILE.jsonl] [--connections N] [--seconds S] "
                "[--model NAME] [--rate R] [--dump FILE] [--csv]");
    clients = calloc((size_t)connections, sizeof *clients);
    load.ms = calloc(SAMPLES_MAX, sizeof *load.ms);
    load.idle = calloc((size_t)connections, sizeof *load.idle);
    load.connections = (uint32_t)connections;
    load.dump = dump != NULL ? fopen(dump, "w") : NULL;
    if (clients == NULL || load.ms == NULL || load.idle == NULL || load.epoll < 0 ||
        (dump != NULL && load.dump == NULL) || signal(SIGTERM, stop) == SIG_ERR)
        err(1, "start");
    corpus_open(texts, NULL, 0, &corpus);
    make_requests(&load, &corpus, model);
    for (int i = 0; i < connections; i++)
        open_client(&load, &clients[i], port);
    took = run(&load, clients, connections, seconds, rate);
    if (load.samples == 0 && stopped) /* ended while it was warming up: there are no figures */
        return 0;
    if (load.samples == 0)
        errx(1, "no answer came in %.1f s", seconds);
    p50 = corpus_median(load.ms, load.samples); /* sorts */
    printf(csv ? "%d,%.1f,%.3f,%.3f,%.3f,%u\n"
               : "%d connections: %.0f requests/s, p50 %.3f ms, p99 %.3f ms, max %.3f ms, %u "
                 "answers checked\n",
           connections, load.samples / took, p50, load.ms[(size_t)(load.samples * 0.99)],
           load.ms[load.samples - 1], load.samples);
    for (int i = 0; i < connections; i++)
        close(clients[i].fd);
    for (uint32_t i = 0; i < load.requests_len; i++)
        free(load.requests[i].bytes);
    free(load.requests);
    if (load.dump != NULL && fclose(load.dump) != 0)
        err(1, "%s", dump);
    free(load.idle);
    free(load.ms);
    free(clients);
    close(load.epoll);
    corpus_close(&corpus);
    return 0;
}
