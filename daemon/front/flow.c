/* flow.c -- answers without end: exchange_flow_*, see exchange.h.
 *
 * The head says that the connection closes behind the answer, and the exchange stays under way
 * until it ends; so nothing else on the connection waits for it. The socket's own buffer is made
 * small: what it holds is lost to a client that is dropped, and it hides for how long nothing has
 * been taken.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/front/access_log.h"
#include "daemon/front/admit.h"
#include "daemon/metrics.h"

enum { HEAD_BYTES = ADMIT_LINES_BYTES + 256 };

struct piece {
    uv_write_t write;
    struct conn *conn;
    char *body; /* owned, from api_buffer; NULL: none */
    char head[HEAD_BYTES];
};

static void on_written(uv_write_t *write, int status)
{
    struct piece *p = (struct piece *)write;
    struct conn *c = p->conn;

    api_free(p->body);
    free(p);
    conn_written(c, status);
    if (c->x.flowing && c->x.taken != NULL)
        c->x.taken(c->x.gone_ud);
}

/* Writes head and body, of which either may be empty. Takes p. */
static int send_piece(struct conn *c, struct piece *p, size_t head, size_t body)
{
    uv_buf_t bufs[2] = {uv_buf_init(p->head, (unsigned)head), uv_buf_init(p->body, (unsigned)body)};
    int rc;

    p->conn = c;
    if (c->writing++ == 0)
        c->since_us = clock_us();
    rc = uv_write(&p->write, &c->io.stream, bufs, body > 0 ? 2 : 1, on_written);
    if (rc != 0) {
        c->writing--;
        api_free(p->body);
        free(p);
    }
    return rc;
}

int exchange_flow_begin(struct exchange *x, const char *content_type, const char *extra_headers,
                        void (*taken)(void *ud), bool *ret_open)
{
    struct conn *c = x->conn;
    struct piece *p = calloc(1, sizeof *p);
    int kernel_bytes = LIMIT_EVENT_KERNEL_BYTES, rc;
    char lines[ADMIT_LINES_BYTES];
    size_t head;

    if (p == NULL)
        return -ENOMEM;
    x->in_chunks = exchange_request(x)->takes_chunks;
    admit_lines(x, extra_headers, lines);
    head = http_write_stream_head(p->head, sizeof p->head, content_type, x->in_chunks, lines);
    if (head == 0) {
        free(p);
        return -ENOSPC;
    }
    uv_send_buffer_size(&c->io.handle, &kernel_bytes); /* if it fails the usual size serves too */
    rc = send_piece(c, p, head, 0);
    if (rc != 0)
        return rc;
    metrics_answer(route_class(x->route), 200, clock_us() - x->started_us);
    access_log_answer(x, 200, 0);
    x->keep_alive = false;
    x->taken = taken;
    *ret_open = x->flowing = !x->head_only;
    if (x->head_only)
        conn_answered(c);
    return 0;
}

int exchange_flow_write(struct exchange *x, struct api_buffer *bytes)
{
    size_t len = bytes->len, head = 0, body = 0;
    struct piece *p;

    if (len == 0 && bytes->rc == 0)
        return 0;
    if (x->in_chunks)
        api_buffer_add(bytes, "\r\n", 2);
    p = calloc(1, sizeof *p);
    if (p == NULL || bytes->rc != 0) {
        free(p);
        api_buffer_done(bytes);
        return -ENOMEM;
    }
    if (x->in_chunks)
        head = (size_t)snprintf(p->head, sizeof p->head, "%zx\r\n", len);
    p->body = api_buffer_take(bytes, &body);
    return send_piece(x->conn, p, head, body);
}

size_t exchange_flow_unsent(const struct exchange *x)
{
    return uv_stream_get_write_queue_size(&x->conn->io.stream);
}

void exchange_flow_end(struct exchange *x)
{
    struct conn *c = x->conn;
    struct piece *p = x->in_chunks ? calloc(1, sizeof *p) : NULL;

    x->flowing = false;
    conn_answered(c);
    if (p != NULL)
        send_piece(c, p, (size_t)snprintf(p->head, sizeof p->head, "0\r\n\r\n"), 0);
    if (c->writing == 0 || uv_stream_get_write_queue_size(&c->io.stream) > 0)
        conn_close(c);
}

void exchange_flow_drop(struct exchange *x)
{
    conn_close(x->conn);
}
