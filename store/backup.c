/* backup.c -- see backup.h. Database first, files second: what has to be copied is read from the
 * copy. A file that went meanwhile (a newer image, an erasure, a version that was swept) is no
 * error: the copy is too old then, and is made again.
 *
 * VACUUM INTO and not SQLite's page-wise backup: that one takes free pages and the slack of pages
 * along, and with them what an erasure has yet to scrub.
 */
#include "store/backup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/file_acts.h"
#include "store/manifest.h"
#include "store/store_internal.h"

enum { TRIES = 8, BUSY_MS = 60000 };

struct backup {
    const char *folder, *dest;
    char partial[STORE_PATH_BYTES];
    bool links;
    sqlite3 *copy; /* the database in the backup */
    char *why;
    size_t why_bytes;
    struct store_backup_report report;
};

static int say(struct backup *b, const char *what, int rc)
{
    return store_say(b->why, b->why_bytes, what, rc);
}

/* SQLite's words about one file. */
static int say_database(struct backup *b, const char *path, sqlite3 *db)
{
    int code = db != NULL ? sqlite3_errcode(db) & 0xff : SQLITE_NOMEM;

    snprintf(b->why, b->why_bytes, "%.200s: %s", path,
             db != NULL ? sqlite3_errmsg(db) : "no memory");
    return code == SQLITE_FULL                               ? -ENOSPC
           : code == SQLITE_BUSY                             ? -EBUSY
           : code == SQLITE_NOMEM                            ? -ENOMEM
           : code == SQLITE_CORRUPT || code == SQLITE_NOTADB ? -EUCLEAN
                                                             : -EIO;
}

static int path_in(struct backup *b, const char *folder, const char *name,
                   char path[STORE_PATH_BYTES])
{
    return snprintf(path, STORE_PATH_BYTES, "%s/%s", folder, name) < STORE_PATH_BYTES
               ? 0
               : say(b, folder, -ENAMETOOLONG);
}

/* ---- the database ---------------------------------------------------------------------------- */

static int copy_database(struct backup *b)
{
    char from[STORE_PATH_BYTES], to[STORE_PATH_BYTES];
    sqlite3_stmt *q = NULL;
    sqlite3 *db = NULL;
    int rc = path_in(b, b->folder, "learnd.db", from);

    if (rc == 0)
        rc = path_in(b, b->partial, "learnd.db", to);
    if (rc != 0)
        return rc;
    if (access(from, F_OK) != 0)
        return say(b, from, -errno);
    if (sqlite3_open_v2(from, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) !=
            SQLITE_OK ||
        sqlite3_busy_timeout(db, BUSY_MS) != SQLITE_OK ||
        sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(db, "VACUUM INTO ?1", -1, &q, NULL) != SQLITE_OK ||
        sqlite3_bind_text(q, 1, to, -1, SQLITE_STATIC) != SQLITE_OK ||
        sqlite3_step(q) != SQLITE_DONE)
        rc = say_database(b, from, db);
    sqlite3_finalize(q);
    sqlite3_close(db);
    if (rc == 0 && sqlite3_open_v2(to, &b->copy, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX,
                                   NULL) != SQLITE_OK)
        rc = say_database(b, to, b->copy);
    return rc;
}

static void close_copy(struct backup *b)
{
    sqlite3_close(b->copy);
    b->copy = NULL;
}

/* ---- files ----------------------------------------------------------------------------------- */

static int make_folder(struct backup *b, const char *name)
{
    char path[STORE_PATH_BYTES];
    int rc = path_in(b, b->partial, name, path);

    if (rc == 0 && mkdir(path, 0700) != 0 && errno != EEXIST)
        rc = say(b, path, -errno);
    return rc;
}

/* What a row promises of a file: its hash. 1: so it is. 0: not. */
static int is_promised(const char *path, const uint8_t *hash)
{
    uint8_t own[STORE_HASH_BYTES];
    int rc = store_hash_path(path, own);

    return rc != 0 ? rc : memcmp(own, hash, sizeof own) == 0;
}

