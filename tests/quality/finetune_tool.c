/* finetune_tool.c -- the recipe of fine-tuning on a set of texts, without a daemon: what the step
 * function alone reaches, and how fast.
 *
 * finetune_tool ENCODER DATA EPOCHS SEED [none|qv|all [WEIGHTS]]: DATA has train.jsonl and
 * test.jsonl with "text" and "label". Batches of 32, of like lengths, as the reference program
 * makes them; after each epoch the accuracy of the training head on the test texts. The trained
 * encoder goes to the file WEIGHTS.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include "kernels/encoder/encoder.h"
#include "kernels/text/tokenizer.h"
#include "kernels/train/train_internal.h"
#include "tests/unit/train_fixture.h"

enum { TOKENS_MAX = 128, LABELS_MAX = 512, BATCH = 32, MEGA = 24 * BATCH };

struct set {
    struct train_example *examples;
    uint32_t len, room;
};

struct labels {
    char *names[LABELS_MAX];
    uint32_t len;
};

static void die(const char *what)
{
    fprintf(stderr, "finetune_tool: %s\n", what);
    exit(1);
}

static void *taken(size_t bytes)
{
    void *memory = calloc(1, bytes);

    if (memory == NULL)
        die("out of memory");
    return memory;
}

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* ---- texts ----------------------------------------------------------------------------------- */

static uint32_t label_of(struct labels *labels, const char *name)
{
    for (uint32_t i = 0; i < labels->len; i++)
        if (strcmp(labels->names[i], name) == 0)
            return i;
    if (labels->len == LABELS_MAX)
        die("too many labels");
    labels->names[labels->len] = taken(strlen(name) + 1);
    memcpy(labels->names[labels->len], name, strlen(name));
    return labels->len++;
}

static void add(struct set *set, const struct tokenizer *tokenizer, const char *text,
                uint32_t label)
{
    struct tokenizer_input input = {.text = text, .text_bytes = strlen(text)};
    int32_t *ids = taken(TOKENS_MAX * sizeof *ids);
    struct train_target *target = taken(sizeof *target);
    uint8_t types[TOKENS_MAX];
    uint32_t len;

    if (tokenizer_encode(tokenizer, &input, TOKENIZER_TRUNCATE_RIGHT, TOKENS_MAX, ids, types, &len,
                         NULL) != 0)
        die("a text is refused");
    if (set->len == set->room) {
        set->room = 2 * set->room + 1024;
        set->examples = realloc(set->examples, set->room * sizeof *set->examples);
        if (set->examples == NULL)
            die("out of memory");
    }
    *target = (struct train_target){label, 1};
    set->examples[set->len] = (struct train_example){
        .ids = ids, .len = len, .key = set->len, .targets = target, .targets_len = 1};
    set->len++;
}

static struct set set_read(const char *folder, const char *name, const struct tokenizer *tokenizer,
                           struct labels *labels)
{
    struct set set = {0};
    char path[4096], line[65536];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s.jsonl", folder, name);
    f = fopen(path, "r");
    if (f == NULL)
        die(path);
    while (fgets(line, sizeof line, f) != NULL) {
        json_t *row = json_loads(line, 0, NULL);
        const char *text = json_string_value(json_object_get(row, "text"));
        const char *label = json_string_value(json_object_get(row, "label"));

        if (text == NULL || label == NULL)
            die("a line without text and label");
        add(&set, tokenizer, text, label_of(labels, label));
        json_decref(row);
    }
    fclose(f);
    return set;
}

/* ---- the run --------------------------------------------------------------------------------- */

static uint64_t draw(uint64_t *state)
{
    return train_mix(*state += 0x9e3779b97f4a7c15);
}

static int by_length(const void *a, const void *b)
{
    const struct train_example *x = a, *y = b;

    return x->len != y->len ? (x->len < y->len ? -1 : 1) : (x->key < y->key ? -1 : 1);
}

/* The order of an epoch: shuffled, of like lengths inside each run of MEGA, batches shuffled. */
static void shuffle(struct set *set, uint32_t *starts, uint64_t *state)
{
    uint32_t batches = (set->len + BATCH - 1) / BATCH;

    for (uint32_t i = set->len - 1; i > 0; i--) {
        uint32_t j = (uint32_t)(draw(state) % (i + 1));
        struct train_example e = set->examples[i];

        set->examples[i] = set->examples[j];
        set->examples[j] = e;
    }
    for (uint32_t i = 0; i < set->len; i += MEGA)
        qsort(set->examples + i, set->len - i < MEGA ? set->len - i : MEGA, sizeof *set->examples,
              by_length);
    for (uint32_t i = 0; i < batches; i++)
        starts[i] = i * BATCH;
    for (uint32_t i = batches - 1; i > 0; i--) {
        uint32_t j = (uint32_t)(draw(state) % (i + 1)), start = starts[i];

        starts[i] = starts[j];
        starts[j] = start;
    }
}

