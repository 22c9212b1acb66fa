/* test_head_promises.c -- what the head promises of any set of examples, on larger ones than the
 * fixture of test_head.c: the order of teaching and what was unlearned leave no trace, a restart
 * none either, the nearest are the nearest, and running out of memory is repaired by doing the same
 * again.
 *
 * Tolerances: 1e-9 relative in the fp64 state, 1e-6 in the served fp32 probabilities.
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

enum { D = 24, M = 96, LABELS = 9, MANY = 3000, ASKED = 8 };

static const struct head_settings settings = {D, M, 11, 0.15, HEAD_SINGLE, false};

/* Examples that are there for the tests to teach: random texts around a centre for each label. */
struct world {
    struct head_change changes[MANY];
    struct head_target targets[MANY];
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

static void unit_vector(uint64_t *z, float centre[D], float noise, float *to)
{
    float squares = 0;

    for (int j = 0; j < D; j++) {
        to[j] = centre[j] + noise * around_zero(z);
        squares += to[j] * to[j];
    }
    for (int j = 0; j < D; j++)
        to[j] /= sqrtf(squares);
}

static int world_make(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    static float centres[LABELS][D];
    uint64_t z = 5;
    float row[D];

    for (int c = 0; c < LABELS; c++)
        for (int j = 0; j < D; j++)
            centres[c][j] = around_zero(&z);
    for (int i = 0; i < MANY; i++) {
        struct head_change *c = &w->changes[i];
        uint32_t label = (uint32_t)(draw(&z) % LABELS);

        unit_vector(&z, centres[label], 1, row);
        head_embedding_pack(row, D, w->embeddings[i]);
        w->targets[i] = (struct head_target){label, 1};
        c->id = (struct head_id){draw(&z), draw(&z)};
        c->embedding = w->embeddings[i];
        c->targets = &w->targets[i];
        c->targets_len = 1;
        c->weight = i % 10 == 0 ? 0.25 : i % 7 == 0 ? 2 : 1;
    }
    for (int q = 0; q < ASKED; q++)
        unit_vector(&z, centres[q % LABELS], 1, w->asked[q]);
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
    struct head *h;

    assert_int_equal(head_open(&settings, &h), 0);
    assert_int_equal(head_labels_grow(h, LABELS), 0);
    return h;
}

/* Teaches changes from .. to in blocks. */
static void teach(struct head *h, const struct world *w, uint32_t from, uint32_t to, uint32_t block)
{
    for (uint32_t i = from; i < to; i += block)
        assert_int_equal(head_apply(h, w->changes + i, i + block < to ? block : to - i), 0);
}

static void near(double have, double want, double tolerance)
{
    if (!(fabs(have - want) <= tolerance * (1 + fabs(want))))
        fail_msg("have %.17g, want %.17g (tolerance %g)", have, want, tolerance);
}

static void same_state(const struct head *a, const struct head *b)
{
    assert_int_equal(a->examples_len, b->examples_len);
    for (uint32_t i = 0; i < M; i++)
        for (uint32_t j = 0; j <= i; j++)
            near(a->P[i * M + j], b->P[i * M + j], 1e-9);
    for (uint32_t c = 0; c < LABELS; c++) {
        near(a->n[c], b->n[c], 1e-9);
        for (uint32_t i = 0; i < M; i++)
            near(a->W[i * a->labels_max + c], b->W[i * b->labels_max + c], 1e-9);
        for (uint32_t e = 0; e < LABELS; e++)
            near(a->A[c * a->labels_max + e], b->A[c * b->labels_max + e], 1e-9);
    }
}

/* Fits, publishes and asks; the view is the caller's. */
static struct head_view *ask(struct head *h, const struct world *w, struct head_answer *answers,
                             float *p)
{
    struct head_view *v;
    void *scratch;

    assert_int_equal(head_fit(h), 0);
    assert_int_equal(head_publish(h, 0.05, &v), 0);
    scratch = aligned_alloc(64, (head_view_scratch_bytes(v, ASKED) + 63) / 64 * 64);
    assert_int_equal(head_view_score(v, w->asked[0], ASKED, NULL, scratch, answers, p, NULL), 0);
    free(scratch);
    return v;
}

/* Two heads serve the same: labels, neighbours, probabilities and coefficients. */
static void same_answers(struct head *a, struct head *b, const struct world *w, double tolerance)
{
    struct head_answer one[ASKED], two[ASKED];
    float p[ASKED * LABELS], q[ASKED * LABELS];
    struct head_view *v = ask(a, w, one, p), *u = ask(b, w, two, q);

    for (int i = 0; i < HEAD_SCORES; i++)
        near(head_view_coefficients(v)[i], head_view_coefficients(u)[i], 1e-6);
    near(head_view_novelty_max(v), head_view_novelty_max(u), 1e-6);
    for (int i = 0; i < ASKED; i++) {
        assert_int_equal(one[i].label, two[i].label);
        assert_int_equal(one[i].novel, two[i].novel);
        assert_int_equal(one[i].neighbours_len, two[i].neighbours_len);
        for (uint32_t k = 0; k < one[i].neighbours_len; k++)
            assert_int_equal(one[i].neighbours[k].id.hi, two[i].neighbours[k].id.hi);
        for (int c = 0; c < LABELS; c++)
            near(p[i * LABELS + c], q[i * LABELS + c], tolerance);
    }
    head_view_free(v);
    head_view_free(u);
}

/* One by one, in blocks, all at once, backwards: one head. 700 examples are more than fit the pool.
 */
static void test_order_leaves_no_trace(void **state)
{
    const struct world *w = *state;
    struct head *first = empty();

    teach(first, w, 0, 700, 1);
    for (int way = 0; way < 3; way++) {
        struct head *other = empty();

        if (way < 2)
            teach(other, w, 0, 700, way == 0 ? 17 : 700);
        for (uint32_t i = 700; i-- > 0 && way == 2;)
            teach(other, w, i, i + 1, 1);
        same_state(first, other);
        same_answers(first, other, w, 1e-6);
        head_close(other);
    }
    head_close(first);
}

/* 1,200 taught and 500 of them taken back, one by one or at once; and again, which changes nothing.
 */
static void test_deleting_is_never_having_seen(void **state)
{
    const struct world *w = *state;
    struct head *never = empty();
    static struct head_change gone[500];

    teach(never, w, 500, 1200, 64);
    for (int i = 0; i < 500; i++)
        gone[i] = (struct head_change){.id = w->changes[i].id};
    for (int way = 0; way < 2; way++) {
        struct head *h = empty();

        teach(h, w, 0, 1200, 64);
        for (int i = 0; i < 500 && way == 0; i++)
            assert_int_equal(head_apply(h, &gone[i], 1), 0);
        if (way == 1)
            assert_int_equal(head_apply(h, gone, 500), 0);
        assert_int_equal(head_apply(h, gone, 20), 0);
        same_state(h, never);
        same_answers(h, never, w, 1e-6);
        head_close(h);
    }
    head_close(never);
}

/* A relabel, a new weight and a new text under the same id end where teaching the last of them
 * would. */
static void test_changing_is_having_taught_it_so(void **state)
{
    const struct world *w = *state;
    struct head *h = empty(), *other = empty();

    teach(other, w, 0, 300, 64);
    for (int i = 0; i < 300; i++) {
        struct head_target wrong[2] = {{(w->targets[i].label + 1) % LABELS, 0.5f},
                                       {(w->targets[i].label + 2) % LABELS, 0.5f}};
        struct head_change c = {
            w->changes[i].id, w->embeddings[i + 1000], wrong, 2, false, 3, false};

        assert_int_equal(head_apply(h, &c, 1), 0);
    }
    teach(h, w, 0, 300, 1);
    teach(h, w, 0, 300, 50); /* the same again: nothing */
    same_state(h, other);
    same_answers(h, other, w, 1e-6);
    head_close(h);
    head_close(other);
}

/* More terms than the recursion runs without a rebuild, to and fro: what it drifts stays under the
 * tolerance. */
static void test_long_streams_do_not_drift(void **state)
{
    const struct world *w = *state;
    struct head *h = empty(), *other = empty();
    double distance = 1;

    for (int round = 0; round < 5; round++) {
        teach(h, w, 0, 600, 8);
        for (int i = 100; i < 600; i++) {
            struct head_change gone = {.id = w->changes[i].id};

            assert_int_equal(head_apply(h, &gone, 1), 0);
        }
    }
    assert_int_equal(head_check(h, &distance), 0);
    assert_true(distance < 1e-9);
    teach(other, w, 0, 100, 100);
    same_state(h, other);
    head_close(h);
    head_close(other);
}

/* A head read from its image answers with the same bits, also after both have learned the same. */
static void test_a_restart_leaves_no_trace(void **state)
{
    const struct world *w = *state;
    struct head *h = empty(), *back;
    struct head_answer one[ASKED], two[ASKED];
    float p[ASKED * LABELS], q[ASKED * LABELS];
    size_t bytes;
    void *image;

    teach(h, w, 0, 900, 13);
    bytes = head_image_bytes(h);
    image = malloc(bytes);
    head_image_write(h, image);
    assert_int_equal(head_image_read(&settings, image, bytes, &back), 0);
    free(image);
    assert_int_equal(head_fit_stale(back), 900);
    for (int round = 0; round < 2; round++) {
        struct head_view *v = ask(h, w, one, p), *u = ask(back, w, two, q);

        assert_memory_equal(p, q, sizeof p);
        for (int i = 0; i < ASKED; i++)
            assert_true(one[i].label == two[i].label && one[i].novelty == two[i].novelty);
        head_view_free(v);
        head_view_free(u);
        teach(h, w, 900, 1000, 9);
        teach(back, w, 900, 1000, 9);
    }
    head_close(h);
    head_close(back);
}

/* ---- the nearest ----------------------------------------------------------------------------- */

static double cosine(const float *x, const uint16_t *embedding)
{
    double sum = 0;

    for (int j = 0; j < D; j++)
        sum += (double)x[j] * head_half_to_float(embedding[j]);
    return sum;
}

/* Whoever is listed is at least as similar as everybody who is not; equals go by id. */
static void test_the_nearest_are_the_nearest(void **state)
{
    struct world *w = *state;
    struct head *h = empty();
    struct head_answer answers[ASKED];
    float p[ASKED * LABELS];
    struct head_view *v;

    for (int i = 1; i < 8; i++) /* eight texts that are the same */
        memcpy(w->embeddings[MANY - i], w->embeddings[MANY - 8], sizeof w->embeddings[0]);
    for (int j = 0; j < D; j++)
        w->asked[0][j] = head_half_to_float(w->embeddings[MANY - 8][j]);
    teach(h, w, 0, MANY, 1000);
    v = ask(h, w, answers, p);
    for (int q = 0; q < ASKED; q++) {
        const struct head_neighbour *last = &answers[q].neighbours[HEAD_NEIGHBOURS - 1];
        int nearer = 0;

        assert_int_equal(answers[q].neighbours_len, HEAD_NEIGHBOURS);
        for (int k = 1; k < HEAD_NEIGHBOURS; k++) {
            const struct head_neighbour *a = &answers[q].neighbours[k - 1], *b = a + 1;

            assert_true(a->similarity > b->similarity ||
                        (a->similarity == b->similarity && a->id.hi < b->id.hi));
        }
        for (int i = 0; i < MANY; i++) {
            double c = cosine(w->asked[q], w->embeddings[i]);

            nearer += c > last->similarity + 1e-6; /* fp32 sums */
            for (int k = 0; k < HEAD_NEIGHBOURS; k++)
                if (w->changes[i].id.hi == answers[q].neighbours[k].id.hi) {
                    near(answers[q].neighbours[k].similarity, c, 1e-6);
                    assert_int_equal(answers[q].neighbours[k].label, w->targets[i].label);
                }
        }
        assert_true(nearer < HEAD_NEIGHBOURS);
    }
    for (int k = 0; k < HEAD_NEIGHBOURS; k++) /* of the eight equals those with the smallest ids */
        for (int i = 1, smaller = 0; i <= 8; i++) {
            smaller += w->changes[MANY - i].id.hi < answers[0].neighbours[k].id.hi;
            assert_true(smaller <= k);
        }
    head_view_free(v);
    head_close(h);
}

/* A view has the embeddings of its examples, bit for bit, and no others; not even one that begins
 * as another does, and none that was unlearned. */
static void test_a_view_has_what_it_was_taught(void **state)
{
    enum { HELD = 600, ALL = 900 };
    const struct world *w = *state;
    static uint16_t asked[ALL + HELD][D];
    static bool has[ALL + HELD];
    struct head *h = empty();
    struct head_view *v;

    for (uint32_t i = 0; i < ALL + HELD; i++)
        memcpy(asked[i], w->embeddings[i % ALL], sizeof asked[i]);
    for (uint32_t i = ALL; i < ALL + HELD; i++)
        asked[i][D - 1 - i % 8] ^= 1; /* the end, or the middle, differs by one bit */
    assert_int_equal(head_publish(h, 0.05, &v), 0);
    memset(has, 1, sizeof has);
    assert_int_equal(head_view_has(v, asked[0], ALL, has), 0);
    for (uint32_t i = 0; i < ALL; i++)
        assert_false(has[i]);
    assert_int_equal(head_view_has(v, asked[0], 0, has), 0);
    head_view_free(v);
    teach(h, w, 0, ALL, 64);
    for (uint32_t i = HELD; i < ALL; i++) {
        struct head_change gone = {.id = w->changes[i].id};

        assert_int_equal(head_apply(h, &gone, 1), 0);
    }
    assert_int_equal(head_publish(h, 0.05, &v), 0);
    assert_int_equal(head_view_has(v, asked[0], ALL + HELD, has), 0);
    for (uint32_t i = 0; i < ALL + HELD; i++)
        assert_int_equal(has[i], i < HELD);
    head_view_free(v);
    head_close(h);
}

/* ---- what goes wrong ------------------------------------------------------------------------- */

static void test_asking_with_no_number(void **state)
{
    const struct world *w = *state;
    static const float wrong[] = {NAN, INFINITY, -INFINITY};
    struct head *h = empty();
    struct head_view *v;
    struct head_answer answer;
    float x[D], p[LABELS];
    void *scratch;

    teach(h, w, 0, 50, 50);
    assert_int_equal(head_publish(h, 0.05, &v), 0);
    scratch = aligned_alloc(64, (head_view_scratch_bytes(v, 1) + 63) / 64 * 64);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        memcpy(x, w->asked[0], sizeof x);
        x[D - 1] = wrong[i];
        assert_int_equal(head_view_score(v, x, 1, NULL, scratch, &answer, p, NULL), -EDOM);
    }
    free(scratch);
    head_view_free(v);
    head_close(h);
}

