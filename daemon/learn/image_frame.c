/* image_frame.c -- see image_frame.h. */
#include "daemon/learn/image_frame.h"

#include <errno.h>
#include <string.h>

int image_frame_read(const void *image, size_t image_bytes, const void *ret_parts[FRAME_PARTS],
                     size_t ret_bytes[FRAME_PARTS])
{
    const char *at = image;
    size_t left = image_bytes;
    struct image_frame frame;

    if (image_bytes < sizeof frame)
        return -EINVAL;
    memcpy(&frame, at, sizeof frame);
    if (frame.mark != IMAGE_FRAME_MARK)
        return -EINVAL;
    at += sizeof frame;
    left -= sizeof frame;
    for (int i = 0; i < FRAME_PARTS; i++) {
        if (frame.bytes[i] > left)
            return -EINVAL;
        ret_parts[i] = at;
        ret_bytes[i] = frame.bytes[i];
        at += frame.bytes[i];
        left -= frame.bytes[i];
    }
    return 0;
}
