/* trainer_plan.c -- what a run starts from: the live pair's twin, the examples, the exact batches,
 * the weights; or all of it from the checkpoint that an earlier life of the run has left.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/learn/embed.h"
#include "daemon/learn/trainer_run.h"
#include "daemon/learn/weights_hash.h"
#include "daemon/log.h"

enum {
    EXAMPLES_MIN = 20,
    PROTOTYPE_TEXTS = 100, /* of a label: its mean moves by 1/10 of one text's distance */
    EMBED_TEXTS = 256,
};

static int why(struct run *run, int rc, const char *text)
{
    snprintf(run->why, sizeof run->why, "%s", text);
    return rc;
}

/* ---- what to start from ---------------------------------------------------------------------- */

/* joint: the untainted base, so that no drift adds up and what was deleted leaves no trace. replay
 * and naive go on from the live weights. */
static int open_start(struct run *run)
{
    struct trainer *t = run->trainer;
    int64_t number = strcmp(run->strategy, "joint") == 0 ? 0 : run->old->encoder->number;
    uint8_t hash[STORE_HASH_BYTES];
    int rc =
        encoders_get(t->parts.learner.encoders, number, run->why, sizeof run->why, &run->start);

    if (rc != 0)
        return rc;
    if (number != 0) {
        rc = store_encoder_folder(t->parts.learner.folder, number, run->start_folder);
        return rc != 0 ? why(run, rc, "the state folder's path is too long") : 0;
    }
    snprintf(run->start_folder, sizeof run->start_folder, "%s", t->parts.base);
    rc = weights_hash(run->start_folder, run->why, sizeof run->why, hash);
    if (rc == 0 && memcmp(hash, t->parts.base_sha256, sizeof hash) != 0)
        return why(run, -ESTALE, "the base encoder's file has changed since the daemon started");
    return rc;
}

static int enough(struct run *run)
{
    const struct material *m = run->material;
    uint32_t trusted = 0, labels_min = m->multi ? 1 : 2;

    for (uint32_t i = 0; i < m->len; i++)
        trusted += !m->rows[i].held_out && !m->rows[i].doubted;
    if (m->labels_len < labels_min) {
        snprintf(run->why, sizeof run->why, "too few labels: %u with examples, %u are needed",
                 m->labels_len, labels_min);
        return -ENODATA;
    }
    if (trusted < EXAMPLES_MIN) {
        snprintf(run->why, sizeof run->why,
                 "too few examples: %u that can be trained on, %u more are needed", trusted,
                 EXAMPLES_MIN - trusted);
        return -ENODATA;
    }
    return 0;
}

static enum plan_strategy strategy_of(const struct run *run)
{
    return strcmp(run->strategy, "replay") == 0  ? PLAN_REPLAY
           : strcmp(run->strategy, "naive") == 0 ? PLAN_NAIVE
                                                 : PLAN_JOINT;
}

/* The plan's rows are the material's, in its order; doubted ones stand as held out of everything by
 * being left out, so the index is kept beside. */
static int make_plan(struct run *run)
{
    const struct material *m = run->material;
    const struct plan_settings settings = {
        .strategy = strategy_of(run),
        .batch = run->settings.batch,
        .epochs = run->settings.epochs < 1 ? 1 : (uint32_t)(run->settings.epochs + 0.5),
        .steps_min = plan_settings_default.steps_min,
        .steps_max = run->settings.steps_max,
        .examples_max = run->settings.examples_max,
        .seed = run->seed};
    struct plan_row *rows = calloc(m->len + 1, sizeof *rows);
    uint32_t len = 0;
    int rc;

    run->rows = calloc(m->len + 1, sizeof *run->rows);
    if (rows == NULL || run->rows == NULL) {
        free(rows);
        return why(run, -ENOMEM, "out of memory");
    }
    for (uint32_t i = 0; i < m->len; i++) {
        struct head_id id = touched_head_id(m->rows[i].example);

        run->progress.held_out += m->rows[i].held_out;
        if (m->rows[i].doubted)
            continue;
        rows[len] = (struct plan_row){.hi = id.hi,
                                      .lo = id.lo,
                                      .label = m->rows[i].label,
                                      .len = m->rows[i].tokens_len,
                                      .seq = m->rows[i].seq,
                                      .old = m->rows[i].seq <= run->since_seq};
        run->rows[len++] = i;
    }
    rc = plan_open(rows, len, &settings, &run->plan);
    free(rows);
    if (rc == -ENODATA)
        return why(run, rc, "too few examples: none is new since the last run");
    return rc == 0 ? 0 : why(run, rc, "the run cannot be planned with these settings");
}

