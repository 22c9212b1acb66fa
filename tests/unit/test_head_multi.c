/* test_head_multi.c -- heads of sets of labels, against brute force: the state against one solution
 * of the whole set, the fit against scores from really leaving each example out, and the head's
 * promises (order, forgetting, images) for sets that may be empty, soft, or of several labels.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/head/head_internal.h"
#include "tests/unit/fault_alloc.h"

enum { D = 16, M = 64, LABELS = 6, MANY = 240, ASKED = 8 };

static const struct head_settings settings = {
    .dim = D, .features = M, .seed = 3, .lambda = 0.15, .kind = HEAD_MULTI};

/* Texts of none to three labels (a text lies between the centres of its labels); label 4 is rare,
 * and label 5 has one example. Every ninth target is soft, every eleventh weight is not 1. */
struct world {
    struct head_change changes[MANY];
    struct head_target targets[MANY][LABELS];
    uint16_t embeddings[MANY][D];
    float asked[ASKED][D];
};

static uint64_t draw(uint64_t *z)
{
    uint64_t x = *z += 0x9E3779B97F4A7C15;

    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
    x = (x ^ x >> 27) * 0x94D049BB133111EB;
    return x ^ x >> 31;
}

static float around_zero(uint64_t *z)
{
    return (float)(draw(z) >> 40) * 0x1p-24f + (float)(draw(z) >> 40) * 0x1p-24f - 1;
}

static void place(uint64_t *z, const float (*centres)[D], const struct head_target *targets,
                  uint32_t len, float *row)
{
    float squares = 0;

    for (int j = 0; j < D; j++) {
        row[j] = 0.6f * around_zero(z);
        for (uint32_t i = 0; i < len; i++)
            row[j] += centres[targets[i].label][j];
        squares += row[j] * row[j];
    }
    for (int j = 0; j < D; j++)
        row[j] /= sqrtf(squares);
}

static int world_make(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    float centres[LABELS][D], row[D];
    uint64_t z = 8;

    assert_non_null(w);
    for (int c = 0; c < LABELS; c++)
        for (int j = 0; j < D; j++)
            centres[c][j] = around_zero(&z);
    for (int i = 0; i < MANY; i++) {
        struct head_change *c = &w->changes[i];

        for (uint32_t label = 0; label < LABELS; label++)
            if (label < 4 ? draw(&z) % 3 == 0 : label == 4 ? i % 16 == 3 : i == 70)
                w->targets[i][c->targets_len++] =
                    (struct head_target){label, i % 9 == 0 ? 0.5f : 1.0f};
        place(&z, (const float(*)[D])centres, w->targets[i], c->targets_len, row);
        head_embedding_pack(row, D, w->embeddings[i]);
        c->id = (struct head_id){draw(&z), draw(&z)};
        c->embedding = w->embeddings[i];
        c->targets = w->targets[i];
        c->none = c->targets_len == 0;
        c->weight = i % 11 == 4 ? 0.5 : i % 11 == 7 ? 2 : 1;
    }
    for (int q = 0; q < ASKED; q++)
        place(&z, (const float(*)[D])centres, w->targets[q * 5], w->changes[q * 5].targets_len,
              w->asked[q]);
    *state = w;
    return 0;
}

static int world_free(void **state)
{
    free(*state);
    return 0;
}

static struct head *empty(void)
{
    struct head *h = NULL;

    assert_int_equal(head_open(&settings, &h), 0);
    assert_int_equal(head_labels_grow(h, LABELS), 0);
    return h;
}

static struct head *taught(const struct world *w, uint32_t len, uint32_t step)
{
    struct head *h = empty();

    for (uint32_t i = 0; i < len; i += step)
        assert_int_equal(head_apply(h, w->changes + i, i + step < len ? step : len - i), 0);
    return h;
}

