/* ridge.c -- the learning state: recursive ridge regression, exact in both directions.
 *
 * A block of b signed terms (f_i, t_i, w_i; removing is -w), F (b,M), T (b,L):
 *
 *     K = F P;  S = diag(1/w) + F K^T;  R = T - F W;  B = S^-1 K;  C = S^-1 R
 *     W += K^T C;  P -= K^T B;  A += R^T C + sum w (diag t - t t^T)
 *     G += F^T diag(w) F;  Q += F^T diag(w) T
 *
 * (Woodbury). Only lower triangles of P and G are kept; the update K^T B is symmetric and is added
 * as half of (K^T B + B^T K), so no asymmetry can build up.
 *
 * Many terms at once (more than M/2): G and Q directly, then one Cholesky. Both paths agree to
 * rounding.
 */
#include "kernels/algebra.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/head/head_internal.h"

/* Signed terms on their way into the state. */
struct block {
    uint32_t len, max;
    double *F, *K, *B;    /* (max,M) */
    double *T, *R, *C;    /* (max,labels_max) */
    double *S;            /* (max,max) */
    double *weights;      /* (max) */
    uint16_t *embeddings; /* (max,d) */
    int *pivots;
};

/* ---- life ------------------------------------------------------------------------------------ */

int head_open(const struct head_settings *settings, struct head **ret_head)
{
    struct head *h;
    size_t M = settings->features, square = M * M;

    if (settings->kind > HEAD_MULTI || settings->dim < 1 || settings->dim > HEAD_DIM_MAX || M < 1 ||
        M > 8192 || !(settings->lambda > 0) || !isfinite(settings->lambda))
        return -EINVAL;
    h = calloc(1, sizeof *h);
    if (h == NULL)
        return -ENOMEM;
    h->settings = *settings;
    memcpy(h->coefficients, pool_prior, sizeof h->coefficients);
    calibration_init(&h->calibration);
    if (settings->kind == HEAD_MULTI)
        memcpy(h->coefficients, (double[HEAD_SCORES]){h->calibration.slope},
               sizeof h->coefficients);
    h->projection = projection_make(settings);
    h->P = calloc(square, sizeof *h->P);
    h->G = calloc(square, sizeof *h->G);
    if (h->projection == NULL || h->P == NULL || h->G == NULL || head_labels_grow(h, 0) != 0) {
        head_close(h);
        return -ENOMEM;
    }
    for (size_t i = 0; i < M; i++)
        h->P[i * M + i] = 1 / settings->lambda;
    *ret_head = h;
    return 0;
}

void head_close(struct head *h)
{
    if (h == NULL)
        return;
    examples_free(h);
    projection_put(h->projection);
    free(h->P);
    free(h->G);
    free(h->W);
    free(h->Q);
    free(h->A);
    free(h->n);
    free(h->S);
    free(h->trusted_len);
    free(h->novelties);
    calibration_done(&h->calibration);
    free(h->loo_rows);
    free(h);
}

const struct head_settings *head_settings(const struct head *h)
{
    return &h->settings;
}

bool head_has(const struct head *h, struct head_id id)
{
    return examples_find(h, id) != SLOT_NONE;
}

double head_label_weight(const struct head *h, uint32_t label)
{
    return label < h->labels_len ? h->n[label] : 0;
}

uint32_t head_labels_len(const struct head *h)
{
    return h->labels_len;
}

uint64_t head_examples_len(const struct head *h)
{
    return h->examples_len;
}

uint64_t head_fit_stale(const struct head *h)
{
    return h->stale;
}

/* A wider copy of a (rows,from) matrix; the new columns are zero. */
static double *widened(const double *old, size_t rows, size_t from, size_t to)
{
    double *wider = calloc(rows * to, sizeof *wider);

    for (size_t i = 0; i < rows && wider != NULL && from > 0; i++)
        memcpy(wider + i * to, old + i * from, from * sizeof *wider);
    return wider;
}

