/* ctl_browse.h -- what the commands that list and change things share: a list shown as a table or
 * as JSON, and one request whose answer is a row of such a list.
 */
#ifndef LEARND_CTL_BROWSE_H
#define LEARND_CTL_BROWSE_H

#include "daemon/ctl/ctl_call.h"
#include "daemon/ctl/ctl_table.h"

/* A kind of list: its table, and a function that adds one row's cells. */
struct ctl_kind {
    const char *plural, *align;
    const char *const *heads;
    void (*cells)(struct ctl_table *table, const struct json_value *row);
    uint64_t rows_default; /* without --limit */
};

/* /v1/models/{the model}tail */
struct api_buffer ctl_of_model(const struct ctl *ctl, const char *tail);
/* The list at target, which is consumed. */
enum ctl_exit ctl_browse(struct ctl *ctl, const struct ctl_kind *kind, struct api_buffer *target);
/* One request about target, which is consumed, and its answer, if it has one. */
enum ctl_exit ctl_change(struct ctl *ctl, const char *method, struct api_buffer *target,
                         const struct api_buffer *body, const struct ctl_kind *kind);

#endif
