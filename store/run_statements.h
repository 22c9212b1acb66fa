/* run_statements.h -- the part of STORE_STATEMENTS (store_internal.h) that is about runs, encoders
 * and which one is live.
 */
#ifndef LEARND_RUN_STATEMENTS_H
#define LEARND_RUN_STATEMENTS_H

#define RUN_ROW                                                                                    \
    "SELECT id, model, strategy, settings, seed, from_seq, since_seq, parent, encoder, state,"     \
    " phase, step, steps, cancel, progress, verdict, reason, who, created_us, started_us,"         \
    " ended_us, updated_us FROM run "
#define RUN_GOES_ON "state IN ('queued', 'running')"
#define RUN_OLD                                                                                    \
    "SELECT id FROM run r WHERE NOT (" RUN_GOES_ON ") AND ended_us > 0 AND ended_us < ?1"          \
    " AND id NOT IN (SELECT max(id) FROM run GROUP BY model)"                                      \
    " AND id NOT IN (SELECT max(id) FROM run WHERE state = 'accepted' GROUP BY model)"             \
    " AND NOT EXISTS(SELECT 1 FROM encoder_version v WHERE v.run = r.id"                           \
    " AND v.state IN ('live', 'held'))"
#define ENCODER_ROW                                                                                \
    "SELECT id, ifnull(model, 0), parent, run, origin, state, dim, sha256, created_us"             \
    " FROM encoder_version "