/* -EAGAIN: it is not there (any more), or not what the row says. */
static int copy_head(struct backup *b, const char *name, const uint8_t *hash)
{
    char from[STORE_PATH_BYTES], to[STORE_PATH_BYTES];
    int rc = path_in(b, b->folder, name, from);

    if (rc == 0)
        rc = path_in(b, b->partial, name, to);
    if (rc != 0)
        return rc;
    /* Never linked: an erasure overwrites an image where it lies. */
    rc = store_file_copy(from, to, 0600);
    if (rc == 0)
        rc = is_promised(to, hash);
    snprintf(b->why, b->why_bytes, "%.200s is missing or damaged; learnctl doctor says more", from);
    return rc == 1 ? 0 : rc == 0 || rc == -ENOENT ? -EAGAIN : say(b, from, rc);
}

static int copy_heads(struct backup *b)
{
    sqlite3_stmt *q = NULL;
    int rc = make_folder(b, "heads"), step = SQLITE_DONE;

    if (rc != 0)
        return rc;
    if (sqlite3_prepare_v2(b->copy, "SELECT model, encoder, seq, sha256 FROM head_snapshot", -1, &q,
                           NULL) != SQLITE_OK)
        return say_database(b, b->partial, b->copy);
    while (rc == 0 && (step = sqlite3_step(q)) == SQLITE_ROW) {
        char name[96];

        snprintf(name, sizeof name, "heads/%lld-%lld-%lld.head",
                 (long long)sqlite3_column_int64(q, 0), (long long)sqlite3_column_int64(q, 1),
                 (long long)sqlite3_column_int64(q, 2));
        if (sqlite3_column_bytes(q, 3) == STORE_HASH_BYTES)
            rc = copy_head(b, name, sqlite3_column_blob(q, 3));
    }
    if (rc == 0 && step != SQLITE_DONE)
        rc = say_database(b, b->partial, b->copy);
    sqlite3_finalize(q);
    return rc;
}

struct copying {
    struct backup *backup;
    const char *from, *to; /* folders */
};

static int make_parents(const char *folder, const char *path)
{
    char whole[STORE_PATH_BYTES];

    for (const char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        if (snprintf(whole, sizeof whole, "%s/%.*s", folder, (int)(slash - path), path) >=
            (int)sizeof whole)
            return -ENAMETOOLONG;
        if (mkdir(whole, 0700) != 0 && errno != EEXIST)
            return -errno;
    }
    return 0;
}

static int copy_one(void *ud, const char *path, const struct stat *st)
{
    struct copying *c = ud;
    char from[STORE_PATH_BYTES], to[STORE_PATH_BYTES];
    int rc = path_in(c->backup, c->from, path, from);

    (void)st;
    if (rc == 0)
        rc = path_in(c->backup, c->to, path, to);
    if (rc == 0)
        rc = make_parents(c->to, path);
    if (rc != 0)
        return rc;
    /* A version's files never change: they come and go whole. */
    if (c->backup->links && link(from, to) == 0)
        return 0;
    return store_file_copy(from, to, 0600);
}

int store_folder_copy(const char *from, const char *to, char *why, size_t why_bytes)
{
    struct backup b = {.why = why, .why_bytes = why_bytes};
    struct copying c = {&b, from, to};
    int rc = mkdir(to, 0777) == 0 ? 0 : -errno;

    if (rc != 0)
        return store_say(why, why_bytes, to, rc);
    return store_say(why, why_bytes, from, store_walk(from, copy_one, &c));
}

int store_folder_remove(const char *path)
{
    return store_tree_remove(path);
}

/* must: the row promises a folder; else it may be on its way. */
static int copy_encoder(struct backup *b, int64_t id, bool must, const uint8_t *hash)
{
    char name[64], from[STORE_PATH_BYTES], to[STORE_PATH_BYTES], weights[STORE_PATH_BYTES];
    struct copying c = {b, from, to};
    int rc;

    snprintf(name, sizeof name, "encoders/%lld", (long long)id);
    rc = path_in(b, b->folder, name, from);
    if (rc == 0)
        rc = path_in(b, b->partial, name, to);
    if (rc == 0)
        rc = path_in(b, to, "model.safetensors", weights);
    if (rc == 0)
        rc = make_folder(b, name);
    if (rc == 0)
        rc = store_walk(from, copy_one, &c);
    if (rc == 0)
        rc = is_promised(weights, hash);
    if (rc == 1)
        return 0;
    if (rc != 0 && rc != -ENOENT)
        return say(b, from, rc);
    snprintf(b->why, b->why_bytes, "%.200s is missing or damaged; learnctl doctor says more", from);
    return must ? -EAGAIN : store_tree_remove(to);
}

