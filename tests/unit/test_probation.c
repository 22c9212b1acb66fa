/* test_probation.c -- the evidence against its integral; how often a pair that is no worse is sent
 * back, however often one looks, and how soon a worse one is; what is kept goes on.
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

#include "kernels/measure/probation.h"
#include "tests/unit/measure_fixture.h"

static struct probation begun(void)
{
    struct probation p;

    assert_int_equal(probation_start(&probation_settings_default, &p), 0);
    return p;
}

/* 2^(n+1) times the integral of q^lost (1-q)^won over [1/2, 1], Simpson. */
static double evidence_brute(int lost, int won)
{
    enum { STEPS = 20000 };
    double sum = 0;

    for (int i = 0; i <= STEPS; i++) {
        double q = 0.5 + 0.5 * i / STEPS;
        double value = exp2(lost + won + 1) * pow(q, lost) * pow(1 - q, won);

        sum += value * (i == 0 || i == STEPS ? 1 : i % 2 == 1 ? 4 : 2);
    }
    return sum * 0.5 / STEPS / 3;
}

static void test_evidence_is_its_integral(void **state)
{
    (void)state;
    for (int lost = 0; lost <= 12; lost += 3)
        for (int won = 0; won <= 12; won += 4) {
            struct probation p = begun();
            double want;

            p.settings.alpha = 1e-30; /* never decides */
            for (int i = 0; i < won; i++)
                probation_add(&p, false, true);
            assert_true(probation_p(&p) == 1); /* gains are no evidence of a loss */
            for (int i = 0; i < lost; i++)
                probation_add(&p, true, false);
            want = fmax(1, evidence_brute(lost, won));
            assert_true(fabs(1 / probation_p(&p) / want - 1) < 1e-9);
        }
}

static void test_counts_and_ends(void **state)
{
    struct probation p = begun();

    (void)state;
    for (int i = 0; i < 499; i++)
        assert_int_equal(probation_add(&p, i % 3 > 0, i % 3 > 0), PROBATION_OPEN);
    assert_int_equal(probation_add(&p, false, true), PROBATION_PASSED);
    assert_true(p.items == 500 && p.both_right == 332 && p.won == 1 && p.lost == 0);
    assert_int_equal(probation_add(&p, true, false), PROBATION_PASSED);
    assert_int_equal(p.items, 500);
    p = begun();
    for (int i = 0; i < 9; i++) /* 2^10/10: eight losses in a row are not enough, nine are */
        assert_int_equal(probation_add(&p, true, false), i < 8 ? PROBATION_OPEN : PROBATION_WORSE);
    assert_int_equal(probation_add(&p, false, true), PROBATION_WORSE);
    assert_true(p.items == 9 && p.lost == 9);
    assert_true(probation_p(&p) <= 0.01);
}

struct outcome {
    int worse;       /* of all runs */
    uint32_t *ends;  /* items at which those ended */
    uint32_t median; /* of them */
};

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static struct outcome simulate(int runs, double lost, double won, uint64_t seed)
{
    uint32_t ends[4000];
    struct outcome o = {0};

    for (int run = 0; run < runs; run++) {
        struct probation p = begun();

        while (p.state == PROBATION_OPEN) {
            double u = fixture_uniform(&seed);

            probation_add(&p, u >= won, u < won || u >= won + lost);
        }
        if (p.state == PROBATION_WORSE)
            ends[o.worse++] = p.items;
    }
    if (o.worse > 0) {
        qsort(ends, (size_t)o.worse, sizeof *ends, ascending);
        o.median = ends[o.worse / 2];
    }
    return o;
}

static void test_spares_the_equal(void **state)
{
    const double discordant[] = {0.04, 0.1, 0.4};

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct outcome o = simulate(4000, discordant[i] / 2, discordant[i] / 2, 7 + (uint64_t)i);

        print_message("equal, %.0f %% discordant: %.2f %% sent back\n", 100 * discordant[i],
                      o.worse / 40.0);
        assert_in_range(o.worse, 0, 40);
    }
    assert_true(simulate(4000, 0.02, 0.05, 17).worse <= 2); /* better ones */
}

