/* test_encoder.c -- the encoder against transformers, its promise that a text's bits depend on
 * nothing else, and folders and batches that are wrong.
 *
 * The two tiny encoders and what transformers makes of them come from
 * tests/golden/tiny-encoder/make.py. With $LEARND_ENCODER, when it names all-MiniLM-L6-v2, that one
 * too (tests/golden/minilm/make.py); without it the test says so and skips.
 *
 * $LEARND_TEST_BACKEND names a loadable backend to be held to the same (make gpu-check).
 *
 * Cosine to transformers: 0.99999 in fp32 (sums in another order), 0.9999 in bf16 (activations of 8
 * bits).
 */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "kernels/backend_load.h"
#include "kernels/encoder/encoder.h"

#define TINY "tests/golden/tiny-encoder"

enum { CASES_MAX = 16, LEN_MAX = 512, DIM_MAX = 384 };

struct golden {
    uint32_t cases, dim;
    uint32_t lens[CASES_MAX];
    int32_t ids[CASES_MAX][LEN_MAX];
    uint8_t types[CASES_MAX][LEN_MAX];
    float expected[2][CASES_MAX][DIM_MAX]; /* of the plain tiny encoder, of the CLS one */
};

static void golden_read(const char *path, int vectors, struct golden *g)
{
    FILE *f = fopen(path, "r");
    unsigned type;

    assert_non_null(f);
    assert_int_equal(fscanf(f, "%u %u", &g->cases, &g->dim), 2);
    assert_true(g->cases <= CASES_MAX && g->dim <= DIM_MAX);
    for (uint32_t i = 0; i < g->cases; i++) {
        assert_int_equal(fscanf(f, "%u", &g->lens[i]), 1);
        assert_true(g->lens[i] <= LEN_MAX);
        for (uint32_t t = 0; t < g->lens[i]; t++)
            assert_int_equal(fscanf(f, "%d", &g->ids[i][t]), 1);
        for (uint32_t t = 0; t < g->lens[i]; t++) {
            assert_int_equal(fscanf(f, "%u", &type), 1);
            g->types[i][t] = (uint8_t)type;
        }
        for (int v = 0; v < vectors; v++)
            for (uint32_t c = 0; c < g->dim; c++)
                assert_int_equal(fscanf(f, "%f", &g->expected[v][i][c]), 1);
    }
    fclose(f);
}

static const struct backend *tested(void)
{
    const char *path = getenv("LEARND_TEST_BACKEND");
    const struct backend *backend = backend_cpu();
    char why[512];

    if (path != NULL && backend_load(path, 0, why, sizeof why, &backend) != 0)
        fail_msg("%s", why);
    return backend;
}

static struct encoder *opened(const char *folder, enum encoder_precision precision)
{
    struct encoder *e = NULL;
    char why[512];
    int rc = encoder_open(tested(), folder, precision, why, sizeof why, &e);

    if (rc != 0)
        fail_msg("%s: %d: %s", folder, rc, why);
    return e;
}

static struct encoder_ctx *context(const struct encoder *e, uint32_t tokens, uint32_t seqs)
{
    struct encoder_ctx *ctx;

    assert_int_equal(encoder_ctx_open(e, tokens, seqs, &ctx), 0);
    return ctx;
}

/* Some cases of a golden file as one packed batch. */
struct packed {
    int32_t ids[CASES_MAX * LEN_MAX];
    uint8_t types[CASES_MAX * LEN_MAX];
    uint32_t offsets[4 * CASES_MAX + 1];
    struct encoder_batch batch;
};

static void pack(const struct golden *g, const uint32_t *which, uint32_t len, struct packed *p)
{
    p->offsets[0] = 0;
    for (uint32_t i = 0; i < len; i++) {
        uint32_t n = g->lens[which[i]], at = p->offsets[i];

        memcpy(p->ids + at, g->ids[which[i]], n * sizeof *p->ids);
        memcpy(p->types + at, g->types[which[i]], n);
        p->offsets[i + 1] = at + n;
    }
    p->batch = (struct encoder_batch){p->ids, p->types, p->offsets, len};
}

