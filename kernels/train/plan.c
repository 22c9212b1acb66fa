/* plan.c -- see plan.h.
 *
 * Rows are sorted by id first: from there on a row is its rank. An epoch of B batches deals rows as
 * cards: sorted by length, cut into strata of B neighbours each (the longest stratum may be short),
 * every stratum shuffled by a permutation of its own and dealt one to a batch. Which rows meet is
 * as random as in a plain shuffle; how many tokens do hardly varies. A permutation is a Feistel
 * network over the next power of four with cycle walking (Black and Rogaway 2002): it can be asked
 * for one place, so nothing is stored for an epoch.
 */
#include "kernels/train/plan.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

enum { ROUNDS = 6 };

/* The oldest row of a sample's label is as likely as this many of the newest. */
#define OLDEST_SHARE 0.25

const struct plan_settings plan_settings_default = {
    .strategy = PLAN_JOINT, .batch = 32, .epochs = 4, .steps_min = 300};

/* Drawn old rows: those of a label are neighbours. */
struct drawn_label {
    uint32_t from, len; /* in plan->old */
    double until;       /* sum of sqrt(len) of the labels up to this one */
};

struct plan {
    struct plan_settings settings;
    uint32_t *pool; /* (pool_len) indices into the caller's rows, shortest first */
    uint32_t pool_len;
    uint32_t *old; /* (old_len) replay: by label */
    uint32_t old_len;
    struct drawn_label *old_labels; /* (old_labels_len) */
    uint32_t old_labels_len;
    uint32_t old_share; /* old rows of a batch */
    struct plan_summary summary;
};

const char *plan_strategy_name(enum plan_strategy strategy)
{
    static const char *const names[] = {"joint", "replay", "naive", "head"};

    return names[strategy];
}

bool plan_held_out(uint64_t hi)
{
    return hi % 10 == 0;
}

/* ---- randomness ------------------------------------------------------------------------------ */

/* splitmix64's finaliser (Steele, Lea, Flood 2014). */
static uint64_t mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* What a key is for; no two uses share one. */
enum use { USE_SAMPLE = 1, USE_LOT, USE_STRATUM, USE_OLD };

static uint64_t word(uint64_t seed, enum use use, uint64_t a, uint64_t b)
{
    return mix(mix(mix(mix(seed) + (uint64_t)use) + a) + b);
}

/* (0, 1) */
static double unit(uint64_t z)
{
    return ((double)(z >> 11) + 0.5) / 9007199254740992.0;
}

