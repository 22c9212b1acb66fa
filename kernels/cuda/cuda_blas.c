/* cuda_blas.c -- cuda_blas.h by cuBLASLt, which is loaded when the backend opens: the daemon is
 * built, and runs on the CPU, where it is not.
 *
 * cuBLASLt's matrices are column-major, and a row-major matrix read so is its transpose. So
 *   y(N,M)  = x w^T    is  y'(M,N)  = w'^T x'
 *   dx(N,K) = dy w     is  dx'(K,N) = w' dy'
 *   dw(M,K) = dy^T x   is  dw'(K,M) = x' dy'^T
 * where ' is the same memory, read by columns.
 *
 * Algorithms are asked for by the row count of a rung, not of the batch in hand: what a call gets
 * must not depend on which call came first.
 */
#include "kernels/cuda/cuda_blas.h"

#include <dlfcn.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#define FUNCTIONS(X)                                                                               \
    X(Create)                                                                                      \
    X(Matmul)                                                                                      \
    X(MatmulAlgoGetHeuristic)                                                                      \
    X(MatmulDescCreate)                                                                            \
    X(MatmulDescDestroy)                                                                           \
    X(MatmulDescSetAttribute)                                                                      \
    X(MatmulPreferenceCreate)                                                                      \
    X(MatmulPreferenceDestroy)                                                                     \
    X(MatmulPreferenceSetAttribute)                                                                \
    X(MatrixLayoutCreate)                                                                          \
    X(MatrixLayoutDestroy)                                                                         \
    X(MatrixLayoutSetAttribute)

#define POINTER(name) __typeof__(&cublasLt##name) name;
static struct {
    FUNCTIONS(POINTER)
    cublasLtHandle_t handle; /* one for all: it may be shared */
} lt;
#undef POINTER

#define LIBRARY "libcublasLt.so.13"

enum { WORKSPACE_BYTES = 32 << 20, ALGORITHMS_MAX = 512, CANDIDATES_MAX = 8, ALIGNED_BYTES = 16 };

static const uint32_t rungs[] = {16, 64, 256, 1024, 2048};

enum { RUNGS = sizeof rungs / sizeof *rungs, TALLEST = 2048, RUNG_STEP = 1024 };

enum kind { KIND_Y, KIND_Y_BIAS, KIND_DX, KIND_DW };

/* What is multiplied: two calls of the same one on the same rung get the same algorithm. */
struct shape {
    enum kind kind;
    enum kdtype dtype;
    uint32_t M, K, rows;
};

/* A layout of cuBLASLt's, and of its operands. */
struct operand {
    uint32_t rows, columns; /* ld = rows */
    bool transposed;
    cudaDataType_t type;
};

struct chosen {
    struct shape shape; /* rows: of the rung */
    cublasLtMatmulAlgo_t algorithm;
};

struct cuda_blas {
    const struct backend *be;
    cudaStream_t stream;
    void *workspace;
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulPreference_t preference;
    struct chosen chosen[ALGORITHMS_MAX]; /* without a promise */
    uint32_t chosen_len;
};

struct cuda_plans {
    struct cuda_plans *next;
    enum kdtype dtype;
    uint32_t M, K;
    cublasLtMatmulAlgo_t algorithms[2][RUNGS]; /* without bias, with */
};

static struct {
    pthread_mutex_t lock;
    struct cuda_plans *first;
    struct cuda_blas *blas; /* that probes */
} plans = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int errno_of(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_SUCCESS        ? 0
           : status == CUBLAS_STATUS_ALLOC_FAILED ? -ENOMEM
                                                  : -EIO;
}

/* ---- the library ------------------------------------------------------------------------------
 */

static int library_open(char *why, size_t why_bytes)
{
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL), *symbol;

    if (library == NULL) {
        snprintf(why, why_bytes, "cuBLASLt cannot be loaded: %s", dlerror());
        return -ENODEV;
    }