static int copy_encoders(struct backup *b)
{
    sqlite3_stmt *q = NULL;
    int rc = make_folder(b, "encoders"), step = SQLITE_DONE;

    if (rc != 0)
        return rc;
    if (sqlite3_prepare_v2(b->copy,
                           "SELECT id, state <> 'candidate', sha256 FROM encoder_version"
                           " WHERE state IN ('live', 'held', 'candidate')",
                           -1, &q, NULL) != SQLITE_OK)
        return say_database(b, b->partial, b->copy);
    while (rc == 0 && (step = sqlite3_step(q)) == SQLITE_ROW)
        if (sqlite3_column_bytes(q, 2) == STORE_HASH_BYTES)
            rc = copy_encoder(b, sqlite3_column_int64(q, 0), sqlite3_column_int(q, 1) != 0,
                              sqlite3_column_blob(q, 2));
    if (rc == 0 && step != SQLITE_DONE)
        rc = say_database(b, b->partial, b->copy);
    sqlite3_finalize(q);
    return rc;
}

/* ---- what it says of itself ------------------------------------------------------------------ */

static int describe(struct backup *b, FILE *file)
{
    static const char text[] =
        "SELECT (SELECT ifnull(max(seq), 0) FROM event), (SELECT count(*) FROM model),"
        " (SELECT lower(hex(sha256)) FROM encoder_version WHERE id = 0),"
        " (SELECT user_version FROM pragma_user_version),"
        " strftime('%Y-%m-%dT%H:%M:%SZ', 'now')";
    sqlite3_stmt *q = NULL;
    const unsigned char *base;
    int rc = 0;

    if (sqlite3_prepare_v2(b->copy, text, -1, &q, NULL) != SQLITE_OK ||
        sqlite3_step(q) != SQLITE_ROW) {
        rc = say_database(b, b->partial, b->copy);
        sqlite3_finalize(q);
        return rc;
    }
    b->report.seq = sqlite3_column_int64(q, 0);
    b->report.models = (uint64_t)sqlite3_column_int64(q, 1);
    base = sqlite3_column_text(q, 2);
    snprintf(b->report.base, sizeof b->report.base, "%s", base != NULL ? (const char *)base : "");
    if (fprintf(file, "learnd-backup 1\nmade %s\nschema %d\nseq %lld\nmodels %llu\nbase %s\n",
                (const char *)sqlite3_column_text(q, 4), sqlite3_column_int(q, 3),
                (long long)b->report.seq, (unsigned long long)b->report.models, b->report.base) < 0)
        rc = say(b, b->partial, -EIO);
    sqlite3_finalize(q);
    return rc;
}

static int write_about(struct backup *b)
{
    char path[STORE_PATH_BYTES];
    FILE *file;
    int rc = path_in(b, b->partial, "BACKUP", path);

    if (rc != 0)
        return rc;
    file = fopen(path, "wxe");
    if (file == NULL)
        return say(b, path, -errno);
    rc = describe(b, file);
    if (fclose(file) != 0 && rc == 0)
        rc = say(b, path, -errno);
    return rc;
}

/* ---- the folder ------------------------------------------------------------------------------ */

/* 0: it can be made, or replaced (*ret_there). */
static int look_at_dest(struct backup *b, bool *ret_there)
{
    char path[STORE_PATH_BYTES];
    struct stat st;
    int rc;

    *ret_there = false;
    if (lstat(b->dest, &st) != 0)
        return errno == ENOENT ? 0 : say(b, b->dest, -errno);
    *ret_there = true;
    rc = path_in(b, b->dest, MANIFEST_NAME, path);
    if (rc == 0 && (!S_ISDIR(st.st_mode) || access(path, F_OK) != 0)) {
        snprintf(b->why, b->why_bytes, "%.200s is there and is no backup: it is left alone",
                 b->dest);
        rc = -EEXIST;
    }
    return rc;
}

/* A new dest.partial, locked. *ret_lock: to be closed. */
static int begin(struct backup *b, int *ret_lock)
{
    int fd, rc;

    if (snprintf(b->partial, sizeof b->partial, "%s.partial", b->dest) >= (int)sizeof b->partial)
        return say(b, b->dest, -ENAMETOOLONG);
    fd = open(b->partial, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) { /* of one that was killed, or that is at work */
        rc = flock(fd, LOCK_EX | LOCK_NB) == 0 ? store_tree_remove(b->partial) : -EBUSY;
        close(fd);
        if (rc == -EBUSY)
            snprintf(b->why, b->why_bytes, "another backup to %.200s is under way", b->dest);
        if (rc != 0)
            return rc == -EBUSY ? rc : say(b, b->partial, rc);
    }
    if (mkdir(b->partial, 0700) != 0)
        return say(b, b->partial, -errno);
    fd = open(b->partial, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) != 0) {
        rc = say(b, b->partial, -errno);
        if (fd >= 0)
            close(fd);
        return rc;
    }
    *ret_lock = fd;
    return 0;
}

