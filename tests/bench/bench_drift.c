/* bench_drift.c -- the drift detectors on made streams: false alarms on stationary ones, and on
 * changed ones the share found, the median delay in rows, how far the estimated beginning lies from
 * the true one, and false alarms before it.
 *
 *   errors     rows wrong with a fixed chance; a learning curve from 95 % down; steps up at row
 *              5,000
 *   labels     77 equal ones and 150 by Zipf's law; then one label's share is raised
 *   embeddings 77 unit clusters in 384 dimensions; then some texts come from a cluster never seen
 * Everything follows from the printed seed. Usage: bench_drift [--streams N] [--seed N]
 * [--error-level X] [--ph-slack X] [--ph-limit X]
 */
#include <err.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/measure/drift.h"
#include "tests/bench/corpus.h"

enum { ROWS = 10000, CHANGE = 5000, DIM = 384, CLUSTERS = 78, LABELS_MAX = 150 };

struct bench {
    struct drift_settings settings;
    uint64_t seed, draws;
    uint32_t streams;
    float clusters[CLUSTERS][DIM];
};

/* What one kind did on all streams of a case. */
struct outcome {
    uint32_t early, found; /* events before the change; streams with one after it */
    double delays[1000], offsets[1000];
};

static double uniform(struct bench *b)
{
    uint64_t z = b->seed + ++b->draws * 0x9E3779B97F4A7C15;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return (double)((z ^ z >> 31) >> 11) / 9007199254740992.0;
}

static double normal(struct bench *b)
{
    double u = 1 - uniform(b);

    return sqrt(-2 * log(u)) * cos(2 * M_PI * uniform(b));
}

static struct drift *open_drift(const struct bench *b, uint32_t dim)
{
    struct drift_settings settings = b->settings;
    struct drift *d;

    settings.dim = dim;
    settings.seed = 1;
    if (drift_open(&settings, &d) != 0 || drift_labels_grow(d, LABELS_MAX) != 0)
        errx(1, "out of memory");
    return d;
}

/* Counts the events of one row; the first of each kind after the change is the detection. */
static void note(struct outcome *o, bool found[DRIFT_KINDS], const struct drift_event *events,
                 uint32_t len, uint32_t row, uint32_t change)
{
    for (uint32_t i = 0; i < len; i++) {
        struct outcome *k = &o[events[i].kind];

        if (row < change) {
            k->early++;
        } else if (!found[events[i].kind]) {
            found[events[i].kind] = true;
            k->delays[k->found] = row - change + 1;
            k->offsets[k->found++] = fabs((double)events[i].since - change);
        }
    }
}

static void print(const struct bench *b, const char *what, struct outcome *o, uint32_t change,
                  const enum drift_kind *kinds, int kinds_len)
{
    for (int i = 0; i < kinds_len; i++) {
        struct outcome *k = &o[kinds[i]];

        printf("%-34s %-18s %6u false", i == 0 ? what : "", drift_kind_name(kinds[i]), k->early);
        if (change < ROWS && k->found > 0)
            printf("   found %4.0f %%  delay %5.0f  since off by %5.0f",
                   100.0 * k->found / b->streams, corpus_median(k->delays, k->found),
                   corpus_median(k->offsets, k->found));
        else if (change < ROWS)
            printf("   found    0 %%");
        printf("\n");
    }
    fflush(stdout);
}

/* ---- errors ---------------------------------------------------------------------------------- */

/* curve: the chance falls from .95 towards `before` with a memory of 500 rows. */
static void errors(struct bench *b, double before, double after, bool curve)
{
    static const enum drift_kind kinds[] = {DRIFT_ERROR_ADWIN, DRIFT_ERROR_PH};
    struct outcome *o = calloc(DRIFT_KINDS, sizeof *o);
    uint32_t change = after == before ? ROWS : CHANGE;
    char what[64];

    for (uint32_t s = 0; s < b->streams; s++) {
        struct drift *d = open_drift(b, 0);
        bool found[DRIFT_KINDS] = {false};

        for (uint32_t row = 0; row < ROWS; row++) {
            struct drift_event events[DRIFT_EVENTS_MAX];
            double chance = row < change ? before : after;
            uint32_t len;

            if (curve)
                chance += (0.95 - before) * exp(-(double)row / 500);
            if (drift_teach(d, row, (uint32_t)(uniform(b) * 77), uniform(b) < chance, events,
                            &len) != 0)
                errx(1, "a row was refused");
            note(o, found, events, len, row, change);
        }
        drift_close(d);
    }
    snprintf(what, sizeof what, "error %.0f %%%s", 100 * before,
             curve ? " after a learning curve" : "");
    if (change < ROWS)
        snprintf(what, sizeof what, "error %.0f -> %.0f %%%s", 100 * before, 100 * after,
                 curve ? " after learning" : "");
    print(b, what, o, change, kinds, 2);
    free(o);
}

/* ---- labels ---------------------------------------------------------------------------------- */

static uint32_t draw_label(struct bench *b, uint32_t labels, bool zipf)
{
    double total = 0, at;

    if (!zipf)
        return (uint32_t)(uniform(b) * labels);
    for (uint32_t c = 0; c < labels; c++)
        total += 1.0 / (c + 1);
    at = uniform(b) * total;
    for (uint32_t c = 0; c + 1 < labels; c++) {
        at -= 1.0 / (c + 1);
        if (at < 0)
            return c;
    }
    return labels - 1;
}