static void near(double have, double want, double tolerance)
{
    if (!(fabs(have - want) <= tolerance * (1 + fabs(want))))
        fail_msg("have %.17g, want %.17g (tolerance %g)", have, want, tolerance);
}

static void same_state(const struct head *a, const struct head *b)
{
    assert_int_equal(head_examples_len(a), head_examples_len(b));
    for (uint32_t c = 0; c < LABELS; c++)
        near(a->n[c], b->n[c], 1e-12);
    for (uint32_t i = 0; i < M; i++)
        for (uint32_t c = 0; c < LABELS; c++)
            near(a->W[i * a->labels_max + c], b->W[i * b->labels_max + c], 1e-9);
}

static void same_calibration(const struct calibration *a, const struct calibration *b)
{
    near(a->slope, b->slope, 1e-9);
    near(a->offset, b->offset, 1e-9);
    near(a->threshold, b->threshold, 1e-9);
    for (uint32_t c = 0; c < LABELS; c++) {
        near(calibration_own(a, c), calibration_own(b, c), 1e-9);
        near(calibration_threshold(a, c), calibration_threshold(b, c), 1e-9);
    }
}

/* ---- the state ------------------------------------------------------------------------------- */

static void test_state_is_one_solution(void **state)
{
    const struct world *w = *state;
    const uint32_t steps[] = {1, 7, MANY}; /* the last takes the batch path */

    for (int i = 0; i < 3; i++) {
        struct head *h = taught(w, MANY, steps[i]);
        double distance = 1;

        assert_int_equal(head_examples_len(h), MANY);
        assert_int_equal(head_check(h, &distance), 0);
        assert_true(distance < 1e-9);
        head_close(h);
    }
}

static void test_order_and_forgetting(void **state)
{
    const struct world *w = *state;
    struct head *h = taught(w, MANY / 2, 1), *other = empty();

    for (uint32_t i = MANY; i-- > 0;) { /* all, backwards, with first thoughts that are changed */
        struct head_change c = w->changes[i];

        if (i % 5 == 0) {
            c.targets_len = 0;
            c.none = true;
            assert_int_equal(head_apply(other, &c, 1), 0);
        }
        assert_int_equal(head_apply(other, &w->changes[i], 1), 0);
        assert_int_equal(head_apply(other, &w->changes[i], 1), 0); /* twice is once */
    }
    assert_int_equal(head_examples_len(other), MANY);
    for (uint32_t i = MANY / 2; i < MANY; i++) {
        struct head_change gone = {.id = w->changes[i].id};

        assert_int_equal(head_apply(other, &gone, 1), 0);
    }
    same_state(h, other);
    assert_int_equal(head_fit(h), 0);
    assert_int_equal(head_fit(other), 0);
    same_calibration(&h->calibration, &other->calibration);
    near(h->novelty_mean[0], other->novelty_mean[0], 1e-9);
    near(h->novelty_scale[1], other->novelty_scale[1], 1e-9);
    head_close(h);
    head_close(other);
}

static void test_none_is_a_target(void **state)
{
    const struct world *w = *state;
    struct head *h = empty();
    struct head_change c = w->changes[0], gone = {.id = c.id};

    c.targets_len = 0;
    c.none = true;
    assert_int_equal(head_apply(h, &c, 1), 0);
    assert_int_equal(head_examples_len(h), 1);
    assert_true(h->G[0] > 0 || h->G[M + 1] > 0 || h->G[2 * M + 2] > 0);
    assert_int_equal(head_fit_stale(h), 1);
    assert_int_equal(head_apply(h, &c, 1), 0);
    assert_int_equal(head_fit_stale(h), 1); /* nothing has changed */
    assert_int_equal(head_apply(h, &gone, 1), 0);
    assert_int_equal(head_examples_len(h), 0);
    for (uint32_t i = 0; i < M; i++)
        assert_true(fabs(h->G[i * M + i]) < 1e-12);
    head_close(h);
}

