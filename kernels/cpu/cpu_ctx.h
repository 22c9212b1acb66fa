/* cpu_ctx.h -- the cpu backend's context: what cpu_backend.c opens and the operations of serving
 * and training share. Private to kernels/cpu.
 */
#ifndef LEARND_CPU_CTX_H
#define LEARND_CPU_CTX_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/backend_training.h"

struct kctx {
    const struct simd_table *simd;
    struct cpu_linear *linear;
    struct cpu_linear_training *linear_training; /* made by the first operation of training */
    uint32_t threads, threads_max;
    int error;      /* first failure */
    float *scratch; /* (threads_max, scratch_len) */
    size_t scratch_len;
    float *shared; /* (shared_len) what a team writes together; training only */
    size_t shared_len;
};

extern const struct backend_training cpu_training; /* cpu_training.c */

/* A team is worth its wake-up only for this many values of work. */
enum { CPU_TEAM_VALUES_MIN = 16384 };

/* Keeps the first failure. */
void cpu_fail(struct kctx *k, int error);
/* Scratch of at least `len` floats for each thread of a team. 0, or -ENOMEM, which has been kept.
 */
int cpu_scratch_reserve(struct kctx *k, size_t len);
/* cpu_training.c: memory that a team writes together, of at least `len` floats. NULL: failed, and
 * kept. */
void *cpu_shared_reserve(struct kctx *k, size_t len);
/* Of both tables. */
size_t cpu_mat_bytes(uint32_t M, uint32_t K, enum kdtype dtype);

static inline int cpu_team(const struct kctx *k, size_t values)
{
    return k->threads > 1 && values >= CPU_TEAM_VALUES_MIN ? (int)k->threads : 1;
}

static inline size_t cpu_element_bytes(enum kdtype dtype)
{
    return dtype == K_BF16 ? 2 : 4;
}

static inline void *cpu_at(struct kview v, size_t element)
{
    return (char *)v.data + element * cpu_element_bytes(v.dtype);
}

#endif
