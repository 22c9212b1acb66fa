/* learned_image.c -- see learned_image.h. */
#include "daemon/learn/learned_image.h"

#include <errno.h>
#include <string.h>

#include "daemon/learn/image_frame.h"
#include "daemon/log.h"

_Static_assert((int)FRAME_JUDGE_PARTS == (int)JUDGE_PARTS,
               "the judge's parts come first, then the head");

static struct image_frame frame_of(const struct head *head, const struct judge *judge)
{
    struct image_frame frame = {.mark = IMAGE_FRAME_MARK,
                                .bytes[FRAME_HEAD] = head_image_bytes(head)};

    for (int i = 0; i < JUDGE_PARTS; i++)
        frame.bytes[i] = judge_image_bytes(judge, i);
    return frame;
}

size_t learned_image_bytes(const struct head *head, const struct judge *judge)
{
    struct image_frame frame = frame_of(head, judge);
    size_t sum = sizeof frame;

    for (int i = 0; i < FRAME_PARTS; i++)
        sum += frame.bytes[i];
    return sum;
}

void learned_image_write(const struct head *head, const struct judge *judge, void *image)
{
    struct image_frame frame = frame_of(head, judge);
    char *at = image;

    memcpy(at, &frame, sizeof frame);
    at += sizeof frame;
    for (int i = 0; i < FRAME_PARTS; i++) {
        if (i == FRAME_HEAD)
            head_image_write(head, at);
        else
            judge_image_write(judge, i, at);
        at += frame.bytes[i];
    }
}

struct judge_settings learned_judge_settings(const struct head_settings *settings)
{
    return (struct judge_settings){settings->dim, settings->seed, settings->kind == HEAD_MULTI};
}

int learned_image_read(const struct head_settings *settings, const void *image, size_t image_bytes,
                       struct head **ret_head, struct judge **ret_judge)
{
    struct judge_settings judging = learned_judge_settings(settings);
    const void *parts[FRAME_PARTS];
    size_t bytes[FRAME_PARTS];
    struct head *head;
    int rc = image_frame_read(image, image_bytes, parts, bytes);

    if (rc != 0)
        return rc;
    rc = head_image_read(settings, parts[FRAME_HEAD], bytes[FRAME_HEAD], &head);
    if (rc != 0)
        return rc;
    rc = judge_image_read(&judging, parts, bytes, ret_judge);
    if (rc == -EINVAL) {
        log_warn("learner", "event", "evaluation_begins_anew", NULL);
        rc = judge_open(&judging, ret_judge);
    }
    if (rc != 0) {
        head_close(head);
        return rc;
    }
    *ret_head = head;
    return 0;
}
