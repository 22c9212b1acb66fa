/* encoder.c -- opening an encoder, and its forward pass over a packed batch.
 *
 *   ids -> word + position + segment, layer norm -> x(T,C)
 *   per layer: qkv(T,3C) = x Wqkv; a(T,C) = attention; x = norm(x + a Wout); h(T,F) = gelu(x Wup);
 * x = norm(x + h Wdown) pool per text, unit length -> embeddings(B,C)
 */
#include "kernels/encoder/encoder.h"

#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/encoder/encoder_weights.h"

struct encoder_ctx {
    const struct encoder *encoder;
    const struct backend *backend; /* as the encoder's, which may be gone before the context */
    struct kctx *k;
    uint32_t tokens_max, seqs_max;
    uint32_t narrow_max, wide_max; /* columns that the views have room for */
    uint32_t layout;               /* how often they have moved */
    enum kdtype dtype;
    struct kview x, a, wide; /* (T,C) (T,C) (T, 3C or F) */
    /* What host and device both see. */
    int32_t *ids;      /* (T) */
    uint8_t *types;    /* (T) */
    uint32_t *offsets; /* (B+1) */
    float *y;          /* (B,C) */
    /* In hand: its shape may be wider than its texts. */
    struct kbatch batch;
    bool typed; /* types are not all 0 */
};

int encoder_open(const struct backend *backend, const char *folder,
                 enum encoder_precision precision, char *why, size_t why_bytes,
                 struct encoder **ret_encoder)
{
    static atomic_ullong opened;
    struct encoder *e = calloc(1, sizeof *e);
    int rc;

    if (e == NULL) {
        snprintf(why, why_bytes, "out of memory");
        return -ENOMEM;
    }
    e->number = atomic_fetch_add(&opened, 1);
    e->backend = backend;
    e->dtype = precision == ENCODER_BF16 ? K_BF16 : K_F32;
    rc = encoder_config_read(folder, why, why_bytes, &e->config);
    if (rc == 0)
        rc = encoder_weights_read(e, folder, why, why_bytes);
    if (rc != 0) {
        encoder_close(e);
        return rc;
    }
    e->info.dim = e->config.C;
    e->info.layers = e->config.layers;
    e->info.heads = e->config.H;
    e->info.ffn = e->config.F;
    e->info.vocab_len = e->config.V;
    e->info.tokens_max = e->config.tokens_max;
    e->info.positions = e->config.positions;
    e->info.pooling = e->config.pooling;
    e->info.precision = precision;
    e->info.backend = e->backend->name;
    *ret_encoder = e;
    return 0;
}

void encoder_close(struct encoder *e)
{
    if (e == NULL)
        return;
    encoder_weights_free(e);
    free(e);
}

const struct encoder_info *encoder_info(const struct encoder *e)
{
    return &e->info;
}

/* A new view of the context's rows in place of an old one, which stays where there is no memory. */
static int view_reopen(struct encoder_ctx *ctx, uint32_t columns, struct kview *view)
{
    size_t row = columns * (size_t)(ctx->dtype == K_BF16 ? 2 : 4);
    void *data;
    int rc = ctx->backend->alloc(K_CONTEXTS, ctx->backend->rows(ctx->tokens_max) * row, &data);

    if (rc != 0)
        return rc;
    ctx->backend->dealloc(view->data);
    *view = (struct kview){data, ctx->dtype};
    return 0;
}

static int y_reopen(struct encoder_ctx *ctx, uint32_t columns)
{
    void *data;
    int rc = ctx->backend->alloc_shared(K_CONTEXTS, (size_t)ctx->seqs_max * columns * sizeof(float),
                                        &data);

    if (rc != 0)
        return rc;
    ctx->backend->dealloc_shared(ctx->y);
    ctx->y = data;
    return 0;
}

int encoder_ctx_use(struct encoder_ctx *ctx, const struct encoder *e)
{
    const uint32_t C = e->config.C, F = e->config.F, wide = F > 3 * C ? F : 3 * C;
    int rc = 0;

    if (e->backend != ctx->backend)
        return -EXDEV;
    if (e->dtype != ctx->dtype)
        return -EINVAL;
    ctx->layout += C > ctx->narrow_max || wide > ctx->wide_max;
    if (C > ctx->narrow_max) {
        rc = view_reopen(ctx, C, &ctx->x);
        if (rc == 0)
            rc = view_reopen(ctx, C, &ctx->a);
        if (rc == 0)
            rc = y_reopen(ctx, C);
        if (rc == 0)
            ctx->narrow_max = C;
    }
    if (rc == 0 && wide > ctx->wide_max) {
        rc = view_reopen(ctx, wide, &ctx->wide);
        if (rc == 0)
            ctx->wide_max = wide;
    }
    if (rc == 0)
        ctx->encoder = e;
    return rc;
}

