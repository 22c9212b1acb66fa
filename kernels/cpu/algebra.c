/* algebra.c -- see algebra.h: OpenBLAS, held to one thread. LAPACK is called by its Fortran names,
 * in which our row-major lower triangle is an upper one.
 */
#include "kernels/algebra.h"

#include <cblas.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "kernels/cpu/simd.h"

extern void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info);
extern void dpotri_(const char *uplo, const int *n, double *a, const int *lda, int *info);
extern void dgetrf_(const int *m, const int *n, double *a, const int *lda, int *pivots, int *info);
extern void dgetri_(const int *n, double *a, const int *lda, const int *pivots, double *work,
                    const int *lwork, int *info);

/* The pool of OpenBLAS would compete with the lanes for cores, and its splits change the order of
 * additions. */
static void one_thread(void)
{
    static atomic_bool done;

    if (!atomic_load_explicit(&done, memory_order_relaxed)) {
        openblas_set_num_threads(1);
        atomic_store_explicit(&done, true, memory_order_relaxed);
    }
}

void algebra_gemm(bool a_transposed, bool b_transposed, uint32_t N, uint32_t M, uint32_t K,
                  double alpha, const double *a, uint32_t a_stride, const double *b,
                  uint32_t b_stride, double beta, double *c, uint32_t c_stride)
{
    if (N == 0 || M == 0)
        return;
    one_thread();
    cblas_dgemm(CblasRowMajor, a_transposed ? CblasTrans : CblasNoTrans,
                b_transposed ? CblasTrans : CblasNoTrans, (int)N, (int)M, (int)K, alpha, a,
                (int)a_stride, b, (int)b_stride, beta, c, (int)c_stride);
}

void algebra_syrk(bool a_transposed, uint32_t N, uint32_t K, double alpha, const double *a,
                  uint32_t a_stride, double beta, double *c, uint32_t c_stride)
{
    one_thread();
    cblas_dsyrk(CblasRowMajor, CblasLower, a_transposed ? CblasTrans : CblasNoTrans, (int)N, (int)K,
                alpha, a, (int)a_stride, beta, c, (int)c_stride);
}

void algebra_symm(uint32_t N, uint32_t M, const double *a, uint32_t a_stride, const double *p,
                  uint32_t p_stride, double *c, uint32_t c_stride)
{
    one_thread();
    if (N == 1)
        cblas_dsymv(CblasRowMajor, CblasLower, (int)M, 1, p, (int)p_stride, a, 1, 0, c, 1);
    else
        cblas_dsymm(CblasRowMajor, CblasRight, CblasLower, (int)N, (int)M, 1, p, (int)p_stride, a,
                    (int)a_stride, 0, c, (int)c_stride);
}

void algebra_trmm(uint32_t N, uint32_t M, const double *p, uint32_t p_stride, double *a,
                  uint32_t a_stride)
{
    one_thread();
    cblas_dtrmm(CblasRowMajor, CblasRight, CblasLower, CblasNoTrans, CblasNonUnit, (int)N, (int)M,
                1, p, (int)p_stride, a, (int)a_stride);
}

void algebra_syr2k(uint32_t M, uint32_t K, double alpha, const double *a, uint32_t a_stride,
                   const double *b, uint32_t b_stride, double *p, uint32_t p_stride)
{
    one_thread();
    if (K == 1)
        cblas_dsyr2(CblasRowMajor, CblasLower, (int)M, alpha, a, 1, b, 1, p, (int)p_stride);
    else
        cblas_dsyr2k(CblasRowMajor, CblasLower, CblasTrans, (int)M, (int)K, alpha, a, (int)a_stride,
                     b, (int)b_stride, 1, p, (int)p_stride);
}

void algebra_features(uint32_t N, uint32_t K, uint32_t M, const float *x, const float *w,
                      double scale, double *f)
{
    simd_pick()->features_exact(f, x, w, scale, N, K, M);
}

double algebra_dot(uint32_t N, const double *x, const double *y)
{
    return cblas_ddot((int)N, x, 1, y, 1);
}

int algebra_invert(uint32_t N, double *a, uint32_t stride, int *pivots)
{
    int n = (int)N, lda = (int)stride, lwork = n * 64, info = 0;
    double *work;

    if (N == 1) {
        if (a[0] == 0)
            return -EDOM;
        a[0] = 1 / a[0];
        return 0;
    }
    one_thread();
    work = malloc((size_t)lwork * sizeof *work);
    if (work == NULL)
        return -ENOMEM;
    dgetrf_(&n, &n, a, &lda, pivots, &info);
    if (info == 0)
        dgetri_(&n, a, &lda, pivots, work, &lwork, &info);
    free(work);
    return info == 0 ? 0 : -EDOM;
}

int algebra_cholesky(uint32_t N, double *a, uint32_t stride)
{
    int n = (int)N, lda = (int)stride, info = 0;

    one_thread();
    dpotrf_("U", &n, a, &lda, &info);
    return info == 0 ? 0 : -EDOM;
}

void algebra_cholesky_solve(uint32_t N, uint32_t M, const double *a, uint32_t a_stride, double *b,
                            uint32_t b_stride)
{
    one_thread();
    /* a = L L^T, both solves in place on row-major b. */
    cblas_dtrsm(CblasRowMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit, (int)N, (int)M, 1,
                a, (int)a_stride, b, (int)b_stride);
    cblas_dtrsm(CblasRowMajor, CblasLeft, CblasLower, CblasTrans, CblasNonUnit, (int)N, (int)M, 1,
                a, (int)a_stride, b, (int)b_stride);
}

int algebra_cholesky_inverse(uint32_t N, double *a, uint32_t stride)
{
    int n = (int)N, lda = (int)stride, info = 0;

    one_thread();
    dpotri_("U", &n, a, &lda, &info);
    if (info != 0)
        return -EDOM;
    for (uint32_t i = 0; i < N; i++)
        for (uint32_t j = i + 1; j < N; j++)
            a[(size_t)i * stride + j] = a[(size_t)j * stride + i];
    return 0;
}
