/* ctl_whole_import.c -- import --everything: what export --everything wrote, taught to a daemon
 * whose models of these names are empty or not there.
 *
 * By the API alone, so the daemon may be another machine (its encoders then must lie there under
 * the same path). The order of arrival makes no difference to what is learned: models, labels with
 * their old names, every vote as it stands, then what is retired, then the live encoder of each
 * model, as a forced import. Not carried over: ids of models and versions, times, examples without
 * a vote, and encoders that were only held.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ctl/ctl_call.h"
#include "daemon/ctl/ctl_lines.h"
#include "daemon/ctl/ctl_run.h"
#include "daemon/ctl/ctl_sheet.h"
#include "daemon/ctl/ctl_whole.h"
#include "proto/api.h"

enum { LINE_BYTES = 64 << 20, REQUEST_BYTES = 1 << 20, TOLD_MAX = 10 };

struct taking {
    struct ctl *ctl;
    const char *folder;
    struct api_buffer body;  /* lines of votes */
    size_t len;              /* of them */
    struct api_buffer small; /* another body */
    uint64_t models, labels, examples, silent, votes, rejected, encoders;
};

typedef enum ctl_exit row_fn(struct taking *t, const struct json_value *row);

/* ---- files ----------------------------------------------------------------------------------- */

static enum ctl_exit bad_line(const char *path, const struct ctl_lines *lines, const char *what)
{
    ctl_fail("file", "%s:%llu: %s", path, (unsigned long long)lines->number, what);
    return CTL_USAGE;
}

static enum ctl_exit on_line(struct taking *t, const char *path, const struct ctl_lines *lines,
                             row_fn *fn)
{
    static const struct json_limits limits = {LINE_BYTES, 32, 100000, 1000000};
    struct json_value *row = NULL;
    struct json_problem problem;
    enum ctl_exit code;

    if (lines->too_long)
        return bad_line(path, lines, "the line is too long");
    if (json_parse(lines->bytes, lines->len, &limits, &row, &problem) != 0)
        return bad_line(path, lines, problem.detail);
    code =
        json_kind(row) == JSON_KIND_OBJECT ? fn(t, row) : bad_line(path, lines, "is not an object");
    json_free(row);
    return code;
}

static enum ctl_exit walk(struct taking *t, const char *name, row_fn *fn)
{
    struct ctl_lines lines = {.bytes_max = LINE_BYTES};
    char path[CTL_STATE_BYTES];
    enum ctl_exit code = CTL_OK;
    int rc = 1;

    snprintf(path, sizeof path, "%s/%s.ndjson", t->folder, name);
    lines.file = fopen(path, "re");
    if (lines.file == NULL) {
        ctl_fail_file(path);
        return CTL_USAGE;
    }
    while (code == CTL_OK && (rc = ctl_lines_next(&lines)) == 1)
        code = on_line(t, path, &lines, fn);
    if (code == CTL_OK && rc < 0) {
        ctl_fail("file", "%s: %s", path, strerror(-rc));
        code = CTL_USAGE;
    }
    ctl_lines_done(&lines);
    fclose(lines.file);
    return code;
}

/* ---- requests -------------------------------------------------------------------------------- */

static const char *text_of(const struct json_value *row, const char *key)
{
    const char *text = json_text(json_member(row, key), NULL);

    return text != NULL ? text : "";
}

static void target_of(struct api_buffer *target, const char *model, const char *tail)
{
    *target = (struct api_buffer)API_BUFFER_INIT;
    ctl_target(target, "/v1/models/");
    ctl_target_name(target, model);
    ctl_target(target, tail);
}

/* body: t->small, or NULL. The target is consumed. */
static enum ctl_exit call(struct taking *t, const char *method, struct api_buffer *target,
                          const struct api_buffer *body)
{
    struct json_value *answer = NULL;
    const char *path = ctl_target_end(target);
    enum ctl_exit code = path != NULL && (body == NULL || body->rc == 0)
                             ? ctl_call(t->ctl, method, path, body, &answer)
                             : ctl_no_memory();

    json_free(answer);
    api_buffer_done(target);
    return code;
}

