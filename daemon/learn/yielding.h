/* yielding.h -- whether a run may take its next step: not while requests are slower than they are
 * to be (--train-yield-p99-ms).
 *
 * A run pauses when the p99 of late is over the budget and goes on when it is under three quarters
 * of it, or when nobody asks any more. Where requests have stayed slow through YIELDING_PATIENCE_US
 * of pause it is not the run that makes them so: one piece of a step is let through, and the pause
 * begins again, so that a budget nobody can meet makes a run slow but does not stop it.
 *
 * Holds no clock. One owner.
 */
#ifndef LEARND_YIELDING_H
#define LEARND_YIELDING_H

#include <stdbool.h>
#include <stdint.h>

#define YIELDING_PATIENCE_US INT64_C(10000000)

struct yielding {
    int64_t budget_us; /* 0: never */
    bool paused;
    int64_t since_us; /* the pause, or the piece that was let through in it */
    uint64_t yields;  /* pauses so far */
};

/* p99_us: of late; -1: there was no request. */
bool yielding_may_go(struct yielding *yielding, int64_t p99_us, int64_t now_us);

#endif
