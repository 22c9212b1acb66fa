/* test_tokenizer.c -- token for token what Hugging Face's tokenizer says, and what it does with
 * files and texts that are wrong.
 *
 * Expected ids come from tests/golden/tokenizer/make.py. With $LEARND_SHARED also every naughty
 * string, every language of the declaration of human rights and the vectors of transformers.js;
 * without it those tests say so and skip.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "kernels/text/tokenizer.h"
#include "tests/unit/fault_alloc.h"

#define GOLDEN "tests/golden/tokenizer"

enum { KINDS = 3, IDS_MAX = 16384 };

static const char *kinds[KINDS] = {"uncased", "cased", "chinese"};
static int32_t ids[IDS_MAX];
static uint8_t types[IDS_MAX];

/* ---- helpers --------------------------------------------------------------------------------- */

static struct tokenizer *opened(const char *folder)
{
    struct tokenizer *t = NULL;
    char why[256];
    int rc = tokenizer_open(folder, why, sizeof why, &t);

    if (rc != 0)
        fail_msg("%s: %d: %s", folder, rc, why);
    return t;
}

/* Encodes, and holds what must be true of any answer. The text stands in a block of its own, so
 * that ASan sees a byte too many. */
static int encode(const struct tokenizer *t, const char *text, size_t bytes, const char *pair,
                  enum tokenizer_truncate truncate, uint32_t most, uint32_t *ret_len)
{
    char *own = malloc(bytes + (bytes == 0));
    struct tokenizer_input in = {own, bytes, pair, pair != NULL ? strlen(pair) : 0};
    bool truncated = false;
    int rc;

    memcpy(own, text, bytes);
    rc = tokenizer_encode(t, &in, truncate, most, ids, types, ret_len, &truncated);
    free(own);
    if (rc != 0) {
        assert_int_equal(rc, -EMSGSIZE);
        assert_int_equal(truncate, TOKENIZER_TRUNCATE_NEVER);
        return rc;
    }
    assert_in_range(*ret_len, pair != NULL ? 3 : 2, most);
    assert_true(!truncated || *ret_len == most);
    for (uint32_t i = 0; i < *ret_len; i++)
        assert_true(ids[i] >= 0 && (uint32_t)ids[i] < tokenizer_vocab_len(t) && types[i] <= 1);
    return 0;
}

/* As make.py: the first 32 bits of FNV-1a 64 over the ids. */
static uint32_t hash(const struct tokenizer *t, const char *text, size_t bytes)
{
    uint64_t h = 0xcbf29ce484222325;
    uint32_t len;

    assert_int_equal(encode(t, text, bytes, NULL, TOKENIZER_TRUNCATE_NEVER, IDS_MAX, &len), 0);
    for (uint32_t i = 0; i < len; i++)
        for (int b = 0; b < 32; b += 8)
            h = (h ^ ((uint32_t)ids[i] >> b & 255)) * 0x100000001b3;
    return (uint32_t)(h >> 32);
}

static char *read_all(const char *path, size_t *ret_len)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    char *bytes;

    if (f == NULL)
        return NULL;
    assert_int_equal(fstat(fileno(f), &st), 0);
    bytes = malloc((size_t)st.st_size + 1);
    assert_non_null(bytes);
    *ret_len = fread(bytes, 1, (size_t)st.st_size, f);
    bytes[*ret_len] = '\0';
    fclose(f);
    return bytes;
}

/* A folder of its own under /tmp, for one test at a time. */
static char folder[64];

static void folder_make(void)
{
    snprintf(folder, sizeof folder, "/tmp/learnd-tokenizer-XXXXXX");
    assert_non_null(mkdtemp(folder));
}

static void folder_path(const char *name, char path[128])
{
    snprintf(path, 128, "%s/%s", folder, name);
}

static void folder_put(const char *name, const char *bytes)
{
    char path[128];
    FILE *f;

    folder_path(name, path);
    f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, strlen(bytes), f), strlen(bytes));
    assert_int_equal(fclose(f), 0);
}

static void folder_drop(const char *name)
{
    char path[128];

    folder_path(name, path);
    unlink(path);
}

