/* tails.h -- upper tail probabilities. Private to kernels/measure. Relative error below 1e-10 in
 * the middle and 1e-6 down to 1e-300; NAN never: arguments are the caller's to keep in range.
 */
#ifndef LEARND_TAILS_H
#define LEARND_TAILS_H

/* P(X > x), X chi-square with df > 0 degrees of freedom, x >= 0. */
double tail_chi_square(double x, double df);
/* P(X > x), X Fisher's F with a and b > 0 degrees of freedom, x >= 0. */
double tail_f(double x, double a, double b);

#endif
