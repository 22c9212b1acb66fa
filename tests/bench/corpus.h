/* corpus.h -- the texts that a benchmark runs on, read, shuffled by a fixed seed and tokenized
 * beforehand.
 *
 * From a jsonl file of {"text": ...} lines; without one, the banking77 test texts of
 * $LEARND_SHARED; without that, sentences drawn from a short list of words with about the same
 * lengths. `source` says which.
 */
#ifndef LEARND_CORPUS_H
#define LEARND_CORPUS_H

#include <stddef.h>
#include <stdint.h>

struct corpus {
    char source[512];
    char **texts; /* (len) */
    uint32_t len;
    int32_t *ids;      /* (offsets[len]) */
    uint32_t *offsets; /* (len+1) */
};

/* path NULL: the default. texts_max 0: all. Ends the process with a message where it cannot: a
 * benchmark has no caller to tell. encoder NULL: texts only. */
void corpus_open(const char *path, const char *encoder, uint32_t texts_max, struct corpus *corpus);
void corpus_close(struct corpus *corpus);

/* The middle of n values, which are sorted in place. */
double corpus_median(double *values, size_t n);
/* The encoder folder: $LEARND_ENCODER, else the cache folder's default. Static memory. */
const char *corpus_encoder(void);

#endif
