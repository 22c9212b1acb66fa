/* ctl_texts.h -- the texts a command is about: its arguments, or the lines of a file or of stdin.
 * Empty lines are no texts. */
#ifndef LEARND_CTL_TEXTS_H
#define LEARND_CTL_TEXTS_H

#include "daemon/ctl/ctl.h"
#include "daemon/ctl/ctl_lines.h"

struct ctl_texts {
    struct ctl *ctl;
    char **args; /* (args_len) or, with none, lines */
    int args_len, args_at;
    struct ctl_lines lines;
};

struct ctl_text {
    const char *bytes; /* (len) until the next one */
    size_t len;
    uint64_t number; /* its place, or its line, from 1 */
};

/* Takes the arguments from `first` on. All is said if it is not CTL_OK. */
enum ctl_exit ctl_texts_open(struct ctl *ctl, int first, struct ctl_texts *ret_texts);
void ctl_texts_close(struct ctl_texts *texts);
/* CTL_OK with *ret_any false at the end. */
enum ctl_exit ctl_texts_next(struct ctl_texts *texts, struct ctl_text *ret_text, bool *ret_any);

#endif
