/* api.h -- the native protocol's words: problems, ids, versions, cursors, times. Include this one;
 * it brings the requests and answers with it: api_classify.h (asking), api_feedback.h (teaching),
 * api_labels.h (labels), api_manage.h (models, lists, probes), api_review.h (what annotators look
 * at), api_events.h (what happens), api_runs.h (runs, and the encoders they make).
 *
 * Everything the daemon reads or writes as JSON goes through here: bytes in, one typed request out;
 * one typed answer in, bytes out. The daemon never sees a JSON value.
 *
 *     struct api_classify *ask;
 *     struct api_problem problem;
 *     if (api_parse_classify(body, body_bytes, &ask, &problem) < 0)
 *         return exchange_problem(x, &problem);
 *     ... ask->inputs[0].text ...
 *     api_classify_free(ask);
 *
 * Every parse function: 0 with *ret, or -EINVAL, or -ENOMEM, both with *problem filled and *ret
 * untouched. What a request points to lives until its api_X_free and not longer. Strings named
 * `const char *` alone are NUL-terminated and hold no other NUL; texts come with their length. All
 * is valid UTF-8. Every write function appends to a struct api_buffer and reports through its rc.
 *
 * Threads: any; an object belongs to one thread at a time. Never: a socket, a clock, a log, a
 * global but the allocator.
 */
#ifndef LEARND_API_H
#define LEARND_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/api_buffer.h"

enum {
    API_NAME_BYTES_MAX =
        128, /* model, label, annotator, source, idempotency key, input id: without NUL */
    API_REQUEST_ID_BYTES_MAX = 64,
    API_ID_BYTES = 16,
    API_ID_CHARS = 33,      /* 32 hex digits and NUL */
    API_VERSION_CHARS = 42, /* "E.S" and NUL */
    API_TIME_CHARS = 28,    /* "2026-11-24T02:54:35.123456Z" and NUL */
    API_CURSOR_CHARS = 33,
    API_DIM_MIN = 2, /* of a vector */
    API_DIM_MAX = 4096,
    API_INPUTS_MAX = 256,  /* of one classify or embed */
    API_ITEMS_MAX = 1000,  /* of one feedback */
    API_LABELS_MAX = 1000, /* chosen among, in one classify */
    API_TOP_K_MAX = 1000,
    API_LIMIT_DEFAULT = 100, /* rows of a list */
    API_LIMIT_MAX = 1000,
};

/* Why a request was refused, as RFC 9457 says it. Words used by proto itself:
 *   400 malformed_json invalid_utf8 duplicate_field too_deep
 *   413 too_many_values
 *   422 unknown_field wrong_type missing_field conflicting_fields empty_text out_of_range
 * invalid_value invalid_name invalid_id invalid_version invalid_cursor too_many_inputs
 * too_many_items kind_unsupported immutable_field 503 out_of_memory The daemon adds its own:
 * unknown_model, unknown_label, text_too_long, queue_full ... `detail` never holds what was sent.
 */
struct api_problem {
    int status;
    const char *code; /* static */
    char field[96]; /* "inputs[3].text"; "" if it is about no field. An unknown field's name is cut
                       to fit */
    char detail[160];
};

/* Fills *problem; detail is printf-like. Returns -EINVAL, so that `return api_problem_set(...)`
 * reads well. */
int api_problem_set(struct api_problem *problem, int status, const char *code, const char *field,
                    const char *detail, ...) __attribute__((format(printf, 5, 6)));
/* application/problem+json. request_id may be NULL. Written even if problem->code is NULL
 * ("error"). */
void api_write_problem(struct api_buffer *buffer, const struct api_problem *problem,
                       const char *request_id);
/* The reason phrase of RFC 9110 for the statuses in use; "Error" for others. */
const char *api_status_title(int status);

/* 32 lower-case hex digits. Reading takes upper case too; -EINVAL for anything else. */
int api_id_parse(const char *text, size_t text_bytes, uint8_t ret_id[API_ID_BYTES]);
void api_id_format(const uint8_t id[API_ID_BYTES], char ret_text[API_ID_CHARS]);

/* encoder.seq: which encoder, and the journal up to which event. */
struct api_version {
    int64_t encoder, seq;
};
/* "2.1850": decimal, no sign, no leading zeros. -EINVAL. */
int api_version_parse(const char *text, size_t text_bytes, struct api_version *ret_version);
void api_version_format(struct api_version version, char ret_text[API_VERSION_CHARS]);

/* Where a list goes on. Opaque to clients; `list` is a letter of the caller's for each kind of list
 * and `model` the model's row, so that a cursor of another list or model is refused (422
 * invalid_cursor, field "cursor"). Not a secret. */
struct api_cursor {
    char list;
    int64_t model;
    int64_t after;
};
void api_cursor_format(const struct api_cursor *cursor, char ret_text[API_CURSOR_CHARS]);
/* cursor->list and ->model are what is expected; ->after is filled on success. text NULL or empty:
 * after = start. */
int api_cursor_parse(const char *text, size_t text_bytes, int64_t start, struct api_cursor *cursor,
                     struct api_problem *problem);
/* The query parameter `limit`: 1 .. API_LIMIT_MAX; text NULL: API_LIMIT_DEFAULT. 0 or -EINVAL
 * (out_of_range, field "limit"). */
int api_limit_parse(const char *text, size_t text_bytes, uint32_t *ret_limit,
                    struct api_problem *problem);
/* A query parameter that says yes or no: "true", "1", "" / "false", "0"; text NULL: fallback.
 * invalid_value. */
int api_flag_parse(const char *name, const char *text, size_t text_bytes, bool fallback,
                   bool *ret_flag, struct api_problem *problem);

/* RFC 3339 UTC with microseconds, from Unix microseconds; years 0000 .. 9999, beyond them the
 * nearest. */
void api_time_format(int64_t unix_us, char ret_text[API_TIME_CHARS]);

/* A list: api_list_begin(&b, "labels"); one api_write_label(&b, ..) a row; api_list_end(&b, cursor
 * or NULL). */
void api_list_begin(struct api_buffer *buffer, const char *plural);
void api_list_end(struct api_buffer *buffer, const char *next_cursor);

/* A model's name: 1 .. 128 of [A-Za-z0-9._-], the first a letter or digit. */
bool api_model_name_valid(const char *name, size_t name_bytes);
/* A label, annotator, source or key: 1 .. 128 bytes of UTF-8 without control characters. */
bool api_name_valid(const char *name, size_t name_bytes);

#include "proto/api_classify.h"
#include "proto/api_erase.h"
#include "proto/api_events.h"
#include "proto/api_feedback.h"
#include "proto/api_keys.h"
#include "proto/api_labels.h"
#include "proto/api_manage.h"
#include "proto/api_review.h"
#include "proto/api_runs.h"

#endif
