/* learned_image.c -- see learned_image.h. */
#include "daemon/learn/learned_image.h"

#include <errno.h>
#include <string.h>

#include "daemon/log.h"

#define MARK 0x316567616d69646c /* "ldimage1" */

struct frame {
    uint64_t mark, head_bytes;
};

size_t learned_image_bytes(const struct head *head, const struct judge *judge)
{
    return sizeof(struct frame) + head_image_bytes(head) + judge_image_bytes(judge);
}

void learned_image_write(const struct head *head, const struct judge *judge, void *image)
{
    struct frame frame = {MARK, head_image_bytes(head)};
    char *at = image;

    memcpy(at, &frame, sizeof frame);
    head_image_write(head, at + sizeof frame);
    judge_image_write(judge, at + sizeof frame + frame.head_bytes);
}

int learned_image_read(const struct head_settings *settings, const void *image, size_t image_bytes,
                       struct head **ret_head, struct judge **ret_judge)
{
    const char *at = image;
    struct frame frame;
    struct head *head;
    int rc;

    if (image_bytes < sizeof frame)
        return -EINVAL;
    memcpy(&frame, at, sizeof frame);
    if (frame.mark != MARK || frame.head_bytes > image_bytes - sizeof frame)
        return -EINVAL;
    rc = head_image_read(settings, at + sizeof frame, frame.head_bytes, &head);
    if (rc != 0)
        return rc;
    at += sizeof frame + frame.head_bytes;
    rc = judge_image_read(settings->dim, settings->seed, at,
                          image_bytes - sizeof frame - frame.head_bytes, ret_judge);
    if (rc == -EINVAL) {
        log_warn("learner", "event", "evaluation_begins_anew", NULL);
        rc = judge_open(settings->dim, settings->seed, ret_judge);
    }
    if (rc != 0) {
        head_close(head);
        return rc;
    }
    *ret_head = head;
    return 0;
}
