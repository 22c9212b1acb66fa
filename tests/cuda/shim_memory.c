/* shim_memory.c -- cuda_memory.h with a block of its own for each, so that AddressSanitizer sees
 * where a kernel goes too far; and a device whose activity nobody knows. Tests only.
 */
#include <errno.h>
#include <stdlib.h>

#include "kernels/cuda/cuda_activity.h"
#include "kernels/cuda/cuda_memory.h"
#include "tests/cuda/shim.h"

struct cuda_memory {
    int (*take)(size_t bytes, void **ret_data);
    uint64_t taken;
};

int cuda_memory_open(int (*take)(size_t bytes, void **ret_data), struct cuda_memory **ret_memory)
{
    static struct cuda_memory memories[2];
    static int used;

    memories[used].take = take;
    *ret_memory = &memories[used++];
    return 0;
}

int cuda_memory_reserve(struct cuda_memory *m, enum kroom room, size_t bytes)
{
    (void)room;
    (void)m;
    (void)bytes;
    return 0;
}

int cuda_memory_alloc(struct cuda_memory *m, enum kroom room, size_t bytes, void **ret_data)
{
    int rc = m->take(bytes, ret_data);

    (void)room;
    if (rc == 0)
        __atomic_add_fetch(&m->taken, bytes, __ATOMIC_RELAXED);
    return rc;
}

void cuda_memory_dealloc(struct cuda_memory *m, void *data)
{
    (void)m;
    free(data);
}

void cuda_memory_count(struct cuda_memory *m, struct kmemory *memory)
{
    const uint64_t taken = __atomic_load_n(&m->taken, __ATOMIC_RELAXED);

    memory->taken += taken;
    memory->used += taken;
}

void cuda_activity_open(const char *bus)
{
    (void)bus;
}

int cuda_activity(uint32_t *ret_busy_percent, uint32_t *ret_clock_mhz)
{
    (void)ret_busy_percent;
    (void)ret_clock_mhz;
    return -ENOTSUP;
}
