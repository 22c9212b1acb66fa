/* vocabulary.h -- pieces of words and their ids. Private to kernels/text. Immutable once filled. */
#ifndef LEARND_VOCABULARY_H
#define LEARND_VOCABULARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vocabulary;

/* pieces, bytes: what will be added at most. 0, -ENOMEM. */
int vocabulary_open(size_t pieces, size_t bytes, struct vocabulary **ret_vocabulary);
void vocabulary_close(struct vocabulary *vocabulary);
/* A piece that starts a word, or (continuing) one inside it, without its prefix. The same piece
 * again: the later id counts. -ENOSPC: more than announced. */
int vocabulary_add(struct vocabulary *vocabulary, bool continuing, const char *piece, size_t bytes,
                   int32_t id);
/* The id of the longest piece that begins at `word` and is at most `bytes` long; -1: none. ends[i]
 * is the byte where character i ends; *ret_chars is how many characters the piece has. */
int32_t vocabulary_longest(const struct vocabulary *vocabulary, bool continuing, const char *word,
                           const uint16_t *ends, uint32_t chars, uint32_t *ret_chars);
/* -1: none. */
int32_t vocabulary_find(const struct vocabulary *vocabulary, bool continuing, const char *piece,
                        size_t bytes);

#endif
