/* watchdog.c -- see watchdog.h. */
#include "daemon/watchdog.h"

#include <assert.h>
#include <stddef.h>

bool watchdog_look(struct watchdog *w, const struct pulse *parts, uint32_t len)
{
    bool first = w->len == 0;

    assert(len > 0 && len <= WATCHDOG_PARTS_MAX && (first || len == w->len));
    w->len = len;
    w->stuck = NULL;
    for (uint32_t i = 0; i < len; i++) {
        if (first)
            w->beats[i] = parts[i].beats;
        if (!parts[i].busy || parts[i].beats != w->beats[i])
            w->well[i] = true;
        if (!w->well[i] && w->stuck == NULL)
            w->stuck = parts[i].name;
    }
    if (w->stuck != NULL)
        return false;
    for (uint32_t i = 0; i < len; i++) {
        w->beats[i] = parts[i].beats;
        w->well[i] = false;
    }
    return true;
}

bool extension_due(struct extension *e, uint64_t work, int64_t now_us, int64_t every_us)
{
    if (work == e->work || now_us - e->asked_us < every_us)
        return false;
    e->work = work;
    e->asked_us = now_us;
    return true;
}
