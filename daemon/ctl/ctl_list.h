/* ctl_list.h -- a list of the daemon, page by page, as rows. */
#ifndef LEARND_CTL_LIST_H
#define LEARND_CTL_LIST_H

#include "daemon/ctl/ctl_call.h"

struct ctl_list {
    struct ctl *ctl;
    const char *plural; /* the list's name in the answer */
    uint64_t rows_max;  /* UINT64_MAX: all */
    uint32_t page_rows;
    void *ud;
    /* Each row. Not CTL_OK stops, and is returned. */
    enum ctl_exit (*row)(void *ud, const struct json_value *row);
    /* After each page; may be NULL. */
    enum ctl_exit (*page)(void *ud);
    bool more; /* filled: there were more than rows_max */
};

/* target: as ctl_target built it, with its query but not ended; consumed. */
enum ctl_exit ctl_list_walk(struct ctl_list *list, struct api_buffer *target);

#endif
