/* test_measure_image.c -- what kernels/measure keeps and allocates: an image goes on as if nothing
 * had happened, a damaged one is refused or serves, and every failed allocation is an error that
 * leaves nothing behind.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/measure/drift_internal.h"
#include "kernels/measure/evaluation_internal.h"
#include "tests/unit/fault_alloc.h"
#include "tests/unit/measure_fixture.h"

/* ---- evaluation
 * ----------------------------------------------------------------------------------- */

static void *evaluation_bytes(const struct evaluation *e, size_t *ret_bytes)
{
    void *image = malloc(*ret_bytes = evaluation_image_bytes(e));

    evaluation_image_write(e, image);
    return image;
}

/* Half the history, through an image, then the rest: the bytes of one that was never
 * interrupted. */
static void test_evaluation_goes_on(void **state)
{
    struct history *h = malloc(sizeof *h);
    struct evaluation *whole, *half, *back;
    size_t bytes, whole_bytes;
    void *image, *whole_image;

    (void)state;
    fixture_history(h, 21);
    whole = fixture_evaluation(h, h->len);
    half = fixture_evaluation(h, h->len / 2);
    for (int i = 0; i < 700; i++) {
        evaluation_ask(whole, i % 7 == 0, i % 5 == 0);
        evaluation_ask(half, i % 7 == 0, i % 5 == 0);
    }
    image = evaluation_bytes(half, &bytes);
    assert_int_equal(evaluation_image_read(image, bytes, &back), 0);
    for (uint32_t i = h->len / 2; i < h->len; i++)
        assert_int_equal(evaluation_score(back, &h->rows[i]), 0);
    whole_image = evaluation_bytes(whole, &whole_bytes);
    free(image);
    image = evaluation_bytes(back, &bytes);
    assert_int_equal(bytes, whole_bytes);
    assert_memory_equal(image, whole_image, bytes);
    free(image);
    free(whole_image);
    evaluation_close(whole);
    evaluation_close(half);
    evaluation_close(back);
    free(h);
}

/* Reads an image that may be anything: if it is taken, it must serve. True: it was taken. */
static bool evaluation_survives(const void *image, size_t bytes)
{
    struct evaluation *e;
    struct evaluation_row row = {.seq = INT64_MAX, .truth = 0, .predicted = EVALUATION_NONE};
    int rc = evaluation_image_read(image, bytes, &e);

    if (rc != 0) {
        assert_int_equal(rc, -EINVAL);
        return false;
    }
    evaluation_report_free(fixture_report(e));
    rc = evaluation_score(e, &row);
    assert_true(rc == 0 || rc == -EALREADY || rc == -EINVAL);
    evaluation_close(e);
    return true;
}

static void test_evaluation_hostile(void **state)
{
    struct history *h = malloc(sizeof *h);
    uint64_t seed = 4;
    struct evaluation *e;
    size_t bytes;
    uint8_t *image, *cut;
    uint32_t taken = 0;

    (void)state;
    fixture_history(h, 33);
    e = fixture_evaluation(h, 800);
    image = evaluation_bytes(e, &bytes);
    assert_true(evaluation_survives(image, bytes));
    for (size_t len = 0; len < bytes; len += 1 + len / 50) {
        cut = malloc(len > 0 ? len : 1); /* of the exact size: a sanitizer sees one byte too far */
        memcpy(cut, image, len);
        assert_false(evaluation_survives(cut, len));
        free(cut);
    }
    cut = malloc(bytes + 1);
    memcpy(cut, image, bytes);
    cut[bytes] = 0;
    assert_false(evaluation_survives(cut, bytes + 1));
    for (int i = 0; i < 4000; i++) {
        memcpy(cut, image, bytes);
        for (uint64_t k = 0; k <= fixture_draw(&seed) % 3; k++)
            cut[i < 100 ? (uint64_t)i : fixture_draw(&seed) % bytes] ^=
                (uint8_t)(1 + fixture_draw(&seed) % 255);
        taken += evaluation_survives(cut, bytes);
    }
    print_message("%u of 4000 damaged images are as good as whole ones\n", taken);
    assert_true(taken <
                2500); /* names, dates, ring flags and fading sums may be anything of their kind */
    free(cut);
    free(image);
    evaluation_close(e);
    free(h);
}

/* ---- evaluation: memory
 * ---------------------------------------------------------------------------------- */

