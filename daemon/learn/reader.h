/* reader.h -- lists and look-ups, off the loops and out of the keeper's way: one thread with a
 * read-only connection. It sees everything that was committed before the query was posted.
 */
#ifndef LEARND_READER_H
#define LEARND_READER_H

#include "daemon/serve/mailbox.h"
#include "store/store.h"

struct reader;

struct query {
    struct msg msg; /* first */
    int (*read)(struct query *query,
                struct store *store);          /* inside one consistent read transaction */
    void (*done)(struct query *query, int rc); /* once, on the reader's thread; owns the query */
};

/* store: a reader connection, the reader's until reader_close. 0, -ENOMEM, -EAGAIN. */
int reader_open(struct store *store, uint32_t box_max, struct reader **ret_reader);
/* 0: the reader has it until done(). -EAGAIN, -ESHUTDOWN. */
int reader_post(struct reader *reader, struct query *query);
void reader_close(struct reader *reader);

#endif
