/* cuda_tiles.h -- what attention by tensor cores is made of, forwards and backwards: rows of one
 * head of one text in shared memory by tiles of 64, and the products of a warp's 16 rows with them.
 *
 * A block has two rooms for tiles. In one is the tile in hand, in the other the next one arrives.
 * Before the first step it holds the block's own rows, which go to registers and stay there:
 *
 *   own rows -> room 1, tile 0 -> room 0; wait; barrier; own rows -> registers
 *   step i: wait; barrier; tile i+1 -> room (i+1)%2; work on tile i in room i%2
 *   last: results -> the room that is not in use -> y, each warp by itself
 *
 * so that the one barrier of a step says both that a tile has come and that the room of the last
 * one is free. Rows in shared memory are 8 values longer than a head: any 8 of them that follow one
 * another begin in different groups of 4 banks, as ldmatrix and 16-byte accesses want it.
 */
#ifndef LEARND_CUDA_TILES_H
#define LEARND_CUDA_TILES_H

#include "kernels/cuda/cuda_ctx.h"

static constexpr uint32_t WARP_ROWS = 16, TILE = 64, PAD = 8, WARPS_MAX = TILE / WARP_ROWS;

/* Rows of a head in shared memory. */
template <uint32_t DIM> using row = struct bf16[DIM + PAD];

/* Two matrices of 64 rows: keys and values, or queries and gradients. */
template <uint32_t DIM> struct tile {
    row<DIM> a[TILE], b[TILE];
};

/* Begins to copy rows first .. first+TILE of the len that a text has. Behind its end are zeros up
 * to a multiple of 16, since 0 times NaN is NaN; nobody looks at what lies beyond. */
template <uint32_t DIM>
static __device__ void fetch(row<DIM> *to, const struct bf16 *text, size_t stride, uint32_t first,
                             uint32_t len)
{
    constexpr uint32_t PIECES = DIM / 8;
    const uint32_t rest = len - first, wanted = (rest + WARP_ROWS - 1) / WARP_ROWS * WARP_ROWS;
    const uint32_t rows = wanted < TILE ? wanted : TILE;

    text += first * stride;
    for (uint32_t i = threadIdx.x; i < rows * PIECES; i += blockDim.x) {
        const uint32_t n = i / PIECES, d = i % PIECES * 8;

        copy_16(&to[n][d], text + n * stride + d, n < rest);
    }
}

/* The warp's own 16 rows as left operands. */
template <uint32_t DIM>
static __device__ void take_rows(uint32_t (&own)[DIM / 16][4], const row<DIM> *rows)
{
    const uint32_t lane = threadIdx.x % LANES, matrix = lane / 8;

#pragma unroll
    for (uint32_t s = 0; s < DIM / 16; s++)
        load_matrices(own[s], &rows[lane % 8 + matrix % 2 * 8][16 * s + matrix / 2 * 8]);
}

/* y(16,8) = own rows(8)^T */
template <uint32_t DIM>
static __device__ void product(float (&y)[4], const uint32_t (&own)[DIM / 16][4],
                               const row<DIM> *rows)
{
    const uint32_t lane = threadIdx.x % LANES;

    for (uint32_t i = 0; i < 4; i++)
        y[i] = 0;
#pragma unroll
    for (uint32_t s = 0; s < DIM / 16; s += 2) {
        uint32_t b[4];

        load_matrices(b, &rows[lane % 8][16 * s + lane / 8 * 8]);
        mma(y, own[s], b[0], b[1]);
        mma(y, own[s + 1], b[2], b[3]);
    }
}

/* y(16,DIM) += p(16,16) rows(16), where p is two results of product() side by side: they come out
 * in the layout in which mma() wants a left operand. */
template <uint32_t DIM>
static __device__ void add_product(float (&y)[DIM / 8][4], const float (&left)[4],
                                   const float (&right)[4], const row<DIM> *rows)
{
    const uint32_t lane = threadIdx.x % LANES, matrix = lane / 8;
    const uint32_t p[4] = {bf16_pair(left[0], left[1]), bf16_pair(left[2], left[3]),
                           bf16_pair(right[0], right[1]), bf16_pair(right[2], right[3])};

#pragma unroll
    for (uint32_t c = 0; c < DIM / 16; c++) {
        uint32_t b[4];

        load_transposed(b, &rows[lane % 8 + matrix % 2 * 8][16 * c + matrix / 2 * 8]);
        mma(y[2 * c], p, b[0], b[1]);
        mma(y[2 * c + 1], p, b[2], b[3]);
    }
}

/* Writes the first `rows` of a warp's 16, times factor[0] in the upper half and factor[1] in the
 * lower. By way of shared memory, room(16) of the warp's own: a lane has pairs of a row, and
 * memory wants 16 bytes. */
template <uint32_t DIM>
static __device__ void write_rows(struct bf16 *to, size_t stride, const float (&y)[DIM / 8][4],
                                  const float (&factor)[2], row<DIM> *room, uint32_t rows)
{
    constexpr uint32_t PIECES = DIM / 8;
    const uint32_t lane = threadIdx.x % LANES, g = lane / 4, t = lane % 4;

#pragma unroll
    for (uint32_t c = 0; c < DIM / 8; c++)
        for (uint32_t h = 0; h < 2; h++)
            *reinterpret_cast<uint32_t *>(&room[g + 8 * h][8 * c + 2 * t]) =
                bf16_pair(y[c][2 * h] * factor[h], y[c][2 * h + 1] * factor[h]);
    __syncwarp();
    for (uint32_t i = lane; i < WARP_ROWS * PIECES; i += LANES) {
        const uint32_t n = i / PIECES, d = i % PIECES * 8;

        if (n < rows)
            *reinterpret_cast<uint4 *>(to + n * stride + d) =
                *reinterpret_cast<const uint4 *>(&room[n][d]);
    }
}

/* Sum over the four lanes that share a row of a result. */
static __device__ inline float quad_sum(float x)
{
    x += __shfl_xor_sync(ALL_LANES, x, 1);
    return x + __shfl_xor_sync(ALL_LANES, x, 2);
}

static __device__ inline float quad_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
    return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
}

/* Warps of a block, and blocks for each head of each text, where the longest text has `longest`
 * rows. */
static inline uint32_t tile_warps(uint32_t longest)
{
    const uint32_t needed = (longest + WARP_ROWS - 1) / WARP_ROWS;

    return needed < WARPS_MAX ? needed : WARPS_MAX;
}

static inline dim3 tile_grid(uint32_t longest, uint32_t heads)
{
    const uint32_t rows = tile_warps(longest) * WARP_ROWS;

    return dim3(heads, rows > 0 ? (longest + rows - 1) / rows : 0);
}

#endif
