/* Erasing in the store: which rows go, what the fold becomes, and that no file keeps a byte. */
#include <dirent.h>
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

#include "store/erase.h"
#include "tests/unit/own_folder.h"

static bool file_holds(const char *name, const char *text)
{
    size_t len;
    char *bytes = file_read(folder, name, &len);
    bool found = bytes != NULL && memmem(bytes, len, text, strlen(text)) != NULL;

    free(bytes);
    return found;
}

static bool holds(const char *text)
{
    return file_holds("learnd.db", text) || file_holds("learnd.db-wal", text);
}

struct forgotten {
    uint32_t len;
    char last[64];
};

static void removed(void *ud, int64_t model, const char *text, size_t text_bytes)
{
    struct forgotten *f = ud;

    assert_true(model > 0);
    f->len++;
    snprintf(f->last, sizeof f->last, "%.*s", (int)text_bytes, text);
}

/* In a transaction of its own, without the scrub. */
static struct store_erased erase_rows(struct store *w, struct store_erase e)
{
    struct store_erased erased = {0};

    e.who = "";
    e.now_us = 5000;
    assert_int_equal(store_begin(w), 0);
    assert_int_equal(store_erase(w, &e, &erased), 0);
    assert_int_equal(store_commit(w), 0);
    return erased;
}

static struct store_erase of_text(int64_t model, const char *text)
{
    return (struct store_erase){.model = model, .text = text, .text_bytes = strlen(text)};
}

static struct store_receipt say(struct store *w, int64_t model, const char *text, const char *label,
                                const char *annotator)
{
    struct store_feedback f = feedback_of(model, STORE_LABEL, text, label, annotator);

    return taught(w, &f);
}

static struct store_receipt say_keyed(struct store *w, int64_t model, const char *text,
                                      const char *annotator, const char *key)
{
    struct store_feedback f = feedback_of(model, STORE_LABEL, text, "x", annotator);

    f.idempotency_key = key;
    memset(f.body_hash, 0x5a, sizeof f.body_hash);
    return taught(w, &f);
}

/* What a query of the test's own says; the store is closed meanwhile. */
static int64_t asked(const char *sql)
{
    char path[FOLDER_BYTES + 16];
    sqlite3 *db;
    sqlite3_stmt *q;
    int64_t number;

    snprintf(path, sizeof path, "%s/learnd.db", folder);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &q, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    number = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    sqlite3_close(db);
    return number;
}

static void test_a_text_goes_with_all_that_hangs_on_it(void **state)
{
    struct store *w = opened(folder, STORE_WRITER);
    int64_t one = model_added(w, "one"), two = model_added(w, "two");
    struct store_receipt r = say_keyed(w, one, "the text to erase", "ann", "key-to-erase");
    struct forgotten f = {0};
    struct store_erase e = of_text(0, "the text to erase");
    struct store_erased erased;
    const uint16_t embedding[8] = {1, 2, 3, 4, 5, 6, 7, 8};

    (void)state;
    assert_int_equal(store_begin(w), 0);
    assert_int_equal(store_embedding_put(w, r.example, 0, embedding, sizeof embedding), 0);
    assert_int_equal(store_commit(w), 0);
    say(w, two, "the text to erase", "x", "bob");
    say(w, two, "the text to erase", "x", "eve");
    say(w, two, "another text", "x", "bob");
    assert_true(holds("the text to erase"));
    e.removed = removed;
    e.ud = &f;
    erased = erase_rows(w, e);
    assert_int_equal(erased.examples, 2);
    assert_int_equal(erased.votes, 3);
    assert_int_equal(f.len, 2);
    assert_string_equal(f.last, "the text to erase");
    assert_int_equal(erased.models_len, 2);
    assert_int_equal(erased.models[0].model, one);
    assert_int_equal(erased.models[1].model, two);
    assert_true(erased.models[0].seq > r.seq);
    assert_true(erased.models[1].seq > erased.models[0].seq);
    store_erased_done(&erased);
    assert_int_equal(store_scrub(w), 0);
    assert_false(holds("the text to erase"));
    assert_false(holds("key-to-erase"));
    assert_false(example_of(w, r.example, 0).found);
    /* The key is free, so the same row of a file teaches it again. */
    assert_false(say_keyed(w, one, "the text to erase", "ann", "key-to-erase").duplicate);
    store_close(w);
    assert_int_equal(asked("SELECT count(*) FROM vote"), 2);
    assert_int_equal(asked("SELECT unscrubbed FROM meta"), 0);
    assert_int_equal(asked("SELECT count(*) FROM event WHERE op = 'delete'"), 2);
}

