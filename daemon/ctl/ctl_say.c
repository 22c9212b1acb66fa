/* ctl_say.c -- see ctl_say.h. */
#include "daemon/ctl/ctl_say.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/json.h"

enum { SAID_BYTES = 2048 };

static struct {
    bool json;
    bool colored[3]; /* by file descriptor */
} how;

/* NO_COLOR counts when it is not empty (no-color.org); the flag beats it. */
void ctl_say_init(bool json, const char *color)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    bool wanted = (no == NULL || *no == '\0') && (term == NULL || strcmp(term, "dumb") != 0);

    how.json = json;
    for (int fd = 1; fd <= 2; fd++)
        how.colored[fd] = color != NULL && strcmp(color, "always") == 0  ? true
                          : color != NULL && strcmp(color, "never") == 0 ? false
                                                                         : wanted && isatty(fd);
}

const char *ctl_color(int fd, enum ctl_color color)
{
    static const char *const sequences[] = {"\033[0m",  "\033[1m",  "\033[2m", "\033[31m",
                                            "\033[32m", "\033[33m", "\033[36m"};

    return how.colored[fd] ? sequences[color] : "";
}

void ctl_print_error(const char *code, const char *detail, const char *field, long status)
{
    struct api_buffer line = API_BUFFER_INIT;

    json_open_object(&line);
    json_write_key(&line, "error");
    json_open_object(&line);
    json_write_key(&line, "code");
    json_write_string(&line, code);
    json_write_key(&line, "detail");
    json_write_string(&line, detail);
    json_write_key(&line, "field");
    if (field != NULL && *field != '\0')
        json_write_string(&line, field);
    else
        json_write_null(&line);
    json_write_key(&line, "status");
    if (status > 0)
        json_write_int(&line, status);
    else
        json_write_null(&line);
    json_close_object(&line);
    json_close_object(&line);
    if (line.rc == 0)
        fprintf(stderr, "%.*s\n", (int)line.len, line.bytes);
    api_buffer_done(&line);
}

static void fail(const char *code, const char *format, va_list args)
{
    char said[SAID_BYTES];

    vsnprintf(said, sizeof said, format, args);
    if (how.json)
        ctl_print_error(code, said, NULL, 0);
    else
        fprintf(stderr, "%slearnctl:%s %s\n", ctl_color(2, CTL_RED), ctl_color(2, CTL_PLAIN), said);
}

void ctl_fail(const char *code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fail(code, format, args);
    va_end(args);
}

void ctl_say(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fail("failed", format, args);
    va_end(args);
}

void ctl_fail_file(const char *path)
{
    ctl_fail("file", "%s: %s", path, strerror(errno));
}

void ctl_note(const char *format, ...)
{
    struct api_buffer line = API_BUFFER_INIT;
    char said[SAID_BYTES];
    va_list args;

    va_start(args, format);
    vsnprintf(said, sizeof said, format, args);
    va_end(args);
    if (!how.json) {
        fprintf(stderr, "learnctl: %s\n", said);
        return;
    }
    json_open_object(&line);
    json_write_key(&line, "note");
    json_write_string(&line, said);
    json_close_object(&line);
    if (line.rc == 0)
        fprintf(stderr, "%.*s\n", (int)line.len, line.bytes);
    api_buffer_done(&line);
}

void ctl_hint(const char *hint)
{
    if (hint != NULL && !how.json)
        fprintf(stderr, "          %s\n", hint);
}
