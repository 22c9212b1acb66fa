/* bus.c -- see bus.h. Slots of a fixed size: a post is one copy of a kilobyte and no allocation, so
 * it cannot fail for lack of memory, and there is no order in which the ring could fragment. Held
 * events are found by a walk over a few hundred keys; they are posted some ten times a second a
 * model.
 */
#include "daemon/serve/bus.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The last post of one {type, model, key}. */
struct held {
    char key[BUS_NAME_BYTES];
    int64_t merge_us;
    int64_t free_us;        /* monotonic: from then on the next one need not wait */
    bool waits;             /* event is held until free_us */
    struct bus_event event; /* type and model are the key's also when nothing waits */
};

struct waker {
    void (*wake)(void *ud);
    void *ud;
};

struct bus {
    pthread_mutex_t lock;
    uint64_t boot, newest;
    struct bus_event *slots; /* (max) event n is in slot n % max */
    uint32_t max;
    struct held *keys; /* (keys_max) */
    uint32_t keys_len, keys_max;
    int64_t due_us;                      /* the least free_us of those that wait; -1: none */
    struct waker wakers[BUS_WAKERS_MAX]; /* only ever appended to: those below a length once seen
                                            need no lock */
    uint32_t wakers_len;
    struct bus_counts counts;
};

int bus_open(uint64_t boot, uint32_t events_max, uint32_t keys_max, struct bus **ret_bus)
{
    struct bus *bus = calloc(1, sizeof *bus);

    if (bus == NULL)
        return -ENOMEM;
    bus->slots = calloc(events_max, sizeof *bus->slots);
    bus->keys = calloc(keys_max, sizeof *bus->keys);
    if (bus->slots == NULL || bus->keys == NULL || pthread_mutex_init(&bus->lock, NULL) != 0) {
        free(bus->slots);
        free(bus->keys);
        free(bus);
        return -ENOMEM;
    }
    bus->boot = boot;
    bus->max = events_max;
    bus->keys_max = keys_max;
    bus->due_us = -1;
    *ret_bus = bus;
    return 0;
}

void bus_close(struct bus *bus)
{
    if (bus == NULL)
        return;
    pthread_mutex_destroy(&bus->lock);
    free(bus->slots);
    free(bus->keys);
    free(bus);
}

int bus_subscribe(struct bus *bus, void (*wake)(void *ud), void *ud)
{
    int rc = -ENOSPC;

    pthread_mutex_lock(&bus->lock);
    if (bus->wakers_len < BUS_WAKERS_MAX) {
        bus->wakers[bus->wakers_len++] = (struct waker){wake, ud};
        rc = 0;
    }
    pthread_mutex_unlock(&bus->lock);
    return rc;
}

/* ---- under the lock -------------------------------------------------------------------------- */

/* The cursor behind which every event is still there. */
static uint64_t oldest(const struct bus *bus)
{
    return bus->newest > bus->max ? bus->newest - bus->max : 0;
}

static void enter(struct bus *bus, const struct bus_event *event)
{
    struct bus_event *slot = &bus->slots[++bus->newest % bus->max];

    *slot = *event;
    slot->n = bus->newest;
    bus->counts.posted++;
    bus->counts.dropped += bus->newest > bus->max;
}

static void find_due(struct bus *bus)
{
    bus->due_us = -1;
    for (uint32_t i = 0; i < bus->keys_len; i++)
        if (bus->keys[i].waits && (bus->due_us < 0 || bus->keys[i].free_us < bus->due_us))
            bus->due_us = bus->keys[i].free_us;
}

/* Lets in what is due, the earliest first. */
static void flush(struct bus *bus, int64_t now_us)
{
    while (bus->due_us >= 0 && bus->due_us <= now_us) {
        for (uint32_t i = 0; i < bus->keys_len; i++) {
            struct held *k = &bus->keys[i];

            if (!k->waits || k->free_us != bus->due_us)
                continue;
            enter(bus, &k->event);
            k->waits = false;
            k->free_us = now_us + k->merge_us;
        }
        find_due(bus);
    }
}

/* The place of a key: its own, else one that is of no use any more, else a new one; NULL: all are
 * in use. */
static struct held *place_of(struct bus *bus, const struct bus_event *event, const char *key,
                             int64_t now_us)
{
    struct held *free_one = NULL;

    for (uint32_t i = 0; i < bus->keys_len; i++) {
        struct held *k = &bus->keys[i];

        if (k->event.type == event->type && strcmp(k->key, key) == 0 &&
            strcmp(k->event.model, event->model) == 0)
            return k;
        if (!k->waits && k->free_us <= now_us)
            free_one = k;
    }
    if (free_one == NULL && bus->keys_len < bus->keys_max)
        free_one = &bus->keys[bus->keys_len++];
    if (free_one != NULL) {
        *free_one = (struct held){.free_us = now_us};
        snprintf(free_one->key, sizeof free_one->key, "%s", key);
    }
    return free_one;
}

/* Into the ring, or held for its time. */
static void take(struct bus *bus, const struct bus_event *event, const char *key, int64_t merge_us,
                 int64_t now_us)
{
    struct held *k = merge_us > 0 ? place_of(bus, event, key, now_us) : NULL;

    if (k == NULL) {
        enter(bus, event);
        return;
    }
    bus->counts.merged += k->waits;
    k->event = *event;
    k->merge_us = merge_us;
    k->waits = k->free_us > now_us;
    if (k->waits) {
        if (bus->due_us < 0 || k->free_us < bus->due_us)
            bus->due_us = k->free_us;
        return;
    }
    enter(bus, event);
    k->free_us = now_us + merge_us;
}

