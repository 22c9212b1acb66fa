/* handlers.c -- the table of routes, and what handlers share. */
#include "daemon/front/handlers.h"

#include <errno.h>
#include <string.h>

#include "daemon/events.h"

#define ASK LIMIT_BODY_BYTES
#define TEACH LIMIT_FEEDBACK_BODY_BYTES

const struct route server_routes[] = {
    {"POST", "/v1/classify", handle_classify, ROLE_PREDICT, ASK, NULL},
    {"POST", "/v1/feedback", handle_feedback, ROLE_ANNOTATE, TEACH, &feedback_stream},
    {"POST", "/v1/embed", handle_embed, ROLE_PREDICT, ASK, NULL},
    {"GET", "/v1/requests/{}", handle_request, ROLE_PREDICT, 0, NULL},
    {"GET", "/v1/models", handle_models, ROLE_PREDICT, 0, NULL},
    {"POST", "/v1/models", handle_model_create, ROLE_ADMIN, ASK, NULL},
    {"GET", "/v1/models/{}", handle_model, ROLE_PREDICT, 0, NULL},
    {"PATCH", "/v1/models/{}", handle_model_patch, ROLE_ADMIN, ASK, NULL},
    {"DELETE", "/v1/models/{}", handle_model_delete, ROLE_ADMIN, 0, NULL},
    {"GET", "/v1/models/{}/labels", handle_labels, ROLE_PREDICT, 0, NULL},
    {"POST", "/v1/models/{}/labels", handle_label_add, ROLE_ANNOTATE, ASK, NULL},
    {"PATCH", "/v1/models/{}/labels/{}", handle_label_patch, ROLE_ADMIN, ASK, NULL},
    {"DELETE", "/v1/models/{}/labels/{}", handle_label_delete, ROLE_ADMIN, 0, NULL},
    {"POST", "/v1/models/{}/labels/{}/merge", handle_label_merge, ROLE_ADMIN, ASK, NULL},
    {"POST", "/v1/models/{}/labels/{}/split", handle_label_split, ROLE_ADMIN, ASK, NULL},
    {"GET", "/v1/models/{}/examples", handle_examples, ROLE_ANNOTATE, 0, NULL},
    {"GET", "/v1/models/{}/review", handle_review, ROLE_ANNOTATE, 0, NULL},
    {"GET", "/v1/models/{}/next", handle_next, ROLE_ANNOTATE, 0, NULL},
    {"GET", "/v1/models/{}/evaluation", handle_evaluation, ROLE_PREDICT, 0, NULL},
    {"GET", "/v1/models/{}/versions", handle_versions, ROLE_PREDICT, 0, NULL},
    {"GET", "/v1/models/{}/versions/{}", handle_version, ROLE_PREDICT, 0, NULL},
    {"POST", "/v1/models/{}/rollback", handle_rollback, ROLE_ADMIN, ASK, NULL},
    {"POST", "/v1/models/{}/runs", handle_run_add, ROLE_ADMIN, ASK, NULL},
    {"POST", "/v1/models/{}/import", handle_encoder_import, ROLE_ADMIN, ASK, NULL},
    {"GET", "/v1/models/{}/encoder", handle_encoder, ROLE_ADMIN, 0, NULL},
    {"GET", "/v1/models/{}/encoder/{}", handle_encoder_file, ROLE_ADMIN, 0, NULL},
    {"GET", "/v1/runs", handle_runs, ROLE_ADMIN, 0, NULL},
    {"GET", "/v1/runs/{}", handle_run, ROLE_ADMIN, 0, NULL},
    {"DELETE", "/v1/runs/{}", handle_run_cancel, ROLE_ADMIN, 0, NULL},
    {"GET", "/v1/examples/{}", handle_example, ROLE_ANNOTATE, 0, NULL},
    {"DELETE", "/v1/examples/{}", handle_example_delete, ROLE_ANNOTATE, 0, NULL},
    {"GET", "/v1/events", handle_events, ROLE_ANNOTATE, 0, NULL},
    {"POST", "/v1/erase", handle_erase, ROLE_ADMIN, ASK, NULL},
    {"GET", "/v1/keys", handle_keys, ROLE_ADMIN, 0, NULL},
    {"POST", "/v1/keys", handle_key_create, ROLE_ADMIN, ASK, NULL},
    {"DELETE", "/v1/keys/{}", handle_key_revoke, ROLE_ADMIN, 0, NULL},
    {"GET", "/v1/me", handle_me, ROLE_PREDICT, 0, NULL},
    {"GET", "/v1/audit", handle_audit, ROLE_ADMIN, 0, NULL},
    {"GET", "/v1/info", handle_info, ROLE_PREDICT, 0, NULL},
    {"GET", "/health/live", handle_live, ROLE_NONE, 0, NULL},
    {"GET", "/health/ready", handle_ready, ROLE_NONE, 0, NULL},
    {"GET", "/metrics", handle_metrics, ROLE_METRICS, 0, NULL},
    {"GET", "/openapi.json", handle_openapi, ROLE_NONE, 0, NULL},
    {"GET", "/", handle_page, ROLE_NONE, 0, NULL},
    {"GET", "/console/{}", handle_page_file, ROLE_NONE, 0, NULL},
};

