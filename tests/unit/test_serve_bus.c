/* test_serve_bus.c -- cursors, overtaken readers, merging, ids, and many posters at once. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/serve/bus.h"
#include "tests/unit/fault_alloc.h"

enum { ALL = -1, BOOT = 0x1234 };

static struct bus *open_bus(uint32_t events, uint32_t keys)
{
    struct bus *bus = NULL;

    assert_int_equal(bus_open(BOOT, events, keys, &bus), 0);
    return bus;
}

static void post(struct bus *bus, uint32_t type, const char *model, const char *data)
{
    struct bus_post p = {.type = type, .model = model, .data = data, .data_bytes = strlen(data)};

    assert_int_equal(bus_post(bus, &p, 0), 0);
}

static void post_merged(struct bus *bus, const char *model, const char *key, const char *data,
                        int64_t now_us)
{
    struct bus_post p = {.type = 1,
                         .model = model,
                         .key = key,
                         .merge_us = 100,
                         .data = data,
                         .data_bytes = strlen(data)};

    assert_int_equal(bus_post(bus, &p, now_us), 0);
}

/* The data of every event from *cursor on at `now_us`, each with a blank behind it. */
static const char *read_all(struct bus *bus, uint32_t types, const char *model, int64_t now_us,
                            uint64_t *cursor)
{
    static char text[4096];
    struct bus_event e;
    size_t len = 0;
    int rc;

    text[0] = '\0';
    while ((rc = bus_next(bus, types, model, now_us, cursor, &e)) == 1)
        len += (size_t)snprintf(text + len, sizeof text - len, "%.*s ", (int)e.data_bytes, e.data);
    assert_int_equal(rc, 0);
    return text;
}

static void test_in_order(void **state)
{
    struct bus *bus = open_bus(8, 4);
    uint64_t cursor = bus_newest(bus), late;
    struct bus_event e;

    (void)state;
    assert_int_equal(bus_next(bus, (uint32_t)ALL, NULL, 0, &cursor, &e), 0);
    post(bus, 3, "m", "a");
    late = bus_newest(bus);
    post(bus, 0, NULL, "b");
    assert_int_equal(bus_next(bus, (uint32_t)ALL, NULL, 0, &cursor, &e), 1);
    assert_int_equal(e.n, 1);
    assert_int_equal(e.type, 3);
    assert_string_equal(e.model, "m");
    assert_int_equal(e.data_bytes, 1);
    assert_string_equal(read_all(bus, (uint32_t)ALL, NULL, 0, &cursor), "b ");
    assert_string_equal(read_all(bus, (uint32_t)ALL, NULL, 0, &cursor), "");
    assert_string_equal(read_all(bus, (uint32_t)ALL, NULL, 0, &late), "b ");
    bus_close(bus);
}

static void test_filters(void **state)
{
    struct bus *bus = open_bus(8, 4);
    uint64_t cursor = 0;

    (void)state;
    post(bus, 0, "m", "m0");
    post(bus, 31, "m", "m31");
    post(bus, 0, "n", "n0");
    post(bus, 31, NULL, "all31");
    post(bus, 1, "mm", "mm1");
    assert_string_equal(read_all(bus, 1, NULL, 0, &cursor), "m0 n0 ");
    assert_int_equal(cursor, 5); /* what did not pass is behind it too */
    cursor = 0;
    assert_string_equal(read_all(bus, (uint32_t)ALL, "m", 0, &cursor), "m0 m31 all31 ");
    cursor = 0;
    assert_string_equal(read_all(bus, 1u << 31, "n", 0, &cursor), "all31 ");
    cursor = 0;
    assert_string_equal(read_all(bus, 0, NULL, 0, &cursor), "");
    bus_close(bus);
}

