/* trigger.h -- should a run start by itself, and why. Pure: the caller has the clock and the
 * counts.
 */
#ifndef LEARND_TRIGGER_H
#define LEARND_TRIGGER_H

#include <stdbool.h>
#include <stdint.h>

enum trigger {
    TRIGGER_NONE,
    TRIGGER_OPERATOR, /* asked for; the caller's checks, nothing else, can refuse it */
    TRIGGER_DRIFT,    /* an alarm since the last run that new labels do not explain */
    TRIGGER_ERROR,    /* the prequential error stands above its reference */
    TRIGGER_NEW,      /* enough new examples */
    TRIGGER_SCHEDULE, /* the window is open and the last run long enough ago */
};
const char *trigger_name(enum trigger trigger); /* "none", "operator", .. */

struct trigger_signals {
    bool running;          /* a run, of whatever model: there is never a second */
    bool asked;            /* by an operator */
    uint64_t examples;     /* that a run could train on now; */
    uint64_t examples_new; /* of them taught or changed since the last run began, whatever its end;
                              all, without a last run */
    uint32_t labels;       /* that have an example */
    bool drift, drift_new_labels; /* an alarm since the last run began; only ones that say they come
                                     from new labels (struct drift_event) */
    /* Errors over corrections of known labels: now, and its mean and standard deviation when the
     * live pair had settled. NAN, or a deviation of 0: not known. */
    double error, error_reference, error_sigma;
    double hours_since_run; /* since the last one ended; INFINITY: there was none */
    bool in_window;         /* of the schedule */
};

struct trigger_settings {
    bool enabled;          /* false: operators only */
    uint64_t new_min;      /* 200, */
    double new_share;      /* 0.05 of all, whichever is more */
    uint64_t again_min;    /* 50: fewer new examples are no reason for another run: on the same
                              data it would end like the last */
    double sigmas;         /* 3 */
    double schedule_hours; /* between scheduled runs; 0: no schedule */
};
extern const struct trigger_settings trigger_settings_default;

/* Why a run is due, the strongest reason; TRIGGER_NONE: it is not. With fewer than two labels
 * nothing starts by itself. */
enum trigger trigger_due(const struct trigger_signals *signals,
                         const struct trigger_settings *settings);

/* New examples that TRIGGER_NEW still waits for. */
uint64_t trigger_new_missing(const struct trigger_signals *signals,
                             const struct trigger_settings *settings);

#endif
