/* trainer_retain.c -- what the trainer clears away: encoders that nobody will go back to, with
 * their files and embeddings, and runs that ended long ago.
 *
 * Never: the base, what is live, what was live just before it (a probation may go back to it), the
 * journal, votes, the audit, a model's last run.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/learn/trainer_due.h"
#include "daemon/log.h"

#define DAY_US 86400000000

/* ---- sweeping -------------------------------------------------------------------------------- */

enum { DROP_ROWS = 2000, ENCODERS_MAX = 1024 };

struct versions {
    uint32_t len, ranks;
    struct version {
        int64_t encoder;
        uint32_t rank; /* among the held ones, 1 was live last; 0: it is not held */
        bool gone;
    } rows[ENCODERS_MAX]; /* of one model, by number; more than there is room for wait their turn */
};

static int list_version(void *ud, const struct store_encoder *row)
{
    struct versions *v = ud;
    bool held = strcmp(row->state, "held") == 0;
    bool gone = strcmp(row->state, "refused") == 0 || strcmp(row->state, "removed") == 0;

    if ((held || gone) && v->len < ENCODERS_MAX)
        v->rows[v->len++] =
            (struct version){.encoder = row->id, .rank = held ? UINT32_MAX : 0, .gone = gone};
    return 0;
}

/* Of the log of what was live, the newest first. */
static int rank_version(void *ud, const struct store_live *row)
{
    struct versions *v = ud;

    for (uint32_t i = 0; i < v->len; i++)
        if (v->rows[i].encoder == row->encoder && v->rows[i].rank == UINT32_MAX)
            v->rows[i].rank = ++v->ranks;
    return 0;
}

struct version_change {
    struct change change; /* first */
    int64_t encoder;
    bool more;
};

static int remove_write(struct change *change, struct store *store)
{
    return store_encoder_state(store, ((struct version_change *)change)->encoder, "removed");
}

static int drop_write(struct change *change, struct store *store)
{
    struct version_change *c = (struct version_change *)change;

    return store_embedding_drop(store, c->encoder, DROP_ROWS, &c->more);
}

/* In pieces, so that corrections get their turn. */
static void drop_embeddings(struct trainer *t, int64_t encoder)
{
    struct version_change c = {.encoder = encoder, .more = true};

    c.change.write = drop_write;
    while (c.more && !atomic_load(&t->stopping) && trainer_keep(t, &c.change) == 0)
        continue;
}

static int sweep_write(struct change *change, struct store *store)
{
    (void)change;
    return store_encoder_sweep(store);
}

static int list_versions(struct trainer *t, int64_t model, struct versions *v)
{
    struct store *store = t->parts.learner.store;
    int rc = store_begin(store);

    if (rc != 0)
        return rc;
    rc = store_encoder_scan(store, model, list_version, v);
    if (rc == 0)
        rc = store_live_scan(store, model, rank_version, v);
    store_rollback(store);
    return rc;
}

uint32_t trainer_sweep(struct trainer *t, int64_t model)
{
    struct change files = {.write = sweep_write, .after_commit = true};
    struct versions *v = calloc(1, sizeof *v);
    uint32_t removed = 0;
    int rc = v != NULL ? list_versions(t, model, v) : -ENOMEM;

    for (uint32_t i = 0; rc == 0 && i < v->len; i++) {
        if (v->rows[i].rank > 1 && v->rows[i].rank > t->parts.encoders_kept) {
            struct version_change c = {.change = {.write = remove_write},
                                       .encoder = v->rows[i].encoder};

            v->rows[i].gone = trainer_keep(t, &c.change) == 0; /* not if it serves another model */
            removed += v->rows[i].gone;
        }
        if (v->rows[i].gone)
            drop_embeddings(t, v->rows[i].encoder);
    }
    free(v);
    (void)trainer_keep(t, &files);
    return removed;
}

/* ---- once a day ------------------------------------------------------------------------------ */

struct models {
    int64_t *ids;
    uint32_t len, max;
};

static int list_model(void *ud, const struct store_model *row)
{
    struct models *m = ud;

    if (m->len == m->max) {
        uint32_t max = m->max * 2 + 16;
        int64_t *bigger = realloc(m->ids, max * sizeof *bigger);

        if (bigger == NULL)
            return -ENOMEM;
        m->ids = bigger;
        m->max = max;
    }
    m->ids[m->len++] = row->id;
    return 0;
}

struct runs_change {
    struct change change; /* first */
    int64_t before_us;
    uint64_t runs, metrics;
};

static int forget_write(struct change *change, struct store *store)
{
    struct runs_change *c = (struct runs_change *)change;

    return store_run_forget(store, c->before_us, &c->runs, &c->metrics);
}

/* What was removed is told in one line; nothing, in none. */
static void tell(uint64_t runs, uint64_t metrics, uint64_t encoders)
{
    char texts[3][24];

    if (runs + encoders == 0)
        return;
    snprintf(texts[0], sizeof texts[0], "%llu", (unsigned long long)runs);
    snprintf(texts[1], sizeof texts[1], "%llu", (unsigned long long)metrics);
    snprintf(texts[2], sizeof texts[2], "%llu", (unsigned long long)encoders);
    log_info("trainer", "event", "retention", "runs", texts[0], "metrics", texts[1], "encoders",
             texts[2], NULL);
}

void trainer_retain(struct trainer *t)
{
    struct runs_change c = {.change = {.write = forget_write}};
    struct models models = {0};
    uint64_t encoders = 0;
    int rc;

    if (t->retained_us != 0 && clock_us() - t->retained_us < DAY_US)
        return;
    t->retained_us = clock_us();
    rc = store_begin(t->parts.learner.store);
    if (rc == 0) {
        rc = store_model_scan(t->parts.learner.store, list_model, &models);
        store_rollback(t->parts.learner.store);
    }
    for (uint32_t i = 0; i < models.len && rc == 0 && !atomic_load(&t->stopping); i++)
        encoders += trainer_sweep(t, models.ids[i]);
    free(models.ids);
    if (t->parts.retention_days > 0) {
        c.before_us = clock_unix_us() - t->parts.retention_days * DAY_US;
        if (trainer_keep(t, &c.change) != 0)
            c.runs = c.metrics = 0;
    }
    tell(c.runs, c.metrics, encoders);
}
