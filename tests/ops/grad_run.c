/* grad_run.c -- see grad_run.h. Rows of the ladder behind the batch hold NaN, and so do gradients
 * of activations before they are written.
 */
#include "tests/ops/grad_run.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ops/plain.h"
#include "tests/ops/plain_training.h"

enum { VOCAB = 23, SEGMENTS = 2, SITE = 7 };
#define EPS 1e-6f
#define LORA_SCALE 2.0f

const char *grad_name(const struct grad_case *c)
{
    static const char *names[] = {"linear",    "embed", "add_layernorm", "gelu",
                                  "attention", "pool",  "loss",          "lora"};

    return names[c->op];
}

/* A buffer for rows(rows) rows of fp32 or less; whole: its elements. */
static int buffer(const struct grad_run *run, uint32_t rows, uint32_t columns, enum kdtype dtype,
                  struct kview *ret_view)
{
    ret_view->dtype = dtype;
    return run->be->alloc(K_CONTEXTS, (size_t)run->be->rows(rows) * columns * 4, &ret_view->data);
}

static int put(const struct grad_run *run, struct kview to, const double *values, size_t len,
               size_t all)
{
    float *host = malloc(all * sizeof *host);
    int rc = host != NULL ? 0 : -ENOMEM;

    for (size_t i = 0; i < all && rc == 0; i++)
        host[i] = i < len ? (float)values[i] : NAN;
    if (rc == 0)
        rc = run->be->upload(to.data, to.dtype, host, all);
    free(host);
    return rc;
}

/* Random values as `dtype` holds them. */
static int draw(const struct grad_run *run, double *values, size_t len, enum kdtype dtype,
                float scale, float shift, uint64_t seed)
{
    struct kview view;
    int rc = buffer(run, 1, (uint32_t)len, dtype, &view);

    for (size_t i = 0; i < len && rc == 0; i++)
        values[i] = ops_draw(seed, i) * scale + shift;
    if (rc == 0)
        rc = put(run, view, values, len, len);
    for (size_t i = 0; i < len && rc == 0; i++)
        values[i] = ops_value(view, i);
    if (rc == 0)
        run->be->dealloc(view.data);
    return rc;
}

/* Adds an input; parameters are fp32, and hold what the dtype of the case can where `rounded`. */
static int add_input(struct grad_run *run, const char *name, uint32_t rows, uint32_t columns,
                     bool parameter, bool rounded, float scale, float shift, uint64_t seed)
{
    struct grad_input *in = &run->in[run->in_len];
    enum kdtype dtype = parameter ? K_F32 : run->c->dtype;
    size_t all = (size_t)run->be->rows(rows) * columns;
    int rc;

    *in = (struct grad_input){
        .name = name, .rows = rows, .columns = columns, .parameter = parameter, .dtype = dtype};
    in->len = (size_t)rows * columns;
    in->value = malloc(in->len * sizeof *in->value);
    in->plain = malloc(in->len * sizeof *in->plain);
    if (in->value == NULL || in->plain == NULL)
        return -ENOMEM;
    rc = draw(run, in->value, in->len, rounded ? run->c->dtype : dtype, scale, shift,
              seed + (uint64_t)run->in_len * 100);
    if (rc == 0)
        rc = buffer(run, rows, columns, dtype, &in->device);
    if (rc == 0)
        rc = buffer(run, rows, columns, dtype, &in->grad);
    if (rc == 0)
        rc = put(run, in->device, in->value, in->len, all);
    run->in_len++;
    return rc;
}

static int add_norm(struct grad_run *run, uint32_t C, uint64_t seed)
{
    int rc = add_input(run, "gamma", 1, C, true, false, 0.3f, 1, seed);

    return rc != 0 ? rc : add_input(run, "beta", 1, C, true, false, 0.3f, 0, seed);
}

