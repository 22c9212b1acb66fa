/* ctl_watch.c -- watch: what the daemon does now, on one screen, or a line an event and a second.
 *
 * Events come as a stream (ctl_stream.h); the rest is asked for once a second over a connection of
 * its own while the stream waits. Rates and percentiles are of the last ten samples, so that one
 * answer does not make them jump. When the daemon goes away the screen says so and stays; when it
 * is back, so are its figures. A restarted daemon counts from nought: a rate is never negative.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/clock.h"
#include "daemon/ctl/ctl_call.h"
#include "daemon/ctl/ctl_http.h"
#include "daemon/ctl/ctl_metrics.h"
#include "daemon/ctl/ctl_screen.h"
#include "daemon/ctl/ctl_stream.h"
#include "daemon/ctl/ctl_table.h"

enum { SAMPLES = 11, EVENTS = 64, ROWS_MAX = 12, BAR = 20 };

struct sample {
    int64_t at_us;
    struct ctl_metrics metrics;
};

struct watching {
    struct ctl *ctl;
    struct ctl_http *http; /* of the figures */
    bool screen;
    int64_t every_us, next_us;
    struct sample *samples; /* (SAMPLES) a ring, the latest at samples_at */
    unsigned samples_at, samples_len;
    struct json_value *info, *models, *runs; /* NULL: not had */
    struct api_buffer events[EVENTS];        /* a ring of lines */
    unsigned events_at, events_len;
    char away[160]; /* why there is no daemon; "": there is one */
    uint64_t printed;
};

static const struct ctl_metrics *latest(const struct watching *w)
{
    return &w->samples[w->samples_at].metrics;
}

/* The oldest sample there is. */
static const struct sample *oldest(const struct watching *w)
{
    return &w->samples[(w->samples_at + SAMPLES - (w->samples_len - 1)) % SAMPLES];
}

/* ---- figures --------------------------------------------------------------------------------- */

/* NULL: none, of whatever reason; *ret_body only for text. */
static struct json_value *get(struct watching *w, const char *target, struct api_buffer *ret_text)
{
    struct ctl_answer answer;
    struct json_value *root = NULL;

    if (ctl_http_send(w->http, "GET", target, NULL, NULL, &answer) != 0)
        return NULL;
    if (answer.status == 200 && ret_text != NULL)
        api_buffer_add(ret_text, answer.body.bytes, answer.body.len);
    else if (answer.status == 200)
        json_parse(answer.body.bytes, answer.body.len, NULL, &root, NULL);
    api_buffer_done(&answer.body);
    return root;
}

static void replace(struct json_value **place, struct json_value *now)
{
    json_free(*place);
    *place = now;
}

/* False: there were none to be had. A daemon that counts from nought begins the samples anew. */
static bool take_sample(struct watching *w)
{
    struct api_buffer page = API_BUFFER_INIT;
    struct sample *now = &w->samples[(w->samples_at + 1) % SAMPLES];
    double before;

    get(w, "/metrics", &page);
    if (page.len == 0 || page.rc != 0) {
        api_buffer_done(&page);
        return false;
    }
    before = w->samples_len > 0 ? latest(w)->figures[CTL_QUESTIONS] : 0;
    now->at_us = clock_us();
    ctl_metrics_read(page.bytes, page.len, &now->metrics);
    api_buffer_done(&page);
    if (now->metrics.figures[CTL_QUESTIONS] < before)
        w->samples_len = 0;
    w->samples_at = (w->samples_at + 1) % SAMPLES;
    w->samples_len += w->samples_len < SAMPLES;
    return true;
}

/* A second; NAN: not known yet. */
static double rate(const struct watching *w, enum ctl_figure figure)
{
    const struct sample *from, *to = &w->samples[w->samples_at];
    double span;

    if (w->samples_len < 2)
        return NAN;
    from = oldest(w);
    span = (double)(to->at_us - from->at_us) * 1e-6;
    return span > 0 ? (to->metrics.figures[figure] - from->metrics.figures[figure]) / span : NAN;
}

