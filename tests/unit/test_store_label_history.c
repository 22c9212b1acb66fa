/* test_store_label_history.c -- long random histories of corrections and label acts, held against
 * three other ways to come to the same end: a plain model of votes kept beside the store, the
 * journal replayed into an empty store, and a reader that only ever looks at what a stretch of the
 * journal touched, as the learner does. And: taught under several names that are merged is taught
 * under one name.
 */
#include <errno.h>
#include <math.h>
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

enum { TEXTS = 10, LABELS = 14, ANNOTATORS = 3, STEPS = 900, ROUNDS = 4 };

static const char *const who[ANNOTATORS + 1] = {"ann", "bob", "cid", ""};
static char other_folder[FOLDER_BYTES];
static uint64_t seed;

static uint32_t dice(uint32_t sides)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % sides;
}

static int set_up(void **state)
{
    store_set_up(state);
    folder_make(other_folder);
    return 0;
}

static int tear_down(void **state)
{
    folder_remove(other_folder);
    return store_tear_down(state);
}

static void text_of(uint32_t i, char text[16])
{
    snprintf(text, 16, "text %u", i);
}

static void id_of(uint32_t i, uint8_t id[STORE_ID_BYTES])
{
    char text[16];

    text_of(i, text);
    store_example_id("m", text, strlen(text), NULL, 0, id);
}

/* ---- the plain model ----------------------------------------------------------------------------
 */

struct opinion {
    int sign; /* 0: none */
    double weight;
    int64_t seq;
};

/* Labels by their number, which is their id - 1: this store has one model. */
struct world {
    bool there[TEXTS];
    struct opinion opinions[TEXTS][ANNOTATORS][LABELS];
    bool retired[LABELS];
    int into[LABELS]; /* -1: not merged */
    int labels_len;
};

static int final_of(const struct world *w, int label)
{
    while (w->into[label] >= 0)
        label = w->into[label];
    return label;
}

static void feed(struct world *w, enum store_op op, uint32_t text, uint32_t by, int label,
                 double weight, int64_t seq)
{
    for (uint32_t a = 0; a < ANNOTATORS; a++) {
        struct opinion *of = w->opinions[text][a];

        if (op == STORE_DELETE || (op == STORE_WITHDRAW && (by == a || by == ANNOTATORS)))
            memset(of, 0, sizeof w->opinions[text][a]);
        if (a != by || (op != STORE_LABEL && op != STORE_REJECT))
            continue;
        for (int l = 0; l < LABELS && op == STORE_LABEL; l++)
            if (of[l].sign > 0)
                of[l].sign = 0;
        of[label] = (struct opinion){op == STORE_LABEL ? 1 : -1, weight, seq};
    }
    w->there[text] = op != STORE_DELETE;
}

/* Opinions on `from` of one text become opinions on `to`. */
static void move(struct world *w, uint32_t text, int from, int to)
{
    for (int a = 0; a < ANNOTATORS; a++) {
        struct opinion *of = w->opinions[text][a];

        if (of[from].sign != 0 && (of[to].sign == 0 || of[from].seq > of[to].seq))
            of[to] = of[from];
        of[from].sign = 0;
    }
}

static bool has_opinion(const struct world *w, uint32_t text, int label)
{
    bool any = false;

    for (int a = 0; a < ANNOTATORS; a++)
        any |= w->opinions[text][a][label].sign != 0;
    return any;
}

static double share_of(const struct kept_example *k, int64_t label)
{
    for (uint32_t i = 0; i < k->target_len; i++)
        if (k->target[i].label == label)
            return k->target[i].value;
    return 0;
}

