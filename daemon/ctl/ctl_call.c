/* ctl_call.c -- see ctl_call.h. */
#include "daemon/ctl/ctl_call.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/ctl/ctl_http.h"
#include "daemon/ctl/ctl_table.h"

enum {
    TRIES = 5, /* of a request that a busy daemon puts off */
    WAIT_S_MAX = 5,
};

/* What to do about a problem of the daemon. */
static const struct {
    const char *code, *hint;
} HINTS[] = {
    {"unknown_model", "`learnctl models` lists them; `learnctl models create NAME` makes one"},
    {"unknown_label", "`learnctl labels` lists them; `learnctl labels add LABEL` makes one"},
    {"unknown_example", "`learnctl examples` lists them with their ids"},
    {"unknown_request", "it is too long ago; give the text itself"},
    {"unknown_version", "`learnctl versions` lists them"},
    {"unknown_key", "`learnctl keys` lists them"},
    {"key_exists", "`learnctl keys` lists them; `learnctl keys revoke KEY` makes room"},
    {"first_key", "`learnctl keys create NAME admin` makes it"},
    {"last_admin_key", "`learnctl keys create NAME admin` makes another one"},
    {"rate_limited", "wait, or ask for a key of a higher rate"},
    {"unknown_run", "`learnctl runs` lists them"},
    {"version_not_held", "`learnctl encoders` lists what is held"},
    {"run_exists", "`learnctl runs --watch` shows it; `learnctl cancel RUN` stops it"},
    {"run_swapping", "try again in a moment"},
    {"too_few_examples", "teach more first: `learnctl teach` or `learnctl import`"},
    {"not_an_encoder", "a folder on the server, with model.safetensors and config.json"},
    {"no_vote", "--annotator says whose vote it is"},
    {"model_exists", "`learnctl models` lists them"},
    {"label_exists", "`learnctl labels` lists them, with their old names"},
    {"label_merged", "`learnctl labels` says into which; name that one"},
    {"label_retired", "`learnctl labels restore LABEL` brings it back"},
    {"idempotency_conflict", "--batch WORD gives the rows other keys"},
    {"text_too_long", "--truncate right cuts it"},
    {"body_too_large", "give fewer or shorter texts at once"},
    {"queue_full", "the daemon has too much to do; try again in a moment"},
    {"too_many_streams", "others watch already; end one of them"},
    {"shutting_down", "the daemon stops; try again when it is back"},
    {"disk_full", "make room where the daemon keeps its state, then repeat the command"},
    {"immutable_field",
     "make another model with these settings: `learnctl models create NAME ...`"},
    {"deadline_exceeded", "give more time: --deadline MS"},
};

static const char *find_hint(long status, const char *code)
{
    for (size_t i = 0; i < sizeof HINTS / sizeof *HINTS; i++)
        if (strcmp(HINTS[i].code, code) == 0)
            return HINTS[i].hint;
    if (status == 401)
        return "give a key: --key-file FILE, or LEARNCTL_KEY";
    return status == 403 ? "this key may not do that; ask for one that may" : NULL;
}

enum ctl_exit ctl_no_memory(void)
{
    ctl_fail("no_memory", "no memory");
    return CTL_FAILED;
}

const char *ctl_model(const struct ctl *ctl)
{
    return ctl->options.model != NULL ? ctl->options.model : "default";
}

/* ---- targets --------------------------------------------------------------------------------- */

void ctl_target(struct api_buffer *target, const char *literal)
{
    api_buffer_add_string(target, literal);
}

void ctl_target_name(struct api_buffer *target, const char *name)
{
    for (; *name != '\0'; name++) {
        char escape[4];

        if ((*name >= 'a' && *name <= 'z') || (*name >= 'A' && *name <= 'Z') ||
            (*name >= '0' && *name <= '9') || strchr("-._~", *name) != NULL) {
            api_buffer_add(target, name, 1);
        } else {
            snprintf(escape, sizeof escape, "%%%02X", (unsigned char)*name);
            api_buffer_add_string(target, escape);
        }
    }
}

void ctl_target_query(struct api_buffer *target, const char *name, const char *value)
{
    if (value == NULL)
        return;
    api_buffer_add(target, memchr(target->bytes, '?', target->len) != NULL ? "&" : "?", 1);
    api_buffer_add_string(target, name);
    api_buffer_add(target, "=", 1);
    ctl_target_name(target, value);
}

const char *ctl_target_end(struct api_buffer *target)
{
    api_buffer_add(target, "", 1);
    return target->rc == 0 ? target->bytes : NULL;
}

/* ---- answers --------------------------------------------------------------------------------- */

enum ctl_exit ctl_print_buffer(struct api_buffer *buffer)
{
    bool good = buffer->rc == 0;

    if (good) {
        fwrite(buffer->bytes, 1, buffer->len, stdout);
        putchar('\n');
    }
    api_buffer_done(buffer);
    return good ? CTL_OK : ctl_no_memory();
}

enum ctl_exit ctl_print_json(const struct json_value *value)
{
    struct api_buffer line = API_BUFFER_INIT;

    json_write_value(&line, value);
    return ctl_print_buffer(&line);
}

enum ctl_exit ctl_call_unreachable(const struct ctl *ctl, int rc)
{
    const char *hint = NULL;

