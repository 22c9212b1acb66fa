/* cpu_loss.c -- the losses of a piece of a batch, and their slopes. See backend_training.h.
 *
 * Three passes, each a team's: over texts and labels the logits; over texts the losses, the slopes
 * of the logits, and with them dx; over labels dw, text after text. All in fp64 but what is written
 * into gradients: beside the encoder it costs nothing.
 *
 * A bias of a set's label is in units of the cosine, so that it moves as fast as the vectors do (in
 * units of the logit it would be `scale` times slower). Losses of sets are summed over labels, not
 * averaged: another label that nobody uses changes nothing.
 */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "kernels/cpu/cpu_ctx.h"
#include "kernels/cpu/cpu_loss.h"

/* Of one text; the rows of two tables, and its thread's scratch. */
struct scores {
    double *logits, *slopes, *soft; /* (L) */
};

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
static double single_loss(struct scores *s, const struct kloss *l, const struct kloss_text *t)
{
    const struct kloss_target *targets = l->targets + t->target;
    double log_sum = softmax(s->soft, s->logits, l->L, 1), loss = 0, total = 0;

    for (uint32_t i = 0; i < t->targets_len; i++) {
        loss += targets[i].value * (log_sum - s->logits[targets[i].label]);
        s->slopes[targets[i].label] -= t->weight * targets[i].value;
        total += targets[i].value;
    }
    for (uint32_t c = 0; c < l->L; c++)
        s->slopes[c] += t->weight * total * s->soft[c];
    return loss;
}

static double multi_loss(struct scores *s, const struct kloss *l, const struct kloss_text *t)
{
    const struct kloss_target *targets = l->targets + t->target;
    double loss = 0;

    for (uint32_t c = 0; c < l->L; c++) {
        loss += softplus(s->logits[c]);
        s->slopes[c] += t->weight * sigmoid(s->logits[c]);
    }
    for (uint32_t i = 0; i < t->targets_len; i++) {
        loss -= targets[i].value * s->logits[targets[i].label];
        s->slopes[targets[i].label] -= t->weight * targets[i].value;
    }
    return loss;
}

/* 0 log 0 is 0; what is not a number stays so. */
static double p_log_p(double p)
{
    return p == 0 ? 0 : p * log(p);
}

/* T^2 KL; slopes += weight of it by z. */
static double single_distill(struct scores *s, const float *teacher, uint32_t len, double T,
                             double weight)
{
    double log_sum = softmax(s->soft, s->logits, len, T), sum = 0, loss = 0;

    for (uint32_t c = 0; c < len; c++)
        sum += pow(teacher[c], 1 / T);
    for (uint32_t c = 0; c < len; c++) {
        double p = pow(teacher[c], 1 / T) / sum;

        loss += p_log_p(p) - p * (s->logits[c] / T - log_sum);
        s->slopes[c] += weight * T * (s->soft[c] - p);
    }
    return T * T * loss;
}

static double multi_distill(struct scores *s, const float *teacher, uint32_t len, double T,
                            double weight)
{
    const double least = 1e-7;
    double loss = 0;

    for (uint32_t c = 0; c < len; c++) {
        double given = teacher[c], z = s->logits[c] / T, p;

        given = given < least ? least : given > 1 - least ? 1 - least : given;
        p = sigmoid(log(given / (1 - given)) / T);
        loss += p_log_p(p) + p_log_p(1 - p) + softplus(z) - p * z;
        s->slopes[c] += weight * T * (sigmoid(z) - p);
    }
    return T * T * loss;
}

