/* test_store_faults.c -- every allocation, write, fsync and truncation of open + create + insert
 * fails in turn. Each time: an error, with words; what was acknowledged before is still there; the
 * next attempt succeeds.
 */
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
#include "tests/unit/fault_vfs.h"
#include "tests/unit/own_folder.h"

/* ---- the walk -------------------------------------------------------------------------------- */

struct walk {
    struct store *store;
    int64_t model, acknowledged; /* seq of the last commit that returned 0 */
    char why[256];
};

static int put(struct walk *w, enum store_op op, const char *text, const char *key)
{
    struct store_feedback f = feedback_of(w->model, op, text, "label", "ann");
    struct store_receipt r;
    const char *field;
    int rc;

    f.idempotency_key = key;
    rc = teach(w->store, &f, &r, &field);
    if (rc == 0)
        w->acknowledged = r.seq;
    return rc;
}

/* Every act on labels once, in one transaction. */
static int relabel(struct walk *w)
{
    struct store_label_change c = {.model = w->model, .now_us = 1};
    uint8_t id[1][STORE_ID_BYTES];
    const char *field;
    int64_t other, seq = 0;
    uint32_t bad;
    int rc = store_begin(w->store);

    store_example_id("m", "first", 5, NULL, 0, id[0]);
    if (rc == 0)
        rc = store_label_find(w->store, w->model, "label", &c.label);
    if (rc == 0)
        rc = store_label_add(w->store, w->model, "other", 1, &other, &seq);
    if (rc == 0)
        rc = store_label_split(w->store, &c, other, (const uint8_t(*)[STORE_ID_BYTES])id, 1, &seq,
                               &field, &bad);
    if (rc == 0)
        rc = store_label_retire(w->store, &c, &seq, &field);
    if (rc == 0)
        rc = store_label_restore(w->store, &c, &seq, &field);
    if (rc == 0)
        rc = store_label_rename(w->store, &c, "renamed", &seq, &field);
    if (rc == 0)
        rc = store_label_set(w->store, &c, 0.5, "{}", &seq, &field);
    c.label = other;
    if (rc == 0)
        rc = store_label_find(w->store, w->model, "label", &other);
    if (rc == 0)
        rc = store_label_merge(w->store, &c, other, &seq, &field);
    if (rc == 0)
        rc = store_commit(w->store);
    if (rc == 0)
        w->acknowledged = seq;
    else
        store_rollback(w->store);
    return rc;
}

/* open + create + insert, and every other kind of write once. */
static int walk(struct walk *w)
{
    static const uint8_t hash[STORE_HASH_BYTES] = {1};
    uint8_t image[STORE_HASH_BYTES];
    int64_t id;
    int rc = store_open(folder, STORE_WRITER, w->why, sizeof w->why, &w->store);

    if (rc != 0)
        return rc;
    rc = store_encoder_claim(w->store, hash, 1, &id);
    if (rc == 0)
        rc = store_model_add(w->store, "m", "single", "{}", 1, &w->model);
    if (rc == 0)
        rc = put(w, STORE_LABEL, "first", "k1");
    if (rc == 0)
        rc = put(w, STORE_LABEL, "second", NULL);
    if (rc == 0)
        rc = put(w, STORE_REJECT, "second", NULL);
    if (rc == 0)
        rc = relabel(w);
    if (rc == 0)
        rc = put(w, STORE_DELETE, "second", "k2");
    if (rc == 0)
        rc = store_snapshot_write(folder, w->model, 0, 1, "image", 5, w->why, sizeof w->why, image);
    if (rc == 0)
        rc = store_snapshot_add(w->store, w->model, 0, 1, image);
    if (rc == 0)
        rc = store_probe(w->store);
    if (rc == 0)
        rc = store_checkpoint(w->store);
    return rc;
}

/* After a fault: the words are there, nothing acknowledged is missing, and the walk can be gone to
 * its end. */
static void check_and_go_on(struct walk *w, int rc)
{
    struct store_feedback f;
    struct store *store;
    int64_t seq = 0;

    assert_true(rc < 0);
    if (w->store == NULL)
        assert_true(w->why[0] != '\0');
    else
        assert_true(store_why(w->store)[0] != '\0');
    if (w->store != NULL && w->model != 0) { /* the same connection goes on */
        f = feedback_of(w->model, STORE_LABEL, "after the fault", "label", "ann");
        w->acknowledged = taught(w->store, &f).seq;
    }
    store_close(w->store);
    store = opened(folder, STORE_WRITER);
    assert_int_equal(store_integrity(store), 0);
    assert_int_equal(store_seq(store, &seq), 0);
    assert_int_equal(seq, w->acknowledged);
    store_close(store);
}

