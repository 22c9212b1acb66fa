/* multi.c -- sets of labels: a probability and a threshold for each label, out of the ridge alone.
 *
 *     p_c = 1 / (1 + exp(-(slope z_c + offset + own_c))),   z = W^T f
 * fitted on the leave-one-out scores z' = (z - h t) / (1 - h), h = w f^T P f, of the examples with
 * the first ids: at most FIT_ROWS (0.11 s at M = 1024 and 150 labels) and FIT_CELLS scores.
 * Minimises the negative log-likelihood with log-normal (slope) and normal priors by damped Newton.
 * own_c stays 0 until c has OWN_MIN examples. Targets may be soft; an example of no label counts
 * like any other.
 *
 * A label is one of the text's from its threshold on: the cut of the leave-one-out probabilities of
 * all labels that maximises F1, drawn towards 1/2; for a label with OWN_MIN examples the cut of its
 * own, drawn towards the shared one. All is a function of the set: scores closer than CUT_APART are
 * never cut apart, so that the rounding which an order of arrival leaves cannot move a cut.
 *
 * Measured on texts of BANKING77 and CLINC150, alone and joined in pairs, 2 to 60 examples a label:
 * a prototype or nearest score beside the ridge's moves micro-F1 by -0.4 .. +0.7 and loses from ten
 * examples a label on, so there is none. Own offsets gain 0.3 to 0.6; own thresholds beside them
 * -0.3 to +0.2, which is why they are drawn so hard.
 */
#include "kernels/algebra.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/head/head_internal.h"

enum {
    FIT_ROWS = 1000,
    FIT_ROWS_MIN = 100,
    FIT_CELLS = 250000,
    STEP_ROWS = 64,
    OWN_MIN = 20,
    ITERATIONS = 60,
    PRODUCT = 512, /* factors up to 2, in fp64 */
};

/* Medians and widths of the priors, in the range that sets of 2 to 60 examples a label showed. */
#define SLOPE_MEDIAN 18.0
#define SLOPE_WIDTH 0.5 /* of its logarithm */
#define OFFSET_MEDIAN (-6.5)
#define OFFSET_WIDTH 2.0
#define OWN_WIDTH 1.0
#define THRESHOLD_FIRST 0.5
#define THRESHOLD_MIN 0.05
#define THRESHOLD_MAX 0.95
#define SHARED_PULL 20.0 /* in positive examples */
#define OWN_PULL 50.0
#define CUT_APART 1e-9

/* Leave-one-out scores of the fit's examples. */
struct left_out {
    uint32_t len, labels_len;
    uint32_t *slots; /* (len) by ascending id */
    double *z;       /* (len,labels_len) */
    double *t;       /* (len,labels_len) value; NAN: without the example the label has none */
};

/* What is fitted: slope = SLOPE_MEDIAN exp(u). */
struct fitting {
    double u, offset;
    double *own;          /* (labels_len) */
    const uint8_t *owned; /* (labels_len) may it differ from 0? */
};

/* ---- calibration ----------------------------------------------------------------------------- */

void calibration_init(struct calibration *c)
{
    *c = (struct calibration){
        .slope = SLOPE_MEDIAN, .offset = OFFSET_MEDIAN, .threshold = THRESHOLD_FIRST};
}

void calibration_done(struct calibration *c)
{
    free(c->own);
    free(c->thresholds);
}

double calibration_own(const struct calibration *c, uint32_t label)
{
    return label < c->len ? c->own[label] : 0;
}

double calibration_threshold(const struct calibration *c, uint32_t label)
{
    return label < c->len ? c->thresholds[label] : c->threshold;
}

double multi_probability(double logit)
{
    return logit >= 0 ? 1 / (1 + exp(-logit)) : exp(logit) / (1 + exp(logit));
}

static double logit_of(double p)
{
    return log(p / (1 - p));
}

/* ---- leaving one out ------------------------------------------------------------------------- */

static void left_out_done(struct left_out *o)
{
    free(o->slots);
    free(o->z);
    free(o->t);
}

