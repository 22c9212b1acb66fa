/* ctl_doctor_deep.c -- does each model's image hold what the journal says, and are its numbers
 * those that the examples give?
 *
 * In one view of the store: the newest image, which a daemon at work has not brought up to date
 * yet, is given the examples that changed since. Then every example with a target must be in it as
 * taught, and no other; and its recursive numbers must be those of a head made anew from all of
 * them, within 1e-9.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ctl/ctl_call.h"
#include "daemon/ctl/ctl_doctor.h"
#include "daemon/learn/image_frame.h"
#include "kernels/head/head_holds.h"
#include "proto/api_manage.h"

static const double DISTANCE_MAX = 1e-9;

static const struct store_finding differs = {
    .code = "head_differs",
    .error = true,
    .repairable = true,
    .advice = "learnctl doctor --deep --repair; the head is made anew from the journal"};

struct deep {
    struct doctor *doctor;
    struct store *store;
    const struct store_model *model;
    struct head *head;
    int64_t *labels; /* (labels_len) ascending: the label of each column */
    uint32_t labels_len, labels_max;
    struct head_target *targets; /* (labels_len) of one example */
    size_t embedding_bytes;
    uint64_t held, wrong, unembedded;
    struct head_change *changes; /* (CHANGES_MAX) to be applied together */
    uint32_t changes_len;
};

enum { CHANGES_MAX = 1024 };

static int read_label(void *ud, const struct store_label *row)
{
    struct deep *p = ud;

    if (p->labels_len == p->labels_max) {
        uint32_t max = p->labels_max * 2 + 64;
        int64_t *bigger = realloc(p->labels, max * sizeof *bigger);

        if (bigger == NULL)
            return -ENOMEM;
        p->labels = bigger;
        p->labels_max = max;
    }
    p->labels[p->labels_len++] = row->id;
    return 0;
}

