/* label_change.c -- what becomes of a label: PATCH and DELETE of it, POST to its merge and split.
 *
 * Each is one change for the keeper: names are resolved, checked and acted on inside its one
 * transaction, so that what was checked still holds when it is written, and the label as it is then
 * is the answer. It is given when a snapshot that knows the change is live.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/front/trail.h"

struct relabelling {
    struct front_message message; /* first */
    struct change change;
    struct server *server;
    int (*act)(struct relabelling *r, struct store *store);
    /* The request; one of the three, or none for DELETE. */
    struct api_label_patch *patch;
    struct api_label_merge *merge;
    struct api_label_split *split;
    char label[LIVE_NAME_BYTES]; /* of the path */
    struct store_label_change what;
    int64_t shown; /* the label that is the answer; 0: none, 204 */
    struct api_buffer body;
    struct api_problem problem; /* with rc -EINVAL */
    int rc;
};

static void relabelling_free(struct relabelling *r)
{
    api_label_patch_free(r->patch);
    api_label_merge_free(r->merge);
    api_label_split_free(r->split);
    api_buffer_done(&r->body);
    free(r);
}

/* ---- what was wrong -----------------------------------------------------------------------------
 */

/* The store's refusal in the words of the protocol; a failure of its own is passed on. field: what
 * the request calls the argument that was refused. */
static int refuse(struct relabelling *r, int rc, const char *field)
{
    static const struct {
        int rc, status;
        const char *code, *detail;
    } known[] = {
        {-ESTALE, 409, "label_merged", "this label was merged into another one"},
        {-EIDRM, 409, "label_retired", "this label is retired; restore it first"},
        {-EEXIST, 409, "label_exists", "this is the name or an old name of another label"},
        {-EMLINK, 409, "too_many_aliases", "the label has too many old names already"},
        {-ELOOP, 422, "invalid_value", "this is the label itself"},
        {-EDOM, 422, "invalid_value", "nobody has voted for or against the label here"},
        {-ENOENT, 404, "unknown_example", "the model has no such example"},
    };

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].rc == rc)
            return api_problem_set(&r->problem, known[i].status, known[i].code, field, "%s",
                                   known[i].detail);
    return rc;
}

/* The label of the path has no field. */
static const char *field_of(const char *argument, const char *field)
{
    return strcmp(argument, "label") == 0 ? "" : field;
}

/* ---- on the keeper's thread ---------------------------------------------------------------------
 */

static int turn(struct relabelling *r, struct store *store, bool active)
{
    const char *argument = "";
    int rc = active ? store_label_restore(store, &r->what, &r->change.seq, &argument)
                    : store_label_retire(store, &r->what, &r->change.seq, &argument);

    if (rc == -EALREADY)
        return api_problem_set(&r->problem, 409, active ? "label_active" : "label_retired",
                               "status", "this label is %s already", active ? "active" : "retired");
    return refuse(r, rc, "");
}

struct present {
    double score_min;
    char *payload; /* owned */
};

static int keep_present(void *ud, const struct store_label *row)
{
    struct present *p = ud;

    p->score_min = row->score_min;
    if (row->payload != NULL)
        p->payload = strdup(row->payload);
    return row->payload != NULL && p->payload == NULL ? -ENOMEM : 0;
}

/* What is not given stays as it is at that moment. */
static int set(struct relabelling *r, struct store *store)
{
    const struct api_label_patch *p = r->patch;
    struct present present = {-1, NULL};
    const char *argument;
    int rc = store_label_get(store, r->what.label, keep_present, &present);

    if (rc == 0)
        rc = store_label_set(store, &r->what, p->has_score_min ? p->score_min : present.score_min,
                             p->has_payload ? p->payload : present.payload, &r->change.seq,
                             &argument);
    free(present.payload);
    return refuse(r, rc, "");
}