/* Allowing only labels without examples: no label, no probability. */
static void test_nothing_allowed_is_no_label(void **state)
{
    const struct world *w = *state;
    struct head *h = empty();
    struct head_view *v;
    struct head_answer answer;
    uint8_t allowed[LABELS] = {0};
    float p[LABELS];
    void *scratch;

    teach(h, w, 0, 50, 50);
    assert_int_equal(head_publish(h, 0.05, &v), 0);
    scratch = aligned_alloc(64, (head_view_scratch_bytes(v, 1) + 63) / 64 * 64);
    assert_int_equal(head_view_score(v, w->asked[0], 1, allowed, scratch, &answer, p, NULL), 0);
    assert_int_equal(answer.label, UINT32_MAX);
    for (int c = 0; c < LABELS; c++)
        assert_true(p[c] == 0);
    free(scratch);
    head_view_free(v);
    head_close(h);
}

static void test_wrong_settings_are_refused(void **state)
{
    static const struct head_settings wrong[] = {
        {0, M, 1, 0.15, HEAD_SINGLE, false},     {9000, M, 1, 0.15, HEAD_SINGLE, false},
        {D, 0, 1, 0.15, HEAD_SINGLE, false},     {D, 8193, 1, 0.15, HEAD_SINGLE, false},
        {D, M, 1, 0, HEAD_SINGLE, false},        {D, M, 1, -1, HEAD_SINGLE, false},
        {D, M, 1, INFINITY, HEAD_SINGLE, false}, {D, M, 1, NAN, HEAD_SINGLE, false}};
    struct head *h = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(head_open(&wrong[i], &h), -EINVAL);
    assert_null(h);
}

