/* loss_run.h -- what the operation loss is given in a test: texts with targets, teachers and
 * embeddings of every kind, made from a seed. Tests only.
 */
#ifndef LEARND_LOSS_RUN_H
#define LEARND_LOSS_RUN_H

#include <stdbool.h>

#include "kernels/backend_training.h"

/* NONE: neither teachers nor embeddings. */
enum loss_how { LOSS_SINGLE, LOSS_SETS, LOSS_SINGLE_NONE, LOSS_SETS_NONE };

struct loss_run {
    struct kloss given; /* scratch is the caller's to set */
    struct kloss_text *texts;
    struct kloss_target *targets;
    float *teachers, *features;
};

/* 0, -ENOMEM. */
int loss_run_init(struct loss_run *run, enum loss_how how, uint32_t B, uint32_t C, uint32_t L,
                  uint64_t seed);
void loss_run_done(struct loss_run *run);

/* A text's losses and its slope are the same bits alone and among others; numbers that are none
 * come out, of the texts that they are in. NULL, or what is not so. */
const char *loss_run_check(const struct backend *be, struct kctx *k);

#endif
