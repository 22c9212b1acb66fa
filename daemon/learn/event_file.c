/* event_file.c -- see event_file.h.
 *
 * Record: u64 length | u32 crc(length) | bytes | u32 crc(bytes), little-endian; a crc is masked:
 * rotated right by 15, plus 0xa282ead8.
 * Event: 1 double wall_time, 2 int64 step, 3 string file_version | 5 Summary: 1 Value*, each
 * 1 string tag, 2 float simple_value.
 */
#include "daemon/learn/event_file.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    VALUE_BYTES_MAX = EVENT_FILE_TAG_BYTES + 16,
    RECORD_BYTES_MAX = EVENT_FILE_SCALARS_MAX * VALUE_BYTES_MAX + 64,
    FRAME_BYTES = 12, /* before the message; 4 behind it */
};

struct event_file {
    int fd;
    off_t bytes; /* of whole records */
};

struct record {
    uint8_t bytes[RECORD_BYTES_MAX];
    size_t len;
};

/* ---- framing --------------------------------------------------------------------------------- */

/* Castagnoli's polynomial, a bit at a time: a few hundred bytes a step of a run. */
uint32_t event_file_crc32c(const void *bytes, size_t len)
{
    const uint8_t *b = bytes;
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < len; i++) {
        crc ^= b[i];
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (0x82f63b78u & -(crc & 1));
    }
    return ~crc;
}

static void put_le(uint8_t *to, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++, value >>= 8)
        to[i] = (uint8_t)value;
}

static uint32_t masked(const void *bytes, size_t len)
{
    uint32_t crc = event_file_crc32c(bytes, len);

    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/* The message of r stands behind FRAME_BYTES. Whole or not at all. */
static int write_record(struct event_file *f, struct record *r)
{
    size_t message = r->len - FRAME_BYTES;
    ssize_t done;
    int rc;

    put_le(r->bytes, message, 8);
    put_le(r->bytes + 8, masked(r->bytes, 8), 4);
    put_le(r->bytes + r->len, masked(r->bytes + FRAME_BYTES, message), 4);
    r->len += 4;
    done = pwrite(f->fd, r->bytes, r->len, f->bytes);
    if (done == (ssize_t)r->len) {
        f->bytes += done;
        return 0;
    }
    rc = done < 0 ? -errno : -ENOSPC;
    (void)!ftruncate(f->fd, f->bytes);
    return rc;
}

/* ---- protobuf -------------------------------------------------------------------------------- */

enum wire { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

static void put_varint(struct record *r, uint64_t value)
{
    for (; value >= 128; value >>= 7)
        r->bytes[r->len++] = (uint8_t)(value | 128);
    r->bytes[r->len++] = (uint8_t)value;
}

static void put_key(struct record *r, uint32_t field, enum wire wire)
{
    put_varint(r, field << 3 | wire);
}

static void put_bytes(struct record *r, uint32_t field, const void *bytes, size_t len)
{
    put_key(r, field, WIRE_BYTES);
    put_varint(r, len);
    memcpy(r->bytes + r->len, bytes, len);
    r->len += len;
}

static void begin(struct record *r, int64_t wall_us)
{
    double seconds = (double)wall_us / 1e6;
    uint64_t bits;

    memcpy(&bits, &seconds, sizeof bits);
    r->len = FRAME_BYTES;
    put_key(r, 1, WIRE_64);
    put_le(r->bytes + r->len, bits, 8);
    r->len += 8;
}

static void put_value(struct record *r, const struct event_scalar *scalar)
{
    struct record value = {.len = 0};
    float number = (float)scalar->value;
    uint32_t bits;

    memcpy(&bits, &number, sizeof bits);
    put_bytes(&value, 1, scalar->tag, strlen(scalar->tag));
    put_key(&value, 2, WIRE_32);
    put_le(value.bytes + value.len, bits, 4);
    value.len += 4;
    put_bytes(r, 1, value.bytes, value.len);
}

int event_file_put(struct event_file *f, int64_t wall_us, int64_t step,
                   const struct event_scalar *scalars, size_t len)
{
    struct record event, summary = {.len = 0};

    if (len > EVENT_FILE_SCALARS_MAX)
        return -EINVAL;
    for (size_t i = 0; i < len; i++) {
        if (strlen(scalars[i].tag) > EVENT_FILE_TAG_BYTES)
            return -EINVAL;
        if (isfinite(scalars[i].value))
            put_value(&summary, &scalars[i]);
    }
    begin(&event, wall_us);
    put_key(&event, 2, WIRE_VARINT);
    put_varint(&event, (uint64_t)step);
    put_bytes(&event, 5, summary.bytes, summary.len);
    return write_record(f, &event);
}

/* ---- life ------------------------------------------------------------------------------------ */

int event_file_open(const char *folder, int64_t wall_us, struct event_file **ret_file)
{
    static const char version[] = "brain.Event:2";
    struct event_file *f = calloc(1, sizeof *f);
    struct record first;
    char *path;
    int rc = 0;

    if (f == NULL)
        return -ENOMEM;
    f->fd = -1;
    /* The name's parts are what TensorBoard looks for and sorts by. */
    if (asprintf(&path, "%s/events.out.tfevents.%010lld.learnd.%06lld.%ld", folder,
                 (long long)wall_us / 1000000, (long long)wall_us % 1000000, (long)getpid()) < 0)
        rc = -ENOMEM;
    if (rc == 0) {
        f->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
        rc = f->fd < 0 ? -errno : 0;
        free(path);
    }
    if (rc == 0) {
        begin(&first, wall_us);
        put_bytes(&first, 3, version, sizeof version - 1);
        rc = write_record(f, &first);
    }
    if (rc != 0) {
        event_file_close(f);
        return rc;
    }
    *ret_file = f;
    return 0;
}

void event_file_close(struct event_file *f)
{
    if (f == NULL)
        return;
    if (f->fd >= 0)
        close(f->fd);
    free(f);
}

void event_file_name(const char *name, char *part, size_t part_bytes)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t at = 0, whole = 0;

    for (const char *p = name; *p != '\0'; p++) {
        bool high = (unsigned char)*p >= 128,
             keep = high || (strchr(plain, *p) != NULL && !(*p == '.' && p == name));

        if (at + (keep ? 1 : 3) >= part_bytes)
            break;
        if (keep)
            part[at++] = *p;
        else
            at += (size_t)snprintf(part + at, part_bytes - at, "%%%02X", (unsigned char)*p);
        if (!high || ((unsigned char)p[1] & 0xc0) != 0x80)
            whole = at; /* a character ends here */
    }
    part[whole] = '\0';
}
