/* ring.h -- the last answers, by request id, so that feedback can name what it corrects.
 *
 * Bounded in entries and in bytes of text; the oldest go first. Holds the text, the embedding that
 * was computed for it (fp16, as it is learned) and what was answered. Lost at a restart: it is a
 * convenience, not a promise.
 *
 * Threads: any, under one short lock; entries are copied out.
 */
#ifndef LEARND_RING_H
#define LEARND_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/serve/live.h"

enum { RING_ID_BYTES = 48 };

struct ring_entry {
    char request_id[RING_ID_BYTES];
    int64_t model;
    char model_name[LIVE_NAME_BYTES];
    int64_t encoder_number, seq; /* the version that answered */
    char label[LIVE_NAME_BYTES]; /* "" if none */
    const char *labels;          /* kind multi: all that were answered, each with its NUL */
    size_t labels_bytes;
    double score, second; /* of the label, of the next best one */
    float novelty;
    int64_t created_us; /* Unix time */
    const char *text;   /* put: borrowed. get: inside the malloc'd entry */
    size_t text_bytes;
    bool vector;      /* text is the bytes of embedding, which is what was asked */
    const char *pair; /* NULL: none */
    size_t pair_bytes;
    const uint16_t *embedding; /* (dim) fp16 */
    uint32_t dim;
};

struct ring;

int ring_open(uint32_t entries_max, size_t bytes_max, struct ring **ret_ring);
void ring_close(struct ring *ring);

/* Copies. A text that alone exceeds bytes_max, or no memory: not kept, the answer is not the worse
 * for it. */
void ring_put(struct ring *ring, const struct ring_entry *entry);
/* One malloc'd block that the caller frees; NULL: unknown, or gone. */
struct ring_entry *ring_get(struct ring *ring, const char *request_id);
/* Up to max entries that were answered for a model before entry number *before (0: to the end), the
 * newest first, each as ring_get gives it. Returns how many and moves *before on; 0: that was all.
 * A walk takes the lock once a call, and what comes or goes between two calls moves nothing else.
 */
uint32_t ring_walk(struct ring *ring, int64_t model, uint64_t *before, uint32_t max,
                   struct ring_entry **ret_entries);
/* Drops what was answered for a model, or (model 0: any) all that holds this text, alone or in a
 * pair; with pair (NULL: none) only that pair. Returns how many. */
void ring_forget_model(struct ring *ring, int64_t model);
uint64_t ring_forget_text(struct ring *ring, int64_t model, const char *text, size_t text_bytes,
                          const char *pair, size_t pair_bytes);

#endif
