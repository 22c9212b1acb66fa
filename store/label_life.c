/* label_life.c -- what becomes of a label: renamed, retired, restored, merged, split, given a
 * threshold and a payload.
 *
 * Each is an event (what it said beside its label stands in label_event), the change of the label's
 * row, and, where votes move or stop counting, the examples that are touched: they are written to
 * event_touch under the event's seq, folded anew and moved to that seq. The journal stays complete:
 * event, label_event and event_touch together replay to the same votes.
 */
#include <errno.h>
#include <string.h>

#include "store/replay.h"
#include "store/store_internal.h"

/* The label is of this model, and as its change needs it. */
static int check(struct store *s, int64_t model, int64_t label, bool active_only, bool *ret_retired)
{
    sqlite3_stmt *q = store_statement(s, STORE_LABEL_STATE);
    bool retired = false, merged = false, own = false;
    int rc;

    sqlite3_bind_int64(q, 1, label);
    rc = store_step(s, q);
    if (rc == 1) {
        retired = sqlite3_column_int(q, 0) != 0;
        merged = sqlite3_column_int64(q, 1) != 0;
        own = sqlite3_column_int64(q, 2) == model;
    }
    sqlite3_reset(q);
    if (rc < 0)
        return rc;
    if (!own)
        return -ENOENT;
    *ret_retired = retired;
    return merged ? -ESTALE : retired && active_only ? -EIDRM : 0;
}

/* What an event of a label says beside it. */
struct saying {
    int64_t other;       /* 0: none */
    const char *name;    /* NULL: none */
    double score_min;    /* negative: none */
    const char *payload; /* NULL: none */
};

static int event(struct store *s, const struct store_label_change *c, const char *op,
                 const struct saying *said, int64_t *ret_seq)
{
    struct store_event_row row = {.model = c->model,
                                  .op = op,
                                  .label = c->label,
                                  .annotator = "",
                                  .source = "",
                                  .request_encoder = -1,
                                  .request_seq = -1,
                                  .now_us = c->now_us};
    sqlite3_stmt *q;
    int rc = store_event_add(s, &row, ret_seq);

    if (rc != 0)
        return rc;
    q = store_statement(s, STORE_LABEL_SEQ);
    sqlite3_bind_int64(q, 1, c->label);
    sqlite3_bind_int64(q, 2, *ret_seq);
    rc = store_run(s, q);
    if (rc != 0 || said == NULL)
        return rc;
    q = store_statement(s, STORE_LABEL_EVENT);
    sqlite3_bind_int64(q, 1, *ret_seq);
    if (said->other != 0)
        sqlite3_bind_int64(q, 2, said->other);
    sqlite3_bind_text(q, 3, said->name, -1, SQLITE_STATIC);
    if (said->score_min >= 0)
        sqlite3_bind_double(q, 4, said->score_min);
    sqlite3_bind_text(q, 5, said->payload, -1, SQLITE_STATIC);
    return store_run(s, q);
}

static int set_status(struct store *s, int64_t label, const char *status, int64_t into)
{
    sqlite3_stmt *q = store_statement(s, STORE_LABEL_STATUS);

    sqlite3_bind_int64(q, 1, label);
    sqlite3_bind_text(q, 2, status, -1, SQLITE_STATIC);
    if (into != 0)
        sqlite3_bind_int64(q, 3, into);
    return store_run(s, q);
}

/* ---- the examples -------------------------------------------------------------------------------
 */

/* All that have a vote on the label: of either sign, or only for it. */
static int touch_voted(struct store *s, int64_t seq, int64_t label, bool either)
{
    sqlite3_stmt *q = store_statement(s, STORE_TOUCH_VOTED);

    sqlite3_bind_int64(q, 1, seq);
    sqlite3_bind_int64(q, 2, label);
    sqlite3_bind_int(q, 3, either ? -1 : 1);
    return store_run(s, q);
}

/* The touched examples' votes on `from` become votes on `to`. */
int store_votes_move(struct store *s, int64_t seq, int64_t from, int64_t to)
{
    static const enum store_statement steps[] = {STORE_MOVE_DROP, STORE_MOVE};
    int rc = 0;

    for (int i = 0; i < 2 && rc == 0; i++) {
        sqlite3_stmt *q = store_statement(s, steps[i]);

        sqlite3_bind_int64(q, 1, seq);
        sqlite3_bind_int64(q, 2, from);
        sqlite3_bind_int64(q, 3, to);
        rc = store_run(s, q);
    }
    return rc;
}

