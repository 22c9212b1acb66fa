/* image_frame.h -- the outer form of what is kept of a model between two starts: a mark, the bytes
 * of each part, the parts, little endian. What is in a part is its owner's affair.
 */
#ifndef LEARND_IMAGE_FRAME_H
#define LEARND_IMAGE_FRAME_H

#include <stddef.h>
#include <stdint.h>

enum { FRAME_JUDGE_PARTS = 3, FRAME_HEAD = FRAME_JUDGE_PARTS, FRAME_PARTS };

struct image_frame {
    uint64_t mark, bytes[FRAME_PARTS];
};

#define IMAGE_FRAME_MARK 0x326567616d69646c /* "ldimage2" */

/* Where each part lies in the image, borrowed, and its length. 0, -EINVAL. */
int image_frame_read(const void *image, size_t image_bytes, const void *ret_parts[FRAME_PARTS],
                     size_t ret_bytes[FRAME_PARTS]);

#endif
