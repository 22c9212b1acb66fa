/* router.h -- which handler answers which method and path. The table itself is routes.c. */
#ifndef LEARND_ROUTER_H
#define LEARND_ROUTER_H

#include "daemon/front/exchange.h"
#include "daemon/metrics.h"

enum {
    ROUTE_PARAMS_MAX = 3,
    ROUTE_PARAM_BYTES = 3 * API_NAME_BYTES_MAX + 1, /* the longest name, each byte of it escaped */
};

/* Who may call; each may what those before it may. METRICS: as settings say, predict or none. */
enum role {
    ROLE_NONE = API_ROLE_NONE,
    ROLE_PREDICT = API_ROLE_PREDICT,
    ROLE_ANNOTATE = API_ROLE_ANNOTATE,
    ROLE_ADMIN = API_ROLE_ADMIN,
    ROLE_METRICS
};

/* Hooks of a body that is taken as it comes (application/x-ndjson). on_chunk: non-zero ends the
 * stream; then the exchange has been answered. on_end: the body is complete. on_gone runs if the
 * client leaves. */
struct route_stream {
    void (*on_begin)(struct exchange *x);
    int (*on_chunk)(struct exchange *x, const char *bytes, size_t len);
    void (*on_end)(struct exchange *x);
};

struct route {
    const char *method;
    const char *pattern; /* "/v1/models/{}/labels": {} is one segment, decoded */
    void (*handler)(struct exchange *x);
    enum role role;
    size_t body_bytes_max; /* 0: no body */
    const struct route_stream *stream;
};

struct route_match {
    const struct route *route; /* NULL: none */
    bool path_known;           /* another method would have matched */
    char allow[64];            /* the Allow header's value, then */
    char params[ROUTE_PARAMS_MAX][ROUTE_PARAM_BYTES];
};

/* What kind of request a route's are; NULL: a path that nothing answers. */
enum metrics_class route_class(const struct route *route);

/* HEAD is answered by GET's handler. */
void router_find(const struct route *routes, size_t routes_len, const char *method,
                 const char *path, struct route_match *ret_match);

#endif
