/* ctl_events.c -- events: what happens in the daemon, a line an event. */
#include <stdio.h>

#include "daemon/ctl/ctl_call.h"
#include "daemon/ctl/ctl_stream.h"

struct printing {
    struct ctl *ctl;
    uint64_t printed;
};

static int print_event(void *ud, const struct ctl_event *event)
{
    struct printing *p = ud;
    struct api_buffer line = API_BUFFER_INIT;
    long limit = p->ctl->options.limit;

    if (p->ctl->options.json)
        ctl_event_json(&line, event);
    else
        ctl_event_words(&line, event);
    ctl_print_buffer(&line);
    fflush(stdout);
    p->printed++;
    return limit > 0 && p->printed >= (uint64_t)limit;
}

enum ctl_exit ctl_events(struct ctl *ctl)
{
    struct printing printing = {.ctl = ctl};
    struct ctl_stream stream = {.ctl = ctl,
                                .since = ctl->options.since,
                                .wake_fd = -1,
                                .telling = !ctl->options.quiet,
                                .ud = &printing,
                                .event = print_event};
    struct api_buffer target = API_BUFFER_INIT;
    enum ctl_exit code;

    if (ctl->args_len > 0)
        return ctl_misused(ctl, "\"%.40s\" is too much", ctl->args[0]);
    if (stream.since != NULL && !ctl_stream_id_is_good(stream.since))
        return ctl_misused(ctl, "\"%.40s\" is no id of an event", stream.since);
    ctl_target(&target, "/v1/events");
    ctl_target_query(&target, "types", ctl->options.types);
    ctl_target_query(&target, "model", ctl->options.model);
    stream.target = ctl_target_end(&target);
    code = stream.target != NULL ? ctl_stream_run(&stream) : ctl_no_memory();
    api_buffer_done(&target);
    return code;
}
