/* ctl_texts.c -- see ctl_texts.h. */
#include "daemon/ctl/ctl_texts.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "daemon/ctl/ctl_call.h"

/* The daemon refuses a longer one; this keeps a file that is no text from being read into memory.
 */
enum { TEXT_BYTES_MAX = 1 << 20 };

enum ctl_exit ctl_texts_open(struct ctl *ctl, int first, struct ctl_texts *ret)
{
    const char *path = ctl->options.file;
    FILE *file = stdin;

    *ret = (struct ctl_texts){
        .ctl = ctl, .args = ctl->args + first, .args_len = ctl->args_len - first};
    if (ret->args_len > 0 && path != NULL)
        return ctl_misused(ctl, "give texts or --file, not both");
    if (ret->args_len > 0)
        return CTL_OK;
    if (path != NULL && strcmp(path, "-") != 0)
        file = fopen(path, "r");
    if (file == NULL) {
        ctl_fail_file(path);
        return CTL_USAGE;
    }
    if (file == stdin && isatty(0) && !ctl->options.quiet)
        ctl_note("texts are read from here, a line each; Ctrl-D ends them");
    ret->lines = (struct ctl_lines){.file = file, .bytes_max = TEXT_BYTES_MAX};
    return CTL_OK;
}

void ctl_texts_close(struct ctl_texts *t)
{
    if (t->lines.file != NULL && t->lines.file != stdin)
        fclose(t->lines.file);
    ctl_lines_done(&t->lines);
}

enum ctl_exit ctl_texts_next(struct ctl_texts *t, struct ctl_text *ret_text, bool *ret_any)
{
    int rc;

    *ret_any = false;
    if (t->lines.file == NULL) {
        *ret_any = t->args_at < t->args_len;
        if (*ret_any) {
            const char *text = t->args[t->args_at++];

            *ret_text = (struct ctl_text){text, strlen(text), (uint64_t)t->args_at};
        }
        return CTL_OK;
    }
    do
        rc = ctl_lines_next(&t->lines);
    while (rc == 1 && t->lines.len == 0);
    if (rc == -ENOMEM)
        return ctl_no_memory();
    if (rc < 0 || (rc == 1 && t->lines.too_long)) {
        ctl_say("%s, line %llu: %s", t->ctl->options.file != NULL ? t->ctl->options.file : "stdin",
                (unsigned long long)t->lines.number + (rc < 0),
                rc < 0 ? "it cannot be read" : "more than a megabyte is no line of text");
        return CTL_USAGE;
    }
    *ret_any = rc == 1;
    *ret_text = (struct ctl_text){t->lines.bytes, t->lines.len, t->lines.number};
    return CTL_OK;
}
