/* ctl_import.c -- a file of examples, taught.
 *
 * Rows travel as lines of ndjson, a thousand to a request: as many as the daemon names one by one
 * in its answer, so that every rejected row can be told by its line in the file, and the bar shows
 * what is on disk, not what was sent. Memory holds one such request, whatever the size of the file.
 *
 * Each row carries an idempotency key made of its content (with the model and the flags): after a
 * failure the same command is repeated, and what was kept is recognised. So a row that stands twice
 * in a file counts once, and a row that was imported, then changed by other means, is not taught
 * again; --batch WORD goes into the keys for those who want that.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/ctl/ctl_call.h"
#include "daemon/ctl/ctl_sheet.h"
#include "daemon/ctl/ctl_table.h"
#include "daemon/ctl/ctl_whole.h"
#include "proto/api.h"

enum { REQUEST_BYTES = 1 << 20 }; /* beyond this a request is sent, however few its rows */

struct import {
    struct ctl *ctl;
    struct ctl_sheet sheet;
    struct api_buffer body, row;
    uint64_t lines[API_ITEMS_MAX]; /* (len) of the file, of each line of the body */
    size_t len;
    uint64_t accepted, duplicates, rejected;
    char version[API_VERSION_CHARS];
};

/* ---- rejected rows --------------------------------------------------------------------------- */

static enum ctl_exit reject(struct import *m, uint64_t line, const char *code, const char *field,
                            const char *detail)
{
    m->rejected++;
    return ctl_sheet_reject(&m->sheet, line, code, field, detail);
}

static const char *text_or(const struct json_value *value, const char *fallback)
{
    const char *text = json_text(value, NULL);

    return text != NULL ? text : fallback;
}

/* ---- requests -------------------------------------------------------------------------------- */

static enum ctl_exit note(struct import *m, const struct json_value *answer)
{
    const struct json_value *accepted = json_member(answer, "accepted");
    const struct json_value *rejected = json_member(answer, "rejected");
    const char *version = json_text(json_member(answer, "version"), NULL);
    enum ctl_exit code = CTL_OK;

    m->accepted += json_len(accepted);
    for (size_t i = 0; i < json_len(accepted); i++)
        m->duplicates += json_bool(json_member(json_at(accepted, i), "duplicate"), false);
    for (size_t i = 0; i < json_len(rejected) && code == CTL_OK; i++) {
        const struct json_value *one = json_at(rejected, i);
        int64_t index = json_int(json_member(one, "index"), -1);

        code =
            reject(m, index >= 0 && (size_t)index < m->len ? m->lines[index] : 0,
                   text_or(json_member(one, "code"), "error"),
                   text_or(json_member(one, "field"), ""), text_or(json_member(one, "detail"), ""));
    }
    if (version != NULL)
        snprintf(m->version, sizeof m->version, "%s", version);
    return code;
}

/* A busy daemon is asked again: the keys make that safe. */
static enum ctl_exit send_body(struct import *m, struct json_value **ret_answer)
{
    const char *wait = m->ctl->options.wait;
    const char *target =
        wait != NULL && strcmp(wait, "applied") == 0 ? "/v1/feedback?wait=applied" : "/v1/feedback";
    struct json_value *answer = NULL;
    long status = 0;
    enum ctl_exit code =
        ctl_call_again(m->ctl, "POST", target, CTL_NDJSON, &m->body, &status, &answer);

    if (code == CTL_OK && status / 100 == 2) {
        *ret_answer = answer;
        return CTL_OK;
    }
    if (code == CTL_OK) {
        ctl_progress_clear(&m->sheet.progress);
        code = ctl_call_refused(m->ctl, status, answer);
    }
    json_free(answer);
    return code;
}

static enum ctl_exit flush(void *ud)
{
    struct import *m = ud;
    struct json_value *answer = NULL;
    enum ctl_exit code;

