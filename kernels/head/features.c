/* features.c -- f = relu(x R) sqrt(2/M) in fp64, and R itself from a counter.
 *
 * R[i,j] ~ N(0,1): the 64-bit draw number i M + j of SplitMix64 keyed by the seed, its halves
 * through Box-Muller's cosine branch, rounded to fp32. R is never stored: (seed, d, M) say it all.
 *
 * Learning's features are fp64 sums of products of fp32 values, one after the other over d:
 * bit-identical whatever batch an example comes in. In fp32, and with another order here than
 * there, an add and its delete would leave 1e-6 behind.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/algebra.h"
#include "kernels/head/head_internal.h"

static uint64_t mix(uint64_t z)
{
    z += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
}

struct projection *projection_make(const struct head_settings *s)
{
    size_t len = (size_t)s->dim * s->features;
    struct projection *p = malloc(sizeof *p + len * sizeof *p->values);
    uint64_t key = mix(s->seed);

    if (p == NULL)
        return NULL;
    atomic_init(&p->refs, 1);
    for (size_t i = 0; i < len; i++) {
        uint64_t draw = mix(i + key);
        double u1 = ((double)(draw >> 32) + 1) / 4294967296.0;
        double u2 = (double)(draw & 0xffffffff) / 4294967296.0;

        p->values[i] = (float)(sqrt(-2 * log(u1)) * cos(2 * M_PI * u2));
    }
    return p;
}

struct projection *projection_get(struct projection *p)
{
    atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    return p;
}

void projection_put(struct projection *p)
{
    if (p != NULL && atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) == 1)
        free(p);
}

float head_half_to_float(uint16_t half)
{
    uint32_t bits = (uint32_t)(half & 0x7fff) << 13 | (uint32_t)(half & 0x8000) << 16;
    float f;

    memcpy(&f, &bits, sizeof f);
    return f * 0x1p112f;
}

void head_features_of(const struct head *h, const uint16_t *const *embeddings, uint32_t rows,
                      double *f)
{
    uint32_t M = h->settings.features, d = h->settings.dim;
    float x[FEATURE_ROWS * HEAD_DIM_MAX];

    for (uint32_t first = 0, len; first < rows; first += len) {
        len = rows - first < FEATURE_ROWS ? rows - first : FEATURE_ROWS;
        for (uint32_t n = 0; n < len; n++)
            for (uint32_t i = 0; i < d; i++)
                x[(size_t)n * d + i] = head_half_to_float(embeddings[first + n][i]);
        algebra_features(len, d, M, x, h->projection->values, sqrt(2.0 / M), f + (size_t)first * M);
    }
}

void head_embedding_pack(const float *embedding, uint32_t dim, uint16_t *ret_packed)
{
    for (uint32_t i = 0; i < dim; i++) {
        uint32_t bits, sign, rest, shift;

        memcpy(&bits, &embedding[i], sizeof bits);
        sign = bits >> 16 & 0x8000;
        bits &= 0x7fffffff;
        if (bits >= 0x47800000) { /* 65536 and above, infinity, NaN */
            ret_packed[i] = (uint16_t)(sign | (bits > 0x7f800000 ? 0x7e00 : 0x7c00));
        } else if (bits >= 0x38800000) { /* normal in fp16: rebias, round to even */
            rest = bits - 0x38000000;
            ret_packed[i] = (uint16_t)(sign | (rest + 0xfff + (rest >> 13 & 1)) >> 13);
        } else if (bits < 0x33000000) { /* under half the smallest subnormal */
            ret_packed[i] = (uint16_t)sign;
        } else {
            shift = 126 - (bits >> 23);
            rest = (bits & 0x7fffff) | 0x800000;
            ret_packed[i] =
                (uint16_t)(sign |
                           ((rest + (1u << (shift - 1)) - 1 + (rest >> shift & 1)) >> shift));
        }
    }
}

void head_embedding_unpack(const uint16_t *packed, uint32_t dim, float *ret_embedding)
{
    for (uint32_t i = 0; i < dim; i++)
        ret_embedding[i] = head_half_to_float(packed[i]);
}
