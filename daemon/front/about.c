/* about.c -- what the daemon says about itself: info, requests, probes, metrics, contract. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/front/handlers.h"
#include "daemon/metrics.h"
#include "proto/openapi.h"

/* ---- info ------------------------------------------------------------------------------------ */

struct informing {
    struct front_message message; /* first */
    struct query query;
    struct server *server;
    uint32_t models;
    int64_t seq;
    int rc;
};

static int count_model(void *ud, const struct store_model *row)
{
    (void)row;
    ++*(uint32_t *)ud;
    return 0;
}

static int read_info(struct query *query, struct store *store)
{
    struct informing *i = (struct informing *)((char *)query - offsetof(struct informing, query));
    int rc = store_seq(store, &i->seq);

    return rc == 0 ? store_model_scan(store, count_model, &i->models) : rc;
}

static void info_read(struct query *query, int rc)
{
    struct informing *i = (struct informing *)((char *)query - offsetof(struct informing, query));

    i->rc = rc;
    front_post(&i->message);
}

static void arrive_info(struct front_message *message, struct exchange *x)
{
    struct informing *i = (struct informing *)message;
    const struct server *s = i->server;
    const struct encoder_info *e = encoder_info(s->base->encoder);
    const char *name = strrchr(s->settings.encoder, '/');
    struct api_buffer body = API_BUFFER_INIT;
    struct api_info info = {.version = LEARND_VERSION,
                            .encoder = name != NULL ? name + 1 : s->settings.encoder,
                            .encoder_sha256 = s->encoder_sha256,
                            .encoder_number = s->base->number,
                            .dim = e->dim,
                            .layers = e->layers,
                            .tokens_max = s->base->tokens_max,
                            .parameters = e->parameters,
                            .backend = e->backend,
                            .device = "cpu",
                            .precision = e->precision == ENCODER_BF16 ? "bf16" : "fp32",
                            .lanes = s->lanes_len,
                            .loops = s->loops_len,
                            .started_us = s->started_us,
                            .models = i->models,
                            .seq = i->seq,
                            .body_bytes_max = LIMIT_BODY_BYTES,
                            .feedback_bytes_max = LIMIT_FEEDBACK_BODY_BYTES};

    if (x != NULL && i->rc != 0) {
        exchange_failed(x, i->rc);
    } else if (x != NULL) {
        api_write_info(&body, &info);
        exchange_json(x, 200, &body);
    }
    free(i);
}

void handle_info(struct exchange *x)
{
    struct informing *i = calloc(1, sizeof *i);
    int rc = -ENOMEM;

    if (i != NULL) {
        i->message.ref = exchange_ref(x);
        i->message.arrive = arrive_info;
        i->server = exchange_server(x);
        i->query = (struct query){.read = read_info, .done = info_read};
        rc = reader_post(i->server->reader, &i->query);
    }
    if (rc != 0) {
        exchange_failed(x, rc);
        free(i);
    }
}

void handle_request(struct exchange *x)
{
    struct server *server = exchange_server(x);
    struct ring_entry *e = ring_get(server->ring, exchange_param(x, 0));
    struct api_buffer body = API_BUFFER_INIT;
    struct api_problem problem;
    struct api_request request;

    if (e == NULL) {
        api_problem_set(&problem, 404, "unknown_request", "id",
                        "this request is not remembered (any more)");
        exchange_problem(x, &problem);
        return;
    }
    request = (struct api_request){.request_id = e->request_id,
                                   .model = e->model_name,
                                   .version = {e->encoder_number, e->seq},
                                   .label = e->label,
                                   .score = e->score,
                                   .created_us = e->created_us,
                                   .text_held = true};
    api_write_request(&body, &request);
    exchange_json(x, 200, &body);
    free(e);
}

/* ---- probes ---------------------------------------------------------------------------------- */

void handle_live(struct exchange *x)
{
    struct api_buffer body = API_BUFFER_INIT;

    api_health_begin(&body, "live");
    api_health_end(&body);
    exchange_json(x, 200, &body);
}

