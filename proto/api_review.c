/* api_review.c -- see api_review.h. */
#include "proto/api_review.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "proto/json.h"

static const char *const KINDS[API_REVIEW_KINDS] = {"likely_wrong", "contradicting", "duplicate",
                                                    "influence"};

/* ---- query parameters ------------------------------------------------------------------------ */

int api_review_kind_parse(const char *text, size_t text_bytes, enum api_review_kind *ret_kind,
                          struct api_problem *problem)
{
    int kind = text ? 0 : API_REVIEW_KINDS;

    while (kind < API_REVIEW_KINDS &&
           (strlen(KINDS[kind]) != text_bytes || memcmp(KINDS[kind], text, text_bytes) != 0))
        kind++;
    if (text && kind == API_REVIEW_KINDS)
        return api_problem_set(problem, 422, "invalid_value", "kind",
                               "must be likely_wrong, contradicting, duplicate or influence");
    *ret_kind = (enum api_review_kind)kind;
    return 0;
}

/* Decimal digits, nothing else: what strtod takes beyond them (signs, spaces, hex, inf) is no
 * number of ours. */
static bool is_number(const char *text, size_t text_bytes, const char *characters)
{
    return text_bytes > 0 && text[0] >= '0' && text[0] <= '9' &&
           strspn(text, characters) == text_bytes;
}

int api_seed_parse(const char *text, size_t text_bytes, uint64_t *ret_seed,
                   struct api_problem *problem)
{
    uint64_t seed = 0;

    if (text && (!is_number(text, text_bytes, "0123456789") || text_bytes > 16 ||
                 (seed = strtoull(text, NULL, 10)) > 9007199254740991u))
        return api_problem_set(problem, 422, "out_of_range", "seed",
                               "must be a whole number between 0 and 9007199254740991");
    *ret_seed = seed;
    return 0;
}

int api_share_parse(const char *text, size_t text_bytes, double *ret_share,
                    struct api_problem *problem)
{
    double share = 0.2;
    char *end = NULL;

    if (text && (!is_number(text, text_bytes, "0123456789.eE+-") ||
                 (share = strtod(text, &end), *end != '\0') || share > 1))
        return api_problem_set(problem, 422, "out_of_range", "random_share",
                               "must be a number between 0 and 1");
    *ret_share = share;
    return 0;
}

/* ---- writing --------------------------------------------------------------------------------- */

static void write_pair(struct api_buffer *buffer, const char *key, const char *string)
{
    json_write_key(buffer, key);
    json_write_string(buffer, string);
}

static void write_count(struct api_buffer *buffer, const char *key, int64_t count)
{
    json_write_key(buffer, key);
    json_write_int(buffer, count);
}

static void write_flag(struct api_buffer *buffer, const char *key, bool flag)
{
    json_write_key(buffer, key);
    json_write_bool(buffer, flag);
}

static void write_number(struct api_buffer *buffer, const char *key, double number)
{
    json_write_key(buffer, key);
    json_write_float(buffer, (float)number);
}

static void write_version(struct api_buffer *buffer, const struct api_version *version)
{
    char text[API_VERSION_CHARS];

    if (version)
        api_version_format(*version, text);
    write_pair(buffer, "version", version ? text : NULL);
}

static void write_id(struct api_buffer *buffer, const uint8_t id[API_ID_BYTES])
{
    char text[API_ID_CHARS];

    api_id_format(id, text);
    write_pair(buffer, "example", text);
}

static void write_text(struct api_buffer *buffer, const char *text, size_t text_bytes,
                       const char *pair, size_t pair_bytes)
{
    json_write_key(buffer, "text");
    json_write_text(buffer, text, text_bytes);
    if (pair) {
        json_write_key(buffer, "text_pair");
        json_write_text(buffer, pair, pair_bytes);
    }
}

static void write_time(struct api_buffer *buffer, const char *key, int64_t unix_us)
{
    char text[API_TIME_CHARS];

    api_time_format(unix_us, text);
    write_pair(buffer, key, text);
}

/* ---- review ---------------------------------------------------------------------------------- */

