/* test_learn_trainer.c -- runs from queue to verdict on a tiny encoder: what they leave behind, how
 * they are interrupted, refused, forced, sent back and undone.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/learn/succession.h"
#include "daemon/learn/trainer.h"
#include "daemon/learn/weights_hash.h"
#include "tests/unit/learning_fixture.h"
#include "tests/unit/own_folder.h"

#define BASE "tests/golden/tiny-encoder"

enum { EACH = 130 };

static struct trainer_settings run_settings;

static int set_up(void **state)
{
    folder_set_up(state);
    run_settings = (struct trainer_settings){
        .epochs = 2, .steps_max = 24, .batch = 8, .margin = 0.2, .force = false};
    train_settings_default(&run_settings.train);
    return 0;
}

/* ---- a world with a trainer ------------------------------------------------------------------ */

struct school {
    struct world w;
    struct store *store; /* the trainer's */
    struct trainer_parts parts;
    struct trainer *trainer;
    uint8_t base_sha256[STORE_HASH_BYTES];
};

static int settings_read(const char *text, struct trainer_settings *ret_settings)
{
    if (strcmp(text, "damaged") == 0)
        return -EINVAL;
    *ret_settings = run_settings;
    return 0;
}

static char *progress_write(const struct trainer_progress *p)
{
    char text[160];

    snprintf(text, sizeof text, "examples %llu held_out %llu labels %u resumed %d",
             (unsigned long long)p->examples, (unsigned long long)p->held_out, p->labels,
             p->resumed);
    return strdup(text);
}

static char *verdict_write(const struct gate_verdict *v, double margin, bool forced,
                           const struct live_labels *labels)
{
    char text[160];

    (void)margin;
    (void)forced;
    assert_true(labels->len >= WORLD_LABELS);
    snprintf(text, sizeof text, "accepted %d items %llu", v->accepted,
             (unsigned long long)v->items);
    return strdup(text);
}

struct simple_change {
    struct change change; /* first */
    int (*act)(struct store *store, void *ud);
    void *ud;
    sem_t ready;
    int rc;
};

static int simple_write(struct change *change, struct store *store)
{
    struct simple_change *c = (struct simple_change *)change;

    return c->act(store, c->ud);
}

static void simple_done(struct change *change, int rc)
{
    struct simple_change *c = (struct simple_change *)change;

    c->rc = rc;
    sem_post(&c->ready);
}

/* On the keeper's thread, and durable. */
static int keep(struct school *s, int (*act)(struct store *, void *), void *ud)
{
    struct simple_change c = {
        .change = {.write = simple_write, .done = simple_done}, .act = act, .ud = ud};

    sem_init(&c.ready, 0, 0);
    assert_int_equal(keeper_post(s->w.keeper, &c.change), 0);
    while (sem_wait(&c.ready) != 0)
        continue;
    sem_destroy(&c.ready);
    return c.rc;
}

static void begin_training(struct school *s)
{
    assert_int_equal(trainer_open(&s->parts, &s->trainer), 0);
}

static int claim(struct store *store, void *ud)
{
    int64_t number;

    return store_encoder_claim(store, ud, 1, &number);
}

static void school_open(struct school *s, bool training)
{
    char why[256];

    memset(s, 0, sizeof *s);
    world_open(&s->w, folder, true);
    assert_int_equal(weights_hash(BASE, why, sizeof why, s->base_sha256), 0);
    assert_int_equal(keep(s, claim, s->base_sha256), 0);
    s->store = opened(folder, STORE_READER);
    s->parts = (struct trainer_parts){.learner = s->w.parts,
                                      .to = s->w.learner,
                                      .base = BASE,
                                      .base_sha256 = s->base_sha256,
                                      .threads = 1,
                                      .fp32 = true,
                                      .encoders_kept = 4,
                                      .settings_text = "",
                                      .look_us = 50000,
                                      .settings_read = settings_read,
                                      .progress_write = progress_write,
                                      .verdict_write = verdict_write};
    s->parts.learner.store = s->store;
    if (training)
        begin_training(s);
}

