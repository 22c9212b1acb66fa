/* dump_train.c -- what the step function makes of a case, for tests/golden/train/check_minilm.py.
 *
 * dump_train FOLDER CASE OUT WEIGHTS fp32|bf16: opens the encoder in FOLDER with all of its words,
 * writes logits, loss and its parts, every gradient and ten AdamW losses to OUT, and the encoder
 * after these steps to WEIGHTS. OUT has the names of make_train_golden.py, CASE its format.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/encoder/safetensors_write.h"
#include "kernels/train/train_internal.h"
#include "tests/unit/train_fixture.h"

enum { OUT_MAX = 4096 };

/* Tensors in the order of a file to come. */
struct out {
    struct safetensors_entry entries[OUT_MAX];
    const float *values[OUT_MAX];
    uint32_t len;
};

static void out_add(struct out *o, const char *name, const float *values, uint64_t rows,
                    uint64_t columns)
{
    struct safetensors_entry *e = &o->entries[o->len];

    snprintf(e->name, sizeof e->name, "%s", name);
    e->rows = rows;
    e->columns = columns;
    o->values[o->len++] = values;
}

static int to_file(void *ud, const void *bytes, size_t len)
{
    return fwrite(bytes, 1, len, ud) == len ? 0 : -1;
}

static int out_write(const struct out *o, const char *path)
{
    FILE *f = fopen(path, "wb");
    int rc = f != NULL ? safetensors_header_write(o->entries, o->len, to_file, f) : -1;

    for (uint32_t i = 0; i < o->len && rc == 0; i++)
        rc = to_file(f, o->values[i],
                     o->entries[i].rows * o->entries[i].columns * sizeof *o->values[i]);
    if (f != NULL && fclose(f) != 0)
        rc = -1;
    return rc;
}

static void *taken(size_t bytes)
{
    void *memory = malloc(bytes);

    if (memory == NULL)
        abort();
    return memory;
}

/* The gradients of the whole case, as they are now; the train forgets them. */
static int gradients(struct train *t, const struct train_case *c, struct out *o, float *ret_loss)
{
    const struct masters *m = &t->masters;
    float *grad = taken(m->len * sizeof *grad);
    struct train_report r;
    int rc = train_gradients(t, c->batch, c->len, &r);

    if (rc != 0)
        return rc;
    memcpy(grad, m->grad, m->len * sizeof *grad);
    memset(m->grad, 0, m->len * sizeof *grad);
    ret_loss[0] = (float)r.loss;
    ret_loss[1] = (float)r.loss_new;
    ret_loss[2] = (float)r.loss_old;
    ret_loss[3] = (float)r.loss_distill;
    ret_loss[4] = (float)r.loss_feature;
    out_add(o, "loss", ret_loss, 5, 1);
    for (uint32_t i = 0; i < m->list_len; i++) {
        const struct master *p = &m->list[i];
        char name[TRAIN_NAME_BYTES];

        masters_name(p, "grad.", name);
        out_add(o, name, grad + p->at, p->rows, p->columns);
    }
    out_add(o, "grad.head", grad + m->head, t->settings.labels_len, t->config.C);
    if (m->len > m->biases)
        out_add(o, "grad.biases", grad + m->biases, m->len - m->biases, 1);
    return 0;
}

static int dump(struct train *t, const struct train_case *c, const char *path, const char *weights)
{
    static struct out o;
    float loss[5], losses[TRAIN_CASE_STEPS + 1];
    float *before = taken((size_t)c->len * t->config.C * sizeof *before);
    float *after = taken((size_t)c->len * t->config.C * sizeof *after);
    float *logits = taken((size_t)c->len * t->settings.labels_len * sizeof *logits);
    FILE *f = fopen(weights, "wb");
    int rc = f != NULL ? train_embed(t, c->batch, c->len, before) : -1;

    train_case_logits(t, before, c->len, logits);
    out_add(&o, "logits", logits, c->len, t->settings.labels_len);
    if (rc == 0)
        rc = gradients(t, c, &o, loss);
    for (uint32_t i = 0; i <= TRAIN_CASE_STEPS && rc == 0; i++) {
        struct train_report r;

        if (i == TRAIN_CASE_STEPS) {
            rc = train_embed(t, c->batch, c->len, after);
            if (rc == 0)
                rc = train_weights_write(t, to_file, f);
        }
        if (rc == 0)
            rc = train_step(t, c->batch, train_case_len(c, i), &r);
        losses[i] = rc == 0 ? (float)r.loss : 0;
    }
    out_add(&o, "losses", losses, TRAIN_CASE_STEPS + 1, 1);
    out_add(&o, "embeddings_after", after, c->len, t->config.C);
    if (f != NULL && fclose(f) != 0)
        rc = -1;
    return rc == 0 ? out_write(&o, path) : rc;
}

int main(int argc, char **argv)
{
    struct train_case c;
    struct train *t;
    int rc;

    if (argc != 6) {
        fprintf(stderr, "usage: dump_train FOLDER CASE OUT WEIGHTS fp32|bf16\n");
        return 2;
    }
    if (!train_case_read(argv[2], &c))
        return 1;
    t = train_case_open(&c, argv[1], strcmp(argv[5], "fp32") == 0, true);
    rc = t != NULL ? dump(t, &c, argv[3], argv[4]) : -1;
    if (rc != 0)
        fprintf(stderr, "dump_train: %d\n", rc);
    train_close(t);
    train_case_free(&c);
    return rc == 0 ? 0 : 1;
}
