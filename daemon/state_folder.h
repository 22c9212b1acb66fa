/* state_folder.h -- where the state is unless it is said: one answer for the daemon and for
 * learnctl, which looks after the folder. Reads the environment.
 */
#ifndef LEARND_STATE_FOLDER_H
#define LEARND_STATE_FOLDER_H

#include <stddef.h>

/* $STATE_DIRECTORY (systemd's), $XDG_STATE_HOME/learnd, or ~/.local/state/learnd. Cut if too long.
 */
void state_folder_default(char *path, size_t path_bytes);

#endif
