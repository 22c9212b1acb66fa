/* embed.c -- see embed.h. */
#include "daemon/learn/embed.h"

#include <errno.h>
#include <semaphore.h>

struct embed_work {
    struct work work; /* first */
    sem_t ready;
};

static void embed_done(struct work *work)
{
    sem_post(&((struct embed_work *)work)->ready);
}

static int embed_once(struct batcher *batcher, struct held_encoder *encoder,
                      struct work_item *items, uint32_t len)
{
    struct embed_work w = {.work = {.encoder = encoder,
                                    .items = items,
                                    .items_len = len,
                                    .class = WORK_LEARNING,
                                    .done = embed_done}};
    int rc;

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

int embed_texts(struct batcher *batcher, struct held_encoder *encoder, struct work_item *items,
                uint32_t len)
{
    int rc = len > 0 ? -ENODEV : 0;

    /* So many failures one after the other have lost the device: the last try is the CPU's. */
    for (int tries = 0; rc == -ENODEV && tries <= DEVICE_FAILURES; tries++)
        rc = embed_once(batcher, encoder, items, len);
    return rc;
}
