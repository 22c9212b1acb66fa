/* own_store.h -- the folder of the test that runs now, with a store that is open for writing and
 * has the empty model "m". A test may close the store, if it leaves another open in its place. */
#ifndef LEARND_OWN_STORE_H
#define LEARND_OWN_STORE_H

#include "tests/unit/own_folder.h"

extern struct store *store;
extern int64_t model;

/* cmocka's setup and teardown. */
int store_set_up(void **state);
int store_tear_down(void **state);

#define IN_STORE(test) cmocka_unit_test_setup_teardown(test, store_set_up, store_tear_down)

#endif
