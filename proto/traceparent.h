/* traceparent.h -- W3C Trace Context (the headers traceparent and tracestate): bytes <-> ids. Pure.
 *
 *     struct trace t;
 *     if (trace_parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", &t) == 0) ...
 *
 * A header that is not as the recommendation says counts as none: never an error of the request.
 */
#ifndef LEARND_TRACEPARENT_H
#define LEARND_TRACEPARENT_H

#include <stdbool.h>
#include <stdint.h>

enum { TRACE_PARENT_BYTES = 56, TRACE_STATE_BYTES_MAX = 512 };

struct trace {
    char id[33];     /* of the whole trace, hex */
    char parent[17]; /* who asked */
    char span[17];   /* our part of it; the caller's to draw */
    bool sampled;    /* who asked keeps what it is told about this trace */
};

/* 0, with span ""; -EINVAL: not a traceparent, *ret_trace is untouched. Of versions above 00 what
 * 00 defines is read. */
int trace_parse(const char *traceparent, struct trace *ret_trace);
/* A span's name from chance; all zeros would be none. */
void trace_span(uint64_t chance, char ret_span[17]);
/* The header's value with our span in the parent's place; version 00. */
void trace_write(const struct trace *trace, char ret_text[TRACE_PARENT_BYTES]);
/* May this tracestate be handed on? It is opaque: printable, and no longer than all must bear. */
bool trace_state_sound(const char *tracestate);

#endif
