/* test_serve_batcher.c -- who gets what in which batch: order, budgets, classes, deadlines,
 * cancelling, stopping. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/serve/batcher.h"

static const struct batcher_limits limits = {.items_max = 100,
                                             .batch_tokens_max = 64,
                                             .batch_items_max = 8,
                                             .share_tokens_min = 16,
                                             .learning_tokens = 20,
                                             .team_tokens_min = 4};

enum { ITEMS_MAX = 256 };

struct job {
    struct work work; /* first */
    struct work_item items[16];
    atomic_uint dones;
    sem_t *ready; /* NULL: nobody waits */
};

static void job_done(struct work *work)
{
    struct job *j = (struct job *)work;

    assert_int_equal(atomic_load(&work->left), 0);
    atomic_fetch_add(&j->dones, 1);
    if (j->ready != NULL)
        sem_post(j->ready);
}

static void job_init(struct job *j, uint32_t items, uint32_t tokens, enum work_class class)
{
    memset(j, 0, sizeof *j);
    j->work.items = j->items;
    j->work.items_len = items;
    j->work.class = class;
    j->work.done = job_done;
    for (uint32_t i = 0; i < items; i++)
        j->items[i].len = tokens;
}

static struct batcher *batcher_new(uint32_t lanes)
{
    struct batcher *b;

    assert_int_equal(batcher_open(&limits, lanes, &b), 0);
    return b;
}

/* A batch, and that it is the first `len` items of these jobs, in order. */
static void takes(struct batcher *b, struct job *j, uint32_t from, uint32_t len)
{
    struct work_item *items[ITEMS_MAX];
    uint32_t threads = 99;

    assert_int_equal(batcher_take(b, items, &threads), len);
    for (uint32_t i = 0; i < len; i++) {
        assert_ptr_equal(items[i], &j->items[from + i]);
        batcher_finish(items[i], 0);
    }
}

/* ---- batches --------------------------------------------------------------------------------- */

/* What comes as a vector is of no encoder and travels with any. */
static void test_a_batch_is_of_one_encoder(void **state)
{
    static struct held_encoder first, second;
    struct batcher *b = batcher_new(1);
    struct job jobs[4];
    struct held_encoder *of[4] = {&first, &first, &second, &first};
    struct work_item *items[ITEMS_MAX];
    uint32_t threads;

    (void)state;
    for (int i = 0; i < 4; i++) {
        job_init(&jobs[i], 2, 3, WORK_TRAFFIC);
        jobs[i].work.encoder = of[i];
        jobs[i].items[1].len = i == 1 ? 0 : 3;
        assert_int_equal(batcher_submit(b, &jobs[i].work), 0);
    }
    assert_int_equal(batcher_take(b, items, &threads), 4);
    assert_ptr_equal(items[3], &jobs[1].items[1]);
    for (int i = 0; i < 4; i++)
        batcher_finish(items[i], 0);
    takes(b, &jobs[2], 0, 2);
    takes(b, &jobs[3], 0, 2);
    batcher_close(b);
}

static void test_first_come_first_served(void **state)
{
    struct batcher *b = batcher_new(1);
    struct job jobs[3];
    struct work_item *items[ITEMS_MAX];
    uint32_t threads = 0;

    (void)state;
    for (int i = 0; i < 3; i++) {
        job_init(&jobs[i], 2, 5, WORK_TRAFFIC);
        assert_int_equal(batcher_submit(b, &jobs[i].work), 0);
    }
    assert_int_equal(batcher_waiting(b), 6);
    assert_int_equal(batcher_take(b, items, &threads), 6); /* all clients travel together */
    assert_int_equal(threads, 1);
    assert_int_equal(batcher_waiting(b), 0);
    for (int i = 0; i < 6; i++) {
        assert_ptr_equal(items[i], &jobs[i / 2].items[i % 2]);
        assert_true(jobs[i / 2].work.submitted_us <= atomic_load(&jobs[i / 2].work.taken_us));
        assert_int_equal(atomic_load(&jobs[i / 2].dones), 0);
    }
    batcher_finish(items[0], 0);
    assert_int_equal(atomic_load(&jobs[0].dones), 0);
    batcher_finish(items[1], -EDOM);
    assert_int_equal(atomic_load(&jobs[0].dones), 1);
    assert_int_equal(atomic_load(&jobs[0].work.error), -EDOM);
    batcher_finish(items[3], -EIO); /* the first failure is the one told */
    batcher_finish(items[2], -EDOM);
    assert_int_equal(atomic_load(&jobs[1].work.error), -EIO);
    batcher_finish(items[4], 0);
    batcher_finish(items[5], 0);
    assert_int_equal(atomic_load(&jobs[2].dones), 1);
    assert_int_equal(atomic_load(&jobs[2].work.error), 0);
    batcher_close(b);
    batcher_close(NULL);
}

