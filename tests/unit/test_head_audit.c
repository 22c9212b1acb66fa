/* test_head_audit.c -- wrong labels: what the audit finds is what leaving each example out and
 * solving again finds; it does not depend on who is distrusted already; distrust is a weight and
 * nothing else.
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

#include "kernels/head/head_internal.h"

enum { D = 12, M = 96, LABELS = 4, N = 120, SEED = 5 };

static struct head_change changes[N];
static struct head_target targets[N];
static uint16_t embeddings[N][D];
static bool wrong[N];

static uint64_t random_state;

static double uniform(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(random_state >> 11) / 9007199254740992.0;
}

/* Four clusters; every ninth label is another one's. */
static int make(void **state)
{
    double centres[LABELS][D];

    (void)state;
    random_state = SEED;
    for (int c = 0; c < LABELS; c++)
        for (int j = 0; j < D; j++)
            centres[c][j] = uniform() - 0.5;
    for (int i = 0; i < N; i++) {
        int c = i % LABELS;
        float x[D], length = 0;

        for (int j = 0; j < D; j++) {
            x[j] = (float)(centres[c][j] + 0.5 * (uniform() - 0.5));
            length += x[j] * x[j];
        }
        for (int j = 0; j < D; j++)
            x[j] /= sqrtf(length);
        head_embedding_pack(x, D, embeddings[i]);
        wrong[i] = i % 9 == 4;
        targets[i] = (struct head_target){(uint32_t)((c + wrong[i]) % LABELS), 1};
        changes[i] = (struct head_change){.id = {.hi = (uint64_t)i * 77 % 1009, .lo = (uint64_t)i},
                                          .embedding = embeddings[i],
                                          .targets = &targets[i],
                                          .targets_len = 1,
                                          .weight = i % 5 == 0 ? 2 : 1};
    }
    return 0;
}

static struct head *taught(const struct head_change *what, uint32_t len)
{
    struct head_settings settings = {.dim = D, .features = M, .seed = 1, .lambda = 0.15};
    struct head *h;

    assert_int_equal(head_open(&settings, &h), 0);
    assert_int_equal(head_labels_grow(h, LABELS + 1), 0); /* the last label has no example */
    assert_int_equal(head_apply(h, what, len), 0);
    return h;
}

static struct head_audit *audited(const struct head *h)
{
    struct head_audit *a;
    bool done = false;

    assert_int_equal(head_audit_open(h, &a), 0);
    while (!done)
        assert_int_equal(head_audit_step(a, &done), 0);
    return a;
}

/* The margin of example i by solving without it. */
static double margin_without(uint32_t i, uint32_t *ret_other)
{
    struct head_change rest[N];
    struct head *h;
    double f[M], z[LABELS] = {0}, highest = -INFINITY;
    uint32_t own = targets[i].label;

    memcpy(rest, changes, sizeof rest);
    rest[i] = rest[N - 1];
    h = taught(rest, N - 1);
    head_features_of(h, &(const uint16_t *){embeddings[i]}, 1, f);
    for (uint32_t c = 0; c < LABELS; c++)
        for (uint32_t m = 0; m < M; m++)
            z[c] += f[m] * h->W[m * h->labels_max + c];
    for (uint32_t c = 0; c < LABELS; c++) {
        if (c == own || z[c] <= highest)
            continue;
        highest = z[c];
        *ret_other = c;
    }
    head_close(h);
    return highest - z[own];
}

static void test_finds_what_leaving_out_finds(void **state)
{
    struct head *h = taught(changes, N);
    struct head_audit *a = audited(h);
    uint32_t len, examined, found = 0, planted = 0;
    const struct head_suspect *s = head_audit_suspects(a, &len, &examined);

    (void)state;
    assert_int_equal(examined, N);
    for (uint32_t i = 0; i < N; i++) {
        uint32_t other = UINT32_MAX, at = 0;
        double margin = margin_without(i, &other);

        while (at < len && s[at].id.lo != i)
            at++;
        assert_int_equal(at<len, margin> HEAD_SUSPECT_MARGIN);
        planted += wrong[i];
        if (at == len)
            continue;
        found += wrong[i];
        assert_true(fabs(s[at].margin - margin) < 1e-9);
        assert_int_equal(s[at].other, other);
        assert_int_equal(s[at].label, targets[i].label);
    }
    assert_true(found * 10 >= planted * 8); /* and it is good for something */
    for (uint32_t i = 1; i < len; i++)
        assert_true(s[i - 1].margin >= s[i].margin);
    head_audit_close(a);
    head_close(h);
}