static void school_close(struct school *s)
{
    trainer_close(s->trainer);
    world_close(&s->w);
    store_close(s->store);
}

static void teach_all(struct school *s, uint32_t each)
{
    char text[64];

    for (uint32_t i = 0; i < each * WORLD_LABELS; i++) {
        world_text(i % WORLD_LABELS, i / WORLD_LABELS, text);
        world_teach(&s->w, i % WORLD_LABELS, text);
    }
}

static int add_run(struct store *store, void *ud)
{
    int64_t id;

    return store_run_add(store, ud, &id);
}

static void queue(struct school *s, const char *strategy, const char *settings)
{
    struct store_run_new run = {.model = s->w.model,
                                .strategy = strategy,
                                .settings = settings,
                                .who = "test",
                                .seed = 3,
                                .now_us = 5};

    assert_int_equal(keep(s, add_run, &run), 0);
    trainer_hint(s->trainer);
}

struct seen_run {
    char state[16], phase[16], progress[160], verdict[160], who[32];
    char reason[STORE_REASON_BYTES_MAX + 1];
    int64_t id, encoder, step, steps, from_seq;
};

static int see_run(void *ud, const struct store_run *row)
{
    struct seen_run *r = ud;

    *r = (struct seen_run){.id = row->id,
                           .encoder = row->encoder,
                           .step = row->step,
                           .steps = row->steps,
                           .from_seq = row->from_seq};
    snprintf(r->state, sizeof r->state, "%s", row->state);
    snprintf(r->phase, sizeof r->phase, "%s", row->phase);
    snprintf(r->progress, sizeof r->progress, "%s", row->progress);
    snprintf(r->verdict, sizeof r->verdict, "%s", row->verdict != NULL ? row->verdict : "");
    snprintf(r->reason, sizeof r->reason, "%s", row->reason);
    snprintf(r->who, sizeof r->who, "%s", row->who);
    return 1;
}

/* The newest run as the store has it now. */
static struct seen_run newest(struct school *s)
{
    const struct store_run_filter filter = {.limit = 1};
    struct seen_run r = {.id = 0};
    struct store *store = opened(folder, STORE_READER);

    (void)s;
    assert_int_equal(store_run_scan(store, &filter, see_run, &r), 1);
    store_close(store);
    return r;
}

static bool ended(const struct seen_run *r)
{
    return strcmp(r->state, "queued") != 0 && strcmp(r->state, "running") != 0;
}

static void nap(void)
{
    const struct timespec moment = {.tv_nsec = 2000000};

    nanosleep(&moment, NULL);
}

static struct seen_run finished(struct school *s)
{
    struct seen_run r = newest(s);

    while (!ended(&r)) {
        nap();
        r = newest(s);
    }
    return r;
}

static int64_t live_encoder(struct school *s)
{
    struct snapshot *now = live_get_by_id(s->w.live, s->w.model);
    int64_t number = now->encoder->number;

    live_put(now);
    return number;
}

static void wait_encoder(struct school *s, int64_t number)
{
    while (live_encoder(s) != number)
        nap();
}

static void hash_of(int64_t encoder, uint8_t hash[STORE_HASH_BYTES])
{
    char path[STORE_PATH_BYTES], why[256];

    assert_int_equal(store_encoder_folder(folder, encoder, path), 0);
    if (weights_hash(path, why, sizeof why, hash) != 0)
        fail_msg("%s", why);
}

static uint32_t right(struct school *s)
{
    uint32_t right = 0;
    char text[64];
    double p[WORLD_LABELS];

    for (uint32_t i = 0; i < 30; i++) {
        uint32_t label = i % WORLD_LABELS;

        world_text(label, 200 + i, text);
        world_ask(&s->w, text, p, NULL);
        for (uint32_t l = 0; l < WORLD_LABELS; l++)
            if (l != label && p[l] >= p[label])
                goto wrong;
        right++;
    wrong:;
    }
    return right;
}

/* ---- a run ----------------------------------------------------------------------------------- */

