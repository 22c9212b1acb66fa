/* test_event_file.c -- TensorBoard's files: the checksum by RFC 3720's vectors, records that read
 * back as they were written, a disk that is full, names that would leave the folder.
 * (That the `tensorboard` package reads them is tested by tests/e2e/test_tensorboard.py.)
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>
#include <dirent.h>

#include "daemon/learn/event_file.h"
#include "tests/unit/fault_alloc.h"
#include "tests/unit/own_folder.h"

static void test_crc(void **state)
{
    uint8_t zeros[32] = {0}, ones[32], up[32], down[32];

    (void)state;
    for (int i = 0; i < 32; i++) {
        ones[i] = 0xff;
        up[i] = (uint8_t)i;
        down[i] = (uint8_t)(31 - i);
    }
    assert_int_equal(event_file_crc32c("", 0), 0);
    assert_int_equal(event_file_crc32c("123456789", 9), 0xe3069283);
    assert_int_equal(event_file_crc32c(zeros, 32), 0x8a9136aa);
    assert_int_equal(event_file_crc32c(ones, 32), 0x62a8ab43);
    assert_int_equal(event_file_crc32c(up, 32), 0x46dd794e);
    assert_int_equal(event_file_crc32c(down, 32), 0x113fdb5c);
}

/* The bytes of the folder's only file; the caller frees. */
static uint8_t *read_only_file(size_t *ret_len)
{
    char path[FOLDER_BYTES + 256] = "";
    struct dirent *entry;
    DIR *d = opendir(folder);
    uint8_t *bytes = malloc(1 << 20);
    FILE *file;

    assert_non_null(d);
    while ((entry = readdir(d)) != NULL)
        if (entry->d_name[0] != '.') {
            assert_string_equal(path, "");
            assert_int_equal(strncmp(entry->d_name, "events.out.tfevents.", 20), 0);
            snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        }
    closedir(d);
    file = fopen(path, "rb");
    assert_non_null(file);
    *ret_len = fread(bytes, 1, 1 << 20, file);
    fclose(file);
    return bytes;
}

static uint64_t le(const uint8_t *b, int bytes)
{
    uint64_t value = 0;

    for (int i = bytes - 1; i >= 0; i--)
        value = value << 8 | b[i];
    return value;
}

