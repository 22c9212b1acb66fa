/* api_erase.c -- see api_erase.h. */
#include "proto/api_erase.h"

#include <errno.h>
#include <stddef.h>

#include "proto/api_read.h"

struct erase_target {
    const char *model, *annotator;
    struct api_text text, pair;
};

static const struct api_field FIELDS[] = {
    {"text", api_read_text, offsetof(struct erase_target, text), 0, 0},
    {"text_pair", api_read_text, offsetof(struct erase_target, pair), 0, 0},
    {"annotator", api_read_label, offsetof(struct erase_target, annotator), 0, 0},
    {"model", api_read_model, offsetof(struct erase_target, model), 0, 0},
};

enum { FIELDS_LEN = sizeof FIELDS / sizeof FIELDS[0] };

static int check(struct api_reader *reader, const struct erase_target *target)
{
    if (target->text.bytes && target->annotator)
        return api_refuse_field(reader, "annotator", "conflicting_fields",
                                "text and annotator exclude each other");
    if (target->pair.bytes && !target->text.bytes)
        return api_refuse_field(reader, "text_pair", "conflicting_fields",
                                "text_pair needs text beside it");
    if (!target->text.bytes && !target->annotator)
        return api_refuse_field(reader, "text", "missing_field",
                                "one of text and annotator is required");
    return 0;
}

static int read_erase(struct api_reader *reader, const char *body, size_t body_bytes)
{
    struct api_erase *erase = reader->request;
    struct erase_target target = {0};
    const struct json_value *root;

    int rc = api_read_body(reader, body, body_bytes, &root);
    if (rc == 0)
        rc = api_read_object(reader, root, FIELDS, FIELDS_LEN, &target, NULL);
    if (rc == 0)
        rc = check(reader, &target);
    if (rc < 0)
        return rc;
    *erase = (struct api_erase){.model = target.model,
                                .text = target.text.bytes,
                                .text_bytes = target.text.len,
                                .pair = target.pair.bytes,
                                .pair_bytes = target.pair.len,
                                .annotator = target.annotator};
    return 0;
}

int api_parse_erase(const char *body, size_t body_bytes, struct api_erase **ret_erase,
                    struct api_problem *problem)
{
    struct api_reader reader;
    void *request = NULL;

    int rc = api_reader_open(&reader, problem, sizeof **ret_erase, NULL, NULL);
    if (rc < 0)
        return rc;
    rc = api_reader_close(&reader, read_erase(&reader, body, body_bytes), &request);
    if (rc == 0)
        *ret_erase = request;
    return rc;
}

void api_erase_free(struct api_erase *erase)
{
    api_request_free(erase);
}

void api_write_erased(struct api_buffer *buffer, const struct api_erased *erased)
{
    json_open_object(buffer);
    json_write_key(buffer, "erased");
    json_open_object(buffer);
    json_write_key(buffer, "examples");
    json_write_int(buffer, (int64_t)erased->examples);
    json_write_key(buffer, "votes");
    json_write_int(buffer, (int64_t)erased->votes);
    json_write_key(buffer, "requests");
    json_write_int(buffer, (int64_t)erased->requests);
    json_close_object(buffer);
    json_close_object(buffer);
}
