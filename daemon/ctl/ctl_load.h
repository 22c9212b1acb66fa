/* ctl_load.h -- a load of questions on a daemon, and how long each answer took; for bench.
 *
 * Plain epoll sockets in one thread: libcurl would measure itself. A closed loop keeps a number of
 * connections busy, each with one question at a time. An open loop (a rate) sends a question when
 * it is due, whatever became of those before; where no connection is free it waits, and its time
 * counts from when it was due, so a daemon that stalls cannot hide it. What is still unanswered
 * when the time is over counts with the time it has waited.
 */
#ifndef LEARND_CTL_LOAD_H
#define LEARND_CTL_LOAD_H

#include <netdb.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>

#include "daemon/ctl/ctl_histogram.h"
#include "daemon/ctl/ctl_verdict.h"
#include "proto/api_buffer.h"

enum { CTL_LOAD_CONNECTIONS_MAX = 4096 };

struct ctl_load_address {
    struct sockaddr_storage to;
    socklen_t to_bytes;
    char host[NI_MAXHOST + 16]; /* for the Host header */
    bool loopback;              /* or a unix socket */
};

struct ctl_load_settings {
    const struct ctl_load_address *address;
    const struct api_buffer *requests; /* (requests_len) whole ones, in order, round and round */
    size_t requests_len;
    uint32_t connections;
    double rate;           /* a second; 0: a closed loop */
    double seconds;        /* 0: until requests_max */
    double warm_up_s;      /* from the start, not counted; closed loop only */
    double timeout_s;      /* of one question */
    uint64_t requests_max; /* 0: no limit */
    FILE *dump; /* NULL, or a line for each good answer: begun_us,ms,text,version,score */
    volatile sig_atomic_t *stop;
    void (*tick)(void *ud, double elapsed_s, uint64_t answers); /* some times a second */
    void *ud;
};

struct ctl_load_figures {
    struct ctl_histogram times; /* of counted good answers, and of what is unfinished */
    uint64_t answers;           /* good ones that are counted */
    uint64_t unfinished;        /* without an answer at the end */
    uint64_t any;               /* answers of all kinds, also those not counted */
    double counted_s;
};

/* url: http://HOST[:PORT] or unix:PATH. 0, or -EINVAL with why. */
int ctl_load_resolve(const char *url, struct ctl_load_address *ret_address, char *why,
                     size_t why_bytes);
/* 0; -ECONNREFUSED and such: the first connection did not stand; -ENOMEM. */
int ctl_load_run(const struct ctl_load_settings *settings, struct ctl_verdict *verdict,
                 struct ctl_load_figures *ret_figures);

#endif
