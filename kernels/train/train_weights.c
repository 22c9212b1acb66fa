/* train_weights.c -- the encoder as a model.safetensors.
 *
 * Names, order and shapes are those of the lists of encoder_weights.h, with the prefix of the file
 * that the run started from; parts of qkv are tensors of their own again, adapters are merged. Rows
 * of the word table that the run did not use come from the start folder once more: they are not
 * held in memory, and a hash says whether they are still the same.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/encoder/safetensors_write.h"
#include "kernels/train/train_internal.h"

/* ROWS of the word table go out at a time. */
enum { ROWS = 256 };

struct writing {
    struct train *t;
    struct safetensors *file; /* of the start folder */
    const struct safetensor *words;
    const float *block; /* w, for the host */
    float *merged;      /* (largest) a matrix with its adapters, for the host */
    train_write_fn *write;
    void *ud;
};

static int words_hash(const struct writing *w, float *row)
{
    const struct train *t = w->t;
    uint64_t hash = 0;

    for (uint32_t id = 0; id < t->config.V; id++) {
        if (t->masters.row_of[id] >= 0)
            continue;
        if (masters_read_row(w->words, id, row) != 0)
            return -ESTALE;
        hash = train_hash(hash, row, t->config.C * sizeof *row);
    }
    return hash == t->untrained ? 0 : -ESTALE;
}

static int words_write(const struct writing *w, float *rows)
{
    const struct train *t = w->t;
    const struct masters *m = &t->masters;
    const uint32_t C = t->config.C, V = t->config.V;
    int rc = 0;

    for (uint32_t from = 0; from < V && rc == 0; from += ROWS) {
        uint32_t len = V - from < ROWS ? V - from : ROWS;

        for (uint32_t i = 0; i < len && rc == 0; i++) {
            float *row = rows + (size_t)i * C;

            if (m->row_of[from + i] < 0)
                rc = masters_read_row(w->words, from + i, row) == 0 ? 0 : -ESTALE;
            else
                memcpy(row, w->block + m->embedding.word->at + (size_t)m->row_of[from + i] * C,
                       C * sizeof *row);
        }
        if (rc == 0)
            rc = w->write(w->ud, rows, (size_t)len * C * sizeof *rows);
    }
    return rc;
}

static int header_write(const struct writing *w)
{
    const struct masters *m = &w->t->masters;
    const char *prefix = encoder_tensor_prefix(w->file);
    struct safetensors_entry *entries = calloc(m->list_len, sizeof *entries);
    int rc;

    if (entries == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < m->list_len; i++) {
        const struct master *p = &m->list[i];

        masters_name(p, prefix, entries[i].name);
        entries[i].rows = p == m->embedding.word ? w->t->config.V : p->rows;
        entries[i].columns = p->columns;
    }
    rc = safetensors_header_write(entries, m->list_len, w->write, w->ud);
    free(entries);
    return rc;
}

/* A matrix, with its adapters where there are any. */
static int matrix_write(const struct writing *w, const struct master *p)
{
    struct train *t = w->t;
    size_t len = (size_t)p->rows * p->columns;
    const float *values = w->block + p->at;
    int rc = 0;

    if (t->masters.adapters_len > 0) {
        lora_merge(t, p->at, p->rows, p->columns);
        rc = t->backend->sync(t->k);
        if (rc == 0)
            rc = masters_fetch(t, w->merged, t->masters.effective, len);
        values = w->merged;
    }
    return rc == 0 ? w->write(w->ud, values, len * sizeof *values) : rc;
}

static int all_write(const struct writing *w)
{
    const struct masters *m = &w->t->masters;
    float *rows = malloc((size_t)ROWS * w->t->config.C * sizeof *rows);
    int rc = rows != NULL ? words_hash(w, rows) : -ENOMEM;

    if (rc == 0)
        rc = header_write(w);
    for (uint32_t i = 0; i < m->list_len && rc == 0; i++) {
        const struct master *p = &m->list[i];
        size_t bytes = (size_t)p->rows * p->columns * sizeof(float);

        if (p == m->embedding.word)
            rc = words_write(w, rows);
        else if (p->how == TABLE || p->columns == 1)
            rc = w->write(w->ud, w->block + p->at, bytes);
        else
            rc = matrix_write(w, p);
    }
    free(rows);
    return rc;
}

/* The block as the host reads it: the device's own, or brought over whole; and room for a merged
 * matrix. One allocation, NULL where none is needed. 0, -ENOMEM, -EIO, -ENODEV. */
static int block_read(struct writing *w, float **ret_copy)
{
    const struct masters *m = &w->t->masters;
    size_t merged = m->adapters_len > 0 ? m->largest : 0;
    float *copy;
    int rc;

    w->block = m->w;
    w->merged = m->effective;
    if (train_host_sees(w->t)) {
        *ret_copy = NULL;
        return 0;
    }
    copy = malloc((m->head + merged) * sizeof *copy);
    rc = copy != NULL ? masters_fetch(w->t, copy, m->w, m->head) : -ENOMEM;
    if (rc != 0) {
        free(copy);
        return rc;
    }
    w->block = *ret_copy = copy;
    w->merged = copy + m->head;
    return 0;
}

int train_weights_write(struct train *t, train_write_fn *write, void *ud)
{
    float *copy = NULL;
    struct writing w = {.t = t, .write = write, .ud = ud};
    char path[4096], why[256];
    int rc;

    if (t->failed != 0)
        return t->failed;
    snprintf(path, sizeof path, "%s/model.safetensors", t->folder);
    rc = safetensors_open(path, why, sizeof why, &w.file);
    if (rc != 0)
        return rc == -ENOMEM ? rc : -ESTALE;
    if (masters_find(t, t->masters.embedding.word, w.file, why, sizeof why, &w.words) != 0)
        rc = -ESTALE;
    if (rc == 0)
        rc = block_read(&w, &copy);
    if (rc == 0)
        rc = all_write(&w);
    free(copy);
    safetensors_close(w.file);
    return rc;
}
