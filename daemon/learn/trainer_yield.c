/* trainer_yield.c -- a run gives way to requests. See yielding.h.
 *
 * It waits for time to pass, in short naps: there is nobody who would wake it when requests become
 * quick again, and a step late by a nap is nothing.
 */
#include <errno.h>
#include <time.h>

#include "daemon/clock.h"
#include "daemon/learn/trainer_run.h"

enum { NAP_US = 20000 };

static bool may_go(struct run *run, int64_t now)
{
    const struct trainer *t = run->trainer;

    run->yielding.budget_us = atomic_load(&t->yield_p99_us);
    return yielding_may_go(&run->yielding, recent_p99_us(t->parts.recent, now), now);
}

/* Adds what has passed since; the next count begins now. */
static int64_t count(struct run *run, int64_t since)
{
    struct trainer *t = run->trainer;
    int64_t now = clock_us();

    run->yield_us += now - since;
    run->progress.yield_s = (double)run->yield_us / 1e6;
    atomic_fetch_add(&t->yield_us, (uint64_t)(now - since));
    return now;
}

int run_yield(struct run *run, int64_t us_max)
{
    const struct timespec nap = {.tv_nsec = NAP_US * 1000};
    struct trainer *t = run->trainer;
    uint64_t yields = run->yielding.yields;
    int64_t at = clock_us(), waited = run->yield_us;
    int rc = 0;

    if (t->parts.recent == NULL)
        return 0;
    while (rc == 0 && !may_go(run, at)) {
        (void)nanosleep(&nap, NULL);
        at = count(run, at);
        if (atomic_load(&t->stopping) || atomic_load(&t->hinted))
            rc = -EINTR;
        else if (run->yield_us - waited >= us_max)
            rc = -EAGAIN;
    }
    run->progress.yields = run->yielding.yields;
    atomic_fetch_add(&t->yields, run->yielding.yields - yields);
    return rc;
}
