/* ctl_runs.c -- runs: asked for, listed, watched, cancelled. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/ctl/ctl_browse.h"
#include "daemon/ctl/ctl_run.h"

enum { POLL_MS = 500, BAR = 24, LINE_BYTES = 160 };

static const char *text_of(const struct json_value *row, const char *name)
{
    const char *text = json_text(json_member(row, name), NULL);

    return text != NULL ? text : "";
}

static bool is_over(const struct json_value *run)
{
    const char *state = text_of(run, "state");

    return strcmp(state, "queued") != 0 && strcmp(state, "running") != 0;
}

/* ---- rows ------------------------------------------------------------------------------------ */

static void run_cells(struct ctl_table *t, const struct json_value *row)
{
    const int64_t steps = json_int(json_member(row, "steps"), 0);

    ctl_table_json(t, json_member(row, "run"));
    ctl_table_json(t, json_member(row, "model"));
    ctl_table_json(t, json_member(row, "strategy"));
    ctl_table_json(t, json_member(row, "state"));
    if (is_over(row))
        ctl_table_json(t, json_member(row, "reason"));
    else if (steps > 0)
        ctl_table_printf(t, "%s %lld/%lld", text_of(row, "phase"),
                         (long long)json_int(json_member(row, "step"), 0), (long long)steps);
    else
        ctl_table_json(t, json_member(row, "phase"));
    ctl_table_json(t, json_get(row, "progress.loss"));
    ctl_table_json(t, json_member(row, "encoder"));
    ctl_table_time(t, json_member(row, "created"));
}

static const char *const run_heads[] = {"run", "model", "strategy", "state",
                                        "how", "loss",  "encoder",  "created"};
static const struct ctl_kind runs = {"runs", "rllllrrl", run_heads, run_cells, 20};

/* ---- the verdict ----------------------------------------------------------------------------- */

static void measure(struct ctl_table *t, const char *name, const struct json_value *verdict,
                    const char *old, const char *new)
{
    const struct json_value *before = json_member(verdict, old), *after = json_member(verdict, new);

    ctl_table_string(t, name);
    if (json_kind(before) > JSON_KIND_NULL && json_kind(after) > JSON_KIND_NULL) {
        ctl_table_printf(t, "%.4f", json_number(before, 0));
        ctl_table_printf(t, "%.4f", json_number(after, 0));
        ctl_table_printf(t, "%+.4f", json_number(after, 0) - json_number(before, 0));
    } else {
        for (int i = 0; i < 3; i++)
            ctl_table_string(t, NULL);
    }
}

static enum ctl_exit show_measures(const struct json_value *v)
{
    static const char *const heads[] = {"held-out", "before", "after", "change"};
    struct ctl_table *t;
    int rc = ctl_table_open(stdout, heads, "lrrr", &t);

    if (rc != 0)
        return ctl_no_memory();
    measure(t, "accuracy", v, "accuracy_old", "accuracy_new");
    measure(t, "Brier score", v, "brier_old", "brier_new");
    measure(t, "calibration error", v, "ece_old", "ece_new");
    measure(t, "novelty AUROC", v, "auroc_old", "auroc_new");
    rc = ctl_table_flush(t);
    ctl_table_close(t);
    return rc == 0 ? CTL_OK : ctl_no_memory();
}

/* A label's name is cleaned as in a table. */
static void show_losses(const struct json_value *losses)
{
    for (size_t i = 0; i < json_len(losses); i++) {
        const struct json_value *loss = json_at(losses, i);
        struct api_buffer name = API_BUFFER_INIT;

        ctl_clean(&name, text_of(loss, "label"), strlen(text_of(loss, "label")));
        if (name.rc == 0)
            printf("  %.*s: %lld lost and %lld won of %lld, p = %.2g\n", (int)name.len,
                   name.len > 0 ? name.bytes : "",
                   (long long)json_int(json_member(loss, "lost"), 0),
                   (long long)json_int(json_member(loss, "won"), 0),
                   (long long)json_int(json_member(loss, "items"), 0),
                   json_number(json_member(loss, "p_adjusted"), 1));
        api_buffer_done(&name);
    }
}

static enum ctl_exit show_verdict(const struct json_value *v)
{
    const struct json_value *reasons = json_member(v, "reasons");
    enum ctl_exit code;