static int add_inputs(struct grad_run *run, uint64_t seed)
{
    const struct grad_case *c = run->c;
    uint32_t longest = 0;
    int rc;

    switch (c->op) {
    case GRAD_LINEAR:
        rc = add_input(run, "x", c->N, c->K, false, false, 1, 0, seed);
        if (rc == 0)
            rc = add_input(run, "w", c->M, c->K, true, true, 1 / sqrtf((float)c->K), 0, seed);
        return rc != 0 ? rc : add_input(run, "bias", 1, c->M, true, false, 0.5f, 0, seed);
    case GRAD_EMBED:
        for (uint32_t b = 0; b < run->units; b++)
            longest = c->lens[b] > longest ? c->lens[b] : longest;
        rc = add_input(run, "word", VOCAB, c->M, true, false, 1, 0, seed);
        if (rc == 0)
            rc = add_input(run, "position", longest, c->M, true, false, 1, 0, seed);
        if (rc == 0)
            rc = add_input(run, "segment", SEGMENTS, c->M, true, false, 1, 0, seed);
        return rc != 0 ? rc : add_norm(run, c->M, seed);
    case GRAD_ADD_LAYERNORM:
        rc = add_input(run, "x", c->N, c->M, false, false, 1, 0.5f, seed);
        if (rc == 0)
            rc = add_input(run, "residual", c->N, c->M, false, false, 1.5f, 0, seed);
        return rc != 0 ? rc : add_norm(run, c->M, seed);
    case GRAD_GELU:
        return add_input(run, "x", c->N, c->M, false, false, 1.5f, 0, seed);
    case GRAD_ATTENTION:
        return add_input(run, "qkv", run->rows, 3 * c->M, false, false,
                         c->how == 1 ? GRAD_LARGE : 1, 0, seed);
    case GRAD_POOL:
        return add_input(run, "x", run->rows, c->M, false, false, 1, 0.5f, seed);
    case GRAD_LOSS:
        rc = add_input(run, "x", c->N, c->M, false, false, 1 / sqrtf((float)c->M), 0, seed);
        if (rc == 0)
            rc = add_input(run, "w", c->K, c->M, true, false, 1.5f / sqrtf((float)c->M), 0, seed);
        return rc != 0 || !run->loss.given.sets
                   ? rc
                   : add_input(run, "bias", 1, c->K, true, false, 0.1f, 0.3f, seed);
    case GRAD_LORA:
        rc = add_input(run, "a", c->K, c->M, true, false, 1 / sqrtf((float)c->M), 0, seed);
        return rc != 0 ? rc : add_input(run, "b", c->N, c->K, true, false, 1, 0, seed);
    }
    return -EINVAL;
}

/* s of add_layernorm over x = 1 and residual = 0 is the mask. */
static int read_mask(struct grad_run *run, struct kctx *k)
{
    uint32_t N = run->rows, C = run->c->M;
    size_t len = (size_t)N * C;
    struct kview ones = {0}, zeros = {0}, y = {0}, s = {0};
    float *none = calloc(C, sizeof *none);
    int rc = none == NULL || buffer(run, N, C, K_F32, &ones) != 0 ||
                     buffer(run, N, C, K_F32, &zeros) != 0 || buffer(run, N, C, K_F32, &y) != 0 ||
                     buffer(run, N, C, K_F32, &s) != 0
                 ? -ENOMEM
                 : 0;

    if (rc == 0) {
        for (size_t i = 0; i < len; i++)
            ((float *)ones.data)[i] = 1;
        run->training->add_layernorm(k, y, s, run->stats, ones, zeros, none, none, EPS, N, C,
                                     &run->dropout);
        rc = run->be->sync(k);
        for (size_t i = 0; i < len; i++)
            run->mask[i] = ops_value(s, i);
    }
    run->be->dealloc(ones.data);
    run->be->dealloc(zeros.data);
    run->be->dealloc(y.data);
    run->be->dealloc(s.data);
    free(none);
    return rc;
}

/* What a loss is given, and its scratch in s; what is differentiated is the step's loss. */
static int make_loss(struct grad_run *run)
{
    const struct kloss *l = &run->loss.given;

    for (uint32_t b = 0; b < l->B; b++) {
        double *dy = run->dy + (size_t)b * K_LOSSES;

        dy[K_LOSS_LABELS] = l->texts[b].weight;
        dy[K_LOSS_TEACHER] = l->share * (double)l->distill;
        dy[K_LOSS_FEATURE] = l->share * (double)l->feature;
    }
    run->be->dealloc(run->s.data);
    run->s.data = NULL;
    return run->be->alloc(K_RUNS, run->training->loss_bytes(l) + 1, &run->s.data);
}

/* w of y = w + scale b a stands in s. */
static int make_lora(struct grad_run *run, uint64_t seed)
{
    double *w = malloc(run->y_len * sizeof *w);
    int rc = w != NULL ? draw(run, w, run->y_len, K_F32, 1, 0, seed + 2000) : -ENOMEM;

    if (rc == 0)
        rc = put(run, run->s, w, run->y_len, run->y_len);
    free(w);
    return rc;
}