/* ---- the fit --------------------------------------------------------------------------------- */

struct brute {
    uint32_t len;
    double z[MANY][LABELS], t[MANY][LABELS]; /* t NAN: not counted */
    double positives[LABELS], n[LABELS];
};

/* Scores every fully trusted example with a head that has never seen it. */
static void leave_out(const struct world *w, struct brute *b)
{
    memset(b, 0, sizeof *b);
    for (int i = 0; i < MANY; i++)
        for (uint32_t k = 0; k < w->changes[i].targets_len; k++)
            b->n[w->targets[i][k].label] += w->changes[i].weight * w->targets[i][k].value;
    for (int i = 0; i < MANY; i++) {
        struct head *h = empty();
        struct head_change others[MANY];
        double f[M], *t = b->t[b->len];

        if (w->changes[i].weight < 1) {
            head_close(h);
            continue;
        }
        for (int j = 0, k = 0; j < MANY; j++)
            if (j != i)
                others[k++] = w->changes[j];
        assert_int_equal(head_apply(h, others, MANY - 1), 0);
        head_features_of(h, &(const uint16_t *){w->embeddings[i]}, 1, f);
        for (int c = 0; c < LABELS; c++)
            for (int m = 0; m < M; m++)
                b->z[b->len][c] += f[m] * h->W[m * h->labels_max + c];
        for (uint32_t k = 0; k < w->changes[i].targets_len; k++)
            t[w->targets[i][k].label] = w->targets[i][k].value;
        for (int c = 0; c < LABELS; c++) {
            if (t[c] > 0 && !(h->n[c] > 0))
                t[c] = NAN;
            else
                b->positives[c] += t[c];
        }
        b->len++;
        head_close(h);
    }
}

static double probability(const struct calibration *c, const struct brute *b, uint32_t i,
                          uint32_t label)
{
    return 1 / (1 + exp(-(c->slope * b->z[i][label] + c->offset + c->own[label])));
}

/* At the minimum every derivative vanishes: the likelihood's pull balances the prior's. */
static void stationary(const struct calibration *c, const struct brute *b)
{
    double u = log(c->slope / 18) / 0.25, offset = (c->offset + 6.5) / 4;

    for (uint32_t label = 0; label < LABELS; label++) {
        double own = c->own[label];

        for (uint32_t i = 0; i < b->len; i++) {
            double g = probability(c, b, i, label) - b->t[i][label];

            if (isnan(g))
                continue;
            u += g * c->slope * b->z[i][label];
            offset += g;
            own += g;
        }
        if (b->n[label] >= 20)
            near(own, 0, 1e-7);
        else
            assert_true(c->own[label] == 0);
    }
    near(u, 0, 1e-6);
    near(offset, 0, 1e-7);
}

static double f1_at(const struct calibration *c, const struct brute *b, uint32_t label,
                    double threshold)
{
    uint32_t first = label < LABELS ? label : 0, end = label < LABELS ? label + 1 : LABELS;
    double hits = 0, chosen = 0, positives = 0;

    for (uint32_t l = first; l < end; l++) {
        positives += b->positives[l];
        for (uint32_t i = 0; i < b->len; i++) {
            if (isnan(b->t[i][l]) || probability(c, b, i, l) < threshold)
                continue;
            hits += b->t[i][l];
            chosen++;
        }
    }
    return 2 * hits / (chosen + positives);
}

/* The threshold before it was drawn towards `first`: no other cut does better. */
static void best_cut(const struct calibration *c, const struct brute *b, uint32_t label,
                     double threshold, double first, double pull)
{
    double positives = 0, logit, at, best = 0;

    for (uint32_t l = 0; l < LABELS; l++)
        if (label == LABELS || label == l)
            positives += b->positives[l];
    logit = log(threshold / (1 - threshold)) * (positives + pull) - pull * log(first / (1 - first));
    at = 1 / (1 + exp(-logit / positives));
    for (int i = 50; i < 950; i++)
        best = fmax(best, f1_at(c, b, label, i / 1000.0));
    assert_true(best > 0.5);
    if (f1_at(c, b, label, at) < best - 1e-9)
        fail_msg("label %u: F1 %.4f at %.4f, %.4f is possible", label, f1_at(c, b, label, at), at,
                 best);
}

