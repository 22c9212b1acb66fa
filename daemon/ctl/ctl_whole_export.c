/* ctl_whole_export.c -- export --everything: a folder of ndjson files and of encoders.
 *
 *     models.ndjson    name, kind, settings, seq (its last event), encoder (that serves it)
 *     labels.ndjson    model, label, status, into, aliases, score_min, payload
 *     examples.ndjson  model, example (id), text or vector, text_pair, status, target (label,
 *                      share), weight, held_out, first_seq, last_seq, votes
 *     runs.ndjson      what was asked for, and how it ended
 *     versions.ndjson  which encoder served which model since when
 *     encoders.ndjson  and encoders/<number>/: Hugging Face folders of those that are held
 *
 * A vote: annotator, weight, and label (with against: true, against it); one without a label says
 * that the annotator of a model of kind multi has said which labels there are. Times are
 * microseconds of Unix time. The base encoder is not in it.
 *
 * It is read from the state folder in one view, also beside a running daemon, and written as
 * DEST.partial, which takes its name when it is whole.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/ctl/ctl_call.h"
#include "daemon/ctl/ctl_whole.h"
#include "kernels/head/head_holds.h"
#include "proto/api.h"
#include "store/backup.h"

struct whole {
    struct ctl *ctl;
    struct store *store;
    const char *state, *dest;
    char partial[CTL_STATE_BYTES];
    FILE *file;
    struct api_buffer row;
    const char *model; /* of the rows now */
    char why[512];
    uint64_t models, labels, examples, votes, runs, encoders;
};

/* ---- rows ------------------------------------------------------------------------------------ */

static void put_text(struct whole *w, const char *key, const char *text)
{
    json_write_key(&w->row, key);
    json_write_string(&w->row, text);
}

static void put_int(struct whole *w, const char *key, int64_t number)
{
    json_write_key(&w->row, key);
    json_write_int(&w->row, number);
}

static void put_number(struct whole *w, const char *key, double number)
{
    json_write_key(&w->row, key);
    json_write_number(&w->row, number);
}

/* A text that is JSON already; "" and NULL: null. */
static void put_raw(struct whole *w, const char *key, const char *json)
{
    json_write_key(&w->row, key);
    if (json != NULL && *json != '\0')
        json_write_raw(&w->row, json, strlen(json));
    else
        json_write_null(&w->row);
}

static void begin_row(struct whole *w)
{
    api_buffer_reset(&w->row);
    json_open_object(&w->row);
}

static int end_row(struct whole *w)
{
    json_close_object(&w->row);
    api_buffer_add(&w->row, "\n", 1);
    if (w->row.rc != 0)
        return w->row.rc;
    return fwrite(w->row.bytes, 1, w->row.len, w->file) == w->row.len ? 0 : -errno;
}

static void put_id(struct whole *w, const uint8_t id[STORE_ID_BYTES])
{
    char text[API_ID_CHARS];

    api_id_format(id, text);
    put_text(w, "example", text);
}

static void put_hash(struct whole *w, const uint8_t hash[STORE_HASH_BYTES])
{
    char hex[STORE_HASH_CHARS];

    store_hash_hex(hash, hex);
    put_text(w, "sha256", hex);
}

/* ---- models and labels ----------------------------------------------------------------------- */

static int on_model(void *ud, const struct store_model *row)
{
    struct whole *w = ud;

    begin_row(w);
    put_text(w, "name", row->name);
    put_text(w, "kind", row->kind);
    put_raw(w, "settings", row->settings);
    put_int(w, "seq", row->seq);
    put_int(w, "encoder", row->encoder);
    put_int(w, "created_us", row->created_us);
    w->models++;
    return end_row(w);
}

static int on_alias(void *ud, const char *name, int64_t label)
{
    struct whole *w = ud;

    (void)label;
    json_write_string(&w->row, name);
    return 0;
}

