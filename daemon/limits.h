/* limits.h -- every limit of the process, and how they hang together. */
#ifndef LEARND_LIMITS_H
#define LEARND_LIMITS_H

enum {
    /* front */
    LIMIT_LOOPS = 16,
    LIMIT_CONNECTIONS = 65536, /* of all loops; each has at most one request under way */
    LIMIT_FILES = 256,         /* open ones beside connections */
    LIMIT_TARGET_BYTES = 4096,
    LIMIT_HEADERS_BYTES = 8192,
    LIMIT_HEADERS = 64,
    LIMIT_BODY_BYTES = 1 << 20,          /* of most requests */
    LIMIT_FEEDBACK_BODY_BYTES = 8 << 20, /* of one feedback that is not ndjson */
    LIMIT_LINE_BYTES = 1 << 20,          /* of one line of ndjson */
    LIMIT_REFUSED_BYTES = 64 << 10,      /* of a body that is read only to go on behind it */
    LIMIT_KEYS = 1024,                   /* that stand */
    LIMIT_KEY_USE_S = 60,                /* their use is written down so often */
    LIMIT_HELD_BYTES = 64 << 10,         /* pipelined bytes kept while a request is under way */
    LIMIT_IDLE_S = 75,                   /* a connection without a request */
    LIMIT_REQUEST_S = 30, /* from a request's first byte to its last; of a stream, for so many: */
    LIMIT_TRICKLE_BYTES = 64,
    LIMIT_WRITE_S = 30, /* for a client to take its answer */
    LIMIT_DRAIN_S = 20, /* for requests under way when the daemon stops */
    /* watching */
    LIMIT_EVENTS = 4096,      /* held to resume from; who is farther behind has lost some */
    LIMIT_EVENT_KEYS = 512,   /* {type, model, word} merged at the same time */
    LIMIT_EVENT_STREAMS = 64, /* of one loop */
    LIMIT_EVENT_UNSENT_BYTES = 64 << 10, /* of one stream; then it is not written to */
    LIMIT_EVENT_KERNEL_BYTES = 64 << 10, /* and so much may wait in the socket */
    LIMIT_HEARTBEAT_S = 15,
    LIMIT_EVENT_RETRY_MS = 2000, /* what a client is told to wait before it comes again */
    /* asking */
    LIMIT_INPUTS = 256,
    LIMIT_TEXT_BYTES = 1 << 20,
    LIMIT_QUEUE_ITEMS = 8192, /* texts that wait for a lane */
    LIMIT_LANES = 64,
    LIMIT_TOKENS = 512, /* of one text, whatever the encoder could do */
    LIMIT_BATCH_TOKENS = 1024,
    LIMIT_BATCH_ITEMS = 128,
    LIMIT_SHARE_TOKENS = 96,     /* less is not split between lanes */
    LIMIT_LEARNING_TOKENS = 512, /* one batch of learning work; less behind traffic (batcher.c) */
    LIMIT_TEAM_TOKENS = 512, /* less is quicker on one core: every barrier of OpenMP sleeps where
                                more teams than cores stand by. 15 tokens: 1.35 ms by two, 1.14 by
                                one; 480: equal */
    LIMIT_RING_ENTRIES = 8192,
    LIMIT_RING_BYTES = 16 << 20,
    LIMIT_ASKED_ROWS = 256, /* of the sample that is watched for drift, in a quarter of a second */
    LIMIT_ASKED_NUMBERS = LIMIT_ASKED_ROWS * 1024, /* of their embeddings */
    /* teaching */
    LIMIT_ITEMS = 1000,                          /* of one feedback */
    LIMIT_STREAM_ITEMS = 256,                    /* lines of ndjson written together */
    LIMIT_KEEPER_BOX = LIMIT_CONNECTIONS + 4096, /* one change a connection, and caches */
    LIMIT_READER_BOX = LIMIT_CONNECTIONS,
    LIMIT_MODELS = 256,
    LIMIT_RATED_NAMES = 16384, /* annotators whose rate is watched at once */
};

_Static_assert(LIMIT_BATCH_TOKENS >= LIMIT_TOKENS, "a batch holds at least the longest text");
_Static_assert(LIMIT_QUEUE_ITEMS >= LIMIT_INPUTS, "one request fits an empty queue");
_Static_assert(LIMIT_KEEPER_BOX >= LIMIT_CONNECTIONS,
               "a connection has at most one change under way, so its post is never refused");
_Static_assert(LIMIT_EVENT_STREAMS * 4 <= LIMIT_CONNECTIONS,
               "those who watch leave room for others");
_Static_assert(LIMIT_HEARTBEAT_S < LIMIT_WRITE_S, "a client that is there is heard of in time");
_Static_assert(LIMIT_EVENT_KEYS >= LIMIT_MODELS, "a swap of every model can be held");
_Static_assert(LIMIT_LINE_BYTES <= LIMIT_FEEDBACK_BODY_BYTES, "a line is no larger than a body");

#endif
