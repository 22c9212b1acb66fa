/* shim_streams.c -- streams that can be recorded, and what is recorded, of shim.h. Tests only. */
#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cuda/shim.h"

enum { UNSUPPORTED = 900, INVALIDATED = 901, NOT_ALIKE = 910 };

struct node {
    void (*body)(void *argument);
    void *argument;
    size_t bytes;
};

struct shim_graph {
    struct node *nodes;
    size_t len;
};

struct shim_stream {
    struct shim_graph *graph; /* while it is recorded */
    bool broken;
};

static _Thread_local struct shim_stream *recorded_here;
static atomic_ullong recorded, updated, launched;

void learnd_shim_graphs(unsigned long long *ret_recorded, unsigned long long *ret_updated,
                        unsigned long long *ret_launched)
{
    *ret_recorded = recorded;
    *ret_updated = updated;
    *ret_launched = launched;
}

static void *grown(void *data, size_t bytes)
{
    data = realloc(data, bytes > 0 ? bytes : 1);
    assert(data != NULL);
    return data;
}

struct shim_stream *shim_stream_open(void)
{
    struct shim_stream *stream = grown(NULL, sizeof *stream);

    *stream = (struct shim_stream){NULL, false};
    return stream;
}

void shim_stream_close(struct shim_stream *stream)
{
    free(stream);
}

static void graph_add(struct shim_graph *g, void (*body)(void *argument), const void *argument,
                      size_t bytes)
{
    struct node *n;

    g->nodes = grown(g->nodes, (g->len + 1) * sizeof *g->nodes);
    n = &g->nodes[g->len++];
    *n = (struct node){body, grown(NULL, bytes), bytes};
    memcpy(n->argument, argument, bytes);
}

int shim_enqueue(struct shim_stream *stream, void (*body)(void *argument), const void *argument,
                 size_t bytes)
{
    if (stream != NULL && stream->graph != NULL) {
        graph_add(stream->graph, body, argument, bytes);
        return shim_call();
    }
    body((void *)(uintptr_t)argument);
    return shim_call();
}

int shim_wait(void)
{
    if (recorded_here == NULL)
        return shim_call();
    recorded_here->broken = true;
    return UNSUPPORTED;
}

int shim_record(struct shim_stream *stream)
{
    int said = shim_call();

    if (said != 0)
        return said;
    if (recorded_here != NULL || stream == NULL)
        return UNSUPPORTED;
    stream->graph = grown(NULL, sizeof *stream->graph);
    *stream->graph = (struct shim_graph){NULL, 0};
    stream->broken = false;
    recorded_here = stream;
    return 0;
}

int shim_record_end(struct shim_stream *stream, struct shim_graph **ret_graph)
{
    struct shim_graph *graph = stream->graph;
    int said = shim_call();

    shim_expect(recorded_here == stream, "a recording that nobody began here");
    recorded_here = NULL;
    stream->graph = NULL;
    *ret_graph = NULL;
    if (said == 0 && stream->broken)
        said = INVALIDATED;
    if (said != 0)
        shim_graph_free(graph);
    else
        *ret_graph = graph;
    return said;
}

void shim_graph_free(struct shim_graph *graph)
{
    for (size_t i = 0; graph != NULL && i < graph->len; i++)
        free(graph->nodes[i].argument);
    if (graph != NULL)
        free(graph->nodes);
    free(graph);
}

int shim_graph_copy(const struct shim_graph *graph, struct shim_graph **ret_copy)
{
    int said = shim_wait();

    if (said != 0)
        return said;
    *ret_copy = grown(NULL, sizeof **ret_copy);
    **ret_copy = (struct shim_graph){NULL, 0};
    for (size_t i = 0; i < graph->len; i++)
        graph_add(*ret_copy, graph->nodes[i].body, graph->nodes[i].argument, graph->nodes[i].bytes);
    recorded++;
    return 0;
}

int shim_graph_update(struct shim_graph *copy, const struct shim_graph *graph)
{
    int said = shim_wait();

    if (said != 0)
        return said;
    if (copy->len != graph->len)
        return NOT_ALIKE;
    for (size_t i = 0; i < copy->len; i++)
        if (copy->nodes[i].body != graph->nodes[i].body)
            return NOT_ALIKE;
    for (size_t i = 0; i < copy->len; i++)
        memcpy(copy->nodes[i].argument, graph->nodes[i].argument, graph->nodes[i].bytes);
    updated++;
    return 0;
}

int shim_graph_run(const struct shim_graph *copy, struct shim_stream *stream)
{
    int said = shim_call();

    shim_expect(stream->graph == NULL, "a launch of a graph while its stream is recorded");
    for (size_t i = 0; i < copy->len && said == 0; i++)
        copy->nodes[i].body(copy->nodes[i].argument);
    launched++;
    return said;
}
