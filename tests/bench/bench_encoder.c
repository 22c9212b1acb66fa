/* bench_encoder.c -- the encoder in this process, on texts tokenized beforehand, beside oneDNN's
 * bare matmul.
 *
 * For batches of 1, 8, 32 and 128 texts, packed and in no order: texts/s, tokens/s and TFLOP/s of
 * one lane, the ratio to the matmuls alone (peak.h: the same row counts, every layer's weights),
 * texts/s of two lanes, and two lanes over one. A round runs each over the same stretch of batches,
 * one behind the other, so that whatever else the machine does meets all of them; figures are
 * medians over the rounds. The ratio to the peak is of the thread's own processor time, which a
 * neighbour does not lengthen; everything else is by the clock on the wall. Last, one text alone on
 * one core and on all: the latency that a lone request sees.
 *
 * Usage: bench_encoder [--encoder DIR] [--precision bf16|fp32] [--texts FILE.jsonl] [--rounds N]
 * [--csv FILE]
 */
#include <err.h>
#include <getopt.h>
#include <omp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/clock.h"
#include "kernels/encoder/encoder.h"
#include "tests/bench/corpus.h"
#include "tests/bench/peak.h"

enum { BATCH_MAX = 128, TEXT_TOKENS_MAX = 256, LANES = 2, ROUNDS_MAX = 99, ALONE = 400 };
enum { STRETCH_TOKENS = 8000, ROWS_MAX = BATCH_MAX * TEXT_TOKENS_MAX / 4 };

struct settings {
    const char *encoder, *texts, *csv;
    enum encoder_precision precision;
    int rounds;
};

struct lane {
    struct encoder_ctx *ctx;
    struct peak *peak;
    float *embeddings;
    uint32_t offsets[BATCH_MAX + 1];
    /* The work of one stretch: batches first, first + step, ... below end. */
    const struct corpus *corpus;
    uint32_t batch, first, step, end;
    double cpu_s; /* what it took */
};

struct result {
    uint32_t batch;
    double texts_s[LANES], tflops, ratio, scale;
};

static double cpu_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void encode(struct lane *l, uint32_t b, uint32_t batch, uint32_t threads)
{
    const uint32_t *at = l->corpus->offsets + (size_t)b * batch;
    struct encoder_batch packed = {l->corpus->ids + at[0], NULL, l->offsets, batch};

    for (uint32_t i = 0; i <= batch; i++)
        l->offsets[i] = at[i] - at[0];
    if (encoder_forward(l->ctx, &packed, threads, l->embeddings) != 0)
        errx(1, "the encoder failed on batch %u of %u texts", b, batch);
}

static void *run_encoder(void *arg)
{
    struct lane *l = arg;
    double started = cpu_now();

    for (uint32_t b = l->first; b < l->end; b += l->step)
        encode(l, b, l->batch, 1);
    l->cpu_s = cpu_now() - started;
    return NULL;
}

static void *run_peak(void *arg)
{
    struct lane *l = arg;
    const uint32_t *at = l->corpus->offsets;
    double started = cpu_now();

    omp_set_num_threads(1);
    for (uint32_t b = l->first; b < l->end; b += l->step)
        peak_run(l->peak, at[(b + 1) * l->batch] - at[b * l->batch]);
    l->cpu_s = cpu_now() - started;
    return NULL;
}

/* Runs `len` lanes side by side over the batches [first, end). Seconds on the wall. */
static double stretch(struct lane *lanes, uint32_t len, uint32_t batch, uint32_t first,
                      uint32_t end, void *(*run)(void *))
{
    pthread_t threads[LANES];
    int64_t started = clock_us();

    for (uint32_t i = 0; i < len; i++) {
        lanes[i].batch = batch;
        lanes[i].first = first + i;
        lanes[i].step = len;
        lanes[i].end = end;
        if (i > 0 && pthread_create(&threads[i], NULL, run, &lanes[i]) != 0)
            err(1, "thread");
    }
    run(&lanes[0]);
    for (uint32_t i = 1; i < len; i++)
        pthread_join(threads[i], NULL);
    return (double)(clock_us() - started) * 1e-6;
}

