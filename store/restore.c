/* restore.c -- a backup becomes a state folder. See backup.h.
 *
 * All is copied into restoring/ inside the state folder, checked and on disk; then heads/ and
 * encoders/ move to their places, and last, as the one step that counts, learnd.db. Inside and not
 * beside it: a state folder may be a mount of its own, or stand in a folder that is not the
 * operator's. A restore that was killed before that step has left no database; the next one clears
 * what it finds of it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/backup.h"
#include "store/file_acts.h"
#include "store/manifest.h"
#include "store/store_internal.h"

#define RESTORING "restoring"

struct restore {
    const char *src, *folder;
    int lock; /* the state folder */
    uid_t uid;
    gid_t gid;
    char *why;
    size_t why_bytes;
};

static const char *const parts[] = {"heads", "encoders", "learnd.db"};
enum { PARTS = sizeof parts / sizeof *parts };

static int say(struct restore *r, const char *what, int rc)
{
    return store_say(r->why, r->why_bytes, what, rc);
}

/* ---- the folder ------------------------------------------------------------------------------ */

/* Empty, or with the remains of a restore. */
static int is_free(struct restore *r)
{
    const struct dirent *entry;
    bool remains = faccessat(r->lock, RESTORING, F_OK, 0) == 0;
    DIR *dir = opendir(r->folder);
    int rc = 0;

    if (dir == NULL)
        return say(r, r->folder, -errno);
    while (rc == 0 && (entry = readdir(dir)) != NULL) {
        const char *name = entry->d_name;
        bool own = strcmp(name, RESTORING) == 0 || strcmp(name, "heads") == 0 ||
                   strcmp(name, "encoders") == 0;

        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "lost+found") == 0 ||
            (remains && own))
            continue;
        snprintf(r->why, r->why_bytes, "%.200s is not empty (%.60s is there): move it away first",
                 r->folder, name);
        rc = -ENOTEMPTY;
    }
    closedir(dir);
    return rc;
}

static int take_folder(struct restore *r)
{
    struct stat st;

    if (mkdir(r->folder, 0700) != 0 && errno != EEXIST)
        return say(r, r->folder, -errno);
    r->lock = open(r->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->lock < 0 || fstat(r->lock, &st) != 0)
        return say(r, r->folder, -errno);
    if (flock(r->lock, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK)
            return say(r, r->folder, -errno);
        snprintf(r->why, r->why_bytes, "a learnd is using %.200s: stop it first", r->folder);
        return -EBUSY;
    }
    r->uid = st.st_uid;
    r->gid = st.st_gid;
    return is_free(r);
}

static int in_folder(struct restore *r, const char *name, char path[STORE_PATH_BYTES])
{
    return snprintf(path, STORE_PATH_BYTES, "%s/%s", r->folder, name) < STORE_PATH_BYTES
               ? 0
               : say(r, r->folder, -ENAMETOOLONG);
}

/* heads/ and encoders/ too: they are remains, or not there. */
static int clear(struct restore *r)
{
    static const char *const all[] = {"heads", "encoders", RESTORING};
    char path[STORE_PATH_BYTES];
    int rc = 0;

    for (int i = 0; i < 3 && rc == 0; i++) {
        rc = in_folder(r, all[i], path);
        if (rc == 0)
            rc = say(r, path, store_tree_remove(path));
    }
    return rc;
}

/* ---- copying --------------------------------------------------------------------------------- */

/* Root restores for the one whose folder it is. */
static int give_away(const struct restore *r, const char *path)
{
    return geteuid() == 0 && lchown(path, r->uid, r->gid) != 0 ? -errno : 0;
}

static int make_folder(const struct restore *r, const char *path)
{
    if (mkdir(path, 0700) != 0)
        return errno == EEXIST ? 0 : -errno;
    return give_away(r, path);
}

static int copy_one(void *ud, const char *path, const struct stat *st)
{
    struct restore *r = ud;
    char from[STORE_PATH_BYTES], to[STORE_PATH_BYTES];
    size_t base = (size_t)snprintf(to, sizeof to, "%s/" RESTORING "/", r->folder);
    int rc = 0;

    (void)st;
    if (strcmp(path, MANIFEST_NAME) == 0 || strcmp(path, "BACKUP") == 0)
        return 0;
    if (snprintf(from, sizeof from, "%s/%s", r->src, path) >= (int)sizeof from ||
        base + strlen(path) >= sizeof to)
        return -ENAMETOOLONG;
    memcpy(to + base, path, strlen(path) + 1);
    for (char *slash = strchr(to + base, '/'); slash != NULL && rc == 0;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        rc = make_folder(r, to);
        *slash = '/';
    }
    if (rc == 0)
        rc = store_file_copy(from, to, 0600);
    return rc == 0 ? give_away(r, to) : rc;
}

static int copy_all(struct restore *r)
{
    static const char *const folders[] = {RESTORING, RESTORING "/heads", RESTORING "/encoders"};
    char path[STORE_PATH_BYTES];
    int rc = 0;

    for (int i = 0; i < 3 && rc == 0; i++) {
        rc = in_folder(r, folders[i], path);
        if (rc == 0)
            rc = say(r, path, make_folder(r, path));
    }
    if (rc == 0)
        rc = say(r, r->folder, store_walk(r->src, copy_one, r));
    return rc;
}

