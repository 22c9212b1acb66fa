/* set_statements.h -- the part of STORE_STATEMENTS (store_internal.h) that is about votes, and of
 * kind multi: who has said which labels a text has, and the labels of a target beside its
 * strongest.
 */
#ifndef LEARND_SET_STATEMENTS_H
#define LEARND_SET_STATEMENTS_H

#define SET_STATEMENTS(X)                                                                          \
    X(VOTE_PUT,                                                                                    \
      "INSERT INTO vote(example, annotator, sign, label, weight, seq)"                             \
      " VALUES(?1, ?2, ?3, ?4, ?5, ?6)"                                                            \
      " ON CONFLICT(example, annotator, sign, label) DO UPDATE SET weight = ?5, seq = ?6")         \
    X(VOTE_DROP_LABEL,                                                                             \
      "DELETE FROM vote WHERE example = ?1 AND annotator = ?2 AND sign = ?3 AND label = ?4")       \
    X(VOTE_DROP_SIGN, "DELETE FROM vote WHERE example = ?1 AND annotator = ?2 AND sign = ?3")      \
    X(VOTE_DROP, "DELETE FROM vote WHERE example = ?1 AND annotator = ?2")                         \
    X(VOTE_DROP_ALL, "DELETE FROM vote WHERE example = ?1")                                        \
    X(VOTE_SCAN,                                                                                   \
      "SELECT label, sign, weight, (SELECT status FROM label l WHERE l.id = v.label) = 'retired'"  \
      " FROM vote v WHERE example = ?1 ORDER BY label, sign, annotator")                           \
    X(VOTE_LIST, "SELECT (SELECT name FROM label WHERE id = v.label), sign, v.weight, annotator"   \
                 " FROM vote v JOIN example e ON e.number = v.example WHERE e.id = ?1"             \
                 " ORDER BY v.label, sign DESC, annotator")                                        \
    X(WORD_SCAN, "SELECT annotator, 0 AS sign, NULL, o.weight, 0 FROM opinion o JOIN example e"    \
                 " ON e.number = o.example WHERE e.id = ?1 UNION ALL SELECT annotator, sign,"      \
                 " (SELECT name FROM label WHERE id = v.label), v.weight,"                         \
                 " ifnull((SELECT created_us FROM event n WHERE n.seq = v.seq), 0)"                \
                 " FROM vote v JOIN example e ON e.number = v.example WHERE e.id = ?1"             \
                 " ORDER BY annotator, sign DESC, 3")                                              \
    X(OPINION_PUT,                                                                                 \
      "INSERT OR REPLACE INTO opinion(example, annotator, weight) VALUES(?1, ?2, ?3)")             \
    X(OPINION_DROP, "DELETE FROM opinion WHERE example = ?1 AND annotator = ?2")                   \
    X(OPINION_DROP_ALL, "DELETE FROM opinion WHERE example = ?1")                                  \
    X(OPINION_SCAN, "SELECT annotator, weight FROM opinion WHERE example = ?1 ORDER BY annotator") \
    X(ALSO_ADD, "INSERT INTO example_also(example, label) VALUES(?1, ?2)")                         \
    X(ALSO_DROP, "DELETE FROM example_also WHERE example = ?1")                                    \
    X(EVENT_LABEL_ADD, "INSERT INTO event_set(seq, label) VALUES(?1, ?2)")

#endif