/* What a try has left, but for the folder itself. */
static int clear(struct backup *b)
{
    static const char *const names[] = {"learnd.db", "heads", "encoders"};
    char path[STORE_PATH_BYTES];
    int rc = 0;

    close_copy(b);
    for (int i = 0; i < 3 && rc == 0; i++) {
        rc = path_in(b, b->partial, names[i], path);
        if (rc == 0)
            rc = say(b, path, store_tree_remove(path));
    }
    return rc;
}

static int fill(struct backup *b)
{
    int rc = -EAGAIN;

    for (int i = 0; rc == -EAGAIN && i < TRIES; i++) {
        rc = i > 0 ? clear(b) : 0;
        if (rc == 0)
            rc = copy_database(b);
        if (rc == 0)
            rc = copy_heads(b);
        if (rc == 0)
            rc = copy_encoders(b);
    }
    if (rc == 0)
        rc = write_about(b);
    close_copy(b);
    return rc == -EAGAIN ? -EUCLEAN : rc; /* gone for good: why tells which */
}

/* Its name becomes dest's in one step; what had the name goes. */
static int take_name(struct backup *b, bool there)
{
    char old[STORE_PATH_BYTES];

    if (!there)
        return rename(b->partial, b->dest) == 0 ? 0 : say(b, b->dest, -errno);
    if (renameat2(AT_FDCWD, b->partial, AT_FDCWD, b->dest, RENAME_EXCHANGE) == 0)
        return say(b, b->partial, store_tree_remove(b->partial));
    /* A file system without exchange: the older one steps aside, and for a moment there is none. */
    if (snprintf(old, sizeof old, "%s.old", b->dest) >= (int)sizeof old)
        return say(b, b->dest, -ENAMETOOLONG);
    if (rename(b->dest, old) != 0)
        return say(b, b->dest, -errno);
    if (rename(b->partial, b->dest) != 0) {
        int rc = say(b, b->dest, -errno);

        (void)rename(old, b->dest);
        return rc;
    }
    return say(b, old, store_tree_remove(old));
}

static int sync_parent(struct backup *b)
{
    char parent[STORE_PATH_BYTES];
    char *slash;

    snprintf(parent, sizeof parent, "%s", b->dest);
    slash = strrchr(parent, '/');
    if (slash == NULL)
        snprintf(parent, sizeof parent, ".");
    else
        slash[slash == parent] = '\0';
    return say(b, parent, store_folder_sync(parent));
}

static int make(struct backup *b)
{
    bool there;
    int lock = -1, rc = look_at_dest(b, &there);

    if (rc == 0)
        rc = begin(b, &lock);
    if (rc != 0)
        return rc;
    rc = fill(b);
    if (rc == 0)
        rc = store_manifest_write(b->partial, b->why, b->why_bytes, &b->report);
    if (rc == 0)
        rc = say(b, b->partial, store_tree_sync(b->partial));
    if (rc == 0)
        rc = take_name(b, there);
    if (rc != 0)
        (void)store_tree_remove(b->partial);
    close(lock);
    b->report.replaced = there;
    return rc == 0 ? sync_parent(b) : rc;
}

int store_backup(const char *folder, const char *dest, bool links, char *why, size_t why_bytes,
                 struct store_backup_report *ret_report)
{
    char plain[STORE_PATH_BYTES];
    struct backup b = {
        .folder = folder, .dest = plain, .links = links, .why = why, .why_bytes = why_bytes};
    size_t len = strlen(dest);
    int rc;

    while (len > 1 && dest[len - 1] == '/')
        len--;
    if (len == 0 || len >= sizeof plain - 16)
        return store_say(why, why_bytes, dest, len == 0 ? -EINVAL : -ENAMETOOLONG);
    memcpy(plain, dest, len);
    plain[len] = '\0';
    rc = make(&b);
    if (rc == 0)
        *ret_report = b.report;
    return rc;
}
