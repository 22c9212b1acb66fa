/* ctl_sheet.h -- the file of examples that a command is given: opened by its name and --format,
 * read row by row under a bar, its bad rows told by their line.
 */
#ifndef LEARND_CTL_SHEET_H
#define LEARND_CTL_SHEET_H

#include "daemon/ctl/ctl.h"
#include "daemon/ctl/ctl_progress.h"
#include "daemon/ctl/ctl_rows.h"

struct api_buffer;

struct ctl_sheet {
    const struct ctl *ctl;
    const char *name; /* for people */
    FILE *file;
    struct ctl_rows *rows;
    struct ctl_progress progress;
};

/* The command's one argument, - for stdin. CTL_OK, or what was wrong has been said; ctl_sheet_close
 * follows in both cases. */
enum ctl_exit ctl_sheet_open(const struct ctl *ctl, struct ctl_sheet *ret_sheet);
void ctl_sheet_close(struct ctl_sheet *sheet);

/* add() for each row, while it answers CTL_OK, then flush(). Takes the bar away. */
struct ctl_sheet_acts {
    enum ctl_exit (*add)(void *ud, const struct ctl_row *row);
    enum ctl_exit (*flush)(void *ud);
};
enum ctl_exit ctl_sheet_walk(struct ctl_sheet *sheet, const struct ctl_sheet_acts *acts, void *ud);

/* FILE:LINE: as compilers say it, so that editors find the place; with --json an object. */
enum ctl_exit ctl_sheet_reject(struct ctl_sheet *sheet, uint64_t line, const char *code,
                               const char *field, const char *detail);
/* "name":"text" inside an open object. */
void ctl_write_member(struct api_buffer *out, const char *name, const char *text);
/* How far the file has been read, and what a person counts. */
void ctl_sheet_show(struct ctl_sheet *sheet, uint64_t rows);

#endif
