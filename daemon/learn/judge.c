/* judge.c -- see judge.h. */
#include "daemon/learn/judge.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/events.h"
#include "daemon/log.h"

enum { ROWS = 64, CONFUSIONS = 200 };

struct judge {
    bool multi;
    struct evaluation *evaluation; /* of kind multi only of questions */
    struct evaluation_sets *sets;  /* NULL of kind single */
    struct drift *drift;           /* its columns: drift_column() */
    float *embedding;              /* (dim) of the question at hand */
};

static struct drift_settings drift_settings_of(const struct judge_settings *settings)
{
    struct drift_settings drift = drift_settings_default;

    drift.dim = settings->dim;
    drift.seed = settings->seed;
    return drift;
}

static int judge_new(const struct judge_settings *settings, struct judge **ret_judge)
{
    struct judge *j = calloc(1, sizeof *j);

    if (j == NULL)
        return -ENOMEM;
    j->multi = settings->multi;
    j->embedding = malloc(settings->dim * sizeof *j->embedding);
    if (j->embedding == NULL) {
        judge_close(j);
        return -ENOMEM;
    }
    *ret_judge = j;
    return 0;
}

int judge_open(const struct judge_settings *settings, struct judge **ret_judge)
{
    struct drift_settings drift = drift_settings_of(settings);
    struct judge *j;
    int rc = judge_new(settings, &j);

    if (rc != 0)
        return rc;
    rc = evaluation_open(&j->evaluation);
    if (rc == 0 && settings->multi)
        rc = evaluation_sets_open(&j->sets);
    if (rc == 0)
        rc = drift_open(&drift, &j->drift);
    if (rc != 0) {
        judge_close(j);
        return rc;
    }
    *ret_judge = j;
    return 0;
}

void judge_close(struct judge *j)
{
    if (j == NULL)
        return;
    if (j->evaluation != NULL)
        evaluation_close(j->evaluation);
    evaluation_sets_close(j->sets);
    if (j->drift != NULL)
        drift_close(j->drift);
    free(j->embedding);
    free(j);
}

/* What the detectors call a label. Of kind multi 0 stands for "none of them", which is an answer
 * like others there. */
static uint32_t drift_column(const struct judge *j, uint32_t column)
{
    if (!j->multi)
        return column != UINT32_MAX ? column : DRIFT_NONE;
    return column != UINT32_MAX ? column + 1 : 0;
}

static int grow(struct judge *j, uint32_t labels_len)
{
    int rc = evaluation_labels_grow(j->evaluation, labels_len);

    if (rc == 0 && j->multi)
        rc = evaluation_sets_grow(j->sets, labels_len);
    return rc == 0 ? drift_labels_grow(j->drift, labels_len + j->multi) : rc;
}

/* ---- telling --------------------------------------------------------------------------------- */

static const char *moved_label(const struct judge *j, const struct learned *l,
                               const struct drift_event *e)
{
    uint32_t first = j->multi;

    if (e->moved_len == 0 || e->moved[0].label < first ||
        e->moved[0].label - first >= l->labels->len)
        return NULL;
    return l->labels->names[e->moved[0].label - first];
}

static void tell(const struct judge *j, const struct learned *l, struct bus *bus,
                 const struct drift_event *e)
{
    const char *name = drift_kind_name(e->kind), *label = moved_label(j, l, e);
    bool asked = e->kind >= DRIFT_ASKED_MIX;
    struct events_drift drift = {.model = l->name,
                                 .detector = name,
                                 .measure = e->kind <= DRIFT_ERROR_PH         ? "error"
                                            : e->kind == DRIFT_ASKED_FEATURES ? "features"
                                                                              : "label_mix",
                                 .label = label,
                                 .before = e->from,
                                 .after = e->to,
                                 .statistic = e->chance,
                                 .threshold = NAN,
                                 .since_us = asked ? e->since : 0};
    char from[32], to[32], since[32];

    snprintf(from, sizeof from, "%.4f", e->from);
    snprintf(to, sizeof to, "%.4f", e->to);
    snprintf(since, sizeof since, "%lld", (long long)(asked ? e->since / 1000000 : e->since));
    log_warn("learner", "event", "drift", "model", l->name, "detector", name, "label",
             label != NULL ? label : "", "from", from, "to", to, asked ? "since_unix" : "since_seq",
             since, "new_labels", e->new_labels ? "true" : "false", NULL);
    events_drift(bus, &drift);
}