static void compare(const struct world *w, uint32_t text)
{
    double score[LABELS] = {0}, total = 0, weights = 0;
    int votes = 0, opinions = 0;
    bool retired = false;
    struct kept_example k;
    uint8_t id[STORE_ID_BYTES];

    id_of(text, id);
    k = example_of(store, id, -1);
    assert_int_equal(k.found, w->there[text]);
    if (!k.found)
        return;
    for (int l = 0; l < LABELS; l++) {
        double in_favour = 0, against = 0;
        int len = 0;

        for (int a = 0; a < ANNOTATORS; a++) {
            const struct opinion *o = &w->opinions[text][a][l];

            in_favour += o->sign > 0 ? o->weight : 0;
            against += o->sign < 0 ? o->weight : 0;
            len += o->sign > 0;
            opinions += o->sign != 0;
        }
        if (in_favour > against && w->retired[l])
            retired = true;
        else if (in_favour > against) {
            score[l] = in_favour - against;
            total += score[l];
            weights += in_favour;
            votes += len;
        }
    }
    assert_string_equal(k.status, total > 0      ? "active"
                                  : retired      ? "retired"
                                  : opinions > 0 ? "rejected"
                                                 : "withdrawn");
    for (int l = 0; l < LABELS; l++)
        assert_true(fabs(share_of(&k, l + 1) - (total > 0 ? score[l] / total : 0)) < 1e-12);
    assert_true(fabs(k.weight - (votes > 0 ? weights / votes : 0)) < 1e-12);
}

/* ---- one step -----------------------------------------------------------------------------------
 */

static void begin(void)
{
    assert_int_equal(store_begin(store), 0);
}

static void end(int rc)
{
    assert_int_equal(rc == 0 ? store_commit(store) : store_rollback(store), 0);
}

/* A correction under any name that the label has or had. */
static void correct(struct world *w)
{
    static const enum store_op ops[] = {STORE_LABEL, STORE_LABEL,    STORE_LABEL, STORE_REJECT,
                                        STORE_LABEL, STORE_WITHDRAW, STORE_REJECT};
    enum store_op op = dice(60) == 0 ? STORE_DELETE : ops[dice(7)];
    uint32_t text = dice(TEXTS), by = dice(op == STORE_WITHDRAW ? ANNOTATORS + 1 : ANNOTATORS);
    int label = (int)dice((uint32_t)w->labels_len), target = final_of(w, label);
    char name[STORE_NAME_BYTES_MAX + 1], words[16];
    struct store_feedback f;
    struct store_receipt r;
    const char *field;
    int rc;

    text_of(text, words);
    assert_int_equal(store_label_name(store, label + 1, name), 0);
    f = feedback_of(model, op, words, name, who[by]);
    f.weight = (1 + dice(16)) / 4.0;
    rc = teach(store, &f, &r, &field);
    if (op == STORE_LABEL && w->retired[target])
        assert_int_equal(rc, -EIDRM);
    if (rc == 0)
        feed(w, op, text, by, target, f.weight, r.seq);
    compare(w, text);
}

static int try_rename(const struct store_label_change *c)
{
    const char *field;
    char name[32];
    int64_t seq;

    snprintf(name, sizeof name, "name %u", dice(40));
    return store_label_rename(store, c, name, &seq, &field);
}

static int try_turn(struct world *w, const struct store_label_change *c, int label)
{
    bool retire = dice(3) == 0;
    const char *field;
    int64_t seq;
    int rc = retire ? store_label_retire(store, c, &seq, &field)
                    : store_label_restore(store, c, &seq, &field);

    assert_int_equal(rc, w->into[label] >= 0           ? -ESTALE
                         : w->retired[label] == retire ? -EALREADY
                                                       : 0);
    if (rc == 0)
        w->retired[label] = retire;
    return rc;
}

static int wanted(const struct world *w, int label, int other)
{
    return w->into[label] >= 0 ? -ESTALE
           : w->retired[label] ? -EIDRM
           : label == other    ? -ELOOP
           : w->retired[other] ? -EIDRM
                               : 0;
}

