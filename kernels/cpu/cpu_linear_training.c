/* cpu_linear_training.c -- see cpu_linear_training.h. Through oneDNN, as cpu_linear.c: primitives
 * on the ladder of row counts, made on first use, kept for the life of the context; below AVX-512
 * through own_linear.c.
 *
 * A matrix is kept in two layouts, one for x w^T and one for dy w, each as the primitive of that
 * product asks for it.
 *
 * dw is cut into slices of DW_ROWS rows, each the work of one thread: oneDNN never sees more than
 * one, so that it cannot divide the sum over the batch among them.
 */
#include "kernels/cpu/cpu_linear_training.h"

#include <errno.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu_dnnl.h"
#include "kernels/cpu/own_linear.h"
#include "kernels/cpu/simd_training.h"

enum { RUNG_TALLEST = 512, DW_ROWS = 96, STRIP_ROWS = 64 };

enum direction { FORWARD, BACK, DIRECTIONS };

struct kmat_train {
    uint32_t M, K;
    enum kdtype dtype;
    dnnl_memory_t plain[DIRECTIONS], weights[DIRECTIONS];
    dnnl_primitive_t reorders[DIRECTIONS]; /* used unless both layouts are ours to fill: */
    struct simd_blocks blocks[DIRECTIONS];
    dnnl_stream_t stream;
    struct own_mat *own[DIRECTIONS]; /* instead of all of oneDNN's */
};

/* A product with dw reads dy^T and x in blocks, or (PLAIN) dy and x as they lie. */
enum product { PRODUCT_LINEAR, PRODUCT_DX, PRODUCT_DW, PRODUCT_DW_PLAIN };

/* What tells primitives apart: rows, columns and inner of y(rows,columns); of dw, M is of the
 * whole. */
struct shape {
    enum product product;
    enum kdtype dtype;
    uint32_t rows, columns, inner, M, threads;
    uint32_t has_bias;
};

/* One made primitive, and its arguments for each thread that may run it at once. */
struct made {
    struct made *next;
    struct shape shape;
    dnnl_primitive_t primitive;
    uint32_t width; /* of blocks, if that is how the weights lie */
    uint32_t seats_len;
    struct seat {
        dnnl_memory_t x, w, y, bias, scratch;
    } seats[];
};

struct cpu_linear_training {
    struct made *first;
    uint16_t *packed; /* (packed_bytes) of dw: x in blocks and the transpose of dy */
    size_t packed_bytes;
    uint32_t streams_len;
    dnnl_stream_t streams[]; /* one for each thread */
};

int cpu_linear_training_open(uint32_t threads_max, struct cpu_linear_training **ret_linear)
{
    struct cpu_linear_training *linear =
        calloc(1, sizeof *linear + threads_max * sizeof *linear->streams);

    if (linear == NULL || cpu_dnnl_engine() == NULL)
        goto fail;
    for (; linear->streams_len < threads_max; linear->streams_len++)
        if (dnnl_stream_create(&linear->streams[linear->streams_len], cpu_dnnl_engine(),
                               dnnl_stream_default_flags) != dnnl_success)
            goto fail;
    *ret_linear = linear;
    return 0;
fail:
    cpu_linear_training_close(linear);
    return -ENOMEM;
}

static void made_free(struct made *p)
{
    dnnl_primitive_destroy(p->primitive);
    for (uint32_t i = 0; i < p->seats_len; i++) {
        dnnl_memory_destroy(p->seats[i].x);
        dnnl_memory_destroy(p->seats[i].w);
        dnnl_memory_destroy(p->seats[i].y);
        dnnl_memory_destroy(p->seats[i].bias);
        dnnl_memory_destroy(p->seats[i].scratch);
    }
    free(p);
}

void cpu_linear_training_close(struct cpu_linear_training *linear)
{
    if (linear == NULL)
        return;
    while (linear->first != NULL) {
        struct made *p = linear->first;

        linear->first = p->next;
        made_free(p);
    }
    for (uint32_t i = 0; i < linear->streams_len; i++)
        dnnl_stream_destroy(linear->streams[i]);
    free(linear->packed);
    free(linear);
}

