/* test_store_sets.c -- kind multi in the store: the fold of sets against a plain model of it over
 * random histories, the lists that count labels, and what the journal says of a set.
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

#include "tests/unit/fault_alloc.h"
#include "tests/unit/own_store.h"

enum { LABELS = 5, PEOPLE = 4, TEXTS = 3, HISTORIES = 60, STEPS = 25 };

static const char *const names[LABELS] = {"a", "b", "c", "d", "e"};
static const char *const people[PEOPLE] = {"ann", "bob", "cid", "dee"};
static const char *const texts[TEXTS] = {"t", "u", "v"};

static int set_up(void **state)
{
    folder_set_up(state);
    store = opened(folder, STORE_WRITER);
    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_model_add(store, "m", "multi", "{}", 1000, &model), 0);
    assert_int_equal(store_commit(store), 0);
    for (int i = 0; i < LABELS; i++)
        label_added(store, model, names[i]);
    return 0;
}

static int say(enum store_op op, const char *text, const char *const *labels, uint32_t len,
               const char *annotator, double weight)
{
    struct store_feedback f = feedback_of(model, op, text, NULL, annotator);
    struct store_receipt r;
    const char *field = "";

    f.labels = op == STORE_WITHDRAW ? NULL : labels;
    f.labels_len = len;
    f.weight = weight;
    return teach(store, &f, &r, &field);
}

static struct kept_example now(const char *text)
{
    uint8_t id[STORE_ID_BYTES];

    store_example_id("m", text, strlen(text), NULL, 0, id);
    return example_of(store, id, -1);
}

/* ---- a plain model of it --------------------------------------------------------------------- */

struct word {
    bool has_set;
    double weight;
    double favours[LABELS], rejects[LABELS]; /* weight, or 0 */
};

static void plain_say(struct word *w, enum store_op op, const bool *in, double weight)
{
    if (op == STORE_WITHDRAW) {
        memset(w, 0, sizeof *w);
        return;
    }
    for (int c = 0; c < LABELS; c++) {
        if (op == STORE_LABEL) {
            w->favours[c] = in[c] ? weight : 0;
            w->rejects[c] = in[c] ? 0 : w->rejects[c];
        } else if (in[c]) {
            w->favours[c] = 0;
            w->rejects[c] = weight;
        }
    }
    if (op == STORE_LABEL) {
        w->has_set = true;
        w->weight = weight;
    }
}

static void compare(const struct word *words, const char *text)
{
    struct kept_example k = now(text);
    double total = 0;
    uint32_t sets = 0, len = 0, votes = 0;

    for (int p = 0; p < PEOPLE; p++) {
        sets += words[p].has_set;
        total += words[p].has_set ? words[p].weight : 0;
        for (int c = 0; c < LABELS; c++)
            votes += words[p].favours[c] > 0 || words[p].rejects[c] > 0;
    }
    assert_string_equal(k.status, sets > 0 ? "active" : votes > 0 ? "rejected" : "withdrawn");
    for (int c = 0; c < LABELS && sets > 0; c++) {
        double score = 0;

        for (int p = 0; p < PEOPLE; p++)
            score += words[p].favours[c] - words[p].rejects[c];
        if (score <= 1e-9)
            continue;
        assert_true(len < k.target_len);
        assert_true(fabs(k.target[len++].value - fmin(1, score / total)) < 1e-12);
    }
    assert_int_equal(k.target_len, len);
    if (sets > 0) {
        assert_int_equal(k.annotators, sets);
        assert_true(fabs(k.weight - total / sets) < 1e-12);
    }
}

static uint32_t draw(uint64_t *z, uint32_t below)
{
    *z = *z * 6364136223846793005 + 1442695040888963407;
    return (uint32_t)(*z >> 33) % below;
}

