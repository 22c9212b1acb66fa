/* review.c -- GET /v1/models/{m}/review: what was taught and may be wrong.
 *
 * Suspects and twins come from the last audit, contradictions and influence from the store. An
 * audit is of a moment: a row whose example is gone, or has changed since, is left out, so a second
 * vote takes effect at once and not with the next audit.
 *
 * Every finding has a place: kind, then doubt, then the first bits of an id. Pages go on behind a
 * place and not behind a count, so a finding that leaves or comes between two pages moves no other.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/front/look.h"

struct finding {
    int64_t place;
    enum api_review_kind kind;
    uint8_t example[API_ID_BYTES]; /* unless of influence */
    uint32_t index;                /* among the suspects, twins or influences */
};

struct reviewing {
    struct look look; /* first */
    enum api_review_kind kind;
    uint32_t limit, rows;
    int64_t after, last;
    struct store *store; /* while filling */
    struct finding *findings;
    uint32_t findings_len, findings_max;
    struct store_influence *influences;
    uint32_t influences_len, influences_max;
    /* of the row that is written */
    struct api_review_item item;
    struct store_standing *standing;
    struct api_review_vote *votes;
    uint32_t votes_len, votes_max;
    char *twin; /* its text, and behind it its pair */
    size_t twin_max;
    char label[LIVE_NAME_BYTES], other[LIVE_NAME_BYTES];
};

static void reviewing_done(struct look *look)
{
    struct reviewing *r = (struct reviewing *)look;

    free(r->findings);
    free(r->influences);
    free(r->standing);
    free(r->votes);
    free(r->twin);
}

/* Room for one more of an array that doubles. */
static int grow(void **array, uint32_t len, uint32_t *max, size_t size)
{
    void *bigger;

    if (len < *max)
        return 0;
    bigger = realloc(*array, ((size_t)*max * 2 + 64) * size);
    if (bigger == NULL)
        return -ENOMEM;
    *array = bigger;
    *max = *max * 2 + 64;
    return 0;
}

static bool wanted(const struct reviewing *r, enum api_review_kind kind)
{
    return r->kind == kind || r->kind == API_REVIEW_KINDS;
}

/* ---- findings -------------------------------------------------------------------------------- */

/* 2 bits of kind, 16 of doubt (the most doubtful first, in steps of 1/16384), 45 of an id: of
 * 10,000 findings two share a place by chance once in a million, and only then could a page end
 * between them and lose one. */
static int64_t place_of(enum api_review_kind kind, double doubt, uint64_t id)
{
    double steps = fmin(fmax(doubt * 16384, 0), 65535);

    return (int64_t)((uint64_t)kind << 61 | (uint64_t)(65535 - (uint32_t)steps) << 45 | id >> 19);
}

static uint64_t high_of(const uint8_t example[API_ID_BYTES])
{
    uint64_t high = 0;

    for (int i = 0; i < 8; i++)
        high = high << 8 | example[i];
    return high;
}

static int add(struct reviewing *r, const struct finding *finding)
{
    int rc = grow((void **)&r->findings, r->findings_len, &r->findings_max, sizeof *r->findings);

    if (rc == 0 && finding->place > r->after)
        r->findings[r->findings_len++] = *finding;
    return rc;
}

static int add_audited(struct reviewing *r)
{
    const struct live_review *review = r->look.snapshot->review;
    int rc = 0;

    for (uint32_t i = 0; wanted(r, API_LIKELY_WRONG) && rc == 0 && i < review->suspects_len; i++) {
        const struct head_suspect *s = &review->suspects[i];
        struct finding f = {
            place_of(API_LIKELY_WRONG, s->margin, s->id.hi), API_LIKELY_WRONG, {0}, i};

        handlers_example(s->id, f.example);
        rc = add(r, &f);
    }
    for (uint32_t i = 0; wanted(r, API_DUPLICATE) && rc == 0 && i < review->twins_len; i++) {
        const struct head_twin *t = &review->twins[i]; /* several may have one id, none the other */
        struct finding f = {place_of(API_DUPLICATE, 0, t->other.hi), API_DUPLICATE, {0}, i};

        handlers_example(t->id, f.example);
        rc = add(r, &f);
    }
    return rc;
}

static int add_contradiction(void *ud, const uint8_t example[STORE_ID_BYTES], double share_max)
{
    struct finding f = {
        place_of(API_CONTRADICTING, 1 - share_max, high_of(example)), API_CONTRADICTING, {0}, 0};

    memcpy(f.example, example, API_ID_BYTES);
    return add(ud, &f);
}

