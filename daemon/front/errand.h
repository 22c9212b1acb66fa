/* errand.h -- a request that needs the store: one act on the keeper's or the reader's thread, which
 * fills in the answer, and the way back to the client. Private to daemon/front.
 *
 *     struct mine *m = errand_new(x, sizeof *m, exchange_param(x, 0), act);    m->errand is first
 *     if (m == NULL)
 *         return;                                   it is answered
 *     errand_read(&m->errand, x);                   or errand_write: it is gone now
 */
#ifndef LEARND_ERRAND_H
#define LEARND_ERRAND_H

#include "daemon/front/handlers.h"

struct errand {
    struct front_message message; /* first */
    struct change change;
    struct query query;
    struct server *server;
    int64_t model; /* of the path; 0: none */
    char model_name[LIVE_NAME_BYTES];
    bool vectors; /* it has no encoder */
    int64_t live_encoder, live_seq;
    int64_t now_us;
    /* Fills status and body. 0, or -EINVAL with problem, or another -errno. As a write it is undone
     * then, and may have to begin again from what it was given. */
    int (*act)(struct errand *errand, struct store *store);
    /* Of a write, on the keeper's thread, when it is on disk. May be NULL. */
    void (*told)(struct errand *errand);
    int status;
    const char *type;   /* of the body; application/json */
    const char *action; /* of a write, for the trail (trail.h); NULL: it is none of it */
    char object[STORE_NAME_BYTES_MAX + 1]; /* what the path does not name, or "" */
    char extra[64];                        /* a header line more, with its end, or "" */
    struct api_buffer body;
    struct api_problem problem;
    int rc;
};

/* Zeroed, of bytes. model NULL: about no model. NULL after an answer. */
void *errand_new(struct exchange *x, size_t bytes, const char *model,
                 int (*act)(struct errand *, struct store *));
/* Each takes the errand. */
void errand_write(struct errand *errand, struct exchange *x);
void errand_read(struct errand *errand, struct exchange *x);
/* Inside act of a write: nothing has changed after all. */
void errand_nothing(struct errand *errand);
/* Answers with errand->problem. */
void errand_refuse(struct errand *errand, struct exchange *x);
/* Ends it when the exchange was answered otherwise. */
void errand_free(struct errand *errand);

#endif
