/* ctl_metrics.c -- see ctl_metrics.h. */
#include "daemon/ctl/ctl_metrics.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_BYTES_MAX = 1024 };

static const char *const FIGURES[CTL_FIGURES] = {
    [CTL_QUESTIONS] = "learnd_texts_total",
    [CTL_CORRECTIONS] = "learnd_feedback_accepted_total",
    [CTL_REFUSALS] = "learnd_refusals_total",
    [CTL_REJECTED] = "learnd_feedback_rejected_total",
    [CTL_QUEUED] = "learnd_queue_texts",
    [CTL_CONNECTIONS] = "learnd_connections",
    [CTL_RESIDENT] = "process_resident_memory_bytes",
    [CTL_BEHIND] = "learnd_learner_behind",
};

static const char *const STAGES[CTL_STAGES] = {
    [CTL_ANSWER] = "learnd_request_seconds_bucket",
    [CTL_TOKENIZE] = "learnd_tokenize_seconds_bucket",
    [CTL_QUEUE] = "learnd_queue_seconds_bucket",
    [CTL_ENCODE] = "learnd_encode_seconds_bucket",
    [CTL_HEAD] = "learnd_head_seconds_bucket",
    [CTL_COMMIT] = "learnd_commit_seconds_bucket",
};

/* Adds to the bucket of that bound, which is made where it belongs. */
static void add_bucket(struct ctl_spread *s, double bound, double count)
{
    unsigned at = 0;

    while (at < s->len && s->bounds[at] < bound)
        at++;
    if (at == s->len || s->bounds[at] > bound) {
        if (s->len == CTL_BOUNDS_MAX)
            return;
        memmove(s->bounds + at + 1, s->bounds + at, (s->len - at) * sizeof *s->bounds);
        memmove(s->counts + at + 1, s->counts + at, (s->len - at) * sizeof *s->counts);
        s->len++;
        s->bounds[at] = bound;
        s->counts[at] = 0;
    }
    s->counts[at] += count;
}

/* name, name{labels}: what follows is the value. */
static void take_line(struct ctl_metrics *m, const char *line)
{
    size_t name = strcspn(line, "{ ");
    const char *labels = line[name] == '{' ? line + name : "", *le = strstr(labels, "le=\"");
    const char *value = strrchr(line, ' ');
    char *end;
    double number = value != NULL ? strtod(value + 1, &end) : NAN;

    if (value == NULL || end == value + 1 || *end != '\0' || !isfinite(number))
        return;
    for (int i = 0; i < CTL_FIGURES; i++)
        if (strlen(FIGURES[i]) == name && memcmp(FIGURES[i], line, name) == 0)
            m->figures[i] = isnan(m->figures[i]) ? number : m->figures[i] + number;
    for (int i = 0; le != NULL && i < CTL_STAGES; i++)
        if (strlen(STAGES[i]) == name && memcmp(STAGES[i], line, name) == 0)
            add_bucket(&m->stages[i], strtod(le + 4, NULL), number);
}

void ctl_metrics_read(const char *page, size_t page_bytes, struct ctl_metrics *ret)
{
    *ret = (struct ctl_metrics){.stages = {{.len = 0}}};
    for (int i = 0; i < CTL_FIGURES; i++)
        ret->figures[i] = NAN;
    while (page_bytes > 0) {
        const char *end = memchr(page, '\n', page_bytes);
        size_t len = end != NULL ? (size_t)(end - page) : page_bytes;
        char line[LINE_BYTES_MAX];

        if (len < sizeof line && page[0] != '#') {
            memcpy(line, page, len);
            line[len] = '\0';
            take_line(ret, line);
        }
        len += end != NULL;
        page += len;
        page_bytes -= len;
    }
}

static double count_of(const struct ctl_spread *now, const struct ctl_spread *before, unsigned i)
{
    for (unsigned k = 0; before != NULL && k < before->len; k++)
        if (before->bounds[k] == now->bounds[i])
            return now->counts[i] - before->counts[k];
    return now->counts[i];
}

double ctl_spread_at(const struct ctl_spread *now, const struct ctl_spread *before, double share)
{
    double all = now->len > 0 ? count_of(now, before, now->len - 1) : 0, under = 0, from = 0;

    for (unsigned i = 0; i < now->len && all > 0; i++) {
        double up_to = count_of(now, before, i);

        if (up_to >= share * all && up_to > under) {
            if (isinf(now->bounds[i]))
                return from;
            return from + (now->bounds[i] - from) * (share * all - under) / (up_to - under);
        }
        under = up_to;
        from = now->bounds[i];
    }
    return NAN;
}