/* ---- posting --------------------------------------------------------------------------------- */

int bus_post(struct bus *bus, const struct bus_post *post, int64_t now_us)
{
    struct bus_event event = {.type = post->type, .data_bytes = (uint32_t)post->data_bytes};
    char key[BUS_NAME_BYTES];
    uint32_t wakers_len;

    assert(post->type < 32);
    if (post->data_bytes > sizeof event.data)
        return -EMSGSIZE;
    snprintf(event.model, sizeof event.model, "%s", post->model != NULL ? post->model : "");
    snprintf(key, sizeof key, "%s", post->key != NULL ? post->key : "");
    memcpy(event.data, post->data, post->data_bytes);
    pthread_mutex_lock(&bus->lock);
    flush(bus, now_us);
    take(bus, &event, key, post->merge_us, now_us);
    wakers_len = bus->wakers_len;
    pthread_mutex_unlock(&bus->lock);
    for (uint32_t i = 0; i < wakers_len; i++)
        bus->wakers[i].wake(bus->wakers[i].ud);
    return 0;
}

void bus_forget(struct bus *bus, const char *model)
{
    pthread_mutex_lock(&bus->lock);
    for (uint32_t i = 0; i < bus->keys_len; i++)
        if (strcmp(bus->keys[i].event.model, model) == 0)
            bus->keys[i].waits = false;
    find_due(bus);
    pthread_mutex_unlock(&bus->lock);
}

/* ---- reading --------------------------------------------------------------------------------- */

static bool passes(const struct bus_event *event, uint32_t types, const char *model)
{
    return (types >> event->type & 1) != 0 &&
           (model == NULL || event->model[0] == '\0' || strcmp(event->model, model) == 0);
}

int bus_next(struct bus *bus, uint32_t types, const char *model, int64_t now_us, uint64_t *cursor,
             struct bus_event *ret_event)
{
    int rc = 0;

    pthread_mutex_lock(&bus->lock);
    flush(bus, now_us);
    if (*cursor < oldest(bus))
        rc = -ESTALE;
    while (rc == 0 && *cursor < bus->newest) {
        const struct bus_event *event = &bus->slots[++*cursor % bus->max];

        if (passes(event, types, model)) {
            *ret_event = *event;
            rc = 1;
        }
    }
    pthread_mutex_unlock(&bus->lock);
    return rc;
}

bool bus_overtaken(struct bus *bus, uint64_t cursor)
{
    return cursor < bus_oldest(bus);
}

int64_t bus_due(struct bus *bus)
{
    int64_t due_us;

    pthread_mutex_lock(&bus->lock);
    due_us = bus->due_us;
    pthread_mutex_unlock(&bus->lock);
    return due_us;
}

uint64_t bus_newest(struct bus *bus)
{
    uint64_t n;

    pthread_mutex_lock(&bus->lock);
    n = bus->newest;
    pthread_mutex_unlock(&bus->lock);
    return n;
}

uint64_t bus_oldest(struct bus *bus)
{
    uint64_t n;

    pthread_mutex_lock(&bus->lock);
    n = oldest(bus);
    pthread_mutex_unlock(&bus->lock);
    return n;
}

struct bus_counts bus_counts(struct bus *bus)
{
    struct bus_counts counts;

    pthread_mutex_lock(&bus->lock);
    counts = bus->counts;
    pthread_mutex_unlock(&bus->lock);
    return counts;
}

/* ---- ids ------------------------------------------------------------------------------------- */

void bus_id_format(const struct bus *bus, uint64_t n, char ret_id[BUS_ID_BYTES])
{
    snprintf(ret_id, BUS_ID_BYTES, "%016llx-%llu", (unsigned long long)bus->boot,
             (unsigned long long)n);
}

/* Only what bus_id_format writes: 16 lower-case digits, '-', a number without sign, blanks or
 * leading zeros. */
static int read_id(const char *id, uint64_t *ret_boot, uint64_t *ret_n)
{
    const char *number = id + 17;
    size_t digits;

    if (strspn(id, "0123456789abcdef") != 16 || id[16] != '-')
        return -EINVAL;
    digits = strspn(number, "0123456789");
    if (digits == 0 || digits > 18 || number[digits] != '\0' || (number[0] == '0' && digits > 1))
        return -EINVAL;
    *ret_boot = strtoull(id, NULL, 16);
    *ret_n = strtoull(number, NULL, 10);
    return 0;
}

int bus_id_parse(struct bus *bus, const char *id, uint64_t *ret_cursor)
{
    uint64_t boot, n;
    int rc = read_id(id, &boot, &n);

    if (rc == 0 && boot != bus->boot)
        rc = -ENOENT;
    if (rc != 0)
        return rc;
    pthread_mutex_lock(&bus->lock);
    if (n > bus->newest)
        rc = -EINVAL;
    else if (n < oldest(bus))
        rc = -ESTALE;
    pthread_mutex_unlock(&bus->lock);
    if (rc == 0)
        *ret_cursor = n;
    return rc;
}
