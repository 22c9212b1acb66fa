/* ctl_eval_html.c -- an evaluation as one page: figures, plots as SVG, tables. No script, no other
 * file, no address; light or dark as the reader's browser is.
 *
 * Whatever came from outside (labels, names of models and files) goes through add_text, which
 * cleans it as for a terminal and escapes it; everything else is a number or stands in this file.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ctl/ctl_eval.h"
#include "daemon/ctl/ctl_table.h"

enum {
    PLOT = 320,    /* side of a plot's square */
    MARGIN = 44,   /* left of it and below, for the axes */
    HEAT_MAX = 20, /* labels of the heat map */
    CELL = 22,
    HEAT_NAMES = 260, /* room for their names */
    BARS_MAX = 200,   /* labels with bars; the worst ones */
};

static const char STYLE[] =
    ":root{color-scheme:light dark;--ink:#1b1f24;--soft:#6a737d;--rule:#d0d7de;--back:#fff;"
    "--one:#0969da;--two:#bc4c00}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#8d96a0;--rule:#30363d;"
    "--back:#0d1117;--one:#58a6ff;--two:#f0883e}}"
    "body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back);"
    "max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2.2rem}p,small{color:var(--soft)}"
    "dl{display:flex;flex-wrap:wrap;gap:1rem 2.2rem;margin:1rem 0}dt{color:var(--soft)}"
    "dd{margin:0;font-size:1.5rem}table{border-collapse:collapse}"
    "td,th{padding:.15rem .8rem .15rem 0;text-align:right;font-variant-numeric:tabular-nums}"
    "th{color:var(--soft);font-weight:500;border-bottom:1px solid var(--rule)}"
    "td.l,th.l{text-align:left;overflow-wrap:anywhere}figure{margin:0}"
    ".plots{display:flex;flex-wrap:wrap;gap:2rem}svg{max-width:100%;height:auto}"
    "svg text{fill:var(--soft);font-size:11px}svg .n{fill:var(--ink)}"
    ".axis{stroke:var(--rule);fill:none}.even{stroke:var(--soft);stroke-dasharray:4 4}"
    ".one{fill:var(--one)}.two{fill:var(--two)}.line{stroke:var(--one);stroke-width:2;fill:none}"
    ".bar{background:var(--rule);width:9rem;height:.7rem;display:inline-block}"
    ".bar i{background:var(--one);height:100%;display:block}";

static void add(struct api_buffer *b, const char *html)
{
    api_buffer_add_string(b, html);
}

static void add_text(struct api_buffer *b, const char *bytes, size_t len)
{
    struct api_buffer clean = API_BUFFER_INIT;

    ctl_clean(&clean, bytes, len);
    for (size_t i = 0; i < clean.len; i++)
        switch (clean.bytes[i]) {
        case '&':
            add(b, "&amp;");
            break;
        case '<':
            add(b, "&lt;");
            break;
        case '>':
            add(b, "&gt;");
            break;
        case '"':
            add(b, "&quot;");
            break;
        case '\'':
            add(b, "&#39;");
            break;
        default:
            api_buffer_add(b, &clean.bytes[i], 1);
        }
    if (clean.rc != 0)
        b->rc = clean.rc;
    api_buffer_done(&clean);
}

static void add_name(struct api_buffer *b, const struct ctl_eval *e, uint32_t column)
{
    struct ctl_name name = ctl_names_at(e->names, column);

    add_text(b, name.bytes, name.len);
}

static void add_share(struct api_buffer *b, double share)
{
    if (isnan(share))
        add(b, "<td>-</td>");
    else
        api_buffer_addf(b, "<td>%.3f</td>", share);
}

static void figure(struct api_buffer *b, const char *name, double value)
{
    if (!isnan(value))
        api_buffer_addf(b, "<div><dt>%s</dt><dd>%.3f</dd></div>", name, value);
}

/* ---- plots ----------------------------------------------------------------------------------- */

/* Of shares 0..1 on both axes, where the origin is below on the left. */
static double x_of(double share)
{
    return MARGIN + share * PLOT;
}

static double y_of(double share)
{
    return 8 + (1 - share) * PLOT;
}

