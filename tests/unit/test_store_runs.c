/* test_store_runs.c -- runs: one at a time for each model, an end that stays, metrics that stay
 * few, and images that are whole or not there.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/own_store.h"

static struct store_run_new run_of(int64_t of, int64_t now_us)
{
    return (struct store_run_new){.model = of,
                                  .strategy = "joint",
                                  .settings = "{\"epochs\":4}",
                                  .who = "boss",
                                  .seed = UINT64_MAX,
                                  .parent = 0,
                                  .since_seq = 7,
                                  .now_us = now_us};
}

static int64_t added(int64_t of)
{
    const struct store_run_new run = run_of(of, 50);
    int64_t id = -1;

    assert_int_equal(store_run_add(store, &run, &id), 0);
    return id;
}

struct kept_run {
    struct store_run row;
    char strategy[32], settings[64], state[16], phase[16], progress[64], verdict[64], reason[64],
        who[32];
    int64_t ids[16];
    int len;
};

static int keep(void *ud, const struct store_run *row)
{
    struct kept_run *k = ud;

    k->row = *row;
    snprintf(k->strategy, sizeof k->strategy, "%s", row->strategy);
    snprintf(k->settings, sizeof k->settings, "%s", row->settings);
    snprintf(k->state, sizeof k->state, "%s", row->state);
    snprintf(k->phase, sizeof k->phase, "%s", row->phase);
    snprintf(k->progress, sizeof k->progress, "%s", row->progress);
    snprintf(k->verdict, sizeof k->verdict, "%s", row->verdict != NULL ? row->verdict : "(none)");
    snprintf(k->reason, sizeof k->reason, "%s", row->reason);
    snprintf(k->who, sizeof k->who, "%s", row->who);
    assert_true(k->len < 16);
    k->ids[k->len++] = row->id;
    return 0;
}

static struct kept_run got(int64_t id)
{
    struct kept_run k = {0};

    assert_int_equal(store_run_get(store, id, keep, &k), 0);
    return k;
}

static void moved(int64_t id, const char *to, int64_t now_us)
{
    struct store_run_update u = STORE_RUN_UPDATE_INIT;

    u.state = to;
    u.now_us = now_us;
    assert_int_equal(store_run_update(store, id, &u), 0);
}

/* ---- rows ------------------------------------------------------------------------------------ */

static void test_a_run_from_first_to_last(void **state)
{
    struct store_run_update u = STORE_RUN_UPDATE_INIT;
    int64_t id = added(model);
    struct kept_run k = got(id);

    (void)state;
    assert_string_equal(k.strategy, "joint");
    assert_string_equal(k.settings, "{\"epochs\":4}");
    assert_string_equal(k.state, "queued");
    assert_string_equal(k.phase, "waiting");
    assert_string_equal(k.progress, "");
    assert_string_equal(k.verdict, "(none)");
    assert_string_equal(k.who, "boss");
    assert_true(k.row.seed == UINT64_MAX);
    assert_int_equal(k.row.encoder, -1);
    assert_int_equal(k.row.since_seq, 7);
    assert_int_equal(k.row.created_us, 50);
    assert_int_equal(k.row.started_us, 0);
    assert_int_equal(k.row.updated_us, 50);

    moved(id, "running", 60);
    u.phase = "training";
    u.progress = "{\"loss\":1}";
    u.from_seq = 9;
    u.step = 3;
    u.steps = 12;
    u.now_us = 70;
    assert_int_equal(store_run_update(store, id, &u), 0);
    u = (struct store_run_update)STORE_RUN_UPDATE_INIT;
    u.step = 0; /* taken up again from its beginning: 0 is a value */
    u.encoder = 2;
    u.now_us = 80;
    assert_int_equal(store_run_update(store, id, &u), 0);
    moved(id, "running", 90); /* started once */
    k = got(id);
    assert_string_equal(k.state, "running");
    assert_string_equal(k.phase, "training");
    assert_string_equal(k.progress, "{\"loss\":1}");
    assert_int_equal(k.row.from_seq, 9);
    assert_int_equal(k.row.since_seq, 7);
    assert_int_equal(k.row.step, 0);
    assert_int_equal(k.row.steps, 12);
    assert_int_equal(k.row.encoder, 2);
    assert_int_equal(k.row.started_us, 60);
    assert_int_equal(k.row.ended_us, 0);

    u = (struct store_run_update)STORE_RUN_UPDATE_INIT;
    u.state = "accepted";
    u.verdict = "{\"good\":true}";
    u.reason = "better";
    u.now_us = 100;
    assert_int_equal(store_run_update(store, id, &u), 0);
    k = got(id);
    assert_string_equal(k.state, "accepted");
    assert_string_equal(k.verdict, "{\"good\":true}");
    assert_string_equal(k.reason, "better");
    assert_int_equal(k.row.ended_us, 100);
    assert_int_equal(k.row.updated_us, 100);
}