static uint32_t masked(const uint8_t *b, size_t len)
{
    uint32_t crc = event_file_crc32c(b, len);

    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/* Checks every record's frame. Returns how many there are, and the n-th one's message. */
static size_t walk(const uint8_t *b, size_t len, size_t n, const uint8_t **ret_message,
                   size_t *ret_message_len)
{
    size_t at = 0, records = 0;

    while (at < len) {
        size_t message = (size_t)le(b + at, 8);

        assert_true(at + 16 + message <= len);
        assert_int_equal(le(b + at + 8, 4), masked(b + at, 8));
        assert_int_equal(le(b + at + 12 + message, 4), masked(b + at + 12, message));
        if (records++ == n) {
            *ret_message = b + at + 12;
            *ret_message_len = message;
        }
        at += 16 + message;
    }
    return records;
}

static void test_records(void **state)
{
    static const struct event_scalar scalars[] = {{"a", 0.5}, {"nan", NAN}, {"b/c", -2}};
    static const char long_tag[EVENT_FILE_TAG_BYTES + 2] =
        "0123456789012345678901234567890123456789012345678901234567890123x";
    const struct event_scalar too_long = {long_tag, 1};
    struct event_scalar many[EVENT_FILE_SCALARS_MAX + 1];
    char fits[EVENT_FILE_TAG_BYTES + 1];
    /* wall_time 1.5, step 300, summary of two values */
    static const uint8_t wanted[] = {0x09, 0,    0,    0,    0,    0,    0,    0xf8, 0x3f,
                                     0x10, 0xac, 0x02, 0x2a, 22,   0x0a, 8,    0x0a, 1,
                                     'a',  0x15, 0,    0,    0,    0x3f, 0x0a, 10,   0x0a,
                                     3,    'b',  '/',  'c',  0x15, 0,    0,    0,    0xc0};
    const uint8_t *message = NULL;
    struct event_file *f;
    size_t len, message_len = 0;
    uint8_t *bytes;

    (void)state;
    assert_int_equal(event_file_open(folder, 1500000, &f), 0);
    assert_int_equal(event_file_put(f, 1500000, 300, scalars, 3), 0);
    assert_int_equal(event_file_put(f, 1500000, 1, &too_long, 1), -EINVAL);
    memcpy(fits, long_tag, EVENT_FILE_TAG_BYTES);
    fits[EVENT_FILE_TAG_BYTES] = '\0';
    for (int i = 0; i <= EVENT_FILE_SCALARS_MAX; i++)
        many[i] = (struct event_scalar){fits, i};
    assert_int_equal(event_file_put(f, 1, 1, many, EVENT_FILE_SCALARS_MAX + 1), -EINVAL);
    assert_int_equal(event_file_put(f, INT64_MAX, INT64_MAX, many, EVENT_FILE_SCALARS_MAX), 0);
    event_file_close(f);
    bytes = read_only_file(&len);
    assert_int_equal(walk(bytes, len, 0, &message, &message_len), 3);
    assert_memory_equal(message + message_len - 13, "brain.Event:2", 13);
    walk(bytes, len, 1, &message, &message_len);
    assert_int_equal(message_len, sizeof wanted);
    assert_memory_equal(message, wanted, sizeof wanted);
    free(bytes);
    event_file_close(NULL);
}

/* What did not fit is cut off; what was there stays readable, and so does what comes later. */
static void test_full_disk(void **state)
{
    const struct event_scalar scalar = {"tag", 1};
    struct rlimit old, tight = {.rlim_cur = 150};
    const uint8_t *message;
    struct event_file *f;
    size_t len, message_len, put = 0;
    uint8_t *bytes;
    int rc;

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    tight.rlim_max = old.rlim_max;
    assert_int_equal(event_file_open(folder, 1, &f), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    while ((rc = event_file_put(f, 1, 1, &scalar, 1)) == 0)
        put++;
    assert_true(put > 0);
    assert_true(rc == -EFBIG || rc == -ENOSPC); /* the limit, before or in the middle of a record */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(event_file_put(f, 1, 1, &scalar, 1), 0);
    event_file_close(f);
    bytes = read_only_file(&len);
    assert_int_equal(walk(bytes, len, 0, &message, &message_len), put + 2);
    free(bytes);
}

static void test_no_folder(void **state)
{
    char path[FOLDER_BYTES + 8];
    struct event_file *f;

    (void)state;
    snprintf(path, sizeof path, "%s/none", folder);
    assert_int_equal(event_file_open(path, 1, &f), -ENOENT);
    fault_alloc_arm(1, false);
    assert_int_equal(event_file_open(folder, 1, &f), -ENOMEM);
    assert_true(fault_alloc_disarm());
}

static void test_names(void **state)
{
    static const struct {
        const char *name, *part;
    } names[] = {
        {"intents-v2.1_x", "intents-v2.1_x"},
        {"..", "%2E."},
        {".hidden", "%2Ehidden"},
        {"a/b", "a%2Fb"},
        {"a b%\n", "a%20b%25%0A"},
        {"\xe6\x84\x8f\xe5\x9b\xbe", "\xe6\x84\x8f\xe5\x9b\xbe"},
        {"", ""},
    };
    char part[64], little[8];

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        event_file_name(names[i].name, part, sizeof part);
        assert_string_equal(part, names[i].part);
    }
    event_file_name("abcdefghij", little, sizeof little);
    assert_string_equal(little, "abcdefg");
    event_file_name("abcde/", little, sizeof little);
    assert_string_equal(little, "abcde");
    event_file_name("abcde\xe6\x84\x8f", little, sizeof little); /* not half a character */
    assert_string_equal(little, "abcde");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_crc),       IN_FOLDER(test_records), IN_FOLDER(test_full_disk),
        IN_FOLDER(test_no_folder), IN_FOLDER(test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
