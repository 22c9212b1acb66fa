/* training.c -- see training.h. */
#include "daemon/training.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/limits.h"
#include "proto/api_runs.h"

enum { LOOK_US = 15000000 };

static int run_settings_read(const char *text, struct trainer_settings *ret_settings)
{
    struct api_run_settings s;
    struct train_settings *t = &ret_settings->train;
    int rc = api_run_settings_parse(text, strlen(text), &s);

    if (rc != 0)
        return rc;
    *ret_settings = (struct trainer_settings){.epochs = s.epochs,
                                              .steps_max = s.steps_max,
                                              .minutes_max = s.minutes_max,
                                              .examples_max = s.examples_max,
                                              .batch = s.batch,
                                              .margin = s.margin,
                                              .force = s.force};
    snprintf(ret_settings->folder, sizeof ret_settings->folder, "%s", s.folder);
    train_settings_default(t);
    t->lr = (float)s.lr;
    t->head_lr = (float)s.head_lr;
    t->dropout = (float)s.dropout;
    t->lora = !s.lora                         ? TRAIN_LORA_NONE
              : s.lora_targets == API_LORA_QV ? TRAIN_LORA_QV
                                              : TRAIN_LORA_ALL;
    if (s.lora) {
        t->lora_rank = s.lora_rank;
        t->lora_alpha = (float)s.lora_alpha;
    }
    if (s.strategy == API_REPLAY) {
        t->alpha = (float)s.alpha;
        t->distill = (float)s.distill;
        t->temperature = (float)s.temperature;
        t->feature = (float)s.feature;
    }
    return 0;
}

/* The buffer's text, the caller's. */
static char *text_of(struct api_buffer *b)
{
    char *text = NULL;

    api_buffer_add(b, "", 1);
    if (b->rc == 0)
        text = strdup(b->bytes);
    api_buffer_done(b);
    return text;
}

static char *progress_write(const struct trainer_progress *p)
{
    struct api_buffer b = API_BUFFER_INIT;
    struct api_run_progress progress = {.loss = p->loss,
                                        .lr = p->lr,
                                        .grad_norm = p->grad_norm,
                                        .examples_per_s = p->examples_per_s,
                                        .eta_s = p->eta_s,
                                        .examples = p->examples,
                                        .held_out = p->held_out,
                                        .labels = p->labels,
                                        .resumed = p->resumed,
                                        .yields = p->yields,
                                        .yield_s = p->yield_s,
                                        .device = p->device};

    api_write_run_progress(&b, &progress);
    return text_of(&b);
}

static char *verdict_write(const struct gate_verdict *v, double margin, bool forced,
                           const struct live_labels *labels)
{
    struct api_buffer b = API_BUFFER_INIT;
    struct api_run_loss losses[GATE_LOSSES_MAX];
    const char *reasons[GATE_REASONS];
    struct api_run_verdict verdict = {.accepted = v->accepted,
                                      .forced = forced,
                                      .reasons = reasons,
                                      .items = v->items,
                                      .lost = v->lost,
                                      .won = v->won,
                                      .accuracy_old = v->accuracy_old,
                                      .accuracy_new = v->accuracy_new,
                                      .difference = v->difference,
                                      .lower = v->lower,
                                      .margin = margin,
                                      .p = v->p,
                                      .visible = v->visible,
                                      .brier_old = v->brier_old,
                                      .brier_new = v->brier_new,
                                      .brier_lower = v->brier_lower,
                                      .ece_old = v->ece_old,
                                      .ece_new = v->ece_new,
                                      .auroc_old = v->auroc_old,
                                      .auroc_new = v->auroc_new,
                                      .latency_ratio = v->latency_ratio,
                                      .labels_tested = v->labels_tested,
                                      .losses = losses};

    for (int i = 0; i < GATE_REASONS; i++)
        if (v->reasons & 1u << i)
            reasons[verdict.reasons_len++] = gate_reason_name(1u << i);
    for (uint32_t i = 0; i < v->losses_len && i < GATE_LOSSES_MAX; i++) {
        const struct gate_loss *loss = &v->losses[i];

        if (loss->label < labels->len)
            losses[verdict.losses_len++] = (struct api_run_loss){labels->names[loss->label],
                                                                 loss->items,
                                                                 loss->lost,
                                                                 loss->won,
                                                                 loss->p,
                                                                 loss->p_adjusted};
    }
    api_write_run_verdict(&b, &verdict);
    return text_of(&b);
}

/* What a run that starts by itself is told: every default. */
static int default_settings(char *text, size_t text_bytes)
{
    struct api_buffer b = API_BUFFER_INIT;
    struct api_run_settings settings;
    struct api_problem problem;
    int rc = api_parse_run("{}", 2, &settings, &problem);

    if (rc == 0)
        api_write_run_settings(&b, &settings);
    api_buffer_add(&b, "", 1);
    rc = rc != 0 ? rc : b.rc;
    if (rc == 0 && b.len > text_bytes)
        rc = -ENOMEM;
    if (rc == 0)
        memcpy(text, b.bytes, b.len);
    api_buffer_done(&b);
    return rc;
}

int training_parts(const struct settings *s, struct trainer_parts *parts)
{
    static char text[1024];
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    parts->base = s->encoder;
    parts->fp32 = s->fp32;
    parts->threads = s->train_threads > 0  ? s->train_threads
                     : cores < 1           ? 1
                     : cores > LIMIT_LANES ? LIMIT_LANES
                                           : (uint32_t)cores;
    parts->yield_p99_us = (int64_t)s->train_yield_ms * 1000;
    parts->automatic = !s->train_manual;
    parts->look_us = LOOK_US;
    parts->encoders_kept = s->encoders_kept;
    parts->retention_days = s->retention_days_runs;
    parts->window_from = s->train_from;
    parts->window_to = s->train_to;
    parts->every_hours = s->train_hours;
    parts->settings_text = text;
    parts->tensorboard = s->tensorboard;
    parts->settings_read = run_settings_read;
    parts->progress_write = progress_write;
    parts->verdict_write = verdict_write;
    return default_settings(text, sizeof text);
}
