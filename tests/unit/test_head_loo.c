/* test_head_loo.c -- leave-one-out of any examples: every number against a head that was taught all
 * the others and nothing else, whatever the example's weight and trust; what cannot be scored says
 * so; sets of labels decide by the same rule as answers do.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/backend.h"
#include "kernels/head/head_internal.h"
#include "tests/unit/fault_alloc.h"

enum { D = 12, M = 96, LABELS = 5, N = 300, SEED = 9, LAST = 7, SOFT = 11 };

static struct head_change changes[N];
static struct head_target targets[N][2];
static uint16_t embeddings[N][D];
static struct head_id ids[N];
static uint64_t random_state;

static double uniform(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(random_state >> 11) / 9007199254740992.0;
}

/* Four clusters and one label with a single example; two soft targets; weights of all three kinds.
 * As sets, every third example has a second label, every eleventh none. */
static void make(bool multi)
{
    double centres[LABELS][D];

    random_state = SEED;
    for (int c = 0; c < LABELS; c++)
        for (int j = 0; j < D; j++)
            centres[c][j] = uniform() - 0.5;
    for (int i = 0; i < N; i++) {
        int c = i == LAST ? LABELS - 1 : i % (LABELS - 1);
        float x[D], length = 0;

        for (int j = 0; j < D; j++) {
            x[j] = (float)(centres[c][j] + 0.9 * (uniform() - 0.5));
            length += x[j] * x[j];
        }
        for (int j = 0; j < D; j++)
            x[j] /= sqrtf(length);
        head_embedding_pack(x, D, embeddings[i]);
        ids[i] = (struct head_id){.hi = (uint64_t)i * 77 % 1009, .lo = (uint64_t)i};
        targets[i][0] = (struct head_target){(uint32_t)c, 1};
        changes[i] = (struct head_change){.id = ids[i],
                                          .embedding = embeddings[i],
                                          .targets = targets[i],
                                          .targets_len = 1,
                                          .weight = i % 5 == 0   ? 2
                                                    : i % 7 == 1 ? 0.25
                                                                 : 1};
        if (multi && i % 3 == 0 && c < LABELS - 1) {
            targets[i][0] = (struct head_target){(uint32_t)c / 2, 1};
            targets[i][1] = (struct head_target){(uint32_t)c / 2 + 1, 1};
            changes[i].targets_len = 2;
        }
        if (multi && i % 11 == 5) {
            changes[i].targets_len = 0;
            changes[i].none = true;
        }
        if (!multi && (i == SOFT || i == SOFT + 40)) {
            targets[i][0] = (struct head_target){0, 0.5f};
            targets[i][1] = (struct head_target){1, 0.5f};
            changes[i].targets_len = 2;
        }
    }
}

static bool tuned;

static struct head *taught(enum head_kind kind, const struct head_change *what, uint32_t len)
{
    struct head_settings settings = {
        .dim = D, .features = M, .seed = 1, .lambda = 0.15, .kind = kind, .tuned = tuned};
    struct head *h;

    assert_int_equal(head_open(&settings, &h), 0);
    assert_int_equal(head_labels_grow(h, LABELS), 0);
    assert_int_equal(head_apply(h, what, len), 0);
    return h;
}

static struct head *taught_without(enum head_kind kind, uint32_t i)
{
    struct head_change rest[N];

    memcpy(rest, changes, sizeof rest);
    rest[i] = rest[N - 1];
    return taught(kind, rest, N - 1);
}

static void near(double have, double want)
{
    if (!(isnan(have) && isnan(want)) && !(fabs(have - want) <= 1e-9 * (1 + fabs(want))))
        fail_msg("%.15g, not %.15g", have, want);
}

static bool has_label(uint32_t i, uint32_t label)
{
    for (uint32_t k = 0; k < changes[i].targets_len; k++)
        if (changes[i].targets[k].label == label)
            return true;
    return false;
}

static bool shares(uint32_t i, uint32_t j)
{
    for (uint32_t k = 0; k < changes[i].targets_len; k++)
        if (has_label(j, changes[i].targets[k].label))
            return true;
    return false;
}

static int descending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x < y) - (x > y);
}

static double mean_top(double *similar, uint32_t len)
{
    double sum = 0;
    uint32_t k = len < HEAD_NEIGHBOURS ? len : HEAD_NEIGHBOURS;

    qsort(similar, len, sizeof *similar, descending);
    for (uint32_t j = 0; j < k; j++)
        sum += similar[j] / k;
    return sum;
}

/* What a head that has never seen example i knows of it. */
struct unseen {
    double scores[LABELS][HEAD_SCORES];
    double near, other; /* mean cosine of the five nearest; of those that share no label */
    float similar[N];
};

