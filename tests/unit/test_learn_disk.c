/* test_learn_disk.c -- when a disk is low, when it has room again, and what the keeper refuses
 * meanwhile. */
#include <errno.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/learn/keeper.h"
#include "tests/unit/store_fixture.h"

#define MIB ((uint64_t)1 << 20)

static void test_it_does_not_flicker(void **state)
{
    (void)state;
    assert_false(disk_guard_judge(64 * MIB, 64 * MIB, false));
    assert_true(disk_guard_judge(64 * MIB - 1, 64 * MIB, false));
    assert_true(disk_guard_judge(64 * MIB, 64 * MIB, true));
    assert_true(disk_guard_judge(80 * MIB - 1, 64 * MIB, true));
    assert_false(disk_guard_judge(80 * MIB, 64 * MIB, true));
    assert_false(disk_guard_judge(0, 0, false));
}

static void test_it_looks_once_a_second(void **state)
{
    struct disk_guard g = {.folder = "/", .free_min = UINT64_MAX / 2};

    (void)state;
    assert_true(disk_guard_look(&g, 5));
    assert_true(disk_guard_state(&g).low);
    assert_true(disk_guard_state(&g).free_bytes > 0);
    g.free_min = 0;
    assert_false(disk_guard_look(&g, DISK_LOOK_US));
    assert_true(disk_guard_state(&g).low);
    assert_true(disk_guard_look(&g, DISK_LOOK_US + 5));
    assert_false(disk_guard_state(&g).low);
    g.folder = "/no/such/folder"; /* what cannot be asked stays as it was */
    g.free_min = UINT64_MAX / 2;
    assert_false(disk_guard_look(&g, 9 * DISK_LOOK_US));
    assert_false(disk_guard_state(&g).low);
}

struct writing {
    struct change change; /* first */
    sem_t answered;
    int rc, writes;
};

static int write_model(struct change *change, struct store *store)
{
    int64_t id;

    ((struct writing *)change)->writes++;
    return store_model_add(store, change->grows ? "grows" : "not", "single", "{}", 1, &id);
}

static void written(struct change *change, int rc)
{
    struct writing *w = (struct writing *)change;

    w->rc = rc;
    sem_post(&w->answered);
}

static int write_one(struct keeper *keeper, bool grows)
{
    struct writing w = {.change = {.write = write_model, .done = written, .grows = grows}};

    assert_int_equal(sem_init(&w.answered, 0, 0), 0);
    assert_int_equal(keeper_post(keeper, &w.change), 0);
    while (sem_wait(&w.answered) != 0)
        assert_int_equal(errno, EINTR);
    sem_destroy(&w.answered);
    assert_int_equal(w.writes, w.rc != -EDQUOT);
    return w.rc;
}

static void test_what_grows_is_refused(void **state)
{
    char folder[FOLDER_BYTES];
    struct store *writer;
    struct keeper *keeper;
    char why[256];

    (void)state;
    folder_make(folder);
    assert_int_equal(store_open(folder, STORE_WRITER, why, sizeof why, &writer), 0);
    assert_int_equal(keeper_open(writer, 8, &keeper), 0);
    keeper_guard(keeper, folder, UINT64_MAX / 2);
    assert_int_equal(write_one(keeper, true), -EDQUOT);
    assert_true(keeper_disk(keeper).low);
    assert_int_equal(write_one(keeper, false), 0);
    keeper_close(keeper);
    assert_int_equal(keeper_open(writer, 8, &keeper), 0);
    keeper_guard(keeper, folder, 1); /* a byte is always free */
    assert_int_equal(write_one(keeper, true), 0);
    assert_false(keeper_disk(keeper).low);
    keeper_close(keeper);
    store_close(writer);
    folder_remove(folder);
}

static void test_not_watched(void **state)
{
    char folder[FOLDER_BYTES];
    struct store *writer;
    struct keeper *keeper;
    char why[256];

    (void)state;
    folder_make(folder);
    assert_int_equal(store_open(folder, STORE_WRITER, why, sizeof why, &writer), 0);
    assert_int_equal(keeper_open(writer, 8, &keeper), 0);
    keeper_guard(keeper, folder, 0);
    assert_int_equal(write_one(keeper, true), 0);
    assert_int_equal(keeper_disk(keeper).free_min, 0);
    keeper_close(keeper);
    store_close(writer);
    folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_does_not_flicker),
        cmocka_unit_test(test_it_looks_once_a_second),
        cmocka_unit_test(test_what_grows_is_refused),
        cmocka_unit_test(test_not_watched),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
