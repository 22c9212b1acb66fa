/* api_runs.h -- runs that fine-tune an encoder, and the encoders they make. See api.h.
 *
 * A run's settings, progress and verdict are kept by the store as the texts that the writers here
 * write, and shown as such inside its row.
 */
#ifndef LEARND_API_RUNS_H
#define LEARND_API_RUNS_H

#include "proto/api.h"

enum {
    API_FOLDER_BYTES_MAX = 1023,
    API_RUN_EXAMPLES_MIN = 20, /* with a target; fewer teach an encoder nothing */
    API_RUN_METRICS = 200,     /* points of a curve */
    API_PIECE_BYTES_MAX = 4 << 20,
};

enum api_strategy { API_JOINT, API_REPLAY, API_HEAD, API_NAIVE, API_IMPORT };
const char *api_strategy_name(enum api_strategy strategy);

enum api_lora_targets { API_LORA_ALL, API_LORA_QV };

/* What a run does. Defaults by strategy; those of replay alone are 0 elsewhere. */
struct api_run_settings {
    enum api_strategy strategy;         /* joint */
    double epochs;                      /* 0.01 .. 100; 4 */
    uint64_t steps_max;                 /* 0 .. 1e7; 0: what the epochs need */
    double minutes_max;                 /* 0 .. 10,080; 0: no end */
    uint32_t batch;                     /* 1 .. 1,024; 32 */
    double lr;                          /* 1e-7 .. 0.1; 1e-4, with lora 5e-4, replay 5e-5 */
    double head_lr;                     /* 1e-7 .. 1; 1e-3 */
    double dropout;                     /* 0 .. 0.9; 0.1 */
    uint64_t seed;                      /* 0 .. 2^53 - 1; 1 */
    bool lora;                          /* no: every weight is trained */
    uint32_t lora_rank;                 /* 1 .. 256; 8 */
    double lora_alpha;                  /* 0.1 .. 1,024; 16 */
    enum api_lora_targets lora_targets; /* all */
    double alpha;                       /* of replay: 0 .. 100; 1 */
    double distill;                     /* of replay: 0 .. 100; 0.5 */
    double temperature;                 /* of replay: 0.1 .. 100; 2 */
    double feature;                     /* of replay: 0 .. 100; 0.1 */
    uint64_t examples_max;              /* 0 .. 1e9; 0: all */
    double margin; /* of the gate, a share, 0 .. 1; negative: its default, null */
    bool force;    /* swap whatever the gate says */
    char folder[API_FOLDER_BYTES_MAX + 1]; /* import: absolute; "" else */
};

/* Body of POST ../runs: every field is optional. 0 with *ret_settings. conflicting_fields: a field
 * that the strategy has no use for. */
int api_parse_run(const char *body, size_t body_bytes, struct api_run_settings *ret_settings,
                  struct api_problem *problem);
/* Body of POST ../import: {"folder","margin"?,"force"?}. */
int api_parse_import(const char *body, size_t body_bytes, struct api_run_settings *ret_settings,
                     struct api_problem *problem);
/* What the store keeps, and what it kept. 0, -EINVAL (damaged or of a newer program), -ENOMEM. */
void api_write_run_settings(struct api_buffer *buffer, const struct api_run_settings *settings);
int api_run_settings_parse(const char *text, size_t text_bytes,
                           struct api_run_settings *ret_settings);

/* How it is getting on. Numbers that are not finite are null. */
struct api_run_progress {
    double loss, lr, grad_norm, examples_per_s;
    double eta_s; /* to the end of this phase */
    uint64_t examples, held_out;
    uint32_t labels;
    bool resumed;       /* after a restart */
    uint64_t yields;    /* pauses for the sake of requests, */
    double yield_s;     /* and how long they were in all */
    const char *device; /* that it trains on; NULL: null */
};
void api_write_run_progress(struct api_buffer *buffer, const struct api_run_progress *progress);

