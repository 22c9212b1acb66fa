/* significance.h -- the tests behind a comparison of two models on the same items. Private to
 * kernels/measure and its tests.
 *
 * lost (b): items the old model had right and the new one wrong; won (c): the other way round.
 * Items on which both are right or both wrong say nothing about which is better.
 */
#ifndef LEARND_SIGNIFICANCE_H
#define LEARND_SIGNIFICANCE_H

#include <stdint.h>

/* Exact McNemar test (1947; the sign test of the discordant pairs): the chance, were both equally
 * good, of a split at least as uneven as lost to won; worse: of at least so many lost. 1 without
 * discordant pairs. */
double significance_mcnemar(uint64_t lost, uint64_t won);
double significance_mcnemar_worse(uint64_t lost, uint64_t won);

/* Holm's step-down correction (1979) of p(len): adjusted values to hold against the level that all
 * tests together may err at. 0, -ENOMEM. */
int significance_holm(const double *p, uint32_t len, double *ret_adjusted);

/* Accuracy of the new model less that of the old over items > 0, and the lower end of its 95 %
 * interval: (c - b)/n - 1.96 sqrt(b + c - (c - b)^2/n)/n. */
double significance_difference(uint64_t items, uint64_t lost, uint64_t won);
double significance_lower(uint64_t items, uint64_t lost, uint64_t won);
/* The loss that n items with so many discordant pairs show four times in five. */
double significance_visible(uint64_t items, uint64_t lost, uint64_t won);

#endif
