/* manifest.h -- the list of a folder's files with their SHA-256. Private to store/.
 *
 * A line a file, sorted by nothing: 64 hexadecimal digits, two spaces, the path below the folder.
 */
#ifndef LEARND_MANIFEST_H
#define LEARND_MANIFEST_H

#include <sys/stat.h>

#include "store/backup.h"

#define MANIFEST_NAME "MANIFEST"

/* Of everything that is in the folder now. Adds to report->files and bytes. The file is on disk
 * when this returns; the folder is the caller's to sync. 0 or -errno with why. */
int store_manifest_write(const char *folder, char *why, size_t why_bytes,
                         struct store_backup_report *report);

/* fn for every file below folder, with its path from there. Links and what is neither file nor
 * folder: -ELOOP. Non-zero of fn stops and is returned. */
typedef int store_walk_fn(void *ud, const char *path, const struct stat *st);
int store_walk(const char *folder, store_walk_fn *fn, void *ud);

/* The SHA-256 of a file. 0 or -errno. */
int store_hash_path(const char *path, uint8_t ret_hash[STORE_HASH_BYTES]);

/* "what: strerror", and rc. */
int store_say(char *why, size_t why_bytes, const char *what, int rc);

#endif
