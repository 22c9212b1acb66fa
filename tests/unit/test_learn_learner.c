/* test_learn_learner.c -- the learning loop end to end inside one process: a correction is durable,
 * applied, live; a restart, another order and a deletion give the same answers.
 */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/log.h"
#include "tests/unit/learning_fixture.h"
#include "tests/unit/own_folder.h"

enum { PROBES = 12, EACH_LABEL = 12 };

/* Answers to texts that were never taught. */
struct answers {
    double p[PROBES][WORLD_LABELS];
    int64_t seq;
};

static void ask_all(struct world *w, struct answers *a)
{
    char text[64];

    for (uint32_t i = 0; i < PROBES; i++) {
        world_text(i % WORLD_LABELS, 1000 + i, text);
        a->seq = world_ask(w, text, a->p[i], NULL);
    }
}

static void assert_same(const struct answers *a, const struct answers *b)
{
    for (int i = 0; i < PROBES; i++)
        for (int l = 0; l < WORLD_LABELS; l++)
            if (!(fabs(a->p[i][l] - b->p[i][l]) <= 1e-6))
                fail_msg("probe %d, label %d: %.9f and %.9f", i, l, a->p[i][l], b->p[i][l]);
}

static void teach_all(struct world *w)
{
    char text[64];

    for (uint32_t i = 0; i < EACH_LABEL * WORLD_LABELS; i++) {
        world_text(i % WORLD_LABELS, i / WORLD_LABELS, text);
        world_teach(w, i % WORLD_LABELS, text);
    }
}

/* ---- one correction -------------------------------------------------------------------------- */

static void test_empty(void **state)
{
    struct world w;
    struct head_answer answer;
    double p[WORLD_LABELS];

    (void)state;
    world_open(&w, folder, true);
    assert_int_equal(world_ask(&w, "hello", p, &answer), WORLD_LABELS); /* their label_adds */
    assert_int_equal(answer.label, UINT32_MAX); /* nothing taught: no best guess */
    assert_true(p[0] == 0 && p[1] == 0 && p[2] == 0);
    world_close(&w);
}

static void test_a_correction_counts_at_once(void **state)
{
    struct world w;
    double p[WORLD_LABELS];
    char text[64];

    (void)state;
    world_open(&w, folder, true);
    for (uint32_t i = 0; i < 12; i++) {
        uint32_t label = i % WORLD_LABELS;
        struct store_receipt r;

        world_text(label, i, text);
        r = world_teach(&w, label, text);
        assert_int_equal(world_ask(&w, text, p, NULL), r.seq); /* the very next answer knows it */
        for (uint32_t l = 0; l < WORLD_LABELS; l++)
            assert_true(p[label] >= p[l]);
        assert_true(fabs(p[0] + p[1] + p[2] - 1) < 1e-5);
    }
    assert_int_equal(learner_counts(w.learner).failures, 0);
    assert_int_equal(learner_counts(w.learner).examples, 12);
    assert_int_equal(learner_counts(w.learner).embedded, 12);
    world_close(&w);
}

static void test_changing_ones_mind(void **state)
{
    struct world w;
    struct answers before, after;
    struct store_feedback f;
    struct store_receipt r;
    char text[64];
    double p[WORLD_LABELS];

    (void)state;
    world_open(&w, folder, true);
    teach_all(&w);
    ask_all(&w, &before);
    world_text(0, 3, text);
    world_teach(&w, 2, text);
    world_ask(&w, text, p, NULL);
    assert_true(p[2] > p[0]);
    f = feedback_of(w.model, STORE_WITHDRAW, text, NULL, "ann");
    assert_int_equal(world_put(&w, &f, true, &r), 0);
    f = feedback_of(w.model, STORE_REJECT, text, world_label(0),
                    "bob"); /* teaches nothing by itself */
    assert_int_equal(world_put(&w, &f, true, &r), 0);
    f.op = STORE_WITHDRAW;
    assert_int_equal(world_put(&w, &f, true, &r), 0);
    world_teach(&w, 0, text);
    ask_all(&w, &after);
    assert_same(&before, &after);
    /* One text, one embedding: it was taken from the cache each time it came back. */
    assert_true(learner_counts(w.learner).embedded <= EACH_LABEL * WORLD_LABELS + 4);
    world_close(&w);
}

/* ---- the same set, the same answers ---------------------------------------------------------- */

