/* fuzz_tokenizer.c -- any bytes as a text, and any bytes as a tokenizer's files.
 *
 * The first byte picks: u, c, z the text with the uncased, cased or Chinese vocabulary of
 * tests/golden/tokenizer (run from the root of the tree); j a tokenizer.json; v a vocab.txt; s a
 * tokenizer_config.json. Beside what the sanitizers see, it holds: every id is in the vocabulary;
 * cutting on the right keeps the beginning and on the left the end; a tokenizer that opens can
 * encode.
 *
 * Seeds: tests/fuzz/corpus/tokenizer, made by hand from the tables of test_tokenizer.c.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/text/tokenizer.h"

enum { IDS_MAX = 1 << 12 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int32_t whole[IDS_MAX], ids[IDS_MAX];
static uint8_t types[IDS_MAX];

static void must(bool truth)
{
    if (!truth)
        abort();
}

static uint32_t encode(const struct tokenizer *t, const struct tokenizer_input *in,
                       enum tokenizer_truncate truncate, uint32_t most, int32_t *to)
{
    uint32_t len = 0;
    bool truncated;

    must(tokenizer_encode(t, in, truncate, most, to, types, &len, &truncated) == 0);
    must(len >= 2 && len <= most && (!truncated || len == most));
    for (uint32_t i = 0; i < len; i++)
        must(to[i] >= 0 && (uint32_t)to[i] < tokenizer_vocab_len(t) && types[i] <= 1);
    return len;
}

static void try_text(const struct tokenizer *t, const char *text, size_t bytes)
{
    struct tokenizer_input in = {text, bytes, NULL, 0};
    uint32_t all = encode(t, &in, TOKENIZER_TRUNCATE_RIGHT, IDS_MAX, whole), len, most;

    for (most = 3; most < 64; most = most * 2 + 1) {
        uint32_t least = all < most ? all : most;

        len = encode(t, &in, TOKENIZER_TRUNCATE_RIGHT, most, ids);
        must(len == least && memcmp(ids, whole, (len - 1) * sizeof *ids) == 0);
        must(ids[len - 1] == whole[all - 1]);
        len = encode(t, &in, TOKENIZER_TRUNCATE_LEFT, most, ids);
        must(len == least && ids[0] == whole[0]);
        must(memcmp(ids + 1, whole + 1 + (all - len), (len - 1) * sizeof *ids) == 0);
        must(tokenizer_encode(t, &in, TOKENIZER_TRUNCATE_NEVER, most, ids, types, &len, NULL) ==
             (all > most ? -EMSGSIZE : 0));
    }
    in.pair = text;
    in.pair_bytes = bytes / 2;
    encode(t, &in, TOKENIZER_TRUNCATE_RIGHT, 4, ids);
    encode(t, &in, TOKENIZER_TRUNCATE_LEFT, 33, ids);
}

/* The three committed vocabularies, opened on first use and kept. */
static const struct tokenizer *committed(int which)
{
    static struct tokenizer *open[3];
    static const char *folders[3] = {"tests/golden/tokenizer/uncased/json",
                                     "tests/golden/tokenizer/cased/txt",
                                     "tests/golden/tokenizer/chinese/txt"};
    char why[256];

    if (open[which] == NULL && tokenizer_open(folders[which], why, sizeof why, &open[which]) != 0) {
        fprintf(stderr, "%s\n", why);
        abort();
    }
    return open[which];
}

static void put(const char *folder, const char *name, const void *bytes, size_t len)
{
    char path[128];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    f = fopen(path, "wb");
    must(f != NULL && fwrite(bytes, 1, len, f) == len && fclose(f) == 0);
}

static void drop(const char *folder, const char *name)
{
    char path[128];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path);
}

static void try_file(const char *name, const char *bytes, size_t len)
{
    static const char vocab[] = "[UNK]\n[CLS]\n[SEP]\na\n##b\n";
    char folder[] = "/tmp/learnd-fuzz-XXXXXX", why[64] = "";
    struct tokenizer *t = NULL;
    int rc;

    must(mkdtemp(folder) != NULL);
    put(folder, "vocab.txt", vocab, sizeof vocab - 1);
    put(folder, name, bytes, len);
    rc = tokenizer_open(folder, why, sizeof why, &t);
    drop(folder, "vocab.txt");
    drop(folder, name);
    must(rmdir(folder) == 0);
    must((rc == 0) == (t != NULL) && (rc == 0 || (rc == -EINVAL && why[0] != '\0')));
    if (rc == 0)
        try_text(t, "ab \xc3\x84 zz \xe6\x97\xa5", 11);
    tokenizer_close(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t len = size > 0 ? size - 1 : 0;
    char *body;

    if (size == 0)
        return 0;
    /* A copy of its own, so that a read past the end is seen. Every byte makes at most one id. */
    len = len < IDS_MAX - 2 ? len : IDS_MAX - 2;
    body = malloc(len + (len == 0));
    if (body == NULL)
        return 0;
    memcpy(body, data + 1, len);
    switch (data[0]) {
    case 'j':
        try_file("tokenizer.json", body, len);
        break;
    case 'v':
        try_file("vocab.txt", body, len);
        break;
    case 's':
        try_file("tokenizer_config.json", body, len);
        break;
    default:
        try_text(committed(data[0] == 'c' ? 1 : data[0] == 'z' ? 2 : 0), body, len);
        break;
    }
    free(body);
    return 0;
}
