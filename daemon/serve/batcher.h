/* batcher.h -- from many requests to packed batches: the queue between the loops and the lanes.
 *
 * A request is one struct work with an item a text. Items of all clients and models travel
 * together, packed, sorted by nothing; a batch is of one encoder, so it ends before a text of
 * another. A lane that is idle closes a batch at once: there is no
 * timer, so the first request never waits. What waits is shared between the idle lanes; a batch
 * that is alone and large may use the cores of idle lanes. Work of the learner (class
 * WORK_LEARNING) is taken only when no traffic waits, in batches that are small while there is
 * traffic, so that what arrives behind one waits a few milliseconds.
 *
 * Threads: submit, queue, wake and cancel from any thread, take from lanes.
 */
#ifndef LEARND_BATCHER_H
#define LEARND_BATCHER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/serve/live.h"

enum work_class { WORK_TRAFFIC, WORK_LEARNING, WORK_CLASSES };

struct work;

struct work_item {
    struct work_item *next; /* the batcher's */
    struct work *work;
    const int32_t *ids;        /* (len) */
    const uint8_t *types;      /* (len) */
    uint32_t len;              /* 0: nothing to encode, embedding is filled already */
    float *embedding;          /* (d), written by the lane */
    float *probabilities;      /* (L of the snapshot's view), or NULL: embed only */
    float *shares;             /* (L,HEAD_SCORES) or NULL */
    struct head_answer answer; /* valid with probabilities */
};

struct work {
    struct snapshot *snapshot;    /* held by the work's owner; NULL: embed only */
    struct held_encoder *encoder; /* of its texts; held by the owner, or by the snapshot */
    const uint8_t *allowed;       /* (L) labels to choose among, or NULL */
    struct work_item *items;
    uint32_t items_len;
    int64_t deadline_us; /* monotonic; 0: none. An item not taken by then fails with -ETIME */
    enum work_class class;
    atomic_uint left; /* items not finished; set by submit */
    atomic_int error; /* first failure: -ETIME, -EDOM, -ENOMEM, -ENODEV (the device), -ESHUTDOWN */
    int64_t submitted_us;            /* set by submit */
    atomic_llong taken_us;           /* when the last item left the queue */
    atomic_llong encode_us, head_us; /* longest time an item's batch took */
    void (*done)(struct work *work); /* called once, by the lane that finishes the last item; it
                                        owns the work */
};

struct batcher;

struct batcher_limits {
    uint32_t items_max;        /* waiting, of traffic */
    uint32_t batch_tokens_max; /* T of a batch: at least the longest text */
    uint32_t batch_items_max;  /* B */
    uint32_t share_tokens_min; /* less than this is not split between lanes */
    uint32_t learning_tokens;  /* T of a batch of learning work, about, where no traffic comes */
    uint32_t team_tokens_min;  /* less than this uses one core, however many are idle */
    uint32_t lost_threads;     /* cores of a lane whose device is lost, at least; 0: one */
};

int batcher_open(const struct batcher_limits *limits, uint32_t lanes, struct batcher **ret_batcher);
void batcher_close(struct batcher *batcher); /* after every lane has gone */

/* All items or none. 0: the batcher has it until done(). -EAGAIN: full. -ESHUTDOWN. */
int batcher_submit(struct batcher *batcher, struct work *work);
/* The same, but a lane is woken only when a good batch waits: the caller has more to bring and ends
 * with batcher_wake. */
int batcher_queue(struct batcher *batcher, struct work *work);
void batcher_wake(struct batcher *batcher);
/* The client has gone: takes the work's waiting items out. True: none is in a lane, the caller owns
 * the work again and done() is not called. False: lanes still have some and done() follows. Once
 * only. */
bool batcher_cancel(struct batcher *batcher, struct work *work);

/* Waits for a batch, at most batch_items_max items into items[]. Returns its length; 0: shut down
 * and empty. ret_threads: cores the batch may use. Expired items have been failed and are not among
 * them. */
uint32_t batcher_take(struct batcher *batcher, struct work_item **items, uint32_t *ret_threads);
/* One item is done with (0 or -errno). The last one of its work calls work->done. */
void batcher_finish(struct work_item *item, int error);

/* No further work is taken; lanes finish what waits and get 0. */
void batcher_shutdown(struct batcher *batcher);
uint32_t batcher_waiting(struct batcher *batcher);

#endif
