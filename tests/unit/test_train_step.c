/* test_train_step.c -- the step function: slopes against central differences, pieces of a batch,
 * dropout, low-rank adapters, and numbers that are none.
 *
 * A slope is taken along a random direction of each tensor, d = (L(w + e d) - L(w - e d)) / 2e,
 * with the dropout on: it depends on (seed, step, example, position) alone, so both sides drop the
 * same. In fp32 the loss has an error of some 1e-6 and e d changes it by 1e-2: within 1 %.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/train/train_internal.h"
#include "tests/unit/train_fixture.h"

#define TINY "tests/golden/tiny-encoder"
#define SINGLE "tests/golden/train/single.safetensors"
#define MULTI "tests/golden/train/multi.safetensors"

static struct train_case opened_case(const char *path)
{
    struct train_case c;

    assert_true(train_case_read(path, &c));
    c.settings.dropout = 0.1f;
    return c;
}

static struct train *opened(const struct train_case *c, bool fp32)
{
    struct train *t = train_case_open(c, TINY, fp32, false);

    assert_non_null(t);
    return t;
}

static float *copied(const float *values, size_t len)
{
    float *copy = malloc(len * sizeof *copy);

    assert_non_null(copy);
    memcpy(copy, values, len * sizeof *copy);
    return copy;
}

/* The gradients of a batch, which the train forgets; the caller frees them. */
static float *gradients_of(struct train *t, const struct train_example *batch, uint32_t len,
                           struct train_report *report)
{
    struct masters *m = &t->masters;
    float *grad;

    assert_int_equal(train_gradients(t, batch, len, report), 0);
    grad = copied(m->grad, m->len);
    memset(m->grad, 0, m->len * sizeof *m->grad);
    return grad;
}

/* ---- slopes ---------------------------------------------------------------------------------- */

static double loss_at(struct train *t, const struct train_case *c)
{
    struct train_report r;

    t->stale = true;
    free(gradients_of(t, c->batch, c->len, &r));
    return r.loss;
}

/* w[from, from + len) along a random direction, as long as a change of 1e-2 of the loss needs. */
static void hold_slope(struct train *t, const struct train_case *c, const float *grad, size_t from,
                       size_t len, uint64_t seed)
{
    struct masters *m = &t->masters;
    float *old = copied(m->w + from, len), *d = malloc(len * sizeof *d);
    double slope = 0, length = 0, e, up, down;

    assert_non_null(d);
    for (size_t i = 0; i < len; i++)
        length += (double)grad[from + i] * grad[from + i];
    length = sqrt(length);
    for (size_t i = 0; i < len; i++) {
        d[i] = (float)(grad[from + i] / length + train_normal(seed, i) / sqrt((double)len) / 2);
        slope += (double)d[i] * grad[from + i];
    }
    e = 1e-2 / fabs(slope);
    for (size_t i = 0; i < len; i++)
        m->w[from + i] = (float)(old[i] + e * d[i]);
    up = loss_at(t, c);
    for (size_t i = 0; i < len; i++)
        m->w[from + i] = (float)(old[i] - e * d[i]);
    down = loss_at(t, c);
    memcpy(m->w + from, old, len * sizeof *old);
    t->stale = true;
    if (!(fabs((up - down) / (2 * e) / slope - 1) < 1e-2))
        fail_msg("block %zu, %zu values: slope %.6g, differences say %.6g", from, len, slope,
                 (up - down) / (2 * e));
    free(old);
    free(d);
}

