/* encoder.h -- a BERT encoder: packed token ids in, unit vectors out.
 *
 * Two objects here, two lives (the third, the trainer, is in kernels/train):
 *   struct encoder      weights, frozen after open, shared by every context;
 *   struct encoder_ctx  scratch for one forward at a time, one per thread.
 *
 * Both live on the device whose table of operations they were opened with. Ids go there and
 * embeddings come back: the head (kernels/head) is computed on the host whatever the device, since
 * its state is fp64 and learned there, and scoring elsewhere would mean sending the whole head with
 * each correction. Beside the encoder on the CPU it takes 7 to 9 % of a text's time (MiniLM, 20
 * labels, 1,000 examples); where a device makes the encoder ten times as fast that is as long as
 * the encoder takes. So far this is the price.
 *
 * A batch is packed: the tokens of B texts one behind the other, no padding; text b is tokens
 * offsets[b] .. offsets[b+1]-1. A text's embedding is bit-identical whatever else is in its batch
 * and however many threads work on it: the learner depends on it (an add and its delete must cancel
 * exactly).
 *
 * Shapes, for the whole tree: B sequences, T tokens of the packed batch, C channels, H heads, F
 * feed-forward, V vocabulary, L labels, M features, N rows.
 *
 * Never: logs, reads a file after open, returns NaN as an answer (-EDOM instead).
 */
#ifndef LEARND_ENCODER_H
#define LEARND_ENCODER_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/backend.h"

struct encoder;
struct encoder_ctx;

enum encoder_precision {
    ENCODER_BF16, /* bf16 matrix work with fp32 accumulation; layer norm, softmax, pooling in fp32.
                   */
    ENCODER_FP32,
};

enum encoder_pooling { ENCODER_POOL_MEAN, ENCODER_POOL_CLS };

struct encoder_info {
    uint32_t dim; /* C, length of an embedding. */
    uint32_t layers;
    uint32_t heads;
    uint32_t ffn;       /* F */
    uint32_t vocab_len; /* V */
    uint32_t
        tokens_max; /* max_seq_length of sentence_bert_config.json, else max_position_embeddings. */
    uint32_t positions; /* max_position_embeddings: the hard limit of one text. */
    uint64_t parameters;
    uint64_t fingerprint;   /* of the weights as they were read: the same for the same numbers */
    uint64_t weights_bytes; /* of the device's K_WEIGHTS, to the byte (the CPU's: about) */
    enum encoder_pooling pooling;
    enum encoder_precision precision;
    const char *backend; /* "cpu" */
};

/* Reads config.json, model.safetensors (F32, F16, BF16; `bert.` prefix or none), modules.json and
 * 1_Pooling. 0, -ENOENT, -ENOMEM, -EINVAL (damaged or unsupported: `why` names the file, the
 * tensor, what was expected and what was found), -EIO, -ENODEV (the device). The caller closes
 * *ret_encoder, after all its contexts. backend: borrowed for as long. */
int encoder_open(const struct backend *backend, const char *folder,
                 enum encoder_precision precision, char *why, size_t why_bytes,
                 struct encoder **ret_encoder);
void encoder_close(struct encoder *encoder);

/* Borrowed; lives as long as the encoder. */
const struct encoder_info *encoder_info(const struct encoder *encoder);

/* Scratch for batches of at most tokens_max tokens (T) in at most seqs_max texts (B). 0, -ENOMEM,
 * -EIO, -ENODEV. */
int encoder_ctx_open(const struct encoder *encoder, uint32_t tokens_max, uint32_t seqs_max,
                     struct encoder_ctx **ret_ctx);
void encoder_ctx_close(struct encoder_ctx *ctx);
/* What that takes of K_CONTEXTS, to the byte, as device and as shared memory. */
void encoder_ctx_bytes(const struct backend *backend, const struct encoder_info *info,
                       uint32_t tokens_max, uint32_t seqs_max, uint64_t *ret_bytes,
                       uint64_t *ret_shared_bytes);
/* The following forwards are by this encoder: of the same precision, of any size (scratch grows
 * with it). What the device has prepared for a shape stays, so going from one version to the next
 * of the same shape costs nothing. The encoder before may be gone. 0; as before: -ENOMEM, -EIO,
 * -ENODEV, -EINVAL (another precision), -EXDEV (it is on another device). */
int encoder_ctx_use(struct encoder_ctx *ctx, const struct encoder *encoder);

/* One packed batch, borrowed for the call. */
struct encoder_batch {
    const int32_t *ids;      /* (T) */
    const uint8_t *types;    /* (T) segment, or NULL: all 0 */
    const uint32_t *offsets; /* (B+1), offsets[0] = 0, offsets[B] = T */
    uint32_t seqs;           /* B >= 1 */
};

/* embeddings (B,C), unit length, fp32. threads: cores this forward may use (1: the caller's own).
 * 0, -EINVAL (an id, a segment or a length out of range; nothing written), -EDOM (not a number),
 * -ENOMEM, -EIO, -ENODEV (the device; embeddings are undefined and the context is to be closed). */
int encoder_forward(struct encoder_ctx *ctx, const struct encoder_batch *batch, uint32_t threads,
                    float *embeddings);

#endif
