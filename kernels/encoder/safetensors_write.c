/* safetensors_write.c -- see safetensors_write.h. The names are our own (encoder_weights.h) and
 * need no escaping; spaces fill the header up to a multiple of 8 bytes, so that the values are
 * aligned.
 */
#include "kernels/encoder/safetensors_write.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ENTRY_BYTES_MAX = 320 };

static size_t entry_put(char *to, const struct safetensors_entry *e, uint64_t from)
{
    char shape[48];
    uint64_t bytes = e->rows * e->columns * sizeof(float);

    if (e->columns > 1)
        snprintf(shape, sizeof shape, "%llu,%llu", (unsigned long long)e->rows,
                 (unsigned long long)e->columns);
    else
        snprintf(shape, sizeof shape, "%llu", (unsigned long long)e->rows);
    return (size_t)snprintf(to, ENTRY_BYTES_MAX,
                            ",\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%llu,"
                            "%llu]}",
                            e->name, shape, (unsigned long long)from,
                            (unsigned long long)(from + bytes));
}

int safetensors_header_write(const struct safetensors_entry *entries, uint32_t len,
                             int (*write)(void *ud, const void *bytes, size_t bytes_len), void *ud)
{
    static const char first[] = "{\"__metadata__\":{\"format\":\"pt\"}";
    char *header = malloc(8 + sizeof first + (size_t)len * ENTRY_BYTES_MAX + 16);
    size_t at = 8;
    uint64_t from = 0;
    int rc;

    if (header == NULL)
        return -ENOMEM;
    memcpy(header + at, first, sizeof first - 1);
    at += sizeof first - 1;
    for (uint32_t i = 0; i < len; i++) {
        at += entry_put(header + at, &entries[i], from);
        from += entries[i].rows * entries[i].columns * sizeof(float);
    }
    header[at++] = '}';
    while (at % 8 != 0)
        header[at++] = ' ';
    for (int i = 0; i < 8; i++)
        header[i] = (char)((at - 8) >> 8 * i & 255);
    rc = write(ud, header, at);
    free(header);
    return rc;
}
