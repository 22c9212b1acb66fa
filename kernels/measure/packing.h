/* packing.h -- numbers in a portable image: little endian on the way out, bounds-checked on the way
 * back. Private.
 *
 * Both ways walk the same list of fields, so an image is written once to count its bytes (at NULL)
 * and once to fill them. A reader that ran past its end, or that met what it must refuse, sticks to
 * `failed` and reads zeros.
 */
#ifndef LEARND_PACKING_H
#define LEARND_PACKING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pack {
    uint8_t *at; /* NULL: only counts */
    size_t bytes;
};
void pack_bytes(struct pack *p, const void *from, size_t bytes);
void pack_u8(struct pack *p, uint8_t value);
void pack_u32(struct pack *p, uint32_t value);
void pack_u64(struct pack *p, uint64_t value);
void pack_i64(struct pack *p, int64_t value);
void pack_f64(struct pack *p, double value);

struct unpack {
    const uint8_t *at, *end;
    bool failed;
};
void unpack_bytes(struct unpack *u, void *to, size_t bytes);
uint8_t unpack_u8(struct unpack *u);
uint32_t unpack_u32(struct unpack *u);
uint64_t unpack_u64(struct unpack *u);
int64_t unpack_i64(struct unpack *u);
/* A number outside [low, high], NaN among them, fails. -UNPACK_ANY .. UNPACK_ANY: all finite
 * ones. */
#define UNPACK_ANY 1.7976931348623157e308
double unpack_f64(struct unpack *u, double low, double high);
/* A count above max fails and reads as 0. */
uint32_t unpack_len(struct unpack *u, uint32_t max);
/* Fails unless `holds`. */
void unpack_check(struct unpack *u, bool holds);
size_t unpack_left(const struct unpack *u);

#endif