static int evaluation_walk(const struct history *h, const void *image, size_t bytes)
{
    struct evaluation *e = NULL, *back = NULL;
    struct evaluation_batch *b = NULL;
    struct evaluation_report *r = NULL, *batch = NULL;
    int rc = evaluation_open(&e);

    if (rc == 0)
        rc = evaluation_labels_grow(e, HISTORY_LABELS);
    if (rc == 0)
        rc = evaluation_score(e, &h->rows[0]);
    if (rc == 0)
        rc = evaluation_labels_grow(e, 200);
    if (rc == 0)
        rc = evaluation_score(e, &h->rows[1]);
    if (rc == 0)
        rc = evaluation_read(e, 10, &r);
    if (rc == 0)
        rc = evaluation_image_read(image, bytes, &back);
    if (rc == 0)
        rc = evaluation_batch_open(HISTORY_LABELS, &b);
    if (rc == 0)
        rc = evaluation_batch_read(b, 10, &batch);
    evaluation_report_free(r);
    evaluation_report_free(batch);
    evaluation_batch_close(b);
    evaluation_close(e);
    evaluation_close(back);
    return rc;
}

static void test_evaluation_memory(void **state)
{
    struct history *h = malloc(sizeof *h);
    struct evaluation *e;
    size_t bytes;
    void *image;
    uint64_t n;

    (void)state;
    fixture_history(h, 3);
    e = fixture_evaluation(h, 300);
    image = evaluation_bytes(e, &bytes);
    for (n = 1;; n++) {
        int rc;

        fault_alloc_arm(n, false);
        rc = evaluation_walk(h, image, bytes);
        if (!fault_alloc_disarm()) {
            assert_int_equal(rc, 0);
            break;
        }
        assert_int_equal(rc, -ENOMEM);
    }
    assert_true(n > 10);
    free(image);
    evaluation_close(e);
    free(h);
}

/* ---- drift ----------------------------------------------------------------------------------- */

/* Rows `from` .. `to` of one stream with everything in it: a rise, a new label, moved
 * embeddings. */
static void feed(struct drift *d, int64_t from, int64_t to)
{
    uint64_t seed = 31;

    for (int64_t i = 0; i < to; i++) {
        struct drift_event events[DRIFT_EVENTS_MAX];
        uint32_t label = (uint32_t)(fixture_uniform(&seed) *
                                    (i < 3000 ? FIXTURE_LABELS - 1 : FIXTURE_LABELS)),
                 len;
        bool wrong = fixture_uniform(&seed) < (i < 4000 ? 0.1 : 0.4);
        float x[FIXTURE_DIM];

        for (int k = 0; k < FIXTURE_DIM; k++)
            x[k] = (float)(fixture_normal(&seed) + (i >= 4500));
        if (i < from)
            continue;
        assert_int_equal(drift_teach(d, i, label, wrong, events, &len), 0);
        assert_int_equal(drift_ask(d, i, x, label, events, &len), 0);
    }
}

static void *drift_bytes(const struct drift *d, size_t *ret_bytes)
{
    void *image = malloc(*ret_bytes = drift_image_bytes(d));

    drift_image_write(d, image);
    return image;
}

static void test_drift_goes_on(void **state)
{
    static const int64_t stops[] = {0, 1, 777, 2600, 3333, 4800};
    struct drift *whole = fixture_drift(FIXTURE_DIM);
    size_t whole_bytes, bytes;
    void *whole_image, *image;
    struct drift_report r;

    (void)state;
    feed(whole, 0, 6500);
    drift_read(whole, &r);
    for (int k = 0; k < DRIFT_KINDS; k++)
        if (k != DRIFT_TAUGHT_MIX && k != DRIFT_ASKED_MIX)
            assert_true(r.kinds[k].fired > 0);
    whole_image = drift_bytes(whole, &whole_bytes);
    for (int i = 0; i < 6; i++) {
        struct drift *half = fixture_drift(FIXTURE_DIM), *back;

        feed(half, 0, stops[i]);
        image = drift_bytes(half, &bytes);
        assert_int_equal(drift_image_read(&half->settings, image, bytes, &back), 0);
        free(image);
        feed(back, stops[i], 6500);
        image = drift_bytes(back, &bytes);
        assert_int_equal(bytes, whole_bytes);
        assert_memory_equal(image, whole_image, bytes);
        free(image);
        drift_close(half);
        drift_close(back);
    }
    free(whole_image);
    drift_close(whole);
}