#define FIND(name)                                                                                 \
    symbol = dlsym(library, "cublasLt" #name);                                                     \
    if (symbol == NULL) {                                                                          \
        snprintf(why, why_bytes, LIBRARY " has no cublasLt" #name);                                \
        return -ENODEV;                                                                            \
    }                                                                                              \
    memcpy(&lt.name, &symbol, sizeof symbol); /* C has no cast from an object to a function */
    FUNCTIONS(FIND)
#undef FIND
    return 0;
}

int cuda_blas_check(char *why, size_t why_bytes)
{
    int rc = lt.Create != NULL ? 0 : library_open(why, why_bytes);

    if (rc == 0 && lt.handle == NULL && lt.Create(&lt.handle) != CUBLAS_STATUS_SUCCESS) {
        lt.handle = NULL;
        snprintf(why, why_bytes, "cuBLASLt cannot be started on this device");
        rc = -ENODEV;
    }
    return rc;
}

/* ---- contexts ---------------------------------------------------------------------------------
 */

size_t cuda_blas_bytes(void)
{
    return WORKSPACE_BYTES;
}

int cuda_blas_open(const struct backend *be, enum kroom room, void *stream,
                   struct cuda_blas **ret_blas)
{
    struct cuda_blas *blas = calloc(1, sizeof *blas);
    int rc;

    if (blas == NULL)
        return -ENOMEM;
    blas->be = be;
    blas->stream = stream;
    rc = be->alloc(room, WORKSPACE_BYTES, &blas->workspace);
    if (rc == 0)
        rc = errno_of(lt.MatmulDescCreate(&blas->product, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    if (rc == 0)
        rc = errno_of(lt.MatrixLayoutCreate(&blas->a, CUDA_R_32F, 1, 1, 1));
    if (rc == 0)
        rc = errno_of(lt.MatrixLayoutCreate(&blas->b, CUDA_R_32F, 1, 1, 1));
    if (rc == 0)
        rc = errno_of(lt.MatrixLayoutCreate(&blas->d, CUDA_R_32F, 1, 1, 1));
    if (rc == 0)
        rc = errno_of(lt.MatmulPreferenceCreate(&blas->preference));
    if (rc != 0) {
        cuda_blas_close(blas);
        return rc;
    }
    *ret_blas = blas;
    return 0;
}

void cuda_blas_close(struct cuda_blas *blas)
{
    if (blas == NULL)
        return;
    if (blas->preference != NULL)
        (void)lt.MatmulPreferenceDestroy(blas->preference);
    if (blas->d != NULL)
        (void)lt.MatrixLayoutDestroy(blas->d);
    if (blas->b != NULL)
        (void)lt.MatrixLayoutDestroy(blas->b);
    if (blas->a != NULL)
        (void)lt.MatrixLayoutDestroy(blas->a);
    if (blas->product != NULL)
        (void)lt.MatmulDescDestroy(blas->product);
    blas->be->dealloc(blas->workspace);
    free(blas);
}

/* ---- a product described ----------------------------------------------------------------------
 */

static int layout_set(cublasLtMatrixLayout_t layout, const struct operand *o)
{
    const uint32_t type = o->type;
    const uint64_t rows = o->rows, columns = o->columns;
    const int64_t stride = o->rows;
    cublasStatus_t status;

    status = lt.MatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_TYPE, &type, sizeof type);
    if (status == CUBLAS_STATUS_SUCCESS)
        status =
            lt.MatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_ROWS, &rows, sizeof rows);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = lt.MatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_COLS, &columns,
                                             sizeof columns);
    if (status == CUBLAS_STATUS_SUCCESS)
        status =
            lt.MatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_LD, &stride, sizeof stride);
    return errno_of(status);
}

static int product_set(struct cuda_blas *blas, cublasLtMatmulDescAttributes_t what,
                       const void *value, size_t bytes)
{
    return errno_of(lt.MatmulDescSetAttribute(blas->product, what, value, bytes));
}

