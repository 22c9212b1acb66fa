/* ctl_annotate.c -- annotate: labels for what is worth a label, one key a decision.
 *
 * On a terminal it is a screen (ctl_annotate_screen.c). Else each item is printed and a line of
 * stdin says what it is, so a script, or a test, can annotate as well:
 *
 *     2          the second of the labels shown; kind multi: "1 3", and "0" for none of them
 *     =LABEL     a label of the model          +LABEL   the same, or a new one
 *     r  reject  s  skip  u  undo  q  quit
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/clock.h"
#include "daemon/ctl/ctl_annotate.h"
#include "daemon/ctl/ctl_call.h"
#include "daemon/ctl/ctl_lines.h"
#include "daemon/ctl/ctl_screen.h"
#include "daemon/ctl/ctl_table.h"

enum { LINE_BYTES_MAX = 4096 };

struct lines {
    struct ctl_queue *queue;
    struct ctl_lines in;
    int64_t away_since_us; /* 0: the daemon is there */
    unsigned refused;      /* lines that are no decision */
};

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

/* ---- lines ----------------------------------------------------------------------------------- */

/* Gives up when the daemon has been away for as long as one request may take. */
static int pause_lines(void *ud, const char *why, int ms)
{
    struct lines *l = ud;
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    int64_t now = clock_us();

    if (l->away_since_us == 0) {
        l->away_since_us = now;
        if (!l->queue->ctl->options.quiet)
            ctl_note("%s; trying again", why);
    }
    if (interrupted || now - l->away_since_us > (int64_t)(l->queue->ctl->options.timeout_s * 1e6))
        return 1;
    nanosleep(&t, NULL);
    return interrupted;
}

static void print_clean(const char *before, const char *text, const char *after)
{
    struct api_buffer clean = API_BUFFER_INIT;

    ctl_clean(&clean, text, strlen(text));
    printf("%s%.*s%s", before, (int)clean.len, clean.len > 0 ? clean.bytes : "", after);
    api_buffer_done(&clean);
}

static void show_item(const struct ctl_queue *q, const struct ctl_item *item)
{
    printf("%zu  %s  ", q->at + 1, item->why != NULL ? item->why : "-");
    print_clean("", item->request != NULL ? item->request : item->example, "\n");
    print_clean("   ", item->text, "\n");
    if (item->pair != NULL)
        print_clean("   ", item->pair, "\n");
    for (unsigned i = 0; i < q->choices_len; i++) {
        printf(i > 0 ? "  %u " : "   %u ", i + 1);
        print_clean("", q->choices[i].name, "");
        if (q->choices[i].score >= 0)
            printf(" %.2f", q->choices[i].score);
    }
    printf("\n");
}

static void write_field(struct api_buffer *out, const char *name, const char *value)
{
    json_write_key(out, name);
    if (value != NULL)
        json_write_string(out, value);
    else
        json_write_null(out);
}

static void print_item(const struct ctl_queue *q, const struct ctl_item *item)
{
    struct api_buffer out = API_BUFFER_INIT;

    json_open_object(&out);
    json_write_key(&out, "item");
    json_open_object(&out);
    write_field(&out, "request_id", item->request);
    write_field(&out, "example", item->example);
    write_field(&out, "text", item->text);
    write_field(&out, "text_pair", item->pair);
    write_field(&out, "label", item->label);
    write_field(&out, "other", item->other);
    write_field(&out, "why", item->why);
    json_close_object(&out);
    json_write_key(&out, "choices");
    json_open_array(&out);
    for (unsigned i = 0; i < q->choices_len; i++) {
        json_open_object(&out);
        write_field(&out, "label", q->choices[i].name);
        json_write_key(&out, "score");
        if (q->choices[i].score >= 0)
            json_write_number(&out, q->choices[i].score);
        else
            json_write_null(&out);
        json_close_object(&out);
    }
    json_close_array(&out);
    json_close_object(&out);
    ctl_print_buffer(&out);
}

/* What came of a line. */
static void tell(struct lines *l, const char *decision, const char *example)
{
    struct ctl_queue *q = l->queue;
    const char *said = q->said.len > 0 && q->said.rc == 0 ? q->said.bytes : "";

    if (q->failed) {
        ctl_say("%s", said);
    } else if (q->ctl->options.json) {
        struct api_buffer out = API_BUFFER_INIT;

        json_open_object(&out);
        write_field(&out, "decision", decision);
        write_field(&out, "example", example != NULL && *example != '\0' ? example : NULL);
        json_close_object(&out);
        ctl_print_buffer(&out);
    } else if (!q->ctl->options.quiet) {
        printf("   -> %s\n", said);
    }
}

static enum ctl_exit not_understood(struct lines *l, const char *line)
{
    ctl_queue_say(l->queue, true,
                  "line %llu, \"%.40s\", is no decision: a number, =LABEL, +LABEL, r, s, u or q",
                  (unsigned long long)l->in.number, line);
    l->refused++;
    return CTL_REFUSED;
}

/* "2", or of kind multi "1 3"; "0" is none of them. */
static enum ctl_exit take_numbers(struct lines *l, const char *line)
{
    struct ctl_queue *q = l->queue;
    const char *labels[CTL_CHOICES_MAX];
    size_t len = 0;

    if (strcmp(line, "0") == 0 && q->multi)
        return ctl_queue_label(q, NULL, 0, false);
    for (const char *at = line; *at != '\0';) {
        char *end;
        unsigned long number = strtoul(at, &end, 10);

        if (end == at || number < 1 || number > q->choices_len || len == CTL_CHOICES_MAX ||
            (*end != ' ' && *end != '\0'))
            return not_understood(l, line);
        labels[len++] = q->choices[number - 1].name;
        at = end + strspn(end, " ");
    }
    return len == 1 || (len > 1 && q->multi) ? ctl_queue_label(q, labels, len, false)
                                             : not_understood(l, line);
}

