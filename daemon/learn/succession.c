/* succession.c -- see succession.h. */
#include "daemon/learn/succession.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/events.h"
#include "daemon/log.h"

enum { UNMATCHED_MAX = 2 * LEARNED_SCORED_MAX };

void rival_close(struct rival *r)
{
    if (r == NULL)
        return;
    learned_close(r->shadow);
    free(r->live);
    free(r->past);
    free(r);
}

static int rival_open(struct learned *shadow, int64_t run, struct rival **ret_rival)
{
    struct rival *r = calloc(1, sizeof *r);

    if (r == NULL)
        return -ENOMEM;
    r->live = malloc(UNMATCHED_MAX * sizeof *r->live);
    r->past = malloc(UNMATCHED_MAX * sizeof *r->past);
    if (r->live == NULL || r->past == NULL ||
        probation_start(&probation_settings_default, &r->probation) != 0) {
        rival_close(r);
        return -ENOMEM;
    }
    r->shadow = shadow;
    r->run = run;
    *ret_rival = r;
    return 0;
}

static void end_probation(struct learned *l)
{
    rival_close(l->rival);
    l->rival = NULL;
    l->noting = false;
}

static int begin_probation(struct learned *l, struct learned *shadow, int64_t run)
{
    int rc = rival_open(shadow, run, &l->rival);

    if (rc == 0)
        l->noting = shadow->noting = true;
    return rc;
}

int succession_adopt(struct learned **slot, struct learned *candidate, int64_t run,
                     const struct learner_parts *parts)
{
    struct learned *old = *slot;
    int rc = 0;

    candidate->settings = old->settings; /* thresholds may have changed since it was opened */

    while (rc == 0 && candidate->applied < old->applied) {
        struct learned_round round;

        rc = learned_catch_up(candidate, parts, &round);
        if (rc == 0 && round.events == 0)
            break;
    }
    if (rc == 0)
        rc = learned_swap(old, candidate, parts);
    if (rc != 0)
        return rc;
    *slot = candidate;
    end_probation(old);
    if (run < 0 || old->multi || begin_probation(candidate, old, run) != 0)
        learned_close(old);
    return 0;
}

int succession_watch(struct learned **slot, struct learned *shadow, int64_t run)
{
    struct learned *live = *slot;
    int rc = learned_freeze(shadow, &shadow->frozen);

    if (rc == 0) {
        end_probation(live);
        shadow->role = LEARNED_SHADOW;
        rc = begin_probation(live, shadow, run);
    }
    return rc;
}

/* The shadow is live again, and what was live is closed. */
static int go_back(struct learned **slot, const struct learner_parts *parts)
{
    struct learned *live = *slot, *shadow = live->rival->shadow;
    int rc = learned_swap(live, shadow, parts);

    if (rc != 0)
        return rc;
    live->rival->shadow = NULL;
    end_probation(live);
    learned_close(live);
    shadow->noting = false;
    *slot = shadow;
    return 0;
}

int succession_back(struct learned **slot, int64_t encoder, const struct learner_parts *parts)
{
    if ((*slot)->encoder->number == encoder)
        return 0;
    if ((*slot)->rival == NULL || (*slot)->rival->shadow->encoder->number != encoder)
        return -ENOENT;
    return go_back(slot, parts);
}

/* ---- probation ------------------------------------------------------------------------------- */

struct back_change {
    struct change change; /* first */
    int64_t model, encoder, run, now_us;
    char reason[160];
};

static int back_write(struct change *change, struct store *store)
{
    struct back_change *c = (struct back_change *)change;
    struct store_run_update update = STORE_RUN_UPDATE_INIT;
    int rc = store_live_set(store, c->model, c->encoder, c->run, "probation", c->now_us);

    update.reason = c->reason;
    update.now_us = c->now_us;
    change->model = c->model;
    return rc == 0 ? store_run_update(store, c->run, &update) : rc;
}

static void back_done(struct change *change, int rc)
{
    if (rc != 0) /* the store still names the other one: after a restart it is live again */
        log_error("learner", "event", "probation_not_kept", "error", strerror(-rc), NULL);
    free(change);
}

