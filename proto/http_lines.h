/* http_lines.h -- the shape of a request's head, held more strictly than llhttp does: lines end in
 * CR LF and nothing else, a header is not folded over several, a name is a token up to its colon,
 * and single spaces part the request line. Two programs that read such a head differently are what
 * smuggling lives on. Private to proto/; pure.
 */
#ifndef LEARND_HTTP_LINES_H
#define LEARND_HTTP_LINES_H

#include <stdbool.h>
#include <stddef.h>

enum http_line {
    HTTP_LINE_BEFORE, /* empty lines may stand before a request */
    HTTP_LINE_REQUEST,
    HTTP_LINE_START, /* of a header, or of the empty line */
    HTTP_LINE_NAME,
    HTTP_LINE_VALUE,
    HTTP_LINE_LAST, /* the empty line has begun */
};

/* Zeroed for each request. */
struct http_lines {
    enum http_line at;
    bool cr, space; /* the byte before was one */
};

/* The next bytes of a head; may go a byte beyond it. NULL: good so far, else what is wrong. */
const char *http_lines_check(struct http_lines *lines, const char *bytes, size_t len);
/* llhttp says that the head is over: is it? */
bool http_lines_ended(const struct http_lines *lines);

#endif
