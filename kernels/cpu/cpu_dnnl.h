/* cpu_dnnl.h -- what cpu_linear.c and cpu_linear_training.c share of oneDNN's C API, 2.6 or 3.x.
 * Private to these two and cpu_dnnl.c.
 */
#ifndef LEARND_CPU_DNNL_H
#define LEARND_CPU_DNNL_H

#include <dnnl.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernels/backend.h"

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t desc; /* an opaque handle in 3.x, a struct in 2.x */
typedef const_dnnl_memory_desc_t desc_ref;
#define DESC_PTR(d) (d)
#define DESC_COPY(ref) ((desc)(ref))
#else
typedef dnnl_memory_desc_t desc;
typedef const dnnl_memory_desc_t *desc_ref;
#define DESC_PTR(d) (&(d))
#define DESC_COPY(ref) (*(ref))
#endif

/* One engine for the process: it holds no device state on a CPU. NULL: no memory. */
dnnl_engine_t cpu_dnnl_engine(void);
/* oneDNN below AVX-512 knows no bf16, and its rows depend on their number. */
bool cpu_dnnl_below_avx512(void);
/* The step of the ladder of row counts: 8 rows at a time while small, then about 6 % steps. */
uint32_t cpu_dnnl_rung(uint32_t rows);

static inline dnnl_data_type_t cpu_dnnl_type(enum kdtype dtype)
{
    return dtype == K_BF16 ? dnnl_bf16 : dnnl_f32;
}

/* A matrix (rows,columns) in a layout. Freed with cpu_dnnl_desc_free. */
desc cpu_dnnl_desc(uint32_t rows, uint32_t columns, enum kdtype dtype, dnnl_format_tag_t tag);
/* Element (r,c) at r row_step + c column_step. */
desc cpu_dnnl_desc_strided(uint32_t rows, uint32_t columns, enum kdtype dtype, uint32_t row_step,
                           uint32_t column_step);
void cpu_dnnl_desc_free(desc *d);

/* Is `d` the layout of struct simd_blocks (simd_training.h)? Its width, or 0. */
uint32_t cpu_dnnl_block_width(desc_ref d, uint32_t rows, uint32_t columns);

/* y = x w, plus bias (1,columns) in fp32 unless NULL; added to y if `add`. The scratchpad is the
 * caller's. */
dnnl_status_t cpu_dnnl_matmul(desc_ref x, desc_ref w, desc_ref bias, desc_ref y, bool add,
                              dnnl_primitive_desc_t *ret_pd);
/* 0, -ENOMEM. */
int cpu_dnnl_memory(desc_ref d, void *handle, dnnl_memory_t *ret_memory);
/* `from` in the layout `to` has. 0, -EIO. */
int cpu_dnnl_reorder(dnnl_memory_t from, dnnl_memory_t to);

#endif
