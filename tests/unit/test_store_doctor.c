/* test_store_doctor.c -- the journal replays to what stands, whatever was done: random histories of
 * every operation, in which the doctor finds nothing; and backups of them that restore to the same.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/backup.h"
#include "store/doctor.h"
#include "store/erase.h"
#include "tests/unit/store_fixture.h"

enum { TEXTS = 24, LABELS = 6, ANNOTATORS = 4, ACTS = 300, ROUNDS = 6 };

static char folder[FOLDER_BYTES], backup[FOLDER_BYTES + 16], again[FOLDER_BYTES + 16];
static struct store *store;
static int64_t single, multi;
static uint64_t dice;

static int set_up(void **state)
{
    (void)state;
    folder_make(folder);
    snprintf(backup, sizeof backup, "%s-backup", folder);
    snprintf(again, sizeof again, "%s-again", folder);
    store = opened(folder, STORE_WRITER);
    single = model_added(store, "single");
    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_model_add(store, "multi", "multi", "{}", 1, &multi), 0);
    assert_int_equal(store_commit(store), 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    store_close(store);
    folder_remove(folder);
    (void)store_folder_remove(backup);
    (void)store_folder_remove(again);
    return 0;
}

static uint32_t roll(uint32_t sides)
{
    dice = dice * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(dice >> 33) % sides;
}

/* ---- findings -------------------------------------------------------------------------------- */

static void on_finding(void *ud, const struct store_finding *finding)
{
    /* What the machine that tests is like is no affair of the journal's. */
    if (strcmp(finding->code, "disk_low") == 0)
        return;
    ++*(int *)ud;
    print_message("%s: %s\n", finding->code, finding->what);
}

static int findings(const char *of)
{
    char why[256] = "";
    bool held;
    int found = 0;

    if (store_examine(of, on_finding, &found, &held, why, sizeof why) != 0)
        fail_msg("%s", why);
    return found;
}

/* ---- a history ------------------------------------------------------------------------------- */

static const char *const annotators[ANNOTATORS] = {"", "ann", "ben", "eve"};

/* What an act may refuse is nothing to the test; what it writes is whole or undone. */
static void end(int rc)
{
    if (rc == 0)
        assert_int_equal(store_commit(store), 0);
    else
        assert_int_equal(store_rollback(store), 0);
}

static void correct(int64_t model)
{
    const char *names[3];
    char texts[3][8], text[16];
    struct store_feedback f;
    struct store_receipt receipt;
    const char *field;
    uint32_t op = roll(20);

    snprintf(text, sizeof text, "text %u", roll(TEXTS));
    for (int i = 0; i < 3; i++) {
        snprintf(texts[i], sizeof texts[i], "l%u", (roll(LABELS / 3) * 3 + (uint32_t)i));
        names[i] = texts[i];
    }
    f = feedback_of(model,
                    op < 12   ? STORE_LABEL
                    : op < 16 ? STORE_REJECT
                    : op < 19 ? STORE_WITHDRAW
                              : STORE_DELETE,
                    text, names[0], annotators[roll(ANNOTATORS)]);
    f.weight = (1 + roll(30)) / 10.0;
    if (model == multi && op < 16) {
        f.labels = names;
        f.labels_len = op < 12 ? roll(4) : 1 + roll(3);
        f.label = NULL;
    }
    if (op >= 16) { /* of an example: its id is that of its text */
        store_example_id(model == multi ? "multi" : "single", text, strlen(text), NULL, 0,
                         f.example);
        f.text = NULL;
    }
    (void)teach(store, &f, &receipt, &field);
}

static void change_label(int64_t model)
{
    struct store_label_change c = {.model = model, .now_us = 5};
    char name[16], new_name[16];
    uint8_t ids[1][STORE_ID_BYTES];
    const char *field;
    uint32_t bad;
    int64_t seq, other = 0;
    int rc;

    snprintf(name, sizeof name, "l%u", roll(LABELS));
    snprintf(new_name, sizeof new_name, "n%u", roll(40));
    assert_int_equal(store_begin(store), 0);
    rc = store_label_find(store, model, name, &c.label);
    snprintf(name, sizeof name, "l%u", roll(LABELS));
    if (rc == 0)
        rc = store_label_find(store, model, name, &other);
    snprintf(name, sizeof name, "text %u", roll(TEXTS));
    store_example_id(model == multi ? "multi" : "single", name, strlen(name), NULL, 0, ids[0]);
    if (rc == 0) {
        switch (roll(6)) {
        case 0:
            rc = store_label_rename(store, &c, new_name, &seq, &field);
            break;
        case 1:
            rc = store_label_retire(store, &c, &seq, &field);
            break;
        case 2:
            rc = store_label_merge(store, &c, other, &seq, &field);
            break;
        case 3:
            rc = store_label_split(store, &c, other, ids, 1, &seq, &field, &bad);
            break;
        case 4:
            rc = store_label_set(store, &c, 0.5, "{}", &seq, &field);
            break;
        default:
            rc = store_label_restore(store, &c, &seq, &field);
        }
    }
    end(rc);
}

