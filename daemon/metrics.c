/* metrics.c -- see metrics.h. Histograms have fixed bounds from 10 us to 60 s, three a decade and
 * more where answers are. Refusals are counted by their code in a small table that fills as codes
 * occur; codes are static words, so the table cannot be flooded from outside.
 */
#include "daemon/metrics.h"

#include <math.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { BOUNDS = 22, CODES_MAX = 192, STATUSES = 600 };

static const int64_t bounds_us[BOUNDS] = {
    10,    20,    50,     100,    200,    500,     1000,    2000,    3000,     5000,     10000,
    20000, 50000, 100000, 200000, 500000, 1000000, 2000000, 5000000, 10000000, 30000000, 60000000};

struct histogram {
    atomic_ullong buckets[BOUNDS + 1], sum_us;
};

struct codes {
    struct {
        _Atomic(const char *) code;
        atomic_ullong n;
    } rows[CODES_MAX];
    atomic_ullong others; /* the table was full: counted all the same */
};

static atomic_ullong counters[METRICS_COUNTERS_LEN];
static struct histogram histograms[METRICS_HISTOGRAMS_LEN], requests[METRICS_CLASSES_LEN];
static atomic_ullong statuses[STATUSES];
static struct codes refusals, item_refusals;

void metrics_add(enum metrics_counter counter, uint64_t n)
{
    atomic_fetch_add_explicit(&counters[counter], n, memory_order_relaxed);
}

uint64_t metrics_get(enum metrics_counter counter)
{
    return atomic_load_explicit(&counters[counter], memory_order_relaxed);
}

