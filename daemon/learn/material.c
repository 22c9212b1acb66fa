/* material.c -- see material.h. */
#include "daemon/learn/material.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/train/plan.h"

struct reading {
    struct material *m;
    const struct learned *learned; /* NULL: rows and targets are there, only texts are wanted */
    const struct held_encoder *encoder;
    uint32_t rows_max, tokens_max, targets_max;
};

void material_free(struct material *m)
{
    if (m == NULL)
        return;
    free(m->rows);
    free(m->ids);
    free(m->types);
    free(m->targets);
    free(m->columns);
    free(m->used);
    free(m);
}

/* ---- reading --------------------------------------------------------------------------------- */

static int grow(void *block, uint32_t *max, uint64_t want, size_t size)
{
    void **at = block, *bigger;
    uint64_t to = want + want / 2 + 64;

    if (want <= *max)
        return 0;
    if (to > UINT32_MAX)
        return -ENOMEM;
    bigger = realloc(*at, to * size);
    if (bigger == NULL)
        return -ENOMEM;
    *at = bigger;
    *max = (uint32_t)to;
    return 0;
}

/* Tokens of a text behind those that are there. */
static int add_tokens(struct reading *r, const struct store_example *row, struct material_row *own)
{
    struct tokenizer_input input = {row->text, row->text_bytes, row->pair, row->pair_bytes};
    struct material *m = r->m;
    uint32_t types_max = r->tokens_max;
    uint64_t want = (uint64_t)m->tokens_len + r->encoder->tokens_max;
    int rc = grow(&m->types, &types_max, want, sizeof *m->types);

    if (rc == 0)
        rc = grow(&m->ids, &r->tokens_max, want, sizeof *m->ids);
    if (rc == 0)
        rc = tokenizer_encode(r->encoder->tokenizer, &input, TOKENIZER_TRUNCATE_RIGHT,
                              r->encoder->tokens_max, m->ids + m->tokens_len,
                              m->types + m->tokens_len, &own->tokens_len, NULL);
    if (rc != 0)
        return rc;
    own->token = m->tokens_len;
    for (uint32_t t = own->token; t < own->token + own->tokens_len; t++)
        m->used[m->ids[t]] = 1;
    m->tokens_len += own->tokens_len;
    return 0;
}

/* Targets by the head's columns, for now. */
static int add_targets(struct reading *r, const struct store_example *row, struct material_row *own)
{
    struct material *m = r->m;
    float most = 0;
    int rc = grow(&m->targets, &r->targets_max, (uint64_t)m->targets_len + row->target_len,
                  sizeof *m->targets);

    if (rc != 0)
        return rc;
    own->target = m->targets_len;
    own->targets_len = row->target_len;
    own->label = UINT32_MAX;
    for (uint32_t i = 0; i < row->target_len; i++) {
        uint32_t column = learned_column(r->learned, row->target[i].label);
        float value = (float)row->target[i].value;

        if (column == UINT32_MAX)
            return -EUCLEAN;
        m->targets[m->targets_len++] = (struct train_target){column, value};
        if (value > most) {
            most = value;
            own->label = column;
        }
    }
    return 0;
}

static int read_row(void *ud, const struct store_example *row)
{
    struct reading *r = ud;
    struct material *m = r->m;
    struct material_row own = {.seq = row->first_seq};
    int rc;

    if (row->first_seq > r->learned->applied || row->vector != NULL)
        return 0;
    memcpy(own.example, row->id, STORE_ID_BYTES);
    own.held_out = plan_held_out(touched_head_id(row->id).hi);
    rc = grow(&m->rows, &r->rows_max, (uint64_t)m->len + 1, sizeof *m->rows);
    if (rc == 0)
        rc = add_targets(r, row, &own);
    if (rc == 0)
        rc = add_tokens(r, row, &own);
    if (rc == 0)
        m->rows[m->len++] = own;
    return rc;
}

