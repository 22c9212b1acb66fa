/* ctl_run.h -- what commands that start a run share. */
#ifndef LEARND_CTL_RUN_H
#define LEARND_CTL_RUN_H

#include "daemon/ctl/ctl_call.h"

/* Members of a body for --margin and --force. */
void ctl_run_flags(const struct ctl *ctl, struct api_buffer *body);
/* POSTs body to target, which is consumed, and shows the run; with --watch its way and its end. */
enum ctl_exit ctl_run_ask(struct ctl *ctl, struct api_buffer *target,
                          const struct api_buffer *body);
/* Until the run has ended: CTL_OK, CTL_GATE or CTL_RUN by how. */
enum ctl_exit ctl_run_watch(struct ctl *ctl, int64_t run);

#endif
