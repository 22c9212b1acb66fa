/* train_loss.c -- the losses of a batch, and their slopes.
 *
 * With x the unit embedding of a text, cos_c = x . w_c / |w_c| and n texts in the batch:
 *
 *   one label    z_c = scale cos_c           CE = -sum_c t_c log softmax(z)_c
 *   sets         z_c = scale (cos_c - b_c)   BCE = sum_c log(1 + e^z_c) - t_c z_c
 *   KL           q over the labels that the teacher knew, z taken at 1/T; p = the teacher's at 1/T:
 *                p^(1/T) over its sum, for sets each label alone; T^2 sum p log(p/q)
 *   feature      1 - x . e
 *
 *   L = 1/n sum over texts [ weight (CE or BCE) + distill T^2 KL + feature (1 - cos) ],
 *
 * weight = alpha for new texts in a batch that holds old ones, else 1. A bias of a set's label is
 * in units of the cosine, so that it moves as fast as the vectors do (in units of the logit it
 * would be `scale` times slower), and is learned: how often a label is given is not in its
 * direction. Losses of sets are summed over labels, not averaged: another label that nobody uses
 * changes nothing.
 *
 * All in fp64: beside the encoder it costs nothing.
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

/* ---- the head -------------------------------------------------------------------------------- */

void loss_prepare(struct train *t)
{
    const float *w = t->masters.head_w;
    const uint32_t C = t->config.C;

    for (uint32_t c = 0; c < t->settings.labels_len; c++)
        t->loss.inverse[c] = 1 / sqrt(train_dot(w + (size_t)c * C, w + (size_t)c * C, C));
}

static bool has_biases(const struct train *t)
{
    return t->settings.kind == TRAIN_MULTI;
}

static void head_forward(struct train *t, const float *x)
{
    const struct masters *m = &t->masters;
    const float *w = m->head_w, *bias = m->head_w + (m->biases - m->head);
    const uint32_t C = t->config.C;

    for (uint32_t c = 0; c < t->settings.labels_len; c++) {
        double cosine = train_dot(x, w + (size_t)c * C, C) * t->loss.inverse[c];

        t->loss.logits[c] = t->settings.scale * (cosine - (has_biases(t) ? bias[c] : 0));
    }
}

/* dx(C) += of x; gradients of the label vectors and biases. From loss.slopes: of the logits. */
static void head_backward(struct train *t, const float *x, float *dx)
{
    const struct masters *m = &t->masters;
    const float *w = m->head_w, *bias = m->head_w + (m->biases - m->head);
    float *dw = m->head_grad, *dbias = m->head_grad + (m->biases - m->head);
    const uint32_t C = t->config.C;
    const double scale = t->settings.scale;

    for (uint32_t c = 0; c < t->settings.labels_len; c++, w += C, dw += C) {
        double slope = scale * t->loss.slopes[c], inverse = t->loss.inverse[c];
        double cosine = t->loss.logits[c] / scale + (has_biases(t) ? bias[c] : 0);

        train_axpy(dx, (float)(slope * inverse), w, C);
        train_axpy(dw, (float)(slope * inverse), x, C);
        train_axpy(dw, (float)(-slope * inverse * inverse * cosine), w, C);
        if (has_biases(t))
            dbias[c] -= (float)slope;
    }
}

/* ---- losses ---------------------------------------------------------------------------------- */

static double sigmoid(double z)
{
    return z >= 0 ? 1 / (1 + exp(-z)) : exp(z) / (1 + exp(z));
}

static double softplus(double z)
{
    return (z > 0 ? z : 0) + log1p(exp(-fabs(z)));
}

/* y(n) = softmax(z / temperature). Returns log of the sum that divides. */
static double softmax(double *y, const double *z, uint32_t n, double temperature)
{
    double most = z[0], sum = 0;

    for (uint32_t c = 1; c < n; c++)
        most = z[c] > most ? z[c] : most;
    for (uint32_t c = 0; c < n; c++)
        sum += y[c] = exp((z[c] - most) / temperature);
    for (uint32_t c = 0; c < n; c++)
        y[c] /= sum;
    return log(sum) + most / temperature;
}

