/* browse.c -- lists and look-ups. Each is one query on the reader's thread, inside one consistent
 * snapshot of the store; rows are written straight into the answer as they come.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/front/handlers.h"

struct browsing {
    struct front_message message; /* first */
    struct query query;
    struct server *server;
    int (*fill)(struct browsing *b, struct store *store);
    int rc;
    struct api_problem problem; /* with rc -EINVAL */
    struct api_buffer body;
    struct store *store; /* while filling */
    int64_t model;       /* 0: none */
    char model_name[LIVE_NAME_BYTES];
    int64_t live_seq;
    uint32_t limit, rows;
    int64_t after, last; /* cursor in, cursor out */
    char label[LIVE_NAME_BYTES], annotator[LIVE_NAME_BYTES], status[32], q[512];
    struct store_example_filter filter;
    uint8_t example[API_ID_BYTES];
    bool whole; /* an example with its vector */
};

static int read_query(struct query *query, struct store *store)
{
    struct browsing *b = (struct browsing *)((char *)query - offsetof(struct browsing, query));

    b->store = store;
    return b->fill(b, store);
}

static void read_done(struct query *query, int rc)
{
    struct browsing *b = (struct browsing *)((char *)query - offsetof(struct browsing, query));

    b->rc = rc;
    front_post(&b->message);
}

static void browsing_free(struct browsing *b)
{
    api_buffer_done(&b->body);
    free(b);
}

static void arrive(struct front_message *message, struct exchange *x)
{
    struct browsing *b = (struct browsing *)message;

    if (x != NULL && b->rc == -EINVAL)
        exchange_problem(x, &b->problem);
    else if (x != NULL && b->rc != 0)
        exchange_failed(x, b->rc);
    else if (x != NULL)
        exchange_json(x, 200, &b->body);
    browsing_free(b);
}

/* model_name NULL: no model is needed. NULL after an answer. */
static struct browsing *browsing_new(struct exchange *x, const char *model_name,
                                     int (*fill)(struct browsing *, struct store *))
{
    struct snapshot *s = model_name != NULL ? handlers_model(x, model_name, "") : NULL;
    struct browsing *b;

    if (model_name != NULL && s == NULL)
        return NULL;
    b = calloc(1, sizeof *b);
    if (b == NULL) {
        live_put(s);
        exchange_failed(x, -ENOMEM);
        return NULL;
    }
    b->message.ref = exchange_ref(x);
    b->message.arrive = arrive;
    b->query = (struct query){.read = read_query, .done = read_done};
    b->server = exchange_server(x);
    b->fill = fill;
    if (s != NULL) {
        b->model = s->model;
        b->live_seq = s->seq;
        memcpy(b->model_name, s->model_name, sizeof b->model_name);
    }
    live_put(s);
    return b;
}

static void post(struct browsing *b, struct exchange *x)
{
    int rc = reader_post(b->server->reader, &b->query);

    if (rc == 0)
        return;
    exchange_failed(x, rc);
    browsing_free(b);
}

/* Reads ?limit and ?cursor. False after an answer; the browsing is freed then. */
static bool page(struct browsing *b, struct exchange *x, char list, int64_t start)
{
    char limit[32], cursor[64];
    const char *limit_text, *cursor_text;
    struct api_cursor at = {.list = list, .model = b->model};
    struct api_problem problem;

    if (exchange_query(x, "limit", limit, sizeof limit, &limit_text) != 0 ||
        exchange_query(x, "cursor", cursor, sizeof cursor, &cursor_text) != 0) {
        browsing_free(b);
        return false;
    }
    if (api_limit_parse(limit_text, limit_text != NULL ? strlen(limit_text) : 0, &b->limit,
                        &problem) != 0 ||
        api_cursor_parse(cursor_text, cursor_text != NULL ? strlen(cursor_text) : 0, start, &at,
                         &problem) != 0) {
        exchange_problem(x, &problem);
        browsing_free(b);
        return false;
    }
    b->after = at.after;
    return true;
}

/* Ends a list: a cursor if the page is full, so that there may be more. */
static void end_page(struct browsing *b, char list)
{
    struct api_cursor next = {list, b->model, b->last};
    char text[API_CURSOR_CHARS];

    api_cursor_format(&next, text);
    api_list_end(&b->body, b->rows >= b->limit ? text : NULL);
}

/* ---- models ---------------------------------------------------------------------------------- */

static void write_model(struct browsing *b, const struct store_model *row)
{
    struct snapshot *s = live_get_by_id(b->server->live, row->id);
    struct api_model model = {
        .name = row->name,
        .kind = row->kind,
        .version = {s != NULL ? s->encoder->number : row->encoder, s != NULL ? s->seq : row->seq},
        .settled = s != NULL && s->settled && s->seq == row->seq,
        .created_us = row->created_us,
        .examples = row->examples,
        .labels = row->labels,
        .settings = handlers_settings(row->settings)};

    live_put(s);
    api_write_model(&b->body, &model);
}

static int model_row(void *ud, const struct store_model *row)
{
    struct browsing *b = ud;

    if (row->id <= b->after || b->rows >= b->limit)
        return 0;
    write_model(b, row);
    b->last = row->id;
    b->rows++;
    return 0;
}

static int fill_models(struct browsing *b, struct store *store)
{
    int rc;

    api_list_begin(&b->body, "models");
    rc = store_model_scan(store, model_row, b);
    end_page(b, 'm');
    return rc;
}