static void test_overtaken(void **state)
{
    struct bus *bus = open_bus(4, 4);
    uint64_t cursor = 0, back = 0;
    struct bus_event e;
    char data[16];

    (void)state;
    for (int i = 1; i <= 4; i++) {
        snprintf(data, sizeof data, "%d", i);
        post(bus, 0, NULL, data);
    }
    assert_false(bus_overtaken(bus, 0)); /* the ring is full, and nothing is lost yet */
    assert_int_equal(bus_next(bus, (uint32_t)ALL, NULL, 0, &cursor, &e), 1);
    post(bus, 0, NULL, "5");
    assert_false(bus_overtaken(bus, cursor));
    post(bus, 0, NULL, "6");
    assert_true(bus_overtaken(bus, cursor));
    assert_int_equal(bus_next(bus, (uint32_t)ALL, NULL, 0, &cursor, &e), -ESTALE);
    assert_int_equal(cursor, 1);
    assert_int_equal(bus_next(bus, 0, NULL, 0, &back, &e), -ESTALE);
    cursor = bus_oldest(bus);
    assert_string_equal(read_all(bus, (uint32_t)ALL, NULL, 0, &cursor), "3 4 5 6 ");
    assert_int_equal(bus_counts(bus).posted, 6);
    assert_int_equal(bus_counts(bus).dropped, 2);
    bus_close(bus);
}

static void test_too_long(void **state)
{
    struct bus *bus = open_bus(4, 4);
    char data[BUS_DATA_BYTES + 1], model[400];
    struct bus_post p = {.data = data, .data_bytes = BUS_DATA_BYTES, .model = model};
    struct bus_event e;
    uint64_t cursor = 0;

    (void)state;
    memset(data, 'x', sizeof data);
    memset(model, 'm', sizeof model - 1);
    model[sizeof model - 1] = '\0';
    assert_int_equal(bus_post(bus, &p, 0), 0);
    p.data_bytes++;
    assert_int_equal(bus_post(bus, &p, 0), -EMSGSIZE);
    assert_int_equal(bus_next(bus, (uint32_t)ALL, NULL, 0, &cursor, &e), 1);
    assert_int_equal(e.data_bytes, BUS_DATA_BYTES);
    assert_int_equal(strlen(e.model), BUS_NAME_BYTES - 1);
    assert_int_equal(bus_newest(bus), 1);
    bus_close(bus);
}

static void test_merging(void **state)
{
    struct bus *bus = open_bus(16, 8);
    uint64_t cursor = 0;

    (void)state;
    assert_int_equal(bus_due(bus), -1);
    post_merged(bus, "m", "k", "m1", 1000); /* the first is not late */
    assert_int_equal(bus_due(bus), -1);
    post_merged(bus, "m", "k", "m2", 1001);
    assert_int_equal(bus_due(bus), 1100);
    post_merged(bus, "n", "k", "n1", 1010); /* other keys are free */
    post_merged(bus, "m", "l", "l1", 1010);
    post_merged(bus, "n", "k", "n2", 1020);
    post_merged(bus, "m", "k", "m3", 1050); /* the newest wins, and its time has not moved */
    assert_int_equal(bus_due(bus), 1100);
    assert_string_equal(read_all(bus, (uint32_t)ALL, NULL, 1099, &cursor), "m1 n1 l1 ");
    assert_string_equal(read_all(bus, (uint32_t)ALL, NULL, 1100, &cursor), "m3 ");
    assert_int_equal(bus_due(bus), 1110);
    post_merged(bus, "m", "k", "m4", 1105); /* and the next interval began at 1100 */
    assert_string_equal(read_all(bus, (uint32_t)ALL, NULL, 1110, &cursor), "n2 ");
    assert_int_equal(bus_due(bus), 1200);
    post(bus, 0, NULL, "other"); /* at 0: not due */
    assert_string_equal(read_all(bus, (uint32_t)ALL, NULL, 5000, &cursor), "other m4 ");
    assert_int_equal(bus_due(bus), -1);
    post_merged(bus, "m", "k", "m5", 9000); /* quiet for long: at once again */
    assert_string_equal(read_all(bus, (uint32_t)ALL, NULL, 9000, &cursor), "m5 ");
    assert_int_equal(bus_counts(bus).merged, 1);
    assert_int_equal(bus_counts(bus).posted, 8);
    bus_close(bus);
}

