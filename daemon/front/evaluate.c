/* evaluate.c -- GET /v1/models/{m}/evaluation: how good the model is, by its own count.
 *
 * The learner owns what is counted; it is asked like for a change, but nothing is written, and it
 * gives a copy away. Two views of the same figures: `prequential`, corrections scored before they
 * were learned, and `leave_one_out`, stored examples scored without themselves. A model of kind
 * multi has `sets` in their place.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/front/handlers.h"
#include "proto/json.h"

struct evaluating {
    struct front_message message; /* first */
    struct change change;
    int64_t model;
    struct learner_report report;
    int rc;
};

static struct evaluating *of_change(struct change *change)
{
    return (struct evaluating *)((char *)change - offsetof(struct evaluating, change));
}

/* ---- writing --------------------------------------------------------------------------------- */

struct figure {
    const char *name;
    double value; /* NAN: null */
};

static void write_figures(struct api_buffer *b, const struct figure *figures, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        json_write_key(b, figures[i].name);
        json_write_number(b, figures[i].value);
    }
}
#define FIGURES(b, ...)                                                                            \
    write_figures(b, (struct figure[]){__VA_ARGS__},                                               \
                  sizeof((struct figure[]){__VA_ARGS__}) / sizeof(struct figure))

static void write_part(struct api_buffer *b, const char *name, const struct evaluation_part *p)
{
    json_write_key(b, name);
    json_open_object(b);
    FIGURES(b, {"rows", (double)p->rows}, {"accuracy", p->accuracy},
            {"accuracy_low", p->accuracy_low}, {"accuracy_high", p->accuracy_high},
            {"accuracy_fading", p->accuracy_fading}, {"accuracy_window", p->accuracy_window},
            {"macro_f1", p->macro_f1}, {"ece", p->ece}, {"brier", p->brier}, {"nll", p->nll},
            {"aurc", p->aurc});
    json_write_key(b, "reliability");
    json_open_array(b);
    for (uint32_t i = 0; i < EVALUATION_BINS; i++) {
        json_open_object(b);
        FIGURES(b, {"rows", (double)p->bins[i].rows}, {"confidence", p->bins[i].confidence},
                {"accuracy", p->bins[i].accuracy});
        json_close_object(b);
    }
    json_close_array(b);
    json_write_key(b, "risk_coverage");
    json_open_array(b);
    for (uint32_t i = 0; i < p->curve_len; i++) {
        json_open_object(b);
        FIGURES(b, {"threshold", p->curve[i].threshold}, {"coverage", p->curve[i].coverage},
                {"risk", p->curve[i].risk});
        json_close_object(b);
    }
    json_close_array(b);
    json_close_object(b);
}

static void write_label(struct api_buffer *b, const char *name, const struct evaluation_label *l)
{
    json_open_object(b);
    json_write_key(b, "label");
    json_write_string(b, name);
    FIGURES(b, {"taught", (double)l->taught}, {"right", (double)l->right},
            {"predicted", (double)l->predicted}, {"precision", l->precision}, {"recall", l->recall},
            {"f1", l->f1}, {"recall_fading", l->recall_fading}, {"recall_best", l->best},
            {"forgetting", l->forgetting});
    json_write_key(b, "forgotten");
    json_write_bool(b, l->forgotten);
    json_close_object(b);
}

static void write_annotator(struct api_buffer *b, const char *name,
                            const struct evaluation_annotator *a)
{
    if (a->rows == 0)
        return;
    json_open_object(b);
    json_write_key(b, "annotator");
    json_write_string(b, name);
    FIGURES(b, {"rows", (double)a->rows}, {"agreement", a->agreement_known},
            {"agreement_fading", a->agreement_fading});
    json_close_object(b);
}

