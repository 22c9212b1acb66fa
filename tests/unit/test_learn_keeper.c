/* test_learn_keeper.c -- group commit on a real store: answered after it is durable, one bad change
 * sinks no other, a failing disk sinks the group and nothing more.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "daemon/learn/keeper.h"
#include "daemon/log.h"
#include "tests/unit/fault_vfs.h"
#include "tests/unit/store_fixture.h"

static char folder[FOLDER_BYTES];
static struct store *writer, *reader;
static struct keeper *keeper;
static int64_t model;

static int set_up(void **state)
{
    (void)state;
    folder_make(folder);
    writer = opened(folder, STORE_WRITER);
    reader = opened(folder, STORE_READER);
    model = model_added(writer, "m");
    assert_int_equal(keeper_open(writer, 64, &keeper), 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    keeper_close(keeper);
    store_close(reader);
    store_close(writer);
    folder_remove(folder);
    return 0;
}

/* ---- changes of the test --------------------------------------------------------------------- */

struct teaching_change {
    struct change change; /* first */
    char text[32];
    const char *label;
    bool create;
    int answer; /* what write returns after writing; 0: its own */
    struct store_receipt receipt;
    int rc;
    bool was_durable; /* a reader saw it when done() ran */
    sem_t *ready;
    sem_t *hold; /* write() waits for it */
};

static int write_it(struct change *change, struct store *store)
{
    struct teaching_change *t = (struct teaching_change *)change;
    struct store_feedback f = feedback_of(model, STORE_LABEL, t->text, t->label, "ann");
    const char *field;
    int rc;

    if (t->hold != NULL)
        sem_wait(t->hold);
    f.create_label = t->create;
    rc = store_feedback_put(store, &f, &t->receipt, &field);
    if (rc == 0) {
        change->seq = t->receipt.seq;
        change->model = model;
    }
    return rc != 0 ? rc : t->answer;
}

/* On the keeper's thread: looks with another connection. */
static void done_it(struct change *change, int rc)
{
    struct teaching_change *t = (struct teaching_change *)change;
    struct kept_example k = {0};

    t->rc = rc;
    if (rc == 0)
        t->was_durable =
            store_example_get(reader, t->receipt.example, -1, keep_example, &k) == 0 && k.found;
    sem_post(t->ready);
}

static void change_init(struct teaching_change *t, int number, sem_t *ready)
{
    memset(t, 0, sizeof *t);
    snprintf(t->text, sizeof t->text, "text %d", number);
    t->label = "label";
    t->create = true;
    t->ready = ready;
    t->change.write = write_it;
    t->change.done = done_it;
}

static void wait_for(sem_t *ready, int len)
{
    for (int i = 0; i < len; i++)
        while (sem_wait(ready) != 0)
            continue;
}

/* ---- tests ----------------------------------------------------------------------------------- */

enum { GROUP = 20 };

/* Changes that come while one is written share the next transaction. */
static void test_group_commit(void **state)
{
    struct teaching_change first, group[GROUP];
    sem_t ready, hold;

    (void)state;
    sem_init(&ready, 0, 0);
    sem_init(&hold, 0, 0);
    change_init(&first, 1000, &ready);
    first.hold = &hold;
    assert_int_equal(keeper_post(keeper, &first.change), 0);
    for (int i = 0; i < GROUP; i++) {
        change_init(&group[i], i, &ready);
        assert_int_equal(keeper_post(keeper, &group[i].change), 0);
    }
    sem_post(&hold);
    wait_for(&ready, GROUP + 1);
    assert_true(first.rc == 0 && first.was_durable);
    for (int i = 0; i < GROUP; i++) {
        assert_int_equal(group[i].rc, 0);
        assert_true(group[i].was_durable); /* answered after it is on disk */
        if (i > 0)
            assert_int_equal(group[i].receipt.seq, group[i - 1].receipt.seq + 1);
    }
    assert_int_equal(keeper_counts(keeper).changes, GROUP + 1);
    /* The first may have been taken with some of the rest: two transactions at most for what
     * waited. */
    assert_true(keeper_counts(keeper).commits <= 3);
    assert_int_equal(keeper_counts(keeper).failures, 0);
    sem_destroy(&ready);
    sem_destroy(&hold);
}

static void test_a_bad_change_sinks_no_other(void **state)
{
    struct teaching_change first, c[4];
    sem_t ready, hold;

    (void)state;
    sem_init(&ready, 0, 0);
    sem_init(&hold, 0, 0);
    change_init(&first, 99, &ready);
    first.hold = &hold;
    assert_int_equal(keeper_post(keeper, &first.change), 0);
    for (int i = 0; i < 4; i++)
        change_init(&c[i], i, &ready);
    c[1].label = "nowhere";
    c[1].create = false;
    c[2].answer = -EDOM; /* fails after it has written: that is undone */
    for (int i = 0; i < 4; i++)
        assert_int_equal(keeper_post(keeper, &c[i].change), 0);
    sem_post(&hold);
    wait_for(&ready, 5);
    assert_true(c[0].rc == 0 && c[0].was_durable);
    assert_int_equal(c[1].rc, -ENOENT);
    assert_int_equal(c[2].rc, -EDOM);
    assert_true(c[3].rc == 0 && c[3].was_durable);
    assert_false(example_of(reader, c[2].receipt.example, -1).found);
    assert_int_equal(c[3].receipt.seq, c[0].receipt.seq + 1);
    assert_int_equal(keeper_counts(keeper).failures, 2);
    sem_destroy(&ready);
    sem_destroy(&hold);
}