static void test_histories(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= HISTORIES; seed++) {
        struct word words[TEXTS][PEOPLE] = {0};
        bool known[TEXTS] = {false};
        char text[TEXTS][32];
        uint64_t z = seed;

        for (int t = 0; t < TEXTS; t++)
            snprintf(text[t], sizeof text[t], "%s %d", texts[t], (int)seed);
        for (int i = 0; i < STEPS; i++) {
            enum store_op op = draw(&z, 6) < 4   ? STORE_LABEL
                               : draw(&z, 2) > 0 ? STORE_REJECT
                                                 : STORE_WITHDRAW;
            uint32_t t = draw(&z, TEXTS), p = draw(&z, PEOPLE), len = 0;
            double weight = 1 + draw(&z, 3);
            const char *labels[LABELS];
            bool in[LABELS];
            int rc;

            for (int c = 0; c < LABELS; c++) {
                in[c] = draw(&z, 3) == 0;
                if (in[c])
                    labels[len++] = names[c];
            }
            if (op == STORE_REJECT && len == 0)
                continue;
            rc = say(op, text[t], labels, len, people[p], weight);
            if (op == STORE_WITHDRAW) { /* refused exactly when there is nothing to take back */
                struct word nothing = {0};

                assert_int_equal(rc,
                                 memcmp(&words[t][p], &nothing, sizeof nothing) == 0 ? -ENOENT : 0);
                if (rc != 0)
                    continue;
            }
            assert_int_equal(rc, 0);
            known[t] = true;
            plain_say(&words[t][p], op, in, weight);
            compare(words[t], text[t]);
        }
        for (int t = 0; t < TEXTS; t++)
            if (known[t])
                compare(words[t], text[t]);
    }
}

/* ---- one thing at a time --------------------------------------------------------------------- */

/* One label alone, as clients of kind single send it, is a set of one. */
static void test_one_label_is_a_set(void **state)
{
    struct store_feedback f = feedback_of(model, STORE_LABEL, "t", "a", "ann");
    const char *two[] = {"b", "c"};
    struct kept_example k;

    (void)state;
    assert_int_equal(say(STORE_LABEL, "t", two, 2, "ann", 1), 0);
    taught(store, &f);
    k = now("t");
    assert_int_equal(k.target_len, 1);
    assert_true(k.target[0].value == 1);
}

static void test_weights_that_agree_make_one(void **state)
{
    const char *one[] = {"a"};
    struct kept_example k;

    (void)state;
    say(STORE_LABEL, "t", one, 1, "ann", 0.1);
    say(STORE_LABEL, "t", one, 1, "bob", 0.2);
    say(STORE_LABEL, "t", one, 1, "cid", 0.3);
    k = now("t");
    assert_true(k.target[0].value <= 1 && k.target[0].value > 1 - 1e-12);
}

static void test_what_is_refused_changes_nothing(void **state)
{
    const char *const known[] = {"a"}, *const mixed[] = {"a", "new", "b"};
    struct store_feedback f = feedback_of(model, STORE_LABEL, "t", NULL, "ann");
    int64_t label = 0;
    struct store_receipt r;
    const char *field = "";

    (void)state;
    assert_int_equal(say(STORE_LABEL, "t", known, 1, "ann", 1), 0);
    f.labels = mixed;
    f.labels_len = 3;
    f.create_label = false;
    assert_int_equal(teach(store, &f, &r, &field), -ENOENT);
    assert_string_equal(field, "labels");
    f.op = STORE_REJECT;
    f.create_label = true; /* what is unknown cannot be rejected */
    assert_int_equal(teach(store, &f, &r, &field), -ENOENT);
    assert_int_equal(store_label_find(store, model, "new", &label), -ENOENT);
    assert_int_equal(now("t").target_len, 1);
    f.op = STORE_LABEL;
    assert_true(taught(store, &f).label_created);
    assert_int_equal(now("t").target_len, 3);
}