/* ---- prototypes ------------------------------------------------------------------------------ */

/* Adds the embeddings of some rows to their labels' sums. */
static int add_embeddings(struct run *run, const uint32_t *rows, uint32_t len, float *sums)
{
    const struct material *m = run->material;
    uint32_t dim = run->start->dim;
    struct work_item *items = calloc(len, sizeof *items);
    float *embeddings = malloc((size_t)len * dim * sizeof *embeddings);
    int rc = items != NULL && embeddings != NULL ? 0 : -ENOMEM;

    for (uint32_t i = 0; i < len && rc == 0; i++)
        items[i] = (struct work_item){.ids = m->ids + m->rows[rows[i]].token,
                                      .types = m->types + m->rows[rows[i]].token,
                                      .len = m->rows[rows[i]].tokens_len,
                                      .embedding = embeddings + (size_t)i * dim};
    if (rc == 0)
        rc = embed_texts(run->trainer->parts.learner.batcher, run->start, items, len);
    for (uint32_t i = 0; i < len && rc == 0; i++)
        for (uint32_t c = 0; c < dim; c++)
            sums[(size_t)m->rows[rows[i]].label * dim + c] += embeddings[(size_t)i * dim + c];
    free(items);
    free(embeddings);
    return rc;
}

/* The mean embedding of each label by the starting weights: what the temporary head starts from. */
static int prototypes(struct run *run, float **ret_prototypes)
{
    const struct material *m = run->material;
    float *sums = calloc((size_t)m->labels_len * run->start->dim, sizeof *sums);
    uint32_t *seen = calloc(m->labels_len, sizeof *seen), rows[EMBED_TEXTS], len = 0;
    int rc = sums != NULL && seen != NULL ? 0 : -ENOMEM;

    for (uint32_t i = 0; i < m->len && rc == 0; i++) {
        const struct material_row *row = &m->rows[i];

        if (row->held_out || row->doubted || row->label == UINT32_MAX ||
            seen[row->label]++ >= PROTOTYPE_TEXTS)
            continue;
        rows[len++] = i;
        if (len == EMBED_TEXTS) {
            rc = add_embeddings(run, rows, len, sums);
            len = 0;
        }
    }
    if (rc == 0)
        rc = add_embeddings(run, rows, len, sums);
    free(seen);
    if (rc != 0) {
        free(sums);
        return why(run, rc, "the examples could not be embedded");
    }
    *ret_prototypes = sums;
    return 0;
}

/* ---- weights --------------------------------------------------------------------------------- */

static int open_train_on(struct run *run, const struct backend *backend,
                         const struct train_settings *s, const float *prototypes)
{
    run->progress.device = backend->name;
    return train_open(backend, run->start_folder, s, run->material->used, run->material->used_len,
                      prototypes, run->why, sizeof run->why, &run->train);
}

/* Nothing is lost yet where the device has no room for a run, or cannot train: the CPU does it. */
static int open_train(struct run *run)
{
    struct device *device = run->trainer->parts.device;
    struct train_settings s = run->settings.train;
    struct plan_summary plan;
    float *start = NULL;
    int rc = prototypes(run, &start);

    if (rc != 0)
        return rc;
    plan_read(run->plan, &plan);
    s.kind = run->material->multi ? TRAIN_MULTI : TRAIN_SINGLE;
    s.labels_len = run->material->labels_len;
    s.fp32 = run->trainer->parts.fp32;
    s.seed = run->seed;
    s.steps = plan.steps;
    s.threads = run->trainer->parts.threads;
    if (run->trainer->parts.tokens_max > 0)
        s.tokens_max = run->trainer->parts.tokens_max;
    if (run->trainer->parts.on_cpu)
        device = NULL;
    rc = open_train_on(run, device_backend(device), &s, start);
    if (device_backend(device) != backend_cpu() &&
        (rc == -ENOMEM || rc == -ENOTSUP || rc == -EIO || rc == -ENODEV)) {
        device_trains_on_cpu(device, run->why);
        rc = open_train_on(run, backend_cpu(), &s, start);
    }
    free(start);
    return rc;
}

