/* file_acts.h -- whole files and folders: read, taken away. Private to store/; writing one is a
 * face, in store_runs.h.
 *
 * 0 or -errno; nothing is said in words here. Any thread.
 */
#ifndef LEARND_FILE_ACTS_H
#define LEARND_FILE_ACTS_H

#include <stddef.h>

/* malloc'd, the caller frees. -ENOENT also for what is empty, or no file. */
int store_file_read_all(const char *path, void **ret_bytes, size_t *ret_len);
/* A new file with the bytes of another, not yet synced. -EEXIST: to is there. */
int store_file_copy(const char *from, const char *to, unsigned mode);
/* fsync of a folder: its names are on disk. */
int store_folder_sync(const char *path);
/* fsync of every file and folder in a folder, and of itself. A link in it: -ELOOP. */
int store_tree_sync(const char *path);
/* Takes a folder or file away with all that is in it. 0, also when it is not there. */
int store_tree_remove(const char *path);

#endif
