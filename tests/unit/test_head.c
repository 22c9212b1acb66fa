/* test_head.c -- the head against its numpy reference, and its promises: order, exact forgetting,
 * images, hostile input.
 *
 * The fixture tests/golden/head/head.txt is made by make.py beside it.
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

enum { EVENTS_MAX = 128, D = 16, LABELS_MAX = 8, QUERIES_MAX = 16 };

struct fixture {
    struct head_settings settings;
    uint32_t events, queries, labels, active;
    struct head_change changes[EVENTS_MAX];
    struct head_target targets[EVENTS_MAX][LABELS_MAX];
    uint16_t embeddings[EVENTS_MAX][D];
    double n[LABELS_MAX], *W, A[LABELS_MAX * LABELS_MAX], *P;
    double beta[HEAD_SCORES], novelty[4], threshold, R[8];
    uint32_t columns[LABELS_MAX];
    float asked[QUERIES_MAX][D];
    double expected_novelty[QUERIES_MAX], p[QUERIES_MAX][LABELS_MAX];
    double scores[QUERIES_MAX][LABELS_MAX][HEAD_SCORES];
};

static void numbers(FILE *f, double *to, size_t len)
{
    for (size_t i = 0; i < len; i++)
        assert_int_equal(fscanf(f, "%lf", &to[i]), 1);
}

static void read_event(FILE *f, struct fixture *x, uint32_t i)
{
    struct head_change *c = &x->changes[i];
    double values[D];
    float row[D];

    assert_int_equal(fscanf(f, " event %lu %lf %u", &c->id.hi, &c->weight, &c->targets_len), 3);
    for (uint32_t t = 0; t < c->targets_len; t++)
        assert_int_equal(fscanf(f, "%u %f", &x->targets[i][t].label, &x->targets[i][t].value), 2);
    numbers(f, values, D);
    for (int j = 0; j < D; j++)
        row[j] = (float)values[j];
    head_embedding_pack(row, D, x->embeddings[i]);
    c->targets = x->targets[i];
    c->embedding = c->targets_len > 0 ? x->embeddings[i] : NULL;
}

static int fixture_read(void **state)
{
    struct fixture *x = calloc(1, sizeof *x);
    FILE *f = fopen("tests/golden/head/head.txt", "r");
    double row[D];

    assert_non_null(f);
    assert_int_equal(fscanf(f, "settings %u %u %lu %lf events %u queries %u", &x->settings.dim,
                            &x->settings.features, &x->settings.seed, &x->settings.lambda,
                            &x->events, &x->queries),
                     6);
    assert_true(x->events <= EVENTS_MAX && x->settings.dim == D && x->queries <= QUERIES_MAX);
    for (uint32_t i = 0; i < x->events; i++)
        read_event(f, x, i);
    assert_int_equal(fscanf(f, " state %u", &x->labels), 1);
    x->W = malloc(x->settings.features * x->labels * sizeof *x->W);
    x->P = malloc(x->settings.features * x->settings.features * sizeof *x->P);
    numbers(f, x->n, x->labels);
    numbers(f, x->W, x->settings.features * x->labels);
    numbers(f, x->A, x->labels * x->labels);
    assert_int_equal(fscanf(f, " P%*1[ ]"), 0);
    numbers(f, x->P, x->settings.features * x->settings.features);
    assert_int_equal(fscanf(f, " beta%*1[ ]"), 0);
    numbers(f, x->beta, HEAD_SCORES);
    assert_int_equal(fscanf(f, " novelty%*1[ ]"), 0);
    numbers(f, x->novelty, 4);
    assert_int_equal(fscanf(f, " threshold %lf", &x->threshold), 1);
    assert_int_equal(fscanf(f, " R%*1[ ]"), 0);
    numbers(f, x->R, 8);
    assert_int_equal(fscanf(f, " active %u", &x->active), 1);
    for (uint32_t i = 0; i < x->active; i++)
        assert_int_equal(fscanf(f, "%u", &x->columns[i]), 1);
    for (uint32_t q = 0; q < x->queries; q++) {
        assert_int_equal(fscanf(f, " query%*1[ ]"), 0);
        numbers(f, row, D);
        for (int j = 0; j < D; j++)
            x->asked[q][j] = (float)row[j];
        numbers(f, &x->expected_novelty[q], 1);
        numbers(f, x->p[q], x->active);
        numbers(f, &x->scores[q][0][0], x->active * HEAD_SCORES);
    }
    fclose(f);
    *state = x;
    return 0;
}

static int fixture_free(void **state)
{
    struct fixture *x = *state;

    free(x->W);
    free(x->P);
    free(x);
    return 0;
}

static void near(double have, double want, double tolerance)
{
    if (!(fabs(have - want) <= tolerance * (1 + fabs(want))))
        fail_msg("have %.17g, want %.17g (tolerance %g)", have, want, tolerance);
}

/* A head that has seen the fixture's events in blocks of `step`. */
static struct head *taught(const struct fixture *x, uint32_t step)
{
    struct head *h;

