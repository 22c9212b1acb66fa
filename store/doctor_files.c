/* doctor_files.c -- what lies in a state folder, against what the rows promise; the disk below it,
 * and who else may read it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "store/doctor_internal.h"
#include "store/manifest.h"

enum { WAL_BYTES_MAX = 256 << 20, FREE_BYTES_MIN = 64 << 20 };

static int path_of(const struct examination *x, const char *name, char path[STORE_PATH_BYTES])
{
    return snprintf(path, STORE_PATH_BYTES, "%s/%s", x->folder, name) < STORE_PATH_BYTES
               ? 0
               : -ENAMETOOLONG;
}

/* Is there a row? 1, 0 or -errno. */
static int has_row(struct examination *x, enum store_statement which, const int64_t *numbers,
                   int len)
{
    sqlite3_stmt *q = store_statement(x->store, which);
    int rc;

    if (q == NULL)
        return store_fail(x->store);
    for (int i = 0; i < len; i++)
        sqlite3_bind_int64(q, i + 1, numbers[i]);
    rc = store_step(x->store, q);
    sqlite3_reset(q);
    return rc;
}

/* ---- what rows promise ----------------------------------------------------------------------- */

/* Which file, of which hash. missing, damaged: what to call it. */
static int check_promise(struct examination *x, const char *name, const char *file, sqlite3_stmt *q,
                         int column, enum doctor_code missing, enum doctor_code damaged)
{
    char path[STORE_PATH_BYTES];
    uint8_t hash[STORE_HASH_BYTES];
    int rc = path_of(x, file, path);

    if (rc != 0)
        return rc;
    rc = store_hash_path(path, hash);
    if (rc == -ENOENT || rc == -ENOTDIR)
        doctor_tell(x, missing, "%s is not there", name);
    else if (rc != 0)
        doctor_tell(x, damaged, "%s cannot be read: %s", name, strerror(-rc));
    else if (sqlite3_column_bytes(q, column) != STORE_HASH_BYTES ||
             memcmp(sqlite3_column_blob(q, column), hash, sizeof hash) != 0)
        doctor_tell(x, damaged, "%s has not the SHA-256 that its row says", name);
    return 0;
}

static int check_promises(struct examination *x, const char *sql, bool heads)
{
    sqlite3_stmt *q = NULL;
    char name[128], file[160];
    int rc;

    if (sqlite3_prepare_v2(x->store->db, sql, -1, &q, NULL) != SQLITE_OK) {
        sqlite3_finalize(q);
        return store_fail(x->store);
    }
    while ((rc = store_step(x->store, q)) == 1) {
        if (heads) {
            snprintf(name, sizeof name, "heads/%lld-%lld-%lld.head",
                     (long long)sqlite3_column_int64(q, 1), (long long)sqlite3_column_int64(q, 2),
                     (long long)sqlite3_column_int64(q, 3));
            rc = check_promise(x, name, name, q, 0, DOCTOR_HEAD_MISSING, DOCTOR_HEAD_DAMAGED);
        } else {
            snprintf(name, sizeof name, "encoders/%lld", (long long)sqlite3_column_int64(q, 1));
            snprintf(file, sizeof file, "%s/model.safetensors", name);
            rc = check_promise(x, name, file, q, 0, DOCTOR_ENCODER_MISSING, DOCTOR_ENCODER_DAMAGED);
        }
        if (rc != 0)
            break;
    }
    sqlite3_finalize(q);
    return rc;
}

/* ---- what lies there ------------------------------------------------------------------------- */

static int look_at_top(struct examination *x, const char *name)
{
    static const char *const own[] = {"learnd.db", "learnd.db-wal",     "learnd.db-shm",
                                      "heads",     "learnd.db-journal", "encoders",
                                      "lost+found"};

    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (strcmp(name, own[i]) == 0)
            return 0;
    if (strcmp(name, "restoring") == 0)
        doctor_tell(x, DOCTOR_RESTORE_REMAINS, "restoring: a restore was interrupted");
    else
        doctor_tell(x, DOCTOR_STRANGE_FILE, "%.200s is not the daemon's", name);
    return 0;
}

static int look_at_head(struct examination *x, const char *name)
{
    long long model, encoder, seq;
    int end = 0, rc;

    if (sscanf(name, "%lld-%lld-%lld.head%n", &model, &encoder, &seq, &end) != 3 || end == 0 ||
        (name[end] != '\0' && strcmp(name + end, ".new") != 0)) {
        doctor_tell(x, DOCTOR_STRANGE_FILE, "heads/%.200s is not the daemon's", name);
        return 0;
    }
    if (name[end] != '\0' && x->held)
        return 0; /* being written */
    rc = has_row(x, STORE_SNAPSHOT_FIND, (int64_t[]){model, encoder, seq}, 3);
    if (rc == 0 || (rc == 1 && name[end] != '\0'))
        doctor_tell(x, DOCTOR_HEAD_ORPHAN, "heads/%.200s: no row names it", name);
    return rc < 0 ? rc : 0;
}

/* Where a run was: whole, as its own hash says? */
static int look_at_run(struct examination *x, int64_t run)
{
    void *image = NULL;
    size_t bytes;
    int rc = has_row(x, STORE_RUN_LIVES, &run, 1);

    if (rc == 0)
        doctor_tell(x, DOCTOR_ENCODER_ORPHAN, "encoders/run-%lld.ckpt: its run has ended",
                    (long long)run);
    if (rc != 1)
        return rc;
    rc = store_run_image_read(x->folder, run, &image, &bytes);
    if (rc == -EUCLEAN)
        doctor_tell(x, DOCTOR_RUN_IMAGE, "encoders/run-%lld.ckpt is damaged", (long long)run);
    free(image);
    return rc == -ENOMEM ? rc : 0;
}

