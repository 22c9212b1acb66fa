/* api_events.c -- see api_events.h. */
#include "proto/api_events.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proto/json.h"

static const char *const NAMES[API_EVENTS_LEN] = {
#define X(symbol, name) name,
    API_EVENTS(X)
#undef X
};

_Static_assert(API_EVENTS_LEN < 32, "a set of types is 32 bits");

const char *api_event_name(enum api_event type)
{
    return NAMES[type];
}

int api_event_types_parse(const char *text, size_t text_bytes, uint32_t *ret_types,
                          struct api_problem *problem)
{
    const char *end = text + text_bytes;
    uint32_t types = 0;

    if (text == NULL) {
        *ret_types = API_EVENT_TYPES_ALL;
        return 0;
    }
    for (;;) {
        const char *comma = memchr(text, ',', (size_t)(end - text));
        size_t len = (size_t)((comma != NULL ? comma : end) - text);
        int i = 0;

        while (i < API_EVENTS_LEN && (strlen(NAMES[i]) != len || memcmp(NAMES[i], text, len) != 0))
            i++;
        if (i == API_EVENTS_LEN)
            return api_problem_set(problem, 422, "invalid_value", "types",
                                   "must be some of swap, label, model, drift, warning, run, "
                                   "with commas between them");
        types |= UINT32_C(1) << i;
        if (comma == NULL)
            break;
        text = comma + 1;
    }
    *ret_types = types;
    return 0;
}

/* ---- data ---- */

static void write_pair(struct api_buffer *buffer, const char *key, const char *string)
{
    json_write_key(buffer, key);
    json_write_string(buffer, string);
}

static void write_number(struct api_buffer *buffer, const char *key, double number)
{
    json_write_key(buffer, key);
    json_write_number(buffer, number);
}

static void write_time(struct api_buffer *buffer, const char *key, int64_t unix_us)
{
    char text[API_TIME_CHARS];

    api_time_format(unix_us, text);
    write_pair(buffer, key, text);
}

static void begin(struct api_buffer *buffer, int64_t time_us, const char *model)
{
    json_open_object(buffer);
    write_time(buffer, "time", time_us);
    write_pair(buffer, "model", model);
}

void api_write_event_swap(struct api_buffer *buffer, const struct api_event_swap *event)
{
    char version[API_VERSION_CHARS];

    api_version_format(event->version, version);
    begin(buffer, event->time_us, event->model);
    write_pair(buffer, "version", version);
    json_write_key(buffer, "settled");
    json_write_bool(buffer, event->settled);
    json_write_key(buffer, "examples");
    json_write_int(buffer, event->examples);
    json_write_key(buffer, "labels");
    json_write_int(buffer, event->labels);
    json_close_object(buffer);
}

void api_write_event_label(struct api_buffer *buffer, const struct api_event_label *event)
{
    begin(buffer, event->time_us, event->model);
    write_pair(buffer, "action", event->action);
    write_pair(buffer, "label", event->label);
    write_pair(buffer, "from", event->from);
    json_close_object(buffer);
}

void api_write_event_model(struct api_buffer *buffer, const struct api_event_model *event)
{
    begin(buffer, event->time_us, event->model);
    write_pair(buffer, "action", event->action);
    json_close_object(buffer);
}

void api_write_event_drift(struct api_buffer *buffer, const struct api_event_drift *event)
{
    begin(buffer, event->time_us, event->model);
    write_pair(buffer, "detector", event->detector);
    write_pair(buffer, "measure", event->measure);
    write_pair(buffer, "label", event->label);
    write_number(buffer, "before", event->before);
    write_number(buffer, "after", event->after);
    write_number(buffer, "statistic", event->statistic);
    write_number(buffer, "threshold", event->threshold);
    if (event->since_us != 0)
        write_time(buffer, "since", event->since_us);
    else
        write_pair(buffer, "since", NULL);
    json_close_object(buffer);
}

void api_write_event_run(struct api_buffer *buffer, const struct api_event_run *event)
{
    begin(buffer, event->time_us, event->model);
    json_write_key(buffer, "run");
    json_write_int(buffer, event->run);
    write_pair(buffer, "strategy", event->strategy);
    write_pair(buffer, "state", event->state);
    write_pair(buffer, "phase", event->phase);
    json_write_key(buffer, "step");
    json_write_int(buffer, event->step);
    json_write_key(buffer, "steps");
    json_write_int(buffer, event->steps);
    write_number(buffer, "loss", event->loss);
    write_number(buffer, "eta_s", event->eta_s);
    json_close_object(buffer);
}

void api_write_event_warning(struct api_buffer *buffer, const struct api_event_warning *event)
{
    begin(buffer, event->time_us, event->model);
    write_pair(buffer, "code", event->code);
    write_pair(buffer, "detail", event->detail);
    json_close_object(buffer);
}

void api_write_event_reset(struct api_buffer *buffer, const struct api_event_reset *event)
{
    begin(buffer, event->time_us, NULL);
    write_pair(buffer, "reason", event->reason);
    json_close_object(buffer);
}

/* ---- the stream ---- */

static void write_line(struct api_buffer *buffer, const char *field, const char *value,
                       size_t value_bytes)
{
    api_buffer_add_string(buffer, field);
    api_buffer_add(buffer, value, value_bytes);
    api_buffer_add(buffer, "\n", 1);
}

void api_write_event(struct api_buffer *buffer, const char *id, const char *name, const char *data,
                     size_t data_bytes)
{
    write_line(buffer, "id: ", id, strlen(id));
    write_line(buffer, "event: ", name, strlen(name));
    write_line(buffer, "data: ", data, data_bytes);
    api_buffer_add(buffer, "\n", 1);
}

void api_write_event_retry(struct api_buffer *buffer, uint32_t retry_ms)
{
    char text[16];

    snprintf(text, sizeof text, "%u", retry_ms);
    write_line(buffer, "retry: ", text, strlen(text));
}

void api_write_event_mark(struct api_buffer *buffer, const char *id)
{
    write_line(buffer, ":", "", 0);
    write_line(buffer, "id: ", id, strlen(id));
    api_buffer_add(buffer, "\n", 1);
}
