/* masters.c -- the block of fp32 parameters: its layout, and where it starts from.
 *
 * The layout is two walks over the lists of encoder_weights.h: first the matrices, which decay and
 * which the device wants in a form of its own, then tables and vectors. Each begins at a multiple
 * of 64 bytes; what fills the gaps is 0 with a gradient of 0. Of the word table only the rows in
 * use are here.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/train/train_internal.h"

#define ONE(field, name, rows, columns, how) +1
enum {
    EMBEDDING_ROWS = 0 ENCODER_EMBEDDING_PARAMETERS(ONE),
    LAYER_ROWS = 0 ENCODER_LAYER_PARAMETERS(ONE),
    ALIGN = 16, /* floats */
};

uint64_t train_hash(uint64_t hash, const void *bytes, size_t bytes_len)
{
    const uint8_t *at = bytes;
    uint64_t word = 0;

    for (; bytes_len >= 8; bytes_len -= 8, at += 8) {
        memcpy(&word, at, 8);
        hash = (hash ^ word) * 0x9e3779b97f4a7c15;
        hash ^= hash >> 29;
    }
    word = bytes_len;
    memcpy((uint8_t *)&word + 1, at, bytes_len);
    return train_mix(hash ^ word);
}

static size_t aligned(size_t at)
{
    return (at + ALIGN - 1) / ALIGN * ALIGN;
}

static bool is_matrix(const struct master *p)
{
    return p->how >= MAT;
}

static void place(struct masters *m, bool matrices, struct master row, struct master **field)
{
    struct master *p = &m->list[m->list_len];

    if (is_matrix(&row) != matrices)
        return;
    if (encoder_part(row.how) == 0) {
        m->len = aligned(m->len);
        *field = p;
    }
    row.at = m->len;
    m->len += (size_t)row.rows * row.columns;
    m->list_len++;
    *p = row;
}

static void place_all(struct train *t, bool matrices)
{
    struct masters *m = &t->masters;
    const uint32_t C = t->config.C, F = t->config.F, V = m->words;
    const uint32_t P = t->config.positions, S = t->config.segments;
    uint32_t layer = TRAIN_NO_LAYER;

#define PLACE(field_, name_, rows_, columns_, how_)                                                \
    place(m, matrices,                                                                             \
          (struct master){                                                                         \
              .name = name_, .layer = layer, .rows = rows_, .columns = columns_, .how = how_},     \
          &at->field_);
    {
        struct train_embedding *at = &m->embedding;

        ENCODER_EMBEDDING_PARAMETERS(PLACE)
    }
    for (layer = 0; layer < t->config.layers; layer++) {
        struct train_layer *at = &m->layers[layer];

        ENCODER_LAYER_PARAMETERS(PLACE)
    }
#undef PLACE
}

static int lay_out(struct train *t)
{
    struct masters *m = &t->masters;
    const size_t C = t->config.C, F = t->config.F;
    const struct train_settings *s = &t->settings;

    m->layers = calloc(t->config.layers, sizeof *m->layers);
    m->list = calloc(EMBEDDING_ROWS + (size_t)LAYER_ROWS * t->config.layers, sizeof *m->list);
    if (s->lora != TRAIN_LORA_NONE)
        m->adapters = calloc((size_t)LAYER_ROWS * t->config.layers, sizeof *m->adapters);
    if (m->layers == NULL || m->list == NULL || (s->lora != TRAIN_LORA_NONE && m->adapters == NULL))
        return -ENOMEM;
    place_all(t, true);
    m->matrices_end = m->len = aligned(m->len);
    place_all(t, false);
    m->encoder_end = m->len = aligned(m->len);
    lora_place(t);
    m->head = m->len = aligned(m->len);
    m->biases = m->len += (size_t)s->labels_len * t->config.C;
    m->len += s->kind == TRAIN_MULTI ? s->labels_len : 0;
    m->largest = C * (F > 3 * C ? F : 3 * C);
    m->trained = s->lora != TRAIN_LORA_NONE ? m->encoder_end : 0;
    return 0;
}

static int block_open(struct train *t, size_t len, float **ret_block)
{
    void *data;
    int rc = t->backend->alloc(K_RUNS, len * sizeof(float), &data);

    if (rc == 0)
        *ret_block = data;
    return rc;
}

static bool has_mat(const struct master *p)
{
    return is_matrix(p) && encoder_part(p->how) == 0;
}

