/* test_plan.c -- what a run trains on: every row once an epoch, held-out rows never, whatever the
 * order they come in and the step one asks for; samples that are balanced and lean to the new;
 * replay's halves.
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

#include "kernels/head/head.h"
#include "kernels/train/plan.h"
#include "tests/unit/fault_alloc.h"
#include "tests/unit/measure_fixture.h"

enum { N = 3000, LABELS = 12, BATCH = 32 };

static struct plan_row rows[N];

/* Label c has about (c + 1) shares; the first two thirds are old. */
static int make(void **state)
{
    uint64_t seed = 4;

    (void)state;
    for (uint32_t i = 0; i < N; i++) {
        double u = fixture_uniform(&seed);

        rows[i] = (struct plan_row){.hi = fixture_draw(&seed),
                                    .lo = i,
                                    .label = (uint32_t)(LABELS * sqrt(u)),
                                    .len = 3 + (uint32_t)(57 * pow(fixture_uniform(&seed), 3)),
                                    .seq = i + 1,
                                    .old = i < N / 3 * 2};
    }
    return 0;
}

static struct plan_settings settings_of(enum plan_strategy strategy)
{
    struct plan_settings s = plan_settings_default;

    s.strategy = strategy;
    s.steps_min = 0;
    s.seed = 1;
    return s;
}

static struct plan *planned(const struct plan_row *from, uint32_t len,
                            const struct plan_settings *settings)
{
    struct plan *p;

    assert_int_equal(plan_open(from, len, settings, &p), 0);
    return p;
}

static struct plan_summary summary_of(const struct plan *p)
{
    struct plan_summary s;

    plan_read(p, &s);
    return s;
}

static uint32_t trainable(bool new_only)
{
    uint32_t len = 0;

    for (uint32_t i = 0; i < N; i++)
        len += !plan_held_out(rows[i].hi) && !(new_only && rows[i].old);
    return len;
}

/* A batch, checked: of the promised size, of rows that may be trained on, none twice. */
static uint32_t batch_of(const struct plan *p, uint64_t step, uint32_t batch[BATCH])
{
    struct plan_summary s = summary_of(p);
    uint32_t len;

    assert_true(s.batch_max <= BATCH);
    assert_int_equal(plan_batch(p, step, batch, &len), 0);
    assert_true(len == s.batch_max || len + 1 == s.batch_max);
    for (uint32_t i = 0; i < len; i++) {
        assert_true(batch[i] < N);
        assert_false(plan_held_out(rows[batch[i]].hi));
        for (uint32_t k = 0; k < i; k++)
            assert_int_not_equal(batch[i], batch[k]);
    }
    return len;
}

static void test_held_out(void **state)
{
    uint64_t seed = 9, held = 0;

    (void)state;
    for (int i = 0; i < 100000; i++) {
        struct head_id id = {fixture_draw(&seed), 0};

        held += plan_held_out(id.hi);
        assert_int_equal(plan_held_out(id.hi), head_held_out(id)); /* one rule in two libraries */
    }
    assert_in_range(held, 9700, 10300);
    assert_true(plan_held_out(0) && plan_held_out(1234567890) && !plan_held_out(1234567891));
}

/* Every trainable row once in each epoch, in an order of its own; tokens spread evenly. */
static void test_joint_epochs(void **state)
{
    struct plan_settings settings = settings_of(PLAN_JOINT);
    struct plan *p = planned(rows, N, &settings);
    struct plan_summary s = summary_of(p);
    uint32_t first[N] = {0}, batch[BATCH], same = 0;
    uint64_t step = 0;

    (void)state;
    assert_int_equal(s.rows_len, trainable(false));
    assert_int_equal(s.held_out_len, N - s.rows_len);
    assert_int_equal(s.left_out_len, 0);
    assert_int_equal(s.labels_len, LABELS);
    assert_int_equal(s.steps_per_epoch, (s.rows_len + BATCH - 1) / BATCH);
    assert_int_equal(s.steps, 4 * s.steps_per_epoch);
    for (int epoch = 0; epoch < 4; epoch++) {
        uint8_t seen[N] = {0};
        uint64_t tokens = 0;

        for (uint64_t k = 0; k < s.steps_per_epoch; k++, step++) {
            uint32_t len = batch_of(p, step, batch), of_batch = 0;

            for (uint32_t i = 0; i < len; i++) {
                assert_int_equal(seen[batch[i]]++, 0);
                of_batch += rows[batch[i]].len;
                same += epoch > 0 && first[batch[i]] == k;
                first[batch[i]] = epoch == 0 ? (uint32_t)k : first[batch[i]];
            }
            tokens += of_batch;
            assert_true(fabs(of_batch * (double)s.steps_per_epoch / (double)s.tokens - 1) < 0.2);
        }
        assert_int_equal(tokens, s.tokens); /* so all were seen */
    }
    /* A row meets its first batch's number again one time in steps_per_epoch. */
    assert_in_range(same, 1, 3 * s.rows_len / s.steps_per_epoch * 2);
    assert_int_equal(plan_batch(p, step, batch, &same), -ERANGE);
    plan_close(p);
}

