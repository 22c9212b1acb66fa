/* bench_train_ops.c -- one step of fine-tuning as the cpu backend's operations alone, with the
 * shapes of all-MiniLM-L6-v2 and random numbers: where its time goes.
 *
 * For each kind of operation: milliseconds of a step, its share, and, where it is a matrix product,
 * GFLOP/s and the ratio to oneDNN's bare forward matmuls (peak.h: the same rows, every layer's
 * weights, the same threads, measured between the steps). The last line is the whole step against
 * that peak: forward and backward are three products' worth. Medians over the steps.
 *
 * Beside other busy programs, GOMP_SPINCOUNT=1000 keeps a team from spinning at its barriers for a
 * thread that has no core (on two shared cores: 0.17 s a step instead of 1.5).
 *
 * Usage: bench_train_ops [--texts B] [--threads N] [--steps N] [--precision bf16|fp32]
 */
#include <err.h>
#include <getopt.h>
#include <omp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "kernels/backend_training.h"
#include "tests/bench/corpus.h"
#include "tests/bench/peak.h"

enum { C = 384, FFN = 1536, HEADS = 12, LAYERS = 6, USED_WORDS = 3000, POSITIONS = 128 };
enum { TEXTS_MAX = 256, STEPS_MAX = 199, MATS = 4, SITES = 1 + 2 * LAYERS };
#define EPS 1e-12f

enum kind {
    MAT_SET,
    LINEAR,
    DX,
    DW,
    EMBED,
    NORM,
    GELU,
    ATTENTION,
    POOL,
    EMBED_BACK,
    NORM_BACK,
    GELU_BACK,
    ATTENTION_BACK,
    ADD,
    CLIP,
    ADAMW,
    PEAK,
    KINDS
};

static const char *const names[KINDS] = {"mat_set",
                                         "linear",
                                         "linear_dx",
                                         "linear_dw",
                                         "embed",
                                         "add_norm",
                                         "gelu",
                                         "attention",
                                         "pool",
                                         "embed_back",
                                         "norm_back",
                                         "gelu_back",
                                         "attention_back",
                                         "add",
                                         "sum_squares",
                                         "adamw",
                                         "bare matmul (forward)"};

/* (M,K) of the matrices of a layer. */
static const uint32_t shapes[MATS][2] = {{3 * C, C}, {C, C}, {FFN, C}, {C, FFN}};

struct settings {
    uint32_t texts, threads;
    int steps;
    enum kdtype dtype;
};

struct layer {
    struct kmat_train *mats[MATS];
    float *w[MATS], *dw[MATS], *bias[MATS], *db[MATS], *gamma[2], *beta[2], *dgamma[2], *dbeta[2];
    struct kview x, qkv, attended, projected, s1, mid, up, active, down, s2;
    float *stats[2];
};

struct step {
    const struct backend *be;
    const struct backend_training *t;
    struct kctx *k;
    uint32_t B, T, offsets[TEXTS_MAX + 1];
    int32_t *ids;
    uint64_t *keys;
    float *block, *grad, *m, *v; /* every parameter in one block */
    size_t params;
    float *word, *position, *segment, *dword, *dposition, *dsegment;
    struct layer layers[LAYERS + 1]; /* the last has only x */
    struct kview s0, dx[2], dqkv, dup, dmid, datt;
    float *stats0, *gamma0, *beta0, *dgamma0, *dbeta0, *y, *dy, *length;
    struct peak *peak;
    double us[KINDS];
};

static struct kview view(const struct step *s, enum kdtype dtype, uint32_t columns)
{
    struct kview v = {NULL, dtype};

    if (s->be->alloc(K_RUNS, (size_t)s->be->rows(s->T) * columns * (dtype == K_BF16 ? 2 : 4),
                     &v.data) != 0)
        err(1, "memory");
    return v;
}

static float *floats(const struct step *s, size_t n)
{
    void *data;

    if (s->be->alloc(K_CONTEXTS, n * sizeof(float), &data) != 0)
        err(1, "memory");
    return data;
}

static float uniform(void)
{
    static uint32_t state = 1;

    state = state * 1664525 + 1013904223;
    return (float)(state >> 8) * 0x1p-23f - 1;
}

/* The next n parameters of the block, about `scale` around `middle`, and their gradient. */
static float *take(struct step *s, size_t n, float scale, float middle, float **ret_grad)
{
    float *at = s->block + s->params;

    for (size_t i = 0; i < n; i++)
        at[i] = uniform() * scale + middle;
    *ret_grad = s->grad + s->params;
    s->params += n;
    return at;
}

