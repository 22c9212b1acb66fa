/* ctl_queue.c -- see ctl_queue.h. */
#include "daemon/ctl/ctl_queue.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/ctl/ctl_call.h"
#include "daemon/ctl/ctl_http.h"
#include "daemon/ctl/ctl_list.h"
#include "daemon/ctl/ctl_table.h"

enum { ITEMS = 50, PAUSE_MS = 250, PAUSE_MS_MAX = 4000 };

void ctl_queue_say(struct ctl_queue *q, bool failed, const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    q->failed = failed;
    api_buffer_reset(&q->said);
    ctl_clean(&q->said, text, strlen(text));
    api_buffer_add(&q->said, "", 1);
}

/* ---- one request, until it is answered ------------------------------------------------------- */

/* Away: no connection, or an answer that asks to come again. */
static bool is_away(int rc, long status)
{
    return rc != 0 || status == 502 || status == 503 || status == 429;
}

/* CTL_OK with any other answer; *ret_answer may be NULL. CTL_FAILED: gave up. */
static enum ctl_exit exchange(struct ctl_queue *q, const char *method, const char *target,
                              const struct api_buffer *body, long *ret_status,
                              struct json_value **ret_answer)
{
    int ms = PAUSE_MS;

    for (;;) {
        struct ctl_answer answer = {.body = API_BUFFER_INIT};
        char why[200];
        int rc = ctl_http_send(q->ctl->http, method, target, CTL_JSON, body, &answer);

        if (!is_away(rc, answer.status)) {
            struct json_value *root = NULL;

            if (answer.body.len > 0)
                rc = json_parse(answer.body.bytes, answer.body.len, NULL, &root, NULL);
            api_buffer_done(&answer.body);
            *ret_status = answer.status;
            *ret_answer = root;
            return rc == -ENOMEM ? ctl_no_memory() : CTL_OK;
        }
        if (rc == 0)
            snprintf(why, sizeof why, "%s answers %ld", q->ctl->options.url, answer.status);
        else
            snprintf(why, sizeof why, "%s: %.150s", q->ctl->options.url,
                     ctl_http_why(q->ctl->http));
        api_buffer_done(&answer.body);
        if (q->pause(q->ud, why, ms) != 0) {
            ctl_queue_say(q, true, "gave up: %s", why);
            return CTL_FAILED;
        }
        ms = ms * 2 > PAUSE_MS_MAX ? PAUSE_MS_MAX : ms * 2;
    }
}

/* exchange, and what is refused is told. */
static enum ctl_exit ask(struct ctl_queue *q, const char *method, struct api_buffer *target,
                         const struct api_buffer *body, struct json_value **ret_answer)
{
    const char *path = ctl_target_end(target);
    struct json_value *answer = NULL;
    long status = 0;
    enum ctl_exit code = path != NULL && (body == NULL || body->rc == 0)
                             ? exchange(q, method, path, body, &status, &answer)
                             : ctl_no_memory();

    api_buffer_done(target);
    if (code == CTL_OK && status / 100 != 2) {
        const char *problem = json_text(json_member(answer, "code"), NULL);
        const char *detail = json_text(json_member(answer, "detail"), NULL);
        const char *field = json_text(json_member(answer, "field"), NULL);

        ctl_queue_say(q, true, "%s: %s%s%s%s", problem != NULL ? problem : "refused",
                      detail != NULL ? detail : "", field != NULL ? " (" : "",
                      field != NULL ? field : "", field != NULL ? ")" : "");
        json_free(answer);
        return CTL_REFUSED;
    }
    *ret_answer = answer;
    return code;
}

static struct api_buffer of_model(const struct ctl_queue *q, const char *tail)
{
    struct api_buffer target = API_BUFFER_INIT;

    ctl_target(&target, "/v1/models/");
    ctl_target_name(&target, ctl_model(q->ctl));
    ctl_target(&target, tail);
    return target;
}

static struct api_buffer of_example(const char *example)
{
    struct api_buffer target = API_BUFFER_INIT;

    ctl_target(&target, "/v1/examples/");
    ctl_target_name(&target, example);
    return target;
}

/* ---- labels ---------------------------------------------------------------------------------- */

bool ctl_queue_has_label(const struct ctl_queue *q, const char *name)
{
    for (size_t i = 0; i < q->labels_len; i++)
        if (strcmp(q->labels[i], name) == 0)
            return true;
    return false;
}

