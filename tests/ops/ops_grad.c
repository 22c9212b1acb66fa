/* ops_grad.c -- every operation of kernels/backend_training.h, on every level of the cpu backend.
 *
 * A backward is compared with plain double loops, and those with central differences of the plain
 * forward: the device's own rounding never meets a difference. Beside them: the forward against
 * plain loops, the same bits with any number of threads, and what dropout promises.
 *
 * Tolerances are |device - plain| <= tolerance (rms of that gradient + |plain|):
 *   fp32  2e-5: sums of up to 1,000 products in fp32
 *   bf16  4e-3: one rounding of the result (2^-8 between neighbours). 3e-2 behind a layer norm:
 * what is kept of its input is rounded at up to 8 deviations, so that xhat is off by up to 1.5e-2,
 * and every gradient is linear in xhat. Gradients of weights in fp32: 2e-5, since products of bf16
 * numbers are exact. 2e-2 of attention by tensor cores (heads of 32 and 64), which round P and dS
 * before they multiply: terms of both signs may be several times their sum. But over a whole
 * gradient the error is that of two roundings, ATTENTION_ERROR of its rms
 */
#include "tests/ops/ops_grad.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ops/grad_run.h"

#define F K_F32
#define H K_BF16

static const struct grad_case cases[] = {
    /* op, dtype, how, rows, columns, inner or heads, dropout, tolerance, {texts}. Attention's how
     * 1: scores of +-150, the rounding of which exp makes larger, and texts so short that all of a
     * query's scores are far below 0. */
    {GRAD_LINEAR, F, 0, 1, 1, 1, 0, 2e-5, {0}},
    {GRAD_LINEAR, F, 0, 7, 33, 65, 0, 2e-5, {0}},
    {GRAD_LINEAR, F, 1, 65, 96, 37, 0, 2e-5, {0}},
    {GRAD_LINEAR, F, 0, 130, 384, 96, 0, 2e-5, {0}},
    {GRAD_LINEAR, H, 0, 1, 32, 16, 0, 4e-3, {0}},
    {GRAD_LINEAR, H, 0, 9, 31, 17, 0, 4e-3, {0}},
    {GRAD_LINEAR, H, 1, 33, 200, 64, 0, 4e-3, {0}},
    {GRAD_LINEAR, H, 0, 301, 384, 384, 0, 4e-3, {0}},
    {GRAD_LINEAR, H, 0, 530, 100, 48, 0, 4e-3, {0}},
    {GRAD_LINEAR, H, 0, 50, 48, 290, 0, 4e-3, {0}},
    {GRAD_EMBED, F, 0, 0, 37, 0, 0, 2e-5, {5, 1, 2}},
    {GRAD_EMBED, F, 1, 0, 384, 0, 0.1f, 2e-5, {1}},
    {GRAD_EMBED, F, 0, 0, 64, 0, 0.5f, 2e-5, {33, 7, 130}},
    {GRAD_EMBED, H, 0, 0, 384, 0, 0.1f, 3e-2, {14, 1, 9, 40}},
    {GRAD_EMBED, H, 1, 0, 33, 0, 0, 3e-2, {3, 5}},
    {GRAD_ADD_LAYERNORM, F, 0, 1, 384, 0, 0, 2e-5, {0}},
    {GRAD_ADD_LAYERNORM, F, 1, 70, 37, 0, 0.1f, 2e-5, {0}},
    {GRAD_ADD_LAYERNORM, F, 2, 3, 5, 0, 0, 2e-5, {0}},
    {GRAD_ADD_LAYERNORM, F, 0, 200, 96, 0, 0.3f, 2e-5, {0}},
    {GRAD_ADD_LAYERNORM, H, 0, 33, 384, 0, 0.1f, 3e-2, {0}},
    {GRAD_ADD_LAYERNORM, H, 1, 129, 384, 0, 0.1f, 3e-2, {0}},
    {GRAD_ADD_LAYERNORM, H, 2, 5, 31, 0, 0, 3e-2, {0}},
    {GRAD_GELU, F, 0, 1, 1, 0, 0, 2e-5, {0}},
    {GRAD_GELU, F, 1, 9, 1025, 0, 0, 2e-5, {0}},
    {GRAD_GELU, H, 0, 33, 1536, 0, 0, 4e-3, {0}},
    {GRAD_GELU, H, 1, 3, 17, 0, 0, 4e-3, {0}},
    {GRAD_ATTENTION, F, 0, 0, 32, 2, 0, 2e-5, {1}},
    {GRAD_ATTENTION, F, 0, 0, 33, 3, 0, 2e-5, {5, 16, 17}},
    {GRAD_ATTENTION, F, 1, 0, 48, 4, 0, 1e-4, {2, 1, 2, 33, 3, 2, 2}},
    {GRAD_ATTENTION, F, 0, 0, 384, 12, 0, 2e-5, {14, 1, 30, 130}},
    {GRAD_ATTENTION, H, 0, 0, 384, 12, 0, 2e-2, {11, 1, 65, 3}},
    {GRAD_ATTENTION, H, 0, 0, 30, 2, 0, 4e-3, {7, 140}},
    {GRAD_ATTENTION, H, 0, 0, 32, 1, 0, 2e-2, {1}},
    {GRAD_ATTENTION, H, 0, 0, 64, 2, 0, 2e-2, {15}},
    {GRAD_ATTENTION, H, 0, 0, 64, 1, 0, 2e-2, {16, 17}},
    {GRAD_ATTENTION, H, 0, 0, 64, 2, 0, 2e-2, {63, 64, 65, 1, 16}},
    {GRAD_ATTENTION, H, 0, 0, 64, 1, 0, 2e-2, {128, 2, 200}},
    {GRAD_ATTENTION, H, 1, 0, 96, 3, 0, 2e-2, {2, 1, 2, 33, 3, 2, 2}},
    {GRAD_ATTENTION, H, 1, 0, 128, 2, 0, 2e-2, {130, 2}},
    {GRAD_ATTENTION, H, 0, 0, 64, 2, 0, 2e-2, {512}},
    {GRAD_ATTENTION, H, 0, 0, 64, 1, 0, 2e-2, {512}},
    {GRAD_POOL, F, 0, 0, 384, 0, 0, 2e-5, {1, 7, 129}},
    {GRAD_POOL, F, 1, 0, 33, 0, 0, 2e-5, {4, 1}},
    {GRAD_POOL, H, 0, 0, 32, 0, 0, 4e-3, {3, 9, 2}},
    {GRAD_POOL, H, 1, 0, 37, 0, 0, 4e-3, {3, 1}},
    {GRAD_LOSS, F, LOSS_SINGLE, 1, 5, 2, 0, 2e-5, {0}},
    {GRAD_LOSS, F, LOSS_SINGLE, 9, 33, 7, 0, 2e-5, {0}},
    {GRAD_LOSS, F, LOSS_SINGLE_NONE, 3, 8, 3, 0, 2e-5, {0}},
    {GRAD_LOSS, F, LOSS_SINGLE, 20, 96, 300, 0, 2e-5, {0}},
    {GRAD_LOSS, F, LOSS_SINGLE, 270, 31, 40, 0, 2e-4, {0}}, /* 270 texts added to 0.5 */
    {GRAD_LOSS, F, LOSS_SETS, 1, 5, 1, 0, 2e-5, {0}},
    {GRAD_LOSS, F, LOSS_SETS, 10, 33, 6, 0, 2e-5, {0}},
    {GRAD_LOSS, F, LOSS_SETS_NONE, 4, 8, 3, 0, 2e-5, {0}},
    {GRAD_LOSS, F, LOSS_SETS, 12, 64, 530, 0, 2e-5, {0}},
    {GRAD_LORA, F, 0, 1, 1, 1, 0, 2e-5, {0}},
    {GRAD_LORA, F, 0, 37, 33, 8, 0, 2e-5, {0}},
    {GRAD_LORA, F, 0, 96, 384, 3, 0, 2e-5, {0}},
    {GRAD_LORA, F, 0, 600, 40, 17, 0, 2e-5, {0}},
};
/* Of these only that threads change nothing: what one layer of a real encoder is. */
static const struct grad_case large[] = {
    {GRAD_LINEAR, H, 0, 440, 1536, 384, 0, 0, {0}},
    {GRAD_LINEAR, H, 0, 440, 384, 1536, 0, 0, {0}},
    {GRAD_LINEAR, H, 0, 1000, 1152, 384, 0, 0, {0}},
    {GRAD_LINEAR, F, 0, 440, 1536, 384, 0, 0, {0}},
    {GRAD_LINEAR, F, 0, 440, 384, 1536, 0, 0, {0}},
    {GRAD_EMBED, H, 0, 0, 384, 0, 0.1f, 0, {100, 30, 128, 90, 14, 64}},
    {GRAD_ADD_LAYERNORM, H, 1, 440, 384, 0, 0.1f, 0, {0}},
    {GRAD_ATTENTION, H, 0, 0, 384, 12, 0, 0, {100, 30, 128, 90, 14, 64}},
    {GRAD_LOSS, F, LOSS_SINGLE, 32, 384, 1200, 0, 0, {0}},
    {GRAD_LOSS, F, LOSS_SETS, 32, 384, 100, 0, 0, {0}},
    {GRAD_LORA, F, 0, 1536, 384, 8, 0, 0, {0}},
};
#undef F
#undef H

