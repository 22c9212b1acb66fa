/* rate.h -- who may send more: a bucket of items for each annotator of each model, full at first,
 * refilled evenly over a minute.
 *
 * Bounded: as many names as there are places. With more of them at once those that have waited
 * longest are forgotten first, and begin anew with a full bucket.
 *
 * Threads: any, under one short lock. Never: a clock; the time is an argument.
 */
#ifndef LEARND_RATE_H
#define LEARND_RATE_H

#include <stdint.h>

struct rate;

/* 0 or -ENOMEM. */
int rate_open(uint32_t names_max, struct rate **ret_rate);
void rate_close(struct rate *rate); /* NULL is fine */

/* One item of this annotator, of at most per_minute (> 0). 0: it may pass, and is counted. Else it
 * is not counted, and the microseconds until one may. now_us never falls. */
int64_t rate_take(struct rate *rate, int64_t model, const char *name, uint32_t per_minute,
                  int64_t now_us);

#endif
