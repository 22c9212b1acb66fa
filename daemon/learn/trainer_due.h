/* trainer_due.h -- what the trainer does of its own accord: starts runs that are due, takes up
 * probations after a restart, clears away what no row promises.
 *
 * Private to daemon/learn. Threads: the trainer's.
 */
#ifndef LEARND_TRAINER_DUE_H
#define LEARND_TRAINER_DUE_H

#include "daemon/learn/trainer_run.h"

/* Queues a run for the first model that is due (kernels/train/trigger.h). True: there was one. */
bool trainer_look(struct trainer *trainer);
/* At the start: a model whose encoder came from a run not long ago is watched again. */
void trainer_watch(struct trainer *trainer);
/* trainer_retain.c. After a run: of a model's held versions those that were live last stay
 * (encoders_kept), so that there is a way back; what was refused or removed leaves neither files
 * nor embeddings. How many were removed. */
uint32_t trainer_sweep(struct trainer *trainer, int64_t model);
/* Once a day, and at the start: the same for every model, and runs that ended long ago. */
void trainer_retain(struct trainer *trainer);

#endif
