/* test_store_versions.c -- encoders as rows and folders: numbers that name one thing for ever,
 * files that are whole or not there, and what was live when.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "tests/unit/own_store.h"

static int set_up(void **state)
{
    uint8_t hash[STORE_HASH_BYTES];
    int64_t base = -1;

    store_set_up(state);
    store_sha256("base", 4, hash);
    assert_int_equal(store_encoder_claim(store, hash, 5, &base), 0);
    assert_int_equal(base, 0);
    return 0;
}

static struct store_encoder encoder_of(int64_t of, int64_t run, const char *weights)
{
    struct store_encoder e = {
        .model = of, .parent = 0, .run = run, .origin = "joint", .dim = 384, .created_us = 2000};

    store_sha256(weights, strlen(weights), e.sha256);
    return e;
}

static int64_t added(int64_t of, int64_t run, const char *weights)
{
    const struct store_encoder e = encoder_of(of, run, weights);
    int64_t id = -1;

    assert_int_equal(store_encoder_add(store, &e, &id), 0);
    return id;
}

static int64_t run_added(int64_t of)
{
    const struct store_run_new run = {
        .model = of, .strategy = "joint", .settings = "{}", .who = "", .now_us = 1};
    int64_t id = -1;

    assert_int_equal(store_run_add(store, &run, &id), 0);
    return id;
}

static void run_ends(int64_t run, const char *how)
{
    struct store_run_update u = STORE_RUN_UPDATE_INIT;

    u.state = how;
    u.now_us = 2;
    assert_int_equal(store_run_update(store, run, &u), 0);
}

static void live(int64_t of, int64_t encoder, const char *reason, int64_t now_us)
{
    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_live_set(store, of, encoder, 4, reason, now_us), 0);
    assert_int_equal(store_commit(store), 0);
}

struct kept_encoder {
    struct store_encoder row;
    char origin[16], state[16];
    int64_t ids[16];
    int len;
};

static int keep(void *ud, const struct store_encoder *row)
{
    struct kept_encoder *k = ud;

    k->row = *row;
    snprintf(k->origin, sizeof k->origin, "%s", row->origin);
    snprintf(k->state, sizeof k->state, "%s", row->state);
    assert_true(k->len < 16);
    k->ids[k->len++] = row->id;
    return 0;
}

static struct kept_encoder got(int64_t id)
{
    struct kept_encoder k = {0};

    assert_int_equal(store_encoder_get(store, id, keep, &k), 0);
    return k;
}

#define STATE_IS(id, wanted) assert_string_equal(got(id).state, wanted)

/* ---- rows ------------------------------------------------------------------------------------ */

static void test_numbers_and_hashes(void **state)
{
    struct store_encoder e = encoder_of(model, 4, "one");
    int64_t id = -1, other = model_added(store, "other");
    struct kept_encoder k;

    (void)state;
    k = got(0);
    assert_string_equal(k.state, "base");
    assert_string_equal(k.origin, "base");
    assert_int_equal(k.row.model, 0);
    assert_int_equal(k.row.parent, -1);
    assert_int_equal(k.row.created_us, 5);
    assert_int_equal(store_encoder_add(store, &e, &id), 0);
    assert_int_equal(id, 1);
    k = got(1);
    assert_string_equal(k.state, "candidate");
    assert_string_equal(k.origin, "joint");
    assert_int_equal(k.row.model, model);
    assert_int_equal(k.row.parent, 0);
    assert_int_equal(k.row.run, 4);
    assert_int_equal(k.row.dim, 384);
    assert_memory_equal(k.row.sha256, e.sha256, STORE_HASH_BYTES);

    id = -1; /* the run goes on after a restart */
    assert_int_equal(store_encoder_add(store, &e, &id), -EEXIST);
    assert_int_equal(id, 1);
    live(model, 1, "run", 3000);
    e.run = 5; /* another run comes to the same weights */
    id = -1;
    assert_int_equal(store_encoder_add(store, &e, &id), -EEXIST);
    assert_int_equal(id, 1);
    e.model = other; /* of another model it is another version */
    assert_int_equal(store_encoder_add(store, &e, &id), 0);
    assert_int_equal(id, 2);
    e = encoder_of(model, 6, "base"); /* an import of what is there from the start */
    assert_int_equal(store_encoder_add(store, &e, &id), -EEXIST);
    assert_int_equal(id, 0);
    assert_int_equal(store_encoder_get(store, 3, keep, &k), -ENOENT);
}

