/* api_field.c -- the readers of single fields, one for each type that requests have.
 *
 * Each checks the kind first (wrong_type), then the value (out_of_range, invalid_..), and writes
 * its destination only when all is well.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/api_read.h"

static void *destination(const struct api_field *field, void *target)
{
    return (char *)target + field->offset;
}

int api_read_keep(struct api_reader *reader, const struct json_value *value,
                  const struct api_field *field, void *target)
{
    (void)reader;
    *(const struct json_value **)destination(field, target) = value;
    return 0;
}

int api_read_bool(struct api_reader *reader, const struct json_value *value,
                  const struct api_field *field, void *target)
{
    if (json_kind(value) != JSON_KIND_BOOL)
        return api_refuse(reader, "wrong_type", "must be true or false");
    *(bool *)destination(field, target) = json_bool(value, false);
    return 0;
}

static int read_whole(struct api_reader *reader, const struct json_value *value,
                      const struct api_field *field, uint64_t *ret_number)
{
    if (json_kind(value) != JSON_KIND_INT)
        return api_refuse(reader, "wrong_type", "must be a whole number");
    int64_t number = json_int(value, 0);
    if (number < (int64_t)field->min || number > (int64_t)field->max)
        return api_refuse(reader, "out_of_range", "must be between %.0f and %.0f", field->min,
                          field->max);
    *ret_number = (uint64_t)number;
    return 0;
}

int api_read_uint(struct api_reader *reader, const struct json_value *value,
                  const struct api_field *field, void *target)
{
    uint64_t number = 0;

    int rc = read_whole(reader, value, field, &number);
    if (rc == 0)
        *(uint32_t *)destination(field, target) = (uint32_t)number;
    return rc;
}

int api_read_uint64(struct api_reader *reader, const struct json_value *value,
                    const struct api_field *field, void *target)
{
    return read_whole(reader, value, field, destination(field, target));
}

int api_read_number(struct api_reader *reader, const struct json_value *value,
                    const struct api_field *field, void *target)
{
    enum json_kind kind = json_kind(value);

    if (kind != JSON_KIND_INT && kind != JSON_KIND_REAL)
        return api_refuse(reader, "wrong_type", "must be a number");
    double number = json_number(value, 0.0);
    if (!(number >= field->min && number <= field->max))
        return api_refuse(reader, "out_of_range", "must be between %g and %g", field->min,
                          field->max);
    *(double *)destination(field, target) = number;
    return 0;
}

int api_take_text(struct api_reader *reader, const struct json_value *value,
                  struct api_text *ret_text)
{
    struct api_text text = {NULL, 0};

    text.bytes = json_text(value, &text.len);
    if (!text.bytes)
        return api_refuse(reader, "wrong_type", "must be a text");
    *ret_text = text;
    return 0;
}

int api_read_text(struct api_reader *reader, const struct json_value *value,
                  const struct api_field *field, void *target)
{
    struct api_text text = {NULL, 0};

    int rc = api_take_text(reader, value, &text);
    if (rc < 0)
        return rc;
    if (text.len == 0)
        return api_refuse(reader, "empty_text", "the text is empty");
    *(struct api_text *)destination(field, target) = text;
    return 0;
}

int api_read_model(struct api_reader *reader, const struct json_value *value,
                   const struct api_field *field, void *target)
{
    struct api_text text = {NULL, 0};

    int rc = api_take_text(reader, value, &text);
    if (rc < 0)
        return rc;
    /* A name that no model can have is an unknown model, which is the daemon's to say. */
    if (text.len == 0 || text.len > API_NAME_BYTES_MAX || memchr(text.bytes, '\0', text.len))
        return api_refuse(reader, "invalid_name", "must be the name of a model, 1 to %d bytes",
                          API_NAME_BYTES_MAX);
    *(const char **)destination(field, target) = text.bytes;
    return 0;
}

int api_read_label(struct api_reader *reader, const struct json_value *value,
                   const struct api_field *field, void *target)
{
    struct api_text text = {NULL, 0};

    int rc = api_take_text(reader, value, &text);
    if (rc < 0)
        return rc;
    if (!api_name_valid(text.bytes, text.len))
        return api_refuse(reader, "invalid_name",
                          "must be 1 to %d bytes without control characters", API_NAME_BYTES_MAX);
    *(const char **)destination(field, target) = text.bytes;
    return 0;
}

