/* test_device_kernels.c -- an encoder and a train on a device whose memory the host cannot see
 * (tests/device): the CPU's bits, what they hold given back, and every way in which a device fails.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/encoder/encoder.h"
#include "kernels/train/train_internal.h"
#include "tests/unit/fake_fixture.h"
#include "tests/unit/train_fixture.h"

#define TINY "tests/golden/tiny-encoder"
#define SINGLE "tests/golden/train/single.safetensors"
#define MULTI "tests/golden/train/multi.safetensors"

enum { V = 257, C = 32, STEPS = 6 };

/* ---- the encoder ----------------------------------------------------------------------------- */

static const int32_t ids[] = {2, 40, 41, 3, 2, 77, 3, 2, 100, 101, 102, 103, 3};
static const uint8_t types[] = {0, 0, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1};
static const uint32_t offsets[] = {0, 4, 7, 13};

static struct encoder *encoder_on(const struct backend *backend, enum encoder_precision precision)
{
    struct encoder *e = NULL;
    char why[256] = "";

    if (encoder_open(backend, TINY, precision, why, sizeof why, &e) != 0)
        fail_msg("%s", why);
    return e;
}

static int embed(struct encoder_ctx *ctx, bool with_types, float y[3 * C])
{
    struct encoder_batch b = {ids, with_types ? types : NULL, offsets, 3};

    return encoder_forward(ctx, &b, 1, y);
}

static void test_an_encoder_answers_as_on_the_cpu(void **state)
{
    const struct backend *of[] = {backend_cpu(), fake_fixture_open()};
    const enum encoder_precision precisions[] = {ENCODER_FP32, ENCODER_BF16};
    uint64_t before = fake_fixture_used();

    (void)state;
    for (int p = 0; p < 2; p++)
        for (int with_types = 0; with_types < 2; with_types++) {
            float y[2][3 * C];

            for (int d = 0; d < 2; d++) {
                struct encoder *e = encoder_on(of[d], precisions[p]);
                struct encoder_ctx *ctx;

                assert_string_equal(encoder_info(e)->backend, d == 0 ? "cpu" : "fake:0");
                assert_int_equal(encoder_ctx_open(e, 64, 4, &ctx), 0);
                assert_int_equal(embed(ctx, with_types != 0, y[d]), 0);
                encoder_ctx_close(ctx);
                encoder_close(e);
            }
            assert_memory_equal(y[0], y[1], sizeof y[0]);
        }
    assert_int_equal(fake_fixture_used(), before);
}

static void test_a_context_stays_on_its_device(void **state)
{
    struct encoder *here = encoder_on(backend_cpu(), ENCODER_FP32);
    struct encoder *there = encoder_on(fake_fixture_open(), ENCODER_FP32);
    struct encoder_ctx *ctx;
    float y[3 * C];

    (void)state;
    assert_int_equal(encoder_ctx_open(there, 64, 4, &ctx), 0);
    assert_int_equal(encoder_ctx_use(ctx, here), -EXDEV);
    assert_int_equal(embed(ctx, true, y), 0); /* as before */
    encoder_ctx_close(ctx);
    encoder_close(here);
    encoder_close(there);
}

/* From no memory at all to enough: it says how much it needs, and holds nothing afterwards. */
static void test_an_encoder_needs_its_memory(void **state)
{
    const struct backend *fake = fake_fixture_open();
    uint64_t before = fake_fixture_used();
    char text[64], why[256];
    int refused = 0, rc = -ENOMEM;

    (void)state;
    for (uint64_t total = before; rc != 0; total += 2048) {
        struct encoder *e = NULL;
        struct encoder_ctx *ctx = NULL;

        snprintf(text, sizeof text, "total %llu\n", (unsigned long long)total);
        fake_fixture_tell(text);
        rc = encoder_open(fake, TINY, ENCODER_BF16, why, sizeof why, &e);
        if (rc != 0 && strstr(why, "out of memory: the weights need 0.1 MiB on fake:0") == NULL)
            fail_msg("%s", why);
        if (rc == 0)
            rc = encoder_ctx_open(e, 64, 4, &ctx);
        assert_true(rc == 0 || rc == -ENOMEM);
        refused += rc != 0;
        encoder_ctx_close(ctx);
        encoder_close(e);
        assert_int_equal(fake_fixture_used(), before);
    }
    assert_true(refused > 20);
}

