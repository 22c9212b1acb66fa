/* own_store.c -- see own_store.h. */
#include "tests/unit/own_store.h"

struct store *store;
int64_t model;

int store_set_up(void **state)
{
    folder_set_up(state);
    store = opened(folder, STORE_WRITER);
    model = model_added(store, "m");
    return 0;
}

int store_tear_down(void **state)
{
    store_close(store);
    store = NULL;
    return folder_tear_down(state);
}