int head_labels_grow(struct head *h, uint32_t labels_len)
{
    size_t M = h->settings.features, d = h->settings.dim, from = h->labels_max, to = from;
    double *W, *Q, *A, *n, *S;
    uint32_t *trusted;

    if (labels_len <= h->labels_len && from > 0)
        return 0;
    while (to < labels_len || to == 0)
        to = to == 0 ? 16 : to * 2;
    if (to > from) {
        W = widened(h->W, M, from, to);
        Q = widened(h->Q, M, from, to);
        A = widened(h->A, from, from, to);
        A = A != NULL ? realloc(A, to * to * sizeof *A) : NULL;
        n = widened(h->n, 1, from, to);
        S = calloc(to * d, sizeof *S);
        trusted = calloc(to, sizeof *trusted);
        if (W == NULL || Q == NULL || A == NULL || n == NULL || S == NULL || trusted == NULL) {
            free(W);
            free(Q);
            free(A);
            free(n);
            free(S);
            free(trusted);
            return -ENOMEM;
        }
        memset(A + from * to, 0, (to - from) * to * sizeof *A);
        if (from > 0) {
            memcpy(S, h->S, from * d * sizeof *S);
            memcpy(trusted, h->trusted_len, from * sizeof *trusted);
        }
        free(h->W);
        free(h->Q);
        free(h->A);
        free(h->n);
        free(h->S);
        free(h->trusted_len);
        h->W = W;
        h->Q = Q;
        h->A = A;
        h->n = n;
        h->S = S;
        h->trusted_len = trusted;
        h->labels_max = (uint32_t)to;
    }
    h->labels_len = labels_len;
    return 0;
}

/* ---- rebuilding ------------------------------------------------------------------------------ */

/* A = diag(n) - Q^T W */
static void residual(const struct head *h, const double *W, double *A)
{
    uint32_t L = h->labels_len, stride = h->labels_max;

    if (h->settings.kind == HEAD_MULTI)
        return;
    algebra_gemm(true, false, L, L, h->settings.features, -1, h->Q, stride, W, stride, 0, A,
                 stride);
    for (uint32_t i = 0; i < L; i++)
        A[(size_t)i * stride + i] += h->n[i];
}

/* P = (G + lambda I)^-1, both triangles, and W = P Q. */
static int solve(const struct head *h, double *P, double *W)
{
    uint32_t M = h->settings.features, stride = h->labels_max;
    int rc;

    memcpy(P, h->G, (size_t)M * M * sizeof *P);
    for (uint32_t i = 0; i < M; i++)
        P[(size_t)i * M + i] += h->settings.lambda;
    rc = algebra_cholesky(M, P, M);
    if (rc == 0)
        rc = algebra_cholesky_inverse(M, P, M);
    if (rc == 0)
        algebra_gemm(false, false, M, h->labels_len, M, 1, P, M, h->Q, stride, 0, W, stride);
    return rc;
}

int ridge_rebuild(struct head *h)
{
    size_t M = h->settings.features;
    double *P = malloc(M * M * sizeof *P);
    double *W = calloc(M * h->labels_max, sizeof *W);
    int rc = P != NULL && W != NULL ? solve(h, P, W) : -ENOMEM;

    if (rc != 0) {
        free(P);
        free(W);
        return rc;
    }
    free(h->P);
    free(h->W);
    h->P = P;
    h->W = W;
    residual(h, W, h->A);
    h->terms_since_rebuild = h->terms_since_probe = 0;
    h->behind = false;
    return 0;
}

int ridge_catch_up(struct head *h)
{
    return h->behind ? ridge_rebuild(h) : 0;
}