/* y_max: what the upper end of the y axis stands for. */
static void open_plot(struct api_buffer *b, const char *title, const char *x, const char *y,
                      double y_max)
{
    api_buffer_addf(
        b,
        "<figure><h2>%s</h2><svg role=\"img\" aria-label=\"%s\" width=\"%d\" viewBox=\"0 0 %d "
        "%d\">",
        title, title, PLOT + MARGIN + 16, PLOT + MARGIN + 16, PLOT + MARGIN + 8);
    api_buffer_addf(b, "<rect class=\"axis\" x=\"%d\" y=\"8\" width=\"%d\" height=\"%d\"/>", MARGIN,
                    PLOT, PLOT);
    for (int i = 0; i <= 4; i++) {
        double share = i / 4.0;

        api_buffer_addf(b, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.2f</text>",
                        x_of(share), PLOT + 24, share);
        api_buffer_addf(b, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.2f</text>", MARGIN - 6,
                        y_of(share) + 4, share * y_max);
    }
    api_buffer_addf(b, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>", x_of(0.5),
                    PLOT + 42, x);
    api_buffer_addf(
        b,
        "<text x=\"10\" y=\"%.1f\" text-anchor=\"middle\" transform=\"rotate(-90 10 %.1f)\">"
        "%s</text>",
        y_of(0.5), y_of(0.5), y);
}

/* A point a bin, at its mean score and accuracy, as large as its share of the rows. */
static void reliability(struct api_buffer *b, const struct evaluation_part *p)
{
    open_plot(b, "Reliability", "mean score", "accuracy", 1);
    api_buffer_addf(b, "<line class=\"even\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>",
                    x_of(0), y_of(0), x_of(1), y_of(1));
    for (int i = 0; i < EVALUATION_BINS; i++) {
        const struct evaluation_bin *bin = &p->bins[i];

        if (bin->rows == 0)
            continue;
        api_buffer_addf(
            b,
            "<circle class=\"one\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\" fill-opacity=\".75\">"
            "<title>score %.3f, accuracy %.3f, %llu rows</title></circle>",
            x_of(bin->confidence), y_of(bin->accuracy),
            3 + 14 * sqrt((double)bin->rows / (double)p->rows), bin->confidence, bin->accuracy,
            (unsigned long long)bin->rows);
    }
    add(b, "</svg><p><small>On the line a score is what it says. The area of a point grows with "
           "its rows.</small></p></figure>");
}

static void risk_coverage(struct api_buffer *b, const struct evaluation_part *p)
{
    double most = 0.05;

    for (uint32_t i = 0; i < p->curve_len; i++)
        most = fmax(most, p->curve[i].risk);
    open_plot(b, "Risk and coverage", "share that is answered", "share of it that is wrong", most);
    add(b, "<polyline class=\"line\" points=\"");
    for (uint32_t i = 0; i < p->curve_len; i++)
        api_buffer_addf(b, "%.1f,%.1f ", x_of(p->curve[i].coverage), y_of(p->curve[i].risk / most));
    add(b, "\"/></svg><p><small>Answering only the surest texts: how many, and how many of them "
           "wrongly.</small></p></figure>");
}

/* ---- the heat map ---------------------------------------------------------------------------- */

struct heat {
    uint32_t columns[HEAT_MAX], len;
    uint64_t rows[HEAT_MAX][HEAT_MAX]; /* by label, then answer */
};

static uint32_t place_of(const struct heat *h, uint32_t column)
{
    uint32_t i = 0;

    while (i < h->len && h->columns[i] != column)
        i++;
    return i;
}

/* The labels of the most frequent confusions, as many as fit. */
static void choose(struct heat *h, const struct evaluation_report *r)
{
    for (uint32_t i = 0; i < r->pairs_len; i++) {
        bool truth = place_of(h, r->pairs[i].truth) == h->len;
        bool answer = place_of(h, r->pairs[i].predicted) == h->len;

        if (h->len + truth + answer > HEAT_MAX)
            break;
        if (truth)
            h->columns[h->len++] = r->pairs[i].truth;
        if (answer)
            h->columns[h->len++] = r->pairs[i].predicted;
    }
    for (uint32_t i = 0; i < r->pairs_len; i++) {
        uint32_t truth = place_of(h, r->pairs[i].truth);
        uint32_t answer = place_of(h, r->pairs[i].predicted);

        if (truth < h->len && answer < h->len)
            h->rows[truth][answer] = r->pairs[i].rows;
    }
    for (uint32_t i = 0; i < h->len; i++)
        h->rows[i][i] = r->labels[h->columns[i]].right;
}

