/* detectors.h -- the single tests behind drift.h. Private to kernels/measure and its tests. Each
 * struct starts as zero bytes unless it has an init, and holds everything between two rows.
 */
#ifndef LEARND_DETECTORS_H
#define LEARND_DETECTORS_H

#include "kernels/measure/packing.h"

/* ---- ADWIN over rows that are right or wrong ------------------------------------------------- */

enum {
    ADWIN_ORDERS = 32, /* bucket sizes 2^0 .. 2^31 rows */
    ADWIN_BUCKETS = 5, /* of one size; a sixth joins the two oldest */
    ADWIN_CLOCK = 8,   /* rows between two looks for a cut */
};

struct adwin_bucket {
    uint64_t wrong;
    int64_t first; /* mark of its first row */
};

struct adwin {
    uint64_t rows, wrong;
    uint32_t orders_len, since_look;
    uint8_t len[ADWIN_ORDERS];
    struct adwin_bucket buckets[ADWIN_ORDERS][ADWIN_BUCKETS + 1]; /* oldest first */
};

struct adwin_cut {
    uint64_t rows_before, wrong_before, rows_since, wrong_since;
    int64_t since;
};

/* Did the window shrink? Then *ret_cut says how its two parts differed; where it was cut more than
 * once, the first cut's past and the last cut's present. */
bool adwin_add(struct adwin *a, double delta, bool wrong, int64_t mark, struct adwin_cut *ret_cut);
/* The difference of means that a cut of n0 + n1 rows with `wrong` errors must pass. */
double adwin_epsilon(double delta, uint64_t n0, uint64_t n1, uint64_t wrong);
void adwin_pack(const struct adwin *a, struct pack *p);
void adwin_unpack(struct adwin *a, struct unpack *u);

/* ---- Page-Hinkley over rows that are right or wrong ------------------------------------------ */

enum { PH_ROWS_MIN = 30 }; /* before them the mean means nothing */

struct page_hinkley {
    uint64_t rows, wrong;
    double sum;  /* of (x - mean)/deviation - slack; never below 0, where it starts anew */
    int64_t since; /* mark of the first row after the sum was last 0 */
    uint64_t rows_before, wrong_before; /* when it was */
};

/* Does the sum pass the limit? The caller then reads the fields and starts anew with zero bytes. */
bool page_hinkley_add(struct page_hinkley *ph, double slack, double limit, bool wrong,
                      int64_t mark);
void page_hinkley_pack(const struct page_hinkley *ph, struct pack *p);
void page_hinkley_unpack(struct page_hinkley *ph, struct unpack *u);

/* ---- shares of labels: windows against the past ---------------------------------------------- */

enum { MIX_WINDOW = 500, MIX_EXPECTED_MIN = 5 };

struct mix_label {
    uint64_t past;
    uint32_t window;
    bool seen; /* ever */
};

struct mix {
    uint64_t past;   /* rows before this window */
    uint32_t window; /* rows in it */
    uint32_t looks;  /* windows tested since the past began */
    int64_t window_first;
};

/* Counts a row; true: the window is full, and mix_look is due. */
bool mix_add(struct mix *m, struct mix_label *labels, uint32_t label, int64_t mark);

struct mix_result {
    bool tested, moved;
    double chance;
    uint64_t rows_before, rows_since; /* without the new labels */
    uint32_t new_rows;                /* of labels never seen before this window */
};
/* Tests the full window: chi-square of window against past over the labels seen before. Changes
 * nothing. */
struct mix_result mix_look(const struct mix *m, const struct mix_label *labels,
                           uint32_t labels_len, double level);
/* Makes the window part of the past, or (moved) the past. */
void mix_turn(struct mix *m, struct mix_label *labels, uint32_t labels_len, bool moved);

/* ---- mean of embeddings ---------------------------------------------------------------------- */

enum {
    SHIFT_DIM = 128,        /* projected dimensions D, or fewer where the embedding has fewer */
    SHIFT_WINDOW = 512,     /* rows of the recent window */
    SHIFT_LONG = 4,         /* windows of the long one, which sees what is too small for one */
    SHIFT_REFERENCE = 2048, /* rows that say what is normal: 16 for each dimension */
};

struct shift {
    uint32_t dim, D;
    float *projection; /* (dim,D), drawn from the seed, not in the image; NULL where D == dim */
    uint64_t reference;/* rows in it, up to SHIFT_REFERENCE; testing begins when it is full */
    double mean[SHIFT_DIM];  /* sum while filling, then the mean */
    double *moment; /* (D,D) lower: sum of outer products, then the covariance's Cholesky factor */
    double trace;            /* of the covariance, once the reference is full */
    uint32_t window, windows;/* rows in the recent one; whole ones before it, each one look */
    /* Ring of windows, the recent one at windows mod SHIFT_LONG. */
    int64_t first[SHIFT_LONG]; /* marks */
    double sums[SHIFT_LONG][SHIFT_DIM];
};

struct shift_result {
    bool tested, moved;
    double chance, distance;
    uint64_t rows_since;
    int64_t since;
};

/* 0, -ENOMEM. dim > 0. */
int shift_init(struct shift *s, uint32_t dim, uint64_t seed);
void shift_done(struct shift *s);
/* 0, -EINVAL (not finite; nothing changes). After `moved` the reference starts anew. */
int shift_add(struct shift *s, double level, const float *embedding, int64_t mark,
              struct shift_result *ret_result);
/* Forgets the reference and the windows. */
void shift_anew(struct shift *s);
void shift_pack(const struct shift *s, struct pack *p);
void shift_unpack(struct shift *s, struct unpack *u);

#endif
