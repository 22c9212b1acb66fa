/* ctl.h -- learnctl, the command line of learnd: what its parts share.
 *
 * One process, one thread, one command, one exit code. ctl_main.c holds the table of commands and
 * reads as a summary of the program; a command is a function in one of
 *
 *     ctl_ask.c     classify, embed                      ctl_import.c  import
 *     ctl_teach.c   teach confirm reject withdraw forget ctl_export.c  export
 *     ctl_browse.c  models examples                      ctl_about.c   status, version
 *     ctl_labels.c  labels                               ctl_events.c  events
 *     ctl_review.c  review, next                         ctl_erase.c   erase
 *     ctl_runs.c    train runs cancel                    ctl_eval.c    eval
 *     ctl_keys.c    keys audit
 *     ctl_backup.c  backup, restore                      ctl_doctor.c  doctor
 *     ctl_watch.c   watch                                ctl_annotate.c annotate
 *     ctl_bench.c   bench                                ctl_completion.c completion
 *     ctl_encoders.c versions encoders rollback export-encoder import-encoder
 *
 * Results go to stdout, everything else to stderr. In human form texts of the daemon are cleaned of
 * control characters (ctl_table.h); with --json the daemon's own words are passed on, one object a
 * line. The daemon is reached through ctl_call.h alone, which also says what went wrong, so a
 * command only hands an exit code on.
 */
#ifndef LEARND_CTL_H
#define LEARND_CTL_H

#include "daemon/ctl/ctl_options.h"
#include "daemon/ctl/ctl_say.h"

/* Kept for ever: scripts look at them. */
enum ctl_exit {
    CTL_OK = 0,
    CTL_REFUSED = 1, /* the daemon said no: 4xx, or every item rejected */
    CTL_USAGE = 2,   /* wrong use, or a local file that cannot be read or written */
    CTL_FAILED = 3,  /* the daemon cannot be reached, is not ready, or failed: 5xx */
    CTL_PARTLY = 4,  /* some items were rejected, the others are kept */
    CTL_GATE = 5,    /* the run that was watched was refused by the gate: the old version serves */
    CTL_RUN = 6,     /* it failed or was cancelled */
};

struct ctl_http;

struct ctl {
    const struct ctl_command *command;
    struct ctl_options options;
    char **args; /* (args_len) what is not an option, the command's name excluded */
    int args_len;
    struct ctl_http *http;
};

struct ctl_command {
    const char *name;
    const char *usage;   /* behind the name */
    const char *summary; /* one line */
    const char *help;    /* more of it; "" is fine */
    const char *options; /* words: names of those it takes beside the global ones */
    enum ctl_exit (*run)(struct ctl *ctl);
};

enum ctl_exit ctl_classify(struct ctl *ctl);
enum ctl_exit ctl_embed(struct ctl *ctl);
enum ctl_exit ctl_teach(struct ctl *ctl);
enum ctl_exit ctl_confirm(struct ctl *ctl);
enum ctl_exit ctl_reject(struct ctl *ctl);
enum ctl_exit ctl_withdraw(struct ctl *ctl);
enum ctl_exit ctl_forget(struct ctl *ctl);
enum ctl_exit ctl_erase(struct ctl *ctl);
enum ctl_exit ctl_import(struct ctl *ctl);
enum ctl_exit ctl_export(struct ctl *ctl);
enum ctl_exit ctl_evaluate(struct ctl *ctl);
enum ctl_exit ctl_models(struct ctl *ctl);
enum ctl_exit ctl_labels(struct ctl *ctl);
enum ctl_exit ctl_examples(struct ctl *ctl);
enum ctl_exit ctl_versions(struct ctl *ctl);
enum ctl_exit ctl_encoders(struct ctl *ctl);
enum ctl_exit ctl_rollback(struct ctl *ctl);
enum ctl_exit ctl_export_encoder(struct ctl *ctl);
enum ctl_exit ctl_import_encoder(struct ctl *ctl);
enum ctl_exit ctl_train(struct ctl *ctl);
enum ctl_exit ctl_runs(struct ctl *ctl);
enum ctl_exit ctl_cancel(struct ctl *ctl);
enum ctl_exit ctl_keys(struct ctl *ctl);
enum ctl_exit ctl_audit(struct ctl *ctl);
enum ctl_exit ctl_events(struct ctl *ctl);
enum ctl_exit ctl_review(struct ctl *ctl);
enum ctl_exit ctl_next(struct ctl *ctl);
enum ctl_exit ctl_backup(struct ctl *ctl);
enum ctl_exit ctl_restore(struct ctl *ctl);
enum ctl_exit ctl_doctor(struct ctl *ctl);
enum ctl_exit ctl_watch(struct ctl *ctl);
enum ctl_exit ctl_annotate(struct ctl *ctl);
enum ctl_exit ctl_bench(struct ctl *ctl);
enum ctl_exit ctl_completion(struct ctl *ctl);
enum ctl_exit ctl_status(struct ctl *ctl);
enum ctl_exit ctl_version(struct ctl *ctl);

/* The table of commands; its length. */
size_t ctl_commands(const struct ctl_command **ret_commands);

/* An error of the code "usage", with how the command is used; returns CTL_USAGE, so that
 * `return ctl_misused(...)` reads well. */
enum ctl_exit ctl_misused(const struct ctl *ctl, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
