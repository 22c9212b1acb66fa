/* scores.c -- what publishing derives from the state, and the closed-form leave-one-out scores of
 * examples: the fit's, or any.
 *
 * Five scores of label c for features f and embedding x, z = W^T f, T = A^-1 over labels with
 * examples:
 *
 *     ridge      z_c
 *     LDA        0.05 N (z^T T_c - T_cc/2 + 1/(2 n_c))
 *     count      0.05 N kappa / n_c
 *     prototype  cos(x, S_c)
 *     nearest    the largest cosine to a trusted example of c
 *
 * Without example (f, t, w) of label y, and h = w f^T P f:
 *
 *     z' = (z - h t)/(1 - h),  r = t - z,  v = T r
 *     T' = T + v v^T / ((1 - h)/w - r^T v),  n' = n - w t
 *
 * with prototype and nearest without it; the count score keeps the stored n: n - 1 would give the
 * label away.
 */
#include "kernels/algebra.h"
#include "kernels/backend.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/head/head_internal.h"

enum { H = HEAD_SCORES };

/* ---- derived --------------------------------------------------------------------------------- */

static int derive_T(const struct head *h, struct derived *d)
{
    uint32_t L = d->len, stride = h->labels_max;
    int rc;

    for (uint32_t i = 0; i < L; i++)
        for (uint32_t j = 0; j < L; j++) {
            uint32_t a = d->labels[i], b = d->labels[j];

            d->T[(size_t)i * L + j] =
                (h->A[(size_t)a * stride + b] + h->A[(size_t)b * stride + a]) / 2;
        }
    rc = algebra_cholesky(L, d->T, L);
    return rc == 0 ? algebra_cholesky_inverse(L, d->T, L) : rc;
}

static void derive_prototypes(const struct head *h, struct derived *d)
{
    for (uint32_t i = 0; i < d->len; i++) {
        const double *S = h->S + (size_t)d->labels[i] * d->dim;
        double length = fmax(sqrt(algebra_dot(d->dim, S, S)), 1e-12);

        for (uint32_t j = 0; j < d->dim; j++)
            d->prototypes[(size_t)i * d->dim + j] = S[j] / length;
    }
}

int derived_make(const struct head *h, struct derived *ret_derived)
{
    struct derived d = {.dim = h->settings.dim};
    size_t L = h->labels_len + 1, M = h->settings.features;
    bool multi = h->settings.kind == HEAD_MULTI;
    double trace = 0;
    int rc = 0;

    d.labels = malloc(L * sizeof *d.labels);
    d.n = malloc(L * sizeof *d.n);
    d.T = multi ? NULL : malloc(L * L * sizeof *d.T);
    d.prototypes = malloc(L * d.dim * sizeof *d.prototypes);
    if (d.labels == NULL || d.n == NULL || (d.T == NULL && !multi) || d.prototypes == NULL) {
        derived_done(&d);
        return -ENOMEM;
    }
    for (uint32_t c = 0; c < h->labels_len; c++) {
        if (!(h->n[c] > 0))
            continue;
        d.labels[d.len] = c;
        d.n[d.len++] = h->n[c];
        d.total += h->n[c];
    }
    for (size_t i = 0; i < M && !multi; i++)
        trace += h->P[i * M + i];
    d.kappa = d.len > 0 ? ((double)M - h->settings.lambda * trace) / d.total : 0;
    if (d.len > 0 && !multi)
        rc = derive_T(h, &d);
    if (rc != 0) {
        derived_done(&d);
        return rc;
    }
    derive_prototypes(h, &d);
    *ret_derived = d;
    return 0;
}

void derived_done(struct derived *d)
{
    free(d->labels);
    free(d->n);
    free(d->T);
    free(d->prototypes);
    *d = (struct derived){0};
}

/* ---- who fits -------------------------------------------------------------------------------- */

/* With a tuned encoder those held out of its training come first: it knows the texts it was trained
 * on too well, and coefficients fitted on them would trust their neighbours too much (on BANKING77
 * one point of accuracy lost instead of one won). */
