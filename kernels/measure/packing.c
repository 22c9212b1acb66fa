/* packing.c -- see packing.h. */
#include "kernels/measure/packing.h"

#include <string.h>

void pack_bytes(struct pack *p, const void *from, size_t bytes)
{
    if (p->at != NULL)
        memcpy(p->at + p->bytes, from, bytes);
    p->bytes += bytes;
}

static void pack_number(struct pack *p, uint64_t value, size_t bytes)
{
    uint8_t little[8];

    for (size_t i = 0; i < bytes; i++)
        little[i] = (uint8_t)(value >> 8 * i);
    pack_bytes(p, little, bytes);
}

void pack_u8(struct pack *p, uint8_t value)
{
    pack_number(p, value, 1);
}

void pack_u32(struct pack *p, uint32_t value)
{
    pack_number(p, value, 4);
}

void pack_u64(struct pack *p, uint64_t value)
{
    pack_number(p, value, 8);
}

void pack_i64(struct pack *p, int64_t value)
{
    pack_number(p, (uint64_t)value, 8);
}

void pack_f64(struct pack *p, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof bits);
    pack_number(p, bits, 8);
}

size_t unpack_left(const struct unpack *u)
{
    return u->failed ? 0 : (size_t)(u->end - u->at);
}

void unpack_check(struct unpack *u, bool holds)
{
    if (!holds)
        u->failed = true;
}

void unpack_bytes(struct unpack *u, void *to, size_t bytes)
{
    unpack_check(u, unpack_left(u) >= bytes);
    if (u->failed) {
        memset(to, 0, bytes);
        return;
    }
    memcpy(to, u->at, bytes);
    u->at += bytes;
}

static uint64_t unpack_number(struct unpack *u, size_t bytes)
{
    uint8_t little[8];
    uint64_t value = 0;

    unpack_bytes(u, little, bytes);
    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)little[i] << 8 * i;
    return value;
}

uint8_t unpack_u8(struct unpack *u)
{
    return (uint8_t)unpack_number(u, 1);
}

uint32_t unpack_u32(struct unpack *u)
{
    return (uint32_t)unpack_number(u, 4);
}

uint64_t unpack_u64(struct unpack *u)
{
    return unpack_number(u, 8);
}

int64_t unpack_i64(struct unpack *u)
{
    return (int64_t)unpack_number(u, 8);
}

double unpack_f64(struct unpack *u, double low, double high)
{
    uint64_t bits = unpack_number(u, 8);
    double value;

    memcpy(&value, &bits, sizeof value);
    unpack_check(u, value >= low && value <= high);
    return u->failed ? 0 : value;
}

uint32_t unpack_len(struct unpack *u, uint32_t max)
{
    uint32_t len = unpack_u32(u);

    unpack_check(u, len <= max);
    return u->failed ? 0 : len;
}