static void test_every_allocation(void **state)
{
    int64_t held;
    uint64_t n;

    (void)state;
    for (int on = 0; on < 2; on++) {
        held = fault_alloc_held();
        for (n = 1;; n += FAULT_STRIDE * (on ? 7 : 1)) {
            struct walk w = {0};
            int rc;

            fault_alloc_arm(n, on);
            rc = walk(&w);
            if (!fault_alloc_disarm()) {
                assert_int_equal(rc, 0);
                store_close(w.store);
                break;
            }
            /* SQLite may do without a block it asked for (a larger cache, a sort): then all is
             * well. */
            if (rc == 0)
                store_close(w.store);
            else
                check_and_go_on(&w, rc);
            if (rc != 0)
                assert_int_equal(rc, -ENOMEM);
            folder_renew();
        }
        assert_int_equal(fault_alloc_held(), held);
        assert_true(n > 200);
        folder_renew();
    }
    print_message("%d allocations\n", (int)n);
}

/* Fails operation 1, 2, 3 .. of one kind, once each and then from there on. */
static void fail_each(enum fault_op op, int code, int wanted)
{
    uint64_t n;

    for (int on = 0; on < 2; on++) {
        for (n = 1;; n++) {
            struct walk w = {0};
            bool failed;
            int rc;

            fault_vfs_arm(op, n, code, on);
            rc = walk(&w);
            failed = fault_vfs_disarm();
            if (!failed) {
                assert_int_equal(rc, 0);
                store_close(w.store);
                break;
            }
            if (rc == 0)
                store_close(w.store);
            else
                check_and_go_on(&w, rc);
            if (rc != 0 && wanted != 0)
                assert_int_equal(rc, wanted);
            folder_renew();
        }
        assert_true(n > 1);
        folder_renew();
    }
    print_message("%d operations\n", (int)n - 1);
}

static void test_every_write_of_a_full_disk(void **state)
{
    (void)state;
    fail_each(FAULT_WRITE, SQLITE_FULL, -ENOSPC);
}

static void test_every_write_of_a_broken_device(void **state)
{
    (void)state;
    fail_each(FAULT_WRITE, SQLITE_IOERR_WRITE, -EIO);
}

static void test_every_fsync(void **state)
{
    (void)state;
    fail_each(FAULT_SYNC, SQLITE_IOERR_FSYNC, -EIO);
}

static void test_every_truncation(void **state)
{
    (void)state;
    fail_each(FAULT_TRUNCATE, SQLITE_IOERR_TRUNCATE, -EIO);
}

static void test_every_open_of_a_file(void **state)
{
    (void)state;
    fail_each(FAULT_OPEN, SQLITE_CANTOPEN, -EIO);
}

static void test_every_read(void **state)
{
    (void)state;
    fail_each(FAULT_READ, SQLITE_IOERR_READ, -EIO);
}

/* ---- reading with no memory ------------------------------------------------------------------ */

static int64_t model;

static void same_text(const struct kept_example *k)
{
    char wanted[200];

    memset(wanted, 'x', sizeof wanted);
    wanted[0] = 't';
    assert_int_equal(k->text_bytes, sizeof wanted);
    assert_memory_equal(k->text, wanted, sizeof wanted);
    assert_string_equal(k->pair, "the pair");
    assert_string_equal(k->status, "active");
    assert_int_equal(k->target_len, 1);
}

static int check_example(void *ud, const struct store_example *row)
{
    struct kept_example k;

    keep_example(&k, row);
    same_text(&k);
    ++*(int *)ud;
    return 0;
}

static int check_event(void *ud, const struct store_event *row)
{
    assert_true(strcmp(row->op, "label") == 0 || strcmp(row->op, "label_add") == 0);
    assert_string_equal(row->label, "label");
    if (strcmp(row->op, "label") == 0)
        assert_string_equal(row->annotator, "ann");
    ++*(int *)ud;
    return 0;
}

static int check_model(void *ud, const struct store_model *row)
{
    assert_string_equal(row->name, "m");
    assert_string_equal(row->kind, "single");
    assert_string_equal(row->settings, "{}");
    ++*(int *)ud;
    return 0;
}

static int check_label(void *ud, const struct store_label *row)
{
    assert_string_equal(row->name, "label");
    assert_string_equal(row->status, "active");
    ++*(int *)ud;
    return 0;
}

/* Everything that is read, through a connection of its own, so that every statement is prepared
 * again. */