static void test_pairs(void **state)
{
    struct store *w = opened(folder, STORE_WRITER);
    int64_t model = model_added(w, "m");
    struct store_feedback f = feedback_of(model, STORE_LABEL, "first", "x", "");
    struct store_erase e = of_text(model, "first");
    struct store_erased erased;

    (void)state;
    taught(w, &f);
    f.pair = "second";
    f.pair_bytes = 6;
    taught(w, &f);
    f.text = "third";
    f.pair = "first";
    f.text_bytes = f.pair_bytes = 5;
    taught(w, &f);
    e.pair = "second";
    e.pair_bytes = 6;
    erased = erase_rows(w, e);
    assert_int_equal(erased.examples, 1); /* just that pair */
    store_erased_done(&erased);
    erased = erase_rows(w, of_text(model, "first"));
    assert_int_equal(erased.examples, 2); /* alone, and as the second of a pair */
    store_erased_done(&erased);
    store_close(w);
}

static void test_an_annotator(void **state)
{
    struct store *w = opened(folder, STORE_WRITER);
    int64_t model = model_added(w, "m");
    struct store_receipt alone = say_keyed(w, model, "only hers", "hermione", "hermione/1");
    struct store_receipt shared = say(w, model, "of both", "x", "bob");
    struct store_receipt bobs = say(w, model, "only his", "x", "bob");
    struct store_erased erased;
    struct kept_example k;

    (void)state;
    say(w, model, "of both", "y", "hermione");
    erased = erase_rows(w, (struct store_erase){.annotator = "hermione"});
    assert_int_equal(erased.examples, 1);
    assert_int_equal(erased.votes, 2);
    assert_int_equal(erased.models_len, 1);
    store_erased_done(&erased);
    assert_int_equal(store_scrub(w), 0);
    assert_false(holds("hermione"));
    assert_false(holds("only hers"));
    assert_false(example_of(w, alone.example, -1).found);
    k = example_of(w, shared.example, -1);
    assert_int_equal(k.target_len, 1); /* folded again, without her */
    assert_int_equal(k.annotators, 1);
    assert_true(k.last_seq > bobs.seq);
    assert_int_equal(example_of(w, bobs.example, -1).last_seq, bobs.seq); /* not touched */
    store_close(w);
    assert_int_equal(asked("SELECT count(*) FROM event WHERE op = 'erased'"), 2);
    assert_int_equal(asked("SELECT count(*) FROM idempotency"), 0);
}

/* What another annotator taught and took back is not hers alone. */
static void test_an_example_that_another_took_back_stays(void **state)
{
    struct store *w = opened(folder, STORE_WRITER);
    int64_t model = model_added(w, "m");
    struct store_receipt r = say(w, model, "t", "x", "bob");
    struct store_feedback f = feedback_of(model, STORE_WITHDRAW, NULL, NULL, "bob");
    struct store_erased erased;

    (void)state;
    memcpy(f.example, r.example, sizeof f.example);
    taught(w, &f);
    say(w, model, "t", "x", "hermione");
    erased = erase_rows(w, (struct store_erase){.model = model, .annotator = "hermione"});
    assert_int_equal(erased.examples, 0);
    assert_int_equal(erased.votes, 1);
    store_erased_done(&erased);
    assert_string_equal(example_of(w, r.example, -1).status, "withdrawn");
    store_close(w);
}

static void test_nothing_found_changes_nothing(void **state)
{
    struct store *w = opened(folder, STORE_WRITER);
    int64_t model = model_added(w, "m"), before, after;
    struct store_erased erased;
    uint8_t id[STORE_ID_BYTES] = {1};

    (void)state;
    say(w, model, "t", "x", "bob");
    assert_int_equal(store_seq(w, &before), 0);
    erased = erase_rows(w, of_text(0, "never taught"));
    assert_int_equal(erased.examples + erased.votes + erased.models_len, 0);
    erased = erase_rows(w, of_text(model + 1, "t")); /* another model */
    assert_int_equal(erased.examples, 0);
    erased = erase_rows(w, (struct store_erase){.annotator = "nobody"});
    assert_int_equal(erased.votes, 0);
    erased = erase_rows(w, (struct store_erase){.example = id});
    assert_int_equal(erased.examples, 0);
    assert_int_equal(store_seq(w, &after), 0);
    assert_int_equal(after, before);
    assert_int_equal(store_scrub(w), 0);
    store_close(w);
    assert_int_equal(asked("SELECT count(*) FROM audit"), 4);
}

static int look_at_vector(void *ud, const struct store_example *row)
{
    assert_int_equal(row->text_bytes, 0);
    assert_int_equal(row->vector_bytes, 8);
    assert_memory_equal(row->vector, ud, 8);
    return 0;
}