static int by_example(const void *a, const void *b)
{
    const struct material_row *x = a, *y = b;

    return memcmp(x->example, y->example, STORE_ID_BYTES);
}

/* An id against a row: its bytes are in the order of by_example. */
static int against_id(const void *a, const void *b)
{
    const struct head_id *x = a, y = touched_head_id(((const struct material_row *)b)->example);

    if (x->hi != y.hi)
        return x->hi < y.hi ? -1 : 1;
    return (x->lo > y.lo) - (x->lo < y.lo);
}

/* The rows are in order by now. */
static void mark_doubted(struct material *m, const struct live_review *review)
{
    if (review == NULL || !review->distrusted)
        return;
    for (uint32_t i = 0; i < review->suspects_len; i++) {
        struct material_row *row =
            bsearch(&review->suspects[i].id, m->rows, m->len, sizeof *m->rows, against_id);

        if (row != NULL)
            row->doubted = true;
    }
}

/* From columns of the head to labels of the run: those that an example has, in the same order. */
static int number_labels(struct material *m, uint32_t columns_len)
{
    uint32_t *label = malloc((columns_len + 1) * sizeof *label);

    m->columns = malloc((columns_len + 1) * sizeof *m->columns);
    if (label == NULL || m->columns == NULL) {
        free(label);
        return -ENOMEM;
    }
    memset(label, 0, columns_len * sizeof *label);
    for (uint32_t i = 0; i < m->targets_len; i++)
        label[m->targets[i].label] = 1;
    for (uint32_t c = 0; c < columns_len; c++) {
        if (label[c] == 0)
            continue;
        label[c] = m->labels_len;
        m->columns[m->labels_len++] = c;
    }
    for (uint32_t i = 0; i < m->targets_len; i++)
        m->targets[i].label = label[m->targets[i].label];
    for (uint32_t i = 0; i < m->len; i++)
        if (m->rows[i].label != UINT32_MAX)
            m->rows[i].label = label[m->rows[i].label];
    free(label);
    return 0;
}

static int material_new(const struct held_encoder *encoder, struct material **ret_material)
{
    struct material *m = calloc(1, sizeof *m);

    if (m == NULL)
        return -ENOMEM;
    m->used_len = encoder_info(encoder->encoder)->vocab_len;
    m->used = calloc(m->used_len, 1);
    if (m->used == NULL) {
        material_free(m);
        return -ENOMEM;
    }
    *ret_material = m;
    return 0;
}

int material_read(const struct learned *learned, const struct held_encoder *encoder,
                  struct store *store, struct material **ret_material)
{
    const struct store_example_filter filter = {.status = "active"};
    struct reading r = {.learned = learned, .encoder = encoder};
    int rc = material_new(encoder, &r.m);

    if (rc != 0)
        return rc;
    r.m->seq = learned->applied;
    r.m->multi = learned->multi;
    rc = store_begin(store);
    if (rc == 0) {
        rc = store_example_scan(store, learned->model, &filter, -1, read_row, &r);
        store_rollback(store);
    }
    if (rc == 0 && r.m->len > 0)
        qsort(r.m->rows, r.m->len, sizeof *r.m->rows, by_example);
    if (rc == 0)
        mark_doubted(r.m, learned->review);
    if (rc == 0)
        rc = number_labels(r.m, head_labels_len(learned->head));
    if (rc != 0) {
        material_free(r.m);
        return rc;
    }
    *ret_material = r.m;
    return 0;
}

/* ---- the image ------------------------------------------------------------------------------- */

struct frame {
    int64_t seq;
    uint32_t len, targets_len, labels_len, multi;
};

size_t material_image_bytes(const struct material *m)
{
    return sizeof(struct frame) + m->len * sizeof *m->rows + m->targets_len * sizeof *m->targets +
           m->labels_len * sizeof *m->columns;
}

