/* cpu_linear.c -- y = x w^T + bias through oneDNN; below AVX-512 through own_linear.c.
 *
 * Creating a primitive costs 0.2-8 ms and run-time row counts cost 4-28 %, so primitives are made
 * for a ladder of row counts, on first use, and kept for the life of the context. The rows between
 * N and the rung are computed on whatever the buffer holds and never read. Weights are reordered
 * once, into the layout that the primitive of the tallest rung asks for; every rung is created with
 * exactly that layout.
 *
 * Bit-identical rows: work is split over columns and rows, never over K, and the additions over K
 * of one element run in the same order at every rung (tests/ops proves it on the machine at hand).
 */
#include "kernels/cpu/cpu_linear.h"

#include <errno.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu_dnnl.h"
#include "kernels/cpu/own_linear.h"

enum { RUNG_TALLEST = 1024 };

struct kmat {
    uint32_t M, K;
    enum kdtype dtype;
    dnnl_memory_t weights;
    struct own_mat *own; /* instead of all of oneDNN's */
    float *bias;         /* (M), or NULL */
};

/* One created primitive: a shape at a rung for a number of threads. */
struct primitive {
    struct primitive *next;
    uint32_t rows, M, K, threads;
    enum kdtype dtype;
    int has_bias;
    dnnl_primitive_t primitive;
    dnnl_memory_t x, y, bias, scratch;
};

struct cpu_linear {
    dnnl_stream_t stream;
    struct primitive *first;
};

uint32_t cpu_linear_rows(uint32_t rows)
{
    return cpu_dnnl_rung(rows);
}

/* The primitive descriptor of one shape; the weights' layout is open if `weights` is NULL. */
static dnnl_status_t describe(uint32_t rows, uint32_t M, uint32_t K, enum kdtype dtype,
                              int has_bias, desc_ref weights, dnnl_primitive_desc_t *ret_pd)
{
    desc x = cpu_dnnl_desc(rows, K, dtype, dnnl_ab), y = cpu_dnnl_desc(rows, M, dtype, dnnl_ab);
    desc b = cpu_dnnl_desc(1, M, K_F32, dnnl_ab);
    desc w = cpu_dnnl_desc(K, M, dtype, dnnl_format_tag_any);
    dnnl_status_t s = cpu_dnnl_matmul(DESC_PTR(x), weights != NULL ? weights : DESC_PTR(w),
                                      has_bias ? DESC_PTR(b) : NULL, DESC_PTR(y), false, ret_pd);

    cpu_dnnl_desc_free(&x);
    cpu_dnnl_desc_free(&w);
    cpu_dnnl_desc_free(&y);
    cpu_dnnl_desc_free(&b);
    return s;
}

static int query_memory(dnnl_primitive_desc_t pd, dnnl_query_t what, void *handle,
                        dnnl_memory_t *ret_memory)
{
    return cpu_dnnl_memory(dnnl_primitive_desc_query_md(pd, what, 0), handle, ret_memory);
}

static void primitive_free(struct primitive *p)
{
    dnnl_primitive_destroy(p->primitive);
    dnnl_memory_destroy(p->x);
    dnnl_memory_destroy(p->y);
    dnnl_memory_destroy(p->bias);
    dnnl_memory_destroy(p->scratch);
    free(p);
}

static desc_ref weights_desc(const struct kmat *w)
{
    desc_ref d = NULL;

    dnnl_memory_get_memory_desc(w->weights, &d);
    return d;
}

static int primitive_make(struct cpu_linear *linear, const struct kmat *w, uint32_t rows,
                          int has_bias, uint32_t threads, struct primitive **ret_primitive)
{
    struct primitive *p = calloc(1, sizeof *p);
    dnnl_primitive_desc_t pd;
    dnnl_status_t s;
    int rc = 0;

    if (p == NULL)
        return -ENOMEM;
    *p = (struct primitive){linear->first, rows, w->M, w->K, threads, w->dtype,
                            has_bias,      NULL, NULL, NULL, NULL,    NULL};
    s = describe(rows, w->M, w->K, w->dtype, has_bias, weights_desc(w), &pd);
    if (s != dnnl_success) {
        free(p);
        return s == dnnl_out_of_memory ? -ENOMEM : -EIO;
    }
    if (dnnl_primitive_create(&p->primitive, pd) != dnnl_success)
        rc = -EIO;
    if (rc == 0)
        rc = query_memory(pd, dnnl_query_src_md, DNNL_MEMORY_NONE, &p->x);
    if (rc == 0)
        rc = query_memory(pd, dnnl_query_dst_md, DNNL_MEMORY_NONE, &p->y);
    if (rc == 0 && has_bias)
        rc = cpu_dnnl_memory(dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 1),
                             DNNL_MEMORY_NONE, &p->bias);
    if (rc == 0)
        rc = query_memory(pd, dnnl_query_scratchpad_md, DNNL_MEMORY_ALLOCATE, &p->scratch);
    dnnl_primitive_desc_destroy(pd);
    if (rc != 0) {
        primitive_free(p);
        return rc;
    }
    linear->first = p;
    *ret_primitive = p;
    return 0;
}

