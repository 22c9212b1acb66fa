/* sets.c -- what models of kind multi keep beside votes: opinions, and the further labels of a
 * target. See feedback.c for what they mean.
 */
#include <errno.h>
#include <math.h>

#include "store/sets.h"

int store_opinions_read(struct store *s, int64_t number, struct store_opinions *ret_opinions)
{
    sqlite3_stmt *q = store_statement(s, STORE_OPINION_SCAN);
    struct store_opinions opinions = {0};
    int rc;

    sqlite3_bind_int64(q, 1, number);
    while ((rc = store_step(s, q)) == 1) {
        opinions.len++;
        opinions.weight += sqlite3_column_double(q, 1);
    }
    sqlite3_reset(q);
    if (rc == 0)
        *ret_opinions = opinions;
    return rc;
}

int store_opinion_put(struct store *s, int64_t number, const char *annotator, double weight)
{
    sqlite3_stmt *q = store_statement(s, STORE_OPINION_PUT);

    sqlite3_bind_int64(q, 1, number);
    sqlite3_bind_text(q, 2, annotator, -1, SQLITE_STATIC);
    sqlite3_bind_double(q, 3, weight);
    return store_run(s, q);
}

int store_opinion_drop(struct store *s, int64_t number, const char *annotator, bool *any)
{
    bool all = annotator[0] == '\0';
    sqlite3_stmt *q = store_statement(s, all ? STORE_OPINION_DROP_ALL : STORE_OPINION_DROP);
    int rc;

    sqlite3_bind_int64(q, 1, number);
    if (!all)
        sqlite3_bind_text(q, 2, annotator, -1, SQLITE_STATIC);
    rc = store_run(s, q);
    if (rc == 0 && sqlite3_changes(s->db) > 0)
        *any = true;
    return rc;
}

void store_fold_set(struct store_fold *fold, const struct store_opinions *opinions)
{
    for (uint32_t i = 0; i < fold->target_len; i++)
        fold->target[i].value = fmin(1, fold->target[i].value / opinions->weight);
    fold->set = true;
    fold->annotators = opinions->len;
    fold->weight = opinions->weight / opinions->len;
}

int store_also_put(struct store *s, int64_t number, const struct store_fold *fold, uint32_t best)
{
    sqlite3_stmt *q = store_statement(s, STORE_ALSO_DROP);
    int rc;

    sqlite3_bind_int64(q, 1, number);
    rc = store_run(s, q);
    for (uint32_t i = 0; i < fold->target_len && fold->set && rc == 0; i++) {
        if (i == best)
            continue;
        q = store_statement(s, STORE_ALSO_ADD);
        sqlite3_bind_int64(q, 1, number);
        sqlite3_bind_int64(q, 2, fold->target[i].label);
        rc = store_run(s, q);
    }
    return rc;
}
