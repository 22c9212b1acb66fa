/* head.h -- everything between an embedding and probabilities: exact, recursive, forgettable.
 *
 * f = relu(xR) sqrt(2/M) random features; recursive ridge regression over them; five scores a label
 * (ridge, prior-free LDA, count, prototype, nearest example); one log-linear pool whose five
 * coefficients are fitted on closed-form leave-one-out scores; novelty from the ridge maximum and
 * the mean cosine of the five nearest. The formulas stand where they are computed: ridge.c,
 * scores.c, pool.c; for heads of sets of labels (HEAD_MULTI) multi.c.
 *
 * Two objects, two lives:
 *
 *     struct head       the learning state (fp64). One owner, one thread at a time. A function of
 *                       the SET of examples it holds: any order of changes gives the same state to
 *                       rounding (relative 1e-9), and removing one equals never having seen it.
 *     struct head_view  a frozen serving snapshot (fp32 arrays, fp16 embeddings). Any number of
 *                       threads. Views share unchanged blocks of embeddings with the head.
 *
 * Never: a clock, a thread, randomness that is not an argument, a log, a file.
 */
#ifndef LEARND_HEAD_H
#define LEARND_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HEAD_SCORES = 5,         /* ridge, LDA, count, prototype, nearest */
    HEAD_NEIGHBOURS = 5,     /* nearest examples kept for novelty and explanation */
    HEAD_FIT_EXAMPLES = 500, /* examples with the smallest ids that fit the pool */
    HEAD_FIT_MIN = 4,        /* under this many the prior medians serve */
    HEAD_NOVELTY_MIN = 20,   /* under this many nothing is called novel */
    HEAD_BLOCK = 64,         /* signed terms in one recursive step */
};

struct head;
struct head_view;

/* Identity of an example: a uniform 128-bit hash of its content, chosen by the caller. Ordered by
 * (hi, lo). */
struct head_id {
    uint64_t hi, lo;
};

/* One text in ten is kept out of the training of encoders, by its hash alone (kernels/train/plan.h
 * holds to the same rule): it shows what an encoder makes of texts it has never seen. */
static inline bool head_held_out(struct head_id id)
{
    return id.hi % 10 == 0;
}

enum head_kind {
    HEAD_SINGLE, /* one label an example: values of a target sum to 1, probabilities too */
    HEAD_MULTI,  /* a set of labels, perhaps none: each has a value and a probability of its own */
};

struct head_settings {
    uint32_t dim;      /* d, length of an embedding */
    uint32_t features; /* M, 64 .. 8192 */
    uint64_t seed;     /* of R; R is never stored */
    double lambda;     /* ridge, > 0; 0.15 is flat over two decades */
    enum head_kind kind;
    bool tuned; /* the encoder was trained on examples like these: the pool is fitted on those held
                   out first (head_held_out). Not in an image */
};

/* One class of a target, no class twice. */
struct head_target {
    uint32_t label; /* column, < head_labels_len */
    float value;    /* above 0, at most 1; HEAD_SINGLE: those of one example sum to 1 */
};

/* The wanted state of one example, not a step: twice is once. */
struct head_change {
    struct head_id id;
    const uint16_t *embedding; /* (d) fp16, unit length to rounding; NULL to remove the example */
    const struct head_target *targets; /* (targets_len); none: remove it (absent: nothing) */
    uint32_t targets_len;
    bool none;     /* HEAD_MULTI: with targets_len 0 the example stays, as one of no label at all */
    double weight; /* omega > 0; below 0.5 no neighbour, below 1 not of the fit */
    bool confirmed; /* two annotators agree on it: never a suspect */
};

/* 0, -EINVAL, -ENOMEM. */
int head_open(const struct head_settings *settings, struct head **ret_head);
void head_close(struct head *head);

const struct head_settings *head_settings(const struct head *head);
bool head_has(const struct head *head, struct head_id id);
/* Weighted examples of a column; 0: no answer can name it. */
double head_label_weight(const struct head *head, uint32_t label);
uint32_t head_labels_len(const struct head *head);
uint64_t head_examples_len(const struct head *head);

/* Adds zero columns until there are labels_len labels. 0, -ENOMEM; never shrinks. */
int head_labels_grow(struct head *head, uint32_t labels_len);

/* Applies changes: in recursive blocks of up to HEAD_BLOCK signed terms, or, where they are many
 * against M, by one symmetric update of G and one factorisation. All or nothing for bad input:
 * -EINVAL (label out of range or twice, weight or embedding not finite, values that the kind does
 * not allow, by more than 1e-6) leaves the head untouched. -ENOMEM may leave a prefix of the
 * changes applied; applying all of them again is then right. */
