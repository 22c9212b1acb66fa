/* test_pick.c -- what to label next: the greedy part as plain loops choose it, the drawn part even,
 * near-duplicates apart, the same seed the same list. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/head/head.h"
#include "kernels/pick/pick.h"

enum { D = 16, N = 300, LIMIT = 40 };

static float vectors[N][D], doubt[N], novelty[N];
static uint16_t embeddings[N][D];
static uint64_t random_state;

static double uniform(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(random_state >> 11) / 9007199254740992.0;
}

/* Every third is nearly the one before. */
static int make(void **state)
{
    (void)state;
    random_state = 3;
    for (int i = 0; i < N; i++) {
        float length = 0;

        for (int j = 0; j < D; j++) {
            vectors[i][j] = i % 3 == 2 ? vectors[i - 1][j] + (float)(1e-3 * uniform())
                                       : (float)(uniform() - 0.5);
            length += vectors[i][j] * vectors[i][j];
        }
        for (int j = 0; j < D; j++)
            vectors[i][j] /= sqrtf(length);
        head_embedding_pack(vectors[i], D, embeddings[i]);
        doubt[i] = (float)uniform();
        novelty[i] = (float)(6 * uniform() - 3);
    }
    return 0;
}

static double distance(uint32_t a, uint32_t b)
{
    double dot = 0;

    for (int j = 0; j < D; j++)
        dot += (double)vectors[a][j] * vectors[b][j];
    return 1 - dot;
}

static double worth(uint32_t i, double novelty_max)
{
    double strange = isinf(novelty_max) ? 0 : 1 / (1 + exp(novelty_max - (double)novelty[i]));

    return fmax(fmax(strange, doubt[i]), PICK_WORTH_MIN);
}

static struct pick_settings settings(double share, uint64_t seed)
{
    return (struct pick_settings){
        .dim = D, .limit = LIMIT, .random_share = share, .novelty_max = 1.5, .seed = seed};
}

static uint32_t picked(const struct pick_settings *s, uint32_t len, struct pick *picks)
{
    uint32_t got = 0;

    assert_int_equal(pick_next(embeddings[0], doubt, novelty, len, s, picks, &got), 0);
    assert_true(got <= s->limit);
    for (uint32_t i = 0; i < got; i++) {
        assert_true(picks[i].candidate < len);
        for (uint32_t j = 0; j < i; j++)
            assert_int_not_equal(picks[i].candidate, picks[j].candidate);
    }
    return got;
}

/* Each greedy pick is the best that plain loops find beside the drawn ones and those before it. */
static void check_greedy(const struct pick_settings *s, const struct pick *picks, uint32_t len)
{
    uint32_t listed[LIMIT], listed_len = 0;

    for (uint32_t i = 0; i < len; i++)
        if (picks[i].why == PICK_RANDOM)
            listed[listed_len++] = picks[i].candidate;
    for (uint32_t i = 0; i < len; i++) {
        double best = 0, own = 0;

        if (picks[i].why == PICK_RANDOM)
            continue;
        for (uint32_t c = 0; c < N; c++) {
            double near = 2;

            for (uint32_t k = 0; k < listed_len; k++)
                near = fmin(near, distance(c, listed[k]));
            if (near >= PICK_NEAR)
                best = fmax(best, worth(c, s->novelty_max) * near);
            if (c == picks[i].candidate) {
                assert_true(near >= PICK_NEAR - 2e-3);
                own = worth(c, s->novelty_max) * near;
            }
        }
        assert_true(own >= best - 5e-3); /* embeddings are fp16 */
        listed[listed_len++] = picks[i].candidate;
    }
}

static void test_greedy_is_what_plain_loops_choose(void **state)
{
    static const double shares[] = {0, 0.2, 0.5};
    struct pick picks[LIMIT];

    (void)state;
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        struct pick_settings s = settings(shares[i], 7);

        assert_int_equal(picked(&s, N, picks), LIMIT);
        check_greedy(&s, picks, LIMIT);
    }
}

static int most_first(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x < y) - (x > y);
}