/* extra: share of rows that become label 40 after the change. */
static void labels(struct bench *b, uint32_t labels_len, bool zipf, double extra)
{
    static const enum drift_kind kinds[] = {DRIFT_TAUGHT_MIX, DRIFT_ASKED_MIX};
    struct outcome *o = calloc(DRIFT_KINDS, sizeof *o);
    uint32_t change = extra > 0 ? CHANGE : ROWS;
    char what[64];

    for (uint32_t s = 0; s < b->streams; s++) {
        struct drift *d = open_drift(b, 0);
        bool found[DRIFT_KINDS] = {false};

        for (uint32_t row = 0; row < ROWS; row++) {
            struct drift_event events[DRIFT_EVENTS_MAX];
            bool moved = row >= change && uniform(b) < extra;
            uint32_t label = moved ? 40 : draw_label(b, labels_len, zipf), len;

            if (drift_teach(d, row, label, false, events, &len) != 0)
                errx(1, "a row was refused");
            note(o, found, events, len, row, change);
            if (drift_ask(d, row, NULL, label, events, &len) != 0)
                errx(1, "a question was refused");
            note(o, found, events, len, row, change);
        }
        drift_close(d);
    }
    snprintf(what, sizeof what, "%u labels%s%s", labels_len, zipf ? ", Zipf" : "",
             extra > 0 ? "" : ", stationary");
    if (extra > 0)
        snprintf(what, sizeof what, "%u labels%s, one +%.0f %%", labels_len, zipf ? ", Zipf" : "",
                 100 * extra);
    print(b, what, o, change, kinds, 2);
    free(o);
}

/* ---- embeddings ------------------------------------------------------------------------------ */

/* A unit vector near a cluster: cosine with its centre about .6, as for MiniLM and an intent's
 * texts. */
static void draw_embedding(struct bench *b, uint32_t cluster, float *x)
{
    double length = 0;

    for (int i = 0; i < DIM; i++) {
        x[i] = b->clusters[cluster][i] + (float)(1.33 * normal(b) / sqrt(DIM));
        length += (double)x[i] * x[i];
    }
    for (int i = 0; i < DIM; i++)
        x[i] /= (float)sqrt(length);
}

static void embeddings(struct bench *b, uint32_t streams, double extra)
{
    static const enum drift_kind kinds[] = {DRIFT_ASKED_FEATURES};
    struct outcome *o = calloc(DRIFT_KINDS, sizeof *o);
    struct bench cut = *b;
    uint32_t change = extra > 0 ? CHANGE : ROWS;
    char what[64];

    cut.streams = streams;
    for (uint32_t s = 0; s < streams; s++) {
        struct drift *d = open_drift(b, DIM);
        bool found[DRIFT_KINDS] = {false};

        for (uint32_t row = 0; row < ROWS; row++) {
            struct drift_event events[DRIFT_EVENTS_MAX];
            bool moved = row >= change && uniform(b) < extra;
            uint32_t cluster = moved ? CLUSTERS - 1 : (uint32_t)(uniform(b) * (CLUSTERS - 1)), len;
            float x[DIM];

            draw_embedding(b, cluster, x);
            if (drift_ask(d, row, x, DRIFT_NONE, events, &len) != 0)
                errx(1, "a question was refused");
            note(o, found, events, len, row, change);
        }
        drift_close(d);
    }
    snprintf(what, sizeof what, "embeddings%s", extra > 0 ? "" : ", stationary");
    if (extra > 0)
        snprintf(what, sizeof what, "embeddings, %.0f %% unseen topic", 100 * extra);
    print(&cut, what, o, change, kinds, 1);
    free(o);
}

static void options(int argc, char **argv, struct bench *b)
{
    static const struct option known[] = {
        {"streams", required_argument, NULL, 'n'},     {"seed", required_argument, NULL, 's'},
        {"error-level", required_argument, NULL, 'e'}, {"ph-slack", required_argument, NULL, 'k'},
        {"ph-limit", required_argument, NULL, 'l'},    {0}};
    int c;

    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (c) {
        case 'n':
            b->streams = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 's':
            b->seed = strtoull(optarg, NULL, 10);
            break;
        case 'e':
            b->settings.error_level = strtod(optarg, NULL);
            break;
        case 'k':
            b->settings.ph_slack = strtod(optarg, NULL);
            break;
        case 'l':
            b->settings.ph_limit = strtod(optarg, NULL);
            break;
        default:
            errx(2, "usage: bench_drift [--streams N] [--seed N] [--error-level X] "
                    "[--ph-slack X] [--ph-limit X]");
        }
    }
    if (b->streams < 1 || b->streams > 1000)
        errx(2, "streams: 1 .. 1000");
}

int main(int argc, char **argv)
{
    static const double rates[] = {0.05, 0.15, 0.40};
    static struct bench b = {.seed = 1, .streams = 200};

    b.settings = drift_settings_default;
    options(argc, argv, &b);
    for (int c = 0; c < CLUSTERS; c++)
        for (int i = 0; i < DIM; i++)
            b.clusters[c][i] = (float)(normal(&b) / sqrt(DIM));
    printf("%u streams of %d rows, seed %lu; changes at row %d\n", b.streams, ROWS,
           (unsigned long)b.seed, CHANGE);
    for (int i = 0; i < 3; i++)
        errors(&b, rates[i], rates[i], false);
    errors(&b, 0.10, 0.10, true);
    errors(&b, 0.05, 0.10, false);
    errors(&b, 0.05, 0.20, false);
    errors(&b, 0.15, 0.25, false);
    errors(&b, 0.40, 0.50, false);
    errors(&b, 0.10, 0.30, true);
    labels(&b, 77, false, 0);
    labels(&b, 150, true, 0);
    labels(&b, 77, false, 0.06);
    labels(&b, 150, true, 0.06);
    embeddings(&b, (b.streams + 4) / 5, 0);
    embeddings(&b, (b.streams + 19) / 20, 0.02);
    embeddings(&b, (b.streams + 19) / 20, 0.05);
    return 0;
}