static int compare_ids(const struct head *h, struct head_id a, struct head_id b)
{
    if (h->settings.tuned && head_held_out(a) != head_held_out(b))
        return head_held_out(a) ? -1 : 1;
    if (a.hi != b.hi)
        return a.hi < b.hi ? -1 : 1;
    return (a.lo > b.lo) - (a.lo < b.lo);
}

static void sift_down(const struct head *h, uint32_t *heap, uint32_t len, uint32_t i)
{
    for (;;) {
        uint32_t child = 2 * i + 1, slot = heap[i];

        if (child >= len)
            return;
        if (child + 1 < len &&
            compare_ids(h, examples_id(h, heap[child + 1]), examples_id(h, heap[child])) > 0)
            child++;
        if (compare_ids(h, examples_id(h, heap[child]), examples_id(h, slot)) <= 0)
            return;
        heap[i] = heap[child];
        heap[child] = slot;
        i = child;
    }
}

/* A heap of the first so far, then sorted. */
uint32_t scores_first(const struct head *h, uint32_t len_max, uint32_t *slots)
{
    uint32_t len = h->examples_len < len_max ? h->examples_len : len_max;

    for (uint32_t i = 0; i < len; i++)
        slots[i] = i;
    for (uint32_t i = len; i-- > 0;)
        sift_down(h, slots, len, i);
    for (uint32_t slot = len; slot < h->examples_len; slot++) {
        if (compare_ids(h, examples_id(h, slot), examples_id(h, slots[0])) > 0)
            continue;
        slots[0] = slot;
        sift_down(h, slots, len, 0);
    }
    for (uint32_t i = len; i-- > 1;) {
        uint32_t largest = slots[0];

        slots[0] = slots[i];
        slots[i] = largest;
        sift_down(h, slots, i, 0);
    }
    return len;
}

/* Keeps of slots[] those that can be scored without themselves: trusted, one-hot, not the last of
 * their label. */
static uint32_t keep_fitting(const struct head *h, uint32_t *slots, uint32_t len)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < len; i++) {
        const struct example *e = &h->examples[slots[i]];

        if (e->targets_len == 1 && !e->distrusted && e->weight >= HEAD_TRUST_FIT &&
            h->n[e->one.label] > e->weight + HEAD_GONE)
            slots[kept++] = slots[i];
    }
    return kept;
}

/* ---- nearest --------------------------------------------------------------------------------- */

static void keep_top(double *top, double value)
{
    int i = HEAD_NEIGHBOURS - 1;

    if (value <= top[i])
        return;
    for (; i > 0 && top[i - 1] < value; i--)
        top[i] = top[i - 1];
    top[i] = value;
}

struct near {
    const struct head *head;
    const struct derived *derived;
    const uint32_t *slots; /* (len) the examples that ask; each leaves itself out */
    uint32_t len;
    uint32_t *place; /* (labels_len) label -> place in derived, or UINT32_MAX; NULL: no labels */
    float *rows;     /* (len,d) */
    float *similar;  /* (len,CHUNK_ROWS) */
    double *best;    /* (len,derived->len) similarity of the nearest of each label */
    double *top;     /* (len,HEAD_NEIGHBOURS) the largest similarities, descending */
    double *other;   /* (len,HEAD_NEIGHBOURS) of examples that share no label; NULL: not asked */
};

static bool shares_label(const struct head *h, uint32_t a, uint32_t b)
{
    const struct head_target *s = examples_targets(h, a), *t = examples_targets(h, b);
    uint32_t i = 0, j = 0, s_len = h->examples[a].targets_len, t_len = h->examples[b].targets_len;

    while (i < s_len && j < t_len && s[i].label != t[j].label) {
        if (s[i].label < t[j].label)
            i++;
        else
            j++;
    }
    return i < s_len && j < t_len;
}

/* Is a row in the neighbour table? Where a label has no trusted example, all of it are. The one
 * that asks is not there. */
static bool in_table(const struct head *h, const struct chunk *c, uint32_t row, uint32_t asker)
{
    const struct chunk *own = h->chunks[asker / CHUNK_ROWS];
    uint32_t label = c->labels[row], r = asker % CHUNK_ROWS;

    return c->trusted[row] ||
           h->trusted_len[label] == (uint32_t)(own->labels[r] == label && own->trusted[r]);
}