void handle_models(struct exchange *x)
{
    struct browsing *b = browsing_new(x, NULL, fill_models);

    if (b != NULL && page(b, x, 'm', 0))
        post(b, x);
}

static int one_model(void *ud, const struct store_model *row)
{
    struct browsing *b = ud;

    if (row->id == b->model) {
        write_model(b, row);
        b->rows++;
    }
    return 0;
}

static int fill_model(struct browsing *b, struct store *store)
{
    int rc = store_model_scan(store, one_model, b);

    return rc != 0       ? rc
           : b->rows > 0 ? 0
                         : api_problem_set(&b->problem, 404, "unknown_model", "",
                                           "there is no model of this name");
}

void handle_model(struct exchange *x)
{
    struct browsing *b = browsing_new(x, exchange_param(x, 0), fill_model);

    if (b != NULL)
        post(b, x);
}

/* ---- labels ---------------------------------------------------------------------------------- */

static int label_row(void *ud, const struct store_label *row)
{
    struct browsing *b = ud;

    b->last = row->id;
    b->rows++;
    return handlers_write_label(&b->body, b->store, row);
}

static int fill_labels(struct browsing *b, struct store *store)
{
    int rc;

    api_list_begin(&b->body, "labels");
    rc = store_label_scan(store, b->model, b->after, b->limit, label_row, b);
    end_page(b, 'l');
    return rc;
}

void handle_labels(struct exchange *x)
{
    struct browsing *b = browsing_new(x, exchange_param(x, 0), fill_labels);

    if (b != NULL && page(b, x, 'l', 0))
        post(b, x);
}

/* ---- examples -------------------------------------------------------------------------------- */

static int find_name(void *ud, const struct store_model *row)
{
    struct browsing *b = ud;

    if (row->id == b->model)
        memcpy(b->model_name, row->name, sizeof b->model_name);
    return 0;
}

static int example_row(void *ud, const struct store_example *row)
{
    struct browsing *b = ud;
    char(*names)[STORE_NAME_BYTES_MAX + 1] = malloc((row->target_len + 1) * sizeof *names);
    struct api_scored *labels = malloc((row->target_len + 1) * sizeof *labels);
    struct api_example example = {.model = b->model_name,
                                  .text = row->vector == NULL ? row->text : NULL,
                                  .text_bytes = row->text_bytes,
                                  .pair = row->pair,
                                  .pair_bytes = row->pair_bytes,
                                  .labels = labels,
                                  .labels_len = row->target_len,
                                  .annotators = row->annotators,
                                  .weight = row->weight,
                                  .status = row->status,
                                  .first_seq = row->first_seq,
                                  .last_seq = row->last_seq,
                                  .created_us = row->created_us};
    int rc = names != NULL && labels != NULL ? 0 : -ENOMEM;

    if (b->whole && row->vector != NULL) {
        example.vector = row->vector;
        example.vector_len = (uint32_t)(row->vector_bytes / sizeof *row->vector);
    }
    for (uint32_t i = 0; i < row->target_len && rc == 0; i++) {
        rc = store_label_name(b->store, row->target[i].label, names[i]);
        labels[i] = (struct api_scored){names[i], row->target[i].value, 0};
    }
    if (rc == 0) {
        b->model = row->model;
        memcpy(example.example, row->id, API_ID_BYTES);
        if (b->model_name[0] == '\0')
            rc = store_model_scan(b->store, find_name, b);
        api_write_example(&b->body, &example);
        b->last = row->first_seq;
        b->rows++;
    }
    free(names);
    free(labels);
    return rc;
}

static int fill_examples(struct browsing *b, struct store *store)
{
    int rc;

    b->filter.after = b->after;
    b->filter.limit = b->limit;
    api_list_begin(&b->body, "examples");
    rc = store_example_scan(store, b->model, &b->filter, -1, example_row, b);
    end_page(b, 'e');
    return rc;
}

void handle_examples(struct exchange *x)
{
    struct browsing *b = browsing_new(x, exchange_param(x, 0), fill_examples);

    if (b == NULL || !page(b, x, 'e', 0))
        return;
    if (exchange_query(x, "label", b->label, sizeof b->label, &b->filter.label) != 0 ||
        exchange_query(x, "annotator", b->annotator, sizeof b->annotator, &b->filter.annotator) !=
            0 ||
        exchange_query(x, "status", b->status, sizeof b->status, &b->filter.status) != 0 ||
        exchange_query(x, "q", b->q, sizeof b->q, &b->filter.q) != 0) {
        browsing_free(b);
        return;
    }
    post(b, x);
}

static int fill_example(struct browsing *b, struct store *store)
{
    int rc = store_example_get(store, b->example, -1, example_row, b);

    return rc == -ENOENT ? api_problem_set(&b->problem, 404, "unknown_example", "id",
                                           "there is no such example")
                         : rc;
}

void handle_example(struct exchange *x)
{
    const char *id = exchange_param(x, 0);
    struct api_problem problem;
    struct browsing *b;
    uint8_t example[API_ID_BYTES];

    if (api_id_parse(id, strlen(id), example) != 0) {
        api_problem_set(&problem, 422, "invalid_id", "id", "an example's id has 32 hex digits");
        exchange_problem(x, &problem);
        return;
    }
    b = browsing_new(x, NULL, fill_example);
    if (b == NULL)
        return;
    memcpy(b->example, example, sizeof example);
    b->whole = true;
    post(b, x);
}
