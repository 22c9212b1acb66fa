/* ctl_options.c -- see ctl_options.h. Not getopt_long: it has no notion of which command takes a
 * flag, and its errors do not say what to do.
 */
#include "daemon/ctl/ctl_options.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum kind { FLAG, TEXT, WHOLE, NUMBER, LIST, LABELS };

struct row {
    const char *name;
    char letter; /* '\0': none */
    bool global;
    enum kind kind;
    size_t offset; /* in struct ctl_options */
    const char *value, *help;
};

#define AT(field) offsetof(struct ctl_options, field)

static const struct row rows[] = {
    {"url", 'u', true, TEXT, AT(url), "URL",
     "the daemon: http://HOST:PORT, https://.. or unix:PATH\n"
     "(or LEARNCTL_URL; http://127.0.0.1:8080)"},
    {"model", 'm', true, TEXT, AT(model), "NAME", "the model (or LEARNCTL_MODEL; default)"},
    {"key-file", '\0', true, TEXT, AT(key_file), "FILE",
     "a file that holds the key to send (or the key in LEARNCTL_KEY)"},
    {"timeout", '\0', true, NUMBER, AT(timeout_s), "SECONDS", "for one request (60)"},
    {"json", 'j', true, FLAG, AT(json), NULL, "the daemon's JSON, one object a line"},
    {"color", '\0', true, TEXT, AT(color), "WHEN",
     "auto (on a terminal, unless NO_COLOR is set), always or never"},
    {"quiet", 'q', true, FLAG, AT(quiet), NULL, "no progress, no summary"},
    {"help", 'h', true, FLAG, AT(help), NULL, "this text"},

    {"file", 'f', false, TEXT, AT(file), "FILE", "texts from a file, a line each; - is stdin"},
    {"pair", '\0', false, TEXT, AT(pair), "TEXT",
     "a second text, judged together with the one given"},
    {"truncate", '\0', false, TEXT, AT(truncate), "SIDE",
     "where a text that is too long is cut: right, left, never"},
    {"at", '\0', false, TEXT, AT(at), "WHAT",
     "classify: ask this version, while it is held\n"
     "versions: what was live at this time, as 2026-11-24T02:54:35Z"},
    {"among", '\0', false, LIST, AT(among), "LABEL",
     "choose only among these labels; may be repeated"},
    {"top", '\0', false, WHOLE, AT(top), "N", "show the N best labels"},
    {"threshold", '\0', false, NUMBER, AT(threshold), "P",
     "show every label with at least this score"},
    {"explain", '\0', false, FLAG, AT(explain), NULL, "show the nearest stored examples"},
    {"ids", '\0', false, FLAG, AT(ids), NULL, "show the request_id, for confirm and reject"},
    {"no-store", '\0', false, FLAG, AT(no_store), NULL, "the daemon keeps nothing of these texts"},
    {"deadline", '\0', false, WHOLE, AT(deadline_ms), "MS", "rather no answer than a later one"},

    {"wait", '\0', false, TEXT, AT(wait), "UNTIL",
     "durable (on disk, the default) or applied (the next answer knows it)"},
    {"annotator", '\0', false, TEXT, AT(annotator), "NAME", "whose vote it is"},
    {"source", '\0', false, TEXT, AT(source), "WORD", "where it came from"},
    {"weight", '\0', false, NUMBER, AT(weight), "W", "how much it counts, above 0 to 100 (1)"},
    {"no-new-labels", '\0', false, FLAG, AT(no_new_labels), NULL,
     "refuse labels the model has not"},
    {"label", '\0', false, LABELS, AT(label), "LABEL",
     "the label that is meant; kind multi: may be repeated"},
    {"none", '\0', false, FLAG, AT(none), NULL, "kind multi: the texts have none of the labels"},
    {"request", '\0', false, TEXT, AT(request), "ID", "the text of this request_id of an answer"},
    {"example", '\0', false, TEXT, AT(example), "ID", "this stored example"},
    {"text", '\0', false, TEXT, AT(text), "TEXT", "this text"},

    {"format", '\0', false, TEXT, AT(format), "FORMAT",
     "jsonl, ndjson or csv; else by the file's name"},
    {"text-column", '\0', false, TEXT, AT(text_column), "NAME",
     "the column that holds the text (text)"},
    {"label-column", '\0', false, TEXT, AT(label_column), "NAME",
     "the column that holds the label (label)"},
    {"batch", '\0', false, TEXT, AT(batch), "WORD",
     "rows that came before under another word are taught anew"},

    {"html", '\0', false, TEXT, AT(html), "FILE", "write the report as a page, too"},

    {"status", '\0', false, TEXT, AT(status), "WORD", "active, rejected, withdrawn or retired"},
    {"contains", '\0', false, TEXT, AT(contains), "TEXT", "only texts that contain this"},
    {"limit", 'n', false, WHOLE, AT(limit), "N", "at most N rows; 0: all"},
    {"types", '\0', false, TEXT, AT(types), "LIST",
     "only swap, label, model, drift, warning, run, with commas between"},
    {"since", '\0', false, TEXT, AT(since), "ID",
     "go on behind this event, as --json prints its id"},
    {"kind", '\0', false, TEXT, AT(kind), "WORD",
     "review: only likely_wrong, contradicting, duplicate or influence\n"
     "models create: single (a text has one label, the default) or multi (a set)"},
    {"seed", '\0', false, TEXT, AT(seed), "N", "next: another draw (0); train: another run (1)"},
    {"random-share", '\0', false, TEXT, AT(random_share), "P",
     "share of the list that is drawn evenly (0.2)"},
    {"strategy", '\0', false, TEXT, AT(strategy), "WORD",
     "joint (the default), replay, head or naive"},
    {"epochs", '\0', false, TEXT, AT(epochs), "N", "how often each example is seen (4)"},
    {"lora-rank", '\0', false, TEXT, AT(lora_rank), "N",
     "train low-rank changes instead of all weights"},
    {"margin", '\0', false, TEXT, AT(margin), "SHARE", "accuracy that the gate may lose (0.015)"},
    {"force", '\0', false, FLAG, AT(force), NULL, "swap although the gate refuses"},
    {"watch", 'w', false, FLAG, AT(watch), NULL, "stay until the run has ended"},
    {"expires", '\0', false, TEXT, AT(expires), "TIME", "as 2027-01-31T00:00:00Z"},
    {"before", '\0', false, TEXT, AT(before), "TIME", "only what was done before it"},
    {"by", '\0', false, TEXT, AT(by), "KEY", "only by this key, its number; 0: by none"},
    {"action", '\0', false, TEXT, AT(action), "WORD", "only this, as model_create"},
    {"connections", '\0', false, WHOLE, AT(connections), "N", "connections at once (16)"},
    {"rate", '\0', false, NUMBER, AT(rate), "R",
     "keys: requests in a second, and as many at once\n"
     "bench: send R a second, whether answers come or not; without it each\n"
     "connection asks again when it has its answer"},
    {"seconds", '\0', false, NUMBER, AT(seconds), "S", "for so long (10)"},
    {"requests", '\0', false, WHOLE, AT(requests), "N", "so many, instead or at most"},
    {"dump", '\0', false, TEXT, AT(dump), "FILE",
     "a line for each answer: begun_us,ms,text,version,score"},
    {"anywhere", '\0', false, FLAG, AT(anywhere), NULL, "also a daemon on another machine"},
    {"review", '\0', false, FLAG, AT(review), NULL, "what was taught and may be wrong, instead"},
    {"every", '\0', false, NUMBER, AT(every_s), "SECONDS", "how often figures are taken (1)"},
    {"yes", '\0', false, FLAG, AT(yes), NULL, "do it without asking"},
    {"state", '\0', false, TEXT, AT(state), "DIR",
     "the state folder (or LEARND_STATE; else the daemon's own default)"},
    {"proof", '\0', false, FLAG, AT(proof), NULL, "look for what is left, as doctor --find does"},
    {"deep", '\0', false, FLAG, AT(deep), NULL,
     "compare the heads with ones made anew from the examples, too"},
    {"repair", '\0', false, FLAG, AT(repair), NULL,
     "put right what needs no judgement; the daemon must be stopped"},
    {"find", '\0', false, TEXT, AT(find), "TEXT", "only look for a text in every byte"},
    {"everything", '\0', false, FLAG, AT(everything), NULL,
     "all models, labels, examples with every vote, runs, versions, encoders"},
    {"copy", '\0', false, FLAG, AT(copy), NULL, "copy encoders; never link them"},
};

