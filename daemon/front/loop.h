/* loop.h -- the event loops: listeners, connections, answers from other threads.
 *
 * One loop a thread, each with its own SO_REUSEPORT listener, connections and answers box; loops
 * share nothing. The home of libuv. What came in together is answered together: before a loop goes
 * to sleep it calls round(server), where handlers hand over what they have gathered.
 */
#ifndef LEARND_LOOP_H
#define LEARND_LOOP_H

#include "daemon/front/router.h"
#include "daemon/settings.h"

struct access;
struct bus;
struct loops;

/* Binds every address on every loop and starts the threads. inherited: sockets that listen already
 * (notify.h); with any, every loop shares those and no address is bound. bus: what event streams
 * tell. access: who may come in; without keys only the loopback and unix sockets are bound. server:
 * handed to handlers. 0 or -errno; `why` then says which address and what is wrong with it. Logs
 * one line `listening` an address. */
int loops_open(const struct settings *settings, uint32_t inherited, uint32_t len,
               const struct route *routes, size_t routes_len, struct bus *bus,
               struct access *access, void (*round)(void *server), void *server, char *why,
               size_t why_bytes, struct loops **ret_loops);
/* Could these addresses be listened on? keyed: keys are in use. Binds nothing. 0, or as loops_open.
 */
int loops_check(const struct settings *settings, bool keyed, char *why, size_t why_bytes);
/* From now on every answer ends its connection, so that clients that keep one look for another
 * daemon while this one still answers. */
void loops_leave(struct loops *loops);
/* Which answers have a line in the log from now on. */
void loops_log_requests(struct loops *loops, enum log_requests which);
/* Asks a loop for a sign; loops_beats counts the signs that it gave. Any thread. */
void loops_poke(struct loops *loops, uint32_t index);
uint64_t loops_beats(const struct loops *loops, uint32_t index);
/* Stops accepting, lets requests under way finish (at most LIMIT_DRAIN_S), joins the threads. No
 * message may be on its way afterwards but those of exchanges that were cut off: loops_close takes
 * them. */
void loops_drain(struct loops *loops);
void loops_close(struct loops *loops);
uint32_t loops_connections(const struct loops *loops);
uint32_t loops_streams(const struct loops *loops);

#endif