static enum ctl_exit add_label(struct ctl_queue *q, const char *name)
{
    if (ctl_queue_has_label(q, name))
        return CTL_OK;
    if (q->labels_len == q->labels_room) {
        size_t room = q->labels_room * 2 + 32;
        char **bigger = realloc(q->labels, room * sizeof *bigger);

        if (bigger == NULL)
            return ctl_no_memory();
        q->labels = bigger;
        q->labels_room = room;
    }
    q->labels[q->labels_len] = strdup(name);
    if (q->labels[q->labels_len] == NULL)
        return ctl_no_memory();
    q->labels_len++;
    return CTL_OK;
}

static enum ctl_exit on_label(void *ud, const struct json_value *row)
{
    const char *status = json_text(json_member(row, "status"), NULL);
    const char *name = json_text(json_member(row, "label"), NULL);

    return name != NULL && status != NULL && strcmp(status, "active") == 0 ? add_label(ud, name)
                                                                           : CTL_OK;
}

static enum ctl_exit read_labels(struct ctl_queue *q)
{
    struct ctl_list list = {.ctl = q->ctl,
                            .plural = "labels",
                            .rows_max = UINT64_MAX,
                            .page_rows = 1000,
                            .ud = q,
                            .row = on_label};
    struct api_buffer target = of_model(q, "/labels");

    return ctl_list_walk(&list, &target);
}

/* ---- items ----------------------------------------------------------------------------------- */

static const char *text_of(const struct json_value *row, const char *name)
{
    return json_text(json_member(row, name), NULL);
}

static bool is_known(const struct ctl_queue *q, const char *id)
{
    for (size_t i = 0; i < q->len; i++)
        if (strcmp(q->review ? q->items[i].example : q->items[i].request, id) == 0)
            return true;
    return false;
}

/* What has no text or no id cannot be decided here: vectors, and what is said of an annotator. */
static enum ctl_exit add_item(struct ctl_queue *q, const struct json_value *row)
{
    struct ctl_item item = {.request = q->review ? NULL : text_of(row, "request_id"),
                            .example = q->review ? text_of(row, "example") : NULL,
                            .text = text_of(row, "text"),
                            .pair = text_of(row, "text_pair"),
                            .label = text_of(row, "label"),
                            .other = text_of(row, "other"),
                            .why = text_of(row, q->review ? "kind" : "why"),
                            .votes = json_member(row, "votes")};
    const char *id = q->review ? item.example : item.request;

    if (item.text == NULL || id == NULL || is_known(q, id))
        return CTL_OK;
    if (q->len == q->room) {
        size_t room = q->room * 2 + 64;
        struct ctl_item *bigger = realloc(q->items, room * sizeof *bigger);

        if (bigger == NULL)
            return ctl_no_memory();
        q->items = bigger;
        q->room = room;
    }
    q->items[q->len++] = item;
    return CTL_OK;
}

/* Takes a page over. */
static enum ctl_exit add_page(struct ctl_queue *q, struct json_value *page, size_t room)
{
    struct json_value **bigger = realloc(q->pages, (q->pages_len + 1) * sizeof *bigger);
    const struct json_value *rows = json_member(page, "items");
    enum ctl_exit code = CTL_OK;

    if (bigger == NULL) {
        json_free(page);
        return ctl_no_memory();
    }
    q->pages = bigger;
    q->pages[q->pages_len++] = page;
    for (size_t i = 0, from = q->len; i < json_len(rows) && code == CTL_OK; i++)
        if (q->len - from < room)
            code = add_item(q, json_at(rows, i));
    return code;
}

/* Up to --limit in all (50; 0: until there are none). Those that were skipped would come again:
 * enough are asked for that others come, too. */
static enum ctl_exit more_items(struct ctl_queue *q)
{
    long limit = q->ctl->options.limit < 0 ? ITEMS : q->ctl->options.limit;
    size_t room = limit == 0 ? ITEMS : (size_t)limit > q->len ? (size_t)limit - q->len : 0;
    struct api_buffer target = of_model(q, q->review ? "/review" : "/next");
    struct json_value *page = NULL;
    enum ctl_exit code;
    char text[24];

    if (room == 0) {
        api_buffer_done(&target);
        return CTL_OK;
    }
    snprintf(text, sizeof text, "%zu", q->len + room > 1000 ? (size_t)1000 : q->len + room);
    ctl_target_query(&target, "limit", text);
    if (q->review)
        ctl_target_query(&target, "kind", q->ctl->options.kind);
    if (!q->review)
        ctl_target_query(&target, "seed", q->ctl->options.seed);
    if (!q->review)
        ctl_target_query(&target, "random_share", q->ctl->options.random_share);
    code = ask(q, "GET", &target, NULL, &page);
    return code == CTL_OK ? add_page(q, page, room) : code;
}