static void test_restart(void **state)
{
    struct answers before, after;
    struct world w;
    char name[FOLDER_BYTES + 64];

    (void)state;
    world_open(&w, folder, true);
    teach_all(&w);
    ask_all(&w, &before);
    world_close(&w);
    world_open(&w, folder, true); /* from the image: nothing is learned again */
    ask_all(&w, &after);
    assert_same(&before, &after);
    assert_int_equal(after.seq, before.seq);
    assert_int_equal(learner_counts(w.learner).examples, 0);
    world_close(&w);
    /* Without an image: from the journal, with the embeddings that were cached. */
    snprintf(name, sizeof name, "%s/heads/%lld-0-%lld.head", folder, (long long)w.model,
             (long long)before.seq);
    assert_int_equal(remove(name), 0);
    world_open(&w, folder, true);
    ask_all(&w, &after);
    assert_same(&before, &after);
    assert_int_equal(after.seq, before.seq);
    assert_int_equal(learner_counts(w.learner).examples, EACH_LABEL * WORLD_LABELS);
    assert_int_equal(learner_counts(w.learner).embedded, 0);
    world_close(&w);
}

static void take_back(struct world *w, const char *text)
{
    struct store_feedback f = feedback_of(w->model, STORE_WITHDRAW, text, NULL, "");
    struct store_receipt r;

    assert_int_equal(world_put(w, &f, w->learner != NULL, &r), 0);
}

/* A process that was killed wrote no image: what was answered is there all the same. The image is
 * older than the journal. */
static void test_restart_from_an_older_image(void **state)
{
    struct answers before, after;
    struct world w;
    char text[64];

    (void)state;
    world_open(&w, folder, true);
    teach_all(&w);
    world_close(&w);
    world_open(&w, folder, false); /* the journal goes on without a learner */
    for (uint32_t i = 50; i < 60; i++) {
        struct store_feedback f;
        struct store_receipt r;

        world_text(1, i, text);
        f = feedback_of(w.model, STORE_LABEL, text, world_label(1), "ann");
        assert_int_equal(world_put(&w, &f, false, &r), 0);
    }
    world_text(0, 2, text);
    take_back(&w, text);
    world_close(&w);
    world_open(&w, folder, true);
    ask_all(&w, &after);
    assert_int_equal(learner_counts(w.learner).examples, 11); /* the tail alone */
    world_close(&w);

    folder_renew();
    world_open(&w, folder, true);
    teach_all(&w);
    for (uint32_t i = 50; i < 60; i++) {
        world_text(1, i, text);
        world_teach(&w, 1, text);
    }
    world_text(0, 2, text);
    take_back(&w, text);
    ask_all(&w, &before);
    world_close(&w);
    assert_same(&before, &after);
    assert_int_equal(before.seq, after.seq);
}

/* What is erased is in no image either: those that held it are gone, and the head comes from the
 * journal. */
static void test_restart_after_an_erasure(void **state)
{
    struct answers before, after;
    struct world w;
    char text[64];

    (void)state;
    world_open(&w, folder, true);
    teach_all(&w);
    world_close(&w); /* writes an image */
    world_open(&w, folder, true);
    world_text(0, 2, text);
    world_delete(&w, text);
    ask_all(&w, &before);
    world_close(&w);
    world_open(&w, folder, true);
    ask_all(&w, &after);
    assert_same(&before, &after);
    world_close(&w);
    world_open(&w, folder, false);
    world_text(0, 3, text);
    world_delete(&w, text);
    world_close(&w);
    world_open(&w, folder, true);
    assert_int_equal(learner_counts(w.learner).examples, EACH_LABEL * WORLD_LABELS);
    world_close(&w);
}

static void test_order_does_not_matter(void **state)
{
    struct answers first = {.seq = 0}, other;
    uint32_t seed = 99;

    (void)state;
    for (int round = 0; round < 3; round++) {
        uint32_t order[EACH_LABEL * WORLD_LABELS];
        struct world w;
        char text[64];

        for (uint32_t i = 0; i < EACH_LABEL * WORLD_LABELS; i++) {
            uint32_t j;

            seed = seed * 1664525u + 1013904223u;
            j = round == 0 ? i : (seed >> 16) % (i + 1);
            order[i] = order[j];
            order[j] = i;
        }
        world_open(&w, folder, true);
        for (uint32_t i = 0; i < EACH_LABEL * WORLD_LABELS; i++) {
            world_text(order[i] % WORLD_LABELS, order[i] / WORLD_LABELS, text);
            world_teach(&w, order[i] % WORLD_LABELS, text);
        }
        ask_all(&w, round == 0 ? &first : &other);
        if (round > 0)
            assert_same(&first, &other);
        world_close(&w);
        folder_renew();
    }
}

static void test_deleted_is_never_seen(void **state)
{
    struct answers never, deleted;
    struct world w;
    char text[64];

    (void)state;
    world_open(&w, folder, true);
    teach_all(&w);
    ask_all(&w, &never);
    for (uint32_t i = 0; i < 10; i++) { /* wrong ones on purpose, so that they weigh */
        world_text(i % WORLD_LABELS, 100 + i, text);
        world_teach(&w, (i + 1) % WORLD_LABELS, text);
    }
    ask_all(&w, &deleted);
    assert_true(fabs(deleted.p[0][0] - never.p[0][0]) > 1e-4); /* they did */
    for (uint32_t i = 0; i < 10; i++) {
        world_text(i % WORLD_LABELS, 100 + i, text);
        world_delete(&w, text);
    }
    ask_all(&w, &deleted);
    assert_same(&never, &deleted);
    world_close(&w);
}

