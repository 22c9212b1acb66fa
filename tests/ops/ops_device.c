/* ops_device.c -- see ops_device.h. */
#include "tests/ops/ops_device.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/backend_training.h"

enum { ARGUMENTS_MAX = 20 };

enum way { IN, OUT, BOTH };
enum place { DEVICE, SHARED };

struct argument {
    void *host, *device;
    size_t bytes;
    enum way way;
    enum place place;
};

static struct {
    const struct backend *be;
    struct backend table;
    struct backend_training training;
    struct argument arguments[ARGUMENTS_MAX];
    int len, error;
} mirror;

/* Bytes as if they were fp32: what moves values bit by bit moves anything. */
static void copy_in(const struct argument *a)
{
    size_t n = (a->bytes + 3) / 4;
    float *padded = calloc(n, sizeof *padded);

    if (padded == NULL)
        abort();
    memcpy(padded, a->host, a->bytes);
    if (mirror.be->upload(a->device, K_F32, padded, n) != 0)
        abort();
    free(padded);
}

static void copy_out(const struct argument *a)
{
    size_t n = (a->bytes + 3) / 4;
    float *padded = calloc(n, sizeof *padded);

    if (padded == NULL || mirror.be->download(padded, a->device, K_F32, n) != 0)
        abort();
    memcpy(a->host, padded, a->bytes);
    free(padded);
}

/* The device's address for an argument. The same memory twice is one argument: an operation may
 * write where it reads. */
static void *pass(const void *host, size_t bytes, enum way way, enum place place)
{
    struct argument *a = mirror.arguments;

    if (host == NULL || bytes == 0)
        return NULL;
    for (; a < mirror.arguments + mirror.len; a++)
        if (a->host == host && a->bytes == bytes) {
            a->way = a->way == way ? way : BOTH;
            return a->device;
        }
    if (mirror.len++ == ARGUMENTS_MAX)
        abort();
    *a = (struct argument){(void *)(uintptr_t)host, NULL, bytes, way, place};
    if ((place == SHARED ? mirror.be->alloc_shared(K_CONTEXTS, bytes, &a->device)
                         : mirror.be->alloc(K_CONTEXTS, (bytes + 3) / 4 * 4, &a->device)) != 0)
        abort();
    if (place == SHARED)
        memcpy(a->device, host, bytes);
    else
        copy_in(a);
    return a->device;
}

static float *floats(const float *host, size_t n, enum way way)
{
    return pass(host, n * sizeof *host, way, DEVICE);
}

static struct kview view(struct kview v, size_t n, enum way way)
{
    return (struct kview){pass(v.data, n * (v.dtype == K_BF16 ? 2 : 4), way, DEVICE), v.dtype};
}

static const uint32_t *offsets_of(const uint32_t *offsets, uint32_t B)
{
    return pass(offsets, (B + 1) * sizeof *offsets, IN, SHARED);
}

static struct kdropout dropout_of(const struct kdropout *d, uint32_t N)
{
    struct kdropout there = {NULL, 0, 0};

    if (d != NULL) {
        there = *d;
        there.rows = pass(d->rows, N * sizeof *d->rows, IN, SHARED);
    }
    return there;
}

/* Waits, brings back what was written, and forgets the arguments. */
static void done(struct kctx *k)
{
    int rc = mirror.be->sync(k);

    if (mirror.error == 0)
        mirror.error = rc;
    for (int i = 0; i < mirror.len; i++) {
        struct argument *a = &mirror.arguments[i];

        if (rc == 0 && a->way != IN && a->place == SHARED)
            memcpy(a->host, a->device, a->bytes);
        else if (rc == 0 && a->way != IN)
            copy_out(a);
        if (a->place == SHARED)
            mirror.be->dealloc_shared(a->device);
        else
            mirror.be->dealloc(a->device);
    }
    mirror.len = 0;
}

static int sync_ctx(struct kctx *k)
{
    int rc = mirror.be->sync(k), error = mirror.error != 0 ? mirror.error : rc;

    mirror.error = 0;
    return error;
}

/* What a batch asks of the three tables. */
struct extents {
    uint32_t T, words, positions, segments;
};

