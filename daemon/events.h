/* events.h -- what the daemon tells those who watch (GET /v1/events): one function a type of event,
 * which writes it as JSON and posts it on the bus. As a log line is for the operator's files, an
 * event is for a program that shows or reacts.
 *
 * Any thread, also with its own lock held: nothing here waits. An event that cannot be made, for
 * lack of memory, is counted as lost (learnd_events_lost_total). bus NULL: nobody can watch,
 * nothing is done. Names are borrowed for the call.
 */
#ifndef LEARND_EVENTS_H
#define LEARND_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

struct bus;

/* A snapshot was published. Ten a second of one model are told at most, the newest always. */
struct events_swap {
    const char *model;
    int64_t encoder_number, seq;
    bool settled;
    uint64_t examples;
    uint32_t labels;
};
void events_swap(struct bus *bus, const struct events_swap *swap);

/* After the commit that did it. from: renamed: the old name; merged, split: the label it came from;
 * else NULL. */
enum events_label_action {
    EVENTS_LABEL_CREATED,
    EVENTS_LABEL_RENAMED,
    EVENTS_LABEL_MERGED,
    EVENTS_LABEL_SPLIT,
    EVENTS_LABEL_RETIRED,
    EVENTS_LABEL_RESTORED,
    EVENTS_LABEL_CHANGED, /* anything else of it: threshold, payload */
};
void events_label(struct bus *bus, const char *model, enum events_label_action action,
                  const char *label, const char *from);

enum events_model_action { EVENTS_MODEL_CREATED, EVENTS_MODEL_CHANGED, EVENTS_MODEL_REMOVED };
void events_model(struct bus *bus, const char *model, enum events_model_action action);

/* A detector fired. */
struct events_drift {
    const char *model;
    const char *detector;        /* the test: "adwin", "page_hinkley", "mmd" */
    const char *measure;         /* what moved: "error", "features", "label_mix" */
    const char *label;           /* NULL: not about one label */
    double before, after;        /* the measure; NaN: it has no such value */
    double statistic, threshold; /* of the test */
    int64_t since_us;            /* Unix time; 0: not known */
};
void events_drift(struct bus *bus, const struct events_drift *drift);

/* A run was asked for, has moved on or has ended. One of one run and state is told every second at
 * most, the newest always. */
struct events_run {
    int64_t run;
    const char *model, *strategy, *state, *phase;
    int64_t step, steps;
    double loss, eta_s; /* NaN: not known */
};
void events_run(struct bus *bus, const struct events_run *run);

/* model NULL: of the whole daemon. code: a stable word; detail: for people, never a text that was
 * sent. One {model, code} is told every ten seconds at most, however often it happens: an episode
 * is its repetition. */
void events_warning(struct bus *bus, const char *model, const char *code, const char *detail);

#endif
