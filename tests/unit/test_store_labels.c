/* test_store_labels.c -- what becomes of labels, one act at a time: what it means for names, votes
 * and examples, what is refused, and that the refused leaves nothing behind.
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

#include "tests/unit/own_store.h"

static struct store_label_change on(const char *name)
{
    struct store_label_change c = {.model = model, .now_us = 3000};

    assert_int_equal(store_label_named(store, model, name, &c.label), 0);
    return c;
}

/* What one act may need; each test fills in what its act does. */
struct act {
    enum { RENAME, RETIRE, RESTORE, SET, MERGE, SPLIT } what;
    const char *label, *name;
    double score_min;
    const char *payload;
    const uint8_t (*examples)[STORE_ID_BYTES];
    uint32_t examples_len;
    /* what came of it */
    int64_t seq;
    const char *field;
    uint32_t bad;
};

static int run(struct act *a)
{
    struct store_label_change c = on(a->label);

    a->field = "";
    switch (a->what) {
    case RENAME:
        return store_label_rename(store, &c, a->name, &a->seq, &a->field);
    case RETIRE:
        return store_label_retire(store, &c, &a->seq, &a->field);
    case RESTORE:
        return store_label_restore(store, &c, &a->seq, &a->field);
    case SET:
        return store_label_set(store, &c, a->score_min, a->payload, &a->seq, &a->field);
    case MERGE:
        return store_label_merge(store, &c, label_of(store, model, a->name), &a->seq, &a->field);
    case SPLIT:
        return store_label_split(store, &c, label_of(store, model, a->name), a->examples,
                                 a->examples_len, &a->seq, &a->field, &a->bad);
    }
    return -ENOSYS;
}

static int64_t journal_end(void)
{
    int64_t seq = 0;

    assert_int_equal(store_seq(store, &seq), 0);
    return seq;
}

/* In a transaction of its own. */
static int64_t done(struct act a)
{
    int rc;

    assert_int_equal(store_begin(store), 0);
    rc = run(&a);
    if (rc != 0)
        fail_msg("%s at %s: %s (%s)", a.label, a.field, strerror(-rc), store_why(store));
    assert_int_equal(store_commit(store), 0);
    return a.seq;
}

/* Refused with rc at field; nothing of it is kept. */
static struct act refused(struct act a, int rc, const char *field)
{
    int64_t before = journal_end();

    assert_int_equal(store_begin(store), 0);
    assert_int_equal(run(&a), rc);
    assert_string_equal(a.field, field);
    assert_int_equal(store_rollback(store), 0);
    assert_int_equal(journal_end(), before);
    return a;
}

static struct store_receipt say(enum store_op op, const char *text, const char *name,
                                const char *annotator, double weight)
{
    struct store_feedback f = feedback_of(model, op, text, name, annotator);

    f.weight = weight;
    return taught(store, &f);
}

static struct kept_example now(const char *text)
{
    uint8_t id[STORE_ID_BYTES];

    store_example_id("m", text, strlen(text), NULL, 0, id);
    return example_of(store, id, -1);
}

static void same(const struct kept_example *k, const struct kept_example *wanted)
{
    assert_string_equal(k->text, wanted->text);
    assert_string_equal(k->status, wanted->status);
    assert_int_equal(k->target_len, wanted->target_len);
    assert_memory_equal(k->target, wanted->target, wanted->target_len * sizeof *k->target);
    assert_true(k->weight == wanted->weight);
    assert_int_equal(k->annotators, wanted->annotators);
    assert_int_equal(k->first_seq, wanted->first_seq);
    assert_int_equal(k->last_seq, wanted->last_seq);
}

static void unchanged(const char *text, const struct kept_example *before)
{
    struct kept_example k = now(text);

    same(&k, before);
}

static double share(const char *text, const char *name)
{
    struct kept_example k = now(text);
    int64_t id = label_of(store, model, name);

    for (uint32_t i = 0; i < k.target_len; i++)
        if (k.target[i].label == id)
            return k.target[i].value;
    return 0;
}

