/* audit.c -- which stored labels look wrong, and which contradict each other.
 *
 * An example is a suspect when the ridge score without it prefers another label by more than
 * HEAD_SUSPECT_MARGIN, with h = w f^T P f:
 *
 *     z'_c = (z_c - h t_c) / (1 - h);  suspect if  max_{c != y} z'_c - z'_y > 0.2
 *
 * Scores are taken where every example has the weight it was taught with. The head that serves may
 * give suspects less; if their own low weight decided about them, the outcome would hang on the
 * order of audits. So an audit works on a copy of the state in which nobody is distrusted: what it
 * finds is a function of the set. The copy shares the embeddings.
 *
 * A multi head has neither suspects nor twins: its targets are not one label against another.
 *
 * Never a suspect: a soft target (its annotators disagree already), one that two annotators agree
 * on, one whose label has less than HEAD_SUSPECT_OTHERS weight beside it.
 *
 * Twins are examples with the same embedding, bit for bit, and another label: one text taught
 * twice, up to what the tokenizer does not see (case, space, accents).
 */
#include "kernels/algebra.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/head/head_internal.h"

enum { STEP_ROWS = 128 };

struct head_audit {
    struct head *head; /* the copy */
    uint32_t next, examined;
    struct head_suspect *suspects;
    uint32_t suspects_len, suspects_max;
    struct head_twin *twins;
    uint32_t twins_len;
    double *F, *K, *Z; /* (STEP_ROWS,M) (STEP_ROWS,M) (STEP_ROWS,labels_max) */
};

/* ---- the copy -------------------------------------------------------------------------------- */

static void *copy_of(const void *from, size_t bytes, int *rc)
{
    void *to = malloc(bytes > 0 ? bytes : 1);

    if (to == NULL)
        *rc = -ENOMEM;
    else if (bytes > 0)
        memcpy(to, from, bytes);
    return to;
}

