/* test_store_read.c -- models and labels, lists with their filters and cursors, what a stretch of
 * the journal touched. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/own_store.h"

static struct store_receipt say(int64_t in, enum store_op op, const char *text, const char *label,
                                const char *annotator)
{
    struct store_feedback f = feedback_of(in, op, text, label, annotator);

    return taught(store, &f);
}

/* ---- models and labels ----------------------------------------------------------------------- */

struct models {
    uint32_t len;
    struct store_model rows[4];
    char settings[4][32];
};

static int keep_model(void *ud, const struct store_model *row)
{
    struct models *m = ud;

    assert_true(m->len < 4);
    snprintf(m->settings[m->len], sizeof m->settings[0], "%s", row->settings);
    m->rows[m->len++] = *row;
    return 0;
}

static struct models models(void)
{
    struct models m = {0};

    assert_int_equal(store_model_scan(store, keep_model, &m), 0);
    return m;
}

static void test_models(void **state)
{
    struct store_receipt r;
    struct models m;
    int64_t id = -1, other;

    (void)state;
    assert_int_equal(store_model_add(store, "m", "single", "{}", 5, &id), -EEXIST);
    assert_int_equal(id, -1);
    other = model_added(store, "other");
    assert_true(other > model);
    say(model, STORE_LABEL, "one", "a", "ann");
    r = say(model, STORE_LABEL, "two", "b", "ann");
    say(other, STORE_LABEL, "one", "a", "ann");
    assert_int_equal(store_model_settings(store, model, "{\"features\":64}"), 0);
    assert_int_equal(store_model_settings(store, 99, "{}"), -ENOENT);
    m = models();
    assert_int_equal(m.len, 2);
    assert_string_equal(m.rows[0].name, "m");
    assert_string_equal(m.rows[0].kind, "single");
    assert_string_equal(m.settings[0], "{\"features\":64}");
    assert_int_equal(m.rows[0].created_us, 1000);
    assert_int_equal(m.rows[0].seq, r.seq);
    assert_int_equal(m.rows[0].examples, 2);
    assert_int_equal(m.rows[0].labels, 2);
    assert_int_equal(m.rows[1].examples, 1);
    assert_int_equal(m.rows[1].labels, 1);
    assert_int_equal(store_model_remove(store, model), 0);
    assert_int_equal(store_model_remove(store, model), -ENOENT);
    assert_false(example_of(store, r.example, -1).found);
    m = models();
    assert_int_equal(m.len, 1);
    assert_int_equal(m.rows[0].examples, 1); /* the other one's are its own */
    id = model_added(store, "m");
    assert_true(id > other); /* a number is never given twice */
    m = models();
    assert_int_equal(m.rows[1].seq, 0);
    assert_int_equal(m.rows[1].examples, 0);
}

static int stop_at_first(void *ud, const struct store_model *row)
{
    ++*(int *)ud;
    return row->id > 0 ? 42 : 0;
}

static void test_a_callback_stops_the_scan(void **state)
{
    int calls = 0;

    (void)state;
    model_added(store, "other");
    assert_int_equal(store_model_scan(store, stop_at_first, &calls), 42);
    assert_int_equal(calls, 1);
    assert_int_equal(store_probe(store), 0); /* no statement was left under way */
}

struct labels {
    uint32_t len;
    struct store_label rows[8];
};

static int keep_label(void *ud, const struct store_label *row)
{
    struct labels *l = ud;

    assert_true(l->len < 8);
    l->rows[l->len++] = *row;
    return 0;
}

