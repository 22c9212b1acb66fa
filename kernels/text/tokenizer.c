/* tokenizer.c -- see tokenizer.h: special tokens, pairs and truncation around wordpiece.c.
 *
 * Truncation is Hugging Face's: right and left cut one text to what fits; of a pair the longer part
 * is cut first
 * ("longest_first"), to the lengths that taking one token at a time from the longer would end with.
 */
#include "kernels/text/tokenizer.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/text/tokenizer_files.h"

enum { STACK_IDS = 1024 };

struct tokenizer {
    struct tokenizer_files files;
};

int tokenizer_open(const char *folder, char *why, size_t why_bytes,
                   struct tokenizer **ret_tokenizer)
{
    struct tokenizer *t = calloc(1, sizeof *t);
    int rc;

    if (why_bytes > 0)
        why[0] = '\0';
    if (t == NULL)
        return -ENOMEM;
    rc = tokenizer_files_read(folder, why, why_bytes, &t->files);
    if (rc != 0) {
        free(t);
        return rc;
    }
    *ret_tokenizer = t;
    return 0;
}

void tokenizer_close(struct tokenizer *t)
{
    if (t == NULL)
        return;
    vocabulary_close(t->files.wordpiece.vocabulary);
    free(t);
}

uint32_t tokenizer_vocab_len(const struct tokenizer *t)
{
    return t->files.vocab_len;
}

/* How many tokens of each part stay. Which part is longer decides who gets the odd one, so both are
 * counted in full. */
static void share(uint64_t *first, uint64_t *second, uint64_t room)
{
    uint64_t shorter = *first < *second ? *first : *second, longer = *first + *second - shorter;
    bool swapped = *first > *second;

    if (*first + *second <= room)
        return;
    if (shorter > room)
        longer = shorter;
    else
        longer = shorter > room - shorter ? shorter : room - shorter;
    if (shorter + longer > room) {
        shorter = room / 2;
        longer = shorter + room % 2;
    }
    *first = swapped ? longer : shorter;
    *second = swapped ? shorter : longer;
}

/* Appends `keep` of a sink's ids: its first, or its last. */
static void take(const struct wordpiece_sink *sink, uint64_t keep, uint8_t type, int32_t *ids,
                 uint8_t *types, uint32_t *len)
{
    uint64_t from = sink->keep_last ? sink->len - keep : 0;

    for (uint64_t i = 0; i < keep; i++) {
        ids[*len] = sink->ids[(from + i) % sink->max];
        types[(*len)++] = type;
    }
}

static void mark(int32_t id, uint8_t type, int32_t *ids, uint8_t *types, uint32_t *len)
{
    ids[*len] = id;
    types[(*len)++] = type;
}

int tokenizer_encode(const struct tokenizer *t, const struct tokenizer_input *input,
                     enum tokenizer_truncate truncate, uint32_t tokens_max, int32_t *ids,
                     uint8_t *types, uint32_t *ret_len, bool *ret_truncated)
{
    int32_t stack[STACK_IDS], *block = stack;
    bool pair = input->pair != NULL, last = truncate == TOKENIZER_TRUNCATE_LEFT;
    uint32_t room = tokens_max - (pair ? 3 : 2), len = 0;
    struct wordpiece_sink first, second;
    uint64_t keep_first, keep_second;

    assert(tokens_max >= (pair ? 4 : 3));
    if ((size_t)room * 2 > STACK_IDS) {
        block = malloc((size_t)room * 2 * sizeof *block);
        if (block == NULL)
            return -ENOMEM;
    }
    first =
        (struct wordpiece_sink){.ids = block, .max = room, .keep_last = last, .count_all = pair};
    second = (struct wordpiece_sink){
        .ids = block + room, .max = room, .keep_last = last, .count_all = pair};
    wordpiece_read(&t->files.wordpiece, input->text, input->text_bytes, &first);
    if (pair)
        wordpiece_read(&t->files.wordpiece, input->pair, input->pair_bytes, &second);
    keep_first = first.len;
    keep_second = second.len;
    share(&keep_first, &keep_second, room);
    if (ret_truncated != NULL)
        *ret_truncated = first.len + second.len > room;
    if (truncate == TOKENIZER_TRUNCATE_NEVER && first.len + second.len > room) {
        if (block != stack)
            free(block);
        return -EMSGSIZE;
    }
    mark(t->files.cls, 0, ids, types, &len);
    take(&first, keep_first, 0, ids, types, &len);
    mark(t->files.sep, 0, ids, types, &len);
    if (pair) {
        take(&second, keep_second, 1, ids, types, &len);
        mark(t->files.sep, 1, ids, types, &len);
    }
    if (block != stack)
        free(block);
    *ret_len = len;
    return 0;
}
