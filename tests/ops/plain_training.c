/* plain_training.c -- see plain_training.h. Nothing here is fast or clever, and nothing is kept
 * from a forward: each is read against its formula, and checked by central differences of plain.c's
 * forward.
 */
#include "tests/ops/plain_training.h"

#include <math.h>
#include <stdlib.h>

void plain_linear_back(double *dx, double *dw, double *db, const double *dy, const double *x,
                       const double *w, uint32_t N, uint32_t M, uint32_t K)
{
    for (size_t i = 0; i < (size_t)N * K; i++)
        dx[i] = 0;
    for (size_t i = 0; i < (size_t)M * K; i++)
        dw[i] = 0;
    for (uint32_t m = 0; m < M; m++)
        db[m] = 0;
    for (uint32_t n = 0; n < N; n++)
        for (uint32_t m = 0; m < M; m++) {
            db[m] += dy[n * M + m];
            for (uint32_t k = 0; k < K; k++) {
                dx[n * K + k] += dy[n * M + m] * w[m * K + k];
                dw[m * K + k] += dy[n * M + m] * x[n * K + k];
            }
        }
}

void plain_layernorm_back(double *ds, double *dgamma, double *dbeta, const double *dy,
                          const double *s, const double *gamma, double eps, uint32_t N, uint32_t C)
{
    for (uint32_t c = 0; c < C; c++)
        dgamma[c] = dbeta[c] = 0;
    for (uint32_t n = 0; n < N; n++, ds += C, dy += C, s += C) {
        double mean = 0, variance = 0, g = 0, g_xhat = 0;

        for (uint32_t c = 0; c < C; c++)
            mean += s[c] / C;
        for (uint32_t c = 0; c < C; c++)
            variance += (s[c] - mean) * (s[c] - mean) / C;
        for (uint32_t c = 0; c < C; c++) {
            double xhat = (s[c] - mean) / sqrt(variance + eps);

            dgamma[c] += dy[c] * xhat;
            dbeta[c] += dy[c];
            g += dy[c] * gamma[c] / C;
            g_xhat += dy[c] * gamma[c] * xhat / C;
        }
        for (uint32_t c = 0; c < C; c++) {
            double xhat = (s[c] - mean) / sqrt(variance + eps);

            ds[c] = (dy[c] * gamma[c] - g - xhat * g_xhat) / sqrt(variance + eps);
        }
    }
}

void plain_gelu(double *y, const double *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * 0.5 * erfc(-x[i] / sqrt(2));
}

void plain_gelu_back(double *dx, const double *dy, const double *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dx[i] = dy[i] *
                (0.5 * erfc(-x[i] / sqrt(2)) + x[i] * exp(-x[i] * x[i] / 2) / sqrt(2 * acos(-1)));
}

/* One query of one head of a text: adds to the gradients of its keys and values. Rows are `stride`
 * apart. p(len), dp(len). */
static void attend_back(double *dq, double *dk, double *dv, const double *dy, const double *q,
                        const double *k, const double *v, uint32_t len, uint32_t stride,
                        uint32_t dim, double *p, double *dp)
{
    double largest = -INFINITY, total = 0, mean = 0;

    for (uint32_t j = 0; j < len; j++) {
        p[j] = dp[j] = 0;
        for (uint32_t d = 0; d < dim; d++) {
            p[j] += q[d] * k[j * stride + d] / sqrt(dim);
            dp[j] += dy[d] * v[j * stride + d];
        }
        largest = fmax(largest, p[j]);
    }
    for (uint32_t j = 0; j < len; j++) {
        p[j] = exp(p[j] - largest);
        total += p[j];
    }
    for (uint32_t j = 0; j < len; j++) {
        p[j] /= total;
        mean += p[j] * dp[j];
    }
    for (uint32_t j = 0; j < len; j++)
        for (uint32_t d = 0; d < dim; d++) {
            double ds = p[j] * (dp[j] - mean) / sqrt(dim);

            dv[j * stride + d] += p[j] * dy[d];
            dq[d] += ds * k[j * stride + d];
            dk[j * stride + d] += ds * q[d];
        }
}

