/* yielding.c -- see yielding.h. */
#include "daemon/learn/yielding.h"

bool yielding_may_go(struct yielding *y, int64_t p99_us, int64_t now_us)
{
    if (y->budget_us == 0) {
        y->paused = false;
        return true;
    }
    if (!y->paused) {
        if (p99_us <= y->budget_us)
            return true;
        y->paused = true;
        y->since_us = now_us;
        y->yields++;
        return false;
    }
    if (p99_us <= y->budget_us * 3 / 4) {
        y->paused = false;
        return true;
    }
    if (now_us - y->since_us < YIELDING_PATIENCE_US)
        return false;
    y->since_us = now_us;
    return true;
}