/* The losses(3) of text b, and the slopes of its logits. */
static void text_losses(double *losses, struct scores *s, const float *x, const struct kloss *l,
                        uint32_t b)
{
    const struct kloss_text *t = &l->texts[b];
    const float *teacher = l->teachers + t->teacher;
    double weight = l->share * l->distill;

    memset(losses, 0, K_LOSSES * sizeof *losses);
    memset(s->slopes, 0, l->L * sizeof *s->slopes);
    losses[K_LOSS_LABELS] = l->sets ? multi_loss(s, l, t) : single_loss(s, l, t);
    if (t->teacher_len > 0)
        losses[K_LOSS_TEACHER] =
            l->sets ? multi_distill(s, teacher, t->teacher_len, l->temperature, weight)
                    : single_distill(s, teacher, t->teacher_len, l->temperature, weight);
    if (t->featured)
        losses[K_LOSS_FEATURE] = 1 - cpu_dot(x, l->features + (size_t)b * l->C, l->C);
}

/* dx(C) of text b from the slopes of its logits. */
static void text_back(float *dx, const struct scores *s, const float *w, const double *inverse,
                      const struct kloss *l, uint32_t b)
{
    const uint32_t C = l->C;

    memset(dx, 0, C * sizeof *dx);
    for (uint32_t c = 0; c < l->L; c++)
        cpu_axpy(dx, (float)(l->scale * s->slopes[c] * inverse[c]), w + (size_t)c * C, C);
    if (l->texts[b].featured)
        cpu_axpy(dx, (float)(-l->share * l->feature), l->features + (size_t)b * C, C);
}

/* dw(C) of label c, and of its bias. logits and slopes: of the first text; those of the next are L
 * on. */
static void label_back(float *dw, float *dbias, const float *x, const float *w, const float *bias,
                       double inverse, const double *logits, const double *slopes,
                       const struct kloss *l)
{
    const uint32_t C = l->C;
    const double scale = l->scale;

    for (uint32_t b = 0; b < l->B; b++) {
        double slope = scale * slopes[(size_t)b * l->L];
        double cosine = logits[(size_t)b * l->L] / scale + (bias != NULL ? *bias : 0);

        cpu_axpy(dw, (float)(slope * inverse), x + (size_t)b * C, C);
        cpu_axpy(dw, (float)(-slope * inverse * inverse * cosine), w, C);
        if (bias != NULL)
            *dbias -= (float)slope;
    }
}

static void label_logits(double *logits, double *inverse, const float *x, const float *w,
                         const float *bias, const struct kloss *l)
{
    const uint32_t C = l->C;

    *inverse = 1 / sqrt(cpu_dot(w, w, C));
    for (uint32_t b = 0; b < l->B; b++) {
        double cosine = cpu_dot(x + (size_t)b * C, w, C) * *inverse;

        logits[(size_t)b * l->L] = l->scale * (cosine - (bias != NULL ? *bias : 0));
    }
}

void cpu_train_loss(struct kctx *k, double *losses, float *dx, float *dw, float *dbias,
                    const float *x, const float *w, const float *bias, const struct kloss *l)
{
    const uint32_t B = l->B, C = l->C, L = l->L;
    int threads = cpu_team(k, (size_t)B * L * C);
    size_t table = (size_t)B * L;
    double *logits = cpu_shared_reserve(k, 2 * (2 * table + ((size_t)threads + 1) * L));
    double *slopes, *inverse, *soft;

    if (logits == NULL)
        return;
    slopes = logits + table;
    inverse = slopes + table;
    soft = inverse + L;
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (uint32_t c = 0; c < L; c++)
        label_logits(logits + c, inverse + c, x, w + (size_t)c * C, bias != NULL ? bias + c : NULL,
                     l);
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (uint32_t b = 0; b < B; b++) {
        struct scores s = {logits + (size_t)b * L, slopes + (size_t)b * L,
                           soft + (size_t)omp_get_thread_num() * L};

        text_losses(losses + (size_t)b * K_LOSSES, &s, x + (size_t)b * C, l, b);
        text_back(dx + (size_t)b * C, &s, w, inverse, l, b);
    }
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (uint32_t c = 0; c < L; c++)
        label_back(dw + (size_t)c * C, bias != NULL ? dbias + c : NULL, x, w + (size_t)c * C,
                   bias != NULL ? bias + c : NULL, inverse[c], logits + c, slopes + c, l);
}
