/* test_train_image.c -- what leaves a train: images, from which a run goes on bit for bit, and the
 * encoder as a model.safetensors, which opens as the same encoder.
 */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/encoder/encoder.h"
#include "kernels/train/train_internal.h"
#include "tests/unit/train_fixture.h"

#define TINY "tests/golden/tiny-encoder"
#define SINGLE "tests/golden/train/single.safetensors"

static struct train_case opened_case(void)
{
    struct train_case c;

    assert_true(train_case_read(SINGLE, &c));
    c.settings.dropout = 0.1f;
    return c;
}

static struct train *opened(const struct train_case *c, const char *folder)
{
    struct train *t = train_case_open(c, folder, c->settings.fp32, false);

    assert_non_null(t);
    return t;
}

static void steps(struct train *t, const struct train_case *c, uint32_t from, uint32_t to)
{
    struct train_report r;

    for (uint32_t i = from; i < to; i++)
        assert_int_equal(train_step(t, c->batch, train_case_len(c, i), &r), 0);
}

static uint8_t *image_of(const struct train *t)
{
    uint8_t *image = malloc(train_image_bytes(t));

    assert_non_null(image);
    train_image_write(t, image);
    return image;
}

/* ---- images ---------------------------------------------------------------------------------- */

/* Stopped after each step of six and gone on with in a new train: the same weights, moments and
 * embeddings, bit for bit; in bf16, with and without adapters. */
static void test_a_run_goes_on(void **state)
{
    const enum train_lora ways[] = {TRAIN_LORA_NONE, TRAIN_LORA_QV};

    (void)state;
    for (int way = 0; way < 2; way++) {
        struct train_case c = opened_case();
        struct train *whole, *first;
        uint8_t *end;

        c.settings.lora = ways[way];
        c.settings.tokens_max = 50;
        whole = opened(&c, TINY);
        first = opened(&c, TINY);
        steps(whole, &c, 0, 6);
        end = image_of(whole);
        for (uint32_t stop = 0; stop < 6; stop++) {
            uint8_t *image = image_of(first), *again;
            struct train *second = opened(&c, TINY);
            float y[8 * 32], z[8 * 32];

            assert_int_equal(train_image_read(second, image, train_image_bytes(first)), 0);
            assert_int_equal(train_steps_done(second), stop);
            steps(second, &c, stop, 6);
            again = image_of(second);
            assert_memory_equal(end, again, train_image_bytes(second));
            assert_int_equal(train_embed(whole, c.batch, c.len, y), 0);
            assert_int_equal(train_embed(second, c.batch, c.len, z), 0);
            assert_memory_equal(y, z, sizeof y);
            free(image);
            free(again);
            train_close(second);
            steps(first, &c, stop, stop + 1);
        }
        free(end);
        train_close(whole);
        train_close(first);
        train_case_free(&c);
    }
}

/* An image of another run, or a damaged one: refused, and the train is as it was. */
static void test_images_of_others_are_refused(void **state)
{
    struct train_case c = opened_case();
    struct train *t = opened(&c, TINY), *other;
    size_t bytes = train_image_bytes(t);
    uint8_t *image, *own = image_of(t), *after;
    float prototype;

    (void)state;
    steps(t, &c, 0, 2);
    image = image_of(t);
    train_close(t);
#define REFUSE(change)                                                                             \
    {                                                                                              \
        struct train_case saved = c;                                                               \
                                                                                                   \
        change;                                                                                    \
        other = opened(&c, TINY);                                                                  \
        assert_int_equal(train_image_read(other, image, bytes), -EINVAL);                          \
        assert_int_equal(train_steps_done(other), 0);                                              \
        train_close(other);                                                                        \
        c = saved;                                                                                 \
    }
    REFUSE(c.settings.seed++)
    REFUSE(c.settings.steps++)
    REFUSE(c.settings.lr *= 2)
    REFUSE(c.settings.head_lr *= 2)
    REFUSE(c.settings.warmup = 0)
    REFUSE(c.settings.weight_decay = 0)
    REFUSE(c.settings.clip = 2)
    REFUSE(c.settings.dropout = 0)
    REFUSE(c.settings.scale = 21)
    REFUSE(c.settings.alpha = 2)
    REFUSE(c.settings.distill = 2)
    REFUSE(c.settings.temperature = 1)
    REFUSE(c.settings.feature = 0)
    REFUSE(c.settings.fp32 = true)
    REFUSE(c.settings.lora = TRAIN_LORA_ALL)
    REFUSE(c.len--)
    REFUSE(c.settings.tokens_max = 40)
#undef REFUSE
    prototype = c.prototypes[0];
    c.prototypes[0] = -prototype; /* another start */
    other = opened(&c, TINY);
    assert_int_equal(train_image_read(other, image, bytes), -EINVAL);
    train_close(other);
    c.prototypes[0] = prototype;

    other = opened(&c, TINY);
    for (size_t i = 0; i < bytes; i += i < 300 ? 1 : 997) {
        image[i] ^= 0x10;
        assert_int_equal(train_image_read(other, image, bytes), -EINVAL);
        image[i] ^= 0x10;
    }
    assert_int_equal(train_image_read(other, image, bytes - 1), -EINVAL);
    assert_int_equal(train_image_read(other, image, 3), -EINVAL);
    assert_int_equal(train_image_read(other, image, 0), -EINVAL);
    after = image_of(other);
    assert_memory_equal(own, after, bytes);
    assert_int_equal(train_image_read(other, image, bytes), 0);
    assert_int_equal(train_steps_done(other), 2);
    free(after);
    free(own);
    free(image);
    train_close(other);
    train_case_free(&c);
}

