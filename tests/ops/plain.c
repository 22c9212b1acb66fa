/* plain.c -- see plain.h. Nothing here is fast, blocked or clever: it is read against the formulas
 * of backend.h. */
#include "tests/ops/plain.h"

#include <math.h>
#include <stddef.h>

static void layernorm(double *y, const double *gamma, const double *beta, double eps, uint32_t C)
{
    double mean = 0, variance = 0;

    for (uint32_t c = 0; c < C; c++)
        mean += y[c] / C;
    for (uint32_t c = 0; c < C; c++)
        variance += (y[c] - mean) * (y[c] - mean) / C;
    for (uint32_t c = 0; c < C; c++)
        y[c] = (y[c] - mean) / sqrt(variance + eps) * gamma[c] + beta[c];
}

void plain_embed(double *y, const double *word, const double *position, const double *segment,
                 const double *gamma, const double *beta, double eps, uint32_t T, uint32_t C)
{
    for (uint32_t t = 0; t < T; t++) {
        for (uint32_t c = t * C; c < (t + 1) * C; c++)
            y[c] = word[c] + position[c] + segment[c];
        layernorm(y + t * C, gamma, beta, eps, C);
    }
}

void plain_linear(double *y, const double *x, const double *w, const double *bias, bool gelu,
                  uint32_t N, uint32_t M, uint32_t K)
{
    for (uint32_t n = 0; n < N; n++)
        for (uint32_t m = 0; m < M; m++) {
            double sum = bias != NULL ? bias[m] : 0;

            for (uint32_t k = 0; k < K; k++)
                sum += x[n * K + k] * w[m * K + k];
            y[n * M + m] = gelu ? sum * 0.5 * erfc(-sum / sqrt(2)) : sum;
        }
}

/* One query of one head: y(dim) from the keys and values of its text. */
static void attend(double *y, const double *q, const double *k, const double *v, uint32_t len,
                   uint32_t stride, uint32_t dim)
{
    double largest = -INFINITY, total = 0;

    for (uint32_t d = 0; d < dim; d++)
        y[d] = 0;
    for (int pass = 0; pass < 2; pass++) /* the largest score first, as softmax subtracts it */
        for (uint32_t j = 0; j < len; j++) {
            double score = 0;

            for (uint32_t d = 0; d < dim; d++)
                score += q[d] * k[j * stride + d] / sqrt(dim);
            if (pass == 0) {
                largest = fmax(largest, score);
                continue;
            }
            total += exp(score - largest);
            for (uint32_t d = 0; d < dim; d++)
                y[d] += exp(score - largest) * v[j * stride + d];
        }
    for (uint32_t d = 0; d < dim; d++)
        y[d] /= total;
}

void plain_attention(double *y, const double *qkv, const uint32_t *offsets, uint32_t B, uint32_t C,
                     uint32_t H)
{
    for (uint32_t b = 0; b < B; b++)
        for (uint32_t h = 0; h < H; h++)
            for (uint32_t t = offsets[b]; t < offsets[b + 1]; t++) {
                const double *text = qkv + offsets[b] * 3 * C + h * (C / H);

                attend(y + t * C + h * (C / H), qkv + t * 3 * C + h * (C / H), text + C,
                       text + 2 * C, offsets[b + 1] - offsets[b], 3 * C, C / H);
            }
}

void plain_add_layernorm(double *y, const double *x, const double *residual, const double *gamma,
                         const double *beta, double eps, uint32_t N, uint32_t C)
{
    for (uint32_t n = 0; n < N; n++) {
        for (uint32_t c = n * C; c < (n + 1) * C; c++)
            y[c] = x[c] + residual[c];
        layernorm(y + n * C, gamma, beta, eps, C);
    }
}

void plain_pool(double *y, const double *x, const uint32_t *offsets, uint32_t B, uint32_t C,
                bool first)
{
    for (uint32_t b = 0; b < B; b++) {
        uint32_t to = first ? offsets[b] + 1 : offsets[b + 1];
        double squares = 0;

        for (uint32_t c = 0; c < C; c++) {
            y[b * C + c] = 0;
            for (uint32_t t = offsets[b]; t < to; t++)
                y[b * C + c] += x[t * C + c] / (to - offsets[b]);
            squares += y[b * C + c] * y[b * C + c];
        }
        for (uint32_t c = 0; c < C; c++)
            y[b * C + c] /= sqrt(squares);
    }
}

void plain_features(double *y, const double *x, const double *w, double scale, uint32_t N,
                    uint32_t K, uint32_t M)
{
    for (uint32_t n = 0; n < N; n++)
        for (uint32_t m = 0; m < M; m++) {
            double sum = 0;

            for (uint32_t k = 0; k < K; k++)
                sum += x[n * K + k] * w[k * M + m];
            y[n * M + m] = scale * fmax(sum, 0);
        }
}
