/* algebra.h -- fp64 matrix algebra for the head's learning state. The home of OpenBLAS is
 * cpu/algebra.c.
 *
 * Row-major, strides in elements. Every call is single-threaded, so that equal inputs give equal
 * bits.
 */
#ifndef LEARND_ALGEBRA_H
#define LEARND_ALGEBRA_H

#include <stdbool.h>
#include <stdint.h>

/* c(N,M) = alpha op(a)(N,K) op(b)(K,M) + beta c. */
void algebra_gemm(bool a_transposed, bool b_transposed, uint32_t N, uint32_t M, uint32_t K,
                  double alpha, const double *a, uint32_t a_stride, const double *b,
                  uint32_t b_stride, double beta, double *c, uint32_t c_stride);

/* Symmetric rank-K update of the lower triangle: c(N,N) = alpha op(a) op(a)^T + beta c; op(a) is
 * (N,K). */
void algebra_syrk(bool a_transposed, uint32_t N, uint32_t K, double alpha, const double *a,
                  uint32_t a_stride, double beta, double *c, uint32_t c_stride);

/* c(N,M) = a(N,M) p(M,M), p symmetric with its lower triangle given. */
void algebra_symm(uint32_t N, uint32_t M, const double *a, uint32_t a_stride, const double *p,
                  uint32_t p_stride, double *c, uint32_t c_stride);

/* a(N,M) = a l(M,M), l the lower triangle of p with its diagonal: half the work of a symm, and
 * enough for a^T p a = 2 a^T l a - sum of p_ii a_i^2. */
void algebra_trmm(uint32_t N, uint32_t M, const double *p, uint32_t p_stride, double *a,
                  uint32_t a_stride);

/* Lower triangle of p(M,M) += alpha (a^T b + b^T a); a and b are (K,M). */
void algebra_syr2k(uint32_t M, uint32_t K, double alpha, const double *a, uint32_t a_stride,
                   const double *b, uint32_t b_stride, double *p, uint32_t p_stride);

/* f(N,M) = scale relu(x(N,K) w(K,M)) in fp64, the products added one after the other over K: the
 * same bits for the same row of x, whatever else is computed. */
void algebra_features(uint32_t N, uint32_t K, uint32_t M, const float *x, const float *w,
                      double scale, double *f);

/* x^T y of length N. */
double algebra_dot(uint32_t N, const double *x, const double *y);

/* Inverse of a general matrix, in place; pivots(N) is scratch. 0, -EDOM if singular, -ENOMEM. */
int algebra_invert(uint32_t N, double *a, uint32_t stride, int *pivots);

/* Cholesky factor of a symmetric matrix (lower triangle read and written). 0, -EDOM if not positive
 * definite. */
int algebra_cholesky(uint32_t N, double *a, uint32_t stride);

/* Solves a x = b for x(N,M) in place of b; a holds the factor of algebra_cholesky. */
void algebra_cholesky_solve(uint32_t N, uint32_t M, const double *a, uint32_t a_stride, double *b,
                            uint32_t b_stride);

/* Inverse from the factor, in place, both triangles. 0, -EDOM. */
int algebra_cholesky_inverse(uint32_t N, double *a, uint32_t stride);

#endif
