/* fake_training.c -- the fake device's table of training. See fake_device.c. */
#include <errno.h>
#include <stdlib.h>

#include "tests/device/fake_ctx.h"

static const struct backend_training *cpu(void)
{
    return backend_cpu()->training;
}

/* Scratch that has no address, and goes with the context. */
static size_t scratch_bytes(const struct kshape *most)
{
    return kroom_bytes((size_t)most->T * most->C);
}

static int scratch_open(struct kctx *k, const struct kshape *most)
{
    size_t bytes = scratch_bytes(most);
    int rc = fake_take(K_RUNS, bytes);

    if (rc == 0)
        k->scratch_bytes = bytes;
    return rc;
}

static size_t mat_bytes(uint32_t M, uint32_t K, enum kdtype dtype)
{
    return kroom_bytes((size_t)M * K * (dtype == K_BF16 ? 4 : 8)); /* in two forms */
}

static int mat_open(uint32_t M, uint32_t K, enum kdtype dtype, struct kmat_train **ret_mat)
{
    size_t bytes = mat_bytes(M, K, dtype);
    struct kmat_train *mat = malloc(sizeof *mat);
    int rc = mat != NULL ? fake_take(K_RUNS, bytes) : -ENOMEM;

    if (rc == 0) {
        *mat = (struct kmat_train){.bytes = bytes};
        rc = cpu()->mat_open(M, K, dtype, &mat->cpu);
        if (rc != 0)
            fake_give(K_RUNS, bytes);
    }
    if (rc != 0) {
        free(mat);
        return rc;
    }
    *ret_mat = mat;
    return 0;
}

static void mat_close(struct kmat_train *mat)
{
    if (mat == NULL)
        return;
    cpu()->mat_close(mat->cpu);
    fake_give(K_RUNS, mat->bytes);
    free(mat);
}

static void mat_set(struct kctx *k, struct kmat_train *mat, const float *w)
{
    cpu()->mat_set(k->cpu, mat->cpu, DEV(w));
}

static void linear(struct kctx *k, struct kview y, struct kview x, const struct kmat_train *w,
                   const float *bias, uint32_t N)
{
    cpu()->linear(k->cpu, VIEW(y), VIEW(x), w->cpu, DEV_OR_NULL(bias), N);
}

static void linear_dx(struct kctx *k, struct kview dx, struct kview dy, const struct kmat_train *w,
                      uint32_t N)
{
    cpu()->linear_dx(k->cpu, VIEW(dx), VIEW(dy), w->cpu, N);
}

static void linear_dw(struct kctx *k, float *dw, float *db, struct kview dy, struct kview x,
                      uint32_t M, uint32_t K, uint32_t N)
{
    cpu()->linear_dw(k->cpu, DEV(dw), DEV_OR_NULL(db), VIEW(dy), VIEW(x), M, K, N);
}

/* The keys of the rows are shared memory also where nothing is dropped. */
static const struct kdropout *checked(const struct kdropout *dropout)
{
    if (dropout != NULL)
        (void)SHARED_OR_NULL(dropout->rows);
    return dropout;
}

static void embed(struct kctx *k, struct kview y, struct kview s, float *stats, const int32_t *ids,
                  const uint8_t *types, const uint32_t *offsets, uint32_t B, const float *word,
                  const float *position, const float *segment, const float *gamma,
                  const float *beta, float eps, uint32_t C, const struct kdropout *dropout)
{
    cpu()->embed(k->cpu, VIEW(y), VIEW(s), DEV(stats), SHARED(ids), SHARED_OR_NULL(types),
                 SHARED(offsets), B, DEV(word), DEV(position), DEV(segment), DEV(gamma), DEV(beta),
                 eps, C, checked(dropout));
}

static void embed_back(struct kctx *k, float *dword, float *dposition, float *dsegment,
                       float *dgamma, float *dbeta, struct kview dy, struct kview s,
                       const float *stats, const int32_t *ids, const uint8_t *types,
                       const uint32_t *offsets, uint32_t B, const float *gamma, uint32_t C,
                       const struct kdropout *dropout)
{
    cpu()->embed_back(k->cpu, DEV(dword), DEV(dposition), DEV(dsegment), DEV(dgamma), DEV(dbeta),
                      VIEW(dy), VIEW(s), DEV(stats), SHARED(ids), SHARED_OR_NULL(types),
                      SHARED(offsets), B, DEV(gamma), C, checked(dropout));
}

static void add_layernorm(struct kctx *k, struct kview y, struct kview s, float *stats,
                          struct kview x, struct kview residual, const float *gamma,
                          const float *beta, float eps, uint32_t N, uint32_t C,
                          const struct kdropout *dropout)
{
    cpu()->add_layernorm(k->cpu, VIEW(y), VIEW(s), DEV(stats), VIEW(x), VIEW(residual), DEV(gamma),
                         DEV(beta), eps, N, C, checked(dropout));
}

