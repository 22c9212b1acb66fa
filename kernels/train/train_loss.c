/* train_loss.c -- the losses of a batch: what the device's operation (backend_training.h, struct
 * kloss) is given for a piece, and the report's sums of what it answers. With n texts in the batch:
 *
 *   L = 1/n sum over texts [ weight (CE or BCE) + distill T^2 KL + feature (1 - cos) ],
 *
 * weight = alpha for new texts in a batch that holds old ones, else 1. A bias of a set's label is
 * learned: how often a label is given is not in its direction.
 *
 * The sums are taken here, text after text and in fp64, so that they are the same however a batch
 * is cut into pieces.
 */
#include <errno.h>
#include <string.h>

#include "kernels/train/train_internal.h"

/* ---- what may come --------------------------------------------------------------------------- */

static int targets_check(const struct train *t, const struct train_example *e)
{
    double sum = 0;

    for (uint32_t i = 0; i < e->targets_len; i++) {
        if (e->targets[i].label >= t->settings.labels_len ||
            !(e->targets[i].value >= 0 && e->targets[i].value <= 1))
            return -EINVAL;
        sum += e->targets[i].value;
    }
    return t->settings.kind == TRAIN_MULTI || fabs(sum - 1) < 1e-3 ? 0 : -EINVAL;
}

int loss_check(const struct train *t, const struct train_example *batch, uint32_t len)
{
    uint64_t targets = 0;

    for (uint32_t i = 0; i < len; i++) {
        if (targets_check(t, &batch[i]) != 0 ||
            (batch[i].teacher != NULL &&
             (batch[i].teacher_len < 1 || batch[i].teacher_len > t->settings.labels_len)))
            return -EINVAL;
        targets += batch[i].targets_len;
    }
    return targets <= UINT32_MAX ? 0 : -EINVAL;
}

/* ---- a piece --------------------------------------------------------------------------------- */

static uint32_t teacher_len(const struct train *t, const struct train_example *e)
{
    return e->teacher != NULL && t->settings.distill > 0 ? e->teacher_len : 0;
}

static bool featured(const struct train *t, const struct train_example *e)
{
    return e->embedding != NULL && t->settings.feature > 0;
}

/* How much of everything the examples hold. */
static struct kloss measure(const struct train *t, const struct train_example *examples,
                            uint32_t len, bool *ret_features)
{
    const struct train_settings *s = &t->settings;
    struct kloss l = {.sets = s->kind == TRAIN_MULTI,
                      .B = len,
                      .C = t->config.C,
                      .L = s->labels_len,
                      .scale = s->scale,
                      .distill = s->distill,
                      .temperature = s->temperature,
                      .feature = s->feature};

    *ret_features = false;
    for (uint32_t i = 0; i < len; i++) {
        l.targets_len += examples[i].targets_len;
        l.teachers_len += teacher_len(t, &examples[i]);
        *ret_features = *ret_features || featured(t, &examples[i]);
    }
    return l;
}

/* Where everything stands in memory from `base` on. Returns its bytes. */
static size_t lay_out(struct loss_piece *p, struct kloss *l, bool features, uint8_t *base)
{
    struct carving c = {.base = base};

    p->losses = carve(&c, (size_t)l->B * K_LOSSES * sizeof *p->losses);
    p->texts = carve(&c, l->B * sizeof *p->texts);
    p->targets = carve(&c, ((size_t)l->targets_len + 1) * sizeof *p->targets);
    p->teachers = carve(&c, (l->teachers_len + 1) * sizeof *p->teachers);
    p->features = features ? carve(&c, (size_t)l->B * l->C * sizeof *p->features) : NULL;
    l->texts = p->texts;
    l->targets = p->targets;
    l->teachers = p->teachers;
    l->features = p->features;
    return c.bytes;
}

static int reserve(struct train *t, size_t bytes)
{
    struct loss_piece *p = &t->losses;
    int rc;

    if (bytes <= p->room)
        return 0;
    loss_free(t);
    bytes += bytes / 4; /* batches differ */
    rc = t->backend->alloc_shared(bytes, &p->shared);
    if (rc == 0)
        p->room = bytes;
    return rc;
}

void loss_free(struct train *t)
{
    t->backend->dealloc_shared(t->losses.shared);
    t->losses = (struct loss_piece){0};
}

int loss_pack(struct train *t, const struct train_example *examples, uint32_t len,
              uint32_t batch_len, float alpha)
{
    struct loss_piece *p = &t->losses;
    bool features;
    struct kloss l = measure(t, examples, len, &features);
    uint32_t target = 0;
    size_t teacher = 0;
    int rc = reserve(t, lay_out(p, &l, features, NULL));

    if (rc != 0)
        return rc;
    (void)lay_out(p, &l, features, p->shared);
    l.share = 1.0 / batch_len;
    for (uint32_t b = 0; b < len; b++) {
        const struct train_example *e = &examples[b];
        struct kloss_text *text = &p->texts[b];

        *text = (struct kloss_text){.weight = l.share * (double)(e->old ? 1 : alpha),
                                    .target = target,
                                    .targets_len = e->targets_len,
                                    .teacher = teacher,
                                    .teacher_len = teacher_len(t, e),
                                    .featured = featured(t, e)};
        for (uint32_t i = 0; i < e->targets_len; i++)
            p->targets[target++] = (struct kloss_target){e->targets[i].label, e->targets[i].value};
        if (text->teacher_len > 0)
            memcpy(p->teachers + teacher, e->teacher, text->teacher_len * sizeof *e->teacher);
        if (text->featured)
            memcpy(p->features + (size_t)b * l.C, e->embedding, l.C * sizeof *e->embedding);
        teacher += text->teacher_len;
    }
    p->loss = l;
    return 0;
}

void loss_run(struct train *t)
{
    const struct masters *m = &t->masters;
    const struct piece *p = &t->piece;
    bool sets = t->losses.loss.sets;

    t->ops->loss(t->k, t->losses.losses, p->dembedding, m->grad + m->head,
                 sets ? m->grad + m->biases : NULL, p->y, m->w + m->head,
                 sets ? m->w + m->biases : NULL, &t->losses.loss);
}

void loss_report(const struct train *t, const struct train_example *examples,
                 struct train_report *sum)
{
    const struct loss_piece *p = &t->losses;
    const struct kloss *l = &p->loss;

    for (uint32_t b = 0; b < l->B; b++) {
        const double *losses = p->losses + (size_t)b * K_LOSSES;

        *(examples[b].old ? &sum->loss_old : &sum->loss_new) += l->share * losses[K_LOSS_LABELS];
        sum->loss += p->texts[b].weight * losses[K_LOSS_LABELS];
        sum->loss_distill += l->share * losses[K_LOSS_TEACHER];
        sum->loss += l->share * l->distill * losses[K_LOSS_TEACHER];
        sum->loss_feature += l->share * losses[K_LOSS_FEATURE];
        sum->loss += l->share * l->feature * losses[K_LOSS_FEATURE];
    }
}