static void heat_cell(struct api_buffer *b, const struct ctl_eval *e, const struct heat *h,
                      uint32_t i, uint32_t k)
{
    double taught = (double)e->single->labels[h->columns[i]].taught;
    double share = taught > 0 ? (double)h->rows[i][k] / taught : 0;
    uint32_t x = HEAT_NAMES + k * CELL, y = i * CELL;

    if (h->rows[i][k] == 0)
        return;
    api_buffer_addf(
        b,
        "<rect class=\"%s\" x=\"%u\" y=\"%u\" width=\"%d\" height=\"%d\" fill-opacity=\"%.2f\">"
        "<title>",
        i == k ? "one" : "two", x, y, CELL - 1, CELL - 1, 0.12 + 0.5 * share);
    add_name(b, e, h->columns[i]);
    add(b, " &#8594; ");
    add_name(b, e, h->columns[k]);
    api_buffer_addf(b, ": %llu of %.0f rows</title></rect>", (unsigned long long)h->rows[i][k],
                    taught);
    api_buffer_addf(
        b,
        "<text class=\"n\" x=\"%u\" y=\"%u\" text-anchor=\"middle\" pointer-events=\"none\">"
        "%llu</text>",
        x + CELL / 2, y + 15, (unsigned long long)h->rows[i][k]);
}

static void heat_map(struct api_buffer *b, const struct ctl_eval *e)
{
    struct heat h = {.len = 0};
    uint32_t side;

    choose(&h, e->single);
    if (h.len == 0)
        return;
    side = h.len * CELL;
    add(b, "<h2>Confusions</h2><p>Labels of the most frequent ones: a row a label, a column an "
           "answer; blue is right.</p>");
    api_buffer_addf(
        b, "<svg role=\"img\" aria-label=\"Confusions\" width=\"%u\" viewBox=\"0 0 %u %u\">",
        HEAT_NAMES + side + 120, HEAT_NAMES + side + 120, side + 190);
    for (uint32_t i = 0; i < h.len; i++) {
        uint32_t middle = i * CELL + 15, x = HEAT_NAMES + i * CELL + 8;

        api_buffer_addf(b, "<text x=\"%d\" y=\"%u\" text-anchor=\"end\">", HEAT_NAMES - 6, middle);
        add_name(b, e, h.columns[i]);
        api_buffer_addf(b, "</text><text x=\"%u\" y=\"%u\" transform=\"rotate(50 %u %u)\">", x,
                        side + 12, x, side + 12);
        add_name(b, e, h.columns[i]);
        add(b, "</text>");
    }
    for (uint32_t i = 0; i < h.len; i++)
        for (uint32_t k = 0; k < h.len; k++)
            heat_cell(b, e, &h, i, k);
    add(b, "</svg>");
}

/* ---- tables ---------------------------------------------------------------------------------- */

static void pairs(struct api_buffer *b, const struct ctl_eval *e)
{
    if (e->single->pairs_len == 0)
        return;
    add(b, "<table><tr><th>rows</th><th class=\"l\">label</th><th class=\"l\">answered</th></tr>");
    for (uint32_t i = 0; i < e->single->pairs_len && i < CTL_EVAL_ROWS; i++) {
        api_buffer_addf(b, "<tr><td>%llu</td><td class=\"l\">",
                        (unsigned long long)e->single->pairs[i].rows);
        add_name(b, e, e->single->pairs[i].truth);
        add(b, "</td><td class=\"l\">");
        add_name(b, e, e->single->pairs[i].predicted);
        add(b, "</td></tr>");
    }
    add(b, "</table>");
}

static void bins(struct api_buffer *b, const struct evaluation_part *p)
{
    add(b, "<h2>Calibration</h2><table><tr><th>score</th><th>rows</th><th>mean score</th>"
           "<th>accuracy</th></tr>");
    for (int i = 0; i < EVALUATION_BINS; i++) {
        if (p->bins[i].rows == 0)
            continue;
        api_buffer_addf(b, "<tr><td>%.2f .. %.2f</td><td>%llu</td>", (double)i / EVALUATION_BINS,
                        (double)(i + 1) / EVALUATION_BINS, (unsigned long long)p->bins[i].rows);
        add_share(b, p->bins[i].confidence);
        add_share(b, p->bins[i].accuracy);
        add(b, "</tr>");
    }
    add(b, "</table>");
}