/* ---- primitives ------------------------------------------------------------------------------ */

/* The weights' layout is open if `weights` is NULL, but of PLAIN, where they are x as it lies. */
static dnnl_status_t describe(const struct shape *s, desc_ref weights,
                              dnnl_primitive_desc_t *ret_pd)
{
    bool plain = s->product == PRODUCT_DW_PLAIN, dw = plain || s->product == PRODUCT_DW;
    desc x = plain ? cpu_dnnl_desc_strided(s->rows, s->inner, s->dtype, 1, s->M)
                   : cpu_dnnl_desc(s->rows, s->inner, s->dtype, dnnl_ab);
    desc w = cpu_dnnl_desc(s->inner, s->columns, s->dtype, plain ? dnnl_ab : dnnl_format_tag_any);
    desc y = cpu_dnnl_desc(s->rows, s->columns, dw ? K_F32 : s->dtype, dnnl_ab);
    desc b = cpu_dnnl_desc(1, s->columns, K_F32, dnnl_ab);
    dnnl_status_t status =
        cpu_dnnl_matmul(DESC_PTR(x), weights != NULL ? weights : DESC_PTR(w),
                        s->has_bias ? DESC_PTR(b) : NULL, DESC_PTR(y), dw, ret_pd);

    cpu_dnnl_desc_free(&x);
    cpu_dnnl_desc_free(&w);
    cpu_dnnl_desc_free(&y);
    cpu_dnnl_desc_free(&b);
    return status;
}

static int query_memory(dnnl_primitive_desc_t pd, dnnl_query_t what, int index, void *handle,
                        dnnl_memory_t *ret_memory)
{
    return cpu_dnnl_memory(dnnl_primitive_desc_query_md(pd, what, index), handle, ret_memory);
}

static int seat_make(dnnl_primitive_desc_t pd, const struct shape *s, struct seat *seat)
{
    int rc = query_memory(pd, dnnl_query_src_md, 0, DNNL_MEMORY_NONE, &seat->x);

    if (rc == 0)
        rc = query_memory(pd, dnnl_query_weights_md, 0, DNNL_MEMORY_NONE, &seat->w);
    if (rc == 0)
        rc = query_memory(pd, dnnl_query_dst_md, 0, DNNL_MEMORY_NONE, &seat->y);
    if (rc == 0 && s->has_bias)
        rc = query_memory(pd, dnnl_query_weights_md, 1, DNNL_MEMORY_NONE, &seat->bias);
    if (rc == 0)
        rc = query_memory(pd, dnnl_query_scratchpad_md, 0, DNNL_MEMORY_ALLOCATE, &seat->scratch);
    return rc;
}

static int made_make(struct cpu_linear_training *linear, const struct shape *s, desc_ref weights,
                     struct made **ret_made)
{
    uint32_t seats_len = s->product >= PRODUCT_DW ? linear->streams_len : 1;
    struct made *p = calloc(1, sizeof *p + seats_len * sizeof *p->seats);
    dnnl_primitive_desc_t pd;
    dnnl_status_t status;
    int rc = 0;

    if (p == NULL)
        return -ENOMEM;
    p->shape = *s;
    p->next = linear->first;
    p->seats_len = seats_len;
    status = describe(s, weights, &pd);
    if (status != dnnl_success) {
        free(p);
        return status == dnnl_out_of_memory ? -ENOMEM : -EIO;
    }
    if (s->product == PRODUCT_DW)
        p->width = cpu_dnnl_block_width(dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0),
                                        s->inner, s->columns);
    if (dnnl_primitive_create(&p->primitive, pd) != dnnl_success)
        rc = -EIO;
    for (uint32_t i = 0; i < seats_len && rc == 0; i++)
        rc = seat_make(pd, s, &p->seats[i]);
    dnnl_primitive_desc_destroy(pd);
    if (rc != 0) {
        made_free(p);
        return rc;
    }
    linear->first = p;
    *ret_made = p;
    return 0;
}