/* A post lets in what is due, before itself; what is due first comes first. */
static void test_due_before_newer(void **state)
{
    struct bus *bus = open_bus(16, 8);
    uint64_t cursor = 0;

    (void)state;
    post_merged(bus, "b", NULL, "b1", 10);
    post_merged(bus, "a", NULL, "a1", 20);
    post_merged(bus, "a", NULL, "a2", 30);
    post_merged(bus, "b", NULL, "b2", 40);
    post_merged(bus, "c", NULL, "c1", 1000);
    assert_string_equal(read_all(bus, (uint32_t)ALL, NULL, 1000, &cursor), "b1 a1 b2 a2 c1 ");
    bus_close(bus);
}

static void test_more_keys_than_room(void **state)
{
    struct bus *bus = open_bus(16, 2);
    uint64_t cursor = 0;

    (void)state;
    post_merged(bus, "a", NULL, "a1", 0);
    post_merged(bus, "b", NULL, "b1", 0);
    post_merged(bus, "c", NULL, "c1", 1); /* no place: not merged, not lost */
    post_merged(bus, "c", NULL, "c2", 2);
    post_merged(bus, "a", NULL, "a2", 3);
    assert_string_equal(read_all(bus, (uint32_t)ALL, NULL, 4, &cursor), "a1 b1 c1 c2 ");
    post_merged(bus, "c", NULL, "c3", 150); /* b's place is of no use any more */
    post_merged(bus, "c", NULL, "c4", 160);
    assert_string_equal(read_all(bus, (uint32_t)ALL, NULL, 160, &cursor), "a2 c3 ");
    assert_string_equal(read_all(bus, (uint32_t)ALL, NULL, 250, &cursor), "c4 ");
    bus_close(bus);
}

static void test_forgetting(void **state)
{
    struct bus *bus = open_bus(16, 8);
    uint64_t cursor = 0;

    (void)state;
    post_merged(bus, "m", NULL, "m1", 0);
    post_merged(bus, "m", NULL, "m2", 1);
    post_merged(bus, "n", NULL, "n1", 2);
    post_merged(bus, "n", NULL, "n2", 3);
    bus_forget(bus, "m");
    assert_int_equal(bus_due(bus), 102);
    assert_string_equal(read_all(bus, (uint32_t)ALL, NULL, 500, &cursor), "m1 n1 n2 ");
    bus_close(bus);
}

static void test_ids(void **state)
{
    static const char *const bad[] = {"",
                                      "x",
                                      "0000000000001234",
                                      "0000000000001234-",
                                      "0000000000001234-x",
                                      "0000000000001234-1x",
                                      "0000000000001234-01",
                                      "0000000000001234--1",
                                      "0000000000001234-+1",
                                      "0000000000001234- 1",
                                      "0000000000001234-7",
                                      "0000000000001234-9999999999999999999",
                                      "000000000000ABCD-1",
                                      "000000000001234-1",
                                      "00000000000001234-1"};
    struct bus *bus = open_bus(4, 4);
    char id[BUS_ID_BYTES];
    uint64_t cursor = 99;

    (void)state;
    for (int i = 0; i < 6; i++)
        post(bus, 0, NULL, "x");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(bus_id_parse(bus, bad[i], &cursor), -EINVAL);
    assert_int_equal(bus_id_parse(bus, "0000000000001235-3", &cursor), -ENOENT);
    assert_int_equal(bus_id_parse(bus, "0000000000001234-1", &cursor), -ESTALE);
    assert_int_equal(cursor, 99);
    for (uint64_t n = 2; n <= 6; n++) {
        bus_id_format(bus, n, id);
        assert_int_equal(bus_id_parse(bus, id, &cursor), 0);
        assert_int_equal(cursor, n);
    }
    assert_string_equal(id, "0000000000001234-6");
    bus_close(bus);
}

static void test_no_memory(void **state)
{
    struct bus *bus;
    uint64_t n = 1;

    (void)state;
    for (;; n++) {
        int rc;

        bus = NULL;
        fault_alloc_arm(n, false);
        rc = bus_open(1, 8, 8, &bus);
        if (!fault_alloc_disarm()) {
            assert_int_equal(rc, 0);
            break;
        }
        assert_int_equal(rc, -ENOMEM);
        assert_null(bus);
    }
    assert_true(n > 1);
    fault_alloc_arm(1, true); /* a post needs none */
    post(bus, 0, "m", "x");
    post_merged(bus, "m", "k", "y", 0);
    assert_false(fault_alloc_disarm());
    assert_int_equal(bus_newest(bus), 2);
    bus_close(bus);
    bus_close(NULL);
}

