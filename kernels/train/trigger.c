/* trigger.c -- see trigger.h.
 *
 * Drift and error ask for a run because the world has moved: the new rows that show it are what the
 * run learns from, so both wait for again_min of them. A burst of new labels raises the error too
 * and alarms, but the head alone learns those; such an alarm is no reason.
 */
#include "kernels/train/trigger.h"

#include <math.h>
#include <stddef.h>

enum { LABELS_MIN = 2 };

const struct trigger_settings trigger_settings_default = {
    .enabled = true, .new_min = 200, .new_share = 0.05, .again_min = 50, .sigmas = 3};

const char *trigger_name(enum trigger trigger)
{
    switch (trigger) {
    case TRIGGER_NONE:
        return "none";
    case TRIGGER_OPERATOR:
        return "operator";
    case TRIGGER_DRIFT:
        return "drift";
    case TRIGGER_ERROR:
        return "error";
    case TRIGGER_NEW:
        return "new_examples";
    case TRIGGER_SCHEDULE:
        return "schedule";
    }
    return NULL;
}

uint64_t trigger_new_missing(const struct trigger_signals *s, const struct trigger_settings *t)
{
    double share = ceil(t->new_share * (double)s->examples);
    uint64_t need = share > (double)t->new_min ? (uint64_t)share : t->new_min;

    return need > s->examples_new ? need - s->examples_new : 0;
}

enum trigger trigger_due(const struct trigger_signals *s, const struct trigger_settings *t)
{
    if (s->running)
        return TRIGGER_NONE;
    if (s->asked)
        return TRIGGER_OPERATOR;
    if (!t->enabled || s->labels < LABELS_MIN || s->examples_new == 0 ||
        s->examples_new < t->again_min)
        return TRIGGER_NONE;
    if (s->drift && !s->drift_new_labels)
        return TRIGGER_DRIFT;
    if (s->error_sigma > 0 && s->error > s->error_reference + t->sigmas * s->error_sigma)
        return TRIGGER_ERROR;
    if (trigger_new_missing(s, t) == 0)
        return TRIGGER_NEW;
    if (t->schedule_hours > 0 && s->in_window && s->hours_since_run >= t->schedule_hours)
        return TRIGGER_SCHEDULE;
    return TRIGGER_NONE;
}
