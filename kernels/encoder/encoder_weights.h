/* encoder_weights.h -- the parameters of a BERT, listed once. Private to kernels/encoder.
 *
 * Names, shapes, the struct's fields, the loader's walk and its checks all come from these two
 * lists. X(field, file name, rows, columns, how): rows x columns in the letters of struct
 * encoder_config, columns 1 for a vector. how: TABLE is looked up by row, MAT multiplies, BIAS is
 * added to what the matrix just before it gives, VEC stays fp32. QUERY, KEY and VALUE are parts of
 * one matrix, side by side in that order, and so are those of its bias.
 */
#ifndef LEARND_ENCODER_WEIGHTS_H
#define LEARND_ENCODER_WEIGHTS_H

#include "kernels/backend.h"
#include "kernels/encoder/encoder_config.h"
#include "kernels/encoder/safetensors.h"

#define ENCODER_EMBEDDING_PARAMETERS(X)                                                            \
    X(word, "embeddings.word_embeddings.weight", V, C, TABLE)                                      \
    X(position, "embeddings.position_embeddings.weight", P, C, TABLE)                              \
    X(segment, "embeddings.token_type_embeddings.weight", S, C, TABLE)                             \
    X(gamma, "embeddings.LayerNorm.weight", C, 1, VEC)                                             \
    X(beta, "embeddings.LayerNorm.bias", C, 1, VEC)

#define ENCODER_LAYER_PARAMETERS(X)                                                                \
    X(qkv, "attention.self.query.weight", C, C, QUERY)                                             \
    X(qkv, "attention.self.key.weight", C, C, KEY)                                                 \
    X(qkv, "attention.self.value.weight", C, C, VALUE)                                             \
    X(qkv_bias, "attention.self.query.bias", C, 1, QUERY_BIAS)                                     \
    X(qkv_bias, "attention.self.key.bias", C, 1, KEY_BIAS)                                         \
    X(qkv_bias, "attention.self.value.bias", C, 1, VALUE_BIAS)                                     \
    X(out, "attention.output.dense.weight", C, C, MAT)                                             \
    X(out_bias, "attention.output.dense.bias", C, 1, BIAS)                                         \
    X(attention_gamma, "attention.output.LayerNorm.weight", C, 1, VEC)                             \
    X(attention_beta, "attention.output.LayerNorm.bias", C, 1, VEC)                                \
    X(up, "intermediate.dense.weight", F, C, MAT)                                                  \
    X(up_bias, "intermediate.dense.bias", F, 1, BIAS)                                              \
    X(down, "output.dense.weight", C, F, MAT)                                                      \
    X(down_bias, "output.dense.bias", C, 1, BIAS)                                                  \
    X(output_gamma, "output.LayerNorm.weight", C, 1, VEC)                                          \
    X(output_beta, "output.LayerNorm.bias", C, 1, VEC)

enum encoder_how { TABLE, VEC, BIAS, QUERY_BIAS, KEY_BIAS, VALUE_BIAS, MAT, QUERY, KEY, VALUE };

/* Which of three parts a row is, 0 where it is whole; and of how many. */
static inline uint32_t encoder_part(enum encoder_how how)
{
    return how >= QUERY                             ? (uint32_t)(how - QUERY)
           : how >= QUERY_BIAS && how <= VALUE_BIAS ? (uint32_t)(how - QUERY_BIAS)
                                                    : 0;
}

static inline uint32_t encoder_parts(enum encoder_how how)
{
    return how >= QUERY || (how >= QUERY_BIAS && how <= VALUE_BIAS) ? 3 : 1;
}

struct encoder_layer {
    struct kmat *qkv, *out, *up, *down; /* (3C,C) (C,C) (F,C) (C,F), each with its bias */
    float *attention_gamma, *attention_beta, *output_gamma, *output_beta;
};

struct encoder {
    struct encoder_config config;
    struct encoder_info info;
    const struct backend *backend;
    uint64_t number;                      /* no other encoder of the process ever has it */
    enum kdtype dtype;                    /* of activations, tables and matrices */
    struct kview word, position, segment; /* (V,C) (P,C) (S,C) */
    float *gamma, *beta;                  /* (C) of the embeddings' layer norm */
    struct encoder_layer *layers;
};

/* Fills the tables, vectors and matrices of an encoder whose config, backend and dtype are set.
 * Errors as encoder_open; after one the encoder is to be closed. */
int encoder_weights_read(struct encoder *encoder, const char *folder, char *why, size_t why_bytes);
void encoder_weights_free(struct encoder *encoder);

/* What stands before every name in a file: "bert." or "". */
const char *encoder_tensor_prefix(const struct safetensors *file);
/* Finds one tensor of the lists by its whole name, and holds it against its shape and dtype. 0,
 * -EINVAL. */
int encoder_tensor_find(const struct safetensors *file, const char *full_name, uint64_t rows,
                        uint64_t columns, char *why, size_t why_bytes,
                        const struct safetensor **ret_tensor);

#endif
