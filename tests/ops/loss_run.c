/* loss_run.c -- see loss_run.h. */
#include "tests/ops/loss_run.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ops/ops_run.h"

enum { TARGETS_MAX = 3 };

static uint32_t draw_below(uint64_t seed, size_t i, uint32_t below)
{
    return (uint32_t)(fabsf(ops_draw(seed, i)) * 1e4f) % below;
}

/* One to three targets, of which two may name the same label; of sets also none. */
static void add_targets(struct loss_run *run, struct kloss_text *text, uint32_t b, uint64_t seed)
{
    struct kloss *l = &run->given;

    text->target = l->targets_len;
    text->targets_len = b % (TARGETS_MAX + 1);
    if (!l->sets && text->targets_len == 0)
        text->targets_len = 1;
    for (uint32_t i = 0; i < text->targets_len; i++)
        run->targets[l->targets_len++] =
            (struct kloss_target){draw_below(seed, (size_t)b * TARGETS_MAX + i, l->L),
                                  l->sets ? 0.5f : 1 / (float)text->targets_len};
}

/* What a teacher says of the first labels: some 0, some 1. */
static void add_teacher(struct loss_run *run, struct kloss_text *text, uint32_t b, uint64_t seed)
{
    struct kloss *l = &run->given;
    float *p = run->teachers + l->teachers_len, sum = 0;

    text->teacher = l->teachers_len;
    text->teacher_len = b == 0 ? l->L : 1 + draw_below(seed, b, l->L);
    for (uint32_t c = 0; c < text->teacher_len; c++) {
        float a = fabsf(ops_draw(seed + 1, (size_t)b * l->L + c));

        p[c] = c % 5 == 1 ? 0 : l->sets ? fminf(a, 1) : a;
        sum += p[c];
    }
    for (uint32_t c = 0; c < text->teacher_len && !l->sets; c++)
        p[c] /= sum;
    l->teachers_len += text->teacher_len;
}

int loss_run_init(struct loss_run *run, enum loss_how how, uint32_t B, uint32_t C, uint32_t L,
                  uint64_t seed)
{
    const bool more = how == LOSS_SINGLE || how == LOSS_SETS;
    struct kloss *l = &run->given;

    *run = (struct loss_run){.texts = calloc(B, sizeof *run->texts),
                             .targets = calloc((size_t)B * TARGETS_MAX, sizeof *run->targets),
                             .teachers = calloc((size_t)B * L, sizeof *run->teachers),
                             .features = calloc((size_t)B * C, sizeof *run->features)};
    if (run->texts == NULL || run->targets == NULL || run->teachers == NULL ||
        run->features == NULL) {
        loss_run_done(run);
        return -ENOMEM;
    }
    *l = (struct kloss){.sets = how == LOSS_SETS || how == LOSS_SETS_NONE,
                        .B = B,
                        .C = C,
                        .L = L,
                        .scale = 20,
                        .distill = 0.5f,
                        .temperature = 2,
                        .feature = 0.1f,
                        .share = 0.5 / B,
                        .texts = run->texts,
                        .targets = run->targets,
                        .teachers = run->teachers,
                        .features = more ? run->features : NULL};
    for (uint32_t b = 0; b < B; b++) {
        struct kloss_text *text = &run->texts[b];

        text->weight = l->share * (b % 3 == 0 ? 1.5 : 1);
        add_targets(run, text, b, seed + 1);
        if (more && b % 3 != 1)
            add_teacher(run, text, b, seed + 2);
        text->featured = more && b % 2 == 0;
        for (uint32_t c = 0; c < C; c++)
            run->features[(size_t)b * C + c] =
                ops_draw(seed + 4, (size_t)b * C + c) / sqrtf((float)C);
    }
    return 0;
}

void loss_run_done(struct loss_run *run)
{
    free(run->texts);
    free(run->targets);
    free(run->teachers);
    free(run->features);
}

/* ---- a text's own numbers ---------------------------------------------------------------------
 */

enum { TEXTS = 11, DIM = 37, LABELS = 300 };

struct own {
    float x[TEXTS * DIM], w[LABELS * DIM], dw[LABELS * DIM], bias[LABELS], dbias[LABELS];
    float dx[TEXTS * DIM];
    double losses[TEXTS * K_LOSSES];
    void *scratch;
};

