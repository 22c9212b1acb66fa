/* test_cuda_faults.c -- what the CUDA backend says when its device fails, with the runtime's
 * calls failing one after the other (tests/cuda/shim.h): the first failure comes out of sync(), the
 * next sync is clean again, and a device that is lost stays lost.
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
#include "kernels/backend_training.h"
#include "tests/unit/shim_fixture.h"

enum { OUT_OF_MEMORY = 2, LAUNCH_FAILURE = 719, N = 5, C = 32, CALLS_MAX = 200 };

static const struct backend *be;
static shim_fail_fn *fail_after;

static int setup(void **state)
{
    char path[4096], why[256] = "";
    const struct backend *none = NULL;
    void *symbol;
    int (*open)(uint32_t abi, uint32_t ordinal, char *why, size_t why_bytes,
                const struct backend **ret_backend);

    (void)state;
    shim_path(path, sizeof path);
    symbol = shim_symbol("learnd_backend_open");
    memcpy(&open, &symbol, sizeof open);
    assert_int_equal(open(BACKEND_ABI + 1, 0, why, sizeof why, &none), -EPROTO);
    assert_non_null(strstr(why, "ABI"));
    assert_int_equal(backend_load(path, 7, why, sizeof why, &none), -ENODEV);
    assert_string_equal(why, "there is no cuda:7, only 1 device");
    assert_null(none);
    assert_int_equal(backend_load(path, 0, why, sizeof why, &be), 0);
    assert_string_equal(be->name, "cuda:0");
    symbol = shim_symbol("learnd_shim_fail");
    memcpy(&fail_after, &symbol, sizeof fail_after);
    return 0;
}

static float *filled(size_t n)
{
    float *values = malloc(n * sizeof *values);
    void *data;

    assert_non_null(values);
    assert_int_equal(be->alloc(K_CONTEXTS, n * sizeof *values, &data), 0);
    for (size_t i = 0; i < n; i++)
        values[i] = (float)(i % 7) - 3;
    assert_int_equal(be->upload(data, K_F32, values, n), 0);
    free(values);
    return data;
}

/* A few operations of each kind. */
static void work(struct kctx *k, float *x, float *y, const float *ones)
{
    struct kview from = {x, K_F32}, to = {y, K_F32};
    uint32_t offsets[2] = {0, N};
    const struct kbatch batch = {offsets, 1, N, N};

    be->add_layernorm(k, to, from, from, ones, ones, 1e-6f, N, C);
    be->attention(k, to, from, &batch, C / 4, 2);
    be->training->gelu(k, to, from, N, C);
    be->training->lora(k, y, x, ones, x, 2, N, C, 1);
    be->training->lora_back(k, y, y + C, x, ones, x, 2, N, C, 1);
    be->training->zero(k, y, C);
    (void)be->training->sum_squares(k, y, N * C);
}

static void test_a_failure_comes_out_once(void **state)
{
    float *x = filled(N * C), *y = filled(N * C), *ones = filled(C);
    struct kctx *k;
    int failures = 0;

    (void)state;
    assert_int_equal(be->ctx_open(N, 1, K_SERVING, &k), 0);
    work(k, x, y, ones);
    assert_int_equal(be->sync(k), 0);
    for (int code = OUT_OF_MEMORY; code <= LAUNCH_FAILURE; code += LAUNCH_FAILURE - OUT_OF_MEMORY)
        for (int n = 0; n < CALLS_MAX; n++) {
            int rc;

            fail_after(n, code, 0);
            work(k, x, y, ones);
            rc = be->sync(k);
            fail_after(-1, 0, 0);
            if (rc == 0)
                break;
            failures++;
            assert_true(n + 1 < CALLS_MAX);
            assert_int_equal(rc, code == OUT_OF_MEMORY ? -ENOMEM : -EIO);
            work(k, x, y, ones);
            assert_int_equal(be->sync(k), 0);
        }
    assert_true(failures > 10);
    be->ctx_close(k);
    be->dealloc(x);
    be->dealloc(y);
    be->dealloc(ones);
}

static void test_what_cannot_be_opened(void **state)
{
    const float w[4] = {1, 2, 3, 4};
    struct kmat *mat = NULL;
    struct kctx *k = NULL;
    void *data = NULL;
    float host[4];

    (void)state;
    fail_after(0, OUT_OF_MEMORY, 0);
    assert_int_equal(be->alloc(K_CONTEXTS, 1000, &data), -ENOMEM);
    assert_null(data);
    fail_after(0, OUT_OF_MEMORY, 0);
    assert_int_equal(be->alloc_shared(K_CONTEXTS, 1000, &data), -ENOMEM);
    fail_after(0, LAUNCH_FAILURE, 0);
    assert_int_equal(be->ctx_open(1, 1, K_TRAINING, &k), -EIO);
    assert_null(k);
    fail_after(0, OUT_OF_MEMORY, 0);
    assert_int_equal(be->mat_load(w, NULL, 2, 2, K_F32, &mat), -ENOMEM);
    assert_null(mat);
    assert_int_equal(be->alloc(K_CONTEXTS, sizeof host, &data), 0);
    fail_after(0, LAUNCH_FAILURE, 0);
    assert_int_equal(be->upload(data, K_F32, w, 4), -EIO);
    fail_after(0, LAUNCH_FAILURE, 0);
    assert_int_equal(be->download(host, data, K_F32, 4), -EIO);
    assert_int_equal(be->upload(data, K_F32, w, 4), 0);
    assert_int_equal(be->download(host, data, K_F32, 4), 0);
    assert_memory_equal(host, w, sizeof w);
    be->dealloc(data);
}

/* The last test: this process has no device afterwards. */
static void test_a_lost_device_stays_lost(void **state)
{
    float *x = filled(N * C), *y = filled(N * C), *ones = filled(C);
    struct kctx *k, *other = NULL;
    void *data = NULL;

    (void)state;
    assert_int_equal(be->ctx_open(N, 1, K_SERVING, &k), 0);
    fail_after(3, LAUNCH_FAILURE, 1);
    work(k, x, y, ones);
    assert_int_equal(be->sync(k), -ENODEV);
    work(k, x, y, ones);
    assert_int_equal(be->sync(k), -ENODEV);
    assert_int_equal(be->alloc(K_CONTEXTS, 100, &data), -ENODEV);
    assert_int_equal(be->ctx_open(1, 1, K_SERVING, &other), -ENODEV);
    assert_null(other);
    be->ctx_close(k);
    be->dealloc(x);
    be->dealloc(y);
    be->dealloc(ones);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_failure_comes_out_once),
        cmocka_unit_test(test_what_cannot_be_opened),
        cmocka_unit_test(test_a_lost_device_stays_lost),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
