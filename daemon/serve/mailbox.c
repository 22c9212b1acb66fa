/* mailbox.c -- see mailbox.h. A mutex and a condition: boxes are touched once a request or once a
 * group of them, so nothing cleverer would show in a measurement. The condition waits on the
 * monotonic clock: a step of the wall clock must not stretch a wait.
 */
#include "daemon/serve/mailbox.h"

#include <assert.h>
#include <errno.h>
#include <time.h>

int mailbox_init(struct mailbox *box, uint32_t max)
{
    pthread_condattr_t attr;

    *box = (struct mailbox){.max = max};
    box->last = &box->first;
    if (pthread_mutex_init(&box->lock, NULL) != 0)
        return -ENOMEM;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    if (pthread_cond_init(&box->wake, &attr) != 0) {
        pthread_condattr_destroy(&attr);
        pthread_mutex_destroy(&box->lock);
        return -ENOMEM;
    }
    pthread_condattr_destroy(&attr);
    return 0;
}

void mailbox_done(struct mailbox *box)
{
    assert(box->first == NULL);
    pthread_cond_destroy(&box->wake);
    pthread_mutex_destroy(&box->lock);
}

int mailbox_post(struct mailbox *box, struct msg *m)
{
    int rc = 0;

    pthread_mutex_lock(&box->lock);
    if (box->closed) {
        rc = -ESHUTDOWN;
    } else if (box->len >= box->max) {
        rc = -EAGAIN;
    } else {
        m->next = NULL;
        *box->last = m;
        box->last = &m->next;
        box->len++;
        pthread_cond_signal(&box->wake);
    }
    pthread_mutex_unlock(&box->lock);
    return rc;
}

static struct msg *take_locked(struct mailbox *box)
{
    struct msg *list = box->first;

    box->first = NULL;
    box->last = &box->first;
    box->len = 0;
    return list;
}

struct msg *mailbox_take(struct mailbox *box)
{
    struct msg *list;

    pthread_mutex_lock(&box->lock);
    list = take_locked(box);
    pthread_mutex_unlock(&box->lock);
    return list;
}

struct msg *mailbox_wait(struct mailbox *box, int64_t wait_us_max)
{
    struct timespec until;
    struct msg *list;

    if (wait_us_max >= 0) {
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += wait_us_max / 1000000;
        until.tv_nsec += wait_us_max % 1000000 * 1000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000;
        }
    }
    pthread_mutex_lock(&box->lock);
    while (box->first == NULL && !box->closed) {
        if (wait_us_max < 0)
            pthread_cond_wait(&box->wake, &box->lock);
        else if (pthread_cond_timedwait(&box->wake, &box->lock, &until) == ETIMEDOUT)
            break;
    }
    list = take_locked(box);
    pthread_mutex_unlock(&box->lock);
    return list;
}

void mailbox_close(struct mailbox *box)
{
    pthread_mutex_lock(&box->lock);
    box->closed = true;
    pthread_cond_broadcast(&box->wake);
    pthread_mutex_unlock(&box->lock);
}

bool mailbox_closed(struct mailbox *box)
{
    bool closed;

    pthread_mutex_lock(&box->lock);
    closed = box->closed;
    pthread_mutex_unlock(&box->lock);
    return closed;
}

uint32_t mailbox_len(struct mailbox *box)
{
    uint32_t len;

    pthread_mutex_lock(&box->lock);
    len = box->len;
    pthread_mutex_unlock(&box->lock);
    return len;
}