/* ---- scoring --------------------------------------------------------------------------------- */

/* One pass over the events, ROWS at a time. */
struct pass {
    struct judge *judge;
    const struct learned *learned;
    const struct learner_parts *parts;
    const struct touched *touched;
    struct snapshot *snapshot;
    struct learned_round *round;
    uint32_t dim, labels, labels_known;
    float *embeddings;    /* (ROWS,dim) */
    float *probabilities; /* (ROWS,labels) */
    struct head_answer *answers;
    void *scratch;
    const struct judge_event *events[ROWS];
    uint32_t rows[ROWS];       /* of touched */
    uint32_t *truth, *guessed; /* (labels of the model), (labels) of one row, kind multi */
    uint32_t len;
    uint32_t *order; /* touched rows by example id */
};

static void watch_error(const struct pass *p, int64_t seq, uint32_t column, bool wrong)
{
    struct drift_event found[DRIFT_EVENTS_MAX];
    uint32_t len = 0;

    if (drift_teach(p->judge->drift, seq, drift_column(p->judge, column), wrong, found, &len) == 0)
        for (uint32_t k = 0; k < len; k++)
            tell(p->judge, p->learned, p->parts->bus, &found[k]);
}

/* The outcome of a correction, for whoever compares two versions. */
static void note(const struct pass *p, uint32_t i, bool right)
{
    struct learned_round *r = p->round;

    if (r->outcomes != NULL)
        r->outcomes[r->outcomes_len++] = (struct learned_outcome){p->events[i]->seq, right};
}

static void count_row(const struct pass *p, uint32_t i)
{
    const struct judge_event *event = p->events[i];
    const struct head_answer *answer = &p->answers[i];
    const float *probabilities = p->probabilities + (size_t)i * p->labels;
    struct evaluation_row row = {.seq = event->seq,
                                 .truth = event->column,
                                 .predicted =
                                     answer->label == UINT32_MAX ? EVALUATION_NONE : answer->label,
                                 .labels_known = p->labels_known,
                                 .known = head_label_weight(p->learned->head, event->column) > 0,
                                 .novel = answer->novel,
                                 .abstained = true,
                                 .annotator = event->annotator};

    for (uint32_t c = 0; c < p->labels; c++)
        row.p_squares += (double)probabilities[c] * probabilities[c];
    if (row.known && event->column < p->labels)
        row.p_truth = probabilities[event->column];
    if (row.predicted != EVALUATION_NONE) {
        row.p_predicted = probabilities[row.predicted];
        row.abstained =
            answer->novel || row.p_predicted < live_score_min(p->snapshot, row.predicted);
    }
    if (evaluation_score(p->judge->evaluation, &row) == 0)
        watch_error(p, row.seq, row.truth, row.predicted != row.truth);
}

/* Is the label one of the text's, as the live version answers? */
static bool is_guessed(const struct pass *p, const float *probabilities, uint32_t label)
{
    return probabilities[label] > 0 &&
           probabilities[label] >= (float)head_view_threshold(p->snapshot->view, label);
}

/* Does the best of the guessed labels reach what the model asks of a score? */
static bool is_sure(const struct pass *p, const float *probabilities, uint32_t guessed_len)
{
    uint32_t best = UINT32_MAX;

    for (uint32_t k = 0; k < guessed_len; k++)
        if (best == UINT32_MAX || probabilities[p->guessed[k]] > probabilities[best])
            best = p->guessed[k];
    return best != UINT32_MAX && probabilities[best] >= (float)live_score_min(p->snapshot, best);
}

/* Kind multi: was it the same set? Counts the row, if anybody counts. The detectors get the exact
 * match, and the first label of the set. */
