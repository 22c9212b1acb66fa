/* ops_run.c -- see ops_run.h. Inputs come from a counter, scaled so that every result is about 1:
 * then one tolerance fits all elements of a case. Rows of the ladder behind the batch hold NaN,
 * because no operation may read them.
 */
#include "tests/ops/ops_run.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/simd.h"
#include "kernels/head/head.h"
#include "tests/ops/plain.h"

enum { VOCAB = 97, SEGMENTS = 2 };
#define EPS 1e-12f
#define SCALE 0.25f /* of head_features */

const char *ops_name(enum op_kind op)
{
    static const char *names[OP_KINDS] = {
        "embed", "linear",        "own_linear", "attention",       "add_layernorm",
        "pool",  "head_features", "head_dense", "head_similarity",
    };

    return names[op];
}

void ops_shape(const struct ops_case *c, char *text)
{
    static const char *how[OP_KINDS][3] = {
        [OP_EMBED] = {"types", "no_types"},
        [OP_LINEAR] = {"none", "gelu", "no_bias"},
        [OP_OWN_LINEAR] = {"none", NULL, "no_bias"},
        [OP_ATTENTION] = {"even", "peaked"},
        [OP_ADD_LAYERNORM] = {"apart", "over_residual", "over_x"},
        [OP_POOL] = {"mean", "cls"},
    };
    size_t len;

    len = (size_t)snprintf(text, 64, "%s %s%s", c->dtype == K_BF16 ? "bf16" : "fp32",
                           how[c->op][c->how] != NULL ? how[c->op][c->how] : "",
                           how[c->op][c->how] != NULL ? " " : "");
    for (int i = 0; i < OPS_TEXTS_MAX && c->lens[i] > 0; i++)
        len += (size_t)snprintf(text + len, 64 - len, "%s%u", i > 0 ? "+" : "", c->lens[i]);
    if (c->lens[0] == 0)
        len += (size_t)snprintf(text + len, 64 - len, "%u", c->N);
    len += (size_t)snprintf(text + len, 64 - len, "x%u", c->M);
    if (c->K > 0)
        snprintf(text + len, 64 - len, "x%u", c->K);
}

float ops_draw(uint64_t seed, size_t i)
{
    float sum = 0;

    for (int k = 0; k < 4; k++) {
        uint64_t z = seed * 0x9E3779B97F4A7C15 + i * 4 + (uint64_t)k + 1;

        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
        z = (z ^ z >> 27) * 0x94D049BB133111EB;
        sum += (float)((z ^ z >> 31) >> 40) * 0x1p-24f - 0.5f;
    }
    return sum * 1.7320508f;
}

double ops_value(struct kview v, size_t i)
{
    float f;

    if (v.dtype == K_F32)
        return ((const float *)v.data)[i];
    simd_pick()->from_bf16(&f, (const uint16_t *)v.data + i, 1);
    return f;
}

/* (rows,columns) random values times scale plus shift, on the device in dtype and exactly as the
 * dtype rounds them. */
static int fill(struct ops_run *run, int at, uint32_t rows, uint32_t columns, enum kdtype dtype,
                float scale, float shift, uint64_t seed)
{
    struct ops_buffer *b = &run->in[at];
    size_t len = (size_t)rows * columns, all = (size_t)run->be->rows(rows) * columns;
    float *host = malloc(all * sizeof *host);
    int rc = host != NULL ? 0 : -ENOMEM;

    *b = (struct ops_buffer){NULL, {NULL, dtype}, columns, len};
    b->exact = malloc(len * sizeof *b->exact);
    if (rc == 0 && b->exact == NULL)
        rc = -ENOMEM;
    if (rc == 0)
        rc = run->be->alloc(K_CONTEXTS, all * 4, &b->device.data);
    for (size_t i = 0; i < all && rc == 0; i++)
        host[i] = i < len ? ops_draw(seed + (uint64_t)at, i) * scale + shift : NAN;
    if (rc == 0)
        rc = run->be->upload(b->device.data, dtype, host, all);
    for (size_t i = 0; i < len && rc == 0; i++)
        b->exact[i] = ops_value(b->device, i);
    free(host);
    return rc;
}

