/* batcher.c -- see batcher.h. Two FIFO lists under one mutex; a lane sleeps on the condition.
 *
 * How much a lane takes: everything that waits, divided by the lanes that are idle (itself
 * included), but no less than share_tokens_min, so that small queues are not torn into batches too
 * thin for the matrix units, and no more than batch_tokens_max. Lanes that are busy do not count:
 * they come back when they come back.
 *
 * Learning work begins small behind traffic, a share_tokens_min, and doubles with every batch that
 * no traffic comes between, up to learning_tokens: at 38,000 tokens a second (make bench) 512 keep
 * a lane for 13 ms, a share of 96 for 3, and on a machine of two lanes traffic may find both of
 * them so.
 */
#include "daemon/serve/batcher.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "daemon/clock.h"

struct queue {
    struct work_item *first, **last;
    uint32_t items;
    uint64_t tokens;
};

struct batcher {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct batcher_limits limits;
    struct queue queues[WORK_CLASSES];
    uint32_t lanes, idle;
    uint32_t learning_share; /* tokens of the next batch of learning work, at most */
    bool shut;
};

static uint32_t lesser(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

int batcher_open(const struct batcher_limits *limits, uint32_t lanes, struct batcher **ret_batcher)
{
    struct batcher *b = calloc(1, sizeof *b);

    if (b == NULL)
        return -ENOMEM;
    b->limits = *limits;
    b->lanes = lanes;
    b->learning_share = limits->learning_tokens;
    for (int c = 0; c < WORK_CLASSES; c++)
        b->queues[c].last = &b->queues[c].first;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->wake, NULL);
    *ret_batcher = b;
    return 0;
}