static struct extents extents_of(const int32_t *ids, const uint8_t *types, const uint32_t *offsets,
                                 uint32_t B)
{
    struct extents e = {offsets[B], 1, 1, 1};

    for (uint32_t t = 0; t < e.T; t++) {
        if ((uint32_t)ids[t] >= e.words)
            e.words = (uint32_t)ids[t] + 1;
        if (types != NULL && types[t] >= e.segments)
            e.segments = types[t] + 1u;
    }
    for (uint32_t b = 0; b < B; b++)
        if (offsets[b + 1] - offsets[b] > e.positions)
            e.positions = offsets[b + 1] - offsets[b];
    return e;
}

static const int32_t *ids_of(const int32_t *ids, uint32_t T)
{
    return pass(ids, T * sizeof *ids, IN, SHARED);
}

static struct kbatch batch_of(const struct kbatch *batch)
{
    struct kbatch there = *batch;

    there.offsets = offsets_of(batch->offsets, batch->seqs);
    return there;
}

/* ---- serving ----------------------------------------------------------------------------------
 */

static void embed(struct kctx *k, struct kview y, const int32_t *ids, const uint8_t *types,
                  const struct kbatch *batch, struct kview word, struct kview position,
                  struct kview segment, const float *gamma, const float *beta, float eps,
                  uint32_t C)
{
    struct extents e = extents_of(ids, types, batch->offsets, batch->seqs);
    const struct kbatch there = batch_of(batch);

    mirror.be->embed(k, view(y, (size_t)batch->tokens * C, OUT), ids_of(ids, e.T),
                     pass(types, e.T, IN, SHARED), &there, view(word, (size_t)e.words * C, IN),
                     view(position, e.positions * C, IN), view(segment, e.segments * C, IN),
                     floats(gamma, C, IN), floats(beta, C, IN), eps, C);
    done(k);
}

/* The shape of the matrix is the backend's secret; the mirror's name for it tells. */
struct kmat {
    struct kmat *there;
    uint32_t M, K;
};

static int mat_load(const float *w, const float *bias, uint32_t M, uint32_t K, enum kdtype dtype,
                    struct kmat **ret_mat)
{
    struct kmat *mat = calloc(1, sizeof *mat);

    if (mat == NULL)
        abort();
    mat->M = M;
    mat->K = K;
    *ret_mat = mat;
    return mirror.be->mat_load(w, bias, M, K, dtype, &mat->there);
}

static void mat_free(struct kmat *mat)
{
    if (mat != NULL)
        mirror.be->mat_free(mat->there);
    free(mat);
}

static void linear(struct kctx *k, struct kview y, struct kview x, const struct kmat *w,
                   enum kact act, uint32_t N)
{
    mirror.be->linear(k, view(y, (size_t)N * w->M, OUT), view(x, (size_t)N * w->K, IN), w->there,
                      act, N);
    done(k);
}

static void attention(struct kctx *k, struct kview y, struct kview qkv, const struct kbatch *batch,
                      uint32_t C, uint32_t H)
{
    const size_t T = batch->offsets[batch->seqs];
    const struct kbatch there = batch_of(batch);

    mirror.be->attention(k, view(y, batch->tokens * (size_t)C, OUT), view(qkv, T * 3 * C, IN),
                         &there, C, H);
    done(k);
}

static void add_layernorm(struct kctx *k, struct kview y, struct kview x, struct kview residual,
                          const float *gamma, const float *beta, float eps, uint32_t N, uint32_t C)
{
    size_t n = (size_t)N * C;

    mirror.be->add_layernorm(k, view(y, n, OUT), view(x, n, IN), view(residual, n, IN),
                             floats(gamma, C, IN), floats(beta, C, IN), eps, N, C);
    done(k);
}

static void pool(struct kctx *k, float *y, struct kview x, const struct kbatch *batch, uint32_t C,
                 enum kpool how)
{
    const struct kbatch there = batch_of(batch);

    mirror.be->pool(k, pass(y, (size_t)batch->seqs * C * sizeof *y, OUT, SHARED),
                    view(x, (size_t)batch->offsets[batch->seqs] * C, IN), &there, C, how);
    done(k);
}

static void head_features(struct kctx *k, float *y, const float *x, const float *w, float scale,
                          uint32_t N, uint32_t K, uint32_t M)
{
    mirror.be->head_features(k, floats(y, (size_t)N * M, OUT), floats(x, (size_t)N * K, IN),
                             floats(w, (size_t)K * M, IN), scale, N, K, M);
    done(k);
}

