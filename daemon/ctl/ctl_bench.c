/* ctl_bench.c -- bench: a load of questions, and the daemon's times, rates and mistakes under it.
 *
 * Waits until the model has settled, so that answers of a version can be held against each other
 * (ctl_verdict.h); leaves nothing in the daemon (store: false). It is for the machine it runs on:
 * another one has to be asked for (--anywhere).
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/ctl/ctl_call.h"
#include "daemon/ctl/ctl_http.h"
#include "daemon/ctl/ctl_lines.h"
#include "daemon/ctl/ctl_load.h"
#include "daemon/ctl/ctl_progress.h"
#include "daemon/ctl/ctl_rows.h"

enum {
    TEXTS_MAX = 1 << 20,
    LINE_BYTES_MAX = 1 << 20,
    CONNECTIONS = 16,
    SECONDS = 10,
    SETTLE_TRIES = 600, /* a twentieth of a second each */
};

struct bench {
    struct ctl *ctl;
    struct api_buffer *requests; /* (len) */
    size_t len, room;
    const char *key, *host;
    const char *source; /* where the texts are from */
    struct ctl_load_settings load;
    struct ctl_verdict verdict;
    struct ctl_load_figures figures;
    struct ctl_progress progress;
    char version[CTL_VERSION_BYTES];
};

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

/* ---- texts ----------------------------------------------------------------------------------- */

static const char *const TEXTS[] = {
    "where is my card",
    "I have lost my card, what now?",
    "how long does a transfer to another country take",
    "the machine kept my money and gave no receipt",
    "can I have two accounts",
    "why was I charged twice for the same coffee yesterday morning at the station",
    "exchange rate",
    "my payment is still pending although the shop says that it has arrived two days ago",
    "I would like to close my account and have the rest paid out, please",
    "is there a fee for topping up with a card that was issued abroad?",
    "wo bleibt meine Karte",
    "je n'ai pas re\xc3\xa7u mon virement",
    "\xe6\x88\x91\xe7\x9a\x84\xe5\x8d\xa1\xe5\x9c\xa8\xe5\x93\xaa\xe9\x87\x8c",
    "hello",
    "verify my identity",
    "someone used my details to order things that I never asked for and I want my money back",
};

static void write_request(const struct bench *b, struct api_buffer *request, const char *text,
                          size_t len)
{
    struct api_buffer body = API_BUFFER_INIT;
    char head[512];

    json_open_object(&body);
    json_write_key(&body, "model");
    json_write_string(&body, ctl_model(b->ctl));
    json_write_key(&body, "inputs");
    json_write_text(&body, text, len);
    json_write_key(&body, "store");
    json_write_bool(&body, false);
    json_close_object(&body);
    snprintf(head, sizeof head,
             "POST /v1/classify HTTP/1.1\r\nHost: %.255s\r\nUser-Agent: learnctl\r\n"
             "Content-Type: application/json\r\nContent-Length: %zu\r\n",
             b->host, body.len);
    api_buffer_add_string(request, head);
    if (b->key != NULL) {
        api_buffer_add_string(request, "Authorization: Bearer ");
        api_buffer_add_string(request, b->key);
        api_buffer_add_string(request, "\r\n");
    }
    api_buffer_add_string(request, "\r\n");
    api_buffer_add(request, body.bytes, body.len);
    if (body.rc != 0)
        request->rc = body.rc;
    api_buffer_done(&body);
}

static enum ctl_exit add_text(struct bench *b, const char *text, size_t len)
{
    if (b->len == b->room) {
        size_t room = b->room * 2 + 64;
        struct api_buffer *bigger = realloc(b->requests, room * sizeof *bigger);

        if (bigger == NULL)
            return ctl_no_memory();
        b->requests = bigger;
        b->room = room;
    }
    b->requests[b->len] = (struct api_buffer)API_BUFFER_INIT;
    write_request(b, &b->requests[b->len++], text, len);
    return b->requests[b->len - 1].rc == 0 ? CTL_OK : ctl_no_memory();
}

static enum ctl_exit bad_line(const struct bench *b, const struct ctl_lines *l, const char *why)
{
    ctl_fail("file", "%s:%llu: %s", b->source, (unsigned long long)l->number, why);
    return CTL_USAGE;
}

/* A line is a text, or with jsonl an object that has one. */
static enum ctl_exit add_line(struct bench *b, const struct ctl_lines *l, enum ctl_format format)
{
    struct json_value *root = NULL;
    enum ctl_exit code = CTL_OK;
    const char *text;
    size_t len = 0;

