/* page_hinkley.c -- Page, "Continuous inspection schemes", Biometrika 1954; Hinkley, "Inference
 * about the change-point from cumulative sum tests", Biometrika 1971. With x 1 for a wrong row, p
 * the error rate so far drawn towards 1/2 by two rows:
 *     sum = max(0, sum + (x - p) / sqrt(p (1 - p)) - slack),  alarm at sum > limit.
 * That is the usual m_t - min m, in standard deviations, so that one slack and one limit serve
 * models with 2 % and with 40 % errors. Slack .15 and limit 60: no false alarm on 2,000 streams of
 * 10,000 rows (bench_drift); .1 and 50 had 22.
 */
#include <math.h>

#include "kernels/measure/detectors.h"

bool page_hinkley_add(struct page_hinkley *ph, double slack, double limit, bool wrong, int64_t mark)
{
    double p;

    if (ph->sum == 0) {
        ph->since = mark;
        ph->rows_before = ph->rows;
        ph->wrong_before = ph->wrong;
    }
    ph->rows++;
    ph->wrong += wrong;
    if (ph->rows <= PH_ROWS_MIN)
        return false;
    p = ((double)ph->wrong + 1) / ((double)ph->rows + 2);
    ph->sum = fmax(0, ph->sum + (wrong - p) / sqrt(p * (1 - p)) - slack);
    return ph->sum > limit;
}

void page_hinkley_pack(const struct page_hinkley *ph, struct pack *p)
{
    pack_u64(p, ph->rows);
    pack_u64(p, ph->wrong);
    pack_f64(p, ph->sum);
    pack_i64(p, ph->since);
    pack_u64(p, ph->rows_before);
    pack_u64(p, ph->wrong_before);
}

void page_hinkley_unpack(struct page_hinkley *ph, struct unpack *u)
{
    ph->rows = unpack_u64(u);
    ph->wrong = unpack_u64(u);
    ph->sum = unpack_f64(u, 0, 1e18);
    ph->since = unpack_i64(u);
    ph->rows_before = unpack_u64(u);
    ph->wrong_before = unpack_u64(u);
    unpack_check(u, ph->rows < 1ull << 60 && ph->rows_before <= ph->rows &&
                        ph->wrong_before <= ph->rows_before && ph->wrong >= ph->wrong_before &&
                        ph->wrong - ph->wrong_before <= ph->rows - ph->rows_before);
}
