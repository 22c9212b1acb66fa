/* page.c -- the web page at / and its files under /console.
 *
 * Everything is bytes of the program, plain and packed, so an answer costs a lookup in a table of
 * some twenty names. A browser keeps what it has and asks each time whether that is still it
 * (no-cache with an ETag): after an upgrade no old module meets a new one, and an unchanged page
 * costs one small 304 a file.
 *
 * The policy lets the page load from here alone and run nothing that is not a file of it; texts
 * that were sent by anybody are shown in it, so what they say must stay text.
 */
#include "daemon/front/page.h"

#include <stdio.h>
#include <string.h>

#include "daemon/front/handlers.h"

#define POLICY                                                                                     \
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; "           \
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "              \
    "frame-ancestors 'none'; require-trusted-types-for 'script'\r\n"

static const struct page_file *find(const char *name)
{
    for (size_t i = 0; i < page_files_len; i++)
        if (strcmp(page_files[i].name, name) == 0)
            return &page_files[i];
    return NULL;
}

/* Does the client hold this file? The hash is enough to know it by, weak or strong, packed or not.
 */
static bool held(const char *if_none_match, const struct page_file *file)
{
    return if_none_match != NULL &&
           (strcmp(if_none_match, "*") == 0 || strstr(if_none_match, file->hash) != NULL);
}

static void send_file(struct exchange *x, const struct page_file *file)
{
    const struct http_request *r = exchange_request(x);
    bool packed = http_accepts(r->accept_encoding, "gzip");
    char lines[640];

    snprintf(lines, sizeof lines,
             "ETag: \"%s%s\"\r\nCache-Control: no-cache\r\nVary: Accept-Encoding\r\n%s%s",
             file->hash, packed ? "-gzip" : "", packed ? "Content-Encoding: gzip\r\n" : "", POLICY);
    if (held(r->if_none_match, file))
        exchange_static(x, 304, NULL, NULL, 0, lines);
    else if (packed)
        exchange_static(x, 200, file->type, file->gzip, file->gzip_bytes, lines);
    else
        exchange_static(x, 200, file->type, file->plain, file->plain_bytes, lines);
}

void handle_page(struct exchange *x)
{
    send_file(x, find("index.html"));
}

void handle_page_file(struct exchange *x)
{
    const struct page_file *file = find(exchange_param(x, 0));
    struct api_problem problem;

    if (file != NULL) {
        send_file(x, file);
        return;
    }
    api_problem_set(&problem, 404, "not_found", "", "the web page has no file of this name");
    exchange_problem(x, &problem);
}
