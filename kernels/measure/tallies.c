/* tallies.c -- the sums that do not care for order. See evaluation_internal.h. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/measure/evaluation_internal.h"

int tallies_grow(struct tallies *t, uint32_t labels_len)
{
    uint32_t max = t->labels_max;
    struct label_tally *labels;

    if (labels_len > EVALUATION_LABELS_MAX)
        return -E2BIG;
    while (max < labels_len)
        max = max * 2 + 16;
    if (max > t->labels_max) {
        labels = realloc(t->labels, max * sizeof *labels);
        if (labels == NULL)
            return -ENOMEM;
        t->labels = labels;
        t->labels_max = max;
    }
    if (labels_len > t->labels_len) {
        memset(t->labels + t->labels_len, 0, (labels_len - t->labels_len) * sizeof *t->labels);
        t->labels_len = labels_len;
    }
    return 0;
}

uint64_t tallies_rows(const struct tallies *t)
{
    return t->parts[0].rows + t->parts[1].rows;
}

/* Probabilities summed in fp32 may pass 1 by a little; they are cut when they are counted. */
static bool is_share(double p)
{
    return p >= 0 && p <= 1 + 1e-4;
}

int tallies_check(const struct tallies *t, const struct evaluation_row *row)
{
    bool guessed = row->predicted != EVALUATION_NONE;

    if (row->truth >= t->labels_len || (guessed && row->predicted >= t->labels_len))
        return -EINVAL;
    if (!is_share(row->p_predicted) || !is_share(row->p_truth) || !is_share(row->p_squares))
        return -EINVAL;
    if (!guessed && (row->p_predicted > 0 || row->labels_known > 0))
        return -EINVAL;
    if (!row->known && (row->predicted == row->truth || row->p_truth > 0))
        return -EINVAL;
    if (row->known && row->labels_known == 0)
        return -EINVAL;
    return tallies_rows(t) >= EVALUATION_ROWS_MAX ? -EOVERFLOW : 0;
}

static uint64_t fixed(double value)
{
    return (uint64_t)(value * FIXED_ONE + 0.5);
}

static void bin_add(struct bin_tally *bins, uint32_t len, double p, bool right)
{
    double edge = ceil(p * len) - 1;
    struct bin_tally *bin = &bins[edge < 0 ? 0 : (uint32_t)edge];

    bin->rows++;
    bin->right += right;
    bin->p += fixed(p);
}

static void part_add(struct part_tally *part, const struct evaluation_row *row, bool right)
{
    double p_truth = fmin(row->p_truth, 1), p = fmin(row->p_predicted, 1);

    part->rows++;
    part->right += right;
    part->brier += fixed(fmax(0, fmin(row->p_squares, 1) - 2 * p_truth + 1));
    part->nll += fixed(-log(fmax(p_truth, EVALUATION_P_MIN)));
    bin_add(part->bins, EVALUATION_BINS, p, right);
    bin_add(part->scores, EVALUATION_CURVE, p, right);
}

void tallies_add(struct tallies *t, const struct evaluation_row *row)
{
    bool right = row->predicted == row->truth;

    part_add(&t->parts[row->known], row, right);
    t->labels[row->truth].taught[row->known]++;
    t->labels[row->truth].right += right;
    if (row->labels_known > 0)
        t->chance += fixed(1.0 / row->labels_known);
    if (row->predicted == EVALUATION_NONE) {
        t->unanswered++;
        return;
    }
    t->labels[row->predicted].predicted[row->known]++;
    if (!right)
        confusion_add(&t->confusion, row->truth, row->predicted);
}

/* ---- image ----------------------------------------------------------------------------------- */

static void bins_pack(const struct bin_tally *bins, uint32_t len, struct pack *p)
{
    for (uint32_t i = 0; i < len; i++) {
        pack_u64(p, bins[i].rows);
        pack_u64(p, bins[i].right);
        pack_u64(p, bins[i].p);
    }
}

