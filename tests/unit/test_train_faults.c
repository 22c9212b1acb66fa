/* test_train_faults.c -- every allocation of a train fails in turn, once and for good: an error or
 * smaller pieces, no leak (under ASan), and the same result afterwards.
 *
 * oneDNN allocates by itself and is left out.
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
#include "tests/unit/fault_alloc.h"
#include "tests/unit/train_fixture.h"

#define TINY "tests/golden/tiny-encoder"
#define SINGLE "tests/golden/train/single.safetensors"

struct walk {
    struct train_case c;
    uint8_t used[257];
};

static int discard(void *ud, const void *bytes, size_t len)
{
    (void)bytes;
    *(size_t *)ud += len;
    return 0;
}

static int opened(const struct walk *w, struct train **ret_train)
{
    char why[256] = "";
    int rc = train_open(backend_cpu(), TINY, &w->c.settings, w->used, sizeof w->used,
                        w->c.prototypes, why, sizeof why, ret_train);

    assert_true(rc == 0 || why[0] != 0);
    return rc;
}

/* Steps, embeds; an embedding may follow a step that failed. */
static int used_up(const struct walk *w, struct train *t)
{
    struct train_report r;
    float y[8 * 32];
    int rc = train_step(t, w->c.batch, w->c.len, &r), rc2;

    assert_int_equal(train_steps_done(t), rc == 0);
    rc2 = train_embed(t, w->c.batch, w->c.len, y);
    return rc != 0 ? rc : rc2;
}

/* Opens, steps, embeds, writes. */
static int whole(const struct walk *w)
{
    struct train *t = NULL;
    size_t written = 0;
    int rc = opened(w, &t);

    if (rc != 0) {
        assert_null(t);
        return rc;
    }
    rc = used_up(w, t);
    if (rc == 0)
        rc = train_weights_write(t, discard, &written);
    train_close(t);
    return rc;
}

static struct walk walk_begin(enum train_lora lora)
{
    struct walk w;

    assert_true(train_case_read(SINGLE, &w.c));
    w.c.settings.lora = lora;
    memset(w.used, 1, sizeof w.used);
    return w;
}

/* From allocation n on all fail. (jansson 2.14 forgets a failure that is the only one while it
 * reads a token, and reads on behind its end: the files of the folder are read with no memory or
 * all.) */
static void test_every_allocation_may_be_the_last(void **state)
{
    const enum train_lora ways[] = {TRAIN_LORA_NONE, TRAIN_LORA_QV};

    (void)state;
    for (int way = 0; way < 2; way++) {
        struct walk w = walk_begin(ways[way]);
        uint64_t n = 1;

        for (;; n++) {
            int64_t held = fault_alloc_held();
            int rc;

            fault_alloc_arm(n, true);
            rc = whole(&w);
            if (!fault_alloc_disarm())
                break;
            /* jansson without memory may say "not JSON". */
            assert_true(rc == -ENOMEM || rc == -EINVAL || rc == -ESTALE);
            assert_int_equal(fault_alloc_held(), held);
        }
        assert_true(n > 50);
        assert_int_equal(whole(&w), 0);
        train_case_free(&w.c);
    }
}

/* Allocation n alone fails in the middle of a run: an error, or smaller pieces. */
static void test_any_allocation_of_a_step_may_fail(void **state)
{
    struct walk w = walk_begin(TRAIN_LORA_NONE);
    uint32_t errors = 0, n = 1;

    (void)state;
    for (;; n++) {
        struct train *t;
        int rc;

        assert_int_equal(opened(&w, &t), 0);
        fault_alloc_arm(n, false);
        rc = used_up(&w, t);
        if (!fault_alloc_disarm()) {
            train_close(t);
            break;
        }
        assert_true(rc == -ENOMEM || (rc == 0 && t->tokens_max < w.c.settings.tokens_max));
        errors += rc != 0;
        train_close(t);
    }
    printf("%u allocations of a step, %u of them errors\n", n - 1, errors);
    assert_true(n > 2);
    train_case_free(&w.c);
}

/* Memory runs out at a step: the pieces get smaller, and the step is the same but for the order of
 * sums. Where not even one text has room it is an error, and nothing has changed. */
