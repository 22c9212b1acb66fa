/* asked.h -- a sample of the questions, on its way to the learner, who watches it for drift.
 *
 * A bounded buffer of embeddings and answers, without texts. Loops put, the learner takes all that
 * is there, a few times a second (learner.c): so the sample is what comes into an empty buffer, at
 * most rows_max in that time, and the rest is dropped and counted. Nobody waits: a put that meets
 * another thread in the lock drops too.
 *
 * What was asked with store=false must not be put: an embedding tells much of its text. Rows are
 * wiped when they have been read.
 */
#ifndef LEARND_ASKED_H
#define LEARND_ASKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct asked_row {
    int64_t model, encoder; /* number of the one the embedding is of */
    int64_t asked_us;       /* Unix time */
    uint32_t column;        /* that was answered; UINT32_MAX: none */
    bool chosen;            /* among labels that the client named: the answer says little */
    bool novel, abstained;
    uint32_t dim;
    const uint16_t *embedding; /* (dim) fp16. put: borrowed */
};

struct asked;

/* rows_max of them, or fewer where their embeddings have more than numbers_max numbers. 0,
 * -ENOMEM. */
int asked_open(uint32_t rows_max, uint32_t numbers_max, struct asked **ret_asked);
void asked_close(struct asked *asked);

/* Copies. 1: the buffer was empty, so tell its reader; 0; -EAGAIN: dropped. Any thread. */
int asked_put(struct asked *asked, const struct asked_row *row);
/* All rows, in order, the reader's until asked_done, which wipes them. One reader. */
uint32_t asked_take(struct asked *asked, const struct asked_row **ret_rows);
void asked_done(struct asked *asked);

#endif
