/* ctl_verdict.h -- is an answer of /v1/classify a good one? For bench, which asks the same texts
 * again and again: what is not 200 is counted by its code, what is 200 must be an answer (a label
 * or none, a score in 0 .. 1, a version), and the same text and version must be answered the same.
 *
 * A version's answers are fixed once its model has settled. So the version that was settled when it
 * began must not differ; of later ones a difference is only counted.
 */
#ifndef LEARND_CTL_VERDICT_H
#define LEARND_CTL_VERDICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CTL_ERRORS_MAX = 32, CTL_CODE_BYTES = 48, CTL_VERSION_BYTES = 48 };

struct ctl_error_count {
    long status; /* 0: no answer came */
    char code[CTL_CODE_BYTES];
    uint64_t count;
};

struct ctl_verdict {
    struct ctl_error_count
        errors[CTL_ERRORS_MAX]; /* (errors_len) the last takes what has no room */
    unsigned errors_len;
    uint64_t refused, invalid, differ, differ_unsettled;
    char example[160]; /* of the first that is invalid or differs: what it was; "": none */
    char settled[CTL_VERSION_BYTES];
    struct seen_answer *seen; /* (texts_len, SEEN) */
    size_t texts_len;
};

struct ctl_verdict_answer {
    char version[CTL_VERSION_BYTES];
    double score;
};

/* settled: the version that must not differ, or "". 0, -ENOMEM. */
int ctl_verdict_open(struct ctl_verdict *v, size_t texts_len, const char *settled);
void ctl_verdict_close(struct ctl_verdict *v);
/* True, with *ret_answer: a good one. */
bool ctl_verdict_take(struct ctl_verdict *v, size_t text, long status, const char *body,
                      size_t body_len, struct ctl_verdict_answer *ret_answer);
/* There was no answer: a word for it. */
void ctl_verdict_none(struct ctl_verdict *v, const char *word);

#endif