/* Readiness tells the truth: a real forward pass by a lane, then a real write by the keeper. */
struct probing {
    struct front_message message; /* first */
    struct work work;
    struct work_item item;
    struct change change;
    struct server *server;
    int32_t ids[8];
    uint8_t types[8];
    int encode_rc, write_rc;
    float embedding[];
};

/* A disk with little room does not make it unready: questions are answered. */
static void check_disk(const struct server *server, struct api_buffer *body)
{
    struct disk_guard_state disk = keeper_disk(server->keeper);
    char detail[128];

    snprintf(detail, sizeof detail,
             disk.low            ? "%llu MiB free, under %llu: nothing is learned"
             : disk.free_min > 0 ? "%llu MiB free"
                                 : "not watched",
             (unsigned long long)disk.free_bytes >> 20, (unsigned long long)disk.free_min >> 20);
    api_health_check(body, "disk", !disk.low, detail);
}

static void arrive_probe(struct front_message *message, struct exchange *x)
{
    struct probing *p = (struct probing *)message;
    struct api_buffer body = API_BUFFER_INIT;
    bool ready = p->encode_rc == 0 && p->write_rc == 0;
    bool behind = learner_counts(p->server->learner).behind != 0;

    if (x != NULL) {
        api_health_begin(&body, ready ? "ready" : "unready");
        api_health_check(&body, "forward", p->encode_rc == 0,
                         p->encode_rc == 0 ? "a text was encoded" : strerror(-p->encode_rc));
        api_health_check(&body, "journal", p->write_rc == 0,
                         p->write_rc == 0 ? "a write is on disk" : strerror(-p->write_rc));
        api_health_check(&body, "learner", true, behind ? "catching up" : "caught up");
        check_disk(p->server, &body);
        api_health_end(&body);
        exchange_json(x, ready ? 200 : 503, &body);
    }
    free(p);
}

static int write_probe(struct change *change, struct store *store)
{
    (void)change;
    return store_probe(store);
}

static void probe_written(struct change *change, int rc)
{
    struct probing *p = (struct probing *)((char *)change - offsetof(struct probing, change));

    p->write_rc = rc;
    front_post(&p->message);
}

static void probe_encoded(struct work *work)
{
    struct probing *p = (struct probing *)((char *)work - offsetof(struct probing, work));
    int rc;

    p->encode_rc = atomic_load(&work->error);
    p->change = (struct change){.write = write_probe, .done = probe_written, .after_commit = true};
    rc = keeper_post(p->server->keeper, &p->change);
    if (rc != 0) { /* else it is the keeper's, and may be gone already */
        p->write_rc = rc;
        front_post(&p->message);
    }
}

void handle_ready(struct exchange *x)
{
    static const char text[] = "ready";
    struct server *server = exchange_server(x);
    struct tokenizer_input input = {text, sizeof text - 1, NULL, 0};
    struct probing *p = calloc(1, sizeof *p + server->base->dim * sizeof(float));
    int rc = -ENOMEM;

    if (p != NULL)
        rc = tokenizer_encode(server->base->tokenizer, &input, TOKENIZER_TRUNCATE_RIGHT, 8, p->ids,
                              p->types, &p->item.len, NULL);
    if (rc == 0) {
        p->message.ref = exchange_ref(x);
        p->message.arrive = arrive_probe;
        p->server = server;
        p->item.ids = p->ids;
        p->item.types = p->types;
        p->item.embedding = p->embedding;
        p->work.encoder = server->base;
        p->work.items = &p->item;
        p->work.items_len = 1;
        p->work.done = probe_encoded;
        rc = batcher_submit(server->batcher, &p->work);
    }
    if (rc != 0) {
        exchange_failed(x, rc);
        free(p);
    }
}

/* ---- metrics and contract -------------------------------------------------------------------- */

static void add_text(void *ud, const char *text, uint32_t len)
{
    api_buffer_add(ud, text, len);
}

