/* train.h -- fine-tuning an encoder, as a step function.
 *
 * Three lives: struct encoder is frozen and shared, struct encoder_ctx is one thread's scratch, and
 * struct train is the third: fp32 master weights, gradients, moments and the temporary head. It has
 * one owner, and holds no clock, thread, socket or randomness that is not an argument: the same
 * (start weights, settings, sequence of batches) give the same weights bit for bit on one device,
 * and an image written after any step resumes into the same bits there (on another device it goes
 * on as well, in bits of its own).
 *
 * All arithmetic is that of the device whose table of operations train_open is given: encoder,
 * temporary head, losses, LoRA and AdamW. What travels is texts with their targets and teachers to
 * it, and three losses a text and the norm of the gradient back.
 *
 * Losses: cross-entropy (or, for sets of labels, binary cross-entropy) of a cosine head,
 * logits = scale x . w_c / |w_c|; for old examples of a replay run also the temperature KL to the
 * live version's probabilities, masked to the labels that existed, and 1 - cos to the live
 * embedding. The head is thrown away afterwards: serving rebuilds its exact head (kernels/head).
 *
 * Only the rows of the word table that the run's texts use are trained (rows that no text touches
 * have no gradient, and tables no decay: the same result for less memory).
 */
#ifndef LEARND_TRAIN_H
#define LEARND_TRAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/backend.h"

struct train;

enum train_kind { TRAIN_SINGLE, TRAIN_MULTI };
enum train_lora { TRAIN_LORA_NONE, TRAIN_LORA_QV, TRAIN_LORA_ALL };

struct train_settings {
    enum train_kind kind;
    uint32_t labels_len;        /* L, at least 2 (TRAIN_MULTI: 1) */
    bool fp32;                  /* exactness: no bf16 anywhere */
    uint64_t seed;              /* of dropout and of what LoRA starts from */
    uint64_t steps;             /* of the whole run: the schedule's length */
    float lr, head_lr;          /* 1e-4, 1e-3; peaks of a linear warm-up and a linear decay to 0 */
    float warmup;               /* share of the steps, 0.1 */
    float weight_decay;         /* 0.01; none on vectors and tables */
    float clip;                 /* largest norm of the whole gradient, 1.0 */
    float dropout;              /* 0.1 */
    float scale;                /* of the cosine head, 20 */
    float alpha;                /* weight of new examples' loss in a batch with old ones, 1 */
    float distill, temperature; /* weight and T of the KL; 0.5, 2 */
    float feature;              /* weight of 1 - cos; 0.1 */
    enum train_lora lora;
    uint32_t lora_rank;  /* 8 */
    float lora_alpha;    /* 16 */
    uint32_t threads;    /* cores of one operation; no bit depends on it */
    uint32_t tokens_max; /* T of one micro-batch: a longer batch is taken in pieces, their gradients
                            summed. Halved by itself when memory runs out */
};

/* Fills in the values above; labels_len, steps, threads and seed are the caller's. */
void train_settings_default(struct train_settings *ret_settings);

/* A target of an example: labels with shares that sum to 1, or for TRAIN_MULTI a set. */
struct train_target {
    uint32_t label;
    float value;
};

struct train_example {
    const int32_t *ids;   /* (len) of the encoder's whole vocabulary */
    const uint8_t *types; /* (len) or NULL */
    uint32_t len;
    uint64_t key; /* of dropout: the example's identity, not its place */
    const struct train_target *targets;
    uint32_t targets_len;
    bool old;             /* of a replay run: from before it */
    const float *teacher; /* (teacher_len) the live version's probabilities over the first
                             labels, or NULL */
    uint32_t teacher_len;
    const float *embedding; /* (C) the live version's, unit length, or NULL */
};

struct train_report {
    /* Sums over their texts, divided by the length of the whole batch: loss = loss_old + alpha
     * loss_new + distill loss_distill + feature loss_feature (alpha 1 in a batch of new ones). */
    double loss, loss_new, loss_old, loss_distill, loss_feature;
    double grad_norm; /* before clipping */
    double lr;
    uint32_t tokens;
};

/* Opens the weights in a Hugging Face folder. used (V) flags the ids that the run's texts hold;
 * prototypes (L,C) start the head (NULL, or a row of zeros: from the seed); of any length. 0,
 * -ENOMEM (`why` says how much it needs), -EINVAL (a setting out of range: `why` names it),
 * -ENOTSUP (the device cannot train), or as encoder_open. */
int train_open(const struct backend *backend, const char *folder,
               const struct train_settings *settings, const uint8_t *used, uint32_t used_len,
               const float *prototypes, char *why, size_t why_bytes, struct train **ret_train);
void train_close(struct train *train);
/* What a train of these settings takes of the device's K_RUNS, as device and as shared memory, for
 * the folder's whole vocabulary and batches of at most seqs_max texts; nothing is asked of the
 * device. 0, or as train_open. */
int train_measure(const struct backend *backend, const char *folder,
                  const struct train_settings *settings, uint32_t seqs_max, char *why,
                  size_t why_bytes, uint64_t *ret_bytes, uint64_t *ret_shared_bytes);

/* One step: forward, backward, clip, AdamW. 0; -EDOM: the loss or a gradient is not finite;
 * -ENOMEM; -EINVAL: an example out of range; -EIO, -ENODEV; or what `between` answered. After an
 * error nothing has changed (but that after -ENOMEM batches may be taken in smaller pieces); only a
 * device that fails in the middle of the update leaves a train that answers its error for ever,
 * until an image is read. */
int train_step(struct train *train, const struct train_example *batch, uint32_t len,
               struct train_report *ret_report);
/* Is called between the pieces of a batch that is taken in several; may take its time. Not 0: the
 * step ends with it. NULL: nothing is called. */
typedef int train_between_fn(void *ud);
void train_between(struct train *train, train_between_fn *between, void *ud);
uint64_t train_steps_done(const struct train *train);
/* Cores that the following steps use, at most settings.threads. Results do not depend on it. */
void train_threads(struct train *train, uint32_t threads);

/* Unit embeddings (len,C) by the present weights, without dropout. */
int train_embed(struct train *train, const struct train_example *batch, uint32_t len,
                float *embeddings);

/* Checkpoint: everything that a later step depends on. */
size_t train_image_bytes(const struct train *train);
/* image: aligned as a float. 0; -EIO, -ENODEV: it is undefined. */
int train_image_write(const struct train *train, void *image);
/* Into a train opened with the same arguments. 0, -EINVAL (another run's, or damaged), -EIO,
 * -ENODEV. */
int train_image_read(struct train *train, const void *image, size_t image_bytes);

/* The whole encoder as the bytes of a model.safetensors (F32, Hugging Face names, LoRA merged),
 * handed piece by piece to `write`. 0 or what it answered, -ENOMEM, -EIO, -ENODEV; -ESTALE: the
 * start folder, from which the rows of unused words come, is no longer what it was. */
typedef int train_write_fn(void *ud, const void *bytes, size_t bytes_len);
int train_weights_write(struct train *train, train_write_fn *write, void *ud);

#endif
