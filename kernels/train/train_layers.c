/* train_layers.c -- the encoder forward and backward over one piece of a batch, side by side.
 *
 *   x0 = drop(norm(s0)), s0 = word + position + segment
 *   qkv = x Wqkv; a = attention(qkv); s1 = drop(a Wout) + x; x1 = norm(s1);
 *   u = x1 Wup; h = gelu(u); s2 = drop(h Wdown) + x1; x2 = norm(s2): the next x
 *
 * Backwards a gradient comes down on two ways, through the layer (dy) and past it (dres); they meet
 * at the layer norms. Kept between forward and backward: 8 C + 2 F values a token and layer.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/train/train_internal.h"

/* ---- memory ---------------------------------------------------------------------------------- */

/* One walk measures (base NULL), a second one hands out. */
struct carving {
    uint8_t *base;
    size_t bytes;
    uint32_t rows;
    enum kdtype dtype;
};

static void *carve(struct carving *c, size_t bytes)
{
    size_t at = c->bytes;

    c->bytes += (bytes + 63) / 64 * 64;
    return c->base != NULL ? c->base + at : NULL;
}

static struct kview carve_view(struct carving *c, uint32_t columns)
{
    size_t value = c->dtype == K_BF16 ? 2 : 4;

    return (struct kview){carve(c, (size_t)c->rows * columns * value), c->dtype};
}

static void carve_layer(struct carving *c, const struct train *t, struct kept_layer *l)
{
    const uint32_t C = t->config.C, F = t->config.F;
    size_t stats = (size_t)c->rows * 2 * sizeof(float);

    *l = (struct kept_layer){.qkv = carve_view(c, 3 * C),
                             .a = carve_view(c, C),
                             .s1 = carve_view(c, C),
                             .x1 = carve_view(c, C),
                             .u = carve_view(c, F),
                             .h = carve_view(c, F),
                             .s2 = carve_view(c, C),
                             .x2 = carve_view(c, C),
                             .stats1 = carve(c, stats),
                             .stats2 = carve(c, stats)};
}

static void carve_device(struct carving *c, const struct train *t, struct piece *p)
{
    const uint32_t C = t->config.C, F = t->config.F;
    const struct kloss most = {.B = p->seqs_max,
                               .C = C,
                               .L = t->settings.labels_len,
                               .targets_len = p->loss.targets_max,
                               .teachers_len = p->loss.teachers_max};
    size_t vectors = (size_t)p->seqs_max * C * sizeof(float);

    p->s0 = carve_view(c, C);
    p->x0 = carve_view(c, C);
    p->stats0 = carve(c, (size_t)c->rows * 2 * sizeof *p->stats0);
    for (uint32_t i = 0; i < t->config.layers; i++)
        carve_layer(c, t, &p->layers[i]);
    p->dy = carve_view(c, C);
    p->dres = carve_view(c, C);
    p->dx = carve_view(c, C);
    p->wide = carve_view(c, F > 3 * C ? F : 3 * C);
    p->y = carve(c, vectors);
    p->dembedding = carve(c, vectors);
    p->length = carve(c, p->seqs_max * sizeof *p->length);
    p->loss_scratch = carve(c, t->ops->loss_bytes(&most));
}

static void carve_shared(struct carving *c, const struct train *t, struct piece *p)
{
    size_t rows = c->rows, seqs = p->seqs_max;
    struct kept_loss *l = &p->loss;

    p->ids = carve(c, rows * sizeof *p->ids);
    p->types = carve(c, rows);
    p->offsets = carve(c, ((size_t)p->seqs_max + 1) * sizeof *p->offsets);
    p->keys = carve(c, rows * sizeof *p->keys);
    l->losses = carve(c, seqs * K_LOSSES * sizeof *l->losses);
    l->texts = carve(c, seqs * sizeof *l->texts);
    l->targets = carve(c, l->targets_max * sizeof *l->targets);
    l->teachers = carve(c, l->teachers_max * sizeof *l->teachers);
    l->features = carve(c, seqs * t->config.C * sizeof *l->features);
}