static int add_influence(void *ud, const struct store_influence *row)
{
    struct reviewing *r = ud;
    uint8_t hash[STORE_HASH_BYTES];
    struct finding f = {.kind = API_INFLUENCE, .index = r->influences_len};
    int rc =
        grow((void **)&r->influences, r->influences_len, &r->influences_max, sizeof *r->influences);

    if (rc != 0)
        return rc;
    store_sha256(row->annotator, strlen(row->annotator), hash);
    f.place = place_of(API_INFLUENCE, row->share,
                       high_of(hash) ^ (uint64_t)row->label * 0x9e3779b97f4a7c15u);
    r->influences[r->influences_len++] = *row;
    return add(r, &f);
}

static int by_place(const void *a, const void *b)
{
    const struct finding *x = a, *y = b;

    return (x->place > y->place) - (x->place < y->place);
}

static int collect(struct reviewing *r)
{
    const struct snapshot *s = r->look.snapshot;
    int rc = s->review != NULL ? add_audited(r) : 0;

    if (rc == 0 && wanted(r, API_CONTRADICTING))
        rc = store_contradiction_scan(r->store, s->model, add_contradiction, r);
    if (rc == 0 && wanted(r, API_INFLUENCE) && s->influence_max < 1)
        rc = store_influence_scan(r->store, s->model, s->influence_max, add_influence, r);
    if (rc == 0 && r->findings_len > 0)
        qsort(r->findings, r->findings_len, sizeof *r->findings, by_place);
    return rc;
}

/* ---- rows ------------------------------------------------------------------------------------ */

static int keep_vote(void *ud, const struct store_standing *row)
{
    struct reviewing *r = ud;
    uint32_t max = r->votes_max;
    int rc = grow((void **)&r->standing, r->votes_len, &max, sizeof *r->standing);

    if (rc == 0)
        rc = grow((void **)&r->votes, r->votes_len, &r->votes_max, sizeof *r->votes);
    if (rc == 0)
        r->standing[r->votes_len++] = *row;
    return rc;
}

static int read_votes(struct reviewing *r, const uint8_t example[API_ID_BYTES])
{
    int rc;

    r->votes_len = 0;
    rc = store_vote_scan(r->store, example, keep_vote, r);
    for (uint32_t i = 0; i < r->votes_len; i++) /* standing does not move any more */
        r->votes[i] = (struct api_review_vote){r->standing[i].label, r->standing[i].annotator,
                                               r->standing[i].against};
    return rc;
}

/* Is the example still as the audit saw it? */
static bool audited(const struct reviewing *r, const struct store_example *row)
{
    return row->last_seq <= r->look.snapshot->review->seq && row->target_len > 0;
}

static int keep_twin(void *ud, const struct store_example *row)
{
    struct reviewing *r = ud;
    size_t bytes = row->text_bytes + row->pair_bytes;

    if (!audited(r, row))
        return -ESTALE;
    if (bytes > r->twin_max) {
        char *bigger = realloc(r->twin, bytes);

        if (bigger == NULL)
            return -ENOMEM;
        r->twin = bigger;
        r->twin_max = bytes;
    }
    memcpy(r->twin, row->text, row->text_bytes);
    r->item.twin.text = r->twin;
    r->item.twin.text_bytes = row->text_bytes;
    if (row->pair != NULL) {
        r->item.twin.pair = memcpy(r->twin + row->text_bytes, row->pair, row->pair_bytes);
        r->item.twin.pair_bytes = row->pair_bytes;
    }
    return 0;
}

/* The two labels with most of an example's votes. */
static int read_dispute(struct reviewing *r, const struct store_example *row)
{
    struct store_vote first = {0, 0}, second = {0, 0};
    int rc;

    for (uint32_t i = 0; i < row->target_len; i++) {
        struct store_vote v = row->target[i];

        if (v.value > first.value) {
            second = first;
            first = v;
        } else if (v.value > second.value) {
            second = v;
        }
    }
    r->item.margin = first.value - second.value;
    rc = store_label_name(r->store, first.label, r->label);
    return rc == 0 ? store_label_name(r->store, second.label, r->other) : rc;
}

static int write_example(void *ud, const struct store_example *row)
{
    struct reviewing *r = ud;
    struct api_review_item *item = &r->item;
    int rc = 0;

    if (item->kind == API_CONTRADICTING) {
        if (row->target_len < 2)
            return -ESTALE;
        rc = read_dispute(r, row);
    } else if (!audited(r, row)) {
        return -ESTALE;
    }
    if (rc != 0)
        return rc;
    memcpy(item->example, row->id, API_ID_BYTES);
    item->text = row->text;
    item->text_bytes = row->text_bytes;
    item->pair = row->pair;
    item->pair_bytes = row->pair_bytes;
    item->annotators = row->annotators;
    item->votes = r->votes;
    item->votes_len = r->votes_len;
    item->created_us = row->created_us;
    api_review_item(&r->look.body, item);
    r->rows++;
    return 0;
}

