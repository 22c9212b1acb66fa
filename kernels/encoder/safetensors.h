/* safetensors.h -- reads a .safetensors file by mmap: a JSON header that names tensors, then their
 * bytes.
 *
 * Format: 8 bytes little-endian header length, the header, the data. Everything is checked before
 * anything is used: every tensor's dtype, shape and place, that none lies outside the file and that
 * no two overlap. Private to kernels/. Threads: immutable after open.
 */
#ifndef LEARND_SAFETENSORS_H
#define LEARND_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

enum safetensors_dtype { SAFETENSORS_F32, SAFETENSORS_F16, SAFETENSORS_BF16, SAFETENSORS_OTHER };

struct safetensor {
    const char *name;
    enum safetensors_dtype dtype;
    char dtype_name[8];
    uint32_t dims_len; /* up to 4 */
    uint64_t dims[4];
    const void *data; /* not aligned */
    uint64_t bytes;
};

struct safetensors;

/* 0, -ENOENT, -ENOMEM, -EINVAL; `why` names the file and what is wrong. */
int safetensors_open(const char *path, char *why, size_t why_bytes, struct safetensors **ret_file);
/* The same on bytes in memory, borrowed until close. `name` is for messages. */
int safetensors_parse(const char *name, const void *bytes, size_t bytes_len, char *why,
                      size_t why_bytes, struct safetensors **ret_file);
void safetensors_close(struct safetensors *file);

uint32_t safetensors_len(const struct safetensors *file);
/* NULL: there is none of this name. Borrowed. */
const struct safetensor *safetensors_find(const struct safetensors *file, const char *name);

/* Copies a tensor as fp32 (all of it). -EDOM: it holds NaN or infinity; -EINVAL: SAFETENSORS_OTHER.
 */
int safetensor_read(const struct safetensor *tensor, float *ret_values);

#endif