/* ---- against transformers -------------------------------------------------------------------- */

static void check_golden(const struct golden *g, const char *folder,
                         enum encoder_precision precision, int vector)
{
    static struct packed p;
    struct encoder *e = opened(folder, precision);
    struct encoder_ctx *ctx = context(e, LEN_MAX, CASES_MAX);
    double least = precision == ENCODER_FP32 ? 0.99999 : 0.9999;
    float y[DIM_MAX];

    assert_int_equal(encoder_info(e)->dim, g->dim);
    assert_int_equal(encoder_info(e)->precision, precision);
    for (uint32_t i = 0; i < g->cases; i++) {
        double dot = 0, length = 0, wanted = 0;

        pack(g, &i, 1, &p);
        assert_int_equal(encoder_forward(ctx, &p.batch, 1, y), 0);
        for (uint32_t c = 0; c < g->dim; c++) {
            dot += (double)y[c] * g->expected[vector][i][c];
            length += (double)y[c] * y[c];
            wanted += (double)g->expected[vector][i][c] * g->expected[vector][i][c];
        }
        assert_true(fabs(length - 1) < 1e-5);
        if (!(dot / sqrt(length * wanted) >= least))
            fail_msg("%s: text %u: cosine %.7f", folder, i, dot / sqrt(length * wanted));
    }
    encoder_ctx_close(ctx);
    encoder_close(e);
}

static void test_tiny_is_transformers(void **state)
{
    const struct golden *g = *state;

    check_golden(g, TINY, ENCODER_FP32, 0);
    check_golden(g, TINY, ENCODER_BF16, 0);
}

/* F16 weights, names with the `bert.` prefix, the first token's vector. */
static void test_cls_f16_is_transformers(void **state)
{
    const struct golden *g = *state;

    check_golden(g, TINY "-cls-f16", ENCODER_FP32, 1);
    check_golden(g, TINY "-cls-f16", ENCODER_BF16, 1);
}

static void test_minilm_is_transformers(void **state)
{
    const char *folder = getenv("LEARND_ENCODER");
    static struct golden g;
    struct encoder *e = NULL;
    char why[512];
    bool is = folder != NULL &&
              encoder_open(backend_cpu(), folder, ENCODER_BF16, why, sizeof why, &e) == 0 &&
              encoder_info(e)->dim == 384 && encoder_info(e)->layers == 6 &&
              encoder_info(e)->vocab_len == 30522;

    (void)state;
    encoder_close(e);
    if (!is) {
        printf("SKIPPED: LEARND_ENCODER is no all-MiniLM-L6-v2: it was not held against "
               "transformers\n");
        skip();
    }
    golden_read("tests/golden/minilm/expected.txt", 1, &g);
    check_golden(&g, folder, ENCODER_FP32, 0);
    check_golden(&g, folder, ENCODER_BF16, 0);
}

static void test_info(void **state)
{
    struct encoder *e = opened(TINY, ENCODER_BF16);
    const struct encoder_info *info = encoder_info(e);
    /* (V + P + S) C + 2 C, and a layer's 4 C C + 4 C + 2 C F + F + C + 4 C */
    uint64_t parameters =
        (257 + 64 + 2) * 32 + 64 + 2 * (4 * 1024 + 128 + 2 * 2048 + 64 + 32 + 128);

    (void)state;
    assert_int_equal(info->dim, 32);
    assert_int_equal(info->layers, 2);
    assert_int_equal(info->heads, 4);
    assert_int_equal(info->ffn, 64);
    assert_int_equal(info->vocab_len, 257);
    assert_int_equal(info->tokens_max, 48);
    assert_int_equal(info->positions, 64);
    assert_int_equal(info->parameters, parameters);
    assert_int_equal(info->pooling, ENCODER_POOL_MEAN);
    encoder_close(e);
}

