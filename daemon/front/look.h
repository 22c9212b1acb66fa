/* look.h -- a question about one model that needs the store: one query on the reader's thread,
 * against a snapshot that is held from first to last. Private to daemon/front.
 */
#ifndef LEARND_LOOK_H
#define LEARND_LOOK_H

#include "daemon/front/handlers.h"

struct look {
    struct front_message message; /* first */
    struct query query;
    struct server *server;
    struct snapshot *snapshot; /* one reference */
    /* On the reader's thread: fills the body. 0 or -errno. */
    int (*fill)(struct look *look, struct store *store);
    /* Frees what the asker has beside the look itself. May be NULL. */
    void (*done)(struct look *look);
    struct api_buffer body;
    int rc;
};

/* Zeroed, of bytes, with the look as its first member, about the model of the path. NULL after an
 * answer. */
void *look_open(struct exchange *x, size_t bytes, int (*fill)(struct look *, struct store *),
                void (*done)(struct look *));
void look_close(struct look *look);
/* To the reader and back to the client. Takes the look. */
void look_post(struct look *look, struct exchange *x);

#endif
