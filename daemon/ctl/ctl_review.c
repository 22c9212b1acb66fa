/* ctl_review.c -- review and next: what annotators look at. */
#include <stdio.h>

#include "daemon/ctl/ctl_list.h"
#include "daemon/ctl/ctl_table.h"

enum { ROWS_DEFAULT = 20, PAGE_ROWS = 1000 };

struct showing {
    struct ctl_table *table; /* NULL: JSON */
    void (*cells)(struct ctl_table *table, const struct json_value *row);
};

static enum ctl_exit on_row(void *ud, const struct json_value *row)
{
    struct showing *s = ud;

    if (s->table == NULL)
        return ctl_print_json(row);
    s->cells(s->table, row);
    return CTL_OK;
}

static enum ctl_exit on_page(void *ud)
{
    struct showing *s = ud;

    return s->table == NULL || ctl_table_flush(s->table) == 0 ? CTL_OK : ctl_no_memory();
}

/* Shows the items of /v1/models/{the model}tail, with the query that is at hand. */
static enum ctl_exit show(struct ctl *ctl, const char *tail, const char *const *heads,
                          const char *align,
                          void (*cells)(struct ctl_table *, const struct json_value *))
{
    const struct ctl_options *o = &ctl->options;
    struct showing s = {.cells = cells};
    struct api_buffer target = API_BUFFER_INIT;
    struct ctl_list list = {.ctl = ctl,
                            .plural = "items",
                            .rows_max = o->limit < 0    ? ROWS_DEFAULT
                                        : o->limit == 0 ? UINT64_MAX
                                                        : (uint64_t)o->limit,
                            .page_rows = PAGE_ROWS,
                            .ud = &s,
                            .row = on_row,
                            .page = on_page};
    enum ctl_exit code;

    if (ctl->args_len > 0)
        return ctl_misused(ctl, "\"%.40s\" is too much", ctl->args[0]);
    if (!o->json && ctl_table_open(stdout, heads, align, &s.table) != 0)
        return ctl_no_memory();
    ctl_target(&target, "/v1/models/");
    ctl_target_name(&target, ctl_model(ctl));
    ctl_target(&target, tail);
    ctl_target_query(&target, "kind", o->kind);
    ctl_target_query(&target, "seed", o->seed);
    ctl_target_query(&target, "random_share", o->random_share);
    code = ctl_list_walk(&list, &target);
    if (code == CTL_OK && list.more && !o->quiet)
        ctl_note("there are more; --limit N shows N of them, --limit 0 all");
    ctl_table_close(s.table);
    return code;
}

/* A twin stands in a row of its own below its example; an annotator stands where a text would. */
static void review_cells(struct ctl_table *t, const struct json_value *row)
{
    const struct json_value *twin = json_member(row, "twin");
    const struct json_value *share = json_member(row, "share");

    ctl_table_json(t, json_member(row, "kind"));
    ctl_table_json(t, json_member(row, "label"));
    ctl_table_json(t, json_member(row, "other"));
    ctl_table_json(t, share != NULL ? share : json_member(row, "margin"));
    ctl_table_json(t, json_member(row, share != NULL ? "examples" : "annotators"));
    ctl_table_json(t, json_member(row, "example"));
    ctl_table_json(t, json_member(row, share != NULL ? "annotator" : "text"));
    if (twin == NULL)
        return;
    ctl_table_string(t, "its twin");
    ctl_table_json(t, json_member(row, "other"));
    ctl_table_json(t, json_member(row, "label"));
    ctl_table_string(t, NULL);
    ctl_table_string(t, NULL);
    ctl_table_json(t, json_member(twin, "example"));
    ctl_table_json(t, json_member(twin, "text"));
}

enum ctl_exit ctl_review(struct ctl *ctl)
{
    static const char *const heads[] = {"kind",  "label",   "or",  "margin",
                                        "votes", "example", "text"};

    return show(ctl, "/review", heads, "lllrrll", review_cells);
}

static void next_cells(struct ctl_table *t, const struct json_value *row)
{
    ctl_table_json(t, json_member(row, "why"));
    ctl_table_json(t, json_member(row, "label"));
    ctl_table_printf(t, "%.2f", json_number(json_member(row, "score"), 0));
    ctl_table_printf(t, "%.1f", json_number(json_member(row, "novelty"), 0));
    ctl_table_json(t, json_member(row, "request_id"));
    ctl_table_json(t, json_member(row, "text"));
}

enum ctl_exit ctl_next(struct ctl *ctl)
{
    static const char *const heads[] = {"why", "label", "score", "novelty", "request", "text"};

    return show(ctl, "/next", heads, "llrrll", next_cells);
}
