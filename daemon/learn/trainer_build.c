/* trainer_build.c -- from trained weights to a pair that could serve: the encoder's folder, then
 * every example embedded anew and learned by an exact head.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/learn/trainer_run.h"
#include "daemon/learn/weights_hash.h"

static int why_errno(struct run *run, const char *what, const char *path, int rc)
{
    snprintf(run->why, sizeof run->why, "%s %.300s: %s", what, path, strerror(-rc));
    return rc;
}

/* ---- files ----------------------------------------------------------------------------------- */

/* needed: its absence is an error. */
static int copy_file(struct run *run, const char *from, const char *to, bool needed)
{
    char block[65536];
    int in = open(from, O_RDONLY | O_CLOEXEC), out, rc = 0;
    ssize_t n = 0;

    if (in < 0)
        return errno == ENOENT && !needed ? 0 : why_errno(run, "cannot read", from, -errno);
    out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (out < 0) {
        rc = why_errno(run, "cannot write", to, -errno);
        close(in);
        return rc;
    }
    while (rc == 0 && (n = read(in, block, sizeof block)) > 0)
        rc = store_file_write_all(out, block, (size_t)n);
    if (n < 0)
        rc = -errno;
    close(in);
    if (close(out) != 0 && rc == 0)
        rc = -errno;
    return rc == 0 ? 0 : why_errno(run, "cannot write", to, rc);
}

/* All that the folder has; the weights only where there are none to be made. */
static int copy_folder(struct run *run, const char *from, const char *to, bool weights)
{
    char source[STORE_PATH_BYTES + 64], target[STORE_PATH_BYTES + 64];
    int rc = 0;

    snprintf(target, sizeof target, "%s/1_Pooling", to);
    if (mkdir(target, 0700) != 0)
        return why_errno(run, "cannot make", target, -errno);
    for (int i = 0; i < ENCODERS_FILES && rc == 0; i++) {
        if (i == ENCODERS_WEIGHTS && !weights)
            continue;
        snprintf(source, sizeof source, "%s/%s", from, encoders_files[i]);
        snprintf(target, sizeof target, "%s/%s", to, encoders_files[i]);
        rc = copy_file(run, source, target, i <= ENCODERS_WEIGHTS);
    }
    snprintf(target, sizeof target, "%s/1_Pooling", to);
    (void)rmdir(target); /* there was nothing for it */
    return rc;
}

static int write_piece(void *ud, const void *bytes, size_t len)
{
    return store_file_write_all(*(int *)ud, bytes, len);
}

static int write_weights(struct run *run, const char *folder)
{
    char path[STORE_PATH_BYTES + 64];
    int fd, rc;

    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return why_errno(run, "cannot write", path, -errno);
    rc = train_weights_write(run->train, write_piece, &fd);
    if (close(fd) != 0 && rc == 0)
        rc = -errno;
    return rc == 0 ? 0 : why_errno(run, "cannot write", path, rc);
}

/* A finished folder gets its number: the row first, then the files in its place. */
static int install(struct run *run, const char *tmp)
{
    struct store_encoder row = {.model = run->model,
                                .parent = run->start != NULL ? run->start->number : -1,
                                .run = run->id,
                                .origin = run->strategy};
    const char *folder = run->trainer->parts.learner.folder;
    struct held_encoder *held = NULL;
    int rc = weights_hash(tmp, run->why, sizeof run->why, row.sha256);

    row.created_us = clock_unix_us();
    if (rc == 0)
        rc = encoders_load(run->trainer->parts.learner.encoders, tmp, -run->id - 1, run->why,
                           sizeof run->why, &held); /* it opens, or it gets no number */
    if (rc != 0)
        return rc;
    row.dim = held->dim;
    encoders_put(held);
    encoders_sweep(run->trainer->parts.learner.encoders);
    rc = run_keep_encoder(run, &row);
    if (rc != 0)
        return why_errno(run, "the store refused", "the new encoder", rc);
    if (run->encoder == 0)
        return 0; /* the weights are the base's */
    return store_encoder_install(folder, tmp, run->encoder, run->why, sizeof run->why);
}

