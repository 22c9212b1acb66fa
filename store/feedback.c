/* feedback.c -- one correction: journal event, votes, fold.
 *
 * A vote is an annotator's last word on an example: for one label (sign 1), or against some (sign
 * -1). The fold is a function of the standing votes, not of their order:
 *
 *     score of a label = its votes' weights - its rejections' weights, at least 0; 0 if retired
 *
 *     target = scores to sum 1 (by label id)
 *
 *     weight = mean weight of the votes for labels that are left
 *
 * Without votes an example is "withdrawn"; with votes but no score left it is "rejected", or
 * "retired" if a label that is retired has some. All keep their text and teach nothing.
 *
 * In a model of kind multi an annotator's word is a set: an opinion (that there is a word, and its
 * weight) and a vote for each label in it. With opinions the fold is another one:
 *     target = score / weight of all opinions, at most 1, for each label that has a score
 * so a set may be empty and still teach: then the text has none of the labels.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/replay.h"
#include "store/sets.h"

/* ---- the fold -------------------------------------------------------------------------------- */

struct tally {
    int64_t label;
    double score, weight;
    uint32_t votes;
    bool retired;
};

/* Adds one finished label to the fold if anything of it is left: more than the rounding of its sum,
 * or 0.1 + 0.2 against 0.3 would teach. */
static int close_label(struct store_fold *fold, const struct tally *t, double *total,
                       double *weights, uint32_t *votes)
{
    if (!(t->score > 1e-12 * t->weight))
        return 0;
    fold->retired |= t->retired;
    if (t->retired)
        return 0;
    if (fold->target_len == fold->target_max) {
        uint32_t max = fold->target_max * 2 + 4;
        struct store_vote *bigger = realloc(fold->target, max * sizeof *bigger);

        if (bigger == NULL)
            return -ENOMEM;
        fold->target = bigger;
        fold->target_max = max;
    }
    fold->target[fold->target_len++] = (struct store_vote){t->label, t->score};
    *total += t->score;
    *weights += t->weight;
    *votes += t->votes;
    return 0;
}

int store_fold_read(struct store *s, int64_t number, struct store_fold *ret_fold)
{
    sqlite3_stmt *q = store_statement(s, STORE_VOTE_SCAN);
    struct store_fold fold = {0};
    struct store_opinions opinions;
    struct tally t = {0};
    double total = 0, weights = 0;
    uint32_t votes = 0;
    int rc;

    sqlite3_bind_int64(q, 1, number);
    while ((rc = store_step(s, q)) == 1) {
        int64_t label = sqlite3_column_int64(q, 0);
        double weight = sqlite3_column_double(q, 2);

        if (label != t.label) {
            rc = close_label(&fold, &t, &total, &weights, &votes);
            if (rc != 0)
                break;
            t = (struct tally){.label = label, .retired = sqlite3_column_int(q, 3) != 0};
        }
        fold.votes++;
        if (sqlite3_column_int(q, 1) > 0) {
            t.score += weight;
            t.weight += weight;
            t.votes++;
            fold.annotators++;
        } else {
            t.score -= weight;
        }
    }
    sqlite3_reset(q);
    if (rc == 0)
        rc = close_label(&fold, &t, &total, &weights, &votes);
    if (rc == -ENOMEM)
        store_fail_file(s, "the votes of an example", ENOMEM);
    if (rc == 0)
        rc = store_opinions_read(s, number, &opinions);
    if (rc != 0) {
        store_fold_done(&fold);
        return rc;
    }
    if (opinions.len > 0) {
        store_fold_set(&fold, &opinions);
        *ret_fold = fold;
        return 0;
    }
    for (uint32_t i = 0; i < fold.target_len; i++)
        fold.target[i].value /= total;
    fold.weight = votes > 0 ? weights / votes : 0;
    *ret_fold = fold;
    return 0;
}

void store_fold_done(struct store_fold *fold)
{
    free(fold->target);
    *fold = (struct store_fold){0};
}

