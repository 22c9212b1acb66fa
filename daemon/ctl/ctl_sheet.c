/* ctl_sheet.c -- see ctl_sheet.h. */
#include "daemon/ctl/ctl_sheet.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/ctl/ctl_call.h"
#include "daemon/ctl/ctl_table.h"

static enum ctl_exit open_rows(struct ctl_sheet *s, enum ctl_format format)
{
    const char *names[CTL_COLUMNS] = {s->ctl->options.text_column, s->ctl->options.label_column};
    char why[256];
    int rc = ctl_rows_open(s->file, format, names, why, sizeof why, &s->rows);

    if (rc == -ENOMEM)
        return ctl_no_memory();
    if (rc == 0)
        return CTL_OK;
    ctl_fail("file", "%s: %s", s->name, why);
    if (rc == -EINVAL)
        ctl_hint("--text-column and --label-column name other ones");
    return CTL_USAGE;
}

enum ctl_exit ctl_sheet_open(const struct ctl *ctl, struct ctl_sheet *s)
{
    enum ctl_format format;
    struct stat st;

    *s = (struct ctl_sheet){.ctl = ctl, .name = "stdin"};
    if (ctl->args_len != 1)
        return ctl_misused(ctl, "which file? One, or - for stdin");
    format = ctl->options.format != NULL ? ctl_format_of(ctl->options.format)
                                         : ctl_format_of_path(ctl->args[0]);
    if (format == CTL_FORMAT_NONE)
        return ctl_misused(ctl, "is %.100s jsonl or csv? --format says it", ctl->args[0]);
    if (strcmp(ctl->args[0], "-") != 0)
        s->name = ctl->args[0];
    s->file = strcmp(ctl->args[0], "-") != 0 ? fopen(s->name, "r") : stdin;
    if (s->file == NULL) {
        ctl_fail_file(s->name);
        return CTL_USAGE;
    }
    ctl_progress_init(&s->progress, !ctl->options.quiet && !ctl->options.json,
                      fstat(fileno(s->file), &st) == 0 && S_ISREG(st.st_mode) ? (uint64_t)st.st_size
                                                                              : 0);
    return open_rows(s, format);
}

void ctl_sheet_close(struct ctl_sheet *s)
{
    ctl_rows_close(s->rows);
    if (s->file != NULL && s->file != stdin)
        fclose(s->file);
}

enum ctl_exit ctl_sheet_walk(struct ctl_sheet *s, const struct ctl_sheet_acts *acts, void *ud)
{
    enum ctl_exit code = CTL_OK;
    struct ctl_row row;
    int rc = 0;

    while (code == CTL_OK && (rc = ctl_rows_next(s->rows, &row)) == 1)
        code = acts->add(ud, &row);
    if (code == CTL_OK && rc == 0)
        code = acts->flush(ud);
    ctl_progress_clear(&s->progress);
    if (rc == -ENOMEM)
        return ctl_no_memory();
    if (rc < 0) {
        ctl_say("%s: %s", s->name, strerror(-rc));
        return CTL_USAGE;
    }
    return code;
}

void ctl_write_member(struct api_buffer *out, const char *name, const char *text)
{
    json_write_key(out, name);
    json_write_string(out, text);
}

enum ctl_exit ctl_sheet_reject(struct ctl_sheet *s, uint64_t line, const char *code,
                               const char *field, const char *detail)
{
    struct api_buffer out = API_BUFFER_INIT;

    if (s->ctl->options.json) {
        json_open_object(&out);
        json_write_key(&out, "line");
        json_write_int(&out, (int64_t)line);
        ctl_write_member(&out, "code", code);
        ctl_write_member(&out, "field", field);
        ctl_write_member(&out, "detail", detail);
        json_close_object(&out);
        return ctl_print_buffer(&out);
    }
    ctl_progress_clear(&s->progress);
    ctl_write_problem(&out, code, detail, field);
    fprintf(stderr, "%s:%llu: %.*s\n", s->name, (unsigned long long)line, (int)out.len,
            out.len > 0 ? out.bytes : "");
    api_buffer_done(&out);
    return CTL_OK;
}

void ctl_sheet_show(struct ctl_sheet *s, uint64_t rows)
{
    long at = ftell(s->file);

    ctl_progress_show(&s->progress, at > 0 ? (uint64_t)at : 0, rows);
}
