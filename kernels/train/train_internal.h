/* train_internal.h -- what the files of kernels/train share.
 *
 * All parameters stand in one block, and their gradients in a second block of the same layout:
 *
 *   [ matrices | tables and vectors | adapters (LoRA) | label vectors, biases (the head) ]
 *
 * so that the optimizer needs one call for each group, the norm one call, and a checkpoint three
 * copies. The moments cover only what is trained: everything, or with LoRA the last two parts.
 *
 * Blocks are the device's, and all that is computed with them is its operations. The host has what
 * it reads (the start weights) and writes (images, weights), and nothing in between.
 */
#ifndef LEARND_TRAIN_INTERNAL_H
#define LEARND_TRAIN_INTERNAL_H

#include "kernels/backend_training.h"
#include "kernels/encoder/encoder_weights.h"
#include "kernels/train/train.h"
#include "kernels/train/train_math.h"
enum { TRAIN_NAME_BYTES = 128 };

/* A row of the lists of encoder_weights.h. A field of struct train_layer points at the first row of
 * its name: qkv at its query, whose part the key's and the value's follow. */
struct master {
    const char *name;
    uint32_t layer; /* TRAIN_NO_LAYER: of the embeddings */
    uint32_t rows, columns;
    enum encoder_how how;
    size_t at;              /* in the block */
    struct kmat_train *mat; /* of a matrix, for all of its parts; else NULL */
};
#define TRAIN_NO_LAYER UINT32_MAX
#define MASTER_TABLE(field) struct master *field;
#define MASTER_VEC(field) struct master *field;
#define MASTER_MAT MASTER_VEC
#define MASTER_BIAS MASTER_VEC
#define MASTER_QUERY MASTER_VEC
#define MASTER_QUERY_BIAS MASTER_VEC
#define MASTER_KEY(field)
#define MASTER_KEY_BIAS(field)
#define MASTER_VALUE(field)
#define MASTER_VALUE_BIAS(field)
#define MASTER_FIELD(field, name, rows, columns, how) MASTER_##how(field)

struct train_embedding {
    ENCODER_EMBEDDING_PARAMETERS(MASTER_FIELD)
};

struct train_layer {
    ENCODER_LAYER_PARAMETERS(MASTER_FIELD)
};

/* Low-rank change of one matrix (of qkv: of one part): W + alpha/r B A. */
struct adapter {
    size_t base;            /* of W(M,K) in the block */
    uint32_t rows, columns; /* M, K */
    size_t a, b;            /* (r,K) (M,r) in the block */
};

struct masters {
    struct master *list;
    uint32_t list_len, words; /* words: used rows of the word table */
    int32_t *row_of;          /* (V) row of an id in the cut word table, or -1 */
    struct train_embedding embedding;
    struct train_layer *layers;
    struct adapter *adapters;
    uint32_t adapters_len;
    size_t matrices_end, encoder_end, head, biases, len; /* where the parts of the block end */
    size_t trained;                                      /* where they begin to be trained */
    float *w, *grad;                                     /* (len), the device's */
    float *m, *v;                                        /* (len - trained), the device's */
    float *effective; /* a matrix with its adapters, the device's; only with LoRA */
    size_t largest;   /* values of the largest matrix */
};

/* What the forward of one layer keeps for its backward. */
struct kept_layer {
    struct kview qkv, a;       /* (T,3C) (T,C) */
    struct kview s1, x1, u, h; /* (T,C) (T,C) (T,F) (T,F) */
    struct kview s2, x2;       /* (T,C): x2 is the next layer's x */
    float *stats1, *stats2;    /* (T,2) */
};

/* What the losses of a piece are given and answer; all shared. */
struct kept_loss {
    struct kloss given;
    double *losses;               /* (B,K_LOSSES) */
    struct kloss_text *texts;     /* (B) */
    struct kloss_target *targets; /* (targets_max) */
    float *teachers, *features;   /* (teachers_max) (B,C) */
    size_t targets_max, teachers_max;
};

/* One piece of a batch, packed, and the memory of its forward and backward: one allocation of the
 * device's, and one that both sides see. */
struct piece {
    void *memory, *shared;
    uint32_t tokens_max, seqs_max;
    uint32_t tokens, seqs, longest; /* T, B, of the longest text */
    int32_t *ids;                   /* (T) rows of the cut word table; shared */
    uint8_t *types;                 /* (T) shared */
    uint32_t *offsets;              /* (B+1) shared */
    uint64_t *keys;                 /* (T) of dropout; shared */
    struct kview s0, x0;            /* (T,C) */
    float *stats0;
    struct kept_layer *layers;      /* the host's */
    struct kview dy, dres, dx;      /* (T,C) gradients on their way down; dx: forwards scratch */
    struct kview wide;              /* (T, 3C or F) */
    float *y, *dembedding, *length; /* (B,C) (B,C) (B) */
    void *loss_scratch;
    struct kept_loss loss;
};

