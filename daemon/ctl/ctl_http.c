/* ctl_http.c -- see ctl_http.h. */
#include "daemon/ctl/ctl_http.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WAKE_MS = 200 };

/* A page of the longest texts stays far below. */
#define ANSWER_BYTES_MAX ((size_t)512 << 20)

struct ctl_http {
    CURL *curl;
    char *base;        /* the URL without a '/' at its end */
    char *socket_path; /* NULL: TCP */
    char *key_line;    /* NULL: no key */
    struct api_buffer url;
    struct api_buffer *answer; /* while a request runs */
    bool too_long;
    ctl_http_bytes *bytes; /* while one without end runs; NULL: none does */
    int (*stop)(void *ud);
    void *ud; /* of both */
    int wake_fd;
    double timeout_s;
    char why[CURL_ERROR_SIZE + 256];
    char curl_why[CURL_ERROR_SIZE];
};

/* Only what can be told without the network. */
static bool url_is_good(const char *url)
{
    CURLU *parts = curl_url();
    char *scheme = NULL, *query = NULL, *fragment = NULL;
    bool good = parts != NULL && curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
                curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0) &&
                curl_url_get(parts, CURLUPART_QUERY, &query, 0) != CURLUE_OK &&
                curl_url_get(parts, CURLUPART_FRAGMENT, &fragment, 0) != CURLUE_OK;

    curl_free(scheme);
    curl_free(query);
    curl_free(fragment);
    curl_url_cleanup(parts);
    return good;
}

static size_t on_bytes(char *bytes, size_t size, size_t len, void *ud)
{
    struct ctl_http *h = ud;
    long status = 0;

    if (h->bytes != NULL)
        curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status / 100 == 2)
        return h->bytes(h->ud, bytes, len * size) == 0 ? len * size : 0;
    h->too_long = len * size > ANSWER_BYTES_MAX - h->answer->len;
    if (h->too_long)
        return 0;
    api_buffer_add(h->answer, bytes, len * size);
    return h->answer->rc == 0 ? len * size : 0;
}

static int set_up(struct ctl_http *h)
{
    long timeout_ms = (long)(h->timeout_s * 1000);
    CURL *c = h->curl;
    bool good = curl_easy_setopt(c, CURLOPT_ERRORBUFFER, h->curl_why) == CURLE_OK &&
                curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_bytes) == CURLE_OK &&
                curl_easy_setopt(c, CURLOPT_WRITEDATA, h) == CURLE_OK &&
                curl_easy_setopt(c, CURLOPT_PROXY, "") == CURLE_OK &&
                curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, timeout_ms) == CURLE_OK &&
                curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS,
                                 timeout_ms < 5000 ? timeout_ms : 5000) == CURLE_OK &&
                curl_easy_setopt(c, CURLOPT_USERAGENT, "learnctl") == CURLE_OK;

    if (good && h->socket_path != NULL)
        good = curl_easy_setopt(c, CURLOPT_UNIX_SOCKET_PATH, h->socket_path) == CURLE_OK;
    return good ? 0 : -ENOMEM;
}

static int copy_settings(struct ctl_http *h, const struct ctl_http_settings *s)
{
    bool local = strncmp(s->url, "unix:", 5) == 0;

    h->base = strdup(local ? "http://localhost" : s->url);
    if (h->base == NULL)
        return -ENOMEM;
    for (size_t len = strlen(h->base); len > 0 && h->base[len - 1] == '/'; len--)
        h->base[len - 1] = '\0';
    if (local)
        h->socket_path = strdup(s->url + 5);
    if (s->key != NULL && asprintf(&h->key_line, "Authorization: Bearer %s", s->key) < 0) {
        h->key_line = NULL;
        return -ENOMEM;
    }
    h->timeout_s = s->timeout_s;
    return local && h->socket_path == NULL ? -ENOMEM : 0;
}

int ctl_http_open(const struct ctl_http_settings *s, char *why, size_t why_bytes,
                  struct ctl_http **ret_http)
{
    struct ctl_http *h;
    int rc;