static void test_pieces_shrink_where_memory_ends(void **state)
{
    struct walk w = walk_begin(TRAIN_LORA_NONE);
    struct train *calm, *short_of;
    struct train_report a, b;
    uint8_t *before, *after;

    (void)state;
    w.c.settings.fp32 = true;
    assert_int_equal(opened(&w, &calm), 0);
    assert_int_equal(opened(&w, &short_of), 0);
    assert_int_equal(train_step(calm, w.c.batch, w.c.len, &a), 0);

    before = malloc(train_image_bytes(short_of));
    after = malloc(train_image_bytes(short_of));
    assert_true(before != NULL && after != NULL);
    train_image_write(short_of, before);
    fault_alloc_arm(1, true);
    assert_int_equal(train_step(short_of, w.c.batch, w.c.len, &b), -ENOMEM);
    assert_true(fault_alloc_disarm());
    assert_true(short_of->tokens_max < 83);
    short_of->tokens_max = w.c.settings.tokens_max;
    train_image_write(short_of, after);
    assert_memory_equal(before, after, train_image_bytes(short_of));

    fault_alloc_arm(1, false);
    assert_int_equal(train_step(short_of, w.c.batch, w.c.len, &b), 0);
    assert_true(fault_alloc_disarm());
    assert_int_equal(short_of->tokens_max, 83 / 2);
    assert_int_equal(b.tokens, 83);
    assert_true(fabs(a.loss - b.loss) < 1e-6 && fabs(a.grad_norm / b.grad_norm - 1) < 1e-5);
    free(before);
    free(after);
    train_close(calm);
    train_close(short_of);
    train_case_free(&w.c);
}

/* ---- a device that fails --------------------------------------------------------------------- */

static int syncs_left;

static int failing_sync(struct kctx *k)
{
    int rc = backend_cpu()->sync(k);

    return syncs_left-- == 0 ? -EIO : rc;
}

/* The nth sync fails. Before the update nothing has changed and the step can be taken again; in the
 * middle of it the train answers the error until an image is read. */
static void test_a_device_may_fail(void **state)
{
    struct walk w = walk_begin(TRAIN_LORA_NONE);
    struct backend failing = *backend_cpu();
    struct train_report r;
    struct train *t;
    uint8_t *before, *after;
    uint32_t ends = 0;

    (void)state;
    failing.sync = failing_sync;
    w.c.settings.tokens_max = 40;
    assert_int_equal(opened(&w, &t), 0);
    t->backend = &failing;
    before = malloc(train_image_bytes(t));
    after = malloc(train_image_bytes(t));
    assert_true(before != NULL && after != NULL);
    train_image_write(t, before);
    for (int n = 0; ends == 0; n++) {
        assert_true(n < 100);
        t->stale = true;
        syncs_left = n;
        assert_int_equal(train_step(t, w.c.batch, w.c.len, &r), -EIO);
        syncs_left = -1;
        assert_int_equal(train_steps_done(t), 0);
        if (t->failed != 0) {
            size_t written = 0;

            assert_int_equal(train_step(t, w.c.batch, w.c.len, &r), -EIO);
            assert_int_equal(train_weights_write(t, discard, &written), -EIO);
            assert_int_equal(train_image_read(t, before, train_image_bytes(t)), 0);
            ends = (uint32_t)n;
        }
        train_image_write(t, after);
        assert_memory_equal(before, after, train_image_bytes(t));
        for (size_t i = 0; i < t->masters.len; i++)
            assert_true(t->masters.grad[i] == 0);
    }
    assert_true(ends > 4); /* settling, one for each piece, the norm, the update */
    assert_int_equal(train_step(t, w.c.batch, w.c.len, &r), 0);
    free(before);
    free(after);
    train_close(t);
    train_case_free(&w.c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_allocation_may_be_the_last),
        cmocka_unit_test(test_any_allocation_of_a_step_may_fail),
        cmocka_unit_test(test_pieces_shrink_where_memory_ends),
        cmocka_unit_test(test_a_device_may_fail),
    };

    fault_alloc_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