static int look_at_encoder(struct examination *x, const char *name)
{
    long long number;
    int end = 0, rc;

    if (sscanf(name, "run-%lld.ckpt%n", &number, &end) == 1 && end > 0 && name[end] == '\0')
        return look_at_run(x, number);
    if (strncmp(name, "new-", 4) == 0 || strncmp(name, "old-", 4) == 0 ||
        (strncmp(name, "run-", 4) == 0 && strstr(name, ".ckpt.new") != NULL)) {
        if (!x->held) /* else it is being written */
            doctor_tell(x, DOCTOR_ENCODER_ORPHAN, "encoders/%.200s: half made", name);
        return 0;
    }
    if (sscanf(name, "%lld%n", &number, &end) != 1 || name[end] != '\0' || number < 1) {
        doctor_tell(x, DOCTOR_STRANGE_FILE, "encoders/%.200s is not the daemon's", name);
        return 0;
    }
    rc = has_row(x, STORE_ENCODER_PROMISED, (int64_t[]){number}, 1);
    if (rc == 0)
        doctor_tell(x, DOCTOR_ENCODER_ORPHAN, "encoders/%.200s: no row needs it", name);
    return rc < 0 ? rc : 0;
}

static int look_into(struct examination *x, const char *folder,
                     int (*look)(struct examination *x, const char *name))
{
    char path[STORE_PATH_BYTES];
    const struct dirent *entry;
    DIR *dir;
    int rc = path_of(x, folder, path);

    if (rc != 0)
        return rc;
    dir = opendir(path);
    if (dir == NULL)
        return errno == ENOENT ? 0 : store_fail_file(x->store, path, errno);
    while (rc == 0 && (entry = readdir(dir)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            rc = look(x, entry->d_name);
    closedir(dir);
    return rc;
}

static int look_at_scrub(struct examination *x)
{
    int rc = has_row(x, STORE_UNSCRUBBED, NULL, 0);
    sqlite3_stmt *q = store_statement(x->store, STORE_UNSCRUBBED);

    if (rc == 1 && store_step(x->store, q) == 1 && sqlite3_column_int(q, 0) != 0)
        doctor_tell(x, DOCTOR_ERASURE_UNFINISHED,
                    "an erasure was committed, and its bytes may still be in the files");
    sqlite3_reset(q);
    return rc < 0 ? rc : 0;
}

int doctor_files(struct examination *x)
{
    int rc = check_promises(x, "SELECT sha256, model, encoder, seq FROM head_snapshot", true);

    if (rc == 0)
        rc = check_promises(
            x, "SELECT sha256, id FROM encoder_version WHERE state IN ('live', 'held')", false);
    if (rc == 0)
        rc = look_into(x, "", look_at_top);
    if (rc == 0)
        rc = look_into(x, "heads", look_at_head);
    if (rc == 0)
        rc = look_into(x, "encoders", look_at_encoder);
    return rc == 0 ? look_at_scrub(x) : rc;
}

/* ---- the disk, and others -------------------------------------------------------------------- */

static int look_at_owners(struct examination *x)
{
    static const char *const names[] = {"learnd.db", "learnd.db-wal", "learnd.db-shm", "heads",
                                        "encoders"};
    char path[STORE_PATH_BYTES];
    struct stat folder, st;

    if (stat(x->folder, &folder) != 0)
        return -errno;
    /* Closed to others itself, it closes what is in it. */
    if ((folder.st_mode & 07) != 0)
        doctor_tell(x, DOCTOR_PERMISSIONS,
                    "others may look into the folder (mode %03o), which holds people's texts",
                    (unsigned)folder.st_mode & 0777);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int rc = path_of(x, names[i], path);

        if (rc != 0)
            return rc;
        if (stat(path, &st) == 0 && st.st_uid != folder.st_uid)
            doctor_tell(x, DOCTOR_OWNER, "%s is of user %u, the folder of user %u", names[i],
                        (unsigned)st.st_uid, (unsigned)folder.st_uid);
    }
    return 0;
}

int doctor_room(struct examination *x)
{
    char path[STORE_PATH_BYTES];
    struct statvfs disk;
    struct stat database = {0}, wal;
    double free_bytes;
    int rc = path_of(x, "learnd.db", path);

    if (rc != 0)
        return rc;
    if (statvfs(x->folder, &disk) != 0 || stat(path, &database) != 0)
        return -errno;
    free_bytes = (double)disk.f_bavail * (double)disk.f_frsize;
    if (free_bytes < FREE_BYTES_MIN || free_bytes < (double)database.st_size)
        doctor_tell(x, DOCTOR_DISK_LOW, "%.0f MB are free on the disk, the database has %.0f MB",
                    free_bytes / 1e6, (double)database.st_size / 1e6);
    rc = path_of(x, "learnd.db-wal", path);
    if (rc == 0 && stat(path, &wal) == 0 && wal.st_size > WAL_BYTES_MAX)
        doctor_tell(x, DOCTOR_WAL_LARGE, "learnd.db-wal has %.0f MB", (double)wal.st_size / 1e6);
    return rc == 0 ? look_at_owners(x) : rc;
}