/* Largest |f - (G + lambda I) P f| of one feature vector. */
static double probe(const struct head *h, const double *f, double *scratch)
{
    uint32_t M = h->settings.features;
    double *Pf = scratch, *GPf = scratch + M, worst = 0;

    algebra_symm(1, M, f, M, h->P, M, Pf, M);
    algebra_symm(1, M, Pf, M, h->G, M, GPf, M);
    for (uint32_t i = 0; i < M; i++)
        worst = fmax(worst, fabs(f[i] - GPf[i] - h->settings.lambda * Pf[i]));
    return worst;
}

/* ---- a block --------------------------------------------------------------------------------- */

static void block_done(struct block *b)
{
    free(b->F);
    free(b->T);
    free(b->S);
    free(b->embeddings);
    free(b->pivots);
}

static int block_init(const struct head *h, uint32_t max, struct block *b)
{
    size_t M = h->settings.features, L = h->labels_max;

    *b = (struct block){.max = max};
    b->F = malloc(3 * max * M * sizeof *b->F);
    b->T = malloc(3 * max * L * sizeof *b->T);
    b->S = malloc(((size_t)max * max + max) * sizeof *b->S);
    b->embeddings = malloc((size_t)max * h->settings.dim * sizeof *b->embeddings);
    b->pivots = malloc(max * sizeof *b->pivots);
    if (b->F == NULL || b->T == NULL || b->S == NULL || b->embeddings == NULL ||
        b->pivots == NULL) {
        block_done(b);
        return -ENOMEM;
    }
    b->K = b->F + max * M;
    b->B = b->K + max * M;
    b->R = b->T + max * L;
    b->C = b->R + max * L;
    b->weights = b->S + (size_t)max * max;
    return 0;
}

static void block_add(const struct head *h, struct block *b, const uint16_t *embedding,
                      const struct head_target *targets, uint32_t targets_len, double weight)
{
    double *T = b->T + (size_t)b->len * h->labels_max;

    memset(T, 0, h->labels_max * sizeof *T);
    for (uint32_t i = 0; i < targets_len; i++)
        T[targets[i].label] += targets[i].value;
    memcpy(b->embeddings + (size_t)b->len * h->settings.dim, embedding,
           h->settings.dim * sizeof *embedding);
    b->weights[b->len++] = weight;
}

/* Counts, prototype sums, and what one term adds to A beyond the ridge; overwrites T by diag(w) T.
 */
static void block_count(struct head *h, struct block *b, bool with_A)
{
    uint32_t L = h->labels_len, d = h->settings.dim;

    for (uint32_t i = 0; i < b->len; i++) {
        double *t = b->T + (size_t)i * h->labels_max, w = b->weights[i];
        const uint16_t *x = b->embeddings + (size_t)i * d;

        for (uint32_t c = 0; c < L; c++) {
            double *A = h->A + (size_t)c * h->labels_max, *S = h->S + (size_t)c * d;

            if (t[c] == 0)
                continue;
            h->n[c] += w * t[c];
            for (uint32_t j = 0; j < d; j++)
                S[j] += w * t[c] * head_half_to_float(x[j]);
            if (!with_A || t[c] == 1)
                continue;
            A[c] += w * t[c];
            for (uint32_t e = 0; e < L; e++)
                A[e] -= w * t[c] * t[e];
        }
        for (uint32_t c = 0; c < L; c++)
            t[c] *= w;
    }
}

/* A label without examples leaves no rounding behind. */
static void clear_gone(struct head *h)
{
    uint32_t M = h->settings.features, stride = h->labels_max;

    for (uint32_t c = 0; c < h->labels_len; c++) {
        if (h->n[c] >= HEAD_GONE || h->n[c] == 0)
            continue;
        h->n[c] = 0;
        for (uint32_t i = 0; i < M; i++)
            h->W[(size_t)i * stride + c] = h->Q[(size_t)i * stride + c] = 0;
        for (uint32_t i = 0; i < h->labels_len; i++)
            h->A[(size_t)i * stride + c] = h->A[(size_t)c * stride + i] = 0;
        memset(h->S + (size_t)c * h->settings.dim, 0, h->settings.dim * sizeof *h->S);
    }
}

