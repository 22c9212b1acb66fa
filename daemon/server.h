/* server.h -- the parts of a running daemon, as handlers see them. Filled by main.c before the
 * first request; read-only after. */
#ifndef LEARND_SERVER_H
#define LEARND_SERVER_H

#include <stdatomic.h>

#include "daemon/front/loop.h"
#include "daemon/learn/keeper.h"
#include "daemon/learn/learner.h"
#include "daemon/learn/reader.h"
#include "daemon/learn/trainer.h"
#include "daemon/limits.h"
#include "daemon/serve/asked.h"
#include "daemon/serve/batcher.h"
#include "daemon/serve/bus.h"
#include "daemon/serve/device.h"
#include "daemon/serve/encoders.h"
#include "daemon/serve/lane.h"
#include "daemon/serve/live.h"
#include "daemon/serve/rate.h"
#include "daemon/serve/recent.h"
#include "daemon/serve/ring.h"
#include "daemon/settings.h"
#include "daemon/version.h"

struct access;

struct server {
    struct settings settings;
    struct device *device;
    struct recent *recent; /* how long texts took of late */
    struct access *access;
    int64_t use_written_us; /* of the keys; the first loop's */
    struct encoders *encoders;
    struct held_encoder *base;
    char encoder_sha256[STORE_HASH_CHARS]; /* of the base's model.safetensors, hex */
    struct batcher *batcher;
    struct lane *lanes[LIMIT_LANES];
    uint32_t lanes_len, loops_len;
    struct live *live;
    struct ring *ring;
    struct asked *asked;
    struct bus *bus;
    struct rate *rate;
    struct keeper *keeper;
    struct reader *reader;
    struct learner *learner;
    struct trainer *trainer;
    struct loops *loops;
    atomic_bool leaving; /* not ready any more, though it still serves */
    int64_t started_us;  /* Unix time */
};

extern const struct route server_routes[];
extern const size_t server_routes_len;
void server_round(void *server); /* loop.h's round: wakes the lanes for what a loop has queued */

#endif