static int read_all(int *seen)
{
    const struct store_example_filter filter = {.label = "label", .annotator = "ann", .q = "x"};
    struct store *store;
    char why[256];
    int64_t encoder;
    void *image = NULL;
    size_t bytes;
    int rc = store_open(folder, STORE_READER, why, sizeof why, &store);

    if (rc != 0)
        return rc;
    rc = store_begin(store);
    if (rc == 0)
        rc = store_model_scan(store, check_model, seen);
    if (rc == 0)
        rc = store_label_scan(store, model, 0, 0, check_label, seen);
    if (rc == 0)
        rc = store_event_scan(store, model, 0, 0, check_event, seen);
    if (rc == 0)
        rc = store_event_scan_back(store, model, 0, 0, check_event, seen);
    if (rc == 0)
        rc = store_example_scan(store, model, &filter, 0, check_example, seen);
    if (rc == 0)
        rc = store_example_changed(store, model, 0, INT64_MAX, -1, check_example, seen);
    if (rc == 0)
        rc = store_snapshot_read(store, model, 0, &encoder, &image, &bytes);
    if (rc == 0)
        assert_memory_equal(image, "image", 5);
    free(image);
    store_rollback(store);
    store_close(store);
    return rc;
}

static void test_reading_without_memory(void **state)
{
    struct store *store = opened(folder, STORE_WRITER);
    struct store_feedback f;
    uint8_t hash[STORE_HASH_BYTES];
    char text[200], why[256];
    int all = 0, rc;
    uint64_t n;

    (void)state;
    model = model_added(store, "m");
    memset(text, 'x', sizeof text);
    for (int i = 0; i < 3; i++) {
        char pair[] = "the pair";

        text[0] = 't';
        f = feedback_of(model, STORE_LABEL, NULL, "label", "ann");
        f.text = text;
        f.text_bytes = sizeof text;
        f.pair = pair;
        f.pair_bytes = 8;
        taught(store, &f);
    }
    assert_int_equal(store_snapshot_write(folder, model, 0, 4, "image", 5, why, sizeof why, hash),
                     0);
    assert_int_equal(store_snapshot_add(store, model, 0, 4, hash), 0);
    assert_int_equal(read_all(&all), 0);
    assert_true(all >= 6);
    for (n = 1;; n++) {
        int seen = 0;

        fault_alloc_arm(n, false);
        rc = read_all(&seen);
        if (!fault_alloc_disarm())
            break;
        /* An answer is whole or it is an error. */
        assert_int_equal(rc, rc == 0 ? 0 : -ENOMEM);
        if (rc == 0)
            assert_int_equal(seen, all);
    }
    assert_int_equal(rc, 0);
    assert_true(n > 50);
    store_close(store);
}

/* ---- a full disk inside a group -------------------------------------------------------------- */

/* A fault may end the whole transaction; the item's mark has then gone with it, and the fault is
 * still what is told. */
static void test_full_disk_under_a_mark(void **state)
{
    struct store *store = opened(folder, STORE_WRITER);
    struct store_feedback f = feedback_of(0, STORE_LABEL, "t", "label", "ann");
    struct store_receipt r;
    const char *field;
    char text[20000];
    int64_t before = 0, after = 0;

    (void)state;
    f.model = model_added(store, "m");
    taught(store, &f);
    assert_int_equal(store_seq(store, &before), 0);
    memset(text, 'y', sizeof text);
    f.text = text;
    f.text_bytes = sizeof text;
    for (uint64_t n = 1; n < 6; n++) {
        int rc, i;

        fault_vfs_arm(FAULT_WRITE, n, SQLITE_FULL, true);
        rc = store_begin(store);
        for (i = 0; i < 400 && rc == 0; i++) { /* until the cache spills */
            text[0] = (char)i;
            text[1] = (char)(i >> 8);
            rc = store_mark(store);
            if (rc == 0)
                rc = store_feedback_put(store, &f, &r, &field);
            if (rc == 0)
                rc = store_unmark(store, true);
        }
        if (rc == 0)
            rc = store_commit(store);
        assert_true(fault_vfs_disarm());
        assert_int_equal(rc, -ENOSPC);
        assert_int_equal(store_rollback(store), 0);
        assert_int_equal(store_seq(store, &after), 0);
        assert_int_equal(after, before);
        assert_int_equal(store_probe(store), 0);
    }
    assert_int_equal(store_integrity(store), 0);
    store_close(store);
}

static int install(void **state)
{
    (void)state;
    fault_alloc_install();
    fault_vfs_install();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_every_allocation),
        IN_FOLDER(test_every_write_of_a_full_disk),
        IN_FOLDER(test_every_write_of_a_broken_device),
        IN_FOLDER(test_every_fsync),
        IN_FOLDER(test_every_truncation),
        IN_FOLDER(test_every_open_of_a_file),
        IN_FOLDER(test_every_read),
        IN_FOLDER(test_reading_without_memory),
        IN_FOLDER(test_full_disk_under_a_mark),
    };

    return cmocka_run_group_tests(tests, install, NULL);
}
