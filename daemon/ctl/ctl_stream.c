/* ctl_stream.c -- see ctl_stream.h. */
#include "daemon/ctl/ctl_stream.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "daemon/clock.h"
#include "daemon/ctl/ctl_call.h"
#include "daemon/ctl/ctl_http.h"
#include "daemon/ctl/ctl_table.h"

enum {
    LINE_BYTES_MAX = 1 << 20,
    ID_BYTES = 128,
    QUIET_S = 50, /* a heartbeat comes every 15 */
    RETRY_MS = 2000,
    RETRY_MS_MAX = 15000,
    IDLE_MS = 200,
};

struct reading {
    const struct ctl_stream *s;
    struct api_buffer line; /* so far */
    struct api_buffer data, kind;
    char id[ID_BYTES]; /* where to go on; "": from now */
    bool here;         /* this connection has said an id: it is a daemon */
    bool enough;
    char why[160]; /* there is no connection any more */
    long retry_ms;
    enum ctl_exit failed; /* what ended it from within */
};

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

/* Of libcurl's wait: there is a connection, or one is being made. */
static int is_over(void *ud)
{
    struct reading *r = ud;

    if (!r->enough && r->s->idle != NULL)
        r->enough = r->s->idle(r->s->ud, r->here ? NULL : "connecting") != 0;
    return interrupted || r->enough;
}

/* ---- an event, in words and as JSON ---------------------------------------------------------- */

/* key=value; quoted as JSON if the value has a blank, '=' or '"' in it. */
static int add_member(void *ud, const char *key, const struct json_value *value)
{
    struct api_buffer *out = ud, text = API_BUFFER_INIT;
    const char *plain = json_text(value, NULL);

    if (strcmp(key, "time") == 0 || strcmp(key, "model") == 0 || json_kind(value) == JSON_KIND_NULL)
        return 0;
    if (plain != NULL && *plain != '\0' && strpbrk(plain, " =\"\\") == NULL)
        api_buffer_add_string(&text, plain);
    else
        json_write_value(&text, value);
    api_buffer_add_string(out, " ");
    ctl_clean(out, key, strlen(key));
    api_buffer_add_string(out, "=");
    ctl_clean(out, text.bytes, text.len);
    if (text.rc != 0)
        out->rc = text.rc;
    api_buffer_done(&text);
    return 0;
}

void ctl_event_words(struct api_buffer *out, const struct ctl_event *event)
{
    const char *at = json_text(json_member(event->data, "time"), NULL);
    const char *model = json_text(json_member(event->data, "model"), NULL);
    char time[20] = "-", columns[64];

    if (at != NULL && strlen(at) >= 19)
        snprintf(time, sizeof time, "%.10s %.8s", at, at + 11);
    snprintf(columns, sizeof columns, "%s %-8s", time, event->kind);
    ctl_clean(out, columns, strlen(columns));
    api_buffer_add_string(out, " ");
    ctl_clean(out, model != NULL ? model : "-", model != NULL ? strlen(model) : 1);
    json_each(event->data, add_member, out);
}

void ctl_event_json(struct api_buffer *out, const struct ctl_event *event)
{
    json_open_object(out);
    json_write_key(out, "id");
    json_write_string(out, event->id);
    json_write_key(out, "event");
    json_write_string(out, event->kind);
    json_write_key(out, "data");
    json_write_value(out, event->data);
    json_close_object(out);
}

/* The empty line: what has gathered is an event if it has data. 0, -ENOMEM, -ECANCELED: enough. */
static int end_event(struct reading *r)
{
    struct json_value *data = NULL;
    struct ctl_event event = {.id = r->id, .kind = "message"};

    if (r->kind.len > 0)
        api_buffer_add(&r->kind, "", 1);
    if (r->data.rc != 0 || r->kind.rc != 0)
        return -ENOMEM;
    if (r->data.len > 0 && json_parse(r->data.bytes, r->data.len, NULL, &data, NULL) == 0) {
        event.kind = r->kind.len > 0 ? r->kind.bytes : event.kind;
        event.data = data;
        r->enough = r->s->event(r->s->ud, &event) != 0 || r->enough;
    }
    json_free(data);
    api_buffer_reset(&r->data);
    api_buffer_reset(&r->kind);
    return r->enough ? -ECANCELED : 0;
}