static void erase_one(int64_t model)
{
    char text[16];
    struct store_erase e = {.model = roll(2) == 0 ? model : 0, .who = "", .now_us = 9};
    struct store_erased erased = {0};
    int rc;

    snprintf(text, sizeof text, "text %u", roll(TEXTS));
    if (roll(2) == 0) {
        e.annotator = annotators[1 + roll(ANNOTATORS - 1)];
    } else {
        e.text = text;
        e.text_bytes = strlen(text);
    }
    assert_int_equal(store_begin(store), 0);
    rc = store_erase(store, &e, &erased);
    end(rc);
    store_erased_done(&erased);
    assert_int_equal(rc, 0);
    assert_int_equal(store_scrub(store), 0);
}

static void live(uint32_t acts)
{
    for (uint32_t i = 0; i < acts; i++) {
        int64_t model = roll(2) == 0 ? single : multi;
        uint32_t act = roll(100);

        if (act < 85)
            correct(model);
        else if (act < 98)
            change_label(model);
        else
            erase_one(model);
    }
    assert_int_equal(store_scrub(store), 0); /* of examples that were deleted */
}

static void test_any_history_replays(void **state)
{
    (void)state;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        dice = round + 1;
        live(ACTS);
        if (findings(folder) != 0)
            fail_msg("after round %llu", (unsigned long long)round);
    }
}

/* ---- backups --------------------------------------------------------------------------------- */

static int note(void *ud, const struct store_example *row)
{
    uint8_t *sum = ud, hash[STORE_HASH_BYTES];
    char text[512];
    int len = snprintf(text, sizeof text, "%.*s|%s|%u|%.17g|%lld", (int)row->text_bytes, row->text,
                       row->status, row->annotators, row->weight, (long long)row->last_seq);

    for (uint32_t i = 0; i < row->target_len; i++)
        len += snprintf(text + len, sizeof text - (size_t)len, "|%lld %.17g",
                        (long long)row->target[i].label, row->target[i].value);
    store_sha256(text, (size_t)len, hash);
    for (int i = 0; i < STORE_HASH_BYTES; i++)
        sum[i] ^= hash[i];
    return 0;
}

static void sum_of(const char *of, uint8_t sum[STORE_HASH_BYTES])
{
    static const struct store_example_filter all = {0};
    struct store *reader = opened(of, STORE_READER);

    memset(sum, 0, STORE_HASH_BYTES);
    assert_int_equal(store_example_scan(reader, single, &all, -1, note, sum), 0);
    assert_int_equal(store_example_scan(reader, multi, &all, -1, note, sum), 0);
    store_close(reader);
}

static void test_a_backup_is_what_was(void **state)
{
    struct store_backup_report report;
    uint8_t before[STORE_HASH_BYTES], after[STORE_HASH_BYTES];
    uint64_t files;
    char why[256];
    int64_t seq;

    (void)state;
    dice = 77;
    live(ACTS);
    sum_of(folder, before);
    assert_int_equal(store_seq(store, &seq), 0);
    assert_int_equal(store_backup(folder, backup, true, why, sizeof why, &report), 0);
    assert_true(report.seq == seq && report.models == 2 && !report.replaced);
    files = report.files;
    live(50); /* what comes later is not in it */
    assert_int_equal(store_restore(backup, again, why, sizeof why, &report), 0);
    assert_true(report.seq == seq && report.files == files);
    sum_of(again, after);
    assert_memory_equal(before, after, sizeof before);
    assert_int_equal(findings(again), 0);
    assert_int_equal(store_backup(folder, backup, true, why, sizeof why, &report), 0);
    assert_true(report.replaced);
    assert_int_equal(store_restore(backup, folder, why, sizeof why, &report), -EBUSY);
    assert_int_equal(store_restore(backup, again, why, sizeof why, &report), -ENOTEMPTY);
}

/* An image that the rows name is swept while the copy is made: the backup begins again, and ends
 * with what is named then. */
static void test_a_file_that_went(void **state)
{
    struct store_backup_report report;
    uint8_t hash[STORE_HASH_BYTES];
    char why[256], path[FOLDER_BYTES + 64];

    (void)state;
    assert_int_equal(store_snapshot_write(folder, single, 0, 3, "image", 5, why, sizeof why, hash),
                     0);
    assert_int_equal(store_snapshot_add(store, single, 0, 3, hash), 0);
    assert_int_equal(store_backup(folder, backup, true, why, sizeof why, &report), 0);
    assert_int_equal(report.files, 3); /* the database, the image, BACKUP */
    snprintf(path, sizeof path, "%s/heads/%lld-0-3.head", folder, (long long)single);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(store_backup(folder, backup, true, why, sizeof why, &report), -EUCLEAN);
    assert_non_null(strstr(why, "0-3.head is missing or damaged"));
    assert_int_equal(store_manifest_check(backup, why, sizeof why, &report), 0); /* the old one */
    assert_int_equal(report.files, 3);
    snprintf(path, sizeof path, "%s.partial", backup);
    assert_int_equal(access(path, F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_any_history_replays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_backup_is_what_was, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_file_that_went, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
