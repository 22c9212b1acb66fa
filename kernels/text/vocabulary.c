/* vocabulary.c -- see vocabulary.h. Open addressing over one arena of bytes, one allocation each.
 * The longest match hashes a word's prefixes once, shortest first, and then probes from the
 * longest; pieces are never longer than the longest in the vocabulary, so hostile words cost no
 * more than honest ones.
 */
#include "kernels/text/vocabulary.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct piece {
    uint32_t at;    /* in arena */
    uint16_t bytes; /* with continuing in the top bit */
    int32_t id;     /* -1: an empty slot */
};

enum { CONTINUING = 0x8000, CHARS_MAX = 256 };

struct vocabulary {
    struct piece *slots;
    size_t mask, len, pieces_max;
    char *arena;
    size_t arena_len, arena_max;
    uint32_t longest; /* bytes */
};

static const uint64_t FNV_PRIME = 0x100000001b3;

static uint64_t hash_start(bool continuing)
{
    return continuing ? 0x9e3779b97f4a7c15 : 0xcbf29ce484222325;
}

static size_t slot_of(const struct vocabulary *v, uint64_t h)
{
    h ^= h >> 29;
    return (size_t)(h * 0xbf58476d1ce4e5b9 >> 20) & v->mask;
}

int vocabulary_open(size_t pieces, size_t bytes, struct vocabulary **ret_vocabulary)
{
    struct vocabulary *v = calloc(1, sizeof *v);
    size_t slots = 64;

    if (v == NULL)
        return -ENOMEM;
    while (slots < pieces * 2)
        slots *= 2;
    v->slots = malloc(slots * sizeof *v->slots);
    v->arena = malloc(bytes + 1);
    if (v->slots == NULL || v->arena == NULL) {
        vocabulary_close(v);
        return -ENOMEM;
    }
    memset(v->slots, 0xff, slots * sizeof *v->slots);
    v->mask = slots - 1;
    v->pieces_max = pieces;
    v->arena_max = bytes;
    *ret_vocabulary = v;
    return 0;
}

void vocabulary_close(struct vocabulary *v)
{
    if (v == NULL)
        return;
    free(v->slots);
    free(v->arena);
    free(v);
}

/* The slot that holds the piece, or the empty one where it belongs. */
static struct piece *probe(const struct vocabulary *v, uint64_t h, bool continuing,
                           const char *piece, size_t bytes)
{
    uint16_t key = (uint16_t)(bytes | (continuing ? CONTINUING : 0));

    for (size_t i = slot_of(v, h);; i = (i + 1) & v->mask) {
        struct piece *p = &v->slots[i];

        if (p->id < 0 || (p->bytes == key && memcmp(v->arena + p->at, piece, bytes) == 0))
            return p;
    }
}

static uint64_t hash_bytes(uint64_t h, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)bytes[i]) * FNV_PRIME;
    return h;
}

int vocabulary_add(struct vocabulary *v, bool continuing, const char *piece, size_t bytes,
                   int32_t id)
{
    struct piece *p;

    if (bytes >= CONTINUING)
        return -ENOSPC;
    p = probe(v, hash_bytes(hash_start(continuing), piece, bytes), continuing, piece, bytes);
    if (p->id >= 0) {
        p->id = id;
        return 0;
    }
    if (v->len == v->pieces_max || v->arena_len + bytes > v->arena_max)
        return -ENOSPC;
    memcpy(v->arena + v->arena_len, piece, bytes);
    *p = (struct piece){(uint32_t)v->arena_len, (uint16_t)(bytes | (continuing ? CONTINUING : 0)),
                        id};
    v->arena_len += bytes;
    v->len++;
    if (bytes > v->longest)
        v->longest = (uint32_t)bytes;
    return 0;
}

int32_t vocabulary_find(const struct vocabulary *v, bool continuing, const char *piece,
                        size_t bytes)
{
    if (bytes >= CONTINUING)
        return -1;
    return probe(v, hash_bytes(hash_start(continuing), piece, bytes), continuing, piece, bytes)->id;
}

int32_t vocabulary_longest(const struct vocabulary *v, bool continuing, const char *word,
                           const uint16_t *ends, uint32_t chars, uint32_t *ret_chars)
{
    uint64_t hashes[CHARS_MAX], h = hash_start(continuing);
    uint32_t len = 0;
    size_t at = 0;

    while (len < chars && len < CHARS_MAX && ends[len] <= v->longest) {
        h = hash_bytes(h, word + at, ends[len] - at);
        at = ends[len];
        hashes[len++] = h;
    }
    for (; len > 0; len--) {
        int32_t id = probe(v, hashes[len - 1], continuing, word, ends[len - 1])->id;

        if (id >= 0) {
            *ret_chars = len;
            return id;
        }
    }
    return -1;
}
