/* cuda_memory.c -- see cuda_memory.h. Never closed: it lives as long as the process, as the
 * backend's table does.
 */
#include "kernels/cuda/cuda_memory.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { UNIT = 256, CLASSES = 4 * 40, SLAB_BYTES = 8 << 20, SLAB_SHARE = 4 };

struct block {
    char *data; /* NULL: an empty place of the table */
    uint32_t class;
    bool used;
    uint32_t next; /* of the free list of its class: index + 1, 0 at the end */
};

struct slab {
    char *at;
    size_t left;
};

struct cuda_memory {
    pthread_mutex_t lock;
    int (*take)(size_t bytes, void **ret_data);
    struct block *blocks; /* never moved within: a block's index is its name */
    uint32_t blocks_len, blocks_max;
    uint32_t *places; /* open addressing over data: index + 1 */
    uint32_t places_max;
    uint32_t free[CLASSES];
    struct slab *slabs;
    uint32_t slabs_len;
    uint64_t taken, used;
};

/* Class 4 o + q holds (4 + q) / 4 UNIT 2^o. */
static size_t class_bytes(uint32_t class)
{
    return (size_t)UNIT / 4 * (4 + class % 4) << class / 4;
}

static uint32_t class_of(size_t bytes)
{
    uint32_t class = 0;

    while (class < CLASSES && class_bytes(class) < bytes)
        class ++;
    return class;
}

size_t cuda_memory_block_bytes(size_t bytes)
{
    uint32_t class = class_of(bytes);

    return class < CLASSES ? (class_bytes(class) + UNIT - 1) / UNIT * UNIT : 0;
}

int cuda_memory_open(int (*take)(size_t bytes, void **ret_data), struct cuda_memory **ret_memory)
{
    struct cuda_memory *m = calloc(1, sizeof *m);

    if (m == NULL)
        return -ENOMEM;
    if (pthread_mutex_init(&m->lock, NULL) != 0) {
        free(m);
        return -ENOMEM;
    }
    m->take = take;
    *ret_memory = m;
    return 0;
}

/* ---- the table of blocks --------------------------------------------------------------------- */

/* Where the block of `data` stands in places, or would. */
static uint32_t place_of(const struct cuda_memory *m, const char *data)
{
    uint64_t at = ((uintptr_t)data / UNIT * UINT64_C(0x9e3779b97f4a7c15)) >> 32;

    for (at %= m->places_max; m->places[at] != 0; at = (at + 1) % m->places_max)
        if (m->blocks[m->places[at] - 1].data == data)
            break;
    return (uint32_t)at;
}

