/* image.c -- the head as bytes: what a restart reads instead of the whole journal.
 *
 * Little endian, version 3: header, then n, A, P and G (lower triangles), W, Q, S, then the
 * examples with their fp16 embeddings. The fp64 state is written as it is, so that reading it back
 * and replaying the same blocks gives the same bits. The last fit is not in it: it is a function of
 * the set and is made again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/head/head_holds.h"
#include "kernels/head/head_internal.h"

#define IMAGE_MAGIC 0x3364616568646c00 /* "\0ldhead3" */

enum { MARK_CONFIRMED = 1, MARK_DISTRUSTED = 2 };

struct header {
    uint64_t magic, seed, bytes;
    double lambda;
    uint32_t dim, features, labels, examples, kind, zero;
};

struct cursor {
    uint8_t *at;
    const uint8_t *end; /* reading: what is left; NULL while writing or measuring */
    size_t bytes;
    bool measure, failed;
};

static void put(struct cursor *c, const void *bytes, size_t len)
{
    if (!c->measure)
        memcpy(c->at + c->bytes, bytes, len);
    c->bytes += len;
}

static void walk(const struct head *h, struct cursor *c)
{
    size_t M = h->settings.features, L = h->labels_len, d = h->settings.dim;

    put(c, h->n, L * sizeof *h->n);
    for (size_t i = 0; i < L; i++)
        put(c, h->A + i * h->labels_max, L * sizeof *h->A);
    for (size_t i = 0; i < M; i++)
        put(c, h->P + i * M, (i + 1) * sizeof *h->P);
    for (size_t i = 0; i < M; i++)
        put(c, h->G + i * M, (i + 1) * sizeof *h->G);
    for (size_t i = 0; i < M; i++)
        put(c, h->W + i * h->labels_max, L * sizeof *h->W);
    for (size_t i = 0; i < M; i++)
        put(c, h->Q + i * h->labels_max, L * sizeof *h->Q);
    put(c, h->S, L * d * sizeof *h->S);
    for (uint32_t slot = 0; slot < h->examples_len; slot++) {
        const struct example *e = &h->examples[slot];
        struct head_id id = examples_id(h, slot);
        uint32_t marks =
            (e->confirmed ? MARK_CONFIRMED : 0) | (e->distrusted ? MARK_DISTRUSTED : 0);

        put(c, &id, sizeof id);
        put(c, &e->taught, sizeof e->taught);
        put(c, &marks, sizeof marks);
        put(c, &e->targets_len, sizeof e->targets_len);
        put(c, examples_targets(h, slot), e->targets_len * sizeof(struct head_target));
        put(c, examples_embedding(h, slot), d * sizeof(uint16_t));
    }
}

size_t head_image_bytes(const struct head *h)
{
    struct cursor c = {.measure = true, .bytes = sizeof(struct header)};

    walk(h, &c);
    return c.bytes;
}

void head_image_write(const struct head *h, void *image)
{
    struct cursor c = {.at = image};
    struct header header = {.magic = IMAGE_MAGIC,
                            .seed = h->settings.seed,
                            .bytes = head_image_bytes(h),
                            .lambda = h->settings.lambda,
                            .dim = h->settings.dim,
                            .features = h->settings.features,
                            .labels = h->labels_len,
                            .examples = h->examples_len,
                            .kind = h->settings.kind};

    put(&c, &header, sizeof header);
    walk(h, &c);
}

/* ---- reading --------------------------------------------------------------------------------- */

static void get(struct cursor *c, void *to, size_t len)
{
    if (c->failed || (size_t)(c->end - c->at) < len) {
        c->failed = true;
        return;
    }
    memcpy(to, c->at, len);
    c->at += len;
}

static void get_rows(struct cursor *c, double *to, size_t rows, size_t columns, size_t stride)
{
    for (size_t i = 0; i < rows && !c->failed; i++)
        get(c, to + i * stride, columns * sizeof *to);
}

