/* learned_image.c -- see learned_image.h. */
#include "daemon/learn/learned_image.h"

#include <errno.h>
#include <string.h>

#include "daemon/log.h"

#define MARK 0x326567616d69646c /* "ldimage2" */

enum { HEAD = JUDGE_PARTS, PARTS };

struct frame {
    uint64_t mark, bytes[PARTS];
};

static struct frame frame_of(const struct head *head, const struct judge *judge)
{
    struct frame frame = {.mark = MARK, .bytes[HEAD] = head_image_bytes(head)};

    for (int i = 0; i < JUDGE_PARTS; i++)
        frame.bytes[i] = judge_image_bytes(judge, i);
    return frame;
}

size_t learned_image_bytes(const struct head *head, const struct judge *judge)
{
    struct frame frame = frame_of(head, judge);
    size_t sum = sizeof frame;

    for (int i = 0; i < PARTS; i++)
        sum += frame.bytes[i];
    return sum;
}

void learned_image_write(const struct head *head, const struct judge *judge, void *image)
{
    struct frame frame = frame_of(head, judge);
    char *at = image;

    memcpy(at, &frame, sizeof frame);
    at += sizeof frame;
    for (int i = 0; i < PARTS; i++) {
        if (i == HEAD)
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
    const void *parts[PARTS];
    const char *at = image;
    size_t left = image_bytes, bytes[PARTS];
    struct frame frame;
    struct head *head;
    int rc;

    if (image_bytes < sizeof frame)
        return -EINVAL;
    memcpy(&frame, at, sizeof frame);
    if (frame.mark != MARK)
        return -EINVAL;
    at += sizeof frame;
    left -= sizeof frame;
    for (int i = 0; i < PARTS; i++) {
        if (frame.bytes[i] > left)
            return -EINVAL;
        parts[i] = at;
        bytes[i] = frame.bytes[i];
        at += bytes[i];
        left -= bytes[i];
    }
    rc = head_image_read(settings, parts[HEAD], bytes[HEAD], &head);
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
