/* ctl_eval.c -- a labelled file against the live model.
 *
 * Rows are read as import reads them and asked in pages, with store:false: the daemon keeps nothing
 * of them, and does not count them as traffic. Each answer is scored against its row's label
 * (kernels/measure), so memory holds one page and the counts. Every label's probability is asked
 * for (up to API_TOP_K_MAX): the Brier score needs them.
 *
 * The model may learn meanwhile; the report names the first and the last version that answered.
 */
#include "daemon/ctl/ctl_eval.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ctl/ctl_browse.h"
#include "daemon/ctl/ctl_list.h"
#include "daemon/ctl/ctl_sheet.h"

enum {
    PAGE_BYTES = 768 << 10, /* the daemon's limit of a body is 1 MiB */
    PAGE_SCORES = 40000,    /* scores of a page's answer, about 2 MB */
    LABELS_PAGE = 1000,
};

struct item {
    uint64_t line;
    size_t start, len;         /* in bytes */
    uint32_t truth, truth_len; /* in truths */
};

struct scoring {
    struct ctl *ctl;
    struct ctl_eval eval;
    bool multi;
    struct ctl_sheet sheet;
    struct item items[API_INPUTS_MAX]; /* (len) of the page */
    uint32_t len, page_rows;
    struct api_buffer bytes, input; /* the items' JSON; the one that is added */
    uint32_t *truths;               /* (truths_len) columns */
    size_t truths_len, truths_max;
    uint32_t *guessed; /* (guessed_max) kind multi, of one answer */
    size_t guessed_max;
    struct evaluation *single;
    struct evaluation_sets *sets;
};

static enum ctl_exit reject(struct scoring *s, uint64_t line, const char *code, const char *field,
                            const char *detail)
{
    s->eval.rejected++;
    return ctl_sheet_reject(&s->sheet, line, code, field, detail);
}

/* ---- columns --------------------------------------------------------------------------------- */

static int grow_columns(struct scoring *s)
{
    uint32_t len = ctl_names_len(s->eval.names);

    return s->multi ? evaluation_sets_grow(s->sets, len) : evaluation_labels_grow(s->single, len);
}

/* The column of a label, a new one if the model has it not. 0, -ENOMEM, -E2BIG. */
static int column_of(struct scoring *s, const char *label, size_t len, uint32_t *ret_column)
{
    uint32_t before = ctl_names_len(s->eval.names);
    int rc = ctl_names_add(s->eval.names, label, len, ret_column);

    return rc == 0 && ctl_names_len(s->eval.names) > before ? grow_columns(s) : rc;
}

static int know(struct ctl_eval *e, uint32_t column)
{
    if (column >= e->known_len) {
        uint32_t len = column * 2 + 64;
        bool *bigger = realloc(e->known, len * sizeof *bigger);

        if (bigger == NULL)
            return -ENOMEM;
        memset(bigger + e->known_len, 0, (len - e->known_len) * sizeof *bigger);
        e->known = bigger;
        e->known_len = len;
    }
    e->labels_known += !e->known[column];
    e->known[column] = true;
    return 0;
}

/* A label of the model with its other names. A merged one is a name of the one it is in. */
static enum ctl_exit on_label(void *ud, const struct json_value *row)
{
    struct scoring *s = ud;
    const struct json_value *aliases = json_member(row, "aliases");
    size_t len = 0, into_len = 0;
    const char *name = json_text(json_member(row, "label"), &len);
    const char *into = json_text(json_member(row, "into"), &into_len);
    uint32_t column;
    int rc;

    if (name == NULL)
        return CTL_OK;
    if (into != NULL) {
        rc = column_of(s, into, into_len, &column);
        if (rc == 0)
            rc = ctl_names_alias(s->eval.names, name, len, column);
        return rc == 0 ? CTL_OK : ctl_no_memory();
    }
    rc = column_of(s, name, len, &column);
    for (size_t i = 0; rc == 0 && i < json_len(aliases); i++) {
        const char *alias = json_text(json_at(aliases, i), &len);

        if (alias != NULL)
            rc = ctl_names_alias(s->eval.names, alias, len, column);
    }
    if (rc == 0 && json_int(json_member(row, "examples"), 0) > 0)
        rc = know(&s->eval, column);
    return rc == 0 ? CTL_OK : ctl_no_memory();
}