static int write_influence(struct reviewing *r, const struct store_influence *row)
{
    struct api_review_item item = {.kind = API_INFLUENCE,
                                   .label = r->label,
                                   .annotator = row->annotator,
                                   .share = row->share,
                                   .examples = row->examples};
    int rc = store_label_name(r->store, row->label, r->label);

    if (rc == 0) {
        api_review_item(&r->look.body, &item);
        r->rows++;
    }
    return rc;
}

/* Writes a finding, if it still is one. */
static int write_finding(struct reviewing *r, const struct finding *f)
{
    const struct snapshot *s = r->look.snapshot;
    struct api_review_item *item = &r->item;
    int rc = 0;

    *item = (struct api_review_item){.kind = f->kind, .margin = NAN};
    if (f->kind == API_INFLUENCE)
        return write_influence(r, &r->influences[f->index]);
    item->label = r->label;
    item->other = r->other;
    if (f->kind == API_LIKELY_WRONG) {
        item->label = s->labels->names[s->review->suspects[f->index].label];
        item->other = s->labels->names[s->review->suspects[f->index].other];
        item->margin = s->review->suspects[f->index].margin;
    } else if (f->kind == API_DUPLICATE) {
        const struct head_twin *twin = &s->review->twins[f->index];

        item->label = s->labels->names[twin->label];
        item->other = s->labels->names[twin->other_label];
        handlers_example(twin->other, item->twin.example);
        rc = store_example_get(r->store, item->twin.example, -1, keep_twin, r);
    }
    if (rc == 0)
        rc = read_votes(r, f->example);
    if (rc == 0)
        rc = store_example_get(r->store, f->example, -1, write_example, r);
    return rc == -ENOENT || rc == -ESTALE ? 0 : rc;
}

static int fill(struct look *look, struct store *store)
{
    struct reviewing *r = (struct reviewing *)look;
    const struct snapshot *s = look->snapshot;
    struct api_review head = {.model = s->model_name, .settled = s->settled};
    struct api_cursor next = {'A' + (char)r->kind, s->model, 0};
    char text[API_CURSOR_CHARS];
    uint32_t i = 0;
    int rc;

    r->store = store;
    if (s->review != NULL) {
        head.audited = true;
        head.version = (struct api_version){s->encoder->number, s->review->seq};
        head.examined = s->review->examined;
        head.suspects = s->review->suspects_len;
        head.distrusted = s->review->distrusted;
    }
    api_review_begin(&look->body, &head);
    rc = collect(r);
    for (; rc == 0 && i < r->findings_len && r->rows < r->limit; i++) {
        rc = write_finding(r, &r->findings[i]);
        next.after = r->findings[i].place;
    }
    if (rc != 0)
        return rc;
    api_cursor_format(&next, text);
    api_review_end(&look->body, i < r->findings_len ? text : NULL);
    return 0;
}

/* Reads the query. False after an answer. */
static bool read_query(struct reviewing *r, struct exchange *x)
{
    char kind[32], limit[32], cursor[64];
    const char *kind_text, *limit_text, *cursor_text;
    struct api_cursor at = {.model = r->look.snapshot->model};
    struct api_problem problem;

    if (exchange_query(x, "kind", kind, sizeof kind, &kind_text) != 0 ||
        exchange_query(x, "limit", limit, sizeof limit, &limit_text) != 0 ||
        exchange_query(x, "cursor", cursor, sizeof cursor, &cursor_text) != 0)
        return false;
    if (api_review_kind_parse(kind_text, kind_text != NULL ? strlen(kind_text) : 0, &r->kind,
                              &problem) != 0 ||
        api_limit_parse(limit_text, limit_text != NULL ? strlen(limit_text) : 0, &r->limit,
                        &problem) != 0) {
        exchange_problem(x, &problem);
        return false;
    }
    at.list = 'A' + (char)r->kind;
    if (api_cursor_parse(cursor_text, cursor_text != NULL ? strlen(cursor_text) : 0, -1, &at,
                         &problem) != 0) {
        exchange_problem(x, &problem);
        return false;
    }
    r->after = at.after;
    return true;
}

void handle_review(struct exchange *x)
{
    struct reviewing *r = look_open(x, sizeof *r, fill, reviewing_done);

    if (r == NULL)
        return;
    if (read_query(r, x))
        look_post(&r->look, x);
    else
        look_close(&r->look);
}