int store_refold(struct store *s, int64_t number, int64_t seq)
{
    struct store_fold fold;
    sqlite3_stmt *q;
    uint32_t best = 0;
    int rc = store_fold_read(s, number, &fold);

    if (rc != 0)
        return rc;
    for (uint32_t i = 1; i < fold.target_len; i++)
        if (fold.target[i].value > fold.target[best].value)
            best = i;
    rc = store_also_put(s, number, &fold, best);
    if (rc != 0) {
        store_fold_done(&fold);
        return rc;
    }
    q = store_statement(s, STORE_EXAMPLE_FOLD);
    sqlite3_bind_int64(q, 1, number);
    sqlite3_bind_text(q, 2,
                      fold.target_len > 0 || fold.set ? "active"
                      : fold.retired                  ? "retired"
                      : fold.votes > 0                ? "rejected"
                                                      : "withdrawn",
                      -1, SQLITE_STATIC);
    if (fold.target_len > 0)
        sqlite3_bind_int64(q, 3, fold.target[best].label);
    sqlite3_bind_double(q, 4, fold.weight);
    sqlite3_bind_int64(q, 5, fold.annotators);
    sqlite3_bind_int64(q, 6, seq);
    store_fold_done(&fold);
    return store_run(s, q);
}

/* ---- votes ----------------------------------------------------------------------------------- */

enum sign { AGAINST = -1, FOR = 1 };

static int vote_put(struct store *s, int64_t number, const struct store_feedback *f, enum sign sign,
                    int64_t label, int64_t seq)
{
    sqlite3_stmt *q = store_statement(s, STORE_VOTE_PUT);

    sqlite3_bind_int64(q, 1, number);
    sqlite3_bind_text(q, 2, f->annotator, -1, SQLITE_STATIC);
    sqlite3_bind_int(q, 3, sign);
    sqlite3_bind_int64(q, 4, label);
    sqlite3_bind_double(q, 5, f->weight);
    sqlite3_bind_int64(q, 6, seq);
    return store_run(s, q);
}

/* Drops the annotator's votes of one sign: for one label, or (label 0) for all. */
static int vote_drop(struct store *s, int64_t number, const struct store_feedback *f,
                     enum sign sign, int64_t label)
{
    sqlite3_stmt *q = store_statement(s, label != 0 ? STORE_VOTE_DROP_LABEL : STORE_VOTE_DROP_SIGN);

    sqlite3_bind_int64(q, 1, number);
    sqlite3_bind_text(q, 2, f->annotator, -1, SQLITE_STATIC);
    sqlite3_bind_int(q, 3, sign);
    if (label != 0)
        sqlite3_bind_int64(q, 4, label);
    return store_run(s, q);
}

/* Takes back the annotator's votes, or everybody's. -ENOENT: there were none. */
static int vote_withdraw(struct store *s, int64_t number, const struct store_feedback *f)
{
    bool all = f->annotator[0] == '\0', any = false;
    sqlite3_stmt *q = store_statement(s, all ? STORE_VOTE_DROP_ALL : STORE_VOTE_DROP);
    int rc;

    sqlite3_bind_int64(q, 1, number);
    if (!all)
        sqlite3_bind_text(q, 2, f->annotator, -1, SQLITE_STATIC);
    rc = store_run(s, q);
    any = sqlite3_changes(s->db) > 0;
    if (rc == 0)
        rc = store_opinion_drop(s, number, f->annotator, &any);
    return rc != 0 ? rc : any ? 0 : -ENOENT;
}

/* The labels that a feedback names. */
struct named {
    bool multi; /* the model's kind */
    int64_t *ids;
    uint32_t len;
};

static int vote(struct store *s, int64_t number, const struct store_feedback *f, int64_t label,
                int64_t seq, const char **ret_field)
{
    int rc;

    switch (f->op) {
    case STORE_LABEL:
        rc = vote_drop(s, number, f, FOR, 0);
        if (rc == 0)
            rc = vote_drop(s, number, f, AGAINST, label);
        return rc == 0 ? vote_put(s, number, f, FOR, label, seq) : rc;
    case STORE_REJECT:
        rc = vote_drop(s, number, f, FOR, label);
        return rc == 0 ? vote_put(s, number, f, AGAINST, label, seq) : rc;
    case STORE_WITHDRAW:
        rc = vote_withdraw(s, number, f);
        if (rc == -ENOENT)
            *ret_field = "annotator";
        return rc;
    case STORE_DELETE:
        break;
    }
    return 0;
}

