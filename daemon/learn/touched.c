/* touched.c -- see touched.h. */
#include "daemon/learn/touched.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/learn/embed.h"

void touched_init(struct touched *t, struct held_encoder *encoder, uint32_t dim)
{
    *t = (struct touched){.encoder = encoder, .dim = dim};
}

void touched_reset(struct touched *t)
{
    t->len = t->targets_len = t->tokens_len = 0;
    t->last_seq = 0;
}

void touched_done(struct touched *t)
{
    free(t->rows);
    free(t->embeddings);
    free(t->targets);
    free(t->ids);
    free(t->types);
    *t = (struct touched){.encoder = t->encoder, .dim = t->dim};
}

/* Makes room for `want` elements of an array that has *have. */
static int grow(void **block, uint32_t have, uint32_t want, size_t size)
{
    void *bigger;

    if (want <= have)
        return 0;
    bigger = realloc(*block, (size_t)want * size);
    if (bigger == NULL)
        return -ENOMEM;
    *block = bigger;
    return 0;
}

static int reserve(struct touched *t, uint32_t targets, uint32_t tokens)
{
    uint32_t rows = t->len + 1 > t->max ? t->max * 2 + 64 : t->max;
    uint32_t goals = t->targets_len + targets;
    uint32_t ids = t->tokens_len + tokens;
    int rc = grow((void **)&t->rows, t->max, rows, sizeof *t->rows);

    if (rc == 0)
        rc = grow((void **)&t->embeddings, t->max, rows, t->dim * sizeof *t->embeddings);
    if (rc != 0)
        return rc;
    t->max = rows;
    if (goals > t->targets_max) {
        rc = grow((void **)&t->targets, t->targets_max, goals * 2, sizeof *t->targets);
        if (rc != 0)
            return rc;
        t->targets_max = goals * 2;
    }
    if (ids > t->tokens_max) {
        rc = grow((void **)&t->ids, t->tokens_max, ids * 2, sizeof *t->ids);
        if (rc == 0)
            rc = grow((void **)&t->types, t->tokens_max, ids * 2, sizeof *t->types);
        if (rc != 0)
            return rc;
        t->tokens_max = ids * 2;
    }
    return 0;
}

static int add_targets(struct touched *t, const struct store_example *row,
                       const struct learned *learned)
{
    for (uint32_t i = 0; i < row->target_len; i++) {
        uint32_t column = learned_column(learned, row->target[i].label);

        if (column == UINT32_MAX)
            return -EUCLEAN;
        t->targets[t->targets_len++] = (struct head_target){column, (float)row->target[i].value};
    }
    return 0;
}

int touched_add(struct touched *t, const struct store_example *row, const struct learned *learned)
{
    const uint16_t *embedding = NULL;
    struct touched_row *own;
    int rc = reserve(t, row->target_len, t->encoder->tokens_max);

    if (rc != 0)
        return rc;
    own = &t->rows[t->len];
    *own = (struct touched_row){.target = t->targets_len,
                                .target_len = row->target_len,
                                .weight = row->weight,
                                .teaches = row->target_len > 0 ||
                                           (learned->multi && strcmp(row->status, "active") == 0),
                                .confirmed = row->target_len == 1 && row->annotators > 1};
    memcpy(own->example, row->id, STORE_ID_BYTES);
    rc = add_targets(t, row, learned);
    if (rc != 0)
        return rc;
    if (row->vector != NULL)
        embedding = row->vector;
    else if (row->embedding_bytes == t->dim * sizeof *t->embeddings)
        embedding = row->embedding;
    if (row->vector != NULL && row->vector_bytes != t->dim * sizeof *t->embeddings)
        return -EUCLEAN;
    if (own->teaches && embedding != NULL) {
        memcpy(t->embeddings + (size_t)t->len * t->dim, embedding, t->dim * sizeof *t->embeddings);
        own->embedded = true;
    } else if (own->teaches) {
        struct tokenizer_input input = {row->text, row->text_bytes, row->pair, row->pair_bytes};

        own->token = t->tokens_len;
        rc = tokenizer_encode(t->encoder->tokenizer, &input, TOKENIZER_TRUNCATE_RIGHT,
                              t->encoder->tokens_max, t->ids + t->tokens_len,
                              t->types + t->tokens_len, &own->tokens_len, NULL);
        if (rc != 0)
            return rc;
        t->tokens_len += own->tokens_len;
    }
    if (row->last_seq > t->last_seq)
        t->last_seq = row->last_seq;
    t->len++;
    return 0;
}

/* ---- embedding ------------------------------------------------------------------------------- */