static bool score_set(const struct pass *p, uint32_t i)
{
    const struct touched_row *t = &p->touched->rows[p->rows[i]];
    const struct head_target *targets = p->touched->targets + t->target;
    const float *probabilities = p->probabilities + (size_t)i * p->labels;
    struct evaluation_sets_row row = {.seq = p->events[i]->seq,
                                      .truth = p->truth,
                                      .guessed = p->guessed,
                                      .labels_known = p->labels_known,
                                      .known = true,
                                      .novel = p->answers[i].novel};
    uint32_t first = UINT32_MAX, same = 0;
    bool right;

    for (uint32_t k = 0; k < t->target_len; k++) {
        if (targets[k].value < 0.5f)
            continue;
        p->truth[row.truth_len++] = targets[k].label;
        row.known = row.known && head_label_weight(p->learned->head, targets[k].label) > 0;
        first = targets[k].label < first ? targets[k].label : first;
        same += targets[k].label < p->labels && is_guessed(p, probabilities, targets[k].label);
    }
    for (uint32_t c = 0; c < p->labels; c++)
        if (is_guessed(p, probabilities, c))
            p->guessed[row.guessed_len++] = c;
    row.abstained = p->answers[i].novel || !is_sure(p, probabilities, row.guessed_len);
    right = same == row.truth_len && same == row.guessed_len;
    if (p->judge != NULL && evaluation_sets_score(p->judge->sets, &row) == 0)
        watch_error(p, row.seq, first, !right);
    return right;
}

static void flush(struct pass *p)
{
    if (p->len > 0 && head_view_score(p->snapshot->view, p->embeddings, p->len, NULL, p->scratch,
                                      p->answers, p->probabilities, NULL) == 0)
        for (uint32_t i = 0; i < p->len; i++) {
            bool right =
                p->learned->multi ? score_set(p, i) : p->answers[i].label == p->events[i]->column;

            note(p, i, right);
            if (p->judge != NULL && !p->learned->multi)
                count_row(p, i);
        }
    p->len = 0;
}

static int by_example(const void *a, const void *b, void *ud)
{
    const struct touched *t = ud;

    return memcmp(t->rows[*(const uint32_t *)a].example, t->rows[*(const uint32_t *)b].example,
                  STORE_ID_BYTES);
}

/* The touched row of an example; UINT32_MAX: none. */
static uint32_t find_row(const struct pass *p, const uint8_t example[STORE_ID_BYTES])
{
    uint32_t from = 0, to = p->touched->len;

    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        int sign = memcmp(p->touched->rows[p->order[middle]].example, example, STORE_ID_BYTES);

        if (sign == 0)
            return p->order[middle];
        if (sign < 0)
            from = middle + 1;
        else
            to = middle;
    }
    return UINT32_MAX;
}

static int pass_open(struct pass *p)
{
    size_t scratch;

    if (p->learned->role == LEARNED_LIVE)
        p->snapshot = live_get_by_id(p->parts->live, p->learned->model);
    else if (p->learned->frozen != NULL)
        p->snapshot = live_hold(p->learned->frozen);
    if (p->snapshot == NULL) /* the first round of all, or a candidate */
        return -ENOENT;
    p->dim = p->touched->dim;
    p->labels = head_view_labels_len(p->snapshot->view);
    scratch = (head_view_scratch_bytes(p->snapshot->view, ROWS) + 63) / 64 * 64;
    for (uint32_t c = 0; c < p->labels; c++)
        p->labels_known += head_label_weight(p->learned->head, c) > 0;
    p->embeddings = malloc((size_t)ROWS * p->dim * sizeof *p->embeddings);
    p->probabilities = malloc(((size_t)ROWS * p->labels + 1) * sizeof *p->probabilities);
    p->answers = malloc(ROWS * sizeof *p->answers);
    p->scratch = aligned_alloc(64, scratch > 0 ? scratch : 64);
    p->order = malloc((p->touched->len + 1) * sizeof *p->order);
    p->truth = malloc((p->learned->labels->len + 1) * sizeof *p->truth);
    p->guessed = malloc((p->labels + 1) * sizeof *p->guessed);
    if (p->truth == NULL || p->guessed == NULL || p->embeddings == NULL ||
        p->probabilities == NULL || p->answers == NULL || p->scratch == NULL || p->order == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < p->touched->len; i++)
        p->order[i] = i;
    if (p->touched->len > 0)
        qsort_r(p->order, p->touched->len, sizeof *p->order, by_example,
                (void *)(uintptr_t)p->touched);
    return 0;
}