static void head_dense(struct kctx *k, float *y, const float *x, const float *w, uint32_t N,
                       uint32_t K, uint32_t L)
{
    mirror.be->head_dense(k, floats(y, (size_t)N * L, OUT), floats(x, (size_t)N * K, IN),
                          floats(w, (size_t)L * K, IN), N, K, L);
    done(k);
}

static void head_similarity(struct kctx *k, float *y, const float *x, const uint16_t *rows,
                            uint32_t N, uint32_t R, uint32_t C)
{
    mirror.be->head_similarity(k, floats(y, (size_t)N * R, OUT), floats(x, (size_t)N * C, IN),
                               pass(rows, (size_t)R * C * sizeof *rows, IN, DEVICE), N, R, C);
    done(k);
}

/* ---- training ---------------------------------------------------------------------------------
 */

struct kmat_train {
    struct kmat_train *there;
    uint32_t M, K;
};

static const struct backend_training *ops(void)
{
    return mirror.be->training;
}

static int mat_train_open(uint32_t M, uint32_t K, enum kdtype dtype, struct kmat_train **ret_mat)
{
    struct kmat_train *mat = calloc(1, sizeof *mat);

    if (mat == NULL)
        abort();
    mat->M = M;
    mat->K = K;
    *ret_mat = mat;
    return ops()->mat_open(M, K, dtype, &mat->there);
}

static void mat_train_close(struct kmat_train *mat)
{
    if (mat != NULL)
        ops()->mat_close(mat->there);
    free(mat);
}

static void mat_set(struct kctx *k, struct kmat_train *mat, const float *w)
{
    ops()->mat_set(k, mat->there, floats(w, (size_t)mat->M * mat->K, IN));
    done(k);
}

static void linear_train(struct kctx *k, struct kview y, struct kview x, const struct kmat_train *w,
                         const float *bias, uint32_t N)
{
    ops()->linear(k, view(y, (size_t)N * w->M, OUT), view(x, (size_t)N * w->K, IN), w->there,
                  floats(bias, w->M, IN), N);
    done(k);
}

static void linear_dx(struct kctx *k, struct kview dx, struct kview dy, const struct kmat_train *w,
                      uint32_t N)
{
    ops()->linear_dx(k, view(dx, (size_t)N * w->K, OUT), view(dy, (size_t)N * w->M, IN), w->there,
                     N);
    done(k);
}

static void linear_dw(struct kctx *k, float *dw, float *db, struct kview dy, struct kview x,
                      uint32_t M, uint32_t K, uint32_t N)
{
    ops()->linear_dw(k, floats(dw, (size_t)M * K, BOTH), floats(db, M, BOTH),
                     view(dy, (size_t)N * M, IN), view(x, (size_t)N * K, IN), M, K, N);
    done(k);
}

static void embed_train(struct kctx *k, struct kview y, struct kview s, float *stats,
                        const int32_t *ids, const uint8_t *types, const uint32_t *offsets,
                        uint32_t B, const float *word, const float *position, const float *segment,
                        const float *gamma, const float *beta, float eps, uint32_t C,
                        const struct kdropout *dropout)
{
    struct extents e = extents_of(ids, types, offsets, B);
    struct kdropout d = dropout_of(dropout, e.T);
    size_t n = (size_t)e.T * C;

    ops()->embed(k, view(y, n, OUT), view(s, n, OUT), floats(stats, 2 * (size_t)e.T, OUT),
                 ids_of(ids, e.T), pass(types, e.T, IN, SHARED), offsets_of(offsets, B), B,
                 floats(word, (size_t)e.words * C, IN), floats(position, e.positions * C, IN),
                 floats(segment, e.segments * C, IN), floats(gamma, C, IN), floats(beta, C, IN),
                 eps, C, &d);
    done(k);
}

