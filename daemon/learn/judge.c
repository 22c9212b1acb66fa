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
    struct evaluation *evaluation;
    struct drift *drift;
};

static struct drift_settings drift_settings_of(uint32_t dim, uint64_t seed)
{
    struct drift_settings settings = drift_settings_default;

    settings.dim = dim;
    settings.seed = seed;
    return settings;
}

int judge_open(uint32_t dim, uint64_t seed, struct judge **ret_judge)
{
    struct drift_settings settings = drift_settings_of(dim, seed);
    struct judge *j = calloc(1, sizeof *j);
    int rc = j != NULL ? evaluation_open(&j->evaluation) : -ENOMEM;

    if (rc == 0)
        rc = drift_open(&settings, &j->drift);
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
    if (j->drift != NULL)
        drift_close(j->drift);
    free(j);
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
    uint32_t len;
    uint32_t *order; /* touched rows by example id */
};

static void tell(const struct pass *p, const struct drift_event *e)
{
    const char *name = drift_kind_name(e->kind);
    const struct live_labels *labels = p->learned->labels;
    const char *label = e->moved_len > 0 && e->moved[0].label < labels->len
                            ? labels->names[e->moved[0].label]
                            : NULL;
    struct events_drift drift = {.model = p->learned->name,
                                 .detector = name,
                                 .measure = e->kind <= DRIFT_ERROR_PH ? "error" : "label_mix",
                                 .label = label,
                                 .before = e->from,
                                 .after = e->to,
                                 .statistic = e->chance,
                                 .threshold = NAN};
    char from[32], to[32], since[32];

    snprintf(from, sizeof from, "%.4f", e->from);
    snprintf(to, sizeof to, "%.4f", e->to);
    snprintf(since, sizeof since, "%lld", (long long)e->since);
    log_warn("learner", "event", "drift", "model", p->learned->name, "detector", name, "from", from,
             "to", to, "since_seq", since, "new_labels", e->new_labels ? "true" : "false", NULL);
    events_drift(p->parts->bus, &drift);
}

/* The outcome of a correction, for whoever compares two versions. */
static void note(const struct pass *p, uint32_t i)
{
    struct learned_round *r = p->round;

    if (r->outcomes != NULL)
        r->outcomes[r->outcomes_len++] = (struct learned_outcome){
            p->events[i]->seq, p->answers[i].label == p->events[i]->column};
}

static void count_row(const struct pass *p, uint32_t i)
{
    const struct judge_event *event = p->events[i];
    const struct head_answer *answer = &p->answers[i];
    const float *probabilities = p->probabilities + (size_t)i * p->labels;
    struct drift_event found[DRIFT_EVENTS_MAX];
    struct evaluation_row row = {.seq = event->seq,
                                 .truth = event->column,
                                 .predicted =
                                     answer->label == UINT32_MAX ? EVALUATION_NONE : answer->label,
                                 .labels_known = p->labels_known,
                                 .known = head_label_weight(p->learned->head, event->column) > 0,
                                 .novel = answer->novel,
                                 .abstained = true,
                                 .annotator = event->annotator};
    uint32_t len = 0;

    for (uint32_t c = 0; c < p->labels; c++)
        row.p_squares += (double)probabilities[c] * probabilities[c];
    if (row.known && event->column < p->labels)
        row.p_truth = probabilities[event->column];
    if (row.predicted != EVALUATION_NONE) {
        row.p_predicted = probabilities[row.predicted];
        row.abstained =
            answer->novel || row.p_predicted < live_score_min(p->snapshot, row.predicted);
    }
    if (evaluation_score(p->judge->evaluation, &row) != 0)
        return;
    if (drift_teach(p->judge->drift, row.seq, row.truth, row.predicted != row.truth, found, &len) !=
        0)
        return;
    for (uint32_t k = 0; k < len; k++)
        tell(p, &found[k]);
}

static void flush(struct pass *p)
{
    if (p->len > 0 && head_view_score(p->snapshot->view, p->embeddings, p->len, NULL, p->scratch,
                                      p->answers, p->probabilities, NULL) == 0)
        for (uint32_t i = 0; i < p->len; i++) {
            note(p, i);
            if (p->judge != NULL)
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
    if (p->embeddings == NULL || p->probabilities == NULL || p->answers == NULL ||
        p->scratch == NULL || p->order == NULL)
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
}

void judge_score(struct judge *j, const struct learned *l, const struct learner_parts *parts,
                 const struct touched *t, const struct judge_events *events,
                 struct learned_round *round)
{
    struct pass p = {.judge = j, .learned = l, .parts = parts, .touched = t, .round = round};
    uint8_t *seen = calloc(t->len + 1, 1);

    if (seen != NULL && events->len > 0 && pass_open(&p) == 0 &&
        (j == NULL || (evaluation_labels_grow(j->evaluation, l->labels->len) == 0 &&
                       drift_labels_grow(j->drift, l->labels->len) == 0))) {
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
            p.events[p.len++] = &events->rows[i];
            if (p.len == ROWS)
                flush(&p);
        }
        flush(&p);
    }
    pass_close(&p);
    free(seen);
}

/* ---- reports --------------------------------------------------------------------------------- */

int judge_report(const struct judge *j, struct evaluation_report **ret_report,
                 struct drift_report *ret_drift)
{
    int rc = evaluation_read(j->evaluation, CONFUSIONS, ret_report);

    if (rc == 0)
        drift_read(j->drift, ret_drift);
    return rc;
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

void judge_forget(struct judge *j, const char *annotator)
{
    evaluation_annotator_erase(j->evaluation, annotator);
}

/* ---- keeping --------------------------------------------------------------------------------- */

size_t judge_image_bytes(const struct judge *j)
{
    return sizeof(uint64_t) + evaluation_image_bytes(j->evaluation) + drift_image_bytes(j->drift);
}

void judge_image_write(const struct judge *j, void *image)
{
    uint64_t first = evaluation_image_bytes(j->evaluation);
    char *at = image;

    memcpy(at, &first, sizeof first);
    evaluation_image_write(j->evaluation, at + sizeof first);
    drift_image_write(j->drift, at + sizeof first + first);
}

int judge_image_read(uint32_t dim, uint64_t seed, const void *image, size_t image_bytes,
                     struct judge **ret_judge)
{
    struct drift_settings settings = drift_settings_of(dim, seed);
    const char *at = image;
    struct judge *j;
    uint64_t first;
    int rc;

    if (image_bytes < sizeof first)
        return -EINVAL;
    memcpy(&first, at, sizeof first);
    if (first > image_bytes - sizeof first)
        return -EINVAL;
    j = calloc(1, sizeof *j);
    if (j == NULL)
        return -ENOMEM;
    rc = evaluation_image_read(at + sizeof first, first, &j->evaluation);
    if (rc == 0)
        rc = drift_image_read(&settings, at + sizeof first + first,
                              image_bytes - sizeof first - first, &j->drift);
    if (rc != 0) {
        judge_close(j);
        return rc;
    }
    *ret_judge = j;
    return 0;
}
