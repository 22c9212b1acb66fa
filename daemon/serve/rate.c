/* rate.c -- see rate.h. A bucket is one number: the time at which it will be full again. An item
 * moves it on by a minute's share; it may not lie more than a minute ahead. What lies in the past
 * is a full bucket, which is what a name without one has, so nothing is lost when its place is
 * taken.
 *
 * Places are sets of WAYS by a hash of model and name; names are not kept.
 */
#include "daemon/serve/rate.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/fnv.h"

enum { WAYS = 8, MINUTE_US = 60000000 };

struct bucket {
    uint64_t key;
    int64_t full_us;
};

struct rate {
    pthread_mutex_t lock;
    uint32_t sets;
    struct bucket buckets[]; /* (sets,WAYS) */
};

int rate_open(uint32_t names_max, struct rate **ret_rate)
{
    uint32_t sets = names_max / WAYS + 1;
    struct rate *rate = calloc(1, sizeof *rate + (size_t)sets * WAYS * sizeof *rate->buckets);

    if (rate == NULL)
        return -ENOMEM;
    rate->sets = sets;
    pthread_mutex_init(&rate->lock, NULL);
    *ret_rate = rate;
    return 0;
}

void rate_close(struct rate *rate)
{
    if (rate == NULL)
        return;
    pthread_mutex_destroy(&rate->lock);
    free(rate);
}

static uint64_t key_of(int64_t model, const char *name)
{
    uint64_t key = fnv_add(FNV_INIT, &model, sizeof model);

    key = fnv_add(key, name, strlen(name));
    return key ^ key >> 32;
}

/* The bucket of a key, or of its set the one that is full or will be first. */
static struct bucket *find(struct rate *rate, uint64_t key)
{
    struct bucket *set = &rate->buckets[key % rate->sets * WAYS], *first = set;

    for (int i = 0; i < WAYS; i++) {
        if (set[i].key == key)
            return &set[i];
        if (set[i].full_us < first->full_us)
            first = &set[i];
    }
    *first = (struct bucket){.key = key};
    return first;
}

int64_t rate_take(struct rate *rate, int64_t model, const char *name, uint32_t per_minute,
                  int64_t now_us)
{
    int64_t step = MINUTE_US / per_minute, full, wait;
    struct bucket *bucket;

    pthread_mutex_lock(&rate->lock);
    bucket = find(rate, key_of(model, name));
    full = (bucket->full_us > now_us ? bucket->full_us : now_us) + step;
    wait = full - now_us - MINUTE_US;
    if (wait <= 0)
        bucket->full_us = full;
    pthread_mutex_unlock(&rate->lock);
    return wait > 0 ? wait : 0;
}
