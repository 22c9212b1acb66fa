/* gpu_model.c -- whole models on a loadable backend, with its memory as it is.
 *
 *   gpu_model check BACKEND FOLDER           the encoder against the CPU's, a text's bits alone and
 * in any batch, ten steps of training against the CPU's gpu_model soak BACKEND FOLDER SECONDS two
 * threads of random batches: every text's bits as they were the first time, and no memory but the
 * first gpu_model bench BACKEND FOLDER           CSV: what,texts,tokens,us  (a median of many)
 *
 * Texts are random ids: what is held is arithmetic. Tolerances: fp32 cosine 0.99999 and losses
 * within 1e-4 (two devices, sums in another order, ten steps); bf16 cosine 0.9995 and losses within
 * 3 %, which is how far bf16 is from fp64 in tests/unit/test_train_golden.c.
 */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/backend_load.h"
#include "kernels/backend_training.h"
#include "kernels/encoder/encoder.h"
#include "kernels/encoder/encoder_config.h"
#include "kernels/train/train.h"

enum { TEXTS = 24, LEN_MAX = 512, STEPS = 10, LABELS = 4, THREADS = 2, SAMPLES = 51 };

/* Texts packed one behind the other. */
struct texts {
    uint32_t len, offsets[TEXTS + 1];
    int32_t ids[TEXTS * LEN_MAX];
};

static int passed, failed;

static void report(bool fine, const char *what, const char *detail)
{
    passed += fine;
    failed += !fine;
    if (!fine)
        printf("%s: %s\n", what, detail);
}

static uint32_t draw(uint64_t *state, uint32_t below)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33) % below;
}

/* Lengths from one token to `longest`, short ones more often; len 0: all of them that long. */
static void make_texts(struct texts *t, uint32_t len, uint32_t longest, bool even, uint32_t V,
                       uint64_t seed)
{
    t->len = len;
    t->offsets[0] = 0;
    for (uint32_t i = 0; i < len; i++) {
        uint32_t most = i % 4 == 0 ? longest : longest / 4 + 1;
        uint32_t tokens = even ? longest : i == 0 ? longest : 1 + draw(&seed, most);

        for (uint32_t n = 0; n < tokens; n++)
            t->ids[t->offsets[i] + n] = (int32_t)draw(&seed, V);
        t->offsets[i + 1] = t->offsets[i] + tokens;
    }
}

static struct encoder *encoder_or_exit(const struct backend *be, const char *folder,
                                       enum encoder_precision precision)
{
    struct encoder *e;
    char why[512];

    if (encoder_open(be, folder, precision, why, sizeof why, &e) != 0) {
        fprintf(stderr, "gpu_model: %s: %s\n", folder, why);
        exit(1);
    }
    return e;
}

static struct encoder_ctx *ctx_or_exit(const struct encoder *e)
{
    struct encoder_ctx *ctx;

    if (encoder_ctx_open(e, TEXTS * LEN_MAX, TEXTS, &ctx) != 0) {
        fprintf(stderr, "gpu_model: a context cannot be opened\n");
        exit(1);
    }
    return ctx;
}

/* Texts from .. from+len of t as a batch of their own. */
static int forward(struct encoder_ctx *ctx, const struct texts *t, uint32_t from, uint32_t len,
                   float *y)
{
    uint32_t offsets[TEXTS + 1];
    struct encoder_batch batch = {t->ids + t->offsets[from], NULL, offsets, len};

    for (uint32_t i = 0; i <= len; i++)
        offsets[i] = t->offsets[from + i] - t->offsets[from];
    return encoder_forward(ctx, &batch, 1, y);
}

static double cosine(const float *a, const float *b, uint32_t C)
{
    double dot = 0, aa = 0, bb = 0;

    for (uint32_t c = 0; c < C; c++) {
        dot += (double)a[c] * b[c];
        aa += (double)a[c] * a[c];
        bb += (double)b[c] * b[c];
    }
    return dot / sqrt(aa * bb);
}

static uint32_t longest_of(const struct encoder_info *info)
{
    return info->positions < LEN_MAX ? info->positions : LEN_MAX;
}

