/* test_notify.c -- what a service manager is told and hands over, when its watchdog is fed, and
 * which places a state folder may have. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/notify.h"
#include "daemon/preflight.h"
#include "daemon/watchdog.h"
#include "tests/unit/own_folder.h"

static char why[256];

static int set_up(void **state)
{
    static const char *const names[] = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
                                        "LISTEN_FDS", "LISTEN_PID"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
    return folder_set_up(state);
}

/* ---- telling --------------------------------------------------------------------------------- */

/* A manager that listens at path ('@' first: of the abstract name space). */
static int manager_open(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);

    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    if (*path == '@')
        a.sun_path[0] = '\0';
    assert_int_equal(bind(fd, (struct sockaddr *)&a,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path))),
                     0);
    setenv("NOTIFY_SOCKET", path, 1);
    return fd;
}

static const char *told(int fd)
{
    static char message[2048];
    ssize_t len = recv(fd, message, sizeof message - 1, 0);

    message[len < 0 ? 0 : len] = '\0';
    return message;
}

static void tell_at(const char *path)
{
    int fd = manager_open(path);

    assert_int_equal(notify_open(why, sizeof why), 0);
    assert_true(notify_wanted());
    assert_int_equal(notify_send("READY=1\nSTATUS=%d of %s", 7, "them"), 0);
    assert_string_equal(told(fd), "READY=1\nSTATUS=7 of them");
    assert_int_equal(notify_reloading(), 0);
    assert_int_equal(strncmp(told(fd), "RELOADING=1\nMONOTONIC_USEC=", 27), 0);
    assert_int_equal(notify_send("%01500d", 1), -EMSGSIZE);
    close(fd);
    assert_int_equal(notify_send("READY=1"), -ECONNREFUSED); /* and nothing else happens */
}

static void test_tells(void **state)
{
    char path[FOLDER_BYTES + 16];

    (void)state;
    snprintf(path, sizeof path, "%s/notify", folder);
    tell_at(path);
    snprintf(path, sizeof path, "@learnd-test-%d", (int)getpid());
    tell_at(path);
}

static void test_nobody_asked(void **state)
{
    (void)state;
    setenv("WATCHDOG_USEC", "1000000", 1);
    assert_int_equal(notify_open(why, sizeof why), 0);
    assert_false(notify_wanted());
    assert_int_equal(notify_send("READY=1"), 0);
    assert_int_equal(notify_watchdog_us(), 0); /* who could be fed? */
}

/* A manager that does not read is not waited for. */
static void test_full_manager(void **state)
{
    char path[FOLDER_BYTES + 16];
    int fd, rc = 0;

    (void)state;
    snprintf(path, sizeof path, "%s/notify", folder);
    fd = manager_open(path);
    assert_int_equal(notify_open(why, sizeof why), 0);
    for (int i = 0; i < 100000 && rc == 0; i++)
        rc = notify_send("STATUS=%d", i);
    assert_int_equal(rc, -EAGAIN);
    close(fd);
}

static void wrong(const char *name, const char *value)
{
    setenv(name, value, 1);
    why[0] = '\0';
    assert_int_equal(notify_open(why, sizeof why), -EINVAL);
    if (strstr(why, name) == NULL)
        fail_msg("\"%s\" does not name %s", why, name);
    unsetenv(name);
}

static void test_wrong_variables(void **state)
{
    char long_path[200] = "/", pid[32];

    (void)state;
    memset(long_path + 1, 'x', sizeof long_path - 2);
    wrong("NOTIFY_SOCKET", "relative");
    wrong("NOTIFY_SOCKET", "vsock:2:1234");
    wrong("NOTIFY_SOCKET", long_path);
    wrong("WATCHDOG_USEC", "0");
    wrong("WATCHDOG_USEC", "soon");
    wrong("WATCHDOG_USEC", "-1");
    wrong("WATCHDOG_USEC", "99999999999999999999");
    setenv("NOTIFY_SOCKET", "/nowhere", 1);
    setenv("WATCHDOG_USEC", "1000000", 1);
    setenv("WATCHDOG_PID", "1", 1); /* it watches another process */
    assert_int_equal(notify_open(why, sizeof why), 0);
    assert_int_equal(notify_watchdog_us(), 0);
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    setenv("WATCHDOG_PID", pid, 1);
    assert_int_equal(notify_open(why, sizeof why), 0);
    assert_int_equal(notify_watchdog_us(), 1000000);
}

