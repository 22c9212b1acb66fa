/* admit.c -- see admit.h.
 *
 * Without keys a client is trusted for where it is: the loopback, or a unix socket that its file's
 * mode guards. Then a browser is the way in from outside: pages of other origins, and names that
 * merely resolve to the loopback (DNS rebinding), are refused; and so is a client whose request a
 * proxy has forwarded from elsewhere. With keys neither matters, since no page knows one, and what
 * a page may read is for its browser to keep, by what admit_lines allows.
 *
 * Over a unix socket root and the daemon's own user need no key: they could read and write the
 * database itself. Not where trusted-proxies names unix, for then it is a proxy that connects.
 */
#include "daemon/front/admit.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/front/access_log.h"

/* ---- where from ------------------------------------------------------------------------------ */

void admit_peer(struct conn *c)
{
    struct sockaddr_storage address;
    int len = sizeof address;
    struct ucred peer;
    socklen_t peer_len = sizeof peer;
    uv_os_fd_t fd;

    c->peer = -1;
    if (c->local) {
        if (uv_fileno(&c->io.handle, &fd) == 0 &&
            getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_len) == 0)
            c->peer = peer.uid;
        return;
    }
    if (uv_tcp_getpeername(&c->io.tcp, (struct sockaddr *)&address, &len) != 0)
        return; /* it has gone already; :: is nobody's address */
    if (address.ss_family == AF_INET) {
        c->address[10] = c->address[11] = 0xff;
        memcpy(c->address + 12, &((struct sockaddr_in *)&address)->sin_addr, 4);
    } else {
        memcpy(c->address, &((struct sockaddr_in6 *)&address)->sin6_addr, sizeof c->address);
    }
}

/* True with the address that a trusted proxy has forwarded. */
static bool forwarded(const struct conn *c, uint8_t ret_address[PEERS_ADDRESS_BYTES])
{
    const struct networks *proxies = &access_settings(c->loop->access)->proxies;
    const char *line = http_request(c->parser)->forwarded_for;

    return line != NULL && (c->local ? proxies->unix_socket : networks_hold(proxies, c->address)) &&
           address_forwarded(proxies, line, ret_address);
}

void admit_address(const struct exchange *x, char ret_text[ADMIT_ADDRESS_BYTES])
{
    uint8_t address[PEERS_ADDRESS_BYTES];

    if (forwarded(x->conn, address))
        address_format(address, ret_text, ADMIT_ADDRESS_BYTES);
    else if (x->conn->local)
        snprintf(ret_text, ADMIT_ADDRESS_BYTES, "unix");
    else
        address_format(x->conn->address, ret_text, ADMIT_ADDRESS_BYTES);
}

/* Without keys: is it on this machine? */
static bool is_near(const struct conn *c)
{
    uint8_t address[PEERS_ADDRESS_BYTES];

    if (forwarded(c, address))
        return address_is_loopback(address);
    return c->local || address_is_loopback(c->address);
}

/* ---- pages ----------------------------------------------------------------------------------- */

static bool names_loopback(const char *host)
{
    size_t len =
        host[0] == '[' ? strcspn(host, "]") + (strchr(host, ']') != NULL) : strcspn(host, ":");

    return (len == 9 && strncasecmp(host, "localhost", 9) == 0) ||
           (len == 5 && memcmp(host, "[::1]", 5) == 0) || strncmp(host, "127.", 4) == 0;
}

/* The daemon's own pages: their origin is the host that was asked. */
static bool is_own(const char *origin, const char *host)
{
    size_t scheme = strncmp(origin, "http://", 7) == 0    ? 7
                    : strncmp(origin, "https://", 8) == 0 ? 8
                                                          : 0;

    return scheme > 0 && host != NULL && strcasecmp(origin + scheme, host) == 0;
}

bool admit_origin(struct conn *c, const struct http_request *r, struct refusal *ret_refusal)
{
    const struct access_settings *settings = access_settings(c->loop->access);

    c->x.cors = r->origin != NULL ? origins_find(&settings->origins, r->origin) : NULL;
    if ((c->local && !settings->proxies.unix_socket) || access_keyed(c->loop->access))
        return true;
    if (r->host != NULL && !names_loopback(r->host)) {
        *ret_refusal =
            (struct refusal){421, "unknown_host", "the Host header does not name this daemon", 0};
        return false;
    }
    if (r->origin == NULL || c->x.cors != NULL || is_own(r->origin, r->host))
        return true;
    *ret_refusal =
        (struct refusal){403, "foreign_origin", "requests of other origins are refused", 0};
    return false;
}

/* ---- keys ------------------------------------------------------------------------------------ */

static bool unauthorized(struct refusal *ret_refusal, const char *detail)
{
    *ret_refusal = (struct refusal){401, "unauthorized", detail, 0};
    return false;
}

/* The token of "Bearer token", or NULL. */
static const char *bearer(const char *authorization, size_t *ret_len)
{
    const char *at = authorization + 6;

    if (strncasecmp(authorization, "Bearer", 6) != 0 || *at != ' ')
        return NULL;
    at += strspn(at, " ");
    *ret_len = strlen(at);
    return *ret_len > 0 && strchr(at, ' ') == NULL ? at : NULL;
}

