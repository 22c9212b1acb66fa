/* doctor.c -- see doctor.h: the order of the examination, the database, labels; and the repair.
 *
 * The codes, what they mean and what to do stand in one table (doctor_internal.h).
 */
#include "store/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "store/doctor_internal.h"
#include "store/erase.h"
#include "store/file_acts.h"
#include "store/manifest.h"

enum { DAMAGES_MAX = 20, LOOKS = 5, LOOK_AGAIN_MS = 200 };

void doctor_tell(struct examination *x, enum doctor_code code, const char *format, ...)
{
    static const struct store_finding kinds[] = {
#define X(symbol, word, is_error, can, say)                                                        \
    {.code = word, .error = is_error, .repairable = can, .advice = say},
        DOCTOR_FINDINGS(X)
#undef X
    };
    struct store_finding finding = kinds[code];
    va_list args;

    va_start(args, format);
    vsnprintf(finding.what, sizeof finding.what, format, args);
    va_end(args);
    x->found++;
    x->fn(x->ud, &finding);
}

/* ---- the database itself --------------------------------------------------------------------- */

/* Rows of a pragma that has one for each thing wrong. *ret_wrong: how many. */
static int ask_sqlite(struct examination *x, sqlite3 *db, const char *sql, enum doctor_code code,
                      int *ret_wrong)
{
    sqlite3_stmt *q = NULL;
    int step;

    *ret_wrong = 0;
    if (sqlite3_prepare_v2(db, sql, -1, &q, NULL) != SQLITE_OK) {
        doctor_tell(x, DOCTOR_DATABASE_DAMAGED, "learnd.db: %s", sqlite3_errmsg(db));
        *ret_wrong = 1;
        return 0;
    }
    while ((step = sqlite3_step(q)) == SQLITE_ROW) {
        const char *word = (const char *)sqlite3_column_text(q, 0);

        if (word != NULL && strcmp(word, "ok") != 0 && (*ret_wrong)++ < DAMAGES_MAX)
            doctor_tell(x, code, "learnd.db: %s", word);
    }
    if (step != SQLITE_DONE) {
        doctor_tell(x, DOCTOR_DATABASE_DAMAGED, "learnd.db: %s", sqlite3_errmsg(db));
        ++*ret_wrong;
    }
    sqlite3_finalize(q);
    return 0;
}

static int read_version(sqlite3 *db, int *ret_version)
{
    sqlite3_stmt *q = NULL;
    int rc = -EUCLEAN;

    if (sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &q, NULL) == SQLITE_OK &&
        sqlite3_step(q) == SQLITE_ROW) {
        *ret_version = sqlite3_column_int(q, 0);
        rc = 0;
    }
    sqlite3_finalize(q);
    return rc;
}

/* By a connection of its own, which needs nothing of the schema. *ret_sound: the rest makes sense.
 */
static int look_at_database(struct examination *x, bool *ret_sound, char *why, size_t why_bytes)
{
    char path[STORE_PATH_BYTES];
    sqlite3 *db = NULL;
    int version = 0, wrong = 0, keys = 0, rc = 0;

    *ret_sound = false;
    if (snprintf(path, sizeof path, "%s/learnd.db", x->folder) >= (int)sizeof path)
        return store_say(why, why_bytes, x->folder, -ENAMETOOLONG);
    if (access(path, R_OK) != 0)
        return store_say(why, why_bytes, path, -errno);
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) !=
            SQLITE_OK ||
        sqlite3_busy_timeout(db, 5000) != SQLITE_OK ||
        sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL) != SQLITE_OK ||
        read_version(db, &version) != 0) {
        if (db != NULL && (sqlite3_errcode(db) & 0xff) == SQLITE_CANTOPEN)
            rc = store_say(why, why_bytes, path, -EACCES);
        else
            doctor_tell(x, DOCTOR_DATABASE_DAMAGED, "learnd.db: %s",
                        db != NULL ? sqlite3_errmsg(db) : "no memory");
    } else if (version != store_version_known()) {
        snprintf(why, why_bytes, "%.200s is of version %d, and this program checks version %d: %s",
                 path, version, store_version_known(),
                 version < store_version_known() ? "start the daemon once, it brings it up to date"
                                                 : "use the learnctl of its daemon");
        rc = -EUCLEAN;
    } else {
        rc = ask_sqlite(x, db, "PRAGMA integrity_check(20)", DOCTOR_DATABASE_DAMAGED, &wrong);
        if (rc == 0 && wrong == 0)
            rc =
                ask_sqlite(x, db,
                           "SELECT \"table\" || ': ' || count(*) || ' rows point to nothing in ' ||"
                           " parent FROM pragma_foreign_key_check GROUP BY \"table\", parent, fkid",
                           DOCTOR_FOREIGN_KEY, &keys);
        *ret_sound = wrong == 0;
    }
    sqlite3_close(db);
    return rc;
}

