/* drift_image.c -- the detectors as bytes: magic, version, settings, then every struct in the order
 * of drift_internal.h. The projection is not in it: it follows from dim and seed. An image of other
 * settings is refused: its sums mean something else.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/measure/drift_internal.h"

enum { IMAGE_MAGIC = 0x54465244 /* "DRFT" */, IMAGE_VERSION = 1, LABEL_BYTES = 24 + 2 * 13 };

/* A number that may be NAN, with its place taken by a value it never has. */
static void maybe_pack(double value, struct pack *p)
{
    pack_f64(p, isnan(value) ? -1 : value);
}

static double maybe_unpack(struct unpack *u)
{
    double value = unpack_f64(u, -1, UNPACK_ANY);

    return value == -1 ? NAN : value;
}

static void settings_pack(const struct drift_settings *s, struct pack *p)
{
    pack_u32(p, s->dim);
    pack_u64(p, s->seed);
    pack_f64(p, s->error_level);
    pack_f64(p, s->ph_slack);
    pack_f64(p, s->ph_limit);
    pack_f64(p, s->mix_level);
    pack_f64(p, s->features_level);
}

static void event_pack(const struct drift_event *e, struct pack *p)
{
    pack_u8(p, e->new_labels);
    pack_i64(p, e->since);
    pack_i64(p, e->at);
    pack_u64(p, e->rows_before);
    pack_u64(p, e->rows_since);
    pack_f64(p, e->from);
    pack_f64(p, e->to);
    maybe_pack(e->chance, p);
    pack_u32(p, e->moved_len);
    for (uint32_t i = 0; i < e->moved_len; i++) {
        pack_u32(p, e->moved[i].label);
        pack_u64(p, e->moved[i].rows);
        maybe_pack(e->moved[i].from, p);
        pack_f64(p, e->moved[i].to);
    }
}

static void report_pack(const struct drift_report *r, struct pack *p)
{
    for (int k = 0; k < DRIFT_KINDS; k++) {
        const struct drift_state *s = &r->kinds[k];

        pack_u64(p, s->rows);
        pack_u64(p, s->fired);
        pack_u64(p, s->fired_new_labels);
        maybe_pack(s->now, p);
        if (s->fired > 0)
            event_pack(&s->last, p);
    }
    pack_u64(p, r->error_falls);
}

static void mix_pack(const struct mix *m, struct pack *p)
{
    pack_u32(p, m->looks);
    pack_i64(p, m->window_first);
}

static void mix_label_pack(const struct mix_label *l, struct pack *p)
{
    pack_u64(p, l->past);
    pack_u32(p, l->window);
    pack_u8(p, l->seen);
}

static void walk(const struct drift *d, struct pack *p)
{
    uint64_t kept = d->recent_rows < DRIFT_RECENT ? d->recent_rows : DRIFT_RECENT;

    pack_u32(p, IMAGE_MAGIC);
    pack_u32(p, IMAGE_VERSION);
    settings_pack(&d->settings, p);
    pack_u32(p, d->labels_len);
    for (uint32_t c = 0; c < d->labels_len; c++) {
        pack_u64(p, d->labels[c].rows);
        pack_u64(p, d->labels[c].wrong);
        pack_i64(p, d->labels[c].first);
        mix_label_pack(&d->taught_mix[c], p);
        mix_label_pack(&d->asked_mix[c], p);
    }
    mix_pack(&d->taught, p);
    mix_pack(&d->asked, p);
    adwin_pack(&d->adwin, p);
    page_hinkley_pack(&d->ph, p);
    pack_i64(p, d->taught_mark);
    pack_i64(p, d->asked_mark);
    report_pack(&d->report, p);
    pack_u64(p, d->recent_rows);
    for (uint64_t i = d->recent_rows - kept; i < d->recent_rows; i++) {
        const struct recent *row = &d->recent[i % DRIFT_RECENT];

        pack_i64(p, row->mark);
        pack_u32(p, row->label);
        pack_u8(p, row->wrong);
    }
    if (d->settings.dim > 0)
        shift_pack(&d->shift, p);
}

size_t drift_image_bytes(const struct drift *d)
{
    struct pack p = {0};

    walk(d, &p);
    return p.bytes;
}

void drift_image_write(const struct drift *d, void *image)
{
    struct pack p = {.at = image};

    walk(d, &p);
}

/* ---- reading --------------------------------------------------------------------------------- */

static bool unpack_bool(struct unpack *u)
{
    uint8_t value = unpack_u8(u);

    unpack_check(u, value <= 1);
    return value == 1;
}

static void settings_check(const struct drift_settings *s, struct unpack *u)
{
    unpack_check(u, unpack_u32(u) == s->dim);
    unpack_check(u, unpack_u64(u) == s->seed);
    unpack_check(u, unpack_f64(u, 0, 1) == s->error_level);
    unpack_check(u, unpack_f64(u, 0, UNPACK_ANY) == s->ph_slack);
    unpack_check(u, unpack_f64(u, 0, UNPACK_ANY) == s->ph_limit);
    unpack_check(u, unpack_f64(u, 0, 1) == s->mix_level);
    unpack_check(u, unpack_f64(u, 0, 1) == s->features_level);
}

