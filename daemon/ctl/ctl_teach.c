/* ctl_teach.c -- teach, confirm, reject, withdraw, forget: one correction, or one label for many
 * texts.
 *
 * What is sent as one item is refused as a whole; of many, each stands alone, and the exit code
 * says whether all, some or none were taken. Many are sent a thousand at a time, which is what the
 * daemon takes.
 */
#include <stdio.h>
#include <string.h>

#include "daemon/ctl/ctl_call.h"
#include "daemon/ctl/ctl_table.h"
#include "daemon/ctl/ctl_texts.h"
#include "proto/api.h"

enum { PAGE_BYTES = 1 << 20 };

struct lesson {
    struct ctl *ctl;
    const char *action;        /* NULL: label */
    const char *const *labels; /* (labels_len) one is sent as label */
    size_t labels_len;
    bool none; /* the empty set */
    struct api_buffer items;
    uint64_t numbers[API_ITEMS_MAX]; /* (len) of the texts of the page */
    size_t len;
    uint64_t accepted, duplicates, rejected;
};

static void write_field(struct api_buffer *body, const char *name, const char *value)
{
    if (value == NULL)
        return;
    json_write_key(body, name);
    json_write_string(body, value);
}

static void write_labels(struct lesson *l)
{
    if (l->labels_len == 1)
        write_field(&l->items, "label", l->labels[0]);
    if (l->labels_len < 2 && !l->none)
        return;
    json_write_key(&l->items, "labels");
    json_open_array(&l->items);
    for (size_t i = 0; i < l->labels_len; i++)
        json_write_string(&l->items, l->labels[i]);
    json_close_array(&l->items);
}

/* An item: what it is about (its name and bytes), and all that the flags say. */
static void add(struct lesson *l, const char *about, const char *bytes, size_t len)
{
    const struct ctl_options *o = &l->ctl->options;

    json_open_object(&l->items);
    write_field(&l->items, "model", ctl_model(l->ctl));
    json_write_key(&l->items, about);
    json_write_text(&l->items, bytes, len);
    write_field(&l->items, "text_pair", o->pair);
    write_field(&l->items, "action", l->action);
    write_labels(l);
    write_field(&l->items, "annotator", o->annotator);
    write_field(&l->items, "source", o->source);
    if (o->weight >= 0) {
        json_write_key(&l->items, "weight");
        json_write_number(&l->items, o->weight);
    }
    if (o->no_new_labels) {
        json_write_key(&l->items, "create_labels");
        json_write_bool(&l->items, false);
    }
}

static void print_rejected(struct lesson *l, const struct json_value *one)
{
    int64_t index = json_int(json_member(one, "index"), 0);
    struct api_buffer out = API_BUFFER_INIT;

    ctl_write_problem(&out, json_text(json_member(one, "code"), NULL),
                      json_text(json_member(one, "detail"), NULL),
                      json_text(json_member(one, "field"), NULL));
    ctl_say("text %llu: %.*s",
            (unsigned long long)(index >= 0 && (size_t)index < l->len ? l->numbers[index] : 0),
            (int)out.len, out.len > 0 ? out.bytes : "");
    api_buffer_done(&out);
}

static enum ctl_exit count(struct lesson *l, const struct json_value *answer)
{
    const struct json_value *accepted = json_member(answer, "accepted");
    const struct json_value *rejected = json_member(answer, "rejected");

    for (size_t i = 0; i < json_len(accepted); i++)
        l->duplicates += json_bool(json_member(json_at(accepted, i), "duplicate"), false);
    l->accepted += json_len(accepted);
    l->rejected += json_len(rejected);
    if (l->ctl->options.json)
        return ctl_print_json(answer);
    for (size_t i = 0; i < json_len(rejected); i++)
        print_rejected(l, json_at(rejected, i));
    for (size_t i = 0; i < json_len(accepted) && !l->ctl->options.quiet; i++) {
        const char *id = json_text(json_get(json_at(accepted, i), "example"), NULL);
        bool made = json_bool(json_member(json_at(accepted, i), "label_created"), false);

        printf("%s%s\n", id != NULL ? id : "-", made ? "  a new label" : "");
    }
    return CTL_OK;
}

/* Sends what was gathered, as one item or as a list. */
static enum ctl_exit send_page(struct lesson *l, bool alone)
{
    struct api_buffer body = API_BUFFER_INIT;
    struct json_value *answer = NULL;
    enum ctl_exit code;

    if (l->items.rc != 0)
        return ctl_no_memory();
    if (alone) {
        api_buffer_add(&body, l->items.bytes, l->items.len - 1); /* open again, for wait */
    } else {
        json_open_object(&body);
        json_write_key(&body, "items");
        json_open_array(&body);
        json_write_raw(&body, l->items.bytes, l->items.len);
        json_close_array(&body);
    }
    write_field(&body, "wait", l->ctl->options.wait);
    json_close_object(&body);
    code = ctl_call(l->ctl, "POST", "/v1/feedback", &body, &answer);
    if (code == CTL_OK)
        code = count(l, answer);
    json_free(answer);
    api_buffer_done(&body);
    api_buffer_reset(&l->items);
    l->len = 0;
    return code;
}

