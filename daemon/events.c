/* events.c -- see events.h. */
#include "daemon/events.h"

#include <stddef.h>
#include <stdio.h>

#include "daemon/clock.h"
#include "daemon/metrics.h"
#include "daemon/serve/bus.h"
#include "proto/api_events.h"

enum { SWAP_MERGE_US = 100000, WARNING_MERGE_US = 10000000, RUN_MERGE_US = 1000000 };

/* Ends the data. */
static void post(struct bus *bus, enum api_event type, const char *model, const char *key,
                 int64_t merge_us, struct api_buffer *data)
{
    struct bus_post p = {.type = type,
                         .model = model,
                         .key = key,
                         .merge_us = merge_us,
                         .data = data->bytes,
                         .data_bytes = data->len};

    if (data->rc != 0 || bus_post(bus, &p, clock_us()) != 0)
        metrics_add(METRICS_EVENTS_LOST, 1);
    api_buffer_done(data);
}

void events_swap(struct bus *bus, const struct events_swap *swap)
{
    struct api_buffer data = API_BUFFER_INIT;
    struct api_event_swap event = {.model = swap->model,
                                   .version = {swap->encoder_number, swap->seq},
                                   .settled = swap->settled,
                                   .examples = (int64_t)swap->examples,
                                   .labels = swap->labels,
                                   .time_us = clock_unix_us()};

    if (bus == NULL)
        return;
    api_write_event_swap(&data, &event);
    post(bus, API_EVENT_SWAP, swap->model, NULL, SWAP_MERGE_US, &data);
}

void events_label(struct bus *bus, const char *model, enum events_label_action action,
                  const char *label, const char *from)
{
    static const char *const words[] = {
        [EVENTS_LABEL_CREATED] = "created", [EVENTS_LABEL_RENAMED] = "renamed",
        [EVENTS_LABEL_MERGED] = "merged",   [EVENTS_LABEL_SPLIT] = "split",
        [EVENTS_LABEL_RETIRED] = "retired", [EVENTS_LABEL_RESTORED] = "restored",
        [EVENTS_LABEL_CHANGED] = "changed",
    };
    struct api_buffer data = API_BUFFER_INIT;
    struct api_event_label event = {.model = model,
                                    .action = words[action],
                                    .label = label,
                                    .from = from,
                                    .time_us = clock_unix_us()};

    if (bus == NULL)
        return;
    api_write_event_label(&data, &event);
    post(bus, API_EVENT_LABEL, model, NULL, 0, &data);
}

void events_model(struct bus *bus, const char *model, enum events_model_action action)
{
    static const char *const words[] = {
        [EVENTS_MODEL_CREATED] = "created",
        [EVENTS_MODEL_CHANGED] = "changed",
        [EVENTS_MODEL_REMOVED] = "removed",
    };
    struct api_buffer data = API_BUFFER_INIT;
    struct api_event_model event = {
        .model = model, .action = words[action], .time_us = clock_unix_us()};

    if (bus == NULL)
        return;
    if (action == EVENTS_MODEL_REMOVED) /* a swap still held would come behind its end */
        bus_forget(bus, model);
    api_write_event_model(&data, &event);
    post(bus, API_EVENT_MODEL, model, NULL, 0, &data);
}

void events_drift(struct bus *bus, const struct events_drift *drift)
{
    struct api_buffer data = API_BUFFER_INIT;
    struct api_event_drift event = {.model = drift->model,
                                    .detector = drift->detector,
                                    .measure = drift->measure,
                                    .label = drift->label,
                                    .before = drift->before,
                                    .after = drift->after,
                                    .statistic = drift->statistic,
                                    .threshold = drift->threshold,
                                    .since_us = drift->since_us,
                                    .time_us = clock_unix_us()};

    if (bus == NULL)
        return;
    api_write_event_drift(&data, &event);
    post(bus, API_EVENT_DRIFT, drift->model, NULL, 0, &data);
}

void events_run(struct bus *bus, const struct events_run *run)
{
    struct api_buffer data = API_BUFFER_INIT;
    struct api_event_run event = {.run = run->run,
                                  .model = run->model,
                                  .strategy = run->strategy,
                                  .state = run->state,
                                  .phase = run->phase,
                                  .step = run->step,
                                  .steps = run->steps,
                                  .loss = run->loss,
                                  .eta_s = run->eta_s,
                                  .time_us = clock_unix_us()};
    char key[48];

    if (bus == NULL)
        return;
    snprintf(key, sizeof key, "%lld %.16s", (long long)run->run, run->state);
    api_write_event_run(&data, &event);
    post(bus, API_EVENT_RUN, run->model, key, RUN_MERGE_US, &data);
}

void events_warning(struct bus *bus, const char *model, const char *code, const char *detail)
{
    struct api_buffer data = API_BUFFER_INIT;
    struct api_event_warning event = {
        .model = model, .code = code, .detail = detail, .time_us = clock_unix_us()};

    if (bus == NULL)
        return;
    api_write_event_warning(&data, &event);
    post(bus, API_EVENT_WARNING, model, code, WARNING_MERGE_US, &data);
}
