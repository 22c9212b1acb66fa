/* The table of keys: who comes in, how often, until when; the file; what is counted. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/front/access.h"
#include "daemon/limits.h"
#include "tests/unit/fault_alloc.h"
#include "tests/unit/own_folder.h"

static const struct access_settings settings;
static char path[FOLDER_BYTES + 16];

static int set_up(void **state)
{
    folder_set_up(state);
    snprintf(path, sizeof path, "%s/key", folder);
    return 0;
}

static struct access *opened_with(struct store *store, const char *file)
{
    struct access *a = NULL;
    char why[512] = "";

    if (access_open(store, &settings, file, why, sizeof why, &a) != 0)
        fail_msg("%s", why);
    return a;
}

static struct store_key key_of(int64_t id, const char *secret, const char *role)
{
    struct store_key key = {.id = id};

    snprintf(key.name, sizeof key.name, "key %lld", (long long)id);
    snprintf(key.role, sizeof key.role, "%s", role);
    store_sha256(secret, strlen(secret), key.sha256);
    return key;
}

static enum access_verdict check(struct access *a, const char *secret, int64_t now_us,
                                 struct access_who *ret_who)
{
    int64_t wait_us = 0;

    return access_check(a, secret, strlen(secret), now_us, now_us, ret_who, &wait_us);
}

static void test_keys(void **state)
{
    struct access *a = opened_with(NULL, "");
    struct access_who who = {0};
    struct store_key key = key_of(1, "one", "admin");
    char name[STORE_NAME_BYTES_MAX + 1];

    (void)state;
    assert_false(access_keyed(a));
    assert_false(access_has_file(a));
    assert_int_equal(check(a, "one", 1, &who), ACCESS_UNKNOWN);
    assert_int_equal(access_put(a, &key), 0);
    assert_true(access_keyed(a));
    key = key_of(2, "two", "predict");
    assert_int_equal(access_put(a, &key), 0);
    key = key_of(3, "three", "annotate");
    assert_int_equal(access_put(a, &key), 0);
    assert_int_equal(check(a, "one", 1, &who), ACCESS_OK);
    assert_true(who.key == 1 && who.role == ROLE_ADMIN);
    assert_int_equal(check(a, "two", 1, &who), ACCESS_OK);
    assert_true(who.key == 2 && who.role == ROLE_PREDICT);
    access_name(a, &who, name);
    assert_string_equal(name, "key 2");
    access_drop(a, 1); /* the last takes its place */
    access_drop(a, 7);
    assert_int_equal(check(a, "one", 1, &who), ACCESS_UNKNOWN);
    assert_int_equal(check(a, "three", 1, &who), ACCESS_OK);
    assert_true(who.key == 3 && who.role == ROLE_ANNOTATE);
    assert_true(access_stands(a, &who, 1));
    access_drop(a, 3);
    assert_false(access_stands(a, &who, 1));
    access_name(a, &who, name);
    assert_string_equal(name, "");
    assert_true(access_stands(a, &(struct access_who){STORE_KEY_NONE, ROLE_ADMIN}, 1));
    assert_int_equal(check(a, "", 1, &who), ACCESS_UNKNOWN);
    access_close(a);
    access_close(NULL);
}

static void test_expiry(void **state)
{
    struct access *a = opened_with(NULL, "");
    struct access_who who = {0};
    struct store_key key = key_of(1, "one", "admin");

    (void)state;
    key.expires_us = 100;
    assert_int_equal(access_put(a, &key), 0);
    assert_int_equal(check(a, "one", 99, &who), ACCESS_OK);
    assert_true(access_stands(a, &who, 99));
    assert_int_equal(check(a, "one", 100, &who), ACCESS_EXPIRED);
    assert_false(access_stands(a, &who, 100));
    assert_true(access_keyed(a)); /* it does not open what it closed */
    access_close(a);
}

