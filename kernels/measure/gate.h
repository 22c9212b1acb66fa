/* gate.h -- may a new pair (encoder, head) replace the old one? A paired comparison on held-out
 * texts, which no encoder was trained on; each head scores each text as if it had not learned it.
 *
 * Refused, unless
 *   - there are items enough: without evidence nothing is swapped;
 *   - the lower 95 % bound of the gain in accuracy is above -margin; or accuracy is no lower and
 *     the new probabilities are better: the lower 95 % bound of the fall of the Brier score, a
 *     proper score that sees more on few texts than right and wrong do, is above 0;
 *   - no label with enough items loses recall significantly: exact one-sided McNemar per label,
 *     Holm's correction over the labels tested;
 *   - the calibration error rises by no more than its margin, or than chance explains;
 *   - novelty tells known from unknown as well as before, less its margin;
 *   - an answer takes no longer than latency_margin times the old.
 * Every number is in the verdict whatever the outcome. Sets of labels (a `multi` model) come as two
 * lists: a text is right when its whole set is, and recall is judged on (text, label) decisions.
 *
 * Pure. Any thread. A verdict does not depend on the order of the items.
 */
#ifndef LEARND_GATE_H
#define LEARND_GATE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    GATE_ECE_BINS = 15,
    GATE_LOSSES_MAX = 32,
    GATE_AUROC_MIN = 200, /* fewer texts with a novelty say nothing about it */
};

/* What one pair said of a text. */
struct gate_side {
    bool right;
    /* Probability of what it said; NAN leaves the text out of the calibration error of both. */
    double p_predicted;
    /* Novelty of the text, and as if its label were unknown; NAN leaves it out of both AUROCs. */
    double novelty_known, novelty_unknown;
    /* 1 - 2 p(label) + the sum of all squares; NAN leaves the text out of both Brier scores. */
    double brier;
};

struct gate_item {
    uint32_t label; /* the taught one. Not read where decisions are given */
    struct gate_side old, new;
};

/* Of one label that a text has: did each pair say so? */
struct gate_decision {
    uint32_t label;
    bool old_right, new_right;
};

struct gate_input {
    const struct gate_item *items;
    uint32_t items_len;
    const struct gate_decision *decisions; /* for recalls; NULL: the items are the decisions */
    uint32_t decisions_len;
    double old_latency, new_latency; /* same unit, same inputs; 0: not measured, not judged */
};

struct gate_settings {
    double margin;     /* of accuracy, a share. 0: the new pair must be shown to be better */
    double alpha;      /* of the recalls together */
    double ece_margin; /* shares */
    double auroc_margin;
    double latency_margin;    /* a ratio */
    uint32_t items_min;       /* fewer: refused, */
    bool accept_few;          /* unless this says otherwise; all else is still asked */
    uint32_t label_items_min; /* fewer: a label's recall is not tested */
};
/* margin 0.015; alpha 0.05, ece and auroc 0.01, latency 1.10; 30 items, 20 of a label. */
void gate_settings_default(struct gate_settings *ret_settings);

/* Why not; together in one word. */
enum gate_reason {
    GATE_TOO_FEW = 1 << 0,
    GATE_ACCURACY = 1 << 1,
    GATE_RECALL = 1 << 2,
    GATE_CALIBRATION = 1 << 3,
    GATE_NOVELTY = 1 << 4,
    GATE_LATENCY = 1 << 5,
    GATE_REASONS = 6,
};
const char *gate_reason_name(enum gate_reason reason); /* "too_few", "accuracy", .. */

struct gate_loss {
    uint32_t label;
    uint32_t items, lost, won;
    double p, p_adjusted; /* chance of so many lost; Holm */
};

struct gate_verdict {
    bool accepted;
    uint32_t reasons; /* what spoke against; GATE_TOO_FEW may be all with accept_few */
    uint64_t items, lost, won;
    double accuracy_old, accuracy_new; /* NAN without items, like all that follow from them */
    double difference, lower;          /* new - old, lower end of its 95 % interval */
    double p;                          /* exact two-sided McNemar */
    double visible;                    /* a loss of this size would show four times in five */
    double brier_old, brier_new, brier_lower; /* fall from old to new, lower end; NAN: no scores */
    double ece_old, ece_new;                  /* NAN: no probabilities */
    double ece_error;                         /* standard error of their difference */
    double auroc_old, auroc_new;              /* NAN: under GATE_AUROC_MIN texts */
    uint64_t auroc_items;
    double latency_ratio; /* NAN: not measured */
    uint32_t labels_tested;
    uint32_t losses_len; /* labels that lost significantly; the first GATE_LOSSES_MAX are listed, */
    struct gate_loss losses[GATE_LOSSES_MAX]; /* most lost net first, then by label */
};

/* 0, -ENOMEM; -EINVAL: a probability outside 0..1 (by more than 1e-6) or a latency below 0. */
int gate_judge(const struct gate_input *input, const struct gate_settings *settings,
               struct gate_verdict *ret_verdict);

#endif