/* ---- refusals -------------------------------------------------------------------------------- */

static enum ctl_exit not_learnd(const struct reading *r, long status)
{
    ctl_fail("not_learnd", "%s answers %ld, and not as learnd does", r->s->ctl->options.url,
             status);
    return CTL_FAILED;
}

/* The daemon answered, and not with a stream. */
static enum ctl_exit refused(const struct reading *r, const struct ctl_answer *answer)
{
    struct json_value *problem = NULL;
    enum ctl_exit code;

    if (json_parse(answer->body.bytes, answer->body.len, NULL, &problem, NULL) != 0)
        return not_learnd(r, answer->status);
    code = ctl_call_refused(r->s->ctl, answer->status, problem);
    json_free(problem);
    return code;
}

/* ---- lines ----------------------------------------------------------------------------------- */

/* An id goes into a header again: only what can stand there. */
static bool id_is_good(const char *id, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (id[i] < ' ' || id[i] > '~')
            return false;
    return len < ID_BYTES;
}

bool ctl_stream_id_is_good(const char *id)
{
    return *id != '\0' && id_is_good(id, strlen(id));
}

static void take_id(struct reading *r, const char *id, size_t len)
{
    if (!id_is_good(id, len))
        return;
    memcpy(r->id, id, len);
    r->id[len] = '\0';
    r->here = true;
}

static void take_retry(struct reading *r, const char *digits, size_t len)
{
    long ms = 0;

    for (size_t i = 0; i < len; i++) {
        if (digits[i] < '0' || digits[i] > '9' || ms > RETRY_MS_MAX)
            return;
        ms = ms * 10 + digits[i] - '0';
    }
    r->retry_ms = ms > RETRY_MS_MAX ? RETRY_MS_MAX : ms;
}

static void replace(struct api_buffer *buffer, const char *bytes, size_t len)
{
    api_buffer_reset(buffer);
    api_buffer_add(buffer, bytes, len);
}

static void append(struct api_buffer *buffer, const char *line, size_t len)
{
    if (buffer->len > 0)
        api_buffer_add(buffer, "\n", 1);
    api_buffer_add(buffer, line, len);
}

static int take_line(struct reading *r, const char *line, size_t len)
{
    const char *colon = memchr(line, ':', len);
    size_t name = colon != NULL ? (size_t)(colon - line) : len;
    size_t from = colon == NULL ? len : name + 1 + (name + 1 < len && line[name + 1] == ' ');

    if (len == 0)
        return end_event(r);
    if (name == 2 && memcmp(line, "id", 2) == 0)
        take_id(r, line + from, len - from);
    else if (name == 5 && memcmp(line, "retry", 5) == 0)
        take_retry(r, line + from, len - from);
    else if (name == 5 && memcmp(line, "event", 5) == 0)
        replace(&r->kind, line + from, len - from);
    else if (name == 4 && memcmp(line, "data", 4) == 0)
        append(&r->data, line + from, len - from);
    return 0;
}