/* The scan reads what refolding does not write: which examples there are, and their numbers. */
static int refold_touched(struct store *s, int64_t seq)
{
    sqlite3_stmt *q = store_statement(s, STORE_TOUCH_SCAN);
    int rc;

    sqlite3_bind_int64(q, 1, seq);
    while ((rc = store_step(s, q)) == 1) {
        rc = store_refold(s, sqlite3_column_int64(q, 0), seq);
        if (rc != 0)
            break;
    }
    sqlite3_reset(q);
    return rc;
}

/* ---- names and settings -------------------------------------------------------------------------
 */

static int alias(struct store *s, enum store_statement which, int64_t model, const char *name,
                 int64_t label)
{
    sqlite3_stmt *q = store_statement(s, which);

    sqlite3_bind_int64(q, 1, model);
    sqlite3_bind_text(q, 2, name, -1, SQLITE_STATIC);
    if (which == STORE_ALIAS_ADD)
        sqlite3_bind_int64(q, 3, label);
    return store_run(s, q);
}

static int check_aliases(struct store *s, int64_t label)
{
    sqlite3_stmt *q = store_statement(s, STORE_ALIAS_COUNT);
    int64_t len = 0;
    int rc;

    sqlite3_bind_int64(q, 1, label);
    rc = store_step(s, q);
    if (rc == 1)
        len = sqlite3_column_int64(q, 0);
    sqlite3_reset(q);
    return rc < 0 ? rc : len >= STORE_ALIASES_MAX ? -EMLINK : 0;
}

/* The name becomes the label's, and the one it had an alias. */
static int rename_row(struct store *s, const struct store_label_change *c, const char *old,
                      const char *name)
{
    sqlite3_stmt *q;
    int rc = alias(s, STORE_ALIAS_REMOVE, c->model, name, 0); /* if it was one of its own */

    if (rc == 0)
        rc = check_aliases(s, c->label);
    if (rc == 0)
        rc = alias(s, STORE_ALIAS_ADD, c->model, old, c->label);
    if (rc != 0)
        return rc;
    q = store_statement(s, STORE_LABEL_RENAME);
    sqlite3_bind_int64(q, 1, c->label);
    sqlite3_bind_text(q, 2, name, -1, SQLITE_STATIC);
    return store_run(s, q);
}

int store_label_rename(struct store *s, const struct store_label_change *c, const char *name,
                       int64_t *ret_seq, const char **ret_field)
{
    char old[STORE_NAME_BYTES_MAX + 1];
    int64_t owner = 0;
    bool retired;
    int rc = check(s, c->model, c->label, false, &retired);

    *ret_field = "label";
    if (rc == 0)
        rc = store_label_name(s, c->label, old);
    if (rc != 0)
        return rc;
    *ret_field = "name";
    if (strcmp(old, name) == 0) {
        *ret_seq = 0;
        return 0;
    }
    rc = store_label_named(s, c->model, name, &owner);
    if (rc == 0 && owner != c->label)
        return -EEXIST;
    if (rc != 0 && rc != -ENOENT)
        return rc;
    rc = rename_row(s, c, old, name);
    return rc != 0 ? rc
                   : event(s, c, "label_rename", &(struct saying){.name = name, .score_min = -1},
                           ret_seq);
}

int store_label_set(struct store *s, const struct store_label_change *c, double score_min,
                    const char *payload, int64_t *ret_seq, const char **ret_field)
{
    sqlite3_stmt *q;
    bool retired;
    int rc = check(s, c->model, c->label, false, &retired);

    *ret_field = "label";
    if (rc != 0)
        return rc;
    q = store_statement(s, STORE_LABEL_SET);
    sqlite3_bind_int64(q, 1, c->label);
    if (score_min >= 0)
        sqlite3_bind_double(q, 2, score_min);
    sqlite3_bind_text(q, 3, payload, -1, SQLITE_STATIC);
    rc = store_run(s, q);
    return rc != 0 ? rc
                   : event(s, c, "label_set",
                           &(struct saying){.score_min = score_min, .payload = payload}, ret_seq);
}

