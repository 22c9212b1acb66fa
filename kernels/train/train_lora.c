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

void lora_add(const struct train *t, const struct adapter *a, const float *w, float *matrix)
{
    const float *A = w + a->a, *B = w + a->b;
    const uint32_t r = t->settings.lora_rank;
    float scale = lora_scale(t);

    for (uint32_t row = 0; row < a->rows; row++)
        for (uint32_t j = 0; j < r; j++)
            train_axpy(matrix + (size_t)row * a->columns, scale * B[(size_t)row * r + j],
                       A + (size_t)j * a->columns, a->columns);
}

/* D(M,K) is `gradient`. */
static void adapter_gradients(struct train *t, const struct adapter *a, const float *gradient)
{
    const struct masters *m = &t->masters;
    const float *A = m->seen + a->a, *B = m->seen + a->b, *D = gradient;
    float *dA = m->adapters_grad + (a->a - m->encoder_end);
    float *dB = m->adapters_grad + (a->b - m->encoder_end);
    const uint32_t r = t->settings.lora_rank;
    float scale = lora_scale(t);

    for (uint32_t row = 0; row < a->rows; row++, D += a->columns) {
        for (uint32_t j = 0; j < r; j++) {
            dB[(size_t)row * r + j] +=
                (float)(scale * train_dot(D, A + (size_t)j * a->columns, a->columns));
            train_axpy(dA + (size_t)j * a->columns, scale * B[(size_t)row * r + j], D, a->columns);
        }
    }
}

int lora_gradients(struct train *t)
{
    struct masters *m = &t->masters;
    bool sees = train_host_sees(t);
    size_t part = m->head - m->encoder_end;
    int rc = 0;

    if (m->adapters_len == 0)
        return 0;
    if (!sees)
        memset(m->adapters_grad, 0, part * sizeof *m->adapters_grad);
    for (uint32_t i = 0; i < m->adapters_len && rc == 0; i++) {
        const struct adapter *a = &m->adapters[i];
        float *gradient = sees ? m->grad + a->base : m->merged;

        rc = masters_fetch(t, gradient, m->grad + a->base, (size_t)a->rows * a->columns);
        if (rc == 0)
            adapter_gradients(t, a, gradient);
    }
    if (rc == 0)
        rc = masters_send(t, m->grad + m->encoder_end, m->adapters_grad, part);
    return rc == 0 ? masters_zero(t, 0, m->trained) : rc;
}
