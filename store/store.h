/* store.h -- what survives: models, labels, the journal of events and its fold, head snapshots.
 *
 * One SQLite database (WAL, synchronous=FULL) and the folders heads/ and encoders/ in one state
 * folder, locked against a second daemon. The journal (table event) is the truth; example, vote and
 * counts are its fold, kept in the same transaction.
 *
 * Threads: a struct store is one connection and belongs to one thread at a time. One writer (the
 * keeper) and any number of readers, each with its own connection. Strings are UTF-8 with their
 * length in bytes where they may hold NUL (texts), NUL-terminated otherwise (names). Never: a clock
 * (times are arguments), a log, JSON (settings are opaque text), a tensor (blobs and hashes).
 *
 * Errors: 0 or -errno. -ENOSPC disk full, -EROFS read-only, -EBUSY another daemon holds the folder,
 * -EIO, -ENOMEM, -EUCLEAN the database is damaged or newer than this program, -ENOENT no such row,
 * -EEXIST it is there already. store_why() says in words what happened last. After a failed write
 * inside a transaction the caller rolls back: nothing of it is kept. A callback may not call the
 * store it is called from, except store_label_name, store_label_final, store_alias_of and
 * store_word_scan.
 */
#ifndef LEARND_STORE_H
#define LEARND_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct store;

enum {
    STORE_NAME_BYTES_MAX = 128, /* model, label, annotator, source, idempotency key: without NUL */
    STORE_ID_BYTES = 16,
    STORE_HASH_BYTES = 32,
    STORE_HASH_CHARS = 65, /* in hex, and NUL */
};

enum store_mode { STORE_WRITER, STORE_READER };

/* Creates the folder (with those above it) and the database if needed (writer), takes the lock,
 * migrates. A reader needs an existing database; -ESTALE: of this version. */
int store_open(const char *folder, enum store_mode mode, char *why, size_t why_bytes,
               struct store **ret_store);
void store_close(struct store *store);
/* Moves as long as a statement of such a connection gets on, of whatever is in this process: a
 * migration too, which has no connection to ask yet. Any thread. */
uint64_t store_work(enum store_mode mode);
const char *store_why(const struct store *store);

/* Writers: BEGIN IMMEDIATE .. COMMIT; a commit returns after fsync. Readers: one consistent
 * snapshot. */
int store_begin(struct store *store);
int store_commit(struct store *store);
int store_rollback(struct store *store);
/* Points inside a transaction, so that one bad item does not sink its neighbours. Not nested.
 * Undoing to one: -ECANCELED, a fault (disk full, no memory) has ended the whole transaction
 * already; store_why() still tells the fault. */
int store_mark(struct store *store);
int store_unmark(struct store *store, bool keep);
/* A real write and fsync: is the journal writable now? For readiness. Writer only, outside a
 * transaction. */
int store_probe(struct store *store);
/* Moves the WAL into the database and truncates it. */
int store_checkpoint(struct store *store);
/* PRAGMA integrity_check; 0 or -EUCLEAN. */
int store_integrity(struct store *store);

/* ---- models; labels: store_labels.h ---------------------------------------------------------- */

struct store_model {
    int64_t id;
    char name[STORE_NAME_BYTES_MAX + 1];
    char kind[16];      /* "single", "multi" */
    char *settings;     /* opaque; owned by the row in scans, borrowed by the caller */
    int64_t created_us; /* Unix time, microseconds */
    int64_t seq;        /* last event of this model, 0 without any */
    int64_t examples;   /* with a target */
    int64_t labels;     /* active */
    int64_t encoder;    /* that serves it, since live_us */
    int64_t live_us;
};

typedef int
store_model_fn(void *ud,
               const struct store_model *row); /* non-zero stops the scan and is returned */

/* -EEXIST if the name is taken. */
int store_model_add(struct store *store, const char *name, const char *kind, const char *settings,
                    int64_t now_us, int64_t *ret_id);
/* -ENOENT. Removes the model with all that hangs on it, and its snapshot files. */
int store_model_remove(struct store *store, int64_t model);
int store_model_settings(struct store *store, int64_t model, const char *settings);
int store_model_scan(struct store *store, store_model_fn *fn, void *ud);

/* ---- teaching -------------------------------------------------------------------------------- */

enum store_op {
    STORE_LABEL,  /* this annotator says: label. Replaces the annotator's earlier vote on this text
                   */
    STORE_REJECT, /* this annotator says: not label. Counts against votes for it */
    STORE_WITHDRAW, /* takes back the annotator's vote; every vote if annotator is "" */
    STORE_DELETE,   /* forgets the example and its text */
};