/* A full disk: everybody is told it is full, nothing is kept, and the keeper goes on when there is
 * room. */
static void test_a_full_disk(void **state)
{
    struct teaching_change first, c[GROUP];
    sem_t ready, hold;
    int64_t before = 0, after = 0;

    (void)state;
    sem_init(&ready, 0, 0);
    sem_init(&hold, 0, 0);
    assert_int_equal(store_seq(reader, &before), 0);
    fault_vfs_arm(FAULT_WRITE, 1, SQLITE_FULL, true);
    change_init(&first, 99, &ready);
    first.hold = &hold;
    assert_int_equal(keeper_post(keeper, &first.change), 0);
    for (int i = 0; i < GROUP; i++) {
        change_init(&c[i], i, &ready);
        c[i].change.wait_applied = true;
        assert_int_equal(keeper_post(keeper, &c[i].change), 0);
    }
    sem_post(&hold);
    wait_for(&ready, GROUP + 1);
    assert_true(fault_vfs_disarm());
    assert_int_equal(first.rc, -ENOSPC);
    for (int i = 0; i < GROUP; i++)
        assert_int_equal(c[i].rc, -ENOSPC);
    assert_int_equal(store_seq(reader, &after), 0);
    assert_int_equal(after, before);
    assert_int_equal(keeper_counts(keeper).commits, 0);
    change_init(&first, 99, &ready);
    assert_int_equal(keeper_post(keeper, &first.change), 0);
    wait_for(&ready, 1);
    assert_true(first.rc == 0 && first.was_durable);
    sem_destroy(&ready);
    sem_destroy(&hold);
}

/* A change that fails with the whole transaction (SQLite has rolled it back, the marks are gone) is
 * told the fault itself. */
static int lose_transaction(struct change *change, struct store *store)
{
    (void)change;
    store_rollback(store);
    return -ENOSPC;
}

static void test_the_fault_is_told_not_its_echo(void **state)
{
    struct teaching_change c;
    sem_t ready;

    (void)state;
    sem_init(&ready, 0, 0);
    change_init(&c, 1, &ready);
    c.change.write = lose_transaction;
    assert_int_equal(keeper_post(keeper, &c.change), 0);
    wait_for(&ready, 1);
    assert_int_equal(c.rc, -ENOSPC);
    change_init(&c, 2, &ready);
    assert_int_equal(keeper_post(keeper, &c.change), 0);
    wait_for(&ready, 1);
    assert_true(c.rc == 0 && c.was_durable);
    sem_destroy(&ready);
}

static int probe(struct change *change, struct store *store)
{
    (void)change;
    return store_probe(store); /* begins its own transaction, so it must not be in one */
}

static void test_after_commit(void **state)
{
    struct teaching_change c[3];
    sem_t ready;

    (void)state;
    sem_init(&ready, 0, 0);
    for (int i = 0; i < 3; i++)
        change_init(&c[i], i, &ready);
    c[1].change.write = probe;
    c[1].change.after_commit = true;
    c[1].receipt.example[0] = 1; /* there is no such example: was_durable is not asked */
    for (int i = 0; i < 3; i++)
        assert_int_equal(keeper_post(keeper, &c[i].change), 0);
    wait_for(&ready, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(c[i].rc, 0);
    assert_true(c[0].was_durable && c[2].was_durable);
    sem_destroy(&ready);
}

static void test_full_box_and_close(void **state)
{
    struct teaching_change first, c[64], more;
    sem_t ready, hold;
    int posted = 0, rc = 0;

    (void)state;
    sem_init(&ready, 0, 0);
    sem_init(&hold, 0, 0);
    change_init(&first, 99, &ready);
    first.hold = &hold;
    assert_int_equal(keeper_post(keeper, &first.change), 0);
    while (posted < 64) {
        change_init(&c[posted], posted, &ready);
        rc = keeper_post(keeper, &c[posted].change);
        if (rc != 0)
            break;
        posted++;
    }
    assert_true(posted >= 63); /* the first is in the box or in the keeper's hands */
    if (posted == 64) {
        change_init(&more, 100, &ready);
        rc = keeper_post(keeper, &more.change);
        if (rc == 0) /* the keeper took the first out meanwhile, and there was room for one */
            posted++;
    }
    sem_post(&hold);
    keeper_close(keeper); /* writes what is in the box */
    keeper = NULL;
    wait_for(&ready, posted + 1);
    for (int i = 0; i < 63; i++)
        assert_true(c[i].rc == 0 && c[i].was_durable);
    sem_destroy(&ready);
    sem_destroy(&hold);
}

static int install(void **state)
{
    (void)state;
    fault_vfs_install();
    log_open(LOG_LEVEL_ERROR);
    return 0;
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_group_commit), EACH(test_a_bad_change_sinks_no_other),
        EACH(test_a_full_disk),  EACH(test_the_fault_is_told_not_its_echo),
        EACH(test_after_commit), EACH(test_full_box_and_close),
    };

    return cmocka_run_group_tests(tests, install, NULL);
}
