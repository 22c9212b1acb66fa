/* shim_fixture.h -- the CUDA backend on the host (tests/cuda/shim.h), for unit tests of what it
 * does with the runtime.
 */
#ifndef LEARND_SHIM_FIXTURE_H
#define LEARND_SHIM_FIXTURE_H

#include <stddef.h>

#include "kernels/backend.h"

/* Where the library stands: BUILD/tests/unit/X -> BUILD/tests/cuda/shim-cuda.so. */
void shim_path(char *path, size_t bytes);
/* One of its functions, which the caller copies into a pointer of its type. Asserts. */
void *shim_symbol(const char *name);

/* learnd_shim_fail and learnd_shim_graphs of shim.h. */
typedef void shim_fail_fn(int calls, int code, int stays);
typedef void shim_graphs_fn(unsigned long long *ret_recorded, unsigned long long *ret_updated,
                            unsigned long long *ret_launched);

#endif
