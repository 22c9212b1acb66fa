/* backend_load.c -- see backend_load.h. */
#include "kernels/backend_load.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

typedef int (*open_function)(uint32_t abi, uint32_t ordinal, char *why, size_t why_bytes,
                             const struct backend **ret_backend);

int backend_load(const char *path, uint32_t ordinal, char *why, size_t why_bytes,
                 const struct backend **ret_backend)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL), *symbol;
    open_function open;
    int rc;

    if (library == NULL) {
        snprintf(why, why_bytes, "%s", dlerror());
        return -ENOENT;
    }
    symbol = dlsym(library, "learnd_backend_open");
    if (symbol == NULL) {
        snprintf(why, why_bytes, "%s is no backend: it has no learnd_backend_open", path);
        rc = -EPROTO;
    } else {
        memcpy(&open, &symbol, sizeof open); /* C has no cast from an object to a function */
        rc = open(BACKEND_ABI, ordinal, why, why_bytes, ret_backend);
    }
    if (rc == -EPROTO)
        dlclose(library); /* nothing of it has run that would stay */
    return rc;
}
