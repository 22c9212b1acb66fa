/* votes.c -- who says what: the standing votes of an example, examples on which annotators do not
 * agree, and how much of a label is one annotator's word. What reviewers look at.
 */
#include <errno.h>
#include <string.h>

#include "store/store_internal.h"

int store_vote_scan(struct store *s, const uint8_t example[STORE_ID_BYTES], store_vote_fn *fn,
                    void *ud)
{
    sqlite3_stmt *q = store_statement(s, STORE_VOTE_LIST);
    int rc;

    sqlite3_bind_blob(q, 1, example, STORE_ID_BYTES, SQLITE_STATIC);
    while ((rc = store_step(s, q)) == 1) {
        struct store_standing row = {.against = sqlite3_column_int(q, 1) < 0,
                                     .weight = sqlite3_column_double(q, 2)};

        store_copy_name(row.label, sqlite3_column_text(q, 0));
        store_copy_name(row.annotator, sqlite3_column_text(q, 3));
        rc = fn(ud, &row);
        if (rc != 0)
            break;
    }
    sqlite3_reset(q);
    return rc;
}

int store_contradiction_scan(struct store *s, int64_t model, store_contradiction_fn *fn, void *ud)
{
    sqlite3_stmt *q = store_statement(s, STORE_CONTRADICTION_SCAN);
    int rc;

    sqlite3_bind_int64(q, 1, model);
    while ((rc = store_step(s, q)) == 1) {
        uint8_t id[STORE_ID_BYTES];
        double best = sqlite3_column_double(q, 1), total = sqlite3_column_double(q, 2);

        memcpy(id, sqlite3_column_blob(q, 0), STORE_ID_BYTES);
        rc = fn(ud, id, best / total);
        if (rc != 0)
            break;
    }
    sqlite3_reset(q);
    return rc;
}

int store_influence_scan(struct store *s, int64_t model, double share_max, store_influence_fn *fn,
                         void *ud)
{
    sqlite3_stmt *q = store_statement(s, STORE_INFLUENCE_SCAN);
    int rc;

    sqlite3_bind_int64(q, 1, model);
    sqlite3_bind_double(q, 2, share_max);
    while ((rc = store_step(s, q)) == 1) {
        struct store_influence row = {.label = sqlite3_column_int64(q, 0),
                                      .share = sqlite3_column_double(q, 2),
                                      .examples = sqlite3_column_int64(q, 3)};

        store_copy_name(row.annotator, sqlite3_column_text(q, 1));
        rc = fn(ud, &row);
        if (rc != 0)
            break;
    }
    sqlite3_reset(q);
    return rc;
}

int store_example_taught(struct store *s, const uint8_t id[STORE_ID_BYTES], bool *ret_taught)
{
    sqlite3_stmt *q = store_statement(s, STORE_EXAMPLE_TAUGHT);
    int rc;

    sqlite3_bind_blob(q, 1, id, STORE_ID_BYTES, SQLITE_STATIC);
    rc = store_step(s, q);
    if (rc >= 0)
        *ret_taught = rc == 1;
    sqlite3_reset(q);
    return rc < 0 ? rc : 0;
}

int store_word_scan(struct store *s, const uint8_t example[STORE_ID_BYTES], store_word_fn *fn,
                    void *ud)
{
    sqlite3_stmt *q = store_statement(s, STORE_WORD_SCAN);
    int rc;

    sqlite3_bind_blob(q, 1, example, STORE_ID_BYTES, SQLITE_STATIC);
    while ((rc = store_step(s, q)) == 1) {
        struct store_word word = {.annotator = (const char *)sqlite3_column_text(q, 0),
                                  .label = (const char *)sqlite3_column_text(q, 2),
                                  .against = sqlite3_column_int(q, 1) < 0,
                                  .weight = sqlite3_column_double(q, 3),
                                  .created_us = sqlite3_column_int64(q, 4)};

        rc = word.annotator != NULL ? fn(ud, &word) : -ENOMEM;
        if (rc != 0)
            break;
    }
    sqlite3_reset(q);
    return rc;
}