enum { CASES = sizeof cases / sizeof *cases, LARGE = sizeof large / sizeof *large };
enum { THREADS_MAX = 8, DIFFERENCES = 16 };
#define ATTENTION_ERROR 3e-3
#define COST_MAX 3e5 /* multiplications of a forward that is differentiated by differences */

static const struct backend *be; /* the one under test */
static int passed, failed;

static void report(bool fine, const char *what, const char *problem)
{
    passed += fine;
    failed += !fine;
    if (!fine)
        printf("%s on %s: %s\n", what, ops_level_name(be), problem);
}

static double rms(const double *x, size_t len)
{
    double squares = 0;

    for (size_t i = 0; i < len; i++)
        squares += x[i] * x[i] / (double)len;
    return sqrt(squares);
}

/* ---- one case -------------------------------------------------------------------------------- */

static double loss(const struct grad_run *run, double *y)
{
    double total = 0;

    grad_forward_plain(run, y);
    for (size_t i = 0; i < run->y_len; i++)
        total += run->dy[i] * y[i];
    return total;
}

/* Plain backward against central differences, a few elements of each input. The differences' own
 * error is of the third derivative times step^2, about 1e-7. */
static bool differences_agree(struct grad_run *run, char *problem, size_t bytes)
{
    const double step = 1e-4;
    double *y = malloc(run->y_len * sizeof *y);
    bool fine = y != NULL;

    for (int i = 0; i < run->in_len && grad_cost(run) <= COST_MAX; i++) {
        struct grad_input *in = &run->in[i];
        double scale = rms(in->plain, in->len);

        for (size_t e = 0; e < in->len && fine; e += in->len / DIFFERENCES + 1) {
            double kept = in->value[e], above, slope;

            in->value[e] = kept + step;
            above = loss(run, y);
            in->value[e] = kept - step;
            slope = (above - loss(run, y)) / (2 * step);
            in->value[e] = kept;
            fine = fabs(slope - in->plain[e]) <= 1e-5 * (1 + scale + fabs(slope));
            if (!fine)
                snprintf(problem, bytes, "d%s[%zu]: plain loops %.9g, differences %.9g", in->name,
                         e, in->plain[e], slope);
        }
    }
    free(y);
    return fine;
}

