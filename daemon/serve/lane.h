/* lane.h -- one inference thread: takes a packed batch, encodes it, scores each text against its
 * own snapshot.
 *
 * One lane a core, or a few on a device. A lane owns an encoder context and scratch; it shares
 * nothing but the batcher. Where its device fails the batch fails with -ENODEV, and the next one
 * has another context (device.h).
 */
#ifndef LEARND_LANE_H
#define LEARND_LANE_H

#include "daemon/serve/batcher.h"

struct lane;

/* What lanes did, for the metrics page. Any thread may read it. */
struct lane_counts {
    uint64_t batches, texts, tokens, failures;
    uint64_t turns; /* batches begun and ended: odd while one is under way */
};

/* Starts the thread. 0, -ENOMEM, -EAGAIN, -EIO, -ENODEV. limits as given to the batcher; encoder:
 * the one to be ready for from the start, every work brings its own. */
int lane_open(struct held_encoder *encoder, struct batcher *batcher,
              const struct batcher_limits *limits, struct lane **ret_lane);
/* Waits for the thread (shut the batcher down first). NULL is fine. */
void lane_close(struct lane *lane);
struct lane_counts lane_counts(const struct lane *lane);

#endif