static void test_fit_is_brute_force(void **state)
{
    const struct world *w = *state;
    struct head *h = taught(w, MANY, 9);
    struct brute *b = malloc(sizeof *b);
    const struct calibration *c = &h->calibration;

    assert_non_null(b);
    leave_out(w, b);
    assert_true(b->n[4] < 20 && b->n[5] > 0 && b->n[0] > 20);
    assert_int_equal(head_fit(h), 0);
    assert_int_equal(head_fit_stale(h), 0);
    assert_int_equal(c->len, LABELS);
    stationary(c, b);
    best_cut(c, b, LABELS, c->threshold, 0.5, 20);
    for (uint32_t label = 0; label < LABELS; label++) {
        if (b->n[label] >= 20)
            best_cut(c, b, label, c->thresholds[label], c->threshold, 50);
        else
            assert_true(c->thresholds[label] == c->threshold);
    }
    free(b);
    head_close(h);
}

static void test_few_examples_are_not_fitted(void **state)
{
    const struct world *w = *state;
    struct head *h = taught(w, 3, 1);
    struct calibration medians;

    calibration_init(&medians);
    assert_int_equal(head_fit(h), 0);
    assert_true(h->calibration.slope == medians.slope && h->calibration.len == 0);
    assert_true(calibration_threshold(&h->calibration, 0) == 0.5);
    head_close(h);
}

/* A fit that finds no memory leaves the last one, and is the same fit when it is repeated. */
static void test_every_allocation_of_a_fit(void **state)
{
    const struct world *w = *state;
    struct head *h = taught(w, MANY, 9), *other = taught(w, MANY, 9);
    struct head_change gone = {.id = w->changes[0].id};
    uint64_t n = 1;

    assert_int_equal(head_fit(other), 0);
    assert_int_equal(head_fit(h), 0);
    assert_int_equal(head_apply(h, &gone, 1), 0);
    assert_int_equal(head_apply(h, &w->changes[0], 1), 0);
    for (;; n++) {
        int rc;

        fault_alloc_arm(n, false);
        rc = head_fit(h);
        if (!fault_alloc_disarm()) {
            assert_int_equal(rc, 0);
            break;
        }
        assert_int_equal(rc, -ENOMEM);
        assert_int_equal(head_fit_stale(h), 2);
        same_calibration(&h->calibration, &other->calibration);
    }
    assert_true(n > 10);
    assert_int_equal(head_fit_stale(h), 0);
    same_calibration(&h->calibration, &other->calibration);
    head_close(h);
    head_close(other);
}

/* ---- answers --------------------------------------------------------------------------------- */

static void ask(const struct head_view *v, const struct world *w, const uint8_t *allowed,
                struct head_answer *answers, float *p, float *shares)
{
    void *scratch = aligned_alloc(64, (head_view_scratch_bytes(v, ASKED) + 63) / 64 * 64);

    assert_non_null(scratch);
    assert_int_equal(head_view_score(v, w->asked[0], ASKED, allowed, scratch, answers, p, shares),
                     0);
    free(scratch);
}

