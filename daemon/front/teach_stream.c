/* teach_stream.c -- POST /v1/feedback with application/x-ndjson: a line an item, without limit.
 *
 * Lines gather to batches of LIMIT_STREAM_ITEMS; while one is with the keeper the socket is not
 * read, so memory is bounded by what one read brought and one line. The answer comes at the end, so
 * the end is where wait=applied is waited for: until then the learner works behind the keeper. Only
 * when a stream changes models a batch waits on its own, since one place is remembered. The
 * answer's lists are cut at API_ITEMS_MAX, its counts are not. A failure of the store ends the
 * stream: the answer says how many lines were kept, by the counts of a problem's detail.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/front/teaching.h"
#include "daemon/metrics.h"

struct stream {
    struct teaching teaching; /* first, with its message first */
    struct exchange *x;       /* NULL: the client has gone */
    char *bytes;              /* lines not yet taken */
    size_t len, room;
    uint64_t lines;
    struct api_feedback_counts counts;
    struct api_version version;
    struct api_buffer accepted, rejected;
    bool wait_all;     /* ?wait=applied: every batch waits */
    bool wait_applied; /* a line of the present batch asks for it */
    bool ended, busy;
    bool asking;                  /* busy with the learner, not with the keeper */
    int64_t owed_model, owed_seq; /* to be applied before the answer; 0: nothing */
    int failed;                   /* -errno that ends the stream */
};

static void stream_free(struct stream *s)
{
    teaching_done(&s->teaching);
    api_buffer_done(&s->accepted);
    api_buffer_done(&s->rejected);
    free(s->bytes);
    free(s);
}

static void on_gone(void *ud)
{
    struct stream *s = ud;

    s->x = NULL;
    if (!s->busy)
        stream_free(s);
}

/* ---- the answer ------------------------------------------------------------------------------ */

static void finish(struct stream *s)
{
    struct api_buffer body = API_BUFFER_INIT;
    struct exchange *x = s->x;
    struct api_problem problem;

    exchange_on_gone(x, NULL, NULL);
    if (s->failed != 0) {
        handlers_failure(s->failed, &problem);
        api_problem_set(&problem, problem.status, problem.code, "",
                        "the stream ended after %llu accepted and %llu rejected lines, which are "
                        "kept; send the rest again",
                        (unsigned long long)s->counts.accepted,
                        (unsigned long long)s->counts.rejected);
        exchange_problem(x, &problem);
        stream_free(s);
        return;
    }
    api_feedback_begin(&body);
    api_buffer_add(&body, s->accepted.bytes, s->accepted.len);
    api_feedback_middle(&body);
    api_buffer_add(&body, s->rejected.bytes, s->rejected.len);
    api_feedback_end(&body, s->version.seq != 0 ? &s->version : NULL, &s->counts);
    if (s->accepted.rc != 0 || s->rejected.rc != 0)
        body.rc = -ENOMEM;
    exchange_json(x, 202, &body);
    stream_free(s);
}

/* Notes one item in the lists of the answer. */
static void note(struct stream *s, const struct teaching_item *item)
{
    const struct store_receipt *r = &item->receipt;
    struct api_accepted accepted = {
        .seq = r->seq, .duplicate = r->duplicate, .label_created = r->label_created};
    uint64_t *n = item->refused ? &s->counts.rejected : &s->counts.accepted;

    if (++*n > API_ITEMS_MAX) {
        s->counts.truncated = true;
        return;
    }
    if (item->refused) {
        api_feedback_rejected(&s->rejected, item->index, &item->problem);
        return;
    }
    memcpy(accepted.example, r->example, API_ID_BYTES);
    api_feedback_accepted(&s->accepted, &accepted);
}

/* ---- lines ----------------------------------------------------------------------------------- */

static void take_line(struct stream *s, const char *line, size_t len)
{
    struct teaching_item *own;
    struct api_feedback *f = NULL;
    struct api_problem problem;
    uint64_t index = s->lines++;

    if (len > 0 && line[len - 1] == '\r')
        len--;
    if (len == 0)
        return; /* an empty line is no item, but it is counted: indexes are line numbers from 0 */
    if (len > LIMIT_LINE_BYTES)
        api_problem_set(&problem, 413, "line_too_long", "", "a line has more than %d bytes",
                        LIMIT_LINE_BYTES);
    else if (api_parse_feedback_line(line, len, &f, &problem) == 0) {
        s->wait_applied |= f->wait_applied;
        teaching_add(&s->teaching, &f->items[0], f, NULL, index);
        return;
    }
    own = &s->teaching.items[s->teaching.items_len++];
    memset(own, 0, sizeof *own);
    own->index = index;
    own->problem = problem;
    own->refused = true;
}