/* ---- bits ------------------------------------------------------------------------------------ */

/* Every text alone on one thread, then batches of any texts in any order on any number of threads:
 * the same bits. */
static void check_bits(const struct golden *g, enum encoder_precision precision)
{
    static struct packed p;
    static float alone[CASES_MAX][DIM_MAX], y[4 * CASES_MAX][DIM_MAX];
    static const uint32_t threads[] = {1, 2, 1, 1000, 1, 0};
    struct encoder *e = opened(TINY, precision);
    struct encoder_ctx *ctx = context(e, CASES_MAX * LEN_MAX, 4 * CASES_MAX);
    uint32_t which[4 * CASES_MAX], z = 1;

    for (uint32_t i = 0; i < g->cases; i++) {
        pack(g, &i, 1, &p);
        assert_int_equal(encoder_forward(ctx, &p.batch, 1, alone[i]), 0);
    }
    for (uint32_t round = 0; round < 18; round++) {
        uint32_t len = round * 7 % (4 * CASES_MAX) + 1;

        for (uint32_t i = 0; i < len; i++) {
            z = z * 1664525 + 1013904223;
            which[i] = (z >> 16) % g->cases;
        }
        pack(g, which, len, &p);
        assert_int_equal(encoder_forward(ctx, &p.batch, threads[round % 6], &y[0][0]), 0);
        for (uint32_t i = 0; i < len; i++)
            if (memcmp((float *)y + (size_t)i * g->dim, alone[which[i]], g->dim * sizeof(float)) !=
                0)
                fail_msg("round %u: text %u has other bits in a batch of %u", round, which[i], len);
    }
    encoder_ctx_close(ctx);
    encoder_close(e);
}

static void test_bits_do_not_depend_on_the_batch(void **state)
{
    check_bits(*state, ENCODER_FP32);
    check_bits(*state, ENCODER_BF16);
}

/* ---- threads --------------------------------------------------------------------------------- */

struct worker {
    const struct golden *golden;
    const struct encoder *encoder;
    int wrong;
};

/* Every text three times, in a context of this thread's own: the same bits each time. */
static void *work(void *argument)
{
    struct worker *w = argument;
    struct packed *p = malloc(sizeof *p);
    struct encoder_ctx *ctx = NULL;
    float(*y)[DIM_MAX] = calloc(CASES_MAX, sizeof *y);

    w->wrong = p == NULL || y == NULL || encoder_ctx_open(w->encoder, LEN_MAX, 4, &ctx) != 0;
    for (uint32_t round = 0; round < 3 * w->golden->cases && !w->wrong; round++) {
        uint32_t i = round % w->golden->cases;
        float again[DIM_MAX];

        pack(w->golden, &i, 1, p);
        w->wrong |=
            encoder_forward(ctx, &p->batch, 1, round < w->golden->cases ? y[i] : again) != 0;
        if (round >= w->golden->cases)
            w->wrong |= memcmp(y[i], again, w->golden->dim * sizeof(float)) != 0;
    }
    encoder_ctx_close(ctx);
    free(p);
    free(y);
    return NULL;
}

