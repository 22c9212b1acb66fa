/* ctl_about.c -- status and version. */
#include <stdio.h>
#include <string.h>

#include "daemon/ctl/ctl_list.h"
#include "daemon/ctl/ctl_table.h"
#include "daemon/version.h"

struct status {
    struct ctl *ctl;
    struct json_value *info, *health;
    bool ready;
    struct ctl_table *table;
    struct api_buffer models; /* the list, for JSON */
};

static const char *text_of(const struct json_value *value, const char *path)
{
    const char *text = json_text(json_get(value, path), NULL);

    return text != NULL ? text : "?";
}

static long long int_of(const struct json_value *value, const char *path)
{
    return (long long)json_int(json_get(value, path), 0);
}

static enum ctl_exit on_model(void *ud, const struct json_value *row)
{
    struct status *s = ud;

    if (s->ctl->options.json) {
        json_write_value(&s->models, row);
        return CTL_OK;
    }
    ctl_table_json(s->table, json_member(row, "name"));
    ctl_table_json(s->table, json_member(row, "examples"));
    ctl_table_json(s->table, json_member(row, "labels"));
    ctl_table_json(s->table, json_member(row, "version"));
    return CTL_OK;
}

static enum ctl_exit on_page(void *ud)
{
    struct status *s = ud;

    return s->table == NULL || ctl_table_flush(s->table) == 0 ? CTL_OK : ctl_no_memory();
}

/* Cleaned, a line. */
static void print_line(const char *name, const char *text)
{
    struct api_buffer clean = API_BUFFER_INIT;

    ctl_clean(&clean, text, strlen(text));
    printf("%-9s %.*s\n", name, (int)clean.len, clean.len > 0 ? clean.bytes : "");
    api_buffer_done(&clean);
}

static void print_health(const struct status *s)
{
    const struct json_value *checks = json_member(s->health, "checks");
    char line[256];

    for (size_t i = 0; i < json_len(checks); i++) {
        const struct json_value *c = json_at(checks, i);

        snprintf(line, sizeof line, "%s: %s", text_of(c, "name"), text_of(c, "detail"));
        print_line(json_bool(json_member(c, "ok"), false) ? "ok" : "FAILS", line);
    }
}

/* What of the device is worth a line: its memory, or why it is not another one. */
static void print_device(const struct status *s)
{
    const struct json_value *state = json_member(s->info, "device_state");
    const char *why = json_text(json_member(state, "why"), NULL);
    const double MIB = 1 << 20;
    char line[512];

    if (int_of(state, "memory_total_bytes") > 0) {
        snprintf(line, sizeof line, "%.0f of %.0f MiB held",
                 (double)int_of(state, "memory_used_bytes") / MIB,
                 (double)int_of(state, "memory_total_bytes") / MIB);
        print_line("device", line);
    }
    if (why != NULL) {
        snprintf(line, sizeof line, "%s%.400s",
                 json_bool(json_member(state, "degraded"), false) ? "DEGRADED: " : "", why);
        print_line("device", line);
    }
}

static void print_info(const struct status *s)
{
    char line[512];

    snprintf(line, sizeof line, "%s %s at %s, %s", text_of(s->info, "name"),
             text_of(s->info, "version"), s->ctl->options.url, s->ready ? "ready" : "NOT READY");
    print_line("daemon", line);
    snprintf(line, sizeof line, "%s, number %lld: %lld layers, %lld dimensions, up to %lld tokens",
             text_of(s->info, "encoder.name"), int_of(s->info, "encoder.number"),
             int_of(s->info, "encoder.layers"), int_of(s->info, "encoder.dim"),
             int_of(s->info, "encoder.tokens_max"));
    print_line("encoder", line);
    snprintf(line, sizeof line, "%s on %s in %s, lanes %lld, loops %lld",
             text_of(s->info, "backend"), text_of(s->info, "device"), text_of(s->info, "precision"),
             int_of(s->info, "lanes"), int_of(s->info, "loops"));
    print_line("backend", line);
    print_device(s);
    snprintf(line, sizeof line, "%lld events; started %s", int_of(s->info, "seq"),
             text_of(s->info, "started"));
    print_line("journal", line);
}

static enum ctl_exit print_document(struct status *s)
{
    struct api_buffer line = API_BUFFER_INIT;

    json_open_object(&line);
    json_write_key(&line, "ready");
    json_write_bool(&line, s->ready);
    json_write_key(&line, "health");
    json_write_value(&line, s->health);
    json_write_key(&line, "info");
    json_write_value(&line, s->info);
    json_write_key(&line, "models");
    json_open_array(&line);
    json_write_raw(&line, s->models.bytes, s->models.len);
    json_close_array(&line);
    json_close_object(&line);
    return ctl_print_buffer(&line);
}

static enum ctl_exit show_models(struct status *s)
{
    static const char *const heads[] = {"model", "examples", "labels", "version"};
    struct api_buffer target = API_BUFFER_INIT;
    struct ctl_list list = {.ctl = s->ctl,
                            .plural = "models",
                            .rows_max = UINT64_MAX,
                            .page_rows = 1000,
                            .ud = s,
                            .row = on_model,
                            .page = on_page};

    if (!s->ctl->options.json && ctl_table_open(stdout, heads, "lrrl", &s->table) != 0)
        return ctl_no_memory();
    ctl_target(&target, "/v1/models");
    return ctl_list_walk(&list, &target);
}

enum ctl_exit ctl_status(struct ctl *ctl)
{
    struct status s = {.ctl = ctl};
    long status = 0;
    enum ctl_exit code;

    if (ctl->args_len > 0)
        return ctl_misused(ctl, "\"%.40s\" is too much", ctl->args[0]);
    code = ctl_call(ctl, "GET", "/v1/info", NULL, &s.info);
    if (code == CTL_OK) /* 503 with checks is what is asked for, not a failure to answer */
        code = ctl_call_any(ctl, "GET", "/health/ready", CTL_JSON, NULL, &status, NULL, &s.health);
    s.ready = status == 200;
    if (code == CTL_OK && !ctl->options.json) {
        print_info(&s);
        print_health(&s);
        putchar('\n');
    }
    if (code == CTL_OK)
        code = show_models(&s);
    if (code == CTL_OK && ctl->options.json)
        code = print_document(&s);
    ctl_table_close(s.table);
    api_buffer_done(&s.models);
    json_free(s.info);
    json_free(s.health);
    return code == CTL_OK && !s.ready ? CTL_FAILED : code;
}

enum ctl_exit ctl_version(struct ctl *ctl)
{
    if (ctl->options.json)
        printf("{\"name\":\"learnctl\",\"version\":\"" LEARND_VERSION "\"}\n");
    else
        printf("learnctl " LEARND_VERSION "\n");
    return CTL_OK;
}
