/* access_log.h -- a line for each answer, where an operator or the caller's trace asks for it.
 *
 * The setting log-requests: none, sampled (those whose traceparent says so), all. A line has the
 * route's pattern, never its path or query: those hold names and texts. Private to daemon/front;
 * the loop's thread.
 */
#ifndef LEARND_ACCESS_LOG_H
#define LEARND_ACCESS_LOG_H

#include "daemon/front/conn.h"

void access_log_answer(const struct exchange *x, int status, size_t body_bytes);
/* The header lines that every answer of this exchange has, each ending in \r\n, into lines. */
void access_log_headers(const struct exchange *x, char *lines, size_t lines_bytes);

#endif
