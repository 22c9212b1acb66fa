/* ctl_doctor_live.c -- does the daemon that has the folder see texts as the store has them?
 *
 * A few stored texts of each model are put to it, and the embeddings that it answers with are held
 * against those that its heads were taught with. A daemon that was started with other weights, or
 * on another device that computes wrongly, is seen here and nowhere else in the folder.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ctl/ctl_call.h"
#include "daemon/ctl/ctl_doctor.h"
#include "daemon/ctl/ctl_http.h"
#include "kernels/head/head_holds.h"

enum { SAMPLE = 16 };

static const double COSINE_MIN = 0.99; /* bf16 against fp32 is above 0.9999 */

struct live {
    struct doctor *doctor;
    struct api_buffer body; /* the request */
    float *embeddings;      /* (SAMPLE,dim) as the store has them */
    uint32_t len, dim;
};

/* NULL: it is not there, or not as learnd is. Nothing is said: a doctor needs no daemon. */
static struct json_value *ask(struct ctl *ctl, const char *method, const char *target,
                              const struct api_buffer *body)
{
    static const struct json_limits limits = {16 << 20, 32, 100000, 1000000};
    struct ctl_answer answer = {0};
    struct json_value *value = NULL;
    struct json_problem problem;

    if (ctl_http_send(ctl->http, method, target, CTL_JSON, body, &answer) != 0)
        return NULL;
    if (answer.status / 100 == 2 && answer.body.rc == 0 &&
        json_parse(answer.body.bytes, answer.body.len, &limits, &value, &problem) != 0)
        value = NULL;
    api_buffer_done(&answer.body);
    return value;
}

static int take_example(void *ud, const struct store_example *row)
{
    struct live *v = ud;
    uint32_t dim = (uint32_t)(row->embedding_bytes / sizeof *row->embedding);

    if (row->embedding == NULL || row->pair != NULL || v->len == SAMPLE ||
        (v->len > 0 && dim != v->dim))
        return 0;
    if (v->embeddings == NULL)
        v->embeddings = malloc((size_t)SAMPLE * dim * sizeof *v->embeddings + 1);
    if (v->embeddings == NULL)
        return -ENOMEM;
    v->dim = dim;
    head_embedding_unpack(row->embedding, dim, v->embeddings + (size_t)v->len++ * dim);
    json_write_text(&v->body, row->text, row->text_bytes);
    return 0;
}

static double cosine(const float *own, const struct json_value *theirs, uint32_t dim)
{
    double dot = 0, a = 0, b = 0;

    for (uint32_t i = 0; i < dim; i++) {
        double x = own[i], y = json_number(json_at(theirs, i), (double)NAN);

        dot += x * y;
        a += x * x;
        b += y * y;
    }
    return dot / sqrt(a * b);
}

static void compare(struct live *v, const char *model, const struct json_value *answer)
{
    const struct json_value *rows = json_member(answer, "embeddings");
    struct store_finding finding = {
        .code = "daemon_differs", /* a warning: it may be another folder's daemon */
        .advice = "restart the daemon with the encoder and device it had; is --url this folder's?"};
    uint32_t wrong = 0;

    if (json_len(rows) != v->len || json_len(json_at(rows, 0)) != v->dim)
        wrong = v->len;
    for (uint32_t i = 0; i < v->len && wrong < v->len; i++)
        wrong +=
            !(cosine(v->embeddings + (size_t)i * v->dim, json_at(rows, i), v->dim) >= COSINE_MIN);
    v->doctor->asked += v->len;
    if (wrong == 0)
        return;
    snprintf(finding.what, sizeof finding.what,
             "model %.100s: the daemon sees %u of %u texts otherwise than the store has them",
             model, wrong, v->len);
    doctor_show(v->doctor, &finding);
}

int doctor_live(struct doctor *d, struct store *store, const struct store_model *model)
{
    const struct store_example_filter some = {.status = "active", .limit = 4 * SAMPLE};
    struct live v = {.doctor = d};
    struct json_value *answer;
    int rc;

    json_open_object(&v.body);
    json_write_key(&v.body, "model");
    json_write_string(&v.body, model->name);
    json_write_key(&v.body, "inputs");
    json_open_array(&v.body);
    rc = store_example_scan(store, model->id, &some, model->encoder, take_example, &v);
    json_close_array(&v.body);
    json_close_object(&v.body);
    if (rc == 0 && v.len > 0 && v.body.rc == 0) {
        answer = ask(d->ctl, "POST", "/v1/embed", &v.body);
        if (answer != NULL)
            compare(&v, model->name, answer);
        json_free(answer);
    }
    free(v.embeddings);
    api_buffer_done(&v.body);
    return rc;
}
