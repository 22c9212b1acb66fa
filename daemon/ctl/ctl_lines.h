/* ctl_lines.h -- a file, a line at a time, in bounded memory.
 *
 * Without line ends (\n or \r\n); a byte order mark at the start is skipped; the last line needs no
 * end; bytes are not looked at, NUL included. A line beyond the limit is said to be too long, cut,
 * and read over.
 */
#ifndef LEARND_CTL_LINES_H
#define LEARND_CTL_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Embedded; all zero but file and bytes_max to begin with. */
struct ctl_lines {
    FILE *file; /* borrowed */
    size_t bytes_max;
    char *bytes; /* the line, NUL-terminated */
    size_t len, room;
    uint64_t number; /* of the line, from 1 */
    bool too_long;
};

/* 1: a line in bytes, len, number, too_long. 0: the end. -ENOMEM, or why the file cannot be read.
 */
int ctl_lines_next(struct ctl_lines *lines);
void ctl_lines_done(struct ctl_lines *lines);

#endif
