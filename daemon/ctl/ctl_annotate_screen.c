/* ctl_annotate_screen.c -- annotate at a terminal.
 *
 * One item fills the screen: its text, wrapped and scrolled if it is long, and the labels with
 * their numbers. A digit decides (kind multi: digits choose, Enter decides); '/' finds a label by
 * what is typed, '+' takes what is typed as it is. The last decision stays in sight until the next,
 * with 'u' to take it back.
 */
#include <stdio.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/ctl/ctl_annotate.h"
#include "daemon/ctl/ctl_call.h"
#include "daemon/ctl/ctl_screen.h"
#include "daemon/ctl/ctl_table.h"

enum { TYPED_BYTES = 129, MATCHES_MAX = 8, BAR = 20, FIXED_ROWS = 7 };

enum mode { DECIDING, FINDING, NAMING, HELPING };

struct view {
    struct ctl_queue *queue;
    struct ctl_item *item;
    enum mode mode;
    char typed[TYPED_BYTES];
    size_t matches[MATCHES_MAX]; /* (matches_len) of the labels */
    unsigned matches_len, match; /* match: the one that Enter takes */
    unsigned scroll, lines;      /* of the text */
    char away[240];              /* why the daemon is not there; "": it is */
    bool quitting;
    enum ctl_exit code;
};

/* ---- drawing --------------------------------------------------------------------------------- */

static void add_clean(struct api_buffer *frame, const char *text, unsigned columns)
{
    struct api_buffer clean = API_BUFFER_INIT;

    ctl_clean(&clean, text, strlen(text));
    if (clean.len > 0)
        ctl_screen_cut(frame, clean.bytes, clean.len, columns);
    api_buffer_done(&clean);
}

static void draw_head(const struct view *v, struct api_buffer *frame)
{
    const struct ctl_queue *q = v->queue;
    const struct ctl_queue_counts *c = &q->counts;

    api_buffer_addf(frame, "%s%s ", ctl_color(1, CTL_BOLD), q->review ? "review" : "annotate");
    add_clean(frame, ctl_model(q->ctl), 30);
    api_buffer_addf(frame, "%s", ctl_color(1, CTL_PLAIN));
    if (q->ctl->options.annotator != NULL) {
        api_buffer_addf(frame, " as ");
        add_clean(frame, q->ctl->options.annotator, 20);
    }
    api_buffer_addf(frame, "   %zu of %zu   %u labelled, %u rejected, %u skipped\n\n",
                    v->item != NULL ? q->at + 1 : q->at, q->len, c->labelled, c->rejected,
                    c->skipped);
}

static void draw_end(const struct view *v, struct api_buffer *frame, unsigned columns)
{
    const struct ctl_queue *q = v->queue;

    api_buffer_addf(frame, " Nothing is left.\n\n");
    if (q->said.len > 1 && q->said.rc == 0)
        ctl_screen_cut(frame, q->said.bytes, q->said.len - 1, columns);
    api_buffer_addf(frame, "\n%su undo  q end%s", ctl_color(1, CTL_DIM), ctl_color(1, CTL_PLAIN));
}

/* The text and its pair, in as many rows as there are; sets lines. */
static void draw_text(struct view *v, struct api_buffer *frame, unsigned rows, unsigned columns)
{
    struct api_buffer clean = API_BUFFER_INIT;

    ctl_clean(&clean, v->item->text, strlen(v->item->text));
    if (v->item->pair != NULL) {
        api_buffer_add_string(&clean, "  |  ");
        ctl_clean(&clean, v->item->pair, strlen(v->item->pair));
    }
    if (clean.rc == 0 && clean.len > 0) {
        v->lines = ctl_screen_wrap(NULL, clean.bytes, clean.len, columns, 2, 0, 0);
        if (v->scroll + rows > v->lines)
            v->scroll = v->lines > rows ? v->lines - rows : 0;
        ctl_screen_wrap(frame, clean.bytes, clean.len, columns, 2, v->scroll, rows);
    }
    if (v->lines > rows)
        api_buffer_addf(frame, "%s  lines %u to %u of %u: arrows move%s", ctl_color(1, CTL_DIM),
                        v->scroll + 1, v->scroll + rows, v->lines, ctl_color(1, CTL_PLAIN));
    api_buffer_addf(frame, "\n");
    api_buffer_done(&clean);
}