static void test_a_refused_one_may_come_again(void **state)
{
    const int64_t run = run_added(model);
    int64_t first = added(model, run, "w"), again;

    (void)state;
    run_ends(run, "refused");
    STATE_IS(first, "refused");
    again = added(model, run_added(model), "w");
    assert_int_equal(again, first + 1);
    STATE_IS(again, "candidate");
}

static void test_a_run_that_fails_leaves_no_candidate(void **state)
{
    static const char *const ends[] = {"failed", "cancelled", "refused", "accepted"};

    (void)state;
    for (int i = 0; i < 4; i++) {
        const int64_t run = run_added(model);
        char weights[16];
        int64_t id;

        snprintf(weights, sizeof weights, "w%d", i);
        id = added(model, run, weights);
        run_ends(run, "running");
        STATE_IS(id, "candidate");
        run_ends(run, ends[i]);
        STATE_IS(id, i < 3 ? "refused" : "candidate"); /* accepted: the swap says what it is */
    }
}

static void test_states(void **state)
{
    uint8_t hash[STORE_HASH_BYTES];
    int64_t one = added(model, 1, "one"), two = added(model, 2, "two"), seq = 0;
    void *image;
    size_t bytes;
    char why[256];

    (void)state;
    live(model, one, "run", 3000);
    STATE_IS(one, "live");
    assert_int_equal(store_encoder_state(store, one, "removed"), -EBUSY);
    assert_int_equal(store_encoder_state(store, 0, "removed"), -EBUSY);
    assert_int_equal(store_encoder_state(store, 99, "removed"), -ENOENT);
    live(model, two, "run", 4000);
    STATE_IS(one, "held");
    STATE_IS(two, "live");
    live(model, one, "rollback", 5000);
    STATE_IS(one, "live");
    STATE_IS(two, "held");

    assert_int_equal(store_snapshot_write(folder, model, two, 2, "image", 5, why, sizeof why, hash),
                     0);
    assert_int_equal(store_snapshot_add(store, model, two, 2, hash), 0);
    assert_int_equal(store_encoder_state(store, two, "removed"), 0);
    STATE_IS(two, "removed");
    assert_int_equal(store_snapshot_read(store, model, two, &seq, &image, &bytes), -ENOENT);
    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_live_set(store, model, two, -1, "rollback", 6000), -ESTALE);
    assert_int_equal(store_live_set(store, model, 99, -1, "rollback", 6000), -ENOENT);
    assert_int_equal(store_live_set(store, 99, one, -1, "rollback", 6000), -ENOENT);
    assert_int_equal(store_rollback(store), 0);
    STATE_IS(one, "live");
    live(model, 0, "probation", 7000);
    STATE_IS(one, "held");
    STATE_IS(0, "base");
}

/* ---- what is live ---------------------------------------------------------------------------- */

struct served {
    int64_t model, encoder, since;
};

static int find_model(void *ud, const struct store_model *row)
{
    struct served *s = ud;

    if (row->id == s->model) {
        s->encoder = row->encoder;
        s->since = row->live_us;
    }
    return 0;
}

static struct served serving(int64_t of)
{
    struct served s = {of, -1, -1};

    assert_int_equal(store_model_scan(store, find_model, &s), 0);
    return s;
}

static void was_live(int64_t t_us, int64_t encoder, int64_t seq)
{
    int64_t e = -1, q = -1;

    assert_int_equal(store_live_at(store, model, t_us, &e, &q), 0);
    assert_int_equal(e, encoder);
    assert_int_equal(q, seq);
}

struct log {
    struct store_live rows[8];
    int len;
};

static int keep_live(void *ud, const struct store_live *row)
{
    struct log *l = ud;

    assert_true(l->len < 8);
    l->rows[l->len++] = *row;
    return 0;
}