int head_apply(struct head *head, const struct head_change *changes, uint32_t changes_len);

/* Largest relative distance of P, W and A from a batch rebuild. For tests and doctor. */
int head_check(const struct head *head, double *ret_distance);

/* ---- serving --------------------------------------------------------------------------------- */

/* Fits the pool's coefficients and the novelty statistics: a function of the set alone. Costs up to
 * 150 ms at 150 labels, so it stands apart from publishing. 0, -ENOMEM, -EDOM. */
int head_fit(struct head *head);
/* Examples changed since the last fit; 0: the coefficients are those of the present set. */
uint64_t head_fit_stale(const struct head *head);

/* What the last fit's coefficients say of each of its examples without that example. */
struct head_loo_row {
    uint32_t label, predicted;
    double p_label, p_predicted, p_squares; /* of both, and the sum of squares over all labels */
};
/* (*ret_len) borrowed until the next fit; none without one. */
const struct head_loo_row *head_fit_rows(const struct head *head, uint32_t *ret_len);
const double *head_coefficients(const struct head *head); /* (HEAD_SCORES) of the last fit */

/* Freezes the present state with the coefficients of the last fit; HEAD_SINGLE: one Cholesky over
 * the labels in use. budget: share of in-scope texts that the novelty threshold may reject (0.05).
 * The caller frees *ret_view when nobody uses it. */
int head_publish(struct head *head, double budget, struct head_view **ret_view);
void head_view_free(struct head_view *view);

uint32_t head_view_labels_len(const struct head_view *view); /* columns, L */
uint64_t head_view_examples_len(const struct head_view *view);
/* (HEAD_SCORES); HEAD_MULTI: the slope of the ridge score, and zeros */
const double *head_view_coefficients(const struct head_view *view);
enum head_kind head_view_kind(const struct head_view *view);
/* HEAD_MULTI: from this probability on a label is one of the text's. */
double head_view_threshold(const struct head_view *view, uint32_t label);
/* Above it: novel. INFINITY: not enough examples. */
double head_view_novelty_max(const struct head_view *view);

/* Which of embeddings (N,d) fp16 the view has an example of, bit for bit. 0, -ENOMEM. */
int head_view_has(const struct head_view *view, const uint16_t *embeddings, uint32_t N,
                  bool *ret_has);

struct head_neighbour {
    struct head_id id;
    uint32_t label; /* its strongest target; UINT32_MAX: it has none */
    float similarity;
};

struct head_answer {
    uint32_t label; /* the most probable one; UINT32_MAX: no label has an example */
    float novelty;  /* standardised; larger is stranger. 0 without a fit */
    bool novel;     /* novelty above the view's threshold */
    uint32_t neighbours_len;
    struct head_neighbour neighbours[HEAD_NEIGHBOURS]; /* most similar first, ties by id */
};

/* Bytes of scratch that head_view_score needs for batches of N rows against this view. */
size_t head_view_scratch_bytes(const struct head_view *view, uint32_t rows);

/* embeddings (N,d) fp32 -> answers (N), probabilities (N,L), zero for a label without examples; a
 * row sums to 1 if any label has examples (HEAD_SINGLE). allowed: NULL or (L) flags, others get
 * probability 0 and the rest are renormalised (HEAD_SINGLE). shares: NULL or (N,L,HEAD_SCORES)
 * fp32, each score already multiplied by its coefficient (what `explain` shows). scratch is aligned
 * to 64. 0, -EDOM (an embedding that is not finite). Row results do not depend on N. */
int head_view_score(const struct head_view *view, const float *embeddings, uint32_t rows,
                    const uint8_t *allowed, void *scratch, struct head_answer *answers,
                    float *probabilities, float *shares);

/* ---- keeping --------------------------------------------------------------------------------- */

/* Bytes of the portable image (little endian, versioned, with the settings and the examples). */
size_t head_image_bytes(const struct head *head);
void head_image_write(const struct head *head, void *image);
/* 0, -EINVAL (not an image, another version, other settings, damaged sizes), -ENOMEM. */
int head_image_read(const struct head_settings *settings, const void *image, size_t image_bytes,
                    struct head **ret_head);

/* fp32 -> IEEE fp16, to nearest even: the form in which embeddings are learned and kept. */
void head_embedding_pack(const float *embedding, uint32_t dim, uint16_t *ret_packed);
void head_embedding_unpack(const uint16_t *packed, uint32_t dim, float *ret_embedding);

#include "kernels/head/head_audit.h"
#include "kernels/head/head_loo.h"

#endif
