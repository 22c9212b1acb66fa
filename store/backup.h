/* backup.h -- a state folder as a backup, and back.
 *
 * A backup is a folder:
 *
 *     learnd.db          the database, written anew from one read transaction: whole and dense,
 *                        without free pages, so nothing that was erased before it is in it
 *     heads/ encoders/   the files that this database names, and no others
 *     BACKUP             what it is, a `name value` a line
 *     MANIFEST           the SHA-256 of every other file, as `sha256sum -c MANIFEST` reads it
 *
 * It is made beside a running daemon, which neither stops nor waits for it. Until it is whole and
 * on disk it is called DEST.partial; then it takes its name in one step. A backup that is there
 * already is replaced in that step and otherwise left as it was.
 *
 * The base encoder is not in a state folder and so not in its backup, which names its hash.
 *
 * No connection of struct store is involved. Any thread; blocks for as long as the files take.
 */
#ifndef LEARND_BACKUP_H
#define LEARND_BACKUP_H

#include "store/store.h"

struct store_backup_report {
    int64_t seq;     /* last event in it */
    uint64_t models; /* in it */
    uint64_t files, bytes;
    bool replaced; /* there was an older one of this name */
    char base[65]; /* SHA-256 of the base encoder's weights, hex; "" not known yet */
};

/* 0, or -errno with why: -ENOENT no state folder there, -EEXIST dest is something else than a
 * backup, -EBUSY another backup to it is under way, -ENOSPC, -EUCLEAN a file that the database
 * promises is missing or damaged. Nothing is left but, if the process is killed, dest.partial,
 * which the next one takes away. links: files of encoders are linked, where that can be, not
 * copied. */
int store_backup(const char *folder, const char *dest, bool links, char *why, size_t why_bytes,
                 struct store_backup_report *ret_report);

/* Everything in src is checked against its manifest before anything is written. The state folder is
 * made, or must be empty; what stands above it must be there. It holds the new state from the last
 * step on (one rename of the database), and nothing before. 0, or -errno with why: -ENOENT src is
 * no backup, -EUCLEAN it is damaged, or of a newer program, -ENOTEMPTY the state folder holds
 * something, -EBUSY a daemon holds it, -ENOSPC. */
int store_restore(const char *src, const char *folder, char *why, size_t why_bytes,
                  struct store_backup_report *ret_report);

/* A folder of files, copied into a new one. 0, or -errno with why. */
int store_folder_copy(const char *from, const char *to, char *why, size_t why_bytes);

/* A folder with all that is in it. 0, also when it is not there. */
int store_folder_remove(const char *path);

/* Every file of a folder against its MANIFEST, and no file beside them. 0, or -errno with why. */
int store_manifest_check(const char *folder, char *why, size_t why_bytes,
                         struct store_backup_report *ret_report);

#endif