static void test_labels(void **state)
{
    char longest[STORE_NAME_BYTES_MAX + 1], name[STORE_NAME_BYTES_MAX + 1];
    struct labels l = {0};
    int64_t a = label_added(store, model, "a"), id = 0, seq = 0;

    (void)state;
    assert_int_equal(store_label_add(store, model, "a", 1, &id, &seq), -EEXIST);
    assert_int_equal(id, a);
    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_label_add(store, 99, "a", 1, &id, &seq), -ENOENT);
    assert_int_equal(store_rollback(store), 0);
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    label_added(store, model, longest);
    label_added(store, model, "\xc3\xa9t\xc3\xa9");
    say(model, STORE_LABEL, "t", "a", "ann");
    assert_int_equal(store_label_scan(store, model, 0, 0, keep_label, &l), 0);
    assert_int_equal(l.len, 3);
    assert_string_equal(l.rows[0].name, "a");
    assert_string_equal(l.rows[0].status, "active");
    assert_int_equal(l.rows[0].examples, 1);
    assert_int_equal(l.rows[0].created_us, 1000);
    assert_string_equal(l.rows[1].name, longest);
    assert_string_equal(l.rows[2].name, "\xc3\xa9t\xc3\xa9");
    assert_int_equal(l.rows[2].examples, 0);
    l.len = 0;
    assert_int_equal(store_label_scan(store, model, a, 1, keep_label, &l),
                     0); /* cursor and limit */
    assert_int_equal(l.len, 1);
    assert_string_equal(l.rows[0].name, longest);
    assert_int_equal(store_label_name(store, a, name), 0);
    assert_string_equal(name, "a");
    assert_int_equal(store_label_name(store, 999, name), -ENOENT);
    assert_int_equal(store_label_find(store, model, "A", &id), -ENOENT); /* names are bytes */
}

/* ---- events ---------------------------------------------------------------------------------- */

struct events {
    uint32_t len;
    struct store_event rows[16];
};

static int keep_event(void *ud, const struct store_event *row)
{
    struct events *e = ud;

    assert_true(e->len < 16);
    e->rows[e->len++] = *row;
    return 0;
}

static void test_events(void **state)
{
    static const struct {
        int64_t seq;
        const char *op, *label, *annotator;
    } wanted[] = {{1, "label_add", "a", ""},
                  {2, "label", "a", "ann"},
                  {5, "reject", "a", "bob"},
                  {6, "withdraw", "", "bob"},
                  {7, "delete", "", ""}};
    int64_t other = model_added(store, "other");
    struct store_event event;
    struct store_receipt r;
    struct events e = {0};

    (void)state;
    r = say(model, STORE_LABEL, "t", "a", "ann"); /* 1, 2 */
    say(other, STORE_LABEL, "u", "a", "zoe");     /* 3, 4 */
    say(model, STORE_REJECT, "t", "a", "bob");    /* 5 */
    say(model, STORE_WITHDRAW, "t", NULL, "bob"); /* 6 */
    say(model, STORE_DELETE, "t", NULL, "");      /* 7 */
    assert_int_equal(store_event_scan(store, model, 0, 0, keep_event, &e), 0);
    assert_int_equal(e.len, 5);
    for (uint32_t i = 0; i < e.len; i++) {
        assert_int_equal(e.rows[i].seq, wanted[i].seq);
        assert_string_equal(e.rows[i].op, wanted[i].op);
        assert_string_equal(e.rows[i].label, wanted[i].label);
        assert_string_equal(e.rows[i].annotator, wanted[i].annotator);
        assert_int_equal(e.rows[i].has_example, i > 0);
        if (i > 0) /* the journal names the example for ever, though its text is gone */
            assert_memory_equal(e.rows[i].example, r.example, STORE_ID_BYTES);
    }
    e.len = 0;
    assert_int_equal(store_event_scan(store, model, 2, 2, keep_event, &e), 0);
    assert_int_equal(e.len, 2);
    assert_int_equal(e.rows[0].seq, 5);
    e.len = 0;
    assert_int_equal(store_event_scan_back(store, model, 0, 2, keep_event, &e), 0);
    assert_int_equal(e.rows[0].seq, 7);
    assert_int_equal(e.rows[1].seq, 6);
    e.len = 0;
    assert_int_equal(store_event_scan_back(store, model, 6, 0, keep_event, &e), 0);
    assert_int_equal(e.len, 3);
    assert_int_equal(e.rows[0].seq, 5);
    assert_int_equal(store_event_get(store, model, 5, &event), 0);
    assert_string_equal(event.op, "reject");
    assert_int_equal(store_event_get(store, model, 4, &event), -ENOENT); /* the other's */
    assert_int_equal(store_event_get(store, model, 8, &event), -ENOENT);
    assert_int_equal(event.seq, 5); /* untouched on failure */
}

/* ---- examples -------------------------------------------------------------------------------- */

struct examples {
    uint32_t len;
    struct kept_example rows[16];
};

static int keep_row(void *ud, const struct store_example *row)
{
    struct examples *e = ud;

    assert_true(e->len < 16);
    return keep_example(&e->rows[e->len++], row);
}