static float *prototypes_of(struct train *t, const struct set *set, uint32_t labels, uint32_t C)
{
    float *prototypes = taken((size_t)labels * C * sizeof *prototypes);
    float *y = taken((size_t)set->len * C * sizeof *y);

    if (train_embed(t, set->examples, set->len, y) != 0)
        die("train_embed");
    for (uint32_t i = 0; i < set->len; i++)
        for (uint32_t c = 0; c < C; c++)
            prototypes[(size_t)set->examples[i].targets->label * C + c] += y[(size_t)i * C + c];
    free(y);
    return prototypes;
}

static double accuracy(struct train *t, const struct set *set)
{
    const uint32_t C = t->config.C, L = t->settings.labels_len;
    float *y = taken((size_t)set->len * C * sizeof *y);
    float *logits = taken((size_t)set->len * L * sizeof *logits);
    uint32_t right = 0;

    if (train_embed(t, set->examples, set->len, y) != 0)
        die("train_embed");
    train_case_logits(t, y, set->len, logits);
    for (uint32_t i = 0; i < set->len; i++) {
        const float *z = logits + (size_t)i * L;
        uint32_t label = 0;

        for (uint32_t c = 1; c < L; c++)
            label = z[c] > z[label] ? c : label;
        right += label == set->examples[i].targets->label;
    }
    free(logits);
    free(y);
    return 100.0 * right / set->len;
}

static void epoch(struct train *t, struct set *set, uint64_t *state, uint32_t number)
{
    uint32_t batches = (set->len + BATCH - 1) / BATCH, tokens = 0;
    uint32_t *starts = taken(batches * sizeof *starts);
    double from = seconds(), loss = 0;

    shuffle(set, starts, state);
    for (uint32_t i = 0; i < batches; i++) {
        uint32_t left = set->len - starts[i];
        struct train_report r;
        int rc = train_step(t, set->examples + starts[i], left < BATCH ? left : BATCH, &r);

        if (rc != 0)
            die("train_step");
        loss += r.loss / batches;
        tokens += r.tokens;
    }
    from = seconds() - from;
    printf("epoch %u: loss %.4f, %.1f s, %.0f examples/s, %.0f tokens/s", number, loss, from,
           set->len / from, tokens / from);
    free(starts);
}

static int to_file(void *ud, const void *bytes, size_t len)
{
    return fwrite(bytes, 1, len, ud) == len ? 0 : -1;
}

static struct train *opened(const char *folder, const struct train_settings *s, const uint8_t *used,
                            uint32_t used_len, const float *prototypes)
{
    struct train *t;
    char why[512];

    if (train_open(backend_cpu(), folder, s, used, used_len, prototypes, why, sizeof why, &t) != 0)
        die(why);
    return t;
}

static void run(const char *folder, struct train_settings *s, struct set *train,
                const struct set *test, uint32_t vocab_len, const char *weights)
{
    uint8_t *used = taken(vocab_len);
    const struct set *sets[] = {train, test};
    uint64_t state = s->seed, epochs = s->steps;
    struct train *t;
    float *prototypes;

    for (int which = 0; which < 2; which++)
        for (uint32_t i = 0; i < sets[which]->len; i++)
            for (uint32_t n = 0; n < sets[which]->examples[i].len; n++)
                used[sets[which]->examples[i].ids[n]] = 1;
    s->steps = epochs * ((train->len + BATCH - 1) / BATCH);
    t = opened(folder, s, used, vocab_len, NULL);
    prototypes = prototypes_of(t, train, s->labels_len, t->config.C);
    train_close(t);
    t = opened(folder, s, used, vocab_len, prototypes);
    printf("%u texts, %u labels, %u words, start: test %.2f %%\n", train->len, s->labels_len,
           t->masters.words, accuracy(t, test));
    for (uint32_t i = 1; i <= epochs; i++) {
        epoch(t, train, &state, i);
        printf(", test %.2f %%\n", accuracy(t, test));
        fflush(stdout);
    }
    if (weights != NULL) {
        FILE *f = fopen(weights, "wb");

        if (f == NULL || train_weights_write(t, to_file, f) != 0 || fclose(f) != 0)
            die(weights);
    }
    train_close(t);
    free(prototypes);
    free(used);
}

int main(int argc, char **argv)
{
    struct train_settings s;
    struct tokenizer *tokenizer;
    struct labels labels = {0};
    struct set train, test;
    char why[512];

    if (argc < 5 || argc > 7)
        die("usage: finetune_tool ENCODER DATA EPOCHS SEED [none|qv|all [WEIGHTS]]");
    train_settings_default(&s);
    s.threads = 2;
    s.steps = strtoull(argv[3], NULL, 10);
    s.seed = strtoull(argv[4], NULL, 10);
    if (argc > 5 && strcmp(argv[5], "none") != 0) {
        s.lora = strcmp(argv[5], "qv") == 0 ? TRAIN_LORA_QV : TRAIN_LORA_ALL;
        s.lr = 5e-4f;
    }
    if (tokenizer_open(argv[1], why, sizeof why, &tokenizer) != 0)
        die(why);
    train = set_read(argv[2], "train", tokenizer, &labels);
    test = set_read(argv[2], "test", tokenizer, &labels);
    s.labels_len = labels.len;
    run(argv[1], &s, &train, &test, tokenizer_vocab_len(tokenizer), argc > 6 ? argv[6] : NULL);
    tokenizer_close(tokenizer);
    return 0; /* the texts go with the process */
}
