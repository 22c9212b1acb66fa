/* learned.c -- see learned.h. One round of one model, in the order of the walk: journal -> touched
 * examples -> embeddings -> head -> snapshot.
 */
#include "daemon/learn/learned.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/learn/touched.h"
#include "daemon/log.h"

/* ---- opening --------------------------------------------------------------------------------- */

static struct head_settings head_settings_of(const struct learned *l,
                                             const struct learner_parts *parts)
{
    return (struct head_settings){.dim = encoder_info(parts->encoder)->dim,
                                  .features = l->settings.features,
                                  .seed = l->settings.seed,
                                  .lambda = l->settings.lambda,
                                  .kind = l->multi ? HEAD_MULTI : HEAD_SINGLE};
}

/* The newest image if it can be read; else an empty head, which the whole journal then fills. */
static int open_head(struct learned *l, const struct learner_parts *parts)
{
    struct head_settings settings = head_settings_of(l, parts);
    void *image = NULL;
    size_t bytes = 0;
    int64_t seq = 0;
    int rc =
        store_snapshot_read(parts->store, l->model, parts->encoder_number, &seq, &image, &bytes);

    if (rc == 0) {
        rc = head_image_read(&settings, image, bytes, &l->head);
        free(image);
        if (rc == 0) {
            l->applied = seq;
            return 0;
        }
        log_warn("learner", "event", "image_refused", "model", l->name, NULL);
    } else if (rc != -ENOENT) {
        log_warn("learner", "event", "image_unreadable", "model", l->name, NULL);
    }
    return head_open(&settings, &l->head);
}

void learned_close(struct learned *l)
{
    if (l == NULL)
        return;
    head_audit_close(l->audit);
    live_review_put(l->review);
    head_close(l->head);
    live_labels_put(l->labels);
    free(l->label_ids);
    free(l);
}

/* ---- labels ---------------------------------------------------------------------------------- */

struct label_reading {
    int64_t *ids;
    char (*names)[LIVE_NAME_BYTES];
    uint32_t len, max;
};

static int read_label(void *ud, const struct store_label *row)
{
    struct label_reading *r = ud;

    if (r->len == r->max) {
        uint32_t max = r->max * 2 + 16;
        int64_t *ids = realloc(r->ids, max * sizeof *ids);
        void *names;

        if (ids == NULL)
            return -ENOMEM;
        r->ids = ids;
        names = realloc(r->names, max * sizeof *r->names);
        if (names == NULL)
            return -ENOMEM;
        r->names = names;
        r->max = max;
    }
    r->ids[r->len] = row->id;
    snprintf(r->names[r->len++], LIVE_NAME_BYTES, "%s", row->name);
    return 0;
}

/* New labels become new columns behind the old ones. */
static int read_labels(struct learned *l, struct store *store)
{
    struct label_reading r = {0};
    struct live_labels *all;
    uint32_t old = l->labels->len;
    int64_t *ids;
    int rc =
        store_label_scan(store, l->model, old > 0 ? l->label_ids[old - 1] : 0, 0, read_label, &r);

    if (rc != 0 || r.len == 0)
        goto out;
    ids = realloc(l->label_ids, (old + r.len) * sizeof *ids);
    all = live_labels_new(old + r.len);
    if (ids != NULL)
        l->label_ids = ids;
    if (ids == NULL || all == NULL) {
        live_labels_put(all);
        rc = -ENOMEM;
        goto out;
    }
    memcpy(l->label_ids + old, r.ids, r.len * sizeof *r.ids);
    memcpy(all->names, l->labels->names, old * sizeof *all->names);
    memcpy(all->names + old, r.names, r.len * sizeof *all->names);
    live_labels_put(l->labels);
    l->labels = all;
out:
    free(r.ids);
    free(r.names);
    return rc;
}

int learned_open(const struct learner_parts *parts, const struct store_model *row,
                 struct learned **ret_learned)
{
    struct learned *l = calloc(1, sizeof *l);
    int rc;

    if (l == NULL)
        return -ENOMEM;
    l->model = row->id;
    snprintf(l->name, sizeof l->name, "%s", row->name);
    l->multi = l->audited = strcmp(row->kind, "multi") == 0;
    l->labels = live_labels_new(0);
    rc = l->labels != NULL ? parts->settings_read(row->settings, &l->settings) : -ENOMEM;
    if (rc == 0)
        rc = open_head(l, parts);
    if (rc == 0) /* the image has columns, the store their names */
        rc = read_labels(l, parts->store);
    if (rc == 0)
        rc = head_labels_grow(l->head, l->labels->len);
    if (rc != 0) {
        learned_close(l);
        return rc;
    }
    *ret_learned = l;
    return 0;
}