static void keep_other(const struct near *n, uint32_t i, uint32_t slot, double value)
{
    double *top = n->other + (size_t)i * HEAD_NEIGHBOURS;

    if (value > top[HEAD_NEIGHBOURS - 1] && !shares_label(n->head, n->slots[i], slot))
        keep_top(top, value);
}

/* One chunk against all that ask. */
static void near_chunk(const struct near *n, uint32_t chunk)
{
    const struct head *h = n->head;
    const struct chunk *c = h->chunks[chunk];
    uint32_t from = chunk * CHUNK_ROWS, rows = h->examples_len - from;

    rows = rows < CHUNK_ROWS ? rows : CHUNK_ROWS;
    backend_cpu()->head_similarity(NULL, n->similar, n->rows, c->embeddings, n->len, rows,
                                   h->settings.dim);
    for (uint32_t i = 0; i < n->len; i++) {
        for (uint32_t r = 0; r < rows; r++) {
            double value = n->similar[(size_t)i * rows + r];
            uint32_t label = c->labels[r];
            double *at;

            if (from + r == n->slots[i])
                continue;
            keep_top(n->top + (size_t)i * HEAD_NEIGHBOURS, value);
            if (n->other != NULL)
                keep_other(n, i, from + r, value);
            if (n->place == NULL || n->place[label] == UINT32_MAX ||
                !in_table(h, c, r, n->slots[i]))
                continue;
            at = &n->best[(size_t)i * n->derived->len + n->place[label]];
            *at = value > *at ? value : *at;
        }
    }
}

static double mean_of_other(const double top[HEAD_NEIGHBOURS])
{
    double sum = 0;
    int found = 0;

    for (; found < HEAD_NEIGHBOURS && top[found] > -INFINITY; found++)
        sum += top[found];
    return sum / found; /* NAN: there are none */
}

/* Fills the mean of the nearest similarities (n->len); unless NULL, the same among examples of
 * other labels and the nearest score. */
static void near_scores(struct near *n, double *near, double *other, double *scores)
{
    const struct head *h = n->head;
    uint32_t L = scores != NULL ? n->derived->len : 0, d = h->settings.dim;
    uint32_t k = h->examples_len < HEAD_NEIGHBOURS ? h->examples_len : HEAD_NEIGHBOURS;

    for (size_t i = 0; i < (size_t)n->len * L; i++)
        n->best[i] = -1;
    for (size_t i = 0; i < (size_t)n->len * HEAD_NEIGHBOURS; i++)
        n->top[i] = -2; /* what the example itself counts for, as in the reference */
    for (size_t i = 0; other != NULL && i < (size_t)n->len * HEAD_NEIGHBOURS; i++)
        n->other[i] = -INFINITY;
    for (uint32_t i = 0; i < n->len; i++)
        for (uint32_t j = 0; j < d; j++)
            n->rows[(size_t)i * d + j] = head_half_to_float(examples_embedding(h, n->slots[i])[j]);
    for (uint32_t chunk = 0; chunk * CHUNK_ROWS < h->examples_len; chunk++)
        near_chunk(n, chunk);
    for (uint32_t i = 0; i < n->len; i++) {
        near[i] = 0;
        for (uint32_t j = 0; j < k; j++)
            near[i] += n->top[(size_t)i * HEAD_NEIGHBOURS + j] / k;
        if (other != NULL)
            other[i] = mean_of_other(n->other + (size_t)i * HEAD_NEIGHBOURS);
        for (uint32_t c = 0; c < L; c++)
            scores[((size_t)i * L + c) * H + 4] = n->best[(size_t)i * L + c];
    }
}

