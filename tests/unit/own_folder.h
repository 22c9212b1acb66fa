/* own_folder.h -- the folder of the test that runs now: made before it, removed after it. */
#ifndef LEARND_OWN_FOLDER_H
#define LEARND_OWN_FOLDER_H

#include "tests/unit/store_fixture.h"

extern char folder[FOLDER_BYTES];

/* cmocka's setup and teardown. */
int folder_set_up(void **state);
int folder_tear_down(void **state);
/* An empty one in its place, in the middle of a test. */
void folder_renew(void);

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, folder_set_up, folder_tear_down)

#endif
