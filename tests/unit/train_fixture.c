/* train_fixture.c -- see train_fixture.h. */
#include "tests/unit/train_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/train/train_internal.h"

/* A tensor's 4-byte values in memory of their own. */
static void *values(const struct train_case *c, const char *name, uint64_t *ret_len)
{
    const struct safetensor *t = safetensors_find(c->file, name);
    void *copy = t != NULL ? malloc(t->bytes + 4) : NULL;

    if (copy == NULL)
        return NULL;
    memcpy(copy, t->data, t->bytes);
    if (ret_len != NULL)
        *ret_len = t->bytes / 4;
    return copy;
}

float *train_case_values(const struct train_case *c, const char *name, uint64_t *ret_len)
{
    return values(c, name, ret_len);
}

/* In the order of SETTINGS in make_train_golden.py. */
static bool read_settings(struct train_case *c)
{
    struct train_settings *s = &c->settings;
    uint64_t len = 0;
    float *v = values(c, "settings", &len);

    train_settings_default(s);
    s->threads = 1;
    s->dropout = 0;
    s->seed = 7;
    if (v != NULL && len == 13) {
        s->kind = v[0] != 0 ? TRAIN_MULTI : TRAIN_SINGLE;
        s->labels_len = (uint32_t)v[1];
        s->steps = (uint64_t)v[2];
        s->lr = v[3];
        s->head_lr = v[4];
        s->warmup = v[5];
        s->weight_decay = v[6];
        s->clip = v[7];
        s->scale = v[8];
        s->alpha = v[9];
        s->distill = v[10];
        s->temperature = v[11];
        s->feature = v[12];
    }
    free(v);
    return len == 13;
}

static bool read_batch(struct train_case *c)
{
    uint64_t tokens = 0, len = 0, targets = 0, teachers = 0, embeddings = 0, at = 0, target = 0;
    int32_t *types = values(c, "types", &tokens), *lens = values(c, "lens", &len);
    int32_t *old = values(c, "old", NULL), *known = values(c, "teacher_len", NULL);
    int32_t *has = values(c, "has_embedding", NULL), *of = values(c, "target_of", &targets);
    int32_t *label = values(c, "target_label", NULL);
    float *value = values(c, "target_value", NULL);
    bool ok;

    c->ids = values(c, "ids", NULL);
    c->teachers = values(c, "teachers", &teachers);
    c->embeddings = values(c, "embeddings", &embeddings);
    c->prototypes = values(c, "prototypes", NULL);
    c->batch = calloc(len + 1, sizeof *c->batch);
    c->types = calloc(tokens + 1, 1);
    c->targets = calloc(targets + 1, sizeof *c->targets);
    c->len = (uint32_t)len;
    ok = types != NULL && lens != NULL && old != NULL && known != NULL && has != NULL &&
         of != NULL && label != NULL && value != NULL && c->ids != NULL && c->teachers != NULL &&
         c->embeddings != NULL && c->prototypes != NULL && len > 0;
    for (uint64_t i = 0; i < tokens && ok; i++)
        c->types[i] = (uint8_t)types[i];
    for (uint32_t i = 0; i < c->len && ok; i++) {
        struct train_example *e = &c->batch[i];

        *e = (struct train_example){.ids = c->ids + at,
                                    .types = c->types + at,
                                    .len = (uint32_t)lens[i],
                                    .key = i,
                                    .targets = c->targets + target,
                                    .old = old[i] != 0,
                                    .teacher_len = (uint32_t)known[i]};
        for (; target < targets && of[target] == (int32_t)i; target++, e->targets_len++)
            c->targets[target] = (struct train_target){(uint32_t)label[target], value[target]};
        if (known[i] > 0)
            e->teacher = c->teachers + teachers / len * i;
        if (has[i] != 0)
            e->embedding = c->embeddings + embeddings / len * i;
        at += e->len;
    }
    free(types);
    free(lens);
    free(old);
    free(known);
    free(has);
    free(of);
    free(label);
    free(value);
    return ok && at == tokens && target == targets;
}

bool train_case_read(const char *path, struct train_case *ret_case)
{
    char why[256];

    *ret_case = (struct train_case){0};
    if (safetensors_open(path, why, sizeof why, &ret_case->file) != 0) {
        printf("%s\n", why);
        return false;
    }
    if (!read_settings(ret_case) || !read_batch(ret_case)) {
        printf("%s: not a case of fine-tuning\n", path);
        train_case_free(ret_case);
        return false;
    }
    return true;
}

void train_case_free(struct train_case *c)
{
    safetensors_close(c->file);
    free(c->batch);
    free(c->prototypes);
    free(c->ids);
    free(c->types);
    free(c->targets);
    free(c->teachers);
    free(c->embeddings);
    *c = (struct train_case){0};
}

struct train *train_case_open(const struct train_case *c, const char *folder, bool fp32,
                              bool all_words)
{
    struct train_settings settings = c->settings;
    struct encoder_config config;
    struct train *t = NULL;
    char why[512];
    uint8_t *used;

    if (encoder_config_read(folder, why, sizeof why, &config) != 0) {
        printf("%s: %s\n", folder, why);
        return NULL;
    }
    used = calloc(config.V, 1);
    if (used == NULL)
        return NULL;
    memset(used, all_words, config.V);
    for (uint32_t i = 0; i < c->len; i++)
        for (uint32_t n = 0; n < c->batch[i].len; n++)
            used[c->batch[i].ids[n]] = 1;
    settings.fp32 = fp32;
    if (train_open(backend_cpu(), folder, &settings, used, config.V, c->prototypes, why, sizeof why,
                   &t) != 0)
        printf("%s: %s\n", folder, why);
    free(used);
    return t;
}

int train_bytes_take(void *ud, const void *bytes, size_t len)
{
    struct train_bytes *b = ud;

    if (b->len + len > b->room) {
        size_t room = 2 * (b->len + len);
        uint8_t *more = realloc(b->bytes, room);

        if (more == NULL)
            return -ENOMEM;
        b->bytes = more;
        b->room = room;
    }
    memcpy(b->bytes + b->len, bytes, len);
    b->len += len;
    return 0;
}

uint32_t train_case_len(const struct train_case *c, uint32_t step)
{
    return step % 2 == 0 ? c->len : c->len / 2;
}

void train_case_logits(const struct train *t, const float *embeddings, uint32_t len,
                       float *ret_logits)
{
    const uint32_t C = t->config.C, L = t->settings.labels_len;
    const float *w = t->masters.w + t->masters.head, *bias = t->masters.w + t->masters.biases;

    for (uint32_t i = 0; i < len; i++)
        for (uint32_t c = 0; c < L; c++) {
            double dot = 0, squares = 0;

            for (uint32_t k = 0; k < C; k++) {
                dot += (double)embeddings[(size_t)i * C + k] * w[(size_t)c * C + k];
                squares += (double)w[(size_t)c * C + k] * w[(size_t)c * C + k];
            }
            dot /= sqrt(squares);
            if (t->settings.kind == TRAIN_MULTI)
                dot -= bias[c];
            ret_logits[(size_t)i * L + c] = (float)(t->settings.scale * dot);
        }
}
