/* fake_fixture.c -- see fake_fixture.h. */
#include "tests/unit/fake_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/backend_load.h"

const char *fake_fixture_path(void)
{
    static char path[4096];
    ssize_t len = readlink("/proc/self/exe", path, sizeof path - 64);

    assert_true(len > 0);
    path[len] = '\0';
    for (int up = 0; up < 2; up++) { /* build/tests/unit/test_x */
        char *slash = strrchr(path, '/');

        assert_non_null(slash);
        *slash = '\0';
    }
    snprintf(path + strlen(path), 64, "/device/fake_device.so");
    return path;
}

static const char *control(void)
{
    static char path[64];

    snprintf(path, sizeof path, "/tmp/learnd-fake-%ld", (long)getpid());
    return path;
}

void fake_fixture_tell(const char *text)
{
    FILE *file = fopen(control(), "w");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void forget(void)
{
    unlink(control());
}

const struct backend *fake_fixture_open(void)
{
    const struct backend *backend = NULL;
    char why[256] = "";

    if (getenv("LEARND_FAKE_DEVICE") == NULL)
        atexit(forget);
    setenv("LEARND_FAKE_DEVICE", control(), 1);
    fake_fixture_tell("total 1073741824\n");
    if (backend_load(fake_fixture_path(), 0, why, sizeof why, &backend) != 0)
        fail_msg("%s", why);
    return backend;
}

uint64_t fake_fixture_used(void)
{
    struct kmemory memory;

    fake_fixture_open()->memory(&memory);
    return memory.used;
}