static void folder_remove(void)
{
    folder_drop("tokenizer.json");
    folder_drop("vocab.txt");
    folder_drop("tokenizer_config.json");
    assert_int_equal(rmdir(folder), 0);
}

/* ---- the committed cases --------------------------------------------------------------------- */

static enum tokenizer_truncate way(const char *name)
{
    if (strcmp(name, "left") == 0)
        return TOKENIZER_TRUNCATE_LEFT;
    return strcmp(name, "never") == 0 ? TOKENIZER_TRUNCATE_NEVER : TOKENIZER_TRUNCATE_RIGHT;
}

/* The text of a case, which may be given in hex. */
static size_t case_text(json_t *row, char *text)
{
    const char *hex = json_string_value(json_object_get(row, "bytes"));
    json_t *plain = json_object_get(row, "text");
    size_t len = 0;
    unsigned byte;

    if (hex == NULL) {
        memcpy(text, json_string_value(plain), json_string_length(plain));
        return json_string_length(plain);
    }
    for (; sscanf(hex + 2 * len, "%2x", &byte) == 1; len++)
        text[len] = (char)byte;
    return len;
}

static void check_case(const struct tokenizer *t, json_t *row, int line)
{
    static char text[1 << 16];
    size_t bytes = case_text(row, text);
    json_t *wanted = json_object_get(row, "ids"), *wanted_types = json_object_get(row, "types");
    const char *pair = json_string_value(json_object_get(row, "pair"));
    uint32_t most = (uint32_t)json_integer_value(json_object_get(row, "max")), len = 0;
    int rc = encode(t, text, bytes, pair, way(json_string_value(json_object_get(row, "truncate"))),
                    most, &len);

    assert_int_equal(rc, json_is_null(wanted) ? -EMSGSIZE : 0);
    if (rc != 0)
        return;
    if (len != json_array_size(wanted))
        fail_msg("cases.jsonl:%d: %u ids, expected %zu", line, len, json_array_size(wanted));
    for (uint32_t i = 0; i < len; i++) {
        if (ids[i] != json_integer_value(json_array_get(wanted, i)))
            fail_msg("cases.jsonl:%d: id %u is %d, expected %lld", line, i, ids[i],
                     json_integer_value(json_array_get(wanted, i)));
        if (wanted_types != NULL)
            assert_int_equal(types[i], json_integer_value(json_array_get(wanted_types, i)));
        else
            assert_int_equal(types[i], 0);
    }
}

/* form: which of the two ways of keeping a tokenizer. */
static void check_cases(const char *form)
{
    struct tokenizer *t[KINDS];
    size_t len, seen = 0;
    char path[128], *all = read_all(GOLDEN "/cases.jsonl", &len), *next;
    int line = 1;

    assert_non_null(all);
    for (int k = 0; k < KINDS; k++) {
        snprintf(path, sizeof path, GOLDEN "/%s/%s", kinds[k], form);
        t[k] = opened(path);
    }
    for (char *row = all; *row != '\0'; row = next, line++) {
        json_t *json;
        const char *kind;

        next = strchr(row, '\n') + 1;
        json = json_loadb(row, (size_t)(next - row), JSON_ALLOW_NUL, NULL);
        assert_non_null(json);
        kind = json_string_value(json_object_get(json, "vocabulary"));
        for (int k = 0; k < KINDS; k++)
            if (strcmp(kind, kinds[k]) == 0) {
                check_case(t[k], json, line);
                seen++;
            }
        json_decref(json);
    }
    assert_true(seen > 500);
    for (int k = 0; k < KINDS; k++)
        tokenizer_close(t[k]);
    free(all);
}

static void test_cases_from_tokenizer_json(void **state)
{
    (void)state;
    check_cases("json");
}

static void test_cases_from_vocab_txt(void **state)
{
    (void)state;
    check_cases("txt");
}

/* ---- every code point ------------------------------------------------------------------------ */

static size_t put_point(char *to, uint32_t c)
{
    size_t len = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};

    for (size_t i = len; i-- > 1; c >>= 6)
        to[i] = (char)(0x80 | (c & 63));
    to[0] = (char)(lead[len] | c);
    return len;
}