static void ridge_of(const struct head *without, uint32_t i, double z[LABELS])
{
    double f[M];

    memset(z, 0, LABELS * sizeof *z);
    head_features_of(without, &(const uint16_t *){embeddings[i]}, 1, f);
    for (uint32_t c = 0; c < LABELS; c++)
        for (uint32_t m = 0; m < M; m++)
            z[c] += f[m] * without->W[m * without->labels_max + c];
}

static void neighbours_of(uint32_t i, struct unseen *u)
{
    float x[D];
    double all[N], other[N];
    uint32_t all_len = 0, other_len = 0;

    head_embedding_unpack(embeddings[i], D, x);
    backend_cpu()->head_similarity(NULL, u->similar, x, embeddings[0], 1, N, D);
    for (uint32_t j = 0; j < N; j++) {
        if (j == i)
            continue;
        all[all_len++] = u->similar[j];
        if (!shares(i, j))
            other[other_len++] = u->similar[j];
    }
    u->near = mean_top(all, all_len);
    u->other = mean_top(other, other_len);
}

/* The largest cosine to a trusted example of a label, or, where there is none, to any. */
static double nearest(const struct unseen *u, uint32_t i, uint32_t label)
{
    double best[2] = {-1, -1};
    bool trusted = false;

    for (uint32_t j = 0; j < N; j++) {
        bool soft = changes[j].targets_len > 1;

        if (j == i || (soft ? label != 0 : !has_label(j, label)))
            continue;
        best[0] = fmax(best[0], u->similar[j]);
        if (changes[j].weight >= 0.5) {
            best[1] = fmax(best[1], u->similar[j]);
            trusted = true;
        }
    }
    return best[trusted];
}

/* The five scores by retraining; the count score is the full head's. */
static void unseen_single(const struct derived *full, uint32_t i, struct unseen *u)
{
    struct head *h = taught_without(HEAD_SINGLE, i);
    struct derived d;
    double z[LABELS], *T;
    float x[D];

    neighbours_of(i, u);
    head_embedding_unpack(embeddings[i], D, x);
    ridge_of(h, i, z);
    assert_int_equal(derived_make(h, &d), 0);
    assert_int_equal(d.len, LABELS);
    for (uint32_t c = 0; c < LABELS; c++) {
        double lda = 1 / (2 * d.n[c]), prototype = 0;

        T = d.T + (size_t)c * LABELS;
        for (uint32_t k = 0; k < LABELS; k++)
            lda += z[k] * T[k];
        for (uint32_t j = 0; j < D; j++)
            prototype += x[j] * d.prototypes[c * D + j];
        u->scores[c][0] = z[c];
        u->scores[c][1] = 0.05 * d.total * (lda - T[c] / 2);
        u->scores[c][2] = 0.05 * full->total * full->kappa / full->n[c];
        u->scores[c][3] = prototype;
        u->scores[c][4] = nearest(u, i, c);
    }
    derived_done(&d);
    head_close(h);
}

static double novelty_of(const struct head *h, double maximum, double cosine)
{
    return -((maximum - h->novelty_mean[0]) / h->novelty_scale[0] +
             (cosine - h->novelty_mean[1]) / h->novelty_scale[1]);
}

static void same_single(const struct head *h, const struct unseen *u, uint32_t label,
                        const struct head_loo_item *item)
{
    double p[LABELS], total = 0, squares = 0, highest = -INFINITY, other = -INFINITY;
    uint32_t best = 0;

    for (uint32_t c = 0; c < LABELS; c++) {
        double s = 0;

        for (int k = 0; k < HEAD_SCORES; k++)
            s += u->scores[c][k] * head_coefficients(h)[k];
        total += p[c] = exp(s - 100);
        best = p[c] > p[best] ? c : best;
        highest = fmax(highest, u->scores[c][0]);
        if (c != label)
            other = fmax(other, u->scores[c][0]);
    }
    for (uint32_t c = 0; c < LABELS; c++)
        squares += p[c] / total * p[c] / total;
    assert_int_equal(item->label, label);
    assert_int_equal(item->predicted, best);
    assert_int_equal(item->right, best == label);
    near(item->p_label, p[label] / total);
    near(item->p_predicted, p[best] / total);
    near(item->p_squares, squares);
    near(item->novelty_known, novelty_of(h, highest, u->near));
    near(item->novelty_unknown, novelty_of(h, other, u->other));
}