/* What the gate said. */
struct api_run_loss {
    const char *label;
    uint64_t items, lost, won;
    double p, p_adjusted;
};
struct api_run_verdict {
    bool accepted, forced;
    const char *const *reasons; /* (reasons_len) stable words: what spoke against it */
    uint32_t reasons_len;
    uint64_t items, lost, won;
    double accuracy_old, accuracy_new, difference, lower, margin, p, visible;
    double brier_old, brier_new, brier_lower, ece_old, ece_new, auroc_old, auroc_new, latency_ratio;
    uint32_t labels_tested;
    const struct api_run_loss *losses; /* (losses_len) labels that lost recall significantly */
    uint32_t losses_len;
};
void api_write_run_verdict(struct api_buffer *buffer, const struct api_run_verdict *verdict);

struct api_run {
    int64_t run;
    const char *model, *strategy, *state, *phase, *who;
    uint64_t seed;
    int64_t step, steps;
    bool cancel;
    int64_t from_seq; /* 0: null, not started */
    int64_t since_seq, parent;
    int64_t encoder;                                      /* negative: null */
    const char *settings, *progress, *verdict;            /* JSON texts; NULL or "": null */
    const char *reason;                                   /* "": null */
    int64_t created_us, started_us, ended_us, updated_us; /* 0: null */
};
struct api_run_metric {
    int64_t step;
    double loss, grad_norm, lr;
    int64_t time_us;
};
/* metrics (metrics_len) thinned to API_RUN_METRICS, first and last kept; NULL: the row of a list,
 * which has none. */
void api_write_run(struct api_buffer *buffer, const struct api_run *run,
                   const struct api_run_metric *metrics, uint32_t metrics_len);

/* The digits of a run's number. -EINVAL. */
int api_run_id_parse(const char *text, size_t text_bytes, int64_t *ret_run);
/* The query parameter `state`: states with ',' between them, given as words with spaces between;
 * text NULL: "". invalid_value. */
int api_run_states_parse(const char *text, size_t text_bytes, char ret_states[96],
                         struct api_problem *problem);

/* ---- encoders -------------------------------------------------------------------------------- */

struct api_encoder_row {
    int64_t encoder, parent, run; /* parent, run: negative: null */
    const char *origin, *state;
    bool live;             /* serves this model now */
    uint32_t dim;          /* 0: null */
    const uint8_t *sha256; /* (32) */
    const char *verdict;   /* of its run, JSON text; NULL: null. Shown in short as `gate` */
    int64_t created_us;
};
/* {"versions":[..],"encoders":[..],"next_cursor"}: begin, rows of versions, encoders, rows of them,
 * end. */
void api_versions_begin(struct api_buffer *buffer);
void api_versions_encoders(struct api_buffer *buffer);
void api_write_encoder(struct api_buffer *buffer, const struct api_encoder_row *encoder);
void api_versions_end(struct api_buffer *buffer, const char *next_cursor);

/* {"version"} or {"encoder"}: exactly one. */
int api_parse_rollback(const char *body, size_t body_bytes, int64_t *ret_encoder,
                       struct api_problem *problem);
struct api_rollback {
    const char *model;
    struct api_version version; /* that answers, once it is live */
    bool live;                  /* it does already */
};
void api_write_rollback(struct api_buffer *buffer, const struct api_rollback *rollback);

/* A time of a query, RFC 3339 with an offset or Z. 0 or -EINVAL (invalid_value, field name). */
int api_time_parse(const char *name, const char *text, size_t text_bytes, int64_t *ret_unix_us,
                   struct api_problem *problem);
/* A whole number of a query, min .. max; text NULL: fallback. out_of_range. */
int api_number_parse(const char *name, const char *text, size_t text_bytes, int64_t min,
                     int64_t max, int64_t fallback, int64_t *ret_number,
                     struct api_problem *problem);

/* The files of an encoder: {"encoder","files":[..]}. begin, files, end. */
void api_files_begin(struct api_buffer *buffer, int64_t encoder);
void api_write_file(struct api_buffer *buffer, const char *name, int64_t bytes,
                    const uint8_t sha256[32]);
void api_files_end(struct api_buffer *buffer);

#endif
