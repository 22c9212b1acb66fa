/* cuda_training.cu -- the table of training: what each operation is made of. The kernels are in
 * the files beside it.
 */
#include <stdlib.h>

#include "kernels/cuda/cuda_columns.h"
#include "kernels/cuda/cuda_ops.h"

/* Keeps what a product says. */
static void keep(struct kctx *k, int rc)
{
    if (rc != 0)
        cuda_fail(k, rc);
}

/* ---- matrices ---------------------------------------------------------------------------------
 */

static size_t mat_bytes(uint32_t M, uint32_t K, enum kdtype dtype)
{
    return kroom_bytes((size_t)M * K * element_bytes(dtype));
}

static int mat_open(uint32_t M, uint32_t K, enum kdtype dtype, struct kmat_train **ret_mat)
{
    struct kmat_train *mat = static_cast<struct kmat_train *>(calloc(1, sizeof *mat));
    int rc = mat != NULL ? cuda_take(K_RUNS, mat_bytes(M, K, dtype), &mat->data) : -ENOMEM;

    if (rc != 0) {
        free(mat);
        return rc;
    }
    mat->M = M;
    mat->K = K;
    mat->dtype = dtype;
    *ret_mat = mat;
    return 0;
}

static void mat_close(struct kmat_train *mat)
{
    if (mat == NULL)
        return;
    cuda_give(mat->data);
    free(mat);
}

static void mat_set(struct kctx *k, struct kmat_train *mat, const float *w)
{
    struct kview from = {const_cast<float *>(w), K_F32}, to = {mat->data, mat->dtype};

    cuda_convert(k, to, from, (size_t)mat->M * mat->K);
}

static void linear(struct kctx *k, struct kview y, struct kview x, const struct kmat_train *w,
                   const float *bias, uint32_t N)
{
    const void *added = bias;

    if (bias != NULL && w->dtype == K_BF16) { /* what cuBLASLt adds is of the product's dtype */
        struct kview from = {const_cast<float *>(bias), K_F32};
        struct kview to = {cuda_scratch(k, w->M * sizeof(struct bf16)), K_BF16};

        if (to.data != NULL)
            cuda_convert(k, to, from, w->M);
        added = to.data;
    }
    if (k->error == 0)
        keep(k,
             cuda_blas_y(k->blas, NULL, w->dtype, y.data, x.data, w->data, added, N, w->M, w->K));
}

static void linear_dx(struct kctx *k, struct kview dx, struct kview dy, const struct kmat_train *w,
                      uint32_t N)
{
    if (k->error == 0)
        keep(k, cuda_blas_dx(k->blas, w->dtype, dx.data, dy.data, w->data, N, w->M, w->K));
}

static void linear_dw(struct kctx *k, float *dw, float *db, struct kview dy, struct kview x,
                      uint32_t M, uint32_t K, uint32_t N)
{
    void *parts = db != NULL ? cuda_scratch(k, column_bytes(N, M)) : NULL;

    if (parts != NULL)
        cuda_bias_back(k, db, dy, N, M, parts);
    if (k->error == 0)
        keep(k, cuda_blas_dw(k->blas, dy.dtype, dw, dy.data, x.data, N, M, K));
}

/* ---- norms ------------------------------------------------------------------------------------
 */

static void embed(struct kctx *k, struct kview y, struct kview s, float *stats, const int32_t *ids,
                  const uint8_t *types, const uint32_t *offsets, uint32_t B, const float *word,
                  const float *position, const float *segment, const float *gamma,
                  const float *beta, float eps, uint32_t C, const struct kdropout *dropout)
{
    struct kview tables[3] = {{const_cast<float *>(word), K_F32},
                              {const_cast<float *>(position), K_F32},
                              {const_cast<float *>(segment), K_F32}};

    const struct kbatch batch = {offsets, B, offsets[B], longest_text(offsets, B)};

    cuda_embed(k, y, s, stats, ids, types, &batch, tables[0], tables[1], tables[2], gamma, beta,
               eps, C, dropout);
}

static size_t embed_back_bytes(uint32_t T, uint32_t C)
{
    return (size_t)T * C * sizeof(float) + column_bytes(T, C) + T * (sizeof(int32_t) + 1);
}

/* Scratch in one piece: ds(T,C), parts, ids(T), types(T). ids and types are asked for many times
 * over, and are copied to the device first. */
static void embed_back(struct kctx *k, float *dword, float *dposition, float *dsegment,
                       float *dgamma, float *dbeta, struct kview dy, struct kview s,
                       const float *stats, const int32_t *ids, const uint8_t *types,
                       const uint32_t *offsets, uint32_t B, const float *gamma, uint32_t C,
                       const struct kdropout *dropout)
{
    const uint32_t T = offsets[B], longest = longest_text(offsets, B);
    const uint32_t *on_device = cuda_offsets(k, offsets, B);
    const size_t parts_at = (size_t)T * C * sizeof(float);
    const size_t ids_at = parts_at + column_bytes(T, C), types_at = ids_at + T * sizeof *ids;
    const struct kview none = {NULL, dy.dtype};
    char *scratch = static_cast<char *>(cuda_scratch(k, embed_back_bytes(T, C)));
    struct kview ds = {scratch, K_F32};
    struct norm_inputs back = {dy, none, s, stats, gamma, T, C, NULL, dropout};
    uint8_t types_max = 0;

    if (scratch == NULL || on_device == NULL)
        return;
    for (uint32_t t = 0; t < T && types != NULL; t++)
        types_max = types[t] > types_max ? types[t] : types_max;
    cuda_check(
        k, cudaMemcpyAsync(scratch + ids_at, ids, T * sizeof *ids, cudaMemcpyDefault, k->stream));
    if (types != NULL)
        cuda_check(k, cudaMemcpyAsync(scratch + types_at, types, T, cudaMemcpyDefault, k->stream));
    cuda_norm_back(k, ds, none, dgamma, dbeta, scratch + parts_at, &back);
    cuda_tables_back(k, dword, dposition, dsegment, reinterpret_cast<float *>(scratch),
                     reinterpret_cast<int32_t *>(scratch + ids_at),
                     types != NULL ? reinterpret_cast<uint8_t *>(scratch + types_at) : NULL,
                     types_max, on_device, longest, B, T, C, scratch + parts_at);
}

