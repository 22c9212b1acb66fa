/* stepper.c -- see stepper.h. */
#include "daemon/learn/stepper.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>

struct stepper {
    pthread_t thread;
    sem_t wanted, done;
    stepper_fn *fn; /* NULL: the end */
    void *ud;
    int rc;
};

static void yield_to_all(void)
{
    const struct sched_param none = {0};

    if (sched_setscheduler(0, SCHED_IDLE, &none) != 0)
        (void)setpriority(PRIO_PROCESS, 0, 19); /* on Linux: of this thread */
}

static void wait_for(sem_t *s)
{
    while (sem_wait(s) != 0)
        continue;
}

static void *run(void *arg)
{
    struct stepper *s = arg;

    yield_to_all();
    for (;;) {
        wait_for(&s->wanted);
        if (s->fn == NULL)
            return NULL;
        s->rc = s->fn(s->ud);
        sem_post(&s->done);
    }
}

int stepper_open(struct stepper **ret_stepper)
{
    struct stepper *s = calloc(1, sizeof *s);
    int rc;

    if (s == NULL)
        return -ENOMEM;
    sem_init(&s->wanted, 0, 0);
    sem_init(&s->done, 0, 0);
    rc = -pthread_create(&s->thread, NULL, run, s);
    if (rc != 0) {
        free(s);
        return rc;
    }
    *ret_stepper = s;
    return 0;
}

void stepper_close(struct stepper *s)
{
    if (s == NULL)
        return;
    s->fn = NULL;
    sem_post(&s->wanted);
    pthread_join(s->thread, NULL);
    sem_destroy(&s->wanted);
    sem_destroy(&s->done);
    free(s);
}

int stepper_run(struct stepper *s, stepper_fn *fn, void *ud)
{
    s->fn = fn;
    s->ud = ud;
    sem_post(&s->wanted);
    wait_for(&s->done);
    return s->rc;
}