/* Products of bf16 numbers are exact, so a weight's gradient is as good as fp32's. */
static double tolerance(const struct grad_run *run, const struct grad_input *in)
{
    return run->c->op == GRAD_LINEAR && in->parameter ? 2e-5 : run->c->tolerance;
}

/* Of attention in bf16: queries, keys and values each, columns M i .. +M of dqkv. */
static bool errors_are_small(const struct grad_run *run, char *problem, size_t bytes)
{
    const struct grad_input *in = &run->in[0];
    double error[3] = {0}, squares[3] = {0};

    for (size_t e = 0; e < in->len; e++) {
        size_t i = e % in->columns / run->c->M;

        error[i] += pow(ops_value(in->grad, e) - in->plain[e], 2);
        squares[i] += pow(in->plain[e], 2);
    }
    for (size_t i = 0; i < 3; i++) {
        if (error[i] <= ATTENTION_ERROR * ATTENTION_ERROR * squares[i] + 1e-12)
            continue;
        snprintf(problem, bytes, "d%s: errors of %.2g of its rms in part %zu", in->name,
                 sqrt(error[i] / squares[i]), i);
        return false;
    }
    return true;
}

static bool device_agrees(struct grad_run *run, char *problem, size_t bytes)
{
    const bool attention = run->c->op == GRAD_ATTENTION, half = run->c->dtype == K_BF16;
    const double unit = attention && half && run->c->how == 1 ? GRAD_LARGE : 1;
    double *y = malloc(run->y_len * sizeof *y);
    bool fine = y != NULL;

    if (fine)
        grad_forward_plain(run, y);
    for (size_t e = 0; e < run->y_len && fine; e++) {
        double have = ops_value(run->y, e);

        fine = fabs(have - y[e]) <= (half ? 4e-3 : run->c->tolerance) * (unit + fabs(y[e]));
        if (!fine)
            snprintf(problem, bytes, "y[%zu] is %.9g, plain loops say %.9g", e, have, y[e]);
    }
    for (int i = 0; i < run->in_len && fine; i++) {
        struct grad_input *in = &run->in[i];
        double scale = rms(in->plain, in->len), start = in->parameter ? GRAD_START : 0;
        bool no_db = run->c->op == GRAD_LINEAR && i == 2 && run->c->how == 1;

        for (size_t e = 0; e < in->len && fine; e++) {
            double have = ops_value(in->grad, e) - start, want = no_db ? 0 : in->plain[e];

            fine = fabs(have - want) <=
                   tolerance(run, in) * (scale + fabs(want)) + 1e-6 * start + 1e-9;
            if (!fine)
                snprintf(problem, bytes, "d%s[%zu] is %.9g, plain loops say %.9g", in->name, e,
                         have, want);
        }
    }
    free(y);
    return fine && (!attention || !half || errors_are_small(run, problem, bytes));
}