static void draw_choices(const struct view *v, struct api_buffer *frame, unsigned columns)
{
    const struct ctl_queue *q = v->queue;
    static const char full[] = "####################";

    for (unsigned i = 0; i < q->choices_len; i++) {
        const struct ctl_choice *c = &q->choices[i];

        api_buffer_addf(frame, " %s%u%s %s", ctl_color(1, CTL_CYAN), i + 1, ctl_color(1, CTL_PLAIN),
                        !q->multi   ? ""
                        : c->chosen ? "[x] "
                                    : "[ ] ");
        if (c->score >= 0)
            api_buffer_addf(frame, "%.2f %-*.*s ", c->score, BAR, (int)(c->score * BAR), full);
        else
            api_buffer_addf(frame, "%*s", BAR + 6, "");
        add_clean(frame, c->name, columns > BAR + 14 ? columns - BAR - 14 : 8);
        if (q->review && v->item->label != NULL && strcmp(c->name, v->item->label) == 0)
            api_buffer_addf(frame, "  (taught)");
        api_buffer_addf(frame, "\n");
    }
}

static void draw_matches(const struct view *v, struct api_buffer *frame, unsigned columns)
{
    api_buffer_addf(frame, "%s%s: ", ctl_color(1, CTL_BOLD),
                    v->mode == FINDING ? "label" : "new label");
    add_clean(frame, v->typed, columns > 20 ? columns - 20 : 8);
    api_buffer_addf(frame, "_%s\n", ctl_color(1, CTL_PLAIN));
    for (unsigned i = 0; v->mode == FINDING && i < v->matches_len; i++) {
        api_buffer_addf(frame, " %s ", i == v->match ? ">" : " ");
        add_clean(frame, v->queue->labels[v->matches[i]], columns > 8 ? columns - 8 : 8);
        api_buffer_addf(frame, "\n");
    }
    if (v->mode == FINDING && v->matches_len == 0)
        api_buffer_addf(frame, "   there is no such label; Esc, then + makes one\n");
    api_buffer_addf(frame, "%sEnter takes it, Esc goes back%s\n", ctl_color(1, CTL_DIM),
                    ctl_color(1, CTL_PLAIN));
}

static void draw_help(struct api_buffer *frame)
{
    api_buffer_addf(frame, " 1..9    this label (kind multi: choose, then Enter; 0: none of them)\n"
                           " /       another label: type a part of it\n"
                           " +       a new label: type it\n"
                           " r       reject: not what the model says, or what was taught\n"
                           " s       skip\n"
                           " u       undo the last decision\n"
                           " arrows  move in a long text\n"
                           " q       end; all decisions are kept\n"
                           "\n any key goes back\n");
}

static void draw_foot(const struct view *v, struct api_buffer *frame, unsigned columns)
{
    const struct ctl_queue *q = v->queue;

    if (v->away[0] != '\0') {
        api_buffer_addf(frame, "%sAWAY: ", ctl_color(1, CTL_RED));
        add_clean(frame, v->away, columns > 30 ? columns - 30 : 8);
        api_buffer_addf(frame, "; trying again, q gives up%s\n", ctl_color(1, CTL_PLAIN));
    } else if (q->said.len > 1 && q->said.rc == 0) {
        api_buffer_addf(frame, "%s", ctl_color(1, q->failed ? CTL_RED : CTL_GREEN));
        ctl_screen_cut(frame, q->said.bytes, q->said.len - 1, columns);
        api_buffer_addf(frame, "%s\n", ctl_color(1, CTL_PLAIN));
    } else {
        api_buffer_addf(frame, "\n");
    }
    api_buffer_addf(frame, "%s? help  %s  / other  + new  r reject  s skip  u undo  q end%s",
                    ctl_color(1, CTL_DIM), q->multi ? "1-9 choose, Enter" : "1-9 label",
                    ctl_color(1, CTL_PLAIN));
}

