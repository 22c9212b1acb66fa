/* touched.h -- the examples that a stretch of the journal touched, as the learner needs them.
 *
 * Private to daemon/learn. Texts are tokenized as they are read and not kept; what is held is ids,
 * targets and embeddings, so a round's memory is bounded by LEARNED_ROUND_EVENTS texts of
 * tokens_max tokens.
 */
#ifndef LEARND_TOUCHED_H
#define LEARND_TOUCHED_H

#include "daemon/learn/learned.h"

struct touched_row {
    uint8_t example[STORE_ID_BYTES];
    uint32_t target, target_len; /* into targets */
    uint32_t token, tokens_len; /* into ids and types; 0: no embedding is needed or it was cached */
    double weight;
    bool teaches;   /* it has a target, which in kind multi may be empty */
    bool confirmed; /* two annotators, one label */
    bool embedded;  /* a row of embeddings is filled */
};

struct touched {
    struct held_encoder *encoder; /* the learned's */
    uint32_t dim;
    int64_t last_seq; /* newest event that touched one of them */
    uint32_t len, max;
    struct touched_row *rows;
    uint16_t *embeddings; /* (max,dim) fp16 */
    uint32_t targets_len, targets_max;
    struct head_target *targets;
    uint32_t tokens_len, tokens_max;
    int32_t *ids;
    uint8_t *types;
};

void touched_init(struct touched *t, struct held_encoder *encoder, uint32_t dim);
void touched_reset(struct touched *t); /* empty again, memory kept */
void touched_done(struct touched *t);

/* Adds a row of the store. labels: columns by label id. 0, -ENOMEM, -EUCLEAN (a target names an
 * unknown label). */
int touched_add(struct touched *t, const struct store_example *row, const struct learned *learned);
/* Embeds the rows that need it as learning work of the lanes and waits for them; hands them to the
 * keeper to cache. 0, -ENOMEM, -EIO, -ESHUTDOWN. */
int touched_embed(struct touched *t, const struct learner_parts *parts, uint64_t *ret_embedded);
/* An example's id in the store as the head's. */
struct head_id touched_head_id(const uint8_t example[STORE_ID_BYTES]);
struct head_id touched_id(const struct touched_row *row);
/* Sets every row's wanted state on the head. */
int touched_apply(const struct touched *t, struct head *head);

#endif
