/* log.c -- see log.h. A line is built on the stack and written by one write(2): lines of several
 * threads do not mix. */
#include "daemon/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_BYTES = 2048 };

static atomic_int threshold = LOG_LEVEL_INFO;
static bool journal; /* systemd reads <N> as the level */

static const char *const names[] = {"debug", "info", "warn", "error"};
static const char *const prefixes[] = {"<7>", "<6>", "<4>", "<3>"};

/* JOURNAL_STREAM names the journal's end by device and inode: a unit whose stderr goes to a file
 * has the variable too. */
static bool writes_to_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    char here[64];
    struct stat st;

    if (stream == NULL || fstat(STDERR_FILENO, &st) != 0)
        return false;
    snprintf(here, sizeof here, "%llu:%llu", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino);
    return strcmp(stream, here) == 0;
}

void log_open(enum log_level least)
{
    log_level_set(least);
    journal = writes_to_journal();
}

void log_level_set(enum log_level least)
{
    atomic_store_explicit(&threshold, (int)least, memory_order_relaxed);
}

int log_level_parse(const char *name, enum log_level *ret_level)
{
    for (int i = 0; i <= LOG_LEVEL_ERROR; i++)
        if (strcmp(name, names[i]) == 0) {
            *ret_level = (enum log_level)i;
            return 0;
        }
    return -EINVAL;
}

struct line {
    char bytes[LINE_BYTES];
    size_t len;
};

static void add(struct line *line, char c)
{
    if (line->len < LINE_BYTES - 2) /* room for the end of the line */
        line->bytes[line->len++] = c;
}

static void add_text(struct line *line, const char *text)
{
    for (; *text != '\0'; text++)
        add(line, *text);
}

static void add_value(struct line *line, const char *value)
{
    bool quote = *value == '\0' || strpbrk(value, " =\"\\") != NULL;

    for (const char *p = value; *p != '\0' && !quote; p++)
        quote = (unsigned char)*p < 32 || *p == 127;
    if (quote)
        add(line, '"');
    for (; *value != '\0'; value++) {
        if (*value == '"' || *value == '\\') {
            add(line, '\\');
            add(line, *value);
        } else {
            add(line, (unsigned char)*value < 32 || *value == 127 ? '?' : *value);
        }
    }
    if (quote)
        add(line, '"');
}

static void write_line(enum log_level level, const char *at, va_list pairs)
{
    struct line line = {.len = 0};
    const char *key, *value;

    if ((int)level < atomic_load_explicit(&threshold, memory_order_relaxed))
        return;
    if (journal)
        add_text(&line, prefixes[level]);
    add_text(&line, "level=");
    add_text(&line, names[level]);
    add_text(&line, " at=");
    add_text(&line, at);
    while ((key = va_arg(pairs, const char *)) != NULL) {
        value = va_arg(pairs, const char *);
        if (value == NULL)
            continue;
        add(&line, ' ');
        add_text(&line, key);
        add(&line, '=');
        add_value(&line, value);
    }
    line.bytes[line.len++] = '\n';
    while (write(STDERR_FILENO, line.bytes, line.len) < 0 && errno == EINTR)
        continue;
}

#define LOG_FUNCTION(name, level)                                                                  \
    void name(const char *at, ...)                                                                 \
    {                                                                                              \
        va_list pairs;                                                                             \
                                                                                                   \
        va_start(pairs, at);                                                                       \
        write_line(level, at, pairs);                                                              \
        va_end(pairs);                                                                             \
    }

LOG_FUNCTION(log_debug, LOG_LEVEL_DEBUG)
LOG_FUNCTION(log_info, LOG_LEVEL_INFO)
LOG_FUNCTION(log_warn, LOG_LEVEL_WARN)
LOG_FUNCTION(log_error, LOG_LEVEL_ERROR)
