/* safetensors.c -- see safetensors.h. The header is hostile input: it comes with a model from
 * anywhere. */
#include "kernels/encoder/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/model_json.h"

enum { HEADER_BYTES_MAX = 16 << 20, TENSORS_MAX = 65536 };

struct safetensors {
    const uint8_t *bytes;
    size_t bytes_len;
    bool mapped;
    json_t *header; /* owns the names */
    struct safetensor *tensors;
    uint32_t len;
};

static enum safetensors_dtype dtype_of(const char *name, uint64_t *ret_size)
{
    static const struct {
        const char *name;
        enum safetensors_dtype dtype;
        uint64_t size;
    } known[] = {
        {"F32", SAFETENSORS_F32, 4},   {"F16", SAFETENSORS_F16, 2},   {"BF16", SAFETENSORS_BF16, 2},
        {"F64", SAFETENSORS_OTHER, 8}, {"I64", SAFETENSORS_OTHER, 8}, {"U64", SAFETENSORS_OTHER, 8},
        {"I32", SAFETENSORS_OTHER, 4}, {"U32", SAFETENSORS_OTHER, 4}, {"I16", SAFETENSORS_OTHER, 2},
        {"U16", SAFETENSORS_OTHER, 2}, {"I8", SAFETENSORS_OTHER, 1},  {"U8", SAFETENSORS_OTHER, 1},
        {"BOOL", SAFETENSORS_OTHER, 1}};

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(known[i].name, name) == 0) {
            *ret_size = known[i].size;
            return known[i].dtype;
        }
    }
    *ret_size = 0;
    return SAFETENSORS_OTHER;
}

static int read_shape(struct safetensor *t, json_t *shape, uint64_t size, char *why,
                      size_t why_bytes)
{
    uint64_t bytes = size;
    size_t i;
    json_t *dim;

    if (!json_is_array(shape) || json_array_size(shape) > 4) {
        snprintf(why, why_bytes, "tensor %s: shape must be a list of at most 4 lengths", t->name);
        return -EINVAL;
    }
    json_array_foreach(shape, i, dim)
    {
        json_int_t n = json_is_integer(dim) ? json_integer_value(dim) : -1;

        if (n < 0 || (n > 0 && bytes > UINT64_MAX / 2 / (uint64_t)n)) {
            snprintf(why, why_bytes, "tensor %s: a length of its shape is impossible", t->name);
            return -EINVAL;
        }
        t->dims[t->dims_len++] = (uint64_t)n;
        bytes *= (uint64_t)n;
    }
    if (bytes != t->bytes) {
        snprintf(why, why_bytes, "tensor %s: its shape needs %llu bytes, its place has %llu",
                 t->name, (unsigned long long)bytes, (unsigned long long)t->bytes);
        return -EINVAL;
    }
    return 0;
}

static int read_tensor(struct safetensors *f, const char *name, json_t *entry, size_t data_at,
                       char *why, size_t why_bytes)
{
    struct safetensor *t = &f->tensors[f->len];
    json_t *dtype = json_object_get(entry, "dtype");
    json_t *offsets = json_object_get(entry, "data_offsets");
    json_int_t from, to;
    uint64_t size;

    t->name = name;
    from = json_is_array(offsets) && json_array_size(offsets) == 2 &&
                   json_is_integer(json_array_get(offsets, 0))
               ? json_integer_value(json_array_get(offsets, 0))
               : -1;
    to = from >= 0 && json_is_integer(json_array_get(offsets, 1))
             ? json_integer_value(json_array_get(offsets, 1))
             : -1;
    if (!json_is_string(dtype) || from < 0 || to < from) {
        snprintf(why, why_bytes, "tensor %s: expected dtype, shape and data_offsets", name);
        return -EINVAL;
    }
    if ((uint64_t)to > f->bytes_len - data_at) {
        snprintf(why, why_bytes, "tensor %s: lies outside the file (%lld of %llu data bytes)", name,
                 (long long)to, (unsigned long long)(f->bytes_len - data_at));
        return -EINVAL;
    }
    t->dtype = dtype_of(json_string_value(dtype), &size);
    if (size == 0) {
        snprintf(why, why_bytes, "tensor %s: unknown dtype", name);
        return -EINVAL;
    }
    snprintf(t->dtype_name, sizeof t->dtype_name, "%s", json_string_value(dtype));
    t->data = f->bytes + data_at + from;
    t->bytes = (uint64_t)(to - from);
    f->len++;
    return read_shape(t, json_object_get(entry, "shape"), size, why, why_bytes);
}

