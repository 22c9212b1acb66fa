/* learned.c -- see learned.h. One round of one model, in the order of the walk: journal -> touched
 * examples -> embeddings -> head -> snapshot.
 */
#include "daemon/learn/learned.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/events.h"
#include "daemon/learn/figures.h"
#include "daemon/learn/judge.h"
#include "daemon/learn/learned_image.h"
#include "daemon/learn/succession.h"
#include "daemon/learn/touched.h"
#include "daemon/log.h"

/* ---- opening --------------------------------------------------------------------------------- */

static uint32_t dim_of(const struct learned *l)
{
    return l->settings.dim > 0 ? l->settings.dim : l->encoder->dim;
}

static struct head_settings head_settings_of(const struct learned *l)
{
    return (struct head_settings){.dim = dim_of(l),
                                  .features = l->settings.features,
                                  .seed = l->settings.seed,
                                  .lambda = l->settings.lambda,
                                  .kind = l->multi ? HEAD_MULTI : HEAD_SINGLE,
                                  .tuned = l->settings.dim == 0 && l->encoder->number != 0};
}

/* The newest image if it can be read; else an empty head, which the whole journal then fills. */
static int open_head(struct learned *l, const struct learner_parts *parts)
{
    struct head_settings settings = head_settings_of(l);
    struct judge_settings judging;
    void *image = NULL;
    size_t bytes = 0;
    int64_t seq = 0;
    int rc = store_snapshot_read(parts->store, l->model, l->encoder->number, &seq, &image, &bytes);

    if (rc == 0) {
        rc = learned_image_read(&settings, image, bytes, &l->head, &l->judge);
        free(image);
        if (rc == 0) {
            l->applied = seq;
            return 0;
        }
        log_warn("learner", "event", "image_refused", "model", l->name, NULL);
    } else if (rc != -ENOENT) {
        log_warn("learner", "event", "image_unreadable", "model", l->name, NULL);
    }
    judging = learned_judge_settings(&settings);
    rc = head_open(&settings, &l->head);
    return rc == 0 ? judge_open(&judging, &l->judge) : rc;
}

void learned_close(struct learned *l)
{
    if (l == NULL)
        return;
    rival_close(l->rival);
    head_audit_close(l->audit);
    live_put(l->frozen);
    judge_close(l->judge);
    live_review_put(l->review);
    head_close(l->head);
    live_labels_put(l->labels);
    free(l->label_ids);
    encoders_put(l->encoder);
    free(l);
}

/* ---- labels ---------------------------------------------------------------------------------- */

struct id_reading {
    struct learned *learned;
    uint32_t max;
};

static int read_id(void *ud, const struct store_label *row)
{
    struct id_reading *r = ud;
    struct learned *l = r->learned;

    if (l->label_ids_len >= r->max) {
        uint32_t max = l->label_ids_len * 2 + 16;
        int64_t *bigger = realloc(l->label_ids, max * sizeof *bigger);

        if (bigger == NULL)
            return -ENOMEM;
        l->label_ids = bigger;
        r->max = max;
    }
    l->label_ids[l->label_ids_len++] = row->id;
    return 0;
}

/* New labels become new columns behind the old ones. A column is for ever: that of a retired or
 * merged label has no examples. */
static int read_ids(struct learned *l, struct store *store)
{
    struct id_reading r = {l, 0};
    int64_t last = l->label_ids_len > 0 ? l->label_ids[l->label_ids_len - 1] : 0;

    return store_label_columns(store, l->model, last, read_id, &r);
}

uint32_t learned_column(const struct learned *l, int64_t label)
{
    uint32_t from = 0, to = l->label_ids_len;

    while (from < to) {
        uint32_t middle = from + (to - from) / 2;

        if (l->label_ids[middle] == label)
            return middle;
        if (l->label_ids[middle] < label)
            from = middle + 1;
        else
            to = middle;
    }
    return UINT32_MAX;
}

struct label_reading {
    const struct learned *learned;
    int64_t upto;
    struct live_labels *labels;
    uint32_t *into; /* (labels->len) the column that a column's names mean */
};

/* A merge behind upto has not happened yet: the label still answers for itself. */
static int read_label(void *ud, const struct store_label *row)
{
    struct label_reading *r = ud;
    uint32_t column = learned_column(r->learned, row->id);
    struct live_label *rules;

    if (column == UINT32_MAX)
        return -EUCLEAN;
    r->into[column] = column;
    if (row->into != 0 && row->seq <= r->upto)
        r->into[column] = learned_column(r->learned, row->into);
    if (r->into[column] == UINT32_MAX)
        return -EUCLEAN;
    snprintf(r->labels->names[column], LIVE_NAME_BYTES, "%s", row->name);
    rules = &r->labels->rules[column];
    rules->score_min = row->score_min;
    if (row->payload == NULL)
        return 0;
    rules->payload = strdup(row->payload);
    return rules->payload != NULL ? 0 : -ENOMEM;
}

