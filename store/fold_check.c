/* fold_check.c -- is what stands in vote, opinion and example the fold of the journal?
 *
 * The journal is replayed from its first event into temporary tables called vote and opinion.
 * SQLite looks for a name there first, so the statements that write votes every day, and those that
 * fold them, do the replay unchanged, and the real tables are only read, as main.vote. What is
 * compared: every vote, every example's state, and the counts.
 *
 * Events of examples that were deleted are passed over: nothing of them is left to compare.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/doctor_internal.h"
#include "store/replay.h"

static int fail(struct examination *x, sqlite3_stmt *q)
{
    sqlite3_finalize(q);
    return store_fail(x->store);
}

/* The first column of the first row; none: 0. */
static int read_number(struct examination *x, const char *sql, int64_t *ret_number)
{
    sqlite3_stmt *q = NULL;
    int rc;

    if (sqlite3_prepare_v2(x->store->db, sql, -1, &q, NULL) != SQLITE_OK)
        return fail(x, q);
    rc = store_step(x->store, q);
    *ret_number = rc == 1 ? sqlite3_column_int64(q, 0) : 0;
    sqlite3_finalize(q);
    return rc < 0 ? rc : 0;
}

/* ---- the replay ------------------------------------------------------------------------------ */

static int make_tables(struct examination *x)
{
    static const char sql[] =
        "PRAGMA query_only=OFF; PRAGMA temp_store=MEMORY;"
        "CREATE TEMP TABLE vote(example INTEGER, annotator TEXT, sign INTEGER, label INTEGER,"
        " weight REAL, seq INTEGER, PRIMARY KEY(example, annotator, sign, label)) WITHOUT ROWID;"
        "CREATE INDEX temp.vote_of_label ON vote(label);"
        "CREATE TEMP TABLE opinion(example INTEGER, annotator TEXT, weight REAL,"
        " PRIMARY KEY(example, annotator)) WITHOUT ROWID;";

    return sqlite3_exec(x->store->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0
                                                                          : store_fail(x->store);
}

struct labels {
    int64_t *ids;
    uint32_t len, max;
    sqlite3_stmt *of_event;
};

static int add_label(struct labels *l, int64_t id)
{
    if (l->len == l->max) {
        uint32_t max = l->max * 2 + 16;
        int64_t *bigger = realloc(l->ids, max * sizeof *bigger);

        if (bigger == NULL)
            return -ENOMEM;
        l->ids = bigger;
        l->max = max;
    }
    l->ids[l->len++] = id;
    return 0;
}

/* One is in the event's row, several stand beside it. */
static int read_labels(struct examination *x, struct labels *l, int64_t seq, int64_t one)
{
    int rc = one != 0 ? add_label(l, one) : 0;

    if (one != 0)
        return rc;
    sqlite3_bind_int64(l->of_event, 1, seq);
    while ((rc = store_step(x->store, l->of_event)) == 1) {
        rc = add_label(l, sqlite3_column_int64(l->of_event, 0));
        if (rc != 0)
            break;
    }
    sqlite3_reset(l->of_event);
    return rc;
}

/* Columns: seq, op, label, weight, annotator, the example's number or NULL, multi, other. */
static int replay_event(struct examination *x, sqlite3_stmt *q, struct labels *l)
{
    static const char *const ops[] = {"label", "reject", "withdraw", "delete"};
    const char *op = (const char *)sqlite3_column_text(q, 1);
    const char *annotator = (const char *)sqlite3_column_text(q, 4);
    struct store_replay r = {.number = sqlite3_column_int64(q, 5),
                             .seq = sqlite3_column_int64(q, 0),
                             .weight = sqlite3_column_double(q, 3),
                             .annotator = annotator,
                             .multi = sqlite3_column_int(q, 6) != 0};
    int rc = 0;

    if (op == NULL || annotator == NULL)
        return -ENOMEM;
    if (strcmp(op, "label_merge") == 0 || strcmp(op, "label_split") == 0)
        return store_votes_move(x->store, r.seq, sqlite3_column_int64(q, 2),
                                sqlite3_column_int64(q, 7));
    for (int i = 0; i < 4; i++) {
        if (strcmp(op, ops[i]) != 0 || r.number == 0)
            continue;
        r.op = (enum store_op)i;
        l->len = 0;
        if (r.op == STORE_LABEL || r.op == STORE_REJECT)
            rc = read_labels(x, l, r.seq, sqlite3_column_int64(q, 2));
        r.labels = l->ids;
        r.labels_len = l->len;
        return rc == 0 ? store_votes_replay(x->store, &r) : rc;
    }
    return 0;
}

static int replay(struct examination *x)
{
    static const char sql[] =
        "SELECT e.seq, e.op, e.label, e.weight, e.annotator, n.number, m.kind = 'multi', l.other"
        " FROM event e JOIN model m ON m.id = e.model"
        " LEFT JOIN example n ON n.id = e.example AND n.model = e.model"
        " LEFT JOIN label_event l ON l.seq = e.seq ORDER BY e.seq";
    struct labels l = {0};
    sqlite3_stmt *q = NULL;
    int rc;

    if (sqlite3_prepare_v2(x->store->db, sql, -1, &q, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(x->store->db, "SELECT label FROM event_set WHERE seq = ?1", -1,
                           &l.of_event, NULL) != SQLITE_OK)
        return fail(x, q);
    while ((rc = store_step(x->store, q)) == 1) {
        rc = replay_event(x, q, &l);
        if (rc != 0)
            break;
    }
    free(l.ids);
    sqlite3_finalize(l.of_event);
    sqlite3_finalize(q);
    return rc;
}

/* ---- comparing ------------------------------------------------------------------------------- */

/* What there should be none of. */
struct bad_count {
    const char *sql, *what;
};

static int tell_counts(struct examination *x, enum doctor_code code, const struct bad_count *counts,
                       size_t len)
{
    int rc = 0;

    for (size_t i = 0; i < len && rc == 0; i++) {
        int64_t n = 0;

        rc = read_number(x, counts[i].sql, &n);
        if (rc == 0 && n > 0)
            doctor_tell(x, code, "%lld %s", (long long)n, counts[i].what);
    }
    return rc;
}

/* Votes that stand on one side only. */
static int compare_votes(struct examination *x)
{
    static const struct bad_count sides[] = {
        {"SELECT count(*) FROM (SELECT example, annotator, sign, label, weight FROM main.vote"
         " EXCEPT SELECT example, annotator, sign, label, weight FROM temp.vote)",
         "votes stand that no event of the journal gave"},
        {"SELECT count(*) FROM (SELECT example, annotator, sign, label, weight FROM temp.vote"
         " EXCEPT SELECT example, annotator, sign, label, weight FROM main.vote)",
         "votes of the journal do not stand"},
        {"SELECT count(*) FROM (SELECT example, annotator, weight FROM main.opinion"
         " EXCEPT SELECT example, annotator, weight FROM temp.opinion)",
         "opinions stand that no event of the journal gave"},
        {"SELECT count(*) FROM (SELECT example, annotator, weight FROM temp.opinion"
         " EXCEPT SELECT example, annotator, weight FROM main.opinion)",
         "opinions of the journal do not stand"},
    };

    return tell_counts(x, DOCTOR_FOLD_VOTES, sides, sizeof sides / sizeof *sides);
}

/* The further labels of a target of kind multi: as many as the fold has beside its strongest, each
 * one of them. */
static bool also_fits(struct examination *x, sqlite3_stmt *also, int64_t number,
                      const struct store_fold *fold, int64_t best)
{
    uint32_t stand = 0, want = fold->set && fold->target_len > 0 ? fold->target_len - 1 : 0;
    bool fits = true;

    sqlite3_bind_int64(also, 1, number);
    while (store_step(x->store, also) == 1) {
        bool in = false;

        for (uint32_t i = 0; i < fold->target_len; i++)
            in |= fold->target[i].label == sqlite3_column_int64(also, 0) &&
                  fold->target[i].label != best;
        fits &= in;
        stand++;
    }
    sqlite3_reset(also);
    return fits && stand == want;
}

/* Columns: number, status, label, weight, annotators. The temporary votes are folded, as
 * store_refold does. */
static int example_fits(struct examination *x, sqlite3_stmt *q, sqlite3_stmt *also, bool *ret_fits)
{
    const char *status = (const char *)sqlite3_column_text(q, 1), *want;
    struct store_fold fold;
    int64_t best = 0;
    double share = -1;
    int rc = store_fold_read(x->store, sqlite3_column_int64(q, 0), &fold);

    if (rc != 0)
        return rc;
    for (uint32_t i = 0; i < fold.target_len; i++) {
        if (fold.target[i].value > share) {
            share = fold.target[i].value;
            best = fold.target[i].label;
        }
    }
    want = fold.target_len > 0 || fold.set ? "active"
           : fold.retired                  ? "retired"
           : fold.votes > 0                ? "rejected"
                                           : "withdrawn";
    *ret_fits = status != NULL && strcmp(status, want) == 0 && sqlite3_column_int64(q, 2) == best &&
                fabs(sqlite3_column_double(q, 3) - fold.weight) <= 1e-12 * fabs(fold.weight) &&
                sqlite3_column_int64(q, 4) == (int64_t)fold.annotators &&
                also_fits(x, also, sqlite3_column_int64(q, 0), &fold, best);
    store_fold_done(&fold);
    return 0;
}

static int compare_examples(struct examination *x)
{
    sqlite3_stmt *q = NULL, *also = NULL;
    uint64_t bad = 0;
    char first[2 * STORE_ID_BYTES + 1] = "";
    int rc;

    if (sqlite3_prepare_v2(x->store->db,
                           "SELECT number, status, label, weight, annotators, lower(hex(id))"
                           " FROM example",
                           -1, &q, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(x->store->db, "SELECT label FROM example_also WHERE example = ?1", -1,
                           &also, NULL) != SQLITE_OK) {
        sqlite3_finalize(also);
        return fail(x, q);
    }
    while ((rc = store_step(x->store, q)) == 1) {
        bool fits;

        rc = example_fits(x, q, also, &fits);
        if (rc != 0)
            break;
        if (!fits && bad++ == 0 && sqlite3_column_text(q, 5) != NULL)
            snprintf(first, sizeof first, "%s", (const char *)sqlite3_column_text(q, 5));
    }
    sqlite3_finalize(q);
    sqlite3_finalize(also);
    if (rc == 0 && bad > 0)
        doctor_tell(x, DOCTOR_FOLD_EXAMPLE,
                    "%llu examples are not what their votes make of them; the first is %s",
                    (unsigned long long)bad, first);
    return rc;
}

static int compare_counts(struct examination *x)
{
    static const struct bad_count counts[] = {
        {"SELECT count(*) FROM model m WHERE seq <>"
         " (SELECT ifnull(max(e.seq), 0) FROM event e WHERE e.model = m.id)",
         "models whose last event is not their journal's"},
        {"SELECT count(*) FROM example e WHERE NOT EXISTS"
         "(SELECT 1 FROM event v WHERE v.example = e.id)",
         "examples of which the journal knows nothing"},
        {"SELECT count(*) FROM example e JOIN model m ON m.id = e.model"
         " WHERE first_seq > last_seq OR last_seq > m.seq OR first_seq < 1",
         "examples whose events are not in order"},
        {"SELECT count(*) FROM label l WHERE seq > (SELECT seq FROM model m WHERE m.id = l.model)",
         "labels of an event that is not there"},
    };

    return tell_counts(x, DOCTOR_FOLD_COUNTS, counts, sizeof counts / sizeof *counts);
}

int doctor_fold(struct examination *x)
{
    int rc = make_tables(x);

    if (rc == 0)
        rc = replay(x);
    if (rc == 0)
        rc = compare_votes(x);
    if (rc == 0)
        rc = compare_examples(x);
    return rc == 0 ? compare_counts(x) : rc;
}
