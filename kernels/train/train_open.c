/* train_open.c -- settings, and opening and closing a train. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/train/train_internal.h"

void train_settings_default(struct train_settings *ret_settings)
{
    *ret_settings = (struct train_settings){.kind = TRAIN_SINGLE,
                                            .lr = 1e-4f,
                                            .head_lr = 1e-3f,
                                            .warmup = 0.1f,
                                            .weight_decay = 0.01f,
                                            .clip = 1,
                                            .dropout = 0.1f,
                                            .scale = 20,
                                            .alpha = 1,
                                            .distill = 0.5f,
                                            .temperature = 2,
                                            .feature = 0.1f,
                                            .lora = TRAIN_LORA_NONE,
                                            .lora_rank = 8,
                                            .lora_alpha = 16,
                                            .tokens_max = 1024};
}

/* A setting, the range it must be in, and its name for the answer. */
struct range {
    const char *name;
    double value, least, most;
};

enum { LABELS_MAX = 1 << 20, RANK_MAX = 1024, THREADS_MAX = 1024, TOKENS_MAX = 1 << 20 };

static int settings_check(const struct train_settings *s, char *why, size_t why_bytes)
{
    const double tiny = 1e-6, large = 1e6;
    const struct range ranges[] = {
        {"labels_len", s->labels_len, s->kind == TRAIN_MULTI ? 1 : 2, LABELS_MAX},
        {"steps", (double)s->steps, 1, 1e15},
        {"lr", s->lr, 0, 1},
        {"head_lr", s->head_lr, 0, 1},
        {"warmup", s->warmup, 0, 1},
        {"weight_decay", s->weight_decay, 0, 1},
        {"clip", s->clip, tiny, large},
        {"dropout", s->dropout, 0, 0.99},
        {"scale", s->scale, tiny, large},
        {"alpha", s->alpha, 0, large},
        {"distill", s->distill, 0, large},
        {"temperature", s->temperature, 0.01, 100},
        {"feature", s->feature, 0, large},
        {"lora_rank", s->lora_rank, s->lora == TRAIN_LORA_NONE ? 0 : 1, RANK_MAX},
        {"lora_alpha", s->lora_alpha, 0, large},
        {"threads", s->threads, 1, THREADS_MAX},
        {"tokens_max", s->tokens_max, 1, TOKENS_MAX}};

    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        const struct range *r = &ranges[i];

        if (!(r->value >= r->least && r->value <= r->most)) {
            snprintf(why, why_bytes, "%s is %g, and must be from %g to %g", r->name, r->value,
                     r->least, r->most);
            return -EINVAL;
        }
    }
    if (s->kind > TRAIN_MULTI || s->lora > TRAIN_LORA_ALL) {
        snprintf(why, why_bytes, "unknown kind or lora");
        return -EINVAL;
    }
    return 0;
}

/* The largest piece: a text alone may be longer than tokens_max. */
static struct kshape shape_of(const struct train *t)
{
    const struct encoder_config *c = &t->config;

    return (struct kshape){c->positions > t->tokens_max ? c->positions : t->tokens_max, c->C, c->F,
                           c->H, t->settings.lora != TRAIN_LORA_NONE ? t->settings.lora_rank : 0};
}

static int scratch_open(struct train *t)
{
    struct kshape most = shape_of(t);
    int rc = t->backend->ctx_open(most.T, t->settings.threads, K_TRAINING, &t->k);

    if (rc == 0)
        rc = t->ops->scratch_open(t->k, &most);
    while (rc == -ENOMEM && t->k != NULL && t->tokens_max > t->config.positions) {
        t->tokens_max /= 2; /* as when activations do not fit */
        most = shape_of(t);
        rc = t->ops->scratch_open(t->k, &most);
    }
    return rc;
}

static int open_all(struct train *t, const uint8_t *used, uint32_t used_len,
                    const float *prototypes, char *why, size_t why_bytes)
{
    int rc = encoder_config_read(t->folder, why, why_bytes, &t->config);

    if (rc != 0)
        return rc;
    if (used_len != t->config.V) {
        snprintf(why, why_bytes, "the texts have a vocabulary of %u words, the encoder one of %u",
                 used_len, t->config.V);
        return -EINVAL;
    }
    rc = masters_open(t, used, prototypes, why, why_bytes);
    if (rc == 0)
        rc = scratch_open(t);
    if (rc == 0)
        t->backend->ctx_threads(t->k, t->settings.threads);
    return rc;
}

static void no_memory(const struct train *t, char *why, size_t why_bytes)
{
    const struct masters *m = &t->masters;

    snprintf(why, why_bytes,
             "out of memory: weights, gradients and moments need %.1f MiB on %s, and activations "
             "more",
             (double)(4 * m->len - 2 * m->trained) * sizeof(float) / (1 << 20), t->backend->name);
}

static struct train train_of(const struct backend *backend, const struct train_settings *settings)
{
    return (struct train){.settings = *settings,
                          .backend = backend,
                          .ops = backend->training,
                          .dtype = settings->fp32 ? K_F32 : K_BF16,
                          .tokens_max = settings->tokens_max};
}

int train_measure(const struct backend *backend, const char *folder,
                  const struct train_settings *settings, uint32_t seqs_max, char *why,
                  size_t why_bytes, uint64_t *ret_bytes, uint64_t *ret_shared_bytes)
{
    struct train t = train_of(backend, settings);
    uint64_t masters = 0, piece = 0;
    struct kshape most;
    int rc = settings_check(settings, why, why_bytes);

    if (rc == 0)
        rc = encoder_config_read(folder, why, why_bytes, &t.config);
    if (rc != 0)
        return rc;
    most = shape_of(&t);
    t.masters.words = t.config.V;
    t.tokens_max = most.T;
    rc = masters_measure(&t, &masters);
    if (rc == 0) {
        piece_measure(&t, seqs_max, &piece, ret_shared_bytes);
        *ret_bytes =
            masters + piece + backend->ctx_bytes(most.T, K_TRAINING) + t.ops->scratch_bytes(&most);
    } else {
        snprintf(why, why_bytes, "out of memory");
    }
    masters_close(&t);
    return rc;
}

int train_open(const struct backend *backend, const char *folder,
               const struct train_settings *settings, const uint8_t *used, uint32_t used_len,
               const float *prototypes, char *why, size_t why_bytes, struct train **ret_train)
{
    struct train *t;
    int rc = settings_check(settings, why, why_bytes);

    if (rc != 0)
        return rc;
    if (backend->training == NULL) {
        snprintf(why, why_bytes, "%s cannot train", backend->name);
        return -ENOTSUP;
    }
    t = calloc(1, sizeof *t);
    if (t == NULL) {
        snprintf(why, why_bytes, "out of memory");
        return -ENOMEM;
    }
    *t = train_of(backend, settings);
    t->folder = strdup(folder);
    rc = t->folder != NULL ? open_all(t, used, used_len, prototypes, why, why_bytes) : -ENOMEM;
    if (rc == -ENOMEM)
        no_memory(t, why, why_bytes);
    if (rc != 0) {
        train_close(t);
        return rc;
    }
    *ret_train = t;
    return 0;
}

void train_close(struct train *t)
{
    if (t == NULL)
        return;
    piece_free(t);
    masters_close(t);
    t->backend->ctx_close(t->k);
    free(t->folder);
    free(t);
}