/* An annotator's set, in place of an earlier one. */
static int vote_set(struct store *s, int64_t number, const struct store_feedback *f,
                    const struct named *named, int64_t seq)
{
    int rc = vote_drop(s, number, f, FOR, 0);

    for (uint32_t i = 0; i < named->len && rc == 0; i++) {
        rc = vote_drop(s, number, f, AGAINST, named->ids[i]);
        if (rc == 0)
            rc = vote_put(s, number, f, FOR, named->ids[i], seq);
    }
    return rc == 0 ? store_opinion_put(s, number, f->annotator, f->weight) : rc;
}

static int vote_all(struct store *s, int64_t number, const struct store_feedback *f,
                    const struct named *named, int64_t seq, const char **ret_field)
{
    int rc = 0;

    if (named->multi && f->op == STORE_LABEL)
        return vote_set(s, number, f, named, seq);
    if (named->len == 0)
        return vote(s, number, f, 0, seq, ret_field);
    for (uint32_t i = 0; i < named->len && rc == 0; i++)
        rc = vote(s, number, f, named->ids[i], seq, ret_field);
    return rc;
}

int store_votes_replay(struct store *s, const struct store_replay *r)
{
    struct store_feedback f = {.op = r->op, .annotator = r->annotator, .weight = r->weight};
    struct named named = {.multi = r->multi, .ids = r->labels, .len = r->labels_len};
    const char *field;
    int rc;

    if (r->op == STORE_DELETE) { /* its row took them along */
        f.annotator = "";
        rc = vote_withdraw(s, r->number, &f);
    } else {
        rc = vote_all(s, r->number, &f, &named, r->seq, &field);
    }
    return rc == -ENOENT ? 0 : rc; /* nothing to take back */
}

/* ---- one item -------------------------------------------------------------------------------- */

/* A key that was seen: 1 with the first answer, or -EEXIST. Else 0. */
static int find_key(struct store *s, const struct store_feedback *f, struct store_receipt *receipt,
                    const char **ret_field)
{
    sqlite3_stmt *q;
    int rc;

    if (f->idempotency_key == NULL)
        return 0;
    q = store_statement(s, STORE_KEY_FIND);
    sqlite3_bind_int64(q, 1, f->model);
    sqlite3_bind_text(q, 2, f->idempotency_key, -1, SQLITE_STATIC);
    rc = store_step(s, q);
    if (rc == 1 && (sqlite3_column_bytes(q, 0) != STORE_HASH_BYTES ||
                    memcmp(sqlite3_column_blob(q, 0), f->body_hash, STORE_HASH_BYTES) != 0)) {
        *ret_field = "idempotency_key";
        rc = -EEXIST;
    } else if (rc == 1) {
        *receipt = (struct store_receipt){.seq = sqlite3_column_int64(q, 2), .duplicate = true};
        memcpy(receipt->example, sqlite3_column_blob(q, 1), STORE_ID_BYTES);
    }
    sqlite3_reset(q);
    return rc;
}

static int add_key(struct store *s, const struct store_feedback *f,
                   const struct store_receipt *receipt)
{
    sqlite3_stmt *q;

    if (f->idempotency_key == NULL)
        return 0;
    q = store_statement(s, STORE_KEY_ADD);
    sqlite3_bind_int64(q, 1, f->model);
    sqlite3_bind_text(q, 2, f->idempotency_key, -1, SQLITE_STATIC);
    sqlite3_bind_blob(q, 3, f->body_hash, STORE_HASH_BYTES, SQLITE_STATIC);
    sqlite3_bind_blob(q, 4, receipt->example, STORE_ID_BYTES, SQLITE_STATIC);
    sqlite3_bind_int64(q, 5, receipt->seq);
    return store_run(s, q);
}

