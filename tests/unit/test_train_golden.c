/* test_train_golden.c -- fine-tuning held against PyTorch: logits, losses, every gradient and ten
 * AdamW losses on the tiny encoder, for one label and for sets.
 *
 * PyTorch computed in fp64 (tests/golden/train/make_train_golden.py), so the distance is our own
 * rounding. fp32: sums of some hundred terms of 24 bits: 1e-5 of a tensor's largest gradient
 * (2e-6 seen), and of losses. bf16: activations and gradients of 8 bits through two layers: a
 * tensor's gradient points the same way (cosine 0.998; 0.9996 seen) and is as long (3 %; 0.9 seen);
 * losses within 3 % (0.7 seen).
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/train/train_internal.h"
#include "tests/unit/train_fixture.h"

#define TINY "tests/golden/tiny-encoder"

static const char *const cases[] = {"tests/golden/train/single.safetensors",
                                    "tests/golden/train/multi.safetensors"};

/* How far y(n) is from wanted(n). */
struct distance {
    double largest, cosine, ratio; /* |y - wanted| over the largest |wanted|; of the lengths */
};

static struct distance measure(const float *y, const float *wanted, size_t n)
{
    double most = 0, off = 0, dot = 0, a = 0, b = 0;

    for (size_t i = 0; i < n; i++) {
        most = fmax(most, fabs(wanted[i]));
        off = fmax(off, fabs((double)y[i] - wanted[i]));
        dot += (double)y[i] * wanted[i];
        a += (double)y[i] * y[i];
        b += (double)wanted[i] * wanted[i];
        if (!isfinite(y[i]))
            off = INFINITY;
    }
    return (struct distance){off / most, dot / sqrt(a * b), sqrt(a / b)};
}

static void hold(const char *name, const float *y, const float *wanted, size_t n, bool fp32)
{
    struct distance d = measure(y, wanted, n);

    if (fp32 ? !(d.largest < 1e-5) : !(d.cosine > 0.998 && fabs(d.ratio - 1) < 0.03))
        fail_msg("%s: off by %.2e of the largest, cosine %.5f, ratio %.4f", name, d.largest,
                 d.cosine, d.ratio);
}

static float *wanted_of(const struct train_case *c, const char *name, uint64_t len)
{
    uint64_t n = 0;
    float *values = train_case_values(c, name, &n);

    if (values == NULL || n != len)
        fail_msg("%s: missing, or of another length", name);
    return values;
}

/* One gradient of the block; of the word table the rows in use, and that the others have none. */
static void hold_gradient(const struct train *t, const struct train_case *c, const struct master *p,
                          bool fp32)
{
    const struct masters *m = &t->masters;
    const uint32_t C = t->config.C;
    bool word = p == m->embedding.word;
    size_t len = (size_t)(word ? t->config.V : p->rows) * p->columns;
    char name[TRAIN_NAME_BYTES + 5];
    float *wanted;

    memcpy(name, "grad.", 5);
    masters_name(p, "", name + 5);
    wanted = wanted_of(c, name, len);
    for (uint32_t id = 0; word && id < t->config.V; id++)
        for (uint32_t i = 0; m->row_of[id] < 0 && i < C; i++)
            assert_true(wanted[(size_t)id * C + i] == 0);
    for (uint32_t id = 0; word && id < t->config.V; id++)
        if (m->row_of[id] >= 0)
            memmove(wanted + (size_t)m->row_of[id] * C, wanted + (size_t)id * C,
                    C * sizeof *wanted);
    /* A key's bias moves all scores of a query alike: its gradient is 0 but for rounding. */
    if (strstr(name, "key.bias") != NULL)
        for (uint32_t i = 0; i < p->rows; i++)
            assert_true(fabs(m->grad[p->at + i]) < (fp32 ? 1e-5 : 1e-1));
    else
        hold(name, m->grad + p->at, wanted, (size_t)p->rows * p->columns, fp32);
    free(wanted);
}

static void hold_gradients(struct train *t, const struct train_case *c, bool fp32)
{
    const struct masters *m = &t->masters;
    size_t head = m->biases - m->head, biases = m->len - m->biases;
    struct train_report r;
    float *wanted = wanted_of(c, "loss", 5), loss[5];

    assert_int_equal(train_gradients(t, c->batch, c->len, &r), 0);
    loss[0] = (float)r.loss;
    loss[1] = (float)r.loss_new;
    loss[2] = (float)r.loss_old;
    loss[3] = (float)r.loss_distill;
    loss[4] = (float)r.loss_feature;
    for (int i = 0; i < 5; i++)
        if (!(fabsf(loss[i] / wanted[i] - 1) < (fp32 ? 1e-5 : 3e-2)))
            fail_msg("loss part %d: %.7g for %.7g", i, loss[i], wanted[i]);
    free(wanted);
    for (uint32_t i = 0; i < m->list_len; i++)
        hold_gradient(t, c, &m->list[i], fp32);
    wanted = wanted_of(c, "grad.head", head);
    hold("grad.head", m->grad + m->head, wanted, head, fp32);
    free(wanted);
    if (biases > 0) {
        wanted = wanted_of(c, "grad.biases", biases);
        hold("grad.biases", m->grad + m->biases, wanted, biases, fp32);
        free(wanted);
    }
    memset(m->grad, 0, m->len * sizeof *m->grad);
}

static void hold_logits(struct train *t, const struct train_case *c, bool fp32)
{
    uint64_t len = (uint64_t)c->len * t->settings.labels_len;
    float *y = malloc((size_t)c->len * t->config.C * sizeof *y), *logits = malloc(len * sizeof *y);
    float *wanted = wanted_of(c, "logits", len);

    assert_non_null(y);
    assert_non_null(logits);
    assert_int_equal(train_embed(t, c->batch, c->len, y), 0);
    train_case_logits(t, y, c->len, logits);
    hold("logits", logits, wanted, len, fp32);
    free(y);
    free(logits);
    free(wanted);
}

static void hold_steps(struct train *t, const struct train_case *c, bool fp32)
{
    float *wanted = wanted_of(c, "losses", TRAIN_CASE_STEPS + 1);
    double off = fp32 ? 1e-5 : 3e-2;

    for (uint32_t i = 0; i <= TRAIN_CASE_STEPS; i++) {
        struct train_report r;

        assert_int_equal(train_step(t, c->batch, train_case_len(c, i), &r), 0);
        if (!(fabs(r.loss / wanted[i] - 1) < off))
            fail_msg("loss of step %u: %.7g for %.7g", i, r.loss, wanted[i]);
        assert_int_equal(train_steps_done(t), i + 1);
    }
    free(wanted);
}

static void against_torch(bool fp32)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct train_case c;
        struct train *t;

        assert_true(train_case_read(cases[i], &c));
        t = train_case_open(&c, TINY, fp32, false);
        assert_non_null(t);
        hold_logits(t, &c, fp32);
        hold_gradients(t, &c, fp32);
        hold_steps(t, &c, fp32);
        train_close(t);
        train_case_free(&c);
    }
}

static void test_fp32_is_torch(void **state)
{
    (void)state;
    against_torch(true);
}

static void test_bf16_is_near_torch(void **state)
{
    (void)state;
    against_torch(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fp32_is_torch),
        cmocka_unit_test(test_bf16_is_near_torch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