/* Every result of the last call, one behind the other. */
static char *results(const struct grad_run *run, size_t *ret_bytes)
{
    size_t bytes = run->y_len * 4, at;
    char *copy;

    for (int i = 0; i < run->in_len; i++)
        bytes += run->in[i].len * 4;
    copy = calloc(1, bytes);
    if (copy == NULL)
        abort();
    at = run->y_len * (run->y_dtype == K_BF16 ? 2 : 4);
    memcpy(copy, run->y.data, at);
    for (int i = 0; i < run->in_len; i++) {
        size_t len = run->in[i].len * (run->in[i].dtype == K_BF16 ? 2 : 4);

        memcpy(copy + at, run->in[i].grad.data, len);
        at += len;
    }
    *ret_bytes = bytes;
    return copy;
}

/* And on a device, that the second time is as the first. */
static bool threads_agree(struct grad_run *run, struct kctx *k, char *problem, size_t problem_bytes)
{
    static const uint32_t teams[] = {1, 2, 3, THREADS_MAX};
    size_t bytes;
    char *first = results(run, &bytes);
    bool fine = true;

    for (size_t i = 0; i < (be == backend_cpu() ? sizeof teams / sizeof *teams : 1) && fine; i++) {
        char *again;

        run->be->ctx_threads(k, teams[i]);
        grad_device(run, k);
        again = results(run, &bytes);
        fine = run->be->sync(k) == 0 && memcmp(first, again, bytes) == 0;
        if (!fine)
            snprintf(problem, problem_bytes, "other bits with %u threads", teams[i]);
        free(again);
    }
    free(first);
    return fine;
}

/* Attention: each text's gradient has the bits that it has without the others. */
static bool texts_stand_alone(struct grad_run *run, struct kctx *k, char *problem, size_t bytes)
{
    const struct grad_input *qkv = &run->in[0];
    const size_t row = qkv->columns * (qkv->dtype == K_BF16 ? 2 : 4);
    struct kview part = {NULL, qkv->dtype};
    bool fine =
        be->alloc(K_CONTEXTS, (size_t)be->rows(run->rows) * qkv->columns * 4, &part.data) == 0;

    for (uint32_t b = 0; b < run->units && fine; b++) {
        const uint32_t alone[2] = {0, run->c->lens[b]};
        const size_t at = run->offsets[b] * row;
        const struct kview rows = {(char *)qkv->device.data + at, qkv->dtype};
        const struct kview dy = {(char *)run->dy_part[0].data + at / 3, qkv->dtype};

        run->training->attention_back(k, part, dy, rows, alone, 1, run->c->M, run->c->K);
        fine = be->sync(k) == 0 &&
               memcmp((char *)qkv->grad.data + at, part.data, run->c->lens[b] * row) == 0;
        if (!fine)
            snprintf(problem, bytes, "text %u has other bits alone", b);
    }
    be->dealloc(part.data);
    return fine;
}

