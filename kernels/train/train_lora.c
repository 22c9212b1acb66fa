/* train_lora.c -- low-rank adaptation (Hu et al., 2021) with two small operations of its own.
 *
 * The matrix that the device sees is W + (alpha/r) B A, made anew before each step; the backward
 * gives the gradient D of the whole matrix, and from it
 *
 *   dB(M,r) = (alpha/r) D A^T        dA(r,K) = (alpha/r) B^T D
 *
 * so forward and backward are those of full tuning. What is saved is memory (no moments of the
 * encoder, a small image), not time: making W + B A and the two small products take a third of a
 * step on top where the matrix work is AMX's (MiniLM, r = 8, all matrices, 500 tokens). A starts
 * from the seed, B from 0: W at first.
 */
#include "kernels/train/train_internal.h"

static bool adapted(const struct master *p, enum train_lora lora)
{
    if (p->how == TABLE || p->columns == 1)
        return false;
    return lora == TRAIN_LORA_ALL ||
           (lora == TRAIN_LORA_QV && (p->how == QUERY || p->how == VALUE));
}

void lora_place(struct train *t)
{
    struct masters *m = &t->masters;
    const size_t r = t->settings.lora_rank;

    for (uint32_t i = 0; i < m->list_len; i++) {
        const struct master *p = &m->list[i];

        if (!adapted(p, t->settings.lora))
            continue;
        m->adapters[m->adapters_len++] = (struct adapter){.base = p->at,
                                                          .rows = p->rows,
                                                          .columns = p->columns,
                                                          .a = m->len,
                                                          .b = m->len + r * p->columns};
        m->len += r * ((size_t)p->rows + p->columns);
    }
}

void lora_start(const struct train *t, float *w)
{
    const struct masters *m = &t->masters;

    for (uint32_t i = 0; i < m->adapters_len; i++) {
        const struct adapter *a = &m->adapters[i];
        size_t len = (size_t)t->settings.lora_rank * a->columns;

        for (size_t n = 0; n < len; n++)
            w[a->a + n] =
                train_normal(train_mix(t->settings.seed) + i, n) / sqrtf((float)a->columns);
    }
}

static float lora_scale(const struct train *t)
{
    return t->settings.lora_alpha / (float)t->settings.lora_rank;
}

/* Rows of the block into `effective`, as they are where there is no adapter. */
static void merge(struct train *t, float *to, size_t from, uint32_t rows, uint32_t columns,
                  const struct adapter *a)
{
    const float *w = t->masters.w;

    if (rows > 0)
        t->ops->lora(t->k, to, w + from, a != NULL ? w + a->a : NULL, a != NULL ? w + a->b : NULL,
                     lora_scale(t), rows, columns, a != NULL ? t->settings.lora_rank : 0);
}

void lora_merge(struct train *t, size_t at, uint32_t rows, uint32_t columns)
{
    const struct masters *m = &t->masters;
    size_t from = at, end = at + (size_t)rows * columns;

    for (uint32_t i = 0; i < m->adapters_len; i++) {
        const struct adapter *a = &m->adapters[i];

        if (a->base < at || a->base >= end)
            continue;
        merge(t, m->effective + (from - at), from, (uint32_t)((a->base - from) / columns), columns,
              NULL);
        merge(t, m->effective + (a->base - at), a->base, a->rows, columns, a);
        from = a->base + (size_t)a->rows * columns;
    }
    merge(t, m->effective + (from - at), from, (uint32_t)((end - from) / columns), columns, NULL);
}

void lora_gradients(struct train *t)
{
    const struct masters *m = &t->masters;

    if (m->adapters_len == 0)
        return;
    for (uint32_t i = 0; i < m->adapters_len; i++) {
        const struct adapter *a = &m->adapters[i];

        t->ops->lora_back(t->k, m->grad + a->a, m->grad + a->b, m->grad + a->base, m->w + a->a,
                          m->w + a->b, lora_scale(t), a->rows, a->columns, t->settings.lora_rank);
    }
    t->ops->zero(t->k, m->grad, m->trained);
}