static void open_layer(struct step *s, struct layer *l, enum kdtype dtype)
{
    for (int i = 0; i < MATS; i++) {
        l->w[i] = take(s, (size_t)shapes[i][0] * shapes[i][1], 0.05f, 0, &l->dw[i]);
        l->bias[i] = take(s, shapes[i][0], 0.1f, 0, &l->db[i]);
        if (s->t->mat_open(shapes[i][0], shapes[i][1], dtype, &l->mats[i]) != 0)
            errx(1, "mat_open");
    }
    for (int i = 0; i < 2; i++) {
        l->gamma[i] = take(s, C, 0.1f, 1, &l->dgamma[i]);
        l->beta[i] = take(s, C, 0.1f, 0, &l->dbeta[i]);
        l->stats[i] = floats(s, 2 * (size_t)s->T);
    }
    l->qkv = view(s, dtype, 3 * C);
    l->attended = view(s, dtype, C);
    l->projected = view(s, dtype, C);
    l->s1 = view(s, dtype, C);
    l->mid = view(s, dtype, C);
    l->up = view(s, dtype, FFN);
    l->active = view(s, dtype, FFN);
    l->down = view(s, dtype, C);
    l->s2 = view(s, dtype, C);
}

static void open_step(struct step *s, const struct settings *set)
{
    struct peak_shape peak_shapes[MATS];
    size_t all = 14u << 20;

    s->be = backend_cpu();
    s->t = backend_cpu_training();
    s->B = set->texts;
    for (uint32_t b = 0; b < s->B; b++) /* 5 .. 24 tokens */
        s->offsets[b + 1] = s->offsets[b] + 5 + (b * 7919 + 13) % 20;
    s->T = s->offsets[s->B];
    if (s->be->ctx_open(s->T, set->threads, K_TRAINING, &s->k) != 0)
        err(1, "context");
    s->be->ctx_threads(s->k, set->threads);
    s->block = floats(s, all);
    s->grad = floats(s, all);
    s->m = floats(s, all);
    s->v = floats(s, all);
    s->word = take(s, (size_t)USED_WORDS * C, 0.05f, 0, &s->dword);
    s->position = take(s, (size_t)POSITIONS * C, 0.05f, 0, &s->dposition);
    s->segment = take(s, 2 * C, 0.05f, 0, &s->dsegment);
    s->gamma0 = take(s, C, 0.1f, 1, &s->dgamma0);
    s->beta0 = take(s, C, 0.1f, 0, &s->dbeta0);
    s->ids = calloc(s->T, sizeof *s->ids);
    s->keys = calloc(s->T, sizeof *s->keys);
    if (s->ids == NULL || s->keys == NULL)
        err(1, "memory");
    for (uint32_t t = 0; t < s->T; t++) {
        s->ids[t] = (int32_t)((uniform() + 1) / 2 * (USED_WORDS - 1));
        s->keys[t] = t;
    }
    for (int i = 0; i <= LAYERS; i++) {
        s->layers[i].x = view(s, set->dtype, C);
        if (i < LAYERS)
            open_layer(s, &s->layers[i], set->dtype);
    }
    s->s0 = view(s, set->dtype, C);
    s->dx[0] = view(s, set->dtype, C);
    s->dx[1] = view(s, set->dtype, C);
    s->dmid = view(s, set->dtype, C);
    s->datt = view(s, set->dtype, C);
    s->dqkv = view(s, set->dtype, 3 * C);
    s->dup = view(s, set->dtype, FFN);
    s->stats0 = floats(s, 2 * (size_t)s->T);
    s->y = floats(s, (size_t)s->B * C);
    s->dy = floats(s, (size_t)s->B * C);
    s->length = floats(s, s->B);
    for (size_t i = 0; i < (size_t)s->B * C; i++)
        s->dy[i] = uniform() * 0.1f;
    for (int i = 0; i < MATS; i++)
        peak_shapes[i] = (struct peak_shape){shapes[i][1], shapes[i][0]};
    s->peak = peak_open(peak_shapes, MATS, LAYERS, set->dtype, s->T);
}

/* Runs a call and adds what it took to its kind. */
#define CLOCKED(kind, call)                                                                        \
    do {                                                                                           \
        double from_ = now();                                                                      \
        call;                                                                                      \
        s->us[kind] += now() - from_;                                                              \
    } while (0)

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static struct kdropout dropout(const struct step *s, uint32_t site)
{
    return (struct kdropout){s->keys, site, 0.1f};
}