static void test_what_was_live(void **state)
{
    struct store_feedback f = feedback_of(model, STORE_LABEL, "t", "l", "ann");
    int64_t one = added(model, 1, "one"), seq, e = -1, q = -1;
    struct log log = {.len = 0};

    (void)state;
    assert_int_equal(serving(model).encoder, 0);
    assert_int_equal(serving(model).since, 1000);
    f.now_us = 2000;
    seq = taught(store, &f).seq;
    live(model, one, "run", 3000);
    assert_int_equal(serving(model).encoder, one);
    assert_int_equal(serving(model).since, 3000);
    f.now_us = 4000;
    f.text = "u";
    assert_int_equal(taught(store, &f).seq, seq + 1);
    live(model, 0, "rollback", 5000);
    live(model, one, "rollback", 5000); /* the last of one moment counts */

    assert_int_equal(store_live_at(store, model, 999, &e, &q), -ENOENT);
    assert_int_equal(store_live_at(store, 99, 5000, &e, &q), -ENOENT);
    assert_int_equal(e, -1);
    was_live(1000, 0, 0);
    was_live(2000, 0, seq);
    was_live(2999, 0, seq);
    was_live(3000, one, seq);
    was_live(4000, one, seq + 1);
    was_live(INT64_MAX, one, seq + 1);

    assert_int_equal(store_live_scan(store, model, keep_live, &log), 0);
    assert_int_equal(log.len, 4);
    assert_string_equal(log.rows[3].reason, "created");
    assert_int_equal(log.rows[3].run, -1);
    assert_int_equal(log.rows[3].t_us, 1000);
    assert_string_equal(log.rows[2].reason, "run");
    assert_int_equal(log.rows[2].encoder, one);
    assert_int_equal(log.rows[2].run, 4);
    assert_int_equal(log.rows[2].seq, seq);
    assert_int_equal(log.rows[1].encoder, 0);
    assert_int_equal(log.rows[0].encoder, one);
    assert_int_equal(log.rows[0].seq, seq + 1);
}

/* Two models on one encoder: it goes when the last of them does. */
static void test_a_borrowed_encoder(void **state)
{
    int64_t one = added(model, 1, "one"), two = added(model, 2, "two");
    int64_t other = model_added(store, "other");
    struct kept_encoder k = {0};

    (void)state;
    live(model, one, "run", 3000);
    live(other, one, "created", 3000);
    live(model, 0, "rollback", 4000);
    STATE_IS(one, "live"); /* of the other */
    assert_int_equal(store_encoder_scan(store, other, keep, &k), 0);
    assert_int_equal(k.len, 2);
    assert_int_equal(k.ids[0], 0);
    assert_int_equal(k.ids[1], one);
    k.len = 0;
    assert_int_equal(store_encoder_scan(store, model, keep, &k), 0);
    assert_int_equal(k.len, 3);

    assert_int_equal(store_model_remove(store, model), 0);
    STATE_IS(one, "live");
    STATE_IS(two, "removed");
    live(other, 0, "rollback", 5000);
    STATE_IS(one, "held");
    live(other, one, "rollback", 6000);
    assert_int_equal(store_model_remove(store, other), 0);
    STATE_IS(one, "removed");
    STATE_IS(0, "base");
    model = model_added(store, "m");
    assert_int_equal(added(model, 3, "one"), two + 1); /* no number twice */
    assert_int_equal(store_model_remove(store, 99), -ENOENT);
    assert_int_equal(store_integrity(store), 0);
}

/* A folder from before there were runs. */
static void test_an_older_folder(void **state)
{
    static const char sql[] =
        "DROP TABLE act; DROP TABLE api_key;"
        "DROP TABLE run_metric; DROP TABLE run; DROP TABLE live_encoder;"
        "DROP TABLE encoder_version; ALTER TABLE model DROP COLUMN encoder;"
        "ALTER TABLE model DROP COLUMN live_us;"
        "CREATE TABLE encoder_version(id INTEGER PRIMARY KEY, sha256 BLOB NOT NULL UNIQUE,"
        " state TEXT NOT NULL, created_us INTEGER NOT NULL);"
        "INSERT INTO encoder_version VALUES(0, zeroblob(32), 'live', 77); PRAGMA user_version=6";
    const uint8_t zeros[STORE_HASH_BYTES] = {0};
    char path[FOLDER_BYTES + 16];
    int64_t base = -1;
    sqlite3 *db;

    (void)state;
    store_close(store);
    snprintf(path, sizeof path, "%s/learnd.db", folder);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    store = opened(folder, STORE_WRITER);
    STATE_IS(0, "base");
    assert_int_equal(got(0).row.created_us, 77);
    assert_int_equal(store_encoder_claim(store, zeros, 1, &base), 0);
    assert_int_equal(serving(model).encoder, 0);
    assert_int_equal(serving(model).since, 1000);
    was_live(1000, 0, 0);
    assert_int_equal(store_integrity(store), 0);
}

/* ---- files ----------------------------------------------------------------------------------- */

