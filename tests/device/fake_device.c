/* fake_device.c -- a loadable backend that is the CPU with its memory held apart: what a test of
 * the daemon has in place of a GPU.
 *
 * Every answer is the CPU's, bit for bit, and everything that can go wrong with a device can be
 * made to (fake_memory.h). The CPU's table is the program's own: it exports backend_cpu.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/device/fake_ctx.h"

enum { CTX_BYTES = 4096, DEVICES = 2 };

/* ---- contexts -------------------------------------------------------------------------------- */

static enum kroom room_of(enum kpriority priority)
{
    return priority == K_SERVING ? K_CONTEXTS : K_RUNS;
}

static size_t ctx_bytes(uint32_t rows_max, enum kpriority priority)
{
    (void)rows_max;
    (void)priority;
    return CTX_BYTES;
}

static int ctx_open(uint32_t rows_max, uint32_t threads_max, enum kpriority priority,
                    struct kctx **ret_ctx)
{
    struct kctx *k = calloc(1, sizeof *k);
    int rc = k != NULL ? fake_take(room_of(priority), CTX_BYTES) : -ENOMEM;

    if (rc == 0) {
        rc = backend_cpu()->ctx_open(rows_max, threads_max, priority, &k->cpu);
        if (rc != 0)
            fake_give(room_of(priority), CTX_BYTES);
    }
    if (rc != 0) {
        free(k);
        return rc;
    }
    k->priority = priority;
    *ret_ctx = k;
    return 0;
}

static void ctx_close(struct kctx *k)
{
    if (k == NULL)
        return;
    for (uint32_t i = 0; i < k->outputs_len; i++)
        free(k->outputs[i].laid);
    backend_cpu()->ctx_close(k->cpu);
    fake_give(K_RUNS, k->scratch_bytes);
    fake_give(room_of(k->priority), CTX_BYTES);
    free(k);
}

static void ctx_threads(struct kctx *k, uint32_t threads)
{
    backend_cpu()->ctx_threads(k->cpu, threads);
}

void *fake_output(struct kctx *k, const char *what, void *to, size_t bytes)
{
    void *place = fake_shared_at(what, to, false), *laid = malloc(bytes);

    if (laid == NULL || k->outputs_len == FAKE_OUTPUTS) {
        fprintf(stderr, "fake device: %s: too much without a sync\n", what);
        abort();
    }
    k->outputs[k->outputs_len++] = (struct fake_output){place, laid, bytes};
    return laid;
}

/* What stands where nothing right came: numbers like any others. */
static void spoil(void *to, size_t bytes)
{
    const float plausible = 0.05f;

    for (size_t at = 0; at < bytes; at += sizeof plausible)
        memcpy((char *)to + at, &plausible, sizeof plausible);
}

static void outputs_settle(struct kctx *k, bool right)
{
    for (uint32_t i = 0; i < k->outputs_len; i++) {
        struct fake_output *o = &k->outputs[i];

        if (right)
            memcpy(o->to, o->laid, o->bytes);
        else
            spoil(o->to, o->bytes);
        free(o->laid);
    }
    k->outputs_len = 0;
}

