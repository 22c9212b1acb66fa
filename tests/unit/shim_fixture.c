/* shim_fixture.c -- see shim_fixture.h. */
#include "tests/unit/shim_fixture.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

void shim_path(char *path, size_t bytes)
{
    ssize_t len = readlink("/proc/self/exe", path, bytes - 40);

    assert_true(len > 0);
    path[len] = '\0';
    *strrchr(path, '/') = '\0';
    *strrchr(path, '/') = '\0';
    strncat(path, "/cuda/shim-cuda.so", 30);
}

void *shim_symbol(const char *name)
{
    char path[4096];
    void *library, *symbol;

    shim_path(path, sizeof path);
    library = dlopen(path, RTLD_NOW);
    assert_non_null(library);
    symbol = dlsym(library, name);
    assert_non_null(symbol);
    return symbol;
}
