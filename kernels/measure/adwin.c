/* adwin.c -- ADWIN2 of Bifet and Gavalda, "Learning from Time-Changing Data with Adaptive
 * Windowing", SDM 2007.
 *
 * The window is an exponential histogram: at most ADWIN_BUCKETS buckets of each size 1, 2, 4 ..
 * rows, so a window of n rows takes 5 log2(n/5) buckets and a cut can fall on any border between
 * two. A cut into n0 old and n1 new rows is made where
 *     |mean0 - mean1| >= epsilon = sqrt(2/m v ln(2/d')) + 2/(3m) ln(2/d'),  1/m = 1/n0 + 1/n1,  d'
 *            = delta / ln n,
 * v = p (1 - p) the variance of the window (the paper's section 4). Among the borders that pass,
 * the window is cut at the one with the largest ratio of difference to epsilon, all at once: the
 * paper drops one oldest bucket at a time and stops at the first window that holds together, which
 * dates the change too early.
 */
#include <math.h>
#include <string.h>

#include "kernels/measure/detectors.h"

double adwin_epsilon(double delta, uint64_t n0, uint64_t n1, uint64_t wrong)
{
    double n = (double)(n0 + n1), p = (double)wrong / n;
    double over_m = 1.0 / (double)n0 + 1.0 / (double)n1;
    double log_term = log(2 * fmax(1, log(n)) / delta);

    return sqrt(2 * over_m * p * (1 - p) * log_term) + 2.0 / 3 * over_m * log_term;
}

static void insert(struct adwin *a, bool wrong, int64_t mark)
{
    struct adwin_bucket bucket = {wrong, mark};

    for (uint32_t o = 0; o < ADWIN_ORDERS; o++) {
        struct adwin_bucket *row = a->buckets[o];

        row[a->len[o]++] = bucket;
        if (o == a->orders_len)
            a->orders_len++;
        if (a->len[o] <= ADWIN_BUCKETS || o + 1 == ADWIN_ORDERS)
            break;
        bucket = (struct adwin_bucket){row[0].wrong + row[1].wrong, row[0].first};
        a->len[o] -= 2;
        memmove(row, row + 2, a->len[o] * sizeof *row);
    }
    a->rows++;
    a->wrong += wrong;
}

/* A border: all buckets of higher orders, and `i` of order `o`, lie before it. */
struct border {
    uint32_t o, i;
    uint64_t rows, wrong; /* before it */
};

/* The border that cuts most clearly; false: none does. */
static bool look(const struct adwin *a, double delta, struct border *ret_border)
{
    struct border at = {0};
    double best = 1;
    bool found = false;

    for (uint32_t o = a->orders_len; o-- > 0;) {
        for (uint32_t i = 0; i < a->len[o]; i++) {
            double mean0, mean1, clear;

            at.rows += 1ull << o;
            at.wrong += a->buckets[o][i].wrong;
            if (at.rows == a->rows)
                break;
            mean0 = (double)at.wrong / (double)at.rows;
            mean1 = (double)(a->wrong - at.wrong) / (double)(a->rows - at.rows);
            clear =
                fabs(mean0 - mean1) / adwin_epsilon(delta, at.rows, a->rows - at.rows, a->wrong);
            if (clear < best)
                continue;
            best = clear;
            found = true;
            *ret_border = at;
            ret_border->o = o;
            ret_border->i = i + 1;
        }
    }
    return found;
}

/* Drops what lies before the border. */
static void cut(struct adwin *a, const struct border *b)
{
    for (uint32_t o = b->o + 1; o < a->orders_len; o++)
        a->len[o] = 0;
    a->len[b->o] = (uint8_t)(a->len[b->o] - b->i);
    memmove(a->buckets[b->o], a->buckets[b->o] + b->i, a->len[b->o] * sizeof **a->buckets);
    a->orders_len = b->o + 1;
    while (a->orders_len > 0 && a->len[a->orders_len - 1] == 0)
        a->orders_len--;
    a->rows -= b->rows;
    a->wrong -= b->wrong;
}

bool adwin_add(struct adwin *a, double delta, bool wrong, int64_t mark, struct adwin_cut *ret_cut)
{
    struct border border;
    bool shrunk = false;

    insert(a, wrong, mark);
    if (a->len[ADWIN_ORDERS - 1] > ADWIN_BUCKETS) /* 10^10 rows alike: the oldest bucket goes */
        cut(a, &(struct border){ADWIN_ORDERS - 1, 1, 1ull << (ADWIN_ORDERS - 1),
                                a->buckets[ADWIN_ORDERS - 1][0].wrong});
    if (++a->since_look < ADWIN_CLOCK)
        return false;
    a->since_look = 0;
    while (a->rows > 1 && look(a, delta, &border)) {
        if (!shrunk) {
            ret_cut->rows_before = border.rows;
            ret_cut->wrong_before = border.wrong;
        }
        cut(a, &border);
        shrunk = true;
        ret_cut->rows_since = a->rows;
        ret_cut->wrong_since = a->wrong;
        ret_cut->since = a->buckets[a->orders_len - 1][0].first;
    }
    return shrunk;
}

/* ---- image ----------------------------------------------------------------------------------- */

void adwin_pack(const struct adwin *a, struct pack *p)
{
    pack_u32(p, a->since_look);
    pack_u32(p, a->orders_len);
    for (uint32_t o = a->orders_len; o-- > 0;) {
        pack_u8(p, a->len[o]);
        for (uint32_t i = 0; i < a->len[o]; i++) {
            pack_u64(p, a->buckets[o][i].wrong);
            pack_i64(p, a->buckets[o][i].first);
        }
    }
}

void adwin_unpack(struct adwin *a, struct unpack *u)
{
    int64_t last = INT64_MIN;

    a->since_look = unpack_len(u, ADWIN_CLOCK - 1);
    a->orders_len = unpack_len(u, ADWIN_ORDERS);
    for (uint32_t o = a->orders_len; o-- > 0 && !u->failed;) {
        a->len[o] = unpack_u8(u);
        unpack_check(u, a->len[o] <= ADWIN_BUCKETS && (a->len[o] > 0 || o + 1 < a->orders_len));
        for (uint32_t i = 0; i < a->len[o] && !u->failed; i++) {
            struct adwin_bucket *b = &a->buckets[o][i];

            b->wrong = unpack_u64(u);
            b->first = unpack_i64(u);
            unpack_check(u, b->wrong <= 1ull << o && b->first >= last);
            last = b->first;
            a->rows += 1ull << o;
            a->wrong += b->wrong;
        }
    }
}