/* ---- many at once ---------------------------------------------------------------------------- */

struct teacher {
    struct world *world;
    uint32_t label;
};

static void *teach_some(void *arg)
{
    struct teacher *t = arg;
    char text[64];

    for (uint32_t i = 0; i < EACH_LABEL; i++) {
        double p[WORLD_LABELS];
        struct store_receipt r;

        world_text(t->label, i, text);
        r = world_teach(t->world, t->label, text);
        if (world_ask(t->world, text, p, NULL) < r.seq)
            abort();
    }
    return NULL;
}

static void test_teachers_at_once(void **state)
{
    struct teacher teachers[WORLD_LABELS];
    pthread_t threads[WORLD_LABELS];
    struct answers one_by_one, at_once;
    struct world w;

    (void)state;
    world_open(&w, folder, true);
    for (uint32_t i = 0; i < WORLD_LABELS; i++) {
        teachers[i] = (struct teacher){&w, i};
        assert_int_equal(pthread_create(&threads[i], NULL, teach_some, &teachers[i]), 0);
    }
    for (uint32_t i = 0; i < WORLD_LABELS; i++)
        pthread_join(threads[i], NULL);
    ask_all(&w, &at_once);
    world_close(&w);
    folder_renew();
    world_open(&w, folder, true);
    teach_all(&w);
    ask_all(&w, &one_by_one);
    world_close(&w);
    assert_same(&one_by_one, &at_once);
}

/* ---- stopping -------------------------------------------------------------------------------- */

struct waiter {
    struct change change; /* first */
    int rc;
    sem_t ready;
};

static void waiter_done(struct change *change, int rc)
{
    struct waiter *w = (struct waiter *)change;

    w->rc = rc;
    sem_post(&w->ready);
}

static int remove_model(struct change *change, struct learner *learner)
{
    return learner_model_remove(learner, change->model);
}

static void waiter_init(struct waiter *w, int64_t model)
{
    *w = (struct waiter){
        .change = {.done = waiter_done, .wait_applied = true, .model = model, .seq = INT64_MAX},
        .rc = 1};
    sem_init(&w->ready, 0, 0);
}

/* Who waits for what will not come is told: the daemon stops, the model goes. */
static void test_waiters_are_told(void **state)
{
    struct waiter a, b, c;
    struct world w;

    (void)state;
    world_open(&w, folder, true);
    waiter_init(&a, w.model);
    assert_int_equal(learner_post(w.learner, &a.change), 0);
    waiter_init(&b, w.model);
    b.change.apply = remove_model;
    b.change.wait_applied = false;
    assert_int_equal(learner_post(w.learner, &b.change), 0);
    sem_wait(&a.ready);
    assert_int_equal(a.rc, -ENOENT);
    sem_wait(&b.ready);
    assert_int_equal(b.rc, 0);
    assert_null(live_get(w.live, "m"));
    world_close(&w);

    world_open(&w, folder, true);
    waiter_init(&c, w.model);
    assert_int_equal(learner_post(w.learner, &c.change), 0);
    learner_stop(w.learner);
    sem_wait(&c.ready);
    assert_int_equal(c.rc, -ESHUTDOWN);
    assert_int_equal(learner_post(w.learner, &c.change), -ESHUTDOWN);
    world_close(&w);
}

/* The keeper writes on after the learner has stopped, and hints at it: nothing of that reaches
 * freed memory. */
static void test_corrections_after_the_learner_stopped(void **state)
{
    struct store_feedback f;
    struct store_receipt r;
    struct answers a;
    struct world w;

    (void)state;
    world_open(&w, folder, true);
    teach_all(&w);
    learner_stop(w.learner);
    f = feedback_of(w.model, STORE_LABEL, "late", world_label(0), "ann");
    assert_int_equal(world_put(&w, &f, false, &r), 0);
    world_close(&w);
    world_open(&w, folder, true);
    ask_all(&w, &a);
    assert_int_equal(a.seq, r.seq);
    world_close(&w);
}

static int install(void **state)
{
    (void)state;
    log_open(LOG_LEVEL_ERROR);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_empty),
        IN_FOLDER(test_a_correction_counts_at_once),
        IN_FOLDER(test_changing_ones_mind),
        IN_FOLDER(test_restart),
        IN_FOLDER(test_restart_from_an_older_image),
        IN_FOLDER(test_restart_after_an_erasure),
        IN_FOLDER(test_order_does_not_matter),
        IN_FOLDER(test_deleted_is_never_seen),
        IN_FOLDER(test_teachers_at_once),
        IN_FOLDER(test_waiters_are_told),
        IN_FOLDER(test_corrections_after_the_learner_stopped),
    };

    return cmocka_run_group_tests(tests, install, NULL);
}
