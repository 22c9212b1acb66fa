/* ctl_encoders.c -- versions and encoders: what was live, going back, carrying one away and in. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/ctl/ctl_browse.h"
#include "daemon/ctl/ctl_http.h"
#include "daemon/ctl/ctl_run.h"

enum { PATH_BYTES = 4096 };

/* Of one or two arguments the first of two is the model; the last is returned, or NULL. */
static const char *last_of(struct ctl *ctl)
{
    if (ctl->args_len < 1 || ctl->args_len > 2)
        return NULL;
    if (ctl->args_len == 2)
        ctl->options.model = ctl->args[0];
    return ctl->args[ctl->args_len - 1];
}

/* ---- versions -------------------------------------------------------------------------------- */

static void version_cells(struct ctl_table *t, const struct json_value *row)
{
    const char *reason = json_text(json_member(row, "reason"), NULL);

    ctl_table_json(t, json_member(row, "version"));
    ctl_table_json(t, json_member(row, "state"));
    if (reason != NULL)
        ctl_table_string(t, reason);
    else
        ctl_table_json(t, json_member(row, "op"));
    ctl_table_json(t, json_member(row, reason != NULL ? "run" : "label"));
    ctl_table_json(t, json_member(row, "annotator"));
    ctl_table_json(t, json_member(row, "example"));
    ctl_table_time(t, json_member(row, "created"));
}

static const char *const version_heads[] = {"version",   "state",   "by",     "label or run",
                                            "annotator", "example", "created"};
static const struct ctl_kind versions = {"versions", "lllllll", version_heads, version_cells, 20};

static void encoder_cells(struct ctl_table *t, const struct json_value *row)
{
    const struct json_value *gate = json_member(row, "gate");

    ctl_table_json(t, json_member(row, "encoder"));
    ctl_table_string(t, json_bool(json_member(row, "live"), false)
                            ? "live"
                            : json_text(json_member(row, "state"), NULL));
    ctl_table_json(t, json_member(row, "origin"));
    ctl_table_json(t, json_member(row, "run"));
    ctl_table_json(t, json_member(row, "parent"));
    if (json_kind(json_member(gate, "accuracy_new")) > JSON_KIND_NULL)
        ctl_table_printf(t, "%.3f -> %.3f", json_number(json_member(gate, "accuracy_old"), 0),
                         json_number(json_member(gate, "accuracy_new"), 0));
    else
        ctl_table_string(t, NULL);
    ctl_table_printf(t, "%.12s", json_text(json_member(row, "sha256"), NULL));
    ctl_table_time(t, json_member(row, "created"));
}

static enum ctl_exit show_encoders(const struct ctl *ctl, const struct json_value *rows)
{
    static const char *const heads[] = {"encoder", "state",    "origin", "run",
                                        "parent",  "held-out", "sha256", "created"};
    enum ctl_exit code = CTL_OK;
    struct ctl_table *t = NULL;

    if (!ctl->options.json && ctl_table_open(stdout, heads, "rllrrlll", &t) != 0)
        return ctl_no_memory();
    for (size_t i = 0; i < json_len(rows) && code == CTL_OK; i++) {
        if (t != NULL)
            encoder_cells(t, json_at(rows, i));
        else
            code = ctl_print_json(json_at(rows, i));
    }
    if (t != NULL && ctl_table_flush(t) != 0)
        code = ctl_no_memory();
    ctl_table_close(t);
    return code;
}

/* They come with every page of versions. */
enum ctl_exit ctl_encoders(struct ctl *ctl)
{
    struct json_value *answer = NULL;
    struct api_buffer target;
    enum ctl_exit code;
    const char *path;

    if (ctl->args_len > 1)
        return ctl_misused(ctl, "one model, or none for --model");
    if (ctl->args_len == 1)
        ctl->options.model = ctl->args[0];
    target = ctl_of_model(ctl, "/versions?limit=1");
    path = ctl_target_end(&target);
    code = path != NULL ? ctl_call(ctl, "GET", path, NULL, &answer) : ctl_no_memory();
    if (code == CTL_OK)
        code = show_encoders(ctl, json_member(answer, "encoders"));
    json_free(answer);
    api_buffer_done(&target);
    return code;
}

