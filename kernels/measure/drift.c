/* drift.c -- see drift.h. A row goes to each detector that it concerns; what fires is described and
 * remembered.
 *
 * The detectors are not told of each other, with one exception: where ADWIN finds that the error
 * has fallen (a model that is learning), Page-Hinkley starts anew, because its mean of all rows
 * would hide a later rise behind the bad beginning.
 */
#include "kernels/measure/drift.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/measure/drift_internal.h"

const struct drift_settings drift_settings_default = {
    .error_level = 0.0002,
    .ph_slack = 0.15,
    .ph_limit = 60,
    .mix_level = 0.001,
    .features_level = 0.001,
};

static bool is_level(double level)
{
    return level > 0 && level < 1;
}

int drift_open(const struct drift_settings *s, struct drift **ret_drift)
{
    struct drift *d;
    int rc = 0;

    if (s->dim > DRIFT_DIM_MAX || !is_level(s->error_level) || !is_level(s->mix_level) ||
        !is_level(s->features_level) || !(s->ph_slack > 0) || !(s->ph_limit > 0) ||
        !isfinite(s->ph_slack) || !isfinite(s->ph_limit))
        return -EINVAL;
    d = calloc(1, sizeof *d);
    if (d == NULL)
        return -ENOMEM;
    d->settings = *s;
    d->taught_mark = d->asked_mark = INT64_MIN;
    if (s->dim > 0)
        rc = shift_init(&d->shift, s->dim, s->seed);
    if (rc != 0) {
        free(d);
        return rc;
    }
    for (int k = 0; k < DRIFT_KINDS; k++)
        d->report.kinds[k].now = NAN;
    *ret_drift = d;
    return 0;
}

void drift_close(struct drift *d)
{
    if (d == NULL)
        return;
    shift_done(&d->shift);
    free(d->labels);
    free(d->taught_mix);
    free(d->asked_mix);
    free(d);
}

int drift_labels_grow(struct drift *d, uint32_t labels_len)
{
    uint32_t max = d->labels_max, old = d->labels_len;

    if (labels_len > DRIFT_LABELS_MAX)
        return -E2BIG;
    while (max < labels_len)
        max = max * 2 + 16;
    if (max > d->labels_max) { /* an array that got longer than labels_max says does no harm */
        struct drift_label *labels = realloc(d->labels, max * sizeof *labels);
        struct mix_label *taught, *asked;

        d->labels = labels != NULL ? labels : d->labels;
        taught = realloc(d->taught_mix, max * sizeof *taught);
        d->taught_mix = taught != NULL ? taught : d->taught_mix;
        asked = realloc(d->asked_mix, max * sizeof *asked);
        d->asked_mix = asked != NULL ? asked : d->asked_mix;
        if (labels == NULL || taught == NULL || asked == NULL)
            return -ENOMEM;
        d->labels_max = max;
    }
    if (labels_len > old) {
        memset(d->labels + old, 0, (labels_len - old) * sizeof *d->labels);
        memset(d->taught_mix + old, 0, (labels_len - old) * sizeof *d->taught_mix);
        memset(d->asked_mix + old, 0, (labels_len - old) * sizeof *d->asked_mix);
        d->labels_len = labels_len;
    }
    return 0;
}

/* ---- events ---------------------------------------------------------------------------------- */

struct events {
    struct drift *drift;
    struct drift_event *at;
    uint32_t len;
};

static void fire(struct events *events, const struct drift_event *event)
{
    struct drift_state *state = &events->drift->report.kinds[event->kind];

    state->fired++;
    state->fired_new_labels += event->new_labels;
    state->last = *event;
    events->at[events->len++] = *event;
}

static double rate(uint64_t wrong, uint64_t rows)
{
    return rows > 0 ? (double)wrong / (double)rows : 0;
}