static int try_merge(struct world *w, const struct store_label_change *c, int label)
{
    int other = final_of(w, (int)dice((uint32_t)w->labels_len));
    const char *field;
    int64_t seq;
    int rc = store_label_merge(store, c, other + 1, &seq, &field);

    assert_int_equal(rc, wanted(w, label, other));
    for (uint32_t t = 0; t < TEXTS && rc == 0; t++)
        move(w, t, label, other);
    if (rc == 0)
        w->into[label] = other;
    return rc;
}

static int try_split(struct world *w, const struct store_label_change *c, int label)
{
    int other = final_of(w, (int)dice((uint32_t)w->labels_len));
    uint8_t ids[TEXTS][STORE_ID_BYTES];
    uint32_t texts[TEXTS], len = 0, bad = 0;
    const char *field;
    int64_t seq;
    int rc;

    for (uint32_t t = 0; t < TEXTS; t++) {
        if (dice(3) != 0 || !has_opinion(w, t, label))
            continue;
        texts[len] = t;
        id_of(t, ids[len++]);
    }
    rc = store_label_split(store, c, other + 1, (const uint8_t(*)[STORE_ID_BYTES])ids, len, &seq,
                           &field, &bad);
    assert_int_equal(rc, wanted(w, label, other));
    for (uint32_t i = 0; i < len && rc == 0; i++)
        move(w, texts[i], label, other);
    return rc;
}

static int try_add(struct world *w)
{
    char name[32];
    int64_t id, seq;
    int rc;

    if (w->labels_len == LABELS)
        return -ENOSPC;
    snprintf(name, sizeof name, "label %d", w->labels_len);
    rc = store_label_add(store, model, name, 1, &id, &seq);
    assert_int_equal(rc, 0);
    assert_int_equal(id, w->labels_len + 1);
    w->into[w->labels_len++] = -1;
    return rc;
}

static int try_set(const struct store_label_change *c)
{
    const char *field;
    int64_t seq;

    return store_label_set(store, c, (double)dice(4) / 4 - 0.25, dice(2) ? "{\"p\":1}" : NULL, &seq,
                           &field);
}

static void change_label(struct world *w)
{
    static const char acts[] = "rrrttttttttttmmsssssaapp"; /* how often each */
    int label = (int)dice((uint32_t)w->labels_len);
    struct store_label_change c = {.model = model, .label = label + 1, .now_us = 5000};
    int rc = 0;

    begin();
    switch (acts[dice(sizeof acts - 1)]) {
    case 'r':
        rc = try_rename(&c);
        break;
    case 't':
        rc = try_turn(w, &c, label);
        break;
    case 'm':
        rc = try_merge(w, &c, label);
        break;
    case 's':
        rc = try_split(w, &c, label);
        break;
    case 'a':
        rc = try_add(w);
        break;
    case 'p':
        rc = try_set(&c);
        break;
    }
    end(rc);
    for (uint32_t t = 0; t < TEXTS; t++)
        compare(w, t);
}

/* ---- the learner's view -------------------------------------------------------------------------
 */

/* What a reader knows that has only seen stretches. */
struct mirror {
    int64_t upto;
    struct kept_example examples[TEXTS];
};

static int reflect(void *ud, const struct store_example *row)
{
    struct mirror *m = ud;

    for (uint32_t t = 0; t < TEXTS; t++) {
        uint8_t id[STORE_ID_BYTES];

        id_of(t, id);
        if (memcmp(id, row->id, sizeof id) == 0)
            return keep_example(&m->examples[t], row);
    }
    return -ENOENT;
}

static void follow(struct mirror *m)
{
    int64_t upto = 0;

    assert_int_equal(store_seq(store, &upto), 0);
    assert_int_equal(store_example_changed(store, model, m->upto, upto, -1, reflect, m), 0);
    m->upto = upto;
    for (uint32_t t = 0; t < TEXTS; t++) {
        const struct kept_example *seen = &m->examples[t];
        struct kept_example k;
        uint8_t id[STORE_ID_BYTES];

        id_of(t, id);
        k = example_of(store, id, -1);
        assert_int_equal(k.target_len, seen->target_len); /* what a head learns of it */
        assert_memory_equal(k.target, seen->target, k.target_len * sizeof *k.target);
        assert_true(k.target_len == 0 || k.weight == seen->weight);
        assert_int_equal(k.found ? k.last_seq : 0, k.found ? seen->last_seq : 0);
    }
}