static bool check(struct grad_run *run, struct kctx *k, char *problem, size_t bytes)
{
    bool whole = run->c->tolerance > 0;

    grad_device(run, k);
    if (run->be->sync(k) != 0)
        return false;
    if (whole)
        grad_back_plain(run);
    return (!whole ||
            (differences_agree(run, problem, bytes) && device_agrees(run, problem, bytes))) &&
           threads_agree(run, k, problem, bytes) &&
           (run->c->op != GRAD_ATTENTION || texts_stand_alone(run, k, problem, bytes));
}

static void check_case(const struct grad_case *c, uint64_t seed)
{
    char problem[128] = "no memory, or the device failed", name[96];
    struct kctx *k = NULL;
    struct grad_run run;

    snprintf(name, sizeof name, "grad %s %s %d: %u x %u x %u, %u tokens, dropout %.1f",
             grad_name(c), c->dtype == K_BF16 ? "bf16" : "fp32", c->how, c->N, c->M, c->K,
             c->lens[0], (double)c->p);
    if (be->ctx_open(1024, THREADS_MAX, K_TRAINING, &k) != 0 ||
        grad_init(&run, c, be, be->training, k, seed) != 0) {
        be->ctx_close(k);
        report(false, name, problem);
        return;
    }
    report(check(&run, k, problem, sizeof problem), name, problem);
    grad_done(&run);
    be->ctx_close(k);
}

/* ---- dropout --------------------------------------------------------------------------------- */

enum { DROP_ROWS = 257, DROP_COLUMNS = 384, DROP_LEN = DROP_ROWS * DROP_COLUMNS };

/* What dropout makes of ones: s of add_layernorm. */
static void drop_ones(struct kctx *k, float *s, const uint64_t *rows, uint32_t N, uint32_t site,
                      float p)
{
    static float ones[DROP_LEN], zeros[DROP_LEN], y[DROP_LEN], stats[2 * DROP_ROWS];
    struct kdropout d = {rows, site, p};

    for (int i = 0; i < DROP_LEN; i++)
        ones[i] = 1;
    be->training->add_layernorm(k, (struct kview){y, K_F32}, (struct kview){s, K_F32}, stats,
                                (struct kview){ones, K_F32}, (struct kview){zeros, K_F32}, zeros,
                                zeros, 1e-6f, N, DROP_COLUMNS, &d);
}

static double share_dropped(const float *s, size_t from, size_t step, size_t len)
{
    double dropped = 0;

    for (size_t i = 0; i < len; i++)
        dropped += s[from + i * step] == 0;
    return dropped / (double)len;
}

/* Two masks agree about an element by chance with p^2 + (1-p)^2. */
static bool independent(const float *a, const float *b, size_t len, double p)
{
    double same = 0, expected = p * p + (1 - p) * (1 - p);

    for (size_t i = 0; i < len; i++)
        same += (a[i] == 0) == (b[i] == 0);
    return fabs(same / (double)len - expected) < 5 * sqrt(expected * (1 - expected) / (double)len);
}

/* Shares are within five standard deviations of p: over all, and over each row and column. */
static bool shares_are(const float *s, double p)
{
    double unit = 5 * sqrt(p * (1 - p));
    bool fine = fabs(share_dropped(s, 0, 1, DROP_LEN) - p) < unit / sqrt(DROP_LEN);

    for (uint32_t n = 0; n < DROP_ROWS; n++)
        fine = fine && fabs(share_dropped(s, n * DROP_COLUMNS, 1, DROP_COLUMNS) - p) <
                           unit / sqrt(DROP_COLUMNS);
    for (uint32_t c = 0; c < DROP_COLUMNS; c++)
        fine =
            fine && fabs(share_dropped(s, c, DROP_COLUMNS, DROP_ROWS) - p) < unit / sqrt(DROP_ROWS);
    for (size_t i = 0; i < DROP_LEN; i++)
        fine = fine && (s[i] == 0 || fabs(s[i] - 1 / (1 - p)) < 1e-6);
    return fine;
}

