/* stepper.h -- a thread that does the heavy arithmetic of a run when nobody else wants the cores.
 *
 * It runs under SCHED_IDLE (where the system refuses: nice 19), and so does the OpenMP team it
 * brings up, so that a lane which wakes takes the core at once. It must never hold a lock that
 * traffic needs: an idle thread that was sent off its core with a lock in hand would block the
 * lanes for as long as they keep the cores busy. What it is given to do is therefore pure
 * arithmetic.
 *
 * Threads: one of its own; run by one caller at a time, which waits.
 */
#ifndef LEARND_STEPPER_H
#define LEARND_STEPPER_H

struct stepper;

typedef int stepper_fn(void *ud);

/* 0, -ENOMEM, -EAGAIN. */
int stepper_open(struct stepper **ret_stepper);
void stepper_close(struct stepper *stepper); /* NULL is fine */
/* What fn answered. */
int stepper_run(struct stepper *stepper, stepper_fn *fn, void *ud);

#endif
