/* live.c -- see live.h. A linear table: a daemon holds tens of models, and a name is looked up once
 * a request. */
#include "daemon/serve/live.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct live {
    pthread_mutex_t lock;
    struct snapshot **slots; /* (len), each one reference */
    uint32_t len, max;
    uint64_t swaps;
};

int live_open(uint32_t models_max, struct live **ret_live)
{
    struct live *live = calloc(1, sizeof *live);

    if (live == NULL)
        return -ENOMEM;
    live->slots = calloc(models_max, sizeof *live->slots);
    if (live->slots == NULL) {
        free(live);
        return -ENOMEM;
    }
    live->max = models_max;
    pthread_mutex_init(&live->lock, NULL);
    *ret_live = live;
    return 0;
}

void live_close(struct live *live)
{
    if (live == NULL)
        return;
    for (uint32_t i = 0; i < live->len; i++)
        live_put(live->slots[i]);
    pthread_mutex_destroy(&live->lock);
    free(live->slots);
    free(live);
}

static struct snapshot *reference(struct snapshot *snapshot)
{
    if (snapshot != NULL)
        atomic_fetch_add_explicit(&snapshot->refs, 1, memory_order_relaxed);
    return snapshot;
}

struct snapshot *live_get(struct live *live, const char *model_name)
{
    struct snapshot *found = NULL;

    pthread_mutex_lock(&live->lock);
    for (uint32_t i = 0; i < live->len && found == NULL; i++)
        if (strcmp(live->slots[i]->model_name, model_name) == 0)
            found = reference(live->slots[i]);
    pthread_mutex_unlock(&live->lock);
    return found;
}

struct snapshot *live_get_by_id(struct live *live, int64_t model)
{
    struct snapshot *found = NULL;

    pthread_mutex_lock(&live->lock);
    for (uint32_t i = 0; i < live->len && found == NULL; i++)
        if (live->slots[i]->model == model)
            found = reference(live->slots[i]);
    pthread_mutex_unlock(&live->lock);
    return found;
}

struct snapshot *live_hold(struct snapshot *snapshot)
{
    return reference(snapshot);
}

void live_put(struct snapshot *snapshot)
{
    if (snapshot == NULL ||
        atomic_fetch_sub_explicit(&snapshot->refs, 1, memory_order_acq_rel) != 1)
        return;
    head_view_free(snapshot->view);
    live_labels_put(snapshot->labels);
    live_review_put(snapshot->review);
    encoders_put(snapshot->encoder);
    free(snapshot);
}

int live_publish(struct live *live, struct snapshot *snapshot)
{
    struct snapshot *old = NULL;
    uint32_t i = 0;
    int rc = 0;

    pthread_mutex_lock(&live->lock);
    while (i < live->len && live->slots[i]->model != snapshot->model)
        i++;
    if (i == live->max) {
        rc = -ENOSPC;
    } else {
        if (i == live->len)
            live->len++;
        else
            old = live->slots[i];
        live->slots[i] = snapshot;
        live->swaps++;
    }
    pthread_mutex_unlock(&live->lock);
    live_put(old);
    return rc;
}

void live_remove(struct live *live, int64_t model)
{
    struct snapshot *old = NULL;

    pthread_mutex_lock(&live->lock);
    for (uint32_t i = 0; i < live->len && old == NULL; i++) {
        if (live->slots[i]->model == model) {
            old = live->slots[i];
            live->slots[i] = live->slots[--live->len];
        }
    }
    pthread_mutex_unlock(&live->lock);
    live_put(old);
}

uint64_t live_swaps(struct live *live)
{
    uint64_t swaps;

    pthread_mutex_lock(&live->lock);
    swaps = live->swaps;
    pthread_mutex_unlock(&live->lock);
    return swaps;
}

struct live_labels *live_labels_new(uint32_t len)
{
    struct live_labels *labels = calloc(1, sizeof *labels);

    if (labels == NULL)
        return NULL;
    atomic_init(&labels->refs, 1);
    labels->names = calloc(len + 1, sizeof *labels->names);
    labels->rules = calloc(len + 1, sizeof *labels->rules);
    if (labels->names == NULL || labels->rules == NULL) {
        live_labels_put(labels);
        return NULL;
    }
    labels->len = len;
    for (uint32_t i = 0; i < len; i++)
        labels->rules[i].score_min = -1;
    return labels;
}

int live_labels_alias(struct live_labels *labels, const char *name, uint32_t column)
{
    uint32_t len = labels->index_len;

    if ((len & (len - 1)) == 0) { /* the room is the next power of two */
        struct live_alias *bigger =
            realloc(labels->index, (len > 0 ? len * 2 : 1) * sizeof *bigger);

        if (bigger == NULL)
            return -ENOMEM;
        labels->index = bigger;
    }
    labels->index[len].column = column;
    snprintf(labels->index[len].name, LIVE_NAME_BYTES, "%s", name);
    labels->index_len++;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    const struct live_alias *x = a, *y = b;

    return strcmp(x->name, y->name);
}

void live_labels_seal(struct live_labels *labels)
{
    if (labels->index_len > 0)
        qsort(labels->index, labels->index_len, sizeof *labels->index, by_name);
}

uint32_t live_labels_find(const struct live_labels *labels, const char *name)
{
    uint32_t from = 0, to = labels->index_len;

    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        int order = strcmp(name, labels->index[middle].name);

        if (order == 0)
            return labels->index[middle].column;
        if (order < 0)
            to = middle;
        else
            from = middle + 1;
    }
    return UINT32_MAX;
}

struct live_labels *live_labels_get(struct live_labels *labels)
{
    atomic_fetch_add_explicit(&labels->refs, 1, memory_order_relaxed);
    return labels;
}

void live_labels_put(struct live_labels *labels)
{
    if (labels == NULL || atomic_fetch_sub_explicit(&labels->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (uint32_t i = 0; i < labels->len; i++)
        free(labels->rules[i].payload);
    free(labels->names);
    free(labels->rules);
    free(labels->index);
    free(labels);
}

struct live_review *live_review_new(const struct head_suspect *suspects, uint32_t suspects_len,
                                    const struct head_twin *twins, uint32_t twins_len)
{
    size_t first = suspects_len * sizeof *suspects, second = twins_len * sizeof *twins;
    struct live_review *r = calloc(1, sizeof *r + first + second);

    if (r == NULL)
        return NULL;
    atomic_init(&r->refs, 1);
    r->suspects_len = suspects_len;
    r->twins_len = twins_len;
    r->suspects = (struct head_suspect *)(r + 1);
    r->twins = (struct head_twin *)((char *)r->suspects + first);
    if (first > 0)
        memcpy(r->suspects, suspects, first);
    if (second > 0)
        memcpy(r->twins, twins, second);
    return r;
}

struct live_review *live_review_get(struct live_review *review)
{
    if (review != NULL)
        atomic_fetch_add_explicit(&review->refs, 1, memory_order_relaxed);
    return review;
}

void live_review_put(struct live_review *review)
{
    if (review != NULL && atomic_fetch_sub_explicit(&review->refs, 1, memory_order_acq_rel) == 1)
        free(review);
}