enum ctl_exit ctl_versions(struct ctl *ctl)
{
    struct api_buffer target;

    if (ctl->args_len > 1)
        return ctl_misused(ctl, "one version, or none for the list");
    if (ctl->args_len == 1 && ctl->options.at != NULL)
        return ctl_misused(ctl, "a version or --at, not both");
    target = ctl_of_model(ctl, ctl->args_len == 1 ? "/versions/" : "/versions");
    if (ctl->args_len == 0) {
        ctl_target_query(&target, "at", ctl->options.at);
        return ctl_browse(ctl, &versions, &target);
    }
    ctl_target_name(&target, ctl->args[0]);
    return ctl_change(ctl, "GET", &target, NULL, &versions);
}

/* ---- going back ------------------------------------------------------------------------------ */

static void rollback_cells(struct ctl_table *t, const struct json_value *row)
{
    ctl_table_json(t, json_member(row, "model"));
    ctl_table_json(t, json_member(row, "version"));
    ctl_table_string(t, json_bool(json_member(row, "live"), false) ? "live" : "being made ready");
}

static const char *const rollback_heads[] = {"model", "version", "state"};
static const struct ctl_kind rollback = {"rollback", "lll", rollback_heads, rollback_cells, 1};

enum ctl_exit ctl_rollback(struct ctl *ctl)
{
    const char *to = last_of(ctl);
    struct api_buffer target, body = API_BUFFER_INIT;
    struct json_value *number = NULL;
    enum ctl_exit code;

    if (to == NULL)
        return ctl_misused(ctl, "to which version, or encoder?");
    json_open_object(&body);
    if (strchr(to, '.') == NULL && json_parse(to, strlen(to), NULL, &number, NULL) == 0) {
        json_write_key(&body, "encoder");
        json_write_value(&body, number);
    } else {
        json_write_key(&body, "version");
        json_write_string(&body, to);
    }
    json_close_object(&body);
    json_free(number);
    target = ctl_of_model(ctl, "/rollback");
    code = ctl_change(ctl, "POST", &target, &body, &rollback);
    api_buffer_done(&body);
    return code;
}

/* ---- in and out ------------------------------------------------------------------------------ */

enum ctl_exit ctl_import_encoder(struct ctl *ctl)
{
    const char *folder = last_of(ctl);
    struct api_buffer target, body = API_BUFFER_INIT;
    enum ctl_exit code;

    if (folder == NULL)
        return ctl_misused(ctl, "which folder? A path on the server");
    json_open_object(&body);
    json_write_key(&body, "folder");
    json_write_string(&body, folder);
    ctl_run_flags(ctl, &body);
    json_close_object(&body);
    target = ctl_of_model(ctl, "/import");
    code = ctl_run_ask(ctl, &target, &body);
    api_buffer_done(&body);
    return code;
}

struct export
{
    struct ctl *ctl;
    int64_t encoder;
    const char *folder;
};

static enum ctl_exit cannot(const char *path)
{
    ctl_fail_file(path);
    return CTL_USAGE;
}

/* A piece of a file, as it comes. */
static enum ctl_exit fetch(struct export *e, const char *name, int64_t offset,
                           struct ctl_answer *ret_answer)
{
    struct api_buffer target = ctl_of_model(e->ctl, "/encoder/");
    enum ctl_exit code = CTL_OK;
    struct json_value *problem = NULL;
    char number[24];
    const char *path;
    int rc;

