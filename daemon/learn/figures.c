/* figures.c -- see figures.h. */
#include "daemon/learn/figures.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct figures_table {
    pthread_mutex_t lock;
    struct figures *rows; /* (len) by model */
    uint32_t len, max;
};

int figures_open(struct figures_table **ret_table)
{
    struct figures_table *t = calloc(1, sizeof *t);

    if (t == NULL)
        return -ENOMEM;
    pthread_mutex_init(&t->lock, NULL);
    *ret_table = t;
    return 0;
}

void figures_close(struct figures_table *t)
{
    if (t == NULL)
        return;
    pthread_mutex_destroy(&t->lock);
    free(t->rows);
    free(t);
}

/* Where the model's row is, or would be. Only the learner changes the table, so it may look without
 * the lock. */
static uint32_t place_of(const struct figures_table *t, int64_t model)
{
    uint32_t i = 0;

    while (i < t->len && t->rows[i].model < model)
        i++;
    return i;
}

int figures_set(struct figures_table *t, const struct figures *figures)
{
    uint32_t i = place_of(t, figures->model), max = t->max * 2 + 4;
    bool new = i == t->len || t->rows[i].model != figures->model;
    struct figures *bigger = NULL, *old = NULL;

    if (new && t->len == t->max) {
        bigger = malloc(max * sizeof *bigger);
        if (bigger == NULL)
            return -ENOMEM;
        if (t->len > 0)
            memcpy(bigger, t->rows, t->len * sizeof *bigger);
    }
    pthread_mutex_lock(&t->lock);
    if (bigger != NULL) {
        old = t->rows;
        t->rows = bigger;
        t->max = max;
    }
    if (new) {
        memmove(t->rows + i + 1, t->rows + i, (t->len - i) * sizeof *t->rows);
        t->len++;
    }
    t->rows[i] = *figures;
    pthread_mutex_unlock(&t->lock);
    free(old);
    return 0;
}

void figures_remove(struct figures_table *t, int64_t model)
{
    uint32_t i = place_of(t, model);

    if (i == t->len || t->rows[i].model != model)
        return;
    pthread_mutex_lock(&t->lock);
    t->len--;
    memmove(t->rows + i, t->rows + i + 1, (t->len - i) * sizeof *t->rows);
    pthread_mutex_unlock(&t->lock);
}

uint32_t figures_read(struct figures_table *t, uint32_t max, struct figures *ret_rows)
{
    uint32_t len;

    pthread_mutex_lock(&t->lock);
    len = t->len < max ? t->len : max;
    if (len > 0)
        memcpy(ret_rows, t->rows, len * sizeof *ret_rows);
    pthread_mutex_unlock(&t->lock);
    return len;
}
