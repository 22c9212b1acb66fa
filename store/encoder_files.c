/* encoder_files.c -- the folder encoders/: one folder a version, one image a run under way.
 *
 * A folder is built beside its place under a name that no version has (new-..), and taken away
 * under another (old-<number>): between two moments a number's folder is whole, or it is not there.
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

/* ---- paths ----------------------------------------------------------------------------------- */

/* <folder>/encoders/<before><number><after> */
static int path_of(char path[STORE_PATH_BYTES], const char *folder, const char *before,
                   int64_t number, const char *after)
{
    return snprintf(path, STORE_PATH_BYTES, "%s/encoders/%s%lld%s", folder, before,
                    (long long)number, after) < STORE_PATH_BYTES
               ? 0
               : -ENAMETOOLONG;
}

int store_encoder_folder(const char *folder, int64_t encoder, char ret_path[STORE_PATH_BYTES])
{
    return path_of(ret_path, folder, "", encoder, "");
}

static int sync_encoders(const char *folder)
{
    char path[STORE_PATH_BYTES];

    if (snprintf(path, sizeof path, "%s/encoders", folder) >= (int)sizeof path)
        return -ENAMETOOLONG;
    return store_folder_sync(path);
}

static int say(char *why, size_t why_bytes, const char *folder, int rc)
{
    if (rc != 0)
        snprintf(why, why_bytes, "%s/encoders: %s", folder, strerror(-rc));
    return rc;
}

/* ---- folders of versions --------------------------------------------------------------------- */

int store_encoder_begin(const char *folder, char *why, size_t why_bytes,
                        char ret_tmp[STORE_PATH_BYTES])
{
    char path[STORE_PATH_BYTES];

    if (snprintf(path, sizeof path, "%s/encoders/new-XXXXXX", folder) >= (int)sizeof path)
        return say(why, why_bytes, folder, -ENAMETOOLONG);
    if (mkdtemp(path) == NULL)
        return say(why, why_bytes, folder, -errno);
    memcpy(ret_tmp, path, sizeof path);
    return 0;
}

int store_encoder_abandon(const char *tmp)
{
    return store_tree_remove(tmp);
}

/* Moves the folder of a version, if there is one, out of its place to `aside`. */
static int step_aside(const char *folder, int64_t encoder, char aside[STORE_PATH_BYTES])
{
    char path[STORE_PATH_BYTES];
    int rc = path_of(path, folder, "", encoder, "");

    if (rc == 0)
        rc = path_of(aside, folder, "old-", encoder, "");
    if (rc == 0)
        rc = store_tree_remove(aside);
    if (rc == 0 && rename(path, aside) != 0 && errno != ENOENT)
        rc = -errno;
    return rc;
}

int store_encoder_install(const char *folder, const char *tmp, int64_t encoder, char *why,
                          size_t why_bytes)
{
    char path[STORE_PATH_BYTES], aside[STORE_PATH_BYTES];
    int rc = path_of(path, folder, "", encoder, "");

    if (rc == 0)
        rc = store_tree_sync(tmp);
    if (rc == 0)
        rc = step_aside(folder, encoder, aside);
    if (rc != 0)
        return say(why, why_bytes, folder, rc);
    if (rename(tmp, path) != 0) {
        rc = -errno;
        rename(aside, path); /* back, if there was one */
        return say(why, why_bytes, folder, rc);
    }
    rc = sync_encoders(folder);
    store_tree_remove(aside); /* what stays is waste until the next start */
    return say(why, why_bytes, folder, rc);
}

static int remove_heads(const char *folder, int64_t encoder)
{
    char path[STORE_PATH_BYTES];
    const struct dirent *entry;
    DIR *dir;
    int rc = 0;

    if (snprintf(path, sizeof path, "%s/heads", folder) >= (int)sizeof path)
        return -ENAMETOOLONG;
    dir = opendir(path);
    if (dir == NULL)
        return -errno;
    while ((entry = readdir(dir)) != NULL) {
        long long model, of, seq;

        if (sscanf(entry->d_name, "%lld-%lld-%lld.head", &model, &of, &seq) == 3 && of == encoder &&
            unlinkat(dirfd(dir), entry->d_name, 0) != 0 && errno != ENOENT)
            rc = -errno;
    }
    closedir(dir);
    return rc;
}

int store_encoder_remove_files(const char *folder, int64_t encoder)
{
    char aside[STORE_PATH_BYTES];
    int rc = step_aside(folder, encoder, aside);

    if (rc == 0)
        rc = store_tree_remove(aside);
    if (rc == 0)
        rc = sync_encoders(folder);
    return rc == 0 ? remove_heads(folder, encoder) : rc;
}

/* ---- sweeping -------------------------------------------------------------------------------- */

/* Does a row promise this? On doubt, yes. */
static bool promised(struct store *s, enum store_statement which, int64_t id)
{
    sqlite3_stmt *q = store_statement(s, which);
    int rc;

    sqlite3_bind_int64(q, 1, id);
    rc = store_step(s, q);
    sqlite3_reset(q);
    return rc != 0;
}