static void test_answers(void **state)
{
    const struct world *w = *state;
    const uint8_t allowed[LABELS] = {0, 1, 1, 0, 0, 0};
    struct head *h = taught(w, MANY, 9);
    struct head_answer answers[ASKED], some[ASKED];
    float p[ASKED * LABELS], q[ASKED * LABELS], shares[ASKED * LABELS * HEAD_SCORES];
    struct head_view *v;

    assert_int_equal(head_fit(h), 0);
    assert_int_equal(head_publish(h, 0.05, &v), 0);
    assert_int_equal(head_view_kind(v), HEAD_MULTI);
    assert_true(isfinite(head_view_novelty_max(v)));
    for (uint32_t c = 0; c < LABELS; c++)
        assert_true(head_view_threshold(v, c) == calibration_threshold(&h->calibration, c));
    ask(v, w, NULL, answers, p, shares);
    ask(v, w, allowed, some, q, NULL);
    for (int i = 0; i < ASKED; i++) {
        uint16_t packed[D];
        double f[M];

        head_embedding_pack(w->asked[i], D, packed);
        head_features_of(h, &(const uint16_t *){packed}, 1, f);
        for (uint32_t c = 0; c < LABELS; c++) {
            double z = 0;

            for (int m = 0; m < M; m++)
                z += f[m] * h->W[m * h->labels_max + c];
            near(p[i * LABELS + c],
                 multi_probability(h->calibration.slope * z + h->calibration.offset +
                                   calibration_own(&h->calibration, c)),
                 2e-3); /* the view's features are of fp32, not fp16 */
            near(shares[(i * LABELS + c) * HEAD_SCORES], h->calibration.slope * z, 2e-2);
            assert_true(q[i * LABELS + c] == (allowed[c] ? p[i * LABELS + c] : 0));
            assert_true(p[i * LABELS + answers[i].label] >= p[i * LABELS + c]);
        }
        assert_int_equal(answers[i].neighbours_len, HEAD_NEIGHBOURS);
        assert_true(allowed[some[i].label]);
    }
    head_view_free(v);
    head_close(h);
}

static void test_a_set_of_nothing_answers_nothing(void **state)
{
    const struct world *w = *state;
    struct head *h = empty();
    struct head_answer answers[ASKED];
    float p[ASKED * LABELS];
    struct head_view *v;

    for (int i = 0; i < 30; i++) {
        struct head_change c = w->changes[i];

        c.targets_len = 0;
        c.none = true;
        assert_int_equal(head_apply(h, &c, 1), 0);
    }
    assert_int_equal(head_fit(h), 0);
    assert_int_equal(head_publish(h, 0.05, &v), 0);
    ask(v, w, NULL, answers, p, NULL);
    for (int i = 0; i < ASKED; i++)
        assert_true(answers[i].label == UINT32_MAX && !answers[i].novel && p[i * LABELS] == 0);
    head_view_free(v);
    head_close(h);
}

/* A view that found an example of no label among the nearest says so. */
static void test_a_neighbour_of_no_label(void **state)
{
    const struct world *w = *state;
    struct head *h = taught(w, MANY, 9);
    struct head_answer answers[ASKED];
    float p[ASKED * LABELS];
    struct head_view *v;
    bool found = false;

    assert_int_equal(head_publish(h, 0.05, &v), 0);
    ask(v, w, NULL, answers, p, NULL);
    for (int i = 0; i < ASKED; i++)
        for (uint32_t n = 0; n < answers[i].neighbours_len; n++) {
            uint32_t slot = examples_find(h, answers[i].neighbours[n].id);

            assert_int_equal(answers[i].neighbours[n].label, examples_label(h, slot));
            found |= answers[i].neighbours[n].label == UINT32_MAX;
        }
    assert_true(found);
    head_view_free(v);
    head_close(h);
}

/* ---- keeping, auditing, bad input ------------------------------------------------------------ */

