/* cpu_linear.c -- y = x w^T + bias through oneDNN 2.6 or 3.x, the only file that knows its C API;
 * below AVX-512 through own_linear.c.
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

#include <dnnl.h>
#include <errno.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/own_linear.h"

enum { RUNG_TALLEST = 1024 };

struct kmat {
    uint32_t M, K;
    enum kdtype dtype;
    dnnl_engine_t engine;
    dnnl_memory_t weights;
    struct own_mat *own; /* instead of all of oneDNN's */
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

/* One engine for the process: it holds no device state on a CPU. */
static dnnl_engine_t engine_get(void)
{
    static _Atomic(dnnl_engine_t) shared;
    dnnl_engine_t engine = shared, none = NULL;

    if (engine != NULL)
        return engine;
    if (dnnl_engine_create(&engine, dnnl_cpu, 0) != dnnl_success)
        return NULL;
    if (!__atomic_compare_exchange_n((dnnl_engine_t *)&shared, &none, engine, 0, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST)) {
        dnnl_engine_destroy(engine);
        engine = none;
    }
    return engine;
}

/* oneDNN below AVX-512 knows no bf16, and its rows depend on their number. */
static int below_avx512(void)
{
    return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core) != dnnl_cpu_isa_avx512_core;
}

/* 8 rows at a time while small, then about 6 % steps. */
static uint32_t rung(uint32_t rows)
{
    uint32_t step = rows <= 64 ? 8 : rows <= 256 ? 16 : rows <= 512 ? 32 : 64;

    return (rows + step - 1) / step * step;
}

uint32_t cpu_linear_rows(uint32_t rows)
{
    return rung(rows);
}

static dnnl_data_type_t data_type(enum kdtype dtype)
{
    return dtype == K_BF16 ? dnnl_bf16 : dnnl_f32;
}

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t desc; /* an opaque handle in 3.x, a struct in 2.x */
typedef const_dnnl_memory_desc_t desc_ref;
#define DESC_PTR(d) (d)
static void desc_free(desc *d)
{
    dnnl_memory_desc_destroy(*d);
}
#else
typedef dnnl_memory_desc_t desc;
typedef const dnnl_memory_desc_t *desc_ref;
#define DESC_PTR(d) (&(d))
static void desc_free(desc *d)
{
    (void)d;
}
#endif

/* The primitive descriptor of one shape; the weights' layout is open if `weights` is NULL. */
static dnnl_status_t describe(dnnl_engine_t engine, uint32_t rows, uint32_t M, uint32_t K,
                              enum kdtype dtype, int has_bias, const desc *weights,
                              dnnl_primitive_desc_t *ret_pd)
{
    dnnl_dims_t xd = {rows, K}, wd = {K, M}, yd = {rows, M}, bd = {1, M};
    dnnl_data_type_t dt = data_type(dtype);
    desc x, w, y, b;
    dnnl_primitive_attr_t attr;
    dnnl_status_t s;

#if DNNL_VERSION_MAJOR >= 3
    dnnl_memory_desc_create_with_tag(&x, 2, xd, dt, dnnl_ab);
    dnnl_memory_desc_create_with_tag(&y, 2, yd, dt, dnnl_ab);
    dnnl_memory_desc_create_with_tag(&b, 2, bd, dnnl_f32, dnnl_ab);
    dnnl_memory_desc_create_with_tag(&w, 2, wd, dt, dnnl_format_tag_any);
#else
    dnnl_memory_desc_init_by_tag(&x, 2, xd, dt, dnnl_ab);
    dnnl_memory_desc_init_by_tag(&y, 2, yd, dt, dnnl_ab);
    dnnl_memory_desc_init_by_tag(&b, 2, bd, dnnl_f32, dnnl_ab);
    dnnl_memory_desc_init_by_tag(&w, 2, wd, dt, dnnl_format_tag_any);
#endif
    dnnl_primitive_attr_create(&attr);
    dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
#if DNNL_VERSION_MAJOR >= 3
    s = dnnl_matmul_primitive_desc_create(ret_pd, engine, x, weights != NULL ? *weights : w,
                                          has_bias ? b : NULL, y, attr);
#else
    {
        dnnl_matmul_desc_t d;

        s = dnnl_matmul_desc_init(&d, &x, weights != NULL ? weights : &w, has_bias ? &b : NULL, &y);
        if (s == dnnl_success)
            s = dnnl_primitive_desc_create(ret_pd, &d, attr, engine, NULL);
    }
#endif
    dnnl_primitive_attr_destroy(attr);
    desc_free(&x);
    desc_free(&w);
    desc_free(&y);
    desc_free(&b);
    return s;
}

static int query_memory(dnnl_primitive_desc_t pd, dnnl_query_t what, dnnl_engine_t engine,
                        void *handle, dnnl_memory_t *ret_memory)
{
    desc_ref d = dnnl_primitive_desc_query_md(pd, what, 0);

    return dnnl_memory_create(ret_memory, d, engine, handle) == dnnl_success ? 0 : -ENOMEM;
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
    desc_ref wd = weights_desc(w);
    int rc = 0;

    if (p == NULL)
        return -ENOMEM;
    *p = (struct primitive){linear->first, rows, w->M, w->K, threads, w->dtype,
                            has_bias,      NULL, NULL, NULL, NULL,    NULL};
#if DNNL_VERSION_MAJOR >= 3
    desc layout = (desc)wd;
    dnnl_status_t s = describe(w->engine, rows, w->M, w->K, w->dtype, has_bias, &layout, &pd);
#else
    dnnl_status_t s = describe(w->engine, rows, w->M, w->K, w->dtype, has_bias, wd, &pd);
#endif
    if (s != dnnl_success) {
        free(p);
        return s == dnnl_out_of_memory ? -ENOMEM : -EIO;
    }
    if (dnnl_primitive_create(&p->primitive, pd) != dnnl_success)
        rc = -EIO;
    if (rc == 0)
        rc = query_memory(pd, dnnl_query_src_md, w->engine, DNNL_MEMORY_NONE, &p->x);
    if (rc == 0)
        rc = query_memory(pd, dnnl_query_dst_md, w->engine, DNNL_MEMORY_NONE, &p->y);
    if (rc == 0 && has_bias) {
        desc_ref d = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 1);

        if (dnnl_memory_create(&p->bias, d, w->engine, DNNL_MEMORY_NONE) != dnnl_success)
            rc = -ENOMEM;
    }
    if (rc == 0)
        rc = query_memory(pd, dnnl_query_scratchpad_md, w->engine, DNNL_MEMORY_ALLOCATE,
                          &p->scratch);
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
    dnnl_engine_t engine = engine_get();

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

