/* fault_vfs.h -- a file system for SQLite that fails when told to: operation n of one kind, with
 * the code a full disk or a broken device gives. It stands on the default one and passes everything
 * else through, but for syncs: no test pulls the plug, and thousands of walks would wait for the
 * disk.
 *
 * Threads: one at a time between arm and disarm.
 */
#ifndef LEARND_FAULT_VFS_H
#define LEARND_FAULT_VFS_H

#include <stdbool.h>
#include <stdint.h>

enum fault_op { FAULT_WRITE, FAULT_SYNC, FAULT_TRUNCATE, FAULT_READ, FAULT_OPEN, FAULT_OPS };

/* Becomes the default file system of SQLite, before the first database is opened. */
void fault_vfs_install(void);
/* Fails operation n of this kind from now, counted from 1, with an SQLite code; with `on`, every
 * later one too. */
void fault_vfs_arm(enum fault_op op, uint64_t n, int code, bool on);
/* Fails nothing any more. Did anything fail since arm? */
bool fault_vfs_disarm(void);

#endif