struct event_reading {
    int64_t last;
    uint32_t len;
};

static int read_event(void *ud, const struct store_event *row)
{
    struct event_reading *r = ud;

    r->last = row->seq;
    r->len++;
    return 0;
}

struct row_reading {
    struct touched *touched;
    const struct learned *learned;
    const struct learner_parts *parts;
};

static int read_row(void *ud, const struct store_example *row)
{
    struct row_reading *r = ud;

    return touched_add(r->touched, row, r->learned, r->parts);
}

/* Reads the examples touched by (applied, *upto]. If a later event touched one of them again, the
 * stretch grows to include that event: the journal shows only the latest state of an example, and a
 * version must not be ahead of its seq. */
static int read_touched(struct learned *l, const struct learner_parts *parts, struct touched *t,
                        int64_t *upto)
{
    struct row_reading r = {t, l, parts};
    int rc;

    for (;;) {
        touched_reset(t);
        rc = store_example_changed(parts->store, l->model, l->applied, *upto, parts->encoder_number,
                                   read_row, &r);
        if (rc != 0 || t->last_seq <= *upto)
            return rc;
        *upto = t->last_seq;
    }
}

static int read_stretch(struct learned *l, const struct learner_parts *parts, struct touched *t,
                        int64_t *ret_upto, struct learned_round *round)
{
    struct event_reading events = {l->applied, 0};
    int rc = store_begin(parts->store);

    if (rc != 0)
        return rc;
    rc = store_event_scan(parts->store, l->model, l->applied, LEARNED_ROUND_EVENTS, read_event,
                          &events);
    if (rc == 0 && events.len > 0)
        rc = read_labels(l, parts->store);
    if (rc == 0 && events.len > 0)
        rc = read_touched(l, parts, t, &events.last);
    store_rollback(parts->store);
    *ret_upto = events.last;
    round->events = events.len;
    round->more = events.len == LEARNED_ROUND_EVENTS;
    return rc;
}

/* ---- a round --------------------------------------------------------------------------------- */

int learned_publish(struct learned *l, const struct learner_parts *parts)
{
    struct snapshot *s = calloc(1, sizeof *s);
    int rc;

    if (s == NULL)
        return -ENOMEM;
    rc = head_publish(l->head, l->settings.budget, &s->view);
    if (rc != 0) {
        free(s);
        return rc;
    }
    atomic_init(&s->refs, 1);
    s->model = l->model;
    memcpy(s->model_name, l->name, sizeof s->model_name);
    s->encoder = parts->encoder;
    s->labels = live_labels_get(l->labels);
    s->score_min = l->settings.score_min;
    s->encoder_number = parts->encoder_number;
    s->seq = l->applied;
    s->review = live_review_get(l->review);
    s->settled = head_fit_stale(l->head) == 0 && l->audited;
    s->published_us = clock_unix_us();
    rc = live_publish(parts->live, s);
    if (rc != 0)
        live_put(s);
    else
        l->fitted = head_fit_stale(l->head) == 0;
    return rc;
}

static int fit(struct learned *l, struct learned_round *round)
{
    int64_t started = clock_us();
    int rc = head_fit(l->head);

    round->fitted = rc == 0;
    round->fit_us = clock_us() - started;
    return rc;
}

/* A fit inside the round: while the set is small, or after it has grown by a quarter. */
static bool fit_is_cheap(const struct head *head)
{
    uint64_t len = head_examples_len(head);

    return len <= LEARNED_FIT_INLINE || head_fit_stale(head) * 4 >= len;
}

int learned_catch_up(struct learned *l, const struct learner_parts *parts,
                     struct learned_round *ret_round)
{
    struct learned_round round = {0};
    int64_t upto, started, before = l->applied;
    struct touched t;
    int rc;

    touched_init(&t, encoder_info(parts->encoder)->dim);
    rc = read_stretch(l, parts, &t, &upto, &round);
    if (rc != 0 || round.events == 0)
        goto out;
    rc = touched_embed(&t, parts, &round.embedded);
    started = clock_us();
    if (rc == 0)
        rc = head_labels_grow(l->head, l->labels->len);
    if (rc == 0) {
        l->ahead = true;
        rc = touched_apply(&t, l->head);
    }
    if (rc != 0)
        goto out;
    round.apply_us = clock_us() - started;
    round.examples = t.len;
    l->applied = upto;
    l->audited = l->multi;
    l->unsaved += round.events;
    l->changed_us = clock_us();
    if (!round.more && fit_is_cheap(l->head)) /* a backlog is worked off first */
        rc = fit(l, &round);
    started = clock_us();
    if (rc == 0)
        rc = learned_publish(l, parts);
    if (rc == 0)
        l->ahead = false;
    round.publish_us = clock_us() - started;
out:
    touched_done(&t);
    if (rc == 0)
        *ret_round = round;
    else
        l->applied = before; /* applying them to the head once more changes nothing */
    return rc;
}