/* A vector is what was taught, not a cache: it stays without any encoder's embedding. */
static void test_vectors(void **state)
{
    static const char bytes[] = "12345678", other[] = "12345679";
    struct store *w = opened(folder, STORE_WRITER);
    int64_t model = model_added(w, "m");
    struct store_feedback f = feedback_of(model, STORE_LABEL, NULL, "x", "ann");
    struct store_receipt r, again;
    uint16_t vector[4], neighbour[4];
    struct store_erase e = {.removed = removed};
    struct forgotten forgotten = {0};
    struct store_erased erased;

    (void)state;
    memcpy(vector, bytes, sizeof vector);
    memcpy(neighbour, other, sizeof neighbour);
    f.vector = vector;
    f.vector_bytes = sizeof vector;
    r = taught(w, &f);
    again = taught(w, &f);
    assert_memory_equal(again.example, r.example, STORE_ID_BYTES);
    f.vector = neighbour;
    again = taught(w, &f);
    assert_memory_not_equal(again.example, r.example, STORE_ID_BYTES);
    assert_int_equal(store_example_get(w, r.example, -1, look_at_vector, vector), 0);
    store_close(w);
    w = opened(folder, STORE_WRITER);
    assert_int_equal(store_example_get(w, r.example, -1, look_at_vector, vector), 0);
    e.example = r.example;
    e.ud = &forgotten;
    erased = erase_rows(w, e);
    assert_int_equal(erased.examples, 1);
    assert_string_equal(forgotten.last, bytes); /* the bytes stand for the text */
    store_erased_done(&erased);
    assert_int_equal(store_scrub(w), 0);
    assert_false(holds(bytes));
    assert_true(holds(other));
    store_close(w);
}

/* ---- files ----------------------------------------------------------------------------------- */

static void write_image(struct store *w, int64_t model, int64_t seq, const char *image)
{
    uint8_t sha256[STORE_HASH_BYTES];
    char why[256];

    assert_int_equal(
        store_snapshot_write(folder, model, 0, seq, image, strlen(image), why, sizeof why, sha256),
        0);
    assert_int_equal(store_snapshot_add(w, model, 0, seq, sha256), 0);
}

static bool image_is_there(int64_t model, int64_t seq)
{
    char name[64];
    size_t len;
    char *bytes;

    snprintf(name, sizeof name, "heads/%lld-0-%lld.head", (long long)model, (long long)seq);
    bytes = file_read(folder, name, &len);
    free(bytes);
    return bytes != NULL;
}

static void test_images_that_hold_it_go(void **state)
{
    struct store *w = opened(folder, STORE_WRITER);
    int64_t one = model_added(w, "one"), two = model_added(w, "two"), seq;
    struct store_receipt first = say(w, one, "kept", "x", ""), r;
    struct store_erased erased;
    uint8_t hash[STORE_HASH_BYTES];
    char why[256];
    void *image;
    size_t bytes;

    (void)state;
    write_image(w, one, first.seq, "before it was taught");
    r = say(w, one, "erased", "x", "");
    write_image(w, one, r.seq, "with it");
    write_image(w, two, r.seq, "of another model");
    erased = erase_rows(w, (struct store_erase){.example = r.example});
    assert_int_equal(store_scrub(w), 0);
    assert_true(image_is_there(one, first.seq));
    assert_false(image_is_there(one, r.seq));
    assert_true(image_is_there(two, r.seq));
    assert_int_equal(store_snapshot_read(w, one, 0, &seq, &image, &bytes), 0);
    assert_int_equal(seq, first.seq);
    free(image);
    /* One that was written before the learner knew, and comes to be named after. */
    write_image(w, one, r.seq, "too late");
    assert_false(image_is_there(one, r.seq));
    /* One that nobody came to name. */
    assert_int_equal(store_snapshot_write(folder, one, 0, r.seq, "lost", 4, why, sizeof why, hash),
                     0);
    assert_int_equal(store_scrub(w), 0);
    assert_false(image_is_there(one, r.seq));
    write_image(w, one, erased.models[0].seq, "without it");
    assert_true(image_is_there(one, erased.models[0].seq));
    store_erased_done(&erased);
    store_close(w);
}

static void test_a_reader_holds_it_up(void **state)
{
    struct store *w = opened(folder, STORE_WRITER), *r = opened(folder, STORE_READER);
    int64_t model = model_added(w, "m");
    struct store_erased erased;

    (void)state;
    say(w, model, "the text to erase", "x", "");
    assert_int_equal(store_begin(r), 0);
    erased = erase_rows(w, of_text(0, "the text to erase"));
    store_erased_done(&erased);
    assert_int_equal(store_scrub(w), -EBUSY);
    say(w, model, "the keeper goes on", "x", "");
    assert_int_equal(store_rollback(r), 0);
    assert_int_equal(store_scrub(w), 0);
    assert_false(holds("the text to erase"));
    store_close(r);
    store_close(w);
}

