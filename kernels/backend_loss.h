/* backend_loss.h -- what the operation `loss` of backend_training.h is given, and what it computes.
 *
 * The losses of a piece of a batch by a cosine head: with x(B,C) the unit embeddings of its texts
 * and cos_c = x . w_c / |w_c| over labels c < L,
 *
 *   one label    z_c = scale cos_c           CE = -sum_c t_c log softmax(z)_c
 *   sets         z_c = scale (cos_c - b_c)   BCE = sum_c log(1 + e^z_c) - t_c z_c
 *   KL           q over the labels that the teacher knew, z taken at 1/T; p = the teacher's at 1/T:
 *                p^(1/T) over its sum, for sets each label alone; T^2 sum p log(p/q)
 *   feature      1 - x . e
 *
 * What is differentiated is the sum over the texts of
 *
 *   weight (CE or BCE) + share distill T^2 KL + share feature (1 - cos).
 *
 * All that it points to is shared memory, but scratch.
 */
#ifndef LEARND_BACKEND_LOSS_H
#define LEARND_BACKEND_LOSS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kloss_target {
    uint32_t label; /* below L; several of one label add up */
    float value;    /* t */
};

struct kloss_text {
    double weight;
    size_t target, teacher; /* its first in targets, in teachers */
    uint32_t targets_len;
    uint32_t teacher_len; /* labels that the teacher knew; 0: no KL */
    bool featured;        /* e is its row of features */
};

struct kloss {
    bool sets;
    uint32_t B, C, L;
    float scale, distill, temperature, feature;
    double share;                       /* 1 / texts of the batch */
    const struct kloss_text *texts;     /* (B) */
    const struct kloss_target *targets; /* (targets_len) */
    const float *teachers;              /* (teachers_len) probabilities */
    const float *features;              /* (B,C), or NULL where no text is featured */
    size_t targets_len, teachers_len;
    void *scratch; /* loss_bytes of device memory */
};

/* What losses(B,3) of a text holds; 0 where there is none. */
enum { K_LOSS_LABELS, K_LOSS_TEACHER, K_LOSS_FEATURE, K_LOSSES };

#endif