static bool numbered(const char *name, const char *before, const char *after, int64_t *ret_number)
{
    size_t len = strlen(before);
    char *end;
    long long number;

    if (strncmp(name, before, len) != 0 || name[len] < '0' || name[len] > '9')
        return false;
    errno = 0;
    number = strtoll(name + len, &end, 10);
    if (errno != 0 || strcmp(end, after) != 0)
        return false;
    *ret_number = number;
    return true;
}

/* What is no version, image or remainder of one is left alone. */
static bool is_waste(struct store *s, const char *name, bool start)
{
    int64_t number;

    if (numbered(name, "", "", &number))
        return !promised(s, STORE_ENCODER_PROMISED, number);
    if (numbered(name, "run-", ".ckpt", &number))
        return !promised(s, STORE_RUN_LIVES, number);
    return start && (strncmp(name, "new-", 4) == 0 || numbered(name, "old-", "", &number) ||
                     numbered(name, "run-", ".ckpt.new", &number));
}

int store_encoder_sweep_all(struct store *s, bool start)
{
    char path[STORE_PATH_BYTES], one[STORE_PATH_BYTES + 256];
    const struct dirent *entry;
    bool found = false;
    DIR *dir;
    int rc = 0;

    if (snprintf(path, sizeof path, "%s/encoders", s->folder) >= (int)sizeof path)
        return -ENAMETOOLONG;
    dir = opendir(path);
    if (dir == NULL)
        return store_fail_file(s, path, errno);
    while ((entry = readdir(dir)) != NULL) {
        int gone;

        if (!is_waste(s, entry->d_name, start))
            continue;
        found = true;
        snprintf(one, sizeof one, "%s/%s", path, entry->d_name);
        gone = store_tree_remove(one);
        if (rc == 0 && gone != 0)
            rc = store_fail_file(s, one, -gone);
    }
    if (found && fsync(dirfd(dir)) != 0 && rc == 0) /* most sweeps find nothing */
        rc = store_fail_file(s, path, errno);
    closedir(dir);
    return rc;
}

int store_encoder_sweep(struct store *s)
{
    return store_encoder_sweep_all(s, false);
}

/* ---- images of runs -------------------------------------------------------------------------- */

struct image_head {
    char magic[8];
    uint64_t bytes; /* of what follows */
    uint8_t sha256[STORE_HASH_BYTES];
};

static const char magic[8] = "learnrun";

static int write_pieces(int fd, const struct store_piece *pieces, uint32_t len)
{
    struct image_head head = {0};
    int rc;

    memcpy(head.magic, magic, sizeof magic);
    store_sha256_pieces(pieces, len, head.sha256);
    for (uint32_t i = 0; i < len; i++)
        head.bytes += pieces[i].len;
    rc = store_file_write_all(fd, &head, sizeof head);
    for (uint32_t i = 0; i < len && rc == 0; i++)
        rc = store_file_write_all(fd, pieces[i].bytes, pieces[i].len);
    return rc == 0 && fsync(fd) != 0 ? -errno : rc;
}

int store_run_image_write(const char *folder, int64_t run, const struct store_piece *pieces,
                          uint32_t pieces_len, char *why, size_t why_bytes)
{
    char temporary[STORE_PATH_BYTES], final[STORE_PATH_BYTES];
    int fd = -1, rc = path_of(temporary, folder, "run-", run, ".ckpt.new");

    if (rc == 0)
        rc = path_of(final, folder, "run-", run, ".ckpt");
    if (rc == 0) {
        fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        rc = fd >= 0 ? write_pieces(fd, pieces, pieces_len) : -errno;
    }
    if (fd >= 0)
        close(fd);
    if (rc == 0 && rename(temporary, final) != 0)
        rc = -errno;
    if (rc == 0)
        rc = sync_encoders(folder);
    if (rc != 0 && fd >= 0)
        unlink(temporary);
    return say(why, why_bytes, folder, rc);
}

int store_run_image_read(const char *folder, int64_t run, void **ret_image, size_t *ret_image_bytes)
{
    char path[STORE_PATH_BYTES];
    struct image_head head;
    uint8_t hash[STORE_HASH_BYTES];
    void *bytes;
    size_t len;
    int rc = path_of(path, folder, "run-", run, ".ckpt");

    if (rc == 0)
        rc = store_file_read_all(path, &bytes, &len);
    if (rc != 0)
        return rc;
    rc = -EUCLEAN;
    if (len >= sizeof head) {
        memcpy(&head, bytes, sizeof head);
        len -= sizeof head;
        store_sha256((char *)bytes + sizeof head, len, hash);
        if (memcmp(head.magic, magic, sizeof magic) == 0 && head.bytes == len &&
            memcmp(head.sha256, hash, sizeof hash) == 0)
            rc = 0;
    }
    if (rc != 0) {
        free(bytes);
        return rc;
    }
    memmove(bytes, (char *)bytes + sizeof head, len);
    *ret_image = bytes;
    *ret_image_bytes = len;
    return 0;
}

int store_run_image_remove(const char *folder, int64_t run)
{
    char path[STORE_PATH_BYTES];
    int rc = path_of(path, folder, "run-", run, ".ckpt");

    if (rc == 0 && unlink(path) != 0 && errno != ENOENT)
        rc = -errno;
    return rc;
}