struct kept_label {
    struct store_label row;
    char payload[64];
};

static int keep_label(void *ud, const struct store_label *row)
{
    struct kept_label *k = ud;

    k->row = *row;
    snprintf(k->payload, sizeof k->payload, "%s", row->payload != NULL ? row->payload : "(none)");
    return 0;
}

static struct kept_label row_of(const char *name)
{
    struct kept_label k = {0};

    assert_int_equal(store_label_get(store, on(name).label, keep_label, &k), 0);
    return k;
}

static int add_alias(void *ud, const char *name, int64_t id)
{
    char *names = ud;

    (void)id;
    strncat(names, name, 200 - strlen(names));
    strncat(names, " ", 200 - strlen(names));
    return 0;
}

static void aliases_are(const char *name, const char *wanted)
{
    char names[256] = "";

    assert_int_equal(store_alias_of(store, label_of(store, model, name), add_alias, names), 0);
    assert_string_equal(names, wanted);
}

/* ---- names --------------------------------------------------------------------------------------
 */

static int keep_event(void *ud, const struct store_event *row)
{
    *(struct store_event *)ud = *row;
    return 0;
}

static void test_rename(void **state)
{
    struct store_event last = {0};
    struct store_receipt r;
    int64_t seq, id;

    (void)state;
    say(STORE_LABEL, "t", "lost", "ann", 1);
    say(STORE_LABEL, "u", "found", "ann", 1);
    id = label_of(store, model, "lost");
    seq = done((struct act){RENAME, .label = "lost", .name = "card lost"});
    assert_int_equal(label_of(store, model, "card lost"), id);
    assert_int_equal(label_of(store, model, "lost"), id); /* the old name still means it */
    aliases_are("card lost", "lost ");
    assert_int_equal(row_of("lost").row.seq, seq);
    assert_int_equal(store_event_get(store, model, 2, &last), 0);
    assert_string_equal(last.label, "card lost"); /* what was, by its present name */
    assert_int_equal(store_event_scan_back(store, model, 0, 1, keep_event, &last), 0);
    assert_string_equal(last.op, "label_rename");

    r = say(STORE_LABEL, "v", "lost", "ann", 1); /* an old client */
    assert_false(r.label_created);
    assert_true(share("v", "card lost") == 1.0);
    assert_int_equal(row_of("card lost").row.examples, 2);

    /* its present name changes nothing, its old one swaps the two */
    assert_int_equal(done((struct act){RENAME, .label = "lost", .name = "card lost"}), 0);
    assert_int_equal(journal_end(), r.seq);
    done((struct act){RENAME, .label = "card lost", .name = "lost"});
    aliases_are("lost", "card lost ");
    assert_string_equal(row_of("card lost").row.name, "lost");
}

static void test_names_are_distinct(void **state)
{
    int64_t id, seq;

    (void)state;
    label_added(store, model, "a");
    label_added(store, model, "b");
    label_added(store, model, "c");
    done((struct act){RENAME, .label = "b", .name = "b2"});
    done((struct act){MERGE, .label = "c", .name = "a"});
    for (int i = 0; i < 3; i++) { /* a name, an alias, the name of a merged label */
        const char *name = (const char *const[]){"a", "b", "c"}[i];
        struct act a = {RENAME, .label = i == 1 ? "a" : "b2", .name = name};

        refused(a, -EEXIST, "name");
        assert_int_equal(store_label_add(store, model, name, 1, &id, &seq), -EEXIST);
        assert_int_equal(id, label_of(store, model, name));
    }
    refused((struct act){RENAME, .label = "a", .name = "c"}, -EEXIST, "name");
    /* another model has its own names */
    assert_int_equal(store_label_find(store, model_added(store, "n"), "b", &id), -ENOENT);
}

