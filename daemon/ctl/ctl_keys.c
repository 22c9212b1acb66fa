/* ctl_keys.c -- keys, who one is, and the trail of who changed what. */
#include <stdio.h>
#include <string.h>

#include "daemon/ctl/ctl_browse.h"

static void key_cells(struct ctl_table *t, const struct json_value *row)
{
    ctl_table_json(t, json_member(row, "id"));
    ctl_table_json(t, json_member(row, "name"));
    ctl_table_json(t, json_member(row, "role"));
    ctl_table_json(t, json_member(row, "state"));
    ctl_table_json(t, json_member(row, "rate_per_s"));
    ctl_table_json(t, json_member(row, "requests"));
    ctl_table_json(t, json_member(row, "corrections"));
    ctl_table_time(t, json_member(row, "last_used"));
    ctl_table_time(t, json_member(row, "expires_at"));
}

static const char *const key_heads[] = {"id",       "name",        "role",      "state",  "rate/s",
                                        "requests", "corrections", "last used", "expires"};
static const struct ctl_kind keys = {"keys", "rlllrrrll", key_heads, key_cells, UINT64_MAX};

static enum ctl_exit list(struct ctl *ctl)
{
    struct api_buffer target = API_BUFFER_INIT;

    ctl_target(&target, "/v1/keys");
    return ctl_browse(ctl, &keys, &target);
}

/* The key alone goes to stdout, so that it can be put where it belongs without being seen. */
static enum ctl_exit show_created(struct ctl *ctl, const struct json_value *answer)
{
    const char *key = json_text(json_member(answer, "key"), NULL);

    if (ctl->options.json)
        return ctl_print_json(answer);
    printf("%s\n", key != NULL ? key : "");
    if (!ctl->options.quiet)
        ctl_say("that is the key of %s, number %lld; it is not shown again", ctl->args[1],
                (long long)json_int(json_member(answer, "id"), 0));
    return CTL_OK;
}

static enum ctl_exit create(struct ctl *ctl)
{
    const struct ctl_options *o = &ctl->options;
    struct api_buffer body = API_BUFFER_INIT;
    struct json_value *answer = NULL;
    enum ctl_exit code;

    json_open_object(&body);
    json_write_key(&body, "name");
    json_write_string(&body, ctl->args[1]);
    json_write_key(&body, "role");
    json_write_string(&body, ctl->args[2]);
    if (o->rate >= 0) {
        json_write_key(&body, "rate_per_s");
        json_write_number(&body, o->rate);
    }
    if (o->expires != NULL) {
        json_write_key(&body, "expires_at");
        json_write_string(&body, o->expires);
    }
    json_close_object(&body);
    code = ctl_call(ctl, "POST", "/v1/keys", &body, &answer);
    if (code == CTL_OK)
        code = show_created(ctl, answer);
    json_free(answer);
    api_buffer_done(&body);
    return code;
}

static enum ctl_exit revoke(struct ctl *ctl)
{
    struct api_buffer target = API_BUFFER_INIT;

    ctl_target(&target, "/v1/keys/");
    ctl_target_name(&target, ctl->args[1]);
    return ctl_change(ctl, "DELETE", &target, NULL, &keys);
}

static enum ctl_exit me(struct ctl *ctl)
{
    struct json_value *answer = NULL;
    enum ctl_exit code = ctl_call(ctl, "GET", "/v1/me", NULL, &answer);
    struct api_buffer name = API_BUFFER_INIT;
    const char *text;

    if (code == CTL_OK && ctl->options.json)
        code = ctl_print_json(answer);
    else if (code == CTL_OK) {
        text = json_text(json_get(answer, "key.name"), NULL);
        if (text != NULL)
            ctl_clean(&name, text, strlen(text));
        printf("%s%s%.*s\n", json_text(json_member(answer, "role"), NULL),
               text != NULL ? ", by the key " : ", without a key", (int)name.len,
               name.len > 0 ? name.bytes : "");
    }
    api_buffer_done(&name);
    json_free(answer);
    return code;
}

enum ctl_exit ctl_keys(struct ctl *ctl)
{
    const struct ctl_options *o = &ctl->options;
    const char *verb = ctl->args_len > 0 ? ctl->args[0] : "list";
    static const struct {
        const char *verb;
        int args;
        const char *missing;
        enum ctl_exit (*run)(struct ctl *ctl);
    } verbs[] = {{"list", 1, "", list},
                 {"create", 3, "which name, and role predict, annotate or admin?", create},
                 {"revoke", 2, "which key? Its number, as the list shows it", revoke},
                 {"me", 1, "", me}};

    if (strcmp(verb, "create") != 0 && (o->rate >= 0 || o->expires != NULL))
        return ctl_misused(ctl, "--rate and --expires are for a new key");
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(verbs[i].verb, verb) != 0)
            continue;
        if (ctl->args_len > verbs[i].args)
            return ctl_misused(ctl, "\"%.40s\" is too much", ctl->args[verbs[i].args]);
        if (verbs[i].args > 1 && ctl->args_len < verbs[i].args)
            return ctl_misused(ctl, "%s", verbs[i].missing);
        return verbs[i].run(ctl);
    }
    return ctl_misused(ctl, "keys cannot %.40s", verb);
}

/* ---- the trail ------------------------------------------------------------------------------- */

static void act_cells(struct ctl_table *t, const struct json_value *row)
{
    ctl_table_time(t, json_member(row, "time"));
    ctl_table_json(t, json_member(row, "who"));
    ctl_table_json(t, json_member(row, "address"));
    ctl_table_json(t, json_member(row, "action"));
    ctl_table_json(t, json_member(row, "object"));
}

static const char *const act_heads[] = {"time", "who", "address", "action", "object"};
static const struct ctl_kind acts = {"audit", "lllll", act_heads, act_cells, 50};

enum ctl_exit ctl_audit(struct ctl *ctl)
{
    const struct ctl_options *o = &ctl->options;
    struct api_buffer target = API_BUFFER_INIT;

    if (ctl->args_len > 0)
        return ctl_misused(ctl, "\"%.40s\" is too much", ctl->args[0]);
    ctl_target(&target, "/v1/audit");
    ctl_target_query(&target, "before", o->before);
    ctl_target_query(&target, "key", o->by);
    ctl_target_query(&target, "action", o->action);
    return ctl_browse(ctl, &acts, &target);
}
