/* cuda_backend.cu -- the CUDA backend: one device of the process, its memory, contexts, and the
 * table of operations.
 *
 * A context is a stream of its own, serving before training. Operations enqueue; what they read on
 * the host is offsets (how many tokens, which text is longest). Memory comes from slots
 * (cuda_memory.h), device and shared apart. Copies in and out go by a stream of the backend, so
 * that a candidate's weights arrive while lanes serve.
 *
 * A device's failures are of two kinds. One that a call had for itself is -EIO, or -ENOMEM, and
 * goes with the next sync(). One that comes again when asked a second time has taken the process's
 * use of the device with it: from then on everything says -ENODEV, and only a new process helps.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pthread.h>

#include "kernels/cuda/cuda_ops.h"

extern "C" {
#include "kernels/cuda/cuda_activity.h"
#include "kernels/cuda/cuda_memory.h"
}

/* bf16 products, and the least that the library holds code for. */
static constexpr int CAPABILITY_MIN = 80;
static constexpr size_t STAGE_VALUES = 1 << 20;

static struct {
    int device;
    bool lost;
    char name[32];
    struct cuda_memory *memory, *shared;
    pthread_mutex_t copy_lock; /* of what follows */
    struct kctx copies;        /* only its stream, and its failure */
    void *stage;               /* (STAGE_VALUES) fp32, shared */
} cuda;

extern const struct backend cuda_table;

/* ---- failures ---------------------------------------------------------------------------------
 */

void cuda_here(void)
{
    static thread_local bool here;

    if (!here)
        here = cudaSetDevice(cuda.device) == cudaSuccess;
}

int cuda_errno(cudaError_t error)
{
    if (error == cudaSuccess)
        return 0;
    if (__atomic_load_n(&cuda.lost, __ATOMIC_RELAXED))
        return -ENODEV;
    (void)cudaGetLastError(); /* forgets it, unless it is of the second kind */
    if (error == cudaErrorMemoryAllocation)
        return -ENOMEM;
    if (cudaStreamSynchronize(cuda.copies.stream) != cudaSuccess) {
        __atomic_store_n(&cuda.lost, true, __ATOMIC_RELAXED);
        return -ENODEV;
    }
    return -EIO;
}

void cuda_fail(struct kctx *k, int error)
{
    if (k->recording)
        k->unfit = true; /* it is tried again in earnest, and fails then */
    else if (k->error == 0)
        k->error = error;
}

void cuda_check(struct kctx *k, cudaError_t error)
{
    if (error != cudaSuccess)
        cuda_fail(k, k->recording ? -EIO : cuda_errno(error)); /* a recording bears no question */
}

static int sync_ctx(struct kctx *k)
{
    int error;

    cuda_here();
    cuda_check(k, cudaStreamSynchronize(k->stream));
    error = __atomic_load_n(&cuda.lost, __ATOMIC_RELAXED) ? -ENODEV : k->error;
    k->error = 0;
    k->offsets_from = NULL;
    return error;
}

/* ---- memory -----------------------------------------------------------------------------------
 */

static int take_device(size_t bytes, void **ret_data)
{
    cuda_here();
    return cuda_errno(cudaMalloc(ret_data, bytes));
}

static int take_shared(size_t bytes, void **ret_data)
{
    cuda_here();
    return cuda_errno(cudaHostAlloc(ret_data, bytes, cudaHostAllocMapped | cudaHostAllocPortable));
}

int cuda_take(enum kroom room, size_t bytes, void **ret_data)
{
    return cuda_memory_alloc(cuda.memory, room, bytes, ret_data);
}

void cuda_give(void *data)
{
    cuda_memory_dealloc(cuda.memory, data);
}

static int reserve(enum kroom room, size_t bytes, size_t shared_bytes)
{
    int rc = cuda_memory_reserve(cuda.shared, room, shared_bytes); /* the smaller one first */

    return rc == 0 ? cuda_memory_reserve(cuda.memory, room, bytes) : rc;
}

