/* test_measure_evaluation.c -- evaluation.h: by hand, against sums over the whole history, and
 * under damage. Random streams follow from a seed that is printed when a check on one fails.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/measure/evaluation_internal.h"
#include "tests/unit/measure_fixture.h"

#define near(a, b, tolerance)                                                                      \
    do {                                                                                           \
        double a_ = (a), b_ = (b);                                                                 \
        if (!(fabs(a_ - b_) <= (tolerance)))                                                       \
            fail_msg("%s = %.17g, not %.17g", #a, a_, b_);                                         \
    } while (0)

/* ---- by hand --------------------------------------------------------------------------------- */

/* Four rows: label 0 never seen and nobody to guess, then right, then label 1 never seen, then 1
 * taken for 0. */
static const struct evaluation_row hand_rows[] = {
    {.seq = 1, .truth = 0, .predicted = EVALUATION_NONE, .annotator = "ann"},
    {.seq = 2,
     .truth = 0,
     .predicted = 0,
     .labels_known = 1,
     .p_predicted = 1,
     .p_truth = 1,
     .p_squares = 1,
     .known = true,
     .annotator = "ann"},
    {.seq = 3,
     .truth = 1,
     .predicted = 0,
     .labels_known = 1,
     .p_predicted = 1,
     .p_squares = 1,
     .novel = true,
     .abstained = true,
     .annotator = "bob"},
    {.seq = 9,
     .truth = 1,
     .predicted = 0,
     .labels_known = 2,
     .p_predicted = 0.6,
     .p_truth = 0.4,
     .p_squares = 0.52,
     .known = true},
};

static void check_hand_quality(const struct evaluation_report *r)
{
    /* label 0: taught 2, predicted 3, right 1 -> F1 2/5; label 1: 0. Known rows: 0 taught 1,
     * predicted 2, right 1 -> 2/3 */
    near(r->all.macro_f1, 0.2, 1e-15);
    near(r->known.macro_f1, 1.0 / 3, 1e-15);
    near(r->labels[0].precision, 1.0 / 3, 1e-15);
    near(r->labels[0].recall, 0.5, 0);
    near(r->labels[0].recall_known, 1, 0);
    near(r->labels[1].f1, 0, 0);
    assert_true(isnan(r->labels[1].precision));
    /* Brier: 1 (nobody guessed: 0 - 0 + 1), 0, 2, .52 - .8 + 1 */
    near(r->all.brier, (1 + 0 + 2 + 0.72) / 4, 1e-9);
    near(r->known.brier, 0.36, 1e-9);
    near(r->known.nll, -log(0.4) / 2, 1e-9);
    near(r->all.nll, (2 * -log(1e-7) - log(0.4)) / 4, 1e-9);
    /* Known: p 1 right, p .6 wrong -> ECE (0 + .6)/2; risk 0 at coverage 1/2, 1/2 at 1 -> area
     * (1/2)(1/4) */
    near(r->known.ece, 0.3, 1e-9);
    assert_int_equal(r->known.curve_len, 2);
    near(r->known.curve[0].coverage, 0.5, 0);
    near(r->known.curve[0].risk, 0, 0);
    near(r->known.curve[1].risk, 0.5, 0);
    near(r->known.aurc, 0.125, 1e-15);
}