static void test_does_not_depend_on_distrust(void **state)
{
    struct head *h = taught(changes, N);
    struct head_audit *a = audited(h), *b;
    uint32_t len, examined, again;
    const struct head_suspect *s = head_audit_suspects(a, &len, &examined), *t;
    struct head_id ids[N];

    (void)state;
    assert_true(len > 5);
    for (uint32_t i = 0; i < len; i++)
        ids[i] = s[i].id;
    assert_int_equal(head_distrust(h, ids, len), 0);
    assert_int_equal(head_distrusted_len(h), len);
    b = audited(h);
    t = head_audit_suspects(b, &again, &examined);
    assert_int_equal(again, len);
    for (uint32_t i = 0; i < len; i++) {
        assert_int_equal(s[i].id.lo, t[i].id.lo);
        assert_true(fabs(s[i].margin - t[i].margin) < 1e-9);
    }
    assert_int_equal(head_distrust(h, NULL, 0), 0);
    assert_int_equal(head_distrusted_len(h), 0);
    head_audit_close(a);
    head_audit_close(b);
    head_close(h);
}

static double state_distance(const struct head *a, const struct head *b)
{
    double worst = 0;

    for (uint32_t i = 0; i < M; i++)
        for (uint32_t j = 0; j <= i; j++)
            worst = fmax(worst, fabs(a->P[i * M + j] - b->P[i * M + j]));
    for (uint32_t i = 0; i < M; i++)
        for (uint32_t c = 0; c < LABELS; c++)
            worst = fmax(worst, fabs(a->W[i * a->labels_max + c] - b->W[i * b->labels_max + c]));
    for (uint32_t c = 0; c < LABELS; c++)
        worst = fmax(worst, fabs(a->n[c] - b->n[c]));
    return worst;
}

/* Distrusting is teaching with a quarter of the weight; a change of the example ends it. */
static void test_distrust_is_a_weight(void **state)
{
    struct head *h = taught(changes, N), *light, *back;
    struct head_change lighter[N];
    struct head_id ids[] = {changes[4].id, changes[13].id, {1, 999999}};
    struct head_change relabel = changes[4];
    struct head_target other = {(targets[4].label + 1) % LABELS, 1};
    double distance;

    (void)state;
    memcpy(lighter, changes, sizeof lighter);
    lighter[4].weight *= HEAD_SUSPECT_WEIGHT;
    lighter[13].weight *= HEAD_SUSPECT_WEIGHT;
    light = taught(lighter, N);
    assert_int_equal(head_distrust(h, ids, 3), 0);
    assert_true(state_distance(h, light) < 1e-9);
    assert_int_equal(head_check(h, &distance), 0);
    assert_true(distance < 1e-9);
    for (int k = 0; k < 2; k++)
        assert_int_equal(h->chunks[0]->trusted[examples_find(h, ids[k])], 0);

    assert_int_equal(head_apply(h, &changes[4], 1), 0); /* the same again changes nothing */
    assert_int_equal(head_distrusted_len(h), 2);
    relabel.targets = &other;
    assert_int_equal(head_apply(h, &relabel, 1), 0);
    assert_int_equal(head_distrusted_len(h), 1);
    assert_int_equal(head_apply(h, &(struct head_change){.id = ids[1]}, 1), 0);
    assert_int_equal(head_distrusted_len(h), 0);

    memcpy(lighter, changes, sizeof lighter);
    lighter[4] = relabel;
    lighter[13] = lighter[N - 1];
    back = taught(lighter, N - 1);
    assert_true(state_distance(h, back) < 1e-9);
    head_close(back);
    head_close(light);
    head_close(h);
}

static void test_confirmed_and_soft_are_no_suspects(void **state)
{
    struct head *h = taught(changes, N);
    struct head_change c = changes[4];
    struct head_target soft[] = {{targets[13].label, 0.5f},
                                 {(targets[13].label + 1) % LABELS, 0.5f}};
    struct head_audit *a;
    uint32_t len, examined;
    const struct head_suspect *s;

    (void)state;
    c.confirmed = true;
    assert_int_equal(head_apply(h, &c, 1), 0);
    c = changes[13];
    c.targets = soft;
    c.targets_len = 2;
    assert_int_equal(head_apply(h, &c, 1), 0);
    a = audited(h);
    s = head_audit_suspects(a, &len, &examined);
    assert_int_equal(examined, N - 2);
    for (uint32_t i = 0; i < len; i++)
        assert_true(s[i].id.lo != 4 && s[i].id.lo != 13);
    head_audit_close(a);
    head_close(h);
}