int learned_settle(struct learned *l, const struct learner_parts *parts,
                   struct learned_round *ret_round)
{
    struct learned_round round = {0};
    int rc = 0;

    if (head_fit_stale(l->head) > 0)
        rc = fit(l, &round);
    if (rc == 0)
        rc = learned_publish(l, parts);
    if (rc == 0)
        *ret_round = round;
    return rc;
}

/* ---- auditing -------------------------------------------------------------------------------- */

/* Distrusts the suspects, or nobody, and takes the findings as the ones to show. */
static int heed(struct learned *l)
{
    uint32_t len, twins_len, examined;
    const struct head_suspect *suspects = head_audit_suspects(l->audit, &len, &examined);
    const struct head_twin *twins = head_audit_twins(l->audit, &twins_len);
    struct live_review *review = live_review_new(suspects, len, twins, twins_len);
    struct head_id *ids = malloc((len + 1) * sizeof *ids);
    bool acts = head_audit_acts(l->audit);
    int rc = -ENOMEM;

    for (uint32_t i = 0; ids != NULL && i < len; i++)
        ids[i] = suspects[i].id;
    if (review != NULL && ids != NULL)
        rc = head_distrust(l->head, ids, acts ? len : 0);
    free(ids);
    if (rc != 0) {
        live_review_put(review);
        return rc;
    }
    review->seq = l->audit_seq;
    review->examined = examined;
    review->distrusted = acts;
    live_review_put(l->review);
    l->review = review;
    return 0;
}

int learned_audit(struct learned *l, const struct learner_parts *parts,
                  struct learned_round *ret_round)
{
    struct learned_round round = {0};
    bool done = false;
    int rc = 0;

    if (l->audit == NULL) {
        rc = head_audit_open(l->head, &l->audit);
        l->audit_seq = l->applied;
    }
    if (rc == 0)
        rc = head_audit_step(l->audit, &done);
    if (rc == 0 && done)
        rc = heed(l);
    if (rc != 0 || done) {
        head_audit_close(l->audit);
        l->audit = NULL;
    }
    if (rc == 0 && done) {
        l->audited = l->audit_seq == l->applied;
        l->unsaved += head_fit_stale(l->head) > 0; /* marks are worth an image */
        l->fitted = false;                         /* until it is published */
        round.finished = true;
        round.suspects = l->review->suspects_len;
        if (head_fit_stale(l->head) > 0)
            rc = fit(l, &round);
        if (rc == 0)
            rc = learned_publish(l, parts);
    }
    if (rc == 0)
        *ret_round = round;
    return rc;
}

/* ---- keeping --------------------------------------------------------------------------------- */

struct image_change {
    struct change change; /* first */
    int64_t model, encoder, seq;
    uint8_t sha256[STORE_HASH_BYTES];
};

static int image_write(struct change *change, struct store *store)
{
    struct image_change *c = (struct image_change *)change;

    return store_snapshot_add(store, c->model, c->encoder, c->seq, c->sha256);
}

static void image_done(struct change *change, int rc)
{
    if (rc != 0)
        log_warn("learner", "event", "image_not_named", NULL);
    free(change);
}

int learned_save(struct learned *l, const struct learner_parts *parts)
{
    struct image_change *c = calloc(1, sizeof *c);
    size_t bytes = head_image_bytes(l->head);
    void *image = malloc(bytes);
    char why[256] = "out of memory";
    int rc = c != NULL && image != NULL ? 0 : -ENOMEM;

    if (rc == 0) {
        head_image_write(l->head, image);
        rc = store_snapshot_write(parts->folder, l->model, parts->encoder_number, l->applied, image,
                                  bytes, why, sizeof why, c->sha256);
    }
    free(image);
    if (rc == 0) {
        c->change.write = image_write;
        c->change.done = image_done;
        c->change.after_commit = true;
        c->model = l->model;
        c->seq = l->applied;
        c->encoder = parts->encoder_number;
        rc = keeper_post(parts->keeper, &c->change);
    }
    if (rc != 0) {
        log_warn("learner", "event", "image_not_written", "model", l->name, "why", why, NULL);
        free(c);
        return rc;
    }
    l->unsaved = 0;
    return 0;
}
