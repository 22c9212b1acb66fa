/* teaching.c -- see teaching.h. What can be checked on the loop is checked there (the model, the
 * request named); what only the store knows (labels, examples, keys) is found out inside the
 * keeper's transaction, each item between its own marks.
 */
#include "daemon/front/teaching.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/events.h"
#include "daemon/metrics.h"

int teaching_init(struct teaching *t, struct server *server, uint32_t items_max)
{
    t->server = server;
    t->items = calloc(items_max, sizeof *t->items);
    t->items_max = items_max;
    return t->items != NULL ? 0 : -ENOMEM;
}

void teaching_clear(struct teaching *t)
{
    for (uint32_t i = 0; i < t->items_len; i++) {
        free(t->items[i].ring);
        free(t->items[i].labels);
        free(t->items[i].names);
        free(t->items[i].vector);
        api_feedback_free(t->items[i].owner);
    }
    t->items_len = 0;
}

void teaching_done(struct teaching *t)
{
    teaching_clear(t);
    free(t->items);
}

/* ---- on the loop ----------------------------------------------------------------------------- */

/* A text for a text model, a vector of its length for a vector model. */
static int find_vector(struct teaching_item *t, const struct snapshot *s)
{
    const struct api_feedback_item *in = t->item;

    if (s->vectors && in->text != NULL)
        return api_problem_set(&t->problem, 422, "vector_expected", "vector",
                               "the model has no encoder: send a vector");
    if (in->vector == NULL)
        return 0;
    if (!s->vectors)
        return api_problem_set(&t->problem, 422, "text_expected", "vector",
                               "the model has an encoder: send a text");
    if (in->vector_len != s->dim)
        return api_problem_set(&t->problem, 422, "wrong_dim", "vector",
                               "the model's vectors have %u numbers", s->dim);
    t->vector = malloc(s->dim * sizeof *t->vector);
    if (t->vector == NULL)
        return api_problem_set(&t->problem, 503, "out_of_memory", "", "no memory for this item");
    head_embedding_pack(in->vector, s->dim, t->vector);
    t->feedback.vector = t->vector;
    t->feedback.vector_bytes = s->dim * sizeof *t->vector;
    return 0;
}

static int find_model(struct teaching_item *t, struct server *server, const char *name,
                      uint32_t *ret_rate_max)
{
    struct snapshot *s = live_get(server->live, name);
    int rc;

    if (s == NULL)
        return api_problem_set(&t->problem, 404, "unknown_model", "model",
                               "there is no model of this name");
    t->feedback.model = s->model;
    t->multi = head_view_kind(s->view) == HEAD_MULTI;
    *ret_rate_max = s->rate_max;
    rc = find_vector(t, s);
    live_put(s);
    return rc;
}

/* Kind multi: the set that was answered, which may be empty. */
static int find_answered(struct teaching_item *t)
{
    uint32_t len = 0;

    if (t->feedback.label != NULL || t->feedback.labels != NULL)
        return 0;
    for (size_t at = 0; at < t->ring->labels_bytes; at += strlen(t->ring->labels + at) + 1)
        len++;
    if (len == 0 && t->feedback.op == STORE_REJECT)
        return api_problem_set(&t->problem, 422, "missing_field", "label",
                               "this request was answered without a label");
    t->labels = malloc((len + 1) * sizeof *t->labels);
    if (t->labels == NULL) {
        handlers_failure(-ENOMEM, &t->problem);
        return -ENOMEM;
    }
    t->feedback.labels = t->labels;
    for (size_t at = 0; at < t->ring->labels_bytes; at += strlen(t->ring->labels + at) + 1)
        t->labels[t->feedback.labels_len++] = t->ring->labels + at;
    return 0;
}

/* What a request_id stands for: its text, and for confirm and reject what was answered. */
static int find_request(struct teaching_item *t, struct server *server)
{
    struct store_feedback *f = &t->feedback;

    t->ring = ring_get(server->ring, t->item->request_id);
    if (t->ring == NULL)
        return api_problem_set(&t->problem, 404, "unknown_request", "request_id",
                               "this request is not remembered (any more); send the text");
    if (t->ring->model != f->model)
        return api_problem_set(&t->problem, 422, "invalid_value", "request_id",
                               "this request was answered by another model");
    if (t->ring->vector) {
        f->vector = t->ring->embedding;
        f->vector_bytes = t->ring->dim * sizeof *t->ring->embedding;
    } else {
        f->text = t->ring->text;
        f->text_bytes = t->ring->text_bytes;
    }
    f->pair = t->ring->pair;
    f->pair_bytes = t->ring->pair_bytes;
    f->request_encoder = t->ring->encoder_number;
    f->request_seq = t->ring->seq;
    if (t->multi)
        return find_answered(t);
    if (f->label == NULL && t->ring->label[0] != '\0')
        f->label = t->ring->label;
    if (f->label == NULL)
        return api_problem_set(&t->problem, 422, "missing_field", "label",
                               "this request was answered without a label");
    return 0;
}