/* Over many epochs a row comes to every place, and beside every other row, about equally often. */
static void test_permutations_are_even(void **state)
{
    struct plan_settings settings = settings_of(PLAN_JOINT);
    struct plan_row few[BATCH * 3];
    struct plan *p;
    struct plan_summary s;
    uint32_t at[100] = {0}, beside[BATCH * 3] = {0}, batch[BATCH], len, used = 0;

    (void)state;
    for (uint32_t i = 0; used < BATCH * 3 && i < N; i++)
        if (!plan_held_out(rows[i].hi)) {
            few[used] = rows[i];
            few[used++].len = 5;
        }
    settings.batch = 8;
    settings.epochs = 2400;
    p = planned(few, used, &settings);
    s = summary_of(p);
    assert_int_equal(s.steps_per_epoch, 12);
    for (uint64_t step = 0; step < s.steps; step++) {
        bool has = false;

        assert_int_equal(plan_batch(p, step, batch, &len), 0);
        for (uint32_t i = 0; i < len; i++)
            has = has || batch[i] == 0;
        at[step % 12] += has;
        for (uint32_t i = 0; i < len && has; i++)
            beside[batch[i]]++;
    }
    for (int k = 0; k < 12; k++) /* 200 each, standard deviation 13.5 */
        assert_in_range(at[k], 140, 260);
    for (uint32_t i = 1; i < used; i++) /* 200, but for the 11 of its own stratum */
        assert_true(beside[i] == 0 || (beside[i] >= 140 && beside[i] <= 260));
    plan_close(p);
}

static void shuffle(struct plan_row *to, uint64_t seed)
{
    memcpy(to, rows, sizeof rows);
    for (uint32_t i = N - 1; i > 0; i--) {
        uint32_t j = (uint32_t)(fixture_uniform(&seed) * (i + 1));
        struct plan_row row = to[i];

        to[i] = to[j];
        to[j] = row;
    }
}

/* The same rows in the same places of the same batches, asked for backwards. */
static void test_only_the_set_counts(void **state)
{
    static struct plan_row other[N];

    (void)state;
    shuffle(other, 8);
    for (int k = 0; k < 3; k++) {
        struct plan_settings settings = settings_of((enum plan_strategy)k);
        struct plan *a, *b, *c;
        uint32_t x[BATCH], y[BATCH], x_len, y_len, differ = 0;

        settings.examples_max = k == 1 ? 0 : 500;
        a = planned(rows, N, &settings);
        b = planned(other, N, &settings);
        settings.seed = 2;
        c = planned(rows, N, &settings);
        assert_true(summary_of(a).digest == summary_of(b).digest);
        assert_true(summary_of(a).digest != summary_of(c).digest);
        for (uint64_t step = summary_of(a).steps; step-- > 0;) {
            x_len = batch_of(a, step, x);
            assert_int_equal(plan_batch(b, step, y, &y_len), 0);
            assert_int_equal(x_len, y_len);
            for (uint32_t i = 0; i < x_len; i++)
                assert_true(rows[x[i]].lo == other[y[i]].lo);
            (void)batch_of(c, step, y);
            differ += memcmp(x, y, sizeof *x * (x_len - 1)) != 0;
        }
        assert_int_equal(differ, summary_of(a).steps);
        plan_close(a);
        plan_close(b);
        plan_close(c);
    }
}

static void test_digest_knows_what_counts(void **state)
{
    static struct plan_row other[N];
    struct plan_settings settings = settings_of(PLAN_JOINT), more;
    struct plan *p = planned(rows, N, &settings);
    uint64_t digest = summary_of(p).digest;

    (void)state;
    plan_close(p);
    for (int k = 0; k < 4; k++) {
        uint32_t i = 0;

        while (plan_held_out(rows[i].hi))
            i++;
        memcpy(other, rows, sizeof rows);
        more = settings;
        other[i].label += k == 0;
        other[i].lo += k == 1 ? N : 0;
        more.epochs += k == 2;
        more.batch -= k == 3;
        p = planned(other, N, &more);
        assert_true(summary_of(p).digest != digest);
        plan_close(p);
    }
}

