/* notify.h -- what a service manager is told, and what it hands over: sd_notify(3),
 * sd_listen_fds(3).
 *
 * Both protocols are a datagram and three environment variables, and stable by promise, so they are
 * spoken here and not by libsystemd: the same binary starts where no systemd ever was.
 *
 *     notify_send("READY=1\nSTATUS=serving %u models", n);
 *
 * Where nobody asked to be told (NOTIFY_SOCKET is not set) nothing happens. Threads: notify_open
 * and notify_sockets before others exist, notify_send from any.
 */
#ifndef LEARND_NOTIFY_H
#define LEARND_NOTIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID. 0; -EINVAL: one of them makes no sense, and
 * `why` says which. */
int notify_open(char *why, size_t why_bytes);
/* Is there somebody to tell? */
bool notify_wanted(void);
/* The process is ended when it has not sent WATCHDOG=1 for so long; 0: nobody watches. */
int64_t notify_watchdog_us(void);
/* One message. 0; -errno: it was not taken. A manager that does not read must not stop us: it is
 * never waited for. */
int notify_send(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* RELOADING=1 with the time that belongs to it. */
int notify_reloading(void);

/* Listening sockets that were opened for this process (LISTEN_FDS, LISTEN_PID). Returns how many, 0
 * where there are none; their descriptors are 3, 4 .. 3+n-1, closed on exec from now on. -EINVAL:
 * one of them is no listening stream socket, or there are more than max; `why` names it. */
int notify_sockets(int max, char *why, size_t why_bytes);
enum { NOTIFY_FIRST_FD = 3, NOTIFY_NAME_BYTES = 64 };
/* What the i-th of them is called (LISTEN_FDNAMES; systemd: by its socket unit); "" nothing. */
void notify_socket_name(int i, char name[NOTIFY_NAME_BYTES]);

#endif
