/* ctl_browse.c -- models and examples: lists for people or scripts, and what changes models. */
#include "daemon/ctl/ctl_browse.h"

#include <stdio.h>
#include <string.h>

#include "daemon/ctl/ctl_list.h"
#include "proto/api.h"

struct browsing {
    const struct ctl_kind *kind;
    struct ctl_table *table; /* NULL: JSON */
};

static enum ctl_exit on_row(void *ud, const struct json_value *row)
{
    struct browsing *b = ud;

    if (b->table == NULL)
        return ctl_print_json(row);
    b->kind->cells(b->table, row);
    return CTL_OK;
}

static enum ctl_exit on_page(void *ud)
{
    struct browsing *b = ud;

    return b->table == NULL || ctl_table_flush(b->table) == 0 ? CTL_OK : ctl_no_memory();
}

enum ctl_exit ctl_browse(struct ctl *ctl, const struct ctl_kind *kind, struct api_buffer *target)
{
    long limit = ctl->options.limit;
    struct browsing b = {.kind = kind};
    struct ctl_list list = {.ctl = ctl,
                            .plural = kind->plural,
                            .rows_max = limit < 0    ? kind->rows_default
                                        : limit == 0 ? UINT64_MAX
                                                     : (uint64_t)limit,
                            .page_rows = API_LIMIT_DEFAULT,
                            .ud = &b,
                            .row = on_row,
                            .page = on_page};
    enum ctl_exit code;

    if (!ctl->options.json && ctl_table_open(stdout, kind->heads, kind->align, &b.table) != 0) {
        api_buffer_done(target);
        return ctl_no_memory();
    }
    code = ctl_list_walk(&list, target);
    if (code == CTL_OK && list.more && !ctl->options.quiet)
        ctl_note("there are more; --limit N shows N of them, --limit 0 all");
    ctl_table_close(b.table);
    return code;
}

struct api_buffer ctl_of_model(const struct ctl *ctl, const char *tail)
{
    struct api_buffer target = API_BUFFER_INIT;

    ctl_target(&target, "/v1/models/");
    ctl_target_name(&target, ctl_model(ctl));
    ctl_target(&target, tail);
    return target;
}

enum ctl_exit ctl_change(struct ctl *ctl, const char *method, struct api_buffer *target,
                         const struct api_buffer *body, const struct ctl_kind *kind)
{
    struct browsing b = {.kind = kind};
    struct json_value *answer = NULL;
    const char *path = ctl_target_end(target);
    enum ctl_exit code =
        path != NULL ? ctl_call(ctl, method, path, body, &answer) : ctl_no_memory();

    if (code == CTL_OK && answer != NULL && !ctl->options.json && !ctl->options.quiet &&
        ctl_table_open(stdout, kind->heads, kind->align, &b.table) != 0)
        code = ctl_no_memory();
    if (code == CTL_OK && answer != NULL && (ctl->options.json || b.table != NULL)) {
        code = on_row(&b, answer);
        if (code == CTL_OK)
            code = on_page(&b);
    }
    ctl_table_close(b.table);
    json_free(answer);
    api_buffer_done(target);
    return code;
}

/* ---- models ---------------------------------------------------------------------------------- */

static void model_cells(struct ctl_table *t, const struct json_value *row)
{
    ctl_table_json(t, json_member(row, "name"));
    ctl_table_json(t, json_member(row, "examples"));
    ctl_table_json(t, json_member(row, "labels"));
    ctl_table_json(t, json_member(row, "version"));
    ctl_table_time(t, json_member(row, "created"));
}

static const char *const model_heads[] = {"model", "examples", "labels", "version", "created"};
static const struct ctl_kind models = {"models", "lrrll", model_heads, model_cells, UINT64_MAX};

/* Does name=value say what the model is, and not how it behaves? */
static bool says_what(const char *arg)
{
    return strncmp(arg, "encoder=", 8) == 0 || strncmp(arg, "dim=", 4) == 0 ||
           strncmp(arg, "from=", 5) == 0;
}

/* name=value: a number or true or false is written as such, the rest as a text; what is known is
 * the daemon's to say. */
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

/* What is of the model first, if that is allowed, then the settings, if there are any. */
static enum ctl_exit write_settings(const struct ctl *ctl, int first, bool create,
                                    struct api_buffer *body)
{
    enum ctl_exit code = CTL_OK;
    bool any = false;

    for (int i = first; i < ctl->args_len && code == CTL_OK; i++) {
        if (create && says_what(ctl->args[i]))
            code = write_setting(ctl, ctl->args[i], body);
        else
            any = true;
    }
    if (!any || code != CTL_OK)
        return code;
    json_write_key(body, "settings");
    json_open_object(body);
    for (int i = first; i < ctl->args_len && code == CTL_OK; i++)
        if (!create || !says_what(ctl->args[i]))
            code = write_setting(ctl, ctl->args[i], body);
    json_close_object(body);
    return code;
}

static enum ctl_exit models_change(struct ctl *ctl, bool create)
{
    struct api_buffer target = API_BUFFER_INIT, body = API_BUFFER_INIT;
    enum ctl_exit code;

