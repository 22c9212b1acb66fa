/* json.c -- reading JSON through jansson, the only file that knows it.
 *
 * jansson spends about 100 bytes on "[]" and 300 on "{}", and parses by recursion; so a hostile
 * megabyte could ask for hundreds. A first look over the bytes counts brackets and commas outside
 * of texts and refuses what is too deep or too much before anything is allocated.
 *
 * jansson's own messages quote the input. They are thrown away: a problem says what kind and where.
 *
 * A struct json_value is a json_t under another name; it is never defined.
 */
#include "proto/json.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

static const struct json_limits LIMITS_OF_ANSWERS = {
    .bytes_max = (size_t)1 << 30,
    .depth_max = 64,
    .containers_max = 16u << 20,
    .commas_max = 64u << 20,
};

static void *(*watched_take)(size_t);
static void (*watched_give)(void *);
/* jansson forgets some failed allocations and calls others bad syntax; this does neither. */
static _Thread_local bool take_failed;

static void *take_watched(size_t bytes)
{
    void *memory = watched_take(bytes);
    if (!memory)
        take_failed = true;
    return memory;
}

static void give_watched(void *memory)
{
    if (memory)
        watched_give(memory);
}

void json_alloc_set(void *(*take)(size_t bytes), void (*give)(void *memory))
{
    watched_take = take;
    watched_give = give;
    json_set_alloc_funcs(take_watched, give_watched);
}

static int refuse(struct json_problem *problem, int rc, const char *code, const char *detail)
{
    if (problem) {
        problem->code = code;
        snprintf(problem->detail, sizeof problem->detail, "%s", detail);
    }
    return rc;
}

/* One pass, no allocation. Brackets need not match here: jansson looks at that. */
static int check_limits(const char *bytes, size_t bytes_len, const struct json_limits *limits,
                        struct json_problem *problem)
{
    uint32_t depth = 0, containers = 0, commas = 0;
    bool in_text = false;

    if (bytes_len > limits->bytes_max)
        return refuse(problem, -E2BIG, "too_many_values", "the document is too long");
    for (size_t i = 0; i < bytes_len; i++) {
        char c = bytes[i];
        if (in_text) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_text = false;
            continue;
        }
        if (c == '"') {
            in_text = true;
        } else if (c == '[' || c == '{') {
            containers++;
            depth++;
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        } else if (c == ',') {
            commas++;
        }
        if (depth > limits->depth_max)
            return refuse(problem, -E2BIG, "too_deep", "lists and objects are nested too deeply");
        if (containers > limits->containers_max || commas > limits->commas_max)
            return refuse(problem, -E2BIG, "too_many_values", "the document holds too many values");
    }
    return 0;
}

static int explain(const json_error_t *error, struct json_problem *problem)
{
    const char *code = "malformed_json", *what = "not valid JSON";

    switch (json_error_code(error)) {
    case json_error_out_of_memory:
        return -ENOMEM;
    case json_error_invalid_utf8:
        code = "invalid_utf8";
        what = "a byte that is not UTF-8";
        break;
    case json_error_duplicate_key:
        code = "duplicate_field";
        what = "a field that is written twice";
        break;
    case json_error_numeric_overflow:
        code = "out_of_range";
        what = "a number that is too large";
        break;
    case json_error_premature_end_of_input:
        what = "the JSON ends too early";
        break;
    case json_error_end_of_input_expected:
        what = "more after the end of the JSON";
        break;
    default:
        break;
    }
    if (problem) {
        problem->code = code;
        snprintf(problem->detail, sizeof problem->detail, "%s: line %d, column %d", what,
                 error->line > 0 ? error->line : 1, error->column > 0 ? error->column : 1);
    }
    return -EINVAL;
}

int json_parse(const char *bytes, size_t bytes_len, const struct json_limits *limits,
               struct json_value **ret_value, struct json_problem *problem)
{
    json_error_t error;

    int rc = check_limits(bytes, bytes_len, limits ? limits : &LIMITS_OF_ANSWERS, problem);
    if (rc < 0)
        return rc;