static void labels(struct api_buffer *b, const struct ctl_eval *e)
{
    struct ctl_eval_label *rows;
    uint32_t len;

    if (ctl_eval_labels(e, &rows, &len) != 0) {
        b->rc = -ENOMEM;
        return;
    }
    add(b, "<h2>Labels, the worst first</h2><table><tr><th class=\"l\">F1</th><th></th>"
           "<th>precision</th><th>recall</th><th>rows</th><th>answered</th><th class=\"l\">label"
           "</th></tr>");
    for (uint32_t i = 0; i < len && i < BARS_MAX; i++) {
        api_buffer_addf(b, "<tr><td><span class=\"bar\"><i style=\"width:%.1f%%\"></i></span></td>",
                        isnan(rows[i].f1) ? 0 : rows[i].f1 * 100);
        add_share(b, rows[i].f1);
        add_share(b, rows[i].precision);
        add_share(b, rows[i].recall);
        api_buffer_addf(b, "<td>%llu</td><td>%llu</td><td class=\"l\">",
                        (unsigned long long)rows[i].rows, (unsigned long long)rows[i].answered);
        add_name(b, e, rows[i].column);
        add(b, ctl_eval_unknown(e, rows[i].column) ? " <small>(no example)</small>" : "");
        add(b, "</td></tr>");
    }
    add(b, "</table>");
    if (len > BARS_MAX)
        api_buffer_addf(b, "<p>and %u more.</p>", len - BARS_MAX);
    free(rows);
}

/* ---- the page -------------------------------------------------------------------------------- */

static void figures(struct api_buffer *b, const struct ctl_eval *e)
{
    const struct evaluation_report *r = e->single;
    const struct evaluation_sets_report *s = e->sets;

    add(b, "<dl>");
    if (r != NULL) {
        figure(b, "accuracy", r->all.accuracy);
        figure(b, "of known labels", r->known.accuracy);
        figure(b, "macro-F1", r->all.macro_f1);
        figure(b, "ECE", r->all.ece);
        figure(b, "Brier", r->all.brier);
        figure(b, "abstained", r->taught.abstained_total);
        figure(b, "novel", r->taught.novel_total);
    } else {
        figure(b, "exact match", s->exact_match);
        figure(b, "of known labels", s->exact_match_known);
        figure(b, "micro-F1", s->micro_f1);
        figure(b, "macro-F1", s->macro_f1);
        figure(b, "Hamming loss", s->hamming_loss);
        figure(b, "abstained", s->rates.abstained_total);
        figure(b, "novel", s->rates.novel_total);
    }
    add(b, "</dl>");
}

void ctl_eval_html(const struct ctl_eval *e, struct api_buffer *b)
{
    add(b, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
           "<meta name=\"viewport\" content=\"width=device-width\"><title>");
    add_text(b, e->model, strlen(e->model));
    add(b, " evaluated</title><style>");
    add(b, STYLE);
    add(b, "</style></head><body><h1>");
    add_text(b, e->model, strlen(e->model));
    add(b, "</h1><p>version ");
    add_text(b, e->version, strlen(e->version));
    if (strcmp(e->version, e->version_last) != 0) {
        add(b, " to ");
        add_text(b, e->version_last, strlen(e->version_last));
    }
    api_buffer_addf(b, ", %llu rows of ", (unsigned long long)e->rows);
    add_text(b, e->file, strlen(e->file));
    api_buffer_addf(b, ", %llu rejected</p>", (unsigned long long)e->rejected);
    figures(b, e);
    if (e->single != NULL) {
        add(b, "<div class=\"plots\">");
        reliability(b, &e->single->all);
        risk_coverage(b, &e->single->all);
        add(b, "</div>");
        heat_map(b, e);
        pairs(b, e);
        bins(b, &e->single->all);
    }
    labels(b, e);
    add(b, "</body></html>\n");
}
