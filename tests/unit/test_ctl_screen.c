/* test_ctl_screen.c -- what learnctl shows on a terminal: texts in lines, and figures off a page of
 * metrics.
 *
 * What must hold: a wrapped text is the text, whatever its characters' widths, and no line is wider
 * than asked; a percentile lies in its bucket; a page with anything on it is read without harm.
 */
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/ctl/ctl_metrics.h"
#include "daemon/ctl/ctl_screen.h"
#include "daemon/ctl/ctl_table.h"

#define WIDE "\xe4\xb8\xad" /* two columns */

/* All lines of a text, with a '|' between them. */
static unsigned wrap(const char *text, unsigned columns, unsigned indent, char *out, size_t size)
{
    struct api_buffer frame = API_BUFFER_INIT;
    unsigned lines = ctl_screen_wrap(&frame, text, strlen(text), columns, indent, 0, UINT32_MAX);
    size_t len = frame.len > 0 ? frame.len - 1 : 0;

    assert_int_equal(frame.rc, 0);
    assert_true(len < size);
    memcpy(out, frame.bytes, len);
    out[len] = '\0';
    for (char *at = out; *at != '\0'; at++)
        *at = *at == '\n' ? '|' : *at;
    api_buffer_done(&frame);
    return lines;
}

static void test_wrapping(void **state)
{
    char out[512];

    (void)state;
    assert_int_equal(wrap("where is my card", 8, 0, out, sizeof out), 2);
    assert_string_equal(out, "where is|my card");
    assert_int_equal(wrap("abcdefgh", 3, 0, out, sizeof out), 3);
    assert_string_equal(out, "abc|def|gh");
    assert_int_equal(wrap("ab cd", 6, 2, out, sizeof out), 2);
    assert_string_equal(out, "  ab|  cd");
    assert_int_equal(wrap(WIDE WIDE WIDE, 5, 0, out, sizeof out), 2);
    assert_string_equal(out, WIDE WIDE "|" WIDE);
    assert_int_equal(wrap(WIDE WIDE, 1, 0, out, sizeof out), 2); /* wider than the screen */
    assert_string_equal(out, WIDE "|" WIDE);
    assert_int_equal(wrap("", 10, 0, out, sizeof out), 1);
    assert_int_equal(wrap("ab", 2, 2, out, sizeof out), 2);
}

/* Random texts: what is cut apart is put together again, and nothing is too wide. */
static void test_wrapped_texts_are_whole(void **state)
{
    static const char *const pieces[] = {"a", " ", WIDE, "word", "\xc3\xa9", "e\xcc\x81", "  "};
    uint64_t seed = 5;

    (void)state;
    for (int round = 0; round < 500; round++) {
        char text[512] = "", out[2048], *at = out;
        size_t len = 0, k = 0;
        unsigned columns;

        for (int i = 0; i < 40; i++) {
            const char *piece;

            seed = seed * 6364136223846793005u + 1442695040888963407u;
            piece = pieces[(seed >> 33) % 7];
            len += (size_t)snprintf(text + len, sizeof text - len, "%s", piece);
        }
        columns = 2 + (unsigned)(seed >> 40) % 20;
        wrap(text, columns, 0, out, sizeof out);
        for (; *at != '\0'; at += *at == '|') {
            size_t line = strcspn(at, "|");
            unsigned width = 0;

            ctl_measure(at, line, UINT32_MAX / 2, &width);
            assert_true(width <= columns);
            if (k > 0 && text[k] == ' ' && (line == 0 || *at != ' '))
                k++; /* the blank that the line ended at */
            assert_memory_equal(text + k, at, line);
            k += line;
            at += line;
            if (text[k] == ' ' && *at == '|')
                k++;
            if (*at == '\0')
                break;
        }
        assert_true(k == len || strspn(text + k, " ") == len - k);
    }
}

static void test_cutting(void **state)
{
    struct api_buffer out = API_BUFFER_INIT;

    (void)state;
    assert_int_equal(ctl_screen_cut(&out, "abc", 3, 3), 3);
    assert_int_equal(ctl_screen_cut(&out, "abcd", 4, 3), 3);
    assert_int_equal(ctl_screen_cut(&out, WIDE WIDE, 6, 3), 3);
    api_buffer_add(&out, "", 1);
    assert_string_equal(out.bytes, "abcab\xe2\x80\xa6" WIDE "\xe2\x80\xa6");
    api_buffer_done(&out);
}

static const char PAGE[] =
    "# HELP learnd_texts_total x\n# TYPE learnd_texts_total counter\nlearnd_texts_total 41\n"
    "learnd_refusals_total{code=\"a b\"} 2\nlearnd_refusals_total{code=\"le=\\\"3\"} 3\n"
    "learnd_request_seconds_bucket{le=\"0.001\"} 10\n"
    "learnd_request_seconds_bucket{path=\"/x\",le=\"0.001\"} 40\n"
    "learnd_request_seconds_bucket{le=\"0.01\"} 50\n"
    "learnd_request_seconds_bucket{path=\"/x\",le=\"0.01\"} 50\n"
    "learnd_request_seconds_bucket{le=\"+Inf\"} 50\n"
    "learnd_request_seconds_bucket{path=\"/x\",le=\"+Inf\"} 50\n"
    "learnd_queue_texts NaN\nlearnd_texts_total_more 7\nlearnd_connections\n\nnonsense {{{ 5\n"
    "process_resident_memory_bytes 1e3";

static void test_metrics(void **state)
{
    struct ctl_metrics m, none;
    const struct ctl_spread *s = &m.stages[CTL_ANSWER];

    (void)state;
    ctl_metrics_read(PAGE, sizeof PAGE - 1, &m);
    assert_true(m.figures[CTL_QUESTIONS] == 41);
    assert_true(m.figures[CTL_REFUSALS] == 5);
    assert_true(m.figures[CTL_RESIDENT] == 1000);
    assert_true(isnan(m.figures[CTL_QUEUED]) && isnan(m.figures[CTL_CONNECTIONS]));
    assert_int_equal(s->len, 3);
    assert_true(fabs(ctl_spread_at(s, NULL, 0.5) - 0.001) < 1e-9);
    assert_true(fabs(ctl_spread_at(s, NULL, 0.25) - 0.0005) < 1e-9);
    assert_true(fabs(ctl_spread_at(s, NULL, 0.75) - 0.0055) < 1e-9);
    assert_true(isnan(ctl_spread_at(s, s, 0.5))); /* nothing since */
    ctl_metrics_read("", 0, &none);
    assert_true(isnan(ctl_spread_at(&none.stages[CTL_ANSWER], NULL, 0.5)));
    for (size_t cut = 0; cut < sizeof PAGE - 1; cut++) /* wherever the page breaks off */
        ctl_metrics_read(PAGE, cut, &none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrapping),
        cmocka_unit_test(test_wrapped_texts_are_whole),
        cmocka_unit_test(test_cutting),
        cmocka_unit_test(test_metrics),
    };

    setlocale(LC_CTYPE, "C.UTF-8");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
