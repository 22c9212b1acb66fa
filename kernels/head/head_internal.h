/* head_internal.h -- the head's state, shared by the files of kernels/head. Private.
 *
 * Letters: M features, d dimensions of an embedding, L labels (columns in use), N examples, b terms
 * of a block. All sums are over examples with weight w and target t: G = sum w f f^T, Q = sum w f
 * t^T, P = (G + lambda I)^-1, W = P Q, A = diag(n) - Q^T W, n = sum w t, S = sum w t x. A serves
 * the LDA score alone: a multi head leaves it zero.
 */
#ifndef LEARND_HEAD_INTERNAL_H
#define LEARND_HEAD_INTERNAL_H

#include <stdatomic.h>

#include "kernels/head/head.h"

enum {
    HEAD_DIM_MAX = 8192,
    FEATURE_ROWS = 8, /* computed together: what features cost is reading R */
    CHUNK_ROWS = 256,
    REBUILD_TERMS = 4096, /* terms between two rebuilds of P from G */
    PROBE_TERMS = 64,     /* terms between two probes of P */
};

#define HEAD_TRUST_NEAR 0.5 /* weight from which an example is a neighbour */
#define HEAD_TRUST_FIT 1.0  /* weight from which an example fits the pool */
#define HEAD_LDA_SCALE 0.05
#define HEAD_PROBE_MAX 1e-6
#define HEAD_NO_LABEL UINT32_MAX
#define HEAD_GONE 1e-9 /* a label with less than this weight has no example */

/* Rows of examples, shared between the head and its views; copied when the head changes one that a
 * view holds. */
struct chunk {
    atomic_uint refs;
    struct head_id ids[CHUNK_ROWS];
    uint32_t labels[CHUNK_ROWS]; /* strongest target; HEAD_NO_LABEL: none */
    uint8_t trusted[CHUNK_ROWS]; /* weight >= HEAD_TRUST_NEAR */
    uint16_t embeddings[];       /* (CHUNK_ROWS,d) fp16 */
};

/* What the head knows of an example beside its row. */
struct example {
    double weight; /* that counts: `taught`, or a part of it while distrusted */
    double taught;
    bool confirmed, distrusted;
    uint32_t targets_len;
    struct head_target one;      /* targets_len <= 1 */
    struct head_target *targets; /* targets_len > 1, owned; ascending by label */
};

/* R, shared by the head and its views. */
struct projection {
    atomic_uint refs;
    float values[]; /* (d,M) */
};

/* How a multi head turns a label's ridge score z into a probability, 1/(1 + exp(-(slope z + offset
 * + own))), and from which one on the label is one of the text's. Columns from len on: own 0, the
 * shared threshold. */
struct calibration {
    double slope, offset, threshold;
    uint32_t len;
    double *own;        /* (len) 0 without examples enough */
    double *thresholds; /* (len) */
};

struct head {
    struct head_settings settings;
    struct projection *projection;
    double *P, *G; /* (M,M), lower triangle */
    double *W, *Q; /* (M,labels_max) */
    double *A;     /* (labels_max,labels_max) */
    double *n;     /* (labels_max) */
    double *S;     /* (labels_max,d) */
    uint32_t labels_len, labels_max;
    uint64_t terms_since_rebuild, terms_since_probe;
    bool behind; /* P, W and A lack terms that G and Q have; ridge_rebuild mends it */
    /* Examples by slot: chunk slot / CHUNK_ROWS, row slot % CHUNK_ROWS. */
    struct example *examples;
    struct chunk **chunks;
    uint32_t examples_len, examples_max;
    uint32_t *index; /* (index_max) slot + 1 by hash of id, 0: free; linear probing */
    uint32_t index_max;
    uint32_t *trusted_len; /* (labels_max) trusted examples of each label */
    /* The last fit. */
    double coefficients[HEAD_SCORES];
    struct calibration calibration;           /* HEAD_MULTI */
    double novelty_mean[2], novelty_scale[2]; /* of the ridge maximum, of the mean cosine */
    double *novelties;                        /* (novelties_len) ascending, leave-one-out */
    uint32_t novelties_len;
    struct head_loo_row *loo_rows; /* (loo_rows_len) */
    uint32_t loo_rows_len;
    uint64_t stale;
    uint64_t distrusted_len;
};

/* ---- features.c ------------------------------------------------------------------------------ */
struct projection *projection_make(const struct head_settings *settings);
struct projection *projection_get(struct projection *projection);
void projection_put(struct projection *projection);
/* f(M) of an fp16 embedding, in fp64, in a fixed order of additions. */
void head_features_of(const struct head *head, const uint16_t *const *embeddings, uint32_t rows,
                      double *f);
float head_half_to_float(uint16_t half);

