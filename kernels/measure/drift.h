/* drift.h -- whether the world of a model has moved: what moved, since when. Arithmetic over rows
 * that the caller brings.
 *
 * Corrections (drift_teach) feed three tests and a watch, questions (drift_ask) two more:
 *   ERROR_ADWIN     the prequential error rose: adaptive window (Bifet and Gavalda, SDM 2007)
 *   ERROR_PH        the prequential error rose: Page-Hinkley (Page 1954, Hinkley 1971), quicker on
 *                   steps, blind to slow rises
 *   TAUGHT_MIX      shares of the taught labels moved: chi-square of each window against the past
 *   TAUGHT_NEW      labels nobody had taught before came in. News, not an alarm
 *   ASKED_MIX       as TAUGHT_MIX, of the predicted labels of questions
 *   ASKED_FEATURES  the mean embedding of questions moved: Hotelling's T^2 on random projections
 * A rise of the error alarms, a fall does not: it only makes the detectors forget the worse past. A
 * burst of new labels raises the error without anything having moved; such an event says new_labels
 * = true, and deserves no more than a note. False alarms on stationary streams and delays:
 * tests/bench/bench_drift.c measures them; the tests' levels are in the .c files.
 *
 * A mark is the caller's time, never falling: the seq of a correction, a clock reading or number of
 * a question. Memory: 0.4 MB at dim 384, and 64 bytes a label. Never: a clock, a thread, a log, a
 * file. One owner at a time.
 */
#ifndef LEARND_DRIFT_H
#define LEARND_DRIFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum drift_kind {
    DRIFT_ERROR_ADWIN,
    DRIFT_ERROR_PH,
    DRIFT_TAUGHT_MIX,
    DRIFT_TAUGHT_NEW,
    DRIFT_ASKED_MIX,
    DRIFT_ASKED_FEATURES,
    DRIFT_KINDS,
};

enum {
    DRIFT_LABELS_MAX = 1 << 16,
    DRIFT_DIM_MAX = 8192,
    DRIFT_MOVED_MAX = 8,  /* labels named by an event */
    DRIFT_EVENTS_MAX = 4, /* of one row */
};

#define DRIFT_NONE UINT32_MAX

struct drift_settings {
    uint32_t dim;      /* of an embedding, 0 .. DRIFT_DIM_MAX; 0: no ASKED_FEATURES */
    uint64_t seed;     /* of the projection */
    double error_level;/* ADWIN's delta, 0..1 */
    double ph_slack;   /* Page-Hinkley: standard deviations of rise that are tolerated, > 0 */
    double ph_limit;   /* and the sum of standard deviations beyond them that alarms, > 0 */
    /* Chance of any false alarm in a life without drift, 0..1: each of the mixes; the features. */
    double mix_level, features_level;
};
/* With dim and seed to be filled in. The errors: no false alarm on 2,800 stationary streams of
 * 10,000 rows (bench_drift). The mixes and the features: a level of .001 each, which they keep
 * to. */
extern const struct drift_settings drift_settings_default;

struct drift;

struct drift_moved {
    uint32_t label;     /* column */
    uint64_t rows;      /* since */
    double from, to;    /* before (NAN: it is new), since. ERROR: its error rates. Else: shares */
};

struct drift_event {
    enum drift_kind kind;
    bool new_labels;    /* ERROR only: but for labels hardly taught before, it has not risen */
    /* Mark of the first row after the change, as estimated: ADWIN to the width of a bucket (a sixth
     * or less of what came since), mixes and features to their window of 500 or 512 rows. */
    int64_t since;
    int64_t at;         /* mark of the row that showed it */
    uint64_t rows_before, rows_since; /* that were compared */
    /* ERROR: rates. MIX, NEW: shares of the first moved label. FEATURES: 0, distance of means. */
    double from, to;
    double chance;      /* of this or more without drift, as the test computes it; ERROR_PH: NAN */
    uint32_t moved_len;
    struct drift_moved moved[DRIFT_MOVED_MAX]; /* what moved most first. FEATURES: none */
};

/* 0, -EINVAL (a setting out of range), -ENOMEM. */
int drift_open(const struct drift_settings *settings, struct drift **ret_drift);
void drift_close(struct drift *drift);

/* New columns behind the old ones; never fewer. 0, -ENOMEM, -E2BIG. */
int drift_labels_grow(struct drift *drift, uint32_t labels_len);

/* One correction, scored before it was learned; wrong: the model had said something else. 0, and
 * *ret_len events; -EALREADY: mark is not above the last one, nothing changes; -EINVAL: no such
 * column. */
int drift_teach(struct drift *drift, int64_t mark, uint32_t label, bool wrong,
                struct drift_event ret_events[DRIFT_EVENTS_MAX], uint32_t *ret_len);

/* One question: its embedding (dim), or NULL, and the column of the answer, or DRIFT_NONE. 0,
 * -EINVAL (no such column, a mark below the last one, an embedding that is not finite). */
int drift_ask(struct drift *drift, int64_t mark, const float *embedding, uint32_t predicted,
              struct drift_event ret_events[DRIFT_EVENTS_MAX], uint32_t *ret_len);

/* Embeddings are of another kind from now on: ASKED_FEATURES finds out anew what is normal. */
void drift_features_anew(struct drift *drift);
/* Mark of the last question; INT64_MIN before the first. */
int64_t drift_asked_mark(const struct drift *drift);

/* What a detector thinks now. */
struct drift_state {
    uint64_t rows;    /* seen, over all its life */
    uint64_t fired;   /* events, over all its life; of them with new_labels: */
    uint64_t fired_new_labels;
    /* ADWIN: rows it holds for alike. PH: since it began anew. Others: rows of the past. */
    uint64_t window;
    /* ADWIN: error in its window. PH: the sum, against ph_limit. Others: chance of the last window.
     * NAN: none yet. */
    double now;
    struct drift_event last; /* if fired > 0 */
};
/* By value: for the caller to keep or print. */
struct drift_report {
    struct drift_state kinds[DRIFT_KINDS];
    uint64_t error_falls; /* ADWIN: times the error fell and the worse past was forgotten */
};
void drift_read(const struct drift *drift, struct drift_report *ret_report);
const char *drift_kind_name(enum drift_kind kind); /* "error_adwin", "taught_mix", .. */

/* The portable image: little endian, versioned, with the settings. */
size_t drift_image_bytes(const struct drift *drift);
void drift_image_write(const struct drift *drift, void *image);
/* 0, -EINVAL (not an image, another version, other settings, contradicting counts), -ENOMEM. */
int drift_image_read(const struct drift_settings *settings, const void *image, size_t image_bytes,
                     struct drift **ret_drift);

#endif