static void test_is_retraining_without(void **state)
{
    struct head_loo_item items[N + 1];
    struct head_id asked[N + 1];
    struct head *h;
    struct derived full;
    uint32_t wrong = 0;

    (void)state;
    make(false);
    h = taught(HEAD_SINGLE, changes, N);
    assert_int_equal(head_fit(h), 0);
    assert_int_equal(derived_make(h, &full), 0);
    for (uint32_t i = 0; i < N; i++)
        asked[i] = ids[N - 1 - i];
    asked[N] = (struct head_id){1u << 30, 1};
    assert_int_equal(head_loo(h, asked, N + 1, items), 0);
    assert_int_equal(items[N].state, HEAD_LOO_ABSENT);
    for (uint32_t i = 0; i < N; i++) {
        const struct head_loo_item *item = &items[N - 1 - i];
        struct unseen u;

        if (i == LAST)
            assert_int_equal(item->state, HEAD_LOO_LAST);
        else if (i == SOFT || i == SOFT + 40)
            assert_int_equal(item->state, HEAD_LOO_SOFT);
        else {
            assert_int_equal(item->state, HEAD_LOO_SCORED);
            unseen_single(&full, i, &u);
            same_single(h, &u, targets[i][0].label, item);
            wrong += !item->right;
        }
    }
    assert_in_range(wrong, 1, N / 2); /* the labels overlap, and can be learned */
    derived_done(&full);
    head_close(h);
}

/* The fit's own rows are the same examples scored the same way. */
static void test_agrees_with_the_fit(void **state)
{
    struct head_loo_item items[N];
    const struct head_loo_row *rows;
    struct head *h;
    uint32_t len, at = 0;

    (void)state;
    make(false);
    tuned = true;
    h = taught(HEAD_SINGLE, changes, N);
    tuned = false;
    assert_int_equal(head_fit(h), 0);
    rows = head_fit_rows(h, &len);
    assert_true(len > N / 2 && len < N);
    assert_int_equal(head_loo(h, ids, N, items), 0);
    for (uint32_t k = 0; k < 2 * 1009; k++) /* by ascending id, the held-out ones first */
        for (uint32_t i = 0; i < N; i++) {
            if (ids[i].hi != k % 1009 || head_held_out(ids[i]) != (k < 1009) ||
                items[i].state != HEAD_LOO_SCORED || changes[i].weight < 1)
                continue;
            assert_true(at < len);
            near(items[i].p_label, rows[at].p_label);
            near(items[i].p_predicted, rows[at].p_predicted);
            near(items[i].p_squares, rows[at].p_squares);
            assert_int_equal(items[i].predicted, rows[at].predicted);
            at++;
        }
    assert_int_equal(at, len);
    head_close(h);
}

/* A label whose only trusted example is the one left out is left with its distrusted ones. */
static void test_the_last_trusted_one(void **state)
{
    struct head_loo_item item;
    struct head *h;
    struct derived full;
    struct unseen u;

    (void)state;
    make(false);
    for (uint32_t i = 0; i < N; i++)
        changes[i].weight = i % 4 == 2 && i != 50 && i != SOFT + 40 ? 0.25 : 1;
    h = taught(HEAD_SINGLE, changes, N);
    assert_int_equal(head_fit(h), 0);
    assert_int_equal(derived_make(h, &full), 0);
    assert_int_equal(h->trusted_len[2], 1);
    assert_int_equal(head_loo(h, &ids[50], 1, &item), 0);
    unseen_single(&full, 50, &u);
    same_single(h, &u, 2, &item);
    derived_done(&full);
    head_close(h);
}

static void same_set(const struct head *h, uint32_t i, const struct head_loo_item *item,
                     const uint8_t *decisions)
{
    struct head *without = taught_without(HEAD_MULTI, i);
    double z[LABELS], p_label = 1, p_predicted = 1, squares = 1, best = -1, highest = -INFINITY,
                      other = -INFINITY;
    uint32_t wanted_len = 0, chosen_len = 0, hits = 0, predicted = UINT32_MAX;
    struct unseen u;

    ridge_of(without, i, z);
    neighbours_of(i, &u);
    for (uint32_t c = 0; c < LABELS; c++) {
        const struct calibration *k = &h->calibration;
        double p = 1 / (1 + exp(-(k->slope * z[c] + k->offset + k->own[c])));
        bool wanted = has_label(i, c), chosen = p >= k->thresholds[c];

        highest = fmax(highest, z[c]);
        if (!wanted)
            other = fmax(other, z[c]);
        if (!(without->n[c] > 0)) {
            assert_int_equal(decisions[c], 0);
            continue;
        }
        assert_int_equal(decisions[c], wanted * HEAD_LOO_WANTED + chosen * HEAD_LOO_CHOSEN);
        p_label *= wanted ? p : 1 - p;
        p_predicted *= chosen ? p : 1 - p;
        squares *= p * p + (1 - p) * (1 - p);
        wanted_len += wanted;
        chosen_len += chosen;
        hits += wanted && chosen;
        predicted = p > best ? c : predicted;
        best = fmax(best, p);
    }
    assert_int_equal(item->wanted, wanted_len);
    assert_int_equal(item->chosen, chosen_len);
    assert_int_equal(item->hits, hits);
    assert_int_equal(item->predicted, predicted);
    assert_int_equal(item->right, hits == wanted_len && hits == chosen_len);
    near(item->p_label, p_label);
    near(item->p_predicted, p_predicted);
    near(item->p_squares, squares);
    near(item->novelty_known, novelty_of(h, highest, u.near));
    near(item->novelty_unknown, novelty_of(h, other, u.other));
    head_close(without);
}

