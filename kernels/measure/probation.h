/* probation.h -- is the pair that went live worse than the one before it? A sequential test on live
 * corrections, each scored by both before either learns it.
 *
 * Only corrections on which exactly one of the two is right say anything. Were the new pair no
 * worse, each of them would be lost with a chance of at most 1/2. Against that stands the mean,
 * over all chances q in (1/2, 1], of the likelihood of what was seen (Robbins 1970; the mixture of
 * Ville martingales):
 *
 *     E = 2 * 2^(b+c) * integral of q^b (1-q)^c over (1/2, 1],   b lost, c won
 *
 * Under "no worse" E ever reaches 1/alpha with a chance of at most alpha (Ville 1939), whenever one
 * looks, so it may be looked at after every correction.
 *
 * Plain bytes, one owner. Never: a clock, a log, a file.
 */
#ifndef LEARND_PROBATION_H
#define LEARND_PROBATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum probation_state {
    PROBATION_OPEN,
    PROBATION_PASSED, /* items_max corrections, and no verdict against the new pair */
    PROBATION_WORSE,  /* the old pair goes back */
};

struct probation_settings {
    uint32_t items_max; /* 500 */
    double alpha;       /* 0.01: chance of sending back a pair that is no worse */
};
extern const struct probation_settings probation_settings_default;

struct probation {
    struct probation_settings settings;
    enum probation_state state;
    uint32_t items, both_right, lost, won;
    double evidence_max; /* ln E, its largest so far; 0 at the start */
};

/* 0, -EINVAL: no items, or alpha outside (0, 1). */
int probation_start(const struct probation_settings *settings, struct probation *ret_probation);

/* Counts one correction and returns the state. Once it is no longer open nothing changes. */
enum probation_state probation_add(struct probation *probation, bool old_right, bool new_right);

/* A p-value that holds at any time: 1/E at its largest, at most 1. */
double probation_p(const struct probation *probation);

enum { PROBATION_IMAGE_BYTES = 45 };
void probation_image_write(const struct probation *probation, uint8_t image[PROBATION_IMAGE_BYTES]);
/* 0, -EINVAL (not an image, another version, counts that contradict each other). */
int probation_image_read(const void *image, size_t image_bytes, struct probation *ret_probation);

#endif