/* The table at the top of this file. */
static void operands_of(const struct shape *s, struct operand *a, struct operand *b,
                        struct operand *d)
{
    const cudaDataType_t type = s->dtype == K_BF16 ? CUDA_R_16BF : CUDA_R_32F;
    const struct operand w = {s->K, s->M, false, type}, x = {s->K, s->rows, false, type};
    const struct operand y = {s->M, s->rows, false, type};

    switch (s->kind) {
    case KIND_Y:
    case KIND_Y_BIAS:
        *a = w;
        a->transposed = true;
        *b = x;
        *d = y;
        break;
    case KIND_DX:
        *a = w;
        *b = y;
        *d = x;
        break;
    case KIND_DW:
        *a = x;
        *b = y;
        b->transposed = true;
        *d = w;
        d->type = CUDA_R_32F;
        break;
    }
}

/* bias: where it is, or where one could be: its alignment matters to the choice. */
static int describe(struct cuda_blas *blas, const struct shape *s, const void *bias)
{
    const cublasLtEpilogue_t epilogue =
        s->kind == KIND_Y_BIAS ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    struct operand a = {0}, b = {0}, d = {0};
    cublasOperation_t a_how, b_how;
    int rc;

    operands_of(s, &a, &b, &d);
    a_how = a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    b_how = b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    rc = layout_set(blas->a, &a);
    if (rc == 0)
        rc = layout_set(blas->b, &b);
    if (rc == 0)
        rc = layout_set(blas->d, &d);
    if (rc == 0)
        rc = product_set(blas, CUBLASLT_MATMUL_DESC_TRANSA, &a_how, sizeof a_how);
    if (rc == 0)
        rc = product_set(blas, CUBLASLT_MATMUL_DESC_TRANSB, &b_how, sizeof b_how);
    if (rc == 0)
        rc = product_set(blas, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    if (rc == 0)
        rc = product_set(blas, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
    return rc;
}

/* Rows of w, x and y begin at multiples of 16 bytes, or of one value. */
static uint32_t alignment_of(const struct shape *s)
{
    const uint32_t value = s->dtype == K_BF16 ? 2 : 4;

    return s->K * value % ALIGNED_BYTES == 0 && s->M * value % ALIGNED_BYTES == 0 ? ALIGNED_BYTES
                                                                                  : value;
}

static int prefer(struct cuda_blas *blas, cublasLtMatmulPreferenceAttributes_t what,
                  const void *value, size_t bytes)
{
    return errno_of(lt.MatmulPreferenceSetAttribute(blas->preference, what, value, bytes));
}

/* What cuBLASLt would take for a shape, best first. whole: a sum is added up by one block. */
static int candidates_of(struct cuda_blas *blas, const struct shape *s, bool whole,
                         cublasLtMatmulHeuristicResult_t *ret_found, int *ret_len)
{
    static const cublasLtMatmulPreferenceAttributes_t places[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    const uint32_t schemes =
        whole ? CUBLASLT_REDUCTION_SCHEME_NONE : CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const uint32_t alignment = alignment_of(s);
    const size_t workspace = WORKSPACE_BYTES;
    int rc = describe(blas, s, blas->workspace), len = 0;

    if (rc == 0)
        rc = prefer(blas, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace);
    if (rc == 0)
        rc = prefer(blas, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes);
    for (size_t i = 0; i < sizeof places / sizeof *places && rc == 0; i++)
        rc = prefer(blas, places[i], &alignment, sizeof alignment);
    if (rc == 0)
        rc = errno_of(lt.MatmulAlgoGetHeuristic(lt.handle, blas->product, blas->a, blas->b, blas->d,
                                                blas->d, blas->preference, CANDIDATES_MAX,
                                                ret_found, &len));
    if (rc == 0 && len == 0)
        rc = -EIO;
    *ret_len = len;
    return rc;
}

/* d = a b, or d += a b; s: of the rows in hand. */
static int multiply(struct cuda_blas *blas, const struct shape *s, void *d, const void *a,
                    const void *b, const void *bias, const cublasLtMatmulAlgo_t *algorithm)
{
    const float one = 1, zero = 0;
    int rc = describe(blas, s, bias);

    return rc != 0 ? rc
                   : errno_of(lt.Matmul(lt.handle, blas->product, &one, a, blas->a, b, blas->b,
                                        s->kind == KIND_DW ? &one : &zero, d, blas->d, d, blas->d,
                                        algorithm, blas->workspace, WORKSPACE_BYTES, blas->stream));
}

/* ---- products without a promise ---------------------------------------------------------------
 */

static uint32_t rung_of(uint32_t N)
{
    uint32_t i = 0;

    while (i < RUNGS - 1 && rungs[i] < N)
        i++;
    return i;
}

uint32_t cuda_blas_rows(uint32_t N)
{
    return N <= TALLEST ? rungs[rung_of(N)] : (N + RUNG_STEP - 1) / RUNG_STEP * RUNG_STEP;
}

static bool same_shape(const struct shape *a, const struct shape *b)
{
    return a->kind == b->kind && a->dtype == b->dtype && a->M == b->M && a->K == b->K &&
           a->rows == b->rows;
}

/* The best algorithm for the rung of a shape, from memory where it has been asked for. */
static int choose(struct cuda_blas *blas, struct shape s, cublasLtMatmulAlgo_t *ret_algorithm)
{
    cublasLtMatmulHeuristicResult_t found[CANDIDATES_MAX];
    int rc, len;

    s.rows = cuda_blas_rows(s.rows);
    for (uint32_t i = 0; i < blas->chosen_len; i++)
        if (same_shape(&blas->chosen[i].shape, &s)) {
            *ret_algorithm = blas->chosen[i].algorithm;
            return 0;
        }
    rc = candidates_of(blas, &s, false, found, &len);
    if (rc != 0)
        return rc;
    if (blas->chosen_len < ALGORITHMS_MAX)
        blas->chosen[blas->chosen_len++] = (struct chosen){s, found[0].algo};
    *ret_algorithm = found[0].algo;
    return 0;
}

static int multiply_chosen(struct cuda_blas *blas, const struct shape *s, void *d, const void *a,
                           const void *b, const void *bias)
{
    cublasLtMatmulAlgo_t algorithm;
    int rc = choose(blas, *s, &algorithm);

    return rc != 0 ? rc : multiply(blas, s, d, a, b, bias, &algorithm);
}

int cuda_blas_y(struct cuda_blas *blas, const struct cuda_plans *p, enum kdtype dtype, void *y,
                const void *x, const void *w, const void *bias, uint32_t N, uint32_t M, uint32_t K)
{
    const struct shape s = {bias != NULL ? KIND_Y_BIAS : KIND_Y, dtype, M, K, N};

    if (p == NULL)
        return multiply_chosen(blas, &s, y, w, x, bias);
    return multiply(blas, &s, y, w, x, bias, &p->algorithms[bias != NULL][rung_of(N)]);
}

int cuda_blas_dx(struct cuda_blas *blas, enum kdtype dtype, void *dx, const void *dy, const void *w,
                 uint32_t N, uint32_t M, uint32_t K)
{
    const struct shape s = {KIND_DX, dtype, M, K, N};

    return multiply_chosen(blas, &s, dx, w, dy, NULL);
}

int cuda_blas_dw(struct cuda_blas *blas, enum kdtype dtype, float *dw, const void *dy,
                 const void *x, uint32_t N, uint32_t M, uint32_t K)
{
    const struct shape s = {KIND_DW, dtype, M, K, N};

    return multiply_chosen(blas, &s, dw, x, dy, NULL);
}

/* ---- plans: the same bits on every rung -------------------------------------------------------
 */

/* A product whose sums cancel: the second half of each is the first half with the other sign, so
 * what comes out is what was rounded away on the way, and any other order gives other bits. */
struct probe {
    struct cuda_blas *blas;
    struct shape shape; /* of TALLEST rows */
    void *x, *w, *bias, *y;
    float *whole, *part; /* (TALLEST,M) on the host */
};

static float probe_value(uint32_t row, uint32_t k)
{
    uint64_t z = ((uint64_t)row << 32 | k) + UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return ldexpf((float)((int)(z >> 32 & 255) - 127), (int)(z >> 48 & 7));
}

/* Rows of x change sign in the middle, rows of w do not; an odd value is 0. */
static int probe_fill(const struct backend *be, void *device, const struct shape *s, uint32_t rows,
                      uint32_t salt, float sign)
{
    const uint32_t half = s->K / 2;
    float *host = calloc((size_t)rows * s->K, sizeof *host);
    int rc;

    if (host == NULL)
        return -ENOMEM;
    for (uint32_t n = 0; n < rows; n++)
        for (uint32_t k = 0; k < half; k++) {
            host[(size_t)n * s->K + k] = probe_value(salt + n, k);
            host[(size_t)n * s->K + half + k] = sign * host[(size_t)n * s->K + k];
        }
    rc = be->upload(device, s->dtype, host, (size_t)rows * s->K);
    free(host);
    return rc;
}

static void probe_close(struct probe *p)
{
    const struct backend *be = p->blas->be;

    be->dealloc(p->x);
    be->dealloc(p->w);
    be->dealloc(p->bias);
    be->dealloc(p->y);
    free(p->whole);
    free(p->part);
}

static int probe_open(struct probe *p, struct cuda_blas *blas, enum kdtype dtype, uint32_t M,
                      uint32_t K)
{
    const struct backend *be = blas->be;
    const size_t value = dtype == K_BF16 ? 2 : 4;
    int rc;

    *p = (struct probe){.blas = blas, .shape = {KIND_Y, dtype, M, K, TALLEST}};
    p->whole = malloc((size_t)TALLEST * M * sizeof *p->whole);
    p->part = malloc((size_t)TALLEST * M * sizeof *p->part);
    rc = p->whole != NULL && p->part != NULL ? 0 : -ENOMEM;
    if (rc == 0)
        rc = be->alloc(K_WEIGHTS, (size_t)TALLEST * K * value, &p->x);
    if (rc == 0)
        rc = be->alloc(K_WEIGHTS, (size_t)M * K * value, &p->w);
    if (rc == 0)
        rc = be->alloc(K_WEIGHTS, M * value, &p->bias);
    if (rc == 0)
        rc = be->alloc(K_WEIGHTS, (size_t)TALLEST * M * value, &p->y);
    if (rc == 0)
        rc = probe_fill(be, p->x, &p->shape, TALLEST, 0, -1);
    if (rc == 0)
        rc = probe_fill(be, p->w, &p->shape, M, TALLEST, 1);
    if (rc != 0)
        probe_close(p);
    return rc;
}

/* The first `rows` rows of the product by an algorithm, to the host. */
static int probe_run(struct probe *p, const cublasLtMatmulAlgo_t *algorithm, uint32_t rows,
                     float *ret_y)
{
    struct shape s = p->shape;
    int rc;

    s.rows = rows;
    rc = multiply(p->blas, &s, p->y, p->w, p->x, s.kind == KIND_Y_BIAS ? p->bias : NULL, algorithm);
    if (rc == 0 && cudaStreamSynchronize(p->blas->stream) != cudaSuccess)
        rc = -EIO;
    return rc != 0 ? rc : p->blas->be->download(ret_y, p->y, s.dtype, (size_t)rows * s.M);
}

/* Does an algorithm give a rung's fewest and most rows the bits that they have in `whole`? */
static bool probe_agrees(struct probe *p, const cublasLtMatmulAlgo_t *algorithm, uint32_t rung)
{
    const uint32_t counts[2] = {rung > 0 ? rungs[rung - 1] + 1 : 1, rungs[rung]};

    for (int i = 0; i < 2; i++)
        if (probe_run(p, algorithm, counts[i], p->part) != 0 ||
            memcmp(p->whole, p->part, (size_t)counts[i] * p->shape.M * sizeof *p->part) != 0)
            return false;
    return true;
}

/* The first of a rung's own candidates that agrees, or else the tallest rung's. */
static bool plan_rung(struct probe *p, uint32_t rung, const cublasLtMatmulAlgo_t *tall,
                      cublasLtMatmulAlgo_t *ret_algorithm)
{
    cublasLtMatmulHeuristicResult_t found[CANDIDATES_MAX];
    struct shape s = p->shape;
    int len = 0;

    s.rows = rungs[rung];
    if (candidates_of(p->blas, &s, true, found, &len) != 0)
        len = 0;
    for (int i = 0; i < len; i++)
        if (probe_agrees(p, &found[i].algo, rung)) {
            *ret_algorithm = found[i].algo;
            return true;
        }
    *ret_algorithm = *tall;
    return probe_agrees(p, tall, rung);
}

/* The algorithms of one epilogue: the first candidate of the tallest rung whose bits every rung can
 * have. */
static int plan_kind(struct probe *p, enum kind kind, cublasLtMatmulAlgo_t *ret_algorithms)
{
    cublasLtMatmulHeuristicResult_t found[CANDIDATES_MAX];
    bool fits = false;
    int rc, len;

    p->shape.kind = kind;
    rc = candidates_of(p->blas, &p->shape, true, found, &len);
    for (int i = 0; i < len && rc == 0 && !fits; i++) {
        fits = probe_run(p, &found[i].algo, TALLEST, p->whole) == 0;
        for (uint32_t r = 0; r < RUNGS && fits; r++)
            fits = plan_rung(p, r, &found[i].algo, &ret_algorithms[r]);
    }
    return rc == 0 && !fits ? -EIO : rc; /* nothing on this device keeps the promise */
}

static int plan(struct cuda_plans *made)
{
    struct probe probe;
    int rc = probe_open(&probe, plans.blas, made->dtype, made->M, made->K);

    if (rc != 0)
        return rc;
    rc = plan_kind(&probe, KIND_Y, made->algorithms[0]);
    if (rc == 0)
        rc = plan_kind(&probe, KIND_Y_BIAS, made->algorithms[1]);
    probe_close(&probe);
    return rc;
}

static int plans_locked(const struct backend *be, enum kdtype dtype, uint32_t M, uint32_t K,
                        struct cuda_plans **ret_plans)
{
    struct cuda_plans *p = plans.first;
    int rc = 0;

    while (p != NULL && (p->dtype != dtype || p->M != M || p->K != K))
        p = p->next;
    if (p == NULL) {
        if (plans.blas == NULL)
            rc = cuda_blas_open(be, K_WEIGHTS, NULL, &plans.blas);
        if (rc != 0)
            return rc;
        p = calloc(1, sizeof *p);
        if (p == NULL)
            return -ENOMEM;
        p->dtype = dtype;
        p->M = M;
        p->K = K;
        rc = plan(p);
        if (rc != 0) {
            free(p);
            return rc;
        }
        p->next = plans.first;
        plans.first = p;
    }
    *ret_plans = p;
    return 0;
}

int cuda_blas_plans(const struct backend *be, enum kdtype dtype, uint32_t M, uint32_t K,
                    struct cuda_plans **ret_plans)
{
    int rc;

    pthread_mutex_lock(&plans.lock);
    rc = plans_locked(be, dtype, M, K, ret_plans);
    pthread_mutex_unlock(&plans.lock);
    return rc;
}