static int make_outputs(struct grad_run *run, uint64_t seed)
{
    const struct grad_case *c = run->c;
    int parts = c->op == GRAD_ADD_LAYERNORM && c->how > 0 ? 2 : 1, rc = 0;
    size_t all = (size_t)run->be->rows(run->y_rows) * run->y_columns;
    double *part = malloc(run->y_len * sizeof *part);

    run->dy = calloc(run->y_len, sizeof *run->dy);
    if (part == NULL || run->dy == NULL)
        rc = -ENOMEM;
    for (int i = 0; i < parts && rc == 0; i++) {
        rc = draw(run, part, run->y_len, run->y_dtype, 1, 0, seed + 1000 + (uint64_t)i);
        if (rc == 0)
            rc = buffer(run, run->y_rows, run->y_columns, run->y_dtype, &run->dy_part[i]);
        if (rc == 0)
            rc = buffer(run, run->y_rows, run->y_columns, run->y_dtype, &run->dy_device[i]);
        if (rc == 0)
            rc = put(run, run->dy_part[i], part, run->y_len, all);
        for (size_t e = 0; e < run->y_len && rc == 0; e++)
            run->dy[e] += part[e];
    }
    free(part);
    if (rc == 0)
        rc = buffer(run, run->y_rows, run->y_columns, run->y_dtype, &run->y);
    return rc != 0 ? rc : buffer(run, run->rows, c->M, c->dtype, &run->s);
}

int grad_init(struct grad_run *run, const struct grad_case *c, const struct backend *be,
              const struct backend_training *training, struct kctx *k, uint64_t seed)
{
    int rc;

    *run = (struct grad_run){.c = c, .be = be, .training = training, .units = c->N, .rows = c->N};
    if (c->lens[0] > 0) {
        for (run->units = 0; run->units < OPS_TEXTS_MAX && c->lens[run->units] > 0; run->units++)
            run->offsets[run->units + 1] = run->offsets[run->units] + c->lens[run->units];
        run->rows = run->offsets[run->units];
    }
    run->y_dtype = c->op == GRAD_POOL ? K_F32 : c->dtype;
    run->y_rows = c->op == GRAD_POOL ? run->units : run->rows;
    run->y_columns = c->op == GRAD_LOSS ? (uint32_t)K_LOSSES : c->M;
    run->y_len = (size_t)run->y_rows * run->y_columns;
    run->ids = malloc(run->rows * sizeof *run->ids);
    run->types = malloc(run->rows);
    run->keys = malloc(run->rows * sizeof *run->keys);
    run->stats = malloc(2 * (size_t)run->rows * sizeof *run->stats);
    run->mask = malloc((size_t)run->rows * c->M * sizeof *run->mask);
    rc = run->ids == NULL || run->types == NULL || run->keys == NULL || run->stats == NULL ||
                 run->mask == NULL
             ? -ENOMEM
             : 0;
    for (uint32_t t = 0; t < run->rows && rc == 0; t++) {
        run->ids[t] = (int32_t)(fabsf(ops_draw(seed, t)) * 1000) % VOCAB;
        run->types[t] = c->how == 1 ? 0 : t % 3 == 0;
        run->keys[t] = seed << 32 | t;
    }
    run->dropout = (struct kdropout){c->p > 0 ? run->keys : NULL, SITE, c->p};
    if (rc == 0)
        rc = read_mask(run, k);
    if (rc == 0 && c->op == GRAD_LOSS)
        rc = loss_run_init(&run->loss, (enum loss_how)c->how, c->N, c->M, c->K, seed + 3000);
    if (rc == 0)
        rc = add_inputs(run, seed);
    if (rc == 0)
        rc = make_outputs(run, seed);
    if (rc == 0 && c->op == GRAD_LOSS)
        rc = make_loss(run);
    if (rc == 0 && c->op == GRAD_LORA)
        rc = make_lora(run, seed);
    if (rc == 0 && c->op == GRAD_LINEAR)
        rc = training->mat_open(c->M, c->K, c->dtype, &run->mat);
    if (rc != 0)
        grad_done(run);
    return rc;
}

