/* api_read.c -- reading a request: its arena, its path, its field table, and the readers of single
 * fields.
 *
 * A request lives behind a hidden holder that owns its arena, so that its free function needs
 * nothing but the request. The arena is a list of blocks; nothing in it is freed alone.
 */
#include "proto/api_read.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* What a request may cost: 1,000 items of a feedback with all fields are 2,000 containers and
 * 14,000 commas. Beside its texts no body costs more than 12 MB. */
static const struct json_limits LIMITS_OF_REQUESTS = {
    .bytes_max = (size_t)64 << 20,
    .depth_max = 16,
    .containers_max = 8192,
    .commas_max = 262144, /* 1,000 vectors of 256 */
};

enum { BLOCK_BYTES = 4096 };

struct api_block {
    struct api_block *next;
    size_t used, room;
    _Alignas(max_align_t) char bytes[];
};

struct holder {
    struct api_arena arena;
    _Alignas(max_align_t) char request[];
};

/* ---- memory ---------------------------------------------------------------------------------- */

static void arena_free(struct api_arena *arena)
{
    struct api_block *next;

    for (struct api_block *block = arena->blocks; block; block = next) {
        next = block->next;
        api_free(block);
    }
    json_free(arena->document);
}

void *api_take(struct api_reader *reader, size_t bytes)
{
    struct api_block *block = reader->arena.blocks;
    size_t step = _Alignof(max_align_t);

    bytes = (bytes + step - 1) / step * step;
    if (!block || block->room - block->used < bytes) {
        size_t room = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
        block = api_alloc(sizeof *block + room);
        if (!block) {
            api_refuse_memory(reader->problem);
            return NULL;
        }
        *block = (struct api_block){.next = reader->arena.blocks, .used = 0, .room = room};
        reader->arena.blocks = block;
    }

    void *memory = block->bytes + block->used;
    block->used += bytes;
    return memset(memory, 0, bytes);
}

int api_reader_open(struct api_reader *reader, struct api_problem *problem, size_t request_bytes,
                    const char *many_code, const char *many_field)
{
    memset(reader, 0, sizeof *reader);
    reader->problem = problem;
    reader->many_code = many_code ? many_code : "too_many_values";
    reader->many_field = many_field ? many_field : "";

    struct holder *holder = api_alloc(sizeof *holder + request_bytes);
    if (!holder)
        return api_refuse_memory(problem);
    memset(holder, 0, sizeof *holder + request_bytes);
    reader->request = holder->request;
    return 0;
}

int api_reader_close(struct api_reader *reader, int rc, void **ret_request)
{
    struct holder *holder =
        (struct holder *)(void *)((char *)reader->request - offsetof(struct holder, request));

    holder->arena = reader->arena;
    if (rc < 0)
        api_request_free(reader->request);
    else
        *ret_request = reader->request;
    return rc;
}

void api_request_free(void *request)
{
    if (!request)
        return;
    struct holder *holder =
        (struct holder *)(void *)((char *)request - offsetof(struct holder, request));
    arena_free(&holder->arena);
    api_free(holder);
}

/* ---- refusing -------------------------------------------------------------------------------- */

int api_refuse_memory(struct api_problem *problem)
{
    api_problem_set(problem, 503, "out_of_memory", "", "no memory for this request now");
    return -ENOMEM;
}

static int refuse(struct api_reader *reader, const char *code, const char *detail, va_list args)
{
    char text[sizeof reader->problem->detail];

    vsnprintf(text, sizeof text, detail, args);
    return api_problem_set(reader->problem, 422, code, reader->path, "%s", text);
}

int api_refuse(struct api_reader *reader, const char *code, const char *detail, ...)
{
    va_list args;

    va_start(args, detail);
    int rc = refuse(reader, code, detail, args);
    va_end(args);
    return rc;
}

int api_refuse_field(struct api_reader *reader, const char *name, const char *code,
                     const char *detail, ...)
{
    size_t back = api_path_name(reader, name);
    va_list args;

    va_start(args, detail);
    int rc = refuse(reader, code, detail, args);
    va_end(args);
    api_path_back(reader, back);
    return rc;
}

/* ---- the path -------------------------------------------------------------------------------- */

size_t api_path_name(struct api_reader *reader, const char *name)
{
    size_t len = strlen(reader->path), room = sizeof reader->path - 1 - len,
           name_len = strlen(name);

    if (len > 0 && room > 0) {
        reader->path[len] = '.';
        room--;
    }
    if (name_len > room) { /* a name is cut between two characters, not inside one */
        for (name_len = room; name_len > 0 && ((unsigned char)name[name_len] & 0xc0) == 0x80;)
            name_len--;
    }
    size_t at = len + (len > 0 && len < sizeof reader->path - 1);
    memcpy(reader->path + at, name, name_len);
    reader->path[at + name_len] = '\0';
    return len;
}

size_t api_path_index(struct api_reader *reader, size_t index)
{
    size_t len = strlen(reader->path);

    snprintf(reader->path + len, sizeof reader->path - len, "[%zu]", index);
    return len;
}

void api_path_back(struct api_reader *reader, size_t length)
{
    reader->path[length] = '\0';
}

/* ---- documents and objects ------------------------------------------------------------------- */

int api_read_body(struct api_reader *reader, const char *body, size_t body_bytes,
                  const struct json_value **ret_root)
{
    struct json_problem why = {.code = "malformed_json", .detail = "not valid JSON"};
    struct api_problem *problem = reader->problem;

    int rc = json_parse(body, body_bytes, &LIMITS_OF_REQUESTS, &reader->arena.document, &why);
    if (rc == -ENOMEM)
        return api_refuse_memory(problem);
    if (rc == -E2BIG && strcmp(why.code, "too_many_values") == 0) {
        int status = strcmp(reader->many_code, "too_many_values") == 0 ? 413 : 422;
        return api_problem_set(problem, status, reader->many_code, reader->many_field, "%s",
                               why.detail);
    }
    if (rc < 0) {
        int status = strcmp(why.code, "out_of_range") == 0 ? 422 : 400;
        return api_problem_set(problem, status, why.code, "", "%s", why.detail);
    }
    if (json_kind(reader->arena.document) != JSON_KIND_OBJECT)
        return api_refuse(reader, "wrong_type", "the body must be an object");
    *ret_root = reader->arena.document;
    return 0;
}

struct walk {
    struct api_reader *reader;
    const struct api_field *fields;
    size_t fields_len;
    void *target;
    uint32_t seen;
};

static int read_member(void *ud, const char *key, const struct json_value *value)
{
    struct walk *walk = ud;
    size_t back = api_path_name(walk->reader, key);
    size_t i = 0;
    int rc;

    while (i < walk->fields_len && strcmp(walk->fields[i].name, key) != 0)
        i++;
    if (i < walk->fields_len) {
        walk->seen |= (uint32_t)1 << i;
        rc = walk->fields[i].read(walk->reader, value, &walk->fields[i], walk->target);
    } else {
        rc = api_refuse(walk->reader, "unknown_field", "there is no such field here");
    }
    api_path_back(walk->reader, back);
    return rc;
}

int api_read_object(struct api_reader *reader, const struct json_value *object,
                    const struct api_field *fields, size_t fields_len, void *target,
                    uint32_t *ret_seen)
{
    struct walk walk = {reader, fields, fields_len, target, 0};

    if (json_kind(object) != JSON_KIND_OBJECT)
        return api_refuse(reader, "wrong_type", "must be an object");
    int rc = json_each(object, read_member, &walk);
    if (rc == 0 && ret_seen)
        *ret_seen = walk.seen;
    return rc;
}