static void test_the_next_start_finishes(void **state)
{
    struct store *w = opened(folder, STORE_WRITER);
    int64_t model = model_added(w, "m");
    struct store_receipt r = say(w, model, "the text to erase", "x", "");
    struct store_erased erased;

    (void)state;
    write_image(w, model, r.seq, "with it");
    erased = erase_rows(w, of_text(0, "the text to erase"));
    store_erased_done(&erased);
    store_close(w);
    assert_true(image_is_there(model, r.seq));
    assert_int_equal(asked("SELECT unscrubbed FROM meta"), 1);
    store_close(opened(folder, STORE_WRITER));
    assert_false(image_is_there(model, r.seq));
    assert_false(holds("the text to erase"));
    assert_int_equal(asked("SELECT unscrubbed FROM meta"), 0);
}

static void test_a_rollback_keeps_all(void **state)
{
    struct store *w = opened(folder, STORE_WRITER);
    int64_t model = model_added(w, "m");
    struct store_receipt r = say(w, model, "the text to keep", "x", "");
    struct store_erase e = of_text(0, "the text to keep");
    struct store_erased erased;

    (void)state;
    e.who = "";
    assert_int_equal(store_begin(w), 0);
    assert_int_equal(store_erase(w, &e, &erased), 0);
    store_erased_done(&erased);
    assert_int_equal(store_rollback(w), 0);
    assert_int_equal(store_scrub(w), 0);
    assert_true(example_of(w, r.example, -1).found);
    store_close(w);
}

enum { TEXTS = 400, ERASED = 300 };

static uint32_t next(uint32_t *random)
{
    return (*random = *random * 1664525 + 1013904223) >> 8;
}

/* Texts of all sizes, each beginning with its number; ret_ids in a random order. */
static void teach_all(struct store *w, int64_t model, uint32_t *random,
                      uint8_t ret_ids[TEXTS][STORE_ID_BYTES], int ret_numbers[TEXTS])
{
    static const size_t sizes[] = {10, 50, 200, 600, 1500};
    char text[2048];

    for (int i = 0; i < TEXTS; i++) {
        struct store_feedback f = feedback_of(model, STORE_LABEL, "", "x", "");
        struct store_receipt r;
        int j = (int)(next(random) % (uint32_t)(i + 1));

        memset(text, 'x', sizeof text);
        f.text_bytes = (size_t)snprintf(text, 16, "<%05d>", i) + sizes[next(random) % 5];
        text[7] = 'x';
        f.text = text;
        r = taught(w, &f);
        ret_numbers[i] = ret_numbers[j];
        memcpy(ret_ids[i], ret_ids[j], STORE_ID_BYTES);
        ret_numbers[j] = i;
        memcpy(ret_ids[j], r.example, STORE_ID_BYTES);
    }
}

static uint32_t count_left(const int numbers[TEXTS])
{
    uint32_t left = 0;
    char text[16];

    for (int i = 0; i < ERASED; i++) {
        snprintf(text, sizeof text, "<%05d>", numbers[i]);
        left += holds(text);
    }
    return left;
}

/* Rows that SQLite moves between pages leave copies behind, which secure_delete does not know of.
 * The message says how many there were before the scrub. */
static void test_copies_in_slack(void **state)
{
    uint8_t ids[TEXTS][STORE_ID_BYTES];
    uint32_t random = 1, copies = 0;
    int numbers[TEXTS];

    (void)state;
    for (int round = 0; round < 8; round++) {
        struct store *w;

        folder_renew();
        w = opened(folder, STORE_WRITER);
        teach_all(w, model_added(w, "m"), &random, ids, numbers);
        for (int i = 0; i < ERASED; i++) {
            struct store_erased erased = erase_rows(w, (struct store_erase){.example = ids[i]});

            assert_int_equal(erased.examples, 1);
            store_erased_done(&erased);
        }
        assert_int_equal(store_checkpoint(w), 0);
        copies += count_left(numbers);
        assert_int_equal(store_scrub(w), 0);
        assert_int_equal(count_left(numbers), 0);
        store_close(w);
    }
    print_message("%u of %d texts had left a copy\n", copies, 8 * ERASED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_a_text_goes_with_all_that_hangs_on_it),
        IN_FOLDER(test_pairs),
        IN_FOLDER(test_an_annotator),
        IN_FOLDER(test_an_example_that_another_took_back_stays),
        IN_FOLDER(test_nothing_found_changes_nothing),
        IN_FOLDER(test_vectors),
        IN_FOLDER(test_images_that_hold_it_go),
        IN_FOLDER(test_a_reader_holds_it_up),
        IN_FOLDER(test_the_next_start_finishes),
        IN_FOLDER(test_a_rollback_keeps_all),
        IN_FOLDER(test_copies_in_slack),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
