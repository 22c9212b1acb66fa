/* ops.c -- every operation of kernels/backend.h: one list of cases, one mode a question.
 *
 *   ops compare     a backend against plain double loops, and its promise that a row's bits depend
 *                   neither on the other rows nor on the number of threads
 *   ops rungs       nor on the rung of the ladder
 *   ops bench [OP]  cold caches, median, one thread; CSV on stdout: op,shape,us,rate,unit
 *   ops grad        the operations of training: ops_grad.c, which has its own list
 *   ops steady      and that large ones give the same bits each time, with any number of threads
 *
 * The backend is the cpu's, on each level that this machine has; or, with --backend FILE behind
 * the mode, one from a library. With --device FILE one whose memory is its own (ops_device.h).
 *
 * A new operation: a row in ops_run.c, its meaning in plain.c, its shapes here.
 *
 * Tolerances are |y - plain| <= tolerance (1 + |plain|), with results of about 1:
 *   fp32  1e-5: sums of up to 1,536 products in fp32, polynomials good to 2e-7
 *   bf16  4e-3: one rounding of the result (2^-8 between neighbours); 1.2e-2 where the linear map
 * is rounded before gelu
 */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/backend_load.h"
#include "kernels/cpu/simd.h"
#include "tests/ops/ops_device.h"
#include "tests/ops/ops_grad.h"
#include "tests/ops/ops_run.h"

#define F K_F32
#define H K_BF16

