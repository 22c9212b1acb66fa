/* manage.c -- what changes models and labels. Each is one change for the keeper; models
 * also pass by the learner, which owns their heads, before they are answered.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/events.h"
#include "daemon/front/trail.h"

struct managing {
    struct front_message message; /* first */
    struct change change;
    struct server *server;
    int rc;
    int64_t model;
    const char *kind; /* of a new one; static */
    char name[LIVE_NAME_BYTES], label[LIVE_NAME_BYTES];
    char from[LIVE_NAME_BYTES]; /* whose encoder a new one begins with; "": the base */
    int64_t encoder;            /* of a new one */
    struct api_settings settings;
    struct api_buffer settings_text;
    struct api_problem problem; /* with rc -EINVAL */
    int64_t now_us;
    bool tells_model; /* when it is done, that the model .. */
    enum events_model_action model_action;
    void (*answer)(struct managing *m, struct exchange *x);
};

static struct managing *of_change(struct change *change)
{
    return (struct managing *)((char *)change - offsetof(struct managing, change));
}

static void managing_free(struct managing *m)
{
    api_buffer_done(&m->settings_text);
    free(m);
}

static void arrive(struct front_message *message, struct exchange *x)
{
    struct managing *m = (struct managing *)message;

    if (x != NULL)
        m->answer(m, x);
    managing_free(m);
}

static void done(struct change *change, int rc)
{
    struct managing *m = of_change(change);

    m->rc = rc;
    if (rc == 0 && m->tells_model)
        events_model(m->server->bus, m->name, m->model_action);
    front_post(&m->message);
}

static struct managing *managing_new(struct exchange *x,
                                     void (*answer)(struct managing *, struct exchange *))
{
    struct managing *m = calloc(1, sizeof *m);

    if (m == NULL) {
        exchange_failed(x, -ENOMEM);
        return NULL;
    }
    m->message.ref = exchange_ref(x);
    m->message.arrive = arrive;
    m->change.done = done;
    m->server = exchange_server(x);
    m->answer = answer;
    m->now_us = clock_unix_us();
    return m;
}

/* more: for the trail, what the path does not name; NULL: nothing. */
static void post(struct managing *m, struct exchange *x, const char *action, const char *more)
{
    int rc = trail_post(x, &m->change, action, more);

    if (rc == 0)
        return;
    exchange_failed(x, rc);
    managing_free(m);
}

static void answer_empty(struct managing *m, struct exchange *x)
{
    struct api_buffer body = API_BUFFER_INIT;

    if (m->rc != 0 && m->rc != -ENOENT)
        exchange_failed(x, m->rc);
    else
        exchange_reply(x, 204, NULL, &body, NULL);
}

static void tell_model(struct managing *m, const char *name, enum events_model_action action)
{
    snprintf(m->name, sizeof m->name, "%s", name);
    m->tells_model = true;
    m->model_action = action;
}

/* The settings as the store keeps them. */
static const char *settings_text(struct managing *m)
{
    api_write_settings(&m->settings_text, &m->settings);
    api_buffer_add(&m->settings_text, "", 1);
    return m->settings_text.rc == 0 ? m->settings_text.bytes : NULL;
}

/* ---- models ---------------------------------------------------------------------------------- */

static int find_from(void *ud, const struct store_model *row)
{
    struct managing *m = ud;

    if (strcmp(row->name, m->from) == 0)
        m->encoder = handlers_settings(row->settings).dim > 0 ? -1 : row->encoder;
    return 0;
}

/* The encoder that the other model has at this moment. */
static int begin_with(struct managing *m, struct store *store)
{
    int rc;

    m->encoder = -2;
    rc = store_model_scan(store, find_from, m);
    if (rc == 0 && m->encoder == -2)
        return api_problem_set(&m->problem, 404, "unknown_model", "from",
                               "there is no model of this name");
    if (rc == 0 && m->encoder == -1)
        return api_problem_set(&m->problem, 422, "no_encoder", "from",
                               "a model of encoder none has nothing to begin with");
    return rc;
}

