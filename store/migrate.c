/* migrate.c -- the schema, as numbered steps. A database remembers the last step it took
 * (user_version); each step is one transaction. Steps are never edited once released: the next
 * change is the next step.
 */
#include <errno.h>
#include <stdio.h>

#include "store/store_internal.h"

static const char *const steps[] = {
    "CREATE TABLE meta(probes INTEGER NOT NULL);"
    "INSERT INTO meta VALUES(0);"
    "CREATE TABLE model("
    " id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,"
    " settings TEXT NOT NULL, created_us INTEGER NOT NULL,"
    " seq INTEGER NOT NULL DEFAULT 0);" /* last event */
    "CREATE TABLE label("
    " id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " model INTEGER NOT NULL REFERENCES model(id) ON DELETE CASCADE, name TEXT NOT NULL,"
    " status TEXT NOT NULL DEFAULT 'active', into_label INTEGER REFERENCES label(id),"
    " created_us INTEGER NOT NULL, UNIQUE(model, name));"
    /* The journal. It holds no text. */
    "CREATE TABLE event("
    " seq INTEGER PRIMARY KEY AUTOINCREMENT,"
    " model INTEGER NOT NULL REFERENCES model(id) ON DELETE CASCADE, op TEXT NOT NULL,"
    " example BLOB, label INTEGER REFERENCES label(id) ON DELETE CASCADE, weight REAL NOT NULL,"
    " annotator TEXT NOT NULL, source TEXT NOT NULL, request_encoder INTEGER NOT NULL,"
    " request_seq INTEGER NOT NULL, created_us INTEGER NOT NULL);"
    "CREATE INDEX event_model ON event(model, seq);"
    "CREATE INDEX event_example ON event(example, seq) WHERE example IS NOT NULL;"
    "CREATE INDEX event_label ON event(label) WHERE label IS NOT NULL;"
    "CREATE TABLE idempotency("
    " model INTEGER NOT NULL REFERENCES model(id) ON DELETE CASCADE, key TEXT NOT NULL,"
    " body_hash BLOB NOT NULL, example BLOB NOT NULL, seq INTEGER NOT NULL,"
    " PRIMARY KEY(model, key)) WITHOUT ROWID;"
    /* The fold of the journal. */
    "CREATE TABLE example("
    " number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE,"
    " model INTEGER NOT NULL REFERENCES model(id) ON DELETE CASCADE, text TEXT NOT NULL, pair TEXT,"
    " status TEXT NOT NULL,"
    " label INTEGER REFERENCES label(id) ON DELETE SET NULL," /* strongest target; NULL: none */
    " weight REAL NOT NULL, annotators INTEGER NOT NULL, first_seq INTEGER NOT NULL,"
    " last_seq INTEGER NOT NULL, created_us INTEGER NOT NULL);"
    "CREATE INDEX example_model ON example(model, first_seq);"
    "CREATE INDEX example_label ON example(model, label);"
    "CREATE INDEX example_label_only ON example(label);"
    "CREATE TABLE vote("
    " example INTEGER NOT NULL REFERENCES example(number) ON DELETE CASCADE,"
    " annotator TEXT NOT NULL, sign INTEGER NOT NULL,"
    " label INTEGER NOT NULL REFERENCES label(id) ON DELETE CASCADE, weight REAL NOT NULL,"
    " PRIMARY KEY(example, annotator, sign, label)) WITHOUT ROWID;"
    "CREATE INDEX vote_label ON vote(label);"
    "CREATE TABLE embedding("
    " example INTEGER NOT NULL REFERENCES example(number) ON DELETE CASCADE,"
    " encoder INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY(example, encoder));"
    "CREATE TABLE head_snapshot("
    " model INTEGER NOT NULL REFERENCES model(id) ON DELETE CASCADE, encoder INTEGER NOT NULL,"
    " seq INTEGER NOT NULL, sha256 BLOB NOT NULL, PRIMARY KEY(model, encoder, seq)) WITHOUT ROWID;"
    "CREATE TABLE encoder_version("
    " id INTEGER PRIMARY KEY, sha256 BLOB NOT NULL UNIQUE, state TEXT NOT NULL,"
    " created_us INTEGER NOT NULL);",
    /* Labels that change: their last event, thresholds, payloads and old names; what a label event
     * said beside its label, and which examples it touched; and since when a vote stands, so that
     * the last word on two labels that become one is known. */
    "ALTER TABLE label ADD COLUMN seq INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE label ADD COLUMN score_min REAL;"
    "ALTER TABLE label ADD COLUMN payload TEXT;"
    "UPDATE label SET seq = ifnull((SELECT max(e.seq) FROM event e WHERE e.label = label.id"
    " AND e.op = 'label_add'), 0);"
    "CREATE INDEX label_seq ON label(model, seq);"
    "CREATE INDEX label_into ON label(into_label) WHERE into_label IS NOT NULL;"
    "CREATE TABLE label_alias("
    " model INTEGER NOT NULL REFERENCES model(id) ON DELETE CASCADE, name TEXT NOT NULL,"
    " label INTEGER NOT NULL REFERENCES label(id) ON DELETE CASCADE,"
    " PRIMARY KEY(model, name)) WITHOUT ROWID;"
    "CREATE INDEX label_alias_label ON label_alias(label);"
    "CREATE TABLE label_event("
    " seq INTEGER PRIMARY KEY REFERENCES event(seq) ON DELETE CASCADE,"
    " other INTEGER REFERENCES label(id) ON DELETE CASCADE," /* merged into, split to */
    " name TEXT, score_min REAL, payload TEXT);"             /* name: added, renamed to */
    "INSERT INTO label_event(seq, name) SELECT e.seq, l.name FROM event e JOIN label l"
    " ON l.id = e.label WHERE e.op = 'label_add';"
    "CREATE INDEX label_event_other ON label_event(other) WHERE other IS NOT NULL;"
    "CREATE TABLE event_touch("
    " seq INTEGER NOT NULL REFERENCES event(seq) ON DELETE CASCADE, example BLOB NOT NULL,"
    " PRIMARY KEY(seq, example)) WITHOUT ROWID;"
    "ALTER TABLE vote ADD COLUMN seq INTEGER NOT NULL DEFAULT 0;"
    "UPDATE vote SET seq = ifnull((SELECT max(e.seq) FROM event e WHERE e.example ="
    " (SELECT id FROM example x WHERE x.number = vote.example) AND e.annotator = vote.annotator"
    " AND e.label = vote.label), 0);",
    /* The few examples that several annotators have voted on. */
    "CREATE INDEX example_several ON example(model) WHERE annotators > 1;",
    /* Erasing: what was done for whom, and which of it is still in slack, log or images. */
    "ALTER TABLE meta ADD COLUMN unscrubbed INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE model ADD COLUMN erased_seq INTEGER NOT NULL DEFAULT 0;"
    "CREATE INDEX idempotency_example ON idempotency(example);"
    "CREATE TABLE audit("
    " number INTEGER PRIMARY KEY AUTOINCREMENT, t_us INTEGER NOT NULL, action TEXT NOT NULL,"
    " model INTEGER," /* NULL: all. It may be gone */
    " object BLOB NOT NULL, who TEXT NOT NULL, examples INTEGER NOT NULL,"
    " votes INTEGER NOT NULL);",
    /* Of examples without a text: what was taught, not a cache. fp16. */
    "CREATE TABLE vector("
    " example INTEGER PRIMARY KEY REFERENCES example(number) ON DELETE CASCADE,"
    " data BLOB NOT NULL);",
    /* Models of kind multi. Whoever said which labels a text has said so by a row here, also when
     * it has none; the labels are the annotator's votes. */
    "CREATE TABLE opinion("
    " example INTEGER NOT NULL REFERENCES example(number) ON DELETE CASCADE,"
    " annotator TEXT NOT NULL, weight REAL NOT NULL, PRIMARY KEY(example, annotator)) WITHOUT "
    "ROWID;"
    /* Labels of a target beside its strongest, which stands in example. */
    "CREATE TABLE example_also("
    " example INTEGER NOT NULL REFERENCES example(number) ON DELETE CASCADE,"
    " label INTEGER NOT NULL REFERENCES label(id) ON DELETE CASCADE,"
    " PRIMARY KEY(example, label)) WITHOUT ROWID;"
    "CREATE INDEX example_also_label ON example_also(label);"
    /* Of an event that named several labels, or none: all of them. */
    "CREATE TABLE event_set("
    " seq INTEGER NOT NULL REFERENCES event(seq) ON DELETE CASCADE,"
    " label INTEGER NOT NULL REFERENCES label(id) ON DELETE CASCADE,"
    " PRIMARY KEY(seq, label)) WITHOUT ROWID;"
    "CREATE INDEX event_set_label ON event_set(label);",
    /* Encoders of a model's own: runs make them, the log says since when each was live. Their rows
     * outlive the model, so that a number is never given twice. */
    "CREATE TABLE run("
    " id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " model INTEGER NOT NULL REFERENCES model(id) ON DELETE CASCADE, strategy TEXT NOT NULL,"
    " settings TEXT NOT NULL, seed INTEGER NOT NULL, from_seq INTEGER NOT NULL DEFAULT 0,"
    " since_seq INTEGER NOT NULL, parent INTEGER NOT NULL, encoder INTEGER NOT NULL DEFAULT -1,"
    " state TEXT NOT NULL DEFAULT 'queued' CHECK(state IN ('queued', 'running', 'accepted',"
    " 'refused', 'failed', 'cancelled')), phase TEXT NOT NULL DEFAULT 'waiting',"
    " step INTEGER NOT NULL DEFAULT 0, steps INTEGER NOT NULL DEFAULT 0,"
    " cancel INTEGER NOT NULL DEFAULT 0, progress TEXT NOT NULL DEFAULT '', verdict TEXT,"
    " reason TEXT NOT NULL DEFAULT '', who TEXT NOT NULL, created_us INTEGER NOT NULL,"
    " started_us INTEGER NOT NULL DEFAULT 0, ended_us INTEGER NOT NULL DEFAULT 0,"
    " updated_us INTEGER NOT NULL);"
    "CREATE INDEX run_model ON run(model, id);"
    "CREATE UNIQUE INDEX run_one ON run(model) WHERE state IN ('queued', 'running');"
    "CREATE TABLE run_metric("
    " run INTEGER NOT NULL REFERENCES run(id) ON DELETE CASCADE, step INTEGER NOT NULL,"
    " loss REAL, grad_norm REAL, lr REAL, t_us INTEGER NOT NULL," /* NULL: not a finite number */
    " PRIMARY KEY(run, step)) WITHOUT ROWID;"
    "ALTER TABLE encoder_version RENAME TO encoder_before;"
    "CREATE TABLE encoder_version("
    " id INTEGER PRIMARY KEY, model INTEGER," /* NULL: the base. It may be gone */
    " parent INTEGER NOT NULL DEFAULT -1, run INTEGER NOT NULL DEFAULT -1,"
    " origin TEXT NOT NULL, state TEXT NOT NULL CHECK(state IN ('base', 'candidate', 'live',"
    " 'held', 'refused', 'removed')), dim INTEGER NOT NULL DEFAULT 0, sha256 BLOB NOT NULL,"
    " created_us INTEGER NOT NULL);"
    "CREATE INDEX encoder_version_model ON encoder_version(model);"
    "INSERT INTO encoder_version(id, origin, state, sha256, created_us)"
    " SELECT id, 'base', 'base', sha256, created_us FROM encoder_before;"
    "DROP TABLE encoder_before;"
    "CREATE TABLE live_encoder("
    " number INTEGER PRIMARY KEY, model INTEGER NOT NULL REFERENCES model(id) ON DELETE CASCADE,"
    " t_us INTEGER NOT NULL, seq INTEGER NOT NULL, encoder INTEGER NOT NULL, run INTEGER NOT NULL,"
    " reason TEXT NOT NULL);"
    "CREATE INDEX live_encoder_model ON live_encoder(model);"
    "CREATE INDEX live_encoder_encoder ON live_encoder(encoder);"
    "ALTER TABLE model ADD COLUMN encoder INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE model ADD COLUMN live_us INTEGER NOT NULL DEFAULT 0;"
    "UPDATE model SET live_us = created_us;"
    "INSERT INTO live_encoder(model, t_us, seq, encoder, run, reason)"
    " SELECT id, created_us, 0, 0, -1, 'created' FROM model;",
    /* Keys, as hashes, and the trail of who changed what. A key's row outlives it for the trail,
     * which names keys that are no rows too (0: none, -1: the operator's file). */
    "CREATE TABLE api_key("
    " id INTEGER PRIMARY KEY AUTOINCREMENT, sha256 BLOB NOT NULL UNIQUE, name TEXT NOT NULL,"
    " role TEXT NOT NULL CHECK(role IN ('predict', 'annotate', 'admin')),"
    " rate_per_s REAL NOT NULL, created_us INTEGER NOT NULL, expires_us INTEGER NOT NULL,"
    " revoked_us INTEGER NOT NULL DEFAULT 0, used_us INTEGER NOT NULL DEFAULT 0,"
    " requests INTEGER NOT NULL DEFAULT 0, corrections INTEGER NOT NULL DEFAULT 0);"
    "CREATE UNIQUE INDEX api_key_name ON api_key(name) WHERE revoked_us = 0;"
    "CREATE TABLE act("
    " number INTEGER PRIMARY KEY AUTOINCREMENT, t_us INTEGER NOT NULL, key INTEGER NOT NULL,"
    " peer INTEGER NOT NULL, action TEXT NOT NULL, object TEXT NOT NULL, request TEXT NOT NULL,"
    " address TEXT NOT NULL);",
};