    if (l->too_long)
        return bad_line(b, l, "more than a megabyte is no line of text");
    if (!json_is_utf8(l->bytes, l->len))
        return bad_line(b, l, "a byte that is not UTF-8");
    if (format != CTL_FORMAT_JSONL)
        return add_text(b, l->bytes, l->len);
    if (json_parse(l->bytes, l->len, NULL, &root, NULL) != 0)
        return bad_line(b, l, "it is no JSON");
    text = json_text(json_member(root, "text"), &len);
    code = text != NULL && len > 0 ? add_text(b, text, len) : bad_line(b, l, "it has no text");
    json_free(root);
    return code;
}

static enum ctl_exit read_texts(struct bench *b, const char *path)
{
    struct ctl_lines lines = {.bytes_max = LINE_BYTES_MAX};
    enum ctl_format format = b->ctl->options.format != NULL ? ctl_format_of(b->ctl->options.format)
                                                            : ctl_format_of_path(path);
    enum ctl_exit code = CTL_OK;
    int rc = 0;

    b->source = strcmp(path, "-") == 0 ? "stdin" : path;
    lines.file = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
    if (lines.file == NULL) {
        ctl_fail_file(path);
        return CTL_USAGE;
    }
    while (code == CTL_OK && b->len < TEXTS_MAX && (rc = ctl_lines_next(&lines)) == 1)
        if (lines.len > 0)
            code = add_line(b, &lines, format);
    if (code == CTL_OK && rc < 0) {
        errno = -rc;
        ctl_fail_file(path);
        code = CTL_USAGE;
    }
    if (code == CTL_OK && b->len == 0) {
        ctl_fail("file", "%s: there is no text", b->source);
        code = CTL_USAGE;
    }
    ctl_lines_done(&lines);
    if (lines.file != stdin)
        fclose(lines.file);
    return code;
}

static enum ctl_exit make_requests(struct bench *b)
{
    enum ctl_exit code = CTL_OK;

    b->source = "built in";
    if (b->ctl->options.file != NULL)
        return read_texts(b, b->ctl->options.file);
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS && code == CTL_OK; i++)
        code = add_text(b, TEXTS[i], strlen(TEXTS[i]));
    return code;
}

/* ---- before ---------------------------------------------------------------------------------- */

static enum ctl_exit settle(struct bench *b)
{
    struct timespec pause = {.tv_nsec = 50000000};
    bool settled = false;

    for (int i = 0; i < SETTLE_TRIES && !settled && !stopped; i++) {
        struct json_value *model = NULL;
        enum ctl_exit code = ctl_call_model(b->ctl, &model);
        const char *version = json_text(json_member(model, "version"), NULL);

        if (code != CTL_OK)
            return code;
        settled = json_bool(json_member(model, "settled"), false);
        if (settled && version != NULL)
            snprintf(b->version, sizeof b->version, "%s", version);
        json_free(model);
        if (!settled)
            nanosleep(&pause, NULL);
    }
    if (!settled && !b->ctl->options.quiet)
        ctl_note("the model does not settle: its answers are not held against each other");
    return CTL_OK;
}

static void on_tick(void *ud, double elapsed_s, uint64_t answers)
{
    struct bench *b = ud;
    uint64_t max = b->load.requests_max;

    ctl_progress_show(&b->progress, max > 0 ? answers : (uint64_t)(elapsed_s * 1000), answers);
}

static enum ctl_exit read_flags(struct bench *b, struct ctl_load_address *address)
{
    const struct ctl_options *o = &b->ctl->options;
    struct ctl_load_settings *s = &b->load;
    char why[192];

