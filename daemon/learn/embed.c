/* embed.c -- see embed.h. */
#include "daemon/learn/embed.h"

#include <semaphore.h>

struct embed_work {
    struct work work; /* first */
    sem_t ready;
};

static void embed_done(struct work *work)
{
    sem_post(&((struct embed_work *)work)->ready);
}

int embed_texts(struct batcher *batcher, const struct held_encoder *encoder,
                struct work_item *items, uint32_t len)
{
    struct embed_work w = {.work = {.encoder = encoder,
                                    .items = items,
                                    .items_len = len,
                                    .class = WORK_LEARNING,
                                    .done = embed_done}};
    int rc;

    if (len == 0)
        return 0;
    sem_init(&w.ready, 0, 0);
    rc = batcher_submit(batcher, &w.work);
    if (rc == 0) {
        while (sem_wait(&w.ready) != 0)
            continue;
        rc = atomic_load(&w.work.error);
    }
    sem_destroy(&w.ready);
    return rc;
}
