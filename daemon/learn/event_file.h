/* event_file.h -- TensorBoard's event files: scalars of a run, for people who look at runs there.
 *
 * A file is a list of records, each with its length and two masked CRC-32Cs (TFRecord), each
 * holding one protobuf message (Event); both are small enough to be written by hand. The first
 * record says "brain.Event:2". A record that did not fit on the disk is cut off again, so that what
 * is there can be read.
 *
 * Threads: one at a time. No clock, no log.
 */
#ifndef LEARND_EVENT_FILE_H
#define LEARND_EVENT_FILE_H

#include <stddef.h>
#include <stdint.h>

struct event_file;

/* tag: "train/loss", at most EVENT_FILE_TAG_BYTES. A value that is not finite is left out. */
struct event_scalar {
    const char *tag;
    double value;
};

enum { EVENT_FILE_TAG_BYTES = 64, EVENT_FILE_SCALARS_MAX = 32 };

/* A new file in the folder, which exists; several lives of a run have a file each. wall_us: Unix
 * time. 0 or -errno. */
int event_file_open(const char *folder, int64_t wall_us, struct event_file **ret_file);
/* NULL is fine. */
void event_file_close(struct event_file *file);
/* One event with all of them. 0; -errno: nothing of it is in the file; -EINVAL: too many, or a
 * tag is too long. */
int event_file_put(struct event_file *file, int64_t wall_us, int64_t step,
                   const struct event_scalar *scalars, size_t len);

/* Of the format; for tests. */
uint32_t event_file_crc32c(const void *bytes, size_t len);
/* A name as one part of a path: what is not a letter, a digit, '.', '_', '-' or beyond ASCII is
 * %XX, as is a dot in front. Cut to fit, between characters. */
void event_file_name(const char *name, char *ret_part, size_t part_bytes);

#endif
