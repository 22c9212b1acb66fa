/* cuda_memory.h -- slots: what stands between alloc() and a driver whose malloc waits for all that
 * the device is doing, and whose free as well.
 *
 * Blocks are of size classes, four to a doubling. A block that is given back goes to the list of
 * its class and never to the driver, so that the second encoder of a shape, and every later one,
 * costs the driver nothing. Small blocks are cut from slabs. Sizes are kept on the host: what is
 * handed out may be memory that the host cannot touch.
 *
 * Threads: any.
 */
#ifndef LEARND_CUDA_MEMORY_H
#define LEARND_CUDA_MEMORY_H

#include <stddef.h>
#include <stdint.h>

struct cuda_memory;

/* take: `bytes` from the driver, 256-byte aligned; 0, or -errno. */
int cuda_memory_open(int (*take)(size_t bytes, void **ret_data), struct cuda_memory **ret_memory);

/* One slab of `bytes` (or what the driver rounds them to) now. 0, or what take said. */
int cuda_memory_reserve(struct cuda_memory *m, size_t bytes);
/* A block of at least `bytes`, 256-byte aligned, its contents arbitrary. 0, -ENOMEM, or what take
 * said. */
int cuda_memory_alloc(struct cuda_memory *m, size_t bytes, void **ret_data);
/* NULL is fine. A pointer that is not a block's is a programmer's error. */
void cuda_memory_dealloc(struct cuda_memory *m, void *data);

/* Bytes taken from the driver, and those of them in blocks that are in use. */
void cuda_memory_count(struct cuda_memory *m, uint64_t *ret_taken, uint64_t *ret_used);
/* What a block of `bytes` really takes. */
size_t cuda_memory_block_bytes(size_t bytes);

#endif