/* Targets and leave-one-out scores of one row. all (labels_max): ridge scores of every column. */
static void fill_row(const struct head *h, const struct derived *d, struct left_out *o,
                     uint32_t row, double leverage, const double *all)
{
    const struct example *e = &h->examples[o->slots[row]];
    const struct head_target *targets = examples_targets(h, o->slots[row]);
    double *z = o->z + (size_t)row * d->len, *t = o->t + (size_t)row * d->len;

    for (uint32_t c = 0, i = 0; c < d->len; c++) {
        while (i < e->targets_len && targets[i].label < d->labels[c])
            i++;
        t[c] = i < e->targets_len && targets[i].label == d->labels[c] ? targets[i].value : 0;
        z[c] = (all[d->labels[c]] - leverage * t[c]) / (1 - leverage);
        if (t[c] > 0 && !(d->n[c] - e->weight * t[c] > HEAD_GONE))
            t[c] = NAN;
    }
}

/* f^T P f of a row, Lf = f^T times the lower triangle of P. */
static double form(const struct head *h, const double *f, const double *Lf)
{
    uint32_t M = h->settings.features;
    double diagonal = 0;

    for (uint32_t i = 0; i < M; i++)
        diagonal += h->P[(size_t)i * M + i] * f[i] * f[i];
    return 2 * algebra_dot(M, f, Lf) - diagonal;
}

static int score_rows(const struct head *h, const struct derived *d, struct left_out *o)
{
    uint32_t M = h->settings.features, stride = h->labels_max;
    double *F = malloc(2 * (size_t)STEP_ROWS * M * sizeof *F), *K = F + (size_t)STEP_ROWS * M;
    double *Z = malloc((size_t)STEP_ROWS * stride * sizeof *Z);
    const uint16_t *embeddings[STEP_ROWS];

    if (F == NULL || Z == NULL) {
        free(F);
        free(Z);
        return -ENOMEM;
    }
    for (uint32_t from = 0; from < o->len; from += STEP_ROWS) {
        uint32_t len = o->len - from < STEP_ROWS ? o->len - from : STEP_ROWS;

        for (uint32_t i = 0; i < len; i++)
            embeddings[i] = examples_embedding(h, o->slots[from + i]);
        head_features_of(h, embeddings, len, F);
        memcpy(K, F, (size_t)len * M * sizeof *K);
        algebra_trmm(len, M, h->P, M, K, M);
        algebra_gemm(false, false, len, h->labels_len, M, 1, F, M, h->W, stride, 0, Z, stride);
        for (uint32_t i = 0; i < len; i++)
            fill_row(h, d, o, from + i,
                     h->examples[o->slots[from + i]].weight *
                         form(h, F + (size_t)i * M, K + (size_t)i * M),
                     Z + (size_t)i * stride);
    }
    free(F);
    free(Z);
    return 0;
}

static int leave_out(const struct head *h, const struct derived *d, struct left_out *ret_out)
{
    uint32_t most = FIT_CELLS / (d->len > 0 ? d->len : 1), len;
    struct left_out o = {.labels_len = d->len};
    int rc = -ENOMEM;

    most = most > FIT_ROWS ? FIT_ROWS : most < FIT_ROWS_MIN ? FIT_ROWS_MIN : most;
    o.slots = malloc(most * sizeof *o.slots);
    if (o.slots == NULL)
        return -ENOMEM;
    len = scores_first(h, most, o.slots);
    for (uint32_t i = 0; i < len; i++)
        if (h->examples[o.slots[i]].weight >= HEAD_TRUST_FIT)
            o.slots[o.len++] = o.slots[i];
    o.z = malloc(((size_t)o.len * d->len + 1) * sizeof *o.z);
    o.t = malloc(((size_t)o.len * d->len + 1) * sizeof *o.t);
    if (o.z != NULL && o.t != NULL)
        rc = score_rows(h, d, &o);
    if (rc != 0)
        left_out_done(&o);
    else
        *ret_out = o;
    return rc;
}

/* ---- fitting --------------------------------------------------------------------------------- */

/* Of a step, too, that is not taken. p (len,labels_len): the probabilities, for differentiate. The
 * logarithms of the cells are one of their product: 1 + e <= 2, so PRODUCT of them stay in range.
 */
