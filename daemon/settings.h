/* settings.h -- what an operator can set. A flag beats the environment (LEARND_STATE), which beats
 * the config file. */
#ifndef LEARND_SETTINGS_H
#define LEARND_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/front/access.h"
#include "daemon/log.h"

enum {
    SETTINGS_LISTEN_MAX = 8,
    SETTINGS_PATH_BYTES = 1024,
    SETTINGS_MAX = 64,
    SETTINGS_CONNECTIONS = 12000,
};

/* Which answers have a line in the log (front/access_log.h). */
enum log_requests { LOG_REQUESTS_SAMPLED, LOG_REQUESTS_NONE, LOG_REQUESTS_ALL };

struct settings {
    char config[SETTINGS_PATH_BYTES]; /* "" none */
    char state[SETTINGS_PATH_BYTES];
    char encoder[SETTINGS_PATH_BYTES];
    char listen[SETTINGS_LISTEN_MAX][SETTINGS_PATH_BYTES]; /* "ADDR:PORT" or "unix:PATH" */
    uint32_t listen_len;
    bool fp32;                        /* precision */
    char device[SETTINGS_PATH_BYTES]; /* serve/device.h */
    uint32_t lanes;                   /* 0: one a core, two on a device */
    uint32_t loops;                   /* 0: one */
    uint32_t max_tokens;              /* 0: the encoder folder's own */
    bool train_manual;                /* runs start when asked for, and never else */
    uint32_t train_hours;             /* a run on schedule; 0: none */
    uint32_t train_threads;           /* 0: one a core */
    uint32_t train_yield_ms;          /* runs pause while the p99 of requests is above; 0: never */
    int train_from, train_to;         /* minutes of the day in which runs may start; equal: any */
    uint32_t drain_grace_s;           /* not ready, but serving, before it drains */
    uint64_t disk_free_min;           /* bytes; below it nothing is learned. 0: not watched */
    uint32_t retention_days_runs;     /* runs that ended before are forgotten; 0: never */
    uint32_t encoders_kept;           /* of a model, beside the live one */
    char admin_key_file[SETTINGS_PATH_BYTES]; /* "" none */
    struct access_settings access;
    uint32_t connections; /* of all loops together */
    enum log_level log_level;
    enum log_requests log_requests;
    char tensorboard[SETTINGS_PATH_BYTES]; /* where runs are also written; "": nowhere */
    bool check_config, help, version;
    uint64_t given[SETTINGS_MAX]; /* settings.c: what each was given, as a hash; 0: nothing */
};

/* Reads defaults, the file, the environment and the flags. 0 or -EINVAL; `why` then names the
 * setting and where it stands. */
int settings_read(int argc, char **argv, char *why, size_t why_bytes,
                  struct settings *ret_settings);
/* Takes over from `now` what may change while the daemon runs, and tells each setting that was
 * given something else: reloads says whether it was taken over. */
void settings_reload(struct settings *settings, const struct settings *now,
                     void (*tell)(void *ud, const char *name, bool reloads), void *ud);
/* The text of --help. */
const char *settings_help(void);

#endif