static void embed_back(struct kctx *k, float *dword, float *dposition, float *dsegment,
                       float *dgamma, float *dbeta, struct kview dy, struct kview s,
                       const float *stats, const int32_t *ids, const uint8_t *types,
                       const uint32_t *offsets, uint32_t B, const float *gamma, uint32_t C,
                       const struct kdropout *dropout)
{
    struct extents e = extents_of(ids, types, offsets, B);
    struct kdropout d = dropout_of(dropout, e.T);
    size_t n = (size_t)e.T * C;

    ops()->embed_back(
        k, floats(dword, (size_t)e.words * C, BOTH), floats(dposition, e.positions * C, BOTH),
        floats(dsegment, e.segments * C, BOTH), floats(dgamma, C, BOTH), floats(dbeta, C, BOTH),
        view(dy, n, IN), view(s, n, IN), floats(stats, 2 * (size_t)e.T, IN), ids_of(ids, e.T),
        pass(types, e.T, IN, SHARED), offsets_of(offsets, B), B, floats(gamma, C, IN), C, &d);
    done(k);
}

static void add_layernorm_train(struct kctx *k, struct kview y, struct kview s, float *stats,
                                struct kview x, struct kview residual, const float *gamma,
                                const float *beta, float eps, uint32_t N, uint32_t C,
                                const struct kdropout *dropout)
{
    struct kdropout d = dropout_of(dropout, N);
    size_t n = (size_t)N * C;

    ops()->add_layernorm(k, view(y, n, OUT), view(s, n, OUT), floats(stats, 2 * (size_t)N, OUT),
                         view(x, n, IN), view(residual, n, IN), floats(gamma, C, IN),
                         floats(beta, C, IN), eps, N, C, &d);
    done(k);
}

static void add_layernorm_back(struct kctx *k, struct kview ds, struct kview dx, float *dgamma,
                               float *dbeta, struct kview dy, struct kview dy2, struct kview s,
                               const float *stats, const float *gamma, uint32_t N, uint32_t C,
                               const struct kdropout *dropout)
{
    struct kdropout d = dropout_of(dropout, N);
    size_t n = (size_t)N * C;

    ops()->add_layernorm_back(k, view(ds, n, OUT), view(dx, n, OUT), floats(dgamma, C, BOTH),
                              floats(dbeta, C, BOTH), view(dy, n, IN), view(dy2, n, IN),
                              view(s, n, IN), floats(stats, 2 * (size_t)N, IN),
                              floats(gamma, C, IN), N, C, &d);
    done(k);
}

static void gelu(struct kctx *k, struct kview y, struct kview x, uint32_t N, uint32_t M)
{
    size_t n = (size_t)N * M;

    ops()->gelu(k, view(y, n, OUT), view(x, n, IN), N, M);
    done(k);
}

static void gelu_back(struct kctx *k, struct kview dx, struct kview dy, struct kview x, uint32_t N,
                      uint32_t M)
{
    size_t n = (size_t)N * M;

    ops()->gelu_back(k, view(dx, n, OUT), view(dy, n, IN), view(x, n, IN), N, M);
    done(k);
}

static void attention_back(struct kctx *k, struct kview dqkv, struct kview dy, struct kview qkv,
                           const uint32_t *offsets, uint32_t B, uint32_t C, uint32_t H)
{
    size_t n = (size_t)offsets[B] * C;

    ops()->attention_back(k, view(dqkv, 3 * n, OUT), view(dy, n, IN), view(qkv, 3 * n, IN),
                          offsets_of(offsets, B), B, C, H);
    done(k);
}

static void pool_train(struct kctx *k, float *y, float *length, struct kview x,
                       const uint32_t *offsets, uint32_t B, uint32_t C, enum kpool how)
{
    ops()->pool(k, floats(y, (size_t)B * C, OUT), floats(length, B, OUT),
                view(x, (size_t)offsets[B] * C, IN), offsets_of(offsets, B), B, C, how);
    done(k);
}

static void pool_back(struct kctx *k, struct kview dx, const float *dy, const float *y,
                      const float *length, const uint32_t *offsets, uint32_t B, uint32_t C,
                      enum kpool how)
{
    size_t n = (size_t)B * C;

    ops()->pool_back(k, view(dx, (size_t)offsets[B] * C, OUT), floats(dy, n, IN), floats(y, n, IN),
                     floats(length, B, IN), offsets_of(offsets, B), B, C, how);
    done(k);
}