    memset(&error, 0, sizeof error);
    take_failed = false;
    json_t *root = json_loadb(bytes_len ? bytes : "", bytes_len,
                              JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (take_failed) {
        json_decref(root);
        return -ENOMEM;
    }
    if (!root)
        return explain(&error, problem);
    *ret_value = (struct json_value *)root;
    return 0;
}

void json_free(struct json_value *value)
{
    json_decref((json_t *)value);
}

enum json_kind json_kind(const struct json_value *value)
{
    if (!value)
        return JSON_KIND_NONE;
    switch (json_typeof((const json_t *)value)) {
    case JSON_OBJECT:
        return JSON_KIND_OBJECT;
    case JSON_ARRAY:
        return JSON_KIND_ARRAY;
    case JSON_STRING:
        return JSON_KIND_TEXT;
    case JSON_INTEGER:
        return JSON_KIND_INT;
    case JSON_REAL:
        return JSON_KIND_REAL;
    case JSON_TRUE:
    case JSON_FALSE:
        return JSON_KIND_BOOL;
    case JSON_NULL:
        return JSON_KIND_NULL;
    }
    return JSON_KIND_NONE;
}

/* A member named by the first key_bytes of key; without a copy. */
static const struct json_value *member(const struct json_value *value, const char *key,
                                       size_t key_bytes)
{
    if (json_kind(value) != JSON_KIND_OBJECT)
        return NULL;
    return (const struct json_value *)json_object_getn((const json_t *)value, key, key_bytes);
}

const struct json_value *json_get(const struct json_value *value, const char *path)
{
    while (value && *path) {
        if (*path == '[') {
            size_t index = 0;
            for (path++; *path >= '0' && *path <= '9'; path++)
                index = index * 10 + (size_t)(*path - '0');
            if (*path != ']')
                return NULL;
            path++;
            value = json_at(value, index);
        } else {
            path += *path == '.';
            size_t key_bytes = strcspn(path, ".[");
            value = member(value, path, key_bytes);
            path += key_bytes;
        }
    }
    return value;
}

const struct json_value *json_member(const struct json_value *value, const char *key)
{
    return member(value, key, strlen(key));
}

size_t json_len(const struct json_value *value)
{
    enum json_kind kind = json_kind(value);

    if (kind == JSON_KIND_ARRAY)
        return json_array_size((const json_t *)value);
    return kind == JSON_KIND_OBJECT ? json_object_size((const json_t *)value) : 0;
}

const struct json_value *json_at(const struct json_value *value, size_t index)
{
    if (json_kind(value) != JSON_KIND_ARRAY)
        return NULL;
    return (const struct json_value *)json_array_get((const json_t *)value, index);
}

const char *json_text(const struct json_value *value, size_t *ret_bytes)
{
    if (json_kind(value) != JSON_KIND_TEXT)
        return NULL;
    if (ret_bytes)
        *ret_bytes = json_string_length((const json_t *)value);
    return json_string_value((const json_t *)value);
}

double json_number(const struct json_value *value, double fallback)
{
    enum json_kind kind = json_kind(value);

    return kind == JSON_KIND_INT || kind == JSON_KIND_REAL
               ? json_number_value((const json_t *)value)
               : fallback;
}

int64_t json_int(const struct json_value *value, int64_t fallback)
{
    return json_kind(value) == JSON_KIND_INT ? json_integer_value((const json_t *)value) : fallback;
}

bool json_bool(const struct json_value *value, bool fallback)
{
    return json_kind(value) == JSON_KIND_BOOL ? json_is_true((const json_t *)value) : fallback;
}

int json_each(const struct json_value *value, json_member_fn *fn, void *ud)
{
    if (json_kind(value) != JSON_KIND_OBJECT)
        return 0;

    json_t *object =
        (json_t *)(uintptr_t)value; /* jansson's iterators are not const; nothing changes */
    for (void *at = json_object_iter(object); at; at = json_object_iter_next(object, at)) {
        int rc =
            fn(ud, json_object_iter_key(at), (const struct json_value *)json_object_iter_value(at));
        if (rc != 0)
            return rc;
    }
    return 0;
}