    assert_int_equal(head_open(&x->settings, &h), 0);
    assert_int_equal(head_labels_grow(h, x->labels), 0);
    for (uint32_t i = 0; i < x->events; i += step)
        assert_int_equal(head_apply(h, x->changes + i, i + step < x->events ? step : x->events - i),
                         0);
    return h;
}

static void same_state(const struct head *h, const struct fixture *x)
{
    uint32_t M = x->settings.features;

    for (uint32_t c = 0; c < x->labels; c++)
        near(h->n[c], x->n[c], 1e-12);
    for (uint32_t i = 0; i < M; i++)
        for (uint32_t c = 0; c < x->labels; c++)
            near(h->W[i * h->labels_max + c], x->W[i * x->labels + c], 1e-9);
    for (uint32_t i = 0; i < M; i++)
        for (uint32_t j = 0; j <= i; j++)
            near(h->P[i * M + j], x->P[i * M + j], 1e-9);
    for (uint32_t i = 0; i < x->labels; i++)
        for (uint32_t j = 0; j < x->labels; j++)
            near(h->A[i * h->labels_max + j], x->A[i * x->labels + j], 1e-9);
}

static void test_state_is_the_reference(void **state)
{
    const struct fixture *x = *state;
    const uint32_t steps[] = {1, 3, 20, 128}; /* the last one takes the batch path */
    double distance = 1;

    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct head *h = taught(x, steps[i]);

        for (int j = 0; j < 8; j++)
            assert_true(h->projection->values[j] == (float)x->R[j]);
        same_state(h, x);
        assert_int_equal(head_check(h, &distance), 0);
        assert_true(distance < 1e-9);
        head_close(h);
    }
}

static void test_fit_is_the_reference(void **state)
{
    const struct fixture *x = *state;
    struct head *h = taught(x, 7);

    assert_true(head_fit_stale(h) > 0);
    assert_int_equal(head_fit(h), 0);
    assert_int_equal(head_fit_stale(h), 0);
    for (int i = 0; i < HEAD_SCORES; i++)
        near(h->coefficients[i], x->beta[i], 1e-7); /* where Newton stops, not where it goes */
    near(h->novelty_mean[0], x->novelty[0], 1e-9);
    near(h->novelty_scale[0], x->novelty[1], 1e-9);
    near(h->novelty_mean[1], x->novelty[2], 1e-9);
    near(h->novelty_scale[1], x->novelty[3], 1e-9);
    head_close(h);
}

static void score(const struct head_view *v, const struct fixture *x, struct head_answer *answers,
                  float *p, float *shares)
{
    void *scratch = aligned_alloc(64, (head_view_scratch_bytes(v, x->queries) + 63) / 64 * 64);

    assert_int_equal(head_view_score(v, x->asked[0], x->queries, NULL, scratch, answers, p, shares),
                     0);
    free(scratch);
}

static void test_answers_are_the_reference(void **state)
{
    const struct fixture *x = *state;
    struct head *h = taught(x, 7);
    struct head_view *v;
    struct head_answer answers[QUERIES_MAX];
    float p[QUERIES_MAX * LABELS_MAX], shares[QUERIES_MAX * LABELS_MAX * HEAD_SCORES];

    assert_int_equal(head_fit(h), 0);
    assert_int_equal(head_publish(h, 0.05, &v), 0);
    near(head_view_novelty_max(v), x->threshold, 1e-9);
    score(v, x, answers, p, shares);
    for (uint32_t q = 0; q < x->queries; q++) {
        near(answers[q].novelty, x->expected_novelty[q], 1e-5);
        assert_int_equal(answers[q].novel, x->expected_novelty[q] > x->threshold);
        for (uint32_t i = 0; i < x->active; i++) {
            uint32_t c = x->columns[i];

            near(p[q * x->labels + c], x->p[q][i], 1e-5); /* fp32 serving arrays */
            for (int k = 0; k < HEAD_SCORES; k++)
                near(shares[(q * x->labels + c) * HEAD_SCORES + k], x->scores[q][i][k] * x->beta[k],
                     1e-5);
        }
        assert_true(p[q * x->labels + 6] == 0); /* the label whose only example was taken back */
    }
    head_view_free(v);
    head_close(h);
}

/* Among 40 labels with two examples each, and without any fit, the medians lean back; among few
 * labels they do not. */