void batcher_close(struct batcher *b)
{
    if (b == NULL)
        return;
    pthread_cond_destroy(&b->wake);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

/* Under the lock. */
static void wake(struct batcher *b)
{
    uint32_t items = b->queues[WORK_TRAFFIC].items + b->queues[WORK_LEARNING].items;

    if (items > 1 && b->idle > 1)
        pthread_cond_broadcast(&b->wake);
    else if (items > 0 && b->idle > 0)
        pthread_cond_signal(&b->wake);
}

static int add(struct batcher *b, struct work *work, bool more_to_come)
{
    struct queue *q = &b->queues[work->class];
    int rc = 0;

    atomic_store(&work->left, work->items_len);
    atomic_store(&work->error, 0);
    atomic_store(&work->taken_us, 0);
    atomic_store(&work->encode_us, 0);
    atomic_store(&work->head_us, 0);
    work->submitted_us = clock_us();
    pthread_mutex_lock(&b->lock);
    if (b->shut) {
        rc = -ESHUTDOWN;
    } else if (work->class == WORK_TRAFFIC && q->items + work->items_len > b->limits.items_max) {
        rc = -EAGAIN;
    } else {
        if (work->class == WORK_TRAFFIC)
            b->learning_share = lesser(b->limits.share_tokens_min, b->limits.learning_tokens);
        for (uint32_t i = 0; i < work->items_len; i++) {
            struct work_item *item = &work->items[i];

            item->work = work;
            item->next = NULL;
            *q->last = item;
            q->last = &item->next;
            q->items++;
            q->tokens += item->len;
        }
        if (!more_to_come || q->tokens >= b->limits.learning_tokens)
            wake(b);
    }
    pthread_mutex_unlock(&b->lock);
    return rc;
}

int batcher_submit(struct batcher *b, struct work *work)
{
    return add(b, work, false);
}

int batcher_queue(struct batcher *b, struct work *work)
{
    return add(b, work, true);
}

void batcher_wake(struct batcher *b)
{
    pthread_mutex_lock(&b->lock);
    wake(b);
    pthread_mutex_unlock(&b->lock);
}

bool batcher_cancel(struct batcher *b, struct work *work)
{
    struct queue *q = &b->queues[work->class];
    uint32_t removed = 0;

    pthread_mutex_lock(&b->lock);
    for (struct work_item **at = &q->first; *at != NULL;) {
        struct work_item *item = *at;

        if (item->work != work) {
            at = &item->next;
            continue;
        }
        *at = item->next;
        q->items--;
        q->tokens -= item->len;
        removed++;
    }
    q->last = &q->first;
    while (*q->last != NULL)
        q->last = &(*q->last)->next;
    pthread_mutex_unlock(&b->lock);
    return removed > 0 && atomic_fetch_sub(&work->left, removed) == removed;
}

static struct work_item *pop(struct queue *q)
{
    struct work_item *item = q->first;

    q->first = item->next;
    if (q->first == NULL)
        q->last = &q->first;
    q->items--;
    q->tokens -= item->len;
    return item;
}

/* May an item join a batch of this encoder (NULL: of none yet)? What comes as a vector always may.
 */
static bool fits(const struct work_item *item, const struct held_encoder *encoder)
{
    return encoder == NULL || item->len == 0 || item->work->encoder == encoder;
}

/* Fills items[] from one queue up to its share; expired ones go to *ret_expired. Under the lock. */
static uint32_t fill(struct batcher *b, enum work_class class, struct work_item **items,
                     struct work_item **ret_expired)
{
    struct queue *q = &b->queues[class];
    uint64_t share = (q->tokens + b->idle) / (b->idle + 1), tokens = 0;
    const struct held_encoder *encoder = NULL;
    int64_t now = clock_us();
    uint32_t len = 0;

    if (share < b->limits.share_tokens_min)
        share = b->limits.share_tokens_min;
    if (class == WORK_LEARNING && share > b->learning_share)
        share = b->learning_share;
    while (q->first != NULL && len < b->limits.batch_items_max && tokens < share &&
           tokens + q->first->len <= b->limits.batch_tokens_max && fits(q->first, encoder)) {
        struct work_item *item = pop(q);

        if (item->work->deadline_us != 0 && item->work->deadline_us < now) {
            item->next = *ret_expired;
            *ret_expired = item;
            continue;
        }
        atomic_store(&item->work->taken_us, now);
        tokens += item->len;
        items[len++] = item;
        if (item->len > 0)
            encoder = item->work->encoder;
    }
    if (class == WORK_LEARNING && len > 0)
        b->learning_share = lesser(2 * b->learning_share, b->limits.learning_tokens);
    return len;
}

static uint64_t tokens_of(struct work_item **items, uint32_t len)
{
    uint64_t tokens = 0;

    for (uint32_t i = 0; i < len; i++)
        tokens += items[i]->len;
    return tokens;
}

uint32_t batcher_take(struct batcher *b, struct work_item **items, uint32_t *ret_threads)
{
    struct work_item *expired = NULL;
    uint32_t len = 0, threads = 1;

    pthread_mutex_lock(&b->lock);
    while (len == 0) {
        b->idle++;
        while (b->queues[WORK_TRAFFIC].first == NULL && b->queues[WORK_LEARNING].first == NULL &&
               !b->shut)
            pthread_cond_wait(&b->wake, &b->lock);
        b->idle--;
        len = fill(b, WORK_TRAFFIC, items, &expired);
        if (len == 0 && b->queues[WORK_TRAFFIC].first == NULL)
            len = fill(b, WORK_LEARNING, items, &expired);
        if (expired != NULL || (b->shut && len == 0))
            break;
    }
    if (b->queues[WORK_TRAFFIC].first != NULL || b->queues[WORK_LEARNING].first != NULL)
        pthread_cond_signal(&b->wake);
    else if (len > 0 && tokens_of(items, len) >= b->limits.team_tokens_min)
        threads = 1 + b->idle;
    pthread_mutex_unlock(&b->lock);

    while (expired != NULL) {
        struct work_item *item = expired;

        expired = item->next;
        batcher_finish(item, -ETIME);
        if (expired == NULL && len == 0)
            return batcher_take(b, items, ret_threads);
    }
    *ret_threads = threads;
    return len;
}

void batcher_finish(struct work_item *item, int error)
{
    struct work *work = item->work;
    int none = 0;

    if (error != 0)
        atomic_compare_exchange_strong(&work->error, &none, error);
    if (atomic_fetch_sub(&work->left, 1) == 1)
        work->done(work);
}

void batcher_shutdown(struct batcher *b)
{
    pthread_mutex_lock(&b->lock);
    b->shut = true;
    pthread_cond_broadcast(&b->wake);
    pthread_mutex_unlock(&b->lock);
}

uint32_t batcher_waiting(struct batcher *b)
{
    uint32_t items;

    pthread_mutex_lock(&b->lock);
    items = b->queues[WORK_TRAFFIC].items;
    pthread_mutex_unlock(&b->lock);
    return items;
}