/* ---- checkpoints ----------------------------------------------------------------------------- */

struct frame {
    uint64_t mark, plan_digest, material_bytes, train_bytes;
};
#define MARK 0x31676e696e696172 /* "raining1" */

int run_checkpoint(struct run *run)
{
    struct plan_summary plan;
    struct frame frame = {.mark = MARK,
                          .material_bytes = material_image_bytes(run->material),
                          .train_bytes = train_image_bytes(run->train)};
    void *material = malloc(frame.material_bytes), *train = malloc(frame.train_bytes);
    const struct store_piece pieces[] = {
        {&frame, sizeof frame}, {material, frame.material_bytes}, {train, frame.train_bytes}};
    char text[256] = "out of memory";
    int rc = -ENOMEM;

    plan_read(run->plan, &plan);
    frame.plan_digest = plan.digest;
    if (material != NULL && train != NULL) {
        material_image_write(run->material, material);
        snprintf(text, sizeof text, "the device does not give its weights");
        rc = train_image_write(run->train, train);
    }
    if (rc == 0)
        rc = store_run_image_write(run->trainer->parts.learner.folder, run->id, pieces, 3, text,
                                   sizeof text);
    free(material);
    free(train);
    if (rc != 0) /* the run goes on; a restart would begin it anew */
        log_warn("trainer", "event", "checkpoint_not_written", "model", run->model_name, "why",
                 text, NULL);
    return rc;
}

/* 0: the run is where its checkpoint was. Another rc: it begins anew. */
static int resume(struct run *run, const void *image, size_t bytes)
{
    const char *at = image;
    struct plan_summary plan;
    struct frame frame;
    int rc;

    if (bytes < sizeof frame)
        return -EINVAL;
    memcpy(&frame, at, sizeof frame);
    at += sizeof frame;
    bytes -= sizeof frame;
    if (frame.mark != MARK || frame.material_bytes > bytes ||
        frame.train_bytes != bytes - frame.material_bytes)
        return -EINVAL;
    rc = material_image_read(at, frame.material_bytes, run->start,
                             run->trainer->parts.learner.store, &run->material);
    if (rc == 0)
        rc = make_plan(run);
    if (rc != 0)
        return rc;
    plan_read(run->plan, &plan);
    if (plan.digest != frame.plan_digest)
        return -ESTALE;
    rc = open_train(run);
    return rc == 0 ? train_image_read(run->train, at + frame.material_bytes, frame.train_bytes)
                   : rc;
}

static void forget(struct run *run)
{
    train_close(run->train);
    plan_close(run->plan);
    material_free(run->material);
    free(run->rows);
    run->train = NULL;
    run->plan = NULL;
    run->material = NULL;
    run->rows = NULL;
    run->progress.held_out = 0;
}

/* True: the run goes on from its checkpoint. */
static bool taken_up(struct run *run)
{
    void *image = NULL;
    size_t bytes = 0;
    int rc = store_run_image_read(run->trainer->parts.learner.folder, run->id, &image, &bytes);

    if (rc == -ENOENT)
        return false;
    if (rc == 0)
        rc = resume(run, image, bytes);
    free(image);
    if (rc == 0) {
        run->progress.resumed = true;
        return true;
    }
    log_warn("trainer", "event", "begins_anew", "model", run->model_name, "why", strerror(-rc),
             NULL);
    run->why[0] = '\0';
    forget(run);
    return false;
}

int run_plan(struct run *run)
{
    struct plan_summary plan;
    int rc = run->start == NULL ? open_start(run) : 0;

    if (rc == 0 && strcmp(run->strategy, "replay") == 0) {
        rc = learned_freeze(run->old, &run->teacher);
        if (rc != 0)
            return why(run, rc, "out of memory");
    }
    if (rc == 0 && !taken_up(run)) {
        rc = material_read(run->old, run->start, run->trainer->parts.learner.store, &run->material);
        if (rc != 0)
            return why(run, rc, "the examples cannot be read");
        rc = enough(run);
        if (rc == 0)
            rc = make_plan(run);
        if (rc == 0)
            rc = open_train(run);
    }
    if (rc != 0)
        return rc;
    plan_read(run->plan, &plan);
    run->progress.examples = plan.rows_len + plan.old_len;
    run->progress.labels = run->material->labels_len;
    return 0;
}
