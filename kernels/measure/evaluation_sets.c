/* evaluation_sets.c -- see evaluation_sets.h. */
#include "kernels/measure/evaluation_sets.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/measure/evaluation_internal.h"

enum { IMAGE_MAGIC = 0x53564544 /* "DEVS" */, IMAGE_VERSION = 1 };

struct set_tally {
    uint64_t taught, guessed, right;
    uint64_t truth_mark, guess_mark; /* number of the last row that had it; not in the image */
};

struct evaluation_sets {
    uint32_t labels_len, labels_max;
    struct set_tally *labels;
    uint64_t taught, guessed, right; /* sums of the labels' */
    uint64_t decisions;
    uint64_t marks; /* rows looked at, refused ones too */
    struct stream all, known;
    int64_t last_seq;
};

int evaluation_sets_open(struct evaluation_sets **ret_sets)
{
    struct evaluation_sets *s = calloc(1, sizeof *s);

    if (s == NULL)
        return -ENOMEM;
    s->last_seq = INT64_MIN;
    *ret_sets = s;
    return 0;
}

void evaluation_sets_close(struct evaluation_sets *s)
{
    if (s == NULL)
        return;
    free(s->labels);
    free(s);
}

int evaluation_sets_grow(struct evaluation_sets *s, uint32_t labels_len)
{
    uint32_t max = s->labels_max;
    struct set_tally *labels;

    if (labels_len > EVALUATION_LABELS_MAX)
        return -E2BIG;
    while (max < labels_len)
        max = max * 2 + 16;
    if (max > s->labels_max) {
        labels = realloc(s->labels, max * sizeof *labels);
        if (labels == NULL)
            return -ENOMEM;
        memset(labels + s->labels_max, 0, (max - s->labels_max) * sizeof *labels);
        s->labels = labels;
        s->labels_max = max;
    }
    if (labels_len > s->labels_len)
        s->labels_len = labels_len;
    return 0;
}

/* Marks both sets; false: a column is not there, or twice. *ret_both: labels in both of them. */
static bool mark(struct evaluation_sets *s, const struct evaluation_sets_row *row,
                 uint32_t *ret_both)
{
    uint64_t number = ++s->marks;
    uint32_t both = 0;

    for (uint32_t i = 0; i < row->truth_len; i++) {
        uint32_t c = row->truth[i];

        if (c >= s->labels_len || s->labels[c].truth_mark == number)
            return false;
        s->labels[c].truth_mark = number;
    }
    for (uint32_t i = 0; i < row->guessed_len; i++) {
        uint32_t c = row->guessed[i];

        if (c >= s->labels_len || s->labels[c].guess_mark == number)
            return false;
        s->labels[c].guess_mark = number;
        both += s->labels[c].truth_mark == number;
    }
    *ret_both = both;
    return true;
}

int evaluation_sets_score(struct evaluation_sets *s, const struct evaluation_sets_row *row)
{
    uint32_t both, either;
    bool exact;

    if (row->seq <= s->last_seq)
        return -EALREADY;
    if (s->all.rows >= EVALUATION_ROWS_MAX)
        return -EOVERFLOW;
    if (row->labels_known > s->labels_len || !mark(s, row, &both))
        return -EINVAL;
    either = row->truth_len + row->guessed_len - both;
    exact = either == both;
    for (uint32_t i = 0; i < row->truth_len; i++)
        s->labels[row->truth[i]].taught++;
    for (uint32_t i = 0; i < row->guessed_len; i++) {
        s->labels[row->guessed[i]].guessed++;
        s->labels[row->guessed[i]].right += s->labels[row->guessed[i]].truth_mark == s->marks;
    }
    s->taught += row->truth_len;
    s->guessed += row->guessed_len;
    s->right += both;
    s->decisions += either > row->labels_known ? either : row->labels_known;
    stream_add(&s->all, exact, row->novel, row->abstained);
    if (row->known)
        stream_add(&s->known, exact, row->novel, row->abstained);
    s->last_seq = row->seq;
    return 0;
}

/* ---- report ---------------------------------------------------------------------------------- */

static double ratio(double above, double below)
{
    return below > 0 ? above / below : NAN;
}

static void label_read(const struct set_tally *t, struct evaluation_sets_label *label)
{
    *label = (struct evaluation_sets_label){
        .taught = t->taught,
        .guessed = t->guessed,
        .right = t->right,
        .precision = ratio((double)t->right, (double)t->guessed),
        .recall = ratio((double)t->right, (double)t->taught),
        .f1 = ratio(2.0 * (double)t->right, (double)(t->taught + t->guessed)),
    };
}

int evaluation_sets_read(const struct evaluation_sets *s,
                         struct evaluation_sets_report **ret_report)
{
    struct evaluation_sets_report *r =
        calloc(1, sizeof *r + s->labels_len * sizeof(struct evaluation_sets_label));
    double sum = 0;
    uint32_t used = 0;

