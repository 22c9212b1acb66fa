/* store.c -- the connection: opening, locking, transactions, errors.
 *
 * The folder itself is locked (flock on its descriptor), so that a second daemon is refused before
 * it touches the database, nothing is left behind, and a killed daemon's lock goes with it.
 * secure_delete overwrites what is deleted: a text that was erased does not linger in free pages.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/store_internal.h"

static const char *const sql[] = {
#define X(name, text) text,
    STORE_STATEMENTS(X)
#undef X
};

/* Steps of statements, and of long ones every so many instructions. */
enum { WORK_INSTRUCTIONS = 100000 };
static atomic_ullong work[2];

static int count_work(void *ud)
{
    atomic_fetch_add_explicit((atomic_ullong *)ud, 1, memory_order_relaxed);
    return 0;
}

uint64_t store_work(enum store_mode mode)
{
    return atomic_load_explicit(&work[mode], memory_order_relaxed);
}

static int to_errno(int code, int system)
{
    switch (code & 0xff) {
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_READONLY:
    case SQLITE_PERM:
        return -EROFS;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return -EBUSY;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return -EUCLEAN;
    case SQLITE_CANTOPEN:
        return system == EACCES || system == EROFS ? -EROFS : -EIO;
    case SQLITE_IOERR:
        return code == SQLITE_IOERR_NOMEM ? -ENOMEM : system == ENOSPC ? -ENOSPC : -EIO;
    default:
        return -EIO;
    }
}

int store_fail(struct store *s)
{
    if (s->db == NULL)
        return -ENOMEM;
    snprintf(s->why, sizeof s->why, "%s", sqlite3_errmsg(s->db));
    return to_errno(sqlite3_extended_errcode(s->db), sqlite3_system_errno(s->db));
}

int store_fail_file(struct store *s, const char *what, int error)
{
    snprintf(s->why, sizeof s->why, "%.180s: %.60s", what, strerror(error));
    return error == EACCES || error == EPERM ? -EROFS : -error;
}

const char *store_why(const struct store *s)
{
    return s->why;
}

sqlite3_stmt *store_statement(struct store *s, enum store_statement which)
{
    sqlite3_stmt **at = &s->statements[which];

    if (*at == NULL) {
        if (sqlite3_prepare_v3(s->db, sql[which], -1, SQLITE_PREPARE_PERSISTENT, at, NULL) !=
            SQLITE_OK)
            return NULL;
    } else {
        sqlite3_reset(*at);
        sqlite3_clear_bindings(*at);
    }
    return *at;
}

int store_step(struct store *s, sqlite3_stmt *statement)
{
    int rc = statement != NULL ? sqlite3_step(statement) : SQLITE_ERROR;

    atomic_fetch_add_explicit(&work[s->mode], 1, memory_order_relaxed);
    if (rc == SQLITE_ROW)
        return 1;
    if (rc == SQLITE_DONE)
        return 0;
    return store_fail(s);
}

int store_run(struct store *s, sqlite3_stmt *statement)
{
    int rc = store_step(s, statement);

    sqlite3_reset(statement);
    return rc;
}

void store_copy_name(char to[STORE_NAME_BYTES_MAX + 1], const unsigned char *from)
{
    snprintf(to, STORE_NAME_BYTES_MAX + 1, "%s", from != NULL ? (const char *)from : "");
}

/* ---- opening --------------------------------------------------------------------------------- */

static int make_folder(struct store *s, const char *name)
{
    char path[4096];

    if (snprintf(path, sizeof path, "%s%s%s", s->folder, *name != '\0' ? "/" : "", name) >=
        (int)sizeof path)
        return store_fail_file(s, "the path of the state folder", ENAMETOOLONG);
    /* A new home has no .local/state yet: what stands above is made too. */
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, 0700) != 0 && errno != EEXIST && errno != EROFS && errno != EACCES)
            return store_fail_file(s, path, errno);
        *slash = '/';
    }
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return store_fail_file(s, path, errno);
    return 0;
}

