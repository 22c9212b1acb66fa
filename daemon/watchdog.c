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