/* Waits for what the copying stream has enqueued; to be called with the lock. */
static int copied(void)
{
    cuda_check(&cuda.copies, cudaStreamSynchronize(cuda.copies.stream));
    return sync_ctx(&cuda.copies);
}

static int alloc(enum kroom room, size_t bytes, void **ret_data)
{
    void *data;
    int rc = cuda_take(room, bytes, &data);

    if (rc != 0)
        return rc;
    pthread_mutex_lock(&cuda.copy_lock);
    cuda_here();
    cuda_check(&cuda.copies, cudaMemsetAsync(data, 0, bytes, cuda.copies.stream));
    rc = copied();
    pthread_mutex_unlock(&cuda.copy_lock);
    if (rc != 0) {
        cuda_give(data);
        return rc;
    }
    *ret_data = data;
    return 0;
}

static int alloc_shared(enum kroom room, size_t bytes, void **ret_data)
{
    int rc = cuda_memory_alloc(cuda.shared, room, bytes, ret_data);

    if (rc == 0)
        memset(*ret_data, 0, bytes);
    return rc;
}

static void dealloc_shared(void *data)
{
    cuda_memory_dealloc(cuda.shared, data);
}

/* Through the stage, piece by piece: what the caller has may be in pages that the device cannot
 * reach. The kernel rounds on its way. */
static int upload(void *device, enum kdtype dtype, const float *host, size_t n)
{
    int rc = 0;

    pthread_mutex_lock(&cuda.copy_lock);
    for (size_t at = 0; at < n && rc == 0; at += STAGE_VALUES) {
        size_t len = n - at < STAGE_VALUES ? n - at : STAGE_VALUES;
        struct kview from = {cuda.stage, K_F32};
        struct kview to = {static_cast<char *>(device) + at * element_bytes(dtype), dtype};

        memcpy(cuda.stage, host + at, len * sizeof *host);
        cuda_convert(&cuda.copies, to, from, len);
        rc = copied();
    }
    pthread_mutex_unlock(&cuda.copy_lock);
    return rc;
}

static int download(float *host, const void *device, enum kdtype dtype, size_t n)
{
    int rc = 0;

    pthread_mutex_lock(&cuda.copy_lock);
    for (size_t at = 0; at < n && rc == 0; at += STAGE_VALUES) {
        size_t len = n - at < STAGE_VALUES ? n - at : STAGE_VALUES;
        char *first = static_cast<char *>(const_cast<void *>(device)) + at * element_bytes(dtype);
        struct kview from = {first, dtype}, to = {cuda.stage, K_F32};

        cuda_convert(&cuda.copies, to, from, len);
        rc = copied();
        memcpy(host + at, cuda.stage, len * sizeof *host);
    }
    pthread_mutex_unlock(&cuda.copy_lock);
    return rc;
}

/* Of shared memory only how often it was asked for: it is the host's. */
static void memory(struct kmemory *ret_memory)
{
    struct kmemory shared = {};
    size_t left = 0, all = 0;

    cuda_here();
    (void)cudaMemGetInfo(&left, &all);
    *ret_memory = {};
    cuda_memory_count(cuda.memory, ret_memory);
    cuda_memory_count(cuda.shared, &shared);
    ret_memory->asked += shared.asked;
    ret_memory->total = all;
}

/* ---- contexts ---------------------------------------------------------------------------------
 */

static int stream_open(enum kpriority priority, cudaStream_t *ret_stream)
{
    int least = 0, greatest = 0;

    cuda_here();
    (void)cudaDeviceGetStreamPriorityRange(&least, &greatest);
    return cuda_errno(cudaStreamCreateWithPriority(ret_stream, cudaStreamNonBlocking,
                                                   priority == K_SERVING ? greatest : least));
}

static void ctx_close(struct kctx *k)
{
    if (k == NULL)
        return;
    cuda_here();
    (void)cudaStreamSynchronize(k->stream);
    cuda_graphs_close(k);
    cuda_blas_close(k->blas);
    cuda_give(k->scratch);
    cuda_give(k->offsets);
    (void)cudaStreamDestroy(k->stream);
    free(k);
}