static double ms(const struct watching *w, enum ctl_stage stage, double share)
{
    const struct ctl_spread *before = w->samples_len > 1 ? &oldest(w)->metrics.stages[stage] : NULL;

    return w->samples_len > 0 ? 1e3 * ctl_spread_at(&latest(w)->stages[stage], before, share) : NAN;
}

/* Refused answers, and items of feedback that were refused alone. */
static double refusals(const struct watching *w)
{
    double answers = rate(w, CTL_REFUSALS), items = rate(w, CTL_REJECTED);

    return isnan(answers) ? items : answers + (isnan(items) ? 0 : items);
}

/* ---- lines, for who reads them with a program ------------------------------------------------ */

static void add_number(struct api_buffer *out, bool json, const char *name, double number)
{
    char text[64];

    if (!json) {
        snprintf(text, sizeof text, isnan(number) ? " %s=-" : " %s=%.6g", name, number);
        api_buffer_add_string(out, text);
        return;
    }
    json_write_key(out, name);
    if (isnan(number))
        json_write_null(out);
    else
        json_write_number(out, number);
}

static void add_version(struct api_buffer *out, bool json, const struct json_value *model)
{
    const char *name = json_text(json_member(model, "name"), NULL);
    const char *version = json_text(json_member(model, "version"), NULL);

    if (name == NULL || version == NULL)
        return;
    if (json) {
        json_write_key(out, name);
        json_write_string(out, version);
        return;
    }
    api_buffer_add_string(out, " ");
    ctl_clean(out, name, strlen(name));
    api_buffer_add_string(out, "@");
    ctl_clean(out, version, strlen(version));
}

static void write_figures(const struct watching *w, struct api_buffer *out, const char *time)
{
    const struct json_value *models = json_member(w->models, "models");
    bool json = w->ctl->options.json;

    if (json) {
        json_open_object(out);
        json_write_key(out, "time");
        json_write_string(out, time);
        json_write_key(out, "figures");
        json_open_object(out);
    } else {
        api_buffer_add(out, time, 10);
        api_buffer_add_string(out, " ");
        api_buffer_add(out, time + 11, 8);
        api_buffer_add_string(out, " figures ");
    }
    add_number(out, json, "questions_per_s", rate(w, CTL_QUESTIONS));
    add_number(out, json, "corrections_per_s", rate(w, CTL_CORRECTIONS));
    add_number(out, json, "refusals_per_s", refusals(w));
    add_number(out, json, "p50_ms", ms(w, CTL_ANSWER, 0.5));
    add_number(out, json, "p99_ms", ms(w, CTL_ANSWER, 0.99));
    add_number(out, json, "queued", latest(w)->figures[CTL_QUEUED]);
    add_number(out, json, "connections", latest(w)->figures[CTL_CONNECTIONS]);
    add_number(out, json, "resident_bytes", latest(w)->figures[CTL_RESIDENT]);
    if (json) {
        json_write_key(out, "versions");
        json_open_object(out);
    }
    for (size_t i = 0; i < json_len(models); i++)
        add_version(out, json, json_at(models, i));
    if (!json)
        return;
    json_close_object(out);
    json_close_object(out);
    json_close_object(out);
}

static void now_text(char text[32])
{
    time_t seconds = time(NULL);
    struct tm t;

    gmtime_r(&seconds, &t);
    strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", &t);
}

/* Non-zero: that was the last one wanted. */
static int print_line(struct watching *w, struct api_buffer *line)
{
    long limit = w->ctl->options.limit;

    ctl_print_buffer(line);
    fflush(stdout);
    w->printed++;
    return limit > 0 && w->printed >= (uint64_t)limit;
}

/* ---- the screen ------------------------------------------------------------------------------ */