static void test_budgets(void **state)
{
    struct batcher *b = batcher_new(1);
    struct job j;

    (void)state;
    job_init(&j, 16, 4, WORK_TRAFFIC);
    assert_int_equal(batcher_submit(b, &j.work), 0);
    takes(b, &j, 0, 8); /* batch_items_max */
    takes(b, &j, 8, 8);
    assert_int_equal(atomic_load(&j.dones), 1);
    job_init(&j, 6, 30, WORK_TRAFFIC);
    assert_int_equal(batcher_submit(b, &j.work), 0);
    takes(b, &j, 0, 2); /* a third would pass batch_tokens_max */
    takes(b, &j, 2, 2);
    takes(b, &j, 4, 2);
    job_init(&j, 3, 64, WORK_TRAFFIC); /* each as large as a batch may be */
    assert_int_equal(batcher_submit(b, &j.work), 0);
    for (uint32_t i = 0; i < 3; i++)
        takes(b, &j, i, 1);
    assert_int_equal(atomic_load(&j.dones), 1);
    batcher_close(b);
}

static void test_a_full_queue_takes_all_or_none(void **state)
{
    struct batcher *b = batcher_new(1);
    struct job jobs[8], learning;

    (void)state;
    for (int i = 0; i < 6; i++) {
        job_init(&jobs[i], 16, 1, WORK_TRAFFIC);
        assert_int_equal(batcher_submit(b, &jobs[i].work), 0);
    }
    job_init(&jobs[6], 5, 1, WORK_TRAFFIC);
    assert_int_equal(batcher_submit(b, &jobs[6].work), -EAGAIN); /* 96 + 5 > 100 */
    assert_int_equal(batcher_waiting(b), 96);
    job_init(&jobs[6], 4, 1, WORK_TRAFFIC);
    assert_int_equal(batcher_submit(b, &jobs[6].work), 0);
    job_init(&jobs[7], 1, 1, WORK_TRAFFIC);
    assert_int_equal(batcher_submit(b, &jobs[7].work), -EAGAIN);
    job_init(&learning, 16, 1,
             WORK_LEARNING); /* the learner waits for itself: its queue has one work */
    assert_int_equal(batcher_submit(b, &learning.work), 0);
    takes(b, &jobs[0], 0, 8);
    assert_int_equal(batcher_submit(b, &jobs[7].work), 0); /* there is room again */
    for (int i = 0; i < 7; i++)
        assert_true(batcher_cancel(b, &jobs[i].work));
    assert_true(batcher_cancel(b, &learning.work));
    takes(b, &jobs[7], 0, 1);
    batcher_close(b);
}

/* Traffic goes first, however long the learner has waited; the learner's batches are small, and
 * smaller behind traffic. */
static void test_learning_yields(void **state)
{
    struct batcher *b = batcher_new(1);
    struct job learning, traffic;

    (void)state;
    job_init(&learning, 10, 8, WORK_LEARNING);
    job_init(&traffic, 12, 8, WORK_TRAFFIC);
    assert_int_equal(batcher_submit(b, &learning.work), 0);
    assert_int_equal(batcher_submit(b, &traffic.work), 0);
    takes(b, &traffic, 0, 8);
    takes(b, &traffic, 8, 4);  /* not filled up with learning */
    takes(b, &learning, 0, 2); /* 16 tokens, the least share */
    job_init(&traffic, 1, 8, WORK_TRAFFIC);
    assert_int_equal(batcher_submit(b, &traffic.work), 0);
    takes(b, &traffic, 0, 1);
    takes(b, &learning, 2, 2); /* anew */
    takes(b, &learning, 4, 3); /* 24 tokens pass learning_tokens */
    takes(b, &learning, 7, 3);
    assert_int_equal(atomic_load(&learning.dones), 1);
    batcher_close(b);
}

/* ---- deadlines, cancelling, stopping --------------------------------------------------------- */