/* The packed batch's place; its pieces are aligned as 64 bytes are. */
static int batch_open(struct encoder_ctx *ctx)
{
    void *ids, *types, *offsets;
    int rc = ctx->backend->alloc_shared(K_CONTEXTS, ctx->tokens_max * sizeof *ctx->ids, &ids);

    if (rc != 0)
        return rc;
    ctx->ids = ids;
    rc = ctx->backend->alloc_shared(K_CONTEXTS, ctx->tokens_max, &types);
    if (rc != 0)
        return rc;
    ctx->types = types;
    rc = ctx->backend->alloc_shared(K_CONTEXTS, ((size_t)ctx->seqs_max + 1) * sizeof *ctx->offsets,
                                    &offsets);
    if (rc == 0)
        ctx->offsets = offsets;
    return rc;
}

int encoder_ctx_open(const struct encoder *e, uint32_t tokens_max, uint32_t seqs_max,
                     struct encoder_ctx **ret_ctx)
{
    struct encoder_ctx *ctx = calloc(1, sizeof *ctx);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int rc;

    if (ctx == NULL)
        return -ENOMEM;
    ctx->backend = e->backend;
    ctx->dtype = e->dtype;
    ctx->tokens_max = tokens_max;
    ctx->seqs_max = seqs_max;
    rc = e->backend->ctx_open(tokens_max, cores > 0 ? (uint32_t)cores : 1, K_SERVING, &ctx->k);
    if (rc == 0)
        rc = batch_open(ctx);
    if (rc == 0)
        rc = encoder_ctx_use(ctx, e);
    if (rc != 0) {
        encoder_ctx_close(ctx);
        return rc;
    }
    *ret_ctx = ctx;
    return 0;
}

void encoder_ctx_bytes(const struct backend *backend, const struct encoder_info *info,
                       uint32_t tokens_max, uint32_t seqs_max, uint64_t *ret_bytes,
                       uint64_t *ret_shared_bytes)
{
    const uint32_t C = info->dim, wide = info->ffn > 3 * C ? info->ffn : 3 * C;
    const size_t rows =
        backend->rows(tokens_max) * (size_t)(info->precision == ENCODER_BF16 ? 2 : 4);

    *ret_bytes = backend->ctx_bytes(tokens_max, K_SERVING) + 2 * kroom_bytes(rows * C) +
                 kroom_bytes(rows * wide);
    *ret_shared_bytes = kroom_bytes(tokens_max * sizeof(int32_t)) + kroom_bytes(tokens_max) +
                        kroom_bytes(((size_t)seqs_max + 1) * sizeof(uint32_t)) +
                        kroom_bytes((size_t)seqs_max * C * sizeof(float));
}

void encoder_ctx_close(struct encoder_ctx *ctx)
{
    if (ctx == NULL)
        return;
    ctx->backend->dealloc(ctx->x.data);
    ctx->backend->dealloc(ctx->a.data);
    ctx->backend->dealloc(ctx->wide.data);
    ctx->backend->dealloc_shared(ctx->ids);
    ctx->backend->dealloc_shared(ctx->types);
    ctx->backend->dealloc_shared(ctx->offsets);
    ctx->backend->dealloc_shared(ctx->y);
    ctx->backend->ctx_close(ctx->k);
    free(ctx);
}

static int check(const struct encoder_ctx *ctx, const struct encoder_batch *b)
{
    const struct encoder_config *c = &ctx->encoder->config;

    if (b->seqs < 1 || b->seqs > ctx->seqs_max || b->offsets[0] != 0 ||
        b->offsets[b->seqs] > ctx->tokens_max)
        return -EINVAL;
    for (uint32_t i = 0; i < b->seqs; i++)
        if (b->offsets[i + 1] <= b->offsets[i] || b->offsets[i + 1] - b->offsets[i] > c->positions)
            return -EINVAL;
    for (uint32_t t = 0; t < b->offsets[b->seqs]; t++)
        if (b->ids[t] < 0 || (uint32_t)b->ids[t] >= c->V ||
            (b->types != NULL && b->types[t] >= c->segments))
            return -EINVAL;
    return 0;
}

