/* api_buffer.c -- growing bytes and proto's allocator.
 *
 * Room doubles, so that an answer of n bytes costs log n copies; there is no realloc because the
 * allocator that tests put in place (and jansson's) is a pair of take and give.
 */
#include "proto/api_buffer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/json.h"

enum { ROOM_FIRST = 512 };

static void *(*alloc_take)(size_t) = malloc;
static void (*alloc_give)(void *) = free;

void api_alloc_set(void *(*take)(size_t bytes), void (*give)(void *memory))
{
    alloc_take = take;
    alloc_give = give;
    json_alloc_set(take, give);
}

void *api_alloc(size_t bytes)
{
    return alloc_take(bytes);
}

void api_free(void *memory)
{
    if (memory)
        alloc_give(memory);
}

void api_buffer_reserve(struct api_buffer *buffer, size_t bytes_len)
{
    if (buffer->rc < 0 || buffer->room - buffer->len >= bytes_len)
        return;
    if (bytes_len > SIZE_MAX / 4 - buffer->len) {
        buffer->rc = -ENOMEM;
        return;
    }

    size_t room = buffer->room ? buffer->room : ROOM_FIRST;
    while (room - buffer->len < bytes_len)
        room *= 2;
    char *bytes = api_alloc(room);
    if (!bytes) {
        buffer->rc = -ENOMEM;
        return;
    }
    if (buffer->len)
        memcpy(bytes, buffer->bytes, buffer->len);
    api_free(buffer->bytes);
    buffer->bytes = bytes;
    buffer->room = room;
}

void api_buffer_add(struct api_buffer *buffer, const void *bytes, size_t bytes_len)
{
    api_buffer_reserve(buffer, bytes_len);
    if (buffer->rc < 0 || bytes_len == 0)
        return;
    memcpy(buffer->bytes + buffer->len, bytes, bytes_len);
    buffer->len += bytes_len;
}

void api_buffer_add_string(struct api_buffer *buffer, const char *string)
{
    api_buffer_add(buffer, string, strlen(string));
}

void api_buffer_addf(struct api_buffer *buffer, const char *format, ...)
{
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (len < 0) {
        buffer->rc = -ENOMEM;
        return;
    }
    api_buffer_reserve(buffer, (size_t)len + 1);
    if (buffer->rc != 0)
        return;
    va_start(args, format);
    vsnprintf(buffer->bytes + buffer->len, (size_t)len + 1, format, args);
    va_end(args);
    buffer->len += (size_t)len;
}

void api_buffer_reset(struct api_buffer *buffer)
{
    buffer->len = 0;
    buffer->rc = 0;
}

char *api_buffer_take(struct api_buffer *buffer, size_t *ret_bytes)
{
    if (buffer->rc < 0 || !buffer->bytes)
        return NULL;
    char *bytes = buffer->bytes;
    *ret_bytes = buffer->len;
    *buffer = (struct api_buffer)API_BUFFER_INIT;
    return bytes;
}

void api_buffer_done(struct api_buffer *buffer)
{
    api_free(buffer->bytes);
    *buffer = (struct api_buffer)API_BUFFER_INIT;
}