/* The primitive of a shape for `threads` threads, made now if this is its first use. */
static int find(struct cpu_linear_training *linear, const struct shape *s, desc_ref weights,
                struct made **ret_made)
{
    for (struct made *p = linear->first; p != NULL; p = p->next)
        if (memcmp(&p->shape, s, sizeof *s) == 0) {
            *ret_made = p;
            return 0;
        }
    omp_set_num_threads((int)s->threads);
    omp_set_dynamic(0); /* exactly so many, or oneDNN leaves work undone */
    return made_make(linear, s, weights, ret_made);
}

static int execute(const struct cpu_linear_training *linear, const struct made *p, uint32_t thread,
                   const void *x, const void *w, void *y, const float *bias)
{
    const struct seat *seat = &p->seats[thread];
    dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, seat->x},
                              {DNNL_ARG_WEIGHTS, seat->w},
                              {DNNL_ARG_DST, seat->y},
                              {DNNL_ARG_SCRATCHPAD, seat->scratch},
                              {DNNL_ARG_BIAS, seat->bias}};

    dnnl_memory_set_data_handle(seat->x, (void *)(uintptr_t)x);
    dnnl_memory_set_data_handle(seat->w, (void *)(uintptr_t)w);
    dnnl_memory_set_data_handle(seat->y, y);
    if (bias != NULL)
        dnnl_memory_set_data_handle(seat->bias, (void *)(uintptr_t)bias);
    if (dnnl_primitive_execute(p->primitive, linear->streams[thread], bias != NULL ? 5 : 4, args) !=
            dnnl_success ||
        dnnl_stream_wait(linear->streams[thread]) != dnnl_success)
        return -EIO;
    return 0;
}

/* ---- matrices -------------------------------------------------------------------------------- */

/* The layout of one direction, and the way into it from w as it lies. */
static int direction_open(struct kmat_train *mat, enum direction d)
{
    bool forward = d == FORWARD;
    uint32_t columns = forward ? mat->M : mat->K, inner = forward ? mat->K : mat->M;
    struct shape s = {forward ? PRODUCT_LINEAR : PRODUCT_DX,
                      mat->dtype,
                      RUNG_TALLEST,
                      columns,
                      inner,
                      0,
                      1,
                      forward};
    desc plain = cpu_dnnl_desc(inner, columns, K_F32, forward ? dnnl_ba : dnnl_ab);
    dnnl_primitive_desc_t pd = NULL, reorder = NULL;
    int rc = describe(&s, NULL, &pd) == dnnl_success ? 0 : -EIO;

    if (rc == 0)
        rc = cpu_dnnl_memory(DESC_PTR(plain), DNNL_MEMORY_NONE, &mat->plain[d]);
    if (rc == 0)
        rc = query_memory(pd, dnnl_query_weights_md, 0, DNNL_MEMORY_ALLOCATE, &mat->weights[d]);
    if (rc == 0 && (dnnl_reorder_primitive_desc_create(
                        &reorder, DESC_PTR(plain), cpu_dnnl_engine(),
                        dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0),
                        cpu_dnnl_engine(), NULL) != dnnl_success ||
                    dnnl_primitive_create(&mat->reorders[d], reorder) != dnnl_success))
        rc = -EIO;
    if (rc == 0) {
        struct simd_blocks *blocks = &mat->blocks[d];
        void *data = NULL;

        dnnl_memory_get_data_handle(mat->weights[d], &data);
        *blocks = (struct simd_blocks){
            data,
            cpu_dnnl_block_width(dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0), inner,
                                 columns),
            (inner + SIMD_BLOCK_INNER - 1) / SIMD_BLOCK_INNER};
    }
    dnnl_primitive_desc_destroy(reorder);
    dnnl_primitive_desc_destroy(pd);
    cpu_dnnl_desc_free(&plain);
    return rc;
}

