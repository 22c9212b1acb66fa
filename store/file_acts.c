/* file_acts.c -- see file_acts.h. */
#include "store/file_acts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/store.h"

int store_file_write_all(int fd, const void *bytes, size_t len)
{
    const char *at = bytes;

    while (len > 0) {
        ssize_t n = write(fd, at, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

int store_file_read_all(const char *path, void **ret_bytes, size_t *ret_len)
{
    struct stat st;
    char *bytes = NULL;
    size_t len = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc = -ENOENT;

    if (fd < 0)
        return -ENOENT;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) {
        bytes = malloc((size_t)st.st_size);
        rc = bytes != NULL ? 0 : -ENOMEM;
    }
    while (rc == 0 && len < (size_t)st.st_size) {
        ssize_t n = read(fd, bytes + len, (size_t)st.st_size - len);

        if (n <= 0)
            rc = -EIO;
        else
            len += (size_t)n;
    }
    close(fd);
    if (rc != 0) {
        free(bytes);
        return rc;
    }
    *ret_bytes = bytes;
    *ret_len = len;
    return 0;
}

int store_file_copy(const char *from, const char *to, unsigned mode)
{
    enum { PIECE = 1 << 18 };
    int in = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), out, rc = 0;
    char *bytes;
    ssize_t n;

    if (in < 0)
        return -errno;
    out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, (mode_t)mode);
    if (out < 0) {
        rc = -errno;
        close(in);
        return rc;
    }
    bytes = malloc(PIECE);
    if (bytes == NULL)
        rc = -ENOMEM;
    while (rc == 0 && (n = read(in, bytes, PIECE)) != 0) {
        if (n > 0)
            rc = store_file_write_all(out, bytes, (size_t)n);
        else if (errno != EINTR)
            rc = -errno;
    }
    free(bytes);
    close(in);
    if (close(out) != 0 && rc == 0)
        rc = -errno;
    if (rc != 0)
        unlink(to);
    return rc;
}

int store_folder_sync(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;

    if (fd < 0)
        return -errno;
    rc = fsync(fd) == 0 ? 0 : -errno;
    close(fd);
    return rc;
}

/* What a walk does to each name in a folder. */
typedef int visit_fn(int dir, const char *name);

static int each(int dir, visit_fn *visit)
{
    const struct dirent *entry;
    DIR *d;
    int own = dup(dir), rc = 0;

    d = own >= 0 ? fdopendir(own) : NULL;
    if (d == NULL) {
        rc = -errno;
        if (own >= 0)
            close(own);
        return rc;
    }
    while (rc == 0 && (entry = readdir(d)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            rc = visit(dir, entry->d_name);
    }
    closedir(d);
    return rc;
}

static int sync_one(int dir, const char *name)
{
    struct stat st;
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), rc = 0;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) != 0)
        rc = -errno;
    else if (S_ISDIR(st.st_mode))
        rc = each(fd, sync_one);
    if (rc == 0 && fsync(fd) != 0)
        rc = -errno;
    close(fd);
    return rc;
}

int store_tree_sync(const char *path)
{
    return sync_one(AT_FDCWD, path);
}

static int remove_one(int dir, const char *name)
{
    int fd, rc;

    if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -errno;
    fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    rc = each(fd, remove_one);
    close(fd);
    if (rc == 0 && unlinkat(dir, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
        rc = -errno;
    return rc;
}

int store_tree_remove(const char *path)
{
    return remove_one(AT_FDCWD, path);
}
