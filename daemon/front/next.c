/* next.c -- GET /v1/models/{m}/next: what to label next, out of the requests that are remembered.
 *
 * Candidates are the recent texts of the model, each once, whose example is not there with a target
 * and whose embedding no example has. How sure the model was and how strange it found them is what
 * it said when it answered: thousands of texts are not scored anew for a list. Which of them, says
 * kernels/pick.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/front/look.h"
#include "kernels/pick/pick.h"

enum { WALK_ENTRIES = 256 }; /* copied under one lock */

struct candidate {
    struct ring_entry *entry; /* owned */
    uint32_t age;             /* 0: the newest */
};

struct proposing {
    struct look look; /* first */
    uint32_t limit;
    uint64_t seed;
    double random_share;
    struct candidate *candidates;
    uint32_t len, max;
    /* for the choice, by candidate */
    uint16_t *embeddings; /* (len,dim) */
    float *doubt, *novelty;
    bool *has;
    struct pick *picks; /* (limit) */
};

static void proposing_done(struct look *look)
{
    struct proposing *p = (struct proposing *)look;

    for (uint32_t i = 0; i < p->len; i++)
        free(p->candidates[i].entry);
    free(p->candidates);
    free(p->embeddings);
    free(p->doubt);
    free(p->novelty);
    free(p->has);
    free(p->picks);
}

/* ---- candidates ------------------------------------------------------------------------------ */

/* Keeps the entry, which it owns from now on, unless it has another encoder's embedding. */
static int keep(struct proposing *p, struct ring_entry *entry)
{
    const struct snapshot *s = p->look.snapshot;

    if (entry->encoder_number != s->encoder->number || entry->dim != s->dim || entry->vector) {
        free(entry);
        return 0;
    }
    if (p->len == p->max) {
        uint32_t max = p->max * 2 + WALK_ENTRIES;
        struct candidate *bigger = realloc(p->candidates, max * sizeof *bigger);

        if (bigger == NULL) {
            free(entry);
            return -ENOMEM;
        }
        p->candidates = bigger;
        p->max = max;
    }
    p->candidates[p->len] = (struct candidate){entry, p->len};
    p->len++;
    return 0;
}

static int gather(struct proposing *p)
{
    struct ring_entry *entries[WALK_ENTRIES];
    uint64_t before = 0;
    uint32_t len;
    int rc = 0;

    while (rc == 0 && (len = ring_walk(p->look.server->ring, p->look.snapshot->model, &before,
                                       WALK_ENTRIES, entries)) > 0) {
        for (uint32_t i = 0; i < len; i++) {
            if (rc == 0)
                rc = keep(p, entries[i]);
            else
                free(entries[i]);
        }
    }
    return rc;
}

static int by_embedding(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    int order = memcmp(x->entry->embedding, y->entry->embedding,
                       x->entry->dim * sizeof *x->entry->embedding);

    return order != 0 ? order : (x->age > y->age) - (x->age < y->age);
}

static int by_age(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;

    return (x->age > y->age) - (x->age < y->age);
}

static void drop(struct proposing *p, uint32_t i)
{
    free(p->candidates[i].entry);
    p->candidates[i].entry = NULL;
}

/* Closes the gaps that drop left. */
static void close_up(struct proposing *p)
{
    uint32_t len = 0;

    for (uint32_t i = 0; i < p->len; i++)
        if (p->candidates[i].entry != NULL)
            p->candidates[len++] = p->candidates[i];
    p->len = len;
}

/* Of one text, however often it was asked, the newest request stays. */
static void drop_repeated(struct proposing *p)
{
    if (p->len == 0)
        return;
    qsort(p->candidates, p->len, sizeof *p->candidates, by_embedding);
    for (uint32_t i = 1, first = 0; i < p->len; i++) {
        const struct ring_entry *e = p->candidates[i].entry;

        if (memcmp(e->embedding, p->candidates[first].entry->embedding,
                   e->dim * sizeof *e->embedding) == 0)
            drop(p, i);
        else
            first = i;
    }
    close_up(p);
    qsort(p->candidates, p->len, sizeof *p->candidates, by_age);
}

/* Example ids are asked of the store, which knows what was taught a moment ago. */
static int drop_taught(struct proposing *p, struct store *store)
{
    int rc = 0;

    for (uint32_t i = 0; i < p->len && rc == 0; i++) {
        const struct ring_entry *e = p->candidates[i].entry;
        uint8_t id[STORE_ID_BYTES];
        bool taught = false;

        store_example_id(e->model_name, e->text, e->text_bytes, e->pair, e->pair_bytes, id);
        rc = store_example_taught(store, id, &taught);
        if (taught)
            drop(p, i);
    }
    close_up(p);
    return rc;
}

