/* ctl_options.h -- the flags of learnctl. One table says name, kind, place and help; a command
 * names those it takes, so that a flag in the wrong place is an error and not a silence.
 *
 * Pure: reads argv and the environment, prints nothing. Strings are borrowed from both.
 */
#ifndef LEARND_CTL_OPTIONS_H
#define LEARND_CTL_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { CTL_AMONG_MAX = 100 };

/* Texts: NULL if not given. Numbers: negative if not given. */
struct ctl_options {
    /* of every command */
    const char *url, *model, *key, *key_file; /* key: only from the environment */
    double timeout_s;
    bool json, quiet, help;
    const char *color;
    /* asking */
    const char *file, *pair, *truncate, *at;
    const char *among[CTL_AMONG_MAX];
    size_t among_len;
    long top, deadline_ms;
    double threshold;
    bool explain, ids, no_store;
    /* teaching */
    const char *wait, *annotator, *source, *request, *example, *text;
    const char *label, *labels[CTL_AMONG_MAX]; /* the last --label; (labels_len) all of them */
    size_t labels_len;
    double weight;
    bool no_new_labels, none;
    /* files */
    const char *format, *text_column, *label_column, *batch, *html;
    /* browsing */
    const char *status, *contains, *kind;
    long limit;
    bool yes;
    /* watching */
    const char *types, *since;
    const char *seed, *random_share; /* as the daemon reads them */
    /* runs */
    const char *strategy, *epochs, *lora_rank, *margin; /* so too */
    bool force, watch;
    /* keys and the trail */
    const char *expires, *before, *by, *action;
    /* a state folder */
    const char *state, *find;
    bool copy, deep, repair, everything, proof;
    /* a load */
    long connections, requests;
    double rate, seconds; /* rate: also of a key */
    const char *dump;
    bool anywhere;
    /* at a terminal */
    bool review;
    double every_s;
};

/* Defaults, then the environment: LEARNCTL_URL, LEARNCTL_MODEL, LEARNCTL_KEY (or
 * LEARND_KEY). */
void ctl_options_init(struct ctl_options *options);
/* Takes the flags out of argv (argc), wherever they stand, and moves the rest to its front; behind
 * "--" nothing is a flag. allowed: a command's words, or NULL for any known flag. 0 with
 * *ret_rest_len, or -EINVAL with why. */
int ctl_options_read(struct ctl_options *options, const char *allowed, int argc, char **argv,
                     int *ret_rest_len, char *why, size_t why_bytes);
/* The i-th flag there is; false: there are no more. */
struct ctl_flag {
    const char *name, *value, *help; /* value NULL: it has none */
    char letter;                     /* '\0': none */
    bool global;
};
bool ctl_options_at(size_t i, struct ctl_flag *ret_flag);
/* Is the name among a command's words? */
bool ctl_options_allow(const char *allowed, const char *name);

/* The help of the allowed flags, or (NULL) of the global ones. */
void ctl_options_help(const char *allowed, FILE *out);

#endif