static int read_alias(void *ud, const char *name, int64_t label)
{
    struct label_reading *r = ud;
    uint32_t column = learned_column(r->learned, label);

    if (column == UINT32_MAX)
        return -EUCLEAN;
    while (r->into[column] != column)
        column = r->into[column];
    return live_labels_alias(r->labels, name, column);
}

/* Every label as of upto; all columns are known. *ret_labels untouched: nothing has changed since
 * the present ones. */
static int read_labels(struct learned *l, struct store *store, int64_t upto,
                       struct live_labels **ret_labels)
{
    struct label_reading r = {.learned = l, .upto = upto};
    int64_t seq = 0;
    int rc = store_label_seq(store, l->model, &seq);

    if (rc != 0 || (seq <= l->labels_seq && l->label_ids_len == l->labels->len))
        return rc;
    r.labels = live_labels_new(l->label_ids_len);
    r.into = calloc(l->label_ids_len + 1, sizeof *r.into);
    rc = r.labels != NULL && r.into != NULL ? 0 : -ENOMEM;
    if (rc == 0)
        rc = store_label_columns(store, l->model, 0, read_label, &r);
    if (rc == 0)
        rc = store_alias_scan(store, l->model, read_alias, &r);
    for (uint32_t i = 0; i < l->label_ids_len && rc == 0; i++)
        rc = read_alias(&r, r.labels->names[i], l->label_ids[i]);
    free(r.into);
    if (rc != 0) {
        live_labels_put(r.labels);
        return rc;
    }
    live_labels_seal(r.labels);
    *ret_labels = r.labels;
    return 0;
}

/* The head and what is told of its labels have the same columns at any time. labels NULL: as they
 * are. */
static int take_labels(struct learned *l, struct live_labels *labels, int64_t upto)
{
    int rc = head_labels_grow(l->head, l->label_ids_len);

    if (rc != 0 || labels == NULL) {
        live_labels_put(labels);
        return rc;
    }
    live_labels_put(l->labels);
    l->labels = labels;
    l->labels_seq = upto;
    return 0;
}

int learned_open(const struct learner_parts *parts, const struct store_model *row,
                 struct held_encoder *encoder, enum learned_role role, struct learned **ret_learned)
{
    struct learned *l = calloc(1, sizeof *l);
    struct live_labels *labels = NULL;
    int rc;

    if (l == NULL)
        return -ENOMEM;
    l->model = row->id;
    snprintf(l->name, sizeof l->name, "%s", row->name);
    l->multi = strcmp(row->kind, "multi") == 0;
    l->encoder = encoders_hold(encoder);
    l->role = role;
    l->labels = live_labels_new(0);
    rc = l->labels != NULL ? parts->settings_read(row->settings, &l->settings) : -ENOMEM;
    if (rc == 0)
        rc = open_head(l, parts);
    if (rc == 0) /* the image has columns, the store their names */
        rc = read_ids(l, parts->store);
    if (rc == 0)
        rc = read_labels(l, parts->store, l->applied, &labels);
    if (rc == 0)
        rc = take_labels(l, labels, l->applied);
    if (rc != 0) {
        learned_close(l);
        return rc;
    }
    l->audited = l->multi || head_examples_len(l->head) == 0; /* nothing to find */
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
};

static int read_row(void *ud, const struct store_example *row)
{
    struct row_reading *r = ud;

    return touched_add(r->touched, row, r->learned);
}

/* Reads the examples touched by (applied, *upto]. If a later event touched one of them again, the
 * stretch grows to include that event: the journal shows only the latest state of an example, and a
 * version must not be ahead of its seq. */
static int read_touched(struct learned *l, const struct learner_parts *parts, struct touched *t,
                        int64_t *upto)
{
    struct row_reading r = {t, l};
    int rc;

    for (;;) {
        touched_reset(t);
        rc = store_example_changed(parts->store, l->model, l->applied, *upto, l->encoder->number,
                                   read_row, &r);
        if (rc != 0 || t->last_seq <= *upto)
            return rc;
        *upto = t->last_seq;
    }
}

struct taught_reading {
    struct judge_events *events;
    bool multi; /* its sets are read from the examples */
    const struct live_labels *labels;
    int64_t upto;
};