/* ---- labels ---------------------------------------------------------------------------------- */

/* A name of each row that the query finds. */
static int list(struct examination *x, const char *sql, enum doctor_code code, const char *what)
{
    sqlite3_stmt *q = NULL;
    int rc;

    if (sqlite3_prepare_v2(x->store->db, sql, -1, &q, NULL) != SQLITE_OK) {
        sqlite3_finalize(q);
        return store_fail(x->store);
    }
    while ((rc = store_step(x->store, q)) == 1) {
        const char *model = (const char *)sqlite3_column_text(q, 0);
        const char *name = (const char *)sqlite3_column_text(q, 1);

        doctor_tell(x, code, "model %.100s: %.120s %s", model != NULL ? model : "?",
                    name != NULL ? name : "?", what);
    }
    sqlite3_finalize(q);
    return rc;
}

static int look_at_labels(struct examination *x)
{
    int rc = list(x,
                  "WITH RECURSIVE way(start, id, step) AS ("
                  " SELECT id, into_label, 1 FROM label WHERE into_label IS NOT NULL"
                  " UNION ALL SELECT start, l.into_label, step + 1 FROM way JOIN label l"
                  " ON l.id = way.id WHERE l.into_label IS NOT NULL AND way.id <> start"
                  " AND step < 1000)"
                  " SELECT m.name, l.name FROM label l JOIN model m ON m.id = l.model"
                  " WHERE l.id IN (SELECT start FROM way WHERE id = start)",
                  DOCTOR_LABEL_CYCLE, "is merged into itself");

    if (rc == 0)
        rc = list(x,
                  "SELECT m.name, l.name FROM label l JOIN model m ON m.id = l.model"
                  " WHERE (status = 'merged') <> (into_label IS NOT NULL)"
                  " OR EXISTS(SELECT 1 FROM label i WHERE i.id = l.into_label"
                  " AND i.model <> l.model)",
                  DOCTOR_LABEL_CYCLE, "is merged into no label of its model");
    if (rc == 0)
        rc = list(x,
                  "SELECT m.name, a.name FROM label_alias a JOIN label l ON l.model = a.model"
                  " AND l.name = a.name JOIN model m ON m.id = a.model",
                  DOCTOR_LABEL_CLASH, "is the name of one label and the other name of another");
    if (rc == 0)
        rc = list(x,
                  "SELECT m.name, 'encoder ' || m.encoder FROM model m WHERE NOT EXISTS(SELECT 1"
                  " FROM encoder_version v WHERE v.id = m.encoder AND v.state IN"
                  " ('base', 'live', 'held')) AND m.encoder <> 0",
                  DOCTOR_LIVE_ENCODER, "serves it, and is not there");
    return rc;
}

/* ---- the examination ------------------------------------------------------------------------- */

/* Findings of files, kept until it is known that they stay. */
struct kept {
    uint32_t len;
    struct store_finding all[100];
};