/* Rows of unit length in fp16, as examples are kept. */
static int fill_half(struct ops_run *run, int at, uint32_t rows, uint32_t columns, uint64_t seed)
{
    struct ops_buffer *b = &run->in[at];
    int rc = fill(run, at, rows, columns, K_F32, 1 / sqrtf((float)columns), 0, seed);
    uint16_t *packed = malloc((b->len + 1) * sizeof *packed);

    if (rc == 0 && packed != NULL) {
        head_embedding_pack(b->device.data, (uint32_t)b->len, packed);
        for (size_t i = 0; i < b->len; i++) { /* normal numbers and zero only: exact by hand */
            uint32_t e = packed[i] >> 10 & 31, m = packed[i] & 1023;
            double v = e > 0 ? ldexp(1024 + m, (int)e - 25) : ldexp(m, -24);

            b->exact[i] = packed[i] & 0x8000 ? -v : v;
        }
        memcpy(b->device.data, packed, b->len * sizeof *packed);
    }
    free(packed);
    return rc;
}

static int make_embed(struct ops_run *run, uint64_t seed)
{
    uint32_t C = run->c->M, longest = 0;
    int rc;

    run->ids = malloc(run->rows * sizeof *run->ids);
    run->types = malloc(run->rows);
    if (run->ids == NULL || run->types == NULL)
        return -ENOMEM;
    for (uint32_t t = 0; t < run->rows; t++) {
        run->ids[t] = (int32_t)(fabsf(ops_draw(seed, t)) * 1000) % VOCAB;
        run->types[t] = run->c->how == 1 ? 0 : t % 3 == 0;
    }
    for (uint32_t b = 0; b < run->units; b++)
        longest = run->c->lens[b] > longest ? run->c->lens[b] : longest;
    rc = fill(run, 0, VOCAB, C, run->c->dtype, 1, 0, seed);
    if (rc == 0)
        rc = fill(run, 1, longest, C, run->c->dtype, 1, 0, seed);
    if (rc == 0)
        rc = fill(run, 2, SEGMENTS, C, run->c->dtype, 1, 0, seed);
    return rc;
}

static int make_linear(struct ops_run *run, uint64_t seed)
{
    const struct ops_case *c = run->c;
    size_t len = (size_t)c->M * c->K;
    const float *bias;
    float *w;
    int rc = fill(run, 0, c->N, c->K, c->dtype, 1, 0, seed);

    if (rc == 0)
        rc = fill(run, 1, c->M, c->K, c->dtype, 1 / sqrtf((float)c->K), 0, seed);
    if (rc == 0)
        rc = fill(run, 2, 1, c->M, K_F32, 0.5f, 0, seed);
    if (rc != 0)
        return rc;
    w = malloc((len + c->M) * sizeof *w);
    if (w == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < len; i++)
        w[i] = (float)run->in[1].exact[i];
    for (uint32_t m = 0; m < c->M; m++)
        w[len + m] = (float)run->in[2].exact[m];
    bias = c->how == 2 ? NULL : w + len;
    rc = c->op == OP_OWN_LINEAR ? own_mat_load(w, c->M, c->K, c->dtype, &run->own)
                                : run->be->mat_load(w, bias, c->M, c->K, c->dtype, &run->mat);
    free(w);
    return rc;
}

static int make(struct ops_run *run, uint64_t seed)
{
    const struct ops_case *c = run->c;
    uint32_t C = c->M;
    int rc = 0;

    switch (c->op) {
    case OP_EMBED:
        rc = make_embed(run, seed);
        break;
    case OP_LINEAR:
    case OP_OWN_LINEAR:
        return make_linear(run, seed);
    case OP_ATTENTION: /* peaked: scores of about +-60 within one text */
        return fill(run, 0, run->rows, 3 * C, c->dtype, c->how == 1 ? 8 : 1, 0, seed);
    case OP_POOL:
        return fill(run, 0, run->rows, C, c->dtype, 1, 0.5f, seed);
    case OP_ADD_LAYERNORM:
        rc = fill(run, 0, c->N, C, c->dtype, 1, 3, seed);
        if (rc == 0)
            rc = fill(run, 1, c->N, C, c->dtype, 2, 0, seed);
        break;
    case OP_HEAD_FEATURES:
        rc = fill(run, 0, c->N, c->K, K_F32, 1, 0, seed);
        return rc != 0 ? rc : fill(run, 1, c->K, c->M, K_F32, 1 / sqrtf((float)c->K), 0, seed);
    case OP_HEAD_DENSE:
        rc = fill(run, 0, c->N, c->K, K_F32, 1, 0, seed);
        return rc != 0 ? rc : fill(run, 1, c->M, c->K, K_F32, 1 / sqrtf((float)c->K), 0, seed);
    case OP_HEAD_SIMILARITY:
        rc = fill(run, 0, c->N, c->K, K_F32, 1, 0, seed);
        return rc != 0 ? rc : fill_half(run, 1, c->M, c->K, seed);
    case OP_KINDS:
        return -EINVAL;
    }
    if (rc == 0) /* gamma and beta */
        rc = fill(run, 4, 1, C, K_F32, 0.3f, 1, seed);
    return rc != 0 ? rc : fill(run, 5, 1, C, K_F32, 0.3f, 0, seed);
}