/* One encoder, four threads at once. */
static void test_threads_share_the_weights(void **state)
{
    struct encoder *e = opened(TINY, ENCODER_BF16);
    struct worker workers[4];
    pthread_t threads[4];

    for (int i = 0; i < 4; i++) {
        workers[i] = (struct worker){*state, e, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(workers[i].wrong, 0);
    }
    encoder_close(e);
}

/* types NULL means segment 0. */
static void test_types_may_be_missing(void **state)
{
    static struct packed p;
    const struct golden *g = *state;
    struct encoder *e = opened(TINY, ENCODER_BF16);
    struct encoder_ctx *ctx = context(e, 64, 1);
    float with[DIM_MAX], without[DIM_MAX];
    uint32_t first = 0;

    pack(g, &first, 1, &p);
    assert_int_equal(encoder_forward(ctx, &p.batch, 1, with), 0);
    p.batch.types = NULL;
    assert_int_equal(encoder_forward(ctx, &p.batch, 1, without), 0);
    assert_memory_equal(with, without, g->dim * sizeof *with);
    encoder_ctx_close(ctx);
    encoder_close(e);
}

/* ---- batches that are wrong ------------------------------------------------------------------ */

static void test_wrong_batches_are_refused(void **state)
{
    struct encoder *e = opened(TINY, ENCODER_FP32);
    struct encoder_ctx *ctx = context(e, 100, 3);
    int32_t ids[128];
    uint8_t types[128] = {0};
    static const struct {
        uint32_t seqs, offsets[5];
        int32_t id;
        uint8_t type;
        int rc;
    } batches[] = {
        {1, {0, 4}, 5, 0, 0},
        {1, {0, 64}, 256, 1, 0},
        {1, {0, 65}, 5, 0, -EINVAL}, /* more than the positions */
        {1, {0, 0}, 5, 0, -EINVAL},
        {0, {0}, 5, 0, -EINVAL},
        {4, {0, 1, 2, 3, 4}, 5, 0, -EINVAL}, /* more than the context's texts */
        {2, {0, 60, 101}, 5, 0, -EINVAL},    /* more than its tokens */
        {2, {0, 5, 5}, 5, 0, -EINVAL},
        {2, {0, 9, 5}, 5, 0, -EINVAL},
        {1, {1, 5}, 5, 0, -EINVAL},
        {1, {0, 4}, 257, 0, -EINVAL},
        {1, {0, 4}, -1, 0, -EINVAL},
        {1, {0, 4}, INT32_MAX, 0, -EINVAL},
        {1, {0, 4}, 5, 2, -EINVAL},
        {3, {0, 1, 2, UINT32_MAX}, 5, 0, -EINVAL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        struct encoder_batch b = {ids, types, batches[i].offsets, batches[i].seqs};
        float y[4 * 32];

        for (int t = 0; t < 128; t++)
            ids[t] = 5;
        ids[3] = batches[i].id;
        types[3] = batches[i].type;
        for (int c = 0; c < 4 * 32; c++)
            y[c] = 7;
        if (encoder_forward(ctx, &b, 1, y) != batches[i].rc)
            fail_msg("batch %zu: not %d", i, batches[i].rc);
        for (int c = 0; c < 4 * 32 && batches[i].rc != 0; c++)
            assert_true(y[c] == 7); /* nothing written */
    }
    encoder_ctx_close(ctx);
    encoder_close(e);
}

/* ---- folders that are wrong ------------------------------------------------------------------ */

static char folder[64];

static void copy(const char *name)
{
    char from[256], to[128], bytes[8192];
    size_t len;
    FILE *in, *out;

    snprintf(from, sizeof from, TINY "/%s", name);
    snprintf(to, sizeof to, "%s/%s", folder, name);
    in = fopen(from, "rb");
    out = fopen(to, "wb");
    assert_true(in != NULL && out != NULL);
    while ((len = fread(bytes, 1, sizeof bytes, in)) > 0)
        assert_int_equal(fwrite(bytes, 1, len, out), len);
    fclose(in);
    assert_int_equal(fclose(out), 0);
}

static const char *files[] = {
    "config.json",           "modules.json",      "sentence_bert_config.json",
    "1_Pooling/config.json", "model.safetensors", NULL};

/* A copy of the tiny encoder that a test may damage. */
static void folder_make(void)
{
    char path[128];

    snprintf(folder, sizeof folder, "/tmp/learnd-encoder-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/1_Pooling", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    for (int i = 0; files[i] != NULL; i++)
        copy(files[i]);
}

static void folder_drop(const char *name)
{
    char path[128];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path);
}

static void folder_remove(void)
{
    char path[128];

    for (int i = 0; files[i] != NULL; i++)
        folder_drop(files[i]);
    snprintf(path, sizeof path, "%s/1_Pooling", folder);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

static void folder_put(const char *name, const void *bytes, size_t len)
{
    char path[128];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

/* Opens the damaged folder: refused with rc, for a reason that says `says`; or, says NULL, read. */
static void expect(int rc, const char *says, const char *what)
{
    struct encoder *e = NULL;
    char why[512] = "";
    int got = encoder_open(backend_cpu(), folder, ENCODER_BF16, why, sizeof why, &e);

    if (got != rc || (says != NULL && strstr(why, says) == NULL))
        fail_msg("%s: %d \"%s\", expected %d \"%s\"", what, got, why, rc, says ? says : "");
    assert_true((e != NULL) == (rc == 0));
    encoder_close(e);
}

/* One key of config.json set to JSON, or (NULL) removed. */
static const struct {
    const char *key, *value;
    int rc;
    const char *says;
} configs[] = {
    {"hidden_size", NULL, -EINVAL, "hidden_size must be a whole number"},
    {"hidden_size", "0", -EINVAL, "hidden_size"},
    {"hidden_size", "1", -EINVAL, "hidden_size"},
    {"hidden_size", "-32", -EINVAL, "hidden_size"},
    {"hidden_size", "32.5", -EINVAL, "hidden_size"},
    {"hidden_size", "\"32\"", -EINVAL, "hidden_size"},
    {"hidden_size", "8193", -EINVAL, "hidden_size"},
    {"hidden_size", "9223372036854775807", -EINVAL, "hidden_size"},
    {"hidden_size", "8192", -EINVAL,
     "embeddings.word_embeddings.weight"}, /* before 8 GB are asked for */
    {"num_attention_heads", NULL, -EINVAL, "num_attention_heads"},
    {"num_attention_heads", "5", -EINVAL, "no multiple of the 5 heads"},
    {"num_hidden_layers", NULL, -EINVAL, "num_hidden_layers"},
    {"num_hidden_layers", "0", -EINVAL, "num_hidden_layers"},
    {"num_hidden_layers", "3", -EINVAL, "encoder.layer.2.attention.self.query.weight is missing"},
    {"num_hidden_layers", "1", 0, NULL}, /* fewer layers than there are: a model of its own */
    {"intermediate_size", NULL, -EINVAL, "intermediate_size"},
    {"intermediate_size", "63", -EINVAL, "(63,32), found (64,32)"},
    {"vocab_size", NULL, -EINVAL, "vocab_size"},
    {"vocab_size", "256", -EINVAL,
     "word_embeddings.weight: config.json expects shape (256,32), found (257,32)"},
    {"max_position_embeddings", NULL, -EINVAL, "max_position_embeddings"},
    {"max_position_embeddings", "3", -EINVAL, "max_position_embeddings"},
    {"max_position_embeddings", "65", -EINVAL, "position_embeddings.weight"},
    {"type_vocab_size", NULL, -EINVAL, "type_vocab_size"},
    {"type_vocab_size", "3", -EINVAL, "token_type_embeddings.weight"},
    {"layer_norm_eps", NULL, 0, NULL},
    {"layer_norm_eps", "-1", -EINVAL, "layer_norm_eps"},
    {"layer_norm_eps", "\"1e-12\"", -EINVAL, "layer_norm_eps"},
    {"hidden_act", NULL, 0, NULL},
    {"hidden_act", "\"relu\"", -EINVAL, "hidden_act is \"relu\", and only \"gelu\""},
    {"hidden_act", "7", -EINVAL, "hidden_act is \"no text\""},
    {"position_embedding_type", "\"relative_key\"", -EINVAL,
     "position_embedding_type is \"relative_key\""},
    {"model_type", "\"roberta\"", -EINVAL, "model_type is \"roberta\", and only \"bert\""},
    {"is_decoder", "true", -EINVAL, "is_decoder"},
    {"is_decoder", "false", 0, NULL},
    {"attention_probs_dropout_prob", "0.1", 0, NULL}, /* a key we do not know is no reason */
};

static void test_wrong_configs_are_refused(void **state)
{
    (void)state;
    folder_make();
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        json_t *json = json_load_file(TINY "/config.json", 0, NULL);
        char *text;

        assert_non_null(json);
        if (configs[i].value == NULL)
            json_object_del(json, configs[i].key);
        else
            json_object_set_new(json, configs[i].key,
                                json_loads(configs[i].value, JSON_DECODE_ANY, NULL));
        text = json_dumps(json, 0);
        folder_put("config.json", text, strlen(text));
        expect(configs[i].rc, configs[i].says, configs[i].key);
        free(text);
        json_decref(json);
    }
    folder_put("config.json", "[]", 2);
    expect(-EINVAL, "config.json: must be an object", "a list");
    folder_put("config.json", "{\"model_type\":", 14);
    expect(-EINVAL, "config.json: not valid JSON", "cut off");
    folder_drop("config.json");
    expect(-ENOENT, "config.json", "no config.json");
    folder_remove();
}

#define MODULE(type, path)                                                                         \
    "[{\"type\":\"sentence_transformers.models." type "\",\"path\":\"" path "\"}]"

/* A file beside the config: another text, or (NULL) gone. */
static const struct {
    const char *file, *text;
    int rc;
    const char *says;
} besides[] = {
    {"modules.json", NULL, 0, NULL},
    {"modules.json", "{}", -EINVAL, "modules.json: must be a list"},
    {"modules.json", "[{}]", -EINVAL, "module 0 has no usable type and path"},
    {"modules.json", MODULE("Dense", "2_Dense"), -EINVAL, "a Dense module is not supported"},
    {"modules.json", MODULE("Pooling", "../1_Pooling"), -EINVAL, "no usable type and path"},
    {"modules.json", MODULE("Pooling", "/etc"), -EINVAL, "no usable type and path"},
    {"modules.json", MODULE("Pooling", "nowhere"), -EINVAL, "nowhere/config.json"},
    {"modules.json", "[", -EINVAL, "modules.json: not valid JSON"},
    {"1_Pooling/config.json", NULL, -EINVAL, "1_Pooling/config.json"},
    {"1_Pooling/config.json", "{}", -EINVAL, "only one of mean and CLS pooling"},
    {"1_Pooling/config.json", "{\"pooling_mode_cls_token\":true,\"pooling_mode_mean_tokens\":true}",
     -EINVAL, "only one"},
    {"1_Pooling/config.json",
     "{\"pooling_mode_mean_tokens\":true,\"pooling_mode_max_tokens\":true}", -EINVAL, "only one"},
    {"1_Pooling/config.json", "{\"pooling_mode_cls_token\":true}", 0, NULL},
    {"sentence_bert_config.json", NULL, 0, NULL},
    {"sentence_bert_config.json", "{\"max_seq_length\":null}", 0, NULL},
    {"sentence_bert_config.json", "{", -EINVAL, "sentence_bert_config.json: not valid JSON"},
    {"model.safetensors", NULL, -ENOENT, "model.safetensors"},
    {"model.safetensors", "", -EINVAL, "not a safetensors file"},
    {"model.safetensors", "hello, this is text", -EINVAL, "the header of"},
};

static void test_wrong_files_beside_it_are_refused(void **state)
{
    (void)state;
    folder_make();
    for (size_t i = 0; i < sizeof besides / sizeof *besides; i++) {
        if (besides[i].text != NULL)
            folder_put(besides[i].file, besides[i].text, strlen(besides[i].text));
        else
            folder_drop(besides[i].file);
        expect(besides[i].rc, besides[i].says, besides[i].file);
        copy(besides[i].file);
    }
    folder_remove();
}

static void test_length_without_its_file(void **state)
{
    struct encoder *e;

    (void)state;
    folder_make();
    folder_drop("sentence_bert_config.json");
    e = opened(folder, ENCODER_BF16);
    assert_int_equal(encoder_info(e)->tokens_max, 64);
    encoder_close(e);
    folder_put("sentence_bert_config.json", "{\"max_seq_length\":100000}", 25);
    e = opened(folder, ENCODER_BF16);
    assert_int_equal(encoder_info(e)->tokens_max, 64);
    encoder_close(e);
    folder_remove();
}

/* ---- weights that are wrong ------------------------------------------------------------------ */

/* The weights file in memory: its header as JSON, and its data. */
struct weights {
    uint8_t bytes[1 << 18];
    size_t len;
    json_t *header;
    uint8_t *data;
};

static void weights_read(struct weights *w)
{
    FILE *f = fopen(TINY "/model.safetensors", "rb");
    uint64_t header_len;

    assert_non_null(f);
    w->len = fread(w->bytes, 1, sizeof w->bytes, f);
    fclose(f);
    memcpy(&header_len, w->bytes, 8);
    w->header = json_loadb((char *)w->bytes + 8, header_len, 0, NULL);
    assert_non_null(w->header);
    w->data = w->bytes + 8 + header_len;
}

/* Into the damaged folder. */
static void weights_write(const struct weights *w)
{
    static uint8_t out[1 << 19];
    char *header = json_dumps(w->header, JSON_COMPACT);
    uint64_t header_len = strlen(header);
    size_t data_len = w->len - (size_t)(w->data - w->bytes);

    memcpy(out, &header_len, 8);
    memcpy(out + 8, header, header_len);
    memcpy(out + 8 + header_len, w->data, data_len);
    folder_put("model.safetensors", out, 8 + header_len + data_len);
    free(header);
}

/* One field of one tensor's entry set to JSON; field NULL: the tensor removed. */
static const struct {
    const char *tensor, *field, *value, *says;
} tensors[] = {
    {"embeddings.LayerNorm.bias", NULL, NULL, "tensor embeddings.LayerNorm.bias is missing"},
    {"encoder.layer.1.output.dense.weight", NULL, NULL,
     "tensor encoder.layer.1.output.dense.weight is missing"},
    {"encoder.layer.0.intermediate.dense.weight", "shape", "[32,64]",
     "expects shape (64,32), found (32,64)"},
    {"encoder.layer.0.intermediate.dense.weight", "shape", "[2048]",
     "expects shape (64,32), found (2048)"},
    {"encoder.layer.0.intermediate.dense.weight", "shape", "[1,2,32,32]", "found (1,2,32,32)"},
    {"encoder.layer.0.output.dense.bias", "shape", "[32,1]", "expects shape (32), found (32,1)"},
    {"encoder.layer.0.output.dense.bias", "shape", "[]",
     "its shape needs 4 bytes, its place has 128"},
    {"encoder.layer.1.attention.self.key.weight", "dtype", "\"I32\"",
     "tensor encoder.layer.1.attention.self.key.weight: expected F32, F16 or BF16, found I32"},
    {"encoder.layer.1.attention.self.key.weight", "dtype", "\"F16\"",
     "its shape needs 2048 bytes, its place has 4096"},
    {"encoder.layer.1.attention.self.key.weight", "dtype", "\"Q4\"",
     "tensor encoder.layer.1.attention.self.key.weight: unknown dtype"},
    {"encoder.layer.1.attention.self.key.weight", "data_offsets", "[0,99999999]",
     "lies outside the file"},
};

static void test_wrong_tensors_are_refused(void **state)
{
    static struct weights w;

    (void)state;
    folder_make();
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        weights_read(&w);
        if (tensors[i].field == NULL)
            json_object_del(w.header, tensors[i].tensor);
        else
            json_object_set_new(json_object_get(w.header, tensors[i].tensor), tensors[i].field,
                                json_loads(tensors[i].value, JSON_DECODE_ANY, NULL));
        weights_write(&w);
        expect(-EINVAL, tensors[i].says, tensors[i].tensor);
        json_decref(w.header);
    }
    folder_remove();
}

/* Where a tensor's numbers are. */
static float *values(struct weights *w, const char *tensor)
{
    json_t *offsets = json_object_get(json_object_get(w->header, tensor), "data_offsets");

    assert_non_null(offsets);
    return (float *)(void *)(w->data + json_integer_value(json_array_get(offsets, 0)));
}

static void test_weights_that_are_not_numbers(void **state)
{
    static struct weights w;
    static const float wrong[] = {NAN, INFINITY, -INFINITY};

    (void)state;
    folder_make();
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        weights_read(&w);
        memcpy(values(&w, "encoder.layer.1.attention.self.value.weight") + 77, &wrong[i], 4);
        weights_write(&w);
        expect(-EINVAL, "tensor encoder.layer.1.attention.self.value.weight holds NaN or infinity",
               "NaN");
        json_decref(w.header);
    }
    folder_remove();
}

/* Finite weights whose sums are not: the answer is an error, whichever matrix they stand in. */
static void test_overflow_is_an_error(void **state)
{
    static const char *where[] = {
        "embeddings.word_embeddings.weight", "encoder.layer.0.attention.self.query.weight",
        "encoder.layer.0.attention.self.value.weight", "encoder.layer.1.intermediate.dense.weight",
        "encoder.layer.1.output.dense.weight"};
    static struct weights w;
    int32_t ids[] = {2, 113, 114, 3};
    uint32_t offsets[] = {0, 4};
    struct encoder_batch b = {ids, NULL, offsets, 1};
    float y[32], huge = 3e38f;

    (void)state;
    folder_make();
    for (size_t i = 0; i < sizeof where / sizeof *where; i++)
        for (int precision = 0; precision < 2; precision++) {
            struct encoder *e;
            struct encoder_ctx *ctx;

            weights_read(&w);
            for (int v = 0; v < 1024; v++)
                memcpy(values(&w, where[i]) + v, &huge, 4);
            for (int v = 0; v < 1024 && i == 0; v++)
                memcpy(values(&w, "embeddings.position_embeddings.weight") + v, &huge, 4);
            for (int t = 0; t < 4 && i == 0; t++)
                ids[t] = t;
            weights_write(&w);
            json_decref(w.header);
            e = opened(folder, (enum encoder_precision)precision);
            ctx = context(e, 16, 1);
            if (encoder_forward(ctx, &b, 1, y) != -EDOM)
                fail_msg("%s of 3e38 gave an answer", where[i]);
            encoder_ctx_close(ctx);
            encoder_close(e);
        }
    folder_remove();
}

static int setup(void **state)
{
    static struct golden tiny;

    golden_read(TINY "/expected.txt", 2, &tiny);
    *state = &tiny;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiny_is_transformers),
        cmocka_unit_test(test_cls_f16_is_transformers),
        cmocka_unit_test(test_minilm_is_transformers),
        cmocka_unit_test(test_info),
        cmocka_unit_test(test_bits_do_not_depend_on_the_batch),
        cmocka_unit_test(test_threads_share_the_weights),
        cmocka_unit_test(test_types_may_be_missing),
        cmocka_unit_test(test_wrong_batches_are_refused),
        cmocka_unit_test(test_wrong_configs_are_refused),
        cmocka_unit_test(test_wrong_files_beside_it_are_refused),
        cmocka_unit_test(test_length_without_its_file),
        cmocka_unit_test(test_wrong_tensors_are_refused),
        cmocka_unit_test(test_weights_that_are_not_numbers),
        cmocka_unit_test(test_overflow_is_an_error),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
