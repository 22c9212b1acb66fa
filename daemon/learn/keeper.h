/* keeper.h -- the journal's one writer.
 *
 * The keeper takes the whole of its box, writes it in one transaction with one fsync, and only then
 * lets each change be answered (group commit). A change that fails for its own reasons is undone
 * alone; when the transaction itself fails (disk full, device error) nothing of it is kept, every
 * change in it is answered with that error, and the keeper goes on with the next box.
 *
 * Threads: one of its own. post from any.
 */
#ifndef LEARND_KEEPER_H
#define LEARND_KEEPER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/learn/disk_guard.h"
#include "daemon/serve/mailbox.h"
#include "store/store.h"

struct bus;
struct learner;
struct keeper;

/* One thing to write. Embedded in what the poster owns; handed along keeper -> (learner ->) done.
 */
struct change {
    struct msg msg; /* first */
    /* Inside the transaction. 0 or -errno of this change; then what it wrote is undone. Sets model
     * and seq. It may run again: after a failed commit nothing is retried, but a change must not
     * keep state from a failed write. */
    int (*write)(struct change *change, struct store *store);
    /* On the keeper's thread, as soon as it is on disk, before apply and done: to tell those who
     * watch. May be NULL. */
    void (*committed)(struct change *change);
    /* On the learner's thread, after the commit, before the catch-up that `wait_applied` waits for.
     * May be NULL. */
    int (*apply)(struct change *change, struct learner *learner);
    /* Once, on the keeper's or the learner's thread. 0: durable, and if asked applied. Owns the
     * change. */
    void (*done)(struct change *change, int rc);
    bool own_marks;    /* write() undoes its own failures (feedback: one bad item never sinks its
                          neighbours) */
    bool grows;        /* the state: refused with -EDQUOT while the disk has little room */
    bool wait_applied; /* done() after a snapshot with seq is live */
    bool after_commit; /* write() wants no transaction: it runs alone, after the commit of the
                          others */
    struct store_act *act; /* a line for the trail, in the transaction of what it is about; NULL:
                              none. One block, the keeper's to free; action NULL after write():
                              nothing has changed */
    int64_t model;         /* touched; 0: none */
    int64_t seq;           /* last event written; 0: none */
    int rc;
};

/* store: the writer connection, the keeper's from now on until keeper_close. 0, -ENOMEM, -EAGAIN.
 */
int keeper_open(struct store *store, uint32_t box_max, struct keeper **ret_keeper);
/* Where its warnings go; before the first post. Without it nowhere. */
void keeper_warn(struct keeper *keeper, struct bus *bus);
/* Which disk to watch, and from which free bytes on it is low; before the first post. Without it
 * none. The folder is borrowed. */
void keeper_guard(struct keeper *keeper, const char *folder, uint64_t free_min);
struct disk_guard_state keeper_disk(const struct keeper *keeper);
/* The learner that is told of commits; before the first post. */
void keeper_tell(struct keeper *keeper, struct learner *learner);
/* 0: the keeper has it until done(). -EAGAIN: the box is full. -ESHUTDOWN. */
int keeper_post(struct keeper *keeper, struct change *change);
/* Writes what is in the box, then ends the thread. */
void keeper_close(struct keeper *keeper);

struct keeper_counts {
    uint64_t commits, changes, failures;
    int64_t commit_us_last;
    uint64_t turns; /* boxes taken and done with: odd while one is being written */
    uint32_t waiting;
};
struct keeper_counts keeper_counts(struct keeper *keeper);

#endif
