/* ops_device.h -- a backend with memory of its own, for tests that read and write theirs directly.
 * Tests only.
 *
 * Its table takes plain memory: each operation's arguments are copied to the device, the operation
 * runs, what it wrote is copied back. What is small and the host's (ids, types, offsets, keys of
 * dropout, y of serving's pool, what a loss is given) goes by shared memory, all else by device
 * memory, as backend.h has it. One backend a process, one thread.
 */
#ifndef LEARND_OPS_DEVICE_H
#define LEARND_OPS_DEVICE_H

#include "kernels/backend.h"

const struct backend *ops_device(const struct backend *be);

#endif