static bool check_key(struct conn *c, const char *authorization, struct refusal *ret_refusal)
{
    size_t len = 0;
    const char *token = bearer(authorization, &len);
    int64_t wait_us = 0;

    if (token == NULL)
        return unauthorized(ret_refusal, "the Authorization header is not Bearer and a key");
    switch (access_check(c->loop->access, token, len, clock_us(), clock_unix_us(), &c->x.who,
                         &wait_us)) {
    case ACCESS_OK:
        return true;
    case ACCESS_EXPIRED:
        return unauthorized(ret_refusal, "the key has expired");
    case ACCESS_LIMITED:
        *ret_refusal =
            (struct refusal){429, "rate_limited", "the key has spent its requests", wait_us};
        return false;
    case ACCESS_UNKNOWN:
        break;
    }
    return unauthorized(ret_refusal, "the key is not known, or was revoked");
}

/* Who it is without a key. */
static enum role role_of_place(const struct conn *c)
{
    bool proxied = access_settings(c->loop->access)->proxies.unix_socket;

    if (c->local && !proxied && (c->peer == 0 || c->peer == geteuid()))
        return ROLE_ADMIN;
    return !access_keyed(c->loop->access) && is_near(c) ? ROLE_ADMIN : ROLE_NONE;
}

bool admit_role(struct conn *c, const struct http_request *r, enum role needed,
                struct refusal *ret_refusal)
{
    static const char *const details[] = {[ROLE_PREDICT] = "this needs a key of role predict",
                                          [ROLE_ANNOTATE] = "this needs a key of role annotate",
                                          [ROLE_ADMIN] = "this needs a key of role admin"};

    c->x.who = (struct access_who){STORE_KEY_NONE, ROLE_NONE};
    if (needed == ROLE_METRICS)
        needed = access_settings(c->loop->access)->metrics_open ? ROLE_NONE : ROLE_PREDICT;
    if (needed == ROLE_NONE)
        return true;
    if (r->authorization != NULL && access_keyed(c->loop->access)) {
        if (!check_key(c, r->authorization, ret_refusal))
            return false;
    } else {
        c->x.who.role = role_of_place(c);
        if (c->x.who.role == ROLE_NONE)
            return unauthorized(ret_refusal,
                                "a key is needed: send it as Authorization: Bearer ..");
    }
    if (c->x.who.role >= needed)
        return true;
    *ret_refusal = (struct refusal){403, "forbidden", details[needed], 0};
    return false;
}

bool admit_still(const struct conn *c)
{
    if (c->x.route->role == ROLE_NONE)
        return true;
    if (c->x.who.key == STORE_KEY_NONE) /* the first key may have come meanwhile */
        return role_of_place(c) != ROLE_NONE;
    return access_stands(c->loop->access, &c->x.who, clock_unix_us());
}

/* ---- what answers say ------------------------------------------------------------------------ */

void admit_problem(const struct refusal *refusal, struct api_problem *ret_problem, char *ret_lines,
                   size_t lines_bytes)
{
    api_problem_set(ret_problem, refusal->status, refusal->code, "", "%s", refusal->detail);
    ret_lines[0] = '\0';
    if (refusal->status == 401)
        snprintf(ret_lines, lines_bytes, "WWW-Authenticate: Bearer realm=\"learnd\"\r\n");
    if (refusal->status == 429)
        snprintf(ret_lines, lines_bytes, "Retry-After: %lld\r\n",
                 (long long)(refusal->wait_us + 999999) / 1000000);
}

void admit_lines(const struct exchange *x, const char *extra, char ret_lines[ADMIT_LINES_BYTES])
{
    const bool keeps = extra != NULL && strstr(extra, "Cache-Control:") != NULL;
    char cors[512] = "";
    size_t own;

    if (access_settings(x->conn->loop->access)->origins.len > 0) /* the answer depends on it */
        snprintf(cors, sizeof cors, "Vary: Origin\r\n%s%s%s",
                 x->cors != NULL ? "Access-Control-Allow-Origin: " : "",
                 x->cors != NULL ? x->cors : "",
                 x->cors != NULL
                     ? "\r\nAccess-Control-Expose-Headers: X-Request-Id, Retry-After, Location\r\n"
                     : "");
    access_log_headers(x, ret_lines, ADMIT_LINES_BYTES);
    own = strlen(ret_lines);
    snprintf(ret_lines + own, ADMIT_LINES_BYTES - own,
             "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n%s%s%s",
             keeps ? "" : "Cache-Control: no-store\r\n", cors, extra != NULL ? extra : "");
}

void admit_preflight(const struct exchange *x, const char *allow, char *ret_lines,
                     size_t lines_bytes)
{
    ret_lines[0] = '\0';
    if (x->cors != NULL)
        snprintf(ret_lines, lines_bytes,
                 "Access-Control-Allow-Methods: %s\r\n"
                 "Access-Control-Allow-Headers: Authorization, Content-Type, Idempotency-Key, "
                 "Last-Event-ID, traceparent\r\n"
                 "Access-Control-Max-Age: 600\r\n",
                 allow);
}
