/* train_fixture.h -- a case of fine-tuning from a .safetensors file of tests/golden/train: a batch
 * with its targets and teachers, settings, and what PyTorch makes of them. The format is that of
 * tests/golden/train/make_train_golden.py. For tests/unit and for dump_train.
 */
#ifndef LEARND_TRAIN_FIXTURE_H
#define LEARND_TRAIN_FIXTURE_H

#include <stdbool.h>

#include "kernels/encoder/safetensors.h"
#include "kernels/train/train.h"

enum { TRAIN_CASE_STEPS = 10 };

struct train_case {
    struct safetensors *file;
    struct train_settings settings;
    struct train_example *batch;
    uint32_t len;
    float *prototypes; /* (L,C) */
    int32_t *ids;      /* (T) */
    uint8_t *types;
    struct train_target *targets;
    float *teachers, *embeddings;
};

/* Whether the file is a case. It is read whole; what PyTorch made is in `file`. */
bool train_case_read(const char *path, struct train_case *ret_case);
void train_case_free(struct train_case *c);

/* Opens a train of the case: dropout 0, all words of the vocabulary V or only those in use. NULL:
 * prints why. */
struct train *train_case_open(const struct train_case *c, const char *folder, bool fp32,
                              bool all_words);

/* Bytes that grow; the caller frees them. */
struct train_bytes {
    uint8_t *bytes;
    size_t len, room;
};
int train_bytes_take(void *ud, const void *bytes, size_t len); /* a train_write_fn */

/* A tensor of the file as fp32, NULL where there is none; the caller frees it. */
float *train_case_values(const struct train_case *c, const char *name, uint64_t *ret_len);

/* The examples of step i: all, or at odd steps the first half. */
uint32_t train_case_len(const struct train_case *c, uint32_t step);

/* scale cos (less the biases) of unit embeddings (len,C) and the present head. */
void train_case_logits(const struct train *t, const float *embeddings, uint32_t len,
                       float *ret_logits);

#endif
