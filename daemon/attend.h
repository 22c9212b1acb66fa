/* attend.h -- the thread that answers for the process to a service manager (notify.h): how the
 * start gets on, what is served, that nothing hangs, and that it stops.
 *
 * It is there only where a manager asked. Starting: the time limit is pushed on for as long as the
 * store or the lanes get on. Serving: a status when it has changed, and the watchdog's food when
 * every loop, every lane, the queue between them and the keeper are well (watchdog.h). Stopping: as
 * starting. The learner and the trainer are not watched: a fit or a step may take as long as it
 * takes, and no client waits for them.
 *
 * Threads: the main one calls; without a manager every call is empty.
 */
#ifndef LEARND_ATTEND_H
#define LEARND_ATTEND_H

struct server;

/* First of all. 0 or -EAGAIN. */
int attend_open(void);
/* What comes next in the start or the stop. lanes: the server, once its lanes are there; NULL. */
void attend_step(const char *doing, const struct server *lanes);
/* The door is open: READY=1. server: all of it is there until the next attend_step. */
void attend_ready(const struct server *server);
/* Requests are still answered for so many seconds. */
void attend_leaving(unsigned seconds);
void attend_close(void);

#endif
