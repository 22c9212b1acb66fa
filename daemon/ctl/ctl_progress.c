/* ctl_progress.c -- see ctl_progress.h. */
#include "daemon/ctl/ctl_progress.h"

#include <stdio.h>
#include <unistd.h>

enum { BAR = 30 };

void ctl_progress_init(struct ctl_progress *p, bool wanted, uint64_t total)
{
    *p = (struct ctl_progress){.shown = wanted && isatty(2), .total = total, .percent = -1};
}

void ctl_progress_show(struct ctl_progress *p, uint64_t done, uint64_t rows)
{
    static const char full[] = "##############################",
                      none[] = "                              ";
    int percent = p->total > 0 ? (int)((double)done * 100 / (double)p->total) : 0;
    int filled;

    percent = percent > 100 ? 100 : percent;
    if (!p->shown || (p->drawn && percent == p->percent && rows == p->rows))
        return;
    p->percent = percent;
    p->rows = rows;
    p->drawn = true;
    filled = percent * BAR / 100;
    if (p->total > 0)
        fprintf(stderr, "\r[%.*s%.*s] %3d %%  %llu rows ", filled, full, BAR - filled, none,
                percent, (unsigned long long)rows);
    else
        fprintf(stderr, "\r%llu rows ", (unsigned long long)rows);
    fflush(stderr);
}

void ctl_progress_clear(struct ctl_progress *p)
{
    if (p->drawn)
        fprintf(stderr, "\r%70s\r", "");
    p->drawn = false;
}
