/* test_safetensors.c -- files in the safetensors format: what is read, to the bit, and what is
 * refused, with the tensor's name. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/encoder/safetensors.h"
#include "tests/unit/fault_alloc.h"

/* A file: the header's length as it says it is, the header, `data_len` bytes of 0, 1, 2 ... in a
 * block of its own. */
static uint8_t *file_make(const char *header, uint64_t says, size_t data_len, size_t *ret_len)
{
    size_t header_len = strlen(header), len = 8 + header_len + data_len;
    uint8_t *bytes = malloc(len);

    assert_non_null(bytes);
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(says >> 8 * i);
    memcpy(bytes + 8, header, header_len);
    for (size_t i = 0; i < data_len; i++)
        bytes[8 + header_len + i] = (uint8_t)i;
    *ret_len = len;
    return bytes;
}

static struct safetensors *parsed(const uint8_t *bytes, size_t len)
{
    struct safetensors *f = NULL;
    char why[512];
    int rc = safetensors_parse("file", bytes, len, why, sizeof why, &f);

    if (rc != 0)
        fail_msg("%d: %s", rc, why);
    return f;
}

/* ---- what is read ---------------------------------------------------------------------------- */

static void test_tensors_are_found(void **state)
{
    const char *header = "{\"__metadata__\":{\"format\":\"pt\"},"
                         "\"b\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[8,14]},"
                         "\"a\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8]},"
                         "\"scalar\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[14,18]},"
                         "\"ids\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[18,26]},"
                         "\"none\":{\"dtype\":\"F16\",\"shape\":[4,0],\"data_offsets\":[8,8]}}    ";
    size_t len;
    uint8_t *bytes = file_make(header, strlen(header), 26, &len);
    struct safetensors *f = parsed(bytes, len);
    const struct safetensor *t = safetensors_find(f, "a");
    float value[3];

    (void)state;
    assert_int_equal(safetensors_len(f), 5);
    assert_non_null(t);
    assert_int_equal(t->dtype, SAFETENSORS_F32);
    assert_int_equal(t->dims_len, 2);
    assert_int_equal(t->dims[0], 2);
    assert_int_equal(t->dims[1], 1);
    assert_int_equal(t->bytes, 8);
    assert_ptr_equal(t->data, bytes + len - 26);
    assert_null(safetensors_find(f, "__metadata__"));
    assert_null(safetensors_find(f, "A"));
    assert_int_equal(safetensors_find(f, "scalar")->dims_len, 0);
    assert_int_equal(safetensors_find(f, "none")->bytes, 0);
    t = safetensors_find(f, "ids");
    assert_int_equal(t->dtype, SAFETENSORS_OTHER);
    assert_string_equal(t->dtype_name, "I64");
    assert_int_equal(safetensor_read(t, value), -EINVAL);
    safetensors_close(f);
    free(bytes);
    safetensors_close(NULL);
}

/* By the definition of IEEE half: (-1)^s 2^(e-15) (1 + m/1024), subnormal 2^-14 m/1024. */
static double half_value(uint32_t h)
{
    int e = (int)(h >> 10 & 31);
    double m = h & 1023, v = e == 0 ? ldexp(m, -24) : ldexp(1024 + m, e - 25);

    return h & 0x8000 ? -v : v;
}

/* Every finite fp16 and bf16 number, and an fp32 one with all its bits; what is not a number is
 * refused. */
static void test_every_number_is_read_exactly(void **state)
{
    float value, back;

    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        uint16_t bits = (uint16_t)h;
        uint32_t wide = h << 16;
        struct safetensor t = {.name = "t", .dtype = SAFETENSORS_F16, .data = &bits, .bytes = 2};
        int rc = safetensor_read(&t, &value);

        assert_int_equal(rc, (h >> 10 & 31) == 31 ? -EDOM : 0);
        assert_true(rc != 0 || ((double)value == half_value(h) && !signbit(value) == !(h >> 15)));
        t.dtype = SAFETENSORS_BF16;
        rc = safetensor_read(&t, &value);
        memcpy(&back, &wide, 4);
        assert_int_equal(rc, (h >> 7 & 255) == 255 ? -EDOM : 0);
        assert_memory_equal(&value, &back, 4);
        t = (struct safetensor){.name = "t", .dtype = SAFETENSORS_F32, .data = &wide, .bytes = 4};
        assert_int_equal(safetensor_read(&t, &value), rc);
        assert_memory_equal(&value, &back, 4);
    }
}