static void draw(struct view *v)
{
    struct api_buffer frame = API_BUFFER_INIT;
    unsigned rows, columns, rest;

    ctl_screen_size(&rows, &columns);
    draw_head(v, &frame);
    if (v->mode == HELPING) {
        draw_help(&frame);
    } else if (v->item != NULL) {
        rest = v->mode == DECIDING ? v->queue->choices_len : MATCHES_MAX + 2;
        draw_text(v, &frame, rows > rest + FIXED_ROWS + 1 ? rows - rest - FIXED_ROWS : 1, columns);
        api_buffer_addf(&frame, "\n");
        if (v->mode == DECIDING)
            draw_choices(v, &frame, columns);
        else
            draw_matches(v, &frame, columns);
        api_buffer_addf(&frame, "\n");
        draw_foot(v, &frame, columns);
    } else if (v->away[0] != '\0') {
        draw_foot(v, &frame, columns);
    } else {
        draw_end(v, &frame, columns);
    }
    ctl_screen_show(&frame);
    api_buffer_done(&frame);
}

/* ---- typing ---------------------------------------------------------------------------------- */

/* Bytes as they are, but letters of ASCII whatever their case. */
static bool contains(const char *name, const char *part)
{
    return *part == '\0' || strcasestr(name, part) != NULL;
}

static void find_matches(struct view *v)
{
    v->matches_len = v->match = 0;
    for (int pass = 0; pass < 2; pass++) /* those that begin so, then those that have it within */
        for (size_t i = 0; i < v->queue->labels_len && v->matches_len < MATCHES_MAX; i++) {
            const char *name = v->queue->labels[i];
            bool begins = strncasecmp(name, v->typed, strlen(v->typed)) == 0;

            if (begins == (pass == 0) && contains(name, v->typed))
                v->matches[v->matches_len++] = i;
        }
}

static void begin_typing(struct view *v, enum mode mode)
{
    v->mode = mode;
    v->typed[0] = '\0';
    find_matches(v);
}

static void forget_character(char *text)
{
    size_t len = strlen(text);

    while (len > 0 && ((unsigned char)text[--len] & 0xc0) == 0x80)
        ;
    text[len] = '\0';
}

/* The decision may end the item; a refused one stays, and says why. */
static void decided(struct view *v, enum ctl_exit code)
{
    v->mode = DECIDING;
    v->away[0] = '\0';
    v->code = code == CTL_FAILED ? CTL_FAILED : CTL_OK;
    v->quitting = code == CTL_FAILED;
    if (code == CTL_OK) {
        v->item = NULL;
        v->scroll = 0;
    }
}

static void take_typed(struct view *v)
{
    const char *label = v->typed;

    if (v->mode == FINDING && v->matches_len == 0)
        return;
    if (v->mode == FINDING)
        label = v->queue->labels[v->matches[v->match]];
    if (*label != '\0')
        decided(v, ctl_queue_label(v->queue, &label, 1, v->mode == NAMING));
}

static void type(struct view *v, const struct ctl_key *key)
{
    if (key->kind == CTL_KEY_ESCAPE) {
        v->mode = DECIDING;
    } else if (key->kind == CTL_KEY_ENTER) {
        take_typed(v);
    } else if (key->kind == CTL_KEY_UP && v->match > 0) {
        v->match--;
    } else if ((key->kind == CTL_KEY_DOWN || key->kind == CTL_KEY_TAB) &&
               v->match + 1 < v->matches_len) {
        v->match++;
    } else if (key->kind == CTL_KEY_BACKSPACE) {
        forget_character(v->typed);
        find_matches(v);
    } else if (key->kind == CTL_KEY_TEXT && strlen(v->typed) + strlen(key->text) < TYPED_BYTES) {
        memcpy(v->typed + strlen(v->typed), key->text, strlen(key->text) + 1);
        find_matches(v);
    }
}

/* ---- deciding -------------------------------------------------------------------------------- */

static void take_chosen(struct view *v)
{
    struct ctl_queue *q = v->queue;
    const char *labels[CTL_CHOICES_MAX];
    size_t len = 0;

    for (unsigned i = 0; i < q->choices_len; i++)
        if (q->choices[i].chosen)
            labels[len++] = q->choices[i].name;
    if (len > 0)
        decided(v, ctl_queue_label(q, labels, len, false));
    else
        ctl_queue_say(q, true, "choose labels with their digits first; 0: none of them");
}