static void test_by_hand(void **state)
{
    struct evaluation *e;
    struct evaluation_report *r;

    (void)state;
    assert_int_equal(evaluation_open(&e), 0);
    assert_int_equal(evaluation_labels_grow(e, 2), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(evaluation_score(e, &hand_rows[i]), 0);
    r = fixture_report(e);
    assert_true(r->ordered);
    assert_true(r->first_seq == 1 && r->last_seq == 9 && evaluation_seq(e) == 9);
    assert_true(r->all.rows == 4 && r->all.right == 1 && r->known.rows == 2 && r->known.right == 1);
    assert_int_equal(r->unanswered, 1);
    near(r->all.accuracy, 0.25, 0);
    near(r->known.accuracy, 0.5, 0);
    near(r->all.accuracy_fading, 0.999 * 0.999 / (1 + 0.999 + 0.998001 + 0.997002999), 1e-15);
    near(r->known.accuracy_fading, 0.999 / 1.999, 1e-15);
    near(r->all.accuracy_window, 0.25, 0);
    near(r->chance, (1 + 1 + 0.5) / 3, 1e-9);
    check_hand_quality(r);
    assert_true(r->taught.novel == 1 && r->taught.abstained == 1 && r->asked.rows == 0);
    near(r->taught.novel_window, 0.25, 0);
    assert_true(isnan(r->asked.novel_window));
    assert_int_equal(r->pairs_len, 1);
    assert_true(r->pairs[0].truth == 1 && r->pairs[0].predicted == 0 && r->pairs[0].rows == 2);
    assert_int_equal(r->annotators_len, 2);
    assert_string_equal(r->annotators[0].name, "ann");
    assert_true(r->annotators[0].rows == 2 && r->annotators[0].agreed == 1);
    assert_true(r->unnamed.rows == 1 && r->others.rows == 0);
    evaluation_report_free(r);
    evaluation_close(e);
}

static void test_empty(void **state)
{
    struct evaluation *e;
    struct evaluation_report *r;

    (void)state;
    assert_int_equal(evaluation_open(&e), 0);
    r = fixture_report(e);
    assert_true(isnan(r->all.accuracy) && isnan(r->all.ece) && isnan(r->all.macro_f1) &&
                isnan(r->all.aurc) && isnan(r->chance) && isnan(r->forgetting));
    assert_true(r->labels_len == 0 && r->pairs_len == 0 && r->all.curve_len == 0);
    assert_true(r->first_seq == INT64_MIN && r->last_seq == INT64_MIN);
    near(r->all.accuracy_low, 0, 0);
    near(r->all.accuracy_high, 1, 0);
    evaluation_report_free(r);
    evaluation_close(e);
}

/* Values of Wilson (1927) as every table gives them: 8 of 10, and 0 of 10. */
static void test_wilson(void **state)
{
    double low, high;

    (void)state;
    evaluation_wilson(8, 10, &low, &high);
    near(low, 0.4901625, 1e-6);
    near(high, 0.9433178, 1e-6);
    evaluation_wilson(0, 10, &low, &high);
    near(low, 0, 1e-15);
    near(high, 0.2775328, 1e-6);
}

/* ---- against the whole history --------------------------------------------------------------- */

struct naive {
    double rows, right, brier, nll, ece, fade, weight, aurc, f1;
    uint32_t window_rows, window_right;
};

static double naive_ece(const struct history *h, bool known_only, double total)
{
    double ece = 0;

    for (int bin = 0; bin < EVALUATION_BINS; bin++) {
        double rows = 0, right = 0, p = 0;

        for (uint32_t i = 0; i < h->len; i++) {
            const struct evaluation_row *r = &h->rows[i];
            bool in = r->p_predicted > bin / 15.0 && r->p_predicted <= (bin + 1) / 15.0;

            if ((known_only && !r->known) || !(in || (bin == 0 && r->p_predicted == 0)))
                continue;
            rows++;
            right += r->truth == r->predicted;
            p += r->p_predicted;
        }
        if (rows > 0)
            ece += fabs(p - right) / total;
    }
    return ece;
}

static double naive_f1(const struct history *h, bool known_only)
{
    double sum = 0, used = 0;

    for (uint32_t c = 0; c < HISTORY_LABELS; c++) {
        double taught = 0, predicted = 0, right = 0;

        for (uint32_t i = 0; i < h->len; i++) {
            const struct evaluation_row *r = &h->rows[i];

            if (known_only && !r->known)
                continue;
            taught += r->truth == c;
            predicted += r->predicted == c;
            right += r->truth == c && r->predicted == c;
        }
        if (taught + predicted > 0) {
            sum += 2 * right / (taught + predicted);
            used++;
        }
    }
    return sum / used;
}

static double naive_aurc(const struct history *h, bool known_only, double total)
{
    double area = 0, coverage = 0, risk = -1;

    for (int bin = EVALUATION_CURVE - 1; bin >= 0; bin--) {
        double rows = 0, wrong = 0;

        for (uint32_t i = 0; i < h->len; i++) {
            const struct evaluation_row *r = &h->rows[i];

            if ((known_only && !r->known) ||
                (bin > 0 && ceil(r->p_predicted * EVALUATION_CURVE) - 1 < bin))
                continue;
            rows++;
            wrong += r->truth != r->predicted;
        }
        if (rows == 0 || rows / total == coverage)
            continue;
        risk = risk < 0 ? wrong / rows : risk;
        area += (rows / total - coverage) * (wrong / rows + risk) / 2;
        coverage = rows / total;
        risk = wrong / rows;
    }
    return area;
}

static struct naive naive_of(const struct history *h, bool known_only)
{
    struct naive n = {0};

    for (uint32_t i = h->len; i-- > 0;) {
        const struct evaluation_row *r = &h->rows[i];
        bool right = r->truth == r->predicted;

        if (known_only && !r->known)
            continue;
        n.fade += right * pow(EVALUATION_FADE, n.rows);
        n.weight += pow(EVALUATION_FADE, n.rows);
        if (n.window_rows < EVALUATION_WINDOW) {
            n.window_rows++;
            n.window_right += right;
        }
        n.rows++;
        n.right += right;
        n.brier += r->p_squares - 2 * r->p_truth + 1;
        n.nll -= log(fmax(r->p_truth, EVALUATION_P_MIN));
    }
    n.ece = naive_ece(h, known_only, n.rows);
    n.f1 = naive_f1(h, known_only);
    n.aurc = naive_aurc(h, known_only, n.rows);
    return n;
}

static void check_part(const struct evaluation_part *p, const struct naive *n)
{
    near(p->accuracy, n->right / n->rows, 1e-12);
    near(p->accuracy_fading, n->fade / n->weight, 1e-10);
    near(p->accuracy_window, (double)n->window_right / n->window_rows, 1e-12);
    near(p->brier, n->brier / n->rows, 1e-9);
    near(p->nll, n->nll / n->rows, 1e-9);
    near(p->ece, n->ece, 1e-9);
    near(p->macro_f1, n->f1, 1e-12);
    near(p->aurc, n->aurc, 1e-12);
}

static void check_annotators(const struct history *h, const struct evaluation_report *r)
{
    assert_int_equal(r->annotators_len, 5);
    for (uint32_t a = 0; a < 5; a++) {
        const struct evaluation_annotator *person = &r->annotators[a];
        double rows = 0, agreed = 0, fade = 0, weight = 0;

        assert_true(a == 0 || strcmp(r->annotators[a - 1].name, person->name) < 0);
        for (uint32_t i = h->len; i-- > 0;) {
            const struct evaluation_row *row = &h->rows[i];

            if (row->annotator == NULL || strcmp(row->annotator, person->name) != 0)
                continue;
            fade += (row->truth == row->predicted) * pow(EVALUATION_FADE, rows);
            weight += pow(EVALUATION_FADE, rows);
            rows++;
            agreed += row->truth == row->predicted;
        }
        near(person->agreement, agreed / rows, 1e-12);
        near(person->agreement_fading, fade / weight, 1e-10);
    }
}

static void check_pairs(const struct history *h, const struct evaluation_report *r)
{
    uint64_t wrong = 0, listed = 0;

    for (uint32_t i = 0; i < h->len; i++)
        wrong +=
            h->rows[i].predicted != EVALUATION_NONE && h->rows[i].predicted != h->rows[i].truth;
    for (uint32_t k = 0; k < r->pairs_len; k++) {
        uint64_t rows = 0;

        for (uint32_t i = 0; i < h->len; i++)
            rows += h->rows[i].truth == r->pairs[k].truth &&
                    h->rows[i].predicted == r->pairs[k].predicted;
        assert_int_equal(r->pairs[k].rows, rows);
        assert_int_equal(r->pairs[k].error, 0);
        assert_true(k == 0 || r->pairs[k - 1].rows >= rows);
        listed += rows;
    }
    assert_int_equal(listed, wrong);
}

static void test_against_history(void **state)
{
    struct history *h = malloc(sizeof *h);

    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct evaluation *e;
        struct evaluation_report *r;
        struct naive all, known;

        fixture_history(h, seed);
        e = fixture_evaluation(h, h->len);
        r = fixture_report(e);
        all = naive_of(h, false);
        known = naive_of(h, true);
        print_message("seed %lu: accuracy %.3f, known %.3f\n", (unsigned long)seed, r->all.accuracy,
                      r->known.accuracy);
        assert_true(all.rows > known.rows && known.right > 1000);
        check_part(&r->all, &all);
        check_part(&r->known, &known);
        check_annotators(h, r);
        check_pairs(h, r);
        evaluation_report_free(r);
        evaluation_close(e);
    }
    free(h);
}