static void test_old_names_are_bounded(void **state)
{
    char name[32];

    (void)state;
    label_added(store, model, "n0");
    for (int i = 1; i <= STORE_ALIASES_MAX; i++) {
        snprintf(name, sizeof name, "n%d", i);
        done((struct act){RENAME, .label = "n0", .name = name});
    }
    refused((struct act){RENAME, .label = "n0", .name = "one more"}, -EMLINK, "name");
    done((struct act){RENAME, .label = "n5", .name = "n7"}); /* one of its own makes room for one */
    assert_string_equal(row_of("n0").row.name, "n7");
}

/* ---- retire -------------------------------------------------------------------------------------
 */

static void test_retire_and_restore(void **state)
{
    struct kept_example before[4], k;
    static const char *const texts[] = {"only", "shared", "other", "against"};
    struct store_feedback f = feedback_of(model, STORE_LABEL, "new", "a", "ann");
    struct store_receipt r;
    const char *field = "";

    (void)state;
    say(STORE_LABEL, "only", "a", "ann", 2);
    say(STORE_LABEL, "shared", "a", "ann", 1);
    say(STORE_LABEL, "shared", "b", "bob", 3);
    say(STORE_LABEL, "other", "b", "ann", 1);
    say(STORE_REJECT, "against", "a", "ann", 1);
    for (int i = 0; i < 4; i++)
        before[i] = now(texts[i]);
    done((struct act){RETIRE, .label = "a"});
    assert_string_equal(row_of("a").row.status, "retired");
    assert_int_equal(row_of("a").row.examples, 2); /* what would come back */

    k = now("only");
    assert_string_equal(k.status, "retired");
    assert_string_equal(k.text, "only");
    assert_int_equal(k.target_len, 0);
    assert_true(share("shared", "b") == 1.0);
    assert_true(now("shared").weight == 3.0);
    unchanged("other", &before[2]);
    unchanged("against", &before[3]);

    assert_int_equal(teach(store, &f, &r, &field), -EIDRM); /* it could not count */
    assert_string_equal(field, "label");
    assert_false(now("new").found);
    refused((struct act){RETIRE, .label = "a"}, -EALREADY, "label");

    done((struct act){RESTORE, .label = "a"});
    for (int i = 0; i < 4; i++) {
        k = now(texts[i]);
        k.last_seq = before[i].last_seq;
        same(&k, &before[i]);
    }
    refused((struct act){RESTORE, .label = "a"}, -EALREADY, "label");
    taught(store, &f);
}

/* Votes go on while a label is retired. */
static void test_votes_beside_a_retired_label(void **state)
{
    (void)state;
    say(STORE_LABEL, "t", "a", "ann", 1);
    say(STORE_LABEL, "u", "a", "ann", 1);
    say(STORE_LABEL, "v", "a", "ann", 1);
    done((struct act){RETIRE, .label = "a"});
    say(STORE_LABEL, "t", "b", "ann", 1);  /* another opinion */
    say(STORE_REJECT, "u", "a", "bob", 1); /* still true */
    assert_string_equal(now("u").status, "rejected");
    done((struct act){RESTORE, .label = "a"});
    assert_true(share("t", "b") == 1.0);
    assert_string_equal(now("u").status, "rejected");
    assert_true(share("v", "a") == 1.0);
}

/* ---- merge --------------------------------------------------------------------------------------
 */

