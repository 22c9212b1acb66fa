/* api_keys.c -- see api_keys.h. */
#include "proto/api_keys.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "proto/api_read.h"

static const char *const ROLES[] = {"predict", "annotate", "admin", NULL};

const char *api_role_name(enum api_role role)
{
    return role == API_ROLE_NONE ? "none" : ROLES[role - 1];
}

enum api_role api_role_of(const char *name)
{
    for (int i = 0; ROLES[i]; i++) {
        if (strcmp(ROLES[i], name) == 0)
            return (enum api_role)(i + 1);
    }
    return API_ROLE_NONE;
}

/* ---- create ---------------------------------------------------------------------------------- */

static int read_role(struct api_reader *reader, const struct json_value *value,
                     const struct api_field *field, void *target)
{
    int index = 0, rc = api_read_word(reader, value, ROLES, &index);

    (void)field;
    if (rc == 0)
        ((struct api_key_create *)target)->role = (enum api_role)(index + 1);
    return rc;
}

static int read_rate(struct api_reader *reader, const struct json_value *value,
                     const struct api_field *field, void *target)
{
    return json_kind(value) == JSON_KIND_NULL ? 0 : api_read_number(reader, value, field, target);
}

static int read_expiry(struct api_reader *reader, const struct json_value *value,
                       const struct api_field *field, void *target)
{
    struct api_text text = {NULL, 0};
    int rc;

    (void)field;
    if (json_kind(value) == JSON_KIND_NULL)
        return 0;
    rc = api_take_text(reader, value, &text);
    return rc == 0 ? api_time_parse(reader->path, text.bytes, text.len,
                                    &((struct api_key_create *)target)->expires_us, reader->problem)
                   : rc;
}

static const struct api_field FIELDS[] = {
    {"name", api_read_label, offsetof(struct api_key_create, name), 0, 0},
    {"role", read_role, 0, 0, 0},
    {"rate_per_s", read_rate, offsetof(struct api_key_create, rate_per_s), 0.001, API_RATE_MAX},
    {"expires_at", read_expiry, 0, 0, 0},
};

enum { FIELDS_LEN = sizeof FIELDS / sizeof FIELDS[0] };

int api_parse_key_create(const char *body, size_t body_bytes, struct api_key_create **ret_create,
                         struct api_problem *problem)
{
    const struct api_key_create *create;
    const struct json_value *root;
    struct api_reader reader;
    void *request = NULL;

    int rc = api_reader_open(&reader, problem, sizeof **ret_create, NULL, NULL);
    if (rc < 0)
        return rc;
    create = reader.request;
    rc = api_read_body(&reader, body, body_bytes, &root);
    if (rc == 0)
        rc = api_read_object(&reader, root, FIELDS, FIELDS_LEN, reader.request, NULL);
    if (rc == 0 && !create->name)
        rc = api_refuse_field(&reader, "name", "missing_field", "name is required");
    if (rc == 0 && create->role == API_ROLE_NONE)
        rc = api_refuse_field(&reader, "role", "missing_field", "role is required");
    rc = api_reader_close(&reader, rc, &request);
    if (rc == 0)
        *ret_create = request;
    return rc;
}

void api_key_create_free(struct api_key_create *create)
{
    api_request_free(create);
}

/* ---- answers --------------------------------------------------------------------------------- */

static void write_time(struct api_buffer *buffer, const char *key, int64_t unix_us)
{
    char text[API_TIME_CHARS];

    json_write_key(buffer, key);
    api_time_format(unix_us, text);
    json_write_string(buffer, unix_us != 0 ? text : NULL);
}

static void write_id(struct api_buffer *buffer, const char *key, int64_t id)
{
    json_write_key(buffer, key);
    if (id > 0)
        json_write_int(buffer, id);
    else
        json_write_null(buffer);
}

static const char *state_of(const struct api_key *key)
{
    if (key->revoked_us != 0)
        return "revoked";
    return key->expires_us != 0 && key->expires_us <= key->now_us ? "expired" : "active";
}

void api_write_key(struct api_buffer *buffer, const struct api_key *key)
{
    json_open_object(buffer);
    write_id(buffer, "id", key->id);
    json_write_key(buffer, "name");
    json_write_string(buffer, key->name);
    json_write_key(buffer, "role");
    json_write_string(buffer, api_role_name(key->role));
    json_write_key(buffer, "state");
    json_write_string(buffer, state_of(key));
    json_write_key(buffer, "rate_per_s");
    if (key->rate_per_s > 0)
        json_write_number(buffer, key->rate_per_s);
    else
        json_write_null(buffer);
    write_time(buffer, "created", key->created_us);
    write_time(buffer, "expires_at", key->expires_us);
    write_time(buffer, "revoked", key->revoked_us);
    write_time(buffer, "last_used", key->used_us);
    json_write_key(buffer, "requests");
    json_write_int(buffer, key->requests);
    json_write_key(buffer, "corrections");
    json_write_int(buffer, key->corrections);
    if (key->secret) {
        json_write_key(buffer, "key");
        json_write_string(buffer, key->secret);
    }
    json_close_object(buffer);
}

void api_write_me(struct api_buffer *buffer, enum api_role role, const struct api_key *key,
                  const char *version)
{
    json_open_object(buffer);
    json_write_key(buffer, "role");
    json_write_string(buffer, api_role_name(role));
    json_write_key(buffer, "key");
    if (key)
        api_write_key(buffer, key);
    else
        json_write_null(buffer);
    json_write_key(buffer, "version");
    json_write_string(buffer, version);
    json_close_object(buffer);
}

void api_write_act(struct api_buffer *buffer, const struct api_act *act)
{
    json_open_object(buffer);
    json_write_key(buffer, "act");
    json_write_int(buffer, act->act);
    write_time(buffer, "time", act->time_us);
    write_id(buffer, "key", act->key);
    json_write_key(buffer, "who");
    json_write_string(buffer, act->who);
    json_write_key(buffer, "uid");
    if (act->peer >= 0)
        json_write_int(buffer, act->peer);
    else
        json_write_null(buffer);
    json_write_key(buffer, "address");
    json_write_string(buffer, act->address);
    json_write_key(buffer, "action");
    json_write_string(buffer, act->action);
    json_write_key(buffer, "object");
    json_write_string(buffer, act->object);
    json_write_key(buffer, "request_id");
    json_write_string(buffer, act->request_id);
    json_close_object(buffer);
}