/* A batch gives the same order-free numbers, bit for bit, whatever the order. */
static void test_batch(void **state)
{
    struct history *h = malloc(sizeof *h);
    struct evaluation *e;
    struct evaluation_batch *b;
    struct evaluation_report *r, *batch;
    uint64_t seed = 77;

    (void)state;
    fixture_history(h, seed);
    e = fixture_evaluation(h, h->len);
    r = fixture_report(e);
    for (uint32_t i = h->len - 1; i > 0; i--) {
        uint32_t k = (uint32_t)(fixture_draw(&seed) % (i + 1));
        struct evaluation_row row = h->rows[i];

        h->rows[i] = h->rows[k];
        h->rows[k] = row;
    }
    assert_int_equal(evaluation_batch_open(HISTORY_LABELS, &b), 0);
    for (uint32_t i = 0; i < h->len; i++)
        assert_int_equal(evaluation_batch_add(b, &h->rows[i]), 0);
    assert_int_equal(evaluation_batch_read(b, 1000, &batch), 0);
    assert_true(r->ordered && !batch->ordered);
    assert_true(isnan(batch->all.accuracy_fading) && isnan(batch->known.accuracy_window));
    r->all.accuracy_fading = batch->all.accuracy_fading;
    r->all.accuracy_window = batch->all.accuracy_window;
    assert_memory_equal(&r->all, &batch->all, sizeof r->all);
    assert_int_equal(r->pairs_len, batch->pairs_len);
    assert_memory_equal(r->pairs, batch->pairs, r->pairs_len * sizeof *r->pairs);
    for (uint32_t c = 0; c < HISTORY_LABELS; c++) {
        assert_true(r->labels[c].right == batch->labels[c].right);
        near(batch->labels[c].f1, r->labels[c].f1, 0);
    }
    near(batch->chance, r->chance, 0);
    evaluation_report_free(r);
    evaluation_report_free(batch);
    evaluation_batch_close(b);
    evaluation_close(e);
    free(h);
}

