/* view.c -- the frozen serving snapshot: publishing it, and scoring texts against it.
 *
 * fp32 arrays for what is multiplied (R, W, prototypes), fp64 for what amplifies (T and the pool: a
 * score is N times a small difference). Examples' embeddings stay in the head's chunks, held by
 * count. Each row is scored alone in a fixed order, so that its answer does not depend on the
 * batch.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/backend.h"
#include "kernels/head/head_internal.h"

enum { H = HEAD_SCORES };

struct head_view {
    uint32_t dim, features, labels_len;
    struct projection *projection;
    struct derived derived; /* prototypes are moved out to fp32 */
    enum head_kind kind;
    float *W;           /* (active,M) */
    float *prototypes;  /* (active,d) HEAD_SINGLE */
    double *offsets;    /* (active) HEAD_MULTI: of the logit */
    double *thresholds; /* (labels_len) HEAD_MULTI */
    uint32_t *place;    /* (labels_len) label -> active, UINT32_MAX: none */
    uint8_t *any;       /* (labels_len) no trusted example: take the others */
    struct chunk **chunks;
    uint32_t chunks_len, examples_len;
    double coefficients[H];
    double novelty_mean[2], novelty_scale[2], novelty_max;
};

/* numpy's quantile of an ascending list: linear between neighbours. */
static double quantile(const double *sorted, uint32_t len, double q)
{
    double at = q * (len - 1);
    uint32_t low = (uint32_t)at;

    if (low + 1 >= len)
        return sorted[len - 1];
    return sorted[low] + (at - low) * (sorted[low + 1] - sorted[low]);
}

static int fill(const struct head *h, struct head_view *v)
{
    uint32_t L = v->derived.len, M = v->features, d = v->dim;

    v->W = aligned_alloc(64, (((size_t)L * M + 16) * sizeof *v->W + 63) / 64 * 64);
    v->prototypes = malloc(((size_t)L * d + 1) * sizeof *v->prototypes);
    v->place = malloc((v->labels_len + 1) * sizeof *v->place);
    v->any = calloc(v->labels_len + 1, 1);
    v->offsets = malloc((L + 1) * sizeof *v->offsets);
    v->thresholds = malloc((v->labels_len + 1) * sizeof *v->thresholds);
    v->chunks_len = (h->examples_len + CHUNK_ROWS - 1) / CHUNK_ROWS;
    v->chunks = calloc(v->chunks_len + 1, sizeof *v->chunks);
    if (v->W == NULL || v->prototypes == NULL || v->place == NULL || v->any == NULL ||
        v->offsets == NULL || v->thresholds == NULL || v->chunks == NULL)
        return -ENOMEM;
    memset(v->place, 0xff, v->labels_len * sizeof *v->place);
    for (uint32_t i = 0; i < L; i++) {
        uint32_t c = v->derived.labels[i];

        v->place[c] = i;
        v->any[c] = h->trusted_len[c] == 0;
    }
    for (uint32_t m = 0; m < M; m++)
        for (uint32_t i = 0; i < L; i++)
            v->W[(size_t)i * M + m] = (float)h->W[(size_t)m * h->labels_max + v->derived.labels[i]];
    for (size_t i = 0; i < (size_t)L * d; i++)
        v->prototypes[i] = (float)v->derived.prototypes[i];
    free(v->derived.prototypes);
    v->derived.prototypes = NULL;
    for (uint32_t i = 0; i < L; i++)
        v->offsets[i] =
            h->calibration.offset + calibration_own(&h->calibration, v->derived.labels[i]);
    for (uint32_t c = 0; c < v->labels_len; c++)
        v->thresholds[c] = calibration_threshold(&h->calibration, c);
    for (uint32_t i = 0; i < v->chunks_len; i++)
        v->chunks[i] = chunk_get(h->chunks[i]);
    return 0;
}