    if (r == NULL)
        return -ENOMEM;
    r->rows = s->all.rows;
    r->rows_known = s->known.rows;
    r->exact_match = ratio((double)s->all.right, (double)s->all.rows);
    evaluation_wilson(s->all.right, s->all.rows, &r->exact_match_low, &r->exact_match_high);
    r->exact_match_fading = ratio(s->all.fade, s->all.fade_weight);
    r->exact_match_window = stream_window(&s->all, FLAG_RIGHT);
    r->exact_match_known = ratio((double)s->known.right, (double)s->known.rows);
    r->micro_precision = ratio((double)s->right, (double)s->guessed);
    r->micro_recall = ratio((double)s->right, (double)s->taught);
    r->micro_f1 = ratio(2.0 * (double)s->right, (double)(s->taught + s->guessed));
    r->hamming_loss = ratio((double)(s->taught + s->guessed - 2 * s->right), (double)s->decisions);
    r->rates = stream_rates(&s->all);
    r->labels_len = s->labels_len;
    r->labels = (struct evaluation_sets_label *)(r + 1);
    for (uint32_t c = 0; c < s->labels_len; c++) {
        label_read(&s->labels[c], &r->labels[c]);
        if (s->labels[c].taught + s->labels[c].guessed == 0)
            continue;
        sum += r->labels[c].f1;
        used++;
    }
    r->macro_f1 = ratio(sum, used);
    *ret_report = r;
    return 0;
}

void evaluation_sets_report_free(struct evaluation_sets_report *report)
{
    free(report);
}

/* ---- image ----------------------------------------------------------------------------------- */

static void walk(const struct evaluation_sets *s, struct pack *p)
{
    pack_u32(p, IMAGE_MAGIC);
    pack_u32(p, IMAGE_VERSION);
    pack_u32(p, s->labels_len);
    for (uint32_t c = 0; c < s->labels_len; c++) {
        pack_u64(p, s->labels[c].taught);
        pack_u64(p, s->labels[c].guessed);
        pack_u64(p, s->labels[c].right);
    }
    pack_u64(p, s->decisions);
    stream_pack(&s->all, p);
    stream_pack(&s->known, p);
    pack_i64(p, s->last_seq);
}

size_t evaluation_sets_image_bytes(const struct evaluation_sets *s)
{
    struct pack p = {0};

    walk(s, &p);
    return p.bytes;
}

void evaluation_sets_image_write(const struct evaluation_sets *s, void *image)
{
    struct pack p = {.at = image};

    walk(s, &p);
}

static void read_body(struct evaluation_sets *s, struct unpack *u)
{
    for (uint32_t c = 0; c < s->labels_len && !u->failed; c++) {
        struct set_tally *t = &s->labels[c];

        t->taught = unpack_u64(u);
        t->guessed = unpack_u64(u);
        t->right = unpack_u64(u);
        unpack_check(u, t->taught <= EVALUATION_ROWS_MAX && t->guessed <= EVALUATION_ROWS_MAX &&
                            t->right <= t->taught && t->right <= t->guessed);
        s->taught += t->taught;
        s->guessed += t->guessed;
        s->right += t->right;
    }
    s->decisions = unpack_u64(u);
    stream_unpack(&s->all, u);
    stream_unpack(&s->known, u);
    s->last_seq = unpack_i64(u);
    unpack_check(u, s->all.rows <= EVALUATION_ROWS_MAX && s->known.rows <= s->all.rows &&
                        s->known.right <= s->all.right);
    unpack_check(u, s->taught <= s->all.rows * s->labels_len &&
                        s->guessed <= s->all.rows * s->labels_len &&
                        s->decisions <= s->all.rows * s->labels_len &&
                        s->taught + s->guessed - s->right <= s->decisions);
    unpack_check(u, (s->all.rows == 0) == (s->last_seq == INT64_MIN));
    unpack_check(u, u->at == u->end);
}

int evaluation_sets_image_read(const void *image, size_t image_bytes,
                               struct evaluation_sets **ret_sets)
{
    struct unpack u = {.at = image, .end = (const uint8_t *)image + image_bytes};
    struct evaluation_sets *s;
    uint32_t labels_len;
    int rc;

    unpack_check(&u, unpack_u32(&u) == IMAGE_MAGIC);
    unpack_check(&u, unpack_u32(&u) == IMAGE_VERSION);
    labels_len = unpack_len(&u, EVALUATION_LABELS_MAX);
    unpack_check(&u, unpack_left(&u) / (3 * sizeof(uint64_t)) >= labels_len);
    if (u.failed)
        return -EINVAL;
    rc = evaluation_sets_open(&s);
    if (rc != 0)
        return rc;
    rc = evaluation_sets_grow(s, labels_len);
    if (rc == 0) {
        read_body(s, &u);
        rc = u.failed ? -EINVAL : 0;
    }
    if (rc != 0) {
        evaluation_sets_close(s);
        return rc;
    }
    *ret_sets = s;
    return 0;
}
