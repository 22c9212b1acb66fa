/* ctl_stream.h -- the daemon's events, over as many connections as it takes.
 *
 * A client of server-sent events as the standard has it: lines gather to an event, an empty line
 * ends it; an id without data is remembered too. When the stream ends, or breaks, it waits as long
 * as the daemon said (longer each time that nobody is there) and comes again with the last id, so
 * nothing is missed without being told. The first connection must stand: else there is nothing to
 * come back to.
 */
#ifndef LEARND_CTL_STREAM_H
#define LEARND_CTL_STREAM_H

#include "daemon/ctl/ctl.h"
#include "proto/api_buffer.h"
#include "proto/json.h"

struct ctl_event {
    const char *id;   /* "": it has none */
    const char *kind; /* "message" if it does not say */
    const struct json_value *data;
};

struct ctl_stream {
    struct ctl *ctl;
    const char *target;
    const char *since; /* NULL: from now */
    int wake_fd;       /* readable: idle is asked at once; -1: none */
    bool known;   /* it has answered before: also a first connection that breaks is tried anew */
    bool telling; /* say on stderr that the stream has ended */
    void *ud;
    int (*event)(void *ud, const struct ctl_event *event); /* non-zero: enough */
    /* A few times a second, also while there is no connection; why: in words why not, NULL: there
     * is one. Non-zero: enough. May be NULL. */
    int (*idle)(void *ud, const char *why);
};

/* Is it something an event can be asked for by? */
bool ctl_stream_id_is_good(const char *id);
/* Until one of the functions has enough, or SIGINT or SIGTERM came: CTL_OK. */
enum ctl_exit ctl_stream_run(const struct ctl_stream *stream);

/* An event in one line for people: time, kind, model, then key=value. Cleaned. */
void ctl_event_words(struct api_buffer *out, const struct ctl_event *event);
/* {"id":..,"event":..,"data":..} */
void ctl_event_json(struct api_buffer *out, const struct ctl_event *event);

#endif