int scores_near(const struct head *h, const struct derived *d, const uint32_t *slots, uint32_t len,
                double *near, double *other, double *scores)
{
    struct near n = {.head = h, .derived = d, .slots = slots, .len = len};
    size_t rows = (size_t)len + 1;
    uint32_t L = scores != NULL ? d->len : 0;
    int rc = -ENOMEM;

    n.place = L > 0 ? malloc((h->labels_len + 1) * sizeof *n.place) : NULL;
    n.rows = malloc(rows * h->settings.dim * sizeof *n.rows);
    n.similar = malloc(rows * CHUNK_ROWS * sizeof *n.similar);
    n.best = malloc(rows * (L + 1) * sizeof *n.best);
    n.top = malloc(rows * HEAD_NEIGHBOURS * sizeof *n.top);
    n.other = other != NULL ? malloc(rows * HEAD_NEIGHBOURS * sizeof *n.other) : NULL;
    if (n.rows != NULL && n.similar != NULL && n.best != NULL && n.top != NULL &&
        (n.place != NULL || L == 0) && (n.other != NULL || other == NULL)) {
        if (L > 0)
            memset(n.place, 0xff, h->labels_len * sizeof *n.place);
        for (uint32_t i = 0; i < L; i++)
            n.place[d->labels[i]] = i;
        near_scores(&n, near, other, scores);
        rc = 0;
    }
    free(n.place);
    free(n.rows);
    free(n.similar);
    free(n.best);
    free(n.top);
    free(n.other);
    return rc;
}

/* ---- leave one out --------------------------------------------------------------------------- */

struct loo_row {
    double *f, *z, *zT, *v; /* (M) (L) (L) (L) */
    double h;               /* w f^T P f */
};

/* Ridge, LDA, count and prototype of one example without itself. */
static void score_row(const struct head *h, const struct derived *d, uint32_t slot, uint32_t own,
                      struct loo_row *r, double *scores)
{
    const struct example *e = &h->examples[slot];
    uint32_t L = d->len, dim = d->dim;
    double w = e->weight, rv = 0, zv = 0, den, dot = 0, length = 0;
    const uint16_t *x = examples_embedding(h, slot);
    const double *S = h->S + (size_t)d->labels[own] * dim;

    for (uint32_t c = 0; c < L; c++)
        r->zT[c] = (c == own) - r->z[c]; /* r = t - z, for now */
    algebra_gemm(false, false, 1, L, L, 1, r->zT, L, d->T, L, 0, r->v, L);
    rv = algebra_dot(L, r->zT, r->v);
    den = (1 - r->h) / w - rv;
    for (uint32_t c = 0; c < L; c++)
        r->z[c] = (r->z[c] - r->h * (c == own)) / (1 - r->h);
    algebra_gemm(false, false, 1, L, L, 1, r->z, L, d->T, L, 0, r->zT, L);
    zv = algebra_dot(L, r->z, r->v) / den;
    for (uint32_t c = 0; c < L; c++) {
        double Tcc = d->T[(size_t)c * L + c] + r->v[c] * r->v[c] / den;
        double n = d->n[c] - (c == own ? w : 0);

        scores[c * H + 0] = r->z[c];
        scores[c * H + 1] =
            HEAD_LDA_SCALE * (d->total - w) * (r->zT[c] + zv * r->v[c] - Tcc / 2 + 1 / (2 * n));
        scores[c * H + 2] = HEAD_LDA_SCALE * d->total * d->kappa / d->n[c];
        scores[c * H + 3] = 0;
    }
    for (uint32_t j = 0; j < dim; j++) {
        double xj = head_half_to_float(x[j]), without = S[j] - w * xj;

        for (uint32_t c = 0; c < L; c++)
            scores[c * H + 3] += xj * d->prototypes[(size_t)c * dim + j];
        dot += xj * without;
        length += without * without;
    }
    scores[own * H + 3] = dot / fmax(sqrt(length), 1e-12);
}

static int leave_out(const struct head *h, const struct derived *d, const uint32_t *slots,
                     struct loo *loo)
{
    uint32_t M = h->settings.features, L = d->len, len = loo->len;
    size_t rows = len;
    double *F = malloc(2 * rows * M * sizeof *F), *K = F != NULL ? F + rows * M : NULL;
    double *Z = malloc((rows * h->labels_max + 3 * (size_t)L) * sizeof *Z);
    const uint16_t **embeddings = malloc(rows * sizeof *embeddings);
    struct loo_row r;