static enum ctl_exit read_labels(struct scoring *s)
{
    struct api_buffer target = ctl_of_model(s->ctl, "/labels");
    struct ctl_list list = {.ctl = s->ctl,
                            .plural = "labels",
                            .rows_max = UINT64_MAX,
                            .page_rows = LABELS_PAGE,
                            .ud = s,
                            .row = on_label};
    enum ctl_exit code = ctl_list_walk(&list, &target);
    uint32_t labels = s->eval.labels_known > 0 ? s->eval.labels_known : 1;

    if (code == CTL_OK)
        s->page_rows = PAGE_SCORES / labels < 16               ? 16
                       : PAGE_SCORES / labels > API_INPUTS_MAX ? API_INPUTS_MAX
                                                               : PAGE_SCORES / labels;
    return code;
}

/* ---- answers --------------------------------------------------------------------------------- */

static uint32_t find_column(const struct scoring *s, const struct json_value *name)
{
    size_t len = 0;
    const char *label = json_text(name, &len);

    return label != NULL ? ctl_names_find(s->eval.names, label, len) : CTL_NAMES_NONE;
}

static bool is_known(const struct ctl_eval *e, uint32_t column)
{
    return column < e->known_len && e->known[column];
}

/* A label that was answered has an example, also one that was first taught a moment ago. */
static int heed_answer(struct scoring *s, const struct json_value *name, uint32_t *ret_column)
{
    size_t len = 0;
    const char *label = json_text(name, &len);
    int rc = label != NULL ? column_of(s, label, len, ret_column) : -ENOENT;

    return rc == 0 ? know(&s->eval, *ret_column) : rc;
}

static int count_single(struct scoring *s, const struct item *item, const struct json_value *result)
{
    const struct json_value *scores = json_member(result, "labels");
    struct evaluation_row row = {.seq = (int64_t)item->line,
                                 .truth = s->truths[item->truth],
                                 .predicted = EVALUATION_NONE,
                                 .novel = json_bool(json_member(result, "novel"), false),
                                 .abstained = json_bool(json_member(result, "abstain"), false)};
    int rc = heed_answer(s, json_member(result, "label"), &row.predicted);

    if (rc != 0 && rc != -ENOENT)
        return rc;
    if (row.predicted != EVALUATION_NONE) {
        row.labels_known = s->eval.labels_known;
        row.p_predicted = json_number(json_member(result, "score"), 0);
        row.known = is_known(&s->eval, row.truth);
    }
    for (size_t i = 0; i < json_len(scores); i++) {
        const struct json_value *one = json_at(scores, i);
        double score = json_number(json_member(one, "score"), 0);

        row.p_squares += score * score;
        if (row.known && row.p_truth == 0 && find_column(s, json_member(one, "label")) == row.truth)
            row.p_truth = score;
    }
    return evaluation_score(s->single, &row);
}

static int count_set(struct scoring *s, const struct item *item, const struct json_value *result)
{
    const struct json_value *labels = json_member(result, "labels");
    struct evaluation_sets_row row = {.seq = (int64_t)item->line,
                                      .truth = s->truths + item->truth,
                                      .truth_len = item->truth_len,
                                      .known = true,
                                      .novel = json_bool(json_member(result, "novel"), false),
                                      .abstained =
                                          json_bool(json_member(result, "abstain"), false)};
    int rc = 0;

    if (json_len(labels) > s->guessed_max) {
        uint32_t *bigger = realloc(s->guessed, json_len(labels) * sizeof *bigger);

        if (bigger == NULL)
            return -ENOMEM;
        s->guessed = bigger;
        s->guessed_max = json_len(labels);
    }
    for (size_t i = 0; rc == 0 && i < json_len(labels); i++)
        rc = heed_answer(s, json_member(json_at(labels, i), "label"),
                         &s->guessed[row.guessed_len++]);
    for (uint32_t i = 0; i < row.truth_len; i++)
        row.known = row.known && is_known(&s->eval, row.truth[i]);
    row.guessed = s->guessed;
    row.labels_known = s->eval.labels_known;
    return rc == 0 ? evaluation_sets_score(s->sets, &row) : rc;
}