/* ---- choices --------------------------------------------------------------------------------- */

static void add_choice(struct ctl_queue *q, const char *name, double score)
{
    if (name == NULL)
        return;
    for (unsigned i = 0; i < q->choices_len; i++) {
        if (strcmp(q->choices[i].name, name) != 0)
            continue;
        if (q->choices[i].score < 0)
            q->choices[i].score = score;
        return;
    }
    if (q->choices_len < CTL_CHOICES_MAX)
        q->choices[q->choices_len++] = (struct ctl_choice){.name = name, .score = score};
}

/* What was taught and what rather, then the model's best, then other labels while there is room. */
static enum ctl_exit find_choices(struct ctl_queue *q, const struct ctl_item *item)
{
    struct api_buffer body = API_BUFFER_INIT, target = API_BUFFER_INIT;
    const struct json_value *labels;
    enum ctl_exit code;

    json_free(q->answer);
    q->answer = NULL;
    q->choices_len = 0;
    if (q->review) {
        add_choice(q, item->label, -1);
        add_choice(q, item->other, -1);
    }
    json_open_object(&body);
    json_write_key(&body, "model");
    json_write_string(&body, ctl_model(q->ctl));
    json_write_key(&body, "inputs");
    json_open_array(&body);
    json_open_object(&body);
    json_write_key(&body, "text");
    json_write_string(&body, item->text);
    if (item->pair != NULL) {
        json_write_key(&body, "text_pair");
        json_write_string(&body, item->pair);
    }
    json_close_object(&body);
    json_close_array(&body);
    json_write_key(&body, "top_k");
    json_write_int(&body, CTL_CHOICES_MAX);
    json_write_key(&body, "store");
    json_write_bool(&body, false);
    json_close_object(&body);
    ctl_target(&target, "/v1/classify");
    code = ask(q, "POST", &target, &body, &q->answer);
    api_buffer_done(&body);
    labels = json_member(json_at(json_member(q->answer, "results"), 0), "labels");
    for (size_t i = 0; i < json_len(labels); i++)
        add_choice(q, text_of(json_at(labels, i), "label"),
                   json_number(json_member(json_at(labels, i), "score"), -1));
    for (size_t i = 0; i < q->labels_len; i++)
        add_choice(q, q->labels[i], -1);
    return code == CTL_REFUSED ? CTL_OK : code; /* the labels are choice enough */
}

enum ctl_exit ctl_queue_item(struct ctl_queue *q, struct ctl_item **ret_item)
{
    enum ctl_exit code = CTL_OK;

    if (q->at == q->len)
        code = more_items(q);
    if (code != CTL_OK)
        return code;
    *ret_item = q->at < q->len ? &q->items[q->at] : NULL;
    return *ret_item != NULL ? find_choices(q, *ret_item) : CTL_OK;
}

/* ---- decisions ------------------------------------------------------------------------------- */

static void write_field(struct api_buffer *body, const char *name, const char *value)
{
    if (value == NULL)
        return;
    json_write_key(body, name);
    json_write_string(body, value);
}

/* What is common to all: model, annotator, source, weight, wait, and the key. */
static void write_common(struct ctl_queue *q, struct api_buffer *body, const struct ctl_item *item,
                         const char *suffix)
{
    const struct ctl_options *o = &q->ctl->options;
    char key[64];

    snprintf(key, sizeof key, "annotate-%s-%zu-%u%s", q->session, (size_t)(item - q->items),
             item->attempts, suffix);
    write_field(body, "model", ctl_model(q->ctl));
    write_field(body, "annotator", o->annotator);
    write_field(body, "source", o->source != NULL ? o->source : "annotate");
    write_field(body, "idempotency_key", key);
    write_field(body, "wait", o->wait);
    if (o->weight >= 0) {
        json_write_key(body, "weight");
        json_write_number(body, o->weight);
    }
}

static void write_labels(const struct ctl_queue *q, struct api_buffer *body,
                         const char *const *labels, size_t len)
{
    if (!q->multi && len == 1) {
        write_field(body, "label", labels[0]);
        return;
    }
    json_write_key(body, "labels");
    json_open_array(body);
    for (size_t i = 0; i < len; i++)
        json_write_string(body, labels[i]);
    json_close_array(body);
}

struct lesson {
    const char *action; /* NULL: label */
    const char *const *labels;
    size_t labels_len;
    bool create, by_text;
};