static void add_layernorm_back(struct kctx *k, struct kview ds, struct kview dx, float *dgamma,
                               float *dbeta, struct kview dy, struct kview dy2, struct kview s,
                               const float *stats, const float *gamma, uint32_t N, uint32_t C,
                               const struct kdropout *dropout)
{
    struct norm_inputs back = {dy, dy2, s, stats, gamma, N, C, dropout, NULL};
    void *parts = cuda_scratch(k, column_bytes(N, C));

    if (parts != NULL)
        cuda_norm_back(k, ds, dx, dgamma, dbeta, parts, &back);
}

/* ---- the rest ---------------------------------------------------------------------------------
 */

static void pool(struct kctx *k, float *y, float *length, struct kview x, const uint32_t *offsets,
                 uint32_t B, uint32_t C, enum kpool how)
{
    const struct kbatch batch = {offsets, B, offsets[B], longest_text(offsets, B)};

    cuda_pool(k, y, length, x, &batch, C, how);
}

static void gelu(struct kctx *k, struct kview y, struct kview x, uint32_t N, uint32_t M)
{
    cuda_bias_gelu(k, y, x, NULL, N, M);
}

static void zero(struct kctx *k, float *x, size_t n)
{
    cuda_here();
    cuda_check(k, cudaMemsetAsync(x, 0, n * sizeof *x, k->stream));
}

static double sum_squares(struct kctx *k, const float *x, size_t n)
{
    double *parts = static_cast<double *>(cuda_scratch(k, (CUDA_SUM_PARTS + 1) * sizeof(double)));
    double total = 0;

    if (parts == NULL)
        return 0;
    cuda_sum_squares(k, parts + CUDA_SUM_PARTS, parts, x, n);
    cuda_check(k, cudaMemcpyAsync(&total, parts + CUDA_SUM_PARTS, sizeof total, cudaMemcpyDefault,
                                  k->stream));
    cuda_check(k, cudaStreamSynchronize(k->stream));
    return k->error == 0 ? total : 0;
}

static void adamw(struct kctx *k, float *w, float *m, float *v, float *grad, size_t n, float scale,
                  float lr, float beta1, float beta2, float eps, float weight_decay, uint64_t step)
{
    const double first = 1 - pow((double)beta1, (double)step);
    const double second = 1 - pow((double)beta2, (double)step);
    const struct adamw_rates a = {scale,
                                  (float)(1 - (double)lr * weight_decay),
                                  beta1,
                                  beta2,
                                  eps,
                                  (float)(lr / first),
                                  (float)(1 / sqrt(second))};

    cuda_adamw(k, w, m, v, grad, n, &a);
}

/* The most that one operation asks of a context's scratch. */
static size_t scratch_bytes(const struct kshape *most)
{
    const uint32_t T = most->T, C = most->C, wide = most->F > 3 * C ? most->F : 3 * C;
    const size_t needs[] = {cuda_lora_back_bytes(wide, C, most->r),
                            cuda_lora_back_bytes(C, most->F, most->r),
                            cuda_attention_back_bytes(T, most->H),
                            embed_back_bytes(T, C),
                            column_bytes(T, wide),
                            wide * sizeof(struct bf16),
                            (CUDA_SUM_PARTS + 1) * sizeof(double)};
    size_t bytes = 0;

    for (size_t need : needs)
        bytes = need > bytes ? need : bytes;
    return kroom_bytes(bytes);
}

static int scratch_open(struct kctx *k, const struct kshape *most)
{
    int rc;

    (void)cuda_scratch(k, scratch_bytes(most));
    rc = k->error;
    k->error = 0; /* nothing is enqueued: it may be asked for less */
    return rc;
}

const struct backend_training cuda_training = {
    .scratch_bytes = scratch_bytes,
    .scratch_open = scratch_open,
    .mat_bytes = mat_bytes,
    .mat_open = mat_open,
    .mat_close = mat_close,
    .mat_set = mat_set,
    .linear = linear,
    .linear_dx = linear_dx,
    .linear_dw = linear_dw,
    .embed = embed,
    .embed_back = embed_back,
    .add_layernorm = cuda_add_layernorm,
    .add_layernorm_back = add_layernorm_back,
    .gelu = gelu,
    .gelu_back = cuda_gelu_back,
    .attention_back = cuda_attention_back,
    .pool = pool,
    .pool_back = cuda_pool_back,
    .loss_bytes = cuda_loss_bytes,
    .loss = cuda_loss,
    .lora = cuda_lora,
    .lora_back = cuda_lora_back,
    .zero = zero,
    .add = cuda_add,
    .sum_squares = sum_squares,
    .adamw = adamw,
};