/* ---- confusion past its table ---------------------------------------------------------------- */

/* 300 x 300 labels, some pairs frequent. Every bound of the Space-Saving summary must hold against
 * exact counts. */
static void test_confusion_full(void **state)
{
    enum { L = 300, ADDS = 200000 };
    struct confusion *c = calloc(1, sizeof *c);
    uint32_t *exact = calloc(L * L, sizeof *exact), present = 0, frequent = 0;
    uint64_t seed = 5, total = 0;

    (void)state;
    for (uint32_t i = 0; i < ADDS; i++) {
        double u = fixture_uniform(&seed);
        uint32_t truth = (uint32_t)(L * u * u * u * u),
                 predicted = (uint32_t)(fixture_draw(&seed) % L);

        if (truth == predicted)
            continue;
        exact[truth * L + predicted]++;
        confusion_add(c, truth, predicted);
    }
    assert_int_equal(c->len, CONFUSION_PAIRS_MAX);
    for (uint32_t i = 0; i < c->len; i++) {
        uint64_t rows = exact[c->pairs[i].truth * L + c->pairs[i].predicted];

        assert_true(rows <= c->pairs[i].rows && rows >= c->pairs[i].rows - c->pairs[i].error);
        total += c->pairs[i].rows;
    }
    for (uint32_t k = 0; k < L * L; k++) {
        present += exact[k] > 0;
        if (exact[k] <= total / CONFUSION_PAIRS_MAX)
            continue;
        frequent++;
        for (uint32_t i = 0;; i++) {
            assert_true(i < c->len);
            if (c->pairs[i].truth * L + c->pairs[i].predicted == k)
                break;
        }
    }
    print_message("%u pairs, %u of them frequent\n", present, frequent);
    assert_true(present > 3 * CONFUSION_PAIRS_MAX && frequent > 100);
    free(exact);
    free(c);
}

