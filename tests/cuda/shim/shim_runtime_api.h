/* shim_runtime_api.h -- the calls of the CUDA runtime that kernels/cuda makes: one device, memory
 * of the host, and failures that are asked for (shim.h). Included by cuda_runtime.h. Tests only.
 */
#ifndef LEARND_SHIM_RUNTIME_API_H
#define LEARND_SHIM_RUNTIME_API_H

#include <stddef.h>
#include <string.h>

#define CUDART_VERSION 13000
enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorMemoryAllocation = 2,
    cudaErrorNoDevice = 100,
    cudaErrorIllegalAddress = 700,
    cudaErrorLaunchFailure = 719,
};
enum cudaMemcpyKind { cudaMemcpyDefault = 4 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum { cudaStreamNonBlocking = 1, cudaHostAllocPortable = 1, cudaHostAllocMapped = 2 };

enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };

typedef struct shim_stream *cudaStream_t;
typedef struct shim_graph *cudaGraph_t, *cudaGraphExec_t;

struct cudaGraphExecUpdateResultInfo {
    int result;
};

struct cudaDeviceProp {
    char name[256];
    int major, minor;
};

static inline cudaError_t shim_said(void)
{
    return static_cast<cudaError_t>(shim_call());
}

static inline const char *cudaGetErrorString(cudaError_t error)
{
    return error == cudaSuccess ? "no error" : "a failure that was asked for";
}

static inline cudaError_t cudaGetLastError(void)
{
    return cudaSuccess;
}

static inline cudaError_t cudaGetDeviceCount(int *ret_devices)
{
    *ret_devices = 1;
    return shim_said();
}

static inline cudaError_t cudaDriverGetVersion(int *ret_version)
{
    *ret_version = CUDART_VERSION;
    return cudaSuccess;
}

static inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp *ret_found, int)
{
    *ret_found = {"loops on the host", 8, 0};
    return shim_said();
}

static inline cudaError_t cudaDeviceGetPCIBusId(char *, int, int)
{
    return cudaErrorNoDevice;
}

static inline cudaError_t cudaSetDevice(int)
{
    return cudaSuccess;
}

static inline cudaError_t cudaStreamSynchronize(cudaStream_t)
{
    return static_cast<cudaError_t>(shim_wait());
}

static inline cudaError_t cudaDeviceGetStreamPriorityRange(int *ret_least, int *ret_greatest)
{
    *ret_least = 0;
    *ret_greatest = -5;
    return cudaSuccess;
}

static inline cudaError_t cudaStreamCreateWithPriority(cudaStream_t *ret_stream, int, int)
{
    cudaError_t said = shim_said();

    *ret_stream = said == cudaSuccess ? shim_stream_open() : NULL;
    return said;
}

static inline cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    shim_stream_close(stream);
    return cudaSuccess;
}

static inline cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode)
{
    return static_cast<cudaError_t>(shim_record(stream));
}

static inline cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *ret_graph)
{
    return static_cast<cudaError_t>(shim_record_end(stream, ret_graph));
}

static inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t *ret_exec, cudaGraph_t graph,
                                               unsigned long long)
{
    return static_cast<cudaError_t>(shim_graph_copy(graph, ret_exec));
}

static inline cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph,
                                              cudaGraphExecUpdateResultInfo *)
{
    return static_cast<cudaError_t>(shim_graph_update(exec, graph));
}

static inline cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    return static_cast<cudaError_t>(shim_graph_run(exec, stream));
}

static inline cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    shim_graph_free(graph);
    return cudaSuccess;
}

static inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    shim_graph_free(exec);
    return cudaSuccess;
}

static inline cudaError_t cudaMalloc(void **ret_data, size_t bytes)
{
    cudaError_t said = static_cast<cudaError_t>(shim_wait());

    *ret_data = said == cudaSuccess ? shim_malloc(bytes) : NULL;
    return said == cudaSuccess && *ret_data == NULL ? cudaErrorMemoryAllocation : said;
}

static inline cudaError_t cudaHostAlloc(void **ret_data, size_t bytes, unsigned)
{
    return cudaMalloc(ret_data, bytes);
}

static inline cudaError_t cudaFree(void *)
{
    return cudaSuccess; /* the backend calls it for a context's sake, with NULL */
}

static inline cudaError_t cudaMemGetInfo(size_t *ret_left, size_t *ret_all)
{
    *ret_left = *ret_all = (size_t)1 << 34;
    return cudaSuccess;
}

struct shim_copy {
    void *to;
    const void *from;
    int value;
    size_t bytes;
};

static inline cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind,
                                          cudaStream_t stream)
{
    const struct shim_copy copy = {to, from, 0, bytes};
    auto body = [](void *c) {
        const struct shim_copy *what = static_cast<struct shim_copy *>(c);

        memcpy(what->to, what->from, what->bytes);
    };

    return static_cast<cudaError_t>(shim_enqueue(stream, body, &copy, sizeof copy));
}

static inline cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    const struct shim_copy copy = {to, NULL, value, bytes};
    auto body = [](void *c) {
        const struct shim_copy *what = static_cast<struct shim_copy *>(c);

        memset(what->to, what->value, what->bytes);
    };

    return static_cast<cudaError_t>(shim_enqueue(stream, body, &copy, sizeof copy));
}

#endif
