/* A backend from a shared library: what is no library, and what is one but no backend. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "kernels/backend_load.h"

static void test_a_missing_library_is_named(void **state)
{
    const struct backend *backend = backend_cpu();
    char why[256] = "";

    (void)state;
    assert_int_equal(backend_load("/nowhere/learnd-none.so", 0, why, sizeof why, &backend),
                     -ENOENT);
    assert_non_null(strstr(why, "/nowhere/learnd-none.so"));
    assert_ptr_equal(backend, backend_cpu()); /* untouched */
}

static void test_another_library_is_no_backend(void **state)
{
    const struct backend *backend = NULL;
    char why[256] = "";

    (void)state;
    assert_int_equal(backend_load("libm.so.6", 0, why, sizeof why, &backend), -EPROTO);
    assert_string_equal(why, "libm.so.6 is no backend: it has no learnd_backend_open");
    assert_null(backend);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_missing_library_is_named),
        cmocka_unit_test(test_another_library_is_no_backend),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