int cpu_linear_open(struct cpu_linear **ret_linear)
{
    struct cpu_linear *linear = calloc(1, sizeof *linear);
    dnnl_engine_t engine = cpu_dnnl_engine();

    if (linear == NULL || engine == NULL ||
        dnnl_stream_create(&linear->stream, engine, dnnl_stream_default_flags) != dnnl_success) {
        free(linear);
        return -ENOMEM;
    }
    *ret_linear = linear;
    return 0;
}

void cpu_linear_close(struct cpu_linear *linear)
{
    if (linear == NULL)
        return;
    while (linear->first != NULL) {
        struct primitive *p = linear->first;

        linear->first = p->next;
        primitive_free(p);
    }
    dnnl_stream_destroy(linear->stream);
    free(linear);
}

/* w -> the layout that the tallest rung asks for. */
static int weights_load(struct kmat *mat, const float *w)
{
    dnnl_primitive_desc_t pd = NULL;
    dnnl_memory_t plain = NULL;
    desc d;
    int rc;

    if (describe(RUNG_TALLEST, mat->M, mat->K, mat->dtype, 1, NULL, &pd) != dnnl_success)
        return -EIO;
    d = cpu_dnnl_desc(mat->K, mat->M, K_F32, dnnl_ba);
    rc = cpu_dnnl_memory(DESC_PTR(d), (void *)(uintptr_t)w, &plain);
    if (rc == 0)
        rc = query_memory(pd, dnnl_query_weights_md, DNNL_MEMORY_ALLOCATE, &mat->weights);
    if (rc == 0)
        rc = cpu_dnnl_reorder(plain, mat->weights);
    dnnl_memory_destroy(plain);
    cpu_dnnl_desc_free(&d);
    dnnl_primitive_desc_destroy(pd);
    return rc;
}

static int bias_load(struct kmat *mat, const float *bias)
{
    if (bias == NULL)
        return 0;
    mat->bias = malloc(mat->M * sizeof *bias);
    if (mat->bias == NULL)
        return -ENOMEM;
    memcpy(mat->bias, bias, mat->M * sizeof *bias);
    return 0;
}

int cpu_mat_load(const float *w, const float *bias, uint32_t M, uint32_t K, enum kdtype dtype,
                 struct kmat **ret_mat)
{
    struct kmat *mat = calloc(1, sizeof *mat);
    int rc;

    if (mat == NULL || cpu_dnnl_engine() == NULL) {
        free(mat);
        return -ENOMEM;
    }
    *mat = (struct kmat){M, K, dtype, NULL, NULL, NULL};
    rc = bias_load(mat, bias);
    if (rc == 0)
        rc = cpu_dnnl_below_avx512() ? own_mat_load(w, M, K, dtype, &mat->own)
                                     : weights_load(mat, w);
    if (rc != 0)
        cpu_mat_free(mat);
    else
        *ret_mat = mat;
    return rc;
}

uint32_t cpu_mat_columns(const struct kmat *mat)
{
    return mat->M;
}

void cpu_mat_free(struct kmat *mat)
{
    if (mat == NULL)
        return;
    dnnl_memory_destroy(mat->weights);
    own_mat_free(mat->own);
    free(mat->bias);
    free(mat);
}

int cpu_linear_run(struct cpu_linear *linear, void *y, const void *x, const struct kmat *w,
                   uint32_t N, uint32_t threads)
{
    uint32_t rows = cpu_dnnl_rung(N);
    struct primitive *p = linear->first;
    dnnl_exec_arg_t args[5];
    int len = 0, rc;

    if (w->own != NULL)
        return own_linear_run(y, x, w->own, w->bias, N, threads);
    omp_set_num_threads((int)threads);
    omp_set_dynamic(0); /* exactly so many, or oneDNN leaves work undone */
    while (p != NULL && (p->rows != rows || p->M != w->M || p->K != w->K || p->threads != threads ||
                         p->dtype != w->dtype || p->has_bias != (w->bias != NULL)))
        p = p->next;
    if (p == NULL) {
        rc = primitive_make(linear, w, rows, w->bias != NULL, threads, &p);
        if (rc != 0)
            return rc;
    }
    dnnl_memory_set_data_handle(p->x, (void *)(uintptr_t)x);
    dnnl_memory_set_data_handle(p->y, y);
    args[len++] = (dnnl_exec_arg_t){DNNL_ARG_SRC, p->x};
    args[len++] = (dnnl_exec_arg_t){DNNL_ARG_WEIGHTS, w->weights};
    args[len++] = (dnnl_exec_arg_t){DNNL_ARG_DST, p->y};
    args[len++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, p->scratch};
    if (w->bias != NULL) {
        dnnl_memory_set_data_handle(p->bias, w->bias);
        args[len++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, p->bias};
    }
    if (dnnl_primitive_execute(p->primitive, linear->stream, len, args) != dnnl_success ||
        dnnl_stream_wait(linear->stream) != dnnl_success)
        return -EIO;
    return 0;
}
