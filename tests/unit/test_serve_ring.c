/* test_serve_ring.c -- the newest answers are found, the oldest go first, erased text leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/serve/ring.h"

static void put(struct ring *ring, int n, int64_t model, const char *text)
{
    uint16_t embedding[4] = {(uint16_t)n, 1, 2, 3};
    struct ring_entry e = {.model = model,
                           .encoder_number = 0,
                           .seq = n,
                           .score = 0.5,
                           .text = text,
                           .text_bytes = strlen(text),
                           .embedding = embedding,
                           .dim = 4};

    snprintf(e.request_id, sizeof e.request_id, "r%d", n);
    snprintf(e.label, sizeof e.label, "label%d", n);
    ring_put(ring, &e);
}

static int has(struct ring *ring, int n)
{
    char id[RING_ID_BYTES];
    struct ring_entry *e;
    int found;

    snprintf(id, sizeof id, "r%d", n);
    e = ring_get(ring, id);
    found = e != NULL;
    if (found) {
        assert_int_equal(e->seq, n);
        assert_int_equal(e->embedding[0], (uint16_t)n);
    }
    free(e);
    return found;
}

static void test_oldest_go_first(void **state)
{
    struct ring *ring;

    (void)state;
    assert_int_equal(ring_open(8, 1 << 20, &ring), 0);
    for (int n = 0; n < 1000; n++) {
        put(ring, n, 1, "some text");
        for (int back = 0; back < 12 && back <= n; back++)
            assert_int_equal(has(ring, n - back), back < 8);
    }
    ring_close(ring);
}

static void test_bytes_are_bounded(void **state)
{
    struct ring *ring;
    char text[500];

    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_int_equal(ring_open(64, 4096, &ring), 0);
    for (int n = 0; n < 50; n++)
        put(ring, n, 1, text);
    assert_true(has(ring, 49));
    assert_false(has(ring, 30)); /* 64 entries would fit, their bytes do not */
    ring_close(ring);
    assert_int_equal(ring_open(64, 100, &ring), 0);
    put(ring, 1, 1, text); /* larger than the whole ring: not kept, nothing breaks */
    assert_false(has(ring, 1));
    ring_close(ring);
}

static void test_forgetting(void **state)
{
    struct ring *ring;
    struct ring_entry *e;

    (void)state;
    assert_int_equal(ring_open(8, 1 << 20, &ring), 0);
    put(ring, 1, 1, "keep");
    put(ring, 2, 1, "erase me");
    put(ring, 3, 2, "erase me"); /* another model's */
    put(ring, 4, 1, "erase me");
    ring_forget_text(ring, 1, "erase me", 8, NULL, 0);
    assert_true(has(ring, 1));
    assert_false(has(ring, 2));
    assert_true(has(ring, 3));
    assert_false(has(ring, 4));
    ring_forget_model(ring, 2);
    assert_false(has(ring, 3));
    for (int n = 10; n < 40; n++) /* holes are passed over when the ring comes round */
        put(ring, n, 1, "more");
    assert_false(has(ring, 1));
    assert_true(has(ring, 39));
    e = ring_get(ring, "r39");
    assert_int_equal(e->text_bytes, 4);
    assert_memory_equal(e->text, "more", 4);
    assert_null(e->pair);
    assert_string_equal(e->label, "label39");
    free(e);
    assert_null(ring_get(ring, "never"));
    ring_close(ring);
}

/* Walks in steps of `step` and checks that it meets exactly `want` (len), newest first. */
static void check_walk(struct ring *ring, int64_t model, uint32_t step, const int *want, int len)
{
    struct ring_entry *entries[16];
    uint64_t before = 0;
    uint32_t got;
    int at = 0;

    while ((got = ring_walk(ring, model, &before, step, entries)) > 0) {
        assert_true(got <= step);
        for (uint32_t i = 0; i < got; i++) {
            assert_true(at < len);
            assert_int_equal(entries[i]->seq, want[at++]);
            assert_int_equal(entries[i]->embedding[0], entries[i]->seq);
            free(entries[i]);
        }
    }
    assert_int_equal(at, len);
}

