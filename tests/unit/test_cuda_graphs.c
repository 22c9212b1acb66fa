/* test_cuda_graphs.c -- batches whose launches are recorded and replayed (cuda_graphs.cu), by the
 * CUDA backend on the host: a text has the bits it has operation by operation, whatever stood in
 * the batch that was recorded, whichever encoder the context worked for in between, and whatever
 * call of the runtime failed on the way.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "kernels/backend_load.h"
#include "kernels/encoder/encoder.h"
#include "tests/unit/shim_fixture.h"

#define TINY "tests/golden/tiny-encoder"
#define OTHER "tests/golden/tiny-encoder-cls-f16"

enum { OUT_OF_MEMORY = 2, LAUNCH_FAILURE = 719, TOKENS = 200, SEQS = 20, DIM_MAX = 64, LEN = 24 };

static const struct backend *be;
static struct backend plain; /* the same, operation by operation */
static shim_fail_fn *fail_after;
static shim_graphs_fn *graphs;

static int setup(void **state)
{
    char path[4096], why[256] = "";
    void *symbol;

    (void)state;
    shim_path(path, sizeof path);
    assert_int_equal(backend_load(path, 0, why, sizeof why, &be), 0);
    plain = *be;
    plain.widen = NULL;
    plain.repeat = NULL;
    symbol = shim_symbol("learnd_shim_fail");
    memcpy(&fail_after, &symbol, sizeof fail_after);
    symbol = shim_symbol("learnd_shim_graphs");
    memcpy(&graphs, &symbol, sizeof graphs);
    return 0;
}

/* ---- an encoder twice: with what it records, and without --------------------------------------
 */

struct pair {
    struct encoder *encoders[2]; /* on be, on plain */
    struct encoder_ctx *ctxs[2];
};

static struct encoder *opened(const struct backend *backend, const char *folder,
                              enum encoder_precision precision)
{
    struct encoder *e;
    char why[512] = "";

    if (encoder_open(backend, folder, precision, why, sizeof why, &e) != 0)
        fail_msg("%s", why);
    return e;
}

static void pair_open(struct pair *p, const char *folder, enum encoder_precision precision)
{
    const struct backend *backends[2] = {be, &plain};

    for (int i = 0; i < 2; i++) {
        p->encoders[i] = opened(backends[i], folder, precision);
        assert_int_equal(encoder_ctx_open(p->encoders[i], TOKENS, SEQS, &p->ctxs[i]), 0);
    }
}

static void pair_close(struct pair *p)
{
    for (int i = 0; i < 2; i++) {
        encoder_ctx_close(p->ctxs[i]);
        encoder_close(p->encoders[i]);
    }
}

static uint32_t draw(uint64_t *state, uint32_t below)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33) % below;
}

struct batch {
    int32_t ids[TOKENS];
    uint8_t types[TOKENS];
    uint32_t offsets[SEQS + 1];
    uint32_t seqs;
    bool typed;
};

static void batch_draw(struct batch *b, uint32_t seqs, uint64_t *seed)
{
    *b = (struct batch){.seqs = seqs, .typed = draw(seed, 4) == 0};
    for (uint32_t i = 0; i < seqs; i++)
        b->offsets[i + 1] = b->offsets[i] + 1 + draw(seed, i % 5 == 0 ? LEN : 6);
    for (uint32_t t = 0; t < b->offsets[seqs]; t++) {
        b->ids[t] = (int32_t)draw(seed, 250);
        b->types[t] = (uint8_t)draw(seed, 2);
    }
}

static int forward(struct encoder_ctx *ctx, const struct batch *b, float *y)
{
    const struct encoder_batch batch = {b->ids, b->typed ? b->types : NULL, b->offsets, b->seqs};

    return encoder_forward(ctx, &batch, 1, y);
}