static int rename_label(struct relabelling *r, struct store *store)
{
    const char *argument = "";
    int rc = store_label_rename(store, &r->what, r->patch->label, &r->change.seq, &argument);

    return refuse(r, rc, field_of(argument, "label"));
}

static int act_patch(struct relabelling *r, struct store *store)
{
    int rc = r->patch->label != NULL ? rename_label(r, store) : 0;

    if (rc == 0 && r->patch->has_status)
        rc = turn(r, store, r->patch->active);
    if (rc == 0 && (r->patch->has_score_min || r->patch->has_payload))
        rc = set(r, store);
    r->shown = r->what.label;
    return rc;
}

static int act_delete(struct relabelling *r, struct store *store)
{
    const char *argument;
    int rc = store_label_retire(store, &r->what, &r->change.seq, &argument);

    return rc == -EALREADY ? 0 : refuse(r, rc, "");
}

/* Of `into` both are asked: which label it is, to tell a merge with itself, and where that one is
 * today, to tell a cycle. */
static int act_merge(struct relabelling *r, struct store *store)
{
    const char *argument = "";
    int64_t named = 0;
    int rc = store_label_named(store, r->what.model, r->merge->into, &named);

    if (rc == -ENOENT)
        return api_problem_set(&r->problem, 422, "unknown_label", "into",
                               "the model has no such label");
    if (rc == 0)
        rc = store_label_final(store, named, &r->shown);
    if (rc == 0 && named != r->what.label && r->shown == r->what.label)
        return api_problem_set(&r->problem, 409, "merge_cycle", "into",
                               "this label was merged into the one that is to be merged");
    if (rc == 0)
        rc = store_label_merge(store, &r->what, named == r->what.label ? named : r->shown,
                               &r->change.seq, &argument);
    return refuse(r, rc, field_of(argument, "into"));
}

static int act_split(struct relabelling *r, struct store *store)
{
    const struct api_label_split *split = r->split;
    const char *argument = "";
    char field[32] = "label";
    uint32_t bad = 0;
    int64_t seq;
    int rc = store_label_add(store, r->what.model, split->label, r->what.now_us, &r->shown, &seq);

    if (rc == -EEXIST) /* found */
        rc = 0;
    if (rc == 0)
        rc = store_label_split(store, &r->what, r->shown, split->examples, split->examples_len,
                               &r->change.seq, &argument, &bad);
    if (strcmp(argument, "examples") == 0)
        snprintf(field, sizeof field, "examples[%u]", bad);
    return refuse(r, rc, field_of(argument, field));
}

struct showing {
    struct api_buffer *body;
    struct store *store;
};

static int show_alias(void *ud, const char *name, int64_t label)
{
    (void)label;
    api_label_alias(ud, name);
    return 0;
}

int handlers_write_label(struct api_buffer *body, struct store *store,
                         const struct store_label *label)
{
    char into[LIVE_NAME_BYTES] = "";
    struct api_label_row row = {.label = label->name,
                                .status = label->status,
                                .examples = label->examples,
                                .created_us = label->created_us,
                                .has_score_min = label->score_min >= 0,
                                .score_min = label->score_min,
                                .payload = label->payload};
    int64_t target = 0;
    int rc = 0;

    if (label->into != 0) {
        rc = store_label_final(store, label->into, &target);
        if (rc == 0)
            rc = store_label_name(store, target, into);
        row.into = into;
    }
    if (rc != 0)
        return rc;
    api_label_begin(body, &row);
    rc = store_alias_of(store, label->id, show_alias, body);
    api_label_end(body);
    return rc;
}

static int show(void *ud, const struct store_label *row)
{
    struct showing *s = ud;

    return handlers_write_label(s->body, s->store, row);
}

static int write_label(struct change *change, struct store *store)
{
    struct relabelling *r =
        (struct relabelling *)((char *)change - offsetof(struct relabelling, change));
    struct showing showing = {&r->body, store};
    int rc = store_label_named(store, r->what.model, r->label, &r->what.label);

    change->model = r->what.model;
    if (rc == -ENOENT)
        return api_problem_set(&r->problem, 404, "unknown_label", "",
                               "the model has no such label");
    if (rc == 0)
        rc = r->act(r, store);
    return rc == 0 && r->shown != 0 ? store_label_get(store, r->shown, show, &showing) : rc;
}

