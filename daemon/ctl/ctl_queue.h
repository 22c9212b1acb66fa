/* ctl_queue.h -- what an annotator goes through: the items of `next` or of `review`, one after the
 * other, a decision on each, and the way back. Without a terminal: annotate shows it.
 *
 * A decision is sent with an idempotency key of its own and sent again until it is answered, so a
 * connection that breaks, or a daemon that restarts, neither loses nor doubles one. An item that
 * the daemon has forgotten by its id (it restarted) is sent by its text.
 *
 * Undoing a decision deletes the example if nobody else has a vote on it; in a review it brings the
 * annotator's earlier vote back, or withdraws the one.
 */
#ifndef LEARND_CTL_QUEUE_H
#define LEARND_CTL_QUEUE_H

#include "daemon/ctl/ctl.h"
#include "proto/api_buffer.h"
#include "proto/json.h"

enum { CTL_CHOICES_MAX = 9 };

enum ctl_decision { CTL_UNDECIDED, CTL_LABELLED, CTL_REJECTED, CTL_SKIPPED };

/* Texts are the daemon's, not cleaned; NULL: none. */
struct ctl_item {
    const char *request, *example; /* one of them */
    const char *text, *pair;
    const char *label, *other; /* what the model says, or what was taught; review: or rather */
    const char *why;
    const struct json_value *votes;
    enum ctl_decision decision;
    bool agreed;   /* it was labelled as `label` says */
    char made[64]; /* the example that the decision is on */
    unsigned attempts;
};

struct ctl_choice {
    const char *name;
    double score; /* negative: not asked */
    bool chosen;  /* kind multi */
};

struct ctl_queue_counts {
    unsigned labelled, rejected, skipped, undone, refused, new_labels, agreed;
};

struct ctl_queue {
    struct ctl *ctl;
    bool review, multi;
    char **labels; /* (labels_len) active ones, as they were taught */
    size_t labels_len, labels_room;
    struct ctl_item *items; /* (len) */
    size_t len, room, at;
    struct json_value **pages; /* (pages_len) the items' texts are theirs */
    size_t pages_len;
    struct json_value *answer; /* the choices' names are its, or the item's */
    struct ctl_choice choices[CTL_CHOICES_MAX];
    unsigned choices_len;
    struct ctl_queue_counts counts;
    char session[20];
    struct api_buffer said; /* what came of the last step, clean, NUL-terminated; empty: nothing */
    bool failed;            /* the last step was refused */
    /* While the daemon is not there: waits, and says why. Non-zero gives up. */
    int (*pause)(void *ud, const char *why, int ms);
    void *ud;
};

/* ctl, pause and ud are filled in. All is said if it is not CTL_OK. */
enum ctl_exit ctl_queue_open(struct ctl_queue *queue);
void ctl_queue_close(struct ctl_queue *queue);

/* The item to decide on, with its choices; more are asked for when they end. CTL_OK with NULL: none
 * is left. CTL_FAILED: gave up waiting. */
enum ctl_exit ctl_queue_item(struct ctl_queue *queue, struct ctl_item **ret_item);

/* Decisions on it, and the way back to the last. CTL_OK; CTL_REFUSED: it stays, `said` says why;
 * CTL_FAILED: gave up waiting. create: the label may be a new one. */
enum ctl_exit ctl_queue_label(struct ctl_queue *queue, const char *const *labels, size_t labels_len,
                              bool create);
enum ctl_exit ctl_queue_reject(struct ctl_queue *queue);
void ctl_queue_skip(struct ctl_queue *queue);
enum ctl_exit ctl_queue_undo(struct ctl_queue *queue);

bool ctl_queue_has_label(const struct ctl_queue *queue, const char *name);
/* Sets `said`, cleaned. */
void ctl_queue_say(struct ctl_queue *queue, bool failed, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
