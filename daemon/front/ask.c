/* ask.c -- POST /v1/classify and /v1/embed.
 *
 * The walk: parse -> the model's present snapshot (held to the end: one version answers the whole
 * request) -> tokens -> one work for the batcher -> a lane -> back here -> answer. All memory of a
 * request is one block. With `explain` the texts of the nearest examples are fetched by the reader
 * in between.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/front/handlers.h"
#include "daemon/metrics.h"

_Static_assert((int)API_VOTES == (int)HEAD_SCORES, "explain shows every score");

struct because_text {
    char *text; /* owned; NULL: the example is gone */
    size_t bytes;
};

struct asking {
    struct front_message message; /* first */
    struct work work;
    struct query query;
    struct server *server;
    struct api_classify *classify; /* one of the two */
    struct api_embed *embed;
    const struct api_input *inputs;
    uint32_t inputs_len;
    char request_id[RING_ID_BYTES];
    int64_t started_us, tokenize_us;
    uint8_t *allowed;
    bool *truncated;
    struct because_text *because; /* (inputs_len,HEAD_NEIGHBOURS) with explain */
    float *votes;                 /* (labels,HEAD_SCORES) of the result that is written */
};

static void asking_free(struct asking *a)
{
    for (uint32_t i = 0; a->because != NULL && i < a->inputs_len * HEAD_NEIGHBOURS; i++)
        free(a->because[i].text);
    live_put(a->work.snapshot);
    api_classify_free(a->classify);
    api_embed_free(a->embed);
    free(a);
}

static void on_gone(void *ud)
{
    struct asking *a = ud;

    if (batcher_cancel(a->server->batcher, &a->work))
        asking_free(a);
}

static void on_done(struct work *work)
{
    struct asking *a = (struct asking *)((char *)work - offsetof(struct asking, work));

    front_post(&a->message);
}

/* ---- the answer ------------------------------------------------------------------------------ */

static int best_first(const void *a, const void *b)
{
    const struct api_scored *x = a, *y = b;

    return (x->score < y->score) - (x->score > y->score);
}

static bool is_multi(const struct asking *a)
{
    return head_view_kind(a->work.snapshot->view) == HEAD_MULTI;
}

/* The request's, or (kind multi) the label's own. */
static double threshold_of(const struct asking *a, uint32_t label)
{
    if (a->classify->has_threshold)
        return a->classify->threshold;
    return is_multi(a) ? head_view_threshold(a->work.snapshot->view, label) : 0;
}

static bool is_above(const struct asking *a, const struct work_item *item, uint32_t label)
{
    return item->probabilities[label] >= (float)threshold_of(a, label);
}

/* Labels that the answer lists, best first, into scored[]. Scores leave as floats, so a threshold
 * is rounded to one: a score that was read from an answer, sent back as threshold, lets its own
 * label through. */
static uint32_t list_labels(const struct asking *a, const struct work_item *item,
                            struct api_scored *scored)
{
    const struct live_labels *labels = a->work.snapshot->labels;
    const struct api_classify *c = a->classify;
    bool multi = is_multi(a), above = c->has_threshold || (multi && c->top_k == 0);
    uint32_t len = 0, most = c->top_k > 0 ? c->top_k : above ? UINT32_MAX : 1;

    for (uint32_t l = 0; l < head_view_labels_len(a->work.snapshot->view); l++)
        if (item->probabilities[l] > 0 && (!above || is_above(a, item, l)))
            scored[len++] = (struct api_scored){labels->names[l], item->probabilities[l],
                                                multi && c->explain ? threshold_of(a, l) : 0};
    qsort(scored, len, sizeof *scored, best_first);
    return len < most ? len : most;
}

static void result_id(const struct asking *a, uint32_t i, char id[RING_ID_BYTES])
{
    if (a->inputs_len == 1)
        snprintf(id, RING_ID_BYTES, "%.30s", a->request_id);
    else
        snprintf(id, RING_ID_BYTES, "%.30s-%u", a->request_id, i);
}

static uint32_t list_because(const struct asking *a, const struct work_item *item, uint32_t i,
                             struct api_because *because)
{
    uint32_t len = 0;

