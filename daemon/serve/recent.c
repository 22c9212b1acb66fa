/* recent.c -- see recent.h. The window is SLICES of time, the oldest of which is emptied when its
 * turn comes again; in each a histogram with eight steps an octave. One mutex: a request takes it
 * once, for some 50 ns.
 */
#include "daemon/serve/recent.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { SLICES = 8, STEPS = 8, BUCKETS = 320 };

struct recent {
    pthread_mutex_t lock;
    struct slice {
        int64_t number; /* of the slice of time it counts */
        uint32_t buckets[BUCKETS];
    } slices[SLICES];
};

static uint32_t bucket_of(int64_t us)
{
    uint64_t v = us > 0 ? (uint64_t)us : 0;
    uint32_t octave = 0, bucket;

    if (v < STEPS)
        return (uint32_t)v;
    while (v >> octave >= 2 * STEPS)
        octave++;
    bucket = (octave + 1) * STEPS + (uint32_t)(v >> octave) - STEPS;
    return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

/* The most that a bucket counts. */
static int64_t bound_of(uint32_t bucket)
{
    uint32_t octave = bucket / STEPS;

    if (octave == 0)
        return bucket;
    return (((int64_t)(bucket % STEPS + STEPS + 1)) << (octave - 1)) - 1;
}

int recent_open(struct recent **ret_recent)
{
    struct recent *r = calloc(1, sizeof *r);

    if (r == NULL)
        return -ENOMEM;
    pthread_mutex_init(&r->lock, NULL);
    for (int i = 0; i < SLICES; i++)
        r->slices[i].number = -1;
    *ret_recent = r;
    return 0;
}

void recent_close(struct recent *r)
{
    if (r == NULL)
        return;
    pthread_mutex_destroy(&r->lock);
    free(r);
}

void recent_note(struct recent *r, int64_t took_us, int64_t now_us)
{
    int64_t number = now_us / (RECENT_US / SLICES);
    struct slice *s = &r->slices[number % SLICES];

    pthread_mutex_lock(&r->lock);
    if (s->number != number) {
        memset(s->buckets, 0, sizeof s->buckets);
        s->number = number;
    }
    s->buckets[bucket_of(took_us)]++;
    pthread_mutex_unlock(&r->lock);
}

int64_t recent_p99_us(struct recent *r, int64_t now_us)
{
    int64_t number = now_us / (RECENT_US / SLICES);
    uint64_t all = 0, above = 0;
    uint32_t sums[BUCKETS] = {0}, bucket = BUCKETS - 1;

    pthread_mutex_lock(&r->lock);
    for (int i = 0; i < SLICES; i++)
        for (uint32_t b = 0; b < BUCKETS && r->slices[i].number > number - SLICES; b++)
            sums[b] += r->slices[i].buckets[b];
    pthread_mutex_unlock(&r->lock);
    for (uint32_t b = 0; b < BUCKETS; b++)
        all += sums[b];
    if (all == 0)
        return -1;
    for (; bucket > 0; bucket--) {
        above += sums[bucket];
        if (above > all / 100)
            break;
    }
    return bound_of(bucket);
}
