/* keeper.c -- see keeper.h. */
#include "daemon/learn/keeper.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
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
    struct disk_guard disk;
    atomic_bool guarded; /* disk is filled in */
    atomic_ullong commits, changes, failures, turns;
    atomic_llong commit_us_last;
};

/* ---- the disk -------------------------------------------------------------------------------- */

/* Told once each way: when it becomes low, and when it has room again. */
static void look_at_disk(struct keeper *k)
{
    char free_mib[32], min_mib[32];

    if (!disk_guard_look(&k->disk, clock_us()))
        return;
    snprintf(free_mib, sizeof free_mib, "%llu",
             (unsigned long long)(atomic_load(&k->disk.free_bytes) >> 20));
    snprintf(min_mib, sizeof min_mib, "%llu", (unsigned long long)(k->disk.free_min >> 20));
    if (!atomic_load(&k->disk.low)) {
        log_info("journal", "event", "disk_has_room", "free_mib", free_mib, NULL);
        return;
    }
    log_warn("journal", "event", "disk_low", "free_mib", free_mib, "disk_free_min_mib", min_mib,
             NULL);
    events_warning(k->bus, NULL, "disk_low",
                   "the disk of the state folder has little room: nothing is learned until it has");
}

void keeper_guard(struct keeper *k, const char *folder, uint64_t free_min)
{
    if (free_min == 0)
        return;
    k->disk.folder = folder;
    k->disk.free_min = free_min;
    atomic_store(&k->guarded, true);
}

struct disk_guard_state keeper_disk(const struct keeper *k)
{
    return atomic_load(&k->guarded) ? disk_guard_state(&k->disk) : (struct disk_guard_state){0};
}

/* ---- writing --------------------------------------------------------------------------------- */

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
    if (c->rc == 0 && c->act != NULL && c->act->action != NULL)
        c->rc = store_act_add(k->store, c->act);
    rc = store_unmark(k->store, c->rc == 0);
    return rc == -ECANCELED ? c->rc : rc;
}

/* Durable or failed: towards the learner, or answered. */
static void pass_on(struct keeper *k, struct change *c, int error)
{
    free(c->act);
    c->act = NULL;
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
    bool low = atomic_load(&k->disk.low);
    int64_t started = clock_us();
    uint64_t len = 0;
    int rc = store_begin(k->store);

    for (struct change *c = list; c != NULL && rc == 0; c = next_of(c)) {
        c->model = c->seq = 0;
        if (low && c->grows)
            c->rc = -EDQUOT;
        else if (!c->after_commit)
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
    for (;;) {
        list = mailbox_wait(&k->box, DISK_LOOK_US);
        if (list == NULL && mailbox_closed(&k->box)) {
            list = mailbox_take(&k->box); /* what came before it was closed */
            if (list == NULL)
                break;
        }
        if (atomic_load(&k->guarded))
            look_at_disk(k);
        if (list == NULL)
            continue;
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
