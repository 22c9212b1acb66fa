/* ctl_histogram.c -- see ctl_histogram.h. */
#include "daemon/ctl/ctl_histogram.h"

#include <math.h>

enum { BITS = 6, SHIFT_MAX = CTL_HISTOGRAM_BUCKETS / (1 << BITS) - 2 };

#define US_MAX (((uint64_t)2 << (SHIFT_MAX + BITS)) - 1)

/* Its upper bits, 7 of them from 64 on; behind the buckets of all smaller powers of two. */
static unsigned bucket_of(uint64_t us)
{
    unsigned shift = us < 2 << BITS ? 0 : 63 - BITS - (unsigned)__builtin_clzll(us);

    return shift * (1 << BITS) + (unsigned)(us >> shift);
}

static uint64_t end_of(unsigned bucket)
{
    unsigned shift = bucket < 2 << BITS ? 0 : bucket / (1 << BITS) - 1;

    return (((uint64_t)(bucket - shift * (1 << BITS)) + 1) << shift) - 1;
}

void ctl_histogram_add(struct ctl_histogram *h, int64_t us)
{
    uint64_t value = us < 0 ? 0 : (uint64_t)us > US_MAX ? US_MAX : (uint64_t)us;

    h->counts[bucket_of(value)]++;
    h->len++;
    h->sum_us += (double)value;
    if (value > h->max_us)
        h->max_us = value;
}

uint64_t ctl_histogram_at(const struct ctl_histogram *h, double share)
{
    uint64_t want = (uint64_t)ceil(share * (double)h->len), seen = 0;

    want = want < 1 ? 1 : want;
    for (unsigned i = 0; i < CTL_HISTOGRAM_BUCKETS; i++) {
        seen += h->counts[i];
        if (seen >= want)
            return end_of(i) < h->max_us ? end_of(i) : h->max_us;
    }
    return h->max_us;
}

double ctl_histogram_mean(const struct ctl_histogram *h)
{
    return h->len > 0 ? h->sum_us / (double)h->len : 0;
}
