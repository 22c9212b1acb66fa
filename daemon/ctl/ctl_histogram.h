/* ctl_histogram.h -- times, counted in buckets that grow with them: any percentile to 1.6 % in
 * 16 KiB, however many there are.
 *
 * Microseconds up to 128 have a bucket each; above, each power of two has 64. (The layout of Tene's
 * HdrHistogram with 6 bits.)
 */
#ifndef LEARND_CTL_HISTOGRAM_H
#define LEARND_CTL_HISTOGRAM_H

#include <stdint.h>

enum { CTL_HISTOGRAM_BUCKETS = 2048 };

/* Embedded; all zero to begin with. */
struct ctl_histogram {
    uint64_t counts[CTL_HISTOGRAM_BUCKETS];
    uint64_t len;
    uint64_t max_us;
    double sum_us;
};

/* A negative time counts as none, one beyond twenty hours as that. */
void ctl_histogram_add(struct ctl_histogram *h, int64_t us);
/* The least time that a share of them does not exceed, as its bucket's upper end, and never beyond
 * the greatest there is. 0 if there are none. share: 0 .. 1. */
uint64_t ctl_histogram_at(const struct ctl_histogram *h, double share);
double ctl_histogram_mean(const struct ctl_histogram *h);

#endif