/* Two a second: two at once, then one each half second; 0.1: one, then one each ten. */
static void test_rates(void **state)
{
    struct access *a = opened_with(NULL, "");
    struct access_who who;
    struct store_key key = key_of(1, "fast", "predict");
    int64_t wait_us = 0;

    (void)state;
    key.rate_per_s = 2;
    access_put(a, &key);
    key = key_of(2, "slow", "predict");
    key.rate_per_s = 0.1;
    access_put(a, &key);
    assert_int_equal(check(a, "fast", 5000000, &who), ACCESS_OK);
    assert_int_equal(check(a, "fast", 5000000, &who), ACCESS_OK);
    assert_int_equal(access_check(a, "fast", 4, 5000000, 1, &who, &wait_us), ACCESS_LIMITED);
    assert_int_equal(wait_us, 500000);
    assert_int_equal(who.key, 1);
    assert_int_equal(access_check(a, "fast", 4, 5499999, 1, &who, &wait_us), ACCESS_LIMITED);
    assert_int_equal(wait_us, 1);
    assert_int_equal(check(a, "fast", 5500000, &who), ACCESS_OK);
    assert_int_equal(check(a, "fast", 5500000, &who), ACCESS_LIMITED);
    assert_int_equal(check(a, "fast", 60000000, &who), ACCESS_OK); /* no more than full */
    assert_int_equal(check(a, "fast", 60000000, &who), ACCESS_OK);
    assert_int_equal(check(a, "fast", 60000000, &who), ACCESS_LIMITED);
    assert_int_equal(check(a, "slow", 60000000, &who), ACCESS_OK);
    assert_int_equal(access_check(a, "slow", 4, 61000000, 1, &who, &wait_us), ACCESS_LIMITED);
    assert_int_equal(wait_us, 9000000);
    assert_int_equal(check(a, "slow", 70000000, &who), ACCESS_OK);
    assert_int_equal(access_use(a, 1).requests, 5);
    access_close(a);
}

static void test_use(void **state)
{
    struct access *a = opened_with(NULL, "");
    struct access_use rows[LIMIT_KEYS];
    struct access_who who;
    struct store_key key = key_of(1, "one", "admin");

    (void)state;
    access_put(a, &key);
    key = key_of(2, "two", "admin");
    access_put(a, &key);
    assert_int_equal(access_take_use(a, rows), 0);
    check(a, "one", 10, &who);
    check(a, "one", 20, &who);
    access_corrections(a, &who, 5);
    access_corrections(a, &(struct access_who){STORE_KEY_NONE, ROLE_ADMIN}, 5);
    assert_int_equal(access_use(a, 1).corrections, 5);
    assert_int_equal(access_use(a, 9).requests, 0);
    assert_int_equal(access_take_use(a, rows), 1);
    assert_true(rows[0].key == 1 && rows[0].used_us == 20 && rows[0].requests == 2 &&
                rows[0].corrections == 5);
    assert_int_equal(access_take_use(a, rows + 1), 0);
    check(a, "one", 30, &who);
    access_give_use(a, rows, 1); /* it could not be written */
    assert_true(access_use(a, 1).requests == 3 && access_use(a, 1).used_us == 30);
    access_drop(a, 1);
    access_give_use(a, rows, 1);
    assert_int_equal(access_take_use(a, rows), 0);
    access_close(a);
}

static void test_full(void **state)
{
    struct access *a = opened_with(NULL, "");
    struct access_who who;

    (void)state;
    for (int i = 0; i <= LIMIT_KEYS; i++) {
        char secret[16];
        struct store_key key;

        snprintf(secret, sizeof secret, "%d", i);
        key = key_of(i + 1, secret, "predict");
        assert_int_equal(access_put(a, &key), i < LIMIT_KEYS ? 0 : -ENOSPC);
    }
    assert_true(access_full(a));
    assert_int_equal(check(a, "1023", 1, &who), ACCESS_OK);
    assert_int_equal(who.key, LIMIT_KEYS);
    access_drop(a, 5);
    assert_false(access_full(a));
    access_close(a);
}

/* ---- the file -------------------------------------------------------------------------------- */

static void write_file(const char *text, mode_t mode)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(chmod(path, mode), 0);
}

static void refused(int rc, const char *says)
{
    struct access *a = NULL;
    char why[512] = "";

    assert_int_equal(access_open(NULL, &settings, path, why, sizeof why, &a), rc);
    assert_null(a);
    if (strstr(why, says) == NULL)
        fail_msg("%s", why);
}

