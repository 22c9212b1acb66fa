/* ctl_labels.c -- labels: the list, and what becomes of one. */
#include <stdio.h>
#include <string.h>

#include "daemon/ctl/ctl_browse.h"

static void label_cells(struct ctl_table *t, const struct json_value *row)
{
    const struct json_value *aliases = json_member(row, "aliases");
    const char *into = json_text(json_member(row, "into"), NULL);
    struct api_buffer names = API_BUFFER_INIT;

    ctl_table_json(t, json_member(row, "label"));
    ctl_table_json(t, json_member(row, "examples"));
    if (into != NULL)
        ctl_table_printf(t, "now %s", into);
    else
        ctl_table_json(t, json_member(row, "status"));
    ctl_table_json(t, json_member(row, "score_min"));
    ctl_table_string(t, json_kind(json_member(row, "payload")) > JSON_KIND_NULL ? "yes" : NULL);
    ctl_table_time(t, json_member(row, "created"));
    for (size_t i = 0; i < json_len(aliases); i++) {
        if (i > 0)
            api_buffer_add_string(&names, ", ");
        api_buffer_add_string(&names, json_text(json_at(aliases, i), NULL));
    }
    ctl_table_cell(t, names.len > 0 ? names.bytes : NULL, names.len);
    api_buffer_done(&names);
}

static const char *const label_heads[] = {"label",   "examples", "status",   "score_min",
                                          "payload", "created",  "old names"};
static const struct ctl_kind labels = {"labels", "lrlrlll", label_heads, label_cells, UINT64_MAX};

static struct api_buffer of_label(const struct ctl *ctl, const char *tail)
{
    struct api_buffer target = ctl_of_model(ctl, "/labels/");

    ctl_target_name(&target, ctl->args[1]);
    ctl_target(&target, tail);
    return target;
}

/* Sends {"key":"value"} about target, which is consumed. */
static enum ctl_exit change_one(struct ctl *ctl, const char *method, struct api_buffer *target,
                                const char *key, const char *value)
{
    struct api_buffer body = API_BUFFER_INIT;
    enum ctl_exit code;

    json_open_object(&body);
    json_write_key(&body, key);
    json_write_string(&body, value);
    json_close_object(&body);
    code = ctl_change(ctl, method, target, &body, &labels);
    api_buffer_done(&body);
    return code;
}

static enum ctl_exit add(struct ctl *ctl)
{
    struct api_buffer target = ctl_of_model(ctl, "/labels");

    return change_one(ctl, "POST", &target, "label", ctl->args[1]);
}

static enum ctl_exit rename_label(struct ctl *ctl)
{
    struct api_buffer target = of_label(ctl, "");

    return change_one(ctl, "PATCH", &target, "label", ctl->args[2]);
}

static enum ctl_exit retire(struct ctl *ctl)
{
    struct api_buffer target = of_label(ctl, "");

    return ctl_change(ctl, "DELETE", &target, NULL, &labels);
}

static enum ctl_exit restore(struct ctl *ctl)
{
    struct api_buffer target = of_label(ctl, "");

    return change_one(ctl, "PATCH", &target, "status", "active");
}

static enum ctl_exit merge(struct ctl *ctl)
{
    struct api_buffer target = of_label(ctl, "/merge");

    return change_one(ctl, "POST", &target, "into", ctl->args[2]);
}

static enum ctl_exit split(struct ctl *ctl)
{
    struct api_buffer target = of_label(ctl, "/split"), body = API_BUFFER_INIT;
    enum ctl_exit code;

    json_open_object(&body);
    json_write_key(&body, "label");
    json_write_string(&body, ctl->args[2]);
    json_write_key(&body, "examples");
    json_open_array(&body);
    for (int i = 3; i < ctl->args_len; i++)
        json_write_string(&body, ctl->args[i]);
    json_close_array(&body);
    json_close_object(&body);
    code = ctl_change(ctl, "POST", &target, &body, &labels);
    api_buffer_done(&body);
    return code;
}

/* name=value: JSON as such, anything else as a text; an empty value takes away what was there. */
static bool write_setting(struct api_buffer *body, const char *name, const char *word)
{
    size_t len = strlen(name);
    struct json_value *value = NULL;

    if (strncmp(word, name, len) != 0 || word[len] != '=')
        return false;
    word += len + 1;
    json_write_key(body, name);
    if (*word == '\0')
        json_write_null(body);
    else if (json_parse(word, strlen(word), NULL, &value, NULL) == 0)
        json_write_value(body, value);
    else
        json_write_string(body, word);
    json_free(value);
    return true;
}

static enum ctl_exit set(struct ctl *ctl)
{
    struct api_buffer target, body = API_BUFFER_INIT;
    enum ctl_exit code = CTL_OK;

    json_open_object(&body);
    for (int i = 2; i < ctl->args_len && code == CTL_OK; i++)
        if (!write_setting(&body, "score_min", ctl->args[i]) &&
            !write_setting(&body, "payload", ctl->args[i]))
            code = ctl_misused(ctl, "\"%.40s\": set score_min=P or payload=JSON", ctl->args[i]);
    json_close_object(&body);
    if (code == CTL_OK) {
        target = of_label(ctl, "");
        code = ctl_change(ctl, "PATCH", &target, &body, &labels);
    }
    api_buffer_done(&body);
    return code;
}

static const struct act {
    const char *name;
    int args_min, args_max; /* the act's name is one */
    enum ctl_exit (*run)(struct ctl *ctl);
    const char *missing;
} acts[] = {
    {"add", 2, 2, add, "which label? One, in quotes if it holds spaces"},
    {"rename", 3, 3, rename_label, "which label, and its new name?"},
    {"retire", 2, 2, retire, "which label?"},
    {"restore", 2, 2, restore, "which label?"},
    {"merge", 3, 3, merge, "which label, and into which one?"},
    {"split", 4, 1003, split, "which label, what is its part called, and which examples are it?"},
    {"set", 3, 4, set, "which label, and score_min=P or payload=JSON?"},
};

enum ctl_exit ctl_labels(struct ctl *ctl)
{
    struct api_buffer target;

    if (ctl->args_len == 0) {
        target = ctl_of_model(ctl, "/labels");
        return ctl_browse(ctl, &labels, &target);
    }
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
        const struct act *a = &acts[i];

        if (strcmp(ctl->args[0], a->name) != 0)
            continue;
        if (ctl->args_len < a->args_min || ctl->args_len > a->args_max)
            return ctl_misused(ctl, "%s", a->missing);
        return a->run(ctl);
    }
    return ctl_misused(ctl, "labels cannot %.40s", ctl->args[0]);
}
