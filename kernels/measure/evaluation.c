/* evaluation.c -- see evaluation.h. Feeding: one row changes a few counters; nothing here allocates
 * but open and grow. */
#include "kernels/measure/evaluation.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/measure/evaluation_internal.h"

int evaluation_open(struct evaluation **ret_evaluation)
{
    struct evaluation *e = calloc(1, sizeof *e);

    if (e == NULL)
        return -ENOMEM;
    e->first_seq = e->last_seq = INT64_MIN;
    *ret_evaluation = e;
    return 0;
}

void evaluation_close(struct evaluation *e)
{
    if (e == NULL)
        return;
    free(e->tallies.labels);
    free(e->courses);
    free(e);
}

int evaluation_labels_grow(struct evaluation *e, uint32_t labels_len)
{
    uint32_t old = e->tallies.labels_len, old_max = e->tallies.labels_max;
    int rc = tallies_grow(&e->tallies, labels_len);

    if (rc == 0 && e->tallies.labels_max > old_max) {
        struct label_course *courses = realloc(e->courses, e->tallies.labels_max * sizeof *courses);

        if (courses == NULL) { /* the columns are not there yet; the tallies' room is found again */
            e->tallies.labels_len = old;
            e->tallies.labels_max = old_max;
            return -ENOMEM;
        }
        e->courses = courses;
    }
    for (uint32_t c = old; rc == 0 && c < e->tallies.labels_len; c++)
        e->courses[c] = (struct label_course){
            .best_seq = INT64_MIN, .first_seq = INT64_MIN, .last_seq = INT64_MIN};
    return rc;
}

int64_t evaluation_seq(const struct evaluation *e)
{
    return e->last_seq;
}

static void fade_add(double *fade, double *weight, double factor, bool right)
{
    *fade = *fade * factor + right;
    *weight = *weight * factor + 1;
}

void stream_add(struct stream *s, bool right, bool novel, bool abstained)
{
    s->flags[s->rows % EVALUATION_WINDOW] =
        (uint8_t)((right ? FLAG_RIGHT : 0) | (novel ? FLAG_NOVEL : 0) |
                  (abstained ? FLAG_ABSTAINED : 0));
    s->rows++;
    s->right += right;
    s->novel += novel;
    s->abstained += abstained;
    fade_add(&s->fade, &s->fade_weight, EVALUATION_FADE, right);
}

/* ---- labels over time ------------------------------------------------------------------------ */

static void course_add(struct label_course *c, const struct evaluation_row *row)
{
    if (c->first_seq == INT64_MIN)
        c->first_seq = row->seq;
    c->last_seq = row->seq;
    if (!row->known)
        return;
    fade_add(&c->fade, &c->fade_weight, EVALUATION_LABEL_FADE, row->predicted == row->truth);
    if (c->fade_weight < EVALUATION_BEST_WEIGHT)
        return;
    if (c->best_weight == 0 || c->fade / c->fade_weight > c->best) {
        c->best = c->fade / c->fade_weight;
        c->best_weight = c->fade_weight;
        c->best_seq = row->seq;
        c->best_labels_known = row->labels_known;
    }
}

/* ---- annotators ------------------------------------------------------------------------------ */

static struct annotator_tally *annotator_find(struct evaluation *e, const char *name)
{
    for (uint32_t i = 0; i < e->annotators_len; i++)
        if (strcmp(e->annotators[i].name, name) == 0)
            return &e->annotators[i];
    return NULL;
}

static struct annotator_tally *annotator_of(struct evaluation *e, const char *name)
{
    struct annotator_tally *a;

    if (name == NULL || name[0] == '\0')
        return &e->unnamed;
    a = annotator_find(e, name);
    if (a != NULL)
        return a;
    if (e->annotators_len == EVALUATION_ANNOTATORS_MAX)
        return &e->others;
    a = &e->annotators[e->annotators_len++];
    memset(a, 0, sizeof *a);
    memcpy(a->name, name, strlen(name));
    return a;
}

static void annotator_add(struct annotator_tally *a, const struct evaluation_row *row)
{
    bool right = row->predicted == row->truth;

    a->rows++;
    a->known += row->known;
    a->agreed += right;
    a->last_seq = row->seq;
    fade_add(&a->fade, &a->fade_weight, EVALUATION_FADE, right);
}

/* The fading sums of two sequences cannot be joined as one sequence; added, their quotient is the
 * mean weighted by how much each still counts. That is cut to what one sequence could have. */
void evaluation_annotator_erase(struct evaluation *e, const char *name)
{
    struct annotator_tally *a = annotator_find(e, name), *others = &e->others;
    double weight_max = 1 / (1 - EVALUATION_FADE);

    if (a == NULL)
        return;
    if (others->rows == 0 || a->last_seq > others->last_seq)
        others->last_seq = a->last_seq;
    others->rows += a->rows;
    others->known += a->known;
    others->agreed += a->agreed;
    others->fade += a->fade;
    others->fade_weight += a->fade_weight;
    if (others->fade_weight > weight_max) {
        others->fade *= weight_max / others->fade_weight;
        others->fade_weight = weight_max;
    }
    e->annotators_len--;
    memmove(a, a + 1, (size_t)(e->annotators + e->annotators_len - a) * sizeof *a);
    memset(&e->annotators[e->annotators_len], 0, sizeof *a);
}

/* ---- rows ------------------------------------------------------------------------------------ */

int evaluation_score(struct evaluation *e, const struct evaluation_row *row)
{
    bool right = row->predicted == row->truth;
    int rc;

    if (row->seq <= e->last_seq)
        return -EALREADY;
    if (row->annotator != NULL &&
        strnlen(row->annotator, EVALUATION_NAME_BYTES) == EVALUATION_NAME_BYTES)
        return -EINVAL;
    rc = tallies_check(&e->tallies, row);
    if (rc != 0)
        return rc;
    tallies_add(&e->tallies, row);
    stream_add(&e->all, right, row->novel, row->abstained);
    if (row->known)
        stream_add(&e->known, right, row->novel, row->abstained);
    course_add(&e->courses[row->truth], row);
    annotator_add(annotator_of(e, row->annotator), row);
    if (e->first_seq == INT64_MIN)
        e->first_seq = row->seq;
    e->last_seq = row->seq;
    e->labels_known = row->labels_known;
    return 0;
}

void evaluation_ask(struct evaluation *e, bool novel, bool abstained)
{
    stream_add(&e->asked, false, novel, abstained);
}

/* ---- any set of rows ------------------------------------------------------------------------- */

int evaluation_batch_open(uint32_t labels_len, struct evaluation_batch **ret_batch)
{
    struct evaluation_batch *b = calloc(1, sizeof *b);
    int rc = b != NULL ? tallies_grow(&b->tallies, labels_len) : -ENOMEM;

    if (rc != 0) {
        evaluation_batch_close(b);
        return rc;
    }
    *ret_batch = b;
    return 0;
}

void evaluation_batch_close(struct evaluation_batch *b)
{
    if (b == NULL)
        return;
    free(b->tallies.labels);
    free(b);
}

int evaluation_batch_add(struct evaluation_batch *b, const struct evaluation_row *row)
{
    int rc = tallies_check(&b->tallies, row);

    if (rc == 0)
        tallies_add(&b->tallies, row);
    return rc;
}
