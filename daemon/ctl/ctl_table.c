/* ctl_table.c -- see ctl_table.h. */
#include "daemon/ctl/ctl_table.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include "daemon/ctl/ctl_say.h"

struct cell {
    size_t start, len; /* in bytes */
    unsigned width;    /* in columns of a terminal */
};

struct ctl_table {
    FILE *out;
    const char *const *heads;
    const char *align;
    unsigned columns, widths[CTL_TABLE_COLUMNS_MAX];
    unsigned screen; /* columns of the terminal; 0: none */
    struct api_buffer bytes;
    struct cell *cells; /* (cells_len) */
    size_t cells_len, cells_max;
    bool begun;
    int rc;
};

static uint32_t decode(const unsigned char *s, size_t len)
{
    static const unsigned char first[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t point = s[0] & first[len];

    for (size_t i = 1; i < len; i++)
        point = point << 6 | (s[i] & 0x3f);
    return point;
}

static bool obeyed_by_terminals(uint32_t point)
{
    return point < 0x20 || (point >= 0x7f && point < 0xa0) || point == 0x061c ||
           (point >= 0x200e && point <= 0x200f) || (point >= 0x2028 && point <= 0x202e) ||
           (point >= 0x2066 && point <= 0x2069) || point == 0xfeff;
}

void ctl_clean(struct api_buffer *out, const char *bytes, size_t bytes_len)
{
    for (size_t at = 0; at < bytes_len;) {
        size_t len = json_utf8_sequence(bytes + at, bytes_len - at);

        if (len > 0 && !obeyed_by_terminals(decode((const unsigned char *)bytes + at, len)))
            api_buffer_add(out, bytes + at, len);
        else if (bytes[at] == '\n' || bytes[at] == '\t' || bytes[at] == '\r')
            api_buffer_add(out, " ", 1);
        else
            api_buffer_add(out, "\xef\xbf\xbd", 3);
        at += len > 0 ? len : 1;
    }
}

size_t ctl_measure(const char *bytes, size_t bytes_len, unsigned width_max, unsigned *ret_width)
{
    unsigned width = 0;
    size_t at = 0;

    while (at < bytes_len) {
        size_t len = json_utf8_sequence(bytes + at, bytes_len - at);
        int columns = wcwidth((wchar_t)decode((const unsigned char *)bytes + at, len));

        columns = columns < 0 ? 1 : columns;
        if (width + (unsigned)columns > width_max)
            break;
        width += (unsigned)columns;
        at += len;
    }
    *ret_width = width;
    return at;
}

int ctl_table_open(FILE *out, const char *const *heads, const char *align,
                   struct ctl_table **ret_table)
{
    struct ctl_table *t = calloc(1, sizeof *t);
    struct winsize size;

    if (t == NULL)
        return -ENOMEM;
    t->out = out;
    t->heads = heads;
    t->align = align;
    t->columns = (unsigned)strlen(align);
    for (unsigned i = 0; i < t->columns; i++)
        t->widths[i] = (unsigned)strlen(heads[i]);
    if (isatty(fileno(out)) && ioctl(fileno(out), TIOCGWINSZ, &size) == 0)
        t->screen = size.ws_col;
    *ret_table = t;
    return 0;
}

void ctl_table_close(struct ctl_table *t)
{
    if (t == NULL)
        return;
    api_buffer_done(&t->bytes);
    free(t->cells);
    free(t);
}

void ctl_table_cell(struct ctl_table *t, const char *bytes, size_t bytes_len)
{
    unsigned column = (unsigned)(t->cells_len % t->columns);
    struct cell *cell;

    if (t->cells_len == t->cells_max) {
        size_t max = t->cells_max * 2 + 64;
        struct cell *bigger = realloc(t->cells, max * sizeof *bigger);

        if (bigger == NULL) {
            t->rc = -ENOMEM;
            return;
        }
        t->cells = bigger;
        t->cells_max = max;
    }
    cell = &t->cells[t->cells_len++];
    cell->start = t->bytes.len;
    ctl_clean(&t->bytes, bytes != NULL ? bytes : "-", bytes != NULL ? bytes_len : 1);
    cell->len = t->bytes.len - cell->start;
    cell->width = 0;
    if (t->bytes.rc != 0)
        t->rc = -ENOMEM;
    else if (cell->len > 0)
        ctl_measure(t->bytes.bytes + cell->start, cell->len, UINT32_MAX / 2, &cell->width);
    if (cell->width > t->widths[column])
        t->widths[column] = cell->width;
}

void ctl_table_string(struct ctl_table *t, const char *string)
{
    ctl_table_cell(t, string, string != NULL ? strlen(string) : 0);
}

void ctl_table_printf(struct ctl_table *t, const char *format, ...)
{
    char text[256];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    ctl_table_string(t, text);
}

void ctl_table_int(struct ctl_table *t, int64_t number)
{
    ctl_table_printf(t, "%lld", (long long)number);
}

void ctl_table_json(struct ctl_table *t, const struct json_value *value)
{
    size_t len = 0;
    const char *text = json_text(value, &len);

    if (json_kind(value) == JSON_KIND_INT)
        ctl_table_int(t, json_int(value, 0));
    else if (json_kind(value) == JSON_KIND_REAL)
        ctl_table_printf(t, "%.2f", json_number(value, 0));
    else
        ctl_table_cell(t, text, len);
}

void ctl_table_time(struct ctl_table *t, const struct json_value *value)
{
    size_t len = 0;
    const char *text = json_text(value, &len);

    if (text != NULL && len >= 19 && text[10] == 'T')
        ctl_table_printf(t, "%.10s %.8s", text, text + 11);
    else
        ctl_table_cell(t, text, len);
}

static void pad(FILE *out, unsigned columns)
{
    fprintf(out, "%*s", (int)columns, "");
}

static void print_cell(const struct ctl_table *t, unsigned column, const char *bytes, size_t len,
                       unsigned width, unsigned before)
{
    bool last = column + 1 == t->columns, left = t->align[column] == 'l';
    unsigned room = t->screen > before ? t->screen - before : 0;

    if (!left)
        pad(t->out, t->widths[column] - width);
    if (last && left && t->screen > 0 && room > 8 && width > room) {
        len = ctl_measure(bytes, len, room - 1, &width);
        fwrite(bytes, 1, len, t->out);
        fputs("\xe2\x80\xa6\n", t->out); /* an ellipsis */
        return;
    }
    fwrite(bytes, 1, len, t->out);
    if (last)
        fputc('\n', t->out);
    else
        pad(t->out, (left ? t->widths[column] - width : 0) + 2);
}

static void print_heads(const struct ctl_table *t)
{
    int fd = fileno(t->out);

    fputs(fd == 1 ? ctl_color(1, CTL_BOLD) : "", t->out);
    for (unsigned i = 0; i < t->columns; i++)
        print_cell(t, i, t->heads[i], strlen(t->heads[i]), (unsigned)strlen(t->heads[i]), 0);
    fputs(fd == 1 ? ctl_color(1, CTL_PLAIN) : "", t->out);
}

int ctl_table_flush(struct ctl_table *t)
{
    unsigned before = 0;

    if (t->rc != 0)
        return t->rc;
    if (!t->begun)
        print_heads(t);
    t->begun = true;
    for (size_t i = 0; i < t->cells_len; i++) {
        const struct cell *c = &t->cells[i];
        unsigned column = (unsigned)(i % t->columns);

        before = column == 0 ? 0 : before + t->widths[column - 1] + 2;
        print_cell(t, column, c->len > 0 ? t->bytes.bytes + c->start : "", c->len, c->width,
                   before);
    }
    t->cells_len = 0;
    api_buffer_reset(&t->bytes);
    return 0;
}