/* A bigger block in place of *data, once the stream is done with it. What ctx_open and scratch_open
 * have taken is large enough for what they were told of. */
static bool grow(struct kctx *k, void **data, size_t bytes)
{
    void *bigger;
    int rc;

    if (k->recording) { /* which bears no waiting either */
        cuda_fail(k, -ENOMEM);
        return false;
    }
    cuda_here();
    cuda_check(k, cudaStreamSynchronize(k->stream));
    rc = cuda_take(k->room, bytes, &bigger);
    if (rc != 0) {
        cuda_fail(k, rc);
        return false;
    }
    cuda_give(*data);
    *data = bigger;
    return true;
}

static size_t offsets_bytes(uint32_t B)
{
    return ((size_t)B + 1) * sizeof(uint32_t);
}

static size_t ctx_bytes(uint32_t rows_max, enum kpriority priority)
{
    (void)priority;
    return cuda_blas_bytes() + kroom_bytes(offsets_bytes(rows_max)); /* a text has a row at least */
}

static bool offsets_open(struct kctx *k, uint32_t B)
{
    void *data = k->offsets;

    if (!grow(k, &data, offsets_bytes(B)))
        return false;
    k->offsets = static_cast<uint32_t *>(data);
    k->offsets_room = B + 1;
    return true;
}

static int ctx_open(uint32_t rows_max, uint32_t threads_max, enum kpriority priority,
                    struct kctx **ret_ctx)
{
    struct kctx *k = static_cast<struct kctx *>(calloc(1, sizeof *k));
    int rc;

    (void)threads_max;
    if (k == NULL)
        return -ENOMEM;
    k->room = priority == K_SERVING ? K_CONTEXTS : K_RUNS;
    rc = stream_open(priority, &k->stream);
    if (rc != 0) {
        free(k);
        return rc;
    }
    rc = cuda_graphs_open(k);
    if (rc == 0)
        rc = cuda_blas_open(&cuda_table, k->room, k->stream, &k->blas);
    if (rc == 0 && !offsets_open(k, rows_max))
        rc = k->error;
    if (rc != 0) {
        ctx_close(k);
        return rc;
    }
    *ret_ctx = k;
    return 0;
}

static void ctx_threads(struct kctx *k, uint32_t threads)
{
    (void)k; /* cores are the host's */
    (void)threads;
}

void *cuda_scratch(struct kctx *k, size_t bytes)
{
    void *data = k->scratch;

    if (bytes > k->scratch_bytes) {
        if (!grow(k, &data, bytes))
            return NULL;
        k->scratch = static_cast<char *>(data);
        k->scratch_bytes = bytes;
    }
    return data;
}

const uint32_t *cuda_offsets(struct kctx *k, const uint32_t *offsets, uint32_t B)
{
    if (offsets == k->offsets_from && B == k->offsets_len)
        return k->offsets;
    if (B + 1 > k->offsets_room && !offsets_open(k, B))
        return NULL;
    cuda_here();
    cuda_check(k, cudaMemcpyAsync(k->offsets, offsets, (B + 1) * sizeof *offsets, cudaMemcpyDefault,
                                  k->stream));
    k->offsets_from = offsets;
    k->offsets_len = B;
    return k->offsets;
}

/* ---- matrices ---------------------------------------------------------------------------------
 */

static void mat_free(struct kmat *mat)
{
    if (mat == NULL)
        return;
    cuda_give(mat->data);
    free(mat);
}

/* One block: the matrix, room for its bias in fp32, and for that in dtype. */
static size_t bias_at(uint32_t M, uint32_t K, enum kdtype dtype)
{
    return kroom_bytes((size_t)M * K * element_bytes(dtype));
}

static size_t mat_bytes(uint32_t M, uint32_t K, enum kdtype dtype)
{
    return bias_at(M, K, dtype) + kroom_bytes(M * sizeof(float)) +
           kroom_bytes(M * sizeof(struct bf16));
}

