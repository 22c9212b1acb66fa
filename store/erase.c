/* erase.c -- see erase.h. First the rows, then the files.
 *
 * The scrub rebuilds the database (VACUUM). secure_delete zeroes a row where it lies; what it does
 * not know of is the copy that stays in a page's slack when SQLite balances rows with a neighbour,
 * whole or in part: about one erased text of 1,000 had left one. Looking for copies first is no
 * cheaper way out, since a part can be any part.
 */
#include "store/erase.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/sets.h"

enum {
    BUSY_MS = 200, /* the keeper has others to serve */
    BUSY_MS_USUAL = 5000,
};

/* ---- rows ------------------------------------------------------------------------------------ */

static int set_unscrubbed(struct store *s, bool unscrubbed)
{
    sqlite3_stmt *q = store_statement(s, STORE_UNSCRUBBED_SET);

    s->rebuilt = false;
    sqlite3_bind_int(q, 1, unscrubbed);
    return store_run(s, q);
}

int store_example_forget(struct store *s, int64_t number, const uint8_t id[STORE_ID_BYTES],
                         int64_t model, int64_t first_seq, int64_t seq)
{
    sqlite3_stmt *q = store_statement(s, STORE_KEY_FORGET);
    int rc;

    sqlite3_bind_blob(q, 1, id, STORE_ID_BYTES, SQLITE_STATIC);
    rc = store_run(s, q);
    q = store_statement(s, STORE_EXAMPLE_REMOVE);
    sqlite3_bind_int64(q, 1, number);
    if (rc == 0)
        rc = store_run(s, q);
    q = store_statement(s, STORE_SNAPSHOT_FORGET);
    sqlite3_bind_int64(q, 1, model);
    sqlite3_bind_int64(q, 2, first_seq);
    if (rc == 0)
        rc = store_run(s, q);
    q = store_statement(s, STORE_ERASED_SET);
    sqlite3_bind_int64(q, 1, model);
    sqlite3_bind_int64(q, 2, seq);
    if (rc == 0)
        rc = store_run(s, q);
    return rc == 0 ? set_unscrubbed(s, true) : rc;
}

/* Numbers of the examples that an erasure may touch. */
struct numbers {
    int64_t *all;
    size_t len, max;
};

static int find(struct store *s, const struct store_erase *e, struct numbers *n)
{
    sqlite3_stmt *q = store_statement(s, e->text != NULL        ? STORE_ERASE_TEXT
                                         : e->annotator != NULL ? STORE_ERASE_ANNOTATOR
                                                                : STORE_ERASE_EXAMPLE);
    int rc;

    sqlite3_bind_int64(q, 1, e->model);
    if (e->text != NULL)
        sqlite3_bind_text64(q, 2, e->text, e->text_bytes, SQLITE_STATIC, SQLITE_UTF8);
    else if (e->annotator != NULL)
        sqlite3_bind_text(q, 2, e->annotator, -1, SQLITE_STATIC);
    else
        sqlite3_bind_blob(q, 2, e->example, STORE_ID_BYTES, SQLITE_STATIC);
    if (e->text != NULL && e->pair != NULL)
        sqlite3_bind_text64(q, 3, e->pair, e->pair_bytes, SQLITE_STATIC, SQLITE_UTF8);
    while ((rc = store_step(s, q)) == 1) {
        if (n->len == n->max) {
            size_t max = n->max * 2 + 16;
            int64_t *bigger = realloc(n->all, max * sizeof *bigger);

            if (bigger == NULL) {
                rc = store_fail_file(s, "the examples to erase", ENOMEM);
                break;
            }
            n->all = bigger;
            n->max = max;
        }
        n->all[n->len++] = sqlite3_column_int64(q, 0);
    }
    sqlite3_reset(q);
    return rc;
}

static int touched(struct store *s, struct store_erased *erased, int64_t model, int64_t seq)
{
    struct store_erased_model *bigger;

    for (uint32_t i = 0; i < erased->models_len; i++) {
        if (erased->models[i].model == model) {
            erased->models[i].seq = seq;
            return 0;
        }
    }
    bigger = realloc(erased->models, (erased->models_len + 1) * sizeof *bigger);
    if (bigger == NULL)
        return store_fail_file(s, "the models that were touched", ENOMEM);
    erased->models = bigger;
    bigger[erased->models_len++] = (struct store_erased_model){model, seq};
    return 0;
}

struct erasing {
    int64_t number, model, first_seq;
    uint8_t id[STORE_ID_BYTES];
    uint64_t votes; /* of everybody */
};