void api_review_begin(struct api_buffer *buffer, const struct api_review *review)
{
    json_open_object(buffer);
    write_pair(buffer, "model", review->model);
    write_version(buffer, review->audited ? &review->version : NULL);
    write_count(buffer, "examined", review->examined);
    write_count(buffer, "suspects", review->suspects);
    write_flag(buffer, "distrusted", review->distrusted);
    write_number(buffer, "distrusted_share",
                 review->distrusted && review->examined > 0
                     ? (double)review->suspects / review->examined
                     : 0);
    write_flag(buffer, "settled", review->settled);
    json_write_key(buffer, "items");
    json_open_array(buffer);
}

/* The annotators of votes [from, to) that are for, or against, their label. */
static void write_names(struct api_buffer *buffer, const char *key,
                        const struct api_review_vote *votes, uint32_t from, uint32_t to,
                        bool against)
{
    json_write_key(buffer, key);
    json_open_array(buffer);
    for (uint32_t i = from; i < to; i++)
        if (votes[i].against == against)
            json_write_string(buffer, votes[i].annotator[0] ? votes[i].annotator : NULL);
    json_close_array(buffer);
}

static void write_votes(struct api_buffer *buffer, const struct api_review_item *item)
{
    json_write_key(buffer, "votes");
    json_open_array(buffer);
    for (uint32_t from = 0, to; from < item->votes_len; from = to) {
        const char *label = item->votes[from].label;

        for (to = from + 1; to < item->votes_len && strcmp(item->votes[to].label, label) == 0;)
            to++;
        json_open_object(buffer);
        write_pair(buffer, "label", label);
        write_names(buffer, "for", item->votes, from, to, false);
        write_names(buffer, "against", item->votes, from, to, true);
        json_close_object(buffer);
    }
    json_close_array(buffer);
}

void api_review_item(struct api_buffer *buffer, const struct api_review_item *item)
{
    json_open_object(buffer);
    write_pair(buffer, "kind", KINDS[item->kind]);
    if (item->kind == API_INFLUENCE) {
        write_pair(buffer, "label", item->label);
        write_pair(buffer, "annotator", item->annotator[0] ? item->annotator : NULL);
        write_number(buffer, "share", item->share);
        write_count(buffer, "examples", item->examples);
        json_close_object(buffer);
        return;
    }
    write_id(buffer, item->example);
    write_text(buffer, item->text, item->text_bytes, item->pair, item->pair_bytes);
    write_pair(buffer, "label", item->label);
    write_pair(buffer, "other", item->other);
    write_number(buffer, "margin", item->margin);
    write_count(buffer, "annotators", item->annotators);
    write_votes(buffer, item);
    if (item->kind == API_DUPLICATE) {
        json_write_key(buffer, "twin");
        json_open_object(buffer);
        write_id(buffer, item->twin.example);
        write_text(buffer, item->twin.text, item->twin.text_bytes, item->twin.pair,
                   item->twin.pair_bytes);
        json_close_object(buffer);
    }
    write_time(buffer, "created", item->created_us);
    json_close_object(buffer);
}

void api_review_end(struct api_buffer *buffer, const char *next_cursor)
{
    json_close_array(buffer);
    write_pair(buffer, "next_cursor", next_cursor);
    json_close_object(buffer);
}

/* ---- next ------------------------------------------------------------------------------------ */

void api_next_begin(struct api_buffer *buffer, const struct api_next *next)
{
    json_open_object(buffer);
    write_pair(buffer, "model", next->model);
    write_version(buffer, &next->version);
    write_count(buffer, "candidates", next->candidates);
    json_write_key(buffer, "random_share");
    json_write_number(buffer, next->random_share);
    write_count(buffer, "seed", (int64_t)next->seed);
    json_write_key(buffer, "items");
    json_open_array(buffer);
}

void api_next_item(struct api_buffer *buffer, const struct api_next_item *item)
{
    json_open_object(buffer);
    write_pair(buffer, "request_id", item->request_id);
    write_text(buffer, item->text, item->text_bytes, item->pair, item->pair_bytes);
    write_pair(buffer, "label", item->label[0] ? item->label : NULL);
    write_number(buffer, "score", item->score);
    write_number(buffer, "novelty", item->novelty);
    write_pair(buffer, "why", item->why);
    write_time(buffer, "created", item->created_us);
    json_close_object(buffer);
}

void api_next_end(struct api_buffer *buffer)
{
    json_close_array(buffer);
    json_close_object(buffer);
}