/* ---- threads --------------------------------------------------------------------------------- */

enum { POSTERS = 4, READERS = 3, POSTS = 4000, RING = 256 };

struct reader {
    struct bus *bus;
    pthread_mutex_t lock;
    pthread_cond_t woken;
    bool told;
    uint64_t read, missed; /* events */
    uint32_t last[POSTERS];
};

static void wake(void *ud)
{
    struct reader *r = ud;

    pthread_mutex_lock(&r->lock);
    r->told = true;
    pthread_cond_signal(&r->woken);
    pthread_mutex_unlock(&r->lock);
}

static void *run_poster(void *arg)
{
    struct bus *bus = arg;
    static atomic_uint next;
    uint32_t own = atomic_fetch_add(&next, 1) % POSTERS;
    char data[32];

    for (int i = 1; i <= POSTS; i++) {
        snprintf(data, sizeof data, "%u %d", own, i);
        post(bus, own, NULL, data);
    }
    return NULL;
}

/* Sleeps until it is woken, and must have seen or missed every event in the end: no wake is lost.
 */
static void *run_reader(void *arg)
{
    struct reader *r = arg;
    struct bus_event e;
    uint64_t cursor = 0;

    while (r->read + r->missed < (uint64_t)POSTERS * POSTS) {
        int rc;

        pthread_mutex_lock(&r->lock);
        while (!r->told)
            pthread_cond_wait(&r->woken, &r->lock);
        r->told = false;
        pthread_mutex_unlock(&r->lock);
        while ((rc = bus_next(r->bus, (uint32_t)ALL, NULL, 0, &cursor, &e)) != 0) {
            unsigned own, i;

            if (rc == -ESTALE) {
                uint64_t oldest = bus_oldest(r->bus);

                r->missed += oldest - cursor;
                cursor = oldest;
                continue;
            }
            assert_int_equal(e.n, cursor);
            assert_int_equal(sscanf(e.data, "%u %u", &own, &i), 2);
            assert_int_equal(own, e.type);
            assert_true(i > r->last[own]); /* of one poster in its order */
            r->last[own] = i;
            r->read++;
        }
    }
    return NULL;
}

static void test_many_posters(void **state)
{
    struct bus *bus = open_bus(RING, 8);
    struct reader readers[READERS];
    pthread_t threads[POSTERS + READERS];

    (void)state;
    memset(readers, 0, sizeof readers);
    for (int i = 0; i < READERS; i++) {
        readers[i].bus = bus;
        pthread_mutex_init(&readers[i].lock, NULL);
        pthread_cond_init(&readers[i].woken, NULL);
        assert_int_equal(bus_subscribe(bus, wake, &readers[i]), 0);
        assert_int_equal(pthread_create(&threads[i], NULL, run_reader, &readers[i]), 0);
    }
    for (int i = 0; i < POSTERS; i++)
        assert_int_equal(pthread_create(&threads[READERS + i], NULL, run_poster, bus), 0);
    for (int i = POSTERS + READERS; i-- > 0;)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(bus_counts(bus).posted, POSTERS * POSTS);
    for (int i = 0; i < READERS; i++) {
        assert_int_equal(readers[i].read + readers[i].missed, POSTERS * POSTS);
        for (int p = 0; p < POSTERS; p++)
            assert_true(readers[i].last[p] > 0 || readers[i].missed > 0);
        pthread_cond_destroy(&readers[i].woken);
        pthread_mutex_destroy(&readers[i].lock);
    }
    for (int i = READERS; i < BUS_WAKERS_MAX; i++)
        assert_int_equal(bus_subscribe(bus, wake, &readers[0]), 0);
    assert_int_equal(bus_subscribe(bus, wake, &readers[0]), -ENOSPC);
    bus_close(bus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_order),
        cmocka_unit_test(test_filters),
        cmocka_unit_test(test_overtaken),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_merging),
        cmocka_unit_test(test_due_before_newer),
        cmocka_unit_test(test_more_keys_than_room),
        cmocka_unit_test(test_forgetting),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_many_posters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
