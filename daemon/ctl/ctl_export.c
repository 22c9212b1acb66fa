/* ctl_export.c -- what a model was taught, as a file that import reads back to the same model.
 *
 * A row an example: text (or vector, which is asked for example by example), label, text_pair,
 * weight. An example whose annotators disagree has a soft
 * target; it becomes a row for each label, by annotators export-1, export-2 .., with weights whose
 * shares are the target's and whose mean is the example's weight: so the fold of what is imported
 * equals the fold that was exported. Examples that teach nothing (rejected, withdrawn) are left
 * out. A model of kind multi has rows with labels, a list; where its annotators disagree there is a
 * row for each share, of all labels that have it or more.
 *
 * A file is written beside its place, flushed to disk, then renamed: it is there whole or not at
 * all, and an interrupted export leaves nothing beside it.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/ctl/ctl_csv.h"
#include "daemon/ctl/ctl_list.h"
#include "daemon/ctl/ctl_progress.h"
#include "daemon/ctl/ctl_rows.h"
#include "daemon/ctl/ctl_whole.h"

enum {
    PAGE_ROWS = 100,  /* texts may have a megabyte */
    WEIGHT_MAX = 100, /* of one vote */
};

struct export
{
    struct ctl *ctl;
    enum ctl_format format;
    FILE *file;
    char *temporary; /* NULL: stdout */
    struct api_buffer row;
    bool multi;
    struct json_value *whole; /* the example of a vector, with its numbers */
    uint64_t examples;
    struct ctl_progress progress;
};

static double share_of(const struct json_value *labels, size_t i)
{
    return json_number(json_member(json_at(labels, i), "share"), 0);
}

/* The labels that have at least this share. */
static void write_set(struct export *e, const struct json_value *labels, double share)
{
    json_write_key(&e->row, "labels");
    json_open_array(&e->row);
    for (size_t i = 0; i < json_len(labels); i++)
        if (share_of(labels, i) >= share)
            json_write_string(&e->row, json_text(json_member(json_at(labels, i), "label"), NULL));
    json_close_array(&e->row);
}

/* One vote; label NULL: for a set. annotator "": none. */
static void write_vote(struct export *e, const struct json_value *example, const char *label,
                       double share, const char *annotator, double weight)
{
    size_t text_len = 0, pair_len = 0;
    const char *text = json_text(json_member(example, "text"), &text_len);
    const char *pair = json_text(json_member(example, "text_pair"), &pair_len);

    if (e->format == CTL_FORMAT_CSV) {
        struct api_buffer number = API_BUFFER_INIT;

        json_write_number(&number, weight);
        ctl_csv_write(&e->row, text, text_len);
        api_buffer_add(&e->row, ",", 1);
        ctl_csv_write(&e->row, label, strlen(label));
        api_buffer_add(&e->row, ",", 1);
        ctl_csv_write(&e->row, pair, pair_len);
        api_buffer_add(&e->row, ",", 1);
        ctl_csv_write(&e->row, annotator, strlen(annotator));
        api_buffer_add(&e->row, ",", 1);
        api_buffer_add(&e->row, number.bytes, number.len);
        api_buffer_add(&e->row, "\r\n", 2);
        api_buffer_done(&number);
        return;
    }
    json_open_object(&e->row);
    json_write_key(&e->row, text != NULL ? "text" : "vector");
    if (text != NULL)
        json_write_text(&e->row, text, text_len);
    else
        json_write_value(&e->row, json_member(e->whole, "vector"));
    if (label != NULL) {
        json_write_key(&e->row, "label");
        json_write_string(&e->row, label);
    } else {
        write_set(e, json_member(example, "labels"), share);
    }
    if (pair != NULL) {
        json_write_key(&e->row, "text_pair");
        json_write_text(&e->row, pair, pair_len);
    }
    if (annotator[0] != '\0') {
        json_write_key(&e->row, "annotator");
        json_write_string(&e->row, annotator);
    }
    if (weight != 1) {
        json_write_key(&e->row, "weight");
        json_write_number(&e->row, weight);
    }
    json_close_object(&e->row);
    api_buffer_add(&e->row, "\n", 1);
}

/* A vote's weight is at most WEIGHT_MAX: a target so heavy and so uneven keeps its shares and loses
 * weight. */