static const struct ops_case cases[] = {
    /* op, dtype, how, rows, columns, inner (attention: heads), tolerance, {texts} */
    {OP_EMBED, F, 0, 0, 384, 0, 1e-5, {1}},
    {OP_EMBED, F, 1, 0, 32, 0, 1e-5, {7, 1, 33}},
    {OP_EMBED, F, 0, 0, 37, 0, 1e-5, {5, 64, 2}},
    {OP_EMBED, F, 0, 0, 768, 0, 1e-5, {512, 3}},
    {OP_EMBED, H, 0, 0, 384, 0, 4e-3, {1, 12, 40, 3, 1}},
    {OP_EMBED, H, 1, 0, 33, 0, 4e-3, {9}},
    {OP_LINEAR, F, 0, 1, 384, 384, 1e-5, {0}},
    {OP_LINEAR, F, 0, 7, 1152, 384, 1e-5, {0}},
    {OP_LINEAR, F, 1, 65, 1536, 384, 1e-5, {0}},
    {OP_LINEAR, F, 0, 129, 384, 1536, 1e-5, {0}},
    {OP_LINEAR, F, 1, 33, 17, 31, 1e-5, {0}},
    {OP_LINEAR, F, 2, 9, 33, 65, 1e-5, {0}},
    {OP_LINEAR, F, 0, 1, 1, 1, 1e-5, {0}},
    {OP_LINEAR, H, 0, 1, 384, 384, 4e-3, {0}},
    {OP_LINEAR, H, 0, 5, 1152, 384, 4e-3, {0}},
    {OP_LINEAR, H, 1, 65, 1536, 384, 1.2e-2, {0}},
    {OP_LINEAR, H, 0, 300, 384, 1536, 4e-3, {0}},
    {OP_LINEAR, H, 1, 31, 64, 32, 1.2e-2, {0}},
    {OP_LINEAR, H, 0, 13, 31, 17, 4e-3, {0}},
    {OP_LINEAR, H, 2, 17, 96, 33, 4e-3, {0}},
    {OP_LINEAR, H, 0, 1030, 64, 96, 4e-3, {0}},
    {OP_OWN_LINEAR, F, 0, 1, 384, 384, 1e-5, {0}},
    {OP_OWN_LINEAR, F, 0, 71, 1152, 384, 1e-5, {0}},
    {OP_OWN_LINEAR, F, 2, 66, 33, 65, 1e-5, {0}},
    {OP_OWN_LINEAR, F, 0, 1, 1, 1, 1e-5, {0}},
    {OP_OWN_LINEAR, H, 0, 130, 384, 1536, 4e-3, {0}},
    {OP_OWN_LINEAR, H, 2, 7, 31, 17, 4e-3, {0}},
    {OP_ATTENTION, F, 0, 0, 384, 12, 1e-5, {1}},
    {OP_ATTENTION, F, 0, 0, 384, 12, 1e-5, {2, 31, 17, 1, 64}},
    {OP_ATTENTION, F, 1, 0, 48, 4, 1e-4, {15, 16, 33}}, /* scores of 60: exp doubles their error */
    {OP_ATTENTION, F, 0, 0, 33, 3, 1e-5, {5, 50}},
    {OP_ATTENTION, F, 0, 0, 64, 1, 1e-5, {300}},
    {OP_ATTENTION, H, 0, 0, 384, 12, 4e-3, {11, 1, 65, 3}},
    {OP_ATTENTION, H, 1, 0, 32, 4, 4e-3, {7, 29}},
    {OP_ATTENTION, H, 0, 0, 128, 2, 4e-3, {512}},
    {OP_ATTENTION, H, 0, 0, 64, 2, 4e-3, {63, 64, 65, 1, 16, 15, 17, 128}},
    {OP_ATTENTION, H, 0, 0, 64, 1, 4e-3, {129, 2, 200}},
    {OP_ADD_LAYERNORM, F, 0, 1, 384, 0, 1e-5, {0}},
    {OP_ADD_LAYERNORM, F, 1, 70, 384, 0, 1e-5, {0}},
    {OP_ADD_LAYERNORM, F, 2, 3, 37, 0, 1e-5, {0}},
    {OP_ADD_LAYERNORM, F, 0, 5, 2, 0, 1e-5, {0}},
    {OP_ADD_LAYERNORM, H, 1, 129, 384, 0, 4e-3, {0}},
    {OP_ADD_LAYERNORM, H, 0, 9, 1025, 0, 4e-3, {0}},
    {OP_POOL, F, 0, 0, 384, 0, 1e-5, {1, 7, 129}},
    {OP_POOL, F, 1, 0, 33, 0, 1e-5, {4, 1}},
    {OP_POOL, H, 0, 0, 384, 0, 1e-5, {512, 1, 30}},
    {OP_POOL, H, 1, 0, 32, 0, 1e-5, {3, 9, 2}},
    {OP_HEAD_FEATURES, F, 0, 1, 1024, 384, 1e-5, {0}},
    {OP_HEAD_FEATURES, F, 0, 9, 65, 33, 1e-5, {0}},
    {OP_HEAD_FEATURES, F, 0, 3, 2048, 384, 1e-5, {0}},
    {OP_HEAD_DENSE, F, 0, 1, 77, 1024, 1e-5, {0}},
    {OP_HEAD_DENSE, F, 0, 17, 1, 63, 1e-5, {0}},
    {OP_HEAD_DENSE, F, 0, 5, 151, 37, 1e-5, {0}},
    {OP_HEAD_DENSE, F, 0, 2, 3, 5, 1e-5, {0}},
    {OP_HEAD_SIMILARITY, F, 0, 1, 256, 384, 1e-5, {0}},
    {OP_HEAD_SIMILARITY, F, 0, 33, 255, 384, 1e-5, {0}},
    {OP_HEAD_SIMILARITY, F, 0, 3, 7, 37, 1e-5, {0}},
    {OP_HEAD_SIMILARITY, F, 0, 1, 1, 16, 1e-5, {0}},
};
#undef F
#undef H

enum { CASES = sizeof cases / sizeof *cases, THREADS_MAX = 8, LEVELS = 3 };

/* More than the cores of a small machine: then libgomp sleeps where it would spin. */
static const uint32_t team_sizes[] = {3, THREADS_MAX};
enum { TEAMS = sizeof team_sizes / sizeof *team_sizes };

static int passed, failed;

/* simd_pick.c of the library stays out: the program decides which of its compiled levels runs, so
 * that one machine tests all it can. Whether the machine can is asked as simd_pick.c asks. */
static const struct simd_table *level = &simd_table_v2;

const struct simd_table *simd_pick(void)
{
    return level;
}

static bool level_set(int i)
{
    bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
              __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("f16c");
    bool v4 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    bool can[] = {true, v3, v3 && v4};
    const struct simd_table *tables[] = {&simd_table_v2, &simd_table_v3, &simd_table_v4};

    if (i >= LEVELS || !can[i])
        return false;
    level = tables[i];
    return true;
}

const char *ops_level_name(const struct backend *be)
{
    return be == backend_cpu() ? level->name : be->name;
}

bool ops_next(const struct backend *be, int i)
{
    return be == backend_cpu() ? level_set(i) : i == 0;
}