/* The texts that a filter lets through, as one string. */
static const char *list(struct store_example_filter filter)
{
    static char text[256];
    struct examples e = {0};

    assert_int_equal(store_example_scan(store, model, &filter, -1, keep_row, &e), 0);
    text[0] = '\0';
    for (uint32_t i = 0; i < e.len; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i > 0 ? " " : "",
                 e.rows[i].text);
    return text;
}

static void test_example_filters(void **state)
{
    struct store_receipt r[5];
    int64_t other = model_added(store, "other");

    (void)state;
    r[0] = say(model, STORE_LABEL, "red", "colour", "ann");
    r[1] = say(model, STORE_LABEL, "green", "colour", "bob");
    r[2] = say(model, STORE_LABEL, "seven", "number", "ann");
    say(other, STORE_LABEL, "blue", "colour", "ann");
    r[3] = say(model, STORE_REJECT, "50%_off", "number", "bob");
    r[4] = say(model, STORE_LABEL, "x", "number", "ann");
    say(model, STORE_WITHDRAW, "x", NULL, "ann");
    assert_string_equal(list((struct store_example_filter){0}), "red green seven 50%_off x");
    assert_string_equal(list((struct store_example_filter){.label = "colour"}), "red green");
    assert_string_equal(list((struct store_example_filter){.label = "nowhere"}), "");
    assert_string_equal(list((struct store_example_filter){.annotator = "ann"}), "red seven");
    assert_string_equal(list((struct store_example_filter){.annotator = "bob"}), "green 50%_off");
    assert_string_equal(list((struct store_example_filter){.status = "active"}), "red green seven");
    assert_string_equal(list((struct store_example_filter){.status = "rejected"}), "50%_off");
    assert_string_equal(list((struct store_example_filter){.status = "withdrawn"}), "x");
    assert_string_equal(list((struct store_example_filter){.q = "e"}), "red green seven");
    assert_string_equal(list((struct store_example_filter){.q = "0%_o"}),
                        "50%_off"); /* no pattern */
    assert_string_equal(list((struct store_example_filter){.q = "%"}), "50%_off");
    assert_string_equal(list((struct store_example_filter){.q = "' OR 1"}), "");
    assert_string_equal(
        list((struct store_example_filter){.q = "e", .annotator = "ann", .label = "number"}),
        "seven");
    assert_string_equal(list((struct store_example_filter){.limit = 2}), "red green");
    assert_string_equal(list((struct store_example_filter){.limit = 2, .after = r[1].seq}),
                        "seven 50%_off");
    assert_string_equal(list((struct store_example_filter){.after = r[4].seq}), "");
    /* A later event does not move an example: a cursor passes nothing over and shows nothing twice.
     */
    say(model, STORE_LABEL, "red", "number", "ann");
    assert_string_equal(list((struct store_example_filter){.after = r[0].seq, .limit = 1}),
                        "green");
}

static void test_embeddings(void **state)
{
    static const uint16_t vector[4] = {0x3c00, 0, 0xbc00, 1}, other[4] = {1, 2, 3, 4};
    static const uint8_t nobody[STORE_ID_BYTES] = {9};
    struct store_receipt r = say(model, STORE_LABEL, "t", "a", "ann");
    struct kept_example k;

    (void)state;
    assert_int_equal(example_of(store, r.example, 0).embedding_bytes, 0);
    assert_int_equal(store_embedding_put(store, r.example, 0, vector, sizeof vector), 0);
    assert_int_equal(store_embedding_put(store, r.example, 1, other, sizeof other), 0);
    assert_int_equal(store_embedding_put(store, nobody, 0, vector, sizeof vector), 0);
    k = example_of(store, r.example, 0);
    assert_int_equal(k.embedding_bytes, sizeof vector);
    assert_memory_equal(k.embedding, vector, sizeof vector);
    assert_int_equal(example_of(store, r.example, -1).embedding_bytes, 0);
    assert_int_equal(example_of(store, r.example, 2).embedding_bytes, 0);
    assert_int_equal(store_embedding_put(store, r.example, 0, other, sizeof other), 0);
    assert_memory_equal(example_of(store, r.example, 0).embedding, other, sizeof other);
    say(model, STORE_DELETE, "t", NULL, ""); /* goes with its example */
    say(model, STORE_LABEL, "t", "a", "ann");
    assert_int_equal(example_of(store, r.example, 0).embedding_bytes, 0);
}

