/* test_learn_labels.c -- acts on labels as the learner sees them: the fp64 state afterwards is that
 * of the journal read from nothing, of labels that had been so from the start, of examples that had
 * never been; and a round with such acts that fails at any allocation changes nothing that is
 * served.
 */
#include <errno.h>
#include <math.h>
#include <semaphore.h>
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

enum { EXAMPLES = 45 };

/* Text i of label `of` is taught as label `as`. */
static void teach_as(struct world *w, enum store_op op, uint32_t of, uint32_t i, uint32_t as)
{
    struct store_feedback f;
    struct store_receipt r;
    char text[64];

    world_text(of, i, text);
    f = feedback_of(w->model, op, text, world_label(as), "ann");
    assert_int_equal(world_put(w, &f, false, &r), 0);
}

static void catch_up(struct learned *l, struct world *w)
{
    struct learned_round r = {.more = true};

    while (r.more)
        assert_int_equal(learned_catch_up(l, &w->parts, &r), 0);
}

/* ---- acts --------------------------------------------------------------------------------------
 */

struct act {
    struct change change; /* first */
    sem_t done;
    int rc;
    char what; /* 'r'etire, 'a'ctivate, 'm'erge into other, 's'plit one text off to other, 'n'ame */
    int64_t model;
    const char *label, *other;
    uint8_t example[1][STORE_ID_BYTES];
};

static int write_act(struct change *change, struct store *store)
{
    struct act *a = (struct act *)change;
    struct store_label_change c = {.model = a->model, .now_us = 1};
    const char *field;
    int64_t other = 0;
    uint32_t bad;
    int rc = store_label_find(store, a->model, a->label, &c.label);

    if (rc == 0 && (a->what == 'm' || a->what == 's'))
        rc = store_label_find(store, a->model, a->other, &other);
    if (rc != 0)
        return rc;
    change->model = a->model;
    switch (a->what) {
    case 'r':
        return store_label_retire(store, &c, &change->seq, &field);
    case 'a':
        return store_label_restore(store, &c, &change->seq, &field);
    case 'm':
        return store_label_merge(store, &c, other, &change->seq, &field);
    case 'n':
        return store_label_rename(store, &c, a->other, &change->seq, &field);
    default:
        return store_label_split(store, &c, other, (const uint8_t(*)[STORE_ID_BYTES])a->example, 1,
                                 &change->seq, &field, &bad);
    }
}

static void act_done(struct change *change, int rc)
{
    struct act *a = (struct act *)change;

    a->rc = rc;
    sem_post(&a->done);
}

/* Durable, and nothing more. Returns its seq. */
static int64_t act(struct world *w, char what, const char *label, const char *other, uint32_t i)
{
    struct act a = {.change = {.write = write_act, .done = act_done},
                    .what = what,
                    .model = w->model,
                    .label = label,
                    .other = other};
    char text[64];

    world_text(0, i, text);
    store_example_id("m", text, strlen(text), NULL, 0, a.example[0]);
    sem_init(&a.done, 0, 0);
    assert_int_equal(keeper_post(w->keeper, &a.change), 0);
    while (sem_wait(&a.done) != 0)
        continue;
    sem_destroy(&a.done);
    assert_int_equal(a.rc, 0);
    return a.change.seq;
}

/* ---- states ------------------------------------------------------------------------------------
 */

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
    head_image_write(l->head, image);
    memcpy(values, image + HEADER_BYTES, len * sizeof *values);
    free(image);
    *ret_len = len;
    return values;
}

/* To 1e-9; both are consumed. */
static void same(double *one, size_t one_len, double *other, size_t other_len)
{
    assert_int_equal(one_len, other_len);
    for (size_t i = 0; i < one_len; i++)
        if (!(fabs(one[i] - other[i]) <= 1e-9 * (1 + fabs(one[i]))))
            fail_msg("value %zu of %zu: %.17g and %.17g", i, one_len, one[i], other[i]);
    free(one);
    free(other);
}