static bool is_point(uint32_t c)
{
    return c < 0xd800 || c >= 0xe000;
}

/* "x y z": the points of one block, each with `around` on both sides or alone. */
static size_t block_text(uint32_t start, const char *before, const char *after, char *text)
{
    size_t len = 0;

    for (uint32_t c = start; c < start + 4096; c++) {
        if (!is_point(c))
            continue;
        if (c > start)
            text[len++] = ' ';
        memcpy(text + len, before, strlen(before));
        len += strlen(before);
        len += put_point(text + len, c);
        memcpy(text + len, after, strlen(after));
        len += strlen(after);
    }
    return len;
}

/* A vocabulary in which every code point up to U+2FFFF is a piece: then the ids tell the whole of
 * the normaliser. */
static struct tokenizer *of_points(bool lowercase)
{
    struct tokenizer *t;
    char path[128], utf8[5];
    FILE *f;

    folder_make();
    folder_path("vocab.txt", path);
    f = fopen(path, "wb");
    assert_non_null(f);
    fputs("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n", f);
    for (uint32_t c = 0x21; c < 0x30000; c++)
        if (is_point(c)) {
            fwrite(utf8, 1, put_point(utf8, c), f);
            fputc('\n', f);
        }
    assert_int_equal(fclose(f), 0);
    folder_put("tokenizer_config.json",
               lowercase ? "{\"do_lower_case\":true}" : "{\"do_lower_case\":false}");
    t = opened(folder);
    folder_remove();
    return t;
}

static void test_every_code_point(void **state)
{
    struct tokenizer *alone = of_points(true), *kept = of_points(false);
    struct tokenizer *between = opened(GOLDEN "/uncased/txt");
    char *text = malloc(4096 * 8);
    FILE *f = fopen(GOLDEN "/points.txt", "r");
    uint32_t start, wanted[3];
    int blocks = 0, wrong = 0;

    (void)state;
    assert_non_null(f);
    for (; fscanf(f, "%x %x %x %x", &start, &wanted[0], &wanted[1], &wanted[2]) == 4; blocks++) {
        size_t bytes = block_text(start, "", "", text);
        uint32_t have[3] = {hash(alone, text, bytes), hash(kept, text, bytes), 0};

        have[2] = hash(between, text, block_text(start, "a", "b", text));
        for (int i = 0; i < 3; i++)
            if (have[i] != wanted[i]) {
                print_error("U+%04X .. U+%04X: other ids, way %d\n", start, start + 4095, i);
                wrong++;
            }
    }
    fclose(f);
    free(text);
    tokenizer_close(alone);
    tokenizer_close(kept);
    tokenizer_close(between);
    assert_int_equal(blocks, 272);
    assert_int_equal(wrong, 0);
}

/* ---- the shared data ------------------------------------------------------------------------- */

/* data/NAME under $LEARND_SHARED, or NULL after having said so. */
static char *shared_read(const char *name, size_t *ret_len)
{
    const char *root = getenv("LEARND_SHARED");
    char path[512], *bytes = NULL;

    if (root != NULL) {
        snprintf(path, sizeof path, "%s/data/%s", root, name);
        bytes = read_all(path, ret_len);
    }
    if (bytes == NULL)
        printf("SKIPPED: LEARND_SHARED has no data/%s: the tokenizer was not held against it\n",
               name);
    return bytes;
}

/* One of BERT's own vocabularies. */
static struct tokenizer *of_bert(int kind, bool lowercase)
{
    const char *root = getenv("LEARND_SHARED");
    char from[512], to[128];
    struct tokenizer *t;

    folder_make();
    snprintf(from, sizeof from, "%s/data/tokenizer_vectors/bert-base-%s-vocab.txt", root,
             kinds[kind]);
    folder_path("vocab.txt", to);
    assert_int_equal(symlink(from, to), 0);
    folder_put("tokenizer_config.json",
               lowercase ? "{\"do_lower_case\":true}" : "{\"do_lower_case\":false}");
    t = opened(folder);
    folder_remove();
    return t;
}