static void linear(struct step *s, struct layer *l, int i, struct kview y, struct kview x)
{
    CLOCKED(LINEAR, s->t->linear(s->k, y, x, l->mats[i], l->bias[i], s->T));
}

static void linear_back(struct step *s, struct layer *l, int i, struct kview dx, struct kview dy,
                        struct kview x)
{
    CLOCKED(DW, s->t->linear_dw(s->k, l->dw[i], l->db[i], dy, x, shapes[i][0], shapes[i][1], s->T));
    CLOCKED(DX, s->t->linear_dx(s->k, dx, dy, l->mats[i], s->T));
}

static void forward(struct step *s)
{
    const struct kbatch batch = {s->offsets, s->B, s->T, s->T};
    struct kdropout d = dropout(s, 0);

    CLOCKED(EMBED,
            s->t->embed(s->k, s->layers[0].x, s->s0, s->stats0, s->ids, NULL, s->offsets, s->B,
                        s->word, s->position, s->segment, s->gamma0, s->beta0, EPS, C, &d));
    for (int i = 0; i < LAYERS; i++) {
        struct layer *l = &s->layers[i];

        linear(s, l, 0, l->qkv, l->x);
        CLOCKED(ATTENTION, s->be->attention(s->k, l->attended, l->qkv, &batch, C, HEADS));
        linear(s, l, 1, l->projected, l->attended);
        d = dropout(s, 1 + 2 * (uint32_t)i);
        CLOCKED(NORM, s->t->add_layernorm(s->k, l->mid, l->s1, l->stats[0], l->projected, l->x,
                                          l->gamma[0], l->beta[0], EPS, s->T, C, &d));
        linear(s, l, 2, l->up, l->mid);
        CLOCKED(GELU, s->t->gelu(s->k, l->active, l->up, s->T, FFN));
        linear(s, l, 3, l->down, l->active);
        d = dropout(s, 2 + 2 * (uint32_t)i);
        CLOCKED(NORM, s->t->add_layernorm(s->k, l[1].x, l->s2, l->stats[1], l->down, l->mid,
                                          l->gamma[1], l->beta[1], EPS, s->T, C, &d));
    }
    CLOCKED(POOL, s->t->pool(s->k, s->y, s->length, s->layers[LAYERS].x, s->offsets, s->B, C,
                             K_POOL_MEAN));
}

/* dx[0] holds the gradient of the layer's output; dx[1] of the residual around it; so again below.
 */
static void backward_layer(struct step *s, int i, bool last)
{
    struct layer *l = &s->layers[i];
    struct kview none = {NULL, s->dmid.dtype};
    struct kdropout d = dropout(s, 2 + 2 * (uint32_t)i);

    CLOCKED(NORM_BACK, s->t->add_layernorm_back(s->k, s->dx[1], s->dmid, l->dgamma[1], l->dbeta[1],
                                                s->dx[0], last ? none : s->dx[1], l->s2,
                                                l->stats[1], l->gamma[1], s->T, C, &d));
    linear_back(s, l, 3, s->dup, s->dmid, l->active);
    CLOCKED(GELU_BACK, s->t->gelu_back(s->k, s->dup, s->dup, l->up, s->T, FFN));
    linear_back(s, l, 2, s->dx[0], s->dup, l->mid);
    d = dropout(s, 1 + 2 * (uint32_t)i);
    CLOCKED(NORM_BACK,
            s->t->add_layernorm_back(s->k, s->dx[1], s->dmid, l->dgamma[0], l->dbeta[0], s->dx[0],
                                     s->dx[1], l->s1, l->stats[0], l->gamma[0], s->T, C, &d));
    linear_back(s, l, 1, s->datt, s->dmid, l->attended);
    CLOCKED(ATTENTION_BACK,
            s->t->attention_back(s->k, s->dqkv, s->datt, l->qkv, s->offsets, s->B, C, HEADS));
    linear_back(s, l, 0, s->dx[0], s->dqkv, l->x);
}

static void backward(struct step *s)
{
    struct kdropout d = dropout(s, 0);

    CLOCKED(POOL, s->t->pool_back(s->k, s->dx[0], s->dy, s->y, s->length, s->offsets, s->B, C,
                                  K_POOL_MEAN));
    for (int i = LAYERS - 1; i >= 0; i--)
        backward_layer(s, i, i == LAYERS - 1);
    CLOCKED(ADD, s->t->add(s->k, s->dx[0], s->dx[1], (size_t)s->T * C));
    CLOCKED(EMBED_BACK, s->t->embed_back(s->k, s->dword, s->dposition, s->dsegment, s->dgamma0,
                                         s->dbeta0, s->dx[0], s->s0, s->stats0, s->ids, NULL,
                                         s->offsets, s->B, s->gamma0, C, &d));
}

