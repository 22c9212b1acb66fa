/* about.c -- what the daemon says about itself: info, requests, probes, contract. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/front/device_page.h"
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
    struct device_report device;
    char backend[16];
    struct api_buffer body = API_BUFFER_INIT;
    struct api_info info = {.version = LEARND_VERSION,
                            .encoder = name != NULL ? name + 1 : s->settings.encoder,
                            .encoder_sha256 = s->encoder_sha256,
                            .encoder_number = s->base->number,
                            .dim = e->dim,
                            .layers = e->layers,
                            .tokens_max = s->base->tokens_max,
                            .parameters = e->parameters,
                            .backend = backend,
                            .precision = e->precision == ENCODER_BF16 ? "bf16" : "fp32",
                            .lanes = s->lanes_len,
                            .loops = s->loops_len,
                            .started_us = s->started_us,
                            .models = i->models,
                            .seq = i->seq,
                            .body_bytes_max = LIMIT_BODY_BYTES,
                            .feedback_bytes_max = LIMIT_FEEDBACK_BODY_BYTES};

    device_read(s->device, &device);
    snprintf(backend, sizeof backend, "%.*s", (int)strcspn(device.name, ":"), device.name);
    info.device = device.name;
    info.device_degraded = device.degraded;
    info.device_why = device.why;
    info.device_bytes_used = device.memory_used;
    info.device_bytes_total = device.memory_total;
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
    bool leaving = atomic_load(&p->server->leaving);
    bool ready = p->encode_rc == 0 && p->write_rc == 0 && !leaving;
    bool behind = learner_counts(p->server->learner).behind != 0;
    struct device_report device;

    device_read(p->server->device, &device);
    if (x != NULL) {
        api_health_begin(&body, !ready ? "unready" : device.degraded ? "degraded" : "ready");
        api_health_check(&body, "forward", p->encode_rc == 0,
                         p->encode_rc == 0 ? "a text was encoded" : strerror(-p->encode_rc));
        api_health_check(&body, "journal", p->write_rc == 0,
                         p->write_rc == 0 ? "a write is on disk" : strerror(-p->write_rc));
        api_health_check(&body, "device", !device.degraded,
                         device.degraded ? device.why : device.name);
        api_health_check(&body, "learner", true, behind ? "catching up" : "caught up");
        if (leaving)
            api_health_check(&body, "serving", false, "the daemon is stopping");
        check_disk(p->server, &body);
        api_health_end(&body);
        if (!ready)
            metrics_refusal("unready");
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

/* ---- the contract --------------------------------------------------------------------------- */

void handle_openapi(struct exchange *x)
{
    size_t len;
    const char *bytes = openapi_json(&len);

    exchange_static(x, 200, "application/json", bytes, len, NULL);
}