int head_publish(struct head *h, double budget, struct head_view **ret_view)
{
    struct head_view *v = calloc(1, sizeof *v);
    int rc;

    if (v == NULL)
        return -ENOMEM;
    v->dim = h->settings.dim;
    v->features = h->settings.features;
    v->kind = h->settings.kind;
    v->labels_len = h->labels_len;
    v->examples_len = h->examples_len;
    rc = ridge_catch_up(h);
    if (rc == 0)
        rc = derived_make(h, &v->derived);
    if (rc == -EDOM) { /* A lost to rounding: rebuild once */
        rc = ridge_rebuild(h);
        if (rc == 0)
            rc = derived_make(h, &v->derived);
    }
    if (rc == 0)
        rc = fill(h, v);
    if (rc != 0) {
        head_view_free(v);
        return rc;
    }
    v->projection = projection_get(h->projection);
    memcpy(v->coefficients, h->coefficients, sizeof v->coefficients);
    memcpy(v->novelty_mean, h->novelty_mean, sizeof v->novelty_mean);
    memcpy(v->novelty_scale, h->novelty_scale, sizeof v->novelty_scale);
    v->novelty_max =
        h->novelties_len > 0 ? quantile(h->novelties, h->novelties_len, 1 - budget) : INFINITY;
    *ret_view = v;
    return 0;
}

void head_view_free(struct head_view *v)
{
    if (v == NULL)
        return;
    projection_put(v->projection);
    derived_done(&v->derived);
    free(v->W);
    free(v->prototypes);
    free(v->offsets);
    free(v->thresholds);
    free(v->place);
    free(v->any);
    for (uint32_t i = 0; i < v->chunks_len && v->chunks != NULL; i++)
        chunk_put(v->chunks[i]);
    free(v->chunks);
    free(v);
}

uint32_t head_view_labels_len(const struct head_view *v)
{
    return v->labels_len;
}

uint64_t head_view_examples_len(const struct head_view *v)
{
    return v->examples_len;
}

const double *head_view_coefficients(const struct head_view *v)
{
    return v->coefficients;
}

enum head_kind head_view_kind(const struct head_view *v)
{
    return v->kind;
}

double head_view_threshold(const struct head_view *v, uint32_t label)
{
    return v->thresholds[label];
}

double head_view_novelty_max(const struct head_view *v)
{
    return v->novelty_max;
}

/* ---- what it has ----------------------------------------------------------------------------- */

/* An embedding's first eight bytes say which it is, all but surely; the rest is compared then. */
struct start {
    uint64_t bits;
    uint32_t row;
};

static int by_bits(const void *a, const void *b)
{
    const struct start *x = a, *y = b;

    return (x->bits > y->bits) - (x->bits < y->bits);
}

static struct start start_of(const uint16_t *embedding, uint32_t dim, uint32_t row)
{
    struct start start = {0, row};

    memcpy(&start.bits, embedding, (dim < 4 ? dim : 4) * sizeof *embedding);
    return start;
}

