/* significance.c -- see significance.h. The binomial tail comes from Fisher's F (Abramowitz and
 * Stegun 26.5.24): P(X >= k), X of n even chances, is I_1/2(k, n - k + 1).
 */
#include "kernels/measure/significance.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "kernels/measure/tails.h"

#define NORMAL_975 1.959963984540054
#define NORMAL_80 0.8416212335729143

/* P(X >= k) of n even chances. */
static double at_least(uint64_t k, uint64_t n)
{
    double a = (double)k, b = (double)(n - k) + 1;

    return k > 0 ? fmin(1, tail_f(a / b, 2 * b, 2 * a)) : 1;
}

double significance_mcnemar_worse(uint64_t lost, uint64_t won)
{
    return at_least(lost, lost + won);
}

double significance_mcnemar(uint64_t lost, uint64_t won)
{
    return fmin(1, 2 * at_least(lost > won ? lost : won, lost + won));
}

struct ranked {
    double p;
    uint32_t at;
};

static int smallest_first(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    if (x->p != y->p)
        return x->p < y->p ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

int significance_holm(const double *p, uint32_t len, double *ret_adjusted)
{
    struct ranked *ranked = malloc(((size_t)len + 1) * sizeof *ranked);
    double highest = 0;

    if (ranked == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < len; i++)
        ranked[i] = (struct ranked){p[i], i};
    if (len > 0)
        qsort(ranked, len, sizeof *ranked, smallest_first);
    for (uint32_t i = 0; i < len; i++) {
        highest = fmax(highest, fmin(1, ranked[i].p * (len - i)));
        ret_adjusted[ranked[i].at] = highest;
    }
    free(ranked);
    return 0;
}

double significance_difference(uint64_t items, uint64_t lost, uint64_t won)
{
    return ((double)won - (double)lost) / (double)items;
}

double significance_lower(uint64_t items, uint64_t lost, uint64_t won)
{
    double n = (double)items, d = (double)won - (double)lost;

    return (d - NORMAL_975 * sqrt(fmax(0, (double)(lost + won) - d * d / n))) / n;
}

double significance_visible(uint64_t items, uint64_t lost, uint64_t won)
{
    return (NORMAL_975 + NORMAL_80) * sqrt((double)(lost + won)) / (double)items;
}