static int copy_examples(const struct head *h, struct head *copy)
{
    uint32_t chunks = h->examples_max / CHUNK_ROWS;
    int rc = 0;

    copy->examples = copy_of(h->examples, h->examples_max * sizeof *h->examples, &rc);
    copy->chunks = copy_of(h->chunks, chunks * sizeof *h->chunks, &rc);
    copy->index = copy_of(h->index, h->index_max * sizeof *h->index, &rc);
    if (rc != 0) { /* nothing in them is the copy's yet */
        free(copy->examples);
        free(copy->chunks);
        free(copy->index);
        return rc;
    }
    copy->examples_max = h->examples_max;
    copy->index_max = h->index_max;
    for (uint32_t i = 0; i < chunks; i++)
        if (copy->chunks[i] != NULL)
            chunk_get(copy->chunks[i]);
    for (; copy->examples_len < h->examples_len && rc == 0; copy->examples_len++) {
        struct example *e = &copy->examples[copy->examples_len];

        if (e->targets_len > 1)
            e->targets = copy_of(e->targets, e->targets_len * sizeof *e->targets, &rc);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int copy_head(const struct head *h, struct head **ret_copy)
{
    size_t M = h->settings.features, L = h->labels_max, d = h->settings.dim;
    struct head *copy = calloc(1, sizeof *copy);
    int rc = 0;

    if (copy == NULL)
        return -ENOMEM;
    copy->settings = h->settings;
    copy->labels_len = h->labels_len;
    copy->labels_max = h->labels_max;
    copy->behind = h->behind;
    copy->distrusted_len = h->distrusted_len;
    copy->projection = projection_get(h->projection);
    copy->P = copy_of(h->P, M * M * sizeof *h->P, &rc);
    copy->G = copy_of(h->G, M * M * sizeof *h->G, &rc);
    copy->W = copy_of(h->W, M * L * sizeof *h->W, &rc);
    copy->Q = copy_of(h->Q, M * L * sizeof *h->Q, &rc);
    copy->A = copy_of(h->A, L * L * sizeof *h->A, &rc);
    copy->n = copy_of(h->n, L * sizeof *h->n, &rc);
    copy->S = copy_of(h->S, L * d * sizeof *h->S, &rc);
    copy->trusted_len = copy_of(h->trusted_len, L * sizeof *h->trusted_len, &rc);
    if (rc == 0)
        rc = copy_examples(h, copy);
    if (rc != 0) {
        head_close(copy);
        return rc;
    }
    *ret_copy = copy;
    return 0;
}

/* ---- life ------------------------------------------------------------------------------------ */

void head_audit_close(struct head_audit *a)
{
    if (a == NULL)
        return;
    head_close(a->head);
    free(a->suspects);
    free(a->twins);
    free(a->F);
    free(a->K);
    free(a->Z);
    free(a);
}

int head_audit_open(const struct head *h, struct head_audit **ret_audit)
{
    struct head_audit *a = calloc(1, sizeof *a);
    size_t M = h->settings.features;
    int rc;

    if (a == NULL)
        return -ENOMEM;
    rc = copy_head(h, &a->head);
    if (rc == 0)
        rc = head_distrust(a->head, NULL, 0);
    a->F = malloc(STEP_ROWS * M * sizeof *a->F);
    a->K = malloc(STEP_ROWS * M * sizeof *a->K);
    a->Z = malloc(STEP_ROWS * (size_t)h->labels_max * sizeof *a->Z);
    if (rc == 0 && (a->F == NULL || a->K == NULL || a->Z == NULL))
        rc = -ENOMEM;
    if (rc != 0) {
        head_audit_close(a);
        return rc;
    }
    *ret_audit = a;
    return 0;
}

/* ---- a step ---------------------------------------------------------------------------------- */

static bool examinable(const struct head *h, const struct example *e)
{
    return h->settings.kind == HEAD_SINGLE && e->targets_len == 1 && !e->confirmed &&
           h->n[e->one.label] - e->weight >= HEAD_SUSPECT_OTHERS;
}

static int add_suspect(struct head_audit *a, const struct head_suspect *suspect)
{
    if (a->suspects_len == a->suspects_max) {
        uint32_t max = a->suspects_max * 2 + 64;
        struct head_suspect *bigger = realloc(a->suspects, max * sizeof *bigger);

        if (bigger == NULL)
            return -ENOMEM;
        a->suspects = bigger;
        a->suspects_max = max;
    }
    a->suspects[a->suspects_len++] = *suspect;
    return 0;
}

/* Scores the example without itself. z (L) is its ridge scores with it. */
static int examine(struct head_audit *a, uint32_t slot, double h, const double *z)
{
    const struct head *head = a->head;
    uint32_t own = head->examples[slot].one.label, best = UINT32_MAX;
    double without = (z[own] - h) / (1 - h), highest = -INFINITY;

    for (uint32_t c = 0; c < head->labels_len; c++) {
        if (c == own || !(head->n[c] > 0) || z[c] / (1 - h) <= highest)
            continue;
        highest = z[c] / (1 - h);
        best = c;
    }
    a->examined++;
    if (best == UINT32_MAX || !(highest - without > HEAD_SUSPECT_MARGIN))
        return 0;
    return add_suspect(a, &(struct head_suspect){.id = examples_id(head, slot),
                                                 .label = own,
                                                 .other = best,
                                                 .margin = highest - without});
}

static int most_doubtful_first(const void *x, const void *y)
{
    const struct head_suspect *a = x, *b = y;

    if (a->margin != b->margin)
        return a->margin < b->margin ? 1 : -1;
    if (a->id.hi != b->id.hi)
        return a->id.hi < b->id.hi ? -1 : 1;
    return (a->id.lo > b->id.lo) - (a->id.lo < b->id.lo);
}

/* ---- twins ----------------------------------------------------------------------------------- */

struct print {
    uint64_t hash;
    struct head_id id;
    uint32_t slot;
};

static int by_hash_and_id(const void *x, const void *y)
{
    const struct print *a = x, *b = y;

    if (a->hash != b->hash)
        return a->hash < b->hash ? -1 : 1;
    if (a->id.hi != b->id.hi)
        return a->id.hi < b->id.hi ? -1 : 1;
    return (a->id.lo > b->id.lo) - (a->id.lo < b->id.lo);
}

static uint64_t hash_of(const uint16_t *embedding, uint32_t dim)
{
    uint64_t hash = 0xcbf29ce484222325;

    for (uint32_t i = 0; i < dim; i++)
        hash = (hash ^ embedding[i]) * 0x100000001b3;
    return hash;
}

/* Pairs an example with the first of the same embedding (its smallest id), if their labels differ.
 */
static void pair_up(struct head_audit *a, const struct print *first, const struct print *print)
{
    const struct head *h = a->head;
    uint32_t label = examples_label(h, first->slot), other = examples_label(h, print->slot);

    if (label == other || h->settings.kind == HEAD_MULTI ||
        memcmp(examples_embedding(h, first->slot), examples_embedding(h, print->slot),
               h->settings.dim * sizeof(uint16_t)) != 0)
        return;
    a->twins[a->twins_len++] = (struct head_twin){first->id, print->id, label, other};
}

static int find_twins(struct head_audit *a)
{
    const struct head *h = a->head;
    struct print *prints = malloc((h->examples_len + 1) * sizeof *prints);

    a->twins = malloc((h->examples_len + 1) * sizeof *a->twins);
    if (prints == NULL || a->twins == NULL) {
        free(prints);
        free(a->twins);
        a->twins = NULL;
        return -ENOMEM;
    }
    for (uint32_t slot = 0; slot < h->examples_len; slot++)
        prints[slot] = (struct print){hash_of(examples_embedding(h, slot), h->settings.dim),
                                      examples_id(h, slot), slot};
    if (h->examples_len > 0)
        qsort(prints, h->examples_len, sizeof *prints, by_hash_and_id);
    for (uint32_t i = 1, first = 0; i < h->examples_len; i++) {
        if (prints[i].hash != prints[first].hash)
            first = i;
        else
            pair_up(a, &prints[first], &prints[i]);
    }
    free(prints);
    return 0;
}

int head_audit_step(struct head_audit *a, bool *ret_done)
{
    const struct head *h = a->head;
    uint32_t M = h->settings.features, stride = h->labels_max, len = 0, slots[STEP_ROWS];
    const uint16_t *embeddings[STEP_ROWS];
    int rc = 0;

    for (; a->next < h->examples_len && len < STEP_ROWS; a->next++) {
        if (!examinable(h, &h->examples[a->next]))
            continue;
        embeddings[len] = examples_embedding(h, a->next);
        slots[len++] = a->next;
    }
    if (len > 0) {
        head_features_of(h, embeddings, len, a->F);
        algebra_symm(len, M, a->F, M, h->P, M, a->K, M);
        algebra_gemm(false, false, len, h->labels_len, M, 1, a->F, M, h->W, stride, 0, a->Z,
                     stride);
    }
    for (uint32_t i = 0; i < len && rc == 0; i++)
        rc = examine(a, slots[i],
                     h->examples[slots[i]].weight *
                         algebra_dot(M, a->F + (size_t)i * M, a->K + (size_t)i * M),
                     a->Z + (size_t)i * stride);
    if (rc != 0 || a->next < h->examples_len) {
        *ret_done = false;
        return rc;
    }
    if (a->suspects_len > 0)
        qsort(a->suspects, a->suspects_len, sizeof *a->suspects, most_doubtful_first);
    rc = a->twins == NULL ? find_twins(a) : 0;
    *ret_done = rc == 0;
    return rc;
}

const struct head_suspect *head_audit_suspects(const struct head_audit *a, uint32_t *ret_len,
                                               uint32_t *ret_examined)
{
    *ret_len = a->suspects_len;
    *ret_examined = a->examined;
    return a->suspects;
}

bool head_audit_acts(const struct head_audit *a)
{
    return a->examined >= HEAD_SUSPECT_SET && a->suspects_len > HEAD_SUSPECT_SHARE * a->examined;
}

const struct head_twin *head_audit_twins(const struct head_audit *a, uint32_t *ret_len)
{
    *ret_len = a->twins_len;
    return a->twins;
}