static void hold_slopes(const char *path, enum train_lora lora)
{
    struct train_case c = opened_case(path);
    struct train_report r;
    struct train *t;
    float *grad;

    c.settings.lora = lora;
    t = opened(&c, true);
    for (int i = 0; i < 3; i++) /* so that no adapter is 0 any more */
        assert_int_equal(train_step(t, c.batch, c.len, &r), 0);
    grad = gradients_of(t, c.batch, c.len, &r);
    for (uint32_t i = 0; i < t->masters.list_len && lora == TRAIN_LORA_NONE; i++) {
        const struct master *p = &t->masters.list[i];

        if (p->how != KEY_BIAS) /* a key's bias has no slope */
            hold_slope(t, &c, grad, p->at, (size_t)p->rows * p->columns, i);
    }
    for (uint32_t i = 0; i < t->masters.adapters_len; i++) {
        const struct adapter *a = &t->masters.adapters[i];

        hold_slope(t, &c, grad, a->a, (size_t)c.settings.lora_rank * a->columns, i);
        hold_slope(t, &c, grad, a->b, (size_t)c.settings.lora_rank * a->rows, i);
    }
    hold_slope(t, &c, grad, t->masters.head, t->masters.biases - t->masters.head, 77);
    if (t->masters.len > t->masters.biases)
        hold_slope(t, &c, grad, t->masters.biases, t->masters.len - t->masters.biases, 78);
    free(grad);
    train_close(t);
    train_case_free(&c);
}

static void test_slopes_are_differences(void **state)
{
    (void)state;
    hold_slopes(SINGLE, TRAIN_LORA_NONE);
    hold_slopes(MULTI, TRAIN_LORA_NONE);
}

static void test_slopes_of_adapters_are_differences(void **state)
{
    (void)state;
    hold_slopes(SINGLE, TRAIN_LORA_ALL);
    hold_slopes(MULTI, TRAIN_LORA_QV);
}

/* ---- pieces and dropout ---------------------------------------------------------------------- */

static void test_pieces_are_the_whole(void **state)
{
    const uint32_t tokens[] = {1, 8, 40, 4096};
    struct train_case c = opened_case(SINGLE);
    float *whole = NULL;
    double loss = 0;

    (void)state;
    for (int i = 3; i >= 0; i--) {
        struct train_report r;
        struct train *t;
        float *grad;
        double off = 0, length = 0;

        c.settings.tokens_max = tokens[i];
        t = opened(&c, true);
        grad = gradients_of(t, c.batch, c.len, &r);
        assert_int_equal(r.tokens, 83);
        if (whole == NULL) {
            whole = copied(grad, t->masters.len);
            loss = r.loss;
        }
        for (size_t n = 0; n < t->masters.len; n++) {
            off += pow((double)grad[n] - whole[n], 2);
            length += pow(whole[n], 2);
        }
        assert_true(sqrt(off) <= 1e-6 * sqrt(length)); /* sums in another order */
        assert_true(fabs(r.loss - loss) < 1e-6);
        assert_true(i != 0 || t->piece.seqs == 1);
        free(grad);
        train_close(t);
    }
    free(whole);
    train_case_free(&c);
}

/* The embedding of one example under dropout, in a batch. */
static void dropped(struct train *t, const struct train_example *batch, uint32_t len,
                    uint32_t which, float *ret_embedding)
{
    assert_int_equal(masters_settle(t), 0);
    assert_int_equal(piece_pack(t, batch, len), 0);
    piece_forward(t, false);
    assert_int_equal(t->backend->sync(t->k), 0);
    memcpy(ret_embedding, t->piece.y + (size_t)which * t->config.C,
           t->config.C * sizeof *ret_embedding);
}

static double apart(const float *x, const float *y, uint32_t C)
{
    double most = 0;

    for (uint32_t i = 0; i < C; i++)
        most = fmax(most, fabs((double)x[i] - y[i]));
    return most;
}

static void test_dropout_is_of_the_example(void **state)
{
    struct train_case c = opened_case(SINGLE);
    struct train *t = opened(&c, true), *other;
    struct train_example turned[2] = {c.batch[4], c.batch[1]};
    float alone[32], among[32], exact[32];

    (void)state;
    dropped(t, c.batch + 4, 1, 0, alone);
    dropped(t, c.batch, c.len, 4, among);
    assert_true(apart(alone, among, 32) < 1e-6);
    dropped(t, turned, 2, 0, among);
    assert_true(apart(alone, among, 32) < 1e-6);
    assert_int_equal(train_embed(t, c.batch + 4, 1, exact), 0);
    assert_true(apart(alone, exact, 32) > 1e-2);

    turned[0].key++; /* another example */
    dropped(t, turned, 1, 0, among);
    assert_true(apart(alone, among, 32) > 1e-2);
    t->step++;
    dropped(t, c.batch + 4, 1, 0, among);
    assert_true(apart(alone, among, 32) > 1e-2);
    train_close(t);
    c.settings.seed++;
    other = opened(&c, true);
    dropped(other, c.batch + 4, 1, 0, among);
    assert_true(apart(alone, among, 32) > 1e-2);
    train_close(other);
    train_case_free(&c);
}