static void test_a_forward_that_failed_gives_no_answer(void **state)
{
    struct encoder *e = encoder_on(fake_fixture_open(), ENCODER_FP32);
    struct encoder_ctx *ctx;
    float y[3 * C], right[3 * C];

    (void)state;
    assert_int_equal(encoder_ctx_open(e, 64, 4, &ctx), 0);
    assert_int_equal(embed(ctx, true, right), 0);
    fake_fixture_tell("fail 1\n");
    assert_int_equal(embed(ctx, true, y), -EIO);
    assert_int_equal(embed(ctx, true, y), 0);
    assert_memory_equal(y, right, sizeof y);
    fake_fixture_tell("lost 1\n");
    assert_int_equal(embed(ctx, true, y), -ENODEV);
    encoder_ctx_close(ctx);
    assert_int_equal(encoder_ctx_open(e, 64, 4, &ctx), -ENODEV);
    encoder_close(e);
    fake_fixture_tell("");
}

/* ---- training -------------------------------------------------------------------------------- */

struct trained {
    struct train_bytes weights;
    uint8_t *image;
    size_t image_bytes;
    struct train_report last;
};

static struct train *train_on(const struct backend *backend, const struct train_case *c)
{
    struct train *t = NULL;
    uint8_t used[V];
    char why[256] = "";

    for (int i = 0; i < V; i++)
        used[i] = i % 7 != 0;
    for (uint32_t i = 0; i < c->len; i++)
        for (uint32_t n = 0; n < c->batch[i].len; n++)
            used[c->batch[i].ids[n]] = 1;
    if (train_open(backend, TINY, &c->settings, used, V, c->prototypes, why, sizeof why, &t) != 0)
        fail_msg("%s", why);
    return t;
}

static void keep(struct train *t, struct trained *r)
{
    r->image_bytes = train_image_bytes(t);
    r->image = malloc(r->image_bytes);
    assert_non_null(r->image);
    assert_int_equal(train_image_write(t, r->image), 0);
    assert_int_equal(train_weights_write(t, train_bytes_take, &r->weights), 0);
}

static void forget(struct trained *r)
{
    free(r->image);
    free(r->weights.bytes);
    *r = (struct trained){0};
}

static void steps(struct train *t, const struct train_case *c, uint32_t from, uint32_t to,
                  struct train_report *report)
{
    for (uint32_t i = from; i < to; i++)
        assert_int_equal(train_step(t, c->batch, train_case_len(c, i), report), 0);
}

/* Half of the steps on a train, the rest on another that reads its image. */
static void train_all(const struct backend *backend, const struct train_case *c, struct trained *r)
{
    struct train *first = train_on(backend, c), *second = train_on(backend, c);
    struct trained half = {0};

    steps(first, c, 0, STEPS / 2, &r->last);
    keep(first, &half);
    assert_int_equal(train_image_read(second, half.image, half.image_bytes), 0);
    steps(second, c, STEPS / 2, STEPS, &r->last);
    keep(second, r);
    forget(&half);
    train_close(first);
    train_close(second);
}

static void same_bits(const char *path, enum train_lora lora, bool fp32)
{
    const struct backend *of[] = {backend_cpu(), fake_fixture_open()};
    uint64_t before = fake_fixture_used();
    struct trained r[2] = {0};
    struct train_case c;

    assert_true(train_case_read(path, &c));
    c.settings.lora = lora;
    c.settings.fp32 = fp32;
    c.settings.dropout = 0.1f;
    c.settings.tokens_max = 40; /* several pieces */
    for (int d = 0; d < 2; d++)
        train_all(of[d], &c, &r[d]);
    assert_memory_equal(&r[0].last, &r[1].last, sizeof r[0].last);
    assert_int_equal(r[0].image_bytes, r[1].image_bytes);
    assert_memory_equal(r[0].image, r[1].image, r[0].image_bytes);
    assert_int_equal(r[0].weights.len, r[1].weights.len);
    assert_memory_equal(r[0].weights.bytes, r[1].weights.bytes, r[0].weights.len);
    for (int d = 0; d < 2; d++)
        forget(&r[d]);
    train_case_free(&c);
    assert_int_equal(fake_fixture_used(), before);
}

