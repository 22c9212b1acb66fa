/* descriptors.h -- room for connections: as many open files as they need. */
#ifndef LEARND_DESCRIPTORS_H
#define LEARND_DESCRIPTORS_H

#include <stdint.h>

/* Raises the process's limit of open files as far as it may, and needs, for this many connections
 * beside LIMIT_FILES of the daemon's own. Returns how many fit, at most those asked for. */
uint32_t descriptors_for(uint32_t connections);

#endif
