/* keeper.c -- see keeper.h. */
#include "daemon/learn/keeper.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/events.h"
#include "daemon/learn/learner.h"
#include "daemon/log.h"
#include "daemon/metrics.h"

struct keeper {
    pthread_t thread;
    struct mailbox box;
    struct store *store;
    struct bus *bus;
    struct learner *learner;
    atomic_ullong commits, changes, failures, turns;
    atomic_llong commit_us_last;
};

static struct change *next_of(struct change *c)
{
    return (struct change *)c->msg.next;
}

/* One change inside the open transaction. Returns what sinks the whole transaction, or 0. */
static int write_one(struct keeper *k, struct change *c)
{
    int rc;

    if (c->own_marks) {
        c->rc = c->write(c, k->store);
        return c->rc;
    }
    rc = store_mark(k->store);
    if (rc != 0)
        return rc;
    c->rc = c->write(c, k->store);
    rc = store_unmark(k->store, c->rc == 0);
    return rc == -ECANCELED ? c->rc : rc;
}

/* Durable or failed: towards the learner, or answered. */
static void pass_on(struct keeper *k, struct change *c, int error)
{
    if (error != 0)
        c->rc = error;
    if (c->rc != 0)
        atomic_fetch_add(&k->failures, 1);
    else if (c->committed != NULL)
        c->committed(c);
    if (c->rc == 0 && (c->apply != NULL || (c->wait_applied && c->seq != 0)) &&
        k->learner != NULL && learner_post(k->learner, c) == 0)
        return;
    if (c->rc == 0 && c->apply != NULL)
        c->rc = -ESHUTDOWN;
    c->done(c, c->rc);
}

static void commit_group(struct keeper *k, struct change *list)
{
    int64_t started = clock_us();
    uint64_t len = 0;
    int rc = store_begin(k->store);

    for (struct change *c = list; c != NULL && rc == 0; c = next_of(c)) {
        c->model = c->seq = 0;
        if (!c->after_commit)
            rc = write_one(k, c);
        len++;
    }
    if (rc == 0) {
        int64_t begun = clock_us();

        rc = store_commit(k->store);
        metrics_observe(METRICS_SPAN_FSYNC, clock_us() - begun);
    }
    if (rc != 0) {
        log_error("journal", "event", "write_failed", "why", store_why(k->store), NULL);
        events_warning(k->bus, NULL, "journal_write_failed", strerror(-rc));
        store_rollback(k->store);
    } else {
        atomic_fetch_add(&k->commits, 1);
        atomic_fetch_add(&k->changes, len);
        atomic_store(&k->commit_us_last, clock_us() - started);
    }
    while (list != NULL) {
        struct change *c = list;
        int64_t seq;

        list = next_of(c);
        if (c->after_commit && rc == 0)
            c->rc = c->write(c, k->store);
        seq = rc == 0 && c->rc == 0 ? c->seq : 0;
        if (seq != 0 && k->learner != NULL) /* first: from here on the learner's time counts */
            learner_hint(k->learner);
        pass_on(k, c, rc);
    }
}

static void *run(void *arg)
{
    struct keeper *k = arg;
    struct msg *list;

    pthread_setname_np(pthread_self(), "keeper");
    while ((list = mailbox_wait(&k->box, -1)) != NULL) {
        atomic_fetch_add(&k->turns, 1);
        commit_group(k, (struct change *)list);
        atomic_fetch_add(&k->turns, 1);
    }
    return NULL;
}

int keeper_open(struct store *store, uint32_t box_max, struct keeper **ret_keeper)
{
    struct keeper *k = calloc(1, sizeof *k);
    int rc;

    if (k == NULL)
        return -ENOMEM;
    k->store = store;
    rc = mailbox_init(&k->box, box_max);
    if (rc == 0) {
        rc = -pthread_create(&k->thread, NULL, run, k);
        if (rc != 0)
            mailbox_done(&k->box);
    }
    if (rc != 0) {
        free(k);
        return rc;
    }
    *ret_keeper = k;
    return 0;
}

void keeper_warn(struct keeper *k, struct bus *bus)
{
    k->bus = bus;
}

void keeper_tell(struct keeper *k, struct learner *learner)
{
    k->learner = learner;
}

int keeper_post(struct keeper *k, struct change *change)
{
    return mailbox_post(&k->box, &change->msg);
}

void keeper_close(struct keeper *k)
{
    if (k == NULL)
        return;
    mailbox_close(&k->box);
    pthread_join(k->thread, NULL);
    mailbox_done(&k->box);
    free(k);
}

struct keeper_counts keeper_counts(struct keeper *k)
{
    return (struct keeper_counts){atomic_load(&k->commits),  atomic_load(&k->changes),
                                  atomic_load(&k->failures), atomic_load(&k->commit_us_last),
                                  atomic_load(&k->turns),    mailbox_len(&k->box)};
}