int ops_run_init(struct ops_run *run, const struct ops_case *c, const struct backend *be,
                 uint64_t seed)
{
    bool tokens = c->op == OP_EMBED || c->op == OP_ATTENTION;
    int rc;

    *run = (struct ops_run){
        .c = c, .be = be, .units = c->N, .rows = c->N, .y_columns = c->M, .threads = 1};
    if (c->lens[0] > 0) {
        for (run->units = 0; run->units < OPS_TEXTS_MAX && c->lens[run->units] > 0; run->units++)
            run->offsets[run->units + 1] = run->offsets[run->units] + c->lens[run->units];
        run->rows = run->offsets[run->units];
    }
    run->y_dtype = c->op >= OP_POOL ? K_F32 : c->dtype;
    run->y_rows = tokens ? run->rows : run->units;
    run->at = malloc((run->units + 1) * sizeof *run->at);
    if (run->at == NULL)
        return -ENOMEM;
    for (uint32_t u = 0; u <= run->units; u++)
        run->at[u] = (size_t)(tokens ? run->offsets[u] : u) * c->M;
    rc = make(run, seed);
    if (rc != 0)
        ops_run_done(run);
    return rc;
}

void ops_run_done(struct ops_run *run)
{
    for (int i = 0; i < OPS_BUFFERS; i++) {
        free(run->in[i].exact);
        run->be->dealloc(run->in[i].device.data);
    }
    run->be->mat_free(run->mat);
    own_mat_free(run->own);
    free(run->ids);
    free(run->types);
    free(run->at);
}

/* ---- on the device --------------------------------------------------------------------------- */

/* The view of a buffer from a row on. */
static struct kview from_row(const struct ops_buffer *b, uint32_t row)
{
    size_t bytes = (size_t)row * b->columns * (b->device.dtype == K_BF16 ? 2 : 4);

    return (struct kview){(char *)b->device.data + bytes, b->device.dtype};
}

static size_t copy_bytes(const struct ops_buffer *b, uint32_t rows)
{
    return (size_t)rows * b->columns * (b->device.dtype == K_BF16 ? 2 : 4);
}

static void device_rows(const struct ops_run *run, struct kctx *k, uint32_t from, uint32_t len,
                        struct kview y)
{
    const struct ops_case *c = run->c;
    const struct backend *be = run->be;
    struct kview x = from_row(&run->in[0], from), r = from_row(&run->in[1], from);

    switch (c->op) {
    case OP_LINEAR:
        be->linear(k, y, x, run->mat, c->how == 1 ? K_GELU : K_NONE, len);
        break;
    case OP_OWN_LINEAR:
        if (own_linear_run(y.data, x.data, run->own, c->how == 2 ? NULL : run->in[2].device.data,
                           len, run->threads) != 0)
            abort();
        break;
    case OP_ADD_LAYERNORM:
        if (c->how > 0) {
            const struct ops_buffer *over = &run->in[c->how == 1];

            memcpy(y.data, from_row(over, from).data, copy_bytes(over, len));
            *(c->how == 1 ? &r : &x) = y;
        }
        be->add_layernorm(k, y, x, r, run->in[4].device.data, run->in[5].device.data, EPS, len,
                          c->M);
        break;
    case OP_HEAD_FEATURES:
        be->head_features(k, y.data, x.data, run->in[1].device.data, SCALE, len, c->K, c->M);
        break;
    case OP_HEAD_DENSE:
        be->head_dense(k, y.data, x.data, run->in[1].device.data, len, c->K, c->M);
        break;
    case OP_HEAD_SIMILARITY:
        be->head_similarity(k, y.data, x.data, run->in[1].device.data, len, c->M, c->K);
        break;
    default:
        abort();
    }
}

void ops_run_device(const struct ops_run *run, struct kctx *k, uint32_t from, uint32_t len,
                    struct kview y)
{
    const struct ops_case *c = run->c;
    uint32_t offsets[OPS_TEXTS_MAX + OPS_WIDER + 1],
        start = run->offsets[c->lens[0] > 0 ? from : 0];
    struct kbatch batch = {.offsets = offsets, .seqs = len};

