/* ctl_eval.h -- what `learnctl eval` found, and its three forms. Private to the ctl_eval files.
 *
 * The numbers are kernels/measure's, as in GET /v1/models/{m}/evaluation; this part only asks the
 * daemon, counts and shows.
 */
#ifndef LEARND_CTL_EVAL_H
#define LEARND_CTL_EVAL_H

#include "daemon/ctl/ctl.h"
#include "daemon/ctl/ctl_names.h"
#include "kernels/measure/evaluation_sets.h"
#include "proto/api.h"
#include "proto/api_buffer.h"

enum {
    CTL_EVAL_ROWS = 20,        /* of the lists of labels and pairs, without --limit */
    CTL_EVAL_PAIRS_MAX = 1000, /* confusions that are read */
};

struct ctl_eval {
    const char *file, *model;
    char version[API_VERSION_CHARS], version_last[API_VERSION_CHARS]; /* of first and last answer */
    uint64_t rows, rejected;
    struct ctl_names *names; /* of columns: the model's labels, then those of the file alone */
    uint32_t labels_known;   /* that have an example */
    bool *known;             /* (known_len) has this column an example? Beyond: no */
    uint32_t known_len;
    struct evaluation_report *single;    /* one of the two, by the model's kind */
    struct evaluation_sets_report *sets; /* */
};

/* One label's figures, whatever the kind. */
struct ctl_eval_label {
    uint32_t column;
    uint64_t rows, answered, right; /* taught so by the file; answered so */
    double precision, recall, f1;   /* NAN: no such row */
};
/* Labels of the file or of wrong answers, the worst F1 first, then the most rows. *ret_labels is
 * the caller's to free. 0, -ENOMEM. */
int ctl_eval_labels(const struct ctl_eval *eval, struct ctl_eval_label **ret_labels,
                    uint32_t *ret_len);
/* Is this column a label that the model could not have answered? */
bool ctl_eval_unknown(const struct ctl_eval *eval, uint32_t column);

enum ctl_exit ctl_eval_print(const struct ctl *ctl, const struct ctl_eval *eval);
enum ctl_exit ctl_eval_print_json(const struct ctl_eval *eval);
/* One page that needs no other file; everything that came from outside is escaped. */
void ctl_eval_html(const struct ctl_eval *eval, struct api_buffer *page);

#endif