static void pass_close(struct pass *p)
{
    live_put(p->snapshot);
    free(p->embeddings);
    free(p->probabilities);
    free(p->answers);
    free(p->scratch);
    free(p->order);
    free(p->truth);
    free(p->guessed);
}

void judge_score(struct judge *j, const struct learned *l, const struct learner_parts *parts,
                 const struct touched *t, const struct judge_events *events,
                 struct learned_round *round)
{
    struct pass p = {.judge = j, .learned = l, .parts = parts, .touched = t, .round = round};
    uint8_t *seen = calloc(t->len + 1, 1);

    if (seen != NULL && events->len > 0 && pass_open(&p) == 0 &&
        (j == NULL || grow(j, l->labels->len) == 0)) {
        if (l->noting) /* without memory none are noted */
            round->outcomes = malloc(events->len * sizeof *round->outcomes);
        for (uint32_t i = 0; i < events->len; i++) {
            uint32_t row = find_row(&p, events->rows[i].example);

            if (row == UINT32_MAX || seen[row] || !t->rows[row].embedded ||
                head_has(l->head, touched_id(&t->rows[row])))
                continue;
            seen[row] = 1;
            head_embedding_unpack(t->embeddings + (size_t)row * t->dim, t->dim,
                                  p.embeddings + (size_t)p.len * t->dim);
            p.rows[p.len] = row;
            p.events[p.len++] = &events->rows[i];
            if (p.len == ROWS)
                flush(&p);
        }
        flush(&p);
    }
    pass_close(&p);
    free(seen);
}

/* ---- questions ------------------------------------------------------------------------------- */

void judge_ask(struct judge *j, const struct learned *l, const struct learner_parts *parts,
               const struct asked_row *row)
{
    int64_t last = drift_asked_mark(j->drift);
    struct drift_event found[DRIFT_EVENTS_MAX];
    uint32_t len = 0;

    evaluation_ask(j->evaluation, row->novel, row->abstained);
    if (grow(j, l->labels->len) != 0 ||
        (row->column != UINT32_MAX && row->column >= l->labels->len))
        return;
    head_embedding_unpack(row->embedding, row->dim, j->embedding);
    /* Loops put side by side, and clocks are set back: a mark never falls. */
    if (drift_ask(j->drift, row->asked_us > last ? row->asked_us : last, j->embedding,
                  row->chosen ? DRIFT_NONE : drift_column(j, row->column), found, &len) == 0)
        for (uint32_t k = 0; k < len; k++)
            tell(j, l, parts->bus, &found[k]);
}

void judge_encoder_changed(struct judge *j)
{
    drift_features_anew(j->drift);
}

/* ---- reports --------------------------------------------------------------------------------- */

int judge_report(const struct judge *j, struct evaluation_report **ret_report,
                 struct evaluation_sets_report **ret_sets, struct drift_report *ret_drift)
{
    struct evaluation_sets_report *sets = NULL;
    int rc = j->multi ? evaluation_sets_read(j->sets, &sets) : 0;

    if (rc == 0)
        rc = evaluation_read(j->evaluation, CONFUSIONS, ret_report);
    if (rc != 0) {
        evaluation_sets_report_free(sets);
        return rc;
    }
    *ret_sets = sets;
    drift_read(j->drift, ret_drift);
    return 0;
}

int judge_loo_report(const struct head *head, struct evaluation_report **ret_report)
{
    uint32_t len, known = 0;
    const struct head_loo_row *rows = head_fit_rows(head, &len);
    struct evaluation_batch *batch;
    int rc = evaluation_batch_open(head_labels_len(head), &batch);

    if (rc != 0)
        return rc;
    for (uint32_t c = 0; c < head_labels_len(head); c++)
        known += head_label_weight(head, c) > 0;
    for (uint32_t i = 0; i < len; i++) {
        struct evaluation_row row = {.truth = rows[i].label,
                                     .predicted = rows[i].predicted,
                                     .labels_known = known,
                                     .p_predicted = fmin(rows[i].p_predicted, 1),
                                     .p_truth = fmin(rows[i].p_label, 1),
                                     .p_squares = fmin(rows[i].p_squares, 1),
                                     .known = true};

        (void)evaluation_batch_add(batch, &row);
    }
    rc = evaluation_batch_read(batch, CONFUSIONS, ret_report);
    evaluation_batch_close(batch);
    return rc;
}