struct store_feedback {
    int64_t model;
    enum store_op op;
    const char *text; /* LABEL, REJECT; for the others example names it */
    size_t text_bytes;
    const char *pair; /* NULL: none */
    size_t pair_bytes;
    const uint16_t *vector; /* fp16, instead of a text; NULL: none */
    size_t vector_bytes;
    uint8_t example[STORE_ID_BYTES];
    const char *label;         /* LABEL, REJECT */
    const char *const *labels; /* (labels_len) kind multi: several or none; NULL: label */
    uint32_t labels_len;
    bool create_label; /* an unknown label is created (LABEL only); else -ENOENT with *ret_field =
                          "label" */
    double weight;     /* > 0, finite */
    const char *annotator;               /* "" if not given */
    const char *source;                  /* "" */
    const char *idempotency_key;         /* NULL: none; unique per model */
    uint8_t body_hash[STORE_HASH_BYTES]; /* of the item as sent, to tell a repeat from a clash */
    int64_t request_encoder;             /* version that answered, -1 unknown */
    int64_t request_seq;
    int64_t now_us;
};

struct store_receipt {
    uint8_t example[STORE_ID_BYTES];
    int64_t seq;
    bool duplicate; /* the key was seen with the same body: nothing was written, this is the first
                       answer */
    bool label_created;
};

/* The id of a text, or of a vector's bytes, in a model: 8 bytes of SHA-256 over the text, then 8
 * over the model's name and the text. It does not depend on arrival, and the order of examples not
 * on the model's name. */
void store_example_id(const char *model_name, const char *text, size_t text_bytes, const char *pair,
                      size_t pair_bytes, uint8_t ret_id[STORE_ID_BYTES]);
void store_sha256(const void *bytes, size_t bytes_len, uint8_t ret_hash[STORE_HASH_BYTES]);
/* Of the first bytes of an open file. 0 or -errno. */
int store_sha256_file(int fd, size_t bytes, uint8_t ret_hash[STORE_HASH_BYTES]);
/* 64 lower-case digits. */
void store_hash_hex(const uint8_t hash[STORE_HASH_BYTES], char ret_hex[STORE_HASH_CHARS]);

/* Writes one event and folds it, inside the caller's transaction. -EEXIST: the key exists with
 * another body. -ENOENT: no such model, label (creation off), example, or vote to withdraw;
 * *ret_field says which ("model", "label", "labels", "example", "annotator"). -EIDRM: the label is
 * retired; then only a REJECT is taken. */
int store_feedback_put(struct store *store, const struct store_feedback *feedback,
                       struct store_receipt *ret_receipt, const char **ret_field);

/* ---- reading the journal and its fold: store_read.h ---- */

/* ---- head snapshots -------------------------------------------------------------------------- */

/* Writes heads/<model>-<encoder>-<seq>.head (temp, fsync, rename, fsync folder). Any thread, no
 * connection: a pure file act; the row follows by store_snapshot_add on the writer. ret_sha256 is
 * of the image. */
int store_snapshot_write(const char *folder, int64_t model, int64_t encoder, int64_t seq,
                         const void *image, size_t image_bytes, char *why, size_t why_bytes,
                         uint8_t ret_sha256[STORE_HASH_BYTES]);
/* Names the file as the newest and removes older ones of the same model and encoder, keeping two.
 * One from before the model's last erasure is removed instead. In its own transaction. */
int store_snapshot_add(struct store *store, int64_t model, int64_t encoder, int64_t seq,
                       const uint8_t sha256[STORE_HASH_BYTES]);
/* The newest snapshot of (model, encoder) whose file is there and whose hash is right: malloc'd
 * image, the caller frees. -ENOENT: none. A damaged newest one is passed over for the one before.
 */
int store_snapshot_read(struct store *store, int64_t model, int64_t encoder, int64_t *ret_seq,
                        void **ret_image, size_t *ret_image_bytes);

/* ---- encoder identity ------------------------------------------------------------------------ */

/* The base's, as it was claimed. 0; -ENOENT: nobody has yet. */
int store_encoder_base(struct store *store, uint8_t ret_sha256[STORE_HASH_BYTES]);
/* The base encoder has this SHA-256 (of its weights file): number 0, also the first time.
 * -EUCLEAN if the state folder was taught with another one. */
int store_encoder_claim(struct store *store, const uint8_t sha256[STORE_HASH_BYTES], int64_t now_us,
                        int64_t *ret_encoder);

#include "store/store_keys.h"
#include "store/store_labels.h"
#include "store/store_read.h"
#include "store/store_runs.h"

#endif