/* ---- weights --------------------------------------------------------------------------------- */

/* A folder with the files of another, its model.safetensors from `bytes`, or not at all. */
static void folder_make(const char *folder, const char *like, const struct train_bytes *bytes)
{
    const char *files[] = {"config.json", "modules.json", "sentence_bert_config.json", "1_Pooling"};
    char from[PATH_MAX], to[PATH_MAX], path[PATH_MAX];
    FILE *f;

    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", like, files[i]);
        assert_non_null(realpath(path, from));
        snprintf(to, sizeof to, "%s/%s", folder, files[i]);
        unlink(to);
        assert_int_equal(symlink(from, to), 0);
    }
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    if (bytes == NULL)
        return;
    f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes->bytes, 1, bytes->len, f), bytes->len);
    assert_int_equal(fclose(f), 0);
}

static void folder_remove(const char *folder)
{
    const char *files[] = {"config.json", "modules.json", "sentence_bert_config.json", "1_Pooling",
                           "model.safetensors"};
    char path[PATH_MAX];

    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
    }
    rmdir(folder);
}

static void served(const char *folder, const struct train_case *c, float *ret_embeddings)
{
    struct encoder *e;
    struct encoder_ctx *ctx;
    char why[512] = "";

    if (encoder_open(backend_cpu(), folder, ENCODER_FP32, why, sizeof why, &e) != 0)
        fail_msg("%s", why);
    assert_int_equal(encoder_ctx_open(e, 64, 1, &ctx), 0);
    for (uint32_t i = 0; i < c->len; i++) {
        uint32_t offsets[] = {0, c->batch[i].len};
        struct encoder_batch batch = {c->batch[i].ids, c->batch[i].types, offsets, 1};

        assert_int_equal(encoder_forward(ctx, &batch, 1, ret_embeddings + (size_t)i * 32), 0);
    }
    encoder_ctx_close(ctx);
    encoder_close(e);
}

static double apart(const float *x, const float *y, size_t n)
{
    double most = 0;

    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs((double)x[i] - y[i]));
    return most;
}

/* Every tensor of a file is in another, of the same shape. */
static void hold_names(const struct train *t, const struct safetensors *a,
                       const struct safetensors *b)
{
    assert_int_equal(safetensors_len(a), safetensors_len(b));
    for (uint32_t i = 0; i < t->masters.list_len; i++) {
        char name[TRAIN_NAME_BYTES];
        const struct safetensor *x, *y;

        masters_name(&t->masters.list[i], encoder_tensor_prefix(a), name);
        x = safetensors_find(a, name);
        y = safetensors_find(b, name);
        assert_true(x != NULL && y != NULL && x->dims_len == y->dims_len);
        assert_memory_equal(x->dims, y->dims, sizeof x->dims);
        assert_int_equal(y->dtype, SAFETENSORS_F32);
        assert_int_equal((uintptr_t)y->data % 4, 0);
    }
}

/* Rows that no text used are those of the start. */
static void hold_unused(const struct train *t, const struct safetensors *a,
                        const struct safetensors *b)
{
    const struct safetensor *x, *y;
    char name[TRAIN_NAME_BYTES], why[128];
    float one[32], two[32];
    uint32_t same = 0, used = 0;

    masters_name(t->masters.embedding.word, encoder_tensor_prefix(a), name);
    assert_int_equal(masters_find(t, t->masters.embedding.word, a, why, sizeof why, &x), 0);
    assert_int_equal(masters_find(t, t->masters.embedding.word, b, why, sizeof why, &y), 0);
    for (uint32_t id = 0; id < t->config.V; id++) {
        assert_int_equal(masters_read_row(x, id, one), 0);
        assert_int_equal(masters_read_row(y, id, two), 0);
        if (t->masters.row_of[id] < 0)
            assert_memory_equal(one, two, sizeof one);
        else
            same += memcmp(one, two, sizeof one) == 0;
        used += t->masters.row_of[id] >= 0;
    }
    assert_true(same == 0 && used == t->masters.words && used < t->config.V);
}

