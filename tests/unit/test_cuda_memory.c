/* test_cuda_memory.c -- the slots of the CUDA backend over a driver that is a plain array: nothing
 * overlaps, what is given back is handed out again, and a driver that has no more is not the end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "kernels/cuda/cuda_memory.h"

enum { DRIVER_BYTES = 96 << 20, BLOCKS = 400 };

static struct {
    uint8_t *memory;
    size_t at, left; /* may be fewer than there are */
    int calls;
} driver;

static int take(size_t bytes, void **ret_data)
{
    driver.calls++;
    if (bytes > driver.left)
        return -ENOMEM;
    *ret_data = driver.memory + driver.at;
    driver.at += (bytes + 255) / 256 * 256;
    driver.left -= bytes;
    return 0;
}

/* They live as long as the process, as the backend's do. */
static struct cuda_memory *all[8];
static int all_len;

static struct cuda_memory *fresh(size_t left)
{
    struct cuda_memory *m;

    driver.at = 0;
    driver.left = left;
    driver.calls = 0;
    assert_int_equal(cuda_memory_open(take, &m), 0);
    all[all_len++] = m;
    return all[all_len - 1];
}

static int setup(void **state)
{
    (void)state;
    driver.memory = aligned_alloc(4096, DRIVER_BYTES);
    return driver.memory == NULL;
}

static int teardown(void **state)
{
    (void)state;
    free(driver.memory);
    return 0;
}

static void test_blocks_do_not_overlap(void **state)
{
    static uint8_t *blocks[BLOCKS];
    static size_t bytes[BLOCKS];
    struct cuda_memory *m = fresh(DRIVER_BYTES);
    uint64_t seed = 1, taken, used;

    (void)state;
    for (int turn = 0; turn < 20 * BLOCKS; turn++) {
        uint32_t i = (uint32_t)(seed >> 33) % BLOCKS;

        seed = seed * UINT64_C(6364136223846793005) + 1;
        if (blocks[i] != NULL) {
            for (size_t b = 0; b < bytes[i]; b++)
                if (blocks[i][b] != (uint8_t)i)
                    fail_msg("block %u was written over", i);
            cuda_memory_dealloc(m, blocks[i]);
            blocks[i] = NULL;
        } else {
            bytes[i] = 1 + (seed >> 40) % 60000;
            assert_int_equal(cuda_memory_alloc(m, bytes[i], (void **)&blocks[i]), 0);
            assert_int_equal((uintptr_t)blocks[i] % 256, 0);
            memset(blocks[i], (int)i, bytes[i]);
        }
    }
    for (uint32_t i = 0; i < BLOCKS; i++)
        cuda_memory_dealloc(m, blocks[i]);
    cuda_memory_count(m, &taken, &used);
    assert_int_equal(used, 0);
    assert_true(taken > 0 && taken <= DRIVER_BYTES);
}

static void test_a_second_model_costs_the_driver_nothing(void **state)
{
    static const size_t sizes[] = {46 << 20, 1 << 20, 1536, 1536, 384 * 4, 9 << 20, 100};
    struct cuda_memory *m = fresh(DRIVER_BYTES);
    void *blocks[7];
    int calls = 0;

    (void)state;
    for (int model = 0; model < 3; model++) {
        for (int i = 0; i < 7; i++)
            assert_int_equal(cuda_memory_alloc(m, sizes[i], &blocks[i]), 0);
        for (int i = 0; i < 7; i++)
            cuda_memory_dealloc(m, blocks[i]);
        if (model > 0)
            assert_int_equal(driver.calls, calls);
        calls = driver.calls;
    }
}

static void test_reserved_memory_is_used(void **state)
{
    struct cuda_memory *m = fresh(DRIVER_BYTES);
    void *a, *b;

    (void)state;
    assert_int_equal(cuda_memory_reserve(m, 64 << 20), 0);
    assert_int_equal(cuda_memory_alloc(m, 40 << 20, &a), 0);
    assert_int_equal(cuda_memory_alloc(m, 16 << 20, &b), 0);
    assert_int_equal(driver.calls, 1);
    assert_int_equal(cuda_memory_reserve(m, DRIVER_BYTES), -ENOMEM);
}

static void test_a_full_driver_is_an_answer(void **state)
{
    struct cuda_memory *m = fresh(24 << 20);
    void *large, *small, *again;

    (void)state;
    assert_int_equal(cuda_memory_alloc(m, 20 << 20, &large), 0);
    assert_int_equal(cuda_memory_alloc(m, 20 << 20, &small), -ENOMEM);
    cuda_memory_dealloc(m, large);
    /* A block much larger than needed is better than none. */
    assert_int_equal(cuda_memory_alloc(m, 5 << 20, &again), 0);
    assert_ptr_equal(again, large);
    assert_int_equal(cuda_memory_alloc(m, SIZE_MAX / 2, &small), -ENOMEM);
}

static void test_sizes(void **state)
{
    (void)state;
    for (size_t bytes = 1; bytes < (size_t)1 << 40; bytes = bytes * 9 / 8 + 1) {
        size_t block = cuda_memory_block_bytes(bytes);

        assert_true(block >= bytes && block % 256 == 0);
        assert_true(block <= bytes / 4 * 5 + 512);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks_do_not_overlap),
        cmocka_unit_test(test_a_second_model_costs_the_driver_nothing),
        cmocka_unit_test(test_reserved_memory_is_used),
        cmocka_unit_test(test_a_full_driver_is_an_answer),
        cmocka_unit_test(test_sizes),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