void grad_done(struct grad_run *run)
{
    for (int i = 0; i < GRAD_INPUTS; i++) {
        free(run->in[i].value);
        free(run->in[i].plain);
        run->be->dealloc(run->in[i].device.data);
        run->be->dealloc(run->in[i].grad.data);
    }
    for (int i = 0; i < 2; i++) {
        run->be->dealloc(run->dy_part[i].data);
        run->be->dealloc(run->dy_device[i].data);
    }
    run->be->dealloc(run->y.data);
    run->be->dealloc(run->s.data);
    run->training->mat_close(run->mat);
    loss_run_done(&run->loss);
    free(run->ids);
    free(run->types);
    free(run->keys);
    free(run->stats);
    free(run->mask);
    free(run->dy);
}

/* ---- on the device --------------------------------------------------------------------------- */

static void reset(struct grad_run *run)
{
    size_t element = run->y_dtype == K_BF16 ? 2 : 4;

    for (int i = 0; i < run->in_len; i++) {
        struct grad_input *in = &run->in[i];
        size_t all = (size_t)run->be->rows(in->rows) * in->columns;

        if (in->parameter)
            for (size_t e = 0; e < in->len; e++)
                ((float *)in->grad.data)[e] = GRAD_START;
        else
            memset(in->grad.data, 0xff, all * (in->dtype == K_BF16 ? 2 : 4)); /* NaN */
    }
    for (int i = 0; i < 2 && run->dy_part[i].data != NULL; i++)
        memcpy(run->dy_device[i].data, run->dy_part[i].data,
               (size_t)run->be->rows(run->y_rows) * run->y_columns * element);
}

static void norm_device(struct grad_run *run, struct kctx *k)
{
    const struct grad_case *c = run->c;
    struct grad_input *in = run->in;
    struct kview *dy = run->dy_device, ds = c->how == 0 ? in[1].grad : dy[c->how - 1];

    run->training->add_layernorm(k, run->y, run->s, run->stats, in[0].device, in[1].device,
                                 in[2].device.data, in[3].device.data, EPS, c->N, c->M,
                                 &run->dropout);
    run->training->add_layernorm_back(k, ds, in[0].grad, in[2].grad.data, in[3].grad.data, dy[0],
                                      dy[1], run->s, run->stats, in[2].device.data, c->N, c->M,
                                      &run->dropout);
    if (c->how > 0)
        memcpy(in[1].grad.data, ds.data, in[1].len * (c->dtype == K_BF16 ? 2 : 4));
}

static void embed_device(struct grad_run *run, struct kctx *k)
{
    const uint8_t *types = run->c->how == 1 ? NULL : run->types;
    struct grad_input *in = run->in;

    run->training->embed(k, run->y, run->s, run->stats, run->ids, types, run->offsets, run->units,
                         in[0].device.data, in[1].device.data, in[2].device.data, in[3].device.data,
                         in[4].device.data, EPS, run->c->M, &run->dropout);
    run->training->embed_back(k, in[0].grad.data, in[1].grad.data, in[2].grad.data, in[3].grad.data,
                              in[4].grad.data, run->dy_device[0], run->s, run->stats, run->ids,
                              types, run->offsets, run->units, in[3].device.data, run->c->M,
                              &run->dropout);
}

static void loss_device(struct grad_run *run, struct kctx *k)
{
    struct grad_input *in = run->in;
    const bool sets = run->loss.given.sets;
    double *losses = calloc(run->y_len, sizeof *losses);
    struct kloss given = run->loss.given;

    if (losses == NULL)
        abort();
    given.scratch = run->s.data;
    run->training->loss(k, losses, in[0].grad.data, in[1].grad.data, sets ? in[2].grad.data : NULL,
                        in[0].device.data, in[1].device.data, sets ? in[2].device.data : NULL,
                        &given);
    for (size_t e = 0; e < run->y_len; e++)
        ((float *)run->y.data)[e] = (float)losses[e];
    free(losses);
}

