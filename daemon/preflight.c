/* preflight.c -- see preflight.h. */
#include "daemon/preflight.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "daemon/front/loop.h"
#include "daemon/learn/weights_hash.h"
#include "daemon/limits.h"
#include "daemon/serve/encoders.h"

enum { PATH_BYTES = SETTINGS_PATH_BYTES + 64 };

/* ---- the state folder's place ---------------------------------------------------------------- */

enum preflight_disk preflight_disk(long magic)
{
    static const struct {
        uint32_t magic;
        enum preflight_disk disk;
    } known[] = {
        {0x01021994, PREFLIGHT_MEMORY},  /* tmpfs */
        {0x858458f6, PREFLIGHT_MEMORY},  /* ramfs */
        {0x00006969, PREFLIGHT_NETWORK}, /* NFS */
        {0xff534d42, PREFLIGHT_NETWORK}, /* CIFS */
        {0xfe534d42, PREFLIGHT_NETWORK}, /* SMB2 */
        {0x0000517b, PREFLIGHT_NETWORK}, /* SMB */
        {0x5346414f, PREFLIGHT_NETWORK}, /* AFS */
        {0x00c36400, PREFLIGHT_NETWORK}, /* Ceph */
    };

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].magic == (uint32_t)magic)
            return known[i].disk;
    return PREFLIGHT_DISK;
}

/* The folder itself, or the nearest one above it that is there. */
static void existing(const char *folder, char path[PATH_BYTES])
{
    struct stat st;

    snprintf(path, PATH_BYTES, "%s", folder);
    while (stat(path, &st) != 0 && errno == ENOENT) {
        char *slash = strrchr(path, '/');

        if (slash == NULL)
            snprintf(path, PATH_BYTES, ".");
        else
            slash[slash == path] = '\0';
    }
}

static int check_place(const char *folder, char *why, size_t why_bytes, char *note,
                       size_t note_bytes)
{
    char path[PATH_BYTES];
    struct statfs fs;
    enum preflight_disk disk;

    existing(folder, path);
    disk = statfs(path, &fs) == 0 ? preflight_disk((long)fs.f_type) : PREFLIGHT_DISK;
    if (disk == PREFLIGHT_NETWORK) {
        snprintf(why, why_bytes,
                 "state %.400s: this is a network file system, which would damage the journal; "
                 "name a folder on a disk of this machine",
                 folder);
        return -EINVAL;
    }
    if (disk == PREFLIGHT_MEMORY)
        snprintf(note, note_bytes,
                 "state %.400s is in memory (tmpfs): what is taught is gone after a reboot",
                 folder);
    return 0;
}

/* ---- what the state folder holds ------------------------------------------------------------- */

/* The first entry that `counts`; "" none. */
static void first_entry(const char *folder, bool (*counts)(const char *name), char name[256])
{
    DIR *d = opendir(folder);
    struct dirent *e;

    name[0] = '\0';
    while (d != NULL && name[0] == '\0' && (e = readdir(d)) != NULL)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && counts(e->d_name))
            snprintf(name, 256, "%s", e->d_name);
    if (d != NULL)
        closedir(d);
}

static bool anything(const char *name)
{
    (void)name;
    return true;
}

static bool not_ours(const char *name)
{
    return strncmp(name, "learnd.db", 9) != 0 && strcmp(name, "heads") != 0 &&
           strcmp(name, "encoders") != 0 && strcmp(name, "lost+found") != 0;
}

static int check_contents(const char *folder, char *why, size_t why_bytes)
{
    static const char *const kept[] = {"heads", "encoders"};
    char path[PATH_BYTES], name[256];
    struct stat st;

    snprintf(path, sizeof path, "%s/learnd.db", folder);
    if (stat(path, &st) == 0 && st.st_size > 0)
        return 0;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, kept[i]);
        first_entry(path, anything, name);
        if (name[0] == '\0')
            continue;
        snprintf(why, why_bytes,
                 "state %.400s: there are %s but no learnd.db, the journal that they belong to; "
                 "restore it from a backup, or empty the folder to begin anew",
                 folder, kept[i]);
        return -EINVAL;
    }
    first_entry(folder, not_ours, name);
    if (name[0] == '\0')
        return 0;
    snprintf(why, why_bytes,
             "state %.400s: this is no state folder, it holds %.100s; name an empty or a new one",
             folder, name);
    return -EINVAL;
}