static void test_medians_lean_back(void **state)
{
    double n[40], b[HEAD_SCORES];
    struct derived d = {.len = 40, .n = n};

    (void)state;
    for (int c = 0; c < 40; c++)
        n[c] = 2;
    pool_prior_scaled(&d, b);
    for (int h = 0; h < HEAD_SCORES; h++)
        near(b[h], pool_prior[h] * exp(-0.23 * log(40 / 18.0) * pow(2, -0.7)), 1e-12);
    for (int c = 0; c < 40; c++)
        n[c] = 0.25; /* less than one example counts as one */
    pool_prior_scaled(&d, b);
    near(b[0], pool_prior[0] * exp(-0.23 * log(40 / 18.0)), 1e-12);
    d.len = 18;
    pool_prior_scaled(&d, b);
    assert_memory_equal(b, pool_prior, sizeof b);
}

static void test_row_does_not_depend_on_batch(void **state)
{
    const struct fixture *x = *state;
    struct head *h = taught(x, 7);
    struct head_view *v;
    struct head_answer answers[QUERIES_MAX], alone;
    float p[QUERIES_MAX * LABELS_MAX], one[LABELS_MAX];
    _Alignas(64) char scratch[1 << 16];

    assert_int_equal(head_publish(h, 0.05, &v), 0);
    score(v, x, answers, p, NULL);
    assert_true(head_view_scratch_bytes(v, 1) <= sizeof scratch);
    for (uint32_t q = 0; q < x->queries; q++) {
        assert_int_equal(head_view_score(v, x->asked[q], 1, NULL, scratch, &alone, one, NULL), 0);
        assert_memory_equal(one, p + q * x->labels, x->labels * sizeof *one);
    }
    head_view_free(v);
    head_close(h);
}

/* Order: the final set in another order, one by one; and a set that had more and lost it. */
static void test_order_and_forgetting(void **state)
{
    const struct fixture *x = *state;
    struct head *h = taught(x, 1), *other;
    struct head_change extra[EVENTS_MAX];

    assert_int_equal(head_open(&x->settings, &other), 0);
    assert_int_equal(head_labels_grow(other, x->labels), 0);
    for (uint32_t i = 0; i < x->events; i++) { /* everything under foreign ids, first */
        extra[i] = x->changes[i];
        extra[i].id.lo = 1 + i;
    }
    assert_int_equal(head_apply(other, extra, x->events), 0);
    for (uint32_t slot = h->examples_len; slot-- > 0;) {
        struct head_change c = {.id = examples_id(h, slot),
                                .embedding = examples_embedding(h, slot),
                                .targets = examples_targets(h, slot),
                                .targets_len = h->examples[slot].targets_len,
                                .weight = h->examples[slot].weight};

        assert_int_equal(head_apply(other, &c, 1), 0);
    }
    for (uint32_t i = 0; i < x->events; i++) {
        extra[i].targets_len = 0;
        assert_int_equal(head_apply(other, &extra[i], 1), 0);
    }
    assert_int_equal(head_examples_len(other), head_examples_len(h));
    same_state(other, x);
    head_close(h);
    head_close(other);
}

static void test_image(void **state)
{
    const struct fixture *x = *state;
    struct head *h = taught(x, 7), *back, *no = NULL;
    size_t bytes = head_image_bytes(h);
    uint8_t *image = malloc(bytes), *again = malloc(bytes);
    struct head_settings others = x->settings;

    head_image_write(h, image);
    assert_int_equal(head_image_read(&x->settings, image, bytes, &back), 0);
    assert_int_equal(head_image_bytes(back), bytes);
    head_image_write(back, again);
    assert_memory_equal(image, again, bytes);
    /* the same blocks from here on: the same bits */
    for (int i = 0; i < 2; i++) {
        struct head *one = i == 0 ? h : back;

        struct head_change change = x->changes[0];

        change.id.lo = 99;
        assert_int_equal(head_apply(one, &change, 1), 0);
    }
    assert_memory_equal(h->P, back->P, x->settings.features * x->settings.features * 8);
    for (size_t cut = 0; cut < bytes; cut += bytes / 50 + 1)
        assert_int_equal(head_image_read(&x->settings, image, cut, &no), -EINVAL);
    others.seed++;
    assert_int_equal(head_image_read(&others, image, bytes, &no), -EINVAL);
    assert_null(no);
    free(image);
    free(again);
    head_close(h);
    head_close(back);
}

static void test_bad_input_changes_nothing(void **state)
{
    const struct fixture *x = *state;
    struct head *h = taught(x, 7);
    struct head_change c = x->changes[0];
    struct head_target t[2] = {{0, 0.5f}, {1, 0.4f}};
    uint16_t infinite[D] = {0x7c00};

    c.id.lo = 5;
    c.weight = NAN;
    assert_int_equal(head_apply(h, &c, 1), -EINVAL);
    c.weight = -1;
    assert_int_equal(head_apply(h, &c, 1), -EINVAL);
    c.weight = 1;
    c.targets = t;
    c.targets_len = 2;
    assert_int_equal(head_apply(h, &c, 1), -EINVAL); /* sums to 0.9 */
    t[1].label = 99;
    t[1].value = 0.5f;
    assert_int_equal(head_apply(h, &c, 1), -EINVAL);
    t[1].label = 1;
    c.embedding = infinite;
    assert_int_equal(head_apply(h, &c, 1), -EINVAL);
    same_state(h, x);
    head_close(h);
}