enum { STEPS = sizeof steps / sizeof *steps };

int store_version_known(void)
{
    return STEPS;
}

static int version_of(struct store *s, int *ret_version)
{
    sqlite3_stmt *statement;
    int rc;

    if (sqlite3_prepare_v2(s->db, "PRAGMA user_version", -1, &statement, NULL) != SQLITE_OK)
        return store_fail(s);
    rc = store_step(s, statement);
    if (rc == 1)
        *ret_version = sqlite3_column_int(statement, 0);
    sqlite3_finalize(statement);
    return rc < 0 ? rc : 0;
}

static int take_step(struct store *s, int step)
{
    char after[64];
    int rc = store_begin(s);

    if (rc != 0)
        return rc;
    snprintf(after, sizeof after, "PRAGMA user_version=%d", step + 1);
    if (sqlite3_exec(s->db, steps[step], NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_exec(s->db, after, NULL, NULL, NULL) != SQLITE_OK)
        rc = store_fail(s);
    if (rc == 0)
        rc = store_commit(s);
    if (rc != 0)
        store_rollback(s);
    return rc;
}

int store_migrate(struct store *s)
{
    int version = 0, rc = version_of(s, &version);

    if (rc == 0 && version > STEPS) {
        snprintf(s->why, sizeof s->why,
                 "the database is of version %d, and this program knows versions up to %d", version,
                 STEPS);
        return -EUCLEAN;
    }
    if (rc == 0 && s->mode == STORE_READER && version < STEPS) {
        snprintf(s->why, sizeof s->why, "the database has not been set up yet");
        return -ESTALE;
    }
    for (; rc == 0 && version < STEPS; version++)
        rc = take_step(s, version);
    return rc;
}
