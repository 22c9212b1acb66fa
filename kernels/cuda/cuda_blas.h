/* cuda_blas.h -- the matrix products of the CUDA backend. The home of cuBLASLt is cuda_blas.c;
 * the test on the host has plain loops in its place.
 *
 * Everything is row-major, as in backend.h; fp32 accumulation. With K_BF16 x, w and y are bf16,
 * with K_F32 they are fp32 and products are not rounded (no TF32).
 *
 * A row's bits. cuBLASLt chooses an algorithm by shape, and two algorithms may add in another
 * order. plans(M,K) makes the choice for each rung of row counts once, from those that add within
 * one block only, and keeps a rung's own algorithm only where it gives the same bits as that of the
 * tallest rung in a probe on this device whose sums cancel, so that any other order shows. So a row
 * of y is the same whatever stands beside it. Gradients (dx, dw) make no such promise: the same
 * call gives the same bits, and that is all.
 */
#ifndef LEARND_CUDA_BLAS_H
#define LEARND_CUDA_BLAS_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/backend.h"

struct cuda_blas;  /* one context's handle, workspace and chosen algorithms */
struct cuda_plans; /* the algorithms of one (M,K) in one dtype; made once, never freed */

/* Whether matrix products are to be had at all: 0, or -ENODEV with `why`. First of all. */
int cuda_blas_check(char *why, size_t why_bytes);
/* be: the backend itself, for memory. stream: a cudaStream_t. 0, -ENOMEM, -EIO, -ENODEV. */
int cuda_blas_open(const struct backend *be, enum kroom room, void *stream,
                   struct cuda_blas **ret_blas);
size_t cuda_blas_bytes(void); /* what that takes of the room */
void cuda_blas_close(struct cuda_blas *blas);

/* Any thread; the first call of a shape probes, a tenth of a second. Errors as open. */
int cuda_blas_plans(const struct backend *be, enum kdtype dtype, uint32_t M, uint32_t K,
                    struct cuda_plans **ret_plans);
/* Up to which row count one algorithm serves N rows. */
uint32_t cuda_blas_rows(uint32_t N);

/* y(N,M) = x(N,K) w(M,K)^T + bias(M); bias of y's dtype, or NULL. plans NULL: no promise.
 * All three: 0 or -EIO; they only enqueue. */
int cuda_blas_y(struct cuda_blas *blas, const struct cuda_plans *plans, enum kdtype dtype, void *y,
                const void *x, const void *w, const void *bias, uint32_t N, uint32_t M, uint32_t K);
/* dx(N,K) = dy(N,M) w(M,K). */
int cuda_blas_dx(struct cuda_blas *blas, enum kdtype dtype, void *dx, const void *dy, const void *w,
                 uint32_t N, uint32_t M, uint32_t K);
/* dw(M,K) fp32 += dy(N,M)^T x(N,K). */
int cuda_blas_dw(struct cuda_blas *blas, enum kdtype dtype, float *dw, const void *dy,
                 const void *x, uint32_t N, uint32_t M, uint32_t K);

#endif
