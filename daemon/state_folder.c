/* state_folder.c -- see state_folder.h. */
#include "daemon/state_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void state_folder_default(char *path, size_t path_bytes)
{
    const char *system = getenv("STATE_DIRECTORY"), *home = getenv("HOME");
    const char *state = getenv("XDG_STATE_HOME");

    if (system != NULL && *system != '\0')
        snprintf(path, path_bytes, "%.*s", (int)strcspn(system, ":"), system); /* the first */
    else if (state != NULL && *state != '\0')
        snprintf(path, path_bytes, "%s/learnd", state);
    else
        snprintf(path, path_bytes, "%s/.local/state/learnd", home != NULL ? home : "/");
}
