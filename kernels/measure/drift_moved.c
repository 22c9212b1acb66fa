/* drift_moved.c -- an alarm says that something moved; this finds out what, from the rows of each
 * label. */
#include <math.h>
#include <string.h>

#include "kernels/measure/drift_internal.h"

/* Standard deviations that a share must have moved to be named in an event. */
#define NAMED_DEVIATIONS 2.0
/* A label with at most so many corrections before a change, and more since, counts as new with it:
 * the beginning of a change is an estimate, and a label's first examples are mostly wrong whatever
 * happens. */
#define NEW_ROWS 10

/* The strongest so far, strongest first; equals by column. */
struct ranking {
    struct drift_event *event;
    double strengths[DRIFT_MOVED_MAX];
};

static void rank(struct ranking *r, double strength, struct drift_moved moved)
{
    uint32_t len = r->event->moved_len, at = len;

    while (at > 0 && r->strengths[at - 1] < strength)
        at--;
    if (at == DRIFT_MOVED_MAX)
        return;
    if (len < DRIFT_MOVED_MAX)
        r->event->moved_len = ++len;
    for (uint32_t i = len - 1; i > at; i--) {
        r->strengths[i] = r->strengths[i - 1];
        r->event->moved[i] = r->event->moved[i - 1];
    }
    r->strengths[at] = strength;
    r->event->moved[at] = moved;
}

/* ---- errors ---------------------------------------------------------------------------------- */

/* Counts the remembered rows since `since` by label. */
static void count_since(struct drift *d, int64_t since)
{
    uint64_t len = d->recent_rows < DRIFT_RECENT ? d->recent_rows : DRIFT_RECENT;

    for (uint32_t c = 0; c < d->labels_len; c++)
        d->labels[c].since_rows = d->labels[c].since_wrong = 0;
    for (uint64_t i = 0; i < len; i++) {
        const struct recent *row = &d->recent[i];

        if (row->mark < since)
            continue;
        d->labels[row->label].since_rows++;
        d->labels[row->label].since_wrong += row->wrong;
    }
}

void moved_errors(struct drift *d, struct drift_event *e)
{
    struct ranking ranking = {.event = e};
    uint64_t old_rows = 0, old_wrong = 0, new_rows = 0;

    count_since(d, e->since);
    for (uint32_t c = 0; c < d->labels_len; c++) {
        const struct drift_label *l = &d->labels[c];
        uint64_t before = l->rows - l->since_rows;
        bool is_new = before <= NEW_ROWS && before < l->since_rows;
        double rate, excess;

        if (l->since_rows == 0)
            continue;
        rate = is_new ? NAN : (double)(l->wrong - l->since_wrong) / (double)before;
        excess = l->since_wrong - (is_new ? 0 : l->since_rows * rate);
        if (excess > 0)
            rank(&ranking, excess,
                 (struct drift_moved){c, l->since_rows, rate,
                                      (double)l->since_wrong / l->since_rows});
        *(is_new ? &new_rows : &old_rows) += l->since_rows;
        old_wrong += is_new ? 0 : l->since_wrong;
    }
    e->new_labels = new_rows > 0;
    if (new_rows > 0 && old_rows > 0 && e->rows_before > 0) {
        uint64_t wrong = (uint64_t)(e->from * (double)e->rows_before + 0.5) + old_wrong;

        e->new_labels = (double)old_wrong / (double)old_rows - e->from <
                        adwin_epsilon(d->settings.error_level, e->rows_before, old_rows, wrong);
    }
}

/* ---- shares ---------------------------------------------------------------------------------- */

void moved_shares(const struct drift *d, bool asked, bool news, struct drift_event *e)
{
    struct ranking ranking = {.event = e};
    double R = (double)e->rows_before, S = (double)e->rows_since;

    for (uint32_t c = 0; c < d->labels_len; c++) {
        const struct mix_label *l = asked ? &d->asked_mix[c] : &d->taught_mix[c];
        double past = (double)l->past, window = l->window, share = (past + window) / (R + S);
        struct drift_moved moved = {c, l->window, R > 0 ? past / R : 0, window / S};
        double deviations;

        if (l->seen == news || past + window == 0)
            continue;
        deviations = fabs(moved.to - moved.from) /
                     sqrt(share * fmax(1 - share, 1e-9) * (R > 0 ? 1 / R + 1 / S : 1 / S));
        if (news || deviations > NAMED_DEVIATIONS)
            rank(&ranking, news ? window : deviations, moved);
    }
    e->from = e->moved_len > 0 ? e->moved[0].from : 0;
    e->to = e->moved_len > 0 ? e->moved[0].to : 0;
}