/* An event "label" of the stretch. Stops behind it, or when there are too many to be scored. */
static int read_taught(void *ud, const struct store_event *row)
{
    struct taught_reading *r = ud;
    struct judge_events *e = r->events;
    uint32_t column;

    if (row->seq > r->upto || e->len == LEARNED_SCORED_MAX)
        return 1;
    if (strcmp(row->op, "label") != 0 || !row->has_example)
        return 0;
    column = live_labels_find(r->labels, row->label);
    if (column == UINT32_MAX && !r->multi)
        return 0;
    if (e->len == e->max) {
        uint32_t max = e->max * 2 + 64;
        struct judge_event *bigger = realloc(e->rows, max * sizeof *bigger);

        if (bigger == NULL)
            return 1;
        e->rows = bigger;
        e->max = max;
    }
    e->rows[e->len] = (struct judge_event){.seq = row->seq, .column = column};
    memcpy(e->rows[e->len].example, row->example, STORE_ID_BYTES);
    snprintf(e->rows[e->len++].annotator, sizeof e->rows->annotator, "%s", row->annotator);
    return 0;
}

/* What (applied, *ret_upto] did, in one view of the store. *ret_labels untouched: as they are. */
static int read_stretch(struct learned *l, const struct learner_parts *parts, struct touched *t,
                        int64_t *ret_upto, struct live_labels **ret_labels,
                        struct judge_events *taught, struct learned_round *round)
{
    struct event_reading events = {l->applied, 0};
    int rc = store_begin(parts->store);

    if (rc != 0)
        return rc;
    rc = store_event_scan(parts->store, l->model, l->applied, LEARNED_ROUND_EVENTS, read_event,
                          &events);
    if (rc == 0 && events.len > 0)
        rc = read_ids(l, parts->store);
    if (rc == 0 && events.len > 0)
        rc = read_touched(l, parts, t, &events.last);
    if (rc == 0 && events.len > 0)
        rc = read_labels(l, parts->store, events.last, ret_labels);
    if (rc == 0 && events.len > 0) {
        struct taught_reading r = {taught, l->multi, *ret_labels != NULL ? *ret_labels : l->labels,
                                   events.last};

        rc = store_event_scan(parts->store, l->model, l->applied, 0, read_taught, &r);
        rc = rc == 1 ? 0 : rc;
    }
    store_rollback(parts->store);
    *ret_upto = events.last;
    round->events = events.len;
    round->more = events.len == LEARNED_ROUND_EVENTS;
    return rc;
}

/* ---- a round --------------------------------------------------------------------------------- */

static void tell_swap(const struct learned *l, const struct snapshot *s,
                      const struct learner_parts *parts)
{
    struct events_swap swap = {.model = l->name,
                               .encoder_number = s->encoder->number,
                               .seq = s->seq,
                               .settled = s->settled,
                               .examples = head_examples_len(l->head),
                               .labels = l->labels->len};

    events_swap(parts->bus, &swap);
}

int learned_freeze(struct learned *l, struct snapshot **ret_snapshot)
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
    s->encoder = encoders_hold(l->encoder);
    s->labels = live_labels_get(l->labels);
    s->score_min = l->settings.score_min;
    s->rate_max = l->settings.annotator_rate_max;
    s->influence_max = l->settings.annotator_influence_max;
    s->dim = dim_of(l);
    s->vectors = l->settings.dim > 0;
    s->seq = l->applied;
    s->review = live_review_get(l->review);
    s->settled = head_fit_stale(l->head) == 0 && l->audited;
    s->published_us = clock_unix_us();
    *ret_snapshot = s;
    return 0;
}

int learned_publish(struct learned *l, const struct learner_parts *parts)
{
    struct snapshot *s;
    int rc = 0;

    if (l->role != LEARNED_CANDIDATE)
        rc = learned_freeze(l, &s);
    if (rc == 0 && l->role == LEARNED_LIVE) {
        rc = live_publish(parts->live, s);
        if (rc != 0)
            live_put(s);
        else
            tell_swap(l, s, parts);
    } else if (rc == 0 && l->role == LEARNED_SHADOW) {
        live_put(l->frozen);
        l->frozen = s;
    }
    if (rc == 0)
        l->fitted = head_fit_stale(l->head) == 0;
    return rc;
}

/* The judge that goes with `to`: the old one where it fits. */
static int take_judge(struct learned *from, struct learned *to)
{
    const struct head_settings settings = head_settings_of(to);
    const struct judge_settings judging = learned_judge_settings(&settings);

    if (dim_of(from) != dim_of(to))
        return to->judge != NULL ? 0 : judge_open(&judging, &to->judge);
    judge_close(to->judge);
    to->judge = from->judge;
    from->judge = NULL;
    return 0;
}