static int model_name(struct store *s, int64_t model, char name[STORE_NAME_BYTES_MAX + 1],
                      bool *ret_multi)
{
    sqlite3_stmt *q = store_statement(s, STORE_MODEL_NAME);
    int rc;

    sqlite3_bind_int64(q, 1, model);
    rc = store_step(s, q);
    if (rc == 1) {
        store_copy_name(name, sqlite3_column_text(q, 0));
        *ret_multi = strcmp((const char *)sqlite3_column_text(q, 1), "multi") == 0;
    }
    sqlite3_reset(q);
    return rc == 1 ? 0 : rc == 0 ? -ENOENT : rc;
}

static int find_example(struct store *s, int64_t model, const uint8_t id[STORE_ID_BYTES],
                        int64_t *ret_number)
{
    sqlite3_stmt *q = store_statement(s, STORE_EXAMPLE_NUMBER);
    int rc;

    sqlite3_bind_blob(q, 1, id, STORE_ID_BYTES, SQLITE_STATIC);
    rc = store_step(s, q);
    if (rc == 1 && sqlite3_column_int64(q, 1) != model)
        rc = 0; /* another model's: as good as none */
    if (rc == 1)
        *ret_number = sqlite3_column_int64(q, 0);
    sqlite3_reset(q);
    return rc == 1 ? 0 : rc == 0 ? -ENOENT : rc;
}

static int add_example(struct store *s, const struct store_feedback *f,
                       const uint8_t id[STORE_ID_BYTES], int64_t *ret_number)
{
    sqlite3_stmt *q = store_statement(s, STORE_EXAMPLE_ADD);
    int rc;

    sqlite3_bind_blob(q, 1, id, STORE_ID_BYTES, SQLITE_STATIC);
    sqlite3_bind_int64(q, 2, f->model);
    sqlite3_bind_text64(q, 3, f->text != NULL ? f->text : "", f->text_bytes, SQLITE_STATIC,
                        SQLITE_UTF8);
    if (f->pair != NULL)
        sqlite3_bind_text64(q, 4, f->pair, f->pair_bytes, SQLITE_STATIC, SQLITE_UTF8);
    sqlite3_bind_int64(q, 5, f->now_us);
    rc = store_run(s, q);
    if (rc == 0)
        *ret_number = sqlite3_last_insert_rowid(s->db);
    if (rc != 0 || f->vector == NULL)
        return rc;
    q = store_statement(s, STORE_VECTOR_ADD);
    sqlite3_bind_int64(q, 1, *ret_number);
    sqlite3_bind_blob64(q, 2, f->vector, f->vector_bytes, SQLITE_STATIC);
    return store_run(s, q);
}

/* The example a feedback is about, made if it comes with a new text. */
static int resolve_example(struct store *s, const struct store_feedback *f,
                           uint8_t id[STORE_ID_BYTES], int64_t *ret_number, bool *ret_multi,
                           const char **ret_field)
{
    char name[STORE_NAME_BYTES_MAX + 1];
    int rc = model_name(s, f->model, name, ret_multi);

    *ret_field = "model";
    if (rc != 0)
        return rc;
    *ret_field = "example";
    if (f->vector != NULL)
        store_example_id(name, (const char *)f->vector, f->vector_bytes, NULL, 0, id);
    else if (f->text != NULL)
        store_example_id(name, f->text, f->text_bytes, f->pair, f->pair_bytes, id);
    else
        memcpy(id, f->example, STORE_ID_BYTES);
    rc = find_example(s, f->model, id, ret_number);
    if (rc == -ENOENT && (f->text != NULL || f->vector != NULL) && f->op != STORE_WITHDRAW &&
        f->op != STORE_DELETE)
        rc = add_example(s, f, id, ret_number);
    return rc;
}

static int resolve_label(struct store *s, const struct store_feedback *f, int64_t *ret_label,
                         bool *ret_created, const char **ret_field)
{
    bool retired = false;
    int64_t seq;
    int rc;

    if (f->op != STORE_LABEL && f->op != STORE_REJECT)
        return 0;
    *ret_field = "label";
    rc = store_label_resolve(s, f->model, f->label, ret_label, &retired);
    if (rc == 0 && retired && f->op == STORE_LABEL)
        return -EIDRM; /* a correction that could not count is not accepted */
    if (rc != -ENOENT || f->op != STORE_LABEL || !f->create_label)
        return rc;
    rc = store_label_add(s, f->model, f->label, f->now_us, ret_label, &seq);
    if (rc == 0)
        *ret_created = true;
    return rc;
}