/* Whether the batch has the same bits by both contexts. */
static void hold_batch(struct pair *p, const struct batch *b)
{
    const uint32_t C = encoder_info(p->encoders[0])->dim;
    float y[SEQS * DIM_MAX], want[SEQS * DIM_MAX];

    assert_true(C <= DIM_MAX);
    assert_int_equal(forward(p->ctxs[0], b, y), 0);
    assert_int_equal(forward(p->ctxs[1], b, want), 0);
    assert_memory_equal(y, want, b->seqs * C * sizeof *y);
}

struct counts {
    unsigned long long recorded, updated, launched;
};

static struct counts counted(void)
{
    struct counts c;

    graphs(&c.recorded, &c.updated, &c.launched);
    return c;
}

/* ---- shapes -----------------------------------------------------------------------------------
 */

static void hold_shape(uint32_t tokens, uint32_t seqs, uint32_t longest)
{
    struct kbatch b = {NULL, seqs, tokens, longest}, again;

    if (!be->widen(&b, 256, 2048)) {
        assert_true(tokens > 512);
        return;
    }
    assert_true(b.tokens >= tokens && b.tokens < tokens + 128);
    assert_true(b.seqs >= seqs && b.seqs <= 256);
    assert_true(b.longest >= longest && b.longest <= b.tokens);
    again = b;
    assert_true(be->widen(&again, 256, 2048));
    assert_int_equal(again.tokens, b.tokens);
    assert_int_equal(again.seqs, b.seqs);
    assert_int_equal(again.longest, b.longest);
}

static void test_shapes_are_few_and_wide_enough(void **state)
{
    struct kbatch b = {NULL, 1, 100, 100};

    (void)state;
    for (uint32_t tokens = 1; tokens <= 1500; tokens++)
        for (uint32_t seqs = 1; seqs <= tokens && seqs <= 256; seqs = seqs * 3 + 1)
            for (uint32_t longest = (tokens + seqs - 1) / seqs; longest <= tokens - seqs + 1;
                 longest = longest * 2 + 1)
                hold_shape(tokens, seqs, longest);
    assert_false(be->widen(&b, 256, 120)); /* 128 rows, where there is room for 120 */
    b = (struct kbatch){NULL, 5, 100, 40};
    assert_true(be->widen(&b, 7, 2048));
    assert_int_equal(b.seqs, 7);
    b = (struct kbatch){NULL, 1, 5000, 500};
    assert_false(be->widen(&b, 256, 1u << 20));
}

/* ---- bits --------------------------------------------------------------------------------------
 */

static void test_replayed_is_as_enqueued(void **state)
{
    const struct counts before = counted();
    struct kmemory used, left;
    uint64_t seed = 11;
    struct counts after;
    struct pair p;
    struct batch b;

    (void)state;
    for (int precision = ENCODER_BF16; precision <= ENCODER_FP32; precision++) {
        pair_open(&p, TINY, precision);
        batch_draw(&b, SEQS, &seed); /* as large as they come, and may take memory */
        hold_batch(&p, &b);
        be->memory(&used);
        for (int i = 0; i < 60; i++) {
            batch_draw(&b, i % 3 == 0 ? 1 : 1 + draw(&seed, SEQS / 2), &seed);
            hold_batch(&p, &b);
        }
        be->memory(&left);
        assert_int_equal(left.taken, used.taken);
        pair_close(&p);
    }
    after = counted();
    assert_true(after.recorded > before.recorded);
    assert_true(after.launched - before.launched > 40);
}

/* One context, two encoders of different size: its buffers move, and come back to neither. */
static void test_an_encoder_is_not_taken_for_another(void **state)
{
    struct pair p, q;
    uint64_t seed = 5;
    struct batch b[4];

    (void)state;
    pair_open(&p, TINY, ENCODER_BF16);
    for (int i = 0; i < 4; i++)
        batch_draw(&b[i], 1 + (uint32_t)i, &seed);
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 4; i++)
            for (int times = 0; times < 3; times++)
                hold_batch(&p, &b[i]);
        /* The one in the context goes, as after a swap; what comes may get its memory. */
        q = p;
        for (int i = 0; i < 2; i++) {
            q.encoders[i] =
                opened(i == 0 ? be : &plain, round % 2 == 0 ? OTHER : TINY, ENCODER_BF16);
            assert_int_equal(encoder_ctx_use(q.ctxs[i], q.encoders[i]), 0);
            encoder_close(p.encoders[i]);
        }
        p = q;
    }
    pair_close(&p);
}