static void write_lists(struct api_buffer *b, const struct evaluation_report *r,
                        const struct live_labels *labels)
{
    json_write_key(b, "labels");
    json_open_array(b);
    for (uint32_t c = 0; c < r->labels_len && c < labels->len; c++)
        if (r->labels[c].taught > 0 || r->labels[c].predicted > 0)
            write_label(b, labels->names[c], &r->labels[c]);
    json_close_array(b);
    json_write_key(b, "annotators");
    json_open_array(b);
    for (uint32_t i = 0; i < r->annotators_len; i++)
        write_annotator(b, r->annotators[i].name, &r->annotators[i]);
    write_annotator(b, NULL, &r->unnamed);
    json_close_array(b);
    json_write_key(b, "confusions");
    json_open_array(b);
    for (uint32_t i = 0; i < r->pairs_len; i++) {
        const struct evaluation_confusion *pair = &r->pairs[i];

        if (pair->truth >= labels->len || pair->predicted >= labels->len)
            continue;
        json_open_object(b);
        json_write_key(b, "label");
        json_write_string(b, labels->names[pair->truth]);
        json_write_key(b, "predicted");
        json_write_string(b, labels->names[pair->predicted]);
        FIGURES(b, {"rows", (double)pair->rows}, {"error", (double)pair->error});
        json_close_object(b);
    }
    json_close_array(b);
}

/* NULL, or nothing counted: null. */
static void write_report(struct api_buffer *b, const char *name, const struct evaluation_report *r,
                         const struct live_labels *labels)
{
    json_write_key(b, name);
    if (r == NULL || r->all.rows == 0) {
        json_write_null(b);
        return;
    }
    json_open_object(b);
    write_part(b, "all", &r->all);
    write_part(b, "known", &r->known);
    FIGURES(b, {"unanswered", (double)r->unanswered}, {"chance", r->chance},
            {"novel", r->taught.novel_total}, {"novel_window", r->taught.novel_window},
            {"abstained", r->taught.abstained_total},
            {"abstained_window", r->taught.abstained_window}, {"forgetting", r->forgetting},
            {"forgotten", (double)r->forgotten});
    write_lists(b, r, labels);
    json_close_object(b);
}

/* Kind multi; else null. */
static void write_sets(struct api_buffer *b, const struct evaluation_sets_report *s,
                       const struct live_labels *labels)
{
    json_write_key(b, "sets");
    if (s == NULL || s->rows == 0) {
        json_write_null(b);
        return;
    }
    json_open_object(b);
    FIGURES(
        b, {"rows", (double)s->rows}, {"rows_known", (double)s->rows_known},
        {"exact_match", s->exact_match}, {"exact_match_low", s->exact_match_low},
        {"exact_match_high", s->exact_match_high}, {"exact_match_fading", s->exact_match_fading},
        {"exact_match_window", s->exact_match_window}, {"exact_match_known", s->exact_match_known},
        {"micro_precision", s->micro_precision}, {"micro_recall", s->micro_recall},
        {"micro_f1", s->micro_f1}, {"macro_f1", s->macro_f1}, {"hamming_loss", s->hamming_loss},
        {"novel", s->rates.novel_total}, {"novel_window", s->rates.novel_window},
        {"abstained", s->rates.abstained_total}, {"abstained_window", s->rates.abstained_window});
    json_write_key(b, "labels");
    json_open_array(b);
    for (uint32_t c = 0; c < s->labels_len && c < labels->len; c++) {
        const struct evaluation_sets_label *l = &s->labels[c];

        if (l->taught + l->guessed == 0)
            continue;
        json_open_object(b);
        json_write_key(b, "label");
        json_write_string(b, labels->names[c]);
        FIGURES(b, {"taught", (double)l->taught}, {"right", (double)l->right},
                {"predicted", (double)l->guessed}, {"precision", l->precision},
                {"recall", l->recall}, {"f1", l->f1});
        json_close_object(b);
    }
    json_close_array(b);
    json_close_object(b);
}

static void write_asked(struct api_buffer *b, const struct evaluation_rates *r)
{
    json_write_key(b, "asked");
    json_open_object(b);
    FIGURES(b, {"rows", (double)r->rows}, {"novel", r->novel_total},
            {"novel_window", r->novel_window}, {"abstained", r->abstained_total},
            {"abstained_window", r->abstained_window});
    json_close_object(b);
}

/* unix_us 0: null. */
static void write_time(struct api_buffer *b, const char *name, int64_t unix_us)
{
    char text[API_TIME_CHARS];

    if (unix_us != 0)
        api_time_format(unix_us, text);
    json_write_key(b, name);
    json_write_string(b, unix_us != 0 ? text : NULL);
}