static int resolve_labels(struct store *s, const struct store_feedback *f, struct named *named,
                          bool *ret_created, const char **ret_field)
{
    const char *const *names = f->labels != NULL ? f->labels : &f->label;
    uint32_t len = f->labels != NULL ? f->labels_len : 1;
    struct store_feedback one = *f;
    int rc = 0;

    if (f->op != STORE_LABEL && f->op != STORE_REJECT)
        return 0;
    named->ids = malloc((len + 1) * sizeof *named->ids);
    if (named->ids == NULL)
        return store_fail_file(s, "the labels of a correction", ENOMEM);
    for (; named->len < len && rc == 0; named->len += rc == 0) {
        one.label = names[named->len];
        rc = resolve_label(s, &one, &named->ids[named->len], ret_created, ret_field);
    }
    if (rc != 0 && f->labels != NULL)
        *ret_field = "labels";
    return rc;
}

/* An event names one label itself; several are written beside it. */
static int add_event_labels(struct store *s, int64_t seq, const struct named *named)
{
    int rc = 0;

    for (uint32_t i = 0; i < named->len && named->len > 1 && rc == 0; i++) {
        sqlite3_stmt *q = store_statement(s, STORE_EVENT_LABEL_ADD);

        sqlite3_bind_int64(q, 1, seq);
        sqlite3_bind_int64(q, 2, named->ids[i]);
        rc = store_run(s, q);
    }
    return rc;
}

/* STORE_DELETE: as store_erase does it, but for the scrub of the files. */
static int remove_example(struct store *s, int64_t number, const struct store_feedback *f,
                          const struct store_receipt *receipt)
{
    sqlite3_stmt *q = store_statement(s, STORE_ERASE_SHOW);
    int64_t first_seq = 0;
    int rc;

    sqlite3_bind_int64(q, 1, number);
    rc = store_step(s, q);
    if (rc == 1)
        first_seq = sqlite3_column_int64(q, 4);
    sqlite3_reset(q);
    return rc < 0 ? rc
                  : store_example_forget(s, number, receipt->example, f->model, first_seq,
                                         receipt->seq);
}

int store_feedback_put(struct store *s, const struct store_feedback *f,
                       struct store_receipt *ret_receipt, const char **ret_field)
{
    static const char *const ops[] = {"label", "reject", "withdraw", "delete"};
    struct store_receipt receipt = {0};
    struct named named = {0};
    int64_t number = 0;
    int rc = find_key(s, f, &receipt, ret_field);

    if (rc == 1)
        *ret_receipt = receipt;
    if (rc != 0)
        return rc == 1 ? 0 : rc;
    rc = resolve_example(s, f, receipt.example, &number, &named.multi, ret_field);
    if (rc == 0)
        rc = resolve_labels(s, f, &named, &receipt.label_created, ret_field);
    if (rc == 0)
        rc = store_event_add(s,
                             &(struct store_event_row){.model = f->model,
                                                       .op = ops[f->op],
                                                       .example = receipt.example,
                                                       .label = named.len == 1 ? named.ids[0] : 0,
                                                       .weight = f->weight,
                                                       .annotator = f->annotator,
                                                       .source = f->source,
                                                       .request_encoder = f->request_encoder,
                                                       .request_seq = f->request_seq,
                                                       .now_us = f->now_us},
                             &receipt.seq);
    if (rc == 0)
        rc = vote_all(s, number, f, &named, receipt.seq, ret_field);
    if (rc == 0)
        rc = add_event_labels(s, receipt.seq, &named);
    free(named.ids);
    if (rc == 0)
        rc = f->op == STORE_DELETE ? remove_example(s, number, f, &receipt)
                                   : store_refold(s, number, receipt.seq);
    if (rc == 0)
        rc = add_key(s, f, &receipt);
    if (rc == 0)
        *ret_receipt = receipt;
    return rc;
}
