/* Keys and the trail in the store; then the same life with every allocation, write and fsync
 * failing in turn. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "tests/unit/fault_alloc.h"
#include "tests/unit/store_life.h"

static struct store_key key_of(const char *name, const char *role, int64_t expires_us)
{
    struct store_key key = {.rate_per_s = 2.5, .created_us = 7, .expires_us = expires_us};

    snprintf(key.name, sizeof key.name, "%s", name);
    snprintf(key.role, sizeof key.role, "%s", role);
    store_sha256(name, strlen(name), key.sha256);
    return key;
}

static int64_t added(struct store *w, const char *name, const char *role, int64_t expires_us)
{
    struct store_key key = key_of(name, role, expires_us);
    int64_t id = 0;

    assert_int_equal(store_key_add(w, &key, &id), 0);
    return id;
}

static int count_key(void *ud, const struct store_key *row)
{
    (void)row;
    ++*(int *)ud;
    return 0;
}

static int keys_in(struct store *w, int64_t after, bool standing, uint32_t limit)
{
    int n = 0;

    assert_int_equal(store_key_scan(w, after, standing, limit, count_key, &n), 0);
    return n;
}

static void test_keys(void **state)
{
    struct store *w = opened(folder, STORE_WRITER);
    struct store_key key, again = key_of("a", "predict", 0);
    int64_t a = added(w, "a", "admin", 0), b = added(w, "b", "predict", 0), id;
    uint32_t keys, admins;

    (void)state;
    added(w, "guest", "admin", 99);
    assert_int_equal(store_key_add(w, &again, &id), -EEXIST);
    assert_int_equal(store_key_get(w, b, &key), 0);
    assert_string_equal(key.name, "b");
    assert_string_equal(key.role, "predict");
    assert_true(key.rate_per_s == 2.5);
    assert_int_equal(key.created_us, 7);
    assert_memory_equal(key.sha256, key_of("b", "", 0).sha256, STORE_HASH_BYTES);
    assert_int_equal(store_key_get(w, 77, &key), -ENOENT);
    assert_int_equal(store_key_count(w, &keys, &admins), 0);
    assert_true(keys == 3 && admins == 1); /* guest's end is known */
    assert_int_equal(store_key_revoke(w, a, 50), 0);
    assert_int_equal(store_key_revoke(w, a, 60), -EALREADY);
    assert_int_equal(store_key_revoke(w, 77, 60), -ENOENT);
    assert_int_equal(store_key_get(w, a, &key), 0);
    assert_int_equal(key.revoked_us, 50);
    assert_int_equal(store_key_count(w, &keys, &admins), 0);
    assert_true(keys == 2 && admins == 0);
    again.sha256[0]++;
    assert_int_equal(store_key_add(w, &again, &id), 0); /* the name is free, the hash is new */
    assert_true(id > b);
    assert_int_equal(keys_in(w, 0, false, 0), 4);
    assert_int_equal(keys_in(w, 0, true, 0), 3);
    assert_int_equal(keys_in(w, b, false, 1), 1);
    assert_int_equal(store_key_used(w, b, 40, 3, 1), 0);
    assert_int_equal(store_key_used(w, b, 30, 2, 0), 0); /* a late one takes nothing back */
    assert_int_equal(store_key_used(w, 77, 30, 2, 0), 0);
    assert_int_equal(store_key_get(w, b, &key), 0);
    assert_true(key.used_us == 40 && key.requests == 5 && key.corrections == 1);
    again.role[0] = 'x';
    again.sha256[0]++;
    snprintf(again.name, sizeof again.name, "odd");
    assert_int_equal(store_key_add(w, &again, &id), -EIO); /* no such role */
    store_close(w);
}

static void test_hashes(void **state)
{
    uint8_t a[STORE_HASH_BYTES] = {0}, b[STORE_HASH_BYTES] = {0};

    (void)state;
    assert_true(store_hash_same(a, b));
    b[STORE_HASH_BYTES - 1] = 1;
    assert_false(store_hash_same(a, b));
}

/* ---- the trail ------------------------------------------------------------------------------- */

static int act(struct store *w, int64_t t_us, int64_t key, const char *action, const char *object)
{
    return store_act_add(w, &(struct store_act){.t_us = t_us,
                                                .key = key,
                                                .peer = -1,
                                                .action = action,
                                                .object = object,
                                                .request = "r",
                                                .address = "::1"});
}

struct seen {
    int rows;
    int64_t first, last;
    char object[STORE_ACT_BYTES_MAX + 8], name[32];
};