static int lock_folder(struct store *s)
{
    s->lock = open(s->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->lock < 0)
        return store_fail_file(s, s->folder, errno);
    if (flock(s->lock, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (errno != EWOULDBLOCK)
        return store_fail_file(s, s->folder, errno);
    snprintf(s->why, sizeof s->why, "another learnd is using the state folder %.160s", s->folder);
    return -EBUSY;
}

/* SQLite's words do not say which file they are about. */
static int fail_database(struct store *s, const char *path)
{
    int rc = store_fail(s);

    if (s->db != NULL)
        snprintf(s->why, sizeof s->why, "%.180s: %.60s", path, sqlite3_errmsg(s->db));
    return rc;
}

static int connect(struct store *s)
{
    char path[4096];
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;

    if (snprintf(path, sizeof path, "%s/learnd.db", s->folder) >= (int)sizeof path)
        return store_fail_file(s, "the path of the state folder", ENAMETOOLONG);
    if (s->mode == STORE_WRITER)
        flags |= SQLITE_OPEN_CREATE;
    if (sqlite3_open_v2(path, &s->db, flags, NULL) != SQLITE_OK)
        return fail_database(s, path);
    if (s->mode == STORE_WRITER && sqlite3_db_readonly(s->db, "main") == 1)
        return store_fail_file(s, path, EROFS);
    sqlite3_busy_timeout(s->db, 5000);
    sqlite3_progress_handler(s->db, WORK_INSTRUCTIONS, count_work, &work[s->mode]);
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    if (sqlite3_exec(s->db,
                     "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
                     "PRAGMA secure_delete=ON; PRAGMA trusted_schema=OFF; PRAGMA cache_size=-4096;"
                     "PRAGMA journal_size_limit=67108864",
                     NULL, NULL, NULL) != SQLITE_OK)
        return fail_database(s, path);
    if (s->mode == STORE_READER) /* the last to leave would write the log into the database */
        sqlite3_db_config(s->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    if (s->mode == STORE_READER &&
        sqlite3_exec(s->db, "PRAGMA query_only=ON", NULL, NULL, NULL) != SQLITE_OK)
        return fail_database(s, path);
    return 0;
}

/* What begins and ends transactions is prepared beforehand (after the last change of the schema,
 * which would have it prepared again): a rollback that needs memory when there is none would leave
 * its transaction open, and no other could begin. */
int store_prepare_transactions(struct store *s)
{
    for (int i = STORE_BEGIN_WRITE; i <= STORE_MARK_UNDO; i++) {
        sqlite3_finalize(s->statements[i]);
        s->statements[i] = NULL;
        if (store_statement(s, (enum store_statement)i) == NULL)
            return store_fail(s);
    }
    return 0;
}

int store_open(const char *folder, enum store_mode mode, char *why, size_t why_bytes,
               struct store **ret_store)
{
    struct store *s = calloc(1, sizeof *s);
    int rc = 0;

    snprintf(why, why_bytes, "out of memory");
    if (s == NULL)
        return -ENOMEM;
    s->lock = -1;
    s->mode = mode;
    s->folder = strdup(folder);
    if (s->folder == NULL)
        rc = -ENOMEM;
    if (rc == 0 && mode == STORE_WRITER) {
        rc = make_folder(s, "");
        if (rc == 0)
            rc = lock_folder(s);
        if (rc == 0)
            rc = make_folder(s, "heads");
        if (rc == 0)
            rc = make_folder(s, "encoders");
    }
    if (rc == 0)
        rc = connect(s);
    if (rc == 0)
        rc = store_migrate(s);
    if (rc == 0)
        rc = store_prepare_transactions(s);
    if (rc == 0 && mode == STORE_WRITER) {
        store_snapshot_sweep(s, true); /* what stays is tried again at the next start */
        store_encoder_sweep_all(s, true);
        rc = store_scrub_left(s);
    }
    if (rc != 0) {
        if (s->why[0] != '\0')
            snprintf(why, why_bytes, "%s", s->why);
        store_close(s);
        return rc;
    }
    *ret_store = s;
    return 0;
}

void store_close(struct store *s)
{
    if (s == NULL)
        return;
    for (int i = 0; i < STORE_STATEMENTS_LEN; i++)
        sqlite3_finalize(s->statements[i]);
    sqlite3_close(s->db);
    if (s->lock >= 0)
        close(s->lock);
    free(s->folder);
    free(s);
}

/* ---- transactions ---------------------------------------------------------------------------- */

static int simple(struct store *s, enum store_statement which)
{
    return store_run(s, store_statement(s, which));
}

int store_begin(struct store *s)
{
    int rc = simple(s, s->mode == STORE_WRITER ? STORE_BEGIN_WRITE : STORE_BEGIN_READ);

    /* A reader's snapshot begins with its first read. */
    if (rc == 0 && s->mode == STORE_READER) {
        int64_t seq;

        rc = store_seq(s, &seq);
        if (rc != 0)
            store_rollback(s);
    }
    return rc;
}

int store_commit(struct store *s)
{
    return simple(s, STORE_COMMIT);
}

int store_rollback(struct store *s)
{
    for (int i = 0; i < STORE_STATEMENTS_LEN; i++)
        sqlite3_reset(s->statements[i]); /* a failed write may have left one under way */
    if (sqlite3_get_autocommit(s->db))
        return 0; /* SQLite has rolled back by itself */
    return simple(s, STORE_ROLLBACK);
}

int store_mark(struct store *s)
{
    return simple(s, STORE_MARK);
}

int store_unmark(struct store *s, bool keep)
{
    int rc;

    if (!keep && sqlite3_get_autocommit(s->db))
        return -ECANCELED;
    rc = keep ? 0 : simple(s, STORE_MARK_UNDO);
    return rc == 0 ? simple(s, STORE_MARK_KEEP) : rc;
}

int store_probe(struct store *s)
{
    int rc = store_begin(s);

    if (rc == 0)
        rc = simple(s, STORE_PROBE);
    if (rc == 0)
        rc = store_commit(s);
    if (rc != 0)
        store_rollback(s);
    return rc;
}

int store_checkpoint(struct store *s)
{
    return sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL) ==
                   SQLITE_OK
               ? 0
               : store_fail(s);
}

int store_integrity(struct store *s)
{
    sqlite3_stmt *statement;
    int rc;

    if (sqlite3_prepare_v2(s->db, "PRAGMA integrity_check(1)", -1, &statement, NULL) != SQLITE_OK)
        return store_fail(s);
    rc = store_step(s, statement);
    if (rc == 1 && strcmp((const char *)sqlite3_column_text(statement, 0), "ok") != 0) {
        snprintf(s->why, sizeof s->why, "%s", sqlite3_column_text(statement, 0));
        rc = -EUCLEAN;
    }
    sqlite3_finalize(statement);
    return rc < 0 ? rc : 0;
}