/* Compares one text with the next line of shared.txt. */
static int check_shared_line(struct tokenizer *const *t, FILE *expected, const char *name,
                             const char *text, size_t bytes)
{
    char found[32];
    uint32_t line, wanted[KINDS];
    int wrong = 0;

    assert_int_equal(
        fscanf(expected, "%31s %u %x %x %x", found, &line, &wanted[0], &wanted[1], &wanted[2]), 5);
    assert_string_equal(found, name);
    for (int k = 0; k < KINDS; k++)
        if (hash(t[k], text, bytes) != wanted[k]) {
            print_error("%s line %u: other ids with the %s vocabulary\n", name, line, kinds[k]);
            wrong++;
        }
    return wrong;
}

static void test_shared_texts(void **state)
{
    size_t naughty_len, udhr_len;
    char *naughty = shared_read("naughty_strings/blns.txt", &naughty_len), *at, *end;
    char *udhr = naughty != NULL ? shared_read("udhr/udhr_2k.jsonl", &udhr_len) : NULL;
    struct tokenizer *t[KINDS];
    FILE *expected = fopen(GOLDEN "/shared.txt", "r");
    int wrong = 0, seen = 0;

    (void)state;
    assert_non_null(expected);
    if (naughty == NULL || udhr == NULL) {
        free(naughty);
        fclose(expected);
        skip();
    }
    for (int k = 0; k < KINDS; k++)
        t[k] = of_bert(k, k == 0);
    for (at = naughty; at != NULL; at = end != NULL ? end + 1 : NULL, seen++) {
        end = memchr(at, '\n', naughty_len - (size_t)(at - naughty));
        wrong += check_shared_line(t, expected, "naughty", at,
                                   end != NULL ? (size_t)(end - at)
                                               : naughty_len - (size_t)(at - naughty));
    }
    for (at = udhr; at < udhr + udhr_len; at = end + 1, seen++) {
        json_t *row;

        end = strchr(at, '\n');
        row = json_loadb(at, (size_t)(end - at), 0, NULL);
        wrong +=
            check_shared_line(t, expected, "udhr", json_string_value(json_object_get(row, "text")),
                              json_string_length(json_object_get(row, "text")));
        json_decref(row);
    }
    assert_int_equal(fscanf(expected, "%*s"), EOF);
    fclose(expected);
    free(naughty);
    free(udhr);
    for (int k = 0; k < KINDS; k++)
        tokenizer_close(t[k]);
    assert_true(seen > 1200);
    assert_int_equal(wrong, 0);
}

/* The models of transformers.js's vectors that use one of the three vocabularies; 3 is the Chinese
 * one in lower case. */
static int vector_kind(const char *model)
{
    static const struct {
        const char *model;
        int kind;
    } known[] = {{"Xenova/bert-base-uncased", 0},
                 {"Xenova/distilbert-base-uncased-finetuned-sst-2-english", 0},
                 {"Xenova/bert-base-cased", 1},
                 {"google-bert/bert-base-cased", 1},
                 {"Xenova/distilbert-base-cased-distilled-squad", 1},
                 {"Xenova/bge-small-zh-v1.5", 2},
                 {"Xenova/bge-base-zh-v1.5", KINDS}};

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].model, model) == 0)
            return known[i].kind;
    return -1;
}

static int check_vector(struct tokenizer *const *t, json_t *row)
{
    json_t *wanted = json_object_get(row, "ids"), *text = json_object_get(row, "text");
    const char *name = json_string_value(json_object_get(row, "name"));
    int kind = vector_kind(json_string_value(json_object_get(row, "model")));
    uint32_t len;

    if (kind < 0)
        return 0;
    assert_int_equal(encode(t[kind], json_string_value(text), json_string_length(text),
                            json_string_value(json_object_get(row, "text_pair")),
                            TOKENIZER_TRUNCATE_NEVER, IDS_MAX, &len),
                     0);
    if (len != json_array_size(wanted))
        fail_msg("%s: %u ids, expected %zu", name, len, json_array_size(wanted));
    for (uint32_t i = 0; i < len; i++)
        if (ids[i] != json_integer_value(json_array_get(wanted, i)))
            fail_msg("%s: id %u is %d, expected %lld", name, i, ids[i],
                     json_integer_value(json_array_get(wanted, i)));
    return 1;
}

