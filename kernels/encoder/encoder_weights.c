/* encoder_weights.c -- see encoder_weights.h. Two walks over the lists: the first holds every
 * tensor of the file against config.json, so that sizes nobody has are refused before memory is
 * asked for them; the second takes the tensors one by one from the mapped file through one fp32
 * buffer into the form their device wants. The file is unmapped at the end, so that a bf16 encoder
 * costs bf16 memory only.
 */
#include "kernels/encoder/encoder_weights.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct loading {
    struct encoder *encoder;
    struct safetensors *file;
    const char *prefix; /* "bert." or "" */
    /* The largest tensor, or qkv whole, with its bias behind it; NULL on the first walk, which
     * measures it. */
    float *buffer;
    size_t buffer_len;
    /* The matrix that stands in the buffer until its bias is there too. */
    struct kmat **mat;
    uint32_t M, K;
    char *why;
    size_t why_bytes;
};

const char *encoder_tensor_prefix(const struct safetensors *file)
{
    bool found = safetensors_find(file, "bert.embeddings.word_embeddings.weight") != NULL;

    return found ? "bert." : "";
}

int encoder_tensor_find(const struct safetensors *file, const char *full, uint64_t rows,
                        uint64_t columns, char *why, size_t why_bytes,
                        const struct safetensor **ret_tensor)
{
    const struct safetensor *t = safetensors_find(file, full);
    uint32_t dims = columns > 1 ? 2 : 1;
    char found[96] = "";
    size_t at = 0;

    if (t == NULL) {
        snprintf(why, why_bytes, "model.safetensors: tensor %s is missing", full);
        return -EINVAL;
    }
    if (t->dims_len != dims || t->dims[0] != rows || (dims == 2 && t->dims[1] != columns)) {
        for (uint32_t i = 0; i < t->dims_len; i++)
            at += (size_t)snprintf(found + at, sizeof found - at, "%s%llu", i > 0 ? "," : "",
                                   (unsigned long long)t->dims[i]);
        snprintf(
            why, why_bytes,
            "model.safetensors: tensor %s: config.json expects shape (%llu%s%.0llu), found (%s)",
            full, (unsigned long long)rows, dims == 2 ? "," : "",
            (unsigned long long)(dims == 2 ? columns : 0), found);
        return -EINVAL;
    }
    if (t->dtype == SAFETENSORS_OTHER) {
        snprintf(why, why_bytes,
                 "model.safetensors: tensor %s: expected F32, F16 or BF16, found %s", full,
                 t->dtype_name);
        return -EINVAL;
    }
    *ret_tensor = t;
    return 0;
}

/* Goes on with the fingerprint: each number by a weight of its own place, so that none waits for
 * the one before. 22.7 M of them take 30 ms, beside the 0.1 to 1 s of opening. */
static uint64_t fingerprint(uint64_t hash, const float *values, size_t len)
{
    const uint64_t odd = 0x9e3779b97f4a7c15;
    uint64_t sum = len, weight = 1;

    for (size_t i = 0; i < len; i++, weight += 2 * odd) {
        uint32_t bits;

        memcpy(&bits, &values[i], sizeof bits);
        sum += bits * weight;
    }
    hash = (hash ^ sum) * odd;
    return hash ^ hash >> 29;
}

static int keep(struct loading *l, size_t values, enum kdtype dtype, void **ret_data)
{
    const struct backend *b = l->encoder->backend;
    int rc = b->alloc(K_WEIGHTS, values * (dtype == K_BF16 ? 2 : 4), ret_data);

    return rc != 0 ? rc : b->upload(*ret_data, dtype, l->buffer, values);
}

/* What is in the buffer, whole, to where it belongs: `field` is a struct kview, a float pointer or
 * a kmat pointer, as `how` says, and NULL for a bias. */