static void error_fire(struct events *events, enum drift_kind kind, const struct adwin_cut *cut,
                       int64_t at)
{
    struct drift *d = events->drift;
    struct drift_event e = {
        .kind = kind,
        .since = cut->since,
        .at = at,
        .rows_before = cut->rows_before,
        .rows_since = cut->rows_since,
        .from = rate(cut->wrong_before, cut->rows_before),
        .to = rate(cut->wrong_since, cut->rows_since),
        .chance = kind == DRIFT_ERROR_ADWIN ? d->settings.error_level : NAN,
    };

    moved_errors(d, &e);
    fire(events, &e);
}

/* ---- corrections ----------------------------------------------------------------------------- */

static void teach_error(struct events *events, bool wrong, int64_t mark)
{
    struct drift *d = events->drift;
    struct page_hinkley *ph = &d->ph;
    struct adwin_cut cut;
    bool shrunk = adwin_add(&d->adwin, d->settings.error_level, wrong, mark, &cut);
    bool passed = page_hinkley_add(ph, d->settings.ph_slack, d->settings.ph_limit, wrong, mark);

    if (passed) {
        struct adwin_cut step = {ph->rows_before, ph->wrong_before, ph->rows - ph->rows_before,
                                 ph->wrong - ph->wrong_before, ph->since};

        error_fire(events, DRIFT_ERROR_PH, &step, mark);
        *ph = (struct page_hinkley){0};
    }
    if (!shrunk)
        return;
    if (rate(cut.wrong_since, cut.rows_since) > rate(cut.wrong_before, cut.rows_before)) {
        error_fire(events, DRIFT_ERROR_ADWIN, &cut, mark);
    } else {
        d->report.error_falls++;
        *ph = (struct page_hinkley){0};
    }
}

/* The window of a mix is full: test it, say what came of it, make it the past. */
static void turn_mix(struct events *events, bool asked, int64_t mark)
{
    struct drift *d = events->drift;
    struct mix *m = asked ? &d->asked : &d->taught;
    struct mix_label *labels = asked ? d->asked_mix : d->taught_mix;
    struct mix_result r = mix_look(m, labels, d->labels_len, d->settings.mix_level);
    struct drift_event e = {
        .kind = asked ? DRIFT_ASKED_MIX : DRIFT_TAUGHT_MIX,
        .since = m->window_first,
        .at = mark,
        .rows_before = r.rows_before,
        .rows_since = r.rows_since,
        .chance = r.chance,
    };

    if (r.tested)
        d->report.kinds[e.kind].now = r.chance;
    if (r.moved) {
        moved_shares(d, asked, false, &e);
        fire(events, &e);
    }
    if (!asked && r.new_rows > 0 && d->report.kinds[DRIFT_TAUGHT_NEW].rows > MIX_WINDOW) {
        struct drift_event news = {.kind = DRIFT_TAUGHT_NEW,
                                   .since = m->window_first,
                                   .at = mark,
                                   .rows_before = r.rows_before,
                                   .rows_since = m->window,
                                   .chance = NAN};

        moved_shares(d, asked, true, &news);
        for (uint32_t i = 0; i < news.moved_len; i++) /* since the first of those it names */
            if (i == 0 || d->labels[news.moved[i].label].first < news.since)
                news.since = d->labels[news.moved[i].label].first;
        fire(events, &news);
    }
    mix_turn(m, labels, d->labels_len, r.moved);
}

int drift_teach(struct drift *d, int64_t mark, uint32_t label, bool wrong,
                struct drift_event ret_events[DRIFT_EVENTS_MAX], uint32_t *ret_len)
{
    struct events events = {d, ret_events, 0};
    struct drift_label *l;

