/* erase.h -- forgetting for good: what a person taught or is named by, in two acts.
 *
 * store_erase takes it out of every table, inside the caller's transaction, with the keys and the
 * rows of the images that go with it. store_scrub, after the commit, takes what that leaves behind
 * out of the files: the write-ahead log, unnamed images, and copies in the slack of database pages
 * (secure_delete zeroes what is deleted, not what SQLite once moved to a neighbouring page). An
 * erasure is done when the scrub has returned 0, not before; one that was committed and not
 * scrubbed, because the process was killed in between, is scrubbed when the store is next opened.
 *
 * The journal keeps its events, which hold ids and no text; those of an erased annotator lose the
 * name and become "erased", so that nothing folds them again; that an example was deleted stays.
 *
 * Threads: the writer's.
 */
#ifndef LEARND_ERASE_H
#define LEARND_ERASE_H

#include "store/store.h"

/* Exactly one of text, annotator and example is set. */
struct store_erase {
    int64_t model;    /* 0: in every model */
    const char *text; /* every example that has it, alone or in a pair; with pair: just that pair */
    size_t text_bytes;
    const char *pair; /* NULL: none */
    size_t pair_bytes;
    const char *annotator;  /* the name and every vote; examples that nobody else taught go too */
    const uint8_t *example; /* (STORE_ID_BYTES) */
    const char *who;        /* asks for it: for the audit; "" unknown */
    int64_t now_us;
    /* Each example before it goes; may be NULL. text: borrowed for the call; the bytes of a vector
     * where there is no text. */
    void (*removed)(void *ud, int64_t model, const char *text, size_t text_bytes);
    void *ud;
};

/* The last event that was written for a model. */
struct store_erased_model {
    int64_t model, seq;
};

struct store_erased {
    uint64_t examples, votes;
    struct store_erased_model *models; /* (models_len) owned */
    uint32_t models_len;
};

/* 0, also when there was nothing to erase; or -errno, and the caller rolls back. The caller ends
 * *ret_erased with store_erased_done. */
int store_erase(struct store *store, const struct store_erase *erase,
                struct store_erased *ret_erased);
void store_erased_done(struct store_erased *erased);

/* Outside a transaction. 0: nothing of what was erased is left in the state folder. -EBUSY: a
 * reader still holds the log, call again; nothing waits here for longer than 200 ms. Any other
 * -errno: it is not done, and a later call (or the next start) begins again. */
int store_scrub(struct store *store);

#endif