static void test_deadlines(void **state)
{
    struct batcher *b = batcher_new(1);
    struct job late, other, good;

    (void)state;
    job_init(&late, 3, 4, WORK_TRAFFIC);
    job_init(&other, 1, 4, WORK_LEARNING);
    job_init(&good, 1, 4, WORK_TRAFFIC);
    late.work.deadline_us = 1; /* long ago */
    other.work.deadline_us = 1;
    good.work.deadline_us = INT64_MAX;
    assert_int_equal(batcher_submit(b, &late.work), 0);
    assert_int_equal(batcher_submit(b, &other.work), 0);
    assert_int_equal(batcher_submit(b, &good.work), 0);
    takes(b, &good, 0, 1);
    assert_int_equal(atomic_load(&late.dones), 1);
    assert_int_equal(atomic_load(&late.work.error), -ETIME);
    /* With nothing but what is late, a lane fails it and waits on: here until the shutdown. */
    batcher_shutdown(b);
    takes(b, &good, 0, 0);
    assert_int_equal(atomic_load(&other.dones), 1);
    assert_int_equal(atomic_load(&other.work.error), -ETIME);
    batcher_close(b);
}

static void test_cancel(void **state)
{
    struct batcher *b = batcher_new(1);
    struct job a, c, d;
    struct work_item *items[ITEMS_MAX];
    uint32_t threads;

    (void)state;
    job_init(&a, 2, 20, WORK_TRAFFIC);
    job_init(&c, 2, 20, WORK_TRAFFIC);
    job_init(&d, 1, 20, WORK_TRAFFIC);
    assert_int_equal(batcher_submit(b, &a.work), 0);
    assert_int_equal(batcher_submit(b, &c.work), 0);
    assert_true(batcher_cancel(b, &c.work)); /* the whole of it, at the queue's end */
    assert_int_equal(atomic_load(&c.dones), 0);
    assert_int_equal(batcher_waiting(b), 2);
    job_init(&c, 2, 20, WORK_TRAFFIC);
    assert_int_equal(batcher_submit(b, &c.work), 0);
    assert_int_equal(batcher_take(b, items, &threads), 3); /* 60 tokens: both of a, one of c */
    assert_int_equal(batcher_submit(b, &d.work), 0);
    assert_false(batcher_cancel(b, &c.work)); /* a lane has one: done() follows */
    assert_int_equal(atomic_load(&c.dones), 0);
    batcher_finish(items[2], 0);
    assert_int_equal(atomic_load(&c.dones), 1);
    assert_false(batcher_cancel(b, &a.work)); /* lanes have all of it */
    batcher_finish(items[0], 0);
    batcher_finish(items[1], 0);
    assert_int_equal(atomic_load(&a.dones), 1);
    takes(b, &d, 0, 1); /* the queue is whole */
    batcher_close(b);
}

static void test_shutdown(void **state)
{
    struct batcher *b = batcher_new(1);
    struct job j, k;

    (void)state;
    job_init(&j, 9, 1, WORK_TRAFFIC);
    job_init(&k, 1, 1, WORK_LEARNING);
    assert_int_equal(batcher_submit(b, &j.work), 0);
    assert_int_equal(batcher_submit(b, &k.work), 0);
    batcher_shutdown(b);
    takes(b, &j, 0, 8); /* what waits is still done */
    takes(b, &j, 8, 1);
    takes(b, &k, 0, 1);
    assert_int_equal(batcher_submit(b, &j.work), -ESHUTDOWN);
    takes(b, &j, 0, 0);
    takes(b, &j, 0, 0);
    batcher_close(b);
}

/* ---- lanes ----------------------------------------------------------------------------------- */

struct lanes {
    struct batcher *batcher;
    atomic_uint most_threads;
    atomic_ullong items;
};

static void *lane(void *arg)
{
    struct lanes *l = arg;
    struct work_item *items[ITEMS_MAX];
    uint32_t len, threads, most;

    while ((len = batcher_take(l->batcher, items, &threads)) > 0) {
        uint64_t tokens = 0;

        most = atomic_load(&l->most_threads);
        while (threads > most && !atomic_compare_exchange_weak(&l->most_threads, &most, threads))
            continue;
        for (uint32_t i = 0; i < len; i++)
            tokens += items[i]->len;
        assert_true(len <= limits.batch_items_max && tokens <= limits.batch_tokens_max);
        assert_true(threads == 1 || tokens >= limits.team_tokens_min);
        for (uint32_t i = 0; i < len; i++)
            batcher_finish(items[i], 0);
        atomic_fetch_add(&l->items, len);
    }
    return NULL;
}

