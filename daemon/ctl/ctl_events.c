/* ctl_events.c -- events: what happens in the daemon, a line an event.
 *
 * A client of server-sent events as the standard has it: lines gather to an event, an empty line
 * ends it; an id without data is remembered too. When the stream ends, or breaks, it waits as long
 * as the daemon said (longer each time that nobody is there) and comes again with the last id, so
 * nothing is missed without being told.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "daemon/ctl/ctl_call.h"
#include "daemon/ctl/ctl_http.h"
#include "daemon/ctl/ctl_table.h"

enum {
    LINE_BYTES_MAX = 1 << 20,
    ID_BYTES = 128,
    QUIET_S = 50, /* a heartbeat comes every 15 */
    RETRY_MS = 2000,
    RETRY_MS_MAX = 15000,
};

struct watching {
    struct ctl *ctl;
    struct api_buffer line; /* so far */
    struct api_buffer data, kind;
    char id[ID_BYTES]; /* where to go on; "": from now */
    bool here;         /* this connection has said an id: it is a daemon */
    long retry_ms;
    uint64_t printed;
    enum ctl_exit failed; /* what ended it from within */
};

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

static int is_interrupted(void *ud)
{
    (void)ud;
    return interrupted;
}

/* ---- an event -------------------------------------------------------------------------------- */

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

static void print_human(const struct watching *w, const struct json_value *data)
{
    const char *at = json_text(json_member(data, "time"), NULL);
    const char *model = json_text(json_member(data, "model"), NULL);
    const char *kind = w->kind.len > 0 ? w->kind.bytes : "message";
    int kind_len = w->kind.len > 0 ? (int)w->kind.len : 7;
    struct api_buffer line = API_BUFFER_INIT;
    char time[20] = "-", columns[64];

    if (at != NULL && strlen(at) >= 19)
        snprintf(time, sizeof time, "%.10s %.8s", at, at + 11);
    snprintf(columns, sizeof columns, "%s %-8.*s", time, kind_len, kind);
    ctl_clean(&line, columns, strlen(columns));
    api_buffer_add_string(&line, " ");
    ctl_clean(&line, model != NULL ? model : "-", model != NULL ? strlen(model) : 1);
    json_each(data, add_member, &line);
    ctl_print_buffer(&line);
    api_buffer_done(&line);
}

static void print_json(const struct watching *w, const struct json_value *data)
{
    struct api_buffer line = API_BUFFER_INIT;

    json_open_object(&line);
    json_write_key(&line, "id");
    json_write_string(&line, w->id);
    json_write_key(&line, "event");
    json_write_text(&line, w->kind.bytes, w->kind.len);
    json_write_key(&line, "data");
    json_write_value(&line, data);
    json_close_object(&line);
    ctl_print_buffer(&line);
    api_buffer_done(&line);
}

/* The empty line: what has gathered is an event if it has data. 0, -ENOMEM, -ECANCELED: enough. */
static int end_event(struct watching *w)
{
    long limit = w->ctl->options.limit;
    struct json_value *data = NULL;

    if (w->data.rc != 0 || w->kind.rc != 0)
        return -ENOMEM;
    if (w->data.len > 0 && json_parse(w->data.bytes, w->data.len, NULL, &data, NULL) == 0) {
        if (w->ctl->options.json)
            print_json(w, data);
        else
            print_human(w, data);
        fflush(stdout);
        w->printed++;
    }
    json_free(data);
    api_buffer_reset(&w->data);
    api_buffer_reset(&w->kind);
    return limit > 0 && w->printed >= (uint64_t)limit ? -ECANCELED : 0;
}

/* ---- refusals ---------------------------------------------------------------------------------
 */

static enum ctl_exit not_learnd(const struct watching *w, long status)
{
    ctl_fail("not_learnd", "%s answers %ld, and not as learnd does", w->ctl->options.url, status);
    return CTL_FAILED;
}

/* The daemon answered, and not with a stream. */
static enum ctl_exit refused(const struct watching *w, const struct ctl_answer *answer)
{
    struct json_value *problem = NULL;
    enum ctl_exit code;

    if (json_parse(answer->body.bytes, answer->body.len, NULL, &problem, NULL) != 0)
        return not_learnd(w, answer->status);
    code = ctl_call_refused(w->ctl, answer->status, problem);
    json_free(problem);
    return code;
}

/* ---- lines ----------------------------------------------------------------------------------- */

/* An id goes into a header again: only what can stand there. */
static void take_id(struct watching *w, const char *id, size_t len)
{
    if (len >= sizeof w->id)
        return;
    for (size_t i = 0; i < len; i++)
        if (id[i] < ' ' || id[i] > '~')
            return;
    memcpy(w->id, id, len);
    w->id[len] = '\0';
    w->here = true;
}