    if (strncmp(s->url, "unix:", 5) == 0 ? s->url[5] == '\0' : !url_is_good(s->url)) {
        snprintf(why, why_bytes,
                 "\"%.100s\" is no address of a daemon: use http://HOST:PORT or unix:PATH", s->url);
        return -EINVAL;
    }
    h = calloc(1, sizeof *h);
    if (h == NULL)
        return -ENOMEM;
    h->curl = curl_easy_init();
    rc = h->curl != NULL ? copy_settings(h, s) : -ENOMEM;
    if (rc == 0)
        rc = set_up(h);
    if (rc != 0)
        ctl_http_close(h);
    else
        *ret_http = h;
    return rc;
}

int ctl_http_again(const struct ctl_http *http, struct ctl_http **ret_http)
{
    char why[1], *url = NULL;
    struct ctl_http_settings settings = {.key = ctl_http_key(http), .timeout_s = http->timeout_s};
    int rc = -ENOMEM;

    if (http->socket_path != NULL && asprintf(&url, "unix:%s", http->socket_path) < 0)
        return -ENOMEM;
    settings.url = url != NULL ? url : http->base;
    rc = ctl_http_open(&settings, why, sizeof why, ret_http);
    free(url);
    return rc;
}

void ctl_http_close(struct ctl_http *h)
{
    if (h == NULL)
        return;
    curl_easy_cleanup(h->curl);
    api_buffer_done(&h->url);
    free(h->base);
    free(h->socket_path);
    free(h->key_line);
    free(h);
}

const char *ctl_http_why(const struct ctl_http *h)
{
    return h->why;
}

const char *ctl_http_key(const struct ctl_http *h)
{
    return h->key_line != NULL ? h->key_line + sizeof "Authorization: Bearer " - 1 : NULL;
}

/* curl's own words name ports and milliseconds; a person needs to know which of five things
 * happened. */
static int explain(struct ctl_http *h, CURLcode code)
{
    long os_error = 0;
    const char *what = h->curl_why[0] != '\0' ? h->curl_why : curl_easy_strerror(code);
    int rc = -EIO;

    curl_easy_getinfo(h->curl, CURLINFO_OS_ERRNO, &os_error);
    if (h->answer->rc != 0 || code == CURLE_OUT_OF_MEMORY) {
        rc = -ENOMEM;
        what = "no memory";
    } else if (h->too_long) {
        rc = -EMSGSIZE;
        what = "the answer is too long";
    } else if (h->bytes != NULL &&
               (code == CURLE_ABORTED_BY_CALLBACK || code == CURLE_WRITE_ERROR)) {
        rc = -ECANCELED;
        what = "stopped";
    } else if (code == CURLE_COULDNT_CONNECT) {
        rc = -ECONNREFUSED;
        what = os_error != 0 ? strerror((int)os_error) : "nobody listens there";
    } else if (code == CURLE_COULDNT_RESOLVE_HOST) {
        rc = -ENXIO;
        what = "no such host";
    } else if (code == CURLE_OPERATION_TIMEDOUT) {
        rc = -ETIMEDOUT;
        what = "no answer in time";
    } else if (code == CURLE_GOT_NOTHING || code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR ||
               code == CURLE_PARTIAL_FILE) {
        rc = -EPIPE;
        what = "the connection broke off before the answer";
    }
    snprintf(h->why, sizeof h->why, "%.200s", what);
    return rc;
}

/* As curl_easy_perform, with a wait that can be ended by a key and by stop. */
static CURLcode perform_waking(struct ctl_http *h)
{
    struct curl_waitfd wake = {.fd = h->wake_fd, .events = CURL_WAIT_POLLIN};
    CURLM *multi = curl_multi_init();
    CURLcode code = multi != NULL && curl_multi_add_handle(multi, h->curl) == CURLM_OK
                        ? CURLE_OK
                        : CURLE_OUT_OF_MEMORY;
    int running = code == CURLE_OK, left;
    CURLMsg *message;

    while (running > 0) {
        if (curl_multi_perform(multi, &running) != CURLM_OK)
            code = CURLE_OUT_OF_MEMORY;
        else if (h->stop(h->ud) != 0)
            code = CURLE_ABORTED_BY_CALLBACK;
        else if (running > 0)
            curl_multi_poll(multi, &wake, h->wake_fd >= 0 ? 1 : 0, WAKE_MS, NULL);
        if (code != CURLE_OK)
            break;
    }
    while (multi != NULL && (message = curl_multi_info_read(multi, &left)) != NULL)
        if (message->msg == CURLMSG_DONE && code == CURLE_OK)
            code = message->data.result;
    if (multi != NULL)
        curl_multi_remove_handle(multi, h->curl);
    curl_multi_cleanup(multi);
    return code;
}

