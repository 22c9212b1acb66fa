/* erase_statements.h -- the part of STORE_STATEMENTS (store_internal.h) that is about erasing: what
 * is found, what leaves which table, and what is still to be scrubbed from the files.
 */
#ifndef LEARND_ERASE_STATEMENTS_H
#define LEARND_ERASE_STATEMENTS_H

#define ERASE_STATEMENTS(X)                                                                        \
    X(ERASED_SEQ, "SELECT erased_seq FROM model WHERE id = ?1")                                    \
    X(ERASED_SET, "UPDATE model SET erased_seq = ?2 WHERE id = ?1")                                \
    X(ERASE_TEXT, "SELECT number FROM example WHERE (?1 = 0 OR model = ?1) AND"                    \
                  " CASE WHEN ?3 IS NULL THEN text = ?2 OR pair = ?2"                              \
                  " ELSE text = ?2 AND pair = ?3 END")                                             \
    X(ERASE_ANNOTATOR,                                                                             \
      "SELECT number FROM example e WHERE (?1 = 0 OR model = ?1) AND"                              \
      " (EXISTS(SELECT 1 FROM vote v WHERE v.example = e.number AND v.annotator = ?2)"             \
      " OR EXISTS(SELECT 1 FROM opinion o WHERE o.example = e.number AND o.annotator = ?2)"        \
      " OR EXISTS(SELECT 1 FROM event v WHERE v.example = e.id AND v.annotator = ?2))")            \
    X(ERASE_EXAMPLE, "SELECT number FROM example WHERE (?1 = 0 OR model = ?1) AND id = ?2")        \
    X(ERASE_SHOW, "SELECT id, model, ifnull((SELECT data FROM vector v WHERE v.example = "         \
                  "e.number), text), pair, first_seq,"                                             \
                  " (SELECT count(*) FROM vote v WHERE v.example = e.number) +"                    \
                  " (SELECT count(*) FROM opinion o WHERE o.example = e.number AND NOT"            \
                  " EXISTS(SELECT 1 FROM vote v WHERE v.example = o.example"                       \
                  " AND v.annotator = o.annotator))"                                               \
                  " FROM example e WHERE number = ?1")                                             \
    X(ERASE_OTHERS, "SELECT EXISTS(SELECT 1 FROM vote WHERE example = ?1) OR"                      \
                    " EXISTS(SELECT 1 FROM opinion WHERE example = ?1) OR"                         \
                    " EXISTS(SELECT 1 FROM event WHERE example = ?2 AND annotator <> ?3"           \
                    " AND op IN ('label', 'reject'))")                                             \
    X(ERASE_EVENTS, "UPDATE event SET annotator = '',"                                             \
                    " op = CASE op WHEN 'delete' THEN op ELSE 'erased' END,"                       \
                    " source = CASE source WHEN ?2 THEN '' ELSE source END"                        \
                    " WHERE annotator = ?2 AND (?1 = 0 OR model = ?1)")                            \
    X(ERASE_KEYS, "DELETE FROM idempotency WHERE (?1 = 0 OR model = ?1)"                           \
                  " AND seq IN (SELECT seq FROM event WHERE annotator = ?2)")                      \
    X(ERASE_AUDIT, "UPDATE audit SET who = '' WHERE who = ?1")                                     \
    X(KEY_FORGET, "DELETE FROM idempotency WHERE example = ?1")                                    \
    X(AUDIT_ADD, "INSERT INTO audit(t_us, action, model, object, who, examples, votes)"            \
                 " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)")                                            \
    X(UNSCRUBBED, "SELECT unscrubbed FROM meta")                                                   \
    X(UNSCRUBBED_SET, "UPDATE meta SET unscrubbed = ?1")

#endif