/* A clean text in a column of that width. */
static void add_cell(struct api_buffer *frame, const struct json_value *value, unsigned width)
{
    struct api_buffer clean = API_BUFFER_INIT;
    size_t len = 0;
    const char *text = json_text(value, &len);
    unsigned used = 0;
    char digits[32];

    if (json_kind(value) == JSON_KIND_INT)
        len = (size_t)snprintf(digits, sizeof digits, "%lld", (long long)json_int(value, 0));
    if (json_kind(value) == JSON_KIND_INT)
        text = digits;
    ctl_clean(&clean, text != NULL ? text : "-", text != NULL ? len : 1);
    if (clean.rc == 0 && clean.len > 0)
        used = ctl_screen_cut(frame, clean.bytes, clean.len, width);
    api_buffer_addf(frame, "%*s", (int)(width - used + 2), "");
    api_buffer_done(&clean);
}

static void add_figure(struct api_buffer *frame, double number, int digits)
{
    if (isnan(number))
        api_buffer_addf(frame, "%14s", "-");
    else
        api_buffer_addf(frame, "%14.*f", digits, number);
}

static void draw_head(const struct watching *w, struct api_buffer *frame, unsigned columns)
{
    const char *version = json_text(json_member(w->info, "version"), NULL);
    struct api_buffer line = API_BUFFER_INIT;
    char time[32];

    now_text(time);
    api_buffer_add_string(&line, "learnd ");
    if (version != NULL)
        ctl_clean(&line, version, strlen(version));
    api_buffer_add_string(&line, " at ");
    ctl_clean(&line, w->ctl->options.url, strlen(w->ctl->options.url));
    api_buffer_addf(&line, "  %.10s %.8s  (q: quit)", time, time + 11);
    api_buffer_add_string(frame, ctl_color(1, CTL_BOLD));
    if (line.rc == 0)
        ctl_screen_cut(frame, line.bytes, line.len, columns);
    api_buffer_addf(frame, "%s\n", ctl_color(1, CTL_PLAIN));
    if (w->away[0] != '\0') {
        api_buffer_addf(frame, "%sAWAY: ", ctl_color(1, CTL_RED));
        ctl_clean(frame, w->away, strlen(w->away));
        api_buffer_addf(frame, "; trying again%s", ctl_color(1, CTL_PLAIN));
    }
    api_buffer_addf(frame, "\n");
    api_buffer_done(&line);
}

static void draw_figures(const struct watching *w, struct api_buffer *frame)
{
    static const char *const heads[] = {"questions/s", "corrections/s", "refusals/s",
                                        "queued",      "connections",   "MB"};
    static const char *const names[CTL_STAGES] = {"answer", "tokenize", "queue",
                                                  "encode", "head",     "commit"};
    const double *now = latest(w)->figures;

    api_buffer_addf(frame, "%s", ctl_color(1, CTL_DIM));
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        api_buffer_addf(frame, "%14s", heads[i]);
    api_buffer_addf(frame, "%s\n", ctl_color(1, CTL_PLAIN));
    add_figure(frame, rate(w, CTL_QUESTIONS), 1);
    add_figure(frame, rate(w, CTL_CORRECTIONS), 1);
    add_figure(frame, refusals(w), 1);
    add_figure(frame, now[CTL_QUEUED], 0);
    add_figure(frame, now[CTL_CONNECTIONS], 0);
    add_figure(frame, now[CTL_RESIDENT] * 1e-6, 0);
    api_buffer_addf(frame, "\n\n%s%14s%14s%14s%s\n", ctl_color(1, CTL_DIM), "ms", "p50", "p99",
                    ctl_color(1, CTL_PLAIN));
    for (int i = 0; i < CTL_STAGES; i++) {
        api_buffer_addf(frame, "%14s", names[i]);
        add_figure(frame, ms(w, (enum ctl_stage)i, 0.5), 2);
        add_figure(frame, ms(w, (enum ctl_stage)i, 0.99), 2);
        api_buffer_addf(frame, "\n");
    }
}

