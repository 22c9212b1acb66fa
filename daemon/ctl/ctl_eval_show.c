/* ctl_eval_show.c -- what an evaluation found, as tables for people and as one JSON object. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ctl/ctl_call.h"
#include "daemon/ctl/ctl_eval.h"
#include "daemon/ctl/ctl_table.h"

bool ctl_eval_unknown(const struct ctl_eval *e, uint32_t column)
{
    return column >= e->known_len || !e->known[column];
}

/* ---- labels ---------------------------------------------------------------------------------- */

static int worst_first(const void *left, const void *right)
{
    const struct ctl_eval_label *a = left, *b = right;

    if (a->f1 != b->f1)
        return a->f1 < b->f1 ? -1 : 1;
    if (a->rows != b->rows)
        return a->rows > b->rows ? -1 : 1;
    return a->column < b->column ? -1 : 1;
}

int ctl_eval_labels(const struct ctl_eval *e, struct ctl_eval_label **ret_labels, uint32_t *ret_len)
{
    uint32_t all = e->single != NULL ? e->single->labels_len : e->sets->labels_len, len = 0;
    struct ctl_eval_label *labels = malloc((all + 1) * sizeof *labels);

    if (labels == NULL)
        return -ENOMEM;
    for (uint32_t c = 0; c < all; c++) {
        if (e->single != NULL) {
            const struct evaluation_label *l = &e->single->labels[c];

            labels[len] = (struct ctl_eval_label){
                c, l->taught, l->predicted, l->right, l->precision, l->recall, l->f1};
        } else {
            const struct evaluation_sets_label *l = &e->sets->labels[c];

            labels[len] = (struct ctl_eval_label){
                c, l->taught, l->guessed, l->right, l->precision, l->recall, l->f1};
        }
        len += labels[len].rows + labels[len].answered > 0;
    }
    qsort(labels, len, sizeof *labels, worst_first);
    *ret_labels = labels;
    *ret_len = len;
    return 0;
}

/* ---- for people ------------------------------------------------------------------------------ */

static void cell_share(struct ctl_table *t, double share)
{
    if (isnan(share))
        ctl_table_string(t, NULL);
    else
        ctl_table_printf(t, "%.3f", share);
}

static void cell_name(struct ctl_table *t, const struct ctl_eval *e, uint32_t column)
{
    struct ctl_name name = ctl_names_at(e->names, column);

    ctl_table_cell(t, name.bytes, name.len);
}

/* Prints the table under a title, and closes it. */
static enum ctl_exit close_table(struct ctl_table *t, const char *title)
{
    int rc;

    printf("\n%s\n", title);
    rc = ctl_table_flush(t);
    ctl_table_close(t);
    return rc == 0 ? CTL_OK : ctl_no_memory();
}

static void figure(const char *name, double value, const char *more)
{
    if (!isnan(value))
        printf("%-18s %.3f%s\n", name, value, more);
}

static void print_single(const struct evaluation_report *r)
{
    char more[96];

    snprintf(more, sizeof more, "   95 %% interval %.3f .. %.3f", r->all.accuracy_low,
             r->all.accuracy_high);
    figure("accuracy", r->all.accuracy, more);
    if (r->known.rows < r->all.rows) {
        snprintf(more, sizeof more, "   %llu rows of labels that the model knows",
                 (unsigned long long)r->known.rows);
        figure("  of known labels", r->known.accuracy, more);
    }
    figure("macro-F1", r->all.macro_f1, "");
    figure("ECE", r->all.ece, "   mean distance of score and accuracy; 0 is best");
    figure("Brier", r->all.brier, "   0 .. 2; 0 is best");
    figure("abstained", r->taught.abstained_total, "");
    figure("novel", r->taught.novel_total, "");
}

static void print_sets(const struct evaluation_sets_report *r)
{
    char more[96];

    snprintf(more, sizeof more, "   95 %% interval %.3f .. %.3f", r->exact_match_low,
             r->exact_match_high);
    figure("exact match", r->exact_match, more);
    if (r->rows_known < r->rows) {
        snprintf(more, sizeof more, "   %llu rows of labels that the model knows",
                 (unsigned long long)r->rows_known);
        figure("  of known labels", r->exact_match_known, more);
    }
    figure("micro-F1", r->micro_f1, "");
    figure("  precision", r->micro_precision, "");
    figure("  recall", r->micro_recall, "");
    figure("macro-F1", r->macro_f1, "");
    figure("Hamming loss", r->hamming_loss, "   wrong decisions of all; 0 is best");
    figure("abstained", r->rates.abstained_total, "");
    figure("novel", r->rates.novel_total, "");
}

static enum ctl_exit print_labels(const struct ctl_eval *e, uint64_t most)
{
    static const char *const heads[] = {"precision", "recall", "F1", "rows", "answered", "label"};
    struct ctl_eval_label *labels;
    struct ctl_table *t;
    uint32_t len;
    char title[80];