/* ---- the replay ---------------------------------------------------------------------------------
 */

static sqlite3 *both(void)
{
    char sql[2 * FOLDER_BYTES];
    sqlite3 *db;

    snprintf(sql, sizeof sql, "%s/learnd.db", folder);
    assert_int_equal(sqlite3_open(sql, &db), SQLITE_OK);
    snprintf(sql, sizeof sql, "ATTACH '%s/learnd.db' AS b", other_folder);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    return db;
}

/* Rows of one that the other has not, either way. */
static void same_rows(sqlite3 *db, const char *columns, const char *table)
{
    static const char *const names[2] = {"main", "b"};
    sqlite3_stmt *q;
    char sql[512];

    for (int way = 0; way < 2; way++) {
        snprintf(sql, sizeof sql,
                 "SELECT count(*) FROM (SELECT %s FROM %s.%s EXCEPT SELECT %s FROM %s.%s)", columns,
                 names[way], table, columns, names[1 - way], table);
        assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &q, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_step(q), SQLITE_ROW);
        if (sqlite3_column_int(q, 0) != 0)
            fail_msg("%s: %d rows", sql, sqlite3_column_int(q, 0));
        sqlite3_finalize(q);
    }
}

/* One event of a correction. Its text is not in the journal: it is found by its id. */
static int again_correct(struct store *into, sqlite3_stmt *q, enum store_op op)
{
    char name[STORE_NAME_BYTES_MAX + 1] = "", text[16] = "";
    struct store_feedback f;
    struct store_receipt r;
    const char *field;
    uint8_t id[STORE_ID_BYTES];

    if (sqlite3_column_int64(q, 3) != 0)
        assert_int_equal(store_label_name(into, sqlite3_column_int64(q, 3), name), 0);
    for (uint32_t t = 0; t < TEXTS; t++) {
        id_of(t, id);
        if (memcmp(id, sqlite3_column_blob(q, 2), sizeof id) == 0)
            text_of(t, text);
    }
    f = feedback_of(1, op, text, name, (const char *)sqlite3_column_text(q, 5));
    f.weight = sqlite3_column_double(q, 4);
    f.create_label = false;
    return store_feedback_put(into, &f, &r, &field);
}

static int again_split(struct store *into, sqlite3 *db, const struct store_label_change *c,
                       int64_t event, int64_t to)
{
    uint8_t ids[TEXTS][STORE_ID_BYTES];
    uint32_t len = 0, bad;
    const char *field;
    sqlite3_stmt *q;
    int64_t seq;

    assert_int_equal(
        sqlite3_prepare_v2(db, "SELECT example FROM event_touch WHERE seq = ?", -1, &q, NULL),
        SQLITE_OK);
    sqlite3_bind_int64(q, 1, event);
    while (sqlite3_step(q) == SQLITE_ROW)
        memcpy(ids[len++], sqlite3_column_blob(q, 0), STORE_ID_BYTES);
    sqlite3_finalize(q);
    return store_label_split(into, c, to, (const uint8_t(*)[STORE_ID_BYTES])ids, len, &seq, &field,
                             &bad);
}

