/* head_holds.h -- the part of head.h that compares a head with what it should hold. For doctor and
 * tests. */
#ifndef LEARND_HEAD_HOLDS_H
#define LEARND_HEAD_HOLDS_H

#include "kernels/head/head.h"

/* Is this what the head was taught of the example: target, weight, confirmation, and, unless
 * change->embedding is NULL, the same bits of embedding? Whether it distrusts it is its own affair.
 */
bool head_holds(const struct head *head, const struct head_change *change);
/* The length of embedding that an image is of; 0: it is no image. */
uint32_t head_image_dim(const void *image, size_t image_bytes);

#endif
