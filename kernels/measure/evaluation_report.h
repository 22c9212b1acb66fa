/* evaluation_report.h -- what an evaluation says: plain numbers, ready to print. See evaluation.h.
 *
 * Shares and means are 0..1 unless said otherwise, and NAN where nothing was counted (print null).
 * Columns are the head's; the caller knows their names, and leaves out those that are retired. A
 * seq of INT64_MIN: there is none yet.
 */
#ifndef LEARND_EVALUATION_REPORT_H
#define LEARND_EVALUATION_REPORT_H

#include <stdbool.h>
#include <stdint.h>

enum {
    EVALUATION_BINS = 15,         /* of top probability, (k/15, (k+1)/15]; 0 is in the first */
    EVALUATION_CURVE = 100,       /* thresholds of the risk-coverage curve */
    EVALUATION_WINDOW = 500,      /* rows */
    EVALUATION_ANNOTATORS_MAX = 256, /* told apart by name, first come; the rest are the others */
    EVALUATION_NAME_BYTES = 129,  /* with the NUL */
};

#define EVALUATION_NONE UINT32_MAX

struct evaluation_bin {
    uint64_t rows, right;
    double confidence, accuracy; /* means */
};

/* Answering only the rows with a top probability above `threshold` (the lower edge of a bin of
 * 1/100): which share of rows that is, and which share of those is wrong. */
struct evaluation_point {
    double threshold, coverage, risk;
};

/* One way of choosing rows: all, or those of known labels. */
struct evaluation_part {
    uint64_t rows, right;
    double accuracy, accuracy_low, accuracy_high; /* of all rows; 95 % Wilson interval */
    double accuracy_fading; /* sum of EVALUATION_FADE^age over right rows / over rows. Batch: NAN */
    double accuracy_window; /* of this part's last EVALUATION_WINDOW rows. Batch: NAN */
    double macro_f1;        /* mean F1 of the labels that were taught or predicted in these rows */
    double ece;   /* sum of rows/N |confidence - accuracy| over the bins (Naeini et al. 2015) */
    double brier; /* mean of sum_c (p_c - t_c)^2, 0..2 */
    double nll;   /* mean of -ln max(p of the taught label, EVALUATION_P_MIN), nats */
    double aurc;  /* area under the risk-coverage curve, trapezoids (Geifman, El-Yaniv 2017) */
    struct evaluation_bin bins[EVALUATION_BINS];
    uint32_t curve_len;
    struct evaluation_point curve[EVALUATION_CURVE]; /* from the surest down to everything */
};

struct evaluation_label {
    uint64_t taught, known; /* rows that taught it; of them after it had an example */
    uint64_t right, predicted;
    double precision, recall, f1; /* over all rows */
    double recall_known;
    /* The rest: zero, NAN and false in a batch. Recall over known rows, fading by
     * EVALUATION_LABEL_FADE a row. */
    double recall_fading, best; /* now; the highest so far, NAN before EVALUATION_BEST_WEIGHT */
    double forgetting;          /* best - now, >= 0; NAN like best. A few points mean nothing */
    bool forgotten;             /* it does mean something: four standard errors */
    int64_t best_seq, first_seq, last_seq;
    uint32_t best_labels_known; /* at the best: more labels alone lower recall (LEARNING.md 5) */
};

struct evaluation_annotator {
    const char *name;       /* inside the report; "" for those without a name and for the others */
    uint64_t rows, known, agreed; /* agreed: the model had guessed what this person then taught */
    double agreement, agreement_known, agreement_fading;
    int64_t last_seq;
};

struct evaluation_confusion {
    uint32_t truth, predicted;
    uint64_t rows, error; /* the true count is in [rows - error, rows] */
};

/* Rates over answered rows or questions. */
struct evaluation_rates {
    uint64_t rows, novel, abstained;
    double novel_total, novel_window, abstained_total, abstained_window;
};

struct evaluation_report {
    bool ordered;         /* prequential; false: a batch */
    int64_t first_seq, last_seq;
    uint64_t unanswered;  /* rows without any guess: no label had an example. They count as wrong */
    double chance;        /* mean of 1/labels known: what guessing would get */
    uint32_t labels_known;/* at the last row */
    struct evaluation_part all, known;
    struct evaluation_rates taught, asked; /* corrections; questions */
    double forgetting;        /* mean over the labels that have a best */
    uint32_t forgotten;       /* labels */
    uint32_t labels_len, annotators_len, pairs_len;
    struct evaluation_label *labels;         /* by column */
    struct evaluation_annotator *annotators; /* by name; people only */
    struct evaluation_annotator others, unnamed;
    struct evaluation_confusion *pairs;      /* most frequent first, then by column */
};

void evaluation_report_free(struct evaluation_report *report);

/* 95 % Wilson score interval of `right` in `rows`; [0, 1] for no rows. */
void evaluation_wilson(uint64_t right, uint64_t rows, double *ret_low, double *ret_high);

#endif