static void observe(struct histogram *h, int64_t us)
{
    int i = 0;

    while (i < BOUNDS && us > bounds_us[i])
        i++;
    atomic_fetch_add_explicit(&h->buckets[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum_us, us > 0 ? (uint64_t)us : 0, memory_order_relaxed);
}

void metrics_observe(enum metrics_histogram histogram, int64_t us)
{
    observe(&histograms[histogram], us);
}

void metrics_turned_away(int status)
{
    metrics_add(METRICS_REQUESTS, 1);
    if (status >= 0 && status < STATUSES)
        atomic_fetch_add_explicit(&statuses[status], 1, memory_order_relaxed);
}

void metrics_answer(enum metrics_class class, int status, int64_t us)
{
    metrics_turned_away(status);
    observe(&requests[class], us);
}

static void count_code(struct codes *codes, const char *code)
{
    if (code == NULL)
        code = "error";
    for (int i = 0; i < CODES_MAX; i++) {
        const char *have = atomic_load(&codes->rows[i].code);

        if (have == NULL && atomic_compare_exchange_strong(&codes->rows[i].code, &have, code))
            have = code;
        if (strcmp(have, code) == 0) {
            atomic_fetch_add_explicit(&codes->rows[i].n, 1, memory_order_relaxed);
            return;
        }
    }
    atomic_fetch_add_explicit(&codes->others, 1, memory_order_relaxed);
}

void metrics_refusal(const char *code)
{
    count_code(&refusals, code);
}

void metrics_item_refusal(const char *code)
{
    count_code(&item_refusals, code);
}

/* ---- the page -------------------------------------------------------------------------------- */

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

void metrics_family(metrics_write *write, void *ud, const char *name, const char *help,
                    const char *type)
{
    print(write, ud, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void add_value(metrics_write *write, void *ud, double value)
{
    char text[40];
    bool whole = value >= 0 && value < 9e15 && value == (double)(uint64_t)value;
    int len = whole ? snprintf(text, sizeof text, "%llu\n", (unsigned long long)value)
                    : snprintf(text, sizeof text, "%.17g\n", value);

    write(ud, text, (uint32_t)len);
}

void metrics_value(metrics_write *write, void *ud, const char *name, const char *help,
                   const char *type, double value)
{
    if (isnan(value))
        return;
    metrics_family(write, ud, name, help, type);
    print(write, ud, "%s ", name);
    add_value(write, ud, value);
}

/* A label's value may be anything that a name may be. */
static void add_escaped(metrics_write *write, void *ud, const char *text)
{
    while (*text != '\0') {
        size_t plain = strcspn(text, "\"\\\n");

        write(ud, text, (uint32_t)plain);
        text += plain;
        if (*text == '\0')
            break;
        write(ud, *text == '"' ? "\\\"" : *text == '\\' ? "\\\\" : "\\n", 2);
        text++;
    }
}

void metrics_row(metrics_write *write, void *ud, const char *name, const char *label,
                 const char *value_of, double value)
{
    if (isnan(value))
        return;
    print(write, ud, "%s{%s=\"", name, label);
    add_escaped(write, ud, value_of);
    write(ud, "\"} ", 3);
    add_value(write, ud, value);
}

void metrics_of_model(metrics_write *write, void *ud, const char *name, const char *model,
                      const char *label, const char *value_of, double value)
{
    if (isnan(value))
        return;
    print(write, ud, "%s{model=\"", name);
    add_escaped(write, ud, model);
    if (label != NULL) {
        print(write, ud, "\",%s=\"", label);
        add_escaped(write, ud, value_of);
    }
    write(ud, "\"} ", 3);
    add_value(write, ud, value);
}

/* label: "" or one pair, as in class="ask". Sums follow the buckets that were read, so that a page
 * agrees with itself under traffic. */
static void page_histogram(metrics_write *write, void *ud, const struct histogram *h,
                           const char *name, const char *label)
{
    unsigned long long total = 0;
    const char *comma = *label != '\0' ? "," : "", *open = *label != '\0' ? "{" : "",
               *close = *label != '\0' ? "}" : "";
    double sum = (double)atomic_load_explicit(&h->sum_us, memory_order_relaxed) / 1e6;

    for (int i = 0; i <= BOUNDS; i++) {
        total += atomic_load_explicit(&h->buckets[i], memory_order_relaxed);
        if (i < BOUNDS)
            print(write, ud, "%s_bucket{%s%sle=\"%g\"} %llu\n", name, label, comma,
                  (double)bounds_us[i] / 1e6, total);
        else
            print(write, ud, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", name, label, comma, total);
    }
    print(write, ud, "%s_sum%s%s%s %.6f\n%s_count%s%s%s %llu\n", name, open, label, close, sum,
          name, open, label, close, total);
}

static void page_codes(metrics_write *write, void *ud, const struct codes *codes, const char *name,
                       const char *help)
{
    unsigned long long others = atomic_load(&codes->others);

    metrics_family(write, ud, name, help, "counter");
    for (int i = 0; i < CODES_MAX && atomic_load(&codes->rows[i].code) != NULL; i++)
        metrics_row(write, ud, name, "code", atomic_load(&codes->rows[i].code),
                    (double)atomic_load(&codes->rows[i].n));
    if (others > 0)
        metrics_row(write, ud, name, "code", "others", (double)others);
}

static void page_requests(metrics_write *write, void *ud)
{
    static const char name[] = "learnd_request_seconds";

    metrics_family(write, ud, name, "From a request's last byte to its answer.", "histogram");
#define X(symbol, class)                                                                           \
    page_histogram(write, ud, &requests[METRICS_##symbol], name, "class=\"" class "\"");
    METRICS_CLASSES(X)
#undef X
}

void metrics_page(metrics_write *write, void *ud)
{
#define X(symbol, name, help)                                                                      \
    metrics_value(write, ud, name, help, "counter", (double)metrics_get(METRICS_##symbol));
    METRICS_COUNTERS(X)
#undef X
#define X(symbol, name, help)                                                                      \
    metrics_family(write, ud, name, help, "histogram");                                            \
    page_histogram(write, ud, &histograms[METRICS_##symbol], name, "");
    METRICS_HISTOGRAMS(X)
#undef X
    page_requests(write, ud);
    metrics_family(write, ud, "learnd_answers_total", "Answers by status.", "counter");
    for (int i = 0; i < STATUSES; i++) {
        char status[16];

        snprintf(status, sizeof status, "%d", i);
        if (atomic_load(&statuses[i]) > 0)
            metrics_row(write, ud, "learnd_answers_total", "status", status,
                        (double)atomic_load(&statuses[i]));
    }
    page_codes(write, ud, &refusals, "learnd_refusals_total",
               "Answers from 400 on by code; connections turned away are among them.");
    page_codes(write, ud, &item_refusals, "learnd_feedback_refusals_total",
               "Items of feedback refused, by code.");
}
