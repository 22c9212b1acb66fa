/* fnv.h -- FNV-1a of 64 bits: for tables and comparisons inside one process. No key, so not for
 * what a stranger may fill a table with to slow it down, and nothing that is kept rests on it.
 */
#ifndef LEARND_FNV_H
#define LEARND_FNV_H

#include <stddef.h>
#include <stdint.h>

#define FNV_INIT UINT64_C(0xcbf29ce484222325)

/* The hash of what went before (FNV_INIT: nothing), and of these bytes behind it. */
static inline uint64_t fnv_add(uint64_t hash, const void *bytes, size_t len)
{
    const unsigned char *at = bytes;

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ at[i]) * UINT64_C(0x100000001b3);
    return hash;
}

#endif
