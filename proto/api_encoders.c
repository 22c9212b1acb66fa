/* api_encoders.c -- encoders as rows, as files, and the way back to one. See api_runs.h. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "proto/api_read.h"
#include "proto/api_runs.h"

static void write_pair(struct api_buffer *buffer, const char *key, const char *string)
{
    json_write_key(buffer, key);
    json_write_string(buffer, string);
}

static void write_known(struct api_buffer *buffer, const char *key, int64_t count, int64_t min)
{
    json_write_key(buffer, key);
    if (count >= min)
        json_write_int(buffer, count);
    else
        json_write_null(buffer);
}

static void write_sha256(struct api_buffer *buffer, const uint8_t sha256[32])
{
    char hex[65];

    for (int i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", sha256[i]);
    write_pair(buffer, "sha256", hex);
}

/* ---- rows ------------------------------------------------------------------------------------ */

void api_versions_begin(struct api_buffer *buffer)
{
    json_open_object(buffer);
    json_write_key(buffer, "versions");
    json_open_array(buffer);
}

void api_versions_encoders(struct api_buffer *buffer)
{
    json_close_array(buffer);
    json_write_key(buffer, "encoders");
    json_open_array(buffer);
}

void api_versions_end(struct api_buffer *buffer, const char *next_cursor)
{
    json_close_array(buffer);
    write_pair(buffer, "next_cursor", next_cursor);
    json_close_object(buffer);
}

/* A verdict in short; the run has the rest. */
static void write_gate(struct api_buffer *buffer, const char *verdict)
{
    static const char *const SHORT[] = {"accepted",     "forced",       "items",
                                        "accuracy_old", "accuracy_new", "lower"};
    struct json_value *root = NULL;

    json_write_key(buffer, "gate");
    if (verdict == NULL || json_parse(verdict, strlen(verdict), NULL, &root, NULL) != 0) {
        json_write_null(buffer);
        return;
    }
    json_open_object(buffer);
    for (size_t i = 0; i < sizeof SHORT / sizeof *SHORT; i++) {
        const struct json_value *value = json_member(root, SHORT[i]);

        json_write_key(buffer, SHORT[i]);
        if (value != NULL)
            json_write_value(buffer, value);
        else
            json_write_null(buffer);
    }
    json_close_object(buffer);
    json_free(root);
}

void api_write_encoder(struct api_buffer *buffer, const struct api_encoder_row *e)
{
    char created[API_TIME_CHARS];

    api_time_format(e->created_us, created);
    json_open_object(buffer);
    write_known(buffer, "encoder", e->encoder, 0);
    write_known(buffer, "parent", e->parent, 0);
    write_known(buffer, "run", e->run, 0);
    write_pair(buffer, "origin", e->origin);
    write_pair(buffer, "state", e->state);
    json_write_key(buffer, "live");
    json_write_bool(buffer, e->live);
    write_known(buffer, "dim", e->dim, 1);
    write_sha256(buffer, e->sha256);
    write_gate(buffer, e->verdict);
    write_pair(buffer, "created", created);
    json_close_object(buffer);
}

/* ---- back to one ----------------------------------------------------------------------------- */

struct rollback {
    struct api_version version;
    uint64_t encoder;
};

static const struct api_field ROLLBACK_FIELDS[] = {
    {"version", api_read_version, offsetof(struct rollback, version), 0, 0},
    {"encoder", api_read_uint64, offsetof(struct rollback, encoder), 0, 1e15},
};

static int read_rollback(struct api_reader *reader, const char *body, size_t body_bytes)
{
    const struct json_value *root;
    uint32_t given = 0;
    int rc = api_read_body(reader, body, body_bytes, &root);

    if (rc == 0)
        rc = api_read_object(reader, root, ROLLBACK_FIELDS, 2, reader->request, &given);
    if (rc == 0 && given == 0)
        rc = api_refuse_field(reader, "version", "missing_field", "version or encoder is required");
    if (rc == 0 && given == 3)
        rc = api_refuse_field(reader, "encoder", "conflicting_fields",
                              "either version or encoder, not both");
    if (rc == 0 && given == 1)
        ((struct rollback *)reader->request)->encoder =
            (uint64_t)((struct rollback *)reader->request)->version.encoder;
    return rc;
}

int api_parse_rollback(const char *body, size_t body_bytes, int64_t *ret_encoder,
                       struct api_problem *problem)
{
    struct api_reader reader;
    void *request = NULL;
    int rc = api_reader_open(&reader, problem, sizeof(struct rollback), NULL, NULL);

    if (rc < 0)
        return rc;
    rc = api_reader_close(&reader, read_rollback(&reader, body, body_bytes), &request);
    if (rc == 0)
        *ret_encoder = (int64_t)((struct rollback *)request)->encoder;
    api_request_free(request);
    return rc;
}

void api_write_rollback(struct api_buffer *buffer, const struct api_rollback *rollback)
{
    char version[API_VERSION_CHARS];

    api_version_format(rollback->version, version);
    json_open_object(buffer);
    write_pair(buffer, "model", rollback->model);
    write_pair(buffer, "version", version);
    write_known(buffer, "encoder", rollback->version.encoder, 0);
    json_write_key(buffer, "live");
    json_write_bool(buffer, rollback->live);
    json_close_object(buffer);
}

/* ---- files ----------------------------------------------------------------------------------- */

void api_files_begin(struct api_buffer *buffer, int64_t encoder)
{
    json_open_object(buffer);
    write_known(buffer, "encoder", encoder, 0);
    json_write_key(buffer, "files");
    json_open_array(buffer);
}

void api_write_file(struct api_buffer *buffer, const char *name, int64_t bytes,
                    const uint8_t sha256[32])
{
    json_open_object(buffer);
    write_pair(buffer, "name", name);
    write_known(buffer, "bytes", bytes, 0);
    write_sha256(buffer, sha256);
    json_close_object(buffer);
}

void api_files_end(struct api_buffer *buffer)
{
    json_close_array(buffer);
    json_close_object(buffer);
}
