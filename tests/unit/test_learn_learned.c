/* test_learn_learned.c -- one model's rounds, step by step on the test's own thread: what they
 * publish, the fp64 state behind it, and that a round which fails at any allocation changes nothing
 * that is served and succeeds when it is repeated.
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

#include "daemon/learn/learned.h"
#include "daemon/log.h"
#include "tests/unit/fault_alloc.h"
#include "tests/unit/learning_fixture.h"
#include "tests/unit/own_folder.h"

/* Durable, and nothing more. */
static struct store_receipt put(struct world *w, enum store_op op, uint32_t label, uint32_t i)
{
    struct store_feedback f;
    struct store_receipt r;
    char text[64];

    world_text(label, i, text);
    f = feedback_of(w->model, op, text, world_label(label), "ann");
    assert_int_equal(world_put(w, &f, false, &r), 0);
    return r;
}

static struct learned_round catch_up(struct learned *l, struct world *w)
{
    struct learned_round r = {0}, all = {0};

    do {
        assert_int_equal(learned_catch_up(l, &w->parts, &r), 0);
        all.events += r.events;
        all.examples += r.examples;
    } while (r.more);
    return all;
}

static int64_t live_seq(struct world *w)
{
    struct snapshot *s = live_get(w->live, "m");
    int64_t seq = s != NULL ? s->seq : -1;

    live_put(s);
    return seq;
}

/* The state is what a batch over the stored examples gives. */
static void exact(const struct learned *l)
{
    double distance = 1;

    assert_int_equal(head_check(l->head, &distance), 0);
    if (!(distance <= 1e-9))
        fail_msg("distance %g", distance);
}

static void test_rounds(void **state)
{
    struct learned_round r;
    struct store_receipt last;
    struct learned *l;
    struct world w;

    (void)state;
    world_open(&w, folder, false);
    l = world_learned(&w);
    assert_int_equal(live_seq(&w), -1);
    r = catch_up(l, &w); /* the labels of a new world */
    assert_int_equal(r.events, WORLD_LABELS);
    assert_int_equal(live_seq(&w), WORLD_LABELS);
    r = catch_up(l, &w);
    assert_int_equal(r.events, 0);
    for (uint32_t i = 0; i < 40; i++)
        last = put(&w, STORE_LABEL, i % WORLD_LABELS, i);
    r = catch_up(l, &w);
    assert_int_equal(r.events, 40);
    assert_int_equal(r.examples, 40);
    assert_int_equal(live_seq(&w), last.seq);
    assert_int_equal(head_examples_len(l->head), 40);
    exact(l);
    /* The same text three times in a stretch: one example, its latest state. */
    put(&w, STORE_LABEL, 0, 500);
    put(&w, STORE_REJECT, 0, 500);
    last = put(&w, STORE_LABEL, 0, 500);
    r = catch_up(l, &w);
    assert_int_equal(r.examples, 1);
    assert_int_equal(head_examples_len(l->head), 41);
    /* Taught and deleted before the learner looked: it never was. */
    put(&w, STORE_LABEL, 0, 501);
    last = put(&w, STORE_DELETE, 0, 501);
    r = catch_up(l, &w);
    assert_int_equal(r.events, 2);
    assert_int_equal(head_examples_len(l->head), 41);
    assert_int_equal(live_seq(&w), last.seq);
    exact(l);
    learned_close(l);
    learned_close(NULL);
    world_close(&w);
}

/* A backlog longer than a round; the last event touches the first example again, so that the first
 * stretch must grow to it. */
static void test_a_long_backlog(void **state)
{
    struct store_receipt last;
    struct learned_round r = {0};
    struct learned *l;
    struct world w;

    (void)state;
    world_open(&w, folder, false);
    for (uint32_t i = 0; i < LEARNED_ROUND_EVENTS + 100; i++)
        put(&w, STORE_LABEL, i % WORLD_LABELS, i);
    last = put(&w, STORE_REJECT, 0, 0);
    l = world_learned(&w);
    assert_int_equal(learned_catch_up(l, &w.parts, &r), 0);
    assert_true(r.more);
    /* A version is never ahead of its seq: the example 0 is shown rejected, so the version says so.
     */
    assert_int_equal(live_seq(&w), last.seq);
    catch_up(l, &w);
    assert_int_equal(live_seq(&w), last.seq);
    assert_int_equal(head_examples_len(l->head), LEARNED_ROUND_EVENTS + 99);
    exact(l);
    learned_close(l);
    world_close(&w);
}

/* The fp64 state (counts, A, P, G, W, Q, S) as the image carries it, behind its header. */
static double *state_of(const struct learned *l, size_t *ret_len)
{
    enum { HEADER_BYTES = 48 }; /* image.c */
    size_t M = l->settings.features, L = l->labels->len, d = head_settings(l->head)->dim;
    size_t len = L + L * L + M * (M + 1) + 2 * M * L + L * d;
    uint8_t *image = malloc(head_image_bytes(l->head));
    double *values = malloc(len * sizeof *values);

    assert_non_null(image);
    assert_non_null(values);
    assert_true(HEADER_BYTES + len * sizeof *values < head_image_bytes(l->head));
    head_image_write(l->head, image);
    memcpy(values, image + HEADER_BYTES, len * sizeof *values);
    free(image);
    *ret_len = len;
    return values;
}