int cpu_train_mat_open(uint32_t M, uint32_t K, enum kdtype dtype, struct kmat_train **ret_mat)
{
    struct kmat_train *mat = calloc(1, sizeof *mat);
    int rc = -ENOMEM;

    if (mat == NULL || cpu_dnnl_engine() == NULL)
        goto out;
    mat->M = M;
    mat->K = K;
    mat->dtype = dtype;
    if (cpu_dnnl_below_avx512()) {
        rc = own_mat_open(M, K, dtype, &mat->own[FORWARD]);
        if (rc == 0)
            rc = own_mat_open(K, M, dtype, &mat->own[BACK]);
        goto out;
    }
    if (dnnl_stream_create(&mat->stream, cpu_dnnl_engine(), dnnl_stream_default_flags) !=
        dnnl_success)
        goto out;
    rc = direction_open(mat, FORWARD);
    if (rc == 0)
        rc = direction_open(mat, BACK);
out:
    if (rc != 0)
        cpu_train_mat_close(mat);
    else
        *ret_mat = mat;
    return rc;
}

void cpu_train_mat_close(struct kmat_train *mat)
{
    if (mat == NULL)
        return;
    for (int d = 0; d < DIRECTIONS; d++) {
        dnnl_primitive_destroy(mat->reorders[d]);
        dnnl_memory_destroy(mat->plain[d]);
        dnnl_memory_destroy(mat->weights[d]);
        own_mat_free(mat->own[d]);
    }
    dnnl_stream_destroy(mat->stream);
    free(mat);
}

/* Both layouts from one reading of w, tile by tile; oneDNN's reorders take five times as long. */
static void fill_blocks(struct kmat_train *mat, const float *w, uint32_t threads)
{
    const struct simd_training *simd = simd_pick()->training;
    uint32_t across = (mat->K + SIMD_TILE_COLUMNS - 1) / SIMD_TILE_COLUMNS;
    uint32_t down = (mat->M + SIMD_TILE_ROWS - 1) / SIMD_TILE_ROWS;

#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic)
    for (uint32_t i = 0; i < across * down; i++)
        simd->pack(&mat->blocks[BACK], &mat->blocks[FORWARD], w, K_F32, mat->M, mat->K,
                   i / across * SIMD_TILE_ROWS, i % across * SIMD_TILE_COLUMNS);
}

int cpu_mat_train_set(struct kmat_train *mat, const float *w, uint32_t threads)
{
    if (mat->own[FORWARD] != NULL) {
        own_mat_set(mat->own[FORWARD], w, mat->K, 1);
        own_mat_set(mat->own[BACK], w, 1, mat->K);
        return 0;
    }
    if (mat->blocks[FORWARD].width != 0 && mat->blocks[BACK].width != 0) {
        fill_blocks(mat, w, threads);
        return 0;
    }
    omp_set_num_threads((int)threads);
    omp_set_dynamic(0);
    for (int d = 0; d < DIRECTIONS; d++) {
        dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, mat->plain[d]}, {DNNL_ARG_TO, mat->weights[d]}};

        dnnl_memory_set_data_handle(mat->plain[d], (void *)(uintptr_t)w);
        if (dnnl_primitive_execute(mat->reorders[d], mat->stream, 2, args) != dnnl_success ||
            dnnl_stream_wait(mat->stream) != dnnl_success)
            return -EIO;
    }
    return 0;
}

/* ---- products -------------------------------------------------------------------------------- */