static void take_retry(struct watching *w, const char *digits, size_t len)
{
    long ms = 0;

    for (size_t i = 0; i < len; i++) {
        if (digits[i] < '0' || digits[i] > '9' || ms > RETRY_MS_MAX)
            return;
        ms = ms * 10 + digits[i] - '0';
    }
    w->retry_ms = ms > RETRY_MS_MAX ? RETRY_MS_MAX : ms;
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

static int take_line(struct watching *w, const char *line, size_t len)
{
    const char *colon = memchr(line, ':', len);
    size_t name = colon != NULL ? (size_t)(colon - line) : len;
    size_t from = colon == NULL ? len : name + 1 + (name + 1 < len && line[name + 1] == ' ');

    if (len == 0)
        return end_event(w);
    if (name == 2 && memcmp(line, "id", 2) == 0)
        take_id(w, line + from, len - from);
    else if (name == 5 && memcmp(line, "retry", 5) == 0)
        take_retry(w, line + from, len - from);
    else if (name == 5 && memcmp(line, "event", 5) == 0)
        replace(&w->kind, line + from, len - from);
    else if (name == 4 && memcmp(line, "data", 4) == 0)
        append(&w->data, line + from, len - from);
    return 0;
}

static int take_bytes(struct watching *w, const char *bytes, size_t len)
{
    while (len > 0) {
        const char *end = memchr(bytes, '\n', len);
        size_t used = end != NULL ? (size_t)(end - bytes) : len, line;
        int rc;

        if (w->line.len + used > LINE_BYTES_MAX)
            return -EMSGSIZE;
        api_buffer_add(&w->line, bytes, used);
        if (end == NULL || w->line.rc != 0)
            return w->line.rc;
        bytes += used + 1;
        len -= used + 1;
        line = w->line.len;
        if (line > 0 && w->line.bytes[line - 1] == '\r')
            line--;
        rc = take_line(w, line > 0 ? w->line.bytes : "", line);
        api_buffer_reset(&w->line);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int on_bytes(void *ud, const char *bytes, size_t len)
{
    struct watching *w = ud;
    int rc = take_bytes(w, bytes, len);

    if (rc == -ENOMEM)
        w->failed = ctl_no_memory();
    else if (rc == -EMSGSIZE)
        w->failed = not_learnd(w, 200);
    return rc;
}

/* ---- connections ----------------------------------------------------------------------------- */

static const char *target_of(const struct ctl *ctl, struct api_buffer *target)
{
    ctl_target(target, "/v1/events");
    ctl_target_query(target, "types", ctl->options.types);
    ctl_target_query(target, "model", ctl->options.model);
    return ctl_target_end(target);
}

/* One connection, to its end. True: another one may be better. Else *ret_code is the end's. */
static bool connect_once(struct watching *w, const char *target, bool first,
                         enum ctl_exit *ret_code)
{
    struct ctl_answer answer = {.body = API_BUFFER_INIT};
    char line[ID_BYTES + 20];
    bool again = false;
    int rc;

    snprintf(line, sizeof line, "Last-Event-ID: %s", w->id);
    w->here = false;
    api_buffer_reset(&w->line);
    api_buffer_reset(&w->data);
    api_buffer_reset(&w->kind);
    rc = ctl_http_watch(w->ctl->http, target, w->id[0] != '\0' ? line : NULL, QUIET_S, on_bytes,
                        is_interrupted, w, &answer);
    if (interrupted || rc == -ECANCELED)
        *ret_code = w->failed;
    else if (rc == 0 && answer.status / 100 != 2 && (first || answer.status < 500))
        *ret_code = refused(w, &answer);
    else if (!first || w->here)
        again = true;
    else
        *ret_code = rc != 0 ? ctl_call_unreachable(w->ctl, rc) : not_learnd(w, answer.status);
    api_buffer_done(&answer.body);
    return again;
}

/* Signals are taken by the wait itself, so that none comes just before it. */
static void wait_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    if (!interrupted && sigtimedwait(&signals, NULL, &t) > 0)
        interrupted = 1;
    sigprocmask(SIG_UNBLOCK, &signals, NULL);
}

static enum ctl_exit watch(struct watching *w, const char *target)
{
    enum ctl_exit code = CTL_OK;
    long ms = 0;

    for (bool first = true; connect_once(w, target, first, &code); first = false) {
        ms = w->here || ms == 0 ? w->retry_ms : ms * 2;
        ms = ms > RETRY_MS_MAX ? RETRY_MS_MAX : ms;
        if (w->here && !w->ctl->options.quiet)
            ctl_note("the stream has ended; trying again");
        wait_ms(ms);
    }
    return code;
}

enum ctl_exit ctl_events(struct ctl *ctl)
{
    struct watching w = {.ctl = ctl, .retry_ms = RETRY_MS};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct api_buffer target = API_BUFFER_INIT;
    const char *since = ctl->options.since;
    enum ctl_exit code;

    if (ctl->args_len > 0)
        return ctl_misused(ctl, "\"%.40s\" is too much", ctl->args[0]);
    if (since != NULL)
        take_id(&w, since, strlen(since));
    if (since != NULL && (*since == '\0' || strcmp(w.id, since) != 0))
        return ctl_misused(ctl, "\"%.40s\" is no id of an event", since);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    code = target_of(ctl, &target) != NULL ? watch(&w, target.bytes) : ctl_no_memory();
    api_buffer_done(&target);
    api_buffer_done(&w.line);
    api_buffer_done(&w.data);
    api_buffer_done(&w.kind);
    return code;
}
