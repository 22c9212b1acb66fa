/* fake_cublaslt.c -- as much of cuBLASLt as cuda_blas.c calls, in plain loops on the host, so that
 * what it describes (layouts, transpositions, epilogues) and how it chooses can be tested without a
 * card. Built where a toolkit's header is (tests/cuda/compile.sh). Tests only.
 *
 * It offers three algorithms: sums first to last, last to first, and one of the two by whether the
 * rows are odd in number, which is no way to keep bits. Short products are offered the wrong
 * ones first.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cublasLt.h>

enum { FORWARD, BACKWARD, MIXED, SHORT_ROWS = 1024 };

struct product {
    int32_t transposed[2];
    uint32_t epilogue;
    const void *bias;
};

struct layout {
    uint32_t type;
    uint64_t rows, columns;
    int64_t stride;
};

/* ---- descriptions -----------------------------------------------------------------------------
 */

cublasStatus_t cublasLtCreate(cublasLtHandle_t *ret_handle)
{
    static int handle;

    *ret_handle = (cublasLtHandle_t)(void *)&handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    (void)handle;
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t opened(void **ret_object, size_t bytes)
{
    *ret_object = calloc(1, bytes);
    return *ret_object != NULL ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_ALLOC_FAILED;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *ret_product,
                                        cublasComputeType_t compute, cudaDataType_t scale)
{
    if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    return opened((void **)ret_product, sizeof **ret_product);
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t product)
{
    free(product);
    return CUBLAS_STATUS_SUCCESS;
}

/* Takes a value of the size that cuBLASLt documents, and no other. */
static cublasStatus_t taken(void *to, size_t wanted, const void *value, size_t bytes)
{
    if (bytes != wanted)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product,
                                              cublasLtMatmulDescAttributes_t what,
                                              const void *value, size_t bytes)
{
    struct product *p = (struct product *)(void *)product;

    switch (what) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return taken(&p->transposed[0], sizeof p->transposed[0], value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return taken(&p->transposed[1], sizeof p->transposed[1], value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return taken(&p->epilogue, sizeof p->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return taken(&p->bias, sizeof p->bias, value, bytes);
    default:
        return CUBLAS_STATUS_INVALID_VALUE;
    }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *ret_layout, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t stride)
{
    cublasStatus_t status = opened((void **)ret_layout, sizeof **ret_layout);

    if (status == CUBLAS_STATUS_SUCCESS)
        *(struct layout *)(void *)*ret_layout = (struct layout){type, rows, columns, stride};
    return status;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    free(layout);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t what,
                                                const void *value, size_t bytes)
{
    struct layout *l = (struct layout *)(void *)layout;

    switch (what) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE:
        return taken(&l->type, sizeof l->type, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_ROWS:
        return taken(&l->rows, sizeof l->rows, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_COLS:
        return taken(&l->columns, sizeof l->columns, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_LD:
        return taken(&l->stride, sizeof l->stride, value, bytes);
    default:
        return CUBLAS_STATUS_INVALID_VALUE;
    }
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *ret_preference)
{
    return opened((void **)ret_preference, sizeof **ret_preference);
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    free(preference);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t what,
                                                    const void *value, size_t bytes)
{
    (void)preference;
    (void)value;
    return bytes == (what == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? 8 : 4)
               ? CUBLAS_STATUS_SUCCESS
               : CUBLAS_STATUS_INVALID_VALUE;
}

/* ---- products ---------------------------------------------------------------------------------
 */

static float value(const void *x, uint32_t type, size_t i)
{
    uint32_t bits;
    float f;

    if (type == CUDA_R_32F)
        return ((const float *)x)[i];
    bits = (uint32_t)((const uint16_t *)x)[i] << 16;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static void put(void *y, uint32_t type, size_t i, float f)
{
    uint32_t bits;

    memcpy(&bits, &f, sizeof bits);
    if (type == CUDA_R_32F)
        ((float *)y)[i] = f;
    else
        ((uint16_t *)y)[i] = (uint16_t)(f != f ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* op(x)(inner,columns) as fp32, a column behind the other; the caller frees it. */
static float *columns_of(const void *x, const struct layout *l, int transposed)
{
    const uint64_t rows = transposed ? l->columns : l->rows;
    const uint64_t columns = transposed ? l->rows : l->columns;
    float *all = malloc((rows * columns + 1) * sizeof *all);

    for (uint64_t c = 0; c < columns && all != NULL; c++)
        for (uint64_t r = 0; r < rows; r++)
            all[c * rows + r] = value(
                x, l->type, transposed ? r * (uint64_t)l->stride + c : c * (uint64_t)l->stride + r);
    return all;
}

static float dot(const float *a, const float *b, uint64_t len, int backwards)
{
    float sum = 0;

    for (uint64_t i = 0; i < len; i++)
        sum += backwards ? a[len - 1 - i] * b[len - 1 - i] : a[i] * b[i];
    return sum;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t product,
                              const void *alpha, const void *A, cublasLtMatrixLayout_t a_layout,
                              const void *B, cublasLtMatrixLayout_t b_layout, const void *beta,
                              const void *C, cublasLtMatrixLayout_t c_layout, void *D,
                              cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t *algorithm, void *workspace,
                              size_t workspace_bytes, cudaStream_t stream)
{
    const struct product *p = (const struct product *)(const void *)product;
    const struct layout *a = (const struct layout *)(const void *)a_layout;
    const struct layout *b = (const struct layout *)(const void *)b_layout;
    const struct layout *d = (const struct layout *)(const void *)d_layout;
    const uint64_t inner = p->transposed[0] ? a->rows : a->columns;
    float *left, *right;

    (void)handle;
    (void)workspace;
    (void)workspace_bytes;
    (void)stream;
    if (d->rows != (p->transposed[0] ? a->columns : a->rows) || c_layout != d_layout || C != D ||
        d->columns != (p->transposed[1] ? b->rows : b->columns) ||
        inner != (p->transposed[1] ? b->columns : b->rows) || a->type != b->type ||
        *(const float *)alpha != 1)
        return CUBLAS_STATUS_INVALID_VALUE;
    left = columns_of(A, a, !p->transposed[0]);
    right = columns_of(B, b, p->transposed[1]);
    for (uint64_t n = 0; n < d->columns && left != NULL && right != NULL; n++)
        for (uint64_t m = 0; m < d->rows; m++) {
            const uint64_t at = n * (uint64_t)d->stride + m, how = algorithm->data[0];
            float sum = dot(left + m * inner, right + n * inner, inner,
                            how == BACKWARD || (how == MIXED && d->columns % 2 == 1));

            if (p->epilogue == CUBLASLT_EPILOGUE_BIAS)
                sum += value(p->bias, d->type, m);
            if (*(const float *)beta == 1)
                sum += value(C, d->type, at);
            put(D, d->type, at, sum);
        }
    free(left);
    free(right);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t product,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int most,
                                              cublasLtMatmulHeuristicResult_t *ret_found,
                                              int *ret_len)
{
    static const uint64_t tall[] = {MIXED, FORWARD, BACKWARD}, low[] = {BACKWARD, MIXED, FORWARD};
    const struct layout *l = (const struct layout *)(const void *)d;

    (void)handle;
    (void)product;
    (void)a;
    (void)b;
    (void)c;
    (void)preference;
    for (*ret_len = 0; *ret_len < 3 && *ret_len < most; ++*ret_len) {
        memset(&ret_found[*ret_len], 0, sizeof *ret_found);
        ret_found[*ret_len].algo.data[0] = (l->columns < SHORT_ROWS ? low : tall)[*ret_len];
    }
    return CUBLAS_STATUS_SUCCESS;
}

/* cuda_blas.c waits for its probes by the runtime, which the shim has in C++ only. */
cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    (void)stream;
    return cudaSuccess;
}
