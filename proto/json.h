/* json.h -- JSON, read and written; the only door to jansson.
 *
 * Reading gives a tree that is freed as a whole; values inside it are borrowed until then. Getters
 * take NULL and the wrong kind and answer "nothing", so a chain needs one check at its end:
 *
 *     struct json_value *root;
 *     int rc = json_parse(body, body_bytes, NULL, &root, NULL);
 *     if (rc < 0)
 *         return rc;
 *     const struct json_value *results = json_get(root, "results");
 *     for (size_t i = 0; i < json_len(results); i++)
 *         printf("%s %g\n", json_text(json_get(json_at(results, i), "label"), NULL),
 *                json_number(json_get(json_at(results, i), "score"), 0.0));
 *     json_free(root);
 *
 * Writing appends to a struct api_buffer. Commas come by themselves, and so does an invalid byte's
 * replacement by U+FFFD: what leaves is always UTF-8. NaN and infinities leave as null.
 *
 *     struct api_buffer b = API_BUFFER_INIT;
 *     json_open_object(&b);
 *     json_write_key(&b, "inputs");
 *     json_open_array(&b);
 *     json_write_string(&b, "where is my card?");
 *     json_close_array(&b);
 *     json_write_key(&b, "top_k");
 *     json_write_int(&b, 3);
 *     json_close_object(&b);       {"inputs":["where is my card?"],"top_k":3}
 *     if (b.rc == 0) send(b.bytes, b.len);
 *     api_buffer_done(&b);
 *
 * Threads: any; a tree and a buffer belong to one thread at a time.
 */
#ifndef LEARND_JSON_H
#define LEARND_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/api_buffer.h"

struct json_value; /* opaque; never allocated by the caller */

enum json_kind {
    JSON_KIND_NONE, /* a NULL pointer: not there */
    JSON_KIND_NULL,
    JSON_KIND_BOOL,
    JSON_KIND_INT, /* a number without fraction or exponent */
    JSON_KIND_REAL,
    JSON_KIND_TEXT,
    JSON_KIND_ARRAY,
    JSON_KIND_OBJECT,
};

/* What a document may cost. jansson spends about 100 bytes on an empty list of two, so the count
 * matters more than the size. Checked before anything is allocated. */
struct json_limits {
    size_t bytes_max;
    uint32_t depth_max;      /* nested lists and objects; at most 2,000 */
    uint32_t containers_max; /* lists and objects in all */
    uint32_t commas_max;     /* values beyond the first of each list or object */
};

/* Why a document was refused. `code` is a word of API.md; `detail` says where, never what was sent.
 */
struct json_problem {
    const char *code; /* malformed_json, invalid_utf8, duplicate_field, out_of_range, too_deep,
                         too_many_values */
    char detail[96];
};

/* One whole document: no NaN or Infinity, no key twice in one object, nothing after it. limits
 * NULL: generous ones, for answers of a server one trusts. problem may be NULL. 0; -EINVAL with
 * *problem; -E2BIG beyond a limit, with *problem; -ENOMEM. The caller ends *ret_value with
 * json_free. */
int json_parse(const char *bytes, size_t bytes_len, const struct json_limits *limits,
               struct json_value **ret_value, struct json_problem *problem);
/* Only for what json_parse gave. NULL is fine. */
void json_free(struct json_value *value);

enum json_kind json_kind(const struct json_value *value);
/* By path: "results[0].labels[1].score"; "" is the value itself. NULL: not there. Keys with '.' or
 * '[': json_member. */
const struct json_value *json_get(const struct json_value *value, const char *path);
/* Of an object, by key. */
const struct json_value *json_member(const struct json_value *value, const char *key);
/* Items of a list or members of an object; 0 for anything else. */
size_t json_len(const struct json_value *value);
/* Of a list. */
const struct json_value *json_at(const struct json_value *value, size_t index);
/* UTF-8, NUL-terminated, borrowed; NULL if it is not a text. A text may hold NUL: ret_bytes (may be
 * NULL) tells. */
const char *json_text(const struct json_value *value, size_t *ret_bytes);
/* `fallback` if it is not of that kind. json_number takes both kinds of numbers. */
double json_number(const struct json_value *value, double fallback);
int64_t json_int(const struct json_value *value, int64_t fallback);
bool json_bool(const struct json_value *value, bool fallback);
/* Every member of an object, in the order written. Non-zero from fn stops and is returned. Keys
 * hold no NUL. */
typedef int json_member_fn(void *ud, const char *key, const struct json_value *value);
int json_each(const struct json_value *value, json_member_fn *fn, void *ud);

/* For api_alloc_set, which see: jansson's memory comes from there too. */
void json_alloc_set(void *(*take)(size_t bytes), void (*give)(void *memory));

void json_open_object(struct api_buffer *buffer);
void json_close_object(struct api_buffer *buffer);
void json_open_array(struct api_buffer *buffer);
void json_close_array(struct api_buffer *buffer);
void json_write_key(struct api_buffer *buffer, const char *key);
void json_write_text(struct api_buffer *buffer, const char *bytes,
                     size_t bytes_len); /* NULL: null */
void json_write_string(struct api_buffer *buffer,
                       const char *string); /* up to its NUL; NULL: null */
void json_write_int(struct api_buffer *buffer, int64_t number);
void json_write_number(struct api_buffer *buffer,
                       double number); /* shortest that reads back the same */
void json_write_float(struct api_buffer *buffer,
                      float number); /* shortest that reads back as this float */
void json_write_bool(struct api_buffer *buffer, bool truth);
void json_write_null(struct api_buffer *buffer);
/* Any tree, compact, members in their order: for passing on what was read. */
void json_write_value(struct api_buffer *buffer, const struct json_value *value);
/* Bytes of the well-formed UTF-8 sequence (Unicode 15, table 3-7) that begins at bytes, 1 .. 4; 0
 * if none does. */
size_t json_utf8_sequence(const char *bytes, size_t bytes_left);
/* Would json_write_text pass it on as it is? */
bool json_is_utf8(const char *bytes, size_t bytes_len);
/* What the caller knows to be one whole JSON value. */
void json_write_raw(struct api_buffer *buffer, const char *json, size_t json_bytes);

#endif
