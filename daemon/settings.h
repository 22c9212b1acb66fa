/* settings.h -- what an operator can set. A flag beats the environment (LEARND_STATE), which beats
 * the config file. */
#ifndef LEARND_SETTINGS_H
#define LEARND_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/log.h"

enum { SETTINGS_LISTEN_MAX = 8, SETTINGS_PATH_BYTES = 1024 };

struct settings {
    char config[SETTINGS_PATH_BYTES]; /* "" none */
    char state[SETTINGS_PATH_BYTES];
    char encoder[SETTINGS_PATH_BYTES];
    char listen[SETTINGS_LISTEN_MAX][SETTINGS_PATH_BYTES]; /* "ADDR:PORT" or "unix:PATH" */
    uint32_t listen_len;
    bool fp32;                /* precision */
    uint32_t lanes;           /* 0: one a core */
    uint32_t loops;           /* 0: one */
    uint32_t max_tokens;      /* 0: the encoder folder's own */
    bool train_manual;        /* runs start when asked for, and never else */
    uint32_t train_hours;     /* a run on schedule; 0: none */
    uint32_t train_threads;   /* 0: one a core */
    int train_from, train_to; /* minutes of the day in which runs may start; equal: any */
    uint64_t disk_free_min;   /* bytes; below it nothing is learned. 0: not watched */
    enum log_level log_level;
    bool check_config, help, version;
};

/* Reads defaults, the file, the environment and the flags. 0 or -EINVAL; `why` then names the
 * setting and where it stands. */
int settings_read(int argc, char **argv, char *why, size_t why_bytes,
                  struct settings *ret_settings);
/* The text of --help. */
const char *settings_help(void);

#endif