enum { ROWS_LEN = sizeof rows / sizeof *rows };

void ctl_options_init(struct ctl_options *o)
{
    const char *url = getenv("LEARNCTL_URL"), *model = getenv("LEARNCTL_MODEL");
    const char *key = getenv("LEARNCTL_KEY");

    *o = (struct ctl_options){.timeout_s = 60,
                              .top = -1,
                              .deadline_ms = -1,
                              .threshold = -1,
                              .weight = -1,
                              .limit = -1,
                              .connections = -1,
                              .requests = -1,
                              .rate = -1,
                              .seconds = -1,
                              .every_s = -1,
                              .url = "http://127.0.0.1:8080"};
    if (url != NULL && *url != '\0')
        o->url = url;
    if (model != NULL && *model != '\0')
        o->model = model;
    if (key == NULL || *key == '\0')
        key = getenv("LEARND_KEY");
    if (key != NULL && *key != '\0')
        o->key = key;
}

bool ctl_options_allow(const char *allowed, const char *name)
{
    size_t len = strlen(name);

    for (const char *p = allowed; *p != '\0'; p += *p != '\0') {
        size_t word = strcspn(p, " ");

        if (word == len && memcmp(p, name, len) == 0)
            return true;
        p += word;
    }
    return false;
}

static bool is_allowed(const struct row *row, const char *allowed)
{
    return row->global || allowed == NULL || ctl_options_allow(allowed, row->name);
}

