/* corpus.c -- see corpus.h. */
#include "tests/bench/corpus.h"

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/text/tokenizer.h"
#include "proto/json.h"

enum { TOKENS_MAX = 256, GENERATED = 3080 };

/* One seed, so that two runs see the same order. */
static uint32_t draw(uint64_t *state, uint32_t below)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33) % below;
}

static void add(struct corpus *c, const char *text)
{
    if ((c->len & (c->len - 1)) == 0) {
        c->texts = realloc(c->texts, (c->len > 0 ? 2 * (size_t)c->len : 1) * sizeof *c->texts);
        if (c->texts == NULL)
            err(1, "texts");
    }
    c->texts[c->len] = strdup(text);
    if (c->texts[c->len++] == NULL)
        err(1, "texts");
}

static int read_file(struct corpus *c, const char *path)
{
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;
    ssize_t len;

    if (file == NULL)
        return -1;
    while ((len = getline(&line, &room, file)) > 0) {
        struct json_value *value;
        const char *text = NULL;

        if (json_parse(line, (size_t)len, NULL, &value, NULL) == 0) {
            text = json_text(json_get(value, "text"), NULL);
            if (text != NULL)
                add(c, text);
            json_free(value);
        }
        if (text == NULL)
            errx(1, "%s: line %u has no text", path, c->len + 1);
    }
    free(line);
    fclose(file);
    snprintf(c->source, sizeof c->source, "%s", path);
    return 0;
}

/* banking77 has 12 words a text, most 6 to 16, some 60: a sum of three dice with a long tail. */
static void generate(struct corpus *c)
{
    static const char *words[] = {"card",    "my",    "the",   "transfer", "account",  "is",
                                  "why",     "not",   "a",     "payment",  "where",    "still",
                                  "pending", "I",     "money", "to",       "how",      "can",
                                  "when",    "top",   "up",    "was",      "charged",  "exchange",
                                  "rate",    "wrong", "cash",  "machine",  "declined", "verify"};
    uint64_t state = 77;

    for (uint32_t i = 0; i < GENERATED; i++) {
        uint32_t len = 3 + draw(&state, 6) + draw(&state, 6) + draw(&state, 5);
        char text[1024] = "";

        if (draw(&state, 12) == 0)
            len += draw(&state, 45);
        for (uint32_t w = 0, at = 0; w < len; w++)
            at += (uint32_t)snprintf(text + at, sizeof text - at, "%s%s", w > 0 ? " " : "",
                                     words[draw(&state, sizeof words / sizeof *words)]);
        add(c, text);
    }
    snprintf(c->source, sizeof c->source,
             "generated sentences (no file given, and no banking77 in $LEARND_SHARED)");
}

static void tokenize(struct corpus *c, const char *encoder)
{
    struct tokenizer *tokenizer;
    uint8_t types[TOKENS_MAX];
    char why[1024];

    if (tokenizer_open(encoder, why, sizeof why, &tokenizer) != 0)
        errx(1, "%s", why);
    c->ids = calloc((size_t)c->len * TOKENS_MAX, sizeof *c->ids);
    c->offsets = calloc(c->len + 1, sizeof *c->offsets);
    if (c->ids == NULL || c->offsets == NULL)
        err(1, "tokens");
    for (uint32_t i = 0; i < c->len; i++) {
        struct tokenizer_input input = {c->texts[i], strlen(c->texts[i]), NULL, 0};
        uint32_t len;

        if (tokenizer_encode(tokenizer, &input, TOKENIZER_TRUNCATE_RIGHT, TOKENS_MAX,
                             c->ids + c->offsets[i], types, &len, NULL) != 0)
            errx(1, "text %u cannot be tokenized", i);
        c->offsets[i + 1] = c->offsets[i] + len;
    }
    tokenizer_close(tokenizer);
}

void corpus_open(const char *path, const char *encoder, uint32_t texts_max, struct corpus *c)
{
    const char *shared = getenv("LEARND_SHARED");
    uint64_t state = 1;
    char file[512];

    *c = (struct corpus){.len = 0};
    snprintf(file, sizeof file, "%s/data/banking77/test.jsonl", shared != NULL ? shared : "");
    if (path != NULL && read_file(c, path) != 0)
        err(1, "%s", path);
    if (path == NULL && read_file(c, file) != 0)
        generate(c);
    if (c->len == 0)
        errx(1, "%s: no texts", c->source);
    for (uint32_t i = c->len; i-- > 1;) {
        uint32_t j = draw(&state, i + 1);
        char *text = c->texts[i];

        c->texts[i] = c->texts[j];
        c->texts[j] = text;
    }
    while (texts_max > 0 && c->len > texts_max)
        free(c->texts[--c->len]);
    if (encoder != NULL)
        tokenize(c, encoder);
}

void corpus_close(struct corpus *c)
{
    for (uint32_t i = 0; i < c->len; i++)
        free(c->texts[i]);
    free(c->texts);
    free(c->ids);
    free(c->offsets);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double corpus_median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, ascending);
    return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

const char *corpus_encoder(void)
{
    static char folder[1024];
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    const char *named = getenv("LEARND_ENCODER");

    if (named != NULL)
        return named;
    if (cache != NULL)
        snprintf(folder, sizeof folder, "%s/learnd/all-MiniLM-L6-v2", cache);
    else
        snprintf(folder, sizeof folder, "%s/.cache/learnd/all-MiniLM-L6-v2",
                 home != NULL ? home : "");
    return folder;
}
