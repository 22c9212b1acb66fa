/* Every allocation, write, fsync and truncation of an erasure fails in turn. Each time: it is not
 * said to be done, the database is whole, and the same again (or only the next start) does it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "store/erase.h"
#include "tests/unit/fault_alloc.h"
#include "tests/unit/fault_vfs.h"
#include "tests/unit/store_fixture.h"

static const char secret[] = "the text to erase";
static char folder[FOLDER_BYTES];

static bool holds(const char *name)
{
    size_t len;
    char *bytes = file_read(folder, name, &len);
    bool found = bytes != NULL && memmem(bytes, len, secret, sizeof secret - 1) != NULL;

    free(bytes);
    return found;
}

/* A folder with the text in it, in the log and in the database. */
static struct store *prepared(void)
{
    struct store *w;
    struct store_feedback f;
    int64_t model;

    folder_make(folder);
    w = opened(folder, STORE_WRITER);
    model = model_added(w, "m");
    f = feedback_of(model, STORE_LABEL, secret, "x", "ann");
    f.idempotency_key = "key";
    taught(w, &f);
    assert_int_equal(store_checkpoint(w), 0);
    f = feedback_of(model, STORE_LABEL, "another", "x", "ann");
    taught(w, &f);
    return w;
}

static int erase(struct store *w, bool text)
{
    struct store_erase e = {.who = "", .now_us = 1};
    struct store_erased erased = {0};
    int rc = store_begin(w);

    if (text) {
        e.text = secret;
        e.text_bytes = sizeof secret - 1;
    } else {
        e.annotator = "ann";
    }
    if (rc == 0)
        rc = store_erase(w, &e, &erased);
    if (rc == 0)
        rc = store_commit(w);
    store_erased_done(&erased);
    if (rc != 0) {
        store_rollback(w);
        return rc;
    }
    return store_scrub(w);
}

/* One erasure with the fault armed by the caller. Returns whether the fault came. */
static bool go(struct store *w, bool text, bool restart, bool (*disarm)(void))
{
    int rc = erase(w, text);
    bool failed = disarm();

    if (!failed)
        assert_int_equal(rc, 0);
    if (rc != 0) {
        assert_true(store_why(w)[0] != '\0');
        assert_int_equal(store_integrity(w), 0);
        if (restart) {
            store_close(w);
            w = opened(folder, STORE_WRITER);
        }
        assert_int_equal(erase(w, text), 0);
    }
    assert_false(holds("learnd.db"));
    assert_false(holds("learnd.db-wal"));
    assert_int_equal(store_integrity(w), 0);
    store_close(w);
    folder_remove(folder);
    return failed;
}

static void test_every_allocation(void **state)
{
    int64_t held = fault_alloc_held();

    (void)state;
    for (int text = 0; text < 2; text++) {
        uint64_t n = 1;

        for (bool failed = true; failed; n += 7) {
            struct store *w = prepared();

            fault_alloc_arm(n, n % 2 == 0);
            failed = go(w, text, n % 4 < 2, fault_alloc_disarm);
        }
        assert_true(n > 100);
    }
    assert_int_equal(fault_alloc_held(), held);
}

static void fail_each(enum fault_op op, int code)
{
    for (int text = 0; text < 2; text++) {
        uint64_t n = 1;

        for (bool failed = true; failed; n++) {
            struct store *w = prepared();

            fault_vfs_arm(op, n, code, n % 2 == 0);
            failed = go(w, text, n % 4 < 2, fault_vfs_disarm);
        }
        assert_true(n > 2);
    }
}

static void test_every_write_of_a_full_disk(void **state)
{
    (void)state;
    fail_each(FAULT_WRITE, SQLITE_FULL);
}

static void test_every_fsync(void **state)
{
    (void)state;
    fail_each(FAULT_SYNC, SQLITE_IOERR_FSYNC);
}

static void test_every_truncation(void **state)
{
    (void)state;
    fail_each(FAULT_TRUNCATE, SQLITE_IOERR_TRUNCATE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_allocation),
        cmocka_unit_test(test_every_write_of_a_full_disk),
        cmocka_unit_test(test_every_fsync),
        cmocka_unit_test(test_every_truncation),
    };

    fault_alloc_install();
    fault_vfs_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