static void write_drift(struct api_buffer *b, const struct learner_report *r)
{
    json_write_key(b, "drift");
    json_open_array(b);
    for (int k = 0; k < DRIFT_KINDS; k++) {
        const struct drift_state *s = &r->drift.kinds[k];
        bool fired = s->fired > 0, asked = k >= DRIFT_ASKED_MIX; /* marks of corrections are seqs */

        json_open_object(b);
        json_write_key(b, "detector");
        json_write_string(b, drift_kind_name((enum drift_kind)k));
        FIGURES(b, {"rows", (double)s->rows}, {"fired", (double)s->fired},
                {"window", (double)s->window}, {"now", s->now},
                {"since_seq", fired && !asked ? (double)s->last.since : NAN},
                {"at_seq", fired && !asked ? (double)s->last.at : NAN},
                {"before", fired ? s->last.from : NAN}, {"after", fired ? s->last.to : NAN});
        write_time(b, "since", fired && asked ? s->last.since : 0);
        write_time(b, "at", fired && asked ? s->last.at : 0);
        json_write_key(b, "new_labels");
        json_write_bool(b, fired && s->last.new_labels);
        json_close_object(b);
    }
    json_close_array(b);
}

static void write_fit(struct api_buffer *b, const struct learner_report *r)
{
    static const char *const names[HEAD_SCORES] = {"ridge", "lda", "count", "prototype", "nearest"};
    const struct live_review *review = r->review;

    json_write_key(b, "fit");
    json_open_object(b);
    FIGURES(b, {"examples", r->fit_examples}, {"stale", (double)r->fit_stale});
    json_write_key(b, "coefficients");
    json_open_object(b);
    for (int h = 0; h < HEAD_SCORES; h++)
        write_figures(b, &(struct figure){names[h], r->coefficients[h]}, 1);
    json_close_object(b);
    json_close_object(b);
    json_write_key(b, "audit");
    if (review == NULL) {
        json_write_null(b);
        return;
    }
    json_open_object(b);
    FIGURES(b, {"seq", (double)review->seq}, {"examined", review->examined},
            {"suspects", review->suspects_len}, {"duplicates", review->twins_len});
    json_write_key(b, "distrusted");
    json_write_bool(b, review->distrusted);
    json_close_object(b);
}

static void write_all(struct api_buffer *b, const struct learner_report *r)
{
    char version[API_VERSION_CHARS];

    api_version_format((struct api_version){r->encoder_number, r->seq}, version);
    json_open_object(b);
    json_write_key(b, "model");
    json_write_string(b, r->model);
    json_write_key(b, "version");
    json_write_string(b, version);
    json_write_key(b, "settled");
    json_write_bool(b, r->settled);
    FIGURES(b, {"examples", (double)r->examples});
    write_report(b, "prequential", r->prequential, r->labels);
    write_report(b, "leave_one_out", r->leave_one_out, r->labels);
    write_sets(b, r->sets, r->labels);
    write_asked(b, &r->prequential->asked);
    write_drift(b, r);
    write_fit(b, r);
    json_close_object(b);
}

/* ---- the walk -------------------------------------------------------------------------------- */

static void evaluating_free(struct evaluating *e)
{
    learner_report_done(&e->report);
    free(e);
}

static void arrive(struct front_message *message, struct exchange *x)
{
    struct evaluating *e = (struct evaluating *)message;
    struct api_buffer body = API_BUFFER_INIT;

    if (x != NULL && e->rc != 0) {
        exchange_failed(x, e->rc);
    } else if (x != NULL) {
        write_all(&body, &e->report);
        exchange_json(x, 200, &body);
    }
    evaluating_free(e);
}

static int ask(struct change *change, struct learner *learner)
{
    struct evaluating *e = of_change(change);

    return learner_report(learner, e->model, &e->report);
}

static void done(struct change *change, int rc)
{
    struct evaluating *e = of_change(change);

    e->rc = rc;
    front_post(&e->message);
}

void handle_evaluation(struct exchange *x)
{
    struct server *server = exchange_server(x);
    struct snapshot *s = handlers_model(x, exchange_param(x, 0), "");
    struct evaluating *e = s != NULL ? calloc(1, sizeof *e) : NULL;
    int rc;

    if (s == NULL)
        return;
    if (e == NULL) {
        live_put(s);
        exchange_failed(x, -ENOMEM);
        return;
    }
    e->message.ref = exchange_ref(x);
    e->message.arrive = arrive;
    e->change.apply = ask;
    e->change.done = done;
    e->model = s->model;
    live_put(s);
    rc = learner_post(server->learner, &e->change);
    if (rc == 0)
        return;
    exchange_failed(x, rc);
    evaluating_free(e);
}
