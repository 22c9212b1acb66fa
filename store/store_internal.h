/* store_internal.h -- one connection: its statements and its errors. Private to store/. */
#ifndef LEARND_STORE_INTERNAL_H
#define LEARND_STORE_INTERNAL_H

#include <sqlite3.h>

#include "store/erase_statements.h"
#include "store/key_statements.h"
#include "store/label_statements.h"
#include "store/run_statements.h"
#include "store/set_statements.h"
#include "store/store.h"

/* Every statement of the store, prepared when first used and kept. */
#define STORE_STATEMENTS(X)                                                                        \
    X(BEGIN_WRITE, "BEGIN IMMEDIATE")                                                              \
    X(BEGIN_READ, "BEGIN")                                                                         \
    X(COMMIT, "COMMIT")                                                                            \
    X(ROLLBACK, "ROLLBACK")                                                                        \
    X(MARK, "SAVEPOINT mark")                                                                      \
    X(MARK_KEEP, "RELEASE mark")                                                                   \
    X(MARK_UNDO, "ROLLBACK TO mark")                                                               \
    X(PROBE, "UPDATE meta SET probes = probes + 1")                                                \
    X(MODEL_ADD, "INSERT INTO model(name, kind, settings, created_us, live_us)"                    \
                 " VALUES(?1, ?2, ?3, ?4, ?4)")                                                    \
    X(MODEL_REMOVE, "DELETE FROM model WHERE id = ?1")                                             \
    X(MODEL_SETTINGS, "UPDATE model SET settings = ?2 WHERE id = ?1")                              \
    X(MODEL_SEQ, "UPDATE model SET seq = ?2 WHERE id = ?1")                                        \
    X(MODEL_NAME, "SELECT name, kind FROM model WHERE id = ?1")                                    \
    X(MODEL_SCAN,                                                                                  \
      "SELECT id, name, kind, settings, created_us, seq,"                                          \
      " (SELECT count(*) FROM example e WHERE e.model = m.id AND e.label IS NOT NULL) +"           \
      " (SELECT count(*) FROM example e WHERE e.model = m.id AND e.label IS NULL"                  \
      " AND e.status = 'active'),"                                                                 \
      " (SELECT count(*) FROM label l WHERE l.model = m.id AND l.status = 'active'),"              \
      " encoder, live_us"                                                                          \
      " FROM model m ORDER BY id")                                                                 \
    LABEL_STATEMENTS(X)                                                                            \
    X(EVENT_ADD,                                                                                   \
      "INSERT INTO event(model, op, example, label, weight, annotator, source, request_encoder,"   \
      " request_seq, created_us) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")                 \
    X(EVENT_LAST, "SELECT ifnull(max(seq), 0) FROM event")                                         \
    X(EVENT_SCAN,                                                                                  \
      "SELECT seq, op, example, ifnull((SELECT name FROM label WHERE id = e.label), ''),"          \
      " annotator, created_us FROM event e WHERE model = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3")   \
    X(EVENT_SCAN_BACK,                                                                             \
      "SELECT seq, op, example, ifnull((SELECT name FROM label WHERE id = e.label), ''),"          \
      " annotator, created_us FROM event e WHERE model = ?1 AND seq < ?2"                          \
      " ORDER BY seq DESC LIMIT ?3")                                                               \
    X(EVENT_TOUCHED,                                                                               \
      "SELECT example FROM event WHERE model = ?1 AND seq > ?2 AND seq <= ?3"                      \
      " AND example IS NOT NULL"                                                                   \
      " UNION SELECT t.example FROM event_touch t CROSS JOIN event e ON e.seq = t.seq"             \
      " WHERE t.seq > ?2 AND t.seq <= ?3 AND e.model = ?1")                                        \
    X(EVENT_LAST_OF, "SELECT max(seq) FROM event WHERE example = ?1")                              \
    X(KEY_FIND, "SELECT body_hash, example, seq FROM idempotency WHERE model = ?1 AND key = ?2")   \
    X(KEY_ADD, "INSERT INTO idempotency(model, key, body_hash, example, seq)"                      \
               " VALUES(?1, ?2, ?3, ?4, ?5)")                                                      \
    X(EXAMPLE_NUMBER, "SELECT number, model FROM example WHERE id = ?1")                           \
    X(EXAMPLE_ADD, "INSERT INTO example(id, model, text, pair, status, weight, annotators, "       \
                   "first_seq, last_seq,"                                                          \
                   " created_us) VALUES(?1, ?2, ?3, ?4, 'withdrawn', 0, 0, 0, 0, ?5)")             \
    X(VECTOR_ADD, "INSERT INTO vector(example, data) VALUES(?1, ?2)")                              \
    X(EXAMPLE_FOLD,                                                                                \
      "UPDATE example SET status = ?2, label = ?3, weight = ?4, annotators = ?5, last_seq = ?6,"   \
      " first_seq = CASE first_seq WHEN 0 THEN ?6 ELSE first_seq END WHERE number = ?1")           \
    X(EXAMPLE_REMOVE, "DELETE FROM example WHERE number = ?1")                                     \
    X(EXAMPLE_GET,                                                                                 \
      "SELECT number, id, model, text, pair, status, weight, annotators, first_seq, last_seq,"     \
      " created_us, (SELECT data FROM embedding b WHERE b.example = e.number AND b.encoder = ?2)," \
      " (SELECT data FROM vector v WHERE v.example = e.number)"                                    \
      " FROM example e WHERE id = ?1")                                                             \
    X(EXAMPLE_SCAN,                                                                                \
      "SELECT number, id, model, text, pair, status, weight, annotators, first_seq, last_seq,"     \
      " created_us, (SELECT data FROM embedding b WHERE b.example = e.number AND b.encoder = ?2)," \
      " (SELECT data FROM vector v WHERE v.example = e.number)"                                    \
      " FROM example e WHERE model = ?1 AND first_seq > ?3"                                        \
      " AND (?4 IS NULL OR label = ?4 OR (status = 'retired' AND EXISTS(SELECT 1 FROM vote v"      \
      " WHERE v.example = e.number AND v.label = ?4 AND v.sign > 0))"                              \
      " OR EXISTS(SELECT 1 FROM example_also a WHERE a.example = e.number AND a.label = ?4))"      \
      " AND (?5 IS NULL OR EXISTS(SELECT 1 FROM vote v WHERE v.example = e.number"                 \
      " AND v.annotator = ?5) OR EXISTS(SELECT 1 FROM opinion o WHERE o.example = e.number"        \
      " AND o.annotator = ?5)) AND (?6 IS NULL OR status = ?6)"                                    \
      " AND (?7 IS NULL OR instr(text, ?7) > 0) ORDER BY first_seq LIMIT ?8")                      \
    SET_STATEMENTS(X)                                                                              \
    X(CONTRADICTION_SCAN,                                                                          \
      "SELECT id, max(score), sum(score) FROM (SELECT e.id AS id,"                                 \
      " sum(v.weight * v.sign) AS score, sum(v.weight) AS weight"                                  \
      " FROM example e JOIN vote v ON v.example = e.number"                                        \
      " WHERE e.model = ?1 AND e.annotators > 1 AND e.label IS NOT NULL"                           \
      " AND (SELECT status FROM label l WHERE l.id = v.label) <> 'retired'"                        \
      " AND NOT EXISTS(SELECT 1 FROM opinion o WHERE o.example = e.number)"                        \
      " GROUP BY e.number, v.label) WHERE score > 1e-12 * weight GROUP BY id HAVING count(*) > 1") \
    X(INFLUENCE_SCAN,                                                                              \
      "SELECT label, annotator, weight / total, votes FROM (SELECT v.label AS label, annotator,"   \
      " sum(v.weight) AS weight, count(*) AS votes, sum(sum(v.weight)) OVER (PARTITION BY "        \
      "v.label)"                                                                                   \
      " AS total FROM example e JOIN vote v ON v.example = e.number"                               \
      " WHERE e.model = ?1 AND e.label IS NOT NULL AND v.sign > 0 GROUP BY v.label, annotator)"    \
      " WHERE weight > ?2 * total")                                                                \
    X(EXAMPLE_TAUGHT, "SELECT 1 FROM example WHERE id = ?1 AND status = 'active'")                 \
    X(EMBEDDING_PUT, "INSERT OR REPLACE INTO embedding(example, encoder, data)"                    \
                     " SELECT number, ?2, ?3 FROM example WHERE id = ?1")                          \
    X(SNAPSHOT_ADD, "INSERT OR REPLACE INTO head_snapshot(model, encoder, seq, sha256)"            \
                    " VALUES(?1, ?2, ?3, ?4)")                                                     \
    X(SNAPSHOT_SCAN, "SELECT seq, sha256 FROM head_snapshot WHERE model = ?1 AND encoder = ?2"     \
                     " ORDER BY seq DESC")                                                         \
    X(SNAPSHOT_FIND, "SELECT 1 FROM head_snapshot WHERE model = ?1 AND encoder = ?2 AND seq = ?3") \
    X(SNAPSHOT_REMOVE, "DELETE FROM head_snapshot WHERE model = ?1 AND encoder = ?2 AND seq = ?3") \
    X(SNAPSHOT_OF_MODEL, "SELECT encoder, seq FROM head_snapshot WHERE model = ?1")                \
    X(SNAPSHOT_FORGET, "DELETE FROM head_snapshot WHERE model = ?1 AND seq >= ?2")                 \
    ERASE_STATEMENTS(X)                                                                            \
    KEY_STATEMENTS(X)                                                                              \
    RUN_STATEMENTS(X)

