/* ctl_progress.h -- a bar on stderr while something long goes on; nothing at all if stderr is no
 * terminal. */
#ifndef LEARND_CTL_PROGRESS_H
#define LEARND_CTL_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

/* Embedded; zero but `shown` (is it wanted?) and total. */
struct ctl_progress {
    bool shown;
    uint64_t total; /* bytes or rows; 0: not known, then only the count is shown */
    int percent;    /* drawn last */
    uint64_t rows;
    bool drawn;
};

/* wanted, if stderr is a terminal. */
void ctl_progress_init(struct ctl_progress *progress, bool wanted, uint64_t total);
/* done of total, and what a person counts. Draws when a percent or, without total, the rows
 * changed. */
void ctl_progress_show(struct ctl_progress *progress, uint64_t done, uint64_t rows);
/* Takes the bar away: before other words go to stderr, and at the end. */
void ctl_progress_clear(struct ctl_progress *progress);

#endif