static void test_why(void **state)
{
    struct pick_settings s = settings(0, 1);
    struct pick picks[LIMIT];
    uint32_t seen[4] = {0}, len;
    double worths[N];

    (void)state;
    s.novelty_max = -0.5; /* so that many are strange */
    len = picked(&s, N, picks);
    for (uint32_t i = 0; i < N; i++)
        worths[i] = worth(i, s.novelty_max);
    qsort(worths, N, sizeof *worths, most_first);
    for (uint32_t i = 0; i < len; i++) {
        uint32_t c = picks[i].candidate;
        double own = worth(c, s.novelty_max);

        seen[picks[i].why]++;
        if (picks[i].why == PICK_DIVERSE)
            assert_true(own <= worths[LIMIT - 1] + 1e-6);
        else
            assert_true(own >= worths[LIMIT - 1] - 1e-6);
        if (picks[i].why == PICK_NOVEL)
            assert_true(own > doubt[c]);
        if (picks[i].why == PICK_UNCERTAIN)
            assert_true(fabs(own - doubt[c]) < 1e-6);
    }
    assert_true(seen[PICK_UNCERTAIN] > 0 && seen[PICK_NOVEL] > 0 && seen[PICK_DIVERSE] > 0);
    assert_int_equal(seen[PICK_RANDOM], 0);
    s.novelty_max = INFINITY; /* a model that calls nothing novel */
    len = picked(&s, N, picks);
    for (uint32_t i = 0; i < len; i++)
        assert_int_not_equal(picks[i].why, PICK_NOVEL);
}

static void test_near_duplicates_stay_apart(void **state)
{
    struct pick_settings s = settings(0, 1);
    struct pick picks[N];
    uint32_t len;

    (void)state;
    s.limit = N; /* all that can be had: two of every three */
    len = picked(&s, N, picks);
    assert_true(len <= N / 3 * 2);
    for (uint32_t i = 0; i < len; i++)
        for (uint32_t j = 0; j < i; j++)
            assert_true(distance(picks[i].candidate, picks[j].candidate) > PICK_NEAR - 2e-3);
}

static void test_random_share_is_even(void **state)
{
    struct pick_settings s = settings(0.2, 0);
    uint32_t counts[N] = {0}, drawn, total = 0, runs = 3000;
    struct pick picks[LIMIT];
    double chi = 0, expected = runs * 8.0 / N;

    (void)state;
    for (s.seed = 0; s.seed < runs; s.seed++) {
        drawn = 0;
        for (uint32_t i = 0, len = picked(&s, N, picks); i < len; i++) {
            if (picks[i].why != PICK_RANDOM)
                continue;
            counts[picks[i].candidate]++;
            assert_int_equal(i / 5, drawn); /* one in every five */
            drawn++;
        }
        assert_int_equal(drawn, 8);
    }
    for (uint32_t i = 0; i < N; i++)
        chi += (counts[i] - expected) * (counts[i] - expected) / expected;
    assert_true(chi < 300 + 5 * sqrt(2 * 300)); /* five sigma of chi-square with 299 degrees */
    s.limit = 3;                                /* 0.6 of one: drawn in six lists of ten */
    for (s.seed = 0; s.seed < runs; s.seed++)
        for (uint32_t i = 0, len = picked(&s, N, picks); i < len; i++)
            total += picks[i].why == PICK_RANDOM;
    assert_true(fabs(total / (double)runs - 0.6) < 0.05);
    s = settings(1, 5);
    for (uint32_t i = 0, len = picked(&s, N, picks); i < len; i++)
        assert_int_equal(picks[i].why, PICK_RANDOM);
}

static void test_seed_decides(void **state)
{
    struct pick_settings s = settings(0.3, 9);
    struct pick a[LIMIT], b[LIMIT];

    (void)state;
    memset(a, 0, sizeof a);
    memset(b, 0, sizeof b);
    assert_int_equal(picked(&s, N, a), picked(&s, N, b));
    assert_memory_equal(a, b, sizeof a);
    s.seed = 10;
    picked(&s, N, b);
    assert_memory_not_equal(a, b, sizeof a);
}

static void test_few(void **state)
{
    struct pick_settings s = settings(0.2, 1);
    struct pick picks[LIMIT];

    (void)state;
    assert_int_equal(picked(&s, 0, picks), 0);
    assert_int_equal(picked(&s, 1, picks), 1);
    assert_int_equal(picked(&s, 2, picks), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_is_what_plain_loops_choose),
        cmocka_unit_test(test_why),
        cmocka_unit_test(test_near_duplicates_stay_apart),
        cmocka_unit_test(test_random_share_is_even),
        cmocka_unit_test(test_seed_decides),
        cmocka_unit_test(test_few),
    };

    return cmocka_run_group_tests(tests, make, NULL);
}