static void test_how_many_steps(void **state)
{
    struct plan_settings s = settings_of(PLAN_JOINT);
    uint32_t one = 0;
    struct plan *p;
    uint32_t batch[BATCH], len;

    (void)state;
    while (plan_held_out(rows[one].hi))
        one++;
    s.steps_min = 300;
    p = planned(&rows[one], 1, &s);
    assert_int_equal(summary_of(p).steps, 300);
    assert_int_equal(plan_batch(p, 299, batch, &len), 0);
    assert_true(len == 1 && batch[0] == 0);
    plan_close(p);
    s.steps_min =
        4 * (uint64_t)((trainable(false) + 31) / 32) + 1; /* one more: a whole epoch more */
    p = planned(rows, N, &s);
    assert_int_equal(summary_of(p).steps, 5 * summary_of(p).steps_per_epoch);
    plan_close(p);
    s.steps_max = 17;
    p = planned(rows, N, &s);
    assert_int_equal(summary_of(p).steps, 17);
    assert_int_equal(plan_batch(p, 17, batch, &len), -ERANGE);
    plan_close(p);
}

static uint32_t count_of(const struct plan *p, uint8_t seen[N], uint32_t per_label[LABELS])
{
    uint32_t batch[BATCH], kept = 0;

    memset(seen, 0, N);
    memset(per_label, 0, LABELS * sizeof *per_label);
    for (uint64_t step = 0; step < summary_of(p).steps_per_epoch; step++)
        for (uint32_t i = batch_of(p, step, batch); i-- > 0; kept++) {
            seen[batch[i]] = 1;
            per_label[rows[batch[i]].label]++;
        }
    return kept;
}

static void test_samples(void **state)
{
    struct plan_settings settings = settings_of(PLAN_JOINT);
    uint8_t seen[N];
    uint32_t have[LABELS] = {0}, got[LABELS], first = 0, last = 0, changed = 0;

    (void)state;
    for (uint32_t i = 0; i < N; i++)
        if (!plan_held_out(rows[i].hi))
            have[rows[i].label]++;
    settings.examples_max = 605;
    for (settings.seed = 1; settings.seed <= 40; settings.seed++) {
        struct plan *p = planned(rows, N, &settings);
        uint32_t most = 0, least = N;

        assert_int_equal(count_of(p, seen, got), 605);
        assert_int_equal(summary_of(p).rows_len, 605);
        assert_int_equal(summary_of(p).left_out_len, trainable(false) - 605);
        for (int c = 0; c < LABELS; c++) {
            most = got[c] > most ? got[c] : most;
            least = got[c] < have[c] && got[c] < least ? got[c] : least;
        }
        assert_true(most - least <= 1); /* short labels apart, which have all they have */
        assert_true(have[0] < 605 / LABELS && got[0] == have[0]);
        for (uint32_t i = 0; i < N / 10; i++) {
            first += seen[i];
            last += seen[N - 1 - i];
        }
        changed += got[LABELS - 1] < most || got[1] < most;
        plan_close(p);
    }
    /* A tenth of a label's range counts about .27 and .93: drawn 3 times as often, less what short
     * and nearly exhausted labels even out. */
    assert_true(last > 2 * first && last < 4 * first);
    assert_in_range(changed, 1, 40); /* who gets the rest is by lot */
}

/* A budget below the number of labels: that many labels have one. */
static void test_a_tiny_sample(void **state)
{
    struct plan_settings settings = settings_of(PLAN_JOINT);
    uint32_t got[LABELS];
    uint8_t seen[N];
    struct plan *p;

    (void)state;
    settings.examples_max = 5;
    p = planned(rows, N, &settings);
    assert_int_equal(count_of(p, seen, got), 5);
    assert_int_equal(summary_of(p).labels_len, 5);
    plan_close(p);
}

static void test_replay(void **state)
{
    struct plan_settings settings = settings_of(PLAN_REPLAY);
    uint32_t batch[BATCH], fresh[N] = {0}, drawn[LABELS] = {0}, have[LABELS] = {0}, all = 0;
    double share = 0;
    struct plan *p;

    (void)state;
    settings.epochs = 20;
    p = planned(rows, N, &settings);
    assert_int_equal(summary_of(p).rows_len, trainable(true));
    assert_int_equal(summary_of(p).old_len, trainable(false) - trainable(true));
    assert_int_equal(summary_of(p).steps_per_epoch, (trainable(true) + 15) / 16);
    for (uint64_t step = 0; step < summary_of(p).steps; step++) {
        uint32_t len = batch_of(p, step, batch), old = 0;

        for (uint32_t i = 0; i < len; i++) {
            old += rows[batch[i]].old;
            fresh[batch[i]] += !rows[batch[i]].old;
            drawn[rows[batch[i]].label] += rows[batch[i]].old;
        }
        assert_int_equal(old, BATCH / 2);
        all += old;
    }
    for (uint32_t i = 0; i < N; i++) {
        bool in = !plan_held_out(rows[i].hi);

        assert_int_equal(fresh[i], in && !rows[i].old ? 20 : 0);
        have[rows[i].label] += in && rows[i].old;
    }
    for (int c = 0; c < LABELS; c++)
        share += sqrt(have[c]);
    for (int c = 0; c < LABELS; c++) { /* a row's chance: 1/sqrt(n); a label's: sqrt(n) */
        double want = all * sqrt(have[c]) / share;

        assert_true(fabs(drawn[c] - want) < 5 * sqrt(want));
    }
    plan_close(p);
}