void tallies_pack(const struct tallies *t, struct pack *p)
{
    for (int k = 0; k < 2; k++) {
        const struct part_tally *part = &t->parts[k];

        pack_u64(p, part->rows);
        pack_u64(p, part->right);
        pack_u64(p, part->brier);
        pack_u64(p, part->nll);
        bins_pack(part->bins, EVALUATION_BINS, p);
        bins_pack(part->scores, EVALUATION_CURVE, p);
    }
    pack_u64(p, t->unanswered);
    pack_u64(p, t->chance);
    for (uint32_t c = 0; c < t->labels_len; c++) {
        pack_u64(p, t->labels[c].taught[0]);
        pack_u64(p, t->labels[c].taught[1]);
        pack_u64(p, t->labels[c].right);
        pack_u64(p, t->labels[c].predicted[0]);
        pack_u64(p, t->labels[c].predicted[1]);
    }
    confusion_pack(&t->confusion, p);
}

/* Reads a count of at most `max`. */
static uint64_t unpack_count(struct unpack *u, uint64_t max)
{
    uint64_t value = unpack_u64(u);

    unpack_check(u, value <= max);
    return u->failed ? 0 : value;
}

static void bins_unpack(struct bin_tally *bins, uint32_t len, const struct part_tally *part,
                        struct unpack *u)
{
    uint64_t rows = 0, right = 0;

    for (uint32_t i = 0; i < len && !u->failed; i++) {
        bins[i].rows = unpack_count(u, part->rows - rows);
        bins[i].right = unpack_count(u, bins[i].rows);
        bins[i].p = unpack_count(u, bins[i].rows << 32);
        rows += bins[i].rows;
        right += bins[i].right;
    }
    unpack_check(u, rows == part->rows && right == part->right);
}

static void part_unpack(struct part_tally *part, struct unpack *u)
{
    part->rows = unpack_count(u, EVALUATION_ROWS_MAX);
    part->right = unpack_count(u, part->rows);
    part->brier = unpack_count(u, part->rows << 33);
    part->nll = unpack_count(u, part->rows * fixed(-log(EVALUATION_P_MIN)));
    bins_unpack(part->bins, EVALUATION_BINS, part, u);
    bins_unpack(part->scores, EVALUATION_CURVE, part, u);
}

static void labels_unpack(struct tallies *t, struct unpack *u)
{
    uint64_t taught[2] = {0}, predicted[2] = {0}, right = 0;

    for (uint32_t c = 0; c < t->labels_len && !u->failed; c++) {
        struct label_tally *label = &t->labels[c];

        for (int k = 0; k < 2; k++)
            taught[k] += label->taught[k] = unpack_count(u, t->parts[k].rows - taught[k]);
        right += label->right = unpack_count(u, label->taught[1]);
        for (int k = 0; k < 2; k++)
            predicted[k] += label->predicted[k] = unpack_count(u, t->parts[k].rows - predicted[k]);
        unpack_check(u, label->right <= label->predicted[1]);
    }
    unpack_check(u, taught[0] == t->parts[0].rows && taught[1] == t->parts[1].rows);
    unpack_check(u, right == t->parts[1].right && t->parts[0].right == 0);
    unpack_check(u, predicted[0] + predicted[1] + t->unanswered == tallies_rows(t));
}

void tallies_unpack(struct tallies *t, struct unpack *u)
{
    uint64_t confused = 0;

    for (int k = 0; k < 2; k++)
        part_unpack(&t->parts[k], u);
    unpack_check(u, tallies_rows(t) <= EVALUATION_ROWS_MAX);
    t->unanswered = unpack_count(u, t->parts[0].rows);
    t->chance = unpack_count(u, (tallies_rows(t) - t->unanswered) << 32);
    labels_unpack(t, u);
    confusion_unpack(&t->confusion, u, t->labels_len, &confused);
    unpack_check(u, confused == tallies_rows(t) - t->unanswered - t->parts[1].right);
}