static int reorder(dnnl_engine_t engine, dnnl_memory_t from, dnnl_memory_t to, desc_ref from_desc,
                   desc_ref to_desc)
{
    dnnl_primitive_desc_t pd;
    dnnl_primitive_t primitive;
    dnnl_stream_t stream;
    int rc = -EIO;

    if (dnnl_reorder_primitive_desc_create(&pd, from_desc, engine, to_desc, engine, NULL) !=
        dnnl_success)
        return -EIO;
    if (dnnl_primitive_create(&primitive, pd) == dnnl_success) {
        if (dnnl_stream_create(&stream, engine, dnnl_stream_default_flags) == dnnl_success) {
            dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};

            if (dnnl_primitive_execute(primitive, stream, 2, args) == dnnl_success &&
                dnnl_stream_wait(stream) == dnnl_success)
                rc = 0;
            dnnl_stream_destroy(stream);
        }
        dnnl_primitive_destroy(primitive);
    }
    dnnl_primitive_desc_destroy(pd);
    return rc;
}

int cpu_mat_load(const float *w, uint32_t M, uint32_t K, enum kdtype dtype, struct kmat **ret_mat)
{
    struct kmat *mat = calloc(1, sizeof *mat);
    dnnl_engine_t engine = engine_get();
    dnnl_dims_t dims = {K, M};
    dnnl_primitive_desc_t pd = NULL;
    dnnl_memory_t plain = NULL;
    desc_ref wanted;
    desc d;
    int rc = -ENOMEM;

    if (mat == NULL || engine == NULL)
        goto out;
    *mat = (struct kmat){M, K, dtype, engine, NULL, NULL};
    if (below_avx512()) {
        rc = own_mat_load(w, M, K, dtype, &mat->own);
        goto out;
    }
    rc = -EIO;
    if (describe(engine, RUNG_TALLEST, M, K, dtype, 1, NULL, &pd) != dnnl_success)
        goto out;
    wanted = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
#if DNNL_VERSION_MAJOR >= 3
    dnnl_memory_desc_create_with_tag(&d, 2, dims, dnnl_f32, dnnl_ba);
#else
    dnnl_memory_desc_init_by_tag(&d, 2, dims, dnnl_f32, dnnl_ba);
#endif
    if (dnnl_memory_create(&plain, DESC_PTR(d), engine, (void *)(uintptr_t)w) == dnnl_success &&
        dnnl_memory_create(&mat->weights, wanted, engine, DNNL_MEMORY_ALLOCATE) == dnnl_success)
        rc = reorder(engine, plain, mat->weights, DESC_PTR(d), wanted);
    dnnl_memory_destroy(plain);
    desc_free(&d);
    dnnl_primitive_desc_destroy(pd);
out:
    if (rc != 0)
        cpu_mat_free(mat);
    else
        *ret_mat = mat;
    return rc;
}

void cpu_mat_free(struct kmat *mat)
{
    if (mat == NULL)
        return;
    dnnl_memory_destroy(mat->weights);
    own_mat_free(mat->own);
    free(mat);
}

int cpu_linear_run(struct cpu_linear *linear, void *y, const void *x, const struct kmat *w,
                   const float *bias, uint32_t N, uint32_t threads)
{
    uint32_t rows = rung(N);
    struct primitive *p = linear->first;
    dnnl_exec_arg_t args[5];
    int len = 0, rc;

    if (w->own != NULL)
        return own_linear_run(y, x, w->own, bias, N, threads);
    omp_set_num_threads((int)threads);
    omp_set_dynamic(0); /* exactly so many, or oneDNN leaves work undone */
    while (p != NULL && (p->rows != rows || p->M != w->M || p->K != w->K || p->threads != threads ||
                         p->dtype != w->dtype || p->has_bias != (bias != NULL)))
        p = p->next;
    if (p == NULL) {
        rc = primitive_make(linear, w, rows, bias != NULL, threads, &p);
        if (rc != 0)
            return rc;
    }
    dnnl_memory_set_data_handle(p->x, (void *)(uintptr_t)x);
    dnnl_memory_set_data_handle(p->y, y);
    args[len++] = (dnnl_exec_arg_t){DNNL_ARG_SRC, p->x};
    args[len++] = (dnnl_exec_arg_t){DNNL_ARG_WEIGHTS, w->weights};
    args[len++] = (dnnl_exec_arg_t){DNNL_ARG_DST, p->y};
    args[len++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, p->scratch};
    if (bias != NULL) {
        dnnl_memory_set_data_handle(p->bias, (void *)(uintptr_t)bias);
        args[len++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, p->bias};
    }
    if (dnnl_primitive_execute(p->primitive, linear->stream, len, args) != dnnl_success ||
        dnnl_stream_wait(linear->stream) != dnnl_success)
        return -EIO;
    return 0;
}
