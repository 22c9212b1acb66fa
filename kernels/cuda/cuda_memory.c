/* cuda_memory.c -- see cuda_memory.h. Never closed: it lives as long as the process, as the
 * backend's table does.
 *
 * A room is its blocks in the order of their addresses, used and free ones, in one array. There are
 * a few hundred, and an encoder's come and go with a tenth of a second of copying: a walk over all
 * of them is the search, and memmove the rest.
 */
#include "kernels/cuda/cuda_memory.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A full room asks for so much at least, so that a few hundred small blocks are a few calls. */
enum { SLAB_BYTES = 8 << 20 };

struct block {
    char *at;
    size_t bytes;
    bool used;
    bool first; /* of its slab: never one with what stands before it */
};

struct room {
    struct block *blocks;
    uint32_t len, max;
    uint64_t taken, used;
};

struct cuda_memory {
    pthread_mutex_t lock;
    int (*take)(size_t bytes, void **ret_data);
    struct room rooms[K_ROOMS];
    uint64_t asked;
};

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

/* ---- the blocks of a room -------------------------------------------------------------------- */

/* Where the first block behind `at` stands, or would. */
static uint32_t behind(const struct room *r, const char *at)
{
    uint32_t low = 0, high = r->len;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if ((uintptr_t)r->blocks[middle].at > (uintptr_t)at)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Room for `more` blocks in the array. */
static int grow(struct room *r, uint32_t more)
{
    uint32_t max = r->max > 0 ? 2 * r->max : 64;
    struct block *blocks;

    if (r->len + more <= r->max)
        return 0;
    blocks = realloc(r->blocks, max * sizeof *blocks);
    if (blocks == NULL)
        return -ENOMEM;
    r->blocks = blocks;
    r->max = max;
    return 0;
}

static void insert(struct room *r, uint32_t i, struct block block)
{
    memmove(&r->blocks[i + 1], &r->blocks[i], (r->len - i) * sizeof *r->blocks);
    r->blocks[i] = block;
    r->len++;
}

/* Block i + 1, a hole behind a hole, becomes part of block i. */
static void join(struct room *r, uint32_t i)
{
    r->blocks[i].bytes += r->blocks[i + 1].bytes;
    memmove(&r->blocks[i + 1], &r->blocks[i + 2], (r->len - i - 2) * sizeof *r->blocks);
    r->len--;
}

static bool joins(const struct room *r, uint32_t i)
{
    return i + 1 < r->len && !r->blocks[i].used && !r->blocks[i + 1].used &&
           !r->blocks[i + 1].first;
}

/* The smallest hole that is large enough, the first of those. r->len: there is none. */
static uint32_t best(const struct room *r, size_t bytes)
{
    uint32_t found = r->len;

    for (uint32_t i = 0; i < r->len; i++)
        if (!r->blocks[i].used && r->blocks[i].bytes >= bytes &&
            (found == r->len || r->blocks[i].bytes < r->blocks[found].bytes))
            found = i;
    return found;
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* 0 and whole units, at least one. */
static int units(size_t bytes, size_t *ret_bytes)
{
    if (bytes > SIZE_MAX / 2)
        return -ENOMEM;
    *ret_bytes = bytes > 0 ? kroom_bytes(bytes) : K_ROOM_UNIT;
    return 0;
}

static int slab_add(struct cuda_memory *m, struct room *r, size_t bytes)
{
    void *data;
    int rc = grow(r, 1);

    if (rc != 0)
        return rc;
    m->asked++;
    rc = m->take(bytes, &data);
    if (rc != 0)
        return rc;
    insert(r, behind(r, data), (struct block){data, bytes, false, true});
    r->taken += bytes;
    return 0;
}

static int slab_add_for(struct cuda_memory *m, struct room *r, size_t bytes)
{
    int rc = slab_add(m, r, bytes < SLAB_BYTES ? SLAB_BYTES : bytes);

    return rc == -ENOMEM && bytes < SLAB_BYTES ? slab_add(m, r, bytes) : rc;
}

static int alloc_locked(struct cuda_memory *m, struct room *r, size_t bytes, void **ret_data)
{
    int rc = grow(r, 2); /* a slab, and what is left of a hole: then no error comes in between */
    uint32_t i;
    struct block *b;

    if (rc != 0)
        return rc;
    i = best(r, bytes);
    if (i == r->len) {
        rc = slab_add_for(m, r, bytes);
        if (rc != 0)
            return rc;
        i = best(r, bytes);
    }
    b = &r->blocks[i];
    if (b->bytes > bytes) {
        insert(r, i + 1, (struct block){b->at + bytes, b->bytes - bytes, false, false});
        b->bytes = bytes;
    }
    b->used = true;
    r->used += bytes;
    *ret_data = b->at;
    return 0;
}

int cuda_memory_alloc(struct cuda_memory *m, enum kroom room, size_t bytes, void **ret_data)
{
    int rc = units(bytes, &bytes);

    if (rc != 0)
        return rc;
    pthread_mutex_lock(&m->lock);
    rc = alloc_locked(m, &m->rooms[room], bytes, ret_data);
    pthread_mutex_unlock(&m->lock);
    return rc;
}

int cuda_memory_reserve(struct cuda_memory *m, enum kroom room, size_t bytes)
{
    int rc = bytes > 0 ? units(bytes, &bytes) : 0;

    if (rc != 0 || bytes == 0)
        return rc;
    pthread_mutex_lock(&m->lock);
    rc = slab_add(m, &m->rooms[room], bytes);
    pthread_mutex_unlock(&m->lock);
    return rc;
}

/* The block that begins at `data`, if it is of this room. */
static bool find(const struct room *r, const char *data, uint32_t *ret_i)
{
    uint32_t i = behind(r, data);

    if (i == 0 || r->blocks[i - 1].at != data)
        return false;
    *ret_i = i - 1;
    return true;
}

void cuda_memory_dealloc(struct cuda_memory *m, void *data)
{
    struct room *r = m->rooms;
    uint32_t i = 0;

    if (data == NULL)
        return;
    pthread_mutex_lock(&m->lock);
    while (r < m->rooms + K_ROOMS && !find(r, data, &i))
        r++;
    assert(r < m->rooms + K_ROOMS && r->blocks[i].used);
    r->blocks[i].used = false;
    r->used -= r->blocks[i].bytes;
    if (joins(r, i))
        join(r, i);
    if (i > 0 && joins(r, i - 1))
        join(r, i - 1);
    pthread_mutex_unlock(&m->lock);
}

void cuda_memory_count(struct cuda_memory *m, struct kmemory *memory)
{
    pthread_mutex_lock(&m->lock);
    for (int i = 0; i < K_ROOMS; i++) {
        memory->taken += m->rooms[i].taken;
        memory->used += m->rooms[i].used;
    }
    memory->asked += m->asked;
    pthread_mutex_unlock(&m->lock);
}