static void measure(struct lane *lanes, const struct corpus *c, uint32_t batch, int rounds,
                    struct result *r)
{
    double texts[LANES][ROUNDS_MAX], ratios[ROUNDS_MAX], scales[ROUNDS_MAX], tflops[ROUNDS_MAX];
    uint32_t batches = c->len / batch, per_text = c->offsets[c->len] / c->len;
    uint32_t len = STRETCH_TOKENS / (per_text * batch) + LANES, first = 0;

    len = len > batches ? batches : len;
    for (int i = 0; i < LANES; i++) /* every primitive is made before the clock runs */
        stretch(&lanes[i], 1, batch, 0, batches, run_encoder);
    stretch(lanes, 1, batch, 0, batches, run_peak);
    for (int k = 0; k < rounds; k++, first += len) {
        double one, two, cpu, peak_cpu;
        uint32_t tokens;

        first = first + len > batches ? 0 : first;
        tokens = c->offsets[(first + len) * batch] - c->offsets[first * batch];
        one = stretch(lanes, 1, batch, first, first + len, run_encoder);
        cpu = lanes[0].cpu_s;
        stretch(lanes, 1, batch, first, first + len, run_peak);
        peak_cpu = lanes[0].cpu_s; /* before the next stretch writes its own there */
        two = stretch(lanes, LANES, batch, first, first + len, run_encoder);
        texts[0][k] = len * batch / one;
        texts[1][k] = len * batch / two;
        ratios[k] = peak_cpu / cpu;
        scales[k] = one / two;
        tflops[k] = peak_flops(lanes[0].peak, 1) * tokens / cpu * 1e-12;
    }
    r->batch = batch;
    for (int i = 0; i < LANES; i++)
        r->texts_s[i] = corpus_median(texts[i], (size_t)rounds);
    r->ratio = corpus_median(ratios, (size_t)rounds);
    r->scale = corpus_median(scales, (size_t)rounds);
    r->tflops = corpus_median(tflops, (size_t)rounds);
}

/* The median time of one text alone, in ms. */
static double alone(struct lane *lane, const struct corpus *c, uint32_t threads)
{
    uint32_t len = c->len < ALONE ? c->len : ALONE;
    double ms[ALONE];

    for (uint32_t pass = 0; pass < 2; pass++) /* the first makes the primitives */
        for (uint32_t i = 0; i < len; i++) {
            int64_t started = clock_us();

            encode(lane, i, 1, threads);
            ms[i] = (double)(clock_us() - started) * 1e-3;
        }
    return corpus_median(ms, len);
}

static void read_arguments(int argc, char **argv, struct settings *s)
{
    static const struct option options[] = {
        {"encoder", required_argument, NULL, 'e'}, {"precision", required_argument, NULL, 'p'},
        {"texts", required_argument, NULL, 't'},   {"rounds", required_argument, NULL, 'r'},
        {"csv", required_argument, NULL, 'c'},     {NULL, 0, NULL, 0}};
    int option;

    *s = (struct settings){corpus_encoder(), NULL, NULL, ENCODER_BF16, 9};
    while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        if (option == 'e')
            s->encoder = optarg;
        else if (option == 't')
            s->texts = optarg;
        else if (option == 'c')
            s->csv = optarg;
        else if (option == 'r')
            s->rounds = (int)strtol(optarg, NULL, 10);
        else if (option == 'p' && strcmp(optarg, "fp32") == 0)
            s->precision = ENCODER_FP32;
        else if (option != 'p' || strcmp(optarg, "bf16") != 0)
            errx(2, "usage: bench_encoder [--encoder DIR] [--precision bf16|fp32] "
                    "[--texts FILE.jsonl] [--rounds N] [--csv FILE]");
    }
    if (s->rounds < 1 || s->rounds > ROUNDS_MAX || optind < argc)
        errx(2, "rounds: 1..%d; no further arguments", ROUNDS_MAX);
}

