/* encoder_config.h -- what a Hugging Face folder says of its BERT. Private to kernels/encoder. */
#ifndef LEARND_ENCODER_CONFIG_H
#define LEARND_ENCODER_CONFIG_H

#include "kernels/encoder/encoder.h"

struct encoder_config {
    uint32_t C, H, F, V, layers;
    uint32_t positions, segments;
    uint32_t tokens_max;
    float eps;
    enum encoder_pooling pooling;
};

/* Reads config.json, modules.json with its pooling folder, sentence_bert_config.json. Errors as
 * encoder_open. */
int encoder_config_read(const char *folder, char *why, size_t why_bytes,
                        struct encoder_config *ret_config);

#endif
