/* head_loo.c -- see head_loo.h. Ids are taken BLOCK at a time, so that memory does not grow with
 * them; what publishing derives is made once.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/head/head_internal.h"

enum { H = HEAD_SCORES, BLOCK = 256 };

static enum head_loo_state state_of(const struct head *h, uint32_t slot)
{
    const struct example *e;

    if (slot == SLOT_NONE)
        return HEAD_LOO_ABSENT;
    e = &h->examples[slot];
    if (h->settings.kind == HEAD_MULTI)
        return HEAD_LOO_SCORED;
    if (e->targets_len != 1)
        return HEAD_LOO_SOFT;
    return h->n[e->one.label] > e->weight + HEAD_GONE ? HEAD_LOO_SCORED : HEAD_LOO_LAST;
}

static void fill(const struct head *h, const struct derived *d, const struct loo *loo, uint32_t i,
                 double *p, struct head_loo_item *item)
{
    const double *ridge = loo->scores + (size_t)i * d->len * H;
    double highest = -INFINITY, other = -INFINITY;
    struct head_loo_row row;

    loo_judge(loo, d, i, h->coefficients, p, &row);
    *item = (struct head_loo_item){.state = HEAD_LOO_SCORED,
                                   .label = row.label,
                                   .predicted = row.predicted,
                                   .right = row.predicted == row.label,
                                   .p_label = row.p_label,
                                   .p_predicted = row.p_predicted,
                                   .p_squares = row.p_squares,
                                   .novelty_known = NAN,
                                   .novelty_unknown = NAN};
    for (uint32_t c = 0; c < d->len; c++) {
        highest = fmax(highest, ridge[(size_t)c * H]);
        if (c != loo->own[i])
            other = fmax(other, ridge[(size_t)c * H]);
    }
    if (h->novelties_len == 0)
        return;
    item->novelty_known = scores_novelty(h, highest, loo->near[i]);
    if (other > -INFINITY)
        item->novelty_unknown = scores_novelty(h, other, loo->other[i]);
}

static int single(const struct head *h, const struct derived *d, const uint32_t *slots,
                  uint32_t len, struct head_loo_item *items)
{
    double *p = malloc((d->len + 1) * sizeof *p);
    uint32_t scored[BLOCK], at[BLOCK], scored_len = 0;
    struct loo loo = {0};
    int rc;

    for (uint32_t i = 0; i < len; i++) {
        items[i] = (struct head_loo_item){.state = state_of(h, slots[i])};
        if (items[i].state != HEAD_LOO_SCORED)
            continue;
        at[scored_len] = i;
        scored[scored_len++] = slots[i];
    }
    rc = p != NULL ? loo_of(h, d, scored, scored_len, true, &loo) : -ENOMEM;
    for (uint32_t i = 0; i < scored_len && rc == 0; i++)
        fill(h, d, &loo, i, p, &items[at[i]]);
    loo_done(&loo);
    free(p);
    return rc;
}

static int score(const struct head *h, const struct head_id *ids, uint32_t len,
                 struct head_loo_item *items, uint8_t *decisions)
{
    bool multi = h->settings.kind == HEAD_MULTI;
    uint32_t slots[BLOCK];
    struct derived d;
    int rc;

    if (h->behind)
        return -EAGAIN;
    rc = derived_make(h, &d);
    if (rc != 0)
        return rc;
    for (uint32_t from = 0; from < len && rc == 0; from += BLOCK) {
        uint32_t rows = len - from < BLOCK ? len - from : BLOCK;

        for (uint32_t i = 0; i < rows; i++)
            slots[i] = examples_find(h, ids[from + i]);
        rc = multi ? multi_loo(h, &d, slots, rows, items + from,
                               decisions != NULL ? decisions + (size_t)from * h->labels_len : NULL)
                   : single(h, &d, slots, rows, items + from);
    }
    derived_done(&d);
    return rc;
}

int head_loo(const struct head *h, const struct head_id *ids, uint32_t len,
             struct head_loo_item *ret_items)
{
    return score(h, ids, len, ret_items, NULL);
}

int head_loo_sets(const struct head *h, const struct head_id *ids, uint32_t len,
                  struct head_loo_item *ret_items, uint8_t *ret_decisions)
{
    if (h->settings.kind != HEAD_MULTI)
        return -EINVAL;
    return score(h, ids, len, ret_items, ret_decisions);
}