    for (uint32_t n = 0; a->because != NULL && n < item->answer.neighbours_len; n++) {
        const struct head_neighbour *near = &item->answer.neighbours[n];
        const struct because_text *text = &a->because[i * HEAD_NEIGHBOURS + n];

        handlers_example(near->id, because[len].example);
        because[len].text = text->text;
        because[len].text_bytes = text->bytes;
        because[len].label =
            near->label != UINT32_MAX ? a->work.snapshot->labels->names[near->label] : NULL;
        because[len++].similarity = near->similarity;
    }
    return len;
}

/* Kind multi: the best label that reaches its threshold; UINT32_MAX: none does. */
static uint32_t best_above(const struct asking *a, const struct work_item *item)
{
    uint32_t best = UINT32_MAX;

    for (uint32_t l = 0; l < head_view_labels_len(a->work.snapshot->view); l++)
        if (item->probabilities[l] > 0 && is_above(a, item, l) &&
            (best == UINT32_MAX || item->probabilities[l] > item->probabilities[best]))
            best = l;
    return best;
}

/* Kind multi: the names of what was listed and reached its threshold, each with its NUL. NULL: no
 * memory. */
static char *answered_set(const struct asking *a, const struct work_item *item,
                          const struct api_result *result, size_t *ret_bytes)
{
    const struct live_labels *labels = a->work.snapshot->labels;
    char *names = malloc((size_t)result->labels_len * LIVE_NAME_BYTES + 1);
    size_t at = 0;

    for (uint32_t i = 0; names != NULL && i < result->labels_len; i++) {
        const char *name = result->labels[i].label;
        uint32_t l = (uint32_t)((name - labels->names[0]) / LIVE_NAME_BYTES);

        if (!is_above(a, item, l))
            continue;
        memcpy(names + at, name, strlen(name) + 1);
        at += strlen(name) + 1;
    }
    *ret_bytes = at;
    return names;
}

/* The shares of the labels that are listed, in their order. */
static const float *list_votes(const struct asking *a, const struct work_item *item,
                               const struct api_scored *scored, uint32_t len)
{
    const struct live_labels *labels = a->work.snapshot->labels;

    for (uint32_t i = 0; item->shares != NULL && i < len; i++) {
        size_t l = (size_t)(scored[i].label - labels->names[0]) / LIVE_NAME_BYTES;

        memcpy(a->votes + (size_t)i * HEAD_SCORES, item->shares + l * HEAD_SCORES,
               HEAD_SCORES * sizeof *a->votes);
    }
    return item->shares != NULL ? a->votes : NULL;
}

/* The best score but the answer's own. */
static double second_of(const struct asking *a, const struct work_item *item)
{
    float second = 0;

    for (uint32_t l = 0; l < head_view_labels_len(a->work.snapshot->view); l++)
        if (l != item->answer.label && item->probabilities[l] > second)
            second = item->probabilities[l];
    return second;
}

/* Remembers the answer, so that feedback can name it. */
static void remember(const struct asking *a, const struct api_input *input,
                     const struct work_item *item, const struct api_result *result)
{
    const struct snapshot *s = a->work.snapshot;
    uint32_t dim = s->dim;
    uint16_t *packed = malloc(dim * sizeof *packed);
    char *names = NULL;
    struct ring_entry e = {.model = s->model,
                           .encoder_number = s->encoder->number,
                           .seq = s->seq,
                           .score = result->score,
                           .second = second_of(a, item),
                           .novelty = item->answer.novelty,
                           .created_us = clock_unix_us(),
                           .text = input->text,
                           .text_bytes = input->text_bytes,
                           .pair = input->pair,
                           .pair_bytes = input->pair_bytes,
                           .embedding = packed,
                           .dim = dim};

    if (is_multi(a))
        e.labels = names = answered_set(a, item, result, &e.labels_bytes);
    if (packed == NULL || (is_multi(a) && names == NULL)) {
        free(packed);
        free(names);
        return;
    }
    head_embedding_pack(item->embedding, dim, packed);
    if (input->vector != NULL) {
        e.vector = true;
        e.text = (const char *)packed;
        e.text_bytes = dim * sizeof *packed;
    }
    snprintf(e.request_id, sizeof e.request_id, "%s", result->request_id);
    snprintf(e.model_name, sizeof e.model_name, "%s", s->model_name);
    snprintf(e.label, sizeof e.label, "%s", result->label != NULL ? result->label : "");
    ring_put(a->server->ring, &e);
    free(packed);
    free(names);
}