int masters_measure(struct train *t, uint64_t *ret_bytes)
{
    const struct masters *m = &t->masters;
    uint64_t bytes = 0;
    int rc = lay_out(t);

    if (rc != 0)
        return rc;
    bytes += 2 * kroom_bytes(m->len * sizeof(float));
    bytes += 2 * kroom_bytes((m->len - m->trained) * sizeof(float));
    if (t->settings.lora != TRAIN_LORA_NONE)
        bytes += kroom_bytes(m->largest * sizeof(float));
    for (uint32_t i = 0; i < m->list_len; i++)
        if (has_mat(&m->list[i]))
            bytes += t->ops->mat_bytes(encoder_parts(m->list[i].how) * m->list[i].rows,
                                       m->list[i].columns, t->dtype);
    *ret_bytes = bytes;
    return 0;
}

static int blocks_open(struct train *t)
{
    struct masters *m = &t->masters;
    int rc = block_open(t, m->len, &m->w);

    if (rc == 0)
        rc = block_open(t, m->len, &m->grad);
    if (rc == 0)
        rc = block_open(t, m->len - m->trained, &m->m);
    if (rc == 0)
        rc = block_open(t, m->len - m->trained, &m->v);
    if (rc == 0 && t->settings.lora != TRAIN_LORA_NONE)
        rc = block_open(t, m->largest, &m->effective);
    for (uint32_t i = 0; i < m->list_len && rc == 0; i++) {
        struct master *p = &m->list[i];

        if (has_mat(p))
            rc = t->ops->mat_open(encoder_parts(p->how) * p->rows, p->columns, t->dtype, &p->mat);
    }
    return rc;
}

static int words_choose(struct train *t, const uint8_t *used)
{
    struct masters *m = &t->masters;

    m->row_of = malloc(t->config.V * sizeof *m->row_of);
    if (m->row_of == NULL)
        return -ENOMEM;
    for (uint32_t id = 0; id < t->config.V; id++)
        m->row_of[id] = used[id] != 0 ? (int32_t)m->words++ : -1;
    return 0;
}

/* ---- reading --------------------------------------------------------------------------------- */

void masters_name(const struct master *p, const char *prefix, char *ret_name)
{
    char scope[64] = "";

    if (p->layer != TRAIN_NO_LAYER)
        snprintf(scope, sizeof scope, "encoder.layer.%u.", p->layer);
    snprintf(ret_name, TRAIN_NAME_BYTES, "%s%s%s", prefix, scope, p->name);
}

int masters_find(const struct train *t, const struct master *p, const struct safetensors *file,
                 char *why, size_t why_bytes, const struct safetensor **ret_tensor)
{
    bool word = p == t->masters.embedding.word;
    char name[TRAIN_NAME_BYTES];

    masters_name(p, encoder_tensor_prefix(file), name);
    return encoder_tensor_find(file, name, word ? t->config.V : p->rows, p->columns, why, why_bytes,
                               ret_tensor);
}

int masters_read_row(const struct safetensor *tensor, uint64_t row, float *ret_values)
{
    struct safetensor one = *tensor;

    one.bytes = tensor->bytes / tensor->dims[0];
    one.data = (const uint8_t *)tensor->data + row * one.bytes;
    return safetensor_read(&one, ret_values);
}

/* The rows in use into the block; the others into a hash only, by which they are known again when
 * the weights are written. */
static int read_words(struct train *t, const struct safetensor *tensor, float *w)
{
    struct masters *m = &t->masters;
    const uint32_t C = t->config.C;
    float *row = malloc(C * sizeof *row);
    int rc = row != NULL ? 0 : -ENOMEM;

    for (uint32_t id = 0; id < t->config.V && rc == 0; id++) {
        rc = masters_read_row(tensor, id, row);
        if (rc == 0 && m->row_of[id] >= 0)
            memcpy(w + m->embedding.word->at + (size_t)m->row_of[id] * C, row, C * sizeof *row);
        else if (rc == 0)
            t->untrained = train_hash(t->untrained, row, C * sizeof *row);
    }
    free(row);
    return rc;
}

static int read_all(struct train *t, const struct safetensors *file, float *w, char *why,
                    size_t why_bytes)
{
    struct masters *m = &t->masters;
    const struct safetensor *tensor;
    int rc = 0;

    for (uint32_t i = 0; i < m->list_len && rc == 0; i++) {
        struct master *p = &m->list[i];

        rc = masters_find(t, p, file, why, why_bytes, &tensor);
        if (rc != 0)
            return rc;
        rc = p == m->embedding.word ? read_words(t, tensor, w) : safetensor_read(tensor, w + p->at);
        if (rc == -EDOM) {
            snprintf(why, why_bytes, "model.safetensors: tensor %s holds NaN or infinity",
                     tensor->name);
            return -EINVAL;
        }
    }
    return rc;
}