int judge_figures(const struct judge *j, const struct head *head, struct figures *f)
{
    struct evaluation_report *report, *loo;
    struct evaluation_sets_report *sets = NULL;
    struct drift_report drift;
    int rc = judge_report(j, &report, &sets, &drift);

    if (rc != 0)
        return rc;
    rc = judge_loo_report(head, &loo);
    if (rc == 0) {
        bool single = sets == NULL;

        f->rows = single ? report->all.rows : sets->rows;
        f->accuracy_fading = single ? report->all.accuracy_fading : sets->exact_match_fading;
        f->accuracy_window = single ? report->all.accuracy_window : sets->exact_match_window;
        f->macro_f1 = single ? report->all.macro_f1 : sets->macro_f1;
        f->micro_f1 = single ? NAN : sets->micro_f1;
        f->hamming_loss = single ? NAN : sets->hamming_loss;
        f->ece = report->all.ece;
        f->brier = report->all.brier;
        f->novel = single ? report->taught.novel_window : sets->rates.novel_window;
        f->loo_accuracy = loo->all.accuracy;
        f->loo_macro_f1 = loo->all.macro_f1;
        f->loo_ece = loo->all.ece;
        f->loo_brier = loo->all.brier;
        f->asked = report->asked.rows;
        f->asked_novel = report->asked.novel_window;
        f->asked_abstained = report->asked.abstained_window;
        for (int k = 0; k < DRIFT_KINDS; k++)
            f->alarms[k] = drift.kinds[k].fired;
        for (int k = DRIFT_ERROR_ADWIN; k <= DRIFT_ERROR_PH; k++)
            if (drift.kinds[k].fired > 0 && !drift.kinds[k].last.new_labels &&
                drift.kinds[k].last.at > f->error_alarm_seq)
                f->error_alarm_seq = drift.kinds[k].last.at;
        evaluation_report_free(loo);
    }
    evaluation_report_free(report);
    evaluation_sets_report_free(sets);
    return rc;
}

void judge_forget(struct judge *j, const char *annotator)
{
    evaluation_annotator_erase(j->evaluation, annotator);
}

/* ---- keeping --------------------------------------------------------------------------------- */

size_t judge_image_bytes(const struct judge *j, int part)
{
    if (part == JUDGE_EVALUATION)
        return evaluation_image_bytes(j->evaluation);
    if (part == JUDGE_DRIFT)
        return drift_image_bytes(j->drift);
    return j->multi ? evaluation_sets_image_bytes(j->sets) : 0;
}

void judge_image_write(const struct judge *j, int part, void *image)
{
    if (part == JUDGE_EVALUATION)
        evaluation_image_write(j->evaluation, image);
    else if (part == JUDGE_DRIFT)
        drift_image_write(j->drift, image);
    else if (j->multi)
        evaluation_sets_image_write(j->sets, image);
}

int judge_image_read(const struct judge_settings *settings, const void *const images[JUDGE_PARTS],
                     const size_t bytes[JUDGE_PARTS], struct judge **ret_judge)
{
    struct drift_settings drift = drift_settings_of(settings);
    struct judge *j;
    int rc = judge_new(settings, &j);

    if (rc != 0)
        return rc;
    rc = evaluation_image_read(images[JUDGE_EVALUATION], bytes[JUDGE_EVALUATION], &j->evaluation);
    if (rc == 0)
        rc = drift_image_read(&drift, images[JUDGE_DRIFT], bytes[JUDGE_DRIFT], &j->drift);
    if (rc == 0 && settings->multi)
        rc = evaluation_sets_image_read(images[JUDGE_SETS], bytes[JUDGE_SETS], &j->sets);
    if (rc != 0) {
        judge_close(j);
        return rc;
    }
    *ret_judge = j;
    return 0;
}