/* More sequences than a context keeps: they are recorded over, and the driver is asked for no more
 * graphs. */
static void test_graphs_are_bounded(void **state)
{
    const struct counts before = counted();
    struct counts after;
    uint64_t seed = 3;
    struct pair p;
    struct batch b;

    (void)state;
    pair_open(&p, TINY, ENCODER_FP32);
    batch_draw(&b, 1, &seed);
    for (int i = 0; i < 80; i++) {
        struct encoder *next = opened(be, TINY, ENCODER_FP32);

        for (int times = 0; times < 3; times++)
            hold_batch(&p, &b);
        assert_int_equal(encoder_ctx_use(p.ctxs[0], next), 0);
        encoder_close(p.encoders[0]);
        p.encoders[0] = next;
    }
    after = counted();
    assert_int_equal(after.recorded - before.recorded, 64);
    assert_int_equal(after.updated - before.updated, 80 - 64);
    assert_int_equal(after.launched - before.launched, 2 * 80);
    pair_close(&p);
}

/* ---- failures ----------------------------------------------------------------------------------
 */

/* The n-th call of the second and the third forward fails: an error, or the right bits. */
static bool fails_at(struct pair *p, const struct batch *b, const float *want, int n, int code)
{
    const uint32_t C = encoder_info(p->encoders[0])->dim;
    struct encoder_ctx *ctx;
    float y[SEQS * DIM_MAX];
    int failures = 0;

    assert_int_equal(encoder_ctx_open(p->encoders[0], TOKENS, SEQS, &ctx), 0);
    for (int times = 0; times < 4; times++) {
        int rc;

        if (times == 1)
            fail_after(n, code, 0);
        rc = forward(ctx, b, y);
        failures += rc != 0;
        if (rc == 0)
            assert_memory_equal(y, want, b->seqs * C * sizeof *y);
        else
            assert_int_equal(rc, code == OUT_OF_MEMORY ? -ENOMEM : -EIO);
    }
    fail_after(-1, 0, 0);
    assert_true(failures <= 1);
    assert_int_equal(forward(ctx, b, y), 0);
    assert_memory_equal(y, want, b->seqs * C * sizeof *y);
    encoder_ctx_close(ctx);
    return failures > 0;
}

static void test_no_failure_gives_a_wrong_answer(void **state)
{
    float want[SEQS * DIM_MAX];
    uint64_t seed = 8;
    struct pair p;
    struct batch b;
    int failed = 0, hidden = 0;

    (void)state;
    pair_open(&p, TINY, ENCODER_FP32);
    batch_draw(&b, 2, &seed);
    assert_int_equal(forward(p.ctxs[1], &b, want), 0);
    for (int code = OUT_OF_MEMORY; code <= LAUNCH_FAILURE; code += LAUNCH_FAILURE - OUT_OF_MEMORY)
        for (int n = 0; n < 40; n++) {
            bool out = fails_at(&p, &b, want, n, code);

            failed += out;
            hidden += !out; /* it was recorded again, or not at all */
        }
    assert_true(failed > 2);
    assert_true(hidden > 20);
    pair_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes_are_few_and_wide_enough),
        cmocka_unit_test(test_replayed_is_as_enqueued),
        cmocka_unit_test(test_an_encoder_is_not_taken_for_another),
        cmocka_unit_test(test_graphs_are_bounded),
        cmocka_unit_test(test_no_failure_gives_a_wrong_answer),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
