/* weights_hash.c -- see weights_hash.h. */
#include "daemon/learn/weights_hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int weights_hash(const char *folder, char *why, size_t why_bytes,
                 uint8_t ret_sha256[STORE_HASH_BYTES])
{
    char path[STORE_PATH_BYTES];
    struct stat st;
    int fd, rc = -EIO;

    if (snprintf(path, sizeof path, "%s/model.safetensors", folder) >= (int)sizeof path) {
        snprintf(why, why_bytes, "the path of the encoder's folder is too long");
        return -EIO;
    }
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        rc = -ENOENT;
    if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0)
        rc = store_sha256_file(fd, (size_t)st.st_size, ret_sha256);
    if (rc != 0)
        snprintf(why, why_bytes, "%.900s: %s", path, strerror(errno != 0 ? errno : EIO));
    if (fd >= 0)
        close(fd);
    return rc;
}
