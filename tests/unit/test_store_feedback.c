/* test_store_feedback.c -- what corrections mean: votes, soft targets, keys, and that the fold is
 * the journal's. */
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

#include "tests/unit/own_store.h"

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

static double share(const struct kept_example *k, const char *name)
{
    int64_t id = label_of(store, model, name);

    for (uint32_t i = 0; i < k->target_len; i++)
        if (k->target[i].label == id)
            return k->target[i].value;
    return 0;
}

/* ---- one text -------------------------------------------------------------------------------- */

static void test_one_label(void **state)
{
    struct store_receipt r = say(STORE_LABEL, "where is my card", "lost", "ann", 2.0);
    struct kept_example k = now("where is my card");

    (void)state;
    assert_true(r.label_created);
    assert_false(r.duplicate);
    assert_int_equal(r.seq, 2);
    assert_true(k.found);
    assert_memory_equal(k.id, r.example, STORE_ID_BYTES);
    assert_string_equal(k.text, "where is my card");
    assert_string_equal(k.pair, "(none)");
    assert_string_equal(k.status, "active");
    assert_int_equal(k.target_len, 1);
    assert_int_equal(k.target[0].label, label_of(store, model, "lost"));
    assert_true(k.target[0].value == 1.0 && k.weight == 2.0);
    assert_int_equal(k.annotators, 1);
    assert_int_equal(k.first_seq, r.seq);
    assert_int_equal(k.last_seq, r.seq);
    assert_int_equal(k.created_us, 2000);
    assert_false(say(STORE_LABEL, "another", "lost", "ann", 1.0).label_created);
}

static void test_the_last_word_counts(void **state)
{
    struct store_receipt first = say(STORE_LABEL, "t", "a", "ann", 1.0), second;
    struct kept_example k;

    (void)state;
    second = say(STORE_LABEL, "t", "b", "ann", 3.0);
    k = now("t");
    assert_memory_equal(first.example, second.example, STORE_ID_BYTES);
    assert_int_equal(k.target_len, 1);
    assert_int_equal(k.target[0].label, label_of(store, model, "b"));
    assert_true(k.weight == 3.0);
    assert_int_equal(k.annotators, 1);
    assert_int_equal(k.first_seq, first.seq);
    assert_int_equal(k.last_seq, second.seq);
}

static void test_votes_are_shares(void **state)
{
    struct kept_example k;

    (void)state;
    say(STORE_LABEL, "t", "a", "ann", 1.0);
    say(STORE_LABEL, "t", "b", "bob", 1.0);
    say(STORE_LABEL, "t", "b", "cid", 2.0);
    k = now("t");
    assert_int_equal(k.target_len, 2);
    assert_true(k.target[0].label < k.target[1].label);
    assert_true(share(&k, "a") == 0.25 && share(&k, "b") == 0.75);
    assert_int_equal(k.annotators, 3);
    assert_true(fabs(k.weight - 4.0 / 3.0) < 1e-15);
    /* A rejection counts against, and no further than nothing. */
    say(STORE_REJECT, "t", "b", "dan", 2.0);
    k = now("t");
    assert_true(share(&k, "a") == 0.5 && share(&k, "b") == 0.5);
    say(STORE_REJECT, "t", "b", "eve", 100.0);
    k = now("t");
    assert_true(share(&k, "a") == 1.0 && share(&k, "b") == 0.0);
    assert_int_equal(k.target_len, 1);
}

/* Weights that cancel on paper cancel here, though 0.1 + 0.2 is not 0.3. */
static void test_votes_cancel(void **state)
{
    (void)state;
    say(STORE_LABEL, "t", "a", "ann", 0.1);
    say(STORE_LABEL, "t", "a", "bob", 0.2);
    say(STORE_REJECT, "t", "a", "cid", 0.3);
    assert_string_equal(now("t").status, "rejected");
    say(STORE_LABEL, "u", "a", "ann", 0.3);
    say(STORE_REJECT, "u", "a", "bob", 0.1);
    say(STORE_REJECT, "u", "a", "cid", 0.2);
    assert_string_equal(now("u").status, "rejected");
}