    if (c->lens[0] == 0) {
        device_rows(run, k, from, len, y);
        return;
    }
    for (uint32_t b = 0; b <= len; b++)
        offsets[b] = run->offsets[from + b] - start;
    for (uint32_t b = 0; b < len; b++)
        batch.longest = c->lens[from + b] > batch.longest ? c->lens[from + b] : batch.longest;
    batch.tokens = offsets[len];
    if (run->wider) {
        batch.seqs += OPS_WIDER;
        batch.tokens += OPS_WIDER;
        batch.longest += OPS_WIDER;
        for (uint32_t b = 0; b < OPS_WIDER; b++)
            offsets[len + b + 1] = offsets[len];
    }
    if (c->op == OP_EMBED)
        run->be->embed(k, y, run->ids + start, c->how == 1 ? NULL : run->types + start, &batch,
                       run->in[0].device, run->in[1].device, run->in[2].device,
                       run->in[4].device.data, run->in[5].device.data, EPS, c->M);
    else if (c->op == OP_ATTENTION)
        run->be->attention(k, y, from_row(&run->in[0], start), &batch, c->M, c->K);
    else
        run->be->pool(k, y.data, from_row(&run->in[0], start), &batch, c->M,
                      c->how == 1 ? K_POOL_CLS : K_POOL_MEAN);
}

/* ---- in plain loops -------------------------------------------------------------------------- */

static void embed_plain(const struct ops_run *run, double *y)
{
    uint32_t C = run->c->M, T = run->rows;
    double *rows = malloc(3 * (size_t)T * C * sizeof *rows);

    if (rows == NULL)
        abort();
    for (uint32_t b = 0; b < run->units; b++)
        for (uint32_t t = run->offsets[b]; t < run->offsets[b + 1]; t++) {
            uint32_t wanted[3] = {(uint32_t)run->ids[t], t - run->offsets[b], run->types[t]};

            for (uint32_t i = 0; i < 3; i++)
                memcpy(rows + ((size_t)i * T + t) * C, run->in[i].exact + (size_t)wanted[i] * C,
                       C * sizeof *rows);
        }
    plain_embed(y, rows, rows + (size_t)T * C, rows + 2 * (size_t)T * C, run->in[4].exact,
                run->in[5].exact, EPS, T, C);
    free(rows);
}

void ops_run_plain(const struct ops_run *run, double *y)
{
    const struct ops_case *c = run->c;
    const double *x = run->in[0].exact, *w = run->in[1].exact;

    switch (c->op) {
    case OP_EMBED:
        embed_plain(run, y);
        break;
    case OP_LINEAR:
    case OP_OWN_LINEAR:
        plain_linear(y, x, w, c->how == 2 ? NULL : run->in[2].exact, c->how == 1, c->N, c->M, c->K);
        break;
    case OP_ATTENTION:
        plain_attention(y, x, run->offsets, run->units, c->M, c->K);
        break;
    case OP_ADD_LAYERNORM:
        plain_add_layernorm(y, x, w, run->in[4].exact, run->in[5].exact, EPS, c->N, c->M);
        break;
    case OP_POOL:
        plain_pool(y, x, run->offsets, run->units, c->M, c->how == 1);
        break;
    case OP_HEAD_FEATURES:
        plain_features(y, x, w, SCALE, c->N, c->K, c->M);
        break;
    case OP_HEAD_DENSE:
    case OP_HEAD_SIMILARITY:
        plain_linear(y, x, w, NULL, false, c->N, c->M, c->K);
        break;
    case OP_KINDS:
        break;
    }
}

/* ---- for bench ------------------------------------------------------------------------------- */

double ops_run_flops(const struct ops_run *run)
{
    const struct ops_case *c = run->c;
    double squares = 0;

    for (uint32_t b = 0; b < run->units && c->lens[0] > 0; b++)
        squares += (double)c->lens[b] * c->lens[b];
    if (c->op == OP_ATTENTION)
        return 4 * squares * c->M;
    if (c->op == OP_LINEAR || c->op == OP_OWN_LINEAR || c->op == OP_HEAD_FEATURES)
        return 2.0 * c->N * c->M * c->K;
    return 0;
}

double ops_run_bytes(const struct ops_run *run)
{
    double element = run->c->dtype == K_BF16 ? 2 : 4;
    double rows = (double)run->rows * run->c->M * element;

    if (run->c->op == OP_EMBED)
        return 4 * rows;
    if (run->c->op == OP_ADD_LAYERNORM)
        return 3 * rows;
    if (run->c->op == OP_POOL)
        return rows + 4.0 * run->units * run->c->M;
    return (double)run->c->M * run->c->K * (run->c->op == OP_HEAD_SIMILARITY ? 2 : 4) +
           4.0 * run->rows * (run->c->M + run->c->K);
}
