/* trainer_gate.c -- the old pair against the new one, text by text, on what was held out.
 *
 * Both are twins on the trainer's thread with the same journal. Each head scores a held-out text
 * as if it had not learned it (head_loo.h); the encoder was never trained on it.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/learn/embed.h"
#include "daemon/learn/trainer_run.h"

enum { LATENCY_ROUNDS = 15, LATENCY_TEXTS = 16 };

struct gating {
    struct run *run;
    uint32_t len;
    struct head_id *ids;
    struct head_loo_item *old, *new;
    struct gate_item *items;
    uint8_t *decisions_old, *decisions_new; /* (len,L) multi */
    struct gate_decision *decisions;
    uint32_t decisions_len;
};

static void gating_done(struct gating *g)
{
    free(g->ids);
    free(g->old);
    free(g->new);
    free(g->items);
    free(g->decisions_old);
    free(g->decisions_new);
    free(g->decisions);
}

struct collecting {
    struct gating *g;
    uint32_t max;
    int64_t upto;
};

static int collect(void *ud, const struct store_example *row)
{
    struct collecting *c = ud;
    struct head_id id = touched_head_id(row->id);

    if (!plan_held_out(id.hi) || row->first_seq > c->upto)
        return 0;
    if (c->g->len == c->max) {
        uint32_t max = c->max * 2 + 256;
        struct head_id *bigger = realloc(c->g->ids, max * sizeof *bigger);

        if (bigger == NULL)
            return -ENOMEM;
        c->g->ids = bigger;
        c->max = max;
    }
    c->g->ids[c->g->len++] = id;
    return 0;
}

/* The held-out examples that both twins have learned. */
static int collect_ids(struct gating *g)
{
    const struct store_example_filter filter = {.status = "active"};
    const struct run *run = g->run;
    struct store *store = run->trainer->parts.learner.store;
    struct collecting c = {
        g, 0, run->old->applied < run->new->applied ? run->old->applied : run->new->applied};
    int rc = store_begin(store);

    if (rc != 0)
        return rc;
    rc = store_example_scan(store, run->model, &filter, -1, collect, &c);
    store_rollback(store);
    return rc;
}

static int allocate(struct gating *g, uint32_t labels)
{
    g->old = calloc(g->len + 1, sizeof *g->old);
    g->new = calloc(g->len + 1, sizeof *g->new);
    g->items = calloc(g->len + 1, sizeof *g->items);
    if (g->old == NULL || g->new == NULL || g->items == NULL)
        return -ENOMEM;
    if (!g->run->old->multi)
        return 0;
    g->decisions_old = calloc((size_t)g->len * labels + 1, 1);
    g->decisions_new = calloc((size_t)g->len * labels + 1, 1);
    g->decisions = calloc((size_t)g->len * labels + 1, sizeof *g->decisions);
    return g->decisions_old != NULL && g->decisions_new != NULL && g->decisions != NULL ? 0
                                                                                        : -ENOMEM;
}

static int score(struct gating *g, uint32_t labels)
{
    const struct run *run = g->run;
    int rc;

    if (!run->old->multi) {
        rc = head_loo(run->old->head, g->ids, g->len, g->old);
        return rc == 0 ? head_loo(run->new->head, g->ids, g->len, g->new) : rc;
    }
    rc = head_loo_sets(run->old->head, g->ids, g->len, g->old, g->decisions_old);
    if (rc == 0)
        rc = head_loo_sets(run->new->head, g->ids, g->len, g->new, g->decisions_new);
    for (uint32_t i = 0; i < g->len && rc == 0; i++)
        for (uint32_t l = 0; l < labels; l++) {
            uint8_t old = g->decisions_old[(size_t)i * labels + l],
                    new = g->decisions_new[(size_t)i * labels + l];

            if (old & HEAD_LOO_WANTED)
                g->decisions[g->decisions_len++] = (struct gate_decision){
                    l, (old & HEAD_LOO_CHOSEN) != 0, (new &HEAD_LOO_CHOSEN) != 0};
        }
    return rc;
}

static struct gate_side side_of(const struct head_loo_item *item)
{
    return (struct gate_side){.right = item->right,
                              .brier = 1 - 2 * item->p_label + item->p_squares,
                              .p_predicted = fmin(item->p_predicted, 1),
                              .novelty_known = item->novelty_known,
                              .novelty_unknown = item->novelty_unknown};
}