static int mat_fill(struct kmat *mat, const float *w, const float *bias)
{
    char *biases = static_cast<char *>(mat->data) + bias_at(mat->M, mat->K, mat->dtype);
    int rc = upload(mat->data, mat->dtype, w, (size_t)mat->M * mat->K);

    if (rc != 0 || bias == NULL)
        return rc;
    mat->bias = reinterpret_cast<float *>(biases);
    mat->fused = mat->bias;
    rc = upload(mat->bias, K_F32, bias, mat->M);
    if (rc == 0 && mat->dtype == K_BF16) {
        biases += kroom_bytes(mat->M * sizeof(float));
        mat->fused = biases;
        rc = upload(biases, K_BF16, bias, mat->M);
    }
    return rc;
}

static int mat_load(const float *w, const float *bias, uint32_t M, uint32_t K, enum kdtype dtype,
                    struct kmat **ret_mat)
{
    struct kmat *mat = static_cast<struct kmat *>(calloc(1, sizeof *mat));
    int rc;

    if (mat == NULL)
        return -ENOMEM;
    mat->M = M;
    mat->K = K;
    mat->dtype = dtype;
    rc = cuda_blas_plans(&cuda_table, dtype, M, K, &mat->plans);
    if (rc == 0)
        rc = cuda_take(K_WEIGHTS, mat_bytes(M, K, dtype), &mat->data);
    if (rc == 0)
        rc = mat_fill(mat, w, bias);
    if (rc != 0) {
        mat_free(mat);
        return rc;
    }
    *ret_mat = mat;
    return 0;
}

/* A bias before gelu is added in fp32 by gelu's kernel; any other is fused. */
static void linear(struct kctx *k, struct kview y, struct kview x, const struct kmat *w,
                   enum kact act, uint32_t N)
{
    int rc;

    if (k->error != 0 || N == 0)
        return;
    cuda_here();
    rc = cuda_blas_y(k->blas, w->plans, w->dtype, y.data, x.data, w->data,
                     act == K_NONE ? w->fused : NULL, N, w->M, w->K);
    if (rc != 0)
        cuda_fail(k, rc);
    else if (act == K_GELU)
        cuda_bias_gelu(k, y, y, w->bias, N, w->M);
}

/* ---- the rest of the table --------------------------------------------------------------------
 */

static void embed(struct kctx *k, struct kview y, const int32_t *ids, const uint8_t *types,
                  const struct kbatch *batch, struct kview word, struct kview position,
                  struct kview segment, const float *gamma, const float *beta, float eps,
                  uint32_t C)
{
    const struct kview none = {NULL, y.dtype};

    cuda_embed(k, y, none, NULL, ids, types, batch, word, position, segment, gamma, beta, eps, C,
               NULL);
}

static void add_layernorm(struct kctx *k, struct kview y, struct kview x, struct kview residual,
                          const float *gamma, const float *beta, float eps, uint32_t N, uint32_t C)
{
    const struct kview none = {NULL, y.dtype};

    cuda_add_layernorm(k, y, none, NULL, x, residual, gamma, beta, eps, N, C, NULL);
}

static void pool(struct kctx *k, float *y, struct kview x, const struct kbatch *batch, uint32_t C,
                 enum kpool how)
{
    cuda_pool(k, y, NULL, x, batch, C, how);
}

const struct backend cuda_table = {
    .name = cuda.name,
    .training = &cuda_training,
    .ctx_open = ctx_open,
    .ctx_close = ctx_close,
    .ctx_threads = ctx_threads,
    .sync = sync_ctx,
    .rows = cuda_blas_rows,
    .reserve = reserve,
    .alloc = alloc,
    .dealloc = cuda_give,
    .alloc_shared = alloc_shared,
    .dealloc_shared = dealloc_shared,
    .upload = upload,
    .download = download,
    .memory = memory,
    .mat_bytes = mat_bytes,
    .ctx_bytes = ctx_bytes,
    .activity = cuda_activity,
    .widen = cuda_widen,
    .repeat = cuda_repeat,
    .mat_load = mat_load,
    .mat_free = mat_free,
    .embed = embed,
    .linear = linear,
    .attention = cuda_attention,
    .add_layernorm = add_layernorm,
    .pool = pool,
    .head_features = cuda_head_features,
    .head_dense = cuda_head_dense,
    .head_similarity = cuda_head_similarity,
};

