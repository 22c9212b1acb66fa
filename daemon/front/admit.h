/* admit.h -- may this request in? From which page, over which connection, with which key. Private
 * to daemon/front; on the loop's thread.
 */
#ifndef LEARND_ADMIT_H
#define LEARND_ADMIT_H

#include "daemon/front/conn.h"

enum { ADMIT_LINES_BYTES = 2048, ADMIT_ADDRESS_BYTES = 48 };

/* At accept: notes who is at the other end. */
void admit_peer(struct conn *conn);
/* Host and Origin. False: *ret_refusal says why not. Notes an origin of the list in the exchange.
 */
bool admit_origin(struct conn *conn, const struct http_request *request,
                  struct refusal *ret_refusal);
/* Whose request it is, and whether they may call what needs this role. */
bool admit_role(struct conn *conn, const struct http_request *request, enum role needed,
                struct refusal *ret_refusal);
/* Could the one whose request is under way still make it? For what goes on for long. */
bool admit_still(const struct conn *conn);

/* The problem of a refusal, with the lines that go with it: WWW-Authenticate, Retry-After. */
void admit_problem(const struct refusal *refusal, struct api_problem *ret_problem, char *ret_lines,
                   size_t lines_bytes);
/* The header lines of every answer: the request id and trace, what keeps a browser from guessing
 * and from keeping, who may read it elsewhere, then extra (NULL: none). */
void admit_lines(const struct exchange *x, const char *extra, char ret_lines[ADMIT_LINES_BYTES]);
/* What an OPTIONS of an allowed origin is told beside Allow; "" for others. allow: the methods. */
void admit_preflight(const struct exchange *x, const char *allow, char *ret_lines,
                     size_t lines_bytes);
/* The client's address, as a trusted proxy wrote it or as it is; "unix". */
void admit_address(const struct exchange *x, char ret_text[ADMIT_ADDRESS_BYTES]);

#endif
