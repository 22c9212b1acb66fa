/* safetensors_write.h -- writes a .safetensors file as a stream: first the header of all tensors,
 * then the caller's values in the same order.
 *
 * F32 only, with the metadata that transformers asks for. Private to kernels/. Threads: none.
 */
#ifndef LEARND_SAFETENSORS_WRITE_H
#define LEARND_SAFETENSORS_WRITE_H

#include <stddef.h>
#include <stdint.h>

/* A tensor to come. columns 1: a vector of `rows` values. */
struct safetensors_entry {
    char name[128];
    uint64_t rows, columns;
};

/* Hands over the header in one piece. The values follow, each tensor's behind the one before it. 0,
 * -ENOMEM, or what `write` answered. */
int safetensors_header_write(const struct safetensors_entry *entries, uint32_t len,
                             int (*write)(void *ud, const void *bytes, size_t bytes_len), void *ud);

#endif