/* Place i of the permutation of n that a key names. */
static uint32_t permuted(uint64_t key, uint32_t n, uint32_t i)
{
    int half = 1;
    uint32_t mask;

    while (half < 16 && (uint64_t)1 << 2 * half < n)
        half++;
    mask = (1u << half) - 1;
    do {
        uint32_t left = i >> half, right = i & mask;

        for (uint64_t r = 0; r < ROUNDS; r++) {
            uint32_t next = left ^ ((uint32_t)(mix(key + (r << 32 | right)) >> 32) & mask);

            left = right;
            right = next;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}

/* ---- choosing the rows ----------------------------------------------------------------------- */

/* A row on its way into the plan. */
struct choice {
    const struct plan_row *row;
    uint32_t rank; /* of its label's rows in a sample */
    double key;    /* among its label's rows; among rows of one rank */
};

struct choices {
    struct choice *rows;
    uint32_t len;
};

typedef int compare_fn(const void *a, const void *b);

static int compare_ids(const struct plan_row *a, const struct plan_row *b)
{
    if (a->hi != b->hi)
        return a->hi < b->hi ? -1 : 1;
    return (a->lo > b->lo) - (a->lo < b->lo);
}

static int by_id(const void *a, const void *b)
{
    return compare_ids(((const struct choice *)a)->row, ((const struct choice *)b)->row);
}

static int by_label(const void *a, const void *b)
{
    const struct plan_row *x = ((const struct choice *)a)->row;
    const struct plan_row *y = ((const struct choice *)b)->row;

    if (x->label != y->label)
        return x->label < y->label ? -1 : 1;
    return compare_ids(x, y);
}

static int by_label_newest_first(const void *a, const void *b)
{
    const struct plan_row *x = ((const struct choice *)a)->row;
    const struct plan_row *y = ((const struct choice *)b)->row;

    if (x->label == y->label && x->seq != y->seq)
        return x->seq > y->seq ? -1 : 1;
    return by_label(a, b);
}

static int by_label_and_key(const void *a, const void *b)
{
    const struct choice *x = a, *y = b;

    if (x->row->label == y->row->label && x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return by_label(a, b);
}

static int by_rank_and_key(const void *a, const void *b)
{
    const struct choice *x = a, *y = b;

    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return by_label(a, b);
}

static int by_length(const void *a, const void *b)
{
    const struct plan_row *x = ((const struct choice *)a)->row;
    const struct plan_row *y = ((const struct choice *)b)->row;

    if (x->len != y->len)
        return x->len < y->len ? -1 : 1;
    return compare_ids(x, y);
}

static void sort(struct choices *c, compare_fn *compare)
{
    if (c->len > 1)
        qsort(c->rows, c->len, sizeof *c->rows, compare);
}

/* One past the last row of the label that begins at from. */
static uint32_t label_end(const struct choices *c, uint32_t from)
{
    uint32_t i = from;

    while (i < c->len && c->rows[i].row->label == c->rows[from].row->label)
        i++;
    return i;
}

/* Keeps `budget` rows. Within a label they are ranked by the keys of Efraimidis and Spirakis
 * (2006), the weight falling with age; then all first ones go in, all second ones, and so on, in
 * the last round by lot: every label has as many as any other, or all it has. */
static void sample(struct choices *c, uint64_t budget, uint64_t seed)
{
    if (c->len <= budget)
        return;
    sort(c, by_label_newest_first);
    for (uint32_t i = 0, end; i < c->len; i = end) {
        end = label_end(c, i);
        for (uint32_t k = i; k < end; k++) {
            const struct plan_row *row = c->rows[k].row;
            double age = end - i > 1 ? (double)(k - i) / (end - i - 1) : 0;
            double u = unit(word(seed, USE_SAMPLE, row->hi, row->lo));

            c->rows[k].key = -log(u) / pow(OLDEST_SHARE, age);
        }
    }
    sort(c, by_label_and_key);
    for (uint32_t i = 0, end; i < c->len; i = end) {
        end = label_end(c, i);
        for (uint32_t k = i; k < end; k++) {
            c->rows[k].rank = k - i;
            c->rows[k].key = unit(word(seed, USE_LOT, c->rows[k].row->label, k - i));
        }
    }
    sort(c, by_rank_and_key);
    c->len = (uint32_t)budget;
}

/* ---- life ------------------------------------------------------------------------------------ */

/* Sorts the given rows into what epochs go over and what old ones are drawn from. -EINVAL: an id
 * twice. */
static int divide(const struct plan_row *rows, uint32_t len, struct plan *p, struct choices *pool,
                  struct choices *old)
{
    enum plan_strategy strategy = p->settings.strategy;
    struct choices all = {pool->rows, len};

    for (uint32_t i = 0; i < len; i++)
        all.rows[i] = (struct choice){.row = &rows[i]};
    sort(&all, by_id);
    for (uint32_t i = 1; i < len; i++)
        if (compare_ids(all.rows[i - 1].row, all.rows[i].row) == 0)
            return -EINVAL;
    for (uint32_t i = 0; i < len; i++) {
        const struct choice c = all.rows[i];
        bool is_new = strategy == PLAN_JOINT || strategy == PLAN_HEAD || !c.row->old;

        if (plan_held_out(c.row->hi))
            p->summary.held_out_len++;
        else if (is_new)
            pool->rows[pool->len++] = c; /* never ahead of i */
        else if (strategy == PLAN_REPLAY)
            old->rows[old->len++] = c;
    }
    p->summary.left_out_len = pool->len;
    if (p->settings.examples_max > 0)
        sample(pool, p->settings.examples_max, p->settings.seed);
    p->summary.left_out_len -= pool->len;
    return 0;
}

static uint32_t count_labels(const struct choices *a, const struct choices *b)
{
    uint32_t labels = 0;

    for (uint32_t i = 0, j = 0; i < a->len || j < b->len; labels++) {
        bool from_a = j == b->len || (i < a->len && a->rows[i].row->label <= b->rows[j].row->label);
        uint32_t label = from_a ? a->rows[i].row->label : b->rows[j].row->label;

        while (i < a->len && a->rows[i].row->label == label)
            i++;
        while (j < b->len && b->rows[j].row->label == label)
            j++;
    }
    return labels;
}

/* old (by label) into the plan. */
static void keep_old(struct plan *p, const struct choices *old, const struct plan_row *rows)
{
    double sum = 0;

    for (uint32_t i = 0, end; i < old->len; i = end) {
        end = label_end(old, i);
        sum += sqrt(end - i);
        p->old_labels[p->old_labels_len++] = (struct drawn_label){i, end - i, sum};
    }
    for (uint32_t i = 0; i < old->len; i++)
        p->old[i] = (uint32_t)(old->rows[i].row - rows);
    p->old_len = old->len;
}

static uint64_t digest(uint64_t so_far, const struct choices *c)
{
    for (uint32_t i = 0; i < c->len; i++) {
        const struct plan_row *r = c->rows[i].row;

        so_far = mix(mix(mix(so_far ^ r->hi) ^ r->lo) ^ r->label);
    }
    return mix(so_far ^ c->len);
}

/* Both sorted by label, or pool by length: the order is part of what the digest says. */
static void summarise(struct plan *p, const struct choices *pool, const struct choices *old)
{
    const struct plan_settings *s = &p->settings;
    struct plan_summary *y = &p->summary;
    uint32_t fresh = s->batch - p->old_share;

    y->rows_len = pool->len;
    y->old_len = old->len;
    for (uint32_t i = 0; i < pool->len; i++)
        y->tokens += pool->rows[i].row->len;
    y->digest = mix(mix(s->seed) ^ (uint64_t)s->strategy);
    y->digest = mix(mix(y->digest ^ s->batch) ^ p->old_share);
    y->digest = digest(digest(y->digest, pool), old);
    if (s->strategy == PLAN_HEAD || pool->len == 0)
        return;
    y->steps_per_epoch = (pool->len + (uint64_t)fresh - 1) / fresh;
    y->batch_max =
        (uint32_t)((pool->len + y->steps_per_epoch - 1) / y->steps_per_epoch) + p->old_share;
    y->steps = s->epochs * y->steps_per_epoch;
    if (y->steps < s->steps_min)
        y->steps =
            (s->steps_min + y->steps_per_epoch - 1) / y->steps_per_epoch * y->steps_per_epoch;
    if (s->steps_max > 0 && y->steps > s->steps_max)
        y->steps = s->steps_max;
    y->digest = mix(y->digest ^ y->steps);
}

static int fill(struct plan *p, const struct plan_row *rows, uint32_t len, struct choices *pool,
                struct choices *old)
{
    int rc = divide(rows, len, p, pool, old);

    if (rc != 0)
        return rc;
    if (pool->len == 0 && p->settings.strategy != PLAN_HEAD)
        return -ENODATA;
    sort(pool, by_label);
    sort(old, by_label);
    p->summary.labels_len = count_labels(pool, old);
    keep_old(p, old, rows);
    p->old_share = p->settings.batch / 2 < old->len ? p->settings.batch / 2 : old->len;
    sort(pool, by_length);
    for (uint32_t i = 0; i < pool->len; i++)
        p->pool[i] = (uint32_t)(pool->rows[i].row - rows);
    p->pool_len = pool->len;
    summarise(p, pool, old);
    return 0;
}

static bool valid(const struct plan_settings *s)
{
    return s->strategy >= PLAN_JOINT && s->strategy <= PLAN_HEAD && s->epochs >= 1 &&
           s->batch >= (s->strategy == PLAN_REPLAY ? 2 : 1) && s->steps_min <= PLAN_STEPS_MAX &&
           s->steps_max <= PLAN_STEPS_MAX;
}

int plan_open(const struct plan_row *rows, uint32_t len, const struct plan_settings *settings,
              struct plan **ret_plan)
{
    size_t room = (size_t)len + 1;
    struct choices pool = {malloc(room * sizeof *pool.rows), 0};
    struct choices old = {malloc(room * sizeof *old.rows), 0};
    struct plan *p = calloc(1, sizeof *p);
    int rc = -ENOMEM;

    if (p != NULL) {
        p->settings = *settings;
        p->pool = malloc(room * sizeof *p->pool);
        p->old = malloc(room * sizeof *p->old);
        p->old_labels = malloc(room * sizeof *p->old_labels);
    }
    if (!valid(settings))
        rc = -EINVAL;
    else if (p != NULL && pool.rows != NULL && old.rows != NULL && p->pool != NULL &&
             p->old != NULL && p->old_labels != NULL)
        rc = fill(p, rows, len, &pool, &old);
    free(pool.rows);
    free(old.rows);
    if (rc != 0)
        plan_close(p);
    else
        *ret_plan = p;
    return rc;
}

void plan_close(struct plan *p)
{
    if (p == NULL)
        return;
    free(p->pool);
    free(p->old);
    free(p->old_labels);
    free(p);
}

void plan_read(const struct plan *p, struct plan_summary *ret_summary)
{
    *ret_summary = p->summary;
}

/* ---- batches --------------------------------------------------------------------------------- */

/* An old row: a label with a chance in proportion to sqrt(its rows), then any of its rows. Returns
 * its place in plan->old. */
static uint32_t draw_old(const struct plan *p, uint64_t key)
{
    const struct drawn_label *labels = p->old_labels;
    double at = unit(mix(key)) * labels[p->old_labels_len - 1].until;
    uint32_t low = 0, high = p->old_labels_len - 1;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (labels[middle].until <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return labels[low].from + (uint32_t)(unit(mix(key + 1)) * labels[low].len);
}

static bool listed(const uint32_t *rows, uint32_t len, uint32_t row)
{
    for (uint32_t i = 0; i < len; i++)
        if (rows[i] == row)
            return true;
    return false;
}

/* What the batch has already gives way to the next free one, mostly of the same label. There is
 * one: old_share <= old_len. */
static void add_old(const struct plan *p, uint64_t step, uint32_t *rows)
{
    for (uint32_t i = 0; i < p->old_share; i++) {
        uint32_t at = draw_old(p, word(p->settings.seed, USE_OLD, step, i));

        while (listed(rows, i, p->old[at]))
            at = (at + 1) % p->old_len;
        rows[i] = p->old[at];
    }
}

int plan_batch(const struct plan *p, uint64_t step, uint32_t *rows, uint32_t *ret_len)
{
    uint32_t batches = (uint32_t)p->summary.steps_per_epoch, len = 0, card;
    uint64_t epoch;

    if (step >= p->summary.steps)
        return -ERANGE;
    epoch = step / batches;
    card = (uint32_t)(step % batches);
    for (uint64_t from = 0; from < p->pool_len; from += batches) {
        uint64_t at =
            from + permuted(word(p->settings.seed, USE_STRATUM, epoch, from), batches, card);

        if (at < p->pool_len)
            rows[len++] = p->pool[at];
    }
    add_old(p, step, rows + len);
    *ret_len = len + p->old_share;
    return 0;
}