static void loss(struct kctx *k, double *losses, float *dx, float *dw, float *dbias, const float *x,
                 const float *w, const float *bias, const struct kloss *l)
{
    const size_t xs = (size_t)l->B * l->C, ws = (size_t)l->L * l->C;
    struct kloss there = *l;

    there.texts = pass(l->texts, l->B * sizeof *l->texts, IN, SHARED);
    there.targets = pass(l->targets, l->targets_len * sizeof *l->targets, IN, SHARED);
    there.teachers = pass(l->teachers, l->teachers_len * sizeof *l->teachers, IN, SHARED);
    there.scratch = pass(l->scratch, ops()->loss_bytes(l), OUT, DEVICE);
    there.features = pass(l->features, xs * sizeof *l->features, IN, SHARED);
    ops()->loss(k, pass(losses, l->B * K_LOSSES * sizeof *losses, OUT, SHARED), floats(dx, xs, OUT),
                floats(dw, ws, BOTH), floats(dbias, l->L, BOTH), floats(x, xs, IN),
                floats(w, ws, IN), floats(bias, l->L, IN), &there);
    done(k);
}

static void lora(struct kctx *k, float *y, const float *w, const float *a, const float *b,
                 float scale, uint32_t M, uint32_t K, uint32_t r)
{
    ops()->lora(k, floats(y, (size_t)M * K, OUT), floats(w, (size_t)M * K, IN),
                floats(a, (size_t)r * K, IN), floats(b, (size_t)M * r, IN), scale, M, K, r);
    done(k);
}

static void lora_back(struct kctx *k, float *da, float *db, const float *dw, const float *a,
                      const float *b, float scale, uint32_t M, uint32_t K, uint32_t r)
{
    ops()->lora_back(k, floats(da, (size_t)r * K, BOTH), floats(db, (size_t)M * r, BOTH),
                     floats(dw, (size_t)M * K, IN), floats(a, (size_t)r * K, IN),
                     floats(b, (size_t)M * r, IN), scale, M, K, r);
    done(k);
}

static void zero(struct kctx *k, float *x, size_t n)
{
    ops()->zero(k, floats(x, n, OUT), n);
    done(k);
}

static void add(struct kctx *k, struct kview y, struct kview x, size_t n)
{
    ops()->add(k, view(y, n, BOTH), view(x, n, IN), n);
    done(k);
}

static double sum_squares(struct kctx *k, const float *x, size_t n)
{
    double sum = ops()->sum_squares(k, floats(x, n, IN), n);

    done(k);
    return sum;
}

static void adamw(struct kctx *k, float *w, float *m, float *v, float *grad, size_t n, float scale,
                  float lr, float beta1, float beta2, float eps, float weight_decay, uint64_t step)
{
    ops()->adamw(k, floats(w, n, BOTH), floats(m, n, BOTH), floats(v, n, BOTH),
                 floats(grad, n, BOTH), n, scale, lr, beta1, beta2, eps, weight_decay, step);
    done(k);
}

const struct backend *ops_device(const struct backend *be)
{
    mirror.be = be;
    mirror.table = *be;
    mirror.table.training = &mirror.training;
    mirror.table.sync = sync_ctx;
    mirror.table.alloc = mirror.table.alloc_shared = backend_cpu()->alloc;
    mirror.table.dealloc = mirror.table.dealloc_shared = backend_cpu()->dealloc;
    mirror.table.upload = backend_cpu()->upload;
    mirror.table.download = backend_cpu()->download;
    mirror.table.mat_load = mat_load;
    mirror.table.mat_free = mat_free;
    mirror.table.embed = embed;
    mirror.table.linear = linear;
    mirror.table.attention = attention;
    mirror.table.add_layernorm = add_layernorm;
    mirror.table.pool = pool;
    mirror.table.head_features = head_features;
    mirror.table.head_dense = head_dense;
    mirror.table.head_similarity = head_similarity;
    mirror.training = (struct backend_training){
        .mat_open = mat_train_open,
        .mat_close = mat_train_close,
        .mat_set = mat_set,
        .linear = linear_train,
        .linear_dx = linear_dx,
        .linear_dw = linear_dw,
        .embed = embed_train,
        .embed_back = embed_back,
        .add_layernorm = add_layernorm_train,
        .add_layernorm_back = add_layernorm_back,
        .gelu = gelu,
        .gelu_back = gelu_back,
        .attention_back = attention_back,
        .pool = pool_train,
        .pool_back = pool_back,
        .loss_bytes = be->training->loss_bytes,
        .loss = loss,
        .lora = lora,
        .lora_back = lora_back,
        .zero = zero,
        .add = add,
        .sum_squares = sum_squares,
        .adamw = adamw,
    };
    return &mirror.table;
}