static enum ctl_exit count_page(struct scoring *s, const struct json_value *answer)
{
    const struct json_value *results = json_member(answer, "results");
    const char *version = json_text(json_member(answer, "version"), NULL);
    struct ctl_eval *e = &s->eval;

    if (json_len(results) != s->len) {
        ctl_say("%s answers, and not as learnd does", s->ctl->options.url);
        return CTL_FAILED;
    }
    if (version != NULL)
        snprintf(e->version_last, sizeof e->version_last, "%s", version);
    if (version != NULL && e->version[0] == '\0')
        snprintf(e->version, sizeof e->version, "%s", version);
    for (uint32_t i = 0; i < s->len; i++) {
        const struct json_value *result = json_at(results, i);
        int rc =
            s->multi ? count_set(s, &s->items[i], result) : count_single(s, &s->items[i], result);

        if (rc == -ENOMEM)
            return ctl_no_memory();
        if (rc != 0) {
            ctl_say("%s:%llu: its answer cannot be counted: %s", e->file,
                    (unsigned long long)s->items[i].line, strerror(-rc));
            return CTL_FAILED;
        }
        e->rows++;
    }
    return CTL_OK;
}

/* ---- questions ------------------------------------------------------------------------------- */

static void write_question(const struct scoring *s, struct api_buffer *body)
{
    const struct ctl_options *o = &s->ctl->options;

    json_open_object(body);
    json_write_key(body, "model");
    json_write_string(body, ctl_model(s->ctl));
    json_write_key(body, "store");
    json_write_bool(body, false);
    if (!s->multi) { /* without it kind multi answers the sets */
        json_write_key(body, "top_k");
        json_write_int(body, API_TOP_K_MAX);
    }
    if (o->truncate != NULL) {
        json_write_key(body, "truncate");
        json_write_string(body, o->truncate);
    }
    if (o->at != NULL) {
        json_write_key(body, "version");
        json_write_string(body, o->at);
    }
    json_write_key(body, "inputs");
    json_open_array(body);
    for (uint32_t i = 0; i < s->len; i++)
        json_write_raw(body, s->bytes.bytes + s->items[i].start, s->items[i].len);
    json_close_array(body);
    json_close_object(body);
}

/* The item that a refusal is about; UINT32_MAX: it is about something else. */
static uint32_t refused_item(const struct scoring *s, long status, const struct json_value *problem)
{
    const char *field = json_text(json_member(problem, "field"), NULL);
    unsigned item;

    if (status != 422 || field == NULL || sscanf(field, "inputs[%u]", &item) != 1 || item >= s->len)
        return UINT32_MAX;
    return item;
}

/* The page without a row that the daemon refuses. */
static enum ctl_exit drop(struct scoring *s, uint32_t item, const struct json_value *problem)
{
    const char *code = json_text(json_member(problem, "code"), NULL);
    const char *detail = json_text(json_member(problem, "detail"), NULL);
    enum ctl_exit exit = reject(s, s->items[item].line, code != NULL ? code : "error", "",
                                detail != NULL ? detail : "");

    s->len--;
    memmove(&s->items[item], &s->items[item + 1], (s->len - item) * sizeof s->items[0]);
    return exit;
}

static enum ctl_exit ask_page(void *ud)
{
    struct scoring *s = ud;
    struct api_buffer body = API_BUFFER_INIT;
    enum ctl_exit code = s->bytes.rc == 0 ? CTL_OK : ctl_no_memory();
    bool asked = false;

