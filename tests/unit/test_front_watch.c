/* test_front_watch.c -- an event stream of a real loop, with every allocation failing in turn; and
 * the typed posts of daemon/events.h, which lose an event at worst.
 *
 * The loop runs in its own thread behind a unix socket, with the bus and an empty table of models
 * for a daemon. A client that cannot be served sees an error or the end of the connection, never
 * silence.
 */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/events.h"
#include "daemon/front/handlers.h"
#include "daemon/metrics.h"
#include "daemon/server.h"
#include "tests/unit/fault_alloc.h"

enum { EVENTS = 8 };

static struct server server;
static char folder[] = "/tmp/test_front_watch.XXXXXX";

static void nothing_gathered(void *served)
{
    (void)served;
}

static int open_all(void **state)
{
    static const struct route routes[] = {
        {"GET", "/v1/events", handle_events, ROLE_NONE, 0, NULL},
    };
    char why[256];

    (void)state;
    fault_alloc_install();
    log_open(LOG_LEVEL_ERROR);
    if (mkdtemp(folder) == NULL || live_open(4, &server.live) != 0 ||
        bus_open(7, EVENTS, 8, &server.bus) != 0)
        return -1;
    snprintf(server.settings.listen[0], sizeof server.settings.listen[0], "unix:%s/s", folder);
    server.settings.listen_len = 1;
    server.settings.connections = 256;
    if (access_open(NULL, &server.settings.access, "", why, sizeof why, &server.access) != 0)
        return -1;
    return loops_open(&server.settings, 0, 1, routes, 1, server.bus, server.access,
                      nothing_gathered, &server, why, sizeof why, &server.loops);
}

static int close_all(void **state)
{
    (void)state;
    loops_close(server.loops);
    bus_close(server.bus);
    live_close(server.live);
    return rmdir(folder);
}

/* ---- a client, which allocates nothing ------------------------------------------------------- */

static int come(void)
{
    static const char request[] = "GET /v1/events HTTP/1.1\r\nHost: h\r\n"
                                  "Connection: close\r\n\r\n";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval limit = {60, 0};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof address.sun_path, "%s/s", folder);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    send(fd, request, sizeof request - 1, MSG_NOSIGNAL);
    return fd;
}

/* Reads until `word` has come (true) or the connection ends (false). Silence fails. */
static bool read_until(int fd, char *text, size_t text_bytes, const char *word)
{
    size_t len = strlen(text);

    while (strstr(text, word) == NULL) {
        ssize_t n = recv(fd, text + len, text_bytes - 1 - len, 0);

        if (n < 0)
            assert_int_equal(errno, ECONNRESET);
        if (n <= 0)
            return false;
        len += (size_t)n;
        text[len] = '\0';
        assert_true(len < text_bytes - 1);
    }
    return true;
}

/* The next one waits until the loop has seen that this one has gone. */
static void leave(int fd)
{
    close(fd);
    while (loops_connections(server.loops) > 0)
        sched_yield();
    assert_int_equal(loops_streams(server.loops), 0);
}

/* A post for which there was no memory is counted, and comes again. */
static void post_surely(void)
{
    uint64_t lost;

    do {
        lost = metrics_get(METRICS_EVENTS_LOST);
        events_model(server.bus, "m", EVENTS_MODEL_CREATED);
    } while (metrics_get(METRICS_EVENTS_LOST) > lost);
}

/* One stream from its request to an event. False: it broke off, or was refused with words. */
static bool walk(void)
{
    char text[4096] = "";
    int fd = come();
    bool good = read_until(fd, text, sizeof text, "\n\n");

    if (good) {
        post_surely();
        good = read_until(fd, text, sizeof text, "\"created\"}\n\n");
    }
    if (!good)
        assert_true(text[0] == '\0' || strstr(text, " 503 ") != NULL ||
                    strstr(text, "text/event-stream") != NULL);
    leave(fd);
    return good;
}

static void test_every_allocation_fails(void **state)
{
    uint64_t dropped = metrics_get(METRICS_WATCHERS_FAILED), n, failed = 0;

    (void)state;
    assert_true(walk());
    for (n = 1;; n++) {
        bool good;

        fault_alloc_arm(n, false);
        good = walk();
        if (!fault_alloc_disarm())
            break;
        failed += !good;
        assert_true(walk());
    }
    assert_true(n > 5);
    assert_true(failed > 3);
    assert_true(metrics_get(METRICS_WATCHERS_FAILED) > dropped);
}

/* A stop finds a stream open: it gets what was posted, and an end. The last test, for close_all. */
static void test_the_end(void **state)
{
    char text[4096] = "";
    int fd = come();

    (void)state;
    assert_true(read_until(fd, text, sizeof text, "\n\n"));
    events_warning(server.bus, NULL, "last_words", "of a test");
    loops_drain(server.loops);
    assert_true(read_until(fd, text, sizeof text, "\r\n0\r\n\r\n"));
    assert_non_null(strstr(text, "last_words"));
    assert_false(read_until(fd, text, sizeof text, "more"));
    close(fd);
}