static void check_encoder(const struct backend *be, const char *folder,
                          enum encoder_precision precision, double least)
{
    struct encoder *there = encoder_or_exit(be, folder, precision);
    struct encoder *here = encoder_or_exit(backend_cpu(), folder, precision);
    struct encoder_ctx *on_device = ctx_or_exit(there), *on_cpu = ctx_or_exit(here);
    const uint32_t C = encoder_info(there)->dim;
    float *y = malloc(TEXTS * C * sizeof *y), *want = malloc(TEXTS * C * sizeof *want);
    struct texts *t = malloc(sizeof *t);
    const char *name = precision == ENCODER_FP32 ? "encoder fp32" : "encoder bf16";
    char detail[128];

    if (y == NULL || want == NULL || t == NULL)
        exit(1);
    make_texts(t, TEXTS, longest_of(encoder_info(there)), false, encoder_info(there)->vocab_len, 1);
    report(forward(on_device, t, 0, TEXTS, y) == 0, name, "the device failed");
    report(forward(on_cpu, t, 0, TEXTS, want) == 0, name, "the CPU failed");
    for (uint32_t i = 0; i < TEXTS; i++) {
        double same = cosine(y + i * C, want + i * C, C);

        snprintf(detail, sizeof detail, "text %u of %u tokens: cosine %.7f to the CPU's", i,
                 t->offsets[i + 1] - t->offsets[i], same);
        report(same >= least, name, detail);
    }
    for (uint32_t i = 0; i < TEXTS; i++) { /* alone, and with its right neighbour */
        uint32_t len = i % 2 == 0 || i + 1 == TEXTS ? 1 : 2;

        snprintf(detail, sizeof detail, "text %u has other bits in a batch of %u", i, len);
        report(forward(on_device, t, i, len, want) == 0 &&
                   memcmp(want, y + i * C, len * C * sizeof *y) == 0,
               name, detail);
    }
    encoder_ctx_close(on_device);
    encoder_ctx_close(on_cpu);
    encoder_close(there);
    encoder_close(here);
    free(y);
    free(want);
    free(t);
}

/* ---- training ---------------------------------------------------------------------------------
 */

struct lesson {
    struct texts texts;
    struct train_target targets[TEXTS];
    struct train_example examples[TEXTS];
    float teachers[TEXTS * LABELS], *embeddings; /* (TEXTS,C) */
    uint8_t *used;
    uint32_t V;
};

/* What the live version knew of the old texts: of some the probabilities, of others the embedding,
 * of a few both. */
static void make_old(struct lesson *l, uint32_t len, uint32_t C)
{
    uint64_t seed = 5;

    l->embeddings = malloc((size_t)TEXTS * C * sizeof *l->embeddings);
    if (l->embeddings == NULL)
        exit(1);
    for (uint32_t i = 0; i < len; i++) {
        float *e = l->embeddings + (size_t)i * C, *p = l->teachers + (size_t)i * LABELS;
        double squares = 0;
        float sum = 0;

        for (uint32_t c = 0; c < C; c++) {
            e[c] = (float)draw(&seed, 2001) / 1000 - 1;
            squares += (double)e[c] * e[c];
        }
        for (uint32_t c = 0; c < C; c++)
            e[c] /= (float)sqrt(squares);
        for (uint32_t c = 0; c < LABELS; c++)
            sum += p[c] = (float)draw(&seed, 100);
        for (uint32_t c = 0; c < LABELS; c++)
            p[c] /= sum + 1;
        l->examples[i].old = i % 3 != 0;
        l->examples[i].teacher = i % 3 == 1 || i % 6 == 2 ? p : NULL;
        l->examples[i].teacher_len = i % 2 == 0 ? LABELS : LABELS - 1;
        l->examples[i].embedding = i % 3 == 2 ? e : NULL;
    }
}