typedef void carve_fn(struct carving *c, const struct train *t, struct piece *p);

/* Measured, asked for, handed out. */
static int carve_memory(struct train *t, carve_fn *carve_it, uint32_t rows,
                        int (*alloc)(enum kroom room, size_t bytes, void **ret_data),
                        void **ret_memory)
{
    struct carving c = {.rows = rows, .dtype = t->dtype};
    void *memory;
    int rc;

    carve_it(&c, t, &t->piece);
    rc = alloc(K_RUNS, c.bytes, &memory);
    if (rc != 0)
        return rc;
    *ret_memory = c.base = memory;
    c.bytes = 0;
    carve_it(&c, t, &t->piece);
    return 0;
}

static uint32_t upto(uint32_t n, uint32_t step)
{
    return (n + step - 1) / step * step;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

int piece_reserve(struct train *t, uint32_t tokens, uint32_t seqs, size_t targets, size_t teachers)
{
    const struct piece old = t->piece;
    struct piece *p = &t->piece;
    int rc = -ENOMEM;

    if (tokens <= old.tokens_max && seqs <= old.seqs_max && targets <= old.loss.targets_max &&
        teachers <= old.loss.teachers_max)
        return 0;
    piece_free(t); /* first, so that the old and the new do not stand beside each other */
    p->tokens_max = upto((uint32_t)larger(tokens, old.tokens_max), 64);
    p->seqs_max = upto((uint32_t)larger(seqs, old.seqs_max), 16);
    p->loss.targets_max = larger(targets, old.loss.targets_max);
    p->loss.teachers_max = larger(teachers, old.loss.teachers_max);
    p->layers = calloc(t->config.layers, sizeof *p->layers);
    if (p->layers != NULL)
        rc = carve_memory(t, carve_shared, p->tokens_max, t->backend->alloc_shared, &p->shared);
    if (rc == 0)
        rc = carve_memory(t, carve_device, t->backend->rows(p->tokens_max), t->backend->alloc,
                          &p->memory);
    if (rc != 0)
        piece_free(t);
    return rc;
}

void piece_measure(struct train *t, uint32_t seqs, uint64_t *ret_bytes, uint64_t *ret_shared)
{
    struct kept_layer *layers = calloc(t->config.layers, sizeof *layers);
    struct carving shared = {.rows = upto(t->tokens_max, 64), .dtype = t->dtype};
    struct carving device = {.rows = t->backend->rows(shared.rows), .dtype = t->dtype};
    struct piece p = {.seqs_max = upto(seqs, 16), .layers = layers};
    const size_t labels = (size_t)seqs * t->settings.labels_len;

    p.loss.targets_max = p.loss.teachers_max = labels; /* every text with all of them */

    carve_shared(&shared, t, &p);
    if (layers != NULL)
        carve_device(&device, t, &p);
    *ret_bytes = kroom_bytes(device.bytes);
    *ret_shared = kroom_bytes(shared.bytes);
    free(layers);
}

void piece_free(struct train *t)
{
    t->backend->dealloc(t->piece.memory);
    t->backend->dealloc_shared(t->piece.shared);
    free(t->piece.layers);
    t->piece = (struct piece){0};
}

/* The key of a row's dropout: of the example and its place in it, not of its place in the batch. */
static uint64_t row_key(const struct train *t, const struct train_example *e, uint32_t position)
{
    uint64_t key = train_mix(t->settings.seed + 0x9e3779b97f4a7c15);

    key = train_mix(key ^ t->step);
    key = train_mix(key ^ e->key);
    return train_mix(key ^ position);
}

int piece_pack(struct train *t, const struct train_example *batch, uint32_t len)
{
    struct piece *p = &t->piece;
    uint32_t tokens = 0, at = 0;
    int rc;

    for (uint32_t i = 0; i < len; i++)
        tokens += batch[i].len;
    rc = piece_reserve(t, tokens, len, 0, 0);
    if (rc != 0)
        return rc;
    p->tokens = tokens;
    p->seqs = len;
    p->longest = 0;
    p->offsets[0] = 0;
    for (uint32_t i = 0; i < len; i++) {
        const struct train_example *e = &batch[i];

        p->longest = e->len > p->longest ? e->len : p->longest;
        for (uint32_t n = 0; n < e->len; n++, at++) {
            p->ids[at] = t->masters.row_of[e->ids[n]];
            p->types[at] = e->types != NULL ? e->types[n] : 0;
            p->keys[at] = row_key(t, e, n);
        }
        p->offsets[i + 1] = at;
    }
    return 0;
}

/* ---- the network ----------------------------------------------------------------------------- */

enum site { SITE_EMBEDDING, SITE_LAYERS }; /* then two a layer: after attention, after the FFN */

static struct kdropout dropout(const struct train *t, uint32_t site, bool exact)
{
    return (struct kdropout){
        .rows = t->piece.keys, .site = site, .p = exact ? 0 : t->settings.dropout};
}

static float *weights(const struct train *t, const struct master *p)
{
    return t->masters.w + p->at;
}

static float *gradient(const struct train *t, const struct master *p)
{
    return t->masters.grad + p->at;
}

static enum kpool pooling(const struct train *t)
{
    return t->config.pooling == ENCODER_POOL_CLS ? K_POOL_CLS : K_POOL_MEAN;
}

static void embed_forward(struct train *t, bool exact)
{
    const struct train_embedding *e = &t->masters.embedding;
    struct piece *p = &t->piece;
    struct kdropout drop = dropout(t, SITE_EMBEDDING, exact);

    t->ops->embed(t->k, p->x0, p->s0, p->stats0, p->ids, p->types, p->offsets, p->seqs,
                  weights(t, e->word), weights(t, e->position), weights(t, e->segment),
                  weights(t, e->gamma), weights(t, e->beta), t->config.eps, t->config.C, &drop);
}

/* With adapters the embeddings are not trained, and nothing stands below them. */
static void embed_backward(struct train *t)
{
    const struct train_embedding *e = &t->masters.embedding;
    struct piece *p = &t->piece;
    struct kdropout drop = dropout(t, SITE_EMBEDDING, false);

    if (t->masters.adapters_len > 0)
        return;
    t->ops->add(t->k, p->dy, p->dres, (size_t)p->tokens * t->config.C);
    t->ops->embed_back(t->k, gradient(t, e->word), gradient(t, e->position),
                       gradient(t, e->segment), gradient(t, e->gamma), gradient(t, e->beta), p->dy,
                       p->s0, p->stats0, p->ids, p->types, p->offsets, p->seqs,
                       weights(t, e->gamma), t->config.C, &drop);
}

static struct kview layer_input(const struct train *t, uint32_t layer)
{
    return layer == 0 ? t->piece.x0 : t->piece.layers[layer - 1].x2;
}

static void layer_forward(struct train *t, uint32_t layer, bool exact)
{
    const struct train_layer *l = &t->masters.layers[layer];
    const struct kept_layer *kept = &t->piece.layers[layer];
    const struct piece *p = &t->piece;
    const uint32_t C = t->config.C, T = p->tokens;
    const struct kbatch batch = {p->offsets, p->seqs, T, p->longest};
    struct kview x = layer_input(t, layer);
    struct kdropout drop1 = dropout(t, SITE_LAYERS + 2 * layer, exact);
    struct kdropout drop2 = dropout(t, SITE_LAYERS + 2 * layer + 1, exact);

    t->ops->linear(t->k, kept->qkv, x, l->qkv->mat, weights(t, l->qkv_bias), T);
    t->backend->attention(t->k, kept->a, kept->qkv, &batch, C, t->config.H);
    t->ops->linear(t->k, p->dx, kept->a, l->out->mat, weights(t, l->out_bias), T);
    t->ops->add_layernorm(t->k, kept->x1, kept->s1, kept->stats1, p->dx, x,
                          weights(t, l->attention_gamma), weights(t, l->attention_beta),
                          t->config.eps, T, C, &drop1);
    t->ops->linear(t->k, kept->u, kept->x1, l->up->mat, weights(t, l->up_bias), T);
    t->ops->gelu(t->k, kept->h, kept->u, T, t->config.F);
    t->ops->linear(t->k, p->dx, kept->h, l->down->mat, weights(t, l->down_bias), T);
    t->ops->add_layernorm(t->k, kept->x2, kept->s2, kept->stats2, p->dx, kept->x1,
                          weights(t, l->output_gamma), weights(t, l->output_beta), t->config.eps, T,
                          C, &drop2);
}

/* dy and, below the last layer, dres come from above, and leave as the gradients of x. */
static void layer_backward(struct train *t, uint32_t layer)
{
    const struct train_layer *l = &t->masters.layers[layer];
    const struct kept_layer *kept = &t->piece.layers[layer];
    const struct piece *p = &t->piece;
    const uint32_t C = t->config.C, F = t->config.F, T = p->tokens;
    const struct kview none = {.data = NULL, .dtype = t->dtype};
    struct kview above = layer + 1 == t->config.layers ? none : p->dres;
    struct kview x = layer_input(t, layer);
    struct kdropout drop1 = dropout(t, SITE_LAYERS + 2 * layer, false);
    struct kdropout drop2 = dropout(t, SITE_LAYERS + 2 * layer + 1, false);

    t->ops->add_layernorm_back(t->k, p->dres, p->dx, gradient(t, l->output_gamma),
                               gradient(t, l->output_beta), p->dy, above, kept->s2, kept->stats2,
                               weights(t, l->output_gamma), T, C, &drop2);
    t->ops->linear_dw(t->k, gradient(t, l->down), gradient(t, l->down_bias), p->dx, kept->h, C, F,
                      T);
    t->ops->linear_dx(t->k, p->wide, p->dx, l->down->mat, T);
    t->ops->gelu_back(t->k, p->wide, p->wide, kept->u, T, F);
    t->ops->linear_dw(t->k, gradient(t, l->up), gradient(t, l->up_bias), p->wide, kept->x1, F, C,
                      T);
    t->ops->linear_dx(t->k, p->dy, p->wide, l->up->mat, T);
    t->ops->add_layernorm_back(t->k, p->dres, p->dx, gradient(t, l->attention_gamma),
                               gradient(t, l->attention_beta), p->dy, p->dres, kept->s1,
                               kept->stats1, weights(t, l->attention_gamma), T, C, &drop1);
    t->ops->linear_dw(t->k, gradient(t, l->out), gradient(t, l->out_bias), p->dx, kept->a, C, C, T);
    t->ops->linear_dx(t->k, p->dy, p->dx, l->out->mat, T);
    t->ops->attention_back(t->k, p->wide, p->dy, kept->qkv, p->offsets, p->seqs, C, t->config.H);
    t->ops->linear_dw(t->k, gradient(t, l->qkv), gradient(t, l->qkv_bias), p->wide, x, 3 * C, C, T);
    t->ops->linear_dx(t->k, p->dy, p->wide, l->qkv->mat, T);
}

void piece_forward(struct train *t, bool exact)
{
    struct piece *p = &t->piece;

    embed_forward(t, exact);
    for (uint32_t i = 0; i < t->config.layers; i++)
        layer_forward(t, i, exact);
    t->ops->pool(t->k, p->y, p->length, layer_input(t, t->config.layers), p->offsets, p->seqs,
                 t->config.C, pooling(t));
}

void piece_backward(struct train *t)
{
    struct piece *p = &t->piece;

    t->ops->pool_back(t->k, p->dy, p->dembedding, p->y, p->length, p->offsets, p->seqs, t->config.C,
                      pooling(t));
    for (uint32_t i = t->config.layers; i-- > 0;)
        layer_backward(t, i);
    embed_backward(t);
}