/* ---- examples.c ------------------------------------------------------------------------------ */
#define SLOT_NONE UINT32_MAX
uint32_t examples_find(const struct head *head, struct head_id id);
const uint16_t *examples_embedding(const struct head *head, uint32_t slot);
const struct head_target *examples_targets(const struct head *head, uint32_t slot);
uint32_t examples_label(const struct head *head, uint32_t slot);
struct head_id examples_id(const struct head *head, uint32_t slot);
/* Sets or adds an example. On -ENOMEM nothing has changed. */
int examples_set(struct head *head, const struct head_change *change);
int examples_remove(struct head *head, uint32_t slot);
/* Sets the mark and the weight that counts. On -ENOMEM nothing has changed. */
int examples_distrust(struct head *head, uint32_t slot, bool distrusted);
void examples_free(struct head *head);
struct chunk *chunk_get(struct chunk *chunk);
void chunk_put(struct chunk *chunk);

/* ---- ridge.c --------------------------------------------------------------------------------- */
int ridge_rebuild(struct head *head);  /* P, W, A from G and Q. -EDOM, -ENOMEM */
int ridge_catch_up(struct head *head); /* The same where they are behind. */

/* ---- scores.c -------------------------------------------------------------------------------- */
/* Labels with examples, and what publishing derives from the state; all fp64. */
struct derived {
    uint32_t len, dim;
    uint32_t *labels;   /* (len) columns, ascending */
    double *n;          /* (len) */
    double *T;          /* (len,len) = A^-1 over them */
    double *prototypes; /* (len,d) unit length */
    double total;       /* sum of n */
    double kappa;       /* (M - lambda tr P) / total */
};
/* HEAD_MULTI: T, total and kappa are not made. */
int derived_make(const struct head *head, struct derived *ret_derived);
void derived_done(struct derived *derived);

/* Leave-one-out scores of the fit's examples. */
struct loo {
    uint32_t len, labels_len;
    double *scores;  /* (len,labels_len,HEAD_SCORES) */
    uint32_t *own;   /* (len) place of the example's own label in derived->labels */
    double *weights; /* (len) the example's own weight */
    double *near;    /* (len) mean cosine of its nearest */
    double *other;   /* (len) of its nearest that share no label; NAN: none. NULL: not asked */
};
int loo_make(const struct head *head, const struct derived *derived, struct loo *ret_loo);
void loo_done(struct loo *loo);
/* Of any examples with one label that is not the last of its label; `other`: fill that in too. */
int loo_of(const struct head *head, const struct derived *derived, const uint32_t *slots,
           uint32_t len, bool other, struct loo *ret_loo);
/* What coefficients say of row i; p (labels_len) becomes its probabilities. */
void loo_judge(const struct loo *loo, const struct derived *derived, uint32_t i,
               const double coefficients[HEAD_SCORES], double *p, struct head_loo_row *ret_row);
/* The slots of the len_max first ids, ascending; with a tuned encoder the held-out ones before the
 * others. Returns how many. */
uint32_t scores_first(const struct head *head, uint32_t len_max, uint32_t *slots);
/* Mean cosine of the nearest of each slot's example, without itself, into near (len); unless NULL,
 * of those that share no label into other (len; NAN: none), and the nearest of each label of
 * derived into scores (len,labels_len,HEAD_SCORES)[4]. -ENOMEM. */
int scores_near(const struct head *head, const struct derived *derived, const uint32_t *slots,
                uint32_t len, double *near, double *other, double *scores);
/* -(standardised ridge maximum + standardised mean cosine), by the last fit. */
double scores_novelty(const struct head *head, double maximum, double near);
/* Novelty statistics from leave-one-out ridge maxima and mean cosines, both (len). -ENOMEM. */
int scores_fit_novelty(struct head *head, const double *maxima, const double *near, uint32_t len);

/* ---- pool.c ---------------------------------------------------------------------------------- */
extern const double pool_prior[HEAD_SCORES];
/* The prior medians, leaning back while there are many labels with few examples each. */
void pool_prior_scaled(const struct derived *derived, double coefficients[HEAD_SCORES]);
/* Minimises the negative log-likelihood of `own` under softmax(scores b), with log-normal priors.
 */
int pool_fit(const struct loo *loo, const struct derived *derived,
             double coefficients[HEAD_SCORES]);
/* p(len) = softmax over len labels of the weighted scores (len,HEAD_SCORES). */
void pool_softmax(double *p, uint32_t len);
/* z(L) = scores(L,HEAD_SCORES) b. */
void pool_combine(const double *scores, const double b[HEAD_SCORES], double *z, uint32_t L);

/* ---- multi.c --------------------------------------------------------------------------------- */
void calibration_init(struct calibration *calibration);
void calibration_done(struct calibration *calibration);
double calibration_own(const struct calibration *calibration, uint32_t label);
double calibration_threshold(const struct calibration *calibration, uint32_t label);
double multi_probability(double logit);
/* Calibration and novelty on the present set. -ENOMEM: as before. */
int multi_fit(struct head *head);
/* head_loo_sets of slots (len), unless SLOT_NONE, into ret_items (len). -ENOMEM. */
int multi_loo(const struct head *head, const struct derived *derived, const uint32_t *slots,
              uint32_t len, struct head_loo_item *ret_items, uint8_t *ret_decisions);

#endif