#define RUN_STATEMENTS(X)                                                                          \
    X(RUN_ADD,                                                                                     \
      "INSERT INTO run(model, strategy, settings, seed, since_seq, parent, who, created_us,"       \
      " updated_us) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)")                                   \
    X(RUN_OF_MODEL, "SELECT id FROM run WHERE model = ?1 AND " RUN_GOES_ON)                        \
    X(RUN_UPDATE,                                                                                  \
      "UPDATE run SET"                                                                             \
      " started_us = CASE WHEN ?2 = 'running' AND started_us = 0 THEN ?13 ELSE started_us END,"    \
      " ended_us = CASE WHEN ?2 NOT IN ('queued', 'running') THEN ?13 ELSE ended_us END,"          \
      " state = ifnull(?2, state), phase = ifnull(?3, phase), progress = ifnull(?4, progress),"    \
      " verdict = ifnull(?5, verdict), reason = ifnull(?6, reason),"                               \
      " from_seq = ifnull(?7, from_seq), since_seq = ifnull(?8, since_seq),"                       \
      " parent = ifnull(?9, parent), encoder = ifnull(?10, encoder), step = ifnull(?11, step),"    \
      " steps = ifnull(?12, steps), updated_us = ?13"                                              \
      " WHERE id = ?1 AND (?2 IS NULL OR " RUN_GOES_ON ")")                                        \
    X(RUN_CANCEL,                                                                                  \
      "UPDATE run SET cancel = 1, updated_us = ?2,"                                                \
      " ended_us = CASE state WHEN 'queued' THEN ?2 ELSE 0 END,"                                   \
      " reason = CASE state WHEN 'queued' THEN 'cancelled before it began' ELSE reason END,"       \
      " phase = CASE state WHEN 'queued' THEN 'done' ELSE phase END,"                              \
      " state = CASE state WHEN 'queued' THEN 'cancelled' ELSE state END"                          \
      " WHERE id = ?1 AND " RUN_GOES_ON)                                                           \
    X(RUN_GET, RUN_ROW "WHERE id = ?1")                                                            \
    X(RUN_SCAN, RUN_ROW "WHERE (?1 = 0 OR model = ?1) AND (?2 IS NULL OR instr(?2, state) > 0)"    \
                        " AND (?3 = 0 OR id < ?3) ORDER BY id DESC LIMIT ?4")                      \
    X(RUN_NEXT, RUN_ROW "WHERE " RUN_GOES_ON " ORDER BY state = 'queued', id LIMIT 1")             \
    X(RUN_FORGET_METRICS, "DELETE FROM run_metric WHERE run IN (" RUN_OLD ")")                     \
    X(RUN_FORGET, "DELETE FROM run WHERE id IN (" RUN_OLD ")")                                     \
    X(RUN_LIVES, "SELECT 1 FROM run WHERE id = ?1 AND " RUN_GOES_ON)                               \
    X(METRIC_PUT, "INSERT OR REPLACE INTO run_metric(run, step, loss, grad_norm, lr, t_us)"        \
                  " VALUES(?1, ?2, ?3, ?4, ?5, ?6)")                                               \
    X(METRIC_COUNT, "SELECT count(*) FROM run_metric WHERE run = ?1")                              \
    X(METRIC_THIN,                                                                                 \
      "DELETE FROM run_metric WHERE run = ?1 AND step = (SELECT step FROM (SELECT step,"           \
      " lead(step) OVER w - lag(step) OVER w AS gap FROM run_metric WHERE run = ?1"                \
      " WINDOW w AS (ORDER BY step)) WHERE gap IS NOT NULL ORDER BY gap, step LIMIT 1)")           \
    X(METRIC_SCAN,                                                                                 \
      "SELECT step, loss, grad_norm, lr, t_us FROM run_metric WHERE run = ?1 ORDER BY step")       \
    X(ENCODER_BASE, "SELECT sha256 FROM encoder_version WHERE id = 0")                             \
    X(ENCODER_CLAIM, "INSERT INTO encoder_version(id, origin, sha256, state, created_us)"          \
                     " VALUES(0, 'base', ?1, 'base', ?2)")                                         \
    X(ENCODER_FIND, "SELECT id FROM encoder_version WHERE sha256 = ?2 AND (id = 0 OR"              \
                    " (model = ?1 AND (state IN ('live', 'held') OR"                               \
                    " (state = 'candidate' AND run = ?3))))")                                      \
    X(ENCODER_ADD,                                                                                 \
      "INSERT INTO encoder_version(id, model, parent, run, origin, state, dim, sha256,"            \
      " created_us) SELECT ifnull(max(id), 0) + 1, ?1, ?2, ?3, ?4, 'candidate', ?5, ?6, ?7"        \
      " FROM encoder_version")                                                                     \
    X(ENCODER_STATE, "UPDATE encoder_version SET state = ?2 WHERE id = ?1")                        \
    X(ENCODER_USED, "SELECT 1 FROM model WHERE encoder = ?1")                                      \
    X(ENCODER_GET, ENCODER_ROW "WHERE id = ?1")                                                    \
    X(ENCODER_SCAN,                                                                                \
      ENCODER_ROW "WHERE id = 0 OR model = ?1 OR id IN"                                            \
                  " (SELECT encoder FROM live_encoder WHERE model = ?1) ORDER BY id")              \
    X(ENCODER_PROMISED,                                                                            \
      "SELECT 1 FROM encoder_version v WHERE id = ?1 AND (state IN ('live', 'held') OR"            \
      " (state = 'candidate' AND EXISTS(SELECT 1 FROM run WHERE id = v.run AND " RUN_GOES_ON       \
      ")))")                                                                                       \
    X(ENCODER_HEADS, "DELETE FROM head_snapshot WHERE encoder = ?1")                               \
    X(ENCODER_REFUSE,                                                                              \
      "UPDATE encoder_version SET state = 'refused' WHERE run = ?1 AND state = 'candidate'")       \
    X(ENCODER_HOLD, "UPDATE encoder_version SET state = 'held' WHERE state = 'live'"               \
                    " AND NOT EXISTS(SELECT 1 FROM model m WHERE m.encoder = encoder_version.id)") \
    X(ENCODER_ORPHANS, "UPDATE encoder_version SET state = 'removed' WHERE id > 0"                 \
                       " AND model NOT IN (SELECT id FROM model) AND NOT EXISTS(SELECT 1"          \
                       " FROM live_encoder l WHERE l.encoder = encoder_version.id)")               \
    X(LIVE_MODEL, "SELECT seq FROM model WHERE id = ?1")                                           \
    X(LIVE_SET, "UPDATE model SET encoder = ?2, live_us = ?3 WHERE id = ?1")                       \
    X(LIVE_ADD, "INSERT INTO live_encoder(model, t_us, seq, encoder, run, reason)"                 \
                " VALUES(?1, ?2, ?3, ?4, ?5, ?6)")                                                 \
    X(LIVE_FORGET, "DELETE FROM live_encoder WHERE model = ?1")                                    \
    X(LIVE_AT, "SELECT encoder FROM live_encoder WHERE model = ?1 AND t_us <= ?2"                  \
               " ORDER BY number DESC LIMIT 1")                                                    \
    X(LIVE_AT_SEQ, "SELECT seq FROM event WHERE model = ?1 AND created_us <= ?2"                   \
                   " ORDER BY seq DESC LIMIT 1")                                                   \
    X(LIVE_SCAN, "SELECT t_us, seq, encoder, run, reason FROM live_encoder WHERE model = ?1"       \
                 " ORDER BY number DESC")                                                          \
    X(EMBEDDING_MISSING,                                                                           \
      "SELECT number, id, model, text, pair, status, weight, annotators, first_seq, last_seq,"     \
      " created_us, NULL, NULL FROM example e WHERE model = ?1 AND first_seq > ?3"                 \
      " AND status = 'active' AND NOT EXISTS(SELECT 1 FROM embedding b WHERE b.example = e.number" \
      " AND b.encoder = ?2) AND NOT EXISTS(SELECT 1 FROM vector v WHERE v.example = e.number)"     \
      " ORDER BY first_seq LIMIT ?4")                                                              \
    X(EMBEDDING_DROP, "DELETE FROM embedding WHERE rowid IN"                                       \
                      " (SELECT rowid FROM embedding WHERE encoder = ?1 LIMIT ?2)")

#endif
