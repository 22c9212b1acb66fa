/* ops_grad.h -- the modes `grad` and `steady` of tests/ops. Tests only. */
#ifndef LEARND_OPS_GRAD_H
#define LEARND_OPS_GRAD_H

#include <stdbool.h>

#include "kernels/backend.h"

/* Every case on every level. What the program exits with. */
int ops_grad(const struct backend *tested);
/* The mode `steady`: of what one layer of a real encoder is, that the same call gives the same
 * bits. */
int ops_steady(const struct backend *tested);

/* Of ops.c. Of the cpu backend it decides what the library's simd_pick() answers: 0, 1, ... until
 * false. Another backend has one level. */
bool ops_next(const struct backend *be, int i);
const char *ops_level_name(const struct backend *be);

#endif