static void check_dropout(void)
{
    static const float shares[] = {0.1f, 0.5f, 0.9f};
    static float whole[DROP_LEN], part[DROP_LEN];
    const size_t moved = 3 * DROP_COLUMNS, row = DROP_COLUMNS * sizeof(float);
    uint64_t keys[DROP_ROWS];
    struct kctx *k = NULL;

    if (be->ctx_open(DROP_ROWS, 2, K_TRAINING, &k) != 0) {
        report(false, "dropout", "no memory");
        return;
    }
    for (int i = 0; i < DROP_ROWS; i++) /* as close together as keys can be */
        keys[i] = UINT64_C(1) << 40 | (uint64_t)i;
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        double p = (double)shares[i];

        drop_ones(k, whole, keys, DROP_ROWS, 1, shares[i]);
        report(shares_are(whole, p), "dropout", "a share that is not p");
        report(independent(whole, whole + DROP_COLUMNS, DROP_LEN - DROP_COLUMNS, p), "dropout",
               "rows depend on one another");
        report(independent(whole, whole + 1, DROP_LEN - 1, p), "dropout",
               "columns depend on one another");
        drop_ones(k, part, keys, DROP_ROWS, 2, shares[i]);
        report(independent(whole, part, DROP_LEN, p), "dropout", "sites depend on one another");
    }
    drop_ones(k, whole, keys, DROP_ROWS, 1, 0.1f);
    drop_ones(k, part, keys + 3, 2, 1, 0.1f);
    report(memcmp(whole + moved, part, 2 * row) == 0, "dropout",
           "a row is masked otherwise at another place");
    drop_ones(k, whole, NULL, DROP_ROWS, 1, 0);
    report(share_dropped(whole, 0, 1, DROP_LEN) == 0 && whole[0] == 1 && whole[DROP_LEN - 1] == 1,
           "dropout", "p = 0 is not exact");
    be->ctx_close(k);
}

/* ---- sums and steps -------------------------------------------------------------------------- */

enum { VALUES = 100003, STEPS = 3 };

/* Three AdamW steps against doubles; gradients come out as 0; the same bits with two threads. */
static void check_adamw(void)
{
    const float lr = 1e-2f, beta1 = 0.9f, beta2 = 0.999f, eps = 1e-8f, decay = 0.01f, scale = 0.5f;
    static float w[2][VALUES], m[2][VALUES], v[2][VALUES], grad[2][VALUES];
    static double exact[3][VALUES];
    bool close = true, cleared = true;
    struct kctx *k = NULL;

    if (be->ctx_open(1, 2, K_TRAINING, &k) != 0) {
        report(false, "adamw", "no memory");
        return;
    }
    memset(m, 0, sizeof m);
    memset(v, 0, sizeof v);
    memset(exact, 0, sizeof exact);
    for (size_t i = 0; i < VALUES; i++)
        exact[0][i] = w[0][i] = w[1][i] = ops_draw(1, i);
    for (uint32_t step = 1; step <= STEPS; step++) {
        for (uint32_t t = 0; t < 2; t++) {
            for (size_t i = 0; i < VALUES; i++)
                grad[t][i] = i % 5 == 0 ? 0 : ops_draw(1 + step, i);
            be->ctx_threads(k, t + 1);
            be->training->adamw(k, w[t], m[t], v[t], grad[t], VALUES, scale, lr, beta1, beta2, eps,
                                decay, step);
        }
        for (size_t i = 0; i < VALUES; i++) {
            double g = i % 5 == 0 ? 0 : ops_draw(1 + step, i) * (double)scale, root;

            exact[1][i] = (double)beta1 * exact[1][i] + (1 - (double)beta1) * g;
            exact[2][i] = (double)beta2 * exact[2][i] + (1 - (double)beta2) * g * g;
            root = sqrt(exact[2][i] / (1 - pow((double)beta2, step))) + (double)eps;
            exact[0][i] *= 1 - (double)lr * (double)decay;
            exact[0][i] -= (double)lr * exact[1][i] / (1 - pow((double)beta1, step)) / root;
            close = close && fabs(w[0][i] - exact[0][i]) <= 1e-6 * (1 + fabs(exact[0][i]));
            cleared = cleared && grad[0][i] == 0 && grad[1][i] == 0;
        }
    }
    report(close, "adamw", "a weight is not what doubles say");
    report(cleared, "adamw", "a gradient is not 0 afterwards");
    report(memcmp(w[0], w[1], sizeof *w) == 0 && memcmp(m[0], m[1], sizeof *m) == 0 &&
               memcmp(v[0], v[1], sizeof *v) == 0,
           "adamw", "other bits with 2 threads");
    be->ctx_close(k);
}

