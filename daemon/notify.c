/* notify.c -- see notify.h. */
#include "daemon/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE_BYTES = 1024 };

static struct {
    struct sockaddr_un address;
    socklen_t address_bytes; /* 0: nobody is told */
    int64_t watchdog_us;
} manager;

/* A whole number, all of the text. */
static bool number(const char *text, uint64_t *ret_value)
{
    char *end;
    unsigned long long n;

    errno = 0;
    n = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || errno != 0)
        return false;
    *ret_value = n;
    return true;
}

/* Is the variable for this process? Where it names another one, that one's are not ours. */
static bool for_us(const char *variable)
{
    const char *text = getenv(variable);
    uint64_t pid;

    return text != NULL && number(text, &pid) && pid == (uint64_t)getpid();
}

int notify_open(char *why, size_t why_bytes)
{
    const char *path = getenv("NOTIFY_SOCKET"), *watchdog = getenv("WATCHDOG_USEC");
    struct sockaddr_un *a = &manager.address;
    uint64_t us;

    memset(&manager, 0, sizeof manager);
    if (path != NULL && *path != '\0') {
        size_t len = strlen(path);

        if ((*path != '/' && *path != '@') || len >= sizeof a->sun_path) {
            snprintf(why, why_bytes, "NOTIFY_SOCKET %.100s: expected a path of at most %zu bytes",
                     path, sizeof a->sun_path - 1);
            return -EINVAL;
        }
        a->sun_family = AF_UNIX;
        memcpy(a->sun_path, path, len);
        if (*path == '@') /* of the abstract name space */
            a->sun_path[0] = '\0';
        manager.address_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    }
    if (watchdog == NULL || (getenv("WATCHDOG_PID") != NULL && !for_us("WATCHDOG_PID")))
        return 0;
    if (!number(watchdog, &us) || us == 0 || us > INT64_MAX) {
        snprintf(why, why_bytes, "WATCHDOG_USEC %.40s: expected microseconds", watchdog);
        return -EINVAL;
    }
    manager.watchdog_us = (int64_t)us;
    return 0;
}

bool notify_wanted(void)
{
    return manager.address_bytes > 0;
}

int64_t notify_watchdog_us(void)
{
    return notify_wanted() ? manager.watchdog_us : 0;
}

/* A socket a message: one that is kept would have to survive a manager that starts anew. */
int notify_send(const char *format, ...)
{
    char message[MESSAGE_BYTES];
    int fd, len, rc = 0;
    va_list args;

    if (!notify_wanted())
        return 0;
    va_start(args, format);
    len = vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (len < 0 || len >= (int)sizeof message)
        return -EMSGSIZE;
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (sendto(fd, message, (size_t)len, MSG_NOSIGNAL, (struct sockaddr *)&manager.address,
               manager.address_bytes) != len)
        rc = -errno;
    close(fd);
    return rc;
}

int notify_reloading(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return notify_send("RELOADING=1\nMONOTONIC_USEC=%lld",
                       (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
}

/* ---- inherited sockets ----------------------------------------------------------------------- */

static int option(int fd, int name)
{
    int value = -1;
    socklen_t len = sizeof value;

    return getsockopt(fd, SOL_SOCKET, name, &value, &len) == 0 ? value : -1;
}

static int check_socket(int fd, char *why, size_t why_bytes)
{
    int domain = option(fd, SO_DOMAIN);
    const char *wrong = NULL;

    if (option(fd, SO_TYPE) != SOCK_STREAM)
        wrong = "is no stream socket";
    else if (option(fd, SO_ACCEPTCONN) != 1)
        wrong = "does not listen (a socket unit needs Accept=no)";
    else if (domain != AF_INET && domain != AF_INET6 && domain != AF_UNIX)
        wrong = "is neither of TCP nor a unix socket";
    else if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 ||
             fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0)
        wrong = strerror(errno);
    if (wrong == NULL)
        return 0;
    snprintf(why, why_bytes, "LISTEN_FDS: descriptor %d %s", fd, wrong);
    return -EINVAL;
}

int notify_sockets(int max, char *why, size_t why_bytes)
{
    const char *text = getenv("LISTEN_FDS");
    uint64_t len;

    if (text == NULL || !for_us("LISTEN_PID"))
        return 0;
    if (!number(text, &len) || len > (uint64_t)max) {
        snprintf(why, why_bytes, "LISTEN_FDS %.40s: expected a number of sockets, at most %d", text,
                 max);
        return -EINVAL;
    }
    for (int i = 0; i < (int)len; i++) {
        int rc = check_socket(NOTIFY_FIRST_FD + i, why, why_bytes);

        if (rc != 0)
            return rc;
    }
    return (int)len;
}

void notify_socket_name(int i, char name[NOTIFY_NAME_BYTES])
{
    const char *names = getenv("LISTEN_FDNAMES");

    for (; names != NULL && i > 0; i--) {
        names = strchr(names, ':');
        names = names != NULL ? names + 1 : NULL;
    }
    snprintf(name, NOTIFY_NAME_BYTES, "%.*s", names != NULL ? (int)strcspn(names, ":") : 0,
             names != NULL ? names : "");
}