static int on_label(void *ud, const struct store_label *row)
{
    struct whole *w = ud;
    char into[STORE_NAME_BYTES_MAX + 1];
    int64_t final = 0;
    int rc = 0;

    begin_row(w);
    put_text(w, "model", w->model);
    put_text(w, "label", row->name);
    put_text(w, "status", row->status);
    if (row->into != 0) {
        rc = store_label_final(w->store, row->id, &final);
        if (rc == 0)
            rc = store_label_name(w->store, final, into);
        put_text(w, "into", rc == 0 ? into : NULL);
    } else {
        json_write_key(&w->row, "aliases");
        json_open_array(&w->row);
        rc = store_alias_of(w->store, row->id, on_alias, w);
        json_close_array(&w->row);
    }
    if (row->score_min >= 0)
        put_number(w, "score_min", row->score_min);
    if (row->payload != NULL)
        put_raw(w, "payload", row->payload);
    put_int(w, "created_us", row->created_us);
    w->labels++;
    return rc != 0 ? rc : end_row(w);
}

/* ---- examples -------------------------------------------------------------------------------- */

static int on_word(void *ud, const struct store_word *word)
{
    struct whole *w = ud;

    json_open_object(&w->row);
    put_text(w, "annotator", word->annotator);
    if (word->label != NULL)
        put_text(w, "label", word->label);
    if (word->against) {
        json_write_key(&w->row, "against");
        json_write_bool(&w->row, true);
    }
    put_number(w, "weight", word->weight);
    if (word->created_us > 0)
        put_int(w, "created_us", word->created_us);
    json_close_object(&w->row);
    w->votes++;
    return 0;
}

static int put_vector(struct whole *w, const struct store_example *row)
{
    uint32_t dim = (uint32_t)(row->vector_bytes / sizeof *row->vector);
    float *numbers = malloc((dim + 1) * sizeof *numbers);

    if (numbers == NULL)
        return -ENOMEM;
    head_embedding_unpack(row->vector, dim, numbers);
    json_write_key(&w->row, "vector");
    json_open_array(&w->row);
    for (uint32_t i = 0; i < dim; i++)
        json_write_float(&w->row, numbers[i]);
    json_close_array(&w->row);
    free(numbers);
    return 0;
}

static void put_target(struct whole *w, const struct store_example *row)
{
    json_write_key(&w->row, "target");
    json_open_array(&w->row);
    for (uint32_t i = 0; i < row->target_len; i++) {
        char name[STORE_NAME_BYTES_MAX + 1] = "";

        (void)store_label_name(w->store, row->target[i].label, name);
        json_open_object(&w->row);
        put_text(w, "label", name);
        put_number(w, "share", row->target[i].value);
        json_close_object(&w->row);
    }
    json_close_array(&w->row);
}

static int on_example(void *ud, const struct store_example *row)
{
    struct whole *w = ud;
    struct head_id id = {0};
    int rc = 0;

    for (int i = 0; i < 8; i++)
        id.hi = id.hi << 8 | row->id[i];
    begin_row(w);
    put_text(w, "model", w->model);
    put_id(w, row->id);
    if (row->vector != NULL) {
        rc = put_vector(w, row);
    } else {
        json_write_key(&w->row, "text");
        json_write_text(&w->row, row->text, row->text_bytes);
    }
    if (row->pair != NULL) {
        json_write_key(&w->row, "text_pair");
        json_write_text(&w->row, row->pair, row->pair_bytes);
    }
    put_text(w, "status", row->status);
    put_target(w, row);
    put_number(w, "weight", row->weight);
    json_write_key(&w->row, "held_out");
    json_write_bool(&w->row, head_held_out(id));
    put_int(w, "first_seq", row->first_seq);
    put_int(w, "last_seq", row->last_seq);
    put_int(w, "created_us", row->created_us);
    json_write_key(&w->row, "votes");
    json_open_array(&w->row);
    if (rc == 0)
        rc = store_word_scan(w->store, row->id, on_word, w);
    json_close_array(&w->row);
    w->examples++;
    return rc == 0 ? end_row(w) : rc;
}

/* ---- runs, versions, encoders ---------------------------------------------------------------- */