    if (json_kind(v) != JSON_KIND_OBJECT)
        return CTL_OK;
    code = show_measures(v);
    if (code != CTL_OK)
        return code;
    printf("%lld texts: %lld won, %lld lost", (long long)json_int(json_member(v, "items"), 0),
           (long long)json_int(json_member(v, "won"), 0),
           (long long)json_int(json_member(v, "lost"), 0));
    if (json_kind(json_member(v, "lower")) > JSON_KIND_NULL)
        printf("; the change is at least %+.4f, and may be %+.4f",
               json_number(json_member(v, "lower"), 0),
               0 - json_number(json_member(v, "margin"), 0));
    if (json_kind(json_member(v, "brier_lower")) > JSON_KIND_NULL)
        printf("; the Brier score falls by at least %.4f",
               json_number(json_member(v, "brier_lower"), 0));
    if (json_kind(json_member(v, "latency_ratio")) > JSON_KIND_NULL)
        printf("; an answer takes %.2f times as long",
               json_number(json_member(v, "latency_ratio"), 0));
    printf("\n");
    show_losses(json_member(v, "losses"));
    printf("the gate: %s", json_bool(json_member(v, "accepted"), false) ? "accepted" : "refused");
    for (size_t i = 0; i < json_len(reasons); i++)
        printf("%s %s", i == 0 ? ":" : ",", json_text(json_at(reasons, i), NULL));
    printf("%s\n", json_bool(json_member(v, "forced"), false) ? " (forced past it)" : "");
    return CTL_OK;
}

/* Who watched a run wants to know how it ended; who looks one up has what he wanted. */
static enum ctl_exit code_of(const struct ctl *ctl, const struct json_value *run)
{
    const char *state = text_of(run, "state");

    if (!ctl->options.watch || strcmp(state, "accepted") == 0)
        return CTL_OK;
    return strcmp(state, "refused") == 0 ? CTL_GATE : CTL_RUN;
}

/* One run in full. */
static enum ctl_exit show_end(const struct ctl *ctl, const struct json_value *run)
{
    struct ctl_table *t;
    enum ctl_exit code;
    int rc;

    if (ctl->options.json) {
        code = ctl_print_json(run);
        return code == CTL_OK ? code_of(ctl, run) : code;
    }
    if (ctl_table_open(stdout, run_heads, "rllllrrl", &t) != 0)
        return ctl_no_memory();
    run_cells(t, run);
    rc = ctl_table_flush(t);
    ctl_table_close(t);
    code = rc == 0 ? show_verdict(json_member(run, "verdict")) : ctl_no_memory();
    return code == CTL_OK ? code_of(ctl, run) : code;
}

/* ---- watching -------------------------------------------------------------------------------- */

struct bar {
    bool terminal, quiet, drawn;
    char phase[32]; /* told last, where there is no terminal */
};

/* Words behind the bar: what is known, and no more. */
static void write_words(const struct json_value *run, char words[LINE_BYTES])
{
    const struct json_value *p = json_member(run, "progress");
    const double eta = json_number(json_member(p, "eta_s"), -1);
    const double rate = json_number(json_member(p, "examples_per_s"), -1);
    const double loss = json_number(json_member(p, "loss"), -1);
    const double yielded = json_number(json_member(p, "yield_s"), 0);
    const long long steps = json_int(json_member(run, "steps"), 0);
    size_t len = (size_t)snprintf(words, LINE_BYTES, "%.20s", text_of(run, "phase"));

    if (steps > 0)
        len += (size_t)snprintf(words + len, LINE_BYTES - len, " %lld/%lld",
                                (long long)json_int(json_member(run, "step"), 0), steps);
    if (loss >= 0)
        len += (size_t)snprintf(words + len, LINE_BYTES - len, "  loss %.3f", loss);
    if (rate >= 0)
        len += (size_t)snprintf(words + len, LINE_BYTES - len, "  %.0f examples/s", rate);
    if (yielded >= 1)
        len += (size_t)snprintf(words + len, LINE_BYTES - len, "  gave way %.0f s", yielded);
    if (eta >= 90)
        snprintf(words + len, LINE_BYTES - len, "  %.0f min left", eta / 60);
    else if (eta >= 0)
        snprintf(words + len, LINE_BYTES - len, "  %.0f s left", eta);
}