static void make_lesson(struct lesson *l, uint32_t len, uint32_t longest, bool even,
                        const struct encoder_info *info)
{
    const uint32_t V = info->vocab_len;

    make_texts(&l->texts, len, longest, even, V, 2);
    l->V = V;
    l->used = calloc(V, 1);
    if (l->used == NULL)
        exit(1);
    for (uint32_t t = 0; t < l->texts.offsets[len]; t++)
        l->used[l->texts.ids[t]] = 1;
    for (uint32_t i = 0; i < len; i++) {
        l->targets[i] = (struct train_target){i % LABELS, 1};
        l->examples[i] =
            (struct train_example){.ids = l->texts.ids + l->texts.offsets[i],
                                   .len = l->texts.offsets[i + 1] - l->texts.offsets[i],
                                   .key = i,
                                   .targets = &l->targets[i],
                                   .targets_len = 1};
    }
    make_old(l, len, info->dim);
}

static void forget_lesson(struct lesson *l)
{
    free(l->used);
    free(l->embeddings);
    free(l);
}

/* A way to train. */
struct way {
    const char *name;
    bool fp32;
    enum train_kind kind;
    enum train_lora lora;
};

static struct train *train_or_exit(const struct backend *be, const char *folder,
                                   const struct lesson *l, const struct way *way)
{
    struct train_settings s;
    struct train *t;
    char why[512];

    train_settings_default(&s);
    s.labels_len = LABELS;
    s.steps = 100;
    s.threads = 2;
    s.seed = 7;
    s.fp32 = way->fp32;
    s.kind = way->kind;
    s.lora = way->lora;
    s.alpha = 2;
    if (train_open(be, folder, &s, l->used, l->V, NULL, why, sizeof why, &t) != 0) {
        fprintf(stderr, "gpu_model: %s: %s\n", folder, why);
        exit(1);
    }
    return t;
}

static void check_training(const struct backend *be, const char *folder, const struct way *way)
{
    const double off = way->fp32 ? 1e-4 : 3e-2, least = way->fp32 ? 0.9999 : 0.995;
    struct encoder *e = encoder_or_exit(backend_cpu(), folder, ENCODER_FP32);
    const uint32_t C = encoder_info(e)->dim, longest = longest_of(encoder_info(e));
    struct lesson *l = malloc(sizeof *l);
    struct train *there, *here;
    float *y = malloc(TEXTS * C * sizeof *y), *want = malloc(TEXTS * C * sizeof *want);
    const char *name = way->name;
    char detail[128];

    if (l == NULL || y == NULL || want == NULL)
        exit(1);
    make_lesson(l, TEXTS, longest < 64 ? longest : 64, false, encoder_info(e));
    there = train_or_exit(be, folder, l, way);
    here = train_or_exit(backend_cpu(), folder, l, way);
    for (int step = 0; step < STEPS; step++) {
        struct train_report a = {0}, b = {0};
        bool fine = train_step(there, l->examples, TEXTS, &a) == 0 &&
                    train_step(here, l->examples, TEXTS, &b) == 0;

        snprintf(detail, sizeof detail, "step %d: loss %.7g, the CPU's %.7g; norm %.7g, %.7g", step,
                 a.loss, b.loss, a.grad_norm, b.grad_norm);
        report(fine && b.loss_new > 0 && b.loss_old > 0 && b.loss_distill > 0 &&
                   b.loss_feature > 0 && fabs(a.loss_distill - b.loss_distill) <= off * b.loss &&
                   fabs(a.loss_feature - b.loss_feature) <= off * b.loss &&
                   fabs(a.loss - b.loss) <= off * fabs(b.loss) &&
                   fabs(a.grad_norm - b.grad_norm) <= 10 * off * b.grad_norm,
               name, detail);
    }
    report(train_embed(there, l->examples, TEXTS, y) == 0, name, "embeddings failed");
    report(train_embed(here, l->examples, TEXTS, want) == 0, name, "the CPU's embeddings failed");
    for (uint32_t i = 0; i < TEXTS; i++) {
        double same = cosine(y + i * C, want + i * C, C);

        snprintf(detail, sizeof detail, "text %u after %d steps: cosine %.7f to the CPU's", i,
                 STEPS, same);
        report(same >= least, name, detail);
    }
    train_close(there);
    train_close(here);
    encoder_close(e);
    forget_lesson(l);
    free(y);
    free(want);
}

