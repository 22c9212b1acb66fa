/* grad_run.h -- one case of the gradient check made concrete: the inputs of an operation, its
 * forward and backward on the device, and both in plain loops. Tests only.
 *
 * What is differentiated is the sum of dy y with dy given, so that every input of an operation has
 * a gradient of its own shape. The dropout mask that plain loops use is read off the device once:
 * which elements are dropped is the device's choice, that they are the same ones in both directions
 * is what is checked.
 */
#ifndef LEARND_GRAD_RUN_H
#define LEARND_GRAD_RUN_H

#include <stdbool.h>

#include "kernels/backend_training.h"
#include "tests/ops/loss_run.h"
#include "tests/ops/ops_run.h"

enum { GRAD_INPUTS = 5, GRAD_LARGE = 12 };
#define GRAD_START 0.5 /* what parameters' gradients hold before: backward adds to it */

enum grad_op {
    GRAD_LINEAR,
    GRAD_EMBED,
    GRAD_ADD_LAYERNORM,
    GRAD_GELU,
    GRAD_ATTENTION,
    GRAD_POOL,
    GRAD_LOSS,
    GRAD_LORA,
};

/* What `how` says: linear: 1: no db. embed: 1: types NULL. add_layernorm: 0: no dy2; 1: dy2, ds is
 * dy; 2: dy2, ds is dy2. gelu: 1: dx is dy. attention: 1: inputs of up to
 * GRAD_LARGE, and so large scores. pool: 0 mean, 1 cls.
 * loss: enum loss_how; N texts, M columns, K labels. lora: K the rank. */
struct grad_case {
    enum grad_op op;
    enum kdtype dtype;
    int how;
    uint32_t N, M, K; /* rows; columns; inner dimension of linear, heads of attention */
    float p;          /* dropout */
    double tolerance; /* |device - plain| <= tolerance (rms of the gradient + |plain|) */
    uint32_t lens[OPS_TEXTS_MAX];
};

struct grad_input {
    const char *name;
    uint32_t rows, columns;
    bool parameter; /* fp32, and its gradient is added to */
    enum kdtype dtype;
    size_t len;
    double *value, *plain;     /* as the device holds it; its gradient by plain loops */
    struct kview device, grad; /* with rows(rows) rows */
};

struct grad_run {
    const struct grad_case *c;
    const struct backend *be;
    const struct backend_training *training;
    uint32_t units, rows, offsets[OPS_TEXTS_MAX + 1];
    struct grad_input in[GRAD_INPUTS];
    int in_len;
    int32_t *ids;
    uint8_t *types;
    uint64_t *keys;
    struct kdropout dropout;
    double *mask; /* (rows,M) 0 or 1/(1-p) */
    struct kmat_train *mat;
    enum kdtype y_dtype;
    uint32_t y_rows, y_columns;
    size_t y_len;
    double *dy;                    /* (y_len) both parts together */
    struct kview y, dy_part[2], s; /* dy_part: as the device gets it, unspoiled */
    struct kview dy_device[2];     /* and what the device may write over */
    float *stats;
    struct loss_run loss;
};

const char *grad_name(const struct grad_case *c);

/* 0 or -errno. */
int grad_init(struct grad_run *run, const struct grad_case *c, const struct backend *be,
              const struct backend_training *training, struct kctx *k, uint64_t seed);
void grad_done(struct grad_run *run);

/* Forward and backward on the device: y and the inputs' grad. */
void grad_device(struct grad_run *run, struct kctx *k);
/* y(y_len) from the inputs' present values. */
void grad_forward_plain(const struct grad_run *run, double *y);
/* Fills the inputs' plain. */
void grad_back_plain(struct grad_run *run);
/* Multiplications of one plain forward. */
double grad_cost(const struct grad_run *run);

#endif