static void draw_models(const struct watching *w, struct api_buffer *frame, unsigned columns)
{
    const struct json_value *models = json_member(w->models, "models");
    unsigned name = columns > 70 ? 30 : 16;

    api_buffer_addf(frame, "\n%s%-*s  %-14s  %-9s  %-7s  %s%s\n", ctl_color(1, CTL_DIM), (int)name,
                    "model", "version", "examples", "labels", "settled", ctl_color(1, CTL_PLAIN));
    for (size_t i = 0; i < json_len(models) && i < ROWS_MAX; i++) {
        const struct json_value *m = json_at(models, i);

        add_cell(frame, json_member(m, "name"), name);
        add_cell(frame, json_member(m, "version"), 14);
        add_cell(frame, json_member(m, "examples"), 9);
        add_cell(frame, json_member(m, "labels"), 7);
        api_buffer_addf(frame, "%s\n",
                        json_bool(json_member(m, "settled"), false) ? "yes" : "not yet");
    }
}

static void draw_run(struct api_buffer *frame, const struct json_value *run)
{
    static const char full[] = "####################", none[] = "....................";
    const char *state = json_text(json_member(run, "state"), NULL);
    double step = (double)json_int(json_member(run, "step"), 0);
    double steps = (double)json_int(json_member(run, "steps"), 0);
    double eta = json_number(json_get(run, "progress.eta_s"), -1);
    int filled = steps > 0 && step <= steps ? (int)(step / steps * BAR) : 0;

    if (state == NULL || (strcmp(state, "running") != 0 && strcmp(state, "queued") != 0))
        return;
    api_buffer_addf(frame, "\n%srun %lld%s  ", ctl_color(1, CTL_CYAN),
                    (long long)json_int(json_member(run, "run"), 0), ctl_color(1, CTL_PLAIN));
    add_cell(frame, json_member(run, "model"), 16);
    add_cell(frame, json_member(run, "phase"), 10);
    api_buffer_addf(frame, "[%.*s%.*s] %.0f/%.0f", filled, full, BAR - filled, none, step, steps);
    if (eta >= 0)
        api_buffer_addf(frame, "  %.0f s left", eta);
}

static void draw(struct watching *w)
{
    const struct json_value *runs = json_member(w->runs, "runs");
    struct api_buffer frame = API_BUFFER_INIT;
    unsigned rows, columns, used = 0, room;

    ctl_screen_size(&rows, &columns);
    draw_head(w, &frame, columns);
    if (w->samples_len > 0)
        draw_figures(w, &frame);
    draw_models(w, &frame, columns);
    for (size_t i = 0; i < json_len(runs); i++)
        draw_run(&frame, json_at(runs, i));
    api_buffer_addf(&frame, "\n%sevents%s\n", ctl_color(1, CTL_DIM), ctl_color(1, CTL_PLAIN));
    for (size_t i = 0; frame.rc == 0 && i < frame.len; i++)
        used += frame.bytes[i] == '\n';
    room = rows > used ? rows - used : 0;
    for (unsigned i = w->events_len < room ? w->events_len : room; i > 0; i--) {
        const struct api_buffer *e = &w->events[(w->events_at + EVENTS - i) % EVENTS];

        ctl_screen_cut(&frame, e->bytes, e->len, columns);
        api_buffer_addf(&frame, "\n");
    }
    ctl_screen_show(&frame);
    api_buffer_done(&frame);
}

/* ---- what happens ---------------------------------------------------------------------------- */

static int on_event(void *ud, const struct ctl_event *event)
{
    struct watching *w = ud;
    struct api_buffer line = API_BUFFER_INIT;

    if (!w->screen) {
        if (w->ctl->options.json)
            ctl_event_json(&line, event);
        else
            ctl_event_words(&line, event);
        return print_line(w, &line);
    }
    ctl_event_words(&line, event);
    api_buffer_done(&w->events[w->events_at]);
    w->events[w->events_at] = line;
    w->events_at = (w->events_at + 1) % EVENTS;
    w->events_len += w->events_len < EVENTS;
    return 0;
}