/* The same bits with one thread and with two, in both precisions; a batch that is worth a team. */
static void test_threads_change_nothing(void **state)
{
    struct train_case c = opened_case(SINGLE);
    struct train_example batch[192];

    (void)state;
    for (uint32_t i = 0; i < 192; i++) {
        batch[i] = c.batch[i % c.len];
        batch[i].key = i;
    }
    for (int fp32 = 0; fp32 < 2; fp32++) {
        float *first = NULL;

        for (uint32_t threads = 1; threads <= 2; threads++) {
            struct train_report r;
            struct train *t;

            c.settings.threads = threads;
            t = opened(&c, fp32 != 0);
            for (int i = 0; i < 3; i++)
                assert_int_equal(train_step(t, batch, 192, &r), 0);
            assert_int_equal(r.tokens, 24 * 83);
            if (threads == 1)
                first = copied(t->masters.w, t->masters.len);
            else
                assert_memory_equal(first, t->masters.w, t->masters.len * sizeof *first);
            train_close(t);
        }
        free(first);
    }
    train_case_free(&c);
}

/* ---- what is trained ------------------------------------------------------------------------- */

static void test_adapters_start_at_the_encoder(void **state)
{
    struct train_case c = opened_case(SINGLE);
    struct train *full = opened(&c, true), *t;
    float a[8 * 32], b[8 * 32], *before;
    struct train_report r;

    (void)state;
    c.settings.lora = TRAIN_LORA_ALL;
    t = opened(&c, true);
    assert_int_equal(train_embed(full, c.batch, c.len, a), 0);
    assert_int_equal(train_embed(t, c.batch, c.len, b), 0);
    assert_memory_equal(a, b, sizeof a);
    assert_true(train_image_bytes(t) < train_image_bytes(full) / 2);

    before = copied(t->masters.w, t->masters.len);
    for (int i = 0; i < 4; i++)
        assert_int_equal(train_step(t, c.batch, c.len, &r), 0);
    assert_memory_equal(before, t->masters.w, t->masters.encoder_end * sizeof *before);
    assert_true(memcmp(before + t->masters.encoder_end, t->masters.w + t->masters.encoder_end,
                       (t->masters.len - t->masters.encoder_end) * sizeof *before) != 0);
    assert_int_equal(train_embed(t, c.batch, c.len, b), 0);
    assert_true(apart(a, b, 8 * 32) > 1e-3);
    free(before);
    train_close(full);
    train_close(t);
    train_case_free(&c);
}

/* A run learns what it is shown: the loss of one batch falls to a quarter. */
static void test_a_batch_is_learned(void **state)
{
    const enum train_lora ways[] = {TRAIN_LORA_NONE, TRAIN_LORA_QV, TRAIN_LORA_ALL};
    struct train_case c = opened_case(SINGLE);

    (void)state;
    c.settings.steps = 60;
    c.settings.distill = c.settings.feature = 0;
    for (uint32_t i = 0; i < c.len; i++)
        c.batch[i].old = false;
    for (int way = 0; way < 3; way++) {
        struct train_report r;
        struct train *t;
        double first = 0;

        c.settings.lora = ways[way];
        t = opened(&c, false);
        for (int i = 0; i < 60; i++) {
            assert_int_equal(train_step(t, c.batch, c.len, &r), 0);
            first = i == 0 ? r.loss : first;
        }
        if (!(r.loss < first / 4))
            fail_msg("lora %d: %.3f after %.3f", way, r.loss, first);
        assert_true(r.loss == r.loss_new && r.loss_old == 0);
        train_close(t);
    }
    train_case_free(&c);
}