    if (ctl_eval_labels(e, &labels, &len) != 0)
        return ctl_no_memory();
    if (ctl_table_open(stdout, heads, "rrrrrl", &t) != 0) {
        free(labels);
        return ctl_no_memory();
    }
    for (uint32_t i = 0; i < len && i < most; i++) {
        cell_share(t, labels[i].precision);
        cell_share(t, labels[i].recall);
        cell_share(t, labels[i].f1);
        ctl_table_int(t, (int64_t)labels[i].rows);
        ctl_table_int(t, (int64_t)labels[i].answered);
        cell_name(t, e, labels[i].column);
    }
    free(labels);
    snprintf(title, sizeof title, "labels, the worst first%s",
             len > most ? " (--limit 0 shows all)" : "");
    return close_table(t, title);
}

static enum ctl_exit print_pairs(const struct ctl_eval *e, uint64_t most)
{
    static const char *const heads[] = {"rows", "label", "answered"};
    struct ctl_table *t;

    if (e->single->pairs_len == 0)
        return CTL_OK;
    if (ctl_table_open(stdout, heads, "rll", &t) != 0)
        return ctl_no_memory();
    for (uint32_t i = 0; i < e->single->pairs_len && i < most; i++) {
        ctl_table_int(t, (int64_t)e->single->pairs[i].rows);
        cell_name(t, e, e->single->pairs[i].truth);
        cell_name(t, e, e->single->pairs[i].predicted);
    }
    return close_table(t, "confusions, the most frequent first");
}

static enum ctl_exit print_calibration(const struct ctl_eval *e)
{
    static const char *const heads[] = {"score", "rows", "mean score", "accuracy"};
    const struct evaluation_part *p = &e->single->all;
    struct ctl_table *t;

    if (ctl_table_open(stdout, heads, "rrrr", &t) != 0)
        return ctl_no_memory();
    for (int i = 0; i < EVALUATION_BINS; i++) {
        if (p->bins[i].rows == 0)
            continue;
        ctl_table_printf(t, "%.2f .. %.2f", (double)i / EVALUATION_BINS,
                         (double)(i + 1) / EVALUATION_BINS);
        ctl_table_int(t, (int64_t)p->bins[i].rows);
        cell_share(t, p->bins[i].confidence);
        cell_share(t, p->bins[i].accuracy);
    }
    return close_table(t, "calibration");
}

/* The curve at a few shares: what is answered, from the surest down, and how much of it is wrong.
 */
static enum ctl_exit print_risk(const struct ctl_eval *e)
{
    static const char *const heads[] = {"score above", "answered", "wrong"};
    static const double shares[] = {0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1};
    const struct evaluation_part *p = &e->single->all;
    struct ctl_table *t;
    uint32_t at = 0;

    if (ctl_table_open(stdout, heads, "rrr", &t) != 0)
        return ctl_no_memory();
    for (size_t i = 0; i < sizeof shares / sizeof *shares && at < p->curve_len; i++) {
        while (at + 1 < p->curve_len && p->curve[at].coverage < shares[i])
            at++;
        ctl_table_printf(t, "%.2f", p->curve[at].threshold);
        cell_share(t, p->curve[at].coverage);
        cell_share(t, p->curve[at].risk);
        at++;
    }
    return close_table(t, "answering only above a score");
}

static void print_unknown(const struct ctl_eval *e)
{
    struct api_buffer line = API_BUFFER_INIT;
    uint32_t all = e->single != NULL ? e->single->labels_len : e->sets->labels_len;

    for (uint32_t c = 0; c < all; c++) {
        uint64_t rows = e->single != NULL ? e->single->labels[c].taught : e->sets->labels[c].taught;
        struct ctl_name name = ctl_names_at(e->names, c);
        char count[40];

        if (rows == 0 || !ctl_eval_unknown(e, c))
            continue;
        api_buffer_add_string(&line, line.len > 0 ? ", " : "");
        ctl_clean(&line, name.bytes, name.len);
        snprintf(count, sizeof count, " (%llu)", (unsigned long long)rows);
        api_buffer_add_string(&line, count);
    }
    if (line.len > 0 && line.rc == 0)
        printf("\nlabels without an example in the model, never right (rows): %.*s\n",
               (int)line.len, line.bytes);
    api_buffer_done(&line);
}

enum ctl_exit ctl_eval_print(const struct ctl *ctl, const struct ctl_eval *e)
{
    long limit = ctl->options.limit;
    uint64_t most = limit < 0 ? CTL_EVAL_ROWS : limit == 0 ? UINT64_MAX : (uint64_t)limit;
    bool moved = strcmp(e->version, e->version_last) != 0;
    enum ctl_exit code;

