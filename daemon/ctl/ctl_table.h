/* ctl_table.h -- aligned columns for people, and the cleaning of what is shown to them.
 *
 * A text of the daemon may hold anything; a terminal obeys some of it. Cleaned: every control
 * character (C0, DEL, C1, line and paragraph separators), the marks that turn the direction of
 * writing, and bytes that are not UTF-8, each become U+FFFD; line ends and tabs become a space.
 */
#ifndef LEARND_CTL_TABLE_H
#define LEARND_CTL_TABLE_H

#include <stdint.h>
#include <stdio.h>

#include "proto/api_buffer.h"
#include "proto/json.h"

void ctl_clean(struct api_buffer *out, const char *bytes, size_t bytes_len);
/* Of clean UTF-8: the columns of a terminal it takes, up to width_max of them, and the bytes that
 * fit. What libc does not know counts as one. */
size_t ctl_measure(const char *bytes, size_t bytes_len, unsigned width_max, unsigned *ret_width);

enum { CTL_TABLE_COLUMNS_MAX = 10 };

struct ctl_table;

/* heads: (columns) titles. align: a letter a column, 'l' or 'r'. The last column, if 'l', is cut to
 * the width of the terminal, if out is one. 0 or -ENOMEM. */
int ctl_table_open(FILE *out, const char *const *heads, const char *align,
                   struct ctl_table **ret_table);
void ctl_table_close(struct ctl_table *table);
/* The next cell, row by row, cleaned. bytes NULL: "-". */
void ctl_table_cell(struct ctl_table *table, const char *bytes, size_t bytes_len);
void ctl_table_string(struct ctl_table *table, const char *string);
void ctl_table_int(struct ctl_table *table, int64_t number);
void ctl_table_printf(struct ctl_table *table, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* By kind: a text as it is, a whole number, another number with two digits, anything else "-". */
void ctl_table_json(struct ctl_table *table, const struct json_value *value);
/* RFC 3339 to the second, without T and Z. */
void ctl_table_time(struct ctl_table *table, const struct json_value *value);
/* Prints the rows there are, under the titles the first time, and forgets them; widths never
 * shrink, so pages of a list stay aligned. 0 or -ENOMEM. */
int ctl_table_flush(struct ctl_table *table);

#endif