void grad_device(struct grad_run *run, struct kctx *k)
{
    const struct backend_training *t = run->training;
    const struct grad_case *c = run->c;
    struct grad_input *in = run->in;
    struct kbatch batch;
    struct kview dy = run->dy_device[0];

    reset(run);
    switch (c->op) {
    case GRAD_LINEAR:
        t->mat_set(k, run->mat, in[1].device.data);
        t->linear(k, run->y, in[0].device, run->mat, in[2].device.data, c->N);
        t->linear_dx(k, in[0].grad, dy, run->mat, c->N);
        t->linear_dw(k, in[1].grad.data, c->how == 1 ? NULL : in[2].grad.data, dy, in[0].device,
                     c->M, c->K, c->N);
        break;
    case GRAD_EMBED:
        embed_device(run, k);
        break;
    case GRAD_ADD_LAYERNORM:
        norm_device(run, k);
        break;
    case GRAD_GELU:
        t->gelu(k, run->y, in[0].device, c->N, c->M);
        t->gelu_back(k, c->how == 1 ? dy : in[0].grad, dy, in[0].device, c->N, c->M);
        if (c->how == 1)
            memcpy(in[0].grad.data, dy.data, in[0].len * (c->dtype == K_BF16 ? 2 : 4));
        break;
    case GRAD_ATTENTION:
        batch = (struct kbatch){run->offsets, run->units, run->offsets[run->units],
                                run->offsets[run->units]};
        run->be->attention(k, run->y, in[0].device, &batch, c->M, c->K);
        t->attention_back(k, in[0].grad, dy, in[0].device, run->offsets, run->units, c->M, c->K);
        break;
    case GRAD_POOL:
        t->pool(k, run->y.data, run->stats, in[0].device, run->offsets, run->units, c->M,
                c->how == 1 ? K_POOL_CLS : K_POOL_MEAN);
        t->pool_back(k, in[0].grad, dy.data, run->y.data, run->stats, run->offsets, run->units,
                     c->M, c->how == 1 ? K_POOL_CLS : K_POOL_MEAN);
        break;
    case GRAD_LOSS:
        loss_device(run, k);
        break;
    case GRAD_LORA:
        t->lora(k, run->y.data, run->s.data, in[0].device.data, in[1].device.data, LORA_SCALE, c->N,
                c->M, c->K);
        t->lora_back(k, in[0].grad.data, in[1].grad.data, dy.data, in[0].device.data,
                     in[1].device.data, LORA_SCALE, c->N, c->M, c->K);
        break;
    }
}

/* ---- in plain loops -------------------------------------------------------------------------- */

/* rows(3,T,C): each token's rows of the three tables. */
static double *looked_up(const struct grad_run *run)
{
    uint32_t C = run->c->M, T = run->rows;
    double *rows = malloc(3 * (size_t)T * C * sizeof *rows);

    if (rows == NULL)
        abort();
    for (uint32_t b = 0; b < run->units; b++)
        for (uint32_t t = run->offsets[b]; t < run->offsets[b + 1]; t++) {
            uint32_t wanted[3] = {(uint32_t)run->ids[t], t - run->offsets[b], run->types[t]};

            for (uint32_t i = 0; i < 3; i++)
                memcpy(rows + ((size_t)i * T + t) * C, run->in[i].value + (size_t)wanted[i] * C,
                       C * sizeof *rows);
        }
    return rows;
}

static double *masked(const struct grad_run *run, const double *x)
{
    double *y = malloc(((size_t)run->rows * run->c->M + 1) * sizeof *y);

    if (y == NULL)
        abort();
    for (size_t i = 0; i < (size_t)run->rows * run->c->M; i++)
        y[i] = x[i] * run->mask[i];
    return y;
}

static double *s_values(const struct grad_run *run)
{
    double *s = malloc((run->y_len + 1) * sizeof *s);

    if (s == NULL)
        abort();
    for (size_t i = 0; i < run->y_len; i++)
        s[i] = ops_value(run->s, i);
    return s;
}

void grad_forward_plain(const struct grad_run *run, double *y)
{
    const struct grad_case *c = run->c;
    const struct grad_input *in = run->in;
    double *rows;

    switch (c->op) {
    case GRAD_LINEAR:
        plain_linear(y, in[0].value, in[1].value, in[2].value, false, c->N, c->M, c->K);
        break;
    case GRAD_EMBED:
        rows = looked_up(run);
        plain_embed(y, rows, rows + run->y_len, rows + 2 * run->y_len, in[3].value, in[4].value,
                    EPS, run->rows, c->M);
        for (size_t i = 0; i < run->y_len; i++)
            y[i] *= run->mask[i];
        free(rows);
        break;
    case GRAD_ADD_LAYERNORM:
        rows = masked(run, in[0].value);
        plain_add_layernorm(y, rows, in[1].value, in[2].value, in[3].value, EPS, c->N, c->M);
        free(rows);
        break;
    case GRAD_GELU:
        plain_gelu(y, in[0].value, run->y_len);
        break;
    case GRAD_ATTENTION:
        plain_attention(y, in[0].value, run->offsets, run->units, c->M, c->K);
        break;
    case GRAD_POOL:
        plain_pool(y, in[0].value, run->offsets, run->units, c->M, c->how == 1);
        break;
    case GRAD_LOSS:
        plain_loss(y, in[0].value, in[1].value, in[2].value, &run->loss.given);
        break;
    case GRAD_LORA:
        rows = s_values(run);
        plain_lora(y, rows, in[0].value, in[1].value, (double)LORA_SCALE, c->N, c->M, c->K);
        free(rows);
        break;
    }
}

