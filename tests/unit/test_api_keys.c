/* Keys, who one is, and the trail, as the wire has them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/api.h"
#include "tests/unit/body_fixture.h"
#include "tests/unit/contract_fixture.h"
#include "tests/unit/fault_alloc.h"

static struct api_key_create *good(const char *body)
{
    struct api_key_create *create = NULL;
    struct api_problem problem;

    if (api_parse_key_create(body, strlen(body), &create, &problem) != 0)
        fail_msg("%s: %s %s", body, problem.code, problem.field);
    return create;
}

static int try_create(const char *body, size_t bytes, struct api_problem *problem)
{
    struct api_key_create *create = NULL;
    int rc = api_parse_key_create(body, bytes, &create, problem);

    assert_true((rc == 0) == (create != NULL));
    api_key_create_free(create);
    return rc;
}

static void bad(const char *body, int status, const char *code, const char *field)
{
    body_bad(try_create, &(struct bad_body){body, status, code, field});
}

static void test_what_is_read(void **state)
{
    struct api_key_create *c = good("{\"name\":\"bot\",\"role\":\"predict\"}");

    (void)state;
    assert_string_equal(c->name, "bot");
    assert_int_equal(c->role, API_ROLE_PREDICT);
    assert_true(c->rate_per_s == 0);
    assert_int_equal(c->expires_us, 0);
    api_key_create_free(c);
    c = good("{\"name\":\"a b\",\"role\":\"admin\",\"rate_per_s\":0.5,"
             "\"expires_at\":\"1970-01-01T00:00:01Z\"}");
    assert_int_equal(c->role, API_ROLE_ADMIN);
    assert_true(c->rate_per_s == 0.5);
    assert_int_equal(c->expires_us, 1000000);
    api_key_create_free(c);
    c = good("{\"name\":\"a\",\"role\":\"annotate\",\"rate_per_s\":null,\"expires_at\":null}");
    assert_int_equal(c->role, API_ROLE_ANNOTATE);
    assert_true(c->rate_per_s == 0 && c->expires_us == 0);
    api_key_create_free(c);
    api_key_create_free(NULL);
}

static void test_what_is_refused(void **state)
{
    (void)state;
    bad("[]", 422, "wrong_type", "");
    bad("{", 400, "malformed_json", "");
    bad("{\"role\":\"admin\"}", 422, "missing_field", "name");
    bad("{\"name\":\"a\"}", 422, "missing_field", "role");
    bad("{\"name\":\"\",\"role\":\"admin\"}", 422, "invalid_name", "name");
    bad("{\"name\":\"a\\u0000b\",\"role\":\"admin\"}", 422, "invalid_name", "name");
    bad("{\"name\":\"a\\nb\",\"role\":\"admin\"}", 422, "invalid_name", "name");
    bad("{\"name\":7,\"role\":\"admin\"}", 422, "wrong_type", "name");
    bad("{\"name\":\"a\",\"role\":\"none\"}", 422, "invalid_value", "role");
    bad("{\"name\":\"a\",\"role\":\"Admin\"}", 422, "invalid_value", "role");
    bad("{\"name\":\"a\",\"role\":3}", 422, "wrong_type", "role");
    bad("{\"name\":\"a\",\"role\":\"admin\",\"rate_per_s\":0}", 422, "out_of_range", "rate_per_s");
    bad("{\"name\":\"a\",\"role\":\"admin\",\"rate_per_s\":1e7}", 422, "out_of_range",
        "rate_per_s");
    bad("{\"name\":\"a\",\"role\":\"admin\",\"rate_per_s\":\"1\"}", 422, "wrong_type",
        "rate_per_s");
    bad("{\"name\":\"a\",\"role\":\"admin\",\"expires_at\":\"2027-02-30T00:00:00Z\"}", 422,
        "invalid_value", "expires_at");
    bad("{\"name\":\"a\",\"role\":\"admin\",\"expires_at\":1}", 422, "wrong_type", "expires_at");
    bad("{\"name\":\"a\",\"role\":\"admin\",\"key\":\"lk_1\"}", 422, "unknown_field", "key");
}

static void test_without_memory(void **state)
{
    (void)state;
    body_without_memory(try_create, "{\"name\":\"a\",\"role\":\"admin\",\"rate_per_s\":1,"
                                    "\"expires_at\":\"2027-01-01T00:00:00Z\"}");
}

static void test_roles(void **state)
{
    (void)state;
    for (enum api_role r = API_ROLE_PREDICT; r <= API_ROLE_ADMIN; r++)
        assert_int_equal(api_role_of(api_role_name(r)), r);
    assert_int_equal(api_role_of("king"), API_ROLE_NONE);
    assert_int_equal(api_role_of("none"), API_ROLE_NONE);
    assert_string_equal(api_role_name(API_ROLE_NONE), "none");
}

/* ---- answers --------------------------------------------------------------------------------- */

static struct api_key key = {
    .id = 3, .name = "bot", .role = API_ROLE_PREDICT, .created_us = 1, .now_us = 100};

static void write_key(struct api_buffer *b)
{
    api_write_key(b, &key);
}

static void write_me(struct api_buffer *b)
{
    api_write_me(b, API_ROLE_ADMIN, NULL, "1.0.0");
}

static void write_act(struct api_buffer *b)
{
    api_write_act(b, &(struct api_act){.act = 1,
                                       .time_us = 1,
                                       .key = 0,
                                       .who = "local",
                                       .peer = -1,
                                       .address = "::1",
                                       .action = "model_create",
                                       .object = "m",
                                       .request_id = "r"});
}

static bool says(void (*write)(struct api_buffer *), const char *text)
{
    struct api_buffer b = API_BUFFER_INIT;
    bool found;

    write(&b);
    api_buffer_add(&b, "", 1);
    assert_int_equal(b.rc, 0);
    found = strstr(b.bytes, text) != NULL;
    api_buffer_done(&b);
    return found;
}

static void test_what_is_written(void **state)
{
    (void)state;
    contract_check("Key", write_key);
    contract_check("Me", write_me);
    contract_check("Act", write_act);
    assert_true(says(write_key, "\"state\":\"active\""));
    assert_true(says(write_key, "\"rate_per_s\":null,"));
    assert_false(says(write_key, "\"key\""));
    key.expires_us = 100;
    assert_true(says(write_key, "\"state\":\"expired\""));
    key.expires_us = 101;
    assert_true(says(write_key, "\"state\":\"active\""));
    key.revoked_us = 50;
    assert_true(says(write_key, "\"state\":\"revoked\""));
    key.rate_per_s = 2.5;
    key.secret = "lk_secret";
    key.id = -1;
    assert_true(says(write_key, "\"rate_per_s\":2.5"));
    assert_true(says(write_key, "\"key\":\"lk_secret\""));
    assert_true(says(write_key, "\"id\":null"));
    assert_true(says(write_act, "\"key\":null"));
    assert_true(says(write_act, "\"uid\":null"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_read),    cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_without_memory),  cmocka_unit_test(test_roles),
        cmocka_unit_test(test_what_is_written),
    };

    fault_alloc_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