static int again(struct store *into, sqlite3 *db, sqlite3_stmt *q)
{
    const char *op = (const char *)sqlite3_column_text(q, 1);
    const char *name = (const char *)sqlite3_column_text(q, 7), *field;
    struct store_label_change c = {
        .model = 1, .label = sqlite3_column_int64(q, 3), .now_us = sqlite3_column_int64(q, 10)};
    int64_t other = sqlite3_column_int64(q, 6), seq;

    if (strcmp(op, "label") == 0)
        return again_correct(into, q, STORE_LABEL);
    if (strcmp(op, "reject") == 0)
        return again_correct(into, q, STORE_REJECT);
    if (strcmp(op, "withdraw") == 0)
        return again_correct(into, q, STORE_WITHDRAW);
    if (strcmp(op, "delete") == 0)
        return again_correct(into, q, STORE_DELETE);
    if (strcmp(op, "label_add") == 0)
        return store_label_add(into, 1, name, c.now_us, &c.label, &seq);
    if (strcmp(op, "label_rename") == 0)
        return store_label_rename(into, &c, name, &seq, &field);
    if (strcmp(op, "label_retire") == 0)
        return store_label_retire(into, &c, &seq, &field);
    if (strcmp(op, "label_restore") == 0)
        return store_label_restore(into, &c, &seq, &field);
    if (strcmp(op, "label_merge") == 0)
        return store_label_merge(into, &c, other, &seq, &field);
    if (strcmp(op, "label_set") == 0)
        return store_label_set(into, &c, sqlite3_column_double(q, 8),
                               (const char *)sqlite3_column_text(q, 9), &seq, &field);
    assert_string_equal(op, "label_split");
    return again_split(into, db, &c, sqlite3_column_int64(q, 0), other);
}

static void replay(void)
{
    struct store *into = opened(other_folder, STORE_WRITER);
    sqlite3 *db = both();
    sqlite3_stmt *q;

    model_added(into, "m");
    assert_int_equal(store_begin(into), 0);
    assert_int_equal(
        sqlite3_prepare_v2(db,
                           "SELECT e.seq, e.op, e.example, e.label, e.weight, e.annotator,"
                           " ifnull(l.other, 0), l.name, ifnull(l.score_min, -1), l.payload,"
                           " e.created_us FROM main.event e LEFT JOIN main.label_event l"
                           " ON l.seq = e.seq ORDER BY e.seq",
                           -1, &q, NULL),
        SQLITE_OK);
    while (sqlite3_step(q) == SQLITE_ROW) {
        int rc = again(into, db, q);

        if (rc != 0)
            fail_msg("event %d %s: %s", sqlite3_column_int(q, 0), sqlite3_column_text(q, 1),
                     strerror(-rc));
    }
    sqlite3_finalize(q);
    assert_int_equal(store_commit(into), 0);
    same_rows(db, "seq, op, example, label", "event");
    same_rows(db, "*", "label_event");
    same_rows(db, "*", "event_touch");
    same_rows(db, "id, name, status, into_label, seq, score_min, payload", "label");
    same_rows(db, "*", "label_alias");
    same_rows(db,
              "(SELECT id FROM example e WHERE e.number = example), annotator, sign, label,"
              " weight, seq",
              "vote");
    same_rows(db, "id, status, label, weight, annotators, first_seq, last_seq", "example");
    sqlite3_close(db);
    store_close(into);
}

