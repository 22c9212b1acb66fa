/* cuda_ptx.h -- the instructions that have no name in CUDA C++ without another header, and the
 * block's shared memory: everything of these kernels that a host compiler cannot read.
 *
 * tests/cuda/shim_ptx.h stands in its place in the test on the host.
 */
#ifndef LEARND_CUDA_PTX_H
#define LEARND_CUDA_PTX_H

#include <stdint.h>

/* What the launch asked for; 16-byte aligned. */
__device__ inline char *shared_memory(void)
{
    extern __shared__ __align__(16) char cuda_shared[];

    return cuda_shared;
}

/* Two values rounded to nearest even as one word of bf16: the first in the lower half. */
__device__ inline uint32_t bf16_pair(float low, float high)
{
    uint32_t word;

    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}

__device__ inline float half_value(uint16_t half)
{
    float x;

    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(half));
    return x;
}

/* d(16,8) += a(16,16) b(16,8) of a warp, bf16 with fp32 sums. With g = lane / 4 and t = lane % 4 a
 * lane holds, as pairs in words,
 *   a: rows g, g+8, g, g+8 at columns 2t, 2t, 2t+8, 2t+8     b: rows 2t, 2t+8 of column g
 *   d: columns 2t and 2t+1 of row g, then of row g+8
 * (PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type"). */
__device__ inline void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* Where shared memory's own instructions look for it. */
__device__ inline uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* Four 8 x 8 matrices of 16-bit values from shared memory: lane l names row l % 8 of matrix l / 8,
 * 16 bytes, and gets of each matrix the pair at columns 2t, 2t+1 of row g. */
__device__ inline void load_matrices(uint32_t (&r)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

/* The same, transposed: the pair in rows 2t, 2t+1 of column g. */
__device__ inline void load_transposed(uint32_t (&r)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

/* Begins to copy 16 bytes, or 8, to shared memory; zeros where they are not `there`, and then
 * `from` is not read. They have come for this thread when it has waited, for others behind a
 * barrier. */
__device__ inline void copy_16(void *to, const void *from, bool there)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(shared_address(to)), "l"(from), "r"(there ? 16 : 0)
                 : "memory");
}

__device__ inline void copy_8(void *to, const void *from, bool there)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;"
                 :
                 : "r"(shared_address(to)), "l"(from), "r"(there ? 8 : 0)
                 : "memory");
}

__device__ inline void copies_wait(void)
{
    asm volatile("cp.async.wait_all;" : : : "memory");
}

#endif