int api_read_optional_name(struct api_reader *reader, const struct json_value *value,
                           const struct api_field *field, void *target)
{
    size_t bytes = 1;
    const char *text = json_text(value, &bytes);

    if (text && bytes == 0) {
        *(const char **)destination(field, target) = text;
        return 0;
    }
    return api_read_label(reader, value, field, target);
}

int api_read_request_id(struct api_reader *reader, const struct json_value *value,
                        const struct api_field *field, void *target)
{
    struct api_text text = {NULL, 0};

    int rc = api_take_text(reader, value, &text);
    if (rc < 0)
        return rc;
    if (text.len > API_REQUEST_ID_BYTES_MAX || !api_name_valid(text.bytes, text.len))
        return api_refuse(reader, "invalid_id", "must be a request_id of an answer");
    *(const char **)destination(field, target) = text.bytes;
    return 0;
}

int api_read_version(struct api_reader *reader, const struct json_value *value,
                     const struct api_field *field, void *target)
{
    struct api_text text = {NULL, 0};

    int rc = api_take_text(reader, value, &text);
    if (rc < 0)
        return rc;
    if (api_version_parse(text.bytes, text.len, destination(field, target)) < 0)
        return api_refuse(reader, "invalid_version", "must be a version such as 2.1842");
    return 0;
}

int api_read_word(struct api_reader *reader, const struct json_value *value,
                  const char *const words[], int *ret_index)
{
    struct api_text text = {NULL, 0};
    char choice[64] = "";
    size_t choice_len = 0;

    int rc = api_take_text(reader, value, &text);
    if (rc < 0)
        return rc;
    for (int i = 0; words[i]; i++) {
        if (strlen(words[i]) == text.len && memcmp(words[i], text.bytes, text.len) == 0) {
            *ret_index = i;
            return 0;
        }
        choice_len += (size_t)snprintf(choice + choice_len, sizeof choice - choice_len, "%s%s",
                                       i ? ", " : "", words[i]);
    }
    return api_refuse(reader, "invalid_value", "must be one of: %s", choice);
}

int api_read_truncate(struct api_reader *reader, const struct json_value *value,
                      const struct api_field *field, void *target)
{
    static const char *const WORDS[] = {"right", "left", "never", NULL};
    int index;

    int rc = api_read_word(reader, value, WORDS, &index);
    if (rc == 0)
        *(enum api_truncate *)destination(field, target) = (enum api_truncate)index;
    return rc;
}

/* Finds a name that is written twice by sorting pointers: 1,000 names compared in pairs would be
 * half a million. */
static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int check_distinct(struct api_reader *reader, const char *const *names, size_t len)
{
    const char **sorted = api_take(reader, (len + 1) * sizeof *sorted);

    if (!sorted)
        return -ENOMEM;
    memcpy(sorted, names, len * sizeof *sorted);
    qsort(sorted, len, sizeof *sorted, compare_names);
    for (size_t i = 1; i < len; i++) {
        if (strcmp(sorted[i - 1], sorted[i]) == 0)
            return api_refuse(reader, "invalid_value", "a label is written twice");
    }
    return 0;
}

static int read_labels(struct api_reader *reader, const struct json_value *value,
                       const struct api_field *field, void *target, size_t len_min)
{
    static const struct api_field NAME = {"", api_read_label, 0, 0, 0};

    if (json_kind(value) != JSON_KIND_ARRAY)
        return api_refuse(reader, "wrong_type", "must be a list of labels");
    size_t len = json_len(value);
    if (len < len_min || len > API_LABELS_MAX)
        return api_refuse(reader, "out_of_range", "must hold %zu to %d labels", len_min,
                          API_LABELS_MAX);

    const char **names = api_take(reader, (len + 1) * sizeof *names);
    if (!names)
        return -ENOMEM;
    for (size_t i = 0; i < len; i++) {
        size_t back = api_path_index(reader, i);
        int rc = api_read_label(reader, json_at(value, i), &NAME, &names[i]);
        if (rc < 0)
            return rc;
        api_path_back(reader, back);
    }
    int rc = check_distinct(reader, names, len);
    if (rc == 0)
        *(struct api_names *)destination(field, target) = (struct api_names){names, (uint32_t)len};
    return rc;
}