static void run(struct step *s, uint64_t number)
{
    double norm = 0;

    memset(s->us, 0, sizeof s->us);
    for (int i = 0; i < LAYERS; i++)
        for (int m = 0; m < MATS; m++)
            CLOCKED(MAT_SET, s->t->mat_set(s->k, s->layers[i].mats[m], s->layers[i].w[m]));
    forward(s);
    backward(s);
    CLOCKED(CLIP, norm = s->t->sum_squares(s->k, s->grad, s->params));
    CLOCKED(ADAMW, s->t->adamw(s->k, s->block, s->m, s->v, s->grad, s->params, norm > 1 ? 1e-3f : 1,
                               1e-4f, 0.9f, 0.999f, 1e-8f, 0.01f, number));
    if (s->be->sync(s->k) != 0 || !(norm >= 0))
        errx(1, "the step failed");
    CLOCKED(PEAK, peak_run(s->peak, s->T));
}

static void read_arguments(int argc, char **argv, struct settings *set)
{
    static const struct option options[] = {{"texts", required_argument, NULL, 't'},
                                            {"threads", required_argument, NULL, 'n'},
                                            {"steps", required_argument, NULL, 's'},
                                            {"precision", required_argument, NULL, 'p'},
                                            {NULL, 0, NULL, 0}};
    int option;

    *set = (struct settings){32, (uint32_t)omp_get_num_procs(), 30, K_BF16};
    while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        if (option == 't')
            set->texts = (uint32_t)strtoul(optarg, NULL, 10);
        else if (option == 'n')
            set->threads = (uint32_t)strtoul(optarg, NULL, 10);
        else if (option == 's')
            set->steps = (int)strtol(optarg, NULL, 10);
        else if (option == 'p' && strcmp(optarg, "fp32") == 0)
            set->dtype = K_F32;
        else if (option != 'p' || strcmp(optarg, "bf16") != 0)
            errx(2, "usage: bench_train_ops [--texts B] [--threads N] [--steps N] "
                    "[--precision bf16|fp32]");
    }
    if (set->texts < 1 || set->texts > TEXTS_MAX || set->threads < 1 || set->steps < 1 ||
        set->steps > STEPS_MAX)
        errx(2, "texts: 1..%d; threads: from 1; steps: 1..%d", TEXTS_MAX, STEPS_MAX);
}

int main(int argc, char **argv)
{
    static struct step s;
    static double us[KINDS + 1][STEPS_MAX];
    struct settings set;
    double flops, total, peak;

    read_arguments(argc, argv, &set);
    open_step(&s, &set);
    omp_set_num_threads((int)set.threads);
    for (int i = -2; i < set.steps; i++) { /* two to warm up */
        run(&s, (uint64_t)(i + 3));
        for (int kind = 0; kind < KINDS && i >= 0; kind++) {
            us[kind][i] = s.us[kind];
            us[KINDS][i] += kind != PEAK ? s.us[kind] : 0;
        }
    }
    flops = peak_flops(s.peak, s.T);
    total = corpus_median(us[KINDS], (size_t)set.steps);
    peak = corpus_median(us[PEAK], (size_t)set.steps);
    printf("%u texts, %u tokens, %s, %u threads, medians of %d steps\n", s.B, s.T,
           set.dtype == K_BF16 ? "bf16" : "fp32", set.threads, set.steps);
    printf("%-22s %9s %9s %7s %9s %8s\n", "operation", "ms", "least", "share", "GFLOP/s",
           "of peak");
    for (int kind = 0; kind < KINDS; kind++) {
        double each = corpus_median(us[kind], (size_t)set.steps); /* which sorts */

        printf("%-22s %9.3f %9.3f", names[kind], each * 1e-3, us[kind][0] * 1e-3);
        if (kind != PEAK)
            printf(" %6.1f%%", each / total * 100);
        if (kind == LINEAR || kind == DX || kind == DW || kind == PEAK)
            printf(" %*s%9.1f %8.3f", kind == PEAK ? 8 : 0, "", flops / each * 1e-3, peak / each);
        printf("\n");
    }
    printf("a step: %.3f ms (least %.3f), %.1f texts/s, %.1f GFLOP/s, %.3f of peak\n", total * 1e-3,
           us[KINDS][0] * 1e-3, s.B / total * 1e6, 3 * flops / total * 1e-3, 3 * peak / total);
    peak_close(s.peak);
    return 0;
}
