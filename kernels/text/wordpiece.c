/* wordpiece.c -- see wordpiece.h. In Hugging Face's order:
 *
 *   clean (controls out, white space to one kind) -> space around CJK -> NFD, marks out -> lower
 * case -> split at white space and around punctuation -> greedy longest match, pieces after the
 * first with the continuing vocabulary.
 *
 * NFD orders the marks of a base by their combining class. Nearly all marks are dropped here; the
 * few that stay (spacing marks with a class) wait in a small buffer. A run of more than PENDING_MAX
 * of them is ordered in parts.
 */
#include "kernels/text/wordpiece.h"

#include <utf8proc.h>

#include "kernels/text/unicode_tables.h"

enum { PENDING_MAX = 32, DECOMPOSED_MAX = 32 };

struct reading {
    const struct wordpiece *wp;
    struct wordpiece_sink *sink;
    uint32_t chars; /* of the word; beyond word_chars_max it is only counted */
    uint16_t ends[WORDPIECE_CHARS_MAX];
    char word[4 * WORDPIECE_CHARS_MAX];
    int32_t pending[PENDING_MAX];
    uint32_t pending_len;
};

static bool within(const struct unicode_range *ranges, size_t len, uint32_t c)
{
    size_t low = 0, high = len;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (c > ranges[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    return low < len && c >= ranges[low].first;
}

static bool is_white(uint32_t c)
{
    return c == ' ' || (c >= 9 && c <= 13) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

static bool is_control(uint32_t c)
{
    if (c < 127)
        return c < 32 && c != '\t' && c != '\n' && c != '\r';
    return within(unicode_control, unicode_control_len, c);
}

static bool is_punctuation(uint32_t c)
{
    if (c < 128)
        return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) ||
               (c >= 123 && c <= 126);
    return within(unicode_punctuation, unicode_punctuation_len, c);
}

/* The blocks that BERT's own tokenizer takes for Chinese. */
static bool is_cjk(uint32_t c)
{
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) ||
           (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2b81f) ||
           (c >= 0x2b920 && c <= 0x2ceaf) || (c >= 0xf900 && c <= 0xfaff) ||
           (c >= 0x2f800 && c <= 0x2fa1f);
}

static bool full(const struct wordpiece_sink *sink)
{
    return !sink->keep_last && !sink->count_all && sink->len > sink->max;
}

static void emit(struct wordpiece_sink *sink, int32_t id)
{
    if (sink->keep_last)
        sink->ids[sink->len % sink->max] = id;
    else if (sink->len < sink->max)
        sink->ids[sink->len] = id;
    if (!full(sink))
        sink->len++;
}

/* Matches the word under way and empties it. Pieces are held back until the whole word has matched.
 */
static void flush_word(struct reading *r)
{
    int32_t ids[WORDPIECE_CHARS_MAX];
    uint32_t len = 0, at = 0, chars = r->chars;
    uint16_t ends[WORDPIECE_CHARS_MAX];

    r->chars = 0;
    if (chars == 0)
        return;
    if (chars > r->wp->word_chars_max) {
        emit(r->sink, r->wp->unknown);
        return;
    }
    while (at < chars) {
        uint16_t from = at > 0 ? r->ends[at - 1] : 0;
        uint32_t matched = 0;

        for (uint32_t i = at; i < chars; i++)
            ends[i - at] = (uint16_t)(r->ends[i] - from);
        ids[len] = vocabulary_longest(r->wp->vocabulary, at > 0, r->word + from, ends, chars - at,
                                      &matched);
        if (ids[len] < 0) {
            emit(r->sink, r->wp->unknown);
            return;
        }
        len++;
        at += matched;
    }
    for (uint32_t i = 0; i < len; i++)
        emit(r->sink, ids[i]);
}

static void add_to_word(struct reading *r, int32_t c)
{
    if (r->chars < r->wp->word_chars_max) {
        uint16_t end = r->chars > 0 ? r->ends[r->chars - 1] : 0;

        r->ends[r->chars] =
            (uint16_t)(end + utf8proc_encode_char(c, (utf8proc_uint8_t *)r->word + end));
    }
    if (r->chars <= r->wp->word_chars_max)
        r->chars++;
}

/* A code point after normalisation. */
static void push(struct reading *r, int32_t c)
{
    if (is_white((uint32_t)c)) {
        flush_word(r);
    } else if (is_punctuation((uint32_t)c)) {
        flush_word(r);
        add_to_word(r, c);
        flush_word(r);
    } else {
        add_to_word(r, c);
    }
}

/* Letters of Unicode 16 and 17, whose lower case the utf8proc of today's distributions does not
 * know. */
static int32_t lower_late(int32_t c)
{
    static const struct {
        int32_t first, last, lower;
    } late[] = {{0x1c89, 0x1c89, 0x1c8a},   {0xa7cb, 0xa7cb, 0x264},  {0xa7cc, 0xa7cc, 0xa7cd},
                {0xa7ce, 0xa7ce, 0xa7cf},   {0xa7d2, 0xa7d2, 0xa7d3}, {0xa7d4, 0xa7d4, 0xa7d5},
                {0xa7da, 0xa7da, 0xa7db},   {0xa7dc, 0xa7dc, 0x19b},  {0x10d50, 0x10d65, 0x10d70},
                {0x16ea0, 0x16eb8, 0x16ebb}};

    for (size_t i = 0; i < sizeof late / sizeof *late; i++)
        if (c >= late[i].first && c <= late[i].last)
            return c - late[i].first + late[i].lower;
    return utf8proc_tolower(c);
}

/* Decomposed by Unicode 13 or 16, and not by the older NFD of Hugging Face's tokenizer. */
static bool stays_whole(int32_t c)
{
    return c == 0x11938 || c == 0x105c9 || c == 0x105e4 || (c >= 0x11383 && c <= 0x113c8) ||
           (c >= 0x16121 && c <= 0x16128) || (c >= 0x16d68 && c <= 0x16d6a);
}

static void lower(struct reading *r, int32_t c)
{
    if (!r->wp->lowercase) {
        push(r, c);
    } else if (c < 128) {
        push(r, c >= 'A' && c <= 'Z' ? c + 32 : c);
    } else if (c == 0x130) { /* the one letter whose lower case is two */
        push(r, 'i');
        push(r, 0x307);
    } else {
        push(r, lower_late(c));
    }
}

/* Stable by combining class; the buffer is short. */
static void flush_pending(struct reading *r)
{
    for (uint32_t i = 1; i < r->pending_len; i++) {
        int32_t c = r->pending[i];
        utf8proc_propval_t class = utf8proc_get_property(c)->combining_class;
        uint32_t j = i;

        for (; j > 0 && utf8proc_get_property(r->pending[j - 1])->combining_class > class; j--)
            r->pending[j] = r->pending[j - 1];
        r->pending[j] = c;
    }
    for (uint32_t i = 0; i < r->pending_len; i++)
        lower(r, r->pending[i]);
    r->pending_len = 0;
}

static void strip(struct reading *r, int32_t c)
{
    int32_t parts[DECOMPOSED_MAX];
    int class = 0;
    utf8proc_ssize_t len;

    if (!r->wp->strip_accents || c < 128) {
        if (r->pending_len > 0)
            flush_pending(r);
        lower(r, c);
        return;
    }
    len = stays_whole(c)
              ? 0
              : utf8proc_decompose_char(c, parts, DECOMPOSED_MAX, UTF8PROC_DECOMPOSE, &class);
    if (len <= 0 || len > DECOMPOSED_MAX) {
        parts[0] = c;
        len = 1;
    }
    for (utf8proc_ssize_t i = 0; i < len; i++) {
        if (within(unicode_mark, unicode_mark_len, (uint32_t)parts[i]))
            continue;
        if (utf8proc_get_property(parts[i])->combining_class == 0) {
            flush_pending(r);
            lower(r, parts[i]);
            continue;
        }
        if (r->pending_len == PENDING_MAX)
            flush_pending(r);
        r->pending[r->pending_len++] = parts[i];
    }
}

void wordpiece_read(const struct wordpiece *wp, const char *text, size_t text_bytes,
                    struct wordpiece_sink *sink)
{
    struct reading r = {.wp = wp, .sink = sink};
    size_t at = 0;

    while (at < text_bytes && !full(sink)) {
        const utf8proc_uint8_t *p = (const utf8proc_uint8_t *)text + at;
        utf8proc_int32_t c = *p;
        utf8proc_ssize_t bytes = 1;

        if (c >= 128)
            bytes = utf8proc_iterate(p, (utf8proc_ssize_t)(text_bytes - at), &c);
        if (bytes < 1) {
            bytes = 1;
            c = 0xfffd;
        }
        at += (size_t)bytes;
        if (wp->clean_text) {
            if (c == 0 || c == 0xfffd || is_control((uint32_t)c))
                continue;
            if (is_white((uint32_t)c))
                c = ' ';
        }
        if (wp->cjk_spaces && is_cjk((uint32_t)c)) {
            strip(&r, ' ');
            strip(&r, c);
            strip(&r, ' ');
        } else {
            strip(&r, c);
        }
    }
    flush_pending(&r);
    flush_word(&r);
}
