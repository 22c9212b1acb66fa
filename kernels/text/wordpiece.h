/* wordpiece.h -- one text to piece ids: normalise, split, match. Private to kernels/text.
 *
 * One pass over the bytes, one code point at a time, nothing allocated: the word under way stands
 * in a buffer of word_chars_max characters, a longer one is unknown whatever it holds.
 */
#ifndef LEARND_WORDPIECE_H
#define LEARND_WORDPIECE_H

#include "kernels/text/vocabulary.h"

enum { WORDPIECE_CHARS_MAX = 200 }; /* upper bound of max_input_chars_per_word */

struct wordpiece {
    struct vocabulary *vocabulary;
    int32_t unknown;
    uint32_t word_chars_max;
    bool clean_text, cjk_spaces, strip_accents, lowercase;
};

/* Where ids go: the first `max` of them, or the last (then ids is a ring that starts at len % max).
 */
struct wordpiece_sink {
    int32_t *ids; /* (max) */
    uint32_t max;
    bool keep_last;
    bool count_all; /* read on when full; else reading may stop at max + 1, if keep_last is false */
    uint64_t len;   /* all that came */
};

void wordpiece_read(const struct wordpiece *wordpiece, const char *text, size_t text_bytes,
                    struct wordpiece_sink *sink);

#endif
