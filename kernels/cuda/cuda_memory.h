/* cuda_memory.h -- slots: what stands between alloc() and a driver whose malloc waits for all that
 * the device is doing, and whose free as well.
 *
 * The walk of a device's memory. At the start the daemon adds up what it will hold and takes it in
 * one slab for each purpose (enum kroom), by reserve():
 *
 *   K_WEIGHTS   the base encoder, and three slots beside it: one that is live, the one before it
 *               that drains or is watched, a candidate. Taken and given back by encoder_open and
 *               encoder_close, block by block, one encoder at a time.
 *   K_CONTEXTS  each lane's stream: workspace, offsets, activations. Taken when the lanes open, and
 *               again by a lane whose context has failed.
 *   K_RUNS      one run: masters, gradients, moments, matrices, activations, its context. Taken by
 *               train_open and its first steps, given back whole by train_close.
 *
 * From then on blocks come from the slabs, the smallest hole that is large enough, and go back into
 * them, where a hole grows together with its neighbours: nothing goes back to the driver. Sizes are
 * exact but for the last 256 bytes, and no room takes from another's slabs: a run that ends leaves
 * K_RUNS in one piece, and encoders of one shape that come and go one by one fit for ever (each
 * hole is a whole number of them). Where a room is full all the same (a bigger encoder was
 * imported, a fourth one is in memory, a run has more labels than the start reckoned with) the
 * driver is asked for another slab, which stays; `asked` counts it.
 *
 * Everything about a block is kept on the host: what is handed out may be memory that the host
 * cannot touch. Threads: any.
 */
#ifndef LEARND_CUDA_MEMORY_H
#define LEARND_CUDA_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/backend.h"

struct cuda_memory;

/* take: `bytes` from the driver, 256-byte aligned; 0, or -errno. */
int cuda_memory_open(int (*take)(size_t bytes, void **ret_data), struct cuda_memory **ret_memory);

/* One slab of `bytes` now; of 0 none. 0, -ENOMEM, or what take said. */
int cuda_memory_reserve(struct cuda_memory *m, enum kroom room, size_t bytes);
/* A block of at least `bytes`, 256-byte aligned, its contents arbitrary. 0, -ENOMEM, or what take
 * said. */
int cuda_memory_alloc(struct cuda_memory *m, enum kroom room, size_t bytes, void **ret_data);
/* NULL is fine. A pointer that is not a block's is a programmer's error. */
void cuda_memory_dealloc(struct cuda_memory *m, void *data);

/* Adds to what *memory says: bytes taken from the driver, those of them in blocks that are in use,
 * and how often the driver was asked. */
void cuda_memory_count(struct cuda_memory *m, struct kmemory *memory);

#endif