static int check_rate(struct teaching_item *t, struct server *server, uint32_t rate_max)
{
    int64_t wait_us = rate_max > 0 ? rate_take(server->rate, t->feedback.model,
                                               t->feedback.annotator, rate_max, clock_us())
                                   : 0;

    return wait_us > 0 ? api_problem_set(&t->problem, 429, "rate_limited", "annotator",
                                         "more than %u items in a minute; again in %lld s",
                                         rate_max, (long long)(wait_us + 999999) / 1000000)
                       : 0;
}

static int prepare(struct teaching_item *t, struct server *server, const char *key)
{
    static const enum store_op ops[] = {STORE_LABEL, STORE_REJECT, STORE_LABEL, STORE_WITHDRAW};
    const struct api_feedback_item *in = t->item;
    uint32_t rate_max = 0;

    if (in->problem != NULL) {
        t->problem = *in->problem;
        return -EINVAL;
    }
    t->feedback = (struct store_feedback){
        .op = ops[in->action],
        .text = in->text,
        .text_bytes = in->text_bytes,
        .pair = in->pair,
        .pair_bytes = in->pair_bytes,
        .label = in->label,
        .labels = in->labels,
        .labels_len = in->labels_len,
        .create_label = in->create_labels && in->action == API_LABEL,
        .weight = in->weight,
        .annotator = in->annotator,
        .source = in->source,
        .idempotency_key = in->idempotency_key != NULL ? in->idempotency_key : key,
        .request_encoder = -1,
        .request_seq = -1,
        .now_us = clock_unix_us(),
    };
    store_sha256(in->canonical, in->canonical_bytes, t->feedback.body_hash);
    memcpy(t->feedback.example, in->example, STORE_ID_BYTES);
    if (find_model(t, server, in->model, &rate_max) != 0)
        return -EINVAL;
    if (!t->multi && in->labels != NULL) {
        if (in->labels_len != 1)
            return api_problem_set(&t->problem, 422, "kind_unsupported", "labels",
                                   "the model is of kind single: an example has one label");
        t->feedback.label = in->labels[0];
        t->feedback.labels = NULL;
    }
    if (in->request_id != NULL && find_request(t, server) != 0)
        return -EINVAL;
    return check_rate(t, server, rate_max); /* last: what is refused anyway does not count */
}

void teaching_add(struct teaching *t, const struct api_feedback_item *item,
                  struct api_feedback *owner, const char *key, uint64_t index)
{
    struct teaching_item *own = &t->items[t->items_len++];

    memset(own, 0, sizeof *own);
    own->owner = owner;
    own->item = item;
    own->index = index;
    own->refused = prepare(own, t->server, key) != 0;
}

/* ---- on the keeper's thread ------------------------------------------------------------------ */

static int strongest_label(void *ud, const struct store_example *row)
{
    int64_t *label = ud;
    double best = 0;

    for (uint32_t i = 0; i < row->target_len; i++) {
        if (row->target[i].value > best) {
            best = row->target[i].value;
            *label = row->target[i].label;
        }
    }
    return 0;
}

struct set_reading {
    struct teaching_item *item;
    struct store *store;
    const char **ret_field;
};

/* The labels an example has. -ENOENT: its votes left no target, or (to reject) none. */
static int read_set(void *ud, const struct store_example *row)
{
    struct set_reading *r = ud;
    struct teaching_item *t = r->item;
    int rc = 0;

    t->names = malloc((row->target_len + 1) * sizeof *t->names);
    t->labels = malloc((row->target_len + 1) * sizeof *t->labels);
    if (t->names == NULL || t->labels == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < row->target_len && rc == 0; i++) {
        rc = store_label_name(r->store, row->target[i].label, t->names[i]);
        t->labels[i] = t->names[i];
    }
    t->feedback.labels = t->labels;
    t->feedback.labels_len = row->target_len;
    *r->ret_field = "label";
    if (rc == 0 && (strcmp(row->status, "active") != 0 ||
                    (row->target_len == 0 && t->feedback.op == STORE_REJECT)))
        rc = -ENOENT;
    return rc;
}

/* Confirm or reject of a stored example without saying which label: the one it has, or (kind multi)
 * all. */
static int fill_label(struct teaching_item *t, struct store *store, const char **ret_field)
{
    int64_t label = 0;
    int rc;

    if (t->feedback.label != NULL || t->feedback.labels != NULL || t->feedback.op == STORE_WITHDRAW)
        return 0;
    *ret_field = "example";
    if (t->multi) {
        struct set_reading reading = {t, store, ret_field};

        return store_example_get(store, t->feedback.example, -1, read_set, &reading);
    }
    rc = store_example_get(store, t->feedback.example, -1, strongest_label, &label);
    if (rc != 0)
        return rc;
    *ret_field = "label";
    rc = label != 0 ? store_label_name(store, label, t->label) : -ENOENT;
    if (rc == 0)
        t->feedback.label = t->label;
    return rc;
}

