/* tokenizer.h -- text to token ids, as Hugging Face's BertTokenizer does it.
 *
 * BERT WordPiece over a vocabulary that is read once and never changes. Accepts a folder with
 * tokenizer.json, or with vocab.txt and tokenizer_config.json. Normalisation (control characters,
 * CJK spacing, NFD and accents, lower case) follows the folder's own settings; the Unicode tables
 * are utf8proc's.
 *
 * Threads: an open tokenizer is immutable; any number of threads may encode with it at once.
 * Never: reads a file after open, logs, or refuses bytes. Invalid UTF-8 reads as U+FFFD.
 */
#ifndef LEARND_TOKENIZER_H
#define LEARND_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tokenizer;

enum tokenizer_truncate {
    TOKENIZER_TRUNCATE_RIGHT, /* Keep the beginning. With a pair: shorten the longer part first. */
    TOKENIZER_TRUNCATE_LEFT,  /* Keep the end. */
    TOKENIZER_TRUNCATE_NEVER, /* -EMSGSIZE instead. */
};

/* A text and, if pair is not NULL, its second part ("[CLS] text [SEP] pair [SEP]"). Borrowed. */
struct tokenizer_input {
    const char *text;
    size_t text_bytes;
    const char *pair;
    size_t pair_bytes;
};

/* Reads the folder. 0, -ENOENT, -ENOMEM, or -EINVAL for a damaged or unsupported file; then `why`
 * (why_bytes long, always terminated) names the file and what was expected. The caller closes
 * *ret_tokenizer. */
int tokenizer_open(const char *folder, char *why, size_t why_bytes,
                   struct tokenizer **ret_tokenizer);

/* NULL is fine. */
void tokenizer_close(struct tokenizer *tokenizer);

/* Number of ids: every id that encode returns is below it. */
uint32_t tokenizer_vocab_len(const struct tokenizer *tokenizer);

/* Encodes with [CLS] and [SEP], at most tokens_max (>= 3; with a pair >= 4) ids, into ids and types
 * (segment 0 or 1), both of room tokens_max. Special tokens written in the text are plain text. An
 * empty text is two ids. 0, -EMSGSIZE (NEVER and too long), -ENOMEM. ret_truncated may be NULL. */
int tokenizer_encode(const struct tokenizer *tokenizer, const struct tokenizer_input *input,
                     enum tokenizer_truncate truncate, uint32_t tokens_max, int32_t *ids,
                     uint8_t *types, uint32_t *ret_len, bool *ret_truncated);

#endif