static void take_digit(struct view *v, unsigned digit)
{
    struct ctl_queue *q = v->queue;
    const char *label;

    if (digit == 0 && q->multi) {
        decided(v, ctl_queue_label(q, NULL, 0, false));
        return;
    }
    if (digit < 1 || digit > q->choices_len)
        return;
    if (q->multi) {
        q->choices[digit - 1].chosen = !q->choices[digit - 1].chosen;
        return;
    }
    label = q->choices[digit - 1].name;
    decided(v, ctl_queue_label(q, &label, 1, false));
}

static void decide(struct view *v, char c)
{
    if (c >= '0' && c <= '9') {
        take_digit(v, (unsigned)(c - '0'));
    } else if (c == 's' || c == ' ') {
        ctl_queue_skip(v->queue);
        decided(v, CTL_OK);
    } else if (c == 'r') {
        decided(v, ctl_queue_reject(v->queue));
    } else if (c == 'u') {
        decided(v, ctl_queue_undo(v->queue));
    } else if (c == '/') {
        begin_typing(v, FINDING);
    } else if (c == '+') {
        begin_typing(v, NAMING);
    } else if (c == '?') {
        v->mode = HELPING;
    } else if (c == 'q') {
        v->quitting = true;
    }
}

/* Behind the last item there is a way back, and out. */
static void take_last_key(struct view *v, const struct ctl_key *key)
{
    if (key->kind == CTL_KEY_ENTER || strcmp(key->text, "q") == 0)
        v->quitting = true;
    else if (strcmp(key->text, "u") == 0)
        decided(v, ctl_queue_undo(v->queue));
}

static void take_key(struct view *v, const struct ctl_key *key)
{
    if (key->kind == CTL_KEY_QUIT)
        v->quitting = true;
    else if (key->kind == CTL_KEY_NONE || key->kind == CTL_KEY_RESIZE)
        return;
    else if (v->item == NULL)
        take_last_key(v, key);
    else if (v->mode == HELPING)
        v->mode = DECIDING;
    else if (v->mode != DECIDING)
        type(v, key);
    else if (key->kind == CTL_KEY_UP)
        v->scroll -= v->scroll > 0;
    else if (key->kind == CTL_KEY_DOWN)
        v->scroll++;
    else if (key->kind == CTL_KEY_PAGE_UP)
        v->scroll -= v->scroll > 10 ? 10 : v->scroll;
    else if (key->kind == CTL_KEY_PAGE_DOWN)
        v->scroll += 10;
    else if (key->kind == CTL_KEY_ENTER && v->queue->multi)
        take_chosen(v);
    else if (key->kind == CTL_KEY_TEXT)
        decide(v, key->text[0]);
}

/* The daemon is not there: says so and waits, until it is time to try again or someone gives up. */
static int pause_screen(void *ud, const char *why, int ms)
{
    struct view *v = ud;
    int64_t until = clock_us() + (int64_t)ms * 1000, left;

    snprintf(v->away, sizeof v->away, "%s", why);
    while ((left = until - clock_us()) > 0) {
        struct ctl_key key;

        draw(v);
        ctl_screen_key((int)(left / 1000) + 1, &key);
        if (key.kind == CTL_KEY_QUIT || strcmp(key.text, "q") == 0)
            return 1;
    }
    return 0;
}

enum ctl_exit ctl_annotate_screen(struct ctl_queue *q)
{
    struct view v = {.queue = q};
    struct ctl_key key;

    q->pause = pause_screen;
    q->ud = &v;
    if (ctl_screen_open() != 0) {
        ctl_say("the terminal cannot be used");
        return CTL_USAGE;
    }
    while (!v.quitting && v.code == CTL_OK) {
        if (v.item == NULL) {
            v.code = ctl_queue_item(q, &v.item);
            v.away[0] = '\0';
        }
        if (v.code != CTL_OK || (v.item == NULL && q->at == 0))
            break;
        draw(&v);
        ctl_screen_key(-1, &key);
        take_key(&v, &key);
    }
    ctl_screen_close();
    if (v.code != CTL_OK && q->said.len > 0)
        ctl_say("%s", q->said.bytes);
    else if (v.item == NULL && q->at == 0 && !q->ctl->options.quiet)
        printf("there is nothing to annotate\n");
    return v.code;
}
