/* test_cuda_memory.c -- the slots of the CUDA backend over a driver that is a plain array: nothing
 * overlaps, holes grow together, no room takes another's memory, encoders of one shape that come
 * and go in any order never need the driver again, and a driver that has no more is not the end.
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
static struct cuda_memory *all[32];
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
    struct kmemory memory = {0};
    uint64_t seed = 1;

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
            assert_int_equal(cuda_memory_alloc(m, K_WEIGHTS, bytes[i], (void **)&blocks[i]), 0);
            assert_int_equal((uintptr_t)blocks[i] % 256, 0);
            memset(blocks[i], (int)i, bytes[i]);
        }
    }
    for (uint32_t i = 0; i < BLOCKS; i++)
        cuda_memory_dealloc(m, blocks[i]);
    cuda_memory_count(m, &memory);
    assert_int_equal(memory.used, 0);
    assert_int_equal(memory.asked, driver.calls);
    assert_true(memory.taken > 0 && memory.taken <= DRIVER_BYTES);
}

/* ---- encoders and runs ------------------------------------------------------------------------
 */

enum { SLOTS = 4, TENSORS = 60 };

/* Sizes as a small encoder has them: few large ones, many small ones, none a whole unit. */
static size_t tensor_bytes(int i)
{
    return i == 0 ? 3000001 : i % 10 == 1 ? 147456 + 77 : i % 10 == 2 ? 49152 + 1 : 1537;
}

static size_t encoder_bytes(void)
{
    size_t bytes = 0;

    for (int i = 0; i < TENSORS; i++)
        bytes += kroom_bytes(tensor_bytes(i));
    return bytes;
}

static void encoder_open(struct cuda_memory *m, void *blocks[TENSORS])
{
    for (int i = 0; i < TENSORS; i++)
        assert_int_equal(cuda_memory_alloc(m, K_WEIGHTS, tensor_bytes(i), &blocks[i]), 0);
}

static void encoder_close(struct cuda_memory *m, void *blocks[TENSORS])
{
    for (int i = 0; i < TENSORS; i++)
        cuda_memory_dealloc(m, blocks[i]);
}

static uint32_t draw(uint64_t *seed, uint32_t below)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*seed >> 33) % below;
}

/* A run: blocks of sizes that no other run has, given back in any order. */
static void run_once(struct cuda_memory *m, size_t bytes, uint64_t *seed)
{
    void *blocks[8];
    size_t left = bytes;

    for (int i = 0; i < 8; i++) {
        size_t part = i == 7 ? left : left / 4 + draw(seed, (uint32_t)(left / 8));

        part = part / K_ROOM_UNIT * K_ROOM_UNIT;
        assert_int_equal(cuda_memory_alloc(m, K_RUNS, part, &blocks[i]), 0);
        left -= part;
    }
    for (uint32_t i = 8; i > 0; i--) {
        uint32_t j = draw(seed, i);

        cuda_memory_dealloc(m, blocks[j]);
        blocks[j] = blocks[i - 1];
    }
}

/* Exactly what the start reckons with, and then thousands of swaps and runs: whichever goes first,
 * the driver is never asked again. */
static void test_swaps_and_runs_need_no_more(void **state)
{
    static void *blocks[SLOTS][TENSORS];
    const size_t run_bytes = 20 << 20;

    (void)state;
    for (uint64_t first = 1; first <= 20; first++) {
        struct cuda_memory *m = fresh(DRIVER_BYTES);
        bool open[SLOTS] = {true};
        uint64_t seed = first;

        assert_int_equal(cuda_memory_reserve(m, K_WEIGHTS, SLOTS * encoder_bytes()), 0);
        assert_int_equal(cuda_memory_reserve(m, K_RUNS, run_bytes), 0);
        encoder_open(m, blocks[0]); /* the base, which stays */
        for (int swap = 0; swap < 300; swap++) {
            uint32_t i = 1 + draw(&seed, SLOTS - 1);

            if (open[i])
                encoder_close(m, blocks[i]);
            else
                encoder_open(m, blocks[i]);
            open[i] = !open[i];
            if (swap % 3 == 0)
                run_once(m, run_bytes, &seed);
            if (driver.calls != 2)
                fail_msg("seed %llu, swap %d: the driver was asked again",
                         (unsigned long long)first, swap);
        }
    }
}

static void test_rooms_are_apart(void **state)
{
    struct cuda_memory *m = fresh(DRIVER_BYTES);
    void *a, *b;

    (void)state;
    assert_int_equal(cuda_memory_reserve(m, K_WEIGHTS, 32 << 20), 0);
    assert_int_equal(cuda_memory_alloc(m, K_RUNS, 9 << 20, &a), 0);
    assert_int_equal(driver.calls, 2);
    assert_int_equal(cuda_memory_alloc(m, K_WEIGHTS, 32 << 20, &b), 0);
    assert_int_equal(driver.calls, 2);
    cuda_memory_dealloc(m, a);
    cuda_memory_dealloc(m, b);
}

static void test_reserved_memory_is_used(void **state)
{
    struct cuda_memory *m = fresh(DRIVER_BYTES);
    void *a, *b;

    (void)state;
    assert_int_equal(cuda_memory_reserve(m, K_WEIGHTS, 64 << 20), 0);
    assert_int_equal(cuda_memory_alloc(m, K_WEIGHTS, 40 << 20, &a), 0);
    assert_int_equal(cuda_memory_alloc(m, K_WEIGHTS, 16 << 20, &b), 0);
    assert_int_equal(driver.calls, 1);
    assert_int_equal(cuda_memory_reserve(m, K_WEIGHTS, DRIVER_BYTES), -ENOMEM);
}

static void test_a_full_driver_is_an_answer(void **state)
{
    struct cuda_memory *m = fresh(24 << 20);
    void *large, *small, *again;

    (void)state;
    assert_int_equal(cuda_memory_alloc(m, K_WEIGHTS, 20 << 20, &large), 0);
    assert_int_equal(cuda_memory_alloc(m, K_WEIGHTS, 20 << 20, &small), -ENOMEM);
    cuda_memory_dealloc(m, large);
    /* A block much larger than needed is better than none. */
    assert_int_equal(cuda_memory_alloc(m, K_WEIGHTS, 5 << 20, &again), 0);
    assert_ptr_equal(again, large);
    assert_int_equal(cuda_memory_alloc(m, K_WEIGHTS, SIZE_MAX / 2, &small), -ENOMEM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks_do_not_overlap),
        cmocka_unit_test(test_swaps_and_runs_need_no_more),
        cmocka_unit_test(test_rooms_are_apart),
        cmocka_unit_test(test_reserved_memory_is_used),
        cmocka_unit_test(test_a_full_driver_is_an_answer),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
