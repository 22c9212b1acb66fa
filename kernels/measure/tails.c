/* tails.c -- regularised incomplete gamma and beta functions: series where they converge fast, else
 * continued fractions by the modified Lentz method (Abramowitz and Stegun 6.5.29, 6.5.31, 26.5.8;
 * Lentz 1976, Thompson and Barnett 1986).
 */
#include "kernels/measure/tails.h"

#include <math.h>

enum { TERMS_MAX = 10000 };

#define ENOUGH 1e-15
#define TINY 1e-300

/* lgamma without the sign that it leaves in a global. */
static double log_gamma(double x)
{
    int sign;

    return lgamma_r(x, &sign);
}

/* One step of Lentz: fraction b0 + a1/(b1 + a2/(b2 + ..)), carried as its two running quotients. */
struct lentz {
    double c, d, value;
};

static double lentz_step(struct lentz *l, double a, double b)
{
    double by;

    l->d = b + a * l->d;
    l->c = b + a / l->c;
    if (fabs(l->d) < TINY)
        l->d = TINY;
    if (fabs(l->c) < TINY)
        l->c = TINY;
    l->d = 1 / l->d;
    by = l->c * l->d;
    l->value *= by;
    return fabs(by - 1);
}

/* Q(a, x) = Gamma(a, x) / Gamma(a). */
static double gamma_upper(double a, double x)
{
    double front = exp(-x + a * log(x) - log_gamma(a));

    if (x < a + 1) {
        double term = 1 / a, sum = term;

        for (int n = 1; n < TERMS_MAX && term > sum * ENOUGH; n++) {
            term *= x / (a + n);
            sum += term;
        }
        return fmax(0, 1 - sum * front);
    } else {
        double b = x + 1 - a;
        struct lentz l = {1 / TINY, 1 / b, 1 / b};

        for (int n = 1; n < TERMS_MAX; n++)
            if (lentz_step(&l, -n * (n - a), b + 2 * n) < ENOUGH)
                break;
        return fmin(1, l.value * front);
    }
}

double tail_chi_square(double x, double df)
{
    return x > 0 ? gamma_upper(df / 2, x / 2) : 1;
}

/* The continued fraction of I_x(a, b), for x < (a + 1)/(a + b + 2). */
static double beta_fraction(double a, double b, double x)
{
    struct lentz l = {1, 1 - (a + b) * x / (a + 1), 1};

    if (fabs(l.d) < TINY)
        l.d = TINY;
    l.d = 1 / l.d;
    l.value = l.d;
    for (int m = 1; m < TERMS_MAX; m++) {
        lentz_step(&l, m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)), 1);
        if (lentz_step(&l, -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)), 1) <
            ENOUGH)
            break;
    }
    return l.value;
}

/* I_x(a, b), with y = 1 - x given apart so that neither loses digits. */
static double beta_lower(double a, double b, double x, double y)
{
    double front;

    if (x <= 0 || y <= 0)
        return x <= 0 ? 0 : 1;
    front = exp(log_gamma(a + b) - log_gamma(a) - log_gamma(b) + a * log(x) + b * log(y));
    if (x < (a + 1) / (a + b + 2))
        return front * beta_fraction(a, b, x) / a;
    return 1 - front * beta_fraction(b, a, y) / b;
}

double tail_f(double x, double a, double b)
{
    double whole = b + a * x;

    return x > 0 ? beta_lower(b / 2, a / 2, b / whole, a * x / whole) : 1;
}