static double objective(const struct left_out *o, const struct fitting *f, double *p)
{
    double slope = SLOPE_MEDIAN * exp(f->u), offset = f->offset - OFFSET_MEDIAN, product = 1;
    double sum = f->u * f->u / (2 * SLOPE_WIDTH * SLOPE_WIDTH) +
                 offset * offset / (2 * OFFSET_WIDTH * OFFSET_WIDTH);

    for (uint32_t c = 0; c < o->labels_len; c++)
        sum += f->own[c] * f->own[c] / (2 * OWN_WIDTH * OWN_WIDTH);
    for (uint32_t i = 0; i < o->len; i++) {
        const double *z = o->z + (size_t)i * o->labels_len, *t = o->t + (size_t)i * o->labels_len;
        double *row = p + (size_t)i * o->labels_len;

        for (uint32_t c = 0; c < o->labels_len; c++) {
            double logit = slope * z[c] + f->offset + f->own[c], e = exp(-fabs(logit));

            row[c] = (logit >= 0 ? 1 : e) / (1 + e);
            if (isnan(t[c]))
                continue;
            sum +=
                fmax(logit, 0) - t[c] * logit; /* log(1 + e^logit) - t logit, but for log(1 + e) */
            product *= 1 + e;
            if (c % PRODUCT == 0) {
                sum += log(product);
                product = 1;
            }
        }
        sum += log(product);
        product = 1;
    }
    return sum;
}

/* Gradient and curvature: of the two shared numbers g, V; of each own one own_g, own_V, and what
 * ties it to the shared ones. */
struct slopes {
    double g[2], V[2][2];
    double *own_g, *own_V, *tie; /* (L) (L) (L,2) */
};

static void differentiate(const struct left_out *o, const struct fitting *f,
                          const double *probabilities, struct slopes *s)
{
    double slope = SLOPE_MEDIAN * exp(f->u), bend = 0;
    uint32_t L = o->labels_len;

    memset(s->own_g, 0, 4 * (size_t)L * sizeof *s->own_g);
    memset(s->V, 0, sizeof s->V);
    s->g[0] = f->u / (SLOPE_WIDTH * SLOPE_WIDTH);
    s->g[1] = (f->offset - OFFSET_MEDIAN) / (OFFSET_WIDTH * OFFSET_WIDTH);
    for (size_t i = 0, c = 0; i < (size_t)o->len * L; i++, c = c + 1 < L ? c + 1 : 0) {
        double sz = slope * o->z[i], p = probabilities[i];
        double g = p - o->t[i], v = p * (1 - p);

        if (isnan(g))
            continue;
        s->g[0] += g * sz;
        s->g[1] += g;
        bend += g * sz;
        s->V[0][0] += v * sz * sz;
        s->V[0][1] += v * sz;
        s->V[1][1] += v;
        s->own_g[c] += g;
        s->own_V[c] += v;
        s->tie[2 * c] += v * sz;
        s->tie[2 * c + 1] += v;
    }
    s->V[0][0] += fmax(bend, 0) + 1 / (SLOPE_WIDTH * SLOPE_WIDTH);
    s->V[1][1] += 1 / (OFFSET_WIDTH * OFFSET_WIDTH);
    for (uint32_t c = 0; c < L; c++) {
        s->own_g[c] += f->own[c] / (OWN_WIDTH * OWN_WIDTH);
        s->own_V[c] += 1 / (OWN_WIDTH * OWN_WIDTH);
    }
}

/* The Newton step: the own ones are eliminated (they touch each other nowhere), two by two are
 * solved. Into step[2] and, over own_g, the own steps. */
