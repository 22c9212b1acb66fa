/* train_step.c -- one step: gradients of a batch, their norm, AdamW.
 *
 * A batch of more than tokens_max tokens is taken in pieces, in its order, and their gradients add
 * up: the loss of a text is divided by the length of the whole batch, so nothing but the order of
 * some sums depends on where the cuts are. When memory runs out the gradients go back to 0,
 * tokens_max is halved and the batch begins again; only where no cut is left it is an error.
 *
 * Until the optimizer begins nothing is changed but the gradients, which are 0 between steps. So a
 * step that fails, or whose numbers are not finite, leaves the train as it was.
 */
#include <errno.h>
#include <math.h>

#include "kernels/train/train_internal.h"

static const float BETA1 = 0.9f, BETA2 = 0.999f, EPS = 1e-8f; /* PyTorch's, and the recipe's */

static int batch_check(const struct train *t, const struct train_example *batch, uint32_t len)
{
    const struct encoder_config *c = &t->config;
    uint64_t tokens = 0;

    for (uint32_t i = 0; i < len; i++) {
        const struct train_example *e = &batch[i];

        if (e->len < 1 || e->len > c->positions)
            return -EINVAL;
        for (uint32_t n = 0; n < e->len; n++)
            if (e->ids[n] < 0 || (uint32_t)e->ids[n] >= c->V || t->masters.row_of[e->ids[n]] < 0 ||
                (e->types != NULL && e->types[n] >= c->segments))
                return -EINVAL;
        tokens += e->len;
    }
    return len >= 1 && tokens <= UINT32_MAX / 2 ? 0 : -EINVAL;
}

/* How many of these examples make the next piece. */
static uint32_t piece_len(const struct train *t, const struct train_example *batch, uint32_t len)
{
    uint32_t n = 1, tokens = batch[0].len;

    while (n < len && tokens + batch[n].len <= t->tokens_max)
        tokens += batch[n++].len;
    return n;
}

/* Smaller pieces, if there are any: the largest had this many tokens. */
static bool halve(struct train *t, const struct train_example *batch, uint32_t len)
{
    uint32_t tokens = 0, longest = 0;

    for (uint32_t i = 0; i < len; i++) {
        tokens += batch[i].len;
        longest = batch[i].len > longest ? batch[i].len : longest;
    }
    tokens = tokens < t->tokens_max ? tokens : t->tokens_max;
    if (tokens <= longest)
        return false;
    t->tokens_max = tokens / 2;
    piece_free(t);
    return true;
}

/* ---- gradients ------------------------------------------------------------------------------- */

static float alpha_of(const struct train *t, const struct train_example *batch, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        if (batch[i].old)
            return t->settings.alpha;
    return 1;
}

static int gradients_once(struct train *t, const struct train_example *batch, uint32_t len,
                          struct train_report *sum)
{
    float alpha = alpha_of(t, batch, len);
    int rc = masters_settle(t);

    for (uint32_t from = 0, n = 0; from < len && rc == 0; from += n) {
        n = piece_len(t, batch + from, len - from);
        if (from > 0 && t->between != NULL)
            rc = t->between(t->between_ud);
        if (rc == 0)
            rc = loss_reserve(t, batch + from, n);
        if (rc == 0)
            rc = piece_pack(t, batch + from, n);
        if (rc != 0)
            break;
        loss_pack(t, batch + from, len, alpha);
        piece_forward(t, false);
        loss_run(t);
        piece_backward(t);
        rc = t->backend->sync(t->k);
        if (rc == 0)
            loss_report(t, batch + from, sum);
        sum->tokens += t->piece.tokens;
    }
    if (rc == 0)
        lora_gradients(t);
    return rc;
}

/* A device that does not take zeros any more has nothing to go on from. */
static void gradients_drop(struct train *t)
{
    (void)t->backend->sync(t->k); /* what is enqueued still adds to them; its failure is known */
    t->ops->zero(t->k, t->masters.grad, t->masters.len);
    t->failed = t->backend->sync(t->k);
}

int train_gradients(struct train *t, const struct train_example *batch, uint32_t len,
                    struct train_report *report)
{
    struct train_report sum;
    int rc = t->failed;