static void hold_written(const char *like, enum train_lora lora)
{
    char folder[] = "/tmp/learnd-train-XXXXXX", path[PATH_MAX], why[256];
    struct train_case c = opened_case();
    struct train_bytes bytes = {0}, again = {0};
    struct safetensors *from, *to;
    struct train *t;
    float y[8 * 32], z[8 * 32];

    c.settings.fp32 = true;
    c.settings.lora = lora;
    t = opened(&c, like);
    steps(t, &c, 0, 4);
    assert_int_equal(train_embed(t, c.batch, c.len, y), 0);
    assert_int_equal(train_weights_write(t, train_bytes_take, &bytes), 0);
    assert_non_null(mkdtemp(folder));
    folder_make(folder, like, &bytes);
    served(folder, &c, z);
    assert_true(apart(y, z, 8 * 32) < 1e-5); /* two ways through the same sums */
    served(like, &c, z);
    assert_true(apart(y, z, 8 * 32) > 1e-3);

    snprintf(path, sizeof path, "%s/model.safetensors", like);
    assert_int_equal(safetensors_open(path, why, sizeof why, &from), 0);
    assert_int_equal(safetensors_parse("written", bytes.bytes, bytes.len, why, sizeof why, &to), 0);
    hold_names(t, from, to);
    if (lora == TRAIN_LORA_NONE)
        hold_unused(t, from, to);
    safetensors_close(from);
    safetensors_close(to);
    steps(t, &c, 4, 5); /* writing changes nothing that the next step sees */
    assert_int_equal(train_weights_write(t, train_bytes_take, &again), 0);
    assert_int_equal(bytes.len, again.len);
    assert_true(memcmp(bytes.bytes, again.bytes, bytes.len) != 0);
    free(bytes.bytes);
    free(again.bytes);
    folder_remove(folder);
    train_close(t);
    train_case_free(&c);
}

static void test_weights_open_as_the_same_encoder(void **state)
{
    (void)state;
    hold_written(TINY, TRAIN_LORA_NONE);
    hold_written(TINY, TRAIN_LORA_ALL);
    hold_written(TINY "-cls-f16", TRAIN_LORA_NONE); /* with the prefix, from F16 */
}

/* A sink that fails at its nth piece. */
struct sink {
    int left;
};

static int sink_write(void *ud, const void *bytes, size_t len)
{
    struct sink *s = ud;

    (void)bytes;
    (void)len;
    return --s->left < 0 ? -ENOSPC : 0;
}

static void test_a_full_disk_is_answered(void **state)
{
    struct train_case c = opened_case();
    struct train *t = opened(&c, TINY);
    int n = 0, rc = -ENOSPC;

    (void)state;
    for (; rc != 0; n++) {
        struct sink s = {n};

        rc = train_weights_write(t, sink_write, &s);
        assert_true(rc == 0 || rc == -ENOSPC);
    }
    assert_true(n > 37);
    train_close(t);
    train_case_free(&c);
}

/* The start folder is another one by the time that the weights are written. */
static void test_another_start_is_noticed(void **state)
{
    char folder[] = "/tmp/learnd-train-XXXXXX", path[PATH_MAX];
    struct train_case c = opened_case();
    struct train_bytes start = {0}, end = {0};
    struct train *t = opened(&c, TINY);
    uint32_t unused = 0;
    size_t at;

    (void)state;
    assert_int_equal(train_weights_write(t, train_bytes_take, &start), 0);
    train_close(t);
    assert_non_null(mkdtemp(folder));
    folder_make(folder, TINY, &start);
    t = opened(&c, folder);
    assert_int_equal(train_weights_write(t, train_bytes_take, &end), 0);
    assert_int_equal(end.len, start.len);
    assert_memory_equal(end.bytes, start.bytes, end.len);

    while (t->masters.row_of[unused] >= 0)
        unused++;
    {
        struct safetensors *file;
        const struct safetensor *words;
        char why[128];

        assert_int_equal(safetensors_parse("start", start.bytes, start.len, why, sizeof why, &file),
                         0);
        assert_int_equal(masters_find(t, t->masters.embedding.word, file, why, sizeof why, &words),
                         0);
        at = (size_t)((const uint8_t *)words->data - start.bytes) + (size_t)unused * 32 * 4;
        safetensors_close(file);
    }
    start.bytes[at] ^= 1;
    folder_make(folder, TINY, &start);
    assert_int_equal(train_weights_write(t, train_bytes_take, &end), -ESTALE);
    start.bytes[at] ^= 1;
    folder_make(folder, TINY, &start);
    assert_int_equal(train_weights_write(t, train_bytes_take, &end), 0);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    unlink(path);
    assert_int_equal(train_weights_write(t, train_bytes_take, &end), -ESTALE);
    free(start.bytes);
    free(end.bytes);
    folder_remove(folder);
    train_close(t);
    train_case_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_run_goes_on),
        cmocka_unit_test(test_images_of_others_are_refused),
        cmocka_unit_test(test_weights_open_as_the_same_encoder),
        cmocka_unit_test(test_a_full_disk_is_answered),
        cmocka_unit_test(test_another_start_is_noticed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