static char why[256];

/* A folder with a file, and a file in a folder of its own, as sentence-transformers have them. */
static void built(const char *words, char tmp[STORE_PATH_BYTES])
{
    char inner[STORE_PATH_BYTES + 16];

    assert_int_equal(store_encoder_begin(folder, why, sizeof why, tmp), 0);
    file_write(tmp, "model.safetensors", words, strlen(words));
    snprintf(inner, sizeof inner, "%s/1_Pooling", tmp);
    assert_int_equal(mkdir(inner, 0700), 0);
    file_write(inner, "config.json", "{}", 2);
}

static void weights_are(int64_t encoder, const char *wanted)
{
    char path[STORE_PATH_BYTES];
    size_t len = 0;
    char *bytes;

    assert_int_equal(store_encoder_folder(folder, encoder, path), 0);
    bytes = file_read(path, "model.safetensors", &len);
    if (wanted == NULL) {
        assert_null(bytes);
        return;
    }
    assert_non_null(bytes);
    assert_int_equal(len, strlen(wanted));
    assert_memory_equal(bytes, wanted, len);
    free(bytes);
    bytes = file_read(path, "1_Pooling/config.json", &len);
    assert_non_null(bytes);
    free(bytes);
}

static bool there(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0;
}

static void test_installing(void **state)
{
    char tmp[STORE_PATH_BYTES], second[STORE_PATH_BYTES];

    (void)state;
    built("first", tmp);
    built("second", second);
    assert_string_not_equal(tmp, second);
    assert_int_equal(store_encoder_install(folder, tmp, 1, why, sizeof why), 0);
    weights_are(1, "first");
    assert_false(there(tmp));
    assert_int_equal(store_encoder_install(folder, second, 1, why, sizeof why), 0); /* gives way */
    weights_are(1, "second");
    built("third", tmp);
    assert_int_equal(store_encoder_abandon(tmp), 0);
    assert_false(there(tmp));
    assert_int_equal(store_encoder_abandon(tmp), 0);
    why[0] = '\0';
    assert_int_equal(store_encoder_install(folder, tmp, 1, why, sizeof why), -ENOENT);
    assert_non_null(strstr(why, "encoders"));
    weights_are(1, "second"); /* what was there stays */
    assert_int_equal(store_encoder_remove_files(folder, 1), 0);
    weights_are(1, NULL);
    assert_int_equal(store_encoder_remove_files(folder, 1), 0);
}

/* A link could lead what is written through, and what is removed, out of the folder. */
static void test_links_are_not_followed(void **state)
{
    char tmp[STORE_PATH_BYTES], link[STORE_PATH_BYTES + 8], outside[FOLDER_BYTES], *precious;

    (void)state;
    folder_make(outside);
    file_write(outside, "precious", "x", 1);
    built("first", tmp);
    snprintf(link, sizeof link, "%s/link", tmp);
    assert_int_equal(symlink(outside, link), 0);
    assert_int_equal(store_encoder_install(folder, tmp, 1, why, sizeof why), -ELOOP);
    weights_are(1, NULL);
    assert_int_equal(store_encoder_abandon(tmp), 0);
    precious = file_read(outside, "precious", &(size_t){0});
    assert_non_null(precious);
    free(precious);
    folder_remove(outside);
}

static void test_removing_takes_the_heads_along(void **state)
{
    uint8_t hash[STORE_HASH_BYTES];
    size_t len;
    char *bytes;

    (void)state;
    for (int64_t e = 1; e <= 2; e++)
        assert_int_equal(store_snapshot_write(folder, 1, e, 9, "image", 5, why, sizeof why, hash),
                         0);
    assert_int_equal(store_encoder_remove_files(folder, 1), 0);
    assert_null(file_read(folder, "heads/1-1-9.head", &len));
    bytes = file_read(folder, "heads/1-2-9.head", &len);
    assert_non_null(bytes);
    free(bytes);
}

static void put_in_place(int64_t encoder, const char *words)
{
    char tmp[STORE_PATH_BYTES];

    built(words, tmp);
    assert_int_equal(store_encoder_install(folder, tmp, encoder, why, sizeof why), 0);
}

/* Wherever a process was killed, the next start finds the versions that rows promise, whole, and
 * nothing else. */