static void keep(void *ud, const struct store_finding *finding)
{
    struct kept *k = ud;

    if (k->len < sizeof k->all / sizeof *k->all)
        k->all[k->len++] = *finding;
}

static bool is_free(const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool yes = fd < 0 || flock(fd, LOCK_SH | LOCK_NB) == 0;

    if (fd >= 0)
        close(fd);
    return yes;
}

/* Files move while a daemon works: what is wrong of them is wrong at each of several looks, in a
 * transaction of its own each. */
static int look_at_files(struct examination *x)
{
    struct kept *now = calloc(1, sizeof *now);
    struct examination quiet = *x;
    int rc = now != NULL ? 0 : -ENOMEM;

    quiet.fn = keep;
    quiet.ud = now;
    for (int i = 0; i < LOOKS && rc == 0; i++) {
        const struct timespec pause = {0, LOOK_AGAIN_MS * 1000000};

        now->len = 0;
        rc = store_begin(x->store);
        if (rc == 0) {
            rc = doctor_files(&quiet);
            store_rollback(x->store);
        }
        if (now->len == 0 || !x->held)
            break;
        if (i + 1 < LOOKS)
            nanosleep(&pause, NULL);
    }
    for (uint32_t i = 0; i < now->len && rc == 0; i++) {
        x->found++;
        x->fn(x->ud, &now->all[i]);
    }
    free(now);
    return rc;
}

static int look_at_rows(struct examination *x)
{
    int rc = store_begin(x->store);

    if (rc == 0)
        rc = doctor_fold(x);
    if (rc == 0)
        rc = look_at_labels(x);
    store_rollback(x->store);
    return rc;
}

int store_examine(const char *folder, store_finding_fn *fn, void *ud, bool *ret_held, char *why,
                  size_t why_bytes)
{
    struct examination x = {.folder = folder, .fn = fn, .ud = ud, .held = !is_free(folder)};
    bool sound;
    int rc = look_at_database(&x, &sound, why, why_bytes);

    *ret_held = x.held;
    if (rc == 0 && sound) {
        rc = store_open(folder, STORE_READER, why, why_bytes, &x.store);
        if (rc != 0)
            return rc;
        rc = look_at_rows(&x);
        if (rc == 0)
            rc = look_at_files(&x);
        if (rc != 0)
            snprintf(why, why_bytes, "%.200s: %s", folder, store_why(x.store));
    }
    if (rc == 0)
        rc = store_say(why, why_bytes, folder, doctor_room(&x));
    store_close(x.store);
    return rc;
}

/* ---- the repair ------------------------------------------------------------------------------ */

struct mending {
    struct store *store;
    const char *folder;
    struct store_repairs done;
};

/* Findings are counted; rows of images that are gone or wrong are taken away, so that the daemon
 * makes them anew. */
static void count(void *ud, const struct store_finding *finding)
{
    struct mending *m = ud;
    long long model, encoder, seq;
    sqlite3_stmt *q;

    m->done.orphans += strcmp(finding->code, "head_orphan") == 0 ||
                       strcmp(finding->code, "encoder_orphan") == 0 ||
                       strcmp(finding->code, "restore_remains") == 0;
    if (strncmp(finding->code, "head_", 5) != 0 || strcmp(finding->code, "head_orphan") == 0 ||
        sscanf(finding->what, "heads/%lld-%lld-%lld.head", &model, &encoder, &seq) != 3)
        return;
    q = store_statement(m->store, STORE_SNAPSHOT_REMOVE);
    sqlite3_bind_int64(q, 1, model);
    sqlite3_bind_int64(q, 2, encoder);
    sqlite3_bind_int64(q, 3, seq);
    m->done.images += store_run(m->store, q) == 0;
}