void plain_attention_back(double *dqkv, const double *dy, const double *qkv,
                          const uint32_t *offsets, uint32_t B, uint32_t C, uint32_t H)
{
    double *p = malloc(2 * (size_t)(offsets[B] + 1) * sizeof *p);

    if (p == NULL)
        abort();
    for (size_t i = 0; i < (size_t)offsets[B] * 3 * C; i++)
        dqkv[i] = 0;
    for (uint32_t b = 0; b < B; b++)
        for (uint32_t h = 0; h < H; h++)
            for (uint32_t t = offsets[b]; t < offsets[b + 1]; t++) {
                size_t query = (size_t)t * 3 * C + h * (C / H);
                size_t text = (size_t)offsets[b] * 3 * C + h * (C / H);

                attend_back(dqkv + query, dqkv + text + C, dqkv + text + 2 * C,
                            dy + (size_t)t * C + h * (C / H), qkv + query, qkv + text + C,
                            qkv + text + 2 * C, offsets[b + 1] - offsets[b], 3 * C, C / H, p,
                            p + offsets[B]);
            }
    free(p);
}

void plain_pool_back(double *dx, const double *dy, const double *x, const uint32_t *offsets,
                     uint32_t B, uint32_t C, bool first)
{
    double *mean = malloc(C * sizeof *mean);

    if (mean == NULL)
        abort();
    for (uint32_t b = 0; b < B; b++) {
        uint32_t to = first ? offsets[b] + 1 : offsets[b + 1];
        double squares = 0, along = 0;

        for (uint32_t c = 0; c < C; c++) {
            mean[c] = 0;
            for (uint32_t t = offsets[b]; t < to; t++)
                mean[c] += x[(size_t)t * C + c] / (to - offsets[b]);
            squares += mean[c] * mean[c];
            along += mean[c] * dy[b * C + c];
        }
        for (uint32_t t = offsets[b]; t < offsets[b + 1]; t++)
            for (uint32_t c = 0; c < C; c++)
                dx[(size_t)t * C + c] = t >= to ? 0
                                                : (dy[b * C + c] - mean[c] * along / squares) /
                                                      sqrt(squares) / (to - offsets[b]);
    }
    free(mean);
}

/* ---- losses ---------------------------------------------------------------------------------- */

static double length_of(const double *w, uint32_t C)
{
    double squares = 0;

    for (uint32_t c = 0; c < C; c++)
        squares += w[c] * w[c];
    return sqrt(squares);
}

/* z(L) of one text. */
static void plain_logits(double *z, const double *x, const double *w, const double *bias,
                         const struct kloss *l)
{
    for (uint32_t c = 0; c < l->L; c++) {
        z[c] = l->sets ? -bias[c] : 0;
        for (uint32_t i = 0; i < l->C; i++)
            z[c] += x[i] * w[c * l->C + i] / length_of(w + (size_t)c * l->C, l->C);
        z[c] *= (double)l->scale;
    }
}

/* What the model says of label c among the first n, at a temperature. */
static double plain_says(const double *z, uint32_t c, uint32_t n, double T, bool sets)
{
    double total = 0;

    if (sets)
        return 1 / (1 + exp(-z[c] / T));
    for (uint32_t i = 0; i < n; i++)
        total += exp((z[i] - z[c]) / T);
    return 1 / total;
}

/* And what the teacher says. */
static double teacher_says(const float *p, uint32_t c, uint32_t n, double T, bool sets)
{
    double total = 0;

    if (sets) {
        double odds = fmin(fmax((double)p[c], 1e-7), 1 - 1e-7);

        odds = pow(odds / (1 - odds), 1 / T);
        return odds / (1 + odds);
    }
    for (uint32_t i = 0; i < n; i++)
        total += pow((double)p[i], 1 / T);
    return pow((double)p[c], 1 / T) / total;
}

/* p log(p/q) */
static double plain_term(double p, double q)
{
    return p > 0 ? p * log(p / q) : 0;
}

/* t_c of one text. */
static double target_of(const struct kloss *l, const struct kloss_text *text, uint32_t c)
{
    double t = 0;

    for (uint32_t i = 0; i < text->targets_len; i++)
        if (l->targets[text->target + i].label == c)
            t += (double)l->targets[text->target + i].value;
    return t;
}