void material_image_write(const struct material *m, void *image)
{
    struct frame frame = {m->seq, m->len, m->targets_len, m->labels_len, m->multi};
    char *at = image;

    memcpy(at, &frame, sizeof frame);
    at += sizeof frame;
    memcpy(at, m->rows, m->len * sizeof *m->rows);
    at += m->len * sizeof *m->rows;
    memcpy(at, m->targets, m->targets_len * sizeof *m->targets);
    at += m->targets_len * sizeof *m->targets;
    memcpy(at, m->columns, m->labels_len * sizeof *m->columns);
}

static void *copied(const char **at, size_t bytes)
{
    void *copy = malloc(bytes + 1);

    if (copy != NULL)
        memcpy(copy, *at, bytes);
    *at += bytes;
    return copy;
}

/* The text of a row that an image named. */
static int read_text(void *ud, const struct store_example *row)
{
    struct reading *r = ud;
    struct material_row *own = &r->m->rows[r->m->len];
    uint32_t tokens = own->tokens_len;
    int rc = add_tokens(r, row, own);

    return rc == 0 && (own->tokens_len != tokens || strcmp(row->status, "deleted") == 0) ? -ESTALE
                                                                                         : rc;
}

static int read_texts(struct reading *r, uint32_t len, struct store *store)
{
    int rc = store_begin(store);

    if (rc != 0)
        return rc;
    while (r->m->len < len && rc == 0) {
        rc = store_example_get(store, r->m->rows[r->m->len].example, -1, read_text, r);
        r->m->len += rc == 0;
    }
    store_rollback(store);
    return rc == -ENOENT ? -ESTALE : rc;
}

static bool in_range(const struct material *m, uint32_t len)
{
    for (uint32_t i = 0; i < m->targets_len; i++)
        if (m->targets[i].label >= m->labels_len)
            return false;
    for (uint32_t i = 0; i < len; i++)
        if ((uint64_t)m->rows[i].target + m->rows[i].targets_len > m->targets_len ||
            (m->rows[i].label != UINT32_MAX && m->rows[i].label >= m->labels_len))
            return false;
    return true;
}

int material_image_read(const void *image, size_t image_bytes, const struct held_encoder *encoder,
                        struct store *store, struct material **ret_material)
{
    const char *at = image;
    struct reading r = {.encoder = encoder};
    struct material *m;
    struct frame f;
    int rc;

    if (image_bytes < sizeof f)
        return -EINVAL;
    memcpy(&f, at, sizeof f);
    at += sizeof f;
    if (image_bytes - sizeof f != (uint64_t)f.len * sizeof *m->rows +
                                      (uint64_t)f.targets_len * sizeof *m->targets +
                                      (uint64_t)f.labels_len * sizeof *m->columns)
        return -EINVAL;
    rc = material_new(encoder, &m);
    if (rc != 0)
        return rc;
    m->seq = f.seq;
    m->multi = f.multi != 0;
    m->rows = copied(&at, f.len * sizeof *m->rows);
    m->targets = copied(&at, f.targets_len * sizeof *m->targets);
    m->columns = copied(&at, f.labels_len * sizeof *m->columns);
    m->targets_len = f.targets_len;
    m->labels_len = f.labels_len;
    r.m = m;
    if (m->rows == NULL || m->targets == NULL || m->columns == NULL)
        rc = -ENOMEM;
    else if (!in_range(m, f.len))
        rc = -EINVAL;
    else
        rc = read_texts(&r, f.len, store);
    if (rc != 0) {
        material_free(m);
        return rc;
    }
    *ret_material = m;
    return 0;
}

struct train_example material_example(const struct material *m, uint32_t row)
{
    const struct material_row *own = &m->rows[row];
    struct train_example e = {.ids = m->ids + own->token,
                              .types = m->types + own->token,
                              .len = own->tokens_len,
                              .targets = m->targets + own->target,
                              .targets_len = own->targets_len};

    memcpy(&e.key, own->example, sizeof e.key);
    return e;
}