bool ctl_options_at(size_t i, struct ctl_flag *ret)
{
    if (i >= ROWS_LEN)
        return false;
    *ret = (struct ctl_flag){rows[i].name, rows[i].value, rows[i].help, rows[i].letter,
                             rows[i].global};
    return true;
}

static const struct row *find(const char *name, size_t len)
{
    for (int i = 0; i < ROWS_LEN; i++)
        if (strlen(rows[i].name) == len && memcmp(rows[i].name, name, len) == 0)
            return &rows[i];
    return NULL;
}

static const struct row *find_letter(char letter)
{
    for (int i = 0; i < ROWS_LEN; i++)
        if (rows[i].letter == letter && letter != '\0')
            return &rows[i];
    return NULL;
}

static int set_list(const char *name, const char **list, size_t *len, const char *value, char *why,
                    size_t why_bytes)
{
    if (*len == CTL_AMONG_MAX) {
        snprintf(why, why_bytes, "--%s can be given %d times", name, CTL_AMONG_MAX);
        return -EINVAL;
    }
    list[(*len)++] = value;
    return 0;
}

static int set(struct ctl_options *o, const struct row *row, const char *value, char *why,
               size_t why_bytes)
{
    char *place = (char *)o + row->offset, *end;
    double number;

    if (row->kind == FLAG) {
        *(bool *)place = true;
        return 0;
    }
    if (row->kind == LIST)
        return set_list(row->name, o->among, &o->among_len, value, why, why_bytes);
    if (row->kind == TEXT || row->kind == LABELS) {
        *(const char **)place = value;
        return row->kind == TEXT
                   ? 0
                   : set_list(row->name, o->labels, &o->labels_len, value, why, why_bytes);
    }
    number = strtod(value, &end);
    if (end == value || *end != '\0' || !isfinite(number) || number < 0 || number > 1e15 ||
        (row->kind == WHOLE && number != floor(number))) {
        snprintf(why, why_bytes, "--%s needs a %snumber, not \"%.64s\"", row->name,
                 row->kind == WHOLE ? "whole " : "", value);
        return -EINVAL;
    }
    if (row->kind == WHOLE)
        *(long *)place = (long)number;
    else
        *(double *)place = number;
    return 0;
}

/* One argument that begins with '-'. *at moves on if it takes the next one as its value. */
static int read_flag(struct ctl_options *o, const char *allowed, int argc, char **argv, int *at,
                     char *why, size_t why_bytes)
{
    const char *flag = argv[*at], *value = NULL;
    const struct row *row;

    if (flag[1] == '-') {
        const char *equals = strchr(flag, '=');

        row = find(flag + 2, equals != NULL ? (size_t)(equals - flag) - 2 : strlen(flag) - 2);
        value = equals != NULL ? equals + 1 : NULL;
    } else {
        row = find_letter(flag[1]);
        value = flag[2] != '\0' ? flag + 2 : NULL;
    }
    if (row == NULL || (row->kind == FLAG && value != NULL)) {
        snprintf(why, why_bytes, "unknown flag %.64s; --help lists them, and -- ends them", flag);
        return -EINVAL;
    }
    if (!is_allowed(row, allowed)) {
        snprintf(why, why_bytes, "--%s is not for this command", row->name);
        return -EINVAL;
    }
    if (row->kind != FLAG && value == NULL) {
        if (*at + 1 >= argc) {
            snprintf(why, why_bytes, "--%s needs a value: %s", row->name, row->value);
            return -EINVAL;
        }
        value = argv[++*at];
    }
    return set(o, row, value, why, why_bytes);
}

int ctl_options_read(struct ctl_options *options, const char *allowed, int argc, char **argv,
                     int *ret_rest_len, char *why, size_t why_bytes)
{
    bool ended = false;
    int rest = 0;

    for (int i = 0; i < argc; i++) {
        if (!ended && strcmp(argv[i], "--") == 0) {
            ended = true;
        } else if (ended || argv[i][0] != '-' || argv[i][1] == '\0') {
            argv[rest++] = argv[i];
        } else {
            int rc = read_flag(options, allowed, argc, argv, &i, why, why_bytes);

            if (rc != 0)
                return rc;
        }
    }
    *ret_rest_len = rest;
    return 0;
}

void ctl_options_help(const char *allowed, FILE *out)
{
    for (int i = 0; i < ROWS_LEN; i++) {
        const struct row *r = &rows[i];
        const char *help = r->help;
        char flag[48], letter[5] = "    ";

        if (allowed == NULL ? !r->global : r->global || !is_allowed(r, allowed))
            continue;
        if (r->letter != '\0')
            snprintf(letter, sizeof letter, "-%c, ", r->letter);
        snprintf(flag, sizeof flag, "%s--%s%s%s", letter, r->name, r->value != NULL ? " " : "",
                 r->value != NULL ? r->value : "");
        for (;; help++) { /* a line of help a turn; only the first stands beside the flag */
            size_t len = strcspn(help, "\n");

            fprintf(out, "  %-26s%.*s\n", help == r->help ? flag : "", (int)len, help);
            help += len;
            if (*help == '\0')
                break;
        }
    }
}
