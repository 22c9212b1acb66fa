/* ctl_ask.c -- classify and embed: any number of texts, asked in pages.
 *
 * A page is as much as the daemon takes at once (256 texts), or less if they are long. Answers come
 * out page by page, so a long file streams through. Each text is sent with its number as its id,
 * which is how a line of --json is matched to its text.
 */
#include <stdio.h>
#include <string.h>

#include "daemon/ctl/ctl_call.h"
#include "daemon/ctl/ctl_table.h"
#include "daemon/ctl/ctl_texts.h"
#include "proto/api.h"

/* The daemon's limit of a body is 1 MiB; the rest is for what stands around the list. */
enum { PAGE_BYTES = 768 << 10 };

struct asking {
    struct ctl *ctl;
    struct ctl_texts texts;
    struct api_buffer inputs;          /* the list, so far */
    struct api_buffer input;           /* the one that is added */
    struct api_buffer shown;           /* the texts of the page, for people */
    size_t starts[API_INPUTS_MAX + 1]; /* of each in shown; the last is where the next begins */
    size_t len;                        /* texts of the page */
    struct ctl_table *table;
    bool vectors;
};

static void write_input(struct asking *a, const struct ctl_text *text)
{
    char id[24];

    snprintf(id, sizeof id, "%llu", (unsigned long long)text->number);
    api_buffer_reset(&a->input);
    json_open_object(&a->input);
    json_write_key(&a->input, "text");
    json_write_text(&a->input, text->bytes, text->len);
    if (a->ctl->options.pair != NULL) {
        json_write_key(&a->input, "text_pair");
        json_write_string(&a->input, a->ctl->options.pair);
    }
    json_write_key(&a->input, "id");
    json_write_string(&a->input, id);
    json_close_object(&a->input);
}

static void write_question(const struct asking *a, struct api_buffer *body)
{
    const struct ctl_options *o = &a->ctl->options;

    json_open_object(body);
    json_write_key(body, "model");
    json_write_string(body, ctl_model(a->ctl));
    json_write_key(body, "inputs");
    json_open_array(body);
    json_write_raw(body, a->inputs.bytes, a->inputs.len);
    json_close_array(body);
    if (o->truncate != NULL) {
        json_write_key(body, "truncate");
        json_write_string(body, o->truncate);
    }
    if (o->top >= 0) {
        json_write_key(body, "top_k");
        json_write_int(body, o->top);
    }
    if (o->threshold >= 0) {
        json_write_key(body, "threshold");
        json_write_number(body, o->threshold);
    }
    if (o->at != NULL) {
        json_write_key(body, "version");
        json_write_string(body, o->at);
    }
    if (o->deadline_ms >= 0) {
        json_write_key(body, "deadline_ms");
        json_write_int(body, o->deadline_ms);
    }
    if (o->explain) {
        json_write_key(body, "explain");
        json_write_bool(body, true);
    }
    if (o->no_store) {
        json_write_key(body, "store");
        json_write_bool(body, false);
    }
    if (o->among_len > 0) {
        json_write_key(body, "labels");
        json_open_array(body);
        for (size_t i = 0; i < o->among_len; i++)
            json_write_string(body, o->among[i]);
        json_close_array(body);
    }
    json_close_object(body);
}

/* ---- answers --------------------------------------------------------------------------------- */

static int copy_member(void *ud, const char *key, const struct json_value *value)
{
    json_write_key(ud, key);
    json_write_value(ud, value);
    return 0;
}

/* A line a text: the result as it came, with the model and version that the page has in common. */
static enum ctl_exit print_lines(struct asking *a, const struct json_value *answer)
{
    const struct json_value *results = json_member(answer, a->vectors ? "embeddings" : "results");
    enum ctl_exit code = CTL_OK;

    for (size_t i = 0; i < json_len(results) && code == CTL_OK; i++) {
        struct api_buffer line = API_BUFFER_INIT;

        json_open_object(&line);
        copy_member(&line, "model", json_member(answer, "model"));
        copy_member(&line, "version", json_member(answer, "version"));
        if (a->vectors) {
            copy_member(&line, "embedding", json_at(results, i));
            copy_member(&line, "tokens", json_at(json_member(answer, "tokens"), i));
        } else {
            json_each(json_at(results, i), copy_member, &line);
        }
        json_close_object(&line);
        code = ctl_print_buffer(&line);
    }
    return code;
}

static void print_vectors(const struct json_value *answer)
{
    const struct json_value *rows = json_member(answer, "embeddings");

    for (size_t i = 0; i < json_len(rows); i++) {
        const struct json_value *row = json_at(rows, i);

        for (size_t k = 0; k < json_len(row); k++)
            printf("%s%.9g", k > 0 ? " " : "", json_number(json_at(row, k), 0));
        putchar('\n');
    }
}

/* id NULL: the table has no such column. */
static void add_row(struct ctl_table *t, const char *id, const struct json_value *one,
                    const char *number, const char *note, const char *text, size_t len)
{
    const struct json_value *score = json_member(one, number);

    if (id != NULL)
        ctl_table_string(t, id);
    ctl_table_json(t, json_member(one, "label"));
    if (json_kind(score) == JSON_KIND_NONE ||
        json_kind(json_member(one, "label")) == JSON_KIND_NULL)
        ctl_table_string(t, NULL);
    else
        ctl_table_printf(t, "%.2f", json_number(score, 0));
    ctl_table_string(t, note);
    ctl_table_cell(t, text, len);
}

