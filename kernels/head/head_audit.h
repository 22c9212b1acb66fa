/* head_audit.h -- wrong labels: which stored ones look wrong, and counting those less. Part of
 * head.h, which brings it along; the meaning stands in audit.c.
 */
#ifndef LEARND_HEAD_AUDIT_H
#define LEARND_HEAD_AUDIT_H

#include "kernels/head/head.h"

/* An example whose own leave-one-out score prefers another label. */
struct head_suspect {
    struct head_id id;
    uint32_t label, other; /* as taught; as the rest would have it */
    double margin;         /* of other over label; above HEAD_SUSPECT_MARGIN */
};
#define HEAD_SUSPECT_MARGIN 0.2
#define HEAD_SUSPECT_WEIGHT 0.25 /* factor on the weight of a distrusted example */
/* Weight that its label must have beside it. On clean BANKING77 with 5 examples a label 9 % would
 * be suspects, with 10 5 %. */
#define HEAD_SUSPECT_OTHERS 9
#define HEAD_SUSPECT_SHARE                                                                         \
    0.06 /* of those examined: up to it suspects are listed, above it distrusted */
#define HEAD_SUSPECT_SET 50 /* examined examples without which nobody is distrusted */

/* Two examples of one embedding and different labels. */
struct head_twin {
    struct head_id id, other; /* id is the smallest of that embedding */
    uint32_t label, other_label;
};

/* A pass over the present set, in steps of about 0.3 GFLOP at M = 1024, on a copy of the state: the
 * head may change meanwhile. 0, -ENOMEM. */
struct head_audit;
int head_audit_open(const struct head *head, struct head_audit **ret_audit);
void head_audit_close(struct head_audit *audit); /* NULL is fine */
/* 0; -ENOMEM: close it. */
int head_audit_step(struct head_audit *audit, bool *ret_done);
/* Once done: the most doubtful first, borrowed; of how many that could be examined. */
const struct head_suspect *head_audit_suspects(const struct head_audit *audit, uint32_t *ret_len,
                                               uint32_t *ret_examined);
/* Are there so many suspects that they harm? On clean data distrust would cost 1 to 2 points of
 * ECE. */
bool head_audit_acts(const struct head_audit *audit);
const struct head_twin *head_audit_twins(const struct head_audit *audit, uint32_t *ret_len);
/* These examples count HEAD_SUSPECT_WEIGHT of their weight, stay out of the neighbour table and the
 * fit; all others count in full. Unknown ids are passed over. A change of an example ends its
 * distrust. 0, -ENOMEM. */
int head_distrust(struct head *head, const struct head_id *ids, uint32_t ids_len);
uint64_t head_distrusted_len(const struct head *head);

#endif