    printf("%s %s%s%s: %llu rows of %s", e->model, e->version, moved ? " .. " : "",
           moved ? e->version_last : "", (unsigned long long)e->rows, e->file);
    if (e->rejected > 0)
        printf(", %llu rejected", (unsigned long long)e->rejected);
    printf("\n\n");
    if (e->single != NULL)
        print_single(e->single);
    else
        print_sets(e->sets);
    code = print_labels(e, most);
    if (code == CTL_OK && e->single != NULL) {
        code = print_pairs(e, most);
        if (code == CTL_OK)
            code = print_calibration(e);
        if (code == CTL_OK)
            code = print_risk(e);
    }
    print_unknown(e);
    return code;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void number(struct api_buffer *b, const char *name, double value)
{
    json_write_key(b, name);
    json_write_number(b, value);
}

static void whole(struct api_buffer *b, const char *name, uint64_t value)
{
    json_write_key(b, name);
    json_write_int(b, (int64_t)value);
}

static void name_of(struct api_buffer *b, const char *key, const struct ctl_eval *e,
                    uint32_t column)
{
    struct ctl_name name = ctl_names_at(e->names, column);

    json_write_key(b, key);
    json_write_text(b, name.bytes, name.len);
}

static void write_single(struct api_buffer *b, const struct ctl_eval *e)
{
    const struct evaluation_report *r = e->single;
    const struct evaluation_part *p = &r->all;

    number(b, "accuracy", p->accuracy);
    number(b, "accuracy_low", p->accuracy_low);
    number(b, "accuracy_high", p->accuracy_high);
    whole(b, "rows_known", r->known.rows);
    number(b, "accuracy_known", r->known.accuracy);
    number(b, "macro_f1", p->macro_f1);
    number(b, "ece", p->ece);
    number(b, "brier", p->brier);
    number(b, "nll", p->nll);
    number(b, "aurc", p->aurc);
    number(b, "abstained", r->taught.abstained_total);
    number(b, "novel", r->taught.novel_total);
    json_write_key(b, "reliability");
    json_open_array(b);
    for (int i = 0; i < EVALUATION_BINS; i++) {
        json_open_object(b);
        whole(b, "rows", p->bins[i].rows);
        number(b, "confidence", p->bins[i].confidence);
        number(b, "accuracy", p->bins[i].accuracy);
        json_close_object(b);
    }
    json_close_array(b);
    json_write_key(b, "risk_coverage");
    json_open_array(b);
    for (uint32_t i = 0; i < p->curve_len; i++) {
        json_open_object(b);
        number(b, "threshold", p->curve[i].threshold);
        number(b, "coverage", p->curve[i].coverage);
        number(b, "risk", p->curve[i].risk);
        json_close_object(b);
    }
    json_close_array(b);
    json_write_key(b, "confusions");
    json_open_array(b);
    for (uint32_t i = 0; i < r->pairs_len; i++) {
        json_open_object(b);
        name_of(b, "label", e, r->pairs[i].truth);
        name_of(b, "predicted", e, r->pairs[i].predicted);
        whole(b, "rows", r->pairs[i].rows);
        json_close_object(b);
    }
    json_close_array(b);
}

static void write_sets(struct api_buffer *b, const struct evaluation_sets_report *r)
{
    number(b, "exact_match", r->exact_match);
    number(b, "exact_match_low", r->exact_match_low);
    number(b, "exact_match_high", r->exact_match_high);
    whole(b, "rows_known", r->rows_known);
    number(b, "exact_match_known", r->exact_match_known);
    number(b, "micro_precision", r->micro_precision);
    number(b, "micro_recall", r->micro_recall);
    number(b, "micro_f1", r->micro_f1);
    number(b, "macro_f1", r->macro_f1);
    number(b, "hamming_loss", r->hamming_loss);
    number(b, "abstained", r->rates.abstained_total);
    number(b, "novel", r->rates.novel_total);
}

enum ctl_exit ctl_eval_print_json(const struct ctl_eval *e)
{
    struct api_buffer b = API_BUFFER_INIT;
    struct ctl_eval_label *labels;
    uint32_t len;

    if (ctl_eval_labels(e, &labels, &len) != 0)
        return ctl_no_memory();
    json_open_object(&b);
    json_write_key(&b, "model");
    json_write_string(&b, e->model);
    json_write_key(&b, "version");
    json_write_string(&b, e->version);
    json_write_key(&b, "version_last");
    json_write_string(&b, e->version_last);
    whole(&b, "rows", e->rows);
    whole(&b, "rejected", e->rejected);
    if (e->single != NULL)
        write_single(&b, e);
    else
        write_sets(&b, e->sets);
    json_write_key(&b, "labels");
    json_open_array(&b);
    for (uint32_t i = 0; i < len; i++) {
        json_open_object(&b);
        name_of(&b, "label", e, labels[i].column);
        whole(&b, "rows", labels[i].rows);
        whole(&b, "answered", labels[i].answered);
        whole(&b, "right", labels[i].right);
        number(&b, "precision", labels[i].precision);
        number(&b, "recall", labels[i].recall);
        number(&b, "f1", labels[i].f1);
        json_write_key(&b, "known");
        json_write_bool(&b, !ctl_eval_unknown(e, labels[i].column));
        json_close_object(&b);
    }
    json_close_array(&b);
    json_close_object(&b);
    free(labels);
    return ctl_print_buffer(&b);
}