static int sync_ctx(struct kctx *k)
{
    int rc = backend_cpu()->sync(k->cpu), fault = fake_sync(k->priority);

    rc = fault != 0 ? fault : k->dead ? -EIO : rc;
    k->dead = rc != 0 && k->priority == K_SERVING && fake_dies();
    outputs_settle(k, rc == 0);
    return rc;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static uint32_t rows(uint32_t N)
{
    return backend_cpu()->rows(N);
}

static size_t element(enum kdtype dtype)
{
    return dtype == K_BF16 ? 2 : 4;
}

static int upload(void *device, enum kdtype dtype, const float *host, size_t n)
{
    void *to = fake_device_room("upload", device, n * element(dtype));
    int rc = fake_there();

    fake_host("upload", host);
    return rc != 0 ? rc : backend_cpu()->upload(to, dtype, host, n);
}

static int download(float *host, const void *device, enum kdtype dtype, size_t n)
{
    const void *from = fake_device_room("download", device, n * element(dtype));
    int rc = fake_there();

    fake_host("download", host);
    return rc != 0 ? rc : backend_cpu()->download(host, from, dtype, n);
}

static int activity(uint32_t *ret_busy_percent, uint32_t *ret_clock_mhz)
{
    *ret_busy_percent = 37;
    *ret_clock_mhz = 1410;
    return 0;
}

static size_t mat_bytes(uint32_t M, uint32_t K, enum kdtype dtype)
{
    return kroom_bytes((size_t)M * K * element(dtype) + M * sizeof(float));
}

static int mat_load(const float *w, const float *bias, uint32_t M, uint32_t K, enum kdtype dtype,
                    struct kmat **ret_mat)
{
    size_t bytes = mat_bytes(M, K, dtype);
    struct kmat *mat = malloc(sizeof *mat);
    int rc = mat != NULL ? fake_take(K_WEIGHTS, bytes) : -ENOMEM;

    fake_host("mat_load", w);
    fake_host("mat_load, bias", bias);
    if (rc == 0) {
        *mat = (struct kmat){.bytes = bytes};
        rc = backend_cpu()->mat_load(w, bias, M, K, dtype, &mat->cpu);
        if (rc != 0)
            fake_give(K_WEIGHTS, bytes);
    }
    if (rc != 0) {
        free(mat);
        return rc;
    }
    *ret_mat = mat;
    return 0;
}

static void mat_free(struct kmat *mat)
{
    if (mat == NULL)
        return;
    backend_cpu()->mat_free(mat->cpu);
    fake_give(K_WEIGHTS, mat->bytes);
    free(mat);
}

/* ---- operations ------------------------------------------------------------------------------ */

/* Every shape is wider than its batch, as far as there is room: two texts that are none, and five
 * rows of nobody's. */
static bool widen(struct kbatch *batch, uint32_t seqs_max, uint32_t rows_max)
{
    batch->seqs = batch->seqs + 2 <= seqs_max ? batch->seqs + 2 : seqs_max;
    batch->tokens = batch->tokens + 5 <= rows_max ? batch->tokens + 5 : rows_max;
    batch->longest = batch->longest + 3 <= batch->tokens ? batch->longest + 3 : batch->tokens;
    return true;
}

static void repeat(struct kctx *k, const struct kkey *key, void (*enqueue)(void *ud), void *ud)
{
    (void)k;
    (void)key;
    enqueue(ud);
}

static struct kbatch fake_batch(const struct kbatch *batch)
{
    struct kbatch there = *batch;

    there.offsets = SHARED(batch->offsets);
    return there;
}

static void embed(struct kctx *k, struct kview y, const int32_t *ids, const uint8_t *types,
                  const struct kbatch *batch, struct kview word, struct kview position,
                  struct kview segment, const float *gamma, const float *beta, float eps,
                  uint32_t C)
{
    const struct kbatch there = fake_batch(batch);

    backend_cpu()->embed(k->cpu, VIEW(y), SHARED(ids), SHARED_OR_NULL(types), &there, VIEW(word),
                         VIEW(position), VIEW(segment), DEV(gamma), DEV(beta), eps, C);
}

static void linear(struct kctx *k, struct kview y, struct kview x, const struct kmat *w,
                   enum kact act, uint32_t N)
{
    backend_cpu()->linear(k->cpu, VIEW(y), VIEW(x), w->cpu, act, N);
}

static void attention(struct kctx *k, struct kview y, struct kview qkv, const struct kbatch *batch,
                      uint32_t C, uint32_t H)
{
    const struct kbatch there = fake_batch(batch);

    backend_cpu()->attention(k->cpu, VIEW(y), VIEW(qkv), &there, C, H);
}

static void add_layernorm(struct kctx *k, struct kview y, struct kview x, struct kview residual,
                          const float *gamma, const float *beta, float eps, uint32_t N, uint32_t C)
{
    backend_cpu()->add_layernorm(k->cpu, VIEW(y), VIEW(x), VIEW(residual), DEV(gamma), DEV(beta),
                                 eps, N, C);
}

static void pool(struct kctx *k, float *y, struct kview x, const struct kbatch *batch, uint32_t C,
                 enum kpool how)
{
    const struct kbatch there = fake_batch(batch);

    backend_cpu()->pool(k->cpu, fake_output(k, "pool, y", y, (size_t)batch->seqs * C * sizeof *y),
                        VIEW(x), &there, C, how);
}

/* The head's operations are the host's (encoder.h says why): whoever asks the device for them has
 * taken the wrong table, and dies of it. */
int learnd_backend_open(uint32_t abi, uint32_t ordinal, char *why, size_t why_bytes,
                        const struct backend **ret_backend)
{
    static char name[16];
    static struct backend table = {
        .name = name,
        .training = &fake_training,
        .ctx_open = ctx_open,
        .ctx_close = ctx_close,
        .ctx_threads = ctx_threads,
        .sync = sync_ctx,
        .rows = rows,
        .reserve = fake_reserve,
        .alloc = fake_alloc,
        .dealloc = fake_dealloc,
        .alloc_shared = fake_alloc_shared,
        .dealloc_shared = fake_dealloc,
        .upload = upload,
        .download = download,
        .memory = fake_memory,
        .mat_bytes = mat_bytes,
        .ctx_bytes = ctx_bytes,
        .activity = activity,
        .widen = widen,
        .repeat = repeat,
        .mat_load = mat_load,
        .mat_free = mat_free,
        .embed = embed,
        .linear = linear,
        .attention = attention,
        .add_layernorm = add_layernorm,
        .pool = pool,
    };

    if (abi != BACKEND_ABI) {
        snprintf(why, why_bytes, "the fake device speaks version %d, the daemon %u", BACKEND_ABI,
                 abi);
        return -EPROTO;
    }
    if (fake_refused() || ordinal >= DEVICES) {
        snprintf(why, why_bytes, "there is no fake device %u", ordinal);
        return -ENODEV;
    }
    snprintf(name, sizeof name, "fake:%u", ordinal);
    *ret_backend = &table;
    return 0;
}
