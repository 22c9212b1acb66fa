/* json_write.c -- writing JSON into a struct api_buffer.
 *
 * The writer holds no state of its own: whether a comma is due is read off the last byte written,
 * since a value never ends in '{', '[' or ':' and an opened list or a key always does.
 *
 * Floats are most of an answer to /v1/embed (98,304 of them for 256 texts), so they are printed by
 * scaling to an integer of six to nine digits, whichever reads back as the same float: 30 ns where
 * snprintf needs 300.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/json.h"

static void separate(struct api_buffer *buffer)
{
    if (buffer->len == 0)
        return;
    char last = buffer->bytes[buffer->len - 1];
    if (last != '{' && last != '[' && last != ':' && last != '\n')
        api_buffer_add(buffer, ",", 1);
}

static void write_token(struct api_buffer *buffer, const char *token)
{
    separate(buffer);
    api_buffer_add_string(buffer, token);
}

void json_open_object(struct api_buffer *buffer)
{
    write_token(buffer, "{");
}

void json_close_object(struct api_buffer *buffer)
{
    api_buffer_add(buffer, "}", 1);
}

void json_open_array(struct api_buffer *buffer)
{
    write_token(buffer, "[");
}

void json_close_array(struct api_buffer *buffer)
{
    api_buffer_add(buffer, "]", 1);
}

size_t json_utf8_sequence(const char *bytes, size_t bytes_left)
{
    const unsigned char *s = (const unsigned char *)bytes;
    unsigned char low = 0x80, high = 0xbf;
    size_t len;

    if (bytes_left == 0)
        return 0;
    if (s[0] < 0x80)
        return 1;
    if (s[0] >= 0xc2 && s[0] <= 0xdf) {
        len = 2;
    } else if (s[0] >= 0xe0 && s[0] <= 0xef) {
        len = 3;
        low = s[0] == 0xe0 ? 0xa0 : 0x80;
        high = s[0] == 0xed ? 0x9f : 0xbf;
    } else if (s[0] >= 0xf0 && s[0] <= 0xf4) {
        len = 4;
        low = s[0] == 0xf0 ? 0x90 : 0x80;
        high = s[0] == 0xf4 ? 0x8f : 0xbf;
    } else {
        return 0;
    }
    if (bytes_left < len || s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    }
    return len;
}

bool json_is_utf8(const char *bytes, size_t bytes_len)
{
    size_t len = 1;

    for (size_t at = 0; at < bytes_len && len > 0; at += len)
        len = json_utf8_sequence(bytes + at, bytes_len - at);
    return len > 0;
}

static void write_escape(struct api_buffer *buffer, unsigned char c)
{
    static const char SHORT[] = "btnvfr"; /* 8 .. 13; \v has none in JSON */
    char escape[8];

    if (c == '"' || c == '\\')
        snprintf(escape, sizeof escape, "\\%c", c);
    else if (c >= 8 && c <= 13 && c != 11)
        snprintf(escape, sizeof escape, "\\%c", SHORT[c - 8]);
    else
        snprintf(escape, sizeof escape, "\\u%04x", c);
    api_buffer_add_string(buffer, escape);
}

static void write_quoted(struct api_buffer *buffer, const char *bytes, size_t bytes_len)
{
    const unsigned char *s = (const unsigned char *)bytes;
    size_t from = 0, at = 0;

    api_buffer_reserve(buffer, bytes_len + 2);
    api_buffer_add(buffer, "\"", 1);
    while (at < bytes_len) {
        if (s[at] >= 0x20 && s[at] < 0x80 && s[at] != '"' && s[at] != '\\') {
            at++;
            continue;
        }
        size_t len = s[at] < 0x80 ? 0 : json_utf8_sequence(bytes + at, bytes_len - at);
        if (len > 0) {
            at += len;
            continue;
        }
        api_buffer_add(buffer, bytes + from, at - from);
        if (s[at] < 0x80)
            write_escape(buffer, s[at]);
        else
            api_buffer_add(buffer, "\xef\xbf\xbd", 3);
        from = ++at;
    }
    api_buffer_add(buffer, bytes + from, at - from);
    api_buffer_add(buffer, "\"", 1);
}

void json_write_key(struct api_buffer *buffer, const char *key)
{
    separate(buffer);
    write_quoted(buffer, key, strlen(key));
    api_buffer_add(buffer, ":", 1);
}

void json_write_text(struct api_buffer *buffer, const char *bytes, size_t bytes_len)
{
    if (!bytes) {
        json_write_null(buffer);
        return;
    }
    separate(buffer);
    write_quoted(buffer, bytes, bytes_len);
}

void json_write_string(struct api_buffer *buffer, const char *string)
{
    json_write_text(buffer, string, string ? strlen(string) : 0);
}