enum store_statement {
#define X(name, sql) STORE_##name,
    STORE_STATEMENTS(X)
#undef X
        STORE_STATEMENTS_LEN
};

struct store {
    sqlite3 *db;
    char *folder;
    int lock; /* fd of the folder, locked; -1 for a reader */
    enum store_mode mode;
    sqlite3_stmt *statements[STORE_STATEMENTS_LEN];
    char why[256];
    bool rebuilt; /* erase.c: since the last erasure */
};

/* The statement, reset, without parameters. NULL: it cannot be prepared; store_fail() says why. */
sqlite3_stmt *store_statement(struct store *store, enum store_statement which);
/* Runs a statement that returns no row, and resets it. 0 or -errno. */
int store_run(struct store *store, sqlite3_stmt *statement);
/* 1: a row; 0: no more; or -errno. */
int store_step(struct store *store, sqlite3_stmt *statement);
/* Notes the connection's present error in store->why and returns it as -errno. */
int store_fail(struct store *store);
/* The same for an errno of the file system. */
int store_fail_file(struct store *store, const char *what, int error);

/* Copies a name that is known to be short enough. */
void store_copy_name(char to[STORE_NAME_BYTES_MAX + 1], const unsigned char *from);

/* migrate.c: brings the database to this program's version. */
int store_migrate(struct store *store);
int store_version_known(void); /* the last step it knows */
/* digest.c: of all pieces, as if they were one. */
void store_sha256_pieces(const struct store_piece *pieces, uint32_t len,
                         uint8_t ret_hash[STORE_HASH_BYTES]);