static void test_reject(void **state)
{
    struct kept_example k;

    (void)state;
    say(STORE_LABEL, "t", "a", "ann", 1.0);
    say(STORE_REJECT, "t", "a", "ann", 1.0); /* changes her mind */
    k = now("t");
    assert_string_equal(k.status, "rejected");
    assert_int_equal(k.target_len, 0);
    assert_int_equal(k.annotators, 0);
    assert_string_equal(k.text, "t");       /* kept: another vote may come */
    say(STORE_LABEL, "t", "a", "ann", 1.0); /* and again: the vote replaces her rejection */
    k = now("t");
    assert_string_equal(k.status, "active");
    assert_true(share(&k, "a") == 1.0);
    /* A text may be known only by what it is not. */
    say(STORE_REJECT, "u", "a", "ann", 1.0);
    assert_string_equal(now("u").status, "rejected");
    say(STORE_LABEL, "u", "b", "bob", 1.0);
    k = now("u");
    assert_true(share(&k, "b") == 1.0);
}

static void test_withdraw(void **state)
{
    struct store_feedback f;
    struct store_receipt r = say(STORE_LABEL, "t", "a", "ann", 1.0);
    const char *field = "";
    struct kept_example k;

    (void)state;
    say(STORE_LABEL, "t", "b", "bob", 1.0);
    f = feedback_of(model, STORE_WITHDRAW, NULL, NULL, "ann");
    memcpy(f.example, r.example, STORE_ID_BYTES);
    taught(store, &f);
    k = now("t");
    assert_true(share(&k, "b") == 1.0);
    assert_int_equal(k.annotators, 1);
    assert_int_equal(teach(store, &f, &r, &field), -ENOENT); /* she has none left */
    assert_string_equal(field, "annotator");
    say(STORE_REJECT, "t", "a", "cid", 1.0);
    f.annotator = ""; /* everybody's */
    taught(store, &f);
    k = now("t");
    assert_string_equal(k.status, "withdrawn");
    assert_int_equal(k.target_len, 0);
    assert_true(k.weight == 0);
    assert_int_equal(teach(store, &f, &r, &field), -ENOENT);
    memset(f.example, 7, STORE_ID_BYTES);
    assert_int_equal(teach(store, &f, &r, &field), -ENOENT);
    assert_string_equal(field, "example");
    /* A text names an example too, and a withdrawal of an unknown one makes none. */
    say(STORE_LABEL, "t", "a", "ann", 1.0);
    f = feedback_of(model, STORE_WITHDRAW, "t", NULL, "ann");
    taught(store, &f);
    assert_string_equal(now("t").status, "withdrawn");
    f = feedback_of(model, STORE_WITHDRAW, "never seen", NULL, "ann");
    assert_int_equal(teach(store, &f, &r, &field), -ENOENT);
    assert_string_equal(field, "example");
    assert_false(now("never seen").found);
}

static void test_delete_and_come_back(void **state)
{
    struct store_feedback f;
    struct store_receipt r = say(STORE_LABEL, "t", "a", "ann", 1.0), again;
    const char *field = "";
    struct kept_example k;

    (void)state;
    say(STORE_LABEL, "t", "b", "bob", 1.0);
    f = feedback_of(model, STORE_DELETE, NULL, NULL, "");
    memcpy(f.example, r.example, STORE_ID_BYTES);
    taught(store, &f);
    assert_false(now("t").found);
    assert_int_equal(teach(store, &f, &again, &field), -ENOENT);
    assert_string_equal(field, "example");
    again = say(STORE_LABEL, "t", "c", "cid", 1.0); /* as if never seen: no old vote comes back */
    k = now("t");
    assert_memory_equal(again.example, r.example, STORE_ID_BYTES);
    assert_int_equal(k.target_len, 1);
    assert_true(share(&k, "c") == 1.0);
    assert_int_equal(k.first_seq, again.seq);
}

