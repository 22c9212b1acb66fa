/* test_serve_asked.c -- the sample of the questions: what is put is read once and in order, a full
 * buffer drops and never waits, what was read is gone. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/serve/asked.h"

enum { ROWS = 8, DIM = 4, PUTS = 20000 };

static int put(struct asked *a, int64_t at, uint32_t dim)
{
    uint16_t embedding[DIM * ROWS] = {(uint16_t)at, (uint16_t)(at + 1)};
    struct asked_row row = {
        .model = at % 3, .asked_us = at, .column = 7, .dim = dim, .embedding = embedding};

    return asked_put(a, &row);
}

static void test_order_and_bounds(void **state)
{
    const struct asked_row *rows;
    const uint16_t *numbers;
    struct asked *a;

    (void)state;
    assert_int_equal(asked_open(ROWS, ROWS * DIM, &a), 0);
    assert_int_equal(asked_take(a, &rows), 0);
    asked_done(a);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(put(a, 10, DIM), 1);
        for (int i = 1; i < ROWS; i++)
            assert_int_equal(put(a, 10 + i, DIM), 0);
        assert_int_equal(put(a, 99, DIM), -EAGAIN);
        assert_int_equal(asked_take(a, &rows), ROWS);
        assert_int_equal(put(a, 50, DIM), 1); /* beside the reader */
        for (int i = 0; i < ROWS; i++) {
            assert_true(rows[i].asked_us == 10 + i && rows[i].model == (10 + i) % 3);
            assert_true(rows[i].column == 7 && rows[i].dim == DIM);
            assert_true(rows[i].embedding[0] == 10 + i && rows[i].embedding[1] == 11 + i);
        }
        numbers = rows[0].embedding;
        asked_done(a);
        for (int i = 0; i < ROWS * DIM; i++)
            assert_int_equal(numbers[i], 0);
        assert_int_equal(asked_take(a, &rows), 1);
        assert_int_equal(rows[0].asked_us, 50);
        asked_done(a);
    }
    assert_int_equal(put(a, 1, DIM * ROWS), 1); /* one that fills the room for numbers */
    assert_int_equal(put(a, 2, 1), -EAGAIN);
    asked_close(a);
    asked_close(NULL);
}

struct putting {
    struct asked *asked;
    int kept;
};

static void *put_many(void *arg)
{
    struct putting *p = arg;

    for (int i = 0; i < PUTS; i++)
        p->kept += put(p->asked, i + 1, DIM) >= 0;
    return NULL;
}

/* Two threads put while one reads: every row that was kept is read, whole, and once. */
static void test_threads(void **state)
{
    struct putting puttings[2];
    pthread_t threads[2];
    const struct asked_row *rows;
    struct asked *a;
    int read = 0;
    uint32_t len;

    (void)state;
    assert_int_equal(asked_open(ROWS, ROWS * DIM, &a), 0);
    for (int i = 0; i < 2; i++) {
        puttings[i] = (struct putting){a, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, put_many, &puttings[i]), 0);
    }
    for (int round = 0; round < PUTS / 10; round++) {
        len = asked_take(a, &rows);
        for (uint32_t i = 0; i < len; i++) {
            assert_true(rows[i].embedding[0] == (uint16_t)rows[i].asked_us);
            assert_true(rows[i].embedding[1] == (uint16_t)(rows[i].asked_us + 1));
        }
        read += (int)len;
        asked_done(a);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    read += (int)asked_take(a, &rows);
    asked_done(a);
    assert_int_equal(read, puttings[0].kept + puttings[1].kept);
    assert_true(read > 0);
    asked_close(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_and_bounds),
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