static void report(const struct backend *be, const struct ops_case *c, const char *problem)
{
    char shape[64];

    passed += problem == NULL;
    failed += problem != NULL;
    if (problem == NULL)
        return;
    ops_shape(c, shape);
    printf("%s %s on %s: %s\n", ops_name(c->op), shape, ops_level_name(be), problem);
}

static int view_open(const struct ops_run *run, struct kview *ret_view)
{
    ret_view->dtype = run->y_dtype;
    return run->be->alloc(K_CONTEXTS,
                          (size_t)run->be->rows(run->y_rows + OPS_WIDER) * run->y_columns * 4,
                          &ret_view->data);
}

static size_t element_bytes(const struct ops_run *run)
{
    return run->y_dtype == K_BF16 ? 2 : 4;
}

/* Are units from .. from+len, as computed in `part`, the bits they are in `whole`? */
static bool same_bits(const struct ops_run *run, struct kview whole, struct kview part,
                      uint32_t from, uint32_t len)
{
    size_t bytes = element_bytes(run);

    return memcmp((char *)whole.data + run->at[from] * bytes, part.data,
                  (run->at[from + len] - run->at[from]) * bytes) == 0;
}

/* ---- compare --------------------------------------------------------------------------------- */

static bool close_to_plain(const struct ops_run *run, struct kview y, char *problem, size_t bytes)
{
    size_t len = run->at[run->units];
    double *plain = malloc((len + 1) * sizeof *plain);
    bool fine = plain != NULL;

    if (fine)
        ops_run_plain(run, plain);
    for (size_t i = 0; i < len && fine; i++) {
        double have = ops_value(y, i);

        fine = fabs(have - plain[i]) <= run->c->tolerance * (1 + fabs(plain[i]));
        if (!fine)
            snprintf(problem, bytes, "element %zu is %.9g, plain loops say %.9g", i, have,
                     plain[i]);
    }
    free(plain);
    return fine;
}

/* A part of the batch, waited for: what a batch is made of may be changed only then. */
static bool run_part(const struct ops_run *run, struct kctx *k, uint32_t from, uint32_t len,
                     struct kview y)
{
    ops_run_device(run, k, from, len, y);
    return run->be->sync(k) == 0;
}

/* Each unit alone (of many rows a sample), the halves, all of it told as a wider batch, and all of
 * it with more threads. */
static bool stands_alone(struct ops_run *run, struct kctx *k, struct kview whole, struct kview part,
                         char *problem, size_t bytes)
{
    uint32_t step = run->units / 13 + 1, half = run->units / 2;

    for (uint32_t u = 0; u < run->units; u += step) {
        if (run_part(run, k, u, 1, part) && same_bits(run, whole, part, u, 1))
            continue;
        snprintf(problem, bytes, "unit %u has other bits alone", u);
        return false;
    }
    for (int i = 0; i < 2 && half > 0; i++) {
        uint32_t from = i == 0 ? 0 : half, len = i == 0 ? half : run->units - half;

        if (run_part(run, k, from, len, part) && same_bits(run, whole, part, from, len))
            continue;
        snprintf(problem, bytes, "units %u to %u have other bits without the rest", from,
                 from + len - 1);
        return false;
    }
    run->wider = true;
    if (!run_part(run, k, 0, run->units, part) || !same_bits(run, whole, part, 0, run->units)) {
        snprintf(problem, bytes, "other bits as a wider batch");
        return false;
    }
    run->wider = false;
    for (size_t i = 0; i < (run->be == backend_cpu() ? TEAMS : 1); i++) { /* a device has one */
        run->threads = team_sizes[i];
        run->be->ctx_threads(k, run->threads);
        if (run_part(run, k, 0, run->units, part) && same_bits(run, whole, part, 0, run->units))
            continue;
        snprintf(problem, bytes, "other bits with %u threads", team_sizes[i]);
        return false;
    }
    return true;
}

static void compare_case(const struct backend *be, const struct ops_case *c)
{
    char problem[128] = "no memory, or the device failed";
    struct kview whole = {0}, part = {0};
    struct kctx *k = NULL;
    struct ops_run run;
    bool fine = false;

    if (ops_run_init(&run, c, be, 1 + (uint64_t)(c - cases)) != 0) {
        report(be, c, "its inputs cannot be made");
        return;
    }
    if (be->ctx_open(run.rows, THREADS_MAX, K_SERVING, &k) == 0 && view_open(&run, &whole) == 0 &&
        view_open(&run, &part) == 0) {
        fine = run_part(&run, k, 0, run.units, whole) &&
               close_to_plain(&run, whole, problem, sizeof problem) &&
               stands_alone(&run, k, whole, part, problem, sizeof problem);
    }
    report(be, c, fine ? NULL : problem);
    be->dealloc(whole.data);
    be->dealloc(part.data);
    be->ctx_close(k);
    ops_run_done(&run);
}

