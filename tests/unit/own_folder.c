/* own_folder.c -- see own_folder.h. */
#include "tests/unit/own_folder.h"

char folder[FOLDER_BYTES];

int folder_set_up(void **state)
{
    (void)state;
    folder_make(folder);
    return 0;
}

int folder_tear_down(void **state)
{
    (void)state;
    folder_remove(folder);
    return 0;
}

void folder_renew(void)
{
    folder_remove(folder);
    folder_make(folder);
}