/* G += F^T diag(w) F and Q += F^T diag(w) T; T holds diag(w) T already, B is scratch. */
static void block_accumulate(struct head *h, struct block *b)
{
    uint32_t M = h->settings.features, L = h->labels_len, stride = h->labels_max;

    for (uint32_t i = 0; i < b->len; i++)
        for (uint32_t j = 0; j < M; j++)
            b->B[(size_t)i * M + j] = 0.5 * b->weights[i] * b->F[(size_t)i * M + j];
    algebra_syr2k(M, b->len, 1, b->F, M, b->B, M, h->G, M);
    algebra_gemm(true, false, M, L, b->len, 1, b->F, M, b->T, stride, 1, h->Q, stride);
}

/* One Woodbury step. -EDOM: S is singular to rounding; -ENOMEM. Then G and Q are right and P is to
 * be rebuilt. */
static int block_recurse(struct head *h, struct block *b)
{
    uint32_t M = h->settings.features, L = h->labels_len, stride = h->labels_max, len = b->len;
    int rc;

    algebra_symm(len, M, b->F, M, h->P, M, b->K, M);
    algebra_gemm(false, true, len, len, M, 1, b->F, M, b->K, M, 0, b->S, len);
    for (uint32_t i = 0; i < len; i++)
        b->S[(size_t)i * len + i] += 1 / b->weights[i];
    for (uint32_t i = 0; i < len; i++)
        memcpy(b->R + (size_t)i * stride, b->T + (size_t)i * stride, L * sizeof *b->R);
    algebra_gemm(false, false, len, L, M, -1, b->F, M, h->W, stride, 1, b->R, stride);
    rc = algebra_invert(len, b->S, len, b->pivots);
    block_count(h, b, rc == 0 && h->settings.kind == HEAD_SINGLE);
    if (rc == 0) {
        algebra_gemm(false, false, len, L, len, 1, b->S, len, b->R, stride, 0, b->C, stride);
        algebra_gemm(true, false, M, L, len, 1, b->K, M, b->C, stride, 1, h->W, stride);
        if (h->settings.kind == HEAD_SINGLE)
            algebra_gemm(true, false, L, L, len, 1, b->R, stride, b->C, stride, 1, h->A, stride);
        algebra_gemm(false, false, len, M, len, 1, b->S, len, b->K, M, 0, b->B, M);
        algebra_syr2k(M, len, -0.5, b->K, M, b->B, M, h->P, M);
    }
    block_accumulate(h, b);
    return rc;
}

static void block_features(const struct head *h, struct block *b)
{
    const uint16_t *embeddings[HEAD_BLOCK];

    for (uint32_t i = 0; i < b->len; i++)
        embeddings[i] = b->embeddings + (size_t)i * h->settings.dim;
    head_features_of(h, embeddings, b->len, b->F);
}

/* Takes the block into the state and empties it. recursive: by Woodbury, unless P is behind; else
 * only G, Q, n and S, and a rebuild follows. */
static int block_flush(struct head *h, struct block *b, bool recursive)
{
    int rc = 0;

    if (b->len == 0)
        return 0;
    block_features(h, b);
    recursive = recursive && !h->behind;
    if (recursive) {
        rc = block_recurse(h, b);
    } else {
        block_count(h, b, false);
        block_accumulate(h, b);
        h->behind = true;
    }
    clear_gone(h);
    h->terms_since_rebuild += b->len;
    h->terms_since_probe += b->len;
    if (recursive && rc == 0 && h->terms_since_probe >= PROBE_TERMS) {
        h->terms_since_probe = 0;
        if (!(probe(h, b->F, b->K) <= HEAD_PROBE_MAX))
            rc = -EDOM;
    }
    b->len = 0;
    if (rc != 0)
        h->behind = true;
    if (recursive && (rc != 0 || h->terms_since_rebuild >= REBUILD_TERMS))
        rc = ridge_rebuild(h);
    return rc;
}