static void test_merge(void **state)
{
    int64_t seq;

    (void)state;
    say(STORE_LABEL, "t", "a", "ann", 1);
    say(STORE_LABEL, "t", "b", "bob", 2);
    say(STORE_LABEL, "t", "c", "cid", 1);
    say(STORE_LABEL, "u", "b", "ann", 1);
    say(STORE_REJECT, "u", "a", "bob", 0.25); /* an opinion against one is one against the other */
    say(STORE_LABEL, "v", "c", "ann", 1);
    done((struct act){RENAME, .label = "a", .name = "a2"});
    seq = done((struct act){MERGE, .label = "a2", .name = "b"});
    assert_true(share("t", "b") == 0.75 && share("t", "c") == 0.25);
    assert_true(now("t").weight == 4.0 / 3);
    assert_int_equal(now("t").annotators, 3);
    assert_int_equal(now("t").last_seq, seq);
    assert_int_equal(now("u").last_seq, seq);
    assert_true(now("v").last_seq < seq); /* not touched */
    assert_int_equal(label_of(store, model, "a"), label_of(store, model, "b"));
    assert_int_equal(label_of(store, model, "a2"), label_of(store, model, "b"));
    aliases_are("b", "a a2 ");
    assert_string_equal(row_of("a").row.status, "merged");
    assert_int_equal(row_of("a").row.into, label_of(store, model, "b"));
    assert_int_equal(row_of("a").row.examples, 0);

    done((struct act){MERGE, .label = "b", .name = "c"}); /* merged again: names follow */
    assert_int_equal(label_of(store, model, "a"), label_of(store, model, "c"));
    aliases_are("c", "a a2 b ");
    assert_true(share("t", "a") == 1.0);
}

/* One annotator's votes on both: the last word, with its weight. */
static void test_merge_keeps_the_last_word(void **state)
{
    (void)state;
    label_added(store, model, "a");
    say(STORE_LABEL, "for", "b", "ann", 1);
    say(STORE_REJECT, "for", "a", "bob", 0.5);
    say(STORE_REJECT, "for", "b", "bob", 0.25); /* once against ab, with 0.25 */
    say(STORE_LABEL, "changed", "b", "ann", 1);
    say(STORE_REJECT, "changed", "a", "ann", 1); /* not ab after all */
    say(STORE_REJECT, "back", "b", "ann", 1);
    say(STORE_LABEL, "back", "a", "ann", 2); /* ab after all */
    done((struct act){MERGE, .label = "a", .name = "b"});
    assert_true(share("for", "b") == 1.0);
    say(STORE_LABEL, "for", "c", "cid", 0.75); /* 1 - 0.25 against 0.75 */
    assert_true(share("for", "b") == 0.5);
    assert_string_equal(now("changed").status, "rejected");
    assert_true(share("back", "b") == 1.0 && now("back").weight == 2.0);
}

static void test_merge_is_refused(void **state)
{
    (void)state;
    label_added(store, model, "a");
    label_added(store, model, "b");
    label_added(store, model, "c");
    label_added(store, model, "d");
    refused((struct act){MERGE, .label = "a", .name = "a"}, -ELOOP, "into");
    done((struct act){RETIRE, .label = "c"});
    refused((struct act){MERGE, .label = "a", .name = "c"}, -EIDRM, "into");
    refused((struct act){MERGE, .label = "c", .name = "a"}, -EIDRM, "label");
    done((struct act){MERGE, .label = "a", .name = "b"});
    refused((struct act){MERGE, .label = "b", .name = "a"}, -ELOOP, "into"); /* a cycle */
    refused((struct act){MERGE, .label = "a", .name = "d"}, -ESTALE, "label");
    refused((struct act){RENAME, .label = "a", .name = "e"}, -ESTALE, "label");
    refused((struct act){RETIRE, .label = "a"}, -ESTALE, "label");
    refused((struct act){RESTORE, .label = "a"}, -ESTALE, "label");
    refused((struct act){SET, .label = "a", .score_min = 0.5}, -ESTALE, "label");
    refused((struct act){SPLIT, .label = "a", .name = "d"}, -ESTALE, "label");
}

/* ---- split --------------------------------------------------------------------------------------
 */

static void ids_of(const char *const *texts, uint32_t len, uint8_t (*ids)[STORE_ID_BYTES])
{
    for (uint32_t i = 0; i < len; i++)
        store_example_id("m", texts[i], strlen(texts[i]), NULL, 0, ids[i]);
}