/* Takes whole lines until a batch is full. The last line needs no end. */
static void take_lines(struct stream *s)
{
    size_t at = 0;

    while (at < s->len && s->teaching.items_len < s->teaching.items_max) {
        const char *end = memchr(s->bytes + at, '\n', s->len - at);
        size_t len = end != NULL ? (size_t)(end - s->bytes) - at : s->len - at;

        if (end == NULL && !s->ended)
            break;
        take_line(s, s->bytes + at, len);
        at += len + (end != NULL);
    }
    if (at > 0) /* without a byte there is no memory either */
        memmove(s->bytes, s->bytes + at, s->len - at);
    s->len -= at;
}

/* Comes back to arrive() when the model has applied seq. False: it cannot be waited for. */
static bool ask_learner(struct stream *s, int64_t model, int64_t seq)
{
    s->failed = teaching_wait(&s->teaching, model, seq);
    s->busy = s->asking = s->failed == 0;
    return s->busy;
}

/* Sends the next batch, or ends, or asks for more. */
static void pump(struct stream *s)
{
    int rc;

    if (s->busy || s->x == NULL)
        return;
    if (s->failed == 0)
        take_lines(s);
    if (s->failed == 0 && s->teaching.items_len > 0) {
        s->busy = true;
        exchange_pause(s->x);
        rc = teaching_post(&s->teaching, false);
        if (rc == 0)
            return;
        s->busy = false;
        s->failed = rc;
    }
    if (s->ended && s->failed == 0 && s->owed_seq != 0) {
        int64_t seq = s->owed_seq;

        s->owed_seq = 0;
        if (ask_learner(s, s->owed_model, seq))
            return;
    }
    if (s->ended || s->failed != 0)
        finish(s);
    else
        exchange_resume(s->x);
}

/* What the batch just written owes to wait=applied. True: the learner has been asked at once. */
static bool owe(struct stream *s)
{
    const struct change *c = &s->teaching.change;

    if (c->seq == 0 || !(s->wait_applied || s->wait_all))
        return false;
    if (s->owed_seq != 0 && s->owed_model != c->model)
        return ask_learner(s, c->model, c->seq);
    s->owed_model = c->model;
    s->owed_seq = c->seq;
    return false;
}

static void arrive(struct front_message *message, struct exchange *x)
{
    struct stream *s = (struct stream *)message;
    struct teaching *t = &s->teaching;
    bool asked = s->asking, wait = false;

    s->busy = s->asking = false;
    if (asked) {
        s->failed = t->rc;
    } else if (t->rc == 0) {
        teaching_count(t);
        for (uint32_t i = 0; i < t->items_len; i++)
            note(s, &t->items[i]);
        if (t->change.seq > s->version.seq)
            s->version =
                (struct api_version){handlers_encoder(t->server, t->change.model), t->change.seq};
        wait = x != NULL && owe(s);
    } else {
        s->failed = t->rc;
    }
    teaching_clear(t);
    s->wait_applied = false;
    if (x == NULL)
        stream_free(s);
    else if (!wait)
        pump(s);
}

/* ---- hooks ----------------------------------------------------------------------------------- */

static void on_begin(struct exchange *x)
{
    bool wait_all;
    struct stream *s;

    if (!teaching_read_wait(x, &wait_all))
        return;
    s = calloc(1, sizeof *s);
    if (s == NULL || teaching_init(&s->teaching, exchange_server(x), LIMIT_STREAM_ITEMS) != 0) {
        free(s);
        exchange_failed(x, -ENOMEM);
        return;
    }
    s->x = x;
    s->wait_all = wait_all;
    s->teaching.message.ref = exchange_ref(x);
    s->teaching.who = *exchange_who(x);
    s->teaching.message.arrive = arrive;
    exchange_set_user(x, s);
    exchange_on_gone(x, on_gone, s);
}

static int on_chunk(struct exchange *x, const char *bytes, size_t len)
{
    struct stream *s = exchange_user(x);

    if (s->len + len > s->room) {
        size_t room = (s->len + len) * 2;
        char *bigger = room <= 4 * (size_t)LIMIT_LINE_BYTES ? realloc(s->bytes, room) : NULL;

        if (bigger == NULL) { /* one line beyond any measure, or no memory */
            s->failed = room > 4 * (size_t)LIMIT_LINE_BYTES ? -EMSGSIZE : -ENOMEM;
            if (!s->busy)
                finish(s);
            return -ECANCELED;
        }
        s->bytes = bigger;
        s->room = room;
    }
    memcpy(s->bytes + s->len, bytes, len);
    s->len += len;
    /* Enough for a batch, or a read's worth: let the keeper have it. */
    if (s->len >= LIMIT_HELD_BYTES / 2)
        pump(s);
    return 0;
}

static void on_end(struct exchange *x)
{
    struct stream *s = exchange_user(x);

    s->ended = true;
    pump(s);
}

const struct route_stream feedback_stream = {on_begin, on_chunk, on_end};