static void test_the_end_of_a_run_stays(void **state)
{
    struct store_run_update u = STORE_RUN_UPDATE_INIT;
    int64_t id = added(model);

    (void)state;
    moved(id, "running", 60);
    moved(id, "failed", 70);
    u.state = "running";
    u.now_us = 80;
    assert_int_equal(store_run_update(store, id, &u), -EALREADY);
    assert_int_equal(store_run_update(store, id + 1, &u), -ENOENT);
    assert_string_equal(got(id).state, "failed");
    assert_int_equal(got(id).row.updated_us, 70);
    u.state = NULL; /* but more can be said of it */
    u.reason = "the loss was not finite at step 3";
    assert_int_equal(store_run_update(store, id, &u), 0);
    assert_string_equal(got(id).reason, "the loss was not finite at step 3");
    assert_string_equal(got(id).state, "failed");
    assert_int_equal(got(id).row.ended_us, 70);
}

static void test_one_run_of_a_model_at_a_time(void **state)
{
    struct store_run_new run = run_of(model, 60);
    int64_t first = added(model), id = -1, other = model_added(store, "other");

    (void)state;
    assert_int_equal(store_run_add(store, &run, &id), -EEXIST);
    assert_int_equal(id, first);
    assert_true(added(other) > first); /* another model's waits its turn */
    moved(first, "running", 70);
    id = -1;
    assert_int_equal(store_run_add(store, &run, &id), -EEXIST);
    assert_int_equal(id, first);
    moved(first, "refused", 80);
    assert_int_equal(store_run_add(store, &run, &id), 0);
    assert_true(id > first);
    run.model = 99;
    assert_int_equal(store_run_add(store, &run, &id), -ENOENT);
}

static void test_cancelling(void **state)
{
    int64_t queued = added(model), running = added(model_added(store, "other"));

    (void)state;
    moved(running, "running", 60);
    assert_int_equal(store_run_cancel(store, queued, 70), 0);
    assert_string_equal(got(queued).state, "cancelled");
    assert_true(strlen(got(queued).reason) > 0);
    assert_int_equal(got(queued).row.ended_us, 70);
    assert_int_equal(store_run_cancel(store, queued, 71), -EALREADY);
    assert_int_equal(got(queued).row.ended_us, 70);

    assert_int_equal(store_run_cancel(store, running, 80), 0);
    assert_int_equal(store_run_cancel(store, running, 81), 0);
    assert_string_equal(got(running).state, "running"); /* it is asked */
    assert_true(got(running).row.cancel);
    assert_int_equal(got(running).row.ended_us, 0);
    moved(running, "cancelled", 90);
    assert_int_equal(store_run_cancel(store, running, 91), -EALREADY);
    assert_int_equal(store_run_cancel(store, 99, 91), -ENOENT);
}

static void test_what_to_do_next(void **state)
{
    struct kept_run k = {0};
    int64_t first, second;

    (void)state;
    assert_int_equal(store_run_next(store, keep, &k), -ENOENT);
    first = added(model);
    second = added(model_added(store, "other"));
    assert_int_equal(store_run_next(store, keep, &k), 0);
    assert_int_equal(k.row.id, first);
    moved(second, "running", 60); /* one that was under way comes first */
    assert_int_equal(store_run_next(store, keep, &k), 0);
    assert_int_equal(k.row.id, second);
    moved(second, "accepted", 70);
    assert_int_equal(store_run_next(store, keep, &k), 0);
    assert_int_equal(k.row.id, first);
    assert_int_equal(store_run_cancel(store, first, 80), 0);
    assert_int_equal(store_run_next(store, keep, &k), -ENOENT);
}