static void write_lesson(struct ctl_queue *q, struct api_buffer *body, const struct ctl_item *item,
                         const struct lesson *l)
{
    json_open_object(body);
    if (item->example != NULL)
        write_field(body, "example", item->example);
    else if (!l->by_text)
        write_field(body, "request_id", item->request);
    else
        write_field(body, "text", item->text);
    if (l->by_text)
        write_field(body, "text_pair", item->pair);
    write_field(body, "action", l->action);
    if (l->labels_len > 0 || l->action == NULL)
        write_labels(q, body, l->labels, l->labels_len);
    if (l->action == NULL) {
        json_write_key(body, "create_labels");
        json_write_bool(body, l->create);
    }
    write_common(q, body, item, l->by_text ? "t" : "");
    json_close_object(body);
}

static enum ctl_exit send_lesson(struct ctl_queue *q, struct ctl_item *item, struct lesson *l,
                                 bool *ret_made)
{
    struct json_value *answer = NULL;
    const struct json_value *one;
    enum ctl_exit code;

    item->attempts++;
    for (;;) {
        struct api_buffer body = API_BUFFER_INIT, target = API_BUFFER_INIT;

        write_lesson(q, &body, item, l);
        ctl_target(&target, "/v1/feedback");
        code = ask(q, "POST", &target, &body, &answer);
        api_buffer_done(&body);
        if (code != CTL_REFUSED || l->by_text || item->request == NULL ||
            strncmp(q->said.bytes, "unknown_request", 15) != 0)
            break;
        l->by_text = true;
    }
    q->counts.refused += code == CTL_REFUSED;
    if (code != CTL_OK)
        return code;
    one = json_at(json_member(answer, "accepted"), 0);
    *ret_made = json_bool(json_member(one, "label_created"), false);
    if (text_of(one, "example") != NULL)
        snprintf(item->made, sizeof item->made, "%s", text_of(one, "example"));
    json_free(answer);
    return CTL_OK;
}

static void step(struct ctl_queue *q, enum ctl_decision decision)
{
    q->items[q->at++].decision = decision;
}

enum ctl_exit ctl_queue_label(struct ctl_queue *q, const char *const *labels, size_t len,
                              bool create)
{
    struct ctl_item *item = &q->items[q->at];
    struct lesson l = {.labels = labels, .labels_len = len, .create = create};
    bool made = false;
    enum ctl_exit code = send_lesson(q, item, &l, &made);

    if (code != CTL_OK)
        return code;
    for (size_t i = 0; i < len && code == CTL_OK; i++)
        code = add_label(q, labels[i]);
    q->counts.labelled++;
    q->counts.new_labels += made;
    item->agreed = len == 1 && item->label != NULL && strcmp(item->label, labels[0]) == 0;
    q->counts.agreed += item->agreed;
    ctl_queue_say(q, false, "%s%s%s%s", len > 0 ? labels[0] : "none of the labels",
                  len > 1 ? " and others" : "", made ? ", a new label: " : ": ", item->text);
    step(q, CTL_LABELLED);
    return code;
}

enum ctl_exit ctl_queue_reject(struct ctl_queue *q)
{
    struct ctl_item *item = &q->items[q->at];
    struct lesson l = {.action = "reject", .labels = &item->label, .labels_len = 1};
    bool made;
    enum ctl_exit code;

    if (item->label == NULL) {
        ctl_queue_say(q, true, "there is no label to reject");
        q->counts.refused++;
        return CTL_REFUSED;
    }
    code = send_lesson(q, item, &l, &made);
    if (code != CTL_OK)
        return code;
    q->counts.rejected++;
    ctl_queue_say(q, false, "not %s: %s", item->label, item->text);
    step(q, CTL_REJECTED);
    return CTL_OK;
}

void ctl_queue_skip(struct ctl_queue *q)
{
    q->counts.skipped++;
    ctl_queue_say(q, false, "skipped: %s", q->items[q->at].text);
    step(q, CTL_SKIPPED);
}

/* ---- the way back ---------------------------------------------------------------------------- */

static bool is_among(const struct json_value *names, const char *annotator)
{
    for (size_t i = 0; i < json_len(names); i++) {
        const char *name = json_text(json_at(names, i), NULL);

        if (name != NULL && annotator != NULL ? strcmp(name, annotator) == 0 : name == annotator)
            return true;
    }
    return false;
}

/* The vote this annotator had before; false: none. */
static bool earlier_vote(const struct ctl_queue *q, const struct ctl_item *item,
                         const char **ret_label, const char **ret_action)
{
    for (size_t i = 0; i < json_len(item->votes); i++) {
        const struct json_value *vote = json_at(item->votes, i);
        bool against = is_among(json_member(vote, "against"), q->ctl->options.annotator);

        if (!against && !is_among(json_member(vote, "for"), q->ctl->options.annotator))
            continue;
        *ret_label = text_of(vote, "label");
        *ret_action = against ? "reject" : NULL;
        return *ret_label != NULL;
    }
    return false;
}