static void event_unpack(struct drift_event *e, enum drift_kind kind, uint32_t labels_len,
                         struct unpack *u)
{
    e->kind = kind;
    e->new_labels = unpack_bool(u);
    e->since = unpack_i64(u);
    e->at = unpack_i64(u);
    e->rows_before = unpack_u64(u);
    e->rows_since = unpack_u64(u);
    e->from = unpack_f64(u, 0, UNPACK_ANY);
    e->to = unpack_f64(u, 0, UNPACK_ANY);
    e->chance = maybe_unpack(u);
    e->moved_len = unpack_len(u, DRIFT_MOVED_MAX);
    for (uint32_t i = 0; i < e->moved_len && !u->failed; i++) {
        e->moved[i].label = unpack_u32(u);
        e->moved[i].rows = unpack_u64(u);
        e->moved[i].from = maybe_unpack(u);
        e->moved[i].to = unpack_f64(u, 0, 1);
        unpack_check(u, e->moved[i].label < labels_len);
    }
}

static void report_unpack(struct drift_report *r, uint32_t labels_len, struct unpack *u)
{
    for (int k = 0; k < DRIFT_KINDS && !u->failed; k++) {
        struct drift_state *s = &r->kinds[k];

        s->rows = unpack_u64(u);
        s->fired = unpack_u64(u);
        s->fired_new_labels = unpack_u64(u);
        s->now = maybe_unpack(u);
        unpack_check(u, s->fired <= s->rows && s->fired_new_labels <= s->fired);
        if (s->fired > 0 && !u->failed)
            event_unpack(&s->last, (enum drift_kind)k, labels_len, u);
    }
    r->error_falls = unpack_u64(u);
}

static void mix_label_unpack(struct mix_label *l, struct mix *m, struct unpack *u)
{
    l->past = unpack_u64(u);
    l->window = unpack_len(u, MIX_WINDOW);
    l->seen = unpack_bool(u);
    unpack_check(u, l->past < 1ull << 40 && (l->past == 0 || l->seen));
    m->past += l->past;
    m->window += l->window;
}

/* Its sums have been gathered from the labels. */
static void mix_unpack(struct mix *m, struct unpack *u)
{
    m->looks = unpack_u32(u);
    m->window_first = unpack_i64(u);
    unpack_check(u, m->window < MIX_WINDOW);
}

static void labels_unpack(struct drift *d, struct unpack *u)
{
    uint64_t rows = 0;

    for (uint32_t c = 0; c < d->labels_len && !u->failed; c++) {
        struct drift_label *l = &d->labels[c];

        l->rows = unpack_u64(u);
        l->wrong = unpack_u64(u);
        l->first = unpack_i64(u);
        unpack_check(u, l->rows < 1ull << 48 && l->wrong <= l->rows);
        rows += l->rows;
        mix_label_unpack(&d->taught_mix[c], &d->taught, u);
        mix_label_unpack(&d->asked_mix[c], &d->asked, u);
    }
    d->recent_rows = rows; /* what the image must say again */
}

static void recent_unpack(struct drift *d, struct unpack *u)
{
    uint64_t rows = unpack_u64(u), kept = rows < DRIFT_RECENT ? rows : DRIFT_RECENT;

    unpack_check(u, rows == d->recent_rows && rows == d->report.kinds[DRIFT_ERROR_ADWIN].rows);
    for (uint64_t i = rows - kept; i < rows && !u->failed; i++) {
        struct recent *row = &d->recent[i % DRIFT_RECENT];

        row->mark = unpack_i64(u);
        row->label = unpack_u32(u);
        row->wrong = unpack_bool(u);
        unpack_check(u, row->label < d->labels_len && row->mark <= d->taught_mark);
        if (!u->failed) /* moved_errors divides by rows of a label, remembered among them */
            d->labels[row->label].since_rows++;
    }
    for (uint32_t c = 0; c < d->labels_len; c++)
        unpack_check(u, d->labels[c].since_rows <= d->labels[c].rows);
}

static void read_body(struct drift *d, struct unpack *u)
{
    labels_unpack(d, u);
    mix_unpack(&d->taught, u);
    mix_unpack(&d->asked, u);
    adwin_unpack(&d->adwin, u);
    page_hinkley_unpack(&d->ph, u);
    d->taught_mark = unpack_i64(u);
    d->asked_mark = unpack_i64(u);
    report_unpack(&d->report, d->labels_len, u);
    recent_unpack(d, u);
    if (d->settings.dim > 0)
        shift_unpack(&d->shift, u);
    unpack_check(u, u->at == u->end);
}

int drift_image_read(const struct drift_settings *settings, const void *image, size_t image_bytes,
                     struct drift **ret_drift)
{
    struct unpack u = {.at = image, .end = (const uint8_t *)image + image_bytes};
    struct drift *d;
    uint32_t labels_len;
    int rc;

    unpack_check(&u, unpack_u32(&u) == IMAGE_MAGIC);
    unpack_check(&u, unpack_u32(&u) == IMAGE_VERSION);
    settings_check(settings, &u);
    labels_len = unpack_len(&u, DRIFT_LABELS_MAX);
    unpack_check(&u, unpack_left(&u) / LABEL_BYTES >= labels_len);
    if (u.failed)
        return -EINVAL;
    rc = drift_open(settings, &d);
    if (rc != 0)
        return rc;
    rc = drift_labels_grow(d, labels_len);
    if (rc == 0) {
        read_body(d, &u);
        rc = u.failed ? -EINVAL : 0;
    }
    if (rc != 0) {
        drift_close(d);
        return rc;
    }
    *ret_drift = d;
    return 0;
}
