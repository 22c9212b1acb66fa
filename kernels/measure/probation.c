/* probation.c -- see probation.h.
 *
 * The integral is a beta function times a beta tail, P(q > 1/2) for q ~ Beta(b + 1, c + 1), which
 * is an F tail. Simulated with alpha .01 and 500 corrections (test_probation.c): of pairs that are
 * equally good 0.3 to 0.8 % go back (4 to 40 % discordant); of pairs that lose 10 points 99.9 %,
 * half of them by correction 115; of pairs that lose 3 points 69 % (3.5 % lost, 0.5 % won; half by
 * 303) or 33 % (5 and 2 %). Other weights over q (beta densities, seven tried) move the last two by
 * less than they cost elsewhere.
 */
#include "kernels/measure/probation.h"

#include <assert.h>
#include <errno.h>
#include <math.h>

#include "kernels/measure/packing.h"
#include "kernels/measure/tails.h"

enum { IMAGE_MAGIC = 0x424f5250 /* "PROB" */, IMAGE_VERSION = 1 };

const struct probation_settings probation_settings_default = {.items_max = 500, .alpha = 0.01};

int probation_start(const struct probation_settings *settings, struct probation *ret_probation)
{
    if (settings->items_max == 0 || !(settings->alpha > 0 && settings->alpha < 1))
        return -EINVAL;
    *ret_probation = (struct probation){.settings = *settings};
    return 0;
}

static double log_gamma(double x)
{
    int sign;

    return lgamma_r(x, &sign);
}

/* ln E. */
static double evidence(uint32_t lost, uint32_t won)
{
    double b = lost + 1.0, c = won + 1.0;
    double beta = log_gamma(b) + log_gamma(c) - log_gamma(b + c);

    return (b + c - 1) * M_LN2 + beta + log(tail_f(c / b, 2 * b, 2 * c));
}

enum probation_state probation_add(struct probation *p, bool old_right, bool new_right)
{
    if (p->state != PROBATION_OPEN)
        return p->state;
    p->items++;
    p->both_right += old_right && new_right;
    p->lost += old_right && !new_right;
    p->won += !old_right && new_right;
    if (old_right != new_right)
        p->evidence_max = fmax(p->evidence_max, evidence(p->lost, p->won));
    if (p->evidence_max >= -log(p->settings.alpha))
        p->state = PROBATION_WORSE;
    else if (p->items >= p->settings.items_max)
        p->state = PROBATION_PASSED;
    return p->state;
}

double probation_p(const struct probation *p)
{
    return exp(-p->evidence_max);
}

/* ---- keeping --------------------------------------------------------------------------------- */

void probation_image_write(const struct probation *probation, uint8_t image[PROBATION_IMAGE_BYTES])
{
    struct pack p = {.at = image};

    pack_u32(&p, IMAGE_MAGIC);
    pack_u32(&p, IMAGE_VERSION);
    pack_u32(&p, probation->settings.items_max);
    pack_f64(&p, probation->settings.alpha);
    pack_u8(&p, (uint8_t)probation->state);
    pack_u32(&p, probation->items);
    pack_u32(&p, probation->both_right);
    pack_u32(&p, probation->lost);
    pack_u32(&p, probation->won);
    pack_f64(&p, probation->evidence_max);
    assert(p.bytes == PROBATION_IMAGE_BYTES);
}

static bool consistent(const struct probation *p)
{
    uint64_t counted = (uint64_t)p->both_right + p->lost + p->won;
    bool worse = p->evidence_max >= -log(p->settings.alpha);
    bool full = p->items >= p->settings.items_max;

    return p->settings.items_max > 0 && p->settings.alpha > 0 && p->settings.alpha < 1 &&
           counted <= p->items && p->items <= p->settings.items_max &&
           p->state == (worse  ? PROBATION_WORSE
                        : full ? PROBATION_PASSED
                               : PROBATION_OPEN);
}

int probation_image_read(const void *image, size_t image_bytes, struct probation *ret_probation)
{
    const uint8_t *at = image;
    struct unpack u = {.at = at, .end = at + image_bytes};
    struct probation p = {0};

    unpack_check(&u, unpack_u32(&u) == IMAGE_MAGIC && unpack_u32(&u) == IMAGE_VERSION);
    p.settings.items_max = unpack_u32(&u);
    p.settings.alpha = unpack_f64(&u, 0, 1);
    p.state = unpack_u8(&u);
    p.items = unpack_u32(&u);
    p.both_right = unpack_u32(&u);
    p.lost = unpack_u32(&u);
    p.won = unpack_u32(&u);
    p.evidence_max = unpack_f64(&u, 0, 1e9);
    unpack_check(&u, unpack_left(&u) == 0 && consistent(&p));
    if (u.failed)
        return -EINVAL;
    *ret_probation = p;
    return 0;
}
