/* ctl_list.c -- see ctl_list.h. */
#include "daemon/ctl/ctl_list.h"

#include <stdio.h>
#include <string.h>

#include "proto/api.h"

struct walk {
    struct ctl_list *list;
    const struct api_buffer *base;
    char cursor[API_CURSOR_CHARS * 2]; /* "" at the start */
    uint64_t rows;
};

static enum ctl_exit get_page(const struct walk *w, struct json_value **ret_answer)
{
    uint64_t left = w->list->rows_max - w->rows;
    struct api_buffer target = API_BUFFER_INIT;
    enum ctl_exit code;
    const char *path;
    char limit[24];

    snprintf(limit, sizeof limit, "%llu",
             (unsigned long long)(left < w->list->page_rows ? left : w->list->page_rows));
    api_buffer_add(&target, w->base->bytes, w->base->len);
    ctl_target_query(&target, "limit", limit);
    ctl_target_query(&target, "cursor", w->cursor[0] != '\0' ? w->cursor : NULL);
    path = ctl_target_end(&target);
    code = path != NULL ? ctl_call(w->list->ctl, "GET", path, NULL, ret_answer) : ctl_no_memory();
    api_buffer_done(&target);
    return code;
}

/* False: that was the last page. */
static bool keep_cursor(struct walk *w, const struct json_value *answer)
{
    const char *next = json_text(json_member(answer, "next_cursor"), NULL);

    w->cursor[0] = '\0';
    if (next != NULL)
        snprintf(w->cursor, sizeof w->cursor, "%s", next);
    return w->cursor[0] != '\0';
}

enum ctl_exit ctl_list_walk(struct ctl_list *list, struct api_buffer *target)
{
    struct walk w = {.list = list, .base = target};
    enum ctl_exit code = CTL_OK;
    bool more = true;

    while (code == CTL_OK && more && w.rows < list->rows_max) {
        struct json_value *answer = NULL;
        const struct json_value *rows;

        code = get_page(&w, &answer);
        rows = json_member(answer, list->plural);
        for (size_t i = 0; i < json_len(rows) && code == CTL_OK; i++, w.rows++)
            code = list->row(list->ud, json_at(rows, i));
        if (code == CTL_OK && list->page != NULL)
            code = list->page(list->ud);
        /* A page without rows is the last one, whatever it says. */
        more = code == CTL_OK && json_len(rows) > 0 && keep_cursor(&w, answer);
        json_free(answer);
    }
    list->more = more;
    api_buffer_done(target);
    return code;
}