/* Reads one example; if it goes, says so to the caller's removed(). */
static int show(struct store *s, const struct store_erase *e, bool goes, struct erasing *x)
{
    sqlite3_stmt *q = store_statement(s, STORE_ERASE_SHOW);
    int rc;

    sqlite3_bind_int64(q, 1, x->number);
    rc = store_step(s, q);
    if (rc == 1) {
        memcpy(x->id, sqlite3_column_blob(q, 0), STORE_ID_BYTES);
        x->model = sqlite3_column_int64(q, 1);
        x->first_seq = sqlite3_column_int64(q, 4);
        x->votes = (uint64_t)sqlite3_column_int64(q, 5);
    }
    if (rc == 1 && goes && e->removed != NULL) {
        const char *text = sqlite3_column_blob(q, 2);

        e->removed(e->ud, x->model, text != NULL ? text : "", (size_t)sqlite3_column_bytes(q, 2));
    }
    sqlite3_reset(q);
    return rc < 0 ? rc : 0;
}

static int add_event(struct store *s, const struct store_erase *e, const struct erasing *x,
                     const char *op, struct store_erased *erased, int64_t *ret_seq)
{
    int rc = store_event_add(s,
                             &(struct store_event_row){.model = x->model,
                                                       .op = op,
                                                       .example = x->id,
                                                       .annotator = "",
                                                       .source = "",
                                                       .request_encoder = -1,
                                                       .request_seq = -1,
                                                       .now_us = e->now_us},
                             ret_seq);

    return rc == 0 ? touched(s, erased, x->model, *ret_seq) : rc;
}

static int remove_one(struct store *s, const struct store_erase *e, struct erasing *x,
                      struct store_erased *erased)
{
    int64_t seq = 0;
    int rc = show(s, e, true, x);

    if (rc == 0)
        rc = add_event(s, e, x, "delete", erased, &seq);
    if (rc == 0)
        rc = store_example_forget(s, x->number, x->id, x->model, x->first_seq, seq);
    erased->examples += rc == 0;
    return rc;
}

/* Has anybody else taught this example? 1, 0 or -errno. */
static int others(struct store *s, const struct store_erase *e, const struct erasing *x)
{
    sqlite3_stmt *q = store_statement(s, STORE_ERASE_OTHERS);
    int rc;

    sqlite3_bind_int64(q, 1, x->number);
    sqlite3_bind_blob(q, 2, x->id, STORE_ID_BYTES, SQLITE_STATIC);
    sqlite3_bind_text(q, 3, e->annotator, -1, SQLITE_STATIC);
    rc = store_step(s, q);
    if (rc == 1)
        rc = sqlite3_column_int(q, 0);
    sqlite3_reset(q);
    return rc;
}

/* Takes an annotator's votes on one example; the example too if nobody else taught it. */
static int leave_one(struct store *s, const struct store_erase *e, struct erasing *x,
                     struct store_erased *erased)
{
    sqlite3_stmt *q;
    int64_t seq = 0;
    bool opinion = false;
    int votes = 0, rc = show(s, e, false, x);

    q = store_statement(s, STORE_VOTE_DROP);
    sqlite3_bind_int64(q, 1, x->number);
    sqlite3_bind_text(q, 2, e->annotator, -1, SQLITE_STATIC);
    if (rc == 0)
        rc = store_run(s, q);
    if (rc == 0) {
        votes = sqlite3_changes(s->db);
        rc = store_opinion_drop(s, x->number, e->annotator, &opinion);
    }
    if (rc == 0) {
        votes += votes == 0 && opinion; /* that it has no label */
        erased->votes += (uint64_t)votes;
        rc = others(s, e, x);
    }
    if (rc == 0)
        return remove_one(s, e, x, erased);
    if (rc < 0 || votes == 0)
        return rc < 0 ? rc : 0;
    rc = add_event(s, e, x, "erase", erased, &seq);
    return rc == 0 ? store_refold(s, x->number, seq) : rc;
}

/* The name, wherever it stands beside what it taught. */
static int unname(struct store *s, const struct store_erase *e)
{
    static const enum store_statement which[] = {STORE_ERASE_KEYS, STORE_ERASE_EVENTS};
    sqlite3_stmt *q;
    int rc = 0;

    for (int i = 0; i < 2 && rc == 0; i++) {
        q = store_statement(s, which[i]);
        sqlite3_bind_int64(q, 1, e->model);
        sqlite3_bind_text(q, 2, e->annotator, -1, SQLITE_STATIC);
        rc = store_run(s, q);
    }
    if (rc != 0 || e->model != 0)
        return rc;
    q = store_statement(s, STORE_ERASE_AUDIT);
    sqlite3_bind_text(q, 1, e->annotator, -1, SQLITE_STATIC);
    return store_run(s, q);
}

