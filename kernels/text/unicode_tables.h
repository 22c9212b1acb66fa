/* unicode_tables.h -- three classes of code points as Hugging Face's BERT tokenizer has them.
 * Private to kernels/text.
 *
 * They are data, not rules: the Rust tables behind that tokenizer are of an older Unicode, in which
 * characters assigned later are letters. A vocabulary was trained with those answers, so those
 * answers are what counts.
 */
#ifndef LEARND_UNICODE_TABLES_H
#define LEARND_UNICODE_TABLES_H

#include <stddef.h>
#include <stdint.h>

struct unicode_range {
    uint32_t first, last; /* inclusive */
};

extern const struct unicode_range
    unicode_control[]; /* removed by clean_text; with U+0000 and U+FFFD */
extern const size_t unicode_control_len;
extern const struct unicode_range unicode_mark[]; /* removed by strip_accents, after NFD */
extern const size_t unicode_mark_len;
extern const struct unicode_range unicode_punctuation[]; /* above ASCII */
extern const size_t unicode_punctuation_len;

#endif