static int see(void *ud, const struct store_act *row)
{
    struct seen *s = ud;

    if (s->rows++ == 0)
        s->first = row->number;
    s->last = row->number;
    snprintf(s->object, sizeof s->object, "%s", row->object);
    snprintf(s->name, sizeof s->name, "%s", row->name);
    return 0;
}

static struct seen seen(struct store *w, struct store_act_filter filter)
{
    struct seen s = {0};

    if (filter.limit == 0)
        filter.limit = 100;
    assert_int_equal(store_act_scan(w, &filter, see, &s), 0);
    return s;
}

static void test_trail(void **state)
{
    struct store *w = opened(folder, STORE_WRITER);
    int64_t a = added(w, "a", "admin", 0), none = 0;
    char long_object[STORE_ACT_BYTES_MAX + 10];

    (void)state;
    for (int i = 1; i <= 10; i++)
        assert_int_equal(act(w, i * 10, i % 2 != 0 ? a : 0, i < 6 ? "x" : "y", "m"), 0);
    assert_int_equal(seen(w, (struct store_act_filter){0}).rows, 10);
    assert_int_equal(seen(w, (struct store_act_filter){0}).first, 10); /* the newest */
    assert_int_equal(seen(w, (struct store_act_filter){.limit = 3}).last, 8);
    assert_int_equal(seen(w, (struct store_act_filter){.before_number = 8}).first, 7);
    assert_int_equal(seen(w, (struct store_act_filter){.before_us = 50}).rows, 4);
    assert_int_equal(seen(w, (struct store_act_filter){.key = &a}).rows, 5);
    assert_string_equal(seen(w, (struct store_act_filter){.key = &a}).name, "a");
    assert_int_equal(seen(w, (struct store_act_filter){.key = &none, .action = "y"}).rows, 3);
    assert_string_equal(seen(w, (struct store_act_filter){.key = &none}).name, "");
    /* Cut between characters: one of two bytes stands across the end. */
    memset(long_object, 'o', sizeof long_object - 1);
    long_object[sizeof long_object - 1] = '\0';
    memcpy(long_object + STORE_ACT_BYTES_MAX - 1, "\xc3\xa9", 2);
    assert_int_equal(act(w, 200, 0, "z", long_object), 0);
    assert_int_equal(strlen(seen(w, (struct store_act_filter){.action = "z"}).object),
                     STORE_ACT_BYTES_MAX - 1);
    store_close(w);
}

/* ---- faults ---------------------------------------------------------------------------------- */

static int make(struct store *w)
{
    struct store_key key = key_of("a", "admin", 0);
    int64_t id;
    int rc = store_key_add(w, &key, &id);

    return rc == 0 ? act(w, 1, 0, "key_create", "a") : rc;
}

static int use(struct store *w)
{
    return store_key_used(w, 1, 9, 1, 1);
}

static int revoke(struct store *w)
{
    int rc = store_key_revoke(w, 1, 5);

    return rc == 0 ? act(w, 2, 1, "key_revoke", "1") : rc;
}

static int (*const steps[])(struct store *) = {make, use, revoke};

/* Exactly the first `done` steps have been taken: a key and its line come and go together. */
static void check(struct store *w, int done)
{
    struct store_key key = {0};

    assert_int_equal(store_key_get(w, 1, &key), done >= 1 ? 0 : -ENOENT);
    assert_int_equal(key.used_us, done >= 2 ? 9 : 0);
    assert_int_equal(key.revoked_us, done >= 3 ? 5 : 0);
    assert_int_equal(seen(w, (struct store_act_filter){0}).rows, (done >= 1) + (done >= 3));
}

static const struct store_life life = {
    .steps = steps, .steps_len = sizeof steps / sizeof *steps, .check = check};

static void test_every_allocation(void **state)
{
    (void)state;
    assert_true(life_fail_allocations(&life, FAULT_STRIDE) > 20);
}

static void test_every_write(void **state)
{
    (void)state;
    assert_true(life_fail_operations(&life, FAULT_WRITE, SQLITE_FULL) > 3);
}

static void test_every_fsync(void **state)
{
    (void)state;
    assert_true(life_fail_operations(&life, FAULT_SYNC, SQLITE_IOERR_FSYNC) > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_keys),
        IN_FOLDER(test_hashes),
        IN_FOLDER(test_trail),
        cmocka_unit_test(test_every_allocation),
        cmocka_unit_test(test_every_write),
        cmocka_unit_test(test_every_fsync),
    };

    fault_alloc_install();
    fault_vfs_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