static void test_a_run_from_end_to_end(void **state)
{
    struct school s;
    struct seen_run r;
    uint8_t hash[STORE_HASH_BYTES];
    uint32_t before;

    (void)state;
    school_open(&s, true);
    teach_all(&s, EACH);
    before = right(&s);
    queue(&s, "joint", "");
    r = finished(&s);
    assert_string_equal(r.state, "accepted");
    assert_string_equal(r.phase, "done");
    assert_int_equal(r.steps, 24);
    assert_int_equal(r.encoder, 1);
    assert_true(r.from_seq > 0);
    assert_non_null(strstr(r.verdict, "accepted 1"));
    assert_non_null(strstr(r.progress, "labels 3 resumed 0"));
    wait_encoder(&s, 1);
    hash_of(1, hash);
    assert_memory_not_equal(hash, s.base_sha256, sizeof hash);
    assert_true(right(&s) + 2 >= before);
    /* What is taught from here on counts at once, as ever. */
    world_teach(&s.w, 2, "hello hello card");
    assert_int_equal(live_encoder(&s), 1);
    school_close(&s);

    school_open(&s, true); /* and it is still there tomorrow */
    assert_int_equal(live_encoder(&s), 1);
    assert_true(right(&s) + 2 >= before);
    school_close(&s);
}

static void test_the_same_run_makes_the_same_weights(void **state)
{
    struct school s;
    uint8_t first[STORE_HASH_BYTES], second[STORE_HASH_BYTES];

    (void)state;
    school_open(&s, true);
    teach_all(&s, EACH);
    queue(&s, "joint", "");
    (void)finished(&s);
    hash_of(1, first);
    school_close(&s);
    folder_renew();
    school_open(&s, true);
    for (uint32_t i = EACH * WORLD_LABELS; i-- > 0;) { /* taught in the other order */
        char text[64];

        world_text(i % WORLD_LABELS, i / WORLD_LABELS, text);
        world_teach(&s.w, i % WORLD_LABELS, text);
    }
    queue(&s, "joint", "");
    (void)finished(&s);
    hash_of(1, second);
    assert_memory_equal(first, second, sizeof first);
    school_close(&s);
}

static void test_a_stopped_run_goes_on_and_ends_in_the_same_bits(void **state)
{
    struct school s;
    struct seen_run r;
    uint8_t whole[STORE_HASH_BYTES], pieces[STORE_HASH_BYTES];
    int lives = 0;

    (void)state;
    run_settings.steps_max = 1500; /* long enough to be met in the middle */
    run_settings.epochs = 100;
    school_open(&s, true);
    teach_all(&s, EACH);
    queue(&s, "joint", "");
    (void)finished(&s);
    hash_of(1, whole);
    school_close(&s);
    folder_renew();
    school_open(&s, true);
    teach_all(&s, EACH);
    queue(&s, "joint", "");
    do {
        while (trainer_counts(s.trainer).steps < 40 && !ended(&r))
            r = newest(&s);
        trainer_close(s.trainer);
        begin_training(&s);
        r = newest(&s);
        lives++;
    } while (!ended(&r) && lives < 3);
    r = finished(&s);
    assert_string_equal(r.state, "accepted");
    assert_true(lives > 1);
    assert_non_null(strstr(r.progress, "resumed 1"));
    hash_of(1, pieces);
    assert_memory_equal(whole, pieces, sizeof whole);
    school_close(&s);
}

static int cancel_run(struct store *store, void *ud)
{
    return store_run_cancel(store, *(int64_t *)ud, 9);
}

static void test_cancelling(void **state)
{
    struct school s;
    struct seen_run r;

    (void)state;
    run_settings.steps_max = 100000;
    run_settings.epochs = 10000;
    school_open(&s, true);
    teach_all(&s, EACH);
    queue(&s, "joint", "");
    while (trainer_counts(s.trainer).steps < 3)
        nap();
    r = newest(&s);
    assert_int_equal(keep(&s, cancel_run, &r.id), 0);
    trainer_hint(s.trainer);
    r = finished(&s);
    assert_string_equal(r.state, "cancelled");
    assert_int_equal(live_encoder(&s), 0);
    assert_int_equal(trainer_counts(s.trainer).cancelled, 1);
    school_close(&s);
}

