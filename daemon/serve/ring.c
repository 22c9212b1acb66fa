/* ring.c -- see ring.h. A circular array of blocks, and a chained index over it by a hash of the
 * id. Forgotten blocks are overwritten before they are freed: a text that was erased must not stay
 * in the heap.
 */
#include "daemon/serve/ring.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/fnv.h"

struct slot {
    struct ring_entry *entry; /* one block, or NULL */
    size_t bytes;
    uint32_t next; /* in the chain of its bucket; UINT32_MAX ends it */
};

struct ring {
    pthread_mutex_t lock;
    struct slot *slots; /* (max) */
    uint32_t *buckets;  /* (max) first slot of the chain */
    uint32_t max, head, len;
    size_t bytes, bytes_max;
    uint64_t puts; /* the newest entry's number */
};

int ring_open(uint32_t entries_max, size_t bytes_max, struct ring **ret_ring)
{
    struct ring *ring = calloc(1, sizeof *ring);

    if (ring == NULL)
        return -ENOMEM;
    ring->max = entries_max;
    ring->bytes_max = bytes_max;
    ring->slots = calloc(entries_max, sizeof *ring->slots);
    ring->buckets = malloc(entries_max * sizeof *ring->buckets);
    if (ring->slots == NULL || ring->buckets == NULL) {
        free(ring->slots);
        free(ring->buckets);
        free(ring);
        return -ENOMEM;
    }
    memset(ring->buckets, 0xff, entries_max * sizeof *ring->buckets);
    pthread_mutex_init(&ring->lock, NULL);
    *ret_ring = ring;
    return 0;
}

static void wipe_free(struct slot *slot)
{
    if (slot->entry != NULL)
        explicit_bzero(slot->entry, slot->bytes);
    free(slot->entry);
    slot->entry = NULL;
}

void ring_close(struct ring *ring)
{
    if (ring == NULL)
        return;
    for (uint32_t i = 0; i < ring->max; i++)
        wipe_free(&ring->slots[i]);
    pthread_mutex_destroy(&ring->lock);
    free(ring->slots);
    free(ring->buckets);
    free(ring);
}

static uint32_t bucket_of(const struct ring *ring, const char *id)
{
    uint64_t h = fnv_add(FNV_INIT, id, strlen(id));

    return (uint32_t)((h ^ h >> 32) % ring->max);
}

/* Takes a slot's entry out of the index and frees it. Under the lock. */
static void drop(struct ring *ring, uint32_t i)
{
    struct slot *slot = &ring->slots[i];
    uint32_t *at;

    if (slot->entry == NULL)
        return;
    at = &ring->buckets[bucket_of(ring, slot->entry->request_id)];
    while (*at != i)
        at = &ring->slots[*at].next;
    *at = slot->next;
    ring->bytes -= slot->bytes;
    wipe_free(slot);
}

static struct ring_entry *copy(const struct ring_entry *e, size_t *ret_bytes)
{
    size_t vector = e->dim * sizeof *e->embedding;
    size_t bytes = sizeof *e + vector + e->text_bytes + e->labels_bytes +
                   (e->pair != NULL ? e->pair_bytes : 0);
    struct ring_entry *own = malloc(bytes);
    char *at;

    if (own == NULL)
        return NULL;
    *own = *e;
    at = (char *)(own + 1);
    own->embedding = memcpy(at, e->embedding, vector);
    at += vector;
    own->text = memcpy(at, e->text, e->text_bytes);
    at += e->text_bytes;
    if (e->labels_bytes > 0)
        own->labels = memcpy(at, e->labels, e->labels_bytes);
    at += e->labels_bytes;
    if (e->pair != NULL)
        own->pair = memcpy(at, e->pair, e->pair_bytes);
    *ret_bytes = bytes;
    return own;
}

void ring_put(struct ring *ring, const struct ring_entry *entry)
{
    size_t bytes;
    struct ring_entry *own = copy(entry, &bytes);
    uint32_t i, b;

    if (own == NULL)
        return;
    if (bytes > ring->bytes_max) {
        free(own);
        return;
    }
    pthread_mutex_lock(&ring->lock);
    while (ring->len == ring->max || ring->bytes + bytes > ring->bytes_max) {
        drop(ring, (ring->head + ring->max - ring->len) % ring->max);
        ring->len--;
    }
    i = ring->head;
    ring->head = (ring->head + 1) % ring->max;
    ring->len++;
    ring->puts++;
    b = bucket_of(ring, own->request_id);
    ring->slots[i] = (struct slot){own, bytes, ring->buckets[b]};
    ring->buckets[b] = i;
    ring->bytes += bytes;
    pthread_mutex_unlock(&ring->lock);
}

struct ring_entry *ring_get(struct ring *ring, const char *request_id)
{
    struct ring_entry *found = NULL;
    size_t bytes;

    pthread_mutex_lock(&ring->lock);
    for (uint32_t i = ring->buckets[bucket_of(ring, request_id)]; i != UINT32_MAX;
         i = ring->slots[i].next) {
        if (strcmp(ring->slots[i].entry->request_id, request_id) == 0) {
            found = copy(ring->slots[i].entry, &bytes);
            break;
        }
    }
    pthread_mutex_unlock(&ring->lock);
    return found;
}

uint32_t ring_walk(struct ring *ring, int64_t model, uint64_t *before, uint32_t max,
                   struct ring_entry **ret_entries)
{
    uint32_t len = 0;
    uint64_t number;
    size_t bytes;

    pthread_mutex_lock(&ring->lock);
    number = *before != 0 && *before <= ring->puts ? *before - 1 : ring->puts;
    for (; number > ring->puts - ring->len && len < max; number--) {
        uint64_t back = ring->puts - number;
        const struct ring_entry *e =
            ring->slots[(ring->head + ring->max - 1 - back) % ring->max].entry;

        if (e == NULL || e->model != model)
            continue;
        ret_entries[len] = copy(e, &bytes);
        if (ret_entries[len] == NULL)
            break;
        len++;
    }
    *before = number + 1; /* what is left is older */
    pthread_mutex_unlock(&ring->lock);
    return len;
}

void ring_forget_model(struct ring *ring, int64_t model)
{
    pthread_mutex_lock(&ring->lock);
    for (uint32_t i = 0; i < ring->max; i++)
        if (ring->slots[i].entry != NULL && ring->slots[i].entry->model == model)
            drop(ring, i);
    pthread_mutex_unlock(&ring->lock);
}

static bool same(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    return a != NULL && a_bytes == b_bytes && memcmp(a, b, b_bytes) == 0;
}

uint64_t ring_forget_text(struct ring *ring, int64_t model, const char *text, size_t text_bytes,
                          const char *pair, size_t pair_bytes)
{
    uint64_t dropped = 0;

    pthread_mutex_lock(&ring->lock);
    for (uint32_t i = 0; i < ring->max; i++) {
        const struct ring_entry *e = ring->slots[i].entry;
        bool first, second;

        if (e == NULL || (model != 0 && e->model != model))
            continue;
        first = same(e->text, e->text_bytes, text, text_bytes);
        second = pair != NULL ? same(e->pair, e->pair_bytes, pair, pair_bytes)
                              : same(e->pair, e->pair_bytes, text, text_bytes);
        if (pair != NULL ? first && second : first || second) {
            drop(ring, i);
            dropped++;
        }
    }
    pthread_mutex_unlock(&ring->lock);
    return dropped;
}
