/* erasing.c -- POST /v1/erase and DELETE /v1/examples/{id}: forgetting, answered when it is true.
 *
 * The walk: keeper (rows, in a transaction) -> learner, until every model that was touched serves a
 * head without it -> keeper again (log, images, slack of pages) -> answer. The order matters: an
 * image that the learner wrote before it knew is named, or refused, before the second visit. A
 * scrub that a reader holds up goes to the end of the keeper's box, so that corrections pass it.
 * What fails after the commit is answered 503 erase_incomplete, never as done.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/front/access.h"
#include "daemon/front/trail.h"
#include "store/erase.h"

enum { SCRUB_US_MAX = 5000000 };

struct erasing {
    struct front_message message; /* first */
    struct change change;
    struct server *server;
    struct api_erase *erase; /* NULL: of one example */
    uint8_t example[API_ID_BYTES];
    char who[STORE_NAME_BYTES_MAX + 1]; /* the key that asks for it */
    int64_t model;                      /* 0: all */
    int64_t now_us, until_us;
    struct store_erased erased;
    uint32_t applied_len; /* of erased.models: served without it */
    uint64_t requests;
    bool committed;
    int rc;
};

static struct erasing *of_change(struct change *change)
{
    return (struct erasing *)((char *)change - offsetof(struct erasing, change));
}

static void erasing_free(struct erasing *e)
{
    store_erased_done(&e->erased);
    api_erase_free(e->erase);
    free(e);
}

/* ---- the answer ------------------------------------------------------------------------------ */

static void answer_failed(const struct erasing *e, struct exchange *x)
{
    struct api_problem why, problem;

    handlers_failure(e->rc, &why);
    if (e->rc == -EBUSY)
        api_problem_set(&why, 503, "", "", "a reader holds the write-ahead log");
    else if (e->rc == -ENOSPC)
        api_problem_set(&why, 503, "", "", "the disk is full");
    if (!e->committed) {
        exchange_failed(x, e->rc);
        return;
    }
    api_problem_set(&problem, 503, "erase_incomplete", "",
                    "it is gone from the tables, not yet from all files: %.70s; send it again",
                    why.detail);
    exchange_problem(x, &problem);
}

static void arrive(struct front_message *message, struct exchange *x)
{
    struct erasing *e = (struct erasing *)message;
    struct api_buffer body = API_BUFFER_INIT;
    struct api_erased erased = {e->erased.examples, e->erased.votes, e->requests};

    if (x != NULL && e->rc != 0) {
        answer_failed(e, x);
    } else if (x != NULL && e->erase == NULL) {
        exchange_reply(x, 204, NULL, &body, NULL);
    } else if (x != NULL) {
        api_write_erased(&body, &erased);
        exchange_json(x, 200, &body);
    }
    erasing_free(e);
}

static void answer(struct erasing *e, int rc)
{
    e->rc = rc;
    front_post(&e->message);
}

/* ---- files: the keeper's thread -------------------------------------------------------------- */

/* Answers in flight may have remembered it meanwhile. */
static void forget_asked(struct erasing *e)
{
    const struct api_erase *r = e->erase;

    if (r != NULL && r->text != NULL)
        e->requests += ring_forget_text(e->server->ring, e->model, r->text, r->text_bytes, r->pair,
                                        r->pair_bytes);
}

static int scrub(struct change *change, struct store *store)
{
    forget_asked(of_change(change));
    return store_scrub(store);
}

static void scrubbed(struct change *change, int rc)
{
    struct erasing *e = of_change(change);

    if (rc == -EBUSY && clock_us() < e->until_us && keeper_post(e->server->keeper, change) == 0)
        return;
    answer(e, rc);
}

/* ---- heads: the learner's thread ------------------------------------------------------------- */

static int committed(struct change *change, struct learner *learner)
{
    struct erasing *e = of_change(change);

    e->committed = true;
    if (e->erase != NULL && e->erase->annotator != NULL)
        learner_forget_annotator(learner, e->model, e->erase->annotator);
    return 0;
}