static void test_schedule(void **state)
{
    const double rates[] = {0.25, 0.5, 0.75, 1, 1, 15.0 / 16, 14.0 / 16};
    struct train_case c = opened_case(SINGLE);
    struct train_report r;
    struct train *t;

    (void)state;
    t = opened(&c, false); /* 20 steps, 20 % of them warm up */
    for (size_t i = 0; i < 20; i++) {
        assert_int_equal(train_step(t, c.batch, 1, &r), 0);
        if (i < sizeof rates / sizeof *rates)
            assert_true(fabs(r.lr - rates[i] * 1e-3) < 1e-9);
    }
    assert_true(fabs(r.lr - 1e-3 / 16) < 1e-9);
    assert_int_equal(train_step(t, c.batch, 1, &r), 0);
    assert_true(r.lr == 0);
    train_close(t);
    train_case_free(&c);
}

/* ---- what is refused ------------------------------------------------------------------------- */

struct state_copy {
    float *w, *m, *v, *grad;
};

static struct state_copy state_of(const struct train *t)
{
    const struct masters *m = &t->masters;

    return (struct state_copy){copied(m->w, m->len), copied(m->m, m->len), copied(m->v, m->len),
                               copied(m->grad, m->len)};
}

static void hold_state(const struct train *t, struct state_copy s)
{
    size_t bytes = t->masters.len * sizeof(float);

    assert_memory_equal(s.w, t->masters.w, bytes);
    assert_memory_equal(s.m, t->masters.m, bytes);
    assert_memory_equal(s.v, t->masters.v, bytes);
    assert_memory_equal(s.grad, t->masters.grad, bytes);
    free(s.w);
    free(s.m);
    free(s.v);
    free(s.grad);
}

static void refuse(struct train *t, const struct train_case *c, int rc)
{
    struct train_report r = {.loss = 42};
    struct state_copy s = state_of(t);
    uint64_t steps = train_steps_done(t);

    assert_int_equal(train_step(t, c->batch, c->len, &r), rc);
    assert_true(r.loss == 42);
    assert_int_equal(train_steps_done(t), steps);
    hold_state(t, s);
}

/* Poison in what a step is given, and in the weights: an error, and nothing has changed. */
static void test_numbers_that_are_none(void **state)
{
    static const float poisons[] = {NAN, INFINITY, -1};
    const char *paths[] = {SINGLE, MULTI};

    (void)state;
    for (int which = 0; which < 2; which++) {
        struct train_case c = opened_case(paths[which]);
        struct train *t = opened(&c, which != 0);
        const struct train_embedding *e = &t->masters.embedding;
        size_t places[] = {e->word->at, e->beta->at, t->masters.layers[1].down->at,
                           t->masters.layers[0].qkv_bias->at, t->masters.head};
        float *known = c.teachers, *unit = c.embeddings, clean;
        struct train_report r;

        assert_int_equal(train_step(t, c.batch, c.len, &r), 0);
        for (int i = 0; i < 3 && which == 0; i++) {
            clean = known[1];
            known[1] = poisons[i];
            refuse(t, &c, -EDOM);
            known[1] = clean;
        }
        clean = known[1];
        known[1] = NAN;
        refuse(t, &c, -EDOM);
        known[1] = clean;
        clean = unit[3];
        unit[3] = INFINITY;
        refuse(t, &c, -EDOM);
        unit[3] = clean;
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            float *w = &t->masters.w[places[i]], y[8 * 32];

            clean = *w;
            *w = i % 2 == 0 ? NAN : INFINITY;
            t->stale = true;
            refuse(t, &c, -EDOM);
            if (i > 0 && i < 4)
                assert_int_equal(train_embed(t, c.batch, c.len, y), -EDOM);
            *w = clean;
            t->stale = true;
        }
        assert_int_equal(train_step(t, c.batch, c.len, &r), 0);
        train_close(t);
        train_case_free(&c);
    }
}