static void same_state(const struct learned *l, const struct learned *m)
{
    size_t one_len, other_len;
    double *one = state_of(l, &one_len), *other = state_of(m, &other_len);

    assert_int_equal(head_examples_len(l->head), head_examples_len(m->head));
    same(one, one_len, other, other_len);
}

static void test_live_is_from_scratch(void **state)
{
    struct learned *l, *again;
    struct world w;

    (void)state;
    world_open(&w, folder, false);
    l = world_learned(&w);
    for (uint32_t i = 0; i < EXAMPLES; i++)
        teach_as(&w, STORE_LABEL, i % WORLD_LABELS, i, i % WORLD_LABELS);
    catch_up(l, &w);
    act(&w, 's', world_label(0), world_label(1), 3);
    act(&w, 'n', world_label(1), "renamed", 0);
    catch_up(l, &w);
    act(&w, 'r', world_label(2), NULL, 0);
    catch_up(l, &w);
    teach_as(&w, STORE_LABEL, 2, 500, 1); /* by its old name */
    act(&w, 'a', world_label(2), NULL, 0);
    act(&w, 'm', world_label(0), "renamed", 0);
    catch_up(l, &w);
    act(&w, 'r', world_label(2), NULL, 0);
    catch_up(l, &w);
    again = world_learned(&w); /* no image: from nothing, in one stretch */
    catch_up(again, &w);
    assert_int_equal(again->applied, l->applied);
    same_state(l, again);
    for (uint32_t c = 0; c < WORLD_LABELS; c++)
        assert_string_equal(l->labels->names[c], again->labels->names[c]);
    learned_close(again);
    learned_close(l);
    world_close(&w);
}

/* Retired is as if its examples had been deleted; restored, as if nothing had happened. */
static void test_retire_and_restore(void **state)
{
    struct learned *l;
    double *before, *retired, *now;
    size_t before_len, retired_len, len;
    struct world w;

    (void)state;
    world_open(&w, folder, false);
    l = world_learned(&w);
    for (uint32_t i = 0; i < EXAMPLES; i++)
        teach_as(&w, STORE_LABEL, i % WORLD_LABELS, i, i % WORLD_LABELS);
    catch_up(l, &w);
    before = state_of(l, &before_len);
    act(&w, 'r', world_label(2), NULL, 0);
    catch_up(l, &w);
    assert_int_equal(head_examples_len(l->head), EXAMPLES / WORLD_LABELS * 2);
    retired = state_of(l, &retired_len);
    act(&w, 'a', world_label(2), NULL, 0);
    catch_up(l, &w);
    now = state_of(l, &len);
    same(before, before_len, now, len);
    for (uint32_t i = 2; i < EXAMPLES; i += WORLD_LABELS)
        teach_as(&w, STORE_DELETE, 2, i, 2);
    catch_up(l, &w);
    now = state_of(l, &len);
    same(retired, retired_len, now, len);
    learned_close(l);
    world_close(&w);
}

/* Events and then a merge, in one stretch or in many: as taught under one name from the start. */
static void test_merged_is_taught_so(void **state)
{
    struct learned *l, *again;
    double *merged, *one;
    size_t merged_len, one_len;
    struct world w;

    (void)state;
    world_open(&w, folder, false);
    l = world_learned(&w);
    for (uint32_t i = 0; i < EXAMPLES; i++) {
        teach_as(&w, STORE_LABEL, i % WORLD_LABELS, i, i % WORLD_LABELS);
        if (i % 10 == 0)
            catch_up(l, &w);
    }
    act(&w, 'm', world_label(2), world_label(0), 0);
    teach_as(&w, STORE_LABEL, 2, 100, 2); /* under the name that was */
    catch_up(l, &w);
    again = world_learned(&w);
    catch_up(again, &w);
    same_state(l, again);
    assert_int_equal(live_labels_find(l->labels, world_label(2)), 0);
    merged = state_of(l, &merged_len);
    learned_close(again);
    learned_close(l);
    world_close(&w);

    folder_renew();
    world_open(&w, folder, false);
    l = world_learned(&w);
    teach_as(&w, STORE_LABEL, 2, 100, 0);
    for (uint32_t i = EXAMPLES; i-- > 0;) /* and in another order */
        teach_as(&w, STORE_LABEL, i % WORLD_LABELS, i,
                 i % WORLD_LABELS == 2 ? 0 : i % WORLD_LABELS);
    catch_up(l, &w);
    one = state_of(l, &one_len);
    same(merged, merged_len, one, one_len);
    learned_close(l);
    world_close(&w);
}