/* ---- latency --------------------------------------------------------------------------------- */

static int time_forward(struct run *run, struct held_encoder *held, int64_t *ret_us)
{
    static const char text[] = "where is my card, it should have come by now";
    struct tokenizer_input input = {text, sizeof text - 1, NULL, 0};
    struct work_item items[LATENCY_TEXTS];
    int32_t ids[64];
    uint8_t types[64];
    uint32_t len, max = held->tokens_max < 64 ? held->tokens_max : 64;
    float *embeddings = malloc((size_t)LATENCY_TEXTS * held->dim * sizeof *embeddings);
    int64_t started;
    int rc = embeddings != NULL
                 ? tokenizer_encode(held->tokenizer, &input, TOKENIZER_TRUNCATE_RIGHT, max, ids,
                                    types, &len, NULL)
                 : -ENOMEM;

    for (uint32_t i = 0; i < LATENCY_TEXTS && rc == 0; i++)
        items[i] = (struct work_item){.ids = ids,
                                      .types = types,
                                      .len = len,
                                      .embedding = embeddings + (size_t)i * held->dim};
    started = clock_us();
    if (rc == 0)
        rc = embed_texts(run->trainer->parts.learner.batcher, held, items, LATENCY_TEXTS);
    *ret_us = clock_us() - started;
    free(embeddings);
    return rc;
}

/* The quickest of some rounds by turns, so that what else the machine does meets both. Of one shape
 * the time is the same by construction, and noise would be all that is measured. */
static int time_both(struct run *run, struct gate_input *input)
{
    struct held_encoder *old = run->old->encoder, *new = run->new->encoder;
    const struct encoder_info *a = encoder_info(old->encoder), *b = encoder_info(new->encoder);
    int64_t best[2] = {INT64_MAX, INT64_MAX};

    if (a->dim == b->dim && a->layers == b->layers && a->ffn == b->ffn && a->heads == b->heads)
        return 0;
    for (int i = 0; i < 2 * LATENCY_ROUNDS; i++) {
        int64_t us;
        int rc = time_forward(run, i % 2 == 0 ? old : new, &us);

        if (rc != 0)
            return rc;
        if (us < best[i % 2])
            best[i % 2] = us;
    }
    input->old_latency = (double)best[0];
    input->new_latency = (double)best[1];
    return 0;
}

/* ---- verdict --------------------------------------------------------------------------------- */

static int judge(struct gating *g)
{
    struct run *run = g->run;
    struct gate_input input = {.items_len = 0};
    struct gate_settings settings;
    uint32_t labels = head_labels_len(run->old->head);
    int rc = collect_ids(g);

    if (labels > head_labels_len(run->new->head))
        labels = head_labels_len(run->new->head);
    if (rc == 0)
        rc = allocate(g, head_labels_len(run->old->head));
    if (rc == 0)
        rc = score(g, labels);
    if (rc == 0)
        rc = time_both(run, &input);
    if (rc != 0)
        return rc;
    input.items = g->items;
    for (uint32_t i = 0; i < g->len; i++)
        if (g->old[i].state == HEAD_LOO_SCORED && g->new[i].state == HEAD_LOO_SCORED)
            g->items[input.items_len++] =
                (struct gate_item){g->old[i].label, side_of(&g->old[i]), side_of(&g->new[i])};
    if (run->old->multi) {
        input.decisions = g->decisions;
        input.decisions_len = g->decisions_len;
    }
    gate_settings_default(&settings);
    if (run->settings.margin >= 0)
        settings.margin = run->settings.margin;
    run->margin = settings.margin;
    return gate_judge(&input, &settings, &run->verdict);
}

int run_gate(struct run *run)
{
    struct gating g = {.run = run};
    int rc = judge(&g);
    size_t at = 0;

    gating_done(&g);
    if (rc != 0) {
        snprintf(run->why, sizeof run->why, "the gate could not judge: %s", strerror(-rc));
        return rc;
    }
    run->why[0] = '\0';
    for (int i = 0; i < GATE_REASONS; i++)
        if (run->verdict.reasons & 1u << i)
            at += (size_t)snprintf(run->why + at, sizeof run->why - at, "%s%s", at > 0 ? ", " : "",
                                   gate_reason_name(1u << i));
    return 0;
}