static void solve(const struct left_out *o, const struct fitting *f, struct slopes *s,
                  double step[2])
{
    double a = s->V[0][0], b = s->V[0][1], d = s->V[1][1], g0 = s->g[0], g1 = s->g[1], det;

    for (uint32_t c = 0; c < o->labels_len; c++) {
        const double *tie = s->tie + 2 * c;

        if (!f->owned[c])
            continue;
        a -= tie[0] * tie[0] / s->own_V[c];
        b -= tie[0] * tie[1] / s->own_V[c];
        d -= tie[1] * tie[1] / s->own_V[c];
        g0 -= tie[0] * s->own_g[c] / s->own_V[c];
        g1 -= tie[1] * s->own_g[c] / s->own_V[c];
    }
    det = a * d - b * b;
    step[0] = fmax(-1, fmin(1, (d * g0 - b * g1) / det));
    step[1] = fmax(-3, fmin(3, (a * g1 - b * g0) / det));
    for (uint32_t c = 0; c < o->labels_len; c++)
        s->own_g[c] = f->owned[c]
                          ? (s->own_g[c] - s->tie[2 * c] * step[0] - s->tie[2 * c + 1] * step[1]) /
                                s->own_V[c]
                          : 0;
}

/* Moves f by -t step; own as it was in from. */
static void move(struct fitting *f, const struct fitting *from, const struct slopes *s,
                 const double step[2], double t, uint32_t labels_len)
{
    f->u = from->u - t * step[0];
    f->offset = from->offset - t * step[1];
    for (uint32_t c = 0; c < labels_len; c++)
        f->own[c] = from->own[c] - t * s->own_g[c];
}

/* To the end of what fp64 can tell: a stop on the way would leave more of the order than rounding.
 */
static int newton(const struct left_out *o, struct fitting *f)
{
    uint32_t L = o->labels_len;
    double *memory = calloc(5 * (size_t)L + (size_t)o->len * L + 1, sizeof *memory), step[2], now;
    double *p = memory + 5 * (size_t)L;
    struct slopes s = {.own_g = memory, .own_V = memory + L, .tie = memory + 2 * (size_t)L};
    struct fitting from = {.own = memory + 4 * (size_t)L, .owned = f->owned};

    if (memory == NULL)
        return -ENOMEM;
    now = objective(o, f, p);
    for (int i = 0; i < ITERATIONS; i++) {
        double t = 1, next = now, largest;

        differentiate(o, f, p, &s);
        solve(o, f, &s, step);
        largest = fmax(fabs(step[0]), fabs(step[1]));
        for (uint32_t c = 0; c < L; c++)
            largest = fmax(largest, fabs(s.own_g[c]));
        from.u = f->u;
        from.offset = f->offset;
        memcpy(from.own, f->own, L * sizeof *f->own);
        for (; t > 1e-4; t /= 2) {
            move(f, &from, &s, step, t, L);
            next = objective(o, f, p);
            if (next <= now + 1e-12 * (1 + fabs(now)))
                break;
        }
        if (t <= 1e-4 || largest < 1e-12)
            break;
        now = next;
    }
    free(memory);
    return 0;
}

/* ---- thresholds ------------------------------------------------------------------------------ */

struct cell {
    double p, t;
};

static int likely_first(const void *a, const void *b)
{
    const struct cell *x = a, *y = b;

    if (x->p != y->p)
        return x->p < y->p ? 1 : -1;
    return (x->t < y->t) - (x->t > y->t);
}

/* The cut that maximises F1 = 2 hits / (chosen + positives) over cells (len, any order), drawn
 * towards `first` with the strength of `pull` positives. Of equal cuts the highest. */
static double cut(struct cell *cells, uint32_t len, double positives, double first, double pull)
{
    double hits = 0, best = 0, at = first;

    qsort(cells, len, sizeof *cells, likely_first);
    for (uint32_t i = 0; i < len; i++) {
        double below = i + 1 < len ? cells[i + 1].p : THRESHOLD_MIN, f1;

        hits += cells[i].t;
        f1 = 2 * hits / (i + 1 + positives);
        if (cells[i].p - below <= CUT_APART || f1 <= best + 1e-12)
            continue;
        best = f1;
        at = (cells[i].p + below) / 2;
    }
    at = fmax(THRESHOLD_MIN, fmin(THRESHOLD_MAX, at));
    return multi_probability((positives * logit_of(at) + pull * logit_of(first)) /
                             (positives + pull));
}

/* Of one place of derived, or (UINT32_MAX) of all. cells: room for len rows of them. */
static double threshold(const struct left_out *o, const struct fitting *f, uint32_t place,
                        struct cell *cells, double first, double pull)
{
    uint32_t L = o->labels_len, len = 0;
    uint32_t begin = place != UINT32_MAX ? place : 0, end = place != UINT32_MAX ? place + 1 : L;
    double slope = SLOPE_MEDIAN * exp(f->u), positives = 0;

