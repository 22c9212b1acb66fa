/* bench_train.c -- real steps of kernels/train on real texts: how fast, how near to what the
 * machine can do, and in how much memory.
 *
 * A pass takes every text once, packed, in batches as they come. First come a warm-up pass and the
 * peak of memory; only then is the yardstick opened (oneDNN's bare forward matmuls, peak.h, of a
 * mean batch), which takes memory of its own, and run between the steps on the same threads.
 *
 * A step's work is counted from its tokens: forward and backward are three products' worth of every
 * matrix, and of attention's two products of each head over the text's own length. What else a step
 * does (norms, dropout, AdamW) counts as time and as no work.
 *
 * Usage: bench_train [--texts FILE.jsonl] [--texts-max N] [--threads N] [--passes N] [--csv]
 * With --csv: examples_s,gflops,of_peak,rss_mb. OMP_WAIT_POLICY is the caller's; learnd has it
 * passive.
 */
#include <err.h>
#include <getopt.h>
#include <omp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "daemon/clock.h"
#include "kernels/encoder/encoder_config.h"
#include "kernels/train/train.h"
#include "tests/bench/corpus.h"
#include "tests/bench/peak.h"

enum { BATCH = 32, LABELS = 77, MATS = 4 };

struct settings {
    const char *texts;
    uint32_t texts_max, threads, passes;
    bool csv;
};

struct bench {
    struct corpus corpus;
    struct encoder_config config;
    struct train_example *examples;
    struct train *train;
    uint32_t batches;
    double *step_us, *peak_us; /* (passes, batches) */
};

static struct train_example *make_examples(const struct corpus *c)
{
    struct train_example *examples = calloc(c->len, sizeof *examples);
    struct train_target *targets = calloc(c->len, sizeof *targets);

    if (examples == NULL || targets == NULL)
        err(1, "examples");
    for (uint32_t i = 0; i < c->len; i++) {
        targets[i] = (struct train_target){i % LABELS, 1}; /* which label costs no time */
        examples[i] = (struct train_example){.ids = c->ids + c->offsets[i],
                                             .len = c->offsets[i + 1] - c->offsets[i],
                                             .key = i,
                                             .targets = &targets[i],
                                             .targets_len = 1};
    }
    return examples;
}

static void open_all(const struct settings *set, struct bench *b)
{
    struct train_settings s;
    uint8_t *used;
    char why[512];

    corpus_open(set->texts, corpus_encoder(), set->texts_max, &b->corpus);
    if (encoder_config_read(corpus_encoder(), why, sizeof why, &b->config) != 0)
        errx(1, "%s", why);
    b->batches = b->corpus.len / BATCH;
    if (b->batches == 0)
        errx(1, "%s: fewer than %d texts", b->corpus.source, BATCH);
    b->examples = make_examples(&b->corpus);
    used = calloc(b->config.V, 1);
    b->step_us = calloc((size_t)b->batches * set->passes, sizeof *b->step_us);
    b->peak_us = calloc((size_t)b->batches * set->passes, sizeof *b->peak_us);
    if (used == NULL || b->step_us == NULL || b->peak_us == NULL)
        err(1, "memory");
    for (uint32_t i = 0; i < b->corpus.offsets[b->corpus.len]; i++)
        used[b->corpus.ids[i]] = 1;
    train_settings_default(&s);
    s.labels_len = LABELS;
    s.threads = set->threads;
    s.steps = (uint64_t)b->batches * (set->passes + 1);
    s.seed = 1;
    if (train_open(backend_cpu(), corpus_encoder(), &s, used, b->config.V, NULL, why, sizeof why,
                   &b->train) != 0)
        errx(1, "%s", why);
    free(used);
}

static double step(struct bench *b, uint32_t batch)
{
    struct train_report report;
    int64_t from = clock_us();

    if (train_step(b->train, b->examples + (size_t)batch * BATCH, BATCH, &report) != 0)
        errx(1, "step %u failed", batch);
    return (double)(clock_us() - from);
}

/* Floating point operations of a step's products. */
static double step_flops(const struct bench *b, const struct peak *peak, uint32_t batch)
{
    double flops = 0;

    for (uint32_t i = batch * BATCH; i < (batch + 1) * BATCH; i++) {
        double len = b->examples[i].len;

        flops += peak_flops(peak, b->examples[i].len);
        flops += 4 * len * len * b->config.C * b->config.layers;
    }
    return 3 * flops;
}

static double rss_mb(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024;
}

