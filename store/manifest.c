/* manifest.c -- see manifest.h. */
#include "store/manifest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEX = STORE_HASH_CHARS - 1, DEPTH_MAX = 8 };

int store_say(char *why, size_t why_bytes, const char *what, int rc)
{
    if (rc != 0)
        snprintf(why, why_bytes, "%.200s: %s", what, strerror(-rc));
    return rc;
}

/* ---- walking --------------------------------------------------------------------------------- */

static int walk(const char *folder, const char *below, int depth, store_walk_fn *fn, void *ud)
{
    char path[STORE_PATH_BYTES], inside[STORE_PATH_BYTES];
    const struct dirent *entry;
    DIR *dir;
    int rc = 0;

    if (snprintf(path, sizeof path, "%s/%s", folder, below) >= (int)sizeof path)
        return -ENAMETOOLONG;
    dir = depth < DEPTH_MAX ? opendir(path) : NULL;
    if (dir == NULL)
        return depth < DEPTH_MAX ? -errno : -ELOOP;
    while (rc == 0 && (entry = readdir(dir)) != NULL) {
        struct stat st;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (snprintf(inside, sizeof inside, "%s%s%s", below, *below != '\0' ? "/" : "",
                     entry->d_name) >= (int)sizeof inside)
            rc = -ENAMETOOLONG;
        else if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            rc = errno == ENOENT ? 0 : -errno; /* it has just gone */
        else if (S_ISDIR(st.st_mode))
            rc = walk(folder, inside, depth + 1, fn, ud);
        else
            rc = S_ISREG(st.st_mode) ? fn(ud, inside, &st) : -ELOOP;
    }
    closedir(dir);
    return rc;
}

int store_walk(const char *folder, store_walk_fn *fn, void *ud)
{
    return walk(folder, "", 0, fn, ud);
}

/* ---- hashes ---------------------------------------------------------------------------------- */

int store_hash_path(const char *path, uint8_t ret_hash[STORE_HASH_BYTES])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), rc;
    struct stat st;

    if (fd < 0)
        return -errno;
    rc = fstat(fd, &st) != 0 ? -errno : store_sha256_file(fd, (size_t)st.st_size, ret_hash);
    close(fd);
    return rc;
}

/* ---- writing --------------------------------------------------------------------------------- */

struct writing {
    const char *folder;
    FILE *file;
    struct store_backup_report *report;
};

static int write_line(void *ud, const char *path, const struct stat *st)
{
    struct writing *w = ud;
    char whole[STORE_PATH_BYTES], hex[HEX + 1];
    uint8_t hash[STORE_HASH_BYTES];
    int rc;

    if (strcmp(path, MANIFEST_NAME) == 0)
        return 0;
    if (strchr(path, '\n') != NULL ||
        snprintf(whole, sizeof whole, "%s/%s", w->folder, path) >= (int)sizeof whole)
        return -EINVAL;
    rc = store_hash_path(whole, hash);
    if (rc != 0)
        return rc;
    store_hash_hex(hash, hex);
    w->report->files++;
    w->report->bytes += (uint64_t)st->st_size;
    return fprintf(w->file, "%s  %s\n", hex, path) > 0 ? 0 : -EIO;
}

int store_manifest_write(const char *folder, char *why, size_t why_bytes,
                         struct store_backup_report *report)
{
    struct writing w = {.folder = folder, .report = report};
    char path[STORE_PATH_BYTES];
    int rc = 0;

    if (snprintf(path, sizeof path, "%s/" MANIFEST_NAME, folder) >= (int)sizeof path)
        return store_say(why, why_bytes, folder, -ENAMETOOLONG);
    w.file = fopen(path, "wxe");
    if (w.file == NULL)
        return store_say(why, why_bytes, path, -errno);
    rc = store_walk(folder, write_line, &w);
    if (rc == 0 && (fflush(w.file) != 0 || fsync(fileno(w.file)) != 0))
        rc = -errno;
    if (fclose(w.file) != 0 && rc == 0)
        rc = -errno;
    return store_say(why, why_bytes, path, rc);
}

/* ---- checking -------------------------------------------------------------------------------- */

/* A path that a backup has: below the folder, and of a name that the store gives. */
static bool is_ours(const char *path)
{
    if (strcmp(path, "learnd.db") == 0 || strcmp(path, "BACKUP") == 0)
        return true;
    return (strncmp(path, "heads/", 6) == 0 || strncmp(path, "encoders/", 9) == 0) &&
           strstr(path, "..") == NULL;
}

static int check_line(const char *folder, char *line, char *why, size_t why_bytes,
                      struct store_backup_report *report)
{
    char whole[STORE_PATH_BYTES], hex[HEX + 1], *path = line + HEX + 2;
    uint8_t hash[STORE_HASH_BYTES];
    struct stat st;
    int rc;

    line[strcspn(line, "\n")] = '\0';
    if (strlen(line) < HEX + 3 || strspn(line, "0123456789abcdef") != HEX ||
        memcmp(line + HEX, "  ", 2) != 0 || !is_ours(path) ||
        snprintf(whole, sizeof whole, "%s/%s", folder, path) >= (int)sizeof whole) {
        snprintf(why, why_bytes, "%.200s/" MANIFEST_NAME " has a line that is none: %.40s", folder,
                 line);
        return -EUCLEAN;
    }
    rc = store_hash_path(whole, hash);
    if (rc == 0 && stat(whole, &st) != 0)
        rc = -errno;
    if (rc != 0) {
        store_say(why, why_bytes, whole, rc);
        return rc == -ENOENT || rc == -ELOOP ? -EUCLEAN : rc;
    }
    store_hash_hex(hash, hex);
    if (memcmp(hex, line, HEX) != 0) {
        snprintf(why, why_bytes, "%.200s is damaged: its SHA-256 is not the manifest's", whole);
        return -EUCLEAN;
    }
    report->files++;
    report->bytes += (uint64_t)st.st_size;
    return 0;
}

static int count_file(void *ud, const char *path, const struct stat *st)
{
    (void)st;
    *(uint64_t *)ud += strcmp(path, MANIFEST_NAME) != 0;
    return 0;
}

int store_manifest_check(const char *folder, char *why, size_t why_bytes,
                         struct store_backup_report *ret_report)
{
    struct store_backup_report report = {0};
    char path[STORE_PATH_BYTES], line[STORE_PATH_BYTES];
    uint64_t there = 0;
    FILE *file;
    int rc = 0;

    if (snprintf(path, sizeof path, "%s/" MANIFEST_NAME, folder) >= (int)sizeof path)
        return store_say(why, why_bytes, folder, -ENAMETOOLONG);
    file = fopen(path, "re");
    if (file == NULL) {
        rc = -errno;
        snprintf(why, why_bytes, "%.200s is no backup: %s", folder,
                 rc == -ENOENT ? "it has no " MANIFEST_NAME : strerror(-rc));
        return rc == -ENOTDIR ? -ENOENT : rc;
    }
    while (rc == 0 && fgets(line, sizeof line, file) != NULL)
        rc = check_line(folder, line, why, why_bytes, &report);
    if (rc == 0 && ferror(file))
        rc = store_say(why, why_bytes, path, -EIO);
    fclose(file);
    if (rc == 0)
        rc = store_say(why, why_bytes, folder, store_walk(folder, count_file, &there));
    if (rc == 0 && there != report.files) {
        snprintf(why, why_bytes, "%.200s holds %llu files, its manifest %llu", folder,
                 (unsigned long long)there, (unsigned long long)report.files);
        rc = -EUCLEAN;
    }
    if (rc == 0)
        *ret_report = report;
    return rc;
}
