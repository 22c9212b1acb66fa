/* reload.h -- SIGHUP: the settings are read again, and what may change while the daemon runs does.
 *
 * Threads: the main one.
 */
#ifndef LEARND_RELOAD_H
#define LEARND_RELOAD_H

#include "daemon/server.h"

/* Reads the settings as at the start (same flags, same environment, the file as it is now). A bad
 * one changes nothing and is logged with its line and reason. Else what may change changes, and for
 * each other setting that is different one line names it. server->settings then says what is in
 * force. */
void reload(struct server *server, int argc, char **argv);

#endif