static double resident_bytes(void)
{
    unsigned long pages = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    if (file != NULL) {
        if (fscanf(file, "%lu %lu", &pages, &resident) != 2)
            resident = 0;
        fclose(file);
    }
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static void write_gauges(const struct server *s, struct api_buffer *body)
{
    struct learner_counts l = learner_counts(s->learner);
    struct keeper_counts k = keeper_counts(s->keeper);
    struct disk_guard_state disk = keeper_disk(s->keeper);
    struct bus_counts b = bus_counts(s->bus);
    struct trainer_counts t = trainer_counts(s->trainer);
    struct lane_counts lanes = {0};
    const struct {
        const char *name, *help;
        double value;
    } gauges[] = {
        {"learnd_queue_texts", "Texts waiting for a lane.", batcher_waiting(s->batcher)},
        {"learnd_connections", "Open connections.", loops_connections(s->loops)},
        {"learnd_event_streams", "Open event streams.", loops_streams(s->loops)},
        {"learnd_events", "Events posted.", (double)b.posted},
        {"learnd_events_merged", "Events replaced by a newer one.", (double)b.merged},
        {"learnd_resident_bytes", "Resident memory.", resident_bytes()},
        {"learnd_swaps", "Snapshots published.", (double)live_swaps(s->live)},
        {"learnd_journal_commits", "Transactions of the journal.", (double)k.commits},
        {"learnd_journal_failures", "Changes that failed.", (double)k.failures},
        {"learnd_journal_commit_seconds", "The last commit.", (double)k.commit_us_last / 1e6},
        {"learnd_disk_free_bytes", "Free for the state folder; 0: not watched.",
         (double)disk.free_bytes},
        {"learnd_disk_low", "1 while nothing is learned for lack of room.", disk.low},
        {"learnd_learner_events", "Events applied.", (double)l.events},
        {"learnd_learner_failures", "Rounds that failed.", (double)l.failures},
        {"learnd_learner_embedded", "Texts embedded for learning.", (double)l.embedded},
        {"learnd_learner_fits", "Fits of a pool.", (double)l.fits},
        {"learnd_learner_audits", "Audits of stored labels.", (double)l.audits},
        {"learnd_learner_behind", "1 while events wait.", (double)l.behind},
        {"learnd_apply_seconds", "The last application of events.", (double)l.apply_us_last / 1e6},
        {"learnd_publish_seconds", "The last publish.", (double)l.publish_us_last / 1e6},
        {"learnd_fit_seconds", "The last fit.", (double)l.fit_us_last / 1e6},
        {"learnd_run_under_way", "1 while a run is.", t.running},
        {"learnd_runs", "Runs begun or taken up again.", (double)t.runs},
        {"learnd_runs_accepted", "Runs whose encoder went live.", (double)t.accepted},
        {"learnd_runs_refused", "Runs that the gate refused.", (double)t.refused},
        {"learnd_runs_failed", "Runs that failed.", (double)t.failed},
        {"learnd_runs_cancelled", "Runs that were cancelled.", (double)t.cancelled},
        {"learnd_run_steps", "Steps of all runs.", (double)t.steps},
        {"learnd_run_examples", "Examples in those steps.", (double)t.examples},
        {"learnd_rollbacks", "Encoders put back by hand.", (double)t.rollbacks},
    };

    for (size_t i = 0; i < sizeof gauges / sizeof *gauges; i++)
        metrics_gauge(add_text, body, gauges[i].name, gauges[i].help, gauges[i].value);
    for (uint32_t i = 0; i < s->lanes_len; i++) {
        struct lane_counts c = lane_counts(s->lanes[i]);

        lanes.batches += c.batches;
        lanes.texts += c.texts;
        lanes.tokens += c.tokens;
        lanes.failures += c.failures;
    }
    metrics_gauge(add_text, body, "learnd_lane_batches", "Batches encoded.", (double)lanes.batches);
    metrics_gauge(add_text, body, "learnd_lane_texts", "Texts encoded.", (double)lanes.texts);
    metrics_gauge(add_text, body, "learnd_lane_tokens", "Tokens encoded.", (double)lanes.tokens);
    metrics_gauge(add_text, body, "learnd_lane_failures", "Texts that failed.",
                  (double)lanes.failures);
}

#define FIGURE(member) offsetof(struct figures, member)

/* A row a model each; LIMIT_MODELS bounds them. */
static const struct {
    const char *name, *help;
    size_t at;
    bool count; /* a uint64_t, else a double */
    const char *type;
} figure_rows[] = {
    {"learnd_model_examples", "Examples the head holds.", FIGURE(examples), true, "gauge"},
    {"learnd_model_suspects", "Labels the last audit doubts.", FIGURE(suspects), true, "gauge"},
    {"learnd_prequential_corrections_total", "Corrections scored before they were learned.",
     FIGURE(rows), true, "counter"},
    {"learnd_prequential_accuracy_fading", "Of them, newer ones count more; multi: exact match.",
     FIGURE(accuracy_fading), false, "gauge"},
    {"learnd_prequential_accuracy_window", "Of the last 500; multi: exact match.",
     FIGURE(accuracy_window), false, "gauge"},
    {"learnd_prequential_macro_f1", "Mean F1 of labels.", FIGURE(macro_f1), false, "gauge"},
    {"learnd_prequential_micro_f1", "Kind multi.", FIGURE(micro_f1), false, "gauge"},
    {"learnd_prequential_hamming_loss", "Kind multi.", FIGURE(hamming_loss), false, "gauge"},
    {"learnd_prequential_ece", "Expected calibration error.", FIGURE(ece), false, "gauge"},
    {"learnd_prequential_brier", "Brier score, 0 to 2.", FIGURE(brier), false, "gauge"},
    {"learnd_prequential_novel_ratio", "Novel ones of the last 500.", FIGURE(novel), false,
     "gauge"},
    {"learnd_leave_one_out_accuracy", "Of stored examples, each without itself.",
     FIGURE(loo_accuracy), false, "gauge"},
    {"learnd_leave_one_out_macro_f1", "Mean F1 of labels.", FIGURE(loo_macro_f1), false, "gauge"},
    {"learnd_leave_one_out_ece", "Expected calibration error.", FIGURE(loo_ece), false, "gauge"},
    {"learnd_leave_one_out_brier", "Brier score, 0 to 2.", FIGURE(loo_brier), false, "gauge"},
    {"learnd_questions_watched_total", "Questions sampled for drift.", FIGURE(asked), true,
     "counter"},
    {"learnd_questions_novel_ratio", "Novel ones of the last 500 watched.", FIGURE(asked_novel),
     false, "gauge"},
    {"learnd_questions_abstained_ratio", "Unsure ones of the last 500 watched.",
     FIGURE(asked_abstained), false, "gauge"},
};

static double figure_of(const struct figures *f, size_t row)
{
    const char *at = (const char *)f + figure_rows[row].at;

    return figure_rows[row].count ? (double)*(const uint64_t *)at : *(const double *)at;
}

static void write_figures(const struct server *s, struct api_buffer *body)
{
    static const char alarms[] = "learnd_drift_alarms_total";
    struct figures *rows = malloc(LIMIT_MODELS * sizeof *rows);
    uint32_t len;

    if (rows == NULL) {
        body->rc = -ENOMEM;
        return;
    }
    len = learner_figures(s->learner, LIMIT_MODELS, rows);
    for (size_t k = 0; k < sizeof figure_rows / sizeof *figure_rows; k++) {
        metrics_family(add_text, body, figure_rows[k].name, figure_rows[k].help,
                       figure_rows[k].type);
        for (uint32_t i = 0; i < len; i++)
            metrics_of_model(add_text, body, figure_rows[k].name, rows[i].name, NULL,
                             figure_of(&rows[i], k));
    }
    metrics_family(add_text, body, alarms, "What a detector has told, news included.", "counter");
    for (uint32_t i = 0; i < len; i++)
        for (int k = 0; k < DRIFT_KINDS; k++)
            metrics_of_model(add_text, body, alarms, rows[i].name,
                             drift_kind_name((enum drift_kind)k), (double)rows[i].alarms[k]);
    free(rows);
}

void handle_metrics(struct exchange *x)
{
    struct api_buffer body = API_BUFFER_INIT;

    metrics_page(add_text, &body);
    write_gauges(exchange_server(x), &body);
    write_figures(exchange_server(x), &body);
    exchange_reply(x, 200, "text/plain; version=0.0.4; charset=utf-8", &body, NULL);
}

void handle_openapi(struct exchange *x)
{
    size_t len;
    const char *bytes = openapi_json(&len);

    exchange_static(x, "application/json", bytes, len);
}
