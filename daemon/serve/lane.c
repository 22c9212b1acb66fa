/* lane.c -- see lane.h.
 *
 * The walk of a batch: items -> packed ids, types, offsets -> encoder_forward -> (B,d) -> runs of
 * items that share a snapshot and a choice of labels -> head_view_score -> probabilities copied out
 * -> finish. Items that come as vectors (len 0) go past the encoder. A batch that the encoder
 * refuses as a whole (a weight gone bad, one text that yields NaN) is run again text by text, so
 * that one bad text fails alone. Where it is the device that failed all of the batch does: nothing
 * says which of its answers would be right.
 */
#include "daemon/serve/lane.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"

struct lane {
    pthread_t thread;
    struct batcher *batcher;
    struct batcher_limits limits;
    struct encoder_ctx *ctx;
    struct work_item **items, **parting;
    int32_t *ids;
    uint8_t *types;
    uint32_t *offsets;
    float *embeddings; /* (B,d) of the present encoder; grows */
    size_t embeddings_len;
    float *vectors; /* rows of a run of items that came as vectors; grows */
    size_t vectors_len;
    /* Scratch of the head; grows to the largest view seen. */
    void *scratch;
    size_t scratch_bytes;
    float *probabilities, *shares;
    size_t probabilities_len, shares_len;
    struct head_answer *answers;
    atomic_ullong batches, texts, tokens, failures, turns;
};

static int reserve(void **block, size_t *have, size_t want, size_t size)
{
    void *bigger;

    if (*have >= want)
        return 0;
    bigger = aligned_alloc(64, (want * size + 63) / 64 * 64);
    if (bigger == NULL)
        return -ENOMEM;
    free(*block);
    *block = bigger;
    *have = want;
    return 0;
}

/* A context for this encoder: the one there is, if it is of the same device. */
static int ctx_ready(struct lane *lane, const struct encoder *encoder)
{
    int rc = lane->ctx != NULL ? encoder_ctx_use(lane->ctx, encoder) : -EXDEV;

    if (rc != -EXDEV)
        return rc;
    encoder_ctx_close(lane->ctx);
    lane->ctx = NULL;
    return encoder_ctx_open(encoder, lane->limits.batch_tokens_max, lane->limits.batch_items_max,
                            &lane->ctx);
}

/* A context whose device has failed is not used again. */
static int device_has_failed(struct lane *lane, const struct held_encoder *held, int rc)
{
    struct device *device = encoders_device(held->all);

    encoder_ctx_close(lane->ctx);
    lane->ctx = NULL;
    device_failed(device, rc, clock_us());
    if (device_lost(device))
        encoders_move(held->all);
    return -ENODEV;
}

/* A device that has no memory for one text will not find it. */
static bool on_device(const struct held_encoder *held)
{
    return device_backend(encoders_device(held->all)) != backend_cpu();
}

/* All items are of one encoder. */
static int encode(struct lane *lane, struct work_item **items, uint32_t len, uint32_t threads)
{
    struct held_encoder *held = items[0]->work->encoder;
    const struct encoder *encoder;
    struct encoder_batch batch = {lane->ids, lane->types, lane->offsets, len};
    uint32_t at = 0;
    int rc;

    for (uint32_t i = 0; i < len; i++) {
        lane->offsets[i] = at;
        memcpy(lane->ids + at, items[i]->ids, items[i]->len * sizeof *lane->ids);
        memcpy(lane->types + at, items[i]->types, items[i]->len);
        at += items[i]->len;
    }
    lane->offsets[len] = at;
    rc = reserve((void **)&lane->embeddings, &lane->embeddings_len, (size_t)len * held->dim,
                 sizeof *lane->embeddings);
    if (rc != 0)
        return rc;
    rc = encoders_use(held, &encoder);
    if (rc != 0) /* its device is lost, and it cannot be opened on the CPU either */
        return rc == -ENOMEM ? rc : -ENODEV;
    rc = ctx_ready(lane, encoder);
    if (rc == 0)
        rc = encoder_forward(lane->ctx, &batch, threads, lane->embeddings);
    if (rc == -EIO || rc == -ENODEV || (rc == -ENOMEM && len == 1 && on_device(held)))
        rc = device_has_failed(lane, held, rc);
    return rc;
}

