/* body_fixture.c -- see body_fixture.h. */
#include "tests/unit/body_fixture.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proto/json.h"
#include "proto/openapi.h"
#include "tests/unit/fault_alloc.h"

void body_bad(body_fn *try, const struct bad_body *row)
{
    struct api_problem problem = {0, "none", "", ""};
    int rc = try(row->body, strlen(row->body), &problem);

    if (rc != -EINVAL || problem.status != row->status || strcmp(problem.code, row->code) != 0 ||
        strcmp(problem.field, row->field) != 0)
        fail_msg("%s: rc %d, %d %s at '%s' (%s)", row->body, rc, problem.status, problem.code,
                 problem.field, problem.detail);
    assert_true(problem.detail[0] != '\0');
    if (strstr(problem.detail, "SECRET") != NULL)
        fail_msg("%s: quoted in '%s'", row->body, problem.detail);
}

/* A field of the contract that a parser does not know would be a promise that is not kept. An
 * object is what no field takes, but for one that takes any JSON. */
static int check_known(void *ud, const char *key, const struct json_value *schema)
{
    bool any = json_member(schema, "type") == NULL && json_member(schema, "$ref") == NULL &&
               json_member(schema, "oneOf") == NULL;
    struct api_buffer b = API_BUFFER_INIT;
    struct api_problem problem = {0, "none", "", ""};
    int rc;

    json_open_object(&b);
    json_write_key(&b, key);
    json_open_object(&b);
    json_close_object(&b);
    json_close_object(&b);
    rc = (*(body_fn **)ud)(b.bytes, b.len, &problem);
    if ((rc == 0 && !any) || strcmp(problem.code, "unknown_field") == 0)
        fail_msg("%s is not read", key);
    api_buffer_done(&b);
    return 0;
}

void body_known(body_fn *try, const char *schema)
{
    size_t bytes;
    const char *text = openapi_json(&bytes);
    struct json_value *doc = NULL;
    const struct json_value *fields;
    char path[100];

    assert_int_equal(json_parse(text, bytes, NULL, &doc, NULL), 0);
    snprintf(path, sizeof path, "components.schemas.%s.properties", schema);
    fields = json_get(doc, path);
    assert_true(json_len(fields) > 0);
    json_each(fields, check_known, &try);
    json_free(doc);
}

void body_without_memory(body_fn *try, const char *body)
{
    int64_t held = fault_alloc_held();
    uint64_t n;

    for (n = 1;; n++) {
        struct api_problem problem = {0, "none", "", ""};
        bool failed;
        int rc;

        fault_alloc_arm(n, false);
        rc = try(body, strlen(body), &problem);
        failed = fault_alloc_disarm();
        assert_int_equal(fault_alloc_held(), held);
        if (!failed) {
            assert_int_equal(rc, 0);
            break;
        }
        if (rc != -ENOMEM)
            fail_msg("%s: allocation %d: rc %d", body, (int)n, rc);
        assert_int_equal(problem.status, 503);
        assert_string_equal(problem.code, "out_of_memory");
    }
    assert_true(n > 4);
}