/* A question is watched for drift; its answer only where the client left it free. */
static void watch(const struct asking *a, const struct work_item *item, uint32_t best, bool abstain)
{
    const struct snapshot *s = a->work.snapshot;
    uint16_t *packed = malloc(s->dim * sizeof *packed);
    struct asked_row row = {.model = s->model,
                            .encoder = s->encoder->number,
                            .asked_us = clock_unix_us(),
                            .column = best,
                            .chosen = a->classify->labels_len > 0,
                            .novel = item->answer.novel,
                            .abstained = abstain,
                            .dim = s->dim,
                            .embedding = packed};
    int rc = -ENOMEM;

    if (packed != NULL) {
        head_embedding_pack(item->embedding, s->dim, packed);
        rc = asked_put(a->server->asked, &row);
    }
    if (rc == 1)
        learner_asked(a->server->learner);
    metrics_add(METRICS_DRIFT_DROPPED, rc < 0);
    free(packed);
}

static void write_result(const struct asking *a, uint32_t i, struct api_scored *scored,
                         struct api_buffer *body)
{
    const struct work_item *item = &a->work.items[i];
    const struct snapshot *s = a->work.snapshot;
    struct api_because because[HEAD_NEIGHBOURS];
    char id[RING_ID_BYTES];
    uint32_t likely = item->answer.label; /* of all; best: of what is answered */
    uint32_t best = is_multi(a) && likely != UINT32_MAX ? best_above(a, item) : likely;
    double score_min = s->score_min;
    struct api_result r = {.id = a->inputs[i].id,
                           .request_id = id,
                           .label = best != UINT32_MAX ? s->labels->names[best] : NULL,
                           .score = best != UINT32_MAX     ? item->probabilities[best]
                                    : likely != UINT32_MAX ? item->probabilities[likely]
                                                           : 0,
                           .novelty = item->answer.novelty,
                           .novel = item->answer.novel,
                           .labels = scored,
                           .tokens = item->len,
                           .truncated = a->truncated[i],
                           .explained = a->classify->explain,
                           .because = because};

    result_id(a, i, id);
    if (best != UINT32_MAX) {
        r.payload = s->labels->rules[best].payload;
        score_min = live_score_min(s, best);
    }
    r.abstain = best == UINT32_MAX || item->answer.novel || r.score < (float)score_min;
    r.labels_len = list_labels(a, item, scored);
    r.votes = list_votes(a, item, scored, r.labels_len);
    r.because_len = list_because(a, item, i, because);
    api_classify_result(body, &r);
    if (a->classify->store) {
        remember(a, &a->inputs[i], item, &r);
        watch(a, item, best, r.abstain);
    }
    metrics_add(METRICS_ABSTAINED, r.abstain);
    metrics_add(METRICS_NOVEL, item->answer.novel);
}

static void count_spans(struct asking *a)
{
    uint64_t tokens = 0, truncated = 0;

    for (uint32_t i = 0; i < a->inputs_len; i++) {
        tokens += a->work.items[i].len;
        truncated += a->truncated[i];
    }
    metrics_add(METRICS_TEXTS, a->inputs_len);
    metrics_add(METRICS_TOKENS, tokens);
    metrics_add(METRICS_TRUNCATED, truncated);
    metrics_observe(METRICS_SPAN_TOKENIZE, a->tokenize_us);
    metrics_observe(METRICS_SPAN_QUEUE, atomic_load(&a->work.taken_us) - a->work.submitted_us);
    metrics_observe(METRICS_SPAN_ENCODE, atomic_load(&a->work.encode_us));
    if (a->classify != NULL)
        metrics_observe(METRICS_SPAN_HEAD, atomic_load(&a->work.head_us));
}

static void answer_classify(struct asking *a, struct exchange *x)
{
    struct api_buffer body = API_BUFFER_INIT;
    uint32_t labels = head_view_labels_len(a->work.snapshot->view);
    struct api_scored *scored = malloc((labels + 1) * sizeof *scored);
    struct api_timing timing = {
        .queue_ms = (double)(atomic_load(&a->work.taken_us) - a->work.submitted_us) / 1000,
        .tokenize_ms = (double)a->tokenize_us / 1000,
        .encode_ms = (double)atomic_load(&a->work.encode_us) / 1000,
        .head_ms = (double)atomic_load(&a->work.head_us) / 1000,
    };

    if (scored == NULL) {
        exchange_failed(x, -ENOMEM);
        return;
    }
    api_classify_begin(&body, a->work.snapshot->model_name, handlers_version(a->work.snapshot));
    for (uint32_t i = 0; i < a->inputs_len; i++)
        write_result(a, i, scored, &body);
    timing.total_ms = (double)(clock_us() - a->started_us) / 1000;
    api_classify_end(&body, &timing);
    free(scored);
    exchange_json(x, 200, &body);
}