/* The head may go on while an audit is under way; an empty one is done at once. */
static void test_audit_is_of_its_moment(void **state)
{
    struct head *h = taught(changes, N), *empty = taught(NULL, 0);
    struct head_audit *a, *before = audited(h);
    uint32_t len, examined, want;
    bool done = false;

    (void)state;
    assert_int_equal(head_audit_open(h, &a), 0);
    for (uint32_t i = 0; i < N; i++)
        assert_int_equal(head_apply(h, &(struct head_change){.id = changes[i].id}, 1), 0);
    head_close(h);
    while (!done)
        assert_int_equal(head_audit_step(a, &done), 0);
    head_audit_suspects(a, &len, &examined);
    head_audit_suspects(before, &want, &examined);
    assert_int_equal(len, want);
    head_audit_close(a);
    head_audit_close(before);
    a = audited(empty);
    head_audit_suspects(a, &len, &examined);
    assert_int_equal(len + examined, 0);
    head_audit_close(a);
    head_close(empty);
}

static void test_twins(void **state)
{
    struct head *h = taught(changes, N);
    struct head_change twin[3] = {changes[8], changes[8], changes[9]};
    struct head_target other = {(targets[8].label + 1) % LABELS, 1};
    struct head_audit *a = audited(h);
    const struct head_twin *t;
    uint32_t len;

    (void)state;
    head_audit_twins(a, &len);
    assert_int_equal(len, 0);
    head_audit_close(a);
    twin[0].id = (struct head_id){0, 1}; /* of the same label: no twin */
    twin[1].id = (struct head_id){UINT64_MAX, 2};
    twin[1].targets = &other;
    twin[2].id = (struct head_id){UINT64_MAX, 3};
    twin[2].embedding = embeddings[8];
    assert_int_equal(head_apply(h, twin, 3), 0);
    a = audited(h);
    t = head_audit_twins(a, &len);
    assert_int_equal(len, targets[9].label != targets[8].label ? 2 : 1);
    assert_int_equal(t[0].id.lo, 1); /* the smallest id of the three */
    assert_int_equal(t[0].other.lo, 2);
    assert_int_equal(t[0].label, targets[8].label);
    assert_int_equal(t[0].other_label, other.label);
    head_audit_close(a);
    head_close(h);
}

static void test_image_keeps_marks(void **state)
{
    struct head *h = taught(changes, N), *back;
    struct head_id ids[] = {changes[4].id, changes[22].id};
    struct head_change confirmed = changes[31];
    size_t bytes;
    void *image;

    (void)state;
    confirmed.confirmed = true;
    assert_int_equal(head_apply(h, &confirmed, 1), 0);
    assert_int_equal(head_distrust(h, ids, 2), 0);
    bytes = head_image_bytes(h);
    image = malloc(bytes);
    assert_non_null(image);
    head_image_write(h, image);
    assert_int_equal(head_image_read(head_settings(h), image, bytes, &back), 0);
    assert_int_equal(head_distrusted_len(back), 2);
    assert_true(back->examples[examples_find(back, ids[1])].distrusted);
    assert_true(back->examples[examples_find(back, confirmed.id)].confirmed);
    assert_true(state_distance(h, back) == 0);
    assert_int_equal(head_distrust(back, NULL, 0), 0);
    assert_int_equal(head_distrust(h, NULL, 0), 0);
    assert_true(state_distance(h, back) == 0);
    free(image);
    head_close(back);
    head_close(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finds_what_leaving_out_finds),
        cmocka_unit_test(test_does_not_depend_on_distrust),
        cmocka_unit_test(test_distrust_is_a_weight),
        cmocka_unit_test(test_confirmed_and_soft_are_no_suspects),
        cmocka_unit_test(test_audit_is_of_its_moment),
        cmocka_unit_test(test_twins),
        cmocka_unit_test(test_image_keeps_marks),
    };

    return cmocka_run_group_tests(tests, make, NULL);
}
