/* ctl_verdict.c -- see ctl_verdict.h. */
#include "daemon/ctl/ctl_verdict.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/fnv.h"
#include "proto/json.h"

/* Versions of a text that are remembered, the latest. */
enum { SEEN = 4 };

struct seen_answer {
    uint64_t version, answer; /* hashes; version 0: free */
};

int ctl_verdict_open(struct ctl_verdict *v, size_t texts_len, const char *settled)
{
    *v = (struct ctl_verdict){.texts_len = texts_len};
    snprintf(v->settled, sizeof v->settled, "%s", settled);
    v->seen = calloc(texts_len * SEEN, sizeof *v->seen);
    return v->seen != NULL ? 0 : -ENOMEM;
}

void ctl_verdict_close(struct ctl_verdict *v)
{
    free(v->seen);
    v->seen = NULL;
}

static void count(struct ctl_verdict *v, long status, const char *code)
{
    struct ctl_error_count *e = v->errors;
    unsigned i = 0;

    v->refused++;
    while (i < v->errors_len && (e[i].status != status || strcmp(e[i].code, code) != 0))
        i++;
    if (i == v->errors_len && i == CTL_ERRORS_MAX) {
        i--;
    } else if (i == v->errors_len) {
        v->errors_len++;
        e[i].status = status;
        snprintf(e[i].code, sizeof e[i].code, "%s", code);
    }
    e[i].count++;
}

void ctl_verdict_none(struct ctl_verdict *v, const char *word)
{
    count(v, 0, word);
}

static void note(struct ctl_verdict *v, size_t text, const char *what)
{
    if (v->example[0] == '\0')
        snprintf(v->example, sizeof v->example, "text %zu: %s", text + 1, what);
}

/* NULL: an answer as it should be. */
static const char *wrong_with(const struct json_value *root)
{
    const struct json_value *results = json_member(root, "results"), *one = json_at(results, 0);
    const struct json_value *label = json_member(one, "label"), *score = json_member(one, "score");
    const char *version = json_text(json_member(root, "version"), NULL);
    bool empty = json_kind(label) == JSON_KIND_NULL;

    if (json_len(results) != 1)
        return "not one result";
    if (version == NULL || strlen(version) >= CTL_VERSION_BYTES || strchr(version, ',') != NULL)
        return "no version";
    if (json_text(json_member(one, "request_id"), NULL) == NULL)
        return "no request_id";
    if (!empty && json_text(label, NULL) == NULL)
        return "no label";
    if (empty && !json_bool(json_member(one, "abstain"), false))
        return "no label, and sure of it";
    if (empty && json_kind(score) != JSON_KIND_REAL && json_kind(score) != JSON_KIND_INT)
        return NULL;
    if (!(json_number(score, -1) >= 0 && json_number(score, -1) <= 1))
        return "a score that is no probability";
    return NULL;
}

/* Label, score and the set of labels; not what differs by nature: ids, times. */
static uint64_t hash_answer(const struct json_value *one)
{
    static const char *const parts[] = {"label", "score", "abstain", "labels", "novelty"};
    struct api_buffer text = API_BUFFER_INIT;
    uint64_t state;

    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const struct json_value *part = json_member(one, parts[i]);

        if (json_kind(part) != JSON_KIND_NONE)
            json_write_value(&text, part);
        api_buffer_add_string(&text, ";");
    }
    state = text.rc == 0 ? fnv_add(FNV_INIT, text.bytes, text.len) : 0;
    api_buffer_done(&text);
    return state;
}

/* False: this version answered this text otherwise before. */
static bool compare(struct ctl_verdict *v, size_t text, const char *version, uint64_t answer)
{
    struct seen_answer *seen = v->seen + text * SEEN;
    uint64_t key = fnv_add(FNV_INIT, version, strlen(version));

    for (int i = 0; i < SEEN; i++)
        if (seen[i].version == key)
            return seen[i].answer == answer || answer == 0;
    memmove(seen + 1, seen, (SEEN - 1) * sizeof *seen);
    seen[0] = (struct seen_answer){key, answer};
    return true;
}

static bool take_good(struct ctl_verdict *v, size_t text, const struct json_value *root,
                      struct ctl_verdict_answer *ret_answer)
{
    const struct json_value *one = json_at(json_member(root, "results"), 0);
    const char *why = wrong_with(root), *version;

    if (why != NULL) {
        v->invalid++;
        note(v, text, why);
        return false;
    }
    version = json_text(json_member(root, "version"), NULL);
    if (!compare(v, text, version, hash_answer(one))) {
        bool settled = strcmp(version, v->settled) == 0;

        v->differ += settled;
        v->differ_unsettled += !settled;
        if (settled)
            note(v, text, "two answers of one version");
    }
    snprintf(ret_answer->version, sizeof ret_answer->version, "%s", version);
    ret_answer->score = json_number(json_member(one, "score"), 0);
    return true;
}

bool ctl_verdict_take(struct ctl_verdict *v, size_t text, long status, const char *body,
                      size_t body_len, struct ctl_verdict_answer *ret_answer)
{
    struct json_value *root = NULL;
    bool good = false;

    if (json_parse(body, body_len, NULL, &root, NULL) != 0) {
        v->invalid++;
        note(v, text, "no JSON");
        return false;
    }
    if (status == 200) {
        good = take_good(v, text, root, ret_answer);
    } else {
        const char *code = json_text(json_member(root, "code"), NULL);

        count(v, status, code != NULL ? code : "error");
    }
    json_free(root);
    return good;
}