    for (uint32_t i = 0; i < o->len; i++)
        for (uint32_t c = begin; c < end; c++) {
            double t = o->t[(size_t)i * L + c];
            double p = multi_probability(slope * o->z[(size_t)i * L + c] + f->offset + f->own[c]);

            if (isnan(t))
                continue;
            positives += t;
            if (p > THRESHOLD_MIN)
                cells[len++] = (struct cell){p, t};
        }
    return positives > HEAD_GONE ? cut(cells, len, positives, first, pull) : first;
}

/* ---- leaving out any ------------------------------------------------------------------------- */

/* One text, a label of derived after the other. z, t (d->len) as left_out has them. decisions (L)
 * or NULL. */
static void judge_set(const struct head *h, const struct derived *d, const double *z,
                      const double *t, struct head_loo_item *item, uint8_t *decisions)
{
    const struct calibration *c = &h->calibration;
    double best = -1;

    item->p_label = item->p_predicted = item->p_squares = 1;
    item->predicted = UINT32_MAX;
    for (uint32_t i = 0; i < d->len; i++) {
        uint32_t label = d->labels[i];
        double p = multi_probability(c->slope * z[i] + c->offset + calibration_own(c, label));
        bool wanted = t[i] >= 0.5, chosen = p >= calibration_threshold(c, label);

        if (isnan(t[i]))
            continue;
        item->p_label *= wanted ? p : 1 - p;
        item->p_predicted *= chosen ? p : 1 - p;
        item->p_squares *= p * p + (1 - p) * (1 - p);
        item->wanted += wanted;
        item->chosen += chosen;
        item->hits += wanted && chosen;
        if (p > best) {
            best = p;
            item->predicted = label;
        }
        if (decisions != NULL)
            decisions[label] =
                (uint8_t)((wanted ? HEAD_LOO_WANTED : 0) | (chosen ? HEAD_LOO_CHOSEN : 0));
    }
    item->right = item->hits == item->wanted && item->hits == item->chosen;
}

static void judge_novelty(const struct head *h, const struct derived *d, const double *z,
                          const double *t, double near, double other, struct head_loo_item *item)
{
    double highest = -INFINITY, highest_other = -INFINITY;

    item->novelty_known = item->novelty_unknown = NAN;
    if (h->novelties_len == 0)
        return;
    for (uint32_t i = 0; i < d->len; i++) {
        highest = fmax(highest, z[i]);
        if (t[i] == 0) /* neither its own nor, NAN, its own and nobody else's */
            highest_other = fmax(highest_other, z[i]);
    }
    item->novelty_known = scores_novelty(h, highest, near);
    if (highest_other > -INFINITY)
        item->novelty_unknown = scores_novelty(h, highest_other, other);
}

int multi_loo(const struct head *h, const struct derived *d, const uint32_t *slots, uint32_t len,
              struct head_loo_item *items, uint8_t *decisions)
{
    size_t cells = (size_t)len * d->len + 1;
    struct left_out o = {.labels_len = d->len, .slots = malloc((len + 1) * sizeof *o.slots)};
    double *near = malloc((2 * (size_t)len + 1) * sizeof *near);
    int rc = -ENOMEM;

    o.z = malloc(cells * sizeof *o.z);
    o.t = malloc(cells * sizeof *o.t);
    if (o.slots != NULL && near != NULL && o.z != NULL && o.t != NULL) {
        for (uint32_t i = 0; i < len; i++)
            if (slots[i] != SLOT_NONE)
                o.slots[o.len++] = slots[i];
        rc = score_rows(h, d, &o);
    }
    if (rc == 0)
        rc = scores_near(h, NULL, o.slots, o.len, near, near + len, NULL);
    if (rc == 0 && decisions != NULL)
        memset(decisions, 0, (size_t)len * h->labels_len);
    for (uint32_t i = 0, at = 0; i < len && rc == 0; i++) {
        const double *z = o.z + (size_t)at * d->len, *t = o.t + (size_t)at * d->len;

        items[i] = (struct head_loo_item){.state = HEAD_LOO_ABSENT};
        if (slots[i] == SLOT_NONE)
            continue;
        items[i] = (struct head_loo_item){.label = examples_label(h, slots[i])};
        judge_set(h, d, z, t, &items[i],
                  decisions != NULL ? decisions + (size_t)i * h->labels_len : NULL);
        judge_novelty(h, d, z, t, near[at], near[len + at], &items[i]);
        at++;
    }
    left_out_done(&o);
    free(near);
    return rc;
}

