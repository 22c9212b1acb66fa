/* train_lora.c -- low-rank adaptation (Hu et al., 2021) without operations of its own.
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
#include <string.h>

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

void lora_start(struct train *t)
{
    const struct masters *m = &t->masters;

    for (uint32_t i = 0; i < m->adapters_len; i++) {
        const struct adapter *a = &m->adapters[i];
        size_t len = (size_t)t->settings.lora_rank * a->columns;

        for (size_t n = 0; n < len; n++)
            m->w[a->a + n] =
                train_normal(train_mix(t->settings.seed) + i, n) / sqrtf((float)a->columns);
    }
}

static float lora_scale(const struct train *t)
{
    return t->settings.lora_alpha / (float)t->settings.lora_rank;
}

void lora_add(const struct train *t, const struct adapter *a, float *w)
{
    const float *A = t->masters.w + a->a, *B = t->masters.w + a->b;
    const uint32_t r = t->settings.lora_rank;
    float scale = lora_scale(t);

    for (uint32_t row = 0; row < a->rows; row++)
        for (uint32_t j = 0; j < r; j++)
            train_axpy(w + (size_t)row * a->columns, scale * B[(size_t)row * r + j],
                       A + (size_t)j * a->columns, a->columns);
}

void lora_gradients(struct train *t)
{
    struct masters *m = &t->masters;
    const uint32_t r = t->settings.lora_rank;
    float scale = lora_scale(t);

    for (uint32_t i = 0; i < m->adapters_len; i++) {
        const struct adapter *a = &m->adapters[i];
        const float *A = m->w + a->a, *B = m->w + a->b, *D = m->grad + a->base;
        float *dA = m->grad + a->a, *dB = m->grad + a->b;

        for (uint32_t row = 0; row < a->rows; row++, D += a->columns) {
            for (uint32_t j = 0; j < r; j++) {
                dB[(size_t)row * r + j] +=
                    (float)(scale * train_dot(D, A + (size_t)j * a->columns, a->columns));
                train_axpy(dA + (size_t)j * a->columns, scale * B[(size_t)row * r + j], D,
                           a->columns);
            }
        }
    }
    memset(m->grad, 0, m->trained * sizeof *m->grad);
}
