/* material.h -- what a run learns from: the examples of one model at one position of the journal,
 * tokenized, with their targets over the labels that have any.
 *
 * Frozen for the length of the run. It holds token ids, hashes and numbers, no text. Its image (in
 * a run's checkpoint) has ids and targets only; the texts are read from the store again, so what
 * was deleted meanwhile is not resumed with.
 *
 * Threads: the trainer's.
 */
#ifndef LEARND_MATERIAL_H
#define LEARND_MATERIAL_H

#include "daemon/learn/touched.h"
#include "kernels/train/train.h"

struct material_row {
    uint8_t example[STORE_ID_BYTES];
    int64_t seq;                  /* its first event: what a run calls new is after the last one */
    uint32_t token, tokens_len;   /* into ids and types */
    uint32_t target, targets_len; /* into targets */
    uint32_t label;               /* the strongest of its targets; UINT32_MAX: none */
    bool held_out;                /* kept from the encoder, for the gate */
    bool doubted;                 /* a suspect of the last audit: kept from the encoder too */
};

struct material {
    int64_t seq; /* position of the journal */
    bool multi;
    uint32_t len;
    struct material_row *rows; /* (len) ascending by id */
    int32_t *ids;
    uint8_t *types;
    uint32_t tokens_len;
    struct train_target *targets;
    uint32_t targets_len;
    uint32_t labels_len; /* those with an example, L of the run */
    uint32_t *columns;   /* (labels_len) of the head, ascending */
    uint8_t *used;       /* (V) ids that occur */
    uint32_t used_len;   /* V */
};

/* Reads what the model has now, tokenized as `encoder` wants it. learned: the model's, caught up;
 * its columns and its suspects are meant, and its position is the material's. Examples touched
 * later are as they are now. 0, -ENOMEM, or a fault of the store. */
int material_read(const struct learned *learned, const struct held_encoder *encoder,
                  struct store *store, struct material **ret_material);
void material_free(struct material *material);

/* Ids, targets and flags: enough to read the same material again. */
size_t material_image_bytes(const struct material *material);
void material_image_write(const struct material *material, void *image);
/* The material of an image; texts come from the store. -ESTALE: an example is gone, or has other
 * tokens; -EINVAL: not an image. */
int material_image_read(const void *image, size_t image_bytes, const struct held_encoder *encoder,
                        struct store *store, struct material **ret_material);

/* A row as a step wants it; what a replay adds is left empty. Borrowed from the material. */
struct train_example material_example(const struct material *material, uint32_t row);

#endif
