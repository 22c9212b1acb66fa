/* access_log.c -- see access_log.h. */
#include "daemon/front/access_log.h"

#include <stdio.h>

#include "daemon/clock.h"
#include "daemon/log.h"

static bool wanted(const struct exchange *x)
{
    switch ((enum log_requests)atomic_load(&x->conn->loop->log_requests)) {
    case LOG_REQUESTS_ALL:
        return true;
    case LOG_REQUESTS_SAMPLED:
        return x->trace.sampled;
    default:
        return false;
    }
}

void access_log_answer(const struct exchange *x, int status, size_t body_bytes)
{
    const struct trace *t = &x->trace;
    const char *method = exchange_request(x)->method;
    char numbers[3][24];

    if (!wanted(x))
        return;
    snprintf(numbers[0], sizeof numbers[0], "%d", status);
    snprintf(numbers[1], sizeof numbers[1], "%lld", (long long)(clock_us() - x->started_us));
    snprintf(numbers[2], sizeof numbers[2], "%zu", body_bytes);
    log_info("front", "event", "request", "method", method, "route",
             x->route != NULL ? x->route->pattern : NULL, "status", numbers[0], "took_us",
             numbers[1], "bytes", numbers[2], "request_id", x->request_id, "trace_id",
             exchange_trace_id(x), "parent_id", *t->id != '\0' ? t->parent : NULL, "span_id",
             *t->id != '\0' ? t->span : NULL, NULL);
}

void access_log_headers(const struct exchange *x, char *lines, size_t lines_bytes)
{
    const char *state = exchange_request(x)->tracestate;
    char parent[TRACE_PARENT_BYTES];
    int len = snprintf(lines, lines_bytes, "X-Request-Id: %s\r\n", x->request_id);

    if (*x->trace.id == '\0')
        return;
    trace_write(&x->trace, parent);
    len += snprintf(lines + len, lines_bytes - (size_t)len, "traceparent: %s\r\n", parent);
    if (state != NULL && trace_state_sound(state))
        snprintf(lines + len, lines_bytes - (size_t)len, "tracestate: %s\r\n", state);
}
