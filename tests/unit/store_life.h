/* store_life.h -- a life in the store, step by step, each in a transaction of its own, with every
 * allocation, write or fsync of it failing in turn. Each time: exactly the steps that succeeded
 * have been taken, and the others then can be, by the same connection or after a restart.
 *
 * After fault_alloc_install() and fault_vfs_install().
 */
#ifndef LEARND_STORE_LIFE_H
#define LEARND_STORE_LIFE_H

#include "tests/unit/fault_vfs.h"
#include "tests/unit/own_folder.h"

struct store_life {
    void (*born)(struct store *w); /* What is there before the first step; NULL: nothing. */
    int (*const *steps)(struct store *w);
    int steps_len;
    void (*check)(struct store *w, int done); /* The first `done` steps have been taken. */
};

/* Every stride-th allocation fails, once or from there on. Returns how many there are. */
uint64_t life_fail_allocations(const struct store_life *life, uint64_t stride);
/* Every operation of a kind fails, likewise. */
uint64_t life_fail_operations(const struct store_life *life, enum fault_op op, int code);

#endif