static void open_lanes(const struct encoder *encoder, const struct corpus *c, struct lane *lanes)
{
    const struct encoder_info *info = encoder_info(encoder);
    const struct peak_shape shapes[] = {{info->dim, 3 * info->dim},
                                        {info->dim, info->dim},
                                        {info->dim, info->ffn},
                                        {info->ffn, info->dim}};

    for (int i = 0; i < LANES; i++) {
        lanes[i].corpus = c;
        lanes[i].embeddings = calloc((size_t)BATCH_MAX * info->dim, sizeof(float));
        if (lanes[i].embeddings == NULL ||
            encoder_ctx_open(encoder, ROWS_MAX, BATCH_MAX, &lanes[i].ctx) != 0)
            err(1, "lane");
    }
    lanes[0].peak = peak_open(shapes, 4, info->layers,
                              info->precision == ENCODER_BF16 ? K_BF16 : K_F32, ROWS_MAX);
}

int main(int argc, char **argv)
{
    static const uint32_t sizes[] = {1, 8, 32, 128};
    int cores = omp_get_num_procs();
    struct lane lanes[LANES] = {{0}};
    struct encoder *encoder;
    struct settings s;
    struct corpus c;
    FILE *csv = NULL;
    char why[1024];
    double one, all;

    read_arguments(argc, argv, &s);
    if (encoder_open(backend_cpu(), s.encoder, s.precision, why, sizeof why, &encoder) != 0)
        errx(1, "%s", why);
    corpus_open(s.texts, s.encoder, 0, &c);
    open_lanes(encoder, &c, lanes);
    if (s.csv != NULL && (csv = fopen(s.csv, "w")) == NULL)
        err(1, "%s", s.csv);
    if (csv != NULL)
        fprintf(csv, "what,texts_s,tokens_s,tflops,of_peak,texts_s_2_lanes,2_lanes_over_1\n");
    printf("%s\n%u texts, mean %.1f tokens; %s; %d cores; medians of %d rounds\n", c.source, c.len,
           (double)c.offsets[c.len] / c.len, s.precision == ENCODER_BF16 ? "bf16" : "fp32", cores,
           s.rounds);
    printf("%6s %9s %9s %8s %8s %13s %8s\n", "batch", "texts/s", "tokens/s", "TFLOP/s", "of peak",
           "2 lanes: t/s", "over 1");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes && sizes[i] <= c.len; i++) {
        struct result r;
        double tokens_s;

        measure(lanes, &c, sizes[i], s.rounds, &r);
        tokens_s = r.texts_s[0] * c.offsets[c.len] / c.len;
        printf("%6u %9.0f %9.0f %8.3f %8.3f %13.0f %8.2f\n", r.batch, r.texts_s[0], tokens_s,
               r.tflops, r.ratio, r.texts_s[1], r.scale);
        if (csv != NULL)
            fprintf(csv, "batch %u,%.1f,%.0f,%.4f,%.4f,%.1f,%.4f\n", r.batch, r.texts_s[0],
                    tokens_s, r.tflops, r.ratio, r.texts_s[1], r.scale);
    }
    one = alone(&lanes[0], &c, 1);
    all = alone(&lanes[0], &c, (uint32_t)cores);
    printf("one text alone, median: %.3f ms on one core, %.3f ms on %d\n", one, all, cores);
    if (csv != NULL)
        fprintf(csv, "alone_ms,%.4f,,,,%.4f,\n", one, all);
    if (csv != NULL && fclose(csv) != 0)
        err(1, "%s", s.csv);
    for (int i = 0; i < LANES; i++) {
        encoder_ctx_close(lanes[i].ctx);
        free(lanes[i].embeddings);
    }
    peak_close(lanes[0].peak);
    encoder_close(encoder);
    corpus_close(&c);
    return 0;
}