/* The answer, then (with --top or --threshold) what else it could be, then (with --explain) what it
 * is like. */
static void add_result(struct asking *a, const struct json_value *result, const char *text,
                       size_t len)
{
    const struct json_value *labels = json_member(result, "labels");
    const struct json_value *because = json_member(result, "because");
    const char *best = json_text(json_member(result, "label"), NULL);
    const char *id = json_text(json_member(result, "request_id"), NULL), *more = "";
    /* Several labels that nobody asked for are a set (kind multi). */
    bool chosen = a->ctl->options.top >= 0 || a->ctl->options.threshold >= 0;

    if (!a->ctl->options.ids)
        id = more = NULL;
    else if (id == NULL)
        id = "-";
    add_row(a->table, id, result, "score",
            json_bool(json_member(result, "abstain"), false) ? "unsure" : "", text, len);
    for (size_t i = 0; i < json_len(labels); i++) {
        const struct json_value *one = json_at(labels, i);
        const char *name = json_text(json_member(one, "label"), NULL);

        if (best == NULL || name == NULL || strcmp(best, name) != 0)
            add_row(a->table, more, one, "score", chosen ? "or" : "and", "", 0);
    }
    for (size_t i = 0; i < json_len(because); i++) {
        const struct json_value *one = json_at(because, i);
        size_t bytes = 0;
        const char *like = json_text(json_member(one, "text"), &bytes);

        add_row(a->table, more, one, "similarity", "like", like, bytes);
    }
}

static enum ctl_exit print_answer(struct asking *a, const struct json_value *answer)
{
    const struct json_value *results = json_member(answer, "results");

    if (a->ctl->options.json)
        return print_lines(a, answer);
    if (a->vectors) {
        print_vectors(answer);
        return CTL_OK;
    }
    for (size_t i = 0; i < json_len(results) && i < a->len; i++)
        add_result(a, json_at(results, i), a->shown.bytes + a->starts[i],
                   a->starts[i + 1] - a->starts[i]);
    return ctl_table_flush(a->table) == 0 ? CTL_OK : ctl_no_memory();
}

/* ---- pages ----------------------------------------------------------------------------------- */

static enum ctl_exit ask_page(struct asking *a)
{
    struct api_buffer body = API_BUFFER_INIT;
    struct json_value *answer = NULL;
    enum ctl_exit code;

    if (a->inputs.rc != 0 || a->shown.rc != 0)
        return ctl_no_memory();
    write_question(a, &body);
    code = ctl_call(a->ctl, "POST", a->vectors ? "/v1/embed" : "/v1/classify", &body, &answer);
    if (code == CTL_OK)
        code = print_answer(a, answer);
    json_free(answer);
    api_buffer_done(&body);
    api_buffer_reset(&a->inputs);
    api_buffer_reset(&a->shown);
    a->len = 0;
    return code;
}

/* Adds a text to the page, and asks first what is there if the two would be too much. */
static enum ctl_exit add(struct asking *a, const struct ctl_text *text)
{
    enum ctl_exit code = CTL_OK;

    write_input(a, text);
    if (a->len == API_INPUTS_MAX || (a->len > 0 && a->inputs.len + a->input.len > PAGE_BYTES))
        code = ask_page(a);
    if (code != CTL_OK)
        return code;
    json_write_raw(&a->inputs, a->input.bytes, a->input.len);
    api_buffer_add(&a->shown, text->bytes, text->len);
    a->starts[++a->len] = a->shown.len;
    return a->input.rc == 0 ? CTL_OK : ctl_no_memory();
}

static enum ctl_exit ask_all(struct asking *a)
{
    struct ctl_text text;
    bool any = true, none = true;
    enum ctl_exit code = CTL_OK;

    while (code == CTL_OK && any) {
        code = ctl_texts_next(&a->texts, &text, &any);
        if (code == CTL_OK && any) {
            code = add(a, &text);
            none = false;
        }
    }
    if (code == CTL_OK && none)
        return ctl_misused(a->ctl, "there is no text");
    return code == CTL_OK ? ask_page(a) : code;
}

static enum ctl_exit ask(struct ctl *ctl, bool vectors)
{
    static const char *const heads[] = {"request", "label", "score", "", "text"};
    bool ids = ctl->options.ids;
    struct asking a = {.ctl = ctl, .vectors = vectors};
    enum ctl_exit code = ctl_texts_open(ctl, 0, &a.texts);

    if (code == CTL_OK && ctl_table_open(stdout, heads + !ids, &"llrll"[!ids], &a.table) != 0)
        code = ctl_no_memory();
    if (code == CTL_OK)
        code = ask_all(&a);
    ctl_table_close(a.table);
    ctl_texts_close(&a.texts);
    api_buffer_done(&a.inputs);
    api_buffer_done(&a.input);
    api_buffer_done(&a.shown);
    return code;
}

enum ctl_exit ctl_classify(struct ctl *ctl)
{
    return ask(ctl, false);
}

enum ctl_exit ctl_embed(struct ctl *ctl)
{
    return ask(ctl, true);
}