static void test_replay_at_its_ends(void **state)
{
    struct plan_settings settings = settings_of(PLAN_REPLAY);
    static struct plan_row few[N];
    uint32_t len = 0, kept_old = 0, batch[BATCH], n;
    struct plan *p;

    (void)state;
    for (uint32_t i = 0; i < N; i++) /* three old rows of one label and all new ones */
        if (!plan_held_out(rows[i].hi) && (!rows[i].old || kept_old < 3)) {
            few[len] = rows[i];
            kept_old += rows[i].old;
            few[len++].label = 3;
        }
    p = planned(few, len, &settings);
    assert_int_equal(summary_of(p).old_len, 3);
    for (uint64_t step = 0; step < 50; step++) {
        uint32_t old = 0;

        assert_int_equal(plan_batch(p, step, batch, &n), 0);
        for (uint32_t i = 0; i < n; i++)
            old += few[batch[i]].old;
        assert_int_equal(old, 3); /* all there are, none twice */
    }
    plan_close(p);
    p = planned(few + 3, len - 3, &settings); /* none old: new ones alone */
    assert_int_equal(summary_of(p).old_len, 0);
    assert_int_equal(summary_of(p).steps_per_epoch, (len - 3 + BATCH - 1) / BATCH);
    plan_close(p);
    assert_int_equal(plan_open(few, 3, &settings, &p), -ENODATA); /* nothing new */
}

static void test_naive_and_head(void **state)
{
    struct plan_settings settings = settings_of(PLAN_NAIVE);
    struct plan *p = planned(rows, N, &settings);
    uint32_t batch[BATCH], len;

    (void)state;
    assert_int_equal(summary_of(p).rows_len, trainable(true));
    for (uint64_t step = 0; step < summary_of(p).steps_per_epoch; step++)
        for (uint32_t i = batch_of(p, step, batch); i-- > 0;)
            assert_false(rows[batch[i]].old);
    plan_close(p);
    settings.strategy = PLAN_HEAD;
    settings.steps_min = 300;
    p = planned(rows, N, &settings);
    assert_int_equal(summary_of(p).steps, 0);
    assert_int_equal(summary_of(p).rows_len, trainable(false));
    assert_int_equal(plan_batch(p, 0, batch, &len), -ERANGE);
    plan_close(p);
    p = planned(rows, 0, &settings);
    plan_close(p);
}

static void test_bad_input(void **state)
{
    const struct plan_settings good = settings_of(PLAN_JOINT);
    struct plan_settings bad[6];
    struct plan_row twice[] = {rows[0], rows[1], rows[0]};
    struct plan *p = NULL;

    (void)state;
    for (int i = 0; i < 6; i++)
        bad[i] = good;
    bad[0].batch = 0;
    bad[1].epochs = 0;
    bad[2].steps_min = PLAN_STEPS_MAX + 1ull;
    bad[3].steps_max = PLAN_STEPS_MAX + 1ull;
    bad[4].strategy = (enum plan_strategy)9;
    bad[5].strategy = PLAN_REPLAY;
    bad[5].batch = 1;
    for (int i = 0; i < 6; i++)
        assert_int_equal(plan_open(rows, N, &bad[i], &p), -EINVAL);
    twice[2].label++; /* whatever else differs */
    assert_int_equal(plan_open(twice, 3, &good, &p), -EINVAL);
    assert_int_equal(plan_open(rows, 0, &good, &p), -ENODATA);
    for (uint64_t n = 1;; n++) {
        int rc;

        fault_alloc_arm(n, false);
        rc = plan_open(rows, 50, &good, &p);
        if (!fault_alloc_disarm()) {
            assert_int_equal(rc, 0);
            assert_true(n > 5);
            break;
        }
        assert_int_equal(rc, -ENOMEM);
        assert_null(p);
    }
    plan_close(p);
    plan_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_held_out),
        cmocka_unit_test(test_joint_epochs),
        cmocka_unit_test(test_permutations_are_even),
        cmocka_unit_test(test_only_the_set_counts),
        cmocka_unit_test(test_digest_knows_what_counts),
        cmocka_unit_test(test_how_many_steps),
        cmocka_unit_test(test_samples),
        cmocka_unit_test(test_a_tiny_sample),
        cmocka_unit_test(test_replay),
        cmocka_unit_test(test_replay_at_its_ends),
        cmocka_unit_test(test_naive_and_head),
        cmocka_unit_test(test_bad_input),
    };

    return cmocka_run_group_tests(tests, make, NULL);
}
