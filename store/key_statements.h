/* key_statements.h -- the part of STORE_STATEMENTS (store_internal.h) that is about keys and who
 * did what.
 */
#ifndef LEARND_KEY_STATEMENTS_H
#define LEARND_KEY_STATEMENTS_H

#define KEY_ROW                                                                                    \
    "SELECT id, name, role, rate_per_s, created_us, expires_us, revoked_us, used_us, requests,"    \
    " corrections, sha256 FROM api_key "

#define KEY_STATEMENTS(X)                                                                          \
    X(API_KEY_ADD, "INSERT INTO api_key(sha256, name, role, rate_per_s, created_us, expires_us)"   \
                   " VALUES(?1, ?2, ?3, ?4, ?5, ?6)")                                              \
    X(API_KEY_REVOKE, "UPDATE api_key SET revoked_us = ?2 WHERE id = ?1 AND revoked_us = 0")       \
    X(API_KEY_GET, KEY_ROW "WHERE id = ?1")                                                        \
    X(API_KEY_SCAN, KEY_ROW "WHERE id > ?1 AND (?2 = 0 OR revoked_us = 0) ORDER BY id LIMIT ?3")   \
    X(API_KEY_COUNT, "SELECT count(*), ifnull(sum(role = 'admin' AND expires_us = 0), 0)"          \
                     " FROM api_key WHERE revoked_us = 0")                                         \
    X(API_KEY_USED, "UPDATE api_key SET used_us = max(used_us, ?2), requests = requests + ?3,"     \
                    " corrections = corrections + ?4 WHERE id = ?1")                               \
    X(ACT_ADD, "INSERT INTO act(t_us, key, peer, action, object, request, address)"                \
               " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)")                                              \
    X(ACT_SCAN,                                                                                    \
      "SELECT number, t_us, key, peer, action, object, request, address,"                          \
      " ifnull((SELECT name FROM api_key WHERE id = a.key), '') FROM act a"                        \
      " WHERE (?1 = 0 OR number < ?1) AND (?2 = 0 OR t_us < ?2) AND (?3 IS NULL OR key = ?3)"      \
      " AND (?4 IS NULL OR action = ?4) ORDER BY number DESC LIMIT ?5")

#endif