static void test_walk(void **state)
{
    static const int odd[] = {39, 37, 35, 33}, rest[] = {39, 37, 35}, none[] = {0};
    struct ring_entry *entries[2];
    uint64_t before = 0;
    struct ring *ring;

    (void)state;
    assert_int_equal(ring_open(8, 1 << 20, &ring), 0);
    check_walk(ring, 1, 3, none, 0);
    for (int n = 0; n < 40; n++) /* 32 .. 39 are held */
        put(ring, n, n % 2, n == 33 ? "erase me" : "text");
    for (uint32_t step = 1; step < 6; step++)
        check_walk(ring, 1, step, odd, 4);
    check_walk(ring, 2, 3, none, 0);
    ring_forget_text(ring, 1, "erase me", 8, NULL, 0);
    check_walk(ring, 1, 2, rest, 3);
    assert_int_equal(ring_walk(ring, 1, &before, 2, entries), 2);
    assert_int_equal(entries[1]->seq, 37);
    free(entries[0]);
    free(entries[1]);
    put(ring, 41, 1, "later"); /* pushes 32 out, and is not met any more */
    assert_int_equal(ring_walk(ring, 1, &before, 2, entries), 1);
    assert_int_equal(entries[0]->seq, 35);
    free(entries[0]);
    assert_int_equal(ring_walk(ring, 1, &before, 2, entries), 0);
    ring_close(ring);
}

static void test_a_set_of_labels(void **state)
{
    static const char names[] = "card\0cash";
    uint16_t embedding[4] = {1, 2, 3, 4};
    struct ring_entry e = {.request_id = "r",
                           .model = 1,
                           .labels = names,
                           .labels_bytes = sizeof names,
                           .text = "text",
                           .text_bytes = 4,
                           .pair = "pair",
                           .pair_bytes = 4,
                           .embedding = embedding,
                           .dim = 4};
    struct ring_entry *back;
    struct ring *ring;

    (void)state;
    assert_int_equal(ring_open(8, 1 << 20, &ring), 0);
    ring_put(ring, &e);
    back = ring_get(ring, "r");
    assert_non_null(back);
    assert_true(back->labels != names);
    assert_int_equal(back->labels_bytes, sizeof names);
    assert_memory_equal(back->labels, names, sizeof names);
    assert_memory_equal(back->text, "text", 4);
    assert_memory_equal(back->pair, "pair", 4);
    free(back);
    ring_close(ring);
}

static void put_pair(struct ring *ring, int n, const char *text, const char *pair)
{
    const uint16_t embedding[4] = {(uint16_t)n, 1, 2, 3};
    struct ring_entry e = {.model = n,
                           .seq = n,
                           .text = text,
                           .text_bytes = strlen(text),
                           .pair = pair,
                           .pair_bytes = strlen(pair),
                           .embedding = embedding,
                           .dim = 4};

    snprintf(e.request_id, sizeof e.request_id, "r%d", n);
    ring_put(ring, &e);
}

static void test_forgetting_pairs(void **state)
{
    struct ring *ring;

    (void)state;
    assert_int_equal(ring_open(8, 1 << 20, &ring), 0);
    put(ring, 1, 1, "me");
    put_pair(ring, 2, "me", "you");
    put_pair(ring, 3, "you", "me");
    put_pair(ring, 4, "you", "they");
    assert_int_equal(ring_forget_text(ring, 0, "me", 2, "you", 3), 1); /* just that pair */
    assert_false(has(ring, 2));
    assert_true(has(ring, 3));
    assert_int_equal(ring_forget_text(ring, 9, "me", 2, NULL, 0), 0); /* another model */
    assert_int_equal(ring_forget_text(ring, 0, "me", 2, NULL, 0), 2); /* in either place, in all */
    assert_false(has(ring, 1));
    assert_false(has(ring, 3));
    assert_true(has(ring, 4));
    ring_close(ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oldest_go_first),  cmocka_unit_test(test_bytes_are_bounded),
        cmocka_unit_test(test_forgetting),       cmocka_unit_test(test_walk),
        cmocka_unit_test(test_forgetting_pairs), cmocka_unit_test(test_a_set_of_labels),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