static int take(struct loading *l, uint32_t rows, uint32_t columns, enum encoder_how how,
                void *field)
{
    const enum kdtype dtype = l->encoder->dtype;
    struct kview *view = field;

    switch (how) {
    case TABLE:
        view->dtype = dtype;
        return keep(l, (size_t)rows * columns, dtype, &view->data);
    case VEC:
        return keep(l, rows, K_F32, field);
    case BIAS:
    case VALUE_BIAS:
        return l->encoder->backend->mat_load(l->buffer, l->buffer + (size_t)l->M * l->K, l->M, l->K,
                                             dtype, l->mat);
    default: /* the bias comes next */
        l->mat = field;
        return 0;
    }
}

/* What the device will take for a row of the lists: a matrix's bias and parts come with it. */
static size_t taken(const struct encoder *e, uint32_t rows, uint32_t columns, enum encoder_how how)
{
    const size_t value = e->dtype == K_BF16 && how == TABLE ? 2 : 4;

    if (encoder_part(how) > 0 || (how >= BIAS && how < MAT))
        return 0;
    return how >= MAT ? e->backend->mat_bytes(encoder_parts(how) * rows, columns, e->dtype)
                      : kroom_bytes((size_t)rows * columns * value);
}

/* One row of the lists. */
static int load(struct loading *l, const char *scope, const char *name, uint32_t rows,
                uint32_t columns, enum encoder_how how, void *field)
{
    const size_t part = (size_t)rows * columns, values = encoder_parts(how) * part;
    const uint32_t last = encoder_parts(how) - 1;
    const struct safetensor *t;
    size_t from = 0;
    char full[256];
    int rc;

    snprintf(full, sizeof full, "%s%s%s", l->prefix, scope, name);
    rc = encoder_tensor_find(l->file, full, rows, columns, l->why, l->why_bytes, &t);
    if (rc != 0)
        return rc;
    if (how >= MAT) {
        l->M = encoder_parts(how) * rows;
        l->K = columns;
    } else if (how >= BIAS) {
        from = (size_t)l->M * l->K;
    }
    if (l->buffer == NULL) {
        l->buffer_len = from + values > l->buffer_len ? from + values : l->buffer_len;
        l->encoder->info.weights_bytes += taken(l->encoder, rows, columns, how);
        return 0;
    }
    if (safetensor_read(t, l->buffer + from + part * encoder_part(how)) != 0) {
        snprintf(l->why, l->why_bytes, "model.safetensors: tensor %s holds NaN or infinity",
                 t->name);
        return -EINVAL;
    }
    if (encoder_part(how) < last)
        return 0;
    l->encoder->info.fingerprint =
        fingerprint(l->encoder->info.fingerprint, l->buffer + from, values);
    rc = take(l, rows, columns, how, field);
    if (rc != 0)
        snprintf(l->why, l->why_bytes, "tensor %s%s: %s", scope, name,
                 rc == -ENOMEM ? "out of memory" : "the device refused it");
    return rc;
}

/* Where a row of the lists goes: a bias into its matrix. */
#define FIELD_TABLE(field) &at->field
#define FIELD_VEC(field) &at->field
#define FIELD_MAT(field) &at->field
#define FIELD_QUERY(field) &at->field
#define FIELD_KEY(field) &at->field
#define FIELD_VALUE(field) &at->field
#define FIELD_BIAS(field) NULL
#define FIELD_QUERY_BIAS(field) NULL
#define FIELD_KEY_BIAS(field) NULL
#define FIELD_VALUE_BIAS(field) NULL