static void test_what_is_refused(void **state)
{
    struct store_feedback f = feedback_of(model, STORE_LABEL, "t", "new", "ann");
    int64_t other = model_added(store, "other");
    struct store_receipt r;
    const char *field = "";

    (void)state;
    f.create_label = false;
    assert_int_equal(teach(store, &f, &r, &field), -ENOENT);
    assert_string_equal(field, "label");
    f.create_label = true;
    f.op = STORE_REJECT; /* what is unknown cannot be rejected, so it is not made */
    assert_int_equal(teach(store, &f, &r, &field), -ENOENT);
    assert_string_equal(field, "label");
    f.op = STORE_LABEL;
    f.model = 777;
    assert_int_equal(teach(store, &f, &r, &field), -ENOENT);
    assert_string_equal(field, "model");
    assert_false(now("t").found);
    f.model = model;
    r = taught(store, &f);
    f = feedback_of(other, STORE_WITHDRAW, NULL, NULL, ""); /* another model's example */
    memcpy(f.example, r.example, STORE_ID_BYTES);
    assert_int_equal(teach(store, &f, &r, &field), -ENOENT);
    assert_string_equal(field, "example");
}

/* ---- identity -------------------------------------------------------------------------------- */

static void test_example_ids(void **state)
{
    static const uint8_t zero[STORE_ID_BYTES];
    uint8_t a[STORE_ID_BYTES], b[STORE_ID_BYTES];
    uint8_t empty[STORE_HASH_BYTES];

    (void)state;
    store_example_id("m", "text", 4, NULL, 0, a);
    store_example_id("m", "text", 4, NULL, 0, b);
    assert_memory_equal(a, b, STORE_ID_BYTES);
    assert_memory_not_equal(a, zero, STORE_ID_BYTES);
    store_example_id("n", "text", 4, NULL, 0, b);
    assert_memory_equal(a, b, STORE_ID_BYTES / 2); /* the order of examples is the text's */
    assert_memory_not_equal(a + 8, b + 8, STORE_ID_BYTES / 2);
    store_example_id("m", "text", 4, "", 0, b); /* an empty pair is a pair */
    assert_memory_not_equal(a, b, 8);
    store_example_id("m", "te", 2, "xt", 2, a); /* where one ends and the other begins */
    store_example_id("m", "tex", 3, "t", 1, b);
    assert_memory_not_equal(a, b, 8);
    store_example_id("m", "te\0xt", 5, NULL, 0, a);
    store_example_id("m", "te\0yt", 5, NULL, 0, b); /* a NUL ends nothing */
    assert_memory_not_equal(a, b, 8);
    store_sha256("", 0, empty);
    assert_memory_equal(empty, "\xe3\xb0\xc4\x42\x98\xfc\x1c\x14", 8); /* FIPS 180-4 */
}

static void test_texts_are_bytes(void **state)
{
    struct store_feedback f = feedback_of(model, STORE_LABEL, "a\0b", "l", "ann");
    struct kept_example k;
    struct store_receipt r;

    (void)state;
    f.text_bytes = 3;
    f.pair = "p\0q";
    f.pair_bytes = 3;
    r = taught(store, &f);
    k = example_of(store, r.example, -1);
    assert_int_equal(k.text_bytes, 3);
    assert_memory_equal(k.text, "a", 2);
    assert_string_equal(k.pair, "p");
}

/* ---- idempotency ----------------------------------------------------------------------------- */

