/* bench_peak.c -- this machine's oneDNN matmul rate at the encoder's shapes, over a ladder of row
 * counts: bf16 and fp32, one thread and all, weights warm in the nearest cache (one copy) and
 * coming in layer by layer (six copies). Usage: bench_peak [--csv FILE]
 */
#include <err.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>

#include "daemon/clock.h"
#include "tests/bench/corpus.h"
#include "tests/bench/peak.h"

enum { ROUNDS = 5, ROUND_US = 30000, ROWS_MAX = 1024 };

static const struct peak_shape shapes[] = {{384, 1152}, {384, 384}, {384, 1536}, {1536, 384}};
static const uint32_t ladder[] = {1, 8, 16, 32, 64, 128, 256, 512, 1024};

/* TFLOP/s, the median of ROUNDS. */
static double measure(struct peak *p, uint32_t N)
{
    double rates[ROUNDS];

    peak_run(p, N);
    for (int r = 0; r < ROUNDS; r++) {
        int64_t started = clock_us();
        uint32_t runs = 0;

        do {
            peak_run(p, N);
            runs++;
        } while (clock_us() - started < ROUND_US);
        rates[r] = peak_flops(p, N) * runs / (double)(clock_us() - started) * 1e-6;
    }
    return corpus_median(rates, ROUNDS);
}

static void table(enum kdtype dtype, int threads, FILE *csv)
{
    const char *name = dtype == K_BF16 ? "bf16" : "fp32";
    struct peak *warm[5], *cold = peak_open(shapes, 4, 6, dtype, ROWS_MAX);

    omp_set_num_threads(threads);
    for (int s = 0; s < 4; s++)
        warm[s] = peak_open(&shapes[s], 1, 1, dtype, ROWS_MAX);
    warm[4] = peak_open(shapes, 4, 1, dtype, ROWS_MAX);
    printf("\n%s, %d thread%s (TFLOP/s)\n%6s", name, threads, threads > 1 ? "s" : "", "rows");
    for (int s = 0; s < 4; s++)
        printf("   %4ux%-4u", shapes[s].K, shapes[s].M);
    printf("  one layer  six layers\n");
    for (size_t i = 0; i < sizeof ladder / sizeof *ladder; i++) {
        printf("%6u", ladder[i]);
        for (int s = 0; s < 6; s++) {
            double rate = measure(s < 5 ? warm[s] : cold, ladder[i]);

            printf(s < 5 ? " %11.3f" : " %11.3f\n", rate);
            fflush(stdout);
            if (csv != NULL && s < 4)
                fprintf(csv, "%s,%d,%u,%ux%u,%.4f\n", name, threads, ladder[i], shapes[s].K,
                        shapes[s].M, rate);
            else if (csv != NULL)
                fprintf(csv, "%s,%d,%u,%s,%.4f\n", name, threads, ladder[i],
                        s == 4 ? "layer" : "six layers", rate);
        }
    }
    for (int s = 0; s < 5; s++)
        peak_close(warm[s]);
    peak_close(cold);
}

int main(int argc, char **argv)
{
    FILE *csv = NULL;
    int cores = omp_get_num_procs();

    if (argc == 3 && strcmp(argv[1], "--csv") == 0)
        csv = fopen(argv[2], "w");
    else if (argc > 1)
        errx(2, "usage: bench_peak [--csv FILE]");
    if (argc == 3 && csv == NULL)
        err(1, "%s", argv[2]);
    if (csv != NULL)
        fprintf(csv, "dtype,threads,rows,shape,tflops\n");
    for (int threads = 1; threads <= cores; threads += cores > 1 ? cores - 1 : 1) {
        table(K_BF16, threads, csv);
        table(K_F32, threads, csv);
    }
    if (csv != NULL && fclose(csv) != 0)
        err(1, "%s", argv[2]);
    return 0;
}
