/* train_image.c -- a train as bytes: what a restart goes on from.
 *
 * Little endian: a header, then weights and both moments of what is trained. The header names the
 * run: its settings, the hash of what the block held at the start, and where the steps are. It is
 * compared as bytes with the header that the reading train would write: an image of other settings,
 * other start weights, other texts or another version is another run's. What follows is held by a
 * hash of its own, so that a torn or turned bit is not trained on.
 *
 * The number of threads is no part of it: nothing depends on it (backend_training.h).
 */
#include <errno.h>
#include <string.h>

#include "kernels/train/train_internal.h"

#define IMAGE_MAGIC 0x316e69617274646c /* "ldtrain1" */

struct image_header {
    uint64_t magic, bytes, identity, seed, steps;
    uint32_t kind, labels, fp32, lora, lora_rank, dim, layers, words;
    float lr, head_lr, warmup, weight_decay, clip, dropout, scale, alpha, distill, temperature,
        feature, lora_alpha;
    /* From here on: not of the run but of the moment. */
    uint64_t step, tokens_max, hash;
};

static size_t trained_bytes(const struct train *t)
{
    return (t->masters.len - t->masters.trained) * sizeof(float);
}

size_t train_image_bytes(const struct train *t)
{
    return sizeof(struct image_header) + 3 * trained_bytes(t);
}

/* What an image of this train begins with; in bytes without gaps that nobody set. */
static void header_of(const struct train *t, struct image_header *h)
{
    const struct train_settings *s = &t->settings;

    memset(h, 0, sizeof *h);
    h->magic = IMAGE_MAGIC;
    h->bytes = train_image_bytes(t);
    h->identity = t->identity;
    h->seed = s->seed;
    h->steps = s->steps;
    h->kind = s->kind;
    h->labels = s->labels_len;
    h->fp32 = s->fp32;
    h->lora = s->lora;
    h->lora_rank = s->lora_rank;
    h->dim = t->config.C;
    h->layers = t->config.layers;
    h->words = t->masters.words;
    h->lr = s->lr;
    h->head_lr = s->head_lr;
    h->warmup = s->warmup;
    h->weight_decay = s->weight_decay;
    h->clip = s->clip;
    h->dropout = s->dropout;
    h->scale = s->scale;
    h->alpha = s->alpha;
    h->distill = s->distill;
    h->temperature = s->temperature;
    h->feature = s->feature;
    h->lora_alpha = s->lora_alpha;
    h->step = t->step;
    h->tokens_max = t->tokens_max;
}

static uint64_t hash_of(const struct image_header *h, const uint8_t *values, size_t bytes)
{
    struct image_header plain = *h;

    plain.hash = 0;
    return train_hash(train_hash(0, &plain, sizeof plain), values, bytes);
}

int train_image_write(const struct train *t, void *image)
{
    const struct masters *m = &t->masters;
    size_t len = m->len - m->trained;
    uint8_t *bytes = (uint8_t *)image + sizeof(struct image_header);
    float *values = (float *)(void *)bytes;
    struct image_header h;
    int rc;

    header_of(t, &h);
    rc = masters_fetch(t, values, m->w + m->trained, len);
    if (rc == 0)
        rc = masters_fetch(t, values + len, m->m, len);
    if (rc == 0)
        rc = masters_fetch(t, values + 2 * len, m->v, len);
    if (rc != 0)
        return rc;
    h.hash = hash_of(&h, bytes, 3 * trained_bytes(t));
    memcpy(image, &h, sizeof h);
    return 0;
}

/* An image may stand at any address; a block takes floats. */
static int part_read(struct train *t, float *block, const uint8_t *values)
{
    enum { CHUNK = 4096 };
    float chunk[CHUNK];
    size_t len = t->masters.len - t->masters.trained;
    int rc = 0;

    if (train_host_sees(t)) {
        memcpy(block, values, len * sizeof *block);
        return 0;
    }
    for (size_t at = 0, n; at < len && rc == 0; at += n) {
        n = len - at < CHUNK ? len - at : CHUNK;
        memcpy(chunk, values + at * sizeof *chunk, n * sizeof *chunk);
        rc = masters_send(t, block + at, chunk, n);
    }
    return rc;
}

int train_image_read(struct train *t, const void *image, size_t image_bytes)
{
    const uint8_t *values = (const uint8_t *)image + sizeof(struct image_header);
    struct masters *m = &t->masters;
    size_t part = trained_bytes(t);
    struct image_header h, own;
    int rc;

    if (image_bytes != train_image_bytes(t))
        return -EINVAL;
    memcpy(&h, image, sizeof h);
    header_of(t, &own);
    own.step = h.step;
    own.tokens_max = h.tokens_max;
    own.hash = h.hash;
    if (memcmp(&own, &h, sizeof h) != 0 || h.tokens_max < 1 ||
        h.tokens_max > t->settings.tokens_max || h.hash != hash_of(&h, values, 3 * part))
        return -EINVAL;
    rc = part_read(t, m->w + m->trained, values);
    if (rc == 0)
        rc = part_read(t, m->m, values + part);
    if (rc == 0)
        rc = part_read(t, m->v, values + 2 * part);
    t->step = h.step;
    t->tokens_max = (uint32_t)h.tokens_max;
    t->stale = true;
    t->failed = rc;
    return rc;
}
