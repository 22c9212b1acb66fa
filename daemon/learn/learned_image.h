/* learned_image.h -- what is kept of a model between two starts: the head, and what the judge has
 * counted, in one file. Little endian: a mark, the bytes of each part, the parts.
 *
 * Private to daemon/learn.
 */
#ifndef LEARND_LEARNED_IMAGE_H
#define LEARND_LEARNED_IMAGE_H

#include "daemon/learn/judge.h"

size_t learned_image_bytes(const struct head *head, const struct judge *judge);
void learned_image_write(const struct head *head, const struct judge *judge, void *image);
/* 0, -EINVAL (not an image, or of other settings), -ENOMEM. A judge that cannot be read begins
 * anew: it is no reason to learn everything again. */
int learned_image_read(const struct head_settings *settings, const void *image, size_t image_bytes,
                       struct head **ret_head, struct judge **ret_judge);
/* Of a head's model. */
struct judge_settings learned_judge_settings(const struct head_settings *settings);

#endif