/* Scores rows of one run: items[0..len) share a snapshot and a choice of labels. */
static int score(struct lane *lane, struct work_item **items, uint32_t len, const float *embeddings)
{
    const struct work *work = items[0]->work;
    const struct head_view *view = work->snapshot->view;
    uint32_t labels = head_view_labels_len(view);
    size_t row = (size_t)labels * HEAD_SCORES;
    bool explain = items[0]->shares != NULL;
    int rc;

    rc = reserve(&lane->scratch, &lane->scratch_bytes, head_view_scratch_bytes(view, len), 1);
    if (rc == 0)
        rc = reserve((void **)&lane->probabilities, &lane->probabilities_len,
                     (size_t)len * labels + 1, sizeof(float));
    if (rc == 0 && explain)
        rc = reserve((void **)&lane->shares, &lane->shares_len, len * row + 1, sizeof(float));
    if (rc == 0)
        rc = head_view_score(view, embeddings, len, work->allowed, lane->scratch, lane->answers,
                             lane->probabilities, explain ? lane->shares : NULL);
    for (uint32_t i = 0; i < len && rc == 0; i++) {
        items[i]->answer = lane->answers[i];
        memcpy(items[i]->probabilities, lane->probabilities + (size_t)i * labels,
               labels * sizeof(float));
        if (explain)
            memcpy(items[i]->shares, lane->shares + i * row, row * sizeof(float));
    }
    return rc;
}

static bool same_run(const struct work_item *a, const struct work_item *b)
{
    if (a->work == b->work)
        return true;
    return a->work->snapshot == b->work->snapshot && a->work->allowed == NULL &&
           b->work->allowed == NULL && (a->shares != NULL) == (b->shares != NULL) &&
           (a->probabilities != NULL) == (b->probabilities != NULL);
}

static void keep_longest(atomic_llong *longest, int64_t us)
{
    if (atomic_load(longest) < us) /* a lost race shortens a statistic by one batch, no more */
        atomic_store(longest, us);
}

/* Encoded rows -> scores -> finish. error: the encoder's, for all of them. */
static void finish(struct lane *lane, struct work_item **items, uint32_t len, int error,
                   int64_t encode_us)
{
    const float *embeddings = lane->embeddings;
    uint32_t at = 0, dim = items[0]->work->encoder->dim;

    while (at < len) {
        uint32_t run = 1;
        int64_t started = clock_us();
        int rc = error;

        while (at + run < len && same_run(items[at], items[at + run]))
            run++;
        for (uint32_t i = at; i < at + run && rc == 0; i++)
            memcpy(items[i]->embedding, embeddings + (size_t)i * dim, dim * sizeof(float));
        if (rc == 0 && items[at]->probabilities != NULL)
            rc = score(lane, items + at, run, embeddings + (size_t)at * dim);
        if (rc != 0)
            atomic_fetch_add(&lane->failures, run);
        for (uint32_t i = at; i < at + run; i++) {
            keep_longest(&items[i]->work->encode_us, encode_us);
            keep_longest(&items[i]->work->head_us, clock_us() - started);
            batcher_finish(items[i], rc);
        }
        at += run;
    }
}

/* Scores and finishes items that came as vectors. */
static void finish_vectors(struct lane *lane, struct work_item **items, uint32_t len)
{
    uint32_t at = 0;

    while (at < len) {
        uint32_t run = 1, dim = items[at]->work->snapshot->dim;
        int64_t started = clock_us();
        int rc;

        while (at + run < len && same_run(items[at], items[at + run]))
            run++;
        rc = reserve((void **)&lane->vectors, &lane->vectors_len, (size_t)run * dim,
                     sizeof *lane->vectors);
        for (uint32_t i = 0; i < run && rc == 0; i++)
            memcpy(lane->vectors + (size_t)i * dim, items[at + i]->embedding, dim * sizeof(float));
        if (rc == 0)
            rc = score(lane, items + at, run, lane->vectors);
        if (rc != 0)
            atomic_fetch_add(&lane->failures, run);
        for (uint32_t i = at; i < at + run; i++) {
            keep_longest(&items[i]->work->head_us, clock_us() - started);
            batcher_finish(items[i], rc);
        }
        at += run;
    }
}