static double scale_of(const struct json_value *labels, double weight)
{
    double largest = 0, scale = weight * (double)json_len(labels);

    for (size_t i = 0; i < json_len(labels); i++) {
        double share = share_of(labels, i);

        largest = share > largest ? share : largest;
    }
    return largest * scale > WEIGHT_MAX ? WEIGHT_MAX / largest : scale;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* A set in layers: between two neighbouring shares lies the weight of a vote for all labels that
 * have the upper one or more; what is left above the largest is a vote for none. Shares of voters
 * who agreed differ by rounding at most. */
static enum ctl_exit write_layers(struct export *e, const struct json_value *example)
{
    const struct json_value *labels = json_member(example, "labels");
    double weight = json_number(json_member(example, "weight"), 1), scale, below = 0;
    double *shares = malloc((json_len(labels) + 1) * sizeof *shares);
    size_t len = 0, layers = 0;

    if (shares == NULL)
        return ctl_no_memory();
    for (size_t i = 0; i < json_len(labels); i++)
        shares[len++] = share_of(labels, i);
    shares[len++] = 1;
    qsort(shares, len, sizeof *shares, ascending);
    for (size_t i = 0; i < len; i++) {
        layers += shares[i] - below > 1e-9;
        below = shares[i] - below > 1e-9 ? shares[i] : below;
    }
    scale = weight * (double)layers > WEIGHT_MAX ? WEIGHT_MAX : weight * (double)layers;
    below = 0;
    for (size_t i = 0, layer = 0; i < len; i++) {
        char annotator[32] = "";

        if (!(shares[i] - below > 1e-9))
            continue;
        if (layers > 1)
            snprintf(annotator, sizeof annotator, "export-%zu", ++layer);
        write_vote(e, example, NULL, shares[i] - 1e-9, annotator,
                   layers > 1 ? scale * (shares[i] - below) : weight);
        below = shares[i];
    }
    free(shares);
    return CTL_OK;
}

static enum ctl_exit write_row(struct export *e)
{
    if (e->row.rc != 0)
        return ctl_no_memory();
    if (fwrite(e->row.bytes, 1, e->row.len, e->file) == e->row.len)
        return CTL_OK;
    ctl_fail_file(e->temporary != NULL ? e->temporary : "stdout");
    return CTL_USAGE;
}

/* A list says only that it is a vector; one example has its numbers. */
static enum ctl_exit fetch_vector(struct export *e, const struct json_value *example)
{
    const char *id = json_text(json_member(example, "example"), NULL), *path;
    struct api_buffer target = API_BUFFER_INIT;
    enum ctl_exit code;

    if (e->format == CTL_FORMAT_CSV) {
        ctl_say("the model has vectors, which a CSV file does not hold; jsonl does");
        return CTL_USAGE;
    }
    json_free(e->whole);
    e->whole = NULL;
    ctl_target(&target, "/v1/examples/");
    ctl_target_name(&target, id != NULL ? id : "");
    path = ctl_target_end(&target);
    code = path != NULL ? ctl_call(e->ctl, "GET", path, NULL, &e->whole) : ctl_no_memory();
    api_buffer_done(&target);
    return code;
}

static enum ctl_exit on_row(void *ud, const struct json_value *example)
{
    struct export *e = ud;
    const struct json_value *labels = json_member(example, "labels");
    double weight = json_number(json_member(example, "weight"), 1);
    double scale = scale_of(labels, weight);

    if (json_len(labels) == 0 && !e->multi)
        return CTL_OK;
    if (json_text(json_member(example, "text"), NULL) == NULL) {
        enum ctl_exit code = fetch_vector(e, example);

        if (code != CTL_OK)
            return code;
    }
    e->examples++;
    api_buffer_reset(&e->row);
    if (e->multi) {
        enum ctl_exit code = write_layers(e, example);

        return code == CTL_OK ? write_row(e) : code;
    }
    for (size_t i = 0; i < json_len(labels); i++) {
        const struct json_value *one = json_at(labels, i);
        const char *label = json_text(json_member(one, "label"), NULL);
        char annotator[32] = "";

        if (label == NULL)
            continue;
        if (json_len(labels) > 1)
            snprintf(annotator, sizeof annotator, "export-%zu", i + 1);
        write_vote(e, example, label, 0, annotator,
                   json_len(labels) > 1 ? scale * json_number(json_member(one, "share"), 0)
                                        : weight);
    }
    return write_row(e);
}

static enum ctl_exit on_page(void *ud)
{
    struct export *e = ud;

    ctl_progress_show(&e->progress, e->examples, e->examples);
    return CTL_OK;
}

/* ---- the file -------------------------------------------------------------------------------- */

static char *volatile interrupted; /* the temporary file that a signal takes away */

static void on_signal(int signal_number)
{
    if (interrupted != NULL)
        unlink(interrupted);
    raise(signal_number); /* its old meaning, as soon as this returns */
}

static void watch_signals(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};

    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct sigaction old;

        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(signals[i], &action, NULL);
    }
}

