/* evaluation_image.c -- an evaluation as bytes: magic, version, number of labels, then every count
 * in the order of its struct. A reader believes nothing: each sum must agree with its parts, each
 * fading sum with its weight, so that a damaged image is refused and the evaluation starts again,
 * instead of reporting nonsense for ever.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/measure/evaluation_internal.h"

enum { IMAGE_MAGIC = 0x4c564544 /* "DEVL" */, IMAGE_VERSION = 1 };

static void fade_pack(double fade, double weight, struct pack *p)
{
    pack_f64(p, fade);
    pack_f64(p, weight);
}

void stream_pack(const struct stream *s, struct pack *p)
{
    pack_u64(p, s->rows);
    pack_u64(p, s->right);
    pack_u64(p, s->novel);
    pack_u64(p, s->abstained);
    fade_pack(s->fade, s->fade_weight, p);
    pack_bytes(p, s->flags, sizeof s->flags);
}

static void course_pack(const struct label_course *c, struct pack *p)
{
    fade_pack(c->fade, c->fade_weight, p);
    fade_pack(c->best, c->best_weight, p);
    pack_i64(p, c->best_seq);
    pack_i64(p, c->first_seq);
    pack_i64(p, c->last_seq);
    pack_u32(p, c->best_labels_known);
}

static void annotator_pack(const struct annotator_tally *a, struct pack *p)
{
    pack_bytes(p, a->name, sizeof a->name);
    pack_u64(p, a->rows);
    pack_u64(p, a->known);
    pack_u64(p, a->agreed);
    fade_pack(a->fade, a->fade_weight, p);
    pack_i64(p, a->last_seq);
}

static void walk(const struct evaluation *e, struct pack *p)
{
    pack_u32(p, IMAGE_MAGIC);
    pack_u32(p, IMAGE_VERSION);
    pack_u32(p, e->tallies.labels_len);
    tallies_pack(&e->tallies, p);
    for (uint32_t c = 0; c < e->tallies.labels_len; c++)
        course_pack(&e->courses[c], p);
    stream_pack(&e->all, p);
    stream_pack(&e->known, p);
    stream_pack(&e->asked, p);
    pack_i64(p, e->first_seq);
    pack_i64(p, e->last_seq);
    pack_u32(p, e->labels_known);
    pack_u32(p, e->annotators_len);
    for (uint32_t i = 0; i < e->annotators_len; i++)
        annotator_pack(&e->annotators[i], p);
    annotator_pack(&e->others, p);
    annotator_pack(&e->unnamed, p);
}

size_t evaluation_image_bytes(const struct evaluation *e)
{
    struct pack p = {0};

    walk(e, &p);
    return p.bytes;
}

void evaluation_image_write(const struct evaluation *e, void *image)
{
    struct pack p = {.at = image};

    walk(e, &p);
}

/* ---- reading --------------------------------------------------------------------------------- */

static void fade_unpack(double *fade, double *weight, double factor, struct unpack *u)
{
    *fade = unpack_f64(u, 0, 1.001 / (1 - factor));
    *weight = unpack_f64(u, 0, 1.001 / (1 - factor));
    unpack_check(u, *fade <= *weight * 1.001);
}

void stream_unpack(struct stream *s, struct unpack *u)
{
    s->rows = unpack_u64(u);
    s->right = unpack_u64(u);
    s->novel = unpack_u64(u);
    s->abstained = unpack_u64(u);
    unpack_check(u, s->right <= s->rows && s->novel <= s->rows && s->abstained <= s->rows);
    fade_unpack(&s->fade, &s->fade_weight, EVALUATION_FADE, u);
    unpack_check(u, (s->rows > 0) == (s->fade_weight > 0));
    unpack_bytes(u, s->flags, sizeof s->flags);
    for (int i = 0; i < EVALUATION_WINDOW; i++)
        unpack_check(u, s->flags[i] <= (FLAG_RIGHT | FLAG_NOVEL | FLAG_ABSTAINED));
}

