/* set_statements.h -- the part of STORE_STATEMENTS (store_internal.h) that is about kind multi: who
 * has said which labels a text has, and the labels of a target beside its strongest.
 */
#ifndef LEARND_SET_STATEMENTS_H
#define LEARND_SET_STATEMENTS_H

#define SET_STATEMENTS(X)                                                                          \
    X(OPINION_PUT,                                                                                 \
      "INSERT OR REPLACE INTO opinion(example, annotator, weight) VALUES(?1, ?2, ?3)")             \
    X(OPINION_DROP, "DELETE FROM opinion WHERE example = ?1 AND annotator = ?2")                   \
    X(OPINION_DROP_ALL, "DELETE FROM opinion WHERE example = ?1")                                  \
    X(OPINION_SCAN, "SELECT annotator, weight FROM opinion WHERE example = ?1 ORDER BY annotator") \
    X(ALSO_ADD, "INSERT INTO example_also(example, label) VALUES(?1, ?2)")                         \
    X(ALSO_DROP, "DELETE FROM example_also WHERE example = ?1")                                    \
    X(EVENT_LABEL_ADD, "INSERT INTO event_set(seq, label) VALUES(?1, ?2)")

#endif