    ctl_target_name(&target, name);
    snprintf(number, sizeof number, "%lld", (long long)e->encoder);
    ctl_target_query(&target, "encoder", number);
    snprintf(number, sizeof number, "%lld", (long long)offset);
    ctl_target_query(&target, "offset", number);
    path = ctl_target_end(&target);
    if (path == NULL) {
        api_buffer_done(&target);
        return ctl_no_memory();
    }
    rc = ctl_http_send(e->ctl->http, "GET", path, NULL, NULL, ret_answer);
    api_buffer_done(&target);
    if (rc != 0)
        return ctl_call_unreachable(e->ctl, rc);
    if (ret_answer->status != 200) {
        if (ret_answer->body.len > 0)
            json_parse(ret_answer->body.bytes, ret_answer->body.len, NULL, &problem, NULL);
        code = ctl_call_refused(e->ctl, ret_answer->status, problem);
        json_free(problem);
        api_buffer_done(&ret_answer->body);
    }
    return code;
}

static enum ctl_exit copy(struct export *e, const char *name, int64_t bytes, FILE *file,
                          const char *path)
{
    for (int64_t done = 0; done < bytes;) {
        struct ctl_answer answer;
        enum ctl_exit code = fetch(e, name, done, &answer);
        bool written;

        if (code != CTL_OK)
            return code;
        written = answer.body.len > 0 &&
                  fwrite(answer.body.bytes, 1, answer.body.len, file) == answer.body.len;
        done += (int64_t)answer.body.len;
        if (answer.body.len == 0)
            ctl_say("%s ends too early", name);
        else if (!written)
            cannot(path);
        api_buffer_done(&answer.body);
        if (!written)
            return CTL_USAGE;
    }
    return CTL_OK;
}

/* A name of the daemon's becomes a path of ours: no way out of the folder. */
static bool is_tame(const char *name)
{
    return name != NULL && name[0] != '\0' && name[0] != '/' && strstr(name, "..") == NULL &&
           strlen(name) < 256;
}

static enum ctl_exit save(struct export *e, const struct json_value *row)
{
    const char *name = json_text(json_member(row, "name"), NULL);
    const char *sha256 = json_text(json_member(row, "sha256"), NULL);
    char path[PATH_BYTES], part[PATH_BYTES + 8];
    enum ctl_exit code;
    FILE *file;

    if (!is_tame(name) || sha256 == NULL ||
        snprintf(path, sizeof path, "%s/%s", e->folder, name) >= (int)sizeof path) {
        ctl_say("the daemon's answer has no file to write");
        return CTL_FAILED;
    }
    for (char *slash = strchr(path + strlen(e->folder) + 1, '/'); slash != NULL;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, 0777) != 0 && errno != EEXIST)
            return cannot(path);
        *slash = '/';
    }
    snprintf(part, sizeof part, "%s.part", path);
    file = fopen(part, "wb");
    if (file == NULL)
        return cannot(part);
    code = copy(e, name, json_int(json_member(row, "bytes"), 0), file, part);
    if (fclose(file) != 0 && code == CTL_OK)
        code = cannot(part);
    if (code == CTL_OK && rename(part, path) != 0)
        code = cannot(path);
    if (code != CTL_OK)
        remove(part);
    else if (!e->ctl->options.quiet && !e->ctl->options.json)
        printf("%s  %s\n", sha256, name);
    return code;
}

enum ctl_exit ctl_export_encoder(struct ctl *ctl)
{
    struct export e = {.ctl = ctl, .folder = last_of(ctl)};
    struct json_value *answer = NULL;
    struct api_buffer target;
    const struct json_value *files;
    enum ctl_exit code;
    const char *path;

    if (e.folder == NULL)
        return ctl_misused(ctl, "into which folder?");
    target = ctl_of_model(ctl, "/encoder");
    path = ctl_target_end(&target);
    code = path != NULL ? ctl_call(ctl, "GET", path, NULL, &answer) : ctl_no_memory();
    if (code == CTL_OK && mkdir(e.folder, 0777) != 0 && errno != EEXIST)
        code = cannot(e.folder);
    e.encoder = json_int(json_member(answer, "encoder"), 0);
    files = json_member(answer, "files");
    for (size_t i = 0; i < json_len(files) && code == CTL_OK; i++)
        code = save(&e, json_at(files, i));
    if (code == CTL_OK && ctl->options.json)
        code = ctl_print_json(answer);
    json_free(answer);
    api_buffer_done(&target);
    return code;
}
