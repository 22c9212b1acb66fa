/* leftovers.c -- every byte of every file of a folder, searched. See doctor.h.
 *
 * By reading and not by mapping: a log that the daemon cuts short meanwhile is then the end of a
 * file and not a bus error. Pieces overlap by the longest needle, so that none is missed between
 * two.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/doctor.h"
#include "store/manifest.h"

enum { PIECE = 1 << 20 };

struct tracing {
    const char *folder;
    const struct store_needle *needles;
    uint32_t needles_len;
    size_t longest;
    char *bytes; /* (longest + PIECE) */
    store_trace_fn *fn;
    void *ud;
    uint64_t files, read;
};

/* bytes (len) of the file from offset on. found: needles that were told of this file already. */
static int search(struct tracing *t, const char *path, size_t len, uint64_t offset, bool *found)
{
    bool image = strncmp(path, "heads/", 6) == 0;
    int rc = 0;

    for (uint32_t i = 0; i < t->needles_len && rc == 0; i++) {
        const struct store_needle *n = &t->needles[i];
        const char *at;

        if (found[i] || (n->images_only && !image))
            continue;
        at = memmem(t->bytes, len, n->bytes, n->len);
        if (at == NULL)
            continue;
        found[i] = true;
        rc = t->fn(t->ud, path, n, offset + (uint64_t)(at - t->bytes));
    }
    return rc;
}

static int search_fd(struct tracing *t, const char *path, int fd)
{
    bool *found = calloc(t->needles_len + 1, sizeof *found);
    size_t kept = 0;
    uint64_t offset = 0; /* of bytes[0] */
    ssize_t n = 0;
    int rc = found != NULL ? 0 : -ENOMEM;

    while (rc == 0 && (n = read(fd, t->bytes + kept, PIECE)) != 0) {
        size_t len = kept + (size_t)n, drop;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            rc = -errno;
            break;
        }
        t->read += (uint64_t)n;
        rc = search(t, path, len, offset, found);
        kept = len < t->longest - 1 ? len : t->longest - 1;
        drop = len - kept;
        memmove(t->bytes, t->bytes + drop, kept);
        offset += drop;
    }
    free(found);
    return rc;
}

static int search_file(void *ud, const char *path, const struct stat *st)
{
    struct tracing *t = ud;
    char whole[STORE_PATH_BYTES];
    int fd, rc;

    (void)st;
    if (snprintf(whole, sizeof whole, "%s/%s", t->folder, path) >= (int)sizeof whole)
        return -ENAMETOOLONG;
    fd = open(whole, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    t->files++;
    rc = search_fd(t, path, fd);
    close(fd);
    return rc;
}

int store_trace(const char *folder, const struct store_needle *needles, uint32_t needles_len,
                store_trace_fn *fn, void *ud, uint64_t *ret_files, uint64_t *ret_bytes)
{
    struct tracing t = {.folder = folder,
                        .needles = needles,
                        .needles_len = needles_len,
                        .longest = 1,
                        .fn = fn,
                        .ud = ud};
    int rc;

    for (uint32_t i = 0; i < needles_len; i++)
        t.longest = needles[i].len > t.longest ? needles[i].len : t.longest;
    t.bytes = malloc(t.longest + PIECE);
    if (t.bytes == NULL)
        return -ENOMEM;
    rc = store_walk(folder, search_file, &t);
    free(t.bytes);
    if (rc == 0) {
        *ret_files = t.files;
        *ret_bytes = t.read;
    }
    return rc;
}