int learned_swap(struct learned *from, struct learned *to, const struct learner_parts *parts)
{
    const enum learned_role role = to->role;
    struct snapshot *frozen = NULL;
    int rc = learned_freeze(from, &frozen);

    if (rc == 0)
        rc = take_judge(from, to);
    if (rc != 0) {
        live_put(frozen);
        return rc;
    }
    to->role = LEARNED_LIVE;
    rc = learned_publish(to, parts);
    if (rc != 0) {
        if (from->judge == NULL) {
            from->judge = to->judge;
            to->judge = NULL;
        }
        to->role = role;
        live_put(frozen);
        return rc;
    }
    live_put(to->frozen);
    to->frozen = NULL;
    to->unsaved++; /* the judge's count */
    to->figures_stale = true;
    if (from->encoder->number != to->encoder->number)
        judge_encoder_changed(to->judge);
    from->role = LEARNED_SHADOW;
    from->frozen = frozen;
    return 0;
}

void learned_round_done(struct learned_round *round)
{
    free(round->outcomes);
    round->outcomes = NULL;
    round->outcomes_len = 0;
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
    struct live_labels *labels = NULL;
    struct judge_events taught = {0};
    struct touched t;
    int rc;

    touched_init(&t, l->encoder, dim_of(l));
    rc = read_stretch(l, parts, &t, &upto, &labels, &taught, &round);
    if (rc != 0 || round.events == 0)
        goto out;
    rc = touched_embed(&t, parts, &round.embedded);
    started = clock_us();
    if (rc == 0) {
        rc = take_labels(l, labels, upto);
        labels = NULL;
    }
    if (rc == 0) {
        judge_score(l->judge, l, parts, &t, &taught, &round);
        l->ahead = true;
        rc = touched_apply(&t, l->head);
    }
    if (rc != 0)
        goto out;
    round.apply_us = clock_us() - started;
    round.examples = t.len;
    l->applied = upto;
    l->audited = l->multi || head_examples_len(l->head) == 0;
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
    live_labels_put(labels);
    free(taught.rows);
    touched_done(&t);
    if (rc == 0) {
        *ret_round = round;
    } else {
        learned_round_done(&round);
        l->applied = before; /* applying them to the head once more changes nothing */
    }
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

int learned_figures(struct learned *l, struct figures_table *table)
{
    struct figures f = {.model = l->model, .examples = head_examples_len(l->head)};
    int rc = judge_figures(l->judge, l->head, &f);

    memcpy(f.name, l->name, sizeof f.name);
    f.suspects = l->review != NULL ? l->review->suspects_len : 0;
    if (rc == 0)
        rc = figures_set(table, &f);
    l->figures_stale = false; /* also when it failed: it comes with the next change */
    l->figures_us = clock_us();
    return rc;
}

/* ---- keeping --------------------------------------------------------------------------------- */

struct image_change {
    struct change change; /* first */
    struct bus *bus;
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
    struct image_change *c = (struct image_change *)change;

    if (rc != 0) {
        log_warn("learner", "event", "image_not_named", NULL);
        events_warning(c->bus, NULL, "image_not_named", strerror(-rc));
    }
    free(change);
}

int learned_save(struct learned *l, const struct learner_parts *parts)
{
    struct image_change *c = calloc(1, sizeof *c);
    size_t bytes = learned_image_bytes(l->head, l->judge);
    void *image = malloc(bytes);
    char why[256] = "out of memory";
    int rc = c != NULL && image != NULL ? 0 : -ENOMEM;

    if (rc == 0) {
        learned_image_write(l->head, l->judge, image);
        rc = store_snapshot_write(parts->folder, l->model, l->encoder->number, l->applied, image,
                                  bytes, why, sizeof why, c->sha256);
    }
    free(image);
    if (rc == 0) {
        c->change.write = image_write;
        c->change.done = image_done;
        c->change.after_commit = true;
        c->bus = parts->bus;
        c->model = l->model;
        c->seq = l->applied;
        c->encoder = l->encoder->number;
        rc = keeper_post(parts->keeper, &c->change);
    }
    if (rc != 0) {
        log_warn("learner", "event", "image_not_written", "model", l->name, "why", why, NULL);
        events_warning(parts->bus, l->name, "image_not_written", strerror(-rc));
        free(c);
        return rc;
    }
    l->unsaved = 0;
    l->asked = false;
    return 0;
}
