/* contract_fixture.c -- see contract_fixture.h. */
#include "tests/unit/contract_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proto/json.h"
#include "proto/openapi.h"

static const struct json_value *resolve(const struct json_value *doc,
                                        const struct json_value *schema)
{
    const char *ref = json_text(json_member(schema, "$ref"), NULL);

    if (!ref)
        return schema;
    char path[100];
    snprintf(path, sizeof path, "components.schemas.%s", strrchr(ref, '/') + 1);
    return json_get(doc, path);
}

static bool kind_is(const struct json_value *value, const char *type)
{
    switch (json_kind(value)) {
    case JSON_KIND_NULL:
        return strcmp(type, "null") == 0;
    case JSON_KIND_BOOL:
        return strcmp(type, "boolean") == 0;
    case JSON_KIND_INT:
        return strcmp(type, "integer") == 0 || strcmp(type, "number") == 0;
    case JSON_KIND_REAL:
        return strcmp(type, "number") == 0;
    case JSON_KIND_TEXT:
        return strcmp(type, "string") == 0;
    case JSON_KIND_ARRAY:
        return strcmp(type, "array") == 0;
    case JSON_KIND_OBJECT:
        return strcmp(type, "object") == 0;
    case JSON_KIND_NONE:
        break;
    }
    return false;
}

static bool type_fits(const struct json_value *doc, const struct json_value *schema,
                      const struct json_value *value)
{
    const struct json_value *type = json_member(schema, "type");
    const struct json_value *choices = json_member(schema, "oneOf");

    for (size_t i = 0; i < json_len(choices); i++) {
        if (type_fits(doc, resolve(doc, json_at(choices, i)), value))
            return true;
    }
    if (choices)
        return false;
    if (json_kind(type) == JSON_KIND_TEXT)
        return kind_is(value, json_text(type, NULL));
    for (size_t i = 0; i < json_len(type); i++) {
        if (kind_is(value, json_text(json_at(type, i), NULL)))
            return true;
    }
    return false;
}

struct check {
    const struct json_value *doc, *schema;
};

static void check_schema(const struct json_value *doc, const struct json_value *schema,
                         const struct json_value *value, const char *where);

static int check_member(void *ud, const char *key, const struct json_value *value)
{
    const struct check *check = ud;
    const struct json_value *schema = json_member(json_member(check->schema, "properties"), key);

    if (!schema)
        fail_msg("%s is not in the contract", key);
    check_schema(check->doc, schema, value, key);
    return 0;
}

static void check_schema(const struct json_value *doc, const struct json_value *schema,
                         const struct json_value *value, const char *where)
{
    schema = resolve(doc, schema);
    if (json_len(schema) == 1 && json_member(schema, "description"))
        return; /* any JSON, and what is in it is nobody's promise */
    if (!type_fits(doc, schema, value))
        fail_msg("%s has the wrong type", where);
    if (json_kind(value) == JSON_KIND_ARRAY) {
        for (size_t i = 0; i < json_len(value); i++)
            check_schema(doc, json_member(schema, "items"), json_at(value, i), where);
    }
    if (json_kind(value) != JSON_KIND_OBJECT)
        return;
    const struct json_value *required = json_member(schema, "required");
    for (size_t i = 0; i < json_len(required); i++) {
        const char *name = json_text(json_at(required, i), NULL);
        if (!json_member(value, name))
            fail_msg("%s lacks %s", where, name);
    }
    struct check check = {doc, schema};
    json_each(value, check_member, &check);
}

void contract_check(const char *schema, void (*write)(struct api_buffer *buffer))
{
    struct api_buffer buffer = API_BUFFER_INIT;
    struct json_value *doc = NULL, *root = NULL;
    size_t bytes;
    const char *text = openapi_json(&bytes);
    char path[100];

    assert_int_equal(json_parse(text, bytes, NULL, &doc, NULL), 0);
    write(&buffer);
    assert_int_equal(json_parse(buffer.bytes, buffer.len, NULL, &root, NULL), 0);
    snprintf(path, sizeof path, "components.schemas.%s", schema);
    assert_non_null(json_get(doc, path));
    check_schema(doc, json_get(doc, path), root, schema);
    json_free(root);
    json_free(doc);
    api_buffer_done(&buffer);
}