static int take_bytes(struct reading *r, const char *bytes, size_t len)
{
    while (len > 0) {
        const char *end = memchr(bytes, '\n', len);
        size_t used = end != NULL ? (size_t)(end - bytes) : len, line;
        int rc;

        if (r->line.len + used > LINE_BYTES_MAX)
            return -EMSGSIZE;
        api_buffer_add(&r->line, bytes, used);
        if (end == NULL || r->line.rc != 0)
            return r->line.rc;
        bytes += used + 1;
        len -= used + 1;
        line = r->line.len;
        if (line > 0 && r->line.bytes[line - 1] == '\r')
            line--;
        rc = take_line(r, line > 0 ? r->line.bytes : "", line);
        api_buffer_reset(&r->line);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int on_bytes(void *ud, const char *bytes, size_t len)
{
    struct reading *r = ud;
    int rc = take_bytes(r, bytes, len);

    if (rc == -ENOMEM)
        r->failed = ctl_no_memory();
    else if (rc == -EMSGSIZE)
        r->failed = not_learnd(r, 200);
    return rc;
}

/* ---- connections ----------------------------------------------------------------------------- */

/* One connection, to its end. True: another one may be better. Else *ret_code is the end's. */
static bool connect_once(struct reading *r, bool first, enum ctl_exit *ret_code)
{
    struct ctl_answer answer = {.body = API_BUFFER_INIT};
    char line[ID_BYTES + 20];
    bool again = false;
    int rc;

    snprintf(line, sizeof line, "Last-Event-ID: %s", r->id);
    r->here = false;
    api_buffer_reset(&r->line);
    api_buffer_reset(&r->data);
    api_buffer_reset(&r->kind);
    rc = ctl_http_watch(r->s->ctl->http, r->s->target, r->id[0] != '\0' ? line : NULL, QUIET_S,
                        r->s->wake_fd, on_bytes, is_over, r, &answer);
    if (interrupted || rc == -ECANCELED)
        *ret_code = r->failed;
    else if (rc == 0 && answer.status / 100 != 2 && (first || answer.status < 500))
        *ret_code = refused(r, &answer);
    else if (!first || r->here || r->s->known)
        again = true;
    else
        *ret_code = rc != 0 ? ctl_call_unreachable(r->s->ctl, rc) : not_learnd(r, answer.status);
    if (rc != 0)
        snprintf(r->why, sizeof r->why, "%.150s", ctl_http_why(r->s->ctl->http));
    else if (answer.status / 100 != 2)
        snprintf(r->why, sizeof r->why, "it answers %ld", answer.status);
    else
        snprintf(r->why, sizeof r->why, "the stream has ended");
    api_buffer_done(&answer.body);
    return again;
}

/* Signals are taken by the wait itself, so that none comes just before it. */
static void wait_ms(struct reading *r, long ms, const char *why)
{
    int64_t until = clock_us() + ms * 1000, left;
    struct pollfd key = {.fd = r->s->wake_fd, .events = POLLIN};
    sigset_t signals, before;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, &before);
    while (!interrupted && !r->enough && (left = until - clock_us()) > 0) {
        struct timespec t;

        if (r->s->idle != NULL && left > IDLE_MS * 1000)
            left = IDLE_MS * 1000;
        t = (struct timespec){left / 1000000, left % 1000000 * 1000};
        ppoll(&key, 1, &t, &before);
        if (r->s->idle != NULL)
            r->enough = r->s->idle(r->s->ud, why) != 0;
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
}

enum ctl_exit ctl_stream_run(const struct ctl_stream *s)
{
    struct reading r = {.s = s, .retry_ms = RETRY_MS};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    enum ctl_exit code = CTL_OK;
    long ms = 0;

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (s->since != NULL)
        take_id(&r, s->since, strlen(s->since));
    for (bool first = true; connect_once(&r, first, &code); first = false) {
        ms = r.here || ms == 0 ? r.retry_ms : ms * 2;
        ms = ms > RETRY_MS_MAX ? RETRY_MS_MAX : ms;
        if (r.here && s->telling)
            ctl_note("the stream has ended; trying again");
        wait_ms(&r, ms, r.why);
        if (interrupted || r.enough)
            break;
    }
    api_buffer_done(&r.line);
    api_buffer_done(&r.data);
    api_buffer_done(&r.kind);
    return code;
}
