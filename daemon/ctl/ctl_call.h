/* ctl_call.h -- one request to learnd and what came of it, said to the person who waits.
 *
 * Everything that goes wrong is told here, once, with what to do about it; the caller only hands
 * the exit code on. With --json the daemon's problem goes to stderr as it came, as one line.
 */
#ifndef LEARND_CTL_CALL_H
#define LEARND_CTL_CALL_H

#include "daemon/ctl/ctl.h"
#include "proto/api_buffer.h"
#include "proto/json.h"

#define CTL_JSON "Content-Type: application/json"
#define CTL_NDJSON "Content-Type: application/x-ndjson"

/* body NULL: none. CTL_OK for 2xx, with *ret_answer to json_free, NULL if it has no body. Else all
 * is said, *ret_answer untouched. */
enum ctl_exit ctl_call(struct ctl *ctl, const char *method, const char *target,
                       const struct api_buffer *body, struct json_value **ret_answer);
/* The same for one who minds the status: CTL_OK whenever there is JSON, whatever the status.
 * *ret_retry_after_s may be NULL. */
enum ctl_exit ctl_call_any(struct ctl *ctl, const char *method, const char *target,
                           const char *content_type, const struct api_buffer *body,
                           long *ret_status, long *ret_retry_after_s,
                           struct json_value **ret_answer);
/* The same, put again to a daemon that is busy (503), a few times: for what may be done twice. */
enum ctl_exit ctl_call_again(struct ctl *ctl, const char *method, const char *target,
                             const char *content_type, const struct api_buffer *body,
                             long *ret_status, struct json_value **ret_answer);
/* Says a problem document; returns CTL_REFUSED or CTL_FAILED by its status. */
enum ctl_exit ctl_call_refused(struct ctl *ctl, long status, const struct json_value *problem);

/* Says that the daemon was not reached, by an -errno of ctl_http.h; returns CTL_FAILED. */
enum ctl_exit ctl_call_unreachable(const struct ctl *ctl, int rc);

/* The model that is meant, as the daemon describes it; as ctl_call. */
enum ctl_exit ctl_call_model(struct ctl *ctl, struct json_value **ret_model);

/* "code: detail (field)", cleaned. NULL is fine for each. */
void ctl_write_problem(struct api_buffer *out, const char *code, const char *detail,
                       const char *field);

/* The model that is meant. */
const char *ctl_model(const struct ctl *ctl);

/* Builds a target: appended as it is; percent-encoded; or as a parameter behind '?' or '&', not at
 * all if value is NULL. */
void ctl_target(struct api_buffer *target, const char *literal);
void ctl_target_name(struct api_buffer *target, const char *name);
void ctl_target_query(struct api_buffer *target, const char *name, const char *value);
/* NUL-terminated, or NULL without memory. */
const char *ctl_target_end(struct api_buffer *target);

/* One line of JSON on stdout; the buffer is consumed. Not CTL_OK: there was no memory for it. */
enum ctl_exit ctl_print_json(const struct json_value *value);
enum ctl_exit ctl_print_buffer(struct api_buffer *buffer);
enum ctl_exit ctl_no_memory(void);

#endif