static int read_file(struct train *t, float *w, char *why, size_t why_bytes)
{
    struct safetensors *file;
    char path[4096];
    int rc;

    if (snprintf(path, sizeof path, "%s/model.safetensors", t->folder) >= (int)sizeof path) {
        snprintf(why, why_bytes, "the path of the encoder's folder is too long");
        return -EINVAL;
    }
    rc = safetensors_open(path, why, why_bytes, &file);
    if (rc != 0)
        return rc;
    rc = read_all(t, file, w, why, why_bytes);
    safetensors_close(file);
    return rc;
}

/* Label vectors of unit length: the prototypes, and a random direction where there is none. For
 * sets a bias in units of the cosine: where it is reached a label is as likely as not. It starts in
 * the middle, far above what texts that share nothing have in common. */
static void head_start(const struct train *t, const float *prototypes, float *block)
{
    const uint32_t C = t->config.C, L = t->settings.labels_len;
    float *w = block + t->masters.head;

    for (uint32_t c = 0; c < L; c++, w += C) {
        double squares = 0;

        for (uint32_t i = 0; i < C && prototypes != NULL; i++)
            squares += (double)prototypes[(size_t)c * C + i] * prototypes[(size_t)c * C + i];
        for (uint32_t i = 0; i < C; i++)
            w[i] = squares > 0 ? (float)(prototypes[(size_t)c * C + i] / sqrt(squares))
                               : train_normal(t->settings.seed ^ 0x68656164, (uint64_t)c * C + i) /
                                     sqrtf((float)C);
    }
    for (size_t i = t->masters.biases; i < t->masters.len; i++)
        block[i] = 0.5f;
}

/* What the block holds at first: made in memory of the host, and sent. */
static int start(struct train *t, const float *prototypes, char *why, size_t why_bytes)
{
    struct masters *m = &t->masters;
    bool sees = train_host_sees(t);
    float *w = sees ? m->w : calloc(m->len, sizeof *w);
    int rc = w != NULL ? read_file(t, w, why, why_bytes) : -ENOMEM;

    if (rc == 0) {
        head_start(t, prototypes, w);
        lora_start(t, w);
        t->identity = train_hash(t->untrained, w, m->len * sizeof *w);
        t->identity = train_hash(t->identity, m->row_of, t->config.V * sizeof *m->row_of);
        t->stale = true;
        rc = masters_send(t, m->w, w, m->len);
        if (rc != 0)
            snprintf(why, why_bytes, "%s did not take the weights", t->backend->name);
    }
    if (!sees)
        free(w);
    return rc;
}

int masters_open(struct train *t, const uint8_t *used, const float *prototypes, char *why,
                 size_t why_bytes)
{
    struct masters *m = &t->masters;
    int rc = words_choose(t, used);

    if (rc == 0 && m->words == 0) {
        snprintf(why, why_bytes, "no text uses a word of the vocabulary");
        return -EINVAL;
    }
    if (rc == 0)
        rc = lay_out(t);
    if (rc == 0)
        rc = blocks_open(t);
    return rc == 0 ? start(t, prototypes, why, why_bytes) : rc;
}

void masters_close(struct train *t)
{
    struct masters *m = &t->masters;

    for (uint32_t i = 0; i < m->list_len; i++)
        t->ops->mat_close(m->list[i].mat);
    t->backend->dealloc(m->w);
    t->backend->dealloc(m->grad);
    t->backend->dealloc(m->m);
    t->backend->dealloc(m->v);
    t->backend->dealloc(m->effective);
    free(m->list);
    free(m->layers);
    free(m->adapters);
    free(m->row_of);
}

/* ---- use ------------------------------------------------------------------------------------- */

int masters_fetch(const struct train *t, float *to, const float *block, size_t len)
{
    return to == block ? 0 : t->backend->download(to, block, K_F32, len);
}

int masters_send(const struct train *t, float *block, const float *from, size_t len)
{
    return from == block ? 0 : t->backend->upload(block, K_F32, from, len);
}

static void mat_settle(struct train *t, const struct master *p)
{
    const struct masters *m = &t->masters;
    const float *w = m->w + p->at;

    if (m->adapters_len > 0) {
        lora_merge(t, p->at, encoder_parts(p->how) * p->rows, p->columns);
        w = m->effective;
    }
    t->ops->mat_set(t->k, p->mat, w);
}

int masters_settle(struct train *t)
{
    struct masters *m = &t->masters;
    int rc;

    if (!t->stale)
        return 0;
    for (uint32_t i = 0; i < m->list_len; i++)
        if (m->list[i].mat != NULL)
            mat_settle(t, &m->list[i]);
    rc = t->backend->sync(t->k);
    t->stale = rc != 0;
    return rc;
}
