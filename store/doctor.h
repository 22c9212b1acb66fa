/* doctor.h -- is a state folder sound? What is looked at, and what may be put right.
 *
 * Examining only reads: it can be done beside a running daemon, in one read transaction (an erasure
 * waits as long to be scrubbed). A daemon at work moves files about; what is found of them is
 * looked at again before it is told.
 *
 * Any thread; blocks for as long as reading everything takes.
 */
#ifndef LEARND_DOCTOR_H
#define LEARND_DOCTOR_H

#include "store/store.h"

struct store_finding {
    const char *code;   /* a stable word; the list is in doctor.c */
    bool error;         /* else a warning: nothing is lost or wrong yet */
    bool repairable;    /* store_repair puts it right */
    const char *advice; /* what to do */
    char what[400];     /* which one, in words; never a text that was taught */
};
typedef void store_finding_fn(void *ud, const struct store_finding *finding);

/* 0: everything was looked at, and fn was told what is wrong. Else it cannot be checked, with why:
 * -ENOENT there is no state, -EUCLEAN the database is of another version, -EACCES .. *ret_held: a
 * daemon has the folder. */
int store_examine(const char *folder, store_finding_fn *fn, void *ud, bool *ret_held, char *why,
                  size_t why_bytes);

struct store_repairs {
    uint64_t images;  /* rows of images that were missing or damaged: made anew from the journal */
    uint64_t orphans; /* files that no row promises */
    uint64_t modes;   /* folders that others could read */
};
/* All images of a model with an encoder. */
struct store_image_name {
    int64_t model, encoder;
};
/* What needs no judgement: nothing that the journal does not hold again is touched. bad:
 * images that hold something else than the journal says; they go, too. -EBUSY: a daemon has the
 * folder. */
int store_repair(const char *folder, const struct store_image_name *bad, uint32_t bad_len,
                 char *why, size_t why_bytes, struct store_repairs *ret_repairs);

/* ---- looking for bytes ----------------------------------------------------------------------- */

struct store_needle {
    const void *bytes;
    size_t len;       /* at least 1 */
    const char *name; /* of the form that is looked for */
    bool images_only; /* an id, which the journal may hold */
};
/* One call for each needle and file in which it is found: database pages, free ones too, its log,
 * images, weights. Non-zero stops and is returned. */
typedef int store_trace_fn(void *ud, const char *path, const struct store_needle *needle,
                           uint64_t offset);
int store_trace(const char *folder, const struct store_needle *needles, uint32_t needles_len,
                store_trace_fn *fn, void *ud, uint64_t *ret_files, uint64_t *ret_bytes);

#endif
