/* snapshots.c -- images of heads as files. The file comes first and whole (temp, fsync, rename,
 * fsync folder), its row second: a row promises a file, a file without a row is only waste, and the
 * next start removes it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/file_acts.h"
#include "store/store_internal.h"

enum { KEEP = 2, ROWS_MAX = 64 };

static int path_of(char path[4096], const char *folder, int64_t model, int64_t encoder, int64_t seq,
                   const char *suffix)
{
    return snprintf(path, 4096, "%s/heads/%lld-%lld-%lld.head%s", folder, (long long)model,
                    (long long)encoder, (long long)seq, suffix) < 4096
               ? 0
               : -ENAMETOOLONG;
}

static int sync_heads(const char *folder)
{
    char path[4096];

    if (snprintf(path, sizeof path, "%s/heads", folder) >= (int)sizeof path)
        return -ENAMETOOLONG;
    return store_folder_sync(path);
}

int store_snapshot_write(const char *folder, int64_t model, int64_t encoder, int64_t seq,
                         const void *image, size_t image_bytes, char *why, size_t why_bytes,
                         uint8_t ret_sha256[STORE_HASH_BYTES])
{
    char temporary[4096], final[4096];
    int fd = -1, rc = path_of(temporary, folder, model, encoder, seq, ".new");

    if (rc == 0)
        rc = path_of(final, folder, model, encoder, seq, "");
    if (rc == 0) {
        fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        rc = fd >= 0 ? store_file_write_all(fd, image, image_bytes) : -errno;
    }
    if (rc == 0 && fsync(fd) != 0)
        rc = -errno;
    if (fd >= 0)
        close(fd);
    if (rc == 0 && rename(temporary, final) != 0)
        rc = -errno;
    if (rc == 0)
        rc = sync_heads(folder);
    if (rc != 0) {
        snprintf(why, why_bytes, "%s/heads: %s", folder, strerror(-rc));
        if (fd >= 0)
            unlink(temporary);
        return rc;
    }
    store_sha256(image, image_bytes, ret_sha256);
    return 0;
}

struct row {
    int64_t seq;
    uint8_t sha256[STORE_HASH_BYTES];
};

/* Newest first. Returns how many, or -errno. */
static int rows_of(struct store *s, int64_t model, int64_t encoder, struct row rows[ROWS_MAX])
{
    sqlite3_stmt *q = store_statement(s, STORE_SNAPSHOT_SCAN);
    int len = 0, rc;

    sqlite3_bind_int64(q, 1, model);
    sqlite3_bind_int64(q, 2, encoder);
    while ((rc = store_step(s, q)) == 1 && len < ROWS_MAX) {
        if (sqlite3_column_bytes(q, 1) != STORE_HASH_BYTES)
            continue;
        rows[len].seq = sqlite3_column_int64(q, 0);
        memcpy(rows[len++].sha256, sqlite3_column_blob(q, 1), STORE_HASH_BYTES);
    }
    sqlite3_reset(q);
    return rc < 0 ? rc : len;
}

/* Adds the row and removes those beyond KEEP. rows: all there were with it, newest first. */
static int add_row(struct store *s, int64_t model, int64_t encoder, int64_t seq,
                   const uint8_t sha256[STORE_HASH_BYTES], struct row rows[ROWS_MAX], int *ret_len)
{
    sqlite3_stmt *q = store_statement(s, STORE_SNAPSHOT_ADD);
    int len, rc;

    sqlite3_bind_int64(q, 1, model);
    sqlite3_bind_int64(q, 2, encoder);
    sqlite3_bind_int64(q, 3, seq);
    sqlite3_bind_blob(q, 4, sha256, STORE_HASH_BYTES, SQLITE_STATIC);
    rc = store_run(s, q);
    len = rc == 0 ? rows_of(s, model, encoder, rows) : rc;
    rc = len < 0 ? len : 0;
    for (int i = KEEP; i < len && rc == 0; i++) {
        q = store_statement(s, STORE_SNAPSHOT_REMOVE);
        sqlite3_bind_int64(q, 1, model);
        sqlite3_bind_int64(q, 2, encoder);
        sqlite3_bind_int64(q, 3, rows[i].seq);
        rc = store_run(s, q);
    }
    *ret_len = len;
    return rc;
}

/* Is it older than the last erasure of its model? On doubt, no. */
static bool outlived(struct store *s, int64_t model, int64_t seq)
{
    sqlite3_stmt *q = store_statement(s, STORE_ERASED_SEQ);
    bool yes;

    sqlite3_bind_int64(q, 1, model);
    yes = store_step(s, q) == 1 && seq < sqlite3_column_int64(q, 0);
    sqlite3_reset(q);
    return yes;
}