static void draw(struct bar *b, const struct json_value *run)
{
    static const char full[] = "########################", none[] = "                        ";
    const double steps = (double)json_int(json_member(run, "steps"), 0);
    const double step = (double)json_int(json_member(run, "step"), 0);
    const int filled = steps > 0 && step <= steps ? (int)(step / steps * BAR) : 0;
    char words[LINE_BYTES];

    if (b->quiet)
        return;
    write_words(run, words);
    if (b->terminal) {
        fprintf(stderr, "\r[%.*s%.*s] %-80.100s", filled, full, BAR - filled, none, words);
        fflush(stderr);
        b->drawn = true;
    } else if (strcmp(b->phase, text_of(run, "phase")) != 0) {
        snprintf(b->phase, sizeof b->phase, "%s", text_of(run, "phase"));
        ctl_note("run %lld: %s", (long long)json_int(json_member(run, "run"), 0), words);
    }
}

static void clear(struct bar *b)
{
    if (b->drawn)
        fprintf(stderr, "\r%110s\r", "");
    b->drawn = false;
}

static enum ctl_exit get_run(struct ctl *ctl, const char *id, struct json_value **ret_run)
{
    struct api_buffer target = API_BUFFER_INIT;
    enum ctl_exit code;
    const char *path;

    ctl_target(&target, "/v1/runs/");
    ctl_target_name(&target, id);
    path = ctl_target_end(&target);
    code = path != NULL ? ctl_call(ctl, "GET", path, NULL, ret_run) : ctl_no_memory();
    api_buffer_done(&target);
    return code;
}

enum ctl_exit ctl_run_watch(struct ctl *ctl, int64_t run)
{
    const struct timespec pause = {0, POLL_MS * 1000000L};
    struct bar bar = {.terminal = isatty(2), .quiet = ctl->options.quiet || ctl->options.json};
    enum ctl_exit code = CTL_OK;
    bool over = false;
    char id[24];

    snprintf(id, sizeof id, "%lld", (long long)run);
    while (code == CTL_OK && !over) {
        struct json_value *answer = NULL;

        code = get_run(ctl, id, &answer);
        if (code != CTL_OK)
            break;
        over = is_over(answer);
        if (over) {
            clear(&bar);
            code = show_end(ctl, answer);
        } else {
            draw(&bar, answer);
        }
        json_free(answer);
        if (!over)
            nanosleep(&pause, NULL);
    }
    clear(&bar);
    return code;
}

/* The run that is under way, or the one that will be first. 0: none. */
static enum ctl_exit find_current(struct ctl *ctl, int64_t *ret_run)
{
    static const char *const states[] = {"running", "queued"};
    enum ctl_exit code = CTL_OK;

    *ret_run = 0;
    for (int i = 0; i < 2 && code == CTL_OK && *ret_run == 0; i++) {
        struct api_buffer target = API_BUFFER_INIT;
        struct json_value *answer = NULL;
        const struct json_value *rows;
        const char *path;

        ctl_target(&target, "/v1/runs?limit=1000");
        ctl_target_query(&target, "state", states[i]);
        ctl_target_query(&target, "model", ctl->options.model);
        path = ctl_target_end(&target);
        code = path != NULL ? ctl_call(ctl, "GET", path, NULL, &answer) : ctl_no_memory();
        rows = json_member(answer, "runs");
        if (code == CTL_OK && json_len(rows) > 0)
            *ret_run = json_int(json_member(json_at(rows, json_len(rows) - 1), "run"), 0);
        json_free(answer);
        api_buffer_done(&target);
    }
    return code;
}

enum ctl_exit ctl_runs(struct ctl *ctl)
{
    struct api_buffer target = API_BUFFER_INIT;
    struct json_value *answer = NULL;
    enum ctl_exit code;
    int64_t run = 0;