/* One walk. */
static int load_all(struct loading *l)
{
    struct encoder *e = l->encoder;
    const uint32_t C = e->config.C, F = e->config.F, V = e->config.V;
    const uint32_t P = e->config.positions, S = e->config.segments;
    char scope[64] = "";
    int rc = 0;

#define LOAD(field, name, rows, columns, how)                                                      \
    if (rc == 0)                                                                                   \
        rc = load(l, scope, name, rows, columns, how, FIELD_##how(field));
    {
        struct encoder *at = e;

        ENCODER_EMBEDDING_PARAMETERS(LOAD)
    }
    for (uint32_t i = 0; i < e->config.layers && rc == 0; i++) {
        struct encoder_layer *at = &e->layers[i];

        snprintf(scope, sizeof scope, "encoder.layer.%u.", i);
        ENCODER_LAYER_PARAMETERS(LOAD)
    }
#undef LOAD
    return rc;
}

static uint64_t parameters(const struct encoder_config *c)
{
    const uint64_t C = c->C, F = c->F, V = c->V, P = c->positions, S = c->segments;
    uint64_t embedding = 0, layer = 0;

#define COUNT(field, name, rows, columns, how) embedding += (uint64_t)(rows) * (columns);
    ENCODER_EMBEDDING_PARAMETERS(COUNT)
#undef COUNT
#define COUNT(field, name, rows, columns, how) layer += (uint64_t)(rows) * (columns);
    ENCODER_LAYER_PARAMETERS(COUNT)
#undef COUNT
    return embedding + layer * c->layers;
}

/* How much it needs, and of a device how much there is. */
static void no_memory(const struct encoder *e, char *why, size_t why_bytes)
{
    const double MIB = 1 << 20;
    struct kmemory memory;
    int at = snprintf(why, why_bytes, "out of memory: the weights need %.1f MiB on %s",
                      (double)e->info.weights_bytes / MIB, e->backend->name);

    e->backend->memory(&memory);
    if (memory.total > 0 && at > 0 && (size_t)at < why_bytes)
        snprintf(why + at, why_bytes - (size_t)at, ", which has %.1f MiB; learnd holds %.1f of it",
                 (double)memory.total / MIB, (double)memory.taken / MIB);
}

int encoder_weights_read(struct encoder *e, const char *folder, char *why, size_t why_bytes)
{
    struct loading l = {.encoder = e, .why = why, .why_bytes = why_bytes};
    char path[4096];
    int rc;

    if (snprintf(path, sizeof path, "%s/model.safetensors", folder) >= (int)sizeof path) {
        snprintf(why, why_bytes, "the path of the encoder's folder is too long");
        return -EINVAL;
    }
    rc = safetensors_open(path, why, why_bytes, &l.file);
    if (rc != 0)
        return rc;
    l.prefix = encoder_tensor_prefix(l.file);
    e->info.parameters = parameters(&e->config);
    e->layers = calloc(e->config.layers, sizeof *e->layers);
    rc = e->layers != NULL ? load_all(&l) : -ENOMEM;
    if (rc == 0)
        l.buffer = malloc(l.buffer_len * sizeof *l.buffer);
    if (rc == 0)
        rc = l.buffer != NULL ? load_all(&l) : -ENOMEM;
    if (rc == -ENOMEM)
        no_memory(e, why, why_bytes);
    free(l.buffer);
    safetensors_close(l.file);
    return rc;
}

void encoder_weights_free(struct encoder *e)
{
    const struct backend *b = e->backend;

    b->dealloc(e->word.data);
    b->dealloc(e->position.data);
    b->dealloc(e->segment.data);
    b->dealloc(e->gamma);
    b->dealloc(e->beta);
    for (uint32_t i = 0; i < e->config.layers && e->layers != NULL; i++) {
        struct encoder_layer *layer = &e->layers[i];
        struct kmat *mats[] = {layer->qkv, layer->out, layer->up, layer->down};
        float *vectors[] = {layer->attention_gamma, layer->attention_beta, layer->output_gamma,
                            layer->output_beta};

        for (size_t m = 0; m < sizeof mats / sizeof *mats; m++)
            b->mat_free(mats[m]);
        for (size_t v = 0; v < sizeof vectors / sizeof *vectors; v++)
            b->dealloc(vectors[v]);
    }
    free(e->layers);
}