static void test_image(void **state)
{
    const struct world *w = *state;
    struct head *h = taught(w, MANY, 9), *back = NULL, *no = NULL;
    struct head_settings single = settings;
    size_t bytes = head_image_bytes(h);
    uint8_t *image = malloc(bytes), *again = malloc(bytes);

    assert_true(image != NULL && again != NULL);
    head_image_write(h, image);
    single.kind = HEAD_SINGLE;
    assert_int_equal(head_image_read(&single, image, bytes, &no), -EINVAL);
    assert_int_equal(head_image_read(&settings, image, bytes, &back), 0);
    head_image_write(back, again);
    assert_memory_equal(image, again, bytes);
    assert_int_equal(head_fit(h), 0);
    assert_int_equal(head_fit(back), 0);
    assert_memory_equal(h->calibration.thresholds, back->calibration.thresholds,
                        LABELS * sizeof(double));
    assert_true(h->calibration.slope == back->calibration.slope);
    free(image);
    free(again);
    head_close(h);
    head_close(back);
}

static void test_an_audit_finds_nothing(void **state)
{
    const struct world *w = *state;
    struct head *h = taught(w, MANY, 9);
    struct head_change twin = w->changes[0];
    struct head_target other = {(w->targets[0][0].label + 1) % LABELS, 1};
    struct head_audit *a;
    uint32_t len, examined;
    bool done = false;

    twin.id.lo++;
    twin.targets = &other;
    twin.targets_len = 1;
    twin.none = false;
    assert_int_equal(head_apply(h, &twin, 1), 0);
    assert_int_equal(head_audit_open(h, &a), 0);
    while (!done)
        assert_int_equal(head_audit_step(a, &done), 0);
    head_audit_suspects(a, &len, &examined);
    assert_int_equal(len + examined, 0);
    head_audit_twins(a, &len);
    assert_int_equal(len, 0);
    head_audit_close(a);
    head_close(h);
}

static void test_bad_changes(void **state)
{
    const struct world *w = *state;
    struct head *h = taught(w, 20, 20), *one;
    struct head_settings single = settings;
    struct head_target too_much[] = {{0, 1.5f}}, nothing[] = {{0, 0}}, twice[] = {{1, 1}, {1, 1}};
    struct head_target unknown[] = {{LABELS, 1}}, two[] = {{0, 1}, {1, 1}};
    const struct head_target *const bad[] = {too_much, nothing, twice, unknown};
    struct head_change c = w->changes[30];
    double distance = 1;

    c.none = false;
    for (int i = 0; i < 4; i++) {
        c.targets = bad[i];
        c.targets_len = bad[i] == twice ? 2 : 1;
        assert_int_equal(head_apply(h, &c, 1), -EINVAL);
    }
    c.targets_len = 0;
    c.none = true;
    c.embedding = NULL;
    assert_int_equal(head_apply(h, &c, 1), -EINVAL);
    assert_int_equal(head_examples_len(h), 20);
    assert_int_equal(head_check(h, &distance), 0);
    assert_true(distance < 1e-9);
    head_close(h);

    single.kind = HEAD_SINGLE;
    assert_int_equal(head_open(&single, &one), 0);
    assert_int_equal(head_labels_grow(one, LABELS), 0);
    c = w->changes[30];
    c.targets_len = 0;
    c.none = true;
    assert_int_equal(head_apply(one, &c, 1), -EINVAL);
    c.targets = two;
    c.targets_len = 2;
    assert_int_equal(head_apply(one, &c, 1), -EINVAL);
    head_close(one);
    single.kind = HEAD_MULTI + 1;
    assert_int_equal(head_open(&single, &one), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_state_is_one_solution),
        cmocka_unit_test(test_order_and_forgetting),
        cmocka_unit_test(test_none_is_a_target),
        cmocka_unit_test(test_fit_is_brute_force),
        cmocka_unit_test(test_few_examples_are_not_fitted),
        cmocka_unit_test(test_every_allocation_of_a_fit),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_a_set_of_nothing_answers_nothing),
        cmocka_unit_test(test_a_neighbour_of_no_label),
        cmocka_unit_test(test_image),
        cmocka_unit_test(test_an_audit_finds_nothing),
        cmocka_unit_test(test_bad_changes),
    };

    return cmocka_run_group_tests(tests, world_make, world_free);
}