static struct api_buffer *begin(struct taking *t)
{
    api_buffer_reset(&t->small);
    json_open_object(&t->small);
    return &t->small;
}

static void member(struct api_buffer *body, const char *key, const struct json_value *value)
{
    json_write_key(body, key);
    json_write_value(body, value);
}

/* ---- models ---------------------------------------------------------------------------------- */

/* CTL_OK: it is not there, or empty (*ret_there). */
static enum ctl_exit look_at_model(struct taking *t, const char *name, bool *ret_there)
{
    struct json_value *there = NULL;
    struct api_buffer target;
    const char *path;
    long status = 0;
    enum ctl_exit code;

    target_of(&target, name, "");
    path = ctl_target_end(&target);
    code = path != NULL ? ctl_call_any(t->ctl, "GET", path, CTL_JSON, NULL, &status, NULL, &there)
                        : ctl_no_memory();
    api_buffer_done(&target);
    *ret_there = status == 200;
    if (code == CTL_OK && status == 200 &&
        json_int(json_member(there, "examples"), 0) + json_int(json_member(there, "labels"), 0) >
            0) {
        ctl_fail("file", "the daemon's model %.128s is not empty: nothing was imported", name);
        code = CTL_REFUSED;
    } else if (code == CTL_OK && status != 200 && status != 404) {
        code = ctl_call_refused(t->ctl, status, there);
    }
    json_free(there);
    return code;
}

/* All are looked at before anything is changed. */
static enum ctl_exit check_model(struct taking *t, const struct json_value *row)
{
    bool there;

    return look_at_model(t, text_of(row, "name"), &there);
}

/* An empty model gives way. */
static enum ctl_exit make_room(struct taking *t, const char *name)
{
    struct api_buffer target;
    bool there = false;
    enum ctl_exit code = look_at_model(t, name, &there);

    if (code != CTL_OK || !there)
        return code;
    target_of(&target, name, "");
    return call(t, "DELETE", &target, NULL);
}

static int write_setting(void *ud, const char *key, const struct json_value *value)
{
    struct api_buffer *body = ud;

    /* dim is said beside; a limit of an annotator's rate would stop the import. */
    if (strcmp(key, "dim") != 0 && strcmp(key, "annotator_rate_max") != 0)
        member(body, key, value);
    return 0;
}

static enum ctl_exit add_model(struct taking *t, const struct json_value *row)
{
    const struct json_value *settings = json_member(row, "settings");
    struct api_buffer target = API_BUFFER_INIT, *body;
    enum ctl_exit code = make_room(t, text_of(row, "name"));

    if (code != CTL_OK)
        return code;
    body = begin(t);
    member(body, "name", json_member(row, "name"));
    member(body, "kind", json_member(row, "kind"));
    if (json_int(json_member(settings, "dim"), 0) > 0) {
        ctl_write_member(body, "encoder", "none");
        member(body, "dim", json_member(settings, "dim"));
    }
    json_write_key(body, "settings");
    json_open_object(body);
    (void)json_each(settings, write_setting, body);
    json_close_object(body);
    json_close_object(body);
    ctl_target(&target, "/v1/models");
    t->models++;
    return call(t, "POST", &target, body);
}

/* ---- labels ---------------------------------------------------------------------------------- */

static void label_target(struct api_buffer *target, const char *model, const char *label)
{
    target_of(target, model, "/labels/");
    ctl_target_name(target, label);
}

static enum ctl_exit name_label(struct taking *t, const char *model, const char *old,
                                const char *name)
{
    struct api_buffer target, *body = begin(t);

    ctl_write_member(body, "label", name);
    json_close_object(body);
    if (old == NULL)
        target_of(&target, model, "/labels");
    else
        label_target(&target, model, old);
    return call(t, old == NULL ? "POST" : "PATCH", &target, body);
}

/* Its first name first, then each other, so that the old ones go on meaning it. */
static enum ctl_exit add_label(struct taking *t, const struct json_value *row)
{
    const struct json_value *aliases = json_member(row, "aliases");
    const struct json_value *score = json_member(row, "score_min");
    const struct json_value *payload = json_member(row, "payload");
    const char *model = text_of(row, "model"), *name = text_of(row, "label"), *old = NULL;
    struct api_buffer target, *body;
    enum ctl_exit code = CTL_OK;