    ctl_target(&target, "/v1/models");
    json_open_object(&body);
    if (create) {
        json_write_key(&body, "name");
        json_write_string(&body, ctl->args[1]);
        if (ctl->options.kind != NULL) {
            json_write_key(&body, "kind");
            json_write_string(&body, ctl->options.kind);
        }
    } else {
        ctl_target(&target, "/");
        ctl_target_name(&target, ctl->args[1]);
    }
    code = write_settings(ctl, 2, create, &body);
    json_close_object(&body);
    if (code == CTL_OK)
        code = ctl_change(ctl, create ? "POST" : "PATCH", &target, &body, &models);
    api_buffer_done(&target);
    api_buffer_done(&body);
    return code;
}

static enum ctl_exit models_delete(struct ctl *ctl)
{
    struct api_buffer target = API_BUFFER_INIT;

    if (!ctl->options.yes)
        return ctl_misused(ctl, "this removes %.60s and all it was taught; --yes does it",
                           ctl->args[1]);
    ctl_target(&target, "/v1/models/");
    ctl_target_name(&target, ctl->args[1]);
    return ctl_change(ctl, "DELETE", &target, NULL, &models);
}

static enum ctl_exit models_show(struct ctl *ctl)
{
    struct api_buffer target = API_BUFFER_INIT;
    struct json_value *answer = NULL;
    const char *path;
    enum ctl_exit code;

    ctl_target(&target, "/v1/models/");
    ctl_target_name(&target, ctl->args[1]);
    if (ctl->options.json)
        return ctl_change(ctl, "GET", &target, NULL, &models);
    path = ctl_target_end(&target);
    code = path != NULL ? ctl_call(ctl, "GET", path, NULL, &answer) : ctl_no_memory();
    if (code == CTL_OK) {
        static const char *const heads[] = {"setting", "value"};
        static const char *const names[] = {"features",
                                            "seed",
                                            "ridge_lambda",
                                            "score_min",
                                            "rejection_budget",
                                            "annotator_rate_max",
                                            "annotator_influence_max"};
        struct ctl_table *t = NULL;

        if (ctl_table_open(stdout, heads, "ll", &t) != 0)
            code = ctl_no_memory();
        for (size_t i = 0; i < sizeof names / sizeof *names && code == CTL_OK; i++) {
            ctl_table_string(t, names[i]);
            ctl_table_printf(
                t, "%g", json_number(json_member(json_member(answer, "settings"), names[i]), 0));
        }
        if (code == CTL_OK && ctl_table_flush(t) != 0)
            code = ctl_no_memory();
        ctl_table_close(t);
    }
    json_free(answer);
    api_buffer_done(&target);
    return code;
}

enum ctl_exit ctl_models(struct ctl *ctl)
{
    const char *verb = ctl->args_len > 0 ? ctl->args[0] : NULL;
    struct api_buffer target = API_BUFFER_INIT;

    if (verb == NULL) {
        ctl_target(&target, "/v1/models");
        return ctl_browse(ctl, &models, &target);
    }
    if (ctl->args_len < 2)
        return ctl_misused(ctl, "which model?");
    if (strcmp(verb, "create") == 0)
        return models_change(ctl, true);
    if (ctl->options.kind != NULL)
        return ctl_misused(ctl, "--kind is for a new model");
    if (strcmp(verb, "set") == 0)
        return ctl->args_len > 2 ? models_change(ctl, false)
                                 : ctl_misused(ctl, "which setting? NAME=VALUE");
    if (ctl->args_len > 2)
        return ctl_misused(ctl, "\"%.40s\" is too much", ctl->args[2]);
    if (strcmp(verb, "show") == 0)
        return models_show(ctl);
    if (strcmp(verb, "delete") == 0)
        return models_delete(ctl);
    return ctl_misused(ctl, "models cannot %.40s", verb);
}

/* ---- examples -------------------------------------------------------------------------------- */

static void example_cells(struct ctl_table *t, const struct json_value *row)
{
    ctl_table_json(t, json_member(row, "example"));
    ctl_table_json(t, json_member(row, "label"));
    ctl_table_json(t, json_member(row, "annotators"));
    ctl_table_json(t, json_member(row, "status"));
    ctl_table_json(t, json_member(row, "text"));
}

static const char *const example_heads[] = {"example", "label", "votes", "status", "text"};
static const struct ctl_kind examples = {"examples", "llrll", example_heads, example_cells, 50};

enum ctl_exit ctl_examples(struct ctl *ctl)
{
    const struct ctl_options *o = &ctl->options;
    struct api_buffer target = API_BUFFER_INIT;

    if (ctl->args_len > 1)
        return ctl_misused(ctl, "one example, or none for the list");
    if (ctl->args_len == 1) {
        ctl_target(&target, "/v1/examples/");
        ctl_target_name(&target, ctl->args[0]);
        return ctl_change(ctl, "GET", &target, NULL, &examples);
    }
    target = ctl_of_model(ctl, "/examples");
    ctl_target_query(&target, "label", o->label);
    ctl_target_query(&target, "annotator", o->annotator);
    ctl_target_query(&target, "status", o->status);
    ctl_target_query(&target, "q", o->contains);
    return ctl_browse(ctl, &examples, &target);
}