    if (F == NULL || Z == NULL || embeddings == NULL) {
        free(F);
        free(Z);
        free(embeddings);
        return -ENOMEM;
    }
    r.z = Z + rows * h->labels_max;
    r.zT = r.z + L;
    r.v = r.zT + L;
    for (uint32_t i = 0; i < len; i++)
        embeddings[i] = examples_embedding(h, slots[i]);
    head_features_of(h, embeddings, len, F);
    algebra_symm(len, M, F, M, h->P, M, K, M);
    algebra_gemm(false, false, len, h->labels_len, M, 1, F, M, h->W, h->labels_max, 0, Z,
                 h->labels_max);
    for (uint32_t i = 0; i < len; i++) {
        r.f = F + (size_t)i * M;
        r.h = h->examples[slots[i]].weight * algebra_dot(M, r.f, K + (size_t)i * M);
        for (uint32_t c = 0; c < L; c++)
            r.z[c] = Z[(size_t)i * h->labels_max + d->labels[c]];
        score_row(h, d, slots[i], loo->own[i], &r, loo->scores + (size_t)i * L * H);
        loo->weights[i] = h->examples[slots[i]].weight;
    }
    free(embeddings);
    free(F);
    free(Z);
    return 0;
}

static int by_column(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

int loo_of(const struct head *h, const struct derived *d, const uint32_t *slots, uint32_t len,
           bool other, struct loo *ret_loo)
{
    struct loo loo = {.len = len, .labels_len = d->len};
    size_t rows = (size_t)len + 1;
    int rc = -ENOMEM;

    loo.scores = malloc(rows * (d->len + 1) * H * sizeof *loo.scores);
    loo.own = malloc(rows * sizeof *loo.own);
    loo.near = malloc(rows * sizeof *loo.near);
    loo.other = other ? malloc(rows * sizeof *loo.other) : NULL;
    loo.weights = malloc(rows * sizeof *loo.weights);
    if (loo.scores != NULL && loo.own != NULL && loo.near != NULL && loo.weights != NULL &&
        (loo.other != NULL || !other))
        rc = 0;
    for (uint32_t i = 0; i < len && rc == 0; i++) {
        const uint32_t *at = bsearch(&h->examples[slots[i]].one.label, d->labels, d->len,
                                     sizeof *d->labels, by_column);

        loo.own[i] = (uint32_t)(at - d->labels);
    }
    if (rc == 0 && len > 0)
        rc = scores_near(h, d, slots, len, loo.near, loo.other, loo.scores);
    if (rc == 0 && len > 0) /* writes scores 0..3 beside the nearest one */
        rc = leave_out(h, d, slots, &loo);
    if (rc != 0)
        loo_done(&loo);
    else
        *ret_loo = loo;
    return rc;
}

int loo_make(const struct head *h, const struct derived *d, struct loo *ret_loo)
{
    uint32_t *slots = malloc(HEAD_FIT_EXAMPLES * sizeof *slots), len;
    int rc;

    if (slots == NULL)
        return -ENOMEM;
    len = keep_fitting(h, slots, scores_first(h, HEAD_FIT_EXAMPLES, slots));
    rc = loo_of(h, d, slots, len, false, ret_loo);
    free(slots);
    return rc;
}

void loo_done(struct loo *loo)
{
    free(loo->scores);
    free(loo->own);
    free(loo->near);
    free(loo->other);
    free(loo->weights);
    *loo = (struct loo){0};
}

/* ---- fitting --------------------------------------------------------------------------------- */

static void mean_and_scale(const double *x, uint32_t len, double *ret_mean, double *ret_scale)
{
    double mean = 0, squares = 0;

    for (uint32_t i = 0; i < len; i++)
        mean += x[i] / len;
    for (uint32_t i = 0; i < len; i++)
        squares += (x[i] - mean) * (x[i] - mean) / len;
    *ret_mean = mean;
    *ret_scale = sqrt(squares) + 1e-12;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double scores_novelty(const struct head *h, double maximum, double near)
{
    return -((maximum - h->novelty_mean[0]) / h->novelty_scale[0] +
             (near - h->novelty_mean[1]) / h->novelty_scale[1]);
}

int scores_fit_novelty(struct head *h, const double *maxima, const double *near, uint32_t len)
{
    double *novelties = malloc((len + 1) * sizeof *novelties);

    if (novelties == NULL)
        return -ENOMEM;
    mean_and_scale(maxima, len, &h->novelty_mean[0], &h->novelty_scale[0]);
    mean_and_scale(near, len, &h->novelty_mean[1], &h->novelty_scale[1]);
    for (uint32_t i = 0; i < len; i++)
        novelties[i] = scores_novelty(h, maxima[i], near[i]);
    qsort(novelties, len, sizeof *novelties, ascending);
    free(h->novelties);
    h->novelties = novelties;
    h->novelties_len = len;
    return 0;
}

static int fit_novelty(struct head *h, const struct loo *loo)
{
    double *maxima = malloc((loo->len + 1) * sizeof *maxima);
    int rc;

    if (maxima == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < loo->len; i++) {
        maxima[i] = -INFINITY;
        for (uint32_t c = 0; c < loo->labels_len; c++)
            maxima[i] = fmax(maxima[i], loo->scores[((size_t)i * loo->labels_len + c) * H]);
    }
    rc = scores_fit_novelty(h, maxima, loo->near, loo->len);
    free(maxima);
    return rc;
}

void loo_judge(const struct loo *loo, const struct derived *d, uint32_t i,
               const double coefficients[H], double *p, struct head_loo_row *ret_row)
{
    struct head_loo_row row = {.label = d->labels[loo->own[i]]};
    uint32_t best = 0, L = loo->labels_len;

    pool_combine(loo->scores + (size_t)i * L * H, coefficients, p, L);
    pool_softmax(p, L);
    for (uint32_t c = 0; c < L; c++) {
        row.p_squares += p[c] * p[c];
        best = p[c] > p[best] ? c : best;
    }
    row.p_label = p[loo->own[i]];
    row.predicted = d->labels[best];
    row.p_predicted = p[best];
    *ret_row = row;
}

/* The fit's examples under their coefficients. */
static int keep_rows(struct head *h, const struct derived *d, const struct loo *loo,
                     const double coefficients[H])
{
    struct head_loo_row *rows = malloc((loo->len + 1) * sizeof *rows);
    double *p = malloc((loo->labels_len + 1) * sizeof *p);

    if (rows == NULL || p == NULL) {
        free(rows);
        free(p);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < loo->len; i++)
        loo_judge(loo, d, i, coefficients, p, &rows[i]);
    free(p);
    free(h->loo_rows);
    h->loo_rows = rows;
    h->loo_rows_len = loo->len;
    return 0;
}

const struct head_loo_row *head_fit_rows(const struct head *h, uint32_t *ret_len)
{
    *ret_len = h->loo_rows_len;
    return h->loo_rows;
}

const double *head_coefficients(const struct head *h)
{
    return h->coefficients;
}

int head_fit(struct head *h)
{
    struct derived d;
    struct loo loo;
    double coefficients[H];
    int rc = ridge_catch_up(h);

    if (rc == 0 && h->settings.kind == HEAD_MULTI)
        return multi_fit(h);
    if (rc == 0)
        rc = derived_make(h, &d);
    if (rc != 0)
        return rc;
    rc = loo_make(h, &d, &loo);
    if (rc != 0) {
        derived_done(&d);
        return rc;
    }
    pool_prior_scaled(&d, coefficients);
    if (loo.len >= HEAD_FIT_MIN)
        rc = pool_fit(&loo, &d, coefficients);
    if (rc == 0 && loo.len >= HEAD_NOVELTY_MIN)
        rc = fit_novelty(h, &loo);
    else
        h->novelties_len = 0;
    if (rc == 0)
        rc = keep_rows(h, &d, &loo, coefficients);
    loo_done(&loo);
    derived_done(&d);
    if (rc == 0) {
        memcpy(h->coefficients, coefficients, sizeof coefficients);
        h->stale = 0;
    }
    return rc;
}