/* The n-th allocation fails: -ENOMEM, and the same changes again give the right head. */
static void test_every_allocation_may_fail(void **state)
{
    const struct world *w = *state;
    struct head *right;

    right = empty();
    teach(right, w, 0, 340, 20);
    for (int way = 0; way < 2; way++) { /* recursive; all at once */
        int rc = -ENOMEM, failures = 0;

        for (uint64_t n = 1; rc != 0; n++) {
            struct head *h = empty();
            struct head_view *v = NULL;

            teach(h, w, 0, way == 0 ? 300 : 100, 20);
            if (way == 1) /* a view holds the chunks: changing them copies */
                assert_int_equal(head_publish(h, 0.05, &v), 0);
            fault_alloc_arm(n, true);
            rc = way == 0 ? head_apply(h, w->changes + 300, 40)
                          : head_apply(h, w->changes + 50, 290);
            fault_alloc_disarm();
            assert_true(rc == 0 || rc == -ENOMEM);
            failures += rc != 0;
            if (rc != 0)
                assert_int_equal(way == 0 ? head_apply(h, w->changes + 300, 40)
                                          : head_apply(h, w->changes + 50, 290),
                                 0);
            same_state(h, right);
            head_view_free(v);
            head_close(h);
        }
        assert_true(failures > 3);
    }
    head_close(right);
}