/* ---- runs that fail -------------------------------------------------------------------------- */

static void fails(struct school *s, const char *strategy, const char *settings, const char *why)
{
    struct seen_run r;

    queue(s, strategy, settings);
    r = finished(s);
    assert_string_equal(r.state, "failed");
    if (strstr(r.reason, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", r.reason, why);
    assert_int_equal(live_encoder(s), 0);
}

static void test_runs_that_cannot_be(void **state)
{
    struct school s;

    (void)state;
    school_open(&s, true);
    fails(&s, "joint", "", "too few labels");
    for (uint32_t i = 0; i < 8; i++) {
        char text[64];

        world_text(i % 2, i, text);
        world_teach(&s.w, i % 2, text);
    }
    fails(&s, "joint", "", "more are needed");
    fails(&s, "joint", "damaged", "settings");
    snprintf(run_settings.folder, sizeof run_settings.folder, "/nowhere");
    fails(&s, "import", "", "/nowhere");
    assert_int_equal(trainer_counts(s.trainer).failed, 4);
    school_close(&s);
}

/* The disk takes no weights: there is a file where the folder should be. */
static void test_no_place_for_weights(void **state)
{
    struct school s;
    char path[FOLDER_BYTES + 16];

    (void)state;
    school_open(&s, true);
    teach_all(&s, 20);
    snprintf(path, sizeof path, "%s/encoders", folder);
    assert_int_equal(rmdir(path), 0);
    file_write(folder, "encoders", "x", 1);
    fails(&s, "joint", "", "encoders");
    assert_int_equal(unlink(path), 0);
    school_close(&s);
}

/* ---- the gate, and ways back ----------------------------------------------------------------- */

/* A folder whose weights are noise of this size: sound files, useless embeddings. */
static void spoil(char ret_folder[FOLDER_BYTES + 16], double size)
{
    static const char *const names[] = {"config.json", "tokenizer.json",
                                        "sentence_bert_config.json", "model.safetensors"};
    char *bytes;
    size_t len, header;

    snprintf(ret_folder, FOLDER_BYTES + 16, "%s-spoiled", folder);
    assert_int_equal(mkdir(ret_folder, 0700), 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        bytes = file_read(BASE, names[i], &len);
        if (bytes == NULL)
            continue;
        if (strcmp(names[i], "model.safetensors") == 0) {
            uint64_t word = 1;

            memcpy(&header, bytes, 8);
            for (size_t at = 8 + header; at + 4 <= len; at += 4) {
                float f;

                word = word * 6364136223846793005u + 1442695040888963407u;
                f = (float)(((double)(word >> 40) / 16777216.0 - 0.5) * size);
                memcpy(bytes + at, &f, 4);
            }
        }
        file_write(ret_folder, names[i], bytes, len);
        free(bytes);
    }
}

static void test_weights_that_overflow(void **state)
{
    struct school s;
    char spoiled[FOLDER_BYTES + 16];
    uint32_t before;

    (void)state;
    spoil(spoiled, 1e30);
    snprintf(run_settings.folder, sizeof run_settings.folder, "%s", spoiled);
    run_settings.force = true;
    school_open(&s, true);
    teach_all(&s, 20);
    before = right(&s);
    fails(&s, "import", "", "not a number");
    assert_int_equal(right(&s), before); /* the old pair serves */
    school_close(&s);
    folder_remove(spoiled);
}

static int set_live(struct store *store, void *ud)
{
    const int64_t *which = ud;

    return store_live_set(store, which[0], which[1], -1, "rollback", 77);
}

static void test_the_gate_refuses_probation_sends_back(void **state)
{
    struct school s;
    struct seen_run r;
    char spoiled[FOLDER_BYTES + 16];

    (void)state;
    spoil(spoiled, 0.2);
    snprintf(run_settings.folder, sizeof run_settings.folder, "%s", spoiled);
    run_settings.margin = 0.005;
    school_open(&s, true);
    teach_all(&s, EACH);
    queue(&s, "import", "");
    r = finished(&s);
    assert_string_equal(r.state, "refused");
    assert_non_null(strstr(r.verdict, "accepted 0"));
    assert_non_null(strstr(r.reason, "accuracy"));
    assert_int_equal(live_encoder(&s), 0);

    run_settings.force = true; /* somebody knows better */
    queue(&s, "import", "");
    r = finished(&s);
    assert_string_equal(r.state, "accepted");
    assert_non_null(strstr(r.reason, "forced against"));
    assert_true(r.encoder > 0);
    wait_encoder(&s, r.encoder);
    for (uint32_t i = 0; i < 400 && live_encoder(&s) != 0; i++) { /* and life shows */
        char text[64];

        world_text(i % WORLD_LABELS, 500 + i, text);
        world_teach(&s.w, i % WORLD_LABELS, text);
    }
    assert_int_equal(live_encoder(&s), 0);
    do { /* the store is told a moment later */
        nap();
        r = newest(&s);
    } while (strstr(r.reason, "worse on live corrections") == NULL);
    school_close(&s);
    school_open(&s, true);
    assert_int_equal(live_encoder(&s), 0);
    school_close(&s);
    folder_remove(spoiled);
}

static void test_back_and_forwards_by_hand(void **state)
{
    struct school s;
    int64_t which[2];
    uint32_t at_one;

    (void)state;
    school_open(&s, true);
    which[0] = s.w.model;
    teach_all(&s, EACH);
    queue(&s, "joint", "");
    (void)finished(&s);
    wait_encoder(&s, 1);
    at_one = right(&s);
    for (int i = 0; i < 3; i++) {
        which[1] = i % 2;
        assert_int_equal(keep(&s, set_live, which), 0);
        trainer_hint(s.trainer);
        wait_encoder(&s, which[1]);
        world_teach(&s.w, 0, i == 0 ? "card one" : i == 1 ? "card two" : "card three");
        assert_int_equal(live_encoder(&s), which[1]);
    }
    which[1] = 1;
    assert_int_equal(keep(&s, set_live, which), 0);
    trainer_hint(s.trainer);
    wait_encoder(&s, 1);
    assert_true(abs((int)right(&s) - (int)at_one) <= 2);
    assert_int_equal(trainer_counts(s.trainer).failed, 0);
    school_close(&s);
}

/* The other strategies end, and leave a model that works. */
static void test_strategies(void **state)
{
    static const char *const strategies[] = {"replay", "naive", "head"};
    struct school s;

    (void)state;
    run_settings.margin = 1;
    school_open(&s, true);
    teach_all(&s, EACH);
    for (int i = 0; i < 3; i++) {
        struct seen_run r;

        queue(&s, strategies[i], "");
        r = finished(&s);
        if (strcmp(r.state, "accepted") != 0)
            fail_msg("%s: %s: %s", strategies[i], r.state, r.reason);
        wait_encoder(&s, r.encoder);
        assert_true(right(&s) >= 20);
    }
    school_close(&s);
}

static int count_run(void *ud, const struct store_run *row)
{
    (void)row;
    ++*(int *)ud;
    return 0;
}

static int runs(void)
{
    const struct store_run_filter all = {.model = 0};
    struct store *store = opened(folder, STORE_READER);
    int len = 0;

    assert_int_equal(store_run_scan(store, &all, count_run, &len), 0);
    store_close(store);
    return len;
}

/* By itself after 200 new examples, and not again before there is reason to. */
static void test_a_run_starts_by_itself(void **state)
{
    struct school s;
    struct seen_run r;

    (void)state;
    run_settings.margin = 1;
    school_open(&s, false);
    s.parts.automatic = true;
    begin_training(&s);
    teach_all(&s, 60); /* 180: too few */
    for (int i = 0; i < 100; i++)
        nap();
    assert_int_equal(runs(), 0);
    teach_all(&s, 80);
    while (runs() == 0)
        nap();
    r = finished(&s);
    assert_string_equal(r.who, "new_examples");
    assert_true(strcmp(r.state, "accepted") == 0 || strcmp(r.state, "refused") == 0);
    for (int i = 0; i < 150; i++) /* some looks later */
        nap();
    assert_int_equal(runs(), 1);
    school_close(&s);
}

static int count_held(void *ud, const struct store_encoder *row)
{
    int *held = ud;

    *held += strcmp(row->state, "held") == 0;
    return 0;
}

/* What was live just before stays, however old: a probation may go back to it. */
static void test_the_one_before_is_held(void **state)
{
    int64_t back[2];
    struct school s;
    char path[STORE_PATH_BYTES];

    (void)state;
    run_settings.margin = 1;
    run_settings.steps_max = 2;
    school_open(&s, false);
    s.parts.encoders_kept = 1;
    begin_training(&s);
    teach_all(&s, EACH);
    for (int64_t i = 1; i <= 2; i++) {
        queue(&s, "naive", "");
        assert_string_equal(finished(&s).state, "accepted");
        wait_encoder(&s, i);
    }
    back[0] = s.w.model;
    back[1] = 1;
    assert_int_equal(keep(&s, set_live, back), 0);
    trainer_hint(s.trainer);
    wait_encoder(&s, 1);
    world_teach(&s.w, 0, "one card more"); /* else the weights would be those of 2 again */
    queue(&s, "naive", "");
    assert_string_equal(finished(&s).state, "accepted");
    wait_encoder(&s, 3);
    assert_int_equal(store_encoder_folder(folder, 2, path), 0);
    while (access(path, F_OK) == 0)
        nap();
    assert_int_equal(store_encoder_folder(folder, 1, path) + access(path, F_OK), 0);
    school_close(&s);
}

/* Of many versions those that were live last stay; what is gone leaves no files and no embeddings.
 */
static void test_what_is_held(void **state)
{
    struct school s;
    struct store *store;
    char path[STORE_PATH_BYTES];
    int held = 0;
    bool more;

    (void)state;
    run_settings.margin = 1;
    run_settings.steps_max = 2;
    school_open(&s, true);
    teach_all(&s, EACH);
    for (int64_t i = 1; i <= 7; i++) {
        queue(&s, "naive", "");
        assert_string_equal(finished(&s).state, "accepted");
        wait_encoder(&s, i);
    }
    assert_int_equal(store_encoder_folder(folder, 2, path), 0);
    while (access(path, F_OK) == 0) /* the files go last */
        nap();
    trainer_close(s.trainer);
    s.trainer = NULL;
    store = opened(folder, STORE_READER);
    assert_int_equal(store_encoder_scan(store, s.w.model, count_held, &held), 0);
    store_close(store);
    assert_int_equal(held, 4);
    for (int64_t i = 1; i <= 7; i++) {
        assert_int_equal(store_encoder_folder(folder, i, path), 0);
        assert_int_equal(access(path, F_OK), i <= 2 ? -1 : 0);
    }
    school_close(&s);
    store = opened(folder, STORE_WRITER);
    for (int64_t i = 1; i <= 3; i++) {
        assert_int_equal(store_begin(store), 0);
        assert_int_equal(store_embedding_drop(store, i, 1, &more), 0);
        assert_int_equal(more, i == 3); /* one was there, and others behind it */
        assert_int_equal(store_rollback(store), 0);
    }
    store_close(store);
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, folder_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_a_run_from_end_to_end),
        EACH(test_the_same_run_makes_the_same_weights),
        EACH(test_a_stopped_run_goes_on_and_ends_in_the_same_bits),
        EACH(test_cancelling),
        EACH(test_runs_that_cannot_be),
        EACH(test_weights_that_overflow),
        EACH(test_no_place_for_weights),
        EACH(test_the_gate_refuses_probation_sends_back),
        EACH(test_back_and_forwards_by_hand),
        EACH(test_strategies),
        EACH(test_a_run_starts_by_itself),
        EACH(test_the_one_before_is_held),
        EACH(test_what_is_held),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