static void check_sums(void)
{
    static float x[VALUES], y[VALUES];
    static uint16_t half[VALUES];
    double exact = 0, one, two;
    struct kctx *k = NULL;
    bool fine = true;

    if (be->ctx_open(1, 2, K_TRAINING, &k) != 0) {
        report(false, "sums", "no memory");
        return;
    }
    for (size_t i = 0; i < VALUES; i++) {
        x[i] = ops_draw(3, i);
        y[i] = ops_draw(4, i);
        exact += (double)x[i] * x[i];
    }
    one = be->training->sum_squares(k, x, VALUES);
    be->ctx_threads(k, 2);
    two = be->training->sum_squares(k, x, VALUES);
    report(fabs(one - exact) <= 1e-12 * exact, "sum_squares", "not the sum");
    report(one == two, "sum_squares", "other bits with 2 threads");
    report(be->training->sum_squares(k, x, 3) ==
               (double)x[0] * x[0] + (double)x[1] * x[1] + (double)x[2] * x[2],
           "sum_squares", "not the sum of three");
    be->upload(half, K_BF16, x, VALUES);
    be->training->add(k, (struct kview){y, K_F32}, (struct kview){half, K_BF16}, VALUES);
    for (size_t i = 0; i < VALUES; i++)
        fine = fine && y[i] == ops_draw(4, i) + (float)ops_value((struct kview){half, K_BF16}, i);
    report(fine, "add", "not the sum");
    be->ctx_close(k);
}

static void check_losses(void)
{
    struct kctx *k = NULL;
    const char *problem = "no memory";

    if (be->ctx_open(1, 1, K_TRAINING, &k) == 0)
        problem = loss_run_check(be, k);
    report(problem == NULL, "loss", problem);
    be->ctx_close(k);
}

/* Without a rank it is a copy; and x = 0 sets to 0 what it is told to, and no more. */
static void check_copies(void)
{
    static float x[VALUES], y[VALUES];
    struct kctx *k = NULL;
    bool fine = true;

    if (be->ctx_open(1, 1, K_TRAINING, &k) != 0) {
        report(false, "copies", "no memory");
        return;
    }
    for (size_t i = 0; i < VALUES; i++)
        x[i] = ops_draw(5, i);
    be->training->lora(k, y, x, NULL, NULL, 2, 1, VALUES, 0);
    report(be->sync(k) == 0 && memcmp(x, y, sizeof x) == 0, "lora", "rank 0 is no copy");
    be->training->zero(k, x + 1, VALUES - 2);
    fine = be->sync(k) == 0 && x[0] == y[0] && x[VALUES - 1] == y[VALUES - 1];
    for (size_t i = 1; i < VALUES - 1; i++)
        fine = fine && x[i] == 0;
    report(fine, "zero", "not what it was told to");
    be->ctx_close(k);
}

int ops_grad(const struct backend *tested)
{
    be = tested;
    for (int l = 0; ops_next(be, l); l++) {
        for (int i = 0; i < CASES; i++)
            check_case(&cases[i], 1 + (uint64_t)i);
        check_dropout();
        check_adamw();
        check_sums();
        check_losses();
        check_copies();
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0 || passed == 0;
}

int ops_steady(const struct backend *tested)
{
    be = tested;
    for (int l = 0; ops_next(be, l); l++)
        ; /* the best one */
    for (int i = 0; i < LARGE; i++)
        check_case(&large[i], 100 + (uint64_t)i);
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0 || passed == 0;
}
