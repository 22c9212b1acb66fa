/* api_read.h -- private to proto's api_*.c: from a JSON value to the fields of a request.
 *
 * A request says its fields in a table: name, how to read it, where it goes, its bounds.
 * api_read_object walks the object that was sent against the table and refuses what is not in it.
 * The reader carries the path to where it is, so that every refusal names its field.
 *
 * Memory: one arena a request. It owns the parsed document too, so texts are borrowed from there,
 * not copied.
 */
#ifndef LEARND_API_READ_H
#define LEARND_API_READ_H

#include "proto/api.h"
#include "proto/json.h"

struct api_block;

struct api_arena {
    struct api_block *blocks;
    struct json_value *document;
};

struct api_reader {
    struct api_arena arena;
    void *request;               /* what is being filled; zeroed */
    struct api_problem *problem; /* where a refusal goes */
    const char *many_code; /* how a body with far too many values is called: too_many_items .. */
    const char *many_field;
    char path[96]; /* of the value that is being read */
};

struct api_field;
typedef int api_read_fn(struct api_reader *reader, const struct json_value *value,
                        const struct api_field *field, void *target);

struct api_field {
    const char *name;
    api_read_fn *read;
    size_t offset; /* of the destination in target */
    double min, max;
};

/* Starts a request of request_bytes, which api_reader_close gives or frees. many_code NULL:
 * too_many_values. */
int api_reader_open(struct api_reader *reader, struct api_problem *problem, size_t request_bytes,
                    const char *many_code, const char *many_field);
/* rc as the reading went: 0 gives the request, which now owns its arena; else all is freed. Returns
 * rc. */
int api_reader_close(struct api_reader *reader, int rc, void **ret_request);
/* Frees a request with its arena. NULL is fine. */
void api_request_free(void *request);
/* Zeroed; lives as long as the request. NULL: no memory, and the problem says so. */
void *api_take(struct api_reader *reader, size_t bytes);

/* Parses the body, which must be one object. 0, -EINVAL, -ENOMEM, with the problem filled. */
int api_read_body(struct api_reader *reader, const char *body, size_t body_bytes,
                  const struct json_value **ret_root);

/* -EINVAL with status 422 (api_refuse), and reader->path as the field. */
int api_refuse(struct api_reader *reader, const char *code, const char *detail, ...)
    __attribute__((format(printf, 3, 4)));
/* The same for a member of the object that is being read. */
int api_refuse_field(struct api_reader *reader, const char *name, const char *code,
                     const char *detail, ...) __attribute__((format(printf, 4, 5)));
int api_refuse_memory(struct api_problem *problem);

/* The path grows by ".name" or "[index]"; returns the length to go back to with api_path_back. */
size_t api_path_name(struct api_reader *reader, const char *name);
size_t api_path_index(struct api_reader *reader, size_t index);
void api_path_back(struct api_reader *reader, size_t length);

/* Every member through its table row; ret_seen (may be NULL) gets bit i for row i. fields_len
 * <= 32. */
int api_read_object(struct api_reader *reader, const struct json_value *object,
                    const struct api_field *fields, size_t fields_len, void *target,
                    uint32_t *ret_seen);

/* Readers for tables. The destination's type is in brackets. */
api_read_fn api_read_bool;          /* (bool) */
api_read_fn api_read_uint;          /* (uint32_t) whole, min .. max */
api_read_fn api_read_uint64;        /* (uint64_t) whole, min .. max <= 2^53 - 1 */
api_read_fn api_read_number;        /* (double) min .. max */
api_read_fn api_read_model;         /* (const char *) 1 .. 128 bytes */
api_read_fn api_read_label;         /* (const char *) by api_name_valid */
api_read_fn api_read_optional_name; /* (const char *) the same, or empty */
api_read_fn api_read_text;          /* (struct api_text) not empty */
api_read_fn api_read_request_id;    /* (const char *) */
api_read_fn api_read_version;       /* (struct api_version) */
api_read_fn api_read_labels;        /* (struct api_names) 1 .. API_LABELS_MAX, none twice */
api_read_fn api_read_label_set;     /* (struct api_names) the same, but also none: names not NULL */
api_read_fn api_read_truncate;      /* (enum api_truncate) */
api_read_fn api_read_keep;          /* (const struct json_value *) any, for later */

api_read_fn api_read_vector; /* (struct api_vector) of unit length */

struct api_vector {
    const float *values; /* NULL: not given */
    uint32_t len;
};
struct api_text {
    const char *bytes;
    size_t len;
};
struct api_names {
    const char *const *names;
    uint32_t len;
};

/* inputs of classify and embed: a text, texts, or objects. */
struct api_inputs {
    const struct api_input *inputs;
    uint32_t len;
    bool objects;
    bool alone; /* one text, not a list */
};
api_read_fn api_read_inputs; /* (struct api_inputs) */
void api_inputs_field(const struct api_inputs *inputs, uint32_t index, char ret_field[96]);

/* A text value's bytes, or a refusal. NUL is allowed. */
int api_take_text(struct api_reader *reader, const struct json_value *value,
                  struct api_text *ret_text);
/* words: NULL-terminated. *ret_index of the one sent, else invalid_value. */
int api_read_word(struct api_reader *reader, const struct json_value *value,
                  const char *const words[], int *ret_index);

#endif