static int check(const struct backend *be, const char *folder)
{
    static const struct way ways[] = {
        {"training fp32", true, TRAIN_SINGLE, TRAIN_LORA_NONE},
        {"training bf16", false, TRAIN_SINGLE, TRAIN_LORA_NONE},
        {"training sets, LoRA everywhere, fp32", true, TRAIN_MULTI, TRAIN_LORA_ALL},
        {"training sets, bf16", false, TRAIN_MULTI, TRAIN_LORA_NONE},
        {"training LoRA of q and v, bf16", false, TRAIN_SINGLE, TRAIN_LORA_QV},
    };

    check_encoder(be, folder, ENCODER_FP32, 0.99999);
    check_encoder(be, folder, ENCODER_BF16, 0.9995);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        check_training(be, folder, &ways[i]);
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0 || passed == 0;
}

/* ---- soak -------------------------------------------------------------------------------------
 */

struct soak {
    struct encoder *encoder;
    const struct texts *texts;
    const float *first; /* (TEXTS,C) */
    time_t until;
    uint64_t seed;
    atomic_uint batches, wrong;
};

static void *soak_thread(void *ud)
{
    struct soak *s = ud;
    struct encoder_ctx *ctx = ctx_or_exit(s->encoder);
    const uint32_t C = encoder_info(s->encoder)->dim;
    float *y = malloc(TEXTS * C * sizeof *y);

    while (y != NULL && time(NULL) < s->until) {
        uint32_t from = draw(&s->seed, TEXTS), len = 1 + draw(&s->seed, TEXTS - from);

        if (forward(ctx, s->texts, from, len, y) != 0 ||
            memcmp(y, s->first + from * C, len * C * sizeof *y) != 0)
            atomic_fetch_add(&s->wrong, 1);
        atomic_fetch_add(&s->batches, 1);
    }
    free(y);
    encoder_ctx_close(ctx);
    return NULL;
}

static int soak(const struct backend *be, const char *folder, int seconds)
{
    struct encoder *e = encoder_or_exit(be, folder, ENCODER_BF16);
    struct encoder_ctx *ctx = ctx_or_exit(e);
    struct texts *t = malloc(sizeof *t);
    float *first = malloc(TEXTS * encoder_info(e)->dim * sizeof *first);
    struct kmemory before, after;
    pthread_t threads[THREADS];
    struct soak soaks[THREADS];

    if (t == NULL || first == NULL)
        return 1;
    make_texts(t, TEXTS, longest_of(encoder_info(e)), false, encoder_info(e)->vocab_len, 3);
    report(forward(ctx, t, 0, TEXTS, first) == 0, "soak", "the device failed");
    for (int round = 0; round < 2; round++) { /* the second with what the first has taken */
        be->memory(&before);
        for (int i = 0; i < THREADS; i++) {
            soaks[i] = (struct soak){.encoder = e, .texts = t, .first = first};
            soaks[i].until = time(NULL) + (seconds + 1) / 2;
            soaks[i].seed = (uint64_t)(round * THREADS + i);
            if (pthread_create(&threads[i], NULL, soak_thread, &soaks[i]) != 0)
                return 1;
        }
        for (int i = 0; i < THREADS; i++) {
            pthread_join(threads[i], NULL);
            printf("soak: thread %d: %u batches, %u of them wrong\n", i,
                   atomic_load(&soaks[i].batches), atomic_load(&soaks[i].wrong));
            report(atomic_load(&soaks[i].wrong) == 0, "soak", "a text has other bits, or failed");
            report(atomic_load(&soaks[i].batches) > 0, "soak", "no batch was served");
        }
        be->memory(&after);
    }
    report(after.taken == before.taken && after.asked == before.asked, "soak",
           "more memory was taken in the second half");
    encoder_ctx_close(ctx);
    encoder_close(e);
    free(t);
    free(first);
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0 || passed == 0;
}

/* ---- bench ------------------------------------------------------------------------------------
 */

static double now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *us)
{
    qsort(us, SAMPLES, sizeof *us, ascending);
    return us[SAMPLES / 2];
}

