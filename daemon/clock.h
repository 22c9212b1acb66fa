/* clock.h -- the process's two clocks, in microseconds. Only daemon/ may look at a clock; the
 * libraries below take times as arguments.
 */
#ifndef LEARND_CLOCK_H
#define LEARND_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Monotonic: for durations and deadlines. */
static inline int64_t clock_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Unix time: for what people read. */
static inline int64_t clock_unix_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

#endif