/* Weights whose inverse is infinite: the state does not hear of them, neither coming nor going. */
static void test_a_weight_of_nearly_nothing(void **state)
{
    const struct fixture *x = *state;
    const double weights[] = {5e-324, 1e-310, 1e-300, 1e-13};
    struct head *h = taught(x, 7);
    struct head_change few[4];
    uint64_t len = head_examples_len(h);

    for (int i = 0; i < 4; i++) {
        few[i] = x->changes[i];
        few[i].id.lo = 5 + (uint64_t)i;
        few[i].weight = weights[i];
    }
    assert_int_equal(head_apply(h, few, 4), 0);
    assert_int_equal(head_examples_len(h), len + 4);
    same_state(h, x);
    for (int i = 0; i < 4; i++)
        few[i].targets_len = 0;
    assert_int_equal(head_apply(h, few, 4), 0);
    assert_int_equal(head_examples_len(h), len);
    same_state(h, x);
    head_close(h);
}

static void test_empty_and_views_outlive_changes(void **state)
{
    const struct fixture *x = *state;
    struct head *h;
    struct head_view *empty, *v;
    struct head_answer answers[QUERIES_MAX];
    float before[QUERIES_MAX * LABELS_MAX], after[QUERIES_MAX * LABELS_MAX];

    assert_int_equal(head_open(&x->settings, &h), 0);
    assert_int_equal(head_publish(h, 0.05, &empty), 0);
    score(empty, x, answers, before, NULL);
    assert_int_equal(answers[0].label, UINT32_MAX);
    head_view_free(empty);
    head_close(h);

    h = taught(x, 7);
    assert_int_equal(head_publish(h, 0.05, &v), 0);
    score(v, x, answers, before, NULL);
    for (uint32_t i = 0; i < x->events; i++) {
        struct head_change gone = {.id = x->changes[i].id};

        assert_int_equal(head_apply(h, &gone, 1), 0);
    }
    assert_int_equal(head_examples_len(h), 0);
    score(v, x, answers, after, NULL);
    assert_memory_equal(before, after, x->queries * x->labels * sizeof *before);
    head_close(h); /* the view goes on */
    score(v, x, answers, after, NULL);
    assert_memory_equal(before, after, x->queries * x->labels * sizeof *before);
    head_view_free(v);
}

static void test_allowed_labels(void **state)
{
    const struct fixture *x = *state;
    struct head *h = taught(x, 7);
    struct head_view *v;
    struct head_answer answer;
    float p[LABELS_MAX];
    uint8_t allowed[LABELS_MAX] = {0, 1, 0, 1};
    _Alignas(64) char scratch[1 << 16];

    assert_int_equal(head_publish(h, 0.05, &v), 0);
    assert_int_equal(head_view_score(v, x->asked[0], 1, allowed, scratch, &answer, p, NULL), 0);
    assert_true(answer.label == 1 || answer.label == 3);
    near(p[1] + p[3], 1, 1e-6);
    assert_true(p[0] == 0 && p[2] == 0);
    head_view_free(v);
    head_close(h);
}

static void test_pack_rounds_to_even(void **state)
{
    (void)state;
    for (uint32_t half = 0; half < 0x7c00; half++) {
        float f = head_half_to_float((uint16_t)half), middle;
        uint16_t packed;

        head_embedding_pack(&f, 1, &packed);
        assert_int_equal(packed, half);
        middle = (f + head_half_to_float((uint16_t)(half + 1))) / 2;
        if (half + 1 < 0x7c00) {
            head_embedding_pack(&middle, 1, &packed);
            assert_int_equal(packed, half + (half & 1));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_state_is_the_reference),
        cmocka_unit_test(test_fit_is_the_reference),
        cmocka_unit_test(test_answers_are_the_reference),
        cmocka_unit_test(test_medians_lean_back),
        cmocka_unit_test(test_row_does_not_depend_on_batch),
        cmocka_unit_test(test_order_and_forgetting),
        cmocka_unit_test(test_image),
        cmocka_unit_test(test_bad_input_changes_nothing),
        cmocka_unit_test(test_a_weight_of_nearly_nothing),
        cmocka_unit_test(test_empty_and_views_outlive_changes),
        cmocka_unit_test(test_allowed_labels),
        cmocka_unit_test(test_pack_rounds_to_even),
    };

    return cmocka_run_group_tests(tests, fixture_read, fixture_free);
}
