/* cuda_graphs.cu -- sequences of operations that come again, told to the device as one launch.
 *
 * A forward of a few texts is some fifty launches, and each takes the host longer than the device:
 * up to about TOKENS_MAX tokens a batch waits for its launches. So such batches take one of a few
 * shapes (cuda_widen), and what a shape brings is recorded from the stream when it comes the second
 * time: the first time it may still take memory and make the library choose algorithms. From the
 * third on it is one launch.
 *
 * Recorded are kernels with their arguments: addresses and the shape, which is what a key names.
 * What differs between two batches of a shape the kernels read from memory: ids, types, and
 * offsets, whose copy to the device is part of the sequence.
 *
 * The wider shape costs little: a product's tiles are 64 or 128 rows tall however few it is given,
 * so that rows up to the next step are computed anyhow, and blocks of texts that are none end at
 * once. A row's bits are the same in every shape (cuda_blas.h).
 *
 * A context has room for GRAPHS_MAX of them; then the one that was asked for longest ago is
 * recorded over, in place where the driver can. So what the driver takes for them is bounded, and
 * encoders that come and go cost nothing new.
 */
#include <stdlib.h>

#include "kernels/cuda/cuda_ops.h"

static constexpr uint32_t GRAPHS_MAX = 64, FAILURES_MAX = 3;
static constexpr uint32_t STEP = 128, TOKENS_MAX = 1024, LONGEST_LEAST = 32;

struct sequence {
    struct kkey key;
    uint64_t asked; /* by the context's count of requests; 0: an empty place */
    bool recorded;  /* exec is this key's; else that of one before, or none */
    cudaGraphExec_t exec;
};

struct cuda_graphs {
    struct sequence sequences[GRAPHS_MAX];
    uint64_t requests;
    uint32_t failures; /* after a few the context records no more */
};

/* ---- shapes -----------------------------------------------------------------------------------
 */

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* The first of `from`, `from` times factor, .. that is not below n. */
static uint32_t step_of(uint32_t n, uint32_t from, uint32_t factor)
{
    while (from < n)
        from *= factor;
    return from;
}

bool cuda_widen(struct kbatch *batch, uint32_t seqs_max, uint32_t rows_max)
{
    const uint32_t T = batch->tokens;
    const uint32_t tokens = T <= STEP ? step_of(T, 16, 2) : (T + STEP - 1) / STEP * STEP;

    if (tokens > TOKENS_MAX || tokens > rows_max)
        return false;
    batch->tokens = tokens;
    batch->seqs = least(step_of(batch->seqs, 1, 4), seqs_max);
    batch->longest = least(step_of(batch->longest, LONGEST_LEAST, 4), tokens);
    return true;
}

/* ---- the table --------------------------------------------------------------------------------
 */

static bool same(const struct kkey *a, const struct kkey *b)
{
    return a->whose == b->whose && a->seqs == b->seqs && a->tokens == b->tokens &&
           a->longest == b->longest && a->how == b->how;
}

/* The place of a key; of a new one that of the key that was asked for longest ago. */
static struct sequence *place_of(struct cuda_graphs *g, const struct kkey *key, bool *ret_new)
{
    struct sequence *oldest = g->sequences;

    for (uint32_t i = 0; i < GRAPHS_MAX; i++) {
        struct sequence *s = &g->sequences[i];

        *ret_new = s->asked == 0 || !same(&s->key, key);
        if (!*ret_new)
            return s;
        oldest = s->asked < oldest->asked ? s : oldest;
    }
    oldest->key = *key;
    oldest->recorded = false;
    return oldest;
}

int cuda_graphs_open(struct kctx *k)
{
    k->graphs = static_cast<struct cuda_graphs *>(calloc(1, sizeof *k->graphs));
    return k->graphs != NULL ? 0 : -ENOMEM;
}

void cuda_graphs_close(struct kctx *k)
{
    for (uint32_t i = 0; i < GRAPHS_MAX && k->graphs != NULL; i++)
        if (k->graphs->sequences[i].exec != NULL)
            (void)cudaGraphExecDestroy(k->graphs->sequences[i].exec);
    free(k->graphs);
}

/* ---- recording --------------------------------------------------------------------------------
 */

/* What enqueue() would do, as a graph. NULL: it could not be recorded, and nothing was enqueued. */
static cudaGraph_t capture(struct kctx *k, void (*enqueue)(void *ud), void *ud)
{
    cudaGraph_t graph = NULL;

    if (cudaStreamBeginCapture(k->stream, cudaStreamCaptureModeThreadLocal) != cudaSuccess)
        return NULL;
    k->recording = true;
    k->unfit = false;
    k->offsets_from = NULL; /* so that their copy is part of it */
    enqueue(ud);
    k->offsets_from = NULL;
    k->recording = false;
    if (cudaStreamEndCapture(k->stream, &graph) != cudaSuccess || !k->unfit)
        return graph;
    (void)cudaGraphDestroy(graph);
    return NULL;
}

/* The graph in the place of the one before, if the two are alike; else as a new one. */
static bool instantiate(cudaGraphExec_t *exec, cudaGraph_t graph)
{
    cudaGraphExecUpdateResultInfo info;
    cudaGraphExec_t made = NULL;

    if (*exec != NULL && cudaGraphExecUpdate(*exec, graph, &info) == cudaSuccess)
        return true;
    (void)cudaGetLastError();
    if (cudaGraphInstantiate(&made, graph, 0) != cudaSuccess)
        return false;
    if (*exec != NULL)
        (void)cudaGraphExecDestroy(*exec);
    *exec = made;
    return true;
}

static bool record(struct kctx *k, struct sequence *s, void (*enqueue)(void *ud), void *ud)
{
    cudaGraph_t graph = capture(k, enqueue, ud);

    s->recorded = graph != NULL && instantiate(&s->exec, graph);
    if (graph != NULL)
        (void)cudaGraphDestroy(graph);
    if (!s->recorded) {
        (void)cudaGetLastError(); /* what is left of the device is said by what comes next */
        k->graphs->failures++;
    }
    return s->recorded;
}

void cuda_repeat(struct kctx *k, const struct kkey *key, void (*enqueue)(void *ud), void *ud)
{
    struct cuda_graphs *g = k->graphs;
    struct sequence *s;
    bool first;

    cuda_here();
    s = place_of(g, key, &first);
    s->asked = ++g->requests;
    if (k->error == 0 &&
        (s->recorded || (!first && g->failures < FAILURES_MAX && record(k, s, enqueue, ud))))
        cuda_check(k, cudaGraphLaunch(s->exec, k->stream));
    else
        enqueue(ud);
}