/* encoder_files.c: as store_encoder_sweep; at the start, when nothing else is at work, also what a
 * killed process left half made. */
int store_encoder_sweep_all(struct store *store, bool start);
/* versions.c: a line in the log of what is live. run -1: none. */
int store_live_add(struct store *store, const struct store_live *row);
/* store.c: prepares what begins and ends transactions; again after the schema was read anew. */
int store_prepare_transactions(struct store *store);
/* snapshots.c: overwrites and removes images that no row promises, and halves. At the start all of
 * them: what a process left that was killed. Else those from before their model's last erasure; a
 * newer one may be on its way to its row. Writer. 0 or -errno of the first that is still there. */
int store_snapshot_sweep(struct store *store, bool start);
/* erase.c: takes an example with its keys, votes, embeddings and the rows of the images that hold
 * it. seq: of the event that says so. */
int store_example_forget(struct store *store, int64_t number, const uint8_t id[STORE_ID_BYTES],
                         int64_t model, int64_t first_seq, int64_t seq);
/* erase.c: an erasure that an earlier process committed and did not scrub is scrubbed now. */
int store_scrub_left(struct store *store);
/* feedback.c: folds the standing votes of an example again, after event seq. */
int store_refold(struct store *store, int64_t number, int64_t seq);
/* journal.c: appends an event and moves the model's seq. */
struct store_event_row {
    int64_t model;
    const char *op;
    const uint8_t *example; /* NULL: none */
    int64_t label;          /* 0: none */
    double weight;
    const char *annotator, *source;
    int64_t request_encoder, request_seq, now_us;
};
int store_event_add(struct store *store, const struct store_event_row *row, int64_t *ret_seq);

/* models.c: the same as store_label_find, and whether the label is retired. */
int store_label_resolve(struct store *store, int64_t model, const char *name, int64_t *ret_id,
                        bool *ret_retired);

/* Standing votes of an example, folded. */
struct store_fold {
    struct store_vote *target; /* owned; by label id */
    uint32_t target_len, target_max;
    double weight;
    uint32_t annotators, votes;
    bool retired; /* votes for a retired label would make a target */
    bool set;     /* of a model of kind multi: the target may be empty and teaches */
};
int store_fold_read(struct store *store, int64_t number, struct store_fold *ret_fold);
void store_fold_done(struct store_fold *fold);

#endif