/* Who had what erased, as a hash: enough to prove it to one who knows the text. */
static int audit(struct store *s, const struct store_erase *e, const struct store_erased *erased)
{
    sqlite3_stmt *q = store_statement(s, STORE_AUDIT_ADD);
    const char *action = e->text != NULL        ? "erase_text"
                         : e->annotator != NULL ? "erase_annotator"
                                                : "delete_example";
    uint8_t object[STORE_HASH_BYTES];

    if (e->text != NULL)
        store_sha256(e->text, e->text_bytes, object);
    else if (e->annotator != NULL)
        store_sha256(e->annotator, strlen(e->annotator), object);
    sqlite3_bind_int64(q, 1, e->now_us);
    sqlite3_bind_text(q, 2, action, -1, SQLITE_STATIC);
    if (e->model != 0)
        sqlite3_bind_int64(q, 3, e->model);
    if (e->example != NULL)
        sqlite3_bind_blob(q, 4, e->example, STORE_ID_BYTES, SQLITE_STATIC);
    else
        sqlite3_bind_blob(q, 4, object, sizeof object, SQLITE_STATIC);
    sqlite3_bind_text(q, 5, e->who, -1, SQLITE_STATIC);
    sqlite3_bind_int64(q, 6, (int64_t)erased->examples);
    sqlite3_bind_int64(q, 7, (int64_t)erased->votes);
    return store_run(s, q);
}

int store_erase(struct store *s, const struct store_erase *e, struct store_erased *ret_erased)
{
    struct store_erased erased = {0};
    struct numbers n = {0};
    int rc = find(s, e, &n);

    if (rc == 0) /* found or not: it may lie where something else left it, as a removed model */
        rc = set_unscrubbed(s, true);

    for (size_t i = 0; i < n.len && rc == 0; i++) {
        struct erasing x = {.number = n.all[i]};

        if (e->annotator != NULL) {
            rc = leave_one(s, e, &x, &erased);
        } else {
            rc = remove_one(s, e, &x, &erased);
            erased.votes += x.votes;
        }
    }
    free(n.all);
    if (rc == 0 && e->annotator != NULL)
        rc = unname(s, e);
    if (rc == 0)
        rc = audit(s, e, &erased);
    if (rc != 0) {
        store_erased_done(&erased);
        return rc;
    }
    *ret_erased = erased;
    return 0;
}

void store_erased_done(struct store_erased *erased)
{
    free(erased->models);
    *erased = (struct store_erased){0};
}

/* ---- files ----------------------------------------------------------------------------------- */

static int checkpoint(struct store *s)
{
    int rc;

    sqlite3_busy_timeout(s->db, BUSY_MS);
    rc = store_checkpoint(s);
    sqlite3_busy_timeout(s->db, BUSY_MS_USUAL);
    return rc;
}

/* Writes every page anew, so that no slack is left. */
static int rebuild(struct store *s)
{
    if (sqlite3_exec(s->db, "VACUUM", NULL, NULL, NULL) != SQLITE_OK)
        return store_fail(s);
    s->rebuilt = true;
    return store_prepare_transactions(s);
}

static int is_unscrubbed(struct store *s, bool *ret_unscrubbed)
{
    sqlite3_stmt *q = store_statement(s, STORE_UNSCRUBBED);
    int rc = store_step(s, q);

    if (rc == 1)
        *ret_unscrubbed = sqlite3_column_int(q, 0) != 0;
    sqlite3_reset(q);
    return rc < 0 ? rc : 0;
}

static int set_scrubbed(struct store *s)
{
    int rc = store_begin(s);

    if (rc == 0)
        rc = set_unscrubbed(s, false);
    if (rc == 0)
        rc = store_commit(s);
    if (rc != 0)
        store_rollback(s);
    return rc;
}

/* Images are looked for also when another erasure's scrub has done the rest: one that was on its
 * way then may lie there now. The log is emptied before the rebuild, so that a reader who holds it
 * is met before the work. */
int store_scrub(struct store *s)
{
    bool unscrubbed = false;
    int rc = is_unscrubbed(s, &unscrubbed);

    if (rc == 0)
        rc = store_snapshot_sweep(s, false);
    if (rc != 0 || !unscrubbed)
        return rc;
    if (!s->rebuilt) {
        rc = checkpoint(s);
        if (rc == 0)
            rc = rebuild(s);
    }
    if (rc == 0)
        rc = checkpoint(s);
    return rc == 0 ? set_scrubbed(s) : rc;
}

int store_scrub_left(struct store *s)
{
    bool unscrubbed = false;
    int rc = is_unscrubbed(s, &unscrubbed);

    if (rc == 0 && unscrubbed)
        store_scrub(s); /* refused now, it is tried again with the next erasure, or the next start
                         */
    return rc;
}