static void test_idempotency(void **state)
{
    struct store_feedback f = feedback_of(model, STORE_LABEL, "t", "a", "ann");
    int64_t other = model_added(store, "other"), before = 0, after = 0;
    struct store_receipt first, again;
    const char *field = "";

    (void)state;
    f.idempotency_key = "key-1";
    store_sha256("body", 4, f.body_hash);
    first = taught(store, &f);
    assert_true(first.label_created);
    assert_int_equal(store_seq(store, &before), 0);
    again = taught(store, &f);
    assert_true(again.duplicate);
    assert_int_equal(again.seq, first.seq);
    assert_memory_equal(again.example, first.example, STORE_ID_BYTES);
    assert_false(again.label_created);
    assert_int_equal(store_seq(store, &after), 0);
    assert_int_equal(after, before); /* nothing was written */
    store_sha256("other body", 10, f.body_hash);
    assert_int_equal(teach(store, &f, &again, &field), -EEXIST);
    assert_string_equal(field, "idempotency_key");
    f.model = other; /* another model's keys are its own */
    assert_false(taught(store, &f).duplicate);
    /* A key outlives a restart, and goes with its example: the same row teaches it again. */
    store_close(store);
    store = opened(folder, STORE_WRITER);
    f.model = model;
    store_sha256("body", 4, f.body_hash);
    assert_true(taught(store, &f).duplicate);
    f = feedback_of(model, STORE_DELETE, "t", NULL, "");
    taught(store, &f);
    f = feedback_of(model, STORE_LABEL, "t", "a", "ann");
    f.idempotency_key = "key-1";
    store_sha256("body", 4, f.body_hash);
    assert_false(taught(store, &f).duplicate);
    assert_true(now("t").found);
    /* What failed keeps no key. */
    f.idempotency_key = "key-2";
    f.create_label = false;
    f.label = "nowhere";
    assert_int_equal(teach(store, &f, &again, &field), -ENOENT);
    f.create_label = true;
    assert_false(taught(store, &f).duplicate);
}

/* ---- the fold is the journal's --------------------------------------------------------------- */

enum { TEXTS = 12, LABELS = 4, ANNOTATORS = 4, STEPS = 1200 };

/* What the journal says about one text, kept by the plainest means. */
struct history {
    bool there;
    double vote[ANNOTATORS][LABELS]; /* 0: none */
    double reject[ANNOTATORS][LABELS];
};

static uint64_t seed = 20240607;

static uint32_t dice(uint32_t sides)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % sides;
}

/* One event into the history; false: the store must refuse it. */
static bool replay(struct history *h, enum store_op op, int who, int what, double weight)
{
    bool any = false;

    switch (op) {
    case STORE_LABEL:
        h->there = true;
        for (int l = 0; l < LABELS; l++)
            h->vote[who][l] = 0;
        h->reject[who][what] = 0;
        h->vote[who][what] = weight;
        return true;
    case STORE_REJECT:
        h->there = true;
        h->vote[who][what] = 0;
        h->reject[who][what] = weight;
        return true;
    case STORE_WITHDRAW:
        for (int a = 0; a < ANNOTATORS; a++) {
            for (int l = 0; l < LABELS && (who == a || who == ANNOTATORS); l++) {
                any |= h->vote[a][l] != 0 || h->reject[a][l] != 0;
                h->vote[a][l] = h->reject[a][l] = 0;
            }
        }
        return any;
    case STORE_DELETE:
        any = h->there;
        *h = (struct history){0};
        return any;
    }
    return false;
}

static void compare(const struct history *h, const char *text, const char *const *names)
{
    struct kept_example k = now(text);
    double score[LABELS], total = 0, weights = 0;
    int votes = 0, opinions = 0, annotators = 0;

    assert_int_equal(k.found, h->there);
    if (!h->there)
        return;
    for (int l = 0; l < LABELS; l++) {
        double vote = 0, reject = 0;
        int len = 0;

        for (int a = 0; a < ANNOTATORS; a++) {
            vote += h->vote[a][l];
            reject += h->reject[a][l];
            len += h->vote[a][l] != 0;
            annotators += h->vote[a][l] != 0;
            opinions += h->vote[a][l] != 0 || h->reject[a][l] != 0;
        }
        score[l] = vote > reject ? vote - reject : 0;
        total += score[l];
        weights += score[l] > 0 ? vote : 0;
        votes += score[l] > 0 ? len : 0;
    }
    assert_string_equal(k.status, total > 0 ? "active" : opinions > 0 ? "rejected" : "withdrawn");
    assert_int_equal(k.annotators, annotators);
    for (int l = 0; l < LABELS; l++)
        assert_true(fabs(share(&k, names[l]) - (total > 0 ? score[l] / total : 0)) < 1e-12);
    assert_true(fabs(k.weight - (votes > 0 ? weights / votes : 0)) < 1e-12);
}

