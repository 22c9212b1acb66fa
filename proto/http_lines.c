/* http_lines.c -- see http_lines.h. */
#include "proto/http_lines.h"

#include <string.h>

/* RFC 9110 5.6.2 */
static bool is_token(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static const char *line_end(struct http_lines *l)
{
    if (!l->cr)
        return "a line does not end in CR LF";
    l->cr = l->space = false;
    if (l->at == HTTP_LINE_NAME)
        return "a header has no colon";
    if (l->at != HTTP_LINE_BEFORE && l->at != HTTP_LINE_LAST)
        l->at = HTTP_LINE_START;
    return NULL;
}

static const char *check_byte(struct http_lines *l, char c)
{
    switch (l->at) {
    case HTTP_LINE_BEFORE:
        l->at = HTTP_LINE_REQUEST;
        return NULL;
    case HTTP_LINE_REQUEST:
        if (c == ' ' && l->space)
            return "the request line has more than single spaces";
        l->space = c == ' ';
        return NULL;
    case HTTP_LINE_START:
        if (c == ' ' || c == '\t')
            return "a header is folded over several lines";
        l->at = HTTP_LINE_NAME;
        return is_token(c) ? NULL : "a header's name has what no name may have";
    case HTTP_LINE_NAME:
        if (c == ':')
            l->at = HTTP_LINE_VALUE;
        return c == ':' || is_token(c) ? NULL : "a header's name has what no name may have";
    case HTTP_LINE_VALUE:
    case HTTP_LINE_LAST:
        break;
    }
    return NULL;
}

const char *http_lines_check(struct http_lines *l, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const char *wrong = NULL;

        if (bytes[i] == '\n') {
            wrong = line_end(l);
        } else if (l->cr) {
            wrong = "a CR stands alone";
        } else if (bytes[i] == '\r') {
            l->cr = true;
            if (l->at == HTTP_LINE_START)
                l->at = HTTP_LINE_LAST;
        } else {
            wrong = check_byte(l, bytes[i]);
        }
        if (wrong != NULL)
            return wrong;
    }
    return NULL;
}

bool http_lines_ended(const struct http_lines *l)
{
    return l->at == HTTP_LINE_LAST;
}
