/* doctor_internal.h -- what the parts of the examination share. Private to store/. */
#ifndef LEARND_DOCTOR_INTERNAL_H
#define LEARND_DOCTOR_INTERNAL_H

#include "store/doctor.h"
#include "store/store_internal.h"

/* The codes of findings: name, is it an error, can it be repaired, what to do. */
#define DOCTOR_FINDINGS(X)                                                                         \
    X(DATABASE_DAMAGED, "database_damaged", true, false, "restore a backup: learnctl restore")     \
    X(FOREIGN_KEY, "foreign_key", true, false, "restore a backup: learnctl restore")               \
    X(FOLD_VOTES, "fold_votes", true, false,                                                       \
      "restore a backup; what stands now was not taught so")                                       \
    X(FOLD_EXAMPLE, "fold_example", true, false,                                                   \
      "restore a backup, or teach these examples again")                                           \
    X(FOLD_COUNTS, "fold_counts", true, false, "restore a backup: learnctl restore")               \
    X(LABEL_CYCLE, "label_cycle", true, false, "restore a backup: learnctl restore")               \
    X(LABEL_CLASH, "label_clash", true, false, "restore a backup, or rename the label")            \
    X(LIVE_ENCODER, "live_encoder", true, false, "learnctl rollback to an encoder that is held")   \
    X(ENCODER_MISSING, "encoder_missing", true, false,                                             \
      "restore a backup, or learnctl rollback to another encoder")                                 \
    X(ENCODER_DAMAGED, "encoder_damaged", true, false,                                             \
      "restore a backup, or learnctl rollback to another encoder")                                 \
    X(ENCODER_ORPHAN, "encoder_orphan", false, true,                                               \
      "learnctl doctor --repair, or the daemon's next start, removes it")                          \
    X(HEAD_MISSING, "head_missing", false, true,                                                   \
      "learnctl doctor --repair; the head is made anew from the journal")                          \
    X(HEAD_DAMAGED, "head_damaged", false, true,                                                   \
      "learnctl doctor --repair; the head is made anew from the journal")                          \
    X(HEAD_ORPHAN, "head_orphan", false, true,                                                     \
      "learnctl doctor --repair, or the daemon's next start, removes it")                          \
    X(RUN_IMAGE, "run_image", false, true, "learnctl doctor --repair; the run begins anew")        \
    X(RESTORE_REMAINS, "restore_remains", false, true, "learnctl doctor --repair removes them")    \
    X(STRANGE_FILE, "strange_file", false, false, "move it elsewhere: the folder is the daemon's") \
    X(PERMISSIONS, "permissions", false, true, "learnctl doctor --repair, or chmod o= on it")      \
    X(OWNER, "owner", false, false, "chown it to the owner of the folder")                         \
    X(DISK_LOW, "disk_low", false, false, "make room: an erasure writes the database anew")        \
    X(WAL_LARGE, "wal_large", false, false,                                                        \
      "stop what reads the database for long; a restart of the daemon empties it")                 \
    X(ERASURE_UNFINISHED, "erasure_unfinished", false, true,                                       \
      "start the daemon, or learnctl doctor --repair: it is finished then")

enum doctor_code {
#define X(symbol, code, error, repairable, advice) DOCTOR_##symbol,
    DOCTOR_FINDINGS(X)
#undef X
        DOCTOR_CODES
};

struct examination {
    struct store *store; /* a reader, in one transaction */
    const char *folder;
    store_finding_fn *fn;
    void *ud;
    bool held;
    uint64_t found;
};

void doctor_tell(struct examination *x, enum doctor_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* fold_check.c: votes, examples and counts against the journal. 0 or -errno. */
int doctor_fold(struct examination *x);
/* doctor_files.c: what lies in the folder against what the rows promise. 0 or -errno. */
int doctor_files(struct examination *x);
/* The disk, and who may read. 0 or -errno. */
int doctor_room(struct examination *x);

#endif
