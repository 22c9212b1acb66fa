/* asked.c -- see asked.h. Two buffers that change places, so that the lock is held for the copy of
 * one row. */
#include "daemon/serve/asked.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct half {
    struct asked_row *rows; /* (rows_max) */
    uint16_t *numbers;      /* (numbers_max) */
    uint32_t len, numbers_len;
};

struct asked {
    pthread_mutex_t lock;
    uint32_t rows_max, numbers_max;
    struct half halves[2];
    struct half *filling, *reading;
};

int asked_open(uint32_t rows_max, uint32_t numbers_max, struct asked **ret_asked)
{
    struct asked *a = calloc(1, sizeof *a);
    bool good = a != NULL;

    for (int i = 0; i < 2 && good; i++) {
        a->halves[i].rows = malloc(rows_max * sizeof *a->halves[i].rows);
        a->halves[i].numbers = malloc(numbers_max * sizeof *a->halves[i].numbers);
        good = a->halves[i].rows != NULL && a->halves[i].numbers != NULL;
    }
    if (!good) {
        if (a != NULL)
            for (int i = 0; i < 2; i++) {
                free(a->halves[i].rows);
                free(a->halves[i].numbers);
            }
        free(a);
        return -ENOMEM;
    }
    a->rows_max = rows_max;
    a->numbers_max = numbers_max;
    a->filling = &a->halves[0];
    a->reading = &a->halves[1];
    pthread_mutex_init(&a->lock, NULL);
    *ret_asked = a;
    return 0;
}

static void wipe(struct half *h)
{
    explicit_bzero(h->numbers, h->numbers_len * sizeof *h->numbers);
    h->len = h->numbers_len = 0;
}

void asked_close(struct asked *a)
{
    if (a == NULL)
        return;
    for (int i = 0; i < 2; i++) {
        wipe(&a->halves[i]);
        free(a->halves[i].rows);
        free(a->halves[i].numbers);
    }
    pthread_mutex_destroy(&a->lock);
    free(a);
}

int asked_put(struct asked *a, const struct asked_row *row)
{
    struct half *h;
    int rc = -EAGAIN;

    if (pthread_mutex_trylock(&a->lock) != 0)
        return -EAGAIN;
    h = a->filling;
    if (h->len < a->rows_max && row->dim <= a->numbers_max - h->numbers_len) {
        struct asked_row *own = &h->rows[h->len];

        *own = *row;
        own->embedding =
            memcpy(h->numbers + h->numbers_len, row->embedding, row->dim * sizeof *row->embedding);
        h->numbers_len += row->dim;
        rc = h->len++ == 0;
    }
    pthread_mutex_unlock(&a->lock);
    return rc;
}

uint32_t asked_take(struct asked *a, const struct asked_row **ret_rows)
{
    struct half *full;

    pthread_mutex_lock(&a->lock);
    full = a->filling;
    a->filling = a->reading;
    a->reading = full;
    pthread_mutex_unlock(&a->lock);
    *ret_rows = full->rows;
    return full->len;
}

void asked_done(struct asked *a)
{
    wipe(a->reading);
}
