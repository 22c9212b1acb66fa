/* training.h -- joins the trainer, which knows no JSON, to the texts that the store keeps of a run
 * and the API shows (proto/api_runs.h).
 */
#ifndef LEARND_TRAINING_H
#define LEARND_TRAINING_H

#include "daemon/learn/trainer.h"
#include "daemon/settings.h"

/* Fills in what of the parts is text or setting; the rest is the caller's. settings_text lives as
 * long as the process. 0, -ENOMEM. */
int training_parts(const struct settings *settings, struct trainer_parts *parts);

#endif