static int by_place(const void *a, const void *b)
{
    const struct safetensor *x = a, *y = b;

    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static int check_overlap(struct safetensors *f, char *why, size_t why_bytes)
{
    qsort(f->tensors, f->len, sizeof *f->tensors, by_place);
    for (uint32_t i = 1; i < f->len; i++) {
        const struct safetensor *a = &f->tensors[i - 1], *b = &f->tensors[i];

        if ((const uint8_t *)a->data + a->bytes > (const uint8_t *)b->data) {
            snprintf(why, why_bytes, "tensors %s and %s overlap", a->name, b->name);
            return -EINVAL;
        }
    }
    return 0;
}

static int read_header(struct safetensors *f, char *why, size_t why_bytes)
{
    uint64_t header_len = 0;
    const char *name;
    json_t *entry;
    int rc;

    for (int i = 7; i >= 0 && f->bytes_len >= 8; i--)
        header_len = header_len << 8 | f->bytes[i];
    if (f->bytes_len < 8 || header_len > f->bytes_len - 8 || header_len > HEADER_BYTES_MAX) {
        snprintf(why, why_bytes, "the header of %llu bytes does not fit a file of %zu",
                 (unsigned long long)header_len, f->bytes_len);
        return -EINVAL;
    }
    rc = model_json_parse("header", (const char *)f->bytes + 8, header_len, why, why_bytes,
                          &f->header);
    if (rc != 0)
        return rc;
    if (!json_is_object(f->header) || json_object_size(f->header) > TENSORS_MAX) {
        snprintf(why, why_bytes, "the header must be an object of at most %d tensors", TENSORS_MAX);
        return -EINVAL;
    }
    f->tensors = calloc(json_object_size(f->header) + 1, sizeof *f->tensors);
    if (f->tensors == NULL)
        return -ENOMEM;
    json_object_foreach(f->header, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        rc = read_tensor(f, name, entry, 8 + header_len, why, why_bytes);
        if (rc != 0)
            return rc;
    }
    return check_overlap(f, why, why_bytes);
}

static int parse(struct safetensors *f, const char *name, char *why, size_t why_bytes,
                 struct safetensors **ret_file)
{
    char reason[512] = "out of memory";
    int rc = read_header(f, reason, sizeof reason);

    if (rc != 0) {
        snprintf(why, why_bytes, "%s: %s", name, reason);
        safetensors_close(f);
        return rc;
    }
    *ret_file = f;
    return 0;
}

int safetensors_parse(const char *name, const void *bytes, size_t bytes_len, char *why,
                      size_t why_bytes, struct safetensors **ret_file)
{
    struct safetensors *f = calloc(1, sizeof *f);

    if (f == NULL) {
        snprintf(why, why_bytes, "%s: out of memory", name);
        return -ENOMEM;
    }
    f->bytes = bytes;
    f->bytes_len = bytes_len;
    return parse(f, name, why, why_bytes, ret_file);
}

int safetensors_open(const char *path, char *why, size_t why_bytes, struct safetensors **ret_file)
{
    struct safetensors *f = NULL;
    struct stat st;
    void *map = MAP_FAILED;
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc;

    if (fd < 0 || fstat(fd, &st) != 0) {
        rc = errno == ENOENT ? -ENOENT : -EINVAL;
        snprintf(why, why_bytes, "%s: %s", path, strerror(errno));
        goto out;
    }
    rc = -EINVAL;
    if (!S_ISREG(st.st_mode) || st.st_size < 8) {
        snprintf(why, why_bytes, "%s: not a safetensors file (%lld bytes)", path,
                 (long long)st.st_size);
        goto out;
    }
    map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    f = calloc(1, sizeof *f);
    if (map == MAP_FAILED || f == NULL) {
        snprintf(why, why_bytes, "%s: cannot be mapped: %s", path, strerror(errno));
        if (map != MAP_FAILED)
            munmap(map, (size_t)st.st_size);
        free(f);
        rc = -ENOMEM;
        goto out;
    }
    f->bytes = map;
    f->bytes_len = (size_t)st.st_size;
    f->mapped = true;
    rc = parse(f, path, why, why_bytes, ret_file);
out:
    if (fd >= 0)
        close(fd);
    return rc;
}

void safetensors_close(struct safetensors *f)
{
    if (f == NULL)
        return;
    if (f->mapped)
        munmap((void *)(uintptr_t)f->bytes, f->bytes_len);
    json_decref(f->header);
    free(f->tensors);
    free(f);
}

uint32_t safetensors_len(const struct safetensors *f)
{
    return f->len;
}

const struct safetensor *safetensors_find(const struct safetensors *f, const char *name)
{
    for (uint32_t i = 0; i < f->len; i++)
        if (strcmp(f->tensors[i].name, name) == 0)
            return &f->tensors[i];
    return NULL;
}

static float half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 1023;
    uint32_t bits;
    float f;

    if (exponent == 31) {
        bits = sign | 0x7f800000 | mantissa << 13;
    } else if (exponent != 0) {
        bits = sign | (exponent + 112) << 23 | mantissa << 13;
    } else {
        f = (float)mantissa * 0x1p-24f;
        return sign != 0 ? -f : f;
    }
    memcpy(&f, &bits, sizeof f);
    return f;
}

int safetensor_read(const struct safetensor *t, float *ret_values)
{
    const uint8_t *from = t->data;
    uint64_t n;

    if (t->dtype == SAFETENSORS_OTHER)
        return -EINVAL;
    n = t->bytes / (t->dtype == SAFETENSORS_F32 ? 4 : 2);
    if (t->dtype == SAFETENSORS_F32) {
        memcpy(ret_values, from, t->bytes);
    } else {
        for (uint64_t i = 0; i < n; i++) {
            uint16_t h;

            memcpy(&h, from + 2 * i, 2);
            if (t->dtype == SAFETENSORS_F16) {
                ret_values[i] = half_to_float(h);
            } else {
                uint32_t bits = (uint32_t)h << 16;

                memcpy(&ret_values[i], &bits, 4);
            }
        }
    }
    for (uint64_t i = 0; i < n; i++)
        if (!isfinite(ret_values[i]))
            return -EDOM;
    return 0;
}