static int lay_out(struct proposing *p)
{
    uint32_t dim = p->look.snapshot->dim;

    p->embeddings = malloc(((size_t)p->len * dim + 1) * sizeof *p->embeddings);
    p->doubt = malloc((p->len + 1) * sizeof *p->doubt);
    p->novelty = malloc((p->len + 1) * sizeof *p->novelty);
    p->has = malloc((p->len + 1) * sizeof *p->has);
    p->picks = malloc(p->limit * sizeof *p->picks);
    if (p->embeddings == NULL || p->doubt == NULL || p->novelty == NULL || p->has == NULL ||
        p->picks == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < p->len; i++) {
        const struct ring_entry *e = p->candidates[i].entry;

        memcpy(p->embeddings + (size_t)i * dim, e->embedding, dim * sizeof *e->embedding);
    }
    return 0;
}

/* Drops those whose embedding an example has, and fills what the choice needs of the rest. */
static int weigh(struct proposing *p)
{
    uint32_t dim = p->look.snapshot->dim, len = 0;
    int rc = lay_out(p);

    if (rc == 0)
        rc = head_view_has(p->look.snapshot->view, p->embeddings, p->len, p->has);
    if (rc != 0)
        return rc;
    for (uint32_t i = 0; i < p->len; i++) {
        const struct ring_entry *e = p->candidates[i].entry;

        if (p->has[i]) {
            drop(p, i);
            continue;
        }
        p->doubt[len] = (float)(1 - (e->score - e->second));
        p->novelty[len] = e->novelty;
        memmove(p->embeddings + (size_t)len * dim, e->embedding, dim * sizeof *e->embedding);
        len++;
    }
    close_up(p);
    return 0;
}

/* ---- the answer ------------------------------------------------------------------------------ */

static void write_pick(struct proposing *p, const struct pick *pick)
{
    static const char *const why[] = {"random", "uncertain", "novel", "diverse"};
    const struct ring_entry *e = p->candidates[pick->candidate].entry;
    struct api_next_item item = {.request_id = e->request_id,
                                 .text = e->text,
                                 .text_bytes = e->text_bytes,
                                 .pair = e->pair,
                                 .pair_bytes = e->pair_bytes,
                                 .label = e->label,
                                 .score = e->score,
                                 .novelty = e->novelty,
                                 .why = why[pick->why],
                                 .created_us = e->created_us};

    api_next_item(&p->look.body, &item);
}

static int fill(struct look *look, struct store *store)
{
    struct proposing *p = (struct proposing *)look;
    const struct snapshot *s = look->snapshot;
    struct pick_settings settings = {.dim = s->dim,
                                     .limit = p->limit,
                                     .random_share = p->random_share,
                                     .novelty_max = head_view_novelty_max(s->view),
                                     .seed = p->seed};
    struct api_next head = {.model = s->model_name,
                            .version = handlers_version(s),
                            .random_share = p->random_share,
                            .seed = p->seed};
    uint32_t len = 0;
    int rc = gather(p);

    if (rc == 0)
        drop_repeated(p);
    if (rc == 0)
        rc = drop_taught(p, store);
    if (rc == 0)
        rc = weigh(p);
    if (rc == 0)
        rc = pick_next(p->embeddings, p->doubt, p->novelty, p->len, &settings, p->picks, &len);
    if (rc != 0)
        return rc;
    head.candidates = p->len;
    api_next_begin(&look->body, &head);
    for (uint32_t i = 0; i < len; i++)
        write_pick(p, &p->picks[i]);
    api_next_end(&look->body);
    return 0;
}

/* Reads the query. False after an answer. */
static bool read_query(struct proposing *p, struct exchange *x)
{
    char limit[32], seed[32], share[32];
    const char *limit_text, *seed_text, *share_text;
    struct api_problem problem;

    if (exchange_query(x, "limit", limit, sizeof limit, &limit_text) != 0 ||
        exchange_query(x, "seed", seed, sizeof seed, &seed_text) != 0 ||
        exchange_query(x, "random_share", share, sizeof share, &share_text) != 0)
        return false;
    if (api_limit_parse(limit_text, limit_text != NULL ? strlen(limit_text) : 0, &p->limit,
                        &problem) == 0 &&
        api_seed_parse(seed_text, seed_text != NULL ? strlen(seed_text) : 0, &p->seed, &problem) ==
            0 &&
        api_share_parse(share_text, share_text != NULL ? strlen(share_text) : 0, &p->random_share,
                        &problem) == 0)
        return true;
    exchange_problem(x, &problem);
    return false;
}

void handle_next(struct exchange *x)
{
    struct proposing *p = look_open(x, sizeof *p, fill, proposing_done);

    if (p == NULL)
        return;
    if (read_query(p, x))
        look_post(&p->look, x);
    else
        look_close(&p->look);
}
