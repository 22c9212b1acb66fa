/* trail.h -- who changed what, written down in the same transaction. Private to daemon/front. */
#ifndef LEARND_TRAIL_H
#define LEARND_TRAIL_H

#include "daemon/front/handlers.h"

/* Posts a change to the keeper with a line for the trail: action is a word ("model_create"), the
 * object what the path names and then `more` (NULL: nothing), with '/' between; never a text. 0 or
 * -errno, and then the change is the caller's still. */
int trail_post(struct exchange *x, struct change *change, const char *action, const char *more);
/* Inside the change's write(): nothing has changed after all. */
void trail_nothing(struct change *change);

/* Writes down what keys were used for, unless it was done less than LIMIT_KEY_USE_S ago. From the
 * first loop's tick, and with force from main at the end. */
void trail_use(struct server *server, int64_t now_us, bool force);

#endif