static void test_what_a_killed_process_leaves(void **state)
{
    const int64_t run = run_added(model);
    int64_t one = added(model, 90, "one"), two = added(model, 91, "two");
    int64_t candidate = added(model, run, "three"), of_no_run = added(model, 92, "four");
    char tmp[STORE_PATH_BYTES], old[STORE_PATH_BYTES];

    (void)state;
    live(model, one, "run", 3000);
    live(model, two, "run", 4000);
    put_in_place(one, "one");
    put_in_place(two, "two");
    put_in_place(candidate, "three");
    put_in_place(of_no_run, "four");
    put_in_place(77, "of no row");
    built("half", tmp);
    snprintf(old, sizeof old, "%s/encoders/old-%d", folder, (int)one);
    assert_int_equal(mkdir(old, 0700), 0);

    assert_int_equal(store_encoder_sweep(store), 0);
    assert_true(there(tmp) && there(old)); /* others may be at work */
    weights_are(77, NULL);
    store_close(store);
    put_in_place(77, "of no row");
    store = opened(folder, STORE_WRITER);
    assert_false(there(tmp) || there(old));
    weights_are(one, "one");
    weights_are(two, "two");
    weights_are(candidate, "three");
    weights_are(of_no_run, NULL);
    weights_are(77, NULL);

    run_ends(run, "failed");
    assert_int_equal(store_encoder_state(store, one, "removed"), 0);
    assert_int_equal(store_encoder_sweep(store), 0);
    weights_are(candidate, NULL);
    weights_are(one, NULL);
    weights_are(two, "two");
    assert_int_equal(store_model_remove(store, model), 0);
    assert_int_equal(store_encoder_sweep(store), 0);
    weights_are(two, NULL);
}

/* ---- embeddings of several encoders ---------------------------------------------------------- */

static int count_example(void *ud, const struct store_example *row)
{
    assert_null(row->embedding);
    assert_true(row->text_bytes > 0);
    ++*(int *)ud;
    return 0;
}

static int missing(int64_t encoder, int64_t after, uint32_t limit)
{
    int n = 0;

    assert_int_equal(
        store_embedding_missing(store, model, encoder, after, limit, count_example, &n), 0);
    return n;
}

static void test_embeddings(void **state)
{
    static const uint16_t data[8] = {1, 2, 3};
    struct store_receipt r[5];
    struct store_feedback f;
    char text[32];
    bool more = false;

    (void)state;
    for (int i = 0; i < 5; i++) {
        snprintf(text, sizeof text, "text %d", i);
        f = feedback_of(model, STORE_LABEL, text, "l", "ann");
        r[i] = taught(store, &f);
        assert_int_equal(store_embedding_put(store, r[i].example, 0, data, sizeof data), 0);
    }
    f.op = STORE_REJECT; /* the last has no target any more */
    taught(store, &f);
    f = feedback_of(model, STORE_LABEL, NULL, "l", "ann");
    f.text = "";
    f.text_bytes = 0;
    f.vector = data; /* what is taught as a vector needs no encoder */
    f.vector_bytes = sizeof data;
    taught(store, &f);
    assert_int_equal(missing(0, 0, 0), 0);
    assert_int_equal(missing(1, 0, 0), 4);
    assert_int_equal(missing(1, 0, 3), 3);
    assert_int_equal(missing(1, r[1].seq, 0), 2);
    for (int i = 0; i < 3; i++)
        assert_int_equal(store_embedding_put(store, r[i].example, 1, data, sizeof data), 0);
    assert_int_equal(missing(1, 0, 0), 1);

    assert_int_equal(store_embedding_drop(store, 1, 2, &more), 0);
    assert_true(more);
    assert_int_equal(missing(1, 0, 0), 3);
    assert_int_equal(store_embedding_drop(store, 1, 2, &more), 0);
    assert_false(more);
    assert_int_equal(missing(1, 0, 0), 4);
    assert_int_equal(missing(0, 0, 0), 0);
    assert_int_equal(example_of(store, r[0].example, 0).embedding_bytes, sizeof data);
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, store_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_numbers_and_hashes),
        EACH(test_a_refused_one_may_come_again),
        EACH(test_a_run_that_fails_leaves_no_candidate),
        EACH(test_states),
        EACH(test_what_was_live),
        EACH(test_a_borrowed_encoder),
        EACH(test_an_older_folder),
        EACH(test_installing),
        EACH(test_links_are_not_followed),
        EACH(test_removing_takes_the_heads_along),
        EACH(test_what_a_killed_process_leaves),
        EACH(test_embeddings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