static void test_sets(void **state)
{
    struct head_loo_item items[N + 1], plain[N + 1];
    struct head_id asked[N + 1];
    uint8_t decisions[N + 1][LABELS];
    struct head *h;
    uint32_t right = 0;

    (void)state;
    make(true);
    h = taught(HEAD_MULTI, changes, N);
    assert_int_equal(head_fit(h), 0);
    asked[0] = (struct head_id){1u << 30, 1};
    memcpy(asked + 1, ids, sizeof ids);
    memset(decisions, 0xff, sizeof decisions);
    assert_int_equal(head_loo_sets(h, asked, N + 1, items, decisions[0]), 0);
    assert_int_equal(items[0].state, HEAD_LOO_ABSENT);
    for (uint32_t c = 0; c < LABELS; c++)
        assert_int_equal(decisions[0][c], 0);
    for (uint32_t i = 0; i < N; i++) {
        assert_int_equal(items[i + 1].state, HEAD_LOO_SCORED);
        assert_int_equal(items[i + 1].label,
                         changes[i].targets_len > 0 ? targets[i][0].label : UINT32_MAX);
        same_set(h, i, &items[i + 1], decisions[i + 1]);
        right += items[i + 1].right;
    }
    assert_in_range(right, N / 4, N - 1);
    assert_int_equal(head_loo(h, asked, N + 1, plain), 0);
    for (uint32_t i = 0; i <= N; i++)
        assert_true(plain[i].state == items[i].state && plain[i].hits == items[i].hits &&
                    plain[i].p_label == items[i].p_label);
    head_close(h);
}

static void test_what_it_cannot(void **state)
{
    struct head_loo_item items[N];
    uint8_t decisions[LABELS];
    struct head *h;

    (void)state;
    make(false);
    h = taught(HEAD_SINGLE, changes, 0);
    assert_int_equal(head_fit(h), 0);
    assert_int_equal(head_loo(h, ids, 2, items), 0);
    assert_true(items[0].state == HEAD_LOO_ABSENT && items[1].state == HEAD_LOO_ABSENT);
    assert_int_equal(head_loo(h, ids, 0, items), 0);
    assert_int_equal(head_loo_sets(h, ids, 1, items, decisions), -EINVAL);
    assert_int_equal(head_apply(h, changes, 6),
                     0); /* two examples of label 0, too few for novelty */
    assert_int_equal(head_fit(h), 0);
    assert_int_equal(head_loo(h, ids, 6, items), 0);
    assert_int_equal(items[2].state, HEAD_LOO_LAST);
    assert_int_equal(items[4].state, HEAD_LOO_SCORED);
    assert_true(isnan(items[4].novelty_known) && isnan(items[4].novelty_unknown));
    h->behind = true;
    assert_int_equal(head_loo(h, ids, 6, items), -EAGAIN);
    h->behind = false;
    head_close(h);
}

static void test_no_memory(void **state)
{
    enum head_kind kinds[] = {HEAD_SINGLE, HEAD_MULTI};
    struct head_loo_item items[20], good[20];

    (void)state;
    for (int k = 0; k < 2; k++) {
        struct head *h;
        uint64_t n = 1;
        int rc;

        make(kinds[k] == HEAD_MULTI);
        h = taught(kinds[k], changes, N);
        assert_int_equal(head_fit(h), 0);
        assert_int_equal(head_loo(h, ids, 20, good), 0);
        for (;; n++) {
            fault_alloc_arm(n, false);
            rc = head_loo(h, ids, 20, items);
            if (!fault_alloc_disarm())
                break;
            assert_int_equal(rc, -ENOMEM);
        }
        assert_int_equal(rc, 0);
        assert_true(n > 10);
        for (int i = 0; i < 20; i++)
            assert_true(items[i].state == good[i].state && items[i].p_label == good[i].p_label);
        head_close(h);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_is_retraining_without), cmocka_unit_test(test_agrees_with_the_fit),
        cmocka_unit_test(test_the_last_trusted_one),  cmocka_unit_test(test_sets),
        cmocka_unit_test(test_what_it_cannot),        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
