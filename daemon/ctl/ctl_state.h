/* ctl_state.h -- what the commands share that work on a state folder, not on a daemon: backup,
 * restore, doctor, and the whole export. They need no daemon; beside a running one they only read.
 */
#ifndef LEARND_CTL_STATE_H
#define LEARND_CTL_STATE_H

#include "daemon/ctl/ctl.h"

enum { CTL_STATE_BYTES = 4096 };

/* --state, else LEARND_STATE, else where the daemon has it. */
const char *ctl_state(const struct ctl *ctl, char path[CTL_STATE_BYTES]);
/* Says it; -errno of the store -> an exit code: what is to be put right here is CTL_USAGE. */
enum ctl_exit ctl_state_failed(const char *why, int rc);

#endif
