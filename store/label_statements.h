/* label_statements.h -- the part of STORE_STATEMENTS (store_internal.h) that is about labels: their
 * rows, their other names, and the examples whose votes an act on them moves.
 */
#ifndef LEARND_LABEL_STATEMENTS_H
#define LEARND_LABEL_STATEMENTS_H

/* The columns of a label's row, and how many examples it has, or would have back. */
#define LABEL_ROW "SELECT l.id, name, status, into_label, l.seq, score_min, payload, created_us, "
#define LABEL_EXAMPLES                                                                             \
    "CASE status WHEN 'retired' THEN"                                                              \
    " (SELECT count(DISTINCT v.example) FROM vote v WHERE v.label = l.id AND v.sign > 0)"          \
    " ELSE (SELECT count(*) FROM example e WHERE e.model = l.model AND e.label = l.id) +"          \
    " (SELECT count(*) FROM example_also a WHERE a.label = l.id) END"

#define LABEL_STATEMENTS(X)                                                                        \
    X(LABEL_ADD, "INSERT INTO label(model, name, created_us) VALUES(?1, ?2, ?3)")                  \
    X(LABEL_NAMED,                                                                                 \
      "SELECT id FROM label WHERE model = ?1 AND name = ?2"                                        \
      " UNION ALL SELECT label FROM label_alias WHERE model = ?1 AND name = ?2 LIMIT 1")           \
    X(LABEL_NAME, "SELECT name FROM label WHERE id = ?1")                                          \
    X(LABEL_STATE, "SELECT status = 'retired', into_label, model FROM label WHERE id = ?1")        \
    X(LABEL_GET, LABEL_ROW LABEL_EXAMPLES " FROM label l WHERE id = ?1")                           \
    X(LABEL_SCAN,                                                                                  \
      LABEL_ROW LABEL_EXAMPLES " FROM label l WHERE model = ?1 AND id > ?2 ORDER BY id LIMIT ?3")  \
    X(LABEL_COLUMNS, LABEL_ROW "0 FROM label l WHERE model = ?1 AND id > ?2 ORDER BY id LIMIT ?3") \
    X(LABEL_SEQ_MAX, "SELECT ifnull(max(seq), 0) FROM label WHERE model = ?1")                     \
    X(LABEL_SEQ, "UPDATE label SET seq = ?2 WHERE id = ?1")                                        \
    X(LABEL_RENAME, "UPDATE label SET name = ?2 WHERE id = ?1")                                    \
    X(LABEL_STATUS, "UPDATE label SET status = ?2, into_label = ?3 WHERE id = ?1")                 \
    X(LABEL_SET, "UPDATE label SET score_min = ?2, payload = ?3 WHERE id = ?1")                    \
    X(LABEL_EVENT, "INSERT INTO label_event(seq, other, name, score_min, payload)"                 \
                   " VALUES(?1, ?2, ?3, ?4, ?5)")                                                  \
    X(ALIAS_ADD, "INSERT INTO label_alias(model, name, label) VALUES(?1, ?2, ?3)")                 \
    X(ALIAS_REMOVE, "DELETE FROM label_alias WHERE model = ?1 AND name = ?2")                      \
    X(ALIAS_COUNT, "SELECT count(*) FROM label_alias WHERE label = ?1")                            \
    X(ALIAS_SCAN, "SELECT name, label FROM label_alias WHERE model = ?1")                          \
    X(ALIAS_OF,                                                                                    \
      "WITH RECURSIVE family(id) AS (VALUES(?1)"                                                   \
      " UNION SELECT l.id FROM label l JOIN family f ON l.into_label = f.id)"                      \
      " SELECT name FROM label WHERE id IN (SELECT id FROM family) AND id <> ?1"                   \
      " UNION SELECT name FROM label_alias WHERE label IN (SELECT id FROM family) ORDER BY name")  \
    X(TOUCH_VOTED,                                                                                 \
      "INSERT INTO event_touch(seq, example) SELECT ?1, id FROM example WHERE number IN"           \
      " (SELECT example FROM vote WHERE label = ?2 AND sign >= ?3)")                               \
    X(TOUCH_ONE,                                                                                   \
      "INSERT INTO event_touch(seq, example) SELECT ?1, id FROM example e WHERE id = ?3"           \
      " AND EXISTS(SELECT 1 FROM vote v WHERE v.example = e.number AND v.label = ?2)")             \
    X(TOUCH_SCAN,                                                                                  \
      "SELECT e.number FROM event_touch t JOIN example e ON e.id = t.example WHERE t.seq = ?1")    \
    X(MOVE_DROP,                                                                                   \
      "DELETE FROM vote WHERE label IN (?2, ?3) AND example IN"                                    \
      " (SELECT e.number FROM event_touch t JOIN example e ON e.id = t.example WHERE t.seq = ?1)"  \
      " AND EXISTS(SELECT 1 FROM vote w WHERE w.example = vote.example"                            \
      " AND w.annotator = vote.annotator AND w.label IN (?2, ?3)"                                  \
      " AND (w.seq, w.sign, w.label) > (vote.seq, vote.sign, vote.label))")                        \
    X(MOVE,                                                                                        \
      "UPDATE vote SET label = ?3 WHERE label = ?2 AND example IN"                                 \
      " (SELECT e.number FROM event_touch t JOIN example e ON e.id = t.example WHERE t.seq = ?1)")

#endif