/* What is queued is taken after batcher_wake, or without it once a good batch waits. */
static void test_queued_work_is_woken_for(void **state)
{
    struct lanes lanes = {.batcher = batcher_new(1)};
    struct job jobs[3];
    pthread_t thread;
    sem_t ready;

    (void)state;
    sem_init(&ready, 0, 0);
    assert_int_equal(pthread_create(&thread, NULL, lane, &lanes), 0);
    for (int i = 0; i < 3; i++) {
        job_init(&jobs[i], 1, 10, WORK_TRAFFIC);
        jobs[i].ready = &ready;
    }
    assert_int_equal(batcher_queue(lanes.batcher, &jobs[0].work), 0);
    batcher_wake(lanes.batcher);
    assert_int_equal(sem_wait(&ready), 0);
    assert_int_equal(batcher_queue(lanes.batcher, &jobs[1].work), 0);
    assert_int_equal(batcher_queue(lanes.batcher, &jobs[2].work), 0); /* 20 tokens */
    assert_int_equal(sem_wait(&ready), 0);
    assert_int_equal(sem_wait(&ready), 0);
    batcher_wake(lanes.batcher); /* for nothing */
    batcher_shutdown(lanes.batcher);
    pthread_join(thread, NULL);
    assert_int_equal(batcher_queue(lanes.batcher, &jobs[0].work), -ESHUTDOWN);
    batcher_close(lanes.batcher);
    sem_destroy(&ready);
}

/* A request that is alone and long enough may use the idle lane's core. */
static void test_alone_it_has_every_core(void **state)
{
    struct lanes lanes = {.batcher = batcher_new(2)};
    pthread_t threads[2];
    sem_t ready;

    (void)state;
    sem_init(&ready, 0, 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, lane, &lanes), 0);
    while (atomic_load(&lanes.most_threads) < 2) { /* until both have gone to wait */
        struct job j;

        job_init(&j, 1, 4, WORK_TRAFFIC);
        j.ready = &ready;
        assert_int_equal(batcher_submit(lanes.batcher, &j.work), 0);
        assert_int_equal(sem_wait(&ready), 0);
        sched_yield();
    }
    assert_int_equal(atomic_load(&lanes.most_threads), 2); /* and never more than there are */
    batcher_shutdown(lanes.batcher);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    batcher_close(lanes.batcher);
    sem_destroy(&ready);
}

enum { CLIENTS = 4, LANES = 3, ROUNDS = 2000 };

struct client {
    struct lanes *lanes;
    uint32_t seed;
    uint64_t done, cancelled;
};

static void *client(void *arg)
{
    struct client *c = arg;
    struct job *j = malloc(sizeof *j);
    sem_t ready;

    sem_init(&ready, 0, 0);
    for (int i = 0; i < ROUNDS; i++) {
        bool cancel;

        c->seed = c->seed * 1664525u + 1013904223u;
        job_init(j, 1 + (c->seed >> 16) % 12, 1 + (c->seed >> 20) % 30,
                 c->seed >> 31 ? WORK_LEARNING : WORK_TRAFFIC);
        j->ready = &ready;
        cancel = (c->seed >> 12) % 4 == 0;
        while (batcher_submit(c->lanes->batcher, &j->work) == -EAGAIN)
            sched_yield();
        if (cancel && batcher_cancel(c->lanes->batcher, &j->work)) {
            c->cancelled++;
            continue;
        }
        while (sem_wait(&ready) != 0)
            continue;
        c->done++;
        if (atomic_load(&j->dones) != 1)
            abort();
    }
    sem_destroy(&ready);
    free(j);
    return NULL;
}

/* Every work is answered once or taken back, never both, with many clients and lanes at it. */
static void test_many_clients_and_lanes(void **state)
{
    struct lanes lanes = {.batcher = batcher_new(LANES)};
    pthread_t lane_threads[LANES], client_threads[CLIENTS];
    struct client clients[CLIENTS];
    uint64_t all = 0;

    (void)state;
    for (int i = 0; i < LANES; i++)
        assert_int_equal(pthread_create(&lane_threads[i], NULL, lane, &lanes), 0);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){.lanes = &lanes, .seed = i + 1};
        assert_int_equal(pthread_create(&client_threads[i], NULL, client, &clients[i]), 0);
    }
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(client_threads[i], NULL);
        all += clients[i].done + clients[i].cancelled;
        assert_true(clients[i].done > 0);
    }
    assert_int_equal(all, CLIENTS * ROUNDS);
    assert_int_equal(batcher_waiting(lanes.batcher), 0);
    batcher_shutdown(lanes.batcher);
    for (int i = 0; i < LANES; i++)
        pthread_join(lane_threads[i], NULL);
    batcher_close(lanes.batcher);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_come_first_served),
        cmocka_unit_test(test_a_batch_is_of_one_encoder),
        cmocka_unit_test(test_budgets),
        cmocka_unit_test(test_a_full_queue_takes_all_or_none),
        cmocka_unit_test(test_learning_yields),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_shutdown),
        cmocka_unit_test(test_queued_work_is_woken_for),
        cmocka_unit_test(test_alone_it_has_every_core),
        cmocka_unit_test(test_many_clients_and_lanes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