static void answer_embed(struct asking *a, struct exchange *x)
{
    struct api_buffer body = API_BUFFER_INIT;
    uint32_t tokens[API_INPUTS_MAX];

    api_embed_begin(&body, a->work.snapshot->model_name, handlers_version(a->work.snapshot));
    for (uint32_t i = 0; i < a->inputs_len; i++) {
        api_embed_vector(&body, a->work.items[i].embedding, a->work.snapshot->dim);
        tokens[i] = a->work.items[i].len;
    }
    api_embed_end(&body, tokens, a->inputs_len);
    exchange_json(x, 200, &body);
}

/* ---- explain --------------------------------------------------------------------------------- */

static int keep_text(void *ud, const struct store_example *row)
{
    struct because_text *text = ud;

    if (row->vector != NULL)
        return 0;
    text->text = malloc(row->text_bytes + 1);
    if (text->text == NULL)
        return -ENOMEM;
    memcpy(text->text, row->text, row->text_bytes);
    text->bytes = row->text_bytes;
    return 0;
}

static int read_because(struct query *query, struct store *store)
{
    struct asking *a = (struct asking *)((char *)query - offsetof(struct asking, query));
    int rc = 0;

    for (uint32_t i = 0; i < a->inputs_len && rc == 0; i++) {
        const struct head_answer *answer = &a->work.items[i].answer;

        for (uint32_t n = 0; n < answer->neighbours_len && rc == 0; n++) {
            uint8_t example[API_ID_BYTES];

            handlers_example(answer->neighbours[n].id, example);
            rc = store_example_get(store, example, -1, keep_text,
                                   &a->because[i * HEAD_NEIGHBOURS + n]);
            rc = rc == -ENOENT ? 0 : rc; /* deleted since: it counted, but its text is gone */
        }
    }
    return rc;
}

static void because_read(struct query *query, int rc)
{
    struct asking *a = (struct asking *)((char *)query - offsetof(struct asking, query));

    atomic_store(&a->work.error, rc);
    front_post(&a->message);
}

static void arrive_explained(struct front_message *message, struct exchange *x)
{
    struct asking *a = (struct asking *)message;

    if (x != NULL && atomic_load(&a->work.error) != 0)
        exchange_failed(x, atomic_load(&a->work.error));
    else if (x != NULL)
        answer_classify(a, x);
    asking_free(a);
}

/* Back from the lanes. */
static void arrive(struct front_message *message, struct exchange *x)
{
    struct asking *a = (struct asking *)message;
    int64_t now = clock_us();
    int rc = atomic_load(&a->work.error);

    recent_note(a->server->recent, now - a->work.submitted_us, now);
    if (x == NULL) {
        asking_free(a);
        return;
    }
    exchange_on_gone(x, NULL, NULL); /* from here on the answer is a matter of microseconds */
    if (rc == 0)
        count_spans(a);
    if (rc == 0 && a->because != NULL) {
        message->arrive = arrive_explained;
        a->query = (struct query){.read = read_because, .done = because_read};
        rc = reader_post(a->server->reader, &a->query);
        if (rc == 0)
            return;
    }
    if (rc != 0)
        exchange_failed(x, rc);
    else if (a->classify != NULL)
        answer_classify(a, x);
    else
        answer_embed(a, x);
    asking_free(a);
}

/* ---- the question ---------------------------------------------------------------------------- */

static void *carve(char **at, size_t bytes)
{
    void *piece = *at;

    *at += (bytes + 15) / 16 * 16;
    return piece;
}