/* linear makes a primitive a rung: the first rows of a batch have the same bits on every rung up to
 * the tallest. */
static void compare_rungs(const struct backend *be, enum kdtype dtype, uint32_t M, uint32_t K)
{
    const struct ops_case c = {OP_LINEAR, dtype, 0, 1088, M, K, 0, {0}};
    struct kview whole = {0}, part = {0};
    char problem[128] = "no memory, or the device failed";
    struct kctx *k = NULL;
    struct ops_run run;
    bool fine;

    if (ops_run_init(&run, &c, be, 99) != 0) {
        report(be, &c, "its inputs cannot be made");
        return;
    }
    fine = be->ctx_open(run.rows, THREADS_MAX, K_SERVING, &k) == 0 &&
           view_open(&run, &whole) == 0 && view_open(&run, &part) == 0;
    if (fine)
        fine = run_part(&run, k, 0, run.units, whole);
    for (uint32_t N = 1; N < c.N && fine; N = be->rows(N) + 1) {
        be->ctx_threads(k, N % 3 + 1);
        fine = run_part(&run, k, 0, N, part) && same_bits(&run, whole, part, 0, N);
        if (!fine)
            snprintf(problem, sizeof problem, "other bits on the rung of %u rows", be->rows(N));
    }
    report(be, &c, fine ? NULL : problem);
    be->dealloc(whole.data);
    be->dealloc(part.data);
    be->ctx_close(k);
    ops_run_done(&run);
}

/* A number that is not one must come out as one: silence would be an answer. Unit 0 is spoiled,
 * unit 1 must not be. */
static void compare_nan(const struct backend *be, const struct ops_case *c, uint32_t column)
{
    struct kview y = {0};
    struct kctx *k = NULL;
    struct ops_run run;
    bool fine, first = false, second = false;
    const float nan_value = NAN;

    if (ops_run_init(&run, c, be, 5) != 0 || view_open(&run, &y) != 0 ||
        be->ctx_open(run.rows, 1, K_SERVING, &k) != 0) {
        report(be, c, "its inputs cannot be made");
        return;
    }
    be->upload((char *)run.in[0].device.data + column * (c->dtype == K_BF16 ? 2 : 4), c->dtype,
               &nan_value, 1);
    fine = run_part(&run, k, 0, run.units, y);
    for (size_t i = 0; i < run.at[1]; i++)
        first |= isnan(ops_value(y, i));
    for (size_t i = run.at[1]; i < run.at[2]; i++)
        second |= isnan(ops_value(y, i));
    report(be, c,
           !fine    ? "the device failed"
           : !first ? "a NaN that goes in does not come out"
           : second ? "a NaN spreads"
                    : NULL);
    be->dealloc(y.data);
    be->ctx_close(k);
    ops_run_done(&run);
}

static void compare_all_nan(const struct backend *be)
{
    static const struct ops_case spoiled[] = {
        {OP_LINEAR, K_F32, 0, 2, 32, 32, 0, {0}},
        {OP_LINEAR, K_BF16, 1, 2, 32, 32, 0, {0}},
        {OP_ADD_LAYERNORM, K_F32, 0, 2, 32, 0, 0, {0}},
        {OP_ADD_LAYERNORM, K_BF16, 0, 2, 32, 0, 0, {0}},
        {OP_POOL, K_F32, 0, 0, 32, 0, 0, {3, 2}},
        {OP_POOL, K_BF16, 1, 0, 32, 0, 0, {3, 2}},
        {OP_HEAD_DENSE, K_F32, 0, 2, 5, 33, 0, {0}},
    };
    static const struct ops_case texts[] = {{OP_ATTENTION, K_F32, 0, 0, 32, 2, 0, {3, 2}},
                                            {OP_ATTENTION, K_BF16, 0, 0, 32, 2, 0, {17, 2}}};

    for (size_t i = 0; i < sizeof spoiled / sizeof *spoiled; i++)
        compare_nan(be, &spoiled[i], 4);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        for (uint32_t part = 0; part < 3; part++) /* in a query, a key, a value */
            compare_nan(be, &texts[i], part * texts[i].M + 1);
}