static int kinds_of_events(void)
{
    sqlite3 *db = both();
    sqlite3_stmt *q;
    int kinds;

    assert_int_equal(
        sqlite3_prepare_v2(db, "SELECT count(DISTINCT op) FROM main.event", -1, &q, NULL),
        SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    kinds = sqlite3_column_int(q, 0);
    sqlite3_finalize(q);
    sqlite3_close(db);
    return kinds;
}

static void test_three_ways(void **state)
{
    struct world w = {0};
    struct mirror m = {0};

    (void)state;
    seed = 20241124;
    memset(w.into, -1, sizeof w.into);
    for (int i = 0; i < 5; i++) {
        begin();
        end(try_add(&w));
    }
    for (int step = 0; step < STEPS; step++) {
        bool label = dice(6) == 0;

        if (label)
            change_label(&w);
        else
            correct(&w);
        if (dice(label ? 2 : 25) == 0) /* stretches that end on an act are where one is lost */
            follow(&m);
    }
    follow(&m);
    assert_int_equal(store_integrity(store), 0);
    assert_int_equal(kinds_of_events(), 11); /* the dice left none out */
    replay();
}

/* ---- several names or one -----------------------------------------------------------------------
 */

enum { NAMES = 6 };

static void merge(int from, int to)
{
    struct store_label_change c = {.model = model, .now_us = 5000};
    char name[16];
    int64_t into, seq;
    const char *field;

    snprintf(name, sizeof name, "l%d", from);
    assert_int_equal(store_label_named(store, model, name, &c.label), 0);
    snprintf(name, sizeof name, "l%d", to);
    assert_int_equal(store_label_find(store, model, name, &into), 0);
    begin();
    end(store_label_merge(store, &c, into, &seq, &field));
    assert_true(seq > 0);
}

/* The same lesson in both stores, in one of them under the name that the label will have at last.
 * Who labels does not reject: see store_label_merge. */
static void lesson(struct store *one, const int *final)
{
    uint32_t text = dice(TEXTS), name = dice(NAMES), kind = dice(8);
    enum store_op op = kind == 0 ? STORE_WITHDRAW : kind < 3 ? STORE_REJECT : STORE_LABEL;
    char words[16], several[16], single[16], annotator[16];
    struct store_feedback f;
    struct store_receipt r;
    const char *field;
    int rc;

    text_of(text, words);
    snprintf(several, sizeof several, "l%u", name);
    snprintf(single, sizeof single, "l%d", final[name]);
    snprintf(annotator, sizeof annotator, "%c%u", op == STORE_REJECT ? 'r' : 'a', dice(3));
    f = feedback_of(model, op, words, several, annotator);
    f.weight = (1 + dice(16)) / 4.0;
    rc = teach(store, &f, &r, &field);
    f.label = single;
    assert_int_equal(teach(one, &f, &r, &field), rc);
}

static void same_example(struct store *one, uint32_t text, const int *final)
{
    struct kept_example k, l;
    uint8_t id[STORE_ID_BYTES];

    id_of(text, id);
    k = example_of(store, id, -1);
    l = example_of(one, id, -1);
    assert_int_equal(k.found, l.found);
    if (!k.found)
        return;
    assert_string_equal(k.status, l.status);
    assert_int_equal(k.target_len, l.target_len);
    assert_int_equal(k.annotators, l.annotators);
    assert_true(fabs(k.weight - l.weight) < 1e-12);
    for (int i = 0; i < NAMES; i++) {
        char name[16];
        int64_t here, there;

        snprintf(name, sizeof name, "l%d", final[i]);
        assert_int_equal(store_label_find(store, model, name, &here), 0);
        assert_int_equal(store_label_find(one, model, name, &there), 0);
        assert_true(fabs(share_of(&k, here) - share_of(&l, there)) < 1e-12);
    }
}

static void test_merged_is_taught_under_one_name(void **state)
{
    static const int merges[3][2] = {{5, 4}, {3, 1}, {4, 1}}; /* 5, 4, 3 end in 1 */
    static const int final[NAMES] = {0, 1, 2, 1, 1, 1};

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        struct store *one;

        seed = 77 + (uint64_t)round;
        store_close(store); /* empty ones */
        folder_renew();
        folder_remove(other_folder);
        folder_make(other_folder);
        store = opened(folder, STORE_WRITER);
        model = model_added(store, "m");
        one = opened(other_folder, STORE_WRITER);
        model_added(one, "m");
        for (int i = 0; i < NAMES; i++) {
            char name[16];

            snprintf(name, sizeof name, "l%d", i);
            label_added(store, model, name);
            label_added(one, model, name);
        }
        for (int part = 0; part < 4; part++) {
            for (int i = 0; i < 40; i++)
                lesson(one, final);
            if (part < 3)
                merge(merges[part][0], merges[part][1]);
        }
        for (uint32_t t = 0; t < TEXTS; t++)
            same_example(one, t, final);
        store_close(one);
    }
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_three_ways),
        EACH(test_merged_is_taught_under_one_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