static enum ctl_exit open_file(struct export *e, const char *path)
{
    struct stat st;
    mode_t mask;
    int fd;

    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
        ctl_say("%s is no file to be replaced; without FILE the rows go to stdout", path);
        return CTL_USAGE;
    }
    if (asprintf(&e->temporary, "%s.XXXXXX", path) < 0) {
        e->temporary = NULL;
        return ctl_no_memory();
    }
    fd = mkstemp(e->temporary);
    if (fd < 0) {
        ctl_fail_file(path);
        free(e->temporary);
        e->temporary = NULL;
        return CTL_USAGE;
    }
    interrupted = e->temporary;
    watch_signals();
    mask = umask(0);
    umask(mask);
    if (fchmod(fd, 0666 & ~mask) != 0 || (e->file = fdopen(fd, "w")) == NULL) {
        ctl_fail_file(path);
        close(fd);
        return CTL_USAGE;
    }
    return CTL_OK;
}

/* Puts the file in its place if all went well, else takes it away. */
static enum ctl_exit close_file(struct export *e, const char *path, enum ctl_exit code)
{
    int rc = 0;

    if (e->file != NULL && code == CTL_OK && (fflush(e->file) != 0 || fsync(fileno(e->file)) != 0))
        rc = errno;
    if (e->file != NULL && fclose(e->file) != 0 && rc == 0)
        rc = errno;
    if (rc == 0 && code == CTL_OK && rename(e->temporary, path) != 0)
        rc = errno;
    if (rc != 0 && code == CTL_OK) {
        ctl_say("%s: %s", path, strerror(rc));
        code = CTL_USAGE;
    }
    if (code != CTL_OK && e->temporary != NULL)
        unlink(e->temporary);
    interrupted = NULL;
    free(e->temporary);
    return code;
}

static enum ctl_exit export_all(struct export *e)
{
    struct api_buffer target = API_BUFFER_INIT;
    struct ctl_list list = {.ctl = e->ctl,
                            .plural = "examples",
                            .rows_max = UINT64_MAX,
                            .page_rows = PAGE_ROWS,
                            .ud = e,
                            .row = on_row,
                            .page = on_page};
    enum ctl_exit code;

    if (e->format == CTL_FORMAT_CSV)
        fputs("text,label,text_pair,annotator,weight\r\n", e->file);
    ctl_target(&target, "/v1/models/");
    ctl_target_name(&target, ctl_model(e->ctl));
    ctl_target(&target, "/examples?status=active");
    ctl_target_query(&target, "label", e->ctl->options.label);
    code = ctl_list_walk(&list, &target);
    ctl_progress_clear(&e->progress);
    return code;
}

enum ctl_exit ctl_export(struct ctl *ctl)
{
    struct export e = {.ctl = ctl, .format = CTL_FORMAT_JSONL, .file = stdout};
    const char *path = ctl->args_len > 0 && strcmp(ctl->args[0], "-") != 0 ? ctl->args[0] : NULL;
    struct json_value *model = NULL;
    const char *kind;
    uint64_t total;
    enum ctl_exit code;

    if (ctl->options.everything)
        return ctl_export_everything(ctl);
    if (ctl->args_len > 1)
        return ctl_misused(ctl, "one file, or none for stdout");
    if (ctl->options.format != NULL)
        e.format = ctl_format_of(ctl->options.format);
    else if (path != NULL)
        e.format = ctl_format_of_path(path);
    if (e.format == CTL_FORMAT_NONE)
        return ctl_misused(ctl, "jsonl or csv? --format says it");
    code = ctl_call_model(ctl, &model); /* is there one, before a file is made? */
    total = (uint64_t)json_int(json_member(model, "examples"), 0);
    kind = json_text(json_member(model, "kind"), NULL);
    e.multi = kind != NULL && strcmp(kind, "multi") == 0;
    json_free(model);
    if (code == CTL_OK && e.multi && e.format == CTL_FORMAT_CSV)
        return ctl_misused(ctl,
                           "a model of kind multi is written as jsonl: csv has one label a row");
    if (code == CTL_OK && path != NULL) {
        e.file = NULL;
        code = open_file(&e, path);
    }
    ctl_progress_init(&e.progress, path != NULL && !ctl->options.quiet && !ctl->options.json,
                      total);
    if (code == CTL_OK)
        code = export_all(&e);
    if (path != NULL)
        code = close_file(&e, path, code);
    if (code == CTL_OK && path != NULL && !ctl->options.quiet)
        ctl_note("%llu examples in %s", (unsigned long long)e.examples, path);
    api_buffer_done(&e.row);
    json_free(e.whole);
    return code;
}
