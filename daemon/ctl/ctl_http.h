/* ctl_http.h -- one connection to a daemon, kept over requests; the only door to libcurl.
 *
 * Knows HTTP, not learnd: any answer is an answer, whatever its status. Never follows a redirect,
 * never asks a proxy: a daemon is spoken to directly.
 */
#ifndef LEARND_CTL_HTTP_H
#define LEARND_CTL_HTTP_H

#include "proto/api_buffer.h"

struct ctl_http_settings {
    const char *url; /* http://.., https://.., unix:PATH */
    const char *key; /* NULL: none */
    double timeout_s;
};

struct ctl_answer {
    long status;
    long retry_after_s;     /* 0: not said */
    struct api_buffer body; /* the caller ends it with api_buffer_done */
};

struct ctl_http;

/* 0; -EINVAL with why: not such a URL; -ENOMEM. Nothing is sent yet. */
int ctl_http_open(const struct ctl_http_settings *settings, char *why, size_t why_bytes,
                  struct ctl_http **ret_http);
/* Another connection to the same daemon. 0, -ENOMEM. */
int ctl_http_again(const struct ctl_http *http, struct ctl_http **ret_http);
void ctl_http_close(struct ctl_http *http);

/* target: path and query, encoded. body NULL: none. 0 with *ret_answer; -ECONNREFUSED (nobody
 * there), -ENXIO (no such host), -ETIMEDOUT, -EPIPE (broke off: it may or may not have been done),
 * -EMSGSIZE (the answer is beyond any measure), -ENOMEM, -EIO; then ctl_http_why says it in words.
 */
int ctl_http_send(struct ctl_http *http, const char *method, const char *target,
                  const char *content_type, const struct api_buffer *body,
                  struct ctl_answer *ret_answer);
const char *ctl_http_why(const struct ctl_http *http);
/* The key that is sent; NULL: none. */
const char *ctl_http_key(const struct ctl_http *http);

/* GET of an answer without end. on_bytes gets its body as it comes if the status is 2xx, else
 * *ret_answer has the body. Time limits: the settings' for the connection to stand, and quiet_s
 * without a byte (-ETIMEDOUT). Non-zero of on_bytes or stop ends it with -ECANCELED. stop is
 * asked a few times a second, and at once when wake_fd (-1: none) can be read. 0: it ended as it
 * should. line: one header more, or NULL. */
typedef int ctl_http_bytes(void *ud, const char *bytes, size_t bytes_len);
int ctl_http_watch(struct ctl_http *http, const char *target, const char *line, long quiet_s,
                   int wake_fd, ctl_http_bytes *on_bytes, int (*stop)(void *ud), void *ud,
                   struct ctl_answer *ret_answer);

#endif