/* False: quit. */
static bool take_line(struct lines *l, const char *line, enum ctl_exit *ret_code)
{
    struct ctl_queue *q = l->queue;
    struct ctl_item *item = q->len > 0 && q->at < q->len ? &q->items[q->at] : NULL;
    const char *decision = "label", *label = line + 1;

    *ret_code = CTL_OK;
    if (strcmp(line, "q") == 0)
        return false;
    if (strcmp(line, "u") == 0) {
        *ret_code = ctl_queue_undo(q);
        tell(l, "undo", NULL);
        return true;
    }
    if (item == NULL) {
        ctl_queue_say(q, true, "line %llu: nothing is left to decide on",
                      (unsigned long long)l->in.number);
        l->refused++;
        tell(l, NULL, NULL);
        return true;
    }
    if (strcmp(line, "s") == 0) {
        decision = "skip";
        ctl_queue_skip(q);
    } else if (strcmp(line, "r") == 0) {
        decision = "reject";
        *ret_code = ctl_queue_reject(q);
    } else if ((line[0] == '=' || line[0] == '+') && line[1] != '\0') {
        *ret_code = ctl_queue_label(q, &label, 1, line[0] == '+');
    } else {
        *ret_code = take_numbers(l, line);
    }
    tell(l, decision, strcmp(decision, "skip") != 0 ? item->made : NULL);
    return true;
}

static enum ctl_exit annotate_lines(struct ctl_queue *q, unsigned *ret_refused)
{
    struct lines l = {.queue = q, .in = {.file = stdin, .bytes_max = LINE_BYTES_MAX}};
    struct sigaction action = {.sa_handler = on_signal};
    struct ctl_item *item = NULL;
    enum ctl_exit code = CTL_OK;
    bool more = true;

    q->pause = pause_lines;
    q->ud = &l;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    while (more && !interrupted && code == CTL_OK) {
        bool shown = item != NULL && q->at < q->len && item == &q->items[q->at];

        item = shown ? item : NULL;
        if (!shown)
            code = ctl_queue_item(q, &item);
        l.away_since_us = 0;
        if (code != CTL_OK)
            break;
        if (item == NULL && !q->ctl->options.json && !q->ctl->options.quiet)
            printf("nothing is left\n");
        else if (item != NULL && !shown && q->ctl->options.json)
            print_item(q, item);
        else if (item != NULL && !shown)
            show_item(q, item);
        fflush(stdout);
        more = ctl_lines_next(&l.in) == 1;
        if (more && l.in.len > 0)
            more = take_line(&l, l.in.bytes, &code);
        code = code == CTL_REFUSED ? CTL_OK : code; /* it is told; the item stays */
    }
    if (code != CTL_OK && q->said.len > 0 && item == NULL)
        ctl_say("%s", q->said.bytes);
    *ret_refused = l.refused;
    ctl_lines_done(&l.in);
    return code;
}

/* ---- the command ----------------------------------------------------------------------------- */

static void summarize(const struct ctl_queue *q, int64_t began_us)
{
    const struct ctl_queue_counts *c = &q->counts;
    double seconds = (double)(clock_us() - began_us) * 1e-6;

    if (q->ctl->options.json) {
        printf("{\"summary\":{\"labelled\":%u,\"rejected\":%u,\"skipped\":%u,\"undone\":%u,"
               "\"refused\":%u,\"new_labels\":%u,\"agreed\":%u,\"seconds\":%.3f}}\n",
               c->labelled, c->rejected, c->skipped, c->undone, c->refused, c->new_labels,
               c->agreed, seconds);
        return;
    }
    if (q->ctl->options.quiet)
        return;
    printf("%u labelled, %u rejected, %u skipped", c->labelled, c->rejected, c->skipped);
    if (c->undone > 0)
        printf(", %u undone", c->undone);
    if (c->refused > 0)
        printf(", %u refused", c->refused);
    printf("; %u new labels", c->new_labels);
    if (c->labelled > 0)
        printf("; %u of %u as the model had it; %.1f s each", c->agreed, c->labelled,
               seconds / c->labelled);
    printf("\n");
}

enum ctl_exit ctl_annotate(struct ctl *ctl)
{
    struct ctl_queue queue = {.ctl = ctl};
    int64_t began_us = clock_us();
    unsigned refused = 0;
    enum ctl_exit code;

    if (ctl->args_len > 1)
        return ctl_misused(ctl, "one model");
    if (ctl->args_len == 1)
        ctl->options.model = ctl->args[0];
    if (ctl->options.review && ctl->options.annotator == NULL)
        return ctl_misused(ctl, "whose second look is it? --annotator NAME");
    if (ctl->options.kind != NULL && !ctl->options.review)
        return ctl_misused(ctl, "--kind is of --review");
    code = ctl_queue_open(&queue);
    if (code == CTL_OK) {
        code = ctl_screen_is_there() && !ctl->options.json ? ctl_annotate_screen(&queue)
                                                           : annotate_lines(&queue, &refused);
        queue.counts.refused += refused;
        summarize(&queue, began_us);
    }
    refused = queue.counts.refused;
    if (code == CTL_OK && refused > 0 && !ctl_screen_is_there())
        code = queue.counts.labelled + queue.counts.rejected + queue.counts.skipped +
                           queue.counts.undone >
                       0
                   ? CTL_PARTLY
                   : CTL_REFUSED;
    ctl_queue_close(&queue);
    return code;
}