/* A merge that the published version has not reached has not happened yet. */
static void test_a_version_is_not_ahead_of_a_merge(void **state)
{
    struct learned_round r = {0};
    struct learned *l;
    struct world w;
    int64_t seq;

    (void)state;
    world_open(&w, folder, false);
    teach_as(&w, STORE_LABEL, 0, 0, 0);
    for (uint32_t i = 0; i < LEARNED_ROUND_EVENTS; i++)
        teach_as(&w, STORE_LABEL, 1, i % 20, 1);
    seq = act(&w, 'm', world_label(2), world_label(1), 0); /* no example goes along */
    l = world_learned(&w);
    assert_int_equal(learned_catch_up(l, &w.parts, &r), 0);
    assert_true(r.more || l->applied == seq);
    if (l->applied < seq)
        assert_int_equal(live_labels_find(l->labels, world_label(2)), 2);
    catch_up(l, &w);
    assert_int_equal(l->applied, seq);
    assert_int_equal(live_labels_find(l->labels, world_label(2)), 1);
    assert_int_equal(live_labels_find(l->labels, "nobody"), UINT32_MAX);
    learned_close(l);
    world_close(&w);
}

static int64_t live_seq(struct world *w)
{
    struct snapshot *s = live_get(w->live, "m");
    int64_t seq = s != NULL ? s->seq : -1;

    if (s != NULL) /* names and columns belong together at any time */
        assert_int_equal(s->labels->len, head_view_labels_len(s->view));
    live_put(s);
    return seq;
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
        teach_as(&w, STORE_LABEL, i % WORLD_LABELS, i, i % WORLD_LABELS);
    catch_up(l, &w);
    for (n = 1;; n++) {
        struct learned_round r = {0};
        int64_t before = live_seq(&w), seq;
        char name[32], *now = l->labels->names[0];
        double distance = 1;
        bool failed;
        int rc;

        snprintf(name, sizeof name, "name %d", (int)(n % 2));
        act(&w, 'n', now, name, 0);
        seq = act(&w, n % 2 ? 'r' : 'a', world_label(1), NULL, 0);
        fault_alloc_arm(n, false);
        rc = learned_catch_up(l, &w.parts, &r);
        failed = fault_alloc_disarm();
        if (rc != 0) {
            assert_true(failed);
            assert_int_equal(rc, -ENOMEM);
            assert_int_equal(live_seq(&w), before); /* the last good state serves on */
            catch_up(l, &w);
        }
        assert_int_equal(live_seq(&w), seq);
        assert_string_equal(l->labels->names[0], name);
        assert_int_equal(live_labels_find(l->labels, world_label(0)), 0);
        assert_int_equal(head_check(l->head, &distance), 0);
        assert_true(distance <= 1e-9);
        assert_int_equal(head_examples_len(l->head), n % 2 ? 20 : 30);
        if (!failed)
            break;
    }
    assert_true(n > 20);
    print_message("%d allocations\n", (int)n);
    learned_close(l);
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
        IN_FOLDER(test_live_is_from_scratch),
        IN_FOLDER(test_retire_and_restore),
        IN_FOLDER(test_merged_is_taught_so),
        IN_FOLDER(test_a_version_is_not_ahead_of_a_merge),
        IN_FOLDER(test_every_allocation_of_a_round),
    };

    return cmocka_run_group_tests(tests, install, NULL);
}
