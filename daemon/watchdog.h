/* watchdog.h -- when may the watchdog be fed? Pure: counts in, a yes or no out.
 *
 * A part of the daemon that has work counts on as it gets on with it; one that has none is well.
 * The watchdog is fed when every part has, since it was fed last, either counted on or been seen
 * without work. So a single part that hangs stops the feeding for good, and the manager's own time
 * limit says how long that may last; a part that is only slow delays one feeding.
 *
 * A start or a stop has no such parts: its time limit is pushed on while its work gets on.
 */
#ifndef LEARND_WATCHDOG_H
#define LEARND_WATCHDOG_H

#include <stdbool.h>
#include <stdint.h>

/* What a part shows at a look. */
struct pulse {
    const char *name; /* lives as long as the watchdog */
    uint64_t beats;   /* grows as the part gets on */
    bool busy;        /* it has something to get on with */
};

enum { WATCHDOG_PARTS_MAX = 96 };

struct watchdog {
    uint32_t len;
    uint64_t beats[WATCHDOG_PARTS_MAX]; /* when it was fed last */
    bool well[WATCHDOG_PARTS_MAX];      /* shown since */
    const char *stuck;                  /* the first part that has not; NULL: none */
};

/* A look at all parts, always as many and in the same order. True: feed it. The first look takes
 * the counts down, and sees those without work. Else `stuck` names who is waited for. */
bool watchdog_look(struct watchdog *watchdog, const struct pulse *parts, uint32_t len);

struct extension {
    uint64_t work; /* when it was asked for last */
    int64_t asked_us;
};

/* Is more time to be asked for? Yes when the work has got on since, and not more often than
 * every_us. */
bool extension_due(struct extension *extension, uint64_t work, int64_t now_us, int64_t every_us);

#endif