/* Reads an image that may be anything: if it is taken, it must serve. */
static bool drift_survives(const struct drift_settings *settings, const void *image, size_t bytes)
{
    struct drift *d;
    struct drift_report r;
    struct drift_event events[DRIFT_EVENTS_MAX];
    float x[FIXTURE_DIM] = {0.5f};
    uint32_t len;
    int rc = drift_image_read(settings, image, bytes, &d);

    if (rc != 0) {
        assert_int_equal(rc, -EINVAL);
        return false;
    }
    for (int i = 0; i < 600; i++) {
        rc = drift_teach(d, INT64_MAX - 600 + i, (uint32_t)i % FIXTURE_LABELS, true, events, &len);
        assert_true(rc == 0 || rc == -EALREADY);
        rc = drift_ask(d, INT64_MAX, x, (uint32_t)i % FIXTURE_LABELS, events, &len);
        assert_int_equal(rc, 0);
    }
    drift_read(d, &r);
    drift_close(d);
    return true;
}

static void test_drift_hostile(void **state)
{
    struct drift *d = fixture_drift(FIXTURE_DIM);
    struct drift_settings other;
    size_t bytes;
    uint8_t *image, *cut;
    uint64_t seed = 2;
    uint32_t taken = 0;

    (void)state;
    feed(d, 0, 4700);
    image = drift_bytes(d, &bytes);
    assert_true(drift_survives(&d->settings, image, bytes));
    other = d->settings;
    other.seed++;
    assert_false(drift_survives(&other, image, bytes));
    other = d->settings;
    other.dim = 0;
    assert_false(drift_survives(&other, image, bytes));
    for (size_t len = 0; len < bytes; len += 1 + len / 50) {
        cut = malloc(len > 0 ? len : 1);
        memcpy(cut, image, len);
        assert_false(drift_survives(&d->settings, cut, len));
        free(cut);
    }
    cut = malloc(bytes + 1);
    memcpy(cut, image, bytes);
    cut[bytes] = 0;
    assert_false(drift_survives(&d->settings, cut, bytes + 1));
    for (int i = 0; i < 2000; i++) {
        size_t within = i < 1000 ? bytes : 2000; /* half of them among the counts at the front */

        memcpy(cut, image, bytes);
        cut[fixture_draw(&seed) % within] ^= (uint8_t)(1 + fixture_draw(&seed) % 255);
        taken += drift_survives(&d->settings, cut, bytes);
    }
    print_message("%u of 2000 damaged images are as good as whole ones\n", taken);
    assert_true(taken < 1500); /* marks and embeddings' sums may be anything */
    free(cut);
    free(image);
    drift_close(d);
}

/* ---- drift: memory
 * ---------------------------------------------------------------------------------- */

static int drift_walk(const struct drift_settings *settings, const void *image, size_t bytes)
{
    struct drift *d = NULL, *back = NULL;
    struct drift_event events[DRIFT_EVENTS_MAX];
    uint32_t len;
    int rc = drift_open(settings, &d);

    if (rc == 0)
        rc = drift_labels_grow(d, 10);
    if (rc == 0)
        rc = drift_teach(d, 1, 9, true, events, &len);
    if (rc == 0)
        rc = drift_labels_grow(d, 100);
    if (rc == 0)
        rc = drift_teach(d, 2, 99, true, events, &len);
    if (rc == 0)
        rc = drift_image_read(settings, image, bytes, &back);
    drift_close(d);
    drift_close(back);
    return rc;
}

static void test_drift_memory(void **state)
{
    struct drift *d = fixture_drift(300); /* with a projection */
    size_t bytes;
    void *image = drift_bytes(d, &bytes);
    uint64_t n;

    (void)state;
    for (n = 1;; n++) {
        int rc;

        fault_alloc_arm(n, false);
        rc = drift_walk(&d->settings, image, bytes);
        if (!fault_alloc_disarm()) {
            assert_int_equal(rc, 0);
            break;
        }
        assert_int_equal(rc, -ENOMEM);
    }
    assert_true(n > 10);
    free(image);
    drift_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_evaluation_goes_on), cmocka_unit_test(test_evaluation_hostile),
        cmocka_unit_test(test_evaluation_memory),  cmocka_unit_test(test_drift_goes_on),
        cmocka_unit_test(test_drift_hostile),      cmocka_unit_test(test_drift_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