/* Overwrites an image before its name goes: it holds embeddings, and an embedding tells its text.
 */
static int wipe(int dir, const char *name)
{
    static const char zeros[65536];
    int fd = openat(dir, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW), rc = 0;
    struct stat st = {0};

    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd >= 0 && fstat(fd, &st) == 0) {
        for (off_t left = st.st_size; left > 0 && rc == 0; left -= (off_t)sizeof zeros)
            rc = store_file_write_all(fd, zeros,
                                      left < (off_t)sizeof zeros ? (size_t)left : sizeof zeros);
        if (rc == 0 && fsync(fd) != 0)
            rc = -errno;
    }
    if (fd >= 0)
        close(fd);
    return unlinkat(dir, name, 0) == 0 ? rc : -errno;
}

int store_snapshot_add(struct store *s, int64_t model, int64_t encoder, int64_t seq,
                       const uint8_t sha256[STORE_HASH_BYTES])
{
    struct row rows[ROWS_MAX];
    char path[4096];
    int rc, len = 0;

    if (outlived(s, model, seq)) {
        rc = path_of(path, s->folder, model, encoder, seq, "");
        return rc == 0 ? wipe(AT_FDCWD, path) : rc;
    }
    rc = store_begin(s);
    if (rc != 0)
        return rc;
    rc = add_row(s, model, encoder, seq, sha256, rows, &len);
    if (rc == 0)
        rc = store_commit(s);
    if (rc != 0) {
        store_rollback(s);
        return rc;
    }
    for (int i = KEEP; i < len; i++) /* failing to remove one costs space until the next start */
        if (path_of(path, s->folder, model, encoder, rows[i].seq, "") == 0)
            unlink(path);
    return 0;
}

/* Does a row promise this file? On doubt, yes. */
static bool promised(struct store *s, int64_t model, int64_t encoder, int64_t seq)
{
    sqlite3_stmt *q = store_statement(s, STORE_SNAPSHOT_FIND);
    int rc;

    sqlite3_bind_int64(q, 1, model);
    sqlite3_bind_int64(q, 2, encoder);
    sqlite3_bind_int64(q, 3, seq);
    rc = store_step(s, q);
    sqlite3_reset(q);
    return rc != 0;
}

int store_snapshot_sweep(struct store *s, bool start)
{
    const struct dirent *entry;
    char path[4096];
    DIR *dir;
    int rc = 0;

    if (snprintf(path, sizeof path, "%s/heads", s->folder) >= (int)sizeof path)
        return -ENAMETOOLONG;
    dir = opendir(path);
    if (dir == NULL)
        return -errno;
    while ((entry = readdir(dir)) != NULL) {
        long long model, encoder, seq;
        bool half;
        int end = 0, gone;

        if (sscanf(entry->d_name, "%lld-%lld-%lld.head%n", &model, &encoder, &seq, &end) != 3 ||
            end == 0)
            continue;
        half = strcmp(entry->d_name + end, ".new") == 0;
        if (!half && (entry->d_name[end] != '\0' || promised(s, model, encoder, seq)))
            continue;
        if (!start && !outlived(s, model, seq))
            continue;
        gone = wipe(dirfd(dir), entry->d_name);
        if (rc == 0 && gone != 0)
            rc = store_fail_file(s, path, -gone);
    }
    if (fsync(dirfd(dir)) != 0 && rc == 0)
        rc = store_fail_file(s, path, errno);
    closedir(dir);
    return rc;
}

int store_snapshot_read(struct store *s, int64_t model, int64_t encoder, int64_t *ret_seq,
                        void **ret_image, size_t *ret_image_bytes)
{
    struct row rows[ROWS_MAX];
    int len = rows_of(s, model, encoder, rows);

    for (int i = 0; i < len; i++) {
        uint8_t hash[STORE_HASH_BYTES];
        char path[4096];
        void *image;
        size_t bytes;
        int rc = path_of(path, s->folder, model, encoder, rows[i].seq, "");

        if (rc == 0)
            rc = store_file_read_all(path, &image, &bytes);
        if (rc == -ENOMEM)
            return rc;
        if (rc != 0)
            continue;
        store_sha256(image, bytes, hash);
        if (memcmp(hash, rows[i].sha256, sizeof hash) == 0) {
            *ret_seq = rows[i].seq;
            *ret_image = image;
            *ret_image_bytes = bytes;
            return 0;
        }
        free(image);
    }
    return len < 0 ? len : -ENOENT;
}