static void test_split(void **state)
{
    static const char *const texts[] = {"t", "u"};
    uint8_t ids[2][STORE_ID_BYTES];
    struct act a = {SPLIT, .label = "a", .name = "b", .examples = ids, .examples_len = 2};

    (void)state;
    label_added(store, model, "b");
    say(STORE_LABEL, "t", "a", "ann", 1);
    say(STORE_LABEL, "t", "a", "bob", 2);
    say(STORE_REJECT, "u", "a", "ann", 1);
    say(STORE_LABEL, "u", "b", "bob", 3);
    say(STORE_LABEL, "v", "a", "ann", 1);
    ids_of(texts, 2, ids);
    done(a);
    assert_true(share("t", "b") == 1.0 && now("t").weight == 1.5);
    assert_int_equal(now("t").annotators, 2);
    assert_true(share("v", "a") == 1.0);
    assert_int_equal(row_of("a").row.examples, 1);
    assert_int_equal(row_of("b").row.examples, 2);
    assert_string_equal(row_of("a").row.status, "active");
    say(STORE_LABEL, "u", "c", "cid", 2); /* 3 - 1 against 2: the rejection has moved too */
    assert_true(share("u", "b") == 0.5);
}

static void test_split_is_refused(void **state)
{
    static const char *const texts[] = {"t", "other", "nowhere", "elsewhere"};
    uint8_t ids[4][STORE_ID_BYTES];
    struct store_feedback f;
    struct act a = {SPLIT, .label = "a", .name = "b", .examples = ids, .examples_len = 2};
    struct kept_example before;

    (void)state;
    say(STORE_LABEL, "t", "a", "ann", 1);
    say(STORE_LABEL, "other", "b", "ann", 1);
    f = feedback_of(model_added(store, "n"), STORE_LABEL, "elsewhere", "a", "ann");
    taught(store, &f);
    ids_of(texts, 3, ids);
    store_example_id("n", "elsewhere", 9, NULL, 0, ids[3]);
    before = now("t");
    assert_int_equal(refused(a, -EDOM, "examples").bad, 1);
    memcpy(ids[1], ids[2], STORE_ID_BYTES);
    assert_int_equal(refused(a, -ENOENT, "examples").bad, 1);
    memcpy(ids[1], ids[3], STORE_ID_BYTES); /* another model's */
    assert_int_equal(refused(a, -ENOENT, "examples").bad, 1);
    a.name = "a";
    refused(a, -ELOOP, "to");
    done((struct act){RETIRE, .label = "b"});
    a.name = "b";
    refused(a, -EIDRM, "to");
    unchanged("t", &before);
}

/* ---- threshold and payload ----------------------------------------------------------------------
 */

static void test_set(void **state)
{
    struct kept_label k;

    (void)state;
    label_added(store, model, "a");
    k = row_of("a");
    assert_true(k.row.score_min < 0);
    assert_string_equal(k.payload, "(none)");
    done((struct act){SET, .label = "a", .score_min = 0, .payload = "{\"a\":1}"});
    store_close(store);
    store = opened(folder, STORE_WRITER);
    k = row_of("a");
    assert_true(k.row.score_min == 0); /* nought is a threshold, no threshold is none */
    assert_string_equal(k.payload, "{\"a\":1}");
    done((struct act){SET, .label = "a", .score_min = -1});
    assert_true(row_of("a").row.score_min < 0);
    assert_string_equal(row_of("a").payload, "(none)");
}

/* A label of one model is none of another's. */
static void test_other_models(void **state)
{
    struct store_label_change c = {.label = label_added(store, model, "a")};
    const char *field;
    int64_t seq;

    (void)state;
    c.model = model_added(store, "n");
    assert_int_equal(store_label_retire(store, &c, &seq, &field), -ENOENT);
    assert_int_equal(store_label_rename(store, &c, "b", &seq, &field), -ENOENT);
    assert_int_equal(store_label_merge(store, &c, c.label, &seq, &field), -ENOENT);
    c.label = 999;
    assert_int_equal(store_label_set(store, &c, 0.5, NULL, &seq, &field), -ENOENT);
}

