/* api_buffer.h -- growing bytes: what every writer of proto/ appends to.
 *
 * The first failed allocation sticks: rc becomes -ENOMEM, later appends do nothing, and the caller
 * looks once at the end. Start from API_BUFFER_INIT (all zero), end with api_buffer_done or take
 * the bytes.
 *
 * Threads: a buffer belongs to one thread at a time. Never: a limit of its own; the caller bounds
 * what it writes.
 */
#ifndef LEARND_API_BUFFER_H
#define LEARND_API_BUFFER_H

#include <stddef.h>

struct api_buffer {
    char *bytes; /* (len), owned, not NUL-terminated; NULL while nothing was added */
    size_t len;
    size_t room; /* allocated */
    int rc;      /* 0 or -ENOMEM, sticky */
};

#define API_BUFFER_INIT                                                                            \
    {                                                                                              \
        NULL, 0, 0, 0                                                                              \
    }

void api_buffer_add(struct api_buffer *buffer, const void *bytes, size_t bytes_len);
/* Up to its NUL. */
void api_buffer_add_string(struct api_buffer *buffer, const char *string);
/* As printf; of any length. */
void api_buffer_addf(struct api_buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Makes room for bytes_len more without another allocation. */
void api_buffer_reserve(struct api_buffer *buffer, size_t bytes_len);
/* Empty again, memory kept, rc cleared. */
void api_buffer_reset(struct api_buffer *buffer);
/* Gives the bytes to the caller, who ends them with api_free; the buffer is empty again. NULL if rc
 * is set or nothing was added. */
char *api_buffer_take(struct api_buffer *buffer, size_t *ret_bytes);
/* Frees the bytes; the buffer may be used again. */
void api_buffer_done(struct api_buffer *buffer);

/* Where proto's memory comes from, jansson's included; malloc and free unless told otherwise.
 * Called once before the first thread starts; tests fail the n-th allocation with it. The daemon
 * calls it with malloc and free: only then is jansson watched, which else may take exhaustion for
 * bad syntax. */
void api_alloc_set(void *(*take)(size_t bytes), void (*give)(void *memory));
void *api_alloc(size_t bytes); /* NULL: none. Not zeroed. */
void api_free(void *memory);   /* NULL is fine. */

#endif
