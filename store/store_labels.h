/* store_labels.h -- labels and what becomes of them. Part of the face of store.h, which includes
 * it.
 *
 * A label is a row that is never removed while its model lives, so its id (the column of the
 * learner's head) is stable. It is "active"; "retired": its votes are kept but teach nothing; or
 * "merged": its votes went to another label. A name that was a label's once goes on naming it: the
 * old name of a renamed label is an alias of it, the name of a merged one (with its aliases) means
 * the label it went into. All names of a model's labels are distinct.
 *
 * Each change is one event with the fold, in the caller's transaction, as store_feedback_put: on
 * failure nothing is kept once the caller rolls back. It moves the examples that it refolds to its
 * seq, and there the learner finds them (store_example_changed).
 */
#ifndef LEARND_STORE_LABELS_H
#define LEARND_STORE_LABELS_H

#include "store/store.h"

enum {
    STORE_PAYLOAD_BYTES_MAX = 4096, /* checked by the caller, who knows what a payload is */
    STORE_ALIASES_MAX = 100,        /* old names that renaming leaves to one label */
};

struct store_label {
    int64_t id; /* grows with creation: the order of columns */
    char name[STORE_NAME_BYTES_MAX + 1];
    char status[8];      /* "active", "retired", "merged" */
    int64_t into;        /* merged: the label it went into, merged itself perhaps since; else 0 */
    int64_t seq;         /* its last event */
    double score_min;    /* abstain below; negative: as the model does */
    const char *payload; /* opaque text, borrowed for the callback; NULL: none */
    int64_t examples;    /* whose strongest target it is; retired: that have a vote for it */
    int64_t created_us;
};
typedef int store_label_fn(void *ud, const struct store_label *row);

/* Appends an event "label_add". -EEXIST with *ret_id set, as by store_label_find, if the name is
 * taken. */
int store_label_add(struct store *store, int64_t model, const char *name, int64_t now_us,
                    int64_t *ret_id, int64_t *ret_seq);
/* The label that a name, an alias or the name of a merged label means today. -ENOENT. */
int store_label_find(struct store *store, int64_t model, const char *name, int64_t *ret_id);
/* The same, but a merged label is found as itself. */
int store_label_named(struct store *store, int64_t model, const char *name, int64_t *ret_id);
/* Where a label's votes are today: itself, or what it was merged into. -ENOENT. */
int store_label_final(struct store *store, int64_t label, int64_t *ret_id);
/* The name of a label. -ENOENT. */
int store_label_name(struct store *store, int64_t label, char ret_name[STORE_NAME_BYTES_MAX + 1]);
/* One label by its id. -ENOENT. */
int store_label_get(struct store *store, int64_t label, store_label_fn *fn, void *ud);
/* In id order, from ids greater than after; at most limit rows (0: all). */
int store_label_scan(struct store *store, int64_t model, int64_t after, uint32_t limit,
                     store_label_fn *fn, void *ud);
/* The same for the learner: all of them, examples not counted (0). */
int store_label_columns(struct store *store, int64_t model, int64_t after, store_label_fn *fn,
                        void *ud);
/* The largest seq of a model's labels: has any changed? 0 without labels. */
int store_label_seq(struct store *store, int64_t model, int64_t *ret_seq);

typedef int store_alias_fn(void *ud, const char *name, int64_t label);
/* Every old name of a model's labels with the label that had it. */
int store_alias_scan(struct store *store, int64_t model, store_alias_fn *fn, void *ud);
/* Every other name that means this label, by name: its old ones, and those, old and last, of what
 * was merged into it. */
int store_alias_of(struct store *store, int64_t label, store_alias_fn *fn, void *ud);

/* Changes of a label of this model. What is wrong with the call, with *ret_field "label" (the one
 * that is changed) or the argument's name ("name", "into", "to", "examples"):
 *   -ENOENT    an example is unknown to this model
 *   -ESTALE    the label was merged        -EIDRM     it is retired
 *   -EALREADY  retired already, or active already
 *   -EEXIST    the name is another label's -EMLINK    STORE_ALIASES_MAX old names already
 *   -ELOOP     into or to is the label itself
 *   -EDOM      an example without a vote for or against the label */
struct store_label_change {
    int64_t model, label, now_us;
};

/* "label_rename". An alias of its own is fine; its present name changes nothing, *ret_seq 0. */
int store_label_rename(struct store *store, const struct store_label_change *change,
                       const char *name, int64_t *ret_seq, const char **ret_field);
/* "label_retire", "label_restore": its examples lose and regain their votes for it. */
int store_label_retire(struct store *store, const struct store_label_change *change,
                       int64_t *ret_seq, const char **ret_field);
int store_label_restore(struct store *store, const struct store_label_change *change,
                        int64_t *ret_seq, const char **ret_field);
/* "label_set". payload NULL: none. */
int store_label_set(struct store *store, const struct store_label_change *change, double score_min,
                    const char *payload, int64_t *ret_seq, const char **ret_field);
/* "label_merge": every vote for or against the label becomes one for or against `into`. Where one
 * annotator has votes on both, the last word stands, as if both had been one label from the start.
 * (Not quite as if: who rejected one, chose the other and then a third keeps the rejection.) */
int store_label_merge(struct store *store, const struct store_label_change *change, int64_t into,
                      int64_t *ret_seq, const char **ret_field);
/* "label_split": the same for some examples only, none of them twice. -ENOENT, -EDOM: *ret_bad is
 * the first bad one's place. */
int store_label_split(struct store *store, const struct store_label_change *change, int64_t to,
                      const uint8_t (*examples)[STORE_ID_BYTES], uint32_t examples_len,
                      int64_t *ret_seq, const char **ret_field, uint32_t *ret_bad);

#endif