/* ---- the database -------------------------------------------------------------------------------
 */

static int64_t number(const char *sql)
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
    sqlite3_close(db);
    return n;
}

static void test_a_model_goes_with_all_of_it(void **state)
{
    static const char *const tables[] = {"label",       "label_alias", "label_event",
                                         "event_touch", "vote",        "event"};

    (void)state;
    say(STORE_LABEL, "t", "a", "ann", 1);
    say(STORE_LABEL, "t", "b", "bob", 1);
    done((struct act){RENAME, .label = "a", .name = "c"});
    done((struct act){MERGE, .label = "a", .name = "b"});
    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_model_remove(store, model), 0);
    assert_int_equal(store_commit(store), 0);
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        char sql[64];

        snprintf(sql, sizeof sql, "SELECT count(*) FROM %s", tables[i]);
        assert_int_equal(number(sql), 0);
    }
    assert_int_equal(store_integrity(store), 0);
}

/* What a database of the first version held, with votes whose order only the journal knows. */
static const char first_version[] =
    "CREATE TABLE meta(probes INTEGER NOT NULL); INSERT INTO meta VALUES(0);"
    "CREATE TABLE model(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,"
    " kind TEXT NOT NULL, settings TEXT NOT NULL, created_us INTEGER NOT NULL,"
    " seq INTEGER NOT NULL DEFAULT 0);"
    "CREATE TABLE label(id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " model INTEGER NOT NULL REFERENCES model(id) ON DELETE CASCADE, name TEXT NOT NULL,"
    " status TEXT NOT NULL DEFAULT 'active', into_label INTEGER REFERENCES label(id),"
    " created_us INTEGER NOT NULL, UNIQUE(model, name));"
    "CREATE TABLE event(seq INTEGER PRIMARY KEY AUTOINCREMENT,"
    " model INTEGER NOT NULL REFERENCES model(id) ON DELETE CASCADE, op TEXT NOT NULL,"
    " example BLOB, label INTEGER REFERENCES label(id) ON DELETE CASCADE, weight "
    "REAL NOT NULL,"
    " annotator TEXT NOT NULL, source TEXT NOT NULL, request_encoder INTEGER NOT NULL,"
    " request_seq INTEGER NOT NULL, created_us INTEGER NOT NULL);"
    "CREATE INDEX event_model ON event(model, seq);"
    "CREATE INDEX event_example ON event(example, seq) WHERE example IS NOT NULL;"
    "CREATE INDEX event_label ON event(label) WHERE label IS NOT NULL;"
    "CREATE TABLE idempotency(model INTEGER NOT NULL REFERENCES model(id) ON DELETE CASCADE,"
    " key TEXT NOT NULL, body_hash BLOB NOT NULL, example BLOB NOT NULL, seq INTEGER NOT NULL,"
    " PRIMARY KEY(model, key)) WITHOUT ROWID;"
    "CREATE TABLE example(number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE,"
    " model INTEGER NOT NULL REFERENCES model(id) ON DELETE CASCADE, text TEXT NOT NULL, pair TEXT,"
    " status TEXT NOT NULL, label INTEGER REFERENCES label(id) ON DELETE SET NULL,"
    " weight REAL NOT NULL, annotators INTEGER NOT NULL, first_seq INTEGER NOT NULL,"
    " last_seq INTEGER NOT NULL, created_us INTEGER NOT NULL);"
    "CREATE INDEX example_model ON example(model, first_seq);"
    "CREATE INDEX example_label ON example(model, label);"
    "CREATE INDEX example_label_only ON example(label);"
    "CREATE TABLE vote(example INTEGER NOT NULL REFERENCES example(number) ON DELETE CASCADE,"
    " annotator TEXT NOT NULL, sign INTEGER NOT NULL,"
    " label INTEGER NOT NULL REFERENCES label(id) ON DELETE CASCADE, weight REAL NOT NULL,"
    " PRIMARY KEY(example, annotator, sign, label)) WITHOUT ROWID;"
    "CREATE INDEX vote_label ON vote(label);"
    "CREATE TABLE embedding(example INTEGER NOT NULL REFERENCES example(number) ON DELETE CASCADE,"
    " encoder INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY(example, encoder));"
    "CREATE TABLE head_snapshot(model INTEGER NOT NULL REFERENCES model(id) ON DELETE CASCADE,"
    " encoder INTEGER NOT NULL, seq INTEGER NOT NULL, sha256 BLOB NOT NULL,"
    " PRIMARY KEY(model, encoder, seq)) WITHOUT ROWID;"
    "CREATE TABLE encoder_version(id INTEGER PRIMARY KEY, sha256 BLOB NOT NULL UNIQUE,"
    " state TEXT NOT NULL, created_us INTEGER NOT NULL);"
    "INSERT INTO model VALUES(1, 'm', 'single', '{}', 0, 4);"
    "INSERT INTO label VALUES(1, 1, 'a', 'active', NULL, 0), (2, 1, 'b', 'active', NULL, 0);"
    "INSERT INTO event VALUES(1, 1, 'label_add', NULL, 1, 0, '', '', -1, 0, 0),"
    " (2, 1, 'label_add', NULL, 2, 0, '', '', -1, 0, 0),"
    " (3, 1, 'label', X'000102030405060708090A0B0C0D0E0F', 2, 1, 'ann', '', -1, -1, 0),"
    " (4, 1, 'reject', X'000102030405060708090A0B0C0D0E0F', 1, 1, 'ann', '', -1, -1, 0);"
    "INSERT INTO example VALUES(1, X'000102030405060708090A0B0C0D0E0F', 1, 't', NULL, 'active', 2,"
    " 1, 1, 3, 4, 0);"
    "INSERT INTO vote VALUES(1, 'ann', 1, 2, 1), (1, 'ann', -1, 1, 1);"
    "PRAGMA user_version=1";