static void test_listing(void **state)
{
    int64_t other = model_added(store, "other"), ids[4];
    struct store_run_filter filter = {0};
    struct kept_run k = {0};

    (void)state;
    for (int i = 0; i < 3; i++) {
        ids[i] = added(model);
        moved(ids[i], i == 1 ? "refused" : "accepted", 60);
    }
    ids[3] = added(other);
    assert_int_equal(store_run_scan(store, &filter, keep, &k), 0);
    assert_int_equal(k.len, 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(k.ids[i], ids[3 - i]);
    filter = (struct store_run_filter){.model = model, .limit = 2};
    k.len = 0;
    assert_int_equal(store_run_scan(store, &filter, keep, &k), 0);
    assert_int_equal(k.len, 2);
    filter.before = k.ids[1];
    k.len = 0;
    assert_int_equal(store_run_scan(store, &filter, keep, &k), 0);
    assert_int_equal(k.len, 1);
    assert_int_equal(k.ids[0], ids[0]);
    filter = (struct store_run_filter){.states = "queued refused"};
    k.len = 0;
    assert_int_equal(store_run_scan(store, &filter, keep, &k), 0);
    assert_int_equal(k.len, 2);
    assert_int_equal(k.ids[0], ids[3]);
    assert_int_equal(k.ids[1], ids[1]);
}

static void test_runs_go_with_their_model(void **state)
{
    const struct store_run_metric m = {.step = 1, .loss = 1, .t_us = 1};
    int64_t id = added(model), next;
    struct kept_run k = {0};

    (void)state;
    assert_int_equal(store_run_metric_put(store, id, &m), 0);
    assert_int_equal(store_model_remove(store, model), 0);
    assert_int_equal(store_run_get(store, id, keep, &k), -ENOENT);
    model = model_added(store, "m");
    next = added(model);
    assert_true(next > id); /* no number twice */
    assert_int_equal(store_integrity(store), 0);
}

/* ---- metrics --------------------------------------------------------------------------------- */

struct curve {
    struct store_run_metric rows[STORE_RUN_METRICS_MAX + 1];
    int len;
};

static int keep_metric(void *ud, const struct store_run_metric *row)
{
    struct curve *c = ud;

    assert_true(c->len <= STORE_RUN_METRICS_MAX);
    if (c->len > 0)
        assert_true(row->step > c->rows[c->len - 1].step);
    c->rows[c->len++] = *row;
    return 0;
}

static void test_metrics(void **state)
{
    static struct curve c;
    struct store_run_metric m = {.step = 2, .loss = 0.5, .grad_norm = 3, .lr = 1e-4, .t_us = 9};
    int64_t id = added(model);

    (void)state;
    c.len = 0;
    assert_int_equal(store_run_metric_put(store, id, &m), 0);
    m.step = 1;
    m.loss = NAN; /* as the run that it fails */
    m.grad_norm = INFINITY;
    assert_int_equal(store_run_metric_put(store, id, &m), 0);
    m.step = 2;
    m.loss = 0.25;
    assert_int_equal(store_run_metric_put(store, id, &m), 0);
    assert_int_equal(store_run_metric_put(store, id + 1, &m), -ENOENT);
    assert_int_equal(store_run_metric_scan(store, id, keep_metric, &c), 0);
    assert_int_equal(c.len, 2);
    assert_int_equal(c.rows[0].step, 1);
    assert_true(isnan(c.rows[0].loss) && isnan(c.rows[0].grad_norm));
    assert_true(c.rows[0].lr == 1e-4 && c.rows[0].t_us == 9);
    assert_true(c.rows[1].loss == 0.25);
}

/* However many steps: few rows, from the first step to the last, without a hole in the middle. */
static void test_metrics_stay_few(void **state)
{
    enum { STEPS = 5 * STORE_RUN_METRICS_MAX };
    static struct curve c;
    int64_t id = added(model);

    (void)state;
    c.len = 0;
    assert_int_equal(store_begin(store), 0);
    for (int i = 1; i <= STEPS; i++) {
        const struct store_run_metric m = {.step = i, .loss = i, .t_us = i};

        assert_int_equal(store_run_metric_put(store, id, &m), 0);
    }
    assert_int_equal(store_commit(store), 0);
    assert_int_equal(store_run_metric_scan(store, id, keep_metric, &c), 0);
    assert_int_equal(c.len, STORE_RUN_METRICS_MAX);
    assert_int_equal(c.rows[0].step, 1);
    assert_int_equal(c.rows[c.len - 1].step, STEPS);
    for (int i = 1; i < c.len; i++)
        assert_true(c.rows[i].step - c.rows[i - 1].step <= 16);
}

/* ---- images ---------------------------------------------------------------------------------- */

static int write_image(int64_t run, const char *first, const char *second)
{
    const struct store_piece pieces[] = {{first, strlen(first)}, {second, strlen(second)}};
    char why[256] = "";
    int rc = store_run_image_write(folder, run, pieces, 2, why, sizeof why);

    assert_int_equal(rc != 0, why[0] != '\0');
    return rc;
}

static void image_is(int64_t run, const char *wanted)
{
    void *image = NULL;
    size_t bytes = 0;

    assert_int_equal(store_run_image_read(folder, run, &image, &bytes), 0);
    assert_int_equal(bytes, strlen(wanted));
    assert_memory_equal(image, wanted, bytes);
    free(image);
}

static int image_state(int64_t run)
{
    void *image = NULL;
    size_t bytes = 0;
    int rc = store_run_image_read(folder, run, &image, &bytes);

    free(image);
    return rc;
}

static void test_images(void **state)
{
    size_t len;
    char *bytes;

    (void)state;
    assert_int_equal(image_state(3), -ENOENT);
    assert_int_equal(store_run_image_remove(folder, 3), 0);
    assert_int_equal(write_image(3, "where ", "it was"), 0);
    image_is(3, "where it was");
    assert_int_equal(write_image(3, "", "later"), 0);
    image_is(3, "later");
    bytes = file_read(folder, "encoders/run-3.ckpt", &len);
    assert_non_null(bytes);
    for (size_t i = 0; i < len; i++) { /* any byte that is another */
        bytes[i] ^= 1;
        file_write(folder, "encoders/run-3.ckpt", bytes, len);
        assert_int_equal(image_state(3), -EUCLEAN);
        bytes[i] ^= 1;
    }
    for (size_t i = 1; i < len; i++) { /* or the end cut off */
        file_write(folder, "encoders/run-3.ckpt", bytes, i);
        assert_int_equal(image_state(3), -EUCLEAN);
    }
    free(bytes);
    assert_int_equal(store_run_image_remove(folder, 3), 0);
    assert_int_equal(image_state(3), -ENOENT);
}

static void limit_files(rlim_t bytes)
{
    const struct rlimit limit = {bytes, RLIM_INFINITY};

    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* A disk that is full at any byte: the image before is the one that is there. */
static void test_a_full_disk_under_an_image(void **state)
{
    size_t len = 0;

    (void)state;
    assert_int_equal(write_image(3, "the old ", "one"), 0);
    free(file_read(folder, "encoders/run-3.ckpt", &len));
    for (size_t n = 0; n < len; n++) {
        int rc;

        limit_files(n);
        rc = write_image(3, "the new ", "one");
        limit_files(RLIM_INFINITY);
        assert_int_equal(rc, -EFBIG);
        image_is(3, "the old one");
        assert_null(file_read(folder, "encoders/run-3.ckpt.new", &(size_t){0}));
    }
    assert_int_equal(write_image(3, "the new ", "one"), 0);
    image_is(3, "the new one");
}

/* Images of runs that go on survive a start; what a killed process left of others does not. */
static void test_images_are_swept(void **state)
{
    int64_t id = added(model);
    char *readme;

    (void)state;
    moved(id, "running", 60);
    assert_int_equal(write_image(id, "goes ", "on"), 0);
    assert_int_equal(write_image(id + 1, "of no ", "run"), 0);
    file_write(folder, "encoders/run-1.ckpt.new", "half", 4);
    file_write(folder, "encoders/README", "not ours", 8);
    assert_int_equal(store_encoder_sweep(store), 0);
    image_is(id, "goes on");
    assert_int_equal(image_state(id + 1), -ENOENT);
    store_close(store);
    store = opened(folder, STORE_WRITER);
    image_is(id, "goes on");
    assert_null(file_read(folder, "encoders/run-1.ckpt.new", &(size_t){0}));
    moved(id, "accepted", 70);
    assert_int_equal(store_encoder_sweep(store), 0);
    assert_int_equal(image_state(id), -ENOENT);
    readme = file_read(folder, "encoders/README", &(size_t){0});
    assert_non_null(readme);
    free(readme);
}

static int64_t ended(int64_t of, const char *state, int64_t now_us)
{
    struct store_run_update update = STORE_RUN_UPDATE_INIT;
    struct store_run_metric metric = {.step = 1, .loss = 1, .t_us = now_us};
    int64_t id = added(of);

    update.state = state;
    update.now_us = now_us;
    assert_int_equal(store_run_metric_put(store, id, &metric), 0);
    metric.step = 2;
    assert_int_equal(store_run_metric_put(store, id, &metric), 0);
    assert_int_equal(store_run_update(store, id, &update), 0);
    return id;
}

static int note_id(void *ud, const struct store_run *row)
{
    uint64_t *ids = ud;

    *ids |= (uint64_t)1 << row->id;
    return 0;
}

static uint64_t ids_left(void)
{
    static const struct store_run_filter all = {0};
    uint64_t ids = 0;

    assert_int_equal(store_run_scan(store, &all, note_id, &ids), 0);
    return ids;
}

/* Old ones go with their curves; what something still rests on stays. */
static void test_forgetting(void **state)
{
    uint8_t hash[STORE_HASH_BYTES] = {1};
    struct store_encoder made = {.model = model, .parent = 0, .origin = "joint", .dim = 8};
    int64_t other = model_added(store, "other"), encoder, ids[8], added_last;
    uint64_t runs = 9, metrics = 9;

    (void)state;
    assert_int_equal(store_encoder_claim(store, hash, 1, &encoder), 0);
    ids[0] = ended(model, "refused", 100);
    ids[1] = ended(model, "accepted", 110); /* its encoder is held */
    made.run = ids[1];
    made.sha256[0] = 2;
    assert_int_equal(store_encoder_add(store, &made, &encoder), 0);
    assert_int_equal(store_live_set(store, model, encoder, ids[1], "run", 111), 0);
    assert_int_equal(store_live_set(store, model, 0, -1, "rollback", 112), 0);
    ids[2] = ended(model, "accepted", 120); /* the last accepted one */
    ids[3] = ended(model, "failed", 130);
    ids[4] = ended(model, "cancelled", 140); /* the last one */
    ids[5] = ended(other, "refused", 100);   /* the only one of its model */
    assert_int_equal(store_run_forget(store, 100, &runs, &metrics), 0);
    assert_true(runs == 0 && metrics == 0);
    assert_int_equal(store_run_forget(store, 131, &runs, &metrics), 0);
    assert_true(runs == 2 && metrics == 4);
    assert_true(ids_left() == ((uint64_t)1 << ids[1] | (uint64_t)1 << ids[2] |
                               (uint64_t)1 << ids[4] | (uint64_t)1 << ids[5]));
    added_last = added(model); /* one under way is not old */
    assert_int_equal(store_run_forget(store, INT64_MAX, &runs, &metrics), 0);
    assert_int_equal(runs, 1); /* what was the last one */
    assert_true((ids_left() & (uint64_t)1 << added_last) != 0);
    assert_true(added_last > ids[5]); /* no id is given again */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_STORE(test_a_run_from_first_to_last),
        IN_STORE(test_the_end_of_a_run_stays),
        IN_STORE(test_one_run_of_a_model_at_a_time),
        IN_STORE(test_cancelling),
        IN_STORE(test_what_to_do_next),
        IN_STORE(test_listing),
        IN_STORE(test_runs_go_with_their_model),
        IN_STORE(test_metrics),
        IN_STORE(test_metrics_stay_few),
        IN_STORE(test_images),
        IN_STORE(test_a_full_disk_under_an_image),
        IN_STORE(test_forgetting),
        IN_STORE(test_images_are_swept),
    };

    signal(SIGXFSZ, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