    while (code == CTL_OK && !asked && s->len > 0) {
        struct json_value *answer = NULL;
        long status = 0;

        api_buffer_reset(&body);
        write_question(s, &body);
        code = ctl_call_again(s->ctl, "POST", "/v1/classify", CTL_JSON, &body, &status, &answer);
        if (code == CTL_OK && status / 100 == 2) {
            code = count_page(s, answer);
            asked = true;
        } else if (code == CTL_OK && refused_item(s, status, answer) != UINT32_MAX) {
            code = drop(s, refused_item(s, status, answer), answer);
        } else if (code == CTL_OK) {
            ctl_progress_clear(&s->sheet.progress);
            code = ctl_call_refused(s->ctl, status, answer);
        }
        json_free(answer);
    }
    api_buffer_done(&body);
    api_buffer_reset(&s->bytes);
    s->len = 0;
    s->truths_len = 0;
    ctl_sheet_show(&s->sheet, s->eval.rows + s->eval.rejected);
    return code;
}

/* ---- rows ------------------------------------------------------------------------------------ */

static int add_truth(struct scoring *s, const char *label, size_t len)
{
    uint32_t column;
    int rc = column_of(s, label, len, &column);

    if (rc == 0 && s->truths_len == s->truths_max) {
        size_t max = s->truths_max * 2 + API_INPUTS_MAX;
        uint32_t *bigger = realloc(s->truths, max * sizeof *bigger);

        if (bigger == NULL)
            return -ENOMEM;
        s->truths = bigger;
        s->truths_max = max;
    }
    if (rc == 0)
        s->truths[s->truths_len++] = column;
    return rc;
}

/* The row's labels behind the page's truths. 0; -EINVAL with a word: it has not what the kind
 * needs. */
static int read_truth(struct scoring *s, const struct ctl_row *row, const char **ret_why)
{
    size_t first = s->truths_len;
    int rc = 0;

    if (row->labels == NULL)
        return add_truth(s, row->columns[CTL_LABEL].bytes, row->columns[CTL_LABEL].len);
    *ret_why = "a text has one label in a model of kind single";
    if (!s->multi && json_len(row->labels) != 1)
        return -EINVAL;
    *ret_why = "a list of labels has each label once";
    for (size_t i = 0; rc == 0 && i < json_len(row->labels); i++) {
        size_t len = 0;
        const char *label = json_text(json_at(row->labels, i), &len);

        rc = label != NULL ? add_truth(s, label, len) : -EINVAL;
        for (size_t k = first; rc == 0 && k + 1 < s->truths_len; k++)
            rc = s->truths[k] == s->truths[s->truths_len - 1] ? -EINVAL : 0;
    }
    return rc;
}

static void write_input(struct scoring *s, const struct ctl_row *row)
{
    api_buffer_reset(&s->input);
    json_open_object(&s->input);
    json_write_key(&s->input, row->vector != NULL ? "vector" : "text");
    if (row->vector != NULL)
        json_write_value(&s->input, row->vector);
    else
        json_write_text(&s->input, row->columns[CTL_TEXT].bytes, row->columns[CTL_TEXT].len);
    if (row->columns[CTL_PAIR].bytes != NULL) {
        json_write_key(&s->input, "text_pair");
        json_write_text(&s->input, row->columns[CTL_PAIR].bytes, row->columns[CTL_PAIR].len);
    }
    json_close_object(&s->input);
}

static enum ctl_exit add_row(void *ud, const struct ctl_row *row)
{
    struct scoring *s = ud;
    const char *why = "";
    enum ctl_exit code = CTL_OK;
    size_t first;
    int rc;

    if (row->code != NULL)
        return reject(s, row->line, row->code, row->field, row->detail);
    write_input(s, row);
    if (s->input.rc != 0)
        return ctl_no_memory();
    if (s->len == s->page_rows || (s->len > 0 && s->bytes.len + s->input.len > PAGE_BYTES))
        code = ask_page(s);
    if (code != CTL_OK)
        return code;
    first = s->truths_len;
    rc = read_truth(s, row, &why);
    if (rc == -ENOMEM)
        return ctl_no_memory();
    if (rc != 0) {
        s->truths_len = first;
        return reject(s, row->line, "wrong_labels", "labels",
                      rc == -E2BIG ? "there are too many labels" : why);
    }
    s->items[s->len++] = (struct item){row->line, s->bytes.len, s->input.len, (uint32_t)first,
                                       (uint32_t)(s->truths_len - first)};
    api_buffer_add(&s->bytes, s->input.bytes, s->input.len);
    return CTL_OK;
}