    if (rc == 0)
        rc = batch_check(t, batch, len);
    if (rc == 0)
        rc = loss_check(t, batch, len);
    if (rc != 0)
        return rc;
    do {
        sum = (struct train_report){0};
        rc = gradients_once(t, batch, len, &sum);
        if (rc != 0)
            gradients_drop(t);
    } while (rc == -ENOMEM && t->failed == 0 && halve(t, batch, len));
    if (rc == 0)
        *report = sum;
    return rc;
}

/* ---- the step -------------------------------------------------------------------------------- */

/* Share of the peak learning rate at a step that counts from 0. */
static double schedule(const struct train_settings *s, uint64_t step)
{
    double warm = floor((double)s->warmup * (double)s->steps), at = (double)step;

    warm = warm < 1 ? 1 : warm;
    if (at < warm)
        return (at + 1) / warm;
    if (at >= (double)s->steps)
        return 0;
    return ((double)s->steps - at) / ((double)s->steps - warm);
}

/* AdamW on one part of the block. */
static void update(struct train *t, size_t from, size_t to, float scale, double lr, float decay)
{
    struct masters *m = &t->masters;

    if (from < m->trained || from == to)
        return;
    t->ops->adamw(t->k, m->w + from, m->m + (from - m->trained), m->v + (from - m->trained),
                  m->grad + from, to - from, scale, (float)lr, BETA1, BETA2, EPS, decay,
                  t->step + 1);
}

int train_step(struct train *t, const struct train_example *batch, uint32_t len,
               struct train_report *ret_report)
{
    const struct train_settings *s = &t->settings;
    const struct masters *m = &t->masters;
    struct train_report r;
    double share = schedule(s, t->step);
    float scale;
    int rc = train_gradients(t, batch, len, &r);

    if (rc != 0)
        return rc;
    r.grad_norm = sqrt(t->ops->sum_squares(t->k, m->grad + m->trained, m->len - m->trained));
    rc = t->backend->sync(t->k); /* so that a device that failed meanwhile has changed nothing */
    if (rc != 0) {
        gradients_drop(t);
        return rc;
    }
    r.lr = s->lr * share;
    if (!isfinite(r.loss) || !isfinite(r.grad_norm)) {
        gradients_drop(t);
        return -EDOM;
    }
    scale = (float)fmin(1, s->clip / (r.grad_norm + 1e-6));
    update(t, 0, m->matrices_end, scale, r.lr, s->weight_decay);
    update(t, m->matrices_end, m->encoder_end, scale, r.lr, 0);
    update(t, m->encoder_end, m->head, scale, r.lr, s->weight_decay);
    update(t, m->head, m->len, scale, s->head_lr * share, 0);
    t->failed = t->backend->sync(t->k);
    if (t->failed != 0)
        return t->failed;
    t->step++;
    t->stale = true;
    *ret_report = r;
    return 0;
}

uint64_t train_steps_done(const struct train *t)
{
    return t->step;
}

void train_between(struct train *t, train_between_fn *between, void *ud)
{
    t->between = between;
    t->between_ud = ud;
}

void train_threads(struct train *t, uint32_t threads)
{
    t->backend->ctx_threads(t->k, threads < t->settings.threads ? threads : t->settings.threads);
}

/* ---- embeddings ------------------------------------------------------------------------------ */

static int embed_once(struct train *t, const struct train_example *batch, uint32_t len,
                      float *embeddings)
{
    const size_t C = t->config.C;
    int rc = masters_settle(t);

    for (uint32_t from = 0, n = 0; from < len && rc == 0; from += n) {
        n = piece_len(t, batch + from, len - from);
        rc = piece_pack(t, batch + from, n);
        if (rc != 0)
            break;
        piece_forward(t, true);
        rc = t->backend->sync(t->k);
        if (rc == 0)
            rc = masters_fetch(t, embeddings + from * C, t->piece.y, n * C);
        for (size_t i = from * C; i < (from + n) * C && rc == 0; i++)
            if (!isfinite(embeddings[i]))
                rc = -EDOM;
    }
    return rc;
}

int train_embed(struct train *t, const struct train_example *batch, uint32_t len, float *embeddings)
{
    int rc = t->failed != 0 ? t->failed : batch_check(t, batch, len);

    if (rc != 0)
        return rc;
    do {
        rc = embed_once(t, batch, len, embeddings);
    } while (rc == -ENOMEM && halve(t, batch, len));
    return rc;
}
