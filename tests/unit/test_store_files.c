/* test_store_files.c -- what lies in the state folder: texts that were deleted are in no file, and
 * images of heads come back whole or not at all.
 */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/own_store.h"

/* ---- deleted texts --------------------------------------------------------------------------- */

/* Is a word in any file of the folder? */
static bool in_files(const char *word)
{
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    bool found = false;

    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        size_t len;
        char *bytes;

        if (entry->d_type != DT_REG)
            continue;
        bytes = file_read(folder, entry->d_name, &len);
        assert_non_null(bytes);
        found |= memmem(bytes, len, word, strlen(word)) != NULL;
        free(bytes);
    }
    closedir(dir);
    return found;
}

static void test_deleted_text_is_in_no_file(void **state)
{
    static const char secret[] = "Zaphod Beeblebrox, 42 Galaxy Road";
    static const char pair[] = "second-half-of-the-secret";
    struct store_feedback f = feedback_of(model, STORE_LABEL, secret, "l", "ann");
    uint16_t embedding[16];
    struct store_receipt r;
    char text[5000];

    (void)state;
    f.pair = pair;
    f.pair_bytes = sizeof pair - 1;
    f.idempotency_key = "k";
    r = taught(store, &f);
    memset(embedding, 0x5a, sizeof embedding);
    assert_int_equal(store_embedding_put(store, r.example, 0, embedding, sizeof embedding), 0);
    for (int i = 0; i < 300; i++) { /* other texts around it, so that its page is split and moved */
        snprintf(text, sizeof text, "an ordinary text, number %d", i);
        f = feedback_of(model, STORE_LABEL, text, "l", "ann");
        taught(store, &f);
    }
    /* One that needs overflow pages of its own. */
    memset(text, 'o', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    memcpy(text + 4500, "tail-of-a-long-secret", 21);
    f = feedback_of(model, STORE_LABEL, text, "l", "ann");
    taught(store, &f);
    assert_true(in_files(secret) && in_files(pair) && in_files("tail-of-a-long-secret"));
    assert_true(in_files("ZZZZZZZZZZZZZZZZZZZZ")); /* 0x5a: the embedding */

    f.op = STORE_DELETE;
    taught(store, &f);
    f = feedback_of(model, STORE_DELETE, NULL, NULL, "");
    memcpy(f.example, r.example, STORE_ID_BYTES);
    taught(store, &f);
    assert_int_equal(store_checkpoint(store), 0);
    assert_false(in_files("Zaphod"));
    assert_false(in_files(pair));
    assert_false(in_files("tail-of-a-long-secret"));
    assert_false(in_files("ZZZZZZZZZZZZZZZZZZZZ"));
    assert_true(in_files("an ordinary text, number 7"));
    store_close(store);
    assert_false(in_files("Zaphod"));
    store = opened(folder, STORE_WRITER);
    assert_int_equal(store_integrity(store), 0);
}

static void test_a_removed_model_leaves_no_text(void **state)
{
    struct store_feedback f = feedback_of(model, STORE_LABEL, "belongs-to-the-model", "l", "ann");
    uint8_t hash[STORE_HASH_BYTES];
    char why[256];

    (void)state;
    taught(store, &f);
    assert_int_equal(store_snapshot_write(folder, model, 0, 2, "image", 5, why, sizeof why, hash),
                     0);
    assert_int_equal(store_snapshot_add(store, model, 0, 2, hash), 0);
    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_model_remove(store, model), 0);
    assert_int_equal(store_commit(store), 0);
    assert_int_equal(store_checkpoint(store), 0);
    assert_false(in_files("belongs-to-the-model"));
}

/* A checkpoint waits for nobody for ever: with a reader in the way it says so, and the journal goes
 * on. */
static void test_checkpoint_with_a_reader(void **state)
{
    struct store *reader = opened(folder, STORE_READER);
    struct store_feedback f = feedback_of(model, STORE_LABEL, "t", "l", "ann");
    size_t len;

    (void)state;
    taught(store, &f);
    assert_int_equal(store_checkpoint(store),
                     0); /* a reader without a transaction is not in the way */
    free(file_read(folder, "learnd.db-wal", &len));
    assert_int_equal(len, 0);
    store_close(reader);
    taught(store, &f);
}

/* ---- images of heads ------------------------------------------------------------------------- */

static void name_of(char name[64], int64_t encoder, int64_t seq)
{
    snprintf(name, 64, "heads/%lld-%lld-%lld.head", (long long)model, (long long)encoder,
             (long long)seq);
}

static bool has_file(int64_t encoder, int64_t seq)
{
    char name[64];
    size_t len;
    char *bytes;

    name_of(name, encoder, seq);
    bytes = file_read(folder, name, &len);
    free(bytes);
    return bytes != NULL;
}

static void save(int64_t encoder, int64_t seq, const char *image)
{
    uint8_t hash[STORE_HASH_BYTES], wanted[STORE_HASH_BYTES];
    char why[256];

    assert_int_equal(store_snapshot_write(folder, model, encoder, seq, image, strlen(image), why,
                                          sizeof why, hash),
                     0);
    store_sha256(image, strlen(image), wanted);
    assert_memory_equal(hash, wanted, sizeof hash);
    assert_int_equal(store_snapshot_add(store, model, encoder, seq, hash), 0);
}