/* Texts from .. from+len by themselves. */
static void run_part(const struct backend *be, struct kctx *k, struct own *o,
                     const struct loss_run *run, uint32_t from, uint32_t len)
{
    struct kloss part = run->given;

    part.B = len;
    part.texts += from;
    part.features += (size_t)from * DIM;
    part.scratch = o->scratch;
    be->training->loss(k, o->losses, o->dx, o->dw, part.sets ? o->dbias : NULL,
                       o->x + (size_t)from * DIM, o->w, part.sets ? o->bias : NULL, &part);
}

static bool text_is(const struct own *o, uint32_t at, const struct own *whole, uint32_t b)
{
    return memcmp(o->losses + (size_t)at * K_LOSSES, whole->losses + (size_t)b * K_LOSSES,
                  K_LOSSES * sizeof *o->losses) == 0 &&
           memcmp(o->dx + (size_t)at * DIM, whole->dx + (size_t)b * DIM, DIM * sizeof *o->dx) == 0;
}

static const char *check_places(const struct backend *be, struct kctx *k, struct own *o,
                                struct own *whole, const struct loss_run *run)
{
    run_part(be, k, whole, run, 0, TEXTS);
    for (uint32_t b = 0; b < TEXTS; b++) {
        uint32_t len = b + 2 < TEXTS ? 2 : 1;

        run_part(be, k, o, run, b, len);
        for (uint32_t i = 0; i < len; i++)
            if (!text_is(o, i, whole, b + i))
                return "a text has other bits among other texts";
    }
    return NULL;
}

/* How many texts have a loss that is no number. */
static uint32_t lost(const struct backend *be, struct kctx *k, struct own *o,
                     const struct loss_run *run)
{
    uint32_t n = 0;

    run_part(be, k, o, run, 0, TEXTS);
    for (uint32_t b = 0; b < TEXTS; b++)
        n += !isfinite(o->losses[b * K_LOSSES] + o->losses[b * K_LOSSES + 1] +
                       o->losses[b * K_LOSSES + 2]);
    return n;
}

static const char *check_none(const struct backend *be, struct kctx *k, struct own *o,
                              const struct loss_run *run)
{
    float clean = o->x[3 * DIM + 5], zeros[DIM] = {0}, row[DIM];

    if (lost(be, k, o, run) != 0)
        return "a number that is none, of numbers";
    o->x[3 * DIM + 5] = NAN;
    if (lost(be, k, o, run) != 1)
        return "a NaN in one embedding is not in one text's losses";
    o->x[3 * DIM + 5] = INFINITY;
    if (lost(be, k, o, run) != 1)
        return "an infinity in one embedding is not in one text's losses";
    o->x[3 * DIM + 5] = clean;
    clean = run->teachers[1];
    run->teachers[1] = NAN;
    if (lost(be, k, o, run) != 1)
        return "a NaN of one teacher is not in one text's losses";
    run->teachers[1] = clean;
    memcpy(row, o->w + 7 * DIM, sizeof row);
    memcpy(o->w + 7 * DIM, zeros, sizeof row);
    if (lost(be, k, o, run) != TEXTS)
        return "a label vector of zeros has losses";
    memcpy(o->w + 7 * DIM, row, sizeof row);
    return lost(be, k, o, run) == 0 ? NULL : "what was wrong stays";
}

const char *loss_run_check(const struct backend *be, struct kctx *k)
{
    struct own *o = calloc(2, sizeof *o), *whole = o + 1;
    const char *problem = NULL;

    if (o == NULL)
        return "no memory";
    for (size_t i = 0; i < TEXTS * DIM; i++)
        o->x[i] = ops_draw(1, i) / sqrtf(DIM);
    for (size_t i = 0; i < LABELS * DIM; i++)
        o->w[i] = ops_draw(2, i);
    for (size_t i = 0; i < LABELS; i++)
        o->bias[i] = 0.3f + 0.1f * ops_draw(3, i);
    for (enum loss_how how = LOSS_SINGLE; how <= LOSS_SETS && problem == NULL; how++) {
        struct loss_run run;

        if (loss_run_init(&run, how, TEXTS, DIM, LABELS, 9) != 0 ||
            be->alloc(K_RUNS, be->training->loss_bytes(&run.given) + 1, &o->scratch) != 0)
            abort();
        *whole = *o;
        problem = check_places(be, k, o, whole, &run);
        if (problem == NULL)
            problem = check_none(be, k, o, &run);
        be->dealloc(o->scratch);
        loss_run_done(&run);
    }
    free(o);
    return problem;
}