    if (rc == -ECONNREFUSED)
        hint = "is learnd running? Start it with `make run`, or name it with --url";
    else if (rc == -ENXIO)
        hint = "look at --url (or LEARNCTL_URL)";
    else if (rc == -ETIMEDOUT)
        hint = "--timeout SECONDS waits longer";
    else if (rc == -EPIPE)
        hint = "did learnd stop? What it answered is kept; the rest can be sent again";
    ctl_fail("unreachable", "cannot reach %s: %s", ctl->options.url, ctl_http_why(ctl->http));
    ctl_hint(hint);
    return CTL_FAILED;
}

enum ctl_exit ctl_call_any(struct ctl *ctl, const char *method, const char *target,
                           const char *content_type, const struct api_buffer *body,
                           long *ret_status, long *ret_retry_after_s,
                           struct json_value **ret_answer)
{
    struct ctl_answer answer;
    struct json_value *root = NULL;
    int rc;

    if (body != NULL && body->rc != 0)
        return ctl_no_memory();
    rc = ctl_http_send(ctl->http, method, target, content_type, body, &answer);
    if (rc != 0)
        return ctl_call_unreachable(ctl, rc);
    if (answer.body.len > 0)
        rc = json_parse(answer.body.bytes, answer.body.len, NULL, &root, NULL);
    api_buffer_done(&answer.body);
    if (rc == -ENOMEM)
        return ctl_no_memory();
    /* learnd's answers are objects; the status alone is an answer where there is no body. */
    if (rc != 0 || (root != NULL && json_kind(root) != JSON_KIND_OBJECT) ||
        (root == NULL && answer.status / 100 != 2)) {
        json_free(root);
        ctl_fail("not_learnd", "%s answers %ld, and not as learnd does", ctl->options.url,
                 answer.status);
        ctl_hint("does --url name a learnd?");
        return CTL_FAILED;
    }
    *ret_status = answer.status;
    if (ret_retry_after_s != NULL)
        *ret_retry_after_s = answer.retry_after_s;
    *ret_answer = root;
    return CTL_OK;
}

static void wait_s(long seconds)
{
    struct timespec left = {.tv_sec = seconds < 1            ? 1
                                      : seconds > WAIT_S_MAX ? WAIT_S_MAX
                                                             : seconds};

    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}

enum ctl_exit ctl_call_again(struct ctl *ctl, const char *method, const char *target,
                             const char *content_type, const struct api_buffer *body,
                             long *ret_status, struct json_value **ret_answer)
{
    for (int attempt = 1;; attempt++) {
        struct json_value *answer = NULL;
        long status = 0, pause_s = 0;
        enum ctl_exit code =
            ctl_call_any(ctl, method, target, content_type, body, &status, &pause_s, &answer);

        if (code != CTL_OK || status != 503 || attempt == TRIES) {
            *ret_status = status;
            *ret_answer = answer;
            return code;
        }
        json_free(answer);
        wait_s(pause_s);
    }
}

void ctl_write_problem(struct api_buffer *out, const char *code, const char *detail,
                       const char *field)
{
    code = code != NULL ? code : "error";
    detail = detail != NULL ? detail : "";
    ctl_clean(out, code, strlen(code));
    api_buffer_add_string(out, ": ");
    ctl_clean(out, detail, strlen(detail));
    if (field != NULL && field[0] != '\0') {
        api_buffer_add_string(out, " (");
        ctl_clean(out, field, strlen(field));
        api_buffer_add_string(out, ")");
    }
}

enum ctl_exit ctl_call_refused(struct ctl *ctl, long status, const struct json_value *problem)
{
    const char *code = json_text(json_member(problem, "code"), NULL);
    const char *detail = json_text(json_member(problem, "detail"), NULL);
    const char *field = json_text(json_member(problem, "field"), NULL);
    struct api_buffer line = API_BUFFER_INIT;

    if (ctl->options.json) {
        ctl_print_error(code != NULL ? code : "error", detail != NULL ? detail : "", field, status);
    } else {
        ctl_write_problem(&line, code, detail, field);
        if (line.rc == 0)
            ctl_say("%.*s", (int)line.len, line.bytes);
        api_buffer_done(&line);
        ctl_hint(find_hint(status, code != NULL ? code : ""));
    }
    return status >= 400 && status < 500 ? CTL_REFUSED : CTL_FAILED;
}

enum ctl_exit ctl_call(struct ctl *ctl, const char *method, const char *target,
                       const struct api_buffer *body, struct json_value **ret_answer)
{
    struct json_value *answer = NULL;
    long status = 0;
    enum ctl_exit code = ctl_call_any(ctl, method, target, CTL_JSON, body, &status, NULL, &answer);

    if (code == CTL_OK && status / 100 != 2) {
        code = ctl_call_refused(ctl, status, answer);
        json_free(answer);
    } else if (code == CTL_OK) {
        *ret_answer = answer;
    }
    return code;
}

enum ctl_exit ctl_call_model(struct ctl *ctl, struct json_value **ret_model)
{
    struct api_buffer target = API_BUFFER_INIT;
    enum ctl_exit code;
    const char *path;

    ctl_target(&target, "/v1/models/");
    ctl_target_name(&target, ctl_model(ctl));
    path = ctl_target_end(&target);
    code = path != NULL ? ctl_call(ctl, "GET", path, NULL, ret_model) : ctl_no_memory();
    api_buffer_done(&target);
    return code;
}