/* ---- what a stretch touched ------------------------------------------------------------------ */

static struct examples changed(int64_t after, int64_t upto)
{
    struct examples e = {0};

    assert_int_equal(store_example_changed(store, model, after, upto, -1, keep_row, &e), 0);
    return e;
}

static const struct kept_example *one(const struct examples *e, const uint8_t id[STORE_ID_BYTES])
{
    const struct kept_example *found = NULL;

    for (uint32_t i = 0; i < e->len; i++) {
        if (memcmp(e->rows[i].id, id, STORE_ID_BYTES) != 0)
            continue;
        assert_null(found); /* once each */
        found = &e->rows[i];
    }
    return found;
}

static void test_changed(void **state)
{
    int64_t other = model_added(store, "other"), gone;
    struct store_receipt a = say(model, STORE_LABEL, "a", "l", "ann"), b, c, again;
    const struct kept_example *k;
    struct examples e;

    (void)state;
    b = say(model, STORE_LABEL, "b", "l", "ann");
    c = say(other, STORE_LABEL, "c", "l", "ann");
    say(model, STORE_DELETE, "b", NULL, "");
    assert_int_equal(store_seq(store, &gone), 0);
    again = say(model, STORE_LABEL, "a", "m", "bob");
    assert_int_equal(changed(again.seq, INT64_MAX).len, 0);
    assert_int_equal(changed(0, 1).len, 0); /* a label alone touches no example */

    e = changed(0, INT64_MAX);
    assert_int_equal(e.len, 2);
    assert_null(one(&e, c.example)); /* another model's */
    k = one(&e, a.example);
    assert_string_equal(k->text, "a");
    assert_int_equal(k->target_len, 2);
    assert_int_equal(k->last_seq, again.seq);
    k = one(&e, b.example);
    assert_string_equal(k->status, "deleted");
    assert_string_equal(k->text, "");
    assert_int_equal(k->target_len, 0);
    assert_int_equal(k->last_seq, gone);

    /* A stretch in the past shows the example as it is now, and says by last_seq that it is ahead.
     */
    e = changed(0, a.seq);
    assert_int_equal(e.len, 1);
    assert_int_equal(one(&e, a.example)->last_seq, again.seq);
    e = changed(a.seq, b.seq);
    assert_int_equal(e.len, 1);
    assert_string_equal(one(&e, b.example)->status, "deleted");
    assert_int_equal(one(&e, b.example)->last_seq, gone);

    /* Deleted and taught again: it is there, and only what came after counts. */
    b = say(model, STORE_LABEL, "b", "m", "bob");
    e = changed(0, INT64_MAX);
    assert_string_equal(one(&e, b.example)->status, "active");
    assert_int_equal(one(&e, b.example)->target_len, 1);
    assert_int_equal(one(&e, b.example)->last_seq, b.seq);
    /* Withdrawn: there, without a target. */
    say(model, STORE_WITHDRAW, "b", NULL, "");
    e = changed(b.seq, INT64_MAX);
    assert_int_equal(e.len, 1);
    assert_string_equal(e.rows[0].status, "withdrawn");
    assert_int_equal(e.rows[0].target_len, 0);
}

static int name_it(void *ud, const struct store_example *row)
{
    char name[STORE_NAME_BYTES_MAX + 1];

    assert_int_equal(row->target_len, 1);
    assert_int_equal(store_label_name(store, row->target[0].label, name), 0);
    assert_string_equal(name, "l");
    ++*(int *)ud;
    return 0;
}

static void test_labels_can_be_named_inside_a_scan(void **state)
{
    const struct store_example_filter all = {0};
    int seen = 0;

    (void)state;
    for (int i = 0; i < 5; i++) {
        char text[24];

        snprintf(text, sizeof text, "t%d", i);
        say(model, STORE_LABEL, text, "l", "ann");
    }
    assert_int_equal(store_example_scan(store, model, &all, -1, name_it, &seen), 0);
    assert_int_equal(seen, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_STORE(test_models),          IN_STORE(test_a_callback_stops_the_scan),
        IN_STORE(test_labels),          IN_STORE(test_events),
        IN_STORE(test_example_filters), IN_STORE(test_embeddings),
        IN_STORE(test_changed),         IN_STORE(test_labels_can_be_named_inside_a_scan),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
