/* ctl_doctor.h -- the parts of the doctor. Private to it. */
#ifndef LEARND_CTL_DOCTOR_H
#define LEARND_CTL_DOCTOR_H

#include "daemon/ctl/ctl_state.h"
#include "store/doctor.h"

enum { DOCTOR_BAD_MAX = 1024 };

struct doctor {
    struct ctl *ctl;
    const char *folder;
    uint64_t errors, warnings;
    uint64_t models, examples, unembedded; /* that --deep compared; that could not be */
    uint64_t asked;                        /* texts that were put to the daemon */
    bool held;                             /* by a daemon */
    struct store_image_name bad[DOCTOR_BAD_MAX];
    uint32_t bad_len; /* images that do not hold what the journal says */
};

/* Shows one. */
void doctor_show(void *ud, const struct store_finding *finding);
/* ctl_doctor_deep.c: each model's newest image, brought up to date by the journal, against all its
 * examples, and its numbers against those made anew from them. 0 or -errno with why. */
int doctor_deep(struct doctor *d, char *why, size_t why_bytes);
/* ctl_doctor_live.c: a few texts of a model, put to the daemon if it can be reached. 0 or -errno.
 */
int doctor_live(struct doctor *d, struct store *store, const struct store_model *model);
/* ctl_trace.c: everything in which a text could stand, in every byte of the folder. CTL_REFUSED: it
 * does. */
enum ctl_exit ctl_trace(struct ctl *ctl, const char *text);

#endif
