/* pick.c -- see pick.h. Random ones are drawn first, so that the greedy choice has no influence on
 * them; then each pick costs one pass over the candidates, N * dim multiplications.
 */
#include "kernels/pick/pick.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/backend.h"

struct picking {
    const uint16_t *embeddings;
    const struct pick_settings *settings;
    uint32_t N;
    float *worth, *distance, *similarity; /* (N) (N) to the nearest that is listed (N) */
    float *query;                         /* (dim) */
    bool *strange;                        /* (N) its worth is its strangeness */
    bool *taken;                          /* (N) */
    uint32_t *order;                      /* (N) */
};

/* splitmix64 (Steele, Lea, Flood 2014): the next of a stream of uniform words. */
static uint64_t random_word(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static double random_unit(uint64_t *state)
{
    return (double)(random_word(state) >> 11) / 9007199254740992.0;
}

static float half_to_float(uint16_t half)
{
    uint32_t exponent = half >> 10 & 31, mantissa = half & 1023;
    float value = exponent > 0 ? ldexpf((float)(mantissa + 1024), (int)exponent - 25)
                               : ldexpf((float)mantissa, -24);

    return half & 0x8000 ? -value : value;
}

static void weigh(struct picking *p, const float *doubt, const float *novelty)
{
    for (uint32_t i = 0; i < p->N; i++) {
        double strange = isinf(p->settings->novelty_max)
                             ? 0
                             : 1 / (1 + exp(p->settings->novelty_max - (double)novelty[i]));

        p->strange[i] = strange > doubt[i];
        p->worth[i] = (float)fmax(fmax(doubt[i], strange), PICK_WORTH_MIN);
        p->distance[i] = 2; /* nothing is farther */
    }
}

/* Lists a candidate: the others are no farther than it is. */
static void take(struct picking *p, uint32_t candidate)
{
    uint32_t d = p->settings->dim;
    const uint16_t *embedding = p->embeddings + (size_t)candidate * d;

    for (uint32_t j = 0; j < d; j++)
        p->query[j] = half_to_float(embedding[j]);
    backend_cpu()->head_similarity(NULL, p->similarity, p->query, p->embeddings, 1, p->N, d);
    for (uint32_t i = 0; i < p->N; i++)
        p->distance[i] = fminf(p->distance[i], 1 - p->similarity[i]);
    p->taken[candidate] = true;
}

/* Draws `want` of N into order[0 .. want). */
static void draw(struct picking *p, uint32_t want, uint64_t *state)
{
    for (uint32_t i = 0; i < p->N; i++)
        p->order[i] = i;
    for (uint32_t i = 0; i < want; i++) {
        uint32_t j = i + (uint32_t)(random_unit(state) * (p->N - i)), other = p->order[j];

        p->order[j] = p->order[i];
        p->order[i] = other;
    }
}

/* The candidate whose label is worth most beside what is listed; UINT32_MAX: all are near. */
static uint32_t best(const struct picking *p)
{
    uint32_t found = UINT32_MAX;
    float most = 0;

    for (uint32_t i = 0; i < p->N; i++) {
        float gain = p->worth[i] * p->distance[i];

        if (p->taken[i] || p->distance[i] < (float)PICK_NEAR || gain <= most)
            continue;
        most = gain;
        found = i;
    }
    return found;
}

static int most_worth_first(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;

    return (x < y) - (x > y);
}

/* The worth that brings a candidate on a list of `len` by itself, of those not taken yet.
 * similarity is room for a copy. */
static float bar_of(struct picking *p, uint32_t len)
{
    uint32_t left = 0;

    for (uint32_t i = 0; i < p->N; i++)
        if (!p->taken[i])
            p->similarity[left++] = p->worth[i];
    if (left > 0)
        qsort(p->similarity, left, sizeof *p->similarity, most_worth_first);
    return len > 0 && len <= left ? p->similarity[len - 1] : 0;
}

/* Takes up to `want` candidates for their worth. Returns how many. */
static uint32_t choose(struct picking *p, uint32_t want, struct pick *picks)
{
    float bar = bar_of(p, want);
    uint32_t len = 0, found;

    while (len < want && (found = best(p)) != UINT32_MAX) {
        picks[len++] = (struct pick){found, p->worth[found] < bar ? PICK_DIVERSE
                                            : p->strange[found]   ? PICK_NOVEL
                                                                  : PICK_UNCERTAIN};
        take(p, found);
    }
    return len;
}

static uint32_t make_list(struct picking *p, struct pick *picks)
{
    const struct pick_settings *s = p->settings;
    uint32_t limit = s->limit < p->N ? s->limit : p->N, drawn, len, next = 0;
    uint64_t state = s->seed;

    drawn = (uint32_t)(s->random_share * limit + random_unit(&state));
    drawn = drawn < limit ? drawn : limit;
    draw(p, drawn, &state);
    for (uint32_t i = 0; i < drawn; i++)
        take(p, p->order[i]);
    len = drawn + choose(p, limit - drawn, picks + drawn);
    /* The i-th drawn one goes to the middle of the i-th stretch; the others move up. */
    for (uint32_t k = 0; next < drawn; k++) {
        if ((2 * (uint64_t)next + 1) * len <= (2 * (uint64_t)k + 1) * drawn)
            picks[k] = (struct pick){p->order[next++], PICK_RANDOM};
        else
            picks[k] = picks[k + drawn - next];
    }
    return len;
}

int pick_next(const uint16_t *embeddings, const float *doubt, const float *novelty, uint32_t N,
              const struct pick_settings *settings, struct pick *ret_picks, uint32_t *ret_len)
{
    size_t n = (size_t)N + 1;
    struct picking p = {.embeddings = embeddings,
                        .settings = settings,
                        .N = N,
                        .worth = malloc(n * sizeof *p.worth),
                        .distance = malloc(n * sizeof *p.distance),
                        .similarity = malloc(n * sizeof *p.similarity),
                        .query = malloc((settings->dim + 1) * sizeof *p.query),
                        .strange = malloc(n * sizeof *p.strange),
                        .taken = calloc(n, sizeof *p.taken),
                        .order = malloc(n * sizeof *p.order)};
    int rc = -ENOMEM;

    if (p.worth != NULL && p.distance != NULL && p.similarity != NULL && p.query != NULL &&
        p.strange != NULL && p.taken != NULL && p.order != NULL) {
        weigh(&p, doubt, novelty);
        *ret_len = make_list(&p, ret_picks);
        rc = 0;
    }
    free(p.worth);
    free(p.distance);
    free(p.similarity);
    free(p.query);
    free(p.strange);
    free(p.taken);
    free(p.order);
    return rc;
}