static void test_shared_vectors(void **state)
{
    size_t len;
    char *all = shared_read("tokenizer_vectors/hf_expected.jsonl", &len), *end;
    struct tokenizer *t[KINDS + 1];
    int seen = 0;

    (void)state;
    if (all == NULL)
        skip();
    for (int k = 0; k < KINDS; k++)
        t[k] = of_bert(k, k == 0);
    t[KINDS] = of_bert(2, true);
    for (char *at = all; at < all + len; at = end + 1) {
        json_t *row;

        end = strchr(at, '\n');
        row = json_loadb(at, (size_t)(end - at), JSON_ALLOW_NUL, NULL);
        assert_non_null(row);
        seen += check_vector(t, row);
        json_decref(row);
    }
    assert_true(seen > 100);
    for (int k = 0; k <= KINDS; k++)
        tokenizer_close(t[k]);
    free(all);
}

/* ---- hostile texts --------------------------------------------------------------------------- */

enum { HOSTILE_BYTES = 1 << 20, HOSTILE_KINDS = 9 };

/* A megabyte of one kind of trouble. */
static void hostile(int kind, char *text)
{
    static const char *repeated[HOSTILE_KINDS] = {
        NULL,       "\xff",         "\x80",         "x",
        "\xcc\x81", "\xe6\x97\xa5", "\xf0\x9f\x98", "\xe0\xa3\xa4\xe0\xbd\xb1",
        "!"};
    uint64_t z = 1;

    for (size_t i = 0; i < HOSTILE_BYTES; i++) {
        z = z * 6364136223846793005 + 1442695040888963407;
        text[i] =
            repeated[kind] == NULL ? (char)(z >> 56) : repeated[kind][i % strlen(repeated[kind])];
    }
}

static void test_hostile_megabyte(void **state)
{
    struct tokenizer *t = opened(GOLDEN "/uncased/json");
    char *text = malloc(HOSTILE_BYTES + 1);
    uint32_t len;

    (void)state;
    text[HOSTILE_BYTES] = '\0';
    for (int kind = 0; kind < HOSTILE_KINDS; kind++) {
        hostile(kind, text);
        for (uint32_t most = 3; most <= 3000; most = most * 31 + 7) {
            encode(t, text, HOSTILE_BYTES, NULL, TOKENIZER_TRUNCATE_RIGHT, most, &len);
            encode(t, text, HOSTILE_BYTES, NULL, TOKENIZER_TRUNCATE_LEFT, most, &len);
            encode(t, text, HOSTILE_BYTES, NULL, TOKENIZER_TRUNCATE_NEVER, most, &len);
            encode(t, text, HOSTILE_BYTES, "pair", TOKENIZER_TRUNCATE_RIGHT, most + 1, &len);
        }
    }
    free(text);
    tokenizer_close(t);
}

/* ---- threads --------------------------------------------------------------------------------- */

struct reader {
    const struct tokenizer *tokenizer;
    uint32_t len;
    int32_t ids[64];
};

static void *read_on_its_own(void *argument)
{
    static const char text[] =
        "unable H\xc3\xa9llo \xe4\xbd\xa0\xe5\xa5\xbd [SEP] tokenized \xcc\x81 na\xc3\xafve";
    struct tokenizer_input in = {text, sizeof text - 1, NULL, 0};
    struct reader *r = argument;
    uint8_t segments[64];

    for (int i = 0; i < 2000; i++)
        if (tokenizer_encode(r->tokenizer, &in, TOKENIZER_TRUNCATE_RIGHT, 64, r->ids, segments,
                             &r->len, NULL) != 0)
            r->len = 0;
    return NULL;
}