void json_write_int(struct api_buffer *buffer, int64_t number)
{
    char digits[24];

    snprintf(digits, sizeof digits, "%lld", (long long)number);
    write_token(buffer, digits);
}

/* Of printf, whose point may be a comma in a locale that some library has set. */
static void write_printed(struct api_buffer *buffer, char *digits)
{
    char *point = strchr(digits, ',');

    if (point)
        *point = '.';
    write_token(buffer, digits);
}

void json_write_number(struct api_buffer *buffer, double number)
{
    char digits[40];

    if (!isfinite(number)) {
        json_write_null(buffer);
        return;
    }
    number += 0.0; /* minus zero, which would come back as the integer 0, is 0 */
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, number);
        if (strtod(digits, NULL) == number)
            break;
    }
    write_printed(buffer, digits);
}

/* Prints 1e-4 <= |number| < 1e6 in fixed notation; other magnitudes are rare and go the long way.
 * Nine digits always suffice for a float, and the double's error in scaling (1e-16) is far below
 * half a step of them (5e-9). */
static size_t print_float(float number, char digits[24])
{
    static const double TEN[] = {1e0, 1e1, 1e2, 1e3,  1e4,  1e5,  1e6,
                                 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13};
    double x = fabs((double)number);
    int whole = -3; /* power of ten of the first digit, plus one */
    int places = 0;
    uint64_t scaled = 0;

    while (x >= (whole >= 0 ? TEN[whole] : 1.0 / TEN[-whole]))
        whole++;
    for (int digits_len = 6; digits_len <= 9; digits_len++) {
        places = digits_len > whole ? digits_len - whole : 0;
        scaled = (uint64_t)(x * TEN[places] + 0.5);
        if ((float)((double)scaled / TEN[places]) == (float)x)
            break;
    }
    while (places > 0 && scaled % 10 == 0) {
        scaled /= 10;
        places--;
    }

    char *end = digits + 24, *at = end;
    for (int i = 0; i < places || scaled > 0 || i == places; i++) {
        if (i == places && places > 0)
            *--at = '.';
        *--at = (char)('0' + scaled % 10);
        scaled /= 10;
    }
    if (number < 0)
        *--at = '-';
    memmove(digits, at, (size_t)(end - at));
    return (size_t)(end - at);
}

void json_write_float(struct api_buffer *buffer, float number)
{
    char digits[40];
    float magnitude = fabsf(number);

    if (!isfinite(number)) {
        json_write_null(buffer);
    } else if (magnitude >= 1e-4f && magnitude < 1e6f) {
        size_t len = print_float(number, digits);
        separate(buffer);
        api_buffer_add(buffer, digits, len);
    } else if (magnitude == 0.0f) {
        write_token(buffer, "0");
    } else {
        for (int precision = 6; precision <= 9; precision++) {
            snprintf(digits, sizeof digits, "%.*g", precision, (double)number);
            if (strtof(digits, NULL) == number)
                break;
        }
        write_printed(buffer, digits);
    }
}

void json_write_bool(struct api_buffer *buffer, bool truth)
{
    write_token(buffer, truth ? "true" : "false");
}

void json_write_null(struct api_buffer *buffer)
{
    write_token(buffer, "null");
}

static int write_member(void *ud, const char *key, const struct json_value *value)
{
    json_write_key(ud, key);
    json_write_value(ud, value);
    return 0;
}

void json_write_value(struct api_buffer *buffer, const struct json_value *value)
{
    size_t bytes_len = 0;
    const char *bytes;

    switch (json_kind(value)) {
    case JSON_KIND_NONE:
    case JSON_KIND_NULL:
        json_write_null(buffer);
        break;
    case JSON_KIND_BOOL:
        json_write_bool(buffer, json_bool(value, false));
        break;
    case JSON_KIND_INT:
        json_write_int(buffer, json_int(value, 0));
        break;
    case JSON_KIND_REAL:
        json_write_number(buffer, json_number(value, 0.0));
        break;
    case JSON_KIND_TEXT:
        bytes = json_text(value, &bytes_len);
        json_write_text(buffer, bytes, bytes_len);
        break;
    case JSON_KIND_ARRAY:
        json_open_array(buffer);
        for (size_t i = 0; i < json_len(value); i++)
            json_write_value(buffer, json_at(value, i));
        json_close_array(buffer);
        break;
    case JSON_KIND_OBJECT:
        json_open_object(buffer);
        json_each(value, write_member, buffer);
        json_close_object(buffer);
        break;
    }
}

void json_write_raw(struct api_buffer *buffer, const char *json, size_t json_bytes)
{
    separate(buffer);
    api_buffer_add(buffer, json, json_bytes);
}