/* ---- changes --------------------------------------------------------------------------------- */

/* Does the change leave an example, or remove it? */
static bool keeps(const struct head *h, const struct head_change *c)
{
    return c->targets_len > 0 || (c->none && h->settings.kind == HEAD_MULTI);
}

static bool written_twice(const struct head_change *c)
{
    for (uint32_t i = 0; i < c->targets_len; i++)
        for (uint32_t j = 0; j < i; j++)
            if (c->targets[i].label == c->targets[j].label)
                return true;
    return false;
}

static int check(const struct head *h, const struct head_change *c)
{
    bool multi = h->settings.kind == HEAD_MULTI;
    double sum = 0;

    if (!keeps(h, c))
        return c->none ? -EINVAL : 0;
    if (c->embedding == NULL || !(c->weight > 0) || !isfinite(c->weight))
        return -EINVAL;
    for (uint32_t i = 0; i < c->targets_len; i++) {
        if (c->targets[i].label >= h->labels_len || !(c->targets[i].value > 0) ||
            !(c->targets[i].value <= 1 + 1e-6))
            return -EINVAL;
        sum += c->targets[i].value;
    }
    if ((!multi && !(fabs(sum - 1) <= 1e-6)) || written_twice(c))
        return -EINVAL;
    for (uint32_t i = 0; i < h->settings.dim; i++)
        if ((c->embedding[i] & 0x7c00) == 0x7c00)
            return -EINVAL;
    return 0;
}

static bool unchanged(const struct head *h, uint32_t slot, const struct head_change *c)
{
    const struct example *e = &h->examples[slot];
    const struct head_target *have = examples_targets(h, slot);

    if (e->taught != c->weight || e->confirmed != c->confirmed ||
        e->targets_len != c->targets_len ||
        memcmp(examples_embedding(h, slot), c->embedding, h->settings.dim * sizeof *c->embedding) !=
            0)
        return false;
    for (uint32_t i = 0; i < c->targets_len; i++) {
        bool found = false;

        for (uint32_t j = 0; j < c->targets_len; j++)
            found |= have[j].label == c->targets[i].label && have[j].value == c->targets[i].value;
        if (!found)
            return false;
    }
    return true;
}

/* One change as up to two terms of the block, and in the set. */
static int change_one(struct head *h, struct block *b, const struct head_change *c)
{
    uint32_t slot = examples_find(h, c->id);
    bool kept = keeps(h, c);
    int rc;

    if (slot != SLOT_NONE ? kept && unchanged(h, slot, c) : !kept)
        return 0;
    if (slot != SLOT_NONE)
        block_add(h, b, examples_embedding(h, slot), examples_targets(h, slot),
                  h->examples[slot].targets_len, -h->examples[slot].weight);
    rc = kept ? examples_set(h, c) : examples_remove(h, slot);
    if (rc != 0) {
        b->len -= slot != SLOT_NONE; /* the example stands as it stood */
        return rc;
    }
    if (kept)
        block_add(h, b, c->embedding, c->targets, c->targets_len, c->weight);
    h->stale++;
    return 0;
}

int head_apply(struct head *h, const struct head_change *changes, uint32_t changes_len)
{
    bool recursive = changes_len <= h->settings.features / 2;
    struct block b;
    int rc = 0, flushed;

    for (uint32_t i = 0; i < changes_len; i++)
        if (check(h, &changes[i]) != 0)
            return -EINVAL;
    rc = block_init(h, changes_len < HEAD_BLOCK / 2 ? 2 * changes_len + 2 : HEAD_BLOCK, &b);
    if (rc != 0)
        return rc;
    for (uint32_t i = 0; i < changes_len && rc == 0; i++) {
        rc = change_one(h, &b, &changes[i]);
        if (rc == 0 && b.len + 2 > b.max)
            rc = block_flush(h, &b, recursive);
    }
    flushed = block_flush(h, &b, recursive); /* also after an error: the set and the state agree */
    if (rc == 0)
        rc = flushed;
    flushed = ridge_catch_up(h);
    if (rc == 0)
        rc = flushed;
    block_done(&b);
    return rc;
}

