/* ctl_screen.h -- a terminal as a screen and a keyboard; for watch and annotate.
 *
 * While it is open keys come one by one and are not echoed, and what was on the screen before is
 * kept aside (the alternate screen). However the program ends, short of SIGKILL, the terminal is
 * given back as it was. A frame is a buffer of lines; control sequences come only from here, texts
 * are cleaned by their caller.
 */
#ifndef LEARND_CTL_SCREEN_H
#define LEARND_CTL_SCREEN_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/api_buffer.h"

enum ctl_key_kind {
    CTL_KEY_NONE, /* nothing in time, or one that means nothing here */
    CTL_KEY_TEXT,
    CTL_KEY_ENTER,
    CTL_KEY_BACKSPACE,
    CTL_KEY_ESCAPE,
    CTL_KEY_TAB,
    CTL_KEY_UP,
    CTL_KEY_DOWN,
    CTL_KEY_PAGE_UP,
    CTL_KEY_PAGE_DOWN,
    CTL_KEY_RESIZE,
    CTL_KEY_QUIT, /* Ctrl-C, Ctrl-D, a signal, the terminal is gone */
};

struct ctl_key {
    enum ctl_key_kind kind;
    char text[5]; /* TEXT: one character of UTF-8 */
};

/* Are stdin and stdout a terminal that can be used so? */
bool ctl_screen_is_there(void);
/* 0, or -errno. One at a time. */
int ctl_screen_open(void);
void ctl_screen_close(void);
void ctl_screen_size(unsigned *ret_rows, unsigned *ret_columns);
/* timeout_ms negative: without end. */
void ctl_screen_key(int timeout_ms, struct ctl_key *ret_key);
/* Shows these lines ('\n' between them) from the top; what is beyond the screen is left out,
 * to the right too. */
void ctl_screen_show(const struct api_buffer *frame);

/* ---- pieces of a frame ----------------------------------------------------------------------- */

/* A clean text, cut to columns with an ellipsis; returns the columns it takes. */
unsigned ctl_screen_cut(struct api_buffer *frame, const char *text, size_t len, unsigned columns);
/* A clean text in lines of at most `columns`, broken at blanks where there are some, each behind
 * `indent` blanks; from line `first` on, at most lines_max. Returns how many lines there are in
 * all. frame NULL: only counts. */
unsigned ctl_screen_wrap(struct api_buffer *frame, const char *text, size_t len, unsigned columns,
                         unsigned indent, unsigned first, unsigned lines_max);

#endif