/* One block: the asking, items, flags, embeddings, probabilities, tokens. */
static struct asking *asking_new(struct server *server, const struct snapshot *s,
                                 const struct api_input *inputs, uint32_t len, bool score,
                                 bool explain)
{
    uint32_t labels = head_view_labels_len(s->view), tokens = s->encoder->tokens_max;
    size_t sizes[] = {sizeof(struct asking),
                      len * sizeof(struct work_item),
                      len * sizeof(bool),
                      labels + 1,
                      (size_t)len * s->dim * sizeof(float),
                      score ? (size_t)len * labels * sizeof(float) : 0,
                      explain ? (size_t)len * HEAD_NEIGHBOURS * sizeof(struct because_text) : 0,
                      (size_t)len * tokens * sizeof(int32_t),
                      (size_t)len * tokens,
                      explain ? (size_t)len * labels * HEAD_SCORES * sizeof(float) : 0,
                      explain ? (size_t)labels * HEAD_SCORES * sizeof(float) : 0};
    size_t total = 0;
    struct asking *a;
    float *embeddings, *probabilities, *shares;
    int32_t *ids;
    uint8_t *types;
    char *at;

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        total += (sizes[i] + 15) / 16 * 16;
    at = malloc(total);
    if (at == NULL)
        return NULL;
    a = carve(&at, sizes[0]);
    memset(a, 0, sizeof *a);
    a->work.items = carve(&at, sizes[1]);
    a->truncated = carve(&at, sizes[2]);
    a->allowed = carve(&at, sizes[3]);
    embeddings = carve(&at, sizes[4]);
    probabilities = carve(&at, sizes[5]);
    a->because = carve(&at, sizes[6]);
    ids = carve(&at, sizes[7]);
    types = carve(&at, sizes[8]);
    shares = carve(&at, sizes[9]);
    a->votes = carve(&at, sizes[10]);
    memset(a->because, 0, sizes[6]);
    if (!explain)
        a->because = NULL;
    a->server = server;
    a->inputs = inputs;
    a->inputs_len = a->work.items_len = len;
    for (uint32_t i = 0; i < len; i++)
        a->work.items[i] = (struct work_item){
            .ids = ids + (size_t)i * tokens,
            .types = types + (size_t)i * tokens,
            .embedding = embeddings + (size_t)i * s->dim,
            .probabilities = score ? probabilities + (size_t)i * labels : NULL,
            .shares = explain ? shares + (size_t)i * labels * HEAD_SCORES : NULL};
    return a;
}

/* Does an input fit the model: a text, or a vector of its length? */
static int fits(const struct snapshot *s, const struct api_input *in, uint32_t i,
                struct api_problem *problem)
{
    char field[32];

    snprintf(field, sizeof field, "inputs[%u].vector", i);
    if (s->vectors && in->vector == NULL)
        return api_problem_set(problem, 422, "vector_expected", field,
                               "the model has no encoder: send a vector");
    if (!s->vectors && in->vector != NULL)
        return api_problem_set(problem, 422, "text_expected", field,
                               "the model has an encoder: send a text");
    if (s->vectors && in->vector_len != s->dim)
        return api_problem_set(problem, 422, "wrong_dim", field,
                               "the model's vectors have %u numbers", s->dim);
    return 0;
}

/* Tokenizes every text, copies every vector. 0, or -errno with *problem filled. */
static int tokenize(struct asking *a, enum api_truncate truncate, struct api_problem *problem)
{
    struct held_encoder *held = a->work.snapshot->encoder;
    int64_t started = clock_us();

    a->work.encoder = held;
    for (uint32_t i = 0; i < a->inputs_len; i++) {
        const struct api_input *in = &a->inputs[i];
        struct tokenizer_input input = {in->text, in->text_bytes, in->pair, in->pair_bytes};
        struct work_item *item = &a->work.items[i];
        char field[96] = "";
        int rc = fits(a->work.snapshot, in, i, problem);

        if (rc != 0)
            return rc;
        if (in->vector != NULL) {
            memcpy(item->embedding, in->vector, in->vector_len * sizeof *in->vector);
            a->truncated[i] = false;
            continue;
        }
        rc = tokenizer_encode(held->tokenizer, &input,
                              truncate == API_TRUNCATE_LEFT    ? TOKENIZER_TRUNCATE_LEFT
                              : truncate == API_TRUNCATE_NEVER ? TOKENIZER_TRUNCATE_NEVER
                                                               : TOKENIZER_TRUNCATE_RIGHT,
                              held->tokens_max, (int32_t *)(uintptr_t)item->ids,
                              (uint8_t *)(uintptr_t)item->types, &item->len, &a->truncated[i]);

        if (rc == -EMSGSIZE) {
            if (a->classify != NULL)
                api_classify_field(a->classify, i, field);
            else
                api_embed_field(a->embed, i, field);
            return api_problem_set(problem, 422, "text_too_long", field,
                                   "the text has more than %u tokens", held->tokens_max);
        }
        if (rc != 0) {
            handlers_failure(rc, problem);
            return rc;
        }
    }
    a->tokenize_us = clock_us() - started;
    return 0;
}

