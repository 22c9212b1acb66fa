/* peak.c -- see peak.h. oneDNN 2.6 and 3.x differ in how descriptors are made. */
#include "tests/bench/peak.h"

#include <dnnl.h>
#include <err.h>
#include <stdlib.h>

#define CHECK(call)                                                                                \
    do {                                                                                           \
        dnnl_status_t status_ = (call);                                                            \
        if (status_ != dnnl_success)                                                               \
            errx(1, "oneDNN status %d at %s:%d", (int)status_, __FILE__, __LINE__);                \
    } while (0)

enum { SHAPES_MAX = 8 };

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t desc;
typedef const_dnnl_memory_desc_t desc_ref;
#define REF(d) (d)
#define MAKE(d, dims, type, tag) dnnl_memory_desc_create_with_tag(&(d), 2, dims, type, tag)
#else
typedef dnnl_memory_desc_t desc;
typedef const dnnl_memory_desc_t *desc_ref;
#define REF(d) (&(d))
#define MAKE(d, dims, type, tag) dnnl_memory_desc_init_by_tag(&(d), 2, dims, type, tag)
#endif

struct matmul {
    dnnl_primitive_t primitive;
    dnnl_memory_t x, y;
};

struct peak {
    struct peak_shape shapes[SHAPES_MAX];
    uint32_t shapes_len, copies, rows_max;
    dnnl_data_type_t type;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_memory_t *weights[SHAPES_MAX]; /* (copies) */
    struct matmul *matmuls[SHAPES_MAX]; /* (rows_max+1), made on first use */
    void *x, *y;
};

/* weights NULL: whatever layout oneDNN prefers. */
static dnnl_primitive_desc_t describe(struct peak *p, uint32_t s, uint32_t N, desc_ref weights)
{
    dnnl_dims_t xd = {N, p->shapes[s].K}, wd = {p->shapes[s].K, p->shapes[s].M};
    dnnl_dims_t yd = {N, p->shapes[s].M};
    dnnl_primitive_desc_t pd;
    desc x, w, y;

    CHECK(MAKE(x, xd, p->type, dnnl_ab));
    CHECK(MAKE(w, wd, p->type, dnnl_format_tag_any));
    CHECK(MAKE(y, yd, p->type, dnnl_ab));
#if DNNL_VERSION_MAJOR >= 3
    CHECK(dnnl_matmul_primitive_desc_create(&pd, p->engine, x, weights != NULL ? weights : w, NULL,
                                            y, NULL));
    dnnl_memory_desc_destroy(x);
    dnnl_memory_desc_destroy(w);
    dnnl_memory_desc_destroy(y);
#else
    dnnl_matmul_desc_t d;

    CHECK(dnnl_matmul_desc_init(&d, &x, weights != NULL ? weights : &w, NULL, &y));
    CHECK(dnnl_primitive_desc_create(&pd, &d, NULL, p->engine, NULL));
#endif
    return pd;
}

static void fill(void *data, dnnl_data_type_t type, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (type == dnnl_bf16)
            ((uint16_t *)data)[i] = (uint16_t)(0x3c00 + i % 128); /* 0.0078 .. 0.0156 */
        else
            ((float *)data)[i] = 0.01f;
    }
}

static dnnl_memory_t make_weights(struct peak *p, desc_ref layout, size_t n)
{
    dnnl_memory_t memory;
    void *data;

    CHECK(dnnl_memory_create(&memory, layout, p->engine, DNNL_MEMORY_ALLOCATE));
    CHECK(dnnl_memory_get_data_handle(memory, &data));
    fill(data, p->type, n); /* all values alike, so the layout does not matter */
    return memory;
}

struct peak *peak_open(const struct peak_shape *shapes, uint32_t shapes_len, uint32_t copies,
                       enum kdtype dtype, uint32_t rows_max)
{
    struct peak *p = calloc(1, sizeof *p);
    size_t bytes = dtype == K_BF16 ? 2 : 4, widest = 0;

