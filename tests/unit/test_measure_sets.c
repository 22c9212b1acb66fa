/* kernels/measure's evaluation of sets: its figures against a count of one's own, what it refuses,
 * its image. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/measure/evaluation_sets.h"
#include "tests/unit/measure_fixture.h"

enum { LABELS = 7, ROWS = 1200, KNOWN = 5 };

struct made {
    uint32_t truth[LABELS], guessed[LABELS], truth_len, guessed_len;
};

static void make(struct made rows[ROWS])
{
    uint64_t state = 11;

    for (int i = 0; i < ROWS; i++) {
        struct made *m = &rows[i];

        *m = (struct made){.truth_len = 0};
        for (uint32_t c = 0; c < LABELS; c++) {
            bool is = fixture_uniform(&state) < 0.3, right = fixture_uniform(&state) < 0.9;

            if (is)
                m->truth[m->truth_len++] = c;
            if (c < KNOWN && is == right)
                m->guessed[m->guessed_len++] = c;
        }
    }
}

static bool has(const uint32_t *set, uint32_t len, uint32_t label)
{
    for (uint32_t i = 0; i < len; i++)
        if (set[i] == label)
            return true;
    return false;
}

static struct evaluation_sets_row row_of(const struct made *m, int64_t seq)
{
    struct evaluation_sets_row row = {.seq = seq,
                                      .truth = m->truth,
                                      .truth_len = m->truth_len,
                                      .guessed = m->guessed,
                                      .guessed_len = m->guessed_len,
                                      .labels_known = KNOWN,
                                      .known = true,
                                      .novel = seq % 4 == 0,
                                      .abstained = m->guessed_len == 0};

    for (uint32_t i = 0; i < m->truth_len; i++)
        row.known = row.known && m->truth[i] < KNOWN;
    return row;
}

static struct evaluation_sets *counted(const struct made rows[ROWS])
{
    struct evaluation_sets *s;

    assert_int_equal(evaluation_sets_open(&s), 0);
    assert_int_equal(evaluation_sets_grow(s, LABELS), 0);
    for (int i = 0; i < ROWS; i++) {
        struct evaluation_sets_row row = row_of(&rows[i], i + 1);

        assert_int_equal(evaluation_sets_score(s, &row), 0);
    }
    return s;
}

static void test_figures(void **state)
{
    static struct made rows[ROWS];
    struct evaluation_sets_report *r;
    struct evaluation_sets *s;
    double exact = 0, known = 0, exact_known = 0, both = 0, taught = 0, guessed = 0, decisions = 0;
    double macro = 0, window = 0;

    (void)state;
    make(rows);
    s = counted(rows);
    assert_int_equal(evaluation_sets_read(s, &r), 0);
    for (int i = 0; i < ROWS; i++) {
        struct evaluation_sets_row row = row_of(&rows[i], i + 1);
        double hits = 0, either;

        for (uint32_t k = 0; k < row.guessed_len; k++)
            hits += has(row.truth, row.truth_len, row.guessed[k]);
        either = row.truth_len + row.guessed_len - hits;
        exact += either == hits;
        window += i >= ROWS - EVALUATION_WINDOW && either == hits;
        known += row.known;
        exact_known += row.known && either == hits;
        both += hits;
        taught += row.truth_len;
        guessed += row.guessed_len;
        decisions += fmax(either, KNOWN);
    }
    for (uint32_t c = 0; c < LABELS; c++) {
        double t = 0, g = 0, tp = 0;

        for (int i = 0; i < ROWS; i++) {
            bool is = has(rows[i].truth, rows[i].truth_len, c);
            bool said = has(rows[i].guessed, rows[i].guessed_len, c);

            t += is;
            g += said;
            tp += is && said;
        }
        assert_true(r->labels[c].taught == (uint64_t)t && r->labels[c].guessed == (uint64_t)g &&
                    r->labels[c].right == (uint64_t)tp);
        assert_true(fabs(r->labels[c].f1 - 2 * tp / (t + g)) < 1e-12);
        assert_true(fabs(r->labels[c].recall - tp / t) < 1e-12);
        macro += 2 * tp / (t + g) / LABELS;
    }
    assert_true(r->rows == ROWS && r->rows_known == (uint64_t)known && known < ROWS);
    assert_true(fabs(r->exact_match - exact / ROWS) < 1e-12 && exact > 0);
    assert_true(fabs(r->exact_match_known - exact_known / known) < 1e-12);
    assert_true(fabs(r->exact_match_window - window / EVALUATION_WINDOW) < 1e-12);
    assert_true(r->exact_match_low < r->exact_match && r->exact_match < r->exact_match_high);
    assert_true(fabs(r->micro_f1 - 2 * both / (taught + guessed)) < 1e-12);
    assert_true(fabs(r->micro_precision - both / guessed) < 1e-12);
    assert_true(fabs(r->micro_recall - both / taught) < 1e-12);
    assert_true(fabs(r->hamming_loss - (taught + guessed - 2 * both) / decisions) < 1e-12);
    assert_true(fabs(r->macro_f1 - macro) < 1e-12);
    assert_true(fabs(r->rates.novel_total - 0.25) < 1e-12);
    evaluation_sets_report_free(r);
    evaluation_sets_close(s);
}

static void test_nothing_counted(void **state)
{
    struct evaluation_sets_report *r;
    struct evaluation_sets *s;

    (void)state;
    assert_int_equal(evaluation_sets_open(&s), 0);
    assert_int_equal(evaluation_sets_read(s, &r), 0);
    assert_true(r->rows == 0 && isnan(r->exact_match) && isnan(r->micro_f1) && isnan(r->macro_f1));
    evaluation_sets_report_free(r);
    evaluation_sets_close(s);
}

static void test_refused_rows_change_nothing(void **state)
{
    static struct made rows[ROWS];
    const uint32_t twice[] = {1, 2, 1}, beyond[] = {LABELS}, good[] = {3};
    const struct evaluation_sets_row bad[] = {
        {.seq = ROWS, .truth = good, .truth_len = 1},
        {.seq = ROWS + 1, .truth = twice, .truth_len = 3},
        {.seq = ROWS + 1, .guessed = twice, .guessed_len = 3},
        {.seq = ROWS + 1, .truth = beyond, .truth_len = 1},
        {.seq = ROWS + 1, .guessed = beyond, .guessed_len = 1},
        {.seq = ROWS + 1, .labels_known = LABELS + 1},
    };
    struct evaluation_sets *s;
    size_t bytes;
    void *before, *after;

    (void)state;
    make(rows);
    s = counted(rows);
    bytes = evaluation_sets_image_bytes(s);
    before = malloc(bytes);
    after = malloc(bytes);
    evaluation_sets_image_write(s, before);
    assert_int_equal(evaluation_sets_score(s, &bad[0]), -EALREADY);
    for (size_t i = 1; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(evaluation_sets_score(s, &bad[i]), -EINVAL);
    assert_int_equal(evaluation_sets_grow(s, EVALUATION_LABELS_MAX + 1), -E2BIG);
    evaluation_sets_image_write(s, after);
    assert_memory_equal(before, after, bytes);
    free(before);
    free(after);
    evaluation_sets_close(s);
}

static void test_image(void **state)
{
    static struct made rows[ROWS];
    struct evaluation_sets *s, *again;
    struct evaluation_sets_row row;
    size_t bytes;
    uint8_t *image, *copy;

    (void)state;
    make(rows);
    s = counted(rows);
    bytes = evaluation_sets_image_bytes(s);
    image = malloc(bytes);
    copy = malloc(bytes);
    evaluation_sets_image_write(s, image);
    for (size_t cut = 0; cut < bytes; cut += 1 + cut / 9)
        assert_int_equal(evaluation_sets_image_read(image, cut, &again), -EINVAL);
    for (size_t i = 0; i < 4 + 4 + 4 + 8 * 3 * LABELS + 8; i++) { /* counts: the high bytes */
        memcpy(copy, image, bytes);
        copy[i] ^= 0x80;
        if (evaluation_sets_image_read(copy, bytes, &again) == 0)
            evaluation_sets_close(again); /* a count that is off by a little may agree */
        else
            continue;
        assert_true(i >= 12 && (i - 12) % 8 < 2);
    }
    assert_int_equal(evaluation_sets_image_read(image, bytes, &again), 0);
    row = row_of(&rows[3], ROWS + 1);
    assert_int_equal(evaluation_sets_score(s, &row), 0);
    assert_int_equal(evaluation_sets_score(again, &row), 0);
    evaluation_sets_image_write(s, image);
    evaluation_sets_image_write(again, copy);
    assert_memory_equal(image, copy, bytes);
    free(image);
    free(copy);
    evaluation_sets_close(s);
    evaluation_sets_close(again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_figures),
        cmocka_unit_test(test_nothing_counted),
        cmocka_unit_test(test_refused_rows_change_nothing),
        cmocka_unit_test(test_image),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