static void embed_back_plain(struct grad_run *run)
{
    uint32_t C = run->c->M;
    double *rows = looked_up(run), *dy = masked(run, run->dy), *ds = rows + run->y_len;

    for (size_t i = 0; i < run->y_len; i++)
        rows[i] += rows[i + run->y_len] + rows[i + 2 * run->y_len];
    plain_layernorm_back(ds, run->in[3].plain, run->in[4].plain, dy, rows, run->in[3].value, EPS,
                         run->rows, C);
    for (int i = 0; i < 3; i++)
        memset(run->in[i].plain, 0, run->in[i].len * sizeof *run->in[i].plain);
    for (uint32_t b = 0; b < run->units; b++)
        for (uint32_t t = run->offsets[b]; t < run->offsets[b + 1]; t++)
            for (uint32_t c = 0; c < C; c++) {
                run->in[0].plain[(size_t)run->ids[t] * C + c] += ds[(size_t)t * C + c];
                run->in[1].plain[(size_t)(t - run->offsets[b]) * C + c] += ds[(size_t)t * C + c];
                run->in[2].plain[(size_t)run->types[t] * C + c] += ds[(size_t)t * C + c];
            }
    free(rows);
    free(dy);
}

void grad_back_plain(struct grad_run *run)
{
    const struct grad_case *c = run->c;
    struct grad_input *in = run->in;
    double *s;

    switch (c->op) {
    case GRAD_LINEAR:
        plain_linear_back(in[0].plain, in[1].plain, in[2].plain, run->dy, in[0].value, in[1].value,
                          c->N, c->M, c->K);
        break;
    case GRAD_EMBED:
        embed_back_plain(run);
        break;
    case GRAD_ADD_LAYERNORM:
        s = masked(run, in[0].value);
        for (size_t i = 0; i < run->y_len; i++)
            s[i] += in[1].value[i];
        plain_layernorm_back(in[1].plain, in[2].plain, in[3].plain, run->dy, s, in[2].value, EPS,
                             c->N, c->M);
        for (size_t i = 0; i < run->y_len; i++)
            in[0].plain[i] = in[1].plain[i] * run->mask[i];
        free(s);
        break;
    case GRAD_GELU:
        plain_gelu_back(in[0].plain, run->dy, in[0].value, run->y_len);
        break;
    case GRAD_ATTENTION:
        plain_attention_back(in[0].plain, run->dy, in[0].value, run->offsets, run->units, c->M,
                             c->K);
        break;
    case GRAD_POOL:
        plain_pool_back(in[0].plain, run->dy, in[0].value, run->offsets, run->units, c->M,
                        c->how == 1);
        break;
    case GRAD_LOSS:
        plain_loss_back(in[0].plain, in[1].plain, in[2].plain, in[0].value, in[1].value,
                        in[2].value, &run->loss.given);
        break;
    case GRAD_LORA:
        plain_lora_back(in[0].plain, in[1].plain, run->dy, in[0].value, in[1].value,
                        (double)LORA_SCALE, c->N, c->M, c->K);
        break;
    }
}

double grad_cost(const struct grad_run *run)
{
    const struct grad_case *c = run->c;
    double squares = 0;

    if (c->op == GRAD_LOSS) /* in loops that compute a length and a total again each time */
        return (double)c->N * c->K * (c->M * (double)c->M + 10.0 * c->K);
    if (c->op == GRAD_LORA)
        return (double)run->y_len * c->K;
    for (uint32_t b = 0; b < run->units && run->c->op == GRAD_ATTENTION; b++)
        squares += 2.0 * run->c->lens[b] * run->c->lens[b] * run->c->M;
    return squares + (double)run->y_len * (run->c->op == GRAD_LINEAR ? run->c->K : 4);
}