/* ---- sockets --------------------------------------------------------------------------------- */

static void offer(const char *fds, int pid)
{
    char text[32];

    snprintf(text, sizeof text, "%d", pid);
    setenv("LISTEN_FDS", fds, 1);
    setenv("LISTEN_PID", text, 1);
}

/* Descriptor 3 is whatever the test makes of it. */
static void put_at_3(int fd)
{
    assert_int_equal(dup2(fd, NOTIFY_FIRST_FD), NOTIFY_FIRST_FD);
    close(fd);
}

static void assert_names(const char *first, const char *second, const char *third)
{
    const char *const names[] = {first, second, third, ""};
    char name[NOTIFY_NAME_BYTES];

    for (int i = 0; i < 4; i++) {
        notify_socket_name(i, name);
        assert_string_equal(name, names[i]);
    }
}

static void test_sockets(void **state)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int kept = dup(NOTIFY_FIRST_FD), fd = socket(AF_UNIX, SOCK_STREAM, 0);

    (void)state;
    if (fd == NOTIFY_FIRST_FD) /* it was closed: keep it free for what is offered */
        fd = fcntl(fd, F_DUPFD, 10);
    assert_int_equal(notify_sockets(8, why, sizeof why), 0); /* none offered */
    offer("1", 1);
    assert_int_equal(notify_sockets(8, why, sizeof why), 0); /* not to us */
    offer("9", getpid());
    assert_int_equal(notify_sockets(8, why, sizeof why), -EINVAL);
    assert_non_null(strstr(why, "at most 8"));
    offer("one", getpid());
    assert_int_equal(notify_sockets(8, why, sizeof why), -EINVAL);

    snprintf(a.sun_path, sizeof a.sun_path, "%.90s/s", folder);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    offer("1", getpid());
    put_at_3(dup(fd));
    assert_int_equal(notify_sockets(8, why, sizeof why), -EINVAL);
    assert_non_null(strstr(why, "descriptor 3 does not listen"));
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(notify_sockets(8, why, sizeof why), 1);
    assert_names("", "", "");
    setenv("LISTEN_FDNAMES", "web::local.socket", 1);
    assert_names("web", "", "local.socket");
    unsetenv("LISTEN_FDNAMES");
    assert_true(fcntl(NOTIFY_FIRST_FD, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(NOTIFY_FIRST_FD, F_GETFL) & O_NONBLOCK);
    put_at_3(socket(AF_INET, SOCK_DGRAM, 0));
    assert_int_equal(notify_sockets(8, why, sizeof why), -EINVAL);
    assert_non_null(strstr(why, "no stream socket"));
    put_at_3(open("/dev/null", O_RDONLY));
    assert_int_equal(notify_sockets(8, why, sizeof why), -EINVAL);
    close(fd);
    if (kept >= 0)
        put_at_3(kept);
    else
        close(NOTIFY_FIRST_FD);
}

/* ---- the watchdog ---------------------------------------------------------------------------- */

enum { LOOP, LANE, KEEPER, PARTS };

static struct pulse parts[PARTS];

static void fresh(struct watchdog *w)
{
    *w = (struct watchdog){.len = 0};
    parts[LOOP] = (struct pulse){"loop", 0, true};
    parts[LANE] = (struct pulse){"lane", 0, false};
    parts[KEEPER] = (struct pulse){"keeper", 0, false};
}

