/* shim_copies.c -- see shim_copies.h. */
#include "tests/cuda/shim_copies.h"

#include <string.h>

#include "tests/cuda/shim.h"

enum { COPIES_MAX = 128, NAN_BYTE = 0xff };

struct copy {
    void *to;
    const void *from;
    size_t bytes;
};

static struct {
    struct copy copies[COPIES_MAX];
    uint32_t len;
} threads[SHIM_THREADS_MAX];

void shim_copy_later(void *to, const void *from, size_t bytes)
{
    struct copy copy = {to, from, bytes};
    uint32_t at = threads[threadIdx.x].len;

    shim_expect((uintptr_t)to % bytes == 0 && (uintptr_t)from % bytes == 0,
                "a copy between addresses that are not multiples of its bytes");
    shim_expect(at < COPIES_MAX, "more copies on the way than the shim keeps");
    memset(to, NAN_BYTE, bytes);
    threads[threadIdx.x].copies[at] = copy;
    threads[threadIdx.x].len++;
}

void shim_copies_wait(void)
{
    for (uint32_t i = 0; i < threads[threadIdx.x].len; i++) {
        const struct copy *copy = &threads[threadIdx.x].copies[i];

        if (copy->from != NULL)
            memcpy(copy->to, copy->from, copy->bytes);
        else
            memset(copy->to, 0, copy->bytes);
    }
    threads[threadIdx.x].len = 0;
}

uint32_t shim_copies_left(uint32_t thread)
{
    return threads[thread].len;
}