/* What the store found wrong with one item. False: it is the store that failed. */
static bool explain(struct teaching_item *t, int rc, const char *field)
{
    if (rc == -EEXIST)
        api_problem_set(&t->problem, 409, "idempotency_conflict", field,
                        "this key came before with another item");
    else if (rc == -EIDRM)
        api_problem_set(&t->problem, 409, "label_retired", field,
                        "the label is retired and teaches nothing");
    else if (rc != -ENOENT)
        return false;
    else if (strcmp(field, "label") == 0 || strcmp(field, "labels") == 0)
        api_problem_set(&t->problem, 422, "unknown_label", field, "the model has no such label");
    else if (strcmp(field, "annotator") == 0)
        api_problem_set(&t->problem, 404, "no_vote", field,
                        "there is no vote of this annotator to take back");
    else if (strcmp(field, "model") == 0)
        api_problem_set(&t->problem, 404, "unknown_model", field, "the model is gone");
    else
        api_problem_set(&t->problem, 404, "unknown_example", field, "there is no such example");
    return true;
}

static int put(struct teaching_item *item, struct store *store)
{
    const char *field = "";
    int rc = store_mark(store), kept;

    if (rc != 0)
        return rc;
    rc = fill_label(item, store, &field);
    if (rc == 0)
        rc = store_feedback_put(store, &item->feedback, &item->receipt, &field);
    if (rc == 0 && item->ring != NULL && !item->ring->vector)
        rc = store_embedding_put(store, item->receipt.example, item->ring->encoder_number,
                                 item->ring->embedding,
                                 item->ring->dim * sizeof *item->ring->embedding);
    if (rc != 0 && !explain(item, rc, field))
        return rc;
    item->refused = rc != 0;
    kept = store_unmark(store, rc == 0);
    return kept;
}

static int write_items(struct change *change, struct store *store)
{
    struct teaching *t = (struct teaching *)((char *)change - offsetof(struct teaching, change));
    int rc = 0;

    for (uint32_t i = 0; i < t->items_len && rc == 0; i++) {
        struct teaching_item *item = &t->items[i];

        if (item->refused)
            continue;
        rc = put(item, store);
        if (rc == 0 && !item->refused && item->receipt.seq >= change->seq) {
            change->seq = item->receipt.seq;
            change->model = item->feedback.model;
        }
    }
    return rc;
}

static void committed(struct change *change)
{
    struct teaching *t = (struct teaching *)((char *)change - offsetof(struct teaching, change));

    for (uint32_t i = 0; i < t->items_len; i++)
        if (!t->items[i].refused && t->items[i].receipt.label_created)
            events_label(t->server->bus, t->items[i].item->model, EVENTS_LABEL_CREATED,
                         t->items[i].feedback.label, NULL);
}

static void written(struct change *change, int rc)
{
    struct teaching *t = (struct teaching *)((char *)change - offsetof(struct teaching, change));

    t->rc = rc;
    front_post(&t->message);
}

/* Taking back must go on when there is no room to learn. */
static bool grows(const struct teaching *t)
{
    for (uint32_t i = 0; i < t->items_len; i++)
        if (!t->items[i].refused && t->items[i].feedback.op != STORE_WITHDRAW &&
            t->items[i].feedback.op != STORE_DELETE)
            return true;
    return false;
}

int teaching_post(struct teaching *t, bool wait_applied)
{
    t->change = (struct change){.write = write_items,
                                .committed = committed,
                                .done = written,
                                .grows = grows(t),
                                .own_marks = true,
                                .wait_applied = wait_applied};
    return keeper_post(t->server->keeper, &t->change);
}

int teaching_wait(struct teaching *t, int64_t model, int64_t seq)
{
    t->change = (struct change){.done = written, .wait_applied = true, .model = model, .seq = seq};
    return learner_post(t->server->learner, &t->change);
}

bool teaching_read_wait(struct exchange *x, bool *ret_applied)
{
    struct api_problem problem;
    const char *wait;
    char text[16];

    if (exchange_query(x, "wait", text, sizeof text, &wait) != 0)
        return false;
    if (api_wait_parse(wait, wait != NULL ? strlen(wait) : 0, ret_applied, &problem) == 0)
        return true;
    exchange_problem(x, &problem);
    return false;
}

void teaching_count(const struct teaching *t)
{
    uint64_t refused = 0, duplicate = 0;

    for (uint32_t i = 0; i < t->items_len; i++) {
        refused += t->items[i].refused;
        if (t->items[i].refused)
            metrics_item_refusal(t->items[i].problem.code);
        duplicate += !t->items[i].refused && t->items[i].receipt.duplicate;
    }
    metrics_add(METRICS_FEEDBACK_REJECTED, refused);
    metrics_add(METRICS_FEEDBACK_DUPLICATE, duplicate);
    metrics_add(METRICS_FEEDBACK_ACCEPTED, t->items_len - refused - duplicate);
    access_corrections(t->server->access, &t->who, t->items_len - refused - duplicate);
}
