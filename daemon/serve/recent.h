/* recent.h -- how long requests for texts took of late: from their submission to the lanes to the
 * answer on its way, over the last RECENT_US.
 *
 * Holds no clock: time is an argument. Threads: any.
 */
#ifndef LEARND_RECENT_H
#define LEARND_RECENT_H

#include <stdint.h>

struct recent;

#define RECENT_US INT64_C(2000000)

/* 0 or -ENOMEM. */
int recent_open(struct recent **ret_recent);
void recent_close(struct recent *recent); /* NULL is fine */
void recent_note(struct recent *recent, int64_t took_us, int64_t now_us);
/* What 99 of 100 of them did not exceed, rounded up by an eighth at most; -1: there were none. */
int64_t recent_p99_us(struct recent *recent, int64_t now_us);

#endif