static int by_number(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

/* What the head should have of an example, as the learner makes it of a row. change->embedding
 * NULL: it has none yet. False: it teaches nothing. */
static bool change_of(struct deep *p, const struct store_example *row, struct head_change *change)
{
    bool multi = strcmp(p->model->kind, "multi") == 0;

    *change = (struct head_change){.targets = p->targets,
                                   .weight = row->weight,
                                   .none = multi && row->target_len == 0,
                                   .confirmed = row->target_len == 1 && row->annotators > 1};
    for (int i = 0; i < 8; i++) {
        change->id.hi = change->id.hi << 8 | row->id[i];
        change->id.lo = change->id.lo << 8 | row->id[8 + i];
    }
    if (row->target_len == 0 && !(multi && strcmp(row->status, "active") == 0))
        return false;
    for (uint32_t i = 0; i < row->target_len && i < p->labels_len; i++) {
        const int64_t *at =
            bsearch(&row->target[i].label, p->labels, p->labels_len, sizeof *p->labels, by_number);

        if (at != NULL)
            p->targets[change->targets_len++] =
                (struct head_target){(uint32_t)(at - p->labels), (float)row->target[i].value};
    }
    if (row->vector != NULL && row->vector_bytes == p->embedding_bytes)
        change->embedding = row->vector;
    else if (row->embedding != NULL && row->embedding_bytes == p->embedding_bytes)
        change->embedding = row->embedding;
    return true;
}

static void drop_changes(struct deep *p)
{
    for (uint32_t i = 0; i < p->changes_len; i++) {
        free((void *)(uintptr_t)p->changes[i].targets);
        free((void *)(uintptr_t)p->changes[i].embedding);
    }
    p->changes_len = 0;
}

static int apply_changes(struct deep *p)
{
    int rc = p->changes_len > 0 ? head_apply(p->head, p->changes, p->changes_len) : 0;

    drop_changes(p);
    return rc;
}

/* Brings the image's head from its seq to the journal's end; many at a time, which costs a pass
 * over its numbers a block and not one each. */
static int catch_up(void *ud, const struct store_example *row)
{
    struct deep *p = ud;
    struct head_change *change = &p->changes[p->changes_len];
    struct head_target *targets;
    uint16_t *embedding;

    if (!change_of(p, row, change) || change->embedding == NULL) {
        *change = (struct head_change){.id = change->id}; /* away; or it has no embedding yet */
    } else {
        targets = malloc((change->targets_len + 1) * sizeof *targets);
        embedding = malloc(p->embedding_bytes);
        if (targets != NULL)
            memcpy(targets, change->targets, change->targets_len * sizeof *targets);
        if (embedding != NULL)
            memcpy(embedding, change->embedding, p->embedding_bytes);
        change->targets = targets;
        change->embedding = embedding;
        if (targets == NULL || embedding == NULL) {
            p->changes_len++;
            return -ENOMEM;
        }
    }
    return ++p->changes_len == CHANGES_MAX ? apply_changes(p) : 0;
}

static int compare(void *ud, const struct store_example *row)
{
    struct deep *p = ud;
    struct head_change change;

    if (!change_of(p, row, &change))
        return 0;
    if (!head_has(p->head, change.id) && change.embedding == NULL) {
        p->unembedded++;
        return 0;
    }
    p->held += head_has(p->head, change.id);
    p->wrong += !head_holds(p->head, &change);
    return 0;
}

static void tell(struct deep *p, const char *what, uint64_t n, double distance)
{
    struct store_finding finding = differs;

    snprintf(finding.what, sizeof finding.what, what, p->model->name, (unsigned long long)n,
             distance);
    doctor_show(p->doctor, &finding);
    if (p->doctor->bad_len < DOCTOR_BAD_MAX)
        p->doctor->bad[p->doctor->bad_len++] =
            (struct store_image_name){p->model->id, p->model->encoder};
}

static int look_at_head(struct deep *p, int64_t seq)
{
    static const struct store_example_filter all = {.status = "active"};
    double distance = 0;
    int rc = head_labels_grow(p->head, p->labels_len);

    if (rc == 0 && seq < p->model->seq)
        rc = store_example_changed(p->store, p->model->id, seq, p->model->seq, p->model->encoder,
                                   catch_up, p);
    if (rc == 0)
        rc = apply_changes(p);
    if (rc == 0)
        rc = store_example_scan(p->store, p->model->id, &all, p->model->encoder, compare, p);
    if (rc == 0)
        rc = head_check(p->head, &distance);
    if (rc != 0)
        return rc;
    if (p->wrong > 0)
        tell(p, "model %.100s: %llu examples are in the head's image otherwise than in the journal",
             p->wrong, 0);
    else if (head_examples_len(p->head) != p->held)
        tell(p, "model %.100s: the head's image holds %llu examples that the journal does not",
             head_examples_len(p->head) - p->held, 0);
    else if (!(distance <= DISTANCE_MAX))
        tell(p, "model %.100s: the numbers of %llu examples are not those of a rebuild (%.3g off)",
             p->held, distance);
    p->doctor->models++;
    p->doctor->examples += p->held;
    p->doctor->unembedded += p->unembedded;
    return 0;
}

/* The newest image as a head. -ENOENT: none, so that there is nothing to compare. */
static int open_head(struct deep *p, int64_t *ret_seq)
{
    const void *parts[FRAME_PARTS];
    size_t sizes[FRAME_PARTS], bytes = 0;
    struct api_settings s;
    struct head_settings settings;
    void *image = NULL;
    int rc = api_settings_parse(p->model->settings, strlen(p->model->settings), &s);

    if (rc == 0)
        rc =
            store_snapshot_read(p->store, p->model->id, p->model->encoder, ret_seq, &image, &bytes);
    if (rc == 0)
        rc = image_frame_read(image, bytes, parts, sizes);
    if (rc == 0) {
        settings = (struct head_settings){
            .features = s.features,
            .seed = s.seed,
            .lambda = s.ridge_lambda,
            .kind = strcmp(p->model->kind, "multi") == 0 ? HEAD_MULTI : HEAD_SINGLE,
            .dim = s.dim > 0 ? s.dim : head_image_dim(parts[FRAME_HEAD], sizes[FRAME_HEAD])};
        p->embedding_bytes = settings.dim * sizeof(uint16_t);
        rc = head_image_read(&settings, parts[FRAME_HEAD], sizes[FRAME_HEAD], &p->head);
    }
    free(image);
    return rc;
}

static int look_at_model(void *ud, const struct store_model *row)
{
    struct deep p = *(struct deep *)ud;
    int64_t seq = 0;
    int rc;

    p.model = row;
    rc = store_label_columns(p.store, row->id, 0, read_label, &p);
    p.targets = calloc(p.labels_len + 1, sizeof *p.targets);
    p.changes = calloc(CHANGES_MAX, sizeof *p.changes);
    if (rc == 0 && (p.targets == NULL || p.changes == NULL))
        rc = -ENOMEM;
    if (rc == 0) {
        rc = open_head(&p, &seq);
        if (rc == 0)
            rc = look_at_head(&p, seq);
        else if (rc == -EINVAL)
            tell(&p, "model %.100s: the head's image cannot be read", 0, 0);
        if (rc == -EINVAL || rc == -ENOENT)
            rc = 0;
    }
    if (p.changes != NULL)
        drop_changes(&p);
    free(p.changes);
    head_close(p.head);
    free(p.labels);
    free(p.targets);
    return rc;
}

/* Models first: a callback of the store may not ask it again. */
struct models {
    struct store_model *rows;
    uint32_t len, max;
};

static int keep_model(void *ud, const struct store_model *row)
{
    struct models *m = ud;

    if (m->len == m->max) {
        uint32_t max = m->max * 2 + 16;
        struct store_model *bigger = realloc(m->rows, max * sizeof *bigger);

        if (bigger == NULL)
            return -ENOMEM;
        m->rows = bigger;
        m->max = max;
    }
    m->rows[m->len] = *row;
    m->rows[m->len].settings = strdup(row->settings);
    return m->rows[m->len++].settings != NULL ? 0 : -ENOMEM;
}

int doctor_deep(struct doctor *d, char *why, size_t why_bytes)
{
    struct deep p = {.doctor = d};
    struct models models = {0};
    int rc = store_open(d->folder, STORE_READER, why, why_bytes, &p.store);

    if (rc != 0)
        return rc;
    rc = store_begin(p.store);
    if (rc == 0)
        rc = store_model_scan(p.store, keep_model, &models);
    for (uint32_t i = 0; i < models.len && rc == 0; i++)
        rc = look_at_model(&p, &models.rows[i]);
    for (uint32_t i = 0; i < models.len && rc == 0 && d->held; i++)
        rc = doctor_live(d, p.store, &models.rows[i]);
    if (rc != 0)
        snprintf(why, why_bytes, "%.200s: %s", d->folder,
                 *store_why(p.store) != '\0' ? store_why(p.store) : strerror(-rc));
    store_rollback(p.store);
    store_close(p.store);
    for (uint32_t i = 0; i < models.len; i++)
        free(models.rows[i].settings);
    free(models.rows);
    return rc;
}