static int run(struct cpu_linear_training *linear, enum direction d, void *y, const void *x,
               const struct kmat_train *w, const float *bias, uint32_t N, uint32_t threads)
{
    bool forward = d == FORWARD;
    struct shape s = {forward ? PRODUCT_LINEAR : PRODUCT_DX,
                      w->dtype,
                      cpu_dnnl_rung(N),
                      forward ? w->M : w->K,
                      forward ? w->K : w->M,
                      0,
                      threads,
                      bias != NULL};
    struct made *p = NULL;
    desc_ref layout = NULL;
    void *weights = NULL;
    int rc;

    if (w->own[d] != NULL)
        return own_linear_run(y, x, w->own[d], bias, N, threads);
    dnnl_memory_get_memory_desc(w->weights[d], &layout);
    dnnl_memory_get_data_handle(w->weights[d], &weights);
    rc = find(linear, &s, layout, &p);
    if (rc != 0)
        return rc;
    omp_set_num_threads((int)threads);
    omp_set_dynamic(0);
    return execute(linear, p, 0, x, weights, y, bias);
}

int cpu_linear_train(struct cpu_linear_training *linear, void *y, const void *x,
                     const struct kmat_train *w, const float *bias, uint32_t N, uint32_t threads)
{
    return run(linear, FORWARD, y, x, w, bias, N, threads);
}

int cpu_linear_dx(struct cpu_linear_training *linear, void *dx, const void *dy,
                  const struct kmat_train *w, uint32_t N, uint32_t threads)
{
    return run(linear, BACK, dx, dy, w, NULL, N, threads);
}

/* What a slice of dw is made from: both matrices as the primitive's arguments, and how far one
 * slice is from the next. */
struct operands {
    const char *dy;
    const void *x;
    size_t slice_bytes;
};

static int run_slices(struct cpu_linear_training *linear, float *dw, const struct operands *from,
                      const struct made *whole, const struct made *last, uint32_t threads)
{
    uint32_t slices = (whole->shape.M + DW_ROWS - 1) / DW_ROWS;
    int rc = 0;

#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic) reduction(min : rc)
    for (uint32_t i = 0; i < slices; i++) {
        int failed = execute(linear, i + 1 < slices ? whole : last, (uint32_t)omp_get_thread_num(),
                             from->dy + i * from->slice_bytes, from->x,
                             dw + (size_t)i * DW_ROWS * whole->shape.columns, NULL);

        rc = failed < rc ? failed : rc;
    }
    return rc;
}

/* The primitives of whole slices and of the last one. */
static int find_slices(struct cpu_linear_training *linear, struct shape *s, struct made **ret_whole,
                       struct made **ret_last)
{
    int rc;

    s->rows = s->M < DW_ROWS ? s->M : DW_ROWS;
    rc = find(linear, s, NULL, ret_whole);
    s->rows = s->M % DW_ROWS != 0 ? s->M % DW_ROWS : DW_ROWS;
    return rc != 0 ? rc : find(linear, s, NULL, ret_last);
}

static int packed_reserve(struct cpu_linear_training *linear, size_t bytes)
{
    uint16_t *bigger;

    if (bytes <= linear->packed_bytes)
        return 0;
    bytes = (bytes + bytes / 4 + 63) / 64 * 64;
    bigger = aligned_alloc(64, bytes);
    if (bigger == NULL)
        return -ENOMEM;
    free(linear->packed);
    linear->packed = bigger;
    linear->packed_bytes = bytes;
    return 0;
}

/* dy^T into transposed(M,wide), its column sums to db, x into blocks. */
static void pack_operands(const struct simd_blocks *blocks, uint16_t *transposed, uint32_t wide,
                          float *db, const uint16_t *dy, const uint16_t *x, uint32_t M, uint32_t K,
                          uint32_t N, uint32_t threads)
{
    const struct simd_training *simd = simd_pick()->training;
    uint32_t across = (K + SIMD_TILE_COLUMNS - 1) / SIMD_TILE_COLUMNS;
    uint32_t tiles = (wide + SIMD_TILE_ROWS - 1) / SIMD_TILE_ROWS * across;
    uint32_t strips = (M + STRIP_ROWS - 1) / STRIP_ROWS;

#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic)
    for (uint32_t i = 0; i < tiles + strips; i++) {
        uint32_t from = (i - tiles) * STRIP_ROWS;

        if (i < tiles)
            simd->pack(blocks, NULL, x, K_BF16, N, K, i / across * SIMD_TILE_ROWS,
                       i % across * SIMD_TILE_COLUMNS);
        else
            simd->transpose(transposed, db, dy, N, M, wide, from,
                            M - from < STRIP_ROWS ? M : from + STRIP_ROWS);
    }
}