static int perform(struct ctl_http *h, const char *method, struct curl_slist *headers,
                   const struct api_buffer *body)
{
    CURL *c = h->curl;
    bool good = curl_easy_setopt(c, CURLOPT_URL, h->url.bytes) == CURLE_OK &&
                curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers) == CURLE_OK;
    CURLcode code;

    if (good && body != NULL)
        good =
            curl_easy_setopt(c, CURLOPT_POST, 1L) == CURLE_OK &&
            curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body->len) == CURLE_OK &&
            curl_easy_setopt(c, CURLOPT_POSTFIELDS, body->bytes) == CURLE_OK;
    else if (good)
        good = curl_easy_setopt(c, CURLOPT_HTTPGET, 1L) == CURLE_OK;
    if (!good || curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, method) != CURLE_OK) {
        snprintf(h->why, sizeof h->why, "no memory");
        return -ENOMEM;
    }
    h->curl_why[0] = '\0';
    code = h->bytes != NULL ? perform_waking(h) : curl_easy_perform(c);
    return code == CURLE_OK ? 0 : explain(h, code);
}

/* line: one more header, or NULL. */
static int request(struct ctl_http *h, const char *method, const char *target, const char *line,
                   const struct api_buffer *body, struct ctl_answer *ret_answer)
{
    struct ctl_answer answer = {.body = API_BUFFER_INIT};
    struct curl_slist *headers = NULL, *more;
    curl_off_t wait_s = 0;
    const char *lines[] = {"Expect:", h->key_line, line};
    int rc = 0;

    for (size_t i = 0; i < sizeof lines / sizeof *lines && rc == 0; i++) {
        if (lines[i] == NULL)
            continue;
        more = curl_slist_append(headers, lines[i]);
        headers = more != NULL ? more : headers;
        rc = more != NULL ? 0 : -ENOMEM;
    }
    api_buffer_reset(&h->url);
    api_buffer_add_string(&h->url, h->base);
    api_buffer_add(&h->url, target, strlen(target) + 1);
    h->answer = &answer.body;
    h->too_long = false;
    snprintf(h->why, sizeof h->why, "no memory");
    if (rc == 0 && h->url.rc == 0)
        rc = perform(h, method, headers, body);
    else
        rc = -ENOMEM;
    h->answer = NULL;
    curl_slist_free_all(headers);
    if (rc != 0) {
        api_buffer_done(&answer.body);
        return rc;
    }
    curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &answer.status);
    if (curl_easy_getinfo(h->curl, CURLINFO_RETRY_AFTER, &wait_s) == CURLE_OK)
        answer.retry_after_s = (long)wait_s;
    *ret_answer = answer;
    return 0;
}

int ctl_http_send(struct ctl_http *h, const char *method, const char *target,
                  const char *content_type, const struct api_buffer *body,
                  struct ctl_answer *ret_answer)
{
    return request(h, method, target, body != NULL ? content_type : NULL, body, ret_answer);
}

int ctl_http_watch(struct ctl_http *h, const char *target, const char *line, long quiet_s,
                   int wake_fd, ctl_http_bytes *bytes, int (*stop)(void *ud), void *ud,
                   struct ctl_answer *ret_answer)
{
    CURL *c = h->curl;
    bool good = curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, 0L) == CURLE_OK &&
                curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L) == CURLE_OK &&
                curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, quiet_s) == CURLE_OK;
    int rc;

    h->bytes = bytes;
    h->stop = stop;
    h->wake_fd = wake_fd;
    h->ud = ud;
    rc = good ? request(h, "GET", target, line, NULL, ret_answer) : -ENOMEM;
    h->bytes = NULL;
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, 0L);
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)(h->timeout_s * 1000));
    return rc;
}
