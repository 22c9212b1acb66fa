/* examples.c -- the set of examples: slots in chunks, an index by id.
 *
 * Slots are dense: removing one moves the last into its place, so that a pass over the examples is
 * a pass over memory. Chunks are shared with views by count; the head copies one before it changes
 * it while a view holds it.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/head/head_internal.h"

struct chunk *chunk_get(struct chunk *c)
{
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

void chunk_put(struct chunk *c)
{
    if (c != NULL && atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1)
        free(c);
}

static size_t chunk_bytes(const struct head *h)
{
    return sizeof(struct chunk) + (size_t)CHUNK_ROWS * h->settings.dim * sizeof(uint16_t);
}

/* The chunk of a slot, made if it is not there, the head's alone. */
static struct chunk *chunk_own(struct head *h, uint32_t slot)
{
    const size_t from = offsetof(struct chunk, ids);
    struct chunk **at = &h->chunks[slot / CHUNK_ROWS], *c = *at;

    if (c != NULL && atomic_load_explicit(&c->refs, memory_order_acquire) == 1)
        return c;
    c = malloc(chunk_bytes(h));
    if (c == NULL)
        return NULL;
    if (*at != NULL) /* all but the count, which views that end are changing */
        memcpy((char *)c + from, (char *)*at + from, chunk_bytes(h) - from);
    else
        memset((char *)c + from, 0, chunk_bytes(h) - from);
    atomic_init(&c->refs, 1);
    chunk_put(*at);
    *at = c;
    return c;
}

struct head_id examples_id(const struct head *h, uint32_t slot)
{
    return h->chunks[slot / CHUNK_ROWS]->ids[slot % CHUNK_ROWS];
}

const uint16_t *examples_embedding(const struct head *h, uint32_t slot)
{
    return h->chunks[slot / CHUNK_ROWS]->embeddings + (size_t)(slot % CHUNK_ROWS) * h->settings.dim;
}

uint32_t examples_label(const struct head *h, uint32_t slot)
{
    return h->chunks[slot / CHUNK_ROWS]->labels[slot % CHUNK_ROWS];
}

const struct head_target *examples_targets(const struct head *h, uint32_t slot)
{
    const struct example *e = &h->examples[slot];

    return e->targets_len <= 1 ? &e->one : e->targets;
}

/* ---- the index ------------------------------------------------------------------------------- */

static uint32_t home(const struct head *h, struct head_id id)
{
    return (uint32_t)((id.hi ^ id.lo * 0x9E3779B97F4A7C15) >> 20) & (h->index_max - 1);
}

static bool same(struct head_id a, struct head_id b)
{
    return a.hi == b.hi && a.lo == b.lo;
}

static uint32_t index_at(const struct head *h, struct head_id id)
{
    uint32_t i = home(h, id);

    while (h->index[i] != 0 && !same(examples_id(h, h->index[i] - 1), id))
        i = (i + 1) & (h->index_max - 1);
    return i;
}

uint32_t examples_find(const struct head *h, struct head_id id)
{
    if (h->index_max == 0)
        return SLOT_NONE;
    return h->index[index_at(h, id)] - 1; /* 0 - 1 is SLOT_NONE */
}

/* Closes the gap so that probing still finds what stands behind it. */
static void index_remove(struct head *h, uint32_t i)
{
    uint32_t mask = h->index_max - 1, j = i;

    for (;;) {
        uint32_t k;

        j = (j + 1) & mask;
        if (h->index[j] == 0)
            break;
        k = home(h, examples_id(h, h->index[j] - 1));
        if (((j - k) & mask) >= ((j - i) & mask)) {
            h->index[i] = h->index[j];
            i = j;
        }
    }
    h->index[i] = 0;
}

/* Room for one more example. */
static int reserve(struct head *h)
{
    uint32_t max = h->examples_max == 0 ? CHUNK_ROWS : h->examples_max * 2;
    struct example *examples;
    struct chunk **chunks;
    uint32_t *index, old_max = h->index_max;

    if (h->examples_len < h->examples_max)
        return 0;
    examples = realloc(h->examples, max * sizeof *examples);
    if (examples == NULL)
        return -ENOMEM;
    h->examples = examples;
    chunks = realloc(h->chunks, max / CHUNK_ROWS * sizeof *chunks);
    if (chunks == NULL)
        return -ENOMEM;
    for (uint32_t i = h->examples_max / CHUNK_ROWS; i < max / CHUNK_ROWS; i++)
        chunks[i] = NULL;
    h->chunks = chunks;
    index = calloc(max * 2, sizeof *index);
    if (index == NULL)
        return -ENOMEM;
    free(h->index);
    h->index = index;
    h->index_max = max * 2;
    h->examples_max = max;
    for (uint32_t slot = 0; slot < h->examples_len && old_max > 0; slot++)
        h->index[index_at(h, examples_id(h, slot))] = slot + 1;
    return 0;
}

/* ---- changing -------------------------------------------------------------------------------- */

