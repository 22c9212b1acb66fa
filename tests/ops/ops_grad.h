/* ops_grad.h -- the mode `grad` of tests/ops. Tests only. */
#ifndef LEARND_OPS_GRAD_H
#define LEARND_OPS_GRAD_H

#include <stdbool.h>

/* Every case on every level. What the program exits with. */
int ops_grad(void);

/* Of ops.c, which decides what the library's simd_pick() answers: 0, 1, ... until false. */
bool ops_level_set(int i);
const char *ops_level_name(void);

#endif