    if (strcmp(text_of(row, "status"), "merged") == 0)
        return CTL_OK; /* its name is one of the other's */
    t->labels++;
    for (size_t i = 0; i < json_len(aliases) && code == CTL_OK; i++) {
        const char *alias = json_text(json_at(aliases, i), NULL);

        code = name_label(t, model, old, alias);
        old = alias;
    }
    if (code == CTL_OK)
        code = name_label(t, model, old, name);
    if (code != CTL_OK || (score == NULL && payload == NULL))
        return code;
    body = begin(t);
    if (score != NULL)
        member(body, "score_min", score);
    if (payload != NULL)
        member(body, "payload", payload);
    json_close_object(body);
    label_target(&target, model, name);
    return call(t, "PATCH", &target, body);
}

static enum ctl_exit retire_label(struct taking *t, const struct json_value *row)
{
    struct api_buffer target;

    if (strcmp(text_of(row, "status"), "retired") != 0)
        return CTL_OK;
    label_target(&target, text_of(row, "model"), text_of(row, "label"));
    return call(t, "DELETE", &target, NULL);
}

/* ---- votes ----------------------------------------------------------------------------------- */

static enum ctl_exit flush(struct taking *t)
{
    struct json_value *answer = NULL;
    const struct json_value *rejected;
    long status = 0;
    enum ctl_exit code;

    if (t->len == 0)
        return CTL_OK;
    code = ctl_call_again(t->ctl, "POST", "/v1/feedback", CTL_NDJSON, &t->body, &status, &answer);
    if (code == CTL_OK && status / 100 != 2)
        code = ctl_call_refused(t->ctl, status, answer);
    rejected = json_member(answer, "rejected");
    for (size_t i = 0; code == CTL_OK && i < json_len(rejected); i++)
        if (t->rejected++ < TOLD_MAX)
            ctl_fail("failed", "a vote was refused: %.60s: %.200s",
                     text_of(json_at(rejected, i), "code"),
                     text_of(json_at(rejected, i), "detail"));
    json_free(answer);
    api_buffer_reset(&t->body);
    t->len = 0;
    return code;
}

/* The members that every vote on the example has. */
static void begin_vote(struct taking *t, const struct json_value *row,
                       const struct json_value *vote, size_t number)
{
    struct api_buffer *out = &t->body;
    char key[64];

    json_open_object(out);
    member(out, "model", json_member(row, "model"));
    if (json_member(row, "text") != NULL)
        member(out, "text", json_member(row, "text"));
    else
        member(out, "vector", json_member(row, "vector"));
    if (json_member(row, "text_pair") != NULL)
        member(out, "text_pair", json_member(row, "text_pair"));
    if (text_of(vote, "annotator")[0] != '\0')
        member(out, "annotator", json_member(vote, "annotator"));
    member(out, "weight", json_member(vote, "weight"));
    snprintf(key, sizeof key, "whole-%.32s-%zu", text_of(row, "example"), number);
    ctl_write_member(out, "idempotency_key", key);
}

static enum ctl_exit end_vote(struct taking *t)
{
    json_close_object(&t->body);
    api_buffer_add(&t->body, "\n", 1);
    t->votes++;
    t->len++;
    if (t->body.rc != 0)
        return ctl_no_memory();
    return t->len == API_ITEMS_MAX || t->body.len > REQUEST_BYTES ? flush(t) : CTL_OK;
}

static bool same_annotator(const struct json_value *a, const struct json_value *b)
{
    return strcmp(text_of(a, "annotator"), text_of(b, "annotator")) == 0;
}

/* A set: the labels that this annotator gave. */
static void write_set(struct taking *t, const struct json_value *votes,
                      const struct json_value *opinion)
{
    json_write_key(&t->body, "labels");
    json_open_array(&t->body);
    for (size_t i = 0; i < json_len(votes); i++) {
        const struct json_value *v = json_at(votes, i);

        if (same_annotator(v, opinion) && json_member(v, "label") != NULL &&
            !json_bool(json_member(v, "against"), false))
            json_write_value(&t->body, json_member(v, "label"));
    }
    json_close_array(&t->body);
}