/* Without memory at any moment of it a set is refused whole, and taken when it is sent again. */
static void test_every_allocation(void **state)
{
    const char *before[] = {"a"}, *after[] = {"c", "b", "d"};
    uint64_t n = 1;

    (void)state;
    assert_int_equal(say(STORE_LABEL, "t", before, 1, "ann", 1), 0);
    for (;; n++) {
        int rc;

        fault_alloc_arm(n, false);
        rc = say(STORE_LABEL, "t", after, 3, "ann", 1);
        if (!fault_alloc_disarm()) {
            assert_int_equal(rc, 0);
            break;
        }
        if (rc == 0) /* SQLite can do without: a cache that does not grow */
            assert_int_equal(say(STORE_LABEL, "t", before, 1, "ann", 1), 0);
        assert_int_equal(now("t").target_len, 1);
    }
    assert_true(n > 5);
    assert_int_equal(now("t").target_len, 3);
}

struct counts {
    int64_t of[LABELS];
    uint32_t len;
};

static int count_label(void *ud, const struct store_label *row)
{
    struct counts *c = ud;

    c->of[c->len++] = row->examples;
    return 0;
}

static int count_model(void *ud, const struct store_model *row)
{
    *(int64_t *)ud = row->examples;
    return 0;
}

static int count_row(void *ud, const struct store_example *row)
{
    (void)row;
    ++*(uint32_t *)ud;
    return 0;
}

static void counted(int64_t a, int64_t b, int64_t examples)
{
    struct store_example_filter filter = {.label = "b"};
    struct counts c = {.len = 0};
    int64_t of_model = 0;
    uint32_t listed = 0;

    assert_int_equal(store_label_scan(store, model, 0, 0, count_label, &c), 0);
    assert_int_equal(c.of[0], a);
    assert_int_equal(c.of[1], b);
    assert_int_equal(store_example_scan(store, model, &filter, -1, count_row, &listed), 0);
    assert_int_equal(listed, b);
    assert_int_equal(store_model_scan(store, count_model, &of_model), 0);
    assert_int_equal(of_model, examples);
}

static void test_counts(void **state)
{
    const char *both[] = {"a", "b"}, *one[] = {"b"};

    (void)state;
    say(STORE_LABEL, "t", both, 2, "ann", 1);
    say(STORE_LABEL, "u", one, 1, "ann", 1);
    counted(1, 2, 2);
    say(STORE_LABEL, "v", both, 0, "ann", 1); /* of none */
    counted(1, 2, 3);
    say(STORE_REJECT, "t", one, 1, "bob", 1);
    counted(1, 1, 3);
    say(STORE_WITHDRAW, "t", NULL, 0, "", 1);
    counted(0, 1, 2);
}

/* The journal alone says what was said: one label by the event, several or none beside it. */
static void test_the_journal_names_the_set(void **state)
{
    const char *both[] = {"d", "b"};
    char path[FOLDER_BYTES + 16];
    sqlite3 *db = NULL;
    sqlite3_stmt *q = NULL;

    (void)state;
    say(STORE_LABEL, "t", both, 2, "ann", 1);
    snprintf(path, sizeof path, "%s/learnd.db", folder);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_prepare_v2(db,
                           "SELECT group_concat(l.name), (SELECT label FROM event e WHERE"
                           " e.seq = s.seq) FROM event_set s JOIN label l ON l.id = s.label"
                           " WHERE s.seq = (SELECT max(seq) FROM event)",
                           -1, &q, NULL),
        SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    assert_string_equal((const char *)sqlite3_column_text(q, 0), "b,d");
    assert_int_equal(sqlite3_column_type(q, 1), SQLITE_NULL);
    sqlite3_finalize(q);
    sqlite3_close(db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_histories, set_up, store_tear_down),
        cmocka_unit_test_setup_teardown(test_one_label_is_a_set, set_up, store_tear_down),
        cmocka_unit_test_setup_teardown(test_weights_that_agree_make_one, set_up, store_tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_refused_changes_nothing, set_up,
                                        store_tear_down),
        cmocka_unit_test_setup_teardown(test_every_allocation, set_up, store_tear_down),
        cmocka_unit_test_setup_teardown(test_counts, set_up, store_tear_down),
        cmocka_unit_test_setup_teardown(test_the_journal_names_the_set, set_up, store_tear_down),
    };

    fault_alloc_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