/* The store is told which encoder is live again, and why. */
static void tell_store(int64_t model, int64_t encoder, int64_t run, const char *reason,
                       const struct learner_parts *parts)
{
    struct back_change *c = calloc(1, sizeof *c);

    if (c == NULL)
        return;
    c->change = (struct change){.write = back_write, .done = back_done};
    c->model = model;
    c->encoder = encoder;
    c->run = run;
    c->now_us = clock_unix_us();
    snprintf(c->reason, sizeof c->reason, "%s", reason);
    if (keeper_post(parts->keeper, &c->change) != 0)
        free(c);
}

static void send_back(struct learned **slot, const struct learner_parts *parts)
{
    const struct probation *p = &(*slot)->rival->probation;
    int64_t run = (*slot)->rival->run, model = (*slot)->model;
    char reason[160], run_text[32], name[LIVE_NAME_BYTES];

    snprintf(reason, sizeof reason,
             "worse on live corrections: of %u it lost %u that encoder %lld had right and won %u "
             "(p %.2g)",
             p->items, p->lost, (long long)(*slot)->rival->shadow->encoder->number, p->won,
             probation_p(p));
    snprintf(name, sizeof name, "%s", (*slot)->name);
    snprintf(run_text, sizeof run_text, "%lld", (long long)run);
    if (go_back(slot, parts) != 0) {
        events_warning(parts->bus, name, "rollback_failed", "no memory to go back; tried again");
        return;
    }
    log_warn("learner", "event", "rolled_back", "model", name, "run", run_text, "why", reason,
             NULL);
    events_warning(parts->bus, name, "rolled_back", reason);
    tell_store(model, (*slot)->encoder->number, run, reason, parts);
}

static void pass(struct learned *l)
{
    const struct probation *p = &l->rival->probation;
    char lost[16], won[16], items[16];

    snprintf(items, sizeof items, "%u", p->items);
    snprintf(lost, sizeof lost, "%u", p->lost);
    snprintf(won, sizeof won, "%u", p->won);
    log_info("learner", "event", "probation_passed", "model", l->name, "corrections", items, "lost",
             lost, "won", won, NULL);
    end_probation(l);
}

/* Adds a side's outcomes behind those that wait. What finds no room is no evidence. */
static void take(struct learned_outcome *all, uint32_t *len, const struct learned_round *round)
{
    for (uint32_t i = 0; i < round->outcomes_len && *len < UNMATCHED_MAX; i++)
        all[(*len)++] = round->outcomes[i];
}

/* Counts what both sides have told, by seq. */
static enum probation_state match(struct rival *r)
{
    uint32_t a = 0, b = 0;

    while (a < r->live_len && b < r->shadow_len) {
        if (r->live[a].seq == r->past[b].seq)
            (void)probation_add(&r->probation, r->past[b++].right, r->live[a++].right);
        else if (r->live[a].seq < r->past[b].seq)
            a++;
        else
            b++;
    }
    memmove(r->live, r->live + a, (r->live_len - a) * sizeof *r->live);
    memmove(r->past, r->past + b, (r->shadow_len - b) * sizeof *r->past);
    r->live_len -= a;
    r->shadow_len -= b;
    return r->probation.state;
}

void succession_round(struct learned **slot, const struct learned_round *round,
                      const struct learner_parts *parts)
{
    struct rival *r = (*slot)->rival;
    enum probation_state state;
    int rc = 0;

    if (r == NULL)
        return;
    take(r->live, &r->live_len, round);
    while (rc == 0 && r->shadow->applied < (*slot)->applied) {
        struct learned_round own;

        rc = learned_catch_up(r->shadow, parts, &own);
        if (rc == 0) {
            take(r->past, &r->shadow_len, &own);
            learned_round_done(&own);
            if (own.events == 0)
                break;
        }
    }
    state = match(r);
    if (state == PROBATION_WORSE)
        send_back(slot, parts);
    else if (state == PROBATION_PASSED)
        pass(*slot);
}
