/* attend.c -- see attend.h. A look takes the lock, so a step that takes parts away waits for it. */
#include "daemon/attend.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "daemon/clock.h"
#include "daemon/log.h"
#include "daemon/notify.h"
#include "daemon/server.h"
#include "daemon/watchdog.h"

enum {
    LOOK_US = 1000000,
    EXTEND_EVERY_US = 5000000,
    EXTEND_US = 60000000, /* a start or a stop that gets on may take so much longer */
    STATUS_BYTES = 192,
};

_Static_assert(LIMIT_LOOPS + LIMIT_LANES + 2 <= WATCHDOG_PARTS_MAX, "every part can be watched");

static struct {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool open, ending;
    const struct server *server; /* its lanes, or all of it */
    bool serving;
    char said[STATUS_BYTES];
    struct extension extension;
    struct watchdog watchdog;
    int64_t fed_us;
    bool warned;
} attendant = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint64_t lanes_turns(const struct server *s)
{
    uint64_t turns = 0;

    for (uint32_t i = 0; i < s->lanes_len; i++)
        turns += lane_counts(s->lanes[i]).turns;
    return turns;
}

/* ---- starting and stopping ------------------------------------------------------------------- */

static void extend(void)
{
    uint64_t work = store_work(STORE_WRITER) + store_work(STORE_READER);

    if (attendant.server != NULL)
        work += lanes_turns(attendant.server);
    if (extension_due(&attendant.extension, work, clock_us(), EXTEND_EVERY_US))
        (void)notify_send("EXTEND_TIMEOUT_USEC=%d", EXTEND_US);
}

/* ---- serving --------------------------------------------------------------------------------- */

static void tell_status(const struct server *s)
{
    char status[STATUS_BYTES];

    snprintf(status, sizeof status, "learnd " LEARND_VERSION ": %u texts queued, %u connections%s",
             batcher_waiting(s->batcher), loops_connections(s->loops),
             trainer_counts(s->trainer).running ? ", a run under way" : "");
    if (strcmp(status, attendant.said) == 0)
        return;
    memcpy(attendant.said, status, sizeof status);
    (void)notify_send("STATUS=%s", status);
}

/* A lane is busy with a batch, the queue with texts that no lane has taken, the keeper with a box
 * or changes that it has not taken. A loop always has something to do: it was poked at the last
 * look. */
static uint32_t take_pulses(const struct server *s, struct pulse parts[WATCHDOG_PARTS_MAX])
{
    struct keeper_counts keeper = keeper_counts(s->keeper);
    uint32_t len = 0;

    for (uint32_t i = 0; i < s->loops_len; i++) {
        parts[len++] = (struct pulse){"loop", loops_beats(s->loops, i), true};
        loops_poke(s->loops, i);
    }
    for (uint32_t i = 0; i < s->lanes_len; i++) {
        uint64_t turns = lane_counts(s->lanes[i]).turns;

        parts[len++] = (struct pulse){"lane", turns, turns % 2 != 0};
    }
    parts[len++] = (struct pulse){"queue", lanes_turns(s), batcher_waiting(s->batcher) > 0};
    parts[len++] = (struct pulse){"keeper", keeper.turns + store_work(STORE_WRITER),
                                  keeper.turns % 2 != 0 || keeper.waiting > 0};
    return len;
}

static void feed(const struct server *s)
{
    struct pulse parts[WATCHDOG_PARTS_MAX];

    if (watchdog_look(&attendant.watchdog, parts, take_pulses(s, parts))) {
        (void)notify_send("WATCHDOG=1");
        attendant.fed_us = clock_us();
        attendant.warned = false;
    } else if (!attendant.warned && clock_us() - attendant.fed_us > notify_watchdog_us() / 2) {
        log_error("watchdog", "event", "not_fed", "stuck", attendant.watchdog.stuck, NULL);
        attendant.warned = true;
    }
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* Four looks at least in the watchdog's time. */
static int64_t look_us(void)
{
    int64_t watchdog = notify_watchdog_us();

    return watchdog > 0 && watchdog / 4 < LOOK_US ? watchdog / 4 : LOOK_US;
}

static void wait_for_look(void)
{
    int64_t until_us = clock_us() + look_us();
    struct timespec until = {until_us / 1000000, until_us % 1000000 * 1000};
    int rc = 0;

    while (!attendant.ending && rc == 0)
        rc = pthread_cond_timedwait(&attendant.wake, &attendant.lock, &until);
}

static void *run(void *arg)
{
    (void)arg;
    pthread_setname_np(pthread_self(), "attend");
    pthread_mutex_lock(&attendant.lock);
    while (!attendant.ending) {
        if (!attendant.serving) {
            extend();
        } else {
            tell_status(attendant.server);
            if (notify_watchdog_us() > 0)
                feed(attendant.server);
        }
        wait_for_look();
    }
    pthread_mutex_unlock(&attendant.lock);
    return NULL;
}

/* ---- what main calls ------------------------------------------------------------------------- */

int attend_open(void)
{
    pthread_condattr_t attr;
    int rc;

    if (!notify_wanted())
        return 0;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&attendant.wake, &attr);
    pthread_condattr_destroy(&attr);
    rc = -pthread_create(&attendant.thread, NULL, run, NULL);
    attendant.open = rc == 0;
    return rc;
}

static void change(const struct server *server, bool serving)
{
    pthread_mutex_lock(&attendant.lock);
    attendant.server = server;
    attendant.serving = serving;
    attendant.said[0] = '\0';
    attendant.fed_us = clock_us();
    if (serving && attendant.open)
        tell_status(server);
    pthread_mutex_unlock(&attendant.lock);
}

void attend_step(const char *doing, const struct server *lanes)
{
    change(lanes, false);
    (void)notify_send("STATUS=learnd " LEARND_VERSION ": %s\nEXTEND_TIMEOUT_USEC=%d", doing,
                      EXTEND_US);
}

void attend_ready(const struct server *server)
{
    (void)notify_send("READY=1");
    change(server, true);
}

void attend_leaving(unsigned seconds)
{
    (void)notify_send("STOPPING=1\nSTATUS=learnd " LEARND_VERSION
                      ": stopping, answers for another %u s\nEXTEND_TIMEOUT_USEC=%llu",
                      seconds, seconds * 1000000ULL + EXTEND_US);
}

void attend_close(void)
{
    if (!attendant.open)
        return;
    pthread_mutex_lock(&attendant.lock);
    attendant.ending = true;
    pthread_cond_signal(&attendant.wake);
    pthread_mutex_unlock(&attendant.lock);
    pthread_join(attendant.thread, NULL);
    pthread_cond_destroy(&attendant.wake);
    attendant.open = false;
}
