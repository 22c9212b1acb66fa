/* fake_memory.h -- the fake device's memory, its failures, and what an operation may be given.
 *
 * A device address is a real one with a bit set that no address has: the host that follows it dies
 * at once, whatever the sanitizer. Device and shared memory are registered, so that an operation
 * that is given the host's memory in place of the device's ends the process with a line that says
 * which operation and which argument. Threads: any.
 *
 * The file that LEARND_FAKE_DEVICE names is read again with every call that may fail. A line each:
 *
 *   total N          bytes of device memory (1 GiB), shared memory among them
 *   runs N           of them at most so many for runs (all)
 *   refuse 1         there is no such device
 *   lost 1           the device is gone: -ENODEV from everything
 *   fail N           the next N syncs of serving contexts fail
 *   fail_training N  the same of training contexts
 *   skip N           but N syncs later
 *   dies 1           a serving context that failed once does not recover
 *
 * Counts begin again when the file has changed.
 */
#ifndef LEARND_FAKE_MEMORY_H
#define LEARND_FAKE_MEMORY_H

#include <stdbool.h>

#include "kernels/backend.h"

/* Zeroed; 0, -ENOMEM, -ENODEV. */
int fake_alloc(enum kroom room, size_t bytes, void **ret_data);
int fake_alloc_shared(enum kroom room, size_t bytes, void **ret_data);
void fake_dealloc(void *data); /* either kind; NULL is fine */
/* Memory that has no address of its own: of matrices, and of contexts. */
int fake_take(enum kroom room, size_t bytes);
void fake_give(enum kroom room, size_t bytes);
/* As if nothing were ever in pieces: what a room uses beyond what was reserved for it is a request
 * to the driver, every time. */
int fake_reserve(enum kroom room, size_t bytes, size_t shared_bytes);
void fake_memory(struct kmemory *ret_memory);

/* What the CPU sees of an argument of an operation; ends the process where it is none. what: the
 * operation and the argument. NULL stays NULL where `may_be_null`. */
void *fake_device_at(const char *what, const void *data, bool may_be_null);
void *fake_shared_at(const char *what, const void *data, bool may_be_null);
/* The same of device memory with room for `bytes`. */
void *fake_device_room(const char *what, const void *data, size_t bytes);
/* Ends the process where the host's memory is not the host's. */
void fake_host(const char *what, const void *data);

bool fake_refused(void);
/* 0; -ENODEV: lost. */
int fake_there(void);
/* One sync: 0, -EIO, -ENODEV. */
int fake_sync(enum kpriority priority);
bool fake_dies(void);

#endif
