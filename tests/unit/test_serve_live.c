/* test_serve_live.c -- swaps under readers: each sees one whole snapshot, every snapshot is freed,
 * and nothing grows. */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/serve/live.h"

/* A snapshot whose every field follows from its seq, so that a torn one is seen. */
static struct snapshot *snapshot_new(int64_t model, int64_t seq)
{
    struct snapshot *s = calloc(1, sizeof *s);

    assert_non_null(s);
    atomic_init(&s->refs, 1);
    s->model = model;
    snprintf(s->model_name, sizeof s->model_name, "model%lld", (long long)model);
    s->seq = seq;
    s->score_min = (double)seq;
    s->published_us = seq * 3;
    s->labels = live_labels_new(1 + (uint32_t)(seq % 5));
    assert_non_null(s->labels);
    for (uint32_t i = 0; i < s->labels->len; i++)
        snprintf(s->labels->names[i], LIVE_NAME_BYTES, "label %lld", (long long)seq);
    return s;
}

static void check(const struct snapshot *s)
{
    char name[LIVE_NAME_BYTES];

    snprintf(name, sizeof name, "label %lld", (long long)s->seq);
    if (s->score_min != (double)s->seq || s->published_us != s->seq * 3 ||
        s->labels->len != 1 + (uint32_t)(s->seq % 5) ||
        strcmp(s->labels->names[s->labels->len - 1], name) != 0 || atomic_load(&s->refs) < 1)
        abort();
}

static void test_table(void **state)
{
    struct live *live;
    struct snapshot *a, *b, *held, *third;

    (void)state;
    assert_int_equal(live_open(2, &live), 0);
    assert_null(live_get(live, "model1"));
    assert_null(live_get_by_id(live, 1));
    a = snapshot_new(1, 10);
    assert_int_equal(live_publish(live, a), 0);
    assert_int_equal(live_publish(live, snapshot_new(2, 20)), 0);
    third = snapshot_new(3, 30);
    assert_int_equal(live_publish(live, third), -ENOSPC);
    live_put(third); /* still ours */
    held = live_get(live, "model1");
    assert_ptr_equal(held, a);
    assert_int_equal(atomic_load(&held->refs), 2);
    b = snapshot_new(1, 11);
    assert_int_equal(live_publish(live, b), 0);
    assert_int_equal(atomic_load(&held->refs), 1); /* the table let go of it; we did not */
    check(held);
    live_put(held);
    held = live_get_by_id(live, 1);
    assert_ptr_equal(held, b);
    live_put(held);
    live_put(NULL);
    assert_int_equal(live_swaps(live), 3);
    live_remove(live, 1);
    live_remove(live, 1);
    assert_null(live_get(live, "model1"));
    held = live_get(live, "model2"); /* the one that moved into its place */
    assert_int_equal(held->seq, 20);
    assert_int_equal(live_publish(live, snapshot_new(3, 31)), 0); /* there is room again */
    live_close(live);
    check(held); /* outlives the table as long as it is held */
    assert_int_equal(atomic_load(&held->refs), 1);
    live_put(held);
    live_close(NULL);
}

static void test_labels_are_shared(void **state)
{
    struct live_labels *labels = live_labels_new(0);

    (void)state;
    assert_int_equal(labels->len, 0);
    assert_ptr_equal(live_labels_get(labels), labels);
    assert_int_equal(atomic_load(&labels->refs), 2);
    live_labels_put(labels);
    assert_int_equal(atomic_load(&labels->refs), 1);
    live_labels_put(labels);
    live_labels_put(NULL);
}

enum { READERS = 3, SWAPS = 5000, MODELS = 2 };

struct reading {
    struct live *live;
    atomic_bool stop;
    atomic_ullong reads;
};

static void *read_on(void *arg)
{
    struct reading *r = arg;
    struct snapshot *kept = NULL;
    int64_t last = 0;

    while (!atomic_load(&r->stop)) {
        struct snapshot *s = live_get(r->live, "model1"), *t = live_get_by_id(r->live, 2);

        check(s);
        check(t);
        if (s->seq < last) /* a reader never sees time go back */
            abort();
        last = s->seq;
        live_put(t);
        live_put(kept);
        kept = s; /* a long request */
        check(kept);
        atomic_fetch_add(&r->reads, 1);
    }
    live_put(kept);
    return NULL;
}

static void swap_many(struct reading *r, int64_t from)
{
    for (int64_t seq = from; seq < from + SWAPS; seq++) {
        for (int64_t model = 1; model <= MODELS; model++)
            assert_int_equal(live_publish(r->live, snapshot_new(model, seq)), 0);
        if (seq % 64 == 0)
            sched_yield();
    }
}

static void test_swaps_under_readers(void **state)
{
    struct reading r = {.stop = false};
    pthread_t threads[READERS];
    struct snapshot *last;
    struct mallinfo2 before, after;

    (void)state;
    assert_int_equal(live_open(MODELS, &r.live), 0);
    swap_many(&r, 1);
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_on, &r), 0);
    while (atomic_load(&r.reads) < 100)
        sched_yield();
    before = mallinfo2();
    swap_many(&r, 1 + SWAPS);
    after = mallinfo2();
    atomic_store(&r.stop, true);
    for (int i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);
    last = live_get(r.live, "model1");
    assert_int_equal(atomic_load(&last->refs), 2); /* the table's and ours: every reader let go */
    assert_int_equal(last->seq, 2 * SWAPS);
    assert_int_equal(live_swaps(r.live), (uint64_t)2 * SWAPS * MODELS);
    live_put(last);
    live_close(r.live);
    /* Each reader holds at most two; a leak of one a swap would be megabytes. (The sanitizers'
     * malloc keeps no such books: 0.) */
    assert_true(after.uordblks < before.uordblks + 256 * 1024);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_labels_are_shared),
        cmocka_unit_test(test_swaps_under_readers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
