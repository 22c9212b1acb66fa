/* preflight.h -- what is looked at before anything is opened: would these settings lose what was
 * taught, and (for --check-config) would the daemon start with them?
 *
 * Nothing is written, made or locked. Threads: before others exist.
 */
#ifndef LEARND_PREFLIGHT_H
#define LEARND_PREFLIGHT_H

#include <stddef.h>

#include "daemon/settings.h"

/* Where a state folder may be, by the magic number of its file system (statfs(2)). */
enum preflight_disk { PREFLIGHT_DISK, PREFLIGHT_MEMORY, PREFLIGHT_NETWORK };
enum preflight_disk preflight_disk(long magic);

/* The settings that could lose data: refused are a state folder on a network file system (SQLite's
 * locks and shared memory do not reach across one), one that holds heads or encoders but no
 * journal, one that is full of something else, and an encoder inside it. 0 or -EINVAL, `why` says
 * which and what to do. note: "" or what an operator should know of a folder that is accepted. */
int preflight_state(const struct settings *settings, char *why, size_t why_bytes, char *note,
                    size_t note_bytes);
/* All that can be known without starting: the above, addresses, the encoder (it is loaded), and
 * that the state folder belongs to it. As above. */
int preflight_all(const struct settings *settings, char *why, size_t why_bytes, char *note,
                  size_t note_bytes);

#endif