static void course_unpack(struct label_course *c, const struct label_tally *tally, struct unpack *u)
{
    fade_unpack(&c->fade, &c->fade_weight, EVALUATION_LABEL_FADE, u);
    c->best = unpack_f64(u, 0, 1);
    c->best_weight = unpack_f64(u, 0, 1.001 / (1 - EVALUATION_LABEL_FADE));
    c->best_seq = unpack_i64(u);
    c->first_seq = unpack_i64(u);
    c->last_seq = unpack_i64(u);
    c->best_labels_known = unpack_u32(u);
    unpack_check(u, (tally->taught[1] > 0) == (c->fade_weight > 0));
    unpack_check(u, c->best_weight == 0 || (c->best_weight >= EVALUATION_BEST_WEIGHT &&
                                            c->fade_weight >= EVALUATION_BEST_WEIGHT));
    unpack_check(u, c->first_seq <= c->last_seq);
}

static void annotator_unpack(struct annotator_tally *a, bool named, struct unpack *u)
{
    unpack_bytes(u, a->name, sizeof a->name);
    unpack_check(u, a->name[EVALUATION_NAME_BYTES - 1] == '\0' && (a->name[0] != '\0') == named);
    a->rows = unpack_u64(u);
    a->known = unpack_u64(u);
    a->agreed = unpack_u64(u);
    fade_unpack(&a->fade, &a->fade_weight, EVALUATION_FADE, u);
    a->last_seq = unpack_i64(u);
    unpack_check(u, a->known <= a->rows && a->agreed <= a->known &&
                        (a->rows > 0) == (a->fade_weight > 0) && (!named || a->rows > 0));
}

static void annotators_unpack(struct evaluation *e, struct unpack *u)
{
    uint32_t len = unpack_len(u, EVALUATION_ANNOTATORS_MAX);
    uint64_t rows;

    for (uint32_t i = 0; i < len && !u->failed; i++) {
        annotator_unpack(&e->annotators[i], true, u);
        for (uint32_t k = 0; k < i; k++)
            unpack_check(u, strcmp(e->annotators[k].name, e->annotators[i].name) != 0);
    }
    e->annotators_len = len;
    annotator_unpack(&e->others, false, u);
    annotator_unpack(&e->unnamed, false, u);
    rows = e->others.rows + e->unnamed.rows;
    for (uint32_t i = 0; i < len; i++)
        rows += e->annotators[i].rows;
    unpack_check(u, rows == tallies_rows(&e->tallies));
}

static void read_body(struct evaluation *e, struct unpack *u)
{
    const struct part_tally *parts = e->tallies.parts;

    tallies_unpack(&e->tallies, u);
    for (uint32_t c = 0; c < e->tallies.labels_len && !u->failed; c++)
        course_unpack(&e->courses[c], &e->tallies.labels[c], u);
    stream_unpack(&e->all, u);
    stream_unpack(&e->known, u);
    stream_unpack(&e->asked, u);
    unpack_check(u, e->all.rows == tallies_rows(&e->tallies) && e->all.right == parts[1].right);
    unpack_check(u, e->known.rows == parts[1].rows && e->known.right == parts[1].right);
    unpack_check(u, e->asked.right == 0);
    e->first_seq = unpack_i64(u);
    e->last_seq = unpack_i64(u);
    unpack_check(u, e->first_seq <= e->last_seq);
    e->labels_known = unpack_u32(u);
    annotators_unpack(e, u);
    unpack_check(u, u->at == u->end);
}

int evaluation_image_read(const void *image, size_t image_bytes, struct evaluation **ret_evaluation)
{
    struct unpack u = {.at = image, .end = (const uint8_t *)image + image_bytes};
    struct evaluation *e;
    uint32_t labels_len;
    int rc;

    unpack_check(&u, unpack_u32(&u) == IMAGE_MAGIC);
    unpack_check(&u, unpack_u32(&u) == IMAGE_VERSION);
    labels_len = unpack_len(&u, EVALUATION_LABELS_MAX);
    unpack_check(&u, unpack_left(&u) / sizeof(struct label_tally) >= labels_len);
    if (u.failed)
        return -EINVAL;
    rc = evaluation_open(&e);
    if (rc == 0)
        rc = evaluation_labels_grow(e, labels_len);
    else
        return rc;
    if (rc == 0) {
        read_body(e, &u);
        rc = u.failed ? -EINVAL : 0;
    }
    if (rc != 0) {
        evaluation_close(e);
        return rc;
    }
    *ret_evaluation = e;
    return 0;
}