/* Fitting and publishing too: an error, the head as it was, nothing kept. */
static void test_publishing_without_memory(void **state)
{
    const struct world *w = *state;
    struct head *h;
    struct head_view *v = NULL;
    int rc[2] = {-1, -1};

    h = empty();
    teach(h, w, 0, 200, 200);
    for (int what = 0; what < 2; what++)
        for (uint64_t n = 1; rc[what] != 0; n++) {
            fault_alloc_arm(n, true);
            rc[what] = what == 0 ? head_fit(h) : head_publish(h, 0.05, &v);
            fault_alloc_disarm();
            if (rc[what] == 0)
                break;
            assert_int_equal(rc[what], -ENOMEM);
            assert_null(v);
        }
    head_view_free(v);
    head_close(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_leaves_no_trace),
        cmocka_unit_test(test_deleting_is_never_having_seen),
        cmocka_unit_test(test_changing_is_having_taught_it_so),
        cmocka_unit_test(test_long_streams_do_not_drift),
        cmocka_unit_test(test_a_restart_leaves_no_trace),
        cmocka_unit_test(test_a_view_has_what_it_was_taught),
        cmocka_unit_test(test_asking_with_no_number),
        cmocka_unit_test(test_nothing_allowed_is_no_label),
        cmocka_unit_test(test_wrong_settings_are_refused),
        cmocka_unit_test(test_every_allocation_may_fail),
        cmocka_unit_test(test_publishing_without_memory),
        cmocka_unit_test(test_the_nearest_are_the_nearest), /* last: it changes texts */
    };

    return cmocka_run_group_tests(tests, world_make, world_free);
}