/* ---- retire and restore -------------------------------------------------------------------------
 */

static int turn(struct store *s, const struct store_label_change *c, bool retire, int64_t *ret_seq,
                const char **ret_field)
{
    bool retired = false;
    int rc = check(s, c->model, c->label, false, &retired);

    *ret_field = "label";
    if (rc == 0 && retired == retire)
        rc = -EALREADY;
    if (rc == 0)
        rc = event(s, c, retire ? "label_retire" : "label_restore", NULL, ret_seq);
    if (rc == 0)
        rc = set_status(s, c->label, retire ? "retired" : "active", 0);
    if (rc == 0)
        rc = touch_voted(s, *ret_seq, c->label, false);
    return rc == 0 ? refold_touched(s, *ret_seq) : rc;
}

int store_label_retire(struct store *s, const struct store_label_change *c, int64_t *ret_seq,
                       const char **ret_field)
{
    return turn(s, c, true, ret_seq, ret_field);
}

int store_label_restore(struct store *s, const struct store_label_change *c, int64_t *ret_seq,
                        const char **ret_field)
{
    return turn(s, c, false, ret_seq, ret_field);
}

/* ---- merge and split ----------------------------------------------------------------------------
 */

/* Both labels are active, and two. */
static int check_pair(struct store *s, const struct store_label_change *c, int64_t other,
                      const char *other_field, const char **ret_field)
{
    bool retired;
    int rc = check(s, c->model, c->label, true, &retired);

    *ret_field = "label";
    if (rc != 0)
        return rc;
    *ret_field = other_field;
    return other == c->label ? -ELOOP : check(s, c->model, other, true, &retired);
}

int store_label_merge(struct store *s, const struct store_label_change *c, int64_t into,
                      int64_t *ret_seq, const char **ret_field)
{
    int rc = check_pair(s, c, into, "into", ret_field);

    if (rc == 0)
        rc = event(s, c, "label_merge", &(struct saying){.other = into, .score_min = -1}, ret_seq);
    if (rc == 0)
        rc = set_status(s, c->label, "merged", into);
    if (rc == 0)
        rc = touch_voted(s, *ret_seq, c->label, true);
    if (rc == 0)
        rc = store_votes_move(s, *ret_seq, c->label, into);
    return rc == 0 ? refold_touched(s, *ret_seq) : rc;
}

/* An id of this model's examples; touched if it has a vote on the label. */
static int touch_one(struct store *s, const struct store_label_change *c, int64_t seq,
                     const uint8_t id[STORE_ID_BYTES])
{
    sqlite3_stmt *q = store_statement(s, STORE_EXAMPLE_NUMBER);
    bool own;
    int rc;

    sqlite3_bind_blob(q, 1, id, STORE_ID_BYTES, SQLITE_STATIC);
    rc = store_step(s, q);
    own = rc == 1 && sqlite3_column_int64(q, 1) == c->model;
    sqlite3_reset(q);
    if (rc < 0)
        return rc;
    if (!own)
        return -ENOENT;
    q = store_statement(s, STORE_TOUCH_ONE);
    sqlite3_bind_int64(q, 1, seq);
    sqlite3_bind_int64(q, 2, c->label);
    sqlite3_bind_blob(q, 3, id, STORE_ID_BYTES, SQLITE_STATIC);
    rc = store_run(s, q);
    return rc != 0 ? rc : sqlite3_changes(s->db) > 0 ? 0 : -EDOM;
}

int store_label_split(struct store *s, const struct store_label_change *c, int64_t to,
                      const uint8_t (*examples)[STORE_ID_BYTES], uint32_t examples_len,
                      int64_t *ret_seq, const char **ret_field, uint32_t *ret_bad)
{
    int rc = check_pair(s, c, to, "to", ret_field);

    if (rc == 0)
        rc = event(s, c, "label_split", &(struct saying){.other = to, .score_min = -1}, ret_seq);
    if (rc != 0)
        return rc;
    *ret_field = "examples";
    for (uint32_t i = 0; i < examples_len && rc == 0; i++) {
        *ret_bad = i;
        rc = touch_one(s, c, *ret_seq, examples[i]);
    }
    if (rc == 0)
        rc = store_votes_move(s, *ret_seq, c->label, to);
    return rc == 0 ? refold_touched(s, *ret_seq) : rc;
}
