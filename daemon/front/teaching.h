/* teaching.h -- a batch of corrections on its way to the keeper; shared by one-body feedback
 * (teach.c) and streams (teach_stream.c). Private to daemon/front.
 */
#ifndef LEARND_TEACHING_H
#define LEARND_TEACHING_H

#include "daemon/front/access.h"
#include "daemon/front/handlers.h"

/* One item: what will be written, or why not. */
struct teaching_item {
    struct api_feedback *owner; /* the parsed line it came from; owned with streams, else NULL */
    const struct api_feedback_item *item;
    struct store_feedback feedback;
    struct ring_entry *ring;        /* owned; NULL: no request_id */
    uint16_t *vector;               /* owned; NULL: no vector was sent */
    char label[LIVE_NAME_BYTES];    /* filled in by the store for confirm and reject without one */
    bool multi;                     /* the model's kind */
    const char **labels;            /* kind multi, the same: owned; into ring or names */
    char (*names)[LIVE_NAME_BYTES]; /* owned, or NULL */
    uint64_t index;                 /* place in the whole body */
    struct api_problem problem;
    struct store_receipt receipt;
    bool refused;
};

struct teaching {
    struct front_message message; /* first */
    struct change change;
    struct server *server;
    struct teaching_item *items; /* (items_max) */
    uint32_t items_len, items_max;
    struct access_who who;
    int rc; /* of the whole batch */
    void *owner;
};

/* 0 or -ENOMEM. */
int teaching_init(struct teaching *t, struct server *server, uint32_t items_max);
void teaching_clear(struct teaching *t); /* no items */
void teaching_done(struct teaching *t);
/* Checks an item against models and recent requests and appends it; a bad one is appended as
 * refused. key: the header's Idempotency-Key for an item without its own, or NULL. */
void teaching_add(struct teaching *t, const struct api_feedback_item *item,
                  struct api_feedback *owner, const char *key, uint64_t index);
/* To the keeper; comes back as t->message. 0 or -errno. */
int teaching_post(struct teaching *t, bool wait_applied);
/* To the learner, of nothing but a question: comes back as t->message once the model has applied
 * seq. t holds no items. 0 or -errno. */
int teaching_wait(struct teaching *t, int64_t model, int64_t seq);
/* ?wait, of the whole body. False after an answer. */
bool teaching_read_wait(struct exchange *x, bool *ret_applied);
/* Accepted and rejected, counted for the metrics. */
void teaching_count(const struct teaching *t);

#endif