static void written(struct change *change, int rc)
{
    struct relabelling *r =
        (struct relabelling *)((char *)change - offsetof(struct relabelling, change));

    r->rc = rc;
    front_post(&r->message);
}

/* ---- on the loop --------------------------------------------------------------------------------
 */

static void arrive(struct front_message *message, struct exchange *x)
{
    struct relabelling *r = (struct relabelling *)message;

    if (x != NULL && r->rc == -EINVAL)
        exchange_problem(x, &r->problem);
    else if (x != NULL && r->rc != 0)
        exchange_failed(x, r->rc);
    else if (x != NULL && r->shown != 0)
        exchange_json(x, 200, &r->body);
    else if (x != NULL)
        exchange_reply(x, 204, NULL, &r->body, NULL);
    relabelling_free(r);
}

/* NULL after an answer: no such model, a name that no label can have, or no memory. */
static struct relabelling *relabelling_new(struct exchange *x,
                                           int (*act)(struct relabelling *, struct store *))
{
    struct snapshot *s = handlers_model(x, exchange_param(x, 0), "");
    const char *label = exchange_param(x, 1);
    struct relabelling *r;
    struct api_problem problem;

    if (s == NULL)
        return NULL;
    r = calloc(1, sizeof *r);
    if (r == NULL) {
        exchange_failed(x, -ENOMEM);
    } else if (!api_name_valid(label, strlen(label))) {
        api_problem_set(&problem, 404, "unknown_label", "", "the model has no such label");
        exchange_problem(x, &problem);
        free(r);
        r = NULL;
    } else {
        *r = (struct relabelling){
            .message = {.ref = exchange_ref(x), .arrive = arrive},
            .change = {.write = write_label, .done = written, .wait_applied = true},
            .server = exchange_server(x),
            .act = act,
            .what = {.model = s->model, .now_us = clock_unix_us()}};
        snprintf(r->label, sizeof r->label, "%s", label);
    }
    live_put(s);
    return r;
}

/* parsed: how the body went. Takes r. */
static void post(struct relabelling *r, struct exchange *x, const char *action, int parsed)
{
    const char *other = r->merge != NULL   ? r->merge->into
                        : r->split != NULL ? r->split->label
                                           : NULL;
    int rc = parsed == 0 ? trail_post(x, &r->change, action, other) : 0;

    if (parsed == 0 && rc == 0)
        return;
    if (parsed != 0)
        exchange_problem(x, &r->problem);
    else
        exchange_failed(x, rc);
    relabelling_free(r);
}

void handle_label_patch(struct exchange *x)
{
    const struct http_request *q = exchange_request(x);
    struct relabelling *r = relabelling_new(x, act_patch);

    if (r != NULL)
        post(r, x, "label_change",
             api_parse_label_patch(q->body, q->body_bytes, &r->patch, &r->problem));
}

void handle_label_delete(struct exchange *x)
{
    struct relabelling *r = relabelling_new(x, act_delete);

    if (r != NULL)
        post(r, x, "label_retire", 0);
}

void handle_label_merge(struct exchange *x)
{
    const struct http_request *q = exchange_request(x);
    struct relabelling *r = relabelling_new(x, act_merge);

    if (r != NULL)
        post(r, x, "label_merge",
             api_parse_label_merge(q->body, q->body_bytes, &r->merge, &r->problem));
}

void handle_label_split(struct exchange *x)
{
    const struct http_request *q = exchange_request(x);
    struct relabelling *r = relabelling_new(x, act_split);

    if (r != NULL)
        post(r, x, "label_split",
             api_parse_label_split(q->body, q->body_bytes, &r->split, &r->problem));
}
