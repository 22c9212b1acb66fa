/* digest.c -- SHA-256, and the identity of an example. The home of nettle. */
#include <errno.h>
#include <nettle/memops.h>
#include <nettle/sha2.h>
#include <string.h>
#include <sys/mman.h>

#include "store/store_internal.h"

void store_sha256(const void *bytes, size_t bytes_len, uint8_t ret_hash[STORE_HASH_BYTES])
{
    const struct store_piece whole = {bytes, bytes_len};

    store_sha256_pieces(&whole, 1, ret_hash);
}

void store_hash_hex(const uint8_t hash[STORE_HASH_BYTES], char ret_hex[STORE_HASH_CHARS])
{
    static const char digits[] = "0123456789abcdef";

    for (int i = 0; i < STORE_HASH_BYTES; i++) {
        ret_hex[2 * i] = digits[hash[i] >> 4];
        ret_hex[2 * i + 1] = digits[hash[i] & 15];
    }
    ret_hex[STORE_HASH_CHARS - 1] = '\0';
}

bool store_hash_same(const uint8_t a[STORE_HASH_BYTES], const uint8_t b[STORE_HASH_BYTES])
{
    return memeql_sec(a, b, STORE_HASH_BYTES) != 0;
}

int store_sha256_file(int fd, size_t bytes, uint8_t ret_hash[STORE_HASH_BYTES])
{
    void *map = bytes > 0 ? mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;

    if (map == MAP_FAILED)
        return -errno;
    store_sha256(map != NULL ? map : "", bytes, ret_hash);
    if (map != NULL)
        munmap(map, bytes);
    return 0;
}

void store_sha256_pieces(const struct store_piece *pieces, uint32_t len,
                         uint8_t ret_hash[STORE_HASH_BYTES])
{
    struct sha256_ctx ctx;

    sha256_init(&ctx);
    for (uint32_t i = 0; i < len; i++)
        sha256_update(&ctx, pieces[i].len, pieces[i].bytes);
    sha256_digest(&ctx, STORE_HASH_BYTES, ret_hash);
}

/* Lengths go in before what they measure, so that no two different inputs give the same bytes. */
static void update_part(struct sha256_ctx *ctx, const void *bytes, size_t len)
{
    uint8_t length[8];

    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)((uint64_t)len >> 8 * i);
    sha256_update(ctx, sizeof length, length);
    sha256_update(ctx, len, bytes);
}

static void hash_text(struct sha256_ctx *ctx, const char *text, size_t text_bytes, const char *pair,
                      size_t pair_bytes, uint8_t *ret_half)
{
    update_part(ctx, text, text_bytes);
    if (pair != NULL)
        update_part(ctx, pair, pair_bytes);
    sha256_digest(ctx, STORE_ID_BYTES / 2, ret_half);
}

/* The first half is of the text alone: it orders a model's examples, and that order must not depend
 * on the model's name. */
void store_example_id(const char *model_name, const char *text, size_t text_bytes, const char *pair,
                      size_t pair_bytes, uint8_t ret_id[STORE_ID_BYTES])
{
    struct sha256_ctx ctx;

    sha256_init(&ctx);
    hash_text(&ctx, text, text_bytes, pair, pair_bytes, ret_id);
    sha256_init(&ctx);
    update_part(&ctx, model_name, strlen(model_name));
    hash_text(&ctx, text, text_bytes, pair, pair_bytes, ret_id + STORE_ID_BYTES / 2);
}
