/* test_metrics.c -- the page of metrics: names once, labels escaped, histograms that agree with
 * themselves, refusals counted however many codes there are. And what the system says of a process.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/metrics.h"
#include "daemon/process.h"

struct page {
    char text[1 << 18];
    uint32_t len;
};

static struct page page;

static void add(void *ud, const char *text, uint32_t len)
{
    struct page *p = ud;

    assert_true(p->len + len < sizeof p->text);
    memcpy(p->text + p->len, text, len);
    p->len += len;
    p->text[p->len] = '\0';
}

static void read_page(void)
{
    page.len = 0;
    metrics_page(add, &page);
}

/* The number behind a row's name and labels; NAN: no such row. */
static double row(const char *name)
{
    size_t len = strlen(name);

    for (const char *at = page.text; at != NULL; at = strchr(at, '\n')) {
        at += *at == '\n';
        if (strncmp(at, name, len) == 0 && at[len] == ' ')
            return strtod(at + len, NULL);
    }
    return NAN;
}

/* The format's own characters in a name, a number as it is, and no line where there is none. */
static void test_lines(void **state)
{
    (void)state;
    page.len = 0;
    metrics_family(add, &page, "x_total", "Help.", "counter");
    metrics_of_model(add, &page, "x_total", "a\"b\\c\nd", NULL, NULL, 3);
    metrics_of_model(add, &page, "x_total", "m", "detector", "adwin", 0.1);
    metrics_of_model(add, &page, "x_total", "m", "label", "\"\n\\", -2);
    metrics_of_model(add, &page, "x_total", "none", NULL, NULL, NAN);
    metrics_row(add, &page, "x_total", "code", "\"", 4503599627370496);
    metrics_row(add, &page, "x_total", "code", "none", NAN);
    metrics_value(add, &page, "y", "Help.", "gauge", 1e300);
    metrics_value(add, &page, "z", "Help.", "gauge", NAN);
    assert_string_equal(page.text, "# HELP x_total Help.\n# TYPE x_total counter\n"
                                   "x_total{model=\"a\\\"b\\\\c\\nd\"} 3\n"
                                   "x_total{model=\"m\",detector=\"adwin\"} 0.10000000000000001\n"
                                   "x_total{model=\"m\",label=\"\\\"\\n\\\\\"} -2\n"
                                   "x_total{code=\"\\\"\"} 4503599627370496\n"
                                   "# HELP y Help.\n# TYPE y gauge\n"
                                   "y 1.0000000000000001e+300\n");
}

static void test_histograms(void **state)
{
    static const int64_t times_us[] = {-5, 0, 10, 11, 999, 1000, 60000000, 60000001, INT64_MAX / 2};

    (void)state;
    for (size_t i = 0; i < sizeof times_us / sizeof *times_us - 1; i++)
        metrics_observe(METRICS_SPAN_FSYNC, times_us[i]);
    read_page();
    assert_true(row("learnd_journal_fsync_seconds_bucket{le=\"1e-05\"}") == 3);
    assert_true(row("learnd_journal_fsync_seconds_bucket{le=\"0.001\"}") == 6);
    assert_true(row("learnd_journal_fsync_seconds_bucket{le=\"60\"}") == 7);
    assert_true(row("learnd_journal_fsync_seconds_bucket{le=\"+Inf\"}") == 8);
    assert_true(row("learnd_journal_fsync_seconds_count") == 8);
    assert_true(fabs(row("learnd_journal_fsync_seconds_sum") - 120.002021) < 1e-9);
}

static void test_classes(void **state)
{
    (void)state;
    metrics_answer(METRICS_ASK, 200, 1500);
    metrics_answer(METRICS_ASK, 422, 20);
    metrics_answer(METRICS_NO_ROUTE, 404, 5);
    metrics_turned_away(503);
    read_page();
    assert_true(row("learnd_requests_total") == 4);
    assert_true(row("learnd_request_seconds_count{class=\"ask\"}") == 2);
    assert_true(row("learnd_request_seconds_bucket{class=\"ask\",le=\"0.001\"}") == 1);
    assert_true(row("learnd_request_seconds_count{class=\"none\"}") == 1);
    assert_true(row("learnd_request_seconds_count{class=\"teach\"}") == 0);
    assert_true(row("learnd_answers_total{status=\"422\"}") == 1);
    assert_true(row("learnd_answers_total{status=\"503\"}") == 1);
    assert_true(isnan(row("learnd_answers_total{status=\"500\"}")));
}

/* More codes than the table holds: none is lost from the sum. */
static void test_codes(void **state)
{
    static char codes[300][24];
    double sum = 0, others;

    (void)state;
    for (int i = 0; i < 300; i++) {
        snprintf(codes[i], sizeof codes[i], "code_%d", i);
        metrics_item_refusal(codes[i]);
        metrics_item_refusal(codes[i]);
    }
    metrics_refusal(NULL);
    metrics_refusal("error");
    read_page();
    for (int i = 0; i < 300; i++) {
        char name[80];
        double n;

        snprintf(name, sizeof name, "learnd_feedback_refusals_total{code=\"code_%d\"}", i);
        n = row(name);
        sum += isnan(n) ? 0 : n;
    }
    others = row("learnd_feedback_refusals_total{code=\"others\"}");
    assert_true(others > 0 && sum + others == 600);
    assert_true(row("learnd_refusals_total{code=\"error\"}") == 2);
}

/* HELP and TYPE of a name stand once, before its rows. */
static void test_names_once(void **state)
{
    (void)state;
    read_page();
    for (const char *at = strstr(page.text, "# TYPE "); at != NULL;) {
        char name[80];

        assert_int_equal(sscanf(at, "# TYPE %79s", name), 1);
        at = strstr(at + 1, "# TYPE ");
        for (const char *again = at; again != NULL; again = strstr(again + 1, "# TYPE ")) {
            char other[80];

            assert_int_equal(sscanf(again, "# TYPE %79s", other), 1);
            assert_string_not_equal(name, other);
        }
    }
}

static void test_process(void **state)
{
    struct process_figures f = process_read();
    struct state_figures s = process_state("/nowhere");
    char *block = calloc(1, 64 << 20);
    int fd = dup(0);

    (void)state;
    assert_non_null(block);
    memset(block, 1, 64 << 20);
    assert_true(f.resident_bytes > 0 && f.virtual_bytes >= f.resident_bytes && f.threads >= 1);
    assert_true(process_read().resident_bytes > f.resident_bytes + (32 << 20));
    assert_true(fd >= 0 && process_read().fds == f.fds + 1 && f.fds <= f.fds_max);
    assert_true(f.cpu_s >= 0 && process_read().cpu_s >= f.cpu_s);
    assert_true(f.start_unix_s > 1.6e9 && f.start_unix_s <= (double)time(NULL) + 1);
    assert_true(isnan(s.journal_bytes) && isnan(s.wal_bytes) && isnan(s.free_bytes));
    assert_true(process_state("/tmp").filesystem_bytes > 0);
    close(fd);
    free(block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),      cmocka_unit_test(test_histograms),
        cmocka_unit_test(test_classes),    cmocka_unit_test(test_codes),
        cmocka_unit_test(test_names_once), cmocka_unit_test(test_process),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
