/* ctl_say.h -- what learnctl says on stderr: errors and notes, in words or, with --json, as JSON.
 *
 * With --json stderr has one object a line and nothing else:
 *
 *     {"error":{"code":"unknown_model","detail":"...","field":null,"status":404}}
 *     {"note":"there are more; ..."}
 *
 * code is the daemon's word, or one of learnctl's own: usage, file, unreachable, not_learnd,
 * no_memory, failed; then field and status are null.
 */
#ifndef LEARND_CTL_SAY_H
#define LEARND_CTL_SAY_H

#include <stdbool.h>

/* What --json, --color and the environment ask for, once; without it: words, no colour. */
void ctl_say_init(bool json, const char *color);

/* "learnctl: ..." and a line end: an error of that code. */
void ctl_fail(const char *code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same with code "failed". */
void ctl_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A path that cannot be read or written, by errno. */
void ctl_fail_file(const char *path);
/* No error: how it went, what could be done. */
void ctl_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* What to do about the error before it, indented; NULL: nothing. Not with --json. */
void ctl_hint(const char *hint);

/* An error as --json prints it. field NULL and status 0: none. */
void ctl_print_error(const char *code, const char *detail, const char *field, long status);

/* ---- colour: an escape sequence for stdout or stderr, or "" where there is none. */

enum ctl_color { CTL_PLAIN, CTL_BOLD, CTL_DIM, CTL_RED, CTL_GREEN, CTL_YELLOW, CTL_CYAN };

/* fd: 1 or 2. */
const char *ctl_color(int fd, enum ctl_color color);

#endif