static struct peak *open_peak(const struct bench *b, uint32_t rows)
{
    const struct peak_shape shapes[MATS] = {{b->config.C, 3 * b->config.C},
                                            {b->config.C, b->config.C},
                                            {b->config.C, b->config.F},
                                            {b->config.F, b->config.C}};
    struct peak *peak = peak_open(shapes, MATS, b->config.layers, K_BF16, rows);

    for (int i = 0; i < 3; i++)
        peak_run(peak, rows);
    return peak;
}

static void tell(const struct settings *set, struct bench *b, const struct peak *peak,
                 uint32_t mean, double rss)
{
    uint32_t texts = b->batches * BATCH;
    size_t n = (size_t)b->batches * set->passes;
    double us = 0, flops = 0, examples_s, gflops, peak_gflops;

    for (size_t i = 0; i < n; i++) {
        double step = step_flops(b, peak, (uint32_t)(i % b->batches));

        us += b->step_us[i];
        flops += step;
        b->step_us[i] = step / b->step_us[i]; /* from here on its speed */
    }
    examples_s = (double)texts * set->passes / us * 1e6;
    gflops = corpus_median(b->step_us, n) * 1e-3;
    (void)corpus_median(b->peak_us, n); /* sorts: a peak is of the undisturbed tenth */
    peak_gflops = peak_flops(peak, mean) / b->peak_us[n / 10] * 1e-3;
    if (set->csv) {
        printf("%.1f,%.1f,%.3f,%.1f\n", examples_s, gflops, gflops / peak_gflops, rss);
        return;
    }
    printf("%zu steps of %d texts, bf16, %u threads; %.1f tokens and %.2f GFLOP a text; %s\n", n,
           BATCH, set->threads, (double)b->corpus.offsets[texts] / texts,
           flops / set->passes / texts * 1e-9, b->corpus.source);
    printf("%.1f examples/s; median step %.1f GFLOP/s, %.3f of oneDNN's bare matmul (%.1f); peak "
           "memory %.0f MB\n",
           examples_s, gflops, gflops / peak_gflops, peak_gflops, rss);
}

static void read_arguments(int argc, char **argv, struct settings *set)
{
    static const struct option options[] = {
        {"texts", required_argument, NULL, 't'},   {"texts-max", required_argument, NULL, 'm'},
        {"threads", required_argument, NULL, 'n'}, {"passes", required_argument, NULL, 'p'},
        {"csv", no_argument, NULL, 'c'},           {NULL, 0, NULL, 0}};
    int option;

    *set = (struct settings){NULL, 960, (uint32_t)omp_get_num_procs(), 2, false};
    while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        if (option == 't')
            set->texts = optarg;
        else if (option == 'm')
            set->texts_max = (uint32_t)strtoul(optarg, NULL, 10);
        else if (option == 'n')
            set->threads = (uint32_t)strtoul(optarg, NULL, 10);
        else if (option == 'p')
            set->passes = (uint32_t)strtoul(optarg, NULL, 10);
        else if (option == 'c')
            set->csv = true;
        else
            errx(2, "usage: bench_train [--texts FILE.jsonl] [--texts-max N] [--threads N] "
                    "[--passes N] [--csv]");
    }
    if (set->threads < 1 || set->passes < 1 || set->passes > 1000)
        errx(2, "threads: from 1; passes: 1..1000");
}

int main(int argc, char **argv)
{
    struct bench b = {.batches = 0};
    struct settings set;
    struct peak *peak;
    uint32_t mean;
    double rss;

    read_arguments(argc, argv, &set);
    open_all(&set, &b);
    for (uint32_t i = 0; i < b.batches; i++)
        (void)step(&b, i);
    rss = rss_mb();
    omp_set_num_threads((int)set.threads); /* of the yardstick; a train sets its own */
    mean = (b.corpus.offsets[b.batches * BATCH] + b.batches / 2) / b.batches;
    peak = open_peak(&b, mean);
    for (size_t i = 0; i < (size_t)b.batches * set.passes; i++) {
        int64_t from;

        b.step_us[i] = step(&b, (uint32_t)(i % b.batches));
        from = clock_us();
        peak_run(peak, mean);
        b.peak_us[i] = (double)(clock_us() - from);
    }
    tell(&set, &b, peak, mean, rss);
    peak_close(peak);
    train_close(b.train);
    free(b.step_us);
    free(b.peak_us);
    free((void *)b.examples[0].targets);
    free(b.examples);
    corpus_close(&b.corpus);
    return 0;
}