static int ask(struct watching *w)
{
    struct api_buffer line = API_BUFFER_INIT;
    char time[32];

    if (!take_sample(w))
        return 0;
    replace(&w->models, get(w, "/v1/models?limit=12", NULL));
    if (w->screen) {
        replace(&w->runs, get(w, "/v1/runs?limit=5", NULL));
        replace(&w->info, get(w, "/v1/info", NULL));
        return 0;
    }
    now_text(time);
    write_figures(w, &line, time);
    return print_line(w, &line);
}

/* The stream has nothing: keys, and once in a while the figures. */
static int on_idle(void *ud, const char *why)
{
    struct watching *w = ud;
    bool changed = false;

    if (w->screen) {
        struct ctl_key key;

        ctl_screen_key(0, &key);
        if (key.kind == CTL_KEY_QUIT || strcmp(key.text, "q") == 0)
            return 1;
        changed = key.kind == CTL_KEY_RESIZE;
    }
    if (clock_us() < w->next_us && !changed)
        return 0;
    snprintf(w->away, sizeof w->away, "%s",
             why != NULL && strcmp(why, "connecting") != 0 ? why : "");
    if (clock_us() >= w->next_us) {
        w->next_us = clock_us() + w->every_us;
        if (w->away[0] == '\0' && ask(w) != 0)
            return 1;
    }
    if (w->screen)
        draw(w);
    return 0;
}

static enum ctl_exit watch(struct watching *w)
{
    struct ctl_stream stream = {.ctl = w->ctl,
                                .wake_fd = w->screen ? 0 : -1,
                                .known = true, /* by /v1/info */
                                .telling = !w->screen && !w->ctl->options.quiet,
                                .ud = w,
                                .event = on_event,
                                .idle = on_idle};
    struct api_buffer target = API_BUFFER_INIT;
    enum ctl_exit code = CTL_OK;
    struct json_value *info = NULL;

    ctl_target(&target, "/v1/events");
    ctl_target_query(&target, "types", w->ctl->options.types);
    ctl_target_query(&target, "model", w->ctl->options.model);
    stream.target = ctl_target_end(&target);
    if (stream.target == NULL)
        code = ctl_no_memory();
    if (code == CTL_OK) /* what is wrong from the start is said on the screen that stays */
        code = ctl_call(w->ctl, "GET", "/v1/info", NULL, &info);
    json_free(info);
    if (code == CTL_OK && w->screen && ctl_screen_open() != 0) {
        ctl_say("the terminal cannot be used: %s", strerror(errno));
        code = CTL_USAGE;
    }
    if (code == CTL_OK)
        code = ctl_stream_run(&stream);
    ctl_screen_close();
    api_buffer_done(&target);
    return code;
}

enum ctl_exit ctl_watch(struct ctl *ctl)
{
    double every_s = ctl->options.every_s;
    struct watching w = {.ctl = ctl};
    enum ctl_exit code;

    if (ctl->args_len > 0)
        return ctl_misused(ctl, "\"%.40s\" is too much", ctl->args[0]);
    if (every_s >= 0 && (every_s < 0.05 || every_s > 3600))
        return ctl_misused(ctl, "--every is 0.05 to 3600 seconds");
    w.every_us = (int64_t)((every_s < 0 ? 1 : every_s) * 1e6);
    w.screen = ctl_screen_is_there() && !ctl->options.json;
    w.samples = calloc(SAMPLES, sizeof *w.samples);
    if (w.samples == NULL || ctl_http_again(ctl->http, &w.http) != 0)
        code = ctl_no_memory();
    else
        code = watch(&w);
    ctl_http_close(w.http);
    json_free(w.info);
    json_free(w.models);
    json_free(w.runs);
    for (unsigned i = 0; i < EVENTS; i++)
        api_buffer_done(&w.events[i]);
    free(w.samples);
    return code;
}
