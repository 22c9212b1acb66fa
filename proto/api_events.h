/* api_events.h -- what GET /v1/events tells: the types of events, their data, and the lines of
 * text/event-stream. See api.h.
 *
 * Each api_write_event_X writes the data of one event, an object on one line. Every one has "time"
 * and "model"; null stands for the whole daemon. api_write_event puts it between the lines of the
 * stream.
 */
#ifndef LEARND_API_EVENTS_H
#define LEARND_API_EVENTS_H

#include "proto/api.h"

/* X(symbol, name). A new type goes to the end; openapi.json has its schema. */
#define API_EVENTS(X)                                                                              \
    X(SWAP, "swap")                                                                                \
    X(LABEL, "label")                                                                              \
    X(MODEL, "model")                                                                              \
    X(DRIFT, "drift")                                                                              \
    X(WARNING, "warning")                                                                          \
    X(RUN, "run")

enum api_event {
#define X(symbol, name) API_EVENT_##symbol,
    API_EVENTS(X)
#undef X
        API_EVENTS_LEN
};

/* Every type, as the set that api_event_types_parse gives. */
#define API_EVENT_TYPES_ALL ((UINT32_C(1) << API_EVENTS_LEN) - 1)

const char *api_event_name(enum api_event type);
/* The query parameter `types`: names with ',' between them; text NULL: all. The set has bit
 * `enum api_event` of each. 0 or -EINVAL (invalid_value, field "types"). */
int api_event_types_parse(const char *text, size_t text_bytes, uint32_t *ret_types,
                          struct api_problem *problem);

/* A new snapshot answers from now on. */
struct api_event_swap {
    const char *model;
    struct api_version version;
    bool settled; /* as in struct api_model */
    int64_t examples, labels;
    int64_t time_us; /* Unix time, as everywhere here */
};
void api_write_event_swap(struct api_buffer *buffer, const struct api_event_swap *event);

struct api_event_label {
    const char *model;
    const char *action; /* created renamed merged split retired restored changed */
    const char *label;  /* as it is called now */
    const char *from; /* NULL: null. renamed: the old name; merged, split: the label it came from */
    int64_t time_us;
};
void api_write_event_label(struct api_buffer *buffer, const struct api_event_label *event);

struct api_event_model {
    const char *model;
    const char *action; /* created changed removed */
    int64_t time_us;
};
void api_write_event_model(struct api_buffer *buffer, const struct api_event_model *event);

/* A detector fired: what moved, from where to where, since when. */
struct api_event_drift {
    const char *model;
    const char *detector; /* the test: adwin, page_hinkley, mmd .. */
    const char *measure;  /* what moved: error, features, label_mix .. */
    const char *label;    /* NULL: null, not about one label */
    double before, after; /* the measure; NaN: null, it has no such value */
    double statistic, threshold;
    int64_t since_us; /* the change is thought to begin there; 0: null, not known */
    int64_t time_us;
};
void api_write_event_drift(struct api_buffer *buffer, const struct api_event_drift *event);

/* A run has moved on. */
struct api_event_run {
    int64_t run;
    const char *model, *strategy, *state, *phase; /* as in struct api_run */
    int64_t step, steps;
    double loss, eta_s; /* NaN: null */
    int64_t time_us;
};
void api_write_event_run(struct api_buffer *buffer, const struct api_event_run *event);

/* Something that a person should look at. */
struct api_event_warning {
    const char *model;  /* NULL: of the whole daemon */
    const char *code;   /* a stable word */
    const char *detail; /* for people; never a text that was sent */
    int64_t time_us;
};
void api_write_event_warning(struct api_buffer *buffer, const struct api_event_warning *event);

/* Not of a type: it comes whatever was asked for. Events behind the id that the client gave are
 * missing; what follows is all that is held. */
struct api_event_reset {
    const char *reason; /* restarted overtaken unknown_id */
    int64_t time_us;
};
void api_write_event_reset(struct api_buffer *buffer, const struct api_event_reset *event);

/* id, event and data lines, and the empty line behind them. data has no line end in it. */
void api_write_event(struct api_buffer *buffer, const char *id, const char *name, const char *data,
                     size_t data_bytes);
/* How long a client waits before it connects again. */
void api_write_event_retry(struct api_buffer *buffer, uint32_t retry_ms);
/* A comment, and the id of where the stream stands: no event for the client, but what it resumes
 * from. */
void api_write_event_mark(struct api_buffer *buffer, const char *id);

#endif
