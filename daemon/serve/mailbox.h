/* mailbox.h -- how threads hand each other work: a bounded list that carries ownership.
 *
 * post() gives the message away on success and only then. A full box is an answer, not a wait. A
 * reader takes the whole list under the lock and works on it outside. Messages embed struct msg as
 * their first member.
 */
#ifndef LEARND_MAILBOX_H
#define LEARND_MAILBOX_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct msg {
    struct msg *next;
};

struct mailbox {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct msg *first, **last;
    uint32_t len, max;
    bool closed;
};

/* 0 or -ENOMEM. max: messages it holds. */
int mailbox_init(struct mailbox *box, uint32_t max);
/* The box must be empty and unused. */
void mailbox_done(struct mailbox *box);

/* 0, -EAGAIN (full), -ESHUTDOWN (closed). */
int mailbox_post(struct mailbox *box, struct msg *m);
/* The whole list in order, or NULL. */
struct msg *mailbox_take(struct mailbox *box);
/* Waits for the whole list. NULL: closed and empty, or wait_us_max passed (negative: no limit). */
struct msg *mailbox_wait(struct mailbox *box, int64_t wait_us_max);
/* Further posts are refused; readers get what is there, then NULL. */
void mailbox_close(struct mailbox *box);
bool mailbox_closed(struct mailbox *box);
uint32_t mailbox_len(struct mailbox *box);

#endif
