/* trainer_board.c -- a run's numbers for TensorBoard, where the setting `tensorboard` names a
 * folder: DIR/<model>/run-<id>/events.out.tfevents.*, so that TensorBoard lists it as model/run-id.
 *
 * The store keeps a few hundred points of a curve; this has every step. It is a copy for people to
 * look at: whatever goes wrong with it (no such folder, disk full) costs one warning and the rest
 * of the copy, never the run.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/clock.h"
#include "daemon/events.h"
#include "daemon/learn/event_file.h"
#include "daemon/learn/trainer_run.h"
#include "daemon/log.h"

enum { NAME_BYTES = 200 }; /* of a file name's 255 */

static void give_up(struct run *run, int rc)
{
    log_warn("trainer", "event", "tensorboard_failed", "model", run->model_name, "folder",
             run->trainer->parts.tensorboard, "why", strerror(-rc), NULL);
    events_warning(run->trainer->parts.learner.bus, run->model_name, "tensorboard_failed",
                   strerror(-rc));
    event_file_close(run->board);
    run->board = NULL;
    run->board_off = true;
}

static int make_folder(const char *path)
{
    return mkdir(path, 0755) == 0 || errno == EEXIST ? 0 : -errno;
}

/* DIR itself is the operator's to make: a mistyped one is told, not created. */
static int open_board(struct run *run, int64_t now_us)
{
    char name[NAME_BYTES], path[STORE_PATH_BYTES + NAME_BYTES];
    int len, rc;

    event_file_name(run->model_name, name, sizeof name);
    len = snprintf(path, sizeof path, "%s/%s", run->trainer->parts.tensorboard, name);
    if ((size_t)len + 32 > sizeof path)
        return -ENAMETOOLONG;
    rc = make_folder(path);
    snprintf(path + len, sizeof path - (size_t)len, "/run-%lld", (long long)run->id);
    if (rc == 0)
        rc = make_folder(path);
    return rc == 0 ? event_file_open(path, now_us, &run->board) : rc;
}

static void put(struct run *run, uint64_t step, const struct event_scalar *scalars, size_t len)
{
    const char *folder = run->trainer->parts.tensorboard;
    int64_t now_us = clock_unix_us();
    int rc = 0;

    if (folder == NULL || *folder == '\0' || run->board_off)
        return;
    if (run->board == NULL)
        rc = open_board(run, now_us);
    if (rc == 0)
        rc = event_file_put(run->board, now_us, (int64_t)step, scalars, len);
    if (rc != 0)
        give_up(run, rc);
}

void run_board_step(struct run *run, uint64_t step, const struct train_report *r)
{
    const struct event_scalar scalars[] = {
        {"train/loss", r->loss},
        {"train/loss_new", r->loss_new},
        {"train/loss_old", r->loss_old},
        {"train/loss_distill", r->loss_distill},
        {"train/loss_feature", r->loss_feature},
        {"train/lr", r->lr},
        {"train/grad_norm", r->grad_norm},
        {"train/examples_per_second", run->progress.examples_per_s},
    };

    put(run, step, scalars, sizeof scalars / sizeof *scalars);
}

void run_board_gate(struct run *run)
{
    const struct gate_verdict *v = &run->verdict;
    const struct event_scalar scalars[] = {
        {"gate/accepted", v->accepted},         {"gate/items", (double)v->items},
        {"gate/won", (double)v->won},           {"gate/lost", (double)v->lost},
        {"gate/accuracy_old", v->accuracy_old}, {"gate/accuracy_new", v->accuracy_new},
        {"gate/difference_lower", v->lower},    {"gate/brier_old", v->brier_old},
        {"gate/brier_new", v->brier_new},       {"gate/ece_old", v->ece_old},
        {"gate/ece_new", v->ece_new},           {"gate/auroc_old", v->auroc_old},
        {"gate/auroc_new", v->auroc_new},
    };

    put(run, run->steps_done, scalars, sizeof scalars / sizeof *scalars);
}