/* Turns the names to choose among into flags. */
static int choose(struct asking *a, const struct api_classify *c, struct api_problem *problem)
{
    const struct live_labels *labels = a->work.snapshot->labels;

    if (c->labels_len == 0)
        return 0;
    memset(a->allowed, 0, labels->len + 1);
    for (uint32_t i = 0; i < c->labels_len; i++) {
        char field[32];
        uint32_t l = live_labels_find(labels, c->labels[i]);

        if (l == UINT32_MAX) {
            snprintf(field, sizeof field, "labels[%u]", i);
            return api_problem_set(problem, 422, "unknown_label", field,
                                   "the model has no such label");
        }
        a->allowed[l] = 1;
    }
    a->work.allowed = a->allowed;
    return 0;
}

/* Hands the tokenized work to the batcher, or answers. Takes the asking. */
static void submit(struct exchange *x, struct asking *a, int rc, const struct api_problem *problem)
{
    if (rc != 0) {
        exchange_problem(x, problem);
        asking_free(a);
        return;
    }
    a->message.ref = exchange_ref(x);
    a->message.arrive = arrive;
    a->work.done = on_done;
    a->started_us = exchange_started_us(x);
    snprintf(a->request_id, sizeof a->request_id, "%s", exchange_request_id(x));
    exchange_on_gone(x, on_gone, a);
    rc = batcher_queue(a->server->batcher, &a->work); /* server_round wakes a lane */
    if (rc != 0) {
        exchange_on_gone(x, NULL, NULL);
        exchange_failed(x, rc);
        asking_free(a);
    }
}

void handle_classify(struct exchange *x)
{
    const struct http_request *r = exchange_request(x);
    struct server *server = exchange_server(x);
    struct api_classify *c;
    struct api_problem problem;
    struct snapshot *s;
    struct asking *a;
    int rc;

    if (api_parse_classify(r->body, r->body_bytes, &c, &problem) != 0) {
        exchange_problem(x, &problem);
        return;
    }
    metrics_observe(METRICS_SPAN_PARSE, clock_us() - exchange_started_us(x));
    s = handlers_model(x, c->model, "model");
    if (s == NULL) {
        api_classify_free(c);
        return;
    }
    a = asking_new(server, s, c->inputs, c->inputs_len, true, c->explain);
    if (a == NULL) {
        live_put(s);
        api_classify_free(c);
        exchange_failed(x, -ENOMEM);
        return;
    }
    a->classify = c;
    a->work.snapshot = s;
    rc = choose(a, c, &problem);
    if (rc == 0 && c->has_version &&
        (c->version.encoder != s->encoder->number || c->version.seq != s->seq))
        rc = api_problem_set(&problem, 404, "unknown_version", "version",
                             "this version is not held any more; only the live one is");
    if (rc == 0)
        rc = tokenize(a, c->truncate, &problem);
    if (c->deadline_ms > 0)
        a->work.deadline_us = exchange_started_us(x) + (int64_t)c->deadline_ms * 1000;
    submit(x, a, rc, &problem);
}

void handle_embed(struct exchange *x)
{
    const struct http_request *r = exchange_request(x);
    struct server *server = exchange_server(x);
    struct api_embed *e;
    struct api_problem problem;
    struct snapshot *s;
    struct asking *a;

    if (api_parse_embed(r->body, r->body_bytes, &e, &problem) != 0) {
        exchange_problem(x, &problem);
        return;
    }
    metrics_observe(METRICS_SPAN_PARSE, clock_us() - exchange_started_us(x));
    s = handlers_model(x, e->model, "model");
    if (s == NULL) {
        api_embed_free(e);
        return;
    }
    if (s->vectors) {
        api_problem_set(&problem, 422, "no_encoder", "model", "the model has no encoder");
        exchange_problem(x, &problem);
        live_put(s);
        api_embed_free(e);
        return;
    }
    a = asking_new(server, s, e->inputs, e->inputs_len, false, false);
    if (a == NULL) {
        live_put(s);
        api_embed_free(e);
        exchange_failed(x, -ENOMEM);
        return;
    }
    a->embed = e;
    a->work.snapshot = s;
    submit(x, a, tokenize(a, e->truncate, &problem), &problem);
}