/* Brings the texts to the front, in their order. Returns how many there are. */
static uint32_t part(struct work_item **items, struct work_item **vectors, uint32_t len)
{
    uint32_t texts = 0, rest = 0;

    for (uint32_t i = 0; i < len; i++) {
        if (items[i]->len > 0)
            items[texts++] = items[i];
        else
            vectors[rest++] = items[i];
    }
    memcpy(items + texts, vectors, rest * sizeof *items);
    return texts;
}

/* The next batch; counts the turns that begin and end with it. */
static uint32_t take(struct lane *lane, uint32_t *ret_threads)
{
    uint32_t len;

    if (atomic_load(&lane->turns) % 2 != 0)
        atomic_fetch_add(&lane->turns, 1);
    len = batcher_take(lane->batcher, lane->items, ret_threads);
    if (len > 0)
        atomic_fetch_add(&lane->turns, 1);
    return len;
}

static void *run(void *arg)
{
    struct lane *lane = arg;
    uint32_t all, len, threads;

    pthread_setname_np(pthread_self(), "lane");
    while ((all = take(lane, &threads)) > 0) {
        int64_t started = clock_us();
        int rc;

        len = part(lane->items, lane->parting, all);
        finish_vectors(lane, lane->items + len, all - len);
        if (len == 0)
            continue;
        if (threads < lane->limits.lost_threads &&
            device_lost(encoders_device(lane->items[0]->work->encoder->all)))
            threads = lane->limits.lost_threads;
        rc = encode(lane, lane->items, len, threads);

        atomic_fetch_add(&lane->batches, 1);
        atomic_fetch_add(&lane->texts, len);
        atomic_fetch_add(&lane->tokens, lane->offsets[len]);
        if (rc == 0 || rc == -ENODEV || len == 1) {
            finish(lane, lane->items, len, rc, clock_us() - started);
            continue;
        }
        for (uint32_t i = 0; i < len; i++) {
            rc = encode(lane, lane->items + i, 1, 1);
            finish(lane, lane->items + i, 1, rc, clock_us() - started);
        }
    }
    return NULL;
}

static void lane_free(struct lane *lane)
{
    encoder_ctx_close(lane->ctx);
    free(lane->items);
    free(lane->parting);
    free(lane->vectors);
    free(lane->ids);
    free(lane->types);
    free(lane->offsets);
    free(lane->embeddings);
    free(lane->answers);
    free(lane->scratch);
    free(lane->probabilities);
    free(lane->shares);
    free(lane);
}

int lane_open(struct held_encoder *encoder, struct batcher *batcher,
              const struct batcher_limits *limits, struct lane **ret_lane)
{
    uint32_t tokens = limits->batch_tokens_max, seqs = limits->batch_items_max;
    const struct encoder *ready;
    struct lane *lane = calloc(1, sizeof *lane);
    int rc;

    if (lane == NULL)
        return -ENOMEM;
    lane->batcher = batcher;
    lane->limits = *limits;
    lane->items = calloc(seqs, sizeof *lane->items);
    lane->parting = calloc(seqs, sizeof *lane->parting);
    lane->ids = calloc(tokens, sizeof *lane->ids);
    lane->types = calloc(tokens, 1);
    lane->offsets = calloc(seqs + 1, sizeof *lane->offsets);
    lane->answers = calloc(seqs, sizeof *lane->answers);
    if (lane->items == NULL || lane->parting == NULL || lane->ids == NULL || lane->types == NULL ||
        lane->offsets == NULL || lane->answers == NULL) {
        rc = -ENOMEM;
        goto fail;
    }
    rc = reserve((void **)&lane->embeddings, &lane->embeddings_len, (size_t)seqs * encoder->dim,
                 sizeof *lane->embeddings);
    if (rc == 0)
        rc = encoders_use(encoder, &ready);
    if (rc == 0)
        rc = ctx_ready(lane, ready);
    if (rc != 0)
        goto fail;
    rc = -pthread_create(&lane->thread, NULL, run, lane);
    if (rc != 0)
        goto fail;
    *ret_lane = lane;
    return 0;
fail:
    lane_free(lane);
    return rc;
}

void lane_close(struct lane *lane)
{
    if (lane == NULL)
        return;
    pthread_join(lane->thread, NULL);
    lane_free(lane);
}

struct lane_counts lane_counts(const struct lane *lane)
{
    return (struct lane_counts){atomic_load(&lane->batches), atomic_load(&lane->texts),
                                atomic_load(&lane->tokens), atomic_load(&lane->failures),
                                atomic_load(&lane->turns)};
}