/* ---- posting --------------------------------------------------------------------------------- */

static void check_next(uint64_t *cursor, enum api_event type, const char *part)
{
    struct bus_event e;

    assert_int_equal(bus_next(server.bus, API_EVENT_TYPES_ALL, NULL, 0, cursor, &e), 1);
    assert_int_equal(e.type, type);
    assert_true(e.data_bytes < sizeof e.data);
    e.data[e.data_bytes] = '\0';
    if (strstr(e.data, part) == NULL)
        fail_msg("%s is not in %s", part, e.data);
}

static void test_posts(void **state)
{
    const struct events_swap swap = {"m", 2, 1850, true, 12, 3};
    const struct events_drift drift = {.model = "m", .detector = "adwin", .measure = "error"};
    uint64_t cursor = bus_newest(server.bus);
    struct bus_event e;

    (void)state;
    events_swap(server.bus, &swap);
    events_label(server.bus, "m", EVENTS_LABEL_MERGED, "kept", "gone");
    events_model(server.bus, "m", EVENTS_MODEL_CHANGED);
    events_drift(server.bus, &drift);
    events_warning(server.bus, NULL, "a_word", "words");
    check_next(&cursor, API_EVENT_SWAP, "\"version\":\"2.1850\"");
    check_next(&cursor, API_EVENT_LABEL,
               "\"action\":\"merged\",\"label\":\"kept\",\"from\":\"gone\"");
    check_next(&cursor, API_EVENT_MODEL, "\"action\":\"changed\"");
    check_next(&cursor, API_EVENT_DRIFT, "\"detector\":\"adwin\"");
    check_next(&cursor, API_EVENT_WARNING, "\"model\":null,\"code\":\"a_word\"");
    assert_int_equal(bus_next(server.bus, API_EVENT_TYPES_ALL, NULL, 0, &cursor, &e), 0);
    events_swap(NULL, &swap);
    events_label(NULL, "m", EVENTS_LABEL_CREATED, "x", NULL);
    events_model(NULL, "m", EVENTS_MODEL_REMOVED);
    events_drift(NULL, &drift);
    events_warning(NULL, "m", "a_word", "words");
}

/* Of one model and word one now and the newest later; others are not held up by it. */
static void test_warnings_are_merged(void **state)
{
    uint64_t cursor = bus_newest(server.bus);
    struct bus_event e;

    (void)state;
    for (int i = 0; i < 100; i++) {
        events_warning(server.bus, NULL, "often", "words");
        events_warning(server.bus, "m", "often", "words");
        events_warning(server.bus, "m", "other", "words");
    }
    check_next(&cursor, API_EVENT_WARNING, "\"model\":null,\"code\":\"often\"");
    check_next(&cursor, API_EVENT_WARNING, "\"model\":\"m\",\"code\":\"often\"");
    check_next(&cursor, API_EVENT_WARNING, "\"model\":\"m\",\"code\":\"other\"");
    assert_int_equal(bus_next(server.bus, API_EVENT_TYPES_ALL, NULL, 0, &cursor, &e), 0);
    assert_true(bus_due(server.bus) > 0);
    bus_forget(server.bus, "m");
    bus_forget(server.bus, "");
    assert_int_equal(bus_due(server.bus), -1);
}

/* A removed model says nothing any more. */
static void test_no_swap_behind_the_end(void **state)
{
    const struct events_swap swap = {.model = "brief"};
    uint64_t cursor = bus_newest(server.bus);
    struct bus_event e;

    (void)state;
    events_swap(server.bus, &swap);
    events_swap(server.bus, &swap);
    events_model(server.bus, "brief", EVENTS_MODEL_REMOVED);
    check_next(&cursor, API_EVENT_SWAP, "\"brief\"");
    check_next(&cursor, API_EVENT_MODEL, "\"removed\"");
    assert_int_equal(bus_next(server.bus, API_EVENT_TYPES_ALL, NULL, INT64_MAX, &cursor, &e), 0);
}

static void test_what_does_not_fit_is_lost(void **state)
{
    uint64_t lost = metrics_get(METRICS_EVENTS_LOST), newest = bus_newest(server.bus);
    char detail[BUS_DATA_BYTES + 1];

    (void)state;
    memset(detail, 'x', sizeof detail - 1);
    detail[sizeof detail - 1] = '\0';
    events_warning(server.bus, NULL, "long", detail);
    assert_int_equal(metrics_get(METRICS_EVENTS_LOST), lost + 1);
    assert_int_equal(bus_newest(server.bus), newest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_posts),
        cmocka_unit_test(test_warnings_are_merged),
        cmocka_unit_test(test_no_swap_behind_the_end),
        cmocka_unit_test(test_what_does_not_fit_is_lost),
        cmocka_unit_test(test_every_allocation_fails),
        cmocka_unit_test(test_the_end),
    };

    return cmocka_run_group_tests(tests, open_all, close_all);
}