static int on_run(void *ud, const struct store_run *row)
{
    struct whole *w = ud;

    begin_row(w);
    put_int(w, "run", row->id);
    put_text(w, "model", w->model);
    put_text(w, "strategy", row->strategy);
    put_raw(w, "settings", row->settings);
    put_text(w, "state", row->state);
    put_text(w, "reason", row->reason);
    put_text(w, "who", row->who);
    put_int(w, "from_seq", row->from_seq);
    put_int(w, "parent", row->parent);
    put_int(w, "encoder", row->encoder);
    put_int(w, "steps", row->steps);
    put_raw(w, "verdict", row->verdict);
    put_int(w, "created_us", row->created_us);
    put_int(w, "started_us", row->started_us);
    put_int(w, "ended_us", row->ended_us);
    w->runs++;
    return end_row(w);
}

static int on_live(void *ud, const struct store_live *row)
{
    struct whole *w = ud;

    begin_row(w);
    put_text(w, "model", w->model);
    put_int(w, "t_us", row->t_us);
    put_int(w, "encoder", row->encoder);
    put_int(w, "seq", row->seq);
    put_int(w, "run", row->run);
    put_text(w, "reason", row->reason);
    return end_row(w);
}

static bool is_there(const struct store_encoder *row)
{
    return strcmp(row->state, "live") == 0 || strcmp(row->state, "held") == 0;
}

static int on_encoder(void *ud, const struct store_encoder *row)
{
    struct whole *w = ud;
    char from[CTL_STATE_BYTES + 64], to[CTL_STATE_BYTES + 64];

    begin_row(w);
    put_int(w, "encoder", row->id);
    put_text(w, "model", w->model);
    put_int(w, "parent", row->parent);
    put_int(w, "run", row->run);
    put_text(w, "origin", row->origin);
    put_text(w, "state", row->state);
    put_hash(w, row->sha256);
    put_int(w, "created_us", row->created_us);
    snprintf(from, sizeof from, "%s/encoders/%lld", w->state, (long long)row->id);
    snprintf(to, sizeof to, "%s/encoders/%lld", w->partial, (long long)row->id);
    if (is_there(row) && access(to, F_OK) != 0) { /* else another model has it, too */
        int rc = store_folder_copy(from, to, w->why, sizeof w->why);

        if (rc != 0)
            return rc;
        w->encoders++;
    }
    return end_row(w);
}

/* ---- files ----------------------------------------------------------------------------------- */

struct each {
    struct whole *whole;
    int (*of_model)(struct whole *w, int64_t model);
    char (*names)[STORE_NAME_BYTES_MAX + 1];
    int64_t *ids;
    uint32_t len;
};

static int note_model(void *ud, const struct store_model *row)
{
    struct each *e = ud;
    void *names = realloc(e->names, (e->len + 1) * sizeof *e->names), *ids;

    if (names == NULL)
        return -ENOMEM;
    e->names = names;
    ids = realloc(e->ids, (e->len + 1) * sizeof *e->ids);
    if (ids == NULL)
        return -ENOMEM;
    e->ids = ids;
    memcpy(e->names[e->len], row->name, sizeof *e->names);
    e->ids[e->len++] = row->id;
    return 0;
}

static int write_models(struct whole *w, int64_t model)
{
    (void)model;
    return w->models == 0 ? store_model_scan(w->store, on_model, w) : 0;
}

static int write_labels(struct whole *w, int64_t model)
{
    return store_label_scan(w->store, model, 0, 0, on_label, w);
}

static int write_examples(struct whole *w, int64_t model)
{
    static const struct store_example_filter all = {0};

    return store_example_scan(w->store, model, &all, -1, on_example, w);
}

static int write_runs(struct whole *w, int64_t model)
{
    const struct store_run_filter filter = {.model = model};

    return store_run_scan(w->store, &filter, on_run, w);
}

static int write_versions(struct whole *w, int64_t model)
{
    return store_live_scan(w->store, model, on_live, w);
}

static int write_encoders(struct whole *w, int64_t model)
{
    return store_encoder_scan(w->store, model, on_encoder, w);
}

