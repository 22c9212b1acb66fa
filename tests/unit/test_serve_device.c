/* test_serve_device.c -- which device is chosen, and when it is given up; encoders and lanes on one
 * that fails: never a wrong answer, and none at all for as short as can be.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/learn/embed.h"
#include "daemon/limits.h"
#include "daemon/serve/lane.h"
#include "tests/unit/fake_fixture.h"

#define BASE "tests/golden/tiny-encoder"
#define OTHER "tests/golden/tiny-encoder-cls-f16"

enum { DIM = 32, TEXTS = 12, LANES = 2 };

/* ---- what is told ---------------------------------------------------------------------------- */

struct told {
    char codes[256];
    char text[DEVICE_WHY_BYTES]; /* the last one */
};

static pthread_mutex_t telling = PTHREAD_MUTEX_INITIALIZER;

static void tell(void *ud, const char *code, const char *text)
{
    struct told *t = ud;
    size_t at;

    pthread_mutex_lock(&telling);
    at = strlen(t->codes);
    snprintf(t->codes + at, sizeof t->codes - at, "%s%s", at > 0 ? " " : "", code);
    snprintf(t->text, sizeof t->text, "%s", text);
    pthread_mutex_unlock(&telling);
}

static struct device *device_of(const char *choice, struct told *t)
{
    struct device *d;

    *t = (struct told){0};
    assert_int_equal(device_choice_check(choice), 0);
    assert_int_equal(device_open(choice, tell, t, &d), 0);
    return d;
}

static struct device *fake_device(struct told *t)
{
    char choice[4200];

    fake_fixture_open(); /* sets up its control file */
    snprintf(choice, sizeof choice, "plugin:%s:0", fake_fixture_path());
    return device_of(choice, t);
}

/* ---- the choice ------------------------------------------------------------------------------ */