/* ---- refusals -------------------------------------------------------------------------------- */

static void test_bad_rows(void **state)
{
    static const struct evaluation_row good = {.seq = 100000,
                                               .truth = 1,
                                               .predicted = 2,
                                               .labels_known = 3,
                                               .p_predicted = 0.5,
                                               .p_truth = 0.2,
                                               .p_squares = 0.3,
                                               .known = true};
    char name[EVALUATION_NAME_BYTES + 1];
    struct history *h = malloc(sizeof *h);
    struct evaluation *e;
    struct evaluation_row bad[16];
    size_t bytes;
    void *before, *after;

    (void)state;
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    for (int i = 0; i < 16; i++)
        bad[i] = good;
    bad[0].truth = HISTORY_LABELS;
    bad[1].predicted = HISTORY_LABELS;
    bad[2].p_predicted = NAN;
    bad[3].p_truth = -0.1;
    bad[4].p_squares = 1.5;
    bad[5].p_predicted = INFINITY;
    bad[6].known = false; /* with a probability of the truth */
    bad[7].predicted = EVALUATION_NONE;
    bad[8].labels_known = 0;
    bad[9].predicted = 1, bad[9].known = false, bad[9].p_truth = 0;
    bad[10].annotator = name;
    bad[11].truth = UINT32_MAX;
    fixture_history(h, 9);
    e = fixture_evaluation(h, 500);
    bytes = evaluation_image_bytes(e);
    before = malloc(bytes);
    after = malloc(bytes);
    evaluation_image_write(e, before);
    for (int i = 0; i < 12; i++)
        assert_int_equal(evaluation_score(e, &bad[i]), -EINVAL);
    for (uint32_t i = 0; i < 500; i++) /* a stretch that is read again */
        assert_int_equal(evaluation_score(e, &h->rows[i]), -EALREADY);
    assert_int_equal(evaluation_labels_grow(e, EVALUATION_LABELS_MAX + 1), -E2BIG);
    assert_int_equal(evaluation_labels_grow(e, 1), 0);
    assert_int_equal(evaluation_image_bytes(e), bytes);
    evaluation_image_write(e, after);
    assert_memory_equal(before, after, bytes);
    assert_int_equal(evaluation_score(e, &good), 0);
    free(before);
    free(after);
    evaluation_close(e);
    free(h);
}

/* ---- annotators ------------------------------------------------------------------------------ */

static void test_annotators_bounded(void **state)
{
    struct evaluation *e;
    struct evaluation_report *r;
    char name[16];

    (void)state;
    assert_int_equal(evaluation_open(&e), 0);
    assert_int_equal(evaluation_labels_grow(e, 2), 0);
    for (int64_t i = 0; i < 2 * (EVALUATION_ANNOTATORS_MAX + 10); i++) {
        struct evaluation_row row = {.seq = i,
                                     .truth = 0,
                                     .predicted = 0,
                                     .labels_known = 1,
                                     .p_predicted = 1,
                                     .p_truth = 1,
                                     .p_squares = 1,
                                     .known = true,
                                     .annotator = name};

        snprintf(name, sizeof name, "p%d", (int)(i % (EVALUATION_ANNOTATORS_MAX + 10)));
        assert_int_equal(evaluation_score(e, &row), 0);
    }
    r = fixture_report(e);
    assert_int_equal(r->annotators_len, EVALUATION_ANNOTATORS_MAX);
    assert_int_equal(r->others.rows, 20);
    evaluation_report_free(r);
    evaluation_annotator_erase(e, "p7");
    evaluation_annotator_erase(e, "nobody");
    r = fixture_report(e);
    assert_int_equal(r->annotators_len, EVALUATION_ANNOTATORS_MAX - 1);
    assert_int_equal(r->others.rows, 22);
    near(r->others.agreement, 1, 0);
    near(r->others.agreement_fading, 1, 1e-12);
    for (uint32_t i = 0; i < r->annotators_len; i++)
        assert_string_not_equal(r->annotators[i].name, "p7");
    evaluation_report_free(r);
    evaluation_close(e);
}

