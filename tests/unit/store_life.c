/* store_life.c -- see store_life.h. */
#include "tests/unit/store_life.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/fault_alloc.h"

static int in_transaction(struct store *w, int (*step)(struct store *))
{
    int rc = store_begin(w);

    if (rc == 0)
        rc = step(w);
    if (rc == 0)
        rc = store_commit(w);
    if (rc != 0)
        store_rollback(w);
    return rc;
}

/* One life with the fault armed by the caller; after it the steps that are left. Returns whether
 * the fault came. */
static bool live_through(const struct store_life *life, struct store *w, bool restart,
                         bool (*disarm)(void))
{
    int done = 0, rc = 0;
    bool failed;

    while (done < life->steps_len && (rc = in_transaction(w, life->steps[done])) == 0)
        done++;
    failed = disarm();
    if (!failed)
        assert_int_equal(rc, 0);
    if (rc != 0) {
        assert_true(rc == -ENOMEM || rc == -ENOSPC || rc == -EIO);
        assert_true(store_why(w)[0] != '\0');
    }
    if (restart) {
        store_close(w);
        w = opened(folder, STORE_WRITER);
    }
    life->check(w, done);
    for (; done < life->steps_len; done++)
        assert_int_equal(in_transaction(w, life->steps[done]), 0);
    life->check(w, done);
    assert_int_equal(store_integrity(w), 0);
    store_close(w);
    folder_tear_down(NULL);
    return failed;
}

static struct store *begin(const struct store_life *life)
{
    struct store *w;

    folder_set_up(NULL);
    w = opened(folder, STORE_WRITER);
    if (life->born != NULL)
        life->born(w);
    return w;
}

uint64_t life_fail_allocations(const struct store_life *life, uint64_t stride)
{
    int64_t held = fault_alloc_held();
    uint64_t n = 1;

    for (bool failed = true; failed; n += stride) {
        struct store *w = begin(life);

        fault_alloc_arm(n, n % 2 == 0);
        failed = live_through(life, w, n % 4 < 2, fault_alloc_disarm);
    }
    assert_int_equal(fault_alloc_held(), held);
    return n;
}

uint64_t life_fail_operations(const struct store_life *life, enum fault_op op, int code)
{
    uint64_t n = 1;

    for (bool failed = true; failed; n++) {
        struct store *w = begin(life);

        fault_vfs_arm(op, n, code, n % 2 == 0);
        failed = live_through(life, w, n % 4 < 2, fault_vfs_disarm);
    }
    return n;
}