static int write_create(struct change *change, struct store *store)
{
    struct managing *m = of_change(change);
    int rc = m->from[0] != '\0' ? begin_with(m, store) : 0;

    if (rc == 0)
        rc = store_model_add(store, m->name, m->kind, m->settings_text.bytes, m->now_us, &m->model);
    if (rc == 0 && m->encoder != 0)
        rc = store_live_set(store, m->model, m->encoder, -1, "created", m->now_us);
    return rc;
}

static int apply_create(struct change *change, struct learner *learner)
{
    return learner_model_add(learner, of_change(change)->model);
}

static void answer_create(struct managing *m, struct exchange *x)
{
    struct api_buffer body = API_BUFFER_INIT;
    struct api_problem problem;
    struct api_model model = {.name = m->name,
                              .kind = m->kind,
                              .version = {handlers_encoder(m->server, m->model), 0},
                              .settled = true,
                              .created_us = m->now_us,
                              .settings = m->settings};

    if (m->rc == -EINVAL) {
        exchange_problem(x, &m->problem);
    } else if (m->rc == -EEXIST) {
        api_problem_set(&problem, 409, "model_exists", "name", "there is a model of this name");
        exchange_problem(x, &problem);
    } else if (m->rc != 0) {
        exchange_failed(x, m->rc);
    } else {
        api_write_model(&body, &model);
        exchange_json(x, 201, &body);
    }
}

void handle_model_create(struct exchange *x)
{
    const struct http_request *r = exchange_request(x);
    struct api_model_create *create;
    struct api_problem problem;
    struct managing *m;

    if (api_parse_model_create(r->body, r->body_bytes, &create, &problem) != 0) {
        exchange_problem(x, &problem);
        return;
    }
    m = managing_new(x, answer_create);
    if (m != NULL) {
        tell_model(m, create->name, EVENTS_MODEL_CREATED);
        m->kind = create->kind;
        m->settings = create->settings;
        if (create->from != NULL)
            snprintf(m->from, sizeof m->from, "%s", create->from);
        m->change.write = write_create;
        m->change.grows = true;
        m->change.apply = apply_create;
        if (settings_text(m) == NULL) {
            exchange_failed(x, -ENOMEM);
            managing_free(m);
        } else {
            post(m, x, "model_create", m->name);
        }
    }
    api_model_create_free(create);
}

static int write_remove(struct change *change, struct store *store)
{
    return store_model_remove(store, of_change(change)->model);
}

static int apply_remove(struct change *change, struct learner *learner)
{
    struct managing *m = of_change(change);

    ring_forget_model(m->server->ring, m->model);
    handlers_hint(m->server); /* encoders that only it has used can go */
    return learner_model_remove(learner, m->model);
}

void handle_model_delete(struct exchange *x)
{
    struct server *server = exchange_server(x);
    struct snapshot *s = live_get(server->live, exchange_param(x, 0));
    struct api_buffer body = API_BUFFER_INIT;
    struct managing *m;

    if (s == NULL && !api_model_name_valid(exchange_param(x, 0), strlen(exchange_param(x, 0)))) {
        live_put(handlers_model(x, exchange_param(x, 0), "")); /* no model ever has that name */
        return;
    }
    if (s == NULL) { /* deleting twice is deleting once */
        exchange_reply(x, 204, NULL, &body, NULL);
        return;
    }
    m = managing_new(x, answer_empty);
    if (m != NULL) {
        m->model = s->model;
        tell_model(m, s->model_name, EVENTS_MODEL_REMOVED);
        m->change.write = write_remove;
        m->change.apply = apply_remove;
        post(m, x, "model_delete", NULL);
    }
    live_put(s);
}

/* ---- settings -------------------------------------------------------------------------------- */

static int find_settings(void *ud, const struct store_model *row)
{
    struct managing *m = ud;

    if (row->id == m->model)
        m->settings = handlers_settings(row->settings);
    return 0;
}

/* The patch is applied to what the store has at that moment, so that two patches do not undo each
 * other. settings_text holds the request's body until then. */
