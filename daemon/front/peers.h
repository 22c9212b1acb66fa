/* peers.h -- who is named in settings: networks that proxies come from, and origins of pages.
 *
 * Pure. An address is 16 bytes, IPv4 as its mapping into IPv6.
 */
#ifndef LEARND_PEERS_H
#define LEARND_PEERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PEERS_MAX = 32, PEERS_ADDRESS_BYTES = 16, PEERS_TEXT_BYTES = 1024 };

struct networks {
    struct {
        uint8_t address[PEERS_ADDRESS_BYTES];
        uint8_t bits;
    } list[PEERS_MAX];
    uint32_t len;
    bool unix_socket;
};

/* "127.0.0.1, 10.0.0.0/8, fd00::/8, unix". "" is none. 0 or -EINVAL with why. */
int networks_parse(const char *text, struct networks *ret_networks, char *why, size_t why_bytes);
bool networks_hold(const struct networks *networks, const uint8_t address[PEERS_ADDRESS_BYTES]);
/* "10.1.2.3", "fd00::1". False: neither. */
bool address_parse(const char *text, size_t len, uint8_t ret_address[PEERS_ADDRESS_BYTES]);
bool address_is_loopback(const uint8_t address[PEERS_ADDRESS_BYTES]);
void address_format(const uint8_t address[PEERS_ADDRESS_BYTES], char *ret_text, size_t text_bytes);
/* The client behind proxies: of the line that the nearest one wrote, the last address that is no
 * proxy's, else the first. False: the line holds no address there. */
bool address_forwarded(const struct networks *proxies, const char *line,
                       uint8_t ret_address[PEERS_ADDRESS_BYTES]);

struct origins {
    char text[PEERS_TEXT_BYTES];
    uint16_t at[PEERS_MAX]; /* where in text each begins */
    uint32_t len;
};
/* "https://a.example, http://b.example:8080": exactly what a browser sends. 0 or -EINVAL. */
int origins_parse(const char *text, struct origins *ret_origins, char *why, size_t why_bytes);
/* The one of the list that is equal, or NULL. */
const char *origins_find(const struct origins *origins, const char *origin);

#endif