/* Room for one more block. */
static int blocks_grow(struct cuda_memory *m)
{
    uint32_t most = m->blocks_max > 0 ? 2 * m->blocks_max : 64;
    struct block *blocks;
    uint32_t *places;

    if (m->blocks_len < m->blocks_max)
        return 0;
    places = calloc(2 * (size_t)most, sizeof *places);
    if (places == NULL)
        return -ENOMEM;
    blocks = realloc(m->blocks, most * sizeof *blocks);
    if (blocks == NULL) {
        free(places);
        return -ENOMEM;
    }
    free(m->places);
    m->blocks = blocks;
    m->blocks_max = most;
    m->places = places;
    m->places_max = 2 * most;
    for (uint32_t i = 0; i < m->blocks_len; i++)
        m->places[place_of(m, m->blocks[i].data)] = i + 1;
    return 0;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static int slab_add(struct cuda_memory *m, size_t bytes)
{
    struct slab *slabs = realloc(m->slabs, (m->slabs_len + 1) * sizeof *slabs);
    void *data;
    int rc;

    if (slabs == NULL)
        return -ENOMEM;
    m->slabs = slabs;
    rc = m->take(bytes, &data);
    if (rc != 0)
        return rc;
    m->slabs[m->slabs_len++] = (struct slab){data, bytes};
    m->taken += bytes;
    return 0;
}

/* From a slab that has room, NULL otherwise. */
static char *slab_cut(struct cuda_memory *m, size_t bytes)
{
    for (uint32_t i = 0; i < m->slabs_len; i++) {
        struct slab *s = &m->slabs[i];

        if (s->left >= bytes) {
            s->left -= bytes;
            s->at += bytes;
            return s->at - bytes;
        }
    }
    return NULL;
}

static int block_add(struct cuda_memory *m, uint32_t class, uint32_t *ret_block)
{
    size_t bytes = (class_bytes(class) + UNIT - 1) / UNIT * UNIT;
    void *data;
    int rc = blocks_grow(m);

    if (rc != 0)
        return rc;
    data = slab_cut(m, bytes);
    if (data == NULL && bytes <= SLAB_BYTES / SLAB_SHARE && slab_add(m, SLAB_BYTES) == 0)
        data = slab_cut(m, bytes);
    if (data == NULL) {
        rc = m->take(bytes, &data);
        if (rc != 0)
            return rc;
        m->taken += bytes;
    }
    m->blocks[m->blocks_len] = (struct block){data, class, false, 0};
    m->places[place_of(m, data)] = m->blocks_len + 1;
    *ret_block = m->blocks_len++;
    return 0;
}

/* A free block of the smallest class from .. to, off its list. */
static bool block_take(struct cuda_memory *m, uint32_t from, uint32_t to, uint32_t *ret_block)
{
    for (uint32_t class = from; class < to && class < CLASSES; class ++)
        if (m->free[class] != 0) {
            *ret_block = m->free[class] - 1;
            m->free[class] = m->blocks[*ret_block].next;
            return true;
        }
    return false;
}

static int alloc_locked(struct cuda_memory *m, size_t bytes, void **ret_data)
{
    uint32_t class = class_of(bytes), at;
    int rc;

    if (class >= CLASSES)
        return -ENOMEM;
    /* One twice as large is better than the driver; where the driver has no more, any. */
    if (!block_take(m, class, class + 4, &at)) {
        rc = block_add(m, class, &at);
        if (rc != 0 && !block_take(m, class, CLASSES, &at))
            return rc;
    }
    m->blocks[at].used = true;
    m->used += cuda_memory_block_bytes(class_bytes(m->blocks[at].class));
    *ret_data = m->blocks[at].data;
    return 0;
}

int cuda_memory_alloc(struct cuda_memory *m, size_t bytes, void **ret_data)
{
    int rc;

    pthread_mutex_lock(&m->lock);
    rc = alloc_locked(m, bytes, ret_data);
    pthread_mutex_unlock(&m->lock);
    return rc;
}

int cuda_memory_reserve(struct cuda_memory *m, size_t bytes)
{
    int rc;

    pthread_mutex_lock(&m->lock);
    rc = slab_add(m, (bytes + UNIT - 1) / UNIT * UNIT);
    pthread_mutex_unlock(&m->lock);
    return rc;
}

void cuda_memory_dealloc(struct cuda_memory *m, void *data)
{
    uint32_t place;
    struct block *b;

    if (data == NULL)
        return;
    pthread_mutex_lock(&m->lock);
    assert(m->places_max > 0);
    place = m->places[place_of(m, data)];
    assert(place != 0 && m->blocks[place - 1].used);
    b = &m->blocks[place - 1];
    b->used = false;
    b->next = m->free[b->class];
    m->free[b->class] = place;
    m->used -= cuda_memory_block_bytes(class_bytes(b->class));
    pthread_mutex_unlock(&m->lock);
}

void cuda_memory_count(struct cuda_memory *m, uint64_t *ret_taken, uint64_t *ret_used)
{
    pthread_mutex_lock(&m->lock);
    *ret_taken = m->taken;
    *ret_used = m->used;
    pthread_mutex_unlock(&m->lock);
}