static int write_file(struct whole *w, const char *name, struct each *e)
{
    char path[CTL_STATE_BYTES + 64];
    int rc = 0;

    snprintf(path, sizeof path, "%s/%s.ndjson", w->partial, name);
    w->file = fopen(path, "wxe");
    if (w->file == NULL)
        rc = -errno;
    for (uint32_t i = 0; i < e->len && rc == 0; i++) {
        w->model = e->names[i];
        rc = e->of_model(w, e->ids[i]);
    }
    if (rc == 0 && (fflush(w->file) != 0 || fsync(fileno(w->file)) != 0))
        rc = -errno;
    if (w->file != NULL && fclose(w->file) != 0 && rc == 0)
        rc = -errno;
    w->file = NULL;
    if (rc != 0 && w->why[0] == '\0')
        snprintf(w->why, sizeof w->why, "%.300s: %.100s", path,
                 rc == -EUCLEAN || rc == -EIO ? store_why(w->store) : strerror(-rc));
    return rc;
}

static int write_all(struct whole *w)
{
    static const struct {
        const char *name;
        int (*of_model)(struct whole *w, int64_t model);
    } files[] = {{"models", write_models},     {"labels", write_labels},
                 {"examples", write_examples}, {"runs", write_runs},
                 {"versions", write_versions}, {"encoders", write_encoders}};
    struct each e = {.whole = w};
    int rc = store_begin(w->store);

    if (rc == 0)
        rc = store_model_scan(w->store, note_model, &e);
    for (size_t i = 0; i < sizeof files / sizeof *files && rc == 0; i++) {
        e.of_model = files[i].of_model;
        rc = write_file(w, files[i].name, &e);
    }
    store_rollback(w->store);
    free(e.names);
    free(e.ids);
    if (rc != 0 && w->why[0] == '\0')
        snprintf(w->why, sizeof w->why, "%.300s: %.100s", w->state, store_why(w->store));
    return rc;
}

static int fail(struct whole *w, const char *what)
{
    int rc = -errno;

    snprintf(w->why, sizeof w->why, "%.300s: %s", what, strerror(-rc));
    return rc;
}

static int make(struct whole *w)
{
    char path[CTL_STATE_BYTES + 16];
    int rc;

    snprintf(path, sizeof path, "%s/learnd.db", w->state);
    if (access(path, F_OK) != 0)
        return fail(w, path);
    rc = store_open(w->state, STORE_READER, w->why, sizeof w->why, &w->store);
    if (rc != 0)
        return rc;
    w->why[0] = '\0';
    if (access(w->dest, F_OK) == 0) {
        errno = EEXIST;
        return fail(w, w->dest);
    }
    (void)store_folder_remove(w->partial); /* of one that was interrupted */
    snprintf(path, sizeof path, "%s/encoders", w->partial);
    if (mkdir(w->partial, 0700) != 0 || mkdir(path, 0700) != 0)
        return fail(w, w->partial);
    rc = write_all(w);
    if (rc == 0 && rename(w->partial, w->dest) != 0)
        rc = fail(w, w->dest);
    if (rc != 0)
        (void)store_folder_remove(w->partial);
    return rc;
}

enum ctl_exit ctl_export_everything(struct ctl *ctl)
{
    char path[CTL_STATE_BYTES];
    struct whole *w = calloc(1, sizeof *w);
    enum ctl_exit code = CTL_OK;
    int rc;

    if (w == NULL)
        return ctl_no_memory();
    if (ctl->args_len != 1 || strlen(ctl->args[0]) >= sizeof w->partial - 16) {
        free(w);
        return ctl_misused(ctl, "--everything goes into one new folder");
    }
    signal(SIGXFSZ, SIG_IGN);
    w->ctl = ctl;
    w->state = ctl_state(ctl, path);
    w->dest = ctl->args[0];
    snprintf(w->partial, sizeof w->partial, "%s.partial", w->dest);
    rc = make(w);
    if (rc != 0)
        code = ctl_state_failed(w->why, rc);
    else if (!ctl->options.quiet)
        ctl_note(
            "%llu models, %llu labels, %llu examples with %llu votes, %llu runs, %llu encoders "
            "in %s",
            (unsigned long long)w->models, (unsigned long long)w->labels,
            (unsigned long long)w->examples, (unsigned long long)w->votes,
            (unsigned long long)w->runs, (unsigned long long)w->encoders, w->dest);
    store_close(w->store);
    api_buffer_done(&w->row);
    free(w);
    return code;
}