    if (label >= d->labels_len)
        return -EINVAL;
    if (mark <= d->taught_mark)
        return -EALREADY;
    d->taught_mark = mark;
    l = &d->labels[label];
    if (l->rows++ == 0)
        l->first = mark;
    l->wrong += wrong;
    d->recent[d->recent_rows++ % DRIFT_RECENT] = (struct recent){mark, label, wrong};
    for (int k = DRIFT_ERROR_ADWIN; k <= DRIFT_TAUGHT_NEW; k++)
        d->report.kinds[k].rows++;
    teach_error(&events, wrong, mark);
    if (mix_add(&d->taught, d->taught_mix, label, mark))
        turn_mix(&events, false, mark);
    *ret_len = events.len;
    return 0;
}

_Static_assert(DRIFT_EVENTS_MAX >= 4, "a correction can fire two error tests, its mix and news");

/* ---- questions ------------------------------------------------------------------------------- */

static void features_fire(struct events *events, const struct shift_result *r, int64_t mark)
{
    struct drift_event e = {
        .kind = DRIFT_ASKED_FEATURES,
        .since = r->since,
        .at = mark,
        .rows_before = SHIFT_REFERENCE,
        .rows_since = r->rows_since,
        .to = r->distance,
        .chance = r->chance,
    };

    fire(events, &e);
}

int drift_ask(struct drift *d, int64_t mark, const float *embedding, uint32_t predicted,
              struct drift_event ret_events[DRIFT_EVENTS_MAX], uint32_t *ret_len)
{
    struct events events = {d, ret_events, 0};
    struct drift_state *features = &d->report.kinds[DRIFT_ASKED_FEATURES];
    struct shift_result shift = {0};

    if ((predicted != DRIFT_NONE && predicted >= d->labels_len) || mark < d->asked_mark)
        return -EINVAL;
    if (embedding != NULL && d->settings.dim > 0) {
        if (shift_add(&d->shift, d->settings.features_level, embedding, mark, &shift) != 0)
            return -EINVAL;
        features->rows++;
    }
    d->asked_mark = mark;
    if (shift.tested)
        features->now = shift.chance;
    if (shift.moved)
        features_fire(&events, &shift, mark);
    if (predicted != DRIFT_NONE) {
        d->report.kinds[DRIFT_ASKED_MIX].rows++;
        if (mix_add(&d->asked, d->asked_mix, predicted, mark))
            turn_mix(&events, true, mark);
    }
    *ret_len = events.len;
    return 0;
}

void drift_features_anew(struct drift *d)
{
    if (d->settings.dim > 0)
        shift_anew(&d->shift);
}

int64_t drift_asked_mark(const struct drift *d)
{
    return d->asked_mark;
}

/* ---- what it thinks now ---------------------------------------------------------------------- */

void drift_read(const struct drift *d, struct drift_report *ret_report)
{
    struct drift_state *kinds = ret_report->kinds;

    *ret_report = d->report;
    kinds[DRIFT_ERROR_ADWIN].window = d->adwin.rows;
    kinds[DRIFT_ERROR_ADWIN].now = d->adwin.rows > 0 ? rate(d->adwin.wrong, d->adwin.rows) : NAN;
    kinds[DRIFT_ERROR_PH].window = d->ph.rows;
    kinds[DRIFT_ERROR_PH].now = d->ph.rows > PH_ROWS_MIN ? d->ph.sum : NAN;
    kinds[DRIFT_TAUGHT_MIX].window = kinds[DRIFT_TAUGHT_NEW].window = d->taught.past;
    kinds[DRIFT_ASKED_MIX].window = d->asked.past;
    kinds[DRIFT_ASKED_FEATURES].window = d->shift.reference;
}

const char *drift_kind_name(enum drift_kind kind)
{
    static const char *const names[DRIFT_KINDS] = {
        [DRIFT_ERROR_ADWIN] = "error_adwin", [DRIFT_ERROR_PH] = "error_page_hinkley",
        [DRIFT_TAUGHT_MIX] = "taught_mix",   [DRIFT_TAUGHT_NEW] = "taught_new",
        [DRIFT_ASKED_MIX] = "asked_mix",     [DRIFT_ASKED_FEATURES] = "asked_features",
    };

    return names[kind];
}