/* The first of starts (N) that is not before bits. */
static uint32_t lower(const struct start *starts, uint32_t N, uint64_t bits)
{
    uint32_t from = 0, to = N;

    while (from < to) {
        uint32_t middle = from + (to - from) / 2;

        if (starts[middle].bits < bits)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

int head_view_has(const struct head_view *v, const uint16_t *embeddings, uint32_t N, bool *ret_has)
{
    struct start *starts = malloc(((size_t)N + 1) * sizeof *starts);
    size_t d = v->dim;

    if (starts == NULL)
        return -ENOMEM;
    memset(ret_has, 0, N * sizeof *ret_has);
    for (uint32_t i = 0; i < N; i++)
        starts[i] = start_of(embeddings + i * d, v->dim, i);
    qsort(starts, N, sizeof *starts, by_bits);
    for (uint32_t e = 0; e < v->examples_len; e++) {
        const uint16_t *own = v->chunks[e / CHUNK_ROWS]->embeddings + e % CHUNK_ROWS * d;
        uint64_t bits = start_of(own, v->dim, 0).bits;

        for (uint32_t i = lower(starts, N, bits); i < N && starts[i].bits == bits; i++)
            if (memcmp(embeddings + starts[i].row * d, own, d * sizeof *own) == 0)
                ret_has[starts[i].row] = true;
    }
    free(starts);
    return 0;
}

/* ---- scoring --------------------------------------------------------------------------------- */

/* Scratch of a batch, in order: fp64 first, then fp32. */
struct scratch {
    double *zT, *p; /* (L) (L) */
    float *features, *ridge, *prototype, *near,
        *similar; /* (N,M) (N,L) (N,L) (N,L) (N,CHUNK_ROWS) */
};

static size_t lay_out(const struct head_view *v, uint32_t rows, void *memory, struct scratch *s)
{
    size_t L = v->derived.len + 1, N = rows;
    double *d = memory;
    float *f;

    s->zT = d;
    s->p = d + L;
    f = (float *)(d + 2 * L);
    s->features = f;
    s->ridge = s->features + N * v->features;
    s->prototype = s->ridge + N * L;
    s->near = s->prototype + N * L;
    s->similar = s->near + N * L;
    return (2 * L) * sizeof *d + (N * (v->features + 3 * L + CHUNK_ROWS)) * sizeof *f;
}

size_t head_view_scratch_bytes(const struct head_view *v, uint32_t rows)
{
    struct scratch s;

    return lay_out(v, rows, NULL, &s);
}

static bool before(float similarity, struct head_id id, const struct head_neighbour *other)
{
    if (similarity != other->similarity)
        return similarity > other->similarity;
    return id.hi != other->id.hi ? id.hi < other->id.hi : id.lo < other->id.lo;
}

static void keep_neighbour(struct head_answer *a, float similarity, struct head_id id,
                           uint32_t label)
{
    uint32_t i = a->neighbours_len;

    if (i == HEAD_NEIGHBOURS) {
        if (!before(similarity, id, &a->neighbours[i - 1]))
            return;
        i--;
    } else {
        a->neighbours_len++;
    }
    for (; i > 0 && before(similarity, id, &a->neighbours[i - 1]); i--)
        a->neighbours[i] = a->neighbours[i - 1];
    a->neighbours[i] = (struct head_neighbour){id, label, similarity};
}

/* What a similarity must reach to be among the neighbours. */
static float worst_of(const struct head_answer *a)
{
    return a->neighbours_len < HEAD_NEIGHBOURS ? -INFINITY
                                               : a->neighbours[HEAD_NEIGHBOURS - 1].similarity;
}

static void find_neighbours(const struct head_view *v, const float *embeddings, uint32_t rows,
                            struct scratch *s, struct head_answer *answers)
{
    uint32_t L = v->derived.len;

    for (size_t i = 0; i < (size_t)rows * L; i++)
        s->near[i] = -1;
    for (uint32_t k = 0; k < v->chunks_len; k++) {
        const struct chunk *c = v->chunks[k];
        uint32_t len = v->examples_len - k * CHUNK_ROWS;

        len = len < CHUNK_ROWS ? len : CHUNK_ROWS;
        backend_cpu()->head_similarity(NULL, s->similar, embeddings, c->embeddings, rows, len,
                                       v->dim);
        for (uint32_t n = 0; n < rows; n++) {
            float *near = s->near + (size_t)n * L, worst = worst_of(&answers[n]);

            for (uint32_t r = 0; r < len; r++) {
                float similarity = s->similar[(size_t)n * len + r];
                uint32_t place;

                if (similarity >= worst) { /* few are: the first look is what 10,000 rows cost */
                    keep_neighbour(&answers[n], similarity, c->ids[r], c->labels[r]);
                    worst = worst_of(&answers[n]);
                }
                if (v->kind == HEAD_MULTI) /* it may have no label, and none needs its nearest */
                    continue;
                place = v->place[c->labels[r]];
                if (similarity > near[place] && (c->trusted[r] || v->any[c->labels[r]]))
                    near[place] = similarity;
            }
        }
    }
}

/* Pools one row's scores into p over the active labels; disallowed ones get none. */
static void pool_row(const struct head_view *v, const struct scratch *s, uint32_t n,
                     const uint8_t *allowed, float *shares)
{
    const struct derived *d = &v->derived;
    uint32_t L = d->len;
    const float *z = s->ridge + (size_t)n * L;

    for (uint32_t c = 0; c < L; c++)
        s->zT[c] = 0;
    for (uint32_t b = 0; b < L; b++)
        for (uint32_t c = 0; c < L; c++)
            s->zT[c] += (double)z[b] * d->T[(size_t)b * L + c];
    for (uint32_t c = 0; c < L; c++) {
        double score[H] = {
            z[c],
            HEAD_LDA_SCALE * d->total * (s->zT[c] - d->T[(size_t)c * L + c] / 2 + 0.5 / d->n[c]),
            HEAD_LDA_SCALE * d->total * d->kappa / d->n[c],
            s->prototype[(size_t)n * L + c],
            s->near[(size_t)n * L + c],
        };

        s->p[c] = 0;
        for (int h = 0; h < H; h++) {
            s->p[c] += v->coefficients[h] * score[h];
            if (shares != NULL)
                shares[d->labels[c] * H + h] = (float)(v->coefficients[h] * score[h]);
        }
        if (allowed != NULL && !allowed[d->labels[c]])
            s->p[c] = -INFINITY;
    }
    pool_softmax(s->p, L);
}

/* The same for sets: each label's probability by itself; its own share is the ridge's. */
static void multi_row(const struct head_view *v, const struct scratch *s, uint32_t n,
                      const uint8_t *allowed, float *shares)
{
    const struct derived *d = &v->derived;

    for (uint32_t c = 0; c < d->len; c++) {
        double share = v->coefficients[0] * (double)s->ridge[(size_t)n * d->len + c];

        s->p[c] = multi_probability(share + v->offsets[c]);
        if (shares != NULL)
            shares[d->labels[c] * H] = (float)share;
        if (allowed != NULL && !allowed[d->labels[c]])
            s->p[c] = NAN;
    }
}

static int answer_row(const struct head_view *v, const struct scratch *s, uint32_t n,
                      struct head_answer *a, float *probabilities)
{
    const struct derived *d = &v->derived;
    double ridge = -INFINITY, near = 0, best = -1;

    for (uint32_t c = 0; c < d->len; c++) {
        float z = s->ridge[(size_t)n * d->len + c];

        if (isnan(z))
            return -EDOM;
        ridge = fmax(ridge, z);
        if (isnan(s->p[c])) /* disallowed, or (single) every label with examples is */
            continue;
        probabilities[d->labels[c]] = (float)s->p[c];
        if (s->p[c] > best) {
            best = s->p[c];
            a->label = d->labels[c];
        }
    }
    for (uint32_t i = 0; i < a->neighbours_len; i++)
        near += (double)a->neighbours[i].similarity / a->neighbours_len;
    if (!isinf(v->novelty_max)) {
        a->novelty = (float)-((ridge - v->novelty_mean[0]) / v->novelty_scale[0] +
                              (near - v->novelty_mean[1]) / v->novelty_scale[1]);
        a->novel = a->novelty > v->novelty_max;
    }
    return 0;
}

int head_view_score(const struct head_view *v, const float *embeddings, uint32_t rows,
                    const uint8_t *allowed, void *memory, struct head_answer *answers,
                    float *probabilities, float *shares)
{
    const struct backend *backend = backend_cpu();
    uint32_t L = v->derived.len, all = v->labels_len;
    struct scratch s;
    int rc = 0;

    for (size_t i = 0; i < (size_t)rows * v->dim; i++)
        if (!isfinite(embeddings[i]))
            return -EDOM;
    lay_out(v, rows, memory, &s);
    memset(probabilities, 0, (size_t)rows * all * sizeof *probabilities);
    if (shares != NULL)
        memset(shares, 0, (size_t)rows * all * H * sizeof *shares);
    for (uint32_t n = 0; n < rows; n++)
        answers[n] = (struct head_answer){.label = UINT32_MAX};
    if (L == 0)
        return 0;
    backend->head_features(NULL, s.features, embeddings, v->projection->values,
                           sqrtf(2.0f / (float)v->features), rows, v->dim, v->features);
    backend->head_dense(NULL, s.ridge, s.features, v->W, rows, v->features, L);
    if (v->kind == HEAD_SINGLE)
        backend->head_dense(NULL, s.prototype, embeddings, v->prototypes, rows, v->dim, L);
    find_neighbours(v, embeddings, rows, &s, answers);
    for (uint32_t n = 0; n < rows && rc == 0; n++) {
        float *own = shares != NULL ? shares + (size_t)n * all * H : NULL;

        if (v->kind == HEAD_MULTI)
            multi_row(v, &s, n, allowed, own);
        else
            pool_row(v, &s, n, allowed, own);
        rc = answer_row(v, &s, n, &answers[n], probabilities + (size_t)n * all);
    }
    return rc;
}