static void test_file(void **state)
{
    static const char first[] = "0123456789abcdef0123456789abcdef";
    static const char second[] = "fedcba9876543210fedcba9876543210";
    struct access_who who;
    struct access *a;
    char why[512], name[STORE_NAME_BYTES_MAX + 1];

    (void)state;
    refused(-ENOENT, "No such file");
    write_file(first, 0600);
    a = opened_with(NULL, path);
    assert_true(access_keyed(a) && access_has_file(a));
    assert_int_equal(check(a, first, 1, &who), ACCESS_OK);
    assert_true(who.key == STORE_KEY_FILE && who.role == ROLE_ADMIN);
    access_name(a, &who, name);
    assert_string_equal(name, "admin-key-file");
    write_file(second, 0640); /* its group may read it, as systemd's credentials */
    assert_int_equal(access_reload(a, why, sizeof why), 0);
    assert_int_equal(check(a, first, 1, &who), ACCESS_UNKNOWN);
    assert_int_equal(check(a, second, 1, &who), ACCESS_OK);
    write_file("", 0600); /* what cannot be read changes nothing */
    assert_int_equal(access_reload(a, why, sizeof why), -EINVAL);
    assert_int_equal(check(a, second, 1, &who), ACCESS_OK);
    access_close(a);
    write_file(first, 0604);
    refused(-EPERM, "chmod 600");
    write_file(first, 0602);
    refused(-EPERM, "chmod 600");
    write_file(first, 0620);
    refused(-EPERM, "chmod 600");
    write_file("0123456789abcdef0123456789abcde\n", 0600);
    refused(-EINVAL, "32 to 256");
    write_file("0123456789abcdef 0123456789abcdef\n", 0600);
    refused(-EINVAL, "no spaces");
    write_file("0123456789abcdef0123456789abcdef\r\n", 0600);
    refused(-EINVAL, "no spaces");
    write_file("0123456789abcdef0123456789abcdef\n\n", 0600);
    refused(-EINVAL, "no spaces");
    unlink(path);
    mkdir(path, 0700);
    refused(-EPERM, "must be a file");
    rmdir(path);
}

static void test_reads_the_store(void **state)
{
    struct store *w = opened(folder, STORE_WRITER), *r;
    struct store_key key = key_of(0, "one", "admin");
    struct access_who who;
    struct access *a;
    int64_t id;

    (void)state;
    assert_int_equal(store_begin(w), 0);
    assert_int_equal(store_key_add(w, &key, &id), 0);
    key = key_of(9, "gone", "admin");
    assert_int_equal(store_key_add(w, &key, &id), 0);
    assert_int_equal(store_key_revoke(w, id, 5), 0);
    assert_int_equal(store_commit(w), 0);
    r = opened(folder, STORE_READER);
    a = opened_with(r, "");
    assert_int_equal(check(a, "one", 1, &who), ACCESS_OK);
    assert_int_equal(who.key, 1);
    assert_int_equal(check(a, "gone", 1, &who), ACCESS_UNKNOWN);
    access_close(a);
    store_close(r);
    store_close(w);
}

static void test_without_memory(void **state)
{
    struct store *w = opened(folder, STORE_WRITER);
    uint64_t n;

    (void)state;
    write_file("0123456789abcdef0123456789abcdef", 0600);
    for (n = 1;; n++) {
        struct access *a = NULL;
        char why[512];
        int rc;

        fault_alloc_arm(n, false);
        rc = access_open(w, &settings, path, why, sizeof why, &a);
        if (!fault_alloc_disarm()) {
            assert_int_equal(rc, 0);
            access_close(a);
            break;
        }
        if (rc == 0) /* SQLite gets along without some */
            access_close(a);
        else
            assert_int_equal(rc, -ENOMEM);
    }
    assert_true(n > 2);
    store_close(w);
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, folder_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_keys), EACH(test_expiry), EACH(test_rates),           EACH(test_use),
        EACH(test_full), EACH(test_file),   EACH(test_reads_the_store), EACH(test_without_memory),
    };

    fault_alloc_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