/* db(M) += columns of dy(N,M), in strips of columns. */
static void sum_columns(float *db, struct kview dy, uint32_t M, uint32_t N, uint32_t threads)
{
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (uint32_t m = 0; m < M; m += STRIP_ROWS)
        simd_pick()->training->column_sums(db + m, dy.data, dy.dtype, N, M, m,
                                           M - m < STRIP_ROWS ? M - m : STRIP_ROWS);
}

static void zero_behind(struct kview v, uint32_t columns, uint32_t N, uint32_t rows)
{
    size_t row = columns * (v.dtype == K_BF16 ? sizeof(uint16_t) : sizeof(float));

    memset((char *)v.data + N * row, 0, (rows - N) * row);
}

/* oneDNN transposes for itself, slice by slice. */
static int dw_plain(struct cpu_linear_training *linear, float *dw, float *db, struct kview dy,
                    struct kview x, uint32_t M, uint32_t K, uint32_t N, uint32_t threads)
{
    uint32_t rows = cpu_dnnl_rung(N);
    struct shape s = {PRODUCT_DW_PLAIN, dy.dtype, 0, K, rows, M, 1, 0};
    struct operands from = {dy.data, x.data, DW_ROWS * (dy.dtype == K_BF16 ? 2 : 4)};
    struct made *whole = NULL, *last = NULL;
    int rc = find_slices(linear, &s, &whole, &last);

    if (rc != 0)
        return rc;
    if (db != NULL)
        sum_columns(db, dy, M, N, threads);
    zero_behind(dy, M, N, rows);
    zero_behind(x, K, N, rows);
    return run_slices(linear, dw, &from, whole, last, threads);
}

int cpu_linear_dw(struct cpu_linear_training *linear, float *dw, float *db, struct kview dy,
                  struct kview x, uint32_t M, uint32_t K, uint32_t N, uint32_t threads)
{
    uint32_t wide = (cpu_dnnl_rung(N) + SIMD_BLOCK_INNER - 1) / SIMD_BLOCK_INNER * SIMD_BLOCK_INNER;
    struct shape s = {PRODUCT_DW, dy.dtype, 0, K, wide, M, 1, 0};
    struct made *whole = NULL, *last = NULL;
    struct simd_blocks blocks;
    size_t blocks_bytes;
    int rc;

    if (cpu_dnnl_below_avx512()) {
        if (db != NULL)
            sum_columns(db, dy, M, N, threads);
        return own_linear_dw(dw, dy.data, x.data, dy.dtype, M, K, N, threads);
    }
    if (dy.dtype != K_BF16)
        return dw_plain(linear, dw, db, dy, x, M, K, N, threads);
    rc = find_slices(linear, &s, &whole, &last);
    if (rc != 0)
        return rc;
    if (whole->width == 0 || last->width != whole->width)
        return dw_plain(linear, dw, db, dy, x, M, K, N, threads);
    blocks_bytes = (size_t)(K + whole->width - 1) / whole->width * whole->width * wide * 2;
    rc = packed_reserve(linear, blocks_bytes + (size_t)M * wide * 2);
    if (rc != 0)
        return rc;
    blocks = (struct simd_blocks){linear->packed, whole->width, wide / SIMD_BLOCK_INNER};
    pack_operands(&blocks, linear->packed + blocks_bytes / 2, wide, db, dy.data, x.data, M, K, N,
                  threads);
    return run_slices(linear, dw,
                      &(struct operands){(const char *)linear->packed + blocks_bytes,
                                         linear->packed, (size_t)DW_ROWS * wide * 2},
                      whole, last, threads);
}
