/* traceparent.c -- see traceparent.h. */
#include "proto/traceparent.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Small letters only, as the recommendation has it. */
static bool is_hex(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!(text[i] >= '0' && text[i] <= '9') && !(text[i] >= 'a' && text[i] <= 'f'))
            return false;
    return true;
}

static bool is_zero(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] != '0')
            return false;
    return true;
}

/* 00-<32 id>-<16 parent>-<2 flags>; a later version may go on behind another '-'. */
int trace_parse(const char *p, struct trace *ret_trace)
{
    enum { ID = 3, PARENT = 36, FLAGS = 53, LEN = 55 };
    size_t len = strlen(p);
    struct trace t = {.span = ""};

    if (len < LEN || p[ID - 1] != '-' || p[PARENT - 1] != '-' || p[FLAGS - 1] != '-' ||
        !is_hex(p, 2) || !is_hex(p + ID, 32) || !is_hex(p + PARENT, 16) || !is_hex(p + FLAGS, 2))
        return -EINVAL;
    if (memcmp(p, "ff", 2) == 0 || is_zero(p + ID, 32) || is_zero(p + PARENT, 16))
        return -EINVAL;
    if (len > LEN && (memcmp(p, "00", 2) == 0 || p[LEN] != '-'))
        return -EINVAL;
    memcpy(t.id, p + ID, 32);
    memcpy(t.parent, p + PARENT, 16);
    t.sampled = strchr("13579bdf", p[FLAGS + 1]) != NULL;
    *ret_trace = t;
    return 0;
}

void trace_span(uint64_t chance, char ret_span[17])
{
    snprintf(ret_span, 17, "%016llx", (unsigned long long)(chance != 0 ? chance : 1));
}

void trace_write(const struct trace *t, char ret_text[TRACE_PARENT_BYTES])
{
    snprintf(ret_text, TRACE_PARENT_BYTES, "00-%s-%s-%s", t->id, t->span, t->sampled ? "01" : "00");
}

bool trace_state_sound(const char *state)
{
    size_t len = strlen(state);

    if (len == 0 || len > TRACE_STATE_BYTES_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if (state[i] < ' ' || state[i] > '~')
            return false;
    return true;
}