static uint32_t strongest(const struct head_target *targets, uint32_t len)
{
    uint32_t best = 0;

    if (len == 0)
        return HEAD_NO_LABEL;
    for (uint32_t i = 1; i < len; i++)
        if (targets[i].value > targets[best].value ||
            (targets[i].value == targets[best].value && targets[i].label < targets[best].label))
            best = i;
    return targets[best].label;
}

static void count_trusted(struct head *h, uint32_t slot, int by)
{
    const struct chunk *c = h->chunks[slot / CHUNK_ROWS];

    if (c->trusted[slot % CHUNK_ROWS] && c->labels[slot % CHUNK_ROWS] != HEAD_NO_LABEL)
        h->trusted_len[c->labels[slot % CHUNK_ROWS]] += (uint32_t)by;
}

static int by_label(const void *a, const void *b)
{
    const struct head_target *x = a, *y = b;

    return (x->label > y->label) - (x->label < y->label);
}

int examples_set(struct head *h, const struct head_change *change)
{
    uint32_t slot, row;
    struct head_target *many = NULL;
    struct example *e;
    struct chunk *c;
    bool known;
    int rc = reserve(h);

    if (rc != 0)
        return rc;
    slot = examples_find(h, change->id);
    known = slot != SLOT_NONE;
    if (change->targets_len > 1) {
        many = malloc(change->targets_len * sizeof *many);
        if (many == NULL)
            return -ENOMEM;
        memcpy(many, change->targets, change->targets_len * sizeof *many);
        qsort(many, change->targets_len, sizeof *many, by_label);
    }
    c = chunk_own(h, known ? slot : h->examples_len);
    if (c == NULL) {
        free(many);
        return -ENOMEM;
    }
    if (!known) {
        slot = h->examples_len;
        c->ids[slot % CHUNK_ROWS] = change->id;
        h->index[index_at(h, change->id)] = slot + 1;
        h->examples_len++;
    } else {
        count_trusted(h, slot, -1);
        if (h->examples[slot].targets_len > 1)
            free(h->examples[slot].targets);
    }
    row = slot % CHUNK_ROWS;
    e = &h->examples[slot];
    h->distrusted_len -= known && e->distrusted;
    *e = (struct example){.weight = change->weight,
                          .taught = change->weight,
                          .confirmed = change->confirmed,
                          .targets_len = change->targets_len,
                          .targets = many};
    if (change->targets_len == 1)
        e->one = change->targets[0];
    memcpy(c->embeddings + (size_t)row * h->settings.dim, change->embedding,
           h->settings.dim * sizeof *c->embeddings);
    c->labels[row] = strongest(change->targets, change->targets_len);
    c->trusted[row] = change->weight >= HEAD_TRUST_NEAR;
    count_trusted(h, slot, 1);
    return 0;
}

int examples_distrust(struct head *h, uint32_t slot, bool distrusted)
{
    struct example *e = &h->examples[slot];
    struct chunk *c = chunk_own(h, slot);

    if (c == NULL)
        return -ENOMEM;
    count_trusted(h, slot, -1);
    h->distrusted_len += (uint64_t)distrusted - e->distrusted;
    e->distrusted = distrusted;
    e->weight = distrusted ? e->taught * HEAD_SUSPECT_WEIGHT : e->taught;
    c->trusted[slot % CHUNK_ROWS] = !distrusted && e->taught >= HEAD_TRUST_NEAR;
    count_trusted(h, slot, 1);
    return 0;
}

int examples_remove(struct head *h, uint32_t slot)
{
    uint32_t last = h->examples_len - 1, row = slot % CHUNK_ROWS, from = last % CHUNK_ROWS;
    struct chunk *c = chunk_own(h, slot);
    const struct chunk *other = h->chunks[last / CHUNK_ROWS];

    if (c == NULL)
        return -ENOMEM;
    count_trusted(h, slot, -1);
    h->distrusted_len -= h->examples[slot].distrusted;
    index_remove(h, index_at(h, c->ids[row]));
    if (h->examples[slot].targets_len > 1)
        free(h->examples[slot].targets);
    if (slot != last) {
        uint32_t place = index_at(h, other->ids[from]);

        h->index[place] = slot + 1;
        h->examples[slot] = h->examples[last];
        c->ids[row] = other->ids[from];
        c->labels[row] = other->labels[from];
        c->trusted[row] = other->trusted[from];
        memcpy(c->embeddings + (size_t)row * h->settings.dim,
               other->embeddings + (size_t)from * h->settings.dim,
               h->settings.dim * sizeof *c->embeddings);
    }
    h->examples_len--;
    if (h->examples_len % CHUNK_ROWS == 0) {
        chunk_put(h->chunks[h->examples_len / CHUNK_ROWS]);
        h->chunks[h->examples_len / CHUNK_ROWS] = NULL;
    }
    return 0;
}

void examples_free(struct head *h)
{
    for (uint32_t i = 0; i < h->examples_len; i++)
        if (h->examples[i].targets_len > 1)
            free(h->examples[i].targets);
    for (uint32_t i = 0; i < h->examples_max / CHUNK_ROWS; i++)
        chunk_put(h->chunks[i]);
    free(h->examples);
    free(h->chunks);
    free(h->index);
}
