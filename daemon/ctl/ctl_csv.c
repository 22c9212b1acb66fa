/* ctl_csv.c -- see ctl_csv.h.
 *
 * Byte by byte: the daemon that is fed needs a millisecond for what this reads in a microsecond.
 * Fields lie one behind the other in one buffer, each with a NUL; only when the record is whole are
 * their places turned into pointers.
 */
#include "daemon/ctl/ctl_csv.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct ctl_csv {
    FILE *file;
    size_t bytes_max;
    uint64_t line;         /* the one that is being read */
    unsigned char back[3]; /* (back_len) read too far; the last comes first */
    int back_len;
    char *bytes; /* (len) of room */
    size_t len, room;
    size_t starts[CTL_CSV_FIELDS_MAX + 1]; /* of fields; the last is where the next would begin */
    size_t fields_len;
    struct ctl_field fields[CTL_CSV_FIELDS_MAX];
    bool quoted; /* the last field was */
    bool no_memory;
    const char *code; /* of the record that is being read */
    char detail[96];
};

int ctl_csv_open(FILE *file, size_t record_bytes_max, struct ctl_csv **ret_csv)
{
    struct ctl_csv *c = calloc(1, sizeof *c);

    if (c == NULL)
        return -ENOMEM;
    c->file = file;
    c->bytes_max = record_bytes_max;
    c->line = 1;
    *ret_csv = c;
    return 0;
}

void ctl_csv_close(struct ctl_csv *c)
{
    if (c == NULL)
        return;
    free(c->bytes);
    free(c);
}

/* The first problem of a record is the one that is told. */
static void refuse(struct ctl_csv *c, const char *code, const char *detail)
{
    if (c->code != NULL)
        return;
    c->code = code;
    snprintf(c->detail, sizeof c->detail, "%s", detail);
}

static int get(struct ctl_csv *c)
{
    int byte = c->back_len > 0 ? c->back[--c->back_len] : getc_unlocked(c->file);

    c->line += byte == '\n';
    return byte;
}

/* Not for line ends, which are counted. */
static void unget(struct ctl_csv *c, int byte)
{
    if (byte != EOF)
        c->back[c->back_len++] = (unsigned char)byte;
}

/* Is the line end \r\n here, its \r being read? Takes the \n. */
static bool line_end(struct ctl_csv *c)
{
    int next = get(c);

    if (next != '\n')
        unget(c, next);
    return next == '\n';
}

static void add(struct ctl_csv *c, int byte)
{
    if (c->code != NULL || c->no_memory)
        return; /* read over */
    if (c->len >= c->bytes_max) {
        refuse(c, "record_too_long", "");
        snprintf(c->detail, sizeof c->detail, "a record has more than %zu bytes%s", c->bytes_max,
                 c->quoted ? "; is a quote left open?" : "");
        return;
    }
    if (c->len + 1 > c->room) {
        size_t room = c->room * 2 + 256;
        char *bigger = realloc(c->bytes, room);

        c->no_memory = bigger == NULL;
        if (bigger == NULL)
            return;
        c->bytes = bigger;
        c->room = room;
    }
    c->bytes[c->len++] = (char)byte;
}

/* Behind an opening quote, to the byte that ends the field: ',' '\n' or EOF. */
static int read_quoted(struct ctl_csv *c)
{
    uint64_t opened = c->line;
    int byte;

    while ((byte = get(c)) != EOF) {
        if (byte != '"') {
            add(c, byte);
            continue;
        }
        byte = get(c);
        if (byte == '"') {
            add(c, '"');
            continue;
        }
        if (byte == '\r' && line_end(c))
            return '\n';
        if (byte == ',' || byte == '\n' || byte == EOF)
            return byte;
        refuse(c, "malformed_csv", "text behind a closing quote");
        while (byte != '\n' && byte != EOF)
            byte = get(c);
        return byte;
    }
    refuse(c, "malformed_csv", "");
    snprintf(c->detail, sizeof c->detail, "the quote opened on line %llu is never closed",
             (unsigned long long)opened);
    return EOF;
}

static int read_plain(struct ctl_csv *c, int byte)
{
    for (; byte != EOF && byte != ',' && byte != '\n'; byte = get(c)) {
        if (byte == '\r' && line_end(c))
            return '\n';
        add(c, byte);
    }
    return byte;
}

/* One field; returns what ended it. */
static int read_field(struct ctl_csv *c)
{
    int byte = get(c), end;

    if (c->fields_len == CTL_CSV_FIELDS_MAX)
        refuse(c, "too_many_columns", "a record has too many columns");
    c->quoted = byte == '"';
    end = c->quoted ? read_quoted(c) : read_plain(c, byte);
    if (c->code == NULL) {
        add(c, '\0');
        c->starts[++c->fields_len] = c->len;
    }
    return end;
}

/* A mark that breaks off belongs to the first field. */
static void skip_mark(struct ctl_csv *c)
{
    static const unsigned char mark[] = {0xef, 0xbb, 0xbf};
    int i = 0, byte;

    while (i < 3 && (byte = getc_unlocked(c->file)) == mark[i])
        i++;
    if (i == 3)
        return;
    unget(c, byte);
    while (i > 0)
        unget(c, mark[--i]);
}

int ctl_csv_next(struct ctl_csv *c, struct ctl_record *ret)
{
    int end;

    if (c->line == 1 && c->room == 0)
        skip_mark(c);
    do {
        ret->line = c->line;
        c->len = c->fields_len = 0;
        c->code = NULL;
        do
            end = read_field(c);
        while (end == ',');
        if (ferror(c->file))
            return errno > 0 ? -errno : -EIO;
        if (c->no_memory)
            return -ENOMEM;
        /* Nothing at all, unquoted: an empty line, or the end. */
    } while (c->code == NULL && c->len == 1 && !c->quoted && end == '\n');
    if (c->code == NULL && c->len == 1 && !c->quoted && end == EOF)
        return 0;
    for (size_t i = 0; i < c->fields_len; i++)
        c->fields[i] =
            (struct ctl_field){c->bytes + c->starts[i], c->starts[i + 1] - c->starts[i] - 1};
    ret->fields = c->fields;
    ret->fields_len = c->fields_len;
    ret->code = c->code;
    memcpy(ret->detail, c->detail, sizeof ret->detail);
    return 1;
}

void ctl_csv_write(struct api_buffer *buffer, const char *bytes, size_t bytes_len)
{
    bool plain = bytes_len > 0;

    for (size_t i = 0; i < bytes_len && plain; i++)
        plain = bytes[i] != '"' && bytes[i] != ',' && bytes[i] != '\n' && bytes[i] != '\r';
    if (plain && (unsigned char)bytes[0] != 0xef) { /* a first field must not look like a mark */
        api_buffer_add(buffer, bytes, bytes_len);
        return;
    }
    api_buffer_add(buffer, "\"", 1);
    for (size_t from = 0; from < bytes_len;) {
        const char *quote = memchr(bytes + from, '"', bytes_len - from);
        size_t len = quote != NULL ? (size_t)(quote - bytes) - from + 1 : bytes_len - from;

        api_buffer_add(buffer, bytes + from, len);
        if (quote != NULL)
            api_buffer_add(buffer, "\"", 1);
        from += len;
    }
    api_buffer_add(buffer, "\"", 1);
}
