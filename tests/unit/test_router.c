/* test_router.c -- which route a path takes, what its parameters are, and what is told when the
 * method is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/front/router.h"
#include "store/store.h"

static const struct route routes[] = {
    {.method = "GET", .pattern = "/"},
    {.method = "GET", .pattern = "/v1/models"},
    {.method = "POST", .pattern = "/v1/models"},
    {.method = "GET", .pattern = "/v1/models/{}"},
    {.method = "PATCH", .pattern = "/v1/models/{}"},
    {.method = "DELETE", .pattern = "/v1/models/{}"},
    {.method = "GET", .pattern = "/v1/models/{}/labels"},
    {.method = "DELETE", .pattern = "/v1/models/{}/labels/{}"},
    {.method = "POST", .pattern = "/v1/classify"},
};

enum { ROUTES = sizeof routes / sizeof *routes };

static struct route_match find(const char *method, const char *path)
{
    struct route_match m;

    memset(&m, 0x55, sizeof m);
    router_find(routes, ROUTES, method, path, &m);
    return m;
}

static void test_found(void **state)
{
    struct route_match m;

    (void)state;
    assert_ptr_equal(find("GET", "/").route, &routes[0]);
    assert_ptr_equal(find("POST", "/v1/models").route, &routes[2]);
    m = find("GET", "/v1/models/intents");
    assert_ptr_equal(m.route, &routes[3]);
    assert_string_equal(m.params[0], "intents");
    m = find("GET", "/v1/models/labels/labels");
    assert_ptr_equal(m.route, &routes[6]);
    assert_string_equal(m.params[0], "labels");
    m = find("DELETE", "/v1/models/m/labels/lost_card");
    assert_ptr_equal(m.route, &routes[7]);
    assert_string_equal(m.params[0], "m");
    assert_string_equal(m.params[1], "lost_card");
    assert_ptr_equal(find("HEAD", "/v1/models").route, &routes[1]); /* by GET's handler */
}

static void test_other_methods(void **state)
{
    struct route_match m = find("PUT", "/v1/models/intents");

    (void)state;
    assert_null(m.route);
    assert_true(m.path_known);
    assert_string_equal(m.allow, "GET, HEAD, PATCH, DELETE");
    m = find("HEAD", "/v1/classify");
    assert_null(m.route);
    assert_string_equal(m.allow, "POST");
    m = find("get", "/v1/models"); /* methods are case-sensitive */
    assert_null(m.route);
    assert_string_equal(m.allow, "GET, HEAD, POST");
}

/* The longest Allow there can be fits. */
static void test_every_method(void **state)
{
    static const struct route all[] = {
        {.method = "GET", .pattern = "/a"},    {.method = "POST", .pattern = "/a"},
        {.method = "PUT", .pattern = "/a"},    {.method = "PATCH", .pattern = "/a"},
        {.method = "DELETE", .pattern = "/a"}, {.method = "OPTIONS", .pattern = "/a"},
        {.method = "GET", .pattern = "/{}"}, /* a second route of the same method adds nothing */
    };
    struct route_match m;

    (void)state;
    router_find(all, sizeof all / sizeof *all, "TRACE", "/a", &m);
    assert_string_equal(m.allow, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
}

static void test_decoding(void **state)
{
    char path[1024], wanted[STORE_NAME_BYTES_MAX + 1] = "";
    struct route_match m = find("GET", "/v1/models/a%20b+c%2Fd%C3%A9");

    (void)state;
    assert_ptr_equal(m.route, &routes[3]);
    assert_string_equal(m.params[0], "a b+c/d\xc3\xa9"); /* decoded once, after the path was cut */
    m = find("GET", "/v1/models/%252F");
    assert_string_equal(m.params[0], "%2F");
    /* The longest name there is, every byte of it escaped. */
    snprintf(path, sizeof path, "/v1/models/");
    for (int i = 0; i < STORE_NAME_BYTES_MAX; i++) {
        snprintf(path + strlen(path), sizeof path - strlen(path), "%%E%X", i % 16);
        wanted[i] = (char)(0xe0 + i % 16);
    }
    m = find("GET", path);
    assert_ptr_equal(m.route, &routes[3]);
    assert_string_equal(m.params[0], wanted);
}

static void test_not_found(void **state)
{
    static const char *const paths[] = {
        "",
        "/v1",
        "/v1/",
        "/v1/models/",
        "/v1/models//labels",
        "//v1/models",
        "/v1/models/m/",
        "/V1/models",
        "/v1/models/m/labels/",
        "/v1/models/m/labels/l/x",
        "*",
        "v1/models",
        "/v1/%6dodels", /* what is fixed is not decoded: one spelling a route */
        "/v1/models/m%2Flabels/x",
        "/v1/models/%",
        "/v1/models/%0",
        "/v1/models/%zz",
        "/v1/models/a%00b", /* a NUL cannot cut a name short */
        "/v1/models/../classify",
        "/v1/./models",
        "/v1/models/..%2f..%2fetc/passwd",
        "http://h/v1/models",
    };
    struct route_match m;
    char path[2048];

    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        m = find("GET", paths[i]);
        if (m.route != NULL || m.path_known)
            fail_msg("%s was found", paths[i]);
        assert_string_equal(m.allow, "");
    }
    memset(path, 'a', sizeof path);
    memcpy(path, "/v1/models/", 11);
    path[sizeof path - 1] = '\0';
    assert_null(find("GET", path).route); /* longer than any name */
}

/* Dots are only bytes of a name: nothing is looked up in a file system. */
static void test_dots(void **state)
{
    struct route_match m = find("GET", "/v1/models/..");

    (void)state;
    assert_ptr_equal(m.route, &routes[3]);
    assert_string_equal(m.params[0], "..");
    m = find("GET", "/v1/models/%2e%2e%2f");
    assert_string_equal(m.params[0], "../");
}

static void test_classes(void **state)
{
    static const struct {
        struct route route;
        enum metrics_class class;
    } rows[] = {
        {{"POST", "/v1/classify", NULL, ROLE_PREDICT, 1, NULL}, METRICS_ASK},
        {{"POST", "/v1/feedback", NULL, ROLE_ANNOTATE, 1, NULL}, METRICS_TEACH},
        {{"POST", "/v1/models/{}/labels", NULL, ROLE_ANNOTATE, 1, NULL}, METRICS_MANAGE},
        {{"DELETE", "/v1/models/{}", NULL, ROLE_ADMIN, 0, NULL}, METRICS_MANAGE},
        {{"GET", "/v1/models", NULL, ROLE_PREDICT, 0, NULL}, METRICS_READ},
        {{"GET", "/health/live", NULL, ROLE_NONE, 0, NULL}, METRICS_ABOUT},
        {{"GET", "/metrics", NULL, ROLE_METRICS, 0, NULL}, METRICS_ABOUT},
    };

    (void)state;
    assert_int_equal(route_class(NULL), METRICS_NO_ROUTE);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(route_class(&rows[i].route), rows[i].class);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classes),       cmocka_unit_test(test_found),
        cmocka_unit_test(test_other_methods), cmocka_unit_test(test_every_method),
        cmocka_unit_test(test_decoding),      cmocka_unit_test(test_not_found),
        cmocka_unit_test(test_dots),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
