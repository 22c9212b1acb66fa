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
    for (uint32_t i = 0; i < len; i++)
        if (targets_check(t, &batch[i]) != 0 ||
            (batch[i].teacher != NULL &&
             (batch[i].teacher_len < 1 || batch[i].teacher_len > t->settings.labels_len)))
            return -EINVAL;
    return 0;
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

int loss_reserve(struct train *t, const struct train_example *examples, uint32_t len)
{
    size_t targets = 0, teachers = 0;
    uint32_t tokens = 0;

    for (uint32_t i = 0; i < len; i++) {
        tokens += examples[i].len;
        targets += examples[i].targets_len;
        teachers += teacher_len(t, &examples[i]);
    }
    return piece_reserve(t, tokens, len, targets, teachers);
}

/* One text, behind those before it. */
static void text_pack(const struct train *t, struct kept_loss *p, const struct train_example *e,
                      float alpha, uint32_t b)
{
    const uint32_t C = t->config.C;
    struct kloss *l = &p->given;
    struct kloss_text text = {.weight = l->share * (double)(e->old ? 1 : alpha),
                              .target = l->targets_len,
                              .targets_len = e->targets_len,
                              .teacher = l->teachers_len,
                              .teacher_len = teacher_len(t, e),
                              .featured = featured(t, e)};

    for (uint32_t i = 0; i < e->targets_len; i++)
        p->targets[l->targets_len++] =
            (struct kloss_target){e->targets[i].label, e->targets[i].value};
    if (text.teacher_len > 0)
        memcpy(p->teachers + text.teacher, e->teacher, text.teacher_len * sizeof *e->teacher);
    l->teachers_len += text.teacher_len;
    if (text.featured) {
        memcpy(p->features + (size_t)b * C, e->embedding, C * sizeof *e->embedding);
        l->features = p->features;
    }
    p->texts[b] = text;
}

void loss_pack(struct train *t, const struct train_example *examples, uint32_t batch_len,
               float alpha)
{
    const struct train_settings *s = &t->settings;
    struct kept_loss *p = &t->piece.loss;

    p->given = (struct kloss){.sets = s->kind == TRAIN_MULTI,
                              .B = t->piece.seqs,
                              .C = t->config.C,
                              .L = s->labels_len,
                              .scale = s->scale,
                              .distill = s->distill,
                              .temperature = s->temperature,
                              .feature = s->feature,
                              .share = 1.0 / batch_len,
                              .texts = p->texts,
                              .targets = p->targets,
                              .teachers = p->teachers,
                              .scratch = t->piece.loss_scratch};
    for (uint32_t b = 0; b < t->piece.seqs; b++)
        text_pack(t, p, &examples[b], alpha, b);
}

void loss_run(struct train *t)
{
    const struct masters *m = &t->masters;
    const struct piece *p = &t->piece;
    bool sets = p->loss.given.sets;

    t->ops->loss(t->k, p->loss.losses, p->dembedding, m->grad + m->head,
                 sets ? m->grad + m->biases : NULL, p->y, m->w + m->head,
                 sets ? m->w + m->biases : NULL, &p->loss.given);
}

void loss_report(const struct train *t, const struct train_example *examples,
                 struct train_report *sum)
{
    const struct kept_loss *p = &t->piece.loss;
    const struct kloss *l = &p->given;

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