/* Before the writer's opening sweeps them: how many there are. */
static int count_waste(const char *folder, struct mending *m, char *why, size_t why_bytes)
{
    struct examination x = {.folder = folder, .fn = count, .ud = m};
    int rc = store_open(folder, STORE_READER, why, why_bytes, &x.store);

    if (rc != 0)
        return rc;
    m->store = x.store;
    rc = doctor_files(&x); /* a reader removes no row: only orphans are counted */
    m->done.images = 0;
    store_close(x.store);
    return rc;
}

static int close_to_others(struct mending *m)
{
    static const char *const names[] = {"", "/heads", "/encoders", "/learnd.db"};
    char path[STORE_PATH_BYTES];

    for (int i = 0; i < 4; i++) {
        struct stat st;

        if (snprintf(path, sizeof path, "%s%s", m->folder, names[i]) >= (int)sizeof path)
            return -ENAMETOOLONG;
        if (stat(path, &st) != 0 || (st.st_mode & 07) == 0)
            continue;
        if (chmod(path, st.st_mode & 07770) != 0)
            return -errno;
        m->done.modes++;
    }
    return 0;
}

static int remove_remains(struct mending *m)
{
    char path[STORE_PATH_BYTES];

    if (snprintf(path, sizeof path, "%s/restoring", m->folder) >= (int)sizeof path)
        return -ENAMETOOLONG;
    return store_tree_remove(path);
}

static int drop_images(struct mending *m, const struct store_image_name *bad, uint32_t bad_len)
{
    sqlite3_stmt *q = NULL;
    int rc = 0;

    if (sqlite3_prepare_v2(m->store->db,
                           "DELETE FROM head_snapshot WHERE model = ?1 AND encoder = ?2", -1, &q,
                           NULL) != SQLITE_OK)
        rc = store_fail(m->store);
    for (uint32_t i = 0; i < bad_len && rc == 0; i++) {
        sqlite3_bind_int64(q, 1, bad[i].model);
        sqlite3_bind_int64(q, 2, bad[i].encoder);
        rc = store_run(m->store, q);
        m->done.images += rc == 0 ? (uint64_t)sqlite3_changes(m->store->db) : 0;
    }
    sqlite3_finalize(q);
    return rc;
}

int store_repair(const char *folder, const struct store_image_name *bad, uint32_t bad_len,
                 char *why, size_t why_bytes, struct store_repairs *ret_repairs)
{
    struct mending m = {.folder = folder};
    struct examination x = {.folder = folder, .fn = count, .ud = &m};
    uint64_t orphans;
    int rc = is_free(folder) ? 0 : -EBUSY;

    if (rc != 0)
        snprintf(why, why_bytes, "a learnd is using %.200s: stop it first", folder);
    if (rc == 0)
        rc = count_waste(folder, &m, why, why_bytes);
    if (rc == 0) /* takes the lock, sweeps what is no one's, finishes an erasure */
        rc = store_open(folder, STORE_WRITER, why, why_bytes, &x.store);
    if (rc != 0)
        return rc;
    m.store = x.store;
    orphans = m.done.orphans;
    rc = store_begin(x.store);
    if (rc == 0)
        rc = doctor_files(&x);
    m.done.orphans = orphans;
    if (rc == 0)
        rc = drop_images(&m, bad, bad_len);
    if (rc == 0)
        rc = store_commit(x.store);
    if (rc != 0)
        store_rollback(x.store);
    if (rc == 0) /* files of the rows that went */
        rc = store_snapshot_sweep(x.store, true);
    if (rc == 0)
        rc = store_checkpoint(x.store);
    if (rc != 0)
        snprintf(why, why_bytes, "%.200s: %s", folder, store_why(x.store));
    store_close(x.store);
    if (rc == 0)
        rc = store_say(why, why_bytes, folder, remove_remains(&m));
    if (rc == 0)
        rc = store_say(why, why_bytes, folder, close_to_others(&m));
    if (rc == 0)
        *ret_repairs = m.done;
    return rc;
}
