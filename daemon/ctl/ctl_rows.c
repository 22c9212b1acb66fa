/* ctl_rows.c -- see ctl_rows.h. */
#include "daemon/ctl/ctl_rows.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "daemon/ctl/ctl_csv.h"
#include "daemon/ctl/ctl_lines.h"
#include "proto/json.h"

/* The daemon takes a megabyte a line; more cannot be meant. */
enum { ROW_BYTES_MAX = 1 << 20 };

static const char *const NAMES[CTL_COLUMNS] = {"text",      "label",  "text_pair",
                                               "annotator", "source", "weight"};

struct ctl_rows {
    enum ctl_format format;
    const char *names[CTL_COLUMNS];
    struct ctl_csv *csv;
    int columns[CTL_CSV_FIELDS_MAX]; /* (columns_len) of CSV: which each is */
    size_t columns_len;
    struct ctl_lines lines;
    struct json_value *object; /* the row's */
};

enum ctl_format ctl_format_of(const char *word)
{
    if (strcasecmp(word, "csv") == 0)
        return CTL_FORMAT_CSV;
    if (strcasecmp(word, "jsonl") == 0 || strcasecmp(word, "ndjson") == 0)
        return CTL_FORMAT_JSONL;
    return CTL_FORMAT_NONE;
}

enum ctl_format ctl_format_of_path(const char *path)
{
    const char *slash = strrchr(path, '/'), *dot = strrchr(slash != NULL ? slash : path, '.');

    return dot != NULL ? ctl_format_of(dot + 1) : CTL_FORMAT_NONE;
}