/* One mark as two terms of the block. */
static int distrust_one(struct head *h, struct block *b, uint32_t slot, bool distrusted)
{
    struct example *e = &h->examples[slot];
    int rc;

    if (e->distrusted == distrusted)
        return 0;
    block_add(h, b, examples_embedding(h, slot), examples_targets(h, slot), e->targets_len,
              -e->weight);
    rc = examples_distrust(h, slot, distrusted);
    if (rc != 0) {
        b->len--;
        return rc;
    }
    block_add(h, b, examples_embedding(h, slot), examples_targets(h, slot), e->targets_len,
              e->weight);
    h->stale++;
    return 0;
}

int head_distrust(struct head *h, const struct head_id *ids, uint32_t ids_len)
{
    uint8_t *wanted = calloc(h->examples_len + 1, 1);
    struct block b;
    int rc = wanted != NULL ? block_init(h, HEAD_BLOCK, &b) : -ENOMEM, flushed;

    if (rc != 0) {
        free(wanted);
        return rc;
    }
    for (uint32_t i = 0; i < ids_len; i++) {
        uint32_t slot = examples_find(h, ids[i]);

        if (slot != SLOT_NONE)
            wanted[slot] = 1;
    }
    for (uint32_t slot = 0; slot < h->examples_len && rc == 0; slot++) {
        rc = distrust_one(h, &b, slot, wanted[slot]);
        if (rc == 0 && b.len + 2 > b.max)
            rc = block_flush(h, &b, true);
    }
    flushed = block_flush(h, &b, true);
    if (rc == 0)
        rc = flushed;
    flushed = ridge_catch_up(h);
    block_done(&b);
    free(wanted);
    return rc != 0 ? rc : flushed;
}

uint64_t head_distrusted_len(const struct head *h)
{
    return h->distrusted_len;
}

/* ---- checking -------------------------------------------------------------------------------- */

static double distance(const double *a, const double *b, size_t rows, size_t columns, size_t stride,
                       bool lower)
{
    double worst = 0, largest = 1e-300;

    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < (lower ? i + 1 : columns); j++) {
            worst = fmax(worst, fabs(a[i * stride + j] - b[i * stride + j]));
            largest = fmax(largest, fabs(b[i * stride + j]));
        }
    return worst / largest;
}

int head_check(const struct head *h, double *ret_distance)
{
    struct head *fresh;
    struct block b = {0};
    int rc = head_open(&h->settings, &fresh);

    if (rc != 0)
        return rc;
    rc = head_labels_grow(fresh, h->labels_len);
    if (rc == 0)
        rc = block_init(fresh, HEAD_BLOCK, &b);
    for (uint32_t slot = 0; slot < h->examples_len && rc == 0; slot++) {
        block_add(fresh, &b, examples_embedding(h, slot), examples_targets(h, slot),
                  h->examples[slot].targets_len, h->examples[slot].weight);
        if (b.len == b.max || slot + 1 == h->examples_len)
            rc = block_flush(fresh, &b, false);
    }
    block_done(&b);
    if (rc == 0) {
        uint32_t M = h->settings.features, L = h->labels_len, stride = h->labels_max;

        rc = ridge_rebuild(fresh);
        if (rc == 0)
            *ret_distance = fmax(distance(h->P, fresh->P, M, M, M, true),
                                 fmax(distance(h->W, fresh->W, M, L, stride, false),
                                      distance(h->A, fresh->A, L, L, stride, false)));
    }
    head_close(fresh);
    return rc;
}
