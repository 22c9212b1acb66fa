/* shim.h -- a grid of CUDA threads on one thread of the host. Tests only.
 *
 * The threads of a block are fibers. A fiber runs until it must wait for its warp or its block; the
 * scheduler goes on when all are there, and ends the program where they never will be: a warp that
 * parts at a barrier, a lane that has left before an exchange. Shared memory is filled with NaN
 * before each block and as long as the launch asked for. With LEARND_SHIM_REVERSED in the
 * environment lanes, warps and blocks run last to first: what depends on their order without
 * waiting comes out wrong in one of the two.
 *
 * What the shim cannot show, and only a card can: cuBLASLt (shim_blas.c has loops in its place, so
 * cuda_blas.c with its choice of algorithms has never run), the instructions behind cuda_ptx.h
 * (mma, ldmatrix and the conversions are their documented meaning here), threads that really run at
 * once (a race that neither order shows; compute-sanitizer looks for those), the runtime's and the
 * driver's own behaviour, expf and the like to the last bit, and time.
 *
 * Threads: any; launches take turns.
 */
#ifndef LEARND_SHIM_H
#define LEARND_SHIM_H

#include <stddef.h>
#include <stdint.h>

enum { SHIM_LANES = 32, SHIM_THREADS_MAX = 1024, SHIM_SLOT_BYTES = 32 };

struct shim_place {
    uint32_t x, y, z;
};

/* What the running fiber is, by CUDA's names, and its block's shared memory. */
extern struct shim_place threadIdx, blockIdx, blockDim, gridDim;
extern void *shim_shared;

/* Runs body(argument) for every thread of every block. */
void shim_run(struct shim_place grid, struct shim_place block, size_t shared_bytes,
              void (*body)(void *argument), void *argument);

/* Waits for the block. Whether any thread brought something but 0. */
int shim_sync_block(int mine);
/* Waits for the warp; what each lane brought, SHIM_SLOT_BYTES apart, until the lane's next
 * exchange but one. */
const void *shim_exchange(const void *mine, size_t bytes);
/* Ends the program where a kernel breaks a rule of the device. */
void shim_expect(int fine, const char *rule);

/* ---- streams (shim_streams.c): numbers that are returned are cudaError_t ----------------------
 */

struct shim_stream;
struct shim_graph; /* what was recorded: bodies and copies of their arguments */

struct shim_stream *shim_stream_open(void);
void shim_stream_close(struct shim_stream *stream);
/* body(argument) now; or, where the stream is being recorded, whenever that is run. */
int shim_enqueue(struct shim_stream *stream, void (*body)(void *argument), const void *argument,
                 size_t bytes);
/* A call that a thread which records may not make, and which spoils what it records. */
int shim_wait(void);
int shim_record(struct shim_stream *stream);
int shim_record_end(struct shim_stream *stream, struct shim_graph **ret_graph);
int shim_graph_copy(const struct shim_graph *graph, struct shim_graph **ret_copy);
/* The arguments of `graph` into a copy of one that is like it. */
int shim_graph_update(struct shim_graph *copy, const struct shim_graph *graph);
int shim_graph_run(const struct shim_graph *copy, struct shim_stream *stream);
void shim_graph_free(struct shim_graph *graph);
/* How many have been copied, updated and run. */
void learnd_shim_graphs(unsigned long long *ret_recorded, unsigned long long *ret_updated,
                        unsigned long long *ret_launched);

/* ---- memory, and failures that are asked for --------------------------------------------------
 */

/* Of 256-byte alignment, filled with NaN. */
void *shim_malloc(size_t bytes);
/* What a call of the runtime says: 0, or the code of the failure that is due. */
int shim_call(void);
/* The call after the next `calls` fails with this cudaError_t; where it stays so does every one
 * after it, as with a device that is lost. */
void learnd_shim_fail(int calls, int code, int stays);

#endif