static void test_fold_is_the_replay_of_the_journal(void **state)
{
    static const char *const names[LABELS] = {"a", "b", "c", "d"};
    static const char *const who[ANNOTATORS + 1] = {"ann", "bob", "cid", "dan", ""};
    struct history histories[TEXTS] = {0};
    char texts[TEXTS][24];

    (void)state;
    for (int i = 0; i < TEXTS; i++)
        snprintf(texts[i], sizeof texts[i], "text %d", i);
    for (int l = 0; l < LABELS; l++)
        label_added(store, model, names[l]);
    for (int step = 0; step < STEPS; step++) {
        static const enum store_op ops[] = {STORE_LABEL,  STORE_LABEL,  STORE_LABEL,
                                            STORE_REJECT, STORE_REJECT, STORE_WITHDRAW,
                                            STORE_LABEL,  STORE_DELETE};
        uint32_t text = dice(TEXTS), what = dice(LABELS), op = dice(8);
        uint32_t by = dice(ops[op] == STORE_WITHDRAW ? ANNOTATORS + 1 : ANNOTATORS);
        struct store_feedback f = feedback_of(model, ops[op], texts[text], names[what], who[by]);
        bool wanted;
        struct store_receipt r;
        const char *field;
        int rc;

        f.weight = (1 + dice(16)) / 4.0; /* quarters: sums are exact, so that the signs are */
        rc = teach(store, &f, &r, &field);
        wanted = replay(&histories[text], f.op, (int)by, (int)what, f.weight);
        assert_int_equal(rc, wanted ? 0 : -ENOENT);
        compare(&histories[text], texts[text], names);
    }
    store_close(store);
    store = opened(folder, STORE_WRITER);
    for (int i = 0; i < TEXTS; i++)
        compare(&histories[i], texts[i], names);
    assert_int_equal(store_integrity(store), 0);
}

/* The fold does not know in which order the votes came. */
static void test_order_does_not_matter(void **state)
{
    static const struct {
        const char *annotator, *label;
        double weight;
    } votes[] = {{"ann", "a", 0.1}, {"bob", "b", 0.7}, {"cid", "a", 0.2}, {"dan", "c", 1.3}};
    struct kept_example first = {0};

    (void)state;
    for (int l = 0; l < 3; l++)
        label_added(store, model, (const char *const[]){"a", "b", "c"}[l]);
    for (int round = 0; round < 24; round++) {
        struct store_feedback forget = feedback_of(model, STORE_DELETE, "t", NULL, "");
        struct kept_example k;
        int order[4] = {0, 1, 2, 3};

        for (int i = 3, n = round; i > 0; n /= i + 1, i--) {
            int j = n % (i + 1), swap = order[i];

            order[i] = order[j];
            order[j] = swap;
        }
        for (int i = 0; i < 4; i++)
            say(STORE_LABEL, "t", votes[order[i]].label, votes[order[i]].annotator,
                votes[order[i]].weight);
        k = now("t");
        if (round == 0)
            first = k;
        assert_int_equal(k.target_len, first.target_len);
        assert_memory_equal(k.target, first.target, sizeof k.target); /* to the bit */
        assert_true(k.weight == first.weight);
        taught(store, &forget);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_STORE(test_one_label),
        IN_STORE(test_the_last_word_counts),
        IN_STORE(test_votes_are_shares),
        IN_STORE(test_votes_cancel),
        IN_STORE(test_reject),
        IN_STORE(test_withdraw),
        IN_STORE(test_delete_and_come_back),
        IN_STORE(test_what_is_refused),
        IN_STORE(test_example_ids),
        IN_STORE(test_texts_are_bytes),
        IN_STORE(test_idempotency),
        IN_STORE(test_fold_is_the_replay_of_the_journal),
        IN_STORE(test_order_does_not_matter),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
