/* reader.c -- see reader.h. */
#include "daemon/learn/reader.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct reader {
    pthread_t thread;
    struct mailbox box;
    struct store *store;
};

static void *run(void *arg)
{
    struct reader *r = arg;
    struct msg *list;

    while ((list = mailbox_wait(&r->box, -1)) != NULL) {
        while (list != NULL) {
            struct query *q = (struct query *)list;
            int rc = store_begin(r->store);

            list = list->next;
            if (rc == 0) {
                rc = q->read(q, r->store);
                store_rollback(r->store);
            }
            q->done(q, rc);
        }
    }
    return NULL;
}

int reader_open(struct store *store, uint32_t box_max, struct reader **ret_reader)
{
    struct reader *r = calloc(1, sizeof *r);
    int rc;

    if (r == NULL)
        return -ENOMEM;
    r->store = store;
    rc = mailbox_init(&r->box, box_max);
    if (rc == 0) {
        rc = -pthread_create(&r->thread, NULL, run, r);
        if (rc != 0)
            mailbox_done(&r->box);
    }
    if (rc != 0) {
        free(r);
        return rc;
    }
    *ret_reader = r;
    return 0;
}

int reader_post(struct reader *r, struct query *query)
{
    return mailbox_post(&r->box, &query->msg);
}

void reader_close(struct reader *r)
{
    if (r == NULL)
        return;
    mailbox_close(&r->box);
    pthread_join(r->thread, NULL);
    mailbox_done(&r->box);
    free(r);
}