/* The erased name is nowhere in the bytes that are kept. */
static void test_annotator_erased_bytes(void **state)
{
    static const struct evaluation_row row = {
        .seq = 1, .truth = 0, .predicted = EVALUATION_NONE, .annotator = "Wilhelmina"};
    struct evaluation *e;
    size_t bytes;
    void *image;

    (void)state;
    assert_int_equal(evaluation_open(&e), 0);
    assert_int_equal(evaluation_labels_grow(e, 1), 0);
    assert_int_equal(evaluation_score(e, &row), 0);
    bytes = evaluation_image_bytes(e);
    image = malloc(bytes);
    evaluation_image_write(e, image);
    assert_non_null(memmem(image, bytes, "Wilhelmina", 10));
    evaluation_annotator_erase(e, "Wilhelmina");
    assert_null(memmem(e, sizeof *e, "Wilhelmina", 10));
    bytes = evaluation_image_bytes(e);
    evaluation_image_write(e, image);
    assert_null(memmem(image, bytes, "Wilhelmina", 10));
    free(image);
    evaluation_close(e);
}

/* ---- forgetting ------------------------------------------------------------------------------ */

/* Recall of one label: `before` for 400 rows, `after` for 200. */
static struct evaluation_label course(uint64_t seed, double before, double after)
{
    struct evaluation *e;
    struct evaluation_report *r;
    struct evaluation_label label;

    assert_int_equal(evaluation_open(&e), 0);
    assert_int_equal(evaluation_labels_grow(e, 2), 0);
    for (int64_t i = 0; i < 600; i++) {
        bool right = fixture_uniform(&seed) < (i < 400 ? before : after);
        struct evaluation_row row = {.seq = i,
                                     .truth = 0,
                                     .predicted = right ? 0 : 1,
                                     .labels_known = 2 + (uint32_t)(i / 100),
                                     .p_predicted = 0.9,
                                     .p_truth = right ? 0.9 : 0.1,
                                     .p_squares = 0.82,
                                     .known = true};

        assert_int_equal(evaluation_score(e, &row), 0);
    }
    r = fixture_report(e);
    label = r->labels[0];
    assert_int_equal(r->forgotten, label.forgotten);
    evaluation_report_free(r);
    evaluation_close(e);
    return label;
}

static void test_forgetting(void **state)
{
    uint32_t found = 0, false_alarms = 0, streams = 400;
    struct evaluation_label exact = course(1, 1, 0);

    (void)state;
    near(exact.best, 1, 1e-12);
    near(exact.recall_fading, pow(0.98, 200) * (1 - pow(0.98, 400)) / (1 - pow(0.98, 600)), 1e-12);
    near(exact.forgetting, exact.best - exact.recall_fading, 0);
    assert_true(exact.forgotten);
    assert_true(exact.best_seq < 20 && exact.best_labels_known == 2);
    for (uint64_t seed = 1; seed <= streams; seed++) {
        found += course(seed * 1000003, 0.9, 0.4).forgotten;
        for (int p = 0; p < 3; p++)
            false_alarms += course(seed * 7919,
                                   p == 0   ? 0.6
                                   : p == 1 ? 0.8
                                            : 0.95,
                                   p == 0   ? 0.6
                                   : p == 1 ? 0.8
                                            : 0.95)
                                .forgotten;
    }
    print_message("forgotten: %u of %u that fell from .9 to .4, %u of %u that did not fall\n",
                  found, streams, false_alarms, 3 * streams);
    assert_true(found > streams * 95 / 100 && false_alarms < 3 * streams / 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_wilson),
        cmocka_unit_test(test_against_history),
        cmocka_unit_test(test_batch),
        cmocka_unit_test(test_confusion_full),
        cmocka_unit_test(test_bad_rows),
        cmocka_unit_test(test_annotators_bounded),
        cmocka_unit_test(test_annotator_erased_bytes),
        cmocka_unit_test(test_forgetting),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