static void test_migration_finds_the_order_of_votes(void **state)
{
    char path[FOLDER_BYTES + 16];
    uint8_t id[STORE_ID_BYTES];
    sqlite3 *db;

    (void)state;
    store_close(store);
    store = NULL;
    snprintf(path, sizeof path, "%s/learnd.db", folder);
    assert_int_equal(remove(path), 0);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, first_version, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    store = opened(folder, STORE_WRITER);
    model = 1;
    assert_int_equal(row_of("b").row.seq, 2);
    assert_int_equal(number("SELECT seq FROM vote WHERE sign = 1"), 3);
    assert_int_equal(number("SELECT seq FROM vote WHERE sign = -1"), 4);
    done((struct act){MERGE, .label = "a", .name = "b"}); /* first b, then not a: not b */
    for (uint8_t i = 0; i < STORE_ID_BYTES; i++)
        id[i] = i;
    assert_string_equal(example_of(store, id, -1).status, "rejected");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_STORE(test_rename),
        IN_STORE(test_names_are_distinct),
        IN_STORE(test_old_names_are_bounded),
        IN_STORE(test_retire_and_restore),
        IN_STORE(test_votes_beside_a_retired_label),
        IN_STORE(test_merge),
        IN_STORE(test_merge_keeps_the_last_word),
        IN_STORE(test_merge_is_refused),
        IN_STORE(test_split),
        IN_STORE(test_split_is_refused),
        IN_STORE(test_set),
        IN_STORE(test_other_models),
        IN_STORE(test_a_model_goes_with_all_of_it),
        IN_STORE(test_migration_finds_the_order_of_votes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