static int compare(const struct backend *be)
{
    for (int l = 0; ops_next(be, l); l++) {
        for (int i = 0; i < CASES; i++)
            if (be == backend_cpu() || cases[i].op != OP_OWN_LINEAR)
                compare_case(be, &cases[i]);
        compare_all_nan(be);
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0 || passed == 0;
}

/* small: the smallest map alone. */
static int rungs(const struct backend *be, bool small)
{
    static const uint32_t maps[][2] = {{96, 32}, {1152, 384}, {384, 384}, {1536, 384}, {384, 1536}};

    for (int l = 0; ops_next(be, l); l++)
        ; /* the best one */
    for (size_t i = 0; i < (small ? 1 : sizeof maps / sizeof *maps); i++) {
        compare_rungs(be, K_F32, maps[i][0], maps[i][1]);
        compare_rungs(be, K_BF16, maps[i][0], maps[i][1]);
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0 || passed == 0;
}

/* ---- bench ----------------------------------------------------------------------------------- */

enum { COLD_BYTES = 64 << 20, SAMPLES = 21 };

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

/* Writes through more memory than the caches hold. */
static void chill(unsigned char *cold)
{
    for (size_t i = 0; i < COLD_BYTES; i += 64)
        cold[i]++;
}

static void bench_case(const struct backend *be, const struct ops_case *c, unsigned char *cold)
{
    double us[SAMPLES], flops;
    struct kview y = {0};
    struct kctx *k = NULL;
    struct ops_run run;
    char shape[64];

    if (ops_run_init(&run, c, be, 1) != 0 || view_open(&run, &y) != 0 ||
        be->ctx_open(run.rows, 1, K_SERVING, &k) != 0)
        exit(1);
    ops_run_device(&run, k, 0, run.units, y); /* makes what is made on first use */
    for (int i = 0; i < SAMPLES; i++) {
        chill(cold);
        us[i] = now_us();
        ops_run_device(&run, k, 0, run.units, y);
        if (be->sync(k) != 0)
            exit(1);
        us[i] = now_us() - us[i];
    }
    qsort(us, SAMPLES, sizeof *us, ascending);
    ops_shape(c, shape);
    flops = ops_run_flops(&run);
    printf("%s,%s,%.2f,%.2f,%s\n", ops_name(c->op), shape, us[SAMPLES / 2],
           (flops > 0 ? flops : ops_run_bytes(&run)) / us[SAMPLES / 2] * 1e-3,
           flops > 0 ? "GFLOP/s" : "GB/s");
    be->dealloc(y.data);
    be->ctx_close(k);
    ops_run_done(&run);
}

static int bench(const struct backend *be, const char *only)
{
    unsigned char *cold = calloc(1, COLD_BYTES);

    if (cold == NULL)
        return 1;
    for (int l = 0; ops_next(be, l); l++)
        ; /* the best one */
    printf("op,shape,us,rate,unit\n");
    for (int i = 0; i < CASES; i++)
        if (only == NULL || strcmp(only, ops_name(cases[i].op)) == 0)
            bench_case(be, &cases[i], cold);
    free(cold);
    return 0;
}

static const struct backend *backend_of(int argc, char **argv)
{
    const struct backend *be;
    char why[256];

    if (argc < 4 || (strcmp(argv[2], "--backend") != 0 && strcmp(argv[2], "--device") != 0))
        return backend_cpu();
    if (backend_load(argv[3], 0, why, sizeof why, &be) != 0) {
        fprintf(stderr, "ops: %s\n", why);
        exit(2);
    }
    return strcmp(argv[2], "--device") == 0 ? ops_device(be) : be;
}

int main(int argc, char **argv)
{
    const struct backend *be = backend_of(argc, argv);
    const char *mode = argc > 1 ? argv[1] : "";

    if (strcmp(mode, "compare") == 0)
        return compare(be);
    if (strcmp(mode, "rungs") == 0)
        return rungs(be, argc == 5 && strcmp(argv[4], "small") == 0);
    if (strcmp(mode, "bench") == 0)
        return bench(be, argc == 3 ? argv[2] : NULL);
    if (strcmp(mode, "grad") == 0)
        return ops_grad(be);
    if (strcmp(mode, "steady") == 0)
        return ops_steady(be);
    fprintf(stderr, "usage: ops compare | rungs | grad | steady | bench [OP]; [--backend FILE]\n");
    return 2;
}