    if (b->ctl->args_len > 0)
        return ctl_misused(b->ctl, "\"%.40s\" is too much: --file says which texts",
                           b->ctl->args[0]);
    if (o->connections == 0 || o->connections > CTL_LOAD_CONNECTIONS_MAX)
        return ctl_misused(b->ctl, "--connections is 1 to %d", CTL_LOAD_CONNECTIONS_MAX);
    if (o->rate == 0 || o->rate > 1e6)
        return ctl_misused(b->ctl, "--rate is above 0, up to a million");
    if (o->seconds == 0 || o->seconds > 86400)
        return ctl_misused(b->ctl, "--seconds is above 0, up to a day");
    if (o->requests == 0)
        return ctl_misused(b->ctl, "--requests is at least 1");
    if (o->format != NULL && ctl_format_of(o->format) == CTL_FORMAT_CSV)
        return ctl_misused(b->ctl, "bench reads a text a line, or jsonl");
    if (ctl_load_resolve(o->url, address, why, sizeof why) != 0)
        return ctl_misused(b->ctl, "%s", why);
    if (!address->loopback && !o->anywhere)
        return ctl_misused(b->ctl, "%.100s is another machine; --anywhere puts a load on it",
                           address->host);
    s->address = address;
    s->connections = o->connections > 0 ? (uint32_t)o->connections : CONNECTIONS;
    s->rate = o->rate > 0 ? o->rate : 0;
    s->requests_max = o->requests > 0 ? (uint64_t)o->requests : 0;
    s->seconds = o->seconds > 0 ? o->seconds : s->requests_max > 0 ? 0 : SECONDS;
    s->warm_up_s = s->requests_max == 0 ? s->seconds / 10 : 0;
    s->timeout_s = o->timeout_s;
    s->stop = &stopped;
    s->tick = on_tick;
    s->ud = b;
    b->host = address->host;
    b->key = ctl_http_key(b->ctl->http);
    return CTL_OK;
}

/* ---- after ----------------------------------------------------------------------------------- */

static double ms_at(const struct bench *b, double share)
{
    return (double)ctl_histogram_at(&b->figures.times, share) * 1e-3;
}

static double rate_of(const struct bench *b)
{
    return b->figures.counted_s > 0 ? (double)b->figures.answers / b->figures.counted_s : 0;
}

static const struct {
    const char *name;
    double share;
} SHARES[] = {{"p50", 0.5}, {"p90", 0.9}, {"p95", 0.95}, {"p99", 0.99}, {"p99_9", 0.999}};

static void write_int(struct api_buffer *out, const char *name, uint64_t number)
{
    json_write_key(out, name);
    json_write_int(out, (int64_t)number);
}

static void write_number(struct api_buffer *out, const char *name, double number)
{
    json_write_key(out, name);
    json_write_number(out, number);
}

static void write_errors(const struct bench *b, struct api_buffer *out)
{
    json_write_key(out, "errors");
    json_open_array(out);
    for (unsigned i = 0; i < b->verdict.errors_len; i++) {
        const struct ctl_error_count *e = &b->verdict.errors[i];

        json_open_object(out);
        write_int(out, "status", (uint64_t)e->status);
        json_write_key(out, "code");
        json_write_string(out, e->code);
        write_int(out, "count", e->count);
        json_close_object(out);
    }
    json_close_array(out);
}

static enum ctl_exit print_json(const struct bench *b)
{
    struct api_buffer out = API_BUFFER_INIT;

    json_open_object(&out);
    json_write_key(&out, "mode");
    json_write_string(&out, b->load.rate > 0 ? "open" : "closed");
    write_int(&out, "connections", b->load.connections);
    json_write_key(&out, "rate");
    if (b->load.rate > 0)
        json_write_number(&out, b->load.rate);
    else
        json_write_null(&out);
    write_int(&out, "texts", b->len);
    write_number(&out, "seconds", b->figures.counted_s);
    write_int(&out, "answers", b->figures.answers);
    write_number(&out, "answers_per_s", rate_of(b));
    json_write_key(&out, "latency_ms");
    json_open_object(&out);
    write_number(&out, "mean", ctl_histogram_mean(&b->figures.times) * 1e-3);
    for (size_t i = 0; i < sizeof SHARES / sizeof *SHARES; i++)
        write_number(&out, SHARES[i].name, ms_at(b, SHARES[i].share));
    write_number(&out, "max", (double)b->figures.times.max_us * 1e-3);
    json_close_object(&out);
    write_int(&out, "unfinished", b->figures.unfinished);
    write_int(&out, "refused", b->verdict.refused);
    write_errors(b, &out);
    write_int(&out, "invalid", b->verdict.invalid);
    write_int(&out, "differ", b->verdict.differ);
    write_int(&out, "differ_unsettled", b->verdict.differ_unsettled);
    json_close_object(&out);
    return ctl_print_buffer(&out);
}

static void print_wrong(const struct bench *b)
{
    const struct ctl_verdict *v = &b->verdict;

    for (unsigned i = 0; i < v->errors_len; i++) {
        struct api_buffer code = API_BUFFER_INIT;

        ctl_write_problem(&code, v->errors[i].code, "", "");
        printf("%sREFUSED%s     %llu x %ld %.*s\n", ctl_color(1, CTL_RED), ctl_color(1, CTL_PLAIN),
               (unsigned long long)v->errors[i].count, v->errors[i].status,
               (int)(code.len > 2 ? code.len - 2 : 0), code.len > 0 ? code.bytes : "");
        api_buffer_done(&code);
    }
    if (v->invalid + v->differ > 0)
        printf("%sWRONG%s       %llu no answer at all, %llu unlike another of that version: %s\n",
               ctl_color(1, CTL_RED), ctl_color(1, CTL_PLAIN), (unsigned long long)v->invalid,
               (unsigned long long)v->differ, v->example);
}

