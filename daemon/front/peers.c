/* peers.c -- see peers.h. */
#include "daemon/front/peers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The next word between commas and spaces; its length, 0: no more. Moves *text behind it. */
static size_t next_word(const char **text, const char **ret_word)
{
    size_t len;

    *text += strspn(*text, ", \t");
    *ret_word = *text;
    len = strcspn(*text, ", \t");
    *text += len;
    return len;
}

/* ---- addresses ------------------------------------------------------------------------------- */

bool address_parse(const char *text, size_t len, uint8_t ret_address[PEERS_ADDRESS_BYTES])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    char copy[INET6_ADDRSTRLEN];
    struct in_addr four;
    struct in6_addr six;

    if (len == 0 || len >= sizeof copy)
        return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    if (inet_pton(AF_INET, copy, &four) == 1) {
        memcpy(ret_address, mapped, sizeof mapped);
        memcpy(ret_address + 12, &four, 4);
        return true;
    }
    if (inet_pton(AF_INET6, copy, &six) != 1)
        return false;
    memcpy(ret_address, &six, PEERS_ADDRESS_BYTES);
    return true;
}

static bool is_mapped(const uint8_t *address)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

    return memcmp(address, mapped, sizeof mapped) == 0;
}

bool address_is_loopback(const uint8_t address[PEERS_ADDRESS_BYTES])
{
    static const uint8_t one[PEERS_ADDRESS_BYTES] = {[15] = 1};

    return is_mapped(address) ? address[12] == 127 : memcmp(address, one, sizeof one) == 0;
}

void address_format(const uint8_t address[PEERS_ADDRESS_BYTES], char *ret_text, size_t text_bytes)
{
    bool four = is_mapped(address);

    if (inet_ntop(four ? AF_INET : AF_INET6, four ? address + 12 : address, ret_text,
                  (socklen_t)text_bytes) == NULL)
        snprintf(ret_text, text_bytes, "unknown");
}

/* ---- networks -------------------------------------------------------------------------------- */

static int add_network(struct networks *n, const char *word, size_t len, char *why,
                       size_t why_bytes)
{
    const char *slash = memchr(word, '/', len);
    size_t address_len = slash != NULL ? (size_t)(slash - word) : len;
    unsigned long bits, most;
    uint8_t *address;
    char *end = NULL;

    if (n->len == PEERS_MAX) {
        snprintf(why, why_bytes, "must name at most %d networks", PEERS_MAX);
        return -EINVAL;
    }
    address = n->list[n->len].address;
    if (!address_parse(word, address_len, address)) {
        snprintf(why, why_bytes, "must be addresses or networks as 10.0.0.0/8, or unix: %.*s",
                 len < 40 ? (int)len : 40, word);
        return -EINVAL;
    }
    most = is_mapped(address) && memchr(word, ':', address_len) == NULL ? 32 : 128;
    bits = slash != NULL && is_digit(slash[1]) ? strtoul(slash + 1, &end, 10) : most;
    if (slash != NULL && (end != word + len || bits > most)) {
        snprintf(why, why_bytes, "must have a whole number of bits from 0 to %lu behind /: %.*s",
                 most, len < 40 ? (int)len : 40, word);
        return -EINVAL;
    }
    n->list[n->len++].bits = (uint8_t)(128 - most + bits);
    return 0;
}

int networks_parse(const char *text, struct networks *ret_networks, char *why, size_t why_bytes)
{
    struct networks n = {.len = 0};
    const char *word;
    size_t len;
    int rc = 0;

    while (rc == 0 && (len = next_word(&text, &word)) > 0) {
        if (len == 4 && memcmp(word, "unix", 4) == 0)
            n.unix_socket = true;
        else
            rc = add_network(&n, word, len, why, why_bytes);
    }
    if (rc == 0)
        *ret_networks = n;
    return rc;
}

bool networks_hold(const struct networks *networks, const uint8_t address[PEERS_ADDRESS_BYTES])
{
    for (uint32_t i = 0; i < networks->len; i++) {
        const uint8_t *have = networks->list[i].address;
        uint32_t whole = networks->list[i].bits / 8, rest = networks->list[i].bits % 8;

        if (memcmp(have, address, whole) == 0 &&
            (rest == 0 || (have[whole] ^ address[whole]) >> (8 - rest) == 0))
            return true;
    }
    return false;
}

/* From the right: what stands left of an address that is no proxy's was written by that client. */
bool address_forwarded(const struct networks *proxies, const char *line,
                       uint8_t ret_address[PEERS_ADDRESS_BYTES])
{
    uint8_t address[PEERS_ADDRESS_BYTES];
    size_t end = strlen(line);
    bool any = false;

    while (end > 0) {
        size_t from = end;

        while (from > 0 && strchr(", \t", line[from - 1]) == NULL)
            from--;
        if (from < end) {
            if (!address_parse(line + from, end - from, address))
                return any;
            memcpy(ret_address, address, sizeof address);
            any = true;
            if (!networks_hold(proxies, address))
                return true;
        }
        end = from > 0 ? from - 1 : 0;
    }
    return any;
}

/* ---- origins --------------------------------------------------------------------------------- */

/* scheme://host or scheme://host:port, in small letters: what stands there is compared as it is. */
static bool is_origin(const char *word, size_t len)
{
    size_t at = len > 7 && memcmp(word, "http://", 7) == 0    ? 7
                : len > 8 && memcmp(word, "https://", 8) == 0 ? 8
                                                              : 0;

    if (at == 0)
        return false;
    for (; at < len; at++)
        if (!(word[at] >= 'a' && word[at] <= 'z') && !is_digit(word[at]) &&
            strchr(".-:[]_", word[at]) == NULL)
            return false;
    return true;
}

int origins_parse(const char *text, struct origins *ret_origins, char *why, size_t why_bytes)
{
    struct origins *o = ret_origins;
    const char *word;
    size_t len, at = 0;

    o->len = 0;
    while ((len = next_word(&text, &word)) > 0) {
        if (o->len == PEERS_MAX || at + len + 1 > sizeof o->text) {
            snprintf(why, why_bytes, "must name at most %d origins", PEERS_MAX);
            return -EINVAL;
        }
        if (!is_origin(word, len)) {
            snprintf(why, why_bytes, "must be origins as https://app.example, none of them *: %.*s",
                     len < 40 ? (int)len : 40, word);
            return -EINVAL;
        }
        memcpy(o->text + at, word, len);
        o->text[at + len] = '\0';
        o->at[o->len++] = (uint16_t)at;
        at += len + 1;
    }
    return 0;
}

const char *origins_find(const struct origins *origins, const char *origin)
{
    for (uint32_t i = 0; i < origins->len; i++)
        if (strcmp(origins->text + origins->at[i], origin) == 0)
            return origins->text + origins->at[i];
    return NULL;
}