static void layer_forward(struct encoder_ctx *ctx, const struct encoder_layer *layer)
{
    const struct backend *be = ctx->encoder->backend;
    const struct encoder_config *c = &ctx->encoder->config;
    const uint32_t T = ctx->batch.tokens;
    struct kctx *k = ctx->k;

    be->linear(k, ctx->wide, ctx->x, layer->qkv, K_NONE, T);
    be->attention(k, ctx->a, ctx->wide, &ctx->batch, c->C, c->H);
    be->linear(k, ctx->wide, ctx->a, layer->out, K_NONE, T);
    be->add_layernorm(k, ctx->x, ctx->wide, ctx->x, layer->attention_gamma, layer->attention_beta,
                      c->eps, T, c->C);
    be->linear(k, ctx->wide, ctx->x, layer->up, K_GELU, T);
    be->linear(k, ctx->a, ctx->wide, layer->down, K_NONE, T);
    be->add_layernorm(k, ctx->x, ctx->a, ctx->x, layer->output_gamma, layer->output_beta, c->eps, T,
                      c->C);
}

/* The batch to where the device sees it, a few kB: nothing beside the forward. True: in a shape
 * that comes again, with texts of no tokens at its end. */
static bool take_batch(struct encoder_ctx *ctx, const struct encoder_batch *b)
{
    const struct backend *be = ctx->backend;
    const uint32_t T = b->offsets[b->seqs];
    struct kbatch *shape = &ctx->batch;
    bool again;

    memcpy(ctx->ids, b->ids, T * sizeof *ctx->ids);
    ctx->typed = b->types != NULL;
    if (ctx->typed)
        memcpy(ctx->types, b->types, T);
    memcpy(ctx->offsets, b->offsets, ((size_t)b->seqs + 1) * sizeof *ctx->offsets);
    *shape = (struct kbatch){ctx->offsets, b->seqs, T, 0};
    for (uint32_t i = 0; i < b->seqs; i++) {
        uint32_t len = b->offsets[i + 1] - b->offsets[i];

        shape->longest = len > shape->longest ? len : shape->longest;
    }
    again = be->widen != NULL && be->widen(shape, ctx->seqs_max, be->rows(ctx->tokens_max));
    for (uint32_t i = b->seqs; i < shape->seqs; i++)
        ctx->offsets[i + 1] = T;
    return again;
}

/* The forward of the batch in hand, operation by operation. */
static void enqueue(void *ud)
{
    struct encoder_ctx *ctx = ud;
    const struct encoder *e = ctx->encoder;
    const struct backend *be = e->backend;

    be->embed(ctx->k, ctx->x, ctx->ids, ctx->typed ? ctx->types : NULL, &ctx->batch, e->word,
              e->position, e->segment, e->gamma, e->beta, e->config.eps, e->config.C);
    for (uint32_t i = 0; i < e->config.layers; i++)
        layer_forward(ctx, &e->layers[i]);
    be->pool(ctx->k, ctx->y, ctx->x, &ctx->batch, e->config.C,
             e->config.pooling == ENCODER_POOL_CLS ? K_POOL_CLS : K_POOL_MEAN);
}

int encoder_forward(struct encoder_ctx *ctx, const struct encoder_batch *b, uint32_t threads,
                    float *embeddings)
{
    const struct encoder *e = ctx->encoder;
    const struct backend *be = e->backend;
    const size_t values = (size_t)b->seqs * e->config.C;
    int rc = check(ctx, b);

    if (rc != 0)
        return rc;
    be->ctx_threads(ctx->k, threads);
    if (take_batch(ctx, b)) {
        const struct kkey key = {e->number, ctx->batch.seqs, ctx->batch.tokens, ctx->batch.longest,
                                 2 * ctx->layout + ctx->typed};

        be->repeat(ctx->k, &key, enqueue, ctx);
    } else {
        enqueue(ctx);
    }
    rc = be->sync(ctx->k);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < values && rc == 0; i++)
        if (!isfinite(ctx->y[i]))
            rc = -EDOM;
    memcpy(embeddings, ctx->y, values * sizeof *embeddings);
    return rc;
}