/* ---- what is refused ------------------------------------------------------------------------- */

#define T(dtype, shape, offsets)                                                                   \
    "\"t\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static const struct {
    const char *header;
    size_t data_len;
    const char *says;
} refused[] = {
    {"", 16, "not valid JSON"},
    {"{", 16, "not valid JSON"},
    {"\xff\xfe", 16, "not valid JSON"},
    {"[]", 16, "the header must be an object"},
    {"{\"t\":7}", 16, "tensor t: expected dtype, shape and data_offsets"},
    {"{\"t\":{}}", 16, "tensor t: expected dtype, shape and data_offsets"},
    {"{" T("\"F32\"", "[1]", "[0]") "}", 16, "tensor t: expected dtype"},
    {"{" T("\"F32\"", "[1]", "[0,4,8]") "}", 16, "tensor t: expected dtype"},
    {"{" T("\"F32\"", "[1]", "{}") "}", 16, "tensor t: expected dtype"},
    {"{" T("\"F32\"", "[1]", "[-4,0]") "}", 16, "tensor t: expected dtype"},
    {"{" T("\"F32\"", "[1]", "[8,4]") "}", 16, "tensor t: expected dtype"},
    {"{" T("\"F32\"", "[1]", "[0.0,4.0]") "}", 16, "tensor t: expected dtype"},
    {"{" T("\"F32\"", "[1]", "[0,18446744073709551620]") "}", 16, "not valid JSON"},
    {"{" T("\"F32\"", "[5]", "[0,20]") "}", 16,
     "tensor t: lies outside the file (20 of 16 data bytes)"},
    {"{" T("\"F32\"", "[1]", "[9223372036854775803,9223372036854775807]") "}", 16,
     "tensor t: lies outside the file"},
    {"{" T("7", "[1]", "[0,4]") "}", 16, "tensor t: expected dtype"},
    {"{" T("\"F33\"", "[1]", "[0,4]") "}", 16, "tensor t: unknown dtype"},
    {"{" T("\"f32\"", "[1]", "[0,4]") "}", 16, "tensor t: unknown dtype"},
    {"{" T("\"F32\"", "7", "[0,4]") "}", 16, "tensor t: shape must be a list of at most 4 lengths"},
    {"{" T("\"F32\"", "[1,1,1,1,1]", "[0,4]") "}", 16,
     "tensor t: shape must be a list of at most 4"},
    {"{" T("\"F32\"", "[-1]", "[0,4]") "}", 16, "tensor t: a length of its shape is impossible"},
    {"{" T("\"F32\"", "[\"1\"]", "[0,4]") "}", 16, "tensor t: a length of its shape is impossible"},
    {"{" T("\"F32\"", "[9223372036854775807]", "[0,4]") "}", 16,
     "tensor t: a length of its shape is impossible"},
    {"{" T("\"F32\"", "[4294967296,4294967296]", "[0,0]") "}", 16,
     "tensor t: a length of its shape is impossible"},
    {"{" T("\"F32\"", "[2]", "[0,4]") "}", 16,
     "tensor t: its shape needs 8 bytes, its place has 4"},
    {"{" T("\"BF16\"", "[2]", "[0,8]") "}", 16,
     "tensor t: its shape needs 4 bytes, its place has 8"},
    {"{" T("\"F32\"", "[1]", "[0,4]") "," T("\"F32\"", "[1]", "[4,8]") "}", 16,
     "duplicate object key"},
    {"{" T("\"F32\"", "[2]",
           "[0,8]") ",\"u\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
     16, "tensors t and u overlap"},
    {"{" T("\"F32\"", "[4]",
           "[0,16]") ",\"u\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}",
     16, "overlap"},
};

