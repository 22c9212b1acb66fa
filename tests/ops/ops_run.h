/* ops_run.h -- one case of the list made concrete: its inputs, its call on a backend, its meaning
 * in plain loops.
 *
 * A case is a batch of units: rows, or texts where the operation works on texts. Any run of units
 * can be computed as a batch of its own; that is how compare shows that a unit's bits do not depend
 * on its neighbours. Tests only.
 */
#ifndef LEARND_OPS_RUN_H
#define LEARND_OPS_RUN_H

#include "kernels/backend.h"
#include "kernels/cpu/own_linear.h"

/* OPS_WIDER: texts, rows and length by which a batch is made wider than it is. */
enum { OPS_TEXTS_MAX = 12, OPS_BUFFERS = 6, OPS_WIDER = 3 };

enum op_kind {
    OP_EMBED,
    OP_LINEAR,
    OP_OWN_LINEAR, /* cpu/own_linear.c by itself: what linear is below AVX-512 */
    OP_ATTENTION,
    OP_ADD_LAYERNORM,
    OP_POOL,
    OP_HEAD_FEATURES,
    OP_HEAD_DENSE,
    OP_HEAD_SIMILARITY,
    OP_KINDS,
};

/* What `how` says: linear and own_linear: 0 none, 1 gelu, 2 none without bias. embed: 1: types
 * NULL. attention: 1: large scores. add_layernorm: 1: y is residual, 2: y is x. pool: 0 mean, 1
 * cls. */
struct ops_case {
    enum op_kind op;
    enum kdtype dtype;
    int how;
    uint32_t N, M, K;             /* rows; columns of y; inner dimension (attention: H) */
    double tolerance;             /* |y - plain| <= tolerance (1 + |plain|) */
    uint32_t lens[OPS_TEXTS_MAX]; /* texts, up to the first 0; N is not used then */
};

struct ops_buffer {
    double *exact;       /* what the dtype holds, as doubles */
    struct kview device; /* (rows(n), columns) */
    uint32_t columns;
    size_t len;
};

struct ops_run {
    const struct ops_case *c;
    const struct backend *be;
    uint32_t units, rows;                /* texts or rows; rows of the first input */
    uint32_t offsets[OPS_TEXTS_MAX + 1]; /* texts */
    size_t *at;                          /* (units+1) where a unit's result starts in y */
    struct ops_buffer in[OPS_BUFFERS];
    struct kmat *mat;
    struct own_mat *own;
    int32_t *ids;
    uint8_t *types;
    enum kdtype y_dtype;
    uint32_t y_columns, y_rows;
    uint32_t threads; /* for own_linear, which has no context */
    bool wider;       /* batches of texts are told as wider ones */
};

const char *ops_name(enum op_kind op);
/* "bf16 none 7x384x384" or "fp32 mean [1 3 70]x384", into text(64). */
void ops_shape(const struct ops_case *c, char *text);

/* 0 or -errno. Inputs depend on the case and `seed` alone. */
int ops_run_init(struct ops_run *run, const struct ops_case *c, const struct backend *be,
                 uint64_t seed);
void ops_run_done(struct ops_run *run);
/* Units from .. from+len as one batch into y, which has room for y_rows rows of the ladder. */
void ops_run_device(const struct ops_run *run, struct kctx *k, uint32_t from, uint32_t len,
                    struct kview y);
/* All units. */
void ops_run_plain(const struct ops_run *run, double *y);
/* Floating point operations of one call, or 0: then bytes moved are what counts. */
double ops_run_flops(const struct ops_run *run);
double ops_run_bytes(const struct ops_run *run);
/* About N(0,1), of (seed, i) alone: a sum of four uniform draws of SplitMix64. */
float ops_draw(uint64_t seed, size_t i);
/* Element i of a view as double. */
double ops_value(struct kview v, size_t i);

#endif
