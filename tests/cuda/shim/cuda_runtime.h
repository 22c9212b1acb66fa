/* cuda_runtime.h -- as much of CUDA C++ as kernels/cuda is written in, for a host compiler. Tests
 * only: kernels/cuda finds it in place of the toolkit's.
 *
 * A launch runs at once: block after block, the threads of a block as fibers (shim.h). Streams are
 * names. What a call says can be set, so that a device's failures can be played.
 */
#ifndef LEARND_CUDA_RUNTIME_H
#define LEARND_CUDA_RUNTIME_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <tuple>
#include <type_traits>

extern "C" {
#include "tests/cuda/shim.h"
}
#include "tests/cuda/shim/shim_runtime_api.h"

#define __device__
#define __global__

/* ---- vectors ----------------------------------------------------------------------------------
 */

struct dim3 : shim_place {
    dim3(uint32_t x_ = 1, uint32_t y_ = 1, uint32_t z_ = 1) : shim_place{x_, y_, z_}
    {
    }
};

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};

static inline float2 make_float2(float x, float y)
{
    return {x, y};
}

static inline float4 make_float4(float x, float y, float z, float w)
{
    return {x, y, z, w};
}

static inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w)
{
    return {x, y, z, w};
}

static inline float __uint_as_float(uint32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float normcdff(float x)
{
    return 0.5f * erfcf(-0.70710678f * x);
}

/* ---- a block's threads together ---------------------------------------------------------------
 */

static inline void __syncthreads(void)
{
    shim_sync_block(0);
}

static inline int __syncthreads_or(int mine)
{
    return shim_sync_block(mine);
}

static inline void __syncwarp(void)
{
    shim_exchange(NULL, 0);
}

template <typename T> static inline T __shfl_xor_sync(uint32_t lanes, T mine, int step)
{
    const char *all = static_cast<const char *>(shim_exchange(&mine, sizeof mine));
    T theirs;

    shim_expect(lanes == 0xffffffffu, "an exchange without the whole warp");
    memcpy(&theirs, all + ((threadIdx.x % 32) ^ (uint32_t)step) * SHIM_SLOT_BYTES, sizeof theirs);
    return theirs;
}

/* ---- a launch ---------------------------------------------------------------------------------
 */

struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
};

template <typename F> static inline cudaError_t cudaFuncSetAttribute(F *, cudaFuncAttribute, int)
{
    return shim_said();
}

template <typename... P>
static inline cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(P...),
                                             P... arguments)
{
    struct call {
        cudaLaunchConfig_t config;
        void (*kernel)(P...);
        std::tuple<P...> arguments;
    } call = {*config, kernel, {arguments...}};
    auto thread = [](void *c) {
        std::apply(static_cast<struct call *>(c)->kernel, static_cast<struct call *>(c)->arguments);
    };
    auto body = [](void *c) {
        const cudaLaunchConfig_t *how = &static_cast<struct call *>(c)->config;

        shim_run(how->gridDim, how->blockDim, how->dynamicSmemBytes, decltype(thread)(), c);
    };

    static_assert((std::is_trivially_copyable_v<P> && ...), "arguments are copied as bytes");
    return static_cast<cudaError_t>(shim_enqueue(config->stream, body, &call, sizeof call));
}

#endif