static void check_refused(const uint8_t *bytes, size_t len, const char *says)
{
    struct safetensors *f = NULL;
    char why[512];
    int rc = safetensors_parse("a/file", bytes, len, why, sizeof why, &f);

    if (rc != -EINVAL || strstr(why, says) == NULL || strncmp(why, "a/file: ", 8) != 0)
        fail_msg("%d \"%s\" does not say \"%s\"", rc, why, says);
    assert_null(f);
    rc = safetensors_parse("a/file", bytes, len, why, 5, &f); /* a short reason is cut */
    assert_true(rc == -EINVAL && strlen(why) <= 4);
}

static void test_wrong_headers_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        size_t len;
        uint8_t *bytes =
            file_make(refused[i].header, strlen(refused[i].header), refused[i].data_len, &len);

        check_refused(bytes, len, refused[i].says);
        free(bytes);
    }
}

static void test_wrong_header_lengths_are_refused(void **state)
{
    static const char header[] = "{" T("\"F32\"", "[1]", "[0,4]") "}";
    static const uint64_t lengths[] = {sizeof header + 4, 1 << 20,        1u << 31,
                                       UINT64_MAX,        UINT64_MAX - 7, INT64_MAX};
    uint8_t *bytes;
    size_t len;

    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        bytes = file_make(header, lengths[i], 4, &len);
        check_refused(bytes, len, "the header of");
        free(bytes);
    }
    bytes = file_make(header, strlen(header) - 1, 4, &len);
    check_refused(bytes, len, "not valid JSON");
    bytes[0] = 0;
    check_refused(bytes, len, "not valid JSON"); /* a header of no bytes */
    free(bytes);
}

/* Cut off anywhere, the file is refused or, where only the unnamed end of it is lost, read. */
static void test_every_truncation_is_refused(void **state)
{
    const char *header = "{" T("\"F32\"", "[2]", "[0,8]") "}";
    size_t len;
    uint8_t *bytes = file_make(header, strlen(header), 8, &len);

    (void)state;
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *own = malloc(cut + (cut == 0));

        memcpy(own, bytes, cut);
        check_refused(own, cut,
                      cut < 8 + strlen(header) ? "the header of"
                                               : "tensor t: lies outside the file");
        free(own);
    }
    safetensors_close(parsed(bytes, len));
    free(bytes);
}

static void test_files_that_are_none(void **state)
{
    struct safetensors *f = NULL;
    char why[512], path[] = "/tmp/learnd-safetensors-XXXXXX";
    int fd = mkstemp(path);

    (void)state;
    assert_int_equal(safetensors_open("/nonexistent/file", why, sizeof why, &f), -ENOENT);
    assert_non_null(strstr(why, "/nonexistent/file: No such file"));
    assert_int_equal(safetensors_open("/tmp", why, sizeof why, &f), -EINVAL);
    assert_non_null(strstr(why, "/tmp: not a safetensors file"));
    assert_int_equal(safetensors_open(path, why, sizeof why, &f), -EINVAL);
    assert_non_null(strstr(why, "not a safetensors file (0 bytes)"));
    assert_int_equal(write(fd, "\x02\0\0\0\0\0\0\0{}", 10), 10);
    assert_int_equal(safetensors_open(path, why, sizeof why, &f), 0);
    assert_int_equal(safetensors_len(f), 0);
    safetensors_close(f);
    close(fd);
    unlink(path);
}

static void test_every_allocation_may_fail(void **state)
{
    const char *path = "tests/golden/tiny-encoder/model.safetensors";
    struct safetensors *f = NULL;
    char why[512];
    int rc = -ENOMEM;

    (void)state;
    fault_alloc_install();
    for (uint64_t n = 1; rc != 0; n++) {
        int64_t held = fault_alloc_held();

        fault_alloc_arm(n, true);
        rc = safetensors_open(path, why, sizeof why, &f);
        fault_alloc_disarm();
        if (rc == 0)
            break;
        assert_true(rc == -ENOMEM || rc == -EINVAL); /* jansson without memory may say "not JSON" */
        assert_null(f);
        assert_int_equal(fault_alloc_held(), held);
        assert_true(n < 100000);
    }
    safetensors_close(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensors_are_found),
        cmocka_unit_test(test_every_number_is_read_exactly),
        cmocka_unit_test(test_wrong_headers_are_refused),
        cmocka_unit_test(test_wrong_header_lengths_are_refused),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_files_that_are_none),
        cmocka_unit_test(test_every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
