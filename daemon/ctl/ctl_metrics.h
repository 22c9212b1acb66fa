/* ctl_metrics.h -- the daemon's /metrics page, as far as watch shows it.
 *
 * Counters are summed over their series, a histogram's buckets over all its labels but le. What is
 * not on the page is NAN or empty, so a daemon with fewer figures is shown with fewer.
 */
#ifndef LEARND_CTL_METRICS_H
#define LEARND_CTL_METRICS_H

#include <stddef.h>

enum { CTL_BOUNDS_MAX = 64 };

struct ctl_spread {
    double bounds[CTL_BOUNDS_MAX]; /* (len) seconds, rising; the last may be infinite */
    double counts[CTL_BOUNDS_MAX]; /* up to and with that bound */
    unsigned len;
};

enum ctl_figure {
    CTL_QUESTIONS,
    CTL_CORRECTIONS,
    CTL_REFUSALS,
    CTL_REJECTED,
    CTL_QUEUED,
    CTL_CONNECTIONS,
    CTL_RESIDENT,
    CTL_BEHIND,
    CTL_FIGURES
};
enum ctl_stage {
    CTL_ANSWER,
    CTL_TOKENIZE,
    CTL_QUEUE,
    CTL_ENCODE,
    CTL_HEAD,
    CTL_COMMIT,
    CTL_STAGES
};

struct ctl_metrics {
    double figures[CTL_FIGURES]; /* NAN: not there */
    struct ctl_spread stages[CTL_STAGES];
};

void ctl_metrics_read(const char *page, size_t page_bytes, struct ctl_metrics *ret_metrics);
/* The time, in seconds, below which a share of what was counted since `before` (or ever, NULL)
 * stays, interpolated within its bucket; NAN if nothing was. */
double ctl_spread_at(const struct ctl_spread *now, const struct ctl_spread *before, double share);

#endif