struct train {
    struct train_settings settings;
    struct encoder_config config;
    const struct backend *backend;
    const struct backend_training *ops;
    struct kctx *k;
    enum kdtype dtype;
    char *folder;
    uint64_t identity;  /* hash of what the block holds at the start */
    uint64_t untrained; /* hash of the word table's rows that are not in the block */
    struct masters masters;
    struct piece piece;
    uint64_t step;
    uint32_t tokens_max;
    bool stale; /* the matrices of the device are older than the block */
    int failed; /* of the device, in the middle of an update: nothing goes on from there */
    train_between_fn *between;
    void *between_ud;
};

/* Does the host see the device's memory? */
static inline bool train_host_sees(const struct train *t)
{
    return t->backend->alloc_shared == t->backend->alloc;
}

/* masters.c. Lays the block out and reads the start weights. Errors as encoder_open. */
int masters_open(struct train *t, const uint8_t *used, const float *prototypes, char *why,
                 size_t why_bytes);
void masters_close(struct train *t);
int masters_measure(struct train *t, uint64_t *ret_bytes); /* lays out; what opening would take */
/* Brings the device's matrices up to the block. 0, -EIO, -ENODEV, -ENOMEM. */
int masters_settle(struct train *t);
/* Values of a block to the host and back; nothing enqueued may use them. 0, -EIO, -ENODEV. */
int masters_fetch(const struct train *t, float *to, const float *block, size_t len);
int masters_send(const struct train *t, float *block, const float *from, size_t len);
/* The name of a row in a file of this prefix, TRAIN_NAME_BYTES of it. */
void masters_name(const struct master *p, const char *prefix, char *ret_name);
/* A row's tensor in a file (the word table's: whole), and a row of one. As safetensors.h. */
int masters_find(const struct train *t, const struct master *p, const struct safetensors *file,
                 char *why, size_t why_bytes, const struct safetensor **ret_tensor);
int masters_read_row(const struct safetensor *tensor, uint64_t row, float *ret_values);

/* train_lora.c. The adapters' places in the block; what they start from, in the host's w. */
void lora_place(struct train *t);
void lora_start(const struct train *t, float *w);
/* effective(rows,columns) = what stands in the block from `at` on, with its adapters. */
void lora_merge(struct train *t, size_t at, uint32_t rows, uint32_t columns);
/* From the gradients of the matrices those of the adapters; the former become 0. */
void lora_gradients(struct train *t);

/* train_layers.c. Memory for a piece, which forgets what is packed where it needs more: 0, -ENOMEM.
 * Packs examples as the piece, taking the memory that it needs: 0, -ENOMEM. */
int piece_reserve(struct train *t, uint32_t tokens, uint32_t seqs, size_t targets, size_t teachers);
int piece_pack(struct train *t, const struct train_example *batch, uint32_t len);
void piece_free(struct train *t);
void piece_measure(struct train *t, uint32_t seqs, uint64_t *ret_bytes, uint64_t *ret_shared);
void piece_forward(struct train *t, bool exact); /* piece.y(B,C); with dropout, unless exact */
void piece_backward(struct train *t); /* from piece.dembedding(B,C), adding to masters.grad */

/* train_loss.c. Whether the examples of a batch carry what they may carry: 0, -EINVAL. */
int loss_check(const struct train *t, const struct train_example *batch, uint32_t len);
/* Memory for a piece of these with all that their losses are given: 0, -ENOMEM. */
int loss_reserve(struct train *t, const struct train_example *examples, uint32_t len);
/* Lays out what the losses of the packed examples are given. */
void loss_pack(struct train *t, const struct train_example *examples, uint32_t batch_len,
               float alpha);
/* From piece.y, to piece.dembedding, adding to the gradients of the head. */
void loss_run(struct train *t);
/* After a sync: the losses, each divided by the batch's length, added to *sum. */
void loss_report(const struct train *t, const struct train_example *examples,
                 struct train_report *sum);

/* train_step.c. The loss of a batch, and its gradients added to masters.grad, which was 0. 0,
 * -EINVAL, -ENOMEM, -EIO; *report untouched then and the gradients 0 again. */
int train_gradients(struct train *t, const struct train_example *batch, uint32_t len,
                    struct train_report *report);
/* Goes on with a hash of values. */
uint64_t train_hash(uint64_t hash, const void *bytes, size_t bytes_len);

#endif
