/* test_store_open.c -- the folder and the connection: who may open it, in what state, and what a
 * transaction keeps. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "tests/unit/own_folder.h"

/* Runs SQL on the database behind the store's back. */
static void raw(const char *sql)
{
    char path[FOLDER_BYTES + 16];
    sqlite3 *db;

    snprintf(path, sizeof path, "%s/learnd.db", folder);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static int64_t raw_number(const char *sql)
{
    char path[FOLDER_BYTES + 16];
    sqlite3_stmt *q;
    sqlite3 *db;
    int64_t n;

    snprintf(path, sizeof path, "%s/learnd.db", folder);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &q, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    n = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    return n;
}

static void refused(enum store_mode mode, int rc, const char *says)
{
    struct store *store = NULL;
    char why[256] = "";

    assert_int_equal(store_open(folder, mode, why, sizeof why, &store), rc);
    assert_null(store);
    if (strstr(why, says) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", why, says);
}

/* ---- opening --------------------------------------------------------------------------------- */

static void test_new_folder(void **state)
{
    char nested[FOLDER_BYTES + 16];
    struct store *store;
    struct stat st;
    int64_t seq = -1;
    char why[256];

    (void)state;
    store = opened(folder, STORE_WRITER);
    assert_int_equal(store_seq(store, &seq), 0);
    assert_int_equal(seq, 0);
    assert_int_equal(store_integrity(store), 0);
    assert_int_equal(store_probe(store), 0);
    store_close(store);
    store_close(NULL);
    assert_int_equal(raw_number("PRAGMA user_version"), 8);
    assert_int_equal(raw_number("SELECT count(*) FROM sqlite_schema WHERE name = 'event'"), 1);
    assert_int_equal(raw_number("SELECT probes FROM meta"), 1);
    snprintf(nested, sizeof nested, "%s/heads", folder);
    assert_int_equal(stat(nested, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700); /* texts are nobody else's business */

    snprintf(nested, sizeof nested, "%s/a/b", folder); /* a new home has nothing above it yet */
    assert_int_equal(store_open(nested, STORE_WRITER, why, sizeof why, &store), 0);
    store_close(store);
    assert_int_equal(stat(nested, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    snprintf(nested, sizeof nested, "%s/a/b/learnd.db/c", folder); /* a file is no folder */
    assert_int_equal(store_open(nested, STORE_WRITER, why, sizeof why, &store), -ENOTDIR);
    assert_non_null(strstr(why, "learnd.db"));
    snprintf(nested, sizeof nested, "%s/learnd.db", folder);
    assert_int_equal(store_open(nested, STORE_WRITER, why, sizeof why, &store), -ENOTDIR);
}

static void test_reader_needs_a_database(void **state)
{
    (void)state;
    refused(STORE_READER, -EIO, "unable to open");
    raw("PRAGMA journal_mode=WAL");
    refused(STORE_READER, -ESTALE, "not been set up");
    assert_int_equal(raw_number("SELECT count(*) FROM sqlite_schema"), 0);
}

static void test_reader_cannot_write(void **state)
{
    struct store *writer, *reader;
    int64_t id;

    (void)state;
    writer = opened(folder, STORE_WRITER);
    reader = opened(folder, STORE_READER);
    assert_int_equal(store_begin(reader), 0);
    assert_int_equal(store_model_add(reader, "m", "single", "{}", 1, &id), -EROFS);
    assert_int_equal(store_rollback(reader), 0);
    store_close(reader);
    store_close(writer);
}

static void test_second_writer_is_refused(void **state)
{
    struct store *first;

    (void)state;
    first = opened(folder, STORE_WRITER);
    refused(STORE_WRITER, -EBUSY, "another learnd is using the state folder");
    refused(STORE_WRITER, -EBUSY, folder);
    assert_int_equal(store_probe(first), 0); /* the refused one broke nothing */
    store_close(first);
    store_close(opened(folder, STORE_WRITER));
}

/* The lock of a process that was killed goes with it, and what it committed is there. */
static void test_lock_of_a_killed_process(void **state)
{
    struct store *store;
    int ready[2], status;
    char byte;
    pid_t child;

    (void)state;
    assert_int_equal(pipe(ready), 0);
    child = fork();
    if (child == 0) {
        store = opened(folder, STORE_WRITER);
        model_added(store, "kept");
        store_begin(store);
        store_model_add(store, "lost", "single", "{}", 1, &(int64_t){0});
        if (write(ready[1], "x", 1) == 1)
            pause();
        _exit(1);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    refused(STORE_WRITER, -EBUSY, "another learnd");
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    close(ready[0]);
    close(ready[1]);
    store = opened(folder, STORE_WRITER);
    assert_int_equal(store_integrity(store), 0);
    store_close(store);
    assert_int_equal(raw_number("SELECT count(*) FROM model WHERE name = 'kept'"), 1);
    assert_int_equal(raw_number("SELECT count(*) FROM model"), 1);
}

static void test_newer_database(void **state)
{
    (void)state;
    store_close(opened(folder, STORE_WRITER));
    raw("PRAGMA user_version=99");
    refused(STORE_WRITER, -EUCLEAN, "version 99");
    refused(STORE_READER, -EUCLEAN, "version 99");
    assert_int_equal(raw_number("PRAGMA user_version"), 99);
}

static void test_damaged_database(void **state)
{
    struct store *store;
    int64_t model;
    size_t len;
    char *bytes, *page;

    (void)state;
    store = opened(folder, STORE_WRITER);
    model = model_added(store, "m");
    for (int i = 0; i < 200; i++) {
        struct store_feedback f;
        char text[64];

        snprintf(text, sizeof text, "a text of some length with the number %d", i);
        f = feedback_of(model, STORE_LABEL, text, "l", "a");
        taught(store, &f);
    }
    assert_int_equal(store_checkpoint(store), 0);
    store_close(store);
    bytes = file_read(folder, "learnd.db", &len);
    assert_non_null(bytes);

    /* A page of examples is noise: the file opens, the check finds it. */
    page = memmem(bytes, len, "with the number 100", 19);
    assert_non_null(page);
    memset(bytes + (page - bytes) / 4096 * 4096, 0xa5, 4096);
    file_write(folder, "learnd.db", bytes, len);
    store = opened(folder, STORE_WRITER);
    assert_int_equal(store_integrity(store), -EUCLEAN);
    assert_true(strlen(store_why(store)) > 0);
    store_close(store);
    /* The head is noise: it is not opened at all. */
    memset(bytes, 0xa5, 4096);
    file_write(folder, "learnd.db", bytes, len);
    refused(STORE_WRITER, -EUCLEAN, "not a database");
    refused(STORE_READER, -EUCLEAN, "not a database");
    free(bytes);
}

/* A folder that cannot be written, as a user that is not root sees it. */
static void open_as_nobody(int rc, const char *says)
{
    char *why = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct store *store;
    int status;
    pid_t child;

    assert_true(why != MAP_FAILED);
    child = fork();
    if (child == 0) {
        if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0)
            _exit(255);
        _exit(-store_open(folder, STORE_WRITER, why, 4096, &store));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(-WEXITSTATUS(status), rc);
    if (strstr(why, says) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", why, says);
    munmap(why, 4096);
}

static void test_read_only_folder(void **state)
{
    char path[FOLDER_BYTES + 16];

    (void)state;
    assert_int_equal(chmod(folder, 0555), 0);
    open_as_nobody(-EROFS, folder);
    assert_int_equal(chmod(folder, 0700), 0);
    store_close(opened(folder, STORE_WRITER));
    snprintf(path, sizeof path, "%s/learnd.db", folder);
    assert_int_equal(chmod(path, 0444), 0);
    assert_int_equal(chmod(folder, 0555), 0);
    open_as_nobody(-EROFS, "learnd.db");
    assert_int_equal(chmod(folder, 0700), 0);
}

/* ---- transactions ---------------------------------------------------------------------------- */

static int64_t last_seq(struct store *store)
{
    int64_t seq = -1;

    assert_int_equal(store_seq(store, &seq), 0);
    return seq;
}

static void test_rollback_keeps_nothing(void **state)
{
    struct store *store;
    struct store_receipt receipt;
    struct store_feedback f;
    const char *field;
    int64_t model;

    (void)state;
    store = opened(folder, STORE_WRITER);
    model = model_added(store, "m");
    f = feedback_of(model, STORE_LABEL, "text", "label", "a");
    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_feedback_put(store, &f, &receipt, &field), 0);
    assert_int_equal(store_rollback(store), 0);
    assert_int_equal(last_seq(store), 0);
    assert_false(example_of(store, receipt.example, -1).found);
    assert_int_equal(store_rollback(store), 0); /* outside a transaction: nothing to do */
    assert_int_equal(taught(store, &f).seq, 2); /* label_add, label */
    store_close(store);
}

static void test_a_failed_item_leaves_its_neighbours(void **state)
{
    struct store *store;
    struct store_receipt good[2], bad;
    struct store_feedback f, unknown;
    const char *field = "";
    int64_t model, label;

    (void)state;
    store = opened(folder, STORE_WRITER);
    model = model_added(store, "m");
    label = label_added(store, model, "here");
    f = feedback_of(model, STORE_LABEL, "first", "here", "a");
    unknown = feedback_of(model, STORE_REJECT, "second", "nowhere", "a");
    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_mark(store), 0);
    assert_int_equal(store_feedback_put(store, &f, &good[0], &field), 0);
    assert_int_equal(store_unmark(store, true), 0);
    assert_int_equal(store_mark(store), 0);
    assert_int_equal(store_feedback_put(store, &unknown, &bad, &field), -ENOENT);
    assert_string_equal(field, "label");
    assert_int_equal(store_unmark(store, false), 0);
    f.text = "third";
    f.text_bytes = 5;
    assert_int_equal(store_mark(store), 0);
    assert_int_equal(store_feedback_put(store, &f, &good[1], &field), 0);
    assert_int_equal(store_unmark(store, true), 0);
    assert_int_equal(store_commit(store), 0);
    assert_int_equal(good[1].seq, good[0].seq + 1); /* the failed one took no number */
    for (int i = 0; i < 2; i++) {
        struct kept_example k = example_of(store, good[i].example, -1);

        assert_true(k.found);
        assert_int_equal(k.target[0].label, label);
    }
    store_close(store);
    assert_int_equal(raw_number("SELECT count(*) FROM example"), 2);
}

/* A reader's transaction is one moment, whatever is committed meanwhile. */
static void test_reader_sees_one_moment(void **state)
{
    struct store *writer, *reader;
    struct store_feedback f;
    int64_t model;

    (void)state;
    writer = opened(folder, STORE_WRITER);
    model = model_added(writer, "m");
    f = feedback_of(model, STORE_LABEL, "text", "label", "a");
    reader = opened(folder, STORE_READER);
    assert_int_equal(store_begin(reader), 0);
    taught(writer, &f);
    assert_int_equal(last_seq(reader), 0);
    assert_int_equal(store_commit(reader), 0);
    assert_int_equal(store_begin(reader), 0);
    assert_int_equal(last_seq(reader), 2);
    assert_int_equal(store_rollback(reader), 0);
    store_close(reader);
    store_close(writer);
}

static int one_row(void *ud, const struct store_model *row)
{
    (void)row;
    ++*(int *)ud;
    return 0;
}

/* What a watchdog goes by: each kind of connection counts its own steps, a migration's too. */
static void test_work_is_counted(void **state)
{
    uint64_t writer = store_work(STORE_WRITER), reader = store_work(STORE_READER);
    struct store *s, *r;
    int64_t id;
    int rows = 0;

    (void)state;
    s = opened(folder, STORE_WRITER);
    assert_true(store_work(STORE_WRITER) > writer);
    assert_int_equal(store_work(STORE_READER), reader);
    writer = store_work(STORE_WRITER);
    assert_int_equal(store_model_add(s, "m", "single", "{}", 1, &id), 0);
    assert_true(store_work(STORE_WRITER) > writer);
    r = opened(folder, STORE_READER);
    writer = store_work(STORE_WRITER);
    reader = store_work(STORE_READER);
    assert_int_equal(store_model_scan(r, one_row, &rows), 0);
    assert_int_equal(rows, 1);
    assert_true(store_work(STORE_READER) > reader);
    assert_int_equal(store_work(STORE_WRITER), writer);
    store_close(r);
    store_close(s);
}

static void test_encoder_claim(void **state)
{
    struct store *store;
    uint8_t hash[STORE_HASH_BYTES], other[STORE_HASH_BYTES];
    int64_t encoder = -1;

    (void)state;
    store_sha256("weights", 7, hash);
    store_sha256("other weights", 13, other);
    store = opened(folder, STORE_WRITER);
    assert_int_equal(store_encoder_claim(store, hash, 1, &encoder), 0);
    assert_int_equal(encoder, 0);
    encoder = -1;
    assert_int_equal(store_encoder_claim(store, hash, 2, &encoder), 0);
    assert_int_equal(encoder, 0);
    encoder = -1;
    assert_int_equal(store_encoder_claim(store, other, 3, &encoder), -EUCLEAN);
    assert_int_equal(encoder, -1);
    assert_non_null(strstr(store_why(store), "another encoder"));
    store_close(store);
    store = opened(folder, STORE_WRITER);
    assert_int_equal(store_encoder_claim(store, other, 4, &encoder), -EUCLEAN);
    assert_int_equal(store_encoder_claim(store, hash, 4, &encoder), 0);
    store_close(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_new_folder),
        IN_FOLDER(test_reader_needs_a_database),
        IN_FOLDER(test_reader_cannot_write),
        IN_FOLDER(test_second_writer_is_refused),
        IN_FOLDER(test_lock_of_a_killed_process),
        IN_FOLDER(test_newer_database),
        IN_FOLDER(test_damaged_database),
        IN_FOLDER(test_read_only_folder),
        IN_FOLDER(test_rollback_keeps_nothing),
        IN_FOLDER(test_a_failed_item_leaves_its_neighbours),
        IN_FOLDER(test_reader_sees_one_moment),
        IN_FOLDER(test_work_is_counted),
        IN_FOLDER(test_encoder_claim),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