/* Is a below b, or b itself? */
static bool below(const char *a, const char *b)
{
    char real_a[PATH_MAX], real_b[PATH_MAX];
    size_t len;

    if (realpath(a, real_a) == NULL || realpath(b, real_b) == NULL)
        return false;
    len = strlen(real_b);
    return strncmp(real_a, real_b, len) == 0 && (real_a[len] == '\0' || real_a[len] == '/');
}

int preflight_state(const struct settings *s, char *why, size_t why_bytes, char *note,
                    size_t note_bytes)
{
    int rc;

    if (note_bytes > 0)
        note[0] = '\0';
    rc = check_place(s->state, why, why_bytes, note, note_bytes);
    if (rc == 0)
        rc = check_contents(s->state, why, why_bytes);
    if (rc == 0 && below(s->encoder, s->state)) {
        snprintf(why, why_bytes,
                 "encoder %.300s: it is inside the state folder, where encoders come and go; the "
                 "base has to stay, so copy it elsewhere",
                 s->encoder);
        rc = -EINVAL;
    }
    return rc;
}

/* ---- --check-config -------------------------------------------------------------------------- */

static int check_folder(const char *folder, char *why, size_t why_bytes)
{
    char path[PATH_BYTES];
    struct stat st;

    existing(folder, path);
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
        errno = ENOTDIR;
    else if (access(path, W_OK | X_OK) == 0)
        return 0;
    snprintf(why, why_bytes, "state %.400s: %.400s: %s", folder, path, strerror(errno));
    return -EINVAL;
}

static int check_encoder(const struct settings *s, char *why, size_t why_bytes)
{
    const struct encoders_settings settings = {.base = s->encoder,
                                               .state = s->state,
                                               .precision = s->fp32 ? ENCODER_FP32 : ENCODER_BF16,
                                               .tokens_max = s->max_tokens,
                                               .tokens_limit = LIMIT_TOKENS};
    struct encoders *encoders;
    int rc = encoders_open(&settings, why, why_bytes, &encoders);

    if (rc == 0)
        encoders_close(encoders);
    return rc;
}

/* Was the folder taught with this encoder? A database of an older version is not asked: the start
 * brings it up to date first. */
static int check_claim(const struct settings *s, char *why, size_t why_bytes)
{
    uint8_t ours[STORE_HASH_BYTES], theirs[STORE_HASH_BYTES];
    char path[PATH_BYTES];
    struct store *store;
    int rc;

    snprintf(path, sizeof path, "%s/learnd.db", s->state);
    if (access(path, F_OK) != 0)
        return 0;
    rc = weights_hash(s->encoder, why, why_bytes, ours);
    if (rc != 0)
        return rc;
    rc = store_open(s->state, STORE_READER, why, why_bytes, &store);
    if (rc != 0)
        return rc == -ESTALE ? 0 : rc;
    rc = store_encoder_base(store, theirs);
    if (rc == 0 && memcmp(ours, theirs, sizeof ours) != 0)
        rc = -EUCLEAN;
    if (rc == -EUCLEAN)
        snprintf(why, why_bytes, "state %.400s: the state folder was taught with another encoder",
                 s->state);
    store_close(store);
    return rc == -ENOENT ? 0 : rc;
}

/* Does a key stand in the database? */
static bool has_keys(const struct settings *s)
{
    char path[PATH_BYTES], said[256];
    uint32_t keys = 0, admins;
    struct store *store;

    snprintf(path, sizeof path, "%s/learnd.db", s->state);
    if (access(path, F_OK) != 0 ||
        store_open(s->state, STORE_READER, said, sizeof said, &store) != 0)
        return false;
    if (store_key_count(store, &keys, &admins) != 0)
        keys = 0;
    store_close(store);
    return keys > 0;
}

int preflight_all(const struct settings *s, char *why, size_t why_bytes, char *note,
                  size_t note_bytes)
{
    int rc = preflight_state(s, why, why_bytes, note, note_bytes);

    if (rc == 0)
        rc = check_folder(s->state, why, why_bytes);
    if (rc == 0)
        rc = loops_check(s, s->admin_key_file[0] != '\0' || has_keys(s), why, why_bytes);
    if (rc == 0)
        rc = check_encoder(s, why, why_bytes);
    return rc == 0 ? check_claim(s, why, why_bytes) : rc;
}
