/* test_store_votes.c -- standing votes by name, contradictions and influence, against the same
 * counted by hand. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/own_store.h"

static int64_t other_model;

static int set_up(void **state)
{
    store_set_up(state);
    other_model = model_added(store, "other");
    return 0;
}

static struct store_receipt say(int64_t in, enum store_op op, const char *text, const char *label,
                                const char *annotator, double weight)
{
    struct store_feedback f = feedback_of(in, op, text, label, annotator);

    f.weight = weight;
    return taught(store, &f);
}

/* ---- standing votes -------------------------------------------------------------------------- */

static int add_standing(void *ud, const struct store_standing *row)
{
    char *text = ud;
    size_t len = strlen(text);

    snprintf(text + len, 256 - len, "%s%s:%s*%g ", row->against ? "!" : "", row->label,
             row->annotator, row->weight);
    return 0;
}

static int stop_at_once(void *ud, const struct store_standing *row)
{
    (void)row;
    return ++*(int *)ud;
}

static void test_standing_votes(void **state)
{
    uint8_t nobody[STORE_ID_BYTES] = {0};
    struct store_receipt r;
    char text[256] = "";
    int rows = 6;

    (void)state;
    say(model, STORE_LABEL, "t", "x", "a", 1);
    say(model, STORE_LABEL, "t", "y", "b", 2);
    say(model, STORE_LABEL, "t", "y", "a", 1); /* instead of x */
    say(model, STORE_LABEL, "t", "x", "", 0.5);
    say(model, STORE_REJECT, "t", "y", "c", 3);
    say(model, STORE_LABEL, "another text", "x", "a", 1);
    r = say(model, STORE_LABEL, "t", "x", "d", 1);
    assert_int_equal(store_vote_scan(store, r.example, add_standing, text), 0);
    assert_string_equal(text, "x:*0.5 x:d*1 y:a*1 y:b*2 !y:c*3 ");
    assert_int_equal(store_vote_scan(store, r.example, stop_at_once, &rows), 7);
    text[0] = '\0';
    assert_int_equal(store_vote_scan(store, nobody, add_standing, text), 0);
    assert_string_equal(text, "");
}

/* ---- contradictions -------------------------------------------------------------------------- */

struct contradictions {
    uint32_t len;
    uint8_t ids[8][STORE_ID_BYTES];
    double shares[8];
};

static int keep_contradiction(void *ud, const uint8_t example[STORE_ID_BYTES], double share_max)
{
    struct contradictions *c = ud;

    assert_true(c->len < 8);
    memcpy(c->ids[c->len], example, STORE_ID_BYTES);
    c->shares[c->len++] = share_max;
    return 0;
}

static uint32_t contradictions_len(void)
{
    struct contradictions c = {0};

    assert_int_equal(store_contradiction_scan(store, model, keep_contradiction, &c), 0);
    return c.len;
}

static void test_contradictions(void **state)
{
    struct contradictions c = {0};
    struct store_receipt r;

    (void)state;
    say(model, STORE_LABEL, "agreed", "x", "a", 1);
    say(model, STORE_LABEL, "agreed", "x", "b", 1);
    say(model, STORE_LABEL, "alone", "x", "a", 1);
    say(model, STORE_LABEL, "disputed", "x", "a", 1);
    r = say(model, STORE_LABEL, "disputed", "y", "b", 3);
    say(other_model, STORE_LABEL, "elsewhere", "x", "a", 1);
    say(other_model, STORE_LABEL, "elsewhere", "y", "b", 1);
    assert_int_equal(store_contradiction_scan(store, model, keep_contradiction, &c), 0);
    assert_int_equal(c.len, 1);
    assert_memory_equal(c.ids[0], r.example, STORE_ID_BYTES);
    assert_true(c.shares[0] == 0.75);
    say(model, STORE_REJECT, "disputed", "x", "c", 0.9); /* not enough to outweigh a */
    assert_int_equal(contradictions_len(), 1);
    say(model, STORE_REJECT, "disputed", "x", "c", 1); /* now x has nothing left */
    assert_int_equal(contradictions_len(), 0);
    say(model, STORE_LABEL, "disputed", "y", "c", 1); /* what c said against x stands */
    assert_int_equal(contradictions_len(), 0);
    say(model, STORE_LABEL, "disputed", "x", "d", 1);
    assert_int_equal(contradictions_len(), 1);
    say(model, STORE_LABEL, "disputed", "y", "d", 1); /* d gives in */
    assert_int_equal(contradictions_len(), 0);
}

/* ---- influence ------------------------------------------------------------------------------- */

static int add_influence(void *ud, const struct store_influence *row)
{
    char *text = ud, name[STORE_NAME_BYTES_MAX + 1];
    size_t len = strlen(text);

    assert_int_equal(store_label_name(store, row->label, name), 0);
    snprintf(text + len, 256 - len, "%s:%s:%.2f:%d ", name, row->annotator, row->share,
             (int)row->examples);
    return 0;
}

static void check_influence(double share_max, const char *expected)
{
    char text[256] = "";

    assert_int_equal(store_influence_scan(store, model, share_max, add_influence, text), 0);
    assert_string_equal(text, expected);
}

static void test_influence(void **state)
{
    (void)state;
    check_influence(0, "");
    say(model, STORE_LABEL, "1", "x", "a", 1);
    say(model, STORE_LABEL, "2", "x", "a", 2);
    say(model, STORE_LABEL, "3", "x", "b", 1);
    say(model, STORE_LABEL, "3", "y", "c", 1);
    say(model, STORE_REJECT, "2", "y", "a", 5); /* a vote against counts for nobody's share */
    say(other_model, STORE_LABEL, "1", "x", "b", 100);
    check_influence(0, "x:a:0.75:2 x:b:0.25:1 y:c:1.00:1 ");
    check_influence(0.5, "x:a:0.75:2 y:c:1.00:1 ");
    check_influence(0.75, "y:c:1.00:1 "); /* more than, not as much as */
    check_influence(1, "");
}

static void test_taught(void **state)
{
    struct store_receipt r = say(model, STORE_LABEL, "1", "x", "a", 1);
    uint8_t nobody[STORE_ID_BYTES] = {0};
    bool is = false;

    (void)state;
    assert_int_equal(store_example_taught(store, r.example, &is), 0);
    assert_true(is);
    assert_int_equal(store_example_taught(store, nobody, &is), 0);
    assert_false(is);
    say(model, STORE_REJECT, "1", "x", "a", 1);
    is = true;
    assert_int_equal(store_example_taught(store, r.example, &is), 0);
    assert_false(is);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_standing_votes, set_up, store_tear_down),
        cmocka_unit_test_setup_teardown(test_contradictions, set_up, store_tear_down),
        cmocka_unit_test_setup_teardown(test_influence, set_up, store_tear_down),
        cmocka_unit_test_setup_teardown(test_taught, set_up, store_tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
