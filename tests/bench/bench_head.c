/* bench_head.c -- what the head costs: one correction, corrections in blocks, publishing, fitting,
 * and a question against a small and a large set of examples (the search for the nearest is exact:
 * it looks at every one), and an example without itself.
 *
 * Usage: bench_head [EXAMPLES]   (100000). CSV on stdout: what,us. Medians; one thread; embeddings
 * of 384 channels, M = 1024, 150 labels. Vectors are random: the cost does not depend on what they
 * say.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "kernels/head/head.h"

enum { D = 384, M = 1024, LABELS = 150, SAMPLES = 21, BATCH = 1000 };

struct teaching {
    struct head_change changes[BATCH];
    struct head_target targets[BATCH];
    uint16_t embeddings[BATCH][D];
};

static struct teaching teaching;
static float asked[D];
static uint64_t counter;

static uint64_t draw(void)
{
    uint64_t z = counter += 0x9E3779B97F4A7C15;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
}

static void random_unit(float *row)
{
    float squares = 0;

    for (int j = 0; j < D; j++) {
        row[j] = (float)(draw() >> 40) * 0x1p-24f - 0.5f;
        squares += row[j] * row[j];
    }
    for (int j = 0; j < D; j++)
        row[j] /= sqrtf(squares);
}

/* New examples in the first `len` changes. */
static void prepare(int len)
{
    float row[D];

    for (int i = 0; i < len; i++) {
        random_unit(row);
        head_embedding_pack(row, D, teaching.embeddings[i]);
        teaching.targets[i] = (struct head_target){(uint32_t)(draw() % LABELS), 1};
        teaching.changes[i] = (struct head_change){.id = {draw(), draw()},
                                                   .embedding = teaching.embeddings[i],
                                                   .targets = &teaching.targets[i],
                                                   .targets_len = 1,
                                                   .weight = 1};
    }
}

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

static void must(int rc)
{
    if (rc == 0)
        return;
    fprintf(stderr, "bench_head: the head says %d\n", rc);
    exit(1);
}

static void print_median(const char *what, double *us, int divide)
{
    qsort(us, SAMPLES, sizeof *us, ascending);
    printf("%s,%.1f\n", what, us[SAMPLES / 2] / divide);
}

static void time_learning(struct head *h, const char *what, int block)
{
    double us[SAMPLES];

    for (int i = 0; i < SAMPLES; i++) {
        prepare(block);
        us[i] = now_us();
        must(head_apply(h, teaching.changes, (uint32_t)block));
        us[i] = now_us() - us[i];
    }
    print_median(what, us, block);
}

/* Publishing, and a question, against what the head holds. */
static void time_serving(struct head *h)
{
    double publish[SAMPLES], ask[SAMPLES];
    struct head_answer answer;
    char what[64];
    float p[LABELS];

    for (int i = 0; i < SAMPLES; i++) {
        struct head_view *view;
        void *scratch;

        publish[i] = now_us();
        must(head_publish(h, 0.05, &view));
        publish[i] = now_us() - publish[i];
        scratch = aligned_alloc(64, (head_view_scratch_bytes(view, 1) + 63) / 64 * 64);
        random_unit(asked);
        ask[i] = now_us();
        must(head_view_score(view, asked, 1, NULL, scratch, &answer, p, NULL));
        ask[i] = now_us() - ask[i];
        free(scratch);
        head_view_free(view);
    }
    snprintf(what, sizeof what, "publish at %llu examples",
             (unsigned long long)head_examples_len(h));
    print_median(what, publish, 1);
    snprintf(what, sizeof what, "question at %llu examples",
             (unsigned long long)head_examples_len(h));
    print_median(what, ask, 1);
}

/* One example, without itself, of BATCH scored together. */
static void time_leave_one_out(struct head *h)
{
    static struct head_id ids[BATCH];
    static struct head_loo_item items[BATCH];
    double us;

    for (int i = 0; i < BATCH; i++) /* whichever block taught them */
        ids[i] = teaching.changes[i].id;
    us = now_us();
    must(head_loo(h, ids, BATCH, items));
    printf("leave one out at %llu examples,%.1f\n", (unsigned long long)head_examples_len(h),
           (now_us() - us) / BATCH);
}

/* A model of kind multi: examples of two labels each. */
static void time_multi(void)
{
    const struct head_settings settings = {D, M, 1, 0.15, HEAD_MULTI, false};
    static struct head_target pairs[BATCH][2];
    double us[SAMPLES];
    struct head *h;

    must(head_open(&settings, &h));
    must(head_labels_grow(h, LABELS));
    for (int i = 0; i < 6; i++) {
        prepare(BATCH);
        for (int k = 0; k < BATCH; k++) {
            uint32_t first = (uint32_t)(draw() % (LABELS - 1));

            pairs[k][0] = (struct head_target){first, 1};
            pairs[k][1] =
                (struct head_target){first + 1 + (uint32_t)(draw() % (LABELS - 1 - first)), 1};
            teaching.changes[k].targets = pairs[k];
            teaching.changes[k].targets_len = 2;
        }
        must(head_apply(h, teaching.changes, BATCH));
    }
    for (int i = 0; i < SAMPLES; i++) {
        us[i] = now_us();
        must(head_fit(h));
        us[i] = now_us() - us[i];
    }
    print_median("fit of sets", us, 1);
    head_close(h);
}

int main(int argc, char **argv)
{
    const struct head_settings settings = {D, M, 1, 0.15, HEAD_SINGLE, false};
    uint64_t examples = argc > 1 ? strtoull(argv[1], NULL, 10) : 100000;
    struct head *h;
    double us;

    must(head_open(&settings, &h));
    must(head_labels_grow(h, LABELS));
    printf("what,us\n");
    prepare(BATCH);
    must(head_apply(h, teaching.changes, BATCH));
    time_learning(h, "one correction", 1);
    time_learning(h, "a correction in blocks of 64", 64);
    us = now_us();
    must(head_fit(h));
    printf("fit,%.1f\n", now_us() - us);
    time_serving(h);
    time_leave_one_out(h);
    while (head_examples_len(h) < examples) {
        prepare(BATCH);
        must(head_apply(h, teaching.changes, BATCH));
    }
    time_serving(h);
    time_leave_one_out(h);
    head_close(h);
    time_multi();
    return 0;
}
