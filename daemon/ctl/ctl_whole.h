/* ctl_whole.h -- everything that a state folder knows, as files that other programs read, and back
 * into an empty daemon. What is written where stands in ctl_whole_export.c.
 */
#ifndef LEARND_CTL_WHOLE_H
#define LEARND_CTL_WHOLE_H

#include "daemon/ctl/ctl_state.h"

enum ctl_exit ctl_export_everything(struct ctl *ctl);
enum ctl_exit ctl_import_everything(struct ctl *ctl);

#endif