/* Embeddings on their way to the store's cache. */
struct cache_change {
    struct change change; /* first */
    int64_t encoder;
    uint32_t dim, len;
    uint8_t (*examples)[STORE_ID_BYTES];
    uint16_t *embeddings;
};

static int cache_write(struct change *change, struct store *store)
{
    struct cache_change *c = (struct cache_change *)change;
    int rc = 0;

    for (uint32_t i = 0; i < c->len && rc == 0; i++)
        rc =
            store_embedding_put(store, c->examples[i], c->encoder,
                                c->embeddings + (size_t)i * c->dim, c->dim * sizeof *c->embeddings);
    return rc;
}

static void cache_done(struct change *change, int rc)
{
    (void)rc; /* a cache: what was not written is computed again after a restart */
    free(change);
}

static void cache(const struct touched *t, const struct learner_parts *parts, const uint32_t *rows,
                  uint32_t len)
{
    size_t vector = t->dim * sizeof *t->embeddings;
    struct cache_change *c = calloc(1, sizeof *c + len * (STORE_ID_BYTES + vector));

    if (c == NULL)
        return;
    c->change.write = cache_write;
    c->change.done = cache_done;
    c->encoder = t->encoder->number;
    c->dim = t->dim;
    c->len = len;
    c->embeddings = (uint16_t *)(c + 1);
    c->examples = (void *)(c->embeddings + (size_t)len * t->dim);
    for (uint32_t i = 0; i < len; i++) {
        memcpy(c->embeddings + (size_t)i * t->dim, t->embeddings + (size_t)rows[i] * t->dim,
               vector);
        memcpy(c->examples[i], t->rows[rows[i]].example, STORE_ID_BYTES);
    }
    if (parts->keeper == NULL || keeper_post(parts->keeper, &c->change) != 0)
        free(c);
}

static int embed_rows(struct touched *t, const struct learner_parts *parts, const uint32_t *rows,
                      uint32_t len, struct work_item *items, float *embeddings)
{
    int rc;

    for (uint32_t i = 0; i < len; i++)
        items[i] = (struct work_item){.ids = t->ids + t->rows[rows[i]].token,
                                      .types = t->types + t->rows[rows[i]].token,
                                      .len = t->rows[rows[i]].tokens_len,
                                      .embedding = embeddings + (size_t)i * t->dim};
    rc = embed_texts(parts->batcher, t->encoder, items, len);
    for (uint32_t i = 0; i < len && rc == 0; i++) {
        head_embedding_pack(embeddings + (size_t)i * t->dim, t->dim,
                            t->embeddings + (size_t)rows[i] * t->dim);
        t->rows[rows[i]].embedded = true;
    }
    return rc;
}

int touched_embed(struct touched *t, const struct learner_parts *parts, uint64_t *ret_embedded)
{
    uint32_t *rows = malloc((t->len + 1) * sizeof *rows), len = 0;
    struct work_item *items = NULL;
    float *embeddings = NULL;
    int rc = rows != NULL ? 0 : -ENOMEM;

    for (uint32_t i = 0; i < t->len && rc == 0; i++)
        if (t->rows[i].teaches && !t->rows[i].embedded)
            rows[len++] = i;
    if (rc != 0 || len == 0)
        goto out;
    items = malloc(len * sizeof *items);
    embeddings = malloc((size_t)len * t->dim * sizeof *embeddings);
    rc = items != NULL && embeddings != NULL ? embed_rows(t, parts, rows, len, items, embeddings)
                                             : -ENOMEM;
    if (rc == 0) {
        cache(t, parts, rows, len);
        *ret_embedded = len;
    }
out:
    free(rows);
    free(items);
    free(embeddings);
    return rc;
}

struct head_id touched_head_id(const uint8_t example[STORE_ID_BYTES])
{
    struct head_id id = {0, 0};

    for (int i = 0; i < 8; i++) {
        id.hi = id.hi << 8 | example[i];
        id.lo = id.lo << 8 | example[8 + i];
    }
    return id;
}

struct head_id touched_id(const struct touched_row *row)
{
    return touched_head_id(row->example);
}

int touched_apply(const struct touched *t, struct head *head)
{
    struct head_change *changes = malloc((t->len + 1) * sizeof *changes);
    int rc;

    if (changes == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < t->len; i++) {
        const struct touched_row *row = &t->rows[i];

        changes[i] = (struct head_change){
            .id = touched_head_id(row->example),
            .embedding = row->embedded ? t->embeddings + (size_t)i * t->dim : NULL,
            .targets = t->targets + row->target,
            .targets_len = row->target_len,
            .none = row->teaches && row->target_len == 0,
            .weight = row->weight,
            .confirmed = row->confirmed,
        };
    }
    rc = head_apply(head, changes, t->len);
    free(changes);
    return rc;
}