static int refuse(struct ctl_row *row, const char *code, const char *field, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Returns 1: a row with a problem is a row. */
static int refuse(struct ctl_row *row, const char *code, const char *field, const char *format, ...)
{
    va_list args;

    row->code = code;
    row->field = field;
    va_start(args, format);
    vsnprintf(row->detail, sizeof row->detail, format, args);
    va_end(args);
    return 1;
}

static int find_column(const struct ctl_rows *r, const char *name)
{
    for (int i = 0; i < CTL_COLUMNS; i++)
        if (strcmp(r->names[i], name) == 0)
            return i;
    return -1;
}

/* ---- the first line of CSV ------------------------------------------------------------------- */

static int bad_header(char *why, size_t why_bytes, const char *what, const char *name)
{
    snprintf(
        why, why_bytes,
        "the first line must name the columns: text, label, and if needed text_pair, annotator, "
        "source, weight; %s%.64s",
        what, name);
    return -EINVAL;
}

static int read_header(struct ctl_rows *r, char *why, size_t why_bytes)
{
    struct ctl_record record;
    bool seen[CTL_COLUMNS] = {false};
    int rc = ctl_csv_next(r->csv, &record);

    if (rc < 0) {
        snprintf(why, why_bytes, "%s", strerror(-rc));
        return rc;
    }
    if (rc == 0 || record.code != NULL)
        return bad_header(why, why_bytes, rc == 0 ? "the file is empty" : record.detail, "");
    for (size_t i = 0; i < record.fields_len; i++) {
        int column = find_column(r, record.fields[i].bytes);

        if (column < 0)
            return bad_header(why, why_bytes, "it has an unknown one: ", record.fields[i].bytes);
        if (seen[column])
            return bad_header(why, why_bytes, "it has one twice: ", record.fields[i].bytes);
        seen[column] = true;
        r->columns[i] = column;
    }
    r->columns_len = record.fields_len;
    if (!seen[CTL_TEXT] || !seen[CTL_LABEL])
        return bad_header(why, why_bytes, "it lacks ",
                          r->names[seen[CTL_TEXT] ? CTL_LABEL : CTL_TEXT]);
    return 0;
}

int ctl_rows_open(FILE *file, enum ctl_format format, const char *const names[CTL_COLUMNS],
                  char *why, size_t why_bytes, struct ctl_rows **ret_rows)
{
    struct ctl_rows *r = calloc(1, sizeof *r);
    int rc = 0;

    if (r == NULL)
        return -ENOMEM;
    r->format = format;
    r->lines = (struct ctl_lines){.file = file, .bytes_max = ROW_BYTES_MAX};
    for (int i = 0; i < CTL_COLUMNS; i++)
        r->names[i] = names[i] != NULL ? names[i] : NAMES[i];
    if (format == CTL_FORMAT_CSV)
        rc = ctl_csv_open(file, ROW_BYTES_MAX, &r->csv);
    if (rc == 0 && format == CTL_FORMAT_CSV)
        rc = read_header(r, why, why_bytes);
    if (rc != 0)
        ctl_rows_close(r);
    else
        *ret_rows = r;
    return rc;
}

void ctl_rows_close(struct ctl_rows *r)
{
    if (r == NULL)
        return;
    ctl_csv_close(r->csv);
    ctl_lines_done(&r->lines);
    json_free(r->object);
    free(r);
}

/* ---- rows ------------------------------------------------------------------------------------ */

static int read_weight(struct ctl_row *row, const char *text, size_t len)
{
    char *end;
    double weight = strtod(text, &end);

    /* strtod also knows blanks, 0x, inf and nan; a column of numbers does not. */
    if (strspn(text, "0123456789+-.eE") != len || end != text + len || !isfinite(weight))
        return refuse(row, "wrong_type", "weight", "the weight is not a number");
    row->weight = weight;
    row->has_weight = true;
    return 1;
}

static int next_record(struct ctl_rows *r, struct ctl_row *row)
{
    struct ctl_record record;
    int rc = ctl_csv_next(r->csv, &record);

    if (rc != 1)
        return rc;
    row->line = record.line;
    if (record.code != NULL)
        return refuse(row, record.code, "", "%s", record.detail);
    if (record.fields_len != r->columns_len)
        return refuse(row, "wrong_columns", "", "the row has %zu columns, the first line has %zu",
                      record.fields_len, r->columns_len);
    for (size_t i = 0; i < record.fields_len && row->code == NULL; i++) {
        const struct ctl_field *f = &record.fields[i];
        int column = r->columns[i];

        if (f->len == 0)
            continue;
        if (!json_is_utf8(f->bytes, f->len))
            return refuse(row, "invalid_utf8", NAMES[column],
                          "a byte that is not UTF-8; iconv -t UTF-8 converts a file");
        if (column == CTL_WEIGHT) {
            read_weight(row, f->bytes, f->len);
        } else {
            row->columns[column].bytes = f->bytes;
            row->columns[column].len = f->len;
        }
    }
    return 1;
}

struct member_walk {
    const struct ctl_rows *rows;
    struct ctl_row *row;
};

/* Non-zero: stop, the row has its problem. */
static int take_member(void *ud, const char *key, const struct json_value *value)
{
    struct member_walk *w = ud;
    int column = find_column(w->rows, key);
    enum json_kind kind = json_kind(value);

    if (column < 0 && strcmp(key, "labels") == 0) {
        if (kind != JSON_KIND_ARRAY && kind != JSON_KIND_NULL)
            return refuse(w->row, "wrong_type", "labels", "a list of labels is expected here");
        w->row->labels = kind == JSON_KIND_ARRAY ? value : NULL;
        return 0;
    }
    if (column < 0 && strcmp(key, "vector") == 0 && kind == JSON_KIND_ARRAY) {
        w->row->vector = value;
        return 0;
    }
    if (column < 0)
        return refuse(w->row, "unknown_field", "",
                      "a row has text or vector, label or labels, text_pair, annotator, source, "
                      "weight");
    if (kind == JSON_KIND_NULL)
        return 0;
    if (column == CTL_WEIGHT) {
        if (kind != JSON_KIND_INT && kind != JSON_KIND_REAL)
            return refuse(w->row, "wrong_type", "weight", "the weight is not a number");
        w->row->weight = json_number(value, 0);
        w->row->has_weight = true;
        return 0;
    }
    w->row->columns[column].bytes = json_text(value, &w->row->columns[column].len);
    if (w->row->columns[column].bytes == NULL)
        return refuse(w->row, "wrong_type", NAMES[column], "a text is expected here");
    return 0;
}

static int next_object(struct ctl_rows *r, struct ctl_row *row)
{
    static const struct json_limits limits = {ROW_BYTES_MAX, 8, 1000, 16384};
    struct member_walk walk = {r, row};
    struct json_problem problem;
    int rc;

    json_free(r->object);
    r->object = NULL;
    do
        rc = ctl_lines_next(&r->lines);
    while (rc == 1 && r->lines.len == 0);
    if (rc != 1)
        return rc;
    row->line = r->lines.number;
    if (r->lines.too_long)
        return refuse(row, "record_too_long", "", "a line has more than %d bytes", ROW_BYTES_MAX);
    rc = json_parse(r->lines.bytes, r->lines.len, &limits, &r->object, &problem);
    if (rc == -ENOMEM)
        return rc;
    if (rc != 0)
        return refuse(row, problem.code, "", "%s", problem.detail);
    if (json_kind(r->object) != JSON_KIND_OBJECT)
        return refuse(row, "wrong_type", "", "a line must be a JSON object");
    json_each(r->object, take_member, &walk);
    return 1;
}

int ctl_rows_next(struct ctl_rows *r, struct ctl_row *ret_row)
{
    int rc;

    *ret_row = (struct ctl_row){.field = ""};
    rc = r->format == CTL_FORMAT_CSV ? next_record(r, ret_row) : next_object(r, ret_row);
    if (rc != 1 || ret_row->code != NULL)
        return rc;
    for (int i = CTL_TEXT; i <= CTL_LABEL; i++)
        if (ret_row->columns[i].bytes == NULL &&
            (i == CTL_TEXT ? ret_row->vector == NULL : ret_row->labels == NULL))
            return refuse(ret_row, "missing_field", NAMES[i], "the row has no %s", r->names[i]);
    return 1;
}