/* One more model serves without it. Also the keeper's thread: then nothing was committed. */
static void applied(struct change *change, int rc)
{
    struct erasing *e = of_change(change);

    if (rc == -ENOENT && e->committed)
        rc = 0; /* the model was removed meanwhile */
    if (rc == 0 && ++e->applied_len < e->erased.models_len) {
        change->model = e->erased.models[e->applied_len].model;
        change->seq = e->erased.models[e->applied_len].seq;
        rc = learner_post(e->server->learner, change);
        if (rc == 0)
            return;
    }
    if (rc == 0) {
        *change = (struct change){.write = scrub, .done = scrubbed, .after_commit = true};
        e->until_us = clock_us() + SCRUB_US_MAX;
        rc = keeper_post(e->server->keeper, change);
        if (rc == 0)
            return;
    }
    answer(e, rc);
}

/* ---- rows: the keeper's thread --------------------------------------------------------------- */

static void removed(void *ud, int64_t model, const char *text, size_t text_bytes)
{
    struct erasing *e = ud;

    e->requests += ring_forget_text(e->server->ring, model, text, text_bytes, NULL, 0);
}

static int write_rows(struct change *change, struct store *store)
{
    struct erasing *e = of_change(change);
    const struct api_erase *r = e->erase;
    struct store_erase erase = {.model = e->model,
                                .example = r == NULL ? e->example : NULL,
                                .who = e->who,
                                .now_us = e->now_us,
                                .removed = removed,
                                .ud = e};
    int rc;

    if (r != NULL) {
        erase.text = r->text;
        erase.text_bytes = r->text_bytes;
        erase.pair = r->pair;
        erase.pair_bytes = r->pair_bytes;
        erase.annotator = r->annotator;
    }
    rc = store_erase(store, &erase, &e->erased);
    if (rc == 0)
        forget_asked(e);
    if (rc == 0 && e->erased.models_len > 0) {
        change->model = e->erased.models[0].model;
        change->seq = e->erased.models[0].seq;
    }
    return rc;
}

/* ---- the request ----------------------------------------------------------------------------- */

/* Takes erase. */
static void start(struct exchange *x, struct api_erase *erase, int64_t model,
                  const uint8_t example[API_ID_BYTES])
{
    struct erasing *e = calloc(1, sizeof *e);
    int rc;

    if (e == NULL) {
        api_erase_free(erase);
        exchange_failed(x, -ENOMEM);
        return;
    }
    e->message.ref = exchange_ref(x);
    e->message.arrive = arrive;
    e->server = exchange_server(x);
    e->erase = erase;
    e->model = model;
    if (example != NULL)
        memcpy(e->example, example, sizeof e->example);
    e->now_us = clock_unix_us();
    e->change = (struct change){
        .write = write_rows, .apply = committed, .done = applied, .wait_applied = true};
    access_name(e->server->access, exchange_who(x), e->who);
    if (erase == NULL)
        rc = trail_post(x, &e->change, "example_delete", NULL);
    else
        rc = trail_post(x, &e->change, erase->annotator != NULL ? "erase_annotator" : "erase_text",
                        erase->model);
    if (rc != 0) {
        exchange_failed(x, rc);
        erasing_free(e);
    }
}

void handle_erase(struct exchange *x)
{
    const struct http_request *r = exchange_request(x);
    struct snapshot *s = NULL;
    struct api_erase *erase;
    struct api_problem problem;
    int64_t model = 0;

    if (api_parse_erase(r->body, r->body_bytes, &erase, &problem) != 0) {
        exchange_problem(x, &problem);
        return;
    }
    if (erase->model != NULL) {
        s = handlers_model(x, erase->model, "model");
        if (s == NULL) {
            api_erase_free(erase);
            return;
        }
        model = s->model;
        live_put(s);
    }
    start(x, erase, model, NULL);
}

void handle_example_delete(struct exchange *x)
{
    const char *id = exchange_param(x, 0);
    struct api_problem problem;
    uint8_t example[API_ID_BYTES];

    if (api_id_parse(id, strlen(id), example) != 0) {
        api_problem_set(&problem, 422, "invalid_id", "id", "an example's id has 32 hex digits");
        exchange_problem(x, &problem);
        return;
    }
    start(x, NULL, 0, example);
}
