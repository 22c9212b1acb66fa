/* ctl_csv.h -- CSV as RFC 4180 says it, a record at a time, in bounded memory; and one field
 * written.
 *
 * Read: commas; lines end in \n or \r\n, the last may lack it; a field in quotes may hold commas,
 * line ends and doubled quotes; a quote inside an unquoted field is a quote; a byte order mark at
 * the start and empty lines are skipped. Bytes are not looked at otherwise, NUL included.
 *
 * A record that is not CSV, or beyond a limit, is given with its problem, and reading goes on
 * behind it: at the next line, or where its open quote is closed.
 */
#ifndef LEARND_CTL_CSV_H
#define LEARND_CTL_CSV_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "proto/api_buffer.h"

enum { CTL_CSV_FIELDS_MAX = 256 };

struct ctl_field {
    const char *bytes; /* (len) and a NUL */
    size_t len;
};

struct ctl_record {
    uint64_t line;                  /* where it begins, from 1 */
    const struct ctl_field *fields; /* (fields_len) until the next call */
    size_t fields_len;
    const char *code; /* NULL: good. malformed_csv, record_too_long, too_many_columns */
    char detail[96];
};

struct ctl_csv;

/* The file is borrowed. record_bytes_max: of all fields of one record. 0 or -ENOMEM. */
int ctl_csv_open(FILE *file, size_t record_bytes_max, struct ctl_csv **ret_csv);
void ctl_csv_close(struct ctl_csv *csv);
/* 1: a record. 0: the end. -ENOMEM, or why the file cannot be read. */
int ctl_csv_next(struct ctl_csv *csv, struct ctl_record *ret_record);

/* Appends a field, in quotes where it needs them; so that reading gives the same bytes. */
void ctl_csv_write(struct api_buffer *buffer, const char *bytes, size_t bytes_len);

#endif
