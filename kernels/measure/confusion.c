/* confusion.c -- see confusion.h. The victim of a full table is found by a scan of it, 3 us: it
 * happens only to a model that has confused more than CONFUSION_PAIRS_MAX different pairs, and then
 * once an error on a new one.
 */
#include "kernels/measure/confusion.h"

enum { SLOT_MASK = CONFUSION_SLOTS - 1 };

_Static_assert((CONFUSION_SLOTS & SLOT_MASK) == 0, "slots are a power of two");
_Static_assert(CONFUSION_PAIRS_MAX < UINT16_MAX, "a slot names every pair");

static uint32_t home_of(uint32_t truth, uint32_t predicted)
{
    uint64_t z = (uint64_t)truth << 32 | predicted;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return (uint32_t)(z ^ z >> 31) & SLOT_MASK;
}

/* The slot of a pair, or the empty one where it belongs. */
static uint32_t slot_of(const struct confusion *c, uint32_t truth, uint32_t predicted)
{
    uint32_t s = home_of(truth, predicted);

    for (; c->slots[s] != 0; s = (s + 1) & SLOT_MASK) {
        const struct confusion_pair *pair = &c->pairs[c->slots[s] - 1];

        if (pair->truth == truth && pair->predicted == predicted)
            break;
    }
    return s;
}

/* Empties a slot and moves back what stood behind it because it was taken. */
static void slot_empty(struct confusion *c, uint32_t hole)
{
    for (uint32_t s = (hole + 1) & SLOT_MASK; c->slots[s] != 0; s = (s + 1) & SLOT_MASK) {
        const struct confusion_pair *pair = &c->pairs[c->slots[s] - 1];
        uint32_t home = home_of(pair->truth, pair->predicted);

        if (((s - home) & SLOT_MASK) >= ((s - hole) & SLOT_MASK)) {
            c->slots[hole] = c->slots[s];
            hole = s;
        }
    }
    c->slots[hole] = 0;
}

static uint32_t rarest(const struct confusion *c)
{
    uint32_t at = 0;

    for (uint32_t i = 1; i < c->len; i++)
        if (c->pairs[i].rows < c->pairs[at].rows)
            at = i;
    return at;
}

void confusion_add(struct confusion *c, uint32_t truth, uint32_t predicted)
{
    uint32_t slot = slot_of(c, truth, predicted), at = c->len;
    uint64_t before = 0;

    if (c->slots[slot] != 0) {
        c->pairs[c->slots[slot] - 1].rows++;
        return;
    }
    if (c->len < CONFUSION_PAIRS_MAX) {
        c->len++;
    } else {
        at = rarest(c);
        before = c->pairs[at].rows;
        slot_empty(c, slot_of(c, c->pairs[at].truth, c->pairs[at].predicted));
        slot = slot_of(c, truth, predicted); /* emptying may have moved it */
    }
    c->pairs[at] = (struct confusion_pair){truth, predicted, before + 1, before};
    c->slots[slot] = (uint16_t)(at + 1);
}

void confusion_pack(const struct confusion *c, struct pack *p)
{
    pack_u32(p, c->len);
    for (uint32_t i = 0; i < c->len; i++) {
        pack_u32(p, c->pairs[i].truth);
        pack_u32(p, c->pairs[i].predicted);
        pack_u64(p, c->pairs[i].rows);
        pack_u64(p, c->pairs[i].error);
    }
}

void confusion_unpack(struct confusion *c, struct unpack *u, uint32_t labels_len,
                      uint64_t *ret_rows)
{
    uint32_t len = unpack_len(u, CONFUSION_PAIRS_MAX);
    uint64_t rows = 0;

    for (uint32_t i = 0; i < len && !u->failed; i++) {
        struct confusion_pair pair = {.truth = unpack_u32(u), .predicted = unpack_u32(u)};
        uint32_t slot = slot_of(c, pair.truth, pair.predicted);

        pair.rows = unpack_u64(u);
        pair.error = unpack_u64(u);
        unpack_check(u, pair.truth < labels_len && pair.predicted < labels_len &&
                            pair.truth != pair.predicted && pair.error < pair.rows &&
                            pair.rows < UINT64_MAX - rows && c->slots[slot] == 0);
        if (u->failed)
            return;
        rows += pair.rows;
        c->pairs[c->len++] = pair;
        c->slots[slot] = (uint16_t)c->len;
    }
    *ret_rows = rows;
}