static void bench_encoder(struct encoder_ctx *ctx, const struct encoder_info *info, uint32_t len,
                          uint32_t longest, bool even, const char *what)
{
    struct texts *t = malloc(sizeof *t);
    float *y = malloc(TEXTS * info->dim * sizeof *y);
    double us[SAMPLES];

    if (t == NULL || y == NULL)
        exit(1);
    make_texts(t, len, longest < info->positions ? longest : info->positions, even, info->vocab_len,
               4);
    for (int i = -5; i < SAMPLES; i++) { /* five to warm up */
        double from = now_us();

        if (forward(ctx, t, 0, len, y) != 0)
            exit(1);
        us[i < 0 ? 0 : i] = now_us() - from;
    }
    printf("%s,%u,%u,%.1f\n", what, len, t->offsets[len], median(us));
    free(t);
    free(y);
}

static void bench_training(const struct backend *be, const char *folder,
                           const struct encoder_info *info)
{
    struct lesson *l = malloc(sizeof *l);
    struct train_report r;
    struct train *t;
    double us[SAMPLES];
    const struct way way = {"bench", false, TRAIN_SINGLE, TRAIN_LORA_NONE};

    if (l == NULL)
        exit(1);
    make_lesson(l, TEXTS, 128, true, info);
    t = train_or_exit(be, folder, l, &way);
    for (int i = -5; i < SAMPLES; i++) {
        double from = now_us();

        if (train_step(t, l->examples, TEXTS, &r) != 0)
            exit(1);
        us[i < 0 ? 0 : i] = now_us() - from;
    }
    printf("train_step,%d,%u,%.1f\n", TEXTS, l->texts.offsets[TEXTS], median(us));
    train_close(t);
    forget_lesson(l);
}

/* The small batches again, their operations told one by one: what recording them saves. */
static void bench_enqueued(const struct backend *be, const char *folder)
{
    struct backend plain = *be;
    struct encoder *e;
    struct encoder_ctx *ctx;

    plain.widen = NULL;
    plain.repeat = NULL;
    e = encoder_or_exit(&plain, folder, ENCODER_BF16);
    ctx = ctx_or_exit(e);
    bench_encoder(ctx, encoder_info(e), 1, 16, true, "enqueued");
    bench_encoder(ctx, encoder_info(e), 1, 128, true, "enqueued");
    bench_encoder(ctx, encoder_info(e), TEXTS, 64, false, "enqueued");
    encoder_ctx_close(ctx);
    encoder_close(e);
}

static int bench(const struct backend *be, const char *folder)
{
    struct encoder *e = encoder_or_exit(be, folder, ENCODER_BF16);
    struct encoder_ctx *ctx = ctx_or_exit(e);
    const struct encoder_info *info = encoder_info(e);

    printf("what,texts,tokens,us\n");
    bench_encoder(ctx, info, 1, 16, true, "latency");
    bench_encoder(ctx, info, 1, 128, true, "latency");
    bench_encoder(ctx, info, TEXTS, 64, false, "short");
    bench_encoder(ctx, info, TEXTS, 128, true, "throughput");
    bench_encoder(ctx, info, TEXTS, 512, true, "throughput");
    encoder_ctx_close(ctx);
    encoder_close(e);
    bench_enqueued(be, folder);
    bench_training(be, folder, info);
    return 0;
}

int main(int argc, char **argv)
{
    const struct backend *be;
    char why[512];

    if (argc < 4) {
        fprintf(stderr, "usage: gpu_model check | soak | bench  BACKEND FOLDER [SECONDS]\n");
        return 2;
    }
    if (strcmp(argv[2], "cpu") == 0)
        be = backend_cpu();
    else if (backend_load(argv[2], 0, why, sizeof why, &be) != 0) {
        fprintf(stderr, "gpu_model: %s\n", why);
        return 2;
    }
    if (strcmp(argv[1], "soak") == 0)
        return soak(be, argv[3], argc > 4 ? (int)strtol(argv[4], NULL, 10) : 60);
    if (strcmp(argv[1], "bench") == 0)
        return bench(be, argv[3]);
    return check(be, argv[3]);
}
