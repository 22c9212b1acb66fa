/* backend_load.h -- a backend from a shared library, so that one daemon runs with and without a
 * GPU.
 *
 * The library exports learnd_backend_open (backend.h). It is never unloaded: a device's driver
 * keeps threads of its own. Not for two threads at once.
 */
#ifndef LEARND_BACKEND_LOAD_H
#define LEARND_BACKEND_LOAD_H

#include "kernels/backend.h"

/* path: of the library, as dlopen takes it. 0; -ENOENT (it cannot be loaded), -EPROTO (not a
 * backend, or one of another BACKEND_ABI), or what learnd_backend_open says; then `why` says it. */
int backend_load(const char *path, uint32_t ordinal, char *why, size_t why_bytes,
                 const struct backend **ret_backend);

#endif
