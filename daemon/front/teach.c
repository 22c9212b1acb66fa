/* teach.c -- POST /v1/feedback with one JSON body: one item, or {"items":[..]}.
 *
 * Promise 1 lives here: nothing is answered before the keeper's transaction is on disk. A single
 * item that is refused answers with its own problem; in a list the others go on, and the answer
 * says which and why.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/front/teaching.h"
#include "daemon/metrics.h"

struct lesson {
    struct teaching teaching; /* first, with its message first */
    struct api_feedback *feedback;
    int64_t started_us;
};

static void lesson_free(struct lesson *l)
{
    teaching_done(&l->teaching);
    api_feedback_free(l->feedback);
    free(l);
}

static void answer(struct lesson *l, struct exchange *x)
{
    const struct teaching *t = &l->teaching;
    struct api_buffer body = API_BUFFER_INIT;
    struct api_version version = {handlers_encoder(t->server, t->change.model), t->change.seq};

    api_feedback_begin(&body);
    for (uint32_t i = 0; i < t->items_len; i++) {
        const struct store_receipt *r = &t->items[i].receipt;
        struct api_accepted accepted = {
            .seq = r->seq, .duplicate = r->duplicate, .label_created = r->label_created};

        if (t->items[i].refused)
            continue;
        memcpy(accepted.example, r->example, API_ID_BYTES);
        api_feedback_accepted(&body, &accepted);
    }
    api_feedback_middle(&body);
    for (uint32_t i = 0; i < t->items_len; i++)
        if (t->items[i].refused)
            api_feedback_rejected(&body, t->items[i].index, &t->items[i].problem);
    api_feedback_end(&body, t->change.seq != 0 ? &version : NULL, NULL);
    exchange_json(x, 202, &body);
}

static void arrive(struct front_message *message, struct exchange *x)
{
    struct lesson *l = (struct lesson *)message;
    struct teaching *t = &l->teaching;

    metrics_observe(METRICS_SPAN_COMMIT, clock_us() - l->started_us);
    if (t->rc == 0)
        teaching_count(t);
    if (x != NULL && t->rc != 0)
        exchange_failed(x, t->rc);
    else if (x != NULL && !l->feedback->batch && t->items[0].refused)
        exchange_problem(x, &t->items[0].problem);
    else if (x != NULL)
        answer(l, x);
    lesson_free(l);
}

/* wait=applied waits for one model's seq. */
static bool one_model(const struct teaching *t)
{
    int64_t model = 0;

    for (uint32_t i = 0; i < t->items_len; i++) {
        if (t->items[i].refused)
            continue;
        if (model != 0 && t->items[i].feedback.model != model)
            return false;
        model = t->items[i].feedback.model;
    }
    return true;
}

void handle_feedback(struct exchange *x)
{
    const struct http_request *r = exchange_request(x);
    struct api_problem problem;
    struct api_feedback *f;
    struct lesson *l;
    bool wait_all;
    int rc;

    if (!teaching_read_wait(x, &wait_all))
        return;
    if (api_parse_feedback(r->body, r->body_bytes, &f, &problem) != 0) {
        exchange_problem(x, &problem);
        return;
    }
    if (r->idempotency_key != NULL &&
        (f->batch || !api_name_valid(r->idempotency_key, strlen(r->idempotency_key)))) {
        api_problem_set(&problem, 422, "invalid_value", "Idempotency-Key",
                        f->batch ? "the header is for one item; give each item its own key"
                                 : "a key has 1 to 128 bytes without control characters");
        exchange_problem(x, &problem);
        api_feedback_free(f);
        return;
    }
    l = calloc(1, sizeof *l);
    if (l == NULL || teaching_init(&l->teaching, exchange_server(x), f->items_len) != 0) {
        free(l);
        api_feedback_free(f);
        exchange_failed(x, -ENOMEM);
        return;
    }
    l->feedback = f;
    l->started_us = clock_us();
    metrics_observe(METRICS_SPAN_PARSE, l->started_us - exchange_started_us(x));
    f->wait_applied |= wait_all;
    for (uint32_t i = 0; i < f->items_len; i++)
        teaching_add(&l->teaching, &f->items[i], NULL, r->idempotency_key, i);
    l->teaching.message.ref = exchange_ref(x);
    l->teaching.who = *exchange_who(x);
    l->teaching.message.arrive = arrive;
    if (f->wait_applied && !one_model(&l->teaching)) {
        api_problem_set(&problem, 422, "invalid_value", "wait",
                        "items of several models cannot wait to be applied together");
        exchange_problem(x, &problem);
        lesson_free(l);
        return;
    }
    if (!f->batch && l->teaching.items[0].refused) {
        arrive(&l->teaching.message, x);
        return;
    }
    rc = teaching_post(&l->teaching, f->wait_applied);
    if (rc != 0) {
        exchange_failed(x, rc);
        lesson_free(l);
    }
}