/* ---- the fit --------------------------------------------------------------------------------- */

static int calibrate(const struct head *h, const struct derived *d, const struct left_out *o,
                     struct calibration *c)
{
    uint8_t *owned = calloc(d->len + 1, 1);
    struct fitting f = {.offset = OFFSET_MEDIAN, .owned = owned};
    struct cell *cells = malloc(((size_t)o->len * d->len + 1) * sizeof *cells);
    int rc = -ENOMEM;

    f.own = calloc(d->len + 1, sizeof *f.own);
    c->own = calloc(h->labels_len + 1, sizeof *c->own);
    c->thresholds = calloc(h->labels_len + 1, sizeof *c->thresholds);
    if (owned != NULL && cells != NULL && f.own != NULL && c->own != NULL &&
        c->thresholds != NULL) {
        for (uint32_t i = 0; i < d->len; i++)
            owned[i] = d->n[i] >= OWN_MIN - HEAD_GONE;
        rc = newton(o, &f);
    }
    if (rc == 0) {
        c->len = h->labels_len;
        c->slope = SLOPE_MEDIAN * exp(f.u);
        c->offset = f.offset;
        c->threshold = threshold(o, &f, UINT32_MAX, cells, THRESHOLD_FIRST, SHARED_PULL);
        for (uint32_t l = 0; l < h->labels_len; l++)
            c->thresholds[l] = c->threshold;
        for (uint32_t i = 0; i < d->len; i++) {
            if (!owned[i])
                continue;
            c->own[d->labels[i]] = f.own[i];
            c->thresholds[d->labels[i]] = threshold(o, &f, i, cells, c->threshold, OWN_PULL);
        }
    }
    free(owned);
    free(cells);
    free(f.own);
    return rc;
}

/* Of the first HEAD_FIT_EXAMPLES rows. */
static int fit_novelty(struct head *h, const struct left_out *o)
{
    uint32_t len = o->len < HEAD_FIT_EXAMPLES ? o->len : HEAD_FIT_EXAMPLES;
    double *maxima = malloc(2 * ((size_t)len + 1) * sizeof *maxima), *near = maxima + len;
    int rc;

    if (maxima == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < len; i++) {
        maxima[i] = -INFINITY;
        for (uint32_t c = 0; c < o->labels_len; c++)
            maxima[i] = fmax(maxima[i], o->z[(size_t)i * o->labels_len + c]);
    }
    rc = scores_near(h, NULL, o->slots, len, near, NULL, NULL);
    if (rc == 0)
        rc = scores_fit_novelty(h, maxima, near, len);
    free(maxima);
    return rc;
}

int multi_fit(struct head *h)
{
    struct calibration c;
    struct derived d;
    struct left_out o;
    int rc = derived_make(h, &d);

    if (rc != 0)
        return rc;
    rc = leave_out(h, &d, &o);
    if (rc != 0) {
        derived_done(&d);
        return rc;
    }
    calibration_init(&c);
    if (o.len >= HEAD_FIT_MIN && d.len > 0)
        rc = calibrate(h, &d, &o, &c);
    if (rc == 0 && o.len >= HEAD_NOVELTY_MIN && d.len > 0)
        rc = fit_novelty(h, &o);
    else if (rc == 0)
        h->novelties_len = 0;
    left_out_done(&o);
    derived_done(&d);
    if (rc != 0) {
        calibration_done(&c);
        return rc;
    }
    calibration_done(&h->calibration);
    h->calibration = c;
    memcpy(h->coefficients, (double[HEAD_SCORES]){c.slope}, sizeof h->coefficients);
    h->stale = 0;
    return 0;
}