void plain_loss(double *y, const double *x, const double *w, const double *bias,
                const struct kloss *l)
{
    double *z = malloc(l->L * sizeof *z);

    if (z == NULL)
        abort();
    for (uint32_t b = 0; b < l->B; b++, y += K_LOSSES, x += l->C) {
        const struct kloss_text *text = &l->texts[b];
        const double T = (double)l->temperature;

        plain_logits(z, x, w, bias, l);
        y[0] = y[1] = y[2] = 0;
        for (uint32_t c = 0; c < l->L; c++) {
            double t = target_of(l, text, c), q = plain_says(z, c, l->L, 1, l->sets);

            y[0] -= t > 0 && !l->sets ? t * log(q) : 0;
            y[0] += l->sets ? log1p(exp(z[c])) - t * z[c] : 0;
        }
        for (uint32_t c = 0; c < text->teacher_len; c++) {
            double q = plain_says(z, c, text->teacher_len, T, l->sets);
            double p = teacher_says(l->teachers + text->teacher, c, text->teacher_len, T, l->sets);

            y[1] += T * T * plain_term(p, q);
            y[1] += l->sets ? T * T * plain_term(1 - p, 1 / (1 + exp(z[c] / T))) : 0;
        }
        y[2] = text->featured ? 1 : 0;
        for (uint32_t i = 0; i < l->C && text->featured; i++)
            y[2] -= x[i] * (double)l->features[b * l->C + i];
    }
    free(z);
}

void plain_loss_back(double *dx, double *dw, double *dbias, const double *x, const double *w,
                     const double *bias, const struct kloss *l)
{
    const double T = (double)l->temperature, scale = (double)l->scale;
    double *z = malloc(l->L * sizeof *z);

    if (z == NULL)
        abort();
    for (size_t i = 0; i < (size_t)l->L * l->C; i++)
        dw[i] = 0;
    for (uint32_t c = 0; c < l->L && l->sets; c++)
        dbias[c] = 0;
    for (uint32_t b = 0; b < l->B; b++, x += l->C, dx += l->C) {
        const struct kloss_text *text = &l->texts[b];
        double total = l->sets ? 1 : 0;

        for (uint32_t i = 0; i < text->targets_len && !l->sets; i++)
            total += (double)l->targets[text->target + i].value;
        plain_logits(z, x, w, bias, l);
        for (uint32_t i = 0; i < l->C; i++)
            dx[i] = text->featured
                        ? -l->share * (double)l->feature * (double)l->features[b * l->C + i]
                        : 0;
        for (uint32_t c = 0; c < l->L; c++) {
            double norm = length_of(w + (size_t)c * l->C, l->C);
            double cosine = z[c] / scale + (l->sets ? bias[c] : 0);
            double slope =
                text->weight * (total * plain_says(z, c, l->L, 1, l->sets) - target_of(l, text, c));

            if (c < text->teacher_len)
                slope +=
                    l->share * (double)l->distill * T *
                    (plain_says(z, c, text->teacher_len, T, l->sets) -
                     teacher_says(l->teachers + text->teacher, c, text->teacher_len, T, l->sets));
            if (l->sets)
                dbias[c] -= scale * slope;
            for (uint32_t i = 0; i < l->C; i++) {
                double unit = w[c * l->C + i] / norm;

                dx[i] += scale * slope * unit;
                dw[c * l->C + i] += scale * slope * (x[i] - cosine * unit) / norm;
            }
        }
    }
    free(z);
}

/* ---- adapters -------------------------------------------------------------------------------- */

void plain_lora(double *y, const double *w, const double *a, const double *b, double scale,
                uint32_t M, uint32_t K, uint32_t r)
{
    for (uint32_t m = 0; m < M; m++)
        for (uint32_t k = 0; k < K; k++) {
            y[m * K + k] = w[m * K + k];
            for (uint32_t j = 0; j < r; j++)
                y[m * K + k] += scale * b[m * r + j] * a[j * K + k];
        }
}

void plain_lora_back(double *da, double *db, const double *dy, const double *a, const double *b,
                     double scale, uint32_t M, uint32_t K, uint32_t r)
{
    for (size_t i = 0; i < (size_t)r * K; i++)
        da[i] = 0;
    for (size_t i = 0; i < (size_t)M * r; i++)
        db[i] = 0;
    for (uint32_t m = 0; m < M; m++)
        for (uint32_t k = 0; k < K; k++)
            for (uint32_t j = 0; j < r; j++) {
                da[j * K + k] += scale * b[m * r + j] * dy[m * K + k];
                db[m * r + j] += scale * a[j * K + k] * dy[m * K + k];
            }
}