/* Of one item: what the flags name. */
static enum ctl_exit teach_one(struct lesson *l, const char *about, const char *what)
{
    enum ctl_exit code;

    add(l, about, what, strlen(what));
    json_close_object(&l->items);
    code = send_page(l, true);
    api_buffer_done(&l->items);
    return code;
}

static enum ctl_exit teach_texts(struct lesson *l, struct ctl_texts *texts)
{
    bool any = true, first_page = true;
    enum ctl_exit code = CTL_OK;
    struct ctl_text text;

    while (code == CTL_OK && any) {
        code = ctl_texts_next(texts, &text, &any);
        if (code == CTL_OK && any) {
            add(l, "text", text.bytes, text.len);
            json_close_object(&l->items);
            l->numbers[l->len++] = text.number;
        }
        if (code == CTL_OK && l->len > 0 &&
            (!any || l->len == API_ITEMS_MAX || l->items.len >= PAGE_BYTES)) {
            code = send_page(l, first_page && !any && l->len == 1);
            first_page = false;
        }
    }
    if (code == CTL_OK && l->accepted + l->rejected == 0)
        return ctl_misused(l->ctl, "there is no text");
    if (code != CTL_OK || l->rejected == 0)
        return code;
    return l->accepted > 0 ? CTL_PARTLY : CTL_REFUSED;
}

/* How many of the flags say what it is about, and the one that does. */
static int named(const struct ctl_options *o, const char **ret_about, const char **ret_what)
{
    const struct {
        const char *name, *value;
    } ways[] = {{"request_id", o->request}, {"example", o->example}, {"text", o->text}};
    int given = 0;

    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        if (ways[i].value == NULL)
            continue;
        given++;
        *ret_about = ways[i].name;
        *ret_what = ways[i].value;
    }
    return given;
}

enum ctl_exit ctl_teach(struct ctl *ctl)
{
    const struct ctl_options *o = &ctl->options;
    struct lesson l = {
        .ctl = ctl, .labels = o->labels, .labels_len = o->labels_len, .none = o->none};
    const char *about = NULL, *what = NULL, *first_label;
    struct ctl_texts texts;
    int ways = named(&ctl->options, &about, &what), first = 0;
    enum ctl_exit code;

    if (l.none && l.labels_len > 0)
        return ctl_misused(ctl, "--none or --label: one of them");
    if (l.labels_len == 0 && !l.none) {
        if (ctl->args_len < 1)
            return ctl_misused(ctl, "which label?");
        first_label = ctl->args[first++];
        l.labels = &first_label;
        l.labels_len = 1;
    }
    if (ways > 1 || (ways == 1 && (ctl->args_len > first || ctl->options.file != NULL)))
        return ctl_misused(ctl, "give texts, --request or --example: one of them");
    if (ways == 1)
        return teach_one(&l, about, what);
    code = ctl_texts_open(ctl, first, &texts);
    if (code == CTL_OK)
        code = teach_texts(&l, &texts);
    ctl_texts_close(&texts);
    api_buffer_done(&l.items);
    return code;
}

static enum ctl_exit judge(struct ctl *ctl, const char *action)
{
    struct lesson l = {.ctl = ctl,
                       .action = action,
                       .labels = ctl->options.labels,
                       .labels_len = ctl->options.labels_len};
    const char *about = NULL, *what = NULL;

    if (ctl->args_len > 0)
        return ctl_misused(ctl, "\"%.40s\" is too much: --text, --request or --example says which",
                           ctl->args[0]);
    if (named(&ctl->options, &about, &what) != 1)
        return ctl_misused(ctl, "give --request, --example or --text: one of them");
    return teach_one(&l, about, what);
}

enum ctl_exit ctl_confirm(struct ctl *ctl)
{
    return judge(ctl, "confirm");
}

enum ctl_exit ctl_reject(struct ctl *ctl)
{
    return judge(ctl, "reject");
}

enum ctl_exit ctl_withdraw(struct ctl *ctl)
{
    struct lesson l = {.ctl = ctl, .action = "withdraw"};

    if (ctl->args_len != 1)
        return ctl_misused(ctl, "which example?");
    return teach_one(&l, "example", ctl->args[0]);
}

enum ctl_exit ctl_forget(struct ctl *ctl)
{
    enum ctl_exit code = CTL_OK;

    if (ctl->args_len < 1)
        return ctl_misused(ctl, "which example?");
    for (int i = 0; i < ctl->args_len && code == CTL_OK; i++) {
        struct api_buffer target = API_BUFFER_INIT;
        struct json_value *answer = NULL;
        const char *path;

        ctl_target(&target, "/v1/examples/");
        ctl_target_name(&target, ctl->args[i]);
        path = ctl_target_end(&target);
        code = path != NULL ? ctl_call(ctl, "DELETE", path, NULL, &answer) : ctl_no_memory();
        json_free(answer);
        api_buffer_done(&target);
    }
    return code;
}