static void test_training_gives_the_bits_of_the_cpu(void **state)
{
    (void)state;
    for (int fp32 = 0; fp32 < 2; fp32++)
        for (int lora = TRAIN_LORA_NONE; lora <= TRAIN_LORA_ALL; lora++) {
            same_bits(SINGLE, (enum train_lora)lora, fp32 != 0);
            same_bits(MULTI, (enum train_lora)lora, fp32 != 0);
        }
}

/* The device is full but for a part of what a step wants: smaller pieces, the same tokens. */
static void test_pieces_shrink_where_the_device_is_full(void **state)
{
    const struct backend *fake = fake_fixture_open();
    struct train_case c;
    struct train_report wide, narrow;
    struct train *t;
    char text[64];
    uint64_t used;

    (void)state;
    assert_true(train_case_read(SINGLE, &c));
    c.settings.fp32 = true;
    t = train_on(fake, &c);
    used = fake_fixture_used();
    assert_int_equal(train_step(t, c.batch, c.len, &wide), 0);
    snprintf(text, sizeof text, "total %llu\n",
             (unsigned long long)(used + (fake_fixture_used() - used) * 3 / 4));
    train_close(t);

    t = train_on(fake, &c);
    fake_fixture_tell(text);
    assert_int_equal(train_step(t, c.batch, c.len, &narrow), 0);
    assert_true(t->tokens_max < c.settings.tokens_max);
    assert_int_equal(narrow.tokens, wide.tokens);
    assert_true(fabs(wide.loss - narrow.loss) < 1e-6);

    snprintf(text, sizeof text, "total %llu\n", (unsigned long long)used);
    piece_free(t);
    fake_fixture_tell(text);
    assert_int_equal(train_step(t, c.batch, c.len, &narrow), -ENOMEM);
    assert_int_equal(train_steps_done(t), 1);
    train_close(t);
    fake_fixture_tell("");
    train_case_free(&c);
}

static void test_a_train_says_what_it_needs(void **state)
{
    const struct backend *fake = fake_fixture_open();
    struct backend serving = *backend_cpu();
    struct train_case c;
    struct train *t = NULL;
    uint8_t used[V];
    char why[256];

    (void)state;
    memset(used, 1, sizeof used);
    assert_true(train_case_read(SINGLE, &c));
    fake_fixture_tell("total 1000\n");
    assert_int_equal(
        train_open(fake, TINY, &c.settings, used, V, c.prototypes, why, sizeof why, &t), -ENOMEM);
    assert_non_null(strstr(why, "weights, gradients and moments need 0."));
    assert_non_null(strstr(why, "MiB on fake:0"));
    fake_fixture_tell("");
    serving.training = NULL;
    assert_int_equal(
        train_open(&serving, TINY, &c.settings, used, V, c.prototypes, why, sizeof why, &t),
        -ENOTSUP);
    assert_string_equal(why, "cpu cannot train");
    assert_null(t);
    train_case_free(&c);
}

/* Sync n of a step fails, for every n: before the update nothing has changed and the step can be
 * taken again; in the middle of it only an image helps. */
