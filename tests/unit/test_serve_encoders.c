/* test_serve_encoders.c -- encoders come and go by number; nobody's reference ever dangles. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/serve/encoders.h"

#define BASE "tests/golden/tiny-encoder"
#define OTHER "tests/golden/tiny-encoder-cls-f16"

static char state_folder[] = "/tmp/learnd-encoders-XXXXXX";
static char why[256];

static struct encoders *opened(void)
{
    const struct encoders_settings settings = {.base = BASE,
                                               .state = state_folder,
                                               .precision = ENCODER_FP32,
                                               .tokens_max = 24,
                                               .tokens_limit = 16};
    struct encoders *all;

    if (encoders_open(&settings, why, sizeof why, &all) != 0)
        fail_msg("%s", why);
    return all;
}

static void embed(struct encoder_ctx *ctx, const struct held_encoder *held, float *embedding)
{
    static const struct tokenizer_input input = {"lost my card", 12, NULL, 0};
    int32_t ids[16];
    uint8_t types[16];
    uint32_t offsets[2] = {0, 0};
    struct encoder_batch batch = {ids, types, offsets, 1};

    assert_int_equal(tokenizer_encode(held->tokenizer, &input, TOKENIZER_TRUNCATE_RIGHT,
                                      held->tokens_max, ids, types, &offsets[1], NULL),
                     0);
    assert_int_equal(encoder_forward(ctx, &batch, 1, embedding), 0);
}

static void test_numbers(void **state)
{
    struct encoders *all = opened();
    struct held_encoder *base = encoders_base(all), *again, *other, *none = NULL;

    (void)state;
    assert_int_equal(base->number, 0);
    assert_int_equal(base->tokens_max, 16); /* the process's limit holds above the setting */
    assert_int_equal(encoders_get(all, 0, why, sizeof why, &again), 0);
    assert_ptr_equal(base, again);
    assert_int_equal(encoders_get(all, 5, why, sizeof why, &none), -ENOENT);
    assert_null(none);
    assert_non_null(strstr(why, "/encoders/5"));
    assert_int_equal(encoders_load(all, OTHER, 5, why, sizeof why, &other), 0);
    assert_int_equal(other->number, 5);
    assert_int_equal(encoders_load(all, OTHER, 5, why, sizeof why, &none), -EEXIST);
    assert_int_equal(encoders_get(all, 5, why, sizeof why, &none), 0);
    assert_ptr_equal(none, other);
    encoders_put(none);
    encoders_put(other);
    encoders_put(again);
    encoders_put(base);
    encoders_close(all);
}

static void test_only_what_nobody_holds_is_swept(void **state)
{
    struct encoders *all = opened();
    struct held_encoder *other, *second, *none;

    (void)state;
    assert_int_equal(encoders_load(all, OTHER, 5, why, sizeof why, &other), 0);
    second = encoders_hold(other);
    encoders_put(other);
    assert_int_equal(encoders_sweep(all), 2);
    encoders_put(second);
    assert_int_equal(encoders_get(all, 5, why, sizeof why, &other), 0); /* not swept yet */
    encoders_put(other);
    assert_int_equal(encoders_sweep(all), 1);
    assert_int_equal(encoders_get(all, 5, why, sizeof why, &none), -ENOENT);
    assert_int_equal(encoders_sweep(all), 1); /* the base stays */
    encoders_close(all);
}

/* From the state folder, where an installed version stands. */
static void test_installed_ones_are_found(void **state)
{
    char folder[128], link[160], cwd[512], target[700];
    struct encoders *all = opened();
    struct held_encoder *held;

    (void)state;
    snprintf(folder, sizeof folder, "%s/encoders", state_folder);
    assert_int_equal(mkdir(folder, 0700), 0);
    snprintf(link, sizeof link, "%s/3", folder);
    assert_non_null(getcwd(cwd, sizeof cwd));
    snprintf(target, sizeof target, "%s/%s", cwd, OTHER);
    assert_int_equal(symlink(target, link), 0);
    assert_int_equal(encoders_get(all, 3, why, sizeof why, &held), 0);
    assert_int_equal(held->number, 3);
    encoders_put(held);
    encoders_close(all);
    unlink(link);
    rmdir(folder);
}

/* A lane goes from one version to another and back in one context. */
static void test_one_context_serves_all(void **state)
{
    struct encoders *all = opened();
    struct held_encoder *held[2] = {encoders_base(all), NULL};
    struct encoder_ctx *own, *shared;
    float want[2][64], got[64];

    (void)state;
    assert_int_equal(encoders_load(all, OTHER, 1, why, sizeof why, &held[1]), 0);
    assert_int_equal(encoder_ctx_open(held[0]->encoder, 64, 4, &shared), 0);
    for (int i = 0; i < 2; i++) {
        assert_true(held[i]->dim <= 64);
        assert_int_equal(encoder_ctx_open(held[i]->encoder, 64, 4, &own), 0);
        embed(own, held[i], want[i]);
        encoder_ctx_close(own);
    }
    assert_memory_not_equal(want[0], want[1], held[0]->dim * sizeof(float));
    for (int i = 0; i < 6; i++) {
        assert_int_equal(encoder_ctx_use(shared, held[i % 2]->encoder), 0);
        embed(shared, held[i % 2], got);
        assert_memory_equal(got, want[i % 2], held[0]->dim * sizeof(float));
    }
    encoders_put(held[0]);
    encoders_put(held[1]);
    encoders_close(all);
    encoder_ctx_close(shared); /* after the encoders it has used */
}

static void test_a_wrong_base_says_why(void **state)
{
    const struct encoders_settings settings = {
        .base = "/nowhere", .state = state_folder, .tokens_limit = 16};
    struct encoders *all = NULL;

    (void)state;
    assert_int_equal(encoders_open(&settings, why, sizeof why, &all), -ENOENT);
    assert_null(all);
    assert_non_null(strstr(why, "/nowhere"));
}

static int setup(void **state)
{
    (void)state;
    return mkdtemp(state_folder) != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return rmdir(state_folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_only_what_nobody_holds_is_swept),
        cmocka_unit_test(test_installed_ones_are_found),
        cmocka_unit_test(test_one_context_serves_all),
        cmocka_unit_test(test_a_wrong_base_says_why),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