/* ---- opening ----------------------------------------------------------------------------------
 */

/* The device is there and fit; it is the one this thread works on. */
static int device_find(uint32_t ordinal, char *why, size_t why_bytes)
{
    struct cudaDeviceProp found;
    char bus[32] = "";
    int driver = 0, devices = 0;
    cudaError_t error = cudaGetDeviceCount(&devices);

    (void)cudaDriverGetVersion(&driver);
    if (error != cudaSuccess) {
        if (driver == 0)
            snprintf(why, why_bytes, "CUDA: no NVIDIA driver is installed");
        else
            snprintf(why, why_bytes, "CUDA: %s (the driver is for CUDA %d.%d, needed is %d.%d)",
                     cudaGetErrorString(error), driver / 1000, driver % 1000 / 10,
                     CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
        return -ENODEV;
    }
    if (ordinal >= (uint32_t)devices) {
        snprintf(why, why_bytes, "there is no cuda:%u, only %d device%s", ordinal, devices,
                 devices == 1 ? "" : "s");
        return -ENODEV;
    }
    error = cudaGetDeviceProperties(&found, (int)ordinal);
    if (error == cudaSuccess && found.major * 10 + found.minor < CAPABILITY_MIN) {
        snprintf(why, why_bytes, "cuda:%u (%s) is of compute capability %d.%d, 8.0 is the least",
                 ordinal, found.name, found.major, found.minor);
        return -ENODEV;
    }
    if (error == cudaSuccess)
        error = cudaSetDevice((int)ordinal);
    if (error == cudaSuccess)
        error = cudaFree(NULL); /* makes the device's context */
    if (error != cudaSuccess) {
        snprintf(why, why_bytes, "cuda:%u: %s", ordinal, cudaGetErrorString(error));
        return -ENODEV;
    }
    if (cudaDeviceGetPCIBusId(bus, sizeof bus, (int)ordinal) == cudaSuccess)
        cuda_activity_open(bus);
    return 0;
}

static int open_all(char *why, size_t why_bytes)
{
    void *stage;
    int rc = cuda_memory_open(take_device, &cuda.memory);

    if (rc == 0)
        rc = cuda_memory_open(take_shared, &cuda.shared);
    if (rc == 0)
        rc = -pthread_mutex_init(&cuda.copy_lock, NULL);
    if (rc == 0)
        rc = stream_open(K_TRAINING, &cuda.copies.stream);
    if (rc == 0)
        rc = alloc_shared(K_WEIGHTS, STAGE_VALUES * sizeof(float), &stage);
    if (rc == 0)
        cuda.stage = stage;
    else
        snprintf(why, why_bytes, "%s: %s", cuda.name,
                 rc == -ENOMEM ? "out of memory" : "the device failed when it was opened");
    return rc;
}

extern "C" __attribute__((visibility("default"))) int
learnd_backend_open(uint32_t abi, uint32_t ordinal, char *why, size_t why_bytes,
                    const struct backend **ret_backend)
{
    static bool open;
    int rc;

    if (abi != BACKEND_ABI) {
        snprintf(why, why_bytes, "the CUDA backend is for ABI %d, the daemon has %u", BACKEND_ABI,
                 abi);
        return -EPROTO;
    }
    if (open && ordinal != (uint32_t)cuda.device) {
        snprintf(why, why_bytes, "%s is in use: a process has one device", cuda.name);
        return -ENODEV;
    }
    if (!open) {
        rc = device_find(ordinal, why, why_bytes);
        if (rc == 0)
            rc = cuda_blas_check(why, why_bytes);
        cuda.device = (int)ordinal;
        snprintf(cuda.name, sizeof cuda.name, "cuda:%u", ordinal);
        if (rc == 0)
            rc = open_all(why, why_bytes);
        if (rc != 0)
            return rc;
        open = true;
    }
    *ret_backend = &cuda_table;
    return 0;
}