static bool look(struct watchdog *w)
{
    return watchdog_look(w, parts, PARTS);
}

static void test_fed_while_all_get_on(void **state)
{
    struct watchdog w;

    (void)state;
    fresh(&w);
    assert_false(look(&w)); /* the loop has not shown anything yet */
    assert_string_equal(w.stuck, "loop");
    for (int i = 0; i < 100; i++) {
        parts[LOOP].beats++;
        parts[LANE].busy = i % 2 == 0; /* busy and getting on, or idle */
        parts[LANE].beats += (uint64_t)i;
        parts[KEEPER].busy = i > 50;
        parts[KEEPER].beats++;
        assert_true(look(&w) || (parts[LANE].busy && i == 0));
    }
    assert_null(w.stuck);
}

/* Each part in turn hangs with work in hand: it is never fed again, whatever the others do. */
static void test_one_hangs(void **state)
{
    (void)state;
    for (int hung = 0; hung < PARTS; hung++) {
        struct watchdog w;

        fresh(&w);
        for (int i = 0; i < 5; i++) {
            for (int k = 0; k < PARTS; k++)
                parts[k].beats++;
            (void)look(&w);
        }
        parts[hung].busy = true;
        for (int i = 0; i < 20; i++) {
            for (int k = 0; k < PARTS; k++)
                parts[k].beats += k != hung;
            /* (What it did before it hung may count once.) */
            assert_true(!look(&w) || i == 0);
        }
        assert_string_equal(w.stuck, parts[hung].name);
        parts[hung].beats++; /* it was slow, no more */
        assert_true(look(&w));
    }
}

/* Parts that get on at different looks are well all the same. */
static void test_slow_parts_take_turns(void **state)
{
    struct watchdog w;
    int fed = 0;

    (void)state;
    fresh(&w);
    (void)look(&w);
    parts[LANE].busy = parts[KEEPER].busy = true;
    for (int i = 0; i < 30; i++) {
        parts[i % PARTS].beats++;
        fed += look(&w);
    }
    assert_int_equal(fed, 10);
}

/* More time is asked for while work gets on, and not for ever where it hangs. */
static void test_extension(void **state)
{
    struct extension e = {0};

    (void)state;
    assert_false(extension_due(&e, 0, 100, 10)); /* nothing has been done yet */
    assert_true(extension_due(&e, 1, 101, 10));
    assert_false(extension_due(&e, 9, 110, 10)); /* too soon, */
    assert_true(extension_due(&e, 9, 111, 10));  /* not forgotten */
    for (int64_t now = 112; now < 1000; now++)
        assert_false(extension_due(&e, 9, now, 10));
    assert_true(extension_due(&e, 10, 1000, 10));
}

/* ---- places ---------------------------------------------------------------------------------- */

static void test_disks(void **state)
{
    static const long networks[] = {0x6969, (int32_t)0xff534d42, (int32_t)0xfe534d42, 0xff534d42L,
                                    0x517b};

    (void)state;
    for (size_t i = 0; i < sizeof networks / sizeof *networks; i++)
        assert_int_equal(preflight_disk(networks[i]), PREFLIGHT_NETWORK);
    assert_int_equal(preflight_disk(0x01021994), PREFLIGHT_MEMORY);
    assert_int_equal(preflight_disk(0xef53), PREFLIGHT_DISK);              /* ext4 */
    assert_int_equal(preflight_disk(0x794c7630), PREFLIGHT_DISK);          /* overlayfs */
    assert_int_equal(preflight_disk((int32_t)0x9123683e), PREFLIGHT_DISK); /* btrfs */
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, folder_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_tells),        EACH(test_nobody_asked),
        EACH(test_full_manager), EACH(test_wrong_variables),
        EACH(test_sockets),      EACH(test_fed_while_all_get_on),
        EACH(test_one_hangs),    EACH(test_slow_parts_take_turns),
        EACH(test_extension),    EACH(test_disks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