int api_read_labels(struct api_reader *reader, const struct json_value *value,
                    const struct api_field *field, void *target)
{
    return read_labels(reader, value, field, target, 1);
}

int api_read_label_set(struct api_reader *reader, const struct json_value *value,
                       const struct api_field *field, void *target)
{
    return read_labels(reader, value, field, target, 0);
}

/* ---- inputs ---------------------------------------------------------------------------------- */

struct input_target {
    struct api_text text, pair;
    struct api_vector vector;
    const char *id;
};

static const struct api_field INPUT_FIELDS[] = {
    {"text", api_read_text, offsetof(struct input_target, text), 0, 0},
    {"text_pair", api_read_text, offsetof(struct input_target, pair), 0, 0},
    {"id", api_read_label, offsetof(struct input_target, id), 0, 0},
    {"vector", api_read_vector, offsetof(struct input_target, vector), 0, 0},
};

static int read_input(struct api_reader *reader, const struct json_value *value, bool object,
                      struct api_input *input)
{
    struct input_target read = {{NULL, 0}, {NULL, 0}, {NULL, 0}, NULL};
    int rc;

    if (!object && json_kind(value) == JSON_KIND_TEXT)
        rc = api_read_text(reader, value, &INPUT_FIELDS[0], &read);
    else if (object && json_kind(value) == JSON_KIND_OBJECT)
        rc = api_read_object(reader, value, INPUT_FIELDS, 4, &read, NULL);
    else
        rc = api_refuse(reader, "wrong_type", "must be %s", object ? "an object" : "a text");
    if (rc < 0)
        return rc;
    if (read.vector.values && (read.text.bytes || read.pair.bytes))
        return api_refuse_field(reader, "vector", "conflicting_fields",
                                "text and vector exclude each other");
    if (!read.text.bytes && !read.vector.values)
        return api_refuse_field(reader, "text", "missing_field",
                                "every input needs a text, or a vector");

    input->text = read.text.bytes;
    input->text_bytes = read.text.len;
    input->pair = read.pair.bytes;
    input->pair_bytes = read.pair.len;
    input->vector = read.vector.values;
    input->vector_len = read.vector.len;
    if (read.id)
        input->id = read.id;
    return 0;
}

int api_read_inputs(struct api_reader *reader, const struct json_value *value,
                    const struct api_field *field, void *target)
{
    enum { ID_CHARS = 4 }; /* "255" */
    bool alone = json_kind(value) == JSON_KIND_TEXT;

    if (!alone && json_kind(value) != JSON_KIND_ARRAY)
        return api_refuse(reader, "wrong_type", "must be a text or a list");
    size_t len = alone ? 1 : json_len(value);
    if (len == 0)
        return api_refuse(reader, "out_of_range", "must hold at least one text");
    if (len > API_INPUTS_MAX)
        return api_refuse(reader, "too_many_inputs", "must hold at most %d texts", API_INPUTS_MAX);

    struct api_input *inputs = api_take(reader, len * sizeof *inputs);
    char *ids = inputs ? api_take(reader, len * ID_CHARS) : NULL;
    if (!ids)
        return -ENOMEM;
    bool objects = !alone && json_kind(json_at(value, 0)) == JSON_KIND_OBJECT;
    for (size_t i = 0; i < len; i++) {
        size_t back = strlen(reader->path);
        snprintf(ids + i * ID_CHARS, ID_CHARS, "%u", (unsigned)i % API_INPUTS_MAX);
        inputs[i].id = ids + i * ID_CHARS;
        if (!alone)
            api_path_index(reader, i);
        int rc = read_input(reader, alone ? value : json_at(value, i), objects, &inputs[i]);
        if (rc < 0)
            return rc;
        api_path_back(reader, back);
    }
    *(struct api_inputs *)destination(field, target) =
        (struct api_inputs){inputs, (uint32_t)len, objects, alone};
    return 0;
}

void api_inputs_field(const struct api_inputs *inputs, uint32_t index, char ret_field[96])
{
    if (inputs->alone)
        snprintf(ret_field, 96, "inputs");
    else
        snprintf(ret_field, 96, inputs->objects ? "inputs[%u].text" : "inputs[%u]", index);
}
