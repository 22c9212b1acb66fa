/* Networks of proxies, the client behind them, and origins of pages. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/front/peers.h"

static struct networks networks(const char *text)
{
    struct networks n;
    char why[128] = "";

    if (networks_parse(text, &n, why, sizeof why) != 0)
        fail_msg("%s: %s", text, why);
    return n;
}

static void bad_networks(const char *text, const char *says)
{
    struct networks n, untouched;
    char why[128] = "";

    memset(&n, 0x55, sizeof n);
    untouched = n;
    assert_int_equal(networks_parse(text, &n, why, sizeof why), -EINVAL);
    assert_memory_equal(&n, &untouched, sizeof n);
    if (strstr(why, says) == NULL)
        fail_msg("%s: %s", text, why);
}

static bool holds(const char *text, const char *address)
{
    struct networks n = networks(text);
    uint8_t bytes[PEERS_ADDRESS_BYTES];

    assert_true(address_parse(address, strlen(address), bytes));
    return networks_hold(&n, bytes);
}

static void test_networks(void **state)
{
    (void)state;
    assert_true(holds("127.0.0.1", "127.0.0.1"));
    assert_false(holds("127.0.0.1", "127.0.0.2"));
    assert_true(holds("10.0.0.0/8", "10.255.1.2"));
    assert_false(holds("10.0.0.0/8", "11.0.0.0"));
    assert_true(holds("10.1.2.0/23", "10.1.3.255"));
    assert_false(holds("10.1.2.0/23", "10.1.4.0"));
    assert_true(holds("0.0.0.0/0", "203.0.113.9"));
    assert_false(holds("0.0.0.0/0", "fd00::1"));
    assert_true(holds("::/0", "203.0.113.9")); /* IPv4 is part of it */
    assert_true(holds("fd00::/8", "fdff::1"));
    assert_false(holds("fd00::/8", "fe00::1"));
    assert_true(holds("::1, 10.0.0.1\t192.168.0.0/16", "192.168.7.7"));
    assert_false(holds("", "127.0.0.1"));
    assert_false(holds("unix", "127.0.0.1"));
    assert_true(networks("unix").unix_socket);
    assert_false(networks("::1").unix_socket);
    assert_true(holds("127.0.0.0/8", "::ffff:127.0.0.9")); /* the same address */
}

static void test_bad_networks(void **state)
{
    char many[PEERS_MAX * 8 + 64] = "";

    (void)state;
    bad_networks("localhost", "localhost");
    bad_networks("10.0.0", "addresses");
    bad_networks("10.0.0.0/33", "from 0 to 32");
    bad_networks("10.0.0.0/", "from 0 to 32");
    bad_networks("10.0.0.0/-1", "from 0 to 32");
    bad_networks("10.0.0.0/8x", "from 0 to 32");
    bad_networks("::/129", "from 0 to 128");
    bad_networks("::1, nobody", "nobody");
    bad_networks("*", "*");
    bad_networks("1.1.1.1:80", "1.1.1.1:80");
    for (int i = 0; i <= PEERS_MAX; i++)
        snprintf(many + strlen(many), sizeof many - strlen(many), "1.1.1.1,");
    bad_networks(many, "at most 32");
}

static void test_addresses(void **state)
{
    uint8_t bytes[PEERS_ADDRESS_BYTES];
    char text[48];

    (void)state;
    assert_false(address_parse("", 0, bytes));
    assert_false(address_parse("1.2.3.4.5", 9, bytes));
    assert_false(address_parse("256.1.1.1", 9, bytes));
    assert_true(address_parse("2001:db8::7 and more", 11, bytes));
    address_format(bytes, text, sizeof text);
    assert_string_equal(text, "2001:db8::7");
    assert_true(address_parse("192.0.2.1", 9, bytes));
    address_format(bytes, text, sizeof text);
    assert_string_equal(text, "192.0.2.1");
    assert_false(address_is_loopback(bytes));
    assert_true(address_parse("127.9.9.9", 9, bytes) && address_is_loopback(bytes));
    assert_true(address_parse("::1", 3, bytes) && address_is_loopback(bytes));
    assert_true(address_parse("::", 2, bytes) && !address_is_loopback(bytes));
    assert_true(address_parse("::2", 3, bytes) && !address_is_loopback(bytes));
}

/* "" for none. */
static void forwards(const char *line, const char *wanted)
{
    struct networks proxies = networks("10.0.0.0/8, fd00::/8");
    uint8_t bytes[PEERS_ADDRESS_BYTES];
    char text[48] = "";

    if (address_forwarded(&proxies, line, bytes))
        address_format(bytes, text, sizeof text);
    if (strcmp(text, wanted) != 0)
        fail_msg("%s gave %s", line, text);
}

static void test_forwarded(void **state)
{
    (void)state;
    forwards("203.0.113.9", "203.0.113.9");
    forwards("1.1.1.1, 203.0.113.9", "203.0.113.9");
    forwards("203.0.113.9, 10.0.0.1, fd00::2", "203.0.113.9");
    forwards("1.1.1.1,203.0.113.9 ,\t10.0.0.1", "203.0.113.9");
    forwards("10.0.0.1, 10.0.0.2", "10.0.0.1"); /* all of them proxies: the first */
    forwards("", "");
    forwards(" , ", "");
    forwards("unknown", "");
    forwards("unknown, 10.0.0.1", "10.0.0.1");
    forwards("203.0.113.9, unknown", "");
    forwards("203.0.113.9:4711", "");
    forwards("\"[2001:db8::7]\"", "");
    forwards("203.0.113.9, ", "203.0.113.9");
}

static void test_origins(void **state)
{
    static const char *const wrong[] = {"*",
                                        "null",
                                        "app.example",
                                        "https://",
                                        "https://App.example",
                                        "https://app.example/",
                                        "https://user@app.example",
                                        "ftp://app.example",
                                        "https://app.example?x",
                                        "https://ok.example https://no.example\r"};
    struct origins o = {.len = 0}, copy;
    char why[128], many[PEERS_MAX * 12 + 64] = "";

    (void)state;
    assert_int_equal(origins_parse("https://app.example, http://b.example:8080\thttp://[::1]:1", &o,
                                   why, sizeof why),
                     0);
    copy = o;
    memset(&o, 0, sizeof o); /* a copy stands on its own */
    assert_int_equal(copy.len, 3);
    assert_string_equal(origins_find(&copy, "http://b.example:8080"), "http://b.example:8080");
    assert_non_null(origins_find(&copy, "http://[::1]:1"));
    assert_null(origins_find(&copy, "https://app.example:443"));
    assert_null(origins_find(&copy, "https://app.exampl"));
    assert_null(origins_find(&copy, ""));
    assert_int_equal(origins_parse("", &copy, why, sizeof why), 0);
    assert_int_equal(copy.len, 0);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (origins_parse(wrong[i], &o, why, sizeof why) != -EINVAL)
            fail_msg("%s is taken", wrong[i]);
    for (int i = 0; i <= PEERS_MAX; i++)
        snprintf(many + strlen(many), sizeof many - strlen(many), "http://a%d,", i);
    assert_int_equal(origins_parse(many, &o, why, sizeof why), -EINVAL);
    assert_non_null(strstr(why, "at most 32"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_networks),  cmocka_unit_test(test_bad_networks),
        cmocka_unit_test(test_addresses), cmocka_unit_test(test_forwarded),
        cmocka_unit_test(test_origins),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