const size_t server_routes_len = sizeof server_routes / sizeof *server_routes;

void server_round(void *server)
{
    batcher_wake(((struct server *)server)->batcher);
}

void handlers_failure(int rc, struct api_problem *problem)
{
    static const struct {
        int rc, status;
        const char *code, *detail;
    } known[] = {
        {-EAGAIN, 503, "queue_full", "too much is waiting; try again"},
        {-ESHUTDOWN, 503, "shutting_down", "the daemon is stopping"},
        {-ETIME, 504, "deadline_exceeded", "the deadline passed before the text's turn came"},
        {-ENOENT, 404, "unknown_model", "the model was removed meanwhile"},
        {-ENOMEM, 503, "out_of_memory", "no memory for this request"},
        {-ENOSPC, 507, "disk_full", "the disk is full; nothing of this was kept"},
        {-EDQUOT, 507, "disk_low", "the disk has little room: nothing is learned until it has"},
        {-EROFS, 503, "read_only", "the state folder cannot be written; nothing of this was kept"},
        {-EUCLEAN, 503, "database_damaged", "the database is damaged; run learnctl doctor"},
        {-EMSGSIZE, 413, "line_too_long", "a line is longer than a line may be"},
        {-ENODEV, 503, "device_failed", "the device failed at this; try again"},
        {-EDOM, 500, "not_a_number", "the encoder's answer is not a number"},
    };

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (known[i].rc == rc) {
            api_problem_set(problem, known[i].status, known[i].code, "", "%s", known[i].detail);
            return;
        }
    }
    api_problem_set(problem, 503, "storage_failed", "", "the storage failed: %s", strerror(-rc));
}

void exchange_failed(struct exchange *x, int rc)
{
    struct server *server = exchange_server(x);
    struct api_problem problem;

    handlers_failure(rc, &problem);
    if (rc == -EAGAIN)
        events_warning(server->bus, NULL, problem.code, problem.detail);
    exchange_problem(x, &problem);
}

struct snapshot *handlers_model(struct exchange *x, const char *name, const char *field)
{
    struct server *server = exchange_server(x);
    struct snapshot *snapshot = live_get(server->live, name);
    struct api_problem problem;

    if (snapshot == NULL) {
        api_problem_set(&problem, 404, "unknown_model", field, "there is no model of this name");
        exchange_problem(x, &problem);
    }
    return snapshot;
}

void handlers_hint(const struct server *server)
{
    trainer_hint(server->trainer);
}

struct api_version handlers_version(const struct snapshot *snapshot)
{
    return (struct api_version){snapshot->encoder->number, snapshot->seq};
}

int64_t handlers_encoder(const struct server *server, int64_t model)
{
    struct snapshot *snapshot = live_get_by_id(server->live, model);
    int64_t number = snapshot != NULL ? snapshot->encoder->number : 0;

    live_put(snapshot);
    return number;
}

void handlers_example(struct head_id id, uint8_t ret_example[API_ID_BYTES])
{
    for (int i = 7; i >= 0; i--, id.hi >>= 8, id.lo >>= 8) {
        ret_example[i] = (uint8_t)id.hi;
        ret_example[8 + i] = (uint8_t)id.lo;
    }
}

struct api_settings handlers_settings(const char *text)
{
    struct api_settings settings;

    if (api_settings_parse(text, strlen(text), &settings) != 0)
        api_settings_default(&settings);
    return settings;
}