static enum ctl_exit print_human(const struct bench *b)
{
    const struct ctl_load_figures *f = &b->figures;

    printf("load        %u connections, ", b->load.connections);
    if (b->load.rate > 0)
        printf("open loop at %g/s, ", b->load.rate);
    else
        printf("closed loop, ");
    printf("%zu texts (%s)\n", b->len, b->source);
    printf("answers     %s%.1f/s%s: %llu in %.2f s, each checked\n", ctl_color(1, CTL_BOLD),
           rate_of(b), ctl_color(1, CTL_PLAIN), (unsigned long long)f->answers, f->counted_s);
    printf("latency ms  mean %.2f", ctl_histogram_mean(&f->times) * 1e-3);
    for (size_t i = 0; i < sizeof SHARES / sizeof *SHARES; i++)
        printf("  %s %.2f", strcmp(SHARES[i].name, "p99_9") == 0 ? "p99.9" : SHARES[i].name,
               ms_at(b, SHARES[i].share));
    printf("  max %.2f\n", (double)f->times.max_us * 1e-3);
    if (f->unfinished > 0)
        printf("unfinished  %llu had no answer at the end; their waiting is counted\n",
               (unsigned long long)f->unfinished);
    if (b->verdict.differ_unsettled > 0)
        printf("unsettled   %llu answers differ from others of a version that had not settled\n",
               (unsigned long long)b->verdict.differ_unsettled);
    print_wrong(b);
    return CTL_OK;
}

/* A daemon that answers wrongly has failed; one that refused some has done its work in part. */
static enum ctl_exit judge(const struct bench *b)
{
    if (b->verdict.invalid + b->verdict.differ > 0)
        return CTL_FAILED;
    if (b->figures.answers == 0 && b->verdict.refused > 0)
        return b->verdict.errors[0].status >= 500 || b->verdict.errors[0].status == 0 ? CTL_FAILED
                                                                                      : CTL_REFUSED;
    return b->verdict.refused > 0 ? CTL_PARTLY : CTL_OK;
}

static enum ctl_exit measure(struct bench *b)
{
    struct sigaction action = {.sa_handler = on_signal};
    enum ctl_exit code;
    int rc;

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    b->load.requests = b->requests;
    b->load.requests_len = b->len;
    if (ctl_verdict_open(&b->verdict, b->len, b->version) != 0)
        return ctl_no_memory();
    ctl_progress_init(&b->progress, !b->ctl->options.quiet && !b->ctl->options.json,
                      b->load.requests_max > 0 ? b->load.requests_max
                                               : (uint64_t)(b->load.seconds * 1000));
    rc = ctl_load_run(&b->load, &b->verdict, &b->figures);
    ctl_progress_clear(&b->progress);
    if (rc != 0) {
        ctl_fail("unreachable", "cannot reach %s: %s", b->ctl->options.url, strerror(-rc));
        return CTL_FAILED;
    }
    code = b->ctl->options.json ? print_json(b) : print_human(b);
    return code == CTL_OK ? judge(b) : code;
}

enum ctl_exit ctl_bench(struct ctl *ctl)
{
    struct bench b = {.ctl = ctl};
    struct ctl_load_address address;
    enum ctl_exit code = read_flags(&b, &address);

    if (code == CTL_OK)
        code = make_requests(&b);
    if (code == CTL_OK && ctl->options.dump != NULL) {
        b.load.dump = fopen(ctl->options.dump, "w");
        if (b.load.dump == NULL) {
            ctl_fail_file(ctl->options.dump);
            code = CTL_USAGE;
        }
    }
    if (code == CTL_OK)
        code = settle(&b);
    if (code == CTL_OK)
        code = measure(&b);
    if (b.load.dump != NULL && fclose(b.load.dump) != 0) {
        ctl_fail_file(ctl->options.dump);
        code = CTL_USAGE;
    }
    ctl_verdict_close(&b.verdict);
    for (size_t i = 0; i < b.len; i++)
        api_buffer_done(&b.requests[i]);
    free(b.requests);
    return code;
}