static void test_threads_share_a_tokenizer(void **state)
{
    struct tokenizer *t = opened(GOLDEN "/uncased/json");
    static struct reader readers[4];
    pthread_t threads[4];

    (void)state;
    for (int i = 0; i < 4; i++) {
        readers[i].tokenizer = t;
        assert_int_equal(pthread_create(&threads[i], NULL, read_on_its_own, &readers[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_true(readers[0].len > 10);
    for (int i = 1; i < 4; i++)
        assert_memory_equal(&readers[i].len, &readers[0].len,
                            sizeof(uint32_t) + sizeof readers[0].ids);
    tokenizer_close(t);
}

/* ---- files that are wrong -------------------------------------------------------------------- */

#define JSON_HEAD                                                                                  \
    "{\"normalizer\":{\"type\":\"BertNormalizer\"},\"pre_tokenizer\":{\"type\":"                   \
    "\"BertPreTokenizer\"},\"added_tokens\":[],\"model\":{\"type\":\"WordPiece\","

static const struct {
    const char *json, *vocab, *config; /* NULL: no such file */
    const char *says;                  /* part of the reason */
} refused[] = {
    {NULL, NULL, NULL, "neither tokenizer.json nor vocab.txt"},
    {"", NULL, NULL, "not valid JSON"},
    {"{\"model\":", NULL, NULL, "not valid JSON"},
    {"[1,2]", NULL, NULL, "found nothing, nothing and nothing"},
    {"{}", NULL, NULL, "expected a WordPiece model"},
    {"{\"model\":{\"type\":\"BPE\"},\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":"
     "\"ByteLevel\"}}",
     NULL, NULL, "found BPE, NFC and ByteLevel"},
    {JSON_HEAD "\"vocab\":{}}}", NULL, NULL, "model.vocab"},
    {JSON_HEAD "\"vocab\":[\"a\"]}}", NULL, NULL, "model.vocab"},
    {JSON_HEAD "\"vocab\":{\"a\":0,\"[CLS]\":1,\"[SEP]\":2}}}", NULL, NULL, "has no [UNK]"},
    {JSON_HEAD "\"vocab\":{\"[UNK]\":0,\"[SEP]\":2}}}", NULL, NULL, "has no [CLS]"},
    {JSON_HEAD "\"vocab\":{\"[UNK]\":0,\"[CLS]\":2}}}", NULL, NULL, "has no [SEP]"},
    {JSON_HEAD "\"vocab\":{\"[UNK]\":-1,\"[CLS]\":1,\"[SEP]\":2}}}", NULL, NULL, "an id outside"},
    {JSON_HEAD "\"vocab\":{\"[UNK]\":\"0\",\"[CLS]\":1,\"[SEP]\":2}}}", NULL, NULL,
     "an id outside"},
    {JSON_HEAD "\"vocab\":{\"[UNK]\":1e3,\"[CLS]\":1,\"[SEP]\":2}}}", NULL, NULL, "an id outside"},
    {JSON_HEAD "\"vocab\":{\"[UNK]\":99999999999,\"[CLS]\":1,\"[SEP]\":2}}}", NULL, NULL,
     "an id outside"},
    {JSON_HEAD "\"vocab\":{\"a\":1,\"a\":2}}}", NULL, NULL, "not valid JSON"},
    {JSON_HEAD "\"max_input_chars_per_word\":0,\"vocab\":{\"a\":1}}}", NULL, NULL,
     "max_input_chars_per_word"},
    {JSON_HEAD "\"max_input_chars_per_word\":100000,\"vocab\":{\"a\":1}}}", NULL, NULL,
     "max_input_chars_per_word"},
    {"{\"normalizer\":{\"type\":\"BertNormalizer\"},\"pre_tokenizer\":{\"type\":"
     "\"BertPreTokenizer\"},\"model\":"
     "{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2}},\"added_tokens\":[{"
     "\"content\":"
     "\"zzz\",\"id\":3,\"special\":false}]}",
     NULL, NULL, "added tokens"},
    {NULL, "", NULL, "has no [UNK]"},
    {NULL, "a\nb\n", NULL, "has no [UNK]"},
    {NULL, "[UNK]\n[SEP]\n", NULL, "has no [CLS]"},
    {NULL, "[UNK]\n[CLS]\n[SEP]\n", "{", "not valid JSON"},
    {NULL, "[UNK]\n[CLS]\n[SEP]\n", "{\"tokenizer_class\":\"GPT2Tokenizer\"}",
     "only Bert tokenizers"},
    {NULL, "[UNK]\n[CLS]\n[SEP]\n", "{\"unk_token\":\"<unk>\"}", "has no <unk>"},
    {NULL, "[UNK]\n[CLS]\n[SEP]\n", "[]", "tokenizer_config.json"},
};

static void test_wrong_files_are_refused(void **state)
{
    (void)state;
    folder_make();
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct tokenizer *t = NULL;
        char why[256];
        int rc;

        folder_drop("tokenizer.json");
        folder_drop("vocab.txt");
        folder_drop("tokenizer_config.json");
        if (refused[i].json != NULL)
            folder_put("tokenizer.json", refused[i].json);
        if (refused[i].vocab != NULL)
            folder_put("vocab.txt", refused[i].vocab);
        if (refused[i].config != NULL)
            folder_put("tokenizer_config.json", refused[i].config);
        rc = tokenizer_open(folder, why, sizeof why, &t);
        if (t != NULL)
            fail_msg("case %zu was read", i);
        assert_int_equal(rc, i == 0 ? -ENOENT : -EINVAL);
        if (strstr(why, refused[i].says) == NULL)
            fail_msg("refusal %zu: \"%s\" does not say \"%s\"", i, why, refused[i].says);
        rc = tokenizer_open(folder, why, 8, &t); /* a short reason is cut, not written past */
        assert_true(rc < 0 && strlen(why) < 8);
    }
    folder_remove();
}

/* Windows line ends, no last line end, a piece twice (the later id counts), the settings missing:
 * all read. */
static void test_odd_vocab_txt_is_read(void **state)
{
    struct tokenizer *t;
    uint32_t len;

    (void)state;
    folder_make();
    folder_put("vocab.txt", "[UNK]\r\n[CLS]\r\n[SEP]\r\na\r\nb\r\na");
    t = opened(folder);
    assert_int_equal(tokenizer_vocab_len(t), 6);
    assert_int_equal(encode(t, "A b c", 5, NULL, TOKENIZER_TRUNCATE_RIGHT, 16, &len), 0);
    assert_int_equal(len, 5);
    assert_int_equal(ids[1], 5);
    assert_int_equal(ids[2], 4);
    assert_int_equal(ids[3], 0);
    tokenizer_close(t);
    folder_remove();
}

static void test_every_allocation_may_fail(void **state)
{
    static const char *folders[] = {GOLDEN "/uncased/json", GOLDEN "/uncased/txt"};
    struct tokenizer_input in = {"hello world", 11, NULL, 0};
    struct tokenizer *t = NULL;
    uint32_t len;
    char why[256];

    (void)state;
    fault_alloc_install();
    for (int i = 0; i < 2; i++) {
        int rc = -ENOMEM, nothing = 0;

        for (uint64_t n = 1; rc != 0; n++) {
            int64_t held = fault_alloc_held();

            fault_alloc_arm(n, true);
            rc = tokenizer_open(folders[i], why, sizeof why, &t);
            fault_alloc_disarm();
            if (rc == 0)
                break;
            if (rc != -ENOMEM && rc != -EINVAL) /* jansson without memory may say "not JSON" */
                fail_msg("allocation %llu of %s: %d: %s", (unsigned long long)n, folders[i], rc,
                         why);
            nothing += rc == -ENOMEM;
            assert_null(t);
            assert_int_equal(fault_alloc_held(), held);
            assert_true(n < 100000);
        }
        assert_true(nothing >= 3);
        fault_alloc_arm(1, true); /* a text over the stack's room allocates */
        rc = tokenizer_encode(t, &in, TOKENIZER_TRUNCATE_RIGHT, IDS_MAX, ids, types, &len, NULL);
        fault_alloc_disarm();
        assert_int_equal(rc, -ENOMEM);
        tokenizer_close(t);
        t = NULL;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases_from_tokenizer_json),
        cmocka_unit_test(test_cases_from_vocab_txt),
        cmocka_unit_test(test_every_code_point),
        cmocka_unit_test(test_shared_texts),
        cmocka_unit_test(test_shared_vectors),
        cmocka_unit_test(test_hostile_megabyte),
        cmocka_unit_test(test_threads_share_a_tokenizer),
        cmocka_unit_test(test_wrong_files_are_refused),
        cmocka_unit_test(test_odd_vocab_txt_is_read),
        cmocka_unit_test(test_every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