static enum ctl_exit withdraw(struct ctl_queue *q, struct ctl_item *item)
{
    struct api_buffer body = API_BUFFER_INIT, target = API_BUFFER_INIT;
    struct json_value *answer = NULL;
    enum ctl_exit code;

    json_open_object(&body);
    write_field(&body, "example", item->made);
    write_field(&body, "action", "withdraw");
    write_common(q, &body, item, "w");
    json_close_object(&body);
    ctl_target(&target, "/v1/feedback");
    code = ask(q, "POST", &target, &body, &answer);
    api_buffer_done(&body);
    json_free(answer);
    return code;
}

/* Deleted if it is nobody else's: as if never seen. */
static enum ctl_exit take_back(struct ctl_queue *q, struct ctl_item *item)
{
    struct api_buffer target = of_example(item->made);
    struct json_value *answer = NULL;
    enum ctl_exit code = ask(q, "GET", &target, NULL, &answer);
    bool alone = code == CTL_OK && json_int(json_member(answer, "annotators"), 0) <= 1;

    json_free(answer);
    if (code == CTL_REFUSED) /* it is gone already */
        return CTL_OK;
    if (code != CTL_OK)
        return code;
    if (!alone)
        return withdraw(q, item);
    answer = NULL;
    target = of_example(item->made);
    code = ask(q, "DELETE", &target, NULL, &answer);
    json_free(answer);
    return code;
}

static enum ctl_exit undo_vote(struct ctl_queue *q, struct ctl_item *item)
{
    struct lesson l = {.labels_len = 1};
    const char *label = NULL;
    bool made;

    if (!q->review)
        return take_back(q, item);
    if (!earlier_vote(q, item, &label, &l.action))
        return withdraw(q, item);
    l.labels = &label;
    return send_lesson(q, item, &l, &made);
}

enum ctl_exit ctl_queue_undo(struct ctl_queue *q)
{
    struct ctl_item *item;
    enum ctl_exit code = CTL_OK;

    if (q->at == 0) {
        ctl_queue_say(q, true, "there is nothing to undo");
        q->counts.refused++;
        return CTL_REFUSED;
    }
    item = &q->items[q->at - 1];
    if (item->decision != CTL_SKIPPED)
        code = undo_vote(q, item);
    if (code != CTL_OK)
        return code;
    q->counts.labelled -= item->decision == CTL_LABELLED;
    q->counts.rejected -= item->decision == CTL_REJECTED;
    q->counts.agreed -= item->decision == CTL_LABELLED && item->agreed;
    q->counts.skipped -= item->decision == CTL_SKIPPED;
    q->counts.undone++;
    item->decision = CTL_UNDECIDED;
    q->at--;
    ctl_queue_say(q, false, "undone: %s", item->text);
    return CTL_OK;
}

/* ---- life ------------------------------------------------------------------------------------ */

/* Two sessions must not have one name, or the second one's decisions were taken for the first's. */
static void name_session(char session[20])
{
    uint64_t number = (uint64_t)clock_unix_us() * 1000003;
    FILE *file = fopen("/dev/urandom", "r");

    if (file != NULL) {
        uint64_t random;

        if (fread(&random, sizeof random, 1, file) == 1)
            number ^= random;
        fclose(file);
    }
    snprintf(session, 20, "%016llx", (unsigned long long)number);
}

enum ctl_exit ctl_queue_open(struct ctl_queue *q)
{
    struct json_value *model = NULL;
    enum ctl_exit code = ctl_call_model(q->ctl, &model);
    const char *kind = text_of(model, "kind"), *encoder = text_of(model, "encoder");

    q->review = q->ctl->options.review;
    q->multi = kind != NULL && strcmp(kind, "multi") == 0;
    name_session(q->session);
    if (code == CTL_OK && encoder != NULL && strcmp(encoder, "none") == 0) {
        ctl_say("%s is a model of vectors: there are no texts to show", ctl_model(q->ctl));
        code = CTL_REFUSED;
    }
    json_free(model);
    return code == CTL_OK ? read_labels(q) : code;
}

void ctl_queue_close(struct ctl_queue *q)
{
    for (size_t i = 0; i < q->labels_len; i++)
        free(q->labels[i]);
    for (size_t i = 0; i < q->pages_len; i++)
        json_free(q->pages[i]);
    free(q->labels);
    free(q->pages);
    free(q->items);
    json_free(q->answer);
    api_buffer_done(&q->said);
}