/* What was taught and deleted again was never seen: in the fp64 state to 1e-9. */
static void test_forgetting_is_exact(void **state)
{
    double *never, *deleted;
    struct learned *l;
    struct world w;
    size_t len, again;

    (void)state;
    world_open(&w, folder, false);
    l = world_learned(&w);
    for (uint32_t i = 0; i < 60; i++)
        put(&w, STORE_LABEL, i % WORLD_LABELS, i);
    catch_up(l, &w);
    never = state_of(l, &len);
    for (uint32_t i = 60; i < 100; i++) {
        put(&w, STORE_LABEL, i % WORLD_LABELS, i);
        if (i % 7 == 0)
            catch_up(l, &w);
    }
    catch_up(l, &w);
    assert_int_equal(head_examples_len(l->head), 100);
    for (uint32_t i = 60; i < 100; i++) {
        put(&w, STORE_DELETE, i % WORLD_LABELS, i);
        if (i % 5 == 0)
            catch_up(l, &w);
    }
    catch_up(l, &w);
    assert_int_equal(head_examples_len(l->head), 60);
    exact(l);
    deleted = state_of(l, &again);
    assert_int_equal(again, len);
    for (size_t i = 0; i < len; i++)
        if (!(fabs(never[i] - deleted[i]) <= 1e-9 * (1 + fabs(never[i]))))
            fail_msg("value %zu of %zu: %.17g and %.17g", i, len, never[i], deleted[i]);
    free(never);
    free(deleted);
    learned_close(l);
    world_close(&w);
}

static void test_every_allocation_of_a_round(void **state)
{
    struct learned *l;
    struct world w;
    uint64_t n;

    (void)state;
    world_open(&w, folder, false);
    w.parts.keeper = NULL; /* no cache: its thread would take allocations out of the count */
    l = world_learned(&w);
    for (uint32_t i = 0; i < 30; i++)
        put(&w, STORE_LABEL, i % WORLD_LABELS, i);
    catch_up(l, &w);
    for (n = 1;; n++) {
        struct learned_round r = {0};
        int64_t before = live_seq(&w), applied = l->applied;
        struct store_receipt last;
        bool failed;
        int rc;

        put(&w, STORE_LABEL, n % WORLD_LABELS, 1000 + (uint32_t)n); /* one comes, one goes */
        last = n > 1 ? put(&w, STORE_DELETE, (n - 1) % WORLD_LABELS, 1000 + (uint32_t)n - 1)
                     : put(&w, STORE_LABEL, 0, 999);
        fault_alloc_arm(n, false);
        rc = learned_catch_up(l, &w.parts, &r);
        failed = fault_alloc_disarm();
        if (rc != 0) {
            assert_true(failed);
            assert_int_equal(rc, -ENOMEM);
            assert_int_equal(r.events, 0);
            assert_int_equal(l->applied, applied);
            assert_int_equal(live_seq(&w), before); /* the last good state serves on */
            catch_up(l, &w);
        }
        assert_int_equal(live_seq(&w), last.seq);
        assert_false(l->ahead);
        exact(l);
        if (!failed)
            break;
    }
    assert_true(n > 20);
    exact(l);
    print_message("%d allocations\n", (int)n);
    learned_close(l);
    world_close(&w);
}

/* Loading a model from its image: an error, or (the image was given up) the whole journal again;
 * never a wrong head. */
static void test_every_allocation_of_opening(void **state)
{
    struct learned *l;
    struct world w;
    uint64_t n;

    (void)state;
    world_open(&w, folder, true);
    for (uint32_t i = 0; i < 30; i++)
        put(&w, STORE_LABEL, i % WORLD_LABELS, i);
    world_close(&w); /* writes the image */
    world_open(&w, folder, false);
    w.parts.keeper = NULL;
    for (n = 1;; n++) {
        bool failed;
        int rc;

        fault_alloc_arm(n, false);
        rc = world_learn(&w, &l);
        failed = fault_alloc_disarm();
        assert_int_equal(rc, l == NULL ? -ENOMEM : 0);
        assert_true(failed || l != NULL);
        if (l == NULL)
            continue;
        catch_up(l, &w);
        assert_int_equal(head_examples_len(l->head), 30);
        exact(l);
        learned_close(l);
        if (!failed)
            break;
    }
    assert_true(n > 10);
    world_close(&w);
}

static int install(void **state)
{
    (void)state;
    fault_alloc_install();
    log_open(LOG_LEVEL_ERROR);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_rounds),
        IN_FOLDER(test_a_long_backlog),
        IN_FOLDER(test_forgetting_is_exact),
        IN_FOLDER(test_every_allocation_of_a_round),
        IN_FOLDER(test_every_allocation_of_opening),
    };

    return cmocka_run_group_tests(tests, install, NULL);
}
