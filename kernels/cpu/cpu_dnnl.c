/* cpu_dnnl.c -- see cpu_dnnl.h. */
#include "kernels/cpu/cpu_dnnl.h"

#include <errno.h>

dnnl_engine_t cpu_dnnl_engine(void)
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

bool cpu_dnnl_below_avx512(void)
{
    return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core) != dnnl_cpu_isa_avx512_core;
}

uint32_t cpu_dnnl_rung(uint32_t rows)
{
    uint32_t step = rows <= 64 ? 8 : rows <= 256 ? 16 : rows <= 512 ? 32 : 64;

    return (rows + step - 1) / step * step;
}

desc cpu_dnnl_desc(uint32_t rows, uint32_t columns, enum kdtype dtype, dnnl_format_tag_t tag)
{
    dnnl_dims_t dims = {rows, columns};
    desc d;

#if DNNL_VERSION_MAJOR >= 3
    dnnl_memory_desc_create_with_tag(&d, 2, dims, cpu_dnnl_type(dtype), tag);
#else
    dnnl_memory_desc_init_by_tag(&d, 2, dims, cpu_dnnl_type(dtype), tag);
#endif
    return d;
}

desc cpu_dnnl_desc_strided(uint32_t rows, uint32_t columns, enum kdtype dtype, uint32_t row_step,
                           uint32_t column_step)
{
    dnnl_dims_t dims = {rows, columns}, steps = {row_step, column_step};
    desc d;

#if DNNL_VERSION_MAJOR >= 3
    dnnl_memory_desc_create_with_strides(&d, 2, dims, cpu_dnnl_type(dtype), steps);
#else
    dnnl_memory_desc_init_by_strides(&d, 2, dims, cpu_dnnl_type(dtype), steps);
#endif
    return d;
}

void cpu_dnnl_desc_free(desc *d)
{
#if DNNL_VERSION_MAJOR >= 3
    dnnl_memory_desc_destroy(*d);
#else
    (void)d;
#endif
}

uint32_t cpu_dnnl_block_width(desc_ref d, uint32_t rows, uint32_t columns)
{
    static const dnnl_format_tag_t tags[] = {dnnl_BA16a16b2a, dnnl_BA16a32b2a, dnnl_BA16a64b2a};
    uint32_t width = 0;

    for (uint32_t i = 0; i < sizeof tags / sizeof *tags && width == 0; i++) {
        desc blocks = cpu_dnnl_desc(rows, columns, K_BF16, tags[i]);

        if (dnnl_memory_desc_equal(d, DESC_PTR(blocks)))
            width = 16U << i;
        cpu_dnnl_desc_free(&blocks);
    }
    return width;
}

static void add_to_result(dnnl_primitive_attr_t attr)
{
    dnnl_post_ops_t ops;

    dnnl_post_ops_create(&ops);
#if DNNL_VERSION_MAJOR >= 3
    dnnl_post_ops_append_sum(ops, 1, 0, dnnl_data_type_undef);
#else
    dnnl_post_ops_append_sum(ops, 1);
#endif
    dnnl_primitive_attr_set_post_ops(attr, ops);
    dnnl_post_ops_destroy(ops);
}

dnnl_status_t cpu_dnnl_matmul(desc_ref x, desc_ref w, desc_ref bias, desc_ref y, bool add,
                              dnnl_primitive_desc_t *ret_pd)
{
    dnnl_engine_t engine = cpu_dnnl_engine();
    dnnl_primitive_attr_t attr;
    dnnl_status_t s;

    if (dnnl_primitive_attr_create(&attr) != dnnl_success)
        return dnnl_out_of_memory;
    dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (add)
        add_to_result(attr);
#if DNNL_VERSION_MAJOR >= 3
    s = dnnl_matmul_primitive_desc_create(ret_pd, engine, x, w, bias, y, attr);
#else
    {
        dnnl_matmul_desc_t d;

        s = dnnl_matmul_desc_init(&d, x, w, bias, y);
        if (s == dnnl_success)
            s = dnnl_primitive_desc_create(ret_pd, &d, attr, engine, NULL);
    }
#endif
    dnnl_primitive_attr_destroy(attr);
    return s;
}

int cpu_dnnl_memory(desc_ref d, void *handle, dnnl_memory_t *ret_memory)
{
    return dnnl_memory_create(ret_memory, d, cpu_dnnl_engine(), handle) == dnnl_success ? 0
                                                                                        : -ENOMEM;
}

int cpu_dnnl_reorder(dnnl_memory_t from, dnnl_memory_t to)
{
    dnnl_engine_t engine = cpu_dnnl_engine();
    desc_ref from_desc, to_desc;
    dnnl_primitive_desc_t pd;
    dnnl_primitive_t primitive;
    dnnl_stream_t stream;
    int rc = -EIO;

    dnnl_memory_get_memory_desc(from, &from_desc);
    dnnl_memory_get_memory_desc(to, &to_desc);
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