static void test_sends_back_the_worse(void **state)
{
    const struct {
        double lost, won;
        int worse; /* of 1,000, at least */
        uint32_t median;
    } cases[] = {{0.035, 0.005, 650, 350}, {0.05, 0.02, 250, 400}, {0.12, 0.02, 995, 130}};

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct outcome o = simulate(1000, cases[i].lost, cases[i].won, 27);

        print_message("%.1f %% lost, %.1f %% won: %.1f %% sent back, half of them by item %u\n",
                      100 * cases[i].lost, 100 * cases[i].won, o.worse / 10.0, o.median);
        assert_true(o.worse >= cases[i].worse && o.median <= cases[i].median);
    }
}

static void test_goes_on_after_an_image(void **state)
{
    uint64_t seed = 3;
    struct probation whole = begun(), parts = begun();
    uint8_t image[PROBATION_IMAGE_BYTES];

    (void)state;
    while (whole.state == PROBATION_OPEN) {
        double u = fixture_uniform(&seed);

        probation_image_write(&parts, image);
        memset(&parts, 0xee, sizeof parts);
        assert_int_equal(probation_image_read(image, sizeof image, &parts), 0);
        assert_int_equal(probation_add(&whole, u >= 0.02, u < 0.02 || u >= 0.14),
                         probation_add(&parts, u >= 0.02, u < 0.02 || u >= 0.14));
        assert_true(whole.evidence_max == parts.evidence_max);
    }
    assert_int_equal(whole.state, PROBATION_WORSE);
    probation_image_write(&whole, image);
    assert_int_equal(probation_image_read(image, sizeof image, &parts), 0);
    assert_int_equal(parts.state, PROBATION_WORSE);
}

static void test_damaged_images(void **state)
{
    struct probation p = begun(), back;
    uint8_t image[PROBATION_IMAGE_BYTES + 1] = {0}, bad[PROBATION_IMAGE_BYTES];

    (void)state;
    for (int i = 0; i < 40; i++)
        probation_add(&p, i % 8 != 0, i % 8 != 3);
    probation_image_write(&p, image);
    for (size_t bytes = 0; bytes < PROBATION_IMAGE_BYTES; bytes++)
        assert_int_equal(probation_image_read(image, bytes, &back), -EINVAL);
    assert_int_equal(probation_image_read(image, PROBATION_IMAGE_BYTES + 1, &back), -EINVAL);
    for (int bit = 0; bit < 8 * PROBATION_IMAGE_BYTES; bit++) {
        int rc;

        memcpy(bad, image, sizeof bad);
        bad[bit / 8] ^= (uint8_t)(1 << bit % 8);
        rc = probation_image_read(bad, sizeof bad, &back);
        if (bit < 64 || (bit >= 160 && bit < 168)) /* magic, version; state */
            assert_int_equal(rc, -EINVAL);
        if (rc != 0)
            continue;
        for (int i = 0; i < 10000 && probation_add(&back, true, false) == PROBATION_OPEN; i++)
            ;
        assert_int_not_equal(back.state, PROBATION_OPEN);
    }
}

static void test_bad_settings(void **state)
{
    const struct probation_settings bad[] = {{0, 0.01}, {500, 0}, {500, 1}, {500, NAN}, {1, -1}};
    struct probation p;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(probation_start(&bad[i], &p), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_evidence_is_its_integral),
        cmocka_unit_test(test_counts_and_ends),
        cmocka_unit_test(test_spares_the_equal),
        cmocka_unit_test(test_sends_back_the_worse),
        cmocka_unit_test(test_goes_on_after_an_image),
        cmocka_unit_test(test_damaged_images),
        cmocka_unit_test(test_bad_settings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
