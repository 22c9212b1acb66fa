/* Every allocation, write and fsync of a run's life in the store fails in turn: asked for,
 * measured, swapped in, its model removed. Each time: a step is there as a whole or not at all, and
 * the same steps again come to the same end. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "tests/unit/fault_alloc.h"
#include "tests/unit/store_life.h"

static int64_t model;

/* ---- the steps ------------------------------------------------------------------------------- */

static int ask(struct store *w)
{
    const struct store_run_new run = {
        .model = model, .strategy = "joint", .settings = "{}", .who = "boss", .now_us = 10};
    int64_t id;

    return store_run_add(w, &run, &id);
}

static int measure(struct store *w)
{
    struct store_run_update u = STORE_RUN_UPDATE_INIT;
    const struct store_run_metric m = {.step = 1, .loss = 1, .t_us = 20};
    int rc;

    u.state = "running";
    u.step = 1;
    u.now_us = 20;
    rc = store_run_update(w, 1, &u);
    return rc == 0 ? store_run_metric_put(w, 1, &m) : rc;
}

static int swap(struct store *w)
{
    struct store_run_update u = STORE_RUN_UPDATE_INIT;
    const struct store_encoder e = {.model = model, .run = 1, .origin = "joint", .created_us = 30};
    int64_t id;
    int rc = store_encoder_add(w, &e, &id);

    u.state = "accepted";
    u.verdict = "{}";
    u.now_us = 30;
    if (rc == 0)
        rc = store_live_set(w, model, id, 1, "run", 30);
    u.encoder = rc == 0 ? id : STORE_KEEP;
    return rc == 0 ? store_run_update(w, 1, &u) : rc;
}

static int leave(struct store *w)
{
    return store_model_remove(w, model);
}

static int (*const steps[])(struct store *) = {ask, measure, swap, leave};

/* ---- what is there --------------------------------------------------------------------------- */

struct seen {
    bool run, running, accepted, metric, candidate, live, log, removed;
    int64_t served;
};

static int see_run(void *ud, const struct store_run *row)
{
    struct seen *s = ud;

    s->run = true;
    s->running = row->step == 1;
    s->accepted = strcmp(row->state, "accepted") == 0 && row->encoder == 1;
    return 0;
}

static int see_metric(void *ud, const struct store_run_metric *row)
{
    (void)row;
    ((struct seen *)ud)->metric = true;
    return 0;
}

static int see_encoder(void *ud, const struct store_encoder *row)
{
    struct seen *s = ud;

    s->candidate = true;
    s->live = strcmp(row->state, "live") == 0;
    s->removed = strcmp(row->state, "removed") == 0;
    return 0;
}

static int see_live(void *ud, const struct store_live *row)
{
    ((struct seen *)ud)->log |= row->encoder == 1;
    return 0;
}

static int see_model(void *ud, const struct store_model *row)
{
    ((struct seen *)ud)->served = row->encoder;
    return 0;
}

/* Exactly the first `done` steps have been taken. */
static void check(struct store *w, int done)
{
    struct seen s = {.served = -1};
    int rc = store_run_get(w, 1, see_run, &s);

    assert_int_equal(rc, s.run ? 0 : -ENOENT);
    assert_int_equal(store_run_metric_scan(w, 1, see_metric, &s), 0);
    rc = store_encoder_get(w, 1, see_encoder, &s);
    assert_int_equal(rc, s.candidate ? 0 : -ENOENT);
    assert_int_equal(store_live_scan(w, model, see_live, &s), 0);
    assert_int_equal(store_model_scan(w, see_model, &s), 0);
    assert_int_equal(s.run, done >= 1 && done < 4);
    assert_int_equal(s.running, done >= 2 && done < 4);
    assert_int_equal(s.metric, done >= 2 && done < 4);
    assert_int_equal(s.candidate, done >= 3);
    assert_int_equal(s.accepted, done == 3);
    assert_int_equal(s.live, done == 3);
    assert_int_equal(s.log, done == 3);
    assert_int_equal(s.served, done == 4 ? -1 : done == 3);
    assert_int_equal(s.removed, done == 4);
}

static void born(struct store *w)
{
    static const uint8_t base[STORE_HASH_BYTES] = {1};
    int64_t id;

    assert_int_equal(store_encoder_claim(w, base, 1, &id), 0);
    model = model_added(w, "m");
}

static const struct store_life life = {
    .born = born, .steps = steps, .steps_len = sizeof steps / sizeof *steps, .check = check};

static void test_every_allocation(void **state)
{
    (void)state;
    assert_true(life_fail_allocations(&life, 3) > 100);
}

static void test_every_write_of_a_full_disk(void **state)
{
    (void)state;
    assert_true(life_fail_operations(&life, FAULT_WRITE, SQLITE_FULL) > 4);
}

static void test_every_fsync(void **state)
{
    (void)state;
    assert_true(life_fail_operations(&life, FAULT_SYNC, SQLITE_IOERR_FSYNC) > 4);
}

/* ---- file acts without memory or room -------------------------------------------------------- */

static void test_images_without_memory(void **state)
{
    const struct store_piece piece = {"image", 5};
    char why[256];
    uint64_t n;

    (void)state;
    store_close(opened(folder, STORE_WRITER)); /* its folders are there */
    assert_int_equal(store_run_image_write(folder, 1, &piece, 1, why, sizeof why), 0);
    for (n = 1;; n++) {
        void *image = NULL;
        size_t bytes = 0;
        int rc;

        fault_alloc_arm(n, false);
        rc = store_run_image_read(folder, 1, &image, &bytes);
        if (!fault_alloc_disarm()) {
            assert_int_equal(rc, 0);
            assert_memory_equal(image, "image", 5);
            free(image);
            break;
        }
        assert_int_equal(rc, -ENOMEM);
        assert_null(image);
    }
    assert_true(n > 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_allocation),
        cmocka_unit_test(test_every_write_of_a_full_disk),
        cmocka_unit_test(test_every_fsync),
        IN_FOLDER(test_images_without_memory),
    };

    fault_alloc_install();
    fault_vfs_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