    if (ctl->args_len > 1)
        return ctl_misused(ctl, "one run, or none for the list");
    if (ctl->args_len == 1) {
        code = get_run(ctl, ctl->args[0], &answer);
        if (code == CTL_OK && ctl->options.watch)
            code = ctl_run_watch(ctl, json_int(json_member(answer, "run"), 0));
        else if (code == CTL_OK)
            code = show_end(ctl, answer);
        json_free(answer);
        return code;
    }
    if (ctl->options.watch) {
        code = find_current(ctl, &run);
        if (code == CTL_OK && run == 0 && !ctl->options.quiet)
            ctl_note("no run is under way");
        return code == CTL_OK && run != 0 ? ctl_run_watch(ctl, run) : code;
    }
    ctl_target(&target, "/v1/runs");
    ctl_target_query(&target, "model", ctl->options.model);
    return ctl_browse(ctl, &runs, &target);
}

/* ---- asking and cancelling ------------------------------------------------------------------- */

enum ctl_exit ctl_run_ask(struct ctl *ctl, struct api_buffer *target, const struct api_buffer *body)
{
    struct json_value *answer = NULL;
    const char *path = ctl_target_end(target);
    enum ctl_exit code =
        path != NULL ? ctl_call(ctl, "POST", path, body, &answer) : ctl_no_memory();

    if (code == CTL_OK && ctl->options.watch)
        code = ctl_run_watch(ctl, json_int(json_member(answer, "run"), 0));
    else if (code == CTL_OK && (ctl->options.json || !ctl->options.quiet))
        code = show_end(ctl, answer);
    json_free(answer);
    api_buffer_done(target);
    return code;
}

/* NAME=VALUE: JSON as such, anything else as a text. */
static enum ctl_exit write_setting(const struct ctl *ctl, const char *arg, struct api_buffer *body)
{
    const char *equals = strchr(arg, '=');
    struct json_value *value = NULL;
    char name[64];

    if (equals == NULL || equals == arg || (size_t)(equals - arg) >= sizeof name)
        return ctl_misused(ctl, "\"%.40s\": a setting is NAME=VALUE", arg);
    snprintf(name, sizeof name, "%.*s", (int)(equals - arg), arg);
    json_write_key(body, name);
    if (json_parse(equals + 1, strlen(equals + 1), NULL, &value, NULL) == 0)
        json_write_value(body, value);
    else
        json_write_string(body, equals + 1);
    json_free(value);
    return CTL_OK;
}

/* What a flag says is for the daemon to judge, number or not. */
static void write_flag(struct api_buffer *body, const char *name, const char *word)
{
    struct json_value *value = NULL;

    if (word == NULL)
        return;
    json_write_key(body, name);
    if (json_parse(word, strlen(word), NULL, &value, NULL) == 0)
        json_write_value(body, value);
    else
        json_write_string(body, word);
    json_free(value);
}

void ctl_run_flags(const struct ctl *ctl, struct api_buffer *body)
{
    write_flag(body, "margin", ctl->options.margin);
    if (ctl->options.force) {
        json_write_key(body, "force");
        json_write_bool(body, true);
    }
}

enum ctl_exit ctl_train(struct ctl *ctl)
{
    const struct ctl_options *o = &ctl->options;
    const bool named = ctl->args_len > 0 && strchr(ctl->args[0], '=') == NULL;
    struct api_buffer target, body = API_BUFFER_INIT;
    enum ctl_exit code = CTL_OK;

    if (named)
        ctl->options.model = ctl->args[0];
    json_open_object(&body);
    write_flag(&body, "strategy", o->strategy);
    write_flag(&body, "epochs", o->epochs);
    write_flag(&body, "seed", o->seed);
    if (o->lora_rank != NULL) {
        json_write_key(&body, "lora");
        json_open_object(&body);
        write_flag(&body, "rank", o->lora_rank);
        json_close_object(&body);
    }
    ctl_run_flags(ctl, &body);
    for (int i = named; i < ctl->args_len && code == CTL_OK; i++)
        code = write_setting(ctl, ctl->args[i], &body);
    json_close_object(&body);
    if (code == CTL_OK) {
        target = ctl_of_model(ctl, "/runs");
        code = ctl_run_ask(ctl, &target, &body);
    }
    api_buffer_done(&body);
    return code;
}

enum ctl_exit ctl_cancel(struct ctl *ctl)
{
    struct api_buffer target = API_BUFFER_INIT;

    if (ctl->args_len != 1)
        return ctl_misused(ctl, "which run?");
    ctl_target(&target, "/v1/runs/");
    ctl_target_name(&target, ctl->args[0]);
    return ctl_change(ctl, "DELETE", &target, NULL, &runs);
}