    if (m->len == 0)
        return CTL_OK;
    code = send_body(m, &answer);
    if (code == CTL_OK)
        code = note(m, answer);
    json_free(answer);
    api_buffer_reset(&m->body);
    m->len = 0;
    ctl_sheet_show(&m->sheet, m->accepted + m->rejected);
    return code;
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* FNV-1a of 128 bits. No secret and no judge: the daemon compares the items themselves, so two rows
 * that met in one key would be an error that is seen, once in 2^64 rows. */
static void write_key(struct api_buffer *row, const char *batch)
{
    unsigned __int128 hash = ((unsigned __int128)0x6c62272e07bb0142 << 64) | 0x62b821756295c58d;
    const unsigned __int128 prime = ((unsigned __int128)1 << 88) | 0x13b;
    char key[48];

    for (size_t i = 0; i < row->len; i++)
        hash = (hash ^ (unsigned char)row->bytes[i]) * prime;
    for (; batch != NULL && *batch != '\0'; batch++)
        hash = (hash ^ (unsigned char)*batch) * prime;
    snprintf(key, sizeof key, "import-%016llx%016llx", (unsigned long long)(hash >> 64),
             (unsigned long long)hash);
    ctl_write_member(row, "idempotency_key", key);
}

static void write_row(struct import *m, const struct ctl_row *row)
{
    static const char *const names[] = {"text", "label", "text_pair", "annotator", "source"};
    const struct ctl_options *o = &m->ctl->options;
    const char *flags[] = {NULL, NULL, NULL, o->annotator, o->source};

    api_buffer_reset(&m->row);
    json_open_object(&m->row);
    ctl_write_member(&m->row, "model", ctl_model(m->ctl));
    for (int i = CTL_TEXT; i < CTL_WEIGHT; i++) {
        if (row->columns[i].bytes != NULL) {
            json_write_key(&m->row, names[i]);
            json_write_text(&m->row, row->columns[i].bytes, row->columns[i].len);
        } else if (flags[i] != NULL) {
            ctl_write_member(&m->row, names[i], flags[i]);
        }
    }
    if (row->labels != NULL) {
        json_write_key(&m->row, "labels");
        json_write_value(&m->row, row->labels);
    }
    if (row->vector != NULL) {
        json_write_key(&m->row, "vector");
        json_write_value(&m->row, row->vector);
    }
    if (row->has_weight || o->weight >= 0) {
        json_write_key(&m->row, "weight");
        json_write_number(&m->row, row->has_weight ? row->weight : o->weight);
    }
    if (o->no_new_labels) {
        json_write_key(&m->row, "create_labels");
        json_write_bool(&m->row, false);
    }
    write_key(&m->row, o->batch);
    json_close_object(&m->row);
    api_buffer_add(&m->row, "\n", 1);
}

static enum ctl_exit add_row(void *ud, const struct ctl_row *row)
{
    struct import *m = ud;
    enum ctl_exit code = CTL_OK;

    if (row->code != NULL)
        return reject(m, row->line, row->code, row->field, row->detail);
    write_row(m, row);
    if (m->len == API_ITEMS_MAX || (m->len > 0 && m->body.len + m->row.len > REQUEST_BYTES))
        code = flush(m);
    api_buffer_add(&m->body, m->row.bytes, m->row.len);
    if (m->row.rc != 0 || m->body.rc != 0)
        return ctl_no_memory();
    m->lines[m->len++] = row->line;
    return code;
}

/* ---- the command ----------------------------------------------------------------------------- */

/* Returns code, or that there was no memory to say it. */
static enum ctl_exit summarize(const struct import *m, enum ctl_exit code)
{
    struct api_buffer out = API_BUFFER_INIT;

    if (m->ctl->options.json) {
        json_open_object(&out);
        json_write_key(&out, "accepted");
        json_write_int(&out, (int64_t)m->accepted);
        json_write_key(&out, "duplicates");
        json_write_int(&out, (int64_t)m->duplicates);
        json_write_key(&out, "rejected");
        json_write_int(&out, (int64_t)m->rejected);
        json_write_key(&out, "version");
        json_write_string(&out, m->version[0] != '\0' ? m->version : NULL);
        json_close_object(&out);
        if (ctl_print_buffer(&out) != CTL_OK)
            return CTL_FAILED;
    } else if (!m->ctl->options.quiet) {
        printf("%llu accepted, %llu of them known before; %llu rejected\n",
               (unsigned long long)m->accepted, (unsigned long long)m->duplicates,
               (unsigned long long)m->rejected);
    }
    if (code != CTL_OK && m->accepted > 0)
        ctl_note("what was accepted is kept; the same command again goes on from there");
    return code;
}

enum ctl_exit ctl_import(struct ctl *ctl)
{
    static const struct ctl_sheet_acts acts = {add_row, flush};
    struct import m = {.ctl = ctl};
    struct json_value *model = NULL;
    enum ctl_exit code;

    if (ctl->options.everything)
        return ctl_import_everything(ctl);
    code = ctl_sheet_open(ctl, &m.sheet);
    if (code == CTL_OK) /* one word about a wrong name, not one for each row */
        code = ctl_call_model(ctl, &model);
    json_free(model);
    if (code == CTL_OK) {
        code = ctl_sheet_walk(&m.sheet, &acts, &m);
        code = summarize(&m, code);
    }
    ctl_sheet_close(&m.sheet);
    api_buffer_done(&m.body);
    api_buffer_done(&m.row);
    if (code != CTL_OK || m.rejected == 0)
        return code;
    return m.accepted > 0 ? CTL_PARTLY : CTL_REFUSED;
}
