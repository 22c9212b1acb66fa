/* ctl_rows.h -- the rows of a file of examples, CSV or a JSON object a line, in one shape and in
 * bounded memory.
 *
 * Columns: text (or, in JSON, vector: a list of numbers), label (or, in JSON, labels: a list), and
 * if they are there text_pair, annotator, source, weight. CSV names them in its first line. An
 * empty field of CSV and null in JSON are "not given". A row that cannot be read is given with its
 * problem, and reading goes on. What only the daemon can know (is the label a good name, the weight
 * in range) is left to it.
 */
#ifndef LEARND_CTL_ROWS_H
#define LEARND_CTL_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum ctl_format { CTL_FORMAT_NONE, CTL_FORMAT_JSONL, CTL_FORMAT_CSV };

/* jsonl, ndjson or csv; else NONE. */
enum ctl_format ctl_format_of(const char *word);
/* By what stands behind the last '.' of a path's name. */
enum ctl_format ctl_format_of_path(const char *path);

enum ctl_column {
    CTL_TEXT,
    CTL_LABEL,
    CTL_PAIR,
    CTL_ANNOTATOR,
    CTL_SOURCE,
    CTL_WEIGHT,
    CTL_COLUMNS
};

struct json_value;

struct ctl_row {
    uint64_t line; /* where it begins in the file, from 1 */
    struct {
        const char *bytes; /* (len) UTF-8; NULL: not given; borrowed until the next row */
        size_t len;
    } columns[CTL_WEIGHT];
    const struct json_value *labels; /* a list, in the place of label; NULL: not given; borrowed */
    const struct json_value *vector; /* NULL: not given. Only of JSON, instead of a text */
    bool has_weight;
    double weight;
    const char *code;  /* NULL: good. Else a word of API.md's kind */
    const char *field; /* with code: the column, or "" */
    char detail[128];
};

struct ctl_rows;

/* The file is borrowed. names[CTL_TEXT] and names[CTL_LABEL] may call these columns otherwise;
 * NULL: as above. For CSV the first line is read. 0; -ENOMEM; else with why: -EINVAL (not these
 * columns), or the file cannot be read. */
int ctl_rows_open(FILE *file, enum ctl_format format, const char *const names[CTL_COLUMNS],
                  char *why, size_t why_bytes, struct ctl_rows **ret_rows);
void ctl_rows_close(struct ctl_rows *rows);
/* 1: a row. 0: the end. -ENOMEM, or why the file cannot be read. */
int ctl_rows_next(struct ctl_rows *rows, struct ctl_row *ret_row);

#endif