static void test_examples_out_of_range(void **state)
{
    struct train_case c = opened_case(SINGLE);
    struct train *t = opened(&c, true);
    struct train_example *e = &c.batch[1], clean = *e;
    struct train_target target = e->targets[0], half[] = {{0, 0.5f}, {1, 0.4f}};
    int32_t ids[65], unused = 0;
    uint8_t type = 2;
    struct train_report r;

    (void)state;
    for (unused = 0; t->masters.row_of[unused] >= 0; unused++)
        continue;
    for (int i = 0; i < 65; i++)
        ids[i] = e->ids[0];
    for (int i = 0; i < 12; i++) {
        int32_t bad[] = {-1, 257, INT32_MAX, unused};

        if (i < 4)
            e->ids = &bad[i];
        if (i < 5)
            e->len = i < 4 ? 1 : 0;
        if (i == 5) {
            e->ids = ids;
            e->types = NULL;
            e->len = 65;
        }
        if (i == 6) {
            e->types = &type;
            e->len = 1;
        }
        target = clean.targets[0];
        if (i == 7)
            target.label = 5;
        if (i == 8)
            target.value = NAN;
        if (i == 9)
            target.value = 1.5f;
        if (i >= 7 && i < 10)
            e->targets = &target;
        if (i == 10) {
            e->targets = half;
            e->targets_len = 2;
        }
        if (i == 11) {
            e->teacher = c.teachers;
            e->teacher_len = 6;
        }
        refuse(t, &c, -EINVAL);
        *e = clean;
    }
    assert_int_equal(train_step(t, c.batch, 0, &r), -EINVAL);
    assert_int_equal(train_step(t, c.batch, c.len, &r), 0);
    train_close(t);
    train_case_free(&c);
}

static void refuse_settings(const struct train_settings *s, uint32_t used_len, const uint8_t *used,
                            const char *folder, int rc, const char *word)
{
    struct train *t = NULL;
    char why[512] = "";

    assert_int_equal(
        train_open(backend_cpu(), folder, s, used, used_len, NULL, why, sizeof why, &t), rc);
    assert_null(t);
    if (strstr(why, word) == NULL)
        fail_msg("\"%s\" does not say %s", why, word);
}

static void test_settings_out_of_range(void **state)
{
    uint8_t used[257] = {[7] = 1}, none[257] = {0};
    struct train_settings good, s;
    struct train *t;
    char why[512];

    (void)state;
    train_settings_default(&good);
    good.labels_len = 2;
    good.steps = 10;
    good.threads = 1;
#define REFUSE(field, value)                                                                       \
    s = good;                                                                                      \
    s.field = value;                                                                               \
    refuse_settings(&s, 257, used, TINY, -EINVAL, #field);
    REFUSE(labels_len, 1)
    REFUSE(steps, 0)
    REFUSE(lr, NAN)
    REFUSE(lr, -1)
    REFUSE(head_lr, INFINITY)
    REFUSE(warmup, 1.5f)
    REFUSE(weight_decay, -0.1f)
    REFUSE(clip, 0)
    REFUSE(dropout, 1)
    REFUSE(scale, 0)
    REFUSE(alpha, -1)
    REFUSE(distill, NAN)
    REFUSE(temperature, 0)
    REFUSE(feature, -1)
    REFUSE(threads, 0)
    REFUSE(tokens_max, 0)
    REFUSE(kind, 7)
    REFUSE(lora, 7)
#undef REFUSE
    s = good;
    s.lora = TRAIN_LORA_QV;
    s.lora_rank = 0;
    refuse_settings(&s, 257, used, TINY, -EINVAL, "lora_rank");
    refuse_settings(&good, 256, used, TINY, -EINVAL, "vocabulary");
    refuse_settings(&good, 257, none, TINY, -EINVAL, "no text");
    refuse_settings(&good, 257, used, "/nonexistent", -ENOENT, "/nonexistent");
    good.kind = TRAIN_MULTI;
    good.labels_len = 1;
    assert_int_equal(train_open(backend_cpu(), TINY, &good, used, 257, NULL, why, sizeof why, &t),
                     0);
    train_close(t);
    train_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slopes_are_differences),
        cmocka_unit_test(test_slopes_of_adapters_are_differences),
        cmocka_unit_test(test_pieces_are_the_whole),
        cmocka_unit_test(test_dropout_is_of_the_example),
        cmocka_unit_test(test_threads_change_nothing),
        cmocka_unit_test(test_adapters_start_at_the_encoder),
        cmocka_unit_test(test_a_batch_is_learned),
        cmocka_unit_test(test_schedule),
        cmocka_unit_test(test_numbers_that_are_none),
        cmocka_unit_test(test_examples_out_of_range),
        cmocka_unit_test(test_settings_out_of_range),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
