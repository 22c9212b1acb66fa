/* metrics.c -- see metrics.h. Histograms have fixed bounds from 50 us to 10 s, about three a
 * decade. Refusals are counted by their code in a small table that fills as codes occur; codes are
 * static words, so the table cannot be flooded from outside.
 */
#include "daemon/metrics.h"

#include <math.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { BOUNDS = 17, CODES_MAX = 96, STATUSES = 600 };

static const int64_t bounds_us[BOUNDS] = {50,     100,    200,     500,     1000,    2000,
                                          3000,   5000,   10000,   20000,   50000,   100000,
                                          200000, 500000, 1000000, 5000000, 10000000};

static atomic_ullong counters[METRICS_COUNTERS_LEN];
static struct {
    atomic_ullong buckets[BOUNDS + 1], sum_us;
} histograms[METRICS_HISTOGRAMS_LEN];
static atomic_ullong statuses[STATUSES];
static struct {
    _Atomic(const char *) code;
    atomic_ullong n;
} codes[CODES_MAX];

void metrics_add(enum metrics_counter counter, uint64_t n)
{
    atomic_fetch_add_explicit(&counters[counter], n, memory_order_relaxed);
}

uint64_t metrics_get(enum metrics_counter counter)
{
    return atomic_load_explicit(&counters[counter], memory_order_relaxed);
}

void metrics_observe(enum metrics_histogram histogram, int64_t us)
{
    int i = 0;

    while (i < BOUNDS && us > bounds_us[i])
        i++;
    atomic_fetch_add_explicit(&histograms[histogram].buckets[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&histograms[histogram].sum_us, us > 0 ? (uint64_t)us : 0,
                              memory_order_relaxed);
}

void metrics_answer(int status)
{
    metrics_add(METRICS_REQUESTS, 1);
    if (status >= 0 && status < STATUSES)
        atomic_fetch_add_explicit(&statuses[status], 1, memory_order_relaxed);
}

void metrics_refusal(const char *code)
{
    for (int i = 0; i < CODES_MAX; i++) {
        const char *have = atomic_load(&codes[i].code);

        if (have == NULL && atomic_compare_exchange_strong(&codes[i].code, &have, code))
            have = code;
        if (strcmp(have, code) == 0) {
            atomic_fetch_add_explicit(&codes[i].n, 1, memory_order_relaxed);
            return;
        }
    }
}

static void print(metrics_write *write, void *ud, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void print(metrics_write *write, void *ud, const char *format, ...)
{
    char line[512];
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (len > 0)
        write(ud, line, (uint32_t)len < sizeof line ? (uint32_t)len : sizeof line - 1);
}

void metrics_gauge(metrics_write *write, void *ud, const char *name, const char *help, double value)
{
    print(write, ud, "# HELP %s %s\n# TYPE %s gauge\n%s %.17g\n", name, help, name, name, value);
}

void metrics_family(metrics_write *write, void *ud, const char *name, const char *help,
                    const char *type)
{
    print(write, ud, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metrics_of_model(metrics_write *write, void *ud, const char *name, const char *model,
                      const char *detector, double value)
{
    if (isnan(value))
        return;
    print(write, ud, "%s{model=\"", name);
    for (; *model != '\0'; model++)
        if (*model == '\n')
            write(ud, "\\n", 2);
        else
            print(write, ud, "%s%c", *model == '"' || *model == '\\' ? "\\" : "", *model);
    if (detector != NULL)
        print(write, ud, "\",detector=\"%s", detector);
    print(write, ud, "\"} %.17g\n", value);
}

static void page_histogram(metrics_write *write, void *ud, int h, const char *name,
                           const char *help)
{
    unsigned long long total = 0;

    print(write, ud, "# HELP %s %s\n# TYPE %s histogram\n", name, help, name);
    for (int i = 0; i <= BOUNDS; i++) {
        total += atomic_load_explicit(&histograms[h].buckets[i], memory_order_relaxed);
        if (i < BOUNDS)
            print(write, ud, "%s_bucket{le=\"%g\"} %llu\n", name, (double)bounds_us[i] / 1e6,
                  total);
        else
            print(write, ud, "%s_bucket{le=\"+Inf\"} %llu\n", name, total);
    }
    print(write, ud, "%s_sum %.6f\n%s_count %llu\n", name,
          (double)atomic_load_explicit(&histograms[h].sum_us, memory_order_relaxed) / 1e6, name,
          total);
}

void metrics_page(metrics_write *write, void *ud)
{
#define X(symbol, name, help)                                                                      \
    print(write, ud, "# HELP " name " " help "\n# TYPE " name " counter\n" name " %llu\n",         \
          (unsigned long long)metrics_get(METRICS_##symbol));
    METRICS_COUNTERS(X)
#undef X
#define X(symbol, name, help) page_histogram(write, ud, METRICS_##symbol, name, help);
    METRICS_HISTOGRAMS(X)
#undef X
    print(write, ud,
          "# HELP learnd_answers_total Answers by status.\n"
          "# TYPE learnd_answers_total counter\n");
    for (int i = 0; i < STATUSES; i++)
        if (atomic_load(&statuses[i]) > 0)
            print(write, ud, "learnd_answers_total{status=\"%d\"} %llu\n", i,
                  (unsigned long long)atomic_load(&statuses[i]));
    print(write, ud,
          "# HELP learnd_refusals_total Refusals by code.\n"
          "# TYPE learnd_refusals_total counter\n");
    for (int i = 0; i < CODES_MAX && atomic_load(&codes[i].code) != NULL; i++)
        print(write, ud, "learnd_refusals_total{code=\"%s\"} %llu\n", atomic_load(&codes[i].code),
              (unsigned long long)atomic_load(&codes[i].n));
}