    if (p == NULL || shapes_len > SHAPES_MAX)
        errx(1, "peak: too many shapes or no memory");
    p->shapes_len = shapes_len;
    p->copies = copies;
    p->rows_max = rows_max;
    p->type = dtype == K_BF16 ? dnnl_bf16 : dnnl_f32;
    CHECK(dnnl_engine_create(&p->engine, dnnl_cpu, 0));
    CHECK(dnnl_stream_create(&p->stream, p->engine, dnnl_stream_default_flags));
    for (uint32_t s = 0; s < shapes_len; s++) {
        dnnl_primitive_desc_t pd;

        p->shapes[s] = shapes[s];
        widest = shapes[s].K > widest ? shapes[s].K : widest;
        widest = shapes[s].M > widest ? shapes[s].M : widest;
        pd = describe(p, s, rows_max, NULL);
        p->weights[s] = calloc(copies, sizeof *p->weights[s]);
        p->matmuls[s] = calloc(rows_max + 1, sizeof *p->matmuls[s]);
        if (p->weights[s] == NULL || p->matmuls[s] == NULL)
            err(1, "peak");
        for (uint32_t c = 0; c < copies; c++)
            p->weights[s][c] =
                make_weights(p, dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0),
                             (size_t)shapes[s].K * shapes[s].M);
        dnnl_primitive_desc_destroy(pd);
    }
    p->x = aligned_alloc(64, ((size_t)rows_max * widest * bytes + 63) / 64 * 64);
    p->y = aligned_alloc(64, ((size_t)rows_max * widest * bytes + 63) / 64 * 64);
    if (p->x == NULL || p->y == NULL)
        err(1, "peak");
    fill(p->x, p->type, (size_t)rows_max * widest);
    return p;
}

void peak_close(struct peak *p)
{
    for (uint32_t s = 0; s < p->shapes_len; s++) {
        for (uint32_t c = 0; c < p->copies; c++)
            dnnl_memory_destroy(p->weights[s][c]);
        for (uint32_t n = 0; n <= p->rows_max; n++) {
            dnnl_primitive_destroy(p->matmuls[s][n].primitive);
            dnnl_memory_destroy(p->matmuls[s][n].x);
            dnnl_memory_destroy(p->matmuls[s][n].y);
        }
        free(p->weights[s]);
        free(p->matmuls[s]);
    }
    dnnl_stream_destroy(p->stream);
    dnnl_engine_destroy(p->engine);
    free(p->x);
    free(p->y);
    free(p);
}

static void make_matmul(struct peak *p, uint32_t s, uint32_t N)
{
    struct matmul *m = &p->matmuls[s][N];
    dnnl_primitive_desc_t pd;
    desc_ref weights;

    CHECK(dnnl_memory_get_memory_desc(p->weights[s][0], &weights));
    pd = describe(p, s, N, weights);
    CHECK(dnnl_primitive_create(&m->primitive, pd));
    CHECK(dnnl_memory_create(&m->x, dnnl_primitive_desc_query_md(pd, dnnl_query_src_md, 0),
                             p->engine, p->x));
    CHECK(dnnl_memory_create(&m->y, dnnl_primitive_desc_query_md(pd, dnnl_query_dst_md, 0),
                             p->engine, p->y));
    dnnl_primitive_desc_destroy(pd);
}

void peak_run(struct peak *p, uint32_t N)
{
    for (uint32_t c = 0; c < p->copies; c++)
        for (uint32_t s = 0; s < p->shapes_len; s++) {
            struct matmul *m = &p->matmuls[s][N];

            if (m->primitive == NULL)
                make_matmul(p, s, N);
            dnnl_exec_arg_t args[] = {
                {DNNL_ARG_SRC, m->x}, {DNNL_ARG_WEIGHTS, p->weights[s][c]}, {DNNL_ARG_DST, m->y}};

            CHECK(dnnl_primitive_execute(m->primitive, p->stream, 3, args));
            CHECK(dnnl_stream_wait(p->stream));
        }
}

double peak_flops(const struct peak *p, uint32_t N)
{
    double flops = 0;

    for (uint32_t s = 0; s < p->shapes_len; s++)
        flops += 2.0 * N * p->shapes[s].K * p->shapes[s].M * p->copies;
    return flops;
}