static void get_lower(struct cursor *c, double *to, size_t rows)
{
    for (size_t i = 0; i < rows && !c->failed; i++)
        get(c, to + i * rows, (i + 1) * sizeof *to);
}

static int get_example(struct head *h, struct cursor *c, struct head_target *targets,
                       uint16_t *embedding)
{
    struct head_change change = {.targets = targets, .embedding = embedding};
    uint32_t marks = 0;
    int rc;

    get(c, &change.id, sizeof change.id);
    get(c, &change.weight, sizeof change.weight);
    get(c, &marks, sizeof marks);
    get(c, &change.targets_len, sizeof change.targets_len);
    if (c->failed || marks > (MARK_CONFIRMED | MARK_DISTRUSTED) ||
        (change.targets_len < 1 && h->settings.kind != HEAD_MULTI) ||
        change.targets_len > h->labels_len)
        return -EINVAL;
    get(c, targets, change.targets_len * sizeof *targets);
    get(c, embedding, h->settings.dim * sizeof *embedding);
    if (c->failed || !(change.weight > 0) || examples_find(h, change.id) != SLOT_NONE)
        return -EINVAL;
    for (uint32_t i = 0; i < change.targets_len; i++)
        if (targets[i].label >= h->labels_len)
            return -EINVAL;
    change.confirmed = (marks & MARK_CONFIRMED) != 0;
    rc = examples_set(h, &change);
    if (rc == 0 && (marks & MARK_DISTRUSTED) != 0)
        rc = examples_distrust(h, examples_find(h, change.id), true);
    return rc;
}

static int get_state(struct head *h, struct cursor *c, uint32_t examples)
{
    size_t M = h->settings.features, L = h->labels_len, d = h->settings.dim;
    struct head_target *targets = malloc((L + 1) * sizeof *targets);
    uint16_t *embedding = malloc(d * sizeof *embedding);
    int rc = targets != NULL && embedding != NULL ? 0 : -ENOMEM;

    get(c, h->n, L * sizeof *h->n);
    get_rows(c, h->A, L, L, h->labels_max);
    get_lower(c, h->P, M);
    get_lower(c, h->G, M);
    get_rows(c, h->W, M, L, h->labels_max);
    get_rows(c, h->Q, M, L, h->labels_max);
    get(c, h->S, L * d * sizeof *h->S);
    for (uint32_t i = 0; i < examples && rc == 0; i++)
        rc = get_example(h, c, targets, embedding);
    if (rc == 0 && (c->failed || c->at != c->end))
        rc = -EINVAL;
    free(targets);
    free(embedding);
    h->stale = h->examples_len; /* the fit is not in the image */
    return rc;
}

uint32_t head_image_dim(const void *image, size_t image_bytes)
{
    struct header header;

    if (image_bytes < sizeof header)
        return 0;
    memcpy(&header, image, sizeof header);
    return header.magic == IMAGE_MAGIC ? header.dim : 0;
}

int head_image_read(const struct head_settings *settings, const void *image, size_t image_bytes,
                    struct head **ret_head)
{
    struct header header;
    struct cursor c;
    struct head *h;
    int rc;

    if (image_bytes < sizeof header)
        return -EINVAL;
    memcpy(&header, image, sizeof header);
    if (header.magic != IMAGE_MAGIC || header.bytes != image_bytes ||
        header.seed != settings->seed || header.lambda != settings->lambda ||
        header.kind != settings->kind || header.dim != settings->dim ||
        header.features != settings->features || header.labels > (1u << 20) ||
        (uint64_t)header.labels * header.labels * 8 > image_bytes)
        return -EINVAL;
    rc = head_open(settings, &h);
    if (rc != 0)
        return rc;
    c = (struct cursor){.at = (uint8_t *)(uintptr_t)image + sizeof header,
                        .end = (const uint8_t *)image + image_bytes};
    rc = head_labels_grow(h, header.labels);
    if (rc == 0)
        rc = get_state(h, &c, header.examples);
    if (rc != 0) {
        head_close(h);
        return rc;
    }
    *ret_head = h;
    return 0;
}
