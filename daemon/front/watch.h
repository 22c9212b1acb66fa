/* watch.h -- the event streams of one loop (GET /v1/events). Private to daemon/front; everything
 * but watch_woken runs on the loop's own thread.
 */
#ifndef LEARND_WATCH_H
#define LEARND_WATCH_H

#include "daemon/front/conn.h"

/* bus: what is told; outlives the loop. 0, -ENOSPC. */
int watch_open(struct loop *loop, struct bus *bus);
/* There may be events: every stream gets its own. */
void watch_pump(struct loop *loop);
/* Once a second: heartbeats, and clients that take nothing. */
void watch_tick(struct loop *loop, int64_t now_us);
/* The loop stops: the last events, then the end of every stream; who does not take them at once is
 * cut off. */
void watch_stop(struct loop *loop);

#endif