/* Has the annotator of this vote a set, which holds it? */
static bool in_a_set(const struct json_value *votes, const struct json_value *vote)
{
    for (size_t i = 0; i < json_len(votes); i++)
        if (json_member(json_at(votes, i), "label") == NULL &&
            same_annotator(json_at(votes, i), vote))
            return true;
    return false;
}

static enum ctl_exit add_example(struct taking *t, const struct json_value *row)
{
    const struct json_value *votes = json_member(row, "votes");
    enum ctl_exit code = CTL_OK;

    t->examples += json_len(votes) > 0;
    t->silent += json_len(votes) == 0;
    for (size_t i = 0; i < json_len(votes) && code == CTL_OK; i++) {
        const struct json_value *vote = json_at(votes, i);
        bool against = json_bool(json_member(vote, "against"), false);

        if (json_member(vote, "label") != NULL && !against && in_a_set(votes, vote))
            continue;
        begin_vote(t, row, vote, i);
        if (json_member(vote, "label") == NULL)
            write_set(t, votes, vote);
        else
            member(&t->body, "label", json_member(vote, "label"));
        if (against)
            ctl_write_member(&t->body, "action", "reject");
        code = end_vote(t);
    }
    return code;
}

/* ---- encoders -------------------------------------------------------------------------------- */

static enum ctl_exit finish_model(struct taking *t, const struct json_value *row)
{
    const struct json_value *settings = json_member(row, "settings");
    const struct json_value *rate = json_member(settings, "annotator_rate_max");
    int64_t encoder = json_int(json_member(row, "encoder"), 0);
    char folder[CTL_STATE_BYTES], *whole;
    struct api_buffer target, *body;
    enum ctl_exit code = CTL_OK;

    if (json_int(rate, 0) > 0) {
        body = begin(t);
        json_write_key(body, "settings");
        json_open_object(body);
        member(body, "annotator_rate_max", rate);
        json_close_object(body);
        json_close_object(body);
        target_of(&target, text_of(row, "name"), "");
        code = call(t, "PATCH", &target, body);
    }
    if (code != CTL_OK || encoder == 0)
        return code;
    snprintf(folder, sizeof folder, "%s/encoders/%lld", t->folder, (long long)encoder);
    whole = realpath(folder, NULL);
    if (whole == NULL) {
        ctl_fail_file(folder);
        return CTL_USAGE;
    }
    body = begin(t);
    ctl_write_member(body, "folder", whole);
    json_write_key(body, "force");
    json_write_bool(body, true);
    json_close_object(body);
    free(whole);
    target_of(&target, text_of(row, "name"), "/import");
    t->ctl->options.watch = true;
    t->encoders++;
    return ctl_run_ask(t->ctl, &target, body);
}

static enum ctl_exit take_all(struct taking *t)
{
    enum ctl_exit code = walk(t, "models", check_model);

    if (code == CTL_OK)
        code = walk(t, "models", add_model);
    if (code == CTL_OK)
        code = walk(t, "labels", add_label);
    if (code == CTL_OK)
        code = walk(t, "examples", add_example);
    if (code == CTL_OK)
        code = flush(t);
    if (code == CTL_OK)
        code = walk(t, "labels", retire_label);
    return code == CTL_OK ? walk(t, "models", finish_model) : code;
}

enum ctl_exit ctl_import_everything(struct ctl *ctl)
{
    struct taking t = {.ctl = ctl};
    enum ctl_exit code;

    if (ctl->args_len != 1)
        return ctl_misused(ctl, "--everything comes from one folder");
    t.folder = ctl->args[0];
    code = take_all(&t);
    if (code == CTL_OK && !ctl->options.quiet)
        ctl_note("%llu models, %llu labels, %llu examples with %llu votes, %llu encoders; %llu "
                 "examples have no vote and stayed behind",
                 (unsigned long long)t.models, (unsigned long long)t.labels,
                 (unsigned long long)t.examples, (unsigned long long)t.votes,
                 (unsigned long long)t.encoders, (unsigned long long)t.silent);
    api_buffer_done(&t.body);
    api_buffer_done(&t.small);
    return code == CTL_OK && t.rejected > 0 ? CTL_PARTLY : code;
}