static void test_choices(void **state)
{
    static const struct {
        const char *choice;
        int rc;
    } rows[] = {
        {"auto", 0},           {"cpu", 0},           {"cuda:0", 0},         {"cuda:63", 0},
        {"plugin:/x", 0},      {"plugin:/x:1", 0},   {"", -EINVAL},         {"gpu", -EINVAL},
        {"cuda", -EINVAL},     {"cuda:", -EINVAL},   {"CPU", -EINVAL},      {"cuda:64", -EINVAL},
        {"cuda:-1", -EINVAL},  {"cuda:0x", -EINVAL}, {"cuda:000", -EINVAL}, {"plugin:", -EINVAL},
        {"plugin::0", -EINVAL}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (device_choice_check(rows[i].choice) != rows[i].rc)
            fail_msg("\"%s\"", rows[i].choice);
}

static void expect_cpu(const char *choice, bool degraded, const char *says)
{
    struct device_report r;
    struct told t;
    struct device *d = device_of(choice, &t);

    assert_ptr_equal(device_backend(d), backend_cpu());
    device_read(d, &r);
    assert_string_equal(r.name, "cpu");
    assert_int_equal(r.degraded, degraded);
    assert_int_equal(r.memory_total, 0);
    if (says == NULL) {
        assert_string_equal(t.codes, "");
        assert_string_equal(r.why, "");
    } else {
        assert_string_equal(t.codes, "device_unavailable"); /* once */
        if (strstr(t.text, says) == NULL || strstr(r.why, says) == NULL)
            fail_msg("%s: %s", choice, t.text);
        assert_non_null(strstr(t.text, "the CPU is used"));
    }
    device_lose(d, "nothing to lose"); /* the CPU is not given up */
    assert_false(device_lost(d));
    device_close(d);
}

static void test_the_cpu_where_there_is_no_device(void **state)
{
    char choice[4200];

    (void)state;
    expect_cpu("cpu", false, NULL);
    expect_cpu("auto", false, "there is no learnd-cuda.so");
    expect_cpu("cuda:3", true, "there is no learnd-cuda.so");
    expect_cpu("plugin:/nowhere/x.so", true, "/nowhere/x.so");
    expect_cpu("plugin:libm.so.6", true, "libm.so.6 is no backend");
    fake_fixture_open();
    snprintf(choice, sizeof choice, "plugin:%s:7", fake_fixture_path());
    expect_cpu(choice, true, "there is no fake device 7");
    snprintf(choice, sizeof choice, "plugin:%s", fake_fixture_path());
    fake_fixture_tell("refuse 1\n");
    expect_cpu(choice, true, "there is no fake device 0");
    fake_fixture_tell("");
}

static void test_no_device_is_the_cpu(void **state)
{
    struct device_report r;

    (void)state;
    assert_ptr_equal(device_backend(NULL), backend_cpu());
    assert_false(device_lost(NULL));
    device_failed(NULL, -EIO, 1);
    device_lose(NULL, "x");
    device_training_failed(NULL, -EIO);
    device_trains_on_cpu(NULL, "x");
    device_read(NULL, &r);
    assert_string_equal(r.name, "cpu");
    assert_false(r.degraded);
}

/* ---- when it is given up --------------------------------------------------------------------- */

static void test_failures_that_are_far_apart_are_borne(void **state)
{
    struct device_report r;
    struct told t;
    struct device *d = fake_device(&t);
    int64_t now = 1000;

    (void)state;
    for (int i = 0; i < 20; i++, now += DEVICE_FAILURES_US / (DEVICE_FAILURES - 1))
        device_failed(d, -EIO, now);
    assert_false(device_lost(d));
    device_read(d, &r);
    assert_int_equal(r.failures, 20);
    assert_string_equal(r.name, "fake:0");
    assert_false(r.degraded);
    assert_true(r.active && r.memory_total > 0);
    device_failed(d, -EIO, now);
    assert_false(device_lost(d));
    device_failed(d, -EIO, now + 1); /* the third in less than a minute */
    assert_true(device_lost(d));
    assert_ptr_equal(device_backend(d), backend_cpu());
    device_read(d, &r);
    assert_true(r.degraded && r.losses == 1);
    assert_string_equal(r.name, "cpu");
    assert_string_equal(r.why, "fake:0 is not used any more: too many batches in a minute failed");
    device_failed(d, -EIO, now + 2); /* of a lane that was in it still */
    device_lose(d, "again");
    device_read(d, &r);
    assert_true(r.losses == 1 && r.failures == 22);
    device_close(d);
}

static void test_a_device_that_is_gone_is_given_up_at_once(void **state)
{
    struct told t;
    struct device *d = fake_device(&t);

    (void)state;
    device_failed(d, -ENODEV, 1);
    assert_true(device_lost(d));
    assert_string_equal(t.codes, "device_failed device_lost");
    device_close(d);
    d = fake_device(&t);
    device_training_failed(d, -EIO);
    assert_false(device_lost(d)); /* serving has its own experience */
    device_trains_on_cpu(d, "no room");
    device_training_failed(d, -ENODEV);
    assert_true(device_lost(d));
    assert_string_equal(t.codes, "device_training_failed device_training_on_cpu "
                                 "device_training_failed device_lost");
    device_close(d);
}

/* ---- lanes ----------------------------------------------------------------------------------- */

struct serving {
    char state[64];
    struct told told;
    struct device *device;
    struct encoders *encoders;
    struct held_encoder *base;
    struct batcher *batcher;
    struct lane *lanes[LANES];
};

static void serving_open(struct serving *s, struct device *device)
{
    const struct batcher_limits limits = {.items_max = 1000,
                                          .batch_tokens_max = 256,
                                          .batch_items_max = 16,
                                          .share_tokens_min = 16,
                                          .learning_tokens = 64,
                                          .team_tokens_min = 64,
                                          .lost_threads = 2};
    struct encoders_settings settings = {.device = device,
                                         .base = BASE,
                                         .state = s->state,
                                         .precision = ENCODER_BF16,
                                         .tokens_limit = 32};
    char why[256] = "";

    snprintf(s->state, sizeof s->state, "/tmp/learnd-device-XXXXXX");
    assert_non_null(mkdtemp(s->state));
    s->device = device;
    if (encoders_open(&settings, why, sizeof why, &s->encoders) != 0)
        fail_msg("%s", why);
    s->base = encoders_base(s->encoders);
    assert_int_equal(batcher_open(&limits, LANES, &s->batcher), 0);
    for (int i = 0; i < LANES; i++)
        assert_int_equal(lane_open(s->base, s->batcher, &limits, &s->lanes[i]), 0);
}

static void serving_close(struct serving *s)
{
    batcher_shutdown(s->batcher);
    for (int i = 0; i < LANES; i++)
        lane_close(s->lanes[i]);
    batcher_close(s->batcher);
    encoders_put(s->base);
    encoders_close(s->encoders);
    device_close(s->device);
    rmdir(s->state);
    fake_fixture_tell("");
}

struct asked {
    struct work work; /* first */
    struct work_item items[TEXTS];
    int32_t ids[TEXTS][16];
    float embeddings[TEXTS][DIM];
    sem_t ready;
};

static void asked_done(struct work *work)
{
    sem_post(&((struct asked *)work)->ready);
}

static void fill(struct asked *a, struct held_encoder *held)
{
    static const uint8_t types[16];

    memset(a, 0, sizeof *a);
    a->work =
        (struct work){.encoder = held, .items = a->items, .items_len = TEXTS, .done = asked_done};
    for (int i = 0; i < TEXTS; i++) {
        uint32_t len = 3 + (uint32_t)i % 9;

        for (uint32_t n = 0; n < len; n++)
            a->ids[i][n] = n == 0 ? 2 : n + 1 == len ? 3 : (int32_t)(20 + 17 * i + n) % 250;
        a->items[i] = (struct work_item){
            .ids = a->ids[i], .types = types, .len = len, .embedding = a->embeddings[i]};
    }
}

/* Asks for all texts; the error of the work. */
static int ask(struct serving *s, struct held_encoder *held, struct asked *a)
{
    fill(a, held);
    sem_init(&a->ready, 0, 0);
    assert_int_equal(batcher_submit(s->batcher, &a->work), 0);
    while (sem_wait(&a->ready) != 0)
        continue;
    sem_destroy(&a->ready);
    return atomic_load(&a->work.error);
}

static void right_of(float right[TEXTS][DIM])
{
    struct serving s = {.state = ""};
    struct asked a;

    serving_open(&s, NULL);
    assert_int_equal(ask(&s, s.base, &a), 0);
    memcpy(right, a.embeddings, sizeof a.embeddings);
    serving_close(&s);
}

static void test_lanes_answer_as_on_the_cpu(void **state)
{
    float right[TEXTS][DIM];
    struct serving s = {.state = ""};
    struct asked a;

    (void)state;
    right_of(right);
    serving_open(&s, fake_device(&s.told));
    assert_string_equal(encoder_info(s.base->encoder)->backend, "fake:0");
    for (int i = 0; i < 20; i++) {
        assert_int_equal(ask(&s, s.base, &a), 0);
        assert_memory_equal(a.embeddings, right, sizeof right);
    }
    assert_string_equal(s.told.codes, "");
    serving_close(&s);
}

/* A batch fails whole, and the next one has another context. */
static void test_a_failed_batch_fails_whole(void **state)
{
    float right[TEXTS][DIM];
    struct serving s = {.state = ""};
    struct asked a;

    (void)state;
    right_of(right);
    serving_open(&s, fake_device(&s.told));
    for (int i = 0; i < 2; i++) {
        fake_fixture_tell(i == 0 ? "fail 1\ndies 1\n" : "fail 1\n");
        assert_int_equal(ask(&s, s.base, &a), -ENODEV);
        assert_int_equal(ask(&s, s.base, &a), 0);
        assert_memory_equal(a.embeddings, right, sizeof right);
    }
    assert_false(device_lost(s.device));
    assert_string_equal(s.told.codes, "device_failed device_failed");
    serving_close(&s);
}

/* Asks until it is right; each answer before was an error. Returns how many. */
static uint32_t ask_until_right(struct serving *s, struct held_encoder *held,
                                float right[TEXTS][DIM])
{
    struct asked a;
    uint32_t errors = 0;

    while (ask(s, held, &a) != 0) {
        assert_int_equal(atomic_load(&a.work.error), -ENODEV);
        assert_true(++errors <= DEVICE_FAILURES);
    }
    assert_memory_equal(a.embeddings, right, sizeof a.embeddings);
    return errors;
}

static void test_a_device_that_fails_on_is_left_for_the_cpu(void **state)
{
    const char *const ways[] = {"fail 1000000\n", "lost 1\n", "fail 1000000\ndies 1\n"};
    float right[TEXTS][DIM];

    (void)state;
    right_of(right);
    for (int way = 0; way < 3; way++) {
        struct serving s = {.state = ""};
        struct held_encoder *second;
        char why[256];

        serving_open(&s, fake_device(&s.told));
        assert_int_equal(encoders_load(s.encoders, BASE, 1, why, sizeof why, &second), 0);
        assert_int_equal(ask_until_right(&s, s.base, right), 0);
        fake_fixture_tell(ways[way]);
        assert_true(ask_until_right(&s, s.base, right) > 0);
        assert_true(device_lost(s.device));
        assert_int_equal(ask_until_right(&s, second, right), 0); /* moved with the first */
        assert_string_equal(encoder_info(second->encoder)->backend, "cpu");
        encoders_put(second);
        assert_int_equal(encoders_load(s.encoders, OTHER, 2, why, sizeof why, &second), 0);
        assert_string_equal(encoder_info(second->encoder)->backend, "cpu");
        encoders_put(second);
        assert_int_equal(encoders_sweep(s.encoders), 1);
        serving_close(&s);
    }
}

/* Learning does not see that a device failed. */
static void test_learning_asks_again(void **state)
{
    float right[TEXTS][DIM];
    struct serving s = {.state = ""};
    struct asked a;

    (void)state;
    right_of(right);
    serving_open(&s, fake_device(&s.told));
    for (int i = 0; i < 2; i++) {
        fill(&a, s.base);
        fake_fixture_tell(i == 0 ? "fail 1\n" : "fail 1000000\n");
        assert_int_equal(embed_texts(s.batcher, s.base, a.items, TEXTS), 0);
        assert_memory_equal(a.embeddings, right, sizeof right);
        assert_int_equal(device_lost(s.device), i == 1);
    }
    serving_close(&s);
}

/* A folder that is gone when it is needed, or holds other weights: an error, not a wrong answer;
 * and an answer when it is back. */
static void test_an_encoder_that_cannot_be_moved(void **state)
{
    float right[TEXTS][DIM];
    struct serving s = {.state = ""};
    struct held_encoder *second;
    struct asked a;
    char why[256], link[96], target[4096], other[4096];

    (void)state;
    right_of(right);
    serving_open(&s, fake_device(&s.told));
    snprintf(link, sizeof link, "%s/second", s.state);
    assert_non_null(realpath(BASE, target));
    assert_int_equal(symlink(target, link), 0);
    assert_int_equal(encoders_load(s.encoders, link, 1, why, sizeof why, &second), 0);
    assert_int_equal(unlink(link), 0);
    fake_fixture_tell("lost 1\n");
    assert_int_equal(ask(&s, s.base, &a), -ENODEV);
    assert_int_equal(ask(&s, s.base, &a), 0);
    assert_int_equal(ask(&s, second, &a), -ENODEV);
    assert_non_null(realpath(OTHER, other));
    assert_int_equal(symlink(other, link), 0);
    assert_int_equal(ask(&s, second, &a), -ENODEV);
    assert_int_equal(unlink(link), 0);
    assert_int_equal(symlink(target, link), 0);
    assert_int_equal(ask(&s, second, &a), 0);
    assert_memory_equal(a.embeddings, right, sizeof right);
    assert_int_equal(unlink(link), 0);
    encoders_put(second);
    serving_close(&s);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void test_no_room_for_three_encoders_is_no_room(void **state)
{
    struct told t;
    struct device *d = fake_device(&t);
    struct encoders_settings settings = {
        .device = d, .base = BASE, .state = "/tmp", .precision = ENCODER_BF16, .tokens_limit = 32};
    struct encoders *all = NULL;
    char why[256];

    (void)state;
    fake_fixture_tell("total 1000\n");
    assert_int_equal(encoders_open(&settings, why, sizeof why, &all), -ENOMEM);
    assert_non_null(strstr(why, "the weights need 0.1 MiB on fake:0, which has 0.0 MiB"));
    fake_fixture_tell("total 100000\n");
    assert_int_equal(encoders_open(&settings, why, sizeof why, &all), -ENOMEM);
    if (strstr(why, "for three encoders beside the base") == NULL)
        fail_msg("%s", why);
    assert_int_equal(fake_fixture_used(), 0);
    fake_fixture_tell("");
    device_close(d);
}

/* A hundred swaps under traffic: what one encoder takes the next one gets. */
static void test_swaps_keep_memory_flat(void **state)
{
    float right[TEXTS][DIM];
    struct serving s = {.state = ""};
    struct held_encoder *live, *next;
    struct asked a;
    char why[256];
    uint64_t one;

    (void)state;
    right_of(right);
    serving_open(&s, fake_device(&s.told));
    live = s.base;
    assert_int_equal(ask(&s, live, &a), 0);
    one = fake_fixture_used();
    for (int swap = 1; swap <= 100; swap++) {
        assert_int_equal(encoders_load(s.encoders, BASE, swap, why, sizeof why, &next), 0);
        assert_int_equal(ask(&s, next, &a), 0);
        assert_memory_equal(a.embeddings, right, sizeof right);
        if (swap > 1)
            encoders_put(live);
        live = next;
        encoders_sweep(s.encoders);
        if (swap == 1)
            one = fake_fixture_used();
        assert_int_equal(fake_fixture_used(), one);
    }
    encoders_put(live);
    serving_close(&s);
    assert_int_equal(fake_fixture_used(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choices),
        cmocka_unit_test(test_the_cpu_where_there_is_no_device),
        cmocka_unit_test(test_no_device_is_the_cpu),
        cmocka_unit_test(test_failures_that_are_far_apart_are_borne),
        cmocka_unit_test(test_a_device_that_is_gone_is_given_up_at_once),
        cmocka_unit_test(test_lanes_answer_as_on_the_cpu),
        cmocka_unit_test(test_a_failed_batch_fails_whole),
        cmocka_unit_test(test_a_device_that_fails_on_is_left_for_the_cpu),
        cmocka_unit_test(test_learning_asks_again),
        cmocka_unit_test(test_an_encoder_that_cannot_be_moved),
        cmocka_unit_test(test_no_room_for_three_encoders_is_no_room),
        cmocka_unit_test(test_swaps_keep_memory_flat),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