static int make(struct run *run, const char *from, bool weights)
{
    char tmp[STORE_PATH_BYTES];
    int rc =
        store_encoder_begin(run->trainer->parts.learner.folder, run->why, sizeof run->why, tmp);

    if (rc != 0)
        return rc;
    rc = copy_folder(run, from, tmp, weights);
    if (rc == 0 && !weights)
        rc = write_weights(run, tmp);
    if (rc == 0)
        rc = install(run, tmp);
    if (rc != 0 || run->encoder == 0)
        (void)store_encoder_abandon(tmp);
    return rc;
}

int run_write(struct run *run)
{
    return make(run, run->start_folder, false);
}

int run_import(struct run *run)
{
    return make(run, run->settings.folder, true);
}

/* ---- heads ----------------------------------------------------------------------------------- */

struct opening {
    struct trainer *trainer;
    struct held_encoder *encoder;
    int64_t model;
    struct learned *learned;
};

static int open_learned(void *ud, const struct store_model *row)
{
    struct opening *o = ud;

    if (row->id != o->model)
        return 0;
    return learned_open(&o->trainer->parts.learner, row, o->encoder, LEARNED_CANDIDATE,
                        &o->learned);
}

/* What is wanted of a twin: all of the journal, the pool fitted, the labels audited. */
static int finish_twin(struct trainer *t, struct run *run, struct learned *l)
{
    struct learned_round round = {.more = true};
    int64_t last = 0;
    int rc = store_seq(t->parts.learner.store, &last);

    while (rc == 0 && round.more) {
        rc = run != NULL ? run_checked(run) : 0;
        if (rc == 0)
            rc = learned_catch_up(l, &t->parts.learner, &round);
        if (rc == 0 && run != NULL && clock_us() - run->told_us > 1000000)
            run_keep_progress(run, run->phase, (uint64_t)l->applied, (uint64_t)last);
    }
    if (rc == 0)
        rc = learned_settle(l, &t->parts.learner, &round);
    while (rc == 0 && !l->audited) {
        rc = run != NULL ? run_checked(run) : 0;
        if (rc == 0)
            rc = learned_audit(l, &t->parts.learner, &round);
    }
    return rc;
}

int trainer_twin(struct trainer *t, struct run *run, int64_t model, struct held_encoder *encoder,
                 struct learned **ret_learned)
{
    struct opening o = {t, encoder, model, NULL};
    int rc = store_begin(t->parts.learner.store);

    if (rc == 0) {
        rc = store_model_scan(t->parts.learner.store, open_learned, &o);
        store_rollback(t->parts.learner.store);
    }
    if (rc == 0 && o.learned == NULL)
        rc = -ENOENT;
    if (rc == 0)
        rc = finish_twin(t, run, o.learned);
    if (rc != 0) {
        learned_close(o.learned);
        return rc;
    }
    *ret_learned = o.learned;
    return 0;
}

int run_rebuild(struct run *run)
{
    struct trainer *t = run->trainer;
    struct learned_round round = {.more = true};
    struct held_encoder *held = NULL;
    int rc =
        encoders_get(t->parts.learner.encoders, run->encoder, run->why, sizeof run->why, &held);

    run->progress.eta_s = NAN;
    if (rc == 0) {
        rc = trainer_twin(t, run, run->model, held, &run->new);
        if (rc != 0 && run->why[0] == '\0')
            snprintf(run->why, sizeof run->why, "the head cannot be rebuilt: %s",
                     rc == -EDOM ? "an embedding is not a number" : strerror(-rc));
    }
    encoders_put(held);
    while (rc == 0 && round.more) /* the twin of the old pair sees the same journal */
        rc = learned_catch_up(run->old, &t->parts.learner, &round);
    return rc;
}