/* Cross-entropy; slopes += weight dCE/dz. */
static double single_loss(struct loss_scratch *s, const struct train_example *e, uint32_t L,
                          double weight)
{
    double log_sum = softmax(s->soft, s->logits, L, 1), loss = 0, total = 0;

    for (uint32_t i = 0; i < e->targets_len; i++) {
        const struct train_target *target = &e->targets[i];

        loss += target->value * (log_sum - s->logits[target->label]);
        s->slopes[target->label] -= weight * target->value;
        total += target->value;
    }
    for (uint32_t c = 0; c < L; c++)
        s->slopes[c] += weight * total * s->soft[c];
    return loss;
}

static double multi_loss(struct loss_scratch *s, const struct train_example *e, uint32_t L,
                         double weight)
{
    double loss = 0;

    for (uint32_t c = 0; c < L; c++) {
        loss += softplus(s->logits[c]);
        s->slopes[c] += weight * sigmoid(s->logits[c]);
    }
    for (uint32_t i = 0; i < e->targets_len; i++) {
        const struct train_target *target = &e->targets[i];

        loss -= target->value * s->logits[target->label];
        s->slopes[target->label] -= weight * target->value;
    }
    return loss;
}

/* 0 log 0 is 0; what is not a number stays so. */
static double p_log_p(double p)
{
    return p == 0 ? 0 : p * log(p);
}

/* T^2 KL; slopes += weight of it by z. */
static double single_distill(struct loss_scratch *s, const struct train_example *e, double T,
                             double weight)
{
    double log_sum = softmax(s->soft, s->logits, e->teacher_len, T), sum = 0, loss = 0;

    for (uint32_t c = 0; c < e->teacher_len; c++)
        sum += pow(e->teacher[c], 1 / T);
    for (uint32_t c = 0; c < e->teacher_len; c++) {
        double p = pow(e->teacher[c], 1 / T) / sum;

        loss += p_log_p(p) - p * (s->logits[c] / T - log_sum);
        s->slopes[c] += weight * T * (s->soft[c] - p);
    }
    return T * T * loss;
}

static double multi_distill(struct loss_scratch *s, const struct train_example *e, double T,
                            double weight)
{
    const double least = 1e-7;
    double loss = 0;

    for (uint32_t c = 0; c < e->teacher_len; c++) {
        double given = e->teacher[c], z = s->logits[c] / T, p;

        given = given < least ? least : given > 1 - least ? 1 - least : given;
        p = sigmoid(log(given / (1 - given)) / T);
        loss += p_log_p(p) + p_log_p(1 - p) + softplus(z) - p * z;
        s->slopes[c] += weight * T * (sigmoid(z) - p);
    }
    return T * T * loss;
}

static void loss_example(struct train *t, const struct train_example *e, const float *x, float *dx,
                         double share, double alpha, struct train_report *sum)
{
    const struct train_settings *s = &t->settings;
    bool single = s->kind == TRAIN_SINGLE;
    double weight = share * (e->old ? 1 : alpha), loss;

    memset(t->loss.slopes, 0, s->labels_len * sizeof *t->loss.slopes);
    head_forward(t, x);
    loss = single ? single_loss(&t->loss, e, s->labels_len, weight)
                  : multi_loss(&t->loss, e, s->labels_len, weight);
    *(e->old ? &sum->loss_old : &sum->loss_new) += share * loss;
    sum->loss += weight * loss;
    if (e->teacher != NULL && s->distill > 0) {
        loss = single ? single_distill(&t->loss, e, s->temperature, share * s->distill)
                      : multi_distill(&t->loss, e, s->temperature, share * s->distill);
        sum->loss_distill += share * loss;
        sum->loss += share * s->distill * loss;
    }
    head_backward(t, x, dx);
    if (e->embedding != NULL && s->feature > 0) {
        loss = 1 - train_dot(x, e->embedding, t->config.C);
        train_axpy(dx, (float)(-share * s->feature), e->embedding, t->config.C);
        sum->loss_feature += share * loss;
        sum->loss += share * s->feature * loss;
    }
}

void loss_piece(struct train *t, const struct train_example *examples, uint32_t batch_len,
                float alpha, struct train_report *sum)
{
    struct piece *p = &t->piece;
    const uint32_t C = t->config.C;

    memset(p->dembedding, 0, (size_t)p->seqs * C * sizeof *p->dembedding);
    for (uint32_t b = 0; b < p->seqs; b++)
        loss_example(t, &examples[b], p->y + (size_t)b * C, p->dembedding + (size_t)b * C,
                     1.0 / batch_len, alpha, sum);
}