/* ---- the command ----------------------------------------------------------------------------- */

static enum ctl_exit open_model(struct scoring *s)
{
    struct json_value *model = NULL;
    enum ctl_exit code = ctl_call_model(s->ctl, &model);
    const char *kind = json_text(json_member(model, "kind"), NULL);
    int rc = code == CTL_OK ? ctl_names_open(&s->eval.names) : 0;

    s->multi = kind != NULL && strcmp(kind, "multi") == 0;
    json_free(model);
    if (code == CTL_OK && rc == 0)
        rc = s->multi ? evaluation_sets_open(&s->sets) : evaluation_open(&s->single);
    if (rc != 0)
        return ctl_no_memory();
    return code == CTL_OK ? read_labels(s) : code;
}

/* Whole or not at all, under its own name only when it is done. */
static enum ctl_exit write_page(const char *path, const struct api_buffer *page)
{
    size_t bytes = strlen(path) + sizeof ".tmp";
    char *beside = malloc(bytes);
    FILE *file;
    bool good;

    if (beside == NULL || page->rc != 0) {
        free(beside);
        return ctl_no_memory();
    }
    snprintf(beside, bytes, "%s.tmp", path);
    file = fopen(beside, "w");
    good = file != NULL && fwrite(page->bytes, 1, page->len, file) == page->len;
    if (file != NULL && fclose(file) != 0)
        good = false;
    if (good)
        good = rename(beside, path) == 0;
    if (!good) {
        ctl_fail_file(path);
        if (file != NULL)
            remove(beside);
    }
    free(beside);
    return good ? CTL_OK : CTL_USAGE;
}

static enum ctl_exit report(struct scoring *s)
{
    const struct ctl_options *o = &s->ctl->options;
    struct ctl_eval *e = &s->eval;
    struct api_buffer page = API_BUFFER_INIT;
    enum ctl_exit code;
    int rc = s->multi ? evaluation_sets_read(s->sets, &e->sets)
                      : evaluation_read(s->single, CTL_EVAL_PAIRS_MAX, &e->single);

    if (rc != 0)
        return ctl_no_memory();
    code = o->json ? ctl_eval_print_json(e) : ctl_eval_print(s->ctl, e);
    if (code != CTL_OK || o->html == NULL)
        return code;
    ctl_eval_html(e, &page);
    code = write_page(o->html, &page);
    api_buffer_done(&page);
    if (code == CTL_OK && !o->quiet)
        ctl_note("the report is in %s", o->html);
    return code;
}

static void scoring_done(struct scoring *s)
{
    ctl_sheet_close(&s->sheet);
    api_buffer_done(&s->bytes);
    api_buffer_done(&s->input);
    free(s->truths);
    free(s->guessed);
    evaluation_close(s->single);
    evaluation_sets_close(s->sets);
    ctl_names_close(s->eval.names);
    free(s->eval.known);
    evaluation_report_free(s->eval.single);
    evaluation_sets_report_free(s->eval.sets);
}

enum ctl_exit ctl_evaluate(struct ctl *ctl)
{
    static const struct ctl_sheet_acts acts = {add_row, ask_page};
    struct scoring s = {.ctl = ctl};
    enum ctl_exit code = ctl_sheet_open(ctl, &s.sheet);

    s.eval.file = s.sheet.name;
    s.eval.model = ctl_model(ctl);
    if (code == CTL_OK)
        code = open_model(&s);
    if (code == CTL_OK)
        code = ctl_sheet_walk(&s.sheet, &acts, &s);
    if (code == CTL_OK && s.eval.rows == 0) {
        ctl_say("%s: there is no row to score", s.eval.file);
        code = CTL_REFUSED;
    } else if (code == CTL_OK) {
        code = report(&s);
        if (code == CTL_OK && s.eval.rejected > 0)
            code = CTL_PARTLY;
    }
    scoring_done(&s);
    return code;
}
