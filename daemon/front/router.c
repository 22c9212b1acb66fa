/* router.c -- see router.h. A linear walk: there are about twenty routes, and a compare fails in
 * its first bytes. */
#include "daemon/front/router.h"

#include <stdio.h>
#include <string.h>

/* Compares a path with a pattern and takes its parameters. */
static bool match(const char *pattern, const char *path,
                  char params[ROUTE_PARAMS_MAX][ROUTE_PARAM_BYTES])
{
    uint32_t param = 0;

    while (*pattern != '\0') {
        size_t len;

        if (strncmp(pattern, "{}", 2) != 0) {
            if (*pattern++ != *path++)
                return false;
            continue;
        }
        len = strcspn(path, "/");
        if (len == 0 || len >= ROUTE_PARAM_BYTES || param == ROUTE_PARAMS_MAX)
            return false;
        memcpy(params[param], path, len);
        if (http_percent_decode(params[param], len, false, &len) != 0)
            return false;
        params[param++][len] = '\0';
        pattern += 2;
        path += strcspn(path, "/");
    }
    return *path == '\0';
}

static void allow(struct route_match *m, const char *method)
{
    size_t len = strlen(m->allow);

    if (strstr(m->allow, method) != NULL)
        return;
    snprintf(m->allow + len, sizeof m->allow - len, "%s%s%s", len > 0 ? ", " : "", method,
             strcmp(method, "GET") == 0 ? ", HEAD" : "");
}

void router_find(const struct route *routes, size_t routes_len, const char *method,
                 const char *path, struct route_match *ret_match)
{
    const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;

    ret_match->route = NULL;
    ret_match->path_known = false;
    ret_match->allow[0] = '\0';
    for (size_t i = 0; i < routes_len; i++) {
        if (!match(routes[i].pattern, path, ret_match->params))
            continue;
        if (strcmp(routes[i].method, wanted) == 0) {
            ret_match->route = &routes[i];
            return;
        }
        ret_match->path_known = true;
        allow(ret_match, routes[i].method);
    }
}

enum metrics_class route_class(const struct route *r)
{
    if (r == NULL)
        return METRICS_NO_ROUTE;
    if (r->role == ROLE_NONE || r->role == ROLE_METRICS)
        return METRICS_ABOUT;
    if (strcmp(r->method, "GET") == 0)
        return METRICS_READ;
    if (r->role == ROLE_PREDICT)
        return METRICS_ASK;
    return strcmp(r->pattern, "/v1/feedback") == 0 ? METRICS_TEACH : METRICS_MANAGE;
}