/* What is read back; "" is nothing. */
static const char *load(int64_t encoder, int64_t *ret_seq)
{
    static char text[64];
    void *image = NULL;
    size_t bytes = 0;
    int rc = store_snapshot_read(store, model, encoder, ret_seq, &image, &bytes);

    text[0] = '\0';
    if (rc == -ENOENT)
        return text;
    assert_int_equal(rc, 0);
    assert_true(bytes < sizeof text);
    memcpy(text, image, bytes);
    text[bytes] = '\0';
    free(image);
    return text;
}

static void test_snapshots(void **state)
{
    int64_t seq = -1;

    (void)state;
    assert_string_equal(load(0, &seq), "");
    assert_int_equal(seq, -1);
    save(0, 10, "ten");
    assert_string_equal(load(0, &seq), "ten");
    assert_int_equal(seq, 10);
    save(0, 20, "twenty");
    save(1, 5, "another encoder");
    assert_string_equal(load(0, &seq), "twenty");
    assert_true(has_file(0, 10)); /* one is kept for the day the newest is damaged */
    save(0, 30, "thirty");
    assert_string_equal(load(0, &seq), "thirty");
    assert_int_equal(seq, 30);
    assert_false(has_file(0, 10));
    assert_true(has_file(0, 20));
    assert_string_equal(load(1, &seq), "another encoder");
    save(0, 30, "thirty again"); /* the same seq: replaced */
    assert_string_equal(load(0, &seq), "thirty again");
    assert_true(has_file(0, 20));
    store_close(store);
    store = opened(folder, STORE_WRITER);
    assert_string_equal(load(0, &seq), "thirty again");
}

static void test_a_damaged_snapshot_is_passed_over(void **state)
{
    char name[64];
    int64_t seq = 0;

    (void)state;
    save(0, 10, "ten");
    save(0, 20, "twenty");
    name_of(name, 0, 20);
    file_write(folder, name, "twentz", 6);
    assert_string_equal(load(0, &seq), "ten");
    assert_int_equal(seq, 10);
    file_write(folder, name, "twent", 5);
    assert_string_equal(load(0, &seq), "ten");
    file_write(folder, name, "", 0);
    assert_string_equal(load(0, &seq), "ten");
    name_of(name, 0, 10);
    file_write(folder, name, "nonsense", 8);
    assert_string_equal(load(0, &seq), "");
    /* The next good one is read again, and the damaged ones go in time. */
    save(0, 30, "thirty");
    save(0, 40, "forty");
    assert_string_equal(load(0, &seq), "forty");
    assert_false(has_file(0, 10));
    assert_false(has_file(0, 20));
}

/* An image older than the newest row (the newest was damaged, and less came after it) removes
 * nothing that is still named. */
static void test_an_older_snapshot_keeps_the_newer(void **state)
{
    int64_t seq = 0;

    (void)state;
    save(0, 10, "ten");
    save(0, 20, "twenty");
    save(0, 5, "five");
    assert_string_equal(load(0, &seq), "twenty");
    assert_true(has_file(0, 10));
    assert_false(has_file(0, 5));
}

static void test_snapshot_without_a_folder(void **state)
{
    uint8_t hash[STORE_HASH_BYTES] = {0};
    static const uint8_t untouched[STORE_HASH_BYTES];
    char path[FOLDER_BYTES + 16], why[256] = "";

    (void)state;
    snprintf(path, sizeof path, "%s/heads", folder);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(store_snapshot_write(folder, model, 0, 1, "x", 1, why, sizeof why, hash),
                     -ENOENT);
    assert_non_null(strstr(why, path));
    assert_memory_equal(hash, untouched, sizeof hash);
}

/* A process killed between the file and its row, or in the middle of a file, leaves waste: the next
 * start removes it. */
static void test_waste_is_removed_at_the_next_start(void **state)
{
    uint8_t hash[STORE_HASH_BYTES];
    char name[64], half[80], why[256];
    int64_t seq = 0;
    size_t len;
    char *bytes;

    (void)state;
    save(0, 10, "ten");
    assert_int_equal(store_snapshot_write(folder, model, 0, 20, "no row", 6, why, sizeof why, hash),
                     0);
    name_of(name, 0, 30);
    snprintf(half, sizeof half, "%s.new", name);
    file_write(folder, half, "hal", 3);
    file_write(folder, "heads/README", "not ours", 8);
    store_close(store);
    store = opened(folder, STORE_WRITER);
    assert_string_equal(load(0, &seq), "ten");
    assert_false(has_file(0, 20));
    assert_null(file_read(folder, half, &len));
    bytes = file_read(folder, "heads/README", &len); /* what is not an image is left alone */
    assert_non_null(bytes);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_STORE(test_deleted_text_is_in_no_file),
        IN_STORE(test_a_removed_model_leaves_no_text),
        IN_STORE(test_checkpoint_with_a_reader),
        IN_STORE(test_snapshots),
        IN_STORE(test_a_damaged_snapshot_is_passed_over),
        IN_STORE(test_an_older_snapshot_keeps_the_newer),
        IN_STORE(test_snapshot_without_a_folder),
        IN_STORE(test_waste_is_removed_at_the_next_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