/* ---- is it good? ----------------------------------------------------------------------------- */

/* Of a version that this program knows, and sound. Asked of the copy: what is in src stays. */
static int check_database(struct restore *r, struct store_backup_report *report)
{
    char path[STORE_PATH_BYTES];
    sqlite3_stmt *q = NULL;
    sqlite3 *db = NULL;
    int version = 0, rc = in_folder(r, RESTORING "/learnd.db", path);

    if (rc != 0)
        return rc;
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL) == SQLITE_OK &&
        sqlite3_prepare_v2(db,
                           "SELECT (SELECT user_version FROM pragma_user_version),"
                           " (SELECT integrity_check FROM pragma_integrity_check(1)),"
                           " (SELECT ifnull(max(seq), 0) FROM event), (SELECT count(*) FROM model),"
                           " (SELECT lower(hex(sha256)) FROM encoder_version WHERE id = 0)",
                           -1, &q, NULL) == SQLITE_OK &&
        sqlite3_step(q) == SQLITE_ROW) {
        const char *sound = (const char *)sqlite3_column_text(q, 1);

        version = sqlite3_column_int(q, 0);
        if (sound == NULL || strcmp(sound, "ok") != 0)
            version = 0;
        report->seq = sqlite3_column_int64(q, 2);
        report->models = (uint64_t)sqlite3_column_int64(q, 3);
        if (sqlite3_column_text(q, 4) != NULL)
            snprintf(report->base, sizeof report->base, "%s",
                     (const char *)sqlite3_column_text(q, 4));
    }
    sqlite3_finalize(q);
    sqlite3_close(db);
    if (version < 1) {
        snprintf(r->why, r->why_bytes, "%.200s/learnd.db is no sound database of learnd", r->src);
        return -EUCLEAN;
    }
    if (version > store_version_known()) {
        snprintf(r->why, r->why_bytes,
                 "the backup's database is of version %d, and this program knows versions up to %d",
                 version, store_version_known());
        return -EUCLEAN;
    }
    return 0;
}

/* The copy has the manifest's hashes, too: what was read and written is one. */
static int check_copy(struct restore *r, struct store_backup_report *report)
{
    char from[STORE_PATH_BYTES], to[STORE_PATH_BYTES];
    int rc = in_folder(r, RESTORING "/" MANIFEST_NAME, to);

    if (rc == 0 && snprintf(from, sizeof from, "%s/" MANIFEST_NAME, r->src) >= (int)sizeof from)
        rc = say(r, r->src, -ENAMETOOLONG);
    if (rc == 0)
        rc = say(r, to, store_file_copy(from, to, 0600));
    if (rc == 0 && snprintf(from, sizeof from, "%s/BACKUP", r->src) >= (int)sizeof from)
        rc = say(r, r->src, -ENAMETOOLONG);
    if (rc == 0)
        rc = in_folder(r, RESTORING "/BACKUP", to);
    if (rc == 0)
        rc = say(r, to, store_file_copy(from, to, 0600));
    if (rc == 0)
        rc = in_folder(r, RESTORING, to);
    if (rc == 0)
        rc = store_manifest_check(to, r->why, r->why_bytes, report);
    if (rc == 0)
        rc = check_database(r, report);
    return rc == 0 ? say(r, to, store_tree_sync(to)) : rc;
}

/* ---- in its place ---------------------------------------------------------------------------- */

static int move_in(struct restore *r)
{
    char from[STORE_PATH_BYTES], to[STORE_PATH_BYTES];
    int rc = 0;

    for (int i = 0; i < PARTS && rc == 0; i++) {
        if (snprintf(from, sizeof from, "%s/" RESTORING "/%s", r->folder, parts[i]) >=
            (int)sizeof from)
            return say(r, r->folder, -ENAMETOOLONG);
        rc = in_folder(r, parts[i], to);
        if (rc == 0 && rename(from, to) != 0)
            rc = say(r, to, -errno);
        if (rc == 0 && fsync(r->lock) != 0)
            rc = say(r, r->folder, -errno);
    }
    /* What stays of it now is waste, not a restore that failed. */
    if (rc == 0 && in_folder(r, RESTORING, from) == 0)
        (void)store_tree_remove(from);
    return rc;
}

int store_restore(const char *src, const char *folder, char *why, size_t why_bytes,
                  struct store_backup_report *ret_report)
{
    struct restore r = {
        .src = src, .folder = folder, .lock = -1, .why = why, .why_bytes = why_bytes};
    struct store_backup_report report;
    bool mine = false;
    int rc = store_manifest_check(src, why, why_bytes, &report);

    if (rc == 0)
        rc = take_folder(&r);
    if (rc == 0) {
        mine = true;
        rc = clear(&r);
    }
    if (rc == 0)
        rc = copy_all(&r);
    if (rc == 0)
        rc = check_copy(&r, &report);
    if (rc == 0)
        rc = move_in(&r);
    if (rc != 0 && mine) {
        char told[256];

        snprintf(told, sizeof told, "%s", why);
        (void)clear(&r);
        snprintf(why, why_bytes, "%s", told);
    }
    if (r.lock >= 0)
        close(r.lock);
    if (rc == 0)
        *ret_report = report;
    return rc;
}
