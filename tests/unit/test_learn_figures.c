/* test_learn_figures.c -- what /metrics shows of each model: the table that stands between the
 * learner and the page. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/learn/figures.h"
#include "tests/unit/fault_alloc.h"

enum { MODELS = 9 };

static void test_table(void **state)
{
    static const int64_t order[MODELS] = {5, 2, 9, 1, 7, 3, 8, 4, 6};
    struct figures rows[MODELS + 1], f = {.model = 0};
    struct figures_table *t;

    (void)state;
    assert_int_equal(figures_open(&t), 0);
    assert_int_equal(figures_read(t, MODELS, rows), 0);
    for (int i = 0; i < MODELS; i++) {
        f.model = order[i];
        snprintf(f.name, sizeof f.name, "m%d", (int)order[i]);
        f.rows = 1;
        assert_int_equal(figures_set(t, &f), 0);
        f.rows = (uint64_t)order[i] * 10;
        assert_int_equal(figures_set(t, &f), 0); /* again: in its place */
        assert_int_equal(figures_read(t, MODELS + 1, rows), i + 1);
    }
    for (int i = 0; i < MODELS; i++)
        assert_true(rows[i].model == i + 1 && rows[i].rows == (uint64_t)rows[i].model * 10);
    assert_int_equal(figures_read(t, 3, rows), 3);
    figures_remove(t, 4);
    figures_remove(t, 4);
    figures_remove(t, 99);
    assert_int_equal(figures_read(t, MODELS, rows), MODELS - 1);
    for (int i = 0; i < MODELS - 1; i++)
        assert_true(rows[i].model == i + 1 + (i >= 3));
    figures_close(t);
    figures_close(NULL);
}

static void test_no_memory(void **state)
{
    struct figures f = {.model = 1}, row;
    struct figures_table *t;

    (void)state;
    fault_alloc_arm(1, false);
    assert_int_equal(figures_open(&t), -ENOMEM);
    assert_true(fault_alloc_disarm());
    assert_int_equal(figures_open(&t), 0);
    fault_alloc_arm(1, false);
    assert_int_equal(figures_set(t, &f), -ENOMEM);
    assert_true(fault_alloc_disarm());
    assert_int_equal(figures_read(t, 1, &row), 0);
    assert_int_equal(figures_set(t, &f), 0);
    figures_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