static void test_a_device_may_fail_at_any_moment(void **state)
{
    const enum train_lora ways[] = {TRAIN_LORA_NONE, TRAIN_LORA_QV};

    (void)state;
    for (int way = 0; way < 2; way++) {
        const struct backend *fake = fake_fixture_open();
        struct trained before = {0}, after = {0}, right = {0}, again = {0};
        struct train_report r;
        struct train_case c;
        struct train *t;
        bool ended = false;
        char text[64];
        int n = 0;

        assert_true(train_case_read(SINGLE, &c));
        c.settings.lora = ways[way];
        c.settings.tokens_max = 40;
        t = train_on(fake, &c);
        keep(t, &before);
        assert_int_equal(train_step(t, c.batch, c.len, &r), 0);
        keep(t, &right);
        assert_int_equal(train_image_read(t, before.image, before.image_bytes), 0);
        for (; !ended; n++) {
            snprintf(text, sizeof text, "fail_training 1\nskip %d\n", n);
            fake_fixture_tell(text);
            assert_int_equal(train_step(t, c.batch, c.len, &r), -EIO);
            fake_fixture_tell("");
            ended = t->failed != 0;
            if (ended) {
                assert_int_equal(train_step(t, c.batch, c.len, &r), -EIO);
                assert_int_equal(train_image_read(t, before.image, before.image_bytes), 0);
            }
            assert_int_equal(train_image_write(t, right.image), 0);
            assert_memory_equal(right.image, before.image, before.image_bytes);
            t->stale = true;
        }
        assert_true(n > 4);
        assert_int_equal(train_step(t, c.batch, c.len, &r), 0);
        keep(t, &again);
        assert_int_equal(again.weights.len, right.weights.len);
        assert_memory_equal(again.weights.bytes, right.weights.bytes, right.weights.len);
        forget(&before);
        forget(&after);
        forget(&right);
        forget(&again);
        train_close(t);
        train_case_free(&c);
    }
}

static void test_a_lost_device_ends_a_train(void **state)
{
    const struct backend *fake = fake_fixture_open();
    struct train_case c;
    struct train_report r;
    struct trained b = {0};
    struct train *t;

    (void)state;
    assert_true(train_case_read(SINGLE, &c));
    t = train_on(fake, &c);
    keep(t, &b);
    fake_fixture_tell("lost 1\n");
    assert_int_equal(train_step(t, c.batch, c.len, &r), -ENODEV);
    assert_int_equal(train_step(t, c.batch, c.len, &r), -ENODEV);
    assert_int_equal(train_image_write(t, b.image), -ENODEV);
    assert_int_equal(train_weights_write(t, train_bytes_take, &b.weights), -ENODEV);
    train_close(t); /* gives back what it has all the same */
    fake_fixture_tell("");
    forget(&b);
    train_case_free(&c);
}

/* ---- between pieces -------------------------------------------------------------------------- */

struct between {
    uint32_t calls;
    int rc;
};

static int between(void *ud)
{
    struct between *b = ud;

    b->calls++;
    return b->rc;
}

static void test_a_step_may_pause_between_its_pieces(void **state)
{
    struct between b = {0};
    struct train_case c;
    struct train_report calm, paused;
    struct train *t;
    float *grad;

    (void)state;
    assert_true(train_case_read(SINGLE, &c));
    c.settings.tokens_max = 1; /* a piece is a text */
    t = train_on(backend_cpu(), &c);
    assert_int_equal(train_step(t, c.batch, c.len, &calm), 0);
    train_close(t);
    t = train_on(backend_cpu(), &c);
    train_between(t, between, &b);
    b.rc = -ECANCELED;
    assert_int_equal(train_step(t, c.batch, c.len, &paused), -ECANCELED);
    assert_int_equal(b.calls, 1);
    grad = t->masters.grad;
    for (size_t i = 0; i < t->masters.len; i++)
        assert_true(grad[i] == 0);
    b.rc = 0;
    assert_int_equal(train_step(t, c.batch, c.len, &paused), 0);
    assert_int_equal(b.calls, c.len);
    assert_memory_equal(&calm, &paused, sizeof calm);
    train_close(t);
    train_case_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_encoder_answers_as_on_the_cpu),
        cmocka_unit_test(test_a_context_stays_on_its_device),
        cmocka_unit_test(test_an_encoder_needs_its_memory),
        cmocka_unit_test(test_a_forward_that_failed_gives_no_answer),
        cmocka_unit_test(test_training_gives_the_bits_of_the_cpu),
        cmocka_unit_test(test_pieces_shrink_where_the_device_is_full),
        cmocka_unit_test(test_a_train_says_what_it_needs),
        cmocka_unit_test(test_a_device_may_fail_at_any_moment),
        cmocka_unit_test(test_a_lost_device_ends_a_train),
        cmocka_unit_test(test_a_step_may_pause_between_its_pieces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