static int write_patch(struct change *change, struct store *store)
{
    struct managing *m = of_change(change);
    struct api_buffer body = m->settings_text;
    int rc = store_model_scan(store, find_settings, m);

    m->settings_text = (struct api_buffer)API_BUFFER_INIT;
    if (rc == 0 && api_parse_model_patch(body.bytes, body.len, &m->settings, &m->problem) != 0)
        rc = -EINVAL;
    api_buffer_done(&body);
    if (rc == 0 && settings_text(m) == NULL)
        rc = -ENOMEM;
    return rc == 0 ? store_model_settings(store, m->model, m->settings_text.bytes) : rc;
}

static int apply_patch(struct change *change, struct learner *learner)
{
    return learner_model_settings(learner, of_change(change)->model);
}

static void answer_patch(struct managing *m, struct exchange *x)
{
    if (m->rc == -EINVAL) {
        exchange_problem(x, &m->problem);
    } else if (m->rc != 0) {
        exchange_failed(x, m->rc);
    } else {
        handle_model(x); /* the model as it is now */
    }
}

void handle_model_patch(struct exchange *x)
{
    const struct http_request *r = exchange_request(x);
    struct snapshot *s = handlers_model(x, exchange_param(x, 0), "");
    struct api_settings trial;
    struct api_problem problem;
    struct managing *m;

    if (s == NULL)
        return;
    api_settings_default(&trial);
    /* A first look: whatever is wrong with the body itself is answered with its own words. */
    if (api_parse_model_patch(r->body, r->body_bytes, &trial, &problem) != 0 &&
        strcmp(problem.code, "immutable_field") != 0) {
        exchange_problem(x, &problem);
        live_put(s);
        return;
    }
    m = managing_new(x, answer_patch);
    if (m != NULL) {
        m->model = s->model;
        api_buffer_add(&m->settings_text, r->body, r->body_bytes);
        tell_model(m, s->model_name, EVENTS_MODEL_CHANGED);
        m->change.write = write_patch;
        m->change.apply = apply_patch;
        post(m, x, "model_settings", NULL);
    }
    live_put(s);
}

/* ---- labels ---------------------------------------------------------------------------------- */

static int write_label(struct change *change, struct store *store)
{
    struct managing *m = of_change(change);
    int64_t label;
    int rc = store_label_add(store, m->model, m->label, m->now_us, &label, &change->seq);

    change->model = m->model;
    return rc;
}

static void committed_label(struct change *change)
{
    struct managing *m = of_change(change);

    events_label(m->server->bus, m->name, EVENTS_LABEL_CREATED, m->label, NULL);
}

static void answer_label(struct managing *m, struct exchange *x)
{
    struct api_buffer body = API_BUFFER_INIT;
    struct api_label_row row = {.label = m->label, .status = "active", .created_us = m->now_us};
    struct api_problem problem;

    if (m->rc == -EEXIST) {
        api_problem_set(&problem, 409, "label_exists", "label",
                        "the model has, or had, a label of this name");
        exchange_problem(x, &problem);
    } else if (m->rc != 0) {
        exchange_failed(x, m->rc);
    } else {
        api_write_label(&body, &row);
        exchange_json(x, 201, &body);
    }
}

void handle_label_add(struct exchange *x)
{
    const struct http_request *r = exchange_request(x);
    struct snapshot *s = handlers_model(x, exchange_param(x, 0), "");
    struct api_label_add *add;
    struct api_problem problem;
    struct managing *m;

    if (s == NULL)
        return;
    if (api_parse_label_add(r->body, r->body_bytes, &add, &problem) != 0) {
        exchange_problem(x, &problem);
        live_put(s);
        return;
    }
    m = managing_new(x, answer_label);
    if (m != NULL) {
        m->model = s->model;
        snprintf(m->label, sizeof m->label, "%s", add->label);
        snprintf(m->name, sizeof m->name, "%s", s->model_name);
        m->change.write = write_label;
        m->change.grows = true;
        m->change.committed = committed_label;
        m->change.wait_applied = true;
        post(m, x, "label_add", m->label);
    }
    api_label_add_free(add);
    live_put(s);
}