static void add_layernorm_back(struct kctx *k, struct kview ds, struct kview dx, float *dgamma,
                               float *dbeta, struct kview dy, struct kview dy2, struct kview s,
                               const float *stats, const float *gamma, uint32_t N, uint32_t C,
                               const struct kdropout *dropout)
{
    struct kview second = {DEV_OR_NULL(dy2.data), dy2.dtype};

    cpu()->add_layernorm_back(k->cpu, VIEW(ds), VIEW(dx), DEV(dgamma), DEV(dbeta), VIEW(dy), second,
                              VIEW(s), DEV(stats), DEV(gamma), N, C, checked(dropout));
}

static void gelu(struct kctx *k, struct kview y, struct kview x, uint32_t N, uint32_t M)
{
    cpu()->gelu(k->cpu, VIEW(y), VIEW(x), N, M);
}

static void gelu_back(struct kctx *k, struct kview dx, struct kview dy, struct kview x, uint32_t N,
                      uint32_t M)
{
    cpu()->gelu_back(k->cpu, VIEW(dx), VIEW(dy), VIEW(x), N, M);
}

static void attention_back(struct kctx *k, struct kview dqkv, struct kview dy, struct kview qkv,
                           const uint32_t *offsets, uint32_t B, uint32_t C, uint32_t H)
{
    cpu()->attention_back(k->cpu, VIEW(dqkv), VIEW(dy), VIEW(qkv), SHARED(offsets), B, C, H);
}

static void pool(struct kctx *k, float *y, float *length, struct kview x, const uint32_t *offsets,
                 uint32_t B, uint32_t C, enum kpool how)
{
    cpu()->pool(k->cpu, DEV(y), DEV(length), VIEW(x), SHARED(offsets), B, C, how);
}

static void pool_back(struct kctx *k, struct kview dx, const float *dy, const float *y,
                      const float *length, const uint32_t *offsets, uint32_t B, uint32_t C,
                      enum kpool how)
{
    cpu()->pool_back(k->cpu, VIEW(dx), DEV(dy), DEV(y), DEV(length), SHARED(offsets), B, C, how);
}

static size_t loss_bytes(const struct kloss *most)
{
    return (size_t)most->B * most->L * sizeof(float);
}

static void loss(struct kctx *k, double *losses, float *dx, float *dw, float *dbias, const float *x,
                 const float *w, const float *bias, const struct kloss *l)
{
    double *laid = fake_output(k, "loss, losses", losses, l->B * K_LOSSES * sizeof *losses);

    (void)fake_device_room("loss, scratch", l->scratch, loss_bytes(l));
    (void)SHARED(l->texts);
    (void)SHARED(l->targets);
    (void)SHARED(l->teachers);
    (void)SHARED_OR_NULL(l->features);
    cpu()->loss(k->cpu, laid, DEV(dx), DEV(dw), DEV_OR_NULL(dbias), DEV(x), DEV(w),
                DEV_OR_NULL(bias), l);
}

static void lora(struct kctx *k, float *y, const float *w, const float *a, const float *b,
                 float scale, uint32_t M, uint32_t K, uint32_t r)
{
    size_t bytes = (size_t)M * K * sizeof *y;

    cpu()->lora(k->cpu, fake_device_room("lora, y", y, bytes),
                fake_device_room("lora, w", w, bytes), DEV_OR_NULL(a), DEV_OR_NULL(b), scale, M, K,
                r);
}

static void lora_back(struct kctx *k, float *da, float *db, const float *dw, const float *a,
                      const float *b, float scale, uint32_t M, uint32_t K, uint32_t r)
{
    cpu()->lora_back(k->cpu, DEV(da), DEV(db), DEV(dw), DEV(a), DEV(b), scale, M, K, r);
}

static void zero(struct kctx *k, float *x, size_t n)
{
    cpu()->zero(k->cpu, fake_device_room("zero", x, n * sizeof *x), n);
}

static void add(struct kctx *k, struct kview y, struct kview x, size_t n)
{
    cpu()->add(k->cpu, VIEW(y), VIEW(x), n);
}

static double sum_squares(struct kctx *k, const float *x, size_t n)
{
    return cpu()->sum_squares(k->cpu, fake_device_room("sum_squares", x, n * sizeof *x), n);
}

static void adamw(struct kctx *k, float *w, float *m, float *v, float *grad, size_t n, float scale,
                  float lr, float beta1, float beta2, float eps, float weight_decay, uint64_t step)
{
    size_t bytes = n * sizeof *w;

    cpu()->adamw(k->cpu, fake_device_room("adamw, w", w, bytes),
                 fake_device_room("adamw, m", m, bytes), fake_device_room("adamw, v", v, bytes),
                 fake_device_room("adamw, grad", grad, bytes), n, scale, lr, beta1, beta2, eps,
                 weight_decay, step);
}

#define ENTRY(name) .name = name,
const struct backend_training fake_training = {BACKEND_TRAINING_OPERATIONS(ENTRY)};
#undef ENTRY
